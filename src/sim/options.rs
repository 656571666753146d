//! What a simulated provider is like: its users, clients, limits and manners.
//!
//! Owns [`SimOptions`]. The defaults are Exchange Online as Microsoft documents it in 2026; every
//! number that a test needs smaller, larger or faster is a field.

use std::time::Duration;

use crate::base::{Clock, Secret};

/// `SIZE` of Exchange Online's EHLO: 150 MiB, in octets.
pub const EXCHANGE_MESSAGE_OCTETS: u64 = 157_286_400;

/// `SIZE` of Gmail's EHLO, in octets.
pub const GMAIL_MESSAGE_OCTETS: u64 = 35_882_577;

/// Sessions of one mailbox that Exchange Online lets submit at a time.
pub const EXCHANGE_SESSIONS: usize = 3;

/// Messages of one mailbox in a minute.
pub const EXCHANGE_MESSAGES_PER_MINUTE: usize = 30;

/// Recipients of one mailbox in 24 hours.
pub const EXCHANGE_RECIPIENTS_PER_DAY: usize = 10_000;

/// Recipients of one transaction: the default `RecipientLimits` of a mailbox.
pub const EXCHANGE_RECIPIENTS: usize = 500;

/// Characters of an access token, about what Microsoft's work accounts have. Short tokens hide
/// faults in the handling of AUTH lines.
pub const ACCESS_TOKEN_CHARACTERS: usize = 1_600;

/// What a simulated provider is like.
#[derive(Clone, Debug)]
pub struct SimOptions {
    /// Whose manners and texts it has.
    pub flavour: Flavour,
    /// The tenant in the paths of the authorization server.
    pub tenant: String,
    /// The mailboxes. The first one is the one that tests and the demo use by default.
    pub users: Vec<SimUser>,
    /// The client registrations: by default a public one (sign-in by a person) and a confidential
    /// one with a secret (client credentials).
    pub clients: Vec<SimClient>,
    /// The authorization server speaks HTTPS, with a certificate of the private authority.
    pub https: bool,
    /// How long an access token is good for.
    pub access_token_lifetime: Duration,
    /// How long an access token is, in characters.
    pub access_token_characters: usize,
    /// How long a device has to wait between two polls.
    pub device_interval: Duration,
    /// What becomes of a refresh token that was used.
    pub refresh_rule: RefreshRule,
    /// Who signs in, whatever the `login_hint` says.
    pub signs_in: Option<String>,
    /// The authorization page waits for a button even if there is a `login_hint`.
    pub always_ask: bool,
    /// The limits of each mailbox.
    pub limits: SimLimits,
    /// What happens to messages above the limit per minute.
    pub rate_excess: RateExcess,
    /// How long a minute is: tests make it shorter.
    pub minute: Duration,
    /// How long a day is.
    pub day: Duration,
    /// How long a session may be silent before the service closes it; `None` is for ever.
    pub idle: Option<Duration>,
    /// How many received messages are kept; older ones are forgotten, but stay counted.
    pub kept_messages: usize,
    /// How many lines of [`Sim::transcript`](crate::sim::Sim::transcript) are kept.
    pub kept_lines: usize,
    /// How long [`Sim::received`](crate::sim::Sim::received) and the other waits wait at most.
    pub patience: Duration,
    /// Where the time comes from by which tokens expire.
    pub clock: Clock,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            flavour: Flavour::ExchangeOnline,
            tenant: "contoso.onmicrosoft.com".to_owned(),
            users: vec![SimUser::new("scanner@contoso.com"), SimUser::new("erp@contoso.com")],
            clients: vec![
                SimClient::public("5f1c7a52-0000-4000-8000-00000000c11e"),
                SimClient::confidential(
                    "5f1c7a52-0000-4000-8000-0000000005ec",
                    "sim~8Q~not-a-real-client-secret",
                ),
            ],
            https: false,
            access_token_lifetime: Duration::from_secs(3_599),
            access_token_characters: ACCESS_TOKEN_CHARACTERS,
            device_interval: Duration::from_secs(5),
            refresh_rule: RefreshRule::RotateAndDetectReuse,
            signs_in: None,
            always_ask: false,
            limits: SimLimits::default(),
            rate_excess: RateExcess::Delay,
            minute: Duration::from_secs(60),
            day: Duration::from_secs(86_400),
            idle: None,
            kept_messages: usize::MAX,
            kept_lines: 10_000,
            patience: Duration::from_secs(20),
            clock: Clock::system(),
        }
    }
}

impl SimOptions {
    /// A provider with Gmail's manners: other EHLO, errors of XOAUTH2 as a challenge, none of
    /// Exchange Online's limits.
    pub fn gmail() -> Self {
        Self {
            flavour: Flavour::Gmail,
            limits: SimLimits { message_octets: GMAIL_MESSAGE_OCTETS, ..SimLimits::none() },
            ..Self::default()
        }
    }

