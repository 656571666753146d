//! Everything that a script can make go wrong, once each, and the services going down.

use std::time::Duration;

use mailbearer::sim::{Answer, BadCertificate, Fault, Point, Service, Sim, SimOptions};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::{Client, Gone, USER};

async fn sim() -> Sim {
    Sim::start(SimOptions::default()).await.unwrap()
}

/// Goes through a whole session; the step at which it fails, or what was said at the end.
async fn walk(sim: &Sim) -> Result<String, (&'static str, Result<String, Gone>)> {
    fn fails(
        step: &'static str,
    ) -> impl Fn(Result<String, Gone>) -> (&'static str, Result<String, Gone>) {
        move |what| (step, what)
    }
    async fn pass(
        client: &mut Client,
        step: &'static str,
        line: &str,
    ) -> Result<String, (&'static str, Result<String, Gone>)> {
        match client.try_ask(line).await {
            Ok(reply) if reply.starts_with(['2', '3']) => Ok(reply),
            other => Err(fails(step)(other)),
        }
    }
    let mut client = Client::dial(sim).await;
    match client.reply().await {
        Ok(reply) if reply.starts_with('2') => {}
        other => return Err(fails("greeting")(other)),
    }
    pass(&mut client, "ehlo", "EHLO me").await?;
    pass(&mut client, "starttls", "STARTTLS").await?;
    let Ok(mut client) = client.start_tls(sim, "localhost").await else {
        return Err(fails("handshake")(Ok(String::new())));
    };
    pass(&mut client, "ehlo inside", "EHLO me").await?;
    pass(&mut client, "auth", "AUTH XOAUTH2").await?;
    let blob = crate::client::xoauth2(USER, &sim.access_token(USER));
    pass(&mut client, "auth response", &blob).await?;
    pass(&mut client, "mail", "MAIL FROM:<scanner@contoso.com>").await?;
    pass(&mut client, "rcpt", "RCPT TO:<a@b>").await?;
    pass(&mut client, "rcpt", "RCPT TO:<c@d>").await?;
    pass(&mut client, "data", "DATA").await?;
    let reply = pass(&mut client, "final", "From: scanner@contoso.com\r\n\r\ntext\r\n.").await?;
    pass(&mut client, "quit", "QUIT").await?;
    Ok(reply)
}

const STEPS: [(Point, &str); 11] = [
    (Point::Greeting, "greeting"),
    (Point::Ehlo, "ehlo"),
    (Point::StartTls, "starttls"),
    (Point::Auth, "auth"),
    (Point::AuthResponse, "auth response"),
    (Point::Mail, "mail"),
    (Point::Rcpt, "rcpt"),
    (Point::Data, "data"),
    (Point::Final, "final"),
    (Point::Taken, "final"),
    (Point::Quit, "quit"),
];

#[tokio::test]
async fn every_reply_can_be_another_one() {
    let sim = sim().await;
    for (point, step) in STEPS {
        let cue = sim.script().at(point).replies("451-4.7.0 not\n451 4.7.0 now");
        let failed = walk(&sim).await.unwrap_err();
        assert_eq!(failed, (step, Ok("451-4.7.0 not\n451 4.7.0 now".to_owned())), "{point:?}");
        assert_eq!(cue.fired(), 1);
        // It was for once: the next session is as usual.
        assert!(walk(&sim).await.is_ok(), "{point:?}");
    }
    assert_eq!(sim.counts().refusals_of("451 4.7.0"), STEPS.len() as u64);
    // Taken was: before its reply, that is, with the one after QUIT and the eleven good ones.
    assert_eq!(sim.counts().messages, STEPS.len() as u64 + 2);
    sim.stop().await;
}

#[tokio::test]
async fn every_step_can_end_in_a_closed_connection() {
    let sim = sim().await;
    for (point, step) in STEPS {
        sim.script().at(point).closes();
        let failed = walk(&sim).await.unwrap_err();
        assert_eq!(failed, (step, Err(Gone::Closed(String::new()))), "{point:?}");
    }
    sim.script().at(Point::Connect).closes();
    assert_eq!(walk(&sim).await.unwrap_err().0, "greeting");
    sim.script().at(Point::Handshake).closes();
    assert_eq!(walk(&sim).await.unwrap_err().0, "handshake");
    sim.until("nobody", |counts| counts.open_sessions == 0).await.unwrap();
    sim.stop().await;
}

