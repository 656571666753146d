//! Broken configurations and exactly what is said about them.
//!
//! Each folder of `tests/bad_configs/` has a `config.toml`, the `expected` text, and the files that
//! the configuration names. `UPDATE_EXPECTED=1` writes what is said now; read the difference before
//! you commit it. Every secret in these folders is spelled `hunter2`, and no text may hold it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use mailbearer::config;

#[test]
fn every_broken_configuration_is_refused_in_the_expected_words() {
    let update = std::env::var_os("UPDATE_EXPECTED").is_some();
    let cases = cases();
    assert!(cases.len() >= 60, "the broken configurations are gone: {}", cases.len());
    let mut differing = String::new();
    for case in &cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let said = said(case);
        assert!(!said.contains("hunter2"), "{name} repeats a secret:\n{said}");
        let expected = case.join("expected");
        if update {
            fs::write(&expected, &said).unwrap();
        }
        let expected = fs::read_to_string(&expected).unwrap_or_default();
        if said != expected {
            writeln!(differing, "--- {name}\n{}", difference(&expected, &said)).unwrap();
        }
    }
    assert!(differing.is_empty(), "what is said differs (- expected, + said):\n{differing}");
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_configs");
    let mut cases: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// What is said about a case. It is copied first, since version control keeps no file modes: files
/// are for their owner alone unless their name says who else may read them.
fn said(case: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(case).unwrap() {
        let from = entry.unwrap().path();
        let to = folder.path().join(from.file_name().unwrap());
        fs::copy(&from, &to).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let name = to.file_name().unwrap().to_string_lossy();
            let mode = match name {
                name if name.starts_with("world-readable") => 0o644,
                name if name.starts_with("group-readable") => 0o640,
                _ => 0o600,
            };
            fs::set_permissions(&to, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
    let said = match config::load(&folder.path().join("config.toml")) {
        Ok(config) => format!("taken:\n{config:#?}"),
        Err(mistakes) => mistakes.to_string(),
    };
    format!("{said}\n").replace(&format!("{}/", folder.path().display()), "")
}

/// Lines that are in one text and not in the other, in their order.
fn difference(expected: &str, said: &str) -> String {
    let only = |these: &str, those: &str, sign: char| -> String {
        let is_new = |line: &&str| !those.lines().any(|other| other == *line);
        these.lines().filter(is_new).map(|line| format!("{sign} {line}\n")).collect()
    };
    match only(expected, said, '-') + &only(said, expected, '+') {
        same if same.is_empty() => "the same lines in another order or number\n".to_owned(),
        lines => lines,
    }
}
