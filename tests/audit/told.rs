//! What a line says beside its event and its outcome: how a batch fared, and what left, came again or is gone.

use serde_json::{Value, json};

use crate::server::Server;
use crate::server::client::{Reply, Request};
use crate::{Line, streams};

/// What the one line of a request that is no attempt says beside its key.
fn told(server: &Server, target: &str, body: &Value) -> Value {
    let reply = server.ask(Request::post(target, body.to_string()));
    let id = reply.field("X-Request-Id").unwrap();
    let streams = streams(&server.data_dir());
    let own = |line: &&Line| line.text("request_id") == id && line.text("outcome") != "attempt";
    let lines: Vec<&Line> = streams.values().flatten().filter(own).collect();
    let [line] = lines.as_slice() else { panic!("{target}: {} lines", lines.len()) };
    let kept = ["outcome", "code", "key_version", "detail", "items", "failed", "invalid"];
    let members = line.0.as_object().unwrap().iter();
    members.filter(|(name, _)| kept.contains(&name.as_str())).map(|(n, v)| (n.clone(), v.clone())).collect()
}

/// A reply that must be good.
fn good(server: &Server, target: &str, body: &Value) -> Reply {
    let reply = server.ask(Request::post(target, body.to_string()));
    assert!(reply.status < 300, "{target}: {reply:?}");
    reply
}

#[test]
fn the_line_of_a_batch_counts_its_items_and_fails_if_all_of_them_do() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    good(&server, "/api/keys", &json!({ "name": "orders" }));
    let batch = |items: &[&str], member: &str| {
        let items: Vec<Value> = items.iter().map(|text| json!({ member: text })).collect();
        json!({ "key": "orders", "batch": items })
    };
    let sealed = good(&server, "/api/encrypt", &json!({ "key": "orders", "plaintext": "" }));
    let sealed = sealed.member("ciphertext");
    for (body, wanted) in [
        (
            batch(&[sealed.as_str(); 3], "ciphertext"),
            json!({ "outcome": "success", "items": 3, "failed": 0 }),
        ),
        (batch(&[&sealed, "x"], "ciphertext"), json!({ "outcome": "success", "items": 2, "failed": 1 })),
        (
            batch(&["x"; 9], "ciphertext"),
            json!({ "outcome": "failure", "code": "decryption_failed", "items": 9, "failed": 9 }),
        ),
        (batch(&[], "ciphertext"), json!({ "outcome": "success", "items": 0, "failed": 0 })),
    ] {
        let mut wanted = wanted;
        wanted["invalid"] = json!(0);
        assert_eq!(told(&server, "/api/decrypt", &body), wanted);
    }
    let first =
        json!({ "key": "orders", "batch": [{ "plaintext": "!" }, { "plaintext": "", "context": "eA==" }] });
    let line = told(&server, "/api/encrypt", &first);
    assert_eq!(
        (&line["code"], &line["items"]),
        (&json!("malformed_plaintext"), &json!(2)),
        "that of the first"
    );
    let malformed = told(&server, "/api/decrypt", &batch(&["x"], "unknown"));
    assert_eq!(malformed, json!({ "outcome": "failure", "code": "malformed_json" }), "nothing was worked on");
    // What was carried out before the results became too long is told too.
    let large = json!({ "key": "orders", "batch": vec![json!({ "plaintext": "" }); 30_000] });
    let line = told(&server, "/api/encrypt", &large);
    let worked_on = line["items"].as_u64().unwrap_or(30_000);
    assert!(line["code"] == "batch_too_large" && (10_000..30_000).contains(&worked_on), "{line}");
}

