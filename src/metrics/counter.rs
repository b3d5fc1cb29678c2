//! A number that others may read while it changes.
//!
//! Owns [`Counter`]. Invariant: [`add`](Counter::add) is called by one thread, so that nothing is lost between its load
//! and its store, which together cost what an addition costs.

use core::sync::atomic::{AtomicU64, Ordering};

/// A number with one writer and any readers.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts `more`. For the one thread that writes it.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Counts `more`, whoever else counts too: for what happens seldom.
    pub fn add_shared(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// What it stands at.
    #[must_use]
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// As many counters as are wanted, on cache lines that hold nothing else.
#[derive(Debug)]
pub(super) struct Lines(Box<[Line]>);

/// A cache line, and the one that is fetched with it.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Line([Counter; COUNTERS]);

/// How many fit into a line.
const COUNTERS: usize = 128 / size_of::<Counter>();

impl Lines {
    pub(super) fn new(count: usize) -> Self {
        Self((0..count.div_ceil(COUNTERS)).map(|_| Line::default()).collect())
    }

    #[inline]
    pub(super) fn get(&self, index: usize) -> Option<&Counter> {
        self.0.get(index / COUNTERS).and_then(|line| line.0.get(index % COUNTERS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hold_as_many_counters_as_were_asked_for_and_share_nothing() {
        let (one, other) = (Lines::new(17), Lines::new(1));
        one.get(16).unwrap().add(2);
        one.get(16).unwrap().add(3);
        other.get(0).unwrap().add(1);
        assert_eq!((one.get(16).unwrap().get(), one.get(0).unwrap().get()), (5, 0));
        assert!(one.get(32).is_none());
        for lines in [&one, &other] {
            let address = core::ptr::from_ref(lines.get(0).unwrap()).addr();
            assert_eq!(address % 128, 0, "a line begins where one of the cache does");
        }
        assert_eq!(size_of::<Line>(), 128);
    }

    #[test]
    fn a_reader_sees_what_the_writer_has_counted() {
        let counter = Counter::new();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (0..100_000).for_each(|_| counter.add(1)));
            let mut last = 0;
            while !writer.is_finished() {
                let now = counter.get();
                assert!(now >= last);
                last = now;
            }
        });
        assert_eq!(counter.get(), 100_000);
    }
}
