//! `mailbearer logout`.

use clap::Args;

use super::ConfigArgument;
use super::exit::{Exit, Failure};
use super::login::find;
use crate::token::{Revocation, log_out};

/// Remove an account's grant, here and at the provider where it can be told
#[derive(Debug, Args)]
pub(crate) struct Logout {
    /// The account (the mailbox, as in the configuration)
    account: String,
    #[command(flatten)]
    config: ConfigArgument,
}

impl Logout {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (config, store) = self.config.load_with_store()?;
        let account = find(&config, &self.account)?;
        let (name, provider) = (&account.name, &account.provider.name);
        let Some(revocation) = log_out(account, &store).await? else {
            println!("There is no grant for {name}: nobody is signed in.");
            return Ok(());
        };
        println!("The grant for {name} is removed.");
        match revocation {
            Revocation::Revoked => println!("{provider} has revoked it."),
            Revocation::NotOffered => println!(
                "It was not revoked at {provider}, which has no address for that in the \
                 configuration{}.",
                match provider.as_str() {
                    "office365" =>
                        ": Entra ends it when it is unused for 90 days, or at once with \
                         \"Revoke sessions\" on the user's page in the Entra admin center",
                    _ => " (revoke_url in its [[provider]])",
                }
            ),
            Revocation::NothingToRevoke => {
                println!("It held no refresh token, so there is nothing to revoke at {provider}.");
            }
            Revocation::Failed { reason } => {
                let what = format!(
                    "{provider} did not revoke it ({reason}): it is gone here, and still good \
                     there until somebody removes mailbearer's access in the account's settings"
                );
                return Err(Failure::new(Exit::Unavailable, what));
            }
        }
        match account.grant.needs_sign_in() {
            true => println!(
                "Mail for it waits in the store until somebody signs in: mailbearer login {name}"
            ),
            false => println!(
                "With the grant {}, a relay that runs fetches a new token when it needs one; to \
                 stop that, remove the account from the configuration.",
                account.grant
            ),
        }
        Ok(())
    }
}
