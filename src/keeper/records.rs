//! Records and what they stand for: how a store becomes a ring, and how the news of others come into one.
//!
//! Owns [`load`] and the taking in of news. Invariants: the last word on a path is the valid one; a record counts only
//! at the path of the name that is inside; figures that were counted here go on when their key is read anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::audit::Checkpoint;
use crate::audit::chain::Root;
use crate::audit::checkpoint::{ROOTS_NAME, decode_roots};
use crate::auth::{self, ApiKey, Directory, UseRecord};
use crate::keeper::state::State;
use crate::keyring::{Key, Malformed, Ring, UsesRecord, decode_key, decode_uses};
use crate::model::{ApiKeyId, KeyName};
use crate::store::{Kind, Loaded, Path, Record, Sealer, Store, StoreError, Unreadable};

/// What a store held.
#[derive(Debug)]
pub struct Opening {
    /// Keys and API keys, with their figures.
    pub state: State,
    /// How far the audit streams of earlier starts had come, in no order.
    pub checkpoints: Vec<Checkpoint>,
    /// The roots of audit keys that were in use before the present one, the oldest first.
    pub audit_roots: Vec<Root>,
    /// What the store says of itself.
    pub loaded: Loaded,
}

/// Reads all of a store.
///
/// # Errors
/// Why it cannot be used, with what to do.
pub fn load(store: &mut dyn Store, sealer: &Sealer) -> Result<Opening, StoreError> {
    let mut latest: HashMap<Path, Record> = HashMap::new();
    let loaded = store.load(&mut |record| {
        if record.sealed.is_some() {
            latest.insert(record.path, record);
        } else {
            latest.remove(&record.path);
        }
        Ok(())
    })?;
    let mut callers = Directory::default();
    let mut caller_figures = Vec::new();
    let (mut checkpoints, mut audit_roots) = (Vec::new(), Vec::new());
    let mut keys: Vec<Key> = Vec::new();
    let mut figures: HashMap<Path, UsesRecord> = HashMap::new();
    for record in latest.into_values() {
        match open(sealer, &record)? {
            Opened::Key(key) => keys.push(*key),
            Opened::Uses(uses) => drop(figures.insert(record.path, uses)),
            Opened::Caller(key) => callers.put(Arc::new(*key)),
            Opened::CallerUse(figures) => caller_figures.push(figures),
            Opened::Checkpoint(of) => checkpoints.push(of),
            Opened::AuditRoots(roots) => audit_roots = roots,
        }
    }
    let mut ring = Ring::default();
    for key in keys {
        let uses = figures.get(&sealer.path(Kind::Uses, key.name().as_str()));
        ring.put(Arc::new(match uses {
            Some(uses) => key.with_uses(uses),
            None => key,
        }));
    }
    caller_figures.iter().for_each(|figures| absorb(&callers, figures));
    Ok(Opening { state: State { ring, callers }, checkpoints, audit_roots, loaded })
}

/// Takes in figures of an API key; those of one that is gone are nobody's.
fn absorb(callers: &Directory, figures: &UseRecord) {
    if let Some(key) = callers.get(figures.id) {
        key.usage.absorb(figures.count, figures.last);
    }
}

