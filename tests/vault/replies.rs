//! The envelope, the errors and the forms of requests.

use serde_json::json;

use super::{ask, create, data, error, post, seal};
use crate::server::Server;
use crate::server::client::Request;

#[test]
fn a_reply_is_200_or_204_and_has_every_member_of_the_envelope() {
    let Some(server) = Server::start(&[]) else { return };
    let reply = post(&server, "keys/k", &json!({}));
    assert_eq!(reply.status, 200, "and not 201: {}", reply.text());
    assert_eq!(reply.field("Content-Type"), Some("application/json"));
    assert_eq!(reply.field("Cache-Control"), Some("no-store"));
    let json = reply.json();
    let mut names: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    let all =
        ["auth", "data", "lease_duration", "lease_id", "renewable", "request_id", "warnings", "wrap_info"];
    assert_eq!(names, all);
    assert_eq!((&json["lease_id"], &json["lease_duration"]), (&json!(""), &json!(0)));
    assert_eq!(json["request_id"].as_str().unwrap().len(), 36);
    post(&server, "keys/k/config", &json!({"deletion_allowed": true}));
    let gone = ask(&server, Request::new("DELETE", "/v1/transit/keys/k"));
    assert_eq!((gone.status, gone.text(), gone.field("Content-Type")), (204, "", None));
}

#[test]
fn health_tells_of_performance_standby_and_takes_other_statuses() {
    let Some(server) = Server::start(&[]) else { return };
    let health = server.call(&Request::get("/v1/sys/health"));
    assert_eq!((health.status, health.json()["performance_standby"].clone()), (200, json!(false)));
    assert_eq!(health.json()["sealed"], json!(false));
    let head = server.call(&Request::new("HEAD", "/v1/sys/health?standbyok=true"));
    assert_eq!((head.status, head.text()), (200, ""));
    assert_eq!(server.call(&Request::get("/v1/sys/health?activecode=204&sealedcode=299")).status, 204);
    assert_eq!(server.call(&Request::get("/v1/sys/health?activecode=999")).status, 400);
    for path in ["seal-status", "init", "leader"] {
        assert_eq!(server.call(&Request::get(&format!("/v1/sys/{path}"))).status, 200, "{path}");
    }
}

#[test]
fn whatever_is_refused_below_the_prefix_is_a_list_of_errors() {
    let Some(server) = Server::start(&["--address-rate-limit", "0"]) else { return };
    let denied = |request: Request| {
        let reply = server.call(&request);
        assert_eq!((reply.status, error(&reply).as_str()), (403, "permission denied"));
        assert_eq!(reply.field("WWW-Authenticate"), None);
    };
    denied(Request::get("/v1/transit/keys/k"));
    denied(Request::get("/v1/transit/keys/k").with("X-Vault-Token", "s.unknown"));
    denied(Request::get("/v1/transit/keys/k").with("Authorization", "Bearer s.unknown"));
    let long = Request::post("/v1/transit/keys/k", vec![b' '; 1 << 20]);
    assert_eq!(ask(&server, long).status, 413);
    let two = Request::get("/v1/sys/mounts").with("Authorization", "Bearer x");
    assert_eq!((ask(&server, two.clone()).status, error(&ask(&server, two)).is_empty()), (400, false));
    let missing = ask(&server, Request::get("/v1/transit/keys/none"));
    assert_eq!((missing.status, error(&missing).as_str()), (404, ""));
    let unused = post(&server, "encrypt/none", &json!({"plaintext": "aGk="}));
    assert_eq!((unused.status, error(&unused).as_str()), (400, "encryption key not found"));
    let elsewhere = ask(&server, Request::get("/v1/other/keys/k"));
    assert_eq!((elsewhere.status, error(&elsewhere).is_empty()), (404, false));
    let other = ask(&server, Request::get("/v1/transit/encrypt/k"));
    assert_eq!((other.status, other.field("Allow")), (405, Some("POST, PUT")));
    // Beside it nothing is another than it was, and the field of these clients is none.
    ask(&server, Request::get("/api/nothing")).assert_problem(404, "not_found");
    ask(&server, Request::get("/api/keys")).assert_problem(401, "credential_missing");
}

