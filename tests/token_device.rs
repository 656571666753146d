//! A person signs in on another device, against the simulated provider.

#[path = "token_parts/mod.rs"]
mod parts;

use std::sync::Arc;
use std::time::Duration;

use mailbearer::base::Clock;
use mailbearer::config::Account;
use mailbearer::mail::Mailbox;
use mailbearer::oauth::{ClientRegistration, Grant};
use mailbearer::sim::{Answer, Point, Sim, SimOptions};
use mailbearer::store::Store;
use mailbearer::token::{ConsentError, Consented, DeviceConsent, DevicePace, TokenManager};

const USER: &str = "scanner@contoso.com";

/// As fast as the endpoint lets us.
const PACE: DevicePace = DevicePace {
    interval_least: Duration::ZERO,
    slow_down: Duration::ZERO,
    back_off_max: Duration::ZERO,
};

/// A provider that lets devices poll as often as they like, and an account there.
async fn begun(grant: Grant) -> (Sim, Arc<Account>, tempfile::TempDir, Store) {
    let options = SimOptions { device_interval: Duration::ZERO, ..SimOptions::default() };
    let sim = Sim::start(options).await.unwrap();
    let mut account = Account::clone(&parts::account(grant, sim.token_url()));
    account.mailbox = Mailbox::parse(USER).unwrap();
    account.provider.device_url = Some(sim.device_url());
    account.provider.scopes = sim.scopes().into_iter().map(str::to_owned).collect();
    account.client = ClientRegistration { id: sim.client().unwrap().id.clone(), secret: None };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("data"), Clock::system()).unwrap();
    (sim, Arc::new(account), folder, store)
}

async fn sign_in(account: &Arc<Account>, store: &Store) -> Result<DeviceConsent, ConsentError> {
    DeviceConsent::begin_with_pace(account, store, &Clock::system(), PACE).await
}

/// Waits for so many polls, types the code, and waits for what comes of it.
async fn typed(
    sim: &Sim,
    consent: DeviceConsent,
    polls: u64,
    user: Option<&str>,
) -> Result<Consented, ConsentError> {
    let code = consent.user_code().to_owned();
    assert_eq!(sim.user_codes(), std::slice::from_ref(&code));
    let waiting = tokio::spawn(consent.finish());
    let grant_type = "urn:ietf:params:oauth:grant-type:device_code";
    sim.until("polls", |counts| counts.token_requests_of(grant_type) >= polls).await.unwrap();
    assert!(sim.enter_code(&code, user), "somebody waits for {code}");
    waiting.await.unwrap()
}

#[tokio::test]
async fn a_code_that_was_typed_becomes_a_grant_that_is_renewed_like_any_other() {
    for grant in [Grant::DeviceCode, Grant::AuthorizationCode] {
        let (sim, account, _folder, store) = begun(grant).await;
        let consent = sign_in(&account, &store).await.unwrap();
        assert!(consent.verification_uri().path().ends_with("/device"));
        assert_eq!(consent.expires_in(), Duration::from_secs(900));
        let consented = typed(&sim, consent, 3, Some(USER)).await.unwrap();
        assert_eq!(consented.account, account.name);
        assert!(sim.user_codes().is_empty());

        let accounts = std::slice::from_ref(&account);
        let manager = TokenManager::new(accounts, store.clone(), Clock::system()).unwrap();
        let token = manager.token(&account.name).await.unwrap();
        assert_eq!(token.generation, consented.generation);
        let renewed = manager.refused(&account.name, token.generation).await.unwrap();
        assert!(renewed.generation > token.generation);
        assert_eq!(sim.counts().token_requests_of("refresh_token"), 1);
        sim.stop().await;
    }
}

#[tokio::test]
async fn trouble_on_the_way_ends_nothing() {
    let (sim, account, _folder, store) = begun(Grant::DeviceCode).await;
    let consent = sign_in(&account, &store).await.unwrap();
    sim.script().at(Point::Token).resets();
    sim.script().at(Point::Token).answers(Answer::html(502, "<html>"));
    let slow_down = Answer::json(400, r#"{"error":"slow_down"}"#);
    sim.script().at(Point::Token).answers(slow_down);
    typed(&sim, consent, 5, Some(USER)).await.unwrap();
    sim.stop().await;
}

#[tokio::test]
async fn a_person_who_declines_leaves_everything_as_it_was() {
    let (sim, account, _folder, store) = begun(Grant::DeviceCode).await;
    let consent = sign_in(&account, &store).await.unwrap();
    let declined = typed(&sim, consent, 1, None).await.unwrap_err();
    assert!(matches!(declined, ConsentError::Declined), "{declined}");
    assert_eq!(store.grant(account.name.as_str()).await.unwrap(), None);
    sim.stop().await;
}

#[tokio::test]
async fn whoever_signs_in_is_compared_with_the_mailbox() {
    for (user, is_right) in [(USER, true), ("erp@contoso.com", false)] {
        let (sim, account, _folder, store) = begun(Grant::DeviceCode).await;
        let mut account = Account::clone(&account);
        // A provider that is known to say who signed in.
        account.provider.name = "office365".to_owned();
        let account = Arc::new(account);
        let consent = sign_in(&account, &store).await.unwrap();
        let outcome = typed(&sim, consent, 1, Some(user)).await;
        let stored = store.grant(account.name.as_str()).await.unwrap();
        assert_eq!(stored.is_some(), is_right);
        match outcome {
            Ok(consented) => assert_eq!(consented.signed_in.as_deref(), Some(USER)),
            Err(error) => assert!(matches!(error, ConsentError::SomebodyElse { .. }), "{error}"),
        }
        sim.stop().await;
    }
}

#[tokio::test]
async fn without_a_code_the_reason_is_told() {
    let (sim, account, _folder, store) = begun(Grant::DeviceCode).await;
    let changed = |change: &dyn Fn(&mut Account)| {
        let mut account = Account::clone(&account);
        change(&mut account);
        Arc::new(account)
    };
    let cases = [
        (changed(&|account| account.client.id = "nobody".to_owned()), "AADSTS700016"),
        (
            changed(&|account| account.provider.scopes = vec!["SMTP.Send".to_owned()]),
            "invalid_scope",
        ),
        (changed(&|account| account.provider.device_url = None), "has no device_url"),
        (changed(&|account| account.grant = Grant::ClientCredentials), "nobody has to sign in"),
    ];
    for (account, part) in cases {
        let error = sign_in(&account, &store).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let gmail = changed(&|account| {
        account.provider.device_url = None;
        account.provider.name = "gmail".to_owned();
    });
    let error = sign_in(&gmail, &store).await.unwrap_err().to_string();
    assert!(error.contains("Google allows no mail scope"), "{error}");
    sim.stop().await;
}
