//! What versions of a key may still do, asked of the real application: states, version bounds, counts of uses.
//!
//! The key ring is changed as the keeper would change it, in this process.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says where"
)]

#[path = "support/in_process.rs"]
mod in_process;

use std::fs::OpenOptions;

use in_process::{InProcess, KEY, request};
use quantonium::keyring::Change;
use quantonium::model::{KeyName, KeyOptions, KeyType, PolicyChange, VersionState};
use serde_json::{Value, json};

fn worker() -> InProcess {
    let audit = OpenOptions::new().write(true).open("/dev/null").unwrap();
    InProcess::new(audit, 256 * 1024)
}

fn name(text: &str) -> KeyName {
    KeyName::new(text).unwrap()
}

/// The status and the JSON body of the one reply.
fn read(bytes: &[u8]) -> (u16, Value) {
    let text = str::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap())
}

fn post(worker: &mut InProcess, route: &str, body: &Value) -> (u16, Value) {
    let request = request(
        &worker.credential,
        &format!("/api/{route}"),
        "application/json",
        body.to_string().as_bytes(),
    );
    worker.exchange(&request, read)
}

fn good(worker: &mut InProcess, route: &str, body: &Value) -> Value {
    let (status, reply) = post(worker, route, body);
    assert_eq!(status, 200, "{route}: {reply}");
    reply
}

fn refused(worker: &mut InProcess, route: &str, body: &Value, status: u16, code: &str) -> String {
    let (got, reply) = post(worker, route, body);
    assert_eq!((got, reply["code"].as_str()), (status, Some(code)), "{route}: {reply}");
    reply["detail"].as_str().unwrap().to_owned()
}

/// A key with versions 1 to 5, and for each a ciphertext and a signature: version 1 too old, 2 disabled, 3 destroyed,
/// 4 decrypt-only, 5 the latest.
fn with_ages(worker: &mut InProcess, key: &str) -> (Vec<Value>, Vec<Value>) {
    let (mut ciphertexts, mut signatures) = (Vec::new(), Vec::new());
    for version in 1..=5 {
        if worker.key(key).kind().encrypts() {
            let sealed = good(worker, "encrypt", &json!({ "key": key, "plaintext": "eA==" }));
            ciphertexts.push(sealed["ciphertext"].clone());
        }
        signatures.push(good(worker, "sign", &json!({ "key": key, "input": "eA==" }))["signature"].clone());
        if version < 5 {
            worker.change(&Change::Rotate { name: name(key), only_if_latest: None });
        }
    }
    let policy = PolicyChange {
        min_decryption_version: Some(2),
        deletion_allowed: Some(true),
        ..PolicyChange::default()
    };
    let versions =
        vec![(2, VersionState::Disabled), (3, VersionState::Destroyed), (4, VersionState::DecryptOnly)];
    worker.change(&Change::Configure { name: name(key), policy, versions });
    (ciphertexts, signatures)
}

const REFUSALS: [(usize, &str, &str); 3] = [
    (1, "key_version_too_old", "policy"),
    (2, "key_version_disabled", "disabled"),
    (3, "key_version_disabled", "destroyed"),
];

