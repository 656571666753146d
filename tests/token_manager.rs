//! The token manager against a scripted token endpoint and a real store.

#[path = "token_parts/mod.rs"]
mod parts;

use std::future::Future as _;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use mailbearer::base::Secret;
use mailbearer::net::HttpPatience;
use mailbearer::oauth::Grant;
use mailbearer::token::{AccessToken, TokenPace, TokenTrouble};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use parts::{
    Endpoint, HOUR, Home, Reply, access, account, error, eventually, name, pace, raw_server,
    refresh,
};

const MINUTE: Duration = Duration::from_secs(60);

/// An endpoint, a store in which somebody signed in an hour and more ago, and the account.
async fn expired() -> (Endpoint, Home, Arc<mailbearer::config::Account>) {
    let (endpoint, home) = (Endpoint::start().await, Home::new());
    home.signed_in(HOUR).await;
    home.clock.advance(2 * HOUR);
    let account = account(Grant::AuthorizationCode, endpoint.url());
    (endpoint, home, account)
}

fn secret(token: Result<AccessToken, TokenTrouble>) -> Secret {
    token.unwrap().secret
}

fn is_not_now(token: &Result<AccessToken, TokenTrouble>) -> bool {
    matches!(token, Err(TokenTrouble::NotNow { .. }))
}

fn is_person_needed(token: &Result<AccessToken, TokenTrouble>) -> bool {
    matches!(token, Err(TokenTrouble::PersonNeeded { .. }))
}

#[tokio::test]
async fn fifty_callers_cost_one_request() {
    let (endpoint, home, account) = expired().await;
    let gate = Arc::new(Semaphore::new(0));
    endpoint.next(Reply::Held(gate.clone()));
    let manager = home.manager(&account);
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let manager = manager.clone();
        callers.spawn(async move { manager.token(&name()).await });
    }
    eventually("the request", async || endpoint.count() == 1).await;
    gate.add_permits(1);
    while let Some(token) = callers.join_next().await {
        assert_eq!(secret(token.unwrap()), access(1));
    }
    assert_eq!(endpoint.count(), 1);
    let form = &endpoint.asked()[0];
    assert_eq!(form["grant_type"], "refresh_token");
    assert_eq!(form["refresh_token"], refresh(0).expose());
    assert_eq!(form["client_id"], "the client");
}

#[tokio::test]
async fn what_was_handed_out_is_in_the_store_and_a_restart_needs_no_request() {
    let (endpoint, home, account) = expired().await;
    let token = home.manager(&account).token(&name()).await.unwrap();
    let stored = home.open().grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, Some(refresh(1)));
    assert_eq!(stored.access_token.as_ref(), Some(&token.secret));
    assert_eq!(stored.version, token.generation);
    assert_eq!(stored.obtained_by.as_deref(), Some("admin@contoso.com"));
    assert_eq!(home.manager(&account).token(&name()).await.unwrap(), token);
    assert_eq!(endpoint.count(), 1);
}

