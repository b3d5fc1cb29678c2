//! Why a token is refused.
//!
//! Owns [`TokenFault`] and its codes. Invariant: a code is for the audit log; a client learns only that its token is
//! not valid, whatever the reason.

use core::fmt;

/// The first reason that was found for which a token is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFault {
    /// It is longer than [`TOKEN_MAX_BYTES`](crate::limits::TOKEN_MAX_BYTES).
    Oversized,
    /// It is not of three parts in canonical base64url, or one is not JSON in which every member stands once.
    Malformed,
    /// `alg` is missing or another than `HS256`.
    Algorithm,
    /// `typ` is there and another than `JWT`.
    Type,
    /// The header has a member beside `alg` and `typ`.
    Header,
    /// A claim is missing or not of its form.
    Claims,
    /// The signature is another than that of the secret.
    Signature,
    /// It comes from another issuer.
    Issuer,
    /// It is meant for others.
    Audience,
    /// It ends before it begins, or lives too long.
    Lifetime,
    /// It was made, or begins, in the future.
    NotYet,
    /// It has ended.
    Expired,
}

impl TokenFault {
    /// Every reason, in the order in which they are looked for.
    pub const ALL: [Self; 12] = [
        Self::Oversized,
        Self::Malformed,
        Self::Algorithm,
        Self::Type,
        Self::Header,
        Self::Claims,
        Self::Signature,
        Self::Issuer,
        Self::Audience,
        Self::Lifetime,
        Self::NotYet,
        Self::Expired,
    ];

    /// The stable code for audit lines.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Oversized => "token_oversized",
            Self::Malformed => "token_malformed",
            Self::Algorithm => "token_alg",
            Self::Type => "token_typ",
            Self::Header => "token_header",
            Self::Claims => "token_claims",
            Self::Signature => "token_signature",
            Self::Issuer => "token_issuer",
            Self::Audience => "token_audience",
            Self::Lifetime => "token_lifetime",
            Self::NotYet => "token_not_yet",
            Self::Expired => "token_expired",
        }
    }
}

impl fmt::Display for TokenFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Oversized => "the token is too long",
            Self::Malformed => "the token is not of three parts of canonical base64url with strict JSON",
            Self::Algorithm => "the token's algorithm is not HS256",
            Self::Type => "the token's type is not JWT",
            Self::Header => "the token's header has a member beside alg and typ",
            Self::Claims => "a claim of the token is missing or not of its form",
            Self::Signature => "the token's signature does not match",
            Self::Issuer => "the token comes from another issuer",
            Self::Audience => "the token is meant for another audience",
            Self::Lifetime => "the token's lifetime is not allowed",
            Self::NotYet => "the token is not valid yet",
            Self::Expired => "the token has expired",
        })
    }
}

impl std::error::Error for TokenFault {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_code_of_its_own() {
        let mut codes = TokenFault::ALL.map(TokenFault::code).to_vec();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), TokenFault::ALL.len());
        assert!(codes.iter().all(|code| code.starts_with("token_")));
    }
}
