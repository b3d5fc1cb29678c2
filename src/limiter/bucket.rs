//! The generic cell rate algorithm (ITU-T I.371, annex A; as a token bucket: each request takes tokens, which come back
//! at a steady rate up to the burst).
//!
//! Owns the arithmetic. The state of a bucket, its **level**, is the one moment at which it will be full again, in the
//! nanoseconds of [`Moment`]: tokens that are missing are time until then. Invariants: a level never goes back, also if a
//! worker's clock is older than another's; in any time no more is given than the burst and what came back in it (the time
//! of one token is rounded up to a nanosecond); a debt is at most one burst; nothing overflows.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Moment;
use crate::quota::{Quota, Rate};

const SECOND_NANOS: u64 = 1_000_000_000;

/// A bucket: its rate, and its level, which lies where its owner keeps it. A level of zero is a full bucket.
#[derive(Clone, Copy, Debug)]
pub struct Bucket<'a> {
    level: &'a AtomicU64,
    rate: Rate,
    policy: &'static str,
}

/// What came of a request for tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether they were given.
    pub allowed: bool,
    /// When they will be there, in seconds and at least one; zero if they were given.
    pub retry_after_seconds: u32,
    /// What is left, for the reply.
    pub quota: Quota,
}

impl<'a> Bucket<'a> {
    /// The bucket of this level. The level outlives a change of the rate: what is owed stays owed, in time.
    #[must_use]
    pub const fn new(level: &'a AtomicU64, rate: Rate, policy: &'static str) -> Self {
        Self { level, rate, policy }
    }

    /// Takes `cost` tokens if so many are there. More than the burst is asked for as the whole burst; none is a question:
    /// it is denied in debt only.
    #[must_use]
    pub fn take(&self, now: Moment, cost: u32) -> Decision {
        // Nothing else hangs on a level: no order between it and other memory is needed.
        let mut level = self.level.load(Ordering::Relaxed);
        loop {
            let next = match taken(self.rate, level, now, cost) {
                Ok(next) => next,
                Err(wait) => return decision(self.rate, self.policy, level, now, wait),
            };
            match self.level.compare_exchange_weak(level, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return decision(self.rate, self.policy, next, now, 0),
                Err(found) => level = found,
            }
        }
    }

    /// Takes `cost` tokens, there or not: what a request turned out to cost. The debt ends at one burst.
    pub fn debit(&self, now: Moment, cost: u32) -> Decision {
        let step = |level| Some(debited(self.rate, level, now, cost));
        let before = self.level.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        // The step always gives a level, so that both arms hold the one before.
        let (Ok(level) | Err(level)) = before;
        decision(self.rate, self.policy, debited(self.rate, level, now, cost), now, 0)
    }
}

/// The level after `cost` tokens were taken, or how many nanoseconds they are missing for.
pub(super) fn taken(rate: Rate, level: u64, now: Moment, cost: u32) -> Result<u64, u64> {
    let now = now.as_nanos();
    let next = level.max(now).saturating_add(interval(rate) * u64::from(cost.min(rate.burst())));
    match next.saturating_sub(now.saturating_add(capacity(rate))) {
        0 => Ok(next),
        wait => Err(wait),
    }
}

/// What a decision at this level says; `wait` is how many nanoseconds the tokens are missing for.
pub(super) fn decision(rate: Rate, policy: &'static str, level: u64, now: Moment, wait: u64) -> Decision {
    let missing = level.saturating_sub(now.as_nanos());
    let quota = Quota {
        policy,
        limit: rate.burst(),
        window_seconds: seconds(capacity(rate)),
        remaining: narrow(capacity(rate).saturating_sub(missing) / interval(rate)),
        reset_seconds: seconds(missing),
    };
    Decision { allowed: wait == 0, retry_after_seconds: seconds(wait), quota }
}

fn debited(rate: Rate, level: u64, now: Moment, cost: u32) -> u64 {
    let now = now.as_nanos();
    let deepest = now.saturating_add(2 * capacity(rate));
    // A level beyond the deepest is one of another rate, or of a clock that is ahead: it stays.
    level.max(now).saturating_add(interval(rate) * u64::from(cost)).min(deepest).max(level)
}

/// The time in which one token comes back.
fn interval(rate: Rate) -> u64 {
    SECOND_NANOS.div_ceil(u64::from(rate.per_second()))
}

/// The time in which the whole burst comes back.
fn capacity(rate: Rate) -> u64 {
    interval(rate) * u64::from(rate.burst())
}

