//! The replies of the simulated SMTP service, word for word as the real ones were seen.
//!
//! Owns [`Texts`]. `\n` separates the lines of a reply. Host names and ids have the shape of the
//! real ones, and name nobody.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::base::Timestamp;
use crate::sim::options::Flavour;

/// The front end that a client talks to.
const FRONT: &str = "FR0P281CA0042.DEUP281.PROD.OUTLOOK.COM";

/// The back end that takes the message.
const BACK: &str = "BE1P281MB1234.DEUP281.PROD.OUTLOOK.COM";

/// Makes replies for one flavour.
#[derive(Debug)]
pub(super) struct Texts {
    flavour: Flavour,
    serial: AtomicU64,
}

impl Texts {
    pub(super) fn new(flavour: Flavour) -> Self {
        Self { flavour, serial: AtomicU64::new(0x08DE_2A11_5000_0000) }
    }

    pub(super) fn greeting(&self, now: Timestamp) -> String {
        match self.flavour {
            Flavour::ExchangeOnline => format!(
                "220 FR0P281CA0042.outlook.office365.com Microsoft ESMTP MAIL Service ready at {} \
                 [{:016X}]",
                now.to_rfc5322(),
                self.next()
            ),
            Flavour::Gmail => format!("220 smtp.gmail.com ESMTP {:x} - gsmtp", self.next()),
        }
    }

