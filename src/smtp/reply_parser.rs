//! Reads replies from a stream of bytes (RFC 5321 §4.2, RFC 2034).
//!
//! Owns [`ReplyParser`]. It takes bytes in pieces of any size and gives one [`Reply`] at a time; what
//! stands behind that reply stays with the caller, who knows whether anything may stand there. It
//! never holds more than [`limits::REPLY_LINES`] lines of [`limits::REPLY_LINE_OCTETS`] and
//! [`limits::REPLY_OCTETS`] of them together, and looks at every byte once.
//!
//! A line ends with LF; a CR before it belongs to the end. RFC 5321 wants CRLF, some small servers
//! send LF alone. Taking it costs nothing here: we never send a lone LF that a server could echo, and
//! a reply too many is noticed whatever ends its line. A CR anywhere else, NUL and every other
//! control character are shown as `?`, and broken UTF-8 as U+FFFD.

use std::mem;

use crate::base::{Printable, limits};
use crate::mail::EnhancedCode;
use crate::smtp::Reply;

/// Puts replies together from the bytes of a server.
#[derive(Debug, Default)]
pub struct ReplyParser {
    line: Vec<u8>,
    code: Option<u16>,
    lines: Vec<String>,
    /// Octets of the reply so far.
    octets: usize,
}

impl ReplyParser {
    /// Takes bytes from the front of `input` until a reply is complete or there are no more.
    ///
    /// After an error the parser stands at an unknown place of the stream: the session is over.
    pub fn feed(&mut self, input: &mut &[u8]) -> Result<Option<Reply>, MalformedReply> {
        while let Some(end) = input.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = input.split_at(end + 1);
            *input = rest;
            self.keep(line)?;
            let line = mem::take(&mut self.line);
            if let Some(reply) = self.take_line(&line)? {
                return Ok(Some(reply));
            }
        }
        let line = mem::take(input);
        self.keep(line)?;
        Ok(None)
    }

    /// True if a reply has begun and not ended.
    pub fn is_midway(&self) -> bool {
        self.code.is_some() || !self.line.is_empty()
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), MalformedReply> {
        if self.line.len() + bytes.len() > limits::REPLY_LINE_OCTETS {
            return Err(MalformedReply::LongLine);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn take_line(&mut self, line: &[u8]) -> Result<Option<Reply>, MalformedReply> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (code, is_last, text) = split_line(line)
            .ok_or_else(|| MalformedReply::NotAReply(Printable(line).to_string()))?;
        if let Some(first) = self.code.replace(code).filter(|&first| first != code) {
            return Err(MalformedReply::MixedCodes { first, then: code });
        }
        self.octets += line.len();
        if self.lines.len() == limits::REPLY_LINES || self.octets > limits::REPLY_OCTETS {
            return Err(MalformedReply::TooLong);
        }
        self.lines.push(String::from_utf8_lossy(text).into_owned());
        match is_last {
            true => {
                self.code = None;
                self.octets = 0;
                Ok(Some(assemble(code, mem::take(&mut self.lines))))
            }
            false => Ok(None),
        }
    }
}

/// Code, whether this is the last line, and the text. A code with nothing behind it is a whole reply:
/// RFC 5321 §4.2 tells clients to accept that.
fn split_line(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (code, rest) = line.split_at_checked(3)?;
    let &[first @ b'2'..=b'5', second, third] = code else { return None };
    if !second.is_ascii_digit() || !third.is_ascii_digit() {
        return None;
    }
    let digits = [first, second, third].map(|digit| u16::from(digit - b'0'));
    let code = digits[0] * 100 + digits[1] * 10 + digits[2];
    match rest {
        [] => Some((code, true, rest)),
        [b' ', text @ ..] => Some((code, true, text)),
        [b'-', text @ ..] => Some((code, false, text)),
        _ => None,
    }
}

/// Splits the enhanced code off the lines that have it. RFC 2034 §4 wants it on every line; some
/// servers put it on the last one only.
fn assemble(code: u16, mut lines: Vec<String>) -> Reply {
    let enhanced = lines.iter().find_map(|line| leading_code(code, line));
    if enhanced.is_some() {
        for line in lines.iter_mut().filter(|line| leading_code(code, line) == enhanced) {
            *line = line.split_once(' ').map_or(String::new(), |(_, text)| text.to_owned());
        }
    }
    Reply::from_lines(code, enhanced, lines)
}