    /// The scopes that let a person's token send by SMTP.
    pub(super) fn delegated_scopes(&self) -> &'static [&'static str] {
        match self.flavour {
            Flavour::ExchangeOnline => {
                &["https://outlook.office.com/SMTP.Send", "https://outlook.office365.com/SMTP.Send"]
            }
            Flavour::Gmail => &["https://mail.google.com/"],
        }
    }

    /// The scopes for SMTP that a sign-in on another device may ask for. Google allows none.
    pub(super) fn device_scopes(&self) -> &'static [&'static str] {
        match self.flavour {
            Flavour::ExchangeOnline => self.delegated_scopes(),
            Flavour::Gmail => &[],
        }
    }

    /// The scopes that let an application's token send by SMTP.
    pub(super) fn app_scopes(&self) -> &'static [&'static str] {
        match self.flavour {
            Flavour::ExchangeOnline => {
                &["https://outlook.office365.com/.default", "https://outlook.office.com/.default"]
            }
            Flavour::Gmail => &[],
        }
    }

    pub(super) fn user(&self, name: &str) -> Option<&SimUser> {
        self.users.iter().find(|user| user.mailbox.eq_ignore_ascii_case(name))
    }

    pub(super) fn client(&self, id: &str) -> Option<&SimClient> {
        self.clients.iter().find(|client| client.id == id)
    }
}

/// Whose manners a simulated provider has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// `smtp.office365.com` and Entra ID.
    ExchangeOnline,
    /// `smtp.gmail.com` and Google's authorization server.
    Gmail,
}

/// A mailbox of a simulated provider.
#[derive(Clone, Debug)]
pub struct SimUser {
    /// Its address, which is also the name that its tokens are good for.
    pub mailbox: String,
    /// Other addresses that it may send as.
    pub may_send_as: Vec<String>,
    /// Applications with a secret may send through it.
    pub open_to_apps: bool,
}

impl SimUser {
    /// A mailbox that may send as itself only.
    pub fn new(mailbox: &str) -> Self {
        Self { mailbox: mailbox.to_owned(), may_send_as: Vec::new(), open_to_apps: true }
    }

    /// Also lets it send as `address`.
    pub fn sending_as(mut self, address: &str) -> Self {
        self.may_send_as.push(address.to_owned());
        self
    }

    pub(super) fn accepts_sender(&self, address: &str) -> bool {
        let mut allowed = std::iter::once(&self.mailbox).chain(&self.may_send_as);
        allowed.any(|allowed| allowed.eq_ignore_ascii_case(address))
    }
}

/// A client registration of a simulated provider.
#[derive(Clone, Debug)]
pub struct SimClient {
    /// The client id.
    pub id: String,
    /// The client secret; a client without one is public.
    pub secret: Option<Secret>,
}

impl SimClient {
    /// A public client: no secret, sign-in by a person only.
    pub fn public(id: &str) -> Self {
        Self { id: id.to_owned(), secret: None }
    }

    /// A confidential client, which has to present its secret.
    pub fn confidential(id: &str, secret: &str) -> Self {
        Self { id: id.to_owned(), secret: Some(Secret::new(secret)) }
    }
}

/// The limits of each mailbox.
#[derive(Clone, Copy, Debug)]
pub struct SimLimits {
    /// Sessions that may submit at a time; further ones get 432 after the final dot.
    pub sessions: usize,
    /// Messages in a [`minute`](SimOptions::minute).
    pub messages_per_minute: usize,
    /// Recipients in a [`day`](SimOptions::day).
    pub recipients_per_day: usize,
    /// Recipients of one transaction.
    pub recipients: usize,
    /// Octets of a message.
    pub message_octets: u64,
}

impl SimLimits {
    /// No limits but the size, for benchmarks.
    pub fn none() -> Self {
        Self {
            sessions: usize::MAX,
            messages_per_minute: usize::MAX,
            recipients_per_day: usize::MAX,
            recipients: usize::MAX,
            message_octets: EXCHANGE_MESSAGE_OCTETS,
        }
    }
}

impl Default for SimLimits {
    /// Exchange Online's.
    fn default() -> Self {
        Self {
            sessions: EXCHANGE_SESSIONS,
            messages_per_minute: EXCHANGE_MESSAGES_PER_MINUTE,
            recipients_per_day: EXCHANGE_RECIPIENTS_PER_DAY,
            recipients: EXCHANGE_RECIPIENTS,
            message_octets: EXCHANGE_MESSAGE_OCTETS,
        }
    }
}

/// What happens to messages above the limit per minute. Microsoft's pages say both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateExcess {
    /// The reply to the final dot waits until the window has room, as documented today.
    Delay,
    /// `421 4.4.2` after the final dot, and the session is closed.
    Refuse,
}

/// What becomes of a refresh token that was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshRule {
    /// A new one with each answer; using an old one again revokes all of the same consent.
    RotateAndDetectReuse,
    /// A new one with each answer, and the old ones stay good: Entra ID.
    RotateAndKeep,
    /// The answer brings none, and the old one stays good: Google.
    Keep,
}
