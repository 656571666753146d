//! What can go wrong in the store: what happened, why, and what to do next.
//!
//! Owns [`StoreError`] and the reading of errors of the operating system and of SQLite. The texts are
//! for an administrator. They never hold a secret and never claim that something was stored.

use std::io;
use std::path::{Path, PathBuf};

use crate::base::QueueId;

/// Why the store could not do what it was asked for.
///
/// It is cheap to clone, since a failed commit is the answer to everybody who waited for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no room for what was to be written; nothing of it is kept.
    #[error(
        "no room left on the disk that holds {} ({cause}): free space there, or move data_dir to a \
         larger disk", path.display()
    )]
    Full {
        /// The database or the folder.
        path: PathBuf,
        /// What the operating system or SQLite said.
        cause: String,
    },
    /// The disk failed. What was to be written may or may not be there, and nothing that was not
    /// answered with success may be relied on.
    #[error(
        "the disk failed while {doing} {}: {cause}; look into the kernel log (`dmesg`) for the \
         reason", path.display()
    )]
    Disk {
        /// What was being done: "writing", "syncing".
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system or SQLite said.
        cause: String,
    },
    /// What was read is not what was written.
    #[error("damaged data in the store: {what}; restore data_dir from a backup, or {remedy}")]
    Damaged {
        /// What is damaged, and how that shows.
        what: String,
        /// What helps without a backup.
        remedy: String,
    },
    /// A secret was sealed with another key than the one in `seal.key`.
    #[error(
        "{what} was sealed with key {sealed_with}, but {} holds key {present}: put the right key \
         file back, or obtain a new grant with `mailbearer login`", path.display()
    )]
    WrongKey {
        /// What could not be opened.
        what: String,
        /// The id of the key that sealed it.
        sealed_with: String,
        /// The id of the key that we have.
        present: String,
        /// The key file.
        path: PathBuf,
    },
    /// Somebody else changed the grant since it was read.
    #[error(
        "the grant of {account} was changed meanwhile (version {found} instead of {expected}): \
         read it again"
    )]
    Conflict {
        /// The account.
        account: String,
        /// The version that the caller had read; 0 is none.
        expected: u64,
        /// The version that is there; 0 is none.
        found: u64,
    },
    /// The numbers of a message's or an account's recipients do not add up: a bug. Nothing of the
    /// change was kept.
    #[error("the count of recipients does not add up for {what}; please report this as a bug")]
    Unaccounted {
        /// Of what, with the numbers.
        what: String,
    },
    /// A file or folder can be read by others or belongs to another user.
    #[error("{}: {found}; {remedy}", path.display())]
    Exposed {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
        /// The command to run.
        remedy: String,
    },
    /// Another daemon works on this data_dir.
    #[error(
        "another mailbearer daemon ({holder}) holds {}: stop it first, or give this one a data_dir \
         of its own", path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// What the lock file says of its holder.
        holder: String,
    },
    /// Another process kept the database locked for longer than we wait.
    #[error(
        "another process kept {} locked for too long: look for a mailbearer command, a backup or a \
         database tool that hangs", path.display()
    )]
    Busy {
        /// The database.
        path: PathBuf,
    },
    /// The database was written by a newer version.
    #[error(
        "{} has format {found}, and this version of mailbearer knows formats up to {known}: \
         install the newer version again", path.display()
    )]
    TooNew {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that we know.
        known: u64,
    },
    /// There is no such message waiting: it was delivered, removed, or never here.
    #[error("there is no message {0} waiting in the store")]
    NoSuchMessage(QueueId),
    /// Something of that name is there already.
    #[error("{what} exists already: remove it first to replace it")]
    Exists {
        /// What.
        what: String,
    },
    /// The caller asked for what makes no sense: a bug.
    #[error("the store was used wrongly: {what}; please report this as a bug")]
    Misuse {
        /// In what way.
        what: String,
    },
    /// The store's thread has ended.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// True if the disk or the database as a whole is in trouble, and not just one request.
    pub fn is_trouble_with_the_disk(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Disk { .. } | Self::Damaged { .. })
    }

    /// From an error of the operating system.
    pub(super) fn from_io(doing: &'static str, path: &Path, error: &io::Error) -> Self {
        let (path, cause) = (path.to_owned(), error.to_string());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, cause },
            _ => Self::Disk { doing, path, cause },
        }
    }

    /// From an error of SQLite on the database at `path`.
    pub(super) fn from_sqlite(path: &Path, error: &rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;

        let (path, cause) = (path.to_owned(), error.to_string());
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full { path, cause },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged {
                what: format!("{}: {cause}", path.display()),
                remedy: "run `sqlite3 … .recover` on a copy of it".to_owned(),
            },
            Some(_) => Self::Disk { doing: "working on", path, cause },
            None => Self::Damaged {
                what: format!("{}: {cause}", path.display()),
                remedy: "report this as a bug".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let path = Path::new("/var/lib/mailbearer");
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let broken = io::Error::other("input/output error");
        let full = StoreError::from_io("writing", path, &full);
        let broken = StoreError::from_io("syncing", path, &broken);
        assert!(matches!(full, StoreError::Full { .. }));
        assert!(full.to_string().contains("/var/lib/mailbearer"), "{full}");
        assert!(matches!(broken, StoreError::Disk { doing: "syncing", .. }));
        assert!(full.is_trouble_with_the_disk() && broken.is_trouble_with_the_disk());
        assert!(!StoreError::Closed.is_trouble_with_the_disk());
    }
}
