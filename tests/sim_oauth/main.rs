//! The authorization server of the simulated provider, driven by a minimal HTTP client.

mod client;
mod faults;
mod flows;
