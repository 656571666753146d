//! Whom we trust when we connect.
//!
//! Owns the TLS configuration of every outgoing connection, to submission hosts and to token
//! endpoints alike: TLS 1.2 or later, and a certificate that the platform trusts, or, where a
//! provider names a CA file, one from that file and from nowhere else. There is no way to skip the
//! check.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use rustls_platform_verifier::Verifier;

/// The configuration for connections to hosts that `ca_file`, or else the platform, vouches for.
/// Reads files.
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match ca_file {
        Some(path) => private_verifier(path, provider.clone())?,
        None => Arc::new(Verifier::new(provider.clone()).map_err(TlsSetupError::Platform)?),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::Platform)?
        // rustls's word for a verifier that it has not chosen itself; both of ours check chain,
        // name and dates.
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn private_verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, TlsSetupError> {
    let pem = std::fs::read(path)
        .map_err(|source| TlsSetupError::Unreadable { path: path.to_owned(), source })?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate
            .map_err(|source| TlsSetupError::NotPem { path: path.to_owned(), source })?;
        roots
            .add(certificate)
            .map_err(|source| TlsSetupError::NotAnAuthority { path: path.to_owned(), source })?;
    }
    if roots.is_empty() {
        return Err(TlsSetupError::Empty { path: path.to_owned() });
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|source| TlsSetupError::Unusable { path: path.to_owned(), source })
}

/// The configuration for connections to whoever shows exactly the first certificate of a PEM file:
/// for our own listener, whose certificate nobody else may vouch for. Reads the file.
pub(crate) fn pinned_config(certificate: &Path) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let path = || certificate.to_owned();
    let pem = std::fs::read(certificate)
        .map_err(|source| TlsSetupError::Unreadable { path: path(), source })?;
    let first = CertificateDer::pem_slice_iter(&pem).next();
    let first = first.ok_or_else(|| TlsSetupError::Empty { path: path() })?;
    let certificate = first.map_err(|source| TlsSetupError::NotPem { path: path(), source })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Pinned { certificate, provider: provider.clone() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TlsSetupError::Platform)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Takes one certificate and no other, whatever its name and dates; that the peer has its key is
/// checked as always.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match *end_entity == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The CA file cannot be read.
    #[error("cannot read the CA file {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The CA file is not PEM.
    #[error("the CA file {} is not PEM: {source}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The CA file holds no certificate.
    #[error(
        "the CA file {} has no certificate in it; it needs at least one block that begins with \
         -----BEGIN CERTIFICATE-----",
        path.display()
    )]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A certificate of the CA file cannot vouch for others.
    #[error("a certificate in the CA file {} cannot be used: {source}", path.display())]
    NotAnAuthority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// The CA file's certificates cannot be used together.
    #[error("the CA file {} cannot be used: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: VerifierBuilderError,
    },
    /// The system has no certificate authorities to offer.
    #[error(
        "this system's certificate authorities cannot be used: {0}; install them (the package \
         ca-certificates), or name a ca_file"
    )]
    Platform(rustls::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_private_authority_is_enough() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).unwrap().pem();
        assert!(client_config(Some(file(&format!("a remark\n{pem}{pem}")).path())).is_ok());
    }

    #[test]
    fn a_file_without_authorities_is_refused() {
        let missing = client_config(Some(Path::new("/nonexistent/ca.pem"))).unwrap_err();
        assert!(matches!(missing, TlsSetupError::Unreadable { .. }));
        let empty = client_config(Some(file("").path())).unwrap_err();
        assert!(matches!(empty, TlsSetupError::Empty { .. }));
        let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let broken = client_config(Some(file(text).path())).unwrap_err();
        assert!(matches!(broken, TlsSetupError::NotAnAuthority { .. }));
    }
}
