//! The session: bytes in; events, bytes out and a deadline.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::time::Instant;

use bytes::{BufMut, BytesMut};

use crate::base::{Secret, limits};
use crate::mail::Phase;
use crate::smtp::client::auth::{self, AuthExchange};
use crate::smtp::client::exchange::{self, Exchange};
use crate::smtp::client::state::State;
use crate::smtp::client::verdict::{Verdicts, unanswered};
use crate::smtp::client::{ClientEvent, ClientSettings, Fault, FaultKind, Transaction, Verdict};
use crate::smtp::{Capabilities, Reply, ReplyParser, Step};

/// One SMTP dialog with an upstream, as its client.
///
/// The driver calls [`ClientSession::next`] until it gets [`Step::Read`], hands over what it reads,
/// and looks at [`ClientSession::deadline`] while it reads, writes or shakes hands. A write counts as
/// done when `next` is called again. If a write fails, hand over what can still be read before
/// [`ClientSession::receive_end`]: upstream may have said why.
pub struct ClientSession {
    pub(super) settings: ClientSettings,
    pub(super) capabilities: Capabilities,
    parser: ReplyParser,
    pub(super) state: State,
    pub(super) is_authenticated: bool,
    /// The last transaction ended without an end of data.
    pub(super) is_left_open: bool,
    pub(super) out: BytesMut,
    pub(super) events: VecDeque<ClientEvent>,
    deadline: Option<Instant>,
}

impl ClientSession {
    /// A session on a connection that has just been opened.
    pub fn new(settings: ClientSettings, now: Instant) -> Self {
        Self {
            settings,
            capabilities: Capabilities::default(),
            parser: ReplyParser::default(),
            state: State::Greeting,
            is_authenticated: false,
            is_left_open: false,
            out: BytesMut::new(),
            events: VecDeque::new(),
            deadline: Some(now + limits::CLIENT_GREETING),
        }
    }

    // --- the contract of both cores ---------------------------------------------------------------

