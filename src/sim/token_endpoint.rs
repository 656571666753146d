//! The token endpoint: `/TENANT/oauth2/v2.0/token` (RFC 6749 §3.2, §4.1.3, §4.4, §5, §6; RFC 8628 §3.4).
//!
//! Owns the authentication of clients, the four grants, and answers in the shape of Entra ID's
//! (or, for Gmail, of Google's).

use axum::http::Method;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use serde_json::json;

use crate::sim::Shared;
use crate::sim::device;
use crate::sim::fault::Answer;
use crate::sim::grants::{Denied, Issued, random_guid, random_text};
use crate::sim::http::Asked;
use crate::sim::options::{Flavour, SimClient};

/// A refusal: status, `error`, number and text of `error_description`.
#[derive(Debug)]
pub(super) struct Refused(
    pub(super) u16,
    pub(super) &'static str,
    pub(super) u32,
    pub(super) String,
);

/// What a client gets for a request.
pub(super) fn answer(shared: &Shared, tenant: &str, asked: &Asked) -> Answer {
    match issue(shared, tenant, asked) {
        Ok(issued) => success(shared, asked, &issued),
        Err(refused) => refusal(shared, &refused),
    }
}

/// The method and the tenant, for every endpoint that takes forms.
pub(super) fn check_place(shared: &Shared, tenant: &str, asked: &Asked) -> Result<(), Refused> {
    if asked.method != Method::POST {
        let text = format!(
            "The endpoint only accepts POST requests. Received a {} request.",
            asked.method
        );
        return Err(Refused(400, "invalid_request", 900_561, text));
    }
    if !tenant.eq_ignore_ascii_case(&shared.options.tenant) {
        let text = format!(
            "Tenant '{tenant}' not found. Check to make sure you have the correct \
             tenant ID and are signing into the correct cloud."
        );
        return Err(Refused(400, "invalid_request", 90_002, text));
    }
    Ok(())
}

fn issue(shared: &Shared, tenant: &str, asked: &Asked) -> Result<Issued, Refused> {
    check_place(shared, tenant, asked)?;
    let grant_type = required(asked, "grant_type")?;
    let client = authenticated_client(shared, asked)?;
    let (options, now) = (&shared.options, shared.options.clock.now());
    let issued = match grant_type {
        "authorization_code" => {
            let code = required(asked, "code")?;
            let redirect_uri = required(asked, "redirect_uri")?;
            let verifier = required(asked, "code_verifier")?;
            let is_verifier = (43..=128).contains(&verifier.len())
                && verifier.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
            if !is_verifier {
                let text = "The size or the characters of the code_verifier are not valid.";
                return Err(Refused(400, "invalid_request", 501_471, text.to_owned()));
            }
            let mut grants = shared.grants();
            grants.redeem(options, code, &client.id, redirect_uri, verifier, now)?
        }
        "refresh_token" => {
            let token = required(asked, "refresh_token")?;
            shared.grants().renew(options, token, &client.id, asked.one("scope"), now)?
        }
        device::GRANT_TYPE => {
            let code = required(asked, "device_code")?;
            let interval = options.device_interval;
            let (user, scope) = shared.devices().redeem(code, &client.id, interval, now)?;
            shared.grants().issue_to(options, &user, &client.id, &scope, now)
        }
        "client_credentials" => {
            if client.secret.is_none() {
                let text = "The request body must contain the following parameter: \
                            'client_assertion' or 'client_secret'.";
                return Err(Refused(401, "invalid_client", 7_000_218, text.to_owned()));
            }
            let scope = required(asked, "scope")?;
            if !scope.ends_with("/.default") || scope.contains(' ') {
                let text = format!(
                    "The provided value for scope {scope} is not valid. Client credential flows \
                     must have a scope value with /.default suffixed to the resource identifier."
                );
                return Err(Refused(400, "invalid_scope", 1_002_012, text));
            }
            shared.grants().issue_to_app(options, scope, now)
        }
        other => {
            let text = format!("The app requested an unsupported grant type '{other}'.");
            return Err(Refused(400, "unsupported_grant_type", 70_003, text));
        }
    };
    shared.book.count(|counts| counts.access_tokens += 1);
    Ok(issued)
}

