//! What a peer sends, and what it must get for it.

use crate::random::Random;
use crate::streamed;

/// What the simulated service does with a request, named by the first part of its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Answers with a digest of the request.
    Digest,
    /// Answers with the body itself.
    Echo,
    /// Answers with as many bytes as the path says.
    Large,
    /// Waits for a commit, then answers as `Digest`.
    Commit,
    /// Waits for another thread, then answers as `Digest`.
    Wake,
    /// Waits for a commit and then for another thread, as a change does.
    Change,
    /// Takes no body beyond a few bytes.
    Small,
    /// Is refused by its head.
    Refused,
    /// Takes its body and sends its reply piece by piece.
    Stream,
    /// Begins such a reply and does not finish it.
    Broken,
}

pub(crate) const KINDS: [(Kind, &str); 10] = [
    (Kind::Digest, "digest"),
    (Kind::Echo, "echo"),
    (Kind::Large, "large"),
    (Kind::Commit, "commit"),
    (Kind::Wake, "wake"),
    (Kind::Change, "change"),
    (Kind::Small, "small"),
    (Kind::Refused, "refused"),
    (Kind::Stream, "stream"),
    (Kind::Broken, "broken"),
];

impl Kind {
    pub(crate) fn is_streamed(self) -> bool {
        matches!(self, Self::Stream | Self::Broken)
    }
}

/// Body limit of [`Kind::Small`] and of every other kind.
pub(crate) const SMALL_BODY: usize = 64;
pub(crate) const LARGE_BODY: usize = 200 * 1024;

/// What the path says: kind, whether an audit line tells of it, and the size of a large reply.
pub(crate) fn read_path(path: &str) -> Option<(Kind, bool, usize)> {
    let mut parts = path.split('/').skip(1);
    let (name, audited) = (parts.next()?, parts.next()? == "audited");
    let kind = KINDS.iter().find(|(_, known)| *known == name)?.0;
    Some((kind, audited, parts.nth(2)?.parse().ok()?))
}

/// The body of a successful reply: it changes with every byte of the request.
pub(crate) fn reply_body(method: &str, path: &str, body: &[u8]) -> Vec<u8> {
    let Some((kind, _, size)) = read_path(path) else { return Vec::new() };
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in method.bytes().chain(path.bytes()).chain(body.iter().copied()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut reply = format!("{method} {path} {} {hash:016x}\n", body.len()).into_bytes();
    match kind {
        Kind::Echo => reply.extend_from_slice(body),
        Kind::Large => {
            let mut random = Random::new(hash);
            let target = reply.len() + size;
            while reply.len() < target {
                reply.extend_from_slice(&random.next().to_le_bytes());
            }
            reply.truncate(target);
        }
        _ => {}
    }
    reply
}

/// What a request must be answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Body(Vec<u8>),
    Fault(u16, &'static str),
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) path: String,
    pub(crate) head_only: bool,
    pub(crate) answer: Answer,
    pub(crate) kind: Option<Kind>,
    pub(crate) audited: bool,
    pub(crate) has_body: bool,
    /// Whether it may be answered by `100 Continue` first.
    pub(crate) expects: bool,
    /// Whether the peer asks for the end of the connection, and whether the reply ends it in any case.
    pub(crate) asks_end: bool,
    pub(crate) ends: bool,
    /// Where its head and the whole of it end in the script.
    pub(crate) head_end: usize,
    pub(crate) end: usize,
}

/// The requests of one connection, as bytes and as a plan.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) bytes: Vec<u8>,
    pub(crate) requests: Vec<Planned>,
    /// The last request is cut off.
    pub(crate) cut: bool,
}

impl Script {
    pub(crate) fn random(connection: usize, requests_max: u64, random: &mut Random) -> Self {
        let mut script = Self { bytes: Vec::new(), requests: Vec::new(), cut: false };
        let count = if random.one_in(8) { random.between(1, 60) } else { random.between(1, 6) };
        for index in 0..count {
            if random.one_in(40) {
                script.push_malformed(random);
                continue;
            }
            script.push(connection, index, random);
            let planned = script.requests.last_mut().unwrap();
            planned.ends |= index as u64 + 1 >= requests_max;
        }
        if random.one_in(6) {
            script.cut(random);
        }
        script
    }

    /// Leaves out the end of the last request, if it is of a kind whose answer is then certain.
    fn cut(&mut self, random: &mut Random) {
        let start = self.requests.iter().rev().nth(1).map_or(0, |before| before.end);
        let last = self.requests.last().unwrap();
        if matches!(last.kind, Some(Kind::Digest | Kind::Echo | Kind::Commit | Kind::Stream)) {
            self.bytes.truncate(random.between(start + 1, last.end - 1));
            self.cut = true;
        }
    }

