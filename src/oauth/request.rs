//! What is asked of a provider, as values.
//!
//! Owns the authorization URL and the token requests. The `oauth2` crate builds them; the request
//! that it hands to its HTTP client is taken from it and returned, so nothing here sends anything.
//! The client secret goes into the body (RFC 6749 §2.3.1, `client_secret_post`): Entra, Google and
//! every other provider that we know of take it there.

use std::cell::RefCell;
use std::fmt;

use oauth2::basic::{BasicClient, BasicErrorResponse, BasicTokenResponse};
use oauth2::http::Method;
use oauth2::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet,
    EndpointSet, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError,
    Scope, TokenUrl,
};
use url::{Url, form_urlencoded};

use crate::base::Secret;
use crate::oauth::ClientRegistration;

/// One POST to a token endpoint. Its body holds secrets, so `Debug` shows only where it goes.
pub struct HttpRequest(oauth2::HttpRequest);

impl HttpRequest {
    /// A form of `client` with its id and its secret, and these fields behind them.
    pub(super) fn of_client(
        endpoint: &Url,
        client: &ClientRegistration,
        fields: &[(&str, &str)],
    ) -> Result<Self, RequestError> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("client_id", &client.id);
        if let Some(secret) = &client.secret {
            form.append_pair("client_secret", secret.expose());
        }
        form.extend_pairs(fields);
        let request = oauth2::http::Request::post(endpoint.as_str())
            .header("accept", "application/json")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.finish().into_bytes());
        request.map(Self).map_err(|error| RequestError::Unwritable(error.to_string()))
    }

    /// The request for an HTTP client to send.
    pub fn into_http(self) -> oauth2::http::Request<Vec<u8>> {
        self.0
    }

    /// What in the form is secret: answers are searched for it.
    pub fn secrets(&self) -> Vec<Secret> {
        const NAMES: [&str; 6] =
            ["client_secret", "code", "code_verifier", "device_code", "refresh_token", "token"];
        url::form_urlencoded::parse(self.0.body())
            .filter(|(name, _)| NAMES.contains(&name.as_ref()))
            .map(|(_, value)| Secret::new(value))
            .collect()
    }

    /// The form that is sent. Holds secrets.
    pub fn body(&self) -> &[u8] {
        self.0.body()
    }
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} [secret]", self.0.method(), self.0.uri())
    }
}

/// What an authorization URL is made of.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizationRequest<'a> {
    /// The provider's authorization endpoint.
    pub endpoint: &'a Url,
    /// Who asks.
    pub client: &'a ClientRegistration,
    /// Where the browser is sent afterwards.
    pub redirect: &'a Url,
    /// What is asked for.
    pub scopes: &'a [String],
    /// The PKCE verifier, 43 to 128 unreserved characters (RFC 7636 §4.1). Only its hash is sent.
    pub verifier: &'a Secret,
    /// Comes back with the redirect and has to be the same.
    pub state: &'a Secret,
    /// Comes back in the ID token and has to be the same (OpenID Connect Core §3.1.2.1); for
    /// requests that ask for one, with the scope `openid`.
    pub nonce: Option<&'a Secret>,
    /// The address to sign in with, as a suggestion to the person.
    pub login_hint: Option<&'a str>,
    /// What this provider wants beside the standard.
    pub extra: &'a [(&'a str, &'a str)],
}

/// The URL at which a person signs in and consents: code flow with PKCE S256.
pub fn authorization_url(request: &AuthorizationRequest<'_>) -> Result<Url, RequestError> {
    let client = BasicClient::new(ClientId::new(request.client.id.clone()))
        .set_auth_uri(AuthUrl::from_url(request.endpoint.clone()))
        .set_redirect_uri(RedirectUrl::from_url(request.redirect.clone()));
    let challenge = PkceCodeChallenge::from_code_verifier_sha256(&verifier(request.verifier)?);
    let state = CsrfToken::new(request.state.expose().to_owned());
    let mut url = client
        .authorize_url(|| state)
        .add_scopes(request.scopes.iter().cloned().map(Scope::new))
        .set_pkce_challenge(challenge);
    if let Some(nonce) = request.nonce {
        url = url.add_extra_param("nonce", nonce.expose());
    }
    if let Some(hint) = request.login_hint {
        url = url.add_extra_param("login_hint", hint);
    }
    for &(name, value) in request.extra {
        url = url.add_extra_param(name, value);
    }
    Ok(url.url().0)
}

