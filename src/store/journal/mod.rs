//! The journal: one append-only file of sealed frames, and the store that it makes.
//!
//! Owns [`Journal`].

use std::io;
use std::os::fd::OwnedFd;

use super::data_dir::DataDir;
use super::error::StoreError;
use super::record::{
    AppendError, Compacted, Deliver, Head, Loaded, MaintainError, Origin, Record, Standing, Store, TornTail,
    Witness,
};
use super::root::{MasterKey, MasterKeyId, RootKey};
use crate::crypto::random::{Generator, SeedSource};

/// The store of one server: a journal in its data directory.
#[derive(Debug)]
pub struct Journal {
    standing: Standing,
}

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
    /// The journal: [`crate::limits::FD_JOURNAL_NUMBER`].
    Journal,
    /// Its successor: [`crate::limits::FD_JOURNAL_NEXT_NUMBER`].
    Next,
    /// The data directory: [`crate::limits::FD_DATA_DIRECTORY_NUMBER`].
    Directory,
}

/// What the header of a journal says to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Number of the format.
    pub format: u32,
    /// The ring.
    pub ring: [u8; 16],
    /// The file: another one after each compaction.
    pub file: [u8; 16],
    /// The master key that is needed.
    pub master_key: MasterKeyId,
    /// Length of the file.
    pub bytes: u64,
}

/// What a look at every byte of a journal found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the header says.
    pub inspected: Inspected,
    /// Frames that are as they were written.
    pub frames: u64,
    /// Records that are neither superseded nor removed, of these frames.
    pub live_records: u64,
    /// Where the state stands after the last of the frames before the first damage.
    pub head: Head,
    /// The unfinished end, which the next start cuts off.
    pub torn: Option<TornTail>,
    /// Damaged places, the first ones of them.
    pub damages: Vec<Damage>,
    /// How many damaged places there are.
    pub damages_count: u64,
}

/// A damaged place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins.
    pub offset: u64,
    /// How far it is to the next frame that is as it was written, or to the end.
    pub bytes: u64,
}

impl Journal {
    /// Makes an empty journal with a new root key and a new ring.
    ///
    /// # Errors
    /// [`StoreError::StoreExists`] if there is one; what the system refuses.
    pub fn create<S: SeedSource>(
        data_dir: &DataDir,
        _master: &MasterKey,
        _random: &mut Generator<S>,
    ) -> Result<(), StoreError> {
        Err(StoreError::NoStore { path: data_dir.path().to_owned() })
    }

    /// Whether there is a journal.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn exists(_data_dir: &DataDir) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Opens the journal. What the witness saw is asked for when it is loaded.
    ///
    /// # Errors
    /// Why it cannot be used, with what to do.
    pub fn open(data_dir: &DataDir, _master: &MasterKey, _witness: Witness) -> Result<Opened, StoreError> {
        Err(StoreError::NoStore { path: data_dir.path().to_owned() })
    }

    /// Moves its descriptors, each by `place`, to the numbers that the filters know.
    ///
    /// # Errors
    /// What `place` returns.
    pub fn into_placed(self, _place: impl FnMut(OwnedFd, Slot) -> io::Result<OwnedFd>) -> io::Result<Self> {
        Ok(self)
    }

    /// Rewrites the journal with nothing but what is alive in it. No server may be running.
    ///
    /// # Errors
    /// Why it cannot be used, with what to do. The journal is then as it was.
    pub fn compact_offline(
        data_dir: &DataDir,
        _master: &MasterKey,
        _witness: Witness,
    ) -> Result<Compacted, StoreError> {
        Err(StoreError::NoStore { path: data_dir.path().to_owned() })
    }

    /// Puts the journal under another master key, all at once: before it is done, only the old key opens it, then
    /// only the new one. No server may be running.
    ///
    /// # Errors
    /// As for [`Journal::compact_offline`].
    pub fn rekey(
        data_dir: &DataDir,
        _master: &MasterKey,
        _new: &MasterKey,
        _witness: Witness,
    ) -> Result<Compacted, StoreError> {
        Err(StoreError::NoStore { path: data_dir.path().to_owned() })
    }

    /// Looks at every byte and changes none.
    ///
    /// # Errors
    /// Why it cannot even be looked at. Damage behind the header is in the report.
    pub fn verify(data_dir: &DataDir, _master: &MasterKey) -> Result<Report, StoreError> {
        Err(StoreError::NoStore { path: data_dir.path().to_owned() })
    }

    /// What the header says to everybody, without any key.
    ///
    /// # Errors
    /// Why it cannot be looked at.
    pub fn inspect(data_dir: &DataDir) -> Result<Inspected, StoreError> {
        Err(StoreError::NoStore { path: data_dir.path().to_owned() })
    }
}

impl Store for Journal {
    fn load(&mut self, _each: &mut Deliver<'_>) -> Result<Loaded, StoreError> {
        Ok(Loaded::default())
    }

    fn append(
        &mut self,
        _expected: u64,
        _records: &[Record],
        _origins: &[Origin],
    ) -> Result<Head, AppendError> {
        Err(AppendError::Refused)
    }

    fn watch(&mut self, _since: u64, _each: &mut Deliver<'_>) -> Result<Head, StoreError> {
        Ok(Head::default())
    }

    fn maintain(&mut self) -> Result<Option<Compacted>, MaintainError> {
        Ok(None)
    }

    fn standing(&self) -> Standing {
        self.standing
    }
}
