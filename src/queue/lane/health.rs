//! What attempts say about the account.
//!
//! Owns when the lane rests, when the account is suspended and when either ends. What hinders the
//! account is never charged to a message, and one recipient's server never stops everybody's mail.

use std::time::Duration;

use tokio::time::Instant;

use super::Lane;
use crate::mail::{Class, Outcome, Phase, Status};
use crate::outbound::Attempted;
use crate::queue::schedule::random_spread;
use crate::store::StoreError;

impl Lane {
    /// Reads the suspension again; a suspension that somebody lifted ends the rest.
    ///
    /// A suspension that was there before the start does not make the lane rest: somebody may have
    /// mended the cause and started the relay to see.
    pub(crate) async fn look_again(&self) -> Result<(), StoreError> {
        let is_suspended = self.store.suspension(self.account()).await?.is_some();
        let mut state = self.lock();
        if !state.is_suspending {
            if state.is_suspended && !is_suspended {
                state.rests_until = None;
                state.failures = 0;
                tracing::info!(event = "account_resumed", account = self.account());
            }
            state.is_suspended = is_suspended;
        }
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    pub(super) async fn take_notice(&self, attempted: &Attempted) {
        let outcomes = match attempted {
            Attempted::Hindered { outcome, retry_after } => match outcome.class {
                Class::Suspend => return self.suspend(&outcome.status).await,
                Class::Defer | Class::Hold | Class::Delivered | Class::Fail | Class::Uncertain => {
                    return self.rest(*retry_after);
                }
            },
            Attempted::Tried(outcomes) => outcomes,
        };
        let is_open = |outcome: &&Outcome| outcome.class != Class::Delivered;
        let has_delivered = outcomes.iter().any(|outcome| outcome.class == Class::Delivered);
        let needs_a_person = |outcome: &Outcome| outcome.class == Class::Suspend;
        let is_lost = |outcome: &Outcome| outcome.status.code.is_none_or(|code| code == 421);
        if has_delivered {
            self.recovered().await;
        } else if let Some(outcome) = outcomes.iter().find(|outcome| needs_a_person(outcome))
            // One recipient's server must not stop everybody's mail.
            && outcomes.iter().filter(is_open).all(needs_a_person)
        {
            self.suspend(&outcome.status).await;
        } else if outcomes.iter().all(|outcome| outcome.status.phase == Phase::Local) {
            // Upstream was not asked: this says nothing of it.
        } else if outcomes.iter().all(is_lost) {
            self.rest(None);
        } else {
            // Upstream is there and answers to the message itself.
            let mut state = self.lock();
            state.failures = 0;
            state.rests_until = None;
        }
    }

    fn rest(&self, retry_after: Option<Duration>) {
        let mut state = self.lock();
        // Sessions that die together are one failure.
        if !state.rests() {
            state.failures += 1;
        }
        let rest = self.schedule.rest(state.failures, random_spread());
        let rest = rest.max(retry_after.unwrap_or_default().min(self.schedule.longest));
        state.rests_until = Some(Instant::now() + rest);
    }

    async fn suspend(&self, status: &Status) {
        {
            let mut state = self.lock();
            state.rests_until = Some(Instant::now() + self.schedule.probe);
            if std::mem::replace(&mut state.is_suspended, true) {
                return;
            }
            state.is_suspending = true;
        }
        let reason = status.to_string();
        tracing::warn!(
            event = "account_suspended", account = self.account(), phase = %status.phase, reason,
            "the account needs a person; its mail is kept"
        );
        if let Err(error) = self.store.suspend(self.account(), &reason).await {
            tracing::error!(event = "suspension_not_recorded", account = self.account(), %error);
        }
        self.lock().is_suspending = false;
    }

    async fn recovered(&self) {
        let was_suspended = {
            let mut state = self.lock();
            state.failures = 0;
            state.rests_until = None;
            std::mem::take(&mut state.is_suspended)
        };
        if was_suspended {
            tracing::info!(event = "account_resumed", account = self.account());
            if let Err(error) = self.store.resume(self.account()).await {
                tracing::error!(event = "suspension_not_lifted", account = self.account(), %error);
            }
            self.wake.notify_one();
        }
    }
}
