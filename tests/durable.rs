//! The real binary and its store: what was answered is there after any end, and what cannot be right is refused.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helpers too")]

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use nix::sys::signal::Signal;
use quantonium::clock::Moment;
use quantonium::crypto::random::{Generator, Kernel};
use quantonium::server::read_audit;
use quantonium::store::{DataDir, Journal, MasterKey, Owner, Store as _, Witness};
use serde_json::Value;
use server::client::Request;
use server::{Ended, Scratch, Server, binary, comes};

fn post(server: &Server, path: &str, body: &str, status: u16) -> Value {
    asked(server, Request::post(path, body), status)
}

fn get(server: &Server, path: &str) -> Value {
    asked(server, Request::get(path), 200)
}

#[track_caller]
fn asked(server: &Server, request: Request, status: u16) -> Value {
    let reply = server.ask(request);
    assert_eq!(reply.status, status, "{}", reply.text());
    serde_json::from_slice(&reply.body).unwrap()
}

fn kill(server: Server) {
    server.signal(Signal::SIGKILL);
    assert_eq!(server.wait().code, None);
}

/// Asks for `path` until `seen` says that it is so.
fn await_seen(server: &Server, request: &Request, seen: impl Fn(u16, &str) -> bool) {
    let mut client = server.connect();
    let is_seen = comes(|| {
        let reply = client.call(&request.clone().key(server.key()));
        if reply.closes() {
            client = server.connect();
        }
        seen(reply.status, reply.text())
    });
    assert!(is_seen, "{request:?} never showed what was waited for");
}

/// The lines of all audit files, in no order of files.
fn audit_lines(data_dir: &Path) -> Vec<Value> {
    let files = fs::read_dir(data_dir.join("audit")).unwrap().map(|entry| entry.unwrap().path());
    let texts = files.map(|path| fs::read_to_string(path).unwrap());
    let lines: Vec<String> =
        texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A folder with a master key and no data directory yet.
fn with_master_key() -> (Arc<Scratch>, PathBuf) {
    let scratch = Scratch::new();
    let path = scratch.path("master.key");
    write_key(&path, 7);
    (scratch, path)
}

/// Whom a server that is started by root gives its files to.
fn owner() -> Option<Owner> {
    nix::unistd::geteuid().is_root().then_some(Owner { uid: 1001, gid: 1001 })
}

fn write_key(path: &Path, byte: u8) {
    fs::write(path, [byte; 32]).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
}

/// Fails unless a start with these flags ends with 78, nothing on standard output, and `answer` in its words.
#[track_caller]
fn refuse(scratch: &Scratch, flags: &[&str], answer: &str) {
    let mut command = Command::new(binary().unwrap());
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(scratch.data_dir()).args(flags);
    let output = command.env_clear().stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains(answer), "{answer:?} is missing: {said}");
    assert_eq!(output.stdout, b"", "nothing is announced");
}

fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

