//! One audit line: JSON, in a fixed order of members, built without the heap.
//!
//! Owns [`Event`]. Invariants: every text in it is of a form that needs no escaping (static names, hexadecimal,
//! addresses, key names, identities); a line ends with exactly one line feed.

use core::fmt::Write as _;
use std::net::IpAddr;

use crate::audit::chain::Chain;
use crate::audit::name::StreamName;
use crate::clock::WallTime;
use crate::cursor::Cursor;
use crate::encoding::hex_encode;
use crate::integrity::Check;
use crate::limits::{AUDIT_FINDING_MAX_BYTES, AUDIT_IDENTIFIER_MAX_BYTES};
use crate::model::{KeyName, Mode, RequestId, TraceParent};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A change is about to be made: its result follows in a line of its own.
    Attempt,
    /// A stream is about to be answered: how it ended follows in a line of its own.
    Begin,
    /// It was done.
    Success,
    /// It was refused or failed.
    Failure,
    /// Nobody can tell any more.
    Unknown,
}

/// The event that tells where the store stands, apart from any request.
pub const STORE_HEAD: &str = "store.head";
/// The event that tells which audit file was removed because of its age or the length of all of them.
pub const AUDIT_REMOVED: &str = "audit.removed";
/// The event of a start: everything that an earlier one left open is told before it.
pub const SERVER_START: &str = "server.start";
/// The event of a stop in order.
pub const SERVER_STOP: &str = "server.stop";
/// The event of a step of the lock-down that was not taken; its code is the step.
pub const SANDBOX_SKIPPED: &str = "sandbox.skipped";
/// The event of certificates that were read again because their files had changed, or because of a signal.
pub const TLS_RELOAD: &str = "tls.reload";
/// The event of a process that looked at itself and found something.
pub const INTEGRITY_FINDING: &str = "integrity.finding";
/// The event of a check that had found something, and found nothing any more.
pub const INTEGRITY_CLEARED: &str = "integrity.cleared";

/// The event that names numbers without a line.
pub const GAP: &str = "audit.gap";

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 5] = [Self::Attempt, Self::Begin, Self::Success, Self::Failure, Self::Unknown];

    /// The word in a line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Attempt => "attempt",
            Self::Begin => "begin",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Unknown => "unknown",
        }
    }
}

/// What a line tells.
#[derive(Clone, Copy, Debug)]
pub struct Event<'a> {
    /// When.
    pub at: WallTime,
    /// What kind: `encrypt`, `key.create`, `server.start`.
    pub name: &'a str,
    /// What came of it.
    pub outcome: Outcome,
    /// The stable code of the refusal, if it was one.
    pub code: Option<&'static str>,
    /// How many such events the line stands for, if it is not one.
    pub count: Option<u64>,
    /// What the line tells of the server itself.
    pub own: Option<Own<'a>>,
    /// Where the store stood after the change that the line tells of.
    pub store: Option<StoreMark>,
    /// The request, if it was one.
    pub request: Option<Request<'a>>,
}

/// What a line tells of the server itself.
#[derive(Clone, Copy, Debug)]
pub enum Own<'a> {
    /// The audit file that was removed.
    Removed(StreamName),
    /// How much of the lock-down had to be there.
    Mode(Mode),
    /// What was found in a check of the process. What of it would need escaping is written as `?`, and what is
    /// longer than `limits::AUDIT_FINDING_MAX_BYTES` is cut.
    Finding(Check, &'a str),
    /// A check that had found something, and found nothing any more.
    Cleared(Check),
}

/// What the event and its outcome leave open, in one word. What came to nothing has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Key material left in the open: a backup, or a data key.
    Plaintext,
    /// A keystream was made for a nonce of the caller's.
    Rederived,
    /// A key was restored in the place of another, which is gone.
    Replaced,
    /// A signature was found wrong; in a batch at least one.
    Invalid,
}

impl Detail {
    const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Rederived => "rederived",
            Self::Replaced => "replaced",
            Self::Invalid => "invalid",
        }
    }
}

/// How the items of a batch fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Items {
    /// How many were worked on.
    pub count: u32,
    /// How many of them were refused.
    pub failed: u32,
    /// How many of them were signatures that were found wrong.
    pub invalid: u32,
}

