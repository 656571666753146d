//! Every step of a session against everything that can go wrong there.

use super::*;
use crate::mail::Phase;

/// What the server does instead of the right reply.
const TROUBLES: [&str; 7] = ["4yz", "5yz", "close", "garbage", "timeout", "endless line", "421"];

/// Steps, and for each trouble in the order of [`TROUBLES`] what comes of it: `!` is the fault that
/// ends the session, the rest are events; `-` is nothing at all.
const EXPECTED: [(&str, [&str; 7]); 19] = {
    const REFUSED: &str = "token refused";
    const INJECTED: &str = "!start_tls injected";
    [
        (
            "greeting",
            [
                "!greeting refused",
                "!greeting refused",
                "!greeting closed",
                "!greeting protocol",
                "!greeting timed out",
                "!greeting protocol",
                "!greeting refused",
            ],
        ),
        (
            "ehlo",
            [
                "!ehlo refused",
                "!ehlo refused",
                "!ehlo closed",
                "!ehlo protocol",
                "!ehlo timed out",
                "!ehlo protocol",
                "!ehlo refused",
            ],
        ),
        (
            "starttls",
            [
                "!start_tls refused",
                "!start_tls refused",
                "!start_tls closed",
                "!start_tls protocol",
                "!start_tls timed out",
                "!start_tls protocol",
                "!start_tls refused",
            ],
        ),
        (
            "handshake",
            [INJECTED, INJECTED, "!tls closed", INJECTED, "!tls timed out", INJECTED, INJECTED],
        ),
        (
            "ehlo inside tls",
            [
                "!ehlo refused",
                "!ehlo refused",
                "!ehlo closed",
                "!ehlo protocol",
                "!ehlo timed out",
                "!ehlo protocol",
                "!ehlo refused",
            ],
        ),
        (
            "auth",
            [
                REFUSED,
                REFUSED,
                "!auth closed",
                "!auth protocol",
                "!auth timed out",
                "!auth protocol",
                "!auth refused",
            ],
        ),
        (
            "auth, token sent",
            [
                REFUSED,
                REFUSED,
                "!auth closed",
                "!auth protocol",
                "!auth timed out",
                "!auth protocol",
                "!auth refused",
            ],
        ),
        (
            "auth, refusal acknowledged",
            [
                REFUSED,
                REFUSED,
                "!auth closed",
                "!auth protocol",
                "!auth timed out",
                "!auth protocol",
                "!auth refused",
            ],
        ),
        (
            "idle",
            [
                "!mail protocol",
                "!mail protocol",
                "!mail closed",
                "!mail protocol",
                "-",
                "!mail protocol",
                "!mail refused",
            ],
        ),
        (
            "noop",
            [
                "!mail refused",
                "!mail refused",
                "!mail closed",
                "!mail protocol",
                "!mail timed out",
                "!mail protocol",
                "!mail refused",
            ],
        ),
        (
            "rset",
            [
                "lost mail !mail protocol",
                "lost mail !mail protocol",
                "lost mail !mail closed",
                "lost mail !mail protocol",
                "lost mail !mail timed out",
                "lost mail !mail protocol",
                "refused mail !mail refused",
            ],
        ),
        (
            "mail",
            [
                "refused mail",
                "refused mail",
                "lost mail !mail closed",
                "lost mail !mail protocol",
                "lost mail !mail timed out",
                "lost mail !mail protocol",
                "refused mail !mail refused",
            ],
        ),
        (
            "rcpt",
            [
                "refused rcpt",
                "refused rcpt",
                "lost rcpt !rcpt closed",
                "lost rcpt !rcpt protocol",
                "lost rcpt !rcpt timed out",
                "lost rcpt !rcpt protocol",
                "refused rcpt !rcpt refused",
            ],
        ),
        (
            "data",
            [
                "refused data",
                "refused data",
                "lost data !data closed",
                "lost data !data protocol",
                "lost data !data timed out",
                "lost data !data protocol",
                "refused data !data refused",
            ],
        ),
        (
            "body",
            [
                "refused body !body refused",
                "refused body !body refused",
                "lost body !body closed",
                "lost body !body protocol",
                "lost body !body timed out",
                "lost body !body protocol",
                "refused body !body refused",
            ],
        ),
        (
            "dot in the output",
            [
                "refused body !body refused",
                "refused body !body refused",
                "lost body !body closed",
                "lost body !body protocol",
                "lost body !body timed out",
                "lost body !body protocol",
                "refused body !body refused",
            ],
        ),
        (
            "dot handed out",
            [
                "refused final",
                "refused final",
                "uncertain !final closed",
                "uncertain !final protocol",
                "uncertain !final timed out",
                "uncertain !final protocol",
                "refused final !final refused",
            ],
        ),
        (
            "lone dot",
            [
                "refused rcpt",
                "refused rcpt",
                "refused rcpt !data closed",
                "refused rcpt !data protocol",
                "refused rcpt !data timed out",
                "refused rcpt !data protocol",
                "refused rcpt !data refused",
            ],
        ),
        ("quit", ["-"; 7]),
    ]
};

