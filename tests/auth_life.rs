//! The life of API keys over HTTP, on the real binary: made, narrowed, rotated, revoked, forgotten; and that what ends has
//! ended everywhere when the answer comes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by a panic, its helping functions too"
)]

#[path = "support/server.rs"]
mod server;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use server::Server;
use server::client::{Reply, Request};

fn start() -> Option<Server> {
    let flags =
        ["--workers", "4", "--address-rate-limit", "0", "--max-requests-per-connection", "1000000000"];
    Server::start(&flags)
}

fn post(server: &Server, key: &str, target: &str, body: &Value) -> Reply {
    server.call(&Request::post(target, body.to_string()).key(key))
}

/// Makes an API key with the key of `by`; returns its text.
fn made(server: &Server, by: &str, terms: &Value) -> String {
    let reply = post(server, by, "/api/auth/keys", terms);
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.member("api_key")
}

fn path(key: &str) -> String {
    format!("/api/auth/keys/{}", &key[3..11])
}

fn rotated(server: &Server, key: &str, overlap_seconds: u64) -> String {
    let target = format!("{}/rotate", path(key));
    let reply = post(server, server.key(), &target, &json!({ "overlap_seconds": overlap_seconds }));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.member("api_key")
}

fn token(server: &Server, key: &str) -> String {
    post(server, key, "/api/auth/token", &json!({})).member("access_token")
}

fn status(server: &Server, credential: &str) -> u16 {
    server.call(&Request::get("/api/auth/profile").key(credential)).status
}

/// Revokes it. Where a worker stands still for a second in the midst of a request, the reply is that it is not everywhere yet,
/// and to ask again.
fn revoke(server: &Server, key: &str) -> Reply {
    loop {
        let reply = server.ask(Request::post(&format!("{}/revoke", path(key)), ""));
        if reply.status != 503 || reply.member("code") != "commit_pending" {
            return reply;
        }
    }
}

