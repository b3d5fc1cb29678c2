//! Who asks, once that is known, and what has to be remembered of it between head, body and reply.
//!
//! Owns [`Principal`] and [`TokenTerms`]. Invariant: a principal says who it is and by what it was recognised; what
//! it may do is looked up anew in each snapshot, so that a revocation holds for requests that have begun.

use core::fmt;
use std::sync::Arc;

use crate::clock::WallTime;
use crate::model::{Grants, Identity};

/// The public part of an API key: eight lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKeyId([u8; Self::LEN]);

impl ApiKeyId {
    /// Length of the text form in bytes.
    pub const LEN: usize = 8;

    /// The identifier of this text.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: [u8; Self::LEN] = text.try_into().ok()?;
        text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(Self(text))
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Checked when it was made: it is ASCII.
        str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The bytes of the text form.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl fmt::Display for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for ApiKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Somebody who was recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The API key, or the one that the token is of.
    pub key: ApiKeyId,
    /// Which of its secrets was used; the present one if it was none, but an identity.
    pub generation: u32,
    /// What the token says, if it was one.
    pub token: Option<Arc<TokenTerms>>,
    /// The identity of the peer by which it was recognised, if the request brought no credential.
    pub identity: Option<Identity>,
}

impl Principal {
    /// The public identifier of the API key.
    #[must_use]
    pub fn id(&self) -> &str {
        self.key.as_str()
    }

    /// The identifier of the token, if it was one.
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        self.token.as_ref().map(|token| &*token.id)
    }

    /// The identity by which it was recognised, if it was one.
    #[must_use]
    pub fn identity(&self) -> Option<&str> {
        self.identity.as_ref().map(Identity::as_str)
    }
}

/// What a token narrows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTerms {
    /// Its identifier, `jti`.
    pub id: Box<str>,
    /// What it allows, as far as its API key does too.
    pub grants: Grants,
    /// Until when, without the leeway of whoever checks it.
    pub expires: WallTime,
}
