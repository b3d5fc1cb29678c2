//! Every route of the table with every kind of credential: what is served, what is refused, and that a refusal tells no more
//! than it must.
//!
//! The rows are those of `quantonium::api::route::TABLE`: a route that is added is asked here by itself.
//!
//! - `asked`: a whole request for a row.
//! - `callers`: API keys and tokens that work, and such as do not any more.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by a panic, its helping functions too"
)]

#[path = "auth_matrix/asked.rs"]
mod asked;
#[path = "auth_matrix/callers.rs"]
mod callers;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::fs;

use asked::{Place, about_a_key, named, plain};
use quantonium::api::route::{Access, Route, TABLE};
use quantonium::http::target::Method;
use quantonium::limits::REFUSAL_LINES_PER_SECOND_COUNT;
use quantonium::model::Permission;
use serde_json::{Value, json};
use server::client::{Reply, Request};
use server::{Server, read_lines};

/// Without a limit on addresses: everything here comes from one.
fn start() -> Option<Server> {
    Server::start(&["--workers", "2", "--address-rate-limit", "0"])
}

/// The rows that demand a credential.
fn guarded() -> impl Iterator<Item = &'static Route> {
    TABLE.iter().filter(|route| route.access != Access::Public)
}

fn is(reply: &Reply, status: u16, code: &str, challenge: Option<&str>, what: &str) {
    assert_eq!(reply.status, status, "{what}: {}", reply.text());
    reply.assert_problem(status, code);
    assert_eq!(reply.field("WWW-Authenticate"), challenge, "{what}");
}

fn is_out_of_scope(reply: &Reply, what: &str) {
    is(reply, 403, "insufficient_scope", Some("Bearer error=\"insufficient_scope\""), what);
}

fn is_served(reply: &Reply, what: &str) {
    assert!((200..300).contains(&reply.status), "{what}: {} {}", reply.status, reply.text());
    assert_eq!(reply.field("WWW-Authenticate"), None, "{what}");
}

/// The reply to `request` on a connection of its own; of a stream of events the head alone.
fn call(server: &Server, route: &Route, request: &Request) -> Reply {
    let mut client = server.connect();
    if route.pattern != "/api/audit/stream" {
        return client.call(request);
    }
    client.send(&request.bytes());
    client.reply_to_head()
}

/// The body but for what no two requests have in common.
fn body_of(reply: &Reply) -> String {
    reply.text().replace(reply.field("X-Request-Id").unwrap(), "-")
}

fn shown(route: &Route) -> String {
    format!("{} {}", route.method.name(), route.pattern)
}

/// The code of the audit line of each request.
fn codes(server: &Server) -> BTreeMap<String, String> {
    let folder = fs::read_dir(server.data_dir().join("audit")).unwrap();
    let texts: Vec<String> = folder.map(|entry| read_lines(&entry.unwrap().path())).collect();
    let lines = texts.iter().flat_map(|text| text.lines());
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told = lines.filter_map(|line| {
        Some((line.get("request_id")?.as_str()?.to_owned(), line.get("code")?.as_str()?.to_owned()))
    });
    told.collect()
}

