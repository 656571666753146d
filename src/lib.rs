//! mailbearer is a local SMTP relay that adds OAuth2: old SMTP in, `AUTH XOAUTH2` out.
//!
//! This page is the map of the house. A room imports only from floors below its own, and on
//! floor 3 only from the rooms to its right; `tests/layers.rs` fails on any other arrow.
//!
//! ```text
//! floor 4  faces      cli/  daemon.rs  sim/  telemetry/
//! floor 3  moving     inbound/ -> queue/ -> outbound/ -> token/ -> net/
//! floor 2  keeping    store/  config/
//! floor 1  protocol   smtp/  oauth/        no sockets, no clock, no log, no random numbers
//! floor 0  words      mail/  base/
//! ```
//!
//! | room | owns |
//! |---|---|
//! | [`base`] | ids, the clock, secrets, every limit, strangers' text made printable |
//! | [`mail`] | addresses, the envelope, the look into a header, what became of a recipient |
//! | [`smtp`] | the wire format and both session cores, as state machines without I/O |
//! | [`oauth`] | providers, grants, requests and answers as values, the XOAUTH2 string |
//! | [`config`] | the file as written, checked as a whole, with every mistake at once |
//! | [`store`] | messages, tokens, credentials: what outlives the process |
//! | [`net`] | sockets, TLS, certificates, the HTTP client for token endpoints |
//! | [`token`] | access tokens: obtained, kept, renewed; consent in progress |
//! | [`outbound`] | one attempt over one warm upstream session; what an answer means |
//! | [`queue`] | one lane per account; when to try, and what follows from an outcome |
//! | [`inbound`] | listeners, credentials, policy, taking a message over |
//! | [`sim`] | a simulated Exchange Online for the demo, tests and benchmarks |
//! | [`daemon`] | all of it, started and stopped as one |
//! | [`telemetry`] | where log lines go |
//! | [`cli`] | the commands |
//!
//! # The way of a message
//!
//! One direction, no turning back:
//!
//! ```text
//! listener -> session core -> credential and policy -> body (memory, or a file when large)
//!    -> lane -> confirm or commit -> token -> warm upstream session -> outcome per recipient
//!    -> settle
//! ```
//!
//! [`inbound`] drives the server core until the end of data; [`queue::Queue::submit`] decides by
//! the way of delivery; [`outbound::Upstream::attempt`] makes one attempt; [`store::Store::settle`]
//! records what became of every recipient. The reply to the client is 250 only if upstream has
//! taken the message or the store has committed it.
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![warn(rust_2018_idioms, unreachable_pub)]

pub mod base;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod inbound;
pub mod mail;
pub mod net;
pub mod oauth;
pub mod outbound;
pub mod queue;
pub mod sim;
pub mod smtp;
pub mod store;
pub mod telemetry;
pub mod token;
