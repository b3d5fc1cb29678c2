//! What the keeper changes and publishes: everything that a request is judged by.
//!
//! Owns [`State`]. Invariants: it is one moment as a whole; a copy of it shares what is in it; a refused change leaves it
//! as it was.

use std::sync::Arc;

use crate::api::change::{Change, ChangeError, Outcome, Target};
use crate::auth::{self, ApiKey, Directory};
use crate::keyring::{self, Circumstances, Key, Ring};

/// Everything that changes while the server runs, at one moment.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// The keys.
    pub ring: Ring,
    /// The API keys.
    pub callers: Directory,
}

/// What is there of a target.
#[derive(Debug)]
pub(super) enum Entry {
    Key(Arc<Key>),
    Caller(Arc<ApiKey>),
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
            Change::Caller(change) => Ok(auth::change::apply(&mut self.callers, change, at.now)?.into()),
        }
    }

    /// Makes `change`, which takes a right away, alone of several of which it led to `made`.
    pub(super) fn restrict(&mut self, change: &Change, made: &Outcome, at: &mut Circumstances<'_>) {
        // Refused if it was about something that the others would have made: that is not there anyway.
        let refused = self.apply(change, at).err();
        if refused == Some(ChangeError::Caller(auth::ChangeError::LastAdmin))
            && let Outcome::Caller(made) = made
        {
            // The other admin key that was to remain is one of the several, and nobody knows whether it is there. What
            // was taken away is gone all the same.
            self.callers.put(Arc::clone(&made.key));
        }
    }

    /// What is there of `target`.
    pub(super) fn get(&self, target: &Target) -> Option<Entry> {
        match target {
            Target::Key(name) => self.ring.get_any(name.as_str()).cloned().map(Entry::Key),
            Target::Caller(id) => self.callers.get(*id).cloned().map(Entry::Caller),
        }
    }

    /// Has `target` be as it was.
    pub(super) fn put_back(&mut self, target: &Target, before: Option<Entry>) {
        match (before, target) {
            (Some(Entry::Key(key)), _) => self.ring.put(key),
            (Some(Entry::Caller(key)), _) => self.callers.put(key),
            (None, Target::Key(name)) => self.ring.remove(name.as_str()),
            (None, Target::Caller(id)) => self.callers.remove(*id),
        }
    }
}
