//! The connections of the simulated authorization server.
//!
//! Owns [`Io`], a connection that can be cut, reset, slowed down or made to say anything, [`Line`],
//! the handle by which a request's handler does that, and [`Accepted`], which hands them to axum.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::response::Response;
use axum::serve::{IncomingStream, Listener};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What a handler can do to the connection that it answers on.
#[derive(Clone)]
pub(super) struct Line(Arc<LineState>);

struct LineState {
    /// Cancelled: the connection is over.
    over: CancellationToken,
    with_reset: AtomicBool,
    manner: Mutex<Manner>,
}

#[derive(Default)]
pub(super) enum Manner {
    #[default]
    Usual,
    /// Only so many bytes at a time, and a pause between.
    Slow { bytes: usize, pause: Duration },
    /// These bytes in place of the answer, and then the end.
    Instead(Bytes),
}

impl Line {
    pub(super) fn say_instead(&self, bytes: &[u8]) {
        self.set(Manner::Instead(Bytes::copy_from_slice(bytes)));
    }

    pub(super) fn slow_down(&self, bytes: usize, pause: Duration) {
        self.set(Manner::Slow { bytes: bytes.max(1), pause });
    }

    /// Ends the connection without an answer, and with it the handler.
    pub(super) async fn cut(&self, with_reset: bool) -> Response {
        self.0.with_reset.store(with_reset, Ordering::SeqCst);
        self.0.over.cancel();
        std::future::pending().await
    }

    pub(super) fn set(&self, manner: Manner) {
        *self.0.manner.lock().unwrap_or_else(PoisonError::into_inner) = manner;
    }
}

impl Connected<IncomingStream<'_, Accepted>> for Line {
    fn connect_info(stream: IncomingStream<'_, Accepted>) -> Self {
        stream.io().line.clone()
    }
}

/// Connections as axum takes them.
pub(super) struct Accepted {
    pub(super) receiver: mpsc::Receiver<Io>,
    pub(super) address: io::Result<SocketAddr>,
}

impl Listener for Accepted {
    type Io = Io;
    type Addr = Option<SocketAddr>;

    async fn accept(&mut self) -> (Io, Self::Addr) {
        match self.receiver.recv().await {
            Some(io) => (io, None),
            // The service is being stopped, and the shutdown is about to say so.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address.as_ref().ok().copied())
    }
}

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that obeys its [`Line`].
pub(super) struct Io {
    stream: Stream,
    line: Line,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Until when nothing more is written.
    resting: Option<Pin<Box<Sleep>>>,
}

impl Io {
    pub(super) fn new(stream: Stream, over: CancellationToken) -> Self {
        let line = Line(Arc::new(LineState {
            over: over.clone(),
            with_reset: AtomicBool::new(false),
            manner: Mutex::default(),
        }));
        Self { stream, line, over: Box::pin(over.cancelled_owned()), resting: None }
    }

    /// Fails once the connection is over; otherwise wakes the task when it is.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.over.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        if self.line.0.with_reset.load(Ordering::SeqCst) {
            let socket = match &self.stream {
                Stream::Plain(stream) => stream,
                Stream::Tls(stream) => stream.get_ref().0,
            };
            let _ = socket.set_zero_linger();
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    fn write_some(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    /// Writes all of what is said in place of an answer, flushes, and ends the connection.
    fn write_instead(
        &mut self,
        context: &mut Context<'_>,
        mut instead: Bytes,
        asked: usize,
    ) -> Poll<io::Result<usize>> {
        while !instead.is_empty() {
            match self.write_some(context, &instead) {
                Poll::Ready(Ok(count)) => drop(instead.split_to(count)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.line.set(Manner::Instead(instead));
                    return Poll::Pending;
                }
            }
        }
        self.line.set(Manner::Instead(instead));
        std::task::ready!(Pin::new(&mut *self).poll_flush(context))?;
        self.line.0.over.cancel();
        Poll::Ready(Ok(asked))
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        if let Some(resting) = &mut self.resting {
            std::task::ready!(resting.as_mut().poll(context));
            self.resting = None;
        }
        let manner = {
            let state = Arc::clone(&self.line.0);
            let mut manner = state.manner.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *manner {
                Manner::Usual => Manner::Usual,
                Manner::Slow { bytes, pause } => Manner::Slow { bytes: *bytes, pause: *pause },
                Manner::Instead(instead) => Manner::Instead(std::mem::take(instead)),
            }
        };
        match manner {
            Manner::Usual => self.write_some(context, bytes),
            Manner::Slow { bytes: at_a_time, pause } => {
                let piece = &bytes[..bytes.len().min(at_a_time)];
                let written = std::task::ready!(self.write_some(context, piece))?;
                self.resting = Some(Box::pin(tokio::time::sleep(pause)));
                Poll::Ready(Ok(written))
            }
            Manner::Instead(instead) => self.write_instead(context, instead, bytes.len()),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
