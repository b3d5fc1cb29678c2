//! The key ring: what finding a key costs among few and among many, alone and with a seal, and what a rotation costs
//! in the largest ring.

#![allow(missing_docs, reason = "the entry points are made by criterion's macros")]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench without its ring measures nothing"
)]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use quantonium::clock::WallTime;
use quantonium::crypto::aead::{self, Algorithm};
use quantonium::keyring::change::apply;
use quantonium::keyring::{Change, Circumstances, Ring, schedule};
use quantonium::model::{KeyName, KeyOptions, KeyType, PolicyChange};

const COUNTS: [usize; 3] = [1, 1_000, 100_000];
const MESSAGE_BYTES: usize = 256;

fn name(number: usize) -> KeyName {
    KeyName::new(&format!("service-{number}.orders")).unwrap()
}

fn change(ring: &mut Ring, change: &Change) {
    let mut draw = |target: &mut [u8]| {
        target.fill(7);
        Ok(())
    };
    let now = WallTime::from_millis(1_000);
    let mut at = Circumstances { now, restore_window_seconds: 0, draw: &mut draw };
    apply(ring, change, &mut at).unwrap();
}

fn filled(count: usize) -> Ring {
    let mut ring = Ring::default();
    let options = KeyOptions::of(KeyType::XChaCha20Poly1305);
    let policy = PolicyChange { auto_rotate_seconds: Some(86_400), ..PolicyChange::default() };
    for number in 0..count {
        change(&mut ring, &Change::Create { name: name(number), options, policy });
    }
    ring
}

/// Names in an order that caches do not foresee.
fn scattered(count: usize) -> Vec<KeyName> {
    (0..4_096).map(|index| name(index * 7_919 % count)).collect()
}

fn lookups(criterion: &mut Criterion) {
    for count in COUNTS {
        let ring = filled(count);
        let names = scattered(count);
        let mut next = 0;
        let mut name = || {
            next = (next + 1) % names.len();
            names[next].as_str()
        };
        let mut group = criterion.benchmark_group(format!("keyring/{count}"));
        group.bench_function("lookup", |bencher| {
            bencher.iter(|| ring.get(black_box(name())).unwrap().sealing_version(None).unwrap().number());
        });
        group.throughput(Throughput::Bytes(MESSAGE_BYTES as u64));
        let mut message = [0x61; MESSAGE_BYTES];
        group.bench_function(format!("lookup_and_seal_{MESSAGE_BYTES}"), |bencher| {
            bencher.iter(|| {
                let version = ring.get(black_box(name())).unwrap().sealing_version(None).unwrap();
                version.uses().note(WallTime::from_millis(1_000), 1);
                let seal =
                    |key: &_| aead::seal(Algorithm::XChaCha20Poly1305, key, &[7; 24], b"", &mut message);
                version.with_encryption_key(seal).unwrap().unwrap()
            });
        });
        group.finish();
    }
}

fn changes(criterion: &mut Criterion) {
    let ring = filled(COUNTS[2]);
    let names = scattered(COUNTS[2]);
    let mut group = criterion.benchmark_group(format!("keyring/{}", COUNTS[2]));
    let mut next = 0;
    // As the keeper does it: a new snapshot for each change, beside the published one that workers hold.
    group.bench_function("rotate", |bencher| {
        bencher.iter_batched(
            || {
                next = (next + 1) % names.len();
                Change::Rotate { name: names[next].clone(), only_if_latest: None }
            },
            |rotation| {
                let mut snapshot = ring.clone();
                change(&mut snapshot, &rotation);
                snapshot
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("next_due", |bencher| bencher.iter(|| schedule::next_due(black_box(&ring))));
    group.finish();
}

criterion_group!(benches, lookups, changes);
criterion_main!(benches);
