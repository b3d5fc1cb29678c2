//! A small blocking HTTP/1.1 client, for commands that ask a server.
//!
//! - `transfer`: an exchange whose bodies are of any size.
//!
//! Owns [`Target`] and the exchange of one request and its reply on a connection of its own. Invariants: one deadline
//! bounds everything, name look-up included; a bounded part of the reply is read; a reply that ends early is no reply;
//! nothing of a URL can end a request line or a field; what was sent and received is wiped.

pub(super) mod transfer;

use core::fmt;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use socket2::{Domain, SockAddr, Socket, Type};
use zeroize::Zeroizing;

use super::secure::{Bounded, Connection, Trust, left, secure};
use crate::clock::Moment;
use crate::config::{self, Endpoint, Scheme, shown};
use crate::http::chunked::ChunkedDecoder;
use crate::limits::{
    CLIENT_REPLY_HEAD_MAX_BYTES, CLIENT_REPLY_MAX_BYTES, CLIENT_URL_MAX_BYTES, UNIX_PATH_MAX_BYTES,
};
use crate::store::quoted;

/// Where to ask.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Name or address, without brackets.
    host: String,
    port: u16,
    /// Whether it speaks TLS.
    secure: bool,
    /// What stands in the `Host` field.
    authority: String,
    /// Path and query.
    pub(super) path: String,
    /// The socket of this machine, if it is asked there.
    local: Option<PathBuf>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(socket) = &self.local {
            return write!(f, "unix:{}", shown(socket.as_os_str()));
        }
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority, self.path)
    }
}

impl Target {
    /// Where `url` leads, whose form `example` shows. A socket of this machine has no path of its own: there it is `path`.
    pub(super) fn from_url(url: &OsStr, example: &str, path: &str) -> Result<Self, String> {
        let form = || format!("{}: not a URL like {example}", without_password(url));
        if let Some(socket) = url.as_bytes().strip_prefix(b"unix:") {
            let is_path = socket.starts_with(b"/") && socket.len() <= UNIX_PATH_MAX_BYTES;
            return is_path.then(|| Self::local(OsStr::from_bytes(socket).into(), path)).ok_or_else(form);
        }
        let text = url.to_str().ok_or_else(form)?;
        // Nothing that could end the request line or a field may get into them.
        if text.len() > CLIENT_URL_MAX_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(form());
        }
        let secure = text.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
        let (scheme, rest) = text.split_at_checked(if secure { 8 } else { 7 }).ok_or_else(form)?;
        if !secure && !scheme.eq_ignore_ascii_case("http://") || rest.contains(['#', '@', '\\']) {
            return Err(form());
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = host_and_port(authority, if secure { 443 } else { 80 }).ok_or_else(form)?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            host: host.to_owned(),
            port,
            secure,
            authority: authority.to_owned(),
            path: format!("{slash}{path}"),
            local: None,
        })
    }

    /// The way to a server at the socket of this name.
    fn local(socket: PathBuf, path: &str) -> Self {
        let host = "localhost".to_owned();
        Self {
            authority: host.clone(),
            host,
            port: 0,
            secure: false,
            path: path.to_owned(),
            local: Some(socket),
        }
    }

    /// The way to a server on this machine that listens on `address`.
    fn from_listen(address: SocketAddr, secure: bool, path: &str) -> Result<Self, String> {
        if address.port() == 0 {
            return Err(format!("{address} takes a free port, which is not known here"));
        }
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let authority = SocketAddr::new(ip, address.port()).to_string();
        Ok(Self {
            host: ip.to_string(),
            port: address.port(),
            secure,
            authority,
            path: path.to_owned(),
            local: None,
        })
    }
}

impl Target {
    /// Whether it speaks TLS.
    pub(super) const fn is_secure(&self) -> bool {
        self.secure
    }

    /// What is said when the exchange failed that had `most_millis`.
    pub(super) fn failed(&self, error: &io::Error, most_millis: u64) -> String {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                format!("{self} did not answer within {most_millis} ms")
            }
            ErrorKind::ConnectionRefused => {
                format!("{self} refused the connection; is the server running?")
            }
            _ => format!("{self}: {error}"),
        }
    }
}

/// The first address at which `environment` has a server listen.
pub(super) fn configured(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    path: &str,
) -> Result<Target, String> {
    let endpoints = config::listen_endpoints(environment).map_err(|error| error.to_string())?;
    let found = endpoints.iter().find_map(|endpoint| match endpoint {
        Endpoint::Tcp(address, Scheme::Http) => Some((*address, false)),
        Endpoint::Tcp(address, Scheme::Https) => Some((*address, true)),
        Endpoint::Tcp(_, Scheme::Redirect) | Endpoint::Unix(_) => None,
    });
    if let Some((address, secure)) = found {
        return Target::from_listen(address, secure, path);
    }
    let local = endpoints.into_iter().find_map(|endpoint| match endpoint {
        Endpoint::Unix(socket) => Some(socket),
        Endpoint::Tcp(..) => None,
    });
    let socket = local.ok_or("no address is configured where HTTP is spoken")?;
    Ok(Target::local(socket, path))
}

