//! Requests to etcd's JSON gateway and its replies (etcd API v3, `rpc.proto`; 64-bit numbers are text there, bytes base64).
//!
//! Owns the forms. Invariants: what was read is as long as it says; a member that is missing is what the gateway leaves out, which
//! is zero, empty or false; what is not of its form is an error.

use core::fmt;
use core::marker::PhantomData;
use std::borrow::Cow;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, SeqAccess, Visitor};

use crate::encoding::{base64_decode_to_vec, base64_encode, base64_len};
use crate::limits::{ETCD_LIST_MAX_COUNT, ETCD_TOKEN_MAX_BYTES};
use crate::store::etcd::link::{Demand, Event, Page, Pair, Span, Swap, Swapped};

/// A body that is being written.
#[derive(Default)]
pub(super) struct Body(String);

impl Body {
    pub(super) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.0.push_str(text);
        self
    }

    /// `"name":"base64"`.
    fn bytes(&mut self, name: &str, bytes: &[u8]) -> &mut Self {
        let mut encoded = vec![0; base64_len(bytes.len())];
        let len = base64_encode(bytes, &mut encoded).unwrap_or_default();
        let encoded = encoded.get(..len).and_then(|text| core::str::from_utf8(text).ok()).unwrap_or_default();
        self.text("\"").text(name).text("\":\"").text(encoded).text("\"")
    }

    /// `"name":"number"`.
    fn number(&mut self, name: &str, number: u64) -> &mut Self {
        self.text("\"").text(name).text("\":\"").text(&number.to_string()).text("\"")
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// `/v3/kv/range`.
pub(super) fn range(span: &Span, limit: u32) -> Body {
    let mut body = Body::of("{");
    body.bytes("key", &span.from).text(",");
    if !span.to.is_empty() {
        body.bytes("range_end", &span.to).text(",");
    }
    if span.at > 0 {
        body.number("revision", span.at).text(",");
    }
    body.number("limit", u64::from(limit)).text("}");
    body
}

/// `/v3/kv/txn`, with a lease for all that is put, unless it is 0.
pub(super) fn txn(swap: &Swap, lease: u64) -> Body {
    let mut body = Body::of("{\"compare\":[");
    for (at, Demand { key, is }) in swap.demands.iter().enumerate() {
        body.text(if at > 0 { ",{" } else { "{" });
        match is {
            None => {
                body.bytes("key", key)
                    .text(",\"target\":\"CREATE\",\"result\":\"EQUAL\",\"create_revision\":\"0\"}");
            }
            Some((value, revision)) => {
                body.bytes("key", key).text(",\"target\":\"MOD\",\"result\":\"EQUAL\",");
                body.number("mod_revision", *revision).text("},{");
                body.bytes("key", key).text(",\"target\":\"VALUE\",\"result\":\"EQUAL\",");
                body.bytes("value", value).text("}");
            }
        }
    }
    body.text("],\"success\":[");
    let mut first = true;
    let mut begin = |body: &mut Body, what: &str| {
        body.text(if core::mem::replace(&mut first, false) { "{\"" } else { ",{\"" }).text(what).text("\":{");
    };
    for key in &swap.removals {
        begin(&mut body, "request_delete_range");
        body.bytes("key", key).text("}}");
    }
    for (key, value) in &swap.puts {
        begin(&mut body, "request_put");
        body.bytes("key", key).text(",").bytes("value", value);
        if lease > 0 {
            body.text(",").number("lease", lease);
        }
        body.text("}}");
    }
    body.text("],\"failure\":[");
    for (at, demand) in swap.demands.iter().enumerate() {
        body.text(if at > 0 { "," } else { "" });
        body.text("{\"request_range\":{").bytes("key", &demand.key).text("}}");
    }
    body.text("]}");
    body
}

/// `/v3/watch`.
pub(super) fn watch(from: &[u8], to: &[u8], at: u64) -> Body {
    let mut body = Body::of("{\"create_request\":{");
    body.bytes("key", from).text(",").bytes("range_end", to).text(",").number("start_revision", at);
    body.text(",\"progress_notify\":true,\"fragment\":true}}");
    body
}

/// `/v3/lease/grant`.
pub(super) fn grant(seconds: u64) -> Body {
    let mut body = Body::of("{");
    body.number("TTL", seconds).text("}");
    body
}

/// `/v3/lease/keepalive` and `/v3/lease/revoke`.
pub(super) fn lease(id: u64) -> Body {
    let mut body = Body::of("{");
    body.number("ID", id).text("}");
    body
}

/// `/v3/auth/authenticate`.
pub(super) fn authenticate(name: &str, password: &str) -> Option<Body> {
    // Text of people: the only place where something has to be escaped.
    let (name, password) = (serde_json::to_string(name).ok()?, serde_json::to_string(password).ok()?);
    Some(Body(format!("{{\"name\":{name},\"password\":{password}}}")))
}

/// Why etcd did not do it.
#[derive(Debug, Default)]
pub struct Refusal<'a> {
    /// For people.
    pub message: Cow<'a, str>,
    /// As gRPC numbers it.
    pub code: u32,
}

