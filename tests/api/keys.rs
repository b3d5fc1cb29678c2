//! `/api/keys`.

use serde_json::{Value, json};

use crate::server::Server;
use crate::server::client::Request;
use crate::{must_create, post, with_orders};

#[test]
fn a_key_is_created_once_and_read_back() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let created = post(&server, "/api/keys", r#"{"name":"orders"}"#);
    assert_eq!((created.status, created.field("Content-Type")), (201, Some("application/json")));
    let key = created.json();
    assert_eq!(key["name"], "orders");
    assert_eq!(key["type"], "xchacha20-poly1305");
    assert_eq!(key["latest_version"], 1);
    assert_eq!(key["versions"][0]["version"], 1);
    assert_eq!(key["versions"][0]["state"], "enabled");
    let at = key["created_at"].as_str().unwrap_or_default();
    assert!(at.len() == 24 && at.ends_with('Z'), "{at}");
    let told = json!({
        "name": "orders", "type": "xchacha20-poly1305", "latest_version": 1, "created_at": at,
        "derived": false, "exportable": false, "plaintext_backup": false,
        "min_decryption_version": 1, "min_encryption_version": 0, "keep_versions": 0,
        "auto_rotate_seconds": 0, "deletion_allowed": false,
        "versions": [{ "version": 1, "state": "enabled", "created_at": at, "imported": false, "uses": 0 }],
    });
    assert_eq!(key, told, "and no key material");

    let again = post(&server, "/api/keys", r#"{"name":"orders","type":"xchacha20-poly1305"}"#);
    assert_eq!((again.status, again.json()), (200, key.clone()), "the same key, unchanged");
    let other = post(&server, "/api/keys", r#"{"name":"orders","type":"chacha20-poly1305"}"#);
    other.assert_problem(409, "key_exists");
    let read = server.ask(Request::get("/api/keys/orders"));
    assert_eq!((read.status, read.json()), (200, key));
}

#[test]
fn names_are_of_the_documented_form() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let longest = "k".repeat(128);
    for name in ["a", "0", "Z9", "a.b_c-D", longest.as_str()] {
        must_create(&server, &json!({ "name": name }).to_string());
        assert_eq!(server.ask(Request::get(&format!("/api/keys/{name}"))).status, 200, "{name}");
    }
    let too_long = "k".repeat(129);
    for name in [
        "",
        ".",
        "-a",
        "_a",
        ".a",
        "a b",
        " a",
        "a ",
        "a/b",
        "../a",
        "a\0",
        "a\n",
        "é",
        "a%41",
        "a?b",
        "a*",
        too_long.as_str(),
    ] {
        post(&server, "/api/keys", &json!({ "name": name }).to_string())
            .assert_problem(400, "malformed_key_name");
    }
    let count = server.ask(Request::get("/api/keys")).json()["keys"].as_array().map(Vec::len);
    assert_eq!(count, Some(5), "a refused name leaves nothing");
}

#[test]
fn a_body_that_is_not_a_key_is_refused() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    for body in [
        "",
        "{}",
        "[]",
        "null",
        "1",
        "\"a\"",
        "{\"name\":1}",
        "{\"name\":null}",
        "{\"name\":[\"a\"]}",
        "{\"name\":\"a\",\"typ\":\"x\"}",
        "{\"name\":\"a\",\"name\":\"a\"}",
        "{\"name\":\"a\"}x",
        "{\"name\":\"a\"",
        "{\"name\":\"\\ud800\"}",
        "{'name':'a'}",
        "{\"name\":\"a\",}",
        "{\"Name\":\"a\"}",
        "\u{feff}{\"name\":\"a\"}",
        "[\"a\",\"chacha20-poly1305\"]",
        "[\"a\"]",
        "{\"name\":\"a\",\"exportable\":1}",
        "{\"name\":\"a\",\"exportable\":null}",
        "{\"name\":\"a\",\"derived\":\"true\"}",
        "{\"name\":\"a\",\"keep_versions\":-1}",
        "{\"name\":\"a\",\"keep_versions\":4294967296}",
        "{\"name\":\"a\",\"keep_versions\":1.5}",
        "{\"name\":\"a\",\"auto_rotate_seconds\":\"1\"}",
        "{\"name\":\"a\",\"material\":\"AA==\"}",
        "{\"name\":\"a\",\"versions\":[]}",
    ] {
        post(&server, "/api/keys", body).assert_problem(400, "malformed_json");
    }
    for kind in ["", "aes256-gcm96", "XCHACHA20-POLY1305", "chacha20-poly1305 "] {
        let body = json!({ "name": "a", "type": kind }).to_string();
        post(&server, "/api/keys", &body).assert_problem(400, "unknown_key_type");
    }
    for kind in ["text/plain", "application/octet-stream", "application/xml", "nonsense"] {
        let request = Request::post("/api/keys", r#"{"name":"a"}"#).with("Content-Type", kind);
        server.ask(request).assert_problem(415, "unsupported_media_type");
    }
    let coded = Request::post("/api/keys", r#"{"name":"a"}"#).with("Content-Encoding", "gzip");
    server.ask(coded).assert_problem(415, "unsupported_media_type");
    post(&server, "/api/keys?name=a", r#"{"name":"a"}"#).assert_problem(400, "unknown_parameter");
    let large = json!({ "name": "a".repeat(70_000) }).to_string();
    post(&server, "/api/keys", &large).assert_problem(413, "body_too_large");
    assert_eq!(server.ask(Request::get("/api/keys")).json(), json!({ "keys": [] }));
}

#[test]
fn options_and_policy_are_what_the_key_was_made_with() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    for kind in ["xchacha20-poly1305", "chacha20-poly1305", "hmac-sha256", "hmac-sha384", "hmac-sha512"] {
        let body = json!({ "name": kind, "type": kind }).to_string();
        let key = post(&server, "/api/keys", &body).json();
        assert_eq!(key["type"], kind);
        assert_eq!(key["versions"][0].get("seals_reserved").is_some(), kind == "chacha20-poly1305", "{key}");
    }
    let wanted = json!({
        "name": "orders", "type": "chacha20-poly1305", "derived": true, "exportable": true,
        "plaintext_backup": true, "min_decryption_version": 1, "min_encryption_version": 1,
        "keep_versions": 4_096, "auto_rotate_seconds": 86_400, "deletion_allowed": true,
    });
    let created = post(&server, "/api/keys", &wanted.to_string());
    assert_eq!(created.status, 201, "{}", created.text());
    let key = created.json();
    for (name, value) in wanted.as_object().into_iter().flatten() {
        assert_eq!(&key[name], value, "{name}");
    }
    assert_eq!(post(&server, "/api/keys", &wanted.to_string()).status, 200, "there is that key");
    for (name, value) in wanted.as_object().into_iter().flatten().filter(|(name, _)| *name != "name") {
        let mut other = wanted.clone();
        other[name] = match value {
            Value::Bool(flag) => json!(!flag),
            Value::String(_) => json!("xchacha20-poly1305"),
            _ => json!(2),
        };
        post(&server, "/api/keys", &other.to_string()).assert_problem(409, "key_exists");
    }
}

#[test]
fn options_and_policies_that_contradict_themselves_are_refused() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    for (members, code) in [
        (json!({ "min_decryption_version": 0 }), "policy_not_allowed"),
        (json!({ "min_decryption_version": 2 }), "policy_not_allowed"),
        (json!({ "min_encryption_version": 2 }), "policy_not_allowed"),
        (json!({ "keep_versions": 4_097 }), "policy_not_allowed"),
        (json!({ "auto_rotate_seconds": 4_000_000_000_u64 }), "policy_not_allowed"),
        (json!({ "type": "hmac-sha256", "derived": true }), "material_not_allowed"),
    ] {
        let mut body = members.clone();
        body["name"] = json!("a");
        post(&server, "/api/keys", &body.to_string()).assert_problem(400, code);
    }
    assert_eq!(server.ask(Request::get("/api/keys/a")).status, 404, "nothing of them is left");
}

#[test]
fn a_key_may_be_named_like_a_route() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    for name in ["restore", "import", "rotate"] {
        must_create(&server, &json!({ "name": name, "deletion_allowed": true }).to_string());
        let path = format!("/api/keys/{name}");
        assert_eq!(server.ask(Request::get(&path)).json()["name"], name);
        assert_eq!(server.ask(Request::patch(&path, "{}")).json()["name"], name);
        assert_eq!(server.ask(Request::post(&format!("{path}/rotate"), "")).json()["latest_version"], 2);
        assert_eq!(server.ask(Request::new("DELETE", &path)).json()["name"], name);
    }
}

