//! Floor 3, top: the listeners and what clients may do.
//!
//! Owns accepting connections, driving the server core, checking credentials and networks, and
//! taking a message over. It hands complete messages to the queue and never talks to upstream.
//! What a client reads is the verdict and a public text; the cause is in the log.

mod access;
mod hashing;
mod listener;
mod session;
mod verdict;

pub use access::{Access, AccessError, Client};
pub use listener::{BindError, Inbound, Listening};
