//! The log on standard error: its two forms, what is told, and that nobody waits for whoever reads it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, and says where"
)]

#[path = "support/server.rs"]
mod server;

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use quantonium::limits::FILE_MAX_BYTES;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl, fstat};
use rustix::process::{Resource, getrlimit};
use serde_json::Value;
use server::client::{Request, comes_true};
use server::{LOG_FORMAT, Scratch, Server, binary, program};

/// So many requests leave more lines than a pipe, or a socket, and the queue hold.
const MANY: usize = 2_500;

/// A server whose standard error leads to `stderr`.
fn start(flags: &[&str], variables: &[(&str, &str)], stderr: &OwnedFd) -> Option<Server> {
    let scratch = Scratch::new();
    let mut command = program()?;
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(scratch.data_dir());
    command.args(flags).env_clear().env(LOG_FORMAT, "auto").envs(variables.iter().copied());
    let stderr = stderr.try_clone().unwrap();
    let spawn = |command: &mut Command| command.stderr(stderr).spawn();
    Some(Server::try_spawn_by(spawn, command, &scratch, 1).unwrap())
}

/// The two ends of a pipe.
fn pipe() -> (File, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (File::from(OwnedFd::from(reader)), OwnedFd::from(writer))
}

/// The two ends of a stream of the kind that systemd's journal reads.
fn socket() -> (File, OwnedFd) {
    let (reader, writer) = UnixStream::pair().unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&writer, 16 * 1024).unwrap();
    (File::from(OwnedFd::from(reader)), OwnedFd::from(writer))
}

/// Fills a stream until nothing more finds room.
fn fill(stream: &OwnedFd) {
    let flags = fcntl_getfl(stream).unwrap();
    fcntl_setfl(stream, flags | OFlags::NONBLOCK).unwrap();
    for piece in [&[b'x'; 4096][..], b"x"] {
        while rustix::io::write(stream, piece).is_ok() {}
    }
    fcntl_setfl(stream, flags).unwrap();
}

/// Starts a server with these streams, and waits until it says that it serves.
fn start_unread(flags: &[&str], streams: [Stdio; 2]) -> Option<(Child, Arc<Scratch>)> {
    let scratch = Scratch::new();
    let notices = UnixDatagram::bind(scratch.path("notify")).unwrap();
    // No start takes that long.
    notices.set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    let mut command = program()?;
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(scratch.data_dir());
    command.args(flags).env_clear().env("NOTIFY_SOCKET", scratch.path("notify"));
    let [stdout, stderr] = streams;
    let mut child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap();
    let mut notice = [0; 4096];
    loop {
        let Ok(len) = notices.recv(&mut notice) else {
            child.kill().unwrap();
            panic!("it never serves: {:?}", child.wait_with_output());
        };
        if notice[..len].starts_with(b"READY=1") {
            return Some((child, scratch));
        }
    }
}

fn end(child: &Child) {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
}

/// All that was written, once every other end is closed.
fn all(mut reader: File, writer: OwnedFd) -> Vec<Value> {
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
}

/// Asks often enough to fill everything that holds lines, on connections to both workers; each request is answered.
fn ask_often(server: &Server) {
    let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
    let request = Request::get("/api/health");
    for number in 0..MANY {
        let client = number % clients.len();
        assert_eq!(clients[client].call(&request).status, 200);
    }
}

/// Reads all that comes, from now on; what was read so far is seen meanwhile.
fn read_along(mut reader: File) -> (Arc<Mutex<Vec<u8>>>, JoinHandle<()>) {
    let text: Arc<Mutex<Vec<u8>>> = Arc::default();
    let read_so_far = Arc::clone(&text);
    let reading = std::thread::spawn(move || {
        let mut part = [0; 4096];
        while let read @ 1.. = reader.read(&mut part).unwrap() {
            read_so_far.lock().unwrap().extend_from_slice(&part[..read]);
        }
    });
    (text, reading)
}

/// A number of the page of metrics.
fn metric(server: &Server, name: &str) -> u64 {
    let page = server.ask(Request::get("/api/metrics"));
    assert_eq!(page.status, 200, "{page:?}");
    let line = page.text().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    line.parse().unwrap()
}

#[test]
fn a_log_that_nobody_reads_keeps_no_worker_and_no_end_waiting() {
    for (reader, writer) in [pipe(), socket()] {
        let Some(server) = start(&["--workers", "2", "--log-level", "http=debug"], &[], &writer) else {
            return;
        };
        ask_often(&server);
        assert!(metric(&server, "quantonium_log_lines_dropped_total") > 0);
        let ended = server.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        // What had found room is whole.
        let lines = all(reader, writer);
        let answered = lines.iter().filter(|line| line["msg"] == "answered").count();
        assert!((1..MANY).contains(&answered), "{answered}");
    }
}

