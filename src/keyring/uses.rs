//! What was done with a version: counted by the workers, written down by the keeper.
//!
//! Owns [`Uses`]. Invariants: seals with 96-bit nonces never pass what was set aside for them durably, nor what is
//! safe; the other figures are for people and may lose the last of them in a crash.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::clock::WallTime;
use crate::limits::{NONCE_96_SEALS_MAX_COUNT, SEALS_BLOCK_COUNT};

/// Why a version with 96-bit nonces cannot seal now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealRefusal {
    /// What was set aside is used up: the keeper has to set aside more.
    NeedsBlock,
    /// The version has been used as often as its nonces allow.
    WornOut,
}

/// The figures of one version, shared by all snapshots that hold it.
#[derive(Debug, Default)]
pub struct Uses {
    /// Seals that were made or that may have been made before a restart.
    seals: AtomicU64,
    /// Seals that may be made as soon as that is durable.
    promised: AtomicU64,
    /// Seals that may be made: durable.
    reserved: AtomicU64,
    /// Operations of every kind.
    operations: AtomicU64,
    /// Second of the last operation; 0: never.
    last: AtomicU64,
    /// Whether operations were counted that were not written down.
    news: AtomicBool,
}

impl Uses {
    /// The figures as they were written down: what was set aside counts as used.
    #[must_use]
    pub const fn restored(reserved: u64, operations: u64, last: WallTime) -> Self {
        Self {
            seals: AtomicU64::new(reserved),
            promised: AtomicU64::new(reserved),
            reserved: AtomicU64::new(reserved),
            operations: AtomicU64::new(operations),
            last: AtomicU64::new(last.as_secs()),
            news: AtomicBool::new(false),
        }
    }

    /// Counts operations.
    pub fn note(&self, now: WallTime, operations: u64) {
        self.operations.fetch_add(operations, Ordering::Relaxed);
        let now = now.as_secs();
        if self.last.load(Ordering::Relaxed) != now {
            self.last.store(now, Ordering::Relaxed);
        }
        if !self.news.load(Ordering::Relaxed) {
            self.news.store(true, Ordering::Relaxed);
        }
    }

