//! Files that the configuration names: certificates, keys and secrets.
//!
//! Nothing here repeats what a file holds.

use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::base::{Printable, Secret, limits};
use crate::config::section::Wrong;

/// A PEM file with at least one certificate.
pub(super) fn certificates(path: PathBuf) -> Result<PathBuf, Wrong> {
    let (text, _) = read(&path, limits::PEM_FILE_BYTES)?;
    match has_label(&text, "CERTIFICATE") {
        true => Ok(path),
        false => Err(Wrong::new(
            format!("there is no certificate in {}", shown(&path)),
            "name a PEM file that holds -----BEGIN CERTIFICATE-----",
        )),
    }
}

/// A PEM file with a private key that not everybody may read. A group may: distributions let
/// daemons share keys that way (Debian's `ssl-cert`).
pub(super) fn private_key(path: PathBuf) -> Result<PathBuf, Wrong> {
    let (text, metadata) = read(&path, limits::PEM_FILE_BYTES)?;
    let is_key = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"]
        .iter()
        .any(|label| has_label(&text, label));
    if !is_key {
        return Err(Wrong::new(
            format!("there is no private key in {}", shown(&path)),
            "name a PEM file that holds -----BEGIN PRIVATE KEY-----, without a passphrase",
        ));
    }
    refuse_mode(&path, &metadata, 0o007, 0o640)?;
    Ok(path)
}

/// The secret in a file that only its owner may read: its text without the line end behind it.
pub(super) fn secret(path: &Path) -> Result<Secret, Wrong> {
    let (bytes, metadata) = read(path, limits::SECRET_FILE_BYTES)?;
    refuse_mode(path, &metadata, 0o077, 0o600)?;
    let text = Secret::new(String::from_utf8(bytes).map_err(|_| {
        Wrong::new(
            format!("{} is not a text in UTF-8", shown(path)),
            "write the secret alone into it",
        )
    })?);
    // Editors put a byte order mark before a text and a line end behind it.
    let bare = text.expose().trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']);
    usable_secret(bare).map_err(|what| {
        Wrong::new(format!("{} {what}", shown(path)), "write the secret alone into it, on one line")
    })
}

/// A secret as it may be sent, or what is wrong with it.
pub(super) fn usable_secret(text: &str) -> Result<Secret, &'static str> {
    match text {
        "" => Err("is empty"),
        text if text.chars().any(char::is_control) => {
            Err("holds a control character or several lines")
        }
        text if text.trim() != text => Err("begins or ends with a space"),
        text => Ok(Secret::new(text)),
    }
}

/// The first `limit` bytes of a regular file, and what the system says of it.
fn read(path: &Path, limit: u64) -> Result<(Vec<u8>, Metadata), Wrong> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(Wrong::new(
            format!("{} is not a file", shown(path)),
            "name a file; relative paths begin in the folder of the configuration",
        ));
    }
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    // Of the opened file: the name may lead elsewhere by now.
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreadable(path, &error))?;
    match bytes.len() as u64 > limit {
        true => Err(Wrong::new(
            format!("{} has more than {limit} bytes", shown(path)),
            "name the right file",
        )),
        false => Ok((bytes, metadata)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Wrong {
    let shown = shown(path);
    match error.kind() {
        io::ErrorKind::NotFound => Wrong::new(
            format!("there is no file {shown}"),
            "create it; relative paths begin in the folder of the configuration",
        ),
        io::ErrorKind::PermissionDenied => Wrong::new(
            format!("{shown} may not be read by this user"),
            "make the user that runs mailbearer its owner: chown USER FILE",
        ),
        _ => Wrong::new(format!("{shown} cannot be read: {error}"), "name a file that can be read"),
    }
}

#[cfg(unix)]
fn refuse_mode(path: &Path, metadata: &Metadata, forbidden: u32, right: u32) -> Result<(), Wrong> {
    use std::os::unix::fs::PermissionsExt;

    let mode = metadata.permissions().mode() & 0o7777;
    match mode & forbidden {
        0 => Ok(()),
        _ => Err(Wrong::new(
            format!("others may read or change {} (mode {mode:04o})", shown(path)),
            format!("chmod {right:o} {}", for_shell(path)),
        )),
    }
}

#[cfg(not(unix))]
fn refuse_mode(_: &Path, _: &Metadata, _: u32, _: u32) -> Result<(), Wrong> {
    Ok(())
}

fn has_label(bytes: &[u8], label: &str) -> bool {
    let line = format!("-----BEGIN {label}-----");
    bytes.windows(line.len()).any(|window| window == line.as_bytes())
}

fn shown(path: &Path) -> String {
    Printable::text(&path.to_string_lossy()).to_string()
}

/// The path as a shell takes it.
fn for_shell(path: &Path) -> String {
    let text = shown(path);
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@%=:,".contains(c));
    match is_plain {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(folder: &Path, content: &[u8], mode: u32) -> PathBuf {
        let path = folder.join("the secret.txt");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_secret_is_the_text_without_what_an_editor_adds() {
        let folder = tempfile::tempdir().unwrap();
        for content in ["s3~cr.et", "s3~cr.et\n", "s3~cr.et\r\n", "\u{feff}s3~cr.et\r\n"] {
            for mode in [0o600, 0o400] {
                let path = file(folder.path(), content.as_bytes(), mode);
                assert_eq!(secret(&path).unwrap(), Secret::new("s3~cr.et"), "{content:?}");
                fs::remove_file(path).unwrap();
            }
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_command() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o644, 0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o660] {
            let path = file(folder.path(), b"s3cret", mode);
            let wrong = secret(&path).unwrap_err();
            assert!(wrong.what.ends_with(&format!("(mode {mode:04o})")), "{}", wrong.what);
            assert_eq!(wrong.remedy, format!("chmod 600 '{}'", path.display()));
        }
    }

    #[test]
    fn contents_that_are_no_secret_are_refused_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        for content in [
            &b""[..],
            b"\n",
            b"marked\nmarked\n",
            b" marked",
            b"marked \n",
            b"mar\0ked",
            b"marked\xff",
            &[b'x'; 9_000],
        ] {
            let path = file(folder.path(), content, 0o600);
            let wrong = secret(&path).unwrap_err();
            assert!(
                !wrong.what.contains("marked") && !wrong.what.contains("xxx"),
                "{}",
                wrong.what
            );
        }
        assert!(secret(folder.path()).unwrap_err().what.ends_with("is not a file"));
        assert!(secret(Path::new("/dev/zero")).unwrap_err().what.ends_with("is not a file"));
    }

    #[test]
    fn a_key_may_be_shared_with_a_group_but_not_with_everybody() {
        let folder = tempfile::tempdir().unwrap();
        let pem = b"-----BEGIN PRIVATE KEY-----\n";
        assert!(private_key(file(folder.path(), pem, 0o640)).is_ok());
        assert!(private_key(file(folder.path(), pem, 0o644)).is_err());
        assert!(private_key(file(folder.path(), b"-----BEGIN CERTIFICATE-----", 0o600)).is_err());
    }
}
