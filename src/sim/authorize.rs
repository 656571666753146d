//! The authorization page: `/TENANT/oauth2/v2.0/authorize` (RFC 6749 §4.1.1, RFC 7636 §4.3).
//!
//! Owns the checks of a request and the way back to the client. A request whose client or redirect
//! URI is wrong gets a page; everything else goes back to the redirect URI as an error. PKCE with
//! S256 and a state are demanded of everybody.

use axum::http::Method;
use url::Url;

use crate::sim::Shared;
use crate::sim::fault::Answer;
use crate::sim::grants::{Consent, random_guid};
use crate::sim::http::Asked;
use crate::sim::options::Flavour;

/// Scope words that need no resource.
pub(super) const OPENID_SCOPES: [&str; 4] = ["openid", "email", "profile", "offline_access"];

/// What a browser gets for a request.
pub(super) fn answer(shared: &Shared, tenant: &str, asked: &Asked) -> Answer {
    if !matches!(asked.method, Method::GET | Method::POST) {
        return page(405, "AADSTS900561: The endpoint only accepts GET and POST requests.");
    }
    let destination = match destination(shared, tenant, asked) {
        Ok(destination) => destination,
        Err(text) => return page(400, &text),
    };
    if let Err((error, description)) = check(asked) {
        return back(&destination, asked, &[("error", error), ("error_description", &description)]);
    }
    if asked.one("declined").is_some() {
        let text = "AADSTS65004: User declined to consent to access the app.";
        let fields = [("error", "access_denied"), ("error_description", text)];
        return back(&destination, asked, &fields);
    }
    let chosen = asked.one("signed_in");
    let hinted = asked.one("login_hint").filter(|_| !shared.options.always_ask);
    let name = match chosen.or(hinted) {
        Some(name) => name.to_owned(),
        None => return choice(shared, asked),
    };
    let name = shared.signs_in().clone().unwrap_or(name);
    let Some(user) = shared.options.user(&name) else {
        let text = "AADSTS50034: The user account does not exist in this directory.";
        return page(400, text);
    };
    let field = |name| asked.one(name).unwrap_or("").to_owned();
    let consent = Consent {
        user: user.mailbox.clone(),
        client: field("client_id"),
        redirect_uri: field("redirect_uri"),
        challenge: field("code_challenge"),
        scope: field("scope"),
        nonce: asked.one("nonce").map(str::to_owned),
    };
    let code = shared.grants().issue_code(consent, shared.options.clock.now());
    let session_state = random_guid();
    back(&destination, asked, &[("code", &code), ("session_state", &session_state)])
}

/// The browser goes back with an error that a script wants.
pub(super) fn declined(shared: &Shared, asked: &Asked, error: &str, description: &str) -> Answer {
    match destination(shared, &shared.options.tenant, asked) {
        Ok(url) => back(&url, asked, &[("error", error), ("error_description", description)]),
        Err(text) => page(400, &text),
    }
}

/// The redirect URI of a request whose client and redirect URI are right.
fn destination(shared: &Shared, tenant: &str, asked: &Asked) -> Result<Url, String> {
    if !tenant.eq_ignore_ascii_case(&shared.options.tenant) {
        return Err(format!("AADSTS90002: Tenant '{tenant}' not found."));
    }
    let Some(client) = asked.one("client_id") else {
        return Err("AADSTS900144: The request body must contain the following parameter: \
                    'client_id'."
            .to_owned());
    };
    if shared.options.client(client).is_none() {
        return Err(format!(
            "AADSTS700016: Application with identifier '{client}' was not found in the directory \
             '{tenant}'."
        ));
    }
    let Some(text) = asked.one("redirect_uri") else {
        return Err("AADSTS900971: No reply address provided.".to_owned());
    };
    match Url::parse(text) {
        Ok(url) if is_loopback(&url) => Ok(url),
        _ => Err(format!(
            "AADSTS50011: The redirect URI '{text}' specified in the request does not match the \
             redirect URIs configured for the application '{client}'."
        )),
    }
}

/// RFC 8252 §7.3: any port of the loopback interface, over plain HTTP.
fn is_loopback(url: &Url) -> bool {
    url.scheme() == "http"
        && matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
        && url.username().is_empty()
        && url.fragment().is_none()
}

