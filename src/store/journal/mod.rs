//! The journal: one append-only file of sealed frames, and the store that it makes.
//!
//! Owns [`Journal`] and what is done to it while no server runs. The bytes are in [`mod@format`] and [`payload`], reading in
//! `scan`, the store in `core`, the new file of a compaction in `snapshot`, the system calls in `disk`. Invariants: a
//! frame is one change, written at once and synced before it is answered, so that only the very last one can be torn;
//! anything else that is not as it was written is damage, with which no server starts; a file is replaced by a whole
//! and durable one or not at all.

mod core;
mod disk;
pub mod format;
pub mod payload;
mod scan;
#[cfg(test)]
mod simulation;
mod snapshot;
mod tail;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use self::core::Core;
use self::disk::{Disk as _, Files, Which};
use self::format::{FrameKeys, HEADER_BYTES, Header, HeaderFault};
use self::payload::Item;
use self::snapshot::SnapshotWriter;
pub use self::verify::{Damage, Inspected, Report};
use super::data_dir::DataDir;
use super::error::StoreError;
use super::etcd::moved::Cargo;
use super::record::{
    AppendError, Compacted, Deliver, Head, Loaded, MaintainError, Origin, Record, Standing, Store, Tail,
    Witness,
};
use super::root::{MasterKey, RootKey};
use crate::clock::Moment;
use crate::crypto::Error;
use crate::crypto::random::{Generator, Kernel, SeedSource};
use crate::limits::JOURNAL_COMPACTION_LOW_FLOOR_BYTES;

/// The store of one server: a journal in its data directory.
#[derive(Debug)]
pub struct Journal(Core<Files>);

/// An open journal and what it is opened with.
#[derive(Debug)]
pub struct Opened {
    /// The store; nothing was read of it yet but its header.
    pub journal: Journal,
    /// Its root key.
    pub root: RootKey,
    /// The ring whose records it holds: [`RootKey::sealer`] takes it.
    pub ring: [u8; 16],
}

/// What a descriptor of the journal is, when it gets its number before lock-down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The journal: [`crate::limits::FD_JOURNAL_NUMBER`]. It and its successor change their parts in use.
    Journal,
    /// Its successor: [`crate::limits::FD_JOURNAL_NEXT_NUMBER`].
    Next,
    /// The data directory: [`crate::limits::FD_DATA_DIRECTORY_NUMBER`].
    Directory,
}

impl Journal {
    /// Makes an empty journal with a new root key and a new ring.
    ///
    /// # Errors
    /// [`StoreError::StoreExists`] if there is one; what the system refuses. Then there is no journal.
    pub fn create<S: SeedSource>(
        data_dir: &DataDir,
        master: &MasterKey,
        random: &mut Generator<S>,
    ) -> Result<(), StoreError> {
        if Self::exists(data_dir)? {
            return Err(StoreError::StoreExists { path: Files::path(data_dir) });
        }
        let now = Moment::now();
        let root = RootKey::generate(random)?;
        let (ring, file) = (random.array(now)?, random.array(now)?);
        let header = Header::wrap(master, &root, ring, file, random.array(now)?)?;
        let keys = FrameKeys::new(&root)?;
        let files = Files::create(data_dir)?;
        SnapshotWriter::new(&files, Which::Journal, &keys, random, &header)
            .and_then(|writer| writer.finish(Head::default(), &VecDeque::new()))
            .map_err(StoreError::NotCompacted)?;
        Files::give_name(data_dir)
    }

    /// Makes a journal that holds what another store held, records as they were sealed.
    ///
    /// # Errors
    /// As for [`Journal::create`].
    pub fn receive<S: SeedSource>(
        data_dir: &DataDir,
        master: &MasterKey,
        cargo: &Cargo,
        random: &mut Generator<S>,
    ) -> Result<(), StoreError> {
        if Self::exists(data_dir)? {
            return Err(StoreError::StoreExists { path: Files::path(data_dir) });
        }
        let now = Moment::now();
        let header = Header::wrap(master, &cargo.root, cargo.ring, random.array(now)?, random.array(now)?)?;
        let keys = FrameKeys::new(&cargo.root)?;
        let files = Files::create(data_dir)?;
        let recent = cargo.recent.iter().copied().collect();
        let written =
            SnapshotWriter::new(&files, Which::Journal, &keys, random, &header).and_then(|mut writer| {
                for Record { path, revision, sealed } in &cargo.records {
                    let (path, revision) = (*path, *revision);
                    writer.push(Item { path, revision, sealed: sealed.as_deref() })?;
                }
                writer.finish(cargo.head, &recent)
            });
        written.map_err(StoreError::NotCompacted)?;
        Files::give_name(data_dir)
    }

    /// Whether there is a journal.
    ///
    /// # Errors
    /// What the system refuses; a journal that others may read is refused like one that is opened.
    pub fn exists(data_dir: &DataDir) -> Result<bool, StoreError> {
        Files::exist(data_dir)
    }

    /// Opens the journal for a server. What the witness saw is asked for when it is loaded, before anything that a
    /// crash left unfinished is cut off.
    ///
    /// # Errors
    /// Why it cannot be used, with what to do.
    pub fn open(data_dir: &DataDir, master: &MasterKey, witness: Witness) -> Result<Opened, StoreError> {
        let files = Files::open(data_dir)?;
        let path = Files::path(data_dir);
        let (header, _) = read_header(&path, &files)?;
        let root = unwrap(&path, &header, master)?;
        let keys = FrameKeys::new(&root)?;
        let random = Generator::new(Kernel, Moment::now())?;
        let core = Core::new(files, Files::path(data_dir), header, keys, random, witness);
        Ok(Opened { journal: Self(core), root, ring: header.ring })
    }

