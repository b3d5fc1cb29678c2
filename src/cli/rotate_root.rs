//! `quantonium store rotate-root`: everything sealed anew under a new root key, for when the old one may be known.
//!
//! Owns the new store until it takes the old one's place. Invariants: the new journal is whole, durable and verified
//! before it gets its name, in one step, so that whenever the power fails the old or the new one is there; it stands at a
//! later revision than the old one, so that it is not taken for an older one; no API key of the old root outlives it; what was
//! written to the audit log under the old root can still be verified.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::AtFlags;
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::failure::Failure;
use crate::audit::checkpoint::{ROOTS_NAME, encode_roots};
use crate::auth::ApiKey;
use crate::clock::Moment;
use crate::crypto::random::{Generator, Kernel};
use crate::keeper::{self, Opening, initialise};
use crate::keyring::{Key, encode_key, encode_uses};
use crate::limits::STORE_APPEND_MAX_BYTES;
use crate::store::{
    DataDir, Journal, Kind, MasterKey, Record, SEAL_NONCE_BYTES, Sealer, Store as _, StoreError, Witness,
    quoted,
};

const JOURNAL_NAME: &str = "journal";
/// What a compaction may have left of the old root.
const JOURNAL_NEXT_NAME: &str = "journal.next";

/// What was done.
pub(super) struct Rotated {
    /// The API keys that ended.
    pub(super) ended: Vec<Arc<ApiKey>>,
    /// Keys that were sealed anew.
    pub(super) keys_count: usize,
}

/// Seals everything in `data_dir` anew under a new root key, which `master` wraps as it did the old one. The new admin
/// key, which nothing else keeps, goes to `hand_over` while the old store is still in place.
pub(super) fn rotate(
    data_dir: &DataDir,
    master: &MasterKey,
    witness: Witness,
    hand_over: impl FnOnce(&str) -> Result<(), Failure>,
) -> Result<Rotated, Failure> {
    let mut old = Journal::open(data_dir, master, witness)?;
    let mut opening = keeper::load(&mut old.journal, &old.root.sealer(old.ring)?)?;
    opening.audit_roots.push(old.root.audit_root()?);
    drop(old);

    let mut random = Generator::new(Kernel, Moment::now())?;
    let path = data_dir.path().join(DataDir::ROOT_NEXT_NAME);
    remove_all(&path)?;
    let next = DataDir::open(&path, Some(data_dir.owner()))?;
    let admin: Zeroizing<String> = initialise(&next, master, &mut random)?;
    // The new store begins beyond the old one's revision.
    let after = opening.loaded.head.revision.saturating_add(1);
    let witness = Witness { min_revision: after, accept_rollback: true, ..Witness::default() };
    let mut opened = Journal::open(&next, master, witness)?;
    let sealer = opened.root.sealer(opened.ring)?;
    // It holds the admin key alone, which the sealer has to fit: this tells.
    let loaded = keeper::load(&mut opened.journal, &sealer)?.loaded;
    let mut copy = Copy {
        journal: opened.journal,
        sealer,
        random,
        revision: loaded.head.revision,
        batch: Vec::new(),
        weight: 0,
    };
    for key in opening.state.ring.keys() {
        copy.add(key)?;
    }
    for of in &opening.checkpoints {
        copy.push(Kind::Checkpoint, &of.name(), &of.encode())?;
    }
    copy.push(Kind::AuditRoots, ROOTS_NAME, &encode_roots(&opening.audit_roots))?;
    copy.flush()?;
    drop(copy);
    must_hold(&next, master, &opening)?;
    if let Err(failure) = hand_over(&admin) {
        drop(next);
        remove_all(&path)?;
        return Err(failure);
    }
    let replaced = replace(data_dir, &next);
    replaced
        .map_err(|failure| failure.and("; the old store is in place, and the new admin key is of no use"))?;
    drop(next);
    let settled = settle(data_dir).and_then(|()| remove_all(&path));
    settled.map_err(|failure| {
        failure.and("; the new store is in place, and the new admin key is its own: it was handed over")
    })?;
    let ended = opening.state.callers.keys().cloned().collect();
    Ok(Rotated { ended, keys_count: opening.state.ring.len() })
}

