//! One audit file: the lines of one thread.
//!
//! Owns the descriptor and the batch. Invariants: the lines of a turn go out in one write; success means that all of
//! them are with the kernel; after a failure the file is tried again with the next turn, and at least every second.

use core::cell::RefCell;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use crate::audit::{Batch, Event, Recent};
use crate::clock::WallTime;

/// The pending lines are not all with the kernel: what they tell of must not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteFailed;

/// An audit stream and the file it goes to.
#[derive(Debug)]
pub struct Sink {
    file: File,
    batch: RefCell<Batch>,
    /// Where lines go that are with the kernel.
    recent: Option<Arc<Recent>>,
}

impl Sink {
    /// The first lines of a stream that nobody has used before go to `file`, which appends.
    #[must_use]
    pub fn new(file: File, stream: &str) -> Self {
        Self { file, batch: RefCell::new(Batch::new(stream)), recent: None }
    }

    /// The same, which hands every line on that is with the kernel.
    #[must_use]
    pub fn remembered_by(self, recent: Arc<Recent>) -> Self {
        Self { recent: Some(recent), ..self }
    }

    /// Whether one more request can be told of in this turn.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.batch.borrow().has_room()
    }

    /// Appends the line of `event` to what is pending.
    pub fn append(&self, event: &Event<'_>) {
        self.batch.borrow_mut().append(event);
    }

    /// Whether a failure has not been made good yet.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.batch.borrow().is_broken()
    }

    /// Writes what is pending.
    ///
    /// # Errors
    /// [`WriteFailed`]
    pub fn commit(&self, now: WallTime) -> Result<(), WriteFailed> {
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            return Ok(());
        }
        let pending = batch.pending(now);
        let written = write_all(&self.file, pending);
        if !batch.is_whole() {
            // What was written stands; what found no room is named by a gap, and no reply of this turn leaves.
            let count = written.err().unwrap_or(usize::MAX);
            batch.failed(count);
            return Err(WriteFailed);
        }
        match written {
            Ok(()) => {
                if let Some(recent) = &self.recent {
                    recent.append(batch.lines());
                }
                batch.written();
                Ok(())
            }
            Err(written) => {
                batch.failed(written);
                Err(WriteFailed)
            }
        }
    }
}

/// Writes all of `bytes`, or says how many were written before it failed.
fn write_all(mut file: &File, bytes: &[u8]) -> Result<(), usize> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match file.write(rest) {
            Ok(0) => return Err(written),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(written),
        }
    }
    Ok(())
}
