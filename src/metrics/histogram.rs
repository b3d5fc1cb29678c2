//! How long things take: counts by fixed bounds, their sum, and for each bound one that was counted there.
//!
//! Owns [`Histogram`], which one thread writes, and [`Sum`], what several of them come to. Invariants: a time is counted in one
//! bucket; what is read of an exemplar was written together, or nothing is read.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use crate::limits::{METRICS_BOUNDS_MICROS, METRICS_BUCKETS_COUNT};
use crate::metrics::counter::Counter;
use crate::model::RequestId;

/// Counts by bounds; the last is of what is above all of them.
pub type Buckets = [u64; METRICS_BUCKETS_COUNT];

/// Times that one thread has counted.
#[derive(Debug)]
#[repr(align(128))]
pub struct Histogram {
    buckets: [Counter; METRICS_BUCKETS_COUNT],
    micros: Counter,
    exemplars: [Slot; METRICS_BUCKETS_COUNT],
}

/// A request that was counted in a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// Its identifier.
    pub id: RequestId,
    /// How long it took.
    pub micros: u64,
    /// When it was counted, in milliseconds since 1970.
    pub at_millis: u64,
}

/// Where an exemplar is kept.
#[derive(Debug)]
struct Slot {
    /// Odd while it is written; 0 before the first time.
    version: AtomicU64,
    id: [AtomicU64; RequestId::LEN / 8],
    micros: AtomicU64,
    at_millis: AtomicU64,
}

impl Histogram {
    /// A histogram that has counted nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            buckets: [const { Counter::new() }; METRICS_BUCKETS_COUNT],
            micros: Counter::new(),
            exemplars: [const { Slot::new() }; METRICS_BUCKETS_COUNT],
        }
    }

    /// Counts a time.
    #[inline]
    pub fn count(&self, micros: u64) {
        if let Some(bucket) = self.buckets.get(bucket(micros)) {
            bucket.add(1);
        }
        self.micros.add(micros);
    }

    /// Counts the time that a request took, and remembers it.
    #[inline]
    pub fn count_request(&self, exemplar: &Exemplar) {
        self.count(exemplar.micros);
        if let Some(slot) = self.exemplars.get(bucket(exemplar.micros)) {
            slot.write(exemplar);
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

/// The bucket of a time.
#[inline]
fn bucket(micros: u64) -> usize {
    METRICS_BOUNDS_MICROS.iter().position(|bound| micros <= *bound).unwrap_or(METRICS_BOUNDS_MICROS.len())
}

impl Slot {
    const fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            id: [const { AtomicU64::new(0) }; RequestId::LEN / 8],
            micros: AtomicU64::new(0),
            at_millis: AtomicU64::new(0),
        }
    }

    #[inline]
    fn write(&self, exemplar: &Exemplar) {
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version.wrapping_add(1), Ordering::Relaxed);
        fence(Ordering::Release);
        let (words, _) = exemplar.id.as_bytes().as_chunks::<8>();
        for (place, word) in self.id.iter().zip(words) {
            place.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        self.micros.store(exemplar.micros, Ordering::Relaxed);
        self.at_millis.store(exemplar.at_millis, Ordering::Relaxed);
        self.version.store(version.wrapping_add(2), Ordering::Release);
    }

    /// What was written last; nothing if there is nothing, or it is just being written.
    fn read(&self) -> Option<Exemplar> {
        let version = self.version.load(Ordering::Acquire);
        let mut id = [0; RequestId::LEN];
        let (words, _) = id.as_chunks_mut::<8>();
        for (word, place) in words.iter_mut().zip(&self.id) {
            *word = place.load(Ordering::Relaxed).to_ne_bytes();
        }
        let micros = self.micros.load(Ordering::Relaxed);
        let at_millis = self.at_millis.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let is_whole =
            version != 0 && version.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == version;
        RequestId::parse(&id).filter(|_| is_whole).map(|id| Exemplar { id, micros, at_millis })
    }
}

/// What several histograms come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many times there are between one bound and the next.
    pub buckets: Buckets,
    /// All of them together.
    pub micros: u64,
    /// For each bucket the request that was counted there last.
    pub exemplars: [Option<Exemplar>; METRICS_BUCKETS_COUNT],
}

impl Sum {
    /// Adds what one histogram has counted.
    pub fn add(&mut self, histogram: &Histogram) {
        for (sum, counted) in self.buckets.iter_mut().zip(&histogram.buckets) {
            *sum = sum.wrapping_add(counted.get());
        }
        self.micros = self.micros.wrapping_add(histogram.micros.get());
        for (kept, slot) in self.exemplars.iter_mut().zip(&histogram.exemplars) {
            let found = slot.read();
            let at = |of: &Option<Exemplar>| of.map_or(0, |exemplar| exemplar.at_millis);
            if at(&found) > at(kept) {
                *kept = found;
            }
        }
    }

    /// How many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(number: u64, micros: u64) -> Exemplar {
        Exemplar { id: RequestId::new(number, !number), micros, at_millis: number }
    }

    #[test]
    fn a_time_is_counted_in_the_bucket_of_the_first_bound_that_it_does_not_pass() {
        let histogram = Histogram::new();
        for (at, bound) in METRICS_BOUNDS_MICROS.iter().enumerate() {
            assert_eq!((bucket(*bound), bucket(bound + 1)), (at, at + 1));
            histogram.count(*bound);
        }
        histogram.count(u64::from(u32::MAX));
        let mut sum = Sum::default();
        sum.add(&histogram);
        assert_eq!((sum.buckets, sum.count()), ([1; METRICS_BUCKETS_COUNT], METRICS_BUCKETS_COUNT as u64));
        assert_eq!(sum.micros, METRICS_BOUNDS_MICROS.iter().sum::<u64>() + u64::from(u32::MAX));
        assert_eq!(sum.exemplars, [None; METRICS_BUCKETS_COUNT]);
        sum.add(&histogram);
        assert_eq!(sum.buckets, [2; METRICS_BUCKETS_COUNT]);
    }

    #[test]
    fn the_newest_request_of_a_bucket_is_remembered() {
        let (one, other) = (Histogram::new(), Histogram::new());
        for number in [1, 3] {
            one.count_request(&exemplar(number, 40));
        }
        other.count_request(&exemplar(2, 41));
        let mut sum = Sum::default();
        sum.add(&one);
        sum.add(&other);
        assert_eq!(sum.exemplars[bucket(40)], Some(exemplar(3, 40)));
        assert_eq!(sum.exemplars[0], None);
    }

    #[test]
    fn an_exemplar_is_never_made_of_two() {
        let histogram = Histogram::new();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for number in 1..200_000 {
                    histogram.count_request(&exemplar(number, number % 8));
                }
            });
            while !writer.is_finished() {
                if let Some(found) = histogram.exemplars[0].read() {
                    assert_eq!(found, exemplar(found.at_millis, found.at_millis % 8));
                }
            }
        });
        assert!(histogram.exemplars[0].read().is_some());
    }
}
