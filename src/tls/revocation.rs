//! Which client certificates their authorities have revoked: their lists (RFC 5280, section 5).
//!
//! Owns [`Revocations`]. Invariants: a list that has ended is not taken, so that an old file never takes the place of a newer list that
//! is in force; one that ends while it is in force stays there, since what it revokes is revoked all the same: whoever keeps it warns. The
//! signature is looked at by the library, for each certificate that a client shows.

use rustls::pki_types::CertificateRevocationListDer;

use crate::clock::WallTime;
use crate::tls::TlsError;
use crate::tls::certificate::time;
use crate::tls::der::{Reader, tag};
use crate::tls::pem;

/// One list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocations {
    list: CertificateRevocationListDer<'static>,
    next_update: WallTime,
}

impl Revocations {
    /// Reads the lists of a file, one in DER or several in PEM, as they are good for at `now`.
    ///
    /// # Errors
    /// [`TlsError::BadRevocations`], [`TlsError::OldRevocations`] or those of PEM.
    pub fn read(bytes: &[u8], now: WallTime) -> Result<Vec<Self>, TlsError> {
        if bytes.first() == Some(&tag::SEQUENCE) {
            return Ok(vec![Self::of(bytes, now)?]);
        }
        let blocks = pem::blocks(bytes)?;
        let lists = blocks.iter().filter(|block| block.label == b"X509 CRL");
        let lists: Vec<Self> = lists.map(|block| Self::of(&block.bytes, now)).collect::<Result<_, _>>()?;
        if lists.is_empty() { Err(TlsError::BadRevocations) } else { Ok(lists) }
    }

    fn of(der: &[u8], now: WallTime) -> Result<Self, TlsError> {
        let next_update = next_update(der).ok_or(TlsError::BadRevocations)?;
        if next_update < now {
            return Err(TlsError::OldRevocations);
        }
        Ok(Self { list: der.to_vec().into(), next_update })
    }

    /// Until when its authority has announced the next one.
    #[must_use]
    pub fn next_update(&self) -> WallTime {
        self.next_update
    }

    pub(super) fn list(&self) -> CertificateRevocationListDer<'static> {
        self.list.clone()
    }
}

/// RFC 5280, section 5.1: version, signature, issuer, thisUpdate, nextUpdate, which every list has that conforms.
fn next_update(der: &[u8]) -> Option<WallTime> {
    let mut outer = Reader::new(der);
    let mut list = outer.enter(tag::SEQUENCE)?.enter(tag::SEQUENCE)?;
    if !outer.is_empty() {
        return None;
    }
    list.expect(tag::INTEGER)?;
    list.expect(tag::SEQUENCE)?;
    list.expect(tag::SEQUENCE)?;
    time(list.next()?)?;
    time(list.next()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::der::element;

    fn list(times: &[(u8, &str)]) -> Vec<u8> {
        let times: Vec<u8> = times.iter().flat_map(|(tag, text)| element(*tag, &[text.as_bytes()])).collect();
        let empty = element(tag::SEQUENCE, &[]);
        let body = element(tag::SEQUENCE, &[&element(tag::INTEGER, &[&[1]]), &empty, &empty, &times]);
        element(tag::SEQUENCE, &[&body, &empty, &element(tag::BIT_STRING, &[&[0]])])
    }

    fn at(text: &str) -> WallTime {
        WallTime::parse_rfc3339(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_list_is_taken_until_the_next_one_is_due() {
        let (began, ends) = ((tag::UTC_TIME, "260101000000Z"), (tag::GENERALIZED_TIME, "20260201000000Z"));
        let good = list(&[began, ends]);
        let pem = pem::write("X509 CRL", &good);
        let both = [pem.as_bytes(), b"\n", pem.as_bytes()].concat();
        for (bytes, count) in [(&good[..], 1), (pem.as_bytes(), 1), (&both, 2)] {
            let read = Revocations::read(bytes, at("2026-01-31T23:59:59Z")).unwrap();
            assert_eq!(read.len(), count);
            assert!(read.iter().all(|list| list.next_update() == at("2026-02-01T00:00:00Z")));
            let late = Revocations::read(bytes, at("2026-02-01T00:00:01Z"));
            assert_eq!(late.err(), Some(TlsError::OldRevocations));
        }
    }

    #[test]
    fn what_is_no_list_is_none() {
        let began = (tag::UTC_TIME, "260101000000Z");
        let cut = &list(&[began, began])[..20];
        let other = pem::write("CERTIFICATE", &list(&[began, began]));
        for bad in
            [&list(&[began])[..], cut, b"", other.as_bytes(), &[list(&[began, began]), vec![0]].concat()]
        {
            let read = Revocations::read(bad, WallTime::from_millis(0));
            assert!(matches!(read, Err(TlsError::BadRevocations | TlsError::NotPem)), "{bad:?}: {read:?}");
        }
    }
}
