//! Obtaining and renewing tokens.
//!
//! Owns [`TokenManager`]. The order of a renewal is its whole point: read the stored grant, take the
//! lease, read again, ask, store, and only then hand out. What asks runs as a task of its own, so
//! that a caller who gives up does not tear an answer down that has a new refresh token in it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroize as _;

use crate::base::{Clock, Secret, Timestamp, limits};
use crate::config::{Account, AccountName};
use crate::net::{HttpClient, HttpFault, HttpSetupError};
use crate::oauth::{
    Grant, HttpRequest, Refusal, TokenAnswer, client_credentials_request, read_answer,
    refresh_request,
};
use crate::store::{NewGrant, Origin, Store, StoreError, StoredGrant};
use crate::token::binding::changed_since;
use crate::token::pace::TokenPace;
use crate::token::slot::{Slot, Unsaved};
use crate::token::{AccessToken, TokenState, TokenTrouble};

/// Times that a grant may change under our hands before we leave it to the next try.
const CHANGES: u32 = 5;

/// Between two looks at an account that another process is renewing.
const LEASE_LOOK: Duration = Duration::from_millis(100);

/// Hands out access tokens. Clones share everything.
#[derive(Clone)]
pub struct TokenManager {
    shared: Arc<Shared>,
}

struct Shared {
    slots: HashMap<AccountName, Arc<Slot>>,
    store: Store,
    clock: Clock,
    pace: TokenPace,
    /// Names us in leases.
    holder: String,
}

/// Why somebody wants a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// There is no token that may be used.
    Needed,
    /// The token ends soon.
    Ahead,
    /// Upstream refused this generation.
    Refused(u64),
}

/// How one exchange with the endpoint ended.
enum Exchange {
    Renewed,
    /// Somebody else changed the grant meanwhile, and the answer was dropped.
    Overtaken,
    Failed(TokenTrouble),
}

impl TokenManager {
    /// For these accounts. Reads CA files, and neither the store nor the network.
    pub fn new(
        accounts: &[Arc<Account>],
        store: Store,
        clock: Clock,
    ) -> Result<Self, TokenSetupError> {
        Self::with_pace(accounts, store, clock, TokenPace::default())
    }

    /// The same with other waits.
    pub fn with_pace(
        accounts: &[Arc<Account>],
        store: Store,
        clock: Clock,
        pace: TokenPace,
    ) -> Result<Self, TokenSetupError> {
        let mut clients: HashMap<Option<PathBuf>, HttpClient> = HashMap::new();
        let mut slots = HashMap::new();
        for account in accounts {
            let ca_file = &account.provider.ca_file;
            let client = match clients.get(ca_file) {
                Some(client) => client.clone(),
                None => {
                    let client =
                        HttpClient::new(ca_file.as_deref(), pace.patience).map_err(|source| {
                            TokenSetupError { provider: account.provider.name.clone(), source }
                        })?;
                    clients.insert(ca_file.clone(), client.clone());
                    client
                }
            };
            let slot = Slot::new(account.clone(), client, clock.clone(), pace);
            slots.insert(account.name.clone(), Arc::new(slot));
        }
        let holder = format!("{}-{:08x}", std::process::id(), getrandom::u32().unwrap_or_default());
        Ok(Self { shared: Arc::new(Shared { slots, store, clock, pace, holder }) })
    }

    /// The account's token: the one that is there, or a new one.
    pub async fn token(&self, account: &AccountName) -> Result<AccessToken, TokenTrouble> {
        let slot = self.slot(account)?;
        match slot.serving() {
            Some(token) => Ok(token),
            None => self.renewed(slot, Cause::Needed).await,
        }
    }

    /// Upstream answered 535 to the token of `generation`: gets another one, once. If a newer one
    /// is there already it is returned without a request.
    pub async fn refused(
        &self,
        account: &AccountName,
        generation: u64,
    ) -> Result<AccessToken, TokenTrouble> {
        let slot = self.slot(account)?;
        match slot.serving() {
            Some(token) if token.generation != generation => Ok(token),
            Some(_) | None => {
                slot.refuse(generation)?;
                self.renewed(slot, Cause::Refused(generation)).await
            }
        }
    }

    /// How the account stands. Reads the store, asks nobody.
    pub async fn state(&self, account: &AccountName) -> Result<TokenState, TokenTrouble> {
        let slot = self.slot(account)?;
        if let Ok(_renewing) = slot.renewal.try_lock() {
            self.shared.read(slot).await?;
        }
        Ok(slot.state())
    }