#[tokio::test]
async fn every_step_can_end_in_a_reset() {
    let sim = sim().await;
    for (point, step) in STEPS {
        sim.script().at(point).resets();
        assert_eq!(walk(&sim).await.unwrap_err(), (step, Err(Gone::Reset)), "{point:?}");
    }
    sim.script().at(Point::Handshake).resets();
    assert_eq!(walk(&sim).await.unwrap_err().0, "handshake");
    sim.stop().await;
}

#[tokio::test]
async fn half_a_line_is_said_and_no_more() {
    let sim = sim().await;
    sim.script().at(Point::Rcpt).skip(1).says_half("250 2.1.5 abc");
    let half = Err(Gone::Closed("250 2.".to_owned()));
    assert_eq!(walk(&sim).await.unwrap_err(), ("rcpt", half));
    sim.stop().await;
}

#[tokio::test]
async fn garbage_and_foreign_tongues() {
    let sim = sim().await;
    sim.script().at(Point::Greeting).says_garbage(b"+OK POP3 ready\r\n");
    let failed = walk(&sim).await.unwrap_err();
    assert_eq!(failed, ("greeting", Ok("+OK POP3 ready".to_owned())));
    sim.script().at(Point::Final).says_garbage(b"\x15\x03\x01\r\n");
    assert_eq!(walk(&sim).await.unwrap_err(), ("final", Ok("\u{15}\u{3}\u{1}".to_owned())));
    sim.script().at(Point::Greeting).answers(Answer::html(400, "Bad Request"));
    let failed = walk(&sim).await.unwrap_err();
    assert_eq!(failed, ("greeting", Ok("HTTP/1.1 400 Scripted".to_owned())));
    sim.script().at(Point::Handshake).says_garbage(b"250 not TLS\r\n");
    assert_eq!(walk(&sim).await.unwrap_err().0, "handshake");
    assert_eq!(sim.counts().messages, 0);
    sim.stop().await;
}

#[tokio::test]
async fn two_replies_come_in_one_piece() {
    let sim = sim().await;
    sim.script().at(Point::StartTls).replies_twice("220 2.0.0 go", "250-injected\n250 AUTH PLAIN");
    let mut client = Client::dial(&sim).await;
    client.expect("220").await;
    client.ask("EHLO me").await;
    assert_eq!(client.ask("STARTTLS").await, "220 2.0.0 go");
    client.expect("250-injected\n250 AUTH PLAIN").await;
    assert!(client.start_tls(&sim, "localhost").await.is_ok(), "behind it TLS works");
    sim.stop().await;
}

#[tokio::test]
async fn a_hanging_session_goes_on_when_released() {
    let sim = sim().await;
    sim.script().at(Point::Final).hangs();
    let walking = walk(&sim);
    let releasing = async {
        sim.script().until_hanging(1).await.unwrap();
        assert_eq!(sim.counts().messages, 0);
        sim.script().release();
    };
    let (walked, ()) = tokio::join!(walking, releasing);
    assert!(walked.unwrap().starts_with("250 2.0.0 OK"));
    assert_eq!((sim.script().hanging(), sim.counts().messages), (0, 1));
    sim.stop().await;
}

#[tokio::test]
async fn delays_add_up_and_do_not_change_the_reply() {
    let sim = sim().await;
    let delay = Duration::from_millis(40);
    let cue = sim.script().at(Point::Rcpt).always().delays(delay);
    sim.script().at(Point::Rcpt).for_recipient("C@D").replies("550 5.1.1 no such user");
    let start = Instant::now();
    let failed = walk(&sim).await.unwrap_err();
    assert_eq!(failed, ("rcpt", Ok("550 5.1.1 no such user".to_owned())));
    assert!(start.elapsed() >= 2 * delay);
    assert_eq!(cue.fired(), 2);
    sim.stop().await;
}

#[tokio::test]
async fn cues_can_be_for_one_user_and_inside_tls_only() {
    let sim = sim().await;
    sim.script().at(Point::Mail).always().for_user("erp@contoso.com").replies("421 4.3.2 not you");
    sim.script().at(Point::Ehlo).inside_tls().replies("250-only\n250 AUTH LOGIN");
    let mut erp = Client::ready_as(&sim, "erp@contoso.com").await;
    assert!(walk(&sim).await.is_ok());
    assert_eq!(erp.ask("MAIL FROM:<erp@contoso.com>").await, "421 4.3.2 not you");
    assert_eq!(erp.reply().await, Err(Gone::Closed(String::new())), "421 closes");
    sim.script().at(Point::Quit).for_user(USER).replies("250 2.0.0 stay");
    assert!(Client::ready_as(&sim, "erp@contoso.com").await.ask("QUIT").await.starts_with("221"));
    assert_eq!(Client::ready(&sim).await.ask("QUIT").await, "250 2.0.0 stay");
    sim.stop().await;
}