fn seconds(nanos: u64) -> u32 {
    narrow(nanos.div_ceil(SECOND_NANOS))
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;
    use crate::limits::{RATE_BURST_CEILING_COUNT, RATE_CEILING_COUNT};

    const MILLI: u64 = 1_000_000;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * MILLI)
    }

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate::new(per_second, burst).unwrap()
    }

    #[test]
    fn a_burst_is_given_at_once_and_comes_back_at_the_rate() {
        let level = AtomicU64::new(0);
        let bucket = Bucket::new(&level, rate(10, 5), "key");
        for left in (0..5).rev() {
            let decision = bucket.take(at(0), 1);
            assert!(decision.allowed && decision.retry_after_seconds == 0);
            assert_eq!(decision.quota.remaining, left);
        }
        assert!(!bucket.take(at(0), 1).allowed);
        assert!(!bucket.take(at(99), 1).allowed, "a token takes 100 ms");
        assert!(bucket.take(at(100), 1).allowed);
        assert!(!bucket.take(at(100), 1).allowed);
        assert!(bucket.take(at(1_000_000), 5).allowed, "no more than a burst is saved up");
        assert!(!bucket.take(at(1_000_000), 1).allowed);
    }

    #[test]
    fn a_decision_tells_what_is_left_and_when_to_come_back() {
        let level = AtomicU64::new(0);
        let bucket = Bucket::new(&level, rate(2, 9), "key");
        let quota = bucket.take(at(0), 4).quota;
        let expected = Quota { policy: "key", limit: 9, window_seconds: 5, remaining: 5, reset_seconds: 2 };
        assert_eq!(quota, expected);
        let refused = bucket.take(at(0), 8);
        assert!(!refused.allowed);
        assert_eq!(refused.quota, expected, "a refusal takes nothing");
        assert_eq!(refused.retry_after_seconds, 2, "three tokens are missing");
        assert!(!bucket.take(at(1_499), 8).allowed);
        assert!(bucket.take(at(1_500), 8).allowed);
    }

    #[test]
    fn more_than_the_burst_is_asked_for_as_the_burst() {
        let level = AtomicU64::new(0);
        let bucket = Bucket::new(&level, rate(1, 3), "key");
        assert!(bucket.take(at(0), u32::MAX).allowed);
        assert_eq!(bucket.take(at(0), u32::MAX).retry_after_seconds, 3);
    }

    #[test]
    fn a_debt_is_bounded_and_paid_back() {
        let level = AtomicU64::new(0);
        let bucket = Bucket::new(&level, rate(10, 20), "key");
        let owed = bucket.debit(at(0), 25);
        assert!(owed.allowed && owed.quota.remaining == 0 && owed.quota.reset_seconds == 3);
        assert!(!bucket.take(at(499), 0).allowed, "in debt even a question is denied");
        assert!(bucket.take(at(500), 0).allowed);
        for _ in 0..100 {
            bucket.debit(at(500), u32::MAX);
        }
        assert_eq!(bucket.take(at(500), 1).retry_after_seconds, 3, "one burst of debt, and the token");
        assert!(!bucket.take(at(2_599), 1).allowed);
        assert!(bucket.take(at(2_600), 1).allowed);
    }

    #[test]
    fn a_clock_that_is_behind_gives_nothing() {
        let level = AtomicU64::new(0);
        let bucket = Bucket::new(&level, rate(10, 5), "key");
        assert!(bucket.take(at(10_000), 5).allowed);
        let before = level.load(Ordering::Relaxed);
        assert!(!bucket.take(at(9_000), 1).allowed);
        bucket.debit(at(1), 1);
        assert!(level.load(Ordering::Relaxed) >= before);
        assert!(!bucket.take(at(10_000), 1).allowed);
    }

    #[test]
    fn the_ends_of_time_and_of_the_bounds_do_not_overflow() {
        for rate in [
            rate(1, RATE_BURST_CEILING_COUNT),
            rate(RATE_CEILING_COUNT, RATE_BURST_CEILING_COUNT),
            rate(1, 1),
        ] {
            for now in [Moment::default(), at(1), Moment::from_nanos(u64::MAX - 1), Moment::NEVER] {
                let level = AtomicU64::new(0);
                let bucket = Bucket::new(&level, rate, "key");
                assert!(bucket.take(now, u32::MAX).allowed);
                bucket.debit(now, u32::MAX);
                bucket.debit(Moment::default(), u32::MAX);
                let _ = bucket.take(now, u32::MAX);
            }
        }
    }

    #[test]
    fn many_threads_together_get_exactly_one_allowance() {
        const THREADS: usize = 8;
        const PHASES: u64 = 40;
        // Seven milliseconds are seven tokens.
        let rate = rate(1_000, 100);
        let level = AtomicU64::new(0);
        let (begin, end) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
        let given = AtomicU64::new(0);
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for phase in 0..PHASES {
                        begin.wait();
                        let bucket = Bucket::new(&level, rate, "key");
                        while bucket.take(at(phase * 7), 1).allowed {
                            given.fetch_add(1, Ordering::Relaxed);
                        }
                        end.wait();
                    }
                });
            }
            for phase in 0..PHASES {
                begin.wait();
                end.wait();
                assert_eq!(given.load(Ordering::Relaxed), 100 + 7 * phase, "phase {phase}");
            }
        });
    }

    #[test]
    fn rates_that_do_not_divide_a_second_give_no_more_than_they_say() {
        for (per_second, burst) in [(3, 2), (7, 1), (999_999, 500), (RATE_CEILING_COUNT, 500), (1, 4)] {
            let level = AtomicU64::new(0);
            let bucket = Bucket::new(&level, rate(per_second, burst), "key");
            let (mut given, step) = (0u128, 123_457);
            for count in 0..200_000u64 {
                let now = count * step;
                while bucket.take(Moment::from_nanos(now), 1).allowed {
                    given += 1;
                }
                let most =
                    u128::from(burst) * u128::from(SECOND_NANOS) + u128::from(per_second) * u128::from(now);
                assert!(given * u128::from(SECOND_NANOS) <= most, "{per_second}:{burst} at {now}");
            }
            assert!(
                given > u128::from(per_second) * 24,
                "and hardly less: {given} of {per_second} in 24.7 s"
            );
        }
    }
}
