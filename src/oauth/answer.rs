//! What a token endpoint said.
//!
//! Owns [`read_answer`], which takes any bytes with any status and sorts them into a token or one
//! of three refusals. It is deliberately tolerant of how things are written (RFC 6749 §5.1 is
//! broken in many ways in the wild) and strict about what may be sent on: a token has to fit a
//! header and an AUTH line.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::base::{Printable, Secret};
use crate::oauth::hint;
use crate::oauth::xoauth2::is_bearer_token;

/// No token is believed to live longer; also keeps all arithmetic with times harmless.
const LONGEST_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// No wait that an endpoint asks for is longer: a mistake there must not stop mail for days.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// Octets of a refresh token. Entra's have up to about 2,000.
const REFRESH_TOKEN_OCTETS: usize = 65_536;

/// A token endpoint's good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenAnswer {
    /// The access token: visible ASCII that fits an AUTH response.
    pub access_token: Secret,
    /// A new refresh token. None means that the old one stays in force (RFC 6749 §6).
    pub refresh_token: Option<Secret>,
    /// How long the access token lives; zero if the endpoint said zero or less, none if it said
    /// nothing that can be read.
    pub expires_in: Option<Duration>,
    /// The scope that was granted, if the endpoint names it. Safe to show.
    pub scope: Option<String>,
    /// The ID token, if one came: who signed in, for [`read_id_token`](crate::oauth::read_id_token).
    pub id_token: Option<Secret>,
}

/// Why there is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The grant has ended and only a person can give a new one: `invalid_grant` or
    /// `interaction_required`.
    #[error("{error}: {description}")]
    Definitive {
        /// `error`, safe to show.
        error: String,
        /// `error_description` and a hint, safe to show.
        description: String,
    },
    /// Client, tenant, scope or permission are not as they should be: an administrator's task.
    #[error("{error}: {description}")]
    Misconfigured {
        /// `error`, safe to show.
        error: String,
        /// `error_description` and a hint, safe to show.
        description: String,
    },
    /// Everything else. It says nothing about the grant, which stays as it is.
    #[error("{reason}")]
    NotNow {
        /// What came instead of a token, safe to show.
        reason: String,
        /// How long the endpoint asks to be left alone.
        retry_after: Option<Duration>,
        /// A refresh token that came with an access token that cannot be used. The endpoint may
        /// have retired the old one, so it has to be kept all the same.
        rotated: Option<Secret>,
    },
}

impl Refusal {
    /// The same without any piece of these secrets, should the endpoint have repeated them.
    pub fn without(self, secrets: &[Secret]) -> Self {
        let clean = |text: String| secrets.iter().fold(text, |text, secret| secret.redact(&text));
        match self {
            Self::Definitive { error, description } => {
                Self::Definitive { error: clean(error), description: clean(description) }
            }
            Self::Misconfigured { error, description } => {
                Self::Misconfigured { error: clean(error), description: clean(description) }
            }
            Self::NotNow { reason, retry_after, rotated } => {
                Self::NotNow { reason: clean(reason), retry_after, rotated }
            }
        }
    }
}

/// Sorts an answer: its status, its Retry-After field (in seconds) and its body.
pub fn read_answer(
    status: u16,
    retry_after: Option<&str>,
    body: &[u8],
) -> Result<TokenAnswer, Refusal> {
    let retry_after = retry_after.and_then(seconds).map(|wait| wait.min(LONGEST_RETRY_AFTER));
    let not_now = |reason: String| Refusal::NotNow { reason, retry_after, rotated: None };
    if (300..400).contains(&status) {
        return Err(not_now(format!(
            "the token endpoint answered with a redirect (status {status}), which is not followed; \
             check the token URL"
        )));
    }
    let Ok(Value::Object(mut members)) = serde_json::from_slice::<Value>(body) else {
        return Err(not_now(format!(
            "the token endpoint answered with status {status} and {}",
            kind_of(body)
        )));
    };
    if let Some(error) = members.get("error").filter(|error| !error.is_null()) {
        return Err(refusal(status, error, &members, not_now));
    }
    if !(200..300).contains(&status) {
        return Err(not_now(format!("the token endpoint answered with status {status}")));
    }
    good_answer(&mut members).map_err(|(reason, rotated)| Refusal::NotNow {
        reason: reason.to_owned(),
        retry_after,
        rotated,
    })
}

