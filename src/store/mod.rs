//! Floor 2: what outlives the process.
//!
//! Owns the data directory: the database with messages, books, grants, suspensions, leases and
//! credentials; the key that seals secrets; temporary files of bodies; the daemon's lock. It never
//! decides when or where something is sent.
//!
//! Invariants:
//! 1. A change is on the disk before the future that made it resolves; concurrent changes share one
//!    sync. After an error nothing of that change counts, and it is never tried again in silence.
//! 2. Of every account, accepted == delivered + queued + failed, in recipients.
//! 3. What is damaged is recognised (digests, seals) and set aside; it is never sent, never guessed
//!    at and never taken for "nothing there".
//! 4. Secrets are sealed before they reach the database.
//! 5. Several processes may have the store open at a time; one daemon at most holds its lock.

mod body;
mod directory;
mod error;
mod record;
mod seal;
mod sqlite;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::base::{Clock, QueueId, Timestamp};
use crate::mail::Outcome;

pub use body::{Body, BodyReader, BodyWriter};
pub use directory::DaemonLock;
pub use error::StoreError;
pub use record::{
    AccountTotals, NewGrant, Origin, QueuedMessage, RecipientState, SetAside, Settled,
    StoredCredential, StoredGrant, StoredRecipient, StoredTrouble, Submission, Suspension,
};

use directory::DataDir;
use seal::{Place, Sealer};
use sqlite::{AccountRows, Damage, Engine, GrantRow, MessageRows, Trouble};

/// A handle to the store. Clones share it; with the last one its threads end.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    engine: Engine,
    directory: DataDir,
    sealer: Arc<Sealer>,
    clock: Clock,
}

impl Store {
    /// Opens the store in `data_dir`, which is made if it is missing and refused if others can get
    /// in. Blocks on the disk.
    pub fn open(data_dir: &Path, clock: Clock) -> Result<Self, StoreError> {
        let directory = DataDir::open(data_dir)?;
        let sealer = Arc::new(Sealer::open(&directory)?);
        directory.prepare_database()?;
        directory.sync()?;
        let engine = Engine::open(&directory)?;
        Ok(Self(Arc::new(Inner { engine, directory, sealer, clock })))
    }

    /// Makes sure that no other daemon works on this store. Commands need no lock. Blocks on the disk.
    pub fn lock_for_daemon(&self) -> Result<DaemonLock, StoreError> {
        self.0.directory.lock_for_daemon()
    }

    /// True if a daemon works on this data directory now.
    pub fn is_locked_by_daemon(&self) -> Result<bool, StoreError> {
        self.0.directory.is_locked()
    }

    /// The folder of all of it.
    pub fn data_dir(&self) -> &Path {
        self.0.directory.path()
    }

    /// An empty body, which spills into this store's folder of temporary files.
    pub fn body_writer(&self) -> BodyWriter {
        BodyWriter::new(&self.0.directory.temporary())
    }

    // --- messages -----------------------------------------------------------------------------

    /// Keeps a message. Resolves once it is on the disk; dropping the future does not take it back.
    pub async fn submit(&self, submission: Submission) -> Result<(), StoreError> {
        let weight = submission.prologue.len() as u64 + submission.body.len();
        self.0.engine.write(weight, move |c| MessageRows(c).submit(&submission)).await
    }

    /// The messages of an account that are due by `now`, by time and id, without those in `except`.
    /// What turns out to be damaged is set aside on the way, logged, and listed by
    /// [`Store::set_aside`].
    pub async fn due(
        &self,
        account: &str,
        now: Timestamp,
        except: &[QueueId],
        limit: usize,
    ) -> Result<Vec<QueuedMessage>, StoreError> {
        loop {
            let (account, except) = (account.to_owned(), except.to_vec());
            let (due, damaged) = self
                .0
                .engine
                .read(move |c| MessageRows(c).due(&account, now, &except, limit))
                .await?;
            if damaged.is_empty() {
                return Ok(due);
            }
            self.put_aside(damaged).await?;
        }
    }

    async fn put_aside(&self, damaged: Vec<Damage>) -> Result<(), StoreError> {
        for damage in &damaged {
            tracing::error!(event = "message_set_aside", queue_id = %damage.id, what = %damage.what);
        }
        self.0.engine.write(0, move |c| MessageRows(c).set_aside(&damaged)).await
    }

    /// When the next of an account's waiting messages becomes due, of those that are due after that
    /// moment.
    pub async fn next_due_at(
        &self,
        account: &str,
        after: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let account = account.to_owned();
        self.0.engine.read(move |c| MessageRows(c).next_due_at(&account, after)).await
    }