/// Where the store stood: whoever opens it later must find it there or further on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreMark {
    /// How many changes led there.
    pub revision: u64,
    /// Tells this history from any other.
    pub tag: [u8; 16],
}

/// What a line tells of a request, or of something that the server does by itself.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its identifier.
    pub id: &'a RequestId,
    /// Who asked: the public part of an API key; nothing if nobody was recognised.
    pub principal: Option<&'a str>,
    /// The identifier of the token by which the principal was recognised, if it was one.
    pub token: Option<&'a str>,
    /// The identity of the peer by which the principal was recognised, if it was one.
    pub identity: Option<&'a str>,
    /// From where; nothing if the server does it by itself.
    pub remote: Option<IpAddr>,
    /// Where in a trace the caller says it stands.
    pub trace: Option<TraceParent>,
    /// The pattern of the route, not the path that was sent.
    pub route: Option<&'a str>,
    /// The status of the reply that is meant to be sent; zero in an attempt.
    pub status: u16,
    /// Time from the first byte of the request to this line; told of requests alone.
    pub elapsed_micros: u64,
    /// The key that was used.
    pub key: Option<&'a str>,
    /// The API key that was changed: its public part.
    pub api_key: Option<&'a str>,
    /// The version that was used.
    pub key_version: Option<u32>,
    /// What else has to be known of it.
    pub detail: Option<Detail>,
    /// How the items fared, if it was a batch.
    pub items: Option<Items>,
    /// How far a stream came that has ended.
    pub bytes: Option<Bytes>,
    /// The keyed hash of its body.
    pub body: Option<[u8; 16]>,
}

/// How much of a stream has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// Bytes of the request's body that were used.
    pub read: u64,
    /// Bytes of the reply's body that left.
    pub written: u64,
}

/// Writes the line of `event` with the number `sequence` in `stream` to the front of `target`, as the next of `chain`; returns
/// its length.
///
/// Nothing is returned if it does not fit, which a target of `limits::AUDIT_LINE_MAX_BYTES` excludes.
pub fn write(
    target: &mut [u8],
    stream: &str,
    sequence: u64,
    event: &Event<'_>,
    chain: &mut Chain,
) -> Option<usize> {
    let mut cursor = Cursor::new(target);
    put_start(&mut cursor, stream, sequence, event.at)?;
    put_text(&mut cursor, b",\"event\":\"", event.name)?;
    put_text(&mut cursor, b",\"outcome\":\"", event.outcome.name())?;
    if let Some(code) = event.code {
        put_text(&mut cursor, b",\"code\":\"", code)?;
    }
    if let Some(count) = event.count {
        put_number(&mut cursor, b",\"count\":", count)?;
    }
    if let Some(own) = event.own {
        put_own(&mut cursor, own)?;
    }
    if let Some(request) = &event.request {
        put_request(&mut cursor, request)?;
    }
    if let Some(mark) = &event.store {
        put_mark(&mut cursor, mark)?;
    }
    chain.close(&mut cursor, sequence)?;
    Some(cursor.position())
}

/// Writes the record that says which numbers stand for requests that were answered with a refusal because their lines
/// could not be written in time; returns its length.
pub fn write_gap(
    target: &mut [u8],
    stream: &str,
    sequence: u64,
    at: WallTime,
    (first, last): (u64, u64),
    chain: &mut Chain,
) -> Option<usize> {
    let mut cursor = Cursor::new(target);
    put_start(&mut cursor, stream, sequence, at)?;
    put_text(&mut cursor, b",\"event\":\"", GAP)?;
    put_text(&mut cursor, b",\"outcome\":\"", Outcome::Failure.name())?;
    put_number(&mut cursor, b",\"first\":", first)?;
    put_number(&mut cursor, b",\"last\":", last)?;
    chain.close(&mut cursor, sequence)?;
    Some(cursor.position())
}