/// The class of an error answer. A server that is out of order is not believed about the grant.
fn refusal(
    status: u16,
    error: &Value,
    members: &Map<String, Value>,
    not_now: impl Fn(String) -> Refusal,
) -> Refusal {
    let Some(error) = error.as_str() else {
        return not_now(format!(
            "the token endpoint answered with status {status} and an error that is not a word"
        ));
    };
    let description = members.get("error_description").and_then(Value::as_str).unwrap_or_default();
    let shown = Printable::text(error).to_string();
    let explained = match hint(error, description) {
        Some(hint) if description.is_empty() => hint.to_string(),
        Some(hint) => format!("{} ({hint})", Printable::text(description)),
        None => Printable::text(description).to_string(),
    };
    if status >= 500 || status == 429 {
        return not_now(format!("status {status}, {shown}: {explained}"));
    }
    match error {
        "invalid_grant" | "interaction_required" => {
            Refusal::Definitive { error: shown, description: explained }
        }
        // RFC 6749 §5.2 and §4.1.2.1, RFC 8707 §2, OpenID Connect Core §3.1.2.6, Entra's own.
        "invalid_client"
        | "unauthorized_client"
        | "unsupported_grant_type"
        | "invalid_scope"
        | "invalid_request"
        | "invalid_target"
        | "invalid_resource"
        | "access_denied"
        | "consent_required"
        | "login_required"
        | "admin_policy_enforced"
        | "org_internal"
        | "deleted_client"
        | "disabled_client" => Refusal::Misconfigured { error: shown, description: explained },
        _ => not_now(format!("{shown}: {explained}")),
    }
}

fn good_answer(
    members: &mut Map<String, Value>,
) -> Result<TokenAnswer, (&'static str, Option<Secret>)> {
    let refresh_token = take_secret(members, "refresh_token")
        .filter(|token| !token.is_empty() && token.expose().len() <= REFRESH_TOKEN_OCTETS);
    let Some(access_token) = take_secret(members, "access_token") else {
        return Err(("the token endpoint's answer has no access token in it", refresh_token));
    };
    if !is_bearer_token(access_token.expose()) {
        let reason = "the access token is empty, too long or has characters that no token has";
        return Err((reason, refresh_token));
    }
    match members.get("token_type") {
        None | Some(Value::Null) => {}
        Some(Value::String(kind)) if kind.eq_ignore_ascii_case("bearer") => {}
        Some(_) => return Err(("the token is not a bearer token", refresh_token)),
    }
    let id_token = take_secret(members, "id_token").filter(|token| !token.is_empty());
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    Ok(TokenAnswer {
        access_token,
        refresh_token,
        expires_in: members.get("expires_in").and_then(life),
        scope: text("scope").map(|scope| Printable::text(scope).to_string()),
        id_token,
    })
}

/// Takes the text out, so that the tree that is dropped later does not hold it.
fn take_secret(members: &mut Map<String, Value>, name: &str) -> Option<Secret> {
    match members.remove(name) {
        Some(Value::String(text)) => Some(Secret::new(text)),
        _ => None,
    }
}

/// `expires_in` as a number, a fraction or either as text.
fn life(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    if seconds.is_nan() {
        return None;
    }
    let seconds = seconds.clamp(0.0, LONGEST_LIFE.as_secs_f64());
    Some(Duration::from_secs_f64(seconds.floor()))
}

fn seconds(text: &str) -> Option<Duration> {
    text.trim().parse().ok().map(Duration::from_secs)
}

