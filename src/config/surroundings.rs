//! What a configuration depends on beside its own text and files.

use std::ffi::OsString;

use crate::config::host;

/// The environment and the name of the machine, as values, so that tests own them.
pub(super) struct Surroundings<'a> {
    /// Looks a variable of the environment up.
    pub(super) variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The machine's host name, if it has one that may be written into EHLO.
    pub(super) host_name: Option<String>,
}

impl Surroundings<'_> {
    /// Those of this process.
    pub(super) fn real() -> Self {
        Self { variable: &|name| std::env::var_os(name), host_name: machine_name() }
    }
}

#[cfg(unix)]
fn machine_name() -> Option<String> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_str().ok()?;
    host::is_name(name).then(|| name.to_owned())
}

#[cfg(not(unix))]
fn machine_name() -> Option<String> {
    std::env::var("COMPUTERNAME").ok().filter(|name| host::is_name(name))
}
