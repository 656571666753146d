//! Connecting to a named host.
//!
//! Owns the order in which a host's addresses are tried and how long. It never speaks.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::base::limits;
use crate::net::Wire;

/// Connects to the first address of `host` that answers. The families take turns, so that a broken
/// IPv6 never hides a working IPv4.
pub async fn dial(host: &str, port: u16) -> Result<Wire, DialError> {
    let fault = |source| DialError { host: host.to_owned(), port, source };
    let attempt = async {
        let addresses = in_turns(lookup_host((host, port)).await?);
        let patience = limits::CLIENT_CONNECT / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        let patience = patience.max(limits::CLIENT_CONNECT_ONE);
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match timeout(patience, TcpStream::connect(address)).await {
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

/// The addresses with the families in turns, the system's first choice first.
fn in_turns(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let addresses: Vec<_> = addresses.collect();
    let starts_with_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == starts_with_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = Vec::new();
    loop {
        match (first.next(), second.next()) {
            (None, None) => return turns,
            (one, other) => turns.extend(one.into_iter().chain(other)),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_take_turns() {
        let parse = |texts: &[&str]| -> Vec<SocketAddr> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let (a, b, c) = ("[2001:db8::1]:25", "[2001:db8::2]:25", "[2001:db8::3]:25");
        let (x, y) = ("192.0.2.1:25", "192.0.2.2:25");
        assert_eq!(in_turns(parse(&[a, b, c, x]).into_iter()), parse(&[a, x, b, c]));
        assert_eq!(in_turns(parse(&[x, y, a]).into_iter()), parse(&[x, a, y]));
        assert_eq!(in_turns(parse(&[]).into_iter()), parse(&[]));
    }
}
