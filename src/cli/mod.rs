//! Floor 4: the command line.
//!
//! Owns the definition of every command, how results and errors are shown, and the exit codes of
//! sysexits.h. Commands work on the configuration and the store themselves, so they work whether a
//! daemon runs or not. Secrets are prompted for or read from standard input or a file; there is no
//! argument that takes one.

mod check;
mod credential;
mod demo;
mod exit;
mod login;
mod logout;
mod old_client;
mod password;
mod providers;
mod send;
mod serve;
mod status;
mod table;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::base::Clock;
use crate::config::{self, Config};
use crate::store::Store;

use exit::{Exit, Failure};

/// A local SMTP relay that adds OAuth2: old SMTP in, XOAUTH2 out.
#[derive(Debug, Parser)]
#[command(name = "mailbearer", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the relay until it is told to stop
    Serve(serve::Serve),
    /// Show everything at work with a simulated provider: no account needed
    Demo(demo::Demo),
    /// Check the configuration and report every mistake in it
    Check(check::Check),
    /// Sign in to an account's provider, so that its mail can be sent
    Login(login::Login),
    /// Remove an account's grant, here and at the provider where it can be told
    Logout(logout::Logout),
    /// Show the providers that are built in: hosts, mechanism, grants, limits
    Providers(providers::Providers),
    /// Show the accounts: token, waiting mail, what needs a person
    Status(status::Status),
    /// Look at an account's token, or bring one that was obtained elsewhere
    #[command(subcommand)]
    Token(token::Token),
    /// Send a test message through a listener, as an old client would
    Send(send::Send),
    /// Manage what local clients present: user names and passwords
    #[command(subcommand)]
    Credential(credential::Credential),
}

/// Where the configuration is.
#[derive(Debug, Args)]
struct ConfigArgument {
    /// The configuration file
    #[arg(
        long = "config",
        short = 'c',
        value_name = "FILE",
        default_value = "/etc/mailbearer/mailbearer.toml"
    )]
    path: PathBuf,
}

impl ConfigArgument {
    fn load(&self) -> Result<Config, Failure> {
        config::load(&self.path).map_err(|mistakes| Failure::new(Exit::Config, mistakes))
    }

    fn load_with_store(&self) -> Result<(Config, Store), Failure> {
        let config = self.load()?;
        let store = Store::open(&config.server.data_dir, Clock::system())?;
        Ok((config, store))
    }
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Ok };
            return exit.into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("mailbearer: cannot start: {error}");
            return Exit::Os.into();
        }
    };
    let result = runtime.block_on(cli.command.run());
    // Nothing that matters runs on: whoever started it has waited for it.
    runtime.shutdown_background();
    match result {
        Ok(()) => Exit::Ok.into(),
        Err(failure) => {
            failure.print();
            failure.exit().into()
        }
    }
}

impl Command {
    async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Serve(serve) => serve.run().await,
            Self::Demo(demo) => demo.run().await,
            Self::Check(check) => check.run(),
            Self::Login(login) => login.run().await,
            Self::Logout(logout) => logout.run().await,
            Self::Providers(providers) => providers.run(),
            Self::Status(status) => status.run().await,
            Self::Token(token) => token.run().await,
            Self::Send(send) => send.run().await,
            Self::Credential(credential) => credential.run().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_argument_takes_a_secret() {
        fn walk(command: &clap::Command) {
            for argument in command.get_arguments() {
                let name = argument.get_id().as_str();
                let is_secret = name.contains("password") || name.contains("secret");
                assert!(!is_secret || name.ends_with("_file"), "{name} takes a secret");
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
