//! Looks at the end of a journal that is in use, where nothing but this process writes.
//!
//! Owns when they are made, and what follows from them. Invariants: nothing is written behind bytes that others wrote, and nothing
//! is acknowledged that does not stand where it belongs; what is foreign behind a sound end is cut off, durably; on a damaged
//! end nothing is written any more; a look that could not be made is told as such.

use rustix::io::Errno;

use super::super::record::{AppendError, Condition, MaintainError, Tail};
use super::core::Core;
use super::disk::{Disk, Which};
use super::scan;

impl<D: Disk> Core<D> {
    /// See [`super::super::Store::verify_tail`].
    pub(super) fn verify_tail(&mut self) -> Tail {
        if let Some(offset) = self.damaged_at {
            return Tail::Damaged { offset };
        }
        let Some(state) = self.state.as_mut().filter(|_| self.condition != Condition::Poisoned) else {
            return Tail::GivenUp;
        };
        let mut tail = scan::verify(&self.disk, &self.keys, &state.trail, &state.place, state.end);
        if let Tail::Foreign { offset } = tail {
            // Whatever is appended behind it no start could read. This gives back the room that was reserved as well.
            state.reserved = state.end;
            let cut = self.disk.truncate(Which::Journal, state.end).and_then(|()| self.disk.sync_change());
            if cut.is_err() {
                tail = Tail::Damaged { offset };
            }
        }
        if let Tail::Damaged { offset } = tail {
            // The next start would refuse this file: nothing more is promised on it.
            self.condition = Condition::Poisoned;
            self.damaged_at = Some(offset);
        }
        tail
    }

    /// See [`super::super::Store::take_found`].
    pub(super) const fn take_found(&mut self) -> Option<Tail> {
        self.found.take()
    }

    /// See [`super::super::Store::leave`].
    pub(super) const fn leave(&mut self) {
        self.condition = Condition::Poisoned;
    }

    /// Makes sure that nothing stands behind the end, before something is written there.
    pub(super) fn clear_end(&mut self) -> Result<(), AppendError> {
        let end = self.state.as_ref().ok_or(AppendError::Refused)?.end;
        match self.disk.read_at(end, &mut [0; 1]) {
            Ok(0) => Ok(()),
            Ok(_) => match self.look_unasked() {
                Tail::Sound { .. } | Tail::Foreign { .. } => Ok(()),
                Tail::Unread => Err(self.not_written(Errno::IO)),
                Tail::Damaged { .. } | Tail::GivenUp => Err(AppendError::Refused),
            },
            Err(errno) => Err(self.not_written(errno)),
        }
    }

    /// The same before the file is replaced by one with nothing but what is known: what another server has written would be lost.
    pub(super) fn clear_before_compaction(&mut self) -> Result<(), MaintainError> {
        let end = self.state.as_ref().map_or(u64::MAX, |state| state.end);
        let stands_behind = matches!(self.disk.read_at(end, &mut [0; 1]), Ok(1..));
        match stands_behind.then(|| self.look_unasked()) {
            Some(Tail::Damaged { offset }) => Err(MaintainError::Damaged { offset }),
            _ => Ok(()),
        }
    }

    /// Makes sure that the frame that was just written is where it belongs, up to `end`, before it is made durable: others may
    /// have written between the look before it and its own write.
    pub(super) fn confirm_written(&mut self, end: u64) -> Result<(), AppendError> {
        match self.disk.read_at(end, &mut [0; 1]) {
            Ok(0) => return Ok(()),
            // What stands behind it the next look cuts off.
            Ok(_) if self.has_written() => return Ok(()),
            Ok(_) => {}
            Err(errno) => return Err(self.heal(errno)),
        }
        match self.look_unasked() {
            Tail::Sound { .. } | Tail::Foreign { .. } => Err(self.not_written(Errno::IO)),
            Tail::Unread => Err(self.heal(Errno::IO)),
            Tail::Damaged { .. } | Tail::GivenUp => Err(AppendError::Ambiguous),
        }
    }

    /// Whether the frame stands where the one before it ended.
    fn has_written(&self) -> bool {
        let Some(state) = &self.state else { return false };
        let mut read = vec![0; self.frame.len()];
        let mut filled = 0;
        while let Some(room) = read.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.disk.read_at(state.end.saturating_add(filled as u64), room) {
                Ok(more @ 1..) => filled += more,
                Ok(0) | Err(_) => return false,
            }
        }
        read == self.frame
    }

    fn look_unasked(&mut self) -> Tail {
        let tail = self.verify_tail();
        if !matches!(tail, Tail::Sound { .. }) {
            self.found = Some(tail);
        }
        tail
    }
}
