//! What is settled before anybody is asked who he is: whether the request is meant for this server, and whether it came
//! where requests are served at all.
//!
//! Owns [`Site`], the names under which the server is asked and the port where it speaks TLS, the answers of a listener
//! that only redirects, and 421. Invariants: what is written into `Location` is `https://`, a plain host and what was asked
//! for, so that it leads to no other scheme and holds no line end; a credential is not looked at, wherever it came in the
//! clear by mistake.

use core::cell::Cell;
use std::sync::Arc;

use crate::api::Subject;
use crate::api::route::{Found, Route};
use crate::clock::Moment;
use crate::cursor::Cursor;
use crate::http::peer::Way;
use crate::http::refusal::Refusal;
use crate::http::responder::{Fault, Responder};
use crate::http::service::Arrival;
use crate::http::status::Status;
use crate::http::target::Method;
use crate::limits::{EXPOSED_WARNING_MILLIS, HOST_MAX_BYTES, REDIRECT_LOCATION_MAX_BYTES};
use crate::log::{self, Module};
use crate::server::door::VAULT_TOKEN;
use crate::server::service::App;

const MISDIRECTED: Fault<'static> = Fault::new(
    Status::MisdirectedRequest,
    "misdirected_request",
    "This server is not asked under the name in Host: use one of its own (--allowed-host).",
);
const HTTPS_REQUIRED: Fault<'static> = Fault::new(
    Status::Forbidden,
    "https_required",
    "This port only tells where TLS is spoken, and serves nothing: use https:// in the address.",
);
const CREDENTIAL_SHOWN: Fault<'static> = Fault::new(
    Status::Forbidden,
    "https_required",
    "A credential came here in the clear, where others may have read it: rotate it, and use https:// in the address.",
);
const HOST_REQUIRED: Fault<'static> = Fault::new(
    Status::BadRequest,
    "host_required",
    "Say in Host under which name this server is to be asked.",
);

/// The port that `https://` implies.
const HTTPS_PORT: u16 = 443;

/// Under which names the server is asked, and where it speaks TLS.
#[derive(Debug)]
pub(super) struct Site {
    /// Empty: under any name.
    names: Vec<Name>,
    https_port: u16,
}

/// A name under which the server is asked.
#[derive(Debug)]
struct Name {
    host: String,
    /// The only port that fits; none: any.
    port: Option<u16>,
}

impl Default for Site {
    fn default() -> Self {
        Self::new(&[], None)
    }
}

impl Site {
    /// A site with these hosts, each with or without a port, whose TLS is at this port: the usual one if nothing is said.
    pub(super) fn new(hosts: &[String], https_port: Option<u16>) -> Self {
        let names = hosts.iter().map(|text| {
            let (host, port) = split(text.as_bytes());
            Name { host: String::from_utf8_lossy(host).into_owned(), port }
        });
        Self { names: names.collect(), https_port: https_port.unwrap_or(HTTPS_PORT) }
    }

    /// Whether a request for this authority is meant for this server.
    fn is_meant(&self, authority: Option<&[u8]>) -> bool {
        let Some(authority) = authority else { return self.names.is_empty() };
        let (host, port) = split(authority);
        self.names.is_empty()
            || self.names.iter().any(|name| name.is(host) && (name.port.is_none() || name.port == port))
    }

    /// Writes where this is to be asked for instead to the front of `room`, and returns its length.
    fn locate(
        &self,
        authority: Option<&[u8]>,
        path: &[u8],
        query: Option<&[u8]>,
        room: &mut [u8],
    ) -> Result<usize, Fault<'static>> {
        // The port is that of the redirecting listener, and says nothing.
        let asked = authority.map(|authority| split(authority).0).filter(|host| is_plain(host));
        let listed = self.names.iter().find(|name| asked.is_some_and(|asked| name.is(asked)));
        let (host, port) = match listed.or(self.names.first()) {
            Some(name) => (name.host.as_bytes(), name.port),
            None => (asked.ok_or(HOST_REQUIRED)?, None),
        };
        let mut cursor = Cursor::new(room);
        let mut write = || {
            cursor.put(b"https://")?;
            cursor.put(host)?;
            match port.unwrap_or(self.https_port) {
                HTTPS_PORT => {}
                port => {
                    cursor.put(b":")?;
                    cursor.put_number(u64::from(port), 0)?;
                }
            }
            cursor.put(path)?;
            if let Some(query) = query {
                cursor.put(b"?")?;
                cursor.put(query)?;
            }
            Some(cursor.position())
        };
        write().ok_or_else(|| Refusal::TargetTooLong.into())
    }
}

