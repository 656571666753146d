//! The body behind DATA, read the strict way (RFC 5321 §4.1.1.4, §4.5.2).
//!
//! Owns [`DotReader`]. Only CRLF, dot, CRLF ends a body; a line is what ends with CRLF; a dot that
//! starts a line is dropped; a bare line feed is noticed and never ends anything.

use std::io::BufRead;

use bytes::{Buf, BytesMut};

/// Reads one body from whatever pieces it comes in.
#[derive(Debug)]
pub(super) struct DotReader {
    message: BytesMut,
    /// Octets of the message that are kept; more are counted and dropped.
    limit: usize,
    length: u64,
    is_line_start: bool,
    last: u8,
    has_bare_lf: bool,
}

impl DotReader {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            message: BytesMut::new(),
            limit,
            length: 0,
            is_line_start: true,
            last: b'\n',
            has_bare_lf: false,
        }
    }

    /// Octets of the message so far.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// A line feed came without a carriage return before it.
    pub(super) fn has_bare_lf(&self) -> bool {
        self.has_bare_lf
    }

    /// The message so far, as far as it is kept.
    pub(super) fn message(&self) -> &[u8] {
        &self.message
    }

    /// The message that was read.
    pub(super) fn into_message(self) -> BytesMut {
        self.message
    }

    /// Takes what it can from `input`. True once the end was read: what is left belongs to the next
    /// command. False: more input is needed, and up to two octets may be left.
    pub(super) fn read(&mut self, input: &mut BytesMut) -> bool {
        while let Some(first) = input.first() {
            if self.is_line_start && *first == b'.' {
                match input.get(..3) {
                    Some(b".\r\n") => {
                        input.advance(3);
                        return true;
                    }
                    None if b".\r\n".starts_with(input) => return false,
                    _ => {
                        input.advance(1);
                        self.is_line_start = false;
                        self.last = b'.';
                        continue;
                    }
                }
            }
            // As fast as the standard library's memchr, which has no face of its own.
            let length = (&input[..]).skip_until(b'\n').unwrap_or(input.len());
            let piece = input.split_to(length);
            let is_line_end = piece.last() == Some(&b'\n');
            let before = match piece.len() {
                0 | 1 => self.last,
                length => piece[length - 2],
            };
            self.is_line_start = is_line_end && before == b'\r';
            self.has_bare_lf |= is_line_end && before != b'\r';
            self.last = piece.last().copied().unwrap_or(self.last);
            self.keep(&piece);
        }
        false
    }

    /// Takes the octets of a BDAT chunk, which know no dots (RFC 3030).
    pub(super) fn read_chunk(&mut self, chunk: &[u8]) {
        for byte in chunk {
            self.has_bare_lf |= *byte == b'\n' && self.last != b'\r';
            self.last = *byte;
        }
        self.keep(chunk);
    }

    fn keep(&mut self, piece: &[u8]) {
        self.length += piece.len() as u64;
        let room = self.limit.saturating_sub(self.message.len()).min(piece.len());
        self.message.extend_from_slice(&piece[..room]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads in pieces of `size`; the message, bare LF or not, what is left.
    fn read(input: &[u8], size: usize) -> Option<(Vec<u8>, bool, Vec<u8>)> {
        let mut reader = DotReader::new(usize::MAX);
        let mut buffer = BytesMut::new();
        for (at, piece) in input.chunks(size).enumerate() {
            buffer.extend_from_slice(piece);
            if reader.read(&mut buffer) {
                buffer.extend_from_slice(&input[((at + 1) * size).min(input.len())..]);
                let has_bare_lf = reader.has_bare_lf();
                assert_eq!(reader.length(), reader.message.len() as u64);
                return Some((reader.into_message().to_vec(), has_bare_lf, buffer.to_vec()));
            }
        }
        None
    }

    /// What was sent; the message, bare LF or not and what is left, if it has an end.
    type Case = (&'static [u8], Option<(&'static [u8], bool, &'static [u8])>);

    #[test]
    fn bodies_and_their_ends() {
        let cases: [Case; 12] = [
            (b".\r\n", Some((b"", false, b""))),
            (b".\r\nQUIT\r\n", Some((b"", false, b"QUIT\r\n"))),
            (b"a\r\n.\r\n", Some((b"a\r\n", false, b""))),
            (b"..\r\n...a\r\n.\r\n", Some((b".\r\n..a\r\n", false, b""))),
            (b".a\r\n.\r\n", Some((b"a\r\n", false, b""))),
            (b"a\n.\n.\r\nb\r\n.\r\n", Some((b"a\n.\n.\r\nb\r\n", true, b""))),
            (b"a\n.\r\n.\r\n", Some((b"a\n.\r\n", true, b""))),
            (b"a\r.\r\n.\r\n", Some((b"a\r.\r\n", false, b""))),
            (b"a\r\n.\n\r\n.\r\n", Some((b"a\r\n\n\r\n", true, b""))),
            (b"a\r\n.\r\r\n.\r\n", Some((b"a\r\n\r\r\n", false, b""))),
            (b"a\r\n.\r", None),
            (b"a.\r\n", None),
        ];
        for (input, expected) in cases {
            for size in 1..=input.len() {
                let expected = expected.map(|(m, bare, rest)| (m.to_vec(), bare, rest.to_vec()));
                assert_eq!(read(input, size), expected, "{:?} by {size}", input.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_over_the_limit_is_counted_and_dropped() {
        let mut reader = DotReader::new(4);
        assert!(reader.read(&mut BytesMut::from(&b"abc\r\ndef\r\n.\r\n"[..])));
        assert_eq!((reader.length(), reader.into_message().to_vec()), (10, b"abc\r".to_vec()));
    }

    /// The same, the slow and obvious way: look for CRLF . CRLF, split at CRLF, drop dots.
    fn read_slowly(input: &[u8]) -> Option<(Vec<u8>, bool, Vec<u8>)> {
        let framed = [b"\r\n", input].concat();
        let end = framed.windows(5).position(|window| window == b"\r\n.\r\n")?;
        let rest = framed[end + 5..].to_vec();
        let mut message = Vec::new();
        let mut at = 0;
        let body = &framed[..end + 2];
        while at < body.len() {
            let is_start = body[at..].starts_with(b"\r\n.");
            message.extend_from_slice(match is_start {
                true => b"\r\n",
                false => &body[at..=at],
            });
            at += if is_start { 3 } else { 1 };
        }
        let message = message[2..].to_vec();
        // A dot that was dropped still separates a carriage return from a line feed.
        let bare = body
            .iter()
            .enumerate()
            .any(|(at, byte)| *byte == b'\n' && (at == 0 || body[at - 1] != b'\r'));
        Some((message, bare, rest))
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious_way(
            input in proptest::collection::vec(proptest::sample::select(b"\r\n.ab".to_vec()), 0..40),
            size in 1_usize..7,
        ) {
            prop_assert_eq!(read(&input, size), read_slowly(&input));
            let ended = [&input[..], b"\r\n.\r\n"].concat();
            prop_assert_eq!(read(&ended, size), read_slowly(&ended));
        }
    }
}
