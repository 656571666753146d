//! What the service says and takes when nothing goes wrong but the client.

use base64::prelude::{BASE64_STANDARD, Engine};
use mailbearer::base::{Clock, Secret, Timestamp};
use mailbearer::sim::{Flavour, Sim, SimLimits, SimOptions, SimUser};

use crate::client::{Client, Gone, USER, oauthbearer, xoauth2};

#[tokio::test]
async fn ehlo_announces_what_exchange_online_announces() {
    let sim = Sim::start(SimOptions::default()).await.unwrap();
    let mut client = Client::dial(&sim).await;
    let greeting = client.expect("220 ").await;
    assert!(greeting.contains(".outlook.office365.com Microsoft ESMTP MAIL Service ready at "));
    let plain = client.ask("EHLO me").await;
    let keywords: Vec<_> = plain.lines().skip(1).map(|line| &line[4..]).collect();
    let expected = [
        "SIZE 157286400",
        "PIPELINING",
        "DSN",
        "ENHANCEDSTATUSCODES",
        "STARTTLS",
        "8BITMIME",
        "BINARYMIME",
        "CHUNKING",
        "SMTPUTF8",
    ];
    assert_eq!(keywords, expected);
    assert!(client.ask("STARTTLS").await.starts_with("220 2.0.0 "));
    let mut client = client.start_tls(&sim, "localhost").await.unwrap();
    let inside = client.ask("EHLO me").await;
    assert!(inside.starts_with("250-") && inside.ends_with("\n250 SMTPUTF8"), "{inside}");
    assert_eq!(inside, plain.replace("STARTTLS", "AUTH LOGIN XOAUTH2"));
    assert!(client.ask("HELO me").await.starts_with("250 "));
    assert_eq!(client.ask("STARTTLS").await.split(' ').next(), Some("503"));
    assert_eq!(client.ask("QUIT").await, "221 2.0.0 Service closing transmission channel");
    assert_eq!(client.reply().await, Err(Gone::Closed(String::new())));
    sim.stop().await;
}

#[tokio::test]
async fn a_message_is_taken_byte_for_byte() {
    let sim = Sim::start(SimOptions::default()).await.unwrap();
    let mut client = Client::ready(&sim).await;
    let message = format!("From: A <{USER}>\r\nSubject: x\r\n\r\n..leading dot\r\n.\r\ntext\r\n");
    client.write(b"MAIL FROM:<scanner@contoso.com> SIZE=90 BODY=8BITMIME\r\n").await;
    client.expect("250 2.1.0").await;
    client.ask("RCPT TO:<a@example.com> NOTIFY=FAILURE").await;
    client.ask("RCPT TO:<b@example.com>").await;
    client.ask("DATA").await;
    let stuffed = message.replace("\r\n.", "\r\n..");
    let reply = client.ask(&format!("{stuffed}.")).await;
    let received = sim.received(1).await.unwrap();
    let [received] = &received[..] else { panic!("{received:?}") };
    assert_eq!(received.bytes, message.as_bytes());
    assert_eq!(received.user, USER);
    assert_eq!(received.reverse_path, USER);
    assert_eq!(received.mail_parameters, ["SIZE=90", "BODY=8BITMIME"]);
    assert_eq!(received.forward_paths, ["a@example.com", "b@example.com"]);
    assert_eq!(received.session, 1);
    let id = &received.message_id;
    assert!(id.starts_with('<') && id.ends_with('>'));
    assert!(reply.starts_with(&format!("250 2.0.0 OK {id} [Hostname=")), "{reply}");

    // The session serves another one, with the null reverse-path and nothing in it.
    assert!(client.send("", &["c@example.com"], "").await.starts_with("250 2.0.0"));
    let received = sim.received(2).await.unwrap();
    assert_eq!((received[1].reverse_path.as_str(), received[1].bytes.len()), ("", 0));
    assert_eq!(sim.mailbox(USER).len(), 2);
    assert_eq!(sim.mailbox("erp@contoso.com").len(), 0);
    let counts = sim.counts();
    assert_eq!((counts.connections, counts.auths_accepted, counts.messages), (1, 1, 2));
    assert_eq!((counts.most_sessions, counts.most_sessions_of[USER]), (1, 1));
    let transcript = sim.transcript().join("\n");
    for line in ["1 C: STARTTLS\n1 S: 220 ", " octets]\n1 S: 235 ", "1 C: [message of 0 octets]"] {
        assert!(transcript.contains(line), "{line}: {transcript}");
    }
    assert!(!transcript.contains("leading dot"));
    assert_eq!(sim.offences(), [""; 0]);
    sim.stop().await;
}