impl Name {
    fn is(&self, host: &[u8]) -> bool {
        self.host.as_bytes().eq_ignore_ascii_case(host)
    }
}

/// The host and the port of an authority whose grammar was checked. An empty port is none.
fn split(authority: &[u8]) -> (&[u8], Option<u16>) {
    // A colon inside the brackets of an IPv6 address is none before a port.
    let after = authority.iter().rposition(|byte| *byte == b']').map_or(0, |at| at + 1);
    let colon = authority.get(after..).and_then(|rest| rest.iter().position(|byte| *byte == b':'));
    let Some((host, rest)) = colon.and_then(|at| authority.split_at_checked(after + at)) else {
        return (authority, None);
    };
    let port = rest.get(1..).and_then(|port| str::from_utf8(port).ok()).and_then(|port| port.parse().ok());
    (host, port)
}

/// Whether a host is a name or an address as they stand in addresses that people use: the grammar has more.
fn is_plain(host: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let inside = host.strip_prefix(b"[").and_then(|host| host.strip_suffix(b"]"));
    let is_name = |host: &[u8]| !host.is_empty() && host.iter().all(plain);
    // The address in brackets was read when the authority was checked.
    host.len() <= HOST_MAX_BYTES && (inside.is_some() || is_name(host))
}

/// A worker's share of this.
#[derive(Debug, Default)]
pub(super) struct Front {
    site: Arc<Site>,
    /// When a credential in the clear was warned of last, and how many came since.
    warned: Cell<Option<Moment>>,
    exposed: Cell<u64>,
}

impl Front {
    /// That of a worker of this site.
    pub(super) fn new(site: Arc<Site>) -> Self {
        Self { site, ..Self::default() }
    }

    /// Warns that a credential came in the clear, if that was not done a moment ago. The count tells of all.
    fn warn(&self, now: Moment) {
        self.exposed.set(self.exposed.get() + 1);
        if self.warned.get().is_some_and(|at| now < at.plus_millis(EXPOSED_WARNING_MILLIS)) {
            return;
        }
        self.warned.set(Some(now));
        let count = self.exposed.replace(0);
        log::warn(
            Module::Network,
            format_args!(
                "credentials came in the clear to the redirecting port ({count}): rotate them, see the audit log"
            ),
        );
    }
}

impl App {
    /// Answers what nobody here is asked about: whether the request goes on.
    pub(super) fn receive(&self, arrival: &Arrival<'_>, responder: &mut Responder<'_>) -> bool {
        if arrival.peer.way == Way::Redirect {
            self.redirect(arrival, responder);
            return false;
        }
        let head = arrival.head;
        if self.front.site.is_meant(head.host(arrival.bytes)) {
            return true;
        }
        let row = self.row_of(arrival);
        // Probes ask under whatever address they have.
        if row.is_some_and(|route| is_probe(route.pattern)) {
            return true;
        }
        self.refuse_early(row, arrival, &MISDIRECTED, responder);
        false
    }

    /// Says where TLS is spoken.
    fn redirect(&self, arrival: &Arrival<'_>, responder: &mut Responder<'_>) {
        let head = arrival.head;
        responder.close();
        let theirs = head.values_from_last(arrival.bytes, VAULT_TOKEN).next();
        if head.authorization(arrival.bytes).or(head.api_key(arrival.bytes)).or(theirs).is_some() {
            self.front.warn(self.turn.now());
            self.refuse_early(self.row_of(arrival), arrival, &CREDENTIAL_SHOWN, responder);
            return;
        }
        if !matches!(head.method, Method::Get | Method::Head) {
            responder.fault(&HTTPS_REQUIRED, &[]);
            return;
        }
        let (host, path) = (head.host(arrival.bytes), head.path(arrival.bytes));
        let mut room = [0; REDIRECT_LOCATION_MAX_BYTES];
        match self.front.site.locate(host, path, head.query(arrival.bytes), &mut room) {
            Ok(len) => {
                let fields: [(&str, &[u8]); 1] = [("Location", room.get(..len).unwrap_or_default())];
                if responder.begin(Status::PermanentRedirect, None, 0, &fields).is_err() {
                    responder.overloaded();
                }
            }
            Err(fault) => responder.fault(&fault, &[]),
        }
    }

