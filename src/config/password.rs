//! Hashes of local clients' passwords.
//!
//! Owns [`PasswordHash`]: an Argon2id hash as a PHC string, the only form in which a password may
//! stand in a file or in the store. Invariant: the string is complete, and computing it again costs
//! no more than [`limits::PASSWORD_HASH_MEMORY_KIB`] and [`limits::PASSWORD_HASH_PASSES`].
//! Sources: RFC 9106; OWASP Password Storage Cheat Sheet (Argon2id; of
//! its equally strong choices the one with the least memory: 7 MiB, 5 passes, 1 lane).

use std::fmt;
use std::str::FromStr;

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Block, Params, PasswordHasher, Version};
use subtle::ConstantTimeEq;

use crate::base::{Secret, limits};

/// Memory of a new hash.
const MEMORY_KIB: u32 = 7_168;

/// Passes over the memory of a new hash.
const PASSES: u32 = 5;

/// Lanes of a new hash.
const LANES: u32 = 1;

/// An Argon2id hash: `$argon2id$v=19$m=…,t=…,p=…$salt$hash`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(phc::PasswordHash);

impl PasswordHash {
    /// Reads a PHC string.
    pub fn parse(text: &str) -> Result<Self, PasswordHashError> {
        if !text.starts_with('$') {
            return Err(PasswordHashError::NotAHash);
        }
        if !text.starts_with("$argon2id$") {
            return Err(PasswordHashError::Algorithm);
        }
        let hash = phc::PasswordHash::new(text).map_err(|_| PasswordHashError::Damaged)?;
        let is_complete = hash.salt.is_some() && hash.hash.is_some();
        if !is_complete || hash.version != Some(Version::V0x13 as u32) {
            return Err(PasswordHashError::Damaged);
        }
        if hash.params.get("keyid").is_some() || hash.params.get("data").is_some() {
            return Err(PasswordHashError::Damaged);
        }
        let has_all = ["m", "t", "p"].into_iter().all(|name| hash.params.get(name).is_some());
        let params = Params::try_from(&hash).map_err(|_| PasswordHashError::Damaged)?;
        if !has_all {
            return Err(PasswordHashError::Damaged);
        }
        if params.m_cost() > limits::PASSWORD_HASH_MEMORY_KIB
            || params.t_cost() > limits::PASSWORD_HASH_PASSES
            || params.p_cost() > limits::PASSWORD_HASH_LANES
        {
            return Err(PasswordHashError::TooExpensive);
        }
        Ok(Self(hash))
    }

    /// Computes a hash with a fresh salt. Takes 7 MiB and some 20 ms of a core: not for an async
    /// thread.
    pub fn hash(password: &Secret) -> Result<Self, PasswordHashError> {
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
            .expect("the three constants lie within the bounds of RFC 9106 §3.1");
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password(password.expose().as_bytes())
            .map(Self)
            .map_err(|_| PasswordHashError::NotComputed)
    }

    /// True if it is the hash of that password. Takes as long as [`PasswordHash::hash`], with the
    /// parameters of this hash, whatever the result: not for an async thread.
    pub fn verify(&self, password: &Secret) -> bool {
        self.verify_in(&mut HashMemory::default(), password)
    }

    /// The same in memory that is kept from one check to the next.
    pub fn verify_in(&self, memory: &mut HashMemory, password: &Secret) -> bool {
        let hash = &self.0;
        let (Ok(params), Some(salt), Some(expected)) =
            (Params::try_from(hash), hash.salt.as_ref(), hash.hash.as_ref())
        else {
            return false;
        };
        let blocks = memory.of(params.block_count());
        let mut computed = vec![0; expected.as_bytes().len()];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let password = password.expose().as_bytes();
        let is_computed = argon2
            .hash_password_into_with_memory(password, salt.as_ref(), &mut computed, blocks)
            .is_ok();
        is_computed && bool::from(computed.ct_eq(expected.as_bytes()))
    }

    /// A hash of nobody's password: to be checked where there is no other, at the same cost.
    pub fn decoy() -> Self {
        let salt = "bm9ib2R5LW5vYm9keQ";
        let output = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let text = format!("$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${output}");
        Self::parse(&text).expect("the constants make a complete hash")
    }
}

/// The memory in which a hash is computed. It grows to what was needed and is given back when
/// dropped.
#[derive(Default)]
pub struct HashMemory(Vec<Block>);

impl HashMemory {
    fn of(&mut self, blocks: usize) -> &mut [Block] {
        if self.0.len() < blocks {
            self.0.resize(blocks, Block::new());
        }
        &mut self.0[..blocks]
    }
}

