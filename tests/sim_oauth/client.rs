//! A minimal HTTP/1.1 client, and a browser that goes where it is sent.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mailbearer::sim::Sim;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

pub const USER: &str = "scanner@contoso.com";
pub const REDIRECT: &str = "http://127.0.0.1:49152/";
pub const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
pub const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
pub const SCOPE: &str = "https://outlook.office.com/SMTP.Send offline_access";

const PATIENCE: Duration = Duration::from_secs(20);

/// An HTTP answer as it came.
#[derive(Debug)]
pub struct Seen {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Seen {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("JSON: {}", self.body))
    }

    /// `error` and the first number of `error_codes`.
    pub fn error(&self) -> (u16, String, u64) {
        let json = self.json();
        let number = json["error_codes"][0].as_u64().unwrap();
        let text = json["error_description"].as_str().unwrap();
        assert!(text.starts_with(&format!("AADSTS{number}: ")), "{text}");
        (self.status, json["error"].as_str().unwrap().to_owned(), number)
    }

    pub fn location(&self) -> Url {
        assert_eq!(self.status, 302, "{}", self.body);
        self.headers["location"].parse().unwrap()
    }

    /// A field of the query that the browser is sent back with.
    pub fn returned(&self, name: &str) -> Option<String> {
        let url = self.location();
        url.query_pairs().find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }
}

/// Sends one request on a connection of its own; everything that comes back.
pub async fn exchange(sim: &Sim, url: &Url, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let port = url.port().unwrap();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    match url.scheme() {
        "https" => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(sim.ca_pem().as_bytes()).unwrap()).unwrap();
            let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let name = ServerName::try_from(url.host_str().unwrap().to_owned()).unwrap();
            let connector = TlsConnector::from(Arc::new(config));
            talk(connector.connect(name, stream).await?, request).await
        }
        _ => talk(stream, request).await,
    }
}

async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> std::io::Result<Vec<u8>> {
    let talking = async {
        stream.write_all(request).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer).await {
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error),
            _ => Ok(answer),
        }
    };
    tokio::time::timeout(PATIENCE, talking).await.expect("an answer in time")
}

pub fn read_answer(answer: &[u8]) -> Option<Seen> {
    let text = String::from_utf8(answer.to_vec()).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    (length.is_none_or(|length: usize| length == body.len())).then(|| Seen {
        status,
        headers,
        body: body.to_owned(),
    })
}

pub fn get_request(url: &Url) -> Vec<u8> {
    let target = &url[url::Position::BeforePath..];
    format!("GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").into_bytes()
}

pub fn post_request(url: &Url, fields: &[(&str, &str)], extra: &str) -> Vec<u8> {
    let body = form(fields);
    format!(
        "POST {} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: \
         application/x-www-form-urlencoded\r\n{extra}content-length: {}\r\n\r\n{body}",
        &url[url::Position::BeforePath..],
        body.len()
    )
    .into_bytes()
}

pub async fn get(sim: &Sim, url: &Url) -> Seen {
    read_answer(&exchange(sim, url, &get_request(url)).await.unwrap()).unwrap()
}

pub async fn post(sim: &Sim, fields: &[(&str, &str)], extra: &str) -> Seen {
    post_to(sim, &sim.token_url(), fields, extra).await
}

pub async fn post_to(sim: &Sim, url: &Url, fields: &[(&str, &str)], extra: &str) -> Seen {
    let request = post_request(url, fields, extra);
    read_answer(&exchange(sim, url, &request).await.unwrap()).unwrap()
}

pub fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// The authorization page with everything right, and these fields changed; an empty value is a
/// field that is not there.
pub fn authorize_url(sim: &Sim, changes: &[(&str, &str)]) -> Url {
    let client = sim.client().unwrap().id.clone();
    let mut fields = vec![
        ("client_id", client.as_str()),
        ("response_type", "code"),
        ("redirect_uri", REDIRECT),
        ("scope", SCOPE),
        ("state", "some state&more"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
        ("login_hint", USER),
    ];
    for (name, value) in changes {
        fields.retain(|(known, _)| known != name);
        fields.push((name, value));
    }
    fields.retain(|(_, value)| !value.is_empty());
    let mut url = sim.authorize_url();
    url.query_pairs_mut().extend_pairs(fields);
    url
}

/// A code, as a browser would bring it.
pub async fn code(sim: &Sim) -> String {
    get(sim, &authorize_url(sim, &[])).await.returned("code").unwrap()
}

/// Redeems a code with everything right.
pub async fn redeem(sim: &Sim, code: &str) -> Seen {
    redeem_with(sim, code, REDIRECT, VERIFIER).await
}

pub async fn redeem_with(sim: &Sim, code: &str, redirect_uri: &str, verifier: &str) -> Seen {
    let client = sim.client().unwrap().id.clone();
    let fields = [
        ("grant_type", "authorization_code"),
        ("client_id", &client),
        ("code", code),
        ("redirect_uri", redirect_uri),
        ("code_verifier", verifier),
    ];
    post(sim, &fields, "").await
}

pub async fn refresh(sim: &Sim, token: &str) -> Seen {
    let client = sim.client().unwrap().id.clone();
    let fields =
        [("grant_type", "refresh_token"), ("client_id", &client), ("refresh_token", token)];
    post(sim, &fields, "").await
}
