//! What comes back over a connection to etcd (RFC 9112): whole replies, and the lines of one that does not end.
//!
//! Owns [`Incoming`], which bytes are given to as they come. Invariants: it reads no socket and looks at no clock; a whole reply
//! does not depend on how its bytes were split; a reply is whole or it is none; what is kept of one is bounded.

use crate::http::chunked::ChunkedDecoder;
use crate::limits::{ETCD_HEAD_MAX_BYTES, ETCD_REPLY_MAX_BYTES};

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// What the first line says.
    pub status: u16,
    /// All of the body.
    pub body: Vec<u8>,
}

/// Why there is no reply, and no further one on this connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// It is not HTTP.
    NotHttp,
    /// The peer has ended in the middle of it.
    Cut,
    /// It is longer than what is read of one.
    TooLong,
}

impl Broken {
    /// The same for people.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::NotHttp => "its reply is not HTTP",
            Self::Cut => "its reply was cut off",
            Self::TooLong => "its reply is too long",
        }
    }
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

/// What has come and was not taken yet.
#[derive(Debug, Default)]
pub struct Incoming {
    raw: Vec<u8>,
    /// Of the reply that is being read.
    head: Option<(u16, Framing)>,
    decoder: ChunkedDecoder,
    /// What was decoded of a body in chunks.
    body: Vec<u8>,
    /// How much of the head, or of a line, was looked at in vain.
    searched: usize,
    is_closed: bool,
    /// Whether the last chunk was seen.
    has_ended: bool,
}

impl Incoming {
    /// Takes what has come.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
    }

    /// Notes that nothing comes any more.
    pub const fn close(&mut self) {
        self.is_closed = true;
    }

    /// The next reply, once all of it is there.
    ///
    /// # Errors
    /// [`Broken`]
    pub fn reply(&mut self) -> Result<Option<Reply>, Broken> {
        let Some((status, framing)) = self.head()? else { return Ok(None) };
        let body = match framing {
            Framing::Length(length) if length > ETCD_REPLY_MAX_BYTES => return Err(Broken::TooLong),
            Framing::Length(length) if self.raw.len() >= length => {
                let rest = self.raw.split_off(length);
                Some(core::mem::replace(&mut self.raw, rest))
            }
            Framing::Length(_) => None,
            Framing::Chunked => {
                self.decode()?;
                self.has_ended.then(|| core::mem::take(&mut self.body))
            }
            Framing::Close if self.raw.len() > ETCD_REPLY_MAX_BYTES => return Err(Broken::TooLong),
            Framing::Close => self.is_closed.then(|| core::mem::take(&mut self.raw)),
        };
        match body {
            Some(body) => {
                let (raw, is_closed) = (core::mem::take(&mut self.raw), self.is_closed);
                *self = Self { raw, is_closed, ..Self::default() };
                Ok(Some(Reply { status, body }))
            }
            None if self.is_closed => Err(Broken::Cut),
            None => Ok(None),
        }
    }

    /// Whether the reply that comes may have no end, so that [`Incoming::line`] reads it; nothing as long as that is not known.
    ///
    /// # Errors
    /// [`Broken`]
    pub fn is_endless(&mut self) -> Result<Option<bool>, Broken> {
        Ok(self.head()?.map(|head| head == (200, Framing::Chunked)))
    }

    /// The next line of a reply in chunks, whether it ends or not, without its end; nothing as long as it is not whole.
    ///
    /// # Errors
    /// [`Broken`]; [`Broken::Cut`] behind the last line, too.
    pub fn line(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        loop {
            let fresh = self.body.get(self.searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let rest = self.body.split_off(self.searched + at + 1);
                let mut line = core::mem::replace(&mut self.body, rest);
                line.pop();
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.body.len();
            if self.has_ended {
                return Err(Broken::Cut);
            }
            if self.decode()? == 0 && !self.has_ended {
                return if self.is_closed { Err(Broken::Cut) } else { Ok(None) };
            }
        }
    }

    /// Decodes what there is of a body in chunks; how much that was.
    fn decode(&mut self) -> Result<usize, Broken> {
        if self.has_ended {
            return Ok(0);
        }
        let progress = self.decoder.decode(&mut self.raw).map_err(|_| Broken::NotHttp)?;
        self.body.extend_from_slice(self.raw.get(..progress.produced).unwrap_or_default());
        self.raw.drain(..progress.consumed);
        self.has_ended = progress.done;
        if self.body.len() > ETCD_REPLY_MAX_BYTES {
            return Err(Broken::TooLong);
        }
        Ok(progress.produced)
    }

    /// The head of the reply that comes, once it is there.
    fn head(&mut self) -> Result<Option<(u16, Framing)>, Broken> {
        if self.head.is_some() {
            return Ok(self.head);
        }
        let from = self.searched.saturating_sub(3);
        let fresh = self.raw.get(from..).unwrap_or_default();
        let end = fresh.windows(4).position(|window| window == b"\r\n\r\n").map(|at| from + at + 4);
        if end.unwrap_or(self.raw.len()) > ETCD_HEAD_MAX_BYTES {
            return Err(Broken::NotHttp);
        }
        let Some(end) = end else {
            self.searched = self.raw.len();
            return if self.is_closed { Err(Broken::Cut) } else { Ok(None) };
        };
        let rest = self.raw.split_off(end);
        let head = core::mem::replace(&mut self.raw, rest);
        self.searched = 0;
        self.head = Some(read_head(&head).ok_or(Broken::NotHttp)?);
        Ok(self.head)
    }
}

