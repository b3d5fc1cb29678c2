//! Who asks, in the words of these clients.

use serde_json::json;

use super::{ask, data, error};
use crate::server::Server;
use crate::server::client::{Reply, Request};

fn login(server: &Server, role: &str, secret: &str) -> Reply {
    let body = json!({"role_id": role, "secret_id": secret});
    server.call(&Request::post("/v1/auth/approle/login", body.to_string()))
}

#[test]
fn an_api_key_in_two_parts_gives_a_token_that_ends_when_it_is_given_back() {
    let Some(server) = Server::start(&[]) else { return };
    let (id, secret) = server.key().split_once('.').unwrap();
    let whole = login(&server, id, server.key()).json();
    let reply = login(&server, id.strip_prefix("qk_").unwrap(), secret);
    assert_eq!(reply.status, 200, "{}", reply.text());
    let auth = reply.json()["auth"].clone();
    for member in ["accessor", "policies", "token_policies", "metadata", "entity_id", "token_type", "orphan"]
    {
        assert!(!auth[member].is_null(), "{member}: {auth}");
    }
    assert_eq!((&auth["renewable"], auth["lease_duration"].as_u64().unwrap() > 0), (&json!(false), true));
    let token = auth["client_token"].as_str().unwrap().to_owned();
    let with = |request: Request| server.call(&request.with("X-Vault-Token", &token));
    let own = data(&with(Request::get("/v1/auth/token/lookup-self")));
    assert_eq!((&own["renewable"], own["ttl"].as_u64().unwrap() > 0), (&json!(false), true));
    assert_ne!(own["id"].as_str().unwrap(), token, "a reply holds no credential");
    assert_eq!(with(Request::post("/v1/auth/token/renew-self", "{}")).status, 400);
    assert_eq!(with(Request::post("/v1/transit/keys/k", "{}")).status, 200);
    assert_eq!(with(Request::post("/v1/auth/token/revoke-self", "null")).status, 204);
    let after = with(Request::get("/v1/transit/keys/k"));
    assert_eq!((after.status, error(&after).as_str()), (403, "permission denied"));
    let bearer = format!("Bearer {token}");
    server
        .call(&Request::get("/api/keys").with("Authorization", &bearer))
        .assert_problem(401, "credential_invalid");
    // Another one of the same key goes on.
    let other = whole["auth"]["client_token"].as_str().unwrap();
    assert_eq!(server.call(&Request::get("/v1/transit/keys/k").with("X-Vault-Token", other)).status, 200);
}

#[test]
fn a_wrong_login_says_neither_what_was_wrong_nor_what_exists() {
    let Some(server) = Server::start(&[]) else { return };
    let (id, secret) = server.key().split_once('.').unwrap();
    let unknown = format!("qk_00000000.{secret}");
    for (role, secret) in
        [("none", "none"), (id, "wrong"), ("00000000", secret), (id, unknown.as_str()), ("é", "é")]
    {
        let reply = login(&server, role, secret);
        assert_eq!((reply.status, error(&reply).as_str()), (400, "invalid role or secret ID"), "{role}");
    }
    assert_eq!(login(&server, "", secret).status, 400);
    // As many as were refused are told to whoever watches for guessing.
    let page = server.ask(Request::get("/api/metrics"));
    let counted: u64 = page
        .text()
        .lines()
        .filter(|line| line.starts_with("quantonium_auth_failures_total{"))
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum();
    assert_eq!(counted, 6, "{}", page.text());
}

#[test]
fn an_api_key_that_others_use_is_not_revoked_by_a_client_that_ends() {
    let Some(server) = Server::start(&[]) else { return };
    let reply = ask(&server, Request::post("/v1/auth/token/revoke-self", "{}"));
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(data(&ask(&server, Request::get("/v1/auth/token/lookup-self")))["ttl"], 0);
}

#[test]
fn scopes_hold_on_this_face_too() {
    let Some(server) = Server::start(&[]) else { return };
    let body = json!({"name": "app", "scopes": ["encrypt:orders-*", "keys.read:orders-*"]}).to_string();
    let key = server.ask(Request::post("/api/auth/keys", body)).member("api_key");
    for name in ["orders-1", "other"] {
        ask(&server, Request::post(&format!("/v1/transit/keys/{name}"), "{}"));
    }
    let with = |request: Request| server.call(&request.with("X-Vault-Token", &key));
    let sealed = |name: &str| {
        with(Request::post(&format!("/v1/transit/encrypt/{name}"), r#"{"plaintext":"aGk="}"#)).status
    };
    assert_eq!((sealed("orders-1"), sealed("other"), sealed("none")), (200, 403, 403));
    let opened = Request::post("/v1/transit/decrypt/orders-1", r#"{"ciphertext":"vault:v1:AAAA"}"#);
    assert_eq!(with(opened).status, 403);
    assert_eq!(with(Request::post("/v1/transit/keys/orders-2", "{}")).status, 403);
    assert_eq!(data(&with(Request::new("LIST", "/v1/transit/keys"))), json!({"keys": ["orders-1"]}));
}
