//! A person signs in on another device.
//!
//! Owns [`DeviceConsent`]: the device authorization grant. A code is shown, the person types it on
//! a page of the provider, and meanwhile the token endpoint is polled, never faster than it allows.
//! What is obtained goes into the store and nowhere else. Source: RFC 8628.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use url::Url;

use crate::base::{Clock, limits};
use crate::config::{Account, Provider};
use crate::net::{HttpClient, HttpPatience};
use crate::oauth::{
    DeviceCode, DevicePoll, Grant, Refusal, TokenAnswer, device_code_request, device_token_request,
    identity_scopes, preset, read_device_code, read_device_poll,
};
use crate::store::Store;
use crate::token::consent::{ConsentError, Consented, keep};
use crate::token::identity::{identify, sign_in_scopes};
use crate::token::manager::exchange_for;

/// How often to ask whether the person is done. Tests are in more of a hurry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DevicePace {
    /// Between two polls, however little the provider asks for.
    pub interval_least: Duration,
    /// What `slow_down` adds for good: RFC 8628 §3.5.
    pub slow_down: Duration,
    /// The longest wait after polls without an answer, which doubles each time.
    pub back_off_max: Duration,
}

impl Default for DevicePace {
    fn default() -> Self {
        Self {
            interval_least: limits::DEVICE_INTERVAL_LEAST,
            slow_down: limits::DEVICE_SLOW_DOWN,
            back_off_max: limits::DEVICE_BACK_OFF_MAX,
        }
    }
}

/// One sign-in in progress. It ends with [`DeviceConsent::finish`] or by being dropped.
pub struct DeviceConsent {
    account: Arc<Account>,
    store: Store,
    clock: Clock,
    http: HttpClient,
    code: DeviceCode,
    pace: DevicePace,
    deadline: Instant,
}

impl DeviceConsent {
    /// Starts a sign-in: asks the provider for a code.
    pub async fn begin(
        account: &Arc<Account>,
        store: &Store,
        clock: &Clock,
    ) -> Result<Self, ConsentError> {
        Self::begin_with_pace(account, store, clock, DevicePace::default()).await
    }

    /// The same with other waits.
    pub async fn begin_with_pace(
        account: &Arc<Account>,
        store: &Store,
        clock: &Clock,
        pace: DevicePace,
    ) -> Result<Self, ConsentError> {
        match account.grant {
            Grant::DeviceCode | Grant::AuthorizationCode => {}
            grant @ Grant::ClientCredentials => {
                return Err(ConsentError::NotNeeded { account: account.name.clone(), grant });
            }
        }
        let Provider { device_url, ca_file, .. } = &account.provider;
        let device_url = device_url.as_ref().ok_or_else(|| no_device(&account.provider))?;
        let http = HttpClient::new(ca_file.as_deref(), HttpPatience::default())?;
        let request = device_code_request(device_url, &account.client, &sign_in_scopes(account))?;
        let code = exchange_for(&http, request, read_device_code).await?;
        let deadline = Instant::now() + code.expires_in;
        let (account, store, clock) = (account.clone(), store.clone(), clock.clone());
        Ok(Self { account, store, clock, http, code, pace, deadline })
    }

    /// What the person types.
    pub fn user_code(&self) -> &str {
        &self.code.user_code
    }

    /// Where.
    pub fn verification_uri(&self) -> &Url {
        &self.code.verification_uri
    }

    /// How long the code is good.
    pub fn expires_in(&self) -> Duration {
        self.code.expires_in
    }

    /// Waits until the person has signed in, and stores the grant.
    pub async fn finish(self) -> Result<Consented, ConsentError> {
        let mut polling = Polling::new(&self.code, self.pace, self.deadline);
        loop {
            polling.pause().await?;
            let asked_at = self.clock.now();
            if let Some(answer) = polling.heard(self.ask().await)? {
                let id_token = answer.id_token.as_ref();
                let signed_in = identify(&self.account, id_token, None, self.clock.now())?;
                let provider = &self.account.provider.name;
                // Without a nonce, nothing but the scopes says that the provider was asked.
                if signed_in.is_none() && !identity_scopes(provider).is_empty() {
                    return Err(ConsentError::Nobody { provider: provider.clone() });
                }
                return keep(&self.account, &self.store, answer, signed_in, asked_at).await;
            }
        }
    }

    async fn ask(&self) -> Result<DevicePoll, ConsentError> {
        let Account { provider, client, .. } = &*self.account;
        let request = device_token_request(&provider.token_url, client, &self.code.device_code)?;
        Ok(exchange_for(&self.http, request, read_device_poll).await?)
    }
}

impl fmt::Debug for DeviceConsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceConsent").field("account", &self.account.name).finish_non_exhaustive()
    }
}

/// Why this provider has no sign-in on another device.
fn no_device(provider: &Provider) -> ConsentError {
    let reason = preset(&provider.name, None, None)
        .ok()
        .and_then(|preset| preset.refusal(Grant::DeviceCode))
        .unwrap_or("it has no device_url in the configuration");
    ConsentError::NoDevice { provider: provider.name.clone(), reason }
}

/// When to ask again.
struct Polling {
    pace: DevicePace,
    /// What the provider wants between two polls; only grows.
    interval: Duration,
    /// Before the next poll.
    wait: Duration,
    deadline: Instant,
}

impl Polling {
    fn new(code: &DeviceCode, pace: DevicePace, deadline: Instant) -> Self {
        let interval = code.interval.max(pace.interval_least);
        Self { pace, interval, wait: interval, deadline }
    }

