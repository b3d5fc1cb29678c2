//! The audit log of the live server: nothing is answered that it does not tell, nothing secret stands in it, and when
//! it cannot be written the server refuses instead of going on in silence.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/server.rs"]
mod server;
#[path = "support/small_disk.rs"]
mod small_disk;
#[path = "audit/told.rs"]
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use quantonium::audit::StreamName;
use serde_json::Value;
use server::client::{Client, Reply, Request};
use server::{Scratch, Server, comes, read_lines, skip};
use small_disk::SmallDisk;

const ORDERS: &str = "{\"name\":\"orders\"}";
const SEAL: &str = "{\"key\":\"orders\",\"plaintext\":\"aGVsbG8=\"}";

/// A line of an audit file.
struct Line(Value);

impl Line {
    fn text(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, name: &str) -> u64 {
        let number = self.0.get(name).and_then(Value::as_u64);
        number.unwrap_or_else(|| panic!("no number {name} in {}", self.0))
    }

    /// The line that counts refusals of callers whom nobody recognised.
    fn is_count(&self) -> bool {
        self.text("event") == "auth.refused"
    }

    fn is_gap(&self) -> bool {
        self.text("event") == "audit.gap"
    }
}

/// The lines of every stream over all its parts, by its name. Fails on a line that is torn or not JSON.
fn streams(data_dir: &Path) -> BTreeMap<String, Vec<Line>> {
    let files = fs::read_dir(data_dir.join("audit")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.collect();
    files.sort();
    let read = |path: PathBuf| {
        let stem = path.file_stem().unwrap().to_str().unwrap();
        let stream = StreamName::parse(stem).unwrap().stream().to_string();
        let text = read_lines(&path);
        let mut lines: Vec<Line> = text
            .lines()
            .map(|line| Line(serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"))))
            .collect();
        assert!(lines.iter().all(|line| line.text("stream") == stream), "{stream}");
        let of_request = |line: &Line| !line.text("request_id").is_empty();
        if stream.ends_with("-k") && !lines.iter().any(of_request) {
            // Starts, stops and where the store stood are told apart from any request.
            lines.clear();
        }
        (stream, lines)
    };
    let mut streams: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for (stream, lines) in files.into_iter().map(read) {
        streams.entry(stream).or_default().extend(lines);
    }
    streams
}

/// Fails unless every number from 1 up to the last one stands in a line of its own, in order, or is named by a gap
/// record before any later line. A gap may name a line too: one that was written while its request was refused.
/// Returns the numbers that the gap records name.
fn assert_accounted_for(stream: &str, lines: &[Line]) -> BTreeSet<u64> {
    let mut next = 1;
    let mut named = BTreeSet::new();
    for line in lines {
        let seq = line.number("seq");
        assert!(seq >= next, "{stream}: {seq} stands after {}", next - 1);
        if line.is_gap() {
            let (first, last) = (line.number("first"), line.number("last"));
            assert!(first <= last && last < seq, "{stream}: {}", line.0);
            for number in first..=last {
                assert!(named.insert(number), "{stream}: {number} is named twice");
            }
        }
        let missing = (next..seq).find(|number| !named.contains(number));
        assert_eq!(missing, None, "{stream}: not named before {seq}");
        next = seq + 1;
    }
    named
}

/// Fails unless each of these requests has exactly one line that is no attempt and that no gap takes back, and its
/// status stands there; of those without a valid credential some are only counted. Returns how many numbers are named by gaps.
fn assert_told(streams: &BTreeMap<String, Vec<Line>>, replies: &[Reply]) -> usize {
    let mut told: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    let mut gaps = 0;
    for (stream, lines) in streams {
        let named = assert_accounted_for(stream, lines);
        gaps += named.len();
        let single = |line: &&Line| !line.is_gap() && !line.is_count() && line.text("outcome") != "attempt";
        for line in lines.iter().filter(single) {
            if !named.contains(&line.number("seq")) {
                told.entry(line.text("request_id")).or_default().push(line.number("status"));
            }
        }
    }
    let counted: u64 =
        streams.values().flatten().filter(|line| line.is_count()).map(|line| line.number("count")).sum();
    let untold =
        |reply: &&Reply| reply.status == 401 && !told.contains_key(reply.field("X-Request-Id").unwrap());
    assert_eq!(replies.iter().filter(untold).count() as u64, counted, "refusals without a line are counted");
    for reply in replies.iter().filter(|reply| !untold(reply)) {
        let id = reply.field("X-Request-Id").unwrap();
        assert_eq!(told.get(id), Some(&vec![u64::from(reply.status)]), "{id}: {reply:?}");
    }
    gaps
}

/// Everything of one client: a key of its own, then seals, opens and refusals in turn, some of them pipelined.
fn mixed_load(server: &Server, name: &str, rounds: usize) -> Vec<Reply> {
    let mut client = server.connect();
    let key = server.key();
    let mut replies =
        vec![client.call(&Request::post("/api/keys", format!("{{\"name\":\"{name}\"}}")).key(key))];
    for _ in 0..rounds {
        let seal =
            Request::post("/api/encrypt", format!("{{\"key\":\"{name}\",\"plaintext\":\"aGVsbG8=\"}}"))
                .key(key);
        let sealed = client.call(&seal);
        let open = format!("{{\"key\":\"{name}\",\"ciphertext\":\"{}\"}}", sealed.member("ciphertext"));
        replies.push(sealed);
        let wave = [
            Request::post("/api/decrypt", open).key(key),
            seal,
            Request::post("/api/encrypt", "{\"key\":\"none\",\"plaintext\":\"\"}").key(key),
            Request::post("/api/encrypt", SEAL).key("qk_00000000.wrong"),
        ];
        client.send(&wave.iter().flat_map(Request::bytes).collect::<Vec<u8>>());
        replies.extend(wave.iter().map(|_| client.reply()));
    }
    replies
}

#[test]
fn every_reply_has_its_line_and_every_number_its_place() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 100;
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &["--workers", "4"]) else { return };
    let server = Arc::new(server);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let server = Arc::clone(&server);
            std::thread::spawn(move || mixed_load(&server, &format!("key-{client}"), ROUNDS))
        })
        .collect();
    let replies: Vec<Reply> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert_eq!(replies.len(), CLIENTS * (1 + 5 * ROUNDS));
    let good = replies.iter().filter(|reply| reply.status < 300).count();
    assert_eq!(good, CLIENTS * (1 + 3 * ROUNDS), "the rest are meant to be refused");
    let ids: BTreeSet<&str> = replies.iter().map(|reply| reply.field("X-Request-Id").unwrap()).collect();
    assert_eq!(ids.len(), replies.len(), "no two requests share an identifier");
    // The lines are there before the replies are; the count of refusals comes with the end of its second, or here.
    let ended = Arc::into_inner(server).unwrap().stop();
    assert_eq!(ended.code, Some(0));
    let lines = streams(&scratch.data_dir());
    assert_eq!(lines.len(), 5, "a stream for each worker, and one for the keeper");
    assert_eq!(assert_told(&lines, &replies), 0, "no gap");
    let attempts = lines.values().flatten().filter(|line| line.text("outcome") == "attempt").count();
    assert_eq!(attempts, CLIENTS);
}

