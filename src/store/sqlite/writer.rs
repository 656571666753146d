//! The thread that writes: group commit, and what happens when a disk fails.
//!
//! Everything that waits is put into one transaction, each piece in a savepoint of its own, and
//! nobody is answered before the one commit has returned. Three ways to fail:
//!
//! 1. A piece of work refuses or finds a full disk: it alone is undone and answered with its error.
//!    If SQLite has thrown the whole transaction away, the others run again without it; nothing of
//!    them had been committed.
//! 2. The commit fails: all of them get the error, and the connection is thrown away. Nothing is
//!    tried again, since after a failed sync nobody knows what is on the disk.
//! 3. The database cannot be used at all: as 2, until it can be opened again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::base::limits;
use crate::store::StoreError;
use crate::store::sqlite::connection::{Opening, Trouble};

/// Bytes that are written to the log before it is copied into the database.
const CHECKPOINT_BYTES: u64 = 8 * 1_048_576;

/// Pages of the log above which readers are made to let it go.
const LONG_LOG_PAGES: i64 = 16_384;

/// Free pages that the file may keep: it grows into them again.
const FREE_PAGES: i64 = 4_096;

/// Free pages that are given back at a time, which is some ten milliseconds of work.
const SHRINK_PAGES: i64 = 4_096;

/// Commits between two looks at the free pages.
const SHRINK_COMMITS: u64 = 16;

/// About what one changed row costs in the log.
const ROW_BYTES: u64 = 2_048;

/// What the writer is told.
pub(super) enum Written {
    /// To be done in the next transaction.
    Work(Box<dyn Work>),
    /// Says a number that moves with changes of others and announced changes of ours.
    Version(oneshot::Sender<Result<u64, StoreError>>),
}

/// A piece of work that can be done again as long as it is not committed.
pub(super) trait Work: Send {
    /// About how many bytes it writes.
    fn weight(&self) -> u64;
    /// True if the version is to move with it.
    fn is_announced(&self) -> bool;
    /// Does it.
    fn run(&mut self, connection: &Connection) -> Result<(), Trouble>;
    /// Tells whoever waits what became of it.
    fn answer(self: Box<Self>, verdict: Result<(), StoreError>);
}

/// Work with its result and its waiter.
pub(super) struct Task<T, W> {
    weight: u64,
    is_announced: bool,
    work: W,
    output: Option<T>,
    waiter: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, W> Task<T, W> {
    pub(super) fn new(
        weight: u64,
        is_announced: bool,
        work: W,
        waiter: oneshot::Sender<Result<T, StoreError>>,
    ) -> Self {
        Self { weight, is_announced, work, output: None, waiter }
    }
}

impl<T, W> Work for Task<T, W>
where
    T: Send,
    W: FnMut(&Connection) -> Result<T, Trouble> + Send,
{
    fn weight(&self) -> u64 {
        self.weight
    }

    fn is_announced(&self) -> bool {
        self.is_announced
    }

    fn run(&mut self, connection: &Connection) -> Result<(), Trouble> {
        self.output = None;
        // A bug in the handling of one message must not end the store for all others.
        let work = AssertUnwindSafe(|| (self.work)(connection));
        let output = catch_unwind(work).unwrap_or_else(|_| {
            Err(StoreError::Misuse { what: "a change panicked".to_owned() }.into())
        })?;
        self.output = Some(output);
        Ok(())
    }

    fn answer(self: Box<Self>, verdict: Result<(), StoreError>) {
        let Self { output, waiter, .. } = *self;
        // Whoever asked may have gone.
        let _ = waiter.send(verdict.and_then(|()| output.ok_or(StoreError::Closed)));
    }
}

/// The writing side of the engine.
pub(super) struct Writer {
    opening: Opening,
    connection: Option<Connection>,
    commits: Arc<AtomicU64>,
    /// Bytes in the log since it was last copied, roughly.
    logged: u64,
    /// Commits at which to look for free pages.
    shrink_at: u64,
    version: u64,
    data_version: Option<i64>,
}

/// How a transaction ended.
enum Ended {
    /// Committed, or nothing to commit; the errors of those that were undone.
    Done(Vec<Result<(), StoreError>>),
    /// The work at this place made SQLite drop the transaction.
    Dropped { at: usize, error: StoreError },
    /// All of it is lost. The connection may be used again only if it is sound.
    Lost { error: StoreError, is_sound: bool },
}

impl Writer {
    pub(super) fn open(opening: Opening, commits: Arc<AtomicU64>) -> Result<Self, StoreError> {
        let connection = Some(opening.writer()?);
        let mut writer = Self {
            opening,
            connection,
            commits,
            logged: 0,
            shrink_at: SHRINK_COMMITS,
            version: 0,
            data_version: None,
        };
        writer.version()?;
        Ok(writer)
    }

