//! Where a session is, and what belongs to that place only.

use std::time::Duration;

use crate::base::limits;
use crate::mail::Phase;
use crate::smtp::client::auth::AuthExchange;
use crate::smtp::client::exchange::{Command, Exchange};
use crate::smtp::client::verdict::Verdicts;
use crate::smtp::dot::Encoder;

/// The states of the picture in the header of this module.
pub(super) enum State {
    /// Nothing has been said.
    Greeting,
    Ehlo {
        is_encrypted: bool,
    },
    /// EHLO was not understood.
    Helo,
    StartTls,
    /// The driver shakes hands.
    Handshake,
    /// Nothing is going on.
    Ready,
    Auth(AuthExchange),
    /// NOOP.
    Checking,
    Envelope(Exchange),
    /// The body is being handed over.
    Body {
        verdicts: Verdicts,
        encoder: Encoder,
    },
    /// The final dot lies in the output.
    Dot(Verdicts),
    /// The final dot was handed out.
    Final(Verdicts),
    /// The end of an empty body that nobody gets.
    LoneDot(Verdicts),
    Quitting,
    Over,
}

impl State {
    /// The name, for `Debug` output, which must show nothing else.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Ehlo { .. } => "ehlo",
            Self::Helo => "helo",
            Self::StartTls => "start_tls",
            Self::Handshake => "handshake",
            Self::Ready => "ready",
            Self::Auth(_) => "auth",
            Self::Checking => "checking",
            Self::Envelope(_) => "envelope",
            Self::Body { .. } => "body",
            Self::Dot(_) => "dot",
            Self::Final(_) => "final",
            Self::LoneDot(_) => "lone_dot",
            Self::Quitting => "quitting",
            Self::Over => "over",
        }
    }

    /// True if what was handed out last has to be answered.
    pub(super) fn is_answered(&self) -> bool {
        match self {
            Self::Greeting | Self::Ehlo { .. } | Self::Helo | Self::StartTls => true,
            Self::Auth(_) | Self::Checking | Self::Envelope(_) => true,
            Self::Final(_) | Self::LoneDot(_) | Self::Quitting => true,
            Self::Handshake | Self::Ready | Self::Body { .. } | Self::Dot(_) | Self::Over => false,
        }
    }

    /// The step in a report or a fault.
    pub(super) fn phase(&self, is_authenticated: bool) -> Phase {
        match self {
            Self::Greeting => Phase::Greeting,
            Self::Ehlo { .. } | Self::Helo => Phase::Ehlo,
            Self::StartTls => Phase::StartTls,
            Self::Handshake => Phase::Tls,
            Self::Auth(_) => Phase::Auth,
            Self::Ready | Self::Checking if !is_authenticated => Phase::Auth,
            Self::Ready | Self::Checking | Self::Quitting | Self::Over => Phase::Mail,
            Self::Envelope(exchange) => exchange.next_answered().phase(),
            Self::LoneDot(_) => Phase::Data,
            Self::Body { .. } | Self::Dot(_) => Phase::Body,
            Self::Final(_) => Phase::Final,
        }
    }

    /// How long upstream may take to answer, or to take what is being written.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Greeting => limits::CLIENT_GREETING,
            Self::Handshake => limits::CLIENT_CONNECT,
            Self::Ehlo { .. } | Self::Helo | Self::StartTls | Self::Auth(_) => {
                limits::CLIENT_COMMAND
            }
            Self::Ready | Self::Checking | Self::LoneDot(_) | Self::Quitting | Self::Over => {
                limits::CLIENT_COMMAND
            }
            Self::Envelope(exchange) => match exchange.next_answered() {
                Command::Reset => limits::CLIENT_COMMAND,
                Command::Mail | Command::Recipient(_) => limits::CLIENT_ENVELOPE,
                Command::Data => limits::CLIENT_DATA,
            },
            Self::Body { .. } | Self::Dot(_) => limits::CLIENT_BODY,
            Self::Final(_) => limits::CLIENT_FINAL,
        }
    }

    /// What is known of the recipients of the transaction that is going on.
    pub(super) fn into_verdicts(self) -> Option<Verdicts> {
        match self {
            Self::Envelope(exchange) => Some(exchange.into_verdicts()),
            Self::Body { verdicts, .. } => Some(verdicts),
            Self::Dot(verdicts) | Self::Final(verdicts) | Self::LoneDot(verdicts) => Some(verdicts),
            Self::Greeting | Self::Ehlo { .. } | Self::Helo | Self::StartTls => None,
            Self::Handshake | Self::Ready | Self::Auth(_) | Self::Checking => None,
            Self::Quitting | Self::Over => None,
        }
    }
}
