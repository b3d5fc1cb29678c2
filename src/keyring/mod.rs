//! The key ring: named keys and their versions, as an immutable snapshot.
//!
//! Owns [`Ring`] (what is), [`Key`] and [`KeyVersion`] (what a key is) and [`Change`] (what comes next). Invariants: a snapshot never changes, so a request sees one state from
//! its beginning to its end; a new snapshot shares everything with the old one but the shard that changed; version
//! numbers begin at 1 and are never used twice.

pub mod backup;
pub mod change;
pub mod key;
pub mod material;
mod merge;
mod outside;
pub mod record;
pub mod schedule;
#[cfg(test)]
mod trial;
pub mod uses;

use core::hash::BuildHasher;
use std::collections::HashMap;
use std::hash::RandomState;
use std::sync::Arc;

pub use backup::{BackupError, open_backup, read_plain_backup, seal_backup, write_plain_backup};
pub use change::{Change, ChangeError, Circumstances, Effect, Outcome};
pub use key::{Key, KeyVersion, UseError};
pub use material::Material;
pub use outside::{Foreign, assemble};
pub use record::{Malformed, UsesRecord, decode_key, decode_uses, encode_key, encode_uses};
pub use uses::{SealRefusal, Uses};

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
    /// The key of this name, unless it is deleted.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Key>> {
        self.get_any(name).filter(|key| key.deletion().is_none())
    }

    /// The key of this name, deleted or not.
    #[must_use]
    pub fn get_any(&self, name: &str) -> Option<&Arc<Key>> {
        self.shards.get(self.shard_of(name)).and_then(|shard| shard.get(name))
    }

    /// Every key, deleted ones too, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<Key>> {
        self.shards.iter().flat_map(|shard| shard.values())
    }

    /// How many keys there are, deleted ones too.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Up to `count` keys in the order of their names, beginning behind `after`: the deleted ones, or the others, as far as
    /// they may be `shown`.
    #[must_use]
    pub fn page(
        &self,
        after: Option<&str>,
        count: usize,
        deleted: bool,
        shown: impl Fn(&str) -> bool,
    ) -> Vec<&Arc<Key>> {
        let behind = |key: &&Arc<Key>| after.is_none_or(|after| key.name().as_str() > after);
        let wanted = |key: &&Arc<Key>| {
            key.deletion().is_some() == deleted && behind(key) && shown(key.name().as_str())
        };
        let mut keys: Vec<_> = self.keys().filter(wanted).collect();
        let by_name = |one: &&Arc<Key>, other: &&Arc<Key>| one.name().cmp(other.name());
        if count < keys.len() {
            // Only the page is put in order, not the whole ring.
            keys.select_nth_unstable_by(count, by_name);
            keys.truncate(count);
        }
        keys.sort_unstable_by(by_name);
        keys
    }

    /// Puts `key` in the place of any of its name. Snapshots that share a shard with this ring keep theirs.
    pub fn put(&mut self, key: Arc<Key>) {
        let index = self.shard_of(key.name().as_str());
        if let Some(shard) = self.shards.get_mut(index)
            && Arc::make_mut(shard).insert(key.name().clone(), key).is_none()
        {
            self.len += 1;
        }
    }

    /// Takes the key of this name out.
    pub fn remove(&mut self, name: &str) {
        let index = self.shard_of(name);
        if let Some(shard) = self.shards.get_mut(index).filter(|shard| shard.contains_key(name)) {
            Arc::make_mut(shard).remove(name);
            self.len -= 1;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::trial::{Trial, name};
    use crate::model::{KeyOptions, KeyType, PolicyChange};

    fn filled(count: usize) -> Trial {
        let mut trial = Trial::new();
        let policy = PolicyChange { deletion_allowed: Some(true), ..PolicyChange::default() };
        for number in 0..count {
            let options = KeyOptions::of(KeyType::HmacSha256);
            trial.create(&format!("k{number:03}"), options, policy).unwrap();
        }
        trial
    }

    fn names(keys: &[&Arc<Key>]) -> Vec<String> {
        keys.iter().map(|key| key.name().as_str().to_owned()).collect()
    }

    #[test]
    fn pages_follow_one_another_in_the_order_of_names() {
        let trial = filled(25);
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let page = names(&trial.ring.page(after.as_deref(), 10, false, |_| true));
            let Some(last) = page.last().cloned() else { break };
            all.extend(page);
            after = Some(last);
        }
        assert_eq!(all, (0..25).map(|number| format!("k{number:03}")).collect::<Vec<_>>());
        assert!(trial.ring.page(None, 0, false, |_| true).is_empty());
    }

    #[test]
    fn deleted_keys_are_counted_and_listed_apart() {
        let mut trial = filled(3);
        trial.apply(&Change::Delete { name: name("k001") }).unwrap();
        assert_eq!(names(&trial.ring.page(None, 9, false, |_| true)), ["k000", "k002"]);
        assert_eq!(names(&trial.ring.page(None, 1, false, |name| name != "k000")), ["k002"]);
        assert_eq!(names(&trial.ring.page(None, 9, true, |_| true)), ["k001"]);
        assert_eq!((trial.ring.len(), trial.ring.keys().count()), (3, 3));
        assert!(trial.ring.get("k001").is_none() && trial.ring.get_any("k001").is_some());
        trial.ring.remove("k001");
        trial.ring.remove("k001");
        assert_eq!((trial.ring.len(), trial.ring.is_empty()), (2, false));
    }

    #[test]
    fn a_snapshot_stays_as_it_was_and_shares_what_did_not_change() {
        let mut trial = filled(600);
        let before = trial.ring.clone();
        trial.apply(&Change::Rotate { name: name("k000"), only_if_latest: None }).unwrap();
        trial.ring.remove("k001");
        assert_eq!(before.get("k000").unwrap().latest_number(), 1);
        assert_eq!(trial.ring.get("k000").unwrap().latest_number(), 2);
        assert!(before.get("k001").is_some());
        assert_eq!((before.len(), trial.ring.len()), (600, 599));
        let shared =
            before.shards.iter().zip(&trial.ring.shards).filter(|(one, other)| Arc::ptr_eq(one, other));
        assert!(shared.count() >= SHARDS - 2);
        let empty = before.shards.iter().filter(|shard| shard.is_empty()).count();
        assert!(empty < SHARDS / 2, "keys are spread over the shards: {empty} empty");
    }
}
