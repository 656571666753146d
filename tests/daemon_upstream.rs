//! Every trouble that upstream can make, at every step of the dialog: what the client is told, what
//! becomes of the message, and that the relay goes on.

mod support {
    pub mod relay;
}

use std::time::Instant;

use mailbearer::base::{Clock, limits};
use mailbearer::sim::{Answer, BadCertificate, Cue, Fault, Point, SimLimits, SimOptions, SimUser};
use mailbearer::store::Store;
use mailbearer::token::{Revocation, log_out};
use support::relay::{MAILBOX, RECIPIENT, Relay, Setup, consent, consent_of, expire_stored_token};

const MESSAGE: &str = "Date: x\r\nMessage-ID: <1@x>\r\nSubject: x\r\n\r\nbody\r\n";

/// What a trouble means for a message in confirm mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disposition {
    /// `250 2.0.0 queued as …`, and delivered once the trouble is over.
    Queued,
    /// Queued, and delivered although upstream may have it already.
    QueuedTwice,
    /// Upstream's 5yz is the client's reply, and nothing is kept.
    Refused,
    /// Queued, and the account waits for a person.
    Suspended,
    /// The trouble does not matter.
    Delivered,
}

use Disposition::{Delivered, Queued, QueuedTwice, Refused, Suspended};

/// One trouble: a name, what the script does once, and what is to come of it.
struct Case {
    name: &'static str,
    point: Point,
    fault: Fault,
    disposition: Disposition,
}

fn reply(text: &str) -> Fault {
    Fault::Reply(text.to_owned())
}

fn cases() -> Vec<Case> {
    use Point::*;
    let case = |name, point, fault, disposition| Case { name, point, fault, disposition };
    let mut cases = vec![
        case("greeting 421", Greeting, reply("421 4.3.2 busy"), Queued),
        case("greeting 554", Greeting, reply("554 5.3.2 no service"), Queued),
        case("ehlo 421", Ehlo, reply("421 4.3.2 busy"), Queued),
        case("starttls 454", StartTls, reply("454 4.7.0 TLS not available"), Queued),
        case("starttls 502", StartTls, reply("502 5.5.1 no"), Queued),
        case("other name", Handshake, Fault::Certificate(BadCertificate::OtherName), Queued),
        case(
            "other authority",
            Handshake,
            Fault::Certificate(BadCertificate::OtherAuthority),
            Queued,
        ),
        case("expired", Handshake, Fault::Certificate(BadCertificate::Expired), Queued),
        case("auth 454", Auth, reply("454 4.7.0 Temporary authentication failure"), Queued),
        case("auth 504", Auth, reply("504 5.7.4 Unrecognized authentication type"), Suspended),
        case(
            "auth 535 once",
            AuthResponse,
            reply("535 5.7.3 Authentication unsuccessful"),
            Delivered,
        ),
        case("mail 451", Mail, reply("451 4.7.0 Temporary server error. PRX4"), Queued),
        case("mail 421", Mail, reply("421 4.4.2 rate exceeded"), Queued),
        case("mail 550", Mail, reply("550 5.7.60 Client does not have permissions"), Refused),
        case(
            "mail 530",
            Mail,
            reply("530 5.7.57 Client not authenticated to send mail."),
            Suspended,
        ),
        case("rcpt 450", Rcpt, reply("450 4.2.1 receiving too fast"), Queued),
        case("rcpt 550", Rcpt, reply("550 5.1.1 no such user"), Refused),
        case("rcpt 421", Rcpt, reply("421 4.3.2 busy"), Queued),
        case("data 451", Data, reply("451 4.3.0 no"), Queued),
        case("data 554", Data, reply("554 5.5.1 no"), Refused),
        case("data 421", Data, reply("421 4.3.2 busy"), Queued),
        case("final 432", Final, reply("432 4.3.2 Concurrent connections limit exceeded."), Queued),
        case("final 451", Final, reply("451 4.3.0 later"), Queued),
        case("final 554 send as", Final, reply("554 5.2.252 SendAsDenied; a as b"), Refused),
        case(
            "final 554 quota",
            Final,
            reply("554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException"),
            Queued,
        ),
        case("final 421", Final, reply("421 4.3.2 busy"), Queued),
        case(
            "final 550 spam",
            Final,
            reply("550 5.1.8 Access denied, bad outbound sender"),
            Suspended,
        ),
        case("taken, reply lost", Taken, Fault::Close, QueuedTwice),
        case("taken, reply reset", Taken, Fault::Reset, QueuedTwice),
        case("taken, garbage", Taken, Fault::Garbage(b"\x00\xff\r\n".to_vec()), QueuedTwice),
        case("taken, half a reply", Taken, Fault::Half("250 2.0.0 OK".to_owned()), QueuedTwice),
    ];
    for (name, point) in [
        ("connect", Connect),
        ("greeting", Greeting),
        ("ehlo", Ehlo),
        ("starttls", StartTls),
        ("handshake", Handshake),
        ("auth", Auth),
        ("auth response", AuthResponse),
        ("mail", Mail),
        ("rcpt", Rcpt),
        ("data", Data),
        ("body", Body),
    ] {
        for fault in [Fault::Close, Fault::Reset] {
            // A session that was just opened is not tried again at once: the message waits.
            cases.push(case(name, point, fault, Queued));
        }
    }
    for (name, point) in [
        ("greeting", Greeting),
        ("ehlo", Ehlo),
        ("starttls", StartTls),
        ("auth", Auth),
        ("auth response", AuthResponse),
        ("mail", Mail),
        ("rcpt", Rcpt),
        ("data", Data),
    ] {
        cases.push(case(name, point, Fault::Garbage(b"\0\0 what\r\n".to_vec()), Queued));
        cases.push(case(name, point, Fault::Half("250 2.".to_owned()), Queued));
    }
    // The connection is gone before the final dot was read: upstream has nothing, but we cannot
    // know that.
    cases.push(case("final, closed", Final, Fault::Close, Queued));
    cases.push(case("final, reset", Final, Fault::Reset, Queued));
    cases
}

