//! Who signs in, what a grant belongs to, and how it ends on purpose.

#[path = "token_parts/mod.rs"]
mod parts;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mailbearer::base::{Clock, Secret};
use mailbearer::config::{self, Account};
use mailbearer::mail::Mailbox;
use mailbearer::oauth::{Grant, IdTokenError};
use mailbearer::sim::{Sim, SimOptions};
use mailbearer::token::{
    Consent, ConsentError, Revocation, TokenTrouble, changed_since, import_grant, log_out,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use url::Url;

use parts::{
    Endpoint, HOUR, Home, MAILBOX, Reply, access, account, error, eventually, name, refresh,
};

/// The account of the parts, changed.
fn with(account: &Arc<Account>, change: impl FnOnce(&mut Account)) -> Arc<Account> {
    let mut account = Account::clone(account);
    change(&mut account);
    Arc::new(account)
}

/// At a provider that is known to say who signed in.
fn known(endpoint: &Endpoint) -> Arc<Account> {
    with(&account(Grant::AuthorizationCode, endpoint.url()), |account| {
        account.provider.name = "office365".to_owned();
    })
}

fn mailbox(text: &str) -> Option<Mailbox> {
    Some(Mailbox::parse(text).unwrap())
}

fn query(url: &Url) -> BTreeMap<String, String> {
    url.query_pairs().into_owned().collect()
}

/// An answer with an ID token of these claims, the usual ones filled in.
fn answer(nonce: Option<&String>, claims: Value) -> Reply {
    let mut all = json!({"aud": "the client", "exp": 4_000_000_000_u64, "nonce": nonce});
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    let id_token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(all.to_string()));
    Reply::Json(200, json!({"access_token": "t", "refresh_token": "r", "id_token": id_token}))
}

/// A sign-in that ends with an ID token of these claims, in a home where somebody is signed in.
async fn signed_in(
    endpoint: &Endpoint,
    home: &Home,
    account: &Arc<Account>,
    claims: Value,
) -> Result<Option<String>, ConsentError> {
    let consent = Consent::begin(account, &home.open(), &home.clock).await.unwrap();
    let asked = query(consent.url());
    endpoint.next(answer(asked.get("nonce"), claims));
    let back = format!("/?code=c&state={}", asked["state"]);
    consent.finish_with_pasted(&back).await.map(|consented| consented.signed_in)
}

#[tokio::test]
async fn whoever_was_to_sign_in_did() {
    let endpoint = Endpoint::start().await;
    let operator = with(&known(&endpoint), |account| {
        account.signs_in_as = mailbox("operator@contoso.com");
    });
    for (account, claims, person) in [
        (
            known(&endpoint),
            json!({"preferred_username": "SCANNER@contoso.com"}),
            "SCANNER@contoso.com",
        ),
        (
            known(&endpoint),
            json!({"preferred_username": "s@contoso.onmicrosoft.com", "email": MAILBOX}),
            "s@contoso.onmicrosoft.com",
        ),
        (operator, json!({"upn": "operator@contoso.com"}), "operator@contoso.com"),
    ] {
        let home = Home::new();
        let signed_in = signed_in(&endpoint, &home, &account, claims).await.unwrap();
        assert_eq!(signed_in.as_deref(), Some(person));
        let stored = home.open().grant(name().as_str()).await.unwrap().unwrap();
        assert_eq!(stored.obtained_by.as_deref(), Some(person));
        assert_eq!(stored.origin.as_ref().unwrap().how, "authorization_code");
        assert_eq!(changed_since(&stored, &account), None);
    }
}

