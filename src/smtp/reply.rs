//! Replies as values (RFC 5321 §4.2, RFC 2034).
//!
//! Owns [`Reply`]. Invariants: the code is 200 to 599, there is at least one line, and no line holds
//! a control character, so a reply can be written to a wire as it is. RFC 5321 §4.2.1 ends at 559,
//! but upstreams say 571 and the like, and only the first digit decides (§4.3.2).

use std::fmt;

use bytes::{BufMut, BytesMut};

use crate::mail::{EnhancedCode, Phase, Status};

/// One answer of a server, of ours or of upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    lines: Vec<String>,
}

impl Reply {
    /// A reply of one line without an enhanced code: greetings, 3yz and EHLO.
    pub fn plain(code: u16, text: &str) -> Self {
        Self::from_lines(code, None, vec![text.to_owned()])
    }

    /// A reply of one line. The class of the enhanced code has to be the code's first digit
    /// (RFC 2034 §4).
    pub fn new(code: u16, enhanced: EnhancedCode, text: &str) -> Self {
        debug_assert_eq!(u16::from(enhanced.class()), code / 100, "RFC 2034 §4");
        Self::from_lines(code, Some(enhanced), vec![text.to_owned()])
    }

    /// From all its parts. Control characters in the lines are replaced by `?`.
    pub fn from_lines(code: u16, enhanced: Option<EnhancedCode>, lines: Vec<String>) -> Self {
        debug_assert!((200..600).contains(&code), "RFC 5321 §4.2.1");
        let clean = |line: String| line.replace(|c: char| c.is_control(), "?");
        let mut lines: Vec<_> = lines.into_iter().map(clean).collect();
        if lines.is_empty() {
            lines.push(String::new());
        }
        Self { code, enhanced, lines }
    }

    /// The three digits.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced code.
    pub fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The lines, without code and enhanced code.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// All lines, joined by a space.
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// 2yz: done.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3yz: go on.
    pub fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// 4yz: not now.
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5yz: not at all.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// As the evidence of an outcome.
    pub fn to_status(&self, phase: Phase) -> Status {
        Status { phase, code: Some(self.code), enhanced: self.enhanced, text: self.text() }
    }

    /// Writes the reply as it goes over the wire; every line repeats both codes (RFC 2034 §4).
    pub fn encode(&self, out: &mut BytesMut) {
        for (at, line) in self.lines.iter().enumerate() {
            let separator = if at + 1 == self.lines.len() { ' ' } else { '-' };
            out.put_slice(format!("{}{separator}", self.code).as_bytes());
            if let Some(enhanced) = self.enhanced {
                out.put_slice(format!("{enhanced} ").as_bytes());
            }
            out.put_slice(line.as_bytes());
            out.put_slice(b"\r\n");
        }
    }
}

impl fmt::Display for Reply {
    /// One line for people: `250 2.0.0 queued as …`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_status(Phase::Local), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_repeats_both_codes_and_no_line_can_forge_another() {
        let lines = vec!["first".to_owned(), "sec\r\n250 ond".to_owned()];
        let reply = Reply::from_lines(550, Some(EnhancedCode::new(5, 7, 1)), lines);
        let mut out = BytesMut::new();
        reply.encode(&mut out);
        assert_eq!(&out[..], b"550-5.7.1 first\r\n550 5.7.1 sec??250 ond\r\n");
        assert_eq!(reply.to_string(), "550 5.7.1 first sec??250 ond");
    }
}
