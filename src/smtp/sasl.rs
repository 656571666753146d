//! SASL as a server sees it: PLAIN (RFC 4616) and LOGIN (draft-murchison-sasl-login), inside the
//! AUTH command of RFC 4954.
//!
//! Owns [`Mechanism`] and [`Exchange`]. An exchange is made afresh for every AUTH and ends in
//! credentials or in a fault; it never judges credentials. Base64 is read strictly, except that old
//! clients may leave its padding away.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

use crate::base::{Secret, limits};

/// What is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// One response: authorization identity, name and password.
    Plain,
    /// A prompt for the name and a prompt for the password.
    Login,
}

impl Mechanism {
    /// Reads the name of a mechanism, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            _ if name.eq_ignore_ascii_case("PLAIN") => Some(Self::Plain),
            _ if name.eq_ignore_ascii_case("LOGIN") => Some(Self::Login),
            _ => None,
        }
    }
}

/// `Username:`. Some devices compare the text, so it has to be exactly this.
const USERNAME_PROMPT: &str = "VXNlcm5hbWU6";

/// `Password:`, likewise.
const PASSWORD_PROMPT: &str = "UGFzc3dvcmQ6";

/// An exchange that waits for a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange(Awaits);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Awaits {
    PlainResponse,
    LoginName,
    LoginPassword { name: String },
}

/// Where an exchange is after a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaslStep {
    /// Send `334` with this text, which is already base64, and wait for a response.
    Challenge(Exchange, &'static str),
    /// The exchange is complete.
    Credentials {
        /// The user name: not empty, without control characters, at most
        /// [`limits::USER_NAME_OCTETS`].
        name: String,
        /// The password.
        password: Secret,
    },
    /// The exchange has failed.
    Fault(SaslFault),
}

/// Why an exchange has failed before any credentials could be checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaslFault {
    /// The client wants to act as somebody else than it logs in as.
    #[error("the authorization identity has to be empty or equal to the user name")]
    AuthorizationIdentity,
    /// The client sent `*`.
    #[error("the login was cancelled")]
    Cancelled,
    /// The response is not base64.
    #[error("the response is not valid base64")]
    NotBase64,
    /// PLAIN needs three fields with NUL between them, and a password holds no NUL.
    #[error("the response does not have the fields that the mechanism wants")]
    Fields,
    /// The name is empty, too long, not UTF-8, or holds a control character.
    #[error("the user name is empty, too long, or has a character that is not allowed")]
    UserName,
}

impl Exchange {
    /// Begins an exchange. The initial response is what stood on the AUTH line, if anything did.
    pub fn begin(mechanism: Mechanism, initial_response: Option<&Secret>) -> SaslStep {
        let (exchange, prompt) = match mechanism {
            Mechanism::Plain => (Self(Awaits::PlainResponse), ""),
            Mechanism::Login => (Self(Awaits::LoginName), USERNAME_PROMPT),
        };
        match initial_response.map(Secret::expose) {
            None => SaslStep::Challenge(exchange, prompt),
            // RFC 4954 §4: an initial response that is there, but empty.
            Some("=") => exchange.take(&[]),
            Some(text) => exchange.respond(text.as_bytes()),
        }
    }

    /// Takes a response, given without its line end.
    pub fn respond(self, line: &[u8]) -> SaslStep {
        if line == b"*" {
            return SaslStep::Fault(SaslFault::Cancelled);
        }
        match decode(line) {
            Ok(octets) => self.take(&octets),
            Err(fault) => SaslStep::Fault(fault),
        }
    }

    fn take(self, response: &[u8]) -> SaslStep {
        let step = match self.0 {
            Awaits::PlainResponse => plain(response),
            Awaits::LoginName => user_name(response).map(|name| {
                SaslStep::Challenge(Self(Awaits::LoginPassword { name }), PASSWORD_PROMPT)
            }),
            Awaits::LoginPassword { name } => {
                password(response).map(|password| SaslStep::Credentials { name, password })
            }
        };
        step.unwrap_or_else(SaslStep::Fault)
    }
}

