//! Floor 1: OAuth 2.0 as values.

mod grant;
mod registration;

pub use grant::Grant;
pub use registration::ClientRegistration;
