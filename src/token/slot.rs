//! What is known of one account's token, in memory.
//!
//! Owns [`Slot`]: the token that is handed out, the trouble that keeps us from asking, and the
//! answer that could not be stored yet. Invariants:
//!
//! 1. A token is held only with the version of the stored grant it came with; that version is its
//!    generation. So nothing is handed out that is not stored.
//! 2. A token that upstream refused is never held again.
//! 3. Trouble ends with its time or when the stored grant changes, whoever changed it.
//!
//! Two clocks guard a token's end: the wall clock, which keeps running while the machine sleeps,
//! and the monotonic one, which nobody can set back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::base::{Clock, Secret, Timestamp};
use crate::config::Account;
use crate::net::HttpClient;
use crate::oauth::Grant;
use crate::store::{NewGrant, StoredGrant};
use crate::token::binding::{binding, changed_since};
use crate::token::pace::{TokenPace, jitter};
use crate::token::{AccessToken, TokenState, TokenTrouble};

/// One account's place in the manager.
pub(super) struct Slot {
    pub(super) account: Arc<Account>,
    pub(super) http: HttpClient,
    /// What a grant has to be bound to, so that it is ours.
    pub(super) bound_to: String,
    /// Held by whoever renews: one request in flight.
    pub(super) renewal: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
    clock: Clock,
    pace: TokenPace,
}

#[derive(Default)]
struct Known {
    /// Of the stored grant when it was last read, 0 for none.
    version: u64,
    /// When the store was last read.
    read_at: Option<Instant>,
    /// True if there is a grant, or none is needed.
    is_renewable: bool,
    token: Option<Held>,
    obtained_at: Option<Timestamp>,
    obtained_by: Option<String>,
    trouble: Option<Trouble>,
    /// In a row.
    failures: u32,
    /// The generation that upstream refused last.
    refused: Option<u64>,
    /// The generation that replaced a refused one, and when.
    forced: Option<(u64, Instant)>,
    unsaved: Option<Unsaved>,
}

struct Held {
    secret: Secret,
    generation: u64,
    expires_at: Timestamp,
    /// Handed out before this time, on both clocks.
    until: (Timestamp, Instant),
    /// Renewed from this time on, on either clock.
    renew_from: (Timestamp, Instant),
}

struct Trouble {
    what: TokenTrouble,
    /// None: until the stored grant changes.
    until: Option<Instant>,
}

/// An answer that the store did not take. It replaces what is stored as soon as the store does.
#[derive(Clone)]
pub(super) struct Unsaved {
    pub(super) grant: NewGrant,
    pub(super) based_on: u64,
}