    fn push_malformed(&mut self, random: &mut Random) {
        let (text, status, code) = *random.pick(&[
            ("GET /x HTTP/1.1\r\nHost: a\r\nBad Name: b\r\n\r\n", 400, "malformed_field"),
            ("GET /x HTTP/1.1\r\n\r\n", 400, "missing_host"),
            ("GET /x HTTP/2.0\r\nHost: a\r\n\r\n", 505, "unsupported_version"),
            (
                "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
                400,
                "ambiguous_framing",
            ),
        ]);
        self.bytes.extend_from_slice(text.as_bytes());
        let end = self.bytes.len();
        self.requests.push(Planned {
            path: String::new(),
            head_only: false,
            answer: Answer::Fault(status, code),
            kind: None,
            audited: false,
            has_body: false,
            expects: false,
            asks_end: false,
            ends: true,
            head_end: end,
            end,
        });
    }

    fn push(&mut self, connection: usize, index: usize, random: &mut Random) {
        let (kind, name) = *random.pick(&KINDS);
        let audited = random.coin();
        let size = if random.one_in(20) { random.below(100 * 1024) } else { random.below(3_000) };
        let tale = if audited { "audited" } else { "quiet" };
        let path = format!("/{name}/{tale}/{connection}/{index}/{size}");
        let method = *random.pick(&["GET", "HEAD", "POST", "POST", "POST", "BREW"]);
        let method = if method == "BREW" && !random.one_in(4) { "POST" } else { method };
        let method = if method == "HEAD" && kind.is_streamed() { "POST" } else { method };
        let old = random.one_in(8);
        let unmeasured = old && kind.is_streamed() && (method == "GET" || random.one_in(3));
        let body = if method == "POST" && !unmeasured { random_body(random) } else { Vec::new() };
        let chunked = !old && method == "POST" && random.coin();
        let expects = !old && !body.is_empty() && random.one_in(4);
        let keep = old && random.coin();
        let asks_end = if old { !keep } else { random.one_in(20) };

        let bytes = &mut self.bytes;
        (0..if random.one_in(20) { random.between(1, 3) } else { 0 }).for_each(|_| bytes.extend(b"\r\n"));
        let version = if old { "1.0" } else { "1.1" };
        let mut head = format!("{method} {path} HTTP/{version}\r\nHost: simulation\r\n");
        if random.one_in(10) {
            head.push_str(&format!("X-Padding: {}\r\n", "p".repeat(random.below(4_000))));
        }
        if expects {
            head.push_str("Expect: 100-continue\r\n");
        }
        match (asks_end, keep) {
            (true, _) if !old => head.push_str("Connection: close\r\n"),
            (_, true) => head.push_str("Connection: keep-alive\r\n"),
            _ => {}
        }
        match (chunked, method) {
            (true, _) => head.push_str("Transfer-Encoding: chunked\r\n"),
            (false, "POST") if !unmeasured => head.push_str(&format!("Content-Length: {}\r\n", body.len())),
            _ => {}
        }
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(b"\r\n");
        let head_end = bytes.len();
        if chunked {
            push_chunks(bytes, &body, random);
        } else {
            bytes.extend_from_slice(&body);
        }
        let end = bytes.len();
        let too_large = kind == Kind::Small && body.len() > SMALL_BODY;
        let answer = match kind {
            _ if method == "BREW" => Answer::Fault(501, "unknown_method"),
            Kind::Refused => Answer::Fault(403, "refused"),
            _ if unmeasured => Answer::Fault(411, "length_required"),
            Kind::Stream | Kind::Broken => Answer::Body(streamed::reply_body(&path, &body)),
            _ if too_large => Answer::Fault(413, "body_too_large"),
            _ => Answer::Body(reply_body(method, &path, &body)),
        };
        let refused = matches!(answer, Answer::Fault(..));
        let ends = asks_end || too_large || (refused && chunked) || (unmeasured && method != "BREW");
        self.requests.push(Planned {
            path,
            head_only: method == "HEAD",
            kind: Some(kind).filter(|_| method != "BREW"),
            answer,
            audited: audited && !too_large && method != "BREW" && !kind.is_streamed(),
            has_body: end > head_end,
            expects: expects && (!refused || (too_large && chunked)),
            asks_end,
            ends,
            head_end,
            end,
        });
    }
}

fn random_body(random: &mut Random) -> Vec<u8> {
    let size = match random.below(40) {
        0 => random.below(110 * 1024),
        1..5 => random.below(20 * 1024),
        5..10 => 0,
        _ => random.below(300),
    };
    (0..size).map(|_| random.next().to_le_bytes()[0]).collect()
}

fn push_chunks(bytes: &mut Vec<u8>, body: &[u8], random: &mut Random) {
    let mut rest = body;
    while !rest.is_empty() {
        let count = if random.coin() { random.between(1, 16) } else { random.between(1, rest.len()) };
        let (chunk, tail) = rest.split_at(count.min(rest.len()));
        rest = tail;
        let extension = if random.one_in(4) { ";name=\"value\"" } else { "" };
        bytes.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    let trailer = if random.one_in(4) { "Trailing: field\r\n" } else { "" };
    bytes.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
}
