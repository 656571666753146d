//! The limits of a mailbox.

use std::time::Duration;

use mailbearer::sim::{RateExcess, Sim, SimLimits, SimOptions};
use tokio::time::Instant;

use crate::client::{Client, Gone, USER};

#[tokio::test]
async fn the_fourth_session_is_refused_after_the_dot() {
    let sim = Sim::start(SimOptions::default()).await.unwrap();
    let mut first = Client::ready(&sim).await;
    let mut second = Client::ready(&sim).await;
    let mut third = Client::ready(&sim).await;
    let mut fourth = Client::ready(&sim).await;
    let mut other = Client::ready_as(&sim, "erp@contoso.com").await;
    let reply = fourth.send(USER, &["a@b"], "").await;
    let start = "432 4.3.2 Concurrent connections limit exceeded. Visit \
                 https://aka.ms/concurrent_sending";
    assert!(reply.starts_with(start), "{reply}");
    for client in [&mut first, &mut second, &mut third] {
        assert!(client.send(USER, &["a@b"], "").await.starts_with("250"));
    }
    assert!(other.send("erp@contoso.com", &["a@b"], "").await.starts_with("250"));
    // A place is free as soon as QUIT is answered.
    assert!(second.ask("QUIT").await.starts_with("221"));
    assert!(fourth.send(USER, &["a@b"], "").await.starts_with("250"));
    // And when a connection is lost.
    drop(third);
    sim.until("a session to end", |counts| counts.open_sessions <= 3).await.unwrap();
    let mut fifth = Client::ready(&sim).await;
    assert!(fifth.send(USER, &["a@b"], "").await.starts_with("250"));
    let counts = sim.counts();
    assert_eq!((counts.most_sessions_of[USER], counts.refusals_of("432 4.3.2")), (4, 1));
    sim.stop().await;
}

fn two_a_minute(rate_excess: RateExcess, minute: Duration) -> SimOptions {
    let limits = SimLimits { messages_per_minute: 2, ..SimLimits::default() };
    SimOptions { limits, rate_excess, minute, ..SimOptions::default() }
}

#[tokio::test]
async fn messages_above_the_rate_wait_for_the_next_minute() {
    let minute = Duration::from_millis(300);
    let sim = Sim::start(two_a_minute(RateExcess::Delay, minute)).await.unwrap();
    let mut client = Client::ready(&sim).await;
    let start = Instant::now();
    for _ in 0..5 {
        assert!(client.send(USER, &["a@b"], "").await.starts_with("250"));
    }
    // The fifth is let through one window after the third, which was one after the first.
    assert!(start.elapsed() >= 2 * minute - Duration::from_millis(1), "{:?}", start.elapsed());
    assert!(sim.counts().delayed >= 1);
    sim.stop().await;
}

#[tokio::test]
async fn messages_above_the_rate_can_be_refused() {
    let hour = Duration::from_secs(3_600);
    let sim = Sim::start(two_a_minute(RateExcess::Refuse, hour)).await.unwrap();
    let mut client = Client::ready(&sim).await;
    for _ in 0..2 {
        assert!(client.send(USER, &["a@b"], "").await.starts_with("250"));
    }
    let reply = client.send(USER, &["a@b"], "").await;
    let start = "421 4.4.2 Message submission rate for this client has exceeded the configured";
    assert!(reply.starts_with(start), "{reply}");
    assert_eq!(client.reply().await, Err(Gone::Closed(String::new())), "421 closes");
    sim.stop().await;
}

#[tokio::test]
async fn recipients_of_a_day_and_of_a_transaction_are_limited() {
    let limits = SimLimits { recipients_per_day: 5, recipients: 3, ..SimLimits::default() };
    let sim = Sim::start(SimOptions { limits, ..SimOptions::default() }).await.unwrap();
    let mut client = Client::ready(&sim).await;
    client.ask("MAIL FROM:<scanner@contoso.com>").await;
    for start in ["250", "250", "250", "452 4.5.3 Too many recipients"] {
        assert!(client.ask("RCPT TO:<a@b>").await.starts_with(start));
    }
    client.ask("DATA").await;
    assert!(client.ask(".").await.starts_with("250"));
    let reply = client.send(USER, &["a@b", "c@d", "e@f"], "").await;
    let start = "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException";
    assert!(reply.starts_with(start), "{reply}");
    assert!(client.send(USER, &["a@b", "c@d"], "").await.starts_with("250"));
    sim.stop().await;
}

#[tokio::test]
async fn old_messages_are_forgotten_but_counted() {
    let sim = Sim::start(SimOptions { kept_messages: 2, ..SimOptions::default() }).await.unwrap();
    let mut client = Client::ready(&sim).await;
    for number in 1..=3 {
        let body = format!("{number}\r\n");
        assert!(client.send(USER, &["a@b"], &body).await.starts_with("250"));
    }
    let kept = sim.received(3).await.unwrap();
    assert_eq!(kept.iter().map(|m| &m.bytes[..]).collect::<Vec<_>>(), [b"2\r\n", b"3\r\n"]);
    let overdue = sim.received_within(4, Duration::from_millis(10)).await.unwrap_err();
    assert!(overdue.to_string().contains("4 messages") && overdue.seen.messages == 3);
    sim.stop().await;
}
