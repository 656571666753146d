//! One connection of the simulated SMTP service: lines in, bytes out, and the rough ways to end it.
//!
//! Owns [`Wire`]: the socket before and inside TLS, what was read ahead, and what is still to be
//! written (replies leave in one piece when the service has to wait for input, as RFC 2920 asks).

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::base::limits;

/// How long a connection that we close is still drained, so that the client sees FIN, not RST.
const DRAIN: Duration = Duration::from_secs(2);

/// Why a session is over, and thereby how its connection ends.
#[derive(Debug)]
pub(super) enum Ended {
    /// The client is gone, or writing to it failed.
    Gone,
    /// In good order: close_notify and FIN.
    Quit,
    /// FIN without a close_notify.
    Cut,
    /// RST.
    Reset,
    /// Not at all: the client wants TLS, and has been told to go on.
    Upgrade,
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A line of the client, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// It ended with CRLF.
    Whole(Vec<u8>),
    /// It ended with a bare LF.
    BareLf(Vec<u8>),
    /// It was longer than allowed and was thrown away.
    TooLong,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub(super) struct Wire {
    stream: Stream,
    /// Read, and not yet used.
    pub(super) input: BytesMut,
    output: BytesMut,
    idle: Option<Duration>,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, idle: Option<Duration>) -> Self {
        Self {
            stream: Stream::Plain(stream),
            input: BytesMut::new(),
            output: BytesMut::new(),
            idle,
        }
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Puts a reply into the output; `\n` separates its lines.
    pub(super) fn say(&mut self, reply: &str) {
        for line in reply.split('\n') {
            self.output.extend_from_slice(line.trim_end_matches('\r').as_bytes());
            self.output.extend_from_slice(b"\r\n");
        }
    }

    /// Puts bytes into the output as they are.
    pub(super) fn say_raw(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    /// Writes the output.
    pub(super) async fn flush(&mut self) -> Result<(), Ended> {
        if !self.output.is_empty() {
            let output = self.output.split();
            match &mut self.stream {
                Stream::Plain(stream) => stream.write_all(&output).await?,
                Stream::Tls(stream) => {
                    stream.write_all(&output).await?;
                    stream.flush().await?;
                }
            }
        }
        Ok(())
    }

    /// Writes the output and reads more input.
    pub(super) async fn fill(&mut self) -> Result<(), Ended> {
        self.flush().await?;
        self.input.reserve(limits::CHUNK_OCTETS);
        let read = async {
            match &mut self.stream {
                Stream::Plain(stream) => stream.read_buf(&mut self.input).await,
                Stream::Tls(stream) => stream.read_buf(&mut self.input).await,
            }
        };
        let count = match self.idle {
            None => read.await?,
            Some(idle) => match tokio::time::timeout(idle, read).await {
                Ok(count) => count?,
                Err(_) => {
                    self.say("451 4.7.0 Timeout waiting for client input");
                    self.flush().await?;
                    return Err(Ended::Quit);
                }
            },
        };
        if count == 0 { Err(Ended::Gone) } else { Ok(()) }
    }

    /// Waits until the client has sent something, or is gone, and reads nothing of it.
    pub(super) async fn until_readable(&mut self) -> Result<(), Ended> {
        self.socket().peek(&mut [0]).await?;
        Ok(())
    }

    /// Reads a line of at most `limit` octets with its end.
    pub(super) async fn line(&mut self, limit: usize) -> Result<Line, Ended> {
        let mut searched = 0;
        let mut is_too_long = false;
        loop {
            let unsearched = &self.input[searched..];
            if let Some(found) = unsearched.iter().position(|byte| *byte == b'\n') {
                let mut line = self.input.split_to(searched + found + 1).to_vec();
                is_too_long |= line.len() > limit;
                line.pop();
                return Ok(match line.last() {
                    _ if is_too_long => Line::TooLong,
                    Some(b'\r') => {
                        line.pop();
                        Line::Whole(line)
                    }
                    _ => Line::BareLf(line),
                });
            }
            searched = self.input.len();
            if searched > limits::DISCARDED_LINE_OCTETS {
                is_too_long = true;
                self.input.clear();
                searched = 0;
            }
            self.fill().await?;
        }
    }

    /// Runs the TLS handshake; `None` if it failed, which ends the connection. What was read before
    /// must have been dealt with.
    pub(super) async fn start_tls(self, config: Arc<ServerConfig>) -> Option<Self> {
        let Stream::Plain(stream) = self.stream else { return None };
        let accepting = TlsAcceptor::from(config).accept(stream);
        let stream = tokio::time::timeout(limits::HANDSHAKE, accepting).await.ok()?.ok()?;
        Some(Self { stream: Stream::Tls(Box::new(stream)), input: BytesMut::new(), ..self })
    }

    /// Ends the connection.
    pub(super) async fn end(mut self, how: Ended) {
        if matches!(how, Ended::Quit | Ended::Cut) && self.flush().await.is_err() {
            return;
        }
        match how {
            Ended::Gone | Ended::Upgrade => {}
            Ended::Reset => {
                let _ = self.socket().set_zero_linger();
            }
            Ended::Quit => {
                let done = match &mut self.stream {
                    Stream::Plain(stream) => stream.shutdown().await,
                    Stream::Tls(stream) => stream.shutdown().await,
                };
                if done.is_ok() {
                    self.drain().await;
                }
            }
            Ended::Cut => {
                if self.socket().shutdown().await.is_ok() {
                    self.drain().await;
                }
            }
        }
    }

    /// Reads the socket until the client has closed as well, for a while.
    async fn drain(&mut self) {
        let socket = self.socket();
        let reading = async {
            let mut scrap = [0; 4_096];
            while matches!(socket.read(&mut scrap).await, Ok(count) if count > 0) {}
        };
        let _ = tokio::time::timeout(DRAIN, reading).await;
    }

    fn socket(&mut self) -> &mut TcpStream {
        match &mut self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_mut().0,
        }
    }
}

/// Takes up to `count` octets from the front of `input`.
pub(super) fn take(input: &mut BytesMut, count: u64) -> BytesMut {
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(input.remaining());
    input.split_to(count)
}
