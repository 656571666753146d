//! Opening connections, and telling one broken request from a broken database.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::store::StoreError;
use crate::store::sqlite::schema;

/// How long to wait for another process's transaction. Ours take milliseconds; a backup tool may
/// hold the database for a second or two.
const BUSY: Duration = Duration::from_secs(10);

/// Prepared statements that a connection keeps: all that we have.
const STATEMENTS: usize = 64;

/// Bytes that the log keeps on the disk once it has been emptied.
const LOG_BYTES: i64 = 16 * 1_048_576;

/// Kibibytes of pages that a connection may keep in memory.
const CACHE_KIBIBYTES: i64 = 4_096;

/// How to open the database, as often as that is needed.
#[derive(Clone, Debug)]
pub(super) struct Opening {
    path: PathBuf,
    #[cfg(test)]
    max_pages: Option<std::sync::Arc<std::sync::atomic::AtomicU32>>,
}

impl Opening {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            #[cfg(test)]
            max_pages: None,
        }
    }

    /// The database may never grow beyond so many pages: a disk that is full. Can be changed while
    /// the database is open; a value of 0 is no limit.
    #[cfg(test)]
    pub(super) fn with_max_pages(
        mut self,
        max_pages: std::sync::Arc<std::sync::atomic::AtomicU32>,
    ) -> Self {
        self.max_pages = Some(max_pages);
        self
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// A connection that writes; makes or updates the tables.
    pub(super) fn writer(&self) -> Result<Connection, StoreError> {
        self.connect()
            .and_then(|mut connection| {
                schema::prepare(&connection)?;
                // FULL: the log is synced before a commit returns.
                connection.pragma_update(None, "synchronous", "FULL")?;
                // The writer empties the log itself, after it has answered whoever waits.
                connection.pragma_update(None, "wal_autocheckpoint", 0)?;
                connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
                schema::migrate(&mut connection, schema::MIGRATIONS)?;
                self.limit(&connection)?;
                Ok(connection)
            })
            .map_err(|trouble| trouble.into_store_error(&self.path))
    }

    /// A connection that only reads.
    pub(super) fn reader(&self) -> Result<Connection, StoreError> {
        self.connect()
            .and_then(|connection| {
                connection.pragma_update(None, "query_only", true)?;
                Ok(connection)
            })
            .map_err(|trouble| trouble.into_store_error(&self.path))
    }

    fn connect(&self) -> Result<Connection, Trouble> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        // NOFOLLOW refuses links on the way to the folder, too; that way is the administrator's.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIBIBYTES)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        Ok(connection)
    }

    #[cfg(test)]
    pub(super) fn limit(&self, connection: &Connection) -> Result<(), Trouble> {
        if let Some(max_pages) = &self.max_pages {
            let pages = match max_pages.load(std::sync::atomic::Ordering::SeqCst) {
                0 => 4_294_967_294,
                pages => i64::from(pages),
            };
            connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?;
        }
        Ok(())
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "only tests have a limit")]
    pub(super) fn limit(&self, _connection: &Connection) -> Result<(), Trouble> {
        Ok(())
    }
}

/// What went wrong inside a transaction.
#[derive(Debug)]
pub(in crate::store) enum Trouble {
    /// SQLite said so.
    Sql(rusqlite::Error),
    /// We said so.
    Store(StoreError),
}

impl Trouble {
    /// True if the connection, and not just the request, has failed.
    pub(super) fn is_fatal(&self) -> bool {
        matches!(
            self,
            Self::Sql(error) if matches!(
                error.sqlite_error_code(),
                Some(
                    ErrorCode::SystemIoFailure
                        | ErrorCode::DatabaseCorrupt
                        | ErrorCode::NotADatabase
                        | ErrorCode::CannotOpen
                        | ErrorCode::FileLockingProtocolFailed
                        | ErrorCode::ReadOnly
                        | ErrorCode::OutOfMemory
                        | ErrorCode::InternalMalfunction
                        | ErrorCode::ApiMisuse
                )
            )
        )
    }

    pub(super) fn into_store_error(self, path: &Path) -> StoreError {
        match self {
            Self::Sql(error) => StoreError::from_sqlite(path, &error),
            Self::Store(error) => error,
        }
    }
}

impl From<rusqlite::Error> for Trouble {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
