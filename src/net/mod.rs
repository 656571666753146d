//! Floor 3: sockets and TLS.

mod http;
mod trust;

pub use http::{HttpAnswer, HttpClient, HttpFault, HttpPatience, HttpSetupError};
pub use trust::TlsSetupError;
pub(crate) use trust::client_config;
