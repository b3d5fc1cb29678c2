//! What the threads that write audit streams and the archivist tell one another.
//!
//! Owns [`Office`]. Streams are counted from 0: the workers' in their order, and the keeper's last. Invariants: nobody
//! waits here but the archivist, and whoever asks for it by name ([`Office::await_synced`]), and nobody with a limit,
//! since the filters know no timed wait; requests of a stream are joined, the greatest wins; a round whose sync failed is
//! never told as synced; a stream has one part that is retired and not replaced at most; whoever retires a part hands its
//! file over, so that its descriptor is replaced by nobody who does not own it.
//!
//! A **round** is what one commit wrote: whoever owns the stream counts them from 1. A **part** is one file of a stream.

use core::fmt;
use core::mem;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::audit::name::StreamName;
use crate::integrity::Check;
use crate::limits::{INTEGRITY_FINDINGS_UNTOLD_MAX_COUNT, TLS_RELOADS_UNTOLD_MAX_COUNT};

/// Ends the sleep of whoever owns a stream.
pub type News = Box<dyn Fn() + Send + Sync>;

/// How far a stream is known to be on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Every round up to this one has been answered.
    pub through: u64,
    /// The last of them whose sync failed; 0 for none. Rounds up to it that had not been seen as answered before must be
    /// taken for failed too.
    pub broken: u64,
    /// The part whose sync failed last. If it is the one in use, it is to be left for its successor: no later sync of
    /// it proves anything.
    pub broken_part: Option<u32>,
}

/// A part that is not written any more.
#[derive(Debug)]
pub struct Retired {
    /// Its number.
    pub part: u32,
    /// Its length.
    pub bytes: u64,
    /// Its file: the last handle of it but the archivist's own.
    pub file: Arc<File>,
}

/// What the archivist is to do for one stream, in this order.
#[derive(Debug)]
pub struct Errand {
    /// The stream.
    pub stream: usize,
    /// This part is to be synced, and its descriptor replaced by a successor.
    pub retired: Option<Retired>,
    /// Everything up to this round is to be on disk.
    pub sync: Option<u64>,
}

/// What the archivist finds when it looks.
#[derive(Debug, Default)]
pub struct Errands {
    /// For each stream that has asked for something.
    pub of: Vec<Errand>,
    /// Whether it is time to look at what has become old, and at the room that is left.
    pub tick: bool,
    /// Whether what was to be removed may be, once the keeper has answered.
    pub noted: Option<bool>,
    /// The newest wish to have the certificates looked at now.
    pub reload: Option<u64>,
}

/// Where both sides meet.
#[derive(Debug)]
pub struct Office {
    streams: Vec<Stream>,
    asked: Mutex<Asked>,
    arrived: Condvar,
    removed: Mutex<Vec<StreamName>>,
    /// The part of the keeper's stream in which it told last where the store stands; 0 before the first.
    standing_part: AtomicU32,
    reloads: Mutex<Vec<bool>>,
    findings: Mutex<Findings>,
}

/// What the process has found in itself, or does not find any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Counts all of them, from 1.
    pub number: u64,
    /// The check.
    pub check: Check,
    /// What was found; nothing if nothing is any more.
    pub found: Option<String>,
    /// How many before this one were given up, because too many came while the log took no line.
    pub lost: u64,
}

#[derive(Debug, Default)]
struct Findings {
    noted: u64,
    told: u64,
    untold: VecDeque<Finding>,
}

#[derive(Debug, Default)]
struct Asked {
    /// For each stream.
    of: Vec<Wish>,
    tick: bool,
    noted: Option<bool>,
    reload: Option<u64>,
}

#[derive(Debug, Default)]
struct Wish {
    retired: Option<Retired>,
    sync: Option<u64>,
}

#[derive(Default)]
struct Stream {
    synced: Mutex<Synced>,
    answered: Condvar,
    successor: Mutex<Option<Arc<File>>>,
    bytes: AtomicU64,
    news: OnceLock<News>,
}

impl Office {
    /// An office for so many streams, none of which has a successor yet.
    #[must_use]
    pub fn new(streams: usize) -> Self {
        let wishes = (0..streams).map(|_| Wish::default()).collect();
        Self {
            streams: (0..streams).map(|_| Stream::default()).collect(),
            asked: Mutex::new(Asked { of: wishes, ..Asked::default() }),
            arrived: Condvar::new(),
            removed: Mutex::default(),
            standing_part: AtomicU32::new(0),
            reloads: Mutex::default(),
            findings: Mutex::default(),
        }
    }

