//! The SASL mechanisms that carry a token.
//!
//! Owns [`Mechanism`]. Which one a provider wants is data of the provider.

use std::fmt;

use crate::base::Secret;
use crate::oauth::{SaslError, oauthbearer, xoauth2};

/// How a token is presented to a mail server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mechanism {
    /// XOAUTH2: Google's, and the one that all known providers speak.
    #[default]
    Xoauth2,
    /// OAUTHBEARER: RFC 7628.
    OauthBearer,
}

impl Mechanism {
    /// Every mechanism, by its name in the configuration.
    pub const NAMES: [(&str, Mechanism); 2] =
        [("xoauth2", Self::Xoauth2), ("oauthbearer", Self::OauthBearer)];

    /// The name in the AUTH command.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Xoauth2 => "XOAUTH2",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }

    /// The whole response in base64, for the server at `host` and `port`.
    pub fn response(
        self,
        user: &str,
        token: &Secret,
        host: &str,
        port: u16,
    ) -> Result<Secret, SaslError> {
        match self {
            Self::Xoauth2 => xoauth2(user, token),
            Self::OauthBearer => oauthbearer(user, token, host, port),
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