fn put_start(cursor: &mut Cursor<'_>, stream: &str, sequence: u64, at: WallTime) -> Option<()> {
    put_number(cursor, b"{\"seq\":", sequence)?;
    cursor.put(b",\"ts\":\"")?;
    put_time(cursor, at)?;
    put_text(cursor, b"\",\"stream\":\"", stream)
}

fn put_own(cursor: &mut Cursor<'_>, own: Own<'_>) -> Option<()> {
    match own {
        Own::Removed(file) => write!(Text(cursor), ",\"file\":\"{file}\"").ok(),
        Own::Mode(mode) => put_text(cursor, b",\"mode\":\"", mode.name()),
        Own::Cleared(check) => put_text(cursor, b",\"check\":\"", check.name()),
        Own::Finding(check, text) => {
            put_text(cursor, b",\"check\":\"", check.name())?;
            cursor.put(b",\"finding\":\"")?;
            let harmless = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
            for byte in text.bytes().take(AUDIT_FINDING_MAX_BYTES) {
                cursor.put(&[if harmless(byte) { byte } else { b'?' }])?;
            }
            cursor.put(b"\"")
        }
    }
}

fn put_request(cursor: &mut Cursor<'_>, request: &Request<'_>) -> Option<()> {
    cursor.put(b",\"request_id\":\"")?;
    cursor.put(request.id.as_bytes())?;
    cursor.put(b"\"")?;
    if let Some(principal) = request.principal {
        put_text(cursor, b",\"principal\":\"", principal)?;
    }
    if let Some(token) = request.token.filter(|token| is_plain(token)) {
        put_text(cursor, b",\"token\":\"", token)?;
    }
    if let Some(identity) = request.identity {
        put_text(cursor, b",\"identity\":\"", identity)?;
    }
    if let Some(remote) = request.remote {
        cursor.put(b",\"remote\":\"")?;
        put_address(cursor, remote)?;
        cursor.put(b"\"")?;
    }
    if let Some(trace) = &request.trace {
        cursor.put(b",\"traceparent\":\"")?;
        cursor.put(trace.as_bytes())?;
        cursor.put(b"\"")?;
    }
    if let Some(route) = request.route {
        put_text(cursor, b",\"route\":\"", route)?;
    }
    if request.status != 0 {
        put_number(cursor, b",\"status\":", u64::from(request.status))?;
    }
    if request.remote.is_some() {
        put_number(cursor, b",\"elapsed_us\":", request.elapsed_micros)?;
    }
    // Anything that is no key name would need escaping, and no key has such a name: it is left out.
    if let Some(key) = request.key.filter(|key| KeyName::is_valid(key)) {
        put_text(cursor, b",\"key\":\"", key)?;
    }
    if let Some(api_key) = request.api_key.filter(|api_key| is_plain(api_key)) {
        put_text(cursor, b",\"api_key\":\"", api_key)?;
    }
    if let Some(version) = request.key_version {
        put_number(cursor, b",\"key_version\":", u64::from(version))?;
    }
    if let Some(detail) = request.detail {
        put_text(cursor, b",\"detail\":\"", detail.name())?;
    }
    if let Some(items) = request.items {
        put_number(cursor, b",\"items\":", u64::from(items.count))?;
        put_number(cursor, b",\"failed\":", u64::from(items.failed))?;
        put_number(cursor, b",\"invalid\":", u64::from(items.invalid))?;
    }
    if let Some(bytes) = request.bytes {
        put_number(cursor, b",\"bytes_in\":", bytes.read)?;
        put_number(cursor, b",\"bytes_out\":", bytes.written)?;
    }
    if let Some(body) = &request.body {
        put_hex(cursor, b",\"body\":\"", body)?;
    }
    Some(())
}

/// Whether it is of the form that identifiers have, and so needs no escaping.
fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=AUDIT_IDENTIFIER_MAX_BYTES).contains(&text.len()) && text.bytes().all(plain)
}

fn put_mark(cursor: &mut Cursor<'_>, mark: &StoreMark) -> Option<()> {
    put_number(cursor, b",\"store_revision\":", mark.revision)?;
    put_hex(cursor, b",\"store_tag\":\"", &mark.tag)
}

