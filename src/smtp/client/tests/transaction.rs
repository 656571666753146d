//! Transactions.

use super::*;
use crate::base::limits;
use crate::mail::Phase;

const MAIL: &str = "MAIL FROM:<scanner@contoso.com>\r\n";

fn reply(text: &str) -> Reply {
    let (code, rest) = text.split_at(3);
    let rest = rest.trim_start();
    let code = code.parse().unwrap();
    match rest.split_once(' ').and_then(|(word, text)| Some((word.parse().ok()?, text))) {
        Some((enhanced, text)) => Reply::from_lines(code, Some(enhanced), vec![text.to_owned()]),
        None => Reply::plain(code, rest),
    }
}

fn refused(phase: Phase, text: &str) -> Verdict {
    Verdict::Refused { phase, reply: reply(text) }
}

fn accepted(text: &str) -> Verdict {
    Verdict::Accepted(reply(text))
}

/// In the middle of the body of a message for one recipient.
fn in_body() -> Dialog {
    let mut dialog = Dialog::ready(&["PIPELINING"]);
    dialog.begin(&["a@x.example"]);
    dialog.sees(&format!("{MAIL}RCPT TO:<a@x.example>\r\nDATA\r\n"));
    dialog.say("250 ok\r\n250 ok\r\n354 go\r\n");
    assert_eq!(dialog.event(), ClientEvent::WantBody);
    assert!(dialog.session.wants_body());
    dialog.session.body(b"Subject: x\r\n\r\nhalf", dialog.now);
    dialog.sees("Subject: x\r\n\r\nhalf");
    dialog
}

#[test]
fn one_group_where_upstream_pipelines() {
    let mut dialog = Dialog::ready(&["PIPELINING", "SIZE 2000"]);
    dialog.begin(&["a@x.example", "b@x.example", "c@x.example", "Postmaster"]);
    dialog.sees(
        "MAIL FROM:<scanner@contoso.com> SIZE=1000\r\nRCPT TO:<a@x.example>\r\n\
         RCPT TO:<b@x.example>\r\nRCPT TO:<c@x.example>\r\nRCPT TO:<Postmaster>\r\nDATA\r\n",
    );
    dialog.say("250 2.1.0 ok\r\n250 2.1.5 ok\r\n550 5.1.1 no b\r\n452 4.5.3 later\r\n");
    assert_eq!(dialog.events(), []);
    dialog.say("250 ok\r\n354 go\r\n");
    assert_eq!(dialog.event(), ClientEvent::WantBody);
    dialog.body(b".\r\n..x\r\n");
    dialog.sees("..\r\n...x\r\n.\r\n");
    dialog.say("250 2.0.0 OK <id>\r\n");
    let last = accepted("250 2.0.0 OK <id>");
    let b = refused(Phase::Rcpt, "550 5.1.1 no b");
    let c = refused(Phase::Rcpt, "452 4.5.3 later");
    assert_eq!(dialog.verdicts(), [last.clone(), b, c, last]);
    assert!(dialog.session.is_idle() && dialog.session.deadline().is_none());
}

#[test]
fn one_command_at_a_time_where_it_does_not() {
    let mut dialog = Dialog::ready(&[]);
    dialog.begin(&["a@x.example", "b@x.example"]);
    dialog.sees(MAIL);
    dialog.say("250 ok\r\n");
    dialog.sees("RCPT TO:<a@x.example>\r\n");
    dialog.say("550 no a\r\n");
    dialog.sees("RCPT TO:<b@x.example>\r\n");
    dialog.say("251 elsewhere\r\n");
    dialog.sees("DATA\r\n");
    dialog.say("354 go\r\n");
    assert_eq!(dialog.event(), ClientEvent::WantBody);
    dialog.body(b"");
    dialog.sees(".\r\n");
    dialog.say("250 ok\r\n");
    assert_eq!(dialog.verdicts(), [refused(Phase::Rcpt, "550 no a"), accepted("250 ok")]);
}

