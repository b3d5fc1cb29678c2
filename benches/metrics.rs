//! What metrics and the log cost a request that is answered: its counters, and the question whether the log tells of it.
//!
//! `tests/metrics_cost.rs` counts the same in instructions, against those of a whole request.

use core::sync::atomic::{AtomicBool, Ordering};
use std::hint::black_box;

use criterion::{Criterion, Throughput};
use quantonium::api::route;
use quantonium::http::status::Status;
use quantonium::log::{self, Level, Module};
use quantonium::metrics::{Exemplar, Worker};
use quantonium::model::RequestId;

fn worker() -> Worker {
    Worker::new(route::TABLE.len(), Status::ALL.len())
}

/// What requests bring with them: each of another route, and slower than the one before.
fn exemplars() -> Vec<(u16, Exemplar)> {
    let made = (0_u16..64).map(|number| {
        let id = RequestId::new(7, number.into());
        (number % 8, Exemplar { id, micros: 70 + u64::from(number), at_millis: number.into() })
    });
    made.collect()
}

/// Counts all of them, as answered with 200.
fn count(worker: &Worker, all: &[(u16, Exemplar)]) {
    for (route, exemplar) in all {
        worker.count_request(black_box(Some(*route)), black_box(Status::Ok.place()), black_box(exemplar));
    }
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metrics");
    let (own, all) = (worker(), exemplars());
    group.throughput(Throughput::Elements(all.len() as u64));
    group.bench_function("count 64 requests", |bencher| bencher.iter(|| count(&own, &all)));
    // Another worker counts at the same time: what is its own is on other cache lines.
    let (other, is_over) = (worker(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                count(&other, &all);
            }
        });
        group.bench_function("count 64 requests beside another worker", |bencher| {
            bencher.iter(|| count(&own, &all));
        });
        is_over.store(true, Ordering::Relaxed);
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("ask whether the log tells of it", |bencher| {
        bencher.iter(|| log::is_told(black_box(Level::Debug), black_box(Module::Http)));
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    requests(&mut criterion);
    criterion.final_summary();
}