#[test]
fn what_must_not_be_passed_over_is_refused() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "k", "chacha20-poly1305");
    let read = || Request::get("/v1/transit/keys/k");
    let inside = ask(&server, read().with("X-Vault-Namespace", "team"));
    assert_eq!((inside.status, error(&inside).as_str()), (404, "namespace not found"));
    assert_eq!(ask(&server, read().with("X-Vault-Namespace", "root")).status, 200);
    let wrapped = ask(&server, read().with("X-Vault-Wrap-TTL", "60"));
    assert_eq!((wrapped.status, error(&wrapped).is_empty()), (400, false));
    assert_eq!(ask(&server, read().with("X-Vault-Request", "true")).status, 200);
    // Whichever of two counts elsewhere.
    for (name, harmless, other) in [("X-Vault-Namespace", "root", "team"), ("X-Vault-Wrap-TTL", "0", "60")] {
        for pair in [[harmless, other], [other, harmless]] {
            let [first, second] = pair;
            let reply = ask(&server, read().with(name, first).with(name, second));
            assert!(matches!(reply.status, 400 | 404), "{name} {pair:?}: {}", reply.status);
        }
    }
    for name in ["X-Vault-Token", "X-API-Key"] {
        let reply = ask(&server, read().with(name, server.key()));
        assert_eq!((reply.status, error(&reply).is_empty()), (400, false), "{name}");
    }
}

#[test]
fn a_path_is_taken_as_it_is_written() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "k", "chacha20-poly1305");
    for path in [
        "/v1/transit/../transit/keys/k",
        "/v1/sys/../transit/keys/k",
        "/v1/./transit/keys/k",
        "/v1//transit/keys/k",
        "/v1/transit//keys/k",
        "/v1/transit/keys/k/",
        "/v1/transit%2fkeys%2fk",
        "/v1/transit/keys%2Fk",
        "/v1/%74ransit/keys/k",
        "/v1/TRANSIT/keys/k",
        "/v1/../api/keys",
        "/api/../v1/transit/keys/k",
        "//v1/transit/keys/k",
    ] {
        assert_eq!(ask(&server, Request::get(path)).status, 404, "{path}");
    }
    // Nor is a name read as anything but itself.
    for name in ["%6b", "k%00", "k;x", "..", "k%2f"] {
        let reply = ask(&server, Request::get(&format!("/v1/transit/keys/{name}")));
        assert_eq!((reply.status, error(&reply).as_str()), (404, ""), "{name}");
        let made = ask(&server, Request::post(&format!("/v1/transit/keys/{name}"), "{}"));
        assert_eq!((made.status, error(&made).is_empty()), (400, false), "{name}");
    }
}

#[test]
fn other_methods_are_refused_and_a_head_has_no_body() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "k", "chacha20-poly1305");
    let head = ask(&server, Request::new("HEAD", "/v1/transit/keys/k"));
    assert_eq!((head.status, head.body.len()), (200, 0));
    for (method, path) in [
        ("PATCH", "/v1/transit/keys/k"),
        ("LIST", "/v1/transit/keys/k"),
        ("GET", "/v1/transit/keys/k?list=true"),
        ("GET", "/v1/transit/keys"),
        ("GET", "/v1/transit/keys?list=false"),
        ("HEAD", "/v1/transit/keys?list=true"),
        ("DELETE", "/v1/transit/encrypt/k"),
        ("POST", "/v1/sys/health"),
    ] {
        let reply = ask(&server, Request::new(method, path));
        assert_eq!((reply.status, reply.field("Allow").is_some()), (405, true), "{method} {path}");
    }
}

