//! A parsed request head, small enough to be kept beside the buffer it came from.
//!
//! Owns [`Head`]. Invariants: a head that exists is well formed, unambiguously framed and within the limits; it
//! borrows nothing and owns no memory, its texts are spans into the caller's buffer, which must start with the
//! same bytes when they are read.

use super::fields::Fields;
use super::framing::Framing;
use super::grammar::trim;
use super::refusal::Refusal;
use super::scan::{HeadScan, Lines};
use super::span::Span;
use super::target::{Method, Version};
use crate::limits::HEAD_FIELDS_MAX_COUNT;
use crate::model::TraceParent;

/// Most fields that are parsed with the small array; usual clients send fewer, and clearing it costs less.
const FEW_FIELDS_COUNT: usize = 12;

/// A request head.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The method; [`Method::Other`] is to be answered with 501.
    pub method: Method,
    /// The version.
    pub version: Version,
    /// Whether the connection may stay open after the reply.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// Whether the content is coded (compressed), which no route takes: 415.
    pub coded_content: bool,
    /// The framing of the body.
    pub framing: Framing,
    /// Length of the head in bytes, skipped empty lines and its own empty line included.
    pub len: usize,
    /// Where the first field line begins.
    fields_at: u16,
    path: Span,
    query: Option<Span>,
    host: Option<Span>,
    authorization: Option<Span>,
    api_key: Option<Span>,
    content_type: Option<Span>,
    accept: Option<Span>,
    origin: Option<Span>,
    request_id: Option<Span>,
    traceparent: Option<Span>,
}

const _: () = assert!(size_of::<Head>() <= 160, "heads are kept in connections: they stay small");

impl Head {
    /// Parses a head that has arrived at once. For one that arrives in pieces use [`Head::parse_with`].
    ///
    /// Returns nothing if the head is not complete.
    ///
    /// # Errors
    /// The head is refused; the connection must be closed after the reply.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Refusal> {
        Self::parse_with(&mut HeadScan::default(), bytes)
    }

    /// Parses a head as it arrives: `scan` remembers what was looked at already.
    ///
    /// `bytes` starts with the first byte of the head at every call. A new head needs a new scan.
    ///
    /// # Errors
    /// The head is refused; the connection must be closed after the reply.
    pub fn parse_with(scan: &mut HeadScan, bytes: &[u8]) -> Result<Option<Self>, Refusal> {
        let Some(lines) = scan.advance(bytes)? else { return Ok(None) };
        let head = bytes.get(..lines.end).ok_or(Refusal::HeadTooLarge)?;
        let fields = if lines.fields_count <= FEW_FIELDS_COUNT {
            parse_fields::<FEW_FIELDS_COUNT>(head, lines.fields_start)
        } else {
            parse_fields::<HEAD_FIELDS_MAX_COUNT>(head, lines.fields_start)
        };
        Self::conclude(&lines, &fields?).map(Some)
    }

    /// The path; `/` if an absolute-form target has none, `*` for `OPTIONS` of the server as a whole.
    #[must_use]
    pub fn path<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        match self.path.of_bytes(bytes) {
            // RFC 9112, section 3.2.4: the absolute form of `*` has neither path nor query.
            [] if self.method == Method::Options && self.query.is_none() => b"*",
            [] => b"/",
            path => path,
        }
    }

    /// The query without its `?`.
    #[must_use]
    pub fn query<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.query.map(|span| span.of_bytes(bytes))
    }

    /// The authority the request is for: that of an absolute-form target, else `Host`.
    #[must_use]
    pub fn host<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.host.map(|span| span.of_bytes(bytes))
    }

    /// `Authorization`.
    #[must_use]
    pub fn authorization<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.authorization.map(|span| span.of_bytes(bytes))
    }

    /// `X-API-Key`.
    #[must_use]
    pub fn api_key<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.api_key.map(|span| span.of_bytes(bytes))
    }

    /// `Content-Type`.
    #[must_use]
    pub fn content_type<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.content_type.map(|span| span.of_bytes(bytes))
    }

    /// The first `Accept`.
    #[must_use]
    pub fn accept<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.accept.map(|span| span.of_bytes(bytes))
    }

    /// `Origin`.
    #[must_use]
    pub fn origin<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.origin.map(|span| span.of_bytes(bytes))
    }

    /// `X-Request-Id`, if it is made of letters, digits and `-_.` and not too long.
    #[must_use]
    pub fn request_id<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.request_id.map(|span| span.of_bytes(bytes))
    }

    /// `traceparent`, if it is well formed and stands once.
    #[must_use]
    pub fn traceparent(&self, bytes: &[u8]) -> Option<TraceParent> {
        self.traceparent.and_then(|span| TraceParent::parse(span.of_bytes(bytes)))
    }

    /// The values of every line of the field `name`, the last line first.
    ///
    /// They are looked for each time: for fields of which no place is kept, since hardly any request has them.
    pub fn values_from_last<'a>(&self, bytes: &'a [u8], name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let lines = bytes.get(usize::from(self.fields_at)..self.len).unwrap_or_default();
        // The head is known to be well formed: its lines end in CR LF, and each has a colon behind its name.
        lines.rsplit(|byte| *byte == b'\n').filter_map(move |line| {
            let (found, value) = line.split_at_checked(name.len())?;
            let [b':', value @ .., b'\r'] = value else { return None };
            found.eq_ignore_ascii_case(name.as_bytes()).then(|| trim(value))
        })
    }

    /// The value of a field that few requests have, looked up only when it is asked for.
    ///
    /// # Errors
    /// It stands twice.
    pub fn rare<'a>(&self, bytes: &'a [u8], name: &'a str) -> Result<Option<&'a [u8]>, Refusal> {
        let mut values = self.values_from_last(bytes, name);
        let value = values.next();
        if values.next().is_some() { Err(Refusal::RepeatedField) } else { Ok(value) }
    }

    fn conclude(lines: &Lines, fields: &Fields) -> Result<Self, Refusal> {
        let request = lines.request;
        let framing = fields.framing.conclude(request.version)?;
        if fields.host.is_none() && request.version == Version::Http11 {
            return Err(Refusal::MissingHost);
        }
        Ok(Self {
            method: request.method,
            version: request.version,
            keep_alive: fields.keep_alive(request.version),
            expects_continue: fields.expects_continue(request.version)?,
            coded_content: fields.coded_content,
            framing,
            len: lines.end,
            fields_at: u16::try_from(lines.fields_start).map_err(|_| Refusal::HeadTooLarge)?,
            path: request.path,
            query: request.query,
            host: request.authority.or(fields.host),
            authorization: fields.authorization,
            api_key: fields.api_key,
            content_type: fields.content_type,
            accept: fields.accept,
            origin: fields.origin,
            request_id: fields.request_id,
            traceparent: fields.traceparent,
        })
    }
}