#[test]
fn a_wrong_signature_is_told_and_only_a_version_that_exists() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    good(&server, "/api/keys", &json!({ "name": "orders" }));
    let signed = good(&server, "/api/sign", &json!({ "key": "orders", "input": "" })).member("signature");
    let check =
        |input: &str, signature: &str| json!({ "key": "orders", "input": input, "signature": signature });
    let right = told(&server, "/api/verify", &check("", &signed));
    assert_eq!(right, json!({ "outcome": "success", "key_version": 1 }));
    let wrong = told(&server, "/api/verify", &check("eA==", &signed));
    assert_eq!(wrong, json!({ "outcome": "success", "key_version": 1, "detail": "invalid" }));
    for number in ["2", "4294967295"] {
        let named = signed.replace(":v1:", &format!(":v{number}:"));
        let line = told(&server, "/api/verify", &check("", &named));
        assert_eq!(line, json!({ "outcome": "success", "detail": "invalid" }), "{number}");
    }
    let item = |input: &str| json!({ "input": input, "signature": signed });
    for (items, wanted) in [
        ([item(""), item(""), item("")], json!({ "items": 3, "failed": 0, "invalid": 0 })),
        (
            [item(""), item("eA=="), item("!")],
            json!({ "items": 3, "failed": 1, "invalid": 1, "detail": "invalid" }),
        ),
    ] {
        let mut wanted = wanted;
        wanted["outcome"] = json!("success");
        assert_eq!(told(&server, "/api/verify", &json!({ "key": "orders", "batch": items })), wanted);
    }
}

#[test]
fn what_leaves_in_the_open_is_made_again_or_replaced_is_told() {
    let Some(server) = Server::start(&["--workers", "1"]) else { return };
    let options =
        json!({ "name": "orders", "plaintext_backup": true, "exportable": true, "deletion_allowed": true });
    good(&server, "/api/keys", &options);
    good(&server, "/api/keys/orders/rotate", &json!({}));
    let backup = good(&server, "/api/keys/orders/backup", &json!({})).member("backup");
    let nonce = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    for (target, body, version, detail) in [
        ("/api/keys/orders/backup", json!({ "plaintext": true }), None, Some("plaintext")),
        ("/api/keys/orders/backup", json!({}), None, None),
        ("/api/keys/orders/export", json!({ "version": 1 }), Some(1), None),
        ("/api/keys/orders/export", json!({ "version": "latest" }), Some(2), None),
        ("/api/keys/orders/export", json!({ "version": "all" }), None, None),
        ("/api/datakey", json!({ "key": "orders" }), Some(2), Some("plaintext")),
        ("/api/datakey", json!({ "key": "orders", "plaintext": false }), Some(2), None),
        (
            "/api/keystream",
            json!({ "key": "orders", "bytes": 1, "nonce": nonce }),
            Some(2),
            Some("rederived"),
        ),
        ("/api/keystream", json!({ "key": "orders", "bytes": 1 }), Some(2), None),
        ("/api/keys/restore", json!({ "backup": backup, "name": "copy", "replace": true }), None, None),
        ("/api/keys/restore", json!({ "backup": backup, "name": "other" }), None, None),
        ("/api/keys/restore", json!({ "backup": backup, "replace": true }), None, Some("replaced")),
    ] {
        let mut wanted = json!({ "outcome": "success" });
        if let Some(version) = version {
            wanted["key_version"] = json!(version);
        }
        if let Some(detail) = detail {
            wanted["detail"] = json!(detail);
        }
        assert_eq!(told(&server, target, &body), wanted, "{target} {body}");
    }
    // Nothing came of these.
    good(&server, "/api/keys", &json!({ "name": "guarded" }));
    for (target, body, code) in [
        ("/api/keys/guarded/backup", json!({ "plaintext": true }), "plaintext_backup_not_allowed"),
        (
            "/api/keys/restore",
            json!({ "backup": backup, "name": "guarded", "replace": true }),
            "deletion_not_allowed",
        ),
        ("/api/keystream", json!({ "key": "orders", "bytes": 0, "nonce": nonce }), "bytes_out_of_range"),
        ("/api/datakey", json!({ "key": "orders", "bits": 1 }), "bits_not_allowed"),
    ] {
        assert_eq!(told(&server, target, &body), json!({ "outcome": "failure", "code": code }), "{target}");
    }
}
