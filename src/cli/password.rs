//! Asking for a password or a token.
//!
//! Owns the two ways in: a prompt without echo on a terminal, or one line of standard input or of a
//! file. Never an argument: other users can read those.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::Path;

use zeroize::Zeroizing;

use super::exit::{Exit, Failure};
use crate::base::Secret;

/// More than this is not a password but a wrong file.
const PASSWORD_BYTES: u64 = 4_096;

/// More than this is not a token but a wrong file.
const TOKEN_BYTES: u64 = 65_536;

/// A password that exists already.
pub(crate) fn ask(prompt: &str, file: Option<&Path>) -> Result<Secret, Failure> {
    ask_line(prompt, file, "password", PASSWORD_BYTES)
}

/// A token that exists already.
pub(crate) fn ask_token(prompt: &str, file: Option<&Path>) -> Result<Secret, Failure> {
    ask_line(prompt, file, "token", TOKEN_BYTES)
}

fn ask_line(prompt: &str, file: Option<&Path>, what: &str, most: u64) -> Result<Secret, Failure> {
    match file {
        Some(path) => {
            let opened = std::fs::File::open(path);
            let file = opened.map_err(|error| {
                Failure::new(Exit::NoInput, format!("cannot read {}: {error}", path.display()))
            })?;
            read_line(file, what, most)
        }
        None if io::stdin().is_terminal() => Ok(Secret::new(rpassword::prompt_password(prompt)?)),
        None => read_line(io::stdin(), what, most),
    }
}

/// A new password: on a terminal it is asked for twice.
pub(crate) fn ask_new(prompt: &str) -> Result<Secret, Failure> {
    let password = ask(prompt, None)?;
    if io::stdin().is_terminal() && ask("Again: ", None)? != password {
        return Err(Failure::new(Exit::Data, "the two passwords are not the same"));
    }
    match password.is_empty() {
        true => Err(Failure::new(Exit::Data, "an empty password protects nothing")),
        false => Ok(password),
    }
}

fn read_line(source: impl io::Read, what: &str, most: u64) -> Result<Secret, Failure> {
    let mut text = Zeroizing::new(String::new());
    io::BufReader::new(source.take(most + 1)).read_line(&mut text)?;
    if text.len() as u64 > most {
        let what = format!("a line of more than {most} bytes is not a {what}");
        return Err(Failure::new(Exit::Data, what));
    }
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}