/// The enhanced code at the start of a line, if its class is the first digit of the reply's code.
fn leading_code(code: u16, line: &str) -> Option<EnhancedCode> {
    let word = line.split(' ').next()?;
    let enhanced = word.parse::<EnhancedCode>().ok()?;
    (u16::from(enhanced.class()) == code / 100).then_some(enhanced)
}

/// What came is not a reply of SMTP.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedReply {
    /// A line does not start with a code and a space or a hyphen.
    #[error("this is not an SMTP reply: {0}")]
    NotAReply(String),
    /// The lines of one reply have different codes.
    #[error("one reply has the codes {first} and {then}")]
    MixedCodes {
        /// The code that the reply began with.
        first: u16,
        /// The other one.
        then: u16,
    },
    /// A line is longer than [`limits::REPLY_LINE_OCTETS`].
    #[error("a line of a reply is longer than {} octets", limits::REPLY_LINE_OCTETS)]
    LongLine,
    /// A reply has more than [`limits::REPLY_LINES`] lines or [`limits::REPLY_OCTETS`] octets.
    #[error(
        "a reply has more than {} lines or {} octets",
        limits::REPLY_LINES,
        limits::REPLY_OCTETS
    )]
    TooLong,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_all(bytes: &[u8]) -> Result<Vec<Reply>, MalformedReply> {
        let (mut parser, mut rest, mut replies) = (ReplyParser::default(), bytes, Vec::new());
        while !rest.is_empty() {
            replies.extend(parser.feed(&mut rest)?);
        }
        assert!(!parser.is_midway(), "{:?}", Printable(bytes));
        Ok(replies)
    }

    fn read_one(bytes: &[u8]) -> Reply {
        let replies = read_all(bytes).unwrap();
        assert_eq!(replies.len(), 1, "{:?}", Printable(bytes));
        replies.into_iter().next().unwrap()
    }

    #[test]
    fn replies_of_real_servers() {
        let cases = [
            (&b"250 OK\r\n"[..], 250, "", &["OK"][..]),
            (b"250 2.0.0 OK <id>\r\n", 250, "2.0.0", &["OK <id>"]),
            (b"250 2.1.5\r\n", 250, "2.1.5", &[""]),
            (b"250\r\n", 250, "", &[""]),
            (b"334 \r\n", 334, "", &[""]),
            (b"250 lone LF\n", 250, "", &["lone LF"]),
            (b"220-a\r\n220-b\r\n220 c\r\n", 220, "", &["a", "b", "c"]),
            (b"550-5.7.1 one\r\n550 5.7.1 two\r\n", 550, "5.7.1", &["one", "two"]),
            // Only on the last line; only on the first; two different ones.
            (b"550-one\r\n550 5.7.1 two\r\n", 550, "5.7.1", &["one", "two"]),
            (b"550-5.7.1 one\r\n550 two\r\n", 550, "5.7.1", &["one", "two"]),
            (b"550-5.7.1 a\r\n550 5.1.1 b\r\n", 550, "5.7.1", &["a", "5.1.1 b"]),
            // The class is not the code's, or it is no code at all.
            (b"550 4.7.1 odd\r\n", 550, "", &["4.7.1 odd"]),
            (b"220 5.7 reasons\r\n", 220, "", &["5.7 reasons"]),
            (b"571 5.7.1 outside of RFC 5321\r\n", 571, "5.7.1", &["outside of RFC 5321"]),
            // What could harm a log or a terminal.
            (b"250 a\0b\x1b[2J\rc\r\n", 250, "", &["a?b?[2J?c"]),
            (b"250 \xff\xfe\r\n", 250, "", &["\u{fffd}\u{fffd}"]),
        ];
        for (bytes, code, enhanced, lines) in cases {
            let reply = read_one(bytes);
            assert_eq!(reply.code(), code, "{:?}", Printable(bytes));
            let has = reply.enhanced().map(|code| code.to_string()).unwrap_or_default();
            assert_eq!(has, enhanced, "{:?}", Printable(bytes));
            assert_eq!(reply.lines(), lines, "{:?}", Printable(bytes));
        }
    }

    #[test]
    fn what_is_not_a_reply() {
        for bytes in [
            &b"\r\n"[..],
            b"hello\r\n",
            b"25\r\n",
            b"2500 OK\r\n",
            b"250\tOK\r\n",
            b"150 early\r\n",
            b"650 late\r\n",
            b" 250 OK\r\n",
            b"2\x0000 OK\r\n",
            b"HTTP/1.1 200 OK\r\n",
            "２５０ OK\r\n".as_bytes(),
        ] {
            let shown = Printable(bytes);
            assert!(matches!(read_all(bytes), Err(MalformedReply::NotAReply(_))), "{shown:?}");
        }
        let mixed = Err(MalformedReply::MixedCodes { first: 250, then: 550 });
        assert_eq!(read_all(b"250-a\r\n550 b\r\n"), mixed);
    }

    #[test]
    fn lines_and_replies_have_a_limit() {
        let mut line = b"250 ".to_vec();
        line.resize(limits::REPLY_LINE_OCTETS - 2, b'x');
        line.extend_from_slice(b"\r\n");
        assert_eq!(read_one(&line).text().len(), limits::REPLY_LINE_OCTETS - 6);
        line.insert(4, b'x');
        assert_eq!(read_all(&line), Err(MalformedReply::LongLine));

        let mut endless = ReplyParser::default();
        let mut fed = 0;
        while endless.feed(&mut &b"250 xxxxxxxxxxxx"[..]).is_ok() {
            fed += 16;
            assert!(fed <= limits::REPLY_LINE_OCTETS);
        }

        let mut lines = b"250-x\r\n".repeat(limits::REPLY_LINES - 1);
        let longest = [&lines[..], b"250 end\r\n"].concat();
        assert_eq!(read_one(&longest).lines().len(), limits::REPLY_LINES);
        lines.extend_from_slice(b"250-x\r\n250 end\r\n");
        assert_eq!(read_all(&lines), Err(MalformedReply::TooLong));

        let line = [&b"250-"[..], &[b'x'; 1_996], b"\r\n"].concat();
        let fits = [line.repeat(32), b"250 end\r\n".repeat(3)].concat();
        assert_eq!(read_all(&fits).unwrap().len(), 3);
        let too_long = [line.repeat(33), b"250 end\r\n".to_vec()].concat();
        assert_eq!(read_all(&too_long), Err(MalformedReply::TooLong));
    }

    #[test]
    fn what_stands_behind_a_reply_stays_with_the_caller() {
        let mut parser = ReplyParser::default();
        let mut input = &b"220 go\r\n250 forged\r\n"[..];
        assert_eq!(parser.feed(&mut input).unwrap().unwrap().code(), 220);
        assert_eq!(input, b"250 forged\r\n");
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_read_the_same(
            bytes in prop::collection::vec(
                prop::sample::select(b"245 0-.\r\n\0x".to_vec()), 0..60),
            cuts in prop::collection::vec(0usize..60, 0..8),
        ) {
            let read = |pieces: &[&[u8]]| {
                let (mut parser, mut replies) = (ReplyParser::default(), Vec::new());
                for piece in pieces {
                    let mut rest = *piece;
                    while !rest.is_empty() {
                        match parser.feed(&mut rest) {
                            Ok(reply) => replies.extend(reply),
                            Err(fault) => return (replies, Some(fault), false),
                        }
                    }
                }
                (replies, None, parser.is_midway())
            };
            let mut cuts: Vec<_> = cuts.into_iter().filter(|&cut| cut < bytes.len()).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);
            prop_assert_eq!(read(&pieces), read(&[&bytes]));
        }

        #[test]
        fn a_written_reply_reads_back(
            code in 200u16..560,
            has_enhanced in any::<bool>(),
            lines in prop::collection::vec("[ -~]{0,40}", 1..5),
        ) {
            let class = (code / 100) as u8;
            let enhanced = (has_enhanced && class != 3).then(|| EnhancedCode::new(class, 7, 139));
            let looks_coded = lines.iter().any(|line| leading_code(code, line).is_some());
            prop_assume!(!looks_coded);
            let reply = Reply::from_lines(code, enhanced, lines);
            let mut wire = bytes::BytesMut::new();
            reply.encode(&mut wire);
            prop_assert_eq!(read_one(&wire), reply);
        }
    }
}
