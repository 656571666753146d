//! The one contract of both session cores: bytes in; events, bytes out and a deadline.
//!
//! A driver loops over `next`: it writes what the core wants written, reads when the core wants to
//! read, and acts on events. Time is an argument. Any split of the same input gives the same events.

use bytes::Bytes;

/// What a core wants its driver to do next.
#[derive(Debug)]
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