#[tokio::test]
async fn somebody_else_is_refused_by_name_and_nothing_is_stored() {
    let endpoint = Endpoint::start().await;
    let operator = with(&known(&endpoint), |account| {
        account.signs_in_as = mailbox("operator@contoso.com");
    });
    let own = with(&account(Grant::AuthorizationCode, endpoint.url()), |account| {
        account.provider.scopes.push("openid".to_owned());
    });
    for (account, person, wanted) in [
        (known(&endpoint), "admin@contoso.com", MAILBOX),
        (own, "admin@contoso.com", MAILBOX),
        // A delegate that was declared has to be the one.
        (operator, MAILBOX, "operator@contoso.com"),
    ] {
        for has_grant in [false, true] {
            let home = Home::new();
            if has_grant {
                home.signed_in(HOUR).await;
            }
            let before = home.open().grant(name().as_str()).await.unwrap();
            let claims = json!({"preferred_username": person});
            let refused = signed_in(&endpoint, &home, &account, claims).await.unwrap_err();
            assert!(matches!(refused, ConsentError::SomebodyElse { .. }), "{refused}");
            let said = refused.to_string();
            assert!(said.contains(person) && said.contains(wanted), "{said}");
            assert_eq!(home.open().grant(name().as_str()).await.unwrap(), before);
        }
    }
}

