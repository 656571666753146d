//! What is kept of accounts: grants, leases, suspensions, and the credentials that use them.
//!
//! Secrets arrive here sealed; this file never sees one.

use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::base::Timestamp;
use crate::store::StoreError;
use crate::store::record::{Origin, StoredCredential, StoredTrouble, Suspension};
use crate::store::sqlite::Trouble;

/// What may be asked of and done with accounts, on an open transaction.
pub(in crate::store) struct AccountRows<'c>(pub(in crate::store) &'c Connection);

/// A grant with its secrets sealed.
#[derive(Clone)]
pub(in crate::store) struct GrantRow {
    pub(in crate::store) version: u64,
    pub(in crate::store) refresh_token: Option<Vec<u8>>,
    pub(in crate::store) access_token: Option<Vec<u8>>,
    pub(in crate::store) expires_at: Option<Timestamp>,
    pub(in crate::store) obtained_at: Timestamp,
    pub(in crate::store) obtained_by: Option<String>,
    pub(in crate::store) retired: Option<String>,
    pub(in crate::store) origin: Option<Origin>,
}

impl AccountRows<'_> {
    fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, Trouble> {
        Ok(self.0.prepare_cached(sql)?)
    }

    /// The grant of an account, if it has one.
    pub(in crate::store) fn grant(&self, account: &str) -> Result<Option<GrantRow>, Trouble> {
        let found = self
            .statement(
                "SELECT version, refresh_token, access_token, expires_at, obtained_at, obtained_by,
                     retired, origin_how, origin_at, bound_to
                 FROM account_grant WHERE account = ?1 AND is_present",
            )?
            .query_row([account], |row| {
                Ok(GrantRow {
                    version: row.get::<_, i64>(0)?.unsigned_abs(),
                    refresh_token: row.get(1)?,
                    access_token: row.get(2)?,
                    expires_at: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_millis),
                    obtained_at: Timestamp::from_millis(row.get(4)?),
                    obtained_by: row.get(5)?,
                    retired: row.get(6)?,
                    origin: match (row.get(7)?, row.get(8)?, row.get(9)?) {
                        (Some(how), Some(at), Some(bound_to)) => {
                            Some(Origin { how, at: Timestamp::from_millis(at), bound_to })
                        }
                        _ => None,
                    },
                })
            })
            .optional()?;
        Ok(found)
    }

    /// The version that the next grant of an account gets, if `expected` is the one that is there.
    pub(in crate::store) fn next_grant_version(
        &self,
        account: &str,
        expected: u64,
    ) -> Result<u64, Trouble> {
        let (last, is_present) = self.last_grant_version(account)?;
        let found = if is_present { last } else { 0 };
        match found == expected {
            true => Ok(last + 1),
            false => {
                Err(StoreError::Conflict { account: account.to_owned(), expected, found }.into())
            }
        }
    }

    /// The last version that was given out for an account, and whether that grant is still there.
    fn last_grant_version(&self, account: &str) -> Result<(u64, bool), Trouble> {
        let found = self
            .statement("SELECT version, is_present FROM account_grant WHERE account = ?1")?
            .query_row([account], |row| Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get(1)?)))
            .optional()?;
        Ok(found.unwrap_or((0, false)))
    }

    /// Puts a grant in the place of the one that is there.
    pub(in crate::store) fn put_grant(&self, account: &str, row: &GrantRow) -> Result<(), Trouble> {
        self.statement(
            "INSERT OR REPLACE INTO account_grant (account, version, is_present, refresh_token,
                 access_token, expires_at, obtained_at, obtained_by, retired,
                 origin_how, origin_at, bound_to)
             VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            account,
            row.version.cast_signed(),
            row.refresh_token,
            row.access_token,
            row.expires_at.map(Timestamp::as_millis),
            row.obtained_at.as_millis(),
            row.obtained_by,
            row.retired,
            row.origin.as_ref().map(|origin| &origin.how),
            row.origin.as_ref().map(|origin| origin.at.as_millis()),
            row.origin.as_ref().map(|origin| &origin.bound_to)
        ])?;
        Ok(())
    }

    /// Forgets a grant but not its version, which is never used twice. True if there was one.
    pub(in crate::store) fn remove_grant(&self, account: &str) -> Result<bool, Trouble> {
        let changed = self
            .statement(
                "UPDATE account_grant SET is_present = 0, refresh_token = NULL, access_token = NULL,
                     expires_at = NULL, obtained_by = NULL, retired = NULL, origin_how = NULL,
                     origin_at = NULL, bound_to = NULL
                 WHERE account = ?1 AND is_present",
            )?
            .execute([account])?;
        Ok(changed > 0)
    }

    /// Gives the lease to `holder` if nobody else has it. True if it is `holder`'s now.
    pub(in crate::store) fn lease(
        &self,
        account: &str,
        holder: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<bool, Trouble> {
        let changed = self
            .statement(
                "INSERT INTO lease (account, holder, until) VALUES (?1, ?2, ?3)
                 ON CONFLICT (account) DO UPDATE SET holder = excluded.holder, until = excluded.until
                 WHERE holder = excluded.holder OR until <= ?4",
            )?
            .execute(params![account, holder, until.as_millis(), now.as_millis()])?;
        Ok(changed > 0)
    }

    /// Gives a lease back. True if it was `holder`'s.
    pub(in crate::store) fn release_lease(
        &self,
        account: &str,
        holder: &str,
    ) -> Result<bool, Trouble> {
        let changed = self
            .statement("DELETE FROM lease WHERE account = ?1 AND holder = ?2")?
            .execute([account, holder])?;
        Ok(changed > 0)
    }

    /// Takes all leases back.
    pub(in crate::store) fn drop_leases(&self) -> Result<(), Trouble> {
        self.statement("DELETE FROM lease")?.execute([])?;
        Ok(())
    }

    /// Suspends an account. One that is suspended already keeps its time and gets the new reason.
    pub(in crate::store) fn suspend(
        &self,
        account: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), Trouble> {
        self.statement(
            "INSERT INTO suspension (account, reason, since) VALUES (?1, ?2, ?3)
             ON CONFLICT (account) DO UPDATE SET reason = excluded.reason",
        )?
        .execute(params![account, reason, now.as_millis()])?;
        Ok(())
    }

    /// Ends a suspension. True if there was one.
    pub(in crate::store) fn resume(&self, account: &str) -> Result<bool, Trouble> {
        let changed =
            self.statement("DELETE FROM suspension WHERE account = ?1")?.execute([account])?;
        Ok(changed > 0)
    }

    /// Why an account is suspended, if it is.
    pub(in crate::store) fn suspension(
        &self,
        account: &str,
    ) -> Result<Option<Suspension>, Trouble> {
        let found = self
            .statement("SELECT reason, since FROM suspension WHERE account = ?1")?
            .query_row([account], |row| {
                Ok(Suspension { reason: row.get(0)?, since: Timestamp::from_millis(row.get(1)?) })
            })
            .optional()?;
        Ok(found)
    }

    /// Notes trouble with an account's token in the place of the last one.
    pub(in crate::store) fn note_trouble(
        &self,
        account: &str,
        reason: &str,
        now: Timestamp,
    ) -> Result<(), Trouble> {
        self.statement(
            "INSERT OR REPLACE INTO token_trouble (account, reason, at) VALUES (?1, ?2, ?3)",
        )?
        .execute(params![account, reason, now.as_millis()])?;
        Ok(())
    }

    /// The trouble that was noted last.
    pub(in crate::store) fn trouble(
        &self,
        account: &str,
    ) -> Result<Option<StoredTrouble>, Trouble> {
        let found = self
            .statement("SELECT reason, at FROM token_trouble WHERE account = ?1")?
            .query_row([account], |row| {
                Ok(StoredTrouble { reason: row.get(0)?, at: Timestamp::from_millis(row.get(1)?) })
            })
            .optional()?;
        Ok(found)
    }

    /// All credentials, by name.
    pub(in crate::store) fn credentials(&self) -> Result<Vec<StoredCredential>, Trouble> {
        let mut select = self.statement(
            "SELECT name, password_hash, account, may_send_as, may_send_to, created_at
             FROM credential ORDER BY name",
        )?;
        let mut rows = select.query([])?;
        let mut credentials = Vec::new();
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            let patterns = |text: String| {
                serde_json::from_str(&text).map_err(|error| StoreError::Damaged {
                    what: format!("the credential {name}: {error}"),
                    remedy: "remove it and add it again with `mailbearer credential`".to_owned(),
                })
            };
            let (may_send_as, may_send_to) = (patterns(row.get(3)?)?, patterns(row.get(4)?)?);
            credentials.push(StoredCredential {
                password_hash: row.get(1)?,
                account: row.get(2)?,
                may_send_as,
                may_send_to,
                created_at: Timestamp::from_millis(row.get(5)?),
                name,
            });
        }
        Ok(credentials)
    }

    /// Adds a credential whose name is not taken.
    pub(in crate::store) fn add_credential(
        &self,
        credential: &StoredCredential,
    ) -> Result<(), Trouble> {
        let StoredCredential { name, password_hash, account, may_send_as, may_send_to, .. } =
            credential;
        let json = |patterns: &[String]| {
            serde_json::to_string(patterns).map_err(|error| StoreError::Misuse {
                what: format!("the credential {name} cannot be written: {error}"),
            })
        };
        let changed = self
            .statement(
                "INSERT INTO credential
                     (name, password_hash, account, may_send_as, may_send_to, created_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name) DO NOTHING",
            )?
            .execute(params![
                name,
                password_hash,
                account,
                json(may_send_as)?,
                json(may_send_to)?,
                credential.created_at.as_millis()
            ])?;
        match changed {
            0 => Err(StoreError::Exists { what: format!("the credential {name}") }.into()),
            _ => Ok(()),
        }
    }

    /// Removes a credential. True if there was one.
    pub(in crate::store) fn remove_credential(&self, name: &str) -> Result<bool, Trouble> {
        let changed = self.statement("DELETE FROM credential WHERE name = ?1")?.execute([name])?;
        Ok(changed > 0)
    }
}