#[tokio::test]
async fn chunks_are_taken_as_well() {
    let sim = Sim::start(SimOptions::default()).await.unwrap();
    let mut client = Client::ready(&sim).await;
    assert!(client.ask("MAIL FROM:<scanner@contoso.com>").await.starts_with("250"));
    assert!(client.ask("RCPT TO:<a@b>").await.starts_with("250"));
    client.write(b"BDAT 5\r\n.\r\n.\rBDAT 1\r\n\nBDAT 0 LAST\r\n").await;
    client.expect("250 2.0.0 5 octets").await;
    client.expect("250 2.0.0 1 octets").await;
    client.expect("250 2.0.0 OK <").await;
    assert_eq!(sim.received(1).await.unwrap()[0].bytes, &b".\r\n.\r\n"[..]);
    assert_eq!(sim.offences(), [""; 0]);
    sim.stop().await;
}

#[tokio::test]
async fn pipelined_commands_are_answered_in_order() {
    let sim = Sim::start(SimOptions::default()).await.unwrap();
    let mut client = Client::ready(&sim).await;
    client
        .write(b"RSET\r\nNOOP\r\nMAIL FROM:<scanner@contoso.com>\r\nRCPT TO:<a@b>\r\nDATA\r\n")
        .await;
    for start in ["250 2.0.0 Resetting", "250 2.0.0 OK", "250 2.1.0", "250 2.1.5", "354 "] {
        client.expect(start).await;
    }
    client.write(b"text\r\n.\r\nMAIL FROM:<scanner@contoso.com>\r\nQUIT\r\n").await;
    for start in ["250 2.0.0 OK <", "250 2.1.0", "221 "] {
        client.expect(start).await;
    }
    assert_eq!(sim.offences(), [""; 0]);
    sim.stop().await;
}

#[tokio::test]
async fn xoauth2_in_two_steps_and_inline() {
    let mut options = SimOptions::default();
    options.users.push(SimUser::new("third@contoso.com"));
    let sim = Sim::start(options).await.unwrap();
    let token = sim.access_token(USER);
    assert_eq!(token.expose().len(), 1_600);
    let mut client = Client::secure(&sim).await;
    let inline = format!("auth xoauth2 {}", xoauth2("SCANNER@contoso.com", &token));
    assert_eq!(client.ask(&inline).await, "235 2.7.0 Authentication successful");
    assert!(client.ask("AUTH XOAUTH2").await.starts_with("503"), "once in a session");

    let mut client = Client::secure(&sim).await;
    let long = "A".repeat(12_288 - "AUTH XOAUTH2 ".len() - 2);
    let whole = client.ask(&format!("AUTH XOAUTH2 {long}")).await;
    assert!(whole.starts_with("501 5.5.2 "), "read to its end, and no base64: {whole}");
    let longer = format!("AUTH XOAUTH2 {long}A");
    assert!(client.ask(&longer).await.starts_with("500 5.5.6 "), "over 12,288 octets");
    assert_eq!(client.ask("AUTH XOAUTH2").await, "334 ");
    assert!(client.ask(&"A".repeat(100_000)).await.starts_with("500 5.5.6 "), "endless");
    assert_eq!(client.ask("AUTH XOAUTH2").await, "334 ");
    assert!(client.ask("*").await.starts_with("501 "), "cancelled");
    assert_eq!(client.authenticate(USER, &token).await, "235 2.7.0 Authentication successful");
    sim.stop().await;
}