    /// Works until nobody can ask any more.
    pub(super) fn run(mut self, mut inbox: mpsc::Receiver<Written>) {
        while let Some(first) = inbox.blocking_recv() {
            let (mut group, mut weight, mut curious) = (Vec::new(), 0_u64, Vec::new());
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Written::Work(work) => {
                        weight += work.weight();
                        group.push(work);
                    }
                    Written::Version(waiter) => curious.push(waiter),
                }
                if group.len() < limits::GROUP_COMMIT && weight < limits::GROUP_COMMIT_BYTES {
                    next = inbox.try_recv().ok();
                }
            }
            self.commit(group);
            for waiter in curious {
                let _ = waiter.send(self.version());
            }
            self.empty_log();
            self.shrink();
        }
    }

    /// Does all of it in one transaction and answers everybody.
    fn commit(&mut self, mut group: Vec<Box<dyn Work>>) {
        while !group.is_empty() {
            match self.transact(&mut group) {
                Ended::Done(verdicts) => {
                    self.announce(&group);
                    for (work, verdict) in group.into_iter().zip(verdicts) {
                        work.answer(verdict);
                    }
                    return;
                }
                Ended::Dropped { at, error } => group.remove(at).answer(Err(error)),
                Ended::Lost { error, is_sound } => {
                    if !is_sound {
                        self.connection = None;
                    }
                    // A commit that failed may have reached the disk all the same.
                    self.announce(&group);
                    for work in group {
                        work.answer(Err(error.clone()));
                    }
                    return;
                }
            }
        }
    }

    fn announce(&mut self, group: &[Box<dyn Work>]) {
        self.version += u64::from(group.iter().any(|work| work.is_announced()));
    }

    fn transact(&mut self, group: &mut [Box<dyn Work>]) -> Ended {
        let path = self.opening.path().to_owned();
        let lost = |trouble: Trouble, is_sound| Ended::Lost {
            error: trouble.into_store_error(&path),
            is_sound,
        };
        let connection = match self.connection() {
            Ok(connection) => connection,
            Err(error) => return Ended::Lost { error, is_sound: false },
        };
        if let Err(error) = execute(connection, "BEGIN IMMEDIATE") {
            let is_sound = !error.is_fatal();
            return lost(error, is_sound);
        }
        let changes_before = connection.total_changes();
        let mut verdicts = Vec::with_capacity(group.len());
        let mut weight = 0;
        for (at, work) in group.iter_mut().enumerate() {
            let verdict = match in_savepoint(connection, work.as_mut()) {
                Ok(verdict) => verdict,
                Err(trouble) => return lost(trouble, false),
            };
            match verdict {
                Ok(()) => {
                    weight += work.weight();
                    verdicts.push(Ok(()));
                }
                Err(trouble) if trouble.is_fatal() => return lost(trouble, false),
                Err(trouble) => {
                    let error = trouble.into_store_error(&path);
                    if connection.is_autocommit() {
                        return Ended::Dropped { at, error };
                    }
                    verdicts.push(Err(error));
                }
            }
        }
        let changed = connection.total_changes() - changes_before;
        if verdicts.iter().all(Result::is_err) {
            return match execute(connection, "ROLLBACK") {
                Ok(()) => Ended::Done(verdicts),
                Err(trouble) => lost(trouble, false),
            };
        }
        match execute(connection, "COMMIT") {
            Ok(()) => {
                self.logged += weight + changed * ROW_BYTES;
                self.commits.fetch_add(1, Ordering::Relaxed);
                Ended::Done(verdicts)
            }
            Err(trouble) => lost(trouble, false),
        }
    }

    /// The connection, opened again if the last one failed.
    fn connection(&mut self) -> Result<&Connection, StoreError> {
        if self.connection.is_none() {
            self.connection = Some(self.opening.writer()?);
            // Whatever was read before may be wrong now.
            self.data_version = None;
        }
        let connection = self.connection.as_ref().ok_or(StoreError::Closed)?;
        self.opening
            .limit(connection)
            .map_err(|trouble| trouble.into_store_error(self.opening.path()))?;
        Ok(connection)
    }

    fn version(&mut self) -> Result<u64, StoreError> {
        let found = self
            .connection()?
            .pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0))
            .map_err(|error| StoreError::from_sqlite(self.opening.path(), &error))?;
        if self.data_version != Some(found) {
            self.data_version = Some(found);
            self.version += 1;
        }
        Ok(self.version)
    }

    /// Copies the log into the database when it has grown, after everybody was answered. What is in
    /// the log is as safe as what is in the database, so a failure here loses nothing.
    fn empty_log(&mut self) {
        if self.logged < CHECKPOINT_BYTES {
            return;
        }
        self.logged = 0;
        let Some(connection) = &self.connection else { return };
        let checkpoint = |sql: &str| {
            connection.query_row(sql, [], |row| row.get::<_, i64>(1)).map_err(Trouble::Sql)
        };
        let emptied = checkpoint("PRAGMA wal_checkpoint(PASSIVE)").and_then(|pages| {
            match pages > LONG_LOG_PAGES {
                true => checkpoint("PRAGMA wal_checkpoint(TRUNCATE)"),
                false => Ok(pages),
            }
        });
        if let Err(trouble) = emptied {
            self.upkeep_failed(trouble);
        }
    }

    /// Gives free pages back to the file system, some at a time, when most of the file is free: what
    /// a long outage has filled must not stay full.
    fn shrink(&mut self) {
        let commits = self.commits.load(Ordering::Relaxed);
        if commits < self.shrink_at {
            return;
        }
        self.shrink_at = commits + SHRINK_COMMITS;
        let Some(connection) = &self.connection else { return };
        let count = |name: &str| connection.pragma_query_value(None, name, |r| r.get::<_, i64>(0));
        let shrunk = (|| {
            let (free, all) = (count("freelist_count")?, count("page_count")?);
            if free > FREE_PAGES && free * 2 > all {
                let mut shrink = connection
                    .prepare_cached(&format!("PRAGMA incremental_vacuum({SHRINK_PAGES})"))?;
                let mut pages = shrink.query([])?;
                while pages.next()?.is_some() {}
            }
            Ok(())
        })();
        if let Err(error) = shrunk {
            self.upkeep_failed(Trouble::Sql(error));
        }
    }

    /// Nobody waits for upkeep, and nothing is lost by its failure.
    fn upkeep_failed(&mut self, trouble: Trouble) {
        if trouble.is_fatal() {
            self.connection = None;
        }
        let error = trouble.into_store_error(self.opening.path());
        tracing::warn!(%error, "store_upkeep_failed");
    }
}

/// Runs one piece of work so that it can be undone alone. The outer error is one of the savepoint
/// itself, after which the transaction cannot be trusted.
fn in_savepoint(
    connection: &Connection,
    work: &mut dyn Work,
) -> Result<Result<(), Trouble>, Trouble> {
    execute(connection, "SAVEPOINT work")?;
    let verdict = work.run(connection);
    if connection.is_autocommit() {
        // The transaction is gone, and the savepoint with it.
        let gone = || Trouble::Store(StoreError::Closed);
        return Ok(Err(verdict.err().unwrap_or_else(gone)));
    }
    if verdict.is_err() {
        execute(connection, "ROLLBACK TO work")?;
    }
    execute(connection, "RELEASE work")?;
    Ok(verdict)
}

fn execute(connection: &Connection, sql: &str) -> Result<(), Trouble> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}
