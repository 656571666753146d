//! Secrets at rest: sealed with XChaCha20-Poly1305.
//!
//! Owns the key file `seal.key` (32 bytes, 0600, never inside the database) and the form of a sealed
//! value: format version (1 byte), key id (8), nonce (24, random), ciphertext with its tag (16 more
//! than the secret). Associated data: the 9 bytes of the header, then account, field and version of
//! the record, each with its length in front, so that a value opens only where it was put.
//!
//! Invariant: what cannot be opened is an error that says why, never "there is no secret".
//! Source: draft-irtf-cfrg-xchacha-03.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use ring::digest;
use zeroize::{Zeroize, Zeroizing};

use crate::base::Secret;
use crate::store::StoreError;
use crate::store::directory::{self, DataDir, Kind};

/// The form of a sealed value that we write.
const FORMAT: u8 = 1;

/// Bytes of the key.
const KEY_BYTES: usize = 32;

/// Bytes of a key's id.
const KEY_ID_BYTES: usize = 8;

/// Bytes of a nonce: large enough to be random without a count.
const NONCE_BYTES: usize = 24;

/// Bytes before the nonce.
const HEADER_BYTES: usize = 1 + KEY_ID_BYTES;

/// Bytes of the tag behind the ciphertext.
const TAG_BYTES: usize = 16;

/// Where a sealed value belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The account.
    pub(super) account: &'a str,
    /// The column.
    pub(super) field: &'static str,
    /// The version of the record.
    pub(super) version: u64,
}

/// Seals and opens secrets with the one key of a data directory.
pub(super) struct Sealer {
    cipher: XChaCha20Poly1305,
    key_id: [u8; KEY_ID_BYTES],
    key_file: PathBuf,
}

impl Sealer {
    /// Reads the key, or makes one if there is none.
    pub(super) fn open(directory: &DataDir) -> Result<Self, StoreError> {
        let key_file = directory.seal_key();
        let key = match read_key(&key_file)? {
            Some(key) => key,
            None => {
                make_key(directory)?;
                read_key(&key_file)?.ok_or_else(|| {
                    let gone = io::Error::from(io::ErrorKind::NotFound);
                    StoreError::from_io("reading", &key_file, &gone)
                })?
            }
        };
        let mut digest = digest::Context::new(&digest::SHA256);
        digest.update(b"mailbearer key id\0");
        digest.update(&key[..]);
        let mut key_id = [0; KEY_ID_BYTES];
        key_id.copy_from_slice(&digest.finish().as_ref()[..KEY_ID_BYTES]);
        Ok(Self { cipher: XChaCha20Poly1305::new((&*key).into()), key_id, key_file })
    }

    /// Seals a secret for one place.
    pub(super) fn seal(&self, secret: &Secret, place: Place<'_>) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|error| StoreError::Misuse {
            what: format!("the operating system has no random numbers: {error}"),
        })?;
        let mut sealed =
            Vec::with_capacity(HEADER_BYTES + NONCE_BYTES + secret.expose().len() + TAG_BYTES);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&self.key_id);
        let aad = associated_data(&sealed, place);
        let payload = Payload { msg: secret.expose().as_bytes(), aad: &aad };
        let ciphertext =
            self.cipher.encrypt(&XNonce::from(nonce), payload).map_err(|_| StoreError::Misuse {
                what: format!("the {} of {} is too long to be sealed", place.field, place.account),
            })?;
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        Ok(sealed)
    }

    /// Opens what was sealed for this place.
    pub(super) fn unseal(&self, sealed: &[u8], place: Place<'_>) -> Result<Secret, StoreError> {
        let damaged = |why: &str| StoreError::Damaged {
            what: format!("the sealed {} of {} {why}", place.field, place.account),
            remedy: format!("run `mailbearer login {}`", place.account),
        };
        let Some((header, rest)) = sealed.split_at_checked(HEADER_BYTES) else {
            return Err(damaged("is cut short"));
        };
        if header[0] != FORMAT {
            return Err(damaged("has a form that this version of mailbearer does not know"));
        }
        if header[1..] != self.key_id {
            return Err(StoreError::WrongKey {
                what: format!("the {} of {}", place.field, place.account),
                sealed_with: hexadecimal(&header[1..]),
                present: hexadecimal(&self.key_id),
                path: self.key_file.clone(),
            });
        }
        let Some((nonce, ciphertext)) = rest.split_first_chunk::<NONCE_BYTES>() else {
            return Err(damaged("is cut short"));
        };
        let aad = associated_data(header, place);
        let payload = Payload { msg: ciphertext, aad: &aad };
        let plain = self
            .cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| damaged("was changed, or put where it does not belong"))?;
        String::from_utf8(plain).map(Secret::new).map_err(|error| {
            error.into_bytes().zeroize();
            damaged("is not a text")
        })
    }
}

/// Length-prefixed, so that no two places have the same bytes.
fn associated_data(header: &[u8], place: Place<'_>) -> Vec<u8> {
    let mut aad = header.to_vec();
    for part in [place.account.as_bytes(), place.field.as_bytes(), &place.version.to_be_bytes()] {
        aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
        aad.extend_from_slice(part);
    }
    aad
}

