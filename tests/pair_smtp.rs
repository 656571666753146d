//! The two session cores against each other, in memory, with a clock that the tests own.
//!
//! What one writes the other reads, in pieces of any size, until a connection is cut or somebody
//! falls silent. However it ends: a message that arrived is the message that was sent, and a verdict
//! never says that a message was taken when it was not, nor that it was lost when it was taken.

use std::collections::VecDeque;
use std::time::Instant;

use mailbearer::mail::{BodyType, EnhancedCode, Envelope, ForwardPath, Phase, ReversePath};
use mailbearer::smtp::client::{
    ClientEvent, ClientSession, ClientSettings, ClientTls, Fault, Transaction, Verdict,
};
use mailbearer::smtp::server::{
    AuthOffer, BareNewline, ServerEvent, ServerSession, ServerSettings,
};
use mailbearer::smtp::{Reply, Step};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// One message, and what the server's policy thinks of it.
#[derive(Clone, Debug)]
struct Message {
    body: Vec<u8>,
    takes_mail: bool,
    takes_recipients: Vec<bool>,
    takes_data: bool,
    takes_body: bool,
}

impl Message {
    fn welcome(body: &[u8], recipients: usize) -> Self {
        Self {
            body: body.to_vec(),
            takes_mail: true,
            takes_recipients: vec![true; recipients],
            takes_data: true,
            takes_body: true,
        }
    }

    /// The n-th of a session; its number is in every address.
    fn transaction(&self, n: usize) -> Transaction {
        let recipients = 0..self.takes_recipients.len();
        Transaction {
            envelope: Envelope {
                reverse_path: ReversePath::parse(&format!("from{n}@a.example")).unwrap(),
                forward_paths: recipients
                    .map(|to| ForwardPath::parse(&format!("to{to}.{n}@b.example")).unwrap())
                    .collect(),
                body: BodyType::EightBitMime,
                smtputf8: false,
            },
            size: self.body.len() as u64,
        }
    }

    /// What has to arrive: CRLF at the end, and every CR and LF that stands alone made one.
    fn expected_body(&self) -> Vec<u8> {
        let mut sent = self.body.clone();
        if !sent.is_empty() && !sent.ends_with(b"\r\n") {
            sent.extend_from_slice(b"\r\n");
        }
        let mut canonical = Vec::new();
        let mut rest = &sent[..];
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match byte {
                b'\r' => {
                    rest = rest.strip_prefix(b"\n").unwrap_or(rest);
                    canonical.extend_from_slice(b"\r\n");
                }
                b'\n' => canonical.extend_from_slice(b"\r\n"),
                _ => canonical.push(byte),
            }
        }
        canonical
    }

    /// The verdict on a recipient when nothing breaks.
    fn is_right(&self, recipient: usize, verdict: &Verdict) -> bool {
        let expected = match () {
            () if !self.takes_mail => Some(Phase::Mail),
            () if !self.takes_recipients[recipient] => Some(Phase::Rcpt),
            () if !self.takes_data => Some(Phase::Data),
            () if !self.takes_body => Some(Phase::Final),
            () => None,
        };
        match verdict {
            Verdict::Accepted(reply) => expected.is_none() && reply.code() == 250,
            Verdict::Refused { phase, reply } => expected == Some(*phase) && reply.code() == 550,
            Verdict::Lost { .. } | Verdict::Uncertain { .. } => false,
        }
    }
}

/// How a session is to go.
#[derive(Clone, Debug)]
struct Course {
    messages: Vec<Message>,
    /// The server announces PIPELINING.
    is_pipelining: bool,
    /// Octets of one read, of either side.
    read_octets: usize,
    /// Octets of one call of `body`.
    body_octets: usize,
    /// The connection breaks when so many octets have come to the server.
    cut_to_server: Option<usize>,
    /// The connection breaks when so many octets have come to the client.
    cut_to_client: Option<usize>,
    /// The server's policy falls silent after so many answers.
    mute_after: Option<usize>,
}

impl Course {
    fn of(messages: Vec<Message>) -> Self {
        Self {
            messages,
            is_pipelining: true,
            read_octets: usize::MAX,
            body_octets: usize::MAX,
            cut_to_server: None,
            cut_to_client: None,
            mute_after: None,
        }
    }
}

