//! A raw SMTP client: lines out, replies in, and nothing that thinks for itself.

use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use mailbearer::base::Secret;
use mailbearer::sim::Sim;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// The mailbox that tests send from.
pub const USER: &str = "scanner@contoso.com";

/// Longest wait for one reply.
const PATIENCE: Duration = Duration::from_secs(20);

trait Both: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Both for T {}

pub struct Client {
    stream: Box<dyn Both>,
    input: Vec<u8>,
}

/// Why there is no reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Gone {
    /// FIN, with what came before it.
    Closed(String),
    Reset,
}

impl Client {
    /// Connects, and reads nothing.
    pub async fn dial(sim: &Sim) -> Self {
        let stream = TcpStream::connect(sim.smtp_address()).await.unwrap();
        Self { stream: Box::new(stream), input: Vec::new() }
    }

    /// Connects, greets and is inside TLS.
    pub async fn secure(sim: &Sim) -> Self {
        let mut client = Self::dial(sim).await;
        client.expect("220").await;
        assert!(client.ask("EHLO me").await.starts_with("250"));
        assert!(client.ask("STARTTLS").await.starts_with("220"));
        let mut client = client.start_tls(sim, "localhost").await.unwrap();
        assert!(client.ask("EHLO me").await.starts_with("250"));
        client
    }

    /// Is authenticated as [`USER`].
    pub async fn ready(sim: &Sim) -> Self {
        Self::ready_as(sim, USER).await
    }

    pub async fn ready_as(sim: &Sim, user: &str) -> Self {
        let mut client = Self::secure(sim).await;
        let reply = client.authenticate(user, &sim.access_token(user)).await;
        assert_eq!(reply, "235 2.7.0 Authentication successful");
        client
    }

    pub async fn start_tls(self, sim: &Sim, name: &'static str) -> std::io::Result<Self> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(sim.ca_pem().as_bytes()).unwrap();
        roots.add(ca).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(name).unwrap();
        let connecting = TlsConnector::from(Arc::new(config)).connect(name, self.stream);
        let stream = tokio::time::timeout(PATIENCE, connecting).await.expect("a handshake")?;
        Ok(Self { stream: Box::new(stream), input: Vec::new() })
    }

    /// AUTH XOAUTH2 in two steps.
    pub async fn authenticate(&mut self, user: &str, token: &Secret) -> String {
        assert_eq!(self.ask("AUTH XOAUTH2").await, "334 ");
        self.ask(&xoauth2(user, token)).await
    }

    /// MAIL, RCPT and DATA up to the 354.
    pub async fn envelope(&mut self, from: &str, to: &[&str]) {
        assert_eq!(self.ask(&format!("MAIL FROM:<{from}>")).await, "250 2.1.0 Sender OK");
        for to in to {
            let reply = self.ask(&format!("RCPT TO:<{to}>")).await;
            assert_eq!(reply, "250 2.1.5 Recipient OK");
        }
        assert_eq!(self.ask("DATA").await, "354 Start mail input; end with <CRLF>.<CRLF>");
    }

    /// A whole message; the final reply.
    pub async fn send(&mut self, from: &str, to: &[&str], message: &str) -> String {
        self.envelope(from, to).await;
        self.ask(&format!("{message}.")).await
    }

    /// Says a line and reads the reply.
    pub async fn ask(&mut self, line: &str) -> String {
        self.try_ask(line).await.unwrap_or_else(|gone| panic!("{line:.60}: {gone:?}"))
    }

    pub async fn try_ask(&mut self, line: &str) -> Result<String, Gone> {
        self.write(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// Writes; that the peer is gone shows when reading.
    pub async fn write(&mut self, bytes: &[u8]) {
        let writing = async {
            if self.stream.write_all(bytes).await.is_ok() {
                let _ = self.stream.flush().await;
            }
        };
        tokio::time::timeout(PATIENCE, writing).await.expect("the service to read");
    }

    /// Reads a reply that has to start with this.
    pub async fn expect(&mut self, start: &str) -> String {
        let reply = self.reply().await.unwrap_or_else(|gone| panic!("{start}: {gone:?}"));
        assert!(reply.starts_with(start), "{reply}");
        reply
    }

    /// Reads a reply: its lines, joined by `\n`.
    pub async fn reply(&mut self) -> Result<String, Gone> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            let is_last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line);
            if is_last {
                return Ok(lines.join("\n"));
            }
        }
    }

    async fn line(&mut self) -> Result<String, Gone> {
        loop {
            if let Some(end) = self.input.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.input.drain(..end + 2).collect();
                return Ok(String::from_utf8(line[..end].to_vec()).unwrap());
            }
            let mut piece = [0; 4_096];
            let reading = self.stream.read(&mut piece);
            let read = tokio::time::timeout(PATIENCE, reading).await.expect("a reply in time");
            match read {
                Ok(0) => return Err(self.closed()),
                Ok(count) => self.input.extend_from_slice(&piece[..count]),
                // TLS without a close_notify.
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                    return Err(self.closed());
                }
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
                    return Err(Gone::Reset);
                }
            }
        }
    }

    fn closed(&mut self) -> Gone {
        Gone::Closed(String::from_utf8_lossy(&std::mem::take(&mut self.input)).into_owned())
    }
}

pub fn oauthbearer(user: &str, token: &Secret) -> String {
    let token = token.expose();
    let fields = format!("host=localhost\u{1}port=587\u{1}auth=Bearer {token}");
    BASE64_STANDARD.encode(format!("n,a={user},\u{1}{fields}\u{1}\u{1}"))
}

pub fn xoauth2(user: &str, token: &Secret) -> String {
    let text = format!("user={user}\u{1}auth=Bearer {}\u{1}\u{1}", token.expose());
    BASE64_STANDARD.encode(text)
}
