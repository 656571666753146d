//! Names of hosts: ours and upstream's.

use std::net::IpAddr;

use crate::config::section::Wrong;
use crate::config::source::quoted;
use crate::mail::is_host_name;

/// True for a name that may stand in EHLO: ASCII, and not an address.
pub(super) fn is_name(text: &str) -> bool {
    text.is_ascii() && is_host_name(text) && text.parse::<IpAddr>().is_err()
}

/// Our own name, or our address in brackets.
pub(super) fn own(text: &str) -> Result<String, Wrong> {
    let what = format!("{} is not a host name", quoted(text));
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => Err(Wrong::new(what, format!("write \"[{address}]\""))),
        Ok(IpAddr::V6(address)) => Err(Wrong::new(what, format!("write \"[IPv6:{address}]\""))),
        Err(_) if is_name(text) => Ok(text.to_owned()),
        Err(_) => Err(Wrong::new(what, "write a name such as \"relay.example.com\", in ASCII")),
    }
}

/// The name or the address of a host that we connect to.
pub(super) fn upstream(text: &str) -> Result<String, Wrong> {
    let is_bracketed = text.starts_with('[');
    match (is_name(text) && !is_bracketed) || text.parse::<IpAddr>().is_ok() {
        true => Ok(text.to_owned()),
        false => Err(Wrong::new(
            format!("{} is not a host name", quoted(text)),
            "write the name alone, such as \"smtp.example.com\": the port has its own key",
        )),
    }
}
