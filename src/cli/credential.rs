//! `mailbearer credential`.
//!
//! Credentials stand in the configuration or in the store. The commands here change the store; a
//! running daemon notices within a second.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::{Exit, Failure};
use super::table::Table;
use super::{ConfigArgument, password};
use crate::base::{Clock, limits};
use crate::config::{AccountName, Config, PasswordHash};
use crate::mail::AddressPattern;
use crate::store::StoredCredential;

/// Manage what local clients present: user names and passwords
#[derive(Debug, Subcommand)]
pub(crate) enum Credential {
    /// Print the hash of a password, for `password_hash` in the configuration
    Hash,
    /// Add a credential; the password is prompted for or read from standard input
    Add(Add),
    /// List the credentials
    List(List),
    /// Remove a credential
    Remove(Remove),
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// The user name that the client will present
    name: String,
    /// The account that its mail leaves through (the mailbox, as in the configuration)
    #[arg(long, value_name = "MAILBOX")]
    account: String,
    /// Senders that it may use, as addresses or patterns such as *@contoso.com; default: the mailbox
    #[arg(long, value_name = "PATTERN")]
    may_send_as: Vec<String>,
    /// Recipients that it may send to
    #[arg(long, value_name = "PATTERN", default_value = "*")]
    may_send_to: Vec<String>,
    #[command(flatten)]
    config: ConfigArgument,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// The user name
    name: String,
    #[command(flatten)]
    config: ConfigArgument,
}

#[derive(Serialize)]
struct Listed {
    name: String,
    account: String,
    stands_in: &'static str,
    may_send_as: Vec<String>,
    may_send_to: Vec<String>,
    created_at: Option<String>,
}

impl Credential {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Hash => {
                println!("{}", hash(&password::ask_new("Password: ")?)?);
                Ok(())
            }
            Self::Add(add) => add.run().await,
            Self::List(list) => list.run().await,
            Self::Remove(remove) => remove.run().await,
        }
    }
}

fn hash(password: &crate::base::Secret) -> Result<PasswordHash, Failure> {
    PasswordHash::hash(password).map_err(|error| Failure::new(Exit::Software, error))
}

impl Add {
    async fn run(self) -> Result<(), Failure> {
        let (config, store) = self.config.load_with_store()?;
        // Names are compared without regard to case, so one spelling is kept.
        let name = self.name.to_lowercase();
        let may_send_as = match self.may_send_as.is_empty() {
            true => vec![self.account.to_lowercase()],
            false => self.may_send_as.clone(),
        };
        let account = self.account.parse::<AccountName>().ok();
        let account = config.accounts.iter().find(|known| Some(&known.name) == account.as_ref());
        let Some(account) = account else {
            let known: Vec<_> = config.accounts.iter().map(|known| known.name.as_str()).collect();
            let text = format!("there is no account {}: say {}", self.account, known.join(" or "));
            return Err(Failure::new(Exit::Data, text));
        };
        let is_usable = !name.is_empty()
            && name.len() <= limits::USER_NAME_OCTETS
            && name.trim() == name
            && !name.chars().any(char::is_control);
        if !is_usable {
            let text = "write a user name such as printer-3rd-floor";
            return Err(Failure::new(Exit::Data, text));
        }
        if is_configured(&config, &name) {
            let text = format!("{name} stands in the configuration: change it there");
            return Err(Failure::new(Exit::Data, text));
        }
        for pattern in may_send_as.iter().chain(&self.may_send_to) {
            AddressPattern::parse(pattern)
                .map_err(|error| Failure::new(Exit::Data, format!("{pattern}: {error}")))?;
        }
        let password = password::ask_new("Password: ")?;
        let credential = StoredCredential {
            name: name.clone(),
            password_hash: hash(&password)?.to_string(),
            account: account.name.to_string(),
            may_send_as,
            may_send_to: self.may_send_to,
            created_at: Clock::system().now(),
        };
        store.add_credential(credential).await?;
        println!("{name} may send through {} now.", account.name);
        Ok(())
    }
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        let (config, store) = self.config.load_with_store()?;
        let configured = config.credentials.iter().map(|credential| Listed {
            name: credential.name.clone(),
            account: credential.account.to_string(),
            stands_in: "configuration",
            may_send_as: credential.may_send_as.iter().map(ToString::to_string).collect(),
            may_send_to: credential.may_send_to.iter().map(ToString::to_string).collect(),
            created_at: None,
        });
        let stored = store.credentials().await?;
        let stored = stored.into_iter().map(|credential| Listed {
            name: credential.name,
            account: credential.account,
            stands_in: "store",
            may_send_as: credential.may_send_as,
            may_send_to: credential.may_send_to,
            created_at: Some(credential.created_at.to_string()),
        });
        let listed: Vec<_> = configured.chain(stored).collect();
        if self.json {
            return super::table::print_json(&listed);
        }
        let mut table = Table::new(["NAME", "ACCOUNT", "IN", "MAY SEND AS", "MAY SEND TO"]);
        for row in &listed {
            let (as_, to) = (row.may_send_as.join(" "), row.may_send_to.join(" "));
            table.row([row.name.clone(), row.account.clone(), row.stands_in.to_owned(), as_, to]);
        }
        table.print("There is no credential yet: mailbearer credential add NAME --account MAILBOX");
        Ok(())
    }
}

impl Remove {
    async fn run(self) -> Result<(), Failure> {
        let (config, store) = self.config.load_with_store()?;
        if is_configured(&config, &self.name) {
            let text = format!("{} stands in the configuration: remove it there", self.name);
            return Err(Failure::new(Exit::Data, text));
        }
        match store.remove_credential(&self.name.to_lowercase()).await? {
            true => println!("{} may not send any longer.", self.name),
            false => {
                let text = format!("there is no credential {} in the store", self.name);
                return Err(Failure::new(Exit::Data, text));
            }
        }
        Ok(())
    }
}

fn is_configured(config: &Config, name: &str) -> bool {
    config.credentials.iter().any(|known| known.name.to_lowercase() == name.to_lowercase())
}
