//! Whom a client certificate names.
//!
//! Owns [`identities`]. Invariants: the certificate was verified by the handshake, this one or the one that it resumes; since
//! the latter may be hours ago, its validity is looked at again; names that cannot be told apart safely are dropped.

use crate::clock::WallTime;
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
    match name {
        Name::Dns(name) => Identity::parse(&format!("dns:{name}")),
        Name::Uri(uri) => Identity::parse(&format!("uri:{uri}")),
        Name::Email(mailbox) => Identity::parse(&format!("email:{mailbox}")),
        _ => None,
    }
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
