//! A thousand clients that are slow in every way at once, on a server that may take little memory: each is ended at its
//! deadline, and a good one is served all the time.

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use quantonium::limits::{ARENA_CONNECTION_BYTES, LEASE_CLASSES_BYTES, LEASE_LARGEST_BYTES};
use server::client::{Client, Request, comes_true};
use server::{Scratch, Server, skip};

const EACH: usize = 1_000;
/// Those of the one test that has more of them.
const STRANGERS: usize = 6_300;
/// What the process may map, in KiB.
const SPACE_KIB: u64 = 64 * 1024;
/// Requests whose replies no buffer of the kernel holds together.
const UNREAD: usize = 1_000;
const SEAL: &str = "{\"key\":\"orders\",\"plaintext\":\"aGVsbG8=\"}";

/// `serve` with so little room, and with so many places.
fn cramped(scratch: &Scratch, places: usize) -> Option<Command> {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -v {SPACE_KIB} && exec \"$0\" \"$@\"")).arg(server::binary()?);
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--workers", "2"]);
    command.args(["--max-connections", &places.to_string(), "--max-connections-per-address", "0"]);
    command.args(["--max-requests-per-connection", "100000000"]);
    command.arg("--data-dir").arg(scratch.data_dir()).env_clear();
    Some(command)
}

/// Whether this process may have descriptors for all of these tests, which may run at the same time.
fn has_descriptors() -> bool {
    let wanted = 4 * EACH as u64 + STRANGERS as u64 + 1_500;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
    hard >= wanted && setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard).is_ok()
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

/// Every one of them is told that its time is up, but for so many, who were told at once that there was no room.
fn assert_timed_out(clients: Vec<Client>, code: &str, refused_most: usize) {
    let mut refused = 0;
    for mut client in clients {
        let reply = client.reply();
        if reply.status == 503 {
            reply.assert_problem(503, "overloaded");
            refused += 1;
        } else {
            reply.assert_problem(408, code);
        }
        assert!(reply.closes() && client.ends());
    }
    assert!(refused <= refused_most, "{code}: {refused} found no room");
}

