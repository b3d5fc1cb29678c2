//! The request line and the forms of its target (RFC 9112, section 3).
//!
//! Owns [`RequestLine`], [`Method`], [`Version`] and the check of authorities. Invariants: a path starts with `/`
//! (or is `*` for `OPTIONS`); targets hold only what RFC 3986 lets stand in a path and a query, percent signs in
//! triplets, no fragment; an authority is a host with an optional port, never with user information.

use core::net::Ipv6Addr;

use memchr::{memchr, memchr2, memrchr};

use super::grammar::{is_path, is_query, is_registered_name, is_token};
use super::refusal::Refusal;
use super::span::Span;
use crate::limits::{METHOD_MAX_BYTES, TARGET_MAX_BYTES};

/// A request method; compared byte for byte, as methods are case-sensitive (RFC 9110, section 9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Read.
    Get,
    /// Read, and answer with the head only.
    Head,
    /// Act on the body.
    Post,
    /// Replace.
    Put,
    /// Change in part.
    Patch,
    /// Remove.
    Delete,
    /// Ask what is allowed.
    Options,
    /// Read what there is below a path: no method of HTTP, but one of the API of Vault.
    List,
    /// Any other token: to be answered with 501.
    Other,
}

impl Method {
    /// The method of that name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Self {
        match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"PATCH" => Self::Patch,
            b"DELETE" => Self::Delete,
            b"OPTIONS" => Self::Options,
            b"LIST" => Self::List,
            _ => Self::Other,
        }
    }

    /// The name, as it stands in `Allow` fields and audit lines; `OTHER` for an unknown one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::List => "LIST",
            Self::Other => "OTHER",
        }
    }
}

/// The version of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// A checked request line, as spans into the buffer that holds the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLine {
    /// The method.
    pub method: Method,
    /// The version.
    pub version: Version,
    /// The path; empty if an absolute-form target has none.
    pub path: Span,
    /// What follows the first `?`, without it.
    pub query: Option<Span>,
    /// The authority of an absolute-form target, which replaces `Host`.
    pub authority: Option<Span>,
}

impl RequestLine {
    /// Parses `line`, a part of `head` without its line end.
    ///
    /// # Errors
    /// The line is refused as malformed, or for its method, version or target.
    pub fn parse(head: &[u8], line: &[u8]) -> Result<Self, Refusal> {
        let bad = Refusal::MalformedRequestLine;
        let (method, rest) = memchr(b' ', line).and_then(|at| split_around(line, at)).ok_or(bad)?;
        let (target, version) = memrchr(b' ', rest).and_then(|at| split_around(rest, at)).ok_or(bad)?;
        if method.len() > METHOD_MAX_BYTES {
            return Err(Refusal::UnknownMethod);
        }
        if !is_token(method) {
            return Err(bad);
        }
        if target.len() > TARGET_MAX_BYTES {
            return Err(Refusal::TargetTooLong);
        }
        let version = parse_version(version)?;
        // Only CONNECT takes the authority-form, and no tunnel is ever opened here.
        if method == b"CONNECT" {
            return Err(Refusal::UnknownMethod);
        }
        let method = Method::from_name(method);
        let parts = Target::parse(target, method).ok_or(Refusal::MalformedTarget)?;
        if parts.authority.is_some_and(|authority| !is_authority(authority)) {
            return Err(Refusal::MalformedHost);
        }
        Ok(Self {
            method,
            version,
            path: Span::of(head, parts.path).ok_or(bad)?,
            query: parts.query.and_then(|query| Span::of(head, query)),
            authority: parts.authority.and_then(|authority| Span::of(head, authority)),
        })
    }
}

/// Whether the text is `host [":" port]` (RFC 3986, section 3.2) with a host that is not empty.
///
/// A port may be empty, as the grammar has it, but not above 65535.
#[must_use]
pub fn is_authority(text: &[u8]) -> bool {
    if let Some(literal) = text.strip_prefix(b"[") {
        let Some((address, after)) = memchr(b']', literal).and_then(|at| split_around(literal, at)) else {
            return false;
        };
        let known = str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok());
        return known && (after.is_empty() || after.strip_prefix(b":").is_some_and(is_port));
    }
    match memchr(b':', text).and_then(|at| split_around(text, at)) {
        Some((host, port)) => is_registered_name(host) && is_port(port),
        None => is_registered_name(text),
    }
}

/// The parts of a request target.
struct Target<'a> {
    path: &'a [u8],
    query: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
}

impl<'a> Target<'a> {
    fn parse(target: &'a [u8], method: Method) -> Option<Self> {
        if target == b"*" {
            return (method == Method::Options).then_some(Self {
                path: target,
                query: None,
                authority: None,
            });
        }
        let (authority, rest) = match after_scheme(target) {
            None => (None, target),
            Some(after) => {
                let end = memchr2(b'/', b'?', after).unwrap_or(after.len());
                let (authority, rest) = after.split_at_checked(end)?;
                (Some(authority), rest)
            }
        };
        let (path, query) = match memchr(b'?', rest).and_then(|at| split_around(rest, at)) {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        // Only beside an authority may a path be empty (RFC 3986, section 3).
        let rooted = path.first() == Some(&b'/') || (path.is_empty() && authority.is_some());
        let valid = rooted && is_path(path) && query.is_none_or(is_query);
        valid.then_some(Self { path, query, authority })
    }
}

/// What follows `http://` or `https://` in an absolute-form target.
fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (start, after) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(after)
    })
}

