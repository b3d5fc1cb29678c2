//! System calls on the journal that fail: changes are refused with the code of the reason, keys go on being used, what
//! can recover does so by itself, and after a failed sync nothing is pretended.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its functions too")]
#![expect(clippy::indexing_slicing, reason = "a member that is missing fails the test")]

#[path = "support/promises.rs"]
mod promises;
#[path = "simulation/random.rs"]
mod random;
#[path = "support/server.rs"]
mod server;
#[path = "support/trace.rs"]
mod trace;

use std::fs;
use std::sync::Arc;

use nix::sys::signal::Signal;
use promises::{Promises, assert_kept};
use server::client::{Client, Reply, Request};
use server::{Scratch, Server, assert_sound, binary, comes};

/// A data directory with a store that has a key, `use`, and what was sealed with it.
fn made() -> Option<(Arc<Scratch>, String)> {
    binary()?;
    if !trace::possible() {
        return None;
    }
    let scratch = Scratch::in_memory();
    let server = Server::start_in(&scratch, &[])?;
    let created = server.ask(Request::post("/api/keys", "{\"name\":\"use\",\"deletion_allowed\":true}"));
    assert_eq!(created.status, 201);
    let sealed = server.ask(Request::post("/api/encrypt", "{\"key\":\"use\",\"plaintext\":\"aGVsbG8=\"}"));
    let ciphertext = sealed.member("ciphertext");
    assert_eq!(server.stop().code, Some(0));
    Some((scratch, ciphertext))
}

/// Keys are used whatever becomes of changes.
fn assert_used(client: &mut Client, key: &str, ciphertext: &str) {
    let seal = "{\"key\":\"use\",\"plaintext\":\"aGVsbG8=\"}";
    assert_eq!(client.call(&Request::post("/api/encrypt", seal).key(key)).status, 200);
    let open = format!("{{\"key\":\"use\",\"ciphertext\":\"{ciphertext}\"}}");
    let opened = client.call(&Request::post("/api/decrypt", open).key(key));
    assert_eq!(opened.member("plaintext"), "aGVsbG8=");
    assert_eq!(client.call(&Request::get("/api/keys").key(key)).status, 200);
}

/// Waits until health says this of the store.
fn assert_health(client: &mut Client, status: &str) {
    let mut last = String::new();
    let said = comes(|| {
        let reply = client.call(&Request::get("/api/health"));
        let json = reply.json();
        assert_eq!(reply.status, 200, "keys can be used: {json}");
        let store = json.pointer("/components/store/status").and_then(|status| status.as_str());
        if store == Some(status) {
            // The tracer, which injects the faults, is found too.
            let is_traced = json["components"]["sandbox"]["status"] != "ok";
            assert_eq!(json["status"], if status == "ok" && !is_traced { "ok" } else { "degraded" });
            return true;
        }
        last = json.to_string();
        false
    });
    assert!(said, "the store is never {status}: {last}");
}

/// Has the server killed, and holds what the next one has against what was promised.
fn assert_kept_by_the_next(server: Server, clients: &mut [Promises]) {
    let scratch = Arc::clone(server.scratch());
    server.signal(Signal::SIGKILL);
    let _ = server.wait();
    let server = Server::start_in(&scratch, &[]).unwrap();
    assert_kept(&server, clients, true);
    assert_health(&mut server.connect(), "ok");
    let data_dir = server.data_dir();
    assert_eq!(server.stop().code, Some(0));
    assert_sound(&data_dir);
}

/// A change that is taken; what it led to is held against what was foretold.
fn must_change(promises: &mut Promises, client: &mut Client, key: &str) {
    let reply = promises.change(client, key).unwrap();
    assert!([200, 201].contains(&reply.status), "{reply:?}");
    promises.seal(client, key).unwrap();
}

/// A change that is refused for this reason.
fn must_refuse(promises: &mut Promises, client: &mut Client, key: &str, status: u16, code: &str) -> Reply {
    let reply = promises.change(client, key).unwrap();
    reply.assert_problem(status, code);
    // Nobody is asked to repeat what may have been done.
    let repeat = status == 503 && code != "store_ambiguous";
    assert_eq!(reply.field("Retry-After").is_some(), repeat, "{reply:?}");
    reply
}

/// How a change is answered that meets this fault.
fn named(fault: &str) -> (u16, &'static str) {
    let full = fault.contains("ENOSPC") || fault.contains("EDQUOT");
    if full { (507, "store_full") } else { (503, "store_unavailable") }
}

