//! Floor 0: what a piece of mail is, apart from how it travels.
//!
//! Owns addresses and the envelope, the look into a message's header, the lines that a relay adds,
//! and what became of a recipient. Every type here is made by parsing and can only hold what may be
//! written to a wire; nothing here does I/O. Sources: RFC 5321, RFC 5322, RFC 6531, RFC 3463.

mod address;
mod envelope;
mod header;
mod pattern;
mod prologue;
mod status;

pub(crate) use address::is_host_name;
pub use address::{AddressError, Mailbox};
pub use envelope::{BodyType, Envelope, ForwardPath, MailParameters, ReversePath};
pub use header::HeaderScan;
pub use pattern::{AddressPattern, PatternError};
pub use prologue::{Prologue, ReceivedFrom, ReceivedLine};
pub use status::{Class, EnhancedCode, Outcome, Phase, Status};
