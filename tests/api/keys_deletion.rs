//! Deleting keys and bringing them back.

use serde_json::{Value, json};

use crate::server::Server;
use crate::server::client::{Reply, Request};
use crate::{base64, decrypt, must_configure, must_create, must_encrypt, post, with_orders};

const HELLO: &str = r#""plaintext":"aGVsbG8=""#;

fn delete(server: &Server, name: &str) -> Reply {
    server.ask(Request::new("DELETE", &format!("/api/keys/{name}")))
}

fn undelete(server: &Server, name: &str) -> Reply {
    server.ask(Request::post(&format!("/api/keys/{name}/undelete"), ""))
}

/// Names and rest of the list of living or deleted keys.
fn listed(server: &Server, query: &str) -> Vec<Value> {
    let reply = server.ask(Request::get(&format!("/api/keys{query}")));
    reply.json().get("keys").and_then(Value::as_array).cloned().unwrap_or_default()
}

#[test]
fn a_guarded_key_is_not_deleted() {
    let Some(server) = with_orders() else { return };
    delete(&server, "orders").assert_problem(409, "deletion_not_allowed");
    assert_eq!(server.ask(Request::get("/api/keys/orders")).json().get("deleted_at"), None);
    must_configure(&server, &json!({ "deletion_allowed": true }));
    must_configure(&server, &json!({ "deletion_allowed": false }));
    delete(&server, "orders").assert_problem(409, "deletion_not_allowed");
    delete(&server, "nope").assert_problem(404, "unknown_key");
    assert_eq!(listed(&server, "?deleted=true"), [] as [Value; 0]);
}

#[test]
fn a_deleted_key_is_gone_for_every_use_and_comes_back_whole() {
    let Some(server) = with_orders() else { return };
    let sealed = must_encrypt(&server, HELLO);
    let before = must_configure(&server, &json!({ "deletion_allowed": true }));
    let deleted = delete(&server, "orders");
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    let key = deleted.json();
    let time = |name: &str| key[name].as_str().unwrap_or_default().to_owned();
    let (deleted_at, purge_at) = (time("deleted_at"), time("purge_at"));
    assert!(deleted_at.len() == 24 && deleted_at < purge_at, "{key}");
    assert_eq!(server.ask(Request::get("/api/keys/orders")).json(), key, "it is still shown");
    assert_eq!(listed(&server, ""), [] as [Value; 0]);
    let summary = json!({
        "name": "orders", "type": "xchacha20-poly1305", "latest_version": 1,
        "deleted_at": deleted_at, "purge_at": purge_at,
    });
    assert_eq!(listed(&server, "?deleted=true"), [summary]);

    let encrypt = post(&server, "/api/encrypt", &format!(r#"{{"key":"orders",{HELLO}}}"#));
    encrypt.assert_problem(404, "unknown_key");
    decrypt(&server, "orders", &sealed).assert_problem(404, "unknown_key");
    delete(&server, "orders").assert_problem(404, "unknown_key");
    server.ask(Request::patch("/api/keys/orders", "{}")).assert_problem(404, "unknown_key");
    for action in ["rotate", "export", "backup"] {
        let reply = server.ask(Request::post(&format!("/api/keys/orders/{action}"), ""));
        reply.assert_problem(404, "unknown_key");
    }
    let import = json!({ "material": base64(&[7; 32]) }).to_string();
    post(&server, "/api/keys/orders/import", &import).assert_problem(409, "key_deleted");
    post(&server, "/api/keys", r#"{"name":"orders"}"#).assert_problem(409, "key_deleted");

    let back = undelete(&server, "orders");
    assert_eq!((back.status, back.json()), (200, before.clone()));
    assert_eq!(decrypt(&server, "orders", &sealed).member("plaintext"), "aGVsbG8=");
    assert_eq!(listed(&server, "?deleted=true"), [] as [Value; 0]);
    undelete(&server, "orders").assert_problem(409, "key_not_deleted");
    undelete(&server, "nope").assert_problem(404, "unknown_key");
}

#[test]
fn the_two_lists_are_apart() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    for name in ["a", "b", "c", "d"] {
        must_create(&server, &json!({ "name": name, "deletion_allowed": true }).to_string());
    }
    assert_eq!(delete(&server, "b").status, 200);
    assert_eq!(delete(&server, "d").status, 200);
    let names = |query: &str| {
        listed(&server, query).iter().filter_map(|key| key["name"].as_str()).collect::<String>()
    };
    assert_eq!(names(""), "ac");
    assert_eq!(names("?deleted=false"), "ac");
    assert_eq!(names("?deleted=true"), "bd");
    assert_eq!(names("?deleted=true&limit=1"), "b");
    assert_eq!(names("?deleted=true&after=b"), "d");
}

#[test]
fn deleting_and_bringing_back_take_no_members() {
    let Some(server) = with_orders() else { return };
    must_configure(&server, &json!({ "deletion_allowed": true }));
    let with_body = |body: &str| Request::new("DELETE", "/api/keys/orders").body(body);
    server.ask(with_body("{\"force\":true}")).assert_problem(400, "malformed_json");
    server
        .ask(with_body("{}").with("Content-Type", "text/plain"))
        .assert_problem(415, "unsupported_media_type");
    let query = server.ask(Request::new("DELETE", "/api/keys/orders?force=1"));
    query.assert_problem(400, "unknown_parameter");
    assert_eq!(server.ask(with_body("{}")).status, 200);
    let undelete = Request::post("/api/keys/orders/undelete", "{\"a\":1}");
    server.ask(undelete).assert_problem(400, "malformed_json");
    assert_eq!(server.ask(Request::post("/api/keys/orders/undelete", "{}")).status, 200);
}
