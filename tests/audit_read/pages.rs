//! Pages of the audit log.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::server::Server;
use crate::server::client::{Reply, Request};
use crate::{encrypt, in_files, is_of_keeper, must_create, start, text};

fn get(server: &Server, query: &str) -> Reply {
    server.ask(Request::get(&format!("/api/audit{query}")))
}

fn page(server: &Server, query: &str) -> Value {
    let reply = get(server, query);
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.field("Content-Type"), Some("application/json"));
    reply.json()
}

fn events(page: &Value) -> Vec<Value> {
    page.get("events").and_then(Value::as_array).unwrap().clone()
}

/// Every line that passes `filter`, newest first, read in pages of `limit`.
fn all(server: &Server, filter: &str, limit: usize) -> Vec<Value> {
    let (mut lines, mut before) = (Vec::new(), String::new());
    loop {
        let page = page(server, &format!("?limit={limit}{filter}{before}"));
        let found = events(&page);
        assert!(found.len() <= limit);
        lines.extend(found);
        match page.get("next").and_then(Value::as_str) {
            Some(next) => before = format!("&before={next}"),
            None => return lines,
        }
    }
}

fn same(mut one: Vec<Value>, mut other: Vec<Value>) -> bool {
    let key = |line: &Value| (text(line, "stream").to_owned(), line.get("seq").and_then(Value::as_u64));
    one.sort_by_key(key);
    other.sort_by_key(key);
    one == other
}

