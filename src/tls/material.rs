//! Certificates and keys, from the bytes of their files to what a handshake uses.
//!
//! Owns [`Material`] and [`Authorities`]. Invariants: a key that is taken fits its certificate; decoded key bytes are wiped here,
//! and the library keeps its own form of the key for as long as a configuration refers to it; an expired certificate
//! is taken, since a server that stops at midnight helps nobody: whoever reads it warns.

use core::fmt;
use std::sync::Arc;

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer,
};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};

use crate::clock::WallTime;
use crate::limits::{
    TLS_CERTIFICATE_MAX_BYTES, TLS_CHAIN_MAX_COUNT, TLS_CLIENT_AUTHORITIES_MAX_COUNT,
    TLS_CLIENT_REVOCATIONS_MAX_COUNT, TLS_OCSP_MAX_BYTES,
};
use crate::tls::TlsError;
use crate::tls::certificate::Facts;
use crate::tls::der::{Reader, tag};
use crate::tls::pem;
use crate::tls::provider::provider;
use crate::tls::revocation::Revocations;

/// A certificate chain with its key.
#[derive(Clone)]
pub struct Material {
    certified: Arc<CertifiedKey>,
    facts: Facts,
}

impl Material {
    /// Reads a chain in PEM, the server's own certificate first, its private key in PEM (PKCS #8, SEC 1 or PKCS #1), and
    /// perhaps an OCSP reply in DER. What else stands in the files is skipped, so that one file may hold both. The
    /// caller wipes `key`.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn read(chain: &[u8], key: &[u8], ocsp: Option<&[u8]>) -> Result<Self, TlsError> {
        let chain = certificates(chain)?;
        if chain.len() > TLS_CHAIN_MAX_COUNT {
            return Err(TlsError::ChainTooLong);
        }
        let own = chain.first().ok_or(TlsError::NoCertificate)?;
        let facts = Facts::read(own).ok_or(TlsError::BadCertificate)?;
        ParsedCertificate::try_from(own).map_err(|_| TlsError::BadCertificate)?;
        let key = provider().key_provider.load_private_key(private_key(key)?);
        let mut certified = CertifiedKey::new(chain, key.map_err(|_| TlsError::BadKey)?);
        match certified.keys_match() {
            // Said of keys of which the library cannot tell: none that it loads itself.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => return Err(TlsError::KeyMismatch),
        }
        certified.ocsp = ocsp.map(ocsp_reply).transpose()?;
        Ok(Self { certified: Arc::new(certified), facts })
    }

    /// What the server's own certificate says of itself.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Whether the certificate has begun to hold and has not ended.
    #[must_use]
    pub fn holds_at(&self, now: WallTime) -> bool {
        self.facts.holds_at(now)
    }

    pub(super) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// What the first certificate of a chain in PEM says of itself.
///
/// # Errors
/// As those of [`Material::read`] about the chain.
pub fn read_facts(chain: &[u8]) -> Result<Facts, TlsError> {
    let chain = certificates(chain)?;
    chain.first().and_then(|own| Facts::read(own)).ok_or(TlsError::BadCertificate)
}

/// Who may sign client certificates, and what they have revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorities {
    certificates: Vec<CertificateDer<'static>>,
    revocations: Vec<Revocations>,
}

impl Authorities {
    /// Reads their certificates in PEM.
    ///
    /// # Errors
    /// [`TlsError::NotPem`], [`TlsError::NoCertificate`], [`TlsError::BadCertificate`], [`TlsError::ManyAuthorities`] or
    /// [`TlsError::TooLarge`].
    pub fn read(text: &[u8]) -> Result<Self, TlsError> {
        let all = certificates(text)?;
        if all.len() > TLS_CLIENT_AUTHORITIES_MAX_COUNT {
            return Err(TlsError::ManyAuthorities);
        }
        Ok(Self { certificates: all, revocations: Vec::new() })
    }

    /// The same with these lists. From then on each certificate of a client's chain has to be known to be good: one whose authority has no
    /// list here is refused.
    ///
    /// # Errors
    /// [`TlsError::ManyRevocations`].
    pub fn revoking(self, revocations: Vec<Revocations>) -> Result<Self, TlsError> {
        if revocations.len() > TLS_CLIENT_REVOCATIONS_MAX_COUNT {
            return Err(TlsError::ManyRevocations);
        }
        Ok(Self { revocations, ..self })
    }

    pub(super) fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    pub(super) fn revocations(&self) -> &[Revocations] {
        &self.revocations
    }
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let mut found = Vec::new();
    for block in pem::blocks(text)? {
        if !matches!(block.label, b"CERTIFICATE" | b"X509 CERTIFICATE") {
            continue;
        }
        let mut frame = Reader::new(&block.bytes);
        let whole = frame.expect(tag::SEQUENCE).is_some() && frame.is_empty();
        if !whole || block.bytes.len() > TLS_CERTIFICATE_MAX_BYTES {
            return Err(TlsError::BadCertificate);
        }
        found.push(CertificateDer::from(block.bytes.to_vec()));
    }
    if found.is_empty() { Err(TlsError::NoCertificate) } else { Ok(found) }
}

/// The one private key of the text. The library wipes what it is given.
fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    let mut found = None;
    for block in pem::blocks(text)? {
        let bytes = || block.bytes.to_vec();
        let key: PrivateKeyDer<'static> = match block.label {
            b"PRIVATE KEY" => PrivatePkcs8KeyDer::from(bytes()).into(),
            b"EC PRIVATE KEY" => PrivateSec1KeyDer::from(bytes()).into(),
            b"RSA PRIVATE KEY" => PrivatePkcs1KeyDer::from(bytes()).into(),
            b"ENCRYPTED PRIVATE KEY" => return Err(TlsError::EncryptedKey),
            _ => continue,
        };
        if found.replace(zeroize::Zeroizing::new(key)).is_some() {
            return Err(TlsError::ManyKeys);
        }
    }
    found.map(|key| key.clone_key()).ok_or(TlsError::NoKey)
}

