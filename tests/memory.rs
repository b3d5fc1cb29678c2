//! The heap of the program once it is closed: what happens when it is spent, and that a server under load maps nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/server.rs"]
mod server;

use std::collections::BTreeSet;
use std::process::{Command, Output};

use quantonium::limits::ARENA_GRAIN_BYTES;
use quantonium::memory::{self, ProcessHeap};
use server::Server;
use server::client::Request;

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: ProcessHeap = ProcessHeap;

/// Names what the child of a test does.
const CHILD: &str = "QUANTONIUM_TEST_MEMORY";
const REGION: usize = 256 * ARENA_GRAIN_BYTES;

/// Not a test of its own: the process in which the tests below spend a heap.
#[test]
fn spends_its_heap_when_asked_to() {
    let Some(how) = std::env::var_os(CHILD) else { return };
    let bytes = memory::close(REGION, REGION, 0).unwrap();
    assert_eq!(bytes, REGION);
    if how == "refused" {
        assert!(memory::zeroed(2 * REGION).is_none());
        let piece = memory::zeroed(REGION / 2).unwrap();
        assert!(piece.iter().all(|byte| *byte == 0));
        assert!(memory::zeroed(REGION / 2).is_none(), "beside the first there is less than a half");
        drop(piece);
        assert!(memory::zeroed(REGION / 2).is_some(), "what was given back is there again");
        return;
    }
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1_u8; 100_000]);
    }
}

fn child(how: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "spends_its_heap_when_asked_to", "--nocapture"])
        .env(CHILD, how)
        .output()
        .unwrap()
}

#[test]
fn a_heap_that_is_spent_ends_the_process_with_a_line_and_71() {
    let output = child("spent");
    assert_eq!(output.status.code(), Some(71), "{}", output.status);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.ends_with('\n') && said.lines().any(|line| line.starts_with("quantonium: memory is spent")),
        "{said}"
    );
}

#[test]
fn what_may_be_refused_is_refused_and_the_process_goes_on() {
    let output = child("refused");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Every mapping of the process, but for how far the main thread's stack has grown.
fn mappings(pid: u32) -> BTreeSet<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    maps.lines().filter(|line| !line.ends_with("[stack]")).map(str::to_owned).collect()
}

#[test]
fn a_server_under_load_maps_nothing_and_gives_nothing_back() {
    let flags = ["--workers", "2", "--max-connections-per-address", "0"];
    let Some(server) = Server::start(&flags) else { return };
    assert_eq!(server.ask(Request::post("/api/keys", "{\"name\":\"orders\"}")).status, 201);
    let before = mappings(server.pid());
    let plaintext = "QUJD".repeat(300_000);
    let large = format!("{{\"key\":\"orders\",\"plaintext\":\"{plaintext}\"}}");
    let small = "{\"key\":\"orders\",\"plaintext\":\"aGVsbG8=\"}";
    let mut clients: Vec<_> = (0..48).map(|_| server.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let body = if number % 4 == 0 { large.as_str() } else { small };
        assert_eq!(client.call(&Request::post("/api/encrypt", body).key(server.key())).status, 200);
    }
    for number in 0..50 {
        let body = format!("{{\"name\":\"key-{number}\"}}");
        assert_eq!(server.ask(Request::post("/api/keys", &body)).status, 201);
    }
    drop(clients);
    assert_eq!(mappings(server.pid()), before);
    assert_eq!(server.stop().code, Some(0));
}
