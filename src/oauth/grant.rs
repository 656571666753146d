//! How a token is obtained.

use std::fmt;

/// The ways to a token that this program knows (RFC 6749 §1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Grant {
    /// A person signs in once in a browser (RFC 6749 §4.1 with PKCE, RFC 7636); from then on the
    /// refresh token renews.
    AuthorizationCode,
    /// The application signs in as itself with its secret (RFC 6749 §4.4).
    ClientCredentials,
}

impl Grant {
    /// The name in the configuration and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AuthorizationCode => "authorization_code",
            Self::ClientCredentials => "client_credentials",
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
