//! AUTH in a session: XOAUTH2 and OAUTHBEARER in two steps or inline, and LOGIN, which never
//! succeeds.

use crate::base::limits;
use crate::sim::fault::Point;
use crate::sim::options::Flavour;
use crate::sim::sasl::{Credentials, Response, read_oauthbearer, read_xoauth2};
use crate::sim::script::Moment;
use crate::sim::session::Session;
use crate::sim::wire::{Ended, Line, Wire};

/// Octets of an inline AUTH line from which on Gmail refuses it.
const GMAIL_AUTH_LINE_OCTETS: usize = 1_000;

/// The two ways to present a token.
#[derive(Clone, Copy, Debug)]
enum Bearer {
    Xoauth2,
    OauthBearer,
}

impl Session {
    pub(super) async fn auth(
        &mut self,
        wire: &mut Wire,
        rest: &str,
        octets: usize,
    ) -> Result<(), Ended> {
        self.shared.book.count(|counts| counts.auths += 1);
        let (mechanism, initial) = match rest.trim_end().split_once(' ') {
            Some((mechanism, initial)) => (mechanism, Some(initial)),
            None => (rest.trim_end(), None),
        };
        if let Some(refusal) = self.out_of_order(wire, octets) {
            self.tell(wire, &refusal);
            return Ok(());
        }
        let mechanism = mechanism.to_ascii_uppercase();
        let mut offered = self.offered.iter().flatten().filter(|line| line.starts_with("AUTH "));
        if !offered.any(|line| line.split(' ').skip(1).any(|word| word == mechanism)) {
            self.offence(&format!("AUTH {mechanism:.40}, which is not offered"));
        }
        match mechanism.as_str() {
            "XOAUTH2" => self.auth_token(wire, initial, Bearer::Xoauth2).await,
            "OAUTHBEARER" if self.shared.options.flavour == Flavour::Gmail => {
                self.auth_token(wire, initial, Bearer::OauthBearer).await
            }
            "LOGIN" => self.auth_login(wire, initial).await,
            _ => {
                let text = self.shared.texts.unknown_mechanism();
                self.reply(wire, Point::Auth, &text).await?;
                Ok(())
            }
        }
    }

    fn out_of_order(&self, wire: &Wire, octets: usize) -> Option<String> {
        let texts = &self.shared.texts;
        let is_gmail = self.shared.options.flavour == Flavour::Gmail;
        if self.offered.is_none() {
            self.offence("AUTH before EHLO");
            return Some("503 5.5.2 Send hello first".to_owned());
        }
        if self.user.is_some() || self.transaction.is_some() {
            self.offence("AUTH a second time, or in a transaction");
            return Some("503 5.5.2 Bad sequence of commands".to_owned());
        }
        if !wire.is_tls() {
            self.offence("AUTH outside TLS");
            return Some(texts.unknown_mechanism());
        }
        (is_gmail && octets > GMAIL_AUTH_LINE_OCTETS).then(|| texts.auth_line_too_long())
    }

    async fn auth_token(
        &mut self,
        wire: &mut Wire,
        initial: Option<&str>,
        bearer: Bearer,
    ) -> Result<(), Ended> {
        let (response, point) = match initial {
            Some(initial) => (initial.to_owned(), Point::Auth),
            None => {
                if !self.reply(wire, Point::Auth, "334 ").await? {
                    return Ok(());
                }
                match self.response(wire).await? {
                    Some(response) => (response, Point::AuthResponse),
                    None => return Ok(()),
                }
            }
        };
        let read = match bearer {
            Bearer::Xoauth2 => read_xoauth2(&response),
            Bearer::OauthBearer => read_oauthbearer(&response),
        };
        match read {
            Response::Token(credentials) => {
                self.judge_token(wire, point, &credentials, bearer).await
            }
            Response::Cancelled => {
                self.reply(wire, point, "501 5.7.0 Authentication cancelled").await?;
                Ok(())
            }
            Response::NotBase64 => {
                self.offence("a response with a token was not base64");
                self.reply(wire, point, "501 5.5.2 Cannot decode response").await?;
                Ok(())
            }
            Response::Malformed => {
                self.offence("a response with a token was malformed");
                let text = self.shared.texts.token_refused(self.shared.options.clock.now());
                self.reply(wire, point, &text).await?;
                Ok(())
            }
        }
    }

