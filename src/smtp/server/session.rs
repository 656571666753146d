//! The session as its driver sees it: bytes in; events, bytes out and a deadline.

use std::time::Instant;

use bytes::BytesMut;
use zeroize::Zeroize as _;

use super::body::Receiving;
use super::context::Context;
use super::event::{ServerEvent, SessionEnd};
use super::settings::ServerSettings;
use super::state::{Question, Ready, Seat, State};
use super::{replies, verbs};
use crate::base::limits;
use crate::smtp::command::{Command, CommandError};
use crate::smtp::dot::BareNewline;
use crate::smtp::line::{LineSplitter, Newline, Split};
use crate::smtp::{Reply, Step};

/// One inbound session. See the [module](super) for its rules.
#[derive(Debug)]
pub struct ServerSession {
    context: Context,
    state: State,
    input: BytesMut,
    /// The peer will send nothing more.
    input_has_ended: bool,
    splitter: LineSplitter,
    /// Since when the client has to send something, and how much of a body had come by then.
    waiting: Option<Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Instant,
    body_octets: u64,
}

/// The first octet of a TLS record that holds a handshake. No command starts with it.
const TLS_HANDSHAKE: u8 = 0x16;

impl ServerSession {
    /// A session at the moment its connection was accepted (with implicit TLS: after the
    /// handshake). The greeting is the first thing that `next` wants written.
    pub fn new(settings: ServerSettings, _now: Instant) -> Self {
        Self {
            context: Context::new(settings),
            state: State::Start,
            input: BytesMut::new(),
            input_has_ended: false,
            splitter: LineSplitter::new(),
            waiting: None,
        }
    }

    /// Takes what the peer sent. Read from it only when `next` says [`Step::Read`]: what comes
    /// while an answer is due is kept.
    pub fn receive(&mut self, bytes: &[u8], _now: Instant) {
        match self.state {
            State::Closed => {}
            // Plaintext behind STARTTLS is never looked at.
            State::Handshake => {
                self.change(|state, context| context.abandon(state, SessionEnd::NotWaiting));
            }
            _ => self.input.extend_from_slice(bytes),
        }
    }

    /// The peer will send nothing more. What it has sent is still carried out.
    pub fn receive_end(&mut self, _now: Instant) {
        self.input_has_ended = true;
    }

    /// What to do next.
    pub fn next(&mut self, now: Instant) -> Step<ServerEvent> {
        loop {
            // A client that sends commands and reads no replies must not make us hold them.
            if self.context.output.len() >= limits::READ_OCTETS {
                return self.write();
            }
            if let Some(event) = self.context.events.front() {
                if event.may_take_long() && !self.context.output.is_empty() {
                    return self.write();
                }
                if let Some(event) = self.context.events.pop_front() {
                    return Step::Event(event);
                }
            }
            let has_advanced = match self.state {
                State::Start => {
                    let greeting = replies::greeting(&self.context.settings.hostname);
                    self.context.say(&greeting);
                    self.state = State::Commands(Seat::Stranger);
                    true
                }
                State::Commands(_) | State::Exchange(..) => self.take_line(),
                State::Receiving(_) => self.take_body(),
                State::Asked(_) | State::Handshake | State::Closed => false,
            };
            if has_advanced {
                continue;
            }
            if !self.context.output.is_empty() {
                return self.write();
            }
            match self.state {
                State::Handshake => return Step::StartTls,
                State::Closed => return Step::Close,
                State::Asked(_) => return Step::Read,
                _ if self.input_has_ended => {
                    self.change(|state, context| context.abandon(state, SessionEnd::Lost));
                }
                _ => {
                    self.wait(now);
                    self.shrink();
                    return Step::Read;
                }
            }
        }
    }

    /// Answers the event that asked for it.
    pub fn answer(&mut self, reply: Reply, _now: Instant) {
        self.waiting = None;
        self.change(|state, context| {
            let State::Asked(question) = state else {
                // After close_with or a deadline there is nothing left to answer.
                debug_assert!(matches!(state, State::Closed), "no question was asked: {state:?}");
                return state;
            };
            match reply.code() {
                421 => context.close(State::Asked(question), reply, SessionEnd::Told),
                _ => settle(question, reply, context),
            }
        });
    }

