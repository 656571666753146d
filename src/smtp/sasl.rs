//! SASL as a server sees it: PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), inside the
//! AUTH command of RFC 4954.
//!
//! Owns [`Mechanism`] and [`Exchange`]. An exchange is made afresh for every AUTH and ends in
//! credentials or in a fault; it never judges credentials. Base64 is read strictly, except that old
//! clients may leave its padding away.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::base::{Secret, limits};

/// What is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// One response: authorization identity, name and password.
    Plain,
    /// A prompt for the name and a prompt for the password.
    Login,
}

impl Mechanism {
    /// Reads the name of a mechanism, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            _ if name.eq_ignore_ascii_case("PLAIN") => Some(Self::Plain),
            _ if name.eq_ignore_ascii_case("LOGIN") => Some(Self::Login),
            _ => None,
        }
    }
}

/// `Username:`. Some devices compare the text, so it has to be exactly this.
const USERNAME_PROMPT: &str = "VXNlcm5hbWU6";

/// `Password:`, likewise.
const PASSWORD_PROMPT: &str = "UGFzc3dvcmQ6";

/// An exchange that waits for a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange(Awaits);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Awaits {
    PlainResponse,
    LoginName,
    LoginPassword { name: String },
}

/// Where an exchange is after a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaslStep {
    /// Send `334` with this text, which is already base64, and wait for a response.
    Challenge(Exchange, &'static str),
    /// The exchange is complete.
    Credentials {
        /// The user name: not empty, without control characters, at most
        /// [`limits::USER_NAME_OCTETS`].
        name: String,
        /// The password.
        password: Secret,
    },
    /// The exchange has failed.
    Fault(SaslFault),
}

/// Why an exchange has failed before any credentials could be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaslFault {
    /// The client wants to act as somebody else than it logs in as.
    #[error("the authorization identity has to be empty or equal to the user name")]
    AuthorizationIdentity,
    /// The client sent `*`.
    #[error("the login was cancelled")]
    Cancelled,
    /// The response is not base64.
    #[error("the response is not valid base64")]
    NotBase64,
    /// PLAIN needs three fields with NUL between them, and a password holds no NUL.
    #[error("the response does not have the fields that the mechanism wants")]
    Fields,
    /// The name is empty, too long, not UTF-8, or holds a control character.
    #[error("the user name is empty, too long, or has a character that is not allowed")]
    UserName,
}

impl Exchange {
    /// Begins an exchange. The initial response is what stood on the AUTH line, if anything did.
    pub fn begin(mechanism: Mechanism, initial_response: Option<&Secret>) -> SaslStep {
        let (exchange, prompt) = match mechanism {
            Mechanism::Plain => (Self(Awaits::PlainResponse), ""),
            Mechanism::Login => (Self(Awaits::LoginName), USERNAME_PROMPT),
        };
        match initial_response.map(Secret::expose) {
            None => SaslStep::Challenge(exchange, prompt),
            // RFC 4954 §4: an initial response that is there, but empty.
            Some("=") => exchange.take(&[]),
            Some(text) => exchange.respond(text.as_bytes()),
        }
    }

    /// Takes a response, given without its line end.
    pub fn respond(self, line: &[u8]) -> SaslStep {
        if line == b"*" {
            return SaslStep::Fault(SaslFault::Cancelled);
        }
        match BASE64.decode(line).map(Zeroizing::new) {
            Ok(octets) => self.take(&octets),
            Err(_) => SaslStep::Fault(SaslFault::NotBase64),
        }
    }

    fn take(self, response: &[u8]) -> SaslStep {
        let step = match self.0 {
            Awaits::PlainResponse => plain(response),
            Awaits::LoginName => user_name(response).map(|name| {
                SaslStep::Challenge(Self(Awaits::LoginPassword { name }), PASSWORD_PROMPT)
            }),
            Awaits::LoginPassword { name } => {
                password(response).map(|password| SaslStep::Credentials { name, password })
            }
        };
        step.unwrap_or_else(SaslStep::Fault)
    }
}

/// Standard alphabet; padding may be missing, everything else may not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn plain(response: &[u8]) -> Result<SaslStep, SaslFault> {
    let mut fields = response.splitn(3, |&octet| octet == 0);
    let (Some(identity), Some(name), Some(secret)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err(SaslFault::Fields);
    };
    if !identity.is_empty() && identity != name {
        return Err(SaslFault::AuthorizationIdentity);
    }
    Ok(SaslStep::Credentials { name: user_name(name)?, password: password(secret)? })
}

fn user_name(octets: &[u8]) -> Result<String, SaslFault> {
    let name = std::str::from_utf8(octets).map_err(|_| SaslFault::UserName)?;
    let is_good =
        (1..=limits::USER_NAME_OCTETS).contains(&name.len()) && !name.chars().any(char::is_control);
    is_good.then(|| name.to_owned()).ok_or(SaslFault::UserName)
}

/// A password may hold anything but NUL. Old devices know no UTF-8: what is none is Latin-1.
fn password(octets: &[u8]) -> Result<Secret, SaslFault> {
    if octets.contains(&0) {
        return Err(SaslFault::Fields);
    }
    Ok(match std::str::from_utf8(octets) {
        Ok(text) => Secret::new(text),
        Err(_) => Secret::new(octets.iter().map(|&octet| char::from(octet)).collect::<String>()),
    })
}