    async fn judge_token(
        &mut self,
        wire: &mut Wire,
        point: Point,
        Credentials { user, token }: &Credentials,
        bearer: Bearer,
    ) -> Result<(), Ended> {
        let (options, texts) = (&self.shared.options, &self.shared.texts);
        let now = options.clock.now();
        let is_open = self.shared.grants().opens(options, token, user, now);
        let user = options.user(user).map_or(user.clone(), |known| known.mailbox.clone());
        let is_gmail = options.flavour == Flavour::Gmail;
        let text = match is_open {
            true => texts.authenticated(),
            false if is_gmail => texts.challenge(),
            false => texts.token_refused(now),
        };
        let moment = Moment { user: Some(&user), ..self.moment(wire) };
        let due = self.shared.script.due(point, moment);
        let said = self.play(wire, due, &text).await?;
        if said.starts_with('2') {
            self.enter(user);
        } else if said.starts_with("334") {
            // RFC 7628 §3.2.3: the client owes ^A, or in Google's dialect an empty line.
            let owed: &[u8] = match bearer {
                Bearer::Xoauth2 => b"",
                Bearer::OauthBearer => b"AQ==",
            };
            match wire.line(limits::AUTH_LINE_OCTETS).await? {
                Line::Whole(line) if line == owed => {}
                _ => self.offence("the challenge of a refused token was not answered as it has to"),
            }
            let text = self.shared.texts.token_refused(now);
            self.reply(wire, Point::AuthResponse, &text).await?;
        }
        Ok(())
    }

    async fn auth_login(&self, wire: &mut Wire, initial: Option<&str>) -> Result<(), Ended> {
        let mut prompts = vec!["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"];
        if initial.is_some() {
            prompts.remove(0);
        }
        for (at, prompt) in prompts.into_iter().enumerate() {
            let point = if at == 0 { Point::Auth } else { Point::AuthResponse };
            if !self.reply(wire, point, prompt).await? {
                return Ok(());
            }
            match self.response(wire).await?.as_deref() {
                None => return Ok(()),
                Some("*") => {
                    self.tell(wire, "501 5.7.0 Authentication cancelled");
                    return Ok(());
                }
                Some(_) => {}
            }
        }
        let text = self.shared.texts.password_refused(self.shared.options.clock.now());
        self.reply(wire, Point::AuthResponse, &text).await?;
        Ok(())
    }

    /// The client's answer to a 334; `None` if it was too long and has been refused.
    async fn response(&self, wire: &mut Wire) -> Result<Option<String>, Ended> {
        let line = wire.line(limits::AUTH_LINE_OCTETS).await?;
        if let Line::Whole(line) | Line::BareLf(line) = &line {
            self.heard(&format!("[{} octets]", line.len()));
        }
        Ok(match line {
            Line::Whole(line) => Some(String::from_utf8_lossy(&line).into_owned()),
            Line::BareLf(line) => {
                self.offence("a SASL response ended with a bare LF");
                Some(String::from_utf8_lossy(&line).into_owned())
            }
            Line::TooLong => {
                let text = self.shared.texts.auth_line_too_long();
                self.tell(wire, &text);
                None
            }
        })
    }
}

/// The command, with the length of its initial response in place of it.
pub(super) fn without_secrets(rest: &str) -> String {
    match rest.trim_end().split_once(' ') {
        Some((mechanism, initial)) => format!("AUTH {mechanism} [{} octets]", initial.len()),
        None => format!("AUTH {rest}"),
    }
}
