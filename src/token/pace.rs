//! When to ask a token endpoint, as pure rules.
//!
//! Owns [`TokenPace`]. Chance is handed in as `jitter`, a number from 0 up to 1.

use std::time::Duration;

use crate::base::limits;
use crate::net::HttpPatience;

/// The waits of a [`TokenManager`](crate::token::TokenManager). The default is what
/// [`limits`] says; tests are in more of a hurry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenPace {
    /// How long the endpoint may take.
    pub patience: HttpPatience,
    /// A token is renewed when so much of its life is left, or a fifth of it if that is less.
    pub ahead: Duration,
    /// First wait after no token came; doubles.
    pub back_off_first: Duration,
    /// Longest such wait.
    pub back_off_max: Duration,
    /// First wait after the registration was refused; doubles.
    pub misconfigured_first: Duration,
    /// Longest such wait.
    pub misconfigured_max: Duration,
    /// A token that replaced a refused one is not replaced again within this time.
    pub force_again: Duration,
    /// How often the store is looked at for what other processes did.
    pub poll: Duration,
}

impl Default for TokenPace {
    fn default() -> Self {
        Self {
            patience: HttpPatience::default(),
            ahead: limits::TOKEN_AHEAD,
            back_off_first: limits::TOKEN_BACK_OFF_FIRST,
            back_off_max: limits::TOKEN_BACK_OFF_MAX,
            misconfigured_first: limits::TOKEN_MISCONFIGURED_FIRST,
            misconfigured_max: limits::TOKEN_MISCONFIGURED_MAX,
            force_again: limits::TOKEN_FORCE_AGAIN,
            poll: limits::STORE_POLL,
        }
    }
}

impl TokenPace {
    /// How long a token with this life is taken to live.
    pub(super) fn life(expires_in: Option<Duration>) -> Duration {
        expires_in.unwrap_or(limits::TOKEN_UNSTATED_LIFE).max(limits::TOKEN_SHORTEST_LIFE)
    }

    /// How long before its end a token is renewed: earlier by up to a quarter, so that accounts
    /// that started together do not ask together for ever.
    pub(super) fn renew_ahead(&self, life: Duration, jitter: f64) -> Duration {
        self.ahead.min(life / 5).mul_f64(1.0 + jitter / 4.0)
    }

    /// How long before its end a token is no longer handed out: a request takes time to arrive,
    /// and clocks differ.
    pub(super) fn stop_ahead(life: Duration) -> Duration {
        Duration::from_secs(10).min(life / 10)
    }

    /// The wait after the `failures`-th failure in a row, never shorter than the endpoint asks.
    pub(super) fn back_off(
        &self,
        failures: u32,
        retry_after: Option<Duration>,
        jitter: f64,
    ) -> Duration {
        let wait = doubled(self.back_off_first, self.back_off_max, failures);
        wait.max(retry_after.unwrap_or_default()).mul_f64(1.0 + jitter / 4.0)
    }

    /// The wait after the registration was refused for the `failures`-th time in a row.
    pub(super) fn misconfigured(&self, failures: u32, jitter: f64) -> Duration {
        let wait = doubled(self.misconfigured_first, self.misconfigured_max, failures);
        wait.mul_f64(1.0 + jitter / 4.0)
    }
}

fn doubled(first: Duration, longest: Duration, failures: u32) -> Duration {
    first.saturating_mul(1 << failures.saturating_sub(1).min(30)).min(longest)
}

/// From 0 up to 1, from the operating system.
pub(super) fn jitter() -> f64 {
    f64::from(getrandom::u32().unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waits_double_up_to_their_end() {
        let pace = TokenPace::default();
        let seconds: Vec<u64> =
            (1..=11).map(|failures| pace.back_off(failures, None, 0.0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let minutes: Vec<u64> =
            (1..=8).map(|failures| pace.misconfigured(failures, 0.0).as_secs() / 60).collect();
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_refused_registration_costs_few_requests_a_day() {
        let pace = TokenPace::default();
        let mut day = Duration::from_secs(86_400);
        let mut requests = 0;
        while let Some(left) = day.checked_sub(pace.misconfigured(requests, 0.0)) {
            (day, requests) = (left, requests + 1);
        }
        assert!(requests < 40, "{requests}");
    }

    #[test]
    fn a_short_life_is_renewed_in_its_last_fifth() {
        let pace = TokenPace::default();
        let cases = [(3_600, 600), (86_400, 600), (1_000, 200), (60, 12)];
        for (life, ahead) in cases {
            let life = Duration::from_secs(life);
            assert_eq!(pace.renew_ahead(life, 0.0).as_secs(), ahead);
        }
        assert_eq!(TokenPace::life(Some(Duration::ZERO)), limits::TOKEN_SHORTEST_LIFE);
        assert_eq!(TokenPace::life(None), limits::TOKEN_UNSTATED_LIFE);
    }

    proptest! {
        #[test]
        fn waits_are_bounded_and_never_shorter_than_asked(
            failures: u32, asked in 0_u64..10_000, jitter in 0.0..1.0,
        ) {
            let pace = TokenPace::default();
            let asked = Duration::from_secs(asked);
            let wait = pace.back_off(failures, Some(asked), jitter);
            prop_assert!(wait >= asked && wait >= pace.back_off_first);
            prop_assert!(wait <= asked.max(pace.back_off_max).mul_f64(1.25));
        }

        #[test]
        fn a_token_is_renewed_before_it_is_no_longer_handed_out(
            seconds in 60_u64..100_000, jitter in 0.0..1.0,
        ) {
            let life = Duration::from_secs(seconds);
            let ahead = TokenPace::default().renew_ahead(life, jitter);
            prop_assert!(ahead > TokenPace::stop_ahead(life) && ahead < life);
        }
    }
}
