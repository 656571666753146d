//! A sign-in on another device: RFC 8628, as requests and answers.
//!
//! Owns [`DeviceCode`] and [`DevicePoll`]. How long to wait between two polls is somebody else's.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};
use url::Url;

use crate::base::{Printable, Secret};
use crate::oauth::request::{HttpRequest, RequestError};
use crate::oauth::{ClientRegistration, Refusal, TokenAnswer, read_answer};

/// RFC 8628 §3.4.
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// Between two polls, if the provider names no interval: RFC 8628 §3.2.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);

/// No interval is longer: a mistake there must not outlast the code.
const LONGEST_INTERVAL: Duration = Duration::from_secs(60);

/// The life of a code that names none (Entra's), and the longest that is believed.
const DEFAULT_LIFE: Duration = Duration::from_secs(900);
const LONGEST_LIFE: Duration = Duration::from_secs(3_600);

/// Octets of a code for people. Everybody's have about ten.
const USER_CODE_OCTETS: usize = 64;

/// Octets of a code for us. Entra's have a few hundred.
const DEVICE_CODE_OCTETS: usize = 8_192;

/// What a device authorization endpoint hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceCode {
    /// What is presented when asking whether the person is done.
    pub device_code: Secret,
    /// What the person types. Safe to show.
    pub user_code: String,
    /// Where.
    pub verification_uri: Url,
    /// How long both codes are good.
    pub expires_in: Duration,
    /// How long to wait between two polls.
    pub interval: Duration,
}

/// What a token endpoint says to a poll that it understands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DevicePoll {
    /// The person has signed in.
    Done(TokenAnswer),
    /// `authorization_pending`: not yet.
    Pending,
    /// `slow_down`: not yet, and polls come too often.
    SlowDown,
    /// `access_denied`, or Entra's `authorization_declined`: the person said no.
    Declined,
    /// `expired_token`, or Entra's `bad_verification_code`: nobody came in time.
    Expired,
}

/// Asks for a code: RFC 8628 §3.1.
pub fn device_code_request(
    device_url: &Url,
    client: &ClientRegistration,
    scopes: &[String],
) -> Result<HttpRequest, RequestError> {
    HttpRequest::of_client(device_url, client, &[("scope", &scopes.join(" "))])
}

/// Asks whether the person is done: RFC 8628 §3.4.
pub fn device_token_request(
    token_url: &Url,
    client: &ClientRegistration,
    device_code: &Secret,
) -> Result<HttpRequest, RequestError> {
    let fields = [("grant_type", GRANT_TYPE), ("device_code", device_code.expose())];
    HttpRequest::of_client(token_url, client, &fields)
}

