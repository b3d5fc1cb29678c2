//! What the keeper can be asked to change, whatever it is, and what became of it.
//!
//! Owns the union of the changes of keys and of API keys. Invariant: it adds to them only what the keeper itself can
//! answer; what a change means is said where it is made.

use core::fmt;

use crate::auth;
use crate::keyring;
use crate::model::{ApiKeyId, KeyName};

/// A change that a handler or the schedule asks for; only the keeper carries one out.
#[derive(Debug)]
pub enum Change {
    /// Of a key.
    Key(keyring::Change),
    /// Of an API key.
    Caller(auth::Change),
}

impl Change {
    /// What it is called in audit lines.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Key(change) => change.name(),
            Self::Caller(change) => change.name(),
        }
    }

    /// Whether it makes nothing new, so that what it forbids may hold before it is known to be durable.
    #[must_use]
    pub const fn is_bare(&self) -> bool {
        use keyring::Change as Of;
        match self {
            Self::Key(change) => {
                matches!(
                    change,
                    Of::Configure { .. }
                        | Of::Delete { .. }
                        | Of::Destroy { .. }
                        | Of::Trim { .. }
                        | Of::Purge { .. }
                )
            }
            Self::Caller(change) => change.is_bare(),
        }
    }

    /// What is changed.
    #[must_use]
    pub fn target(&self) -> Target {
        match self {
            Self::Key(change) => Target::Key(change.key().clone()),
            Self::Caller(change) => Target::Caller(change.id()),
        }
    }
}

impl From<keyring::Change> for Change {
    fn from(change: keyring::Change) -> Self {
        Self::Key(change)
    }
}

impl From<auth::Change> for Change {
    fn from(change: auth::Change) -> Self {
        Self::Caller(change)
    }
}

/// What a change is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A key.
    Key(KeyName),
    /// An API key.
    Caller(ApiKeyId),
}

impl Target {
    /// The name of the key, if it is one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Key(name) => Some(name.as_str()),
            Self::Caller(_) => None,
        }
    }

    /// The identifier of the API key, if it is one.
    #[must_use]
    pub fn api_key(&self) -> Option<&str> {
        match self {
            Self::Key(_) => None,
            Self::Caller(id) => Some(id.as_str()),
        }
    }
}

/// What a change has led to.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Of a key.
    Key(keyring::Outcome),
    /// Of an API key.
    Caller(auth::Outcome),
}

impl Outcome {
    /// Whether anything is another than before.
    #[must_use]
    pub fn changed(&self) -> bool {
        match self {
            Self::Key(outcome) => outcome.changed(),
            Self::Caller(outcome) => outcome.changed(),
        }
    }

    /// Whether the snapshot is another than before, and not only a figure in it.
    #[must_use]
    pub fn is_published(&self) -> bool {
        use keyring::Effect;
        match self {
            Self::Key(outcome) => matches!(outcome.effect, Effect::Put | Effect::Removed),
            Self::Caller(outcome) => outcome.changed(),
        }
    }

    /// Whether something is forbidden now that was allowed before: then it is answered only when no worker can still
    /// act on what was.
    #[must_use]
    pub const fn restricts(&self) -> bool {
        match self {
            Self::Key(outcome) => outcome.restricts,
            Self::Caller(outcome) => outcome.restricts,
        }
    }

    /// The latest version of the key, if it is one.
    #[must_use]
    pub fn version(&self) -> Option<u32> {
        match self {
            Self::Key(outcome) => Some(outcome.key.latest_number()),
            Self::Caller(_) => None,
        }
    }

    /// What was changed.
    #[must_use]
    pub fn target(&self) -> Target {
        match self {
            Self::Key(outcome) => Target::Key(outcome.key.name().clone()),
            Self::Caller(outcome) => Target::Caller(outcome.key.id),
        }
    }
}

impl From<keyring::Outcome> for Outcome {
    fn from(outcome: keyring::Outcome) -> Self {
        Self::Key(outcome)
    }
}

impl From<auth::Outcome> for Outcome {
    fn from(outcome: auth::Outcome) -> Self {
        Self::Caller(outcome)
    }
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// The state of the keys does not allow it.
    Key(keyring::ChangeError),
    /// The state of the API keys does not allow it.
    Caller(auth::ChangeError),
    /// The keeper cannot take the change now.
    Unavailable,
    /// The store could not write the change down; nothing of it was kept.
    StoreFailed,
    /// The store has no room for the change; nothing of it was kept.
    StoreFull,
    /// The store takes no changes until the server is started again.
    StoreRefuses,
    /// Whether the change outlives a restart is not known.
    Ambiguous,
}

impl From<keyring::ChangeError> for ChangeError {
    fn from(error: keyring::ChangeError) -> Self {
        Self::Key(error)
    }
}

impl From<auth::ChangeError> for ChangeError {
    fn from(error: auth::ChangeError) -> Self {
        Self::Caller(error)
    }
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Key(error) => return error.fmt(f),
            Self::Caller(error) => return error.fmt(f),
            Self::Unavailable => "the change cannot be made now",
            Self::StoreFailed => "the store could not write the change down",
            Self::StoreFull => "the store has no room for the change",
            Self::StoreRefuses => "the store takes no changes until a restart",
            Self::Ambiguous => "whether the change outlives a restart is not known",
        })
    }
}

impl std::error::Error for ChangeError {}