/// RFC 6960, section 4.2.1: a reply is a sequence of the status, which must be successful (0), and the signed bytes.
fn ocsp_reply(bytes: &[u8]) -> Result<Vec<u8>, TlsError> {
    let successful = || {
        let mut frame = Reader::new(bytes);
        let mut reply = frame.enter(tag::SEQUENCE)?;
        let status = reply.expect(tag::ENUMERATED)?;
        reply.expect(tag::explicit(0))?;
        (status == [0] && reply.is_empty() && frame.is_empty()).then_some(())
    };
    if bytes.len() > TLS_OCSP_MAX_BYTES || successful().is_none() {
        return Err(TlsError::BadOcsp);
    }
    Ok(bytes.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::der::element;
    use crate::tls::tests::certificates::{Issued, authority, rsa};

    /// The key inside a PKCS #8 frame (RFC 5958), which is SEC 1 or PKCS #1.
    fn inner(pkcs8: &[u8]) -> Vec<u8> {
        let mut frame = Reader::new(pkcs8).enter(tag::SEQUENCE).unwrap();
        frame.expect(tag::INTEGER).unwrap();
        frame.expect(tag::SEQUENCE).unwrap();
        frame.expect(tag::OCTET_STRING).unwrap().to_vec()
    }

    #[test]
    fn every_form_of_key_is_read() {
        let ca = authority();
        let ec = Issued::server(&ca, &["a.example", "10.0.0.1"]);
        let sec1 = pem::write("EC PRIVATE KEY", &inner(&ec.key.serialize_der()));
        let rsa = Issued::with_key(&ca, &["b.example"], rsa());
        let pkcs1 = pem::write("RSA PRIVATE KEY", &inner(&rsa.key.serialize_der()));
        for (pair, key) in [
            (&ec, ec.key.serialize_pem()),
            (&ec, sec1.to_string()),
            (&rsa, rsa.key.serialize_pem()),
            (&rsa, pkcs1.to_string()),
        ] {
            let material = Material::read(pair.chain().as_bytes(), key.as_bytes(), None).unwrap();
            assert!(material.holds_at(WallTime::now()));
            assert!(!material.holds_at(WallTime::from_millis(0)), "it has not begun then");
            // One file with both is as good.
            let both = format!("{key}{}", pair.chain());
            Material::read(both.as_bytes(), both.as_bytes(), None).unwrap();
        }
        let material =
            Material::read(ec.chain().as_bytes(), ec.key.serialize_pem().as_bytes(), None).unwrap();
        assert_eq!(material.facts().dns_names().collect::<Vec<_>>(), ["a.example"]);
        assert_eq!(material.facts().addresses().next(), Some("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let ca = authority();
        let (one, other) = (Issued::server(&ca, &["a.example"]), Issued::server(&ca, &["b.example"]));
        let (chain, key) = (one.chain(), one.key.serialize_pem());
        let read = |chain: &str, key: &str| Material::read(chain.as_bytes(), key.as_bytes(), None).err();
        assert_eq!(read(&chain, &key), None);
        assert_eq!(read(&chain, &other.key.serialize_pem()), Some(TlsError::KeyMismatch));
        assert_eq!(
            read(&format!("{}{}", ca.certificate.pem(), one.certificate.pem()), &key),
            Some(TlsError::KeyMismatch)
        );
        assert_eq!(read(&key, &key), Some(TlsError::NoCertificate));
        assert_eq!(read(&chain, &chain), Some(TlsError::NoKey));
        assert_eq!(read(&chain, &format!("{key}{key}")), Some(TlsError::ManyKeys));
        assert_eq!(
            read(&chain, &key.replace("BEGIN ", "BEGIN ENCRYPTED ").replace("END ", "END ENCRYPTED ")),
            Some(TlsError::EncryptedKey)
        );
        assert_eq!(read(&chain, &pem::write("PRIVATE KEY", b"nonsense")), Some(TlsError::BadKey));
        assert_eq!(read(&pem::write("CERTIFICATE", b"nonsense"), &key), Some(TlsError::BadCertificate));
        assert_eq!(
            read(&pem::write("CERTIFICATE", &element(tag::SEQUENCE, &[])), &key),
            Some(TlsError::BadCertificate)
        );
        assert_eq!(read(&chain.repeat(TLS_CHAIN_MAX_COUNT + 1), &key), Some(TlsError::ChainTooLong));
        assert_eq!(read("", &key), Some(TlsError::NotPem));
    }

    #[test]
    fn an_expired_certificate_is_taken_and_known_as_such() {
        let ca = authority();
        let old = Issued::expired(&ca, &["a.example"]);
        let material =
            Material::read(old.chain().as_bytes(), old.key.serialize_pem().as_bytes(), None).unwrap();
        assert!(!material.holds_at(WallTime::now()));
    }

    #[test]
    fn only_a_successful_ocsp_reply_is_stapled() {
        let reply = |status: u8| {
            element(
                tag::SEQUENCE,
                &[&element(tag::ENUMERATED, &[&[status]]), &element(tag::explicit(0), &[b"x"])],
            )
        };
        assert_eq!(ocsp_reply(&reply(0)).unwrap(), reply(0));
        assert_eq!(ocsp_reply(&reply(1)), Err(TlsError::BadOcsp));
        assert_eq!(ocsp_reply(b"HTTP/1.1 200 OK"), Err(TlsError::BadOcsp));
        assert_eq!(ocsp_reply(&[reply(0), reply(0)].concat()), Err(TlsError::BadOcsp));
    }
}
