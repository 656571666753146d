//! The state in which a body comes, up to its true end whatever is wrong with it.

use bytes::BytesMut;

use super::context::Context;
use super::event::{ServerEvent, SessionEnd};
use super::replies;
use super::state::{Question, Ready, Seat, State};
use crate::smtp::Reply;
use crate::smtp::dot::{Decoded, Decoder};

/// A body that is coming.
#[derive(Debug)]
pub(super) struct Receiving {
    /// What to return to.
    pub(super) ready: Ready,
    decoder: Decoder,
    max_octets: u64,
    /// Octets of content that the driver has got.
    content_octets: u64,
    /// Octets that came, stuffing and refused content included.
    wire_octets: u64,
    /// What will be answered at the end of a body that has already been refused.
    refusal: Option<Reply>,
}

/// A limit that leaves no room for the smallest message with its end makes no sense.
const SMALLEST_ALLOWANCE_OCTETS: u64 = 1_024;

impl Receiving {
    pub(super) fn new(ready: Ready, context: &Context) -> Self {
        Self {
            ready,
            decoder: Decoder::new(context.settings.bare_newline),
            max_octets: context.settings.max_message_octets,
            content_octets: 0,
            wire_octets: 0,
            refusal: None,
        }
    }

    /// The driver has been told that nothing will come of this body.
    pub(super) fn is_refused(&self) -> bool {
        self.refusal.is_some()
    }

    /// How many octets have come.
    pub(super) fn wire_octets(&self) -> u64 {
        self.wire_octets
    }

    /// Takes octets off the input. False: more of them are needed.
    pub(super) fn advance(mut self, input: &mut BytesMut, context: &mut Context) -> (State, bool) {
        let allowance = self.allowance();
        let window_octets = usize::try_from(allowance).unwrap_or(usize::MAX).min(input.len());
        let mut window = input.split_to(window_octets);
        let decoded = self.decoder.decode(&mut window);
        self.wire_octets += (window_octets - window.len()) as u64;
        // Both halves are neighbours in one buffer, so this is no copy.
        window.unsplit(std::mem::take(input));
        *input = window;

        let is_end = decoded == Decoded::End;
        let is_used_up = decoded == Decoded::More;
        if let Decoded::Chunk(mut chunk) = decoded
            && self.refusal.is_none()
        {
            let room = self.max_octets - self.content_octets;
            let is_too_large = chunk.len() as u64 > room;
            if is_too_large {
                chunk.truncate(usize::try_from(room).unwrap_or(usize::MAX));
            }
            self.content_octets += chunk.len() as u64;
            if !chunk.is_empty() {
                context.tell(ServerEvent::Body(chunk));
            }
            if is_too_large {
                self.refuse(replies::message_too_large(self.max_octets), context);
            }
        }
        if let Some(flaw) = self.decoder.flaw() {
            self.refuse(replies::body_flaw(flaw), context);
        }
        if is_end {
            return (self.end(context), true);
        }
        if is_used_up && self.allowance() == 0 {
            let state = State::Receiving(self);
            return (
                context.close(state, replies::endless_message(), SessionEnd::EndlessMessage),
                true,
            );
        }
        (State::Receiving(self), !is_used_up)
    }

    /// How many more octets may come before the session is closed.
    fn allowance(&self) -> u64 {
        let most = self.max_octets.saturating_mul(2).max(SMALLEST_ALLOWANCE_OCTETS);
        most.saturating_sub(self.wire_octets)
    }

    fn refuse(&mut self, reply: Reply, context: &mut Context) {
        if self.refusal.is_none() {
            self.refusal = Some(reply);
            context.tell(ServerEvent::Reset);
        }
    }

    fn end(self, context: &mut Context) -> State {
        context.repaired_newlines = self.decoder.repaired();
        match self.refusal {
            None => {
                context.tell(ServerEvent::EndOfData);
                State::Asked(Question::Verdict(self.ready))
            }
            Some(reply) => context.complain(State::Commands(Seat::Ready(self.ready)), reply),
        }
    }
}
