//! The bodies of requests, through the whole application: connection, route, handler, reply.
//!
//! Owns the worker that serves them, one for each thread. Invariant: a request that waits for the keeper, which does not
//! run here, costs the worker: the next input finds a new one.

use std::cell::RefCell;
use std::fs::OpenOptions;

use quantonium::encoding::base64_decode_to_vec;
use quantonium::model::{KeyOptions, KeyType};
use serde_json::Value;

use self::in_process::InProcess;
use super::split_choice;

#[path = "../../../tests/support/in_process.rs"]
mod in_process;

/// What a body is sent to: all that read JSON.
const ROUTES: [(&str, &str); 17] = [
    ("POST", "/api/encrypt"),
    ("POST", "/api/decrypt"),
    ("POST", "/api/rewrap"),
    ("POST", "/api/datakey"),
    ("POST", "/api/sign"),
    ("POST", "/api/verify"),
    ("POST", "/api/hash"),
    ("POST", "/api/entropy/sample"),
    ("POST", "/api/keystream"),
    ("POST", "/api/auth/token"),
    ("POST", "/api/keys"),
    ("PATCH", "/api/keys/orders"),
    ("POST", "/api/keys/restore"),
    ("POST", "/api/keys/new/import"),
    ("POST", "/api/keys/orders/export"),
    ("POST", "/api/auth/keys"),
    ("POST", "/api/keys/orders/backup"),
];
const LONGEST_BYTES: usize = 256 * 1024;

thread_local! {
    static WORKER: RefCell<Option<InProcess>> = const { RefCell::new(None) };
}

/// A reply: its status and its body.
type Reply = (u16, Vec<u8>);

/// A JSON body for one of the routes: an answer that is JSON, never a failure of the server's; what was encrypted is
/// decrypted again.
pub(super) fn json(data: &[u8]) {
    let (choice, body) = split_choice(data);
    let (method, path) = ROUTES[usize::from(choice) % ROUTES.len()];
    WORKER.with_borrow_mut(|worker| {
        let serving = worker.get_or_insert_with(open);
        let Some((status, reply)) = ask(serving, method, path, body) else {
            *worker = None;
            return;
        };
        assert!((200..500).contains(&status), "{path}: {status} {}", reply.escape_ascii());
        let reply: Value = serde_json::from_slice(&reply).expect("a reply is JSON");
        if status >= 400 {
            assert!(reply["code"].as_str().is_some_and(|code| !code.is_empty()), "{reply}");
            assert_eq!(reply["status"], status, "{reply}");
            return;
        }
        if body.is_empty() {
            return;
        }
        let asked: Value = serde_json::from_slice(body).expect("a body that is taken is JSON");
        assert!(asked.is_object(), "{asked}");
        if path == "/api/encrypt" && asked.get("batch").is_none() {
            decrypts_again(serving, &asked, &reply);
        }
        if path == "/api/sign" && asked.get("batch").is_none() {
            verifies(serving, &asked, &reply);
        }
    });
}

fn open() -> InProcess {
    let audit = OpenOptions::new().write(true).open("/dev/null").unwrap();
    let worker = InProcess::new(audit, LONGEST_BYTES);
    worker.create("mac", KeyOptions::of(KeyType::HmacSha256));
    worker.create("derived", KeyOptions { derived: true, ..KeyOptions::of(KeyType::XChaCha20Poly1305) });
    worker
}

/// Sends a request; nothing if no answer comes, since the keeper would have to give it.
fn ask(worker: &mut InProcess, method: &str, path: &str, body: &[u8]) -> Option<Reply> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n\r\n",
        worker.credential,
        if method == "PATCH" { "application/merge-patch+json" } else { "application/json" },
        body.len()
    );
    let request = [head.as_bytes(), body].concat();
    worker.exchange(&request, |reply| {
        if reply.is_empty() {
            return None;
        }
        let end = reply.windows(4).position(|window| window == b"\r\n\r\n").expect("the end of the head") + 4;
        let head = str::from_utf8(&reply[..end]).expect("a head is text");
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).expect("a status line");
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: ").or(line.strip_prefix("content-length: ")));
        let length: usize = length.expect("a length").trim().parse().unwrap();
        assert_eq!(reply.len() - end, length, "the body is as long as it says");
        Some((status.parse().unwrap(), reply[end..].to_vec()))
    })
}

/// The members of `asked` that bind an operation, with the others given.
fn bound(asked: &Value, members: &[&str], others: &[(&str, &Value)]) -> Vec<u8> {
    let mut body = serde_json::Map::new();
    for name in members {
        if let Some(value) = asked.get(name) {
            body.insert((*name).to_owned(), value.clone());
        }
    }
    for (name, value) in others {
        body.insert((*name).to_owned(), (*value).clone());
    }
    serde_json::to_vec(&Value::Object(body)).unwrap()
}

fn decrypts_again(worker: &mut InProcess, asked: &Value, reply: &Value) {
    let body = bound(
        asked,
        &["key", "context", "associated_data", "format"],
        &[("ciphertext", &reply["ciphertext"])],
    );
    let (status, opened) = ask(worker, "POST", "/api/decrypt", &body).expect("an answer");
    assert_eq!(status, 200, "{}: {}", body.escape_ascii(), opened.escape_ascii());
    let opened: Value = serde_json::from_slice(&opened).unwrap();
    let (sent, came) = (asked["plaintext"].as_str().unwrap(), opened["plaintext"].as_str().unwrap());
    if asked.get("format").is_none_or(|format| format == "base64") {
        let bytes = |text: &str| base64_decode_to_vec(text.as_bytes()).expect("base64");
        assert_eq!(bytes(sent), bytes(came));
    } else {
        assert!(sent.eq_ignore_ascii_case(came), "{sent} {came}");
    }
}

fn verifies(worker: &mut InProcess, asked: &Value, reply: &Value) {
    let body = bound(asked, &["key", "input", "format"], &[("signature", &reply["signature"])]);
    let (status, judged) = ask(worker, "POST", "/api/verify", &body).expect("an answer");
    let judged: Value = serde_json::from_slice(&judged).unwrap();
    assert_eq!((status, &judged["valid"]), (200, &Value::Bool(true)), "{}", body.escape_ascii());
}