#[test]
fn slow_clients_of_every_kind_are_ended_while_a_good_one_is_served_in_little_memory() {
    if !has_descriptors() {
        return skip("it needs more descriptors than this process may have");
    }
    let scratch = Scratch::new();
    // And some for the good one.
    let Some(mut command) = cramped(&scratch, 3 * EACH + 100) else { return };
    for limit in ["head", "body", "body-gap", "write"] {
        command.args([&format!("--{limit}-timeout-ms"), "10000"]);
    }
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
    // They and those who do not read have the share of strangers to themselves; whose bodies these are is known.
    assert_timed_out(heads, "head_timeout", EACH / 5);
    assert_timed_out(bodies, "body_timeout", 0);
    let length = {
        let mut client = server.connect();
        client.send(&Request::get("/api/health/live").with("Connection", "close").bytes());
        client.drain()
    };
    for mut reader in readers {
        // To read would be to help it: what it sends is refused once the server has closed.
        let gone = comes_true(|| {
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
fn whoever_asks_for_little_at_once_is_served_when_strangers_have_used_up_their_share() {
    // The share is the least, one largest request and its reply, and a part of it is for guests. These heads are so long that each takes
    // the usual buffer though room is short, and short ones take what is left.
    const LONG: usize = (5 * 1024 - 8 * 1024 / 16) / 16 - 4;
    const SHORT: usize = 100;
    let flags = ["--workers", "1", "--max-memory", "8MiB", "--max-connections", "1000"];
    let more = ["--max-connections-per-address", "0", "--head-timeout-ms", "600000"];
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
    for _ in 0..20 {
        // The queue of a worker is served in its order: whoever comes now comes behind all of them.
        let mut slow = server.connect();
        slow.send(b"GET /api/health/live HTTP/1.1\r\n");
        slow.reply().assert_problem(503, "overloaded");
        assert!(slow.ends(), "who lets wait for more finds no room");
        assert_eq!(server.call(&Request::get("/api/health/live")).status, 200);
        seal(&mut server.connect(), server.key());
        seal(&mut good, server.key());
    }
    // More than the smallest buffers, and more than comes in one piece.
    let large = format!("{{\"key\":\"orders\",\"plaintext\":\"{}\"}}", "aGVs".repeat(30_000));
    assert_eq!(server.ask(Request::post("/api/encrypt", large)).status, 200);
    drop(strangers);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn one_key_with_slow_large_bodies_leaves_another_its_part() {
    // Each holds the largest buffer, and all of the memory would be twelve of them. The other key has room for three
    // requests with their replies: that of a connection that has just ended may still be there.
    const SLOW: usize = 20;
    let flags = ["--workers", "2", "--max-memory", "24MiB", "--body-timeout-ms", "600000"];
    let Some(server) = Server::start(&[&flags[..], &["--body-gap-timeout-ms", "600000"]].concat()) else {
        return;
    };
    assert_eq!(server.ask(Request::post("/api/keys", "{\"name\":\"orders\"}")).status, 201);
    let terms = "{\"name\":\"greedy\",\"scopes\":[\"encrypt:*\"]}";
    let greedy = server.ask(Request::post("/api/auth/keys", terms)).member("api_key");
    let head = format!(
        "POST /api/encrypt HTTP/1.1\r\nHost: a\r\nX-API-Key: {greedy}\r\nContent-Length: 1000000\r\n\r\n"
    );
    let mut slow: Vec<Client> = (0..SLOW)
        .map(|_| {
            let mut client = server.connect();
            // Who finds no room is told so before he has sent all of it.
            let _ = client.try_send(head.as_bytes()).and_then(|()| client.try_send(&vec![b' '; 500_000]));
            client
        })
        .collect();
    let large = format!("{{\"key\":\"orders\",\"plaintext\":\"{}\"}}", "aGVs".repeat(250_000));
    let large = Request::post("/api/encrypt", large);
    let refused = |slow: &mut Vec<Client>| {
        slow.iter_mut().filter_map(|client| client.is_answered_within(1).then_some(())).count()
    };
    // It is half, and one that grows has both its buffers for a moment.
    assert!(comes_true(|| refused(&mut slow) >= SLOW - 6), "six have its half, and the others none");
    let other = server.key().to_owned();
    let mut kept = server.connect();
    for _ in 0..8 {
        assert_eq!(server.call(&large.clone().key(&other)).status, 200, "a new connection of the other key");
        assert_eq!(kept.call(&large.clone().key(&other)).status, 200);
        seal(&mut kept, &other);
        server.call(&large.clone().key(&greedy)).assert_problem(503, "overloaded");
    }
    assert!(refused(&mut slow) <= SLOW - 2, "they were ended for the other's sake");
    drop(slow);
    assert_eq!(server.stop().code, Some(0));
}

/// A figure of `/proc/PID/status`, in bytes.
fn status_bytes(server: &Server, name: &str) -> usize {
    let status = fs::read_to_string(server.proc().join("status"));
    let line = status.iter().flat_map(|text| text.lines()).find_map(|line| line.strip_prefix(name));
    let figure = line.and_then(|line| line.trim_start_matches(':').trim().strip_suffix(" kB"));
    let kibibytes: Option<usize> = figure.and_then(|figure| figure.parse().ok());
    assert!(kibibytes.is_some(), "{name}: {status:?}");
    kibibytes.unwrap_or_default() * 1_024
}

#[test]
fn strangers_who_send_one_byte_take_no_more_than_was_reckoned_and_leave_uploads_their_room() {
    const UPLOADS: usize = 3;
    if !has_descriptors() {
        return skip("it needs more descriptors than this process may have");
    }
    let scratch = Scratch::new();
    let Some(mut command) = cramped(&scratch, 16_384) else { return };
    for limit in ["head", "body", "body-gap"] {
        command.args([&format!("--{limit}-timeout-ms"), "600000"]);
    }
    let mut server = Server::spawn(command, &scratch, 1);
    assert_eq!(server.ask(Request::post("/api/keys", "{\"name\":\"orders\"}")).status, 201);
    let body = format!("{{\"key\":\"orders\",\"plaintext\":\"{}\"}}", "aGVs".repeat(200_000));
    let upload = Request::post("/api/encrypt", body).key(server.key()).bytes();
    let (begun, rest) = upload.split_at(upload.len() / 2);
    let mut uploads: Vec<Client> = (0..UPLOADS)
        .map(|_| {
            let mut client = server.connect();
            client.send(begun);
            client
        })
        .collect();
    let before = status_bytes(&server, "RssAnon");
    let mut strangers: Vec<Client> = (0..STRANGERS)
        .filter_map(|_| {
            let mut client = server.connect();
            client.try_send(b"G").ok().map(|()| client)
        })
        .collect();
    // Whoever has a place says nothing, and whoever has none is told so once his turn has come: until a whole look finds
    // nobody any more.
    let are_told = comes_true(|| {
        let before = strangers.len();
        strangers.retain_mut(|client| !client.is_answered_within(1));
        strangers.len() == before && before < STRANGERS
    });
    assert!(are_told, "everybody has a place");
    let (count, grown) = (strangers.len(), status_bytes(&server, "RssAnon") - before);
    assert!(count > 2_000 && count < STRANGERS, "the memory bounds them, not the setting: {count}");
    // Each has a task at work and the smallest buffer; the first of them the usual one, until they hold a quarter of their share.
    let leases = count * LEASE_CLASSES_BYTES[0] + 64 * 1024 * 1024 / 16;
    // The uploads grew on while they came.
    let uploaded = UPLOADS * LEASE_LARGEST_BYTES;
    assert!(grown < count * ARENA_CONNECTION_BYTES + leases + uploaded, "{grown} bytes for {count} of them");
    for client in &mut uploads {
        client.send(rest);
        assert_eq!(client.reply().status, 200, "an upload of a known client beside {count} strangers");
        // One key has half of the memory, which all of them would need at once: this one has given its part back when it
        // is served again.
        assert_eq!(client.call(&Request::get("/api/health/live")).status, 200);
    }
    assert!(server.is_alive());
    drop(strangers);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("memory allows "), "{}", ended.stderr);
}
