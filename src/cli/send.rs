//! `mailbearer send`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use lettre::message::header::ContentType;

use super::exit::{Exit, Failure};
use super::old_client::{OldClient, OldClientError};
use super::{ConfigArgument, password};
use crate::base::{Clock, QueueId};
use crate::config::{Config, ListenerTls};
use crate::mail::Mailbox;
use crate::net::pinned_config;

/// Send a test message through a listener, as an old client would
#[derive(Debug, Args)]
pub(crate) struct Send {
    /// Who receives it
    #[arg(long, value_name = "ADDRESS", required = true)]
    to: Vec<Mailbox>,
    /// Who sends it; default: the mailbox of the first account
    #[arg(long, value_name = "ADDRESS")]
    from: Option<Mailbox>,
    /// The subject
    #[arg(long, default_value = "Test message from mailbearer")]
    subject: String,
    /// The listener's address; default: the first one of the configuration
    #[arg(long, value_name = "ADDRESS:PORT")]
    listener: Option<SocketAddr>,
    /// The user name of a credential; the password is prompted for or read from standard input
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A file whose first line is the password
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgument,
}

impl Send {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let listener = match self.listener {
            None => config.listeners.first(),
            Some(address) => config.listeners.iter().find(|known| known.address == address),
        };
        let Some(listener) = listener else {
            let known: Vec<_> =
                config.listeners.iter().map(|known| known.address.to_string()).collect();
            let text = format!("no such listener in the configuration: say {}", known.join(" or "));
            return Err(Failure::new(Exit::Data, text));
        };
        let first_account = config.accounts.first().map(|account| account.mailbox.clone());
        let Some(from) = self.from.clone().or(first_account) else {
            return Err(Failure::new(Exit::Data, "say who sends it: --from ADDRESS"));
        };
        let content = compose(&from, &self.to, &self.subject)?;
        let password = match &self.user {
            Some(_) => Some(password::ask("Password: ", self.password_file.as_deref())?),
            None => None,
        };
        let implicit_tls = match listener.tls {
            ListenerTls::Implicit => Some(pinned(&config)?),
            ListenerTls::Off | ListenerTls::StartTls | ListenerTls::Require => None,
        };
        let mut client = OldClient::connect(reachable(listener.address), implicit_tls).await?;
        match listener.tls {
            ListenerTls::StartTls | ListenerTls::Require => {
                client.start_tls(pinned(&config)?).await?;
            }
            ListenerTls::Off | ListenerTls::Implicit => {}
        }
        if let (Some(user), Some(password)) = (&self.user, &password) {
            client.login(user, password).await?;
        }
        let answer = client.send(&from, &self.to, &content).await?;
        println!("{} ({} ms)", answer.text, answer.took.as_millis());
        client.quit().await;
        Ok(())
    }
}

/// The address to connect to: a listener on all interfaces is reached through loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Trusts exactly the certificate that our own listener shows.
fn pinned(config: &Config) -> Result<Arc<rustls::ClientConfig>, Failure> {
    let server = &config.server;
    let file = match &server.certificate {
        Some(files) => files.certificate.clone(),
        None => server.data_dir.join("tls").join("certificate.pem"),
    };
    pinned_config(&file).map_err(|error| Failure::new(Exit::Config, error))
}

/// A plain text message.
pub(super) fn compose(from: &Mailbox, to: &[Mailbox], subject: &str) -> Result<Vec<u8>, Failure> {
    let address = |mailbox: &Mailbox| {
        let parsed = mailbox.as_str().parse::<lettre::message::Mailbox>();
        parsed.map_err(|error| Failure::new(Exit::Data, format!("{mailbox}: {error}")))
    };
    let mut builder = lettre::Message::builder().from(address(from)?).subject(subject);
    for mailbox in to {
        builder = builder.to(address(mailbox)?);
    }
    let text = "This message came from an old SMTP client with a user name and a password, or none,\r\n\
                through mailbearer, which sent it on with OAuth2.\r\n\
                .\r\n\
                (The line above is a single dot: a relay that got dots wrong would end here.)\r\n";
    let id = QueueId::generate(Clock::system().now()).as_str().to_lowercase();
    let builder = builder.date_now().message_id(Some(format!("<{id}@mailbearer.invalid>")));
    let message = builder.header(ContentType::TEXT_PLAIN).body(text.to_owned());
    let message = message.map_err(|error| Failure::new(Exit::Software, error))?;
    Ok(message.formatted())
}

impl From<OldClientError> for Failure {
    fn from(error: OldClientError) -> Self {
        match &error {
            OldClientError::Io(_) => Self::new(
                Exit::Unavailable,
                format!("{error}. Is the relay running? mailbearer serve"),
            ),
            OldClientError::Tls(_) => Self::new(Exit::Unavailable, error),
            OldClientError::Refused { text, .. } if text.starts_with("530") => {
                let text = format!("{error}. Say who sends: --user NAME");
                Self::new(Exit::Permission, text)
            }
            OldClientError::Refused { text, .. } if text.starts_with('4') => {
                Self::new(Exit::Temporary, error)
            }
            OldClientError::Refused { .. } => Self::new(Exit::Unavailable, error),
        }
    }
}