/// Whatever etcd answers: each reply has some of these members. One form for all is a quarter of the code that one for each is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer<'a> {
    header: Header,
    // Of a range.
    #[serde(deserialize_with = "list")]
    kvs: Vec<KeyValue>,
    more: bool,
    // Of a transaction.
    succeeded: bool,
    #[serde(borrow, deserialize_with = "list")]
    responses: Vec<Part<'a>>,
    // Of a watch, and of a keepalive, which are streams.
    #[serde(borrow)]
    result: Option<Box<Answer<'a>>>,
    /// Whether a stream has ended; text beside the message of a refusal.
    error: Option<IgnoredAny>,
    created: bool,
    canceled: bool,
    #[serde(deserialize_with = "number")]
    compact_revision: u64,
    #[serde(deserialize_with = "list")]
    events: Vec<WatchEvent>,
    // Of a lease.
    #[serde(rename = "ID", deserialize_with = "number")]
    id: u64,
    #[serde(rename = "TTL", deserialize_with = "number")]
    seconds: u64,
    // Of a login.
    #[serde(borrow)]
    token: Cow<'a, str>,
    // Of a refusal.
    #[serde(borrow)]
    message: Cow<'a, str>,
    code: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Header {
    #[serde(deserialize_with = "number")]
    cluster_id: u64,
    #[serde(deserialize_with = "number")]
    revision: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct KeyValue {
    #[serde(deserialize_with = "bytes")]
    key: Vec<u8>,
    #[serde(deserialize_with = "bytes")]
    value: Vec<u8>,
    #[serde(deserialize_with = "number")]
    mod_revision: u64,
}

#[derive(Debug, Default, Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    response_range: Option<Answer<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WatchEvent {
    #[serde(rename = "type")]
    kind: EventKind,
    kv: KeyValue,
}

#[derive(Debug, Default, Deserialize)]
enum EventKind {
    #[default]
    #[serde(rename = "PUT")]
    Put,
    #[serde(rename = "DELETE")]
    Delete,
}

impl From<KeyValue> for Pair {
    fn from(of: KeyValue) -> Self {
        Self { key: of.key, value: of.value, revision: of.mod_revision }
    }
}

/// Reads the reply to `range`.
#[must_use]
pub fn read_range(text: &[u8]) -> Option<Page> {
    let Answer { header, kvs, more, .. } = parse(text)?;
    let pairs = kvs.into_iter().map(Pair::from).collect();
    // etcd stands at 1 before anything is written.
    (header.revision > 0).then_some(Page { cluster: header.cluster_id, at: header.revision, pairs, more })
}

/// Reads the reply to `txn`.
#[must_use]
pub fn read_txn(text: &[u8]) -> Option<Swapped> {
    let Answer { header, succeeded, responses, .. } = parse(text)?;
    let (cluster, revision) = (header.cluster_id, header.revision);
    if succeeded {
        return (revision > 0).then_some(Swapped::Done { cluster, revision });
    }
    let ranges = responses.into_iter().filter_map(|part| part.response_range);
    let pairs = ranges.flat_map(|range| range.kvs).map(Pair::from).collect();
    Some(Swapped::Lost(Page { cluster, at: revision, pairs, more: false }))
}

/// A message of a watch.
#[derive(Debug, Default)]
pub struct Watched {
    /// What was written.
    pub events: Vec<Event>,
    /// The revision up to which it has told everything, if it says so.
    pub progress: u64,
    /// From which revision on there is something at all, if what was asked for is gone.
    pub compacted: u64,
    /// Whether nothing follows.
    pub ended: bool,
}

/// Reads a line of the reply to `watch`.
#[must_use]
pub fn read_watch(line: &[u8]) -> Option<Watched> {
    let line = parse(line)?;
    if line.error.is_some() {
        return Some(Watched { ended: true, ..Watched::default() });
    }
    let of = line.result?;
    let events = of.events.into_iter().map(|WatchEvent { kind, kv }| Event {
        key: kv.key,
        value: matches!(kind, EventKind::Put).then_some(kv.value),
        revision: kv.mod_revision,
    });
    let events: Vec<Event> = events.collect();
    // Without events it is a sign of life, and everything up to its revision has been told.
    let progress = if events.is_empty() && !of.created && !of.canceled { of.header.revision } else { 0 };
    Some(Watched { events, progress, compacted: of.compact_revision, ended: of.canceled })
}

