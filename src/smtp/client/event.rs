//! What a session is told at its start, and what it tells.

use crate::smtp::Reply;
use crate::smtp::client::{Fault, Report};

/// How the session is encrypted. There is no other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTls {
    /// It starts in plaintext and nothing but EHLO and STARTTLS is said there (RFC 3207).
    StartTls,
    /// The connection was encrypted before the greeting (RFC 8314).
    Active,
}

/// What a session has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSettings {
    /// The argument of EHLO: our host name. What cannot stand there is replaced by `localhost`.
    pub ehlo_name: String,
    /// How the session is encrypted.
    pub tls: ClientTls,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientEvent {
    /// Greeted, and inside TLS: [`super::ClientSession::capabilities`] is valid. Call
    /// [`super::ClientSession::authenticate`], or begin a transaction where upstream wants no AUTH.
    Ready,
    /// Upstream said 235.
    Authenticated,
    /// Upstream refused the token. The session can still be used.
    AuthenticationRefused {
        /// The final reply.
        reply: Reply,
        /// The reason that came before it behind a `334`, decoded: JSON, as a rule. Text of a
        /// stranger: show it through [`crate::base::Printable`].
        challenge: Option<String>,
    },
    /// Upstream waits for the body: call [`super::ClientSession::body`] while
    /// [`super::ClientSession::wants_body`], then [`super::ClientSession::end_of_body`]. The body may stop being
    /// wanted at any time; then a report follows.
    WantBody,
    /// The transaction is over. The session is idle again, or [`ClientEvent::Broken`] or
    /// [`crate::smtp::Step::Close`] follows; [`super::ClientSession::is_idle`] tells.
    Finished(Report),
    /// The answer to [`super::ClientSession::check_alive`]: upstream is there.
    Idle,
    /// The session is over. If a transaction was going on, its report came before this.
    Broken(Fault),
}
