//! How often somebody may ask: API keys by their rate, and those whom nobody recognises by their address.
//!
//! What is counted is compared with the time that the client saw pass, which is never less than what the server saw.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/server.rs"]
mod server;

use std::thread;
use std::time::Instant;

use server::Server;
use server::client::{Reply, Request};

const FIELDS: [&str; 5] =
    ["RateLimit-Policy", "RateLimit", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"];
/// More requests than any of these limits admits while they are sent.
const MANY: usize = 5_000;

/// Makes an API key that may encrypt and hash, with this member `rate_limit`.
fn api_key(server: &Server, rate: &str) -> String {
    let body = format!(r#"{{"name":"limited","scopes":["encrypt","hash"]{rate}}}"#);
    let made = server.ask(Request::post("/api/auth/keys", body));
    assert_eq!(made.status, 201, "{}", made.text());
    made.member("api_key")
}

fn hash() -> Request {
    Request::post("/api/hash", r#"{"input":"eA=="}"#)
}

fn number(reply: &Reply, name: &str) -> u64 {
    let value = reply.field(name).unwrap_or_else(|| panic!("no {name}: {:?}", reply.fields));
    value.parse().unwrap_or_else(|_| panic!("{name}: {value}"))
}

/// What may have come back since `start`, of so many in a second. A worker's clock may be that of its turn's start.
fn come_back(start: Instant, per_second: u64) -> u64 {
    start.elapsed().as_secs() * per_second + per_second + 1
}

/// Asks again and again until the limit is reached; returns how often it went before, and the refusal.
fn until_limited(server: &Server, request: &Request, status: u16) -> (u64, Reply) {
    let mut client = server.connect();
    for admitted in 0..MANY {
        let reply = client.call(request);
        let closes = reply.closes();
        if reply.status == 429 {
            return (u64::try_from(admitted).unwrap(), reply);
        }
        assert_eq!(reply.status, status, "{}", reply.text());
        if closes {
            client = server.connect();
        }
    }
    panic!("{MANY} requests went");
}

fn assert_refused(reply: &Reply, policy: &str, burst: u64, window: u64) {
    reply.assert_problem(429, "rate_limited");
    reply.assert_guarded();
    assert_eq!(number(reply, "Retry-After"), 1);
    assert_eq!(
        reply.field("RateLimit-Policy").unwrap_or_default(),
        format!("\"{policy}\";q={burst};w={window}")
    );
    let reset = number(reply, "X-RateLimit-Reset");
    assert!((1..=window).contains(&reset), "{reset}");
    assert_eq!(reply.field("RateLimit").unwrap_or_default(), format!("\"{policy}\";r=0;t={reset}"));
    assert_eq!(number(reply, "X-RateLimit-Limit"), burst);
    assert_eq!(number(reply, "X-RateLimit-Remaining"), 0);
}

fn assert_unlimited(reply: &Reply) {
    for name in FIELDS {
        assert_eq!(reply.field(name), None, "{name}");
    }
}

#[test]
fn an_api_key_is_refused_after_its_burst_and_others_are_not() {
    let Some(server) = Server::start(&["--workers", "2"]) else { return };
    let limited = api_key(&server, r#","rate_limit":{"per_second":1,"burst":20}"#);
    let other = api_key(&server, r#","rate_limit":{"per_second":1,"burst":500}"#);
    let start = Instant::now();
    let (admitted, refusal) = until_limited(&server, &hash().key(&limited), 200);
    assert!((20..=20 + come_back(start, 1)).contains(&admitted), "{admitted}");
    assert_refused(&refusal, "key", 20, 20);
    let reply = server.call(&hash().key(&other));
    assert_eq!((reply.status, number(&reply, "X-RateLimit-Remaining")), (200, 499));
    let reply = server.call(&hash().key(server.key()));
    assert_eq!(reply.status, 200);
    assert_unlimited(&reply);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn two_workers_give_no_more_than_one() {
    let Some(server) = Server::start(&["--workers", "2"]) else { return };
    let key = api_key(&server, r#","rate_limit":{"per_second":1,"burst":200}"#);
    let start = Instant::now();
    let admitted: u64 = thread::scope(|scope| {
        let work = || {
            // A connection belongs to one worker; with many both have some.
            let mut good = 0;
            for _ in 0..10 {
                let mut client = server.connect();
                for _ in 0..10 {
                    match client.call(&hash().key(&key)).status {
                        200 => good += 1,
                        429 => (),
                        other => panic!("{other}"),
                    }
                }
            }
            good
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!((200..=200 + come_back(start, 1)).contains(&admitted), "{admitted} of 800");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn keys_without_a_rate_have_that_of_the_server_and_health_has_none() {
    let flags = ["--rate-limit", "1:30", "--address-rate-limit", "1:20"];
    let Some(server) = Server::start(&flags) else { return };
    let own = api_key(&server, r#","rate_limit":{"per_second":1,"burst":500}"#);
    let default = api_key(&server, "");
    let (_, refusal) = until_limited(&server, &hash().key(&default), 200);
    assert_refused(&refusal, "key", 30, 30);
    assert_eq!(number(&server.call(&hash().key(&own)), "X-RateLimit-Limit"), 500);
    let mut client = server.connect();
    for request in [Request::get("/api/health"), Request::get("/api/health").key(&default)] {
        for _ in 0..50 {
            let reply = client.call(&request);
            assert_eq!(reply.status, 200);
            assert_unlimited(&reply);
        }
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn who_is_not_recognised_is_limited_by_his_address_and_his_neighbour_with_a_key_is_not() {
    let Some(server) = Server::start(&["--address-rate-limit", "1:20", "--workers", "2"]) else { return };
    let start = Instant::now();
    let (admitted, refusal) = until_limited(&server, &hash(), 401);
    assert!((20..=20 + come_back(start, 1)).contains(&admitted), "{admitted}");
    assert_refused(&refusal, "address", 20, 20);
    // Wrong credentials are taken from the same bucket, which is nearly empty.
    let (admitted, refusal) = until_limited(&server, &hash().key("qk_00000000.wrong"), 401);
    assert!(admitted <= come_back(start, 1), "{admitted}");
    assert_refused(&refusal, "address", 20, 20);
    for _ in 0..50 {
        assert_eq!(server.call(&hash().key(server.key())).status, 200);
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn clients_behind_a_trusted_proxy_are_limited_one_by_one() {
    let flags = ["--address-rate-limit", "1:20", "--trusted-proxy", "127.0.0.1"];
    let Some(server) = Server::start(&flags) else { return };
    let from = |client: &str| hash().with("X-Forwarded-For", client);
    let (_, refusal) = until_limited(&server, &from("203.0.113.1"), 401);
    assert_refused(&refusal, "address", 20, 20);
    for (client, remaining) in [("203.0.113.2", 19), ("2001:db8::1", 19), ("2001:db8:0:1::1", 19)] {
        let reply = server.call(&from(client));
        assert_eq!((reply.status, number(&reply, "X-RateLimit-Remaining")), (401, remaining), "{client}");
    }
    // An IPv6 client is its /64.
    let (admitted, _) = until_limited(&server, &from("2001:db8::2"), 401);
    assert!(admitted >= 19, "{admitted}");
    until_limited(&server, &from("2001:db8::ffff:3"), 401);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn batches_and_large_bodies_cost_more() {
    let Some(server) = Server::start(&[]) else { return };
    assert_eq!(server.ask(Request::post("/api/keys", r#"{"name":"orders"}"#)).status, 201);
    let key = api_key(&server, r#","rate_limit":{"per_second":1,"burst":1000}"#);
    let items = vec![r#"{"plaintext":"eA=="}"#; 100].join(",");
    let batch = Request::post("/api/encrypt", format!(r#"{{"key":"orders","batch":[{items}]}}"#));
    let large = Request::post("/api/hash", format!(r#"{{"input":"{}"}}"#, "A".repeat(640 * 1024)));
    let left = |request: Request| {
        let reply = server.call(&request.key(&key));
        assert_eq!(reply.status, 200, "{}", reply.text());
        number(&reply, "X-RateLimit-Remaining")
    };
    for (request, cost) in [(hash(), 1), (batch, 100), (large, 11)] {
        let start = Instant::now();
        let before = left(hash());
        left(request);
        // What it cost is counted when it is done; the next one's own is one.
        let after = left(hash());
        let fell = before.saturating_sub(after);
        let back = come_back(start, 1);
        assert!(fell <= cost + 2 && fell + back > cost, "{fell} for {cost}, {back} may have come back");
    }
    assert_eq!(server.stop().code, Some(0));
}