/// Redeems the code of a redirect: RFC 6749 §4.1.3 with RFC 7636 §4.5.
pub fn code_request(
    token_url: &Url,
    client: &ClientRegistration,
    redirect: &Url,
    code: &Secret,
    verifier_text: &Secret,
) -> Result<HttpRequest, RequestError> {
    let client =
        asking(token_url, client).set_redirect_uri(RedirectUrl::from_url(redirect.clone()));
    let verifier = verifier(verifier_text)?;
    captured(|send| {
        client
            .exchange_code(AuthorizationCode::new(code.expose().to_owned()))
            .set_pkce_verifier(verifier)
            .request(&send)
    })
}

/// Renews by refresh token: RFC 6749 §6. No scope is sent, which means the scope of the consent;
/// asking for one that the provider had left out would be an error.
pub fn refresh_request(
    token_url: &Url,
    client: &ClientRegistration,
    refresh_token: &Secret,
) -> Result<HttpRequest, RequestError> {
    let client = asking(token_url, client);
    let refresh_token = RefreshToken::new(refresh_token.expose().to_owned());
    captured(|send| client.exchange_refresh_token(&refresh_token).request(&send))
}

/// Asks as the program itself: RFC 6749 §4.4.2.
pub fn client_credentials_request(
    token_url: &Url,
    client: &ClientRegistration,
    scopes: &[String],
) -> Result<HttpRequest, RequestError> {
    let client = asking(token_url, client);
    let scopes = scopes.iter().cloned().map(Scope::new);
    captured(|send| client.exchange_client_credentials().add_scopes(scopes).request(&send))
}

/// Ends a refresh token, and with it every access token that came from it: RFC 7009 §2.1.
pub fn revocation_request(
    revoke_url: &Url,
    client: &ClientRegistration,
    refresh_token: &Secret,
) -> Result<HttpRequest, RequestError> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("token", refresh_token.expose());
    form.append_pair("token_type_hint", "refresh_token");
    form.append_pair("client_id", &client.id);
    if let Some(secret) = &client.secret {
        form.append_pair("client_secret", secret.expose());
    }
    let mut request = oauth2::http::Request::new(form.finish().into_bytes());
    *request.method_mut() = Method::POST;
    *request.uri_mut() =
        revoke_url.as_str().parse().map_err(|why| RequestError::Unwritable(format!("{why}")))?;
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    Ok(HttpRequest(request))
}

fn asking(
    token_url: &Url,
    client: &ClientRegistration,
) -> BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet> {
    let asking = BasicClient::new(ClientId::new(client.id.clone()))
        .set_token_uri(TokenUrl::from_url(token_url.clone()))
        .set_auth_type(AuthType::RequestBody);
    match &client.secret {
        Some(secret) => asking.set_client_secret(ClientSecret::new(secret.expose().to_owned())),
        None => asking,
    }
}

fn verifier(text: &Secret) -> Result<PkceCodeVerifier, RequestError> {
    let is_unreserved =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let text = text.expose();
    if !(43..=128).contains(&text.len()) || !text.bytes().all(is_unreserved) {
        return Err(RequestError::Verifier);
    }
    Ok(PkceCodeVerifier::new(text.to_owned()))
}

/// Runs one of the crate's requests with an HTTP client that keeps the request and sends nothing.
fn captured(
    request: impl FnOnce(
        &dyn Fn(oauth2::HttpRequest) -> Result<oauth2::HttpResponse, Captured>,
    )
        -> Result<BasicTokenResponse, RequestTokenError<Captured, BasicErrorResponse>>,
) -> Result<HttpRequest, RequestError> {
    let taken = RefCell::new(None);
    let outcome = request(&|asked| {
        taken.replace(Some(asked));
        Err(Captured)
    });
    match (taken.into_inner(), outcome) {
        (Some(taken), _) => Ok(HttpRequest(taken)),
        (None, Err(RequestTokenError::Other(text))) => Err(RequestError::Unwritable(text)),
        (None, _) => Err(RequestError::Unwritable("the request was not built".to_owned())),
    }
}

/// What the capturing HTTP client answers: the request is ours now.
#[derive(Debug, thiserror::Error)]
#[error("the request was taken instead of sent")]
struct Captured;

