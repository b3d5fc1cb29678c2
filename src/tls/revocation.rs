//! Which client certificates their authorities have revoked: their lists (RFC 5280, section 5).
//!
//! Owns [`Revocations`]. Invariants: a list that has ended, or that was made before the one of its authority that is in
//! force, is not taken, so that an old file never takes the place of a newer list; one that ends while it is in force stays there, also when
//! it is read again with other files that are new, since what it revokes is revoked all the same: whoever keeps it warns. The
//! signature is looked at by the library, for each certificate that a client shows.

use std::sync::Arc;

use rustls::pki_types::CertificateRevocationListDer;

use crate::clock::WallTime;
use crate::tls::TlsError;
use crate::tls::certificate::time;
use crate::tls::der::{Reader, tag};
use crate::tls::pem;

/// One list; a copy of it shares its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocations {
    der: Arc<[u8]>,
    issuer: Arc<[u8]>,
    this_update: WallTime,
    next_update: WallTime,
}

impl Revocations {
    /// Reads the lists of a file, one in DER or several in PEM, as they are good for at `now` beside those `in_force`.
    ///
    /// # Errors
    /// [`TlsError::BadRevocations`], [`TlsError::OldRevocations`], [`TlsError::OlderRevocations`] or those of PEM.
    pub fn read(bytes: &[u8], now: WallTime, in_force: &[Self]) -> Result<Vec<Self>, TlsError> {
        if bytes.first() == Some(&tag::SEQUENCE) {
            return Ok(vec![Self::of(bytes, now, in_force)?]);
        }
        let blocks = pem::blocks(bytes)?;
        let lists = blocks.iter().filter(|block| block.label == b"X509 CRL");
        let lists: Vec<Self> =
            lists.map(|block| Self::of(&block.bytes, now, in_force)).collect::<Result<_, _>>()?;
        if lists.is_empty() { Err(TlsError::BadRevocations) } else { Ok(lists) }
    }

    fn of(der: &[u8], now: WallTime, in_force: &[Self]) -> Result<Self, TlsError> {
        let read = Self::parse(der).ok_or(TlsError::BadRevocations)?;
        if !in_force.contains(&read) {
            if read.next_update < now {
                return Err(TlsError::OldRevocations);
            }
            if read.is_older(in_force) {
                return Err(TlsError::OlderRevocations);
            }
        }
        Ok(read)
    }

    /// RFC 5280, section 5.1: version, signature, issuer, thisUpdate, nextUpdate, which every list has that conforms.
    fn parse(der: &[u8]) -> Option<Self> {
        let mut outer = Reader::new(der);
        let mut list = outer.enter(tag::SEQUENCE)?.enter(tag::SEQUENCE)?;
        if !outer.is_empty() {
            return None;
        }
        list.expect(tag::INTEGER)?;
        list.expect(tag::SEQUENCE)?;
        let issuer = list.expect(tag::SEQUENCE)?.into();
        let (this_update, next_update) = (time(list.next()?)?, time(list.next()?)?);
        Some(Self { der: der.into(), issuer, this_update, next_update })
    }

    /// Whether it was made before the one list of its authority in `in_force`. Of several, whose parts they are is not known.
    fn is_older(&self, in_force: &[Self]) -> bool {
        let mut same = in_force.iter().filter(|other| other.issuer == self.issuer);
        same.next().is_some_and(|other| self.this_update < other.this_update) && same.next().is_none()
    }

    /// Until when its authority has announced the next one.
    #[must_use]
    pub fn next_update(&self) -> WallTime {
        self.next_update
    }

    pub(super) fn list(&self) -> CertificateRevocationListDer<'static> {
        self.der.to_vec().into()
    }
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
            let read = Revocations::read(bytes, at("2026-01-31T23:59:59Z"), &[]).unwrap();
            assert_eq!(read.len(), count);
            assert!(read.iter().all(|list| list.next_update() == at("2026-02-01T00:00:00Z")));
            let late = Revocations::read(bytes, at("2026-02-01T00:00:01Z"), &[]);
            assert_eq!(late.err(), Some(TlsError::OldRevocations));
        }
    }

    #[test]
    fn a_list_in_force_stays_when_it_has_ended_and_gives_way_to_none_that_is_older() {
        let time = |text| (tag::UTC_TIME, text);
        let [old, kept, new] = [
            list(&[time("260101000000Z"), time("260401000000Z")]),
            list(&[time("260102000000Z"), time("260201000000Z")]),
            list(&[time("260103000000Z"), time("260501000000Z")]),
        ];
        let now = at("2026-03-01T00:00:00Z");
        let in_force = Revocations::read(&kept, at("2026-01-15T00:00:00Z"), &[]).unwrap();
        assert_eq!(Revocations::read(&kept, now, &[]), Err(TlsError::OldRevocations));
        assert!(Revocations::read(&kept, now, &in_force).is_ok(), "it is in force");
        assert_eq!(Revocations::read(&old, now, &in_force), Err(TlsError::OlderRevocations));
        assert!(Revocations::read(&new, now, &in_force).is_ok());
        // Which of two a new one follows is not known.
        assert!(Revocations::read(&old, now, &[in_force[0].clone(), in_force[0].clone()]).is_ok());
    }

    #[test]
    fn what_is_no_list_is_none() {
        let began = (tag::UTC_TIME, "260101000000Z");
        let cut = &list(&[began, began])[..20];
        let other = pem::write("CERTIFICATE", &list(&[began, began]));
        for bad in
            [&list(&[began])[..], cut, b"", other.as_bytes(), &[list(&[began, began]), vec![0]].concat()]
        {
            let read = Revocations::read(bad, WallTime::from_millis(0), &[]);
            assert!(matches!(read, Err(TlsError::BadRevocations | TlsError::NotPem)), "{bad:?}: {read:?}");
        }
    }
}