/// Status and framing of a reply with this head.
fn read_head(head: &[u8]) -> Option<(u16, Framing)> {
    let text = core::str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let first = lines.next()?.strip_prefix("HTTP/1.")?;
    let (minor, rest) = first.split_at_checked(1)?;
    let status = rest.strip_prefix(' ')?.get(..3)?;
    if !matches!(minor, "0" | "1") || !status.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut framing = Framing::Close;
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return None;
            }
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("content-length") && framing != Framing::Chunked {
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            let length = value.parse().ok().filter(|_| digits)?;
            if matches!(framing, Framing::Length(before) if before != length) {
                return None;
            }
            framing = Framing::Length(length);
        }
    }
    Some((status.parse().ok()?, framing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_a_reply_says_how_it_ends() {
        let of = |head: &str| read_head(head.as_bytes());
        assert_eq!(of("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"), Some((200, Framing::Length(12))));
        assert_eq!(
            of("HTTP/1.1 400 Bad\r\ntransfer-encoding: Chunked\r\n\r\n"),
            Some((400, Framing::Chunked))
        );
        assert_eq!(
            of("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"),
            Some((200, Framing::Chunked))
        );
        assert_eq!(of("HTTP/1.0 503 No\r\n\r\n"), Some((503, Framing::Close)));
        for bad in [
            "",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 2x0 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        ] {
            assert_eq!(of(bad), None, "{bad:?}");
        }
    }

    fn one_by_one(bytes: &[u8]) -> Result<Option<Reply>, Broken> {
        let mut incoming = Incoming::default();
        for byte in bytes {
            incoming.feed(&[*byte]);
            if let Some(reply) = incoming.reply()? {
                return Ok(Some(reply));
            }
        }
        incoming.close();
        incoming.reply()
    }

    #[test]
    fn a_reply_that_comes_byte_by_byte_is_the_same() {
        let body = |text: &str| Ok(Some(Reply { status: 200, body: text.as_bytes().to_vec() }));
        for (bytes, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", body("abc")),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
                body("abc"),
            ),
            ("HTTP/1.0 200 OK\r\n\r\nabc", body("abc")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", Err(Broken::Cut)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz", Err(Broken::NotHttp)),
            ("HTTP/1.1 200", Err(Broken::Cut)),
        ] {
            assert_eq!(one_by_one(bytes.as_bytes()), expected, "{bytes:?}");
            let mut incoming = Incoming::default();
            incoming.feed(bytes.as_bytes());
            incoming.close();
            assert_eq!(incoming.reply(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn nothing_is_kept_beyond_its_bound() {
        let long = "a".repeat(ETCD_HEAD_MAX_BYTES + 1);
        let mut incoming = Incoming::default();
        incoming.feed(long.as_bytes());
        assert_eq!(incoming.reply(), Err(Broken::NotHttp), "a head without an end");
        let mut incoming = Incoming::default();
        incoming.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(incoming.is_endless(), Ok(Some(true)));
        let piece = format!("{:x}\r\n{}\r\n", 1 << 20, "a".repeat(1 << 20));
        let mut found = Ok(None);
        for _ in 0..=ETCD_REPLY_MAX_BYTES >> 20 {
            incoming.feed(piece.as_bytes());
            found = incoming.line();
        }
        assert_eq!(found, Err(Broken::TooLong), "a line without an end");
    }
}
