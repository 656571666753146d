//! A look into the header of a message that is passing through, without touching it.
//!
//! Owns [`HeaderScan`]: it is fed the first bytes of a message and says which of the fields that a
//! relay cares about are there. It never keeps content beyond a field's name, works on any split
//! of the input, and never changes a byte. Source: RFC 5322 §2.2, §3.6.

use crate::base::limits;

/// Octets of a field name that are compared; longer names are none of ours.
const NAME_OCTETS: usize = 16;

/// Says which fields a header has while its bytes pass by.
#[derive(Clone, Debug, Default)]
pub struct HeaderScan {
    state: State,
    seen_octets: usize,
    /// There is a `Date` field.
    pub has_date: bool,
    /// There is a `Message-ID` field.
    pub has_message_id: bool,
    /// There is a `From` field.
    pub has_from: bool,
    /// `Received` fields so far.
    pub received: usize,
    /// The message does not start with a header field at all: its first line is content.
    pub is_headless: bool,
}

#[derive(Clone, Debug)]
enum State {
    /// In the name of a field, which started a line.
    Name { name: [u8; NAME_OCTETS], length: usize, is_first_line: bool },
    /// In the rest of a line.
    Line,
    /// The header is over.
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Name { name: [0; NAME_OCTETS], length: 0, is_first_line: true }
    }
}

impl HeaderScan {
    /// Looks at the next bytes of the message.
    pub fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if matches!(self.state, State::Done) {
                return;
            }
            self.step(byte);
            self.seen_octets += 1;
            if self.seen_octets >= limits::HEADER_OCTETS {
                self.state = State::Done;
            }
        }
    }

    /// True once everything that could be said has been said.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    fn step(&mut self, byte: u8) {
        match &mut self.state {
            State::Name { name, length, is_first_line } => match byte {
                b':' if *length > 0 => {
                    let known = &name[..(*length).min(NAME_OCTETS)];
                    match known.trim_ascii_end() {
                        _ if *length > NAME_OCTETS => {}
                        name if name.eq_ignore_ascii_case(b"date") => self.has_date = true,
                        name if name.eq_ignore_ascii_case(b"message-id") => {
                            self.has_message_id = true;
                        }
                        name if name.eq_ignore_ascii_case(b"from") => self.has_from = true,
                        name if name.eq_ignore_ascii_case(b"received") => self.received += 1,
                        _ => {}
                    }
                    self.state = State::Line;
                }
                // A folded line belongs to the field before it, which only the first line lacks.
                b' ' | b'\t' if *length == 0 && !*is_first_line => self.state = State::Line,
                b' ' | b'\t' if *length > 0 => {}
                0x21..=0x7e if byte != b':' => {
                    if let Some(place) = name.get_mut(*length) {
                        *place = byte;
                    }
                    *length += 1;
                }
                b'\r' if *length == 0 => {}
                _ => {
                    // An empty line ends the header; any other line without a colon is content.
                    self.is_headless = *is_first_line && (byte != b'\n' || *length > 0);
                    self.state = State::Done;
                }
            },
            State::Line if byte == b'\n' => {
                self.state =
                    State::Name { name: [0; NAME_OCTETS], length: 0, is_first_line: false };
            }
            State::Line | State::Done => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(message: &str) -> HeaderScan {
        let mut whole = HeaderScan::default();
        whole.feed(message.as_bytes());
        let mut split = HeaderScan::default();
        for byte in message.as_bytes() {
            split.feed(&[*byte]);
        }
        assert_eq!(format!("{whole:?}"), format!("{split:?}"));
        whole
    }

    #[test]
    fn fields_are_found_in_any_case_and_only_in_the_header() {
        let seen =
            scan("Received: x\r\nDATE: y\r\n folded: z\r\nfrom : a\r\n\r\nMessage-ID: no\r\n");
        assert!(seen.has_date && seen.has_from && !seen.has_message_id && !seen.is_headless);
        assert_eq!(seen.received, 1);
        assert!(seen.is_done());
    }

    #[test]
    fn a_message_without_a_header_is_recognised() {
        assert!(scan("just text\r\n").is_headless);
        assert!(!scan("\r\njust text\r\n").is_headless);
        assert!(!scan("Subject: x\r\nno colon here\r\n").is_headless);
        assert!(scan(" starts folded: yes\r\n").is_headless);
    }

    #[test]
    fn a_header_without_end_is_given_up() {
        let mut scan = HeaderScan::default();
        for _ in 0..=limits::HEADER_OCTETS / 8 {
            scan.feed(b"X: abc\r\n");
        }
        scan.feed(b"Date: late\r\n");
        assert!(scan.is_done() && !scan.has_date);
    }
}
