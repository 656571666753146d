//! Every sample in `config/` is a complete configuration, its optional keys are right as well, and
//! together the samples show every key that there is.

mod config_files;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use mailbearer::config::{self, Config};

use config_files::{folder, samples, with_optional_keys};

fn check(path: &Path, text: &str, folder: &Path) -> Config {
    let file = folder.join(path.file_name().unwrap());
    config::parse(text, &file).unwrap_or_else(|mistakes| panic!("{}:\n{mistakes}", path.display()))
}

#[test]
fn every_sample_is_a_configuration() {
    let folder = folder();
    for (path, text) in samples() {
        let config = check(&path, &text, folder.path());
        assert_eq!(config.accounts_left_to_the_store().count(), 0, "{}", path.display());
    }
}

#[test]
fn the_optional_keys_of_every_sample_are_right() {
    let folder = folder();
    for (path, text) in samples() {
        // The environment belongs to the whole process, so no test sets a variable.
        let is_variable = |line: &&str| line.starts_with("#client_secret = { env");
        let text: String = text
            .lines()
            .filter(|line| !is_variable(line))
            .map(|line| format!("{line}\n"))
            .collect();
        check(&path, &with_optional_keys(&text), folder.path());
    }
}

#[test]
fn optional_keys_are_shown_with_their_defaults() {
    let folder = folder();
    let (path, text) =
        samples().into_iter().find(|(path, _)| path.ends_with("config/office365.toml")).unwrap();
    let plain = check(&path, &text, folder.path());
    let full = check(&path, &with_optional_keys(&text), folder.path());
    // These have no default that could be shown.
    let mut expected = plain;
    expected.server.hostname = full.server.hostname.clone();
    expected.server.certificate = full.server.certificate.clone();
    expected.listeners[1].delivery = full.listeners[1].delivery;
    Arc::make_mut(&mut expected.accounts[0]).signs_in_as = full.accounts[0].signs_in_as.clone();
    expected.credentials[0].delivery = full.credentials[0].delivery;
    assert_eq!(full, expected);
    assert!(full.server.certificate.is_some());
    assert!(full.accounts[0].signs_in_as.is_some());
}

#[test]
fn every_key_is_shown_in_a_sample() {
    let mut shown = BTreeSet::new();
    for (_, text) in samples() {
        collect(&with_optional_keys(&text).parse().unwrap(), "", &mut shown);
    }
    let known: BTreeSet<_> =
        config::keys().map(|(table, key)| (table.to_owned(), key.to_owned())).collect();
    assert_eq!(shown, known);
}

fn collect(table: &toml::Table, name: &str, shown: &mut BTreeSet<(String, String)>) {
    for (key, value) in table {
        shown.insert((name.to_owned(), key.clone()));
        let inner = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
        let tables: Vec<_> = match value {
            toml::Value::Table(table) => vec![table],
            toml::Value::Array(array) => array.iter().filter_map(toml::Value::as_table).collect(),
            _ => Vec::new(),
        };
        for table in tables {
            collect(table, &inner, shown);
        }
    }
}