#[test]
fn every_filter_gives_the_lines_of_the_files_that_it_names() {
    let Some(server) = start(&["--workers", "2"]) else { return };
    must_create(&server, "other");
    let ids = encrypt(&server, 3);
    assert_eq!(server.ask(Request::post("/api/keys", r#"{"name":"orders","derived":true}"#)).status, 409);
    assert_eq!(server.call(&Request::get("/api/keys").key("wrong")).status, 401);
    let principal = server.key().split(['_', '.']).nth(1).unwrap();
    for (filter, held) in [
        (String::from("event=encrypt"), String::from("\"event\":\"encrypt\"")),
        ("event=key.*".into(), "\"event\":\"key.".into()),
        ("event=store.head".into(), "\"event\":\"store.head\"".into()),
        ("outcome=failure".into(), "\"outcome\":\"failure\"".into()),
        ("code=key_exists".into(), "\"code\":\"key_exists\"".into()),
        ("key=other".into(), "\"key\":\"other\"".into()),
        (format!("request_id={}", ids[1]), format!("\"request_id\":\"{}\"", ids[1])),
        (format!("principal={principal}&event=encr*"), "\"event\":\"encrypt\"".into()),
    ] {
        for limit in [1, 1_000] {
            // The keeper tells now and then how far the streams have come: what was read meanwhile is read again.
            let (shown, told) = loop {
                let told = in_files(&server, &held);
                let shown = all(&server, &format!("&{filter}"), limit);
                if in_files(&server, &held).len() == told.len() {
                    break (shown, told);
                }
            };
            assert!(!told.is_empty(), "{held}");
            assert!(same(shown, told), "{filter} {limit}");
        }
    }
    assert!(events(&page(&server, "?event=encrypt&outcome=attempt")).is_empty());
    assert!(events(&page(&server, "?principal=00000000")).is_empty());
}

#[test]
fn times_choose_lines_in_either_form() {
    let Some(server) = start(&["--workers", "1"]) else { return };
    encrypt(&server, 1);
    let line = events(&page(&server, "?event=encrypt")).remove(0);
    let at = text(&line, "ts").to_owned();
    let offset = format!("{}%2B00:00", at.trim_end_matches('Z'));
    for (query, passes) in [
        (format!("since={at}"), true),
        (format!("since={offset}&until=4102444800"), true),
        (format!("until={at}"), false),
        ("since=2100-01-01T00:00:00Z".into(), false),
        ("since=4102444800".into(), false),
        ("since=1".into(), true),
        ("until=1".into(), false),
    ] {
        let found = events(&page(&server, &format!("?event=encrypt&{query}")));
        assert_eq!(found == [line.clone()], passes, "{query}");
        assert_eq!(found.is_empty(), !passes, "{query}");
    }
}

#[test]
fn paging_loses_and_repeats_nothing_while_more_is_told() {
    let Some(server) = start(&["--workers", "2"]) else { return };
    let known: BTreeSet<String> = encrypt(&server, 500).into_iter().collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // No more than is kept in memory, however slow the pages come.
            for _ in 0..100 {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                encrypt(&server, 20);
            }
        });
        for limit in [7, 100, 1_000] {
            let lines = all(&server, "", limit);
            let places: BTreeSet<(&str, u64)> = lines
                .iter()
                .map(|line| (text(line, "stream"), line.get("seq").and_then(Value::as_u64).unwrap()))
                .collect();
            assert_eq!(places.len(), lines.len(), "{limit}: a line twice");
            let found: BTreeSet<String> =
                lines.iter().map(|line| text(line, "request_id").to_owned()).collect();
            assert!(known.is_subset(&found), "{limit}: {} of 500", known.intersection(&found).count());
            // Within each stream the numbers go down without a hole.
            for stream in lines.iter().map(|line| text(line, "stream")).collect::<BTreeSet<_>>() {
                let own = places.iter().filter(|(name, _)| *name == stream).map(|(_, seq)| *seq);
                let numbers: Vec<u64> = own.collect();
                let expected: Vec<u64> = (1..=*numbers.last().unwrap()).collect();
                assert_eq!(numbers, expected, "{stream}");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let page = page(&server, "?limit=1");
    assert_eq!(page.get("complete"), Some(&Value::Bool(true)), "{page}");
}

#[test]
fn a_page_says_where_it_stands_and_leaves_its_own_line() {
    let Some(server) = start(&["--workers", "1"]) else { return };
    let first = get(&server, "?limit=1");
    let shown = first.json();
    let (oldest, newest) = (text(&shown, "oldest").to_owned(), text(&shown, "newest").to_owned());
    let (start, number) = newest.rsplit_once('-').unwrap();
    assert_eq!(oldest, format!("{start}-1"));
    assert!(text(&events(&shown)[0], "stream").starts_with(start));
    assert_eq!(text(&shown, "next"), newest, "the newest line was shown, and what is older stands before it");
    let after = page(&server, "?limit=10");
    // The keeper's own lines may have come in between.
    let shown = events(&after);
    let number: u64 = number.parse().unwrap();
    let newest: u64 = text(&after, "newest").strip_prefix(&format!("{start}-")).unwrap().parse().unwrap();
    let fresh = &shown[..usize::try_from(newest - number).unwrap()];
    let own: Vec<&Value> = fresh.iter().filter(|line| !is_of_keeper(line)).collect();
    assert_eq!(own.len(), 1, "{shown:?}");
    assert_eq!((text(own[0], "event"), text(own[0], "outcome")), ("audit.read", "success"));
    assert_eq!(text(own[0], "request_id"), first.field("X-Request-Id").unwrap());
}

#[test]
fn wrong_parameters_and_cursors_that_are_gone_are_refused() {
    let Some(server) = start(&["--workers", "1"]) else { return };
    let newest = text(&page(&server, "?limit=1"), "newest").to_owned();
    let start = newest.rsplit_once('-').unwrap().0;
    for query in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "before=",
        "before=x",
        "outcome=ok",
        "since=yesterday",
        "since=2026-11-22",
        "until=",
        "since=0",
        &format!("key={}", "k".repeat(129)),
        &format!("before={start}-0"),
        &format!("before={start}-1000000"),
    ] {
        get(&server, &format!("?{query}")).assert_problem(400, "malformed_parameter");
    }
    get(&server, "?event=a&event=b").assert_problem(400, "repeated_parameter");
    get(&server, "?evnt=a").assert_problem(400, "unknown_parameter");
    get(&server, "?last_event_id=x").assert_problem(400, "unknown_parameter");
    get(&server, "?before=1-deadbeef-7").assert_problem(410, "audit_cursor_gone");
    assert_eq!(
        page(&server, &format!("?before={start}-1")).get("next"),
        None,
        "nothing stands before the first"
    );
    server.call(&Request::get("/api/audit")).assert_problem(401, "credential_missing");
    let refused = all(&server, "&event=audit.read&outcome=failure", 1_000);
    assert_eq!(refused.iter().filter(|line| text(line, "code") == "malformed_parameter").count(), 13);
    assert!(refused.iter().any(|line| text(line, "code") == "audit_cursor_gone"));
    assert!(refused.iter().any(|line| text(line, "code") == "credential_missing"));
}
