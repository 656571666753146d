//! The envelope: who sends and who receives, as MAIL and RCPT said it (RFC 5321 §2.3.1).
//!
//! Owns the reverse-path, the forward-path and the parameters of both commands that this relay
//! understands. The envelope is authoritative: recipients never come from a header.

use std::fmt;

use crate::mail::{AddressError, Mailbox};

/// The argument of MAIL FROM: where notices go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ReversePath {
    /// `<>`: the message is itself a notice and must never cause another (RFC 5321 §4.5.5).
    Null,
    /// `<mailbox>`.
    Mailbox(Mailbox),
}

impl ReversePath {
    /// Reads what [`ReversePath::as_str`] wrote: an empty text is the null reverse-path.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        match text.is_empty() {
            true => Ok(Self::Null),
            false => Mailbox::parse(text).map(Self::Mailbox),
        }
    }

    /// The address, or an empty text for the null reverse-path.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Null => "",
            Self::Mailbox(mailbox) => mailbox.as_str(),
        }
    }

    /// The mailbox, if it is not the null reverse-path.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Null => None,
            Self::Mailbox(mailbox) => Some(mailbox),
        }
    }
}

impl fmt::Display for ReversePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.as_str())
    }
}

/// The argument of RCPT TO.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ForwardPath {
    /// `<mailbox>`.
    Mailbox(Mailbox),
    /// `<Postmaster>` without a domain (RFC 5321 §4.1.1.3).
    Postmaster,
}

impl ForwardPath {
    /// Reads what [`ForwardPath::as_str`] wrote.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        match text.eq_ignore_ascii_case("postmaster") {
            true => Ok(Self::Postmaster),
            false => Mailbox::parse(text).map(Self::Mailbox),
        }
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Mailbox(mailbox) => mailbox.as_str(),
            Self::Postmaster => "Postmaster",
        }
    }

    /// The mailbox, if it is not the bare postmaster.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        match self {
            Self::Mailbox(mailbox) => Some(mailbox),
            Self::Postmaster => None,
        }
    }
}

impl fmt::Display for ForwardPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.as_str())
    }
}

/// What a client declared of its body: RFC 6152.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyType {
    /// No octet above 127, as far as anybody said.
    #[default]
    SevenBit,
    /// `BODY=8BITMIME`.
    EightBitMime,
}

/// The parameters of MAIL that this relay understands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailParameters {
    /// `SIZE=`: octets that the client means to send (RFC 1870).
    pub size: Option<u64>,
    /// `BODY=` (RFC 6152).
    pub body: BodyType,
    /// `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
}

/// From whom, to whom, and what was declared of the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The argument of MAIL.
    pub reverse_path: ReversePath,
    /// The arguments of RCPT in their order; never empty once a message is accepted.
    pub forward_paths: Vec<ForwardPath>,
    /// `BODY=` of MAIL.
    pub body: BodyType,
    /// `SMTPUTF8` of MAIL.
    pub smtputf8: bool,
}

impl Envelope {
    /// True if an address cannot be written without SMTPUTF8.
    pub fn has_wide_address(&self) -> bool {
        let reverse = self.reverse_path.as_str();
        !reverse.is_ascii() || self.forward_paths.iter().any(|path| !path.as_str().is_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_read_back_what_they_write() {
        for text in ["", "a@b"] {
            assert_eq!(ReversePath::parse(text).unwrap().as_str(), text);
        }
        assert_eq!(ReversePath::Null.to_string(), "<>");
        assert_eq!(ForwardPath::parse("POSTMASTER"), Ok(ForwardPath::Postmaster));
        assert_eq!(ForwardPath::parse("a@b").unwrap().to_string(), "<a@b>");
        assert_eq!(ForwardPath::parse(""), Err(AddressError::NoDomain));
    }
}