#[tokio::test]
async fn tokens_that_do_not_open_the_mailbox_get_535() {
    let clock = Clock::manual(Timestamp::from_millis(1_795_436_435_000));
    let options = SimOptions { clock: clock.clone(), ..SimOptions::default() };
    let sim = Sim::start(options).await.unwrap();
    let (fresh, revoked) = (sim.access_token(USER), sim.access_token("erp@contoso.com"));
    sim.revoke_access_tokens(Some("erp@contoso.com"));
    let mut client = Client::secure(&sim).await;
    for (user, token) in [
        (USER, &Secret::new("made up")),
        ("erp@contoso.com", &fresh),
        ("nobody@contoso.com", &fresh),
        ("erp@contoso.com", &revoked),
    ] {
        let reply = client.authenticate(user, token).await;
        let start = "535 5.7.3 Authentication unsuccessful [";
        assert!(reply.starts_with(start) && reply.contains(" 2026-11-23T"), "{reply}");
    }
    clock.advance(sim.options().access_token_lifetime);
    assert!(client.authenticate(USER, &fresh).await.starts_with("535 5.7.3 "), "expired");
    let newer = sim.access_token(USER);
    assert!(client.authenticate(USER, &newer).await.starts_with("235 "), "the session is usable");
    sim.expire_access_tokens(None);
    let mut client = Client::secure(&sim).await;
    assert!(client.authenticate(USER, &newer).await.starts_with("535 5.7.3 "), "expired by hand");
    assert_eq!(sim.counts().refusals_of("535 5.7.3"), 6);
    sim.stop().await;
}

#[tokio::test]
async fn passwords_are_always_refused() {
    let sim = Sim::start(SimOptions::default()).await.unwrap();
    let mut client = Client::secure(&sim).await;
    let refusal = "535 5.7.139 Authentication unsuccessful, basic authentication is disabled. [";
    assert_eq!(client.ask("AUTH LOGIN").await, "334 VXNlcm5hbWU6");
    assert_eq!(client.ask("c2Nhbm5lcg==").await, "334 UGFzc3dvcmQ6");
    assert!(client.ask("c2VjcmV0").await.starts_with(refusal));
    assert_eq!(client.ask("AUTH LOGIN c2Nhbm5lcg==").await, "334 UGFzc3dvcmQ6");
    assert!(client.ask("c2VjcmV0").await.starts_with(refusal));
    assert!(client.ask("AUTH PLAIN AGEAYg==").await.starts_with("504 5.7.4 "));
    sim.stop().await;
}

#[tokio::test]
async fn what_is_out_of_order_is_refused_and_noted() {
    let sim = Sim::start(SimOptions::default()).await.unwrap();
    let mut client = Client::dial(&sim).await;
    client.expect("220").await;
    for (line, start) in [
        ("MAIL FROM:<a@b>", "503 5.5.2"),
        ("AUTH XOAUTH2", "503 5.5.2"),
        ("EHLO", "501 5.5.4"),
        ("EHLO me", "250"),
        ("AUTH XOAUTH2", "504 5.7.4"),
        ("MAIL FROM:<a@b>", "530 5.7.57 Client not authenticated to send mail."),
        ("RCPT TO:<a@b>", "503 5.5.2"),
        ("DATA", "503 5.5.2"),
        ("MAIL a@b", "501 5.5.4"),
        ("GET / HTTP/1.1", "500 5.3.3"),
    ] {
        let reply = client.ask(line).await;
        assert!(reply.starts_with(start), "{line}: {reply}");
    }
    assert!(sim.offences().iter().any(|offence| offence.contains("AUTH outside TLS")));

    let mut client = Client::ready(&sim).await;
    for (line, start) in [
        ("DATA", "503 5.5.2 Need mail"),
        ("MAIL FROM:<scanner@contoso.com> SIZE=157286401", "552 5.3.4"),
        ("MAIL FROM:<scanner@contoso.com>", "250"),
        ("MAIL FROM:<scanner@contoso.com>", "503 5.5.2 Sender"),
        ("DATA", "503 5.5.2 Need rcpt"),
        ("RSET", "250"),
        ("RCPT TO:<a@b>", "503 5.5.2"),
    ] {
        let reply = client.ask(line).await;
        assert!(reply.starts_with(start), "{line}: {reply}");
    }
    sim.stop().await;
}

