//! The client core against servers played by hand.

mod hello;
mod matrix;
mod split;
mod transaction;

use std::time::{Duration, Instant};

use crate::base::Secret;
use crate::mail::{BodyType, Envelope, ForwardPath, ReversePath};
use crate::smtp::client::*;
use crate::smtp::{Reply, Step};

/// A string of the length that tokens of Entra ID have, and a short one.
fn long_blob() -> Secret {
    Secret::new("TG9uZ1Rva2Vu".repeat(200))
}

const SHORT_BLOB: &str = "dXNlcj1zY2FubmVyAWF1dGg9QmVhcmVyIHNob3J0AQE=";

/// A session and the person who plays its server.
struct Dialog {
    session: ClientSession,
    now: Instant,
    written: Vec<u8>,
    events: Vec<ClientEvent>,
    handshakes: usize,
    is_closed: bool,
}

impl Dialog {
    fn new(tls: ClientTls) -> Self {
        let now = Instant::now();
        let settings = ClientSettings { ehlo_name: "relay.contoso.local".to_owned(), tls };
        let session = ClientSession::new(settings, now);
        Self { session, now, written: vec![], events: vec![], handshakes: 0, is_closed: false }
    }

    /// Greeted over implicit TLS by a server with these capabilities.
    fn ready(capabilities: &[&str]) -> Self {
        let mut dialog = Self::new(ClientTls::Active);
        dialog.say("220 upstream.example\r\n");
        dialog.sees("EHLO relay.contoso.local\r\n");
        dialog.say(ehlo_answer(capabilities));
        assert_eq!(dialog.events(), [ClientEvent::Ready]);
        dialog
    }

    /// As a driver: until there is nothing to do but read, feed a body, or close.
    fn pump(&mut self) {
        for _ in 0..1_000 {
            match self.session.next(self.now) {
                Step::Event(event) => self.events.push(event),
                Step::Write(bytes) => self.written.extend_from_slice(&bytes),
                Step::Read => return,
                Step::StartTls => {
                    self.handshakes += 1;
                    return;
                }
                Step::Close => {
                    self.is_closed = true;
                    return;
                }
            }
        }
        panic!("the core makes no end");
    }

    fn say(&mut self, text: impl AsRef<[u8]>) {
        self.pump();
        self.session.receive(text.as_ref(), self.now);
        self.pump();
    }

    /// What the server has received since it last looked.
    #[track_caller]
    fn sees(&mut self, expected: &str) {
        self.pump();
        let written = std::mem::take(&mut self.written);
        assert_eq!(String::from_utf8_lossy(&written), expected);
    }

    fn events(&mut self) -> Vec<ClientEvent> {
        self.pump();
        std::mem::take(&mut self.events)
    }

    fn event(&mut self) -> ClientEvent {
        let mut events = self.events();
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    /// The fault, which has to be the only event.
    fn fault(&mut self) -> Fault {
        match self.event() {
            ClientEvent::Broken(fault) => {
                assert!(self.is_closed);
                fault
            }
            other => panic!("{other:?}"),
        }
    }

    /// The verdicts of the transaction, which have to be the only event.
    fn verdicts(&mut self) -> Vec<Verdict> {
        match self.event() {
            ClientEvent::Finished(report) => report.verdicts,
            other => panic!("{other:?}"),
        }
    }

    /// The verdicts of the transaction and the fault that ended it.
    fn verdicts_and_fault(&mut self) -> (Vec<Verdict>, Fault) {
        match &self.events()[..] {
            [ClientEvent::Finished(report), ClientEvent::Broken(fault)] => {
                assert!(self.is_closed);
                (report.verdicts.clone(), fault.clone())
            }
            other => panic!("{other:?}"),
        }
    }

    fn begin(&mut self, recipients: &[&str]) {
        self.session.begin(message(recipients), self.now);
        self.pump();
    }

    fn body(&mut self, body: &[u8]) {
        self.session.body(body, self.now);
        self.session.end_of_body(self.now);
        self.pump();
    }

    fn authenticate(&mut self, blob: Secret, mechanism: &str) {
        self.session.authenticate(blob, mechanism, self.now);
        self.pump();
    }

    fn close(&mut self) {
        self.session.receive_end(self.now);
        self.pump();
    }

    /// Lets the deadline pass, and says how far away it was.
    fn time_out(&mut self) -> Option<Duration> {
        let deadline = self.session.deadline()?;
        let patience = deadline - self.now;
        self.now = deadline - Duration::from_millis(1);
        self.session.tick(self.now);
        self.pump();
        assert!(self.events.is_empty() && !self.is_closed, "a millisecond too early");
        self.now = deadline;
        self.session.tick(self.now);
        self.pump();
        Some(patience)
    }
}

fn ehlo_answer(capabilities: &[&str]) -> String {
    let mut lines = vec!["upstream.example Hello".to_owned()];
    lines.extend(capabilities.iter().map(|&line| line.to_owned()));
    let mut out = bytes::BytesMut::new();
    Reply::from_lines(250, None, lines).encode(&mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

fn message(recipients: &[&str]) -> Transaction {
    Transaction {
        envelope: Envelope {
            reverse_path: ReversePath::parse("scanner@contoso.com").unwrap(),
            forward_paths: recipients.iter().map(|to| ForwardPath::parse(to).unwrap()).collect(),
            body: BodyType::SevenBit,
            smtputf8: false,
        },
        size: 1_000,
    }
}
