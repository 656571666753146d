//! Text from strangers, made safe to show.
//!
//! Owns [`Printable`], the only way in which bytes that a peer chose may reach a log line, an
//! error text or a terminal: control characters become escapes, and the length is bounded, so that
//! nobody can forge a line or drive a terminal.

use std::fmt;

use crate::base::limits;

/// Shows bytes as text: printable UTF-8 as it is, everything else escaped, at most
/// [`limits::PRINTABLE_LENGTH`] characters and then `…`.
pub struct Printable<'a>(pub &'a [u8]);

impl Printable<'_> {
    /// Of a text.
    pub fn text(text: &str) -> Printable<'_> {
        Printable(text.as_bytes())
    }
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = limits::PRINTABLE_LENGTH;
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if room == 0 {
                    return f.write_str("…");
                }
                room -= 1;
                match is_harmless(character) {
                    true => fmt::Write::write_char(f, character)?,
                    false => write!(f, "{}", character.escape_default())?,
                }
            }
            for byte in chunk.invalid() {
                if room == 0 {
                    return f.write_str("…");
                }
                room -= 1;
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Neither a control character nor one that turns the direction or the line of a text.
fn is_harmless(character: char) -> bool {
    !character.is_control()
        && !matches!(character, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}')
        && !matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_broken_utf8_are_escaped() {
        let cases: [(&[u8], &str); 5] = [
            (b"plain text", "plain text"),
            ("Grüße".as_bytes(), "Grüße"),
            (b"two\r\nlines\x1b[31m", "two\\r\\nlines\\u{1b}[31m"),
            (b"\xff\xfe", "\\xff\\xfe"),
            ("a\u{202e}b".as_bytes(), "a\\u{202e}b"),
        ];
        for (bytes, shown) in cases {
            assert_eq!(Printable(bytes).to_string(), shown);
        }
    }

    #[test]
    fn length_is_bounded() {
        let long = vec![b'x'; 10_000];
        let shown = Printable(&long).to_string();
        assert_eq!(shown.chars().count(), limits::PRINTABLE_LENGTH + 1);
        assert!(shown.ends_with('…'));
    }
}
