//! Who a peer is by what its transport proves: the names of its certificate, or the user of its process.
//!
//! Owns [`Identity`] and [`Identities`]. Invariants: one identity has one text, so that equal ones are equal byte for byte; that
//! text is printable ASCII without quotes, backslashes and blanks, and may stand in JSON and in log lines unescaped.

use core::fmt;
use std::sync::Arc;

use crate::limits::{
    IDENTITY_DNS_MAX_BYTES, IDENTITY_LABEL_MAX_BYTES, IDENTITY_VALUE_MAX_BYTES, PEER_IDENTITIES_MAX_COUNT,
};

/// What an identity is, for those who gave something else.
pub const IDENTITY_FORMS: &str = "an identity is dns:HOST, uri:URI, email:USER@HOST, unix-user:NUMBER or unix-group:NUMBER, like \
     dns:svc.example.net or unix-user:1001";

/// One name of a peer: what kind of name it is, a colon, and the name.
///
/// The kinds are `dns`, `uri` and `email`, which are names of a certificate (RFC 5280, section 4.2.1.6), and `unix-user` and
/// `unix-group`, which are numbers of a process. Copies share one text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(Arc<str>);

impl Identity {
    /// The identity of this text. Letters that mean the same in either case, those of host names and URI schemes, become
    /// small ones. Nothing if it is not of one of the forms: a host name with a wildcard names nobody.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, value) = text.split_once(':')?;
        if value.is_empty() || value.len() > IDENTITY_VALUE_MAX_BYTES {
            return None;
        }
        match kind {
            "dns" => is_host(value).then(|| Self(format!("dns:{}", value.to_ascii_lowercase()).into())),
            "uri" => {
                let (scheme, rest) = value.split_once(':')?;
                let good = is_scheme(scheme) && !rest.is_empty() && rest.bytes().all(is_of_uri);
                good.then(|| Self(format!("uri:{}:{rest}", scheme.to_ascii_lowercase()).into()))
            }
            "email" => {
                let (user, host) = value.split_once('@')?;
                let good = !user.is_empty() && user.bytes().all(is_of_user) && is_host(host);
                good.then(|| Self(format!("email:{user}@{}", host.to_ascii_lowercase()).into()))
            }
            "unix-user" | "unix-group" => is_number(value).then(|| Self(text.into())),
            _ => None,
        }
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host name (RFC 1123, section 2.1): labels of letters, digits and inner hyphens. The last one is no number, so that no
/// address is taken for a name.
fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        (1..=IDENTITY_LABEL_MAX_BYTES).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && bytes.first() != Some(&b'-')
            && bytes.last() != Some(&b'-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= IDENTITY_DNS_MAX_BYTES
        && name.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// RFC 3986, section 3.1.
fn is_scheme(scheme: &str) -> bool {
    scheme.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
}

/// RFC 3986, section 2: what a URI is written with.
const fn is_of_uri(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}')
}

/// RFC 5321, section 4.1.2: the local part without quotes.
fn is_of_user(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&byte)
}

/// A user or a group: decimal, without leading zeros. The greatest number stands for nobody.
fn is_number(digits: &str) -> bool {
    let number = digits.parse::<u32>().ok().filter(|number| *number != u32::MAX);
    number.is_some_and(|number| number.to_string() == digits)
}

/// The identities of one peer: at most [`PEER_IDENTITIES_MAX_COUNT`], each once, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identities(Box<[Identity]>);

