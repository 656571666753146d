//! Messages in tables: submit, due, settle, and the books.
//!
//! Invariants, each checked inside the transaction that could break it:
//! 1. Of a message, `recipients == delivered + queued rows + failed rows`.
//! 2. Of an account, `accepted == delivered + queued + failed` (a constraint of the table).
//! 3. Positions of chunks are 0 to `chunks - 1` without a gap, and every digest fits.
//!
//! A record that breaks 1 or 3 or cannot be read is set aside, never guessed at and never deleted.

use ring::digest;
use rusqlite::{CachedStatement, Connection, ErrorCode, OptionalExtension, Row, params};

use bytes::Bytes;

use crate::base::{QueueId, Timestamp, limits};
use crate::mail::{BodyType, Class, Envelope, ForwardPath, Outcome, ReversePath, Status};
use crate::store::StoreError;
use crate::store::record::{
    AccountTotals, QueuedMessage, RecipientState, SetAside, Settled, StoredRecipient, Submission,
};
use crate::store::sqlite::Trouble;

/// Bytes of a digest that are kept: enough to see damage, which is not an attack.
const DIGEST_BYTES: usize = 16;

/// What may be asked of and done with messages, on an open transaction.
pub(in crate::store) struct MessageRows<'c>(pub(in crate::store) &'c Connection);

/// A damaged message: which, and in what way.
pub(in crate::store) struct Damage {
    pub(in crate::store) id: String,
    pub(in crate::store) what: String,
}

