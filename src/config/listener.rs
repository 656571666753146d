//! `[[listener]]` and its networks.
//!
//! Here an open relay is refused: whoever is served without authentication belongs to a network
//! that was named, and that network is not the internet.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use crate::config::BareNewline;
use crate::config::account::{AccountNames, DELIVERIES};
use crate::config::credential::permissions;
use crate::config::model::{AuthPolicy, Listener, ListenerTls, Network};
use crate::config::network::{IpNetwork, NetworkError};
use crate::config::section::{Field, Section, Wrong};
use crate::config::source::quoted;

pub(super) fn listener(
    section: &Section<'_, '_>,
    accounts: &AccountNames,
    taken: &mut Vec<SocketAddr>,
) -> Option<Listener> {
    let address = section.text("address", address);
    let address = section.required("address", address, "write address = \"127.0.0.1:2525\"");
    let tls = section.choice(
        "tls",
        &[
            ("off", ListenerTls::Off),
            ("starttls", ListenerTls::StartTls),
            ("require", ListenerTls::Require),
            ("implicit", ListenerTls::Implicit),
        ],
    );
    let auth = section.choice(
        "auth",
        &[
            ("required", AuthPolicy::Required),
            ("optional", AuthPolicy::Optional),
            ("off", AuthPolicy::Off),
        ],
    );
    let plaintext_auth = section.flag("plaintext_auth");
    let delivery = section.choice("delivery", DELIVERIES);
    let bare_newline = section.choice(
        "bare_newline",
        &[("normalize", BareNewline::Normalize), ("reject", BareNewline::Reject)],
    );
    let networks = networks(section, accounts);
    if let Some(address) = address {
        refuse_taken(section, address, taken);
    }
    let (tls, auth) = (tls.or_default(), auth.or_default());
    if let Some(auth) = auth {
        refuse_unnamed_clients(section, auth);
    }
    let plaintext_auth = plaintext(section, address?, tls?, auth?, plaintext_auth);
    Some(Listener {
        address: address?,
        tls: tls?,
        auth: auth?,
        plaintext_auth: plaintext_auth?,
        networks: networks?,
        delivery: delivery.optional()?,
        bare_newline: bare_newline.or_default()?,
    })
}

fn address(text: &str) -> Result<SocketAddr, Wrong> {
    let what = format!("{} is not an IP address with a port", quoted(text));
    let remedy = match (text.parse::<IpAddr>(), text.rsplit_once(':')) {
        (Ok(IpAddr::V4(address)), _) => format!("write \"{address}:2525\""),
        (Ok(IpAddr::V6(address)), _) => format!("write \"[{address}]:2525\""),
        (_, Some(("localhost", port))) => format!("write \"127.0.0.1:{port}\""),
        (_, Some(("" | "*", port))) => format!("write \"0.0.0.0:{port}\" for all addresses"),
        _ => "write \"127.0.0.1:2525\", or \"0.0.0.0:2525\" for all addresses".to_owned(),
    };
    text.parse().map_err(|_| Wrong::new(what, remedy))
}

/// Two listeners cannot share an address; one for all addresses takes each of them.
fn refuse_taken(section: &Section<'_, '_>, address: SocketAddr, taken: &mut Vec<SocketAddr>) {
    let is_same = |other: &&SocketAddr| {
        let is_all = other.ip().is_unspecified() || address.ip().is_unspecified();
        other.port() == address.port()
            && address.port() != 0
            && other.is_ipv4() == address.is_ipv4()
            && (other.ip() == address.ip() || is_all)
    };
    if let Some(other) = taken.iter().find(is_same) {
        let what = match *other == address {
            true => format!("another listener has {address} already"),
            false => format!("another listener has {other} already, and so this port"),
        };
        section.mistake("address", Wrong::new(what, "write another port, or remove one of them"));
    }
    taken.push(address);
}

/// Without authentication only the clients of named networks are served.
fn refuse_unnamed_clients(section: &Section<'_, '_>, auth: AuthPolicy) {
    let what = match auth {
        AuthPolicy::Required => return,
        AuthPolicy::Optional => "clients need not authenticate here, and no network says which",
        AuthPolicy::Off => "clients cannot authenticate here, and no network says which are served",
    };
    if section.is_empty("network") {
        let remedy = "write auth = \"required\", or name them below:\n\
                      [[listener.network]]\n\
                      from = [\"192.168.10.0/24\"]\n\
                      account = \"scanner@example.com\"";
        section.mistake("auth", Wrong::new(what, remedy));
    }
}

