//! Data keys: fresh keys that leave sealed, and in the open if that is wanted.

use serde_json::json;

use crate::server::client::Request;
use crate::{must_create, post, raw, with_orders};

#[test]
fn the_sealed_key_opens_to_the_open_one() {
    let Some(server) = with_orders() else { return };
    must_create(&server, r#"{"name":"ietf","type":"chacha20-poly1305"}"#);
    let mut seen = Vec::new();
    for key in ["orders", "ietf"] {
        for (bits, length) in [(None, 32), (Some(128), 16), (Some(256), 32), (Some(512), 64)] {
            let mut body = json!({ "key": key, "associated_data": "eA==" });
            if let Some(bits) = bits {
                body["bits"] = json!(bits);
            }
            let made = post(&server, "/api/datakey", &body.to_string());
            assert_eq!(made.status, 200, "{}", made.text());
            let plaintext = made.member("plaintext");
            assert_eq!(
                base64_simd::STANDARD.decode_to_vec(&plaintext).map(|key| key.len()).ok(),
                Some(length)
            );
            let body =
                json!({ "key": key, "ciphertext": made.member("ciphertext"), "associated_data": "eA==" });
            let opened = post(&server, "/api/decrypt", &body.to_string());
            assert_eq!(
                opened.json(),
                json!({ "plaintext": plaintext, "key_version": made.json()["key_version"] })
            );
            assert!(!seen.contains(&plaintext), "each is fresh");
            seen.push(plaintext);
        }
    }
}

#[test]
fn the_open_key_stays_away_unless_it_is_wanted() {
    let Some(server) = with_orders() else { return };
    post(&server, "/api/keys/orders/rotate", "{}");
    let body = r#"{"key":"orders","plaintext":false,"key_version":1}"#;
    let sealed = post(&server, "/api/datakey", body).json();
    let members: Vec<_> = sealed.as_object().map(|object| object.keys().collect()).unwrap_or_default();
    assert_eq!(members, ["ciphertext", "key_version"]);
    assert_eq!(sealed["key_version"], 1);
    let hex =
        post(&server, "/api/datakey", r#"{"key":"orders","format":"hex","bits":128}"#).member("plaintext");
    assert!(hex.len() == 32 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{hex}");
}

#[test]
fn with_a_query_the_sealed_key_comes_alone() {
    let Some(server) = with_orders() else { return };
    let target = "/api/datakey?key=orders&bits=512&associated_data=eA";
    let text = raw(&server, target, "", b"");
    assert_eq!((text.status, text.field("X-Key-Version")), (200, Some("1")));
    assert!(text.text().starts_with("quantonium:v1:") && text.text().ends_with('\n'));
    let octets = server.ask(Request::post(target, "").with("Accept", "application/octet-stream"));
    assert_eq!(octets.body.len(), 7 + 24 + 64 + 16);
    for body in [&text.body, &octets.body] {
        let opened = raw(&server, "/api/decrypt?key=orders&associated_data=eA", "text/plain", body);
        assert_eq!((opened.status, opened.body.len()), (200, 64));
    }
    let json = server.ask(Request::post(target, "").with("Accept", "application/json")).json();
    assert!(json.get("plaintext").is_none() && json["ciphertext"].is_string(), "{json}");
}

#[test]
fn wrong_orders_are_refused() {
    let Some(server) = with_orders() else { return };
    must_create(&server, r#"{"name":"signer","type":"hmac-sha256"}"#);
    for (body, code) in [
        (r#"{"key":"orders","bits":192}"#, "bits_not_allowed"),
        (r#"{"key":"orders","bits":0}"#, "bits_not_allowed"),
        (r#"{"key":"orders","bits":"256"}"#, "malformed_json"),
        (r#"{"key":"orders","plaintext":"no"}"#, "malformed_json"),
        (r#"{"key":"orders","batch":[]}"#, "malformed_json"),
        (r#"{"key":"orders","key_version":2}"#, "unknown_key_version"),
        (r#"{"key":"orders","associated_data":"!"}"#, "malformed_associated_data"),
        (r#"{"key":"orders","format":"HEX"}"#, "unknown_format"),
        (r#"{"key":"signer"}"#, "key_type_not_allowed"),
        ("", "malformed_json"),
    ] {
        post(&server, "/api/datakey", body).assert_problem(400, code);
    }
    post(&server, "/api/datakey", r#"{"key":"nope"}"#).assert_problem(404, "unknown_key");
    for (target, code) in [
        ("?key=orders&bits=192", "bits_not_allowed"),
        ("?key=orders&bits=0256", "malformed_parameter"),
        ("?bits=256", "malformed_parameter"),
        ("?key=orders&plaintext=true", "unknown_parameter"),
    ] {
        raw(&server, &format!("/api/datakey{target}"), "", b"").assert_problem(400, code);
    }
    raw(&server, "/api/datakey?key=orders", "", b"x").assert_problem(400, "unexpected_body");
}