fn read_key(path: &std::path::Path) -> Result<Option<Zeroizing<[u8; KEY_BYTES]>>, StoreError> {
    let opened = OpenOptions::new().read(true).custom_flags(directory::no_follow()).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::from_io("opening", path, &error)),
    };
    directory::check(path, Kind::File)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
    file.take(KEY_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| StoreError::from_io("reading", path, &error))?;
    match <[u8; KEY_BYTES]>::try_from(&bytes[..]) {
        Ok(key) => Ok(Some(Zeroizing::new(key))),
        Err(_) => Err(StoreError::Damaged {
            what: format!("{} is not a key of {KEY_BYTES} bytes", path.display()),
            remedy: "move the file away and run `mailbearer login` for every account".to_owned(),
        }),
    }
}

/// Makes the key file in one step: written and synced under another name (0600, never through a
/// link), then renamed unless somebody else was faster. The folder has to be synced before a secret
/// is sealed ([`DataDir::sync`]).
fn make_key(directory: &DataDir) -> Result<(), StoreError> {
    let path = directory.seal_key();
    let failed = |doing| {
        let path = path.clone();
        move |error: io::Error| StoreError::from_io(doing, &path, &error)
    };
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(&mut *key).map_err(|error| StoreError::Misuse {
        what: format!("the operating system has no random numbers: {error}"),
    })?;
    let mut file = tempfile::Builder::new()
        .prefix(".seal.key.")
        .tempfile_in(directory.path())
        .map_err(failed("creating"))?;
    file.write_all(&*key).map_err(failed("writing"))?;
    file.as_file().sync_all().map_err(failed("syncing"))?;
    match file.persist_noclobber(&path) {
        Ok(_) => Ok(()),
        Err(lost) if lost.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(lost) => Err(failed("creating")(lost.error)),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    const PLACE: Place<'_> = Place { account: "a@example.com", field: "refresh_token", version: 3 };

    fn sealer(root: &tempfile::TempDir, name: &str) -> Sealer {
        Sealer::open(&DataDir::open(&root.path().join(name)).unwrap()).unwrap()
    }

    #[test]
    fn a_secret_opens_where_it_was_sealed_and_nowhere_else() {
        let root = tempfile::tempdir().unwrap();
        let secret = Secret::new("0.AVUA-refresh");
        let sealed = sealer(&root, "data").seal(&secret, PLACE).unwrap();
        // Another sealer on the same folder reads the same key.
        let sealer = sealer(&root, "data");
        assert_eq!(sealer.unseal(&sealed, PLACE).unwrap(), secret);
        let needle = secret.expose().as_bytes();
        assert!(!sealed.windows(needle.len()).any(|window| window == needle));
        assert_ne!(sealed, sealer.seal(&secret, PLACE).unwrap(), "the nonce must be fresh");
        for place in [
            Place { account: "b@example.com", ..PLACE },
            Place { field: "access_token", ..PLACE },
            Place { version: 2, ..PLACE },
        ] {
            let error = sealer.unseal(&sealed, place).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        }
    }

    #[test]
    fn every_damaged_byte_and_every_cut_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        let sealer = sealer(&root, "data");
        let sealed = sealer.seal(&Secret::new("refresh"), PLACE).unwrap();
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            let error = sealer.unseal(&damaged, PLACE).unwrap_err();
            match at {
                1..HEADER_BYTES => assert!(matches!(error, StoreError::WrongKey { .. }), "{error}"),
                _ => assert!(matches!(error, StoreError::Damaged { .. }), "{error}"),
            }
            assert!(sealer.unseal(&sealed[..at], PLACE).is_err());
        }
    }

    #[test]
    fn another_key_is_named_as_the_reason() {
        let root = tempfile::tempdir().unwrap();
        let sealed = sealer(&root, "one").seal(&Secret::new("refresh"), PLACE).unwrap();
        let error = sealer(&root, "two").unseal(&sealed, PLACE).unwrap_err();
        assert!(matches!(error, StoreError::WrongKey { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("a@example.com") && text.contains("seal.key"), "{text}");
        assert!(!text.contains("refresh\""), "{text}");
    }

    #[test]
    fn the_key_file_is_ours_alone_and_whole_or_refused() {
        let root = tempfile::tempdir().unwrap();
        drop(sealer(&root, "data"));
        let directory = DataDir::open(&root.path().join("data")).unwrap();
        let path = directory.seal_key();
        let found = fs::metadata(&path).unwrap();
        assert_eq!((found.mode() & 0o7777, found.len()), (0o600, 32));
        let left = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 2, "seal.key and tmp, and no temporary key");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = Sealer::open(&directory).err().unwrap();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for length in [0, 31, 33] {
            fs::write(&path, vec![7; length]).unwrap();
            let error = Sealer::open(&directory).err().unwrap();
            assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        }
    }
}
