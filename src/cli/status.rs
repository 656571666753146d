//! `mailbearer status`.

use clap::Args;
use serde::Serialize;

use super::ConfigArgument;
use super::exit::Failure;
use super::table::{Table, print_json};
use crate::base::{Clock, Printable};
use crate::config::{Account, Config};
use crate::oauth::Grant;
use crate::store::{Store, StoreError, StoredGrant};
use crate::token::changed_since;

/// Show the accounts: token, waiting mail, what needs a person
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

#[derive(Serialize)]
struct Report {
    daemon_runs: bool,
    accounts: Vec<AccountReport>,
}

#[derive(Serialize)]
struct AccountReport {
    account: String,
    provider: String,
    grant: &'static str,
    state: &'static str,
    /// What is wrong and what to do, if anything is.
    advice: Option<String>,
    /// `authorization_code`, `import` or another grant; unknown if an older version stored it.
    obtained_how: Option<String>,
    /// The address of whoever signed in, if the provider says so.
    obtained_by: Option<String>,
    /// When it was obtained; renewals do not change it.
    obtained_at: Option<String>,
    /// When the newest token came.
    last_refresh_at: Option<String>,
    token_expires_at: Option<String>,
    last_error: Option<LastError>,
    /// Recipients whose message waits in the store.
    queued: u64,
    /// Recipients that were refused for good; their message is kept.
    failed: u64,
    /// Recipients of stored messages that upstream has taken.
    delivered_from_store: u64,
}

/// What kept the account from getting a token the last time.
#[derive(Serialize)]
struct LastError {
    at: String,
    text: String,
    /// A token has come since.
    is_over: bool,
}

impl Status {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (config, store) = self.config.load_with_store()?;
        let report = report(&config, &store).await?;
        if self.json {
            return print_json(&report);
        }
        let mut table =
            Table::new(["ACCOUNT", "PROVIDER", "STATE", "TOKEN UNTIL", "QUEUED", "FAILED"]);
        for account in &report.accounts {
            table.row([
                account.account.clone(),
                account.provider.clone(),
                account.state.to_owned(),
                account.token_expires_at.clone().unwrap_or_else(|| "-".to_owned()),
                account.queued.to_string(),
                account.failed.to_string(),
            ]);
        }
        table.print("There is no account in the configuration.");
        for account in &report.accounts {
            account.print();
        }
        if !report.daemon_runs {
            println!("\nThe relay is not running: mailbearer serve");
        }
        Ok(())
    }
}

impl AccountReport {
    /// What does not fit into a row.
    fn print(&self) {
        println!("\n{}", self.account);
        println!("  grant         {}{}", self.grant, self.origin());
        if let Some(at) = &self.last_refresh_at {
            println!("  last refresh  {at}");
        }
        if let Some(LastError { at, text, is_over }) = &self.last_error {
            let over = if *is_over { " (over since)" } else { "" };
            println!("  last error    {at}: {}{over}", Printable::text(text));
        }
        let advice = self.advice.as_deref().unwrap_or("nothing to do");
        println!("  next          {}", Printable::text(advice));
    }

    /// How the grant was obtained, when and by whom.
    fn origin(&self) -> String {
        let how = match self.obtained_how.as_deref() {
            None => return String::new(),
            Some("import") => ", imported",
            Some("client_credentials") => ", fetched by mailbearer itself",
            Some(_) => ", signed in",
        };
        let by = self.obtained_by.as_ref().map(|person| format!(" as {}", Printable::text(person)));
        let at = self.obtained_at.as_ref().map(|at| format!(" at {at}"));
        format!("{how}{}{}", by.unwrap_or_default(), at.unwrap_or_default())
    }
}