    /// Tells how the owner of `stream` learns that something was answered. Once, before any thread is started.
    pub fn on_news(&self, stream: usize, news: News) {
        if let Some(stream) = self.streams.get(stream) {
            let _ = stream.news.set(news);
        }
    }

    /// Asks for everything of `stream` up to the round `through` to be on disk.
    pub fn ask_sync(&self, stream: usize, through: u64) {
        self.ask(stream, |wish| wish.sync = wish.sync.max(Some(through)));
    }

    /// How far `stream` is on disk.
    #[must_use]
    pub fn synced(&self, stream: usize) -> Synced {
        self.streams.get(stream).map(|stream| *lock(&stream.synced)).unwrap_or_default()
    }

    /// Waits until the round `through` of `stream` was answered: for an owner that has nothing else to do meanwhile.
    #[must_use]
    pub fn await_synced(&self, stream: usize, through: u64) -> Synced {
        let Some(stream) = self.streams.get(stream) else { return Synced::default() };
        let mut synced = lock(&stream.synced);
        while synced.through < through {
            synced = stream.answered.wait(synced).unwrap_or_else(PoisonError::into_inner);
        }
        *synced
    }

    /// Tells that the owner of `stream` has gone on to its successor: a new one is wanted.
    pub fn retired(&self, stream: usize, retired: Retired) {
        self.ask(stream, |wish| wish.retired = Some(retired));
    }

    /// Whether `stream` has a successor that its owner may go on to.
    #[must_use]
    pub fn successor_ready(&self, stream: usize) -> bool {
        self.streams.get(stream).is_some_and(|stream| lock(&stream.successor).is_some())
    }

    /// Takes the successor of `stream`, if there is one.
    #[must_use]
    pub fn take_successor(&self, stream: usize) -> Option<Arc<File>> {
        lock(&self.streams.get(stream)?.successor).take()
    }

    /// Tells how long the part is that the owner of `stream` is writing.
    pub fn note_length(&self, stream: usize, bytes: u64) {
        if let Some(stream) = self.streams.get(stream) {
            stream.bytes.store(bytes, Ordering::Relaxed);
        }
    }

