//! `/api/auth/keys`: the life of API keys.
//!
//! Owns the forms of the requests. Invariants: whether a change may be made, and by whom, is judged by `auth::change` alone;
//! only an API key manages API keys, so that a token that was got with one never outlives it by making another; the text
//! of a new key is shown once, in the reply to the change that was made.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};
use zeroize::Zeroizing;

use crate::api::auth::form::{self, KeyForm};
use crate::api::body::{Object, Text, present, read};
use crate::api::change::ChangeError as AnyError;
use crate::api::keys::configure::require_patch;
use crate::api::keys::{read as pages, require_json, require_nothing};
use crate::api::{Answer, Call, FORBIDDEN, Rejection, reply_json};
use crate::auth::entry::{SALT_BYTES, TOKEN_SECRET_BYTES};
use crate::auth::{ApiKey, Change, ChangeError, Generation, Outcome, Terms, TermsChange, api_key};
use crate::clock::WallTime;
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::limits::{API_KEY_OVERLAP_SECONDS, LIST_PAGE_MAX_COUNT};
use crate::model::{ApiKeyId, Grants, IDENTITY_FORMS, Identity};
use crate::network::Network;
use crate::quota::Rate;
use crate::secret::Secret;

pub(super) const UNKNOWN_API_KEY: Fault<'static> =
    Fault::new(Status::NotFound, "unknown_api_key", "There is no API key of that identifier.");
pub(super) const KEY_REQUIRED: Fault<'static> = Fault::new(
    Status::Forbidden,
    "api_key_required",
    "This is done with an API key, not with a token, and a token is made for its secret alone.",
);
const BAD_RATE: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_rate",
    "per_second is a number from 1 to 1000000, burst one from 1 to 10000000.",
);
const BAD_PAGE: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_parameter",
    "limit is a number from 1 to 1000; after is the identifier of an API key.",
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    description: Option<Text<'a>>,
    #[serde(borrow)]
    scopes: Vec<Text<'a>>,
    #[serde(default, deserialize_with = "present")]
    expires_in: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    rate_limit: Option<Object<RateBody>>,
    #[serde(borrow, default, deserialize_with = "present")]
    allowed_networks: Option<Vec<Text<'a>>>,
    #[serde(borrow, default, deserialize_with = "present")]
    identities: Option<Vec<Text<'a>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RateBody {
    per_second: u32,
    #[serde(default, deserialize_with = "present")]
    burst: Option<u32>,
}

impl RateBody {
    /// Without a burst of its own, what passes in a second may pass at once.
    fn rate(&self) -> Result<Rate, Rejection> {
        let rate = Rate::new(self.per_second, self.burst.unwrap_or(self.per_second));
        rate.ok_or(Rejection::Fault(BAD_RATE))
    }
}

/// As RFC 7396 says, `null` takes away what is there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PatchBody<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    name: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    description: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    scopes: Option<Vec<Text<'a>>>,
    #[serde(default, deserialize_with = "named")]
    expires_in: Option<Option<u64>>,
    #[serde(default, deserialize_with = "named")]
    rate_limit: Option<Option<Object<RateBody>>>,
    #[serde(borrow, default, deserialize_with = "present")]
    allowed_networks: Option<Vec<Text<'a>>>,
    #[serde(borrow, default, deserialize_with = "named")]
    identities: Option<Option<Vec<Text<'a>>>>,
}

/// Tells a member that is `null` from one that is not there.
#[expect(clippy::option_option, reason = "a member may be absent, null or a value")]
fn named<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateBody {
    #[serde(default, deserialize_with = "present")]
    overlap_seconds: Option<u64>,
}

#[derive(Serialize)]
struct Page<'a> {
    keys: Vec<KeyForm<'a>>,
    /// What to send as `after` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

/// `GET /api/auth/keys`
///
/// # Errors
/// [`Rejection`]
pub fn list(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let query = call.query(&["after", "limit"])?;
    let after = match query.find_unique("after")? {
        None => None,
        Some(text) => Some(ApiKeyId::parse(&text.to_cow()).ok_or(BAD_PAGE)?),
    };
    let limit = match query.find_unique("limit")? {
        None => LIST_PAGE_MAX_COUNT,
        Some(text) => pages::parse_limit(&text.to_cow()).ok_or(BAD_PAGE)?,
    };
    let mut keys: Vec<&Arc<ApiKey>> = call.callers.keys_after(after).take(limit + 1).collect();
    let more = keys.len() > limit;
    keys.truncate(limit);
    let next = keys.last().filter(|_| more).map(|key| key.id.as_str());
    let keys = keys.iter().map(|key| KeyForm::of(key, call.wall)).collect();
    reply_json(responder, Status::Ok, &Page { keys, next })
}

