//! What a page of metrics is made of, beside what is counted.
//!
//! Owns [`Source`], which lends both, and [`Observed`], what is looked at when the page is made.

use crate::metrics::worker::Registry;

/// Lends what a page of metrics is made of.
pub trait Source {
    /// What was counted.
    fn registry(&self) -> &Registry;

    /// What holds now.
    fn observe(&self) -> Observed;
}

/// What holds now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Connections that are open, and how many may be.
    pub connections: (usize, usize),
    /// TLS handshakes that are under way.
    pub handshaking: usize,
    /// What buffers may take.
    pub memory_limit_bytes: usize,
    /// What they take, those kept included.
    pub memory_held_bytes: usize,
    /// What those in use take.
    pub memory_leased_bytes: usize,
    /// What those take of people who are not recognised.
    pub memory_strangers_bytes: usize,
    /// Length of the audit files that are being written.
    pub audit_file_bytes: u64,
    /// Worker threads.
    pub workers: usize,
    /// Turns of their loops.
    pub turns: u64,
    /// Certificates in force: a name of each, and the second at which it ceases to hold.
    pub certificates: Vec<(String, u64)>,
}

/// The kinds of a key ring, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyCounts {
    /// By type: keys that can be used, and those that are deleted.
    pub keys: Vec<[u64; 2]>,
    /// Versions by type and state.
    pub versions: Vec<Vec<u64>>,
    /// Versions that can still seal and are near their limit.
    pub near: u64,
    /// The most that a version has used of its limit, in millionths.
    pub nearest_millionths: u64,
}

#[cfg(test)]
impl Source for Registry {
    fn registry(&self) -> &Registry {
        self
    }

    fn observe(&self) -> Observed {
        Observed::default()
    }
}
