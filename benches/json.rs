//! Reading JSON bodies: the members of one operation, and the check of a whole batch.
//!
//! Owns the group `json`.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use quantonium::api::members::{Members, Shape, check_batch};
use quantonium::encoding::{base64_encode, base64_len};

const SHAPE: Shape = Shape {
    known: &["key", "plaintext", "associated_data", "context", "key_version", "format", "batch"],
    required: &["key"],
};
const ITEM: Shape =
    Shape { known: &["plaintext", "associated_data", "context", "reference"], required: &["plaintext"] };
const ITEMS: usize = 100;

fn base64(size: usize) -> String {
    let mut text = vec![0; base64_len(size)];
    base64_encode(&vec![0xA5; size], &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn members(c: &mut Criterion) {
    let mut group = c.benchmark_group("json");
    for size in [256, 1 << 10, 16 << 10, 64 << 10] {
        let body = format!("{{\"key\":\"orders\",\"plaintext\":\"{}\"}}", base64(size));
        assert!(Members::read(body.as_bytes(), SHAPE).is_ok());
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(BenchmarkId::new("members", size), |bencher| {
            bencher.iter(|| Members::read(black_box(body.as_bytes()), SHAPE).is_ok());
        });
    }
    let full = format!(
        "{{ \"key\": \"orders\", \"plaintext\": \"{}\", \"associated_data\": \"cm93IDE3\", \"key_version\": 3, \
         \"format\": \"base64\" }}",
        base64(256).replace('/', "\\/")
    );
    assert!(Members::read(full.as_bytes(), SHAPE).is_ok());
    group.throughput(Throughput::Bytes(full.len() as u64));
    group.bench_function("members with escapes", |bencher| {
        bencher.iter(|| Members::read(black_box(full.as_bytes()), SHAPE).is_ok());
    });
    let item = format!("{{\"plaintext\":\"{}\"}}", base64(256));
    let body = format!("{{\"key\":\"orders\",\"batch\":[{}]}}", vec![item; ITEMS].join(","));
    let read = Members::read(body.as_bytes(), SHAPE);
    let batch = read.ok().and_then(|members| members.batch);
    let Some(batch) = batch else { return };
    assert_eq!(check_batch(batch, ITEM).ok(), Some(ITEMS));
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function(BenchmarkId::new("batch", ITEMS), |bencher| {
        bencher.iter(|| check_batch(black_box(batch), ITEM).is_ok());
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    members(&mut criterion);
    criterion.final_summary();
}
