//! `certs/make` makes what a listener can show and a verifying client takes.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use mailbearer::net::Certificates;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

fn make(folder: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("certs/make");
    let made = Command::new(script)
        .args([folder.to_str().unwrap(), "relay.contoso.local", "192.168.10.2"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// True if a client that trusts only `ca.pem` agrees on TLS with a listener of that name.
async fn is_trusted_as(folder: &Path, name: &str) -> bool {
    let files = [folder.join("certificate.pem"), folder.join("key.pem")];
    let certificates = Certificates::from_files(&files[0], &files[1]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _ = TlsAcceptor::from(certificates.current()).accept(stream).await;
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    server.await.unwrap();
    connected.is_ok()
}

#[tokio::test]
async fn a_made_certificate_is_trusted_by_its_names_and_can_be_renewed() {
    let folder = tempfile::tempdir().unwrap();
    make(folder.path());
    let authority = std::fs::read(folder.path().join("ca.pem")).unwrap();
    let first = std::fs::read(folder.path().join("certificate.pem")).unwrap();
    for name in ["relay.contoso.local", "192.168.10.2", "localhost"] {
        assert!(is_trusted_as(folder.path(), name).await, "{name}");
    }
    assert!(!is_trusted_as(folder.path(), "other.contoso.local").await);
    make(folder.path());
    assert_eq!(std::fs::read(folder.path().join("ca.pem")).unwrap(), authority, "it stays");
    assert_ne!(std::fs::read(folder.path().join("certificate.pem")).unwrap(), first);
    assert!(is_trusted_as(folder.path(), "relay.contoso.local").await);
}
