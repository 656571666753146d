//! Floor 3: one attempt to deliver one message over one authenticated upstream session.
//!
//! Owns upstream sessions and their pool, the attempt from token to verdict, and the meaning of an
//! answer ([`catalogue`]). It never decides when to try again and never writes to the store.

mod attempt;
pub mod catalogue;
mod pool;
mod session;

pub use attempt::{Attempted, Content, Message, Progress, Upstream, UpstreamError};
pub use pool::Seat;
