//! HTTP to token endpoints.
//!
//! Owns [`HttpClient`]: one request on a fresh connection, https only (http to loopback hosts
//! only), no redirects, no retries, no proxy from the environment, a bound on connecting, on the
//! whole exchange and on the answer's size. It knows nothing of tokens and logs nothing.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use url::{Host, Url};

use crate::base::{Printable, limits};
use crate::net::{TlsSetupError, client_config};
use crate::oauth::HttpRequest;

/// Sends requests to token endpoints.
#[derive(Clone)]
pub struct HttpClient {
    client: reqwest::Client,
}

/// How long a token endpoint may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpPatience {
    /// For the connection with its TLS.
    pub connect: Duration,
    /// For everything, from the look-up of the name to the last byte of the answer.
    pub total: Duration,
}

impl Default for HttpPatience {
    fn default() -> Self {
        Self { connect: limits::TOKEN_CONNECT, total: limits::TOKEN_TOTAL }
    }
}

/// What came back. The body may hold tokens, so `Debug` does not show it.
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// How long to wait, in seconds, if the answer says so (RFC 9110 §10.2.3).
    pub retry_after: Option<String>,
    /// The body, at most [`limits::TOKEN_ANSWER_BYTES`].
    pub body: Vec<u8>,
}

impl fmt::Debug for HttpAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpAnswer")
            .field("status", &self.status)
            .field("retry_after", &self.retry_after)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

impl HttpClient {
    /// A client that trusts `ca_file`, or else the platform.
    pub fn new(ca_file: Option<&Path>, patience: HttpPatience) -> Result<Self, HttpSetupError> {
        let tls = client_config(ca_file)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured((*tls).clone())
            .user_agent(concat!("mailbearer/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            // Token requests are rare, and one on a connection that has just gone stale cannot be
            // told from one that was lost after it took effect.
            .pool_max_idle_per_host(0)
            .connect_timeout(patience.connect)
            .timeout(patience.total)
            .build()
            .map_err(|error| HttpSetupError::Client(cause(&error)))?;
        Ok(Self { client })
    }

    /// Sends one request and reads the whole answer.
    pub async fn send(&self, request: HttpRequest) -> Result<HttpAnswer, HttpFault> {
        let request =
            reqwest::Request::try_from(request.into_http()).map_err(|error| fault(&error))?;
        if !is_safe(request.url()) {
            return Err(HttpFault::NotEncrypted { url: shown(request.url()) });
        }
        let mut response = self.client.execute(request).await.map_err(|error| fault(&error))?;
        let too_large = response
            .content_length()
            .is_some_and(|length| length > limits::TOKEN_ANSWER_BYTES as u64);
        if too_large {
            return Err(HttpFault::TooLarge);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| fault(&error))? {
            if body.len() + chunk.len() > limits::TOKEN_ANSWER_BYTES {
                return Err(HttpFault::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(HttpAnswer {
            status: response.status().as_u16(),
            retry_after: retry_after(response.headers()),
            body,
        })
    }
}

/// True for https, and for http that does not leave the machine.
fn is_safe(url: &Url) -> bool {
    match url.scheme() {
        "https" => true,
        "http" => match url.host() {
            Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        },
        _ => false,
    }
}

/// Retry-After in seconds. A date is taken as the distance to the answer's own date, so that our
/// clock does not matter.
fn retry_after(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.to_owned());
    }
    let date = |text: &str| jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp());
    let (until, now) = (date(text)?, date(headers.get(DATE)?.to_str().ok()?)?);
    Some(until.as_second().saturating_sub(now.as_second()).max(0).to_string())
}

/// The URL without what could be secret in it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_password(None);
    Printable::text(url.as_str()).to_string()
}

fn fault(error: &reqwest::Error) -> HttpFault {
    match error {
        error if error.is_timeout() && error.is_connect() => HttpFault::ConnectTimedOut,
        error if error.is_timeout() => HttpFault::TimedOut,
        error if error.is_connect() => HttpFault::Unreachable(cause(error)),
        error => HttpFault::Broken(cause(error)),
    }
}

/// The innermost reason: the outer ones only say that there was an error.
fn cause(error: &reqwest::Error) -> String {
    let mut innermost: &dyn Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    Printable::text(&innermost.to_string()).to_string()
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    /// Its TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The HTTP library refused its settings.
    #[error("cannot set up HTTP: {0}")]
    Client(String),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpFault {
    /// The URL would send secrets over the network in the clear.
    #[error("{url} is not https; tokens are never asked for over an unencrypted connection")]
    NotEncrypted {
        /// Where the request should have gone.
        url: String,
    },
    /// The name has no address, nobody listens, or the certificate is not trusted.
    #[error("the token endpoint cannot be reached: {0}")]
    Unreachable(String),
    /// Nobody answered in [`HttpPatience::connect`].
    #[error("the token endpoint cannot be reached: nobody answered in time")]
    ConnectTimedOut,
    /// The answer was not complete in [`HttpPatience::total`].
    #[error("the token endpoint did not answer in time")]
    TimedOut,
    /// The answer is larger than any token answer.
    #[error("the token endpoint's answer is too large to be a token answer")]
    TooLarge,
    /// The connection broke, or what came was not HTTP.
    #[error("the token endpoint's answer broke off: {0}")]
    Broken(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_leave_the_machine_only_encrypted() {
        let cases = [
            ("https://login.example/token", true),
            ("http://localhost:8080/token", true),
            ("http://127.0.0.2/token", true),
            ("http://[::1]:8080/token", true),
            ("http://login.example/token", false),
            ("http://localhost.example/token", false),
            ("http://192.168.0.1/token", false),
            ("ftp://localhost/token", false),
        ];
        for (url, expected) in cases {
            assert_eq!(is_safe(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let date = "Mon, 23 Nov 2026 12:20:35 GMT";
        let cases = [
            (Some("120"), None, Some("120")),
            (Some("Mon, 23 Nov 2026 12:21:35 GMT"), Some(date), Some("60")),
            (Some("Mon, 23 Nov 2026 12:00:00 GMT"), Some(date), Some("0")),
            (Some("Mon, 23 Nov 2026 12:21:35 GMT"), None, None),
            (Some("-3"), Some(date), None),
            (Some("soon"), Some(date), None),
            (None, Some(date), None),
        ];
        for (field, date, expected) in cases {
            let mut headers = HeaderMap::new();
            if let Some(field) = field {
                headers.insert(RETRY_AFTER, field.parse().unwrap());
            }
            if let Some(date) = date {
                headers.insert(DATE, date.parse().unwrap());
            }
            assert_eq!(retry_after(&headers).as_deref(), expected, "{field:?}");
        }
    }

    #[test]
    fn a_shown_url_has_no_secret() {
        let url = Url::parse("https://user:marked@login.example/token?key=marked#marked").unwrap();
        assert_eq!(shown(&url), "https://user@login.example/token");
    }
}
