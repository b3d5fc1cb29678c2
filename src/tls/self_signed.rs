//! A certificate for development, signed by itself (RFC 5280, section 4.1).
//!
//! Owns [`make`]. Invariants: the key is ECDSA on P-256 and made here; its bytes are wiped, but for the text that is returned and
//! wipes itself; the certificate signs no others.

use core::net::IpAddr;
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::sign::SigningKey;
use zeroize::Zeroizing;

use crate::clock::WallTime;
use crate::limits::{
    DEVELOPMENT_CERTIFICATE_CEILING_DAYS, DEVELOPMENT_CERTIFICATE_FLOOR_DAYS, IDENTITY_DNS_MAX_BYTES,
    TLS_CERTIFICATE_NAMES_MAX_COUNT,
};
use crate::tls::TlsError;
use crate::tls::certificate::SUBJECT_ALTERNATIVE_NAME;
use crate::tls::der::{bit_string, element, tag};
use crate::tls::pem;
use crate::tls::provider::provider;

/// `ecdsa-with-SHA256`, 1.2.840.10045.4.3.2 (RFC 5758, section 3.2).
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
/// `id-ecPublicKey`, 1.2.840.10045.2.1, and `secp256r1`, 1.2.840.10045.3.1.7 (RFC 5480, section 2.1.1).
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const SECP256R1: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
/// `id-ce-basicConstraints`, 2.5.29.19.
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
/// `id-ce-extKeyUsage`, 2.5.29.37, and `id-kp-serverAuth`, 1.3.6.1.5.5.7.3.1.
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// What every development certificate is for.
const STANDARD_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
/// How far back it begins to hold, for clients whose clock is late.
const BACKDATED_MILLIS: u64 = 3_600_000;

/// A certificate and its key in PEM.
#[derive(Debug)]
pub struct Pair {
    /// To be given to the server and, to be trusted, to clients.
    pub certificate: String,
    /// For the server alone.
    pub key: Key,
}

/// A private key in PEM, wiped when dropped.
pub struct Key(Zeroizing<String>);

impl Key {
    /// The text.
    #[must_use]
    pub fn as_pem(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(redacted)")
    }
}

/// Makes a certificate for `localhost`, `127.0.0.1`, `::1` and `names`, for `days` days from `now`.
///
/// # Errors
/// [`TlsError::BadName`], [`TlsError::BadValidity`], [`TlsError::Random`].
pub fn make(names: &[&str], days: u32, now: WallTime) -> Result<Pair, TlsError> {
    if !(DEVELOPMENT_CERTIFICATE_FLOOR_DAYS..=DEVELOPMENT_CERTIFICATE_CEILING_DAYS).contains(&days) {
        return Err(TlsError::BadValidity);
    }
    let key = PrivateKey::generate()?;
    let algorithm = element(tag::SEQUENCE, &[&oid(ECDSA_WITH_SHA256)]);
    let attribute =
        element(tag::SEQUENCE, &[&oid(COMMON_NAME), &element(tag::UTF8, &[b"quantonium development"])]);
    let subject = element(tag::SEQUENCE, &[&element(tag::SET, &[&attribute])]);
    let begin = WallTime::from_millis(now.as_millis().saturating_sub(BACKDATED_MILLIS));
    let end = WallTime::from_millis(now.as_millis().saturating_add(u64::from(days) * 86_400_000));
    let extensions = element(
        tag::SEQUENCE,
        &[
            &extension(BASIC_CONSTRAINTS, true, &element(tag::SEQUENCE, &[])),
            &extension(EXTENDED_KEY_USAGE, false, &element(tag::SEQUENCE, &[&oid(SERVER_AUTH)])),
            &extension(SUBJECT_ALTERNATIVE_NAME, false, &alternative_names(names)?),
        ],
    );
    let body = element(
        tag::SEQUENCE,
        &[
            &element(tag::explicit(0), &[&element(tag::INTEGER, &[&[2]])]),
            &element(tag::INTEGER, &[&serial()?]),
            &algorithm,
            &subject,
            &element(tag::SEQUENCE, &[&time(begin), &time(end)]),
            &subject,
            &key.public,
            &element(tag::explicit(3), &[&extensions]),
        ],
    );
    let certificate = element(tag::SEQUENCE, &[&body, &algorithm, &bit_string(&key.sign(&body)?)]);
    Ok(Pair {
        certificate: pem::write("CERTIFICATE", &certificate).to_string(),
        key: Key(pem::write("PRIVATE KEY", &key.document)),
    })
}

/// A private key that was made here.
pub(super) struct PrivateKey {
    /// PKCS #8 (RFC 5958).
    document: Zeroizing<Vec<u8>>,
    /// `SubjectPublicKeyInfo`.
    public: Vec<u8>,
    signing: Arc<dyn SigningKey>,
}

impl PrivateKey {
    pub(super) fn generate() -> Result<Self, TlsError> {
        let mut scalar = Zeroizing::new([0; 32]);
        // A scalar above the order of the group is refused; that happens once in 2^32 draws.
        for _ in 0..4 {
            provider().secure_random.fill(&mut *scalar).map_err(|_| TlsError::Random)?;
            let Some((signing, public)) = load(&document(&scalar, &[])) else { continue };
            // The uncompressed point ends the public key.
            let point = public.last_chunk::<65>().ok_or(TlsError::Random)?;
            let named = element(tag::explicit(1), &[&bit_string(point)]);
            return Ok(Self { document: document(&scalar, &named), public, signing });
        }
        Err(TlsError::Random)
    }

    /// An ECDSA signature with SHA-256 in DER.
    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TlsError> {
        let signer = self.signing.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]);
        signer.and_then(|signer| signer.sign(message).ok()).ok_or(TlsError::Random)
    }
}