impl Identities {
    /// The first of them, each once. Nobody is who he is by what is left out.
    #[must_use]
    pub fn new(identities: impl IntoIterator<Item = Identity>) -> Self {
        let mut own: Vec<Identity> = Vec::new();
        for identity in identities {
            if own.len() == PEER_IDENTITIES_MAX_COUNT {
                break;
            }
            if !own.contains(&identity) {
                own.push(identity);
            }
        }
        Self(own.into())
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Identity> {
        self.0.iter()
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn contains(&self, identity: &Identity) -> bool {
        self.0.contains(identity)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Identity> for Identities {
    fn from_iter<I: IntoIterator<Item = Identity>>(identities: I) -> Self {
        Self::new(identities)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::IDENTITY_TEXT_MAX_BYTES;
    use proptest::prelude::*;

    fn identity(text: &str) -> Identity {
        Identity::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn an_identity_has_one_text() {
        for (text, canonical) in [
            ("dns:svc.example.net", "dns:svc.example.net"),
            ("dns:SVC.Example.NET", "dns:svc.example.net"),
            ("dns:localhost", "dns:localhost"),
            ("dns:1.example", "dns:1.example"),
            ("dns:xn--bcher-kva.example", "dns:xn--bcher-kva.example"),
            ("uri:spiffe://example.org/ns/a/sa/B", "uri:spiffe://example.org/ns/a/sa/B"),
            ("uri:SPIFFE://example.org/B", "uri:spiffe://example.org/B"),
            ("uri:urn:uuid:f81d4fae", "uri:urn:uuid:f81d4fae"),
            ("email:A.b+c@Example.org", "email:A.b+c@example.org"),
            ("unix-user:0", "unix-user:0"),
            ("unix-user:1001", "unix-user:1001"),
            ("unix-group:4294967294", "unix-group:4294967294"),
        ] {
            assert_eq!(identity(text).as_str(), canonical);
            assert_eq!(identity(canonical), identity(text));
        }
        assert_ne!(identity("unix-user:7"), identity("unix-group:7"));
        assert_ne!(identity("email:a@b"), identity("email:A@b"), "only the server of a user knows its case");
    }

    #[test]
    fn what_names_nobody_is_no_identity() {
        let long = |kind: &str, count: usize| format!("{kind}{}", "a".repeat(count));
        let labels = |count: usize| format!("dns:{}a", "a.".repeat(count));
        for bad in [
            "",
            "dns",
            "dns:",
            "DNS:a",
            "ip:192.0.2.1",
            " dns:a",
            "dns:a ",
            "dns:*.example.net",
            "dns:a..b",
            "dns:.a",
            "dns:a.",
            "dns:-a.b",
            "dns:a-.b",
            "dns:a_b",
            "dns:b\u{fc}cher",
            "dns:192.0.2.1",
            "dns:a\0b",
            "uri:",
            "uri:a",
            "uri:a:",
            "uri::a",
            "uri:1a:b",
            "uri:a:b c",
            "uri:a:\"",
            "uri:a:\\",
            "uri:a:b\n",
            "uri:a:\u{e4}",
            "uri:a:\u{7f}",
            "email:a",
            "email:@b",
            "email:a@",
            "email:a@b@c",
            "email:\"a\"@b",
            "email:a b@c",
            "unix-user:",
            "unix-user:01",
            "unix-user:00",
            "unix-user:+1",
            "unix-user:-1",
            "unix-user:1x",
            "unix-user:4294967295",
            "unix-user:4294967296",
            "unix-group:\u{661}",
            &long("dns:", IDENTITY_LABEL_MAX_BYTES + 1),
            &long("uri:a:", IDENTITY_VALUE_MAX_BYTES - 1),
            &long("email:a@", IDENTITY_VALUE_MAX_BYTES - 1),
            &labels(127),
        ] {
            assert!(Identity::parse(bad).is_none(), "{bad:?}");
        }
        for (good, len) in [(long("dns:", IDENTITY_LABEL_MAX_BYTES), 67), (labels(126), 257)] {
            assert_eq!(identity(&good).as_str().len(), len);
        }
        assert_eq!(identity(&long("uri:a:", IDENTITY_VALUE_MAX_BYTES - 2)).as_str().len(), 260);
    }

    #[test]
    fn a_peer_has_each_identity_once_and_no_more_than_are_looked_at() {
        let numbered = |number: u32| identity(&format!("unix-user:{number}"));
        let of_peer: Identities = (0..100).flat_map(|number| [numbered(number), numbered(number)]).collect();
        assert_eq!(of_peer.iter().count(), PEER_IDENTITIES_MAX_COUNT);
        assert!(of_peer.contains(&numbered(15)) && !of_peer.contains(&numbered(16)));
        assert!(of_peer.iter().eq((0..16).map(numbered).collect::<Vec<_>>().iter()));
        assert!(Identities::default().is_empty() && !of_peer.is_empty());
    }

    proptest! {
        #[test]
        fn whatever_comes_is_canonical_and_harmless_or_nothing(kind in "dns|uri|email|unix-user|unix-group|[a-z]{0,4}", value in "(?s).{0,40}|[A-Za-z0-9.@:/_-]{0,300}") {
            if let Some(identity) = Identity::parse(&format!("{kind}:{value}")) {
                let text = identity.as_str();
                prop_assert_eq!(Identity::parse(text), Some(identity.clone()));
                prop_assert!(text.len() <= IDENTITY_TEXT_MAX_BYTES);
                prop_assert_eq!(serde_json::to_string(text).unwrap(), format!("\"{text}\""));
                prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