impl Slot {
    pub(super) fn new(
        account: Arc<Account>,
        http: HttpClient,
        clock: Clock,
        pace: TokenPace,
    ) -> Self {
        let (renewal, known) = Default::default();
        let bound_to = binding(&account);
        Self { account, http, bound_to, renewal, known, clock, pace }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every change is a few assignments, so what a panic left behind is whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token, if there is one that may still be used.
    pub(super) fn serving(&self) -> Option<AccessToken> {
        let now = (self.clock.now(), Instant::now());
        let known = self.known();
        let held = known.token.as_ref()?;
        (now.0 < held.until.0 && now.1 < held.until.1).then(|| AccessToken {
            secret: held.secret.clone(),
            generation: held.generation,
            expires_at: Some(held.expires_at),
        })
    }

    /// True if the token should be renewed although it may still be used, or if there is none and
    /// one could be asked for.
    pub(super) fn wants_renewal(&self) -> bool {
        if self.trouble().is_some() {
            return false;
        }
        let known = self.known();
        match &known.token {
            Some(held) => {
                let (at, instant) = held.renew_from;
                self.clock.now() >= at || Instant::now() >= instant
            }
            None => known.is_renewable || known.unsaved.is_some(),
        }
    }

    /// The trouble that forbids asking now, with the time that is left of it.
    pub(super) fn trouble(&self) -> Option<TokenTrouble> {
        let known = self.known();
        let trouble = known.trouble.as_ref()?;
        let left = match trouble.until {
            Some(until) => {
                Some(until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?)
            }
            None => None,
        };
        Some(match &trouble.what {
            TokenTrouble::NotNow { reason, .. } => {
                TokenTrouble::NotNow { reason: reason.clone(), retry_after: left }
            }
            what @ (TokenTrouble::PersonNeeded { .. } | TokenTrouble::Misconfigured { .. }) => {
                what.clone()
            }
        })
    }

    /// True if the store was read so lately that it need not be read again.
    pub(super) fn was_read_lately(&self) -> bool {
        self.known().read_at.is_some_and(|at| at.elapsed() < self.pace.poll)
    }

    /// Takes over what is stored. Only whoever holds `renewal` may call this.
    pub(super) fn adopt(&self, stored: Option<&StoredGrant>) {
        let mut known = self.known();
        let version = stored.map_or(0, |grant| grant.version);
        let is_first = known.read_at.is_none();
        known.read_at = Some(Instant::now());
        if known.version == version && !is_first {
            return;
        }
        known.version = version;
        known.trouble = None;
        known.failures = 0;
        known.token = None;
        known.obtained_at = stored.map(|grant| grant.obtained_at);
        known.obtained_by = stored.and_then(|grant| grant.obtained_by.clone());
        known.is_renewable = !self.account.grant.needs_sign_in();
        let ours = stored.filter(|grant| changed_since(grant, &self.account).is_none());
        if let Some(grant) = ours {
            known.is_renewable |= grant.refresh_token.is_some();
            if known.refused != Some(version)
                && let (Some(secret), Some(expires_at)) = (&grant.access_token, grant.expires_at)
            {
                let life = expires_at.since(grant.obtained_at);
                known.token = Some(self.held(secret.clone(), version, expires_at, life));
            }
        }
        if let Some(reason) = self.needs_person(stored) {
            let what = TokenTrouble::PersonNeeded { reason };
            known.trouble = Some(Trouble { what, until: None });
        }
    }

    /// Why a person has to sign in before anything may be asked with this grant.
    fn needs_person(&self, stored: Option<&StoredGrant>) -> Option<String> {
        let name = &self.account.name;
        let sign_in = format!("run `mailbearer login {name}`");
        let changed = stored.and_then(|grant| changed_since(grant, &self.account));
        match (self.account.grant, stored) {
            (Grant::ClientCredentials, _) => None,
            (Grant::AuthorizationCode | Grant::DeviceCode, None) => {
                Some(format!("nobody has signed in for {name} yet; {sign_in}"))
            }
            (Grant::AuthorizationCode | Grant::DeviceCode, Some(_)) if changed.is_some() => {
                Some(format!(
                    "the stored sign-in for {name} belongs to another configuration ({} changed); {sign_in}, \
                 or restart the relay if it has yet to read the new configuration",
                    changed.unwrap_or_default()
                ))
            }
            (Grant::AuthorizationCode | Grant::DeviceCode, Some(grant)) => {
                match (&grant.retired, &grant.refresh_token) {
                    (Some(reason), _) => Some(format!("{reason}; {sign_in}")),
                    (None, None) => {
                        Some(format!("the sign-in for {name} cannot be renewed; {sign_in}"))
                    }
                    (None, Some(_)) => None,
                }
            }
        }
    }

    fn held(&self, secret: Secret, generation: u64, expires_at: Timestamp, life: Duration) -> Held {
        let (now, instant) = (self.clock.now(), Instant::now());
        // Never more than its life, however far the clock was set back since.
        let left = expires_at.since(now).min(life);
        let before = |ahead: Duration| {
            let left = left.saturating_sub(ahead);
            (now + left, instant + left)
        };
        Held {
            secret,
            generation,
            expires_at,
            until: before(TokenPace::stop_ahead(life)),
            renew_from: before(self.pace.renew_ahead(life, jitter())),
        }
    }

    /// The version of the grant that was read last.
    pub(super) fn version(&self) -> u64 {
        self.known().version
    }

    /// Notes what was just stored under `version`, and hands its token out from now on.
    pub(super) fn hold(&self, version: u64, grant: NewGrant, is_forced: bool) {
        let mut known = self.known();
        known.version = version;
        known.read_at = Some(Instant::now());
        known.trouble = None;
        known.failures = 0;
        known.unsaved = None;
        known.obtained_at = Some(grant.obtained_at);
        known.obtained_by = grant.obtained_by;
        known.is_renewable = !self.account.grant.needs_sign_in() || grant.refresh_token.is_some();
        if is_forced {
            known.forced = Some((version, Instant::now()));
        }
        if let (Some(secret), Some(expires_at)) = (grant.access_token, grant.expires_at) {
            let life = expires_at.since(grant.obtained_at);
            known.token = Some(self.held(secret, version, expires_at, life));
        }
    }

    /// Notes that the stored grant was changed by us in a way that leaves the token as it is: its
    /// refresh token was replaced, or it was retired.
    pub(super) fn note_version(&self, version: u64) {
        let mut known = self.known();
        known.version = version;
        known.unsaved = None;
    }

    /// Keeps an answer that the store did not take, or none any more.
    pub(super) fn keep_unsaved(&self, unsaved: Option<Unsaved>) {
        self.known().unsaved = unsaved;
    }

    pub(super) fn unsaved(&self) -> Option<Unsaved> {
        self.known().unsaved.clone()
    }

    /// Upstream refused this generation. The error says that another renewal would not help.
    pub(super) fn refuse(&self, generation: u64) -> Result<(), TokenTrouble> {
        let mut known = self.known();
        match known.forced {
            Some((forced, at)) if forced == generation && at.elapsed() < self.pace.force_again => {
                return Err(TokenTrouble::Misconfigured {
                    reason: format!(
                        "upstream refused a token of {} that was issued only just now; check that \
                         SMTP AUTH is enabled for the mailbox, that the right user signed in, and \
                         that the scope or permission is the one for SMTP",
                        self.account.name
                    ),
                });
            }
            Some(_) | None => {}
        }
        known.refused = Some(generation);
        if known.token.as_ref().is_some_and(|held| held.generation == generation) {
            known.token = None;
        }
        Ok(())
    }

    /// Notes a failure. Returns how long nothing is asked, and whether it is news.
    pub(super) fn fail(
        &self,
        what: TokenTrouble,
        retry_after: Option<Duration>,
    ) -> (Option<Duration>, bool) {
        let mut known = self.known();
        known.failures = known.failures.saturating_add(1);
        let wait = match &what {
            TokenTrouble::NotNow { .. } => {
                Some(self.pace.back_off(known.failures, retry_after, jitter()))
            }
            TokenTrouble::Misconfigured { .. } => {
                Some(self.pace.misconfigured(known.failures, jitter()))
            }
            TokenTrouble::PersonNeeded { .. } => None,
        };
        let is_news = known.trouble.as_ref().is_none_or(|before| before.what != what);
        known.trouble = Some(Trouble { what, until: wait.map(|wait| Instant::now() + wait) });
        (wait, is_news)
    }

    /// For people.
    pub(super) fn state(&self) -> TokenState {
        let (token, trouble) = (self.serving(), self.trouble());
        let known = self.known();
        TokenState {
            generation: token.as_ref().map(|token| token.generation),
            expires_at: token.and_then(|token| token.expires_at),
            obtained_at: known.obtained_at,
            obtained_by: known.obtained_by.clone(),
            trouble,
        }
    }
}
