//! The message in a session, by DATA or BDAT, and the verdict behind its end.

use bytes::Bytes;
use tokio::time::Instant;

use crate::sim::dots::DotReader;
use crate::sim::fault::Point;
use crate::sim::observe::Received;
use crate::sim::options::Flavour;
use crate::sim::script::Moment;
use crate::sim::sender::header_senders;
use crate::sim::session::stage::is_positive;
use crate::sim::session::{Session, first_reply};
use crate::sim::throttle::Allowance;
use crate::sim::wire::{self, Ended, Wire};

impl Session {
    pub(super) async fn data(&mut self, wire: &mut Wire) -> Result<(), Ended> {
        let text = match &self.transaction {
            None => "503 5.5.2 Need mail command",
            Some(transaction) if transaction.chunks.is_some() => {
                self.offence("DATA among chunks");
                "503 5.5.2 Bad sequence of commands"
            }
            Some(transaction) if transaction.recipients.is_empty() => "503 5.5.2 Need rcpt command",
            Some(_) => "354 Start mail input; end with <CRLF>.<CRLF>",
        };
        if !self.reply(wire, Point::Data, text).await? {
            return Ok(());
        }
        let mut body = self.body();
        let mut is_scripted = self.shared.script.names(Point::Body);
        loop {
            let is_done = body.read(&mut wire.input);
            if is_scripted && body.length() > 0 {
                self.interlude(wire, Point::Body, body.length()).await?;
            }
            if is_done {
                return self.finish(wire, body).await;
            }
            wire.fill().await?;
            is_scripted = self.shared.script.names(Point::Body);
        }
    }

    pub(super) async fn chunk(&mut self, wire: &mut Wire, rest: &str) -> Result<(), Ended> {
        let mut words = rest.split_ascii_whitespace();
        let size = words.next().and_then(|size| size.parse::<u64>().ok());
        let is_last = match words.next() {
            None => Some(false),
            Some(word) => word.eq_ignore_ascii_case("LAST").then_some(true),
        };
        let (Some(size), Some(is_last)) = (size, is_last) else {
            // Where the next command starts is anybody's guess.
            self.offence("BDAT without a size");
            self.tell(wire, "501 5.5.4 Invalid arguments");
            return Err(Ended::Quit);
        };
        let has_recipients =
            self.transaction.as_ref().is_some_and(|transaction| !transaction.recipients.is_empty());
        let mut body = match self.transaction.as_mut().and_then(|known| known.chunks.take()) {
            Some(body) => body,
            None => self.body(),
        };
        let mut left = size;
        while left > 0 {
            if wire.input.is_empty() {
                wire.fill().await?;
            }
            let piece = wire::take(&mut wire.input, left);
            left -= piece.len() as u64;
            body.read_chunk(&piece);
            self.interlude(wire, Point::Body, body.length()).await?;
        }
        if !has_recipients {
            self.tell(wire, "503 5.5.2 Need rcpt command");
            return Ok(());
        }
        if is_last {
            return self.finish(wire, body).await;
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.chunks = Some(body);
        }
        let text = format!("250 2.0.0 {size} octets received");
        if !self.reply(wire, Point::Data, &text).await? {
            self.transaction = None;
        }
        Ok(())
    }

    fn body(&self) -> DotReader {
        let limit = self.shared.options.limits.message_octets;
        DotReader::new(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// The end of a message: the verdict.
    async fn finish(&mut self, wire: &mut Wire, body: DotReader) -> Result<(), Ended> {
        self.shared.book.count(|counts| counts.finals += 1);
        self.heard(&format!("[message of {} octets]", body.length()));
        let mut due = self.shared.script.due(Point::Final, self.moment(wire));
        let transaction = self.transaction.take().unwrap_or_default();
        let message_id = self.shared.texts.message_id();
        let taken = self.shared.texts.taken(&message_id, self.shared.options.clock.now());
        let message = Received {
            session: self.number,
            user: self.user.clone().unwrap_or_default(),
            reverse_path: transaction.reverse_path,
            mail_parameters: transaction.parameters,
            forward_paths: transaction.recipients,
            bytes: Bytes::new(),
            message_id,
        };
        let refusal = match first_reply(due.fault.as_ref()) {
            // The script decides.
            Some(reply) if is_positive(reply) => None,
            Some(reply) => Some(reply.to_owned()),
            None => {
                let is_in_place_of_a_reply = due.is_in_place_of_a_reply();
                self.play(wire, std::mem::take(&mut due), "").await?;
                if is_in_place_of_a_reply {
                    return Ok(());
                }
                self.judge(&message, &body).await
            }
        };
        if let Some(refusal) = refusal {
            self.play(wire, due, &refusal).await?;
            return Ok(());
        }
        let recipients = message.forward_paths.clone();
        let bytes = body.into_message().freeze();
        self.shared.book.take(Received { bytes, ..message });
        if due.is_nothing() {
            let moment = Moment { recipients: &recipients, ..self.moment(wire) };
            due = self.shared.script.due(Point::Taken, moment);
        }
        self.play(wire, due, &taken).await?;
        Ok(())
    }

    /// What speaks against this message, in the order in which the real service finds it.
    async fn judge(&self, message: &Received, body: &DotReader) -> Option<String> {
        let (options, texts) = (&self.shared.options, &self.shared.texts);
        if message.forward_paths.is_empty() {
            // Only a scripted 354 leads here.
            return Some("554 5.5.1 No valid recipients".to_owned());
        }
        if body.length() > options.limits.message_octets {
            return Some(texts.too_large());
        }
        let is_exchange = options.flavour == Flavour::ExchangeOnline;
        let declares = |word: &str| {
            message.mail_parameters.iter().any(|parameter| parameter.eq_ignore_ascii_case(word))
        };
        if body.has_bare_lf() && is_exchange && !declares("BODY=BINARYMIME") {
            return Some(texts.bare_lf());
        }
        if !declares("BODY=8BITMIME") && !declares("BODY=BINARYMIME") && !body.message().is_ascii()
        {
            self.offence("a body beyond ASCII without BODY=8BITMIME");
        }
        if is_exchange && let Some(user) = options.user(&message.user) {
            let named = Some(&message.reverse_path).filter(|path| !path.is_empty()).cloned();
            let mut senders = named.into_iter().chain(header_senders(body.message()));
            if let Some(other) = senders.find(|sender| !user.accepts_sender(sender)) {
                return Some(texts.send_as_denied(&user.mailbox, &other));
            }
        }
        let now = Instant::now();
        let recipients = message.forward_paths.len();
        let allowance =
            self.shared.throttle().ask(options, &message.user, self.number, recipients, now);
        match allowance {
            Allowance::TooManySessions => Some(texts.too_many_sessions()),
            Allowance::QuotaUsed => Some(texts.quota_used()),
            Allowance::TooFast => Some(texts.too_fast()),
            Allowance::From(at) if at > now => {
                self.shared.book.count(|counts| counts.delayed += 1);
                tokio::time::sleep_until(at).await;
                None
            }
            Allowance::From(_) => None,
        }
    }
}
