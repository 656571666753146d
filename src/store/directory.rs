//! The data directory: who may read it, and which daemon works on it.
//!
//! Owns the checks of modes and owners, the making of files that survive a crash (the folder is
//! synced behind them) and the [`DaemonLock`]. Invariants: the folder is 0700, every file of ours in
//! it 0600, all of them ours; anything wider or foreign is refused and never repaired in silence,
//! since whoever could read it may have done so.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::Printable;
use crate::store::StoreError;

/// The database.
const DATABASE: &str = "mailbearer.db";

/// The key that seals secrets.
const SEAL_KEY: &str = "seal.key";

/// Locked while a daemon runs.
const DAEMON_LOCK: &str = "daemon.lock";

/// Bodies that are too large for memory. The files in it have no names.
const TEMPORARY: &str = "tmp";

/// The mode bits of group and others.
const OTHERS: u32 = 0o077;

/// Where everything is that outlives the process.
#[derive(Clone, Debug)]
pub(super) struct DataDir {
    path: PathBuf,
}

impl DataDir {
    /// Makes the folder if it is missing, and refuses it if others could get in.
    pub(super) fn open(path: &Path) -> Result<Self, StoreError> {
        let path = std::path::absolute(path)
            .map_err(|error| StoreError::from_io("looking for", path, &error))?;
        make_folder(&path)?;
        check(&path, Kind::Folder)?;
        let directory = Self { path };
        make_folder(&directory.temporary())?;
        check(&directory.temporary(), Kind::Folder)?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join(DATABASE)
    }

    pub(super) fn seal_key(&self) -> PathBuf {
        self.path.join(SEAL_KEY)
    }

    pub(super) fn temporary(&self) -> PathBuf {
        self.path.join(TEMPORARY)
    }

    /// Makes an empty database file, so that it has its mode from the start, or checks the one that
    /// is there. SQLite gives its other files the same mode.
    pub(super) fn prepare_database(&self) -> Result<(), StoreError> {
        let database = self.database();
        match create_private(&database) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(StoreError::from_io("creating", &database, &error)),
        }
        check(&database, Kind::File)
    }

    /// True if a daemon holds the lock.
    pub(super) fn is_locked(&self) -> Result<bool, StoreError> {
        let path = self.path.join(DAEMON_LOCK);
        let file = match OpenOptions::new().read(true).custom_flags(no_follow()).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(StoreError::from_io("opening", &path, &error)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(StoreError::from_io("locking", &path, &error)),
        }
    }

    /// Makes the names of everything in the folder durable, and the folder's own. It is done at every
    /// start: whoever made a file may have died before he could.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        sync_folder(&self.path)?;
        match self.path.parent().map(File::open) {
            Some(Ok(parent)) => parent
                .sync_all()
                .map_err(|error| StoreError::from_io("syncing", &self.path, &error)),
            // A folder that we may not read is not one that we have made an entry in.
            Some(Err(_)) | None => Ok(()),
        }
    }

    /// The lock that a daemon holds for as long as it runs. The operating system lets it go when the
    /// process ends, however it ends.
    pub(super) fn lock_for_daemon(&self) -> Result<DaemonLock, StoreError> {
        let path = self.path.join(DAEMON_LOCK);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(&path)
            .map_err(|error| StoreError::from_io("opening", &path, &error))?;
        check(&path, Kind::File)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = Vec::new();
                let _ = Read::by_ref(&mut file).take(64).read_to_end(&mut holder);
                let holder = Printable(holder.trim_ascii()).to_string();
                return Err(StoreError::Locked { path, holder });
            }
            Err(TryLockError::Error(error)) => {
                return Err(StoreError::from_io("locking", &path, &error));
            }
        }
        let note = format!("process {}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.write_all(note.as_bytes()))
            .map_err(|error| StoreError::from_io("writing", &path, &error))?;
        Ok(DaemonLock { _file: file })
    }
}

/// Held by the one daemon of a data directory; dropping it lets the next one in.
#[derive(Debug)]
#[must_use = "the lock is let go when it is dropped"]
pub struct DaemonLock {
    _file: File,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    File,
}

/// Refuses what is of another kind, belongs to somebody else, or is open to others.
pub(super) fn check(path: &Path, kind: Kind) -> Result<(), StoreError> {
    check_for(rustix::process::geteuid().as_raw(), path, kind)
}

/// As [`check`], for a process of user `we`.
fn check_for(we: u32, path: &Path, kind: Kind) -> Result<(), StoreError> {
    let found = match kind {
        // The folder itself may be reached through a link of the administrator's choice.
        Kind::Folder => fs::metadata(path),
        Kind::File => fs::symlink_metadata(path),
    }
    .map_err(|error| StoreError::from_io("looking at", path, &error))?;
    let exposed = |found: String, remedy: String| {
        Err(StoreError::Exposed { path: path.to_owned(), found, remedy })
    };
    let (is_right_kind, wanted_kind, wanted_mode) = match kind {
        Kind::Folder => (found.is_dir(), "a folder", 0o700),
        Kind::File => (found.is_file(), "a plain file", 0o600),
    };
    if !is_right_kind {
        let what = kind_name(&found);
        return exposed(
            format!("this is {what}, and should be {wanted_kind}"),
            "move it away, or name another data_dir".to_owned(),
        );
    }
    if found.uid() != we {
        return exposed(
            format!("it belongs to user {}, but this process runs as user {we}", found.uid()),
            format!(
                "run mailbearer as user {} (`sudo -u '#{}' …`), or run `chown -R {we} {}`",
                found.uid(),
                found.uid(),
                quoted(path),
            ),
        );
    }
    let mode = found.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return exposed(
            format!("its mode is {mode:04o}, so that other users can reach what is secret"),
            format!("run `chmod {wanted_mode:o} {}`", quoted(path)),
        );
    }
    Ok(())
}

