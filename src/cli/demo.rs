//! `mailbearer demo`.
//!
//! Starts the simulated provider and the whole relay in a temporary folder, signs in, sends a
//! message as an old client would, and shows its way. Nothing leaves the machine.

use std::path::Path;
use std::time::Instant;

use clap::Args;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::signal::ctrl_c;

use super::exit::{Exit, Failure};
use super::old_client::OldClient;
use super::send::compose;
use crate::base::{Clock, Secret};
use crate::config::{self, Config, PasswordHash};
use crate::daemon::{Daemon, Settings};
use crate::mail::Mailbox;
use crate::sim::{Received, Sim, SimOptions, SimUser};
use crate::store::Store;
use crate::token::Consent;

const MAILBOX: &str = "scanner@contoso.example";
const RECIPIENT: &str = "office@contoso.example";
const USER: &str = "old-printer";

/// Show everything at work with a simulated provider: no account needed
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Stop after the message; exit 0 only if upstream holds it byte for byte
    #[arg(long)]
    once: bool,
}

impl Demo {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let folder = tempfile::Builder::new().prefix("mailbearer-demo-").tempdir()?;
        let password = Secret::new(random_password());
        let mut steps = Steps::new();

        let sim =
            Sim::start(SimOptions { users: vec![SimUser::new(MAILBOX)], ..SimOptions::default() })
                .await?;
        steps.done(&format!(
            "A simulated Exchange Online is up: SMTP on {}, sign-in on {}.",
            sim.smtp_address(),
            sim.token_url().authority(),
        ));
        let config = write_config(folder.path(), &sim, &password)?;
        let store = Store::open(&config.server.data_dir, Clock::system())?;
        sign_in(&config, &store).await?;
        steps.done(&format!(
            "{MAILBOX} has signed in (authorization code with PKCE); its tokens are sealed in the \
             store."
        ));
        let daemon = Daemon::start(&config, Settings::default()).await?;
        let address = daemon.addresses()[0];
        steps.done(&format!("mailbearer listens on {address}."));

        let (from, to) = (mailbox(MAILBOX)?, mailbox(RECIPIENT)?);
        let content = compose(&from, std::slice::from_ref(&to), "Scan 1 from the old printer")?;
        let mut client = OldClient::connect(address, None).await?;
        steps.done("An old client connects in plaintext and says EHLO.");
        client.login(USER, &password).await?;
        steps.done(&format!("It logs in with AUTH LOGIN as {USER}: the password is right."));
        let answer = client.send(&from, &[to], &content).await?;
        steps.done(&format!(
            "It hands over a message of {} bytes. mailbearer takes a fresh token, opens a verified \
             TLS session\n          to upstream, logs in with AUTH XOAUTH2 and passes the message \
             on. Upstream's own verdict\n          is the client's reply:\n          {}",
            content.len(),
            answer.text,
        ));
        let mut second = content.clone();
        second.extend_from_slice(b"Second page.\r\n");
        client.send(&from, &[mailbox(RECIPIENT)?], &second).await?;
        steps.done("A second message goes through the same warm session.");
        client.quit().await;

        let received = sim.received(2).await;
        let received = received.map_err(|error| Failure::new(Exit::Software, error))?;
        let is_whole = [(&received[0], &content), (&received[1], &second)]
            .into_iter()
            .all(|(received, sent)| is_byte_for_byte(received, sent));
        if !is_whole {
            let text =
                "upstream does not hold what the client sent: this is a bug, please report it";
            return Err(Failure::new(Exit::Software, text));
        }
        steps.done("Upstream holds both messages byte for byte, apart from one Received line.");
        if !self.once {
            println!("\n{}", how_to_send(address, &password));
            ctrl_c().await?;
            println!();
        }
        daemon.stop().await;
        sim.stop().await;
        Ok(())
    }
}

/// Prints what happened, and how long it took.
struct Steps {
    last: Instant,
}

impl Steps {
    fn new() -> Self {
        println!("mailbearer demo: old SMTP in, OAuth2 out. Nothing leaves this machine.\n");
        Self { last: Instant::now() }
    }

