//! Identifiers that people read aloud: short, unique, sorted by time where it helps.
//!
//! Owns [`QueueId`] and [`SessionId`]. They carry no secret and name no person.

use std::fmt;
use std::str::FromStr;

use crate::base::Timestamp;

/// Crockford's base 32: no letter that is mistaken for a digit, and sorted like the number.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Names one accepted message for as long as anybody may ask about it.
///
/// 16 characters: 48 bits of milliseconds and 32 random bits, so that ids sort by time of arrival.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId([u8; 16]);

impl QueueId {
    /// A fresh id for a message that arrived at `now`.
    pub fn generate(now: Timestamp) -> Self {
        let millis = u128::from(now.as_millis().unsigned_abs()) & 0xffff_ffff_ffff;
        Self(encode((millis << 32) | u128::from(random_u32())))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("every character is from ALPHABET, which is ASCII")
    }
}

fn encode(number: u128) -> [u8; 16] {
    std::array::from_fn(|at| ALPHABET[(number >> (75 - 5 * at)) as usize & 31])
}

fn random_u32() -> u32 {
    getrandom::u32().expect("the operating system always has random numbers once it has booted")
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for QueueId {
    type Err = NotAQueueId;

    fn from_str(text: &str) -> Result<Self, NotAQueueId> {
        let upper = text.to_ascii_uppercase();
        let bytes: [u8; 16] = upper.as_bytes().try_into().map_err(|_| NotAQueueId)?;
        match bytes.iter().all(|byte| ALPHABET.contains(byte)) {
            true => Ok(Self(bytes)),
            false => Err(NotAQueueId),
        }
    }
}

/// The text is not a queue id: those are 16 letters and digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a queue id (16 letters and digits, as in the reply `250 2.0.0 queued as …`)")]
pub struct NotAQueueId;

/// Names one inbound session in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(u32);

impl SessionId {
    /// A fresh id.
    pub fn generate() -> Self {
        Self(random_u32())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_survive_a_round_trip() {
        let earlier = QueueId::generate(Timestamp::from_millis(1_795_436_435_123));
        let later = QueueId::generate(Timestamp::from_millis(1_795_436_435_124));
        assert!(earlier < later);
        assert_eq!(later.to_string().to_lowercase().parse(), Ok(later));
        assert_eq!("short".parse::<QueueId>(), Err(NotAQueueId));
        assert_eq!("U234567890123456".parse::<QueueId>(), Err(NotAQueueId));
    }
}
