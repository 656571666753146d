//! No secret reaches a log line, an error text or a debug print, at any level.

#[path = "token_parts/mod.rs"]
mod parts;

use std::io;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use mailbearer::base::Secret;
use mailbearer::config::Account;
use mailbearer::oauth::Grant;
use mailbearer::token::{Consent, import_grant, log_out};
use serde_json::json;
use url::Url;

use parts::{Endpoint, HOUR, Home, Reply, account, error, name};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Every secret of these tests has this word in it.
const MARK: &str = "marked";

/// The mark as it looks inside base64, at each of the three alignments.
fn marks() -> Vec<String> {
    let mut marks =
        vec![MARK.to_owned(), url::form_urlencoded::byte_serialize(MARK.as_bytes()).collect()];
    for before in 0..3 {
        let text = format!("{}{MARK}", "x".repeat(before));
        let encoded = STANDARD_NO_PAD.encode(&text);
        // Without the characters that share bits with a neighbour.
        let start = (before * 8).div_ceil(6);
        let end = text.len() * 8 / 6;
        marks.push(encoded[start..end].to_owned());
    }
    marks.push(MARK.bytes().map(|byte| format!("{byte:02x}")).collect());
    marks.push(format!("{:?}", MARK.as_bytes()).trim_matches(['[', ']']).to_owned());
    marks
}

#[tokio::test]
async fn every_flow_at_trace_level_shows_no_secret() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();
    let mut shown = String::new();
    let endpoint = Endpoint::start().await;
    let account = account(Grant::AuthorizationCode, endpoint.url());
    let home = Home::new();
    let manager = home.manager(&account);

    // Sign in, with a code that is marked as well.
    let mut consent = Consent::begin(&account, &home.open(), &home.clock).await.unwrap();
    shown += &format!("{consent:?}{account:?}");
    let asked = consent.url().clone();
    let parameter =
        |name: &str| asked.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned();
    shown += &format!("{:?}", consent.paste("http://localhost/?code=marked&state=marked"));
    let mut back = Url::parse(&parameter("redirect_uri")).unwrap();
    back.query_pairs_mut()
        .append_pair("code", "marked-code")
        .append_pair("state", &parameter("state"));
    let state = parameter("state");
    shown += &format!("{:?}", consent.finish_with_pasted(back.as_str()).await.unwrap());

    // Renewals, good and bad, and everything that is said about them.
    for reply in [
        Reply::Token,
        Reply::Json(200, json!({"access_token": "marked token", "refresh_token": "marked-r"})),
        Reply::Json(200, json!({"refresh_token": "marked"})),
        Reply::Full { status: 200, headers: vec![], body: "{\"access_token\":\"marked".into() },
        Reply::Full { status: 500, headers: vec![], body: "<p>marked".into() },
        error("invalid_client"),
        error("invalid_grant"),
    ] {
        endpoint.next(reply);
        home.clock.advance(2 * HOUR);
        let manager = home.manager(&account);
        let token = manager.token(&name()).await;
        if let Err(trouble) = &token {
            shown += &trouble.to_string();
        }
        shown += &format!("{token:?}{:?}", manager.state(&name()).await);
        shown += &format!("{:?}", manager.refused(&name(), 1).await);
        shown += &format!("{:?}", home.open().grant(name().as_str()).await.unwrap());
    }
    shown += &format!("{:?}", manager.state(&name()).await);

    // Brought from elsewhere, and ended; the endpoint repeats what it was sent.
    let echo = Reply::Full { status: 500, headers: vec![], body: "token=marked+elsewhere".into() };
    let mut account = Account::clone(&account);
    account.provider.revoke_url = Some(endpoint.url());
    let (account, store) = (Arc::new(account), home.open());
    let elsewhere = Secret::new("marked+elsewhere");
    let id_token = json!({"access_token": "t", "refresh_token": "r", "id_token": "marked.x.y"});
    for reply in [echo.clone(), Reply::Json(200, id_token), Reply::Token] {
        endpoint.next(reply);
        let imported = import_grant(&account, &store, &home.clock, elsewhere.clone()).await;
        shown += &format!("{imported:?}");
        if let Err(refused) = &imported {
            shown += &refused.to_string();
        }
    }
    endpoint.next(echo);
    shown += &format!("{:?}", log_out(&account, &store).await.unwrap());
    assert!(shown.contains("cannot be read") && shown.contains("status 500"), "{shown}");

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("event=\"signed_in\"") && log.contains("event=\"renewed\""), "{log}");
    assert!(log.contains("event=\"person_needed\""), "{log}");
    assert!(endpoint.count() >= 7);
    for (place, text) in [("the log", &log), ("what is shown", &shown)] {
        for mark in marks() {
            let found = text.find(&mark);
            assert_eq!(found, None, "{mark} in {place}: {:?}", found.map(|at| &text[at..]));
        }
        assert!(!text.contains(&state), "the state in {place}");
    }
}

#[test]
fn the_search_finds_what_it_is_to_find() {
    for before in 0..3 {
        let text = format!("{}{MARK}-token", "y".repeat(before));
        let encoded = STANDARD_NO_PAD.encode(&text);
        assert!(marks().iter().any(|mark| encoded.contains(mark)), "{before}");
    }
}
