//! Nothing that is secret reaches a log line at any level, an error text or the store's file.

mod support {
    pub mod relay;
}

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use mailbearer::sim::{Point, Service};
use support::relay::{MAILBOX, PASSWORD, RECIPIENT, Relay, Setup, USER};

const MESSAGE: &str = "Subject: x\r\n\r\nbody\r\n";

/// Keeps everything that is logged.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The forms in which a secret could slip through: raw, base64 in three alignments, hex.
fn forms(secret: &str) -> Vec<String> {
    // A piece is enough, and a leak may be cut short.
    let piece = &secret.as_bytes()[..secret.len().min(24)];
    let mut forms = vec![String::from_utf8(piece.to_vec()).unwrap()];
    for skipped in 0..3 {
        let encoded = BASE64.encode([&b"xxx"[..skipped], piece].concat());
        // The first characters depend on what stood before, the last on what comes behind.
        forms.push(encoded[4..encoded.len() - 2].to_owned());
    }
    forms.push(piece.iter().map(|byte| format!("{byte:02x}")).collect());
    forms
}

fn assert_absent(place: &str, bytes: &[u8], secrets: &[(&str, String)]) {
    let text = String::from_utf8_lossy(bytes);
    for (name, secret) in secrets {
        for form in forms(secret) {
            assert!(!text.contains(&form), "{place} holds the {name} as {form}");
        }
    }
}

/// The next message needs a new upstream session, and so a login.
async fn cut_sessions(relay: &Relay) {
    relay.sim.take_down(Service::Smtp).await;
    relay.sim.bring_up(Service::Smtp).await.unwrap();
}

#[test]
fn the_search_finds_what_it_looks_for() {
    let secret = "correct horse battery staple";
    for text in [
        format!("user {secret} said"),
        BASE64.encode(format!("\0printer\0{secret}")),
        BASE64.encode(format!("printer\0{secret}")),
        BASE64.encode(format!("p\0{secret}")),
    ] {
        let found = forms(secret).iter().any(|form| text.contains(form));
        assert!(found, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_secret_is_logged_at_any_level() {
    let captured = Captured::default();
    let writer = captured.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();

    let relay = Relay::start(Setup::default()).await;
    let before = relay.daemon.store().grant(MAILBOX).await.unwrap().unwrap();
    // Good and bad logins, a message, a refused token, a renewal, a provider that repeats secrets.
    let mut client = relay.client().await;
    client.login(USER, "a-wrong-password-that-is-secret-too").await;
    relay.send(MESSAGE).await;
    let token = before.access_token.clone().unwrap();
    let echo = format!("550 5.7.1 you sent {}", &token.expose()[..400]);
    relay.sim.script().at(Point::Final).times(1).replies(&echo);
    let mut client = relay.logged_in().await;
    let reply = client.send(MAILBOX, &[RECIPIENT], MESSAGE).await;
    assert!(reply.starts_with("550 5.7.1 you sent"), "{reply}");
    assert!(!reply.contains(&token.expose()[..24]), "{reply}");
    relay.sim.revoke_access_tokens(Some(MAILBOX));
    cut_sessions(&relay).await;
    relay.send(MESSAGE).await;
    relay.sim.revoke_access_tokens(Some(MAILBOX));
    relay.sim.revoke_refresh_tokens(Some(MAILBOX));
    cut_sessions(&relay).await;
    relay.send(MESSAGE).await;
    relay.until_suspended().await;
    let after = relay.daemon.store().grant(MAILBOX).await.unwrap().unwrap();
    let data_dir = relay.config.server.data_dir.clone();
    let suspension = relay.until_suspended().await;

    let exposed =
        |secret: &Option<mailbearer::base::Secret>| secret.as_ref().unwrap().expose().to_owned();
    let mut secrets = vec![
        ("password", PASSWORD.to_owned()),
        ("wrong password", "a-wrong-password-that-is-secret-too".to_owned()),
        ("first access token", exposed(&before.access_token)),
        ("first refresh token", exposed(&before.refresh_token)),
    ];
    for (name, secret) in
        [("access token", &after.access_token), ("refresh token", &after.refresh_token)]
    {
        if secret.is_some() {
            secrets.push((name, exposed(secret)));
        }
    }
    relay.stop().await;
    let log = captured.0.lock().unwrap().clone();
    let text = String::from_utf8_lossy(&log);
    for event in
        ["session_end", "message_accepted", "attempt", "login_refused", "account_suspended"]
    {
        assert!(text.contains(event), "the log has no {event}");
    }
    assert_absent("the log", &log, &secrets);
    assert_absent("the suspension", suspension.as_bytes(), &secrets);
    for entry in std::fs::read_dir(&data_dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            assert_absent(&path.display().to_string(), &std::fs::read(&path).unwrap(), &secrets);
        }
    }
}
