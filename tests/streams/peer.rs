//! A client that reads while it sends, and can tell whether the reply is complete.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use crate::server::Server;

/// How the body of a request is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    Length,
    /// In chunks of this size.
    Chunks(usize),
}

pub(crate) const FRAMINGS: [Framing; 3] =
    [Framing::Length, Framing::Chunks(10_000), Framing::Chunks(100_000)];

/// A reply that may be cut short.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// Whether all of it came: its announced length, or its last chunk.
    pub(crate) complete: bool,
    /// Whether its connection broke, as the client sees it: in reading, or in sending what came too late.
    pub(crate) broken: bool,
}

impl Reply {
    /// Whether it was begun and cut: no client can take it for a whole one, even if it does not count.
    pub(crate) fn is_cut(&self) -> bool {
        self.status == 200 && !self.complete && self.broken
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = self.body[..self.body.len().min(400)].escape_ascii();
        write!(
            f,
            "{} {} bytes, complete: {}, broken: {}, {start}",
            self.head,
            self.body.len(),
            self.complete,
            self.broken
        )
    }
}

impl Reply {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// Whether it is a complete problem document with this code.
    pub(crate) fn is_problem(&self, status: u16, code: &str) -> bool {
        let text = String::from_utf8_lossy(&self.body);
        self.complete && self.status == status && text.contains(&format!("\"code\":\"{code}\""))
    }

    /// Reads one from the bytes of a connection that has ended.
    fn parse(bytes: &[u8], broken: bool) -> Self {
        let bytes = bytes.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(bytes);
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
            return Self { status: 0, head: String::new(), body: bytes.to_vec(), complete: false, broken };
        };
        let (head, rest) = bytes.split_at(end + 4);
        let head = String::from_utf8(head.to_vec()).unwrap();
        let status = head.get(9..12).unwrap().parse().unwrap();
        let mut reply = Self { status, head, body: Vec::new(), complete: false, broken };
        match reply.field("Content-Length").map(|length| length.parse::<usize>().unwrap()) {
            Some(length) => {
                assert!(rest.len() <= length, "more than was announced: {reply:?}");
                (reply.body, reply.complete) = (rest.to_vec(), rest.len() == length);
            }
            None => {
                assert_eq!(reply.field("Transfer-Encoding"), Some("chunked"), "{reply:?}");
                reply.read_chunks(rest);
            }
        }
        reply
    }

    fn read_chunks(&mut self, mut rest: &[u8]) {
        while let Some(end) = memchr::memmem::find(rest, b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
            rest = &rest[end + 2..];
            if size == 0 {
                assert_eq!(rest, b"\r\n", "something follows the last chunk");
                self.complete = true;
                return;
            }
            self.body.extend_from_slice(&rest[..size.min(rest.len())]);
            if rest.len() < size + 2 {
                return;
            }
            assert_eq!(&rest[size..size + 2], b"\r\n");
            rest = &rest[size + 2..];
        }
    }
}

/// The head of a request that is the last of its connection.
pub(crate) fn head(server: &Server, target: &str, framing: Framing, length: usize) -> String {
    let framing = match framing {
        Framing::Length => format!("Content-Length: {length}"),
        Framing::Chunks(_) => "Transfer-Encoding: chunked".to_owned(),
    };
    let key = server.key();
    format!("POST {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-API-Key: {key}\r\n{framing}\r\n\r\n")
}

/// A body as it stands on the wire.
pub(crate) fn framed(body: &[u8], framing: Framing) -> Vec<u8> {
    let Framing::Chunks(size) = framing else { return body.to_vec() };
    let mut bytes = Vec::with_capacity(body.len() + 1_000);
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// Sends `bytes` on a connection of its own, reads at the same time, and returns what came.
pub(crate) fn talk(server: &Server, bytes: &[u8], half_close: bool) -> Reply {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let mut sending = stream.try_clone().unwrap();
    let mut received = Vec::new();
    let broken = std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            // A server that has seen enough closes; what it said is what matters.
            let sent = sending.write_all(bytes);
            if half_close {
                let _ = sending.shutdown(Shutdown::Write);
            }
            sent
        });
        // A reset after a refusal is no news. It is told once, to whoever asks first.
        let read = stream.read_to_end(&mut received);
        sender.join().unwrap().is_err() | read.is_err()
    });
    Reply::parse(&received, broken)
}

/// Streams `body` to `target`.
pub(crate) fn stream(server: &Server, target: &str, body: &[u8], framing: Framing) -> Reply {
    let head = head(server, target, framing, body.len());
    talk(server, &[head.as_bytes(), &framed(body, framing)].concat(), false)
}

/// A connection whose two directions are driven by the test.
pub(crate) struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
    /// Whether it was told that the connection broke: that is told once.
    broken: bool,
}

impl Peer {
    pub(crate) fn connect(server: &Server) -> Self {
        Self { stream: TcpStream::connect(server.address()).unwrap(), received: Vec::new(), broken: false }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends these bytes, which a server that has closed need not take; whether it took them.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        let sent = self.stream.write_all(bytes).is_ok();
        self.broken |= !sent;
        sent
    }

    /// Sends until the server takes no more for so long; returns how much it took.
    pub(crate) fn send_until_full(&mut self, bytes: &[u8], millis: u64) -> usize {
        self.stream.set_write_timeout(Some(std::time::Duration::from_millis(millis))).unwrap();
        let mut sent = 0;
        while let Ok(count) = self.stream.write(&bytes[sent..]) {
            sent += count;
            if sent == bytes.len() {
                break;
            }
        }
        self.stream.set_write_timeout(None).unwrap();
        sent
    }

    /// Breaks the connection off.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    /// Waits until a head was received, and so much of its body.
    pub(crate) fn wait_for_body(&mut self, len: usize) {
        let head = |received: &[u8]| memchr::memmem::find(received, b"\r\n\r\n").map(|at| at + 4);
        while head(&self.received).is_none_or(|head| self.received.len() < head + len) {
            self.wait_for(self.received.len() + 1);
        }
    }

    /// Waits until so much was received in all.
    pub(crate) fn wait_for(&mut self, len: usize) {
        let mut piece = vec![0; 64 * 1024];
        while self.received.len() < len {
            let count = self.stream.read(&mut piece).unwrap();
            assert!(count > 0, "the end after {} of {len} bytes", self.received.len());
            self.received.extend_from_slice(&piece[..count]);
        }
    }

    /// Whether the server says something, or closes, within this time.
    pub(crate) fn is_answered_within(&mut self, millis: u64) -> bool {
        self.stream.set_read_timeout(Some(std::time::Duration::from_millis(millis))).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(None).unwrap();
        let is_silent = peeked.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        self.broken |= peeked.is_err() && !is_silent;
        !is_silent
    }

    /// Sends `rest` while reading to the end.
    pub(crate) fn finish(mut self, rest: &[u8]) -> Reply {
        let mut sending = self.stream.try_clone().unwrap();
        let broken = std::thread::scope(|scope| {
            let sender = scope.spawn(move || sending.write_all(rest));
            let read = self.stream.read_to_end(&mut self.received);
            sender.join().unwrap().is_err() | read.is_err()
        });
        Reply::parse(&self.received, broken || self.broken)
    }
}
