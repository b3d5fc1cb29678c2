//! The store that a journal makes, over any disk.
//!
//! Owns [`Core`]: loading, appending, healing after a failed write, compaction. Invariants: a change is one frame, one
//! write and one sync; after a failure the file ends where it ended before, or no change is taken any more; in memory
//! stand the paths of what is alive, and nothing of its content.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::io::Errno;

use super::super::error::StoreError;
use super::super::record::{
    AppendError, Compacted, Condition, Deliver, Head, Loaded, MaintainError, Origin, Path, Record, Standing,
    Tail, TornTail, Witness,
};
use super::Slot;
use super::disk::{Disk, Files, Which};
use super::format::{FrameKeys, FrameKind, Header, Place};
use super::payload::{Commit, Item};
use super::scan::{self, Broken, Trail, Walk};
use super::snapshot::{self, SnapshotWriter};
use crate::clock::Moment;
use crate::crypto::random::Generator;
use crate::limits::{
    JOURNAL_COMPACTION_FACTOR_COUNT, JOURNAL_COMPACTION_FLOOR_BYTES, JOURNAL_COMPACTION_LOW_FLOOR_BYTES,
    JOURNAL_MAX_BYTES, JOURNAL_NEXT_RESERVED_BYTES, JOURNAL_RESERVED_BYTES, JOURNAL_SUPERSEDED_MAX_SECONDS,
    STORE_APPEND_MAX_BYTES, STORE_ORIGINS_MAX_COUNT, STORE_REVISION_CEILING_NUMBER,
};
use crate::metrics::process::STORE;

/// A journal over a disk.
#[derive(Debug)]
pub(super) struct Core<D> {
    pub(super) disk: D,
    /// For messages.
    path: PathBuf,
    header: Header,
    pub(super) keys: FrameKeys,
    random: Generator,
    witness: Witness,
    /// Nothing until it was loaded.
    pub(super) state: Option<State>,
    pub(super) condition: Condition,
    /// Where damage was found at the end, with which the store took its last change.
    pub(super) damaged_at: Option<u64>,
    /// What a look before a change found, as long as nobody asked.
    pub(super) found: Option<Tail>,
    last_sync_micros: u64,
    /// Whether the file system reserves room.
    reserves: bool,
    /// After a compaction that failed, the length at which the next one is tried.
    compact_from: u64,
    /// Since when the journal has held what a compaction drops; after one that failed, since then.
    superseded_since: Option<Moment>,
    /// Whether the successor is known to be empty. Then it is not cut before it is filled, which would give back the
    /// room that is reserved in it.
    next_is_empty: bool,
    /// The frame that is being written; kept for its memory.
    pub(super) frame: Vec<u8>,
}

/// Where an open journal stands.
#[derive(Debug)]
pub(super) struct State {
    /// Where the next frame goes.
    pub(super) place: Place,
    pub(super) end: u64,
    /// Up to where room is reserved.
    pub(super) reserved: u64,
    head: Head,
    recent: VecDeque<Origin>,
    live: Live,
    pub(super) trail: Trail,
}

/// What is alive: where, since when, and how heavy.
#[derive(Debug, Default)]
pub(super) struct Live {
    records: BTreeMap<Path, (u64, usize)>,
    bytes: u64,
}

impl Live {
    /// Takes the last word on a path. Returns whether it leaves something dead behind.
    pub(super) fn note(&mut self, item: &Item<'_>) -> bool {
        let weight = item.weight();
        let before = match item.sealed {
            Some(_) => self.records.insert(item.path, (item.revision, weight)),
            None => self.records.remove(&item.path),
        };
        let gone = before.map_or(0, |(_, weight)| weight);
        let come = if item.sealed.is_some() { weight } else { 0 };
        self.bytes = self.bytes.saturating_sub(gone as u64).saturating_add(come as u64);
        gone > 0 || come == 0
    }

    pub(super) fn count(&self) -> u64 {
        self.records.len() as u64
    }

    fn holds(&self, item: &Item<'_>) -> bool {
        let revision = self.records.get(&item.path).map(|(revision, _)| *revision);
        item.sealed.is_some() && revision == Some(item.revision)
    }
}