/// A URL as it may be told: what stands in front of an `@` may be a password.
fn without_password(url: &OsStr) -> String {
    let text = url.as_bytes();
    let Some(at) = text.iter().rposition(|byte| *byte == b'@') else { return shown(url) };
    let (head, tail) = text.split_at(at);
    let begin = memchr::memmem::find(head, b"://").map_or(0, |found| found + 3);
    let told = [head.get(..begin).unwrap_or_default(), b"***", tail].concat();
    shown(OsStr::from_bytes(&told))
}

/// The name of a file with a credential as it may be told: by mistake it may be the credential itself.
pub(super) fn credential_file(path: &Path) -> String {
    let name = path.as_os_str().as_bytes();
    let is_secret = name.starts_with(b"qk_") || name.starts_with(b"eyJ");
    if is_secret {
        "what is given (a key, it seems, where the name of its file belongs)".to_owned()
    } else {
        quoted(path)
    }
}

fn host_and_port(authority: &str, usual: u16) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
        None if port.is_empty() => usual,
        None => return None,
    };
    (!host.is_empty() && port != 0).then_some((host, port))
}

/// What is asked.
pub(super) struct Request<'a> {
    /// The method.
    pub(super) method: &'a str,
    /// The type of reply that is wanted; any if none is named.
    pub(super) accept: Option<&'a str>,
    /// Further fields, each with its line end.
    pub(super) fields: &'a str,
    /// The body; without one no length is announced.
    pub(super) body: Option<&'a [u8]>,
}

/// A whole reply.
#[derive(Debug)]
pub(super) struct Reply {
    /// The status.
    pub(super) status: u16,
    /// The type of the body, without parameters; empty if none is named.
    pub(super) content_type: String,
    /// The body, decoded.
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// Asks on a connection of its own and reads the whole reply.
pub(super) fn exchange(
    stream: &mut Connection,
    target: &Target,
    asked: &Request<'_>,
    deadline: Moment,
) -> io::Result<Reply> {
    send(stream, target, asked, deadline)?;
    let reply = read_until(stream, deadline, CLIENT_REPLY_MAX_BYTES, is_whole)?;
    parse(&reply)
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "the reply is cut off, or is no HTTP/1.1"))
}

/// Sends the request.
pub(super) fn send(
    stream: &mut Connection,
    target: &Target,
    asked: &Request<'_>,
    deadline: Moment,
) -> io::Result<()> {
    stream.set_deadline(deadline);
    let length = asked.body.map(|body| format!("Content-Length: {}\r\n", body.len())).unwrap_or_default();
    stream.write_all(head(target, asked, &length).as_bytes())?;
    stream.write_all(asked.body.unwrap_or_default())?;
    stream.flush()
}

/// The head of a request; `framing` says how its body ends.
fn head(target: &Target, asked: &Request<'_>, framing: &str) -> Zeroizing<String> {
    let accept = asked.accept.unwrap_or("*/*");
    Zeroizing::new(format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: quantonium\r\nAccept: {accept}\r\nConnection: close\r\n{}{framing}\r\n",
        asked.method, target.path, target.authority, asked.fields
    ))
}

/// Reads until `is_done`, the end of the stream or the bound.
pub(super) fn read_until(
    stream: &mut Connection,
    deadline: Moment,
    most_bytes: usize,
    is_done: impl Fn(&[u8]) -> bool,
) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut reply = Zeroizing::new(Vec::new());
    let mut buffer = Zeroizing::new([0u8; 4096]);
    stream.set_deadline(deadline);
    while reply.len() < most_bytes && !is_done(&reply) {
        match stream.read(&mut *buffer) {
            Ok(0) => break,
            Ok(read) => reply.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(reply)
}

/// A connection to the target; `trust` is asked for only if that speaks TLS.
pub(super) fn connect(
    target: &Target,
    trust: impl FnOnce() -> Result<Trust, String>,
    deadline: Moment,
) -> io::Result<Connection> {
    if let Some(path) = &target.local {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.connect_timeout(&SockAddr::unix(path)?, left(deadline)?)?;
        return Ok(Connection::Plain(Bounded::new(socket, deadline)));
    }
    let socket = Bounded::new(reach(target, deadline)?.into(), deadline);
    if !target.secure {
        return Ok(Connection::Plain(socket));
    }
    let trust = trust().map_err(io::Error::other)?;
    secure(socket, &target.host, &trust)
}

fn reach(target: &Target, deadline: Moment) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in look_up(target, deadline)? {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The addresses of the target. A name is looked up in a thread, because the look-up itself knows no deadline;
/// the thread ends with the process.
fn look_up(target: &Target, deadline: Moment) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = target.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, target.port)]);
    }
    let found = Arc::new((Mutex::new(None), Condvar::new()));
    let (giver, name) = (Arc::clone(&found), (target.host.clone(), target.port));
    std::thread::Builder::new().spawn(move || {
        let addresses: io::Result<Vec<SocketAddr>> = name.to_socket_addrs().map(Iterator::collect);
        *giver.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(addresses);
        giver.1.notify_one();
    })?;
    let waiting = found.0.lock().unwrap_or_else(PoisonError::into_inner);
    let waited = found.1.wait_timeout_while(waiting, left(deadline)?, |addresses| addresses.is_none());
    let addresses = waited.unwrap_or_else(PoisonError::into_inner).0.take();
    addresses.unwrap_or_else(|| Err(ErrorKind::TimedOut.into()))
}