#[tokio::test]
async fn a_scripted_yes_takes_the_message_and_a_lost_reply_does_not_untake_it() {
    let sim = sim().await;
    sim.script().at(Point::Final).replies("250 2.6.0 <other@id> queued");
    assert_eq!(walk(&sim).await.unwrap(), "250 2.6.0 <other@id> queued");
    assert_eq!(sim.counts().messages, 1);
    sim.script().at(Point::Taken).closes();
    assert_eq!(walk(&sim).await.unwrap_err().0, "final");
    assert_eq!(sim.counts().messages, 2, "taken, and the client cannot know");
    sim.script().at(Point::Final).closes();
    assert_eq!(walk(&sim).await.unwrap_err().0, "final");
    assert_eq!((sim.counts().messages, sim.counts().finals), (2, 3));
    sim.stop().await;
}

#[tokio::test]
async fn a_354_without_recipients_ends_in_554() {
    let sim = sim().await;
    sim.script().at(Point::Rcpt).always().replies("550 5.1.1 no");
    sim.script().at(Point::Data).replies("354 go ahead");
    let mut client = Client::ready(&sim).await;
    client.ask("MAIL FROM:<scanner@contoso.com>").await;
    client.ask("RCPT TO:<a@b>").await;
    assert_eq!(client.ask("DATA").await, "354 go ahead");
    assert!(client.ask(".").await.starts_with("554 5.5.1 "));
    assert_eq!(sim.counts().messages, 0);
    sim.stop().await;
}

#[tokio::test]
async fn a_body_can_be_cut_in_its_middle() {
    let sim = sim().await;
    for (fault, seen) in [
        (Fault::ReplyAndClose("421 4.3.2 Shutting down".to_owned()), "421 4.3.2 Shutting down"),
        (Fault::Reply("451 4.3.0 too early".to_owned()), "451 4.3.0 too early"),
        (Fault::Close, "closed"),
        (Fault::Reset, "reset"),
    ] {
        let mut client = Client::ready(&sim).await;
        let cue = sim.script().at(Point::Body).after_octets(6).does(fault);
        client.envelope(USER, &["a@b"]).await;
        client.write(b"12\r\n").await;
        client.write(b"34\r\n").await;
        let reply = match client.reply().await {
            Ok(reply) => reply,
            Err(Gone::Closed(_)) => "closed".to_owned(),
            Err(Gone::Reset) => "reset".to_owned(),
        };
        assert_eq!((reply.as_str(), cue.fired()), (seen, 1));
    }
    assert_eq!(sim.counts().messages, 0);
    sim.stop().await;
}

#[tokio::test]
async fn bad_certificates_fail_the_handshake() {
    let sim = sim().await;
    for bad in [BadCertificate::OtherName, BadCertificate::OtherAuthority, BadCertificate::Expired]
    {
        sim.script().at(Point::Handshake).shows(bad);
        assert_eq!(walk(&sim).await.unwrap_err().0, "handshake", "{bad:?}");
    }
    sim.until("3 failed", |counts| counts.failed_handshakes == 3).await.unwrap();
    assert!(walk(&sim).await.is_ok());
    sim.stop().await;
}

#[tokio::test]
async fn a_script_can_be_cleared_and_cues_withdrawn() {
    let sim = sim().await;
    let cue = sim.script().at(Point::Mail).always().replies("550 5.7.1 no");
    assert_eq!(walk(&sim).await.unwrap_err().0, "mail");
    cue.until_fired(1).await.unwrap();
    cue.withdraw();
    sim.script().at(Point::Rcpt).always().replies("550 5.7.1 no");
    sim.script().clear();
    assert!(walk(&sim).await.is_ok());
    sim.stop().await;
}

#[tokio::test]
async fn the_service_goes_down_and_comes_back_at_the_same_port() {
    let sim = sim().await;
    let address = sim.smtp_address();
    let mut client = Client::ready(&sim).await;
    sim.take_down(Service::Smtp).await;
    assert!(matches!(client.try_ask("NOOP").await, Err(Gone::Closed(_) | Gone::Reset)));
    assert_eq!(sim.counts().open_sessions, 0);
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    sim.bring_up(Service::Smtp).await.unwrap();
    assert_eq!(sim.smtp_address(), address);
    assert!(walk(&sim).await.is_ok(), "and nothing of the mailbox is still taken");
    sim.stop().await;
}
