//! Ciphertexts that are sealed again under another version.

use serde_json::json;

use crate::server::client::Request;
use crate::{base64, must_create, must_encrypt, post, raw, results, with_orders};

const OCTETS: &str = "application/octet-stream";

#[test]
fn a_ciphertext_moves_to_the_latest_version_and_keeps_its_binding() {
    let Some(server) = with_orders() else { return };
    let old = must_encrypt(&server, r#""plaintext":"aGVsbG8=","associated_data":"eA==""#);
    post(&server, "/api/keys/orders/rotate", "{}");
    post(&server, "/api/keys/orders/rotate", "{}");
    let rewrap = |members: serde_json::Value| {
        let mut body = json!({ "key": "orders", "ciphertext": old, "associated_data": "eA==" });
        for (name, value) in members.as_object().into_iter().flatten() {
            body[name] = value.clone();
        }
        post(&server, "/api/rewrap", &body.to_string())
    };
    for (version, members) in
        [(3, json!({})), (2, json!({ "key_version": 2 })), (1, json!({ "key_version": 1 }))]
    {
        let moved = rewrap(members);
        assert_eq!(moved.status, 200, "{}", moved.text());
        assert_eq!(moved.json()["key_version"], version);
        assert_eq!(
            moved.json().as_object().map(serde_json::Map::len),
            Some(2),
            "no plaintext: {}",
            moved.text()
        );
        let ciphertext = moved.member("ciphertext");
        assert!(ciphertext.starts_with(&format!("quantonium:v{version}:")) && ciphertext != old);
        let body = json!({ "key": "orders", "ciphertext": ciphertext, "associated_data": "eA==" });
        let opened = post(&server, "/api/decrypt", &body.to_string());
        assert_eq!(opened.json(), json!({ "plaintext": "aGVsbG8=", "key_version": version }));
    }
    rewrap(json!({ "key_version": 4 })).assert_problem(400, "unknown_key_version");
    rewrap(json!({ "associated_data": "eQ==" })).assert_problem(400, "decryption_failed");
    rewrap(json!({ "ciphertext": old.replace("v1", "v9") })).assert_problem(400, "decryption_failed");
    rewrap(json!({ "context": "eA==" })).assert_problem(400, "context_not_allowed");
    rewrap(json!({ "plaintext": "eA==" })).assert_problem(400, "malformed_json");
    post(&server, "/api/rewrap", r#"{"key":"orders"}"#).assert_problem(400, "ciphertext_or_batch");
    post(&server, "/api/rewrap", r#"{"key":"nope","ciphertext":""}"#).assert_problem(404, "unknown_key");
}

#[test]
fn raw_calls_keep_the_form_that_they_came_in() {
    let Some(server) = with_orders() else { return };
    let sealed = raw(&server, "/api/encrypt?key=orders&associated_data=eA", OCTETS, b"hello").body;
    let line = raw(&server, "/api/encrypt?key=orders&associated_data=eA", "text/plain", b"hello").body;
    post(&server, "/api/keys/orders/rotate", "{}");
    let target = "/api/rewrap?key=orders&associated_data=eA";
    let octets = raw(&server, target, OCTETS, &sealed);
    assert_eq!((octets.status, octets.field("X-Key-Version")), (200, Some("2")));
    assert!(octets.body.starts_with(b"QN\x01\0\0\0\x02"));
    let text = raw(&server, target, "text/plain", &line);
    assert!(text.text().starts_with("quantonium:v2:") && text.text().ends_with('\n'), "{}", text.text());
    for body in [&octets.body, &text.body] {
        let opened = raw(&server, "/api/decrypt?key=orders&associated_data=eA", OCTETS, body);
        assert_eq!(opened.body, b"hello");
    }
    let request =
        Request::post(target, &sealed).with("Content-Type", OCTETS).with("Accept", "application/json");
    assert_eq!(server.ask(request).json()["key_version"], 2);
    let back = raw(&server, &format!("{target}&key_version=1"), OCTETS, &octets.body);
    assert_eq!(back.field("X-Key-Version"), Some("1"));
    raw(&server, "/api/rewrap?key=orders", OCTETS, &sealed).assert_problem(400, "decryption_failed");
    raw(&server, target, OCTETS, b"hello").assert_problem(400, "decryption_failed");
}

#[test]
fn a_batch_is_moved_item_by_item() {
    let Some(server) = with_orders() else { return };
    must_create(&server, r#"{"name":"ietf","type":"chacha20-poly1305"}"#);
    for key in ["orders", "ietf"] {
        let body = json!({ "key": key, "plaintext": base64(&[7; 1000]) }).to_string();
        let sealed = post(&server, "/api/encrypt", &body).member("ciphertext");
        post(&server, &format!("/api/keys/{key}/rotate"), "{}");
        let items = json!([{ "ciphertext": sealed, "reference": "a" }, { "ciphertext": "no" }]);
        let moved =
            results(&post(&server, "/api/rewrap", &json!({ "key": key, "batch": items }).to_string()));
        assert_eq!((&moved[0]["key_version"], &moved[0]["reference"]), (&json!(2), &json!("a")));
        assert_eq!(moved[1]["error"]["code"], "decryption_failed");
        let body = json!({ "key": key, "ciphertext": moved[0]["ciphertext"] }).to_string();
        assert_eq!(post(&server, "/api/decrypt", &body).member("plaintext"), base64(&[7; 1000]));
    }
}
