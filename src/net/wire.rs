//! One connection as a driver of a session core sees it.
//!
//! Owns [`Wire`]: reading with a deadline, writing with a patience, and the change from plaintext
//! to TLS. It never looks at what passes.

use std::future::Future as _;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{timeout, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::base::limits;

/// A connection and the buffer that it is read into.
pub struct Wire {
    stream: Stream,
    buffer: BytesMut,
    /// Octets that the next read asks for: grows while reads come back full, as they do in a large
    /// body, and falls again, so that an idle session costs little.
    reach: usize,
}

/// What came of waiting for the peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Bytes, which [`Wire::take`] hands out.
    Bytes,
    /// The peer has closed its side, or the connection broke.
    End,
    /// The deadline passed.
    Late,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Between plaintext and TLS, or broken by a failed handshake.
    Gone,
}

impl Wire {
    /// Over a fresh TCP connection.
    pub fn new(stream: TcpStream) -> Self {
        // Small writes are whole replies; waiting for more to send only delays the dialog.
        let _ = stream.set_nodelay(true);
        Self { stream: Stream::Plain(stream), buffer: BytesMut::new(), reach: limits::READ_OCTETS }
    }

    /// Waits until bytes are there, the peer has gone, or `deadline` has passed.
    pub async fn arrival(&mut self, deadline: Option<Instant>) -> Arrival {
        self.buffer.reserve(self.reach);
        let read = self.stream.read_buf(&mut self.buffer);
        let read = match deadline {
            Some(deadline) => match timeout_at(deadline.into(), read).await {
                Ok(read) => read,
                Err(_) => return Arrival::Late,
            },
            None => read.await,
        };
        match read {
            Ok(0) | Err(_) => Arrival::End,
            Ok(octets) => {
                self.reach = match octets >= self.reach {
                    true => (self.reach * 2).min(limits::CHUNK_OCTETS),
                    false if octets < self.reach / 4 => limits::READ_OCTETS,
                    false => self.reach,
                };
                Arrival::Bytes
            }
        }
    }

    /// The bytes that have arrived.
    pub fn take(&mut self) -> BytesMut {
        self.buffer.split()
    }

    /// Gives the read buffer's memory back while nothing is expected for long.
    pub fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// Writes everything, or fails if the peer has not taken it all within `patience`.
    pub async fn write(&mut self, bytes: &[u8], patience: Duration) -> io::Result<()> {
        let write = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(patience, write).await?
    }

    /// What has arrived already, if anything has. Never waits.
    pub async fn arrival_now(&mut self) -> Option<Arrival> {
        self.buffer.reserve(limits::READ_OCTETS);
        let mut read = pin!(self.stream.read_buf(&mut self.buffer));
        poll_fn(|context| match read.as_mut().poll(context) {
            Poll::Pending => Poll::Ready(None),
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Some(Arrival::End)),
            Poll::Ready(Ok(_)) => Poll::Ready(Some(Arrival::Bytes)),
        })
        .await
    }

    /// Ends our side in an orderly way; the peer may be gone already.
    pub async fn close(&mut self) {
        let _ = timeout(limits::CLOSE, self.stream.shutdown()).await;
    }

    /// TLS as the server. What was read in plaintext and not yet taken is forgotten.
    pub async fn accept_tls(&mut self, config: Arc<rustls::ServerConfig>) -> io::Result<()> {
        let stream = self.plain()?;
        let handshake = TlsAcceptor::from(config).accept(stream);
        let stream = timeout(limits::HANDSHAKE, handshake).await??;
        self.stream = Stream::Tls(Box::new(stream.into()));
        Ok(())
    }

    /// TLS as the client: the certificate has to be valid for `host`.
    pub async fn connect_tls(
        &mut self,
        config: Arc<rustls::ClientConfig>,
        host: ServerName<'static>,
    ) -> io::Result<()> {
        let stream = self.plain()?;
        let handshake = TlsConnector::from(config).connect(host, stream);
        let stream = timeout(limits::HANDSHAKE, handshake).await??;
        self.stream = Stream::Tls(Box::new(stream.into()));
        Ok(())
    }

    /// The protocol version of TLS, for the log.
    pub fn tls_version(&self) -> Option<&'static str> {
        let Stream::Tls(stream) = &self.stream else { return None };
        match stream.get_ref().1.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => Some("1.2"),
            rustls::ProtocolVersion::TLSv1_3 => Some("1.3"),
            _ => Some("other"),
        }
    }

    /// The peer's address.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        match &self.stream {
            Stream::Plain(stream) => stream.peer_addr(),
            Stream::Tls(stream) => stream.get_ref().0.peer_addr(),
            Stream::Gone => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn plain(&mut self) -> io::Result<TcpStream> {
        self.buffer.clear();
        match std::mem::replace(&mut self.stream, Stream::Gone) {
            Stream::Plain(stream) => Ok(stream),
            Stream::Tls(_) | Stream::Gone => Err(io::Error::other("TLS is already running")),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}