fn put_hex(cursor: &mut Cursor<'_>, before: &[u8], bytes: &[u8; 16]) -> Option<()> {
    let mut digits = [0; 32];
    hex_encode(bytes, &mut digits)?;
    cursor.put(before)?;
    cursor.put(&digits)?;
    cursor.put(b"\"")
}

/// Writes a member whose value needs no escaping: what stands before it, and its closing quote.
#[inline]
fn put_text(cursor: &mut Cursor<'_>, before: &[u8], value: &str) -> Option<()> {
    cursor.put(before)?;
    cursor.put(value.as_bytes())?;
    cursor.put(b"\"")
}

#[inline]
fn put_number(cursor: &mut Cursor<'_>, before: &[u8], value: u64) -> Option<()> {
    cursor.put(before)?;
    cursor.put_number(value, 0)
}

fn put_time(cursor: &mut Cursor<'_>, at: WallTime) -> Option<()> {
    let civil = at.civil();
    let fields = [
        (civil.year, 4, b"-"),
        (civil.month, 2, b"-"),
        (civil.day, 2, b"T"),
        (civil.hour, 2, b":"),
        (civil.minute, 2, b":"),
        (civil.second, 2, b"."),
        (civil.millisecond, 3, b"Z"),
    ];
    fields.into_iter().try_for_each(|(value, width, after)| {
        cursor.put_number(value, width)?;
        cursor.put(after)
    })
}

fn put_address(cursor: &mut Cursor<'_>, address: IpAddr) -> Option<()> {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            cursor.put_number(u64::from(a), 0)?;
            [b, c, d].into_iter().try_for_each(|octet| {
                cursor.put(b".")?;
                cursor.put_number(u64::from(octet), 0)
            })
        }
        IpAddr::V6(address) => write!(Text(cursor), "{address}").ok(),
    }
}

/// A cursor that formatted text can be written to.
struct Text<'a, 'b>(&'a mut Cursor<'b>);

