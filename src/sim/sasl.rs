//! The client's side of XOAUTH2, read the strict way.
//!
//! Owns [`read_xoauth2`]: `base64("user=" user ^A "auth=Bearer " token ^A ^A)`, nothing more and
//! nothing less. Source: Google's and Microsoft's pages on XOAUTH2.

use base64::prelude::{BASE64_STANDARD, Engine};

/// What a response holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Response {
    Xoauth2(Credentials),
    /// `*`: RFC 4954 §4.
    Cancelled,
    NotBase64,
    Malformed,
}

/// The user and the token that a client presents.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) token: String,
}

/// Reads a response; `=` stands for an empty initial one.
pub(super) fn read_xoauth2(response: &str) -> Response {
    if response == "*" {
        return Response::Cancelled;
    }
    let Ok(bytes) = BASE64_STANDARD.decode(response.trim_end_matches(' ')) else {
        return if response == "=" { Response::Malformed } else { Response::NotBase64 };
    };
    let parsed = String::from_utf8(bytes).ok().and_then(|text| {
        let (user, rest) = text.strip_prefix("user=")?.split_once('\u{1}')?;
        let token = rest.strip_prefix("auth=Bearer ")?.strip_suffix("\u{1}\u{1}")?;
        let is_clean = !user.is_empty() && !token.is_empty() && !token.contains('\u{1}');
        is_clean.then(|| Credentials { user: user.to_owned(), token: token.to_owned() })
    });
    parsed.map_or(Response::Malformed, Response::Xoauth2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_read() {
        let good = Credentials { user: "a@b".to_owned(), token: "t".to_owned() };
        for (text, expected) in [
            ("user=a@b\u{1}auth=Bearer t\u{1}\u{1}", Response::Xoauth2(good)),
            ("user=a@b\u{1}auth=Bearer t\u{1}", Response::Malformed),
            ("user=a@b\u{1}auth=Bearer t\u{1}\u{1}\u{1}", Response::Malformed),
            ("user=a@b\u{1}auth=Basic t\u{1}\u{1}", Response::Malformed),
            ("user=\u{1}auth=Bearer t\u{1}\u{1}", Response::Malformed),
            ("user=a@b\u{1}auth=Bearer \u{1}\u{1}", Response::Malformed),
            ("", Response::Malformed),
        ] {
            assert_eq!(read_xoauth2(&BASE64_STANDARD.encode(text)), expected, "{text:?}");
        }
        assert_eq!(read_xoauth2("*"), Response::Cancelled);
        assert_eq!(read_xoauth2("="), Response::Malformed);
        assert_eq!(read_xoauth2("no base64!"), Response::NotBase64);
    }
}
