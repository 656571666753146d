//! Floor 3: what is due when, and what becomes of it.
//!
//! Owns the lanes (one per account), the three ways of delivery, the schedule of attempts and the
//! consequence of every outcome. It never speaks SMTP. The store knows bytes and states; the queue
//! knows when and in what order.
//!
//! Invariant: a message that [`Queue::submit`] called delivered has been taken by upstream for at
//! least one recipient and is accounted for in the store for every other; one that it called queued
//! is committed.

mod lane;
mod schedule;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::base::{Clock, QueueId, Timestamp};
use crate::config::{AccountName, Delivery};
use crate::mail::{Envelope, Status};
use crate::outbound::Upstream;
use crate::queue::lane::Lane;
use crate::store::{Body, Store, StoreError};

pub use schedule::Schedule;

/// A message that a client has handed over completely.
pub struct Submission {
    /// Its id.
    pub id: QueueId,
    /// Whose session it goes through.
    pub account: AccountName,
    /// The client's credential, if it presented one.
    pub credential: Option<String>,
    /// When the end of data arrived.
    pub received_at: Timestamp,
    /// From whom and to whom.
    pub envelope: Envelope,
    /// The lines that go before the client's own.
    pub prologue: Bytes,
    /// What the client sent.
    pub body: Body,
}

/// What the client may be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Upstream has taken it, and said this.
    Delivered(Status),
    /// It is committed here and will be delivered.
    Queued,
    /// Upstream refused it for every recipient, for good.
    Refused(Status),
    /// Nothing is certain yet and nothing was kept: the client has to come again.
    NotNow(Status),
}

/// All lanes.
#[derive(Clone)]
pub struct Queue {
    lanes: Arc<HashMap<AccountName, Arc<Lane>>>,
    store: Store,
    tasks: TaskTracker,
    hurry: CancellationToken,
}

impl Queue {
    /// One lane for each way out.
    pub fn new(
        upstreams: Vec<Upstream>,
        store: Store,
        clock: Clock,
        confirm_within: Duration,
        schedule: Schedule,
    ) -> Self {
        let (tasks, hurry) = (TaskTracker::new(), CancellationToken::new());
        let lanes = upstreams.into_iter().map(|upstream| {
            let name = upstream.account().name.clone();
            let (store, clock) = (store.clone(), clock.clone());
            let (tasks, hurry) = (tasks.clone(), hurry.clone());
            let lane = Lane::new(upstream, store, clock, confirm_within, schedule, tasks, hurry);
            (name, Arc::new(lane))
        });
        Self { lanes: Arc::new(lanes.collect()), store: store.clone(), tasks, hurry }
    }

    /// Takes a message over in the given way. An error means that nothing was promised.
    pub async fn submit(
        &self,
        submission: Submission,
        delivery: Delivery,
    ) -> Result<Verdict, StoreError> {
        let lane = &self.lanes[&submission.account];
        match delivery {
            Delivery::Queue => lane.enqueue(submission).await,
            Delivery::Confirm => lane.confirm(submission).await,
            Delivery::Direct => lane.direct(submission).await,
        }
    }

    /// Delivers what is stored, until told to stop; then waits for attempts to end.
    pub async fn run(&self, stop: CancellationToken) {
        for lane in self.lanes.values() {
            self.tasks.spawn(lane.clone().run(stop.clone()));
            self.tasks.spawn(lane.clone().keep_cool(stop.clone()));
        }
        stop.cancelled().await;
        self.tasks.close();
        self.tasks.wait().await;
        for lane in self.lanes.values() {
            lane.cool_down().await;
        }
    }

    /// The relay is about to stop: whoever waits for a verdict gets what can be had at once, which
    /// in `confirm` mode is a commit.
    pub fn hurry(&self) {
        self.hurry.cancel();
    }

    /// Looks again at what another process may have changed: suspensions, due messages. Every lane
    /// is looked at; the first error is reported.
    pub async fn look_again(&self) -> Result<(), StoreError> {
        let mut result = Ok(());
        for lane in self.lanes.values() {
            result = result.and(lane.look_again().await);
        }
        result
    }

    /// The store that the lanes work on.
    pub fn store(&self) -> &Store {
        &self.store
    }
}
