//! Ciphertexts that were tampered with: one answer, whatever the reason.

use serde_json::json;

use crate::server::Server;
use crate::server::client::{Client, Reply, Request};
use crate::{base64, must_create, must_encrypt, post, with_orders};

/// The body of a reply without the one member that must differ.
fn anonymous(reply: &Reply) -> String {
    reply.text().replace(reply.field("X-Request-Id").unwrap_or("none"), "-")
}

/// Decrypts and expects the uniform refusal, which is returned.
fn must_refuse(server: &Server, client: &mut Client, ciphertext: &str) -> String {
    let body = json!({ "key": "orders", "ciphertext": ciphertext }).to_string();
    let reply = client.call(&Request::post("/api/decrypt", body).key(server.key()));
    reply.assert_problem(400, "decryption_failed");
    anonymous(&reply)
}

#[test]
fn every_tampered_byte_gives_the_same_answer() {
    let Some(server) = with_orders() else { return };
    let mut client = server.connect();
    let line = must_encrypt(&server, r#""plaintext":"aGVsbG8=""#);
    let (prefix, encoded) = line.split_at("quantonium:v1:".len());
    let body = base64_simd::STANDARD.decode_to_vec(encoded).expect("base64");
    let expected = must_refuse(&server, &mut client, "");
    for at in 0..body.len() {
        for bit in 0..8 {
            let mut tampered = body.clone();
            tampered[at] ^= 1 << bit;
            let line = format!("{prefix}{}", base64(&tampered));
            assert_eq!(must_refuse(&server, &mut client, &line), expected, "byte {at}, bit {bit}");
        }
    }
    for length in 0..body.len() {
        let line = format!("{prefix}{}", base64(&body[..length]));
        assert_eq!(must_refuse(&server, &mut client, &line), expected, "cut to {length}");
    }
    for length in 0..line.len() {
        assert_eq!(must_refuse(&server, &mut client, &line[..length]), expected, "text cut to {length}");
    }
    for other in [
        format!("{line}\n"),
        format!(" {line}"),
        format!("{line}AAAA"),
        format!("{prefix}{}", base64(&[&body[..], &[0]].concat())),
        format!("{prefix}{encoded}="),
        line.replace("quantonium:v1:", "quantonium:v01:"),
        line.replace("quantonium:v1:", "quantonium:v0:"),
        line.replace("quantonium:v1:", "quantonium:v2:"),
        line.replace("quantonium:v1:", "quantonium:v4294967297:"),
        line.replace("quantonium:v1:", "quantonium:v:"),
        line.replace("quantonium:v1:", "quantonium:v+1:"),
        line.replace("quantonium:v1:", "Quantonium:v1:"),
        line.replace("quantonium:v1:", "quantonium:"),
        line.replace("quantonium:v1:", "transit:v1:"),
        line.replace("quantonium:v1:", ""),
    ] {
        assert_eq!(must_refuse(&server, &mut client, &other), expected, "{other}");
    }
    let good = json!({ "key": "orders", "ciphertext": line }).to_string();
    assert_eq!(
        post(&server, "/api/decrypt", &good).member("plaintext"),
        "aGVsbG8=",
        "the original still opens"
    );
}

#[test]
fn the_binary_form_is_as_strict() {
    let Some(server) = with_orders() else { return };
    let mut client = server.connect();
    let octets = |target: &str, body: &[u8]| {
        Request::post(target, body).key(server.key()).with("Content-Type", "application/octet-stream")
    };
    let sealed = client.call(&octets("/api/encrypt?key=orders", b"hello")).body;
    let expected = must_refuse(&server, &mut client, "");
    let mut refuse = |body: &[u8]| {
        let reply = client.call(&octets("/api/decrypt?key=orders", body));
        reply.assert_problem(400, "decryption_failed");
        assert_eq!(anonymous(&reply), expected);
    };
    for at in 0..sealed.len() {
        let mut tampered = sealed.clone();
        tampered[at] ^= 1;
        refuse(&tampered);
        refuse(&sealed[..at]);
    }
    refuse(&[&sealed[..], b"\n"].concat());
    refuse(&[b"\n", &sealed[..]].concat());
    let whole = client.call(&octets("/api/decrypt?key=orders", &sealed));
    assert_eq!((whole.status, whole.body.as_slice()), (200, b"hello".as_slice()));
}

#[test]
fn a_ciphertext_of_another_key_does_not_open() {
    let Some(server) = with_orders() else { return };
    must_create(&server, r#"{"name":"other"}"#);
    must_create(&server, r#"{"name":"ietf","type":"chacha20-poly1305"}"#);
    let mut client = server.connect();
    let expected = must_refuse(&server, &mut client, "");
    for key in ["other", "ietf"] {
        let body = json!({ "key": key, "plaintext": "aGVsbG8=" }).to_string();
        let foreign = post(&server, "/api/encrypt", &body).member("ciphertext");
        assert_eq!(must_refuse(&server, &mut client, &foreign), expected);
    }
    post(&server, "/api/keys/orders/rotate", "{}");
    let second = must_encrypt(&server, r#""plaintext":"aGVsbG8=""#);
    let relabelled = second.replace("quantonium:v2:", "quantonium:v1:");
    assert_eq!(must_refuse(&server, &mut client, &relabelled), expected, "versions have keys of their own");
}
