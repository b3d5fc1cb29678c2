//! What metrics cost on the way of a request: instructions, counted by callgrind.
//!
//! Counted in a child, which is this program again: it counts a hundred requests, or serves them, within [`probe`], and
//! nothing else of it is counted. Served in memory, a request costs less than it ever does with sockets.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that meets what it does not expect fails")]

#[path = "support/in_process.rs"]
mod in_process;

use std::fs::OpenOptions;
use std::process::Command;

use in_process::{InProcess, KEY, request};
use quantonium::metrics::{Exemplar, Worker};
use quantonium::model::RequestId;

const CASE: &str = "QUANTONIUM_METRICS_CASE";
const TIMES: u64 = 100;

/// What is counted: everything that happens within.
#[inline(never)]
fn probe<R>(work: impl FnOnce() -> R) -> R {
    std::hint::black_box(work())
}

/// Does what this case names.
fn run(case: &str) {
    match case {
        "count" => {
            let worker = Worker::new(40, 30);
            let exemplars: Vec<Exemplar> = (0..=TIMES)
                .map(|number| Exemplar {
                    id: RequestId::new(7, number),
                    micros: 80 + number,
                    at_millis: number,
                })
                .collect();
            let count =
                |exemplar: &Exemplar| worker.count_request(Some(0), 1, std::hint::black_box(exemplar));
            let (first, rest) = exemplars.split_first().unwrap();
            count(first);
            probe(|| rest.iter().for_each(count));
        }
        "serve" => {
            let audit = OpenOptions::new().write(true).open("/dev/null").unwrap();
            let mut worker = InProcess::new(audit, 64 * 1024);
            let body = format!("{{\"key\":\"{KEY}\",\"plaintext\":\"{}\"}}", "A".repeat(344));
            let asking =
                request(&worker.credential.clone(), "/api/encrypt", "application/json", body.as_bytes());
            let is_good = |reply: &[u8]| reply.starts_with(b"HTTP/1.1 200 ");
            assert!(worker.exchange(&asking, is_good));
            let good = probe(|| (0..TIMES).filter(|_| worker.exchange(&asking, is_good)).count());
            assert_eq!(good as u64, TIMES);
        }
        other => panic!("{other}"),
    }
}

/// The instructions of a case.
fn count(case: &str) -> u64 {
    let out = std::env::temp_dir().join(format!("quantonium-metrics-{}-{case}", std::process::id()));
    let ended = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*probe*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_does_one_case", "--test-threads=1"])
        .env(CASE, case)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{case}: {said}");
    let told = std::fs::read_to_string(&out).unwrap();
    std::fs::remove_file(&out).unwrap();
    let totals = told.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap_or_default();
    totals.trim().parse().unwrap_or_else(|_| panic!("{case}: {said}"))
}

#[test]
fn the_child_does_one_case() {
    // Only the child has a case; for everybody else there is nothing to do here.
    let case = std::env::var(CASE).unwrap_or_else(|_| "count".to_owned());
    assert!(!case.is_empty());
    run(&case);
}

#[test]
fn counting_a_request_costs_next_to_nothing() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind is not installed");
        assert!(std::env::var("QUANTONIUM_REQUIRE").as_deref() != Ok("1"), "required: valgrind");
        return;
    }
    let (counted, served) = (count("count"), count("serve"));
    println!("to count a request: {} instructions, to serve it: {}", counted / TIMES, served / TIMES);
    assert!(counted > TIMES * 10, "the counting was counted: {counted}");
    assert!(counted * 100 <= served, "more than a hundredth: {counted} of {served}");
}
