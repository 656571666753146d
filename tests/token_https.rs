//! Token endpoints over TLS: whom we believe.

#[path = "token_parts/mod.rs"]
mod parts;

use std::sync::Arc;

use mailbearer::config::Account;
use mailbearer::oauth::Grant;
use mailbearer::token::TokenTrouble;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use url::Url;

use parts::{Home, account, name};

/// An authority, and a server with its certificate for `host` that always hands out a token.
async fn tls_endpoint(host: &str) -> (String, Url) {
    let key = KeyPair::generate().unwrap();
    let mut parameters = CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&key).unwrap();
    let issuer = Issuer::new(parameters, key);
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![host.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![certificate.der().clone()],
        PrivateKeyDer::Pkcs8(key.serialize_der().into()),
    )
    .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await;
            let body = r#"{"access_token":"over-tls","expires_in":3600}"#;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    (authority.pem(), Url::parse(&format!("https://localhost:{port}/token")).unwrap())
}

fn with_authority(url: Url, home: &Home, pem: Option<&str>) -> Arc<Account> {
    let mut account = Account::clone(&account(Grant::ClientCredentials, url));
    account.provider.ca_file = pem.map(|pem| {
        let file = home.data_dir().with_extension("pem");
        std::fs::write(&file, pem).unwrap();
        file
    });
    Arc::new(account)
}

#[tokio::test]
async fn only_a_certificate_of_the_named_authority_for_the_host_is_believed() {
    let (authority, url) = tls_endpoint("localhost").await;
    let (other_authority, other_host) = tls_endpoint("login.example").await;
    let cases = [
        (&url, Some(authority.as_str()), Ok(())),
        (&url, Some(other_authority.as_str()), Err("certificate")),
        (&url, None, Err("certificate")),
        (&other_host, Some(other_authority.as_str()), Err("certificate")),
    ];
    for (url, pem, expected) in cases {
        let home = Home::new();
        let account = with_authority(url.clone(), &home, pem);
        let token = home.manager(&account).token(&name()).await;
        match (token, expected) {
            (Ok(token), Ok(())) => assert_eq!(token.secret.expose(), "over-tls"),
            (Err(TokenTrouble::NotNow { reason, .. }), Err(part)) => {
                assert!(reason.contains("cannot be reached") && reason.contains(part), "{reason}");
            }
            (token, expected) => panic!("{token:?} instead of {expected:?}"),
        }
    }
}