    /// Clears away what a crash left beside a journal that was just loaded, makes its successor, and compacts it if that
    /// is worth it: on a file system that cannot exchange two names this is the only time
    /// ([`Standing::compacts_in_use`] tells).
    ///
    /// # Errors
    /// What the system refuses. The journal is as it was then, and is not compacted while it is in use; whether it can
    /// be used is in [`Store::standing`].
    pub fn compact_at_start(&mut self, data_dir: &DataDir) -> Result<Option<Compacted>, StoreError> {
        let compacted = self.compact_before_use(data_dir, true)?;
        data_dir.remove_unfinished_root()?;
        Ok(compacted)
    }

    fn compact_before_use(
        &mut self,
        data_dir: &DataDir,
        exchange: bool,
    ) -> Result<Option<Compacted>, StoreError> {
        let core = &mut self.0;
        core.disk.prepare_next(data_dir, exchange)?;
        let lasting = exchange && core.disk.has_next();
        let worth = core.worth_compacting(JOURNAL_COMPACTION_LOW_FLOOR_BYTES);
        if worth && !core.disk.has_next() {
            core.disk.prepare_next(data_dir, false)?;
        }
        let done = worth.then(|| core.compact(None)).transpose();
        if lasting {
            core.empty_next();
        } else {
            core.disk.forget_next();
        }
        done.map_err(StoreError::NotCompacted)
    }

    /// Moves its descriptors, each by `place`, to the numbers that the filters know.
    ///
    /// # Errors
    /// What `place` returns.
    pub fn into_placed(self, place: impl FnMut(OwnedFd, Slot) -> io::Result<OwnedFd>) -> io::Result<Self> {
        self.0.placed(place).map(Self)
    }

    /// Rewrites the journal with nothing but what is alive in it. No server may be running.
    ///
    /// # Errors
    /// Why it cannot be used, with what to do. The journal is then as it was.
    pub fn compact_offline(
        data_dir: &DataDir,
        master: &MasterKey,
        witness: Witness,
    ) -> Result<Compacted, StoreError> {
        let mut opened = Self::open(data_dir, master, witness)?;
        opened.journal.load(&mut |_| Ok(()))?;
        opened.journal.0.disk.prepare_next(data_dir, false)?;
        opened.journal.0.compact(None).map_err(StoreError::NotCompacted)
    }

    /// Puts the journal under another master key, all at once: before it is done, only the old key opens it, then
    /// only the new one. No server may be running.
    ///
    /// # Errors
    /// As for [`Journal::compact_offline`].
    pub fn rekey(
        data_dir: &DataDir,
        master: &MasterKey,
        new: &MasterKey,
        witness: Witness,
    ) -> Result<Compacted, StoreError> {
        let Opened { mut journal, root, ring } = Self::open(data_dir, master, witness)?;
        journal.load(&mut |_| Ok(()))?;
        journal.0.disk.prepare_next(data_dir, false)?;
        let nonce = Generator::new(Kernel, Moment::now())?.array(Moment::now())?;
        let header = Header::wrap(new, &root, ring, journal.0.header().file, nonce)?;
        journal.0.compact(Some(header)).map_err(StoreError::NotCompacted)
    }
}

/// The header, and the length of the file.
fn read_header(path: &Path, files: &Files) -> Result<(Header, u64), StoreError> {
    let path = || path.to_owned();
    let failed = |errno| StoreError::Io { action: "read", path: path(), errno };
    let size = files.size().map_err(failed)?;
    let mut bytes = [0; HEADER_BYTES];
    let mut filled = 0;
    while let Some(room) = bytes.get_mut(filled..).filter(|room| !room.is_empty()) {
        match files.read_at(filled as u64, room).map_err(failed)? {
            0 => break,
            read => filled += read,
        }
    }
    let header = Header::parse(bytes.get(..filled).unwrap_or_default()).map_err(|fault| match fault {
        HeaderFault::NotAJournal => StoreError::NotAJournal { path: path() },
        HeaderFault::UnknownFormat(found) => StoreError::UnknownFormat { path: path(), found },
        HeaderFault::Damaged => StoreError::DamagedHeader { path: path() },
    })?;
    Ok((header, size))
}

fn unwrap(path: &Path, header: &Header, master: &MasterKey) -> Result<RootKey, StoreError> {
    let path = path.to_owned();
    let given = master.id()?;
    if given != header.master_key {
        return Err(StoreError::WrongMasterKey { path, needed: header.master_key, given });
    }
    header.unwrap(master).map_err(|error| match error {
        Error::Rejected => StoreError::DamagedHeader { path },
        error => StoreError::Crypto(error),
    })
}

impl Store for Journal {
    fn load(&mut self, each: &mut Deliver<'_>) -> Result<Loaded, StoreError> {
        self.0.load(each)
    }

    fn append(&mut self, expected: u64, records: &[Record], origins: &[Origin]) -> Result<Head, AppendError> {
        self.0.append(expected, records, origins)
    }

    fn watch(&mut self, _since: u64, _each: &mut Deliver<'_>) -> Result<Head, StoreError> {
        Ok(self.0.head().unwrap_or_default())
    }

    fn maintain(&mut self) -> Result<Option<Compacted>, MaintainError> {
        self.0.maintain(Moment::now())
    }

    fn standing(&self) -> Standing {
        self.0.standing()
    }

    fn verify_tail(&mut self) -> Tail {
        self.0.verify_tail()
    }

    fn take_found(&mut self) -> Option<Tail> {
        self.0.take_found()
    }

    fn directory(&mut self) -> Option<&mut OwnedFd> {
        Some(self.0.disk.directory())
    }

    fn leave(&mut self) {
        self.0.leave();
    }
}
