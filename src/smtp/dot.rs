//! The body between `354` and the final dot: taken off the wire, and put onto it.
//!
//! Owns [`Decoder`] (a server reads a body) and [`Encoder`] (a client sends one). Both work on any
//! split of the bytes and hold back at most two of them. Sources: RFC 5321 §2.3.8, §4.1.1.4 and
//! §4.5.2; `SMTP smuggling` (CVE-2023-51764 and its kin) is why they are strict.
//!
//! Invariants:
//! 1. Only CRLF.CRLF ends the data, or `.CRLF` as its very first octets; in every mode.
//! 2. What the decoder yields is canonical: every CR is followed by LF, every LF follows a CR, and
//!    there is no NUL. What is not canonical is made so, or nothing more is yielded at all.
//! 3. What the encoder writes has no line that starts with a single dot, whatever it was given,
//!    except its last one.

use bytes::{BufMut, Bytes, BytesMut};

use crate::base::limits;

/// What a listener does with a CR or LF that stands alone in a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareNewline {
    /// Each becomes CRLF: old devices and scripts do send them.
    #[default]
    Normalize,
    /// The message is read to its true end and then refused.
    Reject,
}

/// Why a body cannot be taken, although its end was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFlaw {
    /// A CR or LF stands alone, and the mode is [`BareNewline::Reject`].
    BareNewline,
    /// There is a NUL, which RFC 5321 §4.5.2 allows nowhere in a message.
    Nul,
}

/// One result of [`Decoder::decode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The next octets of the body, never empty, at most [`limits::CHUNK_OCTETS`].
    Chunk(Bytes),
    /// The data has ended. What is left of the input is not part of it.
    End,
    /// All of the input is used up.
    More,
}

/// Finds the end of the data, removes what dot-stuffing added and makes line ends canonical.
///
/// A dot alone on a line is kept if that line is not the end of the data by invariant 1 (`LF . LF`
/// and its kin): it is content, and an [`Encoder`] stuffs it again on the way out.
#[derive(Clone, Debug)]
pub struct Decoder {
    bare_newline: BareNewline,
    position: Position,
    flaw: Option<BodyFlaw>,
    repaired: u64,
}

/// Where in a line the decoder is, and what it holds back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// Nothing of the line has been seen.
    LineStart(LineEnd),
    /// The line is `.` so far.
    Dot(LineEnd),
    /// The line is `.` CR so far.
    DotCr(LineEnd),
    /// Within the line.
    Inside,
    /// Behind a CR that is not part of [`Position::DotCr`].
    Cr,
}

/// How the line before ended; only behind a true CRLF can the data end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    /// By CRLF, or this is the first line.
    Crlf,
    /// By a CR or LF that stood alone.
    Bare,
}

/// Runs of at least this many octets are passed on without a copy; shorter ones are gathered, so
/// that a body full of dots does not become a flood of tiny chunks.
const UNCOPIED_OCTETS: usize = 1_024;

impl Decoder {
    /// At the first octet behind the `354`.
    pub fn new(bare_newline: BareNewline) -> Self {
        let position = Position::LineStart(LineEnd::Crlf);
        Self { bare_newline, position, flaw: None, repaired: 0 }
    }

