//! Whole requests through memory: the real application, executor and connection, without a kernel between.
//!
//! What remains of a request's cost when sockets are taken away. The audit lines are written to `/dev/null`.

#![allow(missing_docs, reason = "the entry points are made by criterion's macros")]

#[path = "../tests/support/in_process.rs"]
mod in_process;

use std::fs::OpenOptions;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use in_process::{InProcess, KEY, body_of, member, request};
use quantonium::encoding::{base64_encode, base64_len};

const MESSAGES_BYTES: usize = 256 * 1024;

#[expect(clippy::unwrap_used, reason = "a bench without its worker has nothing to measure")]
fn worker() -> InProcess {
    let audit = OpenOptions::new().write(true).open("/dev/null").unwrap();
    InProcess::new(audit, MESSAGES_BYTES)
}

fn base64(size: usize) -> String {
    let mut text = vec![0; base64_len(size)];
    base64_encode(&vec![b'p'; size], &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

fn count_replies(reply: &[u8]) -> usize {
    reply.windows(13).filter(|window| *window == b"HTTP/1.1 200 ").count()
}

fn health(criterion: &mut Criterion) {
    let mut worker = worker();
    let mut group = criterion.benchmark_group("request/health");
    for pipelined in [1, 16] {
        let asking = request("unused", "/api/health", "", b"").repeat(pipelined);
        assert_eq!(worker.exchange(&asking, count_replies), pipelined);
        group.throughput(Throughput::Elements(pipelined as u64));
        group.bench_function(format!("pipelined_{pipelined}"), |bencher| {
            bencher.iter(|| worker.exchange(&asking, <[u8]>::len));
        });
    }
    group.finish();
}

fn json(criterion: &mut Criterion) {
    let mut worker = worker();
    let credential = worker.credential.clone();
    let mut group = criterion.benchmark_group("request/json");
    for size in [256, 1024, 16 * 1024, 64 * 1024] {
        let body = format!("{{\"key\":\"{KEY}\",\"plaintext\":\"{}\"}}", base64(size));
        let sealing = request(&credential, "/api/encrypt", "application/json", body.as_bytes());
        let ciphertext = worker.exchange(&sealing, |reply| member(body_of(reply), "ciphertext").to_owned());
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("encrypt_{size}"), |bencher| {
            bencher.iter(|| worker.exchange(&sealing, <[u8]>::len));
        });
        if size == 1024 {
            let body = format!("{{\"key\":\"{KEY}\",\"ciphertext\":\"{ciphertext}\"}}");
            let opening = request(&credential, "/api/decrypt", "application/json", body.as_bytes());
            assert!(worker.exchange(&opening, |reply| body_of(reply).starts_with(b"{\"plaintext\":\"")));
            group.bench_function(format!("decrypt_{size}"), |bencher| {
                bencher.iter(|| worker.exchange(&opening, <[u8]>::len));
            });
        }
    }
    group.finish();
}

fn raw(criterion: &mut Criterion) {
    let mut worker = worker();
    let credential = worker.credential.clone();
    let mut group = criterion.benchmark_group("request/raw");
    for size in [1024, 16 * 1024] {
        let target = format!("/api/encrypt?key={KEY}");
        let sealing = request(&credential, &target, "application/octet-stream", &vec![b'p'; size]);
        assert!(worker.exchange(&sealing, |reply| body_of(reply).len()) > size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(format!("encrypt_{size}"), |bencher| {
            bencher.iter(|| worker.exchange(&sealing, <[u8]>::len));
        });
    }
    group.finish();
}

criterion_group!(benches, health, json, raw);
criterion_main!(benches);
