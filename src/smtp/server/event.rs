//! What a session tells its driver.

use bytes::Bytes;

use crate::base::Secret;
use crate::mail::{ForwardPath, MailParameters, ReversePath};

/// Something happened. Each variant says whether [`ServerSession::answer`] has to follow before
/// the next call of `next`. An answer of `421` always ends the session.
///
/// [`ServerSession::answer`]: super::ServerSession::answer
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// EHLO or HELO; the reply has been given. No answer.
    Hello {
        /// Whatever the client calls itself; without control characters.
        name: String,
        /// It was EHLO.
        is_extended: bool,
    },
    /// A client wants to log in. Answer `235`: it is in. Anything else refuses it; `5yz` counts
    /// towards [`limits::SESSION_AUTH_FAILURES`](crate::base::limits::SESSION_AUTH_FAILURES).
    Authenticate {
        /// Not empty, without control characters.
        name: String,
        /// Any text without NUL, perhaps empty.
        password: Secret,
    },
    /// A transaction is to begin. Answer `2yz`: it has; anything else: it has not.
    Mail {
        /// Where notices go.
        reverse_path: ReversePath,
        /// What was declared; a SIZE over the limit has already been refused.
        parameters: MailParameters,
    },
    /// A recipient. Answer `2yz`: it is taken; anything else: it is not.
    Recipient {
        /// The recipient.
        forward_path: ForwardPath,
    },
    /// The body is to come. Answer `354`: it may; anything else: not now, and the transaction goes
    /// on.
    Data,
    /// The next octets of the body: canonical, without dot-stuffing, never empty, at most
    /// [`limits::CHUNK_OCTETS`](crate::base::limits::CHUNK_OCTETS). No answer.
    Body(Bytes),
    /// The body is complete. Answer the final reply; the transaction is over whatever it says.
    EndOfData,
    /// The transaction is abandoned: RSET, EHLO, body refused, or the session is over. No answer.
    Reset,
}

impl ServerEvent {
    /// The driver may need a while; what has been written so far should not wait for it.
    pub(super) fn may_take_long(&self) -> bool {
        match self {
            Self::Authenticate { .. } | Self::EndOfData => true,
            Self::Hello { .. }
            | Self::Mail { .. }
            | Self::Recipient { .. }
            | Self::Data
            | Self::Body(_)
            | Self::Reset => false,
        }
    }
}

/// Why a session ended: for the one line that the log has of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// QUIT.
    Quit,
    /// The peer closed the connection without QUIT.
    Lost,
    /// Nothing came for too long.
    TimedOut,
    /// Too many errors, or a line without end.
    TooManyErrors,
    /// Too many refused logins.
    TooManyRefusedLogins,
    /// A message went on for more than twice the limit.
    EndlessMessage,
    /// Bytes came where the client had to wait for our reply: behind STARTTLS, DATA or before a
    /// prompt. Either the client is broken or somebody injects commands.
    NotWaiting,
    /// The peer speaks HTTP.
    Http,
    /// The peer began a TLS handshake without STARTTLS.
    UnexpectedTls,
    /// The driver wanted it so.
    Told,
}

impl SessionEnd {
    /// The name in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quit => "quit",
            Self::Lost => "lost",
            Self::TimedOut => "timed_out",
            Self::TooManyErrors => "too_many_errors",
            Self::TooManyRefusedLogins => "too_many_refused_logins",
            Self::EndlessMessage => "endless_message",
            Self::NotWaiting => "not_waiting",
            Self::Http => "http",
            Self::UnexpectedTls => "unexpected_tls",
            Self::Told => "told",
        }
    }
}
