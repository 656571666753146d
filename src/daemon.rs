//! Floor 4: the whole relay, started and stopped as one.
//!
//! Owns the order of starting (everything that can fail fails before the first byte of a client is
//! read) and of stopping (no new sessions, then sessions and attempts end, then the rest). Nothing
//! here is global: a test starts as many as it wants.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base::{Clock, limits};
use crate::config::{Config, Listener, ListenerTls};
use crate::inbound::{Access, AccessError, BindError, Inbound, Listening};
use crate::net::{CertificateError, Certificates};
use crate::outbound::{Upstream, UpstreamError};
use crate::queue::{Queue, Schedule};
use crate::store::{DaemonLock, Store, StoreError};
use crate::token::{TokenManager, TokenSetupError};

/// A running relay.
pub struct Daemon {
    addresses: Vec<SocketAddr>,
    store: Store,
    sessions_stop: CancellationToken,
    stop: CancellationToken,
    sessions: TaskTracker,
    tasks: TaskTracker,
    _lock: DaemonLock,
}

/// What the configuration does not say and a test may want otherwise.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The time of day.
    pub clock: Clock,
    /// The waits between attempts.
    pub schedule: Schedule,
}

impl Daemon {
    /// Starts everything that the configuration asks for.
    pub async fn start(config: &Config, settings: Settings) -> Result<Self, StartError> {
        let server = &config.server;
        let clock = settings.clock;
        let store = Store::open(&server.data_dir, clock.clone())?;
        let lock = store.lock_for_daemon()?;
        let tokens = TokenManager::new(&config.accounts, store.clone(), clock.clone())?;
        let upstreams = config
            .accounts
            .iter()
            .map(|account| Upstream::new(account.clone(), &server.hostname, tokens.clone()));
        let upstreams = upstreams.collect::<Result<Vec<_>, _>>()?;
        let access = Arc::new(Access::open(config, &store).await?);
        let confirm_within = server.confirm_within;
        let (clock_, schedule) = (clock.clone(), settings.schedule);
        let queue = Queue::new(upstreams, store.clone(), clock_, confirm_within, schedule);
        let inbound = Arc::new(Inbound {
            hostname: server.hostname.clone(),
            max_message_octets: server.max_message_octets,
            access: access.clone(),
            queue: queue.clone(),
            clock,
        });
        let mut listening = Vec::new();
        for listener in &config.listeners {
            listening.push(Listening::bind(listener, certificates(config, listener)?).await?);
        }
        let addresses = listening.iter().map(Listening::address).collect::<Result<Vec<_>, _>>();
        let addresses = addresses.map_err(StartError::Address)?;
        for (address, listener) in addresses.iter().zip(&config.listeners) {
            tracing::info!(event = "listening", %address, tls = ?listener.tls, auth = ?listener.auth);
        }

        let (sessions, tasks) = (TaskTracker::new(), TaskTracker::new());
        let (sessions_stop, stop) = (CancellationToken::new(), CancellationToken::new());
        sessions.spawn(inbound.run(listening, sessions_stop.clone()));
        tasks.spawn(watch_store(store.clone(), access, queue.clone(), stop.clone()));
        tasks.spawn({
            let stop = stop.clone();
            async move { tokens.run(stop).await }
        });
        tasks.spawn({
            let stop = stop.clone();
            async move { queue.run(stop).await }
        });
        Ok(Self { addresses, store, sessions_stop, stop, sessions, tasks, _lock: lock })
    }

    /// The addresses of the listeners, in the configuration's order.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The store, for looking in.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Takes no new sessions, lets those that are in a transaction and attempts that are under way
    /// end within [`limits::STOP_GRACE`] each, and stops. What is left is in the store.
    pub async fn stop(self) {
        self.sessions_stop.cancel();
        self.sessions.close();
        let are_sessions_over = timeout(limits::STOP_GRACE, self.sessions.wait()).await.is_ok();
        self.stop.cancel();
        self.tasks.close();
        let are_tasks_over = timeout(limits::STOP_GRACE, self.tasks.wait()).await.is_ok();
        tracing::info!(event = "stopped", are_sessions_over, are_tasks_over);
    }
}

fn certificates(
    config: &Config,
    listener: &Listener,
) -> Result<Option<Certificates>, CertificateError> {
    if listener.tls == ListenerTls::Off {
        return Ok(None);
    }
    let server = &config.server;
    let certificates = match &server.certificate {
        Some(files) => Certificates::from_files(&files.certificate, &files.key),
        None => Certificates::self_signed(&server.data_dir.join("tls"), &server.hostname),
    };
    certificates.map(Some)
}

/// Notices within [`limits::STORE_POLL`] what another process has changed: credentials,
/// suspensions, tokens.
async fn watch_store(store: Store, access: Arc<Access>, queue: Queue, stop: CancellationToken) {
    let mut known = store.version().await.ok();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(limits::STORE_POLL) => {}
        }
        let version = store.version().await.ok();
        if version == known {
            continue;
        }
        known = version;
        if let Err(error) = access.reload(&store).await {
            tracing::error!(event = "credentials_not_reloaded", %error);
        }
        if let Err(error) = queue.look_again().await {
            tracing::error!(event = "store_unreadable", %error);
        }
    }
}

/// Why the relay did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory or the store in it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The way to a provider.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// HTTP to a token endpoint.
    #[error(transparent)]
    Token(#[from] TokenSetupError),
    /// A listener's certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The credentials.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// A listener's address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// A bound socket that does not know its address.
    #[error("a listener does not know its own address: {0}")]
    Address(io::Error),
}
