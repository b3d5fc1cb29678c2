//! Clients that are slow. The server's limits are set short; each test waits for what the server does.

use crate::must_end_well;
use crate::server::Server;
use crate::server::client::Request;

/// Time limits of 300 ms for heads and gaps, 900 ms for bodies.
fn impatient(more: &[&str]) -> Option<Server> {
    let flags = [
        "--workers",
        "1",
        "--head-timeout-ms",
        "300",
        "--body-gap-timeout-ms",
        "300",
        "--body-timeout-ms",
        "900",
    ];
    Server::start(&[&flags, more].concat())
}

fn head(server: &Server, length: usize) -> String {
    let key = server.key();
    format!("POST /api/encrypt HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Length: {length}\r\n\r\n")
}

#[test]
fn a_head_that_stops_is_408() {
    let Some(server) = impatient(&[]) else { return };
    for start in ["G", "GET /api/health HTTP/1.1\r\n", "GET /api/health HTTP/1.1\r\nHost: a\r\nX-A: ", "\r\n"]
    {
        let mut client = server.connect();
        client.send(start.as_bytes());
        let reply = client.reply();
        reply.assert_problem(408, "head_timeout");
        assert!(reply.closes() && client.ends(), "{start:?}");
    }
    must_end_well(server);
}

#[test]
fn a_head_that_drips_is_408_all_the_same() {
    let Some(server) = impatient(&[]) else { return };
    let mut client = server.connect();
    client.send(b"GET /api/health HTTP/1.1\r\nHost: a\r\nX-A: ");
    // A byte every 10 ms would keep a limit on gaps content until the head is full, after 80 s.
    let mut dripped = 0;
    while !client.is_answered_within(10) {
        client.send(b"x");
        dripped += 1;
        assert!(dripped < 1_000, "the limit is on the whole head");
    }
    let reply = client.reply();
    reply.assert_problem(408, "head_timeout");
    assert!(reply.closes());
    must_end_well(server);
}

#[test]
fn a_body_that_stops_is_408() {
    let Some(server) = impatient(&[]) else { return };
    let head = head(&server, 100);
    for start in [head.clone(), format!("{head}{{\"key\":")] {
        let mut client = server.connect();
        client.send(start.as_bytes());
        let reply = client.reply();
        reply.assert_problem(408, "body_timeout");
        assert!(reply.closes() && client.ends());
    }
    let key = server.key();
    for start in ["", "5", "5\r\n", "5\r\nhello\r\n", "0\r\n"] {
        let mut client = server.connect();
        let head = "POST /api/encrypt HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked";
        client.send(format!("{head}\r\nX-API-Key: {key}\r\n\r\n{start}").as_bytes());
        client.reply().assert_problem(408, "body_timeout");
        assert!(client.ends(), "{start:?}");
    }
    must_end_well(server);
}

#[test]
fn a_body_that_ends_early_is_400() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let mut client = server.connect();
    client.send(format!("{}{{\"key\"", head(&server, 100)).as_bytes());
    client.finish();
    let reply = client.reply();
    reply.assert_problem(400, "incomplete_body");
    assert!(reply.closes() && client.ends());
    must_end_well(server);
}

#[test]
fn silence_between_requests_closes_without_a_word() {
    let Some(server) = impatient(&["--idle-timeout-ms", "300"]) else { return };
    // A client that the machine has kept waiting for so long asks once more.
    let served = (0..100).find_map(|_| {
        let mut client = server.connect();
        client.attempt(&Request::get("/api/health")).map(|reply| (client, reply.status))
    });
    let Some((mut client, 200)) = served else { panic!("nobody is served") };
    assert!(client.ends(), "nothing is said to a client that asks nothing");
    let mut fresh = server.connect();
    assert!(fresh.ends(), "nor to one that never asked");
    must_end_well(server);
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let Some(server) = impatient(&["--write-timeout-ms", "300"]) else { return };
    let mut deaf = server.connect();
    // Far more replies than the buffers between the two can hold, so that the server has to wait for room.
    let requests = Request::get("/api/health").bytes().repeat(200);
    let sent = (0..2_000).take_while(|_| deaf.try_send(&requests).is_ok()).count();
    assert!(sent < 2_000, "a client that reads nothing must not be served forever");
    assert_eq!(server.call(&Request::get("/api/health")).status, 200);
    must_end_well(server);
}
