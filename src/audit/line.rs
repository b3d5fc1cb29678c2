//! One audit line: JSON, in a fixed order of members, built without the heap.
//!
//! Owns [`Event`]. Invariants: every text in it is of a form that needs no escaping (static names, hexadecimal,
//! addresses, key names); a line ends with exactly one line feed.

use std::io::Write as _;
use std::net::IpAddr;

use crate::clock::WallTime;
use crate::encoding::push_decimal;
use crate::model::{KeyName, RequestId};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A change is about to be made: its result follows in a line of its own.
    Attempt,
    /// It was done.
    Success,
    /// It was refused or failed.
    Failure,
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Success => "success",
            Self::Failure => "failure",
        }
    }
}

/// What a line tells.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When.
    pub at: WallTime,
    /// What kind: `encrypt`, `key.create`, `server.start`.
    pub name: &'static str,
    /// What came of it.
    pub outcome: Outcome,
    /// The stable code of the refusal, if it was one.
    pub code: Option<&'static str>,
    /// How many such events the line stands for, if it is not one.
    pub count: Option<u64>,
    /// The request, if it was one.
    pub request: Option<Request<'a>>,
}

/// What a line tells of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its identifier.
    pub id: &'a RequestId,
    /// Who asked: the public part of an API key; nothing if nobody was recognised.
    pub principal: Option<&'a str>,
    /// From where.
    pub remote: IpAddr,
    /// The pattern of the route, not the path that was sent.
    pub route: &'static str,
    /// The status of the reply that is meant to be sent; zero in an attempt.
    pub status: u16,
    /// Time from the first byte of the request to this line.
    pub elapsed_micros: u64,
    /// The key that was used.
    pub key: Option<&'a str>,
    /// The version that was used.
    pub key_version: Option<u32>,
}

/// Appends the line of `event` with the number `sequence` in `stream`.
pub fn append(target: &mut Vec<u8>, stream: &str, sequence: u64, event: &Event<'_>) {
    target.extend_from_slice(b"{\"seq\":");
    push_decimal(target, sequence, 0);
    target.extend_from_slice(b",\"ts\":\"");
    push_time(target, event.at);
    target.push(b'"');
    push_text(target, "stream", stream);
    push_text(target, "event", event.name);
    push_text(target, "outcome", event.outcome.name());
    if let Some(code) = event.code {
        push_text(target, "code", code);
    }
    if let Some(count) = event.count {
        push_number(target, "count", count);
    }
    if let Some(request) = &event.request {
        push_request(target, request);
    }
    target.extend_from_slice(b"}\n");
}

/// Appends the record that says which numbers stand for requests that were answered with a refusal because their
/// lines could not be written in time.
pub fn append_gap(target: &mut Vec<u8>, stream: &str, sequence: u64, at: WallTime, first: u64, last: u64) {
    target.extend_from_slice(b"{\"seq\":");
    push_decimal(target, sequence, 0);
    target.extend_from_slice(b",\"ts\":\"");
    push_time(target, at);
    target.push(b'"');
    push_text(target, "stream", stream);
    push_text(target, "event", "audit.gap");
    push_text(target, "outcome", Outcome::Failure.name());
    push_number(target, "first", first);
    push_number(target, "last", last);
    target.extend_from_slice(b"}\n");
}

fn push_request(target: &mut Vec<u8>, request: &Request<'_>) {
    target.extend_from_slice(b",\"request_id\":\"");
    target.extend_from_slice(request.id.as_bytes());
    target.push(b'"');
    if let Some(principal) = request.principal {
        push_text(target, "principal", principal);
    }
    target.extend_from_slice(b",\"remote\":\"");
    push_address(target, request.remote);
    target.push(b'"');
    push_text(target, "route", request.route);
    if request.status != 0 {
        push_number(target, "status", u64::from(request.status));
    }
    push_number(target, "elapsed_us", request.elapsed_micros);
    // Anything that is no key name would need escaping, and no key has such a name: it is left out.
    if let Some(key) = request.key.filter(|key| KeyName::is_valid(key)) {
        push_text(target, "key", key);
    }
    if let Some(version) = request.key_version {
        push_number(target, "key_version", u64::from(version));
    }
}

