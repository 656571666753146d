//! The initial response of SASL OAUTHBEARER: RFC 7628 §3.1.
//!
//! Owns [`oauthbearer`]. As with XOAUTH2 every part is checked here, at assembly: a user name with
//! a comma could end the GS2 header, one with 0x01 add a field, a token with CRLF a command.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::base::{Secret, limits};
use crate::oauth::xoauth2::{SaslError, is_bearer_token, is_user};

/// Octets of a host name: RFC 1035 §2.3.4, an address in brackets is shorter.
const HOST_OCTETS: usize = 255;

/// `base64("n,a=" user "," ^A "host=" host ^A "port=" port ^A "auth=Bearer " token ^A ^A)`, on one
/// line.
pub fn oauthbearer(user: &str, token: &Secret, host: &str, port: u16) -> Result<Secret, SaslError> {
    if !is_user(user) {
        return Err(SaslError::User);
    }
    let is_host =
        (1..=HOST_OCTETS).contains(&host.len()) && host.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_host {
        return Err(SaslError::Host);
    }
    if !is_bearer_token(token.expose()) {
        return Err(SaslError::Token);
    }
    let user = saslname(user);
    let text = Zeroizing::new(format!(
        "n,a={user},\x01host={host}\x01port={port}\x01auth=Bearer {}\x01\x01",
        token.expose()
    ));
    let response = Secret::new(STANDARD.encode(text.as_bytes()));
    match response.expose().len() + "\r\n".len() <= limits::AUTH_LINE_OCTETS {
        true => Ok(response),
        false => Err(SaslError::Token),
    }
}

/// RFC 5801 §4: a comma ends a name, and an equals sign begins an escape.
fn saslname(user: &str) -> String {
    user.replace('=', "=3D").replace(',', "=2C")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decoded(response: &Secret) -> String {
        String::from_utf8(STANDARD.decode(response.expose()).unwrap()).unwrap()
    }

    #[test]
    fn the_example_of_the_specification() {
        // RFC 7628 §4.1, with the trailing characters that its erratum adds to the token.
        let token = Secret::new("vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
        let response = oauthbearer("user@example.com", &token, "server.example.com", 143).unwrap();
        assert_eq!(
            response.expose(),
            "bixhPXVzZXJAZXhhbXBsZS5jb20sAWhvc3Q9c2VydmVyLmV4YW1wbGUuY29tAXBvcnQ9MTQzAWF1dGg9QmVhcm\
             VyIHZGOWRmdDRxbVRjMk52YjNSbGNrQmhiSFJoZG1semRHRXVZMjl0Q2c9PQEB"
        );
    }

    #[test]
    fn a_name_cannot_leave_the_header() {
        let response = oauthbearer("a,b=2C@c.d", &Secret::new("t"), "h", 587).unwrap();
        let expected = "n,a=a=2Cb=3D2C@c.d,\x01host=h\x01port=587\x01auth=Bearer t\x01\x01";
        assert_eq!(decoded(&response), expected);
    }

    #[test]
    fn no_part_can_add_a_field_or_a_line() {
        let good = Secret::new("token");
        for user in ["", "a\x01auth=Bearer x", "a\r\nb", "a\0b", "a\u{85}b", &"x".repeat(321)] {
            assert_eq!(oauthbearer(user, &good, "h", 1), Err(SaslError::User), "{user:?}");
        }
        for host in ["", "a b", "a\x01b", "a\r\nb", "tök.example", &"x".repeat(256)] {
            assert_eq!(oauthbearer("a@b.c", &good, host, 1), Err(SaslError::Host), "{host:?}");
        }
        let long = "x".repeat(limits::ACCESS_TOKEN_OCTETS + 1);
        for token in ["", "a b", "a\x01b", "a\r\nb", "tökén", &long] {
            let token = Secret::new(token);
            assert_eq!(oauthbearer("a@b.c", &token, "h", 1), Err(SaslError::Token));
        }
        // The longest of everything does not fit a line of AUTH, and is not sent in part.
        let longest = Secret::new("x".repeat(limits::ACCESS_TOKEN_OCTETS));
        let user = ",".repeat(limits::USER_NAME_OCTETS);
        let refused = oauthbearer(&user, &longest, &"h".repeat(HOST_OCTETS), 65_535);
        assert_eq!(refused, Err(SaslError::Token));
        let response = oauthbearer("scanner@contoso.com", &longest, "smtp.example.com", 587);
        assert!(response.unwrap().expose().len() + 2 <= limits::AUTH_LINE_OCTETS);
    }

    proptest! {
        #[test]
        fn the_name_comes_back(user in "[ -~]{1,40}", token in "[!-~]{1,80}") {
            let response = oauthbearer(&user, &Secret::new(token.clone()), "h", 25).unwrap();
            let text = decoded(&response);
            let (header, rest) = text.split_once('\x01').unwrap();
            let name = header.strip_prefix("n,a=").unwrap().strip_suffix(',').unwrap();
            prop_assert!(!name.contains(','));
            prop_assert_eq!(name.replace("=2C", ",").replace("=3D", "="), user);
            let expected = format!("host=h\x01port=25\x01auth=Bearer {token}\x01\x01");
            prop_assert_eq!(rest, expected);
        }
    }
}
