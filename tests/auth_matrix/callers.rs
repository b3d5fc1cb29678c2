//! Credentials: such as work, and such as do not or not any more, with the code that the audit log has for them.

use serde_json::{Value, json};

use crate::server::Server;
use crate::server::client::Request;

/// Makes an API key of these terms; returns its text.
fn with_terms(server: &Server, terms: &Value) -> String {
    let reply = server.ask(Request::post("/api/auth/keys", terms.to_string()));
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.member("api_key")
}

/// Makes an API key of these scopes; returns its text.
pub(crate) fn made(server: &Server, scopes: &[&str]) -> String {
    with_terms(server, &json!({ "name": "test", "scopes": scopes }))
}

/// A token that was got with `key`.
pub(crate) fn token(server: &Server, key: &str, body: &Value) -> String {
    let reply = server.call(&Request::post("/api/auth/token", body.to_string()).key(key));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.member("access_token")
}

fn change(server: &Server, key: &str, what: &str, body: &str) -> String {
    let reply = server.ask(Request::post(&format!("/api/auth/keys/{}/{what}", &key[3..11]), body));
    assert_eq!(reply.status, 200, "{}", reply.text());
    if what == "rotate" { reply.member("api_key") } else { String::new() }
}

/// The text of `one` with the secret of `other`.
fn mixed(one: &str, other: &str) -> String {
    format!("{}{}", &one[..12], &other[12..])
}

/// What nobody was ever given.
pub(crate) fn without_a_key(server: &Server) -> Vec<(&'static str, String)> {
    let [one, other] = [made(server, &["admin"]), made(server, &["admin"])];
    let unknown = ["00000000", "ffffffff"].iter().find(|id| **id != &one[3..11]).unwrap();
    let malformed = ["nonsense".to_owned(), one[..54].to_owned(), format!("{one}A"), one.to_uppercase()];
    let mut found: Vec<_> = malformed.map(|text| ("credential_malformed", text)).into();
    found.push(("credential_unknown", format!("qk_{unknown}{}", &one[11..])));
    found.push(("credential_wrong", mixed(&one, &other)));
    found
}

/// API keys that worked, or work for others.
pub(crate) fn api_keys_that_ended(server: &Server) -> Vec<(&'static str, String)> {
    let terms = json!({ "name": "short", "scopes": ["admin"], "expires_in": 1 });
    let expired = with_terms(server, &terms);
    let revoked = made(server, &["admin"]);
    change(server, &revoked, "revoke", "");
    let forgotten = made(server, &["admin"]);
    change(server, &forgotten, "revoke", "");
    let deleted = server.ask(Request::new("DELETE", &format!("/api/auth/keys/{}", &forgotten[3..11])));
    assert_eq!(deleted.status, 200);
    let rotated = made(server, &["admin"]);
    change(server, &rotated, "rotate", r#"{"overlap_seconds":0}"#);
    let terms =
        json!({ "name": "away", "scopes": ["admin"], "allowed_networks": ["192.0.2.0/24", "2001:db8::/32"] });
    let elsewhere = with_terms(server, &terms);
    // It is seen to end, whenever that is.
    while server.call(&Request::get("/api/auth/profile").key(&expired)).status != 401 {}
    vec![
        ("credential_expired", expired),
        ("credential_revoked", revoked),
        ("credential_unknown", forgotten),
        ("credential_wrong", rotated),
        ("source_not_allowed", elsewhere),
    ]
}

/// Tokens that were altered, or whose API key was.
pub(crate) fn tokens_that_ended(server: &Server) -> Vec<(&'static str, String)> {
    let key = made(server, &["admin"]);
    let good = token(server, &key, &json!({}));
    let parts: Vec<&str> = good.split('.').collect();
    let other = token(server, &made(server, &["admin"]), &json!({}));
    let others: Vec<&str> = other.split('.').collect();
    let rotated = made(server, &["admin"]);
    let of_rotated = token(server, &rotated, &json!({}));
    change(server, &rotated, "rotate", r#"{"overlap_seconds":3600}"#);
    let revoked = made(server, &["admin"]);
    let of_revoked = token(server, &revoked, &json!({}));
    change(server, &revoked, "revoke", "");
    // {"alg":"none"}
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);
    vec![
        ("token_signature", format!("{}.{}.{}", parts[0], parts[1], others[2])),
        ("token_signature", format!("{}.{}.{}", parts[0], others[1], parts[2])),
        ("token_alg", format!("eyJhbGciOiJub25lIn0.{}.{}", parts[1], parts[2])),
        ("token_alg", unsigned),
        ("token_malformed", format!("{good}=")),
        ("token_signature", of_rotated),
        ("credential_revoked", of_revoked),
    ]
}

/// A token whose time has passed: a stream that it opened has ended with it.
pub(crate) fn expired_token(server: &Server) -> String {
    let key = made(server, &["audit.read"]);
    let token = token(server, &key, &json!({ "expires_in": 1 }));
    let mut stream = server.connect();
    stream.send(&Request::get("/api/audit/stream").key(&token).bytes());
    // Where this took a second by itself, there is nothing to follow any more, and the connection stays.
    if stream.reply_to_head().status == 200 {
        stream.drain();
    }
    assert_eq!(server.call(&Request::get("/api/auth/profile").key(&key)).status, 200);
    token
}
