//! An old SMTP client, as printers and scripts have it: one command, one reply, AUTH LOGIN.
//!
//! Owns the client's side of `mailbearer send` and of the demo. It is simple on purpose and speaks
//! to our own listener only; mail to upstream goes through the real client core.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;

use crate::base::{Printable, Secret, limits};
use crate::mail::Mailbox;
use crate::net::{Arrival, Wire};

/// Wait for any reply: longer than the relay waits for upstream's verdict.
const PATIENCE: Duration = Duration::from_secs(120);

/// An open session.
pub(crate) struct OldClient {
    wire: Wire,
    received: Vec<u8>,
}

/// What the server said, and how long it took to say it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) took: Duration,
}

/// The dialog did not go as it should.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OldClientError {
    #[error("no connection: {0}")]
    Io(#[from] io::Error),
    #[error(
        "no TLS with the listener: {0}; it should show the certificate that the configuration \
         names, or the one in data_dir/tls"
    )]
    Tls(io::Error),
    #[error("the listener answered {step} with: {text}")]
    Refused { step: &'static str, text: String },
}

impl OldClient {
    /// Connects, with TLS from the first byte on if there is a configuration for it, and says EHLO.
    pub(crate) async fn connect(
        address: SocketAddr,
        implicit_tls: Option<Arc<rustls::ClientConfig>>,
    ) -> Result<Self, OldClientError> {
        let connected = tokio::time::timeout(limits::CLIENT_CONNECT, TcpStream::connect(address));
        let stream = connected.await.map_err(io::Error::from)??;
        let mut client = Self { wire: Wire::new(stream), received: Vec::new() };
        if let Some(config) = implicit_tls {
            client.handshake(config).await?;
        }
        client.expect("the connection", 220).await?;
        client.command("EHLO", "EHLO old-client.localdomain", 250).await?;
        Ok(client)
    }

    /// STARTTLS, then EHLO again.
    pub(crate) async fn start_tls(
        &mut self,
        config: Arc<rustls::ClientConfig>,
    ) -> Result<(), OldClientError> {
        self.command("STARTTLS", "STARTTLS", 220).await?;
        self.received.clear();
        self.handshake(config).await?;
        self.command("EHLO", "EHLO old-client.localdomain", 250).await?;
        Ok(())
    }

    async fn handshake(&mut self, config: Arc<rustls::ClientConfig>) -> Result<(), OldClientError> {
        // The certificate is pinned; the name in it is for other clients.
        let name = ServerName::try_from("localhost").expect("a host name");
        self.wire.connect_tls(config, name).await.map_err(OldClientError::Tls)
    }

    /// AUTH LOGIN with both prompts.
    pub(crate) async fn login(
        &mut self,
        user: &str,
        password: &Secret,
    ) -> Result<Answer, OldClientError> {
        self.command("AUTH LOGIN", "AUTH LOGIN", 334).await?;
        self.command("the user name", &BASE64.encode(user), 334).await?;
        self.command("the password", &BASE64.encode(password.expose()), 235).await
    }

    /// One message. `content` ends in CRLF.
    pub(crate) async fn send(
        &mut self,
        from: &Mailbox,
        to: &[Mailbox],
        content: &[u8],
    ) -> Result<Answer, OldClientError> {
        self.command("MAIL", &format!("MAIL FROM:<{from}>"), 250).await?;
        for mailbox in to {
            self.command("RCPT", &format!("RCPT TO:<{mailbox}>"), 250).await?;
        }
        self.command("DATA", "DATA", 354).await?;
        let mut stuffed = Vec::with_capacity(content.len() + 64);
        for line in content.split_inclusive(|byte| *byte == b'\n') {
            if line.starts_with(b".") {
                stuffed.push(b'.');
            }
            stuffed.extend_from_slice(line);
        }
        stuffed.extend_from_slice(b".\r\n");
        self.wire.write(&stuffed, PATIENCE).await?;
        self.expect("the message", 250).await
    }

    /// QUIT.
    pub(crate) async fn quit(mut self) {
        let _ = self.command("QUIT", "QUIT", 221).await;
        self.wire.close().await;
    }

    async fn command(
        &mut self,
        step: &'static str,
        line: &str,
        code: u16,
    ) -> Result<Answer, OldClientError> {
        self.wire.write(format!("{line}\r\n").as_bytes(), PATIENCE).await?;
        self.expect(step, code).await
    }

    async fn expect(&mut self, step: &'static str, code: u16) -> Result<Answer, OldClientError> {
        let asked = Instant::now();
        let deadline = asked + PATIENCE;
        let text = loop {
            if let Some(text) = self.complete_reply() {
                break text;
            }
            match self.wire.arrival(Some(deadline)).await {
                Arrival::Bytes if self.received.len() > limits::REPLY_OCTETS => {
                    return Err(io::Error::other("a reply without end").into());
                }
                Arrival::Bytes => self.received.extend_from_slice(&self.wire.take()),
                Arrival::End => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Arrival::Late => return Err(io::Error::from(io::ErrorKind::TimedOut).into()),
            }
        };
        let text = Printable::text(&text).to_string();
        match text.starts_with(&code.to_string()) {
            true => Ok(Answer { text, took: asked.elapsed() }),
            false => Err(OldClientError::Refused { step, text }),
        }
    }

    /// Takes a whole reply out of what was received; its last line is `NNN text`.
    fn complete_reply(&mut self) -> Option<String> {
        let mut end = 0;
        for line in self.received.split_inclusive(|byte| *byte == b'\n') {
            if !line.ends_with(b"\n") {
                return None;
            }
            end += line.len();
            if line.get(3) != Some(&b'-') {
                let reply: Vec<u8> = self.received.drain(..end).collect();
                return Some(String::from_utf8_lossy(&reply).trim_end().replace("\r\n", " / "));
            }
        }
        None
    }
}
