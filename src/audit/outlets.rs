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
use crate::audit::{Batch, Event, Recent, Sink, WriteFailed};
use crate::clock::WallTime;
use crate::metrics::Stream as Counters;

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
    /// Where lines can be read again that were written.
    recent: Option<Arc<Recent>>,
    counters: Arc<Counters>,
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
        Self { file, piped, syncing, way: Way::default(), recent: None, counters: Arc::default() }
    }

    /// The same, which hands every line on that is with the kernel.
    #[must_use]
    pub fn remembered_by(self, recent: Arc<Recent>) -> Self {
        Self { recent: Some(recent), ..self }
    }

    /// What is counted here.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
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

    /// Which part of the file is being written, if there is one.
    #[must_use]
    pub fn part(&self) -> Option<u32> {
        self.file.as_ref().map(Sink::part)
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
            let file = self.finish_torn(now);
            self.conclude(file, Err(0), false);
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
        self.counters.unsynced.set(way.last.get().saturating_sub(number));
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
                    self.fail(self.part());
                    way.open.borrow_mut().clear();
                    return Committed::Failed;
                }
                way.standing.set(Standing::Good);
                return Committed::Done;
            }
        }
        way.last.set(number);
        self.counters.unsynced.set(number.saturating_sub(way.settled.get()));
        Committed::Pending(number)
    }

    /// Everything that is on its way has failed with the sync of `part`.
    fn fail(&self, part: Option<u32>) {
        let way = &self.way;
        if let Some((_, first)) = way.open.borrow().front() {
            self.each(|batch| batch.disown(*first));
        }
        way.failed.set(way.last.get());
        let own = self.part();
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

    /// A line that is torn ends where it began, or nobody could go on to another file.
    fn finish_torn(&self, now: WallTime) -> Result<(), usize> {
        let torn = self.file.as_ref().filter(|file| file.batch.borrow().is_torn());
        let Some(file) = torn else { return Err(0) };
        if let Some(piped) = &self.piped {
            let _ = piped.write(now, false);
        }
        file.write_pending(now)
    }

    /// Notes in every sink what became of the turn.
    fn conclude(&self, file: Result<(), usize>, piped: Result<(), usize>, good: bool) {
        let one =
            self.file.as_ref().map(|file| &file.batch).or(self.piped.as_ref().map(|piped| &piped.batch));
        if let (true, Some(recent), Some(batch)) = (good, &self.recent, one) {
            recent.append(batch.borrow().lines());
        }
        self.tally(good);
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

    /// Counts what became of the turn.
    fn tally(&self, good: bool) {
        let counters = &self.counters;
        if !good {
            counters.failures.add(1);
            return;
        }
        if let Some(file) = &self.file {
            let (lines, gaps) = file.batch.borrow().counts();
            counters.file_lines.add(lines);
            counters.gaps.add(gaps);
        }
        if let Some(piped) = &self.piped {
            let (lines, gaps) = piped.batch.borrow().counts();
            counters.stdout_lines.add(lines);
            // The same numbers are missing in both.
            counters.gaps.add(if self.file.is_some() { 0 } else { gaps });
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::line::Outcome;
    use crate::audit::{Chain, Pipe, Succession};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::fs::File;
    use std::io::{self, Read as _, Seek as _};
    use std::sync::Mutex;

    fn event() -> Event<'static> {
        Event {
            at: WallTime::default(),
            name: "test",
            outcome: Outcome::Success,
            code: None,
            count: None,
            own: None,
            store: None,
            request: None,
        }
    }

    fn file() -> Arc<File> {
        let made = rustix::fs::memfd_create("part", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        Arc::new(File::from(made))
    }

    /// The number of a line, and what a gap record names.
    type Line = (u64, Option<(u64, u64)>);

    /// Outlets of both kinds, what they wrote, and the archivist's side.
    struct Desk {
        outlets: Outlets,
        office: Arc<Office>,
        parts: Vec<Arc<File>>,
        out: Arc<Mutex<(Vec<u8>, usize)>>,
        /// How many lines were appended.
        next: u64,
        /// The events of commits that are on their way, of those that are told, and of those that are not.
        open: BTreeMap<u64, u64>,
        told: u64,
        refused: u64,
    }

    impl Desk {
        fn new() -> Self {
            let office = Arc::new(Office::new(1));
            let parts = vec![file()];
            let succession = Succession { office: Arc::clone(&office), stream: 0, rotate_bytes: 2_000 };
            let sink = Sink::with_parts(Arc::clone(&parts[0]), "s-w0", Chain::sample("s-w0"), succession);
            let out: Arc<Mutex<(Vec<u8>, usize)>> = Arc::default();
            let target = Arc::clone(&out);
            let pipe = Pipe::new(Box::new(move |bytes| {
                let mut out = target.lock().unwrap();
                let count = bytes.len().min(out.1);
                out.1 -= count;
                out.0.extend_from_slice(&bytes[..count]);
                if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
            }));
            let piped = Piped::new(pipe, Batch::new("s-w0", Chain::sample("s-w0")));
            let syncing = Syncing::Asked(Arc::clone(&office), 0);
            let outlets = Outlets::new(Some(sink), Some(piped), syncing);
            Self { outlets, office, parts, out, next: 0, open: BTreeMap::new(), told: 0, refused: 0 }
        }

        fn succeed(&mut self) {
            if !self.office.successor_ready(0) {
                let file = file();
                self.office.tell_ready(0, Arc::clone(&file));
                self.parts.push(file);
            }
        }

        fn tell(&mut self, lines: u64, budget: usize) -> Committed {
            self.out.lock().unwrap().1 = budget;
            (0..lines).for_each(|_| self.outlets.append(&event()));
            let committed = self.outlets.commit(WallTime::default());
            match committed {
                Committed::Done => assert_eq!(lines, 0, "nothing is told before it is synced"),
                Committed::Failed => self.refused += lines,
                Committed::Pending(number) => assert_eq!(self.open.insert(number, lines), None),
            }
            self.next += lines;
            committed
        }

        /// What is known by now; `through` is what the archivist has answered.
        fn settle(&mut self, through: u64) {
            while let Some((number, told)) = self.outlets.settled() {
                let lines = self.open.remove(&number).unwrap();
                assert!(!told || number <= through, "{number} is told before its sync");
                *(if told { &mut self.told } else { &mut self.refused }) += lines;
            }
        }

        /// The lines of the parts, and those of the pipe.
        fn lines(&self) -> [Vec<Line>; 2] {
            let mut parts = String::new();
            for part in &self.parts {
                let mut part = &**part;
                part.rewind().unwrap();
                part.read_to_string(&mut parts).unwrap();
            }
            let mut out = String::from_utf8(self.out.lock().unwrap().0.clone()).unwrap();
            // What nobody came to finish.
            out.truncate(out.rfind('\n').map_or(0, |end| end + 1));
            [parts, out].map(|text| {
                let read = |line: &str| {
                    let value: serde_json::Value = serde_json::from_str(line).unwrap();
                    let gap = value["first"].as_u64().zip(value["last"].as_u64());
                    (value["seq"].as_u64().unwrap(), gap)
                };
                text.lines().map(read).collect()
            })
        }
    }

    #[test]
    fn a_failed_sync_has_everything_on_its_way_refused_and_goes_on_in_the_successor() {
        let mut desk = Desk::new();
        for number in 1..=3 {
            assert_eq!(desk.tell(1, usize::MAX), Committed::Pending(number));
        }
        desk.office.tell_synced(0, 1);
        desk.settle(1);
        assert_eq!((desk.told, desk.outlets.is_broken()), (1, false));
        desk.office.tell_broken(0, 2, 1);
        desk.settle(2);
        assert_eq!((desk.told, desk.refused, desk.outlets.is_broken()), (1, 2, true));
        assert_eq!(desk.tell(1, usize::MAX), Committed::Failed, "its file proves nothing any more");
        desk.succeed();
        assert_eq!(desk.tell(1, usize::MAX), Committed::Pending(4));
        assert!(desk.outlets.is_broken(), "until the successor is seen to work");
        desk.office.tell_broken(0, 3, 1);
        desk.settle(3);
        assert_eq!(desk.open.len(), 1, "what is said of the old file is known already");
        desk.office.tell_synced(0, 4);
        desk.settle(4);
        assert_eq!((desk.told, desk.outlets.is_broken()), (2, false));
        let [file, out] = desk.lines();
        assert_eq!(file, [(1, None), (2, None), (3, None), (6, Some((2, 5))), (7, None)]);
        assert_eq!(file, out);
    }

    #[test]
    fn a_successor_that_fails_too_is_the_end_of_it() {
        let mut desk = Desk::new();
        desk.succeed();
        desk.tell(1, usize::MAX);
        desk.office.tell_broken(0, 1, 1);
        desk.settle(1);
        assert_eq!(desk.tell(1, usize::MAX), Committed::Pending(2));
        desk.office.tell_broken(0, 2, 2);
        desk.settle(2);
        desk.succeed();
        for _ in 0..3 {
            assert_eq!(desk.tell(1, usize::MAX), Committed::Failed);
            assert!(desk.outlets.is_broken());
        }
        assert_eq!(desk.told, 0);
    }

    #[test]
    fn a_turn_that_one_of_two_does_not_take_is_refused_in_both() {
        let mut desk = Desk::new();
        assert_eq!(desk.tell(2, 10), Committed::Failed, "the pipe is full");
        assert!(desk.outlets.is_broken());
        assert_eq!(desk.tell(1, usize::MAX), Committed::Pending(1));
        assert!(!desk.outlets.is_broken());
        let [file, out] = desk.lines();
        assert_eq!(file, [(1, None), (2, None), (3, Some((1, 2))), (4, None)]);
        assert_eq!(out, [(1, None), (3, Some((1, 2))), (4, None)]);
    }

    #[test]
    fn a_file_without_room_keeps_lines_from_the_pipe() {
        let full = Sink::new(File::options().write(true).open("/dev/full").unwrap(), "s", Chain::sample("s"));
        let out: Arc<Mutex<Vec<u8>>> = Arc::default();
        let target = Arc::clone(&out);
        let pipe = Pipe::new(Box::new(move |bytes| {
            target.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }));
        let piped = Piped::new(pipe, Batch::new("s", Chain::sample("s")));
        let outlets = Outlets::new(Some(full), Some(piped), Syncing::Written);
        outlets.append(&event());
        assert_eq!(outlets.commit_now(WallTime::default()), Err(WriteFailed));
        assert!(out.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_only_written_is_told_at_once_and_what_its_owner_syncs_once_that_succeeds() {
        let tell = |outlets: &Outlets| {
            outlets.append(&event());
            outlets.commit_now(WallTime::default())
        };
        let file = || Some(Sink::new(Arc::into_inner(file()).unwrap(), "s", Chain::sample("s")));
        assert_eq!(tell(&Outlets::new(file(), None, Syncing::Written)), Ok(()));
        assert_eq!(tell(&Outlets::new(file(), None, Syncing::Own)), Ok(()));
        // What cannot be synced takes lines, and they are not told.
        let (reader, writer) = io::pipe().unwrap();
        let writer = File::from(std::os::fd::OwnedFd::from(writer));
        let outlets = Outlets::new(Some(Sink::new(writer, "s", Chain::sample("s"))), None, Syncing::Own);
        assert_eq!(tell(&outlets), Err(WriteFailed));
        assert_eq!(tell(&outlets), Err(WriteFailed), "and there is no successor");
        assert!(outlets.is_broken());
        drop(outlets);
        assert_eq!(io::read_to_string(reader).unwrap().lines().count(), 1);
    }

    proptest! {
        #[test]
        fn what_is_told_is_in_both_and_what_is_not_is_named_in_both(
            turns in proptest::collection::vec((0u64..4, 0usize..3_000, 0u8..24), 1..60)
        ) {
            let mut desk = Desk::new();
            let (mut asked, mut through) = (0, 0);
            for (lines, budget, what) in turns {
                if what % 2 == 0 {
                    desk.succeed();
                }
                for errand in desk.office.look().into_iter().flat_map(|errands| errands.of) {
                    asked = errand.sync.unwrap_or(asked);
                }
                if what < 12 && asked > through {
                    through = asked;
                    if what == 0 {
                        desk.office.tell_broken(0, asked, desk.outlets.file.as_ref().unwrap().part());
                    } else {
                        desk.office.tell_synced(0, asked);
                    }
                }
                desk.settle(through);
                // Now and then the reader is far behind.
                let budget = if what % 3 == 0 { budget } else { usize::MAX };
                desk.tell(lines, budget);
            }
            desk.tell(0, usize::MAX);
            desk.succeed();
            desk.tell(0, usize::MAX);
            desk.office.tell_synced(0, u64::MAX);
            desk.settle(u64::MAX);
            prop_assert!(desk.open.is_empty(), "nothing hangs");
            prop_assert_eq!(desk.told + desk.refused, desk.next);
            let lost = desk.outlets.way.standing.get() == Standing::Lost;
            let good = desk.lines().map(|found| {
                prop_assert!(found.is_sorted_by(|(a, _), (b, _)| a < b));
                let named: Vec<(u64, u64)> = found.iter().filter_map(|(_, gap)| *gap).collect();
                let is_named = |seq: &u64| named.iter().any(|(first, last)| (first..=last).contains(&seq));
                let last = found.last().map_or(0, |(seq, _)| *seq);
                for seq in 1..=last {
                    prop_assert!(is_named(&seq) || found.iter().any(|(own, _)| *own == seq), "{}", seq);
                }
                let good = found.iter().filter(|(seq, gap)| gap.is_none() && !is_named(seq));
                Ok(good.map(|(seq, _)| *seq).collect::<Vec<u64>>())
            });
            let [file, out] = good;
            let (file, out) = (file?, out?);
            if !lost {
                prop_assert_eq!(file.len() as u64, desk.told);
                prop_assert_eq!(file, out);
            }
        }
    }
}
