//! Who a peer is by what its transport proves: the names of its certificate, or the user of its process.
//!
//! Owns [`Identity`] and [`Identities`].

use core::fmt;

use crate::limits::PEER_IDENTITIES_MAX_COUNT;

/// One of the peer's names: `dns:`, `uri:`, `email:`, `unix-user:` or `unix-group:`, and what follows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity(Box<str>);

impl Identity {
    /// The identity of this text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let known = ["dns:", "uri:", "email:", "unix-user:", "unix-group:"];
        known.iter().any(|scheme| text.starts_with(scheme)).then(|| Self(text.into()))
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identities of one peer, at most [`PEER_IDENTITIES_MAX_COUNT`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identities(Box<[Identity]>);

impl Identities {
    /// Those of them that there is room for.
    #[must_use]
    pub fn new(identities: impl Iterator<Item = Identity>) -> Self {
        Self(identities.take(PEER_IDENTITIES_MAX_COUNT).collect())
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Identity> {
        self.0.iter()
    }
}
