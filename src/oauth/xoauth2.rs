//! The initial response of SASL XOAUTH2.
//!
//! Owns [`xoauth2`]. Both parts are checked here, at assembly, and nowhere else has to be trusted:
//! a user name with 0x01 could add a field of its own, a token with CRLF a command.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::base::{Secret, limits};

/// `base64("user=" user ^A "auth=Bearer " token ^A ^A)`, on one line.
pub fn xoauth2(user: &str, token: &Secret) -> Result<Secret, SaslError> {
    if !is_user(user) {
        return Err(SaslError::User);
    }
    if !is_bearer_token(token.expose()) {
        return Err(SaslError::Token);
    }
    let text = Zeroizing::new(format!("user={user}\x01auth=Bearer {}\x01\x01", token.expose()));
    Ok(Secret::new(STANDARD.encode(text.as_bytes())))
}

/// True if the text can be a user name: not empty, not longer than
/// [`limits::USER_NAME_OCTETS`], no control characters.
pub(super) fn is_user(text: &str) -> bool {
    (1..=limits::USER_NAME_OCTETS).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// True if the text can stand in an AUTH response and in an `Authorization` header: visible ASCII,
/// not empty, not longer than [`limits::ACCESS_TOKEN_OCTETS`].
pub(super) fn is_bearer_token(text: &str) -> bool {
    (1..=limits::ACCESS_TOKEN_OCTETS).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Which part cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SaslError {
    /// The user name is empty, too long or has a control character.
    #[error("the mailbox cannot be a user name: it is empty, too long or has a control character")]
    User,
    /// The host is empty, too long or has a character that no host has.
    #[error("the host of the mail server cannot be named in a login")]
    Host,
    /// The token is empty, too long or has a character that no token has.
    #[error("the access token is empty, too long or has characters that no token has")]
    Token,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_the_specification() {
        // Google, "The SASL XOAUTH2 Mechanism".
        let blob = xoauth2(
            "someuser@example.com",
            &Secret::new("ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg"),
        );
        assert_eq!(
            blob.unwrap().expose(),
            "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNr\
             QmhkSFJoZG1semRHRXVZMjl0Q2cBAQ=="
        );
    }

    #[test]
    fn neither_part_can_add_a_field_or_a_line() {
        let good = Secret::new("token");
        for user in ["", "a\x01auth=Bearer x", "a\r\nb", "a\0b", "a\u{85}b", &"x".repeat(321)] {
            assert_eq!(xoauth2(user, &good), Err(SaslError::User), "{user:?}");
        }
        let long = "x".repeat(limits::ACCESS_TOKEN_OCTETS + 1);
        for token in ["", "a b", "a\x01b", "a\r\nb", "tökén", &long] {
            assert_eq!(xoauth2("a@b.c", &Secret::new(token)), Err(SaslError::Token));
        }
        let longest = Secret::new("x".repeat(limits::ACCESS_TOKEN_OCTETS));
        let response = xoauth2(&"u".repeat(limits::USER_NAME_OCTETS), &longest).unwrap();
        assert!(response.expose().len() + 2 <= limits::AUTH_LINE_OCTETS);
    }

    proptest! {
        #[test]
        fn what_is_assembled_has_exactly_three_marks(user in "\\PC{1,40}", token in "[!-~]{1,80}") {
            prop_assume!(!user.chars().any(char::is_control));
            let blob = xoauth2(&user, &Secret::new(token.clone())).unwrap();
            let text = String::from_utf8(STANDARD.decode(blob.expose()).unwrap()).unwrap();
            prop_assert_eq!(text, format!("user={user}\x01auth=Bearer {token}\x01\x01"));
        }
    }
}
