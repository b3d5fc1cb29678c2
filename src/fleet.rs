//! What servers that share a store know of how new their state is, and of how many they are.
//!
//! Owns [`Fleet`], which the keeper writes and the workers read. Invariants: a state counts as no newer than it was known to be before it was
//! asked for; a server alone is never stale, and looks at no clock for it; a share of a rate is at least one.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::Arc;

use crate::clock::BootTime;
use crate::quota::Rate;

/// A server among others, or alone.
#[derive(Debug)]
pub struct Fleet {
    /// How old the state may be; nothing: it is always the newest.
    max_nanos: Option<u64>,
    fresh_nanos: AtomicU64,
    members: AtomicU32,
}

impl Fleet {
    /// A server that alone writes to its store.
    #[must_use]
    pub fn alone() -> Arc<Self> {
        Arc::new(Self { max_nanos: None, fresh_nanos: AtomicU64::new(0), members: AtomicU32::new(1) })
    }

    /// One of several, whose state may be so old.
    #[must_use]
    pub fn of(max_staleness_seconds: u64) -> Arc<Self> {
        let max_nanos = Some(max_staleness_seconds.saturating_mul(1_000_000_000));
        Arc::new(Self { max_nanos, fresh_nanos: AtomicU64::new(0), members: AtomicU32::new(1) })
    }

    /// Notes when the state that is published was known to be the newest, and how many servers there are.
    pub fn note(&self, fresh_nanos: u64, members: usize) {
        self.fresh_nanos.fetch_max(fresh_nanos, Ordering::Release);
        self.members.store(u32::try_from(members.max(1)).unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// Whether the state is too old to say who may do what. Whoever finds that it is not has looked at the clock after he looked at the
    /// state.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.max_nanos.is_some_and(|most| self.age_nanos() > most)
    }

    /// How long ago the state was known to be the newest; 0 for a server alone.
    #[must_use]
    pub fn age_nanos(&self) -> u64 {
        if self.max_nanos.is_none() {
            return 0;
        }
        let fresh = self.fresh_nanos.load(Ordering::Acquire);
        BootTime::now().as_nanos().saturating_sub(fresh)
    }

    /// How many servers there are.
    #[must_use]
    pub fn members(&self) -> u32 {
        self.members.load(Ordering::Relaxed)
    }

    /// Whether there may be others.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.max_nanos.is_some()
    }

    /// What this server may allow of `rate`.
    #[must_use]
    pub fn share(&self, rate: Rate) -> Rate {
        match self.members() {
            0 | 1 => rate,
            members => {
                let share = |of: u32| of.div_ceil(members);
                // No share is zero, or more than the whole.
                Rate::new(share(rate.per_second()), share(rate.burst())).unwrap_or(rate)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_alone_is_never_stale_and_one_of_several_is_until_it_has_heard() {
        assert!(!Fleet::alone().is_stale() && Fleet::alone().age_nanos() == 0);
        let fleet = Fleet::of(60);
        let now = BootTime::now().as_nanos();
        // A machine that was booted a minute ago knows of no such time.
        assert_eq!(fleet.is_stale(), now > 60_000_000_000);
        fleet.note(now, 1);
        assert!(!fleet.is_stale());
        let strict = Fleet::of(0);
        strict.note(now - 1, 1);
        assert!(strict.is_stale(), "the clock has moved since");
        strict.note(now - 2, 1);
        assert!(strict.age_nanos() < 60_000_000_000, "an older word does not count");
    }

    #[test]
    fn rates_are_divided_by_those_who_live() {
        let fleet = Fleet::of(60);
        let rate = |per_second, burst| Rate::new(per_second, burst).unwrap();
        assert_eq!(fleet.share(rate(100, 1_000)), rate(100, 1_000));
        fleet.note(0, 3);
        assert_eq!(fleet.share(rate(100, 1_000)), rate(34, 334));
        assert_eq!(fleet.share(rate(1, 2)), rate(1, 1));
        fleet.note(0, 0);
        assert_eq!(fleet.share(rate(1, 2)), rate(1, 2));
    }
}
