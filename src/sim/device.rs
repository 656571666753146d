//! A sign-in on another device: `/TENANT/oauth2/v2.0/devicecode` and the page `…/device` (RFC 8628).
//!
//! Owns [`Devices`], the codes that were handed out and what people made of them, and both pages.
//! A code is good once, for its client, until its time; polls that come faster than the interval
//! are told to slow down.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::Method;
use serde_json::json;

use crate::base::Timestamp;
use crate::sim::Shared;
use crate::sim::authorize::{OPENID_SCOPES, escape, page};
use crate::sim::fault::Answer;
use crate::sim::grants::{Denied, random_text};
use crate::sim::http::Asked;
use crate::sim::token_endpoint::{self, Refused, required};

/// RFC 8628 §3.4.
pub(super) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// How long a code is good: Entra ID's 15 minutes.
const CODE_LIFE: Duration = Duration::from_secs(900);

/// The codes that were handed out, by the one for the device.
#[derive(Debug, Default)]
pub(super) struct Devices {
    codes: HashMap<String, Code>,
}

#[derive(Debug)]
struct Code {
    user_code: String,
    client: String,
    scope: String,
    expires_at: Timestamp,
    polled_at: Option<Timestamp>,
    decision: Decision,
}

#[derive(Debug)]
enum Decision {
    Pending,
    Approved { user: String },
    Declined,
}

impl Devices {
    fn begin(&mut self, client: &str, scope: &str, now: Timestamp) -> (String, String) {
        let device_code = random_text(200);
        let user_code = format!("SIM-{:04}-{:04}", self.codes.len() + 1, 4_711);
        let code = Code {
            user_code: user_code.clone(),
            client: client.to_owned(),
            scope: scope.to_owned(),
            expires_at: now + CODE_LIFE,
            polled_at: None,
            decision: Decision::Pending,
        };
        self.codes.insert(device_code.clone(), code);
        (device_code, user_code)
    }

    /// The newest codes for people come last.
    pub(super) fn user_codes(&self) -> Vec<String> {
        let mut codes: Vec<_> = self.codes.values().map(|code| code.user_code.clone()).collect();
        codes.sort();
        codes
    }

    /// A person has typed a code; `None` declines. False if nobody waits for it.
    pub(super) fn decide(&mut self, user_code: &str, user: Option<&str>, now: Timestamp) -> bool {
        let code = self.codes.values_mut().find(|code| {
            code.user_code.eq_ignore_ascii_case(user_code.trim())
                && matches!(code.decision, Decision::Pending)
                && now < code.expires_at
        });
        let Some(code) = code else { return false };
        code.decision = match user {
            Some(user) => Decision::Approved { user: user.to_owned() },
            None => Decision::Declined,
        };
        true
    }

    /// The user and the scope of a code whose person is done.
    pub(super) fn redeem(
        &mut self,
        device_code: &str,
        client: &str,
        interval: Duration,
        now: Timestamp,
    ) -> Result<(String, String), Denied> {
        let code = self.codes.get_mut(device_code).ok_or(Denied::UnknownDeviceCode)?;
        if code.client != client {
            return Err(Denied::OtherClient);
        }
        if now >= code.expires_at {
            return Err(Denied::DeviceCodeExpired);
        }
        let is_early = code.polled_at.is_some_and(|at| now < at + interval);
        code.polled_at = Some(now);
        if is_early {
            return Err(Denied::SlowDown);
        }
        match &code.decision {
            Decision::Pending => Err(Denied::Pending),
            Decision::Declined => Err(Denied::Declined),
            Decision::Approved { user } => {
                let redeemed = (user.clone(), code.scope.clone());
                self.codes.remove(device_code);
                Ok(redeemed)
            }
        }
    }
}

/// What a client gets that asks for a code.
pub(super) fn code(shared: &Shared, tenant: &str, asked: &Asked) -> Answer {
    match begin(shared, tenant, asked) {
        Ok(answer) => answer,
        Err(refused) => token_endpoint::refusal(shared, &refused),
    }
}

