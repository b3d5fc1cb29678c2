//! `--audit-durability synced`: no reply leaves before its lines are on the disk, and what a failed sync does.

#[path = "support/lines.rs"]
mod lines;
#[path = "support/server.rs"]
mod server;
#[path = "support/trace.rs"]
mod trace;

use std::fs;
use std::process::Command;
use std::sync::Arc;

use lines::{assert_told, files, named, streams};
use server::client::{Client, Reply, Request};
use server::{Scratch, Server, binary};

const ORDERS: &str = "{\"name\":\"orders\"}";
const SEAL: &str = "{\"key\":\"orders\",\"plaintext\":\"aGVsbG8=\"}";

/// A store with a key in it.
fn made() -> Option<Arc<Scratch>> {
    let scratch = Scratch::new();
    let server = Server::start_in(&scratch, &[])?;
    assert_eq!(server.ask(Request::post("/api/keys", ORDERS)).status, 201);
    assert_eq!(server.stop().code, Some(0));
    Some(scratch)
}

/// A server under strace with these arguments, which see whole lines.
fn traced(scratch: &Arc<Scratch>, arguments: &[&str]) -> Option<Server> {
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-y", "-q", "-s", "65536", "--seccomp-bpf"]).args(arguments);
    command.arg("-o").arg(scratch.path("trace")).arg(binary()?);
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--workers", "1"]);
    command.args(["--audit-durability", "synced", "--data-dir"]).arg(scratch.data_dir());
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    Some(Server::spawn(command, scratch, 1))
}

fn seal(client: &mut Client, server: &Server) -> Reply {
    let reply = client.call(&Request::post("/api/encrypt", SEAL).key(server.key()));
    if reply.closes() {
        *client = server.connect();
    }
    reply
}

/// The first line from `from` on that holds all of `wanted`.
fn find(calls: &[String], from: usize, wanted: &[&str]) -> Option<usize> {
    let is_it = |call: &String| wanted.iter().all(|part| call.contains(part));
    calls.iter().skip(from).position(is_it).map(|at| at + from)
}

#[test]
fn each_reply_leaves_after_its_lines_were_synced() {
    if binary().is_none() || !trace::possible() {
        return;
    }
    let Some(scratch) = made() else { return };
    let Some(server) = traced(&scratch, &["-e", "trace=write,fdatasync,sendto"]) else { return };
    let mut client = server.connect();
    let mut replies: Vec<Reply> = (0..20).map(|_| seal(&mut client, &server)).collect();
    replies.push(client.call(&Request::post("/api/keys", "{\"name\":\"more\"}").key(server.key())));
    assert!(replies.iter().all(|reply| reply.status < 300));
    drop(client);
    assert_eq!(server.stop().code, Some(0));
    let calls = trace::calls(&scratch);
    for reply in &replies {
        let id = reply.field("X-Request-Id").unwrap();
        let sent = find(&calls, 0, &["sendto(", id]).unwrap_or_else(|| panic!("{id} was not sent"));
        let line = format!("\\\"request_id\\\":\\\"{id}\\\"");
        let mut at = 0;
        let mut told = 0;
        while let Some(written) = find(&calls, at, &["write(", "/audit/", &line]) {
            let synced = find(&calls, written + 1, &["fdatasync(", "/audit/"]).unwrap();
            let thread = calls.get(synced).and_then(|call| call.split(' ').next()).unwrap();
            let ended = match calls.get(synced).unwrap().contains("<unfinished ...>") {
                true => find(&calls, synced, &[thread, "fdatasync resumed", "= 0"]).unwrap(),
                false => synced,
            };
            assert!(written < synced && ended < sent, "{id}: {written} {synced} {ended} {sent}");
            // The attempt is on the disk before the change is begun.
            if reply.status == 201 && told == 0 {
                let change = find(&calls, 0, &["write(", "/journal>"]).unwrap();
                assert!(ended < change, "{ended} {change}");
            }
            at = written + 1;
            told += 1;
        }
        assert_eq!(told, if reply.status == 201 { 2 } else { 1 }, "{id}");
    }
}

/// Seals until health is good and a seal is too; returns what was good, and how many were refused.
fn seal_through(server: &Server, count: usize) -> (Vec<Reply>, Vec<Reply>) {
    let mut client = server.connect();
    let (mut good, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let reply = seal(&mut client, server);
        if reply.status == 200 {
            good.push(reply);
        } else {
            reply.assert_problem(503, "audit_unavailable");
            refused.push(reply);
        }
    }
    (good, refused)
}

#[test]
fn a_failed_sync_refuses_what_hung_on_it_and_the_successor_goes_on() {
    if binary().is_none() || !trace::possible() {
        return;
    }
    for fault in ["fdatasync:error=EIO:when=10", "fdatasync:error=EIO:when=10..11"] {
        let Some(scratch) = made() else { return };
        let inject = format!("inject={fault}");
        let Some(server) = traced(&scratch, &["-e", "trace=fdatasync", "-e", &inject]) else { return };
        let (mut good, refused) = seal_through(&server, 60);
        assert!(!refused.is_empty() && refused.len() < 10, "{fault}: {}", refused.len());
        let (more, none) = seal_through(&server, 20);
        assert!(none.is_empty(), "{fault}: it goes on by itself");
        good.extend(more);
        assert_eq!(server.call(&Request::get("/api/health")).status, 200);
        assert_eq!(server.stop().code, Some(0));
        let text = files(&scratch.data_dir()).concat();
        assert_told(&text, &good);
        let named: usize = streams(&text).values().map(|lines| named(lines).len()).sum();
        assert!(named >= refused.len(), "{fault}: {named}");
        let parts = fs::read_dir(scratch.data_dir().join("audit")).unwrap();
        let left = parts.filter(|part| {
            let name = part.as_ref().unwrap().file_name().into_string().unwrap();
            name.contains("-w0-0002") && part.as_ref().unwrap().metadata().unwrap().len() > 0
        });
        assert_eq!(left.count(), 1, "{fault}: it went on in the successor");
    }
}

#[test]
fn a_successor_whose_sync_fails_too_leaves_audited_requests_refused_until_a_restart() {
    if binary().is_none() || !trace::possible() {
        return;
    }
    let Some(scratch) = made() else { return };
    let inject = "inject=fdatasync:error=EIO:when=10+";
    let Some(server) = traced(&scratch, &["-e", "trace=fdatasync", "-e", inject]) else { return };
    let (mut good, _) = seal_through(&server, 30);
    let (none, refused) = seal_through(&server, 20);
    assert_eq!((none.len(), refused.len()), (0, 20));
    assert_eq!(server.call(&Request::get("/api/health")).status, 503);
    server.stop();
    let Some(server) = Server::start_in(&scratch, &["--audit-durability", "synced"]) else { return };
    let (more, refused) = seal_through(&server, 10);
    assert!(refused.is_empty(), "{refused:?}");
    good.extend(more);
    assert_eq!(server.stop().code, Some(0));
    assert_told(&files(&scratch.data_dir()).concat(), &good);
}
