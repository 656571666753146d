//! Floor 1: the SMTP protocol without sockets, clock, log or random numbers.
//!
//! Owns the pieces of the wire format and the two session cores, [`server`] and [`client`], which
//! share one contract ([`Step`]). Sources: RFC 5321, 3207, 4954, 2920, 1870, 6152, 6531, 2034.

mod capabilities;
pub mod client;
pub mod command;
mod contract;
pub mod dot;
pub mod line;
mod reply;
mod reply_parser;
pub mod sasl;
pub mod server;

pub use capabilities::Capabilities;
pub use contract::Step;
pub use reply::Reply;
pub use reply_parser::{MalformedReply, ReplyParser};
