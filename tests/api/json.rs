//! Encryption and decryption as JSON.

use serde_json::{Value, json};

use crate::server::Server;
use crate::server::client::Reply;
use crate::{base64, must_create, must_encrypt, octets, post, with_orders};

/// 1 MiB: the longest plaintext.
const LONGEST: usize = 1024 * 1024;

fn decrypt(server: &Server, body: &Value) -> Reply {
    post(server, "/api/decrypt", &body.to_string())
}

#[test]
fn what_was_encrypted_decrypts() {
    let Some(server) = with_orders() else { return };
    must_create(&server, r#"{"name":"ietf","type":"chacha20-poly1305"}"#);
    for (key, nonce) in [("orders", 24), ("ietf", 12)] {
        for length in [0, 1, 2, 3, 15, 16, 63, 64, 65, 255, 1_000, 65_537] {
            let plaintext = octets(length);
            let body = json!({ "key": key, "plaintext": base64(&plaintext) }).to_string();
            let sealed = post(&server, "/api/encrypt", &body);
            assert_eq!(sealed.status, 200, "{}", sealed.text());
            assert_eq!(sealed.json()["key_version"], 1);
            let ciphertext = sealed.member("ciphertext");
            let encoded = ciphertext.strip_prefix("quantonium:v1:").unwrap_or("no prefix");
            let decoded = base64_simd::STANDARD.decode_to_vec(encoded).expect("canonical base64");
            assert_eq!(decoded.len(), nonce + length + 16, "nonce, ciphertext and tag");
            // Eight bytes: fewer may stand there by chance.
            if length >= 8 {
                assert!(!decoded.windows(8).any(|eight| eight == plaintext.get(..8).unwrap_or_default()));
            }
            let opened = decrypt(&server, &json!({ "key": key, "ciphertext": ciphertext }));
            assert_eq!(opened.status, 200, "{}", opened.text());
            assert_eq!(opened.json(), json!({ "plaintext": base64(&plaintext), "key_version": 1 }));
        }
    }
}

#[test]
fn equal_plaintexts_have_unequal_ciphertexts() {
    let Some(server) = with_orders() else { return };
    let first = must_encrypt(&server, r#""plaintext":"aGVsbG8=""#);
    assert_ne!(first, must_encrypt(&server, r#""plaintext":"aGVsbG8=""#));
}

#[test]
fn associated_data_is_bound() {
    let Some(server) = with_orders() else { return };
    let bound = must_encrypt(&server, r#""plaintext":"aGVsbG8=","associated_data":"b3JkZXIgNw==""#);
    let right =
        decrypt(&server, &json!({ "key": "orders", "ciphertext": bound, "associated_data": "b3JkZXIgNw==" }));
    assert_eq!(right.member("plaintext"), "aGVsbG8=");
    for wrong in [json!("b3JkZXIgOA=="), json!("")] {
        decrypt(&server, &json!({ "key": "orders", "ciphertext": bound, "associated_data": wrong }))
            .assert_problem(400, "decryption_failed");
    }
    for (route, payload) in [("encrypt", "plaintext"), ("decrypt", "ciphertext")] {
        // It must not pass for data that binds nothing.
        let null = json!({ "key": "orders", payload: "", "associated_data": null }).to_string();
        post(&server, &format!("/api/{route}"), &null).assert_problem(400, "malformed_json");
    }
    decrypt(&server, &json!({ "key": "orders", "ciphertext": bound }))
        .assert_problem(400, "decryption_failed");
    let unbound = must_encrypt(&server, r#""plaintext":"aGVsbG8=""#);
    decrypt(&server, &json!({ "key": "orders", "ciphertext": unbound, "associated_data": "eA==" }))
        .assert_problem(400, "decryption_failed");
    let empty = decrypt(&server, &json!({ "key": "orders", "ciphertext": unbound, "associated_data": "" }));
    assert_eq!(empty.status, 200, "empty associated data is none");

    let longest = base64(&[7; 4096]);
    let bound = must_encrypt(&server, &format!(r#""plaintext":"","associated_data":"{longest}""#));
    let right =
        decrypt(&server, &json!({ "key": "orders", "ciphertext": bound, "associated_data": longest }));
    assert_eq!(right.member("plaintext"), "");
    for bad in ["x", "eA", "eA=", "e A==", "eB==", "_w==", base64(&[7; 4097]).as_str()] {
        for (route, payload) in [("encrypt", "plaintext"), ("decrypt", "ciphertext")] {
            let body = json!({ "key": "orders", payload: "", "associated_data": bad }).to_string();
            post(&server, &format!("/api/{route}"), &body).assert_problem(400, "malformed_associated_data");
        }
    }
}

#[test]
fn a_version_can_be_chosen() {
    let Some(server) = with_orders() else { return };
    post(&server, "/api/keys/orders/rotate", "{}");
    let old = post(&server, "/api/encrypt", r#"{"key":"orders","plaintext":"eA==","key_version":1}"#);
    assert_eq!(old.json()["key_version"], 1);
    let opened = decrypt(&server, &json!({ "key": "orders", "ciphertext": old.member("ciphertext") }));
    assert_eq!(opened.json(), json!({ "plaintext": "eA==", "key_version": 1 }));
    let latest = post(&server, "/api/encrypt", r#"{"key":"orders","plaintext":"eA==","key_version":2}"#);
    assert!(latest.member("ciphertext").starts_with("quantonium:v2:"));
    for version in ["0", "3", "4294967295"] {
        let body = format!(r#"{{"key":"orders","plaintext":"eA==","key_version":{version}}}"#);
        post(&server, "/api/encrypt", &body).assert_problem(400, "unknown_key_version");
    }
    for version in ["-1", "1.0", "4294967296", "\"1\"", "true", "[1]"] {
        let body = format!(r#"{{"key":"orders","plaintext":"eA==","key_version":{version}}}"#);
        post(&server, "/api/encrypt", &body).assert_problem(400, "malformed_json");
    }
    let body = format!(r#"{{"key":"orders","ciphertext":"{}","key_version":1}}"#, old.member("ciphertext"));
    post(&server, "/api/decrypt", &body).assert_problem(400, "malformed_json");
}

#[test]
fn a_context_is_refused_for_keys_that_are_not_derived() {
    let Some(server) = with_orders() else { return };
    post(&server, "/api/encrypt", r#"{"key":"orders","plaintext":"eA==","context":"eA=="}"#)
        .assert_problem(400, "context_not_allowed");
    let ciphertext = must_encrypt(&server, r#""plaintext":"eA==""#);
    decrypt(&server, &json!({ "key": "orders", "ciphertext": ciphertext, "context": "eA==" }))
        .assert_problem(400, "context_not_allowed");
}

#[test]
fn escapes_in_json_are_understood() {
    let Some(server) = with_orders() else { return };
    let sealed = must_encrypt(&server, r#""plaintext":"\/+8\u003d","associated_data":"\u002f\/8=""#);
    let escaped = sealed.replace('/', "\\/").replace(':', "\\u003a");
    let body = format!(r#"{{"\u006bey":"order\u0073","ciphertext":"{escaped}","associated_data":"//8="}}"#);
    let opened = post(&server, "/api/decrypt", &body);
    assert_eq!(opened.json(), json!({ "plaintext": "/+8=", "key_version": 1 }), "{}", opened.text());
}

#[test]
fn members_may_come_in_any_order_with_any_blanks() {
    let Some(server) = with_orders() else { return };
    let body = " \r\n\t{ \"plaintext\" :\t\"eA==\" ,\n\"key\":\"orders\"\r\n} \n";
    assert_eq!(post(&server, "/api/encrypt", body).status, 200);
}

#[test]
fn bodies_that_do_not_fit_are_refused() {
    let Some(server) = with_orders() else { return };
    for (route, payload) in [("/api/encrypt", "plaintext"), ("/api/decrypt", "ciphertext")] {
        for body in [
            String::new(),
            "{".to_owned(),
            "[]".to_owned(),
            "\"\"".to_owned(),
            format!(r#"{{"{payload}":"eA=="}}"#),
            format!(r#"{{"key":"orders","{payload}":1}}"#),
            format!(r#"{{"key":1,"{payload}":"eA=="}}"#),
            format!(r#"{{"key":"orders","{payload}":"eA==","{payload}":"eA=="}}"#),
            format!(r#"{{"key":"orders","key":"orders","{payload}":"eA=="}}"#),
            format!(r#"{{"key":"orders","{payload}":"eA==","associated_date":"eA=="}}"#),
            format!(r#"{{"key":"orders","{payload}":"eA=="}}{{}}"#),
            format!(r#"{{"key":"orders","{payload}":"eA==","associated_data":{{}}}}"#),
            format!(r#"{{"key":"orders","{payload}":"\x"}}"#),
            // What stands in order instead of by name says less than its sender believes.
            r#"["orders","eA==",null,null,null,null]"#.to_owned(),
            r#"["orders","eA==",null,null,null]"#.to_owned(),
        ] {
            post(&server, route, &body).assert_problem(400, "malformed_json");
        }
        let none = if payload == "plaintext" { "plaintext_or_batch" } else { "ciphertext_or_batch" };
        post(&server, route, r#"{"key":"orders"}"#).assert_problem(400, none);
        let unknown = format!(r#"{{"key":"nope","{payload}":"eA=="}}"#);
        post(&server, route, &unknown).assert_problem(404, "unknown_key");
        for name in ["", "or/ders", "é", "a\\u0000"] {
            let body = format!(r#"{{"key":"{name}","{payload}":"eA=="}}"#);
            post(&server, route, &body).assert_problem(404, "unknown_key");
        }
    }
    for plaintext in ["x", "eA", "eA=", "eA===", "e A==", "eA==\\n", "eB==", "_-8=", "=", "e\\u0000=="] {
        let body = format!(r#"{{"key":"orders","plaintext":"{plaintext}"}}"#);
        post(&server, "/api/encrypt", &body).assert_problem(400, "malformed_plaintext");
    }
}

#[test]
fn errors_repeat_nothing_that_was_sent_as_data() {
    let Some(server) = with_orders() else { return };
    for body in [
        r#"{"key":"orders","plaintext":"topsecret!"}"#,
        r#"{"key":"orders","plaintext":"dA==","key_version":"topsecret"}"#,
        r#"{"key":"topsecret","plaintext":"dA=="}"#,
        r#"{"key":"orders","plaintext":"topsecret"#,
        r#"{"key":"orders","associated_data":"topsecret!","plaintext":"dA=="}"#,
    ] {
        let reply = post(&server, "/api/encrypt", body);
        assert!(reply.status >= 400 && !reply.text().contains("topsecret"), "{}", reply.text());
    }
}

#[test]
fn the_longest_plaintext_is_one_mebibyte() {
    let Some(server) = with_orders() else { return };
    let plaintext = base64(&vec![b'x'; LONGEST]);
    let sealed = post(&server, "/api/encrypt", &format!(r#"{{"key":"orders","plaintext":"{plaintext}"}}"#));
    assert_eq!(sealed.status, 200);
    let body = json!({ "key": "orders", "ciphertext": sealed.member("ciphertext") });
    assert!(decrypt(&server, &body).member("plaintext") == plaintext, "every byte comes back");

    let too_long = base64(&vec![b'x'; LONGEST + 1]);
    let body = format!(r#"{{"key":"orders","plaintext":"{too_long}"}}"#);
    post(&server, "/api/encrypt", &body).assert_problem(413, "plaintext_too_large");
    let far_too_long = base64(&vec![b'x'; LONGEST + 16 * 1024]);
    for route in ["/api/encrypt", "/api/decrypt"] {
        let body = format!(r#"{{"key":"orders","plaintext":"{far_too_long}"}}"#);
        post(&server, route, &body).assert_problem(413, "body_too_large");
    }
}
