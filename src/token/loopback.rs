//! Where the browser comes back to: a very small HTTP server on this machine.
//!
//! Owns [`Loopback`]. It reads the head of a GET request, never more than
//! [`limits::CONSENT_REQUEST_OCTETS`], looks at the state before anything else, answers with a short
//! page and closes. A request with a wrong state changes nothing: any web page can send one.
//! Sources: RFC 8252 §7.3 and §8.3, RFC 9112 §2 and §3.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::base::{Secret, limits};
use crate::oauth::{RedirectError, read_redirect};

/// Between two tries to accept when the system has no more descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// For the browser to take its page.
const PAGE: Duration = Duration::from_secs(2);

/// What a redirect has to carry to be ours.
pub(super) struct ExpectedRedirect {
    pub(super) state: Secret,
    pub(super) issuer: Option<String>,
}

impl ExpectedRedirect {
    /// The code of a redirect, or of an address that was pasted.
    pub(super) fn read(&self, text: &str) -> Result<Secret, RedirectError> {
        read_redirect(text, &self.state, self.issuer.as_deref())
    }
}

/// Waits for one redirect.
pub(super) struct Loopback {
    ipv4: TcpListener,
    /// The same port, since `localhost` may be either, and nobody else shall sit there.
    ipv6: Option<TcpListener>,
    port: u16,
    visits: JoinSet<Option<Result<Secret, RedirectError>>>,
}

impl Loopback {
    /// On a port that the system chooses.
    pub(super) async fn bind() -> io::Result<Self> {
        let ipv4 = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = ipv4.local_addr()?.port();
        let ipv6 = TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await.ok();
        Ok(Self { ipv4, ipv6, port, visits: JoinSet::new() })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The code of the redirect with this state, or the provider's refusal. May be dropped and
    /// called again.
    pub(super) async fn redirect(
        &mut self,
        expected: &Arc<ExpectedRedirect>,
    ) -> Result<Secret, RedirectError> {
        loop {
            let has_room = self.visits.len() < limits::CONSENT_CONNECTIONS;
            tokio::select! {
                Some(visit) = self.visits.join_next() => {
                    if let Ok(Some(outcome)) = visit {
                        return outcome;
                    }
                }
                accepted = accept(&self.ipv4, self.ipv6.as_ref()), if has_room => match accepted {
                    Ok(stream) => {
                        let expected = expected.clone();
                        self.visits.spawn(async move { visit(stream, &expected).await });
                    }
                    Err(_) => sleep(ACCEPT_AGAIN).await,
                },
            }
        }
    }
}

async fn accept(ipv4: &TcpListener, ipv6: Option<&TcpListener>) -> io::Result<TcpStream> {
    match ipv6 {
        Some(ipv6) => tokio::select! {
            accepted = ipv4.accept() => accepted,
            accepted = ipv6.accept() => accepted,
        },
        None => ipv4.accept().await,
    }
    .map(|(stream, _)| stream)
}

/// One connection: None if the redirect has still to come.
async fn visit(
    mut stream: TcpStream,
    expected: &ExpectedRedirect,
) -> Option<Result<Secret, RedirectError>> {
    let head = timeout(limits::CONSENT_READ, read_head(&mut stream)).await.ok()?.ok()?;
    let (page, outcome) = judge(&head, expected);
    // The browser gets its page before anything slow happens; if it has gone, so be it.
    let _ = timeout(PAGE, async {
        stream.write_all(page.response().as_bytes()).await?;
        stream.shutdown().await
    })
    .await;
    outcome
}

/// Up to the empty line.
async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if head.len() >= limits::CONSENT_REQUEST_OCTETS {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut room = [0; 2_048];
        match stream.read(&mut room).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => head.extend_from_slice(&room[..read]),
        }
    }
    Ok(head)
}

fn judge(
    head: &[u8],
    expected: &ExpectedRedirect,
) -> (Page, Option<Result<Secret, RedirectError>>) {
    let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else { return (Page::BadRequest, None) };
    let mut words = line.split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(target), Some(version), None) = (target, version, words.next()) else {
        return (Page::BadRequest, None);
    };
    if !version.starts_with("HTTP/1.") {
        return (Page::BadRequest, None);
    }
    if method != Some("GET") {
        return (Page::WrongMethod, None);
    }
    // An exact path: what the browser asks for by itself, such as its icon, is not a redirect.
    if !target.starts_with("/?") {
        return (Page::NotFound, None);
    }
    match expected.read(target) {
        Ok(code) => (Page::Arrived, Some(Ok(code))),
        Err(refused @ RedirectError::Refused { .. }) => (Page::Refused, Some(Err(refused))),
        // Our state and still no code that we could use: a stranger cannot have sent that.
        Err(error @ (RedirectError::NoCode | RedirectError::WrongIssuer { .. })) => {
            (Page::Refused, Some(Err(error)))
        }
        Err(
            RedirectError::NotARedirect
            | RedirectError::NoState
            | RedirectError::WrongState
            | RedirectError::Ambiguous,
        ) => (Page::NotOurs, None),
    }
}

