//! The key ring: named keys and their versions, as an immutable snapshot.
//!
//! Owns [`Ring`] (what is), [`Key`] and [`KeyVersion`] (what a key is), [`change`] (what comes next) and
//! [`publication`] (how workers learn of it). Invariants: a snapshot never changes, so a request sees one state from
//! its beginning to its end; a new snapshot shares everything with the old one but the shard that changed; version
//! numbers begin at 1 and are never used twice.

pub mod change;
pub mod key;
pub mod publication;

use core::hash::BuildHasher;
use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::Arc;

pub use change::{ChangeError, Outcome};
pub use key::{Key, KeyVersion};
pub use publication::{Publication, View};

use crate::model::KeyName;

const SHARDS: usize = 256;

type Shard = HashMap<KeyName, Arc<Key>, RandomState>;

/// All keys at one moment.
#[derive(Clone, Debug)]
pub struct Ring {
    shards: Vec<Arc<Shard>>,
    hasher: RandomState,
    len: usize,
}

impl Default for Ring {
    fn default() -> Self {
        // Names come from callers: the hash is keyed, so that none can make them collide.
        let hasher = RandomState::new();
        let empty = Arc::new(HashMap::with_hasher(hasher.clone()));
        Self { shards: vec![empty; SHARDS], hasher, len: 0 }
    }
}

impl Ring {
    /// The key of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Key>> {
        self.shards.get(self.shard_of(name)).and_then(|shard| shard.get(name))
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Up to `count` keys in the order of their names, beginning behind `after`.
    #[must_use]
    pub fn page(&self, after: Option<&str>, count: usize) -> Vec<&Arc<Key>> {
        let behind = |key: &&Arc<Key>| after.is_none_or(|after| key.name().as_str() > after);
        let mut keys: Vec<_> = self.shards.iter().flat_map(|shard| shard.values()).filter(behind).collect();
        let by_name = |one: &&Arc<Key>, other: &&Arc<Key>| one.name().cmp(other.name());
        if count < keys.len() {
            // Only the page is put in order, not the whole ring.
            keys.select_nth_unstable_by(count, by_name);
            keys.truncate(count);
        }
        keys.sort_unstable_by(by_name);
        keys
    }

    /// The same ring with `key` in it, in place of any of its name.
    #[must_use]
    fn with(&self, key: Arc<Key>) -> Self {
        let mut next = self.clone();
        let index = self.shard_of(key.name().as_str());
        if let Some(shard) = next.shards.get_mut(index)
            && Arc::make_mut(shard).insert(key.name().clone(), key).is_none()
        {
            next.len += 1;
        }
        next
    }

    fn shard_of(&self, name: &str) -> usize {
        // Other bits than the map's own: the shards' tables stay evenly filled.
        (self.hasher.hash_one(name) >> 48) as usize % SHARDS
    }
}

impl core::borrow::Borrow<str> for KeyName {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}
