//! The tables, and how an older database becomes a new one.
//!
//! [`MIGRATIONS`] only ever grows at its end: what has been released is never edited. The number of
//! migrations that a database has seen is its `user_version`. Times are milliseconds since the Unix
//! epoch. Digests are the first 16 bytes of SHA-256 over the columns that never change, so that a
//! damaged record is recognised and not sent to somebody else.

use rusqlite::{Connection, TransactionBehavior};

use crate::store::StoreError;
use crate::store::sqlite::connection::Trouble;

/// Marks a database as ours: "mbea".
const APPLICATION_ID: i64 = 0x6d62_6561;

/// Each is run once, in order, in one transaction with those that are missing.
pub(super) const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE message (
        serial          INTEGER PRIMARY KEY,
        id              TEXT    NOT NULL UNIQUE,
        account         TEXT    NOT NULL,
        state           TEXT    NOT NULL CHECK (state IN ('queued', 'failed', 'aside')),
        next_attempt_at INTEGER NOT NULL,
        attempts        INTEGER NOT NULL,
        credential      TEXT,
        received_at     INTEGER NOT NULL,
        reverse_path    TEXT    NOT NULL,
        eight_bit       INTEGER NOT NULL,
        smtputf8        INTEGER NOT NULL,
        size            INTEGER NOT NULL,   -- bytes of prologue and body
        chunks          INTEGER NOT NULL,
        recipients      INTEGER NOT NULL,   -- as accepted
        delivered       INTEGER NOT NULL,   -- of them; their rows are gone
        damage          TEXT,               -- why it is set aside
        digest          BLOB    NOT NULL
    ) STRICT;

    CREATE INDEX message_due ON message (account, state, next_attempt_at, id);

    CREATE TABLE recipient (
        message      INTEGER NOT NULL REFERENCES message ON DELETE CASCADE,
        position     INTEGER NOT NULL,
        forward_path TEXT    NOT NULL,
        state        TEXT    NOT NULL CHECK (state IN ('queued', 'failed')),
        class        TEXT,
        last_status  TEXT,
        uncertain    INTEGER NOT NULL,
        digest       BLOB    NOT NULL,
        PRIMARY KEY (message, position)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE chunk (
        serial   INTEGER PRIMARY KEY,
        message  INTEGER NOT NULL REFERENCES message ON DELETE CASCADE,
        position INTEGER NOT NULL,
        digest   BLOB    NOT NULL,
        bytes    BLOB    NOT NULL,
        UNIQUE (message, position)
    ) STRICT;

    CREATE TABLE totals (
        account   TEXT    PRIMARY KEY,
        accepted  INTEGER NOT NULL,
        delivered INTEGER NOT NULL,
        queued    INTEGER NOT NULL,
        failed    INTEGER NOT NULL,
        uncertain INTEGER NOT NULL,
        CONSTRAINT accounted CHECK (accepted = delivered + queued + failed
            AND delivered >= 0 AND queued >= 0 AND failed >= 0)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE account_grant (
        account       TEXT    PRIMARY KEY,
        version       INTEGER NOT NULL,
        is_present    INTEGER NOT NULL,   -- 0: it was removed, and only its version is kept
        refresh_token BLOB,               -- sealed
        access_token  BLOB,               -- sealed
        expires_at    INTEGER,
        obtained_at   INTEGER NOT NULL,
        obtained_by   TEXT
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE lease (
        account TEXT    PRIMARY KEY,
        holder  TEXT    NOT NULL,
        until   INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE suspension (
        account TEXT    PRIMARY KEY,
        reason  TEXT    NOT NULL,
        since   INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE credential (
        name          TEXT    PRIMARY KEY,
        password_hash TEXT    NOT NULL,
        account       TEXT    NOT NULL,
        may_send_as   TEXT    NOT NULL,   -- JSON array
        may_send_to   TEXT    NOT NULL,   -- JSON array
        created_at    INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
    "
    ALTER TABLE account_grant ADD COLUMN retired TEXT;   -- why it can no longer renew
",
    "
    ALTER TABLE account_grant ADD COLUMN origin_how TEXT;     -- all three or none
    ALTER TABLE account_grant ADD COLUMN origin_at  INTEGER;
    ALTER TABLE account_grant ADD COLUMN bound_to   TEXT;     -- the configuration it belongs to

    CREATE TABLE token_trouble (
        account TEXT    PRIMARY KEY,
        reason  TEXT    NOT NULL,
        at      INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
",
];

/// What has to be said of a database before its first table is made.
pub(super) fn prepare(connection: &Connection) -> Result<(), Trouble> {
    let application: i64 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != 0 && application != APPLICATION_ID {
        return Err(foreign(connection).into());
    }
    if version == 0 {
        // Lets the file shrink again after a long outage; can be chosen for an empty file only.
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
    }
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    match mode.as_str() {
        "wal" => Ok(()),
        other => Err(StoreError::Disk {
            doing: "switching to a write-ahead log",
            path: connection.path().unwrap_or_default().into(),
            cause: format!("SQLite stays with {other}: data_dir has to be on a local disk"),
        }
        .into()),
    }
}

/// Brings the tables up to date. Several processes may try at the same time.
pub(super) fn migrate(connection: &mut Connection, migrations: &[&str]) -> Result<(), Trouble> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found: u32 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = u32::try_from(migrations.len()).unwrap_or(u32::MAX);
    if found > known {
        return Err(StoreError::TooNew {
            path: transaction.path().unwrap_or_default().into(),
            found: found.into(),
            known: known.into(),
        }
        .into());
    }
    if found == 0 {
        let tables: i64 =
            transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 {
            return Err(foreign(&transaction).into());
        }
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    for migration in &migrations[found as usize..] {
        transaction.execute_batch(migration)?;
    }
    if found < known {
        transaction.pragma_update(None, "user_version", known)?;
        transaction.commit()?;
    }
    Ok(())
}

fn foreign(connection: &Connection) -> StoreError {
    StoreError::Damaged {
        what: format!("{} is a database of another program", connection.path().unwrap_or_default()),
        remedy: "name another data_dir".to_owned(),
    }
}