#[tokio::test]
async fn offences_of_careless_clients_are_noted() {
    let sim = Sim::start(SimOptions::default()).await.unwrap();
    sim.hide_extension("PIPELINING");
    sim.hide_extension("SMTPUTF8");
    let mut client = Client::ready(&sim).await;
    client.write(b"NOOP\nMAIL FROM:<gr\xc3\xbc@b> SMTPUTF8 X=1\r\nRSET\r\n").await;
    for _ in 0..3 {
        client.expect("250").await;
    }
    let message = format!("From: {USER}\r\n\r\ngrüße\r\n");
    assert!(client.send(USER, &["a@b"], &message).await.starts_with("250"));
    let mut client = Client::dial(&sim).await;
    client.expect("220").await;
    client.write(b"EHLO me\r\n").await;
    client.expect("250").await;
    client.write(b"STARTTLS\r\nEHLO injected\r\n").await;
    client.expect("220").await;
    let mut client = client.start_tls(&sim, "localhost").await.unwrap();
    client.ask("EHLO me").await;
    let offences = sim.offences();
    for expected in [
        "ended with a bare LF",
        "pipelining behind NOOP",
        "SMTPUTF8 is not offered",
        "unknown parameter X=1",
        "beyond ASCII without BODY=8BITMIME",
        "something was sent behind STARTTLS",
    ] {
        let is_noted = offences.iter().any(|offence| offence.contains(expected));
        assert!(is_noted, "{expected}: {offences:#?}");
    }
    sim.stop().await;
}

#[tokio::test]
async fn only_the_right_name_is_certified() {
    let sim = Sim::start(SimOptions::default()).await.unwrap();
    for (name, is_right) in [("localhost", true), ("127.0.0.1", true), ("other.example", false)] {
        let mut client = Client::dial(&sim).await;
        client.expect("220").await;
        client.ask("EHLO me").await;
        client.ask("STARTTLS").await;
        assert_eq!(client.start_tls(&sim, name).await.is_ok(), is_right, "{name}");
    }
    sim.until("a failed handshake", |counts| counts.failed_handshakes == 1).await.unwrap();
    sim.stop().await;
}

#[tokio::test]
async fn a_sender_that_is_not_the_user_is_denied_after_the_dot() {
    let mut options = SimOptions::default();
    options.users[0] = SimUser::new(USER).sending_as("alias@contoso.com");
    let sim = Sim::start(options).await.unwrap();
    let mut client = Client::ready(&sim).await;
    for (path, from, denied) in [
        (USER, "Alias@contoso.com", None),
        ("alias@contoso.com", USER, None),
        ("", USER, None),
        ("ceo@contoso.com", USER, Some("ceo@contoso.com")),
        (USER, "ceo@contoso.com", Some("ceo@contoso.com")),
    ] {
        let reply = client.send(path, &["a@b"], &format!("From: \"x\" <{from}>\r\n\r\n")).await;
        match denied {
            None => assert!(reply.starts_with("250 2.0.0"), "{reply}"),
            Some(other) => {
                let start = format!(
                    "554 5.2.252 SendAsDenied; {USER} not allowed to send as {other}; \
                     STOREDRV.Submission.Exception:SendAsDeniedException"
                );
                assert!(reply.starts_with(&start), "{reply}");
            }
        }
    }
    assert_eq!(sim.counts().messages, 3);
    sim.stop().await;
}

#[tokio::test]
async fn bare_line_feeds_and_oversize_are_refused_after_the_dot() {
    let limits = SimLimits { message_octets: 100, ..SimLimits::default() };
    let sim = Sim::start(SimOptions { limits, ..SimOptions::default() }).await.unwrap();
    let mut client = Client::ready(&sim).await;
    let reply = client.send(USER, &["a@b"], "a\nb\r\n.\nnot the end\r\n").await;
    assert!(reply.starts_with("550 5.6.11 Invalid characters"), "{reply}");
    let reply = client.send(USER, &["a@b"], &format!("{}\r\n", "x".repeat(99))).await;
    assert!(reply.starts_with("552 5.3.4 "), "{reply}");
    let reply = client.send(USER, &["a@b"], &format!("{}\r\n", "x".repeat(98))).await;
    assert!(reply.starts_with("250 2.0.0 "), "{reply}");
    sim.stop().await;
}

