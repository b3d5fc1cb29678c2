//! Journals over a disk that fails, is killed and loses power, at seeded moments, against a plain model.
//!
//! Owns [`Simulated`]. After a loss of power each sector that was not synced is old, new or zero, and each name that
//! was not synced is old or new; a failed sync leaves it open what reached the disk, and whatever is written to a file
//! after one ends the test. What was acknowledged has to be there every time, and of what was not, all or nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;

use super::super::record::{
    AppendError, Condition, Head, MaintainError, Origin, Path, Record, Tail, Witness,
};
use super::super::root::{MasterKey, RootKey};
use super::core::Core;
use super::disk::{Disk, Which};
use super::format::{FrameKeys, Header};
use super::snapshot::SnapshotWriter;
use crate::clock::Moment;
use crate::crypto::random::{Generator, Kernel};

const SECTOR: usize = 64;
const SEEDS: u64 = 1_500;
const STEPS: usize = 40;

/// The same numbers for the same seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        // SplitMix64 (Steele, Lea, Flood 2014).
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

#[derive(Default)]
struct File {
    durable: Vec<u8>,
    cached: Vec<u8>,
    /// A sync failed: nobody knows what is durable, and nothing may be built on it.
    lost: bool,
}

struct Machine {
    files: [File; 2],
    /// Which file has the name of the journal, in memory and on the disk.
    journal: usize,
    durable_journal: usize,
    dice: Dice,
    /// One call in so many fails; 0: none.
    fails_once_in: usize,
    /// After so many calls the machine stops.
    calls_left: usize,
    /// What others write to the journal in the moment of the next write: before it, and behind it.
    others: Option<[Vec<u8>; 2]>,
}

impl Machine {
    fn file(&mut self, which: Which) -> &mut File {
        let at = match which {
            Which::Journal => self.journal,
            Which::Next => 1 - self.journal,
        };
        &mut self.files[at]
    }

