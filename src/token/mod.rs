//! Floor 3: an access token for every account, at any time, as long as that is possible at all.
//!
//! Owns [`TokenManager`], which obtains, keeps and renews tokens, [`Consent`], the sign-in of a
//! person, [`DeviceConsent`], the same on another device, and what else begins and ends a grant:
//! [`import_grant`], [`log_out`]. It never sends mail, never decides what happens to mail without a
//! token, and no text of its errors or log lines holds a secret. Sources: RFC 6749, 7636, 8252,
//! 8628, 9700.
//!
//! Invariants:
//! 1. One request in flight per account: callers in this process wait for each other, other
//!    processes on the same store are kept out by a lease and noticed by the grant's version.
//! 2. A token is stored before it is handed out, with the refresh token that came with it.
//! 3. Only `invalid_grant` and `interaction_required` retire a refresh token, and even then it stays
//!    in the store. An answer for a grant that was replaced meanwhile is dropped.
//! 4. An endpoint that gives no token is asked at most once per step of the back-off; one that wants
//!    a person is not asked at all until somebody has signed in.
//! 5. A grant is used only with the configuration that it was obtained with, and stored only if the
//!    person who was to sign in did, as far as the provider says who it was.
//! 6. A token that may still be used is handed out whatever the endpoint says.

mod binding;
mod consent;
mod device;
mod identity;
mod import;
mod logout;
mod loopback;
mod manager;
mod pace;
mod slot;
mod trouble;

use crate::base::{Secret, Timestamp};

pub use binding::changed_since;
pub use consent::{Consent, ConsentError, Consented};
pub use device::{DeviceConsent, DevicePace};
pub use import::import_grant;
pub use logout::{Revocation, log_out};
pub use manager::{TokenManager, TokenSetupError};
pub use pace::TokenPace;
pub use trouble::TokenTrouble;

/// What is presented to upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// The token.
    pub secret: Secret,
    /// Which of the account's tokens this is; every newer one has a higher number.
    pub generation: u64,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
}

/// How an account stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenState {
    /// Of the token that may be used now, if there is one.
    pub generation: Option<u64>,
    /// When that token ends.
    pub expires_at: Option<Timestamp>,
    /// When the newest token was obtained.
    pub obtained_at: Option<Timestamp>,
    /// The address of whoever signed in, if the provider said so.
    pub obtained_by: Option<String>,
    /// What keeps the token from being renewed.
    pub trouble: Option<TokenTrouble>,
}
