//! From the text of a file to a [`Config`], or to every mistake in it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use toml::de::DeTable;

use crate::base::limits;
use crate::config::account::{AccountNames, account};
use crate::config::credential::credential;
use crate::config::listener::listener;
use crate::config::mistake::{ConfigMistakes, Mistake};
use crate::config::model::{Account, Config, Credential, Listener};
use crate::config::provider::OwnProviders;
use crate::config::section::{Reader, Section, Wrong};
use crate::config::server::{log, server};
use crate::config::surroundings::Surroundings;
use crate::config::syntax;

/// The least that a listener needs.
const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:2525\"";

/// The least that an account needs.
const ACCOUNT: &str =
    "[[account]]\nmailbox = \"scanner@example.com\"\nprovider = \"office365\"\nclient_id = \"…\"";

/// Reads and checks a configuration file.
pub fn load(path: &Path) -> Result<Config, ConfigMistakes> {
    let text = read(path).map_err(|wrong| {
        let mistake = Mistake {
            position: None,
            key: String::new(),
            what: wrong.what,
            remedy: wrong.remedy,
            excerpt: None,
        };
        ConfigMistakes::new(path, vec![mistake])
    })?;
    parse(&text, path)
}

/// Checks the text of a configuration file. `file` names it in mistakes, and its folder is where
/// relative paths begin. Reads the files and variables that the text names, and changes nothing.
pub fn parse(text: &str, file: &Path) -> Result<Config, ConfigMistakes> {
    parse_in(text, file, &Surroundings::real())
}

pub(super) fn parse_in(
    text: &str,
    file: &Path,
    surroundings: &Surroundings<'_>,
) -> Result<Config, ConfigMistakes> {
    let reader = Reader::new(text, file, surroundings);
    match (decode(text, &reader), reader.count()) {
        (Some(config), 0) => Ok(config),
        _ => Err(ConfigMistakes::new(file, reader.into_mistakes())),
    }
}

fn decode<'t>(text: &'t str, reader: &Reader<'t>) -> Option<Config> {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        // What the parser made of the rest would only lead astray.
        syntax::mistakes(reader, &errors);
        return None;
    }
    let root = Section::root(reader, table.get_ref());
    let server = root.table_or_empty("server").and_then(|section| server(&section));
    let own = OwnProviders::read(&root.tables("provider"));
    let mut names = AccountNames::default();
    let accounts: Vec<_> = (root.tables("account").into_iter())
        .filter_map(|section| Some((account(&section, &own, &mut names)?, section)))
        .collect();
    let before = reader.count();
    let mut addresses = Vec::new();
    let listeners: Vec<_> = (root.tables("listener").iter())
        .filter_map(|section| listener(section, &names, &mut addresses))
        .collect();
    let listeners_are_right = reader.count() == before && !listeners.is_empty();
    let mut taken = Vec::new();
    let credentials: Vec<_> = (root.tables("credential").into_iter())
        .filter_map(|section| Some((credential(&section, &names, &mut taken)?, section)))
        .collect();
    let log = root.table_or_empty("log").and_then(|section| log(&section));
    for (key, remedy) in [("listener", LISTENER), ("account", ACCOUNT)] {
        if root.is_empty(key) {
            root.mistake(key, Wrong::new("is missing", format!("write at least one:\n{remedy}")));
        }
    }
    if listeners_are_right && !listeners.iter().any(Listener::offers_auth) {
        refuse_useless(&listeners, &accounts, &credentials);
    }
    Some(Config {
        server: server?,
        listeners,
        credentials: credentials.into_iter().map(|(credential, _)| credential).collect(),
        accounts: accounts.into_iter().map(|(account, _)| Arc::new(account)).collect(),
        log: log?,
    })
}

/// Where no listener offers AUTH, no credential can be presented, neither one of this file nor one
/// of the store: then credentials are useless, and so is an account that no network uses. Where one
/// does, the store may hold a credential for any account, which this file cannot know.
fn refuse_useless(
    listeners: &[Listener],
    accounts: &[(Account, Section<'_, '_>)],
    credentials: &[(Credential, Section<'_, '_>)],
) {
    for (_, section) in credentials {
        section.mistake_here(Wrong::new(
            "no listener takes a password: auth is \"off\" everywhere",
            "remove the credential, or write auth = \"required\" in a [[listener]]",
        ));
    }
    let networks = listeners.iter().flat_map(|listener| &listener.networks);
    for (account, section) in accounts {
        let name = &account.name;
        if !networks.clone().any(|network| network.account == *name) {
            section.mistake_here(Wrong::new(
                format!("nobody may use the account {name}: no listener takes a password, and no network names it"),
                format!("name it in a [[listener.network]]: account = \"{name}\""),
            ));
        }
    }
}

fn read(path: &Path) -> Result<String, Wrong> {
    let wrong = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => {
                "name the configuration file; the folder config/ of the source has samples"
            }
            io::ErrorKind::PermissionDenied => "run this as the user that may read it",
            _ => "name a file that can be read",
        };
        Wrong::new(format!("the file cannot be read: {error}"), remedy)
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(wrong)?;
    file.take(limits::CONFIG_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(wrong)?;
    if bytes.len() as u64 > limits::CONFIG_FILE_BYTES {
        let what = format!("the file has more than {} bytes", limits::CONFIG_FILE_BYTES);
        return Err(Wrong::new(what, "name the configuration file"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Wrong::new(format!("line {line} is not text in UTF-8"), "save the file as UTF-8")
    })
}
