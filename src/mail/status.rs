//! What became of a recipient, with the evidence.
//!
//! Owns the six classes of an outcome and the status that goes with each: the phase, upstream's
//! code and text, or what went wrong on the way. The classes are matched exhaustively wherever they
//! are used; a seventh would not compile.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An enhanced status code, `class.subject.detail` (RFC 3463).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EnhancedCode {
    class: u8,
    subject: u16,
    detail: u16,
}

impl EnhancedCode {
    /// From its three numbers. Class is 2, 4 or 5; the others have at most three digits.
    pub const fn new(class: u8, subject: u16, detail: u16) -> Self {
        assert!(matches!(class, 2 | 4 | 5) && subject < 1_000 && detail < 1_000);
        Self { class, subject, detail }
    }

    /// The first number: 2 success, 4 for now, 5 for good.
    pub const fn class(self) -> u8 {
        self.class
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

impl FromStr for EnhancedCode {
    type Err = NotAnEnhancedCode;

    /// Exactly three numbers; anything else, two or four of them, is not a code.
    fn from_str(text: &str) -> Result<Self, NotAnEnhancedCode> {
        let mut parts = text.split('.');
        let mut number = || {
            let part = parts.next().filter(|part| (1..=3).contains(&part.len()))?;
            part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse::<u16>().ok())?
        };
        let (class, subject, detail) = (number(), number(), number());
        match (class, subject, detail, parts.next()) {
            (Some(class @ (2 | 4 | 5)), Some(subject), Some(detail), None) => {
                Ok(Self { class: class as u8, subject, detail })
            }
            _ => Err(NotAnEnhancedCode),
        }
    }
}

/// The text is not an enhanced status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an enhanced status code")]
pub struct NotAnEnhancedCode;

/// The step of a delivery at which something was said or went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Obtaining an access token.
    Token,
    /// Name look-up and TCP connection.
    Connect,
    /// TLS handshake and the check of the certificate.
    Tls,
    /// The greeting.
    Greeting,
    /// EHLO or HELO.
    Ehlo,
    /// The STARTTLS command.
    StartTls,
    /// AUTH.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA, up to its 354.
    Data,
    /// The body, up to the final dot.
    Body,
    /// After the final dot: from here on the message may have been taken.
    Final,
    /// Inside this relay: its own disk or limits.
    Local,
}

impl Phase {
    /// The name in logs, in the store and in listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Greeting => "greeting",
            Self::Ehlo => "ehlo",
            Self::StartTls => "start_tls",
            Self::Auth => "auth",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
            Self::Body => "body",
            Self::Final => "final",
            Self::Local => "local",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The evidence: where, and what was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The step.
    pub phase: Phase,
    /// Upstream's reply code, if it was a reply.
    pub code: Option<u16>,
    /// Upstream's enhanced code, if it sent one.
    #[serde(with = "enhanced_as_text")]
    pub enhanced: Option<EnhancedCode>,
    /// Upstream's text with its lines joined by a space, or what happened instead of a reply. Text
    /// of strangers: show it through [`crate::base::Printable`].
    pub text: String,
}

impl Status {
    /// Something happened on the way that was not a reply.
    pub fn event(phase: Phase, text: impl Into<String>) -> Self {
        Self { phase, code: None, enhanced: None, text: text.into() }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.code {
            write!(f, "{code} ")?;
        }
        if let Some(enhanced) = self.enhanced {
            write!(f, "{enhanced} ")?;
        }
        write!(f, "{}", crate::base::Printable::text(&self.text))
    }
}

mod enhanced_as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::EnhancedCode;

    pub(super) fn serialize<S: Serializer>(
        code: &Option<EnhancedCode>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match code {
            Some(code) => serializer.collect_str(code),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<EnhancedCode>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
    }
}

/// What an answer of upstream, or the lack of one, means for a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Upstream has taken the message for this recipient.
    Delivered,
    /// Not now: try again with back-off.
    Defer,
    /// A quota that heals by itself: wait until it does.
    Hold,
    /// The account needs a person: keep all its mail, burn no attempts.
    Suspend,
    /// This recipient or message is refused for good.
    Fail,
    /// The final dot went out and no reply came: it may have been delivered.
    Uncertain,
}

impl Class {
    /// The name in logs, in the store and in listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Defer => "defer",
            Self::Hold => "hold",
            Self::Suspend => "suspend",
            Self::Fail => "fail",
            Self::Uncertain => "uncertain",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The result of one attempt for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What it means.
    pub class: Class,
    /// Why.
    pub status: Status,
}

impl Outcome {
    /// From its two parts.
    pub fn new(class: Class, status: Status) -> Self {
        Self { class, status }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enhanced_codes_have_exactly_three_numbers() {
        for text in ["2.0.0", "4.7.500", "5.7.139"] {
            assert_eq!(text.parse::<EnhancedCode>().unwrap().to_string(), text);
        }
        for text in ["5.7", "5.7.1.2", "3.0.0", "5..1", "5.7.", "5.7.1000", "", "a.b.c", "5.+7.1"] {
            assert_eq!(text.parse::<EnhancedCode>(), Err(NotAnEnhancedCode), "{text:?}");
        }
    }

    #[test]
    fn a_status_survives_the_store() {
        let status = Status {
            phase: Phase::Final,
            code: Some(554),
            enhanced: Some(EnhancedCode::new(5, 2, 252)),
            text: "SendAsDenied".to_owned(),
        };
        let stored = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&stored).unwrap(), status);
        assert_eq!(status.to_string(), "554 5.2.252 SendAsDenied");
    }
}