    /// How long all parts together are that are being written.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.streams.iter().map(|stream| stream.bytes.load(Ordering::Relaxed)).sum()
    }

    /// Notes that a part was removed, for the keeper to tell.
    pub fn note_removed(&self, part: StreamName) {
        lock(&self.removed).push(part);
    }

    /// The parts that were removed since this was asked last.
    #[must_use]
    pub fn take_removed(&self) -> Vec<StreamName> {
        mem::take(&mut *lock(&self.removed))
    }

    /// Notes in which part of its stream the keeper has told where the store stands.
    pub fn note_standing(&self, part: u32) {
        self.standing_part.store(part, Ordering::Relaxed);
    }

    /// The part of the keeper's stream in which it told last where the store stands: the next start needs it, and what comes after
    /// it. 0 before the first, and where its lines go to no file.
    #[must_use]
    pub fn standing_part(&self) -> u32 {
        self.standing_part.load(Ordering::Relaxed)
    }

    /// Has the archivist look at the time.
    pub fn tick(&self) {
        lock(&self.asked).tick = true;
        self.arrived.notify_one();
    }

    /// Has the archivist look at the certificates. Whoever asks counts its wishes, to know which were granted.
    pub fn reload(&self, wish: u64) {
        let mut asked = lock(&self.asked);
        asked.reload = asked.reload.max(Some(wish));
        drop(asked);
        self.arrived.notify_one();
    }

    /// Notes whether new certificates are in force, for the keeper to tell.
    pub fn note_reload(&self, replaced: bool) {
        let mut reloads = lock(&self.reloads);
        if reloads.len() >= TLS_RELOADS_UNTOLD_MAX_COUNT {
            reloads.remove(0);
        }
        reloads.push(replaced);
    }

    /// The reloads since this was asked last.
    #[must_use]
    pub fn take_reloads(&self) -> Vec<bool> {
        mem::take(&mut *lock(&self.reloads))
    }

    /// Notes what `check` found, or that it finds nothing any more, for the keeper to tell; returns its number.
    pub fn note_finding(&self, check: Check, found: Option<&str>) -> u64 {
        let mut findings = lock(&self.findings);
        findings.noted += 1;
        let number = findings.noted;
        findings.untold.push_back(Finding { number, check, found: found.map(str::to_owned), lost: 0 });
        if findings.untold.len() > INTEGRITY_FINDINGS_UNTOLD_MAX_COUNT
            && let Some(oldest) = findings.untold.pop_front()
            && let Some(next) = findings.untold.front_mut()
        {
            next.lost += oldest.lost + 1;
        }
        number
    }

    /// What was noted and is not in the audit log.
    #[must_use]
    pub fn untold_findings(&self) -> Vec<Finding> {
        lock(&self.findings).untold.iter().cloned().collect()
    }

    /// Answers that every finding up to the one of this number is in the audit log.
    pub fn tell_findings(&self, through: u64) {
        let mut findings = lock(&self.findings);
        findings.told = findings.told.max(through);
        findings.untold.retain(|finding| finding.number > through);
    }

    /// The number of the finding up to which all are in the audit log, as far as they were kept; 0 before the first.
    #[must_use]
    pub fn findings_told(&self) -> u64 {
        lock(&self.findings).told
    }

    /// Answers whether what is to be removed may be: the store has taken it, or has not.
    pub fn tell_noted(&self, may: bool) {
        lock(&self.asked).noted = Some(may);
        self.arrived.notify_one();
    }

    /// What the archivist has to do; waits until there is something.
    #[must_use]
    pub fn next(&self) -> Errands {
        let mut asked = lock(&self.asked);
        loop {
            if let Some(errands) = asked.take() {
                return errands;
            }
            asked = self.arrived.wait(asked).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What has come meanwhile, if anything: for an archivist that is at work on something long.
    #[must_use]
    pub fn look(&self) -> Option<Errands> {
        lock(&self.asked).take()
    }

    /// Answers that everything of `stream` up to the round `through` is on disk.
    pub fn tell_synced(&self, stream: usize, through: u64) {
        self.answer(stream, |synced| synced.through = synced.through.max(through));
    }

    /// Answers that a sync of `part` of `stream` failed: its rounds up to `through` may not be on disk, ever.
    pub fn tell_broken(&self, stream: usize, through: u64, part: u32) {
        self.answer(stream, |synced| {
            synced.through = synced.through.max(through);
            synced.broken = synced.broken.max(through);
            synced.broken_part = Some(part);
        });
    }

    /// Answers that `stream` has a successor again.
    pub fn tell_ready(&self, stream: usize, successor: Arc<File>) {
        if let Some(stream) = self.streams.get(stream) {
            *lock(&stream.successor) = Some(successor);
            stream.tell();
        }
    }

    fn ask(&self, stream: usize, wish: impl FnOnce(&mut Wish)) {
        if let Some(of) = lock(&self.asked).of.get_mut(stream) {
            wish(of);
        }
        self.arrived.notify_one();
    }

    fn answer(&self, stream: usize, change: impl FnOnce(&mut Synced)) {
        if let Some(stream) = self.streams.get(stream) {
            change(&mut lock(&stream.synced));
            stream.answered.notify_all();
            stream.tell();
        }
    }
}

impl Asked {
    fn take(&mut self) -> Option<Errands> {
        let of = self.of.iter_mut().enumerate().filter_map(|(stream, wish)| {
            let Wish { retired, sync } = mem::take(wish);
            (retired.is_some() || sync.is_some()).then_some(Errand { stream, retired, sync })
        });
        let (of, tick, noted) = (of.collect(), mem::take(&mut self.tick), self.noted.take());
        let errands = Errands { of, tick, noted, reload: self.reload.take() };
        (errands.tick || errands.reload.is_some() || errands.noted.is_some() || !errands.of.is_empty())
            .then_some(errands)
    }
}

impl Stream {
    fn tell(&self) {
        if let Some(news) = self.news.get() {
            news();
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("synced", &*lock(&self.synced)).finish_non_exhaustive()
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicUsize;

    fn file() -> Arc<File> {
        Arc::new(File::open("/dev/null").unwrap())
    }

    /// Streams with the part that they retired and what they want synced, and whether it is time.
    type Found = (Vec<(usize, Option<u32>, Option<u64>)>, bool);

    fn found(errands: Errands) -> Found {
        let of = errands.of.into_iter();
        let of = of.map(|errand| (errand.stream, errand.retired.map(|retired| retired.part), errand.sync));
        (of.collect(), errands.tick)
    }

    #[test]
    fn requests_of_a_stream_are_joined_and_the_greatest_wins() {
        let office = Office::new(3);
        assert!(office.look().is_none());
        office.ask_sync(2, 7);
        office.ask_sync(2, 5);
        office.ask_sync(0, 1);
        office.retired(2, Retired { part: 4, bytes: 9, file: file() });
        office.ask_sync(9, 1);
        assert_eq!(found(office.next()), (vec![(0, None, Some(1)), (2, Some(4), Some(7))], false));
        office.tick();
        assert_eq!(found(office.next()), (Vec::new(), true));
        assert!(office.look().is_none());
    }

    #[test]
    fn a_successor_is_taken_once() {
        let office = Office::new(1);
        assert!(!office.successor_ready(0) && office.take_successor(0).is_none());
        office.tell_ready(0, file());
        assert!(office.successor_ready(0) && !office.successor_ready(1));
        assert!(office.take_successor(0).is_some());
        assert!(!office.successor_ready(0));
    }

    #[test]
    fn lengths_are_of_what_is_written_now_and_removals_are_told_once() {
        let office = Office::new(2);
        office.note_length(0, 10);
        office.note_length(1, 5);
        office.note_length(0, 3);
        assert_eq!(office.length(), 8);
        let name = StreamName::parse("6b0320c6-32268f1d-w0-0001").unwrap();
        office.note_removed(name);
        assert_eq!((office.take_removed(), office.take_removed()), (vec![name], Vec::new()));
    }

    #[test]
    fn reloads_are_told_once_and_a_log_that_takes_nothing_keeps_the_newest() {
        let office = Office::new(1);
        office.reload(1);
        office.reload(2);
        assert_eq!(office.next().reload, Some(2), "one look grants both");
        assert!(office.look().is_none());
        office.note_reload(true);
        (0..TLS_RELOADS_UNTOLD_MAX_COUNT).for_each(|_| office.note_reload(false));
        assert_eq!(office.take_reloads(), [false; TLS_RELOADS_UNTOLD_MAX_COUNT]);
        assert!(office.take_reloads().is_empty());
    }

    #[test]
    fn findings_are_told_until_they_stand_and_a_log_that_takes_nothing_keeps_the_newest() {
        let office = Office::new(1);
        assert_eq!(office.note_finding(Check::Tracer, Some("traced")), 1);
        assert_eq!(office.note_finding(Check::Tracer, None), 2);
        let finding = |number, found: Option<&str>| Finding {
            number,
            check: Check::Tracer,
            found: found.map(str::to_owned),
            lost: 0,
        };
        let all = [finding(1, Some("traced")), finding(2, None)];
        assert_eq!(office.untold_findings(), all);
        assert_eq!(office.untold_findings(), all, "to look is not to tell");
        assert_eq!(office.findings_told(), 0);
        office.tell_findings(1);
        assert_eq!((office.untold_findings(), office.findings_told()), (vec![finding(2, None)], 1));
        for _ in 0..=INTEGRITY_FINDINGS_UNTOLD_MAX_COUNT {
            office.note_finding(Check::Binary, None);
        }
        let untold = office.untold_findings();
        assert_eq!(untold.len(), INTEGRITY_FINDINGS_UNTOLD_MAX_COUNT);
        assert!(untold.iter().all(|finding| finding.check == Check::Binary), "the oldest went");
        let lost: Vec<u64> = untold.iter().map(|finding| finding.lost).collect();
        assert_eq!((lost[0], lost[1..].iter().sum::<u64>()), (2, 0), "and how many that were is told first");
        office.tell_findings(untold.last().unwrap().number);
        assert!(office.untold_findings().is_empty());
    }

    #[test]
    fn an_answer_wakes_the_owner_and_a_failed_round_stays_failed() {
        let office = Office::new(2);
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        office.on_news(
            1,
            Box::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
            }),
        );
        office.tell_synced(0, 3);
        assert_eq!(woken.load(Ordering::Relaxed), 0);
        office.tell_broken(1, 5, 2);
        office.tell_synced(1, 8);
        office.tell_synced(1, 6);
        assert_eq!(woken.load(Ordering::Relaxed), 3);
        assert_eq!(office.synced(1), Synced { through: 8, broken: 5, broken_part: Some(2) });
        assert_eq!(office.synced(0), Synced { through: 3, broken: 0, broken_part: None });
    }

    #[test]
    fn both_sides_wait_for_one_another() {
        let office = Arc::new(Office::new(1));
        let archivist = Arc::clone(&office);
        let thread = std::thread::spawn(move || {
            let mut through = 0;
            while through < 100 {
                for errand in archivist.next().of {
                    through = errand.sync.unwrap_or(through);
                    archivist.tell_synced(errand.stream, through);
                }
            }
        });
        for round in 1..=100 {
            office.ask_sync(0, round);
            assert!(office.await_synced(0, round).through >= round);
        }
        thread.join().unwrap();
    }
}