#[test]
fn groups_are_bounded() {
    let recipients: Vec<_> = (0..150).map(|n| format!("r{n}@x.example")).collect();
    let recipients: Vec<_> = recipients.iter().map(String::as_str).collect();
    let mut dialog = Dialog::ready(&["PIPELINING"]);
    dialog.begin(&recipients);
    let mut groups = Vec::new();
    while !dialog.written.is_empty() {
        let group = String::from_utf8(std::mem::take(&mut dialog.written)).unwrap();
        let commands = group.lines().count();
        groups.push((commands, group.lines().filter(|line| line.starts_with("RCPT")).count()));
        for line in group.lines() {
            assert_eq!(dialog.written.len(), 0, "written while a reply is outstanding");
            dialog.say(if line == "DATA" { "354 go\r\n" } else { "250 ok\r\n" });
        }
    }
    assert_eq!(groups, [(65, 64), (64, 64), (23, 22)]);
    assert_eq!(dialog.event(), ClientEvent::WantBody);
    dialog.body(b"x");
    dialog.say("250 ok\r\n");
    assert_eq!(dialog.verdicts(), vec![accepted("250 ok"); 150]);
}

#[test]
fn a_refused_sender_refuses_every_recipient() {
    let verdicts = vec![refused(Phase::Mail, "550 5.7.60 not you"); 2];
    // Pipelining: all replies are read, and what a confused server lets through gets a lone dot.
    for (rest, lone_dot) in [
        ("503 5.5.1 x\r\n503 x\r\n503 x\r\n", None),
        ("250 x\r\n250 x\r\n554 no recipients\r\n", None),
        ("503 x\r\n503 x\r\n354 go\r\n", Some("554 5.5.1 no recipients\r\n")),
        ("250 x\r\n250 x\r\n354 go\r\n", Some("250 2.0.0 thank you\r\n")),
    ] {
        let mut dialog = Dialog::ready(&["PIPELINING"]);
        dialog.begin(&["a@x.example", "b@x.example"]);
        dialog.written.clear();
        dialog.say("550 5.7.60 not you\r\n");
        assert_eq!(dialog.events(), []);
        dialog.say(rest);
        match lone_dot {
            None => dialog.sees(""),
            Some(reply) => {
                assert_eq!(dialog.events(), []);
                dialog.sees(".\r\n");
                dialog.say(reply);
            }
        }
        assert_eq!(dialog.verdicts(), verdicts);
        // Left open only if there was no end of data.
        dialog.begin(&["a@x.example"]);
        let reset = if lone_dot.is_some() { "" } else { "RSET\r\n" };
        dialog.sees(&format!("{reset}{MAIL}RCPT TO:<a@x.example>\r\nDATA\r\n"));
    }
    // No pipelining: nothing more is said.
    let mut dialog = Dialog::ready(&[]);
    dialog.begin(&["a@x.example", "b@x.example"]);
    dialog.say("550 5.7.60 not you\r\n");
    dialog.sees(MAIL);
    assert_eq!(dialog.verdicts(), verdicts);
}

#[test]
fn when_every_recipient_is_refused() {
    let verdicts =
        [refused(Phase::Rcpt, "550 5.1.1 no a"), refused(Phase::Rcpt, "451 4.7.1 not yet")];
    for (data, lone_dot) in [
        ("503 5.5.1 no recipients\r\n", None),
        ("554 5.5.1 no valid recipients\r\n", None),
        ("354 go\r\n", Some("554 5.5.1 no valid recipients\r\n")),
    ] {
        let mut dialog = Dialog::ready(&["PIPELINING"]);
        dialog.begin(&["a@x.example", "b@x.example"]);
        dialog.written.clear();
        dialog.say("250 ok\r\n550 5.1.1 no a\r\n451 4.7.1 not yet\r\n");
        dialog.say(data);
        if let Some(reply) = lone_dot {
            dialog.sees(".\r\n");
            dialog.say(reply);
        }
        assert_eq!(dialog.verdicts(), verdicts, "{data}");
        assert!(dialog.session.is_idle());
    }
    // Without pipelining DATA is not even asked for, and the transaction is reset with the next.
    let mut dialog = Dialog::ready(&[]);
    dialog.begin(&["a@x.example", "b@x.example"]);
    dialog.say("250 ok\r\n");
    dialog.say("550 5.1.1 no a\r\n");
    dialog.say("451 4.7.1 not yet\r\n");
    assert_eq!(dialog.verdicts(), verdicts);
    dialog.sees(&format!("{MAIL}RCPT TO:<a@x.example>\r\nRCPT TO:<b@x.example>\r\n"));
    dialog.begin(&["c@x.example"]);
    dialog.sees("RSET\r\n");
    dialog.say("250 flushed\r\n");
    dialog.sees(MAIL);
}

