//! Streams of audit lines.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use quantonium::limits::{AUDIT_FOLLOWERS_MAX_COUNT, AUDIT_RECENT_BYTES, AUDIT_STREAM_HEARTBEAT_MILLIS};
use serde_json::Value;

use crate::in_process::InProcess;
use crate::reader::{Event, Reader, request};
use crate::server::client::Request;
use crate::server::{Server, comes};
use crate::{encrypt, in_files, must_create, start, text};

/// A stream whose own beginning was seen.
fn follow(server: &Server, query: &str, fields: &str) -> Reader {
    let reader = Reader::open(server, query, fields);
    assert!(reader.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", reader.head);
    assert!(reader.head.contains("\r\nContent-Type: text/event-stream\r\n"), "{}", reader.head);
    assert!(reader.head.contains("\r\nConnection: close\r\n"), "{}", reader.head);
    reader
}

fn is(event: &'static str, outcome: &'static str) -> impl Fn(&Event) -> bool {
    move |found| found.text("event") == event && found.text("outcome") == outcome
}

fn number(id: &str) -> u64 {
    id.rsplit_once('-').unwrap().1.parse().unwrap()
}

/// A stream of what is told of streams, as soon as there is a place for it.
fn follow_streams(server: &Server) -> Reader {
    let mut opened = None;
    let is_open = comes(|| {
        let reader = Reader::open(server, "?event=audit.stream&since=1", "");
        opened = reader.head.starts_with("HTTP/1.1 200 ").then_some(reader);
        opened.is_some()
    });
    assert!(is_open, "no place is given back");
    opened.unwrap()
}

/// Tells more than is kept in memory.
fn overflow(server: &Server) {
    // No line of such a refusal is as short.
    let target = AUDIT_RECENT_BYTES / 200;
    let mut told = 0;
    while told < target {
        // Refusals of the route are quick, and have a line each.
        let batch: Vec<u8> =
            (0..1_000).flat_map(|_| Request::get("/api/keys/none").key(server.key()).bytes()).collect();
        let mut client = server.connect();
        client.send(&batch);
        for _ in 0..1_000 {
            assert_eq!(client.reply().status, 404);
        }
        told += 1_000;
    }
}

#[test]
fn a_stream_shows_its_own_beginning_and_then_every_line_once() {
    let Some(server) = start(&["--workers", "2"]) else { return };
    let mut reader = follow(&server, "", "");
    let first = reader.next();
    assert!(is("audit.stream", "begin")(&first) && first.name == "audit", "{first:?}");
    let id = reader.head.split("X-Request-Id: ").nth(1).unwrap().split("\r\n").next().unwrap();
    assert_eq!(first.text("request_id"), id);
    let mut wanted: BTreeSet<String> = BTreeSet::new();
    std::thread::scope(|scope| {
        let loads: Vec<_> = (0..3).map(|_| scope.spawn(|| encrypt(&server, 300))).collect();
        for load in loads {
            wanted.extend(load.join().unwrap());
        }
    });
    let mut last = number(&first.id);
    while !wanted.is_empty() {
        let event = reader.next();
        assert_eq!(number(&event.id), last + 1, "{event:?}");
        last += 1;
        assert!(event.is_of_keeper() || wanted.remove(event.text("request_id")), "{event:?}");
    }
    // Nothing but what was asked for, and the keeper, has left a line: a stream does not feed itself.
    let more = encrypt(&server, 1);
    loop {
        let event = reader.next();
        assert_eq!(number(&event.id), last + 1, "{event:?}");
        last += 1;
        if !event.is_of_keeper() {
            assert_eq!(event.text("request_id"), more[0]);
            break;
        }
    }
}

#[test]
fn a_stream_is_resumed_without_loss_or_repetition() {
    let Some(server) = start(&["--workers", "2"]) else { return };
    let mut reader = follow(&server, "?event=encrypt", "");
    encrypt(&server, 3);
    let seen: Vec<Event> = (0..3).map(|_| reader.next()).collect();
    drop(reader);
    let more = encrypt(&server, 400);
    // The field counts more than the query, whose place a browser keeps for ever.
    let old = format!("?event=encrypt&last_event_id={}", seen[0].id);
    let field = format!("Last-Event-ID: {}\r\n", seen[2].id);
    for (query, fields, skipped) in [(&*old, &*field, 0), ("?event=encrypt", &*field, 0), (&*old, "", 2)] {
        let mut reader = follow(&server, query, fields);
        for _ in 0..skipped {
            assert_eq!(reader.next().name, "audit");
        }
        let ids: Vec<String> = (0..400).map(|_| reader.next().text("request_id").to_owned()).collect();
        assert_eq!(ids, more, "{query} {fields}");
    }
    // A page names the place from which a stream goes on.
    let newest = text(&server.ask(Request::get("/api/audit?limit=1")).json(), "newest").to_owned();
    let mut reader = follow(&server, &format!("?last_event_id={newest}"), "");
    let mut last = number(&newest);
    let event = loop {
        let event = reader.next();
        assert_eq!(number(&event.id), last + 1, "{event:?}");
        last += 1;
        // The streams of before may end only now.
        let is_end = is("audit.stream", "success")(&event) || is("audit.stream", "failure")(&event);
        if !is_end && !event.is_of_keeper() {
            break event;
        }
    };
    assert!(is("audit.read", "success")(&event), "{event:?}");
}

#[test]
fn what_fell_out_of_memory_is_told_as_a_gap() {
    let Some(server) = start(&["--workers", "2"]) else { return };
    let first = follow(&server, "", "").next().id;
    let cursor = text(&server.ask(Request::get("/api/audit?limit=1")).json(), "next").to_owned();
    overflow(&server);
    let is_told_once = (0..3).any(|_| {
        let mut reader = follow(&server, &format!("?last_event_id={first}"), "");
        let gap = reader.next();
        assert_eq!(gap.name, "gap", "{gap:?}");
        let next = reader.next();
        assert_eq!((gap.text("next"), number(&gap.id) + 1), (&*next.id, number(&next.id)));
        assert!(number(&next.id) > number(&first) + 1);
        // The lines of these streams may be the ones for which the oldest block goes: then there is another gap.
        let resumed = follow(&server, "", &format!("Last-Event-ID: {}\r\n", gap.id)).next();
        assert!(resumed.name == "gap" || resumed.id == next.id, "{resumed:?} after {next:?}");
        resumed.id == next.id
    });
    assert!(is_told_once, "whoever comes back with the identifier of the gap is told of it again");
    let other = follow(&server, "", "Last-Event-ID: 1-deadbeef-7\r\n").next();
    assert_eq!(other.name, "gap", "{other:?}");
    let page = server.ask(Request::get("/api/audit?limit=1")).json();
    assert_eq!(page.get("complete"), Some(&Value::Bool(false)), "{page}");
    server.ask(Request::get(&format!("/api/audit?before={cursor}"))).assert_problem(410, "audit_cursor_gone");
}

#[test]
fn a_client_that_does_not_read_is_cut() {
    let Some(server) = start(&["--workers", "2", "--write-timeout-ms", "1000"]) else { return };
    let slow = follow(&server, "?since=1", "");
    socket2::SockRef::from(slow.socket()).set_recv_buffer_size(4 * 1024).unwrap();
    // Until it is more than the windows of both ends hold: what falls out of memory before a look at it is not sent.
    let mut told = Vec::new();
    let is_cut = comes(|| {
        overflow(&server);
        told = in_files(&server, "\"code\":\"write_timeout\"");
        !told.is_empty()
    });
    assert!(is_cut, "whoever does not read is waited for");
    let end = &told[0];
    assert_eq!((text(end, "event"), text(end, "outcome")), ("audit.stream", "failure"));
    assert!(end.get("bytes_out").and_then(Value::as_u64).unwrap() > 0, "{end:?}");
    let mut slow = slow;
    assert!(!slow.is_whole(), "a cut stream has no clean end");
}

#[test]
fn a_stream_ends_cleanly_when_the_server_does() {
    let Some(server) = start(&["--workers", "1"]) else { return };
    let mut streams: Vec<Reader> = (0..3).map(|_| follow(&server, "", "")).collect();
    let audit = server.data_dir().join("audit");
    let scratch = std::sync::Arc::clone(server.scratch());
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for reader in &mut streams {
        assert!(reader.is_whole(), "{}", reader.head);
    }
    let folder = std::fs::read_dir(audit).unwrap();
    let texts: String = folder.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    let told = |outcome: &str| {
        let member = format!("\"event\":\"audit.stream\",\"outcome\":\"{outcome}\"");
        texts.lines().filter(|line| line.contains(&member)).count()
    };
    assert_eq!((told("begin"), told("success"), told("failure")), (3, 3, 0));
    drop(scratch);
}

#[test]
fn a_client_that_leaves_gives_its_place_back() {
    let Some(server) = start(&["--workers", "2"]) else { return };
    let mut streams: Vec<Reader> = (0..AUDIT_FOLLOWERS_MAX_COUNT).map(|_| follow(&server, "", "")).collect();
    let refused = server.ask(Request::get("/api/audit/stream"));
    refused.assert_problem(503, "too_many_streams");
    assert_eq!(refused.field("Retry-After"), Some("1"));
    let mut leaving = streams.pop().unwrap();
    leaving.socket().shutdown(Shutdown::Write).unwrap();
    assert!(leaving.is_whole(), "whoever stops to send is told the end");
    // The first of them: where the place comes back a moment after the end was seen, there are more.
    let mut told = follow_streams(&server);
    let refusal = told.until(|event| event.text("outcome") == "failure").data;
    let end = told.until(|event| event.text("outcome") == "success").data;
    assert_eq!((text(&end, "outcome"), text(&end, "code")), ("success", ""), "{end}");
    assert!(
        end.get("bytes_out").and_then(Value::as_u64).unwrap() > 0 && end.get("bytes_in") == Some(&0.into()),
        "{end}"
    );
    assert_eq!((text(&refusal, "code"), refusal.get("status")), ("too_many_streams", Some(&503.into())));
}

#[test]
fn refusals_are_ordinary_replies_with_a_line() {
    let Some(server) = start(&["--workers", "1"]) else { return };
    let anonymous = server.call(&Request::get("/api/audit/stream"));
    anonymous.assert_problem(401, "credential_missing");
    assert_eq!(anonymous.field("WWW-Authenticate"), Some("Bearer"));
    let newest = text(&server.ask(Request::get("/api/audit?limit=1")).json(), "newest").to_owned();
    let start = newest.rsplit_once('-').unwrap().0;
    for (query, code) in [
        ("?limit=1".to_owned(), "unknown_parameter"),
        ("?outcome=ok".into(), "malformed_parameter"),
        ("?last_event_id=x".into(), "malformed_event_id"),
        (format!("?last_event_id={start}-1000000"), "malformed_event_id"),
    ] {
        server.ask(Request::get(&format!("/api/audit/stream{query}"))).assert_problem(400, code);
        assert_eq!(
            in_files(&server, &format!("\"code\":\"{code}\""))
                .last()
                .map(|line| text(line, "event").to_owned()),
            Some("audit.stream".into()),
            "{query}"
        );
    }
    let twice = Request::get("/api/audit/stream").with("Last-Event-ID", "a-1").with("last-event-id", "a-1");
    server.ask(twice).assert_problem(400, "repeated_field");
    server.ask(Request::new("GET", "/api/audit/stream").body("x")).assert_problem(413, "body_too_large");
    server.ask(Request::post("/api/audit/stream", "")).assert_problem(405, "method_not_allowed");
    let after = server.ask(Request::get("/api/audit/stream?outcome=ok"));
    assert!(!after.closes(), "a refusal does not cost the connection");
}

#[test]
fn head_gives_the_fields_and_old_clients_an_end_with_the_connection() {
    let Some(server) = start(&["--workers", "1"]) else { return };
    let mut client = server.connect();
    client.send(&Request::new("HEAD", "/api/audit/stream").key(server.key()).bytes());
    let reply = client.reply_to_head();
    assert_eq!((reply.status, reply.field("Content-Type")), (200, Some("text/event-stream")));
    assert!(reply.closes() && client.ends());
    let mut old = Reader::send(&server, &request(server.key(), "", "HTTP/1.0", ""));
    assert!(old.head.starts_with("HTTP/1.1 200 ") && !old.head.contains("Transfer-Encoding"), "{}", old.head);
    assert!(is("audit.stream", "begin")(&old.next_asked()));
    encrypt(&server, 2);
    assert_eq!((old.next_asked().text("event"), old.next_asked().text("event")), ("encrypt", "encrypt"));
    server.signal(Signal::SIGTERM);
    assert!(old.is_whole());
    assert_eq!(server.wait().code, Some(0));
}

#[test]
fn curl_shows_lines_as_they_come() {
    let Some(server) = start(&["--workers", "1"]) else { return };
    let url = format!("http://{}/api/audit/stream?event=key.*", server.address());
    let credential = format!("X-API-Key: {}", server.key());
    let curl = Command::new("curl").args(["-sN", "-H", &credential, &url]).stdout(Stdio::piped()).spawn();
    let Ok(mut curl) = curl else { return crate::server::skip("curl is not here") };
    let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "retry: 2000");
    must_create(&server, "later");
    let shown =
        lines.by_ref().find(|line| line.starts_with("data: ") && line.contains("\"success\"")).unwrap();
    assert!(shown.contains("\"event\":\"key.create\"") && shown.contains("\"key\":\"later\""), "{shown}");
    curl.kill().unwrap();
    curl.wait().unwrap();
}

