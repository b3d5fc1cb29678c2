//! The second face: what clients of Vault's transit engine trip over, one test for each.
//!
//! Owns requests as such clients send them. Invariant: each test shows what a client would meet, byte for byte where the
//! client is known to look at bytes.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by a panic, its helping functions too"
)]

#[path = "auth_matrix/callers.rs"]
mod callers;
#[path = "support/server.rs"]
mod server;

#[path = "vault/batches.rs"]
mod batches;
#[path = "vault/keys.rs"]
mod keys;
#[path = "vault/logins.rs"]
mod logins;
#[path = "vault/permissions.rs"]
mod permissions;
#[path = "vault/replies.rs"]
mod replies;

use serde_json::Value;
use server::Server;
use server::client::{Reply, Request};

/// Asks as the admin, with the field that these clients use.
fn ask(server: &Server, request: Request) -> Reply {
    server.call(&request.with("X-Vault-Token", server.key()))
}

/// `POST` of a JSON body.
fn post(server: &Server, path: &str, body: &Value) -> Reply {
    ask(server, Request::post(&format!("/v1/transit/{path}"), body.to_string()))
}

/// What is in `data` of a reply that must be 200.
fn data(reply: &Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.field("Content-Type"), Some("application/json"));
    reply.json()["data"].clone()
}

/// The only text of a list of errors.
fn error(reply: &Reply) -> String {
    assert_eq!(reply.field("Content-Type"), Some("application/json"), "{}", reply.text());
    let json = reply.json();
    let errors = json["errors"].as_array().unwrap();
    assert_eq!(json.as_object().unwrap().len(), 1, "{json}");
    errors.iter().map(|text| text.as_str().unwrap()).collect::<Vec<_>>().join("; ")
}

/// Makes a key of this type.
fn create(server: &Server, name: &str, kind: &str) {
    data(&post(server, &format!("keys/{name}"), &serde_json::json!({"type": kind})));
}

/// Seals one plaintext.
fn seal(server: &Server, name: &str, plaintext: &str) -> String {
    let sealed =
        data(&post(server, &format!("encrypt/{name}"), &serde_json::json!({"plaintext": plaintext})));
    sealed["ciphertext"].as_str().unwrap().to_owned()
}
