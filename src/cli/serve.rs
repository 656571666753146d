//! `mailbearer serve`.

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::ConfigArgument;
use super::exit::Failure;
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
        let daemon = Daemon::start(&config, Settings::default()).await?;
        tracing::info!(event = "started", version = env!("CARGO_PKG_VERSION"));
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        daemon.stop().await;
        Ok(())
    }
}