fn push_text(target: &mut Vec<u8>, name: &str, value: &str) {
    target.extend_from_slice(b",\"");
    target.extend_from_slice(name.as_bytes());
    target.extend_from_slice(b"\":\"");
    target.extend_from_slice(value.as_bytes());
    target.push(b'"');
}

fn push_number(target: &mut Vec<u8>, name: &str, value: u64) {
    target.extend_from_slice(b",\"");
    target.extend_from_slice(name.as_bytes());
    target.extend_from_slice(b"\":");
    push_decimal(target, value, 0);
}

fn push_time(target: &mut Vec<u8>, at: WallTime) {
    let civil = at.civil();
    let fields = [
        (civil.year, 4, b'-'),
        (civil.month, 2, b'-'),
        (civil.day, 2, b'T'),
        (civil.hour, 2, b':'),
        (civil.minute, 2, b':'),
        (civil.second, 2, b'.'),
        (civil.millisecond, 3, b'Z'),
    ];
    for (value, width, after) in fields {
        push_decimal(target, value, width);
        target.push(after);
    }
}

fn push_address(target: &mut Vec<u8>, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            for (index, octet) in v4.octets().into_iter().enumerate() {
                if index > 0 {
                    target.push(b'.');
                }
                push_decimal(target, u64::from(octet), 0);
            }
        }
        // Writing to a vector does not fail.
        IpAddr::V6(v6) => drop(write!(target, "{v6}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::AUDIT_LINE_MAX_BYTES;

    #[test]
    fn a_request_line_is_json_with_its_members_in_order() {
        let id = RequestId::new(1, 2);
        let event = Event {
            at: WallTime::from_millis(1_000_000_000_123),
            name: "encrypt",
            outcome: Outcome::Success,
            code: None,
            count: None,
            request: Some(Request {
                id: &id,
                principal: Some("0a1b2c3d"),
                remote: "::ffff:192.0.2.7".parse().unwrap(),
                route: "/api/encrypt",
                status: 200,
                elapsed_micros: 42,
                key: Some("orders"),
                key_version: Some(3),
            }),
        };
        let mut line = Vec::new();
        append(&mut line, "s-w0", 7, &event);
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "{\"seq\":7,\"ts\":\"2001-09-09T01:46:40.123Z\",\"stream\":\"s-w0\",\"event\":\"encrypt\",\"outcome\":\"success\",\
             \"request_id\":\"00000000000000010000000000000002\",\"principal\":\"0a1b2c3d\",\"remote\":\"192.0.2.7\",\
             \"route\":\"/api/encrypt\",\"status\":200,\"elapsed_us\":42,\"key\":\"orders\",\"key_version\":3}\n"
        );
    }

    #[test]
    fn the_longest_line_fits_its_bound_and_a_hostile_key_is_left_out() {
        let id = RequestId::new(u64::MAX, u64::MAX);
        let mut event = Event {
            at: WallTime::from_millis(u64::MAX),
            name: "keys.something.long",
            outcome: Outcome::Failure,
            code: Some("a_code_that_is_as_long_as_codes_get"),
            count: Some(u64::MAX),
            request: Some(Request {
                id: &id,
                principal: Some("0a1b2c3d"),
                remote: "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
                route: "/api/keys/{name}/rotate",
                status: 599,
                elapsed_micros: u64::MAX,
                key: Some("k\",\"outcome\":\"success"),
                key_version: Some(u32::MAX),
            }),
        };
        let mut line = Vec::new();
        append(&mut line, "0123456789abcdef-w63", u64::MAX, &event);
        assert!(!String::from_utf8_lossy(&line).contains("\"key\""));
        let longest = "k".repeat(128);
        event.request.as_mut().unwrap().key = Some(&longest);
        append(&mut line, "0123456789abcdef-w63", u64::MAX, &event);
        assert!(line.len() / 2 < AUDIT_LINE_MAX_BYTES);
        for line in line.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            serde_json::from_slice::<serde_json::Value>(line).unwrap();
        }
    }
}
