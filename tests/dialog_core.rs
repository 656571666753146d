//! Runs every dialog file against the server core, without a socket: whole and byte by byte.
//!
//! Settings of a file: the fields of `ServerSettings`; `answer_mail`, `answer_rcpt`, `answer_data`,
//! `answer_end` and `answer_auth` (what the application answers); `account_max_octets` (the limit
//! that comes with a login); `feed: whole` (the quirk depends on what arrives together).
//!
//! The application takes everything, but a login only with the password `secret`, and no recipient
//! whose local part is `refused`.

#[path = "support/dialog.rs"]
mod dialog;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use dialog::{Act, Dialog, Turn};
use mailbearer::base::limits;
use mailbearer::mail::BodyType;
use mailbearer::smtp::server::{
    AuthOffer, BareNewline, ServerEvent, ServerSession, ServerSettings,
};
use mailbearer::smtp::{Reply, Step};

#[test]
fn every_dialog_is_held_whole_and_byte_by_byte() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogs");
    let dialogs = Dialog::read_all(&folder);
    assert!(dialogs.len() >= 50, "only {} dialogs in {folder:?}", dialogs.len());
    let mut failures = String::new();
    let mut runs = 0;
    for dialog in &dialogs {
        let is_whole_only = dialog.settings.iter().any(|(key, _)| key == "feed");
        let feeds: &[Feed] =
            if is_whole_only { &[Feed::Whole] } else { &[Feed::Whole, Feed::ByteByByte] };
        for &feed in feeds {
            runs += 1;
            if let Err(why) = run(dialog, feed) {
                let _ = write!(failures, "\n{} ({feed:?}):\n{why}", dialog.name());
            }
        }
    }
    println!("{} dialogs, {runs} runs against the core", dialogs.len());
    assert!(failures.is_empty(), "{failures}");
}

#[derive(Clone, Copy, Debug)]
enum Feed {
    Whole,
    ByteByByte,
}

fn run(dialog: &Dialog, feed: Feed) -> Result<(), String> {
    let mut player = Player::new(dialog);
    for turn in &dialog.turns {
        player.act(&turn.act, feed)?;
        player.compare(turn, dialog.checks_events)?;
    }
    match player.is_closed || player.wants_tls {
        true => Ok(()),
        // What is left open has to end in order as well.
        false => player.act(&Act::Close, feed),
    }
}

/// A driver without a network, and the application behind it.
struct Player {
    session: ServerSession,
    now: Instant,
    answers: Vec<(String, Reply)>,
    account_max_octets: Option<u64>,
    body: Vec<u8>,
    output: Vec<u8>,
    events: Vec<String>,
    is_closed: bool,
    wants_tls: bool,
}

impl Player {
    fn new(dialog: &Dialog) -> Self {
        let mut settings = ServerSettings {
            hostname: "relay.example".to_owned(),
            max_message_octets: limits::MESSAGE_OCTETS,
            starttls: true,
            tls_active: false,
            require_tls: false,
            auth: AuthOffer::Plaintext,
            require_auth: false,
            bare_newline: BareNewline::Normalize,
        };
        let mut answers = Vec::new();
        let mut account_max_octets = None;
        for (key, value) in &dialog.settings {
            match (key.as_str(), value.as_str()) {
                ("hostname", name) => settings.hostname = name.to_owned(),
                ("max_message_octets", octets) => {
                    settings.max_message_octets = octets.parse().expect("a number");
                }
                ("account_max_octets", octets) => {
                    account_max_octets = Some(octets.parse().expect("a number"));
                }
                ("starttls", value) => settings.starttls = is_yes(value),
                ("tls_active", value) => settings.tls_active = is_yes(value),
                ("require_tls", value) => settings.require_tls = is_yes(value),
                ("require_auth", value) => settings.require_auth = is_yes(value),
                ("auth", "never") => settings.auth = AuthOffer::Never,
                ("auth", "only_tls") => settings.auth = AuthOffer::OnlyTls,
                ("auth", "plaintext") => settings.auth = AuthOffer::Plaintext,
                ("bare_newline", "normalize") => settings.bare_newline = BareNewline::Normalize,
                ("bare_newline", "reject") => settings.bare_newline = BareNewline::Reject,
                ("feed", "whole") | ("events", "all") => {}
                (key, reply) if key.starts_with("answer_") => {
                    answers.push((key["answer_".len()..].to_owned(), reply_from(reply)));
                }
                (key, value) => panic!("{}: unknown setting {key}: {value}", dialog.name()),
            }
        }
        let now = Instant::now();
        Self {
            session: ServerSession::new(settings, now),
            now,
            answers,
            account_max_octets,
            body: Vec::new(),
            output: Vec::new(),
            events: Vec::new(),
            is_closed: false,
            wants_tls: false,
        }
    }

    fn act(&mut self, act: &Act, feed: Feed) -> Result<(), String> {
        match act {
            Act::Connect => {}
            Act::Send(bytes) => {
                let size = match feed {
                    Feed::Whole => bytes.len(),
                    Feed::ByteByByte => 1,
                };
                for piece in bytes.chunks(size) {
                    if !self.is_closed && !self.wants_tls {
                        self.session.receive(piece, self.now);
                        self.settle();
                    }
                }
            }
            Act::StartTls if self.wants_tls => {
                self.wants_tls = false;
                self.session.tls_started(self.now);
            }
            Act::StartTls => return Err("the server does not want TLS here\n".to_owned()),
            Act::Wait(duration) => {
                self.now += *duration;
                if self.session.deadline().is_some_and(|deadline| deadline <= self.now) {
                    self.session.tick(self.now);
                }
            }
            Act::Close => self.session.receive_end(self.now),
        }
        self.settle();
        Ok(())
    }

