//! A whole request for a row of the table, about a key or an API key that may exist.

use quantonium::api::route::{Route, Serving};
use quantonium::http::target::Method;
use quantonium::model::Permission;
use serde_json::{Value, json};

use crate::callers;
use crate::server::Server;
use crate::server::client::Request;

/// What requests are about.
pub(crate) struct Place {
    /// A key that may be exported, deleted and used.
    pub(crate) name: String,
    /// The identifier of an API key that may do nothing of its own.
    id: String,
    ciphertext: String,
    signature: String,
    backup: String,
    sealed_stream: Vec<u8>,
}

impl Place {
    /// Makes the key of this name, and what was made with it.
    pub(crate) fn new(server: &Server, name: &str) -> Self {
        let good = |target: &str, body: &Value| {
            let reply = server.ask(Request::post(target, body.to_string()));
            assert!(reply.status < 300, "{target}: {}", reply.text());
            reply
        };
        good("/api/keys", &json!({ "name": name, "exportable": true, "deletion_allowed": true }));
        let sealed_stream = server.ask(Request::post(&format!("/api/stream/encrypt?key={name}"), "x")).body;
        let own = callers::made(server, &["auth.manage"]);
        Self {
            name: name.to_owned(),
            id: own[3..11].to_owned(),
            ciphertext: good("/api/encrypt", &json!({ "key": name, "plaintext": "" })).member("ciphertext"),
            signature: good("/api/sign", &json!({ "key": name, "input": "" })).member("signature"),
            backup: good(&format!("/api/keys/{name}/backup"), &json!({})).member("backup"),
            sealed_stream,
        }
    }

    /// Brings about what the route asks for: what is brought back was deleted, what is forgotten was revoked.
    pub(crate) fn prepare(&self, server: &Server, route: &Route) {
        let request = match (route.method, route.pattern) {
            (_, "/api/keys/{name}/undelete") => Request::new("DELETE", &format!("/api/keys/{}", self.name)),
            (Method::Delete, "/api/auth/keys/{id}") => {
                Request::post(&format!("/api/auth/keys/{}/revoke", self.id), "")
            }
            _ => return,
        };
        assert_eq!(server.ask(request).status, 200);
    }
}

/// The path of a row with its variable part filled.
pub(crate) fn target(route: &Route, name: &str, id: &str) -> String {
    route.pattern.replace("{name}", name).replace("{id}", id)
}

/// Whether the row is about one key, which the request names.
pub(crate) fn about_a_key(route: &Route) -> bool {
    let lists = route.pattern == "/api/keys" && route.method == Method::Get;
    !lists && route.permission().is_some_and(Permission::takes_key)
}

/// Whether the row makes the key that it is about.
pub(crate) fn makes_a_key(route: &Route) -> bool {
    let makers = ["/api/keys", "/api/keys/restore", "/api/keys/{name}/import"];
    route.method == Method::Post && makers.contains(&route.pattern)
}

/// A request that gets no further than to the door.
pub(crate) fn plain(route: &Route) -> Request {
    let request = Request::new(route.method.name(), &target(route, "in-none", "00000000"));
    if route.method == Method::Get { request } else { request.body("{}") }
}

/// A request about the key `name` that is served if who asks may; with what was made with the key of `place`.
pub(crate) fn named(route: &Route, place: &Place, name: &str) -> Request {
    let path = target(route, name, &place.id);
    let json = |body: Value| Request::new(route.method.name(), &path).body(body.to_string());
    let own = about_a_key(route) && !route.pattern.contains('{');
    match (route.method, route.pattern) {
        (Method::Get, _) => Request::get(&path),
        (_, "/api/decrypt" | "/api/rewrap") => json(json!({ "key": name, "ciphertext": place.ciphertext })),
        (_, "/api/encrypt") => json(json!({ "key": name, "plaintext": "" })),
        (_, "/api/sign") => json(json!({ "key": name, "input": "" })),
        (_, "/api/verify") => json(json!({ "key": name, "input": "", "signature": place.signature })),
        (_, "/api/keystream") => json(json!({ "key": name, "bytes": 1 })),
        (_, "/api/hash") => json(json!({ "input": "" })),
        (_, "/api/entropy/sample") => json(json!({ "bytes": 1 })),
        (Method::Post, "/api/keys") => json(json!({ "name": name })),
        (_, "/api/keys/restore") => json(json!({ "name": name, "backup": place.backup })),
        (_, "/api/keys/{name}/import") => Request::post(&format!("{path}?type=hmac-sha256"), [7; 32]),
        (Method::Post, "/api/auth/keys") => json(json!({ "name": "n", "scopes": ["auth.manage"] })),
        (_, "/api/stream/decrypt") => Request::post(&format!("{path}?key={name}"), &place.sealed_stream),
        _ if matches!(route.serving, Serving::Streamed(_)) => {
            Request::post(&format!("{path}?key={name}"), "")
        }
        _ if own => json(json!({ "key": name })),
        _ => json(json!({})),
    }
}
