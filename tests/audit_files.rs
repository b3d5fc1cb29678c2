//! Audit files over time, by the real binary: a stream goes on in a further file without losing a line, old files are
//! compressed and removed, and a server that is killed meanwhile leaves nothing half done to the next one.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its functions too")]

#[path = "simulation/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;
#[path = "support/small_disk.rs"]
mod small_disk;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::sys::signal::Signal;
use quantonium::audit::part;
use quantonium::audit::{Stream, StreamName};
use random::Random;
use serde_json::Value;
use server::client::{Reply, Request};
use server::{Scratch, Server, binary, comes};
use small_disk::SmallDisk;

const ORDERS: &str = "{\"name\":\"orders\"}";
const SEAL: &str = "{\"key\":\"orders\",\"plaintext\":\"aGVsbG8=\"}";
const MIB: usize = 1024 * 1024;
const DAY: Duration = Duration::from_secs(86_400);

/// The audit files, by name of the part and whether it is compressed.
fn files(data_dir: &Path) -> BTreeMap<(StreamName, bool), PathBuf> {
    let entries = fs::read_dir(data_dir.join("audit")).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        (StreamName::parse_file(name).unwrap_or_else(|| panic!("{name}")), path)
    };
    entries.map(named).collect()
}

fn content(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    part::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

/// The lines of each stream, over all of its parts. Fails on a line that is torn, unless `killed`: then the last line of a
/// stream may be.
fn lines(data_dir: &Path, killed: bool) -> BTreeMap<Stream, Vec<Value>> {
    let mut streams: BTreeMap<Stream, Vec<Value>> = BTreeMap::new();
    for ((name, _), path) in files(data_dir) {
        let lines = streams.entry(name.stream()).or_default();
        for line in part::open(&path).unwrap().split(b'\n') {
            match serde_json::from_slice(&line.unwrap()) {
                Ok(line) => lines.push(line),
                Err(error) => assert!(killed, "{}: {error}", path.display()),
            }
        }
    }
    streams
}

fn number(line: &Value, member: &str) -> u64 {
    line.get(member).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {member}: {line}"))
}

/// Asserts that every number of a stream has its line, once and in order.
fn assert_counted(streams: &BTreeMap<Stream, Vec<Value>>) {
    for (stream, lines) in streams {
        for (line, expected) in lines.iter().zip(1..) {
            assert_eq!(number(line, "seq"), expected, "{stream}");
        }
    }
}

/// Asserts that each of these requests has a line.
fn assert_told(streams: &BTreeMap<Stream, Vec<Value>>, requests: &[String]) {
    let id = |line: &Value| line.get("request_id").and_then(Value::as_str).map(str::to_owned);
    let told: BTreeSet<String> = streams.values().flatten().filter_map(id).collect();
    let untold = requests.iter().find(|id| !told.contains(*id));
    assert_eq!(untold, None, "of {} requests", requests.len());
}

/// Seals `rounds` times 32 on a connection of its own; returns the identifiers of what was answered.
fn load(server: &Server, rounds: usize) -> Vec<String> {
    let mut client = server.connect();
    let wave: Vec<u8> = Request::post("/api/encrypt", SEAL).key(server.key()).bytes().repeat(32);
    let mut ids = Vec::new();
    for _ in 0..rounds {
        client.send(&wave);
        for _ in 0..32 {
            let reply: Reply = client.reply();
            assert_eq!(reply.status, 200, "{reply:?}");
            ids.push(reply.field("X-Request-Id").unwrap().to_owned());
        }
    }
    ids
}

const FLAGS: [&str; 5] = [
    "--workers=2",
    "--audit-rotate-bytes=1MiB",
    "--max-requests-per-connection=1000000000",
    "--audit-max-bytes=0",
    "--audit-retention-days=0",
];

/// Waits until the server's files are so; asks it meanwhile, so that the wait is as long as the server takes.
fn await_files(server: &Server, what: &str, done: impl Fn(&BTreeMap<(StreamName, bool), PathBuf>) -> bool) {
    let mut client = server.connect();
    let came = comes(|| {
        let reply = client.call(&Request::get("/api/health/live"));
        assert_eq!(reply.status, 200);
        if reply.closes() {
            client = server.connect();
        }
        done(&files(&server.data_dir()))
    });
    assert!(came, "never: {what}");
}

/// Lines that a start long ago may have written, of about so many bytes, all different.
fn old_lines(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut bytes = Vec::with_capacity(len + 128);
    let mut seq = 0;
    while bytes.len() < len {
        seq += 1;
        let line =
            format!("{{\"seq\":{seq},\"event\":\"encrypt\",\"request_id\":\"{:032x}\"}}\n", random.next());
        bytes.extend_from_slice(line.as_bytes());
    }
    bytes
}

/// Puts a part of an earlier start there, whose last line was written `ago`.
fn put_old(data_dir: &Path, name: &str, bytes: &[u8], ago: Duration) -> PathBuf {
    let path = data_dir.join("audit").join(name);
    fs::write(&path, bytes).unwrap();
    own(&path);
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(SystemTime::now() - ago).unwrap();
    path
}

/// Gives a file to the user that serves.
fn own(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(1001), Some(1001)).unwrap();
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_stream_goes_on_in_further_files_and_no_line_is_lost_or_told_twice() {
    const CLIENTS: usize = 4;
    let scratch = Scratch::in_memory();
    let Some(server) = Server::start_in(&scratch, &FLAGS) else { return };
    assert_eq!(server.ask(Request::post("/api/keys", ORDERS)).status, 201);
    let server = Arc::new(server);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let server = Arc::clone(&server);
            std::thread::spawn(move || load(&server, 250))
        })
        .collect();
    let mut told: Vec<String> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert_eq!(told.len(), CLIENTS * 250 * 32);
    // A stream goes on where it is while the archivist, who makes the next file, has not had its turn.
    let count = |files: &BTreeMap<(StreamName, bool), PathBuf>| {
        files.keys().filter(|(name, _)| name.part > 2).count()
    };
    let enough = comes(|| {
        let is_enough = count(&files(&server.data_dir())) >= 4;
        if !is_enough {
            told.extend(load(&server, 100));
        }
        is_enough
    });
    assert!(enough, "{:?}", files(&server.data_dir()));
    let ended = Arc::into_inner(server).unwrap().stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let data_dir = scratch.data_dir();
    let streams = lines(&data_dir, false);
    assert_counted(&streams);
    assert_told(&streams, &told);
    let found = files(&data_dir);
    // All but the last two of each stream were left because of their length.
    let left = found
        .iter()
        .filter(|((name, _), _)| found.contains_key(&(StreamName { part: name.part + 2, ..*name }, false)));
    let lens: Vec<u64> = left.map(|(_, path)| fs::metadata(path).unwrap().len() / MIB as u64).collect();
    assert!(!lens.contains(&0) && lens.contains(&1), "MiB: {lens:?}");
}

