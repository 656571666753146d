//! What the relay costs and what it saves, side by side in one run on one machine.
//!
//! `cargo bench` prints a table. The simulated provider stands for upstream, in the same process, so
//! the figures compare with each other and not with those of a real provider, whose network only
//! makes the difference larger.

#[path = "../tests/support/relay.rs"]
mod relay;

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mailbearer::sim::{SimLimits, SimOptions};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use relay::{Client, MAILBOX, RECIPIENT, Relay, Setup};

const MESSAGES: usize = 300;
const QUEUE_SESSIONS: usize = 64;
const QUEUE_MESSAGES: usize = 20_000;
const IDLE_SESSIONS: usize = 1_000;

fn setup(delivery: &str) -> Setup {
    let options = SimOptions {
        limits: SimLimits::none(),
        kept_messages: 4,
        kept_lines: 0,
        ..SimOptions::default()
    };
    Setup { options, ..Setup::delivery(delivery) }
}

/// A message of 4 KiB.
fn message() -> String {
    let header = "Date: x\r\nMessage-ID: <1@bench>\r\nSubject: bench\r\n\r\n";
    let line = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnop\r\n";
    format!("{header}{}", line.repeat((4_096 - header.len()) / line.len()))
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    println!("{:<66} {:>14}", "what", "figure");
    runtime.block_on(per_message());
    runtime.block_on(added_latency());
    runtime.block_on(queue_throughput());
    runtime.block_on(idle_sessions());
}

fn row(what: &str, figure: String) {
    println!("{what:<66} {figure:>14}");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1_000.0)
}

/// A client of its own for every message: straight to upstream, and through the relay.
async fn per_message() {
    let relay = Relay::start(setup("confirm")).await;
    let (tls, token) = (tls(&relay), relay.sim.access_token(MAILBOX));
    let content = message();
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    // In turn, so that a busy moment of the machine hits both.
    for _ in 0..MESSAGES {
        let started = Instant::now();
        let mut client = log_in_upstream(&relay, &tls, token.expose()).await;
        send(&mut client, &content).await;
        client.say("QUIT").await;
        direct.push(started.elapsed());

        let started = Instant::now();
        let reply = relay.send(&content).await;
        assert!(reply.starts_with("250"), "{reply}");
        through.push(started.elapsed());
    }
    let (direct, through) = (median(direct), median(through));
    row("one client per message, straight to upstream (TLS, XOAUTH2)", millis(direct));
    row("one client per message, through mailbearer (plain, AUTH LOGIN)", millis(through));
    let ratio = direct.as_secs_f64() / through.as_secs_f64();
    row("  faster by the factor", format!("{ratio:.1}"));
    relay.stop().await;
}

/// Sessions that stay open on both ways: what the relay adds to a transaction.
async fn added_latency() {
    let relay = Relay::start(setup("confirm")).await;
    let (tls, token) = (tls(&relay), relay.sim.access_token(MAILBOX));
    let content = message();
    let mut upstream = log_in_upstream(&relay, &tls, token.expose()).await;
    let mut client = relay.logged_in().await;
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    for _ in 0..MESSAGES {
        let started = Instant::now();
        send(&mut upstream, &content).await;
        direct.push(started.elapsed());
        let started = Instant::now();
        send(&mut client, &content).await;
        through.push(started.elapsed());
    }
    let (direct, through) = (median(direct), median(through));
    row("a transaction on an open session, straight to upstream", millis(direct));
    row("a transaction on an open session, through mailbearer", millis(through));
    row("  added at the median", millis(through.saturating_sub(direct)));
    relay.stop().await;
}

/// Every 250 after a sync, while deliveries go on behind.
async fn queue_throughput() {
    let relay = Arc::new(Relay::start(setup("queue")).await);
    relay.sim.take_down(mailbearer::sim::Service::Smtp).await;
    let content = Arc::new(message());
    let commits = relay.daemon.store().commits();
    let mut clients = Vec::new();
    for _ in 0..QUEUE_SESSIONS {
        clients.push(relay.logged_in().await);
    }
    let started = Instant::now();
    let tasks: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let content = content.clone();
            tokio::spawn(async move {
                for _ in 0..QUEUE_MESSAGES / QUEUE_SESSIONS {
                    let transaction =
                        format!("MAIL FROM:<{MAILBOX}>\r\nRCPT TO:<{RECIPIENT}>\r\nDATA\r\n");
                    client.write(transaction.as_bytes()).await;
                    for expected in ["250", "250", "354"] {
                        client.expect(expected).await;
                    }
                    client.write(format!("{content}.\r\n").as_bytes()).await;
                    client.expect("250 2.0.0 queued as").await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let rate = QUEUE_MESSAGES as f64 / started.elapsed().as_secs_f64();
    row("queue mode, 64 sessions, 4 KiB messages, every 250 after a sync", format!("{rate:.0} /s"));
    let commits = relay.daemon.store().commits() - commits;
    row("  messages that share one sync", format!("{:.1}", QUEUE_MESSAGES as f64 / commits as f64));
}

/// Resident size of this process, the simulated provider included.
async fn idle_sessions() {
    let relay = Relay::start(setup("confirm")).await;
    let before = resident_kib();
    let mut clients = Vec::new();
    for _ in 0..IDLE_SESSIONS {
        clients.push(relay.client().await);
    }
    let grown = resident_kib().saturating_sub(before);
    row("1,000 idle sessions, with the clients of this bench", format!("{grown} KiB"));
    drop(clients);
    relay.stop().await;
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

async fn send<S>(client: &mut Client<S>, content: &str)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let reply = client.send(MAILBOX, &[RECIPIENT], content).await;
    assert!(reply.starts_with("250"), "{reply}");
}

fn tls(relay: &Relay) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(relay.sim.ca_pem().as_bytes()).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}

/// What a client without a relay has to do before every message.
async fn log_in_upstream(
    relay: &Relay,
    tls: &TlsConnector,
    token: &str,
) -> Client<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(relay.sim.smtp_address()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut plain = Client::new(stream);
    plain.expect("220").await;
    plain.say("EHLO bench").await;
    assert!(plain.say("STARTTLS").await.starts_with("220"));
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = Client::new(tls.connect(name, plain.into_inner()).await.unwrap());
    client.say("EHLO bench").await;
    assert!(client.say("AUTH XOAUTH2").await.starts_with("334"));
    let blob = BASE64.encode(format!("user={MAILBOX}\x01auth=Bearer {token}\x01\x01"));
    assert!(client.say(&blob).await.starts_with("235"));
    client
}
