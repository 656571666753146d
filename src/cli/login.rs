//! `mailbearer login`.
//!
//! Opens the browser where there is one, prints the address in any case, and takes whichever comes
//! first: the redirect to this machine, or the address that the browser ended on, pasted here.

use std::io::{self, BufRead as _};

use clap::Args;
use tokio::sync::oneshot;

use super::ConfigArgument;
use super::exit::{Exit, Failure};
use crate::base::Clock;
use crate::config::{Account, AccountName, Config};
use crate::oauth::Grant;
use crate::token::{Consent, ConsentError};

/// Sign in to an account's provider, so that its mail can be sent
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The account (the mailbox, as in the configuration)
    account: String,
    /// Only print the address; open no browser
    #[arg(long)]
    no_browser: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

impl Login {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (config, store) = self.config.load_with_store()?;
        let account = find(&config, &self.account)?;
        if account.grant == Grant::ClientCredentials {
            let text = format!(
                "{} signs in by itself with its client secret; there is nothing to do here",
                account.name
            );
            return Err(Failure::new(Exit::Data, text));
        }
        let consent = Consent::begin(account, &store, Clock::system()).await?;
        println!("Sign in as {} here:\n\n{}\n", account.mailbox, consent.url());
        println!(
            "On a machine without a browser, open the address elsewhere, sign in, and paste here \
             the address that\nthe browser ends on (it starts with {}; that it shows an error does \
             no harm).\n",
            consent.redirect_url(),
        );
        if !self.no_browser && has_browser() {
            // Whether it opens is not worth a word: the address stands above.
            let _ = open::that_detached(consent.url().as_str());
        }
        let signed_in = consent.finish(pasted_line()).await?;
        store.resume(account.name.as_str()).await?;
        println!(
            "Signed in. {} can send{}",
            account.name,
            match signed_in.expires_at {
                Some(at) => format!("; its access token is renewed before {at}."),
                None => ".".to_owned(),
            }
        );
        if !signed_in.is_renewable {
            println!(
                "The provider gave no refresh token, so this will end then: check that the scope \
                 offline_access (Microsoft) or access_type=offline (Google) is granted."
            );
        }
        Ok(())
    }
}

fn find<'a>(config: &'a Config, name: &str) -> Result<&'a Account, Failure> {
    let wanted = name.parse::<AccountName>().ok();
    let account = config.accounts.iter().find(|account| Some(&account.name) == wanted.as_ref());
    account.map(|account| &**account).ok_or_else(|| {
        let known: Vec<_> = config.accounts.iter().map(|account| account.name.as_str()).collect();
        Failure::new(Exit::Data, format!("there is no account {name}: say {}", known.join(" or ")))
    })
}

/// On Linux a browser needs a display; elsewhere it is there.
fn has_browser() -> bool {
    !cfg!(target_os = "linux")
        || std::env::var_os("DISPLAY").is_some()
        || std::env::var_os("WAYLAND_DISPLAY").is_some()
}

/// The first line of standard input that is not empty. Never completes if there is none.
async fn pasted_line() -> String {
    let (sender, receiver) = oneshot::channel();
    // A thread of its own: a read of standard input cannot be given up.
    std::thread::spawn(move || {
        let lines = io::stdin().lock().lines().map_while(Result::ok);
        if let Some(line) = lines.map(|line| line.trim().to_owned()).find(|line| !line.is_empty()) {
            let _ = sender.send(line);
        }
    });
    match receiver.await {
        Ok(line) => line,
        Err(_) => std::future::pending().await,
    }
}

impl From<ConsentError> for Failure {
    fn from(error: ConsentError) -> Self {
        let exit = match &error {
            ConsentError::NotNow(_) | ConsentError::TimedOut => Exit::Temporary,
            ConsentError::Refused(_) | ConsentError::WrongState => Exit::Permission,
            _ => Exit::Unavailable,
        };
        Self::new(exit, error)
    }
}
