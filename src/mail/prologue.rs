//! The lines that this relay puts in front of a message, and nothing else that it changes.
//!
//! Owns the `Received` line (RFC 5321 §4.4) and the repair of a missing Date or Message-ID
//! (RFC 6409 §8.2 and §8.3). Invariant: every line is made of values that cannot hold a line end,
//! and every line ends in CRLF.

use std::fmt::Write as _;
use std::net::IpAddr;

use crate::base::{QueueId, Timestamp};
use crate::mail::HeaderScan;
use crate::mail::address::is_host_name;

/// Who handed the message in.
#[derive(Clone, Debug)]
pub struct ReceivedFrom {
    /// The name of EHLO or HELO, whatever it was.
    pub helo: String,
    /// The client's address.
    pub address: IpAddr,
    /// The client's credential, or none if its network vouched for it.
    pub is_authenticated: bool,
    /// The session was encrypted.
    pub is_encrypted: bool,
    /// The session began with EHLO, not HELO.
    pub is_extended: bool,
    /// MAIL had SMTPUTF8.
    pub smtputf8: bool,
}

/// Everything that a `Received` line says.
#[derive(Clone, Debug)]
pub struct ReceivedLine<'a> {
    /// Who handed it in.
    pub from: &'a ReceivedFrom,
    /// Our name.
    pub by: &'a str,
    /// The message's id here.
    pub id: QueueId,
    /// When it arrived.
    pub at: Timestamp,
}

impl ReceivedLine<'_> {
    /// With clauses of RFC 3848 and RFC 6531 §4.3.
    fn with(&self) -> &'static str {
        let from = self.from;
        match (from.smtputf8, from.is_extended, from.is_encrypted, from.is_authenticated) {
            (true, _, true, true) => "UTF8SMTPSA",
            (true, _, true, false) => "UTF8SMTPS",
            (true, _, false, true) => "UTF8SMTPA",
            (true, _, false, false) => "UTF8SMTP",
            (false, _, true, true) => "ESMTPSA",
            (false, _, true, false) => "ESMTPS",
            (false, _, false, true) => "ESMTPA",
            (false, true, false, false) => "ESMTP",
            (false, false, false, false) => "SMTP",
        }
    }
}

/// The bytes that go before the client's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prologue(String);

impl Prologue {
    /// Composes the `Received` line and, where `scan` misses them, Date and Message-ID.
    pub fn compose(received: &ReceivedLine<'_>, scan: &HeaderScan) -> Self {
        let mut text = String::with_capacity(256);
        let is_name = received.from.helo.is_ascii() && is_host_name(&received.from.helo);
        let helo = match is_name {
            true => received.from.helo.as_str(),
            // RFC 5321 §4.4 wants a domain here; what is none stays in the log only.
            false => "unknown",
        };
        let address = match received.from.address.to_canonical() {
            IpAddr::V4(address) => format!("[{address}]"),
            IpAddr::V6(address) => format!("[IPv6:{address}]"),
        };
        let _ = write!(
            text,
            "Received: from {helo} ({address})\r\n\tby {} (mailbearer) with {} id {};\r\n\t{}\r\n",
            received.by,
            received.with(),
            received.id,
            received.at.to_rfc5322(),
        );
        if !scan.has_date {
            let _ = write!(text, "Date: {}\r\n", received.at.to_rfc5322());
        }
        if !scan.has_message_id {
            let id = received.id.as_str().to_ascii_lowercase();
            let _ = write!(text, "Message-ID: <{id}@{}>\r\n", received.by);
        }
        if scan.is_headless {
            // What the client sent is content only: the header that we made has to end.
            text.push_str("\r\n");
        }
        Self(text)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compose(helo: &str, message: &str) -> String {
        let from = ReceivedFrom {
            helo: helo.to_owned(),
            address: "::ffff:192.0.2.7".parse().unwrap(),
            is_authenticated: true,
            is_encrypted: false,
            is_extended: true,
            smtputf8: false,
        };
        let received = ReceivedLine {
            from: &from,
            by: "relay.example",
            id: "01ARZ3NDEKTSV4RR".parse().unwrap(),
            at: Timestamp::from_millis(1_795_436_435_123),
        };
        let mut scan = HeaderScan::default();
        scan.feed(message.as_bytes());
        String::from_utf8(Prologue::compose(&received, &scan).as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_complete_header_gets_the_received_line_alone() {
        let message = "Date: x\r\nMessage-ID: y\r\nFrom: z\r\n\r\n";
        assert_eq!(
            compose("printer.example", message),
            "Received: from printer.example ([192.0.2.7])\r\n\tby relay.example (mailbearer) with \
             ESMTPA id 01ARZ3NDEKTSV4RR;\r\n\tMon, 23 Nov 2026 12:20:35 +0000\r\n"
        );
    }

    #[test]
    fn missing_fields_are_added_and_strange_names_are_not_repeated() {
        let text = compose("evil)\r\nX: y", "From: z\r\n\r\nbody");
        assert!(text.starts_with("Received: from unknown ([192.0.2.7])\r\n"));
        assert!(text.contains("\r\nDate: Mon, 23 Nov 2026 12:20:35 +0000\r\n"));
        assert!(text.ends_with("\r\nMessage-ID: <01arz3ndektsv4rr@relay.example>\r\n"));
        assert!(!text.contains("\r\n\r\n"));
        assert!(compose("x", "no header at all\r\n").ends_with("\r\n\r\n"));
    }
}
