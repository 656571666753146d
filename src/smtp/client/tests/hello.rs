//! From the greeting to a session that may send.

use super::*;
use crate::mail::Phase;
use crate::smtp::Capabilities;

const EXCHANGE_PLAIN: [&str; 4] = ["SIZE 157286400", "PIPELINING", "STARTTLS", "8BITMIME"];
const EXCHANGE_TLS: [&str; 4] = ["SIZE 157286400", "PIPELINING", "AUTH LOGIN XOAUTH2", "8BITMIME"];

fn inside_tls(inside: &[&str]) -> Dialog {
    let mut dialog = Dialog::new(ClientTls::StartTls);
    dialog.say("220 upstream.example ready\r\n");
    dialog.sees("EHLO relay.contoso.local\r\n");
    dialog.say(ehlo_answer(&EXCHANGE_PLAIN));
    dialog.sees("STARTTLS\r\n");
    dialog.say("220 2.0.0 go ahead\r\n");
    assert_eq!((dialog.handshakes, dialog.written.len()), (1, 0));
    dialog.session.tls_started(dialog.now);
    dialog.sees("EHLO relay.contoso.local\r\n");
    dialog.say(ehlo_answer(inside));
    dialog
}

#[test]
fn exchange_online_from_the_greeting_to_the_token() {
    let mut dialog = inside_tls(&EXCHANGE_TLS);
    assert_eq!(dialog.event(), ClientEvent::Ready);
    assert!(dialog.session.is_idle() && dialog.session.deadline().is_none());
    assert_eq!(dialog.session.capabilities().mechanisms, ["LOGIN", "XOAUTH2"]);

    dialog.authenticate(long_blob(), "XOAUTH2");
    dialog.sees("AUTH XOAUTH2\r\n");
    dialog.say("334 \r\n");
    dialog.sees(&format!("{}\r\n", long_blob().expose()));
    dialog.say("235 2.7.0 Authentication successful\r\n");
    assert_eq!(dialog.event(), ClientEvent::Authenticated);
}

#[test]
fn greetings() {
    for (greeting, is_welcome) in [
        ("220 a\r\n", true),
        ("220-a\r\n220-b\r\n220 c\r\n", true),
        ("220\r\n", true),
        ("421 4.3.2 busy\r\n", false),
        ("450 later\r\n", false),
        ("521 no mail here\r\n", false),
        ("554 5.7.1 go away\r\n", false),
    ] {
        let mut dialog = Dialog::new(ClientTls::StartTls);
        dialog.say(greeting);
        if is_welcome {
            dialog.sees("EHLO relay.contoso.local\r\n");
            continue;
        }
        let fault = dialog.fault();
        assert_eq!(fault.phase, Phase::Greeting, "{greeting}");
        let code = greeting[..3].parse::<u16>().unwrap();
        assert!(matches!(fault.kind, FaultKind::Refused(reply) if reply.code() == code));
    }
    for greeting in ["250 odd\r\n", "354 odd\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "\x16\x03\x01\n"] {
        let mut dialog = Dialog::new(ClientTls::StartTls);
        dialog.say(greeting);
        assert!(matches!(dialog.fault().kind, FaultKind::Protocol(_)), "{greeting:?}");
        dialog.sees("");
    }
}

#[test]
fn without_starttls_nothing_more_is_said() {
    let answers = [
        ehlo_answer(&["AUTH XOAUTH2", "SIZE"]),
        "250 upstream.example\r\n".to_owned(),
        "500 what?\r\n".to_owned(),
        "502 5.5.1 not implemented\r\n".to_owned(),
        "504 never heard\r\n".to_owned(),
    ];
    for answer in answers {
        let mut dialog = Dialog::new(ClientTls::StartTls);
        dialog.say("220 a\r\n");
        dialog.sees("EHLO relay.contoso.local\r\n");
        dialog.say(&answer);
        let fault = Fault { phase: Phase::StartTls, kind: FaultKind::NoStartTls };
        assert_eq!(dialog.fault(), fault, "{answer}");
        dialog.sees("");
    }
    for refusal in ["454 4.7.0 not now\r\n", "502 no\r\n", "554 no\r\n", "421 no\r\n"] {
        let mut dialog = Dialog::new(ClientTls::StartTls);
        dialog.say("220 a\r\n");
        dialog.say(ehlo_answer(&EXCHANGE_PLAIN));
        dialog.sees("EHLO relay.contoso.local\r\nSTARTTLS\r\n");
        dialog.say(refusal);
        let fault = dialog.fault();
        assert_eq!(fault.phase, Phase::StartTls);
        assert!(matches!(fault.kind, FaultKind::Refused(_)), "{refusal}");
        dialog.sees("");
    }
    for odd in ["250 fine\r\n", "354 go\r\n", "235 in\r\n"] {
        let mut dialog = Dialog::new(ClientTls::StartTls);
        dialog.say("220 a\r\n");
        dialog.say(ehlo_answer(&EXCHANGE_PLAIN));
        dialog.say(odd);
        assert!(matches!(dialog.fault().kind, FaultKind::Protocol(_)), "{odd}");
    }
}

