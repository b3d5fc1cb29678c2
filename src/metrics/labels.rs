//! The values that labels can have.
//!
//! Owns one closed set for each. Invariant: a value stands in its set or it is told as `other`, so that the number of lines
//! is known when the program is written.

/// Declares a set once: its members, their names, and where each stands.
macro_rules! closed {
    ($(#[$doc:meta])* $set:ident { $($(#[$of:meta])* $name:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $set {
            $($(#[$of])* $name,)*
        }

        impl $set {
            /// Every member.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

closed! {
    /// How the bytes of a connection come.
    Transport {
        /// TCP in the clear.
        Tcp = "tcp",
        /// TLS over TCP.
        Tls = "tls",
        /// A socket of this machine.
        Unix = "unix",
    }
}

closed! {
    /// Why a connection got no place.
    Refusal {
        /// All places are taken.
        Full = "full",
        /// Its address has as many as it may have.
        Address = "address",
        /// There are as many handshakes as there may be.
        Handshakes = "handshakes",
        /// Its address has as many handshakes as it may have.
        AddressHandshakes = "address_handshakes",
        /// The system had no descriptor or no memory for it.
        Exhausted = "exhausted",
    }
}

closed! {
    /// By what somebody was limited.
    Limited {
        /// The rate of an API key.
        Key = "key",
        /// That of an address.
        Address = "address",
    }
}

closed! {
    /// Why somebody was not let in: the codes of audit lines.
    AuthFailure {
        /// No credential.
        Missing = "credential_missing",
        /// Two credentials.
        Repeated = "credential_repeated",
        /// None that could ever be valid.
        Malformed = "credential_malformed",
        /// That of no API key.
        Unknown = "credential_unknown",
        /// With a wrong secret.
        Wrong = "credential_wrong",
        /// That of an API key that has expired.
        Expired = "credential_expired",
        /// That of an API key, or of a generation of it, that was taken away.
        Revoked = "credential_revoked",
        /// From an address from which it is not valid.
        Source = "source_not_allowed",
        /// By an identity that two API keys have.
        Ambiguous = "identity_ambiguous",
        /// By an identity that was taken away.
        TakenAway = "identity_taken_away",
        /// A token of another kind, or malformed.
        Token = "token_invalid",
        /// A token with a wrong signature.
        TokenSignature = "token_signature",
        /// A token whose time is over, or has not come.
        TokenExpired = "token_expired",
        /// Its scopes do not allow it.
        Scope = "insufficient_scope",
        /// Something else.
        Other = "other",
    }
}

impl AuthFailure {
    /// The one of an audit line's code.
    #[must_use]
    pub fn of_code(code: &str) -> Self {
        let own = Self::ALL.iter().copied().find(|failure| failure.name() == code);
        own.unwrap_or(match code {
            "token_lifetime" | "token_not_yet" => Self::TokenExpired,
            code if code.starts_with("token_") => Self::Token,
            _ => Self::Other,
        })
    }
}

closed! {
    /// A version of TLS.
    TlsVersion {
        /// 1.3
        Tls13 = "1.3",
        /// 1.2
        Tls12 = "1.2",
    }
}

closed! {
    /// What the secret of a session was agreed with.
    TlsGroup {
        /// X25519 and ML-KEM-768 together.
        Hybrid = "X25519MLKEM768",
        /// X25519
        X25519 = "X25519",
        /// NIST P-256
        P256 = "secp256r1",
        /// NIST P-384
        P384 = "secp384r1",
        /// Another, or none.
        Other = "other",
    }
}

closed! {
    /// Why a handshake came to nothing.
    HandshakeFailure {
        /// The peer speaks in the clear.
        Clear = "clear_text",
        /// The peer has refused, by an alert.
        Alert = "alert",
        /// Nothing that both speak: a version, a suite, a group, a signature.
        Incompatible = "incompatible",
        /// The client's certificate is missing or not valid.
        Certificate = "certificate",
        /// What came is no TLS, or breaks its rules.
        Malformed = "malformed",
        /// It was not finished in time, or the peer left, or it gave way to others.
        Abandoned = "abandoned",
        /// Something else.
        Other = "other",
    }
}

/// The route of what matches none.
pub const UNMATCHED: &str = "unmatched";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_one_of_the_set() {
        for failure in AuthFailure::ALL {
            assert_eq!(AuthFailure::of_code(failure.name()), *failure);
        }
        for (code, failure) in [
            ("token_alg", AuthFailure::Token),
            ("token_not_yet", AuthFailure::TokenExpired),
            ("rate_limited", AuthFailure::Other),
            ("", AuthFailure::Other),
        ] {
            assert_eq!(AuthFailure::of_code(code), failure, "{code}");
        }
    }

    #[test]
    fn a_member_stands_where_its_number_says() {
        for (place, reason) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place);
        }
    }
}