    /// Books the outcomes of an attempt, each named by the recipient's position
    /// ([`QueuedMessage::recipient_indices`]). Recipients without an outcome stay as they are.
    ///
    /// Delivered recipients leave, failed ones are kept for later reading, all others stay queued
    /// until `next_attempt_at` (`None`: as before). The message leaves with its last recipient, if
    /// none has failed. An attempt counts unless it met a hold or a suspension only.
    pub async fn settle(
        &self,
        id: QueueId,
        outcomes: Vec<(u32, Outcome)>,
        next_attempt_at: Option<Timestamp>,
    ) -> Result<Settled, StoreError> {
        self.0.engine.write(0, move |c| MessageRows(c).settle(id, &outcomes, next_attempt_at)).await
    }

    /// Moves a message's next attempt. Nothing was tried.
    pub async fn postpone(
        &self,
        id: QueueId,
        next_attempt_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.0.engine.write(0, move |c| MessageRows(c).postpone(id, next_attempt_at)).await
    }

    /// The recipients of a message that are still here, queued or failed.
    pub async fn recipients(&self, id: QueueId) -> Result<Vec<StoredRecipient>, StoreError> {
        self.0.engine.read(move |c| MessageRows(c).recipients(id)).await
    }

    /// A chunk of a message as it is to be sent (prologue, then body), or `None` behind the last.
    pub async fn body_chunk(&self, id: QueueId, index: u32) -> Result<Option<Bytes>, StoreError> {
        self.stored_chunk(id, index).await.map(|(chunk, _)| chunk)
    }

    /// Streams a message as it is to be sent: prologue, then body. One that turns out to be damaged
    /// ends in an error and is set aside, as by [`Store::due`].
    pub fn stored_body(&self, id: QueueId) -> BodyReader {
        BodyReader::stored(self.clone(), id)
    }

    async fn stored_chunk(
        &self,
        id: QueueId,
        index: u32,
    ) -> Result<(Option<Bytes>, u64), StoreError> {
        let found = self
            .0
            .engine
            .read(move |c| match MessageRows(c).chunk(id, index) {
                // This message is damaged, and not the database.
                Err(Trouble::Store(error @ StoreError::Damaged { .. })) => Ok(Err(error)),
                other => other.map(Ok),
            })
            .await?;
        if let Err(error) = &found {
            let damage = Damage { id: id.to_string(), what: error.to_string() };
            self.put_aside(vec![damage]).await?;
        }
        found
    }

    /// The books of every account that ever had mail in this store.
    pub async fn totals(&self) -> Result<Vec<AccountTotals>, StoreError> {
        self.0.engine.read(|c| MessageRows(c).totals()).await
    }

    /// Counts every queued recipient and compares with the books: [`StoreError::Unaccounted`] if
    /// they differ. Costs as much as there is mail.
    pub async fn audit(&self) -> Result<(), StoreError> {
        self.0.engine.read(|c| MessageRows(c).audit()).await
    }

    /// The messages that were set aside because they are damaged.
    pub async fn set_aside(&self) -> Result<Vec<SetAside>, StoreError> {
        self.0.engine.read(|c| MessageRows(c).all_set_aside()).await
    }

    // --- accounts -----------------------------------------------------------------------------

    /// Marks an account as in need of a person. Its mail stays.
    pub async fn suspend(&self, account: &str, reason: &str) -> Result<(), StoreError> {
        let (account, reason, now) = (account.to_owned(), reason.to_owned(), self.0.clock.now());
        self.change(move |rows| rows.suspend(&account, &reason, now)).await
    }

    /// Ends a suspension. True if there was one.
    pub async fn resume(&self, account: &str) -> Result<bool, StoreError> {
        let account = account.to_owned();
        self.change(move |rows| rows.resume(&account)).await
    }

    /// Why an account is suspended, if it is.
    pub async fn suspension(&self, account: &str) -> Result<Option<Suspension>, StoreError> {
        let account = account.to_owned();
        self.0.engine.read(move |c| AccountRows(c).suspension(&account)).await
    }

    /// The grant of an account, or `None` if it has none. A grant that cannot be opened is an error.
    pub async fn grant(&self, account: &str) -> Result<Option<StoredGrant>, StoreError> {
        let (account, sealer) = (account.to_owned(), Arc::clone(&self.0.sealer));
        self.0
            .engine
            .read(move |c| {
                let row = AccountRows(c).grant(&account)?;
                Ok(row.map(|row| unseal_grant(&sealer, &account, row)).transpose()?)
            })
            .await
    }

    /// Puts a grant in the place of version `expected_version` (0: there is none) and says the new
    /// version; [`StoreError::Conflict`] if another version is there.
    pub async fn put_grant(
        &self,
        account: &str,
        expected_version: u64,
        grant: NewGrant,
    ) -> Result<u64, StoreError> {
        let (account, sealer) = (account.to_owned(), Arc::clone(&self.0.sealer));
        self.change(move |rows| {
            let version = rows.next_grant_version(&account, expected_version)?;
            rows.put_grant(&account, &seal_grant(&sealer, &account, version, &grant)?)?;
            Ok(version)
        })
        .await
    }

