//! One account's lane.
//!
//! Owns what is in flight for the account, when the lane rests, and what follows from an attempt.
//! Clients that wait for a verdict and stored messages take their seats in one line. Invariant: a
//! message is in flight at most once.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base::{Clock, Printable, QueueId, Timestamp, limits};
use crate::mail::{Class, Outcome, Phase, Status};
use crate::outbound::{Attempted, Content, Message, Progress, Seat, Upstream};
use crate::queue::schedule::random_spread;
use crate::queue::{Schedule, Submission, Verdict};
use crate::store::{self, QueuedMessage, Store, StoreError};

pub(crate) struct Lane {
    upstream: Arc<Upstream>,
    store: Store,
    clock: Clock,
    confirm_within: Duration,
    schedule: Schedule,
    tasks: TaskTracker,
    state: Mutex<State>,
    /// Something became due, or the lane need not rest any longer.
    wake: Notify,
    /// The relay is to stop: nobody waits for a verdict any longer.
    hurry: CancellationToken,
}

#[derive(Default)]
struct State {
    in_flight: HashSet<QueueId>,
    /// Due messages that are known; the store has the rest.
    window: VecDeque<QueuedMessage>,
    /// No attempt before this moment.
    rests_until: Option<Instant>,
    /// Failures to reach or log in to upstream since the last success.
    failures: u32,
    /// The account needs a person.
    is_suspended: bool,
    /// The suspension is on its way into the store.
    is_suspending: bool,
    /// Messages whose outcome could not be recorded yet. While there is one the lane rests, so that
    /// no more messages go out than a crash would send twice.
    unrecorded: usize,
}

impl State {
    fn rests(&self) -> bool {
        self.unrecorded > 0 || self.rests_until.is_some_and(|until| until > Instant::now())
    }
}

impl Lane {
    pub(crate) fn new(
        upstream: Upstream,
        store: Store,
        clock: Clock,
        confirm_within: Duration,
        schedule: Schedule,
        tasks: TaskTracker,
        hurry: CancellationToken,
    ) -> Self {
        let (upstream, state, wake) = (Arc::new(upstream), Mutex::default(), Notify::new());
        Self { upstream, store, clock, confirm_within, schedule, tasks, state, wake, hurry }
    }

    fn account(&self) -> &str {
        self.upstream.account().name.as_str()
    }

    // --- three ways of delivery ------------------------------------------------------------

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

    fn start(
        self: &Arc<Self>,
        seat: Seat,
        message: Message,
        progress: Arc<Progress>,
    ) -> JoinHandle<Attempted> {
        let upstream = self.upstream.clone();
        // A task of its own: it must not end because a client went away.
        self.tasks.spawn(async move { upstream.attempt(seat, &message, &progress).await })
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

    // --- stored messages -------------------------------------------------------------------

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
    async fn settle(
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

    // --- what an attempt says about the account ----------------------------------------------

    async fn take_notice(&self, attempted: &Attempted) {
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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

/// An attempt that ended in a bug of ours: nobody knows how far it came.
fn gone_wrong(submission: &Submission) -> Attempted {
    bug(submission.envelope.forward_paths.len())
}

fn bug(recipients: usize) -> Attempted {
    let status = Status::event(Phase::Local, "the attempt ended in a bug of this relay");
    Attempted::Tried(vec![Outcome::new(Class::Uncertain, status); recipients])
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

/// One line per attempt and distinct outcome.
fn log_attempt(id: QueueId, account: &str, number: u32, attempted: &Attempted) {
    let line = |outcome: &Outcome, recipients: usize| {
        let Outcome { class, status } = outcome;
        let enhanced = status.enhanced.map(|code| code.to_string());
        let reply = Printable::text(&status.text).to_string();
        tracing::info!(
            event = "attempt", queue_id = %id, account, r#try = number, %class, phase = %status.phase,
            code = status.code, enhanced, reply, recipients,
        );
    };
    match attempted {
        Attempted::Hindered { outcome, .. } => line(outcome, 0),
        Attempted::Tried(outcomes) => {
            let mut rest = &outcomes[..];
            while let Some(first) = rest.first() {
                let same = rest.iter().take_while(|outcome| *outcome == first).count();
                line(first, same);
                rest = &rest[same..];
            }
        }
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
