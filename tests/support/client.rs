//! A small HTTP client that sends exactly the bytes it is given and reads replies by their framing.
//!
//! Owns one connection. Invariants: every read has a timeout, so that a silent server fails a test and does not hang
//! it; a reply that is not well-formed HTTP/1.1 is a failure; bytes after a reply stay for the next one.

#![allow(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, and says where")]
#![allow(dead_code, reason = "included by several test files, none of which uses all of it")]

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Far longer than any time limit that a test sets, and than any machine is busy with something else: only a silent
/// server reaches it.
pub(crate) const SILENCE: Duration = Duration::from_secs(120);

/// The time between two looks at what is waited for.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);

/// Looks again and again until it is so; tells whether it ever was. By the time and not by a number of looks: how many a
/// machine makes meanwhile says nothing of how far another thread has come.
pub(crate) fn comes_true(mut is_so: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while !is_so() {
        if begin.elapsed() > SILENCE {
            return false;
        }
        // Not at once: what is waited for needs the processor.
        std::thread::park_timeout(BETWEEN_LOOKS);
    }
    true
}

/// What stands in every reply.
const GUARDS: [(&str, &str); 7] = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
];

/// A request to be written out.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: &'static str,
    target: String,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
}

impl Request {
    /// A request without fields of its own; `Host` is added when it is written.
    pub(crate) fn new(method: &'static str, target: &str) -> Self {
        Self { method, target: target.to_owned(), fields: Vec::new(), body: None }
    }

    /// `GET target`.
    pub(crate) fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// `POST target` with a body, which gets its `Content-Length`.
    pub(crate) fn post(target: &str, body: impl AsRef<[u8]>) -> Self {
        Self { body: Some(body.as_ref().to_vec()), ..Self::new("POST", target) }
    }

    /// `PATCH target` with a body.
    pub(crate) fn patch(target: &str, body: impl AsRef<[u8]>) -> Self {
        Self::new("PATCH", target).body(body)
    }

    /// Adds a body, which gets its `Content-Length`.
    pub(crate) fn body(self, body: impl AsRef<[u8]>) -> Self {
        Self { body: Some(body.as_ref().to_vec()), ..self }
    }

    /// The same with any method.
    pub(crate) fn with_body(method: &'static str, target: &str, body: impl AsRef<[u8]>) -> Self {
        Self { body: Some(body.as_ref().to_vec()), ..Self::new(method, target) }
    }

    /// Adds a field.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds the credential.
    pub(crate) fn key(self, key: &str) -> Self {
        self.with("X-API-Key", key)
    }

    /// The bytes on the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\nHost: test\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.fields {
            bytes.extend(format!("{name}: {value}\r\n").bytes());
        }
        if let Some(body) = &self.body {
            bytes.extend(format!("Content-Length: {}\r\n", body.len()).bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(self.body.iter().flatten());
        bytes
    }

    /// Whether the reply ends with its head.
    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }
}

