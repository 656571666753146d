//! The private certificate authority of a simulated provider.
//!
//! Owns the authority's certificate and the TLS configurations of the services: the right one for
//! `localhost` and `127.0.0.1`, and the bad ones that a script may ask for.

use std::io;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::sim::fault::BadCertificate;

/// The name that the certificates are for.
pub(super) const SERVER_NAME: &str = "localhost";

/// The authority and what it has signed.
pub(super) struct Authority {
    ca_pem: String,
    good: Arc<ServerConfig>,
    other_name: Arc<ServerConfig>,
    other_authority: Arc<ServerConfig>,
    expired: Arc<ServerConfig>,
}

impl Authority {
    /// A new authority with new keys.
    pub(super) fn generate() -> io::Result<Self> {
        let ours = issuer("mailbearer simulated provider").map_err(io::Error::other)?;
        let strange = issuer("nobody knows this authority").map_err(io::Error::other)?;
        let names = [SERVER_NAME, "127.0.0.1"];
        Ok(Self {
            ca_pem: ours.pem(),
            good: server(&ours, &names, false)?,
            other_name: server(&ours, &["other.example"], false)?,
            other_authority: server(&strange, &names, false)?,
            expired: server(&ours, &names, true)?,
        })
    }

    /// The authority's certificate.
    pub(super) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The TLS configuration for a handshake.
    pub(super) fn config(&self, bad: Option<BadCertificate>) -> Arc<ServerConfig> {
        Arc::clone(match bad {
            None => &self.good,
            Some(BadCertificate::OtherName) => &self.other_name,
            Some(BadCertificate::OtherAuthority) => &self.other_authority,
            Some(BadCertificate::Expired) => &self.expired,
        })
    }
}

fn issuer(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn server(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    names: &[&str],
    is_expired: bool,
) -> io::Result<Arc<ServerConfig>> {
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, SERVER_NAME);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    if is_expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    }
    let certificate = params.signed_by(&key, issuer).map_err(io::Error::other)?;
    let chain = vec![certificate.der().clone(), issuer.der().clone()];
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(io::Error::other)?;
    Ok(Arc::new(config))
}
