//! `/api/keys`: the life of keys, from their making to their destruction.
//!
//! - `form`: a key as replies show it.
//! - `read`: reading one key, and listing them.
//! - `settings`: what a request says of options and policy.
//! - `create`, `configure`, `lifecycle`: making a key, changing its policy and the states of its versions, rotating,
//!   deleting and bringing back.
//! - `material`: taking key material in and giving it out.
//! - `backup`: whole keys, sealed or open, to another time or another server.
//!
//! Invariants: no reply but those of `material` and `backup` holds key material; whether a change may be made is judged
//! by `keyring::change` alone; once a change was asked for, the body is not looked at again.

pub mod backup;
pub mod configure;
pub mod create;
pub(in crate::api) mod form;
pub mod lifecycle;
pub mod material;
pub mod read;
mod settings;

use serde::Deserialize;

use crate::api::body;
use crate::api::{Call, Rejection};
use crate::http::media::ContentType;
use crate::http::responder::Fault;
use crate::http::status::Status;
use crate::model::KeyName;

const BAD_NAME: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_key_name",
    "A key name has 1 to 128 letters, digits, dots, underscores and hyphens, and begins with a letter or digit.",
);
const NOT_JSON: Fault<'static> =
    Fault::new(Status::UnsupportedMediaType, "unsupported_media_type", "This route takes application/json.");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NoMembers {}

/// Refuses a query, and a body that is not said to be JSON.
pub(in crate::api) fn require_json(call: &Call<'_>) -> Result<(), Rejection> {
    call.query(&[])?;
    let json = matches!(call.content_type(), ContentType::Json | ContentType::None | ContentType::Form);
    if json && !call.arrival.head.coded_content { Ok(()) } else { Err(NOT_JSON.into()) }
}

/// Refuses a query, and a body that is neither empty nor an object without members.
pub(in crate::api) fn require_nothing(call: &Call<'_>) -> Result<(), Rejection> {
    if call.body.is_empty() {
        return call.query(&[]).map(drop);
    }
    require_json(call)?;
    let NoMembers {} = body::read(call.body)?;
    Ok(())
}

/// The name in the path, of a key that may not exist yet.
fn new_name(call: &mut Call<'_>) -> Result<KeyName, Rejection> {
    let name = call.param.unwrap_or_default();
    call.allow(name)?;
    KeyName::new(name).ok_or_else(|| BAD_NAME.into())
}

/// The name in the path, of a key that exists and is not deleted.
fn existing_name(call: &mut Call<'_>) -> Result<KeyName, Rejection> {
    call.key(call.param.unwrap_or_default()).map(|key| key.name().clone())
}