/// What kind of thing came instead of an answer; never any of its text, which may hold anything.
fn kind_of(body: &[u8]) -> &'static str {
    let start = body.trim_ascii_start();
    match start.first() {
        None => "an empty body",
        Some(b'<') => {
            "a web page instead of a token; something stands between us and the token endpoint, or \
             the token URL is wrong"
        }
        Some(b'{') => "an answer that is cut off or not JSON",
        Some(_) => "something that is not a token answer",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::limits;

    fn read(status: u16, body: &str) -> Result<TokenAnswer, Refusal> {
        read_answer(status, None, body.as_bytes())
    }

    #[test]
    fn expires_in_is_read_however_it_is_written() {
        let day = 86_400;
        let cases = [
            ("3599", Some(3_599)),
            ("3599.9", Some(3_599)),
            ("3.6e3", Some(3_600)),
            ("\"3599\"", Some(3_599)),
            ("\" 3599.5 \"", Some(3_599)),
            ("0", Some(0)),
            ("-5", Some(0)),
            ("\"-5\"", Some(0)),
            ("99999999999999999999999", Some(3_650 * day)),
            ("1e300", Some(3_650 * day)),
            ("\"inf\"", Some(3_650 * day)),
            ("\"NaN\"", None),
            ("\"soon\"", None),
            ("null", None),
            ("true", None),
            ("[3599]", None),
        ];
        for (written, seconds) in cases {
            let answer = read(200, &format!(r#"{{"access_token":"t","expires_in":{written}}}"#));
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(answer.unwrap().expires_in, expected, "{written}");
        }
        assert_eq!(read(200, r#"{"access_token":"t"}"#).unwrap().expires_in, None);
    }

    #[test]
    fn a_full_answer_is_read() {
        let body = r#"{"token_type":"bearer","access_token":"a.b-c","refresh_token":"r/new",
            "expires_in":3599,"scope":"x y","id_token":"i.d.t","ext":[1]}"#;
        let answer = read(200, body).unwrap();
        assert_eq!(answer.access_token.expose(), "a.b-c");
        assert_eq!(answer.refresh_token, Some(Secret::new("r/new")));
        assert_eq!(answer.scope.as_deref(), Some("x y"));
        assert_eq!(answer.id_token, Some(Secret::new("i.d.t")));
        let shown = format!("{answer:?}");
        assert!(
            !["a.b-c", "r/new", "i.d.t"].iter().any(|secret| shown.contains(secret)),
            "{shown}"
        );
    }

    #[test]
    fn a_refresh_token_that_is_not_there_leaves_the_old_one() {
        for written in ["null", "\"\"", "7", "{}"] {
            let body = format!(r#"{{"access_token":"t","refresh_token":{written}}}"#);
            assert_eq!(read(200, &body).unwrap().refresh_token, None, "{written}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused_and_its_refresh_token_is_kept() {
        let long = "x".repeat(limits::ACCESS_TOKEN_OCTETS + 1);
        for token in ["\"\"", "\"a\\r\\nb\"", "\"a\\u0001b\"", "\"t\u{f6}\"", "7", "null"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("\"{long}\"")])
        {
            let body = format!(r#"{{"access_token":{token},"refresh_token":"marked-r"}}"#);
            let refused = read(200, &body).unwrap_err();
            let Refusal::NotNow { rotated, .. } = &refused else { panic!("{refused:?}") };
            assert_eq!(*rotated, Some(Secret::new("marked-r")));
            assert!(!format!("{refused} {refused:?}").contains("marked-r"));
        }
        let other = r#"{"access_token":"t","token_type":"DPoP"}"#;
        assert!(matches!(read(200, other), Err(Refusal::NotNow { .. })));
    }

    #[derive(Debug, PartialEq)]
    enum Kind {
        Definitive,
        Misconfigured,
        NotNow,
    }

    fn kind(refusal: &Refusal) -> Kind {
        match refusal {
            Refusal::Definitive { .. } => Kind::Definitive,
            Refusal::Misconfigured { .. } => Kind::Misconfigured,
            Refusal::NotNow { .. } => Kind::NotNow,
        }
    }

    #[test]
    fn only_the_error_decides() {
        let cases = [
            (400, r#"{"error":"invalid_grant"}"#, Kind::Definitive),
            (401, r#"{"error":"interaction_required"}"#, Kind::Definitive),
            // Some providers answer errors with status 200.
            (200, r#"{"error":"invalid_grant","access_token":"t"}"#, Kind::Definitive),
            (400, r#"{"error":"invalid_grant","error_description":7}"#, Kind::Definitive),
            (401, r#"{"error":"invalid_client"}"#, Kind::Misconfigured),
            (400, r#"{"error":"unauthorized_client"}"#, Kind::Misconfigured),
            (400, r#"{"error":"invalid_scope"}"#, Kind::Misconfigured),
            (400, r#"{"error":"invalid_request"}"#, Kind::Misconfigured),
            (400, r#"{"error":"unsupported_grant_type"}"#, Kind::Misconfigured),
            // A number or a text in the description never decides.
            (
                400,
                r#"{"error":"x","error_description":"AADSTS700082 invalid_grant"}"#,
                Kind::NotNow,
            ),
            (400, r#"{"error":"temporarily_unavailable"}"#, Kind::NotNow),
            (400, r#"{"error":"slow_down"}"#, Kind::NotNow),
            (400, r#"{"error":{"message":"invalid_grant"}}"#, Kind::NotNow),
            (400, r#"{"error":7}"#, Kind::NotNow),
            (400, r#"{"error":"INVALID_GRANT"}"#, Kind::NotNow),
            (500, r#"{"error":"invalid_grant"}"#, Kind::NotNow),
            (503, r#"{"error":"invalid_client"}"#, Kind::NotNow),
            (429, r#"{"error":"invalid_grant"}"#, Kind::NotNow),
            (403, r#"{"access_token":"t"}"#, Kind::NotNow),
            (401, "", Kind::NotNow),
            (302, "", Kind::NotNow),
            (307, r#"{"error":"invalid_grant"}"#, Kind::NotNow),
            (200, "", Kind::NotNow),
            (200, "{}", Kind::NotNow),
            (200, "null", Kind::NotNow),
            (200, r#"[{"error":"invalid_grant"}]"#, Kind::NotNow),
            (200, "<html>Please log in</html>", Kind::NotNow),
            (400, "<html>invalid_grant</html>", Kind::NotNow),
            (200, r#"{"access_token":"t","refresh"#, Kind::NotNow),
            (200, "error=invalid_grant", Kind::NotNow),
            (200, "\u{feff}{", Kind::NotNow),
        ];
        for (status, body, expected) in cases {
            let refused = read(status, body).unwrap_err();
            assert_eq!(kind(&refused), expected, "{status} {body}");
            assert!(!refused.to_string().is_empty());
        }
    }

    #[test]
    fn numbers_and_texts_become_hints() {
        let body =
            r#"{"error":"invalid_client","error_description":"AADSTS7000222: The \u001b[1m"}"#;
        let shown = read(401, body).unwrap_err().to_string();
        assert!(shown.starts_with("invalid_client: AADSTS7000222: The \\u{1b}[1m"), "{shown}");
        assert!(shown.contains("the client secret has expired"), "{shown}");
    }

    #[test]
    fn retry_after_is_passed_on_and_bounded() {
        let cases = [
            (Some("7"), Some(7)),
            (Some(" 0 "), Some(0)),
            (Some("31536000"), Some(3_600)),
            (Some("-1"), None),
            (Some("soon"), None),
            (None, None),
        ];
        for (field, expected) in cases {
            for body in ["", r#"{"error":"temporarily_unavailable"}"#, r#"{"access_token":""}"#] {
                let refused = read_answer(429, field, body.as_bytes()).unwrap_err();
                let Refusal::NotNow { retry_after, .. } = refused else { panic!("{refused:?}") };
                assert_eq!(retry_after, expected.map(Duration::from_secs), "{field:?}");
            }
        }
    }

    #[test]
    fn the_body_of_a_wrong_answer_is_never_shown() {
        for body in
            ["<p>marked", "marked", r#"{"refresh_token":"marked""#, r#"{"access_token":"mark ed"}"#]
        {
            let refused = read(200, body).unwrap_err();
            assert!(!format!("{refused} {refused:?}").contains("mark"), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_with_any_status_are_sorted(status in 0_u16..1_000, body: Vec<u8>) {
            let _ = read_answer(status, None, &body);
        }

        #[test]
        fn a_cut_answer_never_ends_a_grant(cut in 0_usize..80) {
            let whole = r#"{"error":"invalid_grant","error_description":"Token has been revoked."}"#;
            let refused = read(400, &whole[..cut.min(whole.len() - 1)]).unwrap_err();
            prop_assert_eq!(kind(&refused), Kind::NotNow);
        }
    }
}