    /// Renews tokens before they end and notices what other processes did, until `stop`. Returns
    /// when no request is in flight any more.
    pub async fn run(&self, stop: CancellationToken) {
        let mut renewals = JoinSet::new();
        let mut seen = None;
        while stop.run_until_cancelled(sleep(self.shared.pace.poll)).await.is_some() {
            while renewals.try_join_next().is_some() {}
            let version = self.shared.store.version().await.ok();
            let has_changed = seen.is_none() || version != seen;
            let mut is_read = version.is_some();
            for slot in self.shared.slots.values() {
                match slot.renewal.try_lock() {
                    Ok(_renewing) if has_changed => {
                        is_read &= self.shared.read(slot).await.is_ok();
                    }
                    Ok(_renewing) => {}
                    // Somebody is renewing, and will see the change only if it came before.
                    Err(_) => {
                        is_read = false;
                        continue;
                    }
                }
                if slot.wants_renewal() {
                    let (shared, slot) = (self.shared.clone(), slot.clone());
                    renewals.spawn(async move { shared.renew(&slot, Cause::Ahead).await.is_ok() });
                }
            }
            seen = version.filter(|_| is_read);
        }
        while renewals.join_next().await.is_some() {}
        for slot in self.shared.slots.values() {
            drop(slot.renewal.lock().await);
        }
    }

    fn slot(&self, account: &AccountName) -> Result<&Arc<Slot>, TokenTrouble> {
        self.shared.slots.get(account).ok_or_else(|| TokenTrouble::Misconfigured {
            reason: format!("there is no account {account} in the configuration"),
        })
    }

    async fn renewed(&self, slot: &Arc<Slot>, cause: Cause) -> Result<AccessToken, TokenTrouble> {
        // Whoever has just signed in must not be told to sign in, and what suspends an account must
        // not be what was true before somebody mended it: these answers are never from memory.
        let is_known = |trouble: &TokenTrouble| match trouble {
            TokenTrouble::PersonNeeded { .. } | TokenTrouble::Misconfigured { .. } => false,
            TokenTrouble::NotNow { .. } => slot.was_read_lately(),
        };
        if let Some(trouble) = slot.trouble().filter(is_known) {
            return Err(trouble);
        }
        let (shared, slot) = (self.shared.clone(), slot.clone());
        let renewal = tokio::spawn(async move { shared.renew(&slot, cause).await });
        renewal.await.unwrap_or_else(|_| Err(not_now("the renewal was broken off")))
    }
}

impl Shared {
    /// Renews, unless somebody else has by now.
    async fn renew(&self, slot: &Slot, cause: Cause) -> Result<AccessToken, TokenTrouble> {
        let _renewing = slot.renewal.lock().await;
        let give_up = Instant::now() + self.pace.patience.total + limits::TOKEN_LEASE_MARGIN;
        let mut changes = 0;
        while changes < CHANGES {
            let stored = self.read(slot).await?;
            if let Some(token) = satisfied(slot, cause) {
                return Ok(token);
            }
            if let Some(trouble) = slot.trouble() {
                return Err(trouble);
            }
            if let Some(unsaved) = slot.unsaved() {
                self.save_late(slot, unsaved).await?;
                changes += 1;
                continue;
            }
            if !self.lease(slot).await? {
                if Instant::now() >= give_up {
                    return Err(not_now("another process is renewing the token and does not end"));
                }
                sleep(LEASE_LOOK).await;
                continue;
            }
            let exchange = self.leased(slot, stored, cause).await;
            // A lease that stays behind ends by itself.
            let _ = self.store.release_lease(slot.account.name.as_str(), &self.holder).await;
            match exchange? {
                Exchange::Renewed => {
                    return slot.serving().ok_or_else(|| {
                        let reason = "the new token has ended already; check this machine's clock";
                        self.failed(slot, not_now(reason), None)
                    });
                }
                Exchange::Overtaken => changes += 1,
                Exchange::Failed(trouble) => return Err(trouble),
            }
        }
        Err(not_now("the grant keeps changing while it is renewed"))
    }

    /// Reads what is stored, and takes it over. Only for whoever holds `renewal`.
    async fn read(&self, slot: &Slot) -> Result<Option<StoredGrant>, TokenTrouble> {
        let stored = self.store.grant(slot.account.name.as_str()).await.map_err(unreadable)?;
        slot.adopt(stored.as_ref());
        Ok(stored)
    }

    async fn lease(&self, slot: &Slot) -> Result<bool, TokenTrouble> {
        let until = self.clock.now() + self.pace.patience.total + limits::TOKEN_LEASE_MARGIN;
        self.store
            .lease(slot.account.name.as_str(), &self.holder, until)
            .await
            .map_err(|error| not_now(&error.to_string()))
    }

