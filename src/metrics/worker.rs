//! What each worker counts, and where all of it is found.
//!
//! Owns [`Worker`] and [`Registry`]. Invariant: a worker writes to its own counters alone, which share no cache line with those
//! of another.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use crate::clock::Moment;
use crate::limits::{METRICS_KEYS_KEPT_MILLIS, METRICS_KEYS_LONG_MICROS};
use crate::metrics::counter::{Counter, Lines};
use crate::metrics::histogram::{Exemplar, Histogram, Sum};
use crate::metrics::labels::{
    AuthFailure, HandshakeFailure, Limited, Refusal, TlsGroup, TlsVersion, Transport,
};
use crate::metrics::source::KeyCounts;

/// The counters of one worker.
#[derive(Debug)]
#[repr(align(128))]
pub struct Worker {
    statuses: usize,
    requests: Lines,
    /// Of a route that nobody has asked for there is none.
    durations: Box<[OnceLock<Box<Histogram>>]>,
    /// Requests whose client was gone before they could be answered.
    pub lost: Counter,
    /// Connections that were accepted and got a place.
    pub accepted: [Counter; Transport::ALL.len()],
    /// Bytes of requests.
    pub received: [Counter; Transport::ALL.len()],
    /// Bytes of replies.
    pub sent: [Counter; Transport::ALL.len()],
    /// Connections without a place.
    pub refused: [Counter; Refusal::ALL.len()],
    /// Requests beyond a limit.
    pub limited: [Counter; Limited::ALL.len()],
    /// Requests that were not let in.
    pub auth_failures: [Counter; AuthFailure::ALL.len()],
    handshakes: [Counter; TlsVersion::ALL.len() * TlsGroup::ALL.len() * 2],
    /// Handshakes that came to nothing.
    pub handshake_failures: [Counter; HandshakeFailure::ALL.len()],
}

impl Worker {
    /// Counters for so many routes, beside what matches none of them, and so many statuses.
    #[must_use]
    pub fn new(routes: usize, statuses: usize) -> Self {
        let rows = routes + 1;
        Self {
            statuses,
            requests: Lines::new(rows * statuses),
            durations: (0..rows).map(|_| OnceLock::new()).collect(),
            lost: Counter::new(),
            accepted: Default::default(),
            received: Default::default(),
            sent: Default::default(),
            refused: Default::default(),
            limited: Default::default(),
            auth_failures: Default::default(),
            handshakes: Default::default(),
            handshake_failures: Default::default(),
        }
    }

    /// Counts a request of the route at this place, or of none, that was answered with the status at that place.
    #[inline]
    pub fn count_request(&self, route: Option<u16>, status: usize, exemplar: &Exemplar) {
        let rows = self.durations.len();
        let row = route.map_or(rows - 1, |place| usize::from(place).min(rows - 1));
        if let Some(counter) = self.requests.get(row * self.statuses + status) {
            counter.add(1);
        }
        if let Some(histogram) = self.durations.get(row) {
            histogram.get_or_init(Box::default).count_request(exemplar);
        }
    }

    /// Counts a handshake that was finished.
    pub fn count_handshake(&self, version: TlsVersion, group: TlsGroup, resumed: bool) {
        if let Some(counter) = self.handshakes.get(handshake(version, group, resumed)) {
            counter.add(1);
        }
    }

    /// Counts one more in `of`, one of this worker's own rows, at the place of a label's value.
    pub fn count(of: &[Counter], place: usize, more: u64) {
        if let Some(counter) = of.get(place) {
            counter.add(more);
        }
    }
}

impl Default for Worker {
    /// Counters of one that serves no route.
    fn default() -> Self {
        Self::new(0, 0)
    }
}

const fn handshake(version: TlsVersion, group: TlsGroup, resumed: bool) -> usize {
    (version as usize * TlsGroup::ALL.len() + group as usize) * 2 + resumed as usize
}

/// What one audit stream has come to.
#[derive(Debug, Default)]
pub struct Stream {
    /// Lines that are told, in a file.
    pub file_lines: Counter,
    /// Lines that are told, on standard output.
    pub stdout_lines: Counter,
    /// Turns whose lines could not be told.
    pub failures: Counter,
    /// Lines that name numbers without a line.
    pub gaps: Counter,
    /// Commits that are on their way to the disk.
    pub unsynced: Counter,
}

