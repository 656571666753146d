//! Floor 4: a simulated provider, Exchange Online with Entra ID or Gmail with Google.
//!
//! Serves `mailbearer demo`, tests and benchmarks. It is written apart from the session cores and
//! the token code of this crate on purpose: it is a second opinion on them. It owns an SMTP service
//! (STARTTLS, AUTH XOAUTH2 and OAUTHBEARER, verdicts after the final dot, limits per mailbox), an authorization
//! server (code with PKCE, device code, refresh, client credentials), a private certificate authority, a book of
//! everything that was seen, and a script of everything that is to go wrong. All of it lives on the
//! loopback interface, on ports of its own, in tasks that end with [`Sim::stop`]; nothing is global.
//!
//! Sources: the providers' documentation and published wire logs for texts, limits and their places
//! in the dialog; RFC 5321, 3207, 4954, 2920, 3030, 6749, 7628, 7636, 8252 and 8628 for the rest.

mod authority;
mod authorize;
mod device;
mod dots;
mod fault;
mod grants;
mod http;
mod http_line;
mod observe;
mod options;
mod sample;
mod sasl;
mod script;
mod sender;
mod service;
mod session;
mod texts;
mod throttle;
mod token_endpoint;
mod wire;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use url::Url;

use crate::base::Secret;
use crate::sim::authority::{Authority, SERVER_NAME};
use crate::sim::device::Devices;
use crate::sim::grants::Grants;
use crate::sim::observe::Book;
use crate::sim::service::{Port, Running};
use crate::sim::texts::Texts;
use crate::sim::throttle::Throttle;

pub use fault::{Answer, BadCertificate, Fault, Point};
pub use observe::{Counts, Overdue, Received};
pub use options::{
    ACCESS_TOKEN_CHARACTERS, EXCHANGE_MESSAGE_OCTETS, EXCHANGE_MESSAGES_PER_MINUTE,
    EXCHANGE_RECIPIENTS, EXCHANGE_RECIPIENTS_PER_DAY, EXCHANGE_SESSIONS, Flavour,
    GMAIL_MESSAGE_OCTETS, RateExcess, RefreshRule, SimClient, SimLimits, SimOptions, SimUser,
};
pub use sample::{APP_PROVIDER, PROVIDER};
pub use script::{Cue, Cued, Script};
pub use service::Service;

/// A simulated provider that is running.
pub struct Sim {
    shared: Arc<Shared>,
    smtp: Seat,
    http: Seat,
}

/// A service's port, and the service while it is up.
struct Seat {
    port: Port,
    running: tokio::sync::Mutex<Option<Running>>,
}

/// What all sessions and requests share.
struct Shared {
    options: SimOptions,
    script: Script,
    book: Book,
    authority: Authority,
    texts: Texts,
    throttle: Mutex<Throttle>,
    grants: Mutex<Grants>,
    devices: Mutex<Devices>,
    signs_in: Mutex<Option<String>>,
    hidden_extensions: Mutex<Vec<String>>,
    /// SMTP sessions so far.
    sessions: AtomicU64,
    /// Where the authorization server is: scheme, host, port and a slash.
    base_url: Url,
}

impl Shared {
    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn devices(&self) -> MutexGuard<'_, Devices> {
        self.devices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn endpoint(&self, name: &str) -> Url {
        let mut url = self.base_url.clone();
        url.set_path(&format!("{}/oauth2/v2.0/{name}", self.options.tenant));
        url
    }

    fn signs_in(&self) -> MutexGuard<'_, Option<String>> {
        self.signs_in.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The extensions that EHLO announces now.
    fn extensions(&self, is_tls: bool) -> Vec<String> {
        let hidden = self.hidden_extensions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut words = self.texts.extensions(is_tls, self.options.limits.message_octets);
        words.retain(|line| {
            let keyword = line.split(' ').next().unwrap_or(line);
            !hidden.iter().any(|hidden| hidden.eq_ignore_ascii_case(keyword))
        });
        words
    }
}

impl Sim {
    /// Starts both services on free ports of the loopback interface.
    pub async fn start(options: SimOptions) -> io::Result<Self> {
        let (smtp, http) = (Port::reserve()?, Port::reserve()?);
        let base_url = match options.https {
            true => format!("https://{SERVER_NAME}:{}/", http.address.port()),
            false => format!("http://{}/", http.address),
        };
        let book = Book::new(options.kept_messages, options.kept_lines);
        let shared = Arc::new(Shared {
            script: Script::new(book.clone(), options.patience),
            book,
            authority: Authority::generate()?,
            texts: Texts::new(options.flavour),
            throttle: Mutex::default(),
            grants: Mutex::default(),
            devices: Mutex::default(),
            signs_in: Mutex::new(options.signs_in.clone()),
            hidden_extensions: Mutex::default(),
            sessions: AtomicU64::new(0),
            base_url: Url::parse(&base_url).map_err(io::Error::other)?,
            options,
        });
        let sim = Self { shared, smtp: Seat::new(smtp), http: Seat::new(http) };
        sim.bring_up(Service::Smtp).await?;
        sim.bring_up(Service::Http).await?;
        Ok(sim)
    }