#[test]
fn a_refused_data_refuses_whoever_is_left() {
    let mut dialog = Dialog::ready(&["PIPELINING"]);
    dialog.begin(&["a@x.example", "b@x.example"]);
    dialog.say("250 ok\r\n550 no a\r\n250 ok\r\n451 4.3.0 disk\r\n");
    let verdicts = [refused(Phase::Rcpt, "550 no a"), refused(Phase::Data, "451 4.3.0 disk")];
    assert_eq!(dialog.verdicts(), verdicts);
    dialog.written.clear();
    dialog.begin(&["a@x.example"]);
    dialog.sees(&format!("RSET\r\n{MAIL}RCPT TO:<a@x.example>\r\nDATA\r\n"));
    dialog.say("250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n");
    assert_eq!(dialog.event(), ClientEvent::WantBody);
    dialog.body(b"x\r\n");
    dialog.say("554 5.2.252 SendAsDenied\r\n");
    assert_eq!(dialog.verdicts(), [refused(Phase::Final, "554 5.2.252 SendAsDenied")]);
    dialog.written.clear();
    dialog.begin(&["a@x.example"]);
    dialog.sees(&format!("{MAIL}RCPT TO:<a@x.example>\r\nDATA\r\n"));
}

#[test]
fn a_refused_reset_loses_the_message_and_ends_the_session() {
    let mut dialog = Dialog::ready(&["PIPELINING"]);
    dialog.begin(&["a@x.example"]);
    dialog.say("550 no\r\n503 no\r\n503 no\r\n");
    assert_eq!(dialog.verdicts(), [refused(Phase::Mail, "550 no")]);
    dialog.begin(&["a@x.example"]);
    dialog.say("500 what?\r\n");
    let (verdicts, _) = dialog.verdicts_and_fault();
    assert!(matches!(verdicts[..], [Verdict::Lost { phase: Phase::Mail, .. }]));
}

#[test]
fn parameters_of_mail() {
    let plain = message(&["a@x.example", "b@x.example"]);
    let envelope = plain.envelope.clone();
    let with = |envelope: Envelope| Transaction { envelope, size: 1_000 };
    let eight_bit = with(Envelope { body: BodyType::EightBitMime, ..envelope.clone() });
    let utf8 = with(Envelope { smtputf8: true, ..envelope.clone() });
    let null = with(Envelope { reverse_path: ReversePath::Null, ..envelope.clone() });
    let wide_path = ForwardPath::parse("grüße@x.example").unwrap();
    let forward_paths = vec![wide_path, envelope.forward_paths[0].clone()];
    let wide = with(Envelope { forward_paths, ..envelope });
    let full = ["SIZE 1000", "8BITMIME", "SMTPUTF8"];
    // What MAIL says, or the code that is made up instead of it.
    let cases = [
        (&[][..], &plain, "<scanner@contoso.com>"),
        (&[], &null, "<>"),
        (&["SIZE"], &plain, "<scanner@contoso.com> SIZE=1000"),
        (&["SIZE 0"], &plain, "<scanner@contoso.com> SIZE=1000"),
        (&["SIZE 1000"], &plain, "<scanner@contoso.com> SIZE=1000"),
        (&["SIZE 999"], &plain, "552 5.3.4"),
        (&full, &plain, "<scanner@contoso.com> SIZE=1000"),
        (&full, &eight_bit, "<scanner@contoso.com> SIZE=1000 BODY=8BITMIME"),
        (&full, &utf8, "<scanner@contoso.com> SIZE=1000 SMTPUTF8"),
        (&full, &wide, "<scanner@contoso.com> SIZE=1000 SMTPUTF8"),
        (&["8BITMIME"], &utf8, "550 5.6.7"),
        (&["8BITMIME"], &wide, "553 5.6.7"),
        (&["SMTPUTF8"], &eight_bit, "554 5.6.3"),
        (&[], &eight_bit, "554 5.6.3"),
    ];
    for (capabilities, transaction, expected) in cases {
        let mut dialog = Dialog::ready(capabilities);
        dialog.session.begin(transaction.clone(), dialog.now);
        if expected.starts_with('<') {
            dialog.sees(&format!("MAIL FROM:{expected}\r\n"));
            continue;
        }
        let verdicts = dialog.verdicts();
        dialog.sees("");
        assert_eq!(verdicts.len(), 2);
        for verdict in verdicts {
            let Verdict::Refused { phase: Phase::Local, reply } = verdict else {
                panic!("{verdict:?}");
            };
            assert!(reply.to_string().starts_with(expected), "{reply}");
        }
        assert!(dialog.session.is_idle());
    }
}