#[test]
fn a_body_may_be_of_any_type_or_none_and_its_unknown_members_are_passed_over() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "k", "chacha20-poly1305");
    for body in ["", "null", "{}", " \n", r#"{"name":"k","unknown":[1,{"a":null}]}"#] {
        let rotated = ask(&server, Request::post("/v1/transit/keys/k/rotate", body));
        assert_eq!(rotated.status, 200, "{body:?}: {}", rotated.text());
    }
    // Without a length at all, and as the other method.
    assert_eq!(ask(&server, Request::new("POST", "/v1/transit/keys/k/rotate")).status, 200);
    assert_eq!(ask(&server, Request::with_body("PUT", "/v1/transit/keys/k/rotate", "null")).status, 200);
    for kind in ["application/x-www-form-urlencoded", "application/merge-patch+json", "x/y; z=1"] {
        let request = Request::post("/v1/transit/encrypt/k", r#"{"plaintext":"aGk="}"#);
        assert_eq!(ask(&server, request.with("Content-Type", kind)).status, 200, "{kind}");
    }
    for body in ["[]", "{", "1", r#"{"plaintext":1}"#] {
        let refused = ask(&server, Request::post("/v1/transit/encrypt/k", body));
        assert_eq!((refused.status, error(&refused).is_empty()), (400, false), "{body}");
    }
}

#[test]
fn numbers_may_stand_as_texts_and_base64_may_hold_line_ends() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "k", "chacha20-poly1305");
    post(&server, "keys/k/rotate", &json!({}));
    for version in [json!("1"), json!(1)] {
        let sealed =
            data(&post(&server, "encrypt/k", &json!({"plaintext": "aGVs\nbG8=\n", "key_version": version})));
        assert_eq!(sealed["key_version"], 1);
        let opened = data(&post(&server, "decrypt/k", &json!({"ciphertext": sealed["ciphertext"]})));
        assert_eq!(opened, json!({"plaintext": "aGVsbG8="}));
    }
    for latest in [json!(0), json!(""), json!(null)] {
        let sealed = data(&post(&server, "encrypt/k", &json!({"plaintext": "", "key_version": latest})));
        assert_eq!(sealed["key_version"], 2);
    }
}

#[test]
fn ciphertexts_have_the_prefix_of_these_clients_and_either_face_reads_both() {
    let Some(server) = Server::start(&[]) else { return };
    create(&server, "k", "xchacha20-poly1305");
    let theirs = seal(&server, "k", "aGVsbG8=");
    assert!(theirs.starts_with("vault:v1:"), "{theirs}");
    let body = json!({"key": "k", "ciphertext": theirs}).to_string();
    assert_eq!(server.ask(Request::post("/api/decrypt", body)).member("plaintext"), "aGVsbG8=");
    let body = json!({"key": "k", "plaintext": "aGVsbG8="}).to_string();
    let own = server.ask(Request::post("/api/encrypt", body)).member("ciphertext");
    assert!(own.starts_with("quantonium:v1:"), "{own}");
    assert_eq!(data(&post(&server, "decrypt/k", &json!({"ciphertext": own})))["plaintext"], "aGVsbG8=");
    // Version 0 was the first one once.
    let oldest = theirs.replace("vault:v1:", "vault:v0:");
    assert_eq!(data(&post(&server, "decrypt/k", &json!({"ciphertext": oldest})))["plaintext"], "aGVsbG8=");
}

#[test]
fn the_face_can_be_elsewhere_and_can_be_off() {
    let Some(server) = Server::start(&["--vault-mount", "sealing"]) else { return };
    assert_eq!(ask(&server, Request::post("/v1/sealing/keys/k", "{}")).status, 200);
    assert_eq!(ask(&server, Request::post("/v1/transit/keys/k", "{}")).status, 404);
    let mounts = ask(&server, Request::get("/v1/sys/mounts"));
    assert_eq!(data(&mounts)["sealing/"]["type"], "transit");
    assert_eq!(data(&ask(&server, Request::get("/v1/sys/internal/ui/mounts/sealing")))["path"], "sealing/");
    let Some(server) = Server::start(&["--vault-api", "off"]) else { return };
    let reply = ask(&server, Request::get("/v1/sys/health"));
    reply.assert_problem(404, "not_found");
    // And what it is told then does not count as a credential.
    ask(&server, Request::get("/api/auth/profile")).assert_problem(401, "credential_missing");
}