/// Why there is no request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The PKCE verifier is not one.
    #[error("the PKCE verifier must have 43 to 128 letters, digits or -._~ (RFC 7636 §4.1)")]
    Verifier,
    /// The endpoint's URL cannot be asked.
    #[error("cannot write the token request: {0}")]
    Unwritable(String),
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn client(secret: Option<&str>) -> ClientRegistration {
        ClientRegistration { id: "app id".to_owned(), secret: secret.map(Secret::new) }
    }

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    fn form(request: &HttpRequest) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(request.body()).into_owned().collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    const TOKEN_URL: &str = "https://login.example/t/token";
    /// RFC 7636 appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn an_authorization_url_has_the_challenge_and_never_the_verifier() {
        let scopes = ["https://outlook.office.com/SMTP.Send".to_owned(), "offline_access".into()];
        let url = authorization_url(&AuthorizationRequest {
            endpoint: &url("https://login.example/t/authorize?fixed=1"),
            client: &client(Some("marked-secret")),
            redirect: &url("http://localhost:4711/"),
            scopes: &scopes,
            verifier: &Secret::new(VERIFIER),
            state: &Secret::new("st&te"),
            nonce: Some(&Secret::new("once")),
            login_hint: Some("scanner@contoso.com"),
            extra: &[("prompt", "consent")],
        })
        .unwrap();
        let query: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
        let expected = pairs(&[
            ("client_id", "app id"),
            ("code_challenge", CHALLENGE),
            ("code_challenge_method", "S256"),
            ("fixed", "1"),
            ("login_hint", "scanner@contoso.com"),
            ("nonce", "once"),
            ("prompt", "consent"),
            ("redirect_uri", "http://localhost:4711/"),
            ("response_type", "code"),
            ("scope", "https://outlook.office.com/SMTP.Send offline_access"),
            ("state", "st&te"),
        ]);
        assert_eq!(query, expected);
    }

    #[test]
    fn token_requests_say_exactly_what_their_grant_says() {
        let (secret, public) = (client(Some("s&cret=")), client(None));
        let redirect = url("http://localhost:4711/");
        let token_url = url(TOKEN_URL);
        let (code, refresh) = (Secret::new("c+de"), Secret::new("r/fresh"));
        let verifier = Secret::new(VERIFIER);
        let scopes = ["https://outlook.office365.com/.default".to_owned()];
        let cases = [
            (
                code_request(&token_url, &public, &redirect, &code, &verifier),
                pairs(&[
                    ("grant_type", "authorization_code"),
                    ("client_id", "app id"),
                    ("code", "c+de"),
                    ("code_verifier", VERIFIER),
                    ("redirect_uri", "http://localhost:4711/"),
                ]),
            ),
            (
                refresh_request(&token_url, &secret, &refresh),
                pairs(&[
                    ("grant_type", "refresh_token"),
                    ("client_id", "app id"),
                    ("client_secret", "s&cret="),
                    ("refresh_token", "r/fresh"),
                ]),
            ),
            (
                client_credentials_request(&token_url, &secret, &scopes),
                pairs(&[
                    ("grant_type", "client_credentials"),
                    ("client_id", "app id"),
                    ("client_secret", "s&cret="),
                    ("scope", "https://outlook.office365.com/.default"),
                ]),
            ),
            (
                revocation_request(&token_url, &secret, &refresh),
                pairs(&[
                    ("token", "r/fresh"),
                    ("token_type_hint", "refresh_token"),
                    ("client_id", "app id"),
                    ("client_secret", "s&cret="),
                ]),
            ),
        ];
        for (request, expected) in cases {
            let request = request.unwrap();
            assert_eq!(form(&request), expected);
            assert_eq!(format!("{request:?}"), format!("POST {TOKEN_URL} [secret]"));
            let request = request.into_http();
            assert_eq!(request.headers()["accept"], "application/json");
            assert_eq!(request.headers()["content-type"], "application/x-www-form-urlencoded");
        }
    }

    #[test]
    fn a_verifier_that_is_not_one_is_refused() {
        let (token_url, redirect) = (url(TOKEN_URL), url("http://localhost/"));
        for text in ["short", &"x".repeat(129), &" ".repeat(43), &"ü".repeat(43)] {
            let refused = code_request(
                &token_url,
                &client(None),
                &redirect,
                &Secret::new("code"),
                &Secret::new(text),
            );
            assert_eq!(refused.unwrap_err(), RequestError::Verifier);
        }
    }
}