#[test]
fn old_parts_are_compressed_and_the_oldest_removed_and_that_is_told() {
    let scratch = Scratch::in_memory();
    let Some(server) = Server::start_in(&scratch, &FLAGS) else { return };
    assert_eq!(server.stop().code, Some(0));
    let data_dir = scratch.data_dir();
    let bytes = old_lines(1, 2 * MIB);
    let compressed_len = 1_100_000;
    for (name, days) in [
        ("100-00000001-w0-0001.jsonl", 9),
        ("100-00000001-k-0001.jsonl", 8),
        ("200-00000001-w0.jsonl", 7),
        ("300-00000001-w0-0001.jsonl", 1),
    ] {
        put_old(&data_dir, name, &bytes, days * DAY);
    }
    // Room for two of the four.
    let max = format!("--audit-max-bytes={}", 5 * MIB);
    let Some(server) = Server::start_in(&scratch, &["--workers=1", &max]) else { return };
    let name = |text: &str| StreamName::parse(text).unwrap();
    let (kept, last) = (name("200-00000001-w0"), name("300-00000001-w0-0001"));
    let is_compressed = |files: &BTreeMap<(StreamName, bool), PathBuf>| {
        [kept, last]
            .iter()
            .all(|part| files.contains_key(&(*part, true)) && !files.contains_key(&(*part, false)))
    };
    await_files(&server, "compressed", is_compressed);
    let found = files(&data_dir);
    for part in [kept, last] {
        let path = found.get(&(part, true)).unwrap();
        assert!(content(path) == bytes, "{part} comes back whole");
        assert!(fs::metadata(path).unwrap().len() < compressed_len, "{part} is shorter");
    }
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let gone = ["100-00000001-w0-0001", "100-00000001-k-0001"];
    let streams = lines(&data_dir, false);
    let removed = streams.values().flatten().filter(|line| line.get("event").unwrap() == "audit.removed");
    let removed: Vec<&str> = removed.map(|line| line.get("file").and_then(Value::as_str).unwrap()).collect();
    assert_eq!(removed, gone, "the oldest, in order");
    for part in gone {
        assert!(!found.contains_key(&(name(part), false)) && !found.contains_key(&(name(part), true)));
        assert!(ended.stderr.contains(&format!("{part}.jsonl was removed")), "{ended:?}");
    }
    // What was compressed is witness and log still.
    let Some(server) = Server::start_in(&scratch, &["--workers=1", "--audit-compress=off"]) else { return };
    assert_eq!(server.ask(Request::post("/api/keys", ORDERS)).status, 201);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn parts_that_are_older_than_they_may_be_are_removed() {
    let scratch = Scratch::in_memory();
    let Some(server) = Server::start_in(&scratch, &FLAGS) else { return };
    assert_eq!(server.stop().code, Some(0));
    let data_dir = scratch.data_dir();
    put_old(&data_dir, "100-00000001-w0-0001.jsonl", b"{}\n", 3 * DAY);
    put_old(&data_dir, "200-00000001-w0-0001.jsonl", b"{}\n", DAY);
    let flags = ["--workers=1", "--audit-retention-days=2", "--audit-compress=off"];
    let Some(server) = Server::start_in(&scratch, &flags) else { return };
    let of = |text: &str| (StreamName::parse(text).unwrap(), false);
    await_files(&server, "removed", |files| !files.contains_key(&of("100-00000001-w0-0001")));
    assert!(files(&data_dir).contains_key(&of("200-00000001-w0-0001")));
    assert_eq!(server.stop().code, Some(0));
    assert!(files(&data_dir).contains_key(&of("200-00000001-w0-0001")), "and it is not compressed");
}

#[test]
fn a_server_that_is_killed_at_work_on_its_files_loses_no_line_and_leaves_nothing_half_done() {
    const KILLS: u64 = 12;
    let scratch = Scratch::in_memory();
    if binary().is_none() {
        return;
    }
    let server = Server::start_in(&scratch, &FLAGS).unwrap();
    assert_eq!(server.ask(Request::post("/api/keys", ORDERS)).status, 201);
    assert_eq!(server.stop().code, Some(0));
    let data_dir = scratch.data_dir();
    let old: Vec<(StreamName, Vec<u8>)> = (1..=KILLS)
        .map(|number| {
            let name = format!("100-00000001-w0-{number:04}");
            let bytes = old_lines(number, 3 * MIB);
            put_old(&data_dir, &format!("{name}.jsonl"), &bytes, DAY);
            (StreamName::parse(&name).unwrap(), bytes)
        })
        .collect();
    let mut random = Random::new(7);
    let (mut told, mut unfinished, mut seen) = (Vec::new(), 0, 0);
    for _ in 0..KILLS {
        let server = Server::start_in(&scratch, &FLAGS).unwrap();
        // The first look at old parts comes with the first tick, and compressing all of them takes longer than this.
        let begun = |files: &BTreeMap<(StreamName, bool), PathBuf>| files.keys().any(|(_, packed)| *packed);
        told.extend(load(&server, 60));
        if seen < 3 {
            await_files(&server, "begun to compress", begun);
        }
        let more = usize::try_from(random.next() % 60).unwrap();
        told.extend(load(&server, more));
        server.signal(Signal::SIGKILL);
        assert_eq!(server.wait().code, None);
        let found = files(&data_dir);
        unfinished +=
            found.keys().filter(|(name, packed)| *packed && found.contains_key(&(*name, false))).count();
        seen = found.keys().filter(|(_, packed)| *packed).count();
        assert_told(&lines_of_plain(&data_dir), &told);
    }
    println!("{unfinished} of {KILLS} kills left a part that was being compressed");
    let server = Server::start_in(&scratch, &FLAGS).unwrap();
    let all = |files: &BTreeMap<(StreamName, bool), PathBuf>| {
        old.iter().all(|(name, _)| files.contains_key(&(*name, true)) && !files.contains_key(&(*name, false)))
    };
    await_files(&server, "all compressed", all);
    let found = files(&data_dir);
    for (name, bytes) in &old {
        assert!(content(found.get(&(*name, true)).unwrap()) == *bytes, "{name}");
    }
    let both = found.keys().find(|(name, packed)| *packed && found.contains_key(&(*name, false)));
    assert_eq!(both, None);
    let empty = found.iter().filter(|(_, path)| fs::metadata(path).unwrap().len() == 0);
    let stale = empty.filter(|((name, _), _)| name.part > 1).count();
    assert_eq!(stale, 3, "successors of this start alone");
    assert_eq!(server.stop().code, Some(0));
}

/// The lines of what is not being compressed.
fn lines_of_plain(data_dir: &Path) -> BTreeMap<Stream, Vec<Value>> {
    let mut streams: BTreeMap<Stream, Vec<Value>> = BTreeMap::new();
    for ((name, packed), path) in files(data_dir) {
        if !packed && name.start.seconds > 0x100 {
            let text = fs::read(&path).unwrap();
            let lines =
                text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
            streams.entry(name.stream()).or_default().extend(lines);
        }
    }
    streams
}

#[test]
fn a_disk_that_is_full_is_warned_of_and_a_part_that_cannot_be_compressed_stays() {
    let Some(disk) = SmallDisk::mount("6m") else { return };
    let Some(server) = Server::start_in(&disk.scratch, &FLAGS) else { return };
    assert_eq!(server.stop().code, Some(0));
    let data_dir = disk.scratch.data_dir();
    let bytes = old_lines(3, 2 * MIB);
    let path = put_old(&data_dir, "100-00000001-w0-0001.jsonl", &bytes, DAY);
    disk.fill();
    let Some(server) = Server::start_in(&disk.scratch, &["--workers=1"]) else { return };
    let mut client = server.connect();
    let low = comes(|| {
        let reply = client.call(&Request::get("/api/health"));
        assert_eq!(reply.status, 200, "{reply:?}");
        if reply.closes() {
            client = server.connect();
        }
        reply.text().contains("The file system of the audit log is low on space.")
    });
    assert!(low, "nobody is warned");
    let ended = server.stop();
    assert_eq!(ended.code, Some(0));
    assert!(
        ended.stderr.contains("WARN audit: its file system is low on space: 0 MiB are left"),
        "{ended:?}"
    );
    assert!(fs::read(&path).unwrap() == bytes, "the part is as it was");
    disk.make_room();
    // Whatever the attempt has left, if it was cut off by the end: the next start begins anew.
    let Some(server) = Server::start_in(&disk.scratch, &["--workers=1"]) else { return };
    await_files(&server, "compressed", |files| files.keys().any(|(_, packed)| *packed) && !path.exists());
    assert!(content(&path.with_extension("jsonl.gz")) == bytes);
}
