//! Messages as they are read: what is due, who still waits, the body, the books.

use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, params};

use crate::base::{QueueId, Timestamp};
use crate::mail::{BodyType, Envelope, ForwardPath, ReversePath};
use crate::store::StoreError;
use crate::store::record::{
    AccountTotals, QueuedMessage, RecipientState, SetAside, StoredRecipient,
};
use crate::store::sqlite::Trouble;
use crate::store::sqlite::messages::{Damage, MessageRows};
use crate::store::sqlite::rows::{
    Head, chunk_digest, damaged, decode_class, recipient_digest, unaccounted,
};

impl MessageRows<'_> {
    /// The messages of an account that are due, in order, without those named, and the damaged ones
    /// among them.
    pub(in crate::store) fn due(
        &self,
        account: &str,
        now: Timestamp,
        except: &[QueueId],
        limit: usize,
    ) -> Result<(Vec<QueuedMessage>, Vec<Damage>), Trouble> {
        let mut select = self.statement(
            "SELECT serial, id, account, credential, received_at, reverse_path, eight_bit,
                 smtputf8, size, chunks, recipients, digest, attempts, next_attempt_at, delivered
             FROM message
             WHERE account = ?1 AND state = 'queued' AND next_attempt_at <= ?2
             ORDER BY next_attempt_at, id
             LIMIT ?3",
        )?;
        let enough = i64::try_from(limit.saturating_add(except.len())).unwrap_or(i64::MAX);
        let mut rows = select.query(params![account, now.as_millis(), enough])?;
        let (mut due, mut damaged) = (Vec::new(), Vec::new());
        while let Some(row) = rows.next()? {
            let id: String = row.get(1)?;
            if due.len() == limit {
                break;
            }
            if except.iter().any(|except| except.as_str() == id) {
                continue;
            }
            match self.queued_message(row) {
                Ok(message) => due.push(message),
                Err(Trouble::Store(StoreError::Damaged { what, .. })) => {
                    damaged.push(Damage { id, what });
                }
                Err(other) => return Err(other),
            }
        }
        Ok((due, damaged))
    }

    fn queued_message(&self, row: &Row<'_>) -> Result<QueuedMessage, Trouble> {
        let head = Head::from_row(row)?;
        let damaged = |why: &str| damaged(&head.id, why);
        if row.get::<_, Vec<u8>>(11)? != head.digest() {
            return Err(damaged("its head does not fit its digest"));
        }
        let serial: i64 = row.get(0)?;
        let id: QueueId = head.id.parse().map_err(|_| damaged("its id is none"))?;
        let reverse_path = ReversePath::parse(&head.reverse_path)
            .map_err(|_| damaged("its reverse-path is none"))?;
        let recipients = self.recipients_of(serial, &head.id)?;
        let rows = recipients.len() as u64;
        if u64::from(row.get::<_, u32>(14)?) + rows != u64::from(head.recipients) {
            return Err(damaged("a recipient is missing"));
        }
        let (mut forward_paths, mut recipient_indices) = (Vec::new(), Vec::new());
        for recipient in recipients {
            if recipient.state == RecipientState::Queued {
                forward_paths.push(recipient.forward_path);
                recipient_indices.push(recipient.index);
            }
        }
        if forward_paths.is_empty() {
            return Err(damaged("it waits for no recipient"));
        }
        let (size, attempts) = (head.size.unsigned_abs(), row.get(12)?);
        Ok(QueuedMessage {
            id,
            account: head.account,
            credential: head.credential,
            received_at: Timestamp::from_millis(head.received_at),
            envelope: Envelope {
                reverse_path,
                forward_paths,
                body: match head.eight_bit {
                    true => BodyType::EightBitMime,
                    false => BodyType::SevenBit,
                },
                smtputf8: head.smtputf8,
            },
            recipient_indices,
            attempts,
            size,
            next_attempt_at: Timestamp::from_millis(row.get(13)?),
        })
    }

    /// The recipients of a message that are still in the store.
    pub(in crate::store) fn recipients(
        &self,
        id: QueueId,
    ) -> Result<Vec<StoredRecipient>, Trouble> {
        let serial = self
            .statement("SELECT serial FROM message WHERE id = ?1")?
            .query_row([id.as_str()], |row| row.get(0))
            .optional()?
            .ok_or(StoreError::NoSuchMessage(id))?;
        self.recipients_of(serial, id.as_str())
    }

    fn recipients_of(&self, serial: i64, id: &str) -> Result<Vec<StoredRecipient>, Trouble> {
        let mut select = self.statement(
            "SELECT position, forward_path, state, class, last_status, uncertain, digest
             FROM recipient WHERE message = ?1 ORDER BY position",
        )?;
        let mut rows = select.query([serial])?;
        let mut recipients = Vec::new();
        while let Some(row) = rows.next()? {
            let (index, path): (u32, String) = (row.get(0)?, row.get(1)?);
            if row.get::<_, Vec<u8>>(6)? != recipient_digest(id, index, &path) {
                return Err(damaged(id, "a recipient does not fit its digest"));
            }
            let class = row.get::<_, Option<String>>(3)?;
            let status = row.get::<_, Option<String>>(4)?;
            recipients.push(StoredRecipient {
                index,
                forward_path: ForwardPath::parse(&path)
                    .map_err(|_| damaged(id, "a recipient's address is none"))?,
                state: match row.get::<_, String>(2)?.as_str() {
                    "failed" => RecipientState::Failed,
                    _ => RecipientState::Queued,
                },
                last: match (class, status) {
                    (Some(class), Some(status)) => Some((
                        decode_class(&class).ok_or_else(|| damaged(id, "a class is none"))?,
                        serde_json::from_str(&status)
                            .map_err(|_| damaged(id, "the status of a recipient is none"))?,
                    )),
                    _ => None,
                },
                uncertain: row.get(5)?,
            });
        }
        Ok(recipients)
    }

    /// When the first message of an account is due.
    pub(in crate::store) fn next_due_at(
        &self,
        account: &str,
        after: Timestamp,
    ) -> Result<Option<Timestamp>, Trouble> {
        let found = self
            .statement(
                "SELECT next_attempt_at FROM message
                 WHERE account = ?1 AND state = 'queued' AND next_attempt_at > ?2
                 ORDER BY next_attempt_at LIMIT 1",
            )?
            .query_row(params![account, after.as_millis()], |row| row.get(0))
            .optional()?;
        Ok(found.map(Timestamp::from_millis))
    }

    /// A chunk of a message as it is to be sent, or nothing behind the last one, and the size of all.
    pub(in crate::store) fn chunk(
        &self,
        id: QueueId,
        position: u32,
    ) -> Result<(Option<Bytes>, u64), Trouble> {
        let (serial, size, chunks): (i64, i64, u32) = self
            .statement("SELECT serial, size, chunks FROM message WHERE id = ?1")?
            .query_row([id.as_str()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?
            .ok_or(StoreError::NoSuchMessage(id))?;
        let size = size.unsigned_abs();
        if position >= chunks {
            return Ok((None, size));
        }
        let found: Option<(Vec<u8>, Vec<u8>)> = self
            .statement("SELECT bytes, digest FROM chunk WHERE message = ?1 AND position = ?2")?
            .query_row(params![serial, position], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match found {
            Some((bytes, digest)) if digest == chunk_digest(id.as_str(), position, &bytes) => {
                Ok((Some(Bytes::from(bytes)), size))
            }
            Some(_) => Err(damaged(id.as_str(), "a part of its body does not fit its digest")),
            None => Err(damaged(id.as_str(), "a part of its body is missing")),
        }
    }

    /// The books of every account that ever had mail here.
    pub(in crate::store) fn totals(&self) -> Result<Vec<AccountTotals>, Trouble> {
        let mut select = self.statement(
            "SELECT account, accepted, delivered, queued, failed, uncertain FROM totals",
        )?;
        let mut rows = select.query([])?;
        let mut totals = Vec::new();
        while let Some(row) = rows.next()? {
            let count = |at| row.get::<_, i64>(at).map(i64::unsigned_abs);
            totals.push(AccountTotals {
                account: row.get(0)?,
                accepted: count(1)?,
                delivered: count(2)?,
                queued: count(3)?,
                failed: count(4)?,
                uncertain: count(5)?,
            });
        }
        Ok(totals)
    }

    /// Counts every recipient and compares with the books. Costs as much as there is mail.
    pub(in crate::store) fn audit(&self) -> Result<(), Trouble> {
        let mut select = self.statement(
            "SELECT totals.account, totals.queued, counted.queued
             FROM totals LEFT JOIN (
                 SELECT message.account AS account, count(*) AS queued
                 FROM message JOIN recipient ON recipient.message = message.serial
                 WHERE recipient.state = 'queued' GROUP BY message.account
             ) AS counted ON counted.account = totals.account
             WHERE totals.queued != coalesce(counted.queued, 0)",
        )?;
        let mut rows = select.query([])?;
        match rows.next()? {
            None => Ok(()),
            Some(row) => {
                let (account, booked): (String, i64) = (row.get(0)?, row.get(1)?);
                let counted = row.get::<_, Option<i64>>(2)?.unwrap_or(0);
                Err(unaccounted(format!(
                    "{account}: {booked} queued in the books, {counted} found"
                )))
            }
        }
    }

    /// The messages that were set aside.
    pub(in crate::store) fn all_set_aside(&self) -> Result<Vec<SetAside>, Trouble> {
        let mut select =
            self.statement("SELECT id, damage FROM message WHERE state = 'aside' ORDER BY serial")?;
        let rows = select.query_map([], |row| {
            let what = row.get::<_, Option<String>>(1)?.unwrap_or_default();
            Ok(SetAside { id: row.get(0)?, what })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
