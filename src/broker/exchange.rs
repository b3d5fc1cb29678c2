//! One connection to etcd: requests and their replies (RFC 9112).
//!
//! Owns [`Wire`]. Invariants: every read and write ends at a deadline; a reply is read whole or it is none; what is kept of a reply
//! that does not end is bounded.

use core::time::Duration;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

use zeroize::Zeroizing;

use super::place::{Access, Endpoint};
use crate::clock::Moment;
use crate::http::chunked::ChunkedDecoder;
use crate::limits::{ETCD_CONNECT_MILLIS, ETCD_HEAD_MAX_BYTES, ETCD_REPLY_MAX_BYTES};

/// What carries the bytes.
enum Carrier {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Secure(Box<crate::tls::client::Tunnel<TcpStream>>),
}

impl Carrier {
    const fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => &tunnel.sock,
        }
    }

    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(target),
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => tunnel.read(target),
        }
    }

    fn write_all(&mut self, source: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(source),
            #[cfg(feature = "tls")]
            Self::Secure(tunnel) => tunnel.write_all(source).and_then(|()| tunnel.flush()),
        }
    }
}

/// Why there is no reply.
#[derive(Debug)]
pub(super) enum Fault {
    /// It was sent, or a part of it.
    Unanswered(String),
    /// The reply is longer than what is read of one.
    TooLong,
}

/// A reply.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// What is asked.
pub(super) struct Asked<'a> {
    /// The path.
    pub(super) path: &'a str,
    /// What proves who asks, if that is asked for.
    pub(super) token: Option<&'a str>,
    /// JSON.
    pub(super) body: &'a [u8],
}

/// How the end of a body is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

/// A connection.
pub(super) struct Wire {
    carrier: Carrier,
    host: String,
    /// What was read and not looked at.
    raw: Vec<u8>,
    /// Of a reply that does not end.
    decoder: ChunkedDecoder,
    decoded: Vec<u8>,
    ended: bool,
}

