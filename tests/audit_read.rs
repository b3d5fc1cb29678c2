//! The audit log as it is read over HTTP: pages of what was told, and streams of what is told from now on.
//!
//! - `pages`: filters, and paging through what is told meanwhile.
//! - `events`: streams of server-sent events, of the running server and, for their clock, of a worker in memory.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by a panic, its helping functions too"
)]

#[path = "audit_read/events.rs"]
mod events;
#[path = "support/in_process.rs"]
mod in_process;
#[path = "audit_read/pages.rs"]
mod pages;
#[path = "audit_read/reader.rs"]
mod reader;
#[path = "support/server.rs"]
mod server;

use serde_json::Value;
use server::client::Request;
use server::{Server, read_lines};

/// A server with the key `orders`.
fn start(flags: &[&str]) -> Option<Server> {
    let server = Server::start(flags)?;
    must_create(&server, "orders");
    Some(server)
}

fn must_create(server: &Server, name: &str) {
    let made = server.ask(Request::post("/api/keys", format!(r#"{{"name":"{name}"}}"#)));
    assert_eq!(made.status, 201, "{}", made.text());
}

/// Encrypts so many times on one connection; returns the identifiers of the requests.
fn encrypt(server: &Server, times: usize) -> Vec<String> {
    let seal = Request::post("/api/encrypt", r#"{"key":"orders","plaintext":"aGVsbG8="}"#).key(server.key());
    let mut client = server.connect();
    let reply = |_| {
        let reply = client.call(&seal);
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.field("X-Request-Id").unwrap().to_owned()
    };
    (0..times).map(reply).collect()
}

/// The lines of all files, with this text in them.
fn in_files(server: &Server, text: &str) -> Vec<Value> {
    let folder = std::fs::read_dir(server.data_dir().join("audit")).unwrap();
    let texts: Vec<String> = folder.map(|entry| read_lines(&entry.unwrap().path())).collect();
    let lines = texts.iter().flat_map(|text| text.lines()).filter(|line| line.contains(text));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether the keeper tells this line.
fn is_of_keeper(line: &Value) -> bool {
    text(line, "stream").ends_with("-k")
}

fn text<'a>(line: &'a Value, name: &str) -> &'a str {
    line.get(name).and_then(Value::as_str).unwrap_or_default()
}
