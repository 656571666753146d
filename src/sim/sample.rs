//! Configuration text that points a relay at a simulated provider.
//!
//! Owns the tables of DESIGN §5 as text; what is in them follows from the options.

use std::fmt::Write as _;
use std::path::Path;

use crate::sim::Shared;
use crate::sim::authority::SERVER_NAME;

/// The name of the provider for accounts that a person consents to.
pub const PROVIDER: &str = "sim";

/// The name of the provider for accounts of an application.
pub const APP_PROVIDER: &str = "sim-app";

/// A `[[provider]]` table; `pages` are where a person signs in, here and on another device.
pub(super) fn provider(
    shared: &Shared,
    name: &str,
    port: u16,
    pages: Option<(&str, &str)>,
    token_url: &str,
    scopes: &[&str],
    ca_file: &Path,
) -> String {
    let limits = shared.options.limits;
    // What the simulation does not limit is given as more than a test reaches, within what the
    // configuration takes.
    let shown = |limit: usize, most: usize| limit.min(most);
    let mut text = format!("[[provider]]\nname = {}\n", quoted(name));
    let _ = writeln!(
        text,
        "smtp = {{ host = {}, port = {port}, tls = \"starttls\" }}",
        quoted(SERVER_NAME)
    );
    if let Some((authorize_url, device_url)) = pages {
        let _ = writeln!(text, "authorize_url = {}", quoted(authorize_url));
        let _ = writeln!(text, "device_url = {}", quoted(device_url));
    }
    let _ = writeln!(text, "token_url = {}", quoted(token_url));
    let scopes: Vec<_> = scopes.iter().map(|scope| quoted(scope)).collect();
    let _ = writeln!(text, "scopes = [{}]", scopes.join(", "));
    let _ = writeln!(text, "ca_file = {}", quoted(&ca_file.to_string_lossy()));
    let _ = writeln!(
        text,
        "limits = {{ sessions = {}, messages_per_minute = {}, recipients_per_day = {} }}",
        shown(limits.sessions, 30),
        shown(limits.messages_per_minute, 1_000_000),
        shown(limits.recipients_per_day, 1_000_000_000),
    );
    text
}

/// An `[[account]]` table.
pub(super) fn account(
    mailbox: &str,
    provider: &str,
    client_id: &str,
    client_secret_file: Option<&Path>,
    grant: &str,
) -> String {
    let mut text = format!(
        "[[account]]\nmailbox = {}\nprovider = {}\nclient_id = {}\n",
        quoted(mailbox),
        quoted(provider),
        quoted(client_id)
    );
    if let Some(file) = client_secret_file {
        let file = quoted(&file.to_string_lossy());
        let _ = writeln!(text, "client_secret = {{ file = {file} }}");
    }
    let _ = writeln!(text, "grant = {}", quoted(grant));
    text
}

/// A TOML basic string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_survive_toml() {
        for text in ["plain", "C:\\path \"x\"", "a\tb\u{7f}", "grüße"] {
            let table: toml::Table = format!("x = {}", quoted(text)).parse().unwrap();
            assert_eq!(table["x"].as_str(), Some(text));
        }
    }

    #[test]
    fn an_account_is_a_table() {
        let file = Path::new("/tmp/secret");
        let text = account("a@b", APP_PROVIDER, "id", Some(file), "client_credentials");
        let table: toml::Table = text.parse().unwrap();
        let account = table["account"][0].as_table().unwrap();
        assert_eq!(account["client_secret"]["file"].as_str(), Some("/tmp/secret"));
        assert_eq!(account["provider"].as_str(), Some("sim-app"));
    }
}