impl core::fmt::Write for Text<'_, '_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.put(text.as_bytes()).ok_or(core::fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::Root;
    use crate::limits::{AUDIT_LINE_MAX_BYTES, IDENTITY_TEXT_MAX_BYTES};
    use crate::secret::Secret;

    /// As far as the key is stepped on in a moment.
    const LATE: u64 = 1_000_000;

    fn written(stream: &str, sequence: u64, event: &Event<'_>) -> Vec<u8> {
        let mut target = [0; AUDIT_LINE_MAX_BYTES];
        let mut chain = Root::new(Secret::take(&mut [7; 32])).chain(stream).unwrap();
        let len = write(&mut target, stream, sequence, event, &mut chain).unwrap();
        target[..len].to_vec()
    }

    #[test]
    fn a_request_line_is_json_with_its_members_in_order() {
        let id = RequestId::new(1, 2);
        let event = Event {
            at: WallTime::from_millis(1_000_000_000_123),
            name: "encrypt",
            outcome: Outcome::Success,
            code: None,
            count: None,
            own: None,
            store: Some(StoreMark { revision: 9, tag: [0xA5; 16] }),
            request: Some(Request {
                id: &id,
                principal: Some("0a1b2c3d"),
                token: Some("t-1"),
                identity: Some("unix-user:7"),
                remote: Some("::ffff:192.0.2.7".parse().unwrap()),
                trace: None,
                route: Some("/api/encrypt"),
                status: 200,
                elapsed_micros: 42,
                key: Some("orders"),
                api_key: Some("0a1b2c3e"),
                key_version: Some(3),
                detail: Some(Detail::Plaintext),
                items: Some(Items { count: 5, failed: 2, invalid: 0 }),
                bytes: None,
                body: Some([0x0F; 16]),
            }),
        };
        let line = written("s-w0", 7, &event);
        let line = String::from_utf8(line).unwrap();
        let (told, chained) = line.split_once(",\"prev\"").unwrap();
        assert!(chained.starts_with(&format!(":\"{}\",\"mac\":\"", "0".repeat(32))), "{chained}");
        assert_eq!(
            told,
            "{\"seq\":7,\"ts\":\"2001-09-09T01:46:40.123Z\",\"stream\":\"s-w0\",\"event\":\"encrypt\",\"outcome\":\"success\",\
             \"request_id\":\"00000000000000010000000000000002\",\"principal\":\"0a1b2c3d\",\"token\":\"t-1\",\"identity\":\"unix-user:7\",\"remote\":\"192.0.2.7\",\
             \"route\":\"/api/encrypt\",\"status\":200,\"elapsed_us\":42,\"key\":\"orders\",\"api_key\":\"0a1b2c3e\",\"key_version\":3,\
             \"detail\":\"plaintext\",\"items\":5,\"failed\":2,\"invalid\":0,\"body\":\"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f\",\
             \"store_revision\":9,\"store_tag\":\"a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5\""
        );
    }

    #[test]
    fn what_is_told_of_the_server_itself_has_members_of_its_own() {
        fn told(own: Own<'_>) -> String {
            let (at, outcome) = (WallTime::from_millis(0), Outcome::Failure);
            let own = Some(own);
            let event =
                Event { at, name: "n", outcome, code: None, count: None, own, store: None, request: None };
            let line = String::from_utf8(written("s-k", 1, &event)).unwrap();
            serde_json::from_str::<serde_json::Value>(&line).unwrap();
            let rest = line.split_once(r#""outcome":"failure""#).unwrap().1;
            rest.split_once(",\"prev\"").unwrap().0.to_owned()
        }
        assert_eq!(told(Own::Mode(Mode::Strict)), r#","mode":"strict""#);
        assert_eq!(told(Own::Cleared(Check::KnownAnswers)), r#","check":"known-answers""#);
        let hostile = "a \"b\\c\n\u{7f}d";
        assert_eq!(told(Own::Finding(Check::Tracer, hostile)), r#","check":"tracer","finding":"a ?b?c??d""#);
        let long = "x".repeat(AUDIT_FINDING_MAX_BYTES + 1);
        let cut = told(Own::Finding(Check::Tracer, &long));
        assert_eq!(cut.matches('x').count(), AUDIT_FINDING_MAX_BYTES);
        assert!(!told(Own::Finding(Check::Tracer, "\u{e9}")).contains('\u{e9}'));
    }

    #[test]
    fn the_longest_line_fits_its_bound_and_a_hostile_key_is_left_out() {
        let id = RequestId::new(u64::MAX, u64::MAX);
        let token = "t".repeat(64);
        let identity = format!("email:a@{}", "b".repeat(IDENTITY_TEXT_MAX_BYTES - 8));
        let mut event = Event {
            at: WallTime::from_millis(u64::MAX),
            name: "keys.something.long",
            outcome: Outcome::Failure,
            code: Some("a_code_that_is_as_long_as_codes_get"),
            count: Some(u64::MAX),
            own: None,
            store: Some(StoreMark { revision: u64::MAX, tag: [0xFF; 16] }),
            request: Some(Request {
                id: &id,
                principal: Some("0a1b2c3d"),
                token: Some(&token),
                identity: Some(&identity),
                remote: Some("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap()),
                trace: TraceParent::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
                route: Some("/api/keys/{name}/rotate"),
                status: 599,
                elapsed_micros: u64::MAX,
                key: Some("k\",\"outcome\":\"success"),
                api_key: Some("0a1b2c3d"),
                key_version: Some(u32::MAX),
                detail: Some(Detail::Rederived),
                items: Some(Items { count: u32::MAX, failed: u32::MAX, invalid: u32::MAX }),
                bytes: Some(Bytes { read: u64::MAX, written: u64::MAX }),
                body: Some([0xFF; 16]),
            }),
        };
        let mut line = written("0123456789abcdef-w63", LATE, &event);
        assert!(!String::from_utf8_lossy(&line).contains("\"key\""));
        let longest = "k".repeat(128);
        event.request.as_mut().unwrap().key = Some(&longest);
        let longer = written("0123456789abcdef-w63", LATE, &event);
        // The number may have thirteen digits more.
        assert!(longer.len() + 13 < AUDIT_LINE_MAX_BYTES, "{}", longer.len());
        line.extend(longer);
        for line in line.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            serde_json::from_slice::<serde_json::Value>(line).unwrap();
        }
    }
}
