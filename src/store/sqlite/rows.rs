//! What of a message never changes, its digests, and the texts that stand for values in columns.

use ring::digest;
use rusqlite::Row;

use crate::base::limits;
use crate::mail::{Class, Status};
use crate::store::StoreError;
use crate::store::sqlite::Trouble;

/// Bytes of a digest that are kept: enough to see damage, which is not an attack.
const DIGEST_BYTES: usize = 16;

/// What of a message never changes.
pub(super) struct Head {
    pub(super) id: String,
    pub(super) account: String,
    pub(super) credential: Option<String>,
    pub(super) received_at: i64,
    pub(super) reverse_path: String,
    pub(super) eight_bit: bool,
    pub(super) smtputf8: bool,
    pub(super) size: i64,
    pub(super) chunks: i64,
    pub(super) recipients: u32,
}

impl Head {
    pub(super) fn from_row(row: &Row<'_>) -> Result<Self, Trouble> {
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

    pub(super) fn digest(&self) -> [u8; DIGEST_BYTES] {
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

pub(super) fn recipient_digest(id: &str, position: u32, path: &str) -> [u8; DIGEST_BYTES] {
    digest_of(&[b"recipient", id.as_bytes(), &position.to_be_bytes(), path.as_bytes()])
}

pub(super) fn chunk_digest(id: &str, position: u32, bytes: &[u8]) -> [u8; DIGEST_BYTES] {
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
pub(super) fn encode_status(status: &Status) -> Result<String, Trouble> {
    let text: String = status.text.chars().take(limits::PRINTABLE_LENGTH).collect();
    let bounded = Status { text, ..status.clone() };
    serde_json::to_string(&bounded).map_err(|error| {
        StoreError::Misuse { what: format!("a status cannot be written: {error}") }.into()
    })
}

pub(super) fn decode_class(text: &str) -> Option<Class> {
    [Class::Delivered, Class::Defer, Class::Hold, Class::Suspend, Class::Fail, Class::Uncertain]
        .into_iter()
        .find(|class| class.as_str() == text)
}

pub(super) fn damaged(id: &str, why: &str) -> Trouble {
    StoreError::Damaged {
        what: format!("message {id}: {why}"),
        remedy: "ask its sender to send it again".to_owned(),
    }
    .into()
}

pub(super) fn unaccounted(what: String) -> Trouble {
    StoreError::Unaccounted { what }.into()
}
