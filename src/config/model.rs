//! The checked configuration.
//!
//! Owns the types that the rest of the house reads. Whoever holds a [`Config`] need not check
//! anything again: every account, provider and file that is named here exists, every listener that
//! serves clients without authentication names their networks, and every secret has been read.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::config::{BareNewline, IpNetwork, PasswordHash};
use crate::mail::{AddressError, AddressPattern, Mailbox};
use crate::oauth::{ClientRegistration, Grant, Mechanism};

/// One configuration file, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[server]`.
    pub server: Server,
    /// `[[listener]]`, at least one.
    pub listeners: Vec<Listener>,
    /// `[[credential]]`; more of them may live in the store.
    pub credentials: Vec<Credential>,
    /// `[[account]]`, at least one, each mailbox once.
    pub accounts: Vec<Arc<Account>>,
    /// `[log]`.
    pub log: Log,
}

impl Config {
    /// The account of that name.
    pub fn account(&self, name: &AccountName) -> Option<&Arc<Account>> {
        self.accounts.iter().find(|account| account.name == *name)
    }

    /// Accounts that no credential and no network of this file may use: only a credential in the
    /// store can, and if there is none either, nobody can.
    pub fn accounts_left_to_the_store(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.iter().filter(|account| {
            let is_theirs = |name: &AccountName| *name == account.name;
            let mut networks = self.listeners.iter().flat_map(|listener| &listener.networks);
            !self.credentials.iter().any(|credential| is_theirs(&credential.account))
                && !networks.any(|network| is_theirs(&network.account))
        })
    }
}

/// `[server]`: what holds for the whole program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The name in greetings, EHLO and Received lines. Default: the machine's host name.
    pub hostname: String,
    /// Where the store, its key and generated certificates live.
    pub data_dir: PathBuf,
    /// The certificate of the listeners. Without one, a self-signed certificate is generated.
    pub certificate: Option<CertificateFiles>,
    /// How long a client in `confirm` mode waits for upstream's verdict.
    pub confirm_within: Duration,
    /// Octets of the largest message that is taken (`max_message_size`).
    pub max_message_octets: u64,
}

/// `certificate` and `key` of `[server]`: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate, followed by its intermediates.
    pub certificate: PathBuf,
    /// The private key of the first certificate.
    pub key: PathBuf,
}

/// `[[listener]]`: one address at which clients are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where to listen. Port 0 lets the system choose.
    pub address: SocketAddr,
    /// TLS on this listener.
    pub tls: ListenerTls,
    /// Who has to authenticate.
    pub auth: AuthPolicy,
    /// True if a password is taken over a connection without TLS. Only where this was written, or
    /// on loopback; never where TLS or the lack of AUTH makes it pointless.
    pub plaintext_auth: bool,
    /// Clients that need not authenticate, and the account that each of them uses.
    pub networks: Vec<Network>,
    /// Overrides the account's way of delivery.
    pub delivery: Option<Delivery>,
    /// What happens to a line end that is not CRLF.
    pub bare_newline: BareNewline,
}

impl Listener {
    /// True if AUTH is offered here, at least once TLS is there.
    pub fn offers_auth(&self) -> bool {
        match self.auth {
            AuthPolicy::Required | AuthPolicy::Optional => true,
            AuthPolicy::Off => false,
        }
    }

    /// The network that a client belongs to, and so the account that it may use without
    /// authentication. Where networks overlap the narrowest counts.
    pub fn network_of(&self, client: IpAddr) -> Option<&Network> {
        let width =
            |network: &Network| network.from.iter().filter_map(|n| n.width_for(client)).max();
        self.networks
            .iter()
            .filter_map(|network| width(network).map(|width| (width, network)))
            .max_by_key(|(width, _)| *width)
            .map(|(_, network)| network)
    }
}

/// `tls` of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListenerTls {
    /// `off`: STARTTLS is not offered.
    Off,
    /// `starttls`: offered, and up to the client.
    #[default]
    StartTls,
    /// `require`: STARTTLS comes before anything else.
    Require,
    /// `implicit`: the connection starts with TLS.
    Implicit,
}

/// `auth` of a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthPolicy {
    /// `required`: everybody authenticates, except the clients of the listener's networks.
    #[default]
    Required,
    /// `optional`: made for clients of the listener's networks, of which there is at least one;
    /// they may authenticate, everybody else has to.
    Optional,
    /// `off`: AUTH is not offered. Only the clients of the listener's networks are served.
    Off,
}

/// `[[listener.network]]`: clients that need not authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Their addresses, at least one.
    pub from: Vec<IpNetwork>,
    /// The account that they use.
    pub account: AccountName,
    /// Reverse-paths that they may use. Default: the account's mailbox.
    pub may_send_as: Vec<AddressPattern>,
    /// Forward-paths that they may use. Default: all.
    pub may_send_to: Vec<AddressPattern>,
}

