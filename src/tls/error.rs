//! What can be wrong with certificates, keys and the configuration made of them.
//!
//! Owns [`TlsError`]. Invariant: no text holds a byte of a key; each says what to do.

use core::fmt;

use crate::limits::{
    DEVELOPMENT_CERTIFICATE_CEILING_DAYS, DEVELOPMENT_CERTIFICATE_FLOOR_DAYS, TLS_CHAIN_MAX_COUNT,
    TLS_CLIENT_AUTHORITIES_MAX_COUNT, TLS_CLIENT_REVOCATIONS_MAX_COUNT, TLS_FILE_MAX_BYTES,
    TLS_OCSP_MAX_BYTES, TLS_PAIRS_MAX_COUNT,
};

/// Why a TLS configuration cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsError {
    /// A file is larger than any honest one.
    TooLarge,
    /// There is no PEM block where there should be one, or one is broken.
    NotPem,
    /// The file holds no certificate.
    NoCertificate,
    /// The chain is longer than what clients take.
    ChainTooLong,
    /// A certificate cannot be read.
    BadCertificate,
    /// The file holds no private key.
    NoKey,
    /// The file holds more than one private key.
    ManyKeys,
    /// The private key is encrypted.
    EncryptedKey,
    /// The private key cannot be read, or is of a kind that is not supported.
    BadKey,
    /// The private key belongs to another certificate.
    KeyMismatch,
    /// The OCSP reply is not one, or too large.
    BadOcsp,
    /// No certificate was given.
    NoPair,
    /// More certificates than a server keeps.
    ManyPairs,
    /// More authorities for client certificates than a server keeps.
    ManyAuthorities,
    /// Client certificates are asked for, and no authority is given that signs them.
    NoAuthority,
    /// A list of revoked certificates cannot be read.
    BadRevocations,
    /// A list of revoked certificates has ended: there must be a newer one.
    OldRevocations,
    /// A list of revoked certificates was made before the one that is in force.
    OlderRevocations,
    /// More lists of revoked certificates than a server keeps.
    ManyRevocations,
    /// The generator of random bytes failed.
    Random,
    /// A name for a development certificate that is neither a host name nor an address.
    BadName,
    /// The validity of a development certificate is out of bounds.
    BadValidity,
    /// The library refused the configuration.
    Library(String),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => {
                write!(f, "the file is longer than {TLS_FILE_MAX_BYTES} bytes: give one with this server's certificates only")
            }
            Self::NotPem => f.write_str(
                "the file is not PEM: it needs `-----BEGIN …-----` and `-----END …-----` around base64 (convert DER with `openssl x509 -inform der` or `openssl pkey -inform der`)",
            ),
            Self::NoCertificate => f.write_str(
                "the file holds no `CERTIFICATE` block: give the chain, the server's own certificate first",
            ),
            Self::ChainTooLong => {
                write!(f, "the chain is longer than {TLS_CHAIN_MAX_COUNT} certificates: give the server's own and the intermediate ones only")
            }
            Self::BadCertificate => f.write_str(
                "a certificate cannot be read: give X.509 version 3 certificates (see `openssl x509 -text`)",
            ),
            Self::NoKey => f.write_str(
                "the file holds no private key: it needs a `PRIVATE KEY`, `EC PRIVATE KEY` or `RSA PRIVATE KEY` block",
            ),
            Self::ManyKeys => f.write_str("the file holds more than one private key: give one for each certificate"),
            Self::EncryptedKey => f.write_str(
                "the private key is encrypted: decrypt it (`openssl pkey -in FILE`) and protect the file by its mode",
            ),
            Self::BadKey => f.write_str(
                "the private key cannot be used: give RSA of 2048 bits or more, ECDSA on P-256, P-384 or P-521, or Ed25519",
            ),
            Self::KeyMismatch => f.write_str(
                "the private key belongs to another certificate: give certificates and keys in the same order, the server's own certificate first in its file",
            ),
            Self::BadOcsp => {
                write!(f, "the OCSP file is no DER-encoded successful reply of at most {TLS_OCSP_MAX_BYTES} bytes: fetch it with `openssl ocsp -respout`")
            }
            Self::NoPair => f.write_str("TLS needs a certificate and its key: give --tls-cert and --tls-key"),
            Self::ManyPairs => write!(f, "there are more than {TLS_PAIRS_MAX_COUNT} certificates: give fewer"),
            Self::ManyAuthorities => {
                write!(f, "there are more than {TLS_CLIENT_AUTHORITIES_MAX_COUNT} client authorities: give those that sign your clients only")
            }
            Self::NoAuthority => f.write_str(
                "client certificates are asked for, and the authority file holds no certificate that could sign them: give --tls-client-ca",
            ),
            Self::BadRevocations => f.write_str(
                "the file holds no list of revoked certificates that can be read: give an X.509 version 2 CRL with a next update, in PEM (`X509 CRL`) or DER (see `openssl crl -text`)",
            ),
            Self::OldRevocations => f.write_str(
                "the list of revoked certificates has ended: fetch the authority's newest one (`openssl crl -nextupdate` says how long it holds)",
            ),
            Self::OlderRevocations => f.write_str(
                "the list of revoked certificates was made before the one in force, whose revocations it may lack: give the authority's newest one (`openssl crl -lastupdate`)",
            ),
            Self::ManyRevocations => {
                write!(f, "there are more than {TLS_CLIENT_REVOCATIONS_MAX_COUNT} lists of revoked certificates: give one for each authority that signs your clients")
            }
            Self::Random => f.write_str("the generator of random bytes failed: nothing secret can be made"),
            Self::BadName => f.write_str("a name is neither a host name nor an IP address: give names like `db.example.net` or `10.0.0.1`"),
            Self::BadValidity => write!(
                f,
                "the validity must be {DEVELOPMENT_CERTIFICATE_FLOOR_DAYS} to {DEVELOPMENT_CERTIFICATE_CEILING_DAYS} days"
            ),
            Self::Library(text) => write!(f, "the TLS library refuses this configuration: {text}"),
        }
    }
}

impl std::error::Error for TlsError {}