    /// Takes what upstream sent.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.state {
                State::Over => return,
                State::Handshake => return self.fail(FaultKind::Injected),
                _ => {}
            }
            match self.parser.feed(&mut rest) {
                Ok(Some(reply)) if self.awaits_reply() => self.take_reply(reply, now),
                Ok(Some(reply)) => self.take_reply_out_of_turn(reply),
                Ok(None) => {}
                Err(malformed) => self.fail(FaultKind::Protocol(malformed.to_string())),
            }
        }
        if self.parser.is_midway() && !matches!(self.state, State::Over) {
            self.deadline.get_or_insert(now + self.state.patience());
        }
    }

    /// Upstream has closed the connection, or it is broken.
    pub fn receive_end(&mut self, _now: Instant) {
        self.fail(FaultKind::Closed);
    }

    /// What the driver is to do now.
    pub fn next(&mut self, now: Instant) -> Step<ClientEvent> {
        if let Some(event) = self.events.pop_front() {
            return Step::Event(event);
        }
        match self.state {
            State::Over => return Step::Close,
            State::Handshake => return Step::StartTls,
            _ => {}
        }
        // While upstream is saying something out of turn, nothing more is said to it: what it says
        // must not be taken for an answer to that.
        if !self.out.is_empty() && !self.parser.is_midway() {
            if let State::Dot(_) = self.state {
                self.state = match mem::replace(&mut self.state, State::Over) {
                    State::Dot(verdicts) => State::Final(verdicts),
                    other => other,
                };
            }
            self.deadline = Some(now + self.state.patience());
            return Step::Write(self.out.split().freeze());
        }
        if !self.awaits_reply() && !self.parser.is_midway() {
            // Upstream has taken everything and it is our turn.
            self.deadline = None;
        }
        Step::Read
    }

    /// When upstream's time is up; then [`ClientSession::tick`] is to be called.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Looks whether upstream's time is up.
    pub fn tick(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.fail(FaultKind::TimedOut);
        }
    }

    /// The handshake that [`Step::StartTls`] asked for has been done, and the certificate is right.
    pub fn tls_started(&mut self, now: Instant) {
        if let State::Handshake = self.state {
            self.capabilities = Capabilities::default();
            self.state = self.say_ehlo(true);
            self.rearm(now);
        }
    }

    // --- what the driver asks for -----------------------------------------------------------------

    /// What upstream offers. Valid after [`ClientEvent::Ready`].
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// True if a transaction may begin: nothing is going on, and nothing is wrong.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Ready) && self.events.is_empty() && !self.parser.is_midway()
    }

    /// Presents a token: `XOAUTH2` or `OAUTHBEARER`, and the whole authentication string in base64.
    /// Answered by [`ClientEvent::Authenticated`], [`ClientEvent::AuthenticationRefused`] or
    /// [`ClientEvent::Broken`]. Only while the session is idle.
    pub fn authenticate(&mut self, blob: Secret, mechanism: &str, now: Instant) {
        if !self.is_ready_for("authenticate") {
            return;
        }
        let mut offered = self.capabilities.mechanisms.iter();
        let Some(mechanism) = offered.find(|offered| offered.eq_ignore_ascii_case(mechanism))
        else {
            return self.fail(FaultKind::NoMechanism);
        };
        if !auth::is_writable(&blob) {
            let text = "not tried, because the authentication string is not one line of base64";
            return self.fail(FaultKind::Protocol(text.to_owned()));
        }
        self.state = State::Auth(AuthExchange::begin(mechanism, blob, &mut self.out));
        self.rearm(now);
    }

    /// Begins a transaction. Answered by [`ClientEvent::WantBody`] or [`ClientEvent::Finished`]; the
    /// latter at once if upstream does not offer what the message needs. Only while the session is
    /// idle; on a session that is over the message is lost, and the report says so.
    pub fn begin(&mut self, transaction: Transaction, now: Instant) {
        let verdicts = Verdicts::new(transaction.envelope.forward_paths.len());
        if let State::Over = self.state {
            let text = "the session had already ended".to_owned();
            let report = verdicts.into_report(&Verdict::Lost { phase: Phase::Mail, text });
            return self.events.push_front(ClientEvent::Finished(report));
        }
        if !self.is_ready_for("begin") {
            return;
        }
        let refusal = exchange::refusal(&transaction, &self.capabilities);
        if refusal.is_some() || verdicts.are_complete() {
            let reply = refusal.unwrap_or_else(|| Reply::plain(554, "no recipients"));
            let report = verdicts.into_report(&Verdict::Refused { phase: Phase::Local, reply });
            return self.events.push_back(ClientEvent::Finished(report));
        }
        let mut exchange = Exchange::new(transaction, &self.capabilities, self.is_left_open);
        exchange.write_group(&mut self.out);
        self.state = State::Envelope(exchange);
        self.rearm(now);
    }

    /// True while bytes of the body are wanted and there is room for them.
    pub fn wants_body(&self) -> bool {
        matches!(self.state, State::Body { .. })
            && self.out.len() < limits::CHUNK_OCTETS
            && !self.parser.is_midway()
    }

    /// The next bytes of the message, as they are; dots are doubled here. Ignored once the body is
    /// no longer wanted.
    pub fn body(&mut self, bytes: &[u8], now: Instant) {
        if let State::Body { encoder, .. } = &mut self.state {
            encoder.encode(bytes, &mut self.out);
            self.rearm(now);
        }
    }

    /// The message is complete. Ignored once the body is no longer wanted.
    pub fn end_of_body(&mut self, now: Instant) {
        self.state = match mem::replace(&mut self.state, State::Over) {
            State::Body { verdicts, encoder } => {
                encoder.finish(&mut self.out);
                State::Dot(verdicts)
            }
            other => return self.state = other,
        };
        self.rearm(now);
    }

    /// The rest of the message cannot be had: the connection is to be closed without the final dot,
    /// so that upstream throws away what it has. Has no effect once the dot was handed out.
    pub fn abandon_body(&mut self, _now: Instant) {
        if let State::Body { .. } | State::Dot(_) = self.state {
            let text = "the message could not be read".to_owned();
            self.end(&Verdict::Lost { phase: Phase::Local, text });
        }
    }

    /// Asks upstream whether it is still there. Answered by [`ClientEvent::Idle`] or
    /// [`ClientEvent::Broken`]. Only while the session is idle.
    pub fn check_alive(&mut self, now: Instant) {
        if self.is_ready_for("check_alive") {
            self.out.put_slice(b"NOOP\r\n");
            self.state = State::Checking;
            self.rearm(now);
        }
    }

    /// Says good-bye and closes. In the middle of something it just closes, and a transaction that
    /// was going on is reported as lost or uncertain.
    pub fn quit(&mut self, now: Instant) {
        match self.state {
            State::Over | State::Quitting => {}
            State::Ready => {
                self.out.put_slice(b"QUIT\r\n");
                self.state = State::Quitting;
                self.rearm(now);
            }
            _ => {
                let text = "the session was closed by this relay".to_owned();
                let verdict = match self.state {
                    State::Final(_) => Verdict::Uncertain { text },
                    _ => Verdict::Lost { phase: self.phase(), text },
                };
                self.end(&verdict);
            }
        }
    }

    /// Octets that are waiting to be written.
    pub fn pending_output_len(&self) -> usize {
        self.out.len()
    }

    // --- within ---------------------------------------------------------------------------------

    /// True if nothing is going on. Calling out of turn is a bug of the driver.
    fn is_ready_for(&self, what: &str) -> bool {
        let is_ready = matches!(self.state, State::Ready);
        debug_assert!(is_ready || matches!(self.state, State::Over), "{what} while {self:?}");
        is_ready
    }

    /// True if the next reply is the answer to something that was handed out.
    pub(super) fn awaits_reply(&self) -> bool {
        self.state.is_answered() && self.out.is_empty()
    }

    fn phase(&self) -> Phase {
        self.state.phase(self.is_authenticated)
    }

    /// Upstream has to answer, or to take what is to be written, from now on.
    pub(super) fn rearm(&mut self, now: Instant) {
        let is_waiting = self.state.is_answered() || !self.out.is_empty();
        let is_waiting = is_waiting || matches!(self.state, State::Handshake);
        self.deadline = is_waiting.then(|| now + self.state.patience());
    }

    /// Ends the session because of a fault, with a verdict for everybody who has none.
    pub(super) fn fail(&mut self, kind: FaultKind) {
        let kind = match &self.state {
            State::Auth(exchange) => exchange.without_echo(kind),
            _ => kind,
        };
        let phase = match kind {
            FaultKind::Injected => Phase::StartTls,
            _ => self.phase(),
        };
        let verdict = match (&self.state, &kind) {
            (State::Over, _) => return,
            (State::Quitting, _) => return self.end(&unanswered(phase)),
            (_, FaultKind::Refused(reply)) => Verdict::Refused { phase, reply: reply.clone() },
            (State::Final(_), kind) => Verdict::Uncertain { text: kind.to_string() },
            (_, kind) => Verdict::Lost { phase, text: kind.to_string() },
        };
        self.end(&verdict);
        self.events.push_back(ClientEvent::Broken(Fault { phase, kind }));
    }

    /// Ends the session.
    fn end(&mut self, rest: &Verdict) {
        self.out.clear();
        self.deadline = None;
        if let Some(verdicts) = mem::replace(&mut self.state, State::Over).into_verdicts() {
            self.events.push_back(ClientEvent::Finished(verdicts.into_report(rest)));
        }
    }
}

impl fmt::Debug for ClientSession {
    /// The state's name, and nothing that was or will be said.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSession")
            .field("state", &self.state.name())
            .field("pending_output_len", &self.out.len())
            .finish_non_exhaustive()
    }
}