/// As a full disk: grants are not stored until the returned function is called.
fn stop_storing(home: &Home) -> impl FnOnce() + use<> {
    let database = home.data_dir().join("mailbearer.db");
    let run = move |sql: &str| {
        let connection = rusqlite::Connection::open(&database).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        connection.execute_batch(sql).unwrap();
    };
    run("CREATE TRIGGER refuse BEFORE INSERT ON account_grant
         BEGIN SELECT RAISE(ABORT, 'no room'); END");
    move || run("DROP TRIGGER refuse")
}

#[tokio::test]
async fn a_rotated_token_that_cannot_be_stored_is_kept_and_not_handed_out() {
    let (endpoint, home, account) = expired().await;
    let manager = home.manager_with(
        &account,
        TokenPace {
            back_off_first: Duration::from_millis(1),
            back_off_max: Duration::from_millis(1),
            ..pace()
        },
    );
    let start_storing = stop_storing(&home);
    for _ in 0..3 {
        let token = manager.token(&name()).await;
        assert!(is_not_now(&token), "{token:?}");
    }
    assert_eq!(endpoint.count(), 1, "the answer is kept, so nothing is asked again");
    let stored = home.open().grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, Some(refresh(0)));
    start_storing();
    eventually("the token", async || manager.token(&name()).await.is_ok()).await;
    assert_eq!(secret(manager.token(&name()).await), access(1));
    let stored = home.open().grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, Some(refresh(1)));
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn a_caller_who_gives_up_does_not_lose_the_new_refresh_token() {
    let (endpoint, home, account) = expired().await;
    let gate = Arc::new(Semaphore::new(0));
    endpoint.next(Reply::Held(gate.clone()));
    let manager = home.manager(&account);
    {
        let name = name();
        let mut token = Box::pin(manager.token(&name));
        let mut context = Context::from_waker(Waker::noop());
        eventually("the request", async || {
            assert!(token.as_mut().poll(&mut context).is_pending());
            endpoint.count() == 1
        })
        .await;
    }
    gate.add_permits(1);
    let store = home.open();
    eventually("the new grant", async || {
        let stored = store.grant(name().as_str()).await.unwrap().unwrap();
        stored.refresh_token == Some(refresh(1))
    })
    .await;
}

#[tokio::test]
async fn while_the_endpoint_is_down_a_valid_token_serves() {
    let (endpoint, home) = (Endpoint::start().await, Home::new());
    home.signed_in(HOUR).await;
    endpoint.always(Reply::Json(503, json!({"error": "temporarily_unavailable"})));
    let manager = home.manager(&account(Grant::AuthorizationCode, endpoint.url()));
    home.clock.advance(Duration::from_secs(3_500));
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (manager, stop) = (manager.clone(), stop.clone());
        async move { manager.run(stop).await }
    });
    eventually("a try to renew", async || endpoint.count() == 1).await;
    for _ in 0..20 {
        assert_eq!(secret(manager.token(&name()).await), access(0));
    }
    eventually("the trouble", async || {
        let state = manager.state(&name()).await.unwrap();
        assert_eq!(state.obtained_by.as_deref(), Some("admin@contoso.com"));
        state.generation == Some(1) && matches!(state.trouble, Some(TokenTrouble::NotNow { .. }))
    })
    .await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn expired_and_down_is_not_now_with_one_request_a_step() {
    let (endpoint, home, account) = expired().await;
    endpoint.always(Reply::Json(500, json!({})));
    let manager = home.manager(&account);
    for _ in 0..50 {
        let token = manager.token(&name()).await;
        let Err(TokenTrouble::NotNow { reason, retry_after }) = token else { panic!("{token:?}") };
        assert!(reason.contains("status 500"), "{reason}");
        assert!(retry_after.unwrap() > 50 * MINUTE, "{retry_after:?}");
    }
    assert_eq!(endpoint.count(), 1);
    // The grant has not suffered.
    let stored = home.open().grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!((stored.refresh_token, stored.retired), (Some(refresh(0)), None));
    assert_eq!(stored.version, 1);
}

