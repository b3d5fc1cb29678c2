//! What is counted once for the whole process, by whoever does it.
//!
//! Owns [`STORE`], [`ENTROPY`], [`USAGE`] and [`AUDIT_ROOM`]. Invariant: nothing here is written on the way of a request.

use crate::metrics::counter::Counter;
use crate::metrics::histogram::Histogram;

/// What the store does. Written by the one thread that changes it.
#[derive(Debug)]
pub struct Store {
    /// Changes that are durable; one may hold several requests'.
    pub commits: Counter,
    /// How long the disk took for each.
    pub syncs: Histogram,
    /// Compactions.
    pub compactions: Counter,
    /// Length of the journal.
    pub journal_bytes: Counter,
    /// What of it is alive.
    pub live_bytes: Counter,
    /// How long ago others had made the changes that were taken in, by their clocks and this one.
    pub lags: Histogram,
    /// How many servers share it.
    pub members: Counter,
    /// When the state was known to be the newest, in nanoseconds since the boot; 0: nobody else writes.
    pub fresh_nanos: Counter,
}

/// The store.
pub static STORE: Store = Store {
    commits: Counter::new(),
    syncs: Histogram::new(),
    compactions: Counter::new(),
    journal_bytes: Counter::new(),
    live_bytes: Counter::new(),
    lags: Histogram::new(),
    members: Counter::new(),
    fresh_nanos: Counter::new(),
};

/// What the generators of random bytes do. Written by all threads, seldom.
#[derive(Debug)]
pub struct Entropy {
    /// Seeds that were mixed in.
    pub reseeds: Counter,
    /// Seeds that were due and could not be had.
    pub failures: Counter,
}

/// The generators.
pub static ENTROPY: Entropy = Entropy { reseeds: Counter::new(), failures: Counter::new() };

/// What the process uses, as the kernel told the main thread last.
#[derive(Debug)]
pub struct Usage {
    /// Time of all processors, in microseconds.
    pub cpu_micros: Counter,
    /// Memory that is in use.
    pub resident_bytes: Counter,
    /// Addresses that are in use.
    pub virtual_bytes: Counter,
    /// Threads.
    pub threads: Counter,
    /// Descriptors; those of the last look at all of them.
    pub descriptors: Counter,
    /// How many there may be.
    pub descriptors_most: Counter,
    /// When the process was started, in microseconds since 1970.
    pub started_micros: Counter,
}

/// The process.
pub static USAGE: Usage = Usage {
    cpu_micros: Counter::new(),
    resident_bytes: Counter::new(),
    virtual_bytes: Counter::new(),
    threads: Counter::new(),
    descriptors: Counter::new(),
    descriptors_most: Counter::new(),
    started_micros: Counter::new(),
};

/// What is left on the file system of the audit files, as the archivist saw it last; 0 before that.
pub static AUDIT_ROOM: Counter = Counter::new();
