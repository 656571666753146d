//! The session core that plays the server.
//!
//! Owns the dialog with a client from the greeting to the close: which command is possible when,
//! every reply that needs no policy, the login exchange, the body up to its true end, and the
//! limits of a session. It never judges credentials, senders or recipients: it asks its driver, with
//! a [`ServerEvent`], and the driver answers. Sources: RFC 5321, 3207, 4954, 2920, 1870, 6152,
//! 6531, 2034.
//!
//! ```text
//! Start -> Stranger -EHLO-> Ready -MAIL-> Transaction -RCPT, DATA-> Receiving -dot-> Ready
//!             ^               | -AUTH-> Exchange -> Ready
//!             '--- TLS -- Handshake <-STARTTLS-'
//! ```
//!
//! Invariants:
//! 1. Every command gets exactly one reply, in order; a closing reply may follow it.
//! 2. Every [`ServerEvent::Mail`] with a positive answer is followed by exactly one of
//!    [`ServerEvent::EndOfData`] and [`ServerEvent::Reset`], before the next Mail or the close.
//! 3. Nothing that came in plaintext is interpreted after TLS has started.
//! 4. Where a client has to wait for a reply (behind STARTTLS and DATA, before a prompt), bytes
//!    that came too early close the session and are never interpreted. Apart from that, any split
//!    of the same bytes gives the same events and the same output.

mod body;
mod context;
mod event;
mod replies;
mod session;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod verbs;

pub use crate::smtp::dot::BareNewline;
pub use event::{ServerEvent, SessionEnd};
pub use session::ServerSession;
pub use settings::{AuthOffer, ServerSettings};
