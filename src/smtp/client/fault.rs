//! Why a session ended.

use crate::mail::Phase;
use crate::smtp::Reply;

/// The end of a session that nobody wanted, with its evidence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{phase}: {kind}")]
pub struct Fault {
    /// The step at which it happened. Between transactions this is the step that would have come
    /// next: AUTH, or MAIL on a session that has authenticated.
    pub phase: Phase,
    /// What happened.
    pub kind: FaultKind,
}

/// What ends a session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultKind {
    /// Upstream refused to go on: a negative greeting, answer to EHLO, STARTTLS or NOOP, or `421` at
    /// any time.
    #[error("upstream refused: {0}")]
    Refused(Reply),
    /// Upstream closed the connection, or it broke.
    #[error("the connection was closed by upstream")]
    Closed,
    /// Upstream did not answer, or took nothing, in time.
    #[error("upstream did not answer in time")]
    TimedOut,
    /// What upstream said is not what SMTP allows it to say here.
    #[error("upstream broke the protocol: {0}")]
    Protocol(String),
    /// There were bytes behind the answer to STARTTLS, before the handshake: somebody on the way
    /// wants them to be believed inside TLS. None of them was looked at.
    #[error(
        "bytes came behind the answer to STARTTLS: somebody may be tampering with the connection"
    )]
    Injected,
    /// Upstream does not offer STARTTLS. Nothing secret was said to it.
    #[error("upstream does not offer STARTTLS")]
    NoStartTls,
    /// Upstream does not offer the mechanism inside TLS.
    #[error("upstream does not offer the authentication mechanism")]
    NoMechanism,
}

impl FaultKind {
    /// A reply that does not let the session go on.
    pub(super) fn of_reply(reply: Reply) -> Self {
        match reply.is_transient() || reply.is_permanent() {
            true => Self::Refused(reply),
            false => Self::Protocol(format!("the reply fits no command here: {reply}")),
        }
    }

    /// A reply that nobody asked for. Only `421` may come at any time (RFC 5321 §3.8).
    pub(super) fn out_of_turn(reply: Reply) -> Self {
        match reply.code() {
            421 => Self::Refused(reply),
            _ => Self::Protocol(format!("a reply came out of turn: {reply}")),
        }
    }

    /// What was expected and what came.
    pub(super) fn unexpected(what: &str, reply: &Reply) -> Self {
        Self::Protocol(format!("{what}: {reply}"))
    }
}