    /// Ends both services and all their tasks.
    pub async fn stop(self) {
        self.take_down(Service::Smtp).await;
        self.take_down(Service::Http).await;
    }

    // --- where it is ----------------------------------------------------------------------------

    /// Where the SMTP service listens. Its certificate is for `localhost` and `127.0.0.1`.
    pub fn smtp_address(&self) -> SocketAddr {
        self.smtp.port.address
    }

    /// The token endpoint.
    pub fn token_url(&self) -> Url {
        self.shared.endpoint("token")
    }

    /// The authorization page.
    pub fn authorize_url(&self) -> Url {
        self.shared.endpoint("authorize")
    }

    /// Where a code for another device is asked for.
    pub fn device_url(&self) -> Url {
        self.shared.endpoint("devicecode")
    }

    /// The certificate of the private authority, in PEM.
    pub fn ca_pem(&self) -> &str {
        self.shared.authority.ca_pem()
    }

    /// What it was started with.
    pub fn options(&self) -> &SimOptions {
        &self.shared.options
    }

    // --- configuration of a relay ---------------------------------------------------------------

    /// The scopes that a relay asks a person for.
    pub fn scopes(&self) -> Vec<&'static str> {
        let mail = self.shared.options.delegated_scopes()[0];
        match self.shared.options.flavour {
            Flavour::ExchangeOnline => vec![mail, "offline_access", "openid", "email"],
            Flavour::Gmail => vec![mail, "openid", "email"],
        }
    }

    /// The first public client, for sign-in by a person.
    pub fn client(&self) -> Option<&SimClient> {
        self.shared.options.clients.iter().find(|client| client.secret.is_none())
    }

    /// The first client with a secret.
    pub fn app_client(&self) -> Option<&SimClient> {
        self.shared.options.clients.iter().find(|client| client.secret.is_some())
    }

    /// A `[[provider]]` named [`PROVIDER`], for accounts that a person consents to. The file has to
    /// hold [`Sim::ca_pem`].
    pub fn provider_toml(&self, ca_file: &Path) -> String {
        let (authorize_url, device_url) = (self.authorize_url(), self.device_url());
        let pages = Some((authorize_url.as_str(), device_url.as_str()));
        self.provider_table(PROVIDER, pages, &self.scopes(), ca_file)
    }

    /// A `[[provider]]` named [`APP_PROVIDER`], for accounts of an application.
    pub fn app_provider_toml(&self, ca_file: &Path) -> String {
        let scopes = self.shared.options.app_scopes();
        self.provider_table(APP_PROVIDER, None, &scopes[..scopes.len().min(1)], ca_file)
    }

    /// An `[[account]]` at [`PROVIDER`] with the grant `authorization_code` and the public client.
    /// Lines with more keys may follow.
    pub fn account_toml(&self, mailbox: &str) -> String {
        let client = self.client().map_or("", |client| &client.id);
        sample::account(mailbox, PROVIDER, client, None, "authorization_code")
    }

    /// An `[[account]]` at [`APP_PROVIDER`] with the grant `client_credentials`. The file has to
    /// hold the secret of [`Sim::app_client`].
    pub fn app_account_toml(&self, mailbox: &str, client_secret_file: &Path) -> String {
        let client = self.app_client().map_or("", |client| &client.id);
        let file = Some(client_secret_file);
        sample::account(mailbox, APP_PROVIDER, client, file, "client_credentials")
    }

    fn provider_table(
        &self,
        name: &str,
        pages: Option<(&str, &str)>,
        scopes: &[&str],
        ca_file: &Path,
    ) -> String {
        let port = self.smtp_address().port();
        let token_url = self.token_url();
        let token_url = token_url.as_str();
        sample::provider(&self.shared, name, port, pages, token_url, scopes, ca_file)
    }

    // --- faults ---------------------------------------------------------------------------------

    /// The script: what is to go wrong, and where.
    pub fn script(&self) -> &Script {
        &self.shared.script
    }

    /// Closes a service's listener and cuts its connections.
    pub async fn take_down(&self, service: Service) {
        if let Some(running) = self.seat(service).running.lock().await.take() {
            running.stop().await;
        }
    }

    /// Brings a service up again, at the same port.
    pub async fn bring_up(&self, service: Service) -> io::Result<()> {
        let seat = self.seat(service);
        let mut running = seat.running.lock().await;
        if running.is_none() {
            *running = Some(Running::start(service, &seat.port, &self.shared)?);
        }
        Ok(())
    }

    /// EHLO no longer announces this extension; the service still has it.
    pub fn hide_extension(&self, keyword: &str) {
        let mut hidden =
            self.shared.hidden_extensions.lock().unwrap_or_else(PoisonError::into_inner);
        hidden.push(keyword.to_owned());
    }

    /// Who signs in on the authorization page from now on, whatever the `login_hint` says.
    pub fn sign_in_as(&self, mailbox: Option<&str>) {
        *self.shared.signs_in() = mailbox.map(str::to_owned);
    }

    fn seat(&self, service: Service) -> &Seat {
        match service {
            Service::Smtp => &self.smtp,
            Service::Http => &self.http,
        }
    }

    /// The codes for people that were handed out for other devices and are not redeemed yet.
    pub fn user_codes(&self) -> Vec<String> {
        self.shared.devices().user_codes()
    }

    /// A person types a code on the page for other devices, and signs in as `mailbox` or declines.
    /// False if nobody waits for that code.
    pub fn enter_code(&self, user_code: &str, mailbox: Option<&str>) -> bool {
        let now = self.shared.options.clock.now();
        self.shared.devices().decide(user_code, mailbox, now)
    }

    // --- tokens ---------------------------------------------------------------------------------

    /// An access token of a mailbox, as if its person had just consented.
    pub fn access_token(&self, mailbox: &str) -> Secret {
        self.grant(mailbox).0
    }

    /// Access and refresh token of a mailbox, as if its person had just consented with the public
    /// client.
    pub fn grant(&self, mailbox: &str) -> (Secret, Secret) {
        let options = &self.shared.options;
        let client = self.client().map_or("", |client| &client.id);
        let scope = self.scopes().join(" ");
        let now = options.clock.now();
        let issued = self.shared.grants().issue_to(options, mailbox, client, &scope, now);
        self.shared.book.count(|counts| counts.access_tokens += 1);
        let refresh_token = issued.refresh_token.unwrap_or_default();
        (Secret::new(issued.access_token), Secret::new(refresh_token))
    }

    /// All access tokens of a mailbox expire now; `None`: everybody's, and those of applications.
    pub fn expire_access_tokens(&self, mailbox: Option<&str>) {
        self.shared.grants().expire_access(mailbox, self.shared.options.clock.now());
    }

    /// All access tokens of a mailbox are revoked; `None`: everybody's, and those of applications.
    pub fn revoke_access_tokens(&self, mailbox: Option<&str>) {
        self.shared.grants().revoke_access(mailbox);
    }

    /// All refresh tokens of a mailbox are revoked (`invalid_grant`); `None`: everybody's.
    pub fn revoke_refresh_tokens(&self, mailbox: Option<&str>) {
        self.shared.grants().revoke_refresh(mailbox);
    }

    // --- what was seen --------------------------------------------------------------------------

    /// All messages that were taken and are kept, in the order of their final replies.
    pub fn messages(&self) -> Vec<Received> {
        self.shared.book.pages().received.iter().cloned().collect()
    }

    /// The messages that this mailbox has sent.
    pub fn mailbox(&self, mailbox: &str) -> Vec<Received> {
        let pages = self.shared.book.pages();
        let is_theirs = |message: &&Received| message.user.eq_ignore_ascii_case(mailbox);
        pages.received.iter().filter(is_theirs).cloned().collect()
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        self.shared.book.pages().counts.clone()
    }

    /// What clients did that no good client does: commands behind STARTTLS, bare line feeds in
    /// commands, text beyond ASCII that was not declared, malformed SASL. Empty for a good client.
    pub fn offences(&self) -> Vec<String> {
        self.shared.book.pages().offences.clone()
    }

    /// What was said over SMTP, line by line: the session, who spoke (`C` or `S`), and what. Tokens,
    /// passwords and messages are replaced by their lengths.
    pub fn transcript(&self) -> Vec<String> {
        self.shared.book.pages().transcript.iter().cloned().collect()
    }

    /// Waits until at least so many messages were taken; gives all that are kept.
    pub async fn received(&self, count: u64) -> Result<Vec<Received>, Overdue> {
        self.received_within(count, self.shared.options.patience).await
    }

    /// The same with another patience.
    pub async fn received_within(
        &self,
        count: u64,
        patience: Duration,
    ) -> Result<Vec<Received>, Overdue> {
        let what = format!("{count} messages");
        let look = |pages: &observe::Pages| {
            (pages.counts.messages >= count).then(|| pages.received.iter().cloned().collect())
        };
        self.shared.book.until(&what, patience, look).await
    }

    /// Waits until the counts are as wanted; `what` names it if they never are.
    pub async fn until(
        &self,
        what: &str,
        mut is_wanted: impl FnMut(&Counts) -> bool,
    ) -> Result<Counts, Overdue> {
        let look = |pages: &observe::Pages| is_wanted(&pages.counts).then(|| pages.counts.clone());
        self.shared.book.until(what, self.shared.options.patience, look).await
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim")
            .field("smtp", &self.smtp.port.address)
            .field("http", &self.shared.base_url.as_str())
            .finish_non_exhaustive()
    }
}

impl Seat {
    fn new(port: Port) -> Self {
        Self { port, running: tokio::sync::Mutex::new(None) }
    }
}