impl Wire {
    /// Connects, and shakes hands.
    pub(super) fn open(access: &Access, endpoint: &Endpoint, deadline: Moment) -> io::Result<Self> {
        let most = left(deadline)?.min(Duration::from_millis(ETCD_CONNECT_MILLIS));
        let socket = TcpStream::connect_timeout(&endpoint.address, most)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(most))?;
        socket.set_write_timeout(Some(most))?;
        #[cfg(feature = "tls")]
        let carrier = match &access.tls {
            None => Carrier::Plain(socket),
            Some(outgoing) => Carrier::Secure(Box::new(outgoing.connect(socket, &endpoint.host)?)),
        };
        #[cfg(not(feature = "tls"))]
        let carrier = {
            let _ = access;
            Carrier::Plain(socket)
        };
        let (host, raw) = (endpoint.address.to_string(), Vec::new());
        Ok(Self { carrier, host, raw, decoder: ChunkedDecoder::default(), decoded: Vec::new(), ended: false })
    }

    /// Sends a request and reads the whole reply.
    pub(super) fn exchange(&mut self, asked: &Asked<'_>, deadline: Moment) -> Result<Reply, Fault> {
        self.send(asked, deadline).map_err(|error| Fault::Unanswered(error.to_string()))?;
        let (status, framing) = self.head(deadline).map_err(|error| Fault::Unanswered(error.to_string()))?;
        self.body(framing, deadline).map(|body| Reply { status, body })
    }

    /// Sends a request whose reply may have no end; [`Wire::line`] reads that. What is not such a reply is read whole.
    pub(super) fn begin(&mut self, asked: &Asked<'_>, deadline: Moment) -> Result<Option<Reply>, Fault> {
        let failed = |error: io::Error| Fault::Unanswered(error.to_string());
        self.send(asked, deadline).map_err(failed)?;
        let (status, framing) = self.head(deadline).map_err(failed)?;
        if status == 200 && framing == Framing::Chunked {
            return Ok(None);
        }
        self.body(framing, deadline).map(|body| Some(Reply { status, body }))
    }

    /// The next line of a reply that does not end; nothing if none came before `deadline`.
    ///
    /// # Errors
    /// The connection, a reply that has ended, or a line that is too long.
    pub(super) fn line(&mut self, deadline: Moment) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.decoded.iter().position(|byte| *byte == b'\n') {
                let rest = self.decoded.split_off(end + 1);
                let mut line = core::mem::replace(&mut self.decoded, rest);
                line.pop();
                return Ok(Some(line));
            }
            if self.ended {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let progress = self.decoder.decode(&mut self.raw).map_err(|_| ErrorKind::InvalidData)?;
            self.decoded.extend_from_slice(self.raw.get(..progress.produced).unwrap_or_default());
            self.raw.drain(..progress.consumed);
            self.ended = progress.done;
            if self.decoded.len() > ETCD_REPLY_MAX_BYTES {
                return Err(ErrorKind::InvalidData.into());
            }
            if progress.produced > 0 || self.ended {
                continue;
            }
            match self.fill(deadline) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if is_time(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    fn send(&mut self, asked: &Asked<'_>, deadline: Moment) -> io::Result<()> {
        self.carrier.socket().set_write_timeout(Some(left(deadline)?))?;
        let Asked { path, token, body } = asked;
        let mut request = Zeroizing::new(Vec::with_capacity(512 + body.len()));
        let host = &self.host;
        write!(request, "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n")?;
        // A member without a leader is to say so instead of answering from what it has.
        write!(request, "Grpc-Metadata-hasleader: true\r\nContent-Length: {}\r\n", body.len())?;
        if let Some(token) = token {
            write!(request, "Authorization: {token}\r\n")?;
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        self.carrier.write_all(&request)
    }

    /// Reads the head of a reply.
    fn head(&mut self, deadline: Moment) -> io::Result<(u16, Framing)> {
        loop {
            if let Some(at) = self.raw.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.raw.split_off(at + 4);
                let head = core::mem::replace(&mut self.raw, rest);
                return read_head(&head).ok_or_else(|| ErrorKind::InvalidData.into());
            }
            if self.raw.len() > ETCD_HEAD_MAX_BYTES {
                return Err(ErrorKind::InvalidData.into());
            }
            if self.fill(deadline)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn body(&mut self, framing: Framing, deadline: Moment) -> Result<Vec<u8>, Fault> {
        let unanswered = |error: io::Error| Fault::Unanswered(error.to_string());
        let cut = || Fault::Unanswered("the reply was cut off".to_owned());
        let mut body = Vec::new();
        let mut decoder = ChunkedDecoder::default();
        loop {
            match framing {
                Framing::Length(length) if length > ETCD_REPLY_MAX_BYTES => return Err(Fault::TooLong),
                Framing::Length(length) if self.raw.len() >= length => {
                    let rest = self.raw.split_off(length);
                    return Ok(core::mem::replace(&mut self.raw, rest));
                }
                Framing::Chunked => {
                    let progress = decoder.decode(&mut self.raw);
                    let progress = progress.map_err(|_| Fault::Unanswered("not HTTP".to_owned()))?;
                    body.extend_from_slice(self.raw.get(..progress.produced).unwrap_or_default());
                    self.raw.drain(..progress.consumed);
                    if progress.done {
                        return Ok(body);
                    }
                }
                Framing::Length(_) | Framing::Close => {}
            }
            if body.len().max(self.raw.len()) > ETCD_REPLY_MAX_BYTES {
                return Err(Fault::TooLong);
            }
            if self.fill(deadline).map_err(unanswered)? == 0 {
                return match framing {
                    Framing::Close => Ok(core::mem::take(&mut self.raw)),
                    _ => Err(cut()),
                };
            }
        }
    }

    /// Reads what there is; how much.
    fn fill(&mut self, deadline: Moment) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        loop {
            self.carrier.socket().set_read_timeout(Some(left(deadline)?))?;
            match self.carrier.read(&mut piece) {
                Ok(read) => {
                    self.raw.extend_from_slice(piece.get(..read).unwrap_or_default());
                    return Ok(read);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_time(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What is left until the deadline; never zero, which would mean "for ever".
fn left(deadline: Moment) -> io::Result<Duration> {
    let left = Moment::now().until(deadline);
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
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
}
