//! From state to state: what each reply leads to.

use std::mem;
use std::time::Instant;

use bytes::BufMut;

use crate::mail::Phase;
use crate::smtp::client::auth::AuthProgress;
use crate::smtp::client::exchange::Progress;
use crate::smtp::client::state::State;
use crate::smtp::client::verdict::{Verdicts, unanswered};
use crate::smtp::client::{ClientEvent, ClientSession, ClientTls, FaultKind, Verdict};
use crate::smtp::dot::Encoder;
use crate::smtp::{Capabilities, Reply};

impl ClientSession {
    pub(super) fn take_reply(&mut self, reply: Reply, now: Instant) {
        if reply.code() == 421 {
            return self.fail(FaultKind::Refused(reply));
        }
        let state = mem::replace(&mut self.state, State::Over);
        self.state = self.follow(state, reply);
        self.rearm(now);
    }

    /// From one state to the next by a reply that belongs to it.
    fn follow(&mut self, state: State, reply: Reply) -> State {
        match state {
            State::Greeting => match reply.code() {
                220 => self.say_ehlo(self.settings.tls == ClientTls::Active),
                _ => self.stop(state, FaultKind::of_reply(reply)),
            },
            State::Ehlo { is_encrypted } => match reply.code() {
                250 => {
                    self.capabilities = Capabilities::parse(&reply);
                    match (is_encrypted, self.capabilities.starttls) {
                        (true, _) => self.become_ready(),
                        (false, true) => {
                            self.out.put_slice(b"STARTTLS\r\n");
                            State::StartTls
                        }
                        (false, false) => self.stop(State::StartTls, FaultKind::NoStartTls),
                    }
                }
                // HELO offers nothing, least of all STARTTLS: it makes no sense in plaintext.
                500 | 502 | 504 if is_encrypted => {
                    self.put_hello("HELO");
                    State::Helo
                }
                500 | 502 | 504 => self.stop(State::StartTls, FaultKind::NoStartTls),
                _ => self.stop(state, FaultKind::of_reply(reply)),
            },
            State::Helo => match reply.code() {
                250 => self.become_ready(),
                _ => self.stop(state, FaultKind::of_reply(reply)),
            },
            State::StartTls => match reply.code() {
                220 => State::Handshake,
                _ => self.stop(state, FaultKind::of_reply(reply)),
            },
            State::Auth(exchange) => match exchange.take_reply(reply, &mut self.out) {
                AuthProgress::Goes(exchange) => State::Auth(exchange),
                AuthProgress::Authenticated => {
                    self.is_authenticated = true;
                    self.events.push_back(ClientEvent::Authenticated);
                    State::Ready
                }
                AuthProgress::Refused { reply, challenge } => {
                    let event = ClientEvent::AuthenticationRefused { reply, challenge };
                    self.events.push_back(event);
                    State::Ready
                }
                AuthProgress::Unexpected(reply) => {
                    self.stop(State::Ready, FaultKind::of_reply(reply))
                }
            },
            State::Checking => match reply.is_positive() {
                true => {
                    self.events.push_back(ClientEvent::Idle);
                    State::Ready
                }
                false => self.stop(state, FaultKind::of_reply(reply)),
            },
            State::Envelope(mut exchange) => match exchange.take_reply(reply) {
                Ok(Progress::Waits) => State::Envelope(exchange),
                Ok(Progress::NextGroup) => {
                    exchange.write_group(&mut self.out);
                    State::Envelope(exchange)
                }
                Ok(Progress::Body) => {
                    self.events.push_back(ClientEvent::WantBody);
                    State::Body { verdicts: exchange.into_verdicts(), encoder: Encoder::new() }
                }
                Ok(Progress::LoneDot) => {
                    self.out.put_slice(b".\r\n");
                    State::LoneDot(exchange.into_verdicts())
                }
                Ok(Progress::Done) => {
                    self.is_left_open = true;
                    self.finish(exchange.into_verdicts(), &unanswered(Phase::Data))
                }
                Err(kind) => self.stop(State::Envelope(exchange), kind),
            },
            State::Final(verdicts) => {
                let verdict = match reply.code() / 100 {
                    2 => Verdict::Accepted(reply),
                    4 | 5 => Verdict::Refused { phase: Phase::Final, reply },
                    _ => return self.stop(State::Final(verdicts), FaultKind::of_reply(reply)),
                };
                self.is_left_open = false;
                self.finish(verdicts, &verdict)
            }
            State::LoneDot(verdicts) => match reply.is_intermediate() {
                false => {
                    self.is_left_open = false;
                    self.finish(verdicts, &unanswered(Phase::Data))
                }
                true => self.stop(State::LoneDot(verdicts), FaultKind::of_reply(reply)),
            },
            State::Quitting => State::Over,
            // These ask for nothing, so that no reply can belong to them.
            State::Handshake | State::Ready | State::Body { .. } | State::Dot(_) | State::Over => {
                self.stop(state, FaultKind::out_of_turn(reply))
            }
        }
    }

    /// A reply that answers nothing ends the session. In the middle of a body upstream may refuse
    /// what it has seen so far, and that is the verdict; anything else decides nothing.
    pub(super) fn take_reply_out_of_turn(&mut self, reply: Reply) {
        let kind = match self.state {
            State::Body { .. } | State::Dot(_) => FaultKind::of_reply(reply),
            _ => FaultKind::out_of_turn(reply),
        };
        self.fail(kind);
    }

    pub(super) fn say_ehlo(&mut self, is_encrypted: bool) -> State {
        self.put_hello("EHLO");
        State::Ehlo { is_encrypted }
    }

    fn put_hello(&mut self, verb: &str) {
        let name = &self.settings.ehlo_name;
        let is_writable = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
        let name = if is_writable { name.as_str() } else { "localhost" };
        self.out.put_slice(format!("{verb} {name}\r\n").as_bytes());
    }

    fn become_ready(&mut self) -> State {
        self.events.push_back(ClientEvent::Ready);
        State::Ready
    }

    /// Ends the session where a reply leads nowhere.
    fn stop(&mut self, state: State, kind: FaultKind) -> State {
        self.state = state;
        self.fail(kind);
        State::Over
    }

    fn finish(&mut self, verdicts: Verdicts, rest: &Verdict) -> State {
        self.events.push_back(ClientEvent::Finished(verdicts.into_report(rest)));
        State::Ready
    }
}