pub(super) fn required<'a>(asked: &'a Asked, name: &str) -> Result<&'a str, Refused> {
    asked.one(name).filter(|_| asked.is_form).ok_or_else(|| {
        let text = format!("The request body must contain the following parameter: '{name}'.");
        Refused(400, "invalid_request", 900_144, text)
    })
}

/// The client that a request is from. RFC 6749 §2.3: the secret in the body or in Basic, not both.
pub(super) fn authenticated_client<'a>(
    shared: &'a Shared,
    asked: &Asked,
) -> Result<&'a SimClient, Refused> {
    let basic = match &asked.authorization {
        None => None,
        Some(value) => Some(read_basic(value).ok_or_else(|| {
            let text = "The Authorization header could not be read.".to_owned();
            Refused(401, "invalid_client", 7_000_215, text)
        })?),
    };
    if basic.is_some() && asked.one("client_secret").is_some() {
        let text = "Only one method of client authentication may be used in a request.".to_owned();
        return Err(Refused(400, "invalid_request", 90_023, text));
    }
    let (id, secret) = match basic {
        Some((id, secret)) => (id, Some(secret)),
        None => {
            let id = required(asked, "client_id")?.to_owned();
            (id, asked.one("client_secret").map(str::to_owned))
        }
    };
    let Some(client) = shared.options.client(&id) else {
        let text = format!(
            "Application with identifier '{id}' was not found in the directory '{}'.",
            shared.options.tenant
        );
        return Err(Refused(400, "unauthorized_client", 700_016, text));
    };
    match (&client.secret, secret) {
        (None, None) => Ok(client),
        (Some(known), Some(secret)) if known.expose() == secret => Ok(client),
        (Some(_), Some(_)) => {
            let text = format!(
                "Invalid client secret provided. Ensure the secret being sent in the request is \
                 the client secret value, not the client secret ID, for a secret added to app \
                 '{id}'."
            );
            Err(Refused(401, "invalid_client", 7_000_215, text))
        }
        (Some(_), None) => {
            let text = "The request body must contain the following parameter: \
                        'client_assertion' or 'client_secret'.";
            Err(Refused(401, "invalid_client", 7_000_218, text.to_owned()))
        }
        (None, Some(_)) => {
            let text = "Client is public so neither 'client_assertion' nor 'client_secret' should \
                        be presented.";
            Err(Refused(401, "invalid_client", 700_025, text.to_owned()))
        }
    }
}

/// `Basic base64(id:secret)`, both form-encoded first: RFC 6749 §2.3.1.
fn read_basic(value: &str) -> Option<(String, String)> {
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((form_decoded(id), form_decoded(secret)))
}

fn form_decoded(text: &str) -> String {
    let field = format!("x={}", text.replace('&', "%26").replace('=', "%3D"));
    url::form_urlencoded::parse(field.as_bytes())
        .next()
        .map_or(String::new(), |(_, value)| value.into_owned())
}

impl From<Denied> for Refused {
    fn from(denied: Denied) -> Self {
        let (number, text) = match denied {
            Denied::UnknownCode => {
                (9_002_313, "Invalid request. Request is malformed or invalid: unknown code.")
            }
            Denied::CodeExpired => {
                (70_008, "The provided authorization code or refresh token has expired.")
            }
            Denied::CodeReused => (
                54_005,
                "OAuth2 Authorization code was already redeemed, please retry with a new valid \
                 code or use an existing refresh token.",
            ),
            Denied::OtherClient => {
                (700_005, "The provided grant was issued to another application.")
            }
            Denied::RedirectMismatch => (
                500_112,
                "The reply address does not match the reply address provided when requesting \
                 Authorization code.",
            ),
            Denied::VerifierMismatch => (
                501_481,
                "The Code_Verifier does not match the code_challenge supplied in the authorization \
                 request.",
            ),
            Denied::UnknownRefreshToken => {
                (70_000, "The provided value for the 'refresh_token' parameter is not valid.")
            }
            Denied::Revoked | Denied::RefreshReused => {
                (50_173, "The provided grant has expired due to it being revoked.")
            }
            Denied::ScopeNotGranted => {
                let text = "The user or administrator has not consented to use the application \
                            with this scope.";
                return Refused(400, "invalid_grant", 65_001, text.to_owned());
            }
            Denied::UnknownDeviceCode => {
                let text = "The device code is not known or was used already.";
                return Refused(400, "bad_verification_code", 70_018, text.to_owned());
            }
            Denied::DeviceCodeExpired => {
                let text = "The device code has expired.";
                return Refused(400, "expired_token", 70_019, text.to_owned());
            }
            Denied::Pending => {
                let text = "Authorization is pending. Continue polling.";
                return Refused(400, "authorization_pending", 70_016, text.to_owned());
            }
            Denied::SlowDown => {
                let text = "The request is sent too often. Slow down.";
                return Refused(400, "slow_down", 70_016, text.to_owned());
            }
            Denied::Declined => {
                let text = "The user declined to sign in on the device.";
                return Refused(400, "authorization_declined", 65_004, text.to_owned());
            }
        };
        Refused(400, "invalid_grant", number, text.to_owned())
    }
}