#[test]
fn an_api_key_is_made_read_changed_rotated_revoked_and_forgotten_and_its_secret_shown_once() {
    let Some(server) = start() else { return };
    let terms = json!({ "name": "billing", "scopes": ["encrypt:a*", "hash"], "description": "d" });
    let first = made(&server, server.key(), &terms);
    let mut quiet = vec![server.ask(Request::get("/api/auth/keys")), server.ask(Request::get(&path(&first)))];
    assert_eq!(quiet[1].json()["scopes"], json!(["encrypt:a*", "hash"]));
    assert_eq!(quiet[0].json()["keys"].as_array().unwrap().len(), 2);
    quiet.push(server.ask(Request::patch(&path(&first), r#"{"name":"other","expires_in":3600}"#)));
    assert_eq!((quiet[2].status, quiet[2].member("name")), (200, "other".to_owned()));
    let second = rotated(&server, &first, 3_600);
    assert_eq!([status(&server, &first), status(&server, &second)], [200, 200], "both secrets work");
    let third = rotated(&server, &second, 0);
    assert_eq!([&first, &second, &third].map(|key| status(&server, key)), [401, 401, 200]);
    quiet.push(server.ask(Request::new("DELETE", &path(&first))));
    quiet[3].assert_problem(409, "api_key_active");
    quiet.push(revoke(&server, &first));
    quiet.push(revoke(&server, &first));
    assert_eq!([quiet[4].status, quiet[5].status, status(&server, &third)], [200, 200, 401]);
    server.ask(Request::patch(&path(&first), r#"{"name":"x"}"#)).assert_problem(409, "api_key_revoked");
    quiet.push(server.ask(Request::new("DELETE", &path(&first))));
    assert_eq!(quiet[6].status, 200);
    server.ask(Request::get(&path(&first))).assert_problem(404, "unknown_api_key");
    let data_dir = server.data_dir();
    let folder = fs::read_dir(data_dir.join("audit")).unwrap();
    let mut told: Vec<String> =
        folder.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    assert!(told.iter().any(|text| text.contains("\"event\":\"auth.key.rotate\"")));
    told.extend(quiet.iter().map(|reply| format!("{:?}{}", reply.fields, reply.text())));
    let ended = server.stop();
    told.extend([ended.stdout, ended.stderr]);
    for secret in [&first, &second, &third] {
        assert!(told.iter().all(|text| !text.contains(&secret[12..])), "a secret is told again");
    }
}

#[test]
fn nobody_gives_more_than_he_has_or_takes_over_what_is_stronger() {
    let Some(server) = start() else { return };
    let own = json!({
        "name": "manager", "scopes": ["auth.manage", "encrypt:a*"], "expires_in": 3600,
        "rate_limit": { "per_second": 1000, "burst": 10000 }, "allowed_networks": ["127.0.0.0/8"],
    });
    let manager = made(&server, server.key(), &own);
    let less = json!({
        "name": "less", "scopes": ["encrypt:ab*"], "expires_in": 1800,
        "rate_limit": { "per_second": 10 }, "allowed_networks": ["127.0.0.1"],
    });
    let weaker = made(&server, &manager, &less);
    for (member, wide) in [
        ("scopes", json!(["admin"])),
        ("scopes", json!(["encrypt"])),
        ("scopes", json!(["decrypt:ab"])),
        ("expires_in", json!(7200)),
        ("expires_in", Value::Null),
        ("rate_limit", json!({ "per_second": 1001 })),
        ("rate_limit", Value::Null),
        ("allowed_networks", json!(["0.0.0.0/0"])),
        ("allowed_networks", json!([])),
    ] {
        let mut terms = less.clone();
        terms[member] = wide.clone();
        // What is absent where a key is made is `null` where it is changed.
        terms.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        post(&server, &manager, "/api/auth/keys", &terms).assert_problem(403, "insufficient_scope");
        for target in [&weaker, &manager] {
            let body = json!({ member: wide }).to_string();
            let reply = server.call(&Request::patch(&path(target), body).key(&manager));
            reply.assert_problem(403, "insufficient_scope");
        }
    }
    let admin = path(server.key());
    for request in [
        Request::post(&format!("{admin}/rotate"), "{}"),
        Request::post(&format!("{admin}/revoke"), ""),
        Request::patch(&admin, r#"{"name":"mine"}"#),
    ] {
        server.call(&request.key(&manager)).assert_problem(403, "insufficient_scope");
    }
    let by_token = token(&server, &manager);
    for request in [
        Request::post("/api/auth/keys", less.to_string()),
        Request::patch(&path(&weaker), r#"{"name":"x"}"#),
        Request::post(&format!("{}/rotate", path(&weaker)), "{}"),
        Request::post(&format!("{}/revoke", path(&weaker)), ""),
        Request::new("DELETE", &path(&weaker)),
        Request::post("/api/auth/token", "{}"),
    ] {
        server.call(&request.key(&by_token)).assert_problem(403, "api_key_required");
    }
    assert_eq!([&weaker, &manager].map(|key| status(&server, key)), [200, 200]);
}

#[test]
fn identities_are_given_shown_replaced_and_taken_away_and_each_has_one_key() {
    let Some(server) = start() else { return };
    let terms = |name: &str, identities: &[&str]| json!({ "name": name, "scopes": ["hash"], "identities": identities });
    let own = made(&server, server.key(), &terms("own", &["dns:Svc.Example.NET", "unix-user:1001"]));
    let read = || server.ask(Request::get(&path(&own))).json()["identities"].clone();
    assert_eq!(read(), json!(["dns:svc.example.net", "unix-user:1001"]), "one text for one identity");
    let profile = server.call(&Request::get("/api/auth/profile").key(&own)).json();
    assert_eq!((&profile["recognised_by"], &profile["identities"]), (&json!("api_key"), &read()));
    assert!(profile.get("identity").is_none());
    let by_token = server.call(&Request::get("/api/auth/profile").key(&token(&server, &own))).json();
    assert_eq!(by_token["recognised_by"], "token");
    let create = |terms: &Value| post(&server, server.key(), "/api/auth/keys", terms);
    let configure = |key: &str, identities: &Value| {
        server.ask(Request::patch(&path(key), json!({ "identities": identities }).to_string()))
    };
    create(&terms("rival", &["email:a@b", "dns:SVC.example.net"])).assert_problem(409, "identity_taken");
    let rival = made(&server, server.key(), &terms("rival", &["email:a@b"]));
    configure(&rival, &json!(["unix-user:1001"])).assert_problem(409, "identity_taken");
    for (bad, code) in [
        (json!(["unix-user:01001"]), "malformed_identity"),
        (json!(["dns:*.example.net"]), "malformed_identity"),
        (json!(["svc.example.net"]), "malformed_identity"),
        (json!(["dns:a", "dns:A"]), "api_key_terms"),
        (
            json!(["dns:a", "dns:b", "dns:c", "dns:d", "dns:e", "dns:f", "dns:g", "dns:h", "dns:i"]),
            "api_key_terms",
        ),
    ] {
        configure(&rival, &bad).assert_problem(400, code);
        let mut terms = terms("bad", &[]);
        terms["identities"] = bad;
        create(&terms).assert_problem(400, code);
    }
    assert_eq!(
        configure(&own, &json!(["uri:spiffe://a/b,c"])).json()["identities"],
        json!(["uri:spiffe://a/b,c"])
    );
    assert_eq!(configure(&rival, &json!(["unix-user:1001"])).status, 200, "it was given up");
    for none in [json!([]), Value::Null] {
        assert_eq!(configure(&own, &json!(["unix-group:7"])).status, 200);
        assert_eq!(configure(&own, &none).json()["identities"], json!([]));
    }
    assert_eq!(revoke(&server, &rival).json()["identities"], json!(["unix-user:1001"]), "it is still told");
    let heir = made(&server, server.key(), &terms("heir", &["unix-user:1001"]));
    let manager =
        made(&server, server.key(), &json!({ "name": "manager", "scopes": ["auth.manage", "entropy"] }));
    let given = json!({ "identities": ["unix-user:7"] }).to_string();
    let refused = server.call(&Request::patch(&path(&heir), given.clone()).key(&manager));
    refused.assert_problem(403, "insufficient_scope");
    // Nobody is recognised by a connection that proves nothing, whatever API keys there are.
    server.call(&Request::get("/api/auth/profile")).assert_problem(401, "credential_missing");
}

#[test]
fn identities_survive_a_kill() {
    let Some(server) = start() else { return };
    let terms = json!({ "name": "kept", "scopes": ["hash"], "identities": ["dns:a.example", "unix-user:7"] });
    let key = made(&server, server.key(), &terms);
    let scratch = Arc::clone(server.scratch());
    server.signal(Signal::SIGKILL);
    server.wait();
    let Some(server) = Server::start_in(&scratch, &["--workers", "4"]) else { return };
    assert_eq!(server.ask(Request::get(&path(&key))).json()["identities"], terms["identities"]);
    post(&server, server.key(), "/api/auth/keys", &terms).assert_problem(409, "identity_taken");
}

#[test]
fn the_last_admin_key_stays() {
    let Some(server) = start() else { return };
    revoke(&server, server.key()).assert_problem(409, "last_admin_key");
    let narrow = Request::patch(&path(server.key()), r#"{"scopes":["hash"]}"#);
    server.ask(narrow.clone()).assert_problem(409, "last_admin_key");
    made(&server, server.key(), &json!({ "name": "second", "scopes": ["admin"] }));
    assert_eq!(server.ask(narrow).status, 200);
}

#[test]
fn a_revocation_holds_on_every_worker_before_it_is_answered() {
    let Some(server) = start() else { return };
    for _ in 0..5 {
        let key = made(&server, server.key(), &json!({ "name": "crowd", "scopes": ["hash"] }));
        let by_token = token(&server, &key);
        let revoked = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let crowd: Vec<_> = (0..16)
                .map(|at| {
                    let (server, revoked) = (&server, &revoked);
                    let credential = if at % 2 == 0 { &key } else { &by_token };
                    let request = Request::get("/api/auth/profile").key(credential);
                    scope.spawn(move || {
                        let mut client = server.connect();
                        loop {
                            let after = revoked.load(Ordering::SeqCst);
                            let status = client.call(&request).status;
                            assert!(!after || status == 401, "{status} after the reply to the revocation");
                            if status == 401 {
                                return;
                            }
                        }
                    })
                })
                .collect();
            assert_eq!(revoke(&server, &key).status, 200);
            revoked.store(true, Ordering::SeqCst);
            crowd.into_iter().for_each(|one| one.join().unwrap());
        });
    }
}

#[test]
fn streams_of_a_revoked_key_end() {
    let Some(server) = start() else { return };
    assert_eq!(server.ask(Request::post("/api/keys", r#"{"name":"k"}"#)).status, 201);
    let key = made(&server, server.key(), &json!({ "name": "s", "scopes": ["encrypt:k", "audit.read"] }));
    let mut events = server.connect();
    events.send(&Request::get("/api/audit/stream").key(&key).bytes());
    assert_eq!(events.reply_to_head().status, 200);
    let mut sealing = server.connect();
    let head = Request::new("POST", "/api/stream/encrypt?key=k").key(&key).with("Content-Length", "1000000");
    sealing.send(&head.bytes());
    sealing.send(&[7; 100_000]);
    assert_eq!(sealing.reply_to_head().status, 200);
    assert_eq!(revoke(&server, &key).status, 200);
    assert!(events.drain() > 0);
    assert!(sealing.drain() < 1_000_000, "it was cut");
}

#[test]
fn a_token_allows_no_more_than_its_key_does_now() {
    let Some(server) = start() else { return };
    let key = made(&server, server.key(), &json!({ "name": "t", "scopes": ["hash", "entropy"] }));
    let by_token = token(&server, &key);
    let ask = |route: &str, body: Value| post(&server, &by_token, route, &body);
    assert_eq!(ask("/api/hash", json!({ "input": "" })).status, 200);
    assert_eq!(server.ask(Request::patch(&path(&key), r#"{"scopes":["entropy"]}"#)).status, 200);
    ask("/api/hash", json!({ "input": "" })).assert_problem(403, "insufficient_scope");
    assert_eq!(ask("/api/entropy/sample", json!({ "bytes": 1 })).status, 200);
    // What the key gets afterwards the token does not have.
    assert_eq!(server.ask(Request::patch(&path(&key), r#"{"scopes":["admin"]}"#)).status, 200);
    server.call(&Request::get("/api/keys").key(&by_token)).assert_problem(403, "insufficient_scope");
    let fresh = token(&server, &key);
    rotated(&server, &key, 3_600);
    assert_eq!([status(&server, &fresh), status(&server, &key)], [401, 200], "tokens do not overlap");
}

#[test]
fn api_keys_survive_a_kill() {
    let Some(server) = start() else { return };
    let key = made(&server, server.key(), &json!({ "name": "kept", "scopes": ["hash"] }));
    let ended = made(&server, server.key(), &json!({ "name": "ended", "scopes": ["hash"] }));
    let next = rotated(&server, &key, 3_600);
    let by_token = token(&server, &next);
    assert_eq!(revoke(&server, &ended).status, 200);
    let before = server.ask(Request::get(&path(&key))).json();
    let scratch = Arc::clone(server.scratch());
    server.signal(Signal::SIGKILL);
    server.wait();
    let Some(server) = Server::start_in(&scratch, &["--workers", "4"]) else { return };
    let now = [&key, &next, &by_token, &ended].map(|credential| status(&server, credential));
    assert_eq!(now, [200, 200, 200, 401]);
    let after = server.ask(Request::get(&path(&key))).json();
    for member in ["name", "scopes", "generation", "overlap_until", "created_at", "created_by", "state"] {
        assert_eq!(before[member], after[member], "{member}");
    }
    let uses = after["uses"].as_u64().unwrap();
    assert!((3..=before["uses"].as_u64().unwrap() + 3).contains(&uses), "{before} {after}");
}
