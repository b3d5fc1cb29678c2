//! How often somebody may ask and how much of that is left, and how much memory somebody holds.
//!
//! Owns [`Rate`] and [`Quota`], plain types that limiter, replies and settings speak of, and [`Tally`]. Invariants: a rate
//! that exists lies within the bounds of `limits`, so that computing with it in nanoseconds never overflows; what was
//! taken of a tally is at no time more than its taker allowed.

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::limits::{RATE_BURST_CEILING_COUNT, RATE_BURST_DEFAULT_SECONDS, RATE_CEILING_COUNT};

/// Bytes that are held by several who share an allowance.
#[derive(Debug, Default)]
pub struct Tally(AtomicUsize);

impl Tally {
    /// Takes `bytes` if not more than `most` are held then; returns whether they were taken.
    #[must_use]
    pub fn take(&self, bytes: usize, most: usize) -> bool {
        // One addition and, in the rare case, its reverse cost less than a loop that compares. Another taker may be
        // refused in between, which is as well: the allowance is nearly spent.
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let taken = before.checked_add(bytes).is_some_and(|sum| sum <= most);
        if !taken {
            self.give_back(bytes);
        }
        taken
    }

    /// Gives back what was taken.
    pub fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// How many bytes are held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// So many requests in a second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_second: u32,
    burst: u32,
}

impl Rate {
    /// A rate; nothing if one of the figures is zero or above its bound.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Option<Self> {
        let good =
            (1..=RATE_CEILING_COUNT).contains(&per_second) && (1..=RATE_BURST_CEILING_COUNT).contains(&burst);
        good.then_some(Self { per_second, burst })
    }

    /// A rate with the burst that is meant where none is named: what comes together in
    /// `limits::RATE_BURST_DEFAULT_SECONDS`.
    #[must_use]
    pub fn of(per_second: u32) -> Option<Self> {
        Self::new(per_second, per_second.saturating_mul(RATE_BURST_DEFAULT_SECONDS))
    }

    /// Requests in a second.
    #[must_use]
    pub const fn per_second(self) -> u32 {
        self.per_second
    }

    /// Requests at once.
    #[must_use]
    pub const fn burst(self) -> u32 {
        self.burst
    }
}

/// What a client is told of its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// The name of the limit, of plain letters: `key`, `address`.
    pub policy: &'static str,
    /// Requests at once.
    pub limit: u32,
    /// The time in which so many come back, in seconds.
    pub window_seconds: u32,
    /// Requests that are left now.
    pub remaining: u32,
    /// The time until all have come back, in seconds.
    pub reset_seconds: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_within_their_bounds() {
        assert!(
            Rate::new(1, 1).is_some() && Rate::new(RATE_CEILING_COUNT, RATE_BURST_CEILING_COUNT).is_some()
        );
        for (per_second, burst) in
            [(0, 1), (1, 0), (RATE_CEILING_COUNT + 1, 1), (1, RATE_BURST_CEILING_COUNT + 1)]
        {
            assert_eq!(Rate::new(per_second, burst), None);
        }
        assert_eq!(Rate::of(100), Rate::new(100, 1_000));
        assert!(Rate::of(RATE_CEILING_COUNT).is_some(), "every rate has its burst");
        assert_eq!(Rate::of(0), None);
    }
}