#[test]
fn a_write_that_fails_is_answered_with_its_reason_and_the_next_one_goes_through() {
    let Some((scratch, ciphertext)) = made() else { return };
    let cases: [&[&str]; 6] = [
        &["write:error=ENOSPC:when=3..5"],
        &["write:error=EDQUOT:when=3..5"],
        &["write:error=EIO:when=3..5"],
        &["write:error=EAGAIN:when=3..5"],
        // Room is given back with what is taken back, so that the next change asks for it again: first for plenty of
        // it, and if there is not so much, for what it needs.
        &["write:error=EIO:when=3", "fallocate:error=ENOSPC:when=2..5"],
        &["write:error=ENOSPC:when=3", "fallocate:error=EIO:when=2..3"],
    ];
    let mut clients = [Promises::uncounted("w", 1)];
    for faults in cases {
        let Some(server) = trace::start(&scratch, &["--workers", "1"], faults) else { return };
        let mut client = server.connect();
        let promises = &mut clients[0];
        for _ in 0..2 {
            must_change(promises, &mut client, server.key());
        }
        let mut refused = 0;
        // A change to what is so already writes nothing, and goes through.
        for _ in 0..20 {
            let reply = promises.change(&mut client, server.key()).unwrap();
            if reply.status < 300 {
                continue;
            }
            // The first fault of two is only there to have room given back.
            let first = refused == 0 && faults.len() == 2;
            let (status, code) = if first { named(faults[0]) } else { named(faults[faults.len() - 1]) };
            reply.assert_problem(status, code);
            promises.refused();
            refused += 1;
            assert_used(&mut client, server.key(), &ciphertext);
            assert_health(&mut client, "failing");
            promises.assert_kept(&mut client, server.key(), true);
        }
        assert_eq!(refused, 3, "{faults:?}");
        for _ in 0..3 {
            must_change(promises, &mut client, server.key());
        }
        assert_health(&mut client, "ok");
        assert_kept_by_the_next(server, &mut clients);
    }
}

#[test]
fn what_was_only_interrupted_is_done_again_and_nobody_learns_of_it() {
    let Some((scratch, ciphertext)) = made() else { return };
    let mut clients = [Promises::uncounted("i", 2)];
    let faults = ["write:error=EINTR:when=2..6", "write:error=EIO:when=9", "fallocate:error=EINTR:when=2..6"];
    let Some(server) = trace::start(&scratch, &[], &faults[..1]) else { return };
    let mut client = server.connect();
    for _ in 0..6 {
        must_change(&mut clients[0], &mut client, server.key());
    }
    assert_used(&mut client, server.key(), &ciphertext);
    assert_kept_by_the_next(server, &mut clients);
    assert_eq!(trace::calls(&scratch).iter().filter(|call| call.contains("(INJECTED)")).count(), 5);
    let Some(server) = trace::start(&scratch, &[], &faults[1..]) else { return };
    let mut client = server.connect();
    let refused = (0..12).filter(|_| {
        let refused = clients[0].change(&mut client, server.key()).unwrap().status >= 300;
        clients[0].refused();
        refused
    });
    assert_eq!(
        refused.count(),
        1,
        "the write that failed, and none of the interrupted reservations after it"
    );
    assert_kept_by_the_next(server, &mut clients);
    assert_eq!(trace::calls(&scratch).iter().filter(|call| call.contains("(INJECTED)")).count(), 6);
}

#[test]
fn a_file_system_that_reserves_no_room_is_written_to_without() {
    let Some((scratch, _)) = made() else { return };
    let mut clients = [Promises::uncounted("r", 3)];
    let Some(server) =
        trace::start(&scratch, &[], &["write:error=EIO:when=1", "fallocate:error=EOPNOTSUPP:when=2"])
    else {
        return;
    };
    let mut client = server.connect();
    must_refuse(&mut clients[0], &mut client, server.key(), 503, "store_unavailable");
    clients[0].refused();
    for _ in 0..4 {
        must_change(&mut clients[0], &mut client, server.key());
    }
    assert_health(&mut client, "ok");
    assert_kept_by_the_next(server, &mut clients);
    // The successor's room is reserved at the start, by another thread.
    let asked = |call: &&String| call.contains("fallocate(") && call.contains("/journal>");
    let reserved = trace::calls(&scratch).iter().filter(asked).count();
    assert_eq!(reserved, 2, "it is not asked for again");
}

/// How often the journal was synced after its sync had failed.
fn syncs_after_failure(scratch: &Scratch) -> usize {
    let calls = trace::calls(scratch);
    let failed = calls.iter().position(|call| call.contains("fdatasync(") && call.contains("(INJECTED)"));
    let failed = failed.unwrap_or_else(|| panic!("no sync failed: {calls:?}"));
    calls.iter().skip(failed + 1).filter(|call| call.contains("sync(")).count()
}

