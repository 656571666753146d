//! Floor 4: where log lines go.
//!
//! Owns the set-up of logging, as text for people or as JSON for machines. The lines themselves are
//! written where things happen, with fixed field names: `event`, `queue_id`, `session_id`,
//! `account`, `credential`, `peer`, `class`, `phase`, `code`, `enhanced`, `reply`, `try`. No level
//! shows a secret: those cannot be printed.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{Log, LogFormat};

/// Starts logging to standard error. Lines of libraries appear from `warn` on.
pub fn start(log: &Log) {
    let filter = EnvFilter::new(format!("warn,mailbearer={}", log.level.as_str()));
    let registry = tracing_subscriber::registry().with(filter);
    let is_terminal = std::io::stderr().is_terminal();
    let started = match log.format {
        LogFormat::Text => {
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(is_terminal && std::env::var_os("NO_COLOR").is_none())
                .with_target(false);
            registry.with(layer).try_init()
        }
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_target(false);
            registry.with(layer).try_init()
        }
    };
    // A second start in one process keeps the first one's settings.
    drop(started);
}