fn parse_version(text: &[u8]) -> Result<Version, Refusal> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => Err(Refusal::UnsupportedVersion),
        _ => Err(Refusal::MalformedRequestLine),
    }
}

fn is_port(text: &[u8]) -> bool {
    let number = text.iter().try_fold(0u32, |number, digit| {
        let number = number * 10 + u32::from(digit.is_ascii_digit().then(|| digit - b'0')?);
        (number <= u32::from(u16::MAX)).then_some(number)
    });
    number.is_some()
}

/// What stands before and after the byte at `at`.
fn split_around(text: &[u8], at: usize) -> Option<(&[u8], &[u8])> {
    let (before, rest) = text.split_at_checked(at)?;
    Some((before, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<RequestLine, Refusal> {
        RequestLine::parse(line.as_bytes(), line.as_bytes())
    }

    #[test]
    fn every_form_of_target_gives_its_parts() {
        for (line, path, query, authority) in [
            ("GET / HTTP/1.1", "/", None, None),
            ("GET /a//b?x=/?&y HTTP/1.1", "/a//b", Some("x=/?&y"), None),
            ("GET /? HTTP/1.0", "/", Some(""), None),
            ("OPTIONS * HTTP/1.1", "*", None, None),
            ("GET http://a.example HTTP/1.1", "", None, Some("a.example")),
            ("GET HTTPS://a.example:443/p?q HTTP/1.1", "/p", Some("q"), Some("a.example:443")),
            ("GET http://[::1]:8080?q HTTP/1.1", "", Some("q"), Some("[::1]:8080")),
        ] {
            let parsed = parse(line).unwrap();
            let text = |span: Span| str::from_utf8(span.of_bytes(line.as_bytes())).unwrap();
            assert_eq!(text(parsed.path), path, "{line}");
            assert_eq!(parsed.query.map(text), query, "{line}");
            assert_eq!(parsed.authority.map(text), authority, "{line}");
        }
    }

    #[test]
    fn bad_request_lines_are_refused_for_their_reason() {
        use Refusal::{
            MalformedHost, MalformedRequestLine, MalformedTarget, UnknownMethod, UnsupportedVersion,
        };
        for (line, refusal) in [
            ("GET /", MalformedRequestLine),
            ("GET", MalformedRequestLine),
            (" / HTTP/1.1", MalformedRequestLine),
            ("G(T / HTTP/1.1", MalformedRequestLine),
            ("GET / http/1.1", MalformedRequestLine),
            ("GET / HTTP/1.1 ", MalformedRequestLine),
            ("GET / HTTP/11", MalformedRequestLine),
            ("GET / HTTP/1.10", MalformedRequestLine),
            ("GET / HTTP/1.2", UnsupportedVersion),
            ("PRI * HTTP/2.0", UnsupportedVersion),
            ("CONNECT a.example:443 HTTP/1.1", UnknownMethod),
            ("GET  HTTP/1.1", MalformedTarget),
            ("GET  / HTTP/1.1", MalformedTarget),
            ("GET /a b HTTP/1.1", MalformedTarget),
            ("GET a.example:443 HTTP/1.1", MalformedTarget),
            ("GET * HTTP/1.1", MalformedTarget),
            ("OPTIONS ** HTTP/1.1", MalformedTarget),
            ("GET ftp://a.example/ HTTP/1.1", MalformedTarget),
            ("GET /#f HTTP/1.1", MalformedTarget),
            ("GET /%zz HTTP/1.1", MalformedTarget),
            ("GET http:// HTTP/1.1", MalformedHost),
            ("GET http://u@a.example/ HTTP/1.1", MalformedHost),
            ("GET http://a.example:x/ HTTP/1.1", MalformedHost),
        ] {
            assert_eq!(parse(line), Err(refusal), "{line}");
        }
    }

    #[test]
    fn authorities_follow_the_grammar() {
        for good in ["a", "a.example", "127.0.0.1:80", "[::1]", "[::1]:65535", "a:", "A_b-c~d", "%41"] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in ["", ":80", "a:b", "a:65536", "a:1:2", "a b", "u@a", "[::1", "[::g]", "[]", "[::1]80"] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
        for bad in ["a/b", "a?b", "a#b", "a:99999999999", "[fe80::1%25eth0]", "::1", "a\\b", "%4", "a:+1"] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn names_of_methods_round_trip() {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            assert_eq!(Method::from_name(method.as_bytes()).name(), method);
        }
        assert_eq!(Method::from_name(b"get"), Method::Other);
    }
}
