//! The embedded engine: SQLite with a write-ahead log, one thread that writes and one that reads.
//!
//! Owns the connections. The writer drains what is waiting into one transaction and syncs once
//! ([`writer`]); the reader streams bodies and looks for due messages beside it, so that neither
//! waits for a commit. Other processes may have the same database open.
//!
//! Invariants: `synchronous = FULL`, so a commit that returned is on the disk; a connection that
//! failed is never used again; nobody is told of success before the commit.

mod accounts;
mod connection;
mod lookups;
mod messages;
mod reader;
mod rows;
mod schema;
#[cfg(test)]
mod tests;
mod worker;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::base::limits;
use crate::store::StoreError;
use crate::store::directory::DataDir;

pub(super) use accounts::{AccountRows, GrantRow};
pub(super) use connection::Trouble;
pub(super) use messages::{Damage, MessageRows};

use connection::Opening;
use reader::Question;
use worker::Worker;
use writer::{Task, Writer, Written};

/// The two threads and what one says to them.
pub(super) struct Engine {
    // The reader goes first: whoever closes the database last empties the log.
    reader: Worker<Question>,
    writer: Worker<Written>,
    commits: Arc<AtomicU64>,
}

impl Engine {
    /// Opens the database, brings its schema up to date and starts both threads.
    pub(super) fn open(directory: &DataDir) -> Result<Self, StoreError> {
        Self::open_with(Opening::new(directory.database()))
    }

    fn open_with(opening: Opening) -> Result<Self, StoreError> {
        let commits = Arc::new(AtomicU64::new(0));
        let writer = Writer::open(opening.clone(), Arc::clone(&commits))?;
        let reader = reader::Reader::open(opening)?;
        Ok(Self {
            reader: Worker::start("store-reader", move |inbox| reader.run(inbox))?,
            writer: Worker::start("store-writer", move |inbox| writer.run(inbox))?,
            commits,
        })
    }

    /// Transactions that were committed, and so synced, by this handle.
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Runs `work` in the next transaction and returns once that is on the disk. `work` may run more
    /// than once, each time on a database that has not seen it. `weight` is about how many bytes it
    /// writes. If the future is dropped the work is done all the same.
    pub(super) async fn write<T, W>(&self, weight: u64, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnMut(&Connection) -> Result<T, Trouble> + Send + 'static,
    {
        self.do_work(weight, false, work).await
    }

    /// As [`Engine::write`], and the version moves with it.
    pub(super) async fn change<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnMut(&Connection) -> Result<T, Trouble> + Send + 'static,
    {
        self.do_work(0, true, work).await
    }

    async fn do_work<T, W>(&self, weight: u64, is_announced: bool, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnMut(&Connection) -> Result<T, Trouble> + Send + 'static,
    {
        let (waiter, answer) = oneshot::channel();
        let task = Task::new(weight, is_announced, work, waiter);
        self.writer.send(Written::Work(Box::new(task))).await?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Runs `question` on what is committed, as of one moment.
    pub(super) async fn read<T, Q>(&self, question: Q) -> Result<T, StoreError>
    where
        T: Send + 'static,
        Q: FnOnce(&Connection) -> Result<T, Trouble> + Send + 'static,
    {
        let (waiter, answer) = oneshot::channel();
        self.reader.send(reader::question(question, waiter)).await?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// How many wait for the writer.
    #[cfg(test)]
    fn writer_backlog(&self) -> usize {
        self.writer.backlog()
    }

    /// A number that moves when another connection, of whatever process, has committed anything, or
    /// this one an announced change.
    pub(super) async fn version(&self) -> Result<u64, StoreError> {
        let (waiter, answer) = oneshot::channel();
        self.writer.send(Written::Version(waiter)).await?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// A channel to a thread: whoever sends waits when it is full.
fn channel<M>() -> (mpsc::Sender<M>, mpsc::Receiver<M>) {
    mpsc::channel(limits::GROUP_COMMIT)
}
