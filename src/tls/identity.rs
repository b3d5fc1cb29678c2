//! Whom a client certificate names.
//!
//! Owns [`identities`]. Invariants: the certificate was verified by the handshake, this one or the one that it resumes; since
//! the latter may be hours ago, its validity is looked at again; names that cannot be told apart safely are dropped.

use crate::clock::WallTime;
use crate::limits::{IDENTITY_DNS_MAX_BYTES, IDENTITY_OTHER_MAX_BYTES};
use crate::model::{Identities, Identity};
use crate::tls::certificate::{Facts, Name};

/// The identities of a verified certificate in DER: `dns:`, `uri:` and `email:` of its alternative names, in its
/// order. Nothing if it does not hold at `now`.
#[must_use]
pub fn identities(certificate: &[u8], now: WallTime) -> Option<Identities> {
    let facts = Facts::read(certificate)?;
    facts.holds_at(now).then(|| Identities::new(facts.names.iter().filter_map(identity)))
}

fn identity(name: &Name) -> Option<Identity> {
    let text = match name {
        Name::Dns(name) if is_host(name) => format!("dns:{}", name.to_ascii_lowercase()),
        Name::Uri(uri) if is_uri(uri) => format!("uri:{uri}"),
        Name::Email(mailbox) if is_mailbox(mailbox) => format!("email:{mailbox}"),
        _ => return None,
    };
    Identity::parse(&text)
}

/// A host name without wildcard (RFC 1123, section 2.1; `_` occurs in service names).
fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= IDENTITY_DNS_MAX_BYTES && name.split('.').all(label)
}

/// A scheme and something behind it (RFC 3986, section 3.1).
fn is_uri(uri: &str) -> bool {
    uri.len() <= IDENTITY_OTHER_MAX_BYTES
        && uri.split_once(':').is_some_and(|(scheme, rest)| {
            scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
                && !rest.is_empty()
        })
}

fn is_mailbox(mailbox: &str) -> bool {
    let parts = mailbox.split_once('@');
    mailbox.len() <= IDENTITY_OTHER_MAX_BYTES
        && parts.is_some_and(|(local, host)| !local.is_empty() && is_host(host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PEER_IDENTITIES_MAX_COUNT;
    use crate::tls::tests::certificates::{Issued, authority};

    fn texts(issued: &Issued, now: WallTime) -> Option<Vec<String>> {
        identities(issued.certificate.der(), now).map(|all| all.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn names_become_identities_and_odd_ones_are_dropped() {
        let issued = Issued::client(
            &authority(),
            &["Svc.Example.net", "*.example.net", "10.0.0.1"],
            &["spiffe://example.net/svc", "no-scheme"],
            &["a@b.example", "nobody"],
        );
        let expected = ["dns:svc.example.net", "uri:spiffe://example.net/svc", "email:a@b.example"];
        assert_eq!(texts(&issued, WallTime::now()).unwrap(), expected);
        assert_eq!(texts(&issued, WallTime::from_millis(0)), None, "it has not begun then");
        assert!(identities(b"nonsense", WallTime::now()).is_none());
    }

    #[test]
    fn there_are_no_more_than_the_bound() {
        let names: Vec<String> = (0..40).map(|number| format!("h{number}.example")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let issued = Issued::client(&authority(), &names, &[], &[]);
        let found = texts(&issued, WallTime::now()).unwrap();
        assert_eq!(found.len(), PEER_IDENTITIES_MAX_COUNT);
        assert_eq!(found[15], "dns:h15.example");
    }
}
