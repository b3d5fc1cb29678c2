//! Paths, methods, and what every reply carries. The client itself checks the guarding fields of each reply.

use std::collections::HashSet;

use crate::server::client::Request;
use crate::with_orders;

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Every path with what `Allow` says of it.
const PATHS: [(&str, &str); 12] = [
    ("/api/health", "GET, HEAD, OPTIONS"),
    ("/api/health/live", "GET, HEAD, OPTIONS"),
    ("/api/health/ready", "GET, HEAD, OPTIONS"),
    ("/api/encrypt", "OPTIONS, POST"),
    ("/api/decrypt", "OPTIONS, POST"),
    ("/api/keys", "GET, HEAD, OPTIONS, POST"),
    ("/api/keys/orders", "DELETE, GET, HEAD, OPTIONS, PATCH"),
    ("/api/keys/orders/rotate", "OPTIONS, POST"),
    ("/api/keys/orders/undelete", "OPTIONS, POST"),
    ("/api/keys/orders/import", "OPTIONS, POST"),
    ("/api/keys/orders/export", "OPTIONS, POST"),
    ("/api/keys/orders/backup", "OPTIONS, POST"),
];

#[test]
fn a_path_refuses_the_methods_that_it_does_not_take() {
    let Some(server) = with_orders() else { return };
    for (path, allow) in PATHS {
        for method in METHODS {
            // The same answer with and without a credential.
            for request in [Request::new(method, path), Request::new(method, path).key(server.key())] {
                let reply = server.call(&request);
                if allow.split(", ").any(|allowed| allowed == method) {
                    assert_ne!(reply.status, 405, "{method} {path}");
                } else {
                    if method == "HEAD" {
                        assert_eq!(reply.status, 405, "{path}");
                    } else {
                        reply.assert_problem(405, "method_not_allowed");
                    }
                    assert_eq!(reply.field("Allow"), Some(allow), "{method} {path}");
                }
            }
        }
        let options = server.call(&Request::new("OPTIONS", path));
        assert_eq!((options.status, options.field("Allow")), (204, Some(allow)), "{path}");
        assert_eq!(options.field("Content-Length"), None, "204 has none (RFC 9110, section 8.6)");
        let patches = allow.contains("PATCH").then_some("application/json, application/merge-patch+json");
        assert_eq!(options.field("Accept-Patch"), patches, "{path}");
    }
    let all = server.call(&Request::new("OPTIONS", "*"));
    assert_eq!((all.status, all.field("Allow")), (204, Some("DELETE, GET, HEAD, OPTIONS, PATCH, POST")));
    server.call(&Request::new("BREW", "/api/health")).assert_problem(501, "unknown_method");
}

#[test]
fn other_paths_do_not_exist() {
    let Some(server) = with_orders() else { return };
    for path in [
        "/",
        "/api",
        "/api/",
        "/api/health/",
        "/api//health",
        "/API/health",
        "/api/health;x",
        "/api/%68ealth",
        "/api/keys/",
        "/api/keys/a/b",
        "/api/keys//rotate",
        "/api/keys/orders/rotate/",
        "/api/../api/health",
        "/api/./health",
        "/favicon.ico",
        "/api/encrypt/x",
    ] {
        for method in ["GET", "POST", "OPTIONS", "DELETE"] {
            server.ask(Request::new(method, path)).assert_problem(404, "not_found");
        }
    }
}

#[test]
fn head_is_get_without_a_body() {
    let Some(server) = with_orders() else { return };
    for (path, _) in PATHS.iter().filter(|(_, allow)| allow.contains("GET")) {
        let get = server.ask(Request::get(path));
        let head = server.ask(Request::new("HEAD", path));
        assert_eq!((get.status, head.status), (200, 200), "{path}");
        for name in ["Content-Type", "Content-Length"] {
            assert_eq!(get.field(name), head.field(name), "{path}");
        }
    }
    // Had a body followed the head, the second reply would not be one.
    let mut client = server.connect();
    let both = [Request::new("HEAD", "/api/nothing").bytes(), Request::get("/api/health").bytes()].concat();
    client.send(&both);
    let missing = client.reply_to_head();
    assert_eq!(missing.status, 404);
    assert!(missing.field("Content-Length").is_some_and(|length| length != "0"));
    assert_eq!(client.reply().status, 200);
}

#[test]
fn health_is_open_and_tells_its_components() {
    let Some(server) = with_orders() else { return };
    let reply = server.call(&Request::get("/api/health"));
    assert_eq!((reply.status, reply.field("Content-Type")), (200, Some("application/json")));
    let health = reply.json();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["version"], env!("CARGO_PKG_VERSION"));
    assert!(health["uptime_seconds"].is_u64());
    let components = health["components"].as_object().cloned().unwrap_or_default();
    let names: Vec<_> = components.keys().map(String::as_str).collect();
    assert_eq!(names, ["audit", "entropy", "sandbox", "store"]);
    assert!(components.values().all(|component| component["status"] == "ok"), "{health}");
    for path in ["/api/health/live", "/api/health/ready"] {
        assert_eq!(server.call(&Request::get(path)).text(), r#"{"status":"ok"}"#);
        server.call(&Request::get(&format!("{path}?x"))).assert_problem(400, "unknown_parameter");
    }
    let with_wrong_key = Request::get("/api/health").key("wrong");
    assert_eq!(server.call(&with_wrong_key).status, 200, "nobody is asked who they are");
}

#[test]
fn identifiers_are_unique_and_not_taken_from_the_client() {
    let Some(server) = with_orders() else { return };
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let mut client = server.connect();
        for _ in 0..20 {
            let request =
                Request::get("/api/health").with("X-Request-Id", "00000000000000000000000000000000");
            let id = client.call(&request).field("X-Request-Id").unwrap_or_default().to_owned();
            assert!(seen.insert(id.clone()), "{id}");
        }
    }
    assert!(!seen.contains("00000000000000000000000000000000"));
}

#[test]
fn http_1_0_is_closed_unless_it_asks_to_stay() {
    let Some(server) = with_orders() else { return };
    let mut client = server.connect();
    client.send(b"GET /api/health HTTP/1.0\r\n\r\n");
    let reply = client.reply();
    assert!(reply.status == 200 && reply.closes());
    assert!(client.ends());
    let mut client = server.connect();
    for _ in 0..2 {
        client.send(b"GET /api/health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let reply = client.reply();
        assert_eq!((reply.status, reply.field("Connection")), (200, Some("keep-alive")));
    }
}
