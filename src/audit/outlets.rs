//! Where the lines of one thread go, and when they count as told.
//!
//! Owns [`Outlets`]: a file, standard output, or both; and, where lines must outlive a failure of the power, what is on
//! its way to the disk. Invariants: every sink is given the same events, and a turn is good in all of them or in none, so
//! that their numbers are the same and each names in its gap records what the other could not tell; a commit that is
//! pending becomes good only by a sync that began after its write; after a failed sync everything that was on its way is
//! not told, and its file is not written any more.

use core::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;

use crate::audit::office::Office;
use crate::audit::pipe::Piped;
use crate::audit::{Batch, Event, Sink, WriteFailed};
use crate::clock::WallTime;

/// What became of a turn's lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// They are told.
    Done,
    /// They are not, and a gap record will say so.
    Failed,
    /// They are written: what becomes of their sync is told under this number by [`Outlets::settled`].
    Pending(u64),
}

/// Who brings what was written to the disk.
#[derive(Clone, Debug)]
pub enum Syncing {
    /// Nobody: what the kernel has is told.
    Written,
    /// The archivist, for the stream of this number, while its owner does something else.
    Asked(Arc<Office>, usize),
    /// The owner, who waits for it.
    Own,
}

/// The sinks of one thread.
#[derive(Debug)]
pub struct Outlets {
    file: Option<Sink>,
    piped: Option<Piped>,
    syncing: Syncing,
    way: Way,
}

/// What is on its way to the disk.
#[derive(Debug, Default)]
struct Way {
    /// The number of the last commit that was pending.
    last: Cell<u64>,
    /// Commits that are not settled: their number, and that of their first line.
    open: RefCell<VecDeque<(u64, u64)>>,
    /// Commits up to this one are settled.
    settled: Cell<u64>,
    /// Open commits up to this one have failed.
    failed: Cell<u64>,
    standing: Cell<Standing>,
}

/// What is known of the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Standing {
    /// Nothing bad.
    #[default]
    Good,
    /// A sync failed: its file has to be left for the successor.
    Poisoned,
    /// It was left, and no sync of the successor has succeeded yet; none of a commit up to this one says anything.
    Suspect(u64),
    /// That of the successor failed too: nothing is told any more.
    Lost,
}

impl Outlets {
    /// Lines go to `file` and into `piped`, of which one is there at least. Only those of a file are synced.
    #[must_use]
    pub fn new(file: Option<Sink>, piped: Option<Piped>, syncing: Syncing) -> Self {
        let syncing = if file.is_some() { syncing } else { Syncing::Written };
        Self { file, piped, syncing, way: Way::default() }
    }