fn success(shared: &Shared, asked: &Asked, issued: &Issued) -> Answer {
    let seconds = shared.options.access_token_lifetime.as_secs();
    let mut body = json!({
        "token_type": "Bearer",
        "expires_in": seconds,
        "access_token": issued.access_token,
    });
    if shared.options.flavour == Flavour::ExchangeOnline {
        body["ext_expires_in"] = json!(seconds);
    }
    if let Some(user) = &issued.user {
        let scope: Vec<_> =
            issued.scope.split_whitespace().filter(|word| *word != "offline_access").collect();
        body["scope"] = json!(scope.join(" "));
        if scope.contains(&"openid") {
            let client = asked.one("client_id").unwrap_or("");
            body["id_token"] = json!(id_token(shared, user, client, issued.nonce.as_deref()));
        }
    }
    if let Some(token) = &issued.refresh_token {
        body["refresh_token"] = json!(token);
    }
    Answer::json(200, &body.to_string())
        .header("cache-control", "no-store, no-cache")
        .header("pragma", "no-cache")
}

/// An ID token with the claims that name a person. Its signature is noise.
fn id_token(shared: &Shared, user: &str, client: &str, nonce: Option<&str>) -> String {
    let now = shared.options.clock.now().as_millis() / 1_000;
    let mut claims = json!({
        "aud": client,
        "iss": format!("{}{}/v2.0", shared.base_url, shared.options.tenant),
        "iat": now,
        "nbf": now,
        "exp": now + 3_600,
        "email": user,
        "preferred_username": user,
        "name": user,
        "sub": random_text(43),
        "ver": "2.0",
    });
    if let Some(nonce) = nonce {
        claims["nonce"] = json!(nonce);
    }
    let header = json!({ "typ": "JWT", "alg": "RS256", "kid": "simulated" });
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{}", part(header), part(claims), random_text(342))
}

pub(super) fn refusal(shared: &Shared, Refused(status, error, number, text): &Refused) -> Answer {
    if shared.options.flavour == Flavour::Gmail {
        let body = json!({ "error": error, "error_description": text });
        return Answer::json(*status, &body.to_string());
    }
    let (trace, correlation) = (random_guid(), random_guid());
    let timestamp = shared.options.clock.now().to_string().replace('T', " ");
    let body = json!({
        "error": error,
        "error_description": format!(
            "AADSTS{number}: {text} Trace ID: {trace} Correlation ID: {correlation} \
             Timestamp: {timestamp}"
        ),
        "error_codes": [number],
        "timestamp": timestamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": format!("{}error?code={number}", shared.base_url),
    });
    Answer::json(*status, &body.to_string()).header("cache-control", "no-store, no-cache")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_form_encoded_first() {
        let header = |text: &str| format!("basic {}", BASE64_STANDARD.encode(text));
        let pair = |id: &str, secret: &str| Some((id.to_owned(), secret.to_owned()));
        for (value, expected) in [
            (header("id:secret"), pair("id", "secret")),
            (header("i%3Ad:s%2B%25+x"), pair("i:d", "s+% x")),
            (header("id:a=b&c"), pair("id", "a=b&c")),
            (header("nothing"), None),
            ("Bearer x".to_owned(), None),
            ("Basic !".to_owned(), None),
        ] {
            assert_eq!(read_basic(&value), expected, "{value}");
        }
    }
}
