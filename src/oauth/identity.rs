//! Who signed in, and what a token says about itself.
//!
//! Owns [`read_id_token`], which takes an ID token as it came from the token endpoint, and
//! [`token_claims`], which reads an access token for a person. Neither checks a signature: an ID
//! token that comes straight from the endpoint over TLS needs none (OpenID Connect Core §3.1.3.7
//! (6)), and nothing is ever decided by what an access token says.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::base::{Printable, Secret, Timestamp};

/// How far our clock and the provider's may be apart.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// Octets of a token whose claims are read. Access tokens have up to about 16,000.
const TOKEN_OCTETS: usize = 65_536;

/// The claims that may name a mailbox, the one that people know first.
const ADDRESS_CLAIMS: [&str; 3] = ["preferred_username", "email", "upn"];

/// What an ID token has to fit.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedIdToken<'a> {
    /// The client id that asked.
    pub client_id: &'a str,
    /// The issuer, where it is known.
    pub issuer: Option<&'a str>,
    /// The nonce of the authorization request, if it had one.
    pub nonce: Option<&'a Secret>,
    /// What time it is.
    pub now: Timestamp,
}

/// Whoever signed in, by every address that the ID token names. An address is printable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedIn {
    addresses: Vec<String>,
}

impl SignedIn {
    /// The address to show; none if the token names only a number or a pseudonym.
    pub fn address(&self) -> Option<&str> {
        self.addresses.first().map(String::as_str)
    }

    /// True if one of the addresses is this one. Case does not count.
    pub fn is(&self, address: &str) -> bool {
        self.addresses.iter().any(|known| known.to_lowercase() == address.to_lowercase())
    }
}

/// Reads an ID token of the token endpoint's answer.
pub fn read_id_token(
    token: &Secret,
    expected: &ExpectedIdToken<'_>,
) -> Result<SignedIn, IdTokenError> {
    let claims = claims_of(token.expose()).ok_or(IdTokenError::Unreadable)?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let is_for_us = match claims.get("aud") {
        Some(Value::String(audience)) => audience == expected.client_id,
        Some(Value::Array(audiences)) => {
            // More than one audience: then it has to say that it was made for us (§3.1.3.7 (4)).
            audiences.iter().any(|audience| audience.as_str() == Some(expected.client_id))
                && (audiences.len() == 1 || text("azp") == Some(expected.client_id))
        }
        _ => false,
    };
    if !is_for_us {
        return Err(IdTokenError::Audience);
    }
    if let Some(issuer) = expected.issuer
        && !text("iss").is_some_and(|found| is_issuer(found, issuer))
    {
        let found = text("iss").unwrap_or("nobody");
        return Err(IdTokenError::Issuer {
            found: Printable::text(found).to_string(),
            expected: issuer.to_owned(),
        });
    }
    if let Some(nonce) = expected.nonce
        && text("nonce").map(Secret::new).as_ref() != Some(nonce)
    {
        return Err(IdTokenError::Nonce);
    }
    let ends = claims.get("exp").and_then(Value::as_f64).ok_or(IdTokenError::Unreadable)?;
    let now = expected.now.as_millis() as f64 / 1_000.0;
    if now - CLOCK_SKEW.as_secs_f64() >= ends {
        return Err(IdTokenError::Expired);
    }
    let is_unverified = claims.get("email_verified").is_some_and(|value| {
        matches!(value, Value::Bool(false)) || value.as_str() == Some("false")
    });
    let addresses = ADDRESS_CLAIMS
        .into_iter()
        .filter(|&name| name != "email" || !is_unverified)
        .filter_map(text)
        .filter(|address| address.contains('@'))
        .map(|address| Printable::text(address).to_string())
        .collect();
    Ok(SignedIn { addresses })
}

/// True if both are one issuer. Google writes its own without the scheme in some tokens.
pub(super) fn is_issuer(found: &str, expected: &str) -> bool {
    let bare = |text: &str| text.strip_prefix("https://").unwrap_or(text).to_owned();
    bare(found) == bare(expected)
}

/// What an access token says about itself, if it is a JWT: name and value of the claims that tell
/// an administrator whether it is the right one, safe to show. None: it is opaque.
pub fn token_claims(token: &Secret) -> Option<Map<String, Value>> {
    const SHOWN: [&str; 19] = [
        "aud",
        "iss",
        "scp",
        "scope",
        "roles",
        "tid",
        "upn",
        "unique_name",
        "preferred_username",
        "email",
        "username",
        "sub",
        "appid",
        "azp",
        "client_id",
        "app_displayname",
        "idtyp",
        "iat",
        "exp",
    ];
    let claims = claims_of(token.expose())?;
    let shown = SHOWN.into_iter().filter_map(|name| {
        let value = shown_value(claims.get(name)?)?;
        Some((name.to_owned(), value))
    });
    Some(shown.collect())
}

/// Texts, numbers, flags and lists of texts; anything deeper is left out.
fn shown_value(value: &Value) -> Option<Value> {
    let shown = |text: &str| Value::String(Printable::text(text).to_string());
    match value {
        Value::String(text) => Some(shown(text)),
        Value::Number(_) | Value::Bool(_) => Some(value.clone()),
        Value::Array(values) => {
            Some(Value::Array(values.iter().filter_map(Value::as_str).map(shown).collect()))
        }
        Value::Null | Value::Object(_) => None,
    }
}

