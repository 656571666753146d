//! Properties of the whole core, and what its driver relies on. The dialogs themselves are in
//! `tests/dialogs`.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::base::limits;
use crate::mail::EnhancedCode;
use crate::smtp::{Reply, Step};

fn settings() -> ServerSettings {
    ServerSettings {
        hostname: "relay.example".to_owned(),
        max_message_octets: 100,
        starttls: true,
        tls_active: false,
        require_tls: false,
        auth: AuthOffer::Plaintext,
        require_auth: false,
        bare_newline: BareNewline::Normalize,
    }
}

fn reply(code: u16, text: &str) -> Reply {
    let class = u8::try_from(code / 100).unwrap();
    Reply::new(code, EnhancedCode::new(class, 0, 0), text)
}

/// Everything that came out of a session.
#[derive(Debug, Default, PartialEq, Eq)]
struct Record {
    output: Vec<u8>,
    /// Bodies are joined: how they are cut depends on how they came.
    events: Vec<ServerEvent>,
    handshakes: usize,
    end: Option<SessionEnd>,
}

/// A driver whose answers depend on the events alone.
struct Driver {
    session: ServerSession,
    now: Instant,
    record: Record,
    is_closed: bool,
}

impl Driver {
    fn new(settings: ServerSettings) -> Self {
        let now = Instant::now();
        let session = ServerSession::new(settings, now);
        let mut driver = Self { session, now, record: Record::default(), is_closed: false };
        driver.settle();
        driver
    }

    fn send(&mut self, bytes: &[u8]) {
        self.session.receive(bytes, self.now);
        self.settle();
    }

    fn settle(&mut self) {
        while !self.is_closed {
            match self.session.next(self.now) {
                Step::Read => return,
                Step::Write(bytes) => {
                    assert!(!bytes.is_empty());
                    self.record.output.extend_from_slice(&bytes);
                }
                Step::StartTls => {
                    self.record.handshakes += 1;
                    self.session.tls_started(self.now);
                }
                Step::Close => {
                    self.is_closed = true;
                    self.record.end = self.session.ended_by();
                }
                Step::Event(event) => self.take(event),
            }
        }
    }

    fn take(&mut self, event: ServerEvent) {
        let answer = match &event {
            ServerEvent::Authenticate { password, .. } => {
                Some(if password.expose() == "secret" { 235 } else { 535 })
            }
            ServerEvent::Mail { .. } | ServerEvent::EndOfData => Some(250),
            ServerEvent::Recipient { forward_path } => {
                Some(if forward_path.as_str().starts_with('r') { 550 } else { 250 })
            }
            ServerEvent::Data => Some(354),
            ServerEvent::Hello { .. } | ServerEvent::Body(_) | ServerEvent::Reset => None,
        };
        match (self.record.events.last_mut(), event) {
            (Some(ServerEvent::Body(body)), ServerEvent::Body(chunk)) => {
                *body = [&body[..], &chunk].concat().into();
            }
            (_, event) => self.record.events.push(event),
        }
        match answer {
            Some(354) => self.session.answer(Reply::plain(354, "Go on"), self.now),
            Some(code) => self.session.answer(reply(code, "Answer"), self.now),
            None => {}
        }
    }

    fn output(&self) -> String {
        String::from_utf8(self.record.output.clone()).unwrap()
    }
}

/// Commands whose reply the client has to wait for, with what it sends then.
const SYNCHRONOUS: &[&[&[u8]]] = &[
    &[b""],
    &[b"DATA\r\n", b"text\r\n.\r\n"],
    &[b"DATA\r\n"],
    &[b"STARTTLS\r\n"],
    &[b"AUTH PLAIN\r\n", b"AHVzZXIAc2VjcmV0\r\n"],
    &[b"AUTH LOGIN\r\n", b"dXNlcg\r\n", b"c2VjcmV0\r\n"],
    &[b"AUTH LOGIN\r\n", b"*\r\n"],
];