/// Asks every row with every one of these credentials, none of which is recognised.
fn assert_nobody(server: &Server, credentials: &[(&'static str, String)]) {
    // In one second so many refusals have a line of their own, on each worker; the others are counted.
    assert!((credentials.len() as u64) < REFUSAL_LINES_PER_SECOND_COUNT);
    let mut first = Vec::new();
    for (code, credential) in credentials {
        let reply = server.call(&Request::get("/api/keys").key(credential));
        first.push((reply.field("X-Request-Id").unwrap().to_owned(), *code));
    }
    let mut bodies = Vec::new();
    let mut wanted = Vec::new();
    for route in guarded() {
        for (code, credential) in credentials {
            let what = format!("{} {code}", shown(route));
            for request in [
                plain(route).key(credential),
                plain(route).with("Authorization", &format!("Bearer {credential}")),
            ] {
                let reply = server.call(&request);
                is(&reply, 401, "credential_invalid", Some("Bearer error=\"invalid_token\""), &what);
                bodies.push(body_of(&reply));
                wanted.push((reply.field("X-Request-Id").unwrap().to_owned(), *code, what.clone()));
            }
        }
    }
    bodies.sort_unstable();
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "the bodies tell the reasons apart: {bodies:?}");
    let codes = codes(server);
    for (id, code) in first {
        assert_eq!(codes.get(&id).map(String::as_str), Some(code));
    }
    for (id, code, what) in wanted {
        assert!(codes.get(&id).is_none_or(|told| told == code), "{what}: {:?}", codes.get(&id));
    }
}

#[test]
fn what_is_public_needs_no_credential_and_does_not_look_at_one() {
    let Some(server) = start() else { return };
    for route in TABLE.iter().filter(|route| route.access == Access::Public) {
        for request in [plain(route), plain(route).key("nonsense")] {
            // The description is sent compressed alone.
            let request = request.with("Accept-Encoding", "gzip");
            assert_eq!(server.call(&request).status, 200, "{}", shown(route));
        }
    }
}

#[test]
fn who_brings_no_credential_is_told_how_to_bring_one() {
    let Some(server) = start() else { return };
    let mut bodies = Vec::new();
    for route in guarded() {
        let reply = server.call(&plain(route));
        is(&reply, 401, "credential_missing", Some("Bearer"), &shown(route));
        bodies.push(body_of(&reply));
        if route.method == Method::Get {
            let reply = server.call(&Request::new("HEAD", &asked::target(route, "in-none", "00000000")));
            let told = (reply.status, reply.field("WWW-Authenticate"));
            assert_eq!(told, (401, Some("Bearer")), "HEAD {}", shown(route));
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

#[test]
fn whoever_is_not_recognised_is_refused_alike_everywhere() {
    let Some(server) = start() else { return };
    let mut credentials = callers::without_a_key(&server);
    credentials.extend(callers::api_keys_that_ended(&server));
    credentials.extend(callers::tokens_that_ended(&server));
    assert_nobody(&server, &credentials);
}

#[test]
fn an_expired_token_is_refused_everywhere() {
    let Some(server) = start() else { return };
    let token = callers::expired_token(&server);
    assert_nobody(&server, &[("token_expired", token)]);
}

#[test]
fn two_credentials_are_no_credential() {
    let Some(server) = start() else { return };
    let twice = format!("Bearer {}", server.key());
    for route in guarded() {
        let reply = server.call(&plain(route).key(server.key()).with("Authorization", &twice));
        is(&reply, 400, "credential_repeated", None, &shown(route));
    }
}

#[test]
fn every_scope_but_the_one_that_is_needed_is_not_enough() {
    let Some(server) = start() else { return };
    let mut bodies = Vec::new();
    for route in guarded() {
        let Some(needed) = route.permission() else { continue };
        let others = Permission::ALL.into_iter().filter(|other| *other != needed);
        let key = callers::made(&server, &others.map(Permission::name).collect::<Vec<_>>());
        let token = callers::token(&server, &key, &json!({}));
        for credential in [&key, &token] {
            // With a body and without: the refusal does not wait for it.
            for request in [plain(route), Request::new(route.method.name(), &asked::target(route, "a", "0"))]
            {
                let reply = server.call(&request.key(credential));
                is_out_of_scope(&reply, &shown(route));
                bodies.push(body_of(&reply));
            }
        }
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "{bodies:?}");
}

#[test]
fn a_name_outside_the_globs_is_refused_whether_such_a_key_exists_or_not() {
    let Some(server) = start() else { return };
    let place = Place::new(&server, "in-1");
    for route in guarded().filter(|route| about_a_key(route)) {
        let scope = format!("{}:other-*", route.permission().unwrap().name());
        let key = callers::made(&server, &[&scope]);
        let token = callers::token(&server, &key, &json!({}));
        for credential in [&key, &token] {
            let replies = ["in-1", "in-none"].map(|name| {
                let reply = server.call(&named(route, &place, name).key(credential));
                is_out_of_scope(&reply, &format!("{} {name}", shown(route)));
                body_of(&reply)
            });
            assert_eq!(replies[0], replies[1], "{}", shown(route));
        }
    }
    // What lists keys leaves out those that the scopes do not reach.
    let reader = callers::made(&server, &["keys.read:other-*"]);
    let listed = server.call(&Request::get("/api/keys").key(&reader));
    assert_eq!((listed.status, &listed.json()["keys"]), (200, &json!([])));
}

#[test]
fn a_name_inside_the_globs_is_unknown_or_served() {
    let Some(server) = start() else { return };
    for (at, route) in guarded().enumerate().filter(|(_, route)| about_a_key(route)) {
        let scope = format!("{}:in-*", route.permission().unwrap().name());
        let key = callers::made(&server, &[&scope]);
        let token = callers::token(&server, &key, &json!({}));
        for (which, credential) in [key, token].iter().enumerate() {
            let place = Place::new(&server, &format!("in-{at}-{which}"));
            place.prepare(&server, route);
            let makes = asked::makes_a_key(route);
            if !makes {
                let reply = server.call(&named(route, &place, "in-none").key(credential));
                is(&reply, 404, "unknown_key", None, &shown(route));
            }
            let name = if makes { format!("in-{at}-{which}-new") } else { place.name.clone() };
            is_served(&server.call(&named(route, &place, &name).key(credential)), &shown(route));
        }
    }
}

#[test]
fn the_right_scope_is_enough_and_what_manages_api_keys_takes_no_token() {
    let Some(server) = start() else { return };
    for (at, route) in guarded().enumerate().filter(|(_, route)| !about_a_key(route)) {
        let scope = route.permission().unwrap_or(Permission::Hash).name();
        let key = callers::made(&server, &[scope]);
        let token = callers::token(&server, &key, &json!({}));
        let place = Place::new(&server, &format!("in-{at}"));
        place.prepare(&server, route);
        let manages = route.method != Method::Get && route.pattern.starts_with("/api/auth/");
        let reply = call(&server, route, &named(route, &place, "in-1").key(&token));
        if manages {
            is(&reply, 403, "api_key_required", None, &shown(route));
        } else {
            is_served(&reply, &shown(route));
        }
        is_served(&call(&server, route, &named(route, &place, "in-1").key(&key)), &shown(route));
    }
}
