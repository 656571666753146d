//! Secrets that cannot be printed or serialised.
//!
//! Owns [`Secret`]: passwords, tokens, codes, client secrets and keys live in it from the moment
//! they are read to the moment they are wiped. It has no `Display` and no `Serialize`, and its
//! `Debug` says only that something is there, so a leak needs a visible call to [`Secret::expose`].

use std::collections::HashSet;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// A piece of a secret of at least this length is taken out of texts; shorter ones are words.
const REDACTED_OCTETS: usize = 16;

/// A text that must never reach a log, an error, a metric or a screen. Wiped when dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text itself. Every call is a place to look at in a review.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The text without any piece of the secret that has `REDACTED_OCTETS` or more. Peers repeat
    /// what they were told, in errors above all, and put it between other words.
    pub fn redact(&self, text: &str) -> String {
        let (secret, bytes) = (self.expose().as_bytes(), text.as_bytes());
        let pieces: HashSet<_> = secret.windows(REDACTED_OCTETS).collect();
        let mut redacted = String::with_capacity(text.len());
        let (mut kept_from, mut at) = (0, 0);
        while let Some(window) = bytes.get(at..at + REDACTED_OCTETS) {
            if !pieces.contains(window) {
                at += 1;
                continue;
            }
            let mut end = at + REDACTED_OCTETS;
            while bytes.get(end + 1 - REDACTED_OCTETS..=end).is_some_and(|w| pieces.contains(w)) {
                end += 1;
            }
            // A secret of ours is ASCII, so its pieces never end within a character; if one does,
            // the rest of that character goes with it.
            while !text.is_char_boundary(end) {
                end += 1;
            }
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            redacted.push_str(&text[kept_from..at.max(kept_from)]);
            redacted.push_str("[secret]");
            (kept_from, at) = (end, end);
        }
        redacted.push_str(&text[kept_from..]);
        redacted
    }

    /// True if there is nothing to keep secret.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl PartialEq for Secret {
    /// Compares in a time that depends on the lengths only.
    fn eq(&self, other: &Self) -> bool {
        self.expose().as_bytes().ct_eq(other.expose().as_bytes()).into()
    }
}

impl Eq for Secret {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_does_not_hold_the_text() {
        let secret = Secret::new("correct horse");
        assert_eq!(format!("{secret:?}"), "[secret]");
        assert_eq!(secret, Secret::new("correct horse"));
        assert_ne!(secret, Secret::new("correct horsf"));
        assert!(Secret::new("").is_empty());
    }

    #[test]
    fn pieces_of_the_text_are_taken_out_of_what_peers_say() {
        let secret = Secret::new("eyJ0eXAiOiJKV1Qi.LCJhbGciOiJ-SUzI1NiJ9_x");
        for (said, kept) in [
            ("no echo here", "no echo here"),
            ("you sent eyJ0eXAiOiJKV1Qi.LCJhbGciOiJ-", "you sent [secret]"),
            ("(eyJ0eXAiOiJKV1Qi), twice: eyJ0eXAiOiJKV1Qi", "([secret]), twice: [secret]"),
            ("eyJ0eXA", "eyJ0eXA"),
            ("token=eyJ0eXAiOiJKV1Qi, it is", "token=[secret], it is"),
            ("äeyJ0eXAiOiJKV1Qi.LCJhbGciOiJ-ö", "ä[secret]ö"),
        ] {
            assert_eq!(secret.redact(said), kept);
        }
    }
}
