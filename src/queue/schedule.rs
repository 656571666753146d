//! When to try again: pure functions of the number of attempts.
//!
//! Owns [`Schedule`]. Waits double from the first to the longest, spread by up to a quarter either
//! way so that what failed together does not come back together (RFC 5321 §4.5.4.1 asks for a
//! growing interval).

use std::time::Duration;

use crate::base::limits;

/// The waits between attempts.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// After the first deferral of a message.
    pub first: Duration,
    /// The longest wait for a message.
    pub longest: Duration,
    /// After the first failure to reach or log in to upstream at all.
    pub rest_first: Duration,
    /// The longest such wait.
    pub rest_longest: Duration,
    /// Between looks at a suspended account.
    pub probe: Duration,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            first: limits::RETRY_FIRST,
            longest: limits::RETRY_MAX,
            rest_first: limits::REST_FIRST,
            rest_longest: limits::REST_MAX,
            probe: limits::PROBE_SUSPENDED,
        }
    }
}

impl Schedule {
    /// The wait before the next attempt at a message that has had `attempts`, at least one.
    pub fn retry(&self, attempts: u32, spread: f64) -> Duration {
        doubled(self.first, self.longest, attempts, spread)
    }

    /// The wait of a lane after so many failures in a row, at least one.
    pub fn rest(&self, failures: u32, spread: f64) -> Duration {
        doubled(self.rest_first, self.rest_longest, failures, spread)
    }
}

/// `spread` is 0 to 1; a half changes nothing.
fn doubled(first: Duration, longest: Duration, count: u32, spread: f64) -> Duration {
    let doublings = count.saturating_sub(1).min(31);
    let wait = first.saturating_mul(1 << doublings).min(longest);
    wait.mul_f64(0.75 + spread.clamp(0.0, 1.0) / 2.0)
}

/// A random spread for one wait.
pub(crate) fn random_spread() -> f64 {
    f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_stay_within_their_spread() {
        let schedule = Schedule::default();
        let wait = |attempts| schedule.retry(attempts, 0.5);
        assert_eq!(wait(1), Duration::from_secs(60));
        assert_eq!(wait(2), Duration::from_secs(120));
        assert_eq!(wait(7), Duration::from_secs(3_600));
        assert_eq!(wait(u32::MAX), Duration::from_secs(3_600));
        for attempts in 1..40 {
            assert!(wait(attempts) <= wait(attempts + 1));
            assert_eq!(schedule.retry(attempts, 0.0), wait(attempts).mul_f64(0.75));
            assert_eq!(schedule.retry(attempts, 1.0), wait(attempts).mul_f64(1.25));
        }
    }
}