#[test]
fn bytes_behind_the_answer_to_starttls_are_an_attack() {
    let injected = Fault { phase: Phase::StartTls, kind: FaultKind::Injected };
    for behind in ["250-x\r\n250 AUTH XOAUTH2\r\n", "2", "\r\n", "\0", "421 bye\r\n"] {
        for is_apart in [false, true] {
            let mut dialog = Dialog::new(ClientTls::StartTls);
            dialog.say("220 a\r\n");
            dialog.say(ehlo_answer(&EXCHANGE_PLAIN));
            dialog.sees("EHLO relay.contoso.local\r\nSTARTTLS\r\n");
            match is_apart {
                true => {
                    dialog.say("220 go\r\n");
                    dialog.say(behind);
                }
                false => dialog.say(format!("220 go\r\n{behind}")),
            }
            assert_eq!(dialog.fault(), injected, "{behind:?}");
            dialog.session.tls_started(dialog.now);
            dialog.sees("");
            assert!(!dialog.session.capabilities().offers_mechanism("XOAUTH2"));
        }
    }
}

#[test]
fn only_what_was_offered_inside_tls_counts() {
    let mut dialog = Dialog::new(ClientTls::StartTls);
    dialog.say("220 a\r\n");
    dialog.say(ehlo_answer(&["STARTTLS", "AUTH XOAUTH2", "PIPELINING", "SMTPUTF8"]));
    dialog.say("220 go\r\n");
    dialog.session.tls_started(dialog.now);
    dialog.say(ehlo_answer(&["STARTTLS", "AUTH LOGIN"]));
    assert_eq!(dialog.event(), ClientEvent::Ready);
    assert!(!dialog.session.capabilities().pipelining);
    dialog.sees("EHLO relay.contoso.local\r\nSTARTTLS\r\nEHLO relay.contoso.local\r\n");
    dialog.authenticate(long_blob(), "XOAUTH2");
    assert_eq!(dialog.fault(), Fault { phase: Phase::Auth, kind: FaultKind::NoMechanism });
    dialog.sees("");
}

#[test]
fn nothing_of_the_plaintext_survives_where_ehlo_fails_inside_tls() {
    let mut dialog = Dialog::new(ClientTls::StartTls);
    dialog.say("220 a\r\n");
    dialog.say(ehlo_answer(&["STARTTLS", "AUTH XOAUTH2", "PIPELINING", "SIZE 10"]));
    dialog.say("220 go\r\n");
    dialog.session.tls_started(dialog.now);
    dialog.say("500 what?\r\n");
    dialog.say("250 upstream.example\r\n");
    assert_eq!(dialog.event(), ClientEvent::Ready);
    assert_eq!(dialog.session.capabilities(), &Capabilities::default());
}

#[test]
fn helo_where_ehlo_is_not_understood() {
    for refusal in ["500 5.5.1 what?\r\n", "502 no\r\n", "504 no\r\n"] {
        let mut dialog = Dialog::new(ClientTls::Active);
        dialog.say("220 a\r\n");
        dialog.say(refusal);
        dialog.sees("EHLO relay.contoso.local\r\nHELO relay.contoso.local\r\n");
        dialog.say("250 upstream.example\r\n");
        assert_eq!(dialog.event(), ClientEvent::Ready);
        assert!(!dialog.session.capabilities().is_extended);
        dialog.begin(&["a@b.example"]);
        dialog.sees("MAIL FROM:<scanner@contoso.com>\r\n");
    }
    let mut dialog = Dialog::new(ClientTls::Active);
    dialog.say("220 a\r\n");
    dialog.say("550 5.7.1 not you\r\n");
    assert_eq!(dialog.fault().phase, Phase::Ehlo);
    dialog.sees("EHLO relay.contoso.local\r\n");
}

