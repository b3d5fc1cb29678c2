//! A disk that loses power: what was not synced may be there afterwards, or not, or in part.
//!
//! Owns [`Disk`]: files and directories as programs see them, and beside them what is durable. The contract is the one
//! of POSIX and no better: `fsync` of a file keeps its content and not its name, `fsync` of a directory keeps its
//! names. Invariants: an unsynced write is lost or kept by the sector, in no order, and its length apart from its bytes;
//! names that were changed together are kept together, and in their order.

use std::collections::BTreeMap;

use super::random::Random;

/// What a disk writes at once.
const SECTOR_BYTES: usize = 512;
/// The root directory.
pub(super) const ROOT: u64 = 1;

/// How much of what was not synced outlives the loss of power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survives {
    /// None of it.
    Nothing,
    /// Some of it.
    Some,
    /// All of it, as after a kill.
    Everything,
}

/// A change of a file that was not synced.
#[derive(Clone, Debug)]
enum Unsynced {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// A file.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// As it is read.
    pub(super) bytes: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Unsynced>,
}

/// What a number stands for.
#[derive(Clone, Debug)]
pub(super) enum Content {
    File(File),
    Directory(BTreeMap<String, u64>),
}

/// A file or a directory.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) content: Content,
}

/// Names that change at once: the directory, the name, and what it stands for from then on.
type Naming = Vec<(u64, String, Option<u64>)>;

/// See the head of this file.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    nodes: BTreeMap<u64, Node>,
    next: u64,
    /// Durable names of each directory.
    durable: BTreeMap<u64, BTreeMap<String, u64>>,
    unsynced: Vec<Naming>,
    /// Whether two names can be exchanged at once.
    pub(super) exchanges: bool,
    /// Whether writes take less than they were given, now and then.
    pub(super) short: Option<Random>,
    /// How many more changes there are before the power fails, if that is not when somebody says so.
    countdown: Option<usize>,
    /// The disk at that moment.
    failed: Option<Box<Self>>,
}

fn put(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    bytes.resize(bytes.len().max(at + piece.len()), 0);
    bytes[at..at + piece.len()].copy_from_slice(piece);
}

impl File {
    pub(super) fn write(&mut self, at: usize, piece: &[u8]) {
        put(&mut self.bytes, at, piece);
        self.unsynced.push(Unsynced::Write(at, piece.to_vec()));
    }

    pub(super) fn set_len(&mut self, len: usize) {
        self.bytes.resize(len, 0);
        self.unsynced.push(Unsynced::Length(len));
    }

    pub(super) fn sync(&mut self) {
        self.durable.clone_from(&self.bytes);
        self.unsynced.clear();
    }

    fn lose_power(&mut self, survives: Survives, random: &mut Random) {
        let mut bytes = self.durable.clone();
        for change in self.unsynced.drain(..) {
            let mut kept = || match survives {
                Survives::Nothing => false,
                Survives::Some => random.coin(),
                Survives::Everything => true,
            };
            match change {
                Unsynced::Length(len) if kept() => bytes.resize(len, 0),
                Unsynced::Length(_) => {}
                Unsynced::Write(at, piece) => {
                    if kept() {
                        // Its length is known before its bytes are.
                        bytes.resize(bytes.len().max(at + piece.len()), 0);
                    }
                    // Sectors are those of the disk, not of the write.
                    let mut from = 0;
                    while from < piece.len() {
                        let end =
                            piece.len().min((at + from) / SECTOR_BYTES * SECTOR_BYTES + SECTOR_BYTES - at);
                        if kept() {
                            put(&mut bytes, at + from, &piece[from..end]);
                        }
                        from = end;
                    }
                }
            }
        }
        self.bytes.clone_from(&bytes);
        self.durable = bytes;
    }
}