/// Takes what others have written into `state`. What is told of the audit log is read at the start alone.
pub(super) fn take_in(state: &mut State, sealer: &Sealer, news: Vec<Record>) -> Result<(), Unreadable> {
    let latest: BTreeMap<Path, Record> = news.into_iter().map(|record| (record.path, record)).collect();
    let State { ring, callers } = state;
    let mut removed = BTreeSet::new();
    let (mut figures, mut caller_figures) = (Vec::new(), Vec::new());
    for record in latest.into_values() {
        if record.sealed.is_none() {
            removed.insert(record.path);
            continue;
        }
        match open(sealer, &record)? {
            Opened::Key(key) => {
                let before = ring.get_any(key.name().as_str()).cloned();
                ring.put(Arc::new(
                    before.map_or_else(|| (*key).clone(), |before| key.with_figures_of(&before)),
                ));
            }
            Opened::Uses(uses) => figures.push((record, uses)),
            Opened::Caller(mut key) => {
                if let Some(before) = callers.get(key.id) {
                    key.usage = Arc::clone(&before.usage);
                }
                callers.put(Arc::new(*key));
            }
            Opened::CallerUse(figures) => caller_figures.push(figures),
            Opened::Checkpoint(_) | Opened::AuditRoots(_) => {}
        }
    }
    for (record, uses) in figures {
        // Nothing is found if the key went since.
        if let Some(key) = ring.keys().find(|key| key.id() == uses.id()) {
            sealer.verify_path(&record, Kind::Uses, key.name().as_str())?;
            key.absorb(&uses);
        }
    }
    caller_figures.iter().for_each(|figures| absorb(callers, figures));
    if !removed.is_empty() {
        // A path does not tell its name: every name is asked for its path. Keys are destroyed rarely.
        let gone = |key: &&Arc<Key>| removed.contains(&sealer.path(Kind::Key, key.name().as_str()));
        let names: Vec<KeyName> = ring.keys().filter(gone).map(|key| key.name().clone()).collect();
        names.iter().for_each(|name| ring.remove(name.as_str()));
        let gone = |key: &&Arc<ApiKey>| removed.contains(&sealer.path(Kind::ApiKey, key.id.as_str()));
        let ids: Vec<ApiKeyId> = callers.keys().filter(gone).map(|key| key.id).collect();
        ids.into_iter().for_each(|id| callers.remove(id));
    }
    Ok(())
}

enum Opened {
    Key(Box<Key>),
    Uses(UsesRecord),
    Caller(Box<ApiKey>),
    CallerUse(UseRecord),
    Checkpoint(Checkpoint),
    AuditRoots(Vec<Root>),
}

fn open(sealer: &Sealer, record: &Record) -> Result<Opened, Unreadable> {
    let plaintext: Zeroizing<Vec<u8>> = sealer.open(record)?;
    let why = |why| Unreadable { path: record.path, revision: record.revision, why };
    const NEWER: &str = "it is of a format that a newer version writes";
    const WRONG: &str = "its content contradicts its format";
    let malformed = |error: Malformed| {
        why(match error {
            Malformed::Format(_) => NEWER,
            Malformed::Kind | Malformed::Content => WRONG,
        })
    };
    let malformed_caller = |error| {
        why(match error {
            auth::Malformed::Format => NEWER,
            auth::Malformed::Content => WRONG,
        })
    };
    match plaintext.first().copied().and_then(Kind::of) {
        Some(Kind::Key) => {
            let key = decode_key(&plaintext).map_err(malformed)?;
            sealer.verify_path(record, Kind::Key, key.name().as_str())?;
            Ok(Opened::Key(Box::new(key)))
        }
        // Its name is not inside: whoever finds the key by its identifier checks the path.
        Some(Kind::Uses) => decode_uses(&plaintext).map(Opened::Uses).map_err(malformed),
        Some(Kind::ApiKey) => {
            let key = auth::decode_key(&plaintext).map_err(malformed_caller)?;
            sealer.verify_path(record, Kind::ApiKey, key.id.as_str())?;
            Ok(Opened::Caller(Box::new(key)))
        }
        Some(Kind::CallerUse) => {
            let figures = auth::decode_use(&plaintext).map_err(malformed_caller)?;
            sealer.verify_path(record, Kind::CallerUse, figures.id.as_str())?;
            Ok(Opened::CallerUse(figures))
        }
        Some(Kind::Checkpoint) => {
            let of = Checkpoint::decode(&plaintext).map_err(|_| why("its content contradicts its format"))?;
            sealer.verify_path(record, Kind::Checkpoint, &of.name())?;
            Ok(Opened::Checkpoint(of))
        }
        Some(Kind::AuditRoots) => {
            sealer.verify_path(record, Kind::AuditRoots, ROOTS_NAME)?;
            let roots = decode_roots(&plaintext).map_err(|_| why("its content contradicts its format"))?;
            Ok(Opened::AuditRoots(roots))
        }
        None => Err(why("it is of an unknown kind")),
    }
}
