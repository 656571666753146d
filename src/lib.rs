//! mailbearer is a local SMTP relay that adds OAuth2: old SMTP in, XOAUTH2 out.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod base;
pub mod cli;
pub mod config;
pub mod inbound;
pub mod mail;
pub mod net;
pub mod oauth;
pub mod outbound;
pub mod platform;
pub mod queue;
pub mod sim;
pub mod smtp;
pub mod store;
pub mod telemetry;
pub mod token;
