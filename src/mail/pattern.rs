//! Patterns of addresses, as an administrator writes them: `*`, `*@contoso.com`, `a@b`.
//!
//! Owns [`AddressPattern`]. A `*` stands for any run of characters; everything else is compared
//! without regard to case. Matching takes time in proportion to pattern times text and no memory.

use std::fmt;

/// Matches addresses.
#[derive(Clone, PartialEq, Eq)]
pub struct AddressPattern(String);

impl AddressPattern {
    /// Matches everything.
    pub fn any() -> Self {
        Self("*".to_owned())
    }

    /// Reads a pattern: `*`, or something with an `@` that may hold stars.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let fits = text == "*" || (text.len() <= 320 && text.matches('@').count() == 1);
        let is_clean = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
        match fits && is_clean {
            true => Ok(Self(text.to_lowercase())),
            false => Err(PatternError),
        }
    }

    /// True if the address fits the pattern.
    pub fn matches(&self, address: &str) -> bool {
        matches(self.0.as_bytes(), address.to_lowercase().as_bytes())
    }
}

/// Greedy matching with one point of return: the last star.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(byte) if *byte == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match last_star {
                Some((star, from)) => {
                    last_star = Some((star, from + 1));
                    p = star + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not a pattern of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a pattern of addresses: write \"*\", \"*@contoso.com\" or \"name@contoso.com\"")]
pub struct PatternError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_run() {
        for (pattern, address, expected) in [
            ("*", "a@b", true),
            ("*@contoso.com", "Scanner@CONTOSO.com", true),
            ("*@contoso.com", "a@evil.example", false),
            ("*@contoso.com", "a@contoso.com.evil.example", false),
            ("scan*@*.contoso.com", "scanner@eu.contoso.com", true),
            ("scan*@*.contoso.com", "printer@eu.contoso.com", false),
            ("a@b", "a@b", true),
            ("a@b", "aa@b", false),
        ] {
            let parsed = AddressPattern::parse(pattern).unwrap();
            assert_eq!(parsed.matches(address), expected, "{pattern} on {address}");
        }
    }

    #[test]
    fn texts_that_are_no_patterns() {
        for text in ["", "contoso.com", "a b@c", "a@b@c", "**"] {
            assert_eq!(AddressPattern::parse(text), Err(PatternError), "{text:?}");
        }
    }
}
