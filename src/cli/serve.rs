//! `mailbearer serve`.

use clap::Args;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

use super::ConfigArgument;
use super::exit::Failure;
use crate::base::limits;
use crate::daemon::{Daemon, Settings};
use crate::telemetry;

/// Run the relay until it is told to stop
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    config: ConfigArgument,
}

impl Serve {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let config = self.config.load()?;
        telemetry::start(&config.log);
        // Before starting: a signal that comes while we start is not lost.
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let settings = Settings { max_sessions: prepare_process(), ..Settings::default() };
        let daemon = Daemon::start(&config, settings).await?;
        tracing::info!(event = "started", version = env!("CARGO_PKG_VERSION"));
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
        daemon.stop().await;
        Ok(())
    }
}

/// Keeps secrets out of core dumps, takes as many file descriptors as the system grants, and says
/// how many sessions they are enough for: one for the connection and one for a large body each.
fn prepare_process() -> usize {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = setrlimit(Resource::Core, none) {
        tracing::warn!(event = "core_dumps_not_switched_off", %error);
    }
    let granted = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: granted.maximum, ..granted });
    let Some(descriptors) = getrlimit(Resource::Nofile).current else { return limits::SESSIONS };
    let sessions = descriptors.saturating_sub(limits::RESERVED_DESCRIPTORS) / 2;
    usize::try_from(sessions).unwrap_or(usize::MAX).clamp(1, limits::SESSIONS)
}
