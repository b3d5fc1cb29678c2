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

    /// Whether operations were counted since the last call; whoever asks writes the figures down.
    #[must_use]
    pub fn take_news(&self) -> bool {
        self.news.load(Ordering::Relaxed) && self.news.swap(false, Ordering::AcqRel)
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
