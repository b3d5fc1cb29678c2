//! `GET /api/auth/profile`: who asks, and what they may do.
//!
//! Owns the form of the reply. Invariant: it tells of nobody but who asks.

use serde::Serialize;

use crate::api::auth::form::{IdentityList, NetworkList, RateForm, ScopeList};
use crate::api::keys::form::Timestamp;
use crate::api::{Answer, Call, UNRECOGNISED, reply_json};
use crate::http::responder::Responder;
use crate::http::status::Status;
use crate::model::Principal;

#[derive(Serialize)]
struct Profile<'a> {
    id: &'a str,
    name: &'a str,
    recognised_by: &'static str,
    /// By which identity, if it was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<&'a str>,
    scopes: ScopeList<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_id: Option<&'a str>,
    /// What of the scopes of a token its API key does not allow any more is not allowed: these are the key's.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_scopes: Option<ScopeList<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate_limit: Option<RateForm>,
    allowed_networks: NetworkList<'a>,
    identities: IdentityList<'a>,
}

/// Serves the route.
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn profile(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.query(&[])?;
    let authority = call.authority.ok_or(UNRECOGNISED)?;
    let (key, token) = (authority.key, authority.token);
    let identity = call.principal.and_then(Principal::identity);
    let profile = Profile {
        id: key.id.as_str(),
        name: &key.terms.name,
        recognised_by: match (token, identity) {
            (Some(_), _) => "token",
            (None, Some(_)) => "identity",
            (None, None) => "api_key",
        },
        identity,
        scopes: ScopeList(token.map_or(&key.terms.grants, |token| &token.grants)),
        token_id: token.map(|token| &*token.id),
        key_scopes: token.map(|_| ScopeList(&key.terms.grants)),
        expires_at: token.map(|token| token.expires).or(key.terms.expires).map(Timestamp),
        rate_limit: key.terms.rate.map(RateForm::from),
        allowed_networks: NetworkList(&key.terms.networks),
        identities: IdentityList(&key.terms.identities),
    };
    reply_json(responder, Status::Ok, &profile)
}
