//! `mailbearer login`.
//!
//! Opens the browser where there is one, prints the address in any case, and takes whichever comes
//! first: the redirect to this machine, or the address that the browser ended on, pasted here. With
//! the grant device_code, or `--device`, it shows a code to type elsewhere and waits.

use std::io::{self, BufRead as _};
use std::sync::Arc;

use clap::Args;
use tokio::sync::mpsc;

use super::ConfigArgument;
use super::exit::{Exit, Failure};
use crate::base::Clock;
use crate::config::{Account, AccountName, Config};
use crate::oauth::{Grant, Refusal};
use crate::store::Store;
use crate::token::{Consent, ConsentError, Consented, DeviceConsent};

/// Sign in to an account's provider, so that its mail can be sent
#[derive(Debug, Args)]
pub(crate) struct Login {
    /// The account (the mailbox, as in the configuration)
    account: String,
    /// Only print the address; open no browser
    #[arg(long)]
    no_browser: bool,
    /// Sign in with a code on another device, where the provider allows it
    #[arg(long, conflicts_with = "no_browser")]
    device: bool,
    #[command(flatten)]
    config: ConfigArgument,
}

impl Login {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (config, store) = self.config.load_with_store()?;
        let account = find(&config, &self.account)?;
        let consented = match account.grant {
            Grant::AuthorizationCode if !self.device => self.in_browser(account, &store).await?,
            Grant::AuthorizationCode | Grant::DeviceCode | Grant::ClientCredentials => {
                on_another_device(account, &store).await?
            }
        };
        report_sign_in(account, &store, &consented, "Signed in").await
    }

    async fn in_browser(
        &self,
        account: &Arc<Account>,
        store: &Store,
    ) -> Result<Consented, Failure> {
        let mut consent = Consent::begin(account, store, &Clock::system()).await?;
        println!("Sign in as {} here:\n\n{}\n", account.user(), consent.url());
        match consent.redirect().scheme() {
            "https" => println!(
                "Then paste here the address that the browser ends on: it starts with {}, and that \
                 the page\ncannot be shown does no harm.\n",
                consent.redirect()
            ),
            _ => println!(
                "On a machine without a browser, open the address elsewhere, sign in, and paste \
                 here the address that\nthe browser ends on: it starts with http://localhost, and \
                 that it shows an error does no harm.\n"
            ),
        }
        if !self.no_browser && has_browser() {
            // Whether it opens is not worth a word: the address stands above.
            let _ = open::that_detached(consent.url().as_str());
        }
        let mut lines = pasted_lines();
        loop {
            tokio::select! {
                came_back = consent.wait() => break came_back?,
                Some(line) = lines.recv() => match consent.paste(&line) {
                    Ok(()) => break,
                    Err(error) => eprintln!("{error}\nPaste the whole address:"),
                },
            }
        }
        Ok(consent.finish().await?)
    }
}

/// Says what a person has to do where, and whose page that is: a code that somebody else sends
/// around is a known trick.
async fn on_another_device(account: &Arc<Account>, store: &Store) -> Result<Consented, Failure> {
    let consent = DeviceConsent::begin(account, store, &Clock::system()).await?;
    let asked = account.provider.device_url.as_ref().map(ToString::to_string);
    println!(
        "Sign in as {} on any device:\n\n  page  {}\n  code  {}\n\nThe code is good for {} minutes \
         and comes from {} ({}).\nWaiting for the sign-in...",
        account.user(),
        consent.verification_uri(),
        consent.user_code(),
        consent.expires_in().as_secs() / 60,
        account.provider.name,
        asked.unwrap_or_default(),
    );
    Ok(consent.finish().await?)
}

/// What follows from a new grant: the account goes on, and the person reads for whom.
pub(super) async fn report_sign_in(
    account: &Account,
    store: &Store,
    consented: &Consented,
    done: &str,
) -> Result<(), Failure> {
    store.resume(account.name.as_str()).await?;
    match &consented.signed_in {
        Some(person) => println!("{done} as {person}."),
        None => println!(
            "{done}. {} does not say who signed in, so that could not be compared with {}: if it \
             was somebody else, upstream will refuse the token.",
            account.provider.name,
            account.user(),
        ),
    }
    println!(
        "{} can send; its token is good until {} and is renewed before.",
        account.name, consented.expires_at
    );
    Ok(())
}

/// The account of that name.
pub(super) fn find<'a>(config: &'a Config, name: &str) -> Result<&'a Arc<Account>, Failure> {
    let wanted = name.parse::<AccountName>().ok();
    let account = config.accounts.iter().find(|account| Some(&account.name) == wanted.as_ref());
    account.ok_or_else(|| {
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

/// The lines of standard input that are not empty.
fn pasted_lines() -> mpsc::UnboundedReceiver<String> {
    let (sender, receiver) = mpsc::unbounded_channel();
    // A thread of its own: a read of standard input cannot be given up.
    std::thread::spawn(move || {
        let lines = io::stdin().lock().lines().map_while(Result::ok);
        for line in lines.map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

impl From<ConsentError> for Failure {
    fn from(error: ConsentError) -> Self {
        let exit = match &error {
            ConsentError::NotNeeded { .. } | ConsentError::OnAnotherDevice { .. } => Exit::Data,
            ConsentError::NowhereToSignIn { .. } | ConsentError::NoDevice { .. } => Exit::Config,
            ConsentError::TimedOut
            | ConsentError::CodeExpired
            | ConsentError::Refused(Refusal::NotNow { .. }) => Exit::Temporary,
            ConsentError::Refused(_)
            | ConsentError::Declined
            | ConsentError::SomebodyElse { .. }
            | ConsentError::Nobody { .. }
            | ConsentError::IdToken(_)
            | ConsentError::NothingToRenew { .. } => Exit::Permission,
            ConsentError::Loopback(_)
            | ConsentError::Random(_)
            | ConsentError::Http(_)
            | ConsentError::Request(_)
            | ConsentError::Redirect(_)
            | ConsentError::Store(_) => Exit::Unavailable,
        };
        Self::new(exit, error)
    }
}
