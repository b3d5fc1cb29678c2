//! What a request writes of memory that all workers share: instructions that lock a cache line, counted by callgrind.
//!
//! Counted in a child, which is this program again: it serves many pipelined requests in one turn of the loop within [`probe`], and once more
//! only a part of them; the difference is what one more request of a busy turn costs. What is locked once for each turn does not count.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that meets what it does not expect fails, and says what it found"
)]

#[path = "support/in_process.rs"]
mod in_process;

use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;

use in_process::{InProcess, KEY, request};

const CASE: &str = "QUANTONIUM_SHARED_LINES_CASE";
const FEW: u64 = 8;
const MANY: u64 = 40;

/// What is counted: everything that happens within.
#[inline(never)]
fn probe<R>(work: impl FnOnce() -> R) -> R {
    std::hint::black_box(work())
}

/// Serves so many requests at once.
fn serve(times: u64) {
    let audit = OpenOptions::new().write(true).open("/dev/null").unwrap();
    let mut worker = InProcess::new(audit, 64 * 1024);
    let body = format!("{{\"key\":\"{KEY}\",\"plaintext\":\"{}\"}}", "A".repeat(344));
    let one = request(&worker.credential.clone(), "/api/encrypt", "application/json", body.as_bytes());
    let asking = one.repeat(usize::try_from(times).unwrap());
    let good = |reply: &[u8]| reply.windows(13).filter(|window| *window == b"HTTP/1.1 200 ").count() as u64;
    assert_eq!(worker.exchange(&asking, good), times);
    assert_eq!(probe(|| worker.exchange(&asking, good)), times);
}

#[test]
fn the_child_serves_what_it_is_told() {
    // Only the child is told; for everybody else one request will do.
    serve(std::env::var(CASE).map_or(1, |times| times.parse().unwrap()));
}

fn output(command: &mut Command) -> String {
    let ended = command.output().unwrap();
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    String::from_utf8_lossy(&ended.stdout).into_owned()
}

/// The places of all instructions of this program that lock a cache line; an exchange with memory does without saying so.
fn locking() -> HashSet<u64> {
    let program = std::env::current_exe().unwrap();
    let listing = output(Command::new("objdump").args(["--disassemble", "--no-show-raw-insn"]).arg(program));
    let locks = |code: &str| code.starts_with("lock ") || (code.starts_with("xchg ") && code.contains('('));
    let of_line = |line: &str| {
        let (place, code) = line.trim_start().split_once(":\t")?;
        locks(code.trim_start()).then(|| u64::from_str_radix(place, 16).ok()).flatten()
    };
    listing.lines().filter_map(of_line).collect()
}

/// How often each instruction ran, by its place, in the form of callgrind: a cost line begins with a place, in full or beside the last one, and the
/// line behind `calls=` is of what was called.
fn runs(told: &str) -> HashMap<u64, u64> {
    let (mut place, mut called, mut runs) = (0_u64, false, HashMap::new());
    for line in told.lines() {
        let mut words = line.split(' ');
        let first = words.next().unwrap_or_default();
        let next = match first.as_bytes().first() {
            Some(b'0') => u64::from_str_radix(first.trim_start_matches("0x"), 16).ok(),
            Some(b'+') => first[1..].parse().ok().map(|more: u64| place + more),
            Some(b'-') => first[1..].parse().ok().map(|less: u64| place - less),
            Some(b'*') => Some(place),
            _ => None,
        };
        let cost = words.nth(1).and_then(|cost| cost.parse::<u64>().ok());
        if let (Some(next), Some(cost)) = (next, cost) {
            place = next;
            if !std::mem::take(&mut called) {
                *runs.entry(place).or_default() += cost;
            }
        } else if line.starts_with("calls=") {
            called = true;
        }
    }
    runs
}

/// How often a line was locked while so many requests were served.
fn locked(times: u64, locking: &HashSet<u64>) -> u64 {
    let name = format!("quantonium-shared-lines-{}-{times}", std::process::id());
    let out = std::env::temp_dir().join(name);
    output(
        Command::new("valgrind")
            .args(["--tool=callgrind", "--dump-instr=yes", "--collect-atstart=no"])
            .args(["--toggle-collect=*probe*", &format!("--callgrind-out-file={}", out.display())])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "the_child_serves_what_it_is_told", "--test-threads=1"])
            .env(CASE, times.to_string()),
    );
    let told = std::fs::read_to_string(&out).unwrap();
    std::fs::remove_file(&out).unwrap();
    let runs = runs(&told);
    let all: u64 = runs.values().sum();
    assert!(all > times * 10_000, "the serving was counted: {all} instructions");
    if std::env::var_os("QUANTONIUM_SHARED_LINES_SHOW").is_some() {
        for (place, count) in runs.iter().filter(|(place, count)| locking.contains(place) && **count >= times)
        {
            println!("{times}: {place:#x} {count}");
        }
    }
    runs.iter().filter(|(place, _)| locking.contains(place)).map(|(_, count)| count).sum()
}

fn is_there(program: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|folder| Path::new(&folder).join(program).exists());
    if !found {
        println!("skipped: {program} is not installed");
        assert!(std::env::var("QUANTONIUM_REQUIRE").as_deref() != Ok("1"), "required: {program}");
    }
    found
}

#[test]
fn one_more_request_of_a_turn_locks_hardly_any_cache_line() {
    if !cfg!(target_arch = "x86_64") || !is_there("valgrind") || !is_there("objdump") {
        return;
    }
    let locking = locking();
    assert!(locking.len() > 20, "the instructions were found: {}", locking.len());
    let (few, many) = (locked(FEW, &locking), locked(MANY, &locking));
    let each = (many - few) as f64 / (MANY - FEW) as f64;
    println!("locked cache lines: {few} for {FEW} requests, {many} for {MANY}: {each:.2} for each more");
    assert!(each >= 2.0, "the counters of an API key and of a key are told of each: {each}");
    assert!(each <= 6.5, "the account of what it leases, too: {each}");
}
