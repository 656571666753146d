//! One account's lane.
//!
//! Owns what is in flight for the account. Clients that wait for a verdict (`hand_over`) and stored
//! messages (`stored`) take their seats in one line; what their attempts say of the account
//! (`health`) decides when the lane rests. Invariant: a message is in flight at most once.

mod hand_over;
mod health;
mod stored;

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base::{Clock, Printable, QueueId};
use crate::mail::{Class, Outcome, Phase, Status};
use crate::outbound::{Attempted, Message, Progress, Seat, Upstream};
use crate::queue::Schedule;
use crate::store::{QueuedMessage, Store};

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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
}

/// What an attempt counts as that ended in a bug of ours: nobody knows how far it came.
fn bug(recipients: usize) -> Attempted {
    let status = Status::event(Phase::Local, "the attempt ended in a bug of this relay");
    Attempted::Tried(vec![Outcome::new(Class::Uncertain, status); recipients])
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