#[tokio::test]
async fn an_id_token_that_is_not_for_this_sign_in_stores_nothing() {
    let endpoint = Endpoint::start().await;
    for (claims, expected) in [
        (json!({"nonce": "another"}), IdTokenError::Nonce),
        (json!({"nonce": null}), IdTokenError::Nonce),
        (json!({"aud": "another"}), IdTokenError::Audience),
        (json!({"exp": 1}), IdTokenError::Expired),
    ] {
        let home = Home::new();
        let mut claims = claims;
        claims["preferred_username"] = json!(MAILBOX);
        let refused = signed_in(&endpoint, &home, &known(&endpoint), claims).await.unwrap_err();
        let ConsentError::IdToken(why) = &refused else { panic!("{refused}") };
        assert_eq!(*why, expected);
        assert_eq!(home.open().grant(name().as_str()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_provider_that_never_says_who_it_was_may_be_used_and_one_that_does_must() {
    let endpoint = Endpoint::start().await;
    for (account, must_say) in
        [(account(Grant::AuthorizationCode, endpoint.url()), false), (known(&endpoint), true)]
    {
        let home = Home::new();
        let consent = Consent::begin(&account, &home.open(), &home.clock).await.unwrap();
        let asked = query(consent.url());
        assert_eq!(asked.contains_key("nonce"), must_say);
        assert_eq!(asked["scope"].contains("openid email profile"), must_say);
        let back = format!("/?code=c&state={}", asked["state"]);
        match consent.finish_with_pasted(&back).await {
            Ok(consented) => assert_eq!((consented.signed_in, must_say), (None, false)),
            Err(refused) => {
                assert!(must_say && matches!(refused, ConsentError::Nobody { .. }), "{refused}");
                assert_eq!(home.open().grant(name().as_str()).await.unwrap(), None);
            }
        }
    }
}

#[tokio::test]
async fn somebody_else_at_the_simulated_provider_is_refused() {
    let sim = Sim::start(SimOptions::default()).await.unwrap();
    let home = Home::new();
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, sim.ca_pem()).unwrap();
    let text = format!(
        "[server]\nhostname = \"localhost\"\ndata_dir = \"data\"\n[[listener]]\n\
         address = \"127.0.0.1:0\"\n{}\n{}",
        sim.account_toml("scanner@contoso.com"),
        sim.provider_toml(&ca_file),
    );
    let config = config::parse(&text, &folder.path().join("mailbearer.toml")).unwrap();
    let (store, clock) = (home.open(), Clock::system());
    for (person, is_refused) in [(Some("erp@contoso.com"), true), (None, false)] {
        sim.sign_in_as(person);
        let consent = Consent::begin(&config.accounts[0], &store, &clock).await.unwrap();
        let ended = sent_on(consent.url()).await;
        match consent.finish_with_pasted(&ended).await {
            Err(ConsentError::SomebodyElse { signed_in, wanted, .. }) => {
                assert!(is_refused);
                assert_eq!((&*signed_in, &*wanted), ("erp@contoso.com", "scanner@contoso.com"));
                assert_eq!(store.grant("scanner@contoso.com").await.unwrap(), None);
            }
            other => {
                assert!(!is_refused);
                assert_eq!(other.unwrap().signed_in.as_deref(), Some("scanner@contoso.com"));
            }
        }
    }
    sim.stop().await;
}

/// Where a browser is sent from this page.
async fn sent_on(url: &Url) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", url.port().unwrap())).await.unwrap();
    let target = &url[url::Position::BeforePath..];
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    let mut lines = page.lines().filter_map(|line| line.split_once(": "));
    let location = lines.find(|(name, _)| name.eq_ignore_ascii_case("location"));
    location.unwrap_or_else(|| panic!("{page}")).1.to_owned()
}

#[tokio::test]
async fn a_grant_of_another_configuration_is_not_used() {
    let endpoint = Endpoint::start().await;
    let other = Endpoint::start().await;
    let before = account(Grant::AuthorizationCode, endpoint.url());
    type Change<'a> = (&'a str, Box<dyn Fn(&mut Account) + 'a>);
    let changes: [Change<'_>; 4] = [
        ("client_id", Box::new(|account| account.client.id = "another".to_owned())),
        ("provider or tenant", Box::new(|account| account.provider.token_url = other.url())),
        ("scopes", Box::new(|account| account.provider.scopes.push("more".to_owned()))),
        ("signs_in_as", Box::new(|account| account.signs_in_as = mailbox("operator@contoso.com"))),
    ];
    for (key, change) in changes {
        let home = Home::new();
        let consent = Consent::begin(&before, &home.open(), &home.clock).await.unwrap();
        let back = format!("/?code=c&state={}", query(consent.url())["state"]);
        consent.finish_with_pasted(&back).await.unwrap();
        let asked = endpoint.count() + other.count();
        let after = with(&before, change);
        let manager = home.manager(&after);
        let refused = manager.token(&name()).await.unwrap_err();
        let TokenTrouble::PersonNeeded { reason } = &refused else { panic!("{refused}") };
        assert!(reason.contains(key) && reason.contains("mailbearer login"), "{reason}");
        assert_eq!(endpoint.count() + other.count(), asked, "nobody is asked with it");
        // It is still there for the configuration that it belongs to.
        assert!(home.manager(&before).token(&name()).await.is_ok());
        // What changes no grant: the order of the scopes, and the secret.
        let same = with(&before, |account| {
            account.provider.scopes.reverse();
            account.client.secret = Some(Secret::new("a newer one"));
        });
        assert!(home.manager(&same).token(&name()).await.is_ok());
    }
}

#[tokio::test]
async fn a_program_that_signs_in_itself_fetches_a_token_for_its_new_configuration() {
    let (endpoint, home) = (Endpoint::start().await, Home::new());
    let before = account(Grant::ClientCredentials, endpoint.url());
    let first = home.manager(&before).token(&name()).await.unwrap();
    let same = home.manager(&before).token(&name()).await.unwrap();
    assert_eq!((first.secret, &same.secret), (access(1), &access(1)));
    let after = with(&before, |account| account.client.id = "another".to_owned());
    assert_eq!(home.manager(&after).token(&name()).await.unwrap().secret, access(2));
    assert_eq!(endpoint.asked()[1]["client_id"], "another");
    let stored = home.open().grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!(stored.origin.as_ref().unwrap().how, "client_credentials");
    assert!(changed_since(&stored, &before).is_some());
}

#[tokio::test]
async fn a_grant_from_before_this_was_recorded_is_used_and_bound_by_its_renewal() {
    let (endpoint, home) = (Endpoint::start().await, Home::new());
    let account = account(Grant::AuthorizationCode, endpoint.url());
    let store = home.signed_in(HOUR).await;
    home.clock.advance(2 * HOUR);
    assert_eq!(home.manager(&account).token(&name()).await.unwrap().secret, access(1));
    let stored = store.grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!(changed_since(&stored, &account), None);
    assert_eq!(stored.obtained_by.as_deref(), Some("admin@contoso.com"));
    let other = with(&account, |account| account.client.id = "another".to_owned());
    assert_eq!(changed_since(&stored, &other).as_deref(), Some("client_id"));
}

#[tokio::test]
async fn after_a_logout_the_running_manager_has_no_token_and_the_provider_is_told() {
    let (endpoint, home) = (Endpoint::start().await, Home::new());
    let account = with(&account(Grant::AuthorizationCode, endpoint.url()), |account| {
        account.provider.revoke_url = Some(endpoint.url());
    });
    let store = home.signed_in(HOUR).await;
    let manager = home.manager(&account);
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (manager, stop) = (manager.clone(), stop.clone());
        async move { manager.run(stop).await }
    });
    assert_eq!(manager.token(&name()).await.unwrap().secret, access(0));
    endpoint.next(Reply::Json(200, json!({})));
    assert_eq!(log_out(&account, &home.open()).await.unwrap(), Some(Revocation::Revoked));
    eventually("the manager notices", async || manager.token(&name()).await.is_err()).await;
    let asked = endpoint.asked();
    assert_eq!(asked.len(), 1, "nothing else was asked: {asked:?}");
    assert_eq!(asked[0]["token"], refresh(0).expose());
    assert_eq!(asked[0]["token_type_hint"], "refresh_token");
    assert_eq!(asked[0]["client_id"], "the client");
    assert_eq!(store.grant(name().as_str()).await.unwrap(), None);
    assert_eq!(log_out(&account, &home.open()).await.unwrap(), None, "nobody is signed in");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn whatever_the_provider_says_a_logout_removes_the_grant() {
    let endpoint = Endpoint::start().await;
    let told = with(&account(Grant::AuthorizationCode, endpoint.url()), |account| {
        account.provider.revoke_url = Some(endpoint.url());
    });
    let untold = account(Grant::AuthorizationCode, endpoint.url());
    let echo = format!("no: {}", refresh(0).expose());
    let down = Reply::Full { status: 503, headers: Vec::new(), body: echo };
    for (account, reply, expected) in [
        (&told, error("invalid_token"), Some(Revocation::Revoked)),
        (&untold, Reply::Hang, Some(Revocation::NotOffered)),
        (&told, down, None),
        (&told, error("invalid_client"), None),
    ] {
        let home = Home::new();
        let store = home.signed_in(HOUR).await;
        endpoint.always(reply);
        let revocation = log_out(account, &store).await.unwrap().unwrap();
        match expected {
            Some(expected) => assert_eq!(revocation, expected),
            None => {
                let Revocation::Failed { reason } = revocation else { panic!("{revocation:?}") };
                assert!(reason.contains("status") && !reason.contains("marked"), "{reason}");
            }
        }
        assert_eq!(store.grant(name().as_str()).await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_imported_refresh_token_is_tried_before_it_is_stored() {
    let (endpoint, home) = (Endpoint::start().await, Home::new());
    let account = known(&endpoint);
    let (store, token) = (home.open(), Secret::new("marked+elsewhere"));
    endpoint.next(error("invalid_grant"));
    endpoint.next(answer(None, json!({"preferred_username": "admin@contoso.com"})));
    for part in ["invalid_grant", "admin@contoso.com signed in"] {
        let refused = import_grant(&account, &store, &home.clock, token.clone()).await.unwrap_err();
        assert!(refused.to_string().contains(part), "{refused}");
        assert_eq!(store.grant(name().as_str()).await.unwrap(), None);
    }
    let imported = import_grant(&account, &store, &home.clock, token.clone()).await.unwrap();
    assert_eq!(imported.signed_in, None, "no ID token came with the renewal");
    let asked = &endpoint.asked()[2];
    assert_eq!(
        (&*asked["grant_type"], &*asked["refresh_token"]),
        ("refresh_token", token.expose())
    );
    let stored = store.grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, Some(refresh(1)), "the newest one");
    assert_eq!(stored.origin.as_ref().unwrap().how, "import");
    assert_eq!(home.manager(&account).token(&name()).await.unwrap().secret, access(1));
    // One that does not rotate stays.
    endpoint.next(Reply::Json(200, json!({"access_token": "t"})));
    import_grant(&account, &store, &home.clock, token.clone()).await.unwrap();
    let stored = store.grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, Some(token));
}