    /// Whether one more request can be told of in this turn.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.all(Batch::has_room)
    }

    /// Appends the line of `event` to what is pending.
    pub fn append(&self, event: &Event<'_>) {
        if let Some(file) = &self.file {
            file.append(event);
        }
        if let Some(piped) = &self.piped {
            piped.append(event);
        }
    }

    /// Whether a failure has not been made good yet.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.way.standing.get() != Standing::Good || !self.all(|batch| !batch.is_broken())
    }

    /// Writes what is pending.
    #[must_use]
    pub fn commit(&self, now: WallTime) -> Committed {
        if self.all(Batch::is_empty) {
            return Committed::Done;
        }
        if !self.leave_poisoned() {
            self.conclude(Err(0), Err(0), false);
            return Committed::Failed;
        }
        let file = self.file.as_ref().map_or(Ok(()), |file| file.write_pending(now));
        let piped = self.piped.as_ref().map_or(Ok(()), |piped| piped.write(now, file.is_ok()));
        // What was written of a turn in which a line found no room stands; no reply of it leaves.
        let good = file.is_ok() && piped.is_ok() && self.all(Batch::is_whole);
        let mut first = 0;
        self.each(|batch| first = batch.turn_first());
        self.conclude(file, piped, good);
        if good { self.sync(first) } else { Committed::Failed }
    }

    /// As [`commit`](Self::commit), for an owner that is told at once.
    ///
    /// # Errors
    /// [`WriteFailed`]
    pub fn commit_now(&self, now: WallTime) -> Result<(), WriteFailed> {
        if self.commit(now) == Committed::Done { Ok(()) } else { Err(WriteFailed) }
    }

    /// What became of the next commit that was pending, if that is known: its number, and whether it is told.
    pub fn settled(&self) -> Option<(u64, bool)> {
        let Syncing::Asked(office, stream) = &self.syncing else { return None };
        let synced = office.synced(*stream);
        let way = &self.way;
        if synced.broken > way.settled.get() && way.failed.get() < synced.broken {
            self.fail(synced.broken_part);
        }
        let mut open = way.open.borrow_mut();
        let told = |number: u64| number > way.failed.get();
        let (number, _) = open.pop_front_if(|(number, _)| !told(*number) || *number <= synced.through)?;
        way.settled.set(number);
        if told(number)
            && let Standing::Suspect(last) = way.standing.get()
            && number > last
        {
            way.standing.set(Standing::Good);
        }
        Some((number, told(number)))
    }

    /// Brings what was written to the disk, or has it brought there.
    fn sync(&self, first: u64) -> Committed {
        let way = &self.way;
        let number = way.last.get() + 1;
        match &self.syncing {
            Syncing::Written => return Committed::Done,
            Syncing::Asked(office, stream) => {
                way.open.borrow_mut().push_back((number, first));
                office.ask_sync(*stream, number);
            }
            Syncing::Own => {
                if self.file.as_ref().is_some_and(|file| file.sync().is_err()) {
                    way.open.borrow_mut().push_back((number, first));
                    way.last.set(number);
                    self.fail(self.file.as_ref().map(Sink::part));
                    way.open.borrow_mut().clear();
                    return Committed::Failed;
                }
                way.standing.set(Standing::Good);
                return Committed::Done;
            }
        }
        way.last.set(number);
        Committed::Pending(number)
    }

    /// Everything that is on its way has failed with the sync of `part`.
    fn fail(&self, part: Option<u32>) {
        let way = &self.way;
        if let Some((_, first)) = way.open.borrow().front() {
            self.each(|batch| batch.disown(*first));
        }
        way.failed.set(way.last.get());
        let own = self.file.as_ref().map(Sink::part);
        way.standing.set(match way.standing.get() {
            Standing::Good if part == own => Standing::Poisoned,
            // The owner has gone on already: what is written now goes to another file.
            Standing::Good => Standing::Suspect(way.last.get()),
            Standing::Suspect(_) if part != own => Standing::Suspect(way.last.get()),
            Standing::Poisoned => Standing::Poisoned,
            Standing::Suspect(_) | Standing::Lost => Standing::Lost,
        });
    }

    /// Leaves a file whose sync failed. Returns whether something may be written.
    fn leave_poisoned(&self) -> bool {
        match self.way.standing.get() {
            Standing::Good | Standing::Suspect(_) => true,
            Standing::Lost => false,
            Standing::Poisoned => {
                let left = self.file.as_ref().is_some_and(Sink::advance);
                if left {
                    self.way.standing.set(Standing::Suspect(self.way.last.get()));
                }
                left
            }
        }
    }

    /// Notes in every sink what became of the turn.
    fn conclude(&self, file: Result<(), usize>, piped: Result<(), usize>, good: bool) {
        let note = |batch: &RefCell<Batch>, written: Result<(), usize>| {
            let mut batch = batch.borrow_mut();
            if good { batch.written() } else { batch.failed(written.err().unwrap_or(usize::MAX)) }
        };
        if let Some(own) = &self.file {
            note(&own.batch, file);
        }
        if let Some(own) = &self.piped {
            note(&own.batch, piped);
        }
    }

    fn all(&self, is_so: impl Fn(&Batch) -> bool) -> bool {
        let mut all = true;
        self.each(|batch| all &= is_so(batch));
        all
    }

    fn each(&self, mut work: impl FnMut(&mut Batch)) {
        if let Some(file) = &self.file {
            work(&mut file.batch.borrow_mut());
        }
        if let Some(piped) = &self.piped {
            work(&mut piped.batch.borrow_mut());
        }
    }
}
