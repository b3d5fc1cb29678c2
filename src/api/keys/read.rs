//! `GET /api/keys` and `GET /api/keys/{name}`: what keys there are, and what is known of one.
//!
//! Owns the pages of the list. Invariant: a deleted key is shown only to who asks for it by name or asks for the
//! deleted ones.

use serde::Serialize;

use crate::api::keys::form::{self, Summary};
use crate::api::payload::canonical_number;
use crate::api::{Answer, Call, UNKNOWN_KEY, reply_json};
use crate::http::query::Text;
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::limits::LIST_PAGE_MAX_COUNT;

const BAD_PAGE: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_parameter",
    "limit is a number from 1 to 1000; after is a key name; deleted is true or false.",
);

#[derive(Serialize)]
struct Page<'a> {
    keys: Vec<Summary<'a>>,
    /// What to send as `after` for the next page.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

/// `GET /api/keys/{name}`
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn read_one(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    call.query(&[])?;
    let name = call.param.unwrap_or_default();
    call.allow(name)?;
    let key = call.ring.get_any(name).ok_or(UNKNOWN_KEY)?;
    form::reply(responder, Status::Ok, key)
}

/// `GET /api/keys`
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn list(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let query = call.query(&["after", "limit", "deleted"])?;
    let after = query.find_unique("after")?.map(|text| text.to_cow().into_owned());
    let after = after.map(String::from_utf8).transpose().map_err(|_| BAD_PAGE)?;
    let limit = match query.find_unique("limit")? {
        None => LIST_PAGE_MAX_COUNT,
        Some(text) => parse_limit(&text.to_cow()).ok_or(BAD_PAGE)?,
    };
    let deleted = query.find_unique("deleted")?.map_or(Some(false), parse_flag).ok_or(BAD_PAGE)?;
    let sight = call.sight();
    let mut keys = call.ring.page(after.as_deref(), limit + 1, deleted, |name| sight.allows(name));
    let more = keys.len() > limit;
    keys.truncate(limit);
    let next = keys.last().filter(|_| more).map(|key| key.name().as_str());
    let keys = keys.iter().map(|key| Summary::of(key)).collect();
    reply_json(responder, Status::Ok, &Page { keys, next })
}

pub(in crate::api) fn parse_limit(text: &[u8]) -> Option<usize> {
    let number = usize::try_from(canonical_number(text)?).ok()?;
    (number <= LIST_PAGE_MAX_COUNT).then_some(number)
}

/// A truth value in a query.
pub(super) fn parse_flag(text: Text<'_>) -> Option<bool> {
    match () {
        () if text.is(b"true") => Some(true),
        () if text.is(b"false") => Some(false),
        () => None,
    }
}