/// What is wrong with the rest of the request: error and description.
fn check(asked: &Asked) -> Result<(), (&'static str, String)> {
    let missing = |name: &str| {
        let text = format!(
            "AADSTS900144: The request body must contain the following parameter: '{name}'."
        );
        Err(("invalid_request", text))
    };
    match asked.one("response_type") {
        None => return missing("response_type"),
        Some("code") => {}
        Some(other) => {
            let text = format!("AADSTS700054: response_type '{other}' is not enabled.");
            return Err(("unsupported_response_type", text));
        }
    }
    if asked.one("response_mode").is_some_and(|mode| mode != "query") {
        let text = "AADSTS901113: Only response_mode 'query' is supported here.";
        return Err(("invalid_request", text.to_owned()));
    }
    if asked.one("state").is_none() {
        return missing("state");
    }
    let Some(scope) = asked.one("scope") else { return missing("scope") };
    if let Some(bad) = scope.split_whitespace().find(|word| !is_delegated_scope(word)) {
        let text = format!("AADSTS70011: The provided value for scope '{bad}' is not valid.");
        return Err(("invalid_scope", text));
    }
    let is_challenge = |text: &str| {
        text.len() == 43 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    match (asked.one("code_challenge"), asked.one("code_challenge_method")) {
        (Some(challenge), Some("S256")) if is_challenge(challenge) => Ok(()),
        (None, _) => {
            let text = "AADSTS9002325: Proof Key for Code Exchange is required.";
            Err(("invalid_request", text.to_owned()))
        }
        (Some(_), _) => {
            let text = "AADSTS501491: The code_challenge is not valid with its method.";
            Err(("invalid_request", text.to_owned()))
        }
    }
}

/// A word that may be asked of a person: a scope of some resource, never an application role.
fn is_delegated_scope(word: &str) -> bool {
    OPENID_SCOPES.contains(&word)
        || (word.starts_with("https://") && !word.ends_with("/SMTP.SendAsApp"))
}

/// Sends the browser back to the client.
fn back(destination: &Url, asked: &Asked, fields: &[(&str, &str)]) -> Answer {
    let mut url = destination.clone();
    {
        let mut query = url.query_pairs_mut();
        query.extend_pairs(fields);
        if let Some(state) = asked.one("state") {
            query.append_pair("state", state);
        }
    }
    Answer::redirect(302, url.as_str()).header("cache-control", "no-store, no-cache")
}

/// The page on which a person chooses who signs in, and consents.
fn choice(shared: &Shared, asked: &Asked) -> Answer {
    let hidden: String = asked
        .fields()
        .iter()
        .map(|(name, value)| {
            let (name, value) = (escape(name), escape(value));
            format!("<input type=\"hidden\" name=\"{name}\" value=\"{value}\">\n")
        })
        .collect();
    let buttons: String = shared
        .options
        .users
        .iter()
        .map(|user| {
            let user = escape(&user.mailbox);
            format!(
                "<p><button name=\"signed_in\" value=\"{user}\">Sign in as {user} and consent\
                 </button></p>\n"
            )
        })
        .collect();
    let client = escape(asked.one("client_id").unwrap_or(""));
    let scope = escape(asked.one("scope").unwrap_or(""));
    let title = match shared.options.flavour {
        Flavour::ExchangeOnline => "Simulated sign-in",
        Flavour::Gmail => "Simulated sign-in (Gmail)",
    };
    let body = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         </head>\n<body>\n<h1>{title}</h1>\n<p>The application <b>{client}</b> asks for \
         <b>{scope}</b>.</p>\n<form method=\"get\">\n{hidden}{buttons}<p><button name=\"declined\" \
         value=\"yes\">Decline</button></p>\n</form>\n</body></html>\n"
    );
    Answer::html(200, &body)
}

pub(super) fn page(status: u16, text: &str) -> Answer {
    let text = escape(text);
    let body = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Sign-in failed\
         </title></head>\n<body>\n<h1>Sorry, but we are having trouble signing you in.</h1>\n\
         <p>{text}</p>\n</body></html>\n"
    );
    Answer::html(status, &body)
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirect_uris_are_loopback_with_any_port() {
        for (text, is_right) in [
            ("http://localhost:1234/", true),
            ("http://127.0.0.1/callback", true),
            ("http://[::1]:9/x?y=z", true),
            ("https://localhost:1234/", false),
            ("http://localhost.evil.example/", false),
            ("http://127.0.0.2:1/", false),
            ("http://user@localhost:1/", false),
            ("http://localhost:1/#fragment", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(text).unwrap()), is_right, "{text}");
        }
    }

    #[test]
    fn what_a_request_must_have() {
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        let whole = [
            ("response_type", "code"),
            ("state", "s"),
            ("scope", "https://outlook.office.com/SMTP.Send offline_access openid"),
            ("code_challenge", challenge),
            ("code_challenge_method", "S256"),
        ];
        assert_eq!(check(&Asked::of(Method::GET, &whole, None)), Ok(()));
        for (name, value, error) in [
            ("response_type", "", "invalid_request"),
            ("response_type", "token", "unsupported_response_type"),
            ("state", "", "invalid_request"),
            ("scope", "", "invalid_request"),
            ("scope", "SMTP.Send", "invalid_scope"),
            ("scope", "https://outlook.office365.com/SMTP.SendAsApp", "invalid_scope"),
            ("code_challenge", "", "invalid_request"),
            ("code_challenge", "short", "invalid_request"),
            ("code_challenge_method", "plain", "invalid_request"),
            ("code_challenge_method", "", "invalid_request"),
        ] {
            let changed = whole.map(|(known, v)| (known, if known == name { value } else { v }));
            let result = check(&Asked::of(Method::GET, &changed, None));
            assert_eq!(result.unwrap_err().0, error, "{name}={value}");
        }
        let twice = [&whole[..], &[("state", "t")]].concat();
        assert!(
            check(&Asked::of(Method::GET, &twice, None)).is_err(),
            "a field that is there twice"
        );
    }

    #[test]
    fn text_in_pages_is_escaped() {
        assert_eq!(escape("<a b=\"c\">&"), "&lt;a b=&quot;c&quot;&gt;&amp;");
    }
}