#[test]
fn nobody_to_send_to() {
    let mut dialog = Dialog::ready(&[]);
    dialog.begin(&[]);
    assert_eq!(dialog.verdicts(), []);
    dialog.sees("");
}

#[test]
fn upstream_speaks_in_the_middle_of_the_body() {
    // In one piece and octet by octet: the dot is never handed out once it has begun to speak.
    for early in ["552 5.3.4 too big\r\n", "451 4.3.0 disk\r\n", "421 4.3.2 shutting down\r\n"] {
        for is_slow in [false, true] {
            let mut dialog = in_body();
            match is_slow {
                false => dialog.say(early),
                true => {
                    for (at, byte) in early.bytes().enumerate() {
                        dialog.say([byte]);
                        match at {
                            1 => dialog.session.body(b"more", dialog.now),
                            2 => dialog.session.end_of_body(dialog.now),
                            _ => {}
                        }
                        assert!(!dialog.session.wants_body());
                    }
                }
            }
            dialog.sees("");
            let (verdicts, fault) = dialog.verdicts_and_fault();
            assert_eq!(verdicts, [refused(Phase::Body, early.trim_end())]);
            assert_eq!(fault.phase, Phase::Body);
            assert!(!dialog.session.wants_body());
            dialog.body(b"too late");
            dialog.sees("");
        }
    }
    for early in ["250 2.0.0 taken already\r\n", "354 go\r\n", "what\r\n"] {
        let mut dialog = in_body();
        dialog.say(early);
        let (verdicts, fault) = dialog.verdicts_and_fault();
        assert!(matches!(verdicts[..], [Verdict::Lost { phase: Phase::Body, .. }]), "{early}");
        assert!(matches!(fault.kind, FaultKind::Protocol(_)));
    }
}

#[test]
fn a_reply_before_the_dot_is_handed_out_is_no_reply_to_the_dot() {
    for (early, verdict) in [("250 ok\r\n", None), ("550 no\r\n", Some("550 no"))] {
        let mut dialog = in_body();
        dialog.session.end_of_body(dialog.now);
        assert_eq!(dialog.session.pending_output_len(), 5);
        dialog.session.receive(early.as_bytes(), dialog.now);
        let (verdicts, _) = dialog.verdicts_and_fault();
        match verdict {
            Some(text) => assert_eq!(verdicts, [refused(Phase::Body, text)]),
            None => assert!(matches!(verdicts[..], [Verdict::Lost { phase: Phase::Body, .. }])),
        }
        dialog.sees("");
    }
}

#[test]
fn the_dot_makes_the_difference_between_lost_and_uncertain() {
    let mut dialog = in_body();
    dialog.close();
    let (verdicts, fault) = dialog.verdicts_and_fault();
    assert!(matches!(verdicts[..], [Verdict::Lost { phase: Phase::Body, .. }]));
    assert_eq!(fault, Fault { phase: Phase::Body, kind: FaultKind::Closed });

    let mut dialog = in_body();
    dialog.session.end_of_body(dialog.now);
    dialog.close();
    let (verdicts, _) = dialog.verdicts_and_fault();
    assert!(matches!(verdicts[..], [Verdict::Lost { phase: Phase::Body, .. }]));
    dialog.sees("");

    let mut dialog = in_body();
    dialog.body(b"");
    dialog.sees("\r\n.\r\n");
    dialog.close();
    let (verdicts, fault) = dialog.verdicts_and_fault();
    assert!(matches!(verdicts[..], [Verdict::Uncertain { .. }]));
    assert_eq!(fault.phase, Phase::Final);

    // Half a reply is none.
    let mut dialog = in_body();
    dialog.body(b"");
    dialog.say("250-2.0.0 OK\r\n250 2.0.");
    dialog.close();
    let (verdicts, _) = dialog.verdicts_and_fault();
    assert!(matches!(verdicts[..], [Verdict::Uncertain { .. }]));
}

