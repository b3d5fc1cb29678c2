//! What a server offers and what it demands.
//!
//! Owns [`build`] and the choice of a certificate by the name that the client asks for (RFC 6066, section 3). Invariants:
//! TLS 1.3 always, TLS 1.2 only if asked for; `http/1.1` is the only protocol, and a client that names others only is refused (RFC
//! 7301, section 3.2); no early data and no data before the client's `Finished`; tickets are sealed and not stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, VerifierBuilderError,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use crate::limits::{TLS_PAIRS_MAX_COUNT, TLS_TICKETS_COUNT};
use crate::tls::TlsError;
use crate::tls::material::{Authorities, Material};
use crate::tls::provider::provider;
use crate::tls::revocation::Revocations;

/// The oldest version that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.3 only.
    #[default]
    Tls13,
    /// TLS 1.2 too, for clients that cannot be changed.
    Tls12,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    Off,
    /// They are asked; one that is shown must be good.
    Optional,
    /// No good certificate, no connection.
    Required,
}

/// What of a configuration does not come from files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
}

/// What of a configuration comes from files.
#[derive(Clone, Debug, Default)]
pub struct Materials {
    /// The certificates with their keys. The first is for clients that name nothing that another one has.
    pub pairs: Vec<Material>,
    /// Who may sign client certificates.
    pub authorities: Option<Authorities>,
}

/// Makes the configuration of a server.
///
/// # Errors
/// What cannot be joined.
pub fn build(
    materials: &Materials,
    options: &Options,
    tickets: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let failed = |error: rustls::Error| TlsError::Library(error.to_string());
    let resolver = Resolver::new(&materials.pairs)?;
    let versions: &[_] = match options.min_version {
        MinVersion::Tls13 => &[&rustls::version::TLS13],
        MinVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
    };
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).map_err(failed)?;
    let builder = if options.client_auth == ClientAuth::Off {
        builder.with_no_client_auth()
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in materials.authorities.as_ref().map(Authorities::certificates).unwrap_or_default() {
            roots.add(certificate.clone()).map_err(|_| TlsError::BadCertificate)?;
        }
        if roots.is_empty() {
            return Err(TlsError::NoAuthority);
        }
        // Without a list nothing is asked of revocation; with one, of every certificate of a chain. A list that ends while it is in
        // force is not taken for none.
        let revocations =
            materials.authorities.as_ref().map(Authorities::revocations).unwrap_or_default().iter();
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .with_crls(revocations.map(Revocations::list));
        let verifier = match options.client_auth {
            ClientAuth::Required => verifier,
            ClientAuth::Optional | ClientAuth::Off => verifier.allow_unauthenticated(),
        };
        let verifier = verifier.build().map_err(|error| match error {
            VerifierBuilderError::InvalidCrl(_) => TlsError::BadRevocations,
            error => TlsError::Library(error.to_string()),
        })?;
        builder.with_client_cert_verifier(verifier)
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = tickets;
    config.send_tls13_tickets = TLS_TICKETS_COUNT;
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    // Without it sessions of TLS 1.2 can be joined to one another (RFC 7627, section 1).
    config.require_ems = true;
    Ok(Arc::new(config))
}

/// Chooses by name: exactly, then by a wildcard for the first label, then the first of all; among several for one name, RSA and
/// ECDSA say, the first whose key signs in a way that the client knows.
#[derive(Debug)]
struct Resolver {
    all: Vec<Arc<CertifiedKey>>,
    /// By host name in lower case, `*` included.
    named: BTreeMap<String, Vec<Arc<CertifiedKey>>>,
}

impl Resolver {
    fn new(pairs: &[Material]) -> Result<Self, TlsError> {
        match pairs.len() {
            0 => return Err(TlsError::NoPair),
            1..=TLS_PAIRS_MAX_COUNT => {}
            _ => return Err(TlsError::ManyPairs),
        }
        let mut named: BTreeMap<String, Vec<Arc<CertifiedKey>>> = BTreeMap::new();
        for pair in pairs {
            for name in pair.facts().dns_names() {
                named.entry(name.to_ascii_lowercase()).or_default().push(Arc::clone(pair.certified()));
            }
        }
        Ok(Self { all: pairs.iter().map(|pair| Arc::clone(pair.certified())).collect(), named })
    }

    fn candidates(&self, name: &str) -> &[Arc<CertifiedKey>] {
        let name = name.to_ascii_lowercase();
        let wildcard = || {
            let (_, parent) = name.split_once('.')?;
            self.named.get(&format!("*.{parent}"))
        };
        self.named.get(&name).or_else(wildcard).unwrap_or(&self.all)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = hello.server_name().map_or(&*self.all, |name| self.candidates(name));
        let schemes = hello.signature_schemes();
        let signs = |certified: &&Arc<CertifiedKey>| certified.key.choose_scheme(schemes).is_some();
        candidates.iter().find(signs).or_else(|| candidates.first()).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::provider::ticketer;
    use crate::tls::tests::certificates::{Issued, authority};

    #[test]
    fn the_exact_name_goes_before_the_wildcard_and_that_before_the_first() {
        let ca = authority();
        let names: [&[&str]; 3] =
            [&["first.example"], &["*.wide.example"], &["One.wide.example", "two.example"]];
        let pairs: Vec<Material> = names.iter().map(|names| Issued::server(&ca, names).material()).collect();
        let resolver = Resolver::new(&pairs).unwrap();
        for (asked, expected) in [
            ("first.example", 0),
            ("a.wide.example", 1),
            ("one.wide.example", 2),
            ("ONE.wide.EXAMPLE", 2),
            ("a.b.wide.example", 0),
            ("wide.example", 0),
            ("two.example", 2),
            ("other.example", 0),
            ("localhost", 0),
        ] {
            let chosen = &resolver.candidates(asked)[0];
            assert!(Arc::ptr_eq(chosen, pairs[expected].certified()), "{asked}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let ca = authority();
        let pairs = vec![Issued::server(&ca, &["a.example"]).material()];
        let asked = Options { client_auth: ClientAuth::Optional, ..Options::default() };
        let make =
            |materials: &Materials, options: &Options| build(materials, options, ticketer().unwrap()).err();
        assert_eq!(make(&Materials::default(), &Options::default()), Some(TlsError::NoPair));
        let mut materials = Materials { pairs, authorities: None };
        assert_eq!(make(&materials, &Options::default()), None);
        assert_eq!(make(&materials, &asked), Some(TlsError::NoAuthority));
        materials.authorities = Some(Authorities::read(ca.certificate.pem().as_bytes()).unwrap());
        assert_eq!(make(&materials, &asked), None);
        let many = vec![materials.pairs[0].clone(); TLS_PAIRS_MAX_COUNT + 1];
        assert_eq!(make(&Materials { pairs: many, authorities: None }, &asked), Some(TlsError::ManyPairs));
    }
}
