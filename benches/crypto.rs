//! The crypto floor by itself: sealing, opening, streams, keystream, MAC, hash, key derivation, generator, self-test.
//!
//! Ratios to other libraries come from the peer bench; absolute times here depend on the machine.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use quantonium::clock::Moment;
use quantonium::crypto::aead::{self, Algorithm};
use quantonium::crypto::hash;
use quantonium::crypto::kdf;
use quantonium::crypto::keystream;
use quantonium::crypto::mac::MacKey;
use quantonium::crypto::random::{Generator, Kernel};
use quantonium::crypto::selftest;
use quantonium::crypto::stream::{self, Binding, Opener, Sealer};

const SIZES: [usize; 8] = [16, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 1 << 20];
const KEY: [u8; 32] = [7; 32];
const NONCE: [u8; 24] = [3; 24];
const AAD: [u8; 16] = [9; 16];

fn seal_and_open(c: &mut Criterion) {
    for (name, algorithm) in [
        ("chacha20-poly1305", Algorithm::ChaCha20Poly1305),
        ("xchacha20-poly1305", Algorithm::XChaCha20Poly1305),
    ] {
        let nonce = NONCE.get(..algorithm.nonce_len()).unwrap_or_default();
        let mut group = c.benchmark_group(name);
        for size in SIZES {
            group.throughput(Throughput::Bytes(size as u64));
            let mut data = vec![1; size];
            group.bench_function(BenchmarkId::new("seal", size), |bencher| {
                bencher.iter(|| aead::seal(algorithm, black_box(&KEY), nonce, &AAD, black_box(&mut data)));
            });
            let mut sealed = vec![1; size];
            let tag = aead::seal(algorithm, &KEY, nonce, &AAD, &mut sealed).unwrap_or_default();
            group.bench_function(BenchmarkId::new("open", size), |bencher| {
                bencher.iter_batched_ref(
                    || sealed.clone(),
                    |data| {
                        let opened = aead::open(algorithm, black_box(&KEY), nonce, &AAD, data, &tag);
                        assert!(opened.is_ok());
                    },
                    if size > 4096 { BatchSize::LargeInput } else { BatchSize::SmallInput },
                );
            });
        }
        group.finish();
    }
}

fn mac_and_hash(c: &mut Criterion) {
    for (name, algorithm) in [
        ("sha-256", hash::Algorithm::Sha256),
        ("sha-384", hash::Algorithm::Sha384),
        ("sha-512", hash::Algorithm::Sha512),
    ] {
        let mut group = c.benchmark_group(name);
        let key = MacKey::new(algorithm, &KEY);
        for size in [16, 256, 1 << 10, 16 << 10, 1 << 20] {
            group.throughput(Throughput::Bytes(size as u64));
            let data = vec![1; size];
            group.bench_function(BenchmarkId::new("hmac", size), |bencher| {
                bencher.iter(|| key.tag(black_box(&[&data])));
            });
            group.bench_function(BenchmarkId::new("hash", size), |bencher| {
                bencher.iter(|| hash::digest(algorithm, black_box(&[&data])));
            });
        }
        group.finish();
    }
    c.bench_function("hmac-sha-256 key", |bencher| {
        bencher.iter(|| MacKey::new(hash::Algorithm::Sha256, black_box(&KEY)));
    });
}

fn derivation(c: &mut Criterion) {
    c.bench_function("hkdf-sha256 32", |bencher| {
        let mut okm = [0; 32];
        bencher.iter(|| kdf::derive(black_box(&NONCE), black_box(&KEY), &[&AAD], &mut okm));
    });
    c.bench_function("derived key", |bencher| {
        bencher.iter(|| kdf::derived_key(black_box(&KEY), black_box(&AAD)));
    });
}

fn streams(c: &mut Criterion) {
    let binding = Binding { context: &[], associated_data: &AAD };
    let salt = [5; stream::SALT_BYTES];
    let mut group = c.benchmark_group("stream");
    group.bench_function("begin", |bencher| bencher.iter(|| Sealer::new(black_box(&KEY), 1, salt, binding)));
    let Ok((mut sealer, header)) = Sealer::new(&KEY, 1, salt, binding) else { return };
    group.throughput(Throughput::Bytes(stream::CHUNK_BYTES as u64));
    let mut chunk = vec![1; stream::CHUNK_BYTES];
    group.bench_function("seal chunk", |bencher| bencher.iter(|| sealer.seal(black_box(&mut chunk), false)));
    let mut sealed = vec![1; stream::SEALED_CHUNK_BYTES];
    if let (Ok((mut first, _)), Some((plaintext, tag))) =
        (Sealer::new(&KEY, 1, salt, binding), sealed.split_last_chunk_mut())
    {
        *tag = first.seal(plaintext, false).unwrap_or_default();
    }
    group.bench_function("begin and open chunk", |bencher| {
        bencher.iter_batched_ref(
            || sealed.clone(),
            |sealed| {
                let opened =
                    Opener::new(&KEY, &header, binding).map(|mut opener| opener.open(sealed, false).is_ok());
                assert_eq!(opened, Ok(true));
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

fn keystreams(c: &mut Criterion) {
    let mut group = c.benchmark_group("keystream");
    for size in [32, 1 << 10, 64 << 10, 1 << 20] {
        group.throughput(Throughput::Bytes(size as u64));
        let mut target = vec![0; size];
        group.bench_function(BenchmarkId::new("fill", size), |bencher| {
            bencher.iter(|| keystream::fill(black_box(&KEY), 1, &AAD, &NONCE, black_box(&mut target)));
        });
    }
    group.finish();
}

fn generator(c: &mut Criterion) {
    let now = Moment::from_nanos(0);
    let Ok(mut generator) = Generator::new(Kernel, now) else { return };
    let mut group = c.benchmark_group("generator");
    for size in [24, 32, 1 << 20] {
        group.throughput(Throughput::Bytes(size as u64));
        let mut target = vec![0; size];
        group.bench_function(BenchmarkId::new("fill", size), |bencher| {
            bencher.iter(|| generator.fill(now, black_box(&mut target)));
        });
    }
    group.finish();
}

fn start_up(c: &mut Criterion) {
    c.bench_function("self-test", |bencher| bencher.iter(selftest::run));
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    seal_and_open(&mut criterion);
    streams(&mut criterion);
    keystreams(&mut criterion);
    mac_and_hash(&mut criterion);
    derivation(&mut criterion);
    generator(&mut criterion);
    start_up(&mut criterion);
    criterion.final_summary();
}
