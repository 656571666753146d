//! The one contract of both session cores: bytes in; events, bytes out and a deadline.
//!
//! A driver loops over `next`: it writes what the core wants written, reads when the core wants to
//! read, and acts on events. Time is an argument. Any split of the same input gives the same events.

use std::fmt;

use bytes::Bytes;

/// What a core wants its driver to do next.
#[must_use = "a core makes no progress unless its driver does what it asks for"]
pub enum Step<E> {
    /// Something happened. Where the event's documentation asks for an answer, give it before
    /// calling `next` again.
    Event(E),
    /// Write these bytes to the peer.
    Write(Bytes),
    /// Nothing to do until the peer sends something or the deadline passes.
    Read,
    /// Run the TLS handshake now, then say so. Everything read in plaintext has been forgotten.
    StartTls,
    /// The dialog is over: close the connection.
    Close,
}

impl<E: fmt::Debug> fmt::Debug for Step<E> {
    /// Of the bytes to be written only their number: a token may be among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(event) => f.debug_tuple("Event").field(event).finish(),
            Self::Write(bytes) => write!(f, "Write({} octets)", bytes.len()),
            Self::Read => f.write_str("Read"),
            Self::StartTls => f.write_str("StartTls"),
            Self::Close => f.write_str("Close"),
        }
    }
}
