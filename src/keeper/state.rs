//! What the keeper changes and publishes: everything that a request is judged by.
//!
//! Owns [`State`]. Invariant: it is one moment as a whole, and a copy of it costs no copy of what is in it.

use std::sync::Arc;

use crate::api::change::{Change, ChangeError, Outcome, Target};
use crate::keyring::{self, Circumstances, Key, Ring};

/// Everything that changes while the server runs, at one moment.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The keys.
    pub ring: Ring,
}

/// What was there before a change.
#[derive(Debug)]
pub(super) enum Before {
    /// The key, if there was one.
    Key(Option<Arc<Key>>),
}

impl State {
    /// Makes `change`.
    ///
    /// # Errors
    /// [`ChangeError`]; nothing is changed then.
    pub(super) fn apply(
        &mut self,
        change: &Change,
        at: &mut Circumstances<'_>,
    ) -> Result<Outcome, ChangeError> {
        match change {
            Change::Key(change) => Ok(keyring::change::apply(&mut self.ring, change, at)?.into()),
        }
    }

    /// What is there now of `target`.
    pub(super) fn before(&self, target: &Target) -> Before {
        match target {
            Target::Key(name) => Before::Key(self.ring.get_any(name.as_str()).cloned()),
        }
    }

    /// Puts back what was there of `target`.
    pub(super) fn put_back(&mut self, target: &Target, before: Before) {
        match (target, before) {
            (_, Before::Key(Some(key))) => self.ring.put(key),
            (Target::Key(name), Before::Key(None)) => self.ring.remove(name.as_str()),
        }
    }
}
