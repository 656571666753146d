//! Everything that a script can make go wrong over HTTP, once each.

use std::time::Duration;

use mailbearer::sim::{Answer, BadCertificate, Fault, Point, Service, Sim, SimOptions};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::{USER, authorize_url, exchange, get, post_request, read_answer, refresh};

async fn sim() -> Sim {
    Sim::start(SimOptions::default()).await.unwrap()
}

/// A request to the token endpoint; what came back.
async fn ask(sim: &Sim) -> std::io::Result<Vec<u8>> {
    let url = sim.token_url();
    let fields = [("grant_type", "refresh_token"), ("refresh_token", "x"), ("client_id", "y")];
    exchange(sim, &url, &post_request(&url, &fields, "")).await
}

#[tokio::test]
async fn any_answer_can_be_given() {
    let sim = sim().await;
    let (_, token) = sim.grant(USER);
    for (answer, status, text) in [
        (Answer::json(503, "{}").header("Retry-After", "7"), 503, "{}"),
        (Answer::html(200, "<h1>Captive portal</h1>"), 200, "<h1>Captive portal</h1>"),
        (Answer::redirect(307, "http://127.0.0.1:9/elsewhere"), 307, ""),
        (Answer::refusal(400, "interaction_required", 50_076, "MFA."), 400, "AADSTS50076: MFA."),
    ] {
        let cue = sim.script().at(Point::Token).for_user(USER).answers(answer);
        let seen = refresh(&sim, token.expose()).await;
        assert_eq!((seen.status, cue.fired()), (status, 1));
        assert!(seen.body.contains(text), "{}", seen.body);
        match status {
            503 => assert_eq!(seen.headers["retry-after"], "7"),
            307 => assert_eq!(seen.headers["location"], "http://127.0.0.1:9/elsewhere"),
            _ => {}
        }
    }
    sim.script().at(Point::Token).replies("plain words");
    assert_eq!(refresh(&sim, token.expose()).await.body, "plain words");
    assert_eq!(refresh(&sim, token.expose()).await.status, 200, "nothing of it used the token up");
    sim.stop().await;
}

