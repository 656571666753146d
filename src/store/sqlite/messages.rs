//! Messages as they are changed: submit, settle, postpone, set aside, and the books.
//!
//! Invariants, each checked inside the transaction that could break it:
//! 1. Of a message, `recipients == delivered + queued rows + failed rows`.
//! 2. Of an account, `accepted == delivered + queued + failed` (a constraint of the table).
//! 3. Positions of chunks are 0 to `chunks - 1` without a gap, and every digest fits.
//!
//! A record that breaks 1 or 3 or cannot be read is set aside, never guessed at and never deleted.

use rusqlite::{CachedStatement, Connection, ErrorCode, OptionalExtension, params};

use crate::base::{QueueId, Timestamp, limits};
use crate::mail::{BodyType, Class, Outcome};
use crate::store::StoreError;
use crate::store::record::{Settled, Submission};
use crate::store::sqlite::Trouble;
use crate::store::sqlite::rows::{
    Head, chunk_digest, encode_status, recipient_digest, unaccounted,
};

/// What may be asked of and done with messages, on an open transaction.
pub(in crate::store) struct MessageRows<'c>(pub(in crate::store) &'c Connection);

/// A damaged message: which, and in what way.
pub(in crate::store) struct Damage {
    pub(in crate::store) id: String,
    pub(in crate::store) what: String,
}

impl MessageRows<'_> {
    pub(super) fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, Trouble> {
        Ok(self.0.prepare_cached(sql)?)
    }

    /// Keeps a message, with what was settled already.
    pub(in crate::store) fn submit(&self, submission: &Submission) -> Result<(), Trouble> {
        let Submission { id, account, envelope, .. } = submission;
        let tally = Tally::of_first(submission)?;
        // If everybody has it already there is nothing to keep but the count.
        if tally.queued + tally.failed > 0 {
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

fn number(number: u64) -> Result<i64, Trouble> {
    i64::try_from(number)
        .map_err(|_| StoreError::Misuse { what: format!("{number} is too large") }.into())
}

fn unaccounted_if_constraint(error: rusqlite::Error, account: &str) -> Trouble {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => unaccounted(account.to_owned()),
        _ => Trouble::Sql(error),
    }
}
