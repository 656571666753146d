//! Accepting connections.
//!
//! Owns the listening sockets and the number of sessions. The accept loop never waits for a client:
//! whatever a connection does happens in its own task.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base::{Clock, limits};
use crate::config::{self, ListenerTls};
use crate::inbound::Access;
use crate::inbound::session;
use crate::net::{Certificates, Wire};
use crate::queue::Queue;

/// What all sessions share.
pub struct Inbound {
    /// Our name, in the greeting and in `Received` lines.
    pub hostname: String,
    /// Octets of the largest message.
    pub max_message_octets: u64,
    /// Sessions of all listeners together.
    pub max_sessions: usize,
    /// Who may send.
    pub access: Arc<Access>,
    /// Where messages go.
    pub queue: Queue,
    /// The time of day.
    pub clock: Clock,
}

/// A bound socket and how its sessions are to be treated.
pub struct Listening {
    socket: TcpListener,
    pub(crate) listener: config::Listener,
    pub(crate) certificates: Option<Certificates>,
}

impl Listening {
    /// Binds the listener's address.
    pub async fn bind(
        listener: &config::Listener,
        certificates: Option<Certificates>,
    ) -> Result<Self, BindError> {
        debug_assert!(certificates.is_some() || listener.tls == ListenerTls::Off);
        let address = listener.address;
        let socket = TcpListener::bind(address).await;
        let socket = socket.map_err(|source| BindError { address, source })?;
        Ok(Self { socket, listener: listener.clone(), certificates })
    }

    /// The address, with the port that the system chose if the configuration says 0.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl Inbound {
    /// Accepts on every socket until told to stop, then lets sessions end what they are at.
    pub async fn run(self: Arc<Self>, listening: Vec<Listening>, stop: CancellationToken) {
        let sessions = TaskTracker::new();
        let room = Arc::new(Semaphore::new(self.max_sessions));
        for listening in listening {
            let (inbound, room) = (self.clone(), room.clone());
            let (tracker, stop) = (sessions.clone(), stop.clone());
            sessions.spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = inbound.accept(Arc::new(listening), room, tracker, stop.clone()) => {}
                }
            });
        }
        stop.cancelled().await;
        sessions.close();
        sessions.wait().await;
    }

    async fn accept(
        self: Arc<Self>,
        listening: Arc<Listening>,
        room: Arc<Semaphore>,
        tracker: TaskTracker,
        stop: CancellationToken,
    ) {
        let farewells = Arc::new(Semaphore::new(limits::FAREWELLS));
        loop {
            let (stream, peer) = match listening.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or a client that left while it was queued.
                    tracing::warn!(event = "accept_failed", %error);
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = room.clone().try_acquire_owned() else {
                tracing::warn!(event = "session_refused", %peer, "as many sessions as allowed");
                // A few words for those who can read them; whoever comes on top of that just goes.
                if let Ok(permit) = farewells.clone().try_acquire_owned()
                    && listening.listener.tls != ListenerTls::Implicit
                {
                    tracker.spawn(turn_away(stream, permit));
                }
                continue;
            };
            let (inbound, listening) = (self.clone(), listening.clone());
            let stop = stop.clone();
            tracker.spawn(async move {
                session::serve(Wire::new(stream), peer, inbound, listening, stop).await;
                drop(permit);
            });
        }
    }
}

/// After a failed accept: long enough not to spin, short enough not to be felt.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

async fn turn_away(stream: TcpStream, _permit: OwnedSemaphorePermit) {
    let mut wire = Wire::new(stream);
    let _ = wire.write(b"421 4.3.2 too many sessions, try again later\r\n", limits::CLOSE).await;
    wire.close().await;
}

/// A listener cannot have its address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}{}", remedy(source))]
pub struct BindError {
    /// The address of the configuration.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has it: stop that one or change listener.address"
        }
        io::ErrorKind::PermissionDenied => {
            "; ports below 1024 need the capability CAP_NET_BIND_SERVICE, or choose a higher port"
        }
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has that address",
        _ => "",
    }
}