/// What the person sees. No text of the request is ever shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    Arrived,
    Refused,
    NotOurs,
    NotFound,
    WrongMethod,
    BadRequest,
}

impl Page {
    fn response(self) -> String {
        let (status, title, text) = match self {
            Self::Arrived => (
                "200 OK",
                "The sign-in has arrived",
                "You may close this window. mailbearer is now fetching the token; its terminal \
                 tells whether that worked.",
            ),
            Self::Refused => (
                "200 OK",
                "The provider did not agree",
                "Nothing was stored. The terminal in which mailbearer runs tells why, and what \
                 to do.",
            ),
            Self::NotOurs => (
                "400 Bad Request",
                "This belongs to another sign-in",
                "mailbearer is still waiting. Please go on in the window that was opened last.",
            ),
            Self::NotFound => ("404 Not Found", "Nothing here", "This address is only a way back."),
            Self::WrongMethod => {
                ("405 Method Not Allowed", "Nothing here", "This address is only a way back.")
            }
            Self::BadRequest => ("400 Bad Request", "Not understood", "That was not HTTP."),
        };
        let body = format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <title>mailbearer: {title}</title>\
             <style>body{{font:1.1em/1.5 system-ui,sans-serif;max-width:32em;margin:15vh auto;\
             padding:0 1em}}</style><h1>{title}</h1><p>{text}</p></html>\n"
        );
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\n\
             Content-Length: {length}\r\nConnection: close\r\nCache-Control: no-store\r\n\
             Referrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\n\
             Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n{allow}\r\n\
             {body}",
            length = body.len(),
            allow = if self == Self::WrongMethod { "Allow: GET\r\n" } else { "" },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_state_ends_the_wait() {
        let issuer = Some("https://login.example".to_owned());
        let expected = ExpectedRedirect { state: Secret::new("right"), issuer };
        let cases = [
            ("GET /?code=c&state=right HTTP/1.1\r\n", Page::Arrived, true),
            ("GET /?error=access_denied&state=right HTTP/1.1\r\n", Page::Refused, true),
            (
                "GET /?code=c&state=right&iss=https://login.example HTTP/1.1\r\n",
                Page::Arrived,
                true,
            ),
            ("GET /?code=c&state=right&iss=https://evil.example HTTP/1.1\r\n", Page::Refused, true),
            (
                "GET /?code=c&state=wrong&iss=https://evil.example HTTP/1.1\r\n",
                Page::NotOurs,
                false,
            ),
            ("GET /?state=right HTTP/1.0\r\n", Page::Refused, true),
            ("GET /?code=c&state=wrong HTTP/1.1\r\n", Page::NotOurs, false),
            ("GET /?error=access_denied&state=wrong HTTP/1.1\r\n", Page::NotOurs, false),
            ("GET /?code=c HTTP/1.1\r\n", Page::NotOurs, false),
            ("GET / HTTP/1.1\r\n", Page::NotFound, false),
            ("GET /favicon.ico HTTP/1.1\r\n", Page::NotFound, false),
            ("GET /other?code=c&state=right HTTP/1.1\r\n", Page::NotFound, false),
            ("GET http://localhost/?code=c&state=right HTTP/1.1\r\n", Page::NotFound, false),
            ("POST /?code=c&state=right HTTP/1.1\r\n", Page::WrongMethod, false),
            ("GET /?code=c&state=right\r\n", Page::BadRequest, false),
            ("GET /?code=c &state=right HTTP/1.1\r\n", Page::BadRequest, false),
            ("EHLO there\r\n", Page::BadRequest, false),
            ("\r\n", Page::BadRequest, false),
        ];
        for (line, page, is_over) in cases {
            let judged = judge(format!("{line}Host: x\r\n\r\n").as_bytes(), &expected);
            assert_eq!((judged.0, judged.1.is_some()), (page, is_over), "{line}");
        }
    }

    #[test]
    fn a_page_is_a_complete_answer_without_the_request_in_it() {
        for page in [
            Page::Arrived,
            Page::Refused,
            Page::NotOurs,
            Page::NotFound,
            Page::WrongMethod,
            Page::BadRequest,
        ] {
            let response = page.response();
            let (head, body) = response.split_once("\r\n\r\n").unwrap();
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
            assert!(head.lines().all(|line| !line.starts_with(' ')), "{head}");
        }
    }
}