    /// The handshake that [`Step::StartTls`] asked for has succeeded. Everything that was said
    /// before it is forgotten (RFC 3207 §4.2).
    pub fn tls_started(&mut self, _now: Instant) {
        debug_assert!(matches!(self.state, State::Handshake), "nobody asked for TLS");
        self.context.tls_active = true;
        self.input.clear();
        self.splitter = LineSplitter::new();
        self.waiting = None;
        self.state = State::Commands(Seat::Stranger);
    }

    /// When `tick` has to be called, unless something comes before. There is none while it is not
    /// the client's turn.
    pub fn deadline(&self) -> Option<Instant> {
        self.waiting.map(|waiting| waiting.since + limits::SERVER_IDLE)
    }

    /// Closes the session with `421 4.4.2` if the deadline has passed.
    pub fn tick(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.waiting = None;
            self.change(|state, context| {
                context.close(state, replies::timed_out(), SessionEnd::TimedOut)
            });
        }
    }

    /// Ends the session with this reply (`421` at shutdown or overload), whatever it was doing; a
    /// transaction is abandoned. Instead of the greeting, if that has not been sent.
    pub fn close_with(&mut self, reply: Reply, _now: Instant) {
        self.waiting = None;
        self.change(|state, context| match state {
            State::Closed => state,
            // There is nobody who could read it.
            State::Handshake => context.abandon(state, SessionEnd::Told),
            _ => context.close(state, reply, SessionEnd::Told),
        });
    }

    /// The client has logged in.
    pub fn is_authenticated(&self) -> bool {
        self.state.ready().is_some_and(|ready| ready.is_authenticated)
    }

    /// The session is encrypted.
    pub fn is_tls_active(&self) -> bool {
        self.context.tls_active
    }

    /// From now on the largest message has this many octets: an account's own limit is known only
    /// after AUTH. A body that is already coming keeps the limit that it began with.
    pub fn set_max_message_octets(&mut self, octets: u64) {
        self.context.settings.max_message_octets = octets;
    }

    /// How many bare CR and LF of the last complete body have been made CRLF.
    pub fn repaired_newlines(&self) -> u64 {
        self.context.repaired_newlines
    }

    /// Why the session ended, once it has.
    pub fn ended_by(&self) -> Option<SessionEnd> {
        self.context.end
    }

    fn change(&mut self, step: impl FnOnce(State, &mut Context) -> State) {
        let state = std::mem::replace(&mut self.state, State::Closed);
        self.state = step(state, &mut self.context);
    }

    fn write(&mut self) -> Step<ServerEvent> {
        Step::Write(self.context.output.split().freeze())
    }

    /// Starts the clock when it becomes the client's turn. A body that gets on starts it anew.
    fn wait(&mut self, now: Instant) {
        let body_octets = match &self.state {
            State::Receiving(receiving) => receiving.wire_octets(),
            _ => 0,
        };
        let gets_on = |waiting: &Waiting| {
            body_octets >= waiting.body_octets.saturating_add(limits::BODY_PROGRESS_OCTETS)
        };
        if self.waiting.as_ref().is_none_or(gets_on) {
            self.waiting = Some(Waiting { since: now, body_octets });
        }
    }

    /// An idle session keeps no large buffer: there may be thousands of them.
    fn shrink(&mut self) {
        for buffer in [&mut self.input, &mut self.context.output] {
            if buffer.is_empty() {
                *buffer = BytesMut::new();
            }
        }
    }

    /// Carries out one line. False: there is no whole one.
    fn take_line(&mut self) -> bool {
        let is_command = matches!(self.state, State::Commands(_));
        let is_tls = self.input.first() == Some(&TLS_HANDSHAKE) && !self.splitter.is_discarding();
        if is_command && is_tls {
            self.input.clear();
            self.change(|state, context| {
                context.close(state, replies::unexpected_tls(), SessionEnd::UnexpectedTls)
            });
            return true;
        }
        let split = self.splitter.next(&mut self.input, limits::AUTH_LINE_OCTETS);
        let is_followed = !self.input.is_empty();
        let accepts_bare_lf = self.context.settings.bare_newline == BareNewline::Normalize;
        let mut line = match split {
            Split::More => return false,
            Split::Endless => {
                self.change(|state, context| {
                    context.close(state, replies::endless_line(), SessionEnd::TooManyErrors)
                });
                return true;
            }
            Split::TooLong => Err(match is_command {
                true => replies::line_too_long(),
                false => replies::response_too_long(),
            }),
            Split::Line(_, Newline::BareLf) if !accepts_bare_lf => Err(replies::bare_newline()),
            Split::Line(line, _) if is_command && is_over_long(&line) => {
                Err(replies::line_too_long())
            }
            Split::Line(line, _) => Ok(line),
        };
        self.waiting = None;
        self.change(|state, context| match (state, &line) {
            (State::Commands(seat), Ok(line)) => match Command::parse(line) {
                Ok(command) => verbs::carry_out(seat, command, is_followed, context),
                Err(error) => {
                    let state = State::Commands(seat);
                    let reply = replies::command_error(&error);
                    match error {
                        CommandError::Http => context.close(state, reply, SessionEnd::Http),
                        _ => context.complain(state, reply),
                    }
                }
            },
            (State::Exchange(ready, exchange), Ok(line)) => {
                verbs::sasl_step(ready, exchange.respond(line), is_followed, context)
            }
            (State::Exchange(ready, _), Err(reply)) => {
                context.complain(State::Commands(Seat::Ready(ready)), reply.clone())
            }
            (state, Err(reply)) => context.complain(state, reply.clone()),
            (state, Ok(_)) => state,
        });
        if let Ok(line) = &mut line {
            // It may have held a password.
            line.as_mut().zeroize();
        }
        true
    }

    /// Takes a piece of the body. False: nothing is there.
    fn take_body(&mut self) -> bool {
        let mut has_advanced = false;
        let input = &mut self.input;
        let state = std::mem::replace(&mut self.state, State::Closed);
        self.state = match state {
            State::Receiving(receiving) => {
                let (state, advanced) = receiving.advance(input, &mut self.context);
                has_advanced = advanced;
                state
            }
            other => other,
        };
        if !matches!(self.state, State::Receiving(_)) {
            self.waiting = None;
        }
        has_advanced
    }
}

