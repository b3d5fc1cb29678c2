//! Whom a request comes from when proxies stand in front.
//!
//! Owns [`Forwarding`]: which peers are believed, and in which field they say whom they serve. Invariants: only the field
//! that the setting names is read, and only if the peer is a trusted proxy; the addresses are read from the last one on,
//! the one that the nearest proxy added, and no further than to the first that is not a trusted proxy, since everything
//! before it is hearsay; where that cannot be read the last trusted proxy counts as the client. What a client
//! writes in front of what a proxy adds, quotation marks included, does not change how that is read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::grammar::{is_quoted_string, is_token, split_unquoted, trim};
use super::head::Head;
use super::peer::{Peer, Way};
use crate::limits::{FORWARDED_HOPS_MAX_COUNT, FORWARDED_NODE_MAX_BYTES};
use crate::network::Network;

/// The field in which proxies name their clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Field {
    /// `X-Forwarded-For`: addresses, separated by commas.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

impl Field {
    /// Every field, as the setting names them.
    pub const NAMES: [&'static str; 2] = ["x-forwarded-for", "forwarded"];

    /// The field of this name, one of [`NAMES`](Self::NAMES).
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::XForwardedFor, Self::Forwarded].into_iter().find(|field| field.name() == name)
    }

    const fn name(self) -> &'static str {
        let [x_forwarded_for, forwarded] = Self::NAMES;
        match self {
            Self::XForwardedFor => x_forwarded_for,
            Self::Forwarded => forwarded,
        }
    }
}

/// Which proxies are believed, and where they say it. The default believes none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    trusted: Vec<Network>,
    /// Whether processes of this machine are believed that come by a Unix socket.
    local: bool,
    field: Field,
}

impl Forwarding {
    /// Proxies in these networks are believed what they say in this field, and, if `local`, those that come by a Unix
    /// socket.
    #[must_use]
    pub const fn new(trusted: Vec<Network>, local: bool, field: Field) -> Self {
        Self { trusted, local, field }
    }

    /// Whether a proxy is believed that stands at this address.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Whether `peer` is a proxy that is believed.
    #[must_use]
    pub fn believes(&self, peer: &Peer) -> bool {
        if peer.way == Way::Local { self.local } else { self.trusts(peer.address) }
    }

    /// Whether the request with this head says that it was forwarded, by whatever proxy.
    #[must_use]
    pub fn is_told(head: &Head, bytes: &[u8]) -> bool {
        let [x_forwarded_for, forwarded] = Field::NAMES;
        let told = |name| head.values_from_last(bytes, name).next().is_some();
        told(x_forwarded_for) || told(forwarded) || told("via")
    }

    /// Who sent the request with this head, whose connection comes from `peer`.
    #[must_use]
    pub fn client(&self, peer: &Peer, head: &Head, bytes: &[u8]) -> IpAddr {
        let mut client = peer.address;
        let is_believed = self.believes(peer);
        if !is_believed {
            return client;
        }
        let mut left = FORWARDED_HOPS_MAX_COUNT;
        for line in head.values_from_last(bytes, self.field.name()) {
            let mut rest = Some(line);
            while let Some(text) = rest {
                let (before, element) = match self.field {
                    Field::XForwardedFor => split_last(text),
                    Field::Forwarded => split_last_unquoted(text),
                };
                rest = before;
                let element = trim(element);
                // RFC 9110, section 5.6.1: empty elements of a list are passed over.
                if element.is_empty() {
                    continue;
                }
                let named = match self.field {
                    Field::XForwardedFor => node(element, true),
                    Field::Forwarded => forwarded_for(element),
                };
                let Some(named) = named.filter(|_| left > 0) else { return client };
                left -= 1;
                client = named;
                if !self.trusts(client) {
                    return client;
                }
            }
        }
        client
    }
}

/// What stands before the last comma, if there is one, and what stands after it.
fn split_last(text: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let Some(at) = text.iter().rposition(|byte| *byte == b',') else { return (None, text) };
    let (before, after) = text.split_at_checked(at).unwrap_or((text, &[]));
    (Some(before), after.get(1..).unwrap_or_default())
}

