//! One session of the simulated SMTP service.
//!
//! Owns the dialog: commands in, replies out, and what is known of the session and its transaction.
//! Written straight down and apart from the session cores of floor 1, as a second opinion on them.
//! The verdicts that matter come after the final dot, as Exchange Online gives them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::base::limits;
use crate::sim::Shared;
use crate::sim::dots::DotReader;
use crate::sim::observe::Received;
use crate::sim::options::Flavour;
use crate::sim::sasl::{Response, read_xoauth2};
use crate::sim::script::{Fault, Moment, Point};
use crate::sim::sender::header_senders;
use crate::sim::throttle::Allowance;
use crate::sim::wire::{self, Ended, Line, Wire};

/// Octets of a command line with its end, other than AUTH: enough for every parameter.
const COMMAND_OCTETS: usize = 4_096;

/// Octets of an inline AUTH line from which on Gmail refuses it.
const GMAIL_AUTH_LINE_OCTETS: usize = 1_000;

pub(super) struct Session {
    shared: Arc<Shared>,
    number: u64,
    has_greeted: bool,
    user: Option<String>,
    transaction: Option<Transaction>,
}

#[derive(Default)]
struct Transaction {
    reverse_path: String,
    parameters: Vec<String>,
    recipients: Vec<String>,
    /// The body so far, when it comes in chunks (BDAT).
    chunks: Option<DotReader>,
}