/// Whether the head of a reply is there.
pub(super) fn ends_head(reply: &[u8]) -> bool {
    head_bytes(reply).is_some()
}

fn head_bytes(reply: &[u8]) -> Option<usize> {
    memchr::memmem::find(reply, b"\r\n\r\n").map(|at| at + 4)
}

/// The status of a complete HTTP/1 reply head (RFC 9112, section 4).
pub(super) fn status(head: &[u8]) -> Option<u16> {
    if !ends_head(head) {
        return None;
    }
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let (start, rest) = rest.split_at_checked(2)?;
    let (digits, rest) = rest.split_at_checked(3)?;
    let plain = matches!(start, [b'0'..=b'9', b' ']) && matches!(rest, [b' ' | b'\r', ..]);
    let digits = core::str::from_utf8(digits).ok().filter(|_| plain)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// How a body ends (RFC 9112, section 6.3).
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

/// The values of a field.
fn fields<'a>(head: &'a [u8], name: &str) -> impl Iterator<Item = &'a str> {
    let lines = str::from_utf8(head).unwrap_or_default().lines();
    let fields = lines.filter_map(|line| line.split_once(':'));
    fields.filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The first value of a field.
fn field<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    fields(head, name).next()
}

/// The type of the body, without its parameters.
fn content_type(head: &[u8]) -> String {
    let value = field(head, "content-type").unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// How the body ends; nothing if the fields say no clear thing of it.
fn framing(head: &[u8]) -> Option<Framing> {
    let mut codings = fields(head, "transfer-encoding");
    match (codings.next(), codings.next()) {
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => return Some(Framing::Chunked),
        (None, _) => {}
        _ => return None,
    }
    let mut lengths = fields(head, "content-length");
    let Some(length) = lengths.next() else { return Some(Framing::Close) };
    let is_number = !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || lengths.any(|other| other != length) {
        return None;
    }
    length.parse().ok().map(Framing::Length)
}

/// Whether nothing more has to be read.
fn is_whole(reply: &[u8]) -> bool {
    let Some((head, body)) = head_bytes(reply).and_then(|at| reply.split_at_checked(at)) else {
        return false;
    };
    match framing(head) {
        Some(Framing::Length(length)) => body.len() >= length,
        Some(Framing::Chunked | Framing::Close) => false,
        None => true,
    }
}

/// The reply, if all of it is there.
fn parse(reply: &[u8]) -> Option<Reply> {
    let head_bytes = head_bytes(reply).filter(|len| *len <= CLIENT_REPLY_HEAD_MAX_BYTES)?;
    let (head, body) = reply.split_at_checked(head_bytes)?;
    let mut body = Zeroizing::new(body.to_vec());
    match framing(head)? {
        Framing::Length(length) if length > body.len() => return None,
        Framing::Length(length) => body.truncate(length),
        Framing::Chunked => {
            let progress = ChunkedDecoder::default().decode(&mut body).ok()?;
            progress.done.then(|| body.truncate(progress.produced))?;
        }
        // Whether that is all cannot be told; of a refusal a part is good enough.
        Framing::Close if matches!(status(head)?, 200 | 201) => return None,
        Framing::Close => {}
    }
    Some(Reply { status: status(head)?, content_type: content_type(head), body })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, String> {
        Target::from_url(OsStr::new(url), "http://127.0.0.1:8080/api/health", "/default")
    }

    #[test]
    fn urls_are_taken_apart() {
        for (url, host, port, authority, path) in [
            ("http://127.0.0.1:8080/api/health", "127.0.0.1", 8080, "127.0.0.1:8080", "/api/health"),
            ("HTTP://localhost", "localhost", 80, "localhost", "/"),
            ("http://[::1]:9/x?y=z", "::1", 9, "[::1]:9", "/x?y=z"),
            ("http://[::1]", "::1", 80, "[::1]", "/"),
            ("http://a:1?q", "a", 1, "a:1", "/?q"),
            ("https://a.example/x", "a.example", 443, "a.example", "/x"),
        ] {
            let (host, authority, path) = (host.to_owned(), authority.to_owned(), path.to_owned());
            let secure = url.starts_with("https");
            assert_eq!(target(url), Ok(Target { host, port, secure, authority, path, local: None }));
        }
    }

    #[test]
    fn a_socket_of_this_machine_is_named_by_its_path() {
        let local = target("unix:/run/q.sock").unwrap();
        assert_eq!((local.to_string().as_str(), local.path.as_str()), ("unix:/run/q.sock", "/default"));
        assert_eq!(local.authority, "localhost");
        let listens = |value: &str| configured([("QUANTONIUM_LISTEN".into(), value.into())], "/x");
        assert_eq!(listens("unix:/run/q.sock").unwrap().to_string(), "unix:/run/q.sock");
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for url in [
            "",
            "unix:",
            "unix:q.sock",
            "http",
            "http://",
            "http:///x",
            "ftp://x/",
            "127.0.0.1:8080",
            "http://a:0/",
            "http://a:65536/",
            "http://a:+1/",
            "http://a:/",
            "http://::1/",
            "http://[::1",
            "http://[::1]x/",
            "http://[a]/",
            "http://u@h/",
            "http://h/#f",
            "http://h/a b",
            "http://h/\r\nX: y",
            "http://h/\u{e9}",
        ] {
            let refusal = target(url).unwrap_err();
            assert!(
                refusal.ends_with("not a URL like http://127.0.0.1:8080/api/health"),
                "{url:?}: {refusal}"
            );
            assert!(!refusal.contains(['\r', '\n']));
        }
        assert!(target(&format!("http://h/{}", "a".repeat(CLIENT_URL_MAX_BYTES))).is_err());
    }

    #[test]
    fn neither_a_password_nor_a_key_is_told() {
        let refusal = target("http://user:secret@host:1/x").unwrap_err();
        assert!(refusal.starts_with("http://***@host:1/x: not a URL"), "{refusal}");
        assert!(!target("user:secret@host").unwrap_err().contains("secret"));
        assert!(!credential_file(Path::new("qk_1a2b3c4d.secret")).contains("secret"));
        assert!(credential_file(Path::new("admin.key")).contains("admin.key"));
    }

    #[test]
    fn the_configured_address_is_reached_through_loopback() {
        let shown = |address: &str| {
            Target::from_listen(address.parse().unwrap(), false, "/api/health").map(|it| it.to_string())
        };
        assert_eq!(shown("0.0.0.0:81").unwrap(), "http://127.0.0.1:81/api/health");
        assert_eq!(shown("[::]:82").unwrap(), "http://[::1]:82/api/health");
        assert_eq!(shown("10.1.2.3:83").unwrap(), "http://10.1.2.3:83/api/health");
        assert!(shown("127.0.0.1:0").unwrap_err().ends_with("which is not known here"));
    }

    #[test]
    fn a_status_is_read_from_a_whole_head_only() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 503\r\nA: b\r\n\r\nbody"), Some(503));
        for head in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/1.1 200",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1  200\r\n\r\n",
            "HTTP/1.1 +20 OK\r\n\r\n",
            "200 OK\r\n\r\n",
        ] {
            assert_eq!(status(head.as_bytes()), None, "{head:?}");
        }
    }

    #[test]
    fn a_reply_is_taken_whole_or_not_at_all() {
        let whole = |reply: &str| {
            parse(reply.as_bytes())
                .map(|reply| (reply.status, String::from_utf8(reply.body.to_vec()).unwrap()))
        };
        for (reply, body) in [
            ("HTTP/1.1 201 Created\r\nContent-Length: 3\r\n\r\nabc", "abc"),
            ("HTTP/1.1 201 Created\r\ncontent-length:3\r\n\r\nabcd", "abc"),
            ("HTTP/1.1 201 Created\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", "abc"),
            (
                "HTTP/1.1 201 Created\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
                "abc",
            ),
        ] {
            assert_eq!(whole(reply), Some((201, body.to_owned())), "{reply:?}");
        }
        for reply in [
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 2\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\n\r\nabc",
            "HTTP/1.1 201 Created\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        ] {
            assert_eq!(whole(reply), None, "{reply:?}");
        }
        assert_eq!(whole("HTTP/1.1 503 x\r\n\r\nabc"), Some((503, "abc".to_owned())));
        assert!(!is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na"));
        assert!(is_whole(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"));
    }
}