#[test]
fn the_list_is_ordered_and_paged() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    for name in ["b", "d", "a", "c", "e"] {
        must_create(&server, &json!({ "name": name }).to_string());
    }
    let page = |query: &str| {
        let reply = server.ask(Request::get(&format!("/api/keys{query}")));
        assert_eq!(reply.status, 200, "{query}: {}", reply.text());
        let json = reply.json();
        let keys = json["keys"].as_array().cloned().unwrap_or_default();
        let names: String = keys.iter().filter_map(|key| key["name"].as_str()).collect();
        (names, json.get("next").and_then(|next| next.as_str()).map(str::to_owned))
    };
    assert_eq!(page(""), ("abcde".to_owned(), None));
    assert_eq!(page("?limit=2"), ("ab".to_owned(), Some("b".to_owned())));
    assert_eq!(page("?limit=2&after=b"), ("cd".to_owned(), Some("d".to_owned())));
    assert_eq!(page("?after=d&limit=2"), ("e".to_owned(), None));
    assert_eq!(page("?limit=5"), ("abcde".to_owned(), None), "a full last page has no next one");
    assert_eq!(page("?after=bb"), ("cde".to_owned(), None), "after need not exist");
    assert_eq!(page("?after=z"), (String::new(), None));
    assert_eq!(page("?%61fter=%64"), ("e".to_owned(), None), "queries are percent-decoded");
    for query in [
        "limit=0",
        "limit=1001",
        "limit=",
        "limit=x",
        "limit=-1",
        "limit=1e3",
        "after=%ff",
        "deleted=",
        "deleted=1",
    ] {
        let reply = server.ask(Request::get(&format!("/api/keys?{query}")));
        reply.assert_problem(400, "malformed_parameter");
    }
    let unknown = server.ask(Request::get("/api/keys?limits=1"));
    unknown.assert_problem(400, "unknown_parameter");
    let twice = server.ask(Request::get("/api/keys?limit=1&limit=2"));
    twice.assert_problem(400, "repeated_parameter");
}

