//! The corpus of requests against the running server.

use crate::server::Server;
use crate::server::client::Request;
use crate::{corpus, must_end_well};

/// Five hundreds that the corpus may ask for: they say that the server does not do something, not that it failed.
const NOT_DONE: [u16; 2] = [501, 505];

/// The same request to a route that reads its body, from somebody who may use it: a body is judged only there.
fn addressed(bytes: &[u8], key: &str) -> Vec<u8> {
    match bytes.strip_prefix(b"POST / HTTP/1.1\r\nHost: a\r\n") {
        Some(rest) => {
            let line = format!("POST /api/encrypt?key=k HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n");
            [line.as_bytes(), rest].concat()
        }
        None => bytes.to_vec(),
    }
}

#[test]
fn each_request_of_the_corpus_gets_its_status_and_the_next_client_is_served() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let pid = server.pid();
    let cases = corpus::cases();
    let mut refused = 0;
    for case in &cases {
        let mut client = server.connect();
        // A server that has refused already need not take the rest.
        let _ = client.try_send(&addressed(&case.bytes, server.key()));
        let head = case.bytes.starts_with(b"HEAD ");
        let reply = if head { client.reply_to_head() } else { client.reply() };
        match case.status {
            Some(status) => {
                refused += 1;
                assert_eq!(reply.status, status, "{}: {}", case.name, reply.text());
                let code = reply.member("code");
                reply.assert_problem(status, &code);
                // An unknown method is refused with its framing known: nothing else was sent, so nothing follows.
                assert!(reply.closes() || code == "unknown_method", "{}", case.name);
                client.finish();
                assert!(client.ends(), "{}: one answer and no more", case.name);
            }
            None => assert!((200..500).contains(&reply.status), "{}: {}", case.name, reply.status),
        }
        assert!(reply.status < 500 || NOT_DONE.contains(&reply.status), "{}", case.name);
        assert_eq!(server.call(&Request::get("/api/health")).status, 200, "after {}", case.name);
    }
    assert!(refused >= 140 && cases.len() > refused, "{refused} of {}", cases.len());
    assert_eq!(server.pid(), pid);
    must_end_well(server);
}

#[test]
fn what_follows_a_refused_request_is_not_a_request() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let smuggled = Request::get("/api/health").bytes();
    for case in corpus::cases().iter().filter(|case| case.status.is_some_and(|status| status < 500)) {
        let mut client = server.connect();
        let _ = client.try_send(&[&addressed(&case.bytes, server.key())[..], &smuggled].concat());
        client.finish();
        let reply = client.reply();
        assert!((400..500).contains(&reply.status), "{}: {}", case.name, reply.status);
        assert!(client.ends(), "{}: the second request was answered", case.name);
    }
    must_end_well(server);
}

#[test]
fn a_well_formed_request_gets_one_answer_and_what_follows_it_one_more_at_most() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let next = Request::get("/api/health").bytes();
    for case in corpus::cases().iter().filter(|case| case.status.is_none()) {
        let bytes = addressed(&case.bytes, server.key());
        let answers = |bytes: &[u8]| {
            let mut client = server.connect();
            let _ = client.try_send(bytes);
            client.finish();
            client.statuses()
        };
        assert_eq!(answers(&bytes).len(), 1, "{}", case.name);
        let both = answers(&[&bytes[..], &next].concat());
        // Whoever speaks HTTP/1.0 is not answered again, nor is one whose body was not read.
        assert!(matches!(both[..], [_] | [_, 200]), "{}: {both:?}", case.name);
    }
    must_end_well(server);
}