/// Sorts the answer of a device authorization endpoint.
pub fn read_device_code(
    status: u16,
    retry_after: Option<&str>,
    body: &[u8],
) -> Result<DeviceCode, Refusal> {
    let not_now = |reason: &str| Refusal::NotNow {
        reason: reason.to_owned(),
        retry_after: None,
        rotated: None,
    };
    let members = serde_json::from_slice::<Map<String, Value>>(body).ok();
    let good = members
        .filter(|members| (200..300).contains(&status) && members.contains_key("device_code"));
    let Some(mut members) = good else {
        // Whatever else came is an error, or nothing that an endpoint says.
        return Err(match read_answer(status, retry_after, body) {
            Err(refusal) => refusal,
            Ok(_) => not_now("the device authorization endpoint's answer has no code in it"),
        });
    };
    let device_code = match members.remove("device_code") {
        Some(Value::String(code)) => Secret::new(code),
        _ => Secret::new(""),
    };
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let user_code = text("user_code").unwrap_or_default();
    let is_shown = |code: &str| {
        (1..=USER_CODE_OCTETS).contains(&code.len()) && !code.chars().any(char::is_control)
    };
    if device_code.is_empty()
        || device_code.expose().len() > DEVICE_CODE_OCTETS
        || !is_shown(user_code)
    {
        return Err(not_now("the device authorization endpoint's answer has no usable code in it"));
    }
    // `verification_url` is what Google says.
    let page = text("verification_uri").or_else(|| text("verification_url")).unwrap_or_default();
    let page = Url::parse(page).ok().filter(|page| matches!(page.scheme(), "https" | "http"));
    let Some(verification_uri) = page else {
        let reason = "the device authorization endpoint's answer names no page to sign in at";
        return Err(not_now(reason));
    };
    let seconds = |name: &str| match members.get(name)? {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let time = |name: &str, usual: Duration, longest: Duration| {
        let longest = longest.as_secs_f64();
        let given = seconds(name).filter(|seconds| *seconds >= 0.0);
        given.map_or(usual, |seconds| Duration::from_secs_f64(seconds.min(longest)))
    };
    Ok(DeviceCode {
        device_code,
        user_code: Printable::text(user_code).to_string(),
        verification_uri,
        expires_in: time("expires_in", DEFAULT_LIFE, LONGEST_LIFE),
        interval: time("interval", DEFAULT_INTERVAL, LONGEST_INTERVAL),
    })
}

/// Sorts the answer to a poll.
pub fn read_device_poll(
    status: u16,
    retry_after: Option<&str>,
    body: &[u8],
) -> Result<DevicePoll, Refusal> {
    /// Only the error is looked at here, so that no token is copied.
    #[derive(Deserialize)]
    struct OnlyError {
        error: Option<String>,
    }
    // RFC 6749 §5.2: errors of the grant come with 400; a server that is out of order says 5xx.
    let error = match status {
        500.. => None,
        _ => serde_json::from_slice::<OnlyError>(body).ok().and_then(|body| body.error),
    };
    Ok(match error.as_deref() {
        Some("authorization_pending") => DevicePoll::Pending,
        Some("slow_down") => DevicePoll::SlowDown,
        Some("access_denied" | "authorization_declined") => DevicePoll::Declined,
        Some("expired_token" | "bad_verification_code") => DevicePoll::Expired,
        _ => DevicePoll::Done(read_answer(status, retry_after, body)?),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn form(request: &HttpRequest) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(request.body()).into_owned().collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn requests_say_exactly_what_the_specification_says() {
        let url = Url::parse("https://login.example/t/x").unwrap();
        let public = ClientRegistration { id: "app id".to_owned(), secret: None };
        let scopes = ["https://outlook.office.com/SMTP.Send".to_owned(), "offline_access".into()];
        let request = device_code_request(&url, &public, &scopes).unwrap();
        let scope = "https://outlook.office.com/SMTP.Send offline_access";
        assert_eq!(form(&request), pairs(&[("client_id", "app id"), ("scope", scope)]));
        let secret = Some(Secret::new("s&cret"));
        let client = ClientRegistration { secret, ..public };
        let code = Secret::new("d+code");
        let request = device_token_request(&url, &client, &code).unwrap();
        let expected = pairs(&[
            ("client_id", "app id"),
            ("client_secret", "s&cret"),
            ("device_code", "d+code"),
            ("grant_type", GRANT_TYPE),
        ]);
        assert_eq!(form(&request), expected);
        let secrets = request.secrets();
        assert!(secrets.contains(&code) && secrets.contains(&Secret::new("s&cret")));
        assert!(!format!("{request:?}").contains("code="));
        let request = request.into_http();
        assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/t/x"));
        assert_eq!(request.headers()["accept"], "application/json");
        assert_eq!(request.headers()["content-type"], "application/x-www-form-urlencoded");
    }

    #[test]
    fn a_code_is_read_however_its_numbers_are_written() {
        let seconds = Duration::from_secs;
        let cases = [
            (json!({"expires_in": 900, "interval": 7}), 900, 7),
            (json!({"expires_in": "900", "interval": "7"}), 900, 7),
            (json!({}), 900, 5),
            (json!({"expires_in": -1, "interval": -1}), 900, 5),
            (json!({"expires_in": 1e300, "interval": 1e300}), 3_600, 60),
            (json!({"expires_in": "NaN", "interval": null}), 900, 5),
            (json!({"expires_in": 0, "interval": 0}), 0, 0),
        ];
        for (mut body, expires_in, interval) in cases {
            body["device_code"] = json!("marked-code");
            body["user_code"] = json!("ABCD-EFGH");
            body["verification_uri"] = json!("https://login.example/device");
            let code = read_device_code(200, None, body.to_string().as_bytes()).unwrap();
            assert_eq!((code.expires_in, code.interval), (seconds(expires_in), seconds(interval)));
            assert_eq!(code.user_code, "ABCD-EFGH");
            assert!(!format!("{code:?}").contains("marked-code"));
        }
    }

    #[test]
    fn what_is_no_code_is_refused() {
        let good = json!({
            "device_code": "d", "user_code": "U", "verification_uri": "https://login.example/d"
        });
        assert!(read_device_code(200, None, good.to_string().as_bytes()).is_ok());
        for (name, value) in [
            ("device_code", json!("")),
            ("device_code", json!(7)),
            ("device_code", json!("x".repeat(DEVICE_CODE_OCTETS + 1))),
            ("user_code", json!(null)),
            ("user_code", json!("a\u{1b}[31m")),
            ("user_code", json!("x".repeat(USER_CODE_OCTETS + 1))),
            ("verification_uri", json!("javascript:alert(1)")),
            ("verification_uri", json!("login.example/d")),
        ] {
            let mut body = good.clone();
            body[name] = value;
            let refused = read_device_code(200, None, body.to_string().as_bytes()).unwrap_err();
            assert!(matches!(refused, Refusal::NotNow { .. }), "{body}");
        }
        let refused = read_device_code(503, None, good.to_string().as_bytes()).unwrap_err();
        assert!(refused.to_string().contains("503"), "{refused}");
        let wrong = br#"{"error":"invalid_client"}"#;
        let refused = read_device_code(401, None, wrong).unwrap_err();
        assert!(matches!(refused, Refusal::Misconfigured { .. }));
        let token = br#"{"access_token":"t"}"#;
        let refused = read_device_code(200, None, token).unwrap_err();
        assert!(refused.to_string().contains("no code"), "{refused}");
    }

    #[test]
    fn only_the_error_of_a_poll_decides() {
        let poll = |status, error: &str| {
            let body = json!({"error": error, "error_description": "AADSTS70016"}).to_string();
            read_device_poll(status, None, body.as_bytes())
        };
        for (status, error, expected) in [
            (400, "authorization_pending", DevicePoll::Pending),
            (428, "authorization_pending", DevicePoll::Pending),
            (400, "slow_down", DevicePoll::SlowDown),
            (400, "access_denied", DevicePoll::Declined),
            (400, "authorization_declined", DevicePoll::Declined),
            (400, "expired_token", DevicePoll::Expired),
            (400, "bad_verification_code", DevicePoll::Expired),
        ] {
            assert_eq!(poll(status, error), Ok(expected), "{error}");
        }
        assert!(matches!(poll(503, "expired_token"), Err(Refusal::NotNow { .. })));
        assert!(matches!(read_device_poll(200, None, b"<html>"), Err(Refusal::NotNow { .. })));
        assert!(matches!(poll(400, "invalid_grant"), Err(Refusal::Definitive { .. })));
        assert!(matches!(poll(401, "invalid_client"), Err(Refusal::Misconfigured { .. })));
        let token = br#"{"access_token":"t","refresh_token":"r"}"#;
        assert!(matches!(read_device_poll(200, None, token), Ok(DevicePoll::Done(_))));
    }
}
