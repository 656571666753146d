//! Floor 3, ground level: sockets, TLS and certificates.
//!
//! Owns listening, dialling, the TLS of both directions and the loop-side half of a connection
//! ([`Wire`]). It never decides what is said on a connection.

mod certificate;
mod dial;
mod wire;

pub use certificate::{Certificates, CertificateError};
pub use dial::{DialError, dial};
pub use wire::{Arrival, Wire};