/// Makes the folder with mode 0700 if it is not there, its parents as usual, and syncs every folder
/// that got a new entry.
fn make_folder(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
        make_parents(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_parent(path),
        // Somebody else was faster, or it is a file: the check that follows says which.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::from_io("creating", path, &error)),
    }
}

fn make_parents(path: &Path) -> Result<(), StoreError> {
    if let Some(parent) = path.parent().filter(|parent| !parent.is_dir()) {
        make_parents(parent)?;
    }
    match DirBuilder::new().create(path) {
        Ok(()) => sync_parent(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::from_io("creating", path, &error)),
    }
}

fn sync_parent(path: &Path) -> Result<(), StoreError> {
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes the names in a folder durable. Linux does not do that with the files.
pub(super) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| StoreError::from_io("syncing", path, &error))
}

/// Makes an empty file of mode 0600 that was not there before, never through a link.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    let flags = no_follow();
    OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(flags).open(path)
}

/// The flag of open(2) that refuses a symbolic link.
pub(super) fn no_follow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

fn kind_name(found: &fs::Metadata) -> &'static str {
    let kind = found.file_type();
    match () {
        () if kind.is_dir() => "a folder",
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_file() => "a plain file",
        () if kind.is_socket() || kind.is_fifo() => "a socket or pipe",
        () => "a device",
    }
}

/// The path as an argument of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    match text.chars().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_folder_and_its_files_are_for_us_alone() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/er/data");
        let directory = DataDir::open(&path).unwrap();
        directory.prepare_database().unwrap();
        for (path, mode) in
            [(path, 0o700), (directory.temporary(), 0o700), (directory.database(), 0o600)]
        {
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode, "{}", path.display());
        }
        directory.prepare_database().unwrap();
    }

    #[test]
    fn wider_modes_are_refused_with_the_command_that_repairs_them() {
        for (name, mode, should_be) in [
            ("", 0o755, 0o700),
            ("", 0o710, 0o700),
            ("", 0o701, 0o700),
            ("tmp", 0o770, 0o700),
            (DATABASE, 0o640, 0o600),
            (DATABASE, 0o604, 0o600),
        ] {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join("data dir");
            DataDir::open(&path).unwrap().prepare_database().unwrap();
            let wide = if name.is_empty() { path.clone() } else { path.join(name) };
            fs::set_permissions(&wide, fs::Permissions::from_mode(mode)).unwrap();
            let error = DataDir::open(&path).and_then(|d| d.prepare_database()).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, StoreError::Exposed { .. }), "{text}");
            assert!(text.contains(&format!("{mode:04o}")), "{text}");
            assert!(text.contains(&format!("chmod {should_be:o} '{}'", wide.display())), "{text}");
            // It is not repaired behind the administrator's back.
            assert_eq!(fs::metadata(&wide).unwrap().mode() & 0o777, mode);
            fs::set_permissions(&wide, fs::Permissions::from_mode(should_be)).unwrap();
            DataDir::open(&path).and_then(|d| d.prepare_database()).unwrap();
        }
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused_with_both_ways_out() {
        let root = tempfile::tempdir().unwrap();
        let directory = DataDir::open(&root.path().join("data")).unwrap();
        let owner = fs::metadata(directory.path()).unwrap().uid();
        for we in [owner + 1, owner + 1_000] {
            let error = check_for(we, directory.path(), Kind::Folder).unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, StoreError::Exposed { .. }), "{text}");
            for part in [
                directory.path().display().to_string(),
                format!("belongs to user {owner}"),
                format!("runs as user {we}"),
                format!("sudo -u '#{owner}'"),
                format!("chown -R {we} "),
            ] {
                assert!(text.contains(&part), "{part} is not in: {text}");
            }
        }
        check_for(owner, directory.path(), Kind::Folder).unwrap();
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let directory = DataDir::open(&root.path().join("data")).unwrap();
        let elsewhere = root.path().join("elsewhere");
        create_private(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, directory.database()).unwrap();
        let error = directory.prepare_database().unwrap_err();
        assert!(error.to_string().contains("a symbolic link"), "{error}");
        std::os::unix::fs::symlink(&elsewhere, directory.path().join(DAEMON_LOCK)).unwrap();
        assert!(directory.lock_for_daemon().is_err());
    }

    #[test]
    fn a_file_in_the_place_of_the_folder_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        create_private(&path).unwrap();
        let error = DataDir::open(&path).unwrap_err();
        assert!(error.to_string().contains("a plain file"), "{error}");
    }

    #[test]
    fn one_daemon_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let directory = DataDir::open(root.path().join("data").as_path()).unwrap();
        let first = directory.lock_for_daemon().unwrap();
        let error = directory.lock_for_daemon().unwrap_err();
        let process = format!("process {}", std::process::id());
        assert!(
            matches!(&error, StoreError::Locked { holder, .. } if *holder == process),
            "{error}"
        );
        drop(first);
        let _second = directory.lock_for_daemon().unwrap();
    }
}
