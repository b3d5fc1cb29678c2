//! An API key as replies show it.
//!
//! Owns [`KeyForm`]. Invariant: no secret, but in the one reply to its making.

use serde::{Serialize, Serializer};

use crate::api::keys::form::Timestamp;
use crate::api::{Answer, reply_json};
use crate::auth::ApiKey;
use crate::clock::WallTime;
use crate::http::responder::Responder;
use crate::http::status::Status;
use crate::model::{Grants, Identity};
use crate::network::Network;
use crate::quota::Rate;

/// Scopes as a list of texts.
pub(in crate::api) struct ScopeList<'a>(pub(in crate::api) &'a Grants);

impl Serialize for ScopeList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Text<'a>(&'a crate::model::Scope);
        impl Serialize for Text<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self.0)
            }
        }
        serializer.collect_seq(self.0.iter().map(Text))
    }
}

/// Networks as a list of texts.
pub(super) struct NetworkList<'a>(pub(super) &'a [Network]);

impl Serialize for NetworkList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Text<'a>(&'a Network);
        impl Serialize for Text<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self.0)
            }
        }
        serializer.collect_seq(self.0.iter().map(Text))
    }
}

/// Identities as a list of texts.
pub(super) struct IdentityList<'a>(pub(super) &'a [Identity]);

impl Serialize for IdentityList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Identity::as_str))
    }
}

/// How often somebody may ask.
#[derive(Serialize)]
pub(super) struct RateForm {
    per_second: u32,
    burst: u32,
}

impl From<Rate> for RateForm {
    fn from(rate: Rate) -> Self {
        Self { per_second: rate.per_second(), burst: rate.burst() }
    }
}

/// An API key with everything that may be known of it.
#[derive(Serialize)]
pub(crate) struct KeyForm<'a> {
    id: &'a str,
    /// The whole API key, in the one reply that shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<&'a str>,
    name: &'a str,
    description: &'a str,
    state: &'static str,
    scopes: ScopeList<'a>,
    created_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<RateForm>,
    allowed_networks: NetworkList<'a>,
    identities: IdentityList<'a>,
    generation: u32,
    /// Until when the secret before this one works.
    #[serde(skip_serializing_if = "Option::is_none")]
    overlap_until: Option<Timestamp>,
    uses: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Timestamp>,
}

impl<'a> KeyForm<'a> {
    /// The form of `key` at `now`, without a secret.
    #[must_use]
    pub(crate) fn of(key: &'a ApiKey, now: WallTime) -> Self {
        let state = match () {
            () if key.revoked.is_some() => "revoked",
            () if key.has_expired(now) => "expired",
            () => "active",
        };
        let terms = &*key.terms;
        Self {
            id: key.id.as_str(),
            api_key: None,
            name: &terms.name,
            description: &terms.description,
            state,
            scopes: ScopeList(&terms.grants),
            created_at: Timestamp(key.created),
            created_by: key.created_by.as_ref().map(crate::model::ApiKeyId::as_str),
            expires_at: terms.expires.map(Timestamp),
            revoked_at: key.revoked.map(Timestamp),
            rate_limit: terms.rate.map(RateForm::from),
            allowed_networks: NetworkList(&terms.networks),
            identities: IdentityList(&terms.identities),
            generation: key.current.number,
            overlap_until: key.overlapping(now).map(|previous| Timestamp(previous.ends)),
            uses: key.usage.count(),
            last_used_at: key.usage.last().map(Timestamp),
        }
    }

    /// The same with the whole API key.
    #[must_use]
    pub(crate) fn showing(self, text: &'a str) -> Self {
        Self { api_key: Some(text), ..self }
    }
}

/// Replies with an API key, and with its whole text if it was just made.
///
/// # Errors
/// [`Rejection::Overloaded`](crate::api::Rejection::Overloaded) if it finds no room.
pub(super) fn reply(
    responder: &mut Responder<'_>,
    status: Status,
    key: &ApiKey,
    text: Option<&str>,
    now: WallTime,
) -> Answer {
    reply_json(responder, status, &KeyForm { api_key: text, ..KeyForm::of(key, now) })
}