/// Parses the field lines of a complete head with room for `ROOM` of them.
fn parse_fields<const ROOM: usize>(head: &[u8], start: usize) -> Result<Fields, Refusal> {
    let mut room = [httparse::EMPTY_HEADER; ROOM];
    let lines = head.get(start..).unwrap_or_default();
    let parsed = match httparse::parse_headers(lines, &mut room) {
        Ok(httparse::Status::Complete((end, parsed))) if start + end == head.len() => parsed,
        Err(httparse::Error::TooManyHeaders) => return Err(Refusal::TooManyFields),
        // The scan saw the end of the head: another end is as wrong as none.
        Ok(_) | Err(_) => return Err(Refusal::MalformedField),
    };
    let mut fields = Fields::default();
    for field in parsed {
        fields.take(head, field.name.as_bytes(), field.value)?;
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_that_stands_twice_or_is_malformed_counts_as_absent() {
        const VALUE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let of = |fields: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let parsed = Head::parse(head.as_bytes()).unwrap().unwrap();
            parsed.traceparent(head.as_bytes()).map(|trace| format!("{trace:?}"))
        };
        let line = format!("TraceParent:  {VALUE} \r\n");
        assert_eq!(of(&line).as_deref(), Some(VALUE));
        for bad in [String::new(), line.repeat(2), line.repeat(3), format!("traceparent: {VALUE}0\r\n")] {
            assert_eq!(of(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_typical_head_gives_its_parts() {
        let head = b"POST /api/encrypt?key=orders HTTP/1.1\r\nHost: localhost:8080\r\nUser-Agent: curl/8\r\n\
            Accept: */*\r\nX-API-Key: qk_1.abc\r\nContent-Type:application/octet-stream \r\n\
            Content-Length: 12\r\nExpect: 100-continue\r\nX-Request-Id: r-1\r\nOrigin: https://a.example\r\n\r\nbody";
        let parsed = Head::parse(head).unwrap().unwrap();
        assert_eq!((parsed.method, parsed.version), (Method::Post, Version::Http11));
        assert_eq!(parsed.framing, Framing::Length(12));
        assert!(parsed.keep_alive && parsed.expects_continue && !parsed.coded_content);
        assert_eq!(parsed.len, head.len() - 4);
        assert_eq!(parsed.path(head), b"/api/encrypt");
        assert_eq!(parsed.query(head), Some(&b"key=orders"[..]));
        assert_eq!(parsed.host(head), Some(&b"localhost:8080"[..]));
        assert_eq!(parsed.authorization(head), None);
        assert_eq!(parsed.api_key(head), Some(&b"qk_1.abc"[..]));
        assert_eq!(parsed.content_type(head), Some(&b"application/octet-stream"[..]));
        assert_eq!(parsed.accept(head), Some(&b"*/*"[..]));
        assert_eq!(parsed.origin(head), Some(&b"https://a.example"[..]));
        assert_eq!(parsed.request_id(head), Some(&b"r-1"[..]));
    }

    #[test]
    fn a_rare_field_is_found_when_it_is_asked_for() {
        let find = |head: &str, name: &str| {
            let parsed = Head::parse(head.as_bytes()).unwrap().unwrap();
            parsed.rare(head.as_bytes(), name).map(|value| value.map(<[u8]>::to_vec))
        };
        let head = "\r\nGET /?last-event-id:3 HTTP/1.1\r\nHost: a\r\nlast-EVENT-id:\t a-1 \r\nX-Empty:\r\n\r\nLast-Event-ID: b";
        assert_eq!(find(head, "Last-Event-ID"), Ok(Some(b"a-1".to_vec())));
        assert_eq!(find(head, "x-empty"), Ok(Some(Vec::new())));
        assert_eq!(find(head, "Event-ID"), Ok(None));
        assert_eq!(
            find(&head.replace("X-Empty", "Last-Event-ID"), "Last-Event-ID"),
            Err(Refusal::RepeatedField)
        );
    }

    #[test]
    fn the_authority_of_the_target_replaces_the_host() {
        let head = b"GET http://a.example:80?q HTTP/1.1\r\nHost: b.example\r\n\r\n";
        let parsed = Head::parse(head).unwrap().unwrap();
        assert_eq!(parsed.host(head), Some(&b"a.example:80"[..]));
        assert_eq!(parsed.path(head), b"/");
        assert_eq!(parsed.query(head), Some(&b"q"[..]));
        let head = b"GET http://a.example/ HTTP/1.1\r\n\r\n";
        assert_eq!(Head::parse(head).unwrap_err(), Refusal::MissingHost);
    }

    #[test]
    fn every_line_of_a_field_is_found_from_the_last_on() {
        let head = b"\r\nGET /via:1 HTTP/1.1\r\nHost: a\r\nVia: 1\r\nvia:\t 2 ,3 \r\nVia2: x\r\nX-Via: y\r\nVIA:\r\n\r\nVia: 4\r\n";
        let parsed = Head::parse(head).unwrap().unwrap();
        let found: Vec<&[u8]> = parsed.values_from_last(head, "via").collect();
        assert_eq!(found, [&b""[..], b"2 ,3", b"1"]);
        assert_eq!(parsed.values_from_last(head, "get /via").count(), 0, "the request line is no field");
        assert_eq!(parsed.values_from_last(b"", "via").count(), 0);
    }

    #[test]
    fn options_of_the_server_have_the_asterisk_for_path() {
        for target in ["*", "http://a.example"] {
            let head = format!("OPTIONS {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            let parsed = Head::parse(head.as_bytes()).unwrap().unwrap();
            assert_eq!(parsed.path(head.as_bytes()), b"*", "{target}");
        }
    }

    #[test]
    fn as_many_fields_as_the_limit_are_taken() {
        for count in [FEW_FIELDS_COUNT - 1, FEW_FIELDS_COUNT, HEAD_FIELDS_MAX_COUNT - 1] {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(count));
            assert!(Head::parse(head.as_bytes()).unwrap().is_some(), "{count}");
        }
        let head = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(HEAD_FIELDS_MAX_COUNT + 1));
        assert_eq!(Head::parse(head.as_bytes()).unwrap_err(), Refusal::TooManyFields);
    }

    #[test]
    fn a_fault_of_framing_is_reported_before_an_expectation() {
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: x\r\nContent-Length: 1\r\n\
            Transfer-Encoding: chunked\r\n\r\n";
        assert_eq!(Head::parse(head).unwrap_err(), Refusal::AmbiguousFraming);
    }
}
