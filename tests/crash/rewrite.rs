//! A journal that is replaced as a whole, by the running server or by a command, is killed and hindered at each of the
//! system calls that this takes: it is the old one or the new one, and whole.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use quantonium::limits::AUDIT_CHECKPOINT_SECONDS;

use super::server::client::{Client, Reply, Request};
use super::server::{Ended, Scratch, Server, assert_sound, binary, command};
use super::trace::{self, Call};

/// A journal longer than this is compacted in use.
const COMPACTED_FROM_BYTES: u64 = 1024 * 1024;

/// Rotations after which the journal was compacted three times.
const ROTATIONS: u64 = 270;

/// A store with a key of many versions, and what the first of them sealed.
struct Store {
    scratch: Arc<Scratch>,
    ciphertext: String,
    versions: u64,
}

fn rotate(client: &mut Client, key: &str) -> Option<Reply> {
    client.attempt(&Request::post("/api/keys/big/rotate", "").key(key))
}

/// A store whose journal is `missing` bytes from where it is compacted in use.
fn store(missing: u64) -> Option<Store> {
    binary()?;
    if !trace::possible() {
        return None;
    }
    let scratch = Scratch::in_memory();
    let server = Server::start_in(&scratch, &["--workers", "1"])?;
    let mut client = server.connect();
    let made = client.call(&Request::post("/api/keys", "{\"name\":\"big\"}").key(server.key()));
    assert_eq!(made.status, 201, "{made:?}");
    let seal =
        Request::post("/api/encrypt", "{\"key\":\"big\",\"plaintext\":\"aGVsbG8=\"}").key(server.key());
    let ciphertext = client.call(&seal).member("ciphertext");
    let journal = server.data_dir().join("journal");
    let mut versions = 1;
    while fs::metadata(&journal).unwrap().len() < COMPACTED_FROM_BYTES - missing {
        assert_eq!(rotate(&mut client, server.key()).unwrap().status, 200);
        versions += 1;
    }
    assert_eq!(server.stop().code, Some(0));
    Some(Store { scratch, ciphertext, versions })
}

impl Store {
    /// Asserts that a server has as many versions of the key as it must, and opens what was sealed.
    fn assert_kept(&self, scratch: &Arc<Scratch>, flags: &[&str], versions: [u64; 2], about: &str) {
        let server = Server::start_in(scratch, flags).unwrap();
        let key = server.ask(Request::get("/api/keys/big")).json();
        let latest = key["latest_version"].as_u64().unwrap();
        assert!((versions[0]..=versions[1]).contains(&latest), "{about}: {latest} of {versions:?}");
        let open = format!("{{\"key\":\"big\",\"ciphertext\":\"{}\"}}", self.ciphertext);
        let opened = server.ask(Request::post("/api/decrypt", open));
        assert_eq!(opened.member("plaintext"), "aGVsbG8=", "{about}");
        // And it goes on.
        let rotated = server.ask(Request::post("/api/keys/big/rotate", ""));
        assert_eq!(rotated.status, 200, "{about}: {rotated:?}");
        let ended = server.stop();
        assert_eq!(ended.code, Some(0), "{about}: {ended:?}");
    }

    /// Rotates the key until the journal was compacted or a rotation is not answered; returns how many were, and the
    /// first refusal.
    fn rotate_until(&self, server: &Server) -> (u64, Option<Reply>) {
        let mut client = server.connect();
        for count in 0..ROTATIONS {
            match rotate(&mut client, server.key()) {
                None => return (count, None),
                Some(reply) if reply.status != 200 => return (count, Some(reply)),
                Some(_) => {}
            }
        }
        (ROTATIONS, None)
    }

    /// Starts a server on a copy of the store with this fault, and does the same there. It is done again where it took so long that
    /// the keeper has noted by itself how far the audit log has come: from then on calls are not those that were counted.
    fn rotate_with(&self, faults: &[&str]) -> (Arc<Scratch>, Server, (u64, Option<Reply>)) {
        let mut tries = 0;
        loop {
            tries += 1;
            let scratch = Scratch::copy_of(&self.scratch);
            let begun = Instant::now();
            let server = trace::start(&scratch, &["--workers", "1"], faults).unwrap();
            let rotated = self.rotate_until(&server);
            // Where it is never quick enough, the last try has to do.
            if begun.elapsed() < Duration::from_secs(AUDIT_CHECKPOINT_SECONDS) || tries == 5 {
                return (scratch, server, rotated);
            }
        }
    }

    /// The calls of the last compaction in use, each as it is counted when nothing fails. The main thread makes calls
    /// of the same names at the start, and they are counted for each thread: so many later ones are met by none of it.
    fn calls_in_use(&self) -> Vec<Call> {
        let (scratch, server, (count, refused)) = self.rotate_with(&[]);
        assert!(count == ROTATIONS && refused.is_none(), "{refused:?}");
        let ended = server.stop();
        assert!(ended.stderr.matches("store: compacted").count() > 4, "{ended:?}");
        let calls = trace::counted(&scratch);
        let last = calls.iter().rfind(|call| call.name == "renameat2").unwrap();
        let (own, others): (Vec<&Call>, Vec<&Call>) =
            calls.iter().partition(|call| call.thread == last.thread);
        // A compaction ends with the emptying of the file that is not the journal, and begins, after the changes since the
        // one before, with what is written there.
        let emptied = |call: &&Call| call.name == "ftruncate" && call.line.contains("journal.next>");
        let to = own.iter().rposition(emptied).unwrap();
        let before = own.iter().take(to).rposition(emptied).unwrap();
        let begins = |call: &&Call| call.name == "write" && call.line.contains("journal.next>");
        let from = before + own[before..to].iter().position(begins).unwrap();
        let mut made: Vec<Call> = own[from..=to].iter().map(|call| (*call).clone()).collect();
        let met =
            |call: &Call| others.iter().any(|other| other.name == call.name && other.ordinal >= call.ordinal);
        // A start empties the successor too, so that the main thread would be met by some of these.
        made.retain(|call| !met(call));
        for name in ["write", "fsync", "renameat2"] {
            assert!(made.iter().any(|call| call.name == name), "{name}: {made:#?}");
        }
        made
    }
}