impl<D: Disk> Core<D> {
    pub(super) fn new(
        disk: D,
        path: PathBuf,
        header: Header,
        keys: FrameKeys,
        random: Generator,
        witness: Witness,
    ) -> Self {
        Self {
            disk,
            path,
            header,
            keys,
            random,
            witness,
            state: None,
            condition: Condition::Good,
            damaged_at: None,
            found: None,
            last_sync_micros: 0,
            reserves: true,
            compact_from: 0,
            superseded_since: None,
            next_is_empty: false,
            frame: Vec::new(),
        }
    }

    /// See [`super::super::Store::load`].
    pub(super) fn load(&mut self, each: &mut Deliver<'_>) -> Result<Loaded, StoreError> {
        if self.condition == Condition::Poisoned {
            return Err(StoreError::NotAppended(AppendError::Refused));
        }
        self.state = None;
        let size = self.disk.size().map_err(|errno| self.failed("look at", errno))?;
        let mut live = Live::default();
        let mut walk = Walk::new(&self.header);
        let mut superseded = false;
        let walked = scan::walk(&self.disk, &self.keys, size, &mut walk, |item| {
            superseded |= live.note(&item);
            each(item.to_record())
        });
        let fault = walked.map_err(|broken| match broken {
            Broken::Read(errno) => self.failed("read", errno),
            Broken::Refused(record) => StoreError::from(record),
        })?;
        let mut torn = None;
        if let Some(fault) = fault {
            let tail = TornTail { offset: walk.offset, bytes: size.saturating_sub(walk.offset) };
            let unfinished = scan::judge(&self.disk, &self.keys, size, &walk, fault)
                .map_err(|errno| self.failed("read", errno))?;
            let (path, offset) = (self.path.clone(), tail.offset);
            if !unfinished {
                return Err(StoreError::Damaged { path, offset });
            }
            // What the witness saw was acknowledged, so it was finished once.
            if let Err(StoreError::RolledBack { found, expected }) = self.witness.check(walk.head) {
                return Err(StoreError::DamagedEnd { path, offset, found, expected });
            }
            torn = Some(tail);
        }
        self.witness.check(walk.head)?;
        // Nothing could be appended to it.
        if walk.head.revision >= STORE_REVISION_CEILING_NUMBER {
            return Err(StoreError::RevisionTooHigh { revision: walk.head.revision });
        }
        if let Some(tail) = torn {
            self.disk
                .truncate(Which::Journal, tail.offset)
                .and_then(|()| self.disk.sync_file(Which::Journal))
                .map_err(|errno| self.failed("cut the torn end of", errno))?;
        }
        self.superseded_since = superseded.then(Moment::now);
        let rolled_back = self.witness.is_ahead(walk.head);
        let Walk { place, offset: end, head, recent, trail, .. } = walk;
        self.state = Some(State { place, end, reserved: end, head, recent, live, trail });
        if rolled_back {
            // A revision never repeats, not even those that were lost.
            self.commit(self.witness.reached().saturating_add(1), &[], &[])
                .map_err(StoreError::NotAppended)?;
        }
        let state = self.state.as_ref();
        Ok(Loaded {
            head: state.map_or(head, |state| state.head),
            recent: state.map(|state| state.recent.iter().copied().collect()).unwrap_or_default(),
            torn,
            rolled_back,
        })
    }

    /// See [`super::super::Store::append`].
    pub(super) fn append(
        &mut self,
        expected: u64,
        records: &[Record],
        origins: &[Origin],
    ) -> Result<Head, AppendError> {
        let at = self
            .head()
            .filter(|_| self.condition != Condition::Poisoned)
            .ok_or(AppendError::Refused)?
            .revision;
        if at != expected {
            return Err(AppendError::Conflict { at });
        }
        let revision = expected.checked_add(1).filter(|next| *next <= STORE_REVISION_CEILING_NUMBER);
        let revision = revision.ok_or(AppendError::TooLarge)?;
        if records.iter().any(|record| record.revision != revision) {
            return Err(AppendError::Malformed);
        }
        let weight = records.iter().map(Record::weight).fold(0usize, usize::saturating_add);
        let fit = records.iter().all(Record::fits) && weight <= STORE_APPEND_MAX_BYTES;
        if !fit || origins.len() > STORE_ORIGINS_MAX_COUNT {
            return Err(AppendError::TooLarge);
        }
        self.commit(revision, &last_of_each_path(records), origins)
    }

