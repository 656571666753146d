//! One session of the simulated SMTP service.
//!
//! Owns the dialog: commands in, replies out, and what is known of the session and its transaction.
//! Written straight down and apart from the session cores of floor 1, as a second opinion on them.
//! The verdicts that matter come after the final dot, as Exchange Online gives them.

mod auth;
mod content;
mod envelope;
mod stage;

use std::sync::Arc;

use crate::base::limits;
use crate::sim::Shared;
use crate::sim::dots::DotReader;
use crate::sim::fault::{Fault, Point};
use crate::sim::wire::{Ended, Line, Wire};

/// A session: what is known of it beside its connection.
pub(super) struct Session {
    shared: Arc<Shared>,
    number: u64,
    /// The keywords that the last reply to EHLO announced; `None` before EHLO or HELO.
    offered: Option<Vec<String>>,
    user: Option<String>,
    transaction: Option<Transaction>,
}

#[derive(Default)]
struct Transaction {
    reverse_path: String,
    parameters: Vec<String>,
    recipients: Vec<String>,
    /// The body so far, when it comes in chunks (BDAT).
    chunks: Option<DotReader>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>, number: u64) -> Self {
        Self { shared, number, offered: None, user: None, transaction: None }
    }

    /// Runs the session to its end. Dropping the future cuts the connection.
    pub(super) async fn run(mut self, mut wire: Wire) {
        let mut ended = match self.greet(&mut wire).await {
            Ok(()) => self.dialog(&mut wire).await,
            Err(ended) => ended,
        };
        while let Ended::Upgrade = ended {
            let bad = match self.before_handshake(&mut wire).await {
                Ok(bad) => bad,
                Err(rough) => {
                    ended = rough;
                    break;
                }
            };
            match wire.start_tls(self.shared.authority.config(bad)).await {
                Some(upgraded) => wire = upgraded,
                None => return self.shared.book.count(|counts| counts.failed_handshakes += 1),
            }
            self.shared.book.count(|counts| counts.handshakes += 1);
            // RFC 3207 §4.2: what was said before is forgotten.
            self.offered = None;
            self.transaction = None;
            ended = self.dialog(&mut wire).await;
        }
        // The mailbox is free before the reply to QUIT is written: whoever opens the next session
        // right after it must not be counted twice.
        self.leave();
        wire.end(ended).await;
    }

    async fn greet(&self, wire: &mut Wire) -> Result<(), Ended> {
        self.interlude(wire, Point::Connect, 0).await?;
        let greeting = self.shared.texts.greeting(self.shared.options.clock.now());
        self.reply(wire, Point::Greeting, &greeting).await?;
        Ok(())
    }

    /// Takes commands until the session ends, or asks for TLS.
    async fn dialog(&mut self, wire: &mut Wire) -> Ended {
        loop {
            if let Err(ended) = self.command(wire).await {
                return ended;
            }
        }
    }

    async fn command(&mut self, wire: &mut Wire) -> Result<(), Ended> {
        let line = match wire.line(limits::AUTH_LINE_OCTETS).await? {
            Line::Whole(line) => line,
            Line::BareLf(line) => {
                self.offence("a command line ended with a bare LF");
                line
            }
            Line::TooLong => {
                let text = self.shared.texts.auth_line_too_long();
                self.tell(wire, &text);
                return Ok(());
            }
        };
        let Ok(line) = String::from_utf8(line) else {
            self.offence("a command line was not UTF-8");
            self.tell(wire, "500 5.5.2 Invalid characters");
            return Ok(());
        };
        let (verb, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let verb = verb.to_ascii_uppercase();
        if verb != "AUTH" && line.len() + 2 > limits::COMMAND_LINE_OCTETS {
            self.offence("a command line was longer than 4,096 octets");
            self.tell(wire, "500 5.5.2 Line too long");
            return Ok(());
        }
        if line.contains(['\r', '\0']) {
            self.offence("a command line held a bare CR or a NUL");
        }
        match verb == "AUTH" {
            true => self.heard(&auth::without_secrets(rest)),
            false => self.heard(&line),
        }
        self.look_behind(wire, &verb);
        match verb.as_str() {
            "EHLO" | "HELO" => self.hello(wire, &verb, rest).await?,
            "STARTTLS" => self.start_tls(wire).await?,
            "AUTH" => self.auth(wire, rest, line.len() + 2).await?,
            "MAIL" => self.mail(wire, rest).await?,
            "RCPT" => self.rcpt(wire, rest).await?,
            "DATA" => self.data(wire).await?,
            "BDAT" => self.chunk(wire, rest).await?,
            "RSET" => {
                self.transaction = None;
                self.reply(wire, Point::Rset, "250 2.0.0 Resetting").await?;
            }
            "NOOP" => {
                self.reply(wire, Point::Noop, "250 2.0.0 OK").await?;
            }
            "VRFY" => self.tell(wire, "252 2.1.5 Cannot VRFY user"),
            "HELP" => self.tell(wire, "214 2.0.0 This server is simulated"),
            "QUIT" => {
                let text = "221 2.0.0 Service closing transmission channel";
                self.reply(wire, Point::Quit, text).await?;
                return Err(Ended::Quit);
            }
            _ => {
                self.offence(&format!("unknown command {verb:.40}"));
                self.tell(wire, "500 5.3.3 Unrecognized command");
            }
        }
        Ok(())
    }

    /// Writes down what the client said.
    fn heard(&self, line: &str) {
        self.shared.book.line(self.number, "C", line);
    }

    /// Notes commands that came before they should have (RFC 2920 §3.1, RFC 3207 §4.2).
    fn look_behind(&self, wire: &mut Wire, verb: &str) {
        if wire.input.is_empty() {
            return;
        }
        let ends_group = ["EHLO", "HELO", "AUTH", "STARTTLS", "DATA", "QUIT"].contains(&verb);
        if ends_group {
            self.offence(&format!("something was sent behind {verb} before its reply"));
        } else if verb != "BDAT" && !self.is_offered("PIPELINING") {
            self.offence(&format!("pipelining behind {verb}, which is not offered"));
        }
        if verb == "STARTTLS" {
            wire.input.clear();
        }
    }

    async fn hello(&mut self, wire: &mut Wire, verb: &str, name: &str) -> Result<(), Ended> {
        if name.trim().is_empty() {
            self.offence("EHLO without a name");
            self.tell(wire, "501 5.5.4 Invalid domain name");
            return Ok(());
        }
        self.transaction = None;
        let texts = &self.shared.texts;
        let text = match verb {
            "HELO" => texts.helo(),
            _ => texts.ehlo(&self.shared.extensions(wire.is_tls())),
        };
        let due = self.shared.script.due(Point::Ehlo, self.moment(wire));
        let said = self.play(wire, due, &text).await?;
        if stage::is_positive(&said) {
            let words = said.lines().skip(1).filter_map(|line| line.get(4..));
            self.offered = Some(words.map(str::to_ascii_uppercase).collect());
        }
        Ok(())
    }

    /// True if the last reply to EHLO announced this keyword.
    fn is_offered(&self, keyword: &str) -> bool {
        let mut lines = self.offered.iter().flatten();
        lines.any(|line| line.split(' ').next() == Some(keyword))
    }

    async fn start_tls(&self, wire: &mut Wire) -> Result<(), Ended> {
        if wire.is_tls() {
            self.offence("STARTTLS inside TLS");
            self.tell(wire, "503 5.5.2 Only one STARTTLS command can be issued per session");
            return Ok(());
        }
        if !self.is_offered("STARTTLS") {
            self.offence("STARTTLS, which is not offered");
        }
        let text = self.shared.texts.start_tls();
        match self.reply(wire, Point::StartTls, &text).await? {
            true => Err(Ended::Upgrade),
            false => Ok(()),
        }
    }

    /// The session is authenticated from now on.
    fn enter(&mut self, user: String) {
        let of_user = self.shared.throttle().join(&user, self.number);
        self.shared.book.count(|counts| {
            counts.auths_accepted += 1;
            let most = counts.most_sessions_of.entry(user.clone()).or_default();
            *most = (*most).max(of_user);
        });
        self.user = Some(user);
    }

    /// The mailbox is free of this session.
    fn leave(&mut self) {
        if let Some(user) = self.user.take() {
            self.shared.throttle().leave(&user, self.number);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The first reply that a fault says, if it says one.
fn first_reply(fault: Option<&Fault>) -> Option<&str> {
    match fault? {
        Fault::Reply(text) | Fault::ReplyAndClose(text) => Some(text),
        Fault::Replies(texts) => texts.first().map(String::as_str),
        _ => None,
    }
}
