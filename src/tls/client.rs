//! A blocking TLS client, for commands that ask a server.
//!
//! Owns [`Trust`] and [`connect`]. Invariants: the server proves that it has the key of its certificate, whoever is trusted; there is
//! no list of authorities but what the caller gives, none of the system's; TLS 1.3 is spoken, or 1.2 with the suites of the server's side.

use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore,
    SignatureScheme, StreamOwned,
};

use crate::tls::TlsError;
use crate::tls::material::{Authorities, private_key};
use crate::tls::provider::provider;

/// Whom a client takes for the server.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Whoever has a certificate of one of these authorities for the name that is asked, or one of these certificates if it
    /// signs itself.
    Authorities(Authorities),
    /// Whoever has the key of exactly this certificate, whatever its name and end.
    Pinned(Vec<Authorities>),
    /// Anybody: for a look whether there is a server at all.
    Anybody,
}

/// A stream through TLS.
pub type Tunnel<S> = StreamOwned<ClientConnection, S>;

/// Whom this side trusts and what it shows of itself, for a peer that is asked again and again.
#[derive(Debug)]
pub struct Outgoing(Arc<ClientConfig>);

impl Outgoing {
    /// One that trusts `authorities`, and shows a certificate with its key, both PEM, if it is given one.
    ///
    /// # Errors
    /// [`TlsError`]: a certificate or a key that is none, or not one of the other.
    pub fn new(authorities: &Authorities, own: Option<(&[u8], &[u8])>) -> Result<Self, TlsError> {
        let failed = |error: Error| TlsError::Library(error.to_string());
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_safe_default_protocol_versions().map_err(failed)?;
        let mut roots = RootCertStore::empty();
        for certificate in authorities.certificates() {
            roots.add(certificate.clone()).map_err(|_| TlsError::BadCertificate)?;
        }
        let builder = builder.with_root_certificates(roots);
        let config = match own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = Authorities::read(chain)?.certificates().to_vec();
                builder.with_client_auth_cert(chain, private_key(key)?).map_err(failed)?
            }
        };
        Ok(Self(Arc::new(config)))
    }

    /// Shakes hands over `stream` with the server that is called `host`.
    ///
    /// # Errors
    /// As for [`connect`].
    pub fn connect<S: Read + Write>(&self, stream: S, host: &str) -> io::Result<Tunnel<S>> {
        shake(Arc::clone(&self.0), stream, host)
    }
}

/// Shakes hands over `stream` with the server that is called `host`.
///
/// # Errors
/// What the stream says, and a server that is not trusted (`InvalidData`, its text says why).
pub fn connect<S: Read + Write>(stream: S, host: &str, trust: &Trust) -> io::Result<Tunnel<S>> {
    let config = config(trust).map_err(io::Error::other)?;
    shake(Arc::new(config), stream, host)
}

fn shake<S: Read + Write>(config: Arc<ClientConfig>, mut stream: S, host: &str) -> io::Result<Tunnel<S>> {
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(config, name).map_err(io::Error::other)?;
    while tls.is_handshaking() {
        tls.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(tls, stream))
}

fn config(trust: &Trust) -> Result<ClientConfig, TlsError> {
    let failed = |error: Error| TlsError::Library(error.to_string());
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(failed)?;
    let pinned = match trust {
        Trust::Authorities(authorities) => {
            let mut roots = RootCertStore::empty();
            for certificate in authorities.certificates() {
                roots.add(certificate.clone()).map_err(|_| TlsError::BadCertificate)?;
            }
            return Ok(builder.with_root_certificates(roots).with_no_client_auth());
        }
        // The server's own is the first of its chain.
        Trust::Pinned(chains) => {
            Some(chains.iter().filter_map(|chain| chain.certificates().first().cloned()).collect())
        }
        Trust::Anybody => None,
    };
    let verifier = Arc::new(Pin { pinned, provider: provider() });
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Compares certificates, and nothing but the handshake's signature is verified.
#[derive(Debug)]
struct Pin {
    /// Those that are trusted; none: any.
    pinned: Option<Vec<CertificateDer<'static>>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match &self.pinned {
            Some(pinned) if !pinned.iter().any(|known| known == own) => {
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
