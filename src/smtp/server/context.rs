//! What outlives every state: settings, what waits to be written and to be told, and the counts.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::event::{ServerEvent, SessionEnd};
use super::replies;
use super::settings::ServerSettings;
use super::state::State;
use crate::base::limits;
use crate::smtp::Reply;

#[derive(Debug)]
pub(super) struct Context {
    pub(super) settings: ServerSettings,
    pub(super) tls_active: bool,
    pub(super) repaired_newlines: u64,
    pub(super) output: BytesMut,
    pub(super) events: VecDeque<ServerEvent>,
    pub(super) end: Option<SessionEnd>,
    errors: u32,
    refused_logins: u32,
}

impl Context {
    pub(super) fn new(settings: ServerSettings) -> Self {
        Self {
            tls_active: settings.tls_active,
            settings,
            repaired_newlines: 0,
            output: BytesMut::new(),
            events: VecDeque::new(),
            end: None,
            errors: 0,
            refused_logins: 0,
        }
    }

    pub(super) fn tell(&mut self, event: ServerEvent) {
        self.events.push_back(event);
    }

    pub(super) fn say(&mut self, reply: &Reply) {
        reply.encode(&mut self.output);
    }

    /// Says a last reply and closes.
    pub(super) fn close(&mut self, state: State, reply: Reply, end: SessionEnd) -> State {
        self.abandon(state, end);
        self.say(&reply);
        State::Closed
    }

    /// Closes without a word.
    pub(super) fn abandon(&mut self, state: State, end: SessionEnd) -> State {
        let is_asked = self.events.is_empty();
        if matches!(state, State::Asked(_)) && !is_asked {
            // The question is the last event; it need not be asked any more.
            self.events.pop_back();
        }
        if state.is_in_transaction(is_asked) {
            self.tell(ServerEvent::Reset);
        }
        self.end.get_or_insert(end);
        State::Closed
    }

    /// Says that something was wrong, and counts it if it is the client's fault (5yz).
    pub(super) fn complain(&mut self, state: State, reply: Reply) -> State {
        self.say(&reply);
        if reply.is_permanent() {
            self.errors += 1;
        }
        match self.errors >= limits::SESSION_ERRORS {
            true => self.close(state, replies::too_many_errors(), SessionEnd::TooManyErrors),
            false => state,
        }
    }

    /// Passes the refusal of a login on, and counts it if it is for good.
    pub(super) fn refuse_login(&mut self, state: State, reply: Reply) -> State {
        self.say(&reply);
        if reply.is_permanent() {
            self.refused_logins += 1;
        }
        match self.refused_logins >= limits::SESSION_AUTH_FAILURES {
            true => {
                let last = replies::too_many_refused_logins();
                self.close(state, last, SessionEnd::TooManyRefusedLogins)
            }
            false => state,
        }
    }
}
