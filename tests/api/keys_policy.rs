//! `PATCH /api/keys/{name}`: what policy and states of versions allow.

use serde_json::{Value, json};

use crate::server::Server;
use crate::server::client::Request;
use crate::{decrypt, must_configure, must_encrypt, must_rotate, post, with_orders};

const HELLO: &str = r#""plaintext":"aGVsbG8=""#;

/// The status of an encryption under `orders`, by the latest version or this one.
fn encrypts(server: &Server, version: Option<u32>) -> u16 {
    let version = version.map(|version| format!(r#","key_version":{version}"#)).unwrap_or_default();
    let reply = post(server, "/api/encrypt", &format!(r#"{{"key":"orders",{HELLO}{version}}}"#));
    assert_eq!(reply.status == 200, reply.json().get("ciphertext").is_some(), "{}", reply.text());
    reply.status
}

/// Asserts that a ciphertext under `orders` does not open.
fn assert_stays_shut(server: &Server, sealed: &str) {
    let reply = decrypt(server, "orders", sealed);
    assert!((400..500).contains(&reply.status), "{}", reply.text());
    assert_eq!(reply.json().get("plaintext"), None);
}

fn state(server: &Server, version: u32, state: &str) -> Value {
    must_configure(server, &json!({ "versions": [{ "version": version, "state": state }] }))
}

#[test]
fn a_disabled_version_does_nothing_until_it_is_enabled_again() {
    let Some(server) = with_orders() else { return };
    let sealed = must_encrypt(&server, HELLO);
    let key = state(&server, 1, "disabled");
    assert_eq!(key["versions"][0]["state"], "disabled");
    assert_eq!(server.ask(Request::get("/api/keys/orders")).json(), key);
    assert_stays_shut(&server, &sealed);
    assert!((400..500).contains(&encrypts(&server, None)));
    must_rotate(&server);
    assert_eq!(encrypts(&server, None), 200, "another version goes on");
    assert_stays_shut(&server, &sealed);
    state(&server, 1, "enabled");
    assert_eq!(decrypt(&server, "orders", &sealed).member("plaintext"), "aGVsbG8=");
    assert_eq!(encrypts(&server, Some(1)), 200);
}

#[test]
fn a_decrypt_only_version_decrypts_and_does_not_encrypt() {
    let Some(server) = with_orders() else { return };
    let sealed = must_encrypt(&server, HELLO);
    assert_eq!(state(&server, 1, "decrypt-only")["versions"][0]["state"], "decrypt-only");
    assert!((400..500).contains(&encrypts(&server, None)));
    assert!((400..500).contains(&encrypts(&server, Some(1))));
    assert_eq!(decrypt(&server, "orders", &sealed).member("plaintext"), "aGVsbG8=");
}

#[test]
fn a_destroyed_version_stays_destroyed_and_is_guarded() {
    let Some(server) = with_orders() else { return };
    let sealed = must_encrypt(&server, HELLO);
    must_rotate(&server);
    let destroy = json!({ "versions": [{ "version": 1, "state": "destroyed" }] });
    let guarded = server.ask(Request::patch("/api/keys/orders", destroy.to_string()));
    guarded.assert_problem(409, "deletion_not_allowed");
    assert_eq!(decrypt(&server, "orders", &sealed).status, 200, "nothing was done");
    let mut both = destroy.clone();
    both["deletion_allowed"] = json!(true);
    assert_eq!(must_configure(&server, &both)["versions"][0]["state"], "destroyed");
    assert_stays_shut(&server, &sealed);
    for other in ["enabled", "decrypt-only", "disabled"] {
        let body = json!({ "versions": [{ "version": 1, "state": other }] }).to_string();
        let refused = server.ask(Request::patch("/api/keys/orders", body));
        refused.assert_problem(409, "version_state_not_allowed");
    }
    must_configure(&server, &destroy);
    assert_eq!(encrypts(&server, None), 200);
}

#[test]
fn versions_below_the_bounds_are_of_no_use() {
    let Some(server) = with_orders() else { return };
    let sealed: Vec<String> = (0..3)
        .map(|_| {
            let sealed = must_encrypt(&server, HELLO);
            must_rotate(&server);
            sealed
        })
        .collect();
    let key = must_configure(&server, &json!({ "min_decryption_version": 2, "min_encryption_version": 3 }));
    assert_eq!((&key["min_decryption_version"], &key["min_encryption_version"]), (&json!(2), &json!(3)));
    let opened: Vec<bool> =
        sealed.iter().map(|sealed| decrypt(&server, "orders", sealed).status == 200).collect();
    assert_eq!(opened, [false, true, true]);
    let usable: Vec<bool> = (1..=4).map(|version| encrypts(&server, Some(version)) == 200).collect();
    assert_eq!(usable, [false, false, true, true]);
    must_configure(&server, &json!({ "min_decryption_version": 1, "min_encryption_version": 0 }));
    assert_eq!(decrypt(&server, "orders", sealed.first().map_or("", String::as_str)).status, 200);
    assert_eq!(encrypts(&server, Some(1)), 200);
}

#[test]
fn a_rotation_drops_the_versions_that_are_not_kept() {
    let Some(server) = with_orders() else { return };
    let sealed = must_encrypt(&server, HELLO);
    must_configure(&server, &json!({ "keep_versions": 2 }));
    must_rotate(&server);
    assert_eq!(decrypt(&server, "orders", &sealed).status, 200);
    must_rotate(&server);
    assert_stays_shut(&server, &sealed);
    let key = server.ask(Request::get("/api/keys/orders")).json();
    let numbers: Vec<_> =
        key["versions"].as_array().into_iter().flatten().map(|one| &one["version"]).collect();
    assert_eq!(numbers, [2, 3]);
    let gone = json!({ "versions": [{ "version": 1, "state": "disabled" }] }).to_string();
    server.ask(Request::patch("/api/keys/orders", gone)).assert_problem(400, "unknown_key_version");
}

#[test]
fn a_change_is_made_as_a_whole_or_not_at_all() {
    let Some(server) = with_orders() else { return };
    must_rotate(&server);
    let before = server.ask(Request::get("/api/keys/orders")).json();
    let disable = |version: u32| json!({ "version": version, "state": "disabled" });
    for (members, status, code) in [
        (json!({ "keep_versions": 1, "versions": [disable(1), disable(3)] }), 400, "unknown_key_version"),
        (json!({ "versions": [disable(2), disable(0)] }), 400, "unknown_key_version"),
        (json!({ "keep_versions": 3, "min_decryption_version": 3 }), 400, "policy_not_allowed"),
        (json!({ "keep_versions": 3, "min_decryption_version": 0 }), 400, "policy_not_allowed"),
        (json!({ "min_decryption_version": 2, "min_encryption_version": 1 }), 400, "policy_not_allowed"),
        (json!({ "auto_rotate_seconds": u64::MAX }), 400, "policy_not_allowed"),
        (json!({ "versions": [disable(1), disable(2), disable(1)] }), 400, "repeated_version"),
        (
            json!({ "versions": [disable(1), { "version": 2, "state": "destroyed" }] }),
            409,
            "deletion_not_allowed",
        ),
        (json!({ "versions": [{ "version": 1, "state": "Disabled" }] }), 400, "unknown_version_state"),
    ] {
        let reply = server.ask(Request::patch("/api/keys/orders", members.to_string()));
        reply.assert_problem(status, code);
        assert_eq!(server.ask(Request::get("/api/keys/orders")).json(), before, "{members}");
    }
    assert_eq!(must_configure(&server, &json!({})), before, "nothing asked for, nothing done");
}

#[test]
fn bodies_that_are_no_change_are_refused() {
    let Some(server) = with_orders() else { return };
    for body in [
        "",
        "[]",
        "null",
        "{\"name\":\"other\"}",
        "{\"exportable\":true}",
        "{\"type\":\"hmac-sha256\"}",
        "{\"keep_versions\":null}",
        "{\"keep_versions\":\"1\"}",
        "{\"keep_versions\":1,\"keep_versions\":1}",
        "{\"deletion_allowed\":1}",
        "{\"versions\":null}",
        "{\"versions\":{\"1\":\"disabled\"}}",
        "{\"versions\":[[1,\"disabled\"]]}",
        "{\"versions\":[{\"version\":1}]}",
        "{\"versions\":[{\"version\":-1,\"state\":\"disabled\"}]}",
        "{\"versions\":[{\"version\":1,\"state\":\"disabled\",\"more\":1}]}",
    ] {
        server.ask(Request::patch("/api/keys/orders", body)).assert_problem(400, "malformed_json");
    }
    for (kind, status) in [
        ("application/json", 200),
        ("application/merge-patch+json", 200),
        ("application/x-www-form-urlencoded", 200),
        ("application/json-patch+json", 415),
        ("application/octet-stream", 415),
        ("text/plain", 415),
    ] {
        let patch = Request::patch("/api/keys/orders", "{\"keep_versions\":7}").with("Content-Type", kind);
        assert_eq!(server.ask(patch).status, status, "{kind}");
    }
    let merge =
        Request::post("/api/keys", "{\"name\":\"a\"}").with("Content-Type", "application/merge-patch+json");
    server.ask(merge).assert_problem(415, "unsupported_media_type");
    let coded = Request::patch("/api/keys/orders", "{}").with("Content-Encoding", "gzip");
    server.ask(coded).assert_problem(415, "unsupported_media_type");
    server.ask(Request::patch("/api/keys/orders?a=b", "{}")).assert_problem(400, "unknown_parameter");
    server.ask(Request::patch("/api/keys/nope", "{}")).assert_problem(404, "unknown_key");
}