    /// What happens under the lease. `before` was read without it.
    async fn leased(
        &self,
        slot: &Slot,
        before: Option<StoredGrant>,
        cause: Cause,
    ) -> Result<Exchange, TokenTrouble> {
        let stored = self.read(slot).await?;
        let version = |grant: &Option<StoredGrant>| grant.as_ref().map(|grant| grant.version);
        if version(&stored) != version(&before) {
            return Ok(Exchange::Overtaken);
        }
        let asked_at = self.clock.now();
        let refresh_token = stored.as_ref().and_then(|grant| grant.refresh_token.as_ref());
        Ok(match ask(slot, refresh_token).await {
            Ok(answer) => {
                let grant = renewed_grant(slot, answer, stored.as_ref(), asked_at);
                let based_on = slot.version();
                self.save(slot, Unsaved { grant, based_on }, cause).await
            }
            Err(refusal) => self.refusal(slot, stored, refusal).await,
        })
    }

    /// Stores a new token, and hands it out once it is stored.
    async fn save(&self, slot: &Slot, unsaved: Unsaved, cause: Cause) -> Exchange {
        let Unsaved { grant, based_on } = unsaved;
        let account = &slot.account;
        match self.store.put_grant(account.name.as_str(), based_on, grant.clone()).await {
            Ok(version) => {
                let is_forced = matches!(cause, Cause::Refused(_));
                if let Some(expires_at) = grant.expires_at {
                    tracing::info!(
                        account = %account.name, grant = %account.grant, event = "renewed",
                        %expires_at, "token"
                    );
                }
                slot.hold(version, grant, is_forced);
                Exchange::Renewed
            }
            Err(StoreError::Conflict { .. }) => Exchange::Overtaken,
            Err(error) => {
                slot.keep_unsaved(Some(Unsaved { grant, based_on }));
                Exchange::Failed(self.failed(slot, unstorable(&error), None))
            }
        }
    }

    /// Tries again to store what the store did not take before. What was stored is then read.
    async fn save_late(&self, slot: &Slot, unsaved: Unsaved) -> Result<(), TokenTrouble> {
        let Unsaved { grant, based_on } = unsaved;
        match self.store.put_grant(slot.account.name.as_str(), based_on, grant).await {
            Ok(_) | Err(StoreError::Conflict { .. }) => {
                slot.keep_unsaved(None);
                Ok(())
            }
            Err(error) => Err(self.failed(slot, unstorable(&error), None)),
        }
    }

    async fn refusal(
        &self,
        slot: &Slot,
        stored: Option<StoredGrant>,
        refusal: Refusal,
    ) -> Exchange {
        let reason = refusal.to_string();
        match (refusal, stored) {
            (Refusal::NotNow { retry_after, rotated, .. }, stored) => {
                if let (Some(rotated), Some(stored)) = (rotated, stored) {
                    let grant = NewGrant { refresh_token: Some(rotated), ..as_new(stored) };
                    if !self.put_aside(slot, grant).await {
                        return Exchange::Overtaken;
                    }
                }
                Exchange::Failed(self.failed(slot, not_now(&reason), retry_after))
            }
            (Refusal::Definitive { .. }, Some(stored)) if slot.account.grant.needs_sign_in() => {
                let grant = NewGrant { retired: Some(reason.clone()), ..as_new(stored) };
                if !self.put_aside(slot, grant).await {
                    return Exchange::Overtaken;
                }
                let reason = format!("{reason}; run `mailbearer login {}`", slot.account.name);
                Exchange::Failed(self.failed(slot, TokenTrouble::PersonNeeded { reason }, None))
            }
            // Where nobody signs in, nobody can sign in again.
            (Refusal::Definitive { .. } | Refusal::Misconfigured { .. }, _) => {
                Exchange::Failed(self.failed(slot, TokenTrouble::Misconfigured { reason }, None))
            }
        }
    }

    /// Stores a change that brings no new token. False if somebody else changed the grant first.
    async fn put_aside(&self, slot: &Slot, grant: NewGrant) -> bool {
        let (name, based_on) = (slot.account.name.as_str(), slot.version());
        match self.store.put_grant(name, based_on, grant.clone()).await {
            Ok(version) => slot.note_version(version),
            Err(StoreError::Conflict { .. }) => return false,
            Err(_) => slot.keep_unsaved(Some(Unsaved { grant, based_on })),
        }
        true
    }

    /// Notes and logs trouble, and returns it with the wait that follows.
    fn failed(
        &self,
        slot: &Slot,
        trouble: TokenTrouble,
        retry_after: Option<Duration>,
    ) -> TokenTrouble {
        let (wait, is_news) = slot.fail(trouble.clone(), retry_after);
        if is_news {
            tracing::warn!(
                account = %slot.account.name, grant = %slot.account.grant,
                event = trouble.event(), reason = %trouble,
                retry_in_ms = wait.map(|wait| wait.as_millis() as u64), "token"
            );
            // For `status`, which is another process. Nothing depends on it.
            let (store, name, reason) =
                (self.store.clone(), slot.account.name.clone(), trouble.to_string());
            tokio::spawn(async move { store.note_trouble(name.as_str(), &reason).await });
        }
        slot.trouble().unwrap_or(trouble)
    }
}