/// Reads the reply to `grant` or a keepalive: the lease, and how many seconds are left of it.
#[must_use]
pub fn read_lease(text: &[u8]) -> Option<(u64, u64)> {
    let reply = parse(text)?;
    let reply = reply.result.map_or((reply.id, reply.seconds), |of| (of.id, of.seconds));
    Some(reply)
}

/// Reads the reply to `authenticate`: a token that can stand in a field.
#[must_use]
pub fn read_token(text: &[u8]) -> Option<String> {
    let Answer { token, .. } = parse(text)?;
    let good = (1..=ETCD_TOKEN_MAX_BYTES).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    good.then(|| token.into_owned())
}

/// Reads what etcd says when it refuses.
#[must_use]
pub fn read_refusal(text: &[u8]) -> Refusal<'_> {
    let Answer { message, code, .. } = parse(text).unwrap_or_default();
    Refusal { message, code }
}

#[inline(never)]
fn parse(text: &[u8]) -> Option<Answer<'_>> {
    serde_json::from_slice(text).ok()
}

/// A number, as text or as it is. etcd's own never have a sign, but the identifier of a lease may.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    struct Numbers;
    impl Visitor<'_> for Numbers {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number")
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
            Ok(number)
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            text.parse().map_err(|_| E::custom("not a number"))
        }
    }
    from.deserialize_any(Numbers)
}

/// A list that has so many entries at most: an empty one is three bytes of text, and twenty times that in memory.
fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    struct Lists<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Lists<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(entry) = from.next_element()? {
                if list.len() >= ETCD_LIST_MAX_COUNT {
                    return Err(A::Error::custom("a list that is too long"));
                }
                list.push(entry);
            }
            Ok(list)
        }
    }
    from.deserialize_seq(Lists(PhantomData))
}