    /// Whether operations were counted that nobody has taken yet.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.news.load(Ordering::Relaxed)
    }

    /// Whether operations were counted since the last call; whoever asks writes the figures down.
    #[must_use]
    pub fn take_news(&self) -> bool {
        self.has_news() && self.news.swap(false, Ordering::AcqRel)
    }

    /// Notes that the figures were not written down after all.
    pub fn keep_news(&self) {
        self.news.store(true, Ordering::Relaxed);
    }

    /// Takes in figures that another server wrote down. What it set aside is its own: here it counts as used. Only one
    /// thread may call this and [`grant`](Self::grant).
    pub fn absorb(&self, written: &Self) {
        let grown = written.reserved().saturating_sub(self.reserved());
        if grown > 0 {
            // Used before it is set aside: never may more be used than is ours.
            self.seals.fetch_add(grown, Ordering::Relaxed);
            self.grant(self.reserved() + grown);
        }
        self.operations.fetch_max(written.operations(), Ordering::Relaxed);
        self.last.fetch_max(written.last.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Counts seals with 96-bit nonces before they happen.
    ///
    /// # Errors
    /// [`SealRefusal`]; nothing is counted then.
    pub fn count_seals(&self, seals: u64) -> Result<(), SealRefusal> {
        let reserved = self.reserved.load(Ordering::Acquire);
        let grow = |used: u64| used.checked_add(seals).filter(|sum| *sum <= reserved);
        let counted = self.seals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow);
        counted.map(drop).map_err(|used| {
            let fits = used.checked_add(seals).is_some_and(|sum| sum <= NONCE_96_SEALS_MAX_COUNT);
            if fits { SealRefusal::NeedsBlock } else { SealRefusal::WornOut }
        })
    }

    /// Promises one more block of seals, to be granted once it is written down; gives what is set aside in all then.
    ///
    /// Nothing if half a block or more is left: many who find a block used up at once set one aside, not one each. And
    /// nothing if no more is safe.
    #[must_use]
    pub fn promise_block(&self) -> Option<u64> {
        let reserved = self.reserved.load(Ordering::Acquire);
        let left = reserved.saturating_sub(self.seals.load(Ordering::Relaxed));
        let next = reserved.saturating_add(SEALS_BLOCK_COUNT).min(NONCE_96_SEALS_MAX_COUNT);
        if next <= reserved || left >= SEALS_BLOCK_COUNT / 2 {
            return None;
        }
        self.promised.fetch_max(next, Ordering::Relaxed);
        Some(next)
    }

    /// Sets aside `reserved` seals in all; to be called when that is durable.
    pub fn grant(&self, reserved: u64) {
        self.promised.fetch_max(reserved, Ordering::Relaxed);
        self.reserved.fetch_max(reserved, Ordering::Release);
    }

    /// How many seals are set aside, or will be as soon as that is written down.
    #[must_use]
    pub fn promised(&self) -> u64 {
        self.promised.load(Ordering::Relaxed)
    }

    /// How many seals are set aside.
    #[must_use]
    pub fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }

    /// How many seals were made, or may have been made before a restart.
    #[must_use]
    pub fn seals(&self) -> u64 {
        self.seals.load(Ordering::Relaxed)
    }

    /// How many operations were counted.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::Relaxed)
    }

    /// The second of the last operation.
    #[must_use]
    pub fn last(&self) -> Option<WallTime> {
        let last = self.last.load(Ordering::Relaxed);
        (last > 0).then(|| WallTime::from_millis(last.saturating_mul(1_000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = NONCE_96_SEALS_MAX_COUNT;

    #[test]
    fn seals_end_where_the_block_ends() {
        let uses = Uses::default();
        assert_eq!(uses.count_seals(1), Err(SealRefusal::NeedsBlock));
        uses.grant(10);
        uses.count_seals(4).unwrap();
        assert_eq!(uses.count_seals(7), Err(SealRefusal::NeedsBlock), "all of a batch or nothing");
        uses.count_seals(6).unwrap();
        assert_eq!(uses.count_seals(1), Err(SealRefusal::NeedsBlock));
        uses.grant(5);
        assert_eq!(uses.reserved(), 10, "a late grant takes nothing back");
    }

    #[test]
    fn a_version_wears_out_at_two_to_the_32_and_not_before() {
        let uses = Uses::restored(MAX - 3, 0, WallTime::default());
        assert_eq!(uses.count_seals(3), Err(SealRefusal::NeedsBlock));
        assert_eq!(uses.count_seals(4), Err(SealRefusal::WornOut));
        assert_eq!(uses.promise_block(), Some(MAX), "the last block is what is left");
        uses.grant(MAX);
        assert_eq!(uses.promise_block(), None);
        uses.count_seals(2).unwrap();
        assert_eq!(uses.count_seals(2), Err(SealRefusal::WornOut));
        uses.count_seals(1).unwrap();
        assert_eq!(uses.count_seals(1), Err(SealRefusal::WornOut));
        for restored in [MAX, MAX + 1, u64::MAX] {
            let uses = Uses::restored(restored, 0, WallTime::default());
            assert_eq!((uses.count_seals(1), uses.promise_block()), (Err(SealRefusal::WornOut), None));
        }
    }

    #[test]
    fn what_was_set_aside_before_a_restart_counts_as_used() {
        let uses = Uses::restored(100, 7, WallTime::from_millis(9_500));
        assert_eq!(uses.count_seals(1), Err(SealRefusal::NeedsBlock));
        assert_eq!(uses.promise_block(), Some(100 + SEALS_BLOCK_COUNT));
        assert_eq!((uses.operations(), uses.last()), (7, Some(WallTime::from_millis(9_000))));
        assert_eq!(Uses::default().last(), None);
    }

    #[test]
    fn threads_together_never_pass_what_is_set_aside() {
        const THREADS: u64 = 4;
        let uses = Uses::default();
        let counted = AtomicU64::new(0);
        let granted = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 1..=THREADS {
                let (uses, counted, granted) = (&uses, &counted, &granted);
                scope.spawn(move || {
                    for turn in 0..20_000 {
                        let seals = 1 + (turn + thread) % 3;
                        if uses.count_seals(seals).is_ok() {
                            let sum = counted.fetch_add(seals, Ordering::SeqCst) + seals;
                            // Raised before each grant, so it is never behind what may be used.
                            assert!(sum <= granted.load(Ordering::SeqCst));
                        } else if turn % 7 == 0 {
                            let next = granted.fetch_add(5, Ordering::SeqCst) + 5;
                            uses.grant(next);
                        }
                    }
                });
            }
        });
        assert!(uses.reserved() > 0 && counted.into_inner() <= uses.reserved());
    }
}