/// Writes records into the new store, as many at a time as it takes.
struct Copy {
    journal: Journal,
    sealer: Sealer,
    random: Generator,
    revision: u64,
    batch: Vec<Record>,
    weight: usize,
}

impl Copy {
    fn add(&mut self, key: &Key) -> Result<(), Failure> {
        self.push(Kind::Key, key.name().as_str(), &encode_key(key))?;
        self.push(Kind::Uses, key.name().as_str(), &encode_uses(key))
    }

    fn push(&mut self, kind: Kind, name: &str, plaintext: &[u8]) -> Result<(), Failure> {
        let mut record = self.seal(kind, name, plaintext)?;
        if self.weight + record.weight() > STORE_APPEND_MAX_BYTES {
            self.flush()?;
            // It goes into the revision after.
            record = self.seal(kind, name, plaintext)?;
        }
        self.weight += record.weight();
        self.batch.push(record);
        Ok(())
    }

    fn seal(&mut self, kind: Kind, name: &str, plaintext: &[u8]) -> Result<Record, Failure> {
        let nonce = self.random.array::<SEAL_NONCE_BYTES>(Moment::now())?;
        let path = self.sealer.path(kind, name);
        let revision = self.revision.saturating_add(1);
        let sealed = Some(self.sealer.seal(path, revision, &nonce, plaintext)?);
        Ok(Record { path, revision, sealed })
    }

    fn flush(&mut self) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let appended = self.journal.append(self.revision, &self.batch, &[]);
        self.revision = appended.map_err(StoreError::NotAppended)?.revision;
        self.batch.clear();
        self.weight = 0;
        Ok(())
    }
}

/// Reads the new store back as a server would.
fn must_hold(next: &DataDir, master: &MasterKey, wanted: &Opening) -> Result<(), Failure> {
    let report = Journal::verify(next, master)?;
    let mut opened = Journal::open(next, master, Witness::default())?;
    let opening = keeper::load(&mut opened.journal, &opened.root.sealer(opened.ring)?)?;
    let counts = |of: &Opening| (of.state.ring.len(), of.checkpoints.len());
    if report.damages_count == 0 && counts(&opening) == counts(wanted) {
        return Ok(());
    }
    Err(Failure::damaged(format!(
        "{} cannot be read back as it was written; the store is as it was: look at the disk",
        quoted(&next.path().join(JOURNAL_NAME))
    )))
}

/// Gives the new journal the old one's place.
fn replace(data_dir: &DataDir, next: &DataDir) -> Result<(), Failure> {
    let renamed = rustix::fs::renameat(next.directory(), JOURNAL_NAME, data_dir.directory(), JOURNAL_NAME);
    let path = || data_dir.path().join(JOURNAL_NAME);
    Ok(renamed.map_err(|errno| StoreError::Io { action: "replace", path: path(), errno })?)
}

/// Makes the new name durable, and removes what could hold something of the old root.
fn settle(data_dir: &DataDir) -> Result<(), Failure> {
    let failed = |action, name: &str| {
        let path = data_dir.path().join(name);
        move |errno| StoreError::Io { action, path, errno }
    };
    let to = data_dir.directory();
    rustix::fs::fsync(to).map_err(failed("sync the directory of", JOURNAL_NAME))?;
    match rustix::fs::unlinkat(to, JOURNAL_NEXT_NAME, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(failed("remove", JOURNAL_NEXT_NAME)(errno).into()),
    }
}

fn remove_all(path: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Failure::io(format!("cannot remove {}: {error}; remove it by hand", quoted(path))))
        }
        _ => Ok(()),
    }
}