/// A message that the server has said 250 to.
#[derive(Debug)]
struct Received {
    number: usize,
    forward_paths: Vec<String>,
    body: Vec<u8>,
}

/// What came of it.
#[derive(Debug, Default)]
struct Outcome {
    begun: usize,
    /// Of each message that was begun.
    verdicts: Vec<Vec<Verdict>>,
    received: Vec<Received>,
    fault: Option<Fault>,
    to_server_octets: usize,
    to_client_octets: usize,
}

impl Outcome {
    /// The promise that has to hold however a session ends.
    fn assert_honest(&self, course: &Course) {
        assert_eq!(self.verdicts.len(), self.begun, "a report for every message: {course:?}");
        for (n, verdicts) in self.verdicts.iter().enumerate() {
            assert_eq!(verdicts.len(), course.messages[n].takes_recipients.len());
            let mut received = self.received.iter().filter(|one| one.number == n);
            let arrived = received.next();
            assert!(received.next().is_none(), "received twice: {course:?}");
            if let Some(arrived) = arrived {
                assert_eq!(arrived.body, course.messages[n].expected_body(), "{course:?}");
            }
            for (recipient, verdict) in verdicts.iter().enumerate() {
                let address = format!("to{recipient}.{n}@b.example");
                let has_it = arrived.is_some_and(|one| one.forward_paths.contains(&address));
                match verdict {
                    Verdict::Accepted(_) => assert!(has_it, "{verdict:?} {course:?}"),
                    Verdict::Refused { .. } | Verdict::Lost { .. } => {
                        assert!(!has_it, "{verdict:?} {course:?}");
                    }
                    Verdict::Uncertain { .. } => {}
                }
            }
        }
    }
}

/// One direction of the connection.
#[derive(Default)]
struct Wire {
    bytes: VecDeque<u8>,
    delivered: usize,
    cut_after: Option<usize>,
    has_ended: bool,
    end_was_told: bool,
}

impl Wire {
    fn put(&mut self, bytes: &[u8]) {
        if !self.has_ended {
            self.bytes.extend(bytes);
        }
    }

    /// The next read; `None` says that there is nothing now.
    fn take(&mut self, octets: usize) -> Option<Vec<u8>> {
        let room = self.cut_after.map_or(usize::MAX, |cut| cut - self.delivered);
        let octets = octets.min(self.bytes.len()).min(room);
        self.delivered += octets;
        (octets > 0).then(|| self.bytes.drain(..octets).collect())
    }

    fn is_cut(&self) -> bool {
        self.cut_after == Some(self.delivered)
    }

    /// No more comes; what is on its way arrives, unless the cut was in this direction.
    fn end(&mut self) {
        self.has_ended = true;
        if self.is_cut() {
            self.bytes.clear();
        }
    }

    /// True once, when the reader has got everything there was.
    fn tells_end(&mut self) -> bool {
        let tells = self.has_ended && self.bytes.is_empty() && !self.end_was_told;
        self.end_was_told |= tells;
        tells
    }
}

/// The driver of the client.
struct Sender<'a> {
    core: ClientSession,
    course: &'a Course,
    left: &'a [u8],
    is_closed: bool,
    wants_tls: bool,
}

impl<'a> Sender<'a> {
    fn new(course: &'a Course, now: Instant) -> Self {
        let settings =
            ClientSettings { ehlo_name: "client.example".to_owned(), tls: ClientTls::StartTls };
        let core = ClientSession::new(settings, now);
        Self { core, course, left: &[], is_closed: false, wants_tls: false }
    }

    /// True if something happened.
    fn step(&mut self, now: Instant, from: &mut Wire, to: &mut Wire, out: &mut Outcome) -> bool {
        if self.is_closed || self.wants_tls {
            return false;
        }
        match self.core.next(now) {
            Step::Event(event) => self.take_event(event, now, out),
            Step::Write(bytes) => to.put(&bytes),
            Step::Read if self.core.wants_body() && from.bytes.is_empty() && !from.has_ended => {
                let octets = self.course.body_octets.min(self.left.len());
                let (piece, left) = self.left.split_at(octets);
                self.left = left;
                match piece.is_empty() {
                    true => self.core.end_of_body(now),
                    false => self.core.body(piece, now),
                }
            }
            Step::Read => match from.take(self.course.read_octets) {
                Some(bytes) => self.core.receive(&bytes, now),
                None if from.tells_end() => self.core.receive_end(now),
                None => return false,
            },
            Step::StartTls => self.wants_tls = true,
            Step::Close => {
                self.is_closed = true;
                to.end();
            }
        }
        true
    }