#[tokio::test]
async fn when_the_step_is_over_it_is_tried_again_and_heals() {
    let (endpoint, home, account) = expired().await;
    for status in [500, 503, 429] {
        endpoint.next(Reply::Json(status, json!({})));
    }
    let quick = Duration::from_millis(1);
    let manager = home
        .manager_with(&account, TokenPace { back_off_first: quick, back_off_max: quick, ..pace() });
    eventually("a token", async || manager.token(&name()).await.is_ok()).await;
    assert_eq!(endpoint.count(), 4);
    assert_eq!(manager.state(&name()).await.unwrap().trouble, None);
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let (endpoint, home, account) = expired().await;
    let headers = vec![("retry-after", "1200".to_owned())];
    endpoint.always(Reply::Full { status: 429, headers, body: "{}".to_owned() });
    let quick = Duration::from_millis(1);
    let manager = home
        .manager_with(&account, TokenPace { back_off_first: quick, back_off_max: quick, ..pace() });
    for _ in 0..5 {
        let token = manager.token(&name()).await;
        let Err(TokenTrouble::NotNow { retry_after: Some(wait), .. }) = token else {
            panic!("{token:?}")
        };
        assert!(wait > 19 * MINUTE && wait <= 25 * MINUTE, "{wait:?}");
    }
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn a_revoked_grant_needs_a_person_and_is_never_asked_again() {
    for word in ["invalid_grant", "interaction_required"] {
        let (endpoint, home, account) = expired().await;
        endpoint.always(error(word));
        let manager = home.manager(&account);
        for _ in 0..20 {
            let token = manager.token(&name()).await;
            assert!(is_person_needed(&token), "{token:?}");
            let text = token.unwrap_err().to_string();
            assert!(text.contains(word) && text.contains("mailbearer login"), "{text}");
        }
        // Nor after a restart, nor in the background.
        let restarted = home.manager(&account);
        assert!(is_person_needed(&restarted.token(&name()).await));
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let (manager, stop) = (restarted.clone(), stop.clone());
            async move { manager.run(stop).await }
        });
        let store = home.open();
        let stored = store.grant(name().as_str()).await.unwrap().unwrap();
        assert_eq!(stored.refresh_token, Some(refresh(0)), "it is kept all the same");
        assert!(stored.retired.unwrap().contains(word));
        // Until somebody signs in, in another process.
        endpoint.always(Reply::Token);
        home.signed_in(HOUR).await;
        for manager in [&manager, &restarted] {
            assert_eq!(secret(manager.token(&name()).await), access(0), "at once");
        }
        stop.cancel();
        running.await.unwrap();
        assert_eq!(endpoint.count(), 1);
    }
}

#[tokio::test]
async fn without_a_sign_in_a_person_is_needed_and_nothing_is_asked() {
    let (endpoint, home) = (Endpoint::start().await, Home::new());
    let manager = home.manager(&account(Grant::AuthorizationCode, endpoint.url()));
    let token = manager.token(&name()).await;
    assert!(is_person_needed(&token), "{token:?}");
    home.signed_in(HOUR).await;
    // At once: an answer from memory would suspend the account again behind the login's back.
    assert!(manager.token(&name()).await.is_ok());
    assert!(home.open().remove_grant(name().as_str()).await.unwrap());
    let state = manager.state(&name()).await.unwrap();
    assert!(matches!(state.trouble, Some(TokenTrouble::PersonNeeded { .. })), "{state:?}");
    assert!(is_person_needed(&manager.token(&name()).await));
    assert_eq!(endpoint.count(), 0);
}

#[tokio::test]
async fn client_credentials_need_no_person_and_a_wrong_secret_is_said() {
    let (endpoint, home) = (Endpoint::start().await, Home::new());
    let account = account(Grant::ClientCredentials, endpoint.url());
    let hasty = TokenPace {
        misconfigured_first: Duration::from_millis(1),
        misconfigured_max: Duration::from_millis(1),
        ..pace()
    };
    let manager = home.manager_with(&account, hasty);
    let refused = json!({"error": "invalid_client", "error_description": "AADSTS7000215: Invalid"});
    endpoint.next(Reply::Json(401, refused));
    let token = manager.token(&name()).await;
    let Err(TokenTrouble::Misconfigured { reason }) = &token else { panic!("{token:?}") };
    assert!(reason.contains("copy the secret's Value"), "{reason}");
    eventually("a token", async || manager.token(&name()).await.is_ok()).await;
    assert_eq!(secret(home.manager(&account).token(&name()).await), access(1));
    assert_eq!(endpoint.count(), 2);
    let form = &endpoint.asked()[1];
    assert_eq!(form["grant_type"], "client_credentials");
    assert_eq!(form["scope"], "mail.send offline_access");
    // There is nobody to sign in, so even this is for the administrator.
    endpoint.next(error("invalid_grant"));
    home.clock.advance(2 * HOUR);
    let token = home.manager(&account).token(&name()).await;
    assert!(matches!(token, Err(TokenTrouble::Misconfigured { .. })), "{token:?}");
}

