//! The description of the API, `docs/openapi.json`, is true to the code.
//!
//! Owns the comparison with the table of routes and with the list of problems. What the running server does is held to it
//! by `openapi_served`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic, its helping functions too"
)]

use std::collections::{BTreeMap, BTreeSet};

use quantonium::api::route::{Access, Route, Serving, TABLE};
use quantonium::http::status::Status;
use serde_json::Value;

const API: &str = include_str!("../docs/API.md");

fn document() -> Value {
    serde_json::from_str(include_str!("../docs/openapi.json")).unwrap()
}

/// Every operation, with the method and path that it is for.
fn operations(document: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters")
        {
            let mut operation = operation.clone();
            let shared = item.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
            let own = operation.get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
            operation["parameters"] = Value::Array([shared, own].concat());
            found.insert(format!("{} {path}", method.to_uppercase()), operation);
        }
    }
    found
}

fn name(route: &Route) -> String {
    format!("{} {}", route.method.name(), route.pattern)
}

/// What a reference leads to, or the value itself.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(place) = value.get("$ref").and_then(Value::as_str) else { return value };
    document.pointer(place.strip_prefix('#').unwrap()).unwrap_or_else(|| panic!("{place} leads nowhere"))
}

#[test]
fn every_route_is_described_and_no_other() {
    let described: BTreeSet<String> = operations(&document()).into_keys().collect();
    let served: BTreeSet<String> = TABLE.iter().map(name).collect();
    assert_eq!(described, served);
}

#[test]
fn permission_event_and_credential_are_those_of_the_route() {
    let operations = operations(&document());
    for route in TABLE {
        let operation = &operations[&name(route)];
        let permission = match route.access {
            Access::Public => "none",
            Access::Recognised => "any",
            Access::Permitted(permission) => permission.name(),
            Access::Presented => {
                panic!("{}: the second face alone takes credentials in its body", name(route))
            }
        };
        assert_eq!(operation["x-permission"], permission, "{}", name(route));
        assert_eq!(operation.get("x-event").and_then(Value::as_str), route.event, "{}", name(route));
        let security = operation["security"].as_array().unwrap();
        assert_eq!(security.is_empty(), route.access == Access::Public, "{}", name(route));
        assert_eq!(operation["responses"].get("401").is_some(), route.access != Access::Public);
        assert!(operation["responses"].get("403").is_some(), "{}", name(route));
    }
}

#[test]
fn variable_parts_of_paths_are_parameters_and_bodies_are_where_routes_take_them() {
    let document = document();
    for (name, operation) in operations(&document) {
        let parameters = operation["parameters"].as_array().unwrap();
        let in_path: Vec<&str> = parameters
            .iter()
            .map(|parameter| resolved(&document, parameter))
            .filter(|parameter| parameter["in"] == "path")
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let wanted: Vec<&str> = name.split('{').skip(1).map(|rest| rest.split('}').next().unwrap()).collect();
        assert_eq!(in_path, wanted, "{name}");
        let route = TABLE.iter().find(|route| self::name(route) == name).unwrap();
        let takes = match route.serving {
            Serving::Whole(_, most) => most > 0 && !name.starts_with("GET"),
            Serving::Streamed(_) => true,
            Serving::Events => false,
        };
        assert_eq!(operation.get("requestBody").is_some(), takes, "{name}");
    }
}

/// The codes of the table of errors in the document for people, with their statuses.
fn told() -> BTreeMap<String, u64> {
    let section = API.split("\n| code | status | when |\n").nth(1).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| {
        let (code, rest) = row.split_once("` | ").unwrap();
        (code.to_owned(), rest.split(" |").next().unwrap().parse().unwrap())
    })
    .collect()
}

/// `tests/formats.rs` holds that table to the sources.
#[test]
fn the_list_of_problems_is_that_of_the_document_for_people() {
    let document = document();
    let listed = document["x-problems"].as_object().unwrap();
    let listed: BTreeMap<String, u64> =
        listed.iter().map(|(code, problem)| (code.clone(), problem["status"].as_u64().unwrap())).collect();
    assert_eq!(listed, told());
}

/// Every code that a schema of `code` lists, with those that it refers to.
fn codes(document: &Value, schema: &Value, found: &mut BTreeSet<String>) {
    let schema = resolved(document, schema);
    for code in schema.get("enum").and_then(Value::as_array).into_iter().flatten() {
        found.insert(code.as_str().unwrap().to_owned());
    }
    for choice in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        codes(document, choice, found);
    }
}

#[test]
fn every_code_stands_under_its_status_and_is_told_by_some_operation() {
    let document = document();
    let listed = told();
    let mut seen = BTreeSet::new();
    for (name, operation) in operations(&document) {
        for (status, reply) in operation["responses"].as_object().unwrap() {
            let reply = resolved(&document, reply);
            let problem = &reply["content"]["application/problem+json"]["schema"];
            let mut of_reply = BTreeSet::new();
            codes(&document, &problem["properties"]["code"], &mut of_reply);
            assert_eq!(of_reply.is_empty(), status.starts_with(['2', '3']), "{name} {status}");
            for code in of_reply {
                assert_eq!(listed[&code].to_string(), *status, "{name} {code}");
                seen.insert(code);
            }
        }
    }
    // What is told of a path or of a method that is not there is told by no operation.
    seen.insert("method_not_allowed".to_owned());
    assert_eq!(seen, listed.into_keys().collect());
}

#[test]
fn every_reply_has_the_fields_that_every_reply_has() {
    let document = document();
    let always = [
        "X-Request-Id",
        "Server-Timing",
        "X-Request-Time",
        "Cache-Control",
        "X-Content-Type-Options",
        "Content-Security-Policy",
        "X-Frame-Options",
        "Referrer-Policy",
        "Permissions-Policy",
        "Cross-Origin-Resource-Policy",
        "Strict-Transport-Security",
    ];
    for (name, operation) in operations(&document) {
        for (status, reply) in operation["responses"].as_object().unwrap() {
            let fields = resolved(&document, reply)["headers"].as_object().unwrap();
            assert!(always.iter().all(|field| fields.contains_key(*field)), "{name} {status}");
            let wanted = match status.as_str() {
                "401" => &["WWW-Authenticate"][..],
                "429" => &["Retry-After", "RateLimit", "RateLimit-Policy", "X-RateLimit-Reset"],
                "503" => &["Retry-After"],
                _ => &[],
            };
            for field in wanted {
                assert!(fields.contains_key(*field), "{name} {status} {field}");
            }
            let known = Status::ALL.iter().any(|known| known.code().to_string() == *status);
            assert!(known, "{name} {status}");
        }
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_operation_has_its_own_name() {
    let document = document();
    let mut waiting = vec![&document];
    let mut count = 0;
    while let Some(value) = waiting.pop() {
        if value.get("$ref").is_some_and(Value::is_string) {
            resolved(&document, value);
            count += 1;
        }
        match value {
            Value::Array(items) => waiting.extend(items),
            Value::Object(members) => waiting.extend(members.values()),
            _ => {}
        }
    }
    assert!(count > 100, "{count}");
    let operations = operations(&document);
    let names: BTreeSet<&str> =
        operations.values().map(|operation| operation["operationId"].as_str().unwrap()).collect();
    assert_eq!(names.len(), operations.len());
}
