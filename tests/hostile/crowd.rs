//! Clients that want much: many requests at once, many connections, large bodies.

use crate::must_end_well;
use crate::server::client::{Client, Request};
use crate::server::{Server, comes};

#[test]
fn fifty_pipelined_requests_get_their_replies_in_order() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    server.ask(Request::post("/api/keys", r#"{"name":"k"}"#));
    let path = |number: usize| format!("/api/keys/k{number}");
    let requests: Vec<u8> = (0..50_usize)
        .flat_map(|number| match number % 5 {
            0 => Request::get("/api/health").bytes(),
            1 => Request::new("HEAD", "/api/health").bytes(),
            2 => Request::get(&path(number)).key(server.key()).bytes(),
            3 => Request::post("/api/encrypt", r#"{"key":"k","plaintext":"eA=="}"#).key(server.key()).bytes(),
            _ => Request::post("/api/encrypt?key=k", vec![b'x'; number * 100]).key(server.key()).bytes(),
        })
        .collect();
    for piece in [requests.len(), 1_000, 7] {
        let mut client = server.connect();
        requests.chunks(piece).for_each(|piece| client.send(piece));
        let mut ids = Vec::new();
        for number in 0..50_usize {
            let reply = if number % 5 == 1 { client.reply_to_head() } else { client.reply() };
            match number % 5 {
                0 | 1 => assert_eq!(reply.status, 200, "{number}"),
                2 => reply.assert_problem(404, "unknown_key"),
                3 => assert_eq!(reply.json()["key_version"], 1),
                _ => assert_eq!(reply.body.len(), 14 + (40 + number * 100).div_ceil(3) * 4 + 1, "{number}"),
            }
            ids.push(reply.field("X-Request-Id").unwrap_or_default().to_owned());
        }
        assert!(ids.is_sorted(), "replies stand in the order of their requests");
        client.finish();
        assert!(client.ends());
    }
    must_end_well(server);
}

#[test]
fn nothing_is_read_after_a_request_that_closes() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let last = Request::get("/api/health").with("Connection", "close").bytes();
    for behind in
        [b"trailing garbage\0\r\n\r\n".to_vec(), Request::get("/api/health").bytes(), vec![b'x'; 100_000]]
    {
        let mut client = server.connect();
        let _ = client.try_send(&[&last[..], &behind].concat());
        let reply = client.reply();
        assert!(reply.status == 200 && reply.closes());
        assert!(client.ends());
    }
    let mut client = server.connect();
    client.send(&[&Request::get("/api/health").bytes()[..], b"\0\x01garbage\r\n\r\n"].concat());
    assert_eq!(client.reply().status, 200);
    client.reply().assert_problem(400, "malformed_request_line");
    assert!(client.ends(), "garbage behind a request ends the connection");
    must_end_well(server);
}

#[test]
fn a_connection_serves_so_many_requests_and_no_more() {
    let Some(server) = Server::start(&["--workers", "1", "--max-requests-per-connection", "3"]) else {
        return;
    };
    let mut client = server.connect();
    client.send(&Request::get("/api/health").bytes().repeat(5));
    let closes: Vec<bool> = (0..3).map(|_| client.reply().closes()).collect();
    assert_eq!(closes, [false, false, true]);
    assert!(client.ends());
    must_end_well(server);
}

#[test]
fn an_address_has_so_many_connections_and_no_more() {
    let flags = ["--workers", "2", "--max-connections-per-address", "3"];
    let Some(server) = Server::start(&flags) else { return };
    let serve = |mut client: Client| {
        assert_eq!(client.call(&Request::get("/api/health")).status, 200);
        client
    };
    let held: Vec<Client> = (0..3).map(|_| serve(server.connect())).collect();
    let mut fourth = server.connect();
    let refused = fourth.reply();
    assert_eq!((refused.status, refused.closes()), (503, true));
    assert_eq!(refused.field("Retry-After"), Some("1"));
    assert!(fourth.ends());
    for mut client in held {
        assert_eq!(client.call(&Request::get("/api/health")).status, 200, "the others are not disturbed");
        client.finish();
        assert!(client.ends(), "the server has closed its side too, so the place is free");
    }
    let health = loop {
        // The place is given back when the connection's task ends, which may be a moment after its close was seen.
        let mut client = server.connect();
        let _ = client.try_send(&Request::get("/api/health").bytes());
        if let Some(reply) = client.bare_reply().filter(|reply| reply.status == 200) {
            break reply;
        }
    };
    assert_eq!(health.status, 200);
    must_end_well(server);
}

#[test]
fn connections_beyond_the_whole_are_refused_until_one_rests_and_gives_way() {
    let flags = ["--workers", "1", "--max-connections", "2", "--head-timeout-ms", "600000"];
    let Some(server) = Server::start(&flags) else { return };
    let request = Request::get("/api/health").bytes();
    let (begun, rest) = request.split_at(20);
    let mut held = [server.connect(), server.connect()];
    for client in &mut held {
        client.send(begun);
    }
    for _ in 0..40 {
        let mut beyond = server.connect();
        let refused = beyond.reply();
        refused.assert_problem(503, "too_many_connections");
        assert_eq!((refused.closes(), refused.field("Retry-After")), (true, Some("1")));
        assert!(beyond.ends());
    }
    let [mut first, mut second] = held;
    first.send(rest);
    assert_eq!(first.reply().status, 200, "who is in is served");
    // It rests now, and after a while it is the one that gives way.
    let served = comes(|| {
        let mut client = server.connect();
        let sent = client.try_send(&request);
        sent.is_ok() && client.bare_reply().is_some_and(|reply| reply.status == 200)
    });
    assert!(served, "nobody gives way");
    assert!(first.ends(), "it was the one that rested");
    second.send(rest);
    assert_eq!(second.reply().status, 200, "a request in progress is not broken off");
    drop(second);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let told = ended.stderr.matches("connections without a place").count();
    assert!((1..1_000).contains(&told), "told, and bounded: {told}");
}

#[test]
fn a_body_is_asked_for_only_if_it_will_be_taken() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let key = server.key().to_owned();
    let head = |target: &str, fields: &str, length: usize| {
        let line = format!("POST {target} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n");
        format!("{line}{fields}Content-Length: {length}\r\n\r\n")
    };
    let right = format!("X-API-Key: {key}\r\n");
    for (target, fields, length, status, code) in [
        ("/api/encrypt", "", 10, 401, "credential_missing"),
        ("/api/encrypt", "X-API-Key: wrong\r\n", 10, 401, "credential_invalid"),
        ("/api/encrypt", right.as_str(), 2_000_000, 413, "body_too_large"),
        ("/api/keys", right.as_str(), 65_537, 413, "body_too_large"),
        ("/api/keys", right.as_str(), usize::MAX, 413, "body_too_large"),
        ("/api/nothing", right.as_str(), 10, 404, "not_found"),
        ("/api/health", right.as_str(), 10, 405, "method_not_allowed"),
    ] {
        let mut client = server.connect();
        client.send(head(target, fields, length).as_bytes());
        let reply = client.reply();
        reply.assert_problem(status, code);
        assert!(reply.closes() && client.ends(), "{target}: the body was not read");
    }
    let body = r#"{"name":"k"}"#;
    let mut client = server.connect();
    client.send(head("/api/keys", &right, body.len()).as_bytes());
    assert_eq!(client.reply().status, 100);
    client.send(body.as_bytes());
    assert_eq!(client.reply().status, 201);
    client.send(format!("{}{body}", head("/api/keys", &right, body.len())).as_bytes());
    assert_eq!(client.reply().status, 200, "nobody asks for what is there already");
    must_end_well(server);
}

