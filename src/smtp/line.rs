//! Lines taken off the wire, with bounds (RFC 5321 §2.3.8, §4.5.3.1.4).
//!
//! Owns [`LineSplitter`], for commands on one side and for replies on the other. It judges only
//! lengths and line ends; what a line holds, a bare CR included, is for its parser to judge. Any
//! split of the same octets gives the same lines, and nothing is looked at twice.

use bytes::BytesMut;

use crate::base::limits;

/// How a line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newline {
    /// As RFC 5321 wants it.
    CrLf,
    /// A LF without a CR before it.
    BareLf,
}

/// One result of [`LineSplitter::next`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// A line, without its end.
    Line(BytesMut, Newline),
    /// A line was longer than allowed. It has been thrown away up to and with its end.
    TooLong,
    /// A line is longer than [`limits::DISCARDED_LINE_OCTETS`]: no more of it should be read.
    Endless,
    /// There is no whole line yet.
    More,
}

/// Splits octets at LF.
#[derive(Clone, Debug, Default)]
pub struct LineSplitter {
    /// Octets at the front of the input that are known to hold no LF.
    searched: usize,
    /// Octets of the current line that have been thrown away.
    discarded: usize,
}

impl LineSplitter {
    /// At the start of a line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next line off the front of `input`, if there is a whole one of at most
    /// `max_octets`, its end included.
    pub fn next(&mut self, input: &mut BytesMut, max_octets: usize) -> Split {
        let found = input[self.searched..].iter().position(|&octet| octet == b'\n');
        let length = match found {
            Some(distance) => self.searched + distance + 1,
            None => input.len(),
        };
        let whole_length = self.discarded + length;
        if whole_length > limits::DISCARDED_LINE_OCTETS {
            input.clear();
            return Split::Endless;
        }
        let is_too_long = whole_length > max_octets;
        match found {
            None if is_too_long => {
                self.searched = 0;
                self.discarded = whole_length;
                input.clear();
                Split::More
            }
            None => {
                self.searched = length;
                Split::More
            }
            Some(_) => {
                *self = Self::default();
                let mut line = input.split_to(length);
                if is_too_long {
                    return Split::TooLong;
                }
                let newline = match line.ends_with(b"\r\n") {
                    true => Newline::CrLf,
                    false => Newline::BareLf,
                };
                line.truncate(length - if newline == Newline::CrLf { 2 } else { 1 });
                Split::Line(line, newline)
            }
        }
    }

    /// True in the midst of a line that is being thrown away.
    pub fn is_discarding(&self) -> bool {
        self.discarded > 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 10;

    fn split(input: &[u8], cuts: &[usize]) -> Vec<Split> {
        let mut splitter = LineSplitter::new();
        let mut buffer = BytesMut::new();
        let mut splits = Vec::new();
        let mut start = 0;
        for cut in cuts.iter().copied().chain([input.len()]) {
            let cut = cut.clamp(start, input.len());
            buffer.extend_from_slice(&input[start..cut]);
            start = cut;
            loop {
                match splitter.next(&mut buffer, MAX) {
                    Split::More => break,
                    Split::Endless => {
                        splits.push(Split::Endless);
                        return splits;
                    }
                    other => splits.push(other),
                }
            }
        }
        splits
    }

    fn line(text: &str, newline: Newline) -> Split {
        Split::Line(BytesMut::from(text), newline)
    }

    #[test]
    fn lines_and_their_ends() {
        let cases: [(&[u8], &[Split]); 7] = [
            (b"NOOP\r\n", &[line("NOOP", Newline::CrLf)]),
            (b"NOOP\n", &[line("NOOP", Newline::BareLf)]),
            (b"\r\n\n", &[line("", Newline::CrLf), line("", Newline::BareLf)]),
            (b"a\rb\r\r\nrest", &[line("a\rb\r", Newline::CrLf)]),
            (b"12345678\r\n", &[line("12345678", Newline::CrLf)]),
            (b"123456789\r\nA\r\n", &[Split::TooLong, line("A", Newline::CrLf)]),
            (b"no end at all, and already too long", &[]),
        ];
        for (input, splits) in cases {
            assert_eq!(split(input, &[]), splits, "{input:?}");
        }
    }

    #[test]
    fn a_line_without_end_is_given_up_at_the_limit() {
        let mut input = vec![b'x'; limits::DISCARDED_LINE_OCTETS - 1];
        input.push(b'\n');
        assert_eq!(split(&input, &[20, 5_000]), [Split::TooLong]);
        input.insert(0, b'x');
        assert_eq!(split(&input, &[]), [Split::Endless]);
        assert_eq!(split(&input, &[20, 5_000, 65_536]), [Split::Endless]);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_lines(
            input in "[ab\r\n]{0,80}",
            mut cuts in prop::collection::vec(0_usize..80, 0..20),
        ) {
            cuts.sort_unstable();
            prop_assert_eq!(split(input.as_bytes(), &cuts), split(input.as_bytes(), &[]));
        }
    }
}