impl fmt::Display for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for PasswordHash {
    /// Not the hash: it has no business in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[password hash]")
    }
}

impl FromStr for PasswordHash {
    type Err = PasswordHashError;

    fn from_str(text: &str) -> Result<Self, PasswordHashError> {
        Self::parse(text)
    }
}

/// Why there is no hash. None of these texts repeats what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordHashError {
    /// Something else entirely, probably the password.
    #[error("this is not the hash of a password")]
    NotAHash,
    /// A hash of another kind.
    #[error("this hash is not of the kind argon2id")]
    Algorithm,
    /// An Argon2id hash of which something is missing or wrong.
    #[error("this Argon2id hash is damaged")]
    Damaged,
    /// Each login would cost too much.
    #[error(
        "checking this hash would take more than {} MiB, {} passes or {} lanes",
        limits::PASSWORD_HASH_MEMORY_KIB / 1_024,
        limits::PASSWORD_HASH_PASSES,
        limits::PASSWORD_HASH_LANES
    )]
    TooExpensive,
    /// The machine has no random numbers, or the password has more than 4 GiB.
    #[error("the hash could not be computed")]
    NotComputed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_hash_has_the_recommended_cost_and_knows_its_password() {
        let hash = PasswordHash::hash(&Secret::new("correct horse")).unwrap();
        let text = hash.to_string();
        assert!(text.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"), "{text}");
        let again = PasswordHash::parse(&text).unwrap();
        assert_eq!(again, hash);
        assert!(again.verify(&Secret::new("correct horse")));
        assert!(!again.verify(&Secret::new("correct hors")));
        assert!(!again.verify(&Secret::new("")));
        let mut memory = HashMemory::default();
        for (password, is_right) in [("x", false), ("correct horse", true), ("y", false)] {
            let password = Secret::new(password);
            assert_eq!(hash.verify_in(&mut memory, &password), is_right);
            assert!(!PasswordHash::decoy().verify_in(&mut memory, &password));
        }
        assert_ne!(PasswordHash::hash(&Secret::new("correct horse")).unwrap(), hash);
        assert_eq!(format!("{hash:?}"), "[password hash]");
    }

    #[test]
    fn a_hash_of_the_reference_implementation_is_understood() {
        // From the test vectors of P-H-C/phc-winner-argon2, src/test.c.
        let text = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        let hash = PasswordHash::parse(text).unwrap();
        assert!(hash.verify(&Secret::new("password")));
        assert!(!hash.verify(&Secret::new("sassword")));
    }

    #[test]
    fn texts_that_are_no_hash() {
        let tail = "c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
        for (text, why) in [
            ("hunter2".to_owned(), PasswordHashError::NotAHash),
            (String::new(), PasswordHashError::NotAHash),
            ("$2y$10$abcdefghijklmnopqrstuv".to_owned(), PasswordHashError::Algorithm),
            (format!("$argon2i$v=19$m=65536,t=2,p=1${tail}"), PasswordHashError::Algorithm),
            ("$argon2id$".to_owned(), PasswordHashError::Damaged),
            ("$argon2id$v=19$m=65536,t=2,p=1".to_owned(), PasswordHashError::Damaged),
            ("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ".to_owned(), PasswordHashError::Damaged),
            (format!("$argon2id$v=19$m=65536,t=2,p=1${tail}$"), PasswordHashError::Damaged),
            (format!("$argon2id$v=16$m=65536,t=2,p=1${tail}"), PasswordHashError::Damaged),
            (format!("$argon2id$m=65536,t=2,p=1${tail}"), PasswordHashError::Damaged),
            (format!("$argon2id$v=19$m=1,t=2,p=1${tail}"), PasswordHashError::Damaged),
            (format!("$argon2id$v=19$m=65536,t=0,p=1${tail}"), PasswordHashError::Damaged),
            (format!("$argon2id$v=19$m=65536,t=2${tail}"), PasswordHashError::Damaged),
            (format!("$argon2id$v=19$m=65536,t=2,p=1,x=1${tail}"), PasswordHashError::Damaged),
            (format!("$argon2id$v=19$m=4194304,t=2,p=1${tail}"), PasswordHashError::TooExpensive),
            (format!("$argon2id$v=19$m=65536,t=1000,p=1${tail}"), PasswordHashError::TooExpensive),
        ] {
            assert_eq!(PasswordHash::parse(&text), Err(why), "{text:?}");
        }
    }
}
