//! Replies of a session, and what the script puts in their place.

use std::time::Duration;

use crate::sim::fault::{BadCertificate, Fault, Point};
use crate::sim::script::{Due, Moment};
use crate::sim::session::Session;
use crate::sim::wire::{Ended, Wire};

impl Session {
    /// What is known now.
    pub(super) fn moment(&self, wire: &Wire) -> Moment<'_> {
        Moment {
            user: self.user.as_deref(),
            recipients: self.transaction.as_ref().map_or(&[], |known| &known.recipients),
            is_tls: wire.is_tls(),
            octets: 0,
        }
    }

    /// Gives a reply, or does what is scripted in its place. True if what was said is positive.
    pub(super) async fn reply(
        &self,
        wire: &mut Wire,
        point: Point,
        own: &str,
    ) -> Result<bool, Ended> {
        self.reply_about(wire, point, own, self.moment(wire)).await
    }

    /// The same, when more is known than the session has kept yet.
    pub(super) async fn reply_about(
        &self,
        wire: &mut Wire,
        point: Point,
        own: &str,
        moment: Moment<'_>,
    ) -> Result<bool, Ended> {
        let due = self.shared.script.due(point, moment);
        Ok(is_positive(&self.play(wire, due, own).await?))
    }

    /// Does what is scripted where no reply is due.
    pub(super) async fn interlude(
        &self,
        wire: &mut Wire,
        point: Point,
        octets: u64,
    ) -> Result<(), Ended> {
        let due = self.shared.script.due(point, Moment { octets, ..self.moment(wire) });
        if !due.is_nothing() {
            self.play(wire, due, "").await?;
            wire.flush().await?;
        }
        Ok(())
    }

    /// Does what is scripted for the handshake, once the client has begun it; a bad certificate is
    /// left to the caller.
    pub(super) async fn before_handshake(
        &self,
        wire: &mut Wire,
    ) -> Result<Option<BadCertificate>, Ended> {
        wire.flush().await?;
        if self.shared.script.names(Point::Handshake) {
            wire.until_readable().await?;
        }
        let due = self.shared.script.due(Point::Handshake, self.moment(wire));
        let bad = match due.fault {
            Some(Fault::Certificate(bad)) => Some(bad),
            _ => None,
        };
        self.play(wire, due, "").await?;
        wire.flush().await?;
        Ok(bad)
    }

    /// Says `own`, or what a fault says instead. Gives what was said: an empty text if it was
    /// nothing, or nothing that is a reply.
    pub(super) async fn play(&self, wire: &mut Wire, due: Due, own: &str) -> Result<String, Ended> {
        self.pause(wire, due.delay).await?;
        let said = match due.fault {
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
                return Ok(String::new());
            }
            Some(Fault::Answer(answer) | Fault::Slow { answer: Some(answer), .. }) => {
                wire.say_raw(&answer.to_wire());
                return Ok(String::new());
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
            return Ok(said);
        }
        self.tell(wire, &said);
        if said.starts_with("421") {
            return Err(Ended::Quit);
        }
        Ok(said)
    }

    async fn pause(&self, wire: &mut Wire, delay: Duration) -> Result<(), Ended> {
        if !delay.is_zero() {
            wire.flush().await?;
            tokio::time::sleep(delay).await;
        }
        Ok(())
    }

    /// Says something that no script replaces, because it answers a broken client.
    pub(super) fn tell(&self, wire: &mut Wire, text: &str) {
        if text.starts_with(['4', '5']) {
            self.shared.book.refusal(text);
        }
        self.shared.book.line(self.number, "S", text);
        wire.say(text);
    }

    /// Notes what no good client does.
    pub(super) fn offence(&self, what: &str) {
        self.shared.book.offence(self.number, what);
    }
}

/// 2yz and 3yz.
pub(super) fn is_positive(said: &str) -> bool {
    said.starts_with(['2', '3'])
}
