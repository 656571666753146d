//! The SMTP service of the simulated provider, driven by a raw client.

mod client;
mod dialog;
mod faults;
mod limits;
