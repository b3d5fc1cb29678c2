//! The front of a journal: its header and what was alive when it was made.
//!
//! Owns [`SnapshotWriter`]. Invariants: records are gathered into frames, so that many of them are opened at once; the
//! last frame says how many there are and where the state stood, so that a shorter file is never taken for a whole
//! one; the file is durable before anybody gives it a name.

use std::collections::VecDeque;

use rustix::io::Errno;

use super::super::record::{Head, MaintainError, Origin};
use super::core::write_all;
use super::disk::{Disk, Which};
use super::format::{FrameKeys, FrameKind, Header, Place};
use super::payload::{Batch, End, Item};
use crate::clock::Moment;
use crate::crypto::random::{Generator, SeedSource};
use crate::limits::{JOURNAL_MAX_BYTES, JOURNAL_SNAPSHOT_PAYLOAD_BYTES};

/// Writes a new file.
#[derive(Debug)]
pub(super) struct SnapshotWriter<'a, D, S> {
    disk: &'a D,
    which: Which,
    keys: &'a FrameKeys,
    random: &'a mut Generator<S>,
    place: Place,
    end: u64,
    batch: Batch,
    records: u64,
}

impl<'a, D: Disk, S: SeedSource> SnapshotWriter<'a, D, S> {
    /// Writes the header into a file that is empty.
    pub(super) fn new(
        disk: &'a D,
        which: Which,
        keys: &'a FrameKeys,
        random: &'a mut Generator<S>,
        header: &Header,
    ) -> Result<Self, MaintainError> {
        let place = Place::first(header);
        let batch = Batch::new(Vec::new());
        let mut writer = Self { disk, which, keys, random, place, end: 0, batch, records: 0 };
        writer.write(&header.encode())?;
        Ok(writer)
    }

    /// Adds a record.
    pub(super) fn push(&mut self, item: Item<'_>) -> Result<(), MaintainError> {
        self.batch.push(item).ok_or_else(too_long)?;
        self.records += 1;
        if self.batch.len() >= JOURNAL_SNAPSHOT_PAYLOAD_BYTES { self.flush() } else { Ok(()) }
    }

    /// How many records were added.
    pub(super) const fn records(&self) -> u64 {
        self.records
    }

    /// Ends the snapshot of a state that stood at `head`, and makes the file durable. Returns where it goes on.
    pub(super) fn finish(
        mut self,
        head: Head,
        recent: &VecDeque<Origin>,
    ) -> Result<(Place, u64), MaintainError> {
        if !self.batch.is_empty() {
            self.flush()?;
        }
        let mut frame = Vec::new();
        End::encode(&mut frame, head, self.records, recent.iter()).ok_or_else(too_long)?;
        self.seal(&mut frame, FrameKind::End)?;
        self.disk.sync_file(self.which).map_err(|errno| failed("sync the new file", errno))?;
        Ok((self.place, self.end))
    }

    fn flush(&mut self) -> Result<(), MaintainError> {
        let mut frame = core::mem::replace(&mut self.batch, Batch::new(Vec::new())).finish();
        self.seal(&mut frame, FrameKind::Snapshot)?;
        self.batch = Batch::new(frame);
        Ok(())
    }

    fn seal(&mut self, frame: &mut Vec<u8>, kind: FrameKind) -> Result<(), MaintainError> {
        let nonce = self.random.array(Moment::now());
        let nonce = nonce.map_err(|_| failed("draw random bytes", Errno::AGAIN))?;
        self.place = self.keys.seal(frame, kind, &nonce, &self.place).map_err(|_| too_long())?;
        self.write(frame)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), MaintainError> {
        self.end = self.end.saturating_add(bytes.len() as u64);
        if self.end > JOURNAL_MAX_BYTES {
            return Err(MaintainError::Full);
        }
        write_all(self.disk, self.which, bytes).map_err(|errno| failed("write the new file", errno))
    }
}

/// Whether an error of the system says that there is no room.
pub(super) fn is_full(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::FBIG)
}

/// The failure of a step.
pub(super) fn failed(action: &'static str, errno: Errno) -> MaintainError {
    if is_full(errno) {
        return MaintainError::Full;
    }
    MaintainError::Failed { action, errno: errno.raw_os_error() }
}

/// No record that was accepted makes a frame longer than it may be.
fn too_long() -> MaintainError {
    failed("make a frame", Errno::MSGSIZE)
}
