//! How a token may be obtained, and as whom.
//!
//! Owns [`Grant`], [`ClientRegistration`] and [`Endpoints`]. A further grant is a further variant
//! here, a request in `request.rs` and a line in the presets that allow it.

use std::fmt;
use std::str::FromStr;

use url::Url;

use crate::base::{Printable, Secret};

/// The way in which an account obtains its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grant {
    /// A person signs in once in a browser (RFC 6749 §4.1 with RFC 7636); a refresh token renews.
    AuthorizationCode,
    /// A person signs in once on another device with a code (RFC 8628); a refresh token renews.
    DeviceCode,
    /// The program signs in as itself with its secret (RFC 6749 §4.4); no person, no refresh token.
    ClientCredentials,
}

impl Grant {
    /// Every grant.
    pub const ALL: [Grant; 3] =
        [Self::AuthorizationCode, Self::DeviceCode, Self::ClientCredentials];

    /// The name that the configuration uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::DeviceCode => "device_code",
            Self::ClientCredentials => "client_credentials",
        }
    }

    /// True if a person has to sign in before there can be a token.
    pub const fn needs_sign_in(self) -> bool {
        match self {
            Self::AuthorizationCode | Self::DeviceCode => true,
            Self::ClientCredentials => false,
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Grant {
    type Err = UnknownGrant;

    fn from_str(text: &str) -> Result<Self, UnknownGrant> {
        Self::ALL
            .into_iter()
            .find(|grant| grant.as_str() == text)
            .ok_or_else(|| UnknownGrant { name: Printable::text(text).to_string() })
    }
}

/// There is no such grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a grant; use authorization_code, device_code or client_credentials")]
pub struct UnknownGrant {
    /// What was written.
    pub name: String,
}

/// Who we are to the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRegistration {
    /// The client id; not a secret.
    pub id: String,
    /// The client secret; a public client has none.
    pub secret: Option<Secret>,
}

/// Where the provider is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Where a person signs in; a provider without it allows no authorization code.
    pub authorize: Option<Url>,
    /// Where tokens are handed out.
    pub token: Url,
    /// Where a code for another device is asked for; a provider without it allows no device code.
    pub device: Option<Url>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grant_reads_its_own_name() {
        for grant in Grant::ALL {
            assert_eq!(grant.to_string().parse(), Ok(grant));
        }
        let unknown = "pass\x1bword".parse::<Grant>().unwrap_err();
        assert!(unknown.to_string().contains("`pass\\u{1b}word` is not a grant"));
    }

    #[test]
    fn a_registration_does_not_show_its_secret() {
        let client = ClientRegistration { id: "app".into(), secret: Some(Secret::new("marked")) };
        assert!(!format!("{client:?}").contains("marked"));
    }
}
