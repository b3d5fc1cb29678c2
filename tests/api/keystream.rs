//! Keystreams: fresh ones, and those that are made again.

use serde_json::{Value, json};

use crate::server::Server;
use crate::server::client::Request;
use crate::{base64, must_create, post, raw, with_orders};

const OCTETS: &str = "application/octet-stream";

fn draw(server: &Server, body: &Value) -> Value {
    let reply = post(server, "/api/keystream", &body.to_string());
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// What base64 stands for; nothing if it is none.
fn decoded(value: &Value) -> Vec<u8> {
    base64_simd::STANDARD.decode_to_vec(value.as_str().unwrap_or("no text")).unwrap_or_default()
}

#[test]
fn a_keystream_comes_again_for_its_nonce() {
    let Some(server) = with_orders() else { return };
    must_create(&server, r#"{"name":"ietf","type":"chacha20-poly1305"}"#);
    must_create(&server, r#"{"name":"tenants","derived":true}"#);
    for (key, context) in [("orders", None), ("ietf", None), ("tenants", Some("dGVuYW50"))] {
        let body = |members: Value| {
            let mut body = json!({ "key": key, "bytes": 5_000 });
            if let Some(context) = context {
                body["context"] = json!(context);
            }
            for (name, value) in members.as_object().into_iter().flatten() {
                body[name] = value.clone();
            }
            body
        };
        let first = draw(&server, &body(json!({})));
        assert_eq!((decoded(&first["keystream"]).len(), decoded(&first["nonce"]).len()), (5_000, 24));
        assert_eq!(first["key_version"], 1);
        let other = draw(&server, &body(json!({})));
        assert!(other["nonce"] != first["nonce"] && other["keystream"] != first["keystream"]);
        assert_eq!(draw(&server, &body(json!({ "nonce": first["nonce"] }))), first);
        let front = draw(&server, &body(json!({ "nonce": first["nonce"], "bytes": 100 })));
        assert_eq!(decoded(&front["keystream"]), decoded(&first["keystream"])[..100]);
        post(&server, &format!("/api/keys/{key}/rotate"), "{}");
        let old = draw(&server, &body(json!({ "nonce": first["nonce"], "key_version": 1 })));
        assert_eq!(old, first);
        let new = draw(&server, &body(json!({ "nonce": first["nonce"] })));
        assert!(new["key_version"] == 2 && new["keystream"] != first["keystream"]);
        if context.is_some() {
            let other = body(json!({ "nonce": first["nonce"], "key_version": 1, "context": "b3RoZXI=" }));
            assert_ne!(draw(&server, &other)["keystream"], first["keystream"]);
        }
    }
}

#[test]
fn raw_calls_carry_the_nonce_in_a_field() {
    let Some(server) = with_orders() else { return };
    let first = raw(&server, "/api/keystream?key=orders&bytes=1000", "", b"");
    assert_eq!((first.status, first.field("Content-Type"), first.body.len()), (200, Some(OCTETS), 1_000));
    assert_eq!(first.field("X-Key-Version"), Some("1"));
    let nonce = first.field("X-Nonce").unwrap_or("none").to_owned();
    let target = format!("/api/keystream?key=orders&bytes=1000&nonce={nonce}&key_version=1");
    assert!(raw(&server, &target, "", b"").body == first.body);
    let hex: String = first.body.iter().map(|byte| format!("{byte:02x}")).collect();
    let text = server.ask(Request::post(&target, "").with("Accept", "text/plain"));
    assert_eq!(text.text(), format!("{hex}\n"));
    let json = server.ask(Request::post(&target, "").with("Accept", "application/json"));
    assert_eq!(json.member("keystream"), base64(&first.body));
    let bytes = decoded(&json.json()["nonce"]);
    let body = json!({ "key": "orders", "bytes": 1000, "nonce": bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), "format": "hex" });
    assert_eq!(draw(&server, &body)["keystream"], hex);
}

#[test]
fn a_keystream_is_not_that_of_a_ciphertext() {
    let Some(server) = with_orders() else { return };
    let body = json!({ "key": "orders", "plaintext": base64(&[0; 200]) }).to_string();
    let sealed = post(&server, "/api/encrypt", &body).member("ciphertext");
    let sealed = decoded(&json!(sealed.strip_prefix("quantonium:v1:")));
    // Zeros enciphered are the keystream itself, from the second block on.
    let again = draw(&server, &json!({ "key": "orders", "bytes": 1000, "nonce": base64(&sealed[..24]) }));
    let drawn = decoded(&again["keystream"]);
    assert!(!drawn.windows(16).any(|window| window == &sealed[24..40]));
}

#[test]
fn wrong_requests_are_refused() {
    let Some(server) = with_orders() else { return };
    must_create(&server, r#"{"name":"signer","type":"hmac-sha256"}"#);
    for (members, code) in [
        (r#""bytes":0"#, "bytes_out_of_range"),
        (r#""bytes":1048577"#, "bytes_out_of_range"),
        (r#""nonce":"""#, "malformed_json"),
        (r#""bytes":1,"nonce":"""#, "malformed_nonce"),
        (r#""bytes":1,"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA""#, "malformed_nonce"),
        (r#""bytes":1,"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==""#, "malformed_nonce"),
        (r#""bytes":1,"key_version":2"#, "unknown_key_version"),
        (r#""bytes":1,"nonce":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","key_version":2"#, "unknown_key_version"),
        (r#""bytes":1,"associated_data":"eA==""#, "malformed_json"),
        (r#""bytes":1,"format":"octal""#, "unknown_format"),
    ] {
        let body = format!(r#"{{"key":"orders",{members}}}"#);
        post(&server, "/api/keystream", &body).assert_problem(400, code);
    }
    post(&server, "/api/keystream", r#"{"key":"signer","bytes":1}"#)
        .assert_problem(400, "key_type_not_allowed");
    post(&server, "/api/keystream", r#"{"key":"nope","bytes":1}"#).assert_problem(404, "unknown_key");
    let longest = draw(&server, &json!({ "key": "orders", "bytes": 1_048_576 }));
    assert_eq!(decoded(&longest["keystream"]).len(), 1_048_576);
    for (target, code) in [
        ("?key=orders", "bytes_out_of_range"),
        ("?key=orders&bytes=x", "malformed_parameter"),
        ("?key=orders&bytes=1&nonce=AA", "malformed_nonce"),
        ("?key=orders&bytes=1&associated_data=AA", "unknown_parameter"),
        ("?key=orders&bytes=1&context=AA", "context_not_allowed"),
        ("?bytes=1", "malformed_parameter"),
    ] {
        raw(&server, &format!("/api/keystream{target}"), "", b"").assert_problem(400, code);
    }
    raw(&server, "/api/keystream?key=orders&bytes=1", "", b"x").assert_problem(400, "unexpected_body");
}