    fn take_event(&mut self, event: ClientEvent, now: Instant, out: &mut Outcome) {
        match event {
            ClientEvent::Ready => self.begin(now, out),
            ClientEvent::Finished(report) => {
                out.verdicts.push(report.verdicts);
                if self.core.is_idle() {
                    self.begin(now, out);
                }
            }
            ClientEvent::WantBody => self.left = &self.course.messages[out.begun - 1].body,
            ClientEvent::Broken(fault) => out.fault = Some(fault),
            other => panic!("{other:?}"),
        }
    }

    fn begin(&mut self, now: Instant, out: &mut Outcome) {
        match self.course.messages.get(out.begun) {
            Some(message) => {
                self.core.begin(message.transaction(out.begun), now);
                out.begun += 1;
            }
            None => self.core.quit(now),
        }
    }
}

/// The driver of the server, with its policy.
struct Receiver<'a> {
    core: ServerSession,
    course: &'a Course,
    answers: usize,
    current: Received,
    recipients_asked: usize,
    is_closed: bool,
    wants_tls: bool,
}

impl<'a> Receiver<'a> {
    fn new(course: &'a Course, now: Instant) -> Self {
        let settings = ServerSettings {
            hostname: "server.example".to_owned(),
            max_message_octets: 1_000_000,
            starttls: true,
            tls_active: false,
            require_tls: true,
            auth: AuthOffer::Never,
            require_auth: false,
            bare_newline: BareNewline::Normalize,
        };
        Self {
            core: ServerSession::new(settings, now),
            course,
            answers: 0,
            current: Received { number: 0, forward_paths: vec![], body: vec![] },
            recipients_asked: 0,
            is_closed: false,
            wants_tls: false,
        }
    }

    /// True if something happened.
    fn step(&mut self, now: Instant, from: &mut Wire, to: &mut Wire, out: &mut Outcome) -> bool {
        if self.is_closed || self.wants_tls {
            return false;
        }
        match self.core.next(now) {
            Step::Event(event) => self.take_event(event, now, out),
            Step::Write(bytes) => {
                let text = String::from_utf8(bytes.to_vec()).unwrap();
                let hidden = text.replace("PIPELINING", "X-NOTHINGS");
                to.put(if self.course.is_pipelining { &bytes } else { hidden.as_bytes() });
            }
            Step::Read => match from.take(self.course.read_octets) {
                Some(bytes) => self.core.receive(&bytes, now),
                None if from.tells_end() => self.core.receive_end(now),
                None => return false,
            },
            Step::StartTls => self.wants_tls = true,
            Step::Close => {
                self.is_closed = true;
                to.end();
            }
        }
        true
    }

    fn take_event(&mut self, event: ServerEvent, now: Instant, out: &mut Outcome) {
        let message = |number: usize| &self.course.messages[number];
        let mut received = None;
        let answer = match event {
            ServerEvent::Hello { .. } | ServerEvent::Reset => return,
            ServerEvent::Authenticate { .. } => panic!("nobody logs in"),
            ServerEvent::Mail { reverse_path, .. } => {
                let number = reverse_path.as_str().trim_start_matches("from");
                let number = number.split('@').next().unwrap().parse().unwrap();
                self.current = Received { number, forward_paths: vec![], body: vec![] };
                self.recipients_asked = 0;
                verdict(message(number).takes_mail, 250)
            }
            ServerEvent::Recipient { forward_path } => {
                let takes = message(self.current.number).takes_recipients[self.recipients_asked];
                self.recipients_asked += 1;
                if takes {
                    self.current.forward_paths.push(forward_path.as_str().to_owned());
                }
                verdict(takes, 250)
            }
            ServerEvent::Data => verdict(message(self.current.number).takes_data, 354),
            ServerEvent::Body(bytes) => return self.current.body.extend_from_slice(&bytes),
            ServerEvent::EndOfData => {
                let takes = message(self.current.number).takes_body;
                let Received { number, forward_paths, body } = &mut self.current;
                let (forward_paths, body) = (std::mem::take(forward_paths), std::mem::take(body));
                received = takes.then_some(Received { number: *number, forward_paths, body });
                verdict(takes, 250)
            }
        };
        // The server makes up its mind here; whether anybody hears of it is another matter.
        out.received.extend(received);
        if self.course.mute_after == Some(self.answers) {
            return;
        }
        self.answers += 1;
        self.core.answer(answer, now);
    }
}