#[tokio::test]
async fn gmail_explains_a_bad_token_in_a_challenge() {
    let sim = Sim::start(SimOptions::gmail()).await.unwrap();
    assert_eq!(sim.options().flavour, Flavour::Gmail);
    let mut client = Client::secure(&sim).await;
    let reply = client.authenticate(USER, &Secret::new("bad")).await;
    let json = BASE64_STANDARD.decode(reply.strip_prefix("334 ").unwrap()).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["schemes"], "Bearer");
    assert_eq!(json["scope"], "https://mail.google.com/");
    let reply = client.ask("").await;
    assert!(reply.starts_with("535-5.7.8 Username and Password not accepted."), "{reply}");
    assert!(reply.lines().nth(1).unwrap().starts_with("535 5.7.8 "));
    let token = sim.access_token(USER);
    let inline = client.ask(&format!("AUTH XOAUTH2 {}", xoauth2(USER, &token))).await;
    assert!(inline.starts_with("555-5.5.2 "), "a long line: {inline}");
    assert_eq!(client.authenticate(USER, &token).await, "235 2.7.0 Accepted");
    // No SendAsDenied here: Gmail rewrites the sender.
    let reply = client.send("other@example.com", &["a@b"], "From: other@example.com\r\n\r\n");
    assert!(reply.await.starts_with("250 2.0.0 OK  "));
    assert_eq!(sim.offences(), [""; 0]);

    let mut client = Client::secure(&sim).await;
    assert!(client.authenticate(USER, &Secret::new("bad")).await.starts_with("334 "));
    assert!(client.ask("QUIT").await.starts_with("535-5.7.8 "));
    assert!(sim.offences()[0].contains("was not answered as it has to"));
    sim.stop().await;
}

#[tokio::test]
async fn gmail_takes_oauthbearer_and_exchange_does_not() {
    let sim = Sim::start(SimOptions::gmail()).await.unwrap();
    let mut client = Client::secure(&sim).await;
    assert_eq!(client.ask("AUTH OAUTHBEARER").await, "334 ");
    let bad = oauthbearer(USER, &Secret::new("bad"));
    assert!(client.ask(&bad).await.starts_with("334 "));
    assert!(client.ask("AQ==").await.starts_with("535-5.7.8 "));
    assert_eq!(client.ask("AUTH OAUTHBEARER").await, "334 ");
    let good = oauthbearer(USER, &sim.access_token(USER));
    assert_eq!(client.ask(&good).await, "235 2.7.0 Accepted");
    assert_eq!(sim.offences(), [""; 0]);

    let mut client = Client::secure(&sim).await;
    assert_eq!(client.ask("AUTH OAUTHBEARER").await, "334 ");
    assert!(client.ask(&bad).await.starts_with("334 "));
    assert!(client.ask("").await.starts_with("535-5.7.8 "));
    assert_eq!(sim.offences().len(), 1, "an empty line is XOAUTH2's answer");
    assert_eq!(client.ask("AUTH OAUTHBEARER").await, "334 ");
    let reply = client.ask(&xoauth2(USER, &sim.access_token(USER))).await;
    assert!(reply.starts_with("535"), "{reply}");
    sim.stop().await;

    let sim = Sim::start(SimOptions::default()).await.unwrap();
    let mut client = Client::secure(&sim).await;
    assert!(client.ask("AUTH OAUTHBEARER").await.starts_with("504 5.7.4"));
    sim.stop().await;
}

#[tokio::test]
async fn a_session_that_is_silent_for_too_long_is_closed() {
    let idle = Some(std::time::Duration::from_millis(50));
    let sim = Sim::start(SimOptions { idle, ..SimOptions::default() }).await.unwrap();
    let mut client = Client::dial(&sim).await;
    client.expect("220").await;
    client.expect("451 4.7.0 Timeout waiting for client input").await;
    assert_eq!(client.reply().await, Err(Gone::Closed(String::new())));
    sim.until("nobody", |counts| counts.open_sessions == 0).await.unwrap();
    sim.stop().await;
}