fn begin(shared: &Shared, tenant: &str, asked: &Asked) -> Result<Answer, Refused> {
    token_endpoint::check_place(shared, tenant, asked)?;
    let client = token_endpoint::authenticated_client(shared, asked)?;
    let scope = required(asked, "scope")?;
    let allowed = shared.options.device_scopes();
    let is_allowed = |word: &str| OPENID_SCOPES.contains(&word) || allowed.contains(&word);
    if let Some(bad) = scope.split_whitespace().find(|word| !is_allowed(word)) {
        let text = format!("The provided value for scope '{bad}' is not valid on a device.");
        return Err(Refused(400, "invalid_scope", 70_011, text));
    }
    let (device_code, user_code) =
        shared.devices().begin(&client.id, scope, shared.options.clock.now());
    let page = shared.endpoint("device");
    let body = json!({
        "device_code": device_code,
        "user_code": user_code,
        "verification_uri": page.as_str(),
        "expires_in": CODE_LIFE.as_secs(),
        "interval": shared.options.device_interval.as_secs(),
        "message": format!("To sign in, open the page {page} and enter the code {user_code}."),
    });
    Ok(Answer::json(200, &body.to_string()).header("cache-control", "no-store, no-cache"))
}

/// What a person gets who wants to type a code.
pub(super) fn sign_in(shared: &Shared, tenant: &str, asked: &Asked) -> Answer {
    if !matches!(asked.method, Method::GET | Method::POST) {
        return page(405, "AADSTS900561: The endpoint only accepts GET and POST requests.");
    }
    if !tenant.eq_ignore_ascii_case(&shared.options.tenant) {
        return page(400, &format!("AADSTS90002: Tenant '{tenant}' not found."));
    }
    let user = asked.one("signed_in").and_then(|name| shared.options.user(name));
    let is_declined = asked.one("declined").is_some();
    match asked.one("user_code") {
        Some(user_code) if user.is_some() || is_declined => {
            let user = user.filter(|_| !is_declined).map(|user| user.mailbox.as_str());
            let now = shared.options.clock.now();
            match shared.devices().decide(user_code, user, now) {
                true => form(shared, "You may close this page and return to your device."),
                false => page(400, "AADSTS70018: That code did not work; check it and try again."),
            }
        }
        _ => form(shared, "Enter the code that your device shows."),
    }
}

fn form(shared: &Shared, said: &str) -> Answer {
    let buttons: String = shared
        .options
        .users
        .iter()
        .map(|user| {
            let user = escape(&user.mailbox);
            format!(
                "<p><button name=\"signed_in\" value=\"{user}\">Sign in as {user}</button></p>\n"
            )
        })
        .collect();
    let body = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Simulated device \
         sign-in</title></head>\n<body>\n<h1>Simulated device sign-in</h1>\n<p>{said}</p>\n<form \
         method=\"get\">\n<p><input name=\"user_code\" autofocus></p>\n{buttons}<p><button \
         name=\"declined\" value=\"yes\">Decline</button></p>\n</form>\n</body></html>\n"
    );
    Answer::html(200, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_436_435_000);
    const INTERVAL: Duration = Duration::from_secs(5);

    #[test]
    fn a_code_waits_for_its_person_and_is_good_once() {
        let mut devices = Devices::default();
        let (device_code, user_code) = devices.begin("c", "scope", NOW);
        let at = |seconds| NOW + Duration::from_secs(seconds);
        let mut redeem = |client, seconds| {
            devices.redeem(&device_code, client, INTERVAL, at(seconds)).map(|(user, _)| user)
        };
        assert_eq!(redeem("other", 0), Err(Denied::OtherClient));
        assert_eq!(redeem("c", 5), Err(Denied::Pending));
        assert_eq!(redeem("c", 9), Err(Denied::SlowDown));
        assert_eq!(redeem("c", 14), Err(Denied::Pending));
        assert!(!devices.decide("nobody's", Some("a@b"), NOW));
        assert!(devices.decide(&user_code.to_lowercase(), Some("a@b"), NOW));
        assert!(!devices.decide(&user_code, None, NOW), "decided twice");
        let redeemed = devices.redeem(&device_code, "c", INTERVAL, at(20));
        assert_eq!(redeemed, Ok(("a@b".to_owned(), "scope".to_owned())));
        let again = devices.redeem(&device_code, "c", INTERVAL, at(30));
        assert_eq!(again, Err(Denied::UnknownDeviceCode));
    }

    #[test]
    fn a_code_can_be_declined_and_expires() {
        let mut devices = Devices::default();
        let (declined, user_code) = devices.begin("c", "scope", NOW);
        assert!(devices.decide(&user_code, None, NOW));
        let denied = devices.redeem(&declined, "c", INTERVAL, NOW);
        assert_eq!(denied, Err(Denied::Declined));
        let (late, user_code) = devices.begin("c", "scope", NOW);
        let denied = devices.redeem(&late, "c", INTERVAL, NOW + CODE_LIFE);
        assert_eq!(denied, Err(Denied::DeviceCodeExpired));
        assert!(!devices.decide(&user_code, Some("a@b"), NOW + CODE_LIFE));
    }
}
