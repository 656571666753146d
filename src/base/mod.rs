//! Floor 0: the words that every other floor speaks and that know nothing of mail.
//!
//! Owns identifiers, the clock, secrets, every limit with its unit and source, and the one way in
//! which text from strangers may reach a log or a screen. It never does I/O and never decides.

mod clock;
mod id;
pub mod limits;
mod printable;
mod secret;

pub use clock::{Clock, Timestamp};
pub use id::{QueueId, SessionId};
pub use printable::Printable;
pub use secret::Secret;