#[test]
fn bytes_that_nobody_asked_for_disturb_nothing() {
    let Some(server) = start(&["--workers", "1"]) else { return };
    let mut reader = follow(&server, "?event=encrypt", "");
    let mut socket = reader.socket();
    socket.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    // As much as the server and the kernel take: nothing of it is read as a request.
    while socket.write_all(&[b'x'; 64 * 1024]).is_ok() {}
    let ids = encrypt(&server, 2);
    assert_eq!([reader.next(), reader.next()].map(|event| event.text("request_id").to_owned()), ids[..]);
    assert_eq!(in_files(&server, "\"event\":\"encrypt\"").len(), 2);
}

/// A worker in memory with a stream of events that was begun, and what it has said.
fn in_memory() -> (InProcess, String) {
    let audit = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
    let mut worker = InProcess::new(audit, 64 * 1024);
    let request = request(&worker.credential, "?event=audit.*", "HTTP/1.1", "");
    let said = worker.exchange(request.as_bytes(), |bytes| String::from_utf8(bytes.to_vec()).unwrap());
    assert!(said.contains("retry: 2000\n") && said.contains("\"outcome\":\"begin\""), "{said}");
    (worker, said)
}

#[test]
fn a_silent_stream_shows_that_it_lives_and_leaves_no_line_for_that() {
    let said = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut worker = loop {
        let begun = Instant::now();
        let (mut worker, _) = in_memory();
        let early = worker.wait(AUDIT_STREAM_HEARTBEAT_MILLIS - 1_000, said);
        // The worker's clock is the machine's, which goes on while this waits for its turn.
        if begun.elapsed() < Duration::from_millis(900) {
            assert_eq!(early, "");
            break worker;
        }
    };
    for _ in 0..3 {
        let heartbeat = worker.wait(AUDIT_STREAM_HEARTBEAT_MILLIS, said);
        assert_eq!(
            heartbeat,
            "15\r\n:\nid: in-process-1\n\n\r\n"
                .replace("15", &format!("{:x}", ":\nid: in-process-1\n\n".len()))
        );
        assert_eq!(worker.wait(1_000, said), "");
    }
}