#[test]
fn what_was_lost_is_told_once_somebody_reads_again() {
    for (reader, writer) in [pipe(), socket()] {
        // One worker: a line is queued after its reply has left, and lines of two workers in any order.
        let flags = ["--workers", "1", "--log-level", "warn,http=debug"];
        let Some(server) = start(&flags, &[], &writer) else { return };
        ask_often(&server);
        let dropped = metric(&server, "quantonium_log_lines_dropped_total");
        assert!(dropped > 0);
        let (text, reading) = read_along(reader);
        // Behind the loss, lines come as before. What had been told before that is read first, and until then one more line
        // may be lost as well.
        let has = |words: &[u8]| memchr::memmem::find(&text.lock().unwrap(), words).is_some();
        let mut asked = 0;
        let is_told = comes_true(|| {
            assert_eq!(server.ask(Request::get("/api/keys")).status, 200);
            asked += 1;
            has(b"lines were lost here") && has(b"\"/api/keys\"")
        });
        assert!(is_told, "nothing is told any more");
        assert_eq!(server.stop().code, Some(0));
        drop(writer);
        reading.join().unwrap();
        let text = String::from_utf8(std::mem::take(&mut *text.lock().unwrap())).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told = lines.iter().filter(|line| line["module"] == "http").count();
        let lost: u64 = lines.iter().filter_map(|line| line["dropped"].as_u64()).sum();
        assert!(lost >= dropped, "{lost} of {dropped}");
        // Health, the page of metrics, the keys: each is told, or counted among the lost.
        assert!(told as u64 + lost > MANY as u64 + asked, "{told} and {lost}, {asked} at the end");
        assert!(told < MANY + usize::try_from(asked).unwrap(), "{told}");
        let last = lines.iter().rfind(|line| line["module"] == "http").unwrap();
        assert_eq!(last["route"], "/api/keys", "{last}");
    }
}

#[test]
fn a_start_waits_for_nobody_who_does_not_read_its_log() {
    for (_reader, writer) in [pipe(), socket()] {
        fill(&writer);
        for flags in [&["--audit-sink", "both"][..], &[]] {
            // Once for audit lines and the log apart, once both on the one stream, as under systemd.
            let stdout = if flags.is_empty() { writer.try_clone().unwrap().into() } else { Stdio::piped() };
            let stderr = writer.try_clone().unwrap().into();
            let Some((mut child, _scratch)) = start_unread(flags, [stdout, stderr]) else { return };
            end(&child);
            assert_eq!(child.wait().unwrap().code(), Some(0));
        }
    }
}

#[test]
fn what_nobody_reads_on_standard_output_stands_in_the_log_but_for_the_key() {
    for (_reader, writer) in [pipe(), socket()] {
        fill(&writer);
        let Some((child, scratch)) = start_unread(&[], [writer.into(), Stdio::piped()]) else { return };
        let key = std::fs::read_to_string(scratch.data_dir().join("admin.key")).unwrap();
        end(&child);
        let ended = child.wait_with_output().unwrap();
        let log = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(0), "{log}");
        assert!(log.contains("\"listening on http://127.0.0.1:"), "{log}");
        assert!(log.contains("nobody reads standard output: the admin API key is in "), "{log}");
        assert!(!log.contains(key.trim_end()), "{log}");
    }
}