    /// Takes octets off the front of `input`. Call it again until it says `End` or `More`.
    pub fn decode(&mut self, input: &mut BytesMut) -> Decoded {
        let mut gathered = BytesMut::new();
        loop {
            // A step adds up to three octets.
            let room = limits::CHUNK_OCTETS.saturating_sub(gathered.len() + 3);
            let run = self.unchanged_run(&input[..input.len().min(room)]);
            if !gathered.is_empty() && (run >= UNCOPIED_OCTETS || room == 0) {
                return Decoded::Chunk(gathered.freeze());
            }
            if run > 0 {
                self.position = match input[run - 1] {
                    b'\n' => Position::LineStart(LineEnd::Crlf),
                    _ => Position::Inside,
                };
                let piece = input.split_to(run);
                match self.flaw {
                    Some(_) => {}
                    None if gathered.is_empty() && (run >= UNCOPIED_OCTETS || input.is_empty()) => {
                        return Decoded::Chunk(piece.freeze());
                    }
                    None => gathered.put_slice(&piece),
                }
                continue;
            }
            let Some(&octet) = input.first() else { break };
            let is_end = octet == b'\n' && self.position == Position::DotCr(LineEnd::Crlf);
            if is_end && !gathered.is_empty() {
                return Decoded::Chunk(gathered.freeze());
            }
            let _ = input.split_to(1);
            if is_end {
                return Decoded::End;
            }
            self.step(octet, &mut gathered);
        }
        match gathered.is_empty() {
            true => Decoded::More,
            false => Decoded::Chunk(gathered.freeze()),
        }
    }

    /// Why the message has to be refused at its end. What follows the flaw is not yielded any more,
    /// only searched for the end.
    pub fn flaw(&self) -> Option<BodyFlaw> {
        self.flaw
    }

    /// How many bare CR and LF have been made CRLF so far.
    pub fn repaired(&self) -> u64 {
        self.repaired
    }

    /// How many octets at the front of `input` are content exactly as they stand.
    fn unchanged_run(&self, input: &[u8]) -> usize {
        let mut is_line_start = match self.position {
            Position::LineStart(_) => true,
            Position::Inside => false,
            Position::Dot(_) | Position::DotCr(_) | Position::Cr => return 0,
        };
        let mut at = 0;
        loop {
            if is_line_start && input.get(at) == Some(&b'.') {
                return at;
            }
            at += ordinary_prefix(&input[at..]);
            match input.get(at..at + 2) {
                Some(b"\r\n") => at += 2,
                _ => return at,
            }
            is_line_start = true;
        }
    }

    fn step(&mut self, octet: u8, out: &mut BytesMut) {
        let held: &[u8] = match (self.position, octet) {
            (Position::DotCr(_), _) => b".",
            (Position::Dot(_), b'\n') => b".",
            _ => b"",
        };
        match (self.position, octet) {
            (Position::LineStart(end), b'.') => self.position = Position::Dot(end),
            (Position::Dot(end), b'\r') => self.position = Position::DotCr(end),
            (Position::Cr | Position::DotCr(_), b'\n') => {
                self.end_line(held, LineEnd::Crlf, out);
            }
            (Position::Cr | Position::DotCr(_), _) => {
                self.end_line(held, LineEnd::Bare, out);
                self.step(octet, out);
            }
            (_, b'\n') => self.end_line(held, LineEnd::Bare, out),
            (_, b'\r') => self.position = Position::Cr,
            (_, _) => {
                // Behind a dot that started the line this is where the dot is dropped.
                self.position = Position::Inside;
                if octet == 0 {
                    self.flaw.get_or_insert(BodyFlaw::Nul);
                }
                if self.flaw.is_none() {
                    out.put_u8(octet);
                }
            }
        }
    }

    fn end_line(&mut self, held: &[u8], end: LineEnd, out: &mut BytesMut) {
        self.position = Position::LineStart(end);
        match (end, self.bare_newline) {
            (LineEnd::Crlf, _) => {}
            (LineEnd::Bare, BareNewline::Normalize) => self.repaired += 1,
            (LineEnd::Bare, BareNewline::Reject) => {
                self.flaw.get_or_insert(BodyFlaw::BareNewline);
            }
        }
        if self.flaw.is_none() {
            out.put_slice(held);
            out.put_slice(b"\r\n");
        }
    }
}

/// Writes a body onto the wire: stuffs dots, and ends the data without adding an empty line.
///
/// Over canonical content it changes nothing but dots at the start of a line. Content that is not
/// canonical cannot break out either: a dot behind a bare CR or LF is stuffed as well.
#[derive(Clone, Debug)]
pub struct Encoder {
    before: Before,
}