#[test]
fn every_step_against_every_trouble() {
    let mut cells = 0;
    for is_pipelining in [false, true] {
        for (step, expected) in EXPECTED {
            for (trouble, expected) in TROUBLES.into_iter().zip(expected) {
                let mut dialog = come_to(step, is_pipelining);
                assert_eq!(dialog.events, [], "{step}");
                cause(&mut dialog, trouble);
                // The commands behind a refused one in its group are answered, too.
                for _ in 0..2 {
                    if is_pipelining && matches!(step, "mail" | "rcpt") && !dialog.is_closed {
                        let is_open = dialog.session.deadline().is_some();
                        dialog.say(if is_open { "503 5.5.1 no\r\n" } else { "" });
                    }
                }
                let outcome = describe(&mut dialog);
                let cell = format!("{step} x {trouble}, pipelining: {is_pipelining}");
                assert_eq!(outcome, expected, "{cell}");
                let is_over = outcome.contains('!') || step == "quit";
                assert_eq!(dialog.is_closed, is_over, "{cell}");
                assert_eq!(dialog.session.is_idle(), !is_over, "{cell}");
                cells += 1;
            }
        }
    }
    println!("matrix: {cells} cells");
    assert_eq!(cells, 2 * 19 * 7);
}

fn come_to(step: &str, is_pipelining: bool) -> Dialog {
    let mut dialog = Dialog::new(ClientTls::StartTls);
    if step == "greeting" {
        return dialog;
    }
    dialog.say("220 a\r\n");
    if step == "ehlo" {
        return dialog;
    }
    dialog.say(ehlo_answer(&["STARTTLS"]));
    if step == "starttls" {
        return dialog;
    }
    dialog.say("220 go\r\n");
    if step == "handshake" {
        return dialog;
    }
    dialog.session.tls_started(dialog.now);
    dialog.pump();
    if step == "ehlo inside tls" {
        return dialog;
    }
    let pipelining = if is_pipelining { "PIPELINING" } else { "X-NONE" };
    dialog.say(ehlo_answer(&["AUTH XOAUTH2", pipelining]));
    dialog.authenticate(long_blob(), "XOAUTH2");
    assert_eq!(dialog.event(), ClientEvent::Ready);
    if step == "auth" {
        return dialog;
    }
    dialog.say("334 \r\n");
    if step == "auth, token sent" {
        return dialog;
    }
    if step == "auth, refusal acknowledged" {
        dialog.say("334 e30=\r\n");
        return dialog;
    }
    dialog.say("235 in\r\n");
    assert_eq!(dialog.event(), ClientEvent::Authenticated);
    match step {
        "idle" => return dialog,
        "noop" => {
            dialog.session.check_alive(dialog.now);
            dialog.pump();
            return dialog;
        }
        "quit" => {
            dialog.session.quit(dialog.now);
            dialog.pump();
            return dialog;
        }
        "rset" => {
            dialog.begin(&["a@x.example"]);
            dialog.say("550 no\r\n");
            if is_pipelining {
                dialog.say("503 no\r\n503 no\r\n");
            }
            dialog.verdicts();
        }
        _ => {}
    }
    dialog.begin(&["a@x.example"]);
    if matches!(step, "rset" | "mail") {
        return dialog;
    }
    dialog.say("250 ok\r\n");
    if step == "rcpt" {
        return dialog;
    }
    if step == "lone dot" && is_pipelining {
        dialog.say("550 no\r\n354 go\r\n");
        return dialog;
    }
    if step == "lone dot" {
        // Only a DATA that was pipelined can be asked for in vain.
        let mut dialog = come_to("rcpt", true);
        dialog.say("550 no\r\n354 go\r\n");
        return dialog;
    }
    dialog.say("250 ok\r\n");
    if step == "data" {
        return dialog;
    }
    dialog.say("354 go\r\n");
    assert_eq!(dialog.event(), ClientEvent::WantBody);
    dialog.session.body(b"half", dialog.now);
    // A driver that is still writing: `next` has not been called again.
    assert!(matches!(dialog.session.next(dialog.now), Step::Write(_)));
    if step == "body" {
        return dialog;
    }
    dialog.session.end_of_body(dialog.now);
    if step == "dot in the output" {
        return dialog;
    }
    assert_eq!(step, "dot handed out");
    dialog.pump();
    dialog
}

