//! A data directory with a journal, for one test.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use quantonium::clock::Moment;
use quantonium::crypto::random::{Generator, Kernel};
use quantonium::store::journal::format::{FRAME_HEADER_BYTES, FrameHeader, HEADER_BYTES};
use quantonium::store::journal::{Opened, Report};
use quantonium::store::{
    DataDir, Head, Journal, Kind, Loaded, MasterKey, Origin, Path, Record, Sealer, Store, StoreError, Witness,
};

/// Name -> value, as a reader of the store sees it.
pub(crate) type State = BTreeMap<String, Vec<u8>>;

/// A directory that vanishes with the test, in memory where that can be had: these tests sync often.
pub(crate) struct Scene {
    path: PathBuf,
    data_dir: Option<DataDir>,
}

impl Scene {
    /// An empty data directory.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("quantonium-journal-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let memory = PathBuf::from("/dev/shm").join(&name);
        let path = match fs::create_dir(&memory) {
            Ok(()) => memory,
            Err(_) => {
                let path = std::env::temp_dir().join(&name);
                fs::create_dir(&path).unwrap();
                path
            }
        };
        let data_dir = Some(DataDir::open(&path.join("data"), None).unwrap());
        Self { path, data_dir }
    }

    /// A data directory with an empty journal.
    pub(crate) fn created() -> Self {
        let scene = Self::new();
        scene.create(&master()).unwrap();
        scene
    }

    pub(crate) fn create(&self, master: &MasterKey) -> Result<(), StoreError> {
        Journal::create(self.data_dir(), master, &mut Generator::new(Kernel, Moment::now()).unwrap())
    }

    pub(crate) fn data_dir(&self) -> &DataDir {
        self.data_dir.as_ref().unwrap()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.data_dir().path().join("journal")
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        fs::read(self.file()).unwrap()
    }

    /// Puts these bytes in the place of the journal.
    pub(crate) fn put(&self, bytes: &[u8]) {
        fs::write(self.file(), bytes).unwrap();
    }

    /// Opens and loads the journal.
    pub(crate) fn open(&self, witness: Witness) -> Result<Ring, StoreError> {
        Ring::open(self.data_dir(), &master(), witness)
    }

    pub(crate) fn verify(&self) -> Result<Report, StoreError> {
        Journal::verify(self.data_dir(), &master())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

pub(crate) fn master() -> MasterKey {
    MasterKey::take(&mut [0x11; 32])
}

pub(crate) fn other_master() -> MasterKey {
    MasterKey::take(&mut [0x22; 32])
}

/// An open journal with what was read from it.
pub(crate) struct Ring {
    pub(crate) journal: Journal,
    pub(crate) sealer: Sealer,
    pub(crate) loaded: Loaded,
    pub(crate) state: State,
    pub(crate) head: Head,
    nonces: u64,
}

impl Ring {
    pub(crate) fn open(data_dir: &DataDir, master: &MasterKey, witness: Witness) -> Result<Self, StoreError> {
        let Opened { mut journal, root, ring } = Journal::open(data_dir, master, witness)?;
        let sealer = root.sealer(ring)?;
        let mut values: BTreeMap<Path, (String, Vec<u8>)> = BTreeMap::new();
        let loaded = journal.load(&mut |record| {
            if record.sealed.is_none() {
                values.remove(&record.path);
                return Ok(());
            }
            let plaintext = sealer.open(&record)?;
            // The kind, the name, a zero byte, the value.
            let end = plaintext.iter().position(|byte| *byte == 0).unwrap();
            let name = String::from_utf8(plaintext[1..end].to_vec()).unwrap();
            sealer.verify_path(&record, Kind::of(plaintext[0]).unwrap(), &name)?;
            values.insert(record.path, (name, plaintext[end + 1..].to_vec()));
            Ok(())
        })?;
        journal.compact_at_start(data_dir)?;
        let (state, head) = (values.into_values().collect(), loaded.head);
        Ok(Self { journal, sealer, loaded, state, head, nonces: 0 })
    }

    /// A record of the next revision.
    pub(crate) fn record(&mut self, name: &str, value: Option<&[u8]>) -> Record {
        let (path, revision) = (self.sealer.path(Kind::Key, name), self.head.revision + 1);
        self.nonces += 1;
        let mut nonce = [0; 24];
        nonce[..8].copy_from_slice(&revision.to_be_bytes());
        nonce[8..16].copy_from_slice(&self.nonces.to_be_bytes());
        let sealed = value.map(|value| {
            let plaintext = [b"K", name.as_bytes(), b"\0", value].concat();
            self.sealer.seal(path, revision, &nonce, &plaintext).unwrap()
        });
        Record { path, revision, sealed }
    }

    /// Commits changes of several names at once.
    pub(crate) fn commit(&mut self, changes: &[(&str, Option<&[u8]>)]) -> Head {
        let records: Vec<Record> = changes.iter().map(|(name, value)| self.record(name, *value)).collect();
        let origin = origin(self.head.revision + 1);
        self.head = self.journal.append(self.head.revision, &records, &[origin]).unwrap();
        for (name, value) in changes {
            match value {
                Some(value) => self.state.insert((*name).to_owned(), value.to_vec()),
                None => self.state.remove(*name),
            };
        }
        self.head
    }
}

/// The request that made a revision.
pub(crate) fn origin(revision: u64) -> Origin {
    u128::from(revision).to_be_bytes()
}

/// Where the frames of a journal begin, and at last where it ends.
pub(crate) fn frames(bytes: &[u8]) -> Vec<usize> {
    let mut at = vec![HEADER_BYTES];
    while let Some(header) = bytes[*at.last().unwrap()..].first_chunk::<FRAME_HEADER_BYTES>() {
        at.push(at.last().unwrap() + FrameHeader::parse(header).unwrap().frame_len);
    }
    assert_eq!(at.last(), Some(&bytes.len()));
    at
}

/// A journal with a snapshot of two records and three changes behind it, and what it held before the last of these.
pub(crate) struct Small {
    pub(crate) scene: Scene,
    pub(crate) bytes: Vec<u8>,
    pub(crate) before: (State, Head),
    pub(crate) after: (State, Head),
}

impl Small {
    pub(crate) fn new() -> Self {
        let scene = Scene::created();
        let mut ring = scene.open(Witness::default()).unwrap();
        ring.commit(&[("a", Some(b"old")), ("b", Some(b"b"))]);
        ring.commit(&[("a", Some(b"new"))]);
        drop(ring);
        Journal::compact_offline(scene.data_dir(), &master(), Witness::default()).unwrap();
        let mut ring = scene.open(Witness::default()).unwrap();
        ring.commit(&[("b", None), ("c", Some(b"c"))]);
        ring.commit(&[("a", Some(b"newer"))]);
        let before = (ring.state.clone(), ring.head);
        ring.commit(&[("d", Some(b"d")), ("a", None)]);
        let after = (ring.state.clone(), ring.head);
        drop(ring);
        let bytes = scene.bytes();
        assert_eq!(frames(&bytes).len(), 6, "snapshot, end, three changes, and the end of the file");
        Self { scene, bytes, before, after }
    }

    /// What a server finds when the journal holds `bytes`.
    pub(crate) fn opened_as(&self, bytes: &[u8], witness: Witness) -> Result<(State, Loaded), StoreError> {
        self.scene.put(bytes);
        self.scene.open(witness).map(|ring| (ring.state, ring.loaded))
    }
}

/// Every file of the data directory, for a look at what lies in it.
pub(crate) fn files(directory: &FilePath) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect()
}
