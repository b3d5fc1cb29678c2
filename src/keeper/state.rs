//! What the keeper changes and publishes: everything that a request is judged by.
//!
//! Owns [`State`]. Invariant: it is one moment as a whole, and a copy of it costs no copy of what is in it.

use crate::keyring::Ring;

/// Everything that changes while the server runs, at one moment.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The keys.
    pub ring: Ring,
}
