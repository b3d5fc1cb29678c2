//! How often somebody may ask: one bucket, and the table of addresses among few and among many.
//!
//! Owns the group `limiter`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicU64;

use criterion::{BenchmarkId, Criterion};
use quantonium::clock::Moment;
use quantonium::limiter::{Addresses, Bucket};
use quantonium::quota::Rate;

fn buckets(c: &mut Criterion) {
    let Some(rate) = Rate::new(1_000_000, 1_000_000) else { return };
    let mut group = c.benchmark_group("limiter");
    let level = AtomicU64::new(0);
    let mut nanos = 0;
    group.bench_function("bucket", |bencher| {
        bencher.iter(|| {
            nanos += 2_000;
            let taken = Bucket::new(black_box(&level), rate, "key").take(Moment::from_nanos(nanos), 1);
            assert!(taken.allowed);
            taken
        });
    });
    let mut nanos = 0;
    let debt = AtomicU64::new(0);
    group.bench_function("debit", |bencher| {
        bencher.iter(|| {
            nanos += 2_000;
            Bucket::new(black_box(&debt), rate, "key").debit(Moment::from_nanos(nanos), 1)
        });
    });
    let table = Addresses::new(rate, [3, 5]);
    for count in [1_u32, 1_000, 1_000_000] {
        let (mut nanos, mut number) = (0, 0_u32);
        group.bench_function(BenchmarkId::new("address among", count), |bencher| {
            bencher.iter(|| {
                nanos += 2_000;
                number = number.wrapping_add(0x9E37_79B1);
                let address = IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0000 + number % count));
                table.take(black_box(address), Moment::from_nanos(nanos), 1)
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    buckets(&mut criterion);
    criterion.final_summary();
}
