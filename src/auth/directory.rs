//! All API keys at one moment.
//!
//! Owns [`Directory`]. Invariant: a snapshot never changes; a new one shares the entries that did not.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::auth::entry::ApiKey;
use crate::clock::WallTime;
use crate::model::ApiKeyId;

/// The API keys, by their identifiers.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    // Identifiers are drawn by the server, and shared by all snapshots until one of them changes.
    keys: Arc<BTreeMap<ApiKeyId, Arc<ApiKey>>>,
}

impl Directory {
    /// The key of this identifier, whatever its state.
    #[must_use]
    pub fn get(&self, id: ApiKeyId) -> Option<&Arc<ApiKey>> {
        self.keys.get(&id)
    }

    /// Every key, in the order of the identifiers.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<ApiKey>> {
        self.keys.values()
    }

    /// The keys behind `after`, in the order of the identifiers.
    pub fn keys_after(&self, after: Option<ApiKeyId>) -> impl Iterator<Item = &Arc<ApiKey>> {
        use core::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.keys.range((from, Bound::Unbounded)).map(|(_, key)| key)
    }

    /// Puts `key` in the place of the one of its identifier.
    pub fn put(&mut self, key: Arc<ApiKey>) {
        Arc::make_mut(&mut self.keys).insert(key.id, key);
    }

    /// Takes the key of this identifier out.
    pub fn remove(&mut self, id: ApiKeyId) {
        if self.keys.contains_key(&id) {
            Arc::make_mut(&mut self.keys).remove(&id);
        }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How sure it is that somebody can do everything: 2 if a key can that is bound to no end and no place, 1 if one can be
    /// used at `now`, 0 if nobody can.
    #[must_use]
    pub fn admin_rank(&self, now: WallTime) -> u8 {
        let admins = self.keys.values().filter(|key| key.terms.grants.is_admin() && key.is_live(now));
        let rank = |key: &Arc<ApiKey>| {
            if key.terms.expires.is_none() && key.terms.networks.is_empty() { 2 } else { 1 }
        };
        admins.map(rank).max().unwrap_or(0)
    }
}