#[tokio::test]
async fn two_processes_refresh_once() {
    let (endpoint, home, account) = expired().await;
    let gate = Arc::new(Semaphore::new(0));
    endpoint.next(Reply::Held(gate.clone()));
    let (one, two) = (home.manager(&account), home.manager(&account));
    let mut callers = JoinSet::new();
    for manager in [one, two] {
        callers.spawn(async move { manager.token(&name()).await });
    }
    eventually("the request", async || endpoint.count() == 1).await;
    gate.add_permits(1);
    while let Some(token) = callers.join_next().await {
        assert_eq!(secret(token.unwrap()), access(1));
    }
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn a_late_answer_for_a_replaced_grant_does_not_land() {
    let (endpoint, home, account) = expired().await;
    let gate = Arc::new(Semaphore::new(0));
    endpoint.next(Reply::Held(gate.clone()));
    let manager = home.manager(&account);
    let waiting = tokio::spawn(async move { manager.token(&name()).await });
    eventually("the request", async || endpoint.count() == 1).await;
    home.signed_in(HOUR).await;
    gate.add_permits(1);
    assert_eq!(secret(waiting.await.unwrap()), access(0));
    let stored = home.open().grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!((stored.refresh_token, stored.version), (Some(refresh(0)), 2));
    assert_eq!(endpoint.count(), 1);
}

#[tokio::test]
async fn a_late_refusal_for_a_replaced_grant_does_not_retire_the_new_one() {
    let (endpoint, home, account) = expired().await;
    let gate = Arc::new(Semaphore::new(0));
    endpoint.next(Reply::HeldError(gate.clone()));
    let manager = home.manager(&account);
    let waiting = tokio::spawn(async move { manager.token(&name()).await });
    eventually("the request", async || endpoint.count() == 1).await;
    home.signed_in(HOUR).await;
    gate.add_permits(1);
    assert_eq!(secret(waiting.await.unwrap()), access(0));
    assert_eq!(home.open().grant(name().as_str()).await.unwrap().unwrap().retired, None);
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let (endpoint, home) = (Endpoint::start().await, Home::new());
    home.signed_in(HOUR).await;
    let manager = home.manager(&account(Grant::AuthorizationCode, endpoint.url()));
    let first = manager.token(&name()).await.unwrap();
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let (manager, generation) = (manager.clone(), first.generation);
        callers.spawn(async move { manager.refused(&name(), generation).await });
    }
    while let Some(token) = callers.join_next().await {
        assert_eq!(secret(token.unwrap()), access(1));
    }
    assert_eq!(endpoint.count(), 1);
    let second = manager.token(&name()).await.unwrap();
    assert!(second.generation > first.generation);
    for _ in 0..10 {
        let again = manager.refused(&name(), second.generation).await;
        assert!(matches!(again, Err(TokenTrouble::Misconfigured { .. })), "{again:?}");
    }
    assert_eq!(endpoint.count(), 1);
    assert_eq!(manager.token(&name()).await, Ok(second));
}

#[tokio::test]
async fn a_refused_token_is_not_handed_out_again_when_there_is_no_other() {
    let (endpoint, home) = (Endpoint::start().await, Home::new());
    home.signed_in(HOUR).await;
    endpoint.always(Reply::Json(503, json!({})));
    let account = account(Grant::AuthorizationCode, endpoint.url());
    let manager = home.manager(&account);
    let generation = manager.token(&name()).await.unwrap().generation;
    for _ in 0..5 {
        assert!(is_not_now(&manager.refused(&name(), generation).await));
        assert!(is_not_now(&manager.token(&name()).await));
    }
    assert_eq!(endpoint.count(), 1);
    // Nor by one who has yet to read it.
    let unread = home.manager(&account);
    assert!(is_not_now(&unread.refused(&name(), generation).await));
    assert!(is_not_now(&unread.token(&name()).await));
}

