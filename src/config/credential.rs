//! `[[credential]]`.

use crate::base::limits;
use crate::config::account::{AccountNames, DELIVERIES};
use crate::config::model::{AccountName, Credential};
use crate::config::password::{PasswordHash, PasswordHashError};
use crate::config::section::{Field, Section, Wrong};
use crate::config::source::quoted;
use crate::mail::AddressPattern;

pub(super) fn credential(
    section: &Section<'_, '_>,
    accounts: &AccountNames,
    taken: &mut Vec<String>,
) -> Option<Credential> {
    let name = section.text("name", name);
    let name = section.required("name", name, "write the user name: name = \"printer\"");
    if let Some(name) = &name {
        refuse_taken(section, name, taken);
    }
    let password_hash = section.text("password_hash", password_hash);
    let password_hash = section.required(
        "password_hash",
        password_hash,
        "run `mailbearer credential hash` and write what it prints: password_hash = '$argon2id$…'",
    );
    let account = accounts.required(section);
    let permissions = permissions(section, account.as_ref());
    let delivery = section.choice("delivery", DELIVERIES);
    let (may_send_as, may_send_to) = permissions?;
    Some(Credential {
        name: name?,
        password_hash: password_hash?,
        may_send_as,
        may_send_to,
        delivery: delivery.optional()?,
        account: account?,
    })
}

/// `may_send_as`, which is the account's mailbox unless it is written, and `may_send_to`, which is
/// everybody.
pub(super) fn permissions(
    section: &Section<'_, '_>,
    account: Option<&AccountName>,
) -> Option<(Vec<AddressPattern>, Vec<AddressPattern>)> {
    let may_send_as = patterns(section, "may_send_as", "[\"*@example.com\"]");
    let may_send_to = patterns(section, "may_send_to", "[\"*\"]");
    let own = AddressPattern::parse(account?.as_str());
    if own.is_err() && !section.has("may_send_as") {
        let what = "is missing, and this mailbox cannot be written as a pattern";
        section.mistake("may_send_as", Wrong::new(what, "write may_send_as = [\"*@example.com\"]"));
    }
    Some((
        may_send_as.or_else(|| own.into_iter().collect())?,
        may_send_to.or_else(|| vec![AddressPattern::any()])?,
    ))
}

fn name(text: &str) -> Result<String, Wrong> {
    let remedy = "write a name such as \"printer-3rd-floor\"";
    match text {
        "" => Err(Wrong::new("is empty", remedy)),
        text if text.len() > limits::USER_NAME_OCTETS => {
            Err(Wrong::new(format!("has more than {} octets", limits::USER_NAME_OCTETS), remedy))
        }
        text if text.chars().any(char::is_control) => {
            Err(Wrong::new("holds a control character", remedy))
        }
        text if text.trim() != text => Err(Wrong::new("begins or ends with a space", remedy)),
        text => Ok(text.to_owned()),
    }
}

/// Names that differ only in case would be told apart by no person.
fn refuse_taken(section: &Section<'_, '_>, name: &str, taken: &mut Vec<String>) {
    let key = name.to_lowercase();
    match taken.contains(&key) {
        true => section.mistake(
            "name",
            Wrong::new(
                format!("another credential is called {} already", quoted(name)),
                "give each its own name",
            ),
        ),
        false => taken.push(key),
    }
}

fn password_hash(text: &str) -> Result<PasswordHash, Wrong> {
    PasswordHash::parse(text).map_err(|why| {
        let remedy = match why {
            PasswordHashError::NotAHash => {
                "a password never stands in this file: run `mailbearer credential hash` and write \
                 what it prints\n(if this was the password, it is known to whoever could read the \
                 file: choose another)"
            }
            _ => "run `mailbearer credential hash` and write what it prints",
        };
        Wrong::new(why.to_string(), remedy)
    })
}

fn patterns(section: &Section<'_, '_>, key: &str, example: &str) -> Field<Vec<AddressPattern>> {
    let patterns = section.list(key, example, |text| {
        AddressPattern::parse(text).map_err(|_| {
            Wrong::new(
                format!("{} is not a pattern of addresses", quoted(text)),
                "write \"*\", \"*@example.com\" or \"name@example.com\"",
            )
        })
    });
    match patterns {
        Field::Given(patterns) if patterns.is_empty() => {
            let what = "is empty: this credential could send nothing";
            section.mistake(key, Wrong::new(what, format!("write {key} = {example}")));
            Field::Wrong
        }
        patterns => patterns,
    }
}