    fn settle(&mut self) {
        while !self.is_closed && !self.wants_tls {
            match self.session.next(self.now) {
                Step::Event(event) => self.take(event),
                Step::Write(bytes) => self.output.extend_from_slice(&bytes),
                Step::Read => return,
                Step::StartTls => self.wants_tls = true,
                Step::Close => self.is_closed = true,
            }
        }
    }

    fn take(&mut self, event: ServerEvent) {
        match event {
            ServerEvent::Hello { name, is_extended } => {
                let verb = if is_extended { "ehlo" } else { "helo" };
                self.events.push(format!("{verb} {name}"));
            }
            ServerEvent::Authenticate { name, password } => {
                self.events.push(format!("auth {name} {}", password.expose()));
                let usual = match password.expose() {
                    "secret" => "235 2.7.0 Welcome",
                    _ => "535 5.7.8 Wrong user name or password",
                };
                if let Some(octets) = self.account_max_octets {
                    self.session.set_max_message_octets(octets);
                }
                self.answer("auth", usual);
            }
            ServerEvent::Mail { reverse_path, parameters } => {
                let mut text = format!("mail {reverse_path}");
                if let Some(size) = parameters.size {
                    let _ = write!(text, " size={size}");
                }
                if parameters.body == BodyType::EightBitMime {
                    text.push_str(" 8bitmime");
                }
                if parameters.smtputf8 {
                    text.push_str(" smtputf8");
                }
                self.events.push(text);
                self.answer("mail", "250 2.1.0 Sender OK");
            }
            ServerEvent::Recipient { forward_path } => {
                self.events.push(format!("rcpt {forward_path}"));
                match forward_path.as_str().starts_with("refused@") {
                    true => self.answer("refused", "550 5.1.1 No such recipient"),
                    false => self.answer("rcpt", "250 2.1.5 Recipient OK"),
                }
            }
            ServerEvent::Data => {
                self.events.push("data".to_owned());
                self.answer("data", "354 Go on, end with a dot");
            }
            ServerEvent::Body(chunk) => self.body.extend_from_slice(&chunk),
            ServerEvent::EndOfData => {
                self.take_body();
                self.events.push("end".to_owned());
                self.answer("end", "250 2.0.0 Taken");
            }
            ServerEvent::Reset => {
                self.take_body();
                self.events.push("reset".to_owned());
            }
        }
    }

    /// Bodies are compared as a whole: how they are cut depends on how they came.
    fn take_body(&mut self) {
        if !self.body.is_empty() {
            let body = std::mem::take(&mut self.body);
            self.events.push(match body.len() {
                0..=500 => format!("body {}", body.escape_ascii()),
                octets => format!("body of {octets} octets"),
            });
        }
    }

    fn answer(&mut self, to: &str, usual: &str) {
        let answer = self.answers.iter().find(|(key, _)| key == to);
        let reply = answer.map_or_else(|| reply_from(usual), |(_, reply)| reply.clone());
        self.session.answer(reply, self.now);
    }

    /// Compares what has happened since the last turn with what was expected of this one.
    fn compare(&mut self, turn: &Turn, checks_events: bool) -> Result<(), String> {
        let output =
            String::from_utf8(std::mem::take(&mut self.output)).expect("replies are UTF-8");
        let events = std::mem::take(&mut self.events);
        assert!(output.is_empty() || output.ends_with("\r\n"), "a reply without end: {output:?}");
        let lines: Vec<_> = output.split_terminator("\r\n").collect();
        let is_right = lines.len() == turn.replies.len()
            && turn.replies.iter().zip(&lines).all(|(expected, line)| expected.accepts(line))
            && (!checks_events || events == turn.events)
            && self.is_closed == turn.closes;
        if is_right {
            return Ok(());
        }
        let mut why = format!("  in the turn at line {}, expected:\n", turn.line);
        for reply in &turn.replies {
            let _ = writeln!(why, "    {reply}");
        }
        let show = |why: &mut String, events: &[String], closes: bool| {
            if checks_events {
                for event in events {
                    let _ = writeln!(why, "    E: {event}");
                }
            }
            if closes {
                why.push_str("    X\n");
            }
        };
        show(&mut why, &turn.events, turn.closes);
        why.push_str("  but it was:\n");
        for line in lines {
            let _ = writeln!(why, "    S: {line}");
        }
        show(&mut why, &events, self.is_closed);
        Err(why)
    }
}

fn is_yes(value: &str) -> bool {
    match value {
        "yes" => true,
        "no" => false,
        other => panic!("expected yes or no: {other}"),
    }
}

/// Reads `250 2.1.0 text` or `354 text`.
fn reply_from(text: &str) -> Reply {
    let (code, rest) = text.split_once(' ').expect("a code and a text");
    let code = code.parse().expect("three digits");
    let enhanced = rest.split_once(' ').and_then(|(code, text)| Some((code.parse().ok()?, text)));
    match enhanced {
        Some((enhanced, text)) => Reply::new(code, enhanced, text),
        None => Reply::plain(code, rest),
    }
}
