//! Credentials: what is taken, and what is said to those who bring none.

use crate::server::Server;
use crate::server::client::{Reply, Request};
use crate::with_orders;

/// Every route that demands a credential, with a method that it takes.
const GUARDED: [(&str, &str); 13] = [
    ("POST", "/api/encrypt"),
    ("POST", "/api/decrypt?key=orders"),
    ("GET", "/api/keys"),
    ("POST", "/api/keys"),
    ("GET", "/api/keys/orders"),
    ("PATCH", "/api/keys/orders"),
    ("DELETE", "/api/keys/orders"),
    ("POST", "/api/keys/orders/undelete"),
    ("POST", "/api/keys/orders/rotate"),
    ("POST", "/api/keys/orders/import?type=hmac-sha256"),
    ("POST", "/api/keys/orders/export"),
    ("POST", "/api/keys/orders/backup"),
    ("POST", "/api/keys/restore"),
];

fn ask(server: &Server, fields: &[(&str, &str)]) -> Reply {
    let request =
        fields.iter().fold(Request::get("/api/keys"), |request, (name, value)| request.with(name, value));
    server.call(&request)
}

#[test]
fn a_key_is_taken_from_either_field() {
    let Some(server) = with_orders() else { return };
    let key = server.key().to_owned();
    assert_eq!(ask(&server, &[("X-API-Key", &key)]).status, 200);
    assert_eq!(ask(&server, &[("x-api-key", &format!("  {key}\t"))]).status, 200);
    for scheme in ["Bearer", "bearer", "BEARER"] {
        assert_eq!(ask(&server, &[("Authorization", &format!("{scheme} {key}"))]).status, 200, "{scheme}");
    }
}

#[test]
fn without_a_credential_nothing_is_told() {
    let Some(server) = with_orders() else { return };
    for (method, target) in GUARDED {
        let reply = server.call(&Request::new(method, target));
        reply.assert_problem(401, "credential_missing");
        assert_eq!(reply.field("WWW-Authenticate"), Some("Bearer"), "{target}");
    }
    let (known, unknown) = ("/api/keys/orders", "/api/keys/nope");
    let told = |path: &str| {
        let reply = server.call(&Request::get(path));
        reply.text().replace(reply.field("X-Request-Id").unwrap_or("none"), "-")
    };
    assert_eq!(told(known), told(unknown), "who is not recognised learns nothing of what exists");
}

#[test]
fn wrong_credentials_are_refused_everywhere() {
    let Some(server) = with_orders() else { return };
    let key = server.key().to_owned();
    let flipped = |at: usize| {
        let mut bytes = key.clone().into_bytes();
        bytes[at] = if bytes[at] == b'a' { b'b' } else { b'a' };
        String::from_utf8(bytes).expect("text")
    };
    let mut wrong: Vec<String> = (0..key.len()).map(flipped).collect();
    wrong.extend((0..key.len()).map(|length| key[..length].to_owned()));
    wrong.extend([
        format!("{key}x"),
        key.to_uppercase(),
        format!("{key} {key}"),
        "x".repeat(4_097),
        "\u{e9}".into(),
    ]);
    for credential in &wrong {
        let reply = ask(&server, &[("X-API-Key", credential)]);
        reply.assert_problem(401, "credential_invalid");
        assert_eq!(reply.field("WWW-Authenticate"), Some("Bearer error=\"invalid_token\""));
    }
    for (method, target) in GUARDED {
        let reply = server.call(&Request::new(method, target).with("X-API-Key", &flipped(key.len() - 1)));
        reply.assert_problem(401, "credential_invalid");
    }
    for value in [
        String::new(),
        "Bearer".to_owned(),
        format!("Bearer{key}"),
        format!("Basic {key}"),
        format!("Bearer {key},"),
        key.clone(),
    ] {
        ask(&server, &[("Authorization", &value)]).assert_problem(401, "credential_invalid");
    }
}

#[test]
fn two_credentials_are_refused_even_if_both_are_right() {
    let Some(server) = with_orders() else { return };
    let key = server.key().to_owned();
    let bearer = format!("Bearer {key}");
    let reply = ask(&server, &[("X-API-Key", &key), ("Authorization", &bearer)]);
    reply.assert_problem(400, "credential_repeated");
    assert_eq!(reply.field("WWW-Authenticate"), None);
    ask(&server, &[("X-API-Key", &key), ("Authorization", "Basic eA==")])
        .assert_problem(400, "credential_repeated");
    ask(&server, &[("X-API-Key", &key), ("X-API-Key", &key)]).assert_problem(400, "repeated_field");
    ask(&server, &[("Authorization", &bearer), ("Authorization", &bearer)])
        .assert_problem(400, "repeated_field");
}

#[test]
fn a_credential_in_the_query_is_none() {
    let Some(server) = with_orders() else { return };
    let target = format!("/api/keys?api_key={}", server.key());
    server.call(&Request::get(&target)).assert_problem(401, "credential_missing");
}

#[test]
fn refusals_stand_in_the_audit_log_without_the_credential() {
    let Some(server) = with_orders() else { return };
    let wrong = "qk_00000000.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let reply = ask(&server, &[("X-API-Key", wrong)]);
    let id = reply.field("X-Request-Id").unwrap_or_default().to_owned();
    let folder = server.data_dir().join("audit");
    let files =
        std::fs::read_dir(folder).expect("the audit folder").map(|entry| entry.expect("a file").path());
    let text: String = files.map(|path| std::fs::read_to_string(path).expect("text")).collect();
    let line = text.lines().find(|line| line.contains(&id)).unwrap_or("no line");
    let event: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
    assert_eq!((&event["event"], &event["outcome"]), (&"key.list".into(), &"failure".into()));
    assert_eq!((&event["status"], &event["code"]), (&401.into(), &"credential_unknown".into()));
    assert!(event.get("principal").is_none(), "{event}");
    assert!(!text.contains(wrong) && !text.contains(server.key()), "no credential in the log");
}
