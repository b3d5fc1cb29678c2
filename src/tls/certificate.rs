//! The few fields of a certificate that are looked at (RFC 5280, section 4.1): its names and its validity.
//!
//! Owns [`Facts`]. Invariants: nothing here is a proof; whoever trusts a name has had the certificate verified. Names
//! that cannot be read are left out; a certificate whose frame cannot be read is none.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::clock::WallTime;
use crate::limits::{TLS_CERTIFICATE_MAX_BYTES, TLS_CERTIFICATE_NAMES_MAX_COUNT};
use crate::tls::der::{Reader, tag};

/// `id-ce-subjectAltName`, 2.5.29.17.
pub(super) const SUBJECT_ALTERNATIVE_NAME: &[u8] = &[0x55, 0x1d, 0x11];

/// A name of a certificate's subject (RFC 5280, section 4.2.1.6), as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A host name, perhaps with `*` as its first label.
    Dns(Box<str>),
    /// An address.
    Address(IpAddr),
    /// A URI.
    Uri(Box<str>),
    /// A mailbox.
    Email(Box<str>),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(text) | Self::Uri(text) | Self::Email(text) => f.write_str(text),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The names of its subject, at most [`TLS_CERTIFICATE_NAMES_MAX_COUNT`].
    pub names: Vec<Name>,
    /// When it begins to hold.
    pub not_before: WallTime,
    /// When it ceases to hold.
    pub not_after: WallTime,
}

impl Facts {
    /// Reads them from a certificate in DER; nothing if it is none.
    #[must_use]
    pub fn read(certificate: &[u8]) -> Option<Self> {
        if certificate.len() > TLS_CERTIFICATE_MAX_BYTES {
            return None;
        }
        let mut outer = Reader::new(certificate);
        let mut body = outer.enter(tag::SEQUENCE)?.enter(tag::SEQUENCE)?;
        if !outer.is_empty() {
            return None;
        }
        // version, serialNumber, signature, issuer
        body.expect(tag::explicit(0))?;
        body.expect(tag::INTEGER)?;
        body.expect(tag::SEQUENCE)?;
        body.expect(tag::SEQUENCE)?;
        let mut validity = body.enter(tag::SEQUENCE)?;
        let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
        // subject, subjectPublicKeyInfo
        body.expect(tag::SEQUENCE)?;
        body.expect(tag::SEQUENCE)?;
        let mut names = Vec::new();
        while let Some((found, content)) = body.next() {
            if found == tag::explicit(3) {
                names = alternative_names(content)?;
            }
        }
        Some(Self { names, not_before, not_after })
    }

    /// Whether it holds at `now`.
    #[must_use]
    pub fn holds_at(&self, now: WallTime) -> bool {
        // The last second belongs to it.
        self.not_before <= now && now.as_secs() <= self.not_after.as_secs()
    }

    /// Its host names.
    pub fn dns_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter_map(|name| match name {
            Name::Dns(name) => Some(&**name),
            _ => None,
        })
    }

    /// Its addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.names.iter().filter_map(|name| match name {
            Name::Address(address) => Some(*address),
            _ => None,
        })
    }
}

fn alternative_names(extensions: &[u8]) -> Option<Vec<Name>> {
    let mut all = Reader::new(extensions).enter(tag::SEQUENCE)?;
    while let Some(mut extension) = all.enter(tag::SEQUENCE) {
        if extension.expect(tag::OID)? != SUBJECT_ALTERNATIVE_NAME {
            continue;
        }
        let _critical = extension.expect(tag::BOOLEAN);
        let mut names = Reader::new(extension.expect(tag::OCTET_STRING)?).enter(tag::SEQUENCE)?;
        let each = core::iter::from_fn(|| names.next()).take(TLS_CERTIFICATE_NAMES_MAX_COUNT);
        return Some(each.filter_map(name).collect());
    }
    Some(Vec::new())
}

fn name((found, content): (u8, &[u8])) -> Option<Name> {
    // IA5String: visible ASCII here; a NUL or a line end in a name is an attempt at something.
    let text = || {
        let visible = !content.is_empty() && content.iter().all(u8::is_ascii_graphic);
        visible.then(|| String::from_utf8_lossy(content).into())
    };
    const EMAIL: u8 = tag::context(1);
    const DNS: u8 = tag::context(2);
    const URI: u8 = tag::context(6);
    const ADDRESS: u8 = tag::context(7);
    match found {
        EMAIL => text().map(Name::Email),
        DNS => text().map(Name::Dns),
        URI => text().map(Name::Uri),
        ADDRESS => {
            let four = <[u8; 4]>::try_from(content).map(|octets| Ipv4Addr::from(octets).into());
            let sixteen = || <[u8; 16]>::try_from(content).map(|octets| Ipv6Addr::from(octets).into());
            four.or_else(|_| sixteen()).ok().map(Name::Address)
        }
        _ => None,
    }
}

/// RFC 5280, section 4.1.2.5: both forms in UTC with seconds; two digits of a year below 50 are of this century.
pub(super) fn time((found, content): (u8, &[u8])) -> Option<WallTime> {
    let text = core::str::from_utf8(content).ok()?;
    let (century, rest) = match found {
        tag::UTC_TIME if text.len() == 13 => (if text.get(..2)? < "50" { "20" } else { "19" }, text),
        tag::GENERALIZED_TIME if text.len() == 15 => text.split_at_checked(2)?,
        _ => return None,
    };
    let field = |at: usize| rest.get(at..at + 2);
    let (year, month, day) = (field(0)?, field(2)?, field(4)?);
    let (hour, minute, second) = (field(6)?, field(8)?, field(10)?);
    let zone = rest.get(12..)?;
    // Roots that were made before 1970 do not matter.
    WallTime::parse_rfc3339(
        format!("{century}{year}-{month}-{day}T{hour}:{minute}:{second}{zone}").as_bytes(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_forms_of_time_are_read() {
        let at = |tag: u8, text: &str| time((tag, text.as_bytes())).map(|time| time.civil().to_string());
        assert_eq!(at(tag::UTC_TIME, "261123012030Z").as_deref(), Some("2026-11-23T01:20:30.000Z"));
        assert_eq!(at(tag::UTC_TIME, "991231235959Z").as_deref(), Some("1999-12-31T23:59:59.000Z"));
        assert_eq!(at(tag::GENERALIZED_TIME, "20991231235959Z").as_deref(), Some("2099-12-31T23:59:59.000Z"));
        for bad in ["2611230120Z", "261123012030+0100", "26112301203Z0", "261323012030Z", "é61123012030Z"] {
            assert_eq!(at(tag::UTC_TIME, bad), None, "{bad}");
        }
    }

    #[test]
    fn names_are_read_by_kind_and_bad_ones_left_out() {
        assert_eq!(name((0x82, b"a.example")), Some(Name::Dns("a.example".into())));
        assert_eq!(name((0x87, &[127, 0, 0, 1])), Some(Name::Address("127.0.0.1".parse().unwrap())));
        assert_eq!(name((0x87, &[127, 0, 0])), None);
        assert_eq!(name((0x82, b"a\0.example")), None);
        assert_eq!(name((0x82, b"")), None);
        assert_eq!(name((0x84, b"x")), None);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Facts::read(&bytes);
            let _ = alternative_names(&bytes);
        }
    }
}
