//! Our registration with a provider.

use crate::base::Secret;

/// The id, and the secret if there is one, under which a provider knows this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRegistration {
    /// The client id.
    pub id: String,
    /// The client secret of a confidential client.
    pub secret: Option<Secret>,
}