/// The same with the last comma that is not inside a quoted string.
///
/// Read from the end, a quotation mark ends a string; the one that begins it has no backslash before it, or an even number
/// of them. So the last element is told from the rest by itself, whatever stands in the rest.
fn split_last_unquoted(text: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let mut quoted = false;
    let mut rest = text;
    while let [before @ .., byte] = rest {
        match byte {
            b'"' if !quoted => quoted = true,
            b'"' => {
                let escapes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
                quoted = escapes % 2 == 1;
            }
            b',' if !quoted => return (Some(before), text.get(rest.len()..).unwrap_or_default()),
            _ => {}
        }
        rest = before;
    }
    (None, text)
}

/// The address in the `for` of one element of `Forwarded` (RFC 7239, section 4); nothing if it has none, more than one, or
/// is of another form.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let (mut rest, mut found) = (Some(element), None);
    while let Some(text) = rest {
        let (pair, after) = split_unquoted(text, b';');
        rest = after;
        let pair = trim(pair);
        if pair.is_empty() {
            continue;
        }
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.split_at_checked(at)?;
        let value = value.get(1..)?;
        if !is_token(name) || !(is_token(value) || is_quoted_string(value)) {
            return None;
        }
        if name.eq_ignore_ascii_case(b"for") {
            let mut room = [0; FORWARDED_NODE_MAX_BYTES];
            let named = node(unquoted(value, &mut room)?, false)?;
            if found.replace(named).is_some() {
                return None;
            }
        }
    }
    found
}

/// What a token or a quoted string stands for; nothing if that is longer than any node with an address.
fn unquoted<'a>(value: &'a [u8], room: &'a mut [u8; FORWARDED_NODE_MAX_BYTES]) -> Option<&'a [u8]> {
    let [b'"', inner @ .., b'"'] = value else { return Some(value) };
    let (mut len, mut escaped) = (0, false);
    for byte in inner {
        if *byte == b'\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        *room.get_mut(len)? = *byte;
        len += 1;
    }
    room.get(..len)
}

/// The address of a node (RFC 7239, section 6); `unknown` and obfuscated names are none. In `X-Forwarded-For` an IPv6
/// address may stand without brackets, if it has no port.
fn node(text: &[u8], bare: bool) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    let (address, port) = if let Some(inner) = text.strip_prefix('[') {
        let (address, port) = inner.split_once(']')?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
        (IpAddr::V6(address.parse::<Ipv6Addr>().ok()?), port)
    } else if let (true, Ok(address)) = (bare, text.parse::<Ipv6Addr>()) {
        (IpAddr::V6(address), None)
    } else {
        let (address, port) = text.split_once(':').map_or((text, None), |(front, port)| (front, Some(port)));
        (IpAddr::V4(address.parse::<Ipv4Addr>().ok()?), port)
    };
    port.is_none_or(is_port).then(|| address.to_canonical())
}

