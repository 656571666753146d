//! Connecting to a named host.
//!
//! Owns the order in which a host's addresses are tried and how long. It never speaks.

use std::io;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::base::limits;
use crate::net::Wire;

/// Time that one of several addresses gets before the next one is tried.
const PER_ADDRESS: Duration = Duration::from_secs(10);

/// Connects to the first address of `host` that answers.
pub async fn dial(host: &str, port: u16) -> Result<Wire, DialError> {
    let fault = |source| DialError { host: host.to_owned(), port, source };
    let attempt = async {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in lookup_host((host, port)).await? {
            match timeout(PER_ADDRESS, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(Wire::new(stream)),
                Ok(Err(error)) => last = error,
                Err(late) => last = late.into(),
            }
        }
        Err(last)
    };
    match timeout(limits::CLIENT_CONNECT, attempt).await {
        Ok(result) => result.map_err(fault),
        Err(late) => Err(fault(late.into())),
    }
}

/// No address of the host could be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to {host}:{port}: {source}")]
pub struct DialError {
    /// The name that was looked up.
    pub host: String,
    /// The port.
    pub port: u16,
    /// What the last address said.
    pub source: io::Error,
}
