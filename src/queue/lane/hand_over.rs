//! Taking a message over from a client, in the three ways of delivery.
//!
//! Owns what the client is told. Invariant: a message is called queued only when it is committed, and
//! a recipient whom upstream refused is either told to the client or kept in the store.

use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::{Lane, bug, log_attempt};
use crate::base::{QueueId, Timestamp};
use crate::mail::{Class, Outcome, Phase, Status};
use crate::outbound::{Attempted, Content, Message, Progress, Seat};
use crate::queue::schedule::random_spread;
use crate::queue::{Submission, Verdict};
use crate::store::{self, StoreError};

impl Lane {
    /// Commit first, deliver later.
    pub(crate) async fn enqueue(&self, submission: Submission) -> Result<Verdict, StoreError> {
        self.commit(submission, Vec::new(), 0, self.clock.now()).await?;
        self.wake.notify_one();
        Ok(Verdict::Queued)
    }

    /// Upstream's verdict if it comes in time, else commit.
    pub(crate) async fn confirm(
        self: &Arc<Self>,
        submission: Submission,
    ) -> Result<Verdict, StoreError> {
        let deadline = Instant::now() + self.confirm_within;
        let Some(seat) = self.seat_in_time(deadline).await else {
            return self.enqueue(submission).await;
        };
        let progress = Arc::<Progress>::default();
        let mut attempt = self.start(seat, fresh_message(&submission), progress.clone());
        let Some(attempted) = self.in_time(deadline, &mut attempt).await else {
            return self.commit_in_flight(submission, attempt, &progress).await;
        };
        let attempted = attempted.unwrap_or_else(|_| gone_wrong(&submission));
        log_attempt(submission.id, self.account(), 1, &attempted);
        self.take_notice(&attempted).await;
        let outcomes = match attempted {
            Attempted::Hindered { .. } => return self.enqueue(submission).await,
            Attempted::Tried(outcomes) => outcomes,
        };
        let verdict = verdict_of(&outcomes);
        let is_settled = outcomes.iter().all(|outcome| outcome.class == Class::Delivered);
        if is_settled || matches!(verdict, Verdict::Refused(_)) {
            return Ok(verdict);
        }
        // What waits for a quota or for a person has not used an attempt up.
        let is_charged = |outcome: &Outcome| !matches!(outcome.class, Class::Hold | Class::Suspend);
        let attempts = u32::from(outcomes.iter().any(is_charged));
        let next_attempt_at = self.clock.now() + self.schedule.retry(1, random_spread());
        self.commit(submission, outcomes, attempts, next_attempt_at).await?;
        self.wake.notify_one();
        Ok(verdict)
    }

    /// Upstream's verdict or none; nothing is kept.
    pub(crate) async fn direct(
        self: &Arc<Self>,
        submission: Submission,
    ) -> Result<Verdict, StoreError> {
        let deadline = Instant::now() + self.confirm_within;
        let not_now = |text: &str| Ok(Verdict::NotNow(Status::event(Phase::Local, text)));
        let Some(seat) = self.seat_in_time(deadline).await else {
            return not_now("upstream cannot be reached at the moment, or its sessions are busy");
        };
        let progress = Arc::<Progress>::default();
        let mut attempt = self.start(seat, fresh_message(&submission), progress.clone());
        let attempted = match self.in_time(deadline, &mut attempt).await {
            Some(attempted) => attempted,
            // Once upstream knows of the message only its answer counts: an answer of ours could
            // make the client send a second copy.
            None if progress.has_begun() => attempt.await,
            None => {
                attempt.abort();
                return not_now("upstream did not answer in time");
            }
        };
        let attempted = attempted.unwrap_or_else(|_| gone_wrong(&submission));
        log_attempt(submission.id, self.account(), 1, &attempted);
        self.take_notice(&attempted).await;
        Ok(match attempted {
            Attempted::Hindered { outcome, .. } => Verdict::NotNow(outcome.status),
            Attempted::Tried(outcomes) => direct_verdict(&submission, &outcomes),
        })
    }

    /// A seat, unless the lane rests or none is free in time.
    async fn seat_in_time(&self, deadline: Instant) -> Option<Seat> {
        if self.lock().rests() {
            return None;
        }
        let seat = self.in_time(deadline, self.upstream.seat()).await?;
        // Whoever had the seat before may have found out that there is no use in trying.
        (!self.lock().rests()).then_some(seat)
    }