#[test]
fn a_change_is_told_before_it_is_made_and_after() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let created = server.ask(Request::post("/api/keys", ORDERS));
    assert_eq!(created.status, 201);
    let rotated = server.ask(Request::post("/api/keys/orders/rotate", "{}"));
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let missing = server.ask(Request::post("/api/keys/none/rotate", "{}"));
    assert_eq!(missing.status, 404, "{missing:?}");
    let streams = streams(&server.data_dir());
    let lines: Vec<&Line> = streams.values().flatten().collect();
    for (reply, event, outcome, key) in [
        (created, "key.create", "success", "orders"),
        (rotated, "key.rotate", "success", "orders"),
        (missing, "key.rotate", "failure", "none"),
    ] {
        let id = reply.field("X-Request-Id").unwrap();
        let own = lines.iter().filter(|line| line.text("request_id") == id);
        let told: Vec<_> =
            own.map(|line| (line.text("event"), line.text("outcome"), line.text("key"))).collect();
        // What is found impossible before it is tried has no attempt.
        let attempts = usize::from(outcome == "success");
        assert_eq!(told, [(event, "attempt", key), (event, outcome, key)][1 - attempts..]);
    }
    let principal = server.key().split_once('.').unwrap().0.trim_start_matches("qk_");
    assert!(lines.iter().all(|line| line.text("principal") == principal), "the public part of the key");
    assert!(lines.iter().all(|line| line.text("remote") == "127.0.0.1"));
}

