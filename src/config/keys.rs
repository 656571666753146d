//! Every key of the configuration, in one place.
//!
//! A key that is not in [`TABLES`] is refused, and the test of the samples makes sure that each of
//! them is documented in one.

use crate::config::section::Wrong;

/// A table of the file and its keys.
struct Table {
    /// With dots: `listener.network`. Empty for the file itself.
    name: &'static str,
    /// As it is written.
    written: &'static str,
    keys: &'static [&'static str],
}

impl Table {
    /// True if it begins with a line of its own.
    fn is_header(&self) -> bool {
        self.written.starts_with('[')
    }
}

const TABLES: &[Table] = &[
    Table {
        name: "",
        written: "the file",
        keys: &["server", "listener", "credential", "account", "provider", "log"],
    },
    Table {
        name: "server",
        written: "[server]",
        keys: &["hostname", "data_dir", "certificate", "key", "confirm_within", "max_message_size"],
    },
    Table {
        name: "listener",
        written: "[[listener]]",
        keys: &["address", "tls", "auth", "plaintext_auth", "delivery", "bare_newline", "network"],
    },
    Table {
        name: "listener.network",
        written: "[[listener.network]]",
        keys: &["from", "account", "may_send_as", "may_send_to"],
    },
    Table {
        name: "credential",
        written: "[[credential]]",
        keys: &["name", "password_hash", "account", "may_send_as", "may_send_to", "delivery"],
    },
    Table {
        name: "account",
        written: "[[account]]",
        keys: &[
            "mailbox",
            "provider",
            "tenant",
            "cloud",
            "client_id",
            "client_secret",
            "signs_in_as",
            "grant",
            "sender",
            "delivery",
        ],
    },
    Table {
        name: "account.client_secret",
        written: "client_secret = { file = \"secret.txt\" }",
        keys: &["file", "env"],
    },
    Table {
        name: "provider",
        written: "[[provider]]",
        keys: &[
            "name",
            "smtp",
            "mechanism",
            "authorize_url",
            "token_url",
            "device_url",
            "revoke_url",
            "issuer",
            "scopes",
            "ca_file",
            "limits",
        ],
    },
    Table {
        name: "provider.smtp",
        written: "smtp = { host = \"smtp.example.com\", port = 587, tls = \"starttls\" }",
        keys: &["host", "port", "tls"],
    },
    Table {
        name: "provider.limits",
        written: "limits = { sessions = 3, messages_per_minute = 30, recipients_per_day = 10000 }",
        keys: &["sessions", "messages_per_minute", "recipients_per_day", "max_message_size"],
    },
    Table { name: "log", written: "[log]", keys: &["format", "level"] },
];

/// Every table (with dots, empty for the file itself) and key.
pub fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLES.iter().flat_map(|table| table.keys.iter().map(|key| (table.name, *key)))
}

/// The keys of a table.
pub(super) fn of(table: &str) -> &'static [&'static str] {
    find(table).map_or(&[], |table| table.keys)
}

/// Where a key belongs that was written into a table without it: into the table around this one,
/// to the top of the file, or into the only table that has such a key. Tables that are the value of
/// a key are left out: nobody writes their keys elsewhere by accident.
pub(super) fn home_of(key: &str, table: &str) -> Option<String> {
    let here = find(table)?;
    if let Some(parent) = table.rsplit_once('.').and_then(|(parent, _)| find(parent))
        && parent.keys.contains(&key)
        && here.is_header()
    {
        return Some(format!("it belongs into {}, above {}", parent.written, here.written));
    }
    if let Some(table) = find(key).filter(|table| table.is_header()) {
        return Some(format!("write it as a table of its own: {}", table.written));
    }
    let mut homes = TABLES.iter().filter(|table| table.keys.contains(&key));
    match (homes.next(), homes.next()) {
        (Some(home), None) if home.is_header() => Some(format!("it belongs into {}", home.written)),
        _ => None,
    }
}

fn find(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

/// How a table is written.
pub(super) fn how_to_write(table: &str) -> Wrong {
    let written = find(table).map_or("", |table| table.written);
    match written.starts_with("[[") {
        true => Wrong::new(
            "there can be several of these",
            format!("write {written}, with double brackets"),
        ),
        false => Wrong::new("has to be a table", format!("write {written}")),
    }
}