/// What a client sends at once. Only its last command may be one whose reply it has to wait for.
fn flights() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let piece = prop::sample::select(vec![
        &b"EHLO client.example\r\n"[..],
        b"HELO client.example\r\n",
        b"MAIL FROM:<a@b.example>\r\n",
        b"MAIL FROM:<a@b.example>\r\n",
        b"MAIL FROM:<a@b.example> SIZE=101\r\n",
        b"RCPT TO:<c@d.example>\r\n",
        b"RCPT TO:<c@d.example>\r\n",
        b"RCPT TO:<r@d.example>\r\n",
        b"RSET\r\n",
        b"NOOP\n",
        b"BOGUS \xff\r\n",
        b"NOOP\0\r\n",
        b"AUTH PLAIN AHVzZXIAc2VjcmV0\r\n",
        b"AUTH PLAIN AHVzZXIAd3Jvbmc=\r\n",
        b"AUTH PLAIN !\r\n",
        b"QUIT\r\n",
        b"text\r\n",
        b"..stuffed\r\n",
        b"\n.\n",
        b"\r\n.\r\n",
        b".\r\n",
        b"\r",
        b"0123456789012345678901234567890123456789012345678901234567890123456789\r\n",
    ]);
    let sync = prop::sample::select(SYNCHRONOUS);
    let group = (prop::collection::vec(piece, 0..6), sync).prop_map(|(pieces, sync)| {
        let mut flights: Vec<Vec<u8>> = sync.iter().map(|flight| flight.to_vec()).collect();
        let mut first = pieces.concat();
        // A piece of a line would swallow the command that has to end the flight.
        if !first.is_empty() && !first.ends_with(b"\n") {
            first.extend_from_slice(b"\r\n");
        }
        first.extend_from_slice(&flights[0]);
        flights[0] = first;
        flights
    });
    let start = Just(vec![b"EHLO client.example\r\n".to_vec()]);
    (start, prop::collection::vec(group, 1..6))
        .prop_map(|(start, groups)| start.into_iter().chain(groups.concat()).collect())
}

fn run(flights: &[Vec<u8>], mode: BareNewline, cuts: &[usize]) -> Record {
    let mut driver = Driver::new(ServerSettings { bare_newline: mode, ..settings() });
    let mut cuts = cuts.iter().copied().cycle();
    for flight in flights {
        let mut rest = &flight[..];
        while !rest.is_empty() {
            let size = cuts.next().unwrap_or(rest.len()).clamp(1, rest.len());
            driver.send(&rest[..size]);
            rest = &rest[size..];
        }
    }
    driver.session.receive_end(driver.now);
    driver.settle();
    assert!(driver.is_closed);
    driver.record
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events_and_output(
        flights in flights(),
        cuts in prop::collection::vec(1_usize..20, 1..20),
        mode in prop::sample::select(vec![BareNewline::Normalize, BareNewline::Reject]),
    ) {
        let whole = run(&flights, mode, &[]);
        prop_assert_eq!(&run(&flights, mode, &cuts), &whole);
        prop_assert_eq!(&run(&flights, mode, &[1]), &whole);
    }

    #[test]
    fn every_transaction_ends_exactly_once(flights in flights()) {
        let record = run(&flights, BareNewline::Normalize, &[]);
        let mut is_open = false;
        for event in &record.events {
            match event {
                ServerEvent::Mail { .. } => {
                    prop_assert!(!is_open, "{:?}", record.events);
                    is_open = true;
                }
                ServerEvent::EndOfData | ServerEvent::Reset => {
                    prop_assert!(is_open, "{:?}", record.events);
                    is_open = false;
                }
                ServerEvent::Recipient { .. } | ServerEvent::Data | ServerEvent::Body(_) => {
                    prop_assert!(is_open, "{:?}", record.events);
                }
                ServerEvent::Hello { .. } | ServerEvent::Authenticate { .. } => {}
            }
        }
        prop_assert!(!is_open, "{:?}", record.events);
    }

    #[test]
    fn garbage_is_answered_and_never_a_panic(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
    ) {
        let record = run(&pieces, BareNewline::Normalize, &[]);
        prop_assert!(record.output.starts_with(b"220 ") && record.output.ends_with(b"\r\n"));
        prop_assert!(!record.events.contains(&ServerEvent::EndOfData));
    }
}

#[test]
fn what_is_due_is_written_before_the_driver_goes_to_work() {
    let now = Instant::now();
    let mut session = ServerSession::new(settings(), now);
    session.receive(b"HELO x\r\nAUTH PLAIN AHVzZXIAc2VjcmV0\r\n", now);
    assert!(matches!(session.next(now), Step::Event(ServerEvent::Hello { .. })));
    match session.next(now) {
        Step::Write(bytes) => assert!(bytes.ends_with(b"250 relay.example\r\n")),
        other => panic!("{other:?}"),
    }
    assert!(matches!(session.next(now), Step::Event(ServerEvent::Authenticate { .. })));
    assert_eq!(session.deadline(), None, "it is not the client's turn");
    assert!(matches!(session.next(now), Step::Read));
    session.answer(reply(235, "Welcome"), now);
    assert!(session.is_authenticated());
    assert!(matches!(session.next(now), Step::Write(_)));
    assert!(matches!(session.next(now), Step::Read));
    assert_eq!(session.deadline(), Some(now + limits::SERVER_IDLE));
}