/// How a part of the dialog went on.
enum Onward {
    StartTls,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, number: u64) -> Self {
        Self { shared, number, has_greeted: false, user: None, transaction: None }
    }

    /// Runs the session to its end. Dropping the future cuts the connection.
    pub(super) async fn run(mut self, mut wire: Wire) {
        let opening = async {
            self.stage(&mut wire, Point::Connect, None).await?;
            let greeting = self.shared.texts.greeting(self.shared.options.clock.now());
            self.reply(&mut wire, Point::Greeting, &greeting).await
        };
        let ended = match opening.await {
            Ok(_) => loop {
                match self.dialog(&mut wire).await {
                    Err(ended) => break ended,
                    Ok(Onward::StartTls) => match self.handshake(wire).await {
                        Err(_) => return self.leave(),
                        Ok(Ok(upgraded)) => wire = upgraded,
                        Ok(Err((ended, plain))) => {
                            wire = plain;
                            break ended;
                        }
                    },
                }
            },
            Err(ended) => ended,
        };
        self.leave();
        // What was said before the end still goes out, unless the end is a rough one.
        if matches!(ended, Ended::Quit | Ended::Cut) {
            let _ = wire.flush().await;
        }
        wire.end(ended).await;
    }

    /// The TLS handshake; the outer error is a failed one, which leaves no connection to end.
    async fn handshake(&mut self, mut wire: Wire) -> Result<Result<Wire, (Ended, Wire)>, Ended> {
        let bad = match self.stage(&mut wire, Point::Handshake, None).await {
            Ok(bad) => bad,
            Err(ended) => return Ok(Err((ended, wire))),
        };
        let bad = match bad {
            Some(Fault::Certificate(bad)) => Some(bad),
            _ => None,
        };
        let wire = wire.start_tls(self.shared.authority.config(bad)).await?;
        self.shared.book.count(|counts| counts.handshakes += 1);
        self.has_greeted = false;
        self.transaction = None;
        Ok(Ok(wire))
    }

    async fn dialog(&mut self, wire: &mut Wire) -> Result<Onward, Ended> {
        loop {
            let line = match wire.line(limits::AUTH_LINE_OCTETS).await? {
                Line::Whole(line) => line,
                Line::BareLf(line) => {
                    self.offence("a command line ended with a bare LF");
                    line
                }
                Line::TooLong => {
                    let text = self.shared.texts.auth_line_too_long();
                    self.refuse(wire, &text);
                    continue;
                }
            };
            let Ok(line) = String::from_utf8(line) else {
                self.offence("a command line was not UTF-8");
                self.refuse(wire, "500 5.5.2 Invalid characters");
                continue;
            };
            let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
            let verb = verb.to_ascii_uppercase();
            if verb != "AUTH" && line.len() + 2 > COMMAND_OCTETS {
                self.offence("a command line was longer than 4,096 octets");
                self.refuse(wire, "500 5.5.2 Line too long");
                continue;
            }
            if line.contains(['\r', '\0']) {
                self.offence("a command line held a bare CR or a NUL");
            }
            // RFC 2920 §3.1: these end a group of commands.
            let ends_group =
                matches!(verb.as_str(), "EHLO" | "HELO" | "AUTH" | "STARTTLS" | "DATA" | "QUIT");
            if ends_group && !wire.input.is_empty() {
                self.offence(&format!("something was sent behind {verb} before its reply"));
                if verb == "STARTTLS" {
                    wire.input.clear();
                }
            }
            match verb.as_str() {
                "EHLO" | "HELO" => self.hello(wire, &verb, rest).await?,
                "STARTTLS" => {
                    if self.start_tls(wire).await? {
                        return Ok(Onward::StartTls);
                    }
                }
                "AUTH" => self.auth(wire, rest, line.len() + 2).await?,
                "MAIL" => self.mail(wire, rest).await?,
                "RCPT" => self.rcpt(wire, rest).await?,
                "DATA" => self.data(wire).await?,
                "BDAT" => self.chunk(wire, rest).await?,
                "RSET" => {
                    self.transaction = None;
                    self.reply(wire, Point::Rset, "250 2.0.0 Resetting").await?;
                }
                "NOOP" => {
                    self.reply(wire, Point::Noop, "250 2.0.0 OK").await?;
                }
                "VRFY" => wire.say("252 2.1.5 Cannot VRFY user"),
                "HELP" => wire.say("214 2.0.0 This server is simulated"),
                "QUIT" => {
                    // The session is over before its reply: who opens the next one right after it
                    // must not be counted twice.
                    self.leave();
                    let text = "221 2.0.0 Service closing transmission channel";
                    self.reply(wire, Point::Quit, text).await?;
                    return Err(Ended::Quit);
                }
                _ => {
                    self.offence(&format!("unknown command {verb:.40}"));
                    self.refuse(wire, "500 5.3.3 Unrecognized command");
                }
            }
        }
    }

    async fn hello(&mut self, wire: &mut Wire, verb: &str, name: &str) -> Result<(), Ended> {
        if name.trim().is_empty() {
            self.offence("EHLO without a name");
            self.refuse(wire, "501 5.5.4 Invalid domain name");
            return Ok(());
        }
        self.transaction = None;
        let texts = &self.shared.texts;
        let text = match verb {
            "HELO" => texts.helo(),
            _ => texts.ehlo(&self.shared.extensions(wire.is_tls())),
        };
        self.has_greeted = self.reply(wire, Point::Ehlo, &text).await?;
        Ok(())
    }

    /// True if the handshake is to begin.
    async fn start_tls(&self, wire: &mut Wire) -> Result<bool, Ended> {
        if wire.is_tls() {
            self.refuse(wire, "503 5.5.2 Only one STARTTLS command can be issued per session");
            return Ok(false);
        }
        let text = self.shared.texts.start_tls();
        let is_agreed = self.reply(wire, Point::StartTls, &text).await?;
        wire.flush().await?;
        Ok(is_agreed)
    }

    async fn auth(&mut self, wire: &mut Wire, rest: &str, octets: usize) -> Result<(), Ended> {
        self.shared.book.count(|counts| counts.auths += 1);
        let (mechanism, initial) = match rest.trim_end().split_once(' ') {
            Some((mechanism, initial)) => (mechanism, Some(initial)),
            None => (rest.trim_end(), None),
        };
        let texts = &self.shared.texts;
        let is_exchange = self.shared.options.flavour == Flavour::ExchangeOnline;
        let refusal = if !self.has_greeted {
            Some("503 5.5.2 Send hello first".to_owned())
        } else if self.user.is_some() || self.transaction.is_some() {
            self.offence("AUTH out of order");
            Some("503 5.5.2 Bad sequence of commands".to_owned())
        } else if !wire.is_tls() {
            self.offence("AUTH outside TLS");
            Some(texts.unknown_mechanism())
        } else if !is_exchange && octets > GMAIL_AUTH_LINE_OCTETS {
            Some(texts.auth_line_too_long())
        } else {
            None
        };
        if let Some(refusal) = refusal {
            self.refuse(wire, &refusal);
            return Ok(());
        }
        match mechanism.to_ascii_uppercase().as_str() {
            "XOAUTH2" => self.auth_xoauth2(wire, initial).await,
            "LOGIN" => self.auth_login(wire, initial).await,
            _ => {
                let text = self.shared.texts.unknown_mechanism();
                self.reply(wire, Point::Auth, &text).await?;
                Ok(())
            }
        }
    }

    async fn auth_xoauth2(&mut self, wire: &mut Wire, initial: Option<&str>) -> Result<(), Ended> {
        let (response, point) = match initial {
            Some(initial) => (initial.to_owned(), Point::Auth),
            None => {
                if !self.reply(wire, Point::Auth, "334 ").await? {
                    return Ok(());
                }
                match self.response(wire).await? {
                    Some(response) => (response, Point::AuthResponse),
                    None => return Ok(()),
                }
            }
        };
        let texts = &self.shared.texts;
        let now = self.shared.options.clock.now();
        let credentials = match read_xoauth2(&response) {
            Response::Xoauth2(credentials) => credentials,
            Response::Cancelled => {
                self.reply(wire, point, "501 5.7.0 Authentication cancelled").await?;
                return Ok(());
            }
            Response::NotBase64 => {
                self.offence("an XOAUTH2 response was not base64");
                self.reply(wire, point, "501 5.5.2 Cannot decode response").await?;
                return Ok(());
            }
            Response::Malformed => {
                self.offence("an XOAUTH2 response was malformed");
                let text = texts.token_refused(now);
                self.reply(wire, point, &text).await?;
                return Ok(());
            }
        };
        let is_open = {
            let grants = self.shared.grants();
            grants.opens(&self.shared.options, &credentials.token, &credentials.user, now)
        };
        let known = self.shared.options.user(&credentials.user);
        let user = known.map_or(credentials.user.clone(), |known| known.mailbox.clone());
        if is_open {
            let text = texts.authenticated();
            if self.verdict(wire, point, &text, Some(&user)).await? {
                self.enter(user);
            }
            return Ok(());
        }
        match self.shared.options.flavour {
            Flavour::ExchangeOnline => {
                let text = texts.token_refused(now);
                if self.verdict(wire, point, &text, Some(&user)).await? {
                    self.enter(user);
                }
            }
            Flavour::Gmail => {
                let text = texts.challenge();
                if !self.verdict(wire, point, &text, Some(&user)).await? {
                    return Ok(());
                }
                match wire.line(limits::AUTH_LINE_OCTETS).await? {
                    Line::Whole(line) if line.is_empty() => {}
                    _ => self.offence("the challenge of a refused token wants an empty line"),
                }
                let text = self.shared.texts.token_refused(now);
                self.reply(wire, Point::AuthResponse, &text).await?;
            }
        }
        Ok(())
    }

    async fn auth_login(&self, wire: &mut Wire, initial: Option<&str>) -> Result<(), Ended> {
        let mut prompts = vec!["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"];
        if initial.is_some() {
            prompts.remove(0);
        }
        for (at, prompt) in prompts.into_iter().enumerate() {
            let point = if at == 0 { Point::Auth } else { Point::AuthResponse };
            if !self.reply(wire, point, prompt).await? {
                return Ok(());
            }
            match self.response(wire).await?.as_deref() {
                None => return Ok(()),
                Some("*") => {
                    self.refuse(wire, "501 5.7.0 Authentication cancelled");
                    return Ok(());
                }
                Some(_) => {}
            }
        }
        let text = self.shared.texts.password_refused(self.shared.options.clock.now());
        self.reply(wire, Point::AuthResponse, &text).await?;
        Ok(())
    }

    /// The client's answer to a 334; `None` if it was too long and has been refused.
    async fn response(&self, wire: &mut Wire) -> Result<Option<String>, Ended> {
        Ok(match wire.line(limits::AUTH_LINE_OCTETS).await? {
            Line::Whole(line) => Some(String::from_utf8_lossy(&line).into_owned()),
            Line::BareLf(line) => {
                self.offence("a SASL response ended with a bare LF");
                Some(String::from_utf8_lossy(&line).into_owned())
            }
            Line::TooLong => {
                let text = self.shared.texts.auth_line_too_long();
                self.refuse(wire, &text);
                None
            }
        })
    }

    /// The session is authenticated from now on.
    fn enter(&mut self, user: String) {
        let of_user = self.shared.throttle().join(&user, self.number);
        self.shared.book.count(|counts| {
            counts.auths_accepted += 1;
            let most = counts.most_sessions_of.entry(user.clone()).or_default();
            *most = (*most).max(of_user);
        });
        self.user = Some(user);
    }

    /// The mailbox is free of this session.
    fn leave(&mut self) {
        if let Some(user) = self.user.take() {
            self.shared.throttle().leave(&user, self.number);
        }
    }

    async fn mail(&mut self, wire: &mut Wire, rest: &str) -> Result<(), Ended> {
        let limit = self.shared.options.limits.message_octets;
        let refusal = if !self.has_greeted {
            Some("503 5.5.2 Send hello first".to_owned())
        } else if self.user.is_none() {
            Some(self.shared.texts.not_authenticated(self.shared.options.clock.now()))
        } else if self.transaction.is_some() {
            self.offence("MAIL in a transaction");
            Some("503 5.5.2 Sender already specified".to_owned())
        } else {
            None
        };
        let Some((path, parameters)) = path_behind(rest, "FROM:") else {
            self.offence("MAIL without a path");
            self.refuse(wire, "501 5.5.4 Invalid arguments");
            return Ok(());
        };
        let size = parameters.iter().find_map(|word| value_of(word, "SIZE")?.parse::<u64>().ok());
        let refusal = match refusal {
            None if size.is_some_and(|size| size > limit) => Some(self.shared.texts.too_large()),
            refusal => refusal,
        };
        if !path.is_ascii() && !has_keyword(&parameters, "SMTPUTF8") {
            self.offence("MAIL names an address beyond ASCII without SMTPUTF8");
        }
        let text = refusal.unwrap_or_else(|| "250 2.1.0 Sender OK".to_owned());
        if self.reply(wire, Point::Mail, &text).await? {
            self.shared.book.count(|counts| counts.transactions += 1);
            self.transaction =
                Some(Transaction { reverse_path: path, parameters, ..Transaction::default() });
        }
        Ok(())
    }

    async fn rcpt(&mut self, wire: &mut Wire, rest: &str) -> Result<(), Ended> {
        let Some((path, parameters)) = path_behind(rest, "TO:") else {
            self.offence("RCPT without a path");
            self.refuse(wire, "501 5.5.4 Invalid arguments");
            return Ok(());
        };
        let limit = self.shared.options.limits.recipients;
        let text = match &self.transaction {
            None => "503 5.5.2 Need mail command",
            Some(transaction) if transaction.recipients.len() >= limit => {
                "452 4.5.3 Too many recipients"
            }
            Some(transaction) => {
                if !path.is_ascii() && !has_keyword(&transaction.parameters, "SMTPUTF8") {
                    self.offence("RCPT names an address beyond ASCII without SMTPUTF8");
                }
                if path.is_empty() {
                    self.offence("RCPT names nobody");
                }
                "250 2.1.5 Recipient OK"
            }
        };
        if parameters.iter().any(|word| value_of(word, "NOTIFY").is_none() && !word.contains('=')) {
            self.offence("RCPT has a parameter that no extension knows");
        }
        let named = [path];
        let moment = Moment { recipients: &named, ..self.moment(wire) };
        let fault = self.shared.script.due(Point::Rcpt, moment);
        let is_taken = self.play(wire, fault, Point::Rcpt, text).await?;
        let [path] = named;
        if let Some(transaction) = &mut self.transaction
            && is_taken
        {
            transaction.recipients.push(path);
        }
        Ok(())
    }

    async fn data(&mut self, wire: &mut Wire) -> Result<(), Ended> {
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
            let before = body.length();
            let is_done = body.read(&mut wire.input);
            if is_scripted && (body.length() > before || !is_done) {
                self.in_body(wire, body.length()).await?;
            }
            if is_done {
                return self.finish(wire, body).await;
            }
            wire.fill().await?;
            is_scripted = self.shared.script.names(Point::Body);
        }
    }

    /// What is scripted for the middle of a body. A reply there comes too early, and alone.
    async fn in_body(&self, wire: &mut Wire, octets: u64) -> Result<(), Ended> {
        let moment = Moment { octets, ..self.moment(wire) };
        let (delay, fault) = self.shared.script.due(Point::Body, moment);
        if fault.is_some() || !delay.is_zero() {
            self.play(wire, (delay, fault), Point::Body, "").await?;
            wire.flush().await?;
        }
        Ok(())
    }

    async fn chunk(&mut self, wire: &mut Wire, rest: &str) -> Result<(), Ended> {
        let mut words = rest.split_ascii_whitespace();
        let size = words.next().and_then(|size| size.parse::<u64>().ok());
        let is_last = match words.next() {
            None => Some(false),
            Some(word) => word.eq_ignore_ascii_case("LAST").then_some(true),
        };
        let (Some(size), Some(is_last)) = (size, is_last) else {
            // Where the next command starts is anybody's guess.
            self.offence("BDAT without a size");
            self.refuse(wire, "501 5.5.4 Invalid arguments");
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
            self.in_body(wire, body.length()).await?;
        }
        if !has_recipients {
            self.refuse(wire, "503 5.5.2 Need rcpt command");
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
        let scripted = self.shared.script.due(Point::Final, self.moment(wire));
        let Some(transaction) = self.transaction.take() else { return Err(Ended::Cut) };
        let user = self.user.clone().unwrap_or_default();
        // After a scripted fault nothing is decided but what the fault says.
        let is_decided = matches!(
            scripted.1,
            Some(Fault::Reply(_) | Fault::ReplyAndClose(_) | Fault::Replies(_))
        );
        let message_id = self.shared.texts.message_id();
        let taken = self.shared.texts.taken(&message_id, self.shared.options.clock.now());
        let message = Received {
            session: self.number,
            user,
            reverse_path: transaction.reverse_path,
            mail_parameters: transaction.parameters,
            forward_paths: transaction.recipients,
            bytes: Bytes::new(),
            message_id,
        };
        if is_decided {
            let is_taken = matches!(&scripted.1, Some(fault) if first_digit(fault) == Some('2'));
            if is_taken {
                let bytes = body.into_message().freeze();
                self.shared.book.take(Received { bytes, ..message });
            }
            self.play(wire, scripted, Point::Final, &taken).await?;
            return Ok(());
        }
        // Delays, hanging and rough ends come before the decision.
        let moment_over = self.play_silently(wire, scripted).await?;
        if moment_over {
            return Ok(());
        }
        if let Some(refusal) = self.judge(&message, &body).await {
            self.refuse(wire, &refusal);
            if refusal.starts_with("421") {
                return Err(Ended::Quit);
            }
            return Ok(());
        }
        let recipients = message.forward_paths.clone();
        let bytes = body.into_message().freeze();
        self.shared.book.take(Received { bytes, ..message });
        let moment = Moment { recipients: &recipients, ..self.moment(wire) };
        let fault = self.shared.script.due(Point::Taken, moment);
        self.play(wire, fault, Point::Taken, &taken).await?;
        Ok(())
    }

    /// What speaks against this message, in the order in which the real service finds it.
    async fn judge(&self, message: &Received, body: &DotReader) -> Option<String> {
        let (options, texts) = (&self.shared.options, &self.shared.texts);
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

    // --- the script -----------------------------------------------------------------------------

    fn moment(&self, wire: &Wire) -> Moment<'_> {
        Moment {
            user: self.user.as_deref(),
            recipients: self.transaction.as_ref().map_or(&[], |known| &known.recipients),
            is_tls: wire.is_tls(),
            octets: 0,
        }
    }

    /// Gives a reply, or what is scripted in its place. True if what was said is positive.
    async fn reply(&self, wire: &mut Wire, point: Point, own: &str) -> Result<bool, Ended> {
        let user = self.user.clone();
        self.verdict(wire, point, own, user.as_deref()).await
    }

    /// The same, about a user who may not be in yet.
    async fn verdict(
        &self,
        wire: &mut Wire,
        point: Point,
        own: &str,
        user: Option<&str>,
    ) -> Result<bool, Ended> {
        let due = self.shared.script.due(point, Moment { user, ..self.moment(wire) });
        self.play(wire, due, point, own).await
    }

    /// Plays what is due where no reply is due. Gives back a fault that the caller has to play.
    async fn stage(
        &self,
        wire: &mut Wire,
        point: Point,
        user: Option<&str>,
    ) -> Result<Option<Fault>, Ended> {
        let due = self.shared.script.due(point, Moment { user, ..self.moment(wire) });
        if let (delay, Some(fault @ Fault::Certificate(_))) = due {
            self.pause(wire, delay).await?;
            return Ok(Some(fault));
        }
        if due.1.is_some() || !due.0.is_zero() {
            self.play(wire, due, point, "").await?;
            wire.flush().await?;
        }
        Ok(None)
    }

    /// Plays a fault that decides nothing. True if it has taken the place of a reply.
    async fn play_silently(
        &self,
        wire: &mut Wire,
        due: (Duration, Option<Fault>),
    ) -> Result<bool, Ended> {
        let replaces = matches!(
            due.1,
            Some(Fault::Garbage(_) | Fault::Answer(_) | Fault::Slow { answer: Some(_), .. })
        );
        self.play(wire, due, Point::Final, "").await?;
        Ok(replaces)
    }

    /// Says `own`, or what a fault says instead. True if what was said is positive; an empty text
    /// says nothing.
    async fn play(
        &self,
        wire: &mut Wire,
        (delay, fault): (Duration, Option<Fault>),
        point: Point,
        own: &str,
    ) -> Result<bool, Ended> {
        self.pause(wire, delay).await?;
        let said = match fault {
            None
            | Some(
                Fault::Certificate(_)
                | Fault::Decline { .. }
                | Fault::Delay(_)
                | Fault::Slow { answer: None, .. },
            ) => own.to_owned(),
            Some(Fault::Reply(text)) => text,
            Some(Fault::ReplyAndClose(text)) => {
                self.tell(wire, &text);
                return Err(Ended::Quit);
            }
            Some(Fault::Replies(texts)) => texts.join("\n"),
            Some(Fault::Half(text)) => {
                let mut half = text.len() / 2;
                while !text.is_char_boundary(half) {
                    half -= 1;
                }
                wire.say_raw(&text.as_bytes()[..half]);
                return Err(Ended::Cut);
            }
            Some(Fault::Garbage(bytes)) => {
                wire.say_raw(&bytes);
                return Ok(false);
            }
            Some(Fault::Answer(answer) | Fault::Slow { answer: Some(answer), .. }) => {
                wire.say_raw(&answer.to_wire());
                return Ok(false);
            }
            Some(Fault::Close) => return Err(Ended::Cut),
            Some(Fault::Reset) => return Err(Ended::Reset),
            Some(Fault::Hang) => {
                wire.flush().await?;
                self.shared.script.hang().await;
                own.to_owned()
            }
        };
        if said.is_empty() {
            return Ok(true);
        }
        self.tell(wire, &said);
        if said.starts_with("421") {
            return Err(Ended::Quit);
        }
        Ok(said.starts_with(['2', '3']) || point == Point::Body)
    }

    async fn pause(&self, wire: &mut Wire, delay: Duration) -> Result<(), Ended> {
        if !delay.is_zero() {
            wire.flush().await?;
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    /// Says a refusal that nobody can script, because it answers a broken client.
    fn refuse(&self, wire: &mut Wire, text: &str) {
        self.tell(wire, text);
    }

    fn tell(&self, wire: &mut Wire, text: &str) {
        if text.starts_with(['4', '5']) {
            self.shared.book.refusal(text);
        }
        wire.say(text);
    }

    fn offence(&self, what: &str) {
        self.shared.book.offence(self.number, what);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The first digit that a fault says at the final dot.
fn first_digit(fault: &Fault) -> Option<char> {
    match fault {
        Fault::Reply(text) | Fault::ReplyAndClose(text) => text.chars().next(),
        Fault::Replies(texts) => texts.first()?.chars().next(),
        _ => None,
    }
}

/// `FROM:<path> WORD WORD`: the path without its brackets, and the words.
fn path_behind(rest: &str, keyword: &str) -> Option<(String, Vec<String>)> {
    let head = rest.get(..keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let rest = rest[keyword.len()..].strip_prefix('<')?;
    let mut is_quoted = false;
    let mut is_escaped = false;
    let end = rest.char_indices().find_map(|(at, c)| {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '>' if !is_quoted => return Some(at),
            _ => {}
        }
        None
    })?;
    let words = &rest[end + 1..];
    if !words.is_empty() && !words.starts_with(' ') {
        return None;
    }
    Some((rest[..end].to_owned(), words.split_ascii_whitespace().map(str::to_owned).collect()))
}

fn value_of<'a>(word: &'a str, keyword: &str) -> Option<&'a str> {
    let (name, value) = word.split_once('=')?;
    name.eq_ignore_ascii_case(keyword).then_some(value)
}

fn has_keyword(words: &[String], keyword: &str) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case(keyword))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_their_parameters() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        for (rest, expected) in [
            ("FROM:<a@b>", Some(("a@b", words(&[])))),
            ("from:<> SIZE=3 BODY=8BITMIME", Some(("", words(&["SIZE=3", "BODY=8BITMIME"])))),
            ("FROM:<\"a>\\\"b\"@c>", Some(("\"a>\\\"b\"@c", words(&[])))),
            ("FROM: <a@b>", None),
            ("FROM:a@b", None),
            ("FROM:<a@b", None),
            ("FROM:<a@b>x", None),
            ("TO:<a@b>", None),
            ("", None),
        ] {
            let expected =
                expected.map(|(path, words): (&str, Vec<String>)| (path.to_owned(), words));
            assert_eq!(path_behind(rest, "FROM:"), expected, "{rest}");
        }
    }
}
