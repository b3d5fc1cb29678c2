//! Signatures and their check, by keys that only sign and by keys that encrypt.

use serde_json::json;

use crate::server::Server;
use crate::server::client::Request;
use crate::{base64, must_create, octets, post, raw, results, with_orders};

const OCTETS: &str = "application/octet-stream";
const KEYS: [(&str, usize); 5] = [("orders", 32), ("tenants", 32), ("s256", 32), ("s384", 48), ("s512", 64)];

fn with_signers() -> Option<Server> {
    let server = with_orders()?;
    must_create(&server, r#"{"name":"tenants","derived":true}"#);
    for (name, kind) in [("s256", "hmac-sha256"), ("s384", "hmac-sha384"), ("s512", "hmac-sha512")] {
        must_create(&server, &format!(r#"{{"name":"{name}","type":"{kind}"}}"#));
    }
    Some(server)
}

fn verify(server: &Server, key: &str, input: &[u8], signature: &str) -> bool {
    let body = json!({ "key": key, "input": base64(input), "signature": signature }).to_string();
    let reply = post(server, "/api/verify", &body);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let json = reply.json();
    assert_eq!(json.as_object().map(serde_json::Map::len), Some(1), "{json}");
    let valid = json.get("valid").and_then(serde_json::Value::as_bool);
    assert!(valid.is_some(), "{json}");
    valid == Some(true)
}

#[test]
fn what_was_signed_verifies_and_nothing_else_does() {
    let Some(server) = with_signers() else { return };
    for (key, length) in KEYS {
        for size in [0, 1, 64, 10_000] {
            let input = octets(size);
            let sign =
                || post(&server, "/api/sign", &json!({ "key": key, "input": base64(&input) }).to_string());
            let signed = sign();
            assert_eq!(signed.status, 200, "{}", signed.text());
            assert_eq!(signed.json()["key_version"], 1);
            let signature = signed.member("signature");
            assert_eq!(signature, sign().member("signature"), "a signature depends on key and input alone");
            let body = signature.strip_prefix("quantonium:v1:").unwrap_or("no prefix");
            let tag = base64_simd::STANDARD.decode_to_vec(body).expect("canonical base64");
            assert_eq!(tag.len(), length);
            assert!(verify(&server, key, &input, &signature));
            assert!(verify(&server, key, &input, &signature.replace("quantonium:", "vault:")));
            assert!(!verify(&server, key, &[&input[..], b"x"].concat(), &signature));
            for at in [0, length / 2, length - 1] {
                let mut other = tag.clone();
                other[at] ^= 1;
                assert!(!verify(&server, key, &input, &format!("quantonium:v1:{}", base64(&other))));
            }
            // Versions that do not exist never signed anything.
            assert!(!verify(&server, key, &input, &signature.replace("v1", "v2")));
        }
    }
    // A tag of another hash's length, and one of another key.
    let body = json!({ "key": "s512", "input": "" }).to_string();
    let signature = post(&server, "/api/sign", &body).member("signature");
    assert!(!verify(&server, "s256", b"", &signature));
    let body = json!({ "key": "s256", "input": "" }).to_string();
    let signature = post(&server, "/api/sign", &body).member("signature");
    assert!(!verify(&server, "orders", b"", &signature));
}

#[test]
fn a_version_can_be_chosen_and_older_ones_verify() {
    let Some(server) = with_signers() else { return };
    for key in ["orders", "s384"] {
        let sign = |members: &str| {
            post(&server, "/api/sign", &format!(r#"{{"key":"{key}","input":"eA=="{members}}}"#))
        };
        let first = sign("").member("signature");
        post(&server, &format!("/api/keys/{key}/rotate"), "{}");
        assert!(sign("").member("signature").starts_with("quantonium:v2:"));
        let again = sign(r#","key_version":1"#);
        assert_eq!(
            (again.member("signature"), again.json()["key_version"].as_u64()),
            (first.clone(), Some(1))
        );
        assert!(verify(&server, key, b"x", &first));
        assert!(!verify(&server, key, b"x", &first.replace("v1", "v2")), "versions have keys of their own");
        sign(r#","key_version":3"#).assert_problem(400, "unknown_key_version");
    }
}

#[test]
fn raw_calls_sign_the_body_and_check_it() {
    let Some(server) = with_signers() else { return };
    let url_safe = |line: &str| line.replace('+', "-").replace('/', "_").replace('=', "");
    let escaped = |line: &str| line.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    for (key, _) in KEYS {
        for kind in [OCTETS, "text/plain", ""] {
            let signed = raw(&server, &format!("/api/sign?key={key}"), kind, b"hello\n");
            assert_eq!(
                (signed.status, signed.field("Content-Type")),
                (200, Some("text/plain; charset=utf-8"))
            );
            assert_eq!(signed.field("X-Key-Version"), Some("1"));
            let line = signed.text().strip_suffix('\n').unwrap_or("no line end");
            assert!(verify(&server, key, b"hello\n", line), "the input is the whole body");
            for signature in [url_safe(line), escaped(line)] {
                let target = format!("/api/verify?key={key}&signature={signature}");
                let reply = raw(&server, &target, kind, b"hello\n");
                assert_eq!((reply.status, reply.json()), (200, json!({ "valid": true })), "{target}");
                assert_eq!(raw(&server, &target, kind, b"hello").json(), json!({ "valid": false }));
            }
        }
    }
    let request = Request::post("/api/sign?key=s256&key_version=1", "x").with("Content-Type", OCTETS);
    let json = server.ask(request.clone().with("Accept", "application/json"));
    assert!(json.member("signature").starts_with("quantonium:v1:"));
    server.ask(request.with("Accept", OCTETS)).assert_problem(406, "not_acceptable");
    raw(&server, "/api/sign?key=s256&context=eA", OCTETS, b"x").assert_problem(400, "unknown_parameter");
    raw(&server, "/api/verify?key=s256", OCTETS, b"x").assert_problem(400, "malformed_signature");
    raw(&server, "/api/verify?key=s256&signature=x", OCTETS, b"x").assert_problem(400, "malformed_signature");
}

#[test]
fn batches_sign_and_verify_in_order() {
    let Some(server) = with_signers() else { return };
    let items = json!([{ "input": "b25l", "reference": "a" }, { "input": "!" }, { "input": "" }]);
    let signed = results(&post(&server, "/api/sign", &json!({ "key": "s512", "batch": items }).to_string()));
    assert_eq!((&signed[0]["reference"], &signed[0]["key_version"]), (&json!("a"), &json!(1)));
    assert_eq!(signed[1]["error"]["code"], "malformed_input");
    let items = json!([
        { "input": "b25l", "signature": signed[0]["signature"], "reference": "b" },
        { "input": "dHdv", "signature": signed[0]["signature"] },
        { "input": "", "signature": signed[2]["signature"] },
        { "input": "", "signature": "quantonium:v1:no" },
    ]);
    let checked =
        results(&post(&server, "/api/verify", &json!({ "key": "s512", "batch": items }).to_string()));
    assert_eq!(checked[0], json!({ "valid": true, "reference": "b" }));
    assert_eq!((&checked[1], &checked[2]), (&json!({ "valid": false }), &json!({ "valid": true })));
    assert_eq!(checked[3]["error"]["code"], "malformed_signature");
    let unsigned = json!({ "key": "s512", "batch": [{ "input": "" }] }).to_string();
    post(&server, "/api/verify", &unsigned).assert_problem(400, "malformed_json");
}

#[test]
fn wrong_requests_are_refused() {
    let Some(server) = with_signers() else { return };
    for (route, body, code) in [
        ("sign", r#"{"key":"s256"}"#, "input_or_batch"),
        ("sign", r#"{"key":"s256","input":"","batch":[]}"#, "input_or_batch"),
        ("sign", r#"{"key":"s256","input":"x"}"#, "malformed_input"),
        ("sign", r#"{"key":"s256","input":"","context":"eA=="}"#, "malformed_json"),
        ("sign", r#"{"key":"s256","input":"","signature":"x"}"#, "malformed_json"),
        ("verify", r#"{"key":"s256","input":""}"#, "malformed_signature"),
        ("verify", r#"{"key":"s256","signature":"quantonium:v1:"}"#, "input_or_batch"),
        ("verify", r#"{"key":"s256","batch":[],"signature":""}"#, "input_or_batch"),
        ("verify", r#"{"key":"s256","input":"","signature":"","key_version":1}"#, "malformed_json"),
    ] {
        post(&server, &format!("/api/{route}"), body).assert_problem(400, code);
    }
    let tag = base64(&[7; 32]);
    for signature in [
        String::new(),
        tag.clone(),
        format!("quantonium:v0:{tag}"),
        format!("quantonium:v1:{}", base64(&[7; 31])),
        format!("quantonium:v1:{}", tag.trim_end_matches('=')),
        format!("quantonium:v1:{tag}\\n"),
    ] {
        let body = format!(r#"{{"key":"s256","input":"","signature":"{signature}"}}"#);
        post(&server, "/api/verify", &body).assert_problem(400, "malformed_signature");
    }
    for route in ["encrypt", "decrypt", "rewrap"] {
        let payload = if route == "encrypt" { "plaintext" } else { "ciphertext" };
        let body = json!({ "key": "s256", payload: "" }).to_string();
        post(&server, &format!("/api/{route}"), &body).assert_problem(400, "key_type_not_allowed");
        let body = json!({ "key": "s256", "batch": [] }).to_string();
        post(&server, &format!("/api/{route}"), &body).assert_problem(400, "key_type_not_allowed");
        raw(&server, &format!("/api/{route}?key=s256"), OCTETS, b"x")
            .assert_problem(400, "key_type_not_allowed");
    }
    for route in ["sign", "verify"] {
        let signature = if route == "verify" { "&signature=quantonium:v1:" } else { "" };
        let target = format!(
            "/api/{route}?key=s256{signature}{}",
            if route == "verify" { "A".repeat(43) } else { String::new() }
        );
        raw(&server, &target, OCTETS, &vec![b'x'; 1024 * 1024]).assert_guarded();
        raw(&server, &target, OCTETS, &vec![b'x'; 1024 * 1024 + 1]).assert_problem(413, "input_too_large");
        let body = json!({ "key": "nope", "input": "" }).to_string();
        post(&server, &format!("/api/{route}"), &body).assert_problem(404, "unknown_key");
    }
}
