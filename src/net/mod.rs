//! Floor 3, ground level: sockets, TLS and certificates.
//!
//! Owns dialling, the TLS of both directions, the driver's half of a connection ([`Wire`]), and the
//! HTTP client for token endpoints. It never decides what is said on a connection.

mod certificate;
mod dial;
mod http;
mod trust;
mod wire;

pub use certificate::{CertificateError, Certificates};
pub use dial::{DialError, dial};
pub use http::{HttpAnswer, HttpClient, HttpFault, HttpPatience, HttpSetupError};
pub use trust::TlsSetupError;
pub(crate) use trust::{client_config, pinned_config};
pub use wire::{Arrival, Wire};
