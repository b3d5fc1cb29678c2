//! What the records of a store say, once they are opened.
//!
//! Owns [`Contents`]. Invariants: every live record is opened and decoded, and stands where its name belongs; what
//! cannot be read is noted and does not hide the rest; of material nothing is kept but that it is there.

use std::collections::{BTreeMap, HashMap};

use crate::keyring::Key;
use crate::keyring::record::{decode_key, decode_uses};
use crate::limits::JOURNAL_DAMAGES_SHOWN_MAX_COUNT;
use crate::store::{Kind, Path, Record, Sealer, Unreadable};

/// What is in a store.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// The keys, by name.
    pub(super) keys: BTreeMap<String, Key>,
    /// Records of use counters.
    pub(super) uses_count: u64,
    /// Records of API keys.
    pub(super) api_keys_count: u64,
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
        misplaced.into_iter().for_each(|unreadable| contents.note(unreadable));
        contents
    }
}

impl Contents {
    /// Reads one record; of use counters it returns the identifier of their key, which may not have been read yet.
    fn read(&mut self, record: &Record, sealer: &Sealer) -> Result<Option<[u8; 16]>, Unreadable> {
        let unreadable = |why| Unreadable { path: record.path, revision: record.revision, why };
        let malformed = |_| unreadable("it contradicts its format, or a newer version wrote it");
        let plaintext = sealer.open(record)?;
        match plaintext.first().copied().and_then(Kind::of) {
            Some(Kind::Key) => {
                let key = decode_key(&plaintext).map_err(malformed)?;
                sealer.verify_path(record, Kind::Key, key.name().as_str())?;
                self.keys.insert(key.name().as_str().to_owned(), key);
            }
            Some(Kind::Uses) => {
                let uses = decode_uses(&plaintext).map_err(malformed)?;
                self.uses_count += 1;
                return Ok(Some(*uses.id()));
            }
            Some(Kind::ApiKey) => self.api_keys_count += 1,
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
