//! What goes into the store and comes out of it, as values.
//!
//! Owns the types of the face. They know nothing of SQL and nothing of files.

use crate::base::{QueueId, Secret, Timestamp};
use crate::mail::{Class, Envelope, ForwardPath, Outcome, Status};
use crate::store::Body;

/// A message that is to be kept.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Its name, as the client is told.
    pub id: QueueId,
    /// The account that it leaves through.
    pub account: String,
    /// The credential that brought it, if any did.
    pub credential: Option<String>,
    /// When its end of data arrived.
    pub received_at: Timestamp,
    /// When it is to be tried (again).
    pub next_attempt_at: Timestamp,
    /// From whom, to whom.
    pub envelope: Envelope,
    /// What we put in front of the body.
    pub prologue: Vec<u8>,
    /// What the client sent.
    pub body: Body,
    /// What a first attempt has already settled, by position in the envelope. Only these recipients
    /// are counted as delivered or failed.
    pub first_outcomes: Vec<(u32, Outcome)>,
    /// Attempts so far.
    pub attempts: u32,
}

/// A message that waits, with the recipients that it still waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedMessage {
    /// Its name.
    pub id: QueueId,
    /// The account that it leaves through.
    pub account: String,
    /// The credential that brought it, if any did.
    pub credential: Option<String>,
    /// When its end of data arrived.
    pub received_at: Timestamp,
    /// The envelope with those recipients only that are still queued.
    pub envelope: Envelope,
    /// For each of them its position in the envelope as it was accepted; outcomes name these.
    pub recipient_indices: Vec<u32>,
    /// Attempts so far that counted.
    pub attempts: u32,
    /// Bytes of prologue and body.
    pub size: u64,
    /// When it is to be tried next.
    pub next_attempt_at: Timestamp,
}

/// What is left of a message after an attempt, counted in recipients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Still queued.
    pub remaining: u32,
    /// Delivered by this attempt.
    pub delivered: u32,
    /// Failed by this attempt.
    pub failed: u32,
}

/// What a recipient of a stored message is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecipientState {
    /// For an attempt.
    Queued,
    /// For nothing any more: it was refused for good.
    Failed,
}

/// A recipient that is still in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecipient {
    /// Its position in the envelope as it was accepted.
    pub index: u32,
    /// Its address.
    pub forward_path: ForwardPath,
    /// Queued or failed.
    pub state: RecipientState,
    /// What the last attempt meant, and its evidence.
    pub last: Option<(Class, Status)>,
    /// Attempts that ended without anybody knowing whether they had delivered.
    pub uncertain: u32,
}

/// A message that was set aside because its record is damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Its name, as far as it can be read.
    pub id: String,
    /// What is wrong with it.
    pub what: String,
}

/// The books of one account, counted in recipients of stored messages.
///
/// Invariant: `accepted == delivered + queued + failed`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountTotals {
    /// The account.
    pub account: String,
    /// Ever stored.
    pub accepted: u64,
    /// Delivered.
    pub delivered: u64,
    /// Waiting, those of messages that were set aside among them.
    pub queued: u64,
    /// Refused for good.
    pub failed: u64,
    /// Attempts that ended uncertain; such a recipient stays queued.
    pub uncertain: u64,
}

/// An account that needs a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspension {
    /// Why, with what to do.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// What lets us renew the tokens of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGrant {
    /// The refresh token, if the grant has one.
    pub refresh_token: Option<Secret>,
    /// The newest access token.
    pub access_token: Option<Secret>,
    /// When the access token ends.
    pub expires_at: Option<Timestamp>,
    /// When it was obtained.
    pub obtained_at: Timestamp,
    /// The address of whoever consented, if the provider said so.
    pub obtained_by: Option<String>,
    /// Why the refresh token can no longer renew, once the provider has said so for good. It is kept
    /// all the same.
    pub retired: Option<String>,
    /// What it came from. None: it was stored by a version that did not record this.
    pub origin: Option<Origin>,
    /// Counts the changes of this account's grant; never 0, never used twice.
    pub version: u64,
}

/// What a grant came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// In which way it was obtained, in words.
    pub how: String,
    /// When; renewals do not change it.
    pub at: Timestamp,
    /// The configuration that it was obtained with. A grant is of no use to another one.
    pub bound_to: String,
}

/// What kept an account from getting a token the last time. It may be over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTrouble {
    /// What it was, and what to do, safe to show.
    pub reason: String,
    /// When it was met.
    pub at: Timestamp,
}

/// A grant to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGrant {
    /// The refresh token, if the grant has one.
    pub refresh_token: Option<Secret>,
    /// The access token.
    pub access_token: Option<Secret>,
    /// When the access token ends.
    pub expires_at: Option<Timestamp>,
    /// When it was obtained.
    pub obtained_at: Timestamp,
    /// The address of whoever consented, if the provider said so.
    pub obtained_by: Option<String>,
    /// Why the refresh token can no longer renew, once the provider has said so for good. It is kept
    /// all the same.
    pub retired: Option<String>,
    /// What it came from. None: it was stored by a version that did not record this.
    pub origin: Option<Origin>,
}

/// A credential that was made with the command line and not with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCredential {
    /// What a client presents as its user name.
    pub name: String,
    /// The Argon2id hash of its password, as a PHC string.
    pub password_hash: String,
    /// The account that it may use.
    pub account: String,
    /// Patterns of the sender addresses that it may use.
    pub may_send_as: Vec<String>,
    /// Patterns of the recipients that it may write to.
    pub may_send_to: Vec<String>,
    /// When it was made.
    pub created_at: Timestamp,
}
