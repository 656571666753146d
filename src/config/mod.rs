//! Floor 2: the configuration file, from its text to checked values.
//!
//! Owns the types of the checked configuration and the only way to them, [`load`]. One TOML file,
//! read at start and by `mailbearer check`, never written. All mistakes are found in one go, and
//! each says where it is, what is wrong and what would be right.
//!
//! Invariants:
//! 1. A file with a mistake yields no configuration: there is no warning and no "used anyway".
//! 2. What is not understood is a mistake: no key and no value is passed over in silence.
//! 3. No listener serves anybody without authentication whose network was not named with an
//!    account, and no network is the internet.
//! 4. No mistake repeats what could be a secret.

mod account;
mod credential;
mod decode;
mod files;
mod host;
mod keys;
mod listener;
mod mistake;
mod model;
mod nearest;
mod network;
mod password;
mod provider;
mod section;
mod server;
mod source;
mod surroundings;
mod syntax;
mod units;

pub use crate::smtp::dot::BareNewline;
pub use decode::{load, parse};
pub use keys::all as keys;
pub use mistake::{ConfigMistakes, Mistake, Position};
pub use model::{
    Account, AccountName, AuthPolicy, CertificateFiles, Config, Credential, Delivery, Listener,
    ListenerTls, Log, LogFormat, LogLevel, Network, Provider, ProviderLimits, SenderPolicy, Server,
    SmtpEndpoint, UpstreamTls,
};
pub use network::{IpNetwork, NetworkError};
pub use password::{HashMemory, PasswordHash, PasswordHashError};