    /// Writes a change and makes it durable.
    fn commit(&mut self, revision: u64, items: &[Item<'_>], origins: &[Origin]) -> Result<Head, AppendError> {
        self.clear_end()?;
        let Some(state) = &mut self.state else { return Err(AppendError::Refused) };
        let nonce = self.random.array(Moment::now()).map_err(|_| AppendError::Failed)?;
        Commit::encode(&mut self.frame, revision, origins, items.iter().copied())
            .ok_or(AppendError::TooLarge)?;
        let place = self
            .keys
            .seal(&mut self.frame, FrameKind::Commit, &nonce, &state.place)
            .map_err(|_| AppendError::TooLarge)?;
        let end = state.end.saturating_add(self.frame.len() as u64);
        if end > JOURNAL_MAX_BYTES {
            self.condition = Condition::Full;
            return Err(AppendError::Full);
        }
        if self.reserves {
            match reserve(&self.disk, state.reserved, end) {
                Ok(reserved) => state.reserved = reserved,
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => self.reserves = false,
                Err(errno) => return Err(self.not_written(errno)),
            }
        }
        if let Err(errno) = write_all(&self.disk, Which::Journal, &self.frame) {
            return Err(self.heal(errno));
        }
        self.confirm_written(end)?;
        let Some(state) = &mut self.state else { return Err(AppendError::Refused) };
        let before = Moment::now();
        if self.disk.sync_change().is_err() {
            self.condition = Condition::Poisoned;
            return Err(AppendError::Ambiguous);
        }
        self.last_sync_micros = Moment::now().nanos_since(before) / 1_000;
        STORE.commits.add(1);
        STORE.syncs.count(self.last_sync_micros);
        let head = Head { revision, tag: place.link };
        (state.place, state.end, state.head) = (place, end, head);
        state.trail.pass(place, end);
        state.reserved = state.reserved.max(end);
        Walk::remember(&mut state.recent, origins);
        if items.iter().fold(false, |superseded, item| superseded | state.live.note(item)) {
            self.superseded_since.get_or_insert(before);
        }
        self.condition = Condition::Good;
        Ok(head)
    }

    /// Takes back what a failed write left at the end of the file.
    pub(super) fn heal(&mut self, errno: Errno) -> AppendError {
        let Some(state) = &mut self.state else { return AppendError::Refused };
        // This gives back the room that was reserved as well.
        state.reserved = state.end;
        // Durably, because the disk could mix what is left of this frame with the next one in its place.
        let cut = self.disk.truncate(Which::Journal, state.end).and_then(|()| self.disk.sync_change());
        if cut.is_err() {
            // How much of the frame is there is unknown, and nothing may be written behind it.
            self.condition = Condition::Poisoned;
            return AppendError::Ambiguous;
        }
        self.not_written(errno)
    }

    pub(super) fn not_written(&mut self, errno: Errno) -> AppendError {
        let full = snapshot::is_full(errno);
        self.condition = if full { Condition::Full } else { Condition::Failing };
        if full { AppendError::Full } else { AppendError::Failed }
    }

    /// Where the state stands; nothing before it was loaded.
    pub(super) fn head(&self) -> Option<Head> {
        self.state.as_ref().map(|state| state.head)
    }

    /// The header of the file as it is now.
    pub(super) const fn header(&self) -> &Header {
        &self.header
    }

    /// See [`super::super::Store::maintain`].
    pub(super) fn maintain(&mut self, now: Moment) -> Result<Option<Compacted>, MaintainError> {
        let floor = if self.condition == Condition::Full {
            JOURNAL_COMPACTION_LOW_FLOOR_BYTES
        } else {
            JOURNAL_COMPACTION_FLOOR_BYTES.max(self.compact_from)
        };
        if self.disk.has_next() && (self.worth_compacting(floor) || self.holds_the_past(now)) {
            return self.compact(None).map(Some);
        }
        Ok(None)
    }

    /// Whether the journal is longer than `floor` and mostly dead, and a compaction may be done.
    pub(super) fn worth_compacting(&self, floor: u64) -> bool {
        let state = self.state.as_ref().filter(|_| self.condition != Condition::Poisoned);
        state.is_some_and(|state| {
            let origins = state.recent.len().saturating_mul(size_of::<Origin>());
            let alive = state.live.bytes.saturating_add(origins as u64);
            state.end > floor && state.end >= alive.saturating_mul(JOURNAL_COMPACTION_FACTOR_COUNT)
        })
    }

    /// Whether something dead, destroyed material perhaps, has been in the journal for long enough.
    fn holds_the_past(&self, now: Moment) -> bool {
        let long = |since: Moment| since.plus_millis(JOURNAL_SUPERSEDED_MAX_SECONDS * 1_000) <= now;
        self.condition != Condition::Poisoned && self.superseded_since.is_some_and(long)
    }

    /// Puts a file with nothing but what is alive in the place of the journal; under another header if there is one,
    /// whose file id is drawn anew.
    pub(super) fn compact(&mut self, header: Option<Header>) -> Result<Compacted, MaintainError> {
        self.clear_before_compaction()?;
        self.give_back();
        let done = self.fill_next(header).and_then(|successor| self.replace(&successor));
        if done.is_ok() {
            STORE.compactions.add(1);
            (self.compact_from, self.superseded_since) = (0, None);
            if self.condition == Condition::Full {
                // There is room again: the next change will tell.
                self.condition = Condition::Good;
            }
        } else {
            let end = self.state.as_ref().map_or(0, |state| state.end);
            self.compact_from = end.saturating_add(JOURNAL_COMPACTION_FLOOR_BYTES);
            self.superseded_since = self.superseded_since.map(|_| Moment::now());
        }
        // Unless it is unknown which of the two files the disk has for the journal.
        if self.condition != Condition::Poisoned {
            self.empty_next();
        }
        if matches!(done, Err(MaintainError::Damaged { .. })) {
            // The next start would refuse this file: nothing more is promised on it.
            self.condition = Condition::Poisoned;
        }
        done
    }

    /// First step: what is alive is copied, still sealed, and made durable. The journal is as before.
    pub(super) fn fill_next(&mut self, header: Option<Header>) -> Result<Successor, MaintainError> {
        let state = self.state.as_ref().ok_or_else(|| snapshot::failed("read the journal", Errno::BADF))?;
        let drawn = self.random.array(Moment::now());
        let file = drawn.map_err(|_| snapshot::failed("draw random bytes", Errno::AGAIN))?;
        let header = Header { file, ..header.unwrap_or(self.header) };
        if !self.next_is_empty {
            let emptied = self.disk.truncate(Which::Next, 0);
            emptied.map_err(|errno| snapshot::failed("empty the new file", errno))?;
        }
        self.next_is_empty = false;
        let mut writer = SnapshotWriter::new(&self.disk, Which::Next, &self.keys, &mut self.random, &header)?;
        let mut walk = Walk::new(&self.header);
        let walked = scan::walk(&self.disk, &self.keys, state.end, &mut walk, |item| {
            if state.live.holds(&item) { writer.push(item) } else { Ok(()) }
        });
        let damaged = MaintainError::Damaged { offset: walk.offset };
        match walked {
            Ok(None) if walk.head == state.head => {}
            Ok(_) | Err(Broken::Read(Errno::IO)) => return Err(damaged),
            Err(Broken::Read(errno)) => return Err(snapshot::failed("read the journal", errno)),
            Err(Broken::Refused(error)) => return Err(error),
        }
        if writer.records() != state.live.count() {
            return Err(damaged);
        }
        let (place, end) = writer.finish(state.head, &state.recent)?;
        Ok(Successor { header, place, end })
    }

    /// Second step: the successor gets the journal's name. Until that is durable no change may be taken, because a
    /// power failure could bring back the old file.
    pub(super) fn replace(&mut self, successor: &Successor) -> Result<Compacted, MaintainError> {
        let failed = |errno| snapshot::failed("rename the new file", errno);
        let state = self.state.as_mut().ok_or_else(|| failed(Errno::BADF))?;
        match self.disk.replace() {
            Ok(()) => {}
            Err(errno) if is_refusal(errno) => return Err(failed(errno)),
            Err(_) => {
                // Which of the two files has the name is unknown, and each may be the journal at the next start.
                self.condition = Condition::Poisoned;
                return Err(MaintainError::Ambiguous);
            }
        }
        let before_bytes = state.end;
        self.header = successor.header;
        (state.place, state.end, state.reserved) = (successor.place, successor.end, successor.end);
        // What was just written is looked at again when something stands behind it.
        state.trail = Trail::new(state.place, state.end);
        let compacted = Compacted { before_bytes, after_bytes: state.end, records: state.live.count() };
        if self.disk.sync_names().is_err() {
            self.condition = Condition::Poisoned;
            return Err(MaintainError::Ambiguous);
        }
        Ok(compacted)
    }

    /// Third step: the old file, or one that was not finished, gives its room back, but for what the next compaction
    /// may need on a disk that is full by then. If that fails, the next compaction begins with it.
    pub(super) fn empty_next(&mut self) {
        if self.disk.has_next() && self.disk.truncate(Which::Next, 0).is_ok() {
            self.next_is_empty = true;
            let _ = self.disk.reserve(Which::Next, 0, JOURNAL_NEXT_RESERVED_BYTES);
        }
    }

    /// Gives back the room that is reserved behind the last change, by an earlier run too: a compaction may need it.
    fn give_back(&mut self) {
        if let Some(state) = &mut self.state
            && self.disk.truncate(Which::Journal, state.end).is_ok()
        {
            state.reserved = state.end;
        }
    }

    /// See [`super::super::Store::standing`].
    pub(super) fn standing(&self) -> Standing {
        let state = self.state.as_ref();
        Standing {
            condition: self.condition,
            bytes: state.map_or(0, |state| state.end),
            live_records: state.map_or(0, |state| state.live.count()),
            live_bytes: state.map_or(0, |state| state.live.bytes),
            last_sync_micros: self.last_sync_micros,
            compacts_in_use: self.disk.has_next(),
        }
    }

    fn failed(&self, action: &'static str, errno: Errno) -> StoreError {
        StoreError::Io { action, path: self.path.clone(), errno }
    }
}

impl Core<Files> {
    /// The same journal with its descriptors moved.
    pub(super) fn placed(self, place: impl FnMut(OwnedFd, Slot) -> io::Result<OwnedFd>) -> io::Result<Self> {
        let disk = self.disk.placed(place)?;
        Ok(Self { disk, ..self })
    }
}

#[cfg(test)]
impl<D> Core<D> {
    /// Reserves no room, so that the write itself is what fails.
    pub(super) fn set_reserves(&mut self, reserves: bool) {
        self.reserves = reserves;
    }

