//! The limits of each mailbox, as Exchange Online keeps them.
//!
//! Owns who is submitting, what was sent in the last minute and to how many in the last day. All of
//! them refuse, or delay, after the final dot only.

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;

use crate::sim::options::{RateExcess, SimOptions};

/// What a mailbox's limits say of one more message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Allowance {
    /// It may go, at this moment, which may be now.
    From(Instant),
    /// Too many sessions: 432.
    TooManySessions,
    /// Too many messages in a minute: 421.
    TooFast,
    /// Too many recipients in a day: 554.
    QuotaUsed,
}

/// The limits of all mailboxes.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    mailboxes: HashMap<String, Use>,
}

#[derive(Debug, Default)]
struct Use {
    /// Authenticated sessions in the order of their AUTH.
    sessions: Vec<u64>,
    /// When messages were let through, oldest first; some may lie ahead.
    sent: VecDeque<Instant>,
    /// When and to how many.
    recipients: VecDeque<(Instant, usize)>,
    /// The sum of `recipients`.
    recipients_in_all: usize,
}

impl Throttle {
    /// A session has authenticated; how many this mailbox has now.
    pub(super) fn join(&mut self, mailbox: &str, session: u64) -> usize {
        let sessions = &mut self.mailbox(mailbox).sessions;
        sessions.push(session);
        sessions.len()
    }

    /// A session is over.
    pub(super) fn leave(&mut self, mailbox: &str, session: u64) {
        self.mailbox(mailbox).sessions.retain(|known| *known != session);
    }

    /// May this session send one more message to so many recipients?
    pub(super) fn ask(
        &mut self,
        options: &SimOptions,
        mailbox: &str,
        session: u64,
        recipients: usize,
        now: Instant,
    ) -> Allowance {
        let limits = options.limits;
        let used = self.mailbox(mailbox);
        let rank = used.sessions.iter().position(|known| *known == session);
        if rank.is_none_or(|rank| rank >= limits.sessions) {
            return Allowance::TooManySessions;
        }
        while let Some((at, count)) = used.recipients.front()
            && *at + options.day <= now
        {
            used.recipients_in_all -= count;
            used.recipients.pop_front();
        }
        if used.recipients_in_all.saturating_add(recipients) > limits.recipients_per_day {
            return Allowance::QuotaUsed;
        }
        while used.sent.front().is_some_and(|at| *at + options.minute <= now) {
            used.sent.pop_front();
        }
        let from = match used.sent.len().checked_sub(limits.messages_per_minute) {
            None => now,
            Some(_) if options.rate_excess == RateExcess::Refuse => return Allowance::TooFast,
            Some(at) => used.sent.get(at).map_or(now, |sent| (*sent + options.minute).max(now)),
        };
        used.sent.push_back(from);
        used.recipients.push_back((now, recipients));
        used.recipients_in_all += recipients;
        Allowance::From(from)
    }

    fn mailbox(&mut self, mailbox: &str) -> &mut Use {
        self.mailboxes.entry(mailbox.to_lowercase()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sim::options::SimLimits;

    fn options() -> SimOptions {
        let limits = SimLimits {
            sessions: 1,
            messages_per_minute: 2,
            recipients_per_day: 5,
            ..SimLimits::default()
        };
        SimOptions { limits, ..SimOptions::default() }
    }

    #[test]
    fn the_first_sessions_to_authenticate_may_submit() {
        let (mut throttle, options, now) = (Throttle::default(), options(), Instant::now());
        assert_eq!(throttle.join("a@b", 1), 1);
        assert_eq!(throttle.join("A@B", 2), 2);
        assert_eq!(throttle.ask(&options, "a@b", 2, 1, now), Allowance::TooManySessions);
        assert_eq!(throttle.ask(&options, "a@b", 1, 1, now), Allowance::From(now));
        throttle.leave("a@b", 1);
        assert_eq!(throttle.ask(&options, "a@b", 2, 1, now), Allowance::From(now));
    }

    #[test]
    fn the_window_of_a_minute_slides() {
        let (mut throttle, mut options, start) = (Throttle::default(), options(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        throttle.join("a@b", 1);
        for (now, from) in [(0, 0), (10, 10), (20, 60), (20, 70), (71, 120), (250, 250)] {
            options.limits.recipients_per_day = 1_000;
            let allowance = throttle.ask(&options, "a@b", 1, 1, after(now));
            assert_eq!(allowance, Allowance::From(after(from)), "at {now}");
        }
        options.rate_excess = RateExcess::Refuse;
        assert_eq!(
            [251, 252, 309, 310].map(|now| throttle.ask(&options, "a@b", 1, 1, after(now))),
            [
                Allowance::From(after(251)),
                Allowance::TooFast,
                Allowance::TooFast,
                Allowance::From(after(310)),
            ]
        );
    }

    #[test]
    fn the_quota_of_a_day_counts_recipients() {
        let (mut throttle, mut options, start) = (Throttle::default(), options(), Instant::now());
        options.limits.messages_per_minute = usize::MAX;
        throttle.join("a@b", 1);
        throttle.join("c@d", 2);
        assert_eq!(throttle.ask(&options, "a@b", 1, 4, start), Allowance::From(start));
        assert_eq!(throttle.ask(&options, "a@b", 1, 2, start), Allowance::QuotaUsed);
        assert_eq!(throttle.ask(&options, "c@d", 2, 5, start), Allowance::From(start));
        assert_eq!(throttle.ask(&options, "a@b", 1, 1, start), Allowance::From(start));
        let later = start + options.day;
        assert_eq!(throttle.ask(&options, "a@b", 1, 5, later), Allowance::From(later));
    }
}
