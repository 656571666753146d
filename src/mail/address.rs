//! Mailboxes as RFC 5321 §4.1.2 and RFC 6531 §3.3 write them.
//!
//! Owns [`Mailbox`], the only type that may be written into a MAIL or RCPT command. Invariant: its
//! text holds no control character, no space outside quotes and no angle bracket outside quotes,
//! and it parses to itself again.

use std::fmt;
use std::str::FromStr;

/// Octets of a local part: RFC 5321 §4.5.3.1.1 says 64; longer ones exist (VERP), so we take what
/// still leaves room in a path of 256 octets twice over.
const LOCAL_PART_OCTETS: usize = 256;

/// Octets of a domain: RFC 5321 §4.5.3.1.2.
const DOMAIN_OCTETS: usize = 255;

/// `local-part@domain`, kept as it was written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Mailbox {
    text: String,
    at: usize,
}

impl Mailbox {
    /// Parses `local-part@domain`, without angle brackets.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let at = match text.starts_with('"') {
            true => quoted_string_length(text).ok_or(AddressError::LocalPart)?,
            false => text.find('@').ok_or(AddressError::NoDomain)?,
        };
        let (local, rest) = text.split_at(at);
        let domain = rest.strip_prefix('@').ok_or(AddressError::NoDomain)?;
        if local.len() > LOCAL_PART_OCTETS || domain.len() > DOMAIN_OCTETS {
            return Err(AddressError::TooLong);
        }
        if !local.starts_with('"') && !is_dot_string(local) {
            return Err(AddressError::LocalPart);
        }
        if !is_domain(domain) && !is_address_literal(domain) {
            return Err(AddressError::Domain);
        }
        Ok(Self { text: text.to_owned(), at })
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the `@`, with its quotes if it has any.
    pub fn local_part(&self) -> &str {
        &self.text[..self.at]
    }

    /// What stands behind the `@`.
    pub fn domain(&self) -> &str {
        &self.text[self.at + 1..]
    }

    /// True if a server without SMTPUTF8 can take it.
    pub fn is_ascii(&self) -> bool {
        self.text.is_ascii()
    }

    /// The address in lower case, for comparing. RFC 5321 §2.4 leaves the case of a local part to
    /// its host; every mailbox provider that we serve ignores it.
    pub fn to_key(&self) -> String {
        self.text.to_lowercase()
    }

    /// True if both name the same mailbox, without regard to case.
    pub fn is_same_as(&self, other: &Mailbox) -> bool {
        self.to_key() == other.to_key()
    }
}

impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{}>", self.text)
    }
}

impl FromStr for Mailbox {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

/// Why a text is not a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@` with something behind it.
    #[error("there is no @ with a domain behind it")]
    NoDomain,
    /// The part before the `@` is empty or holds what needs quotes.
    #[error("the part before the @ is empty or has a character that is not allowed there")]
    LocalPart,
    /// The part behind the `@` is neither a domain nor an address literal.
    #[error("the part behind the @ is not a domain")]
    Domain,
    /// Longer than RFC 5321 §4.5.3.1 allows.
    #[error("the address is too long")]
    TooLong,
}

/// True for a host or domain name, or an address literal, that may be written into a command.
pub(crate) fn is_host_name(text: &str) -> bool {
    text.len() <= DOMAIN_OCTETS && (is_domain(text) || is_address_literal(text))
}

/// Dot-string of RFC 5321 §4.1.2. Leading, trailing and double dots are let through: they exist
/// (Japanese mobile providers), and whether such a mailbox exists is for its host to say.
fn is_dot_string(local: &str) -> bool {
    !local.is_empty() && local.chars().all(|c| c == '.' || is_atext(c))
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || is_wide(c)
}

/// Non-ASCII that RFC 6531 §3.3 allows, less the characters that only deceive a reader.
fn is_wide(c: char) -> bool {
    !c.is_ascii()
        && !c.is_control()
        && !c.is_whitespace()
        && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
        && !matches!(c, '\u{feff}' | '\u{fff9}'..='\u{ffff}')
}

/// Length of the quoted string at the start of `text`, with its quotes.
fn quoted_string_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if c.is_ascii_control() => return None,
            _ if !c.is_ascii() && !is_wide(c) => return None,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn is_domain(domain: &str) -> bool {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    !domain.is_empty()
        && domain.split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && !label.starts_with('-')
                && label
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c) || is_wide(c))
        })
}

fn is_address_literal(domain: &str) -> bool {
    let Some(inside) = domain.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) else {
        return false;
    };
    match inside.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:")) {
        Some(_) => inside[5..].parse::<std::net::Ipv6Addr>().is_ok(),
        None => inside.parse::<std::net::Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_are_mailboxes() {
        for text in [
            "scanner@contoso.com",
            "a.b+c=d@x-y.example",
            "\"two words\"@example.com",
            "\"quoted\\\"@inside\"@example.com",
            "root@localhost",
            "user@[192.0.2.1]",
            "user@[IPv6:2001:db8::1]",
            "grüße@bücher.example",
            "dots..twice.@example.com",
            "trailing@example.com.",
        ] {
            let mailbox = Mailbox::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(mailbox.to_string(), text);
            assert_eq!(format!("{}@{}", mailbox.local_part(), mailbox.domain()), text);
        }
    }

    #[test]
    fn texts_that_are_not_mailboxes() {
        for (text, why) in [
            ("", AddressError::NoDomain),
            ("nobody", AddressError::NoDomain),
            ("a@", AddressError::Domain),
            ("@b", AddressError::LocalPart),
            ("a b@c", AddressError::LocalPart),
            ("a@b@c", AddressError::Domain),
            ("a@b c", AddressError::Domain),
            ("a@b\r\nRCPT", AddressError::Domain),
            ("a\r\n@b", AddressError::LocalPart),
            ("<a@b>", AddressError::LocalPart),
            ("a@b>", AddressError::Domain),
            ("\"open@b", AddressError::LocalPart),
            ("\"a\rb\"@c", AddressError::LocalPart),
            ("a@-b.example", AddressError::Domain),
            ("a@[300.1.1.1]", AddressError::Domain),
            ("a\u{202e}@b", AddressError::LocalPart),
            ("a\u{2028}@b", AddressError::LocalPart),
        ] {
            assert_eq!(Mailbox::parse(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn comparing_ignores_case() {
        let one = Mailbox::parse("Scanner@Contoso.COM").unwrap();
        let two = Mailbox::parse("scanner@contoso.com").unwrap();
        assert!(one.is_same_as(&two));
        assert_ne!(one, two);
    }
}
