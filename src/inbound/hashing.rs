//! Where passwords are checked.
//!
//! Owns the few threads that compute password hashes. They are threads of their own for two reasons:
//! a hash keeps a core busy for some 20 ms, and it needs a large block of memory, which each thread
//! keeps for the next one. Allocated anew for each hash, such blocks pile up in the C library's heap.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use tokio::sync::oneshot;

use crate::base::Secret;
use crate::config::{HashMemory, PasswordHash};

/// Checks passwords, a few at a time.
pub(crate) struct Hashing(mpsc::Sender<Question>);

struct Question {
    hash: PasswordHash,
    password: Secret,
    answer: oneshot::Sender<bool>,
}

impl Hashing {
    /// Starts that many threads. They end when this is dropped.
    pub(crate) fn start(threads: usize) -> io::Result<Self> {
        let (questions, next) = mpsc::channel();
        let next = Arc::new(Mutex::new(next));
        for _ in 0..threads {
            let next = next.clone();
            thread::Builder::new().name("hashing".to_owned()).spawn(move || answer_all(&next))?;
        }
        Ok(Self(questions))
    }

    /// True if it is the hash of that password. Waits for its turn; always computes the whole hash.
    pub(crate) async fn verify(&self, hash: PasswordHash, password: Secret) -> bool {
        let (answer, answered) = oneshot::channel();
        let is_asked = self.0.send(Question { hash, password, answer }).is_ok();
        is_asked && answered.await.unwrap_or(false)
    }
}

fn answer_all(next: &Mutex<mpsc::Receiver<Question>>) {
    let mut memory = HashMemory::default();
    loop {
        let question = next.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Question { hash, password, answer }) = question else { return };
        // Whoever asked may have gone; then nobody needs to know.
        if !answer.is_closed() {
            let _ = answer.send(hash.verify_in(&mut memory, &password));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn right_and_wrong_passwords_are_told_apart_by_any_number_of_askers() {
        let hashing = Hashing::start(2).unwrap();
        let hash = PasswordHash::hash(&Secret::new("right")).unwrap();
        for password in ["right", "wrong", "", "right"] {
            let verified = hashing.verify(hash.clone(), Secret::new(password)).await;
            assert_eq!(verified, password == "right");
        }
    }
}
