//! Base64 and hexadecimal, as a request's texts pass through them.
//!
//! Owns the group `encoding`.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use quantonium::encoding::{base64_decode_in_place, base64_encode, base64_len, hex_decode, hex_encode};

const SIZES: [usize; 4] = [16, 256, 1 << 10, 64 << 10];

fn encoding(c: &mut Criterion) {
    let mut group = c.benchmark_group("encoding");
    for size in SIZES {
        group.throughput(Throughput::Bytes(size as u64));
        let bytes = vec![0xA5; size];
        let mut text = vec![0; base64_len(size)];
        assert_eq!(base64_encode(&bytes, &mut text), Some(text.len()));
        let mut target = text.clone();
        group.bench_function(BenchmarkId::new("base64 encode", size), |bencher| {
            bencher.iter(|| base64_encode(black_box(&bytes), &mut target));
        });
        group.bench_function(BenchmarkId::new("base64 decode in place", size), |bencher| {
            bencher.iter_batched_ref(
                || text.clone(),
                |text| base64_decode_in_place(black_box(text)),
                BatchSize::SmallInput,
            );
        });
        let mut hex = vec![0; size * 2];
        group.bench_function(BenchmarkId::new("hex encode", size), |bencher| {
            bencher.iter(|| hex_encode(black_box(&bytes), &mut hex));
        });
        let mut back = vec![0; size];
        assert_eq!(hex_decode(&hex, &mut back), Some(size));
        group.bench_function(BenchmarkId::new("hex decode", size), |bencher| {
            bencher.iter(|| hex_decode(black_box(&hex), &mut back));
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    encoding(&mut criterion);
    criterion.final_summary();
}
