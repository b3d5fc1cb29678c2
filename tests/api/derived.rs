//! Keys that derive a key of their own from each context.

use serde_json::json;

use crate::server::Server;
use crate::{base64, must_create, post, raw, results, with_orders};

const OCTETS: &str = "application/octet-stream";

fn with_tenants() -> Option<Server> {
    let server = with_orders()?;
    must_create(&server, r#"{"name":"tenants","derived":true}"#);
    must_create(&server, r#"{"name":"ietf","type":"chacha20-poly1305","derived":true}"#);
    Some(server)
}

#[test]
fn a_ciphertext_opens_under_its_own_context_only() {
    let Some(server) = with_tenants() else { return };
    for key in ["tenants", "ietf"] {
        let body = json!({ "key": key, "plaintext": "aGVsbG8=", "context": "dGVuYW50IDc=", "associated_data": "eA==" });
        let sealed = post(&server, "/api/encrypt", &body.to_string());
        assert_eq!(sealed.status, 200, "{}", sealed.text());
        let open = |context: &str| {
            let ciphertext = sealed.member("ciphertext");
            let body = json!({ "key": key, "ciphertext": ciphertext, "context": context, "associated_data": "eA==" });
            post(&server, "/api/decrypt", &body.to_string())
        };
        assert_eq!(open("dGVuYW50IDc=").json(), json!({ "plaintext": "aGVsbG8=", "key_version": 1 }));
        open("dGVuYW50IDg=").assert_problem(400, "decryption_failed");
        open(&base64(&[7; 1024])).assert_problem(400, "decryption_failed");
        open(&base64(&[7; 1025])).assert_problem(400, "malformed_context");
        open("dGVuYW50IDc").assert_problem(400, "malformed_context");
        open("").assert_problem(400, "context_required");
    }
}

#[test]
fn without_its_context_a_derived_key_does_nothing() {
    let Some(server) = with_tenants() else { return };
    post(&server, "/api/encrypt", r#"{"key":"tenants","plaintext":"eA=="}"#)
        .assert_problem(400, "context_required");
    raw(&server, "/api/encrypt?key=tenants", OCTETS, b"x").assert_problem(400, "context_required");
    raw(&server, "/api/encrypt?key=tenants&context=", OCTETS, b"x").assert_problem(400, "context_required");
    raw(&server, "/api/encrypt?key=tenants&context=eA==", OCTETS, b"x")
        .assert_problem(400, "malformed_context");
    for route in ["decrypt", "rewrap"] {
        let body = format!(r#"{{"key":"tenants","ciphertext":"quantonium:v1:{}"}}"#, base64(&[7; 64]));
        post(&server, &format!("/api/{route}"), &body).assert_problem(400, "context_required");
    }
    post(&server, "/api/datakey", r#"{"key":"tenants"}"#).assert_problem(400, "context_required");
    post(&server, "/api/keystream", r#"{"key":"tenants","bytes":16}"#)
        .assert_problem(400, "context_required");
    for route in ["datakey", "keystream"] {
        let body = r#"{"key":"orders","bytes":16,"context":"eA=="}"#;
        let body = if route == "datakey" { body.replace(r#""bytes":16,"#, "") } else { body.to_owned() };
        post(&server, &format!("/api/{route}"), &body).assert_problem(400, "context_not_allowed");
    }
}

#[test]
fn items_of_a_batch_have_contexts_of_their_own() {
    let Some(server) = with_tenants() else { return };
    let items = json!([
        { "plaintext": "b25l", "context": "MQ==" },
        { "plaintext": "dHdv", "context": "Mg==" },
        { "plaintext": "dGhyZWU=" },
    ]);
    let sealed =
        results(&post(&server, "/api/encrypt", &json!({ "key": "tenants", "batch": items }).to_string()));
    assert_eq!(sealed[2]["error"]["code"], "context_required");
    let items = json!([
        { "ciphertext": sealed[0]["ciphertext"], "context": "MQ==" },
        { "ciphertext": sealed[1]["ciphertext"], "context": "Mg==" },
        { "ciphertext": sealed[1]["ciphertext"], "context": "MQ==" },
    ]);
    let opened =
        results(&post(&server, "/api/decrypt", &json!({ "key": "tenants", "batch": items }).to_string()));
    assert_eq!((&opened[0]["plaintext"], &opened[1]["plaintext"]), (&json!("b25l"), &json!("dHdv")));
    assert_eq!(opened[2]["error"]["code"], "decryption_failed");
}

#[test]
fn raw_calls_take_the_context_from_the_query() {
    let Some(server) = with_tenants() else { return };
    let sealed = raw(&server, "/api/encrypt?key=tenants&context=_-8", OCTETS, b"hello");
    assert_eq!(sealed.status, 200);
    let opened = raw(&server, "/api/decrypt?key=tenants&context=_-8", OCTETS, &sealed.body);
    assert_eq!((opened.status, opened.body.as_slice()), (200, b"hello".as_slice()));
    let line = format!("quantonium:v1:{}", base64(&sealed.body[7..]));
    let body = json!({ "key": "tenants", "ciphertext": line, "context": "/+8=" }).to_string();
    assert_eq!(
        post(&server, "/api/decrypt", &body).member("plaintext"),
        "aGVsbG8=",
        "the same bytes as JSON"
    );
    raw(&server, "/api/decrypt?key=tenants&context=_-9", OCTETS, &sealed.body)
        .assert_problem(400, "malformed_context");
}
