//! A whole relay on loopback with the simulated provider behind it, and an old client in front.
#![allow(dead_code, reason = "each test program uses what it needs of it")]

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mailbearer::base::{Clock, Secret, Timestamp};
use mailbearer::config::{self, Config, PasswordHash};
use mailbearer::daemon::{Daemon, Settings};
use mailbearer::queue::Schedule;
use mailbearer::sim::{Sim, SimOptions};
use mailbearer::store::{NewGrant, Store};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

pub const MAILBOX: &str = "scanner@contoso.com";
pub const RECIPIENT: &str = "office@contoso.com";
pub const USER: &str = "printer";
/// Throw-away test material.
pub const PASSWORD: &str = "printer-test-password";

/// No test waits longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a test wants of its relay; the rest is as in the samples.
pub struct Setup {
    pub options: SimOptions,
    /// Lines of the `[server]` table.
    pub server: String,
    /// Lines of the `[[listener]]` table, with its networks.
    pub listener: String,
    /// Lines of the `[[account]]` table.
    pub account: String,
    /// Lines of the `[[provider]]` table.
    pub provider: String,
    pub schedule: Schedule,
    /// There is a `[[credential]]`.
    pub has_credential: bool,
    /// A consent has taken place.
    pub has_grant: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let quick = Duration::from_millis(20);
        Self {
            options: SimOptions::default(),
            server: String::new(),
            listener: "tls = \"starttls\"\nauth = \"required\"\n".to_owned(),
            account: String::new(),
            provider: String::new(),
            schedule: Schedule {
                first: quick,
                longest: quick * 10,
                rest_first: quick,
                rest_longest: quick * 10,
                probe: Duration::from_secs(3_600),
            },
            has_credential: true,
            has_grant: true,
        }
    }
}

impl Setup {
    pub fn delivery(delivery: &str) -> Self {
        Self { account: format!("delivery = \"{delivery}\"\n"), ..Self::default() }
    }
}

/// A running relay and its provider.
pub struct Relay {
    pub sim: Sim,
    pub config: Config,
    pub daemon: Daemon,
    pub folder: TempDir,
    schedule: Schedule,
}

impl Relay {
    pub async fn start(setup: Setup) -> Self {
        let sim = Sim::start(setup.options).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, sim.ca_pem()).unwrap();
        let credential = match setup.has_credential {
            true => format!(
                "[[credential]]\nname = \"{USER}\"\npassword_hash = \"{}\"\n\
                 account = \"{MAILBOX}\"\nmay_send_as = [\"*\"]\n",
                password_hash()
            ),
            false => String::new(),
        };
        let text = format!(
            "[server]\nhostname = \"localhost\"\ndata_dir = \"{}\"\n{}\n\
             {credential}\n{}{}\n{}{}\n\
             [[listener]]\naddress = \"127.0.0.1:0\"\n{}\n",
            folder.path().join("data").display(),
            setup.server,
            sim.account_toml(MAILBOX),
            setup.account,
            sim.provider_toml(&ca_file),
            setup.provider,
            setup.listener,
        );
        let config = config::parse(&text, Path::new("/test/mailbearer.toml"))
            .unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
        if setup.has_grant {
            let store = Store::open(&config.server.data_dir, Clock::system()).unwrap();
            consent(&store, &sim).await;
        }
        let settings = Settings { schedule: setup.schedule, ..Settings::default() };
        let daemon = Daemon::start(&config, settings).await.unwrap();
        Self { sim, config, daemon, folder, schedule: setup.schedule }
    }

    /// Stops the relay and starts it again on the same data.
    pub async fn restart(self) -> Self {
        let Self { sim, config, daemon, folder, schedule } = self;
        daemon.stop().await;
        let settings = Settings { schedule, ..Settings::default() };
        let daemon = Daemon::start(&config, settings).await.unwrap();
        Self { sim, config, daemon, folder, schedule }
    }

    pub async fn stop(self) {
        self.daemon.stop().await;
        assert_eq!(self.sim.offences(), Vec::<String>::new(), "what upstream saw of us");
        self.sim.stop().await;
    }

    /// A client that has said EHLO.
    pub async fn client(&self) -> Client<TcpStream> {
        let stream = TcpStream::connect(self.daemon.addresses()[0]).await.unwrap();
        let mut client = Client::new(stream);
        client.expect("220").await;
        client.say("EHLO printer.example").await;
        client
    }

    /// A client that has logged in.
    pub async fn logged_in(&self) -> Client<TcpStream> {
        let mut client = self.client().await;
        let reply = client.login(USER, PASSWORD).await;
        assert!(reply.starts_with("235"), "{reply}");
        client
    }

    /// Sends one message as the account's own mailbox and returns the reply to its end.
    pub async fn send(&self, content: &str) -> String {
        let mut client = self.logged_in().await;
        let reply = client.send(MAILBOX, &[RECIPIENT], content).await;
        client.say("QUIT").await;
        reply
    }

    /// Waits until the store's totals for the account are as wanted: queued, failed.
    pub async fn until_totals(&self, queued: u64, failed: u64) {
        let started = Instant::now();
        loop {
            let totals = self.daemon.store().totals().await.unwrap();
            let account = totals.iter().find(|totals| totals.account == MAILBOX);
            let found = account.map_or((0, 0), |totals| (totals.queued, totals.failed));
            if found == (queued, failed) {
                return;
            }
            let text = format!("{found:?} instead of ({queued}, {failed})");
            assert!(started.elapsed() < PATIENCE, "queued and failed are {text}");
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the account is suspended, and returns why.
    pub async fn until_suspended(&self) -> String {
        let started = Instant::now();
        loop {
            if let Some(suspension) = self.daemon.store().suspension(MAILBOX).await.unwrap() {
                return suspension.reason;
            }
            assert!(started.elapsed() < PATIENCE, "the account was not suspended");
            tokio::task::yield_now().await;
        }
    }
}

/// Puts a fresh grant of the provider into the store, as a login would.
pub async fn consent(store: &Store, sim: &Sim) {
    consent_of(store, sim, MAILBOX).await;
}

/// The same, with somebody who signs in for the account.
pub async fn consent_of(store: &Store, sim: &Sim, person: &str) {
    let (access_token, refresh_token) = sim.grant(person);
    let now = Clock::system().now();
    let known = store.grant(MAILBOX).await.unwrap().map_or(0, |grant| grant.version);
    let lifetime = sim.options().access_token_lifetime;
    let grant = NewGrant {
        refresh_token: Some(refresh_token),
        access_token: Some(access_token),
        expires_at: Some(now + lifetime),
        obtained_at: now,
        obtained_by: None,
        retired: None,
        origin: None,
    };
    store.put_grant(MAILBOX, known, grant).await.unwrap();
}

/// Makes the stored access token one whose end has come; only the refresh token is left.
pub async fn expire_stored_token(store: &Store) {
    let known = store.grant(MAILBOX).await.unwrap().unwrap();
    let grant = NewGrant {
        refresh_token: known.refresh_token,
        access_token: known.access_token,
        expires_at: Some(Timestamp::from_millis(known.obtained_at.as_millis() - 1_000)),
        obtained_at: known.obtained_at,
        obtained_by: None,
        retired: None,
        origin: None,
    };
    store.put_grant(MAILBOX, known.version, grant).await.unwrap();
}

/// Hashing takes a while; one hash serves all tests of a program.
fn password_hash() -> &'static str {
    static HASH: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    HASH.get_or_init(|| PasswordHash::hash(&Secret::new(PASSWORD)).unwrap().to_string())
}

