//! A blocking TLS client, for commands that ask a server.
//!
//! Owns [`Trust`], [`connect`] and the two halves of a tunnel. Invariants: the server proves that it has the key of its certificate, whoever is trusted; there is
//! no list of authorities but what the caller gives, none of the system's; TLS 1.3 is spoken, or 1.2 with the suites of the server's side.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, ConfigBuilder, DigitallySignedStruct, Error,
    RootCertStore, SignatureScheme, StreamOwned,
};

use crate::limits::CLIENT_PIECE_MAX_BYTES;
use crate::tls::TlsError;
use crate::tls::material::{Authorities, Material};
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
    /// One that trusts `trust`, and shows `own` if it is asked for a certificate.
    ///
    /// # Errors
    /// [`TlsError`]: an authority that is none.
    pub fn new(trust: &Trust, own: Option<&Material>) -> Result<Self, TlsError> {
        config(trust, own).map(Arc::new).map(Self)
    }

    /// Shakes hands over `stream` with the server that is called `host`.
    ///
    /// # Errors
    /// As for [`connect`].
    pub fn connect<S: Read + Write>(&self, mut stream: S, host: &str) -> io::Result<Tunnel<S>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut tls = ClientConnection::new(Arc::clone(&self.0), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(StreamOwned::new(tls, stream))
    }
}

/// Shakes hands over `stream` with the server that is called `host`, which is shown `own` if it asks for a certificate.
///
/// # Errors
/// What the stream says, and a server that is not trusted (`InvalidData`, its text says why).
pub fn connect<S: Read + Write>(
    stream: S,
    host: &str,
    trust: &Trust,
    own: Option<&Material>,
) -> io::Result<Tunnel<S>> {
    Outgoing::new(trust, own).map_err(io::Error::other)?.connect(stream, host)
}

fn config(trust: &Trust, own: Option<&Material>) -> Result<ClientConfig, TlsError> {
    let failed = |error: Error| TlsError::Library(error.to_string());
    let builder = ClientConfig::builder_with_provider(provider());
    let builder = builder.with_safe_default_protocol_versions().map_err(failed)?;
    let pinned = match trust {
        Trust::Authorities(authorities) => {
            let mut roots = RootCertStore::empty();
            for certificate in authorities.certificates() {
                roots.add(certificate.clone()).map_err(|_| TlsError::BadCertificate)?;
            }
            return Ok(shown(builder.with_root_certificates(roots), own));
        }
        // The server's own is the first of its chain.
        Trust::Pinned(chains) => {
            Some(chains.iter().filter_map(|chain| chain.certificates().first().cloned()).collect())
        }
        Trust::Anybody => None,
    };
    let verifier = Arc::new(Pin { pinned, provider: provider() });
    Ok(shown(builder.dangerous().with_custom_certificate_verifier(verifier), own))
}

fn shown(builder: ConfigBuilder<ClientConfig, WantsClientCert>, own: Option<&Material>) -> ClientConfig {
    match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let resolver = SingleCertAndKey::from(Arc::clone(own.certified()));
            builder.with_client_cert_resolver(Arc::new(resolver))
        }
    }
}

/// Takes a tunnel apart, so that one thread reads while another writes; `socket` leads to the same peer.
///
/// Only the writer sends. What the library wants to send for what was read, as an update of keys, leaves with the next write.
pub fn split<S: Read + Write>(tunnel: Tunnel<S>, socket: S) -> (TunnelReader<S>, TunnelWriter<S>) {
    let (tls, own) = tunnel.into_parts();
    let tls = Arc::new(Mutex::new(tls));
    let writer = TunnelWriter { tls: Arc::clone(&tls), socket, records: Vec::new() };
    let raw = vec![0; CLIENT_PIECE_MAX_BYTES];
    (TunnelReader { tls, socket: own, raw, next: 0, end: 0 }, writer)
}

/// The half of a tunnel that is read.
#[derive(Debug)]
pub struct TunnelReader<S> {
    tls: Arc<Mutex<ClientConnection>>,
    socket: S,
    raw: Vec<u8>,
    /// What of it the library has not taken.
    next: usize,
    end: usize,
}

/// The half of a tunnel that is written.
#[derive(Debug)]
pub struct TunnelWriter<S> {
    tls: Arc<Mutex<ClientConnection>>,
    socket: S,
    records: Vec<u8>,
}

impl<S: Read> Read for TunnelReader<S> {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        loop {
            // The lock is never held while the socket is waited for.
            let mut tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
            match tls.reader().read(target) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            if self.next == self.end {
                drop(tls);
                (self.next, self.end) = (0, self.socket.read(&mut self.raw)?);
                tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
            }
            let mut raw = self.raw.get(self.next..self.end).unwrap_or_default();
            let taken = tls.read_tls(&mut raw)?;
            self.next += taken;
            tls.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }
}

impl<S: Write> Write for TunnelWriter<S> {
    fn write(&mut self, source: &[u8]) -> io::Result<usize> {
        let mut tls = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = tls.writer().write(source)?;
        while tls.wants_write() {
            tls.write_tls(&mut self.records)?;
        }
        drop(tls);
        self.socket.write_all(&self.records)?;
        self.records.clear();
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
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