fn verdict(takes: bool, code: u16) -> Reply {
    match (takes, code) {
        (true, 354) => Reply::plain(354, "go ahead"),
        (true, code) => Reply::new(code, EnhancedCode::new(2, 0, 0), "taken"),
        (false, _) => Reply::new(550, EnhancedCode::new(5, 7, 1), "refused"),
    }
}

fn run(course: &Course) -> Outcome {
    let mut now = Instant::now();
    let mut out = Outcome::default();
    let mut to_server = Wire { cut_after: course.cut_to_server, ..Wire::default() };
    let mut to_client = Wire { cut_after: course.cut_to_client, ..Wire::default() };
    let mut sender = Sender::new(course, now);
    let mut receiver = Receiver::new(course, now);
    let mut steps = 0_usize;
    while !(sender.is_closed && receiver.is_closed) {
        steps += 1;
        assert!(steps < 3_000_000, "no end: {course:?}");
        let mut happened = sender.step(now, &mut to_client, &mut to_server, &mut out);
        happened |= receiver.step(now, &mut to_server, &mut to_client, &mut out);
        if to_server.is_cut() || to_client.is_cut() {
            to_server.end();
            to_client.end();
        }
        if happened {
            continue;
        }
        if sender.wants_tls && receiver.wants_tls {
            sender.core.tls_started(now);
            receiver.core.tls_started(now);
            (sender.wants_tls, receiver.wants_tls) = (false, false);
        } else if to_server.has_ended || to_client.has_ended {
            // A handshake that is over because the peer is gone, or a policy that is silent for ever.
            sender.core.receive_end(now);
            sender.wants_tls = false;
            receiver.is_closed |= sender.is_closed || receiver.wants_tls;
        } else {
            // Nobody has anything to say: time passes.
            let deadlines = [sender.core.deadline(), receiver.core.deadline()];
            now = deadlines.into_iter().flatten().min().expect("somebody waits for somebody");
            sender.core.tick(now);
            receiver.core.tick(now);
        }
    }
    out.to_server_octets = to_server.delivered;
    out.to_client_octets = to_client.delivered;
    out.assert_honest(course);
    out
}

/// A session with a bit of everything.
fn sample() -> Vec<Message> {
    let refused = |change: fn(&mut Message)| {
        let mut message = Message::welcome(b"Subject: no\r\n\r\n.\r\n", 2);
        change(&mut message);
        message
    };
    vec![
        Message::welcome(b"Subject: one\r\n\r\n.\r\n..\r\nend", 1),
        refused(|message| message.takes_recipients[0] = false),
        refused(|message| message.takes_recipients.fill(false)),
        refused(|message| message.takes_mail = false),
        Message::welcome(b"", 3),
        refused(|message| message.takes_data = false),
        refused(|message| message.takes_body = false),
        Message::welcome(b".", 2),
    ]
}

#[test]
fn every_kind_of_message_in_one_session() {
    for is_pipelining in [false, true] {
        for read_octets in [1, 2, 7, usize::MAX] {
            let course =
                Course { is_pipelining, read_octets, body_octets: 3, ..Course::of(sample()) };
            let out = run(&course);
            assert_eq!(out.fault, None);
            assert_eq!(out.begun, course.messages.len());
            assert_eq!(out.received.len(), 4);
            for (message, verdicts) in course.messages.iter().zip(&out.verdicts) {
                for (recipient, verdict) in verdicts.iter().enumerate() {
                    assert!(message.is_right(recipient, verdict), "{verdict:?} {message:?}");
                }
            }
        }
    }
}

#[test]
fn more_recipients_than_one_group_holds() {
    let mut message = Message::welcome(b"x\r\n", 300);
    message.takes_recipients.iter_mut().step_by(3).for_each(|takes| *takes = false);
    let out = run(&Course::of(vec![message.clone()]));
    assert_eq!(out.received[0].forward_paths.len(), 200);
    for (recipient, verdict) in out.verdicts[0].iter().enumerate() {
        assert!(message.is_right(recipient, verdict));
    }
}