/// `[[credential]]`: what a local client presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The user name.
    pub name: String,
    /// The hash of the password.
    pub password_hash: PasswordHash,
    /// The account that the client uses.
    pub account: AccountName,
    /// Reverse-paths that it may use. Default: the account's mailbox.
    pub may_send_as: Vec<AddressPattern>,
    /// Forward-paths that it may use. Default: all.
    pub may_send_to: Vec<AddressPattern>,
    /// Overrides the account's and the listener's way of delivery.
    pub delivery: Option<Delivery>,
}

/// The name of an account: its mailbox in lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountName(Arc<str>);

impl AccountName {
    /// The name of the account with that mailbox.
    pub fn of(mailbox: &Mailbox) -> Self {
        Self(Arc::from(mailbox.to_key()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountName {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Mailbox::parse(text).map(|mailbox| Self::of(&mailbox))
    }
}

impl fmt::Display for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AccountName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[[account]]`: one upstream identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// How everything else refers to it.
    pub name: AccountName,
    /// The mailbox, as it was written.
    pub mailbox: Mailbox,
    /// The provider, with everything that the account's tenant and grant decide.
    pub provider: Provider,
    /// Who signs in instead of the mailbox itself: somebody who may send as the mailbox.
    pub signs_in_as: Option<Mailbox>,
    /// How a token is obtained.
    pub grant: Grant,
    /// Our registration with the provider.
    pub client: ClientRegistration,
    /// What happens to a message from another sender.
    pub sender: SenderPolicy,
    /// How its mail is delivered.
    pub delivery: Delivery,
}

impl Account {
    /// The address that signs in, and that upstream is told as the user.
    pub fn user(&self) -> &Mailbox {
        self.signs_in_as.as_ref().unwrap_or(&self.mailbox)
    }
}

/// `sender` of an account: what happens to a message whose reverse-path is another address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SenderPolicy {
    /// `keep`: upstream decides.
    #[default]
    Keep,
    /// `refuse`: it is refused here.
    Refuse,
}

/// `delivery`: when a client gets its 250.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// `confirm`: upstream's verdict, or a commit if there is none in time.
    #[default]
    Confirm,
    /// `queue`: a commit, then delivery.
    Queue,
    /// `direct`: upstream's verdict, or 451; never stored.
    Direct,
}

/// A provider as one account uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// One of [`PROVIDER_NAMES`](crate::oauth::PROVIDER_NAMES), or the name of a `[[provider]]`.
    pub name: String,
    /// Where its mail goes.
    pub smtp: SmtpEndpoint,
    /// How a token is presented there.
    pub mechanism: Mechanism,
    /// Where a person signs in; there whenever the account's grant needs it.
    pub authorize_url: Option<Url>,
    /// Where tokens come from. `https`, or `http` on loopback.
    pub token_url: Url,
    /// Where a code for a sign-in on another device is asked for, if the provider has that.
    pub device_url: Option<Url>,
    /// Where refresh tokens are ended (RFC 7009), if that is known.
    pub revoke_url: Option<Url>,
    /// `iss` of its ID tokens and redirects, if that is known.
    pub issuer: Option<String>,
    /// The scopes that the account's grant asks for.
    pub scopes: Vec<String>,
    /// PEM file with the only certificate authorities that are trusted for its hosts.
    pub ca_file: Option<PathBuf>,
    /// What one mailbox may do.
    pub limits: ProviderLimits,
}

/// `smtp` of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmtpEndpoint {
    /// Host name or address, which the certificate has to carry.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// How TLS begins.
    pub tls: UpstreamTls,
}

/// `smtp.tls` of a provider. There is no way to do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamTls {
    /// `starttls`.
    StartTls,
    /// `implicit`.
    Implicit,
}

/// `limits` of a provider: what all clients of one mailbox share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProviderLimits {
    /// Concurrent sessions.
    pub sessions: usize,
    /// Messages a minute.
    pub messages_per_minute: u32,
    /// Recipients in 24 hours.
    pub recipients_per_day: u32,
    /// Octets of the largest message (`max_message_size`), if known before EHLO says so.
    pub max_message_octets: Option<u64>,
}

/// `[log]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// `format`.
    pub format: LogFormat,
    /// `level`.
    pub level: LogLevel,
}

/// `format` of `[log]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `text`: lines for people.
    #[default]
    Text,
    /// `json`: one object a line.
    Json,
}

/// `level` of `[log]`: the least important lines that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// `error`.
    Error,
    /// `warn`.
    Warn,
    /// `info`.
    #[default]
    Info,
    /// `debug`.
    Debug,
    /// `trace`.
    Trace,
}

impl LogLevel {
    /// The name, as in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
