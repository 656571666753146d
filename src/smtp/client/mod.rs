//! The session core that plays the client.
//!
//! Owns [`ClientSession`]: greeting, EHLO, STARTTLS, AUTH and any number of transactions over one
//! connection, with the verdict of every recipient. It never opens a connection, never shakes hands
//! for TLS, never reads a clock and never decides whether to try again. Sources: RFC 5321, 2920 (pipelining),
//! 3207 (STARTTLS), 4954 (AUTH), 1870, 6152, 6531.
//!
//! ```text
//! Greeting -> Ehlo -> StartTls -> Handshake -> Ehlo -> Ready <-> Auth
//!               |                               |     |  |
//!               +------- implicit TLS ----------+     |  +-> Checking -> Ready
//!                                                     |  +-> Quitting -> Over
//!            Envelope <-------------------------------+
//!               |  |
//!               |  +-> LoneDot -> Ready
//!               +-> Body -> Dot -> Final -> Ready
//! ```
//!
//! Invariants:
//! 1. Commands lie in the output only while no reply is outstanding. So every reply that is taken
//!    belongs to a command that was handed out, and whatever comes while something lies in the
//!    output, or while nothing was asked, was said out of turn and ends the session.
//! 2. There is no way to AUTH or to a transaction that does not lead through TLS, unless the
//!    connection was already encrypted.
//! 3. A verdict is [`Verdict::Accepted`] only by a 2yz reply to a final dot that was handed out, and
//!    [`Verdict::Uncertain`] only if it was handed out and no reply came. Before that, whatever goes
//!    wrong, the message has not been taken.
//! 4. The authentication string is in no event, no error and no `Debug` output, only in what is to be
//!    written.

mod auth;
mod event;
mod exchange;
mod fault;
mod replies;
mod session;
mod state;
mod verdict;

#[cfg(test)]
mod tests;

pub use event::{ClientEvent, ClientSettings, ClientTls};
pub use fault::{Fault, FaultKind};
pub use session::ClientSession;
pub use verdict::{Report, Transaction, Verdict};
