//! The client's side of XOAUTH2 and OAUTHBEARER, read the strict way.
//!
//! Owns [`read_xoauth2`]: `base64("user=" user ^A "auth=Bearer " token ^A ^A)`, and
//! [`read_oauthbearer`]: `base64("n,a=" user "," ^A *(key "=" value ^A) ^A)` with `auth=Bearer` among
//! the keys; nothing more and nothing less. Sources: Google's and Microsoft's pages on XOAUTH2,
//! RFC 7628 §3.1, RFC 5801 §4.

use base64::prelude::{BASE64_STANDARD, Engine};

/// What a response holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Response {
    Token(Credentials),
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
    read(response, |text| {
        let (user, rest) = text.strip_prefix("user=")?.split_once('\u{1}')?;
        let token = rest.strip_prefix("auth=Bearer ")?.strip_suffix("\u{1}\u{1}")?;
        Some((user.to_owned(), token))
    })
}

/// Reads a response; `=` stands for an empty initial one.
pub(super) fn read_oauthbearer(response: &str) -> Response {
    read(response, |text| {
        let (header, pairs) = text.split_once('\u{1}')?;
        let name = header.strip_prefix("n,a=")?.strip_suffix(',')?;
        let mut token = None;
        for pair in pairs.strip_suffix("\u{1}\u{1}")?.split('\u{1}') {
            let (key, value) = pair.split_once('=')?;
            let is_key = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphabetic());
            match key {
                "auth" if token.is_none() => token = Some(value.strip_prefix("Bearer ")?),
                _ if is_key && key != "auth" => {}
                _ => return None,
            }
        }
        Some((unescaped(name)?, token?))
    })
}

/// RFC 5801 §4: `=2C` is a comma, `=3D` an equals sign, and neither stands for itself.
fn unescaped(name: &str) -> Option<String> {
    let mut pieces = name.split('=');
    let mut text = pieces.next()?.to_owned();
    for piece in pieces {
        let (sign, rest) = piece
            .strip_prefix("2C")
            .map(|rest| (',', rest))
            .or_else(|| piece.strip_prefix("3D").map(|rest| ('=', rest)))?;
        text.push(sign);
        text.push_str(rest);
    }
    (!name.contains(',')).then_some(text)
}

fn read(response: &str, parts: impl FnOnce(&str) -> Option<(String, &str)>) -> Response {
    if response == "*" {
        return Response::Cancelled;
    }
    let Ok(bytes) = BASE64_STANDARD.decode(response.trim_end_matches(' ')) else {
        return if response == "=" { Response::Malformed } else { Response::NotBase64 };
    };
    let parsed = String::from_utf8(bytes).ok().and_then(|text| {
        let (user, token) = parts(&text)?;
        let is_clean = !user.is_empty() && !token.is_empty() && !token.contains('\u{1}');
        is_clean.then(|| Credentials { user, token: token.to_owned() })
    });
    parsed.map_or(Response::Malformed, Response::Token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_form_is_read() {
        let good = Credentials { user: "a@b".to_owned(), token: "t".to_owned() };
        for (text, expected) in [
            ("user=a@b\u{1}auth=Bearer t\u{1}\u{1}", Response::Token(good)),
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

    #[test]
    fn the_name_of_oauthbearer_is_unescaped() {
        let good = |user: &str| {
            Response::Token(Credentials { user: user.to_owned(), token: "t".to_owned() })
        };
        for (text, expected) in [
            ("n,a=a@b,\u{1}host=h\u{1}port=1\u{1}auth=Bearer t\u{1}\u{1}", good("a@b")),
            ("n,a=a@b,\u{1}auth=Bearer t\u{1}\u{1}", good("a@b")),
            ("n,a=a=2Cb=3D2C,\u{1}auth=Bearer t\u{1}\u{1}", good("a,b=2C")),
            ("n,a=a,b,\u{1}auth=Bearer t\u{1}\u{1}", Response::Malformed),
            ("n,a=a=b,\u{1}auth=Bearer t\u{1}\u{1}", Response::Malformed),
            ("n,a=a@b\u{1}auth=Bearer t\u{1}\u{1}", Response::Malformed),
            ("y,a=a@b,\u{1}auth=Bearer t\u{1}\u{1}", Response::Malformed),
            ("n,a=a@b,\u{1}auth=Bearer t\u{1}", Response::Malformed),
            ("n,a=a@b,\u{1}host=h\u{1}\u{1}", Response::Malformed),
            ("n,a=a@b,\u{1}auth=Bearer t\u{1}auth=Bearer u\u{1}\u{1}", Response::Malformed),
            ("user=a@b\u{1}auth=Bearer t\u{1}\u{1}", Response::Malformed),
        ] {
            assert_eq!(read_oauthbearer(&BASE64_STANDARD.encode(text)), expected, "{text:?}");
        }
    }
}