#[tokio::test]
async fn every_trouble_at_every_step_has_its_disposition() {
    let cases = cases();
    let mut wrong = Vec::new();
    for case in &cases {
        if let Err(what) = run(case).await {
            wrong.push(format!("{} {:?}: {what}", case.name, case.fault));
        }
    }
    println!("{} troubles", cases.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

async fn run(case: &Case) -> Result<(), String> {
    let relay = Relay::start(Setup::default()).await;
    let cue: Cue = relay.sim.script().at(case.point);
    let cued = cue.does(case.fault.clone());
    let mut client = relay.logged_in().await;
    let reply = client.send(MAILBOX, &[RECIPIENT], MESSAGE).await;
    cued.until_fired(1).await.map_err(|overdue| format!("never happened: {overdue}"))?;
    let is_queued = reply.starts_with("250 2.0.0 queued as ");
    let expected = match case.disposition {
        Queued | QueuedTwice | Suspended => is_queued,
        Refused => reply.starts_with('5'),
        Delivered => reply.starts_with("250 2.0.0 OK <"),
    };
    if !expected {
        return Err(format!("{:?} expected, and the client was told {reply:?}", case.disposition));
    }
    if case.disposition == Suspended {
        relay.until_suspended().await;
        relay.until_totals(1, 0).await;
        relay.daemon.store().resume(MAILBOX).await.map_err(|error| error.to_string())?;
    }
    let messages = match case.disposition {
        Refused => 0,
        Queued | Suspended | Delivered => 1,
        QueuedTwice => 2,
    };
    let received = relay.sim.received(messages).await.map_err(|overdue| overdue.to_string())?;
    relay.until_totals(0, 0).await;
    if received.len() as u64 != messages {
        return Err(format!("upstream has it {} times", received.len()));
    }
    if !received.iter().all(|message| message.bytes.ends_with(MESSAGE.as_bytes())) {
        return Err("upstream has something else".to_owned());
    }
    // The relay and this very session go on.
    let reply = client.send(MAILBOX, &[RECIPIENT], MESSAGE).await;
    if !reply.starts_with("250 2.0.0 OK <") {
        return Err(format!("the next message: {reply}"));
    }
    relay.daemon.stop().await;
    relay.sim.stop().await;
    Ok(())
}

#[tokio::test]
async fn without_starttls_or_xoauth2_nothing_secret_is_said_and_mail_waits() {
    for keyword in ["STARTTLS", "AUTH"] {
        let relay = Relay::start(Setup::default()).await;
        relay.sim.hide_extension(keyword);
        let reply = relay.send(MESSAGE).await;
        assert!(reply.starts_with("250 2.0.0 queued as "), "{keyword}: {reply}");
        relay.until_totals(1, 0).await;
        let counts = relay.sim.counts();
        assert_eq!((counts.auths, counts.messages), (0, 0), "{keyword}");
        relay.stop().await;
    }
}

#[tokio::test]
async fn bytes_behind_the_answer_to_starttls_end_the_session() {
    let relay = Relay::start(Setup::default()).await;
    let script = relay.sim.script();
    script.at(Point::StartTls).replies_twice("220 go ahead", "250-forged\n250 AUTH XOAUTH2");
    let reply = relay.send(MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 queued as "), "{reply}");
    assert_eq!(relay.sim.received(1).await.unwrap().len(), 1, "by an honest session later");
    relay.daemon.stop().await;
    relay.sim.stop().await;
}

#[tokio::test]
async fn every_trouble_of_the_token_endpoint_keeps_the_mail() {
    let mut cases: Vec<(&str, Fault, bool)> = vec![
        ("500", Fault::Answer(Answer::json(500, "{}")), false),
        ("503", Fault::Answer(Answer::html(503, "busy")), false),
        ("429", Fault::Answer(Answer::json(429, "{}")), false),
        ("HTML", Fault::Answer(Answer::html(200, "<html>sign in to the Wi-Fi</html>")), false),
        ("truncated", Fault::Answer(Answer::json(200, "{\"access_token\": \"abc")), false),
        ("redirect", Fault::Answer(Answer::redirect(302, "http://127.0.0.1:1/")), false),
        ("close", Fault::Close, false),
        ("reset", Fault::Reset, false),
        ("garbage", Fault::Garbage(b"\0\0\0".to_vec()), false),
    ];
    let refusal = |error, number| Fault::Answer(Answer::refusal(400, error, number, "no"));
    cases.push(("invalid_grant", refusal("invalid_grant", 700_082), true));
    cases.push(("interaction_required", refusal("interaction_required", 50_076), true));
    cases.push(("invalid_client", refusal("invalid_client", 7_000_222), true));
    for (name, fault, needs_a_person) in cases {
        let relay = Relay::start(Setup { has_grant: false, ..Setup::default() }).await;
        consent(relay.daemon.store(), &relay.sim).await;
        expire_stored_token(relay.daemon.store()).await;
        relay.sim.script().at(Point::Token).always().does(fault);
        let reply = relay.send(MESSAGE).await;
        assert!(reply.starts_with("250 2.0.0 queued as "), "{name}: {reply}");
        match needs_a_person {
            true => drop(relay.until_suspended().await),
            false => {
                let suspension = relay.daemon.store().suspension(MAILBOX).await.unwrap();
                assert_eq!(suspension, None, "{name}");
            }
        }
        relay.until_totals(1, 0).await;
        // The endpoint is well again, and somebody has signed in where that was needed.
        relay.sim.script().clear();
        consent(relay.daemon.store(), &relay.sim).await;
        relay.daemon.store().resume(MAILBOX).await.unwrap();
        relay.sim.received(1).await.unwrap_or_else(|overdue| panic!("{name}: {overdue}"));
        relay.until_totals(0, 0).await;
        relay.stop().await;
    }
}

#[tokio::test]
async fn a_delegate_who_was_declared_is_the_user_that_upstream_is_told() {
    let users =
        vec![SimUser::new(MAILBOX), SimUser::new("operator@contoso.com").sending_as(MAILBOX)];
    let setup = Setup {
        options: SimOptions { users, ..SimOptions::default() },
        account: "signs_in_as = \"operator@contoso.com\"\n".to_owned(),
        has_grant: false,
        ..Setup::default()
    };
    let relay = Relay::start(setup).await;
    consent_of(relay.daemon.store(), &relay.sim, "operator@contoso.com").await;
    let reply = relay.send(MESSAGE).await;
    assert!(reply.starts_with("250 2.0.0 OK"), "{reply}");
    let received = relay.sim.received(1).await.unwrap();
    assert_eq!(received[0].user, "operator@contoso.com");
    assert_eq!(received[0].reverse_path, MAILBOX);
    relay.stop().await;
}

#[tokio::test]
async fn after_a_logout_mail_is_kept_until_somebody_signs_in() {
    let options = SimOptions { limits: SimLimits::none(), ..SimOptions::default() };
    let relay = Relay::start(Setup { options, ..Setup::default() }).await;
    let reply = relay.send(MESSAGE).await;
    assert!(!reply.starts_with("250 2.0.0 queued as "), "{reply}");
    // As another process does it.
    let store = Store::open(&relay.config.server.data_dir, Clock::system()).unwrap();
    let account = &relay.config.accounts[0];
    assert_eq!(log_out(account, &store).await.unwrap(), Some(Revocation::NotOffered));
    let logged_out = Instant::now();
    let mut delivered = 1;
    while !relay.send(MESSAGE).await.starts_with("250 2.0.0 queued as ") {
        delivered += 1;
        assert!(logged_out.elapsed() < limits::STORE_POLL * 5, "the token is still used");
    }
    let reason = relay.until_suspended().await;
    assert!(reason.contains(&format!("mailbearer login {MAILBOX}")), "{reason}");
    relay.until_totals(1, 0).await;
    assert_eq!(relay.sim.counts().messages, delivered);
    consent(relay.daemon.store(), &relay.sim).await;
    store.resume(MAILBOX).await.unwrap();
    relay.until_totals(0, 0).await;
    relay.stop().await;
}