impl Disk {
    pub(super) fn new(exchanges: bool) -> Self {
        let root = Node { mode: 0o040_755, uid: 0, gid: 0, content: Content::Directory(BTreeMap::new()) };
        Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            next: ROOT + 1,
            durable: BTreeMap::new(),
            unsynced: Vec::new(),
            exchanges,
            short: None,
            countdown: None,
            failed: None,
        }
    }

    /// Says that the power fails before so many more changes are done, syncs being changes.
    pub(super) fn fail_before(&mut self, changes: usize) {
        self.countdown = Some(changes);
    }

    /// To be called before each change.
    pub(super) fn tick(&mut self) {
        self.countdown = match self.countdown.take() {
            Some(0) => {
                self.failed = Some(Box::new(self.clone()));
                None
            }
            left => left.map(|left| left - 1),
        };
    }

    pub(super) fn node(&mut self, number: u64) -> Option<&mut Node> {
        self.nodes.get_mut(&number)
    }

    pub(super) fn file(&mut self, number: u64) -> Option<&mut File> {
        match &mut self.nodes.get_mut(&number)?.content {
            Content::File(file) => Some(file),
            Content::Directory(_) => None,
        }
    }

    pub(super) fn names(&mut self, number: u64) -> Option<&mut BTreeMap<String, u64>> {
        match &mut self.nodes.get_mut(&number)?.content {
            Content::Directory(names) => Some(names),
            Content::File(_) => None,
        }
    }

    pub(super) fn look_up(&mut self, directory: u64, name: &str) -> Option<u64> {
        self.names(directory)?.get(name).copied()
    }

    /// A new node under a name that was free.
    pub(super) fn make(&mut self, directory: u64, name: &str, node: Node) -> u64 {
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, node);
        self.rename(vec![(directory, name.to_owned(), Some(number))]);
        number
    }

    /// Changes names.
    pub(super) fn rename(&mut self, naming: Naming) {
        for (directory, name, number) in &naming {
            let names = self.names(*directory).unwrap();
            match number {
                Some(number) => names.insert(name.clone(), *number),
                None => names.remove(name),
            };
        }
        self.unsynced.push(naming);
    }

    /// Makes the names of a directory durable.
    pub(super) fn sync_names(&mut self, directory: u64) {
        let (own, others) = std::mem::take(&mut self.unsynced)
            .into_iter()
            .partition(|naming| naming.iter().any(|(other, _, _)| *other == directory));
        self.unsynced = others;
        self.keep(own);
    }

    fn keep(&mut self, namings: Vec<Naming>) {
        for (directory, name, number) in namings.into_iter().flatten() {
            let names = self.durable.entry(directory).or_default();
            match number {
                Some(number) => names.insert(name, number),
                None => names.remove(&name),
            };
        }
    }

    /// The power is gone, and back; whether it went when it was to.
    pub(super) fn lose_power(&mut self, survives: Survives, random: &mut Random) -> bool {
        let failed = self.failed.take();
        let as_said = failed.is_some();
        if let Some(failed) = failed {
            *self = *failed;
        }
        self.countdown = None;
        let mut namings = std::mem::take(&mut self.unsynced);
        match survives {
            Survives::Nothing => namings.clear(),
            Survives::Some => namings.truncate(random.below(namings.len() + 1)),
            Survives::Everything => {}
        }
        self.keep(namings);
        for (number, node) in &mut self.nodes {
            match &mut node.content {
                Content::File(file) => file.lose_power(survives, random),
                Content::Directory(names) => *names = self.durable.get(number).cloned().unwrap_or_default(),
            }
        }
        as_said
    }
}

#[test]
fn what_was_not_synced_is_lost_and_what_was_synced_is_not() {
    let file = || Node { mode: 0, uid: 0, gid: 0, content: Content::File(File::default()) };
    let mut disk = Disk::new(true);
    let number = disk.make(ROOT, "a", file());
    disk.file(number).unwrap().write(0, b"synced");
    disk.file(number).unwrap().sync();
    disk.sync_names(ROOT);
    disk.file(number).unwrap().write(6, b" and not");
    disk.make(ROOT, "b", file());
    assert_eq!(disk.file(number).unwrap().bytes, b"synced and not");
    disk.lose_power(Survives::Nothing, &mut Random::new(1));
    assert_eq!(disk.file(number).unwrap().bytes, b"synced");
    assert_eq!((disk.look_up(ROOT, "a"), disk.look_up(ROOT, "b")), (Some(number), None));
}

#[test]
fn of_what_was_not_synced_any_sector_may_be_there() {
    let mut found = std::collections::BTreeSet::new();
    for seed in 0..64 {
        let mut file = File::default();
        file.write(0, &[1; 2 * SECTOR_BYTES]);
        file.lose_power(Survives::Some, &mut Random::new(seed));
        found.insert((file.bytes.len(), file.bytes.first().copied(), file.bytes.get(SECTOR_BYTES).copied()));
    }
    let whole = 2 * SECTOR_BYTES;
    for outcome in
        [(0, None, None), (SECTOR_BYTES, Some(1), None), (whole, Some(0), Some(1)), (whole, Some(1), Some(0))]
    {
        assert!(found.contains(&outcome), "{outcome:?} of {found:?}");
    }
}