#[test]
fn a_refusal_reaches_the_client_although_its_body_was_not_read() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    for (length, rounds) in [(1_000, 20), (60_000, 20), (200_000, 20), (1_300_000, 20), (20_000_000, 3)] {
        for _ in 0..rounds {
            let mut client = server.connect();
            let head = format!("POST /api/encrypt HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            // The client writes everything before it reads anything; the server may stop reading.
            let _ = client.try_send(&[head.as_bytes(), &vec![b'x'; length]].concat());
            let reply = client.reply();
            reply.assert_problem(401, "credential_missing");
        }
    }
    must_end_well(server);
}

#[test]
fn memory_for_requests_is_bounded_and_given_back() {
    let flags = ["--workers", "1", "--max-memory", "8MiB", "--max-connections-per-address", "0"];
    let Some(server) = Server::start(&flags) else { return };
    let key = server.key().to_owned();
    let length = 1_400_000;
    let head = format!(
        "POST /api/encrypt HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Length: {length}\r\n\r\n"
    );
    let mut held = Vec::new();
    // Each takes the largest lease as soon as its body begins; a few of them take all there is.
    let refused = loop {
        let mut client = server.connect();
        // More than the class before the largest holds: memory grows with what comes.
        let _ = client.try_send(format!("{head}{}", "{".repeat(256 * 1024)).as_bytes());
        let mut other = server.connect();
        // Who is refused is not read to the end.
        let _ = other.try_send(&[head.as_bytes(), b"{".repeat(length).as_slice()].concat());
        let reply = other.bare_reply().expect("a reply");
        held.push(client);
        if reply.status == 503 {
            break reply;
        }
        assert_eq!(reply.status, 400, "malformed, once it was read");
        assert!(held.len() < 10, "8 MiB hold no ten bodies of 1.4 MB");
    };
    assert_eq!(refused.field("Retry-After"), Some("1"));
    assert_eq!(server.call(&Request::get("/api/health")).status, 200, "small requests still find room");
    drop(held);
    let name = Request::post("/api/keys", r#"{"name":"k"}"#);
    assert!(server.ask(name).status < 300);
    must_end_well(server);
}

#[test]
fn a_length_near_the_end_of_the_numbers_ends_the_connection_after_one_reply() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    for target in ["/api/nothing", "/api/encrypt", "/api/health"] {
        let head = |length: u64| {
            let smuggled = "X: GET /api/health HTTP/1.1\r\nHost: a\r\n";
            format!("POST {target} HTTP/1.1\r\n{smuggled}Content-Length: {length}\r\n\r\n")
        };
        let len = head(u64::MAX).len() as u64;
        for back in [0, 1, len - 1, len, len + 1, 43] {
            let mut client = server.connect();
            client.send(head(u64::MAX - back).as_bytes());
            let reply = client.reply();
            assert!(
                (400..500).contains(&reply.status) && reply.closes(),
                "{target} {back}: {}",
                reply.status
            );
            assert!(client.ends(), "{target} {back}: nothing of the head is taken for another request");
        }
    }
    must_end_well(server);
}

#[test]
fn nobody_gets_memory_for_a_body_without_a_credential() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    for method in ["GET", "OPTIONS"] {
        let mut client = server.connect();
        client.send(
            format!("{method} /api/health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").as_bytes(),
        );
        let reply = client.reply();
        reply.assert_problem(413, "body_too_large");
        assert!(client.ends());
    }
    must_end_well(server);
}