#[test]
fn a_store_whose_only_key_nobody_would_see_is_not_made() {
    for (_reader, writer) in [pipe(), socket()] {
        fill(&writer);
        for sink in ["file", "both"] {
            let scratch = Scratch::new();
            let master = scratch.path("master.key");
            std::fs::write(&master, "0f".repeat(32)).unwrap();
            std::fs::set_permissions(&master, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
            let Some(mut command) = program() else { return };
            command.args(["serve", "--init", "--listen", "127.0.0.1:0", "--audit-sink", sink, "--data-dir"]);
            command.arg(scratch.data_dir()).arg("--master-key-file").arg(&master).env_clear();
            let full = || Stdio::from(writer.try_clone().unwrap());
            let [stdout, stderr] =
                if sink == "both" { [Stdio::piped(), full()] } else { [full(), Stdio::piped()] };
            command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
            let ended = command.spawn().unwrap().wait_with_output().unwrap();
            let log = String::from_utf8(ended.stderr).unwrap();
            assert_eq!(ended.status.code(), Some(78), "{log}");
            assert!(sink == "both" || log.contains("could not be shown on standard output (nobody"), "{log}");
            assert!(!scratch.data_dir().join("journal").exists(), "{sink}");
        }
    }
}

#[test]
fn a_full_disk_tears_one_line_and_what_was_lost_is_told_when_there_is_room() {
    // The longest file stands for the disk: the server shares the place in it with this test.
    let longest = getrlimit(Resource::Fsize).maximum.unwrap_or(u64::MAX).min(FILE_MAX_BYTES);
    let folder = Scratch::new();
    let path = folder.path("log");
    let mut log = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    let stderr = OwnedFd::from(log.try_clone().unwrap());
    // One worker: a line is queued after its reply has left, and lines of two workers in any order.
    let Some(server) = start(&["--workers", "1", "--log-level", "http=debug"], &[], &stderr) else { return };
    let begin = longest - 3_000;
    log.seek(SeekFrom::Start(begin)).unwrap();
    let mut client = server.connect();
    for _ in 0..100 {
        assert_eq!(client.call(&Request::get("/api/health")).status, 200);
    }
    // Lines are written soon after their replies: the count stands still only with the last of them.
    let mut dropped = metric(&server, "quantonium_log_lines_dropped_total");
    while dropped == 0 {
        dropped = metric(&server, "quantonium_log_lines_dropped_total");
    }
    assert_eq!(log.metadata().unwrap().len(), longest, "what was dropped found no room");
    let mut end = String::new();
    let mut other = File::open(&path).unwrap();
    other.seek(SeekFrom::Start(begin)).unwrap();
    other.read_to_string(&mut end).unwrap();
    let (whole, torn) = end.rsplit_once('\n').unwrap();
    assert!(whole.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{end}");

    let start = 1 << 20;
    log.seek(SeekFrom::Start(start)).unwrap();
    let mut written = || {
        let mut text = String::new();
        other.seek(SeekFrom::Start(start)).unwrap();
        (&other).take(1 << 20).read_to_string(&mut text).unwrap();
        text
    };
    // A line may still be dropped with those for which an attempt has just found no room.
    let mut asked = 0;
    while !written().contains("/api/keys") {
        assert_eq!(server.ask(Request::get("/api/keys")).status, 200);
        asked += 1;
    }
    assert_eq!(server.stop().code, Some(0));
    let text = written();
    let text = text.trim_end_matches('\0');
    let text = if torn.is_empty() { text } else { text.strip_prefix('\n').unwrap() };
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["module"], "log", "{text}");
    assert!(lines[0]["dropped"].as_u64().is_some_and(|lost| lost >= dropped), "{text}");
    let last = lines.iter().rfind(|line| line["module"] == "http").unwrap();
    assert_eq!(last["route"], "/api/keys", "{text}");
    let kept = whole.lines().filter(|line| line.contains("\"module\":\"http\"")).count() as u64;
    let told = lines.iter().filter(|line| line["module"] == "http").count() as u64;
    let lost: u64 = lines.iter().filter_map(|line| line["dropped"].as_u64()).sum();
    assert!(kept + told + lost > 100 + asked, "every line is there or counted: {kept}, {text}");
}

#[test]
fn a_stream_that_is_shared_stays_as_it_was() {
    let (reader, writer) = pipe();
    let Some(server) = start(&[], &[], &writer) else { return };
    assert!(!fcntl_getfl(&writer).unwrap().contains(OFlags::NONBLOCK), "others would fail to write");
    let own = rustix::fs::open(server.proc().join("fd/2"), OFlags::PATH, rustix::fs::Mode::empty());
    if let Ok(own) = own {
        assert_eq!(fstat(own).unwrap().st_ino, fstat(&writer).unwrap().st_ino);
    }
    assert_eq!(server.stop().code, Some(0));
    assert!(!all(reader, writer).is_empty());
}

#[test]
fn lines_on_a_pipe_are_objects_from_the_first_to_the_last() {
    let (reader, writer) = pipe();
    let Some(server) = start(&[], &[], &writer) else { return };
    assert_eq!(server.stop().code, Some(0));
    let lines = all(reader, writer);
    for line in &lines {
        let time = line["ts"].as_str().unwrap().as_bytes();
        assert!(quantonium::clock::WallTime::parse_rfc3339(time).is_some(), "{line}");
        assert!(matches!(line["level"].as_str(), Some("error" | "warn" | "info")), "{line}");
        assert!(line["module"].is_string() && line["msg"].is_string(), "{line}");
    }
    let has = |module: &str, msg: &str| {
        let said = |line: &&Value| line["msg"].as_str().is_some_and(|said| said.starts_with(msg));
        lines.iter().filter(|line| line["module"] == module).any(|line| said(&line))
    };
    assert!(has("sandbox", "every thread is locked in") && has("store", "revision "), "{lines:?}");
    assert!(has("server", "draining: ") && has("server", "drained: "), "{lines:?}");
}

#[test]
fn the_journal_is_told_priorities_and_only_where_it_is_the_journal() {
    let (reader, writer) = socket();
    let found = fstat(&writer).unwrap();
    let stream = format!("{}:{}", found.st_dev, found.st_ino);
    let Some(server) = start(&[], &[("JOURNAL_STREAM", &stream)], &writer) else { return };
    assert_eq!(server.stop().code, Some(0));
    drop(writer);
    let mut text = String::new();
    { reader }.read_to_string(&mut text).unwrap();
    assert!(
        text.lines().all(|line| ["<3>", "<4>", "<6>"].iter().any(|level| line.starts_with(level))),
        "{text}"
    );
    assert!(text.contains(" INFO server: draining: "), "{text}");

    // The variable is handed on to whatever a unit starts; that may have led its standard error elsewhere.
    let (reader, writer) = pipe();
    let Some(server) = start(&[], &[("JOURNAL_STREAM", &stream)], &writer) else { return };
    assert_eq!(server.stop().code, Some(0));
    assert!(!all(reader, writer).is_empty());
}

#[test]
fn a_request_is_told_at_debug_with_what_finds_it_again() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let (reader, writer) = pipe();
    let Some(server) = start(&["--log-level", "debug"], &[], &writer) else { return };
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let traced = server.ask(Request::get("/api/keys").with("traceparent", &parent));
    let lost = server.call(&Request::get("/nowhere/at/all"));
    let ids = [&traced, &lost].map(|reply| reply.field("X-Request-Id").unwrap().to_owned());
    assert_eq!(server.stop().code, Some(0));
    let lines = all(reader, writer);
    let of = |id: &str| lines.iter().find(|line| line["request_id"] == id).unwrap();
    let (traced, lost) = (of(&ids[0]), of(&ids[1]));
    for (member, value) in [("level", "debug"), ("module", "http"), ("msg", "answered"), ("method", "GET")] {
        assert_eq!(traced[member], value, "{traced}");
    }
    assert_eq!((&traced["route"], &traced["trace_id"]), (&"/api/keys".into(), &TRACE.into()), "{traced}");
    assert!(traced["status"] == 200 && traced["duration_us"].is_u64(), "{traced}");
    // Nothing of what a client wrote stands in a line.
    assert!(lost["status"] == 404 && lost["route"] == "-" && lost["trace_id"].is_null(), "{lost}");
}