    /// As if the file were this long.
    pub(super) fn set_end(&mut self, end: u64) {
        if let Some(state) = &mut self.state {
            state.end = end;
        }
    }
}

/// A file that is ready to become the journal.
#[derive(Debug)]
pub(super) struct Successor {
    header: Header,
    place: Place,
    end: u64,
}

/// The records without those that a later one of the same path supersedes.
fn last_of_each_path(records: &[Record]) -> Vec<Item<'_>> {
    let last: BTreeMap<Path, usize> =
        records.iter().enumerate().map(|(at, record)| (record.path, at)).collect();
    let kept = records.iter().enumerate().filter(|(at, record)| last.get(&record.path) == Some(at));
    kept.map(|(_, record)| Item::from(record)).collect()
}

/// Reserves room up to `end` and, while there is plenty, beyond. Returns how far.
fn reserve(disk: &impl Disk, reserved: u64, end: u64) -> Result<u64, Errno> {
    let Some(missing) = end.checked_sub(reserved).filter(|missing| *missing > 0) else {
        return Ok(reserved);
    };
    let ahead = missing.next_multiple_of(JOURNAL_RESERVED_BYTES);
    match disk.reserve(Which::Journal, reserved, ahead) {
        Ok(()) => Ok(reserved.saturating_add(ahead)),
        Err(errno) if snapshot::is_full(errno) => {
            disk.reserve(Which::Journal, reserved, missing).map(|()| end)
        }
        Err(errno) => Err(errno),
    }
}

/// Whether an error of a renaming says that nothing was done. Others can come from a file system that lost the answer.
fn is_refusal(errno: Errno) -> bool {
    snapshot::is_full(errno)
        || matches!(
            errno,
            Errno::ACCESS
                | Errno::BADF
                | Errno::INVAL
                | Errno::NOENT
                | Errno::NOSYS
                | Errno::OPNOTSUPP
                | Errno::PERM
                | Errno::ROFS
                | Errno::XDEV
        )
}

/// Writes all of `bytes` to the end of a file.
pub(super) fn write_all(disk: &impl Disk, which: Which, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match disk.write(which, bytes)? {
            0 => return Err(Errno::NOSPC),
            written => bytes = bytes.get(written..).unwrap_or_default(),
        }
    }
    Ok(())
}