async fn report(config: &Config, store: &Store) -> Result<Report, Failure> {
    let totals = store.totals().await?;
    let mut accounts = Vec::new();
    for account in &config.accounts {
        let name = account.name.as_str();
        // One that cannot be read must not hide the others.
        let (grant, unreadable) = match store.grant(name).await {
            Ok(grant) => (grant, None),
            Err(error @ (StoreError::WrongKey { .. } | StoreError::Damaged { .. })) => {
                (None, Some(("token unreadable", Some(error.to_string()))))
            }
            Err(error) => return Err(error.into()),
        };
        let suspension = store.suspension(name).await?;
        let totals = totals.iter().find(|totals| totals.account == name);
        let last_error = store.trouble(name).await?.map(|trouble| LastError {
            at: trouble.at.to_string(),
            text: trouble.reason,
            is_over: grant.as_ref().is_some_and(|grant| grant.obtained_at >= trouble.at),
        });
        let (state, advice) = match suspension {
            Some(suspension) => {
                let text = format!(
                    "suspended since {}: {}. Its mail is kept. Mend the cause{}; the relay looks \
                     again by itself within minutes.",
                    suspension.since,
                    suspension.reason,
                    sign_in_advice(account),
                );
                ("suspended", Some(text))
            }
            None => unreadable.unwrap_or_else(|| state_of(account, grant.as_ref())),
        };
        let is_failing = last_error.as_ref().is_some_and(|error| !error.is_over);
        let advice = advice.or_else(|| {
            is_failing.then(|| {
                "the relay tries again by itself; if that goes on, mend what the last error names"
                    .to_owned()
            })
        });
        let origin = grant.as_ref().and_then(|grant| grant.origin.as_ref());
        accounts.push(AccountReport {
            account: name.to_owned(),
            provider: account.provider.name.clone(),
            grant: account.grant.as_str(),
            state,
            advice,
            obtained_how: origin.map(|origin| origin.how.clone()),
            obtained_by: grant.as_ref().and_then(|grant| grant.obtained_by.clone()),
            obtained_at: origin.map(|origin| origin.at.to_string()),
            last_refresh_at: grant.as_ref().map(|grant| grant.obtained_at.to_string()),
            token_expires_at: grant
                .as_ref()
                .and_then(|grant| grant.expires_at)
                .map(|at| at.to_string()),
            last_error,
            queued: totals.map_or(0, |totals| totals.queued),
            failed: totals.map_or(0, |totals| totals.failed),
            delivered_from_store: totals.map_or(0, |totals| totals.delivered),
        });
    }
    let orphans = totals.iter().filter(|totals| {
        let is_configured =
            config.accounts.iter().any(|known| known.name.as_str() == totals.account);
        !is_configured && totals.queued + totals.failed > 0
    });
    accounts.extend(orphans.map(|totals| {
        AccountReport {
            account: totals.account.clone(),
            provider: "-".to_owned(),
            grant: "-",
            state: "not configured",
            advice: Some(
                "its mail waits: put the account back into the configuration to have it delivered"
                    .to_owned(),
            ),
            obtained_how: None,
            obtained_by: None,
            obtained_at: None,
            last_refresh_at: None,
            token_expires_at: None,
            last_error: None,
            queued: totals.queued,
            failed: totals.failed,
            delivered_from_store: totals.delivered,
        }
    }));
    Ok(Report { daemon_runs: store.is_locked_by_daemon()?, accounts })
}

fn state_of(account: &Account, grant: Option<&StoredGrant>) -> (&'static str, Option<String>) {
    let now = Clock::system().now();
    match (account.grant, grant) {
        (Grant::ClientCredentials, None) => ("no token yet", None),
        (Grant::AuthorizationCode | Grant::DeviceCode, None) => (
            "needs sign-in",
            Some(format!("nobody has signed in yet: mailbearer login {}", account.name)),
        ),
        (Grant::AuthorizationCode | Grant::DeviceCode, Some(grant))
            if changed_since(grant, account).is_some() =>
        {
            (
                "needs sign-in",
                Some(format!(
                    "its sign-in belongs to another configuration ({} changed): mailbearer login {}",
                    changed_since(grant, account).unwrap_or_default(),
                    account.name
                )),
            )
        }
        (Grant::ClientCredentials, Some(grant)) if changed_since(grant, account).is_some() => {
            ("token to be renewed", None)
        }
        (
            Grant::AuthorizationCode | Grant::DeviceCode,
            Some(StoredGrant { retired: Some(reason), .. }),
        ) => (
            "needs sign-in",
            Some(format!("its sign-in has ended ({reason}): mailbearer login {}", account.name)),
        ),
        (_, Some(grant)) => {
            let is_valid = grant.expires_at.is_none_or(|at| at > now);
            match (account.grant, is_valid, grant.refresh_token.is_some()) {
                (_, true, _) => ("working", None),
                (Grant::ClientCredentials, false, _) | (_, false, true) => {
                    ("token to be renewed", None)
                }
                (Grant::AuthorizationCode | Grant::DeviceCode, false, false) => (
                    "needs sign-in",
                    Some(format!("its sign-in has ended: mailbearer login {}", account.name)),
                ),
            }
        }
    }
}

fn sign_in_advice(account: &Account) -> String {
    match account.grant {
        Grant::AuthorizationCode | Grant::DeviceCode => {
            format!(", or sign in again (mailbearer login {})", account.name)
        }
        Grant::ClientCredentials => String::new(),
    }
}