#[test]
fn unknown_keys_are_not_found() {
    let Some(server) = with_orders() else { return };
    for path in ["/api/keys/nope", "/api/keys/Orders", "/api/keys/%6frders", "/api/keys/orders%00"] {
        server.ask(Request::get(path)).assert_problem(404, "unknown_key");
    }
    server.ask(Request::post("/api/keys/nope/rotate", "")).assert_problem(404, "unknown_key");
    server.ask(Request::get("/api/keys/orders?x=1")).assert_problem(400, "unknown_parameter");
}

#[test]
fn a_rotation_adds_a_version_and_keeps_the_old_ones() {
    let Some(server) = with_orders() else { return };
    let old = crate::must_encrypt(&server, r#""plaintext":"aGVsbG8=""#);
    assert!(old.starts_with("quantonium:v1:"), "{old}");
    for (version, body) in [(2, ""), (3, "{}"), (4, " {\n} ")] {
        let rotated = server.ask(Request::post("/api/keys/orders/rotate", body));
        assert_eq!(rotated.status, 200, "{}", rotated.text());
        assert_eq!(rotated.json()["latest_version"], version);
        assert_eq!(rotated.json()["versions"].as_array().map(Vec::len), Some(version));
        assert_eq!(server.ask(Request::get("/api/keys/orders")).json(), rotated.json());
        let new = crate::must_encrypt(&server, r#""plaintext":"aGVsbG8=""#);
        assert!(new.starts_with(&format!("quantonium:v{version}:")), "{new}");
    }
    let opened = post(&server, "/api/decrypt", &json!({ "key": "orders", "ciphertext": old }).to_string());
    assert_eq!(opened.json(), json!({ "plaintext": "aGVsbG8=", "key_version": 1 }));
    for (body, status) in [("{\"a\":1}", 400), ("[]", 400), ("x", 400)] {
        server.ask(Request::post("/api/keys/orders/rotate", body)).assert_problem(status, "malformed_json");
    }
    let query = server.ask(Request::post("/api/keys/orders/rotate?x=y", ""));
    query.assert_problem(400, "unknown_parameter");
    assert_eq!(server.ask(Request::get("/api/keys/orders")).json()["latest_version"], 4);
}
