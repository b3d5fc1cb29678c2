//! What other benches are measured by: work that has nothing of the project in it.
//!
//! Owns the group `yardstick`. A machine that is twice as fast today is so for these loops too; `scripts/bench-compare` divides
//! by their time. They must never change: every figure of benches/baseline.json hangs on them.

use std::hint::black_box;

use criterion::Criterion;

/// A chain of multiplications, each of which waits for the last one: the speed of the core, without memory.
fn chain(mut state: u64) -> u64 {
    for _ in 0..1_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).rotate_left(23) ^ 0x9E37_79B9_7F4A_7C15;
    }
    state
}

/// Bytes that are copied and summed: the nearest caches, and what compilers make of plain loops.
fn copies(source: &[u8], target: &mut [u8]) -> u64 {
    target.copy_from_slice(source);
    target.iter().fold(0, |sum, byte| sum + u64::from(*byte))
}

fn yardstick(c: &mut Criterion) {
    let mut group = c.benchmark_group("yardstick");
    group.bench_function("chain", |bencher| bencher.iter(|| chain(black_box(7))));
    let (source, mut target) = (vec![3; 16 << 10], vec![0; 16 << 10]);
    group.bench_function("copies", |bencher| bencher.iter(|| copies(black_box(&source), &mut target)));
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    yardstick(&mut criterion);
    criterion.final_summary();
}
