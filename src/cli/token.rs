//! `mailbearer token`: a look at an account's token, and one that was obtained elsewhere.
//!
//! No command here prints a token, and none takes one as an argument.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::{Map, Value};

use super::ConfigArgument;
use super::exit::{Exit, Failure};
use super::login::{find, report_sign_in};
use super::password;
use super::table::{Table, print_json};
use crate::base::{Clock, Timestamp};
use crate::oauth::token_claims;
use crate::token::import_grant;

/// Look at an account's token, or bring one that was obtained elsewhere
#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Show what the stored access token says about itself, never the token
    Inspect(Inspect),
    /// Store a refresh token that was obtained elsewhere, after one renewal with it
    Import(Import),
}

/// Show what the stored access token says about itself, never the token
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The account (the mailbox, as in the configuration)
    account: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

/// Store a refresh token that was obtained elsewhere, after one renewal with it
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The account (the mailbox, as in the configuration)
    account: String,
    /// Read the refresh token from this file; without it, from standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgument,
}

impl Token {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Inspect(inspect) => inspect.run().await,
            Self::Import(import) => import.run().await,
        }
    }
}

#[derive(Serialize)]
struct Inspected {
    account: String,
    /// `jwt`, `opaque`, or `none` where there is no token.
    kind: &'static str,
    expires_at: Option<String>,
    has_expired: bool,
    has_refresh_token: bool,
    claims: Option<Map<String, Value>>,
}

impl Inspect {
    async fn run(self) -> Result<(), Failure> {
        let (config, store) = self.config.load_with_store()?;
        let account = find(&config, &self.account)?;
        let grant = store.grant(account.name.as_str()).await?;
        let expires_at = grant.as_ref().and_then(|grant| grant.expires_at);
        let token = grant.as_ref().and_then(|grant| grant.access_token.as_ref());
        let claims = token.and_then(token_claims);
        let inspected = Inspected {
            account: account.name.to_string(),
            kind: match (token, &claims) {
                (None, _) => "none",
                (Some(_), None) => "opaque",
                (Some(_), Some(_)) => "jwt",
            },
            expires_at: expires_at.map(|at| at.to_string()),
            has_expired: expires_at.is_some_and(|at| at <= Clock::system().now()),
            has_refresh_token: grant.as_ref().is_some_and(|grant| grant.refresh_token.is_some()),
            claims,
        };
        if self.json {
            return print_json(&inspected);
        }
        inspected.print();
        Ok(())
    }
}

impl Inspected {
    fn print(&self) {
        let account = &self.account;
        match (&self.claims, self.kind) {
            (_, "none") => {
                println!("There is no access token for {account}; see mailbearer status.");
            }
            (Some(claims), _) => {
                let mut table = Table::new(["CLAIM", "VALUE"]);
                for (name, value) in claims {
                    table.row([name.clone(), shown(name, value)]);
                }
                table.print("The access token is a JWT without a claim that is known here.");
            }
            (None, _) => {
                println!("The access token for {account} is opaque: only the provider can read it.")
            }
        }
        if let Some(at) = &self.expires_at {
            let verb = if self.has_expired { "ended" } else { "ends" };
            println!("The access token {verb} at {at}.");
        }
        if self.kind != "none" {
            let has = if self.has_refresh_token { "There is a" } else { "There is no" };
            println!("{has} refresh token beside it.");
        }
    }
}

/// A value for people: lists with commas, times as times.
fn shown(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => {
            values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        Value::Number(number) if matches!(name, "exp" | "iat") => {
            let millis = number.as_i64().and_then(|seconds| seconds.checked_mul(1_000));
            match millis {
                Some(millis) => format!("{number} ({})", Timestamp::from_millis(millis)),
                None => number.to_string(),
            }
        }
        other => other.to_string(),
    }
}

impl Import {
    async fn run(self) -> Result<(), Failure> {
        let (config, store) = self.config.load_with_store()?;
        let account = find(&config, &self.account)?;
        let token = password::ask_token("Refresh token: ", self.file.as_deref())?;
        if token.is_empty() {
            return Err(Failure::new(Exit::Data, "there is no refresh token in it"));
        }
        let imported = import_grant(account, &store, &Clock::system(), token).await?;
        report_sign_in(account, &store, &imported, "Imported").await
    }
}
