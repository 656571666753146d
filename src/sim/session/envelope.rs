//! MAIL and RCPT in a session: taken almost blindly, and what clients get wrong in them.

use crate::sim::fault::Point;
use crate::sim::script::Moment;
use crate::sim::session::{Session, Transaction};
use crate::sim::wire::{Ended, Wire};

/// How parameters of MAIL start, and the extension each one belongs to.
const MAIL_PARAMETERS: [(&str, &str); 7] = [
    ("SIZE=", "SIZE"),
    ("BODY=7BIT", "8BITMIME"),
    ("BODY=8BITMIME", "8BITMIME"),
    ("BODY=BINARYMIME", "BINARYMIME"),
    ("SMTPUTF8", "SMTPUTF8"),
    ("RET=", "DSN"),
    ("ENVID=", "DSN"),
];

/// The same of RCPT.
const RCPT_PARAMETERS: [(&str, &str); 2] = [("NOTIFY=", "DSN"), ("ORCPT=", "DSN")];

impl Session {
    pub(super) async fn mail(&mut self, wire: &mut Wire, rest: &str) -> Result<(), Ended> {
        let Some((path, parameters)) = path_behind(rest, "FROM:") else {
            self.offence("MAIL without a path");
            self.tell(wire, "501 5.5.4 Invalid arguments");
            return Ok(());
        };
        let limit = self.shared.options.limits.message_octets;
        let size = parameters.iter().find_map(|word| value_of(word, "SIZE")?.parse::<u64>().ok());
        let text = if self.offered.is_none() {
            self.offence("MAIL before EHLO");
            "503 5.5.2 Send hello first".to_owned()
        } else if self.user.is_none() {
            self.shared.texts.not_authenticated(self.shared.options.clock.now())
        } else if self.transaction.is_some() {
            self.offence("MAIL in a transaction");
            "503 5.5.2 Sender already specified".to_owned()
        } else if size.is_some_and(|size| size > limit) {
            self.shared.texts.too_large()
        } else {
            "250 2.1.0 Sender OK".to_owned()
        };
        for parameter in &parameters {
            self.look_at_parameter("MAIL", parameter, &MAIL_PARAMETERS);
        }
        if !path.is_ascii() && !has_keyword(&parameters, "SMTPUTF8") {
            self.offence("MAIL names an address beyond ASCII without SMTPUTF8");
        }
        if self.reply(wire, Point::Mail, &text).await? {
            self.shared.book.count(|counts| counts.transactions += 1);
            self.transaction =
                Some(Transaction { reverse_path: path, parameters, ..Transaction::default() });
        }
        Ok(())
    }

    pub(super) async fn rcpt(&mut self, wire: &mut Wire, rest: &str) -> Result<(), Ended> {
        let Some((path, parameters)) = path_behind(rest, "TO:").filter(|(p, _)| !p.is_empty())
        else {
            self.offence("RCPT without a path");
            self.tell(wire, "501 5.5.4 Invalid arguments");
            return Ok(());
        };
        for parameter in &parameters {
            self.look_at_parameter("RCPT", parameter, &RCPT_PARAMETERS);
        }
        let limit = self.shared.options.limits.recipients;
        let text = match &self.transaction {
            // After a refused MAIL this is what a pipelining client does, and no offence.
            None => "503 5.5.2 Need mail command",
            Some(transaction) if transaction.recipients.len() >= limit => {
                "452 4.5.3 Too many recipients"
            }
            Some(transaction) => {
                if !path.is_ascii() && !has_keyword(&transaction.parameters, "SMTPUTF8") {
                    self.offence("RCPT names an address beyond ASCII without SMTPUTF8");
                }
                "250 2.1.5 Recipient OK"
            }
        };
        let named = [path];
        let moment = Moment { recipients: &named, ..self.moment(wire) };
        let is_taken = self.reply_about(wire, Point::Rcpt, text, moment).await?;
        if let Some(transaction) = &mut self.transaction
            && is_taken
        {
            transaction.recipients.extend(named);
        }
        Ok(())
    }

    /// Notes a parameter that no extension has announced.
    fn look_at_parameter(&self, verb: &str, parameter: &str, known: &[(&str, &str)]) {
        let written = parameter.to_ascii_uppercase();
        let extension = known.iter().find(|(start, _)| match start.ends_with('=') {
            true => written.starts_with(start),
            false => written == *start,
        });
        match extension {
            Some((_, extension)) if self.is_offered(extension) => {}
            Some((_, extension)) => {
                self.offence(&format!(
                    "{verb} with {parameter:.40}, but {extension} is not offered"
                ));
            }
            None => self.offence(&format!("{verb} with the unknown parameter {parameter:.40}")),
        }
    }
}

/// `FROM:<path> WORD WORD`: the path without its brackets, and the words.
fn path_behind(rest: &str, keyword: &str) -> Option<(String, Vec<String>)> {
    let head = rest.get(..keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let rest = rest[keyword.len()..].strip_prefix('<')?;
    let mut is_quoted = false;
    let mut is_escaped = false;
    let end = rest.char_indices().find_map(|(at, c)| {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '>' if !is_quoted => return Some(at),
            _ => {}
        }
        None
    })?;
    let words = &rest[end + 1..];
    if !words.is_empty() && !words.starts_with(' ') {
        return None;
    }
    Some((rest[..end].to_owned(), words.split_ascii_whitespace().map(str::to_owned).collect()))
}

fn value_of<'a>(word: &'a str, keyword: &str) -> Option<&'a str> {
    let (name, value) = word.split_once('=')?;
    name.eq_ignore_ascii_case(keyword).then_some(value)
}

fn has_keyword(words: &[String], keyword: &str) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case(keyword))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_their_parameters() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        for (rest, expected) in [
            ("FROM:<a@b>", Some(("a@b", words(&[])))),
            ("from:<> SIZE=3 BODY=8BITMIME", Some(("", words(&["SIZE=3", "BODY=8BITMIME"])))),
            ("FROM:<\"a>\\\"b\"@c>", Some(("\"a>\\\"b\"@c", words(&[])))),
            ("FROM: <a@b>", None),
            ("FROM:a@b", None),
            ("FROM:<a@b", None),
            ("FROM:<a@b>x", None),
            ("TO:<a@b>", None),
            ("", None),
        ] {
            let expected =
                expected.map(|(path, words): (&str, Vec<String>)| (path.to_owned(), words));
            assert_eq!(path_behind(rest, "FROM:"), expected, "{rest}");
        }
    }
}