    /// The result if it comes before the deadline and before the relay is told to stop.
    async fn in_time<T>(&self, deadline: Instant, result: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            result = result => Some(result),
            () = self.hurry.cancelled() => None,
            () = sleep_until(deadline) => None,
        }
    }

    /// The verdict is not there in time, but the attempt goes on: the message is committed as being
    /// in flight, and the attempt's result is settled when it comes.
    async fn commit_in_flight(
        self: &Arc<Self>,
        submission: Submission,
        attempt: JoinHandle<Attempted>,
        progress: &Progress,
    ) -> Result<Verdict, StoreError> {
        let (id, received_at) = (submission.id, submission.received_at);
        let count = submission.envelope.forward_paths.len();
        self.lock().in_flight.insert(id);
        if let Err(error) = self.commit(submission, Vec::new(), 0, self.clock.now()).await {
            return self.end_uncommitted(id, count, attempt, progress, error).await;
        }
        let lane = self.clone();
        self.tasks.spawn(async move {
            let attempted = attempt.await.unwrap_or_else(|_| bug(count));
            log_attempt(id, lane.account(), 1, &attempted);
            let indices = (0..).take(count).collect::<Vec<u32>>();
            lane.settle(id, received_at, &indices, 0, attempted).await;
        });
        Ok(Verdict::Queued)
    }

    /// The commit has failed while an attempt is under way. If upstream knows of the message, its
    /// verdict is the only one that nobody has to take back.
    async fn end_uncommitted(
        &self,
        id: QueueId,
        count: usize,
        attempt: JoinHandle<Attempted>,
        progress: &Progress,
        error: StoreError,
    ) -> Result<Verdict, StoreError> {
        let verdict = match progress.has_begun() {
            false => {
                attempt.abort();
                Err(error)
            }
            true => {
                let attempted = attempt.await.unwrap_or_else(|_| bug(count));
                log_attempt(id, self.account(), 1, &attempted);
                self.take_notice(&attempted).await;
                match attempted {
                    Attempted::Hindered { .. } => Err(error),
                    Attempted::Tried(outcomes) => match verdict_of(&outcomes) {
                        Verdict::Queued => Err(error),
                        verdict => Ok(verdict),
                    },
                }
            }
        };
        self.lock().in_flight.remove(&id);
        verdict
    }

    async fn commit(
        &self,
        submission: Submission,
        outcomes: Vec<Outcome>,
        attempts: u32,
        next_attempt_at: Timestamp,
    ) -> Result<(), StoreError> {
        let Submission { id, credential, received_at, envelope, prologue, body, .. } = submission;
        let submission = store::Submission {
            id,
            account: self.account().to_owned(),
            credential,
            received_at,
            next_attempt_at,
            envelope,
            prologue: prologue.to_vec(),
            body,
            first_outcomes: (0..).zip(outcomes).collect(),
            attempts,
        };
        self.store.submit(submission).await
    }
}

fn fresh_message(submission: &Submission) -> Message {
    Message {
        id: submission.id,
        envelope: submission.envelope.clone(),
        size: submission.prologue.len() as u64 + submission.body.len(),
        content: Content::Fresh {
            prologue: submission.prologue.clone(),
            body: submission.body.clone(),
        },
    }
}

fn gone_wrong(submission: &Submission) -> Attempted {
    bug(submission.envelope.forward_paths.len())
}

/// What the client of a fresh message is told: the worst news that is certain, unless there is a
/// recipient whom the message has reached or may still reach.
fn verdict_of(outcomes: &[Outcome]) -> Verdict {
    let of = |class| outcomes.iter().find(move |outcome| outcome.class == class);
    if outcomes.iter().any(is_open) {
        return Verdict::Queued;
    }
    match (of(Class::Delivered), of(Class::Fail)) {
        (Some(delivered), _) => Verdict::Delivered(delivered.status.clone()),
        (None, Some(failed)) => Verdict::Refused(failed.status.clone()),
        (None, None) => Verdict::Queued,
    }
}

/// What the client of a message that nobody here keeps is told. It has to hear of every recipient
/// who did not get it, and can be told one thing only.
fn direct_verdict(submission: &Submission, outcomes: &[Outcome]) -> Verdict {
    if let Some(open) = outcomes.iter().find(|outcome| is_open(outcome)) {
        return Verdict::NotNow(open.status.clone());
    }
    let paths = submission.envelope.forward_paths.iter();
    let mut failed = paths.zip(outcomes).filter(|(_, outcome)| outcome.class == Class::Fail);
    match failed.next() {
        None => verdict_of(outcomes),
        Some((path, outcome)) => {
            let mut status = outcome.status.clone();
            if outcomes.iter().any(|outcome| outcome.class == Class::Delivered) {
                status.text = format!("refused for {path}, sent to the others: {}", status.text);
            }
            Verdict::Refused(status)
        }
    }
}

/// Not settled: it may yet be delivered.
fn is_open(outcome: &Outcome) -> bool {
    match outcome.class {
        Class::Delivered | Class::Fail => false,
        Class::Defer | Class::Hold | Class::Suspend | Class::Uncertain => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(class: Class) -> Outcome {
        Outcome::new(class, Status::event(Phase::Final, class.as_str()))
    }

    #[test]
    fn a_client_hears_the_worst_that_is_certain() {
        use Class::*;
        for (classes, expected) in [
            (vec![Delivered, Delivered], "delivered"),
            (vec![Delivered, Fail], "delivered"),
            (vec![Fail, Fail], "refused"),
            (vec![Fail, Defer], "queued"),
            (vec![Delivered, Uncertain], "queued"),
            (vec![Suspend], "queued"),
            (vec![Hold], "queued"),
        ] {
            let outcomes: Vec<_> = classes.iter().copied().map(outcome).collect();
            let name = match verdict_of(&outcomes) {
                Verdict::Delivered(_) => "delivered",
                Verdict::Queued => "queued",
                Verdict::Refused(_) => "refused",
                Verdict::NotNow(_) => "not now",
            };
            assert_eq!(name, expected, "{classes:?}");
        }
    }
}
