//! Every row of the second face's table with credentials that do not suffice: a refusal tells nothing, and leaves a line.
//!
//! The rows are those of `quantonium::api::vault::route::TABLE`: a path that is added is asked here by itself.

use std::collections::BTreeMap;
use std::fs;

use quantonium::api::route::{Access, Route};
use quantonium::api::vault::route::TABLE;
use quantonium::http::target::Method;
use quantonium::model::Permission;
use serde_json::{Value, json};

use super::{ask, create, data, error};
use crate::callers;
use crate::server::Server;
use crate::server::client::{Reply, Request};

const DENIED: &str = "{\"errors\":[\"permission denied\"]}\n";

/// Without a limit on addresses: everything here comes from one.
fn start() -> Option<Server> {
    Server::start(&["--address-rate-limit", "0"])
}

/// The rows that demand a credential in a field.
fn guarded() -> impl Iterator<Item = &'static Route> {
    TABLE.iter().filter(|route| !matches!(route.access, Access::Public | Access::Presented))
}

fn request(route: &Route, name: &str, body: &str) -> Request {
    let mut path = route.pattern.replace("{mount}", "transit").replace("{name}", name);
    let filled = [
        ("{algorithm}", "sha2-256"),
        ("{kind}", "encryption-key"),
        ("{version}", "1"),
        ("{source}", "platform"),
        ("{bytes}", "8"),
        ("{mounted}", "transit"),
    ];
    for (part, text) in filled {
        path = path.replace(part, text);
    }
    assert!(!path.contains('{'), "{path}");
    let request = Request::new(route.method.name(), &path);
    if route.method == Method::Post { request.body(body) } else { request }
}

fn shown(route: &Route) -> String {
    format!("{} {}", route.method.name(), route.pattern)
}

fn assert_denied(reply: &Reply, what: &str) {
    assert_eq!((reply.status, reply.text()), (403, DENIED), "{what}");
    assert_eq!(reply.field("Content-Type"), Some("application/json"), "{what}");
    assert_eq!(reply.field("WWW-Authenticate"), None, "{what}");
}

/// The audit lines of requests, by their identifiers.
fn lines(server: &Server) -> BTreeMap<String, Value> {
    let folder = fs::read_dir(server.data_dir().join("audit")).unwrap();
    let texts: Vec<String> = folder.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    // Up to the last end of a line: what is written at this moment is none of what was asked here.
    let whole = texts.iter().filter_map(|text| text.rsplit_once('\n')).map(|(whole, _)| whole);
    let lines = whole.flat_map(str::lines);
    let lines = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|line| Some((line.get("request_id")?.as_str()?.to_owned(), line))).collect()
}

/// Asserts that a refusal left a line that names who asked for what, and why he did not get it.
fn assert_told(lines: &BTreeMap<String, Value>, reply: &Reply, route: &Route, credential: &str) {
    let line = &lines[reply.field("X-Request-Id").unwrap()];
    let what = shown(route);
    assert_eq!(line["event"].as_str(), route.event, "{what}");
    assert_eq!((&line["code"], &line["status"]), (&json!("insufficient_scope"), &json!(403)), "{what}");
    assert_eq!((&line["route"], &line["principal"]), (&json!(route.pattern), &json!(&credential[3..11])));
}

#[test]
fn nobody_is_told_more_than_that_he_is_not_let_in() {
    let Some(server) = start() else { return };
    let mut credentials = callers::without_a_key(&server);
    credentials.extend(callers::api_keys_that_ended(&server));
    credentials.extend(callers::tokens_that_ended(&server));
    credentials.push(("token_expired", callers::expired_token(&server)));
    let mut asked = Vec::new();
    for route in guarded() {
        assert_denied(&server.call(&request(route, "orders", "{}")), &shown(route));
        for (at, (code, credential)) in credentials.iter().enumerate() {
            let request = request(route, "orders", "{}");
            let request = if at % 2 == 0 {
                request.with("X-Vault-Token", credential)
            } else {
                request.with("Authorization", &format!("Bearer {credential}"))
            };
            let reply = server.call(&request);
            assert_denied(&reply, &format!("{} {code}", shown(route)));
            asked.push((reply.field("X-Request-Id").unwrap().to_owned(), *code, route));
        }
    }
    // Not every refusal of a stranger has a line; those that have one name the reason.
    let lines = lines(&server);
    let told = asked.iter().filter_map(|(id, code, route)| Some((lines.get(id)?, code, route)));
    let mut count = 0;
    for (line, code, route) in told {
        assert_eq!((&line["code"], line["event"].as_str()), (&json!(code), route.event), "{}", shown(route));
        count += 1;
    }
    assert!(count > 0, "no refusal has a line");
}

