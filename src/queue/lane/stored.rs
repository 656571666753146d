//! Delivering what is stored.
//!
//! Owns the window of due messages and the recording of what became of them. Its cost does not grow
//! with the number of messages that wait: due ones are found by index, a window at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Lane, State, bug, log_attempt};
use crate::base::{QueueId, Timestamp, limits};
use crate::mail::Outcome;
use crate::outbound::{Attempted, Content, Message, Seat};
use crate::queue::schedule::random_spread;
use crate::store::{QueuedMessage, StoreError};

impl Lane {
    /// Delivers what is due, until told to stop.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) {
        while let Err(error) = self.look_again().await {
            tracing::error!(event = "store_unreadable", account = self.account(), %error);
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(self.schedule.rest_first) => {}
            }
        }
        loop {
            let (message, seat) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                ready = self.next_ready() => ready,
            };
            let lane = self.clone();
            self.tasks.spawn(async move { lane.deliver(message, seat).await });
        }
    }

    /// Ends idle sessions in time.
    pub(crate) async fn keep_cool(self: Arc<Self>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(limits::CLIENT_KEEP_WARM / 4) => self.upstream.cool(false).await,
            }
        }
    }

    pub(crate) async fn cool_down(&self) {
        self.upstream.cool(true).await;
    }

    /// The next due message with a seat to deliver it from.
    async fn next_ready(&self) -> (QueuedMessage, Seat) {
        loop {
            self.wait_until_due().await;
            let seat = self.upstream.seat().await;
            let mut state = self.lock();
            // While waiting for the seat the lane may have been told to rest.
            if state.rests() {
                continue;
            }
            if let Some(message) = state.window.pop_front() {
                state.in_flight.insert(message.id);
                return (message, seat);
            }
        }
    }

    /// Returns once the window holds something and the lane does not rest.
    async fn wait_until_due(&self) {
        loop {
            let woken = self.wake.notified();
            let rests_until = {
                let mut state = self.lock();
                let now = Instant::now();
                state.rests_until.take_if(|until| *until <= now);
                if !state.rests() && !state.window.is_empty() {
                    return;
                }
                match state.unrecorded {
                    0 => state.rests_until,
                    // Whoever records it wakes the lane.
                    _ => Some(now + limits::LANE_IDLE),
                }
            };
            if let Some(until) = rests_until {
                tokio::select! {
                    () = woken => {}
                    () = sleep_until(until) => {}
                }
                continue;
            }
            match self.refill().await {
                Ok(None) => {}
                Ok(Some(nothing_for)) => tokio::select! {
                    () = woken => {}
                    () = sleep(nothing_for) => {}
                },
                Err(error) => {
                    tracing::error!(event = "store_unreadable", account = self.account(), %error);
                    sleep(self.schedule.rest_first).await;
                }
            }
        }
    }

    /// Fills the window from the store; if nothing is due, says for how long.
    async fn refill(&self) -> Result<Option<Duration>, StoreError> {
        let in_flight: Vec<_> = self.lock().in_flight.iter().copied().collect();
        let now = self.clock.now();
        let window = limits::LANE_WINDOW;
        let due = self.store.due(self.account(), now, &in_flight, window).await?;
        if !due.is_empty() {
            let mut state = self.lock();
            let State { in_flight, window, .. } = &mut *state;
            window.extend(due.into_iter().filter(|message| !in_flight.contains(&message.id)));
            return Ok(None);
        }
        // What is due now is in flight: whoever settles it wakes the lane.
        let next = self.store.next_due_at(self.account(), now).await?;
        Ok(Some(next.map_or(limits::LANE_IDLE, |at| at.since(now).min(limits::LANE_IDLE))))
    }

    async fn deliver(self: Arc<Self>, queued: QueuedMessage, seat: Seat) {
        let message = Message {
            id: queued.id,
            envelope: queued.envelope.clone(),
            size: queued.size,
            content: Content::Stored(self.store.clone()),
        };
        let count = queued.recipient_indices.len();
        let attempt = self.start(seat, message, Arc::default());
        let attempted = attempt.await.unwrap_or_else(|_| bug(count));
        log_attempt(queued.id, self.account(), queued.attempts + 1, &attempted);
        let QueuedMessage { id, received_at, attempts, recipient_indices, .. } = queued;
        self.settle(id, received_at, &recipient_indices, attempts, attempted).await;
    }

    /// Records the result of an attempt at a stored message. A result that cannot be recorded is
    /// tried again until it can: until then the message stays in flight, is not sent twice, and the
    /// lane rests.
    pub(super) async fn settle(
        &self,
        id: QueueId,
        received_at: Timestamp,
        indices: &[u32],
        attempts: u32,
        attempted: Attempted,
    ) {
        self.take_notice(&attempted).await;
        if let Attempted::Tried(outcomes) = attempted {
            let pairs: Vec<_> = indices.iter().copied().zip(outcomes).collect();
            if !self.record(id, received_at, &pairs, attempts).await {
                return;
            }
        }
        self.lock().in_flight.remove(&id);
        self.wake.notify_one();
    }

    /// False if the outcomes can never be recorded: the message then stays in flight, which keeps it
    /// from being sent again before the next start.
    async fn record(
        &self,
        id: QueueId,
        received_at: Timestamp,
        pairs: &[(u32, Outcome)],
        attempts: u32,
    ) -> bool {
        let account = self.account();
        let wait = self.schedule.retry(attempts + 1, random_spread());
        let mut failures = 0;
        let is_recorded = loop {
            let next_attempt_at = Some(self.clock.now() + wait);
            match self.store.settle(id, pairs.to_vec(), next_attempt_at).await {
                Ok(settled) => {
                    let queued_ms = self.clock.now().since(received_at).as_millis() as u64;
                    tracing::info!(
                        event = "message_settled", queue_id = %id, account,
                        delivered = settled.delivered, failed = settled.failed,
                        remaining = settled.remaining, queued_ms,
                    );
                    break true;
                }
                // Somebody removed it, or it was set aside because it is damaged: it is no longer
                // in this lane's hands.
                Err(StoreError::NoSuchMessage { .. }) => {
                    tracing::warn!(event = "message_gone", queue_id = %id, account);
                    break true;
                }
                Err(
                    error @ (StoreError::Unaccounted { .. }
                    | StoreError::Misuse { .. }
                    | StoreError::Damaged { .. }),
                ) => {
                    tracing::error!(event = "outcome_never_recorded", queue_id = %id, account, %error);
                    break false;
                }
                Err(error) => {
                    if failures == 0 {
                        self.lock().unrecorded += 1;
                    }
                    failures += 1;
                    tracing::error!(event = "outcome_not_recorded", queue_id = %id, account, %error);
                    sleep(self.schedule.rest(failures, random_spread())).await;
                }
            }
        };
        if failures > 0 {
            self.lock().unrecorded -= 1;
            self.wake.notify_one();
        }
        is_recorded
    }
}
