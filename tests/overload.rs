//! A thousand clients that are slow in every way at once, on a server that may take little memory: each is ended at its
//! deadline, and a good one is served all the time.

#[path = "support/server.rs"]
mod server;

use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use server::client::{Client, Request};
use server::{Scratch, Server, skip};

const EACH: usize = 1_000;
/// What the process may map, in KiB.
const SPACE_KIB: u64 = 96 * 1024;
/// Requests whose replies no buffer of the kernel holds together.
const UNREAD: usize = 1_000;
const SEAL: &str = "{\"key\":\"orders\",\"plaintext\":\"aGVsbG8=\"}";

/// `serve`, with so little time for everybody and so little room, and with places for all of them.
fn cramped(scratch: &Scratch) -> Option<Command> {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -v {SPACE_KIB} && exec \"$0\" \"$@\"")).arg(server::binary()?);
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--workers", "2"]);
    command.args(["--max-connections", "4000", "--max-connections-per-address", "0"]);
    command.args(["--max-requests-per-connection", "100000000"]);
    for limit in ["head", "body", "body-gap", "write"] {
        command.args([&format!("--{limit}-timeout-ms"), "10000"]);
    }
    command.arg("--data-dir").arg(scratch.data_dir()).env_clear();
    Some(command)
}

fn seal(good: &mut Client, key: &str) {
    assert_eq!(good.call(&Request::post("/api/encrypt", SEAL).key(key)).status, 200);
}

fn crowd(server: &Server, good: &mut Client, bytes: &[u8]) -> Vec<Client> {
    (0..EACH)
        .map(|number| {
            let mut client = server.connect();
            client.narrow();
            client.send(bytes);
            if number % 10 == 0 {
                seal(good, server.key());
            }
            client
        })
        .collect()
}

/// Every one of them is told that its time is up.
fn assert_timed_out(clients: Vec<Client>, code: &str) {
    for mut client in clients {
        let reply = client.reply();
        reply.assert_problem(408, code);
        assert!(reply.closes() && client.ends());
    }
}

#[test]
fn slow_clients_of_every_kind_are_ended_while_a_good_one_is_served_in_little_memory() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
    let wanted = 4 * EACH as u64;
    if hard < 2 * wanted || setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard).is_err() {
        return skip("it needs more descriptors than this process may have");
    }
    let scratch = Scratch::new();
    let Some(command) = cramped(&scratch) else { return };
    let mut server = Server::spawn(command, &scratch, 1);
    assert_eq!(server.ask(Request::post("/api/keys", "{\"name\":\"orders\"}")).status, 201);
    let mut good = server.connect();
    let begun = format!("POST /api/encrypt HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\n", server.key());
    let half = format!("{begun}Content-Length: 1000000\r\n\r\n{{\"key\":");
    let live = Request::get("/api/health/live").bytes();
    let readers = crowd(&server, &mut good, &live.repeat(UNREAD));
    let heads = crowd(&server, &mut good, begun.as_bytes());
    let bodies = crowd(&server, &mut good, half.as_bytes());
    for _ in 0..20 {
        // New connections, of whom nobody knows yet whose they are.
        assert_eq!(server.ask(Request::post("/api/encrypt", SEAL)).status, 200);
        assert_eq!(server.call(&Request::get("/api/health/live")).status, 200);
    }
    assert_timed_out(heads, "head_timeout");
    assert_timed_out(bodies, "body_timeout");
    let length = {
        let mut client = server.connect();
        client.send(&Request::get("/api/health/live").with("Connection", "close").bytes());
        client.drain()
    };
    for mut reader in readers {
        // To read would be to help it: what it sends is refused once the server has closed.
        let gone = (0..1_000_000).any(|_| {
            seal(&mut good, server.key());
            reader.try_send(b"G").is_err()
        });
        assert!(gone, "a client that reads nothing is served for ever");
        assert!(reader.drain() < UNREAD * length, "it did not get all of it");
    }
    seal(&mut good, server.key());
    assert!(server.is_alive());
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("the limit of its address space is"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("ERROR") && !ended.stderr.contains("panic"), "{}", ended.stderr);
}

#[test]
fn who_was_recognised_is_served_when_strangers_have_used_up_their_share() {
    // Half of the memory is less than one largest request and its reply, which is the least share. These heads are so long
    // that each takes the usual buffer though room is short, and short ones take what is left.
    const LONG: usize = 5 * 1024 / 16 - 8;
    const SHORT: usize = 100;
    let flags = ["--workers", "1", "--max-memory", "8MiB", "--max-connections", "1000"];
    let more = ["--max-connections-per-address", "0", "--head-timeout-ms", "60000"];
    let Some(server) = Server::start(&[&flags[..], &more].concat()) else { return };
    assert_eq!(server.ask(Request::post("/api/keys", "{\"name\":\"orders\"}")).status, 201);
    let mut good = server.connect();
    seal(&mut good, server.key());
    let strangers: Vec<Client> = (0..LONG + SHORT)
        .map(|number| {
            let mut client = server.connect();
            let field = if number < LONG { "a".repeat(5_000) } else { String::new() };
            client.send(format!("GET / HTTP/1.1\r\nX: {field}").as_bytes());
            client
        })
        .collect();
    // The queue of a worker is served in its order: whoever comes now comes behind all of them.
    server.connect().call(&Request::get("/api/health/live")).assert_problem(503, "overloaded");
    for _ in 0..3 {
        seal(&mut good, server.key());
    }
    drop(strangers);
    assert_eq!(server.stop().code, Some(0));
}
