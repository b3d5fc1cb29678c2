//! One audit file: the lines of one thread.
//!
//! Owns the descriptor and the batch. Invariants: the lines of a turn go out in one write; success means that all of
//! them are with the kernel; after a failure the file is tried again with the next turn, and at least every second.

use core::cell::RefCell;
use std::fs::File;
use std::io::{self, Write as _};

use crate::audit::pipe::write_all;
use crate::audit::{Batch, Event};
use crate::clock::WallTime;

/// The pending lines are not all with the kernel: what they tell of must not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteFailed;

/// An audit stream and the file it goes to.
#[derive(Debug)]
pub struct Sink {
    file: File,
    pub(super) batch: RefCell<Batch>,
}

impl Sink {
    /// The first lines of a stream that nobody has used before go to `file`, which appends.
    #[must_use]
    pub fn new(file: File, stream: &str) -> Self {
        Self { file, batch: RefCell::new(Batch::new(stream)) }
    }

    /// Appends the line of `event` to what is pending.
    pub fn append(&self, event: &Event<'_>) {
        self.batch.borrow_mut().append(event);
    }

    /// Writes what is pending; what becomes of it is for the caller to note in the batch.
    ///
    /// # Errors
    /// How many bytes were written.
    pub(super) fn write_pending(&self, now: WallTime) -> Result<(), usize> {
        let mut batch = self.batch.borrow_mut();
        write_all(|rest| (&self.file).write(rest), batch.pending(now))
    }

    /// Brings what was written to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Which part is being written.
    #[must_use]
    pub fn part(&self) -> u32 {
        1
    }

    /// Leaves the part that is being written for its successor; returns whether it did.
    pub fn advance(&self) -> bool {
        false
    }
}