/// `GET /api/auth/keys/{id}`
///
/// # Errors
/// [`Rejection`]
pub fn read_one(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.query(&[])?;
    let key = existing(call)?;
    form::reply(responder, Status::Ok, key, None, call.wall)
}

/// `POST /api/auth/keys`
///
/// # Errors
/// [`Rejection`]
pub fn create(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    // If somebody has the identifier that was drawn, another one is.
    if matches!(call.committed, Some(Err(AnyError::Caller(ChangeError::Exists)))) {
        call.committed = None;
    }
    match call.changed_caller()? {
        None => {}
        Some(Outcome { key, .. }) => {
            return form::reply(
                responder,
                Status::Created,
                &key,
                call.kept.as_ref().map(|text| text.as_str()),
                call.wall,
            );
        }
    }
    require_json(call)?;
    let by = manager(call)?;
    let terms = {
        let body: CreateBody<'_> = read(call.body)?;
        let networks = body.allowed_networks.as_deref().map(networks).transpose()?.unwrap_or_default();
        Terms {
            name: body.name.as_str().into(),
            description: body.description.as_ref().map_or("", Text::as_str).into(),
            grants: scopes(&body.scopes)?,
            expires: body.expires_in.map(|seconds| ends(call.wall, seconds)),
            rate: body.rate_limit.map(|Object(rate)| rate.rate()).transpose()?,
            networks,
            identities: identities(body.identities.as_deref().unwrap_or_default())?,
        }
    };
    require_rate(call, terms.rate)?;
    let now = call.now;
    let text = api_key::generate(|bytes| call.tools.draw(now, bytes))?;
    let mut salt = [0; SALT_BYTES];
    call.tools.draw(now, &mut salt)?;
    let (id, generation) = generation(call, &text, &salt, 1)?;
    call.subject.note_api_key(id);
    *call.kept = Some(text);
    let change = Change::Create { by: Some(by), id, salt, terms: Arc::new(terms), generation };
    Ok(change.into())
}

/// `PATCH /api/auth/keys/{id}`
///
/// # Errors
/// [`Rejection`]
pub fn configure(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(Outcome { key, .. }) = call.changed_caller()? {
        return form::reply(responder, Status::Ok, &key, None, call.wall);
    }
    require_patch(call)?;
    let by = manager(call)?;
    let id = existing(call)?.id;
    let wall = call.wall;
    let body: PatchBody<'_> = read(call.body)?;
    let text = |text: &Text<'_>| Box::from(text.as_str());
    let terms = TermsChange {
        name: body.name.as_ref().map(text),
        description: body.description.as_ref().map(text),
        grants: body.scopes.as_deref().map(scopes).transpose()?,
        expires: body.expires_in.map(|seconds| seconds.map(|seconds| ends(wall, seconds))),
        rate: body.rate_limit.map(|rate| rate.map(|Object(rate)| rate.rate()).transpose()).transpose()?,
        networks: body.allowed_networks.as_deref().map(networks).transpose()?,
        identities: body.identities.map(|texts| identities(&texts.unwrap_or_default())).transpose()?,
    };
    require_rate(call, terms.rate.flatten())?;
    Ok(Change::Configure { by: Some(by), id, terms: Box::new(terms) }.into())
}

/// `POST /api/auth/keys/{id}/rotate`
///
/// # Errors
/// [`Rejection`]
pub fn rotate(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(Outcome { key, .. }) = call.changed_caller()? {
        return form::reply(
            responder,
            Status::Ok,
            &key,
            call.kept.as_ref().map(|text| text.as_str()),
            call.wall,
        );
    }
    let RotateBody { overlap_seconds } = if call.body.is_empty() {
        call.query(&[])?;
        RotateBody::default()
    } else {
        require_json(call)?;
        read(call.body)?
    };
    let by = manager(call)?;
    let key = existing(call)?;
    let (now, number) = (call.now, key.current.number.saturating_add(1));
    let text = api_key::generate_for(key.id, |bytes| call.tools.draw(now, bytes))?;
    let (id, generation) = generation(call, &text, &key.salt, number)?;
    *call.kept = Some(text);
    let overlap_seconds = overlap_seconds.unwrap_or(API_KEY_OVERLAP_SECONDS);
    Ok(Change::Rotate { by: Some(by), id, generation, overlap_seconds }.into())
}