/// A command line may be as long as an AUTH line only if it is one.
fn is_over_long(line: &[u8]) -> bool {
    let is_auth = line.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"AUTH "));
    line.len() + 2 > limits::COMMAND_LINE_OCTETS && !is_auth
}

/// What follows from the driver's answer.
fn settle(question: Question, reply: Reply, context: &mut Context) -> State {
    match question {
        Question::Login(ready) if !reply.is_positive() => {
            context.refuse_login(State::Commands(Seat::Ready(ready)), reply)
        }
        Question::Login(_) => {
            context.say(&reply);
            State::Commands(Seat::Ready(Ready { is_authenticated: true }))
        }
        Question::Mail(transaction) => {
            context.say(&reply);
            State::Commands(match reply.is_positive() {
                true => Seat::Transaction(transaction),
                false => Seat::Ready(transaction.ready),
            })
        }
        Question::Recipient(mut transaction) => {
            context.say(&reply);
            transaction.recipients += usize::from(reply.is_positive());
            State::Commands(Seat::Transaction(transaction))
        }
        Question::Data(transaction) => {
            context.say(&reply);
            match reply.is_intermediate() {
                true => State::Receiving(Receiving::new(transaction.ready, context)),
                false => State::Commands(Seat::Transaction(transaction)),
            }
        }
        Question::Verdict(ready) => {
            context.say(&reply);
            State::Commands(Seat::Ready(ready))
        }
    }
}
