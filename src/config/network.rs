//! Networks of IP addresses, as an administrator writes them: `192.168.10.0/24`, `fd00::/8`, `::1`.
//!
//! Owns [`IpNetwork`]. Invariant: no bit behind the prefix is set. IPv4 addresses that arrive in
//! IPv6 clothes (`::ffff:192.0.2.1`, RFC 4291 §2.5.5.2), as they do on a dual-stack listener, are
//! IPv4 addresses here, in networks and in clients alike.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Bits that IPv4-mapped IPv6 addresses put before the IPv4 address.
const MAPPED_BITS: u8 = 96;

/// An IP network in CIDR notation (RFC 4632 §3.1, RFC 4291 §2.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct IpNetwork {
    address: IpAddr,
    prefix: u8,
}

impl IpNetwork {
    /// Reads `address/prefix`, or an address alone for the network that holds only it.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let written_bits = if written.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => written_bits,
            Some(digits) if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) => {
                return Err(NetworkError::Prefix { bits: written_bits });
            }
            Some(digits) => digits
                .parse()
                .ok()
                .filter(|prefix| *prefix <= written_bits)
                .ok_or(NetworkError::Prefix { bits: written_bits })?,
        };
        let (address, prefix) = match written.to_canonical() {
            canonical if canonical.is_ipv4() == written.is_ipv4() => (written, prefix),
            mapped if prefix >= MAPPED_BITS => (mapped, prefix - MAPPED_BITS),
            _ => (written, prefix),
        };
        let network = Self { address: masked(address, prefix), prefix };
        match network.address == address {
            true => Ok(network),
            false => Err(NetworkError::HostBits { network }),
        }
    }

    /// True if the address lies in the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }

    /// How narrow the network is, if it contains the address: bits of its prefix.
    pub(crate) fn width_for(&self, address: IpAddr) -> Option<u8> {
        self.contains(address).then_some(self.prefix)
    }

    /// The first address.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Bits of the prefix: 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }
}

/// The address with every bit behind the prefix cleared.
fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for IpNetwork {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        Self::parse(text)
    }
}

/// Why a text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// What stands before the `/` is not an IP address.
    #[error("not an IP address")]
    Address,
    /// What stands behind the `/` is not a number of bits.
    #[error("the part behind the / has to be a number from 0 to {bits}")]
    Prefix {
        /// Bits of an address of that family.
        bits: u8,
    },
    /// The address names a host in the network instead of the network.
    #[error("the address has bits behind its prefix; the network is {network}")]
    HostBits {
        /// What was probably meant.
        network: IpNetwork,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn networks_contain_what_they_say() {
        for (network, client, expected) in [
            ("192.168.10.0/24", "192.168.10.255", true),
            ("192.168.10.0/24", "192.168.11.0", false),
            ("192.168.10.0/24", "::ffff:192.168.10.7", true),
            ("::ffff:192.168.10.0/120", "192.168.10.7", true),
            ("::ffff:192.168.10.0/120", "::ffff:192.168.11.7", false),
            ("10.1.2.3", "10.1.2.3", true),
            ("10.1.2.3", "10.1.2.4", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::1", "::1", true),
            ("::1", "0.0.0.1", false),
            ("::/0", "2001:db8::1", true),
            ("::/0", "192.0.2.1", false),
            ("::/0", "::ffff:192.0.2.1", false),
            ("::/64", "::ffff:192.0.2.1", false),
            ("0.0.0.0/0", "192.0.2.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
        ] {
            let network = IpNetwork::parse(network).unwrap();
            assert_eq!(network.contains(client.parse().unwrap()), expected, "{network} {client}");
        }
    }

    #[test]
    fn texts_that_are_not_networks() {
        for (text, why) in [
            ("", NetworkError::Address),
            ("contoso.com", NetworkError::Address),
            ("192.168.10/24", NetworkError::Address),
            ("192.168.10.0/", NetworkError::Prefix { bits: 32 }),
            ("192.168.10.0/33", NetworkError::Prefix { bits: 32 }),
            ("192.168.10.0/+8", NetworkError::Prefix { bits: 32 }),
            ("192.168.10.0/255.255.255.0", NetworkError::Prefix { bits: 32 }),
            ("fd00::/129", NetworkError::Prefix { bits: 128 }),
            ("fd00::/999", NetworkError::Prefix { bits: 128 }),
        ] {
            assert_eq!(IpNetwork::parse(text), Err(why), "{text:?}");
        }
        let Err(NetworkError::HostBits { network }) = IpNetwork::parse("192.168.10.7/24") else {
            panic!("host bits were taken");
        };
        assert_eq!(network.to_string(), "192.168.10.0/24");
    }

    proptest! {
        #[test]
        fn every_network_reads_back_and_holds_its_own_address(bits: u128, prefix in 0u8..=128, is_v4: bool) {
            let (address, prefix) = match is_v4 {
                true => (IpAddr::V4(Ipv4Addr::from_bits(bits as u32)), prefix % 33),
                false => (IpAddr::V6(Ipv6Addr::from_bits(bits)), prefix),
            };
            let network = match IpNetwork::parse(&format!("{address}/{prefix}")) {
                Ok(network) | Err(NetworkError::HostBits { network }) => network,
                Err(why) => panic!("{address}/{prefix}: {why}"),
            };
            prop_assert_eq!(IpNetwork::parse(&network.to_string()), Ok(network));
            prop_assert!(network.contains(address));
        }
    }
}
