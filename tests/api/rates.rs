//! How often API keys may ask: who may say so, and what it counts.

use std::time::Instant;

use serde_json::json;

use crate::must_create;
use crate::server::Server;
use crate::server::client::Request;

/// What a stream is counted in.
const UNIT_BYTES: usize = 64 * 1024;

#[test]
fn nobody_but_an_admin_gives_out_a_higher_rate_than_his_own() {
    let Some(server) = Server::start(&["--workers", "1", "--rate-limit", "100:1000"]) else { return };
    let body = json!({"name": "n", "scopes": ["auth.manage", "hash"]}).to_string();
    let made = server.ask(Request::post("/api/auth/keys", body)).json();
    let text = |name: &str| made[name].as_str().expect("a text").to_owned();
    let (key, path) = (text("api_key"), format!("/api/auth/keys/{}", text("id")));
    let rate = |number: u32| json!({"rate_limit": {"per_second": number}}).to_string();
    let with_rate = |number: u32| {
        let limit = json!({"per_second": number});
        Request::post(
            "/api/auth/keys",
            json!({"name": "m", "scopes": ["hash"], "rate_limit": limit}).to_string(),
        )
    };
    let wider = server.call(&Request::patch(&path, rate(1_000_000)).key(&key));
    assert_eq!((wider.status, &wider.json()["code"]), (403, &"insufficient_scope".into()));
    assert_eq!(server.call(&with_rate(100).key(&key)).status, 201);
    assert_eq!(server.call(&with_rate(1_001).key(&key)).status, 403);
    let by_admin = server.ask(Request::patch(&path, rate(2_000)));
    assert_eq!(by_admin.status, 200, "{}", by_admin.text());
    assert_eq!(server.call(&with_rate(2_000).key(&key)).status, 201);
    assert_eq!(server.call(&with_rate(2_001).key(&key)).status, 403);
}

#[test]
fn a_stream_costs_what_its_body_does() {
    let begun = Instant::now();
    let Some(server) = Server::start(&["--workers", "1", "--rate-limit", "1:100"]) else { return };
    must_create(&server, r#"{"name":"orders"}"#);
    let body = vec![0; 20 * UNIT_BYTES];
    let sealed = server.ask(Request::post("/api/stream/encrypt?key=orders", body));
    assert_eq!(sealed.status, 200);
    let next = server.ask(Request::get("/api/auth/profile"));
    let left =
        next.field("X-RateLimit-Remaining").and_then(|left| left.parse::<u32>().ok()).expect("a limit");
    // One comes back each second, however long the machine takes for this.
    let back = u32::try_from(begun.elapsed().as_secs()).expect("a number of seconds");
    assert!((50..80 + back).contains(&left), "{left} of 100 are left, {back} came back at most");
}
