//! The words of a script: where something happens, and what.
//!
//! Owns [`Point`], [`Fault`] and what faults are made of.

use std::time::Duration;

/// Where in a dialog something is scripted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// An SMTP connection was accepted; nothing has been said.
    Connect,
    /// The greeting.
    Greeting,
    /// The reply to EHLO or HELO, before or inside TLS.
    Ehlo,
    /// The reply to STARTTLS.
    StartTls,
    /// The TLS handshake, which the client has begun.
    Handshake,
    /// The reply to the AUTH command, be it the 334 or the verdict on an inline response.
    Auth,
    /// The verdict on a response to a 334.
    AuthResponse,
    /// The reply to MAIL.
    Mail,
    /// The reply to RCPT.
    Rcpt,
    /// The reply to DATA, or to a chunk that is not the last.
    Data,
    /// In the body, once as many octets were read as [`Cue::after_octets`](crate::sim::Cue::after_octets) says.
    Body,
    /// The final dot or last chunk was read, and nothing has been decided.
    Final,
    /// The message has been taken, and the reply to the final dot is due.
    Taken,
    /// The reply to RSET.
    Rset,
    /// The reply to NOOP.
    Noop,
    /// The reply to QUIT.
    Quit,
    /// An HTTP connection was accepted. Faults that are replies or answers are ignored here.
    HttpConnect,
    /// A request to the token endpoint.
    Token,
    /// A request to the authorization page.
    Authorize,
    /// A request for a code for another device.
    DeviceCode,
}

/// What happens at a point.
///
/// Texts of SMTP replies are given without line ends; several lines are separated by `\n`:
/// `550-5.7.1 one\n550 5.7.1 two`. A scripted reply decides as well: after a positive one the
/// service goes on as if it had agreed, after any other as if it had refused. After 421 it closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// This reply. Over HTTP: 200 with this text as HTML.
    Reply(String),
    /// This reply, and then the connection is closed.
    ReplyAndClose(String),
    /// Several replies in one piece; the first one decides.
    Replies(Vec<String>),
    /// The first half of this text, without a line end, and then the connection is closed.
    Half(String),
    /// These bytes as they are, in place of a reply, which counts as a refusal. Over HTTP the
    /// connection is closed behind them.
    Garbage(Vec<u8>),
    /// The connection is closed (FIN, without a TLS close_notify).
    Close,
    /// The connection is reset (RST).
    Reset,
    /// Nothing more is read or written until [`Script::release`](crate::sim::Script::release); then as if
    /// nothing had happened.
    Hang,
    /// A wait, and then the next cue or the usual.
    Delay(Duration),
    /// The certificate of the handshake is a bad one: [`Point::Handshake`] and
    /// [`Point::HttpConnect`]. Other points ignore it.
    Certificate(BadCertificate),
    /// This HTTP answer. Over SMTP: its text, as a web server on the wrong port would send it.
    Answer(Answer),
    /// This HTTP answer, or the usual one, with so many bytes at a time and a pause between.
    Slow {
        /// The answer; `None` for the usual one.
        answer: Option<Answer>,
        /// Bytes at a time.
        bytes: usize,
        /// The pause.
        pause: Duration,
    },
    /// The authorization page sends the browser back with this error. Other points ignore it.
    Decline {
        /// `error`, such as `access_denied`.
        error: String,
        /// `error_description`.
        description: String,
    },
}

/// What is wrong with a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCertificate {
    /// It is for another host.
    OtherName,
    /// It is from an authority that nobody knows.
    OtherAuthority,
    /// It is no longer valid.
    Expired,
}

/// An HTTP answer as a test wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Answer {
    /// With a status and a JSON body.
    pub fn json(status: u16, body: &str) -> Self {
        Self::with_type(status, "application/json; charset=utf-8", body)
    }

    /// With a status and an HTML body.
    pub fn html(status: u16, body: &str) -> Self {
        Self::with_type(status, "text/html; charset=utf-8", body)
    }

    /// A redirect to another place.
    pub fn redirect(status: u16, to: &str) -> Self {
        Self { status, headers: vec![("location".to_owned(), to.to_owned())], body: String::new() }
    }

    /// An error as Entra ID words it: `invalid_grant`, 700082, the text behind `AADSTS700082: `.
    pub fn refusal(status: u16, error: &str, number: u32, text: &str) -> Self {
        let body = serde_json::json!({
            "error": error,
            "error_description": format!("AADSTS{number}: {text}"),
            "error_codes": [number],
        });
        Self::json(status, &body.to_string())
    }

    /// With one more header field.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn with_type(status: u16, media_type: &str, body: &str) -> Self {
        Self {
            status,
            headers: vec![("content-type".to_owned(), media_type.to_owned())],
            body: body.to_owned(),
        }
    }

    /// As a whole HTTP/1.1 response.
    pub(super) fn to_wire(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        for (name, value) in &self.headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("content-length: {}\r\n\r\n{}", self.body.len(), self.body));
        text.into_bytes()
    }
}
