//! The server at its bounds: few descriptors, little memory. It makes clients wait or refuses them, and never ends.

#[path = "support/server.rs"]
mod server;

use std::process::Command;

use nix::sys::signal::Signal;
use quantonium::limits;
use server::client::{Client, Request};
use server::{Scratch, Server, comes};

const ORDERS: &str = "{\"name\":\"orders\"}";
const SEAL: &str = "{\"key\":\"orders\",\"plaintext\":\"aGVsbG8=\"}";

/// Bodies may take as long as a slow machine does.
const PATIENT: [&str; 4] = ["--body-gap-timeout-ms", "600000", "--body-timeout-ms", "600000"];

/// `serve` with this many descriptors, as soft and as hard limit.
fn with_descriptors(count: u64, scratch: &Scratch) -> Option<Command> {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -n {count} && exec \"$0\" \"$@\"")).arg(server::binary()?);
    command
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--workers", "2", "--data-dir"])
        .arg(scratch.data_dir());
    command.env_clear();
    Some(command)
}

#[test]
fn clients_beyond_the_descriptors_are_refused_and_served_once_others_leave() {
    const PLACES: usize = 3;
    let scratch = Scratch::new();
    let count = limits::DESCRIPTORS_FLOOR_COUNT - 1 + PLACES as u64;
    let Some(mut command) = with_descriptors(count, &scratch) else { return };
    command.args(["--head-timeout-ms", "600000"]);
    let server = Server::spawn(command, &scratch, 1);
    let request = Request::get("/api/health").bytes();
    let (begun, rest) = request.split_at(20);
    let mut held: Vec<Client> = (0..PLACES).map(|_| server.connect()).collect();
    for client in &mut held {
        // Who was served once has his place for certain.
        assert_eq!(client.call(&Request::get("/api/health")).status, 200);
        client.send(begun);
    }
    let refused = (0..20).filter(|_| {
        let mut client = server.connect();
        let _ = client.try_send(&request);
        client.bare_reply().is_some_and(|reply| reply.status == 503)
    });
    assert_eq!(refused.count(), 20, "who finds no place learns it");
    let mut served = 0;
    for client in &mut held {
        let sent = client.try_send(rest);
        served += usize::from(sent.is_ok() && client.bare_reply().is_some_and(|reply| reply.status == 200));
    }
    assert_eq!(served, PLACES, "who is in is served on");
    drop(held);
    let free = comes(|| {
        let mut client = server.connect();
        client.try_send(&request).is_ok() && client.bare_reply().is_some_and(|reply| reply.status == 200)
    });
    assert!(free, "the places do not come back");
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains(&format!("allows {PLACES} connections of the")), "{ended:?}");
}

#[test]
fn a_start_without_a_descriptor_for_a_connection_is_refused() {
    let scratch = Scratch::new();
    let floor = limits::DESCRIPTORS_FLOOR_COUNT;
    let Some(mut command) = with_descriptors(floor - 1, &scratch) else { return };
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains(&format!("{} open files allowed, at least {floor} needed", floor - 1)), "{said}");
    let Some(command) = with_descriptors(floor, &scratch) else { return };
    let server = Server::spawn(command, &scratch, 1);
    assert_eq!(server.call(&Request::get("/api/health")).status, 200, "the floor is enough for one");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn the_bound_on_connections_of_one_address_is_answered_and_lifted() {
    let Some(server) = Server::start(&["--workers", "1", "--max-connections-per-address", "2"]) else {
        return;
    };
    let request = Request::get("/api/health");
    let mut first = server.connect();
    let mut second = server.connect();
    assert_eq!((first.call(&request).status, second.call(&request).status), (200, 200));
    let refused = server.connect().reply();
    assert_eq!((refused.status, refused.field("Retry-After")), (503, Some("1")));
    assert!(refused.closes());
    drop(first);
    // The server sees the end when it does.
    let taken = comes(|| {
        let mut client = server.connect();
        client.try_send(&request.bytes()).is_ok()
            && client.try_reply().is_some_and(|reply| reply.status == 200)
    });
    assert!(taken, "the place does not come back");
    assert_eq!(server.stop().code, Some(0));
}

/// A request that has announced the largest body and sent so much of it that it takes the largest buffer.
fn large_announced(server: &Server) -> Client {
    let mut client = server.connect();
    let head = format!(
        "POST /api/encrypt HTTP/1.1\r\nHost: test\r\nX-API-Key: {}\r\nContent-Length: {}\r\n\r\n",
        server.key(),
        limits::BODY_PAYLOAD_MAX_BYTES
    );
    client.send(head.as_bytes());
    // One that was refused already need not take it.
    let _ = client.try_send(&vec![b' '; limits::LEASE_WINDOW_BYTES]);
    client
}