#[test]
fn a_compaction_in_use_is_killed_at_each_of_its_system_calls() {
    let Some(store) = store(100_000) else { return };
    let calls = store.calls_in_use();
    assert!(calls.len() >= 7, "{calls:#?}");
    for call in &calls {
        let fault = call.inject("signal=SIGKILL");
        let (scratch, server, (count, refused)) = store.rotate_with(&[&fault]);
        assert!(count < ROTATIONS && refused.is_none(), "{fault}: not killed: {refused:?}");
        assert_eq!(server.wait().code, None);
        // The change before is answered before the journal is looked after, or is open.
        let acknowledged = store.versions + count;
        store.assert_kept(&scratch, &[], [acknowledged, acknowledged + 1], &fault);
        assert_sound(&scratch.data_dir());
    }
}

#[test]
fn a_compaction_in_use_that_fails_costs_no_change() {
    let Some(store) = store(100_000) else { return };
    let calls = store.calls_in_use();
    for (call, error) in calls.iter().flat_map(|call| [(call, "EIO"), (call, "ENOSPC")]) {
        let fault = call.inject(&format!("error={error}"));
        let (scratch, server, (count, refused)) = store.rotate_with(&[&fault]);
        let names_unknown = call.name == "fsync" && !call.line.contains("journal");
        let unreadable = error == "EIO" && ["pread64", "renameat2"].contains(&call.name.as_str());
        if names_unknown || unreadable {
            // Which of the two files the disk has for the journal is unknown, or what stands in it.
            refused.as_ref().unwrap_or_else(|| panic!("{fault}")).assert_problem(503, "store_refuses");
        } else {
            assert!(refused.is_none() && count == ROTATIONS, "{fault}: {count} {refused:?}");
        }
        server.signal(Signal::SIGKILL);
        let ended = server.wait();
        let injected = trace::calls(&scratch).iter().any(|call| call.contains("(INJECTED)"));
        assert!(injected, "{fault}: {ended:?}");
        let acknowledged = store.versions + count;
        store.assert_kept(&scratch, &[], [acknowledged, acknowledged], &fault);
        assert_sound(&scratch.data_dir());
    }
}

/// Runs `quantonium store` with these words under strace.
fn run(scratch: &Scratch, words: &[&str], faults: &[&str]) -> Ended {
    let mut command = trace::command(scratch, faults).unwrap();
    let output = command.args(words).arg("--data-dir").arg(scratch.data_dir()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    Ended { code: output.status.code(), signal, stdout: text(output.stdout), stderr: text(output.stderr) }
}

/// Kills and hinders a command at each of its calls; `flags` are those with which one of the results must open.
fn sweep(store: &Store, words: &[&str], flags: &[&[&str]]) -> usize {
    let calls = {
        let scratch = Scratch::copy_of(&store.scratch);
        assert_eq!(run(&scratch, words, &[]).code, Some(0));
        trace::counted(&scratch)
    };
    for (call, what) in calls.iter().flat_map(|call| [(call, "signal=SIGKILL"), (call, "error=EIO")]) {
        let scratch = Scratch::copy_of(&store.scratch);
        let fault = call.inject(what);
        let ended = run(&scratch, words, &[&fault]);
        if what.starts_with("signal") {
            assert_eq!(ended.code, None, "{fault}: {ended:?}");
        }
        let about = format!("{words:?} {fault} {ended:?}");
        let opening: Vec<&&[&str]> = flags
            .iter()
            .filter(|flags| {
                command(&[&["store", "verify"], **flags].concat(), &scratch.data_dir()).unwrap().code
                    == Some(0)
            })
            .collect();
        assert_eq!(opening.len(), 1, "{about}: opened by {opening:?}");
        if ended.code == Some(0) {
            assert_eq!(*opening[0], flags[flags.len() - 1], "{about}: not what was said");
        }
        store.assert_kept(&scratch, opening[0], [store.versions, store.versions], &about);
    }
    calls.len()
}

#[test]
fn commands_that_rewrite_the_store_are_killed_and_hindered_at_each_of_their_system_calls() {
    let Some(store) = store(COMPACTED_FROM_BYTES - 20_000) else { return };
    let new = store.scratch.path("new.key");
    fs::write(&new, "ab".repeat(32)).unwrap();
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let new = new.to_str().unwrap();
    let compacted = sweep(&store, &["store", "compact"], &[&[]]);
    let rekeyed =
        sweep(&store, &["store", "rekey", "--new-master-key-file", new], &[&[], &["--master-key-file", new]]);
    println!("{compacted} and {rekeyed} calls, each killed and hindered");
}