    /// The row of the table that the request asks for.
    fn row_of(&self, arrival: &Arrival<'_>) -> Option<&'static Route> {
        match self.find(arrival) {
            Found::Route(route, _) => Some(route),
            Found::OtherMethods(_) | Found::Nothing => None,
        }
    }

    /// Refuses, and tells of it in the audit log as of other requests of nobody known.
    fn refuse_early(
        &self,
        row: Option<&'static Route>,
        arrival: &Arrival<'_>,
        fault: &Fault<'static>,
        responder: &mut Responder<'_>,
    ) {
        let code = self.turn_away(arrival, fault, &[], responder);
        if let Some(route) = row
            && route.event.is_some()
            && self.refusals.admit(self.turn.wall())
        {
            self.tell(route, arrival, None, responder, &Subject { code: Some(code), ..Subject::default() });
        }
    }
}

/// Whether a path only says how the server is.
fn is_probe(pattern: &str) -> bool {
    pattern.starts_with("/api/health") || pattern == "/v1/sys/health"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(hosts: &[&str], https_port: Option<u16>) -> Site {
        Site::new(&hosts.iter().map(ToString::to_string).collect::<Vec<_>>(), https_port)
    }

    #[test]
    fn a_server_without_names_is_asked_under_any_and_under_none() {
        let site = Site::default();
        assert!(site.is_meant(None) && site.is_meant(Some(b"whatever:1")));
    }

    #[test]
    fn a_name_without_a_port_fits_any_port_and_one_with_a_port_only_that() {
        let site = site(&["q.example", "localhost:8443", "[::1]", "[fe80::1]:9"], None);
        for meant in [
            "q.example",
            "Q.EXAMPLE",
            "q.example:",
            "q.example:1",
            "localhost:8443",
            "[::1]:7",
            "[::1]",
            "[FE80::1]:9",
        ] {
            assert!(site.is_meant(Some(meant.as_bytes())), "{meant}");
        }
        for other in [
            "",
            "example",
            "q.example.",
            "a.q.example",
            "q.example.evil",
            "localhost",
            "localhost:",
            "localhost:8442",
            "::1",
            "[::2]",
            "[fe80::1]",
            "[fe80::1]:90",
            "127.0.0.1:8443",
        ] {
            assert!(!site.is_meant(Some(other.as_bytes())), "{other}");
        }
        assert!(!site.is_meant(None), "HTTP/1.0 without Host");
    }

    fn location(
        site: &Site,
        host: Option<&str>,
        path: &str,
        query: Option<&str>,
    ) -> Result<String, &'static str> {
        let mut room = [0; REDIRECT_LOCATION_MAX_BYTES];
        let located =
            site.locate(host.map(str::as_bytes), path.as_bytes(), query.map(str::as_bytes), &mut room);
        let len = located.map_err(|fault| fault.code)?;
        Ok(String::from_utf8(room[..len].to_vec()).unwrap())
    }

    #[test]
    fn a_redirect_keeps_host_path_and_query_and_names_the_port_of_tls() {
        let far = |text: &str| Ok(text.to_owned());
        let (usual, other) = (site(&[], None), site(&[], Some(8_443)));
        assert_eq!(
            location(&usual, Some("a.example:80"), "/x", Some("y=%20")),
            far("https://a.example/x?y=%20")
        );
        assert_eq!(location(&other, Some("a.example"), "/", Some("")), far("https://a.example:8443/?"));
        assert_eq!(location(&other, Some("[::1]:80"), "//evil/", None), far("https://[::1]:8443//evil/"));
    }

    #[test]
    fn a_redirect_leads_only_to_hosts_that_are_listed() {
        let far = |text: &str| Ok(text.to_owned());
        let listed = site(&["q.example", "r.example:9443"], Some(8_443));
        assert_eq!(location(&listed, Some("Q.example:8080"), "/", None), far("https://q.example:8443/"));
        assert_eq!(location(&listed, Some("r.example"), "/", None), far("https://r.example:9443/"));
        for other in [Some("evil.example"), Some("q.example.evil"), None] {
            assert_eq!(location(&listed, other, "/", None), far("https://q.example:8443/"), "{other:?}");
        }
    }

    #[test]
    fn without_a_plain_host_there_is_nowhere_to_lead() {
        for host in
            [None, Some(""), Some("a,b"), Some("a%0d%0ab"), Some("user@host"), Some("a;b"), Some("a'b")]
        {
            assert_eq!(location(&Site::default(), host, "/", None), Err("host_required"), "{host:?}");
        }
        let long = "x".repeat(HOST_MAX_BYTES + 1);
        assert_eq!(location(&Site::default(), Some(&long), "/", None), Err("host_required"));
        let long = "/".repeat(REDIRECT_LOCATION_MAX_BYTES);
        assert_eq!(location(&Site::default(), Some("a"), &long, None), Err("target_too_long"));
        let longest = "/".repeat(REDIRECT_LOCATION_MAX_BYTES - "https://a".len());
        assert!(location(&Site::default(), Some("a"), &longest, None).is_ok());
    }
}
