//! A person signs in: the browser's way over loopback, and the pasted address.

#[path = "token_parts/mod.rs"]
mod parts;

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mailbearer::base::Secret;
use mailbearer::config::Account;
use mailbearer::oauth::{Grant, RedirectError, Refusal};
use mailbearer::token::{Consent, ConsentError};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use parts::{Endpoint, HOUR, Home, Reply, access, account, error, eventually, name, refresh};

async fn begun() -> (Endpoint, Home, Arc<Account>, Consent) {
    let (endpoint, home) = (Endpoint::start().await, Home::new());
    let account = account(Grant::AuthorizationCode, endpoint.url());
    let consent = Consent::begin(&account, &home.open(), &home.clock).await.unwrap();
    (endpoint, home, account, consent)
}

fn query(url: &Url) -> BTreeMap<String, String> {
    url.query_pairs().into_owned().collect()
}

/// What a browser does when it is sent to `target` of the redirect's host.
async fn visit(redirect: &Url, target: &str) -> String {
    let port = redirect.port().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    page
}

fn back(asked: &BTreeMap<String, String>) -> (Url, String) {
    let redirect = Url::parse(&asked["redirect_uri"]).unwrap();
    let mut target = redirect.clone();
    target.query_pairs_mut().append_pair("code", "c+de/1").append_pair("state", &asked["state"]);
    (redirect, format!("/?{}", target.query().unwrap()))
}

#[tokio::test]
async fn a_person_signs_in_and_the_manager_has_a_token() {
    let (endpoint, home, account, mut consent) = begun().await;
    let manager = home.manager(&account);
    assert!(manager.token(&name()).await.is_err());

    let asked = query(consent.url());
    assert!(consent.url().as_str().starts_with("https://login.example/authorize?"));
    assert_eq!(asked["response_type"], "code");
    assert_eq!(asked["client_id"], "the client");
    assert_eq!(asked["scope"], "mail.send offline_access");
    assert_eq!(asked["code_challenge_method"], "S256");
    assert_eq!(asked["login_hint"], parts::MAILBOX);
    assert!(asked["state"].len() >= 43);
    let (redirect, target) = back(&asked);
    assert_eq!((redirect.host_str(), redirect.path()), (Some("localhost"), "/"));

    // A browser opens connections in advance, asks for an icon, and other pages send nonsense.
    let _idle = TcpStream::connect(("127.0.0.1", redirect.port().unwrap())).await.unwrap();
    let browser = tokio::spawn(async move {
        for (target, status) in [
            ("/favicon.ico", "404"),
            ("/?code=evil&state=wrong", "400"),
            ("/?error=access_denied&state=wrong", "400"),
            ("/?code=evil", "400"),
        ] {
            let page = visit(&redirect, target).await;
            assert!(page.starts_with(&format!("HTTP/1.1 {status} ")), "{page}");
            assert!(!page.contains("evil"));
        }
        visit(&redirect, &target).await
    });
    // As a command line does that looks at its standard input meanwhile.
    tokio::select! {
        biased;
        waited = consent.wait() => panic!("{waited:?}"),
        () = tokio::task::yield_now() => {}
    }
    let consented = consent.finish().await.unwrap();
    let page = browser.await.unwrap();
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("has arrived"), "{page}");

    let form = &endpoint.asked()[0];
    assert_eq!(form["grant_type"], "authorization_code");
    assert_eq!(form["code"], "c+de/1");
    assert_eq!(form["redirect_uri"], asked["redirect_uri"]);
    let hash = ring::digest::digest(&ring::digest::SHA256, form["code_verifier"].as_bytes());
    assert_eq!(URL_SAFE_NO_PAD.encode(hash), asked["code_challenge"]);

    eventually("the token", async || manager.token(&name()).await.is_ok()).await;
    let token = manager.token(&name()).await.unwrap();
    assert_eq!((token.secret, token.generation), (access(1), consented.generation));
    let stored = home.open().grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, Some(refresh(1)));
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn the_pasted_address_does_as_well_and_a_wrong_one_may_be_pasted_again() {
    let (endpoint, home, _, mut consent) = begun().await;
    endpoint.next(Reply::Json(200, json!({"access_token": "t", "refresh_token": "r"})));
    let (redirect, target) = back(&query(consent.url()));
    let wrong = format!("http://localhost:{}/?code=c&state=x", redirect.port().unwrap());
    let refused = consent.paste(&wrong).unwrap_err();
    assert!(matches!(refused, ConsentError::Redirect(RedirectError::WrongState)));
    let refused = consent.paste("c+de/1").unwrap_err();
    assert!(matches!(refused, ConsentError::Redirect(RedirectError::NotARedirect)));
    let pasted = format!("http://localhost:{}{target}\n", redirect.port().unwrap());
    let consented = consent.finish_with_pasted(&pasted).await.unwrap();
    assert_eq!(consented.signed_in, None, "this provider does not say");
    let stored = home.open().grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, Some(Secret::new("r")));
    assert_eq!(stored.obtained_by, None);
    assert_eq!(endpoint.asked()[0]["code"], "c+de/1");
}

#[tokio::test]
async fn a_new_sign_in_replaces_a_retired_grant() {
    let (_endpoint, home, _, consent) = begun().await;
    let store = home.open();
    let mut grant = home.grant(HOUR);
    grant.retired = Some("invalid_grant".to_owned());
    store.put_grant(name().as_str(), 0, grant).await.unwrap();
    let (_, target) = back(&query(consent.url()));
    consent.finish_with_pasted(&target).await.unwrap();
    let stored = store.grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!((stored.retired, stored.version), (None, 2));
}

#[tokio::test]
async fn what_brings_no_grant_stores_nothing_and_says_why() {
    let denied = "/?error=access_denied&error_description=no&state=";
    let cases = [
        (Some(denied), Reply::Token, "access_denied"),
        (None, error("invalid_grant"), "invalid_grant"),
        (None, Reply::Json(503, json!({})), "status 503"),
        (None, Reply::Json(200, json!({"access_token": "t"})), "no refresh token"),
    ];
    for (target, reply, part) in cases {
        let (endpoint, home, _, consent) = begun().await;
        endpoint.always(reply);
        let asked = query(consent.url());
        let target = match target {
            Some(target) => format!("{target}{}", asked["state"]),
            None => back(&asked).1,
        };
        let redirect = Url::parse(&asked["redirect_uri"]).unwrap();
        let browser = tokio::spawn(async move { visit(&redirect, &target).await });
        let refused = consent.finish().await.unwrap_err();
        assert!(refused.to_string().contains(part), "{refused}");
        assert!(browser.await.unwrap().starts_with("HTTP/1.1 200 "));
        assert_eq!(home.open().grant(name().as_str()).await.unwrap(), None);
        if let ConsentError::Refused(refusal) = refused {
            assert!(matches!(refusal, Refusal::Definitive { .. } | Refusal::NotNow { .. }));
        }
    }
}

#[tokio::test]
async fn a_sign_in_that_nobody_finishes_ends() {
    let (_endpoint, _home, _, consent) = begun().await;
    tokio::time::pause();
    assert!(matches!(consent.finish().await, Err(ConsentError::TimedOut)));
}

#[tokio::test]
async fn an_account_without_a_person_has_no_sign_in() {
    let home = Home::new();
    let account = account(Grant::ClientCredentials, "https://login.example/t".parse().unwrap());
    let refused = Consent::begin(&account, &home.open(), &home.clock).await.unwrap_err();
    assert!(matches!(refused, ConsentError::NotNeeded { .. }), "{refused}");
}