fn bytes<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = <Cow<'de, str>>::deserialize(from)?;
    base64_decode_to_vec(text.as_bytes()).ok_or_else(|| D::Error::custom("not base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(body: &Body) -> &str {
        &body.0
    }

    #[test]
    fn requests_are_as_the_gateway_reads_them() {
        let span = Span { from: b"q/".to_vec(), to: b"q0".to_vec(), at: 7 };
        assert_eq!(
            shown(&range(&span, 5)),
            r#"{"key":"cS8=","range_end":"cTA=","revision":"7","limit":"5"}"#
        );
        let span = Span { from: b"q/".to_vec(), to: Vec::new(), at: 0 };
        assert_eq!(shown(&range(&span, 1)), r#"{"key":"cS8=","limit":"1"}"#);
        let swap = Swap {
            demands: vec![
                Demand { key: b"h".to_vec(), is: Some((b"v".to_vec(), 3)) },
                Demand { key: b"n".to_vec(), is: None },
            ],
            removals: vec![b"d".to_vec()],
            puts: vec![(b"p".to_vec(), b"1".to_vec()), (b"h".to_vec(), b"w".to_vec())],
        };
        let expected = concat!(
            r#"{"compare":[{"key":"aA==","target":"MOD","result":"EQUAL","mod_revision":"3"},"#,
            r#"{"key":"aA==","target":"VALUE","result":"EQUAL","value":"dg=="},"#,
            r#"{"key":"bg==","target":"CREATE","result":"EQUAL","create_revision":"0"}],"#,
            r#""success":[{"request_delete_range":{"key":"ZA=="}},{"request_put":{"key":"cA==","value":"MQ=="}},"#,
            r#"{"request_put":{"key":"aA==","value":"dw=="}}],"#,
            r#""failure":[{"request_range":{"key":"aA=="}},{"request_range":{"key":"bg=="}}]}"#,
        );
        assert_eq!(shown(&txn(&swap, 0)), expected);
        assert!(shown(&txn(&swap, 9)).contains(r#""value":"dw==","lease":"9"}"#));
        let login = authenticate("me\"", "a\\b\n").unwrap();
        assert_eq!(shown(&login), r#"{"name":"me\"","password":"a\\b\n"}"#);
    }

    #[test]
    fn replies_are_read_as_etcd_3_4_writes_them() {
        let page = read_range(
            br#"{"header":{"cluster_id":"15118495548433857066","member_id":"1","revision":"2","raft_term":"2"},"kvs":[{"key":"L3EvaA==","create_revision":"2","mod_revision":"2","version":"1","value":"dmg="}],"more":true,"count":"9"}"#,
        );
        let pair = Pair { key: b"/q/h".to_vec(), value: b"vh".to_vec(), revision: 2 };
        let page = page.unwrap();
        let expected =
            Page { cluster: 15_118_495_548_433_857_066, at: 2, pairs: vec![pair.clone()], more: true };
        assert_eq!(page, expected);
        let done = br#"{"header":{"cluster_id":"1","revision":"3"},"succeeded":true,"responses":[{"response_put":{"header":{"revision":"3"}}}]}"#;
        assert_eq!(read_txn(done), Some(Swapped::Done { cluster: 1, revision: 3 }));
        let lost = br#"{"header":{"cluster_id":"1","revision":"3"},"responses":[{"response_range":{"header":{"revision":"2"},"kvs":[{"key":"L3EvaA==","mod_revision":"2","value":"dmg="}],"count":"1"}}]}"#;
        let page = Page { cluster: 1, at: 3, pairs: vec![pair], more: false };
        assert_eq!(read_txn(lost), Some(Swapped::Lost(page)));
        let told = read_watch(br#"{"result":{"header":{"revision":"3"},"events":[{"kv":{"key":"YQ==","mod_revision":"2","value":"dg=="}},{"type":"DELETE","kv":{"key":"YQ==","mod_revision":"3"}}]}}"#).unwrap();
        assert_eq!(told.events.len(), 2);
        assert_eq!(told.events[1], Event { key: b"a".to_vec(), value: None, revision: 3 });
        assert_eq!((told.progress, told.ended), (0, false));
        let compacted =
            read_watch(br#"{"result":{"header":{"raft_term":"2"},"canceled":true,"compact_revision":"3"}}"#)
                .unwrap();
        assert_eq!((compacted.compacted, compacted.ended), (3, true));
        assert_eq!(read_watch(br#"{"result":{"header":{"revision":"8"}}}"#).unwrap().progress, 8);
        assert_eq!(
            read_watch(br#"{"result":{"header":{"revision":"8"},"created":true}}"#).unwrap().progress,
            0
        );
        assert!(
            read_watch(br#"{"error":{"grpc_code":14,"message":"etcdserver: no leader"}}"#).unwrap().ended
        );
        assert_eq!(
            read_lease(br#"{"header":{},"ID":"4111120191307403276","TTL":"10"}"#),
            Some((4_111_120_191_307_403_276, 10))
        );
        assert_eq!(read_lease(br#"{"result":{"ID":"41","TTL":"10"}}"#), Some((41, 10)));
        assert_eq!(read_lease(br#"{"result":{"ID":"41"}}"#), Some((41, 0)));
        assert_eq!(read_token(br#"{"header":{},"token":"abc.1"}"#).as_deref(), Some("abc.1"));
        assert_eq!(read_refusal(br#"{"error":"e","message":"etcdserver: no leader","code":14}"#).code, 14);
    }

    #[test]
    fn what_is_not_of_its_form_is_nothing() {
        for text in [
            "",
            "{",
            "[]",
            "null",
            "1",
            r#"{"kvs":{}}"#,
            r#"{"kvs":[{"key":"*"}]}"#,
            r#"{"kvs":[{"key":1}]}"#,
            r#"{"header":{"revision":"-1"}}"#,
            r#"{"header":{"revision":"99999999999999999999"}}"#,
            r#"{"header":{"revision":1.5}}"#,
            "\u{0}",
        ] {
            assert_eq!(read_range(text.as_bytes()), None, "{text}");
        }
        assert_eq!(read_txn(br#"{"succeeded":true}"#), None, "a change has a revision");
        assert_eq!(read_token(b"{\"token\":\"a\\r\\nb\"}"), None);
        assert!(read_watch(b"{}").is_none());
        let empty = |count: usize| format!("{}{{}}", "{},".repeat(count - 1));
        let page = |count: usize| {
            read_range(format!(r#"{{"header":{{"revision":"1"}},"kvs":[{}]}}"#, empty(count)).as_bytes())
        };
        assert_eq!(page(ETCD_LIST_MAX_COUNT).map(|page| page.pairs.len()), Some(ETCD_LIST_MAX_COUNT));
        assert_eq!(page(ETCD_LIST_MAX_COUNT + 1), None, "a list has an end");
        let long = "a".repeat(ETCD_TOKEN_MAX_BYTES + 1);
        assert_eq!(read_token(format!(r#"{{"token":"{long}"}}"#).as_bytes()), None);
        let deep = "[".repeat(100_000);
        assert_eq!(read_range(format!("{{\"x\":{deep}").as_bytes()), None);
    }
}