#[test]
fn a_start_a_stop_and_what_the_lock_down_left_out_are_told() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &["--workers", "1"]) else { return };
    let kept = server.stop();
    assert_eq!(kept.code, Some(0));
    let keepers = files(&scratch.data_dir().join("audit"));
    let text: String = keepers
        .iter()
        .filter(|path| path.to_string_lossy().contains("-k-"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let events = |name: &str| {
        text.lines().filter(|line| line.contains(&format!("\"event\":\"{name}\""))).collect::<Vec<_>>()
    };
    assert_eq!((events("server.start").len(), events("server.stop").len()), (1, 1), "{text}");
    let skipped = kept.stderr.lines().filter(|line| line.contains("sandbox: ") && line.contains(": skipped"));
    let steps: Vec<&str> =
        skipped.filter_map(|line| line.split("sandbox: ").nth(1)?.split(':').next()).collect();
    for line in events("sandbox.skipped") {
        assert!(steps.iter().any(|step| line.contains(&format!("\"code\":\"{step}\""))), "{line}");
    }
}

/// The forms in which bytes could stand in a file: as they are, as base64 at each of the three offsets, as hex.
fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![bytes.to_vec()];
    for skipped in 0..3 {
        let whole = bytes.get(skipped..).unwrap();
        let whole = whole.get(..whole.len() / 3 * 3).unwrap();
        forms.push(base64_simd::STANDARD.encode_to_string(whole).into_bytes());
        forms.push(base64_simd::URL_SAFE_NO_PAD.encode_to_string(whole).into_bytes());
    }
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    forms.extend([hex.to_uppercase().into_bytes(), hex.into_bytes()]);
    forms
}

/// Every file below a directory but the one that holds the key.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    entries.flat_map(below).filter(|path| !path.ends_with("admin.key")).collect()
}

#[test]
fn no_secret_stands_in_the_log_in_any_form() {
    const PLAINTEXT: &[u8] = b"a plaintext nobody may find: 4711-0815";
    const CONTEXT: &[u8] = b"associated data that is nobody's business";
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &["--workers", "1"]) else { return };
    assert_eq!(server.ask(Request::post("/api/keys", ORDERS)).status, 201);
    let encoded = |bytes: &[u8]| base64_simd::STANDARD.encode_to_string(bytes);
    let body = format!(
        "{{\"key\":\"orders\",\"plaintext\":\"{}\",\"associated_data\":\"{}\"}}",
        encoded(PLAINTEXT),
        encoded(CONTEXT)
    );
    let sealed = server.ask(Request::post("/api/encrypt", body));
    assert_eq!(sealed.status, 200, "{sealed:?}");
    let ciphertext = sealed.member("ciphertext");
    // Secrets where they do not belong: in a target, in a name, in a credential that is refused.
    let plain = std::str::from_utf8(PLAINTEXT).unwrap().replace(' ', "-");
    let guess = format!("{}x", server.key());
    for request in [
        Request::post("/api/decrypt", format!("{{\"key\":\"orders\",\"ciphertext\":\"{ciphertext}\"}}")),
        Request::post("/api/encrypt", format!("{{\"key\":\"{plain}\\\"\",\"plaintext\":\"\"}}")),
        Request::get(&format!("/api/keys/orders?key={plain}")),
        Request::get(&format!("/api/{plain}")),
    ] {
        server.ask(request);
    }
    assert_eq!(server.call(&Request::get("/api/keys/orders").key(&guess)).status, 401);
    let data_dir = server.data_dir();
    let secret = server.key().split_once('.').unwrap().1.to_owned();
    // At midnight a stream goes on in its next part.
    let parts =
        files(&data_dir.join("audit")).into_iter().filter(|path| path.to_string_lossy().contains("-w0-"));
    let text: String = parts.map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(text.lines().count() >= 5, "{text}");
    let output = server.stop();
    let envelope = ciphertext.rsplit(':').next().unwrap().as_bytes();
    let log = output.stderr.into_bytes();
    let kept = files(&data_dir).into_iter().map(|path| fs::read(path).unwrap()).chain([log]);
    for found in kept {
        for form in
            [PLAINTEXT, CONTEXT, plain.as_bytes(), secret.as_bytes(), envelope].into_iter().flat_map(forms)
        {
            let stands = memchr::memmem::find(&found, &form).is_some();
            assert!(!stands, "{:?}", String::from_utf8_lossy(&form));
        }
    }
}

/// The reply to an audited request while the log cannot be written.
fn assert_refused(reply: &Reply) {
    assert_eq!(reply.status, 503, "{reply:?}");
    assert_eq!(reply.member("code"), "audit_unavailable");
    let seconds: u64 = reply.field("Retry-After").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
    assert!(!reply.text().contains("ciphertext"));
}

