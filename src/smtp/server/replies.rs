//! Every reply that the server core gives by itself, in one place.
//!
//! Enhanced codes follow RFC 2034 §4: on every 2yz, 4yz and 5yz reply except the greeting and the
//! replies to HELO and EHLO, and never on 3yz.

use crate::base::{Printable, limits};
use crate::mail::EnhancedCode;
use crate::smtp::Reply;
use crate::smtp::command::{CommandError, Verb};
use crate::smtp::dot::BodyFlaw;
use crate::smtp::sasl::SaslFault;

use super::settings::{AuthOffer, ServerSettings};

/// A reply with the enhanced code `code / 100`.`subject`.`detail`.
fn reply(code: u16, subject: u16, detail: u16, text: &str) -> Reply {
    let class = match code / 100 {
        2 => 2,
        4 => 4,
        _ => 5,
    };
    Reply::new(code, EnhancedCode::new(class, subject, detail), text)
}

pub(super) fn greeting(hostname: &str) -> Reply {
    Reply::plain(220, &format!("{hostname} ESMTP mailbearer"))
}

pub(super) fn hello(settings: &ServerSettings, tls_active: bool, is_extended: bool) -> Reply {
    let mut lines = vec![settings.hostname.clone()];
    if is_extended {
        lines.push(format!("SIZE {}", settings.max_message_octets));
        lines.extend(
            ["PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"].map(str::to_owned),
        );
        if settings.starttls && !tls_active {
            lines.push("STARTTLS".to_owned());
        }
        let offers_auth = match settings.auth {
            AuthOffer::Never => false,
            AuthOffer::OnlyTls => tls_active,
            AuthOffer::Plaintext => tls_active || !settings.require_tls,
        };
        if offers_auth {
            lines.push("AUTH PLAIN LOGIN".to_owned());
        }
    }
    Reply::from_lines(250, None, lines)
}

pub(super) fn ok() -> Reply {
    reply(250, 0, 0, "OK")
}

pub(super) fn bye() -> Reply {
    reply(221, 0, 0, "Bye")
}

pub(super) fn help() -> Reply {
    reply(214, 0, 0, "EHLO HELO STARTTLS AUTH MAIL RCPT DATA RSET NOOP QUIT; see RFC 5321")
}

pub(super) fn cannot_verify() -> Reply {
    reply(252, 0, 0, "Cannot verify; send some mail and see")
}

pub(super) fn no_lists() -> Reply {
    reply(502, 5, 1, "EXPN is not implemented")
}

pub(super) fn ready_for_tls() -> Reply {
    reply(220, 0, 0, "Ready to start TLS")
}

pub(super) fn tls_not_offered() -> Reply {
    reply(454, 7, 0, "TLS is not available here")
}

pub(super) fn tls_already_active() -> Reply {
    reply(503, 5, 1, "TLS is already active")
}

pub(super) fn tls_required() -> Reply {
    reply(530, 7, 0, "Must issue a STARTTLS command first")
}

pub(super) fn auth_needs_tls() -> Reply {
    reply(538, 7, 11, "Encryption required for AUTH: issue a STARTTLS command first")
}

pub(super) fn auth_not_offered() -> Reply {
    reply(502, 5, 1, "AUTH is not offered here")
}

pub(super) fn auth_required() -> Reply {
    reply(530, 7, 0, "Authentication required")
}

pub(super) fn already_authenticated() -> Reply {
    reply(503, 5, 1, "Already authenticated")
}

pub(super) fn unknown_mechanism() -> Reply {
    reply(504, 5, 4, "Mechanism not known; there are PLAIN and LOGIN")
}

pub(super) fn challenge(prompt: &str) -> Reply {
    Reply::plain(334, prompt)
}

pub(super) fn sasl_fault(fault: SaslFault) -> Reply {
    let text = sentence(&fault.to_string());
    match fault {
        SaslFault::Cancelled => reply(501, 7, 0, &text),
        SaslFault::AuthorizationIdentity
        | SaslFault::NotBase64
        | SaslFault::Fields
        | SaslFault::UserName => reply(501, 5, 2, &text),
    }
}

/// The one place where a verb at the wrong time is answered: it says what would be right.
pub(super) fn out_of_order(verb: Verb, expected: &str) -> Reply {
    reply(503, 5, 1, &format!("{verb} is not possible now: expected {expected}"))
}

pub(super) fn no_recipients() -> Reply {
    reply(554, 5, 1, "No valid recipients: expected RCPT that is answered with 250")
}

pub(super) fn too_many_recipients() -> Reply {
    reply(452, 5, 3, &format!("Too many recipients: at most {} a message", limits::RECIPIENTS))
}

pub(super) fn needs_smtputf8() -> Reply {
    reply(553, 6, 7, "An address that is not ASCII needs the parameter SMTPUTF8 of MAIL")
}

pub(super) fn message_too_large(max_octets: u64) -> Reply {
    reply(552, 3, 4, &format!("Message too large: at most {max_octets} octets"))
}

pub(super) fn endless_message() -> Reply {
    reply(421, 3, 4, "Message far too large, closing the connection")
}

pub(super) fn body_flaw(flaw: BodyFlaw) -> Reply {
    match flaw {
        BodyFlaw::BareNewline => {
            reply(550, 6, 11, "Message refused: it holds a CR or LF that stands alone")
        }
        BodyFlaw::Nul => reply(550, 6, 0, "Message refused: it holds a NUL"),
    }
}

pub(super) fn line_too_long() -> Reply {
    reply(500, 5, 2, "Line too long")
}

pub(super) fn response_too_long() -> Reply {
    reply(500, 5, 6, "Authentication exchange line is too long")
}

pub(super) fn bare_newline() -> Reply {
    reply(500, 5, 2, "A line has to end in CRLF")
}

pub(super) fn command_error(error: &CommandError) -> Reply {
    let text = sentence(&Printable::text(&error.to_string()).to_string());
    match error {
        CommandError::Address { verb: Verb::Rcpt, .. } => reply(501, 1, 3, &text),
        CommandError::Address { .. } => reply(501, 1, 7, &text),
        CommandError::Argument { verb: Verb::Ehlo | Verb::Helo, .. } => Reply::plain(501, &text),
        CommandError::Argument { .. } => reply(501, 5, 4, &text),
        CommandError::ControlCharacter => reply(500, 5, 2, &text),
        CommandError::Empty => reply(500, 5, 2, &text),
        CommandError::Http => reply(554, 5, 1, "This is SMTP, not HTTP; closing the connection"),
        CommandError::NotUtf8 => reply(501, 5, 2, &text),
        CommandError::UnknownParameter { .. } => reply(555, 5, 4, &text),
        CommandError::UnknownVerb { .. } => reply(500, 5, 1, &text),
    }
}

pub(super) fn unexpected_tls() -> Reply {
    reply(554, 5, 1, "TLS has to be started with STARTTLS here; closing the connection")
}

pub(super) fn not_waiting(verb: Verb) -> Reply {
    reply(554, 5, 0, &format!("Data came before the reply to {verb}; closing the connection"))
}

pub(super) fn too_many_errors() -> Reply {
    reply(421, 7, 0, "Too many errors, closing the connection")
}

pub(super) fn too_many_refused_logins() -> Reply {
    reply(421, 7, 0, "Too many refused logins, closing the connection")
}

pub(super) fn endless_line() -> Reply {
    reply(421, 7, 0, "Line far too long, closing the connection")
}

pub(super) fn timed_out() -> Reply {
    reply(421, 4, 2, "Nothing came for too long, closing the connection")
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}
