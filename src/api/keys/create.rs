//! `POST /api/keys`: making a key.
//!
//! Owns the form of the request. Invariant: making a key that exists with the same options is done already, and is
//! answered with the key as it is.

use serde::Deserialize;

use crate::api::body::{Text, present, read};
use crate::api::keys::settings::settings_of;
use crate::api::keys::{BAD_NAME, form, require_json};
use crate::api::{Answer, Call};
use crate::http::responder::Responder;
use crate::http::status::Status;
use crate::keyring::Change;
use crate::model::KeyName;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(rename = "type", borrow, default, deserialize_with = "present")]
    kind: Option<Text<'a>>,
    #[serde(default, deserialize_with = "present")]
    derived: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    exportable: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    plaintext_backup: Option<bool>,
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
}

/// Serves the route.
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn create(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(outcome) = call.changed_key()? {
        let status = if outcome.changed() { Status::Created } else { Status::Ok };
        return form::reply_done(responder, status, &outcome.key);
    }
    require_json(call)?;
    let body: Body<'_> = read(call.body)?;
    let name = KeyName::new(body.name.as_str()).ok_or(BAD_NAME)?;
    call.sight().allow(call.subject, name.as_str())?;
    let (options, policy) = settings_of!(body)?.resolve();
    Ok(Change::Create { name, options, policy }.into())
}