/// Whether passwords are taken without TLS: only where that was said, or on loopback.
fn plaintext(
    section: &Section<'_, '_>,
    address: SocketAddr,
    tls: ListenerTls,
    auth: AuthPolicy,
    written: Field<bool>,
) -> Option<bool> {
    let refuse = |what: &str, remedy: &str| {
        section.mistake("plaintext_auth", Wrong::new(what, remedy));
        None
    };
    let may_be_plain = match tls {
        ListenerTls::Off | ListenerTls::StartTls => true,
        ListenerTls::Require | ListenerTls::Implicit => false,
    };
    let written = written.optional()?;
    if written == Some(true) && auth == AuthPolicy::Off {
        return refuse("there is no AUTH here (auth = \"off\")", "remove one of the two");
    }
    if written == Some(true) && !may_be_plain {
        return refuse("there is no AUTH without TLS here (see tls)", "remove one of the two");
    }
    if auth == AuthPolicy::Off || !may_be_plain {
        return Some(false);
    }
    let is_plain = written.unwrap_or(address.ip().to_canonical().is_loopback());
    if !is_plain && tls == ListenerTls::Off {
        return match written {
            Some(_) => refuse(
                "without TLS and without plaintext AUTH nobody can authenticate here",
                "write tls = \"starttls\", or auth = \"off\" with networks",
            ),
            None => {
                let what = "passwords would cross the network in plaintext";
                let remedy = "write tls = \"starttls\", or plaintext_auth = true if the clients \
                              cannot do TLS and the network is yours";
                section.mistake("tls", Wrong::new(what, remedy));
                None
            }
        };
    }
    Some(is_plain)
}

fn networks(section: &Section<'_, '_>, accounts: &AccountNames) -> Option<Vec<Network>> {
    let mut seen = HashSet::new();
    let tables = section.tables("network");
    let networks: Vec<_> =
        tables.iter().filter_map(|table| network(table, accounts, &mut seen)).collect();
    (networks.len() == tables.len()).then_some(networks)
}

fn network(
    section: &Section<'_, '_>,
    accounts: &AccountNames,
    seen: &mut HashSet<IpNetwork>,
) -> Option<Network> {
    let from = section.list("from", "[\"192.168.10.0/24\"]", |text| {
        let network = private_network(text)?;
        match seen.insert(network) {
            true => Ok(network),
            false => Err(Wrong::new(
                format!("{} is listed twice in this listener", quoted(text)),
                "remove one: a client can use only one account without authentication",
            )),
        }
    });
    let from = section.required("from", from, "write from = [\"192.168.10.0/24\"]");
    let account = accounts.required(section);
    let permissions = permissions(section, account.as_ref());
    let from = from?;
    if from.is_empty() {
        section.mistake("from", Wrong::new("is empty", "write from = [\"192.168.10.0/24\"]"));
        return None;
    }
    let (may_send_as, may_send_to) = permissions?;
    Some(Network { from, account: account?, may_send_as, may_send_to })
}

/// A network that is not too wide to be anybody's own.
fn private_network(text: &str) -> Result<IpNetwork, Wrong> {
    let network = IpNetwork::parse(text).map_err(|why| {
        let remedy = match why {
            NetworkError::HostBits { network } => {
                let host = text.split_once('/').map_or(text, |(host, _)| host);
                format!("write \"{network}\" for the network, or \"{host}\" for the one address")
            }
            _ => "write a network such as \"192.168.10.0/24\", or one address".to_owned(),
        };
        Wrong::new(format!("{}: {why}", quoted(text)), remedy)
    })?;
    let remedy = "name the networks of your own clients, such as \"192.168.10.0/24\"";
    if network.prefix() == 0 {
        let what = format!("{} is everybody: this would be an open relay", quoted(text));
        return Err(Wrong::new(what, remedy));
    }
    match network.prefix() >= narrowest_needed(network.address()) {
        true => Ok(network),
        false => {
            let what = format!("{} is too wide: this would be nearly an open relay", quoted(text));
            Err(Wrong::new(what, remedy))
        }
    }
}

/// Bits that a network's prefix has to have: 8 for IPv4, since 10.0.0.0/8 is somebody's own. In
/// IPv6 one's own are fc00::/7 (RFC 4193) and fe80::/10 (RFC 4291); elsewhere no network of
/// anybody is wider than what a registry hands out.
fn narrowest_needed(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 8,
        IpAddr::V6(v6) if v6.is_unique_local() => 7,
        IpAddr::V6(v6) if v6.is_unicast_link_local() => 10,
        IpAddr::V6(_) => 16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_ones_own_pass_and_the_internet_does_not() {
        for (text, passes) in [
            ("10.0.0.0/8", true),
            ("192.168.0.0/16", true),
            ("127.0.0.1", true),
            ("fc00::/7", true),
            ("fe80::/10", true),
            ("2001:db8::/32", true),
            ("0.0.0.0/0", false),
            ("::/0", false),
            ("0.0.0.0/1", false),
            ("128.0.0.0/1", false),
            ("8.0.0.0/7", false),
            ("2000::/3", false),
            ("2600::/12", false),
            ("fc00::/6", false),
            ("::ffff:0.0.0.0/96", false),
            ("::ffff:0:0/97", false),
            ("::ffff:10.0.0.0/104", true),
        ] {
            assert_eq!(private_network(text).is_ok(), passes, "{text}");
        }
    }
}
