//! However the bytes of a server are cut, the same is said and the same happens.

use proptest::prelude::*;

use super::*;

/// What a server says to one command.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Right,
    Transient,
    Permanent,
    LongWinded,
    Wrong,
    Closing,
    Garbage,
    TooMuch,
}

fn reply_to(line: &str, manner: Manner) -> String {
    let right = match line.split([' ', ':']).next().unwrap_or_default() {
        "greeting" => 220,
        "EHLO" if matches!(manner, Manner::Right | Manner::LongWinded) => {
            return ehlo_answer(&["PIPELINING", "STARTTLS", "AUTH XOAUTH2", "SIZE 5000"]);
        }
        "STARTTLS" => 220,
        "AUTH" => 334,
        "DATA" => 354,
        "blob" => 235,
        "QUIT" => 221,
        _ => 250,
    };
    match manner {
        Manner::Right => format!("{right} 2.0.0 fine\r\n"),
        Manner::Transient => "451 4.3.0 not now\r\n".to_owned(),
        Manner::Permanent => "550 5.1.1 never\r\n".to_owned(),
        Manner::LongWinded => format!("{right}-one\r\n{right}-two\r\n{right} three\r\n"),
        Manner::Wrong => "399 what\r\n".to_owned(),
        Manner::Closing => "421 4.3.2 bye\r\n".to_owned(),
        Manner::Garbage => "oh dear\r\n".to_owned(),
        Manner::TooMuch => format!("{right} a\r\n250 b\r\n"),
    }
}

/// Plays a whole session and notes everything that either side could notice.
fn play(manners: &[Manner], cuts: &[usize], recipients: &[&str], body: &[u8]) -> Vec<String> {
    let now = Instant::now();
    let settings =
        ClientSettings { ehlo_name: "relay.example".to_owned(), tls: ClientTls::StartTls };
    let mut session = ClientSession::new(settings, now);
    let mut manners = manners.iter().copied();
    let mut cuts = cuts.iter().copied().cycle();
    let mut log = Vec::new();
    let mut asked = vec!["greeting".to_owned()];
    let mut in_body = false;
    let mut messages = 2;
    for _ in 0..500 {
        match session.next(now) {
            Step::Event(event) => {
                log.push(format!("{event:?}"));
                match event {
                    ClientEvent::Ready => session.authenticate(long_blob(), "XOAUTH2", now),
                    ClientEvent::Authenticated | ClientEvent::Finished(_) if messages > 0 => {
                        messages -= 1;
                        session.begin(message(recipients), now);
                    }
                    ClientEvent::Authenticated
                    | ClientEvent::Finished(_)
                    | ClientEvent::AuthenticationRefused { .. } => session.quit(now),
                    ClientEvent::WantBody => {
                        in_body = true;
                        session.body(body, now);
                        session.end_of_body(now);
                    }
                    ClientEvent::Idle | ClientEvent::Broken(_) => {}
                }
            }
            Step::Write(bytes) => {
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                match in_body || text == ".\r\n" {
                    true => asked.push("dot".to_owned()),
                    false if text.starts_with("TG9u") => asked.push("blob".to_owned()),
                    false => asked.extend(text.lines().map(str::to_owned)),
                }
                in_body = false;
                log.push(text);
            }
            Step::StartTls => session.tls_started(now),
            Step::Close => {
                log.push("closed".to_owned());
                return log;
            }
            Step::Read if asked.is_empty() => session.receive_end(now),
            Step::Read => {
                let answers: Vec<_> = asked
                    .drain(..)
                    .map(|line| reply_to(&line, manners.next().unwrap_or(Manner::Right)))
                    .collect();
                let answers = answers.concat();
                let mut rest = answers.as_bytes();
                while !rest.is_empty() {
                    let cut = cuts.next().unwrap_or(1).clamp(1, rest.len());
                    let (piece, after) = rest.split_at(cut);
                    session.receive(piece, now);
                    rest = after;
                }
            }
        }
    }
    panic!("no end: {log:?}");
}

fn manner() -> impl Strategy<Value = Manner> {
    prop_oneof![
        12 => Just(Manner::Right),
        2 => Just(Manner::LongWinded),
        1 => Just(Manner::Transient),
        1 => Just(Manner::Permanent),
        1 => prop::sample::select(vec![
            Manner::Wrong, Manner::Closing, Manner::Garbage, Manner::TooMuch,
        ]),
    ]
}

proptest! {
    #[test]
    fn any_cut_of_the_servers_bytes_gives_the_same(
        manners in prop::collection::vec(manner(), 0..24),
        cuts in prop::collection::vec(1usize..40, 1..20),
        recipients in 1usize..4,
    ) {
        let recipients = &["a@x.example", "b@x.example", "c@x.example"][..recipients];
        let whole = play(&manners, &[usize::MAX], recipients, b"x\r\n.y\r\n");
        prop_assert_eq!(&play(&manners, &cuts, recipients, b"x\r\n.y\r\n"), &whole);
        prop_assert_eq!(&play(&manners, &[1], recipients, b"x\r\n.y\r\n"), &whole);
        // One report for each message that was begun, one verdict for each recipient.
        let begun = whole.iter().filter(|line| line.contains("MAIL FROM")).count();
        let reports: Vec<_> =
            whole.iter().filter(|line| line.starts_with("Finished")).collect();
        prop_assert!(reports.len() >= begun, "{:?}", whole);
    }
}
