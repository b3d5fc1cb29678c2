//! Which pages of other origins may read replies.

use super::answer;
use super::server::Server;
use super::server::client::{Reply, Request};

const LISTED: &str = "https://app.example.net";
const OTHER: &str = "http://localhost:3000";
const FLAGS: [&str; 6] = ["--cors-origin", LISTED, "--cors-origin", OTHER, "--address-rate-limit", "0"];
const ASKED: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

fn assert_shared(reply: &Reply, origin: Option<&str>, what: &str) {
    assert_eq!(reply.field("Access-Control-Allow-Origin"), origin, "{what}: {:?}", reply.fields);
    let exposed = reply.field("Access-Control-Expose-Headers");
    assert_eq!(exposed.is_some(), origin.is_some(), "{what}");
    if let Some(exposed) = exposed {
        for name in ["X-Request-Id", "X-Key-Version", "RateLimit", "X-RateLimit-Reset", "Retry-After"] {
            assert!(exposed.split(", ").any(|exposed| exposed == name), "{what}: {exposed}");
        }
    }
}

/// Requests that get every kind of reply, each with its status; `ORIGIN` stands where an origin may be named.
fn kinds(key: &str) -> Vec<(u16, String)> {
    let long = "x".repeat(3_000);
    let many = "a: b\r\n".repeat(60);
    let keyed =
        |line: &str, rest: &str| format!("{line} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nORIGIN{rest}");
    let open = |line: &str, rest: &str| format!("{line} HTTP/1.1\r\nHost: a\r\nORIGIN{rest}");
    vec![
        (200, open("GET /api/health", "\r\n")),
        (200, open("HEAD /api/health", "\r\n")),
        (204, open("OPTIONS *", "\r\n")),
        (204, open("OPTIONS /api/keys", "\r\n")),
        (200, keyed("POST /api/hash", "Content-Length: 16\r\n\r\n{\"input\":\"eA==\"}")),
        (201, keyed("POST /api/keys", "Content-Length: 12\r\n\r\n{\"name\":\"k\"}")),
        (200, keyed("POST /api/stream/encrypt?key=k", "Content-Length: 1\r\n\r\nx")),
        (
            200,
            keyed("POST /api/stream/encrypt?key=k", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
        ),
        (400, keyed("POST /api/stream/decrypt?key=k", "Content-Length: 1\r\n\r\nx")),
        (400, keyed("POST /api/hash", "Content-Length: 1\r\n\r\n{")),
        (400, keyed("POST /api/hash", "Transfer-Encoding: chunked\r\n\r\nx\r\n")),
        (401, open("GET /api/keys", "\r\n")),
        (401, open("GET /api/audit/stream", "\r\n")),
        (404, open("GET /nothing", "\r\n")),
        (404, open("OPTIONS /nothing", "\r\n")),
        (405, open("GET /api/encrypt", "\r\n")),
        (413, keyed("POST /api/entropy/sample", "Content-Length: 999999\r\n\r\n")),
        (415, keyed("POST /api/hash", "Content-Type: text/html\r\nContent-Length: 1\r\n\r\nx")),
        (501, open("TRACE /api/health", "\r\n")),
        // Of what cannot be read nothing is known: these are shared with nobody.
        (0x1000 | 400, open("GET /api/health", "a : b\r\n\r\n")),
        (0x1000 | 400, open("GET /a/health", "Origin: x\r\nOrigin: y\r\n\r\n")),
        (0x1000 | 414, open(&format!("GET /{long}"), "\r\n")),
        (0x1000 | 417, open("POST /api/hash", "Expect: x\r\n\r\n")),
        (0x1000 | 431, open("GET /api/health", &format!("{many}\r\n"))),
        (0x1000 | 505, "GET / HTTP/2.0\r\nORIGIN\r\n".to_owned()),
    ]
}

#[test]
fn every_kind_of_reply_varies_by_the_origin_and_is_shared_with_a_listed_one_only() {
    let Some(server) = Server::start(&FLAGS) else { return };
    for origin in [None, Some(LISTED), Some(OTHER), Some("https://evil.example"), Some("null")] {
        let field = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        let shared = origin.filter(|origin| [LISTED, OTHER].contains(origin));
        for (status, text) in kinds(server.key()) {
            let reply = answer(&server, &text.replace("ORIGIN", &field));
            let (wanted, unread) = (status & 0xfff, status & 0x1000 != 0);
            // The key is made once.
            let again = wanted == 201 && reply.status == 200;
            assert!(reply.status == wanted || again, "{text}: {} {}", reply.status, reply.text());
            let vary = if text.starts_with("OPTIONS ") && wanted == 204 { ASKED } else { "Origin" };
            assert_eq!(reply.field("Vary"), Some(vary), "{text}");
            assert_shared(&reply, shared.filter(|_| !unread), &text);
        }
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn an_origin_of_an_earlier_request_does_not_hold_for_the_next() {
    let Some(server) = Server::start(&FLAGS) else { return };
    let mut client = server.connect();
    assert_shared(&client.call(&Request::get("/api/health").with("Origin", LISTED)), Some(LISTED), "first");
    assert_shared(&client.call(&Request::get("/api/health")), None, "second");
    assert_shared(&client.call(&Request::get("/api/health").with("Origin", OTHER)), Some(OTHER), "third");
    client.send(b"GET /api/health HTTP/1.1\r\nHost: a\r\na : b\r\n\r\n");
    let refused = client.reply();
    assert_eq!(refused.status, 400);
    assert_shared(&refused, None, "a head that cannot be read");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_followed_audit_log_is_shared_too() {
    let Some(server) = Server::start(&FLAGS) else { return };
    let mut client = server.connect();
    let request = Request::new("HEAD", "/api/audit/stream").key(server.key()).with("Origin", LISTED);
    let reply = client.call(&request);
    assert_eq!((reply.status, reply.field("Content-Type")), (200, Some("text/event-stream")));
    assert_shared(&reply, Some(LISTED), "events");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_reply_that_is_written_before_any_request_varies_too() {
    let flags = [&FLAGS[..], &["--max-connections-per-address", "1"]].concat();
    let Some(server) = Server::start(&flags) else { return };
    let mut first = server.connect();
    assert_eq!(first.call(&Request::get("/api/health")).status, 200);
    let reply = server.connect().reply();
    reply.assert_problem(503, "too_many_connections");
    assert_eq!((reply.field("Vary"), reply.field("Retry-After")), (Some("Origin"), Some("1")));
    assert_shared(&reply, None, "nobody has asked yet");
    drop(first);
    assert_eq!(server.stop().code, Some(0));
}

fn preflight(server: &Server, target: &str, fields: &[(&str, &str)]) -> Reply {
    let request = Request::new("OPTIONS", target);
    server.call(&fields.iter().fold(request, |request, (name, value)| request.with(name, value)))
}

fn granted(reply: &Reply) -> Vec<(&str, &str)> {
    let fields = reply.fields.iter().filter(|(name, _)| name.starts_with("Access-Control-"));
    fields.map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

#[test]
fn a_preflight_of_a_listed_origin_is_told_what_pages_may_send() {
    let Some(server) = Server::start(&FLAGS) else { return };
    for (target, methods) in [
        ("/api/encrypt", "OPTIONS, POST"),
        ("/api/keys", "GET, HEAD, OPTIONS, POST"),
        ("/api/keys/orders", "DELETE, GET, HEAD, OPTIONS, PATCH"),
    ] {
        let asked = [
            ("Origin", LISTED),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "x-api-key,x-evil"),
            ("Access-Control-Request-Private-Network", "true"),
        ];
        let reply = preflight(&server, target, &asked);
        assert_eq!((reply.status, reply.body.len(), reply.field("Content-Length")), (204, 0, None));
        assert_eq!(reply.field("Vary"), Some(ASKED));
        assert_eq!(reply.field("Allow"), Some(methods));
        assert_eq!(reply.field("Access-Control-Allow-Origin"), Some(LISTED));
        assert_eq!(reply.field("Access-Control-Allow-Methods"), Some(methods));
        assert_eq!(
            reply.field("Access-Control-Allow-Headers"),
            Some("Accept, Authorization, Content-Type, Last-Event-ID, X-API-Key, X-Request-Id, traceparent")
        );
        assert_eq!(reply.field("Access-Control-Max-Age"), Some("600"));
        assert_eq!(granted(&reply).len(), 5, "{:?}", granted(&reply));
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn nothing_is_granted_to_others_nor_without_a_list() {
    let (listed, method) = (("Origin", LISTED), ("Access-Control-Request-Method", "POST"));
    let Some(server) = Server::start(&FLAGS) else { return };
    let plain = preflight(&server, "/api/encrypt", &[listed]);
    assert_eq!(granted(&plain).len(), 2, "an OPTIONS that is no preflight is only shared");
    for origin in
        ["https://evil.example", "null", "*", "https://app.example.net.evil", "HTTPS://APP.EXAMPLE.NET"]
    {
        let reply = preflight(&server, "/api/encrypt", &[("Origin", origin), method]);
        assert_eq!((reply.status, reply.field("Allow")), (204, Some("OPTIONS, POST")));
        assert_eq!(granted(&reply), [], "{origin}");
    }
    assert_eq!(granted(&preflight(&server, "/api/encrypt", &[method])), []);
    let unknown = preflight(&server, "/api/nothing", &[listed, method]);
    unknown.assert_problem(404, "not_found");
    assert_eq!(unknown.field("Access-Control-Allow-Methods"), None);
    assert_eq!(server.stop().code, Some(0));

    let Some(closed) = Server::start(&[]) else { return };
    for reply in [
        preflight(&closed, "/api/encrypt", &[listed, method]),
        closed.call(&Request::get("/api/health").with("Origin", LISTED)),
    ] {
        assert_eq!((granted(&reply), reply.field("Vary")), (Vec::new(), None));
    }
    assert_eq!(closed.stop().code, Some(0));
}