#[test]
fn a_cut_at_every_octet_of_either_direction() {
    let (mut runs, mut lost, mut uncertain) = (0, 0, 0);
    for is_pipelining in [false, true] {
        // A write that is read in one piece and one that is read octet by octet are cut differently.
        for read_octets in [1, usize::MAX] {
            let course = Course { is_pipelining, read_octets, ..Course::of(sample()) };
            let whole = run(&course);
            let to_server = (0..whole.to_server_octets)
                .map(|cut| Course { cut_to_server: Some(cut), ..course.clone() });
            let to_client = (0..whole.to_client_octets)
                .map(|cut| Course { cut_to_client: Some(cut), ..course.clone() });
            for course in to_server.chain(to_client) {
                let out = run(&course);
                runs += 1;
                for verdict in out.verdicts.iter().flatten() {
                    lost += usize::from(matches!(verdict, Verdict::Lost { .. }));
                    uncertain += usize::from(matches!(verdict, Verdict::Uncertain { .. }));
                }
            }
        }
    }
    println!("cuts: {runs} sessions, {lost} verdicts lost, {uncertain} uncertain");
    assert!(runs > 4_000 && lost > 100 && uncertain > 100, "{runs} {lost} {uncertain}");
}

#[test]
fn silence_at_every_answer() {
    for is_pipelining in [false, true] {
        let mut faults = 0;
        for answers in 0.. {
            let course = Course::of(sample());
            let course = Course { is_pipelining, mute_after: Some(answers), ..course };
            match run(&course).fault {
                Some(_) => faults += 1,
                None => break,
            }
        }
        println!("silence: {faults} sessions");
        assert!(faults > 20, "{faults}");
    }
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let dots = vec![".", "..", "\r\n", "\r\n.", "\r\n.\r\n", "\r\n..\r\n", "\r\n\r\n"];
    let words = vec!["x", "Subject: hello", "Grüße", " ", "250 OK", "QUIT"];
    let bare = vec!["\r", "\n", "\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\r\n"];
    let fragment = prop_oneof![
        4 => prop::sample::select(dots),
        4 => prop::sample::select(words),
        2 => prop::sample::select(bare),
    ];
    let small = prop::collection::vec(fragment, 0..20).prop_map(|all| all.concat().into_bytes());
    let large = (1_usize..200_000, any::<u8>()).prop_map(|(length, seed)| {
        let lines = [b".a line\r\n".repeat(7), vec![b'x'; usize::from(seed)]].concat();
        lines.into_iter().cycle().take(length).collect()
    });
    prop_oneof![20 => small, 1 => large]
}

fn message() -> impl Strategy<Value = Message> {
    let mostly = || prop::bool::weighted(0.9);
    let recipients = prop::collection::vec(prop::bool::weighted(0.75), 1..6);
    (body(), mostly(), recipients, mostly(), mostly()).prop_map(
        |(body, takes_mail, takes_recipients, takes_data, takes_body)| Message {
            body,
            takes_mail,
            takes_recipients,
            takes_data,
            takes_body,
        },
    )
}

fn course() -> impl Strategy<Value = Course> {
    let read_octets = prop_oneof![Just(1), 2_usize..50, Just(usize::MAX)];
    let body_octets = prop_oneof![Just(1), 2_usize..5_000, Just(usize::MAX)];
    let messages = prop::collection::vec(message(), 1..4);
    (messages, any::<bool>(), read_octets, body_octets).prop_map(
        |(messages, is_pipelining, read_octets, body_octets)| Course {
            is_pipelining,
            read_octets,
            body_octets,
            ..Course::of(messages)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 192,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_arrives_is_what_was_sent(course in course()) {
        let out = run(&course);
        prop_assert_eq!(out.fault, None);
        for (n, message) in course.messages.iter().enumerate() {
            for (recipient, verdict) in out.verdicts[n].iter().enumerate() {
                prop_assert!(message.is_right(recipient, verdict), "{:?}", verdict);
            }
        }
    }

    #[test]
    fn a_cut_anywhere_leaves_no_lie(
        course in course(),
        at in 0_usize..4_000,
        side in any::<bool>(),
    ) {
        let course = match side {
            true => Course { cut_to_server: Some(at), ..course },
            false => Course { cut_to_client: Some(at), ..course },
        };
        // Checks itself.
        run(&course);
    }
}
