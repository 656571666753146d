//! The certificate that listeners show.
//!
//! Owns reading certificate and key from PEM files, making a self-signed pair on first start, and
//! reading the files again when they change. It never weakens TLS: 1.2 and 1.3 only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// How often, at most, the files are looked at. A renewed certificate is shown within this time.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Life of a self-signed certificate, in days: what Apple's systems still accept is 825; devices
/// that pin a certificate by hand want it to last.
const SELF_SIGNED_DAYS: i64 = 3_650;

/// The current TLS configuration of a listener.
///
/// Each listener has one of its own, so that a session ticket from one is worth nothing on another.
pub struct Certificates {
    files: Files,
    current: Mutex<Current>,
}

#[derive(Clone, Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

struct Current {
    config: Arc<ServerConfig>,
    stamps: Stamps,
    /// The files as they were when they could not be read.
    refused: Option<Stamps>,
    looked_at: Instant,
}

type Stamps = (Option<SystemTime>, Option<SystemTime>);

impl Certificates {
    /// From PEM files: the chain with the leaf first, and its private key.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        // Stamps first: a change during the reading is then seen the next time.
        let stamps = files.stamps();
        let config = files.read()?;
        let current =
            Mutex::new(Current { config, stamps, refused: None, looked_at: Instant::now() });
        Ok(Self { files, current })
    }

    /// From `directory/certificate.pem` and `directory/key.pem`, which are made on first use for
    /// `hostname`, localhost and the loopback addresses.
    pub fn self_signed(directory: &Path, hostname: &str) -> Result<Self, CertificateError> {
        let files = Files {
            certificate: directory.join("certificate.pem"),
            key: directory.join("key.pem"),
        };
        if !files.certificate.exists() || !files.key.exists() {
            files.generate(directory, hostname)?;
        }
        Self::from_files(&files.certificate, &files.key)
    }

    /// The configuration for the next handshake. If the files have changed they are read again; if
    /// they cannot be read, the last good pair stays in use and the fault is logged.
    pub fn current(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if current.looked_at.elapsed() >= LOOK_AGAIN {
            current.looked_at = Instant::now();
            let stamps = self.files.stamps();
            if stamps != current.stamps {
                match self.files.read() {
                    Ok(config) => {
                        current.stamps = stamps;
                        current.refused = None;
                        let path = self.files.certificate.display();
                        tracing::info!(event = "certificate_reloaded", %path);
                        current.config = config;
                    }
                    // Tried again until it can be read; said once for each change.
                    Err(_) if current.refused == Some(stamps) => {}
                    Err(error) => {
                        current.refused = Some(stamps);
                        tracing::warn!(event = "certificate_not_reloaded", %error, "the last good certificate stays in use");
                    }
                }
            }
        }
        current.config.clone()
    }
}

impl Files {
    fn stamps(&self) -> Stamps {
        let stamp = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
        (stamp(&self.certificate), stamp(&self.key))
    }

    fn read(&self) -> Result<Arc<ServerConfig>, CertificateError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source: rustls_pki_types::pem::Error| CertificateError::Unreadable {
                path,
                what: source.to_string(),
            }
        };
        let chain = CertificateDer::pem_file_iter(&self.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(unreadable(&self.certificate))?;
        if chain.is_empty() {
            return Err(CertificateError::Unreadable {
                path: self.certificate.clone(),
                what: "there is no certificate in it".to_owned(),
            });
        }
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(unreadable(&self.key))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|source| CertificateError::Mismatch {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
                source,
            })?;
        // Tickets that TLS 1.3 sends at once reach old clients in the middle of a reply; nobody
        // resumes a session with a relay on the same network.
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn generate(&self, directory: &Path, hostname: &str) -> Result<(), CertificateError> {
        let failed = |path: &Path, source: io::Error| CertificateError::Unwritable {
            path: path.to_owned(),
            source,
        };
        let mut names = vec![hostname.to_owned(), "localhost".to_owned()];
        names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
        names.dedup();
        let pair = self_signed_pair(names).map_err(|source| CertificateError::Generate {
            hostname: hostname.to_owned(),
            source,
        })?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| failed(directory, source))?;
        write_new(&self.key, 0o600, pair.1.as_bytes()).map_err(|e| failed(&self.key, e))?;
        write_new(&self.certificate, 0o644, pair.0.as_bytes())
            .map_err(|e| failed(&self.certificate, e))
    }
}

/// Certificate and key as PEM.
fn self_signed_pair(names: Vec<String>) -> Result<(String, String), rcgen::Error> {
    let mut parameters = rcgen::CertificateParams::new(names)?;
    let mut name = rcgen::DistinguishedName::new();
    name.push(rcgen::DnType::CommonName, "mailbearer");
    parameters.distinguished_name = name;
    // rcgen's default dates span millennia, which some clients cannot read.
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let day = |date: jiff::civil::Date| {
        rcgen::date_time_ymd(date.year().into(), date.month() as u8, date.day() as u8)
    };
    let first = now.date().saturating_sub(jiff::Span::new().days(1));
    parameters.not_before = day(first);
    parameters.not_after = day(first.saturating_add(jiff::Span::new().days(SELF_SIGNED_DAYS)));
    let key = rcgen::KeyPair::generate()?;
    Ok((parameters.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Writes through a temporary name, so that a half-written file is never read.
fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file is missing, not readable or not PEM.
    #[error("cannot read {}: {what}; name a PEM file that this user may read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The key does not belong to the certificate, or is of a kind that TLS cannot use.
    #[error(
        "the key {} does not fit the certificate {}: {source}; write both files anew from one \
         request",
        key.display(), certificate.display()
    )]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What the TLS library said.
        source: rustls::Error,
    },
    /// The self-signed pair could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No certificate can be made for this name.
    #[error("cannot make a certificate for `{hostname}`: {source}; check server.hostname")]
    Generate {
        /// The name.
        hostname: String,
        /// What the generator said.
        source: rcgen::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_made_once_and_read_again_when_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let tls = directory.path().join("tls");
        let first = Certificates::self_signed(&tls, "relay.example").unwrap();
        let made = fs::read(tls.join("certificate.pem")).unwrap();
        let _again = Certificates::self_signed(&tls, "relay.example").unwrap();
        assert_eq!(fs::read(tls.join("certificate.pem")).unwrap(), made);

        let before = first.current();
        let other = directory.path().join("other");
        let _other = Certificates::self_signed(&other, "new.example").unwrap();
        for file in ["certificate.pem", "key.pem"] {
            fs::copy(other.join(file), tls.join(file)).unwrap();
        }
        let mut current = first.current.lock().unwrap();
        current.looked_at -= LOOK_AGAIN;
        current.stamps = (None, None);
        drop(current);
        assert!(!Arc::ptr_eq(&before, &first.current()));
    }

    #[test]
    fn the_key_is_private_and_a_foreign_key_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        for path in [&one, &two] {
            let _pair = Certificates::self_signed(path, "relay.example").unwrap();
        }
        let mode = fs::metadata(one.join("key.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let mixed = Certificates::from_files(&one.join("certificate.pem"), &two.join("key.pem"));
        assert!(matches!(mixed, Err(CertificateError::Mismatch { .. })));
        let missing = Certificates::from_files(&one.join("none.pem"), &two.join("key.pem"));
        assert!(matches!(missing, Err(CertificateError::Unreadable { .. })));
    }
}