#[tokio::test]
async fn connections_end_without_an_answer() {
    let sim = sim().await;
    sim.script().at(Point::Token).closes();
    assert_eq!(ask(&sim).await.unwrap(), b"");
    sim.script().at(Point::Token).resets();
    assert_eq!(ask(&sim).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    sim.script().at(Point::Token).says_garbage(b"\x00\xffnot HTTP");
    assert_eq!(ask(&sim).await.unwrap(), b"\x00\xffnot HTTP");
    sim.script().at(Point::Token).says_half("{\"access_token\":\"x\"}");
    let half = ask(&sim).await.unwrap();
    assert!(half.starts_with(b"HTTP/1.1 200") && half.ends_with(b"{\"access_t"), "{half:?}");
    assert!(read_answer(&half).is_none(), "shorter than announced");
    assert!(read_answer(&ask(&sim).await.unwrap()).is_some(), "and then as usual");
    sim.stop().await;
}

#[tokio::test]
async fn connections_can_fail_before_a_request() {
    let sim = Sim::start(SimOptions { https: true, ..Default::default() }).await.unwrap();
    for fault in [
        Fault::Close,
        Fault::Reset,
        Fault::Garbage(b"220 not HTTP\r\n".to_vec()),
        Fault::Certificate(BadCertificate::OtherName),
        Fault::Certificate(BadCertificate::OtherAuthority),
        Fault::Certificate(BadCertificate::Expired),
    ] {
        let cue = sim.script().at(Point::HttpConnect).does(fault.clone());
        assert!(ask(&sim).await.is_err(), "{fault:?}");
        assert_eq!(cue.fired(), 1);
    }
    assert_eq!(sim.counts().token_requests.len(), 0);
    assert!(read_answer(&ask(&sim).await.unwrap()).is_some(), "and then as usual");
    sim.stop().await;
}

#[tokio::test]
async fn answers_can_hang_wait_and_dribble() {
    let sim = sim().await;
    sim.script().at(Point::Token).hangs();
    let releasing = async {
        sim.script().until_hanging(1).await.unwrap();
        sim.script().release();
    };
    let (answer, ()) = tokio::join!(ask(&sim), releasing);
    assert!(read_answer(&answer.unwrap()).is_some());

    let (start, delay) = (Instant::now(), Duration::from_millis(40));
    sim.script().at(Point::Token).delays(delay);
    assert!(read_answer(&ask(&sim).await.unwrap()).is_some());
    assert!(start.elapsed() >= delay);

    let (start, pause) = (Instant::now(), Duration::from_millis(1));
    sim.script().at(Point::Token).dribbles(20, pause);
    let whole = ask(&sim).await.unwrap();
    assert!(read_answer(&whole).is_some());
    let pieces = u32::try_from(whole.len() / 20).unwrap();
    assert!(start.elapsed() >= pause * (pieces - 1), "{pieces} pieces");
    let answer = Some(Answer::html(200, "slow"));
    let slow = Fault::Slow { answer, bytes: 50, pause };
    sim.script().at(Point::Token).does(slow);
    assert_eq!(read_answer(&ask(&sim).await.unwrap()).unwrap().body, "slow");
    sim.stop().await;
}

#[tokio::test]
async fn a_connection_that_is_kept_alive_serves_again() {
    let sim = sim().await;
    let url = sim.token_url();
    let slow = Fault::Slow { answer: None, bytes: 40, pause: Duration::from_millis(1) };
    sim.script().at(Point::Token).does(slow);
    let last = String::from_utf8(post_request(&url, &[("grant_type", "x")], "")).unwrap();
    let first = last.replace("connection: close\r\n", "");
    // Both at once: answered in their order on one connection.
    let both = exchange(&sim, &url, format!("{first}{last}").as_bytes()).await.unwrap();
    let both = String::from_utf8(both).unwrap();
    assert_eq!(both.matches("HTTP/1.1 400 ").count(), 2, "{both}");
    assert_eq!(sim.counts().token_requests_of("x"), 2);
    sim.stop().await;
}

#[tokio::test]
async fn consent_can_be_refused() {
    let sim = sim().await;
    sim.script().at(Point::Authorize).declines();
    let back = get(&sim, &authorize_url(&sim, &[])).await;
    assert_eq!(back.returned("error").as_deref(), Some("access_denied"));
    assert!(back.returned("error_description").unwrap().starts_with("AADSTS65004"));
    assert_eq!(back.returned("state").as_deref(), Some("some state&more"));
    sim.script().at(Point::Authorize).answers(Answer::html(500, "broken"));
    assert_eq!(get(&sim, &authorize_url(&sim, &[])).await.status, 500);
    assert!(get(&sim, &authorize_url(&sim, &[])).await.returned("code").is_some());
    sim.stop().await;
}

#[tokio::test]
async fn the_service_goes_down_and_comes_back_at_the_same_port() {
    let sim = sim().await;
    let url = sim.token_url();
    sim.script().at(Point::Token).hangs();
    let taking_down = async {
        sim.script().until_hanging(1).await.unwrap();
        sim.take_down(Service::Http).await;
    };
    // A request that is in flight is cut.
    let (cut, ()) = tokio::join!(ask(&sim), taking_down);
    assert!(cut.is_err() || cut.is_ok_and(|answer| answer.is_empty()));
    assert_eq!(sim.script().hanging(), 0);
    let refused = TcpStream::connect(("127.0.0.1", url.port().unwrap())).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    sim.bring_up(Service::Http).await.unwrap();
    assert_eq!(sim.token_url(), url);
    assert!(read_answer(&ask(&sim).await.unwrap()).is_some());
    sim.stop().await;
}

#[tokio::test]
async fn stopping_ends_requests_that_hang_and_idle_connections() {
    let sim = sim().await;
    let address = ("127.0.0.1", sim.token_url().port().unwrap());
    let idle = TcpStream::connect(address).await.unwrap();
    let idle_smtp = TcpStream::connect(sim.smtp_address()).await.unwrap();
    sim.until("a session", |counts| counts.open_sessions == 1).await.unwrap();
    let stopping = tokio::time::timeout(Duration::from_secs(20), sim.stop());
    stopping.await.expect("every task to end");
    assert!(TcpStream::connect(address).await.is_err());
    drop((idle, idle_smtp));
}
