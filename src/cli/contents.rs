//! What the records of a store say, once they are opened.
//!
//! Owns [`Contents`]. Invariants: every live record is opened and decoded, and stands where its name belongs; what
//! cannot be read is noted and does not hide the rest; of material nothing is kept but that it is there.

use std::collections::{BTreeMap, HashMap};

use crate::audit::Checkpoint;
use crate::audit::chain::Root;
use crate::audit::checkpoint::{ROOTS_NAME, decode_roots};
use crate::auth::{self, ApiKey, UseRecord};
use crate::keyring::{Key, decode_key, decode_uses};
use crate::limits::JOURNAL_DAMAGES_SHOWN_MAX_COUNT;
use crate::store::{Kind, Path, Record, Sealer, Unreadable};

const MALFORMED: &str = "it contradicts its format, or a newer version wrote it";

/// What is in a store.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The keys, by name.
    pub(super) keys: BTreeMap<String, Key>,
    /// The API keys, by identifier.
    pub(super) api_keys: BTreeMap<String, ApiKey>,
    /// Use figures of API keys.
    figures: Vec<UseRecord>,
    /// How far the audit streams of each start had come, in no order.
    pub(super) checkpoints: Vec<Checkpoint>,
    /// The roots of audit keys that were in use before.
    pub(super) audit_roots: Vec<Root>,
    /// What cannot be read: the first ones.
    pub(super) unreadable: Vec<Unreadable>,
    /// How many records cannot be read.
    pub(super) unreadable_count: u64,
}

/// The last word on each path, gathered while a store delivers its records.
#[derive(Debug, Default)]
pub(super) struct Gathered(HashMap<Path, Record>);

impl Gathered {
    /// Takes a record; a later one on the same path replaces it.
    pub(super) fn take(&mut self, record: Record) {
        if record.sealed.is_some() {
            self.0.insert(record.path, record);
        } else {
            self.0.remove(&record.path);
        }
    }

    /// Opens and decodes everything that is alive.
    pub(super) fn read(self, sealer: &Sealer) -> Contents {
        let mut contents = Contents::default();
        let mut uses = Vec::new();
        for record in self.0.into_values() {
            match contents.read(&record, sealer) {
                Ok(Some(id)) => uses.push((id, record)),
                Ok(None) => {}
                Err(unreadable) => contents.note(unreadable),
            }
        }
        let names: HashMap<[u8; 16], &str> =
            contents.keys.values().map(|key| (*key.id(), key.name().as_str())).collect();
        let misplaced: Vec<Unreadable> = uses
            .iter()
            .filter_map(|(id, record)| {
                // Counters of a key that is gone harm nobody.
                names.get(id).and_then(|name| sealer.verify_path(record, Kind::Uses, name).err())
            })
            .collect();
        for figures in &contents.figures {
            if let Some(key) = contents.api_keys.get(figures.id.as_str()) {
                key.usage.absorb(figures.count, figures.last);
            }
        }
        misplaced.into_iter().for_each(|unreadable| contents.note(unreadable));
        contents
    }
}

impl Contents {
    /// Reads one record; of use counters it returns the identifier of their key, which may not have been read yet.
    fn read(&mut self, record: &Record, sealer: &Sealer) -> Result<Option<[u8; 16]>, Unreadable> {
        let unreadable = |why| Unreadable { path: record.path, revision: record.revision, why };
        let malformed = |_| unreadable(MALFORMED);
        let plaintext = sealer.open(record)?;
        match plaintext.first().copied().and_then(Kind::of) {
            Some(Kind::Key) => {
                let key = decode_key(&plaintext).map_err(malformed)?;
                sealer.verify_path(record, Kind::Key, key.name().as_str())?;
                self.keys.insert(key.name().as_str().to_owned(), key);
            }
            Some(Kind::Uses) => {
                let uses = decode_uses(&plaintext).map_err(malformed)?;
                return Ok(Some(*uses.id()));
            }
            Some(Kind::ApiKey) => {
                let key = auth::decode_key(&plaintext).map_err(|_| unreadable(MALFORMED))?;
                sealer.verify_path(record, Kind::ApiKey, key.id.as_str())?;
                self.api_keys.insert(key.id.as_str().to_owned(), key);
            }
            Some(Kind::CallerUse) => {
                let figures = auth::decode_use(&plaintext).map_err(|_| unreadable(MALFORMED))?;
                sealer.verify_path(record, Kind::CallerUse, figures.id.as_str())?;
                self.figures.push(figures);
            }
            Some(Kind::Checkpoint) => {
                let of = Checkpoint::decode(&plaintext).map_err(|_| unreadable(MALFORMED))?;
                sealer.verify_path(record, Kind::Checkpoint, &of.name())?;
                self.checkpoints.push(of);
            }
            Some(Kind::AuditRoots) => {
                sealer.verify_path(record, Kind::AuditRoots, ROOTS_NAME)?;
                self.audit_roots = decode_roots(&plaintext).map_err(|_| unreadable(MALFORMED))?;
            }
            None => return Err(unreadable("it is of an unknown kind: a newer version may have written it")),
        }
        Ok(None)
    }

    fn note(&mut self, unreadable: Unreadable) {
        self.unreadable_count += 1;
        if self.unreadable.len() < JOURNAL_DAMAGES_SHOWN_MAX_COUNT {
            self.unreadable.push(unreadable);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;
    use crate::keyring::encode_key;
    use crate::keyring::{Change, Circumstances, Ring, change::apply};
    use crate::model::{KeyName, KeyOptions, KeyType, PolicyChange};
    use crate::store::RootKey;

    fn key(name: &str) -> Key {
        let mut ring = Ring::default();
        let mut draw = |bytes: &mut [u8]| {
            bytes.fill(7);
            Ok(())
        };
        let mut at =
            Circumstances { now: WallTime::from_millis(1), restore_window_seconds: 0, draw: &mut draw };
        let options = KeyOptions::of(KeyType::XChaCha20Poly1305);
        let create =
            Change::Create { name: KeyName::new(name).unwrap(), options, policy: PolicyChange::default() };
        let made = apply(&mut ring, &create, &mut at).unwrap();
        (*made.key).clone()
    }

    fn record(sealer: &Sealer, name: &str, revision: u64, plaintext: &[u8]) -> Record {
        let path = sealer.path(Kind::Key, name);
        let sealed = Some(sealer.seal(path, revision, &[1; 24], plaintext).unwrap());
        Record { path, revision, sealed }
    }

    #[test]
    fn the_last_word_on_a_path_counts_and_one_bad_record_hides_no_other() {
        let sealer = RootKey::take(&mut [3; 32]).sealer([4; 16]).unwrap();
        let mut gathered = Gathered::default();
        let orders = encode_key(&key("orders"));
        gathered.take(record(&sealer, "orders", 1, &orders));
        gathered.take(record(&sealer, "gone", 2, &encode_key(&key("gone"))));
        gathered.take(Record { path: sealer.path(Kind::Key, "gone"), revision: 3, sealed: None });
        // A key at the place of another, one that contradicts its format, one that was moved to another revision.
        gathered.take(record(&sealer, "other", 4, &orders));
        gathered.take(record(&sealer, "short", 5, b"K\x01"));
        gathered.take(Record { revision: 7, ..record(&sealer, "moved", 6, &encode_key(&key("moved"))) });
        let contents = gathered.read(&sealer);
        assert_eq!(contents.keys.keys().collect::<Vec<_>>(), ["orders"]);
        assert_eq!((contents.unreadable_count, contents.unreadable.len()), (3, 3));
        assert!(contents.api_keys.is_empty());
    }
}