/// The token, if what was wanted has been done already.
fn satisfied(slot: &Slot, cause: Cause) -> Option<AccessToken> {
    let token = slot.serving()?;
    match cause {
        Cause::Needed => Some(token),
        Cause::Ahead => (!slot.wants_renewal()).then_some(token),
        Cause::Refused(generation) => (token.generation != generation).then_some(token),
    }
}

/// One request and its answer.
async fn ask(slot: &Slot, refresh_token: Option<&Secret>) -> Result<TokenAnswer, Refusal> {
    let Account { provider, client, grant, .. } = &*slot.account;
    let request = match (grant, refresh_token) {
        (Grant::AuthorizationCode | Grant::DeviceCode, Some(token)) => {
            refresh_request(&provider.token_url, client, token)
        }
        (Grant::AuthorizationCode | Grant::DeviceCode, None) => {
            return Err(misconfigured("there is no refresh token to renew with".to_owned()));
        }
        (Grant::ClientCredentials, _) => {
            client_credentials_request(&provider.token_url, client, &provider.scopes)
        }
    };
    let request = request.map_err(|error| misconfigured(error.to_string()))?;
    exchange(&slot.http, request).await
}

/// Sends a request and reads the token that comes back.
pub(super) async fn exchange(
    http: &HttpClient,
    request: HttpRequest,
) -> Result<TokenAnswer, Refusal> {
    exchange_for(http, request, read_answer).await
}

/// Sends a request and reads what comes back.
pub(super) async fn exchange_for<T>(
    http: &HttpClient,
    request: HttpRequest,
    read: impl FnOnce(u16, Option<&str>, &[u8]) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let secrets = request.secrets();
    match http.send(request).await {
        Ok(mut answer) => {
            let read = read(answer.status, answer.retry_after.as_deref(), &answer.body);
            answer.body.zeroize();
            // A gateway may answer with what it was sent.
            read.map_err(|refusal| refusal.without(&secrets))
        }
        Err(fault @ HttpFault::NotEncrypted { .. }) => Err(misconfigured(fault.to_string())),
        Err(fault) => {
            let reason = fault.to_string();
            Err(Refusal::NotNow { reason, retry_after: None, rotated: None })
        }
    }
}

fn misconfigured(description: String) -> Refusal {
    Refusal::Misconfigured { error: "no request".to_owned(), description }
}

fn not_now(reason: &str) -> TokenTrouble {
    TokenTrouble::NotNow { reason: reason.to_owned(), retry_after: None }
}

fn unstorable(error: &StoreError) -> TokenTrouble {
    not_now(&format!("the new token cannot be stored: {error}"))
}

fn unreadable(error: StoreError) -> TokenTrouble {
    match error {
        StoreError::WrongKey { .. } | StoreError::Damaged { .. } => {
            TokenTrouble::Misconfigured { reason: error.to_string() }
        }
        error => not_now(&error.to_string()),
    }
}

/// The grant after an answer: a refresh token that did not come leaves the old one in force.
fn renewed_grant(
    slot: &Slot,
    answer: TokenAnswer,
    stored: Option<&StoredGrant>,
    asked_at: Timestamp,
) -> NewGrant {
    // A grant of another configuration has nothing to leave to this one.
    let stored = stored.filter(|grant| changed_since(grant, &slot.account).is_none());
    let grant = slot.account.grant;
    let origin = stored.and_then(|grant| grant.origin.clone());
    let origin = origin.filter(|_| grant.needs_sign_in()).unwrap_or_else(|| Origin {
        how: grant.as_str().to_owned(),
        at: asked_at,
        bound_to: slot.bound_to.clone(),
    });
    NewGrant {
        refresh_token: answer
            .refresh_token
            .or_else(|| stored.and_then(|grant| grant.refresh_token.clone())),
        access_token: Some(answer.access_token),
        // Counted from before the request: the endpoint counted from somewhere in it.
        expires_at: Some(asked_at + TokenPace::life(answer.expires_in)),
        obtained_at: asked_at,
        obtained_by: stored.and_then(|grant| grant.obtained_by.clone()),
        retired: None,
        origin: Some(origin),
    }
}

fn as_new(stored: StoredGrant) -> NewGrant {
    let StoredGrant {
        refresh_token,
        access_token,
        expires_at,
        obtained_at,
        obtained_by,
        retired,
        origin,
        version: _,
    } = stored;
    NewGrant { refresh_token, access_token, expires_at, obtained_at, obtained_by, retired, origin }
}

/// The manager cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("provider {provider}: {source}")]
pub struct TokenSetupError {
    /// Whose endpoints cannot be asked.
    pub provider: String,
    /// Why.
    pub source: HttpSetupError,
}