    /// Forgets an account's grant, also one that cannot be opened. True if there was one.
    pub async fn remove_grant(&self, account: &str) -> Result<bool, StoreError> {
        let account = account.to_owned();
        self.change(move |rows| rows.remove_grant(&account)).await
    }

    /// Notes what keeps an account from getting a token. It stays until the next trouble.
    pub async fn note_trouble(&self, account: &str, reason: &str) -> Result<(), StoreError> {
        let (account, reason, now) = (account.to_owned(), reason.to_owned(), self.0.clock.now());
        self.0.engine.write(0, move |c| AccountRows(c).note_trouble(&account, &reason, now)).await
    }

    /// What kept an account from getting a token the last time, if anything ever did.
    pub async fn trouble(&self, account: &str) -> Result<Option<StoredTrouble>, StoreError> {
        let account = account.to_owned();
        self.0.engine.read(move |c| AccountRows(c).trouble(&account)).await
    }

    /// Takes or prolongs the right to renew an account's tokens, which one holder has at a time.
    /// True if it is `holder`'s until then; a lease that has run out is free.
    pub async fn lease(
        &self,
        account: &str,
        holder: &str,
        until: Timestamp,
    ) -> Result<bool, StoreError> {
        let (account, holder) = (account.to_owned(), holder.to_owned());
        let now = self.0.clock.now();
        self.0.engine.write(0, move |c| AccountRows(c).lease(&account, &holder, now, until)).await
    }

    /// Gives a lease back. True if it was `holder`'s.
    pub async fn release_lease(&self, account: &str, holder: &str) -> Result<bool, StoreError> {
        let (account, holder) = (account.to_owned(), holder.to_owned());
        self.0.engine.write(0, move |c| AccountRows(c).release_lease(&account, &holder)).await
    }

    /// Takes all leases back: whoever holds the daemon's lock knows that the daemon that took them is
    /// dead, and need not wait for their end.
    pub async fn drop_leases(&self, _lock: &DaemonLock) -> Result<(), StoreError> {
        self.0.engine.write(0, move |c| AccountRows(c).drop_leases()).await
    }

    /// All stored credentials, by name.
    pub async fn credentials(&self) -> Result<Vec<StoredCredential>, StoreError> {
        self.0.engine.read(|c| AccountRows(c).credentials()).await
    }

    /// Adds a credential; [`StoreError::Exists`] if its name is taken.
    pub async fn add_credential(&self, credential: StoredCredential) -> Result<(), StoreError> {
        self.change(move |rows| rows.add_credential(&credential)).await
    }

    /// Removes a credential. True if there was one.
    pub async fn remove_credential(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.change(move |rows| rows.remove_credential(&name)).await
    }

    // --- the store itself ---------------------------------------------------------------------

    /// A number that moves when anybody else has changed anything, or this handle a grant, a
    /// suspension or a credential. Cheap: ask every [`crate::base::limits::STORE_POLL`].
    pub async fn version(&self) -> Result<u64, StoreError> {
        self.0.engine.version().await
    }

    /// Transactions that this handle has committed, each with one sync.
    pub fn commits(&self) -> u64 {
        self.0.engine.commits()
    }

    /// A change that [`Store::version`] tells of.
    async fn change<T, W>(&self, mut work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnMut(&AccountRows<'_>) -> Result<T, Trouble> + Send + 'static,
    {
        self.0.engine.change(move |c| work(&AccountRows(c))).await
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.data_dir()).finish()
    }
}

fn seal_grant(
    sealer: &Sealer,
    account: &str,
    version: u64,
    grant: &NewGrant,
) -> Result<GrantRow, StoreError> {
    let seal = |secret: &Option<_>, field| {
        let place = Place { account, field, version };
        secret.as_ref().map(|secret| sealer.seal(secret, place)).transpose()
    };
    Ok(GrantRow {
        version,
        refresh_token: seal(&grant.refresh_token, "refresh_token")?,
        access_token: seal(&grant.access_token, "access_token")?,
        expires_at: grant.expires_at,
        obtained_at: grant.obtained_at,
        obtained_by: grant.obtained_by.clone(),
        retired: grant.retired.clone(),
        origin: grant.origin.clone(),
    })
}

fn unseal_grant(sealer: &Sealer, account: &str, row: GrantRow) -> Result<StoredGrant, StoreError> {
    let version = row.version;
    let unseal = |sealed: Option<Vec<u8>>, field| {
        let place = Place { account, field, version };
        sealed.map(|sealed| sealer.unseal(&sealed, place)).transpose()
    };
    Ok(StoredGrant {
        refresh_token: unseal(row.refresh_token, "refresh_token")?,
        access_token: unseal(row.access_token, "access_token")?,
        expires_at: row.expires_at,
        obtained_at: row.obtained_at,
        obtained_by: row.obtained_by,
        retired: row.retired,
        origin: row.origin,
        version,
    })
}