    /// The extensions of EHLO, with their parameters.
    pub(super) fn extensions(&self, is_tls: bool, message_octets: u64) -> Vec<String> {
        let size = format!("SIZE {message_octets}");
        let words: &[&str] = match (self.flavour, is_tls) {
            (Flavour::ExchangeOnline, false) => &[
                &size,
                "PIPELINING",
                "DSN",
                "ENHANCEDSTATUSCODES",
                "STARTTLS",
                "8BITMIME",
                "BINARYMIME",
                "CHUNKING",
                "SMTPUTF8",
            ],
            (Flavour::ExchangeOnline, true) => &[
                &size,
                "PIPELINING",
                "DSN",
                "ENHANCEDSTATUSCODES",
                "AUTH LOGIN XOAUTH2",
                "8BITMIME",
                "BINARYMIME",
                "CHUNKING",
                "SMTPUTF8",
            ],
            (Flavour::Gmail, false) => &[
                &size,
                "8BITMIME",
                "STARTTLS",
                "ENHANCEDSTATUSCODES",
                "PIPELINING",
                "CHUNKING",
                "SMTPUTF8",
            ],
            (Flavour::Gmail, true) => &[
                &size,
                "8BITMIME",
                "AUTH LOGIN PLAIN XOAUTH2 PLAIN-CLIENTTOKEN OAUTHBEARER XOAUTH",
                "ENHANCEDSTATUSCODES",
                "PIPELINING",
                "CHUNKING",
                "SMTPUTF8",
            ],
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// The reply to EHLO.
    pub(super) fn ehlo(&self, extensions: &[String]) -> String {
        let first = match self.flavour {
            Flavour::ExchangeOnline => {
                "FR0P281CA0042.outlook.office365.com Hello [127.0.0.1]".to_owned()
            }
            Flavour::Gmail => "smtp.gmail.com at your service, [127.0.0.1]".to_owned(),
        };
        let mut lines: Vec<_> = std::iter::once(&first).chain(extensions).collect();
        let last = lines.pop().map_or(String::new(), |last| format!("250 {last}"));
        let mut text: String = lines.iter().map(|line| format!("250-{line}\n")).collect();
        text.push_str(&last);
        text
    }

    pub(super) fn helo(&self) -> String {
        match self.flavour {
            Flavour::ExchangeOnline => {
                "250 FR0P281CA0042.outlook.office365.com Hello [127.0.0.1]".to_owned()
            }
            Flavour::Gmail => "250 smtp.gmail.com at your service".to_owned(),
        }
    }

    pub(super) fn start_tls(&self) -> String {
        match self.flavour {
            Flavour::ExchangeOnline => "220 2.0.0 SMTP server ready".to_owned(),
            Flavour::Gmail => "220 2.0.0 Ready to start TLS".to_owned(),
        }
    }

    pub(super) fn authenticated(&self) -> String {
        match self.flavour {
            Flavour::ExchangeOnline => "235 2.7.0 Authentication successful".to_owned(),
            Flavour::Gmail => "235 2.7.0 Accepted".to_owned(),
        }
    }

    /// A token was refused. Gmail says this after its challenge was answered.
    pub(super) fn token_refused(&self, now: Timestamp) -> String {
        match self.flavour {
            Flavour::ExchangeOnline => {
                format!("535 5.7.3 Authentication unsuccessful {}", self.trail(now))
            }
            Flavour::Gmail => self.gmail_refusal(),
        }
    }

    /// Gmail's challenge to a bad token: JSON in base64.
    pub(super) fn challenge(&self) -> String {
        let json = r#"{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}"#;
        format!("334 {}", BASE64_STANDARD.encode(json))
    }

    /// Whatever the password.
    pub(super) fn password_refused(&self, now: Timestamp) -> String {
        match self.flavour {
            Flavour::ExchangeOnline => format!(
                "535 5.7.139 Authentication unsuccessful, basic authentication is disabled. {}",
                self.trail(now)
            ),
            Flavour::Gmail => self.gmail_refusal(),
        }
    }

    pub(super) fn unknown_mechanism(&self) -> String {
        match self.flavour {
            Flavour::ExchangeOnline => "504 5.7.4 Unrecognized authentication type".to_owned(),
            Flavour::Gmail => "504 5.5.4 Unrecognized authentication type".to_owned(),
        }
    }

    pub(super) fn auth_line_too_long(&self) -> String {
        match self.flavour {
            Flavour::ExchangeOnline => "500 5.5.6 Authentication exchange line is too long",
            Flavour::Gmail => {
                "555-5.5.2 Syntax error, command line too long. For more information, go to\n\
                 555 5.5.2  https://support.google.com/a/answer/3221692 - gsmtp"
            }
        }
        .to_owned()
    }

    pub(super) fn not_authenticated(&self, now: Timestamp) -> String {
        match self.flavour {
            Flavour::ExchangeOnline => {
                format!("530 5.7.57 Client not authenticated to send mail. {}", self.trail(now))
            }
            Flavour::Gmail => "530-5.7.0 Authentication Required. For more information, go to\n\
                 530 5.7.0  https://support.google.com/accounts/troubleshooter/2402620 - gsmtp"
                .to_owned(),
        }
    }

    pub(super) fn send_as_denied(&self, user: &str, sender: &str) -> String {
        format!(
            "554 5.2.252 SendAsDenied; {user} not allowed to send as {sender}; \
             STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied; \
             Failed to process message due to a permanent exception with message \
             [BeginDiagnosticData]Cannot submit message.[EndDiagnosticData] [Hostname={BACK}]"
        )
    }

    pub(super) fn too_many_sessions(&self) -> String {
        format!(
            "432 4.3.2 Concurrent connections limit exceeded. Visit \
             https://aka.ms/concurrent_sending for more information. [Hostname={BACK}]"
        )
    }

    pub(super) fn too_fast(&self) -> String {
        "421 4.4.2 Message submission rate for this client has exceeded the configured limit"
            .to_owned()
    }

    pub(super) fn quota_used(&self) -> String {
        format!(
            "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; \
             Failed to process message due to a permanent exception with message \
             The message can't be submitted because the sender's submission quota was exceeded. \
             [Hostname={BACK}]"
        )
    }

    pub(super) fn bare_lf(&self) -> String {
        format!("550 5.6.11 Invalid characters; bare line feeds are not allowed [Hostname={BACK}]")
    }

    pub(super) fn too_large(&self) -> String {
        match self.flavour {
            Flavour::ExchangeOnline => {
                "552 5.3.4 Message size exceeds fixed maximum message size".to_owned()
            }
            Flavour::Gmail => "552 5.2.3 Your message exceeded Google's message size limits. \
                               - gsmtp"
                .to_owned(),
        }
    }

    /// A new Message-ID, as the service puts it in place of the message's own.
    pub(super) fn message_id(&self) -> String {
        let serial = self.next();
        match self.flavour {
            Flavour::ExchangeOnline => format!("<BE1P281MB1234{serial:016X}@{BACK}>"),
            Flavour::Gmail => format!("<{serial:016x}@mail.gmail.com>"),
        }
    }

    pub(super) fn taken(&self, message_id: &str, now: Timestamp) -> String {
        match self.flavour {
            Flavour::ExchangeOnline => format!("250 2.0.0 OK {message_id} [Hostname={BACK}]"),
            Flavour::Gmail => {
                format!("250 2.0.0 OK  {} {:x} - gsmtp", now.as_millis() / 1_000, self.next())
            }
        }
    }

    fn gmail_refusal(&self) -> String {
        format!(
            "535-5.7.8 Username and Password not accepted. For more information, go to\n\
             535 5.7.8  https://support.google.com/mail/?p=BadCredentials {:x} - gsmtp",
            self.next()
        )
    }

    /// What ends Exchange's errors, and what its support asks for: server, time, id.
    fn trail(&self, now: Timestamp) -> String {
        format!("[{FRONT} {now} {:016X}]", self.next())
    }

    fn next(&self) -> u64 {
        self.serial.fetch_add(1, Ordering::Relaxed)
    }
}
