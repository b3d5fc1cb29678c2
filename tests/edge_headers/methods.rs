//! Every route with every method and every kind of body.

use std::collections::{BTreeMap, BTreeSet};

use quantonium::api::route::{Access, Serving, TABLE};
use quantonium::http::target::Method;

use super::answer;
use super::server::Server;
use super::server::client::Request;

/// The methods that are spoken, in the order of `Allow`.
const SPOKEN: [&str; 7] = ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];
/// Methods that are none here.
const OTHERS: [&str; 6] = ["TRACE", "PROPFIND", "LINK", "get", "Post", "QUERY"];

/// Each path with the methods that the table gives it.
fn paths() -> BTreeMap<String, BTreeSet<&'static str>> {
    let mut paths: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for route in TABLE {
        // A path that fits two patterns has the methods of both.
        let path = route.pattern.replace("{name}", "x").replace("{id}", "x");
        let methods = paths.entry(path).or_default();
        methods.extend([route.method.name(), "OPTIONS"]);
        if route.method == Method::Get {
            methods.insert("HEAD");
        }
    }
    let other = paths.get("/api/keys/x").cloned().unwrap();
    paths.get_mut("/api/keys/restore").unwrap().extend(other);
    paths
}

#[test]
fn every_path_takes_the_methods_of_the_table_and_says_so_to_others() {
    let Some(server) = Server::start(&["--address-rate-limit", "0"]) else { return };
    let public: BTreeSet<_> =
        TABLE.iter().filter(|route| route.access == Access::Public).map(|route| route.pattern).collect();
    for (path, methods) in paths() {
        let allow = methods.iter().copied().collect::<Vec<_>>().join(", ");
        for method in SPOKEN {
            for body in
                ["\r\n", "Content-Length: 2\r\n\r\n{}", "Content-Type: a/b\r\nContent-Length: 1\r\n\r\nx"]
            {
                let line = format!("{method} {path}");
                // The description is sent compressed alone.
                let head = format!("{line} HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n");
                let reply = answer(&server, &format!("{head}{body}"));
                if !methods.contains(method) {
                    assert_eq!(reply.field("Allow"), Some(allow.as_str()), "{line}");
                    assert_eq!(reply.status, 405, "{line}");
                    if method != "HEAD" {
                        reply.assert_problem(405, "method_not_allowed");
                    }
                } else if method == "OPTIONS" {
                    let wanted = if body == "\r\n" { 204 } else { 413 };
                    assert_eq!(reply.status, wanted, "{line}: {body:?}");
                    assert_eq!(reply.field("Allow").is_some(), wanted == 204);
                } else if public.contains(path.as_str()) {
                    assert_eq!(reply.status, if body == "\r\n" { 200 } else { 413 }, "{line}: {body:?}");
                } else {
                    assert_eq!((reply.status, reply.field("Allow")), (401, None), "{line}: {body:?}");
                }
            }
        }
        for method in OTHERS {
            let reply = answer(&server, &format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            reply.assert_problem(501, "unknown_method");
        }
    }
    answer(&server, "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n").assert_problem(501, "unknown_method");
    let all = answer(&server, "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    let spoken: Vec<_> = SPOKEN.into_iter().filter(|method| *method != "PUT").collect();
    assert_eq!((all.status, all.field("Allow")), (204, Some(spoken.join(", ").as_str())));
    assert_eq!(server.stop().code, Some(0));
}

/// Content types, each with what a route may make of it.
const TYPES: [(&str, Kind); 13] = [
    ("", Kind::None),
    ("application/x-www-form-urlencoded", Kind::None),
    ("application/json", Kind::Json),
    ("APPLICATION/JSON; charset=utf-8", Kind::Json),
    ("application/merge-patch+json", Kind::Patch),
    ("application/octet-stream", Kind::Octets),
    ("text/plain", Kind::Text),
    ("text/plain;charset=\"utf-8\"", Kind::Text),
    ("application/xml", Kind::Other),
    ("multipart/form-data; boundary=x", Kind::Other),
    ("text/json", Kind::Other),
    ("json", Kind::Other),
    ("application/json, text/plain", Kind::Other),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    None,
    Json,
    Patch,
    Octets,
    Text,
    Other,
}

/// Whether a route takes a body of this kind: with JSON, or, with a `key` in its query, as it is.
fn takes(path: &str, method: Method, raw: bool, kind: Kind) -> bool {
    let is_payload = |kind| matches!(kind, Kind::None | Kind::Octets | Kind::Text);
    match kind {
        Kind::None | Kind::Json => true,
        Kind::Patch => method == Method::Patch,
        _ if path == "/api/hash" => is_payload(kind),
        _ => raw && is_payload(kind),
    }
}

#[test]
fn bodies_of_other_types_and_coded_ones_are_415() {
    let Some(server) = Server::start(&["--address-rate-limit", "0", "--rate-limit", "0"]) else { return };
    for (path, body) in
        [("/api/keys", r#"{"name":"x"}"#), ("/api/keys", r#"{"name":"s","type":"hmac-sha256"}"#)]
    {
        assert_eq!(server.ask(Request::post(path, body)).status, 201);
    }
    let made = server.ask(Request::post("/api/auth/keys", r#"{"name":"y","scopes":["hash"]}"#));
    let id = made.member("id");
    let mut wrong = Vec::new();
    for route in TABLE {
        let takes_body = matches!(route.serving, Serving::Whole(_, 1..) | Serving::Streamed(_));
        if route.method == Method::Get || !takes_body {
            continue;
        }
        let streamed = matches!(route.serving, Serving::Streamed(_));
        let path = route.pattern.replace("{name}", "x").replace("{id}", &id);
        let key = if path == "/api/sign" || path == "/api/verify" { "s" } else { "x" };
        let has_raw = matches!(
            path.as_str(),
            "/api/encrypt"
                | "/api/decrypt"
                | "/api/rewrap"
                | "/api/sign"
                | "/api/stream/encrypt"
                | "/api/stream/decrypt"
        );
        for raw in [false, true].into_iter().filter(|raw| if streamed { *raw } else { !*raw || has_raw }) {
            for (content_type, kind) in TYPES {
                for coding in ["", "identity", "gzip", "br", "x"] {
                    let target = if raw { format!("{path}?key={key}") } else { path.clone() };
                    let mut request = Request::with_body(route.method.name(), &target, "{\"no\":1}");
                    if !content_type.is_empty() {
                        request = request.with("Content-Type", content_type);
                    }
                    if !coding.is_empty() {
                        request = request.with("Content-Encoding", coding);
                    }
                    let reply = server.ask(request);
                    let plain = matches!(coding, "" | "identity");
                    let refused = !plain || !takes(&path, route.method, raw, kind);
                    let what = format!("{} {target} {content_type:?} {coding:?}", route.method.name());
                    assert!(reply.status < 500, "{what}: {}", reply.text());
                    if refused != (reply.status == 415) {
                        wrong.push(format!("{what}: {}", reply.status));
                    }
                    if raw && plain && kind == Kind::Json {
                        assert_eq!(reply.status, 400, "{what}: JSON beside a key in the query");
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn a_reply_that_nothing_in_accept_fits_is_406_where_there_is_a_choice() {
    let Some(server) = Server::start(&[]) else { return };
    assert_eq!(server.ask(Request::post("/api/keys", r#"{"name":"x"}"#)).status, 201);
    for (target, accept, status) in [
        ("/api/encrypt?key=x", "image/png", 406),
        ("/api/encrypt?key=x", "*/*;q=0", 406),
        ("/api/encrypt?key=x", "application/octet-stream", 200),
        ("/api/encrypt?key=x", "no type at all", 200),
        ("/api/stream/encrypt?key=x", "text/html", 406),
    ] {
        let reply = server.ask(Request::post(target, "x").with("Accept", accept));
        assert_eq!(reply.status, status, "{target} {accept}");
    }
    // What has one form only is sent in it (RFC 9110, section 12.4.1).
    assert_eq!(server.ask(Request::get("/api/keys").with("Accept", "image/png")).status, 200);
    assert_eq!(server.call(&Request::get("/api/health").with("Accept", "image/png")).status, 200);
    assert_eq!(server.stop().code, Some(0));
}
