//! `mailbearer check`.

use clap::Args;

use super::ConfigArgument;
use super::exit::Failure;

/// Check the configuration and report every mistake in it
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    config: ConfigArgument,
}

impl Check {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        let count = |number: usize, what: &str| match number {
            1 => format!("1 {what}"),
            _ => format!("{number} {what}s"),
        };
        println!(
            "{} is right: {}, {}, {}.",
            self.config.path.display(),
            count(config.listeners.len(), "listener"),
            count(config.accounts.len(), "account"),
            count(config.credentials.len(), "credential"),
        );
        for account in config.accounts_left_to_the_store() {
            let name = &account.name;
            println!(
                "Note: no credential and no network here may use {name}; unless the store has one, \
                 add one: mailbearer credential add NAME --account {name}"
            );
        }
        Ok(())
    }
}