/// A count of the key ring.
#[derive(Clone, Debug)]
struct Counted {
    at: Moment,
    took_long: bool,
    counts: KeyCounts,
}

/// The counters of a server.
#[derive(Debug)]
pub struct Registry {
    workers: Vec<Arc<Worker>>,
    streams: Mutex<Vec<Arc<Stream>>>,
    /// The last count of the key ring.
    keys: Mutex<Option<Counted>>,
    /// Held by whoever counts the key ring, and waited for by nobody.
    counting: Mutex<()>,
}

impl Registry {
    /// Counters for so many workers, routes and statuses.
    #[must_use]
    pub fn new(workers: usize, routes: usize, statuses: usize) -> Self {
        let workers = (0..workers).map(|_| Arc::new(Worker::new(routes, statuses))).collect();
        Self { workers, streams: Mutex::default(), keys: Mutex::default(), counting: Mutex::default() }
    }

    /// Those of the worker of this number.
    #[must_use]
    pub fn worker(&self, index: usize) -> Option<&Arc<Worker>> {
        self.workers.get(index)
    }

    /// What `count` says of the key ring. If that took long, it is asked again only after a while; who asks while another counts is
    /// told the counts before, since a worker that waited would wait with all its connections.
    pub fn keys(&self, now: Moment, count: impl FnOnce() -> KeyCounts) -> KeyCounts {
        let counting = self.counting.try_lock();
        let is_counted = matches!(counting, Err(TryLockError::WouldBlock));
        let kept = self.kept_keys().clone();
        let is_fresh = |kept: &Counted| kept.took_long && now < kept.at.plus_millis(METRICS_KEYS_KEPT_MILLIS);
        // Only the first two can find each other counting without any counts before.
        if let Some(kept) = kept.filter(|kept| is_counted || is_fresh(kept)) {
            return kept.counts;
        }
        let begun = Moment::now();
        let counts = count();
        let took_long = Moment::now().nanos_since(begun) > METRICS_KEYS_LONG_MICROS * 1_000;
        *self.kept_keys() = Some(Counted { at: now, took_long, counts: counts.clone() });
        counts
    }

    fn kept_keys(&self) -> MutexGuard<'_, Option<Counted>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the counters of an audit stream.
    pub fn watch_stream(&self, stream: Arc<Stream>) {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    }

    /// The sum over all audit streams of what `of` picks.
    pub fn streams(&self, of: impl Fn(&Stream) -> u64) -> u64 {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.iter().map(|stream| of(stream)).fold(0, u64::wrapping_add)
    }

