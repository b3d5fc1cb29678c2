//! What a handshake came to, for those who count them.
//!
//! Owns [`Agreed`] and [`failure_of`]. Invariant: whatever the library says falls into one of a closed set.

use std::io;

use rustls::{Error, HandshakeKind, NamedGroup, ProtocolVersion, ServerConnection};

use crate::metrics::{HandshakeFailure, TlsGroup, TlsVersion};

/// What both sides have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The version.
    pub version: TlsVersion,
    /// With what the secret was made.
    pub group: TlsGroup,
    /// Whether an earlier session goes on.
    pub resumed: bool,
}

impl Agreed {
    /// What this session has agreed on, once its handshake is over.
    pub(super) fn of(tls: &ServerConnection) -> Self {
        let version = match tls.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::Tls12,
            _ => TlsVersion::Tls13,
        };
        let group = match tls.negotiated_key_exchange_group().map(rustls::crypto::SupportedKxGroup::name) {
            Some(NamedGroup::X25519MLKEM768) => TlsGroup::Hybrid,
            Some(NamedGroup::X25519) => TlsGroup::X25519,
            Some(NamedGroup::secp256r1) => TlsGroup::P256,
            Some(NamedGroup::secp384r1) => TlsGroup::P384,
            _ => TlsGroup::Other,
        };
        Self { version, group, resumed: tls.handshake_kind() == Some(HandshakeKind::Resumed) }
    }
}

/// Why a handshake came to nothing that ended with this error.
#[must_use]
pub fn failure_of(error: &io::Error) -> HandshakeFailure {
    let Some(own) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return match error.kind() {
            io::ErrorKind::InvalidData => HandshakeFailure::Malformed,
            io::ErrorKind::OutOfMemory => HandshakeFailure::Other,
            _ => HandshakeFailure::Abandoned,
        };
    };
    match own {
        Error::AlertReceived(_) => HandshakeFailure::Alert,
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => HandshakeFailure::Incompatible,
        Error::InvalidCertificate(_)
        | Error::NoCertificatesPresented
        | Error::UnsupportedNameType
        | Error::InvalidCertRevocationList(_) => HandshakeFailure::Certificate,
        Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::InvalidMessage(_)
        | Error::PeerMisbehaved(_)
        | Error::PeerSentOversizedRecord
        | Error::DecryptError => HandshakeFailure::Malformed,
        _ => HandshakeFailure::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_by_its_kind() {
        let of = |error: Error| failure_of(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert_eq!(of(Error::NoCertificatesPresented), HandshakeFailure::Certificate);
        assert_eq!(
            of(Error::AlertReceived(rustls::AlertDescription::BadCertificate)),
            HandshakeFailure::Alert
        );
        assert_eq!(of(Error::NoApplicationProtocol), HandshakeFailure::Incompatible);
        assert_eq!(of(Error::DecryptError), HandshakeFailure::Malformed);
        assert_eq!(of(Error::FailedToGetCurrentTime), HandshakeFailure::Other);
        for (kind, failure) in [
            (io::ErrorKind::ConnectionReset, HandshakeFailure::Abandoned),
            (io::ErrorKind::UnexpectedEof, HandshakeFailure::Abandoned),
            (io::ErrorKind::InvalidData, HandshakeFailure::Malformed),
        ] {
            assert_eq!(failure_of(&kind.into()), failure);
        }
    }
}
