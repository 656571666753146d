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
    queue: Queue,
    store: Store,
    sessions_stop: CancellationToken,
    stop: CancellationToken,
    sessions: TaskTracker,
    tasks: TaskTracker,
    _lock: DaemonLock,
}

/// What the configuration does not say and a test may want otherwise.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The time of day.
    pub clock: Clock,
    /// The waits between attempts.
    pub schedule: Schedule,
    /// Sessions of all listeners together.
    pub max_sessions: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let (clock, schedule) = (Clock::system(), Schedule::default());
        Self { clock, schedule, max_sessions: limits::SESSIONS }
    }
}

impl Daemon {
    /// Starts everything that the configuration asks for.
    pub async fn start(config: &Config, settings: Settings) -> Result<Self, StartError> {
        let server = &config.server;
        let clock = settings.clock;
        let store = Store::open(&server.data_dir, clock.clone())?;
        let lock = store.lock_for_daemon()?;
        store.drop_leases(&lock).await?;
        let tokens = TokenManager::new(&config.accounts, store.clone(), clock.clone())?;
        let upstreams = config
            .accounts
            .iter()
            .map(|account| Upstream::new(account.clone(), &server.hostname, tokens.clone()));
        let upstreams = upstreams.collect::<Result<Vec<_>, _>>()?;
        let access = Arc::new(Access::open(config, &store).await?);
        let confirm_within = server.confirm_within;
        let (clock_, schedule) = (clock.clone(), settings.schedule);
        warn_of_orphans(config, &store).await?;
        let queue = Queue::new(upstreams, store.clone(), clock_, confirm_within, schedule);
        let inbound = Arc::new(Inbound {
            hostname: server.hostname.clone(),
            max_message_octets: server.max_message_octets,
            max_sessions: settings.max_sessions,
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
            let (queue, stop) = (queue.clone(), stop.clone());
            async move { queue.run(stop).await }
        });
        Ok(Self { addresses, queue, store, sessions_stop, stop, sessions, tasks, _lock: lock })
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
        self.queue.hurry();
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

/// Says what would otherwise wait in silence: mail of accounts that are no longer configured, and
/// accounts that nobody may use.
async fn warn_of_orphans(config: &Config, store: &Store) -> Result<(), StoreError> {
    for totals in store.totals().await? {
        let is_known = config.accounts.iter().any(|known| known.name.as_str() == totals.account);
        if totals.queued > 0 && !is_known {
            tracing::warn!(
                event = "mail_without_account",
                account = totals.account,
                queued = totals.queued,
                "its mail waits: put the account back into the configuration to have it delivered"
            );
        }
    }
    let stored = store.credentials().await?;
    for account in config.accounts_left_to_the_store() {
        let name = account.name.as_str();
        if !stored.iter().any(|credential| credential.account == name) {
            tracing::warn!(
                event = "account_without_clients",
                account = name,
                "nobody may use it yet: mailbearer credential add NAME --account {name}"
            );
        }
    }
    Ok(())
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
        let reloaded = access.reload(&store).await;
        if let Err(error) = &reloaded {
            tracing::error!(event = "credentials_not_reloaded", %error);
        }
        let looked = queue.look_again().await;
        if let Err(error) = &looked {
            tracing::error!(event = "store_unreadable", %error);
        }
        // A change counts as seen only once it was: a removed credential must not live on.
        if reloaded.is_ok() && looked.is_ok() {
            known = version;
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