#[tokio::test]
async fn whoever_stops_waits_for_the_answers_that_callers_are_waiting_for() {
    let (endpoint, home, account) = expired().await;
    let gate = Arc::new(Semaphore::new(0));
    endpoint.next(Reply::Held(gate.clone()));
    let manager = home.manager(&account);
    let caller = tokio::spawn({
        let manager = manager.clone();
        async move { manager.token(&name()).await }
    });
    eventually("the request", async || endpoint.count() == 1).await;
    caller.abort();
    let stop = CancellationToken::new();
    stop.cancel();
    tokio::join!(manager.run(stop), async { gate.add_permits(1) });
    let stored = home.open().grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, Some(refresh(1)));
}

#[tokio::test]
async fn tokens_are_renewed_ahead_in_the_background() {
    let (endpoint, home) = (Endpoint::start().await, Home::new());
    home.signed_in(HOUR).await;
    let manager = home.manager(&account(Grant::AuthorizationCode, endpoint.url()));
    assert_eq!(secret(manager.token(&name()).await), access(0));
    let stop = CancellationToken::new();
    let running = tokio::spawn({
        let (manager, stop) = (manager.clone(), stop.clone());
        async move { manager.run(stop).await }
    });
    home.clock.advance(51 * MINUTE);
    eventually("the new token", async || secret(manager.token(&name()).await) == access(1)).await;
    // An answer that is under way when we are told to stop is still stored.
    let gate = Arc::new(Semaphore::new(0));
    endpoint.next(Reply::Held(gate.clone()));
    home.clock.advance(51 * MINUTE);
    eventually("the next request", async || endpoint.count() == 2).await;
    stop.cancel();
    tokio::task::yield_now().await;
    assert!(!running.is_finished());
    gate.add_permits(1);
    running.await.unwrap();
    let stored = home.open().grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, Some(refresh(2)));
}

#[tokio::test]
async fn a_clock_that_is_set_back_does_not_keep_a_token_alive() {
    // The monotonic clock is the test's; there is no endpoint, so it may stand still.
    let home = Home::new();
    home.signed_in(HOUR).await;
    let url = Endpoint::start().await.url();
    let manager = home.manager(&account(Grant::AuthorizationCode, url));
    assert_eq!(secret(manager.token(&name()).await), access(0));
    tokio::time::pause();
    tokio::time::advance(2 * HOUR).await;
    assert_eq!(manager.state(&name()).await.unwrap().generation, None);
}

#[tokio::test]
async fn what_is_missing_or_odd_in_an_answer_costs_nothing() {
    let (endpoint, home, account) = expired().await;
    // No refresh token: the old one stays. No life: it is not zero, so it is not a loop.
    endpoint.next(Reply::Json(200, json!({"access_token": "t1", "expires_in": "0"})));
    let manager = home.manager(&account);
    for _ in 0..5 {
        assert_eq!(secret(manager.token(&name()).await), Secret::new("t1"));
    }
    let stored = home.open().grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, Some(refresh(0)));
    assert_eq!(endpoint.count(), 1);
    // A refresh token beside a token that cannot be used is the only one that may still be good.
    home.clock.advance(HOUR);
    let odd = json!({"access_token": "a b", "refresh_token": "rotated"});
    endpoint.next(Reply::Json(200, odd));
    assert!(is_not_now(&manager.token(&name()).await));
    let stored = home.open().grant(name().as_str()).await.unwrap().unwrap();
    assert_eq!(stored.refresh_token, Some(Secret::new("rotated")));
    assert_eq!(secret(home.manager(&account).token(&name()).await), access(1));
    assert_eq!(endpoint.asked()[2]["refresh_token"], "rotated");
}