#[test]
fn a_session_can_be_refused_instead_of_greeted() {
    let now = Instant::now();
    let mut session = ServerSession::new(settings(), now);
    session.close_with(reply(421, "Too many sessions"), now);
    match session.next(now) {
        Step::Write(bytes) => assert_eq!(&bytes[..], b"421 4.0.0 Too many sessions\r\n"),
        other => panic!("{other:?}"),
    }
    session.receive(b"NOOP\r\n", now);
    assert!(matches!(session.next(now), Step::Close));
    assert!(matches!(session.next(now), Step::Close));
    assert_eq!(session.ended_by(), Some(SessionEnd::Told));
}

#[test]
fn closing_while_a_question_is_open_leaves_no_transaction_behind() {
    const ENVELOPE: &[u8] = b"HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\n";
    let ended = |driver: &Driver| {
        let is_end =
            |event: &&ServerEvent| matches!(event, ServerEvent::Reset | ServerEvent::EndOfData);
        driver.record.events.iter().filter(is_end).cloned().collect::<Vec<_>>()
    };

    // The verdict is asked for, but the driver has not heard the question yet.
    let mut driver = Driver::new(settings());
    driver.send(ENVELOPE);
    driver.session.receive(b"DATA\r\n", driver.now);
    while !matches!(driver.session.next(driver.now), Step::Event(ServerEvent::Data)) {}
    driver.session.receive(b".\r\n", driver.now);
    driver.session.answer(Reply::plain(354, "Go on"), driver.now);
    assert!(matches!(driver.session.next(driver.now), Step::Write(_)));
    driver.session.close_with(reply(421, "Going down"), driver.now);
    driver.settle();
    assert_eq!(ended(&driver), [ServerEvent::Reset]);

    // The driver has heard it: it knows that the transaction is over.
    let mut driver = Driver::new(settings());
    driver.send(ENVELOPE);
    driver.send(b"DATA\r\n");
    driver.session.receive(b".\r\n", driver.now);
    assert!(matches!(driver.session.next(driver.now), Step::Event(ServerEvent::EndOfData)));
    driver.session.close_with(reply(421, "Going down"), driver.now);
    driver.session.answer(reply(250, "Too late"), driver.now);
    driver.settle();
    assert_eq!(ended(&driver), []);
    assert!(driver.output().ends_with("421 4.0.0 Going down\r\n"));
}

#[test]
fn nothing_that_came_before_tls_is_interpreted_after_it() {
    let now = Instant::now();
    let mut session = ServerSession::new(settings(), now);
    session.receive(b"EHLO x\r\nSTARTTLS\r\n", now);
    while !matches!(session.next(now), Step::StartTls) {}
    // A driver that reads once too often.
    session.receive(b"MAIL FROM:<evil@b.example>\r\n", now);
    assert!(matches!(session.next(now), Step::Close));
    assert_eq!(session.ended_by(), Some(SessionEnd::NotWaiting));
}

#[test]
fn there_is_no_deadline_while_the_driver_works_and_a_new_one_for_each_command() {
    let mut driver = Driver::new(settings());
    let start = driver.now;
    assert_eq!(driver.session.deadline(), Some(start + limits::SERVER_IDLE));
    driver.now += Duration::from_secs(100);
    driver.send(b"NO");
    assert_eq!(driver.session.deadline(), Some(start + limits::SERVER_IDLE));
    driver.send(b"OP\r\n");
    assert_eq!(driver.session.deadline(), Some(driver.now + limits::SERVER_IDLE));
    driver.session.tick(driver.now);
    assert!(!driver.is_closed, "a tick before the deadline does nothing");
    driver.now += limits::SERVER_IDLE;
    driver.session.tick(driver.now);
    driver.settle();
    assert_eq!(driver.record.end, Some(SessionEnd::TimedOut));
}

#[test]
fn passwords_do_not_show_in_debug_output() {
    let now = Instant::now();
    let mut session = ServerSession::new(settings(), now);
    session.receive(b"HELO x\r\nAUTH LOGIN dXNlcg==\r\n", now);
    while !matches!(session.next(now), Step::Read) {}
    session.receive(b"c2VjcmV0\r\n", now);
    loop {
        match session.next(now) {
            Step::Event(event) => {
                let shown = format!("{event:?} {session:?}");
                assert!(!shown.contains("secret\"") && !shown.contains("c2VjcmV0"), "{shown}");
                break;
            }
            Step::Write(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