/// Whether the text is a port in digits, or an obfuscated one (RFC 7239, section 6).
fn is_port(text: &str) -> bool {
    let obfuscated = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match text.strip_prefix('_') {
        Some(name) => !name.is_empty() && name.bytes().all(obfuscated),
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PEER: &str = "10.0.0.1";
    const CLIENT: &str = "203.0.113.9";

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn head(lines: &[&str]) -> String {
        let mut head = "GET / HTTP/1.1\r\nHost: a\r\n".to_owned();
        for line in lines {
            head.push_str(line);
            head.push_str("\r\n");
        }
        head + "\r\n"
    }

    /// Who is found behind `peer`, with 10.0.0.0/8 and fd00::/8 trusted.
    fn at(address: &str) -> Peer {
        Peer::new(Some(address.parse().unwrap()), Way::Plain)
    }

    fn found(field: Field, peer: &str, lines: &[&str]) -> IpAddr {
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|text| Network::parse(text).unwrap());
        let head = head(lines);
        let parsed = Head::parse(head.as_bytes()).unwrap().unwrap();
        Forwarding::new(trusted.to_vec(), false, field).client(&at(peer), &parsed, head.as_bytes())
    }

    fn check(field: Field, cases: &[(&[&str], &str)]) {
        for (lines, expected) in cases {
            assert_eq!(found(field, PEER, lines), address(expected), "{lines:?}");
        }
    }

    #[test]
    fn without_a_trusted_proxy_the_peer_is_the_client() {
        let lines = ["X-Forwarded-For: 10.9.9.9", "Forwarded: for=10.9.9.9"];
        let head = head(&lines);
        let parsed = Head::parse(head.as_bytes()).unwrap().unwrap();
        let nobody = Forwarding::default();
        assert_eq!(nobody.client(&at(PEER), &parsed, head.as_bytes()), address(PEER));
        for field in [Field::XForwardedFor, Field::Forwarded] {
            assert_eq!(found(field, CLIENT, &lines), address(CLIENT), "a stranger is not believed");
            assert_eq!(found(field, "::ffff:10.0.0.1", &lines), address("10.9.9.9"), "a mapped proxy is");
        }
    }

    #[test]
    fn a_local_proxy_is_believed_if_local_ones_are_and_not_for_its_address() {
        let head = head(&["X-Forwarded-For: 203.0.113.9"]);
        let parsed = Head::parse(head.as_bytes()).unwrap().unwrap();
        let client = |networks: &[&str], local| {
            let trusted = networks.iter().map(|text| Network::parse(text).unwrap()).collect();
            let peer = Peer::new(None, Way::Local);
            Forwarding::new(trusted, local, Field::XForwardedFor).client(&peer, &parsed, head.as_bytes())
        };
        assert_eq!(client(&[], true), address(CLIENT));
        assert_eq!(client(&["127.0.0.0/8"], false), address("127.0.0.1"));
    }

    #[test]
    fn the_last_address_that_is_no_trusted_proxy_is_the_client() {
        check(
            Field::XForwardedFor,
            &[
                (&[], PEER),
                (&["X-Forwarded-For: 203.0.113.9"], CLIENT),
                (&["X-Forwarded-For: 198.51.100.66, 10.3.3.3, 203.0.113.9"], CLIENT),
                (&["X-Forwarded-For: 198.51.100.66, 203.0.113.9, 10.3.3.3 ,10.2.2.2"], CLIENT),
                (
                    &["x-forwarded-for: 198.51.100.66", "Accept: x", "X-FORWARDED-FOR: 203.0.113.9,10.2.2.2"],
                    CLIENT,
                ),
                (&["X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 10.2.2.2", "X-Forwarded-For:"], CLIENT),
                (&["X-Forwarded-For: 10.3.3.3, 10.2.2.2"], "10.3.3.3"),
                (&["X-Forwarded-For: , 203.0.113.9,, ,"], CLIENT),
                (&["X-Forwarded-For: 203.0.113.9:4711"], CLIENT),
                (&["X-Forwarded-For: 2001:db8::7, fd00::1"], "2001:db8::7"),
                (&["X-Forwarded-For: [2001:db8::7]:443, [fd00::1]"], "2001:db8::7"),
                (&["X-Forwarded-For: ::ffff:203.0.113.9, ::ffff:10.2.2.2"], CLIENT),
            ],
        );
    }

    #[test]
    fn where_an_address_cannot_be_read_the_last_trusted_proxy_is_the_client() {
        for bad in [
            "unknown",
            "_x",
            "a.example",
            "203.0.113.9 ; x",
            "203.0.113",
            "203.0.113.09",
            "203.0.113.9:",
            "203.0.113.9:x",
            "203.0.113.9:123456",
            "[2001:db8::7",
            "2001:db8::7]",
            "[2001:db8::7]443",
            "[203.0.113.9]",
            "fe80::1%eth0",
            "\"203.0.113.9\"",
            "for=203.0.113.9",
            "203.0.113.9 198.51.100.66",
            "\u{e9}",
        ] {
            let line = format!("X-Forwarded-For: 198.51.100.66, {bad}, 10.2.2.2");
            assert_eq!(found(Field::XForwardedFor, PEER, &[&line]), address("10.2.2.2"), "{bad}");
            let line = format!("X-Forwarded-For: 198.51.100.66, {bad}");
            assert_eq!(found(Field::XForwardedFor, PEER, &[&line]), address(PEER), "{bad}");
            let line = format!("X-Forwarded-For: {bad}, 203.0.113.9, 10.2.2.2");
            assert_eq!(
                found(Field::XForwardedFor, PEER, &[&line]),
                address(CLIENT),
                "{bad} is not looked at"
            );
        }
    }

    #[test]
    fn the_standard_field_is_read_by_its_grammar() {
        check(
            Field::Forwarded,
            &[
                (&["Forwarded: for=203.0.113.9"], CLIENT),
                (&["Forwarded: proto=https;FOR=203.0.113.9;by=10.0.0.1;"], CLIENT),
                (
                    &["Forwarded: for=198.51.100.66, for=\"203.0.113.9:4711\";host=\"a,b;c\", for=10.2.2.2"],
                    CLIENT,
                ),
                (&["Forwarded: for=\"[2001:db8:cafe::17]:4711\""], "2001:db8:cafe::17"),
                (&["Forwarded: for=\"[2001:db8:cafe::17]:_port-1\""], "2001:db8:cafe::17"),
                (
                    &[
                        "Forwarded: for=198.51.100.66",
                        "Forwarded: for=203.0.113.9",
                        "Forwarded: for=10.2.2.2",
                    ],
                    CLIENT,
                ),
                (&["Forwarded: for=\"\\2\\03.0.113.9\""], CLIENT),
                (&["Forwarded: for=203.0.113.9;ext=\"\\\"a, b\\\\\""], CLIENT),
                (&["Forwarded: for=unknown, for=203.0.113.9,, "], CLIENT),
            ],
        );
    }

    #[test]
    fn an_element_without_an_address_of_its_own_ends_the_chain() {
        for bad in [
            "for=unknown",
            "for=\"unknown:80\"",
            "for=_hidden",
            "for=\"_hidden:_x\"",
            "proto=https",
            ";",
            "for",
            "for=",
            "=203.0.113.9",
            "203.0.113.9",
            "for=203.0.113.9:80",
            "for=[2001:db8::1]",
            "for=2001:db8::1",
            "for=\"2001:db8::1\"",
            "for=203.0.113.9;for=203.0.113.9",
            "for=203.0.113.9;proto=a b",
            "for =203.0.113.9",
            "for=\"203.0.113.9\"x",
            "for=\"203.0.113.9",
            "for=203.0.113.9\"",
            "for=\"203.0.113.9\\\"",
            "for=\"                                                        203.0.113.9\"",
        ] {
            let line = format!("Forwarded: for=198.51.100.66, {bad}");
            assert_eq!(found(Field::Forwarded, PEER, &[&line]), address(PEER), "{bad}");
            let line = format!("Forwarded: {bad}, for=10.2.2.2");
            assert_eq!(found(Field::Forwarded, PEER, &[&line]), address("10.2.2.2"), "{bad}");
        }
    }

    #[test]
    fn only_the_field_of_the_setting_is_read() {
        let lines = ["Forwarded: for=198.51.100.1", "X-Forwarded-For: 198.51.100.2"];
        assert_eq!(found(Field::Forwarded, PEER, &lines), address("198.51.100.1"));
        assert_eq!(found(Field::XForwardedFor, PEER, &lines), address("198.51.100.2"));
        assert_eq!(found(Field::XForwardedFor, PEER, &lines[..1]), address(PEER));
    }

    #[test]
    fn the_number_of_hops_is_bounded() {
        let chain = |count: usize| {
            let proxies: Vec<String> = (1..=count).rev().map(|number| format!(", 10.0.1.{number}")).collect();
            format!("X-Forwarded-For: 203.0.113.9{}", proxies.concat())
        };
        let most = FORWARDED_HOPS_MAX_COUNT;
        assert_eq!(found(Field::XForwardedFor, PEER, &[&chain(most - 1)]), address(CLIENT));
        let last: IpAddr = format!("10.0.1.{most}").parse().unwrap();
        assert_eq!(found(Field::XForwardedFor, PEER, &[&chain(most)]), last);
        assert_eq!(found(Field::XForwardedFor, PEER, &[&chain(200)]), last);
    }

    #[test]
    fn settings_name_the_fields() {
        for name in Field::NAMES {
            assert_eq!(Field::named(name).map(Field::name), Some(name));
        }
        assert_eq!(Field::named("via"), None);
    }

    proptest! {
        #[test]
        fn what_a_client_writes_in_front_changes_nothing(
            theirs in "[ -~]{0,40}|(for=|,|;|\"|\\\\|203\\.0\\.113\\.1| ){0,12}",
            own in prop::sample::select(vec![
                "for=203.0.113.9",
                "for=\"203.0.113.9\"",
                "for=\"203.0.113.9:80\";proto=https",
                "for=203.0.113.9;host=\"a, \\\"b\\\\\"",
            ]),
            proxy in any::<bool>(),
        ) {
            let end = if proxy { ", for=10.2.2.2" } else { "" };
            let line = format!("Forwarded: {theirs}, {own}{end}");
            prop_assert_eq!(found(Field::Forwarded, PEER, &[&line]), address(CLIENT));
        }
    }
}