#[test]
fn a_name_that_cannot_stand_behind_ehlo_is_replaced() {
    for name in ["", "two words", "x\r\nMAIL FROM:<a@b>", "b\u{fc}cher"] {
        let settings = ClientSettings { ehlo_name: name.to_owned(), tls: ClientTls::Active };
        let mut dialog = Dialog::new(ClientTls::Active);
        dialog.session = ClientSession::new(settings, dialog.now);
        dialog.say("220 a\r\n");
        dialog.sees("EHLO localhost\r\n");
    }
}

#[test]
fn a_short_token_goes_inline_and_a_longer_one_does_not() {
    // "AUTH XOAUTH2 " and CRLF leave 497 of 512 octets: RFC 4954 §4.
    for (octets, is_inline) in [(4, true), (497, true), (498, false), (3_000, false)] {
        let mut dialog = Dialog::ready(&["AUTH XOAUTH2"]);
        let blob = "x".repeat(octets);
        dialog.authenticate(Secret::new(blob.clone()), "xoauth2");
        if is_inline {
            dialog.sees(&format!("AUTH XOAUTH2 {blob}\r\n"));
        } else {
            dialog.sees("AUTH XOAUTH2\r\n");
            dialog.say("334\r\n");
            dialog.sees(&format!("{blob}\r\n"));
        }
        dialog.say("235 in\r\n");
        assert_eq!(dialog.event(), ClientEvent::Authenticated);
    }
}

#[test]
fn refusals_of_a_token() {
    let json = "{\"status\":\"401\",\"schemes\":\"Bearer\"}";
    let challenge = "334 eyJzdGF0dXMiOiI0MDEiLCJzY2hlbWVzIjoiQmVhcmVyIn0=\r\n";
    // Mechanism, token, what the server says, what it sees, the final reply, the reason.
    for (mechanism, blob, says, sees, code, reason) in [
        ("XOAUTH2", SHORT_BLOB, &["535 5.7.3 no [host]\r\n"][..], "", 535, None),
        ("XOAUTH2", SHORT_BLOB, &["454 4.7.0 not now\r\n"], "", 454, None),
        ("XOAUTH2", SHORT_BLOB, &["504 5.7.4 what?\r\n"], "", 504, None),
        ("XOAUTH2", SHORT_BLOB, &[challenge, "535 5.7.8 no\r\n"], "\r\n", 535, Some(json)),
        ("XOAUTH2", SHORT_BLOB, &["334 \r\n", "535 no\r\n"], "\r\n", 535, None),
        ("OAUTHBEARER", SHORT_BLOB, &[challenge, "535 no\r\n"], "AQ==\r\n", 535, Some(json)),
    ] {
        let mut dialog = Dialog::ready(&["AUTH XOAUTH2 OAUTHBEARER"]);
        // Twice: after a refusal the session can still be used.
        for _ in 0..2 {
            dialog.authenticate(Secret::new(blob), mechanism);
            dialog.sees(&format!("AUTH {mechanism} {blob}\r\n"));
            says.iter().for_each(|text| dialog.say(text));
            dialog.sees(sees);
            let ClientEvent::AuthenticationRefused { reply, challenge } = dialog.event() else {
                panic!("{says:?}");
            };
            assert_eq!((reply.code(), challenge.as_deref()), (code, reason));
            assert!(dialog.session.is_idle());
        }
        dialog.session.quit(dialog.now);
        dialog.sees("QUIT\r\n");
    }
    // Refused before the token was sent.
    let mut dialog = Dialog::ready(&["AUTH XOAUTH2"]);
    dialog.authenticate(long_blob(), "XOAUTH2");
    dialog.say("504 5.7.4 Unrecognized authentication type\r\n");
    dialog.sees("AUTH XOAUTH2\r\n");
    assert!(matches!(dialog.event(), ClientEvent::AuthenticationRefused { .. }));
}