/// A reply as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// The status code.
    pub(crate) status: u16,
    /// The fields in their order, names as they were sent.
    pub(crate) fields: Vec<(String, String)>,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The value of a field that may stand once at most.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} stands twice: {:?}", self.fields);
        value
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_else(|_| panic!("not text: {:?}", self.body))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        let read = serde_json::from_slice(&self.body);
        read.unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    /// A text of the body's JSON object.
    pub(crate) fn member(&self, name: &str) -> String {
        let json = self.json();
        let text = json.get(name).and_then(|value| value.as_str());
        text.unwrap_or_else(|| panic!("no text {name} in {json}")).to_owned()
    }

    /// Asserts that this is a complete problem document (RFC 9457) of this status and code.
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        let shown = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{code}: {shown}");
        assert_eq!(self.field("Content-Type"), Some("application/problem+json"));
        let problem = self.json();
        let text = |name: &str| problem.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        assert_eq!(text("code"), code, "{shown}");
        assert_eq!(text("type"), format!("urn:quantonium:problem:{code}"));
        assert_eq!(problem.get("status").and_then(serde_json::Value::as_u64), Some(u64::from(status)));
        assert_eq!(text("request_id"), self.field("X-Request-Id").unwrap_or("none"));
        assert!(!text("title").is_empty() && text("detail").len() > 10, "{shown}");
        let members =
            problem.as_object().map(|members| members.keys().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(members.unwrap_or_default(), ["code", "detail", "request_id", "status", "title", "type"]);
    }

    /// Asserts what stands in every reply of the server.
    pub(crate) fn assert_guarded(&self) {
        // A document is kept and asked for again; the page among them may run its own script.
        let document = self.field("ETag").is_some();
        for (name, value) in GUARDS {
            let wanted = match name {
                "Cache-Control" if document => "no-cache",
                "Content-Security-Policy" if document => continue,
                _ => value,
            };
            assert_eq!(self.field(name), Some(wanted), "{name}");
        }
        let id = self.field("X-Request-Id").unwrap_or_default();
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id:?}");
        let date = self.field("Date").unwrap_or_default();
        assert!(date.len() == 29 && date.ends_with(" GMT"), "{date:?}");
        let time: Result<f64, _> = self.field("X-Request-Time").unwrap_or_default().parse();
        assert!(time.is_ok_and(|seconds| (0.0..600.0).contains(&seconds)), "{:?}", self.fields);
        assert!(self.field("Server-Timing").is_some_and(|timing| timing.starts_with("app;dur=")));
        for name in [
            "Server",
            "X-Powered-By",
            "Strict-Transport-Security",
            "Access-Control-Allow-Credentials",
            "Set-Cookie",
        ] {
            assert_eq!(self.field(name), None, "{name}");
        }
        // Whatever is shared is shared with one origin, and no cache may give it to another.
        if let Some(origin) = self.field("Access-Control-Allow-Origin") {
            assert!(origin != "*" && origin != "null", "{origin}");
            assert!(self.field("Vary").is_some_and(|vary| vary.starts_with("Origin")), "{:?}", self.fields);
        }
    }

    /// Whether the server says that it closes.
    pub(crate) fn closes(&self) -> bool {
        self.field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// One connection to a server.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    /// Bytes that were read and belong to no reply yet.
    read: Vec<u8>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    /// Connects to a server that may be gone.
    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(SILENCE)).expect("a read timeout");
        stream.set_write_timeout(Some(SILENCE)).expect("a write timeout");
        stream.set_nodelay(true).expect("no delay");
        Ok(Self { stream, read: Vec::new() })
    }

    /// Takes little that is not read: what the server says soon waits with the server.
    pub(crate) fn narrow(&self) {
        socket2::SockRef::from(&self.stream).set_recv_buffer_size(4 * 1024).expect("a receive buffer");
    }

    /// Sends these bytes and no others.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap_or_else(|error| panic!("sending: {error}"));
    }

    /// Sends these bytes, which a server that has closed need not take.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits so long for the server to say something, or to close.
    pub(crate) fn is_answered_within(&mut self, millis: u64) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_millis(millis))).expect("a read timeout");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(Some(SILENCE)).expect("a read timeout");
        !peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&mut self) {
        // The server may have closed already; then there is nothing to say.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Sends a request and reads its reply.
    pub(crate) fn call(&mut self, request: &Request) -> Reply {
        // A server that refuses what is too long answers before it has taken all of it, and then closes.
        let _ = self.try_send(&request.bytes());
        if request.is_head() { self.reply_to_head() } else { self.reply() }
    }

    /// The same of a server that may be killed meanwhile: nothing if the reply does not arrive whole.
    pub(crate) fn attempt(&mut self, request: &Request) -> Option<Reply> {
        self.try_send(&request.bytes()).ok()?;
        while !self.holds_reply() {
            if !self.fill() {
                return None;
            }
        }
        Some(self.reply())
    }

    /// Whether a whole reply with a `Content-Length` was read.
    fn holds_reply(&self) -> bool {
        let Some(head) = memchr::memmem::find(&self.read, b"\r\n\r\n") else { return false };
        let fields = self.read.get(..head).map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        let length = fields.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or_default();
        self.read.len() >= head + 4 + length
    }

    /// The next reply, interim ones (1xx) included.
    pub(crate) fn reply(&mut self) -> Reply {
        self.try_reply().unwrap_or_else(|| panic!("the connection ended before a reply"))
    }

    /// The next reply, which is to a HEAD request.
    pub(crate) fn reply_to_head(&mut self) -> Reply {
        let reply = self.read_head().unwrap_or_else(|| panic!("the connection ended before a reply"));
        reply.assert_guarded();
        reply
    }

    /// The next reply, or nothing if the connection ends before its first byte.
    pub(crate) fn try_reply(&mut self) -> Option<Reply> {
        let reply = self.bare_reply()?;
        if reply.status >= 200 {
            reply.assert_guarded();
        }
        Some(reply)
    }

    /// The same without a look at its fields: for what is said before there is a connection to speak of.
    pub(crate) fn bare_reply(&mut self) -> Option<Reply> {
        let mut reply = self.read_head()?;
        let bodyless = reply.status < 200 || reply.status == 204 || reply.status == 304;
        if !bodyless {
            reply.body = self.read_body(&reply);
        }
        Some(reply)
    }

    /// Reads to the end of the connection and returns the final status of every reply, whatever was asked.
    ///
    /// Without the requests at hand a reply to HEAD cannot be told by its framing: a head that follows a head at once
    /// is taken for the next reply.
    pub(crate) fn statuses(&mut self) -> Vec<u16> {
        while self.fill() {}
        let mut statuses = Vec::new();
        while let Some(mut reply) = self.read_head() {
            if reply.status >= 200 {
                reply.assert_guarded();
                statuses.push(reply.status);
            }
            if reply.field("Content-Length").is_some()
                && !self.read.starts_with(b"HTTP/1.1 ")
                && !self.read.is_empty()
            {
                reply.body = self.read_body(&reply);
            }
        }
        statuses
    }

    /// Reads to the end of the connection and returns how many bytes came.
    pub(crate) fn drain(&mut self) -> usize {
        let mut count = core::mem::take(&mut self.read).len();
        while self.fill() {
            count += core::mem::take(&mut self.read).len();
        }
        count
    }

    /// Whether the connection ends without another byte.
    pub(crate) fn ends(&mut self) -> bool {
        self.drain() == 0
    }

    fn read_head(&mut self) -> Option<Reply> {
        let len = loop {
            if let Some(at) = memchr::memmem::find(&self.read, b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill() {
                let left = String::from_utf8_lossy(&self.read);
                assert!(left.is_empty(), "the connection ended inside a head: {left:?}");
                return None;
            }
        };
        let head: Vec<u8> = self.read.drain(..len).collect();
        let head = String::from_utf8(head).unwrap_or_else(|error| panic!("not text: {error}"));
        let mut lines = head.trim_end_matches("\r\n").split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.split_once(' '));
        let (status, _) = status.unwrap_or_else(|| panic!("not a status line: {first:?}"));
        assert!(status.len() == 3, "not a status: {first:?}");
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a field: {line:?}"));
            assert!(!name.is_empty() && !name.contains(' '), "not a field: {line:?}");
            (name.to_owned(), value.trim().to_owned())
        });
        let fields = fields.collect();
        let status = status.parse().unwrap_or_else(|_| panic!("not a status: {first:?}"));
        Some(Reply { status, fields, body: Vec::new() })
    }

    fn read_body(&mut self, reply: &Reply) -> Vec<u8> {
        if let Some(coding) = reply.field("Transfer-Encoding") {
            assert_eq!(coding, "chunked");
            return self.read_chunks();
        }
        let length = reply.field("Content-Length").unwrap_or_else(|| panic!("no framing: {reply:?}"));
        let length = length.parse().unwrap_or_else(|_| panic!("not a length: {length:?}"));
        self.take(length)
    }

    fn read_chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.take_line();
            let size = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("not a size: {line:?}"));
            body.extend(self.take(size));
            assert_eq!(self.take_line(), "", "a chunk ends with its line end");
            if size == 0 {
                return body;
            }
        }
    }

    fn take_line(&mut self) -> String {
        loop {
            if let Some(at) = memchr::memmem::find(&self.read, b"\r\n") {
                let line: Vec<u8> = self.read.drain(..at + 2).take(at).collect();
                return String::from_utf8(line).unwrap_or_else(|error| panic!("not text: {error}"));
            }
            assert!(self.fill(), "the connection ended inside a line");
        }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            let there = self.read.len();
            assert!(self.fill(), "the connection ended after {there} of {length} bytes of a body");
        }
        self.read.drain(..length).collect()
    }

    /// Waits for more bytes; false at the end of the connection.
    fn fill(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        match self.stream.read(&mut piece) {
            Ok(0) => false,
            Ok(count) => {
                self.read.extend(piece.iter().take(count));
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            // A read with a timeout is interrupted when this process is stopped and continued (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => self.fill(),
            Err(error) => panic!("reading: {error}"),
        }
    }
}
