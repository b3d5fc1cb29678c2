//! `PATCH /api/keys/{name}`: changing the policy of a key and the states of its versions.
//!
//! Owns the form of the request. Invariant: what it names is changed as a whole or not at all.

use serde::Deserialize;

use crate::api::body::{Object, Text, present, read};
use crate::api::keys::settings::policy_of;
use crate::api::keys::{existing_name, form};
use crate::api::{Answer, Call, Rejection};
use crate::http::media::{self, ContentType};
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::keyring::Change;
use crate::model::VersionState;

const NOT_A_PATCH: Fault<'static> = Fault::new(
    Status::UnsupportedMediaType,
    "unsupported_media_type",
    "This route takes application/json or application/merge-patch+json.",
);
const BAD_STATE: Fault<'static> = Fault::new(
    Status::BadRequest,
    "unknown_version_state",
    "The states of a version are enabled, decrypt-only, disabled and destroyed.",
);
const VERSION_TWICE: Fault<'static> =
    Fault::new(Status::BadRequest, "repeated_version", "A version stands twice in versions.");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(default, deserialize_with = "present")]
    min_decryption_version: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    min_encryption_version: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    keep_versions: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    auto_rotate_seconds: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    deletion_allowed: Option<bool>,
    #[serde(borrow, default, deserialize_with = "present")]
    versions: Option<Vec<Object<VersionBody<'a>>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionBody<'a> {
    version: u32,
    #[serde(borrow)]
    state: Text<'a>,
}

/// Serves the route.
///
/// # Errors
/// [`Rejection`]
pub fn configure(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(outcome) = call.changed_key()? {
        return form::reply_done(responder, Status::Ok, &outcome.key);
    }
    call.subject.note_key(call.param.unwrap_or_default());
    require_patch(call)?;
    let body: Body<'_> = read(call.body)?;
    let policy = policy_of!(body);
    let versions = read_versions(body.versions.as_deref().unwrap_or_default())?;
    let name = existing_name(call)?;
    Ok(Change::Configure { name, policy, versions }.into())
}

pub(in crate::api) fn require_patch(call: &Call<'_>) -> Result<(), Rejection> {
    call.query(&[])?;
    let patch = match call.content_type() {
        ContentType::Json | ContentType::None | ContentType::Form => true,
        _ => media::is_merge_patch(call.arrival.head.content_type(call.arrival.bytes)),
    };
    if patch && !call.arrival.head.coded_content { Ok(()) } else { Err(NOT_A_PATCH.into()) }
}

fn read_versions(versions: &[Object<VersionBody<'_>>]) -> Result<Vec<(u32, VersionState)>, Rejection> {
    let read = |Object(version): &Object<VersionBody<'_>>| {
        let state = VersionState::from_name(version.state.as_str()).ok_or(BAD_STATE)?;
        Ok((version.version, state))
    };
    let mut changes = versions.iter().map(read).collect::<Result<Vec<_>, Rejection>>()?;
    changes.sort_unstable_by_key(|(version, _)| *version);
    let twice = changes.iter().zip(changes.iter().skip(1)).any(|((one, _), (next, _))| one == next);
    if twice { Err(VERSION_TWICE.into()) } else { Ok(changes) }
}