#[test]
fn levels_and_filters_choose_what_is_told() {
    for (filter, modules) in
        [("error", &[][..]), ("error,sandbox=info", &["sandbox"]), ("error,store=info,log=warn", &["store"])]
    {
        let (reader, writer) = pipe();
        let Some(server) = start(&["--log-level", filter], &[], &writer) else { return };
        assert_eq!(server.call(&Request::get("/api/health")).status, 200);
        assert_eq!(server.stop().code, Some(0));
        let mut told: Vec<_> = all(reader, writer).iter().map(|line| line["module"].to_string()).collect();
        // A tracer, under which some run these tests, is an error.
        told.retain(|module| module != "\"integrity\"");
        told.dedup();
        assert_eq!(
            told,
            modules.iter().map(|module| format!("\"{module}\"")).collect::<Vec<_>>(),
            "{filter}"
        );
    }
}

#[test]
fn what_is_no_filter_is_refused_and_so_is_a_start_in_the_form_that_was_asked_for() {
    let Some(binary) = binary() else { return };
    let run = |words: &[&str], format: &str| {
        let scratch: Arc<Scratch> = Scratch::new();
        let mut command = Command::new(&binary);
        command.args(["serve", "--data-dir"]).arg(scratch.data_dir()).args(words).env_clear();
        let output = command.env(LOG_FORMAT, format).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, said) = run(&["--dev", "--log-level", "info,stor=debug"], "human");
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("--log-level") && said.contains("\"stor\" is none of server, "), "{said}");
    // Settings are good, but there is no such store.
    let words = ["--master-key-file", "/nowhere/at/all", "--listen", "127.0.0.1:0"];
    let (code, said) = run(&words, "json");
    let last: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((code, last["level"].as_str()), (Some(78), Some("error")), "{said}");
    assert!(last["msg"].as_str().is_some_and(|msg| msg.contains("holds no store")), "{said}");
    let (code, said) = run(&words, "human");
    assert_eq!(code, Some(78));
    assert!(said.lines().last().is_some_and(|line| line.starts_with("quantonium: ")), "{said}");
}