#[test]
fn an_abandoned_body_ends_without_a_dot() {
    let mut dialog = in_body();
    dialog.session.body(b"never sent", dialog.now);
    dialog.session.abandon_body(dialog.now);
    dialog.sees("");
    assert!(matches!(dialog.verdicts()[..], [Verdict::Lost { phase: Phase::Local, .. }]));
    assert!(dialog.is_closed);

    let mut dialog = in_body();
    dialog.body(b"");
    dialog.session.abandon_body(dialog.now);
    dialog.say("250 ok\r\n");
    assert_eq!(dialog.verdicts(), [accepted("250 ok")]);
}

#[test]
fn quitting_in_the_middle_of_something() {
    let mut dialog = in_body();
    dialog.session.quit(dialog.now);
    assert!(matches!(dialog.verdicts()[..], [Verdict::Lost { phase: Phase::Body, .. }]));
    let mut dialog = in_body();
    dialog.body(b"");
    dialog.session.quit(dialog.now);
    assert!(matches!(dialog.verdicts()[..], [Verdict::Uncertain { .. }]));
    assert!(dialog.is_closed);
}

#[test]
fn a_421_decides_for_everybody_who_is_undecided() {
    let mut dialog = Dialog::ready(&["PIPELINING"]);
    dialog.begin(&["a@x.example", "b@x.example", "c@x.example"]);
    dialog.say("250 ok\r\n550 no a\r\n250 ok\r\n421 4.3.2 bye\r\n354 never read\r\n");
    let (verdicts, fault) = dialog.verdicts_and_fault();
    let busy = refused(Phase::Rcpt, "421 4.3.2 bye");
    assert_eq!(verdicts, [refused(Phase::Rcpt, "550 no a"), busy.clone(), busy]);
    assert_eq!(fault.kind, FaultKind::Refused(reply("421 4.3.2 bye")));
}

#[test]
fn replies_of_the_wrong_kind_lose_the_message() {
    for (says, phase) in [
        ("354 go\r\n", Phase::Mail),
        ("250 ok\r\n334 what\r\n", Phase::Rcpt),
        ("250 ok\r\n250 ok\r\n250 no 354\r\n", Phase::Data),
        ("250 ok\r\n250 ok\r\n334 no 354\r\n", Phase::Data),
        ("250 ok\r\n250 ok\r\nhello\r\n", Phase::Data),
        ("250-ok\r\n550 not\r\n", Phase::Mail),
    ] {
        let mut dialog = Dialog::ready(&["PIPELINING"]);
        dialog.begin(&["a@x.example"]);
        dialog.say(says);
        let (verdicts, fault) = dialog.verdicts_and_fault();
        assert!(matches!(&verdicts[..], [Verdict::Lost { phase: at, .. }] if *at == phase));
        assert!(fault.phase == phase && matches!(fault.kind, FaultKind::Protocol(_)), "{says}");
    }
    let mut dialog = in_body();
    dialog.body(b"");
    dialog.say("354 once more\r\n");
    let (verdicts, _) = dialog.verdicts_and_fault();
    assert!(matches!(verdicts[..], [Verdict::Uncertain { .. }]));
}

#[test]
fn a_reply_too_many_is_never_taken_for_another_commands() {
    // Behind the final reply: the report stands, the session does not.
    let mut dialog = in_body();
    dialog.body(b"");
    dialog.say("250 ok\r\n250 forged\r\n");
    let (verdicts, fault) = dialog.verdicts_and_fault();
    assert_eq!(verdicts, [accepted("250 ok")]);
    assert!(matches!(fault.kind, FaultKind::Protocol(_)));

    // While nothing goes on, and the driver begins before it has looked.
    let mut dialog = Dialog::ready(&[]);
    dialog.session.receive(b"250 forged\r\n", dialog.now);
    assert!(!dialog.session.is_idle());
    dialog.begin(&["a@x.example"]);
    let (verdicts, _) = dialog.verdicts_and_fault();
    assert!(matches!(verdicts[..], [Verdict::Lost { phase: Phase::Mail, .. }]));

    // Begun before the transaction, ended after it: MAIL is never handed out.
    let mut dialog = Dialog::ready(&[]);
    dialog.say("250 for");
    assert!(!dialog.session.is_idle());
    dialog.begin(&["a@x.example"]);
    dialog.sees("");
    dialog.say("ged\r\n");
    let (verdicts, _) = dialog.verdicts_and_fault();
    assert!(matches!(verdicts[..], [Verdict::Lost { phase: Phase::Mail, .. }]));
    dialog.sees("");

    // Between two commands.
    let mut dialog = Dialog::ready(&[]);
    dialog.begin(&["a@x.example"]);
    dialog.say("250 ok\r\n250 forged\r\n");
    dialog.sees(MAIL);
    let (verdicts, _) = dialog.verdicts_and_fault();
    assert!(matches!(verdicts[..], [Verdict::Lost { phase: Phase::Rcpt, .. }]));
}

