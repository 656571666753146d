//! Secrets that cannot be printed or serialised.
//!
//! Owns [`Secret`]: passwords, tokens, codes, client secrets and keys live in it from the moment
//! they are read to the moment they are wiped. It has no `Display` and no `Serialize`, and its
//! `Debug` says only that something is there, so a leak needs a visible call to [`Secret::expose`].

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

    /// The text with every word that is a piece of the secret replaced. Peers repeat what they were
    /// told, in errors above all.
    pub fn redact(&self, text: &str) -> String {
        let may_be_in_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
        let mut redacted = String::with_capacity(text.len());
        for word in text.split_inclusive(|c| !may_be_in_token(c)) {
            let bare = word.trim_end_matches(|c| !may_be_in_token(c));
            let is_piece = bare.len() >= REDACTED_OCTETS && self.expose().contains(bare);
            redacted.push_str(if is_piece { "[secret]" } else { bare });
            redacted.push_str(&word[bare.len()..]);
        }
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
        ] {
            assert_eq!(secret.redact(said), kept);
        }
    }
}
