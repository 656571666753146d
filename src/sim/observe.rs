//! What a simulated provider has seen, and how to wait for it without sleeping.
//!
//! Owns the received messages, the counters and the list of offences. Every change wakes those who
//! wait; every wait has a deadline and fails with what had been seen until then.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::base::Printable;

/// Lines of the transcript that a wait in vain shows.
const SAID_LINES: usize = 30;

/// A message that the service has taken: its final reply was positive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The session that brought it, counted from 1.
    pub session: u64,
    /// The mailbox that the session was authenticated as, as configured.
    pub user: String,
    /// The argument of MAIL without the angle brackets; empty for the null reverse-path.
    pub reverse_path: String,
    /// The parameters of MAIL, as they were written.
    pub mail_parameters: Vec<String>,
    /// The arguments of RCPT without the angle brackets, in their order.
    pub forward_paths: Vec<String>,
    /// The message, byte for byte, after the dots were unstuffed.
    pub bytes: Bytes,
    /// The Message-ID that the service put in place of the message's own, as in the final reply.
    pub message_id: String,
}

/// What a simulated provider has counted since it started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// TCP connections to the SMTP service.
    pub connections: u64,
    /// SMTP sessions that are open now.
    pub open_sessions: usize,
    /// The most SMTP sessions that were open at a time.
    pub most_sessions: usize,
    /// The most authenticated sessions at a time, by mailbox.
    pub most_sessions_of: BTreeMap<String, usize>,
    /// TLS handshakes that were completed.
    pub handshakes: u64,
    /// TLS handshakes that failed, for instance because the client refused the certificate.
    pub failed_handshakes: u64,
    /// AUTH commands.
    pub auths: u64,
    /// AUTH commands that ended in 235.
    pub auths_accepted: u64,
    /// MAIL commands that were accepted.
    pub transactions: u64,
    /// Final dots (or last chunks) that were read.
    pub finals: u64,
    /// Messages that were taken.
    pub messages: u64,
    /// Replies of code 4yz and 5yz, by their first word or two: `432 4.3.2`, `550 5.1.1`.
    pub refusals: BTreeMap<String, u64>,
    /// Messages whose final reply waited for the limit per minute.
    pub delayed: u64,
    /// Requests to the authorization page.
    pub authorize_requests: u64,
    /// Requests to the token endpoint, by `grant_type`.
    pub token_requests: BTreeMap<String, u64>,
    /// Access tokens that were issued, by request or by a test.
    pub access_tokens: u64,
}

impl Counts {
    /// Requests to the token endpoint with this `grant_type`.
    pub fn token_requests_of(&self, grant_type: &str) -> u64 {
        self.token_requests.get(grant_type).copied().unwrap_or(0)
    }

    /// Refusals that started with these codes.
    pub fn refusals_of(&self, codes: &str) -> u64 {
        self.refusals.get(codes).copied().unwrap_or(0)
    }
}

/// A wait that was in vain.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "waited {waited:?} for {what} in vain; seen: {seen:?}, offences: {offences:?}, said: {said:#?}"
)]
pub struct Overdue {
    /// What was waited for.
    pub what: String,
    /// For how long.
    pub waited: Duration,
    /// What had been counted when the wait ended.
    pub seen: Box<Counts>,
    /// What clients had done wrong.
    pub offences: Vec<String>,
    /// The last lines that were said over SMTP.
    pub said: Vec<String>,
}

/// The book that sessions and requests write into. A handle; clones write the same book.
#[derive(Clone, Debug)]
pub(super) struct Book(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pages: Mutex<Pages>,
    changes: watch::Sender<u64>,
    kept_messages: usize,
    kept_lines: usize,
}

#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) counts: Counts,
    pub(super) received: VecDeque<Received>,
    /// The last lines of all dialogs.
    pub(super) transcript: VecDeque<String>,
    pub(super) offences: Vec<String>,
}

impl Book {
    pub(super) fn new(kept_messages: usize, kept_lines: usize) -> Self {
        Self(Arc::new(Inner {
            pages: Mutex::default(),
            changes: watch::Sender::new(0),
            kept_messages,
            kept_lines,
        }))
    }

    /// Reads.
    pub(super) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes, and wakes those who wait.
    pub(super) fn write<T>(&self, change: impl FnOnce(&mut Pages) -> T) -> T {
        let result = change(&mut self.pages());
        self.touch();
        result
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        self.write(|pages| change(&mut pages.counts));
    }

    /// Wakes those who wait for something that is not in the book itself.
    pub(super) fn touch(&self) {
        self.0.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    pub(super) fn offence(&self, session: u64, what: &str) {
        self.write(|pages| pages.offences.push(format!("session {session}: {what}")));
    }

    /// Writes a line of a dialog down. It must not hold a secret.
    pub(super) fn line(&self, session: u64, speaker: &str, text: &str) {
        if self.0.kept_lines > 0 {
            let mut pages = self.pages();
            for line in text.split('\n') {
                if pages.transcript.len() >= self.0.kept_lines {
                    pages.transcript.pop_front();
                }
                let line = Printable::text(line);
                pages.transcript.push_back(format!("{session} {speaker}: {line}"));
            }
        }
    }

    pub(super) fn take(&self, message: Received) {
        self.write(|pages| {
            pages.counts.messages += 1;
            if self.0.kept_messages > 0 {
                if pages.received.len() >= self.0.kept_messages {
                    pages.received.pop_front();
                }
                pages.received.push_back(message);
            }
        });
    }

    pub(super) fn refusal(&self, reply: &str) {
        let codes: String = reply.chars().take_while(|c| *c != '\n').collect();
        let mut words = codes.split([' ', '-']);
        let code = words.next().unwrap_or("");
        let enhanced = words.next().filter(|word| word.starts_with(['4', '5']));
        let codes = match enhanced.filter(|word| word.contains('.')) {
            Some(enhanced) => format!("{code} {enhanced}"),
            None => code.to_owned(),
        };
        self.count(|counts| *counts.refusals.entry(codes).or_default() += 1);
    }

    /// Waits until `look` finds something.
    pub(super) async fn until<T>(
        &self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut(&Pages) -> Option<T>,
    ) -> Result<T, Overdue> {
        let deadline = Instant::now() + patience;
        let mut changes = self.0.changes.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some(found) = look(&self.pages()) {
                return Ok(found);
            }
            if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                let pages = self.pages();
                return Err(Overdue {
                    what: what.to_owned(),
                    waited: patience,
                    seen: Box::new(pages.counts.clone()),
                    offences: pages.offences.clone(),
                    said: pages.transcript.iter().rev().take(SAID_LINES).rev().cloned().collect(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_their_codes() {
        let book = Book::new(1, 1);
        for reply in
            ["432 4.3.2 Concurrent", "432 4.3.2 again", "535-5.7.8 a\n535 5.7.8 b", "500 x"]
        {
            book.refusal(reply);
        }
        let counts = book.pages().counts.clone();
        assert_eq!(counts.refusals_of("432 4.3.2"), 2);
        assert_eq!(counts.refusals_of("535 5.7.8"), 1);
        assert_eq!(counts.refusals_of("500"), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_in_vain_says_what_was_seen() {
        let book = Book::new(1, 1);
        book.offence(7, "said nothing");
        let patience = Duration::from_secs(5);
        let overdue =
            book.until("a message", patience, |pages| pages.received.front().cloned()).await;
        let text = overdue.unwrap_err().to_string();
        assert!(text.contains("a message") && text.contains("session 7: said nothing"), "{text}");
    }
}