#[test]
fn what_was_answered_is_there_after_a_kill() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    post(&server, "/api/keys", r#"{"name":"a","deletion_allowed":true,"exportable":true}"#, 201);
    post(&server, "/api/keys", r#"{"name":"b","type":"hmac-sha512","deletion_allowed":true}"#, 201);
    post(&server, "/api/keys", r#"{"name":"c","type":"chacha20-poly1305"}"#, 201);
    post(&server, "/api/keys/a/rotate", "", 200);
    let body = r#"{"keep_versions":9,"versions":[{"version":1,"state":"decrypt-only"}]}"#;
    asked(&server, Request::patch("/api/keys/a", body), 200);
    let deleted = server.ask(Request::new("DELETE", "/api/keys/b"));
    assert!(deleted.status < 300, "{}", deleted.text());
    let sealed: Vec<Value> = ["a", "c"]
        .iter()
        .map(|key| {
            post(&server, "/api/encrypt", &format!(r#"{{"key":"{key}","plaintext":"aGVsbG8="}}"#), 200)
        })
        .collect();
    let shown = |server: &Server| {
        ["/api/keys/a", "/api/keys/c", "/api/keys", "/api/keys?deleted=true"].map(|path| {
            let mut shown = get(server, path);
            // Figures may lose the last of them in a crash.
            for version in shown["versions"].as_array_mut().into_iter().flatten() {
                for figure in ["uses", "last_used_at", "seals_reserved"] {
                    version.as_object_mut().unwrap().remove(figure);
                }
            }
            shown
        })
    };
    let (before, key) = (shown(&server), server.key().to_owned());
    kill(server);
    for _ in 0..2 {
        let server = Server::start_in(&scratch, &[]).unwrap();
        assert_eq!(server.key(), key);
        assert_eq!(shown(&server), before);
        for (sealed, key) in sealed.iter().zip(["a", "c"]) {
            let body = format!(r#"{{"key":"{key}","ciphertext":{}}}"#, sealed["ciphertext"]);
            assert_eq!(post(&server, "/api/decrypt", &body, 200)["plaintext"], "aGVsbG8=");
            post(&server, "/api/encrypt", &format!(r#"{{"key":"{key}","plaintext":"aGVsbG8="}}"#), 200);
        }
        assert_eq!(get(&server, "/api/health")["components"]["store"]["status"], "ok");
        kill(server);
    }
}

#[test]
fn use_figures_outlive_a_clean_end() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    post(&server, "/api/keys", r#"{"name":"a"}"#, 201);
    for _ in 0..3 {
        post(&server, "/api/encrypt", r#"{"key":"a","plaintext":"aGVsbG8="}"#, 200);
    }
    let figures = |server: &Server| get(server, "/api/keys/a")["versions"][0].clone();
    let before = figures(&server);
    assert!(before["uses"].as_u64().unwrap() >= 3, "{before}");
    assert_eq!(server.stop().code, Some(0));
    let server = Server::start_in(&scratch, &[]).unwrap();
    assert_eq!(figures(&server)["uses"], before["uses"]);
}

#[test]
fn without_dev_the_master_key_lies_elsewhere_and_the_admin_key_is_shown_once() {
    if binary().is_none() {
        return;
    }
    let (scratch, master) = with_master_key();
    let given = flag("master-key-file", &master);
    refuse(&scratch, &[&given], "holds no store; make one: quantonium init --data-dir");
    let server = Server::start_in(&scratch, &[&given, "--init"]).unwrap();
    let key = server.key().to_owned();
    post(&server, "/api/keys", r#"{"name":"a"}"#, 201);
    let Ended { stdout, stderr, .. } = server.stop();
    assert_eq!(stdout.matches(&key).count(), 1, "{stdout}");
    assert!(!stderr.contains(&key) && key.len() == 55);
    for name in ["admin.key", "master.key"] {
        assert!(!scratch.data_dir().join(name).exists(), "{name}");
    }
    let secret = key.split_once('.').unwrap().1.as_bytes();
    for name in ["journal", "journal.next"] {
        let bytes = fs::read(scratch.data_dir().join(name)).unwrap();
        assert_eq!(memchr::memmem::find(&bytes, secret), None);
        assert_eq!(memchr::memmem::find(&bytes, &[7; 32]), None);
    }
    // A later start with the same flags makes nothing and shows nothing.
    let server = Server::start_in(&scratch, &[&given, "--init"]).unwrap();
    let reply = server.call(&Request::get("/api/keys/a").key(&key));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(!server.stop().stdout.contains("admin API key"));
}

#[test]
fn a_store_without_an_api_key_is_finished_with_init_and_never_served() {
    if binary().is_none() {
        return;
    }
    let (scratch, master) = with_master_key();
    let given = flag("master-key-file", &master);
    {
        // As a start leaves it that was cut off when it had raised the revision beyond what the audit files knew.
        let data_dir = DataDir::open(&scratch.data_dir(), owner()).unwrap();
        let master = MasterKey::read_file(&master).unwrap();
        let mut random = Generator::new(Kernel, Moment::now()).unwrap();
        Journal::create(&data_dir, &master, &mut random).unwrap();
        let witness = Witness { head: None, min_revision: 7, accept_rollback: true };
        let mut opened = Journal::open(&data_dir, &master, witness).unwrap();
        assert_eq!(opened.journal.load(&mut |_| Ok(())).unwrap().head.revision, 8);
    }
    refuse(&scratch, &[&given], "has no API key, its making was cut off: start once with --init");
    let server = Server::start_in(&scratch, &[&given, "--init"]).unwrap();
    let key = server.key().to_owned();
    post(&server, "/api/keys", r#"{"name":"a"}"#, 201);
    assert_eq!(server.stop().stdout.matches(&key).count(), 1);
    let server = Server::start_in(&scratch, &[&given, "--init"]).unwrap();
    assert_eq!(server.call(&Request::get("/api/keys/a").key(&key)).status, 200);
    assert!(!server.stop().stdout.contains("admin API key"), "shown once");
}

#[test]
fn stores_that_cannot_be_used_are_refused_with_what_to_do() {
    if binary().is_none() {
        return;
    }
    let (scratch, master) = with_master_key();
    let given = flag("master-key-file", &master);
    let server = Server::start_in(&scratch, &[&given, "--init"]).unwrap();
    refuse(&scratch, &[&given], "is in use by another quantonium");
    assert_eq!(server.stop().code, Some(0));
    refuse(&scratch, &[], "master key");
    let other = scratch.path("other.key");
    write_key(&other, 8);
    refuse(&scratch, &[&flag("master-key-file", &other)], "was made under another master key");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o644)).unwrap();
    refuse(&scratch, &[&flag("master-key-file", &other)], "run: chmod 400");
    let journal = scratch.data_dir().join("journal");
    fs::set_permissions(&journal, fs::Permissions::from_mode(0o640)).unwrap();
    refuse(&scratch, &[&given], "run: chmod 600");
    fs::set_permissions(&journal, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(Server::start_in(&scratch, &[&given]).unwrap().stop().code, Some(0));
}

#[test]
fn a_store_that_falls_behind_the_audit_log_is_refused_until_that_is_accepted() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    post(&server, "/api/keys", r#"{"name":"a"}"#, 201);
    let journal = scratch.data_dir().join("journal");
    let earlier = fs::metadata(&journal).unwrap().len();
    post(&server, "/api/keys", r#"{"name":"b"}"#, 201);
    kill(server);
    // Whole frames only: nothing in the file tells that there were more.
    let file = fs::File::options().write(true).open(&journal).unwrap();
    file.set_len(earlier).unwrap();
    refuse(&scratch, &["--dev"], "it was rolled back, by a restored backup or by somebody");
    let server = Server::start_in(&scratch, &["--dev", "--accept-store-rollback"]).unwrap();
    let keys = get(&server, "/api/keys");
    assert_eq!(keys["keys"].as_array().unwrap().len(), 1, "{keys}");
    post(&server, "/api/keys", r#"{"name":"c"}"#, 201);
    let ended = server.stop();
    assert!(ended.stderr.contains("fallen behind what is known of it, which was accepted"), "{ended:?}");
    let server = Server::start_in(&scratch, &[]).unwrap();
    assert_eq!(get(&server, "/api/keys")["keys"].as_array().unwrap().len(), 2);
    assert_eq!(server.stop().code, Some(0));
    refuse(&scratch, &["--dev", "--min-store-revision=1000"], "was at 1000 before");
    // A journal that is gone is one that fell behind, too: nothing is made in its place.
    fs::remove_file(&journal).unwrap();
    refuse(&scratch, &["--dev"], "it was rolled back");
    assert!(!journal.exists());
}

#[test]
fn traffic_does_not_push_the_witness_out() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &["--workers=2"]) else { return };
    post(&server, "/api/keys", r#"{"name":"a"}"#, 201);
    let journal = scratch.data_dir().join("journal");
    let earlier = fs::metadata(&journal).unwrap().len();
    post(&server, "/api/keys/a/rotate", "", 200);
    kill(server);
    fs::File::options().write(true).open(&journal).unwrap().set_len(earlier).unwrap();
    // As many lines as a start reads in all, and more.
    let traffic = "{\"event\":\"encrypt\",\"outcome\":\"success\"}\n".repeat(1_800_000);
    assert!(traffic.len() > 65 << 20);
    for entry in fs::read_dir(scratch.data_dir().join("audit")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().ends_with("-w0-0001.jsonl")
            || path.to_string_lossy().ends_with("-w1-0001.jsonl")
        {
            fs::File::options().append(true).open(&path).unwrap().write_all(traffic.as_bytes()).unwrap();
        }
    }
    refuse(&scratch, &["--dev"], "it was rolled back");
}

#[test]
fn one_worker_hides_nothing_of_another() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &["--workers=2"]) else { return };
    assert_eq!(server.stop().code, Some(0));
    let data_dir = DataDir::open(&scratch.data_dir(), owner()).unwrap();
    let audit = scratch.data_dir().join("audit");
    let traffic = "{\"event\":\"encrypt\",\"outcome\":\"success\"}\n".repeat(1_800_000);
    let attempt = "{\"seq\":1,\"event\":\"key.create\",\"outcome\":\"attempt\",\"request_id\":\"0123456789abcdef0123456789abcdef\"}\n";
    // The latest of all starts: one worker with an attempt, beside others that wrote more than is read in all.
    for (stream, text) in [("w0", &*traffic), ("w1", attempt), ("w2", &*traffic)] {
        fs::write(audit.join(format!("7fffffff-00000000-{stream}.jsonl")), text).unwrap();
    }
    assert_eq!(read_audit(&data_dir).unwrap().into_unfinished().len(), 1);
}

#[test]
fn a_torn_end_is_cut_off_and_nothing_that_was_answered_with_it() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    post(&server, "/api/keys", r#"{"name":"a"}"#, 201);
    kill(server);
    let journal = scratch.data_dir().join("journal");
    let mut file = fs::File::options().append(true).open(&journal).unwrap();
    file.write_all(b"QNF\x01\0\0\x10\0and then the power failed").unwrap();
    let server = Server::start_in(&scratch, &[]).unwrap();
    get(&server, "/api/keys/a");
    assert!(server.stop().stderr.contains("were never finished by an earlier run, and cut off"));
}

#[test]
fn keys_are_rotated_by_age_and_deleted_ones_destroyed() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &["--restore-window=0"]) else { return };
    let options = r#"{"name":"r","auto_rotate_seconds":1}"#;
    post(&server, "/api/keys", options, 201);
    let gone = r#"{"name":"d","deletion_allowed":true}"#;
    post(&server, "/api/keys", gone, 201);
    assert!(server.ask(Request::new("DELETE", "/api/keys/d")).status < 300);
    // More than one rotation may lie between two looks.
    let rotated =
        |body: &str| serde_json::from_str::<Value>(body).unwrap()["latest_version"].as_u64() >= Some(3);
    await_seen(&server, &Request::get("/api/keys/r"), |_, body| rotated(body));
    // The name is free when the key is gone for good.
    await_seen(&server, &Request::post("/api/keys", gone), |status, _| status == 201);
    assert_eq!(server.stop().code, Some(0));
    let lines = audit_lines(&scratch.data_dir());
    for event in ["key.rotate", "key.purge"] {
        let own = lines.iter().filter(|line| line["event"] == event);
        let own: Vec<_> = own.filter(|line| line["stream"].as_str().unwrap().ends_with("-k")).collect();
        let count = |outcome: &str| own.iter().filter(|line| line["outcome"] == outcome).count();
        assert!(count("attempt") > 0 && count("attempt") == count("success"), "{event}: {own:?}");
        assert!(own.iter().all(|line| line["principal"].is_null() && line["remote"].is_null()));
    }
}

#[test]
fn changes_that_no_outcome_was_told_of_get_it_at_the_next_start() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &["--workers=1"]) else { return };
    post(&server, "/api/keys", r#"{"name":"a"}"#, 201);
    kill(server);
    // As if the end had come right after the change was written down, and before it was told.
    let audit = scratch.data_dir().join("audit");
    let files: Vec<PathBuf> = fs::read_dir(&audit).unwrap().map(|entry| entry.unwrap().path()).collect();
    let file = files.iter().find(|path| path.to_string_lossy().ends_with("-w0-0001.jsonl")).unwrap();
    let text = fs::read_to_string(file).unwrap();
    let attempt = text.lines().find(|line| line.contains("\"outcome\":\"attempt\"")).unwrap();
    let kept = attempt.split("\"request_id\":\"").nth(1).unwrap().split('"').next().unwrap();
    let lost = "0123456789abcdef0123456789abcdef";
    fs::write(file, format!("{attempt}\n{}\n{{\"seq\":3,\"ts", attempt.replace(kept, lost))).unwrap();
    let reconciled = || {
        let lines = audit_lines_that_parse(&audit);
        let own = lines.into_iter().filter(|line| line["code"] == "reconciled");
        let mut own: Vec<_> = own.map(|line| (line["request_id"].clone(), line["outcome"].clone())).collect();
        own.sort_by_key(|(id, _)| id.to_string());
        own
    };
    for _ in 0..2 {
        let server = Server::start_in(&scratch, &[]).unwrap();
        get(&server, "/api/keys/a");
        kill(server);
        let mut wanted = vec![(kept.into(), "success".into()), (lost.into(), Value::from("failure"))];
        wanted.sort_by_key(|(id, _): &(Value, Value)| id.to_string());
        assert_eq!(reconciled(), wanted, "once, and not again");
    }
}

/// As [`audit_lines`], without what a crash left of a line.
fn audit_lines_that_parse(audit: &Path) -> Vec<Value> {
    let files = fs::read_dir(audit).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let lines: Vec<String> =
        files.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn each_change_has_an_attempt_and_an_outcome_that_says_where_the_store_stood() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    post(&server, "/api/keys", r#"{"name":"a"}"#, 201);
    post(&server, "/api/keys", r#"{"name":"a"}"#, 200);
    post(&server, "/api/keys/a/rotate", "", 200);
    assert_eq!(server.stop().code, Some(0));
    let lines = audit_lines(&scratch.data_dir());
    let told = |line: &&Value| line["outcome"] != "attempt" && line["request_id"] != Value::Null;
    let changes: Vec<_> = lines.iter().filter(told).collect();
    let mut revisions: Vec<_> = changes.iter().filter_map(|line| line["store_revision"].as_u64()).collect();
    revisions.sort_unstable();
    let heads = lines.iter().filter(|line| line["event"] == "store.head");
    let mut heads: Vec<_> = heads.filter_map(|line| line["store_revision"].as_u64()).collect();
    heads.sort_unstable();
    // On a slow machine how far the streams have come is told before the end too, every ten seconds.
    let (all, usual): (Vec<u64>, u64) = ((1..=heads.len() as u64).collect(), 5);
    assert!(heads == all && heads.len() as u64 >= usual, "as found, changes, figures, streams: {heads:?}");
    assert_eq!(revisions.len(), 2, "what changed nothing has none");
    assert!(
        heads.len() as u64 > usual || revisions == [2, 3],
        "the first one is the admin key: {revisions:?}"
    );
    for line in &changes {
        let same =
            |other: &&Value| other["request_id"] == line["request_id"] && other["outcome"] == "attempt";
        assert_eq!(lines.iter().filter(same).count(), 1, "{line}");
        let tagged = line["store_tag"].as_str().map_or(0, str::len);
        assert_eq!(tagged, if line["store_revision"].is_null() { 0 } else { 32 });
    }
}

#[test]
fn a_running_server_compacts_its_journal_and_loses_nothing() {
    let scratch = Scratch::new();
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    post(&server, "/api/keys", r#"{"name":"a"}"#, 201);
    let journal = scratch.data_dir().join("journal");
    let (mut longest, mut rotations) = (0, 1);
    loop {
        let len = fs::metadata(&journal).unwrap().len();
        if len < longest {
            break;
        }
        longest = len;
        rotations += 1;
        assert!(rotations < 1_000, "the journal only grows: {longest}");
        post(&server, "/api/keys/a/rotate", "", 200);
    }
    rotations += 1;
    post(&server, "/api/keys/a/rotate", "", 200);
    let shown = get(&server, "/api/keys/a");
    assert_eq!(shown["latest_version"], rotations);
    kill(server);
    let server = Server::start_in(&scratch, &[]).unwrap();
    assert_eq!(get(&server, "/api/keys/a"), shown);
    assert_eq!(server.stop().code, Some(0));
}