#[test]
fn what_a_version_may_not_do_is_named_to_whoever_chose_it() {
    let mut worker = worker();
    let (ciphertexts, signatures) = with_ages(&mut worker, KEY);
    for (version, code, word) in REFUSALS {
        let ciphertext = json!({ "key": KEY, "ciphertext": ciphertexts[version - 1] });
        let signature = json!({ "key": KEY, "input": "eA==", "signature": signatures[version - 1] });
        let chosen = |member: &str| json!({ "key": KEY, member: "eA==", "key_version": version });
        let keystream = json!({ "key": KEY, "bytes": 1, "key_version": version });
        let again = json!({ "key": KEY, "bytes": 1, "key_version": version, "nonce": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" });
        // A ciphertext that does not open is answered alike, whatever the reason.
        refused(&mut worker, "decrypt", &ciphertext, 400, "decryption_failed");
        refused(&mut worker, "rewrap", &ciphertext, 400, "decryption_failed");
        for (route, body) in [
            ("verify", &signature),
            ("encrypt", &chosen("plaintext")),
            ("sign", &chosen("input")),
            ("datakey", &json!({ "key": KEY, "key_version": version })),
            ("keystream", &keystream),
            ("keystream", &again),
        ] {
            let detail = refused(&mut worker, route, body, 409, code);
            assert!(detail.contains(word), "{route} {version}: {detail}");
        }
    }
    let unknown = format!("quantonium:v6:{}", "AAAA".repeat(20));
    refused(&mut worker, "decrypt", &json!({ "key": KEY, "ciphertext": unknown }), 400, "decryption_failed");
}

#[test]
fn a_decrypt_only_version_opens_and_verifies_and_nothing_else() {
    let mut worker = worker();
    let (ciphertexts, signatures) = with_ages(&mut worker, KEY);
    let opened = good(&mut worker, "decrypt", &json!({ "key": KEY, "ciphertext": ciphertexts[3] }));
    assert_eq!(opened, json!({ "plaintext": "eA==", "key_version": 4 }));
    let body = json!({ "key": KEY, "input": "eA==", "signature": signatures[3] });
    assert_eq!(good(&mut worker, "verify", &body), json!({ "valid": true }));
    let moved = good(&mut worker, "rewrap", &json!({ "key": KEY, "ciphertext": ciphertexts[3] }));
    assert_eq!(moved["key_version"], 5);
    let nonce = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    good(&mut worker, "keystream", &json!({ "key": KEY, "bytes": 1, "key_version": 4, "nonce": nonce }));
    for (route, body) in [
        ("encrypt", json!({ "key": KEY, "plaintext": "", "key_version": 4 })),
        ("sign", json!({ "key": KEY, "input": "", "key_version": 4 })),
        ("rewrap", json!({ "key": KEY, "ciphertext": ciphertexts[4], "key_version": 4 })),
        ("datakey", json!({ "key": KEY, "key_version": 4 })),
        ("keystream", json!({ "key": KEY, "bytes": 1, "key_version": 4 })),
    ] {
        let detail = refused(&mut worker, route, &body, 409, "key_version_disabled");
        assert!(detail.contains("decrypt-only"), "{detail}");
    }
}

#[test]
fn items_of_a_batch_are_refused_one_by_one() {
    let mut worker = worker();
    let (ciphertexts, signatures) = with_ages(&mut worker, KEY);
    let codes = |reply: &Value| -> Vec<String> {
        let results = reply["results"].as_array().unwrap();
        results.iter().map(|item| item["error"]["code"].as_str().unwrap_or("good").to_owned()).collect()
    };
    let expected = ["key_version_too_old", "key_version_disabled", "key_version_disabled", "good", "good"];
    let items: Vec<Value> = ciphertexts.iter().map(|text| json!({ "ciphertext": text })).collect();
    for route in ["decrypt", "rewrap"] {
        let reply = good(&mut worker, route, &json!({ "key": KEY, "batch": items }));
        let failed = "decryption_failed";
        assert_eq!(codes(&reply), [failed, failed, failed, "good", "good"], "{route}");
    }
    let items: Vec<Value> =
        signatures.iter().map(|text| json!({ "input": "eA==", "signature": text })).collect();
    let reply = good(&mut worker, "verify", &json!({ "key": KEY, "batch": items }));
    assert_eq!(codes(&reply), expected);
    // The version of a whole batch is refused for the whole.
    let body = json!({ "key": KEY, "key_version": 2, "batch": [] });
    refused(&mut worker, "encrypt", &body, 409, "key_version_disabled");
}

#[test]
fn keys_that_only_sign_have_states_too() {
    let mut worker = worker();
    worker.create("signer", KeyOptions::of(KeyType::HmacSha384));
    let (_, signatures) = with_ages(&mut worker, "signer");
    for (version, code, word) in REFUSALS {
        let body = json!({ "key": "signer", "input": "eA==", "signature": signatures[version - 1] });
        assert!(refused(&mut worker, "verify", &body, 409, code).contains(word));
    }
    for version in [4, 5] {
        let body = json!({ "key": "signer", "input": "eA==", "signature": signatures[version - 1] });
        assert_eq!(good(&mut worker, "verify", &body), json!({ "valid": true }));
    }
}

#[test]
fn a_deleted_key_is_not_found() {
    let mut worker = worker();
    let policy = PolicyChange { deletion_allowed: Some(true), ..PolicyChange::default() };
    worker.change(&Change::Configure { name: name(KEY), policy, versions: Vec::new() });
    worker.change(&Change::Delete { name: name(KEY) });
    for (route, body) in [
        ("encrypt", json!({ "key": KEY, "plaintext": "" })),
        ("decrypt", json!({ "key": KEY, "ciphertext": "" })),
        ("rewrap", json!({ "key": KEY, "batch": [] })),
        ("sign", json!({ "key": KEY, "input": "" })),
        ("verify", json!({ "key": KEY, "input": "", "signature": "" })),
        ("datakey", json!({ "key": KEY })),
        ("keystream", json!({ "key": KEY, "bytes": 1 })),
    ] {
        refused(&mut worker, route, &body, 404, "unknown_key");
    }
}

#[test]
fn every_success_is_counted_and_no_failure() {
    let mut worker = worker();
    let uses = |worker: &InProcess| worker.key(KEY).version(1).unwrap().uses().operations();
    assert_eq!(uses(&worker), 0);
    let sealed =
        good(&mut worker, "encrypt", &json!({ "key": KEY, "plaintext": "eA==" }))["ciphertext"].clone();
    assert_eq!(uses(&worker), 1);
    good(&mut worker, "decrypt", &json!({ "key": KEY, "ciphertext": sealed }));
    assert_eq!(uses(&worker), 2);
    refused(
        &mut worker,
        "decrypt",
        &json!({ "key": KEY, "ciphertext": "quantonium:v1:AAAA" }),
        400,
        "decryption_failed",
    );
    refused(&mut worker, "encrypt", &json!({ "key": KEY, "plaintext": "!" }), 400, "malformed_plaintext");
    assert_eq!(uses(&worker), 2);
    let items = json!([{ "plaintext": "" }, { "plaintext": "!" }, { "plaintext": "eA==" }]);
    good(&mut worker, "encrypt", &json!({ "key": KEY, "batch": items }));
    assert_eq!(uses(&worker), 4);
    good(&mut worker, "sign", &json!({ "key": KEY, "input": "" }));
    good(&mut worker, "datakey", &json!({ "key": KEY }));
    good(&mut worker, "keystream", &json!({ "key": KEY, "bytes": 10 }));
    assert_eq!(uses(&worker), 7);
    assert!(worker.key(KEY).version(1).unwrap().uses().last().is_some());
}

#[test]
fn seals_of_a_batch_are_counted_before_the_first_of_them() {
    let mut worker = worker();
    worker.create("ietf", KeyOptions::of(KeyType::ChaCha20Poly1305));
    worker.change(&Change::ReserveSeals { name: name("ietf"), version: 1 });
    let sealed =
        good(&mut worker, "encrypt", &json!({ "key": "ietf", "plaintext": "eA==" }))["ciphertext"].clone();
    let left = |worker: &InProcess| {
        let key = worker.key("ietf");
        let uses = key.version(1).unwrap().uses();
        // Takes what is left, one by one from the top, to see how many there were.
        (0..).take_while(|_| uses.count_seals(1).is_ok()).count()
    };
    let block = usize::try_from(quantonium::limits::SEALS_BLOCK_COUNT).unwrap();
    let items = vec![json!({ "plaintext": "" }); 10];
    good(&mut worker, "encrypt", &json!({ "key": "ietf", "batch": items }));
    good(&mut worker, "rewrap", &json!({ "key": "ietf", "ciphertext": sealed }));
    good(&mut worker, "datakey", &json!({ "key": "ietf" }));
    assert_eq!(left(&worker), block - 1 - 10 - 1 - 1);
}