    /// Counts a call. The error with which it fails, if it does.
    fn call(&mut self) -> Result<(), Errno> {
        if self.calls_left == 0 {
            return Err(Errno::NXIO);
        }
        self.calls_left -= 1;
        if self.calls_left == 0 || (self.fails_once_in > 0 && self.dice.once_in(self.fails_once_in)) {
            return Err([Errno::NOSPC, Errno::IO, Errno::ROFS, Errno::DQUOT][self.dice.below(4)]);
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.calls_left == 0
    }

    /// Power is lost.
    fn restart(&mut self) {
        let unsynced = self.dice.once_in(2);
        if unsynced {
            self.durable_journal = self.journal;
        }
        self.journal = self.durable_journal;
        for file in &mut self.files {
            let (old, new) = (&file.durable, &file.cached);
            let (shorter, longer) = (old.len().min(new.len()), old.len().max(new.len()));
            let len = match self.dice.below(3) {
                0 => old.len(),
                1 => new.len(),
                _ => shorter + self.dice.below(longer - shorter + 1),
            };
            let mut held = vec![0; len];
            for (at, sector) in held.chunks_mut(SECTOR).enumerate() {
                let source = if self.dice.once_in(2) { old } else { new };
                let other = if self.dice.once_in(8) { &Vec::new() } else { source };
                // What is the same in both was not written, so it cannot be lost.
                let same = (0..sector.len()).all(|byte| {
                    let at = at * SECTOR + byte;
                    at < shorter && old[at] == new[at]
                });
                let source = if same { old } else { other };
                for (byte, place) in sector.iter_mut().enumerate() {
                    *place = source.get(at * SECTOR + byte).copied().unwrap_or(0);
                    let at = at * SECTOR + byte;
                    if at < shorter && old[at] == new[at] {
                        *place = old[at];
                    }
                }
            }
            *file = File { durable: held.clone(), cached: held, lost: false };
        }
    }

    /// The process is killed, and the next one makes sure of what it finds, as `Files::open` does.
    fn kill(&mut self) {
        if self.files.iter().any(|file| file.lost) {
            return self.restart();
        }
        self.durable_journal = self.journal;
        for file in &mut self.files {
            file.durable.clone_from(&file.cached);
        }
    }
}

#[derive(Clone)]
struct Simulated(Arc<Mutex<Machine>>);

impl Simulated {
    fn with<T>(&self, with: impl FnOnce(&mut Machine) -> T) -> T {
        with(&mut self.0.lock().unwrap())
    }
}

impl Disk for Simulated {
    fn size(&self) -> Result<u64, Errno> {
        self.with(|machine| Ok(machine.file(Which::Journal).cached.len() as u64))
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, Errno> {
        self.with(|machine| {
            let most = 1 + machine.dice.below(into.len());
            let offset = usize::try_from(offset).unwrap();
            let held = machine.file(Which::Journal).cached.get(offset..).unwrap_or_default();
            let len = most.min(held.len());
            into[..len].copy_from_slice(&held[..len]);
            Ok(len)
        })
    }

    fn write(&self, which: Which, bytes: &[u8]) -> Result<usize, Errno> {
        self.with(|machine| {
            assert!(!machine.file(which).lost, "written behind a failed sync");
            let whole = machine.dice.once_in(2);
            let len = if whole { bytes.len() } else { machine.dice.below(bytes.len()) + 1 };
            let done = machine.call();
            // A failed call may have written something all the same, but not all.
            let len = if done.is_err() { machine.dice.below(bytes.len()) } else { len };
            let flushed = machine.dice.once_in(4);
            let [before, behind] = machine.others.take().unwrap_or_default();
            let file = machine.file(which);
            file.cached.extend(before);
            file.cached.extend_from_slice(&bytes[..len]);
            file.cached.extend(behind);
            if flushed {
                // The system writes back when it likes.
                file.durable.clone_from(&file.cached);
            }
            done.map(|()| len)
        })
    }

    fn sync_change(&self) -> Result<(), Errno> {
        self.sync_file(Which::Journal)
    }

    fn sync_file(&self, which: Which) -> Result<(), Errno> {
        self.with(|machine| {
            assert!(which == Which::Next || !machine.file(which).lost, "a failed sync was tried again");
            let done = machine.call();
            let reached = machine.dice.once_in(2);
            let file = machine.file(which);
            if done.is_ok() || reached {
                file.durable.clone_from(&file.cached);
            }
            file.lost = done.is_err();
            done
        })
    }

    fn truncate(&self, which: Which, len: u64) -> Result<(), Errno> {
        self.with(|machine| {
            machine.call()?;
            let file = machine.file(which);
            file.cached.truncate(usize::try_from(len).unwrap());
            // Nothing is left of what could not be written.
            file.lost &= which == Which::Journal;
            Ok(())
        })
    }

    fn reserve(&self, _which: Which, _offset: u64, _len: u64) -> Result<(), Errno> {
        self.with(Machine::call)
    }

    fn has_next(&self) -> bool {
        true
    }

    fn replace(&mut self) -> Result<(), Errno> {
        self.with(|machine| {
            let done = machine.call();
            // An error of the disk may come after the deed.
            if done.is_ok() || (done == Err(Errno::IO) && machine.dice.once_in(2)) {
                machine.journal = 1 - machine.journal;
            }
            done
        })
    }

    fn sync_names(&self) -> Result<(), Errno> {
        self.with(|machine| {
            let done = machine.call();
            if done.is_ok() || machine.dice.once_in(2) {
                machine.durable_journal = machine.journal;
            }
            done
        })
    }
}

type State = BTreeMap<Path, (u64, Vec<u8>)>;

/// What the journal has to hold.
struct Model {
    header: Header,
    acknowledged: State,
    head: Head,
    /// What was asked for without a clear answer.
    unclear: Option<(State, u64)>,
    origins: Vec<Origin>,
}

const MASTER: [u8; 32] = [5; 32];
const ROOT: [u8; 32] = [6; 32];

fn keys() -> FrameKeys {
    FrameKeys::new(&RootKey::take(&mut ROOT.clone())).unwrap()
}

fn random() -> Generator {
    Generator::new(Kernel, Moment::now()).unwrap()
}

fn new_disk(seed: u64) -> (Simulated, Model) {
    let mut dice = Dice(seed);
    let fails_once_in = [0, 0, 7, 30][dice.below(4)];
    let machine = Machine {
        files: Default::default(),
        journal: 0,
        durable_journal: 0,
        dice,
        fails_once_in: 0,
        calls_left: usize::MAX,
        others: None,
    };
    let disk = Simulated(Arc::new(Mutex::new(machine)));
    let master = MasterKey::take(&mut MASTER.clone());
    let root = RootKey::take(&mut ROOT.clone());
    let header = Header::wrap(&master, &root, [1; 16], [2; 16], [3; 24]).unwrap();
    let (keys, mut random) = (keys(), random());
    let writer = SnapshotWriter::new(&disk, Which::Journal, &keys, &mut random, &header).unwrap();
    writer.finish(Head::default(), &Default::default()).unwrap();
    disk.with(|machine| machine.fails_once_in = fails_once_in);
    let model = Model {
        header,
        acknowledged: State::new(),
        head: Head::default(),
        unclear: None,
        origins: Vec::new(),
    };
    (disk, model)
}

/// Opens what the machine holds, and compares it with the model.
fn open(disk: &Simulated, model: &mut Model, seed: u64) -> Core<Simulated> {
    let fails = disk.with(|machine| {
        machine.calls_left = usize::MAX;
        core::mem::take(&mut machine.fails_once_in)
    });
    // The header as it stands in the file, as `Journal::open` reads it.
    model.header = disk.with(|machine| Header::parse(&machine.file(Which::Journal).cached)).unwrap();
    let witness = Witness { head: Some(model.head), ..Witness::default() };
    let mut core = Core::new(disk.clone(), PathBuf::new(), model.header, keys(), random(), witness);
    let mut found = State::new();
    let loaded = core.load(&mut |record| {
        match record.sealed {
            Some(sealed) => found.insert(record.path, (record.revision, sealed)),
            None => found.remove(&record.path),
        };
        Ok(())
    });
    let loaded = loaded.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    if loaded.head.revision == model.head.revision {
        assert_eq!(loaded.head, model.head, "seed {seed}");
        assert!(found == model.acknowledged, "seed {seed}: other records");
    } else {
        let (unclear, revision) =
            model.unclear.take().unwrap_or_else(|| panic!("seed {seed}: never asked for"));
        assert_eq!(loaded.head.revision, revision, "seed {seed}");
        assert!(found == unclear, "seed {seed}: half of a change");
        model.origins.push(revision_origin(revision));
    }
    assert_eq!(loaded.recent, model.origins, "seed {seed}");
    let standing = core.standing();
    assert_eq!(standing.live_records, found.len() as u64, "seed {seed}");
    assert_eq!(standing.condition, Condition::Good);
    model.unclear = None;
    (model.acknowledged, model.head) = (found, loaded.head);
    disk.with(|machine| machine.fails_once_in = fails);
    core
}

fn revision_origin(revision: u64) -> Origin {
    u128::from(revision).to_be_bytes()
}

fn random_records(dice: &mut Dice, revision: u64) -> Vec<Record> {
    let count = 1 + dice.below(4);
    let one = |_| {
        let path = Path::new([u8::try_from(dice.below(6)).unwrap(); 16]);
        let byte = u8::try_from(dice.below(256)).unwrap();
        let sealed = (!dice.once_in(4)).then(|| vec![byte; dice.below(400)]);
        Record { path, revision, sealed }
    };
    (0..count).map(one).collect()
}

fn after(state: &State, records: &[Record]) -> State {
    let mut state = state.clone();
    for record in records {
        match &record.sealed {
            Some(sealed) => state.insert(record.path, (record.revision, sealed.clone())),
            None => state.remove(&record.path),
        };
    }
    state
}

fn append(core: &mut Core<Simulated>, disk: &Simulated, model: &mut Model, seed: u64, dice: &mut Dice) {
    let revision = model.head.revision + 1;
    let records = random_records(dice, revision);
    let poisoned = core.standing().condition == Condition::Poisoned;
    let wanted = after(&model.acknowledged, &records);
    let answer = core.append(model.head.revision, &records, &[revision_origin(revision)]);
    if poisoned {
        assert_eq!(answer, Err(AppendError::Refused), "seed {seed}");
        return;
    }
    match answer {
        Ok(head) => {
            assert_eq!(head.revision, revision);
            (model.acknowledged, model.head) = (wanted, head);
            model.origins.push(revision_origin(revision));
        }
        Err(AppendError::Ambiguous) => {
            assert_eq!(core.standing().condition, Condition::Poisoned);
            model.unclear = Some((wanted, revision));
        }
        // Nothing of it remains, unless the machine stopped before that could be made sure of.
        Err(AppendError::Full | AppendError::Failed) => {
            let condition = core.standing().condition;
            assert!(matches!(condition, Condition::Full | Condition::Failing), "{condition:?}");
            if disk.with(|machine| machine.stopped()) {
                model.unclear = Some((wanted, revision));
            }
        }
        Err(other) => panic!("seed {seed}: {other}"),
    }
}

fn run(seed: u64) {
    let (disk, mut model) = new_disk(seed);
    let mut dice = Dice(!seed);
    let mut core = open(&disk, &mut model, seed);
    for _ in 0..STEPS {
        let stopped = disk.with(|machine| machine.stopped());
        match dice.below(12) {
            _ if stopped => {
                disk.with(|machine| if dice.once_in(3) { machine.kill() } else { machine.restart() });
                core = open(&disk, &mut model, seed);
            }
            0 => {
                disk.with(Machine::kill);
                core = open(&disk, &mut model, seed);
            }
            1 => {
                disk.with(Machine::restart);
                core = open(&disk, &mut model, seed);
            }
            2 => disk.with(|machine| machine.calls_left = 1 + dice.below(12)),
            3 | 4 if core.standing().condition != Condition::Poisoned => {
                let done = core.compact(None);
                let poisoned = core.standing().condition == Condition::Poisoned;
                assert_eq!(done == Err(MaintainError::Ambiguous), poisoned, "seed {seed}: {done:?}");
            }
            _ => append(&mut core, &disk, &mut model, seed, &mut dice),
        }
    }
    disk.with(Machine::restart);
    open(&disk, &mut model, seed);
}

#[test]
fn what_others_write_in_the_moment_of_a_change_never_stands_before_one_that_was_acknowledged() {
    for seed in 0..100 {
        let (disk, mut model) = new_disk(seed);
        disk.with(|machine| machine.fails_once_in = 0);
        let mut core = open(&disk, &mut model, seed);
        let mut dice = Dice(!seed);
        append(&mut core, &disk, &mut model, seed, &mut dice);
        for [before, behind] in [["x", ""], ["", "x"], ["foreign", "bytes"]] {
            let is_before = !before.is_empty();
            disk.with(|machine| machine.others = Some([before.into(), behind.into()]));
            let revision = model.head.revision;
            append(&mut core, &disk, &mut model, seed, &mut dice);
            let condition = core.standing().condition;
            // A write that was cut into pieces has them between its pieces, and is never whole.
            if is_before || model.head.revision == revision {
                assert_eq!((model.head.revision, condition), (revision, Condition::Failing), "seed {seed}");
                assert!(matches!(core.take_found(), Some(Tail::Foreign { .. })), "seed {seed}");
            }
            append(&mut core, &disk, &mut model, seed, &mut dice);
            assert_eq!(core.standing().condition, Condition::Good, "seed {seed}");
        }
        // What stood behind one was found by the next.
        assert!(core.take_found().is_none_or(|tail| matches!(tail, Tail::Foreign { .. })));
        disk.with(Machine::kill);
        open(&disk, &mut model, seed);
    }
}

#[test]
fn what_was_acknowledged_is_there_after_any_failure_and_half_a_change_never_is() {
    for seed in 0..SEEDS {
        run(seed);
    }
}
