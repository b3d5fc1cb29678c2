//! Binary values in hexadecimal.

use serde_json::json;

use crate::server::client::Reply;
use crate::{base64, must_create, post, results, with_orders};

#[test]
fn hexadecimal_and_base64_are_two_spellings_of_the_same_bytes() {
    let Some(server) = with_orders() else { return };
    must_create(&server, r#"{"name":"tenants","derived":true}"#);
    let body = json!({ "key": "tenants", "plaintext": "68656c6c6f", "associated_data": "ff00", "context": "0a", "format": "hex" });
    let sealed = post(&server, "/api/encrypt", &body.to_string()).member("ciphertext");
    assert!(sealed.starts_with("quantonium:v1:"), "a ciphertext keeps its text form");
    let body =
        json!({ "key": "tenants", "ciphertext": sealed, "associated_data": "/wA=", "context": "Cg==" });
    assert_eq!(post(&server, "/api/decrypt", &body.to_string()).member("plaintext"), "aGVsbG8=");
    let body = json!({ "key": "tenants", "ciphertext": sealed, "associated_data": "ff00", "context": "0a", "format": "hex" });
    assert_eq!(post(&server, "/api/decrypt", &body.to_string()).member("plaintext"), "68656c6c6f");
    let items = json!([{ "ciphertext": sealed, "associated_data": "ff00", "context": "0a" }]);
    let moved = results(&post(
        &server,
        "/api/rewrap",
        &json!({ "key": "tenants", "batch": items, "format": "hex" }).to_string(),
    ));
    let items = json!([{ "ciphertext": moved[0]["ciphertext"], "associated_data": "ff00", "context": "0a" }]);
    let opened = results(&post(
        &server,
        "/api/decrypt",
        &json!({ "key": "tenants", "batch": items, "format": "hex" }).to_string(),
    ));
    assert_eq!(opened[0]["plaintext"], "68656c6c6f");
    let sign = |body: serde_json::Value| post(&server, "/api/sign", &body.to_string()).member("signature");
    let signature = sign(json!({ "key": "orders", "input": "68656c6c6f", "format": "hex" }));
    assert_eq!(signature, sign(json!({ "key": "orders", "input": "aGVsbG8=", "format": "base64" })));
}

#[test]
fn only_lower_case_pairs_are_taken() {
    let Some(server) = with_orders() else { return };
    let encrypt = |plaintext: &str, data: &str| -> Reply {
        let body =
            json!({ "key": "orders", "plaintext": plaintext, "associated_data": data, "format": "hex" });
        post(&server, "/api/encrypt", &body.to_string())
    };
    assert_eq!(encrypt("", "").status, 200);
    for bad in ["0", "0A", "0x", "aGVsbG8=", "00 "] {
        encrypt(bad, "").assert_problem(400, "malformed_plaintext");
        encrypt("", bad).assert_problem(400, "malformed_associated_data");
    }
    encrypt("", &"00".repeat(4_097)).assert_problem(400, "malformed_associated_data");
    for format in ["HEX", "", "base64url"] {
        let body = json!({ "key": "orders", "plaintext": "", "format": format }).to_string();
        post(&server, "/api/encrypt", &body).assert_problem(400, "unknown_format");
    }
}

#[test]
fn a_plaintext_whose_hexadecimal_no_reply_holds_is_told_apart_from_a_lack_of_memory() {
    let Some(server) = with_orders() else { return };
    let body = json!({ "key": "orders", "plaintext": base64(&vec![7; 1024 * 1024]) }).to_string();
    let sealed = post(&server, "/api/encrypt", &body).member("ciphertext");
    let body = json!({ "key": "orders", "ciphertext": sealed, "format": "hex" }).to_string();
    post(&server, "/api/decrypt", &body).assert_problem(413, "reply_too_large");
}
