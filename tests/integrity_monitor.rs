//! The real server finds what is done to it from outside, says so, and says when it is gone.
//!
//! What root can do to a process without its help is done: tracing it, changing a file under it, writing into its memory. What
//! cannot be brought about from outside (a new executable mapping, another user, a descriptor) is tried on the judges of
//! `sandbox`, next to them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/server.rs"]
mod server;

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;
use server::client::{Reply, Request};
use server::{NO_MOUNT, Scratch, Server, assert_sound, binary, comes, command, read_by_people, skip};

const OFTEN: [&str; 2] = ["--integrity-interval-seconds", "1"];
/// SHA-256 of "abc" (FIPS 180-4), a known answer of the self-test.
const ANSWER: [u8; 8] = [0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea];

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        skip("only root can do to a server what it is to find");
    }
    root
}

/// What the server says of itself.
fn report(server: &Server) -> Value {
    let reply = server.ask(Request::get("/api/integrity"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn check<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name}: {report}"))
}

/// Asks until the report is as wanted: each question is answered after a turn of the server's loop.
fn until(server: &Server, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let came = comes(|| {
        last = report(server);
        wanted(&last)
    });
    assert!(came, "it never came: {last}");
    last
}

fn until_state(server: &Server, name: &str, state: &str) -> Value {
    until(server, |report| check(report, name)["state"] == state)
}

/// The lines of these events in the audit files.
fn told(data_dir: &Path, event: &str) -> Vec<String> {
    let files = fs::read_dir(data_dir.join("audit")).unwrap().map(|file| file.unwrap().path());
    let texts = files.filter_map(|path| fs::read_to_string(path).ok());
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.filter(|line| line.contains(&format!("\"event\":\"{event}\""))).collect()
}

/// A file in which a byte is another one for as long as this lives.
struct Altered {
    file: File,
    at: u64,
    before: u8,
}

impl Altered {
    fn new(file: File, at: u64) -> Self {
        let mut before = [0];
        file.read_exact_at(&mut before, at).unwrap();
        file.write_all_at(&[before[0] ^ 1], at).unwrap();
        Self { file, at, before: before[0] }
    }
}

impl Drop for Altered {
    fn drop(&mut self) {
        let _ = self.file.write_all_at(&[self.before], self.at);
    }
}

/// Changes the last frame of the journal.
fn alter_journal(server: &Server) -> Altered {
    assert_eq!(server.ask(Request::post("/api/keys", r#"{"name":"orders"}"#)).status, 201);
    let file = OpenOptions::new().read(true).write(true).open(server.data_dir().join("journal")).unwrap();
    let end = file.metadata().unwrap().len();
    Altered::new(file, end - 5)
}

/// A tracer of the main thread.
fn trace(server: &Server) -> Option<Child> {
    let mut command = Command::new("strace");
    command.args(["-qq", "-e", "trace=none", "-p", &server.pid().to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let tracer = command.spawn();
    if tracer.is_err() {
        skip("it needs strace");
    }
    tracer.ok()
}

#[test]
fn a_process_that_is_left_alone_finds_nothing_and_ends_in_order_between_its_looks() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &OFTEN) else { return };
    let looked = |report: &Value| {
        let checks = report["checks"].as_array().unwrap();
        checks.iter().all(|check| check["looks"].as_u64().unwrap() >= 3)
    };
    let report = until(&server, looked);
    assert_eq!(report["status"], "ok", "{report}");
    for check in report["checks"].as_array().unwrap() {
        assert_eq!((&check["state"], &check["findings"]), (&"ok".into(), &0.into()), "{check}");
    }
    assert_eq!(report["binary"]["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(report["kernel"]["seccomp"], 2);
    assert_eq!(report["kernel"]["tracer"], 0);
    let data_dir = server.data_dir();
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("integrity:"), "{}", ended.stderr);
    assert!(told(&data_dir, "integrity.finding").is_empty());
}

#[test]
fn a_tracer_is_found_and_told_and_its_leaving_too() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &OFTEN) else { return };
    let Some(mut tracer) = trace(&server) else { return };
    let found = until_state(&server, "tracer", "failed");
    let text = check(&found, "tracer")["finding"].as_str().unwrap().to_owned();
    assert!(text.contains(&tracer.id().to_string()), "{text}");
    assert_eq!(found["status"], "degraded");
    let health = server.ask(Request::get("/api/health"));
    assert_eq!((health.status, health.member("status")), (200, "degraded".to_owned()));
    tracer.kill().unwrap();
    tracer.wait().unwrap();
    let gone = until_state(&server, "tracer", "ok");
    assert_eq!(gone["status"], "ok");
    let data_dir = server.data_dir();
    let ended = server.stop();
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stderr.matches("integrity: tracer: ").count(), 2, "{}", ended.stderr);
    for event in ["integrity.finding", "integrity.cleared"] {
        let lines = told(&data_dir, event);
        assert!(lines.len() == 1 && lines[0].contains("\"check\":\"tracer\""), "{event}: {lines:?}");
    }
}

/// Writes a byte behind the end of the journal.
fn append_to_journal(server: &Server) {
    let mut file = OpenOptions::new().append(true).open(server.data_dir().join("journal")).unwrap();
    file.write_all(b"x").unwrap();
}

/// Makes a key of this name.
fn create(server: &Server, name: &str) -> Reply {
    server.ask(Request::post("/api/keys", format!(r#"{{"name":"{name}"}}"#)))
}

#[test]
fn foreign_bytes_behind_the_journal_are_cut_off_and_cost_no_change() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &OFTEN) else { return };
    assert_eq!(create(&server, "before").status, 201);
    append_to_journal(&server);
    let found = until(&server, |report| check(report, "journal")["findings"] == 1);
    let text = "they were cut off";
    assert!(check(&found, "journal")["finding"].as_str().is_none_or(|told| told.contains(text)), "{found}");
    assert_eq!(create(&server, "after").status, 201);
    until_state(&server, "journal", "ok");
    let data_dir = server.data_dir();
    // The report shows a finding before its line is in the file, and before it is logged.
    until(&server, |_| !told(&data_dir, "integrity.finding").is_empty() && server.told().contains(text));
    // As kill -9 leaves it: nothing is put right at the end.
    server.signal(Signal::SIGKILL);
    let ended = server.wait();
    assert!(ended.stderr.contains(text), "{}", ended.stderr);
    let lines = told(&data_dir, "integrity.finding");
    assert!(lines.len() == 1 && lines[0].contains(text), "{lines:?}");
    assert_sound(&data_dir);
    let server = Server::start_in(&scratch, &[]).unwrap();
    for name in ["before", "after"] {
        assert_eq!(server.ask(Request::get(&format!("/api/keys/{name}"))).status, 200, "{name}");
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn foreign_bytes_between_two_looks_are_cut_off_by_the_next_change_which_is_kept() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    // Its first look is its last one.
    let Some(server) = Server::start_in(&scratch, &["--integrity-interval-seconds", "86400"]) else { return };
    assert_eq!(create(&server, "before").status, 201);
    until(&server, |report| check(report, "journal")["looks"] == 1);
    append_to_journal(&server);
    assert_eq!(create(&server, "after").status, 201);
    let found = until(&server, |report| check(report, "journal")["findings"] == 1);
    assert!(check(&found, "journal")["finding"].as_str().unwrap().contains("they were cut off"), "{found}");
    let data_dir = server.data_dir();
    // As kill -9 leaves it: nothing is put right at the end.
    server.signal(Signal::SIGKILL);
    server.wait();
    assert_sound(&data_dir);
    let server = Server::start_in(&scratch, &[]).unwrap();
    for name in ["before", "after"] {
        assert_eq!(server.ask(Request::get(&format!("/api/keys/{name}"))).status, 200, "{name}");
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn foreign_bytes_that_come_after_the_last_look_are_cut_off_before_the_last_writing() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    // Its first look is its last one.
    let Some(server) = Server::start_in(&scratch, &["--integrity-interval-seconds", "86400"]) else { return };
    assert_eq!(create(&server, "orders").status, 201);
    until(&server, |report| check(report, "journal")["looks"] == 1);
    // A use, so that there is a figure to be written.
    let sealed = server.ask(Request::post("/api/encrypt", r#"{"key":"orders","plaintext":"AAAA"}"#));
    assert_eq!(sealed.status, 200, "{}", sealed.text());
    append_to_journal(&server);
    let data_dir = server.data_dir();
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("they were cut off"), "{}", ended.stderr);
    assert_eq!(told(&data_dir, "integrity.finding").len(), 1);
    let server = Server::start_in(&scratch, &[]).unwrap();
    assert_eq!(server.ask(Request::get("/api/keys/orders")).status, 200);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_damaged_end_of_the_journal_ends_the_changes_and_loses_none_that_was_made() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &OFTEN) else { return };
    let altered = alter_journal(&server);
    let found = until_state(&server, "journal", "failed");
    let looks = |report: &Value| check(report, "journal")["looks"].as_u64().unwrap();
    // It stays found, although nothing is looked at any more.
    let later = until(&server, |report| looks(report) >= looks(&found) + 2);
    assert_eq!(check(&later, "journal")["state"], "failed", "{later}");
    assert!(check(&later, "journal")["finding"].as_str().unwrap().contains("from byte"), "{later}");
    let refused = create(&server, "after");
    assert_eq!((refused.status, refused.member("code")), (503, "store_refuses".to_owned()));
    let sealed = server.ask(Request::post("/api/encrypt", r#"{"key":"orders","plaintext":"AAAA"}"#));
    assert_eq!(sealed.status, 200, "what exists can be used");
    let journal = server.data_dir().join("journal");
    let damaged = fs::read(&journal).unwrap();
    assert_eq!(server.stop().code, Some(0));
    assert_eq!(fs::read(&journal).unwrap(), damaged, "the end of a server adds nothing to a damaged journal");
    let ended = Server::try_start_in(&scratch, &[]).unwrap().unwrap_err();
    assert_eq!(ended.code, Some(65), "{}", ended.stderr);
    drop(altered);
    let server = Server::start_in(&scratch, &[]).unwrap();
    assert_eq!(server.ask(Request::get("/api/keys/orders")).status, 200);
    assert_eq!(server.ask(Request::get("/api/keys/after")).status, 404);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn an_altered_known_answer_in_memory_is_found() {
    if !is_root() {
        return;
    }
    let Some(program) = binary() else { return };
    // Whatever it is called here.
    let program = program.file_name().unwrap().to_str().unwrap();
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &OFTEN) else { return };
    let maps = fs::read_to_string(server.proc().join("maps")).unwrap();
    let memory = OpenOptions::new().read(true).write(true).open(server.proc().join("mem")).unwrap();
    let mut altered = Vec::new();
    for line in maps.lines().filter(|line| line.ends_with(program)) {
        let (start, rest) = line.split_once('-').unwrap();
        let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
        let (start, end) = (hex(start), hex(rest.split_once(' ').unwrap().0));
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        if memory.read_exact_at(&mut bytes, start).is_err() {
            continue;
        }
        for at in (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&ANSWER)) {
            altered.push(Altered::new(memory.try_clone().unwrap(), start + at as u64));
        }
    }
    assert!(!altered.is_empty(), "the answer is somewhere in\n{maps}");
    let found = until_state(&server, "known-answers", "failed");
    assert!(check(&found, "known-answers")["finding"].as_str().unwrap().contains("sha"), "{found}");
    drop(altered);
    until_state(&server, "known-answers", "ok");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn with_stop_a_finding_is_told_and_ends_the_process_with_70_and_the_store_as_it_was() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let flags = [&OFTEN[..], &["--integrity-action", "stop"]].concat();
    let Some(server) = Server::start_in(&scratch, &flags) else { return };
    assert_eq!(create(&server, "orders").status, 201);
    let sealed = server.ask(Request::post("/api/encrypt", r#"{"key":"orders","plaintext":"AAAA"}"#));
    assert_eq!(sealed.status, 200, "{}", sealed.text());
    let data_dir = server.data_dir();
    append_to_journal(&server);
    let ended = server.wait();
    assert_eq!(ended.code, Some(70), "{}", ended.stderr);
    assert!(ended.stderr.contains("integrity: journal: "), "{}", ended.stderr);
    let lines = told(&data_dir, "integrity.finding");
    assert!(lines.len() == 1 && lines[0].contains("\"check\":\"journal\""), "{lines:?}");
    assert!(told(&data_dir, "server.stop").is_empty(), "it did not end in order");
    // The checkpoint of every ten seconds may have come before the finding, that of an end may not.
    let verified = command(&["audit", "verify"], &data_dir).unwrap();
    assert!(verified.code == Some(0) && !verified.stdout.contains("to its end"), "{verified:?}");
    let server = Server::start_in(&scratch, &[]).unwrap();
    let orders = server.ask(Request::get("/api/keys/orders"));
    assert_eq!(
        (orders.status, orders.json()["versions"][0]["uses"].as_u64()),
        (200, Some(0)),
        "figures were written"
    );
    assert_eq!(server.stop().code, Some(0));
    let verified = command(&["audit", "verify"], &data_dir).unwrap();
    assert!(verified.stdout.contains("to its end"), "so does one that ends in order: {verified:?}");
}

#[test]
fn with_stop_damage_leaves_what_was_made_to_whoever_mends_it() {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    let flags = [&OFTEN[..], &["--integrity-action", "stop"]].concat();
    let Some(server) = Server::start_in(&scratch, &flags) else { return };
    let altered = alter_journal(&server);
    assert_eq!(server.wait().code, Some(70));
    drop(altered);
    let server = Server::start_in(&scratch, &[]).unwrap();
    assert_eq!(server.ask(Request::get("/api/keys/orders")).status, 200);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn with_stop_what_is_found_before_anything_is_served_ends_the_start() {
    let Some(program) = binary() else { return };
    let scratch = Scratch::new();
    let mut command = Command::new("strace");
    command.args(["-qq", "-e", "trace=none", "-e", "signal=none"]).arg(program);
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--integrity-action", "stop", "--data-dir"]);
    command.arg(scratch.data_dir());
    read_by_people(&mut command);
    let Ok(ended) = command.output() else { return skip("it needs strace") };
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(70), "{stderr}");
    assert!(stderr.contains("integrity: tracer: "), "{stderr}");
    assert!(!String::from_utf8_lossy(&ended.stdout).contains("listening"), "nobody was told that it serves");
}

#[test]
fn a_kernel_whose_random_bytes_are_none_ends_the_start_before_a_key_is_made() {
    let Some(program) = binary() else { return };
    let serve = ["serve", "--dev", "--listen", "127.0.0.1:0"];
    let init =
        ["init", "--generate-master-key", "--master-key-file", "master.key", "--admin-key-file", "admin.key"];
    for words in [&serve[..], &init] {
        let scratch = Scratch::new();
        let mut command = Command::new("strace");
        // It answers in the kernel's place, and writes nothing into what was to be filled.
        command
            .args(["-qq", "-f", "-e", "trace=getrandom", "-e", "signal=none", "-o"])
            .arg(scratch.path("trace"));
        command.args(["-e", "inject=getrandom:retval=32"]).arg(&program).args(words);
        command.arg("--data-dir").arg(scratch.data_dir()).current_dir(scratch.path("")).env_clear();
        let Ok(ended) = command.output() else { return skip("it needs strace") };
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(71), "{words:?}: {stderr}");
        assert!(stderr.contains("fail their health tests") && stderr.contains("start again"), "{stderr}");
        assert!(!scratch.data_dir().join("journal").exists(), "nothing was made of them");
    }
}

#[test]
fn an_update_of_the_program_is_no_finding() {
    let Some(program) = binary() else { return };
    let scratch = Scratch::new();
    let copy = scratch.path("quantonium");
    server::copy_program(&program, &copy);
    let server = Server::spawn(serve(&copy, &scratch), &scratch, 1);
    let looks = |report: &Value| check(report, "binary")["looks"].as_u64().unwrap();
    let before = looks(&report(&server));
    let newer = scratch.path("newer");
    fs::write(&newer, b"another program").unwrap();
    fs::rename(&newer, &copy).unwrap();
    let report = until(&server, |report| looks(report) >= before + 2);
    assert_eq!(report["status"], "ok", "{report}");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_program_that_is_altered_on_its_disk_is_found() {
    let Some(program) = binary() else { return };
    if !is_root() {
        return;
    }
    let scratch = Scratch::in_memory();
    let Some(layers) = Layers::mount(&scratch, &program) else { return };
    let server = Server::spawn(serve(&layers.program(), &scratch), &scratch, 1);
    // Behind what is executed: the process goes on as it was.
    let mut lower = OpenOptions::new().append(true).open(layers.lower()).unwrap();
    lower.write_all(b"one byte more").unwrap();
    let found = until_state(&server, "binary", "failed");
    assert_eq!(check(&found, "mappings")["state"], "ok", "{found}");
    server.signal(Signal::SIGTERM);
    assert_eq!(server.wait().code, Some(0));
}

fn serve(program: &Path, scratch: &Scratch) -> Command {
    let mut command = Command::new(program);
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(scratch.data_dir());
    command.args(OFTEN).env_clear();
    command
}

/// A file system over another one, through which a program can be executed and its file still be written below.
struct Layers(PathBuf);

impl Layers {
    fn mount(scratch: &Scratch, program: &Path) -> Option<Self> {
        let layers = Self(scratch.path("layers"));
        for name in ["lower", "upper", "work", "all"] {
            fs::create_dir_all(layers.0.join(name)).unwrap();
        }
        server::copy_program(program, &layers.lower());
        let at = |name: &str| layers.0.join(name).display().to_string();
        let options = format!("lowerdir={},upperdir={},workdir={}", at("lower"), at("upper"), at("work"));
        let mut command = Command::new("mount");
        command.args(["-t", "overlay", "overlay", "-o", &options, &at("all")]);
        if !command.output().is_ok_and(|output| output.status.success()) {
            skip(NO_MOUNT);
            return None;
        }
        Some(layers)
    }

    fn lower(&self) -> PathBuf {
        self.0.join("lower/quantonium")
    }

    fn program(&self) -> PathBuf {
        self.0.join("all/quantonium")
    }
}

impl Drop for Layers {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.join("all")).status();
    }
}