/// Reads base64 strictly: padding is whole or missing, and nothing is skipped.
fn decode(line: &[u8]) -> Result<Zeroizing<Vec<u8>>, SaslFault> {
    let octets = match line.contains(&b'=') {
        true => STANDARD.decode(line),
        false => STANDARD_NO_PAD.decode(line),
    };
    octets.map(Zeroizing::new).map_err(|_| SaslFault::NotBase64)
}

fn plain(response: &[u8]) -> Result<SaslStep, SaslFault> {
    let mut fields = response.splitn(3, |&octet| octet == 0);
    let (Some(identity), Some(name), Some(secret)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err(SaslFault::Fields);
    };
    if !identity.is_empty() && identity != name {
        return Err(SaslFault::AuthorizationIdentity);
    }
    Ok(SaslStep::Credentials { name: user_name(name)?, password: password(secret)? })
}

fn user_name(octets: &[u8]) -> Result<String, SaslFault> {
    let name = std::str::from_utf8(octets).map_err(|_| SaslFault::UserName)?;
    let is_good =
        (1..=limits::USER_NAME_OCTETS).contains(&name.len()) && !name.chars().any(char::is_control);
    is_good.then(|| name.to_owned()).ok_or(SaslFault::UserName)
}

/// A password may hold anything but NUL. Old devices know no UTF-8: what is none is Latin-1.
fn password(octets: &[u8]) -> Result<Secret, SaslFault> {
    if octets.contains(&0) {
        return Err(SaslFault::Fields);
    }
    Ok(match std::str::from_utf8(octets) {
        Ok(text) => Secret::new(text),
        Err(_) => Secret::new(octets.iter().map(|&octet| char::from(octet)).collect::<String>()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn base64(text: &[u8]) -> String {
        STANDARD.encode(text)
    }

    fn begin(mechanism: Mechanism, initial_response: Option<&str>) -> SaslStep {
        Exchange::begin(mechanism, initial_response.map(Secret::new).as_ref())
    }

    fn credentials(name: &str, password: &str) -> SaslStep {
        SaslStep::Credentials { name: name.to_owned(), password: Secret::new(password) }
    }

    fn prompt_for(step: SaslStep) -> (Exchange, &'static str) {
        match step {
            SaslStep::Challenge(exchange, prompt) => (exchange, prompt),
            other => panic!("expected a prompt: {other:?}"),
        }
    }

    #[test]
    fn prompts_are_exactly_what_devices_compare_them_with() {
        assert_eq!(USERNAME_PROMPT, base64(b"Username:"));
        assert_eq!(PASSWORD_PROMPT, base64(b"Password:"));
    }

    #[test]
    fn plain_with_and_without_an_initial_response() {
        let cases: [(&[u8], SaslStep); 12] = [
            (b"\0user\0pass", credentials("user", "pass")),
            (b"user\0user\0pass", credentials("user", "pass")),
            (b"\0user\0", credentials("user", "")),
            ("\0us\u{e9}r\0p\u{e4}ss".as_bytes(), credentials("us\u{e9}r", "p\u{e4}ss")),
            (b"\0user\0p\xe4ss", credentials("user", "p\u{e4}ss")),
            (b"other\0user\0pass", SaslStep::Fault(SaslFault::AuthorizationIdentity)),
            (b"user\0pass", SaslStep::Fault(SaslFault::Fields)),
            (b"", SaslStep::Fault(SaslFault::Fields)),
            (b"\0user\0pa\0ss", SaslStep::Fault(SaslFault::Fields)),
            (b"\0\0pass", SaslStep::Fault(SaslFault::UserName)),
            (b"\0us\x01er\0pass", SaslStep::Fault(SaslFault::UserName)),
            (b"\0us\xffer\0pass", SaslStep::Fault(SaslFault::UserName)),
        ];
        for (response, step) in cases {
            let text = base64(response);
            if !response.is_empty() {
                assert_eq!(begin(Mechanism::Plain, Some(&text)), step, "{response:?}");
            }
            let (exchange, prompt) = prompt_for(begin(Mechanism::Plain, None));
            assert_eq!(prompt, "");
            assert_eq!(exchange.respond(text.as_bytes()), step, "{response:?}");
        }
    }

    #[test]
    fn login_in_two_steps_or_with_the_name_on_the_auth_line() {
        let (exchange, prompt) = prompt_for(begin(Mechanism::Login, None));
        assert_eq!(prompt, USERNAME_PROMPT);
        let (exchange, prompt) = prompt_for(exchange.respond(base64(b"user").as_bytes()));
        assert_eq!(prompt, PASSWORD_PROMPT);
        assert_eq!(exchange.respond(base64(b"pass").as_bytes()), credentials("user", "pass"));

        let (exchange, prompt) = prompt_for(begin(Mechanism::Login, Some(&base64(b"user"))));
        assert_eq!(prompt, PASSWORD_PROMPT);
        assert_eq!(exchange.clone().respond(b""), credentials("user", ""));
        assert_eq!(exchange.clone().respond(b"*"), SaslStep::Fault(SaslFault::Cancelled));
        assert_eq!(
            exchange.respond(base64(b"pa\0ss").as_bytes()),
            SaslStep::Fault(SaslFault::Fields)
        );
    }

    #[test]
    fn base64_may_lack_its_padding_and_nothing_else() {
        let name = |text: &str| match begin(Mechanism::Login, Some(text)) {
            SaslStep::Challenge(Exchange(Awaits::LoginPassword { name }), _) => Ok(name),
            SaslStep::Fault(fault) => Err(fault),
            other => panic!("{other:?}"),
        };
        assert_eq!(name("dXNlcg=="), Ok("user".to_owned()));
        assert_eq!(name("dXNlcg"), Ok("user".to_owned()));
        assert_eq!(name("="), Err(SaslFault::UserName));
        assert_eq!(name("*"), Err(SaslFault::Cancelled));
        for text in
            ["dXNlcg=", "dXNl cg==", "dX=lcg==", "dXNlcg===", "d", "user@", "dXNlch==", "dX-_"]
        {
            assert_eq!(name(text), Err(SaslFault::NotBase64), "{text:?}");
        }
        let longest = "x".repeat(limits::USER_NAME_OCTETS);
        assert_eq!(name(&base64(longest.as_bytes())), Ok(longest.clone()));
        assert_eq!(name(&base64(format!("{longest}x").as_bytes())), Err(SaslFault::UserName));
    }

    #[test]
    fn mechanisms_in_any_case() {
        assert_eq!(Mechanism::parse("login"), Some(Mechanism::Login));
        assert_eq!(Mechanism::parse("Plain"), Some(Mechanism::Plain));
        assert_eq!(Mechanism::parse("CRAM-MD5"), None);
        assert_eq!(Mechanism::parse("PLAIN "), None);
    }

    proptest! {
        #[test]
        fn credentials_arrive_as_they_were_sent(
            name in "[^\\pC]{1,40}",
            secret in "[^\0]{0,40}",
        ) {
            let response = base64(format!("\0{name}\0{secret}").as_bytes());
            prop_assert_eq!(begin(Mechanism::Plain, Some(&response)), credentials(&name, &secret));
        }

        #[test]
        fn any_response_is_read_without_a_panic(line in prop::collection::vec(any::<u8>(), 0..60)) {
            for mechanism in [Mechanism::Plain, Mechanism::Login] {
                let (exchange, _) = prompt_for(begin(mechanism, None));
                let _ = exchange.respond(&line);
                let (exchange, _) = prompt_for(begin(mechanism, None));
                let _ = exchange.respond(base64(&line).as_bytes());
            }
        }
    }
}
