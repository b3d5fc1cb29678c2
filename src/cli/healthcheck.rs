//! `quantonium healthcheck`: one request, one verdict, for images that hold no other program.
//!
//! Owns a small blocking HTTP/1.1 client. Invariants: one deadline bounds everything, name look-up included; a
//! bounded part of the reply is read; the verdict is healthy only for status 200; a refusal is one line.

use core::fmt;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use core::time::Duration;

use crate::clock::Moment;
use crate::config::{self, shown};
use crate::console;
use crate::exit::Exit;
use crate::limits::{HEALTHCHECK_MAX_MILLIS, HEALTHCHECK_REPLY_MAX_BYTES, HEALTHCHECK_URL_MAX_BYTES};

const PATH: &str = "/api/health";

/// Asks the server at `url`, or at the first address that `environment` configures, and says what is wrong.
pub(super) fn run(url: Option<&OsStr>, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Exit {
    let deadline = Moment::now().plus_millis(HEALTHCHECK_MAX_MILLIS);
    let target = match url {
        Some(url) => Target::from_url(url),
        None => configured(environment),
    };
    match target.and_then(|target| ask(&target, deadline)) {
        Ok(()) => Exit::Success,
        Err(reason) => {
            console::err(&format!("quantonium: healthcheck: {reason}\n"));
            Exit::Failure
        }
    }
}

/// Where to ask.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    /// Name or address, without brackets.
    host: String,
    port: u16,
    /// What stands in the `Host` field.
    authority: String,
    /// Path and query.
    path: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

impl Target {
    fn from_url(url: &OsStr) -> Result<Self, String> {
        let refused = |reason: &str| format!("{}: {reason}", shown(url));
        let form = || refused("not a URL like http://127.0.0.1:8080/api/health");
        let text = url.to_str().ok_or_else(form)?;
        // Nothing that could end the request line or a field may get into them.
        if text.len() > HEALTHCHECK_URL_MAX_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(form());
        }
        if text.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
            return Err(refused("this build has no TLS; ask over http on the loopback address"));
        }
        let (scheme, rest) = text.split_at_checked(7).ok_or_else(form)?;
        if !scheme.eq_ignore_ascii_case("http://") || rest.contains(['#', '@', '\\']) {
            return Err(form());
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) = host_and_port(authority).ok_or_else(form)?;
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self {
            host: host.to_owned(),
            port,
            authority: authority.to_owned(),
            path: format!("{slash}{path}"),
        })
    }

    /// The way to a server on this machine that listens on `address`.
    fn from_listen(address: SocketAddr) -> Result<Self, String> {
        if address.port() == 0 {
            return Err(format!("{address} takes a free port, which is not known here; give --url"));
        }
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let authority = SocketAddr::new(ip, address.port()).to_string();
        Ok(Self { host: ip.to_string(), port: address.port(), authority, path: PATH.to_owned() })
    }
}

fn configured(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Target, String> {
    let addresses = config::listen_addresses(environment).map_err(|error| error.to_string())?;
    let first = addresses.first().ok_or("no address is configured; give --url")?;
    Target::from_listen(*first)
}

fn host_and_port(authority: &str) -> Option<(&str, u16)> {
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
        None if port.is_empty() => 80,
        None => return None,
    };
    (!host.is_empty() && port != 0).then_some((host, port))
}

fn ask(target: &Target, deadline: Moment) -> Result<(), String> {
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("{target} did not answer within {HEALTHCHECK_MAX_MILLIS} ms")
        }
        ErrorKind::ConnectionRefused => format!("{target} refused the connection; is the server running?"),
        _ => format!("{target}: {error}"),
    };
    let mut stream = connect(target, deadline).map_err(failed)?;
    stream.set_write_timeout(Some(left(deadline).map_err(failed)?)).map_err(failed)?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: quantonium-healthcheck\r\nAccept: */*\r\n\
         Connection: close\r\n\r\n",
        target.path, target.authority
    );
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let head = read_head(&mut stream, deadline).map_err(failed)?;
    match status(&head) {
        Some(200) => Ok(()),
        Some(status) => Err(format!("{target} answered {status}")),
        None => Err(format!("{target} answered something that is not HTTP/1.1")),
    }
}

/// What is left until the deadline; never zero, which would mean "for ever".
fn left(deadline: Moment) -> io::Result<Duration> {
    let left = Moment::now().until(deadline);
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn connect(target: &Target, deadline: Moment) -> io::Result<TcpStream> {
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

/// Reads until the end of the head, the end of the stream or the bound.
fn read_head(stream: &mut TcpStream, deadline: Moment) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut buffer = [0u8; 1024];
    while head.len() < HEALTHCHECK_REPLY_MAX_BYTES && !ends_head(&head) {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => head.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(head)
}

fn ends_head(head: &[u8]) -> bool {
    memchr::memmem::find(head, b"\r\n\r\n").is_some()
}

/// The status of a complete HTTP/1 reply head (RFC 9112, section 4).
fn status(head: &[u8]) -> Option<u16> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, String> {
        Target::from_url(OsStr::new(url))
    }

    #[test]
    fn urls_are_taken_apart() {
        for (url, host, port, authority, path) in [
            ("http://127.0.0.1:8080/api/health", "127.0.0.1", 8080, "127.0.0.1:8080", "/api/health"),
            ("HTTP://localhost", "localhost", 80, "localhost", "/"),
            ("http://[::1]:9/x?y=z", "::1", 9, "[::1]:9", "/x?y=z"),
            ("http://[::1]", "::1", 80, "[::1]", "/"),
            ("http://a:1?q", "a", 1, "a:1", "/?q"),
        ] {
            let (host, authority, path) = (host.to_owned(), authority.to_owned(), path.to_owned());
            assert_eq!(target(url), Ok(Target { host, port, authority, path }));
        }
    }

    #[test]
    fn what_is_no_url_is_refused() {
        for url in [
            "",
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
        assert!(target(&format!("http://h/{}", "a".repeat(HEALTHCHECK_URL_MAX_BYTES))).is_err());
        assert!(target("https://h/").unwrap_err().contains("this build has no TLS"));
    }

    #[test]
    fn the_configured_address_is_reached_through_loopback() {
        let shown = |address: &str| Target::from_listen(address.parse().unwrap()).map(|it| it.to_string());
        assert_eq!(shown("0.0.0.0:81").unwrap(), "http://127.0.0.1:81/api/health");
        assert_eq!(shown("[::]:82").unwrap(), "http://[::1]:82/api/health");
        assert_eq!(shown("10.1.2.3:83").unwrap(), "http://10.1.2.3:83/api/health");
        assert!(shown("127.0.0.1:0").unwrap_err().ends_with("give --url"));
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
    fn a_deadline_that_has_passed_is_a_timeout() {
        let target = target("http://127.0.0.1:1/").unwrap();
        let refusal = ask(&target, Moment::default()).unwrap_err();
        assert!(refusal.contains("did not answer within"), "{refusal}");
    }
}