/// A client that says one line and waits for one reply.
pub struct Client<S> {
    stream: S,
    received: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, received: Vec::new() }
    }

    pub fn into_inner(self) -> S {
        assert!(self.received.is_empty(), "unread: {:?}", self.received);
        self.stream
    }

    pub async fn say(&mut self, line: &str) -> String {
        self.write(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.unwrap().unwrap();
    }

    pub async fn expect(&mut self, start: &str) -> String {
        let reply = self.reply().await;
        assert!(reply.starts_with(start), "{reply:?} instead of {start}");
        reply
    }

    /// The next whole reply, its lines separated by `\n`; empty if the server has closed.
    pub async fn reply(&mut self) -> String {
        loop {
            if let Some(reply) = self.take_reply() {
                return reply;
            }
            let read = self.stream.read_buf(&mut self.received);
            if timeout(PATIENCE, read).await.expect("a reply in time").unwrap_or(0) == 0 {
                return String::new();
            }
        }
    }

    fn take_reply(&mut self) -> Option<String> {
        let mut end = 0;
        for line in self.received.split_inclusive(|byte| *byte == b'\n') {
            end += line.len();
            if line.ends_with(b"\n") && line.get(3) == Some(&b' ') {
                let reply: Vec<u8> = self.received.drain(..end).collect();
                return Some(String::from_utf8(reply).unwrap().trim_end().replace("\r\n", "\n"));
            }
        }
        None
    }

    pub async fn login(&mut self, user: &str, password: &str) -> String {
        assert_eq!(self.say("AUTH LOGIN").await, "334 VXNlcm5hbWU6");
        assert_eq!(self.say(&BASE64.encode(user)).await, "334 UGFzc3dvcmQ6");
        self.say(&BASE64.encode(password)).await
    }

    /// One transaction; the reply that ended it.
    pub async fn send(&mut self, from: &str, to: &[&str], content: &str) -> String {
        let reply = self.say(&format!("MAIL FROM:<{from}>")).await;
        if !reply.starts_with("250") {
            return reply;
        }
        for recipient in to {
            let reply = self.say(&format!("RCPT TO:<{recipient}>")).await;
            assert!(reply.starts_with("250"), "{reply}");
        }
        let reply = self.say("DATA").await;
        assert!(reply.starts_with("354"), "{reply}");
        let stuffed = content.replace("\r\n.", "\r\n..");
        let first = if stuffed.starts_with('.') { "." } else { "" };
        self.write(format!("{first}{stuffed}.\r\n").as_bytes()).await;
        self.reply().await
    }
}