/// How many of `clients` were refused for want of memory, when all of them end inside their bodies.
fn count_refused(clients: Vec<Client>) -> usize {
    let codes = clients.into_iter().map(|mut client| {
        client.finish();
        let reply = client.reply();
        let code = reply.member("code");
        match code.as_str() {
            "overloaded" => assert_eq!((reply.status, reply.field("Retry-After")), (503, Some("1"))),
            other => assert_eq!((reply.status, other), (400, "incomplete_body")),
        }
        assert!(reply.closes());
        usize::from(code == "overloaded")
    });
    codes.sum()
}

#[test]
fn a_body_that_is_only_announced_takes_no_memory() {
    let Some(server) = Server::start(&[&["--workers", "1", "--max-memory", "8MiB"], &PATIENT[..]].concat())
    else {
        return;
    };
    assert_eq!(server.ask(Request::post("/api/keys", ORDERS)).status, 201);
    let head = format!(
        "POST /api/encrypt HTTP/1.1\r\nHost: test\r\nX-API-Key: {}\r\nContent-Length: {}\r\n\r\n",
        server.key(),
        limits::BODY_PAYLOAD_MAX_BYTES
    );
    let announced: Vec<Client> = (0..16)
        .map(|_| {
            let mut client = server.connect();
            client.send(head.as_bytes());
            client
        })
        .collect();
    let body =
        format!("{{\"key\":\"orders\",\"plaintext\":\"{}\"}}", "A".repeat(limits::PLAINTEXT_MAX_BYTES));
    assert_eq!(
        server.ask(Request::post("/api/encrypt", &body)).status,
        200,
        "more than 16 MiB are announced"
    );
    assert_eq!(count_refused(announced), 0);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_client_for_which_the_system_has_no_descriptor_is_told_and_the_server_goes_on() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let mut inside = server.connect();
    assert_eq!(inside.call(&Request::get("/api/health")).status, 200);
    // The one of the reserve, that of this client, and no more.
    let count = u64::try_from(limits::FD_CONNECTION_FIRST_NUMBER).unwrap() + 2;
    if !server.limit_descriptors(count) {
        return server::skip(
            "it needs prlimit and setpriv, to take descriptors away from a process that runs",
        );
    }
    for _ in 0..50 {
        let mut client = server.connect();
        client.reply().assert_problem(503, "too_many_connections");
        assert!(client.ends());
    }
    assert_eq!(inside.call(&Request::get("/api/health")).status, 200, "who is in is served on");
    assert!(server.limit_descriptors(limits::DESCRIPTORS_FLOOR_COUNT));
    let served = comes(|| {
        let mut client = server.connect();
        client.try_send(&Request::get("/api/health").bytes()).is_ok()
            && client.bare_reply().is_some_and(|reply| reply.status == 200)
    });
    assert!(served, "nobody is served although there are descriptors again");
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let told = ended.stderr.matches("no descriptor or no memory").count();
    assert!((1..100).contains(&told), "told, and bounded: {}", ended.stderr);
}

#[test]
fn bodies_beyond_the_memory_are_refused_and_the_memory_comes_back() {
    let Some(server) = Server::start(&[&["--workers", "2", "--max-memory", "8MiB"], &PATIENT[..]].concat())
    else {
        return;
    };
    assert_eq!(server.ask(Request::post("/api/keys", ORDERS)).status, 201);
    for _ in 0..3 {
        let mut clients: Vec<Client> = (0..32).map(|_| large_announced(&server)).collect();
        // All of them hold on until the last one was heard: the first to go makes room.
        let told = |clients: &mut Vec<Client>| {
            clients.iter_mut().filter_map(|client| client.is_answered_within(1).then_some(())).count()
        };
        assert!(comes(|| told(&mut clients) >= 24), "32 bodies of 2 MiB are held in 8 MiB");
        let refused = count_refused(clients);
        // All of them, where all want more in one turn of the loop, in which nothing is given back. That a body finds room
        // is seen at the end.
        assert!((24..=32).contains(&refused), "{refused} of 32 bodies of 2 MiB do not fit into 8 MiB");
        let back = comes(|| server.ask(Request::post("/api/encrypt", SEAL)).status == 200);
        assert!(back, "small requests stay refused");
    }
    // The whole of it is there again: a largest request.
    let body =
        format!("{{\"key\":\"orders\",\"plaintext\":\"{}\"}}", "A".repeat(limits::PLAINTEXT_MAX_BYTES));
    let back = comes(|| server.ask(Request::post("/api/encrypt", &body)).status == 200);
    assert!(back, "large requests stay refused");
    server.signal(Signal::SIGTERM);
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
