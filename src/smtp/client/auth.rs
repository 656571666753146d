//! AUTH with a bearer token (RFC 4954; XOAUTH2; OAUTHBEARER of RFC 7628).
//!
//! Owns [`AuthExchange`]. There are two ways to be refused, and both are walked to their end: a
//! direct negative reply, and a `334` that carries the reason in base64, which has to be answered
//! before the negative reply comes. Whoever hangs up at the `334` loses the diagnosis.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut, BytesMut};

use crate::base::{Secret, limits};
use crate::smtp::Reply;
use crate::smtp::client::FaultKind;

/// A piece of the authentication string of at least this length is taken out of a reply that echoes
/// it. Shorter ones occur in ordinary words.
const ECHO_OCTETS: usize = 16;

/// An AUTH command that is under way.
pub(super) struct AuthExchange {
    blob: Secret,
    /// The answer to a `334` that carries a refusal.
    acknowledgement: &'static str,
    step: AuthStep,
}

enum AuthStep {
    /// The mechanism was named; the empty challenge is to come.
    Named,
    /// The authentication string was sent.
    Sent,
    /// The refusal came as a challenge and was answered; the final reply is to come.
    Refused { challenge: Option<String> },
}

/// Where a reply leads to.
pub(super) enum AuthProgress {
    /// Another reply is to come; something may have been written.
    Goes(AuthExchange),
    Authenticated,
    Refused {
        reply: Reply,
        challenge: Option<String>,
    },
    /// The reply fits nowhere.
    Unexpected(Reply),
}

impl AuthExchange {
    /// Writes the command. The authentication string goes with it only if the whole line is short
    /// enough for every server (RFC 4954 §4); tokens usually are not.
    pub(super) fn begin(mechanism: &str, blob: Secret, out: &mut BytesMut) -> Self {
        out.put_slice(b"AUTH ");
        out.put_slice(mechanism.as_bytes());
        let inline_octets = out.len() + 1 + blob.expose().len() + 2;
        let step = match inline_octets <= limits::AUTH_INLINE_OCTETS {
            true => {
                out.put_slice(b" ");
                out.put_slice(blob.expose().as_bytes());
                AuthStep::Sent
            }
            false => AuthStep::Named,
        };
        out.put_slice(b"\r\n");
        let acknowledgement = match mechanism {
            "OAUTHBEARER" => "AQ==",
            _ => "",
        };
        Self { blob, acknowledgement, step }
    }

    /// Takes the next reply and writes what it asks for.
    pub(super) fn take_reply(mut self, reply: Reply, out: &mut BytesMut) -> AuthProgress {
        let reply = reply_without_echo(reply, &self.blob);
        match (self.step, reply.code()) {
            (AuthStep::Named, 334) => {
                out.put_slice(self.blob.expose().as_bytes());
                out.put_slice(b"\r\n");
                self.step = AuthStep::Sent;
                AuthProgress::Goes(self)
            }
            (AuthStep::Sent, 334) => {
                out.put_slice(self.acknowledgement.as_bytes());
                out.put_slice(b"\r\n");
                self.step = AuthStep::Refused { challenge: decode(&reply.text()) };
                AuthProgress::Goes(self)
            }
            (AuthStep::Sent, 235) => AuthProgress::Authenticated,
            (AuthStep::Refused { challenge }, 400..) => AuthProgress::Refused { reply, challenge },
            (_, 400..) => AuthProgress::Refused { reply, challenge: None },
            _ => AuthProgress::Unexpected(reply),
        }
    }

    /// The evidence of a fault, without what it may hold of the secret.
    pub(super) fn without_echo(&self, kind: FaultKind) -> FaultKind {
        match kind {
            FaultKind::Refused(reply) => FaultKind::Refused(reply_without_echo(reply, &self.blob)),
            FaultKind::Protocol(text) => FaultKind::Protocol(text_without_echo(&text, &self.blob)),
            FaultKind::Closed | FaultKind::TimedOut | FaultKind::Injected => kind,
            FaultKind::NoStartTls | FaultKind::NoMechanism => kind,
        }
    }
}

/// True if the text can stand on a line of AUTH: base64, not empty, not longer than the line.
pub(super) fn is_writable(blob: &Secret) -> bool {
    let blob = blob.expose().as_bytes();
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
    !blob.is_empty() && blob.len() + 2 <= limits::AUTH_LINE_OCTETS && blob.iter().all(is_base64)
}

/// The reason behind a `334`, or the text as it is if it is not base64.
fn decode(text: &str) -> Option<String> {
    let engine = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    let text = text.trim();
    let decoded = match engine.decode(text) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => text.to_owned(),
    };
    (!decoded.is_empty()).then_some(decoded)
}

/// Some servers repeat in their error what they did not understand. That may be a token.
fn reply_without_echo(reply: Reply, blob: &Secret) -> Reply {
    let lines: Vec<_> = reply.lines().iter().map(|line| text_without_echo(line, blob)).collect();
    Reply::from_lines(reply.code(), reply.enhanced(), lines)
}

/// The text with every word that is a piece of the secret replaced.
fn text_without_echo(text: &str, blob: &Secret) -> String {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
    let mut clean = String::with_capacity(text.len());
    for word in text.split_inclusive(|c| !is_base64(c)) {
        let bare = word.trim_end_matches(|c| !is_base64(c));
        let is_echo = bare.len() >= ECHO_OCTETS && blob.expose().contains(bare);
        clean.push_str(if is_echo { "[secret]" } else { bare });
        clean.push_str(&word[bare.len()..]);
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echoed_token_does_not_leave_the_exchange() {
        let blob = Secret::new("dXNlcj1zY2FubmVyAWF1dGg9QmVhcmVyIGFiY2RlZg==");
        for (said, kept) in [
            ("no echo here", "no echo here"),
            ("bad command: dXNlcj1zY2FubmVyAWF1dGg9QmVhcmVyIGFiY2RlZg==", "bad command: [secret]"),
            ("cut \"dXNlcj1zY2FubmVyAWF1dGg9\"...", "cut \"[secret]\"..."),
            ("[dXNlcj1zY2FubmVyAW] x [dXNlcj1zY2FubmVyAW]", "[[secret]] x [[secret]]"),
        ] {
            assert_eq!(text_without_echo(said, &blob), kept);
            assert_eq!(reply_without_echo(Reply::plain(500, said), &blob).text(), kept);
        }
    }

    #[test]
    fn reasons_are_decoded_with_and_without_padding() {
        for (text, reason) in [
            ("eyJzdGF0dXMiOiI0MDEifQ==", Some("{\"status\":\"401\"}")),
            ("eyJzdGF0dXMiOiI0MDEifQ", Some("{\"status\":\"401\"}")),
            (" eyJzdGF0dXMiOiI0MDEifQ== ", Some("{\"status\":\"401\"}")),
            ("not base64!", Some("not base64!")),
            ("", None),
        ] {
            assert_eq!(decode(text).as_deref(), reason, "{text:?}");
        }
    }

    #[test]
    fn only_one_line_of_base64_may_be_written() {
        for (blob, writable) in [
            ("dXNlcg==".to_owned(), true),
            (String::new(), false),
            ("dXNlcg==\r\nQUIT".to_owned(), false),
            ("two words".to_owned(), false),
            ("x".repeat(limits::AUTH_LINE_OCTETS - 2), true),
            ("x".repeat(limits::AUTH_LINE_OCTETS - 1), false),
        ] {
            assert_eq!(is_writable(&Secret::new(blob.clone())), writable, "{} octets", blob.len());
        }
    }
}