    /// How many audit streams there are.
    #[must_use]
    pub fn streams_count(&self) -> usize {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The sum over all workers of what `of` picks.
    pub fn workers(&self, of: impl Fn(&Worker) -> u64) -> u64 {
        self.workers.iter().map(|worker| of(worker)).fold(0, u64::wrapping_add)
    }

    /// The sum over all workers of the counter at a place of a row.
    pub fn counted(&self, of: impl Fn(&Worker) -> &[Counter], place: usize) -> u64 {
        self.workers(|worker| of(worker).get(place).map_or(0, Counter::get))
    }

    /// Requests of a route, or of none, that were answered with the status at this place.
    #[must_use]
    pub fn requests(&self, route: Option<u16>, status: usize) -> u64 {
        self.workers(|worker| {
            let last = worker.durations.len() - 1;
            let row = route.map_or(last, usize::from);
            worker.requests.get(row * worker.statuses + status).map_or(0, Counter::get)
        })
    }

    /// How long the requests of a route, or of none, took.
    #[must_use]
    pub fn durations(&self, route: Option<u16>) -> Sum {
        let mut sum = Sum::default();
        for worker in &self.workers {
            let row = route.map_or(worker.durations.len() - 1, usize::from);
            if let Some(histogram) = worker.durations.get(row).and_then(OnceLock::get) {
                sum.add(histogram);
            }
        }
        sum
    }

    /// Handshakes of this kind.
    #[must_use]
    pub fn handshakes(&self, version: TlsVersion, group: TlsGroup, resumed: bool) -> u64 {
        self.counted(|worker| &worker.handshakes, handshake(version, group, resumed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RequestId;

    fn exemplar(micros: u64) -> Exemplar {
        Exemplar { id: RequestId::new(1, micros), micros, at_millis: 1 }
    }

    #[test]
    fn what_workers_count_is_added_up_by_route_and_status() {
        let registry = Registry::new(2, 3, 4);
        let (one, other) = (registry.worker(0).unwrap(), registry.worker(1).unwrap());
        one.count_request(Some(0), 3, &exemplar(10));
        other.count_request(Some(0), 3, &exemplar(30));
        other.count_request(Some(1), 0, &exemplar(1));
        one.count_request(None, 0, &exemplar(5));
        one.count_request(Some(900), 0, &exemplar(5));
        let counts = |route| [0, 1, 2, 3].map(|status| registry.requests(route, status));
        assert_eq!(counts(Some(0)), [0, 0, 0, 2]);
        assert_eq!(counts(Some(1)), [1, 0, 0, 0]);
        assert_eq!(counts(Some(2)), [0; 4]);
        assert_eq!(counts(None), [2, 0, 0, 0], "what has no place is counted with what matches none");
        let sum = registry.durations(Some(0));
        assert_eq!((sum.count(), sum.micros), (2, 40));
        assert_eq!(registry.durations(None).count(), 2);
        assert!(registry.worker(2).is_none());
    }

    #[test]
    fn every_kind_of_handshake_has_a_counter_of_its_own() {
        let registry = Registry::new(1, 1, 1);
        let worker = registry.worker(0).unwrap();
        let mut kinds = Vec::new();
        for version in TlsVersion::ALL {
            for group in TlsGroup::ALL {
                kinds.extend([(*version, *group, false), (*version, *group, true)]);
            }
        }
        for (number, (version, group, resumed)) in kinds.iter().enumerate() {
            (0..=number).for_each(|_| worker.count_handshake(*version, *group, *resumed));
        }
        for (number, (version, group, resumed)) in kinds.iter().enumerate() {
            assert_eq!(registry.handshakes(*version, *group, *resumed), number as u64 + 1);
        }
    }

    #[test]
    fn workers_share_no_cache_line() {
        let registry = Registry::new(2, 1, 1);
        let at = |index| core::ptr::from_ref(registry.worker(index).unwrap().as_ref()).addr();
        assert!(at(0) % 128 == 0 && at(1) % 128 == 0 && size_of::<Worker>().is_multiple_of(128));
        assert!(align_of::<Histogram>() == 128);
    }

    #[test]
    fn a_ring_that_takes_long_to_count_is_counted_seldom_and_another_each_time() {
        let registry = Registry::new(1, 1, 1);
        let start = Moment::now();
        let counts = |near| KeyCounts { near, ..KeyCounts::default() };
        assert_eq!(registry.keys(start, || counts(1)).near, 1);
        assert_eq!(registry.keys(start, || counts(2)).near, 2);
        let slow = |near| {
            let begun = Moment::now();
            while Moment::now().nanos_since(begun) <= METRICS_KEYS_LONG_MICROS * 1_000 {}
            counts(near)
        };
        assert_eq!(registry.keys(start, || slow(3)).near, 3);
        assert_eq!(registry.keys(start, || counts(4)).near, 3);
        assert_eq!(registry.keys(start.plus_millis(METRICS_KEYS_KEPT_MILLIS), || counts(5)).near, 5);
    }

    #[test]
    fn who_asks_while_the_ring_is_counted_is_told_the_counts_before_and_does_not_wait() {
        let registry = Registry::new(1, 1, 1);
        let start = Moment::now();
        let counts = |near| KeyCounts { near, ..KeyCounts::default() };
        let ask = |near, meanwhile: &dyn Fn()| {
            registry.keys(start, || {
                meanwhile();
                counts(near)
            })
        };
        // There is nothing to tell yet.
        assert_eq!(ask(1, &|| assert_eq!(ask(7, &|| {}).near, 7)).near, 1);
        assert_eq!(ask(2, &|| assert_eq!(ask(8, &|| {}).near, 1)).near, 2);
        assert_eq!(ask(3, &|| {}).near, 3);
    }

    #[test]
    fn streams_are_added_up() {
        let registry = Registry::new(1, 1, 1);
        for lines in [3, 4] {
            let stream = Arc::new(Stream::default());
            stream.file_lines.add(lines);
            registry.watch_stream(stream);
        }
        assert_eq!((registry.streams(|stream| stream.file_lines.get()), registry.streams_count()), (7, 2));
    }
}
