//! Why there is no token, for the queue and for people.
//!
//! Owns [`TokenTrouble`]. Its texts name cause and next step and never hold a secret.

use std::time::Duration;

/// Why an account has no access token. Each kind is treated differently by everybody above.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenTrouble {
    /// It will pass by itself; it is tried again.
    #[error("no access token for now: {reason}")]
    NotNow {
        /// What happened.
        reason: String,
        /// When the next try is due, if that is known.
        retry_after: Option<Duration>,
    },
    /// Somebody has to sign in. Nothing is asked of the provider until that was done.
    #[error("a person has to sign in: {reason}")]
    PersonNeeded {
        /// What happened, and the command that mends it.
        reason: String,
    },
    /// An administrator has to mend the configuration or the registration at the provider. It is
    /// tried again, but rarely.
    #[error("the token endpoint refuses the configuration: {reason}")]
    Misconfigured {
        /// What happened, and what to compare.
        reason: String,
    },
}

impl TokenTrouble {
    /// The name of the kind in the log.
    pub(super) fn event(&self) -> &'static str {
        match self {
            Self::NotNow { .. } => "not_now",
            Self::PersonNeeded { .. } => "person_needed",
            Self::Misconfigured { .. } => "misconfigured",
        }
    }
}