/// `POST /api/auth/keys/{id}/revoke`
///
/// # Errors
/// [`Rejection`]
pub fn revoke(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    end(call, responder, |by, id| Change::Revoke { by, id })
}

/// `DELETE /api/auth/keys/{id}`
///
/// # Errors
/// [`Rejection`]
pub fn delete(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    end(call, responder, |by, id| Change::Delete { by, id })
}

fn end(
    call: &mut Call<'_>,
    responder: &mut Responder<'_>,
    change: impl FnOnce(Option<ApiKeyId>, ApiKeyId) -> Change,
) -> Answer {
    if let Some(Outcome { key, .. }) = call.changed_caller()? {
        return form::reply(responder, Status::Ok, &key, None, call.wall);
    }
    require_nothing(call)?;
    let by = manager(call)?;
    let id = existing(call)?.id;
    Ok(change(Some(by), id).into())
}

/// Who asks, who must have presented an API key.
pub(super) fn manager(call: &Call<'_>) -> Result<ApiKeyId, Rejection> {
    let principal = call.principal.filter(|principal| principal.token.is_none()).ok_or(KEY_REQUIRED)?;
    Ok(principal.key)
}

/// Whoever has no rate of his own has the server's, and gives out no higher one; any other is judged with the change.
fn require_rate(call: &Call<'_>, wanted: Option<Rate>) -> Result<(), Rejection> {
    let (Some(authority), Some(own), Some(wanted)) = (call.authority, call.default_rate, wanted) else {
        return Ok(());
    };
    let terms = &authority.key.terms;
    let oftener = wanted.per_second() > own.per_second() || wanted.burst() > own.burst();
    let refused = oftener && terms.rate.is_none() && !terms.grants.is_admin();
    if refused { Err(FORBIDDEN.into()) } else { Ok(()) }
}

/// The key that the path names.
fn existing<'a>(call: &mut Call<'a>) -> Result<&'a Arc<ApiKey>, Rejection> {
    let id = ApiKeyId::parse(call.param.unwrap_or_default().as_bytes()).ok_or(UNKNOWN_API_KEY)?;
    call.subject.note_api_key(id);
    call.callers.get(id).ok_or(Rejection::Fault(UNKNOWN_API_KEY))
}

/// What is kept of a new secret.
fn generation(
    call: &mut Call<'_>,
    text: &Zeroizing<String>,
    salt: &[u8; SALT_BYTES],
    number: u32,
) -> Result<(ApiKeyId, Arc<Generation>), Rejection> {
    let token_secret: Secret<TOKEN_SECRET_BYTES> =
        Secret::try_fill(|bytes| call.tools.draw(call.now, bytes))?;
    // The text was made here, and is of the form.
    let (id, digest) = call.authenticator.digest(text, salt).map_err(|_| Rejection::Overloaded)?;
    Ok((id, Arc::new(Generation { number, digest, token_secret, created: call.wall })))
}

fn ends(now: WallTime, seconds: u64) -> WallTime {
    WallTime::from_millis(now.as_millis().saturating_add(seconds.saturating_mul(1_000)))
}

pub(super) fn scopes(texts: &[Text<'_>]) -> Result<Grants, Rejection> {
    Grants::parse(texts.iter().map(Text::as_str)).map_err(|error| {
        let detail = sentence(&error);
        Rejection::Described { status: Status::BadRequest, code: "malformed_scope", detail }
    })
}

fn networks(texts: &[Text<'_>]) -> Result<Box<[Network]>, Rejection> {
    let parse = |text: &Text<'_>| Network::parse(text.as_str());
    texts.iter().map(parse).collect::<Result<_, _>>().map_err(|error| {
        let detail = sentence(&error);
        Rejection::Described { status: Status::BadRequest, code: "malformed_network", detail }
    })
}

fn identities(texts: &[Text<'_>]) -> Result<Box<[Identity]>, Rejection> {
    let parsed: Option<_> = texts.iter().map(|text| Identity::parse(text.as_str())).collect();
    parsed.ok_or_else(|| Rejection::Described {
        status: Status::BadRequest,
        code: "malformed_identity",
        detail: sentence(&IDENTITY_FORMS),
    })
}

/// What is wrong, as a sentence.
fn sentence(error: &dyn core::fmt::Display) -> String {
    let mut detail = error.to_string();
    if let Some(first) = detail.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    detail.push('.');
    detail
}