#[test]
fn replies_that_do_not_fit_an_auth() {
    for says in [
        &["235 too early\r\n"][..],
        &["250 fine\r\n"],
        &["334 \r\n", "250 fine\r\n"],
        &["334 \r\n", "334 e30=\r\n", "235 after all\r\n"],
        &["334 \r\n", "334 e30=\r\n", "334 e30=\r\n"],
    ] {
        let mut dialog = Dialog::ready(&["AUTH XOAUTH2"]);
        dialog.authenticate(long_blob(), "XOAUTH2");
        says.iter().for_each(|text| dialog.say(text));
        let fault = dialog.fault();
        assert_eq!(fault.phase, Phase::Auth);
        assert!(matches!(fault.kind, FaultKind::Protocol(_)), "{says:?}");
    }
}

#[test]
fn a_token_that_is_no_base64_is_never_written() {
    for blob in ["", "two words", "x\r\nMAIL FROM:<a@b>"] {
        let mut dialog = Dialog::ready(&["AUTH XOAUTH2"]);
        dialog.authenticate(Secret::new(blob), "XOAUTH2");
        assert!(matches!(dialog.fault().kind, FaultKind::Protocol(_)));
        dialog.sees("");
    }
}

#[test]
fn the_token_is_only_in_what_is_written() {
    let token = long_blob();
    let pieces = [&token.expose()[..40], token.expose()];
    let echoes = [
        format!("535 5.7.3 no {}\r\n", token.expose()),
        format!("500 bad command \"{}\"...\r\n", pieces[0]),
        format!("421 4.7.0 {}\r\n", pieces[0]),
        format!("{}\r\n", pieces[0]),
        format!("354 {}\r\n", pieces[0]),
        format!("334 !{}\r\n", pieces[0]),
    ];
    for echo in echoes {
        let mut dialog = Dialog::ready(&["AUTH XOAUTH2"]);
        dialog.session.authenticate(token.clone(), "XOAUTH2", dialog.now);
        let mut shown = format!("{:?}", dialog.session);
        dialog.say("334 \r\n");
        shown += &format!("{:?}", dialog.session);
        dialog.say(&echo);
        dialog.say("535 no\r\n");
        shown += &format!("{:?} {:?}", dialog.events(), dialog.session);
        assert!(shown.contains("auth"), "{shown}");
        assert!(!shown.contains(&token.expose()[..20]), "{shown}");
    }
}

#[test]
fn good_bye() {
    for answer in ["221 2.0.0 bye\r\n", "250 fine\r\n", "500 what?\r\n", "421 x\r\n", "garbage\r\n"]
    {
        let mut dialog = Dialog::ready(&[]);
        dialog.session.quit(dialog.now);
        dialog.sees("QUIT\r\n");
        assert!(!dialog.is_closed);
        dialog.say(answer);
        assert_eq!((dialog.events(), dialog.is_closed), (vec![], true), "{answer}");
    }
    let mut dialog = Dialog::new(ClientTls::StartTls);
    dialog.session.quit(dialog.now);
    dialog.sees("");
    assert!(dialog.is_closed);
}

#[test]
fn a_reply_too_many_ends_the_session() {
    // Behind the greeting, behind EHLO, behind AUTH, and while nothing goes on; in one piece with
    // the reply before it, or in its own.
    for too_many in ["250 forged\r\n", "235 forged\r\n", "550 forged\r\n", "2"] {
        let mut dialog = Dialog::new(ClientTls::Active);
        dialog.say(format!("220 a\r\n{too_many}"));
        dialog.sees("");
        dialog.say("50 x\r\n");
        assert!(matches!(dialog.fault().kind, FaultKind::Protocol(_)), "{too_many}");
    }
    let mut dialog = Dialog::new(ClientTls::Active);
    dialog.say("220 a\r\n");
    dialog.say(format!("{}250 forged\r\n", ehlo_answer(&["AUTH XOAUTH2"])));
    assert_eq!(dialog.events().len(), 2, "ready, and broken before anything is said");

    let mut dialog = Dialog::ready(&["AUTH XOAUTH2"]);
    dialog.authenticate(long_blob(), "XOAUTH2");
    dialog.say("334 \r\n235 forged\r\n");
    dialog.sees("AUTH XOAUTH2\r\n");
    assert!(matches!(dialog.fault().kind, FaultKind::Protocol(_)));

    let mut dialog = Dialog::ready(&[]);
    dialog.say("421 4.4.2 idle for too long\r\n");
    let fault = dialog.fault();
    assert!(matches!(fault.kind, FaultKind::Refused(reply) if reply.code() == 421));
}
