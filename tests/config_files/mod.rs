//! The samples of `config/` and the files that they name.

use std::fs;
use std::path::{Path, PathBuf};

/// The files that samples name, as an administrator would make them.
const FILES: [(&str, &str, u32); 4] = [
    ("client-secret.txt", "s3cret\n", 0o600),
    ("relay.pem", "-----BEGIN CERTIFICATE-----\n", 0o644),
    ("relay.key", "-----BEGIN PRIVATE KEY-----\n", 0o600),
    ("lab-ca.pem", "-----BEGIN CERTIFICATE-----\n", 0o644),
];

/// Every sample with its text.
pub fn samples() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut samples: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    samples.sort();
    assert!(samples.len() >= 5, "the samples are gone: {samples:?}");
    samples
}

/// A folder with the files that samples name.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content, mode) in FILES {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        #[cfg(not(unix))]
        let _ = mode;
    }
    folder
}

/// The sample with all its optional keys: `#key = …` becomes `key = …`.
pub fn with_optional_keys(text: &str) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => format!("{rest}\n"),
        _ => format!("{line}\n"),
    };
    text.lines().map(line).collect()
}