#[test]
fn after_a_failed_sync_every_change_is_refused_until_a_restart_and_the_sync_is_not_tried_again() {
    let Some((scratch, ciphertext)) = made() else { return };
    let mut clients = [Promises::uncounted("s", 4), Promises::uncounted("t", 5)];
    for (error, count) in [("EIO", 1), ("EIO", 3), ("ENOSPC", 2), ("EINTR", 2)] {
        let fault = format!("fdatasync:error={error}:when={count}");
        let Some(server) = trace::start(&scratch, &["--workers", "2"], &[&fault]) else { return };
        let mut client = server.connect();
        let (one, other) = clients.split_at_mut(1);
        for _ in 1..count {
            must_change(&mut one[0], &mut client, server.key());
        }
        // This one stays open: it may be there after the restart, or not.
        must_refuse(&mut one[0], &mut client, server.key(), 503, "store_ambiguous");
        assert_health(&mut client, "failing");
        for _ in 0..5 {
            must_refuse(&mut other[0], &mut client, server.key(), 503, "store_refuses");
            other[0].refused();
            assert_used(&mut client, server.key(), &ciphertext);
        }
        assert_health(&mut client, "failing");
        assert_eq!(server.stop().code, Some(0), "{error}");
        assert_eq!(syncs_after_failure(&scratch), 0, "{error}: {:#?}", trace::calls(&scratch));
        let Some(server) = Server::start_in(&scratch, &[]) else { return };
        assert_kept_by_the_next(server, &mut clients);
    }
}

#[test]
fn a_change_that_takes_a_right_away_holds_at_once_even_if_nobody_knows_whether_it_lasts() {
    let Some((scratch, ciphertext)) = made() else { return };
    let Some(server) = trace::start(&scratch, &["--workers", "2"], &["fdatasync:error=EIO:when=1"]) else {
        return;
    };
    let deleted = server.ask(Request::with_body("DELETE", "/api/keys/use", ""));
    deleted.assert_problem(503, "store_ambiguous");
    let open = format!("{{\"key\":\"use\",\"ciphertext\":\"{ciphertext}\"}}");
    for _ in 0..16 {
        server.ask(Request::post("/api/decrypt", &open)).assert_problem(404, "unknown_key");
    }
    server.signal(Signal::SIGKILL);
    let _ = server.wait();
    let Some(server) = Server::start_in(&scratch, &[]) else { return };
    // A killed server's page cache outlives it: here the frame is whole, and the deletion lasted.
    assert_eq!(server.ask(Request::post("/api/decrypt", &open)).status, 404);
    assert_eq!(server.ask(Request::with_body("POST", "/api/keys/use/undelete", "")).status, 200);
}

#[test]
fn a_write_that_cannot_be_taken_back_ends_all_changes_until_a_restart() {
    let Some((scratch, ciphertext)) = made() else { return };
    let mut clients = [Promises::uncounted("u", 6)];
    let faults = ["write:error=EIO:when=2", "ftruncate:error=EIO:when=1+"];
    let Some(server) = trace::start(&scratch, &["--workers", "1"], &faults) else { return };
    let mut client = server.connect();
    must_change(&mut clients[0], &mut client, server.key());
    must_refuse(&mut clients[0], &mut client, server.key(), 503, "store_ambiguous");
    let refused = server.ask(Request::post("/api/keys", "{\"name\":\"never\"}"));
    refused.assert_problem(503, "store_refuses");
    assert_used(&mut client, server.key(), &ciphertext);
    assert_health(&mut client, "failing");
    assert_kept_by_the_next(server, &mut clients);
}

#[test]
fn a_journal_that_cannot_be_read_or_synced_stops_the_start_with_a_reason() {
    let Some((scratch, _)) = made() else { return };
    let before = fs::read(scratch.data_dir().join("journal")).unwrap();
    for (fault, word) in [
        ("pread64:error=EIO:when=1", "cannot read"),
        ("pread64:error=EIO:when=2", "cannot read"),
        ("fsync:error=EIO:when=1", "cannot sync"),
    ] {
        let Some(mut command) = trace::command(&scratch, &[fault]) else { return };
        command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--data-dir"]).arg(scratch.data_dir());
        let ended = Server::try_spawn(command, &scratch, 1).expect_err("a start on a disk that fails");
        assert_eq!(ended.code, Some(74), "{fault}: {ended:?}");
        assert!(ended.stderr.contains(word) && ended.stderr.contains("I/O error"), "{ended:?}");
        assert_eq!(fs::read(scratch.data_dir().join("journal")).unwrap(), before, "{fault}");
    }
}
