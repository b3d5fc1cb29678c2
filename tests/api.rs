//! The HTTP API of the running server: every route, with right and with wrong input.
//!
//! - `keys`: making, listing, reading and rotating keys.
//! - `keys_backup`: backups of keys, and keys from backups.
//! - `keys_policy`: what policy and states of versions allow.
//! - `keys_deletion`: deleting keys and bringing them back.
//! - `keys_material`: key material taken in and given out.
//! - `json`: encryption and decryption as JSON.
//! - `batch`: many payloads in one request.
//! - `raw`: encryption and decryption of octets and text.
//! - `forgery`: ciphertexts that were tampered with.
//! - `derived`: keys that derive a key of their own from each context.
//! - `rewrap`, `datakey`, `sign`, `hash`, `entropy`, `keystream`: the other operations, in all their forms.
//! - `format`: binary values in hexadecimal.
//! - `access`: credentials.
//! - `rates`: how often API keys may ask.
//! - `protocol`: paths, methods, and what every reply carries.

#[path = "api/access.rs"]
mod access;
#[path = "api/batch.rs"]
mod batch;
#[path = "api/datakey.rs"]
mod datakey;
#[path = "api/derived.rs"]
mod derived;
#[path = "api/entropy.rs"]
mod entropy;
#[path = "api/forgery.rs"]
mod forgery;
#[path = "api/format.rs"]
mod format;
#[path = "api/hash.rs"]
mod hash;
#[path = "api/json.rs"]
mod json;
#[path = "api/keys.rs"]
mod keys;
#[path = "api/keys_backup.rs"]
mod keys_backup;
#[path = "api/keys_deletion.rs"]
mod keys_deletion;
#[path = "api/keys_material.rs"]
mod keys_material;
#[path = "api/keys_policy.rs"]
mod keys_policy;
#[path = "api/keystream.rs"]
mod keystream;
#[path = "api/protocol.rs"]
mod protocol;
#[path = "api/rates.rs"]
mod rates;
#[path = "api/raw.rs"]
mod raw;
#[path = "api/rewrap.rs"]
mod rewrap;
#[path = "support/server.rs"]
mod server;
#[path = "api/sign.rs"]
mod sign;

use serde_json::{Value, json};
use server::Server;
use server::client::{Reply, Request};

/// A server that has the key `orders`.
fn with_orders() -> Option<Server> {
    let server = Server::start(&["--workers", "1"])?;
    must_create(&server, r#"{"name":"orders"}"#);
    Some(server)
}

/// Creates the key that `body` describes.
fn must_create(server: &Server, body: &str) {
    let reply = server.ask(Request::post("/api/keys", body));
    assert_eq!(reply.status, 201, "{}", reply.text());
}

/// Sends a JSON body with the admin key.
fn post(server: &Server, target: &str, body: &str) -> Reply {
    server.ask(Request::post(target, body).with("Content-Type", "application/json"))
}

/// Changes policy or states of `orders` and returns the key; fails if that is refused.
fn must_configure(server: &Server, members: &Value) -> Value {
    let reply = server.ask(Request::patch("/api/keys/orders", members.to_string()));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// Makes a new version of `orders`.
fn must_rotate(server: &Server) {
    let reply = server.ask(Request::post("/api/keys/orders/rotate", ""));
    assert_eq!(reply.status, 200, "{}", reply.text());
}

/// Decrypts under `key`.
fn decrypt(server: &Server, key: &str, ciphertext: &str) -> Reply {
    post(server, "/api/decrypt", &json!({ "key": key, "ciphertext": ciphertext }).to_string())
}

/// Sends a raw body of this content type, none if it is empty.
fn raw(server: &Server, target: &str, kind: &str, body: &[u8]) -> Reply {
    let request = Request::post(target, body);
    server.ask(if kind.is_empty() { request } else { request.with("Content-Type", kind) })
}

/// The results of a batch.
fn results(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let json = reply.json();
    assert_eq!(json.as_object().map(serde_json::Map::len), Some(1), "{json}");
    json.get("results").and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Encrypts under `orders` and returns the ciphertext; `members` follow the key's name in the body.
fn must_encrypt(server: &Server, members: &str) -> String {
    let reply = post(server, "/api/encrypt", &format!(r#"{{"key":"orders",{members}}}"#));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.member("ciphertext")
}

fn base64(bytes: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

/// So many bytes, of every value.
fn octets(length: usize) -> Vec<u8> {
    // 507 values in a row: nothing repeats in step with blocks.
    (0..=255_u8).chain(0..=250).cycle().take(length).collect()
}