/// The claims of a signed JWT (RFC 7519 §3); none if it is not one.
fn claims_of(token: &str) -> Option<Map<String, Value>> {
    if token.len() > TOKEN_OCTETS {
        return None;
    }
    let mut parts = token.split('.');
    let (header, claims, _signature, None) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next())
    else {
        return None;
    };
    let object = |part: &str| -> Option<Map<String, Value>> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part.trim_end_matches('=')).ok()?).ok()
    };
    object(header)?;
    object(claims)
}

/// Why an ID token says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdTokenError {
    /// It is not a JWT with the claims that it must have.
    #[error("the provider's ID token cannot be read")]
    Unreadable,
    /// It was made for another client.
    #[error("the provider's ID token was issued to another client than our client_id")]
    Audience,
    /// It was made by another issuer.
    #[error("the provider's ID token was issued by {found} and not by {expected}")]
    Issuer {
        /// `iss`, safe to show.
        found: String,
        /// The provider's.
        expected: String,
    },
    /// It belongs to another sign-in.
    #[error("the provider's ID token belongs to another sign-in (its nonce is not ours)")]
    Nonce,
    /// It has ended.
    #[error("the provider's ID token has ended already; check this machine's clock")]
    Expired,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_436_435_000);
    const SECONDS: i64 = 1_795_436_435;

    fn jwt(claims: &Value) -> Secret {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        Secret::new(format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(claims)))
    }

    fn read(changes: Value) -> Result<SignedIn, IdTokenError> {
        let mut claims = json!({
            "aud": "app", "iss": "https://login.example", "nonce": "n", "exp": SECONDS + 3_600,
            "preferred_username": "Scanner@contoso.com",
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let nonce = Secret::new("n");
        let expected = ExpectedIdToken {
            client_id: "app",
            issuer: Some("https://login.example"),
            nonce: Some(&nonce),
            now: NOW,
        };
        read_id_token(&jwt(&claims), &expected)
    }

    #[test]
    fn whoever_signed_in_is_known_by_every_address() {
        let both = read(json!({"email": "s@contoso.com", "upn": "scanner"})).unwrap();
        assert_eq!(both.address(), Some("Scanner@contoso.com"));
        assert!(both.is("scanner@CONTOSO.com") && both.is("S@contoso.com") && !both.is("scanner"));
        let upn = read(json!({"preferred_username": null, "upn": "u@contoso.com"})).unwrap();
        assert_eq!(upn.address(), Some("u@contoso.com"));
        let nobody = read(json!({"preferred_username": "+49 30 1"})).unwrap();
        assert_eq!(nobody.address(), None);
        let claimed = json!({"email": "x@contoso.com", "email_verified": false});
        assert!(!read(claimed).unwrap().is("x@contoso.com"), "an address that anybody can claim");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        use IdTokenError::*;
        let issuer = |found: &str| Issuer {
            found: found.to_owned(),
            expected: "https://login.example".to_owned(),
        };
        let cases = [
            (json!({"aud": "other"}), Some(Audience)),
            (json!({"aud": null}), Some(Audience)),
            (json!({"aud": ["app"]}), None),
            (json!({"aud": ["app", "other"]}), Some(Audience)),
            (json!({"aud": ["app", "other"], "azp": "app"}), None),
            (json!({"iss": "login.example"}), None),
            (
                json!({"iss": "https://evil.example\u{1b}"}),
                Some(issuer("https://evil.example\\u{1b}")),
            ),
            (json!({"iss": null}), Some(issuer("nobody"))),
            (json!({"nonce": "m"}), Some(Nonce)),
            (json!({"nonce": null}), Some(Nonce)),
            (json!({"exp": SECONDS - 299}), None),
            (json!({"exp": SECONDS - 300}), Some(Expired)),
            (json!({"exp": null}), Some(Unreadable)),
        ];
        for (changes, expected) in cases {
            assert_eq!(read(changes.clone()).err(), expected, "{changes}");
        }
    }

    #[test]
    fn an_access_token_shows_its_claims_and_never_itself() {
        let token = jwt(&json!({
            "aud": "https://outlook.office.com", "scp": "SMTP.Send", "roles": ["a", "b\u{7}"],
            "tid": "t", "exp": SECONDS, "xms_secret": "hidden", "upn": {"deep": 1},
        }));
        let claims = token_claims(&token).unwrap();
        let expected = json!({
            "aud": "https://outlook.office.com", "scp": "SMTP.Send", "roles": ["a", "b\\u{7}"],
            "tid": "t", "exp": SECONDS,
        });
        assert_eq!(Value::Object(claims), expected);
        for opaque in ["EwBwA8l6BAAU", "", "a.b.c", "e30.e30", "e30.e30.x.y.z", "e30.W10.x"] {
            assert_eq!(token_claims(&Secret::new(opaque)), None, "{opaque}");
        }
    }

    proptest! {
        #[test]
        fn no_token_panics(text in "[A-Za-z0-9._=-]{0,200}") {
            let token = Secret::new(text);
            let _ = token_claims(&token);
            let expected = ExpectedIdToken { client_id: "", issuer: None, nonce: None, now: NOW };
            prop_assert!(read_id_token(&token, &expected).is_err());
        }
    }
}
