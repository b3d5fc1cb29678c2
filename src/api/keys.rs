//! `/api/keys`: making, listing, reading and rotating keys.
//!
//! Owns the JSON form of a key. Invariant: no reply holds key material.

use serde::{Deserialize, Serialize};

use crate::api::body::{Text, present, read};
use crate::api::payload::canonical_number;
use crate::api::{Answer, Call, Rejection, Verdict, reply_json};
use crate::http::media::ContentType;
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::keyring::Change;
use crate::keyring::Key;
use crate::limits::LIST_PAGE_MAX_COUNT;
use crate::model::{KeyName, KeyOptions, KeyType, PolicyChange};

const BAD_NAME: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_key_name",
    "A key name has 1 to 128 letters, digits, dots, underscores and hyphens, and begins with a letter or digit.",
);
const BAD_TYPE: Fault<'static> = Fault::new(
    Status::BadRequest,
    "unknown_key_type",
    "The types are xchacha20-poly1305 (the default) and chacha20-poly1305.",
);
const NOT_JSON: Fault<'static> =
    Fault::new(Status::UnsupportedMediaType, "unsupported_media_type", "This route takes application/json.");
const BAD_PAGE: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_parameter",
    "limit is a number from 1 to 1000; after is a key name.",
);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(rename = "type", borrow, default, deserialize_with = "present")]
    kind: Option<Text<'a>>,
    #[serde(default, deserialize_with = "present")]
    derived: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoMembers {}

#[derive(Serialize)]
struct KeyForm<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    created_at: String,
    latest_version: u32,
    versions: Vec<VersionForm>,
}

#[derive(Serialize)]
struct VersionForm {
    version: u32,
    state: &'static str,
    created_at: String,
}

#[derive(Serialize)]
struct KeySummary<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    latest_version: u32,
}

#[derive(Serialize)]
struct Page<'a> {
    keys: Vec<KeySummary<'a>>,
    /// What to send as `after` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

/// `POST /api/keys`
///
/// # Errors
/// [`Rejection`]
pub fn create(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(committed) = call.committed.take() {
        let outcome = committed?;
        let status = if outcome.changed() { Status::Created } else { Status::Ok };
        return reply_json(responder, status, &form(&outcome.key));
    }
    require_json(call)?;
    let body: CreateBody<'_> = read(call.body)?;
    let name = KeyName::new(body.name.as_str()).ok_or(BAD_NAME)?;
    call.subject.note_key(name.as_str());
    let kind = match &body.kind {
        None => KeyType::XChaCha20Poly1305,
        Some(kind) => KeyType::from_name(kind.as_str()).ok_or(BAD_TYPE)?,
    };
    let options = KeyOptions { derived: body.derived.unwrap_or(false), ..KeyOptions::of(kind) };
    Ok(Verdict::Commit(Change::Create { name, options, policy: PolicyChange::default() }))
}

/// `POST /api/keys/{name}/rotate`
///
/// # Errors
/// [`Rejection`]
pub fn rotate(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(committed) = call.committed.take() {
        let key = committed?.key;
        call.subject.version = Some(key.latest_number());
        // What is done must be answered as done: without room for all versions the reply names the latest alone.
        return reply_json(responder, Status::Ok, &form(&key))
            .or_else(|_| reply_json(responder, Status::Ok, &summary(&key)));
    }
    if !call.body.is_empty() {
        require_json(call)?;
        let NoMembers {} = read(call.body)?;
    }
    call.query(&[])?;
    let key = call.key(call.param.unwrap_or_default())?;
    Ok(Verdict::Commit(Change::Rotate { name: key.name().clone(), only_if_latest: None }))
}

/// `GET /api/keys/{name}`
///
/// # Errors
/// [`Rejection`]
pub fn read_one(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.query(&[])?;
    let key = call.key(call.param.unwrap_or_default())?;
    reply_json(responder, Status::Ok, &form(key))
}

/// `GET /api/keys`
///
/// # Errors
/// [`Rejection`]
pub fn list(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let query = call.query(&["after", "limit"])?;
    let after = query.find_unique("after")?.map(|text| text.to_cow().into_owned());
    let after = after.map(String::from_utf8).transpose().map_err(|_| BAD_PAGE)?;
    let limit = match query.find_unique("limit")? {
        None => LIST_PAGE_MAX_COUNT,
        Some(text) => parse_limit(&text.to_cow()).ok_or(BAD_PAGE)?,
    };
    let mut keys = call.ring.page(after.as_deref(), limit + 1, false);
    let more = keys.len() > limit;
    keys.truncate(limit);
    let next = keys.last().filter(|_| more).map(|key| key.name().as_str());
    let keys = keys.iter().map(|key| summary(key)).collect();
    reply_json(responder, Status::Ok, &Page { keys, next })
}

fn parse_limit(text: &[u8]) -> Option<usize> {
    let number = usize::try_from(canonical_number(text)?).ok()?;
    (number <= LIST_PAGE_MAX_COUNT).then_some(number)
}

fn require_json(call: &mut Call<'_>) -> Result<(), Rejection> {
    call.query(&[])?;
    let json = matches!(call.content_type(), ContentType::Json | ContentType::None | ContentType::Form);
    if json && !call.arrival.head.coded_content { Ok(()) } else { Err(NOT_JSON.into()) }
}

fn form(key: &Key) -> KeyForm<'_> {
    let version = |version: &crate::keyring::KeyVersion| VersionForm {
        version: version.number(),
        state: version.state().name(),
        created_at: version.created().civil().to_string(),
    };
    KeyForm {
        name: key.name().as_str(),
        kind: key.kind().name(),
        created_at: key.created().civil().to_string(),
        latest_version: key.latest_number(),
        versions: key.versions().map(version).collect(),
    }
}

fn summary(key: &Key) -> KeySummary<'_> {
    KeySummary { name: key.name().as_str(), kind: key.kind().name(), latest_version: key.latest_number() }
}