#[tokio::test]
async fn whatever_comes_instead_of_an_answer_is_not_now_and_costs_one_request() {
    let elsewhere = Endpoint::start().await;
    let to = vec![("location", elsewhere.url().to_string())];
    let html = "<html>sign in to the hotel network, invalid_grant</html>".to_owned();
    let cases = [
        ("not followed", Reply::Full { status: 307, headers: to.clone(), body: String::new() }),
        ("not followed", Reply::Full { status: 302, headers: to, body: String::new() }),
        ("a web page", Reply::Full { status: 200, headers: vec![], body: html }),
        ("empty body", Reply::Full { status: 200, headers: vec![], body: String::new() }),
        ("cut off", Reply::Full { status: 200, headers: vec![], body: "{\"acc".to_owned() }),
        ("no access token", Reply::Json(200, json!({}))),
        ("status 403", Reply::Json(403, json!({"message": "forbidden"}))),
        ("not a word", Reply::Json(400, json!({"error": 7}))),
        ("too large", Reply::Full { status: 200, headers: vec![], body: " ".repeat(10_000_000) }),
        ("in time", Reply::Hang),
    ];
    for (part, reply) in cases {
        let (endpoint, home, account) = expired().await;
        let patience = match reply {
            Reply::Hang => HttpPatience { total: Duration::from_millis(50), ..pace().patience },
            _ => pace().patience,
        };
        endpoint.always(reply);
        let manager = home.manager_with(&account, TokenPace { patience, ..pace() });
        for _ in 0..3 {
            let token = manager.token(&name()).await;
            let Err(TokenTrouble::NotNow { reason, .. }) = &token else { panic!("{token:?}") };
            assert!(reason.contains(part), "{reason}");
        }
        assert_eq!(endpoint.count(), 1, "{part}");
        let stored = home.open().grant(name().as_str()).await.unwrap().unwrap();
        assert_eq!((stored.refresh_token, stored.retired), (Some(refresh(0)), None));
    }
    assert_eq!(elsewhere.count(), 0);
}

#[tokio::test]
async fn an_endless_or_stuck_body_and_no_endpoint_at_all_are_not_now() {
    const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    const LENGTH: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 90\r\n\r\n";
    let chunk = [b"2710\r\n".as_slice(), &[b' '; 10_000], b"\r\n"].concat();
    let half = b"{\"access_token\":\"half".to_vec();
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap()
    };
    let cases = [
        ("too large", raw_server(CHUNKED, chunk, 1_000, true).await),
        ("in time", raw_server(LENGTH, half.clone(), 1, true).await),
        ("broke off", raw_server(LENGTH, half, 1, false).await),
        ("broke off", raw_server(b"220 not.http ESMTP\r\n", Vec::new(), 0, false).await),
        ("broke off", raw_server(b"", Vec::new(), 0, false).await),
        ("cannot be reached", nobody),
        ("is not https", "http://login.example/token".parse().unwrap()),
    ];
    for (part, url) in cases {
        let home = Home::new();
        home.signed_in(HOUR).await;
        home.clock.advance(2 * HOUR);
        let total = match part {
            "in time" => Duration::from_millis(50),
            _ => pace().patience.total,
        };
        let patience = HttpPatience { total, ..pace().patience };
        let account = account(Grant::AuthorizationCode, url);
        let manager = home.manager_with(&account, TokenPace { patience, ..pace() });
        let trouble = manager.token(&name()).await.unwrap_err();
        assert!(trouble.to_string().contains(part), "{trouble}");
        assert_eq!(
            matches!(trouble, TokenTrouble::Misconfigured { .. }),
            part == "is not https",
            "{trouble}"
        );
    }
}
