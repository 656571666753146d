//! The three ways of delivery, through the whole relay, against the simulated provider.

mod support {
    pub mod relay;
}

use std::time::Duration;

use mailbearer::sim::{Point, Service, SimOptions};
use support::relay::{MAILBOX, RECIPIENT, Relay, Setup, consent, expire_stored_token};

const MESSAGE: &str = "From: scanner@contoso.com\r\nTo: office@contoso.com\r\nDate: Mon, 23 Nov 2026 \
                       12:00:00 +0000\r\nMessage-ID: <1@printer>\r\nSubject: Scan\r\n\r\n\
                       .a leading dot\r\n..\r\n.\u{e4}\r\n\r\nno more\r\n";

/// What upstream holds is one Received line and then the message as it was sent.
fn assert_byte_exact(received: &[u8], sent: &str) {
    let prologue = received.strip_suffix(sent.as_bytes()).expect("the message as it was sent");
    let prologue = String::from_utf8(prologue.to_vec()).unwrap();
    let fields: Vec<_> = prologue.lines().filter(|line| !line.starts_with('\t')).collect();
    assert_eq!(fields.len(), 1, "{prologue}");
    assert!(fields[0].starts_with("Received: from printer.example ([127.0.0.1])"), "{prologue}");
}

#[tokio::test]
async fn confirm_gives_upstreams_own_verdict_and_keeps_every_byte() {
    let relay = Relay::start(Setup::default()).await;
    let commits = relay.daemon.store().commits();
    let reply = relay.send(MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 OK <"), "{reply}");
    let received = relay.sim.received(1).await.unwrap();
    assert_byte_exact(&received[0].bytes, MESSAGE);
    assert_eq!(received[0].forward_paths, [RECIPIENT]);
    assert_eq!(received[0].reverse_path, MAILBOX);
    assert_eq!(relay.daemon.store().commits(), commits, "good weather costs no write");
    relay.stop().await;
}

#[tokio::test]
async fn a_provider_that_wants_oauthbearer_gets_it_and_so_do_its_refusals() {
    let relay = Relay::start(Setup {
        options: SimOptions::gmail(),
        provider: "mechanism = \"oauthbearer\"\n".to_owned(),
        ..Setup::default()
    })
    .await;
    let reply = relay.send(MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 OK "), "{reply}");
    assert_byte_exact(&relay.sim.received(1).await.unwrap()[0].bytes, MESSAGE);
    let heard = relay.sim.transcript();
    assert!(heard.iter().any(|line| line.contains("AUTH OAUTHBEARER")), "{heard:#?}");
    assert!(!heard.iter().any(|line| line.contains("AUTH XOAUTH2")), "{heard:#?}");
    // A refused token is answered as RFC 7628 says, and renewed.
    relay.sim.revoke_access_tokens(None);
    let relay = relay.restart().await;
    let reply = relay.send(MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 OK "), "{reply}");
    assert_eq!(relay.sim.counts().token_requests_of("refresh_token"), 1);
    relay.stop().await;
}

#[tokio::test]
async fn queue_commits_first_and_delivers_then() {
    let relay = Relay::start(Setup::delivery("queue")).await;
    let reply = relay.send(MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    let received = relay.sim.received(1).await.unwrap();
    assert_byte_exact(&received[0].bytes, MESSAGE);
    relay.until_totals(0, 0).await;
    relay.stop().await;
}

#[tokio::test]
async fn direct_keeps_nothing_and_says_451_without_a_verdict() {
    let relay = Relay::start(Setup::delivery("direct")).await;
    let reply = relay.send(MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 OK <"), "{reply}");
    relay.sim.take_down(Service::Smtp).await;
    let reply = relay.send(MESSAGE).await;
    assert!(reply.starts_with("451 4."), "{reply}");
    relay.until_totals(0, 0).await;
    assert_eq!(relay.sim.counts().messages, 1);
    relay.stop().await;
}

#[tokio::test]
async fn an_outage_is_invisible_to_queue_clients_and_turns_confirm_into_queued() {
    for delivery in ["queue", "confirm"] {
        let relay = Relay::start(Setup::delivery(delivery)).await;
        relay.sim.take_down(Service::Smtp).await;
        for _ in 0..20 {
            let reply = relay.send(MESSAGE).await;
            assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
        }
        relay.until_totals(20, 0).await;
        relay.sim.bring_up(Service::Smtp).await.unwrap();
        let received = relay.sim.received(20).await.unwrap();
        relay.until_totals(0, 0).await;
        assert_eq!(received.len(), 20, "each once");
        relay.stop().await;
    }
}

#[tokio::test]
async fn a_restart_resumes_what_waits() {
    let relay = Relay::start(Setup::delivery("queue")).await;
    relay.sim.take_down(Service::Smtp).await;
    for _ in 0..5 {
        relay.send(MESSAGE).await;
    }
    let relay = relay.restart().await;
    relay.until_totals(5, 0).await;
    relay.sim.bring_up(Service::Smtp).await.unwrap();
    assert_eq!(relay.sim.received(5).await.unwrap().len(), 5);
    relay.until_totals(0, 0).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_refusal_after_the_final_dot_reaches_the_client() {
    let relay = Relay::start(Setup::default()).await;
    let mut client = relay.logged_in().await;
    let reply = client.send("ceo@contoso.com", &[RECIPIENT], MESSAGE).await;
    assert!(reply.starts_with("554 5.2.252 SendAsDenied"), "{reply}");
    let reply = client.send(MAILBOX, &[RECIPIENT], MESSAGE).await;
    assert!(reply.starts_with("250 "), "the session goes on: {reply}");
    relay.until_totals(0, 0).await;
    relay.stop().await;
}

#[tokio::test]
async fn each_recipient_has_an_outcome_of_its_own() {
    let relay = Relay::start(Setup::default()).await;
    let script = relay.sim.script();
    script.at(Point::Rcpt).for_recipient("gone@contoso.com").replies("550 5.1.1 no such user");
    let busy = script.at(Point::Rcpt).for_recipient("busy@contoso.com").times(1);
    busy.replies("452 4.5.3 too many recipients");
    let mut client = relay.logged_in().await;
    let to = [RECIPIENT, "gone@contoso.com", "busy@contoso.com"];
    let reply = client.send(MAILBOX, &to, MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    let received = relay.sim.received(2).await.unwrap();
    relay.until_totals(0, 1).await;
    assert_eq!(received[0].forward_paths, [RECIPIENT]);
    assert_eq!(received[1].forward_paths, ["busy@contoso.com"], "nobody gets it twice");
    for message in &received {
        assert_byte_exact(&message.bytes, MESSAGE);
    }
    relay.stop().await;
}

#[tokio::test]
async fn a_dead_token_endpoint_does_not_matter_while_the_token_lives() {
    let relay = Relay::start(Setup::default()).await;
    relay.sim.take_down(Service::Http).await;
    let reply = relay.send(MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 OK <"), "{reply}");
    relay.stop().await;
}

#[tokio::test]
async fn with_an_expired_token_mail_waits_for_the_endpoint() {
    let relay = Relay::start(Setup { has_grant: false, ..Setup::default() }).await;
    relay.sim.take_down(Service::Http).await;
    consent(relay.daemon.store(), &relay.sim).await;
    expire_stored_token(relay.daemon.store()).await;
    let reply = relay.send(MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    assert_eq!(relay.sim.counts().messages, 0);
    relay.sim.bring_up(Service::Http).await.unwrap();
    assert_byte_exact(&relay.sim.received(1).await.unwrap()[0].bytes, MESSAGE);
    relay.until_totals(0, 0).await;
    assert_eq!(relay.sim.counts().token_requests_of("refresh_token"), 1);
    relay.stop().await;
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_and_the_message_goes() {
    let relay = Relay::start(Setup::default()).await;
    relay.sim.revoke_access_tokens(Some(MAILBOX));
    let reply = relay.send(MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 OK <"), "{reply}");
    assert_eq!(relay.sim.counts().token_requests_of("refresh_token"), 1);
    relay.stop().await;
}

#[tokio::test]
async fn a_retired_grant_suspends_the_account_and_keeps_its_mail_until_somebody_signs_in() {
    let relay = Relay::start(Setup::default()).await;
    relay.sim.revoke_access_tokens(Some(MAILBOX));
    relay.sim.revoke_refresh_tokens(Some(MAILBOX));
    for _ in 0..3 {
        let reply = relay.send(MESSAGE).await;
        assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    }
    relay.until_suspended().await;
    relay.until_totals(3, 0).await;
    assert_eq!(
        relay.sim.counts().token_requests_of("refresh_token"),
        1,
        "asked once, not hammered"
    );
    consent(relay.daemon.store(), &relay.sim).await;
    relay.daemon.store().resume(MAILBOX).await.unwrap();
    assert_eq!(relay.sim.received(3).await.unwrap().len(), 3);
    relay.until_totals(0, 0).await;
    relay.stop().await;
}

#[tokio::test]
async fn nobody_signed_in_means_suspended_and_not_lost() {
    let relay = Relay::start(Setup { has_grant: false, ..Setup::default() }).await;
    let reply = relay.send(MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    let reason = relay.until_suspended().await;
    assert!(reason.contains("mailbearer login"), "says what to do: {reason}");
    relay.stop().await;
}

#[tokio::test]
async fn no_verdict_in_time_is_queued_and_delivered_once() {
    let server = "confirm_within = \"1s\"\n".to_owned();
    let relay = Relay::start(Setup { server, ..Setup::default() }).await;
    let hang = relay.sim.script().at(Point::Final).hangs();
    let reply = relay.send(MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    hang.until_fired(1).await.unwrap();
    relay.until_totals(1, 0).await;
    relay.sim.script().release();
    relay.until_totals(0, 0).await;
    assert_eq!(relay.sim.counts().messages, 1, "the attempt under way was the only one");
    relay.stop().await;
}

#[tokio::test]
async fn stopping_while_a_client_waits_commits_its_message() {
    let relay = Relay::start(Setup::default()).await;
    relay.sim.script().at(Point::Final).hangs();
    let mut client = relay.logged_in().await;
    let waiting = tokio::spawn(async move { client.send(MAILBOX, &[RECIPIENT], MESSAGE).await });
    relay.sim.script().until_hanging(1).await.unwrap();
    let script = relay.sim.script().clone();
    let released = tokio::spawn(async move {
        let reply = waiting.await.unwrap();
        script.release();
        reply
    });
    let relay = relay.restart().await;
    let reply = released.await.unwrap();
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    relay.sim.received(1).await.unwrap();
    relay.until_totals(0, 0).await;
    assert_eq!(relay.sim.counts().messages, 1, "the attempt that was under way was settled");
    relay.stop().await;
}

#[tokio::test]
async fn a_direct_client_hears_of_every_recipient_that_is_refused() {
    let relay = Relay::start(Setup::delivery("direct")).await;
    let gone = relay.sim.script().at(Point::Rcpt).for_recipient("gone@contoso.com");
    gone.replies("550 5.1.1 no such user");
    let mut client = relay.logged_in().await;
    let reply = client.send(MAILBOX, &[RECIPIENT, "gone@contoso.com"], MESSAGE).await;
    assert!(reply.starts_with("550 5.1.1 refused for <gone@contoso.com>"), "{reply}");
    assert_eq!(relay.sim.counts().messages, 1, "the other one got it");
    relay.until_totals(0, 0).await;
    relay.stop().await;
}

#[tokio::test]
async fn a_refused_login_is_not_repeated_by_everybody_who_waits() {
    let relay = Relay::start(Setup::default()).await;
    let tenant = "535 5.7.139 SmtpClientAuthentication is disabled for the Tenant.";
    relay.sim.script().at(Point::AuthResponse).always().replies(tenant);
    for reply in futures_join((0..30).map(|_| relay.send(MESSAGE))).await {
        assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    }
    let reason = relay.until_suspended().await;
    assert!(reason.contains("5.7.139"), "{reason}");
    let auths = relay.sim.counts().auths;
    assert!(auths <= 3, "{auths} logins for 30 messages: one for each session at most");
    relay.sim.script().clear();
    relay.daemon.store().resume(MAILBOX).await.unwrap();
    relay.sim.received(30).await.unwrap();
    relay.until_totals(0, 0).await;
    relay.stop().await;
}

#[tokio::test]
async fn sessions_that_say_good_bye_still_count() {
    let relay = Relay::start(Setup::default()).await;
    for _ in 0..4 {
        for reply in futures_join((0..6).map(|_| relay.send(MESSAGE))).await {
            assert!(reply.starts_with("250 2.0.0 OK <"), "{reply}");
        }
        // A new token means new sessions, while upstream takes its time to see the old ones off.
        relay.sim.script().at(Point::Quit).times(3).delays(Duration::from_millis(200));
        let store = relay.daemon.store();
        let before = store.grant(MAILBOX).await.unwrap().unwrap().version;
        consent(store, &relay.sim).await;
        assert!(store.grant(MAILBOX).await.unwrap().unwrap().version > before);
    }
    let most = relay.sim.counts().most_sessions_of[MAILBOX];
    assert!(most <= 3, "{most} sessions at a time");
    relay.stop().await;
}

#[tokio::test]
async fn a_lost_reply_to_the_final_dot_is_uncertain_and_tried_again() {
    let relay = Relay::start(Setup::default()).await;
    relay.sim.script().at(Point::Taken).closes();
    let reply = relay.send(MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    assert_eq!(relay.sim.received(2).await.unwrap().len(), 2, "a duplicate, never a loss");
    relay.until_totals(0, 0).await;
    relay.stop().await;
}

#[tokio::test]
async fn large_bodies_pass_through_a_file() {
    let relay = Relay::start(Setup::default()).await;
    let mut content = String::from("Date: x\r\nMessage-ID: <2@printer>\r\nSubject: big\r\n\r\n");
    while content.len() < 8 * 1_024 * 1_024 {
        content.push_str(".0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrs\r\n");
    }
    let reply = relay.send(&content).await;
    assert!(reply.starts_with("250 2.0.0 OK <"), "{reply}");
    assert_byte_exact(&relay.sim.received(1).await.unwrap()[0].bytes, &content);
    relay.stop().await;
}

#[tokio::test]
async fn twenty_clients_share_three_warm_sessions() {
    let relay = Relay::start(Setup::default()).await;
    let clients = (0..20).map(|_| relay.send(MESSAGE));
    for reply in futures_join(clients).await {
        assert!(reply.starts_with("250 2.0.0 OK <"), "{reply}");
    }
    let counts = relay.sim.counts();
    assert_eq!(counts.messages, 20);
    assert!(counts.connections <= 3, "{} connections", counts.connections);
    assert_eq!(counts.refusals_of("432"), 0);
    relay.stop().await;
}

/// All of them at once, in one task.
async fn futures_join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = pending.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut is_ready = true;
        for (future, output) in pending.iter_mut().zip(&mut outputs) {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => is_ready = false,
                }
            }
        }
        if is_ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_warm_session_that_upstream_has_closed_costs_nothing() {
    let options = mailbearer::sim::SimOptions {
        idle: Some(Duration::from_millis(100)),
        ..Default::default()
    };
    let relay = Relay::start(Setup { options, ..Setup::default() }).await;
    for number in 1..=3 {
        let reply = relay.send(MESSAGE).await;
        assert!(reply.starts_with("250 2.0.0 OK <"), "{reply}");
        let is_closed = |counts: &mailbearer::sim::Counts| counts.open_sessions == 0;
        relay.sim.until("upstream has closed", is_closed).await.unwrap();
        assert_eq!(relay.sim.counts().connections, number);
    }
    relay.stop().await;
}