/// Sends a request; a connection that ends with its reply is replaced.
fn ask(client: &mut Client, server: &Server, request: &Request) -> Reply {
    let reply = client.call(request);
    if reply.closes() {
        assert!(client.ends(), "nothing comes after the last reply");
        *client = server.connect();
    }
    reply
}

/// What health says of the audit log.
fn audit_health(client: &mut Client) -> (u16, String) {
    let reply = client.call(&Request::get("/api/health"));
    let json = reply.json();
    let status = json.pointer("/components/audit/status").and_then(Value::as_str);
    (reply.status, status.unwrap_or_else(|| panic!("{json}")).to_owned())
}

/// Seals until the log takes no more; returns the good replies. The refusal ends the connection.
fn seal_until_refused(mut client: Client, key: &str) -> Vec<Reply> {
    let request = Request::post("/api/encrypt", SEAL).key(key);
    let mut good = Vec::new();
    for _ in 0..20_000 {
        let reply = client.call(&request);
        if reply.status != 200 {
            assert_refused(&reply);
            assert!(reply.closes() && client.ends());
            return good;
        }
        good.push(reply);
    }
    panic!("the disk never became full");
}

#[test]
fn a_full_disk_refuses_audited_requests_and_the_gap_is_named_when_it_is_over() {
    let Some(disk) = SmallDisk::mount("1m") else { return };
    let flags = ["--workers", "1", "--max-requests-per-connection", "1000000000"];
    let Some(server) = Server::start_in(&disk.scratch, &flags) else { return };
    assert_eq!(server.ask(Request::post("/api/keys", ORDERS)).status, 201);
    disk.fill();
    let mut good = seal_until_refused(server.connect(), server.key());
    assert!(good.len() > 100, "room was reserved at the start");
    for request in [
        Request::post("/api/encrypt", SEAL).key(server.key()),
        Request::post("/api/keys", "{\"name\":\"new\"}").key(server.key()),
        Request::get("/api/keys/orders").key(server.key()),
    ] {
        assert_refused(&server.call(&request));
    }
    let mut client = server.connect();
    assert_eq!(audit_health(&mut client), (503, "failing".to_owned()));
    disk.make_room();
    // Nobody restarts it.
    let well = comes(|| audit_health(&mut client).0 == 200);
    assert!(well, "it does not come back by itself");
    let missing = client.call(&Request::get("/api/keys/new").key(server.key()));
    assert_eq!(missing.status, 404, "a change whose attempt could not be told was not made: {missing:?}");
    good.push(missing);
    good.push(client.call(&Request::post("/api/encrypt", SEAL).key(server.key())));
    let lines = streams(&server.data_dir());
    assert!(assert_told(&lines, &good) >= 4, "the refused ones have numbers, and the gap names them");
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("ERROR audit: the audit log cannot be written"), "{ended:?}");
    assert!(ended.stderr.contains("INFO audit: the audit log is written again"), "{ended:?}");
}

/// A connection to each of two workers: the first half of a request's identifier is that of its worker.
fn client_of_each_worker(server: &Server) -> (Client, Client) {
    let worker = |client: &mut Client| {
        let reply = client.call(&Request::get("/api/health"));
        reply.field("X-Request-Id").unwrap().split_at(16).0.to_owned()
    };
    let mut first = server.connect();
    let own = worker(&mut first);
    let mut others = (0..64).map(|_| server.connect());
    let other = others.find_map(|mut client| (worker(&mut client) != own).then_some(client));
    (first, other.unwrap_or_else(|| panic!("64 connections went to one worker")))
}

#[test]
fn a_worker_that_nobody_asks_repairs_its_log_too() {
    let Some(disk) = SmallDisk::mount("2m") else { return };
    let flags = ["--workers", "2", "--max-requests-per-connection", "1000000000"];
    let Some(server) = Server::start_in(&disk.scratch, &flags) else { return };
    let (mut asked, silent) = client_of_each_worker(&server);
    assert_eq!(asked.call(&Request::post("/api/keys", ORDERS).key(server.key())).status, 201);
    disk.fill();
    seal_until_refused(silent, server.key());
    assert_eq!(audit_health(&mut asked), (503, "failing".to_owned()), "one stream is enough to be unwell");
    let own = asked.call(&Request::post("/api/encrypt", SEAL).key(server.key()));
    assert_eq!(own.status, 200, "the other worker's stream is well: {own:?}");
    disk.make_room();
    let well = comes(|| audit_health(&mut asked).0 == 200);
    assert!(well, "the stream stays broken until somebody asks its worker");
}

