//! What a listener wants of its sessions.

use crate::smtp::dot::BareNewline;

/// The settings of one session; they come from its listener.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Our name, for the greeting and the reply to EHLO.
    pub hostname: String,
    /// Octets of the largest message; announced by SIZE.
    pub max_message_octets: u64,
    /// STARTTLS is offered (until TLS is active).
    pub starttls: bool,
    /// The connection is encrypted from its first byte on.
    pub tls_active: bool,
    /// Nothing but EHLO, NOOP, STARTTLS and QUIT before TLS: `530 5.7.0` (RFC 3207 §4).
    pub require_tls: bool,
    /// Where AUTH is offered.
    pub auth: AuthOffer,
    /// No MAIL before a login: `530 5.7.0` (RFC 4954 §6).
    pub require_auth: bool,
    /// What to do with lines that do not end in CRLF, in bodies and in commands.
    pub bare_newline: BareNewline,
}

/// Where AUTH is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthOffer {
    /// Nowhere.
    Never,
    /// Within TLS only; asked for without it: `538 5.7.11`.
    OnlyTls,
    /// Without TLS as well.
    Plaintext,
}
