//! The journal: opening a large one, and committing one change or a group of them.
//!
//! Owns the groups `store open` and `store append`. The files lie in the directory for temporary files: on a disk the
//! appends measure its sync, in memory what the program does.

use std::hint::black_box;
use std::path::{Path as FilePath, PathBuf};

use criterion::{BenchmarkId, Criterion, Throughput};
use quantonium::clock::Moment;
use quantonium::crypto::random::{Generator, Kernel};
use quantonium::store::{DataDir, Journal, Kind, MasterKey, Record, Sealer, Store, StoreError, Witness};

const RECORDS: u64 = 100_000;
/// A key with one version takes about this much.
const VALUE: [u8; 260] = [b'K'; 260];

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("quantonium-bench-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn master() -> MasterKey {
    MasterKey::take(&mut [1; 32])
}

fn open(data_dir: &DataDir) -> Result<(Journal, Sealer), StoreError> {
    let opened = Journal::open(data_dir, &master(), Witness::default())?;
    Ok((opened.journal, opened.root.sealer(opened.ring)?))
}

/// Records of the next revision.
fn records(sealer: &Sealer, revision: u64, names: core::ops::Range<u64>) -> Result<Vec<Record>, StoreError> {
    let seal = |name: u64| {
        let path = sealer.path(Kind::Key, &format!("key-{name}"));
        let mut nonce = [0; 24];
        for (place, byte) in nonce.iter_mut().zip((revision << 32 | name).to_be_bytes()) {
            *place = byte;
        }
        Ok(Record { path, revision, sealed: Some(sealer.seal(path, revision, &nonce, &VALUE)?) })
    };
    names.map(seal).collect()
}

/// A journal with many records: as appends of 64, and compacted.
fn fill(path: &FilePath) -> Result<DataDir, StoreError> {
    let data_dir = DataDir::open(path, None)?;
    let mut random = Generator::new(Kernel, Moment::now())?;
    Journal::create(&data_dir, &master(), &mut random)?;
    let (mut journal, sealer) = open(&data_dir)?;
    let mut revision = journal.load(&mut |_| Ok(()))?.head.revision;
    for first in (0..RECORDS).step_by(64) {
        let records = records(&sealer, revision + 1, first..RECORDS.min(first + 64))?;
        revision = journal.append(revision, &records, &[]).map_err(StoreError::NotAppended)?.revision;
    }
    Ok(data_dir)
}

fn opening(c: &mut Criterion, data_dir: &DataDir) {
    let mut group = c.benchmark_group("store open");
    group.sample_size(20).throughput(Throughput::Elements(RECORDS));
    let mut measure = |name: &str| {
        group.bench_function(BenchmarkId::new(name, RECORDS), |bencher| {
            bencher.iter(|| {
                let Ok((mut journal, sealer)) = open(data_dir) else { return };
                let loaded =
                    journal.load(&mut |record| sealer.open(&record).map(|value| drop(black_box(value))));
                assert!(loaded.is_ok() && journal.standing().live_records == RECORDS);
            });
        });
    };
    measure("appends of 64");
    assert!(Journal::compact_offline(data_dir, &master(), Witness::default()).is_ok());
    measure("snapshot");
    group.finish();
}

fn appending(c: &mut Criterion, data_dir: &DataDir) {
    let Ok((mut journal, sealer)) = open(data_dir) else { return };
    let Ok(loaded) = journal.load(&mut |_| Ok(())) else { return };
    assert!(journal.compact_at_start(data_dir).is_ok());
    let mut revision = loaded.head.revision;
    let mut group = c.benchmark_group("store append");
    for count in [1, 64] {
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                let Ok(records) = records(&sealer, revision + 1, 0..count) else { return };
                let appended = journal.append(revision, &records, &[[0; 16]; 64]);
                revision = appended.map_or(revision, |head| head.revision);
                assert!(appended.is_ok() && journal.maintain().is_ok());
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let Ok(scratch) = Scratch::new() else { return };
    let Ok(data_dir) = fill(&scratch.0.join("data")) else { return };
    opening(&mut criterion, &data_dir);
    appending(&mut criterion, &data_dir);
    criterion.final_summary();
}