fn cause(dialog: &mut Dialog, trouble: &str) {
    let say = |dialog: &mut Dialog, text: &[u8]| {
        dialog.session.receive(text, dialog.now);
        dialog.pump();
    };
    match trouble {
        "4yz" => say(dialog, b"451 4.3.0 not now\r\n"),
        "5yz" => say(dialog, b"550 5.7.1 never\r\n"),
        "421" => say(dialog, b"421 4.3.2 shutting down\r\n"),
        "garbage" => say(dialog, b"\0\xff?!\r\n"),
        "endless line" => {
            (0..300).for_each(|_| dialog.session.receive(b"250 xxxxxx", dialog.now));
            dialog.pump();
        }
        "close" => dialog.close(),
        "timeout" => {
            if let Some(deadline) = dialog.session.deadline() {
                dialog.now = deadline;
                dialog.session.tick(deadline);
            }
            dialog.pump();
        }
        _ => panic!("{trouble}"),
    }
}

fn describe(dialog: &mut Dialog) -> String {
    let events = dialog.events();
    let words: Vec<_> = events.iter().map(describe_event).collect();
    if words.is_empty() { "-".to_owned() } else { words.join(" ") }
}

fn describe_event(event: &ClientEvent) -> String {
    match event {
        ClientEvent::AuthenticationRefused { .. } => "token refused".to_owned(),
        ClientEvent::Finished(Report { verdicts }) => match &verdicts[..] {
            [Verdict::Refused { phase, reply }] => {
                assert!(reply.code() >= 400);
                format!("refused {phase}")
            }
            [Verdict::Lost { phase, .. }] => format!("lost {phase}"),
            [Verdict::Uncertain { .. }] => "uncertain".to_owned(),
            other => format!("{other:?}"),
        },
        ClientEvent::Broken(Fault { phase, kind }) => {
            let kind = match kind {
                FaultKind::Refused(_) => "refused",
                FaultKind::Closed => "closed",
                FaultKind::TimedOut => "timed out",
                FaultKind::Protocol(_) => "protocol",
                FaultKind::Injected => "injected",
                FaultKind::NoStartTls => "no starttls",
                FaultKind::NoMechanism => "no mechanism",
            };
            assert_ne!(*phase, Phase::Local);
            format!("!{phase} {kind}")
        }
        other => format!("{other:?}"),
    }
}