    /// Waits for the next poll, if there is to be one before the code ends.
    async fn pause(&self) -> Result<(), ConsentError> {
        if Instant::now() + self.wait >= self.deadline {
            return Err(ConsentError::CodeExpired);
        }
        sleep(self.wait).await;
        Ok(())
    }

    /// What a poll has brought: a token, nothing yet, or a reason to stop.
    fn heard(
        &mut self,
        said: Result<DevicePoll, ConsentError>,
    ) -> Result<Option<TokenAnswer>, ConsentError> {
        match said {
            Ok(DevicePoll::Done(answer)) => return Ok(Some(answer)),
            Ok(DevicePoll::Pending) => self.wait = self.interval,
            Ok(DevicePoll::SlowDown) => {
                self.interval += self.pace.slow_down;
                self.wait = self.interval;
            }
            Ok(DevicePoll::Declined) => return Err(ConsentError::Declined),
            Ok(DevicePoll::Expired) => return Err(ConsentError::CodeExpired),
            Err(ConsentError::Refused(Refusal::NotNow { retry_after, .. })) => {
                let longer = (self.wait * 2).min(self.pace.back_off_max).max(self.interval);
                self.wait = longer.max(retry_after.unwrap_or_default());
            }
            Err(error) => return Err(error),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Secret;

    fn code() -> DeviceCode {
        DeviceCode {
            device_code: Secret::new("d"),
            user_code: "ABCD-EFGH".to_owned(),
            verification_uri: Url::parse("https://login.example/device").unwrap(),
            expires_in: Duration::from_secs(900),
            interval: Duration::from_secs(5),
        }
    }

    fn token() -> Result<DevicePoll, ConsentError> {
        Ok(DevicePoll::Done(TokenAnswer {
            access_token: Secret::new("t"),
            refresh_token: Some(Secret::new("r")),
            expires_in: None,
            scope: None,
            id_token: None,
        }))
    }

    fn not_now(retry_after: Option<u64>) -> Result<DevicePoll, ConsentError> {
        let retry_after = retry_after.map(Duration::from_secs);
        let refusal = Refusal::NotNow { reason: "no".to_owned(), retry_after, rotated: None };
        Err(refusal.into())
    }

    /// What becomes of these answers, and the seconds before each poll.
    async fn run(
        answers: Vec<Result<DevicePoll, ConsentError>>,
    ) -> (Result<TokenAnswer, ConsentError>, Vec<u64>) {
        drive(&code(), answers.into_iter()).await
    }

    async fn drive(
        code: &DeviceCode,
        mut answers: impl Iterator<Item = Result<DevicePoll, ConsentError>>,
    ) -> (Result<TokenAnswer, ConsentError>, Vec<u64>) {
        let mut waits = Vec::new();
        let mut last = Instant::now();
        let mut polling = Polling::new(code, DevicePace::default(), last + code.expires_in);
        loop {
            if let Err(error) = polling.pause().await {
                return (Err(error), waits);
            }
            waits.push(last.elapsed().as_secs());
            last = Instant::now();
            match polling.heard(answers.next().unwrap_or(Ok(DevicePoll::Pending))) {
                Ok(None) => {}
                Ok(Some(answer)) => return (Ok(answer), waits),
                Err(error) => return (Err(error), waits),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn polls_are_never_faster_than_the_endpoint_allows() {
        use DevicePoll::{Pending, SlowDown};
        let (outcome, waits) =
            run(vec![Ok(Pending), Ok(SlowDown), Ok(Pending), Ok(SlowDown), Ok(Pending), token()])
                .await;
        assert_eq!(outcome.unwrap().access_token, Secret::new("t"));
        assert_eq!(waits, [5, 5, 10, 10, 15, 15]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_out_of_order_is_asked_less_often_until_it_answers() {
        let mut answers = vec![Ok(DevicePoll::SlowDown)];
        answers.extend((0..4).map(|_| not_now(None)));
        answers.extend([Ok(DevicePoll::Pending), not_now(Some(90)), token()]);
        let (outcome, waits) = run(answers).await;
        assert!(outcome.is_ok());
        assert_eq!(waits, [5, 10, 20, 40, 60, 60, 10, 90]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_code_that_nobody_types_ends_with_its_time() {
        let started = Instant::now();
        let (outcome, waits) = run(Vec::new()).await;
        assert!(matches!(outcome, Err(ConsentError::CodeExpired)));
        assert_eq!(waits.len(), 179);
        assert!(started.elapsed() < Duration::from_secs(900));
    }

    #[tokio::test(start_paused = true)]
    async fn a_no_is_a_no() {
        let wrong = Refusal::Misconfigured {
            error: "invalid_client".to_owned(),
            description: String::new(),
        };
        for (answer, text) in [
            (Ok(DevicePoll::Declined), "declined"),
            (Ok(DevicePoll::Expired), "expired"),
            (Err(wrong.into()), "invalid_client"),
        ] {
            let (outcome, waits) = run(vec![answer]).await;
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
            assert_eq!(waits.len(), 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_names_no_interval_is_not_hammered() {
        let expires_in = Duration::from_secs(10);
        let hasty = DeviceCode { interval: Duration::ZERO, expires_in, ..code() };
        let (outcome, waits) = drive(&hasty, std::iter::empty()).await;
        assert!(outcome.is_err());
        assert_eq!(waits, [1; 9]);
    }
}
