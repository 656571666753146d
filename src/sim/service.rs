//! The two services of a simulated provider: listening, and being taken down and brought up.
//!
//! Owns [`Port`], which keeps a port for as long as the provider lives, and [`Service`], which runs
//! on it: an accept loop and its connections, cut all together.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::sim::Shared;
use crate::sim::http;
use crate::sim::session::Session;
use crate::sim::wire::Wire;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1_024;

/// One of the two services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// SMTP.
    Smtp,
    /// The authorization server.
    Http,
}

/// A port of the loopback interface. The socket that holds it never listens: it only keeps the
/// kernel from giving the port to anybody else while the service is down.
pub(super) struct Port {
    _holder: TcpSocket,
    pub(super) address: SocketAddr,
}

impl Port {
    pub(super) fn reserve() -> io::Result<Self> {
        let holder = TcpSocket::new_v4()?;
        holder.set_reuseaddr(true)?;
        holder.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = holder.local_addr()?;
        Ok(Self { _holder: holder, address })
    }

    fn listen(&self) -> io::Result<TcpListener> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(self.address)?;
        socket.listen(BACKLOG)
    }
}

/// A service that is up.
pub(super) struct Running {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Running {
    /// Starts a service on its port.
    pub(super) fn start(service: Service, port: &Port, shared: &Arc<Shared>) -> io::Result<Self> {
        let listener = port.listen()?;
        let running = Self { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        let (stop, tasks, shared) =
            (running.stop.clone(), running.tasks.clone(), Arc::clone(shared));
        match service {
            Service::Smtp => running.tasks.spawn(serve_smtp(listener, shared, stop, tasks)),
            Service::Http => running.tasks.spawn(http::serve(listener, shared, stop, tasks)),
        };
        Ok(running)
    }

    /// Closes the listener and cuts every connection; ends when all tasks have ended.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn serve_smtp(
    listener: TcpListener,
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    while let Some(accepted) = stop.run_until_cancelled(accept(&listener)).await {
        let number = shared.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        let open = Open::count(Arc::clone(&shared));
        let wire = Wire::new(accepted, shared.options.idle);
        let session = Session::new(Arc::clone(&shared), number);
        let stop = stop.clone();
        tasks.spawn(async move {
            let _open = open;
            stop.run_until_cancelled(session.run(wire)).await;
        });
    }
}

/// Accepts the next connection. Errors of accepting are those of a connection that is gone, or of a
/// machine without file descriptors, which gets a moment to find some.
pub(super) async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    }
}

/// Counts an SMTP session as open, for as long as it lives.
struct Open(Arc<Shared>);

impl Open {
    fn count(shared: Arc<Shared>) -> Self {
        shared.book.count(|counts| {
            counts.connections += 1;
            counts.open_sessions += 1;
            counts.most_sessions = counts.most_sessions.max(counts.open_sessions);
        });
        Self(shared)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.book.count(|counts| counts.open_sessions -= 1);
    }
}