/// Starts a server whose writes meet `fault`: seccomp stops first for strace, which works within our filters only
/// with `--seccomp-bpf`. The count of writes is kept for each thread.
fn start_with_fault(fault: &str) -> Option<(Server, Arc<Scratch>)> {
    let binary = server::binary()?;
    let scratch = Scratch::new();
    let mut command = Command::new("strace");
    // -D: the server stays our child, and the tracer is its grandchild.
    command
        .args(["-D", "-f", "-q", "--seccomp-bpf", "-e", "trace=write", "-e"])
        .arg(format!("inject=write:{fault}"));
    command.arg("-o").arg(scratch.path("trace")).arg(binary);
    command
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--workers", "1", "--data-dir"])
        .arg(scratch.data_dir());
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    Some((Server::spawn(command, &scratch, 1), scratch))
}

/// Whether writes can be made to fail here; says why not.
fn can_trace() -> bool {
    let reason = if !nix::unistd::geteuid().is_root() {
        "it needs root, to trace a process that is not dumpable"
    } else if !Command::new("strace").arg("--version").output().is_ok_and(|output| output.status.success()) {
        "it needs strace"
    } else {
        return true;
    };
    skip(reason);
    false
}

/// Past every line that the main thread logs at the start, so that only the worker's writes are met.
const FIRST: usize = 40;

#[test]
fn a_failed_write_is_answered_with_503_and_the_next_one_names_the_gap() {
    if !can_trace() {
        return;
    }
    for error in ["ENOSPC", "EIO", "EDQUOT", "EAGAIN"] {
        // The turn's own write, its first repair, and those of the three requests after it.
        let fault = format!("error={error}:when={FIRST}..{}", FIRST + 7);
        let Some((server, scratch)) = start_with_fault(&fault) else { return };
        let mut client = server.connect();
        assert_eq!(client.call(&Request::post("/api/keys", ORDERS).key(server.key())).status, 201);
        let request = Request::post("/api/encrypt", SEAL).key(server.key());
        let replies: Vec<Reply> = (0..3 * FIRST).map(|_| ask(&mut client, &server, &request)).collect();
        let (good, bad): (Vec<Reply>, Vec<Reply>) =
            replies.into_iter().partition(|reply| reply.status == 200);
        assert!(!bad.is_empty() && bad.len() <= 8, "{error}: {}", bad.len());
        bad.iter().for_each(assert_refused);
        let lines = streams(&server.data_dir());
        assert!(assert_told(&lines, &good) >= bad.len(), "each refused request is in a gap");
        assert_eq!(audit_health(&mut client).0, 200);
        let ended = server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(fs::read_to_string(scratch.path("trace")).unwrap().contains("(INJECTED)"));
    }
}

#[test]
fn an_interrupted_write_is_made_again_and_nobody_notices() {
    if !can_trace() {
        return;
    }
    let Some((server, scratch)) = start_with_fault(&format!("error=EINTR:when={FIRST}..{}", FIRST + 5))
    else {
        return;
    };
    let mut client = server.connect();
    let mut replies = vec![client.call(&Request::post("/api/keys", ORDERS).key(server.key()))];
    let request = Request::post("/api/encrypt", SEAL).key(server.key());
    replies.extend((0..2 * FIRST).map(|_| client.call(&request)));
    assert!(replies.iter().all(|reply| reply.status < 300));
    let lines = streams(&server.data_dir());
    assert_eq!(assert_told(&lines, &replies), 0, "no gap");
    assert_eq!(server.stop().code, Some(0));
    assert!(
        fs::read_to_string(scratch.path("trace"))
            .unwrap()
            .contains("EINTR (Interrupted system call) (INJECTED)")
    );
}

#[test]
fn a_body_that_is_refused_is_told_of_too() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let mut client = server.connect();
    let head = format!(
        "POST /api/keys HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\nContent-Length: 70000\r\n\r\n",
        server.key()
    );
    client.send(head.as_bytes());
    let reply = client.reply();
    reply.assert_problem(413, "body_too_large");
    let lines = streams(&server.data_dir());
    let found = lines.values().flatten().find(|line| line.text("code") == "body_too_large").unwrap();
    assert_eq!(found.text("request_id"), reply.field("X-Request-Id").unwrap());
    assert_eq!((found.number("status"), found.text("outcome")), (413, "failure"));
}