/// RFC 5958, section 2, around RFC 5915, section 3.
fn document(scalar: &[u8; 32], public: &[u8]) -> Zeroizing<Vec<u8>> {
    let octets = Zeroizing::new(element(tag::OCTET_STRING, &[scalar]));
    let inner = Zeroizing::new(element(tag::SEQUENCE, &[&element(tag::INTEGER, &[&[1]]), &octets, public]));
    let wrapped = Zeroizing::new(element(tag::OCTET_STRING, &[&inner]));
    let algorithm = element(tag::SEQUENCE, &[&oid(EC_PUBLIC_KEY), &oid(SECP256R1)]);
    Zeroizing::new(element(tag::SEQUENCE, &[&element(tag::INTEGER, &[&[0]]), &algorithm, &wrapped]))
}

fn load(document: &[u8]) -> Option<(Arc<dyn SigningKey>, Vec<u8>)> {
    let key = PrivatePkcs8KeyDer::from(document.to_vec()).into();
    let signing = provider().key_provider.load_private_key(key).ok()?;
    let public = signing.public_key()?.as_ref().to_vec();
    Some((signing, public))
}

fn oid(content: &[u8]) -> Vec<u8> {
    element(tag::OID, &[content])
}

fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { element(tag::BOOLEAN, &[&[0xff]]) } else { Vec::new() };
    element(tag::SEQUENCE, &[&oid(id), &critical, &element(tag::OCTET_STRING, &[value])])
}

/// Positive, unpredictable and of 16 bytes (RFC 5280, section 4.1.2.2).
fn serial() -> Result<[u8; 16], TlsError> {
    let mut serial = [0; 16];
    provider().secure_random.fill(&mut serial).map_err(|_| TlsError::Random)?;
    let [first, ..] = &mut serial;
    *first = *first & 0x3f | 0x40;
    Ok(serial)
}

/// RFC 5280, section 4.1.2.5.
fn time(time: WallTime) -> Vec<u8> {
    let civil = time.civil();
    let digits: String = civil.to_string().chars().filter(char::is_ascii_digit).take(14).collect();
    match digits.get(2..) {
        Some(short) if civil.year < 2050 => element(tag::UTC_TIME, &[short.as_bytes(), b"Z"]),
        _ => element(tag::GENERALIZED_TIME, &[digits.as_bytes(), b"Z"]),
    }
}

fn alternative_names(names: &[&str]) -> Result<Vec<u8>, TlsError> {
    if names.len() > TLS_CERTIFICATE_NAMES_MAX_COUNT {
        return Err(TlsError::BadName);
    }
    let mut written: Vec<Vec<u8>> = Vec::new();
    for name in STANDARD_NAMES.iter().chain(names) {
        let entry = match name.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => element(tag::context(7), &[&address.octets()]),
            Ok(IpAddr::V6(address)) => element(tag::context(7), &[&address.octets()]),
            Err(_) if is_host(name) => element(tag::context(2), &[name.to_ascii_lowercase().as_bytes()]),
            Err(_) => return Err(TlsError::BadName),
        };
        if !written.contains(&entry) {
            written.push(entry);
        }
    }
    let parts: Vec<&[u8]> = written.iter().map(Vec::as_slice).collect();
    Ok(element(tag::SEQUENCE, &parts))
}

/// A host name, perhaps with `*` as its first label.
fn is_host(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= IDENTITY_DNS_MAX_BYTES && name.strip_prefix("*.").unwrap_or(name).split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Material;

    #[test]
    fn a_made_pair_is_read_with_its_names_and_validity() {
        let now = WallTime::now();
        let pair = make(&["Db.example", "*.dev.example", "10.1.2.3", "localhost"], 90, now).unwrap();
        let material =
            Material::read(pair.certificate.as_bytes(), pair.key.as_pem().as_bytes(), None).unwrap();
        let facts = material.facts();
        assert_eq!(facts.dns_names().collect::<Vec<_>>(), ["localhost", "db.example", "*.dev.example"]);
        let addresses: Vec<String> = facts.addresses().map(|address| address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1", "::1", "10.1.2.3"]);
        assert_eq!(facts.not_after.as_secs(), now.as_secs() + 90 * 86_400);
        assert!(facts.holds_at(now));
        let text = format!("{pair:?}");
        assert!(!text.contains("PRIVATE"), "{text}");
    }

    #[test]
    fn two_pairs_have_nothing_in_common() {
        let (one, other) = (make(&[], 30, WallTime::now()).unwrap(), make(&[], 30, WallTime::now()).unwrap());
        assert_ne!(one.key.as_pem(), other.key.as_pem());
        let mixed = Material::read(one.certificate.as_bytes(), other.key.as_pem().as_bytes(), None);
        assert_eq!(mixed.err(), Some(TlsError::KeyMismatch));
    }

    #[test]
    fn names_and_validities_out_of_bounds_are_refused() {
        let now = WallTime::now();
        for days in [0, 29, 826, u32::MAX] {
            assert_eq!(make(&[], days, now).err(), Some(TlsError::BadValidity), "{days}");
        }
        for name in ["", "a..b", "a b", "*", "a.*.b", "exämple", "x\0", &"a".repeat(64)] {
            assert_eq!(make(&[name], 30, now).err(), Some(TlsError::BadName), "{name}");
        }
    }

    #[test]
    fn both_forms_of_time_are_written() {
        assert_eq!(time(WallTime::from_millis(0)), [&[0x17, 13][..], b"700101000000Z"].concat());
        let late = WallTime::parse_rfc3339(b"2050-01-02T03:04:05Z").unwrap();
        assert_eq!(time(late), [&[0x18, 15][..], b"20500102030405Z"].concat());
    }
}