#[test]
fn whether_upstream_is_still_there() {
    let mut dialog = Dialog::ready(&[]);
    dialog.session.check_alive(dialog.now);
    dialog.sees("NOOP\r\n");
    dialog.say("250 ok\r\n");
    assert_eq!(dialog.event(), ClientEvent::Idle);
    assert!(dialog.session.is_idle());
    dialog.session.check_alive(dialog.now);
    dialog.say("554 no\r\n");
    assert!(matches!(dialog.fault().kind, FaultKind::Refused(_)));
    dialog.begin(&["a@x.example"]);
    assert!(matches!(dialog.verdicts()[..], [Verdict::Lost { phase: Phase::Mail, .. }]));
}

#[test]
fn deadlines_of_rfc_5321() {
    let mut patience = Vec::new();
    let mut measure = |dialog: &mut Dialog| {
        dialog.pump();
        patience.push(dialog.session.deadline().unwrap() - dialog.now);
    };
    let mut dialog = Dialog::new(ClientTls::StartTls);
    measure(&mut dialog);
    dialog.say("220 a\r\n");
    measure(&mut dialog);
    dialog.say(ehlo_answer(&["STARTTLS"]));
    measure(&mut dialog);
    dialog.say("220 go\r\n");
    measure(&mut dialog);
    dialog.session.tls_started(dialog.now);
    dialog.say(ehlo_answer(&["AUTH XOAUTH2"]));
    dialog.authenticate(long_blob(), "XOAUTH2");
    measure(&mut dialog);
    dialog.say("334 \r\n");
    dialog.say("235 ok\r\n");
    assert_eq!(dialog.session.deadline(), None, "nothing is going on");
    dialog.begin(&["a@x.example"]);
    measure(&mut dialog);
    dialog.say("250 ok\r\n");
    measure(&mut dialog);
    dialog.say("250 ok\r\n");
    measure(&mut dialog);
    dialog.say("354 ok\r\n");
    assert_eq!(dialog.session.deadline(), None, "it is our turn");
    dialog.session.body(b"x", dialog.now);
    patience.push(dialog.session.deadline().unwrap() - dialog.now);
    dialog.pump();
    assert_eq!(dialog.session.deadline(), None, "it has taken what we had");
    dialog.body(b"");
    patience.push(dialog.session.deadline().unwrap() - dialog.now);
    let expected = [
        limits::CLIENT_GREETING,
        limits::CLIENT_COMMAND,
        limits::CLIENT_COMMAND,
        limits::CLIENT_CONNECT,
        limits::CLIENT_COMMAND,
        limits::CLIENT_ENVELOPE,
        limits::CLIENT_ENVELOPE,
        limits::CLIENT_DATA,
        limits::CLIENT_BODY,
        limits::CLIENT_FINAL,
    ];
    assert_eq!(patience, expected);
}

#[test]
fn bytes_that_trickle_do_not_move_the_deadline() {
    let mut dialog = in_body();
    dialog.body(b"");
    let deadline = dialog.session.deadline();
    for _ in 0..100 {
        dialog.now += Duration::from_secs(1);
        dialog.say("2");
        assert_eq!(dialog.session.deadline(), deadline);
    }
    // Nor is there none while upstream says half of something that nobody asked for.
    let mut dialog = Dialog::ready(&[]);
    dialog.say("2");
    assert!(dialog.session.deadline().is_some());
    dialog.time_out();
    assert_eq!(dialog.fault().kind, FaultKind::TimedOut);
}