#[test]
fn every_scope_but_the_one_that_a_path_demands_is_not_enough() {
    let Some(server) = start() else { return };
    create(&server, "orders", "chacha20-poly1305");
    let mut keys = BTreeMap::new();
    let mut asked = Vec::new();
    for route in guarded() {
        let Some(needed) = route.permission() else { continue };
        let key = keys.entry(needed.name()).or_insert_with(|| {
            let others = Permission::ALL.into_iter().filter(|other| *other != needed);
            callers::made(&server, &others.map(Permission::name).collect::<Vec<_>>())
        });
        for body in ["{}", "", "[", "{\"batch_input\":[{}]}"] {
            let reply = server.call(&request(route, "orders", body).with("X-Vault-Token", key));
            assert_denied(&reply, &shown(route));
            asked.push((reply, route, key.clone()));
        }
    }
    let lines = lines(&server);
    for (reply, route, key) in &asked {
        assert_told(&lines, reply, route, key);
    }
}

#[test]
fn a_name_outside_the_globs_is_refused_whether_such_a_key_exists_or_not() {
    let Some(server) = start() else { return };
    let options = json!({"exportable": true, "allow_plaintext_backup": true}).to_string();
    data(&ask(&server, Request::post("/v1/transit/keys/orders", options)));
    let backup = data(&ask(&server, Request::get("/v1/transit/backup/orders")));
    let mut asked = Vec::new();
    for route in guarded().filter(|route| route.pattern.contains("{name}")) {
        let scope = format!("{}:other-*", route.permission().unwrap().name());
        let key = callers::made(&server, &[&scope]);
        for name in ["orders", "none"] {
            let reply = server.call(&request(route, name, "{}").with("X-Vault-Token", &key));
            assert_denied(&reply, &format!("{} {name}", shown(route)));
            asked.push((reply, route, key.clone()));
        }
    }
    // Where the name stands in what is restored, and where it stands in both.
    let key = callers::made(&server, &["keys.manage:other-*", "keys.read:other-*"]);
    for (pattern, name) in [("/v1/{mount}/restore", "-"), ("/v1/{mount}/restore/{name}", "none")] {
        let route = TABLE.iter().find(|route| route.pattern == pattern).unwrap();
        let reply = server.call(&request(route, name, &backup.to_string()).with("X-Vault-Token", &key));
        assert_denied(&reply, pattern);
        asked.push((reply, route, key.clone()));
    }
    let listed = server.call(&Request::new("LIST", "/v1/transit/keys").with("X-Vault-Token", &key));
    assert_eq!((listed.status, error(&listed).as_str()), (404, ""));
    let lines = lines(&server);
    for (reply, route, key) in &asked {
        assert_told(&lines, reply, route, key);
    }
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back() {
    let Some(server) = start() else { return };
    create(&server, "orders", "chacha20-poly1305");
    let terms = json!({"name": "slow", "scopes": ["admin"], "rate_limit": {"per_second": 1, "burst": 1}});
    let key = server.ask(Request::post("/api/auth/keys", terms.to_string())).member("api_key");
    for route in guarded().filter(|route| route.method == Method::Get) {
        // However fast the machine is: each reply takes less than the second that a token takes to come.
        let limited = (0..100).find_map(|_| {
            let reply = server.call(&request(route, "orders", "").with("X-Vault-Token", &key));
            (reply.status == 429).then_some(reply)
        });
        let limited = limited.unwrap_or_else(|| panic!("{} is not limited", shown(route)));
        assert!(!error(&limited).is_empty());
        assert!(limited.field("Retry-After").is_some(), "{}", shown(route));
    }
}