    fn done(&mut self, what: &str) {
        let now = Instant::now();
        let took = now.duration_since(self.last).as_secs_f64() * 1_000.0;
        println!("{took:6.1} ms  {what}");
        self.last = now;
    }
}

fn write_config(folder: &Path, sim: &Sim, password: &Secret) -> Result<Config, Failure> {
    let ca_file = folder.join("simulated-ca.pem");
    std::fs::write(&ca_file, sim.ca_pem())?;
    let hash = PasswordHash::hash(password).map_err(|error| Failure::new(Exit::Software, error))?;
    let text = format!(
        "[server]\n\
         hostname = \"localhost\"\n\
         data_dir = \"{}\"\n\n\
         [[listener]]\n\
         address = \"127.0.0.1:0\"\n\
         tls = \"starttls\"\n\
         auth = \"required\"\n\n\
         [[credential]]\n\
         name = \"{USER}\"\n\
         password_hash = \"{hash}\"\n\
         account = \"{MAILBOX}\"\n\n\
         {}\n{}\n",
        folder.join("data").display(),
        sim.account_toml(MAILBOX),
        sim.provider_toml(&ca_file),
    );
    let path = folder.join("mailbearer.toml");
    std::fs::write(&path, &text)?;
    config::parse(&text, &path).map_err(|mistakes| Failure::new(Exit::Software, mistakes))
}

/// Plays the person in the browser: opens the address, and is sent back to the loopback redirect.
/// The simulated provider lets the mailbox's owner in without asking.
async fn sign_in(config: &Config, store: &Store) -> Result<(), Failure> {
    let consent = Consent::begin(&config.accounts[0], store, &Clock::system()).await?;
    let ended_at = browse(consent.url()).await?;
    consent.finish_with_pasted(&ended_at).await?;
    Ok(())
}

/// Where the page at a loopback address redirects to.
async fn browse(url: &url::Url) -> Result<String, Failure> {
    let address = url.socket_addrs(|| None)?;
    let mut stream = TcpStream::connect(&address[..]).await?;
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = url.authority();
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(65_536).read_to_string(&mut answer).await?;
    let location = answer.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("location").then(|| value.trim().to_owned())
    });
    location.ok_or_else(|| Failure::new(Exit::Software, "the simulated sign-in did not redirect"))
}

/// True if what upstream holds is one Received line and then exactly what the client sent.
fn is_byte_for_byte(received: &Received, sent: &[u8]) -> bool {
    let Some(prologue) = received.bytes.strip_suffix(sent) else { return false };
    let text = String::from_utf8_lossy(prologue);
    let fields: Vec<_> = text.split("\r\n").filter(|line| !line.starts_with('\t')).collect();
    matches!(fields[..], [received, ""] if received.starts_with("Received: "))
}

fn mailbox(text: &str) -> Result<Mailbox, Failure> {
    Mailbox::parse(text).map_err(|error| Failure::new(Exit::Software, error))
}

/// Readable, and gone with the demo.
fn random_password() -> String {
    let id = crate::base::QueueId::generate(Clock::system().now());
    id.as_str()[8..].to_ascii_lowercase()
}

fn how_to_send(address: std::net::SocketAddr, password: &Secret) -> String {
    let (host, port, password) = (address.ip(), address.port(), password.expose());
    format!(
        "Send one of your own while the demo runs:\n\n  \
         host {host}   port {port}   user {USER}   password {password}   (plaintext or STARTTLS)\n  \
         sender {MAILBOX}\n\n  \
         printf 'From: {MAILBOX}\\r\\nTo: {RECIPIENT}\\r\\nSubject: mine\\r\\n\\r\\nHello\\r\\n' |\n  \
         curl -sS smtp://{host}:{port} --user {USER}:{password} --mail-from {MAILBOX} \\\n       \
         --mail-rcpt {RECIPIENT} --upload-file -\n\n\
         Ctrl-C ends it."
    )
}