/// The octets that were written last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// CRLF, or nothing yet.
    Crlf,
    Cr,
    /// LF without a CR before it.
    Lf,
    Other,
}

impl Encoder {
    /// Behind the `354`.
    pub fn new() -> Self {
        Self { before: Before::Crlf }
    }

    /// Appends the next octets of the body to `out`.
    pub fn encode(&mut self, content: &[u8], out: &mut BytesMut) {
        out.reserve(content.len());
        let mut rest = content;
        while let Some(&first) = rest.first() {
            if first == b'.' && self.before != Before::Other {
                out.put_u8(b'.');
            }
            let (line, after) = rest.split_at(line_length(rest));
            out.put_slice(line);
            self.before = match (self.before, line) {
                (Before::Cr, [b'\n']) | (_, [.., b'\r', b'\n']) => Before::Crlf,
                (_, [.., b'\r']) => Before::Cr,
                (_, [.., b'\n']) => Before::Lf,
                _ => Before::Other,
            };
            rest = after;
        }
    }

    /// Appends the end of the data: `.CRLF`, behind a CRLF if the body did not end with one.
    pub fn finish(self, out: &mut BytesMut) {
        if self.before != Before::Crlf {
            out.put_slice(b"\r\n");
        }
        out.put_slice(b".\r\n");
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Length of the first line with its end, whichever that is, or of what there is of it.
fn line_length(content: &[u8]) -> usize {
    let length = ordinary_prefix(content);
    match content.get(length..length + 2) {
        Some(b"\r\n") => length + 2,
        _ => content.len().min(length + 1),
    }
}

/// How many octets come before the first CR, LF or NUL. The outer loop is one that compilers
/// vectorise; this is where the time of a large body goes.
fn ordinary_prefix(octets: &[u8]) -> usize {
    let is_special = |octet: &u8| matches!(octet, b'\0' | b'\n' | b'\r');
    let mut length = 0;
    for block in octets.chunks_exact(32) {
        if block.iter().fold(false, |found, octet| found | is_special(octet)) {
            break;
        }
        length += block.len();
    }
    let rest = &octets[length..];
    length + rest.iter().position(is_special).unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The body, what stands behind its end, and the flaw; in pieces that end at `cuts`.
    fn decode(
        input: &[u8],
        cuts: &[usize],
        mode: BareNewline,
    ) -> (Vec<u8>, Option<Vec<u8>>, Option<BodyFlaw>) {
        let mut decoder = Decoder::new(mode);
        let mut buffer = BytesMut::new();
        let mut body = Vec::new();
        let mut start = 0;
        for cut in cuts.iter().copied().chain([input.len()]) {
            let cut = cut.clamp(start, input.len());
            buffer.put_slice(&input[start..cut]);
            start = cut;
            loop {
                match decoder.decode(&mut buffer) {
                    Decoded::Chunk(chunk) => {
                        assert!(!chunk.is_empty() && chunk.len() <= limits::CHUNK_OCTETS);
                        body.extend_from_slice(&chunk);
                    }
                    Decoded::End => {
                        buffer.put_slice(&input[start..]);
                        return (body, Some(buffer.to_vec()), decoder.flaw());
                    }
                    Decoded::More => {
                        assert!(buffer.is_empty());
                        break;
                    }
                }
            }
        }
        (body, None, decoder.flaw())
    }

    /// The same in the slow and obvious way, over all of the input at once.
    fn obviously_decode(input: &[u8]) -> Option<(Vec<u8>, Vec<u8>, bool)> {
        let end = (0..input.len()).find(|&at| {
            input[at..].starts_with(b".\r\n") && (at == 0 || input[..at].ends_with(b"\r\n"))
        })?;
        let text: String = input[..end].iter().map(|&octet| char::from(octet)).collect();
        let lines = text.replace("\r\n", "\u{100}");
        let has_bare = lines.contains(['\r', '\n']);
        let lines = lines.replace(['\r', '\n'], "\u{100}");
        let body: String = lines
            .split_terminator('\u{100}')
            .map(|line| match line.strip_prefix('.') {
                Some(rest) if !rest.is_empty() => format!("{rest}\r\n"),
                _ => format!("{line}\r\n"),
            })
            .collect();
        let octets = body.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
        Some((octets, input[end + 3..].to_vec(), has_bare))
    }

    #[test]
    fn bodies_and_their_ends() {
        let cases: [(&[u8], &[u8], &[u8]); 12] = [
            (b".\r\n", b"", b""),
            (b"\r\n.\r\n", b"\r\n", b""),
            (b"a\r\n.\r\nQUIT\r\n", b"a\r\n", b"QUIT\r\n"),
            (b"..\r\n.\r\n", b".\r\n", b""),
            (b".a\r\n.\r\n", b"a\r\n", b""),
            (b"...a\r\n..b\r\n.\r\n", b"..a\r\n.b\r\n", b""),
            (b"a.\r\n.\r\n", b"a.\r\n", b""),
            (b"a\nb\rc\r\n.\r\n", b"a\r\nb\r\nc\r\n", b""),
            (b"a\n.\nb\r\n.\r\n", b"a\r\n.\r\nb\r\n", b""),
            (b"a\n.\r\n.\r\n", b"a\r\n.\r\n", b""),
            (b"a\n..b\n.c\r\n.\r\n", b"a\r\n.b\r\nc\r\n", b""),
            (b"a\r\n.\r\r\n\r\n.\r\n", b"a\r\n.\r\n\r\n\r\n", b""),
        ];
        for (input, body, behind) in cases {
            let decoded = decode(input, &[], BareNewline::Normalize);
            assert_eq!(decoded, (body.to_vec(), Some(behind.to_vec()), None), "{input:?}");
        }
    }

    #[test]
    fn no_smuggling_sequence_ends_the_data_in_any_mode() {
        let sequences: [&[u8]; 12] = [
            b"\n.\n",
            b"\n.\r\n",
            b"\r\n.\n",
            b"\r.\r",
            b"\r.\n",
            b"\n.\r",
            b"\r.\r\n",
            b"\r\n.\r",
            b"\r\n\0.\r\n",
            b"\r\n.\0\r\n",
            b"\r\n.\r\r\n",
            b"\r\r\n.\r\r\n",
        ];
        for sequence in sequences {
            let input = [b"one", sequence, b"MAIL FROM:<evil@x>\r\n.\r\n"].concat();
            for mode in [BareNewline::Normalize, BareNewline::Reject] {
                let (body, behind, flaw) = decode(&input, &[], mode);
                assert_eq!(behind.as_deref(), Some(&b""[..]), "{sequence:?}");
                match flaw {
                    None => {
                        assert_eq!(mode, BareNewline::Normalize);
                        let (expected, ..) = obviously_decode(&input).unwrap();
                        assert_eq!(body, expected);
                    }
                    Some(flaw) => assert_eq!(flaw == BodyFlaw::Nul, sequence.contains(&0)),
                }
            }
        }
    }

    #[test]
    fn large_bodies_come_in_bounded_chunks() {
        let body = b"0123456789abcdef\r\n.dots\r\n".repeat(10_000);
        let mut wire = BytesMut::new();
        let mut encoder = Encoder::new();
        encoder.encode(&body, &mut wire);
        encoder.finish(&mut wire);
        let (decoded, behind, flaw) = decode(&wire, &[], BareNewline::Reject);
        assert!(decoded == body && behind.as_deref() == Some(b"") && flaw.is_none());
    }

    #[test]
    fn the_end_has_no_empty_line_of_its_own() {
        let cases: [(&[u8], &[u8]); 8] = [
            (b"", b".\r\n"),
            (b"a", b"a\r\n.\r\n"),
            (b"a\r\n", b"a\r\n.\r\n"),
            (b"a\r\n\r\n", b"a\r\n\r\n.\r\n"),
            (b".", b"..\r\n.\r\n"),
            (b"\r\n.\r\n", b"\r\n..\r\n.\r\n"),
            (b"a\n.\n", b"a\n..\n\r\n.\r\n"),
            (b"a\r.\r", b"a\r..\r\r\n.\r\n"),
        ];
        for (content, wire) in cases {
            for cut in 0..=content.len() {
                let mut encoder = Encoder::new();
                let mut out = BytesMut::new();
                encoder.encode(&content[..cut], &mut out);
                encoder.encode(&content[cut..], &mut out);
                encoder.finish(&mut out);
                assert_eq!(&out[..], wire, "{content:?} cut at {cut}");
            }
        }
    }

    /// Texts in which everything that matters is frequent.
    fn tricky(alphabet: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(alphabet), 0..60)
    }

    proptest! {
        #[test]
        fn the_decoder_agrees_with_the_obvious_one_on_any_split(
            text in tricky(b"\r\r\n\n..a"),
            behind in tricky(b"\r\n.a"),
            mut cuts in prop::collection::vec(0_usize..130, 0..20),
        ) {
            cuts.sort_unstable();
            let input = [&text[..], b"\r\n.\r\n", &behind].concat();
            let (body, rest, has_bare) = obviously_decode(&input).unwrap();
            let normalized = decode(&input, &cuts, BareNewline::Normalize);
            prop_assert_eq!(normalized, (body.clone(), Some(rest.clone()), None));
            let (strict, strict_rest, flaw) = decode(&input, &cuts, BareNewline::Reject);
            prop_assert_eq!(strict_rest, Some(rest));
            prop_assert_eq!(flaw, has_bare.then_some(BodyFlaw::BareNewline));
            if !has_bare {
                prop_assert_eq!(strict, body);
            }
        }

        #[test]
        fn what_the_decoder_yields_is_canonical_even_without_an_end(
            input in tricky(b"\r\n.a\0"),
            cuts in prop::collection::vec(0_usize..60, 0..5),
        ) {
            let (body, _, _) = decode(&input, &cuts, BareNewline::Normalize);
            let rest = String::from_utf8(body).unwrap().replace("\r\n", "");
            prop_assert!(!rest.contains(['\r', '\n', '\0']));
        }

        #[test]
        fn any_content_arrives_as_it_was_and_cannot_end_the_data(
            content in tricky(b"\r\n..a"),
            cut in 0_usize..60,
        ) {
            let cut = cut.min(content.len());
            let mut encoder = Encoder::new();
            let mut wire = BytesMut::new();
            encoder.encode(&content[..cut], &mut wire);
            encoder.encode(&content[cut..], &mut wire);
            encoder.finish(&mut wire);
            for newline in [&b"\r"[..], b"\n"] {
                for ending in [&b"\r"[..], b"\n"] {
                    let fake = [newline, b".", ending].concat();
                    let found = wire.windows(3).position(|octets| octets == fake);
                    prop_assert!(found.is_none_or(|at| at + 4 == wire.len()));
                }
            }
            let is_canonical = !String::from_utf8(content.clone())
                .unwrap()
                .replace("\r\n", "")
                .contains(['\r', '\n']);
            if is_canonical {
                let (body, behind, flaw) = decode(&wire, &[], BareNewline::Reject);
                prop_assert_eq!(behind.as_deref(), Some(&b""[..]));
                prop_assert_eq!(flaw, None);
                let mut expected = content;
                if !expected.is_empty() && !expected.ends_with(b"\r\n") {
                    expected.extend_from_slice(b"\r\n");
                }
                prop_assert_eq!(body, expected);
            }
        }
    }
}