impl MessageRows<'_> {
    fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, Trouble> {
        Ok(self.0.prepare_cached(sql)?)
    }

    /// Keeps a message, with what was settled already.
    pub(in crate::store) fn submit(&self, submission: &Submission) -> Result<(), Trouble> {
        let Submission { id, account, envelope, .. } = submission;
        let mut tally = Tally::of_first(submission)?;
        let stored = tally.queued + tally.failed;
        if stored > 0 {
            let size = submission.prologue.len() as u64 + submission.body.len();
            let head = Head {
                id: id.to_string(),
                account: account.clone(),
                credential: submission.credential.clone(),
                received_at: submission.received_at.as_millis(),
                reverse_path: envelope.reverse_path.as_str().to_owned(),
                eight_bit: envelope.body == BodyType::EightBitMime,
                smtputf8: envelope.smtputf8,
                size: number(size)?,
                chunks: number(size.div_ceil(limits::STORED_CHUNK_BYTES as u64))?,
                recipients: tally.accepted,
            };
            let serial = self.insert_head(&head, submission, &tally)?;
            self.insert_recipients(serial, submission)?;
            self.insert_chunks(serial, &head.id, size, submission)?;
        } else {
            // Everybody has it already: there is nothing to keep but the count.
            tally.uncertain = 0;
        }
        self.statement(
            "INSERT INTO totals (account, accepted, delivered, queued, failed, uncertain)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (account) DO UPDATE SET
                 accepted = accepted + excluded.accepted,
                 delivered = delivered + excluded.delivered,
                 queued = queued + excluded.queued,
                 failed = failed + excluded.failed,
                 uncertain = uncertain + excluded.uncertain",
        )?
        .execute(params![
            account,
            tally.accepted,
            tally.delivered,
            tally.queued,
            tally.failed,
            tally.uncertain
        ])
        .map_err(|error| unaccounted_if_constraint(error, account))?;
        Ok(())
    }

    fn insert_head(
        &self,
        head: &Head,
        submission: &Submission,
        tally: &Tally,
    ) -> Result<i64, Trouble> {
        let state = if tally.queued > 0 { "queued" } else { "failed" };
        self.statement(
            "INSERT INTO message (id, account, state, next_attempt_at, attempts, credential,
                 received_at, reverse_path, eight_bit, smtputf8, size, chunks, recipients,
                 delivered, digest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .insert(params![
            head.id,
            head.account,
            state,
            submission.next_attempt_at.as_millis(),
            submission.attempts,
            head.credential,
            head.received_at,
            head.reverse_path,
            head.eight_bit,
            head.smtputf8,
            head.size,
            head.chunks,
            head.recipients,
            tally.delivered,
            head.digest(),
        ])
        .map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => {
                StoreError::Exists { what: format!("the message {}", head.id) }.into()
            }
            _ => Trouble::Sql(error),
        })
    }

    fn insert_recipients(&self, serial: i64, submission: &Submission) -> Result<(), Trouble> {
        let id = submission.id.to_string();
        let mut insert = self.statement(
            "INSERT INTO recipient
                 (message, position, forward_path, state, class, last_status, uncertain, digest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        let mut outcomes = vec![None; submission.envelope.forward_paths.len()];
        for (position, outcome) in &submission.first_outcomes {
            // `Tally::of_first` has checked the positions.
            outcomes[*position as usize] = Some(outcome);
        }
        for (position, (path, outcome)) in
            (0_u32..).zip(submission.envelope.forward_paths.iter().zip(outcomes))
        {
            let class = outcome.map(|outcome| outcome.class);
            let state = match class {
                Some(Class::Delivered) => continue,
                Some(Class::Fail) => "failed",
                Some(Class::Defer | Class::Hold | Class::Suspend | Class::Uncertain) | None => {
                    "queued"
                }
            };
            insert.execute(params![
                serial,
                position,
                path.as_str(),
                state,
                class.map(Class::as_str),
                outcome.map(|outcome| encode_status(&outcome.status)).transpose()?,
                u32::from(class == Some(Class::Uncertain)),
                recipient_digest(&id, position, path.as_str()),
            ])?;
        }
        Ok(())
    }

    fn insert_chunks(
        &self,
        serial: i64,
        id: &str,
        size: u64,
        submission: &Submission,
    ) -> Result<(), Trouble> {
        let mut insert = self.statement(
            "INSERT INTO chunk (message, position, digest, bytes) VALUES (?1, ?2, ?3, ?4)",
        )?;
        let prologue = &submission.prologue[..];
        let (mut at, mut position) = (0_u64, 0_u32);
        let mut buffer = Vec::new();
        while at < size {
            let length = (size - at).min(limits::STORED_CHUNK_BYTES as u64);
            buffer.resize(usize::try_from(length).unwrap_or(limits::STORED_CHUNK_BYTES), 0);
            // What of the prologue belongs into this chunk, then the body from where it is.
            let from_prologue = usize::try_from(at)
                .ok()
                .and_then(|start| prologue.get(start..))
                .map_or(&[][..], |rest| &rest[..rest.len().min(buffer.len())]);
            let (front, rest) = buffer.split_at_mut(from_prologue.len());
            front.copy_from_slice(from_prologue);
            // While there is more of the prologue, `rest` is empty and nothing is read.
            let body_at = (at + from_prologue.len() as u64).saturating_sub(prologue.len() as u64);
            submission.body.read_at(body_at, rest)?;
            insert.execute(params![
                serial,
                position,
                chunk_digest(id, position, &buffer),
                buffer
            ])?;
            at += length;
            position += 1;
        }
        Ok(())
    }

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
    ) -> Result<Option<Timestamp>, Trouble> {
        let found = self
            .statement(
                "SELECT next_attempt_at FROM message
                 WHERE account = ?1 AND state = 'queued'
                 ORDER BY next_attempt_at LIMIT 1",
            )?
            .query_row([account], |row| row.get(0))
            .optional()?;
        Ok(found.map(Timestamp::from_millis))
    }

    /// Books what an attempt brought.
    pub(in crate::store) fn settle(
        &self,
        id: QueueId,
        outcomes: &[(u32, Outcome)],
        next_attempt_at: Option<Timestamp>,
    ) -> Result<Settled, Trouble> {
        let (serial, account, recipients, delivered_before) = self
            .statement(
                "SELECT serial, account, recipients, delivered FROM message
                 WHERE id = ?1 AND state = 'queued'",
            )?
            .query_row([id.as_str()], |row| {
                let account: String = row.get(1)?;
                Ok((row.get::<_, i64>(0)?, account, row.get::<_, u32>(2)?, row.get::<_, u32>(3)?))
            })
            .optional()?
            .ok_or(StoreError::NoSuchMessage(id))?;
        let mut tally = Tally::default();
        for (position, outcome) in outcomes {
            tally.add(outcome.class);
            if self.settle_recipient(serial, *position, outcome)? != 1 {
                return Err(unaccounted(format!(
                    "{id}: recipient {position} is {} but does not wait",
                    outcome.class
                )));
            }
        }
        let (queued, failed): (u32, u32) = self
            .statement(
                "SELECT count(*) FILTER (WHERE state = 'queued'),
                        count(*) FILTER (WHERE state = 'failed')
                 FROM recipient WHERE message = ?1",
            )?
            .query_row([serial], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let delivered = delivered_before + tally.delivered;
        if u64::from(recipients) != u64::from(delivered) + u64::from(queued) + u64::from(failed) {
            return Err(unaccounted(format!(
                "{id}: {recipients} accepted, {delivered} delivered, {queued} queued, {failed} \
                 failed"
            )));
        }
        match (queued, failed) {
            (0, 0) => {
                self.statement("DELETE FROM message WHERE serial = ?1")?.execute([serial])?;
            }
            _ => {
                let state = if queued > 0 { "queued" } else { "failed" };
                self.statement(
                    "UPDATE message SET state = ?2, delivered = ?3, attempts = attempts + ?4,
                         next_attempt_at = coalesce(?5, next_attempt_at)
                     WHERE serial = ?1",
                )?
                .execute(params![
                    serial,
                    state,
                    delivered,
                    u32::from(tally.is_attempt),
                    next_attempt_at.map(Timestamp::as_millis)
                ])?;
            }
        }
        self.book(&account, &tally)?;
        Ok(Settled { remaining: queued, delivered: tally.delivered, failed: tally.failed })
    }

    /// Books one recipient; says how many rows that changed.
    fn settle_recipient(
        &self,
        serial: i64,
        position: u32,
        outcome: &Outcome,
    ) -> Result<usize, Trouble> {
        let (state, uncertain) = match outcome.class {
            Class::Delivered => {
                return Ok(self
                    .statement(
                        "DELETE FROM recipient
                         WHERE message = ?1 AND position = ?2 AND state = 'queued'",
                    )?
                    .execute(params![serial, position])?);
            }
            Class::Fail => ("failed", 0),
            Class::Uncertain => ("queued", 1),
            Class::Defer | Class::Hold | Class::Suspend => ("queued", 0),
        };
        Ok(self
            .statement(
                "UPDATE recipient
                 SET state = ?3, class = ?4, last_status = ?5, uncertain = uncertain + ?6
                 WHERE message = ?1 AND position = ?2 AND state = 'queued'",
            )?
            .execute(params![
                serial,
                position,
                state,
                outcome.class.as_str(),
                encode_status(&outcome.status)?,
                uncertain
            ])?)
    }

    fn book(&self, account: &str, tally: &Tally) -> Result<(), Trouble> {
        if tally.delivered + tally.failed + tally.uncertain == 0 {
            return Ok(());
        }
        let changed = self
            .statement(
                "UPDATE totals SET delivered = delivered + ?2, failed = failed + ?3,
                     queued = queued - ?2 - ?3, uncertain = uncertain + ?4
                 WHERE account = ?1",
            )?
            .execute(params![account, tally.delivered, tally.failed, tally.uncertain])
            .map_err(|error| unaccounted_if_constraint(error, account))?;
        match changed {
            1 => Ok(()),
            _ => Err(unaccounted(format!("{account}: it has mail and no books"))),
        }
    }

    /// Moves the time of a message's next attempt; nothing was tried.
    pub(in crate::store) fn postpone(&self, id: QueueId, until: Timestamp) -> Result<(), Trouble> {
        let changed = self
            .statement(
                "UPDATE message SET next_attempt_at = ?2 WHERE id = ?1 AND state = 'queued'",
            )?
            .execute(params![id.as_str(), until.as_millis()])?;
        match changed {
            0 => Err(StoreError::NoSuchMessage(id).into()),
            _ => Ok(()),
        }
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

    /// Takes damaged messages out of the queue without deleting anything of them.
    pub(in crate::store) fn set_aside(&self, damaged: &[Damage]) -> Result<(), Trouble> {
        let mut update = self.statement(
            "UPDATE message SET state = 'aside', damage = ?2 WHERE id = ?1 AND state = 'queued'",
        )?;
        for damage in damaged {
            update.execute([&damage.id, &damage.what])?;
        }
        Ok(())
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

/// What of a message never changes.
struct Head {
    id: String,
    account: String,
    credential: Option<String>,
    received_at: i64,
    reverse_path: String,
    eight_bit: bool,
    smtputf8: bool,
    size: i64,
    chunks: i64,
    recipients: u32,
}

impl Head {
    fn from_row(row: &Row<'_>) -> Result<Self, Trouble> {
        Ok(Self {
            id: row.get(1)?,
            account: row.get(2)?,
            credential: row.get(3)?,
            received_at: row.get(4)?,
            reverse_path: row.get(5)?,
            eight_bit: row.get(6)?,
            smtputf8: row.get(7)?,
            size: row.get(8)?,
            chunks: row.get(9)?,
            recipients: row.get(10)?,
        })
    }

    fn digest(&self) -> [u8; DIGEST_BYTES] {
        digest_of(&[
            b"message",
            self.id.as_bytes(),
            self.account.as_bytes(),
            &[u8::from(self.credential.is_some())],
            self.credential.as_deref().unwrap_or_default().as_bytes(),
            &self.received_at.to_be_bytes(),
            self.reverse_path.as_bytes(),
            &[u8::from(self.eight_bit), u8::from(self.smtputf8)],
            &self.size.to_be_bytes(),
            &self.chunks.to_be_bytes(),
            &self.recipients.to_be_bytes(),
        ])
    }
}

/// Recipients by what became of them.
#[derive(Default)]
struct Tally {
    accepted: u32,
    delivered: u32,
    queued: u32,
    failed: u32,
    uncertain: u32,
    /// Something was tried, and not only a quota or a person waited for.
    is_attempt: bool,
}

impl Tally {
    /// Of a submission, whose outcomes have to name each of its recipients at most once.
    fn of_first(submission: &Submission) -> Result<Self, Trouble> {
        let misuse = |what: String| Trouble::Store(StoreError::Misuse { what });
        let id = submission.id;
        let accepted = submission.envelope.forward_paths.len();
        let mut tally = Self {
            accepted: u32::try_from(accepted)
                .map_err(|_| misuse(format!("{id} has {accepted} recipients")))?,
            ..Self::default()
        };
        if accepted == 0 {
            return Err(misuse(format!("{id} has no recipient")));
        }
        let mut is_settled = vec![false; accepted];
        for (position, outcome) in &submission.first_outcomes {
            match is_settled.get_mut(*position as usize) {
                Some(settled) if !*settled => *settled = true,
                _ => {
                    return Err(unaccounted(format!(
                        "{id}: recipient {position} is {} twice, or is none",
                        outcome.class
                    )));
                }
            }
            tally.add(outcome.class);
        }
        tally.queued = tally.accepted - tally.delivered - tally.failed;
        Ok(tally)
    }

    fn add(&mut self, class: Class) {
        match class {
            Class::Delivered => self.delivered += 1,
            Class::Fail => self.failed += 1,
            Class::Uncertain => self.uncertain += 1,
            Class::Defer | Class::Hold | Class::Suspend => {}
        }
        self.is_attempt |= !matches!(class, Class::Hold | Class::Suspend);
    }
}

fn recipient_digest(id: &str, position: u32, path: &str) -> [u8; DIGEST_BYTES] {
    digest_of(&[b"recipient", id.as_bytes(), &position.to_be_bytes(), path.as_bytes()])
}

fn chunk_digest(id: &str, position: u32, bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    digest_of(&[b"chunk", id.as_bytes(), &position.to_be_bytes(), bytes])
}

/// Of the parts, each with its length in front.
fn digest_of(parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut short = [0; DIGEST_BYTES];
    short.copy_from_slice(&context.finish().as_ref()[..DIGEST_BYTES]);
    short
}

/// As JSON, with a text of bounded length: a stranger wrote it, and there is one for each recipient.
fn encode_status(status: &Status) -> Result<String, Trouble> {
    let text: String = status.text.chars().take(limits::PRINTABLE_LENGTH).collect();
    let bounded = Status { text, ..status.clone() };
    serde_json::to_string(&bounded).map_err(|error| {
        StoreError::Misuse { what: format!("a status cannot be written: {error}") }.into()
    })
}

fn decode_class(text: &str) -> Option<Class> {
    [Class::Delivered, Class::Defer, Class::Hold, Class::Suspend, Class::Fail, Class::Uncertain]
        .into_iter()
        .find(|class| class.as_str() == text)
}

fn number(number: u64) -> Result<i64, Trouble> {
    i64::try_from(number)
        .map_err(|_| StoreError::Misuse { what: format!("{number} is too large") }.into())
}

fn damaged(id: &str, why: &str) -> Trouble {
    StoreError::Damaged {
        what: format!("message {id}: {why}"),
        remedy: "ask its sender to send it again".to_owned(),
    }
    .into()
}

fn unaccounted(what: String) -> Trouble {
    StoreError::Unaccounted { what }.into()
}

fn unaccounted_if_constraint(error: rusqlite::Error, account: &str) -> Trouble {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => unaccounted(account.to_owned()),
        _ => Trouble::Sql(error),
    }
}
