//! What comes back with the browser, or by copy and paste.
//!
//! Owns [`read_redirect`]. The state is looked at before anything else, in constant time; what a
//! stranger put beside a wrong state is never read.

use url::form_urlencoded;

use crate::base::{Printable, Secret};
use crate::oauth::hint;
use crate::oauth::identity::is_issuer;

/// Characters of a redirect URL. Entra's codes have up to about 2,000.
const REDIRECT_OCTETS: usize = 16_384;

/// The code of a redirect. `text` is the URL, the target of the request line (`/?code=…`) or only
/// the query; a pasted text may be quoted and broken into lines. Where the provider's issuer is known,
/// an `iss` beside the code has to be that one (RFC 9207 §2.4); not every provider sends it.
pub fn read_redirect(
    text: &str,
    expected_state: &Secret,
    issuer: Option<&str>,
) -> Result<Secret, RedirectError> {
    if text.len() > REDIRECT_OCTETS {
        return Err(RedirectError::NotARedirect);
    }
    let text: String = text.chars().filter(|character| !character.is_whitespace()).collect();
    let text = text.trim_matches(['"', '\'', '<', '>']);
    let query = match text.split_once('?') {
        Some((_, query)) => query,
        None if text.contains('=') && !text.contains("://") => text,
        None => return Err(RedirectError::NotARedirect),
    };
    let query = query.split('#').next().unwrap_or_default();
    let parameter = |wanted: &str| {
        let mut values = form_urlencoded::parse(query.as_bytes())
            .filter(|(name, _)| name == wanted)
            .map(|(_, value)| value.into_owned());
        match (values.next(), values.next()) {
            // RFC 6749 §3.1: a parameter must not be there twice, and an empty one is not there.
            (_, Some(_)) => Err(RedirectError::Ambiguous),
            (value, None) => Ok(value.filter(|value| !value.is_empty())),
        }
    };
    match parameter("state")?.map(Secret::new) {
        Some(state) if state == *expected_state => {}
        Some(_) => return Err(RedirectError::WrongState),
        None => return Err(RedirectError::NoState),
    }
    if let (Some(expected), Some(found)) = (issuer, parameter("iss")?)
        && !is_issuer(&found, expected)
    {
        return Err(RedirectError::WrongIssuer {
            found: Printable::text(&found).to_string(),
            expected: expected.to_owned(),
        });
    }
    if let Some(error) = parameter("error")? {
        let description = parameter("error_description")?.unwrap_or_default();
        return Err(RedirectError::Refused {
            hint: hint(&error, &description).map(|hint| hint.to_string()),
            error: Printable::text(&error).to_string(),
            description: Printable::text(&description).to_string(),
        });
    }
    parameter("code")?.map(Secret::new).ok_or(RedirectError::NoCode)
}

/// Why a redirect yields no code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// It is not a redirect at all.
    #[error(
        "this is not the address that the browser ended at; copy all of it from the address bar \
         (it begins with http://localhost and has code= and state= in it)"
    )]
    NotARedirect,
    /// It has no state: cut off, or not from our request.
    #[error("the address has no state= in it; copy all of it from the browser's address bar")]
    NoState,
    /// Its state is not ours.
    #[error(
        "the address belongs to another sign-in (its state is not ours); start again and use the \
         newest page"
    )]
    WrongState,
    /// A parameter is there twice.
    #[error("the address has a parameter twice; start the sign-in again")]
    Ambiguous,
    /// Another authorization server answered.
    #[error(
        "the sign-in was answered by {found} and not by {expected}, so its code is not used; sign \
         in again, and follow no other address than the one shown here"
    )]
    WrongIssuer {
        /// `iss`, safe to show.
        found: String,
        /// The provider's.
        expected: String,
    },
    /// The provider or the person said no.
    #[error("the provider refused the sign-in: {error}: {description}{}", hint_text(hint))]
    Refused {
        /// `error` of RFC 6749 §4.1.2.1, safe to show.
        error: String,
        /// `error_description`, safe to show.
        description: String,
        /// What it usually means and what to do.
        hint: Option<String>,
    },
    /// Our state, but neither code nor error.
    #[error("the address has no code= in it; copy all of it from the browser's address bar")]
    NoCode,
}

fn hint_text(hint: &Option<String>) -> String {
    hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_code_is_found_in_every_form_of_the_redirect() {
        let state = Secret::new("st+te");
        let cases = [
            "http://localhost:4711/?code=c%2Fde&state=st%2Bte",
            "http://localhost:4711/?state=st%2Bte&session_state=x&code=c%2Fde#fragment",
            "/?code=c%2Fde&state=st%2Bte",
            "code=c%2Fde&state=st%2Bte",
            "  \"http://localhost:4711/?code=c%2F\n   de&state=st%2Bte\"\r\n",
            "<http://localhost:4711/?code=c%2Fde&state=st%2Bte&error=>",
        ];
        for text in cases {
            assert_eq!(read_redirect(text, &state, None), Ok(Secret::new("c/de")), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let state = Secret::new("right");
        let cases = [
            ("", RedirectError::NotARedirect),
            ("http://localhost:4711/", RedirectError::NotARedirect),
            ("0.AXoAbare-code", RedirectError::NotARedirect),
            ("/?code=c", RedirectError::NoState),
            ("/?code=c&state=", RedirectError::NoState),
            ("/?code=c&state=wrong", RedirectError::WrongState),
            ("/?code=c&state=right2", RedirectError::WrongState),
            ("/?error=access_denied&state=wrong", RedirectError::WrongState),
            ("/?state=right&state=right&code=c", RedirectError::Ambiguous),
            ("/?state=right&code=c&code=d", RedirectError::Ambiguous),
            ("/?state=right", RedirectError::NoCode),
        ];
        for (text, expected) in cases {
            assert_eq!(read_redirect(text, &state, None), Err(expected), "{text}");
        }
    }

    #[test]
    fn a_refusal_is_shown_without_control_characters_and_with_its_hint() {
        let text = "/?state=s&code=c&error=access_denied&error_description=AADSTS65004%1b%5b31m";
        let refused = read_redirect(text, &Secret::new("s"), None).unwrap_err();
        let shown = refused.to_string();
        assert!(shown.contains("access_denied: AADSTS65004\\u{1b}[31m"), "{shown}");
        assert!(matches!(refused, RedirectError::Refused { hint: Some(_), .. }));
    }

    #[test]
    fn another_issuer_is_refused_where_ours_is_known() {
        let (state, ours) = (Secret::new("s"), Some("https://login.example/t"));
        let answer = |iss: &str| format!("/?code=c&state=s{iss}");
        for (iss, issuer, is_fine) in [
            ("", ours, true),
            ("&iss=https%3A%2F%2Flogin.example%2Ft", ours, true),
            ("&iss=https%3A%2F%2Fevil.example%2Ft", None, true),
            ("&iss=https%3A%2F%2Fevil.example%2Ft", ours, false),
            ("&error=x&iss=https%3A%2F%2Fevil.example%2Ft", ours, false),
        ] {
            let read = read_redirect(&answer(iss), &state, issuer);
            assert_eq!(read.is_ok(), is_fine, "{iss}");
            let is_wrong = matches!(read, Err(RedirectError::WrongIssuer { .. }));
            assert_eq!(is_wrong, !is_fine, "{iss}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_none_passes_without_the_state(text in "\\PC{0,200}") {
            prop_assert!(read_redirect(&text, &Secret::new("a state that is not in it"), None).is_err());
        }
    }
}
