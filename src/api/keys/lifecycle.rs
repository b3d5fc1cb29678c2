//! Rotating a key, deleting it, and bringing it back.
//!
//! Owns `POST .../rotate`, `DELETE /api/keys/{name}` and `POST .../undelete`. Invariant: none of them takes anything but
//! the name in the path.

use crate::api::keys::{existing_name, form, require_nothing};
use crate::api::{Answer, Call, UNKNOWN_KEY};
use crate::http::responder::Responder;
use crate::http::status::Status;
use crate::keyring::Change;

/// `POST /api/keys/{name}/rotate`
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn rotate(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(outcome) = call.changed_key()? {
        let key = outcome.key;
        call.subject.version = Some(key.latest_number());
        return form::reply_done(responder, Status::Ok, &key);
    }
    call.subject.note_key(call.param.unwrap_or_default());
    require_nothing(call)?;
    let name = existing_name(call)?;
    Ok(Change::Rotate { name, only_if_latest: None }.into())
}

/// `DELETE /api/keys/{name}`
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn delete(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(outcome) = call.changed_key()? {
        return form::reply_done(responder, Status::Ok, &outcome.key);
    }
    call.subject.note_key(call.param.unwrap_or_default());
    require_nothing(call)?;
    let name = existing_name(call)?;
    Ok(Change::Delete { name }.into())
}

/// `POST /api/keys/{name}/undelete`
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn undelete(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(outcome) = call.changed_key()? {
        return form::reply_done(responder, Status::Ok, &outcome.key);
    }
    let name = call.param.unwrap_or_default();
    call.allow(name)?;
    require_nothing(call)?;
    let name = call.ring.get_any(name).ok_or(UNKNOWN_KEY)?.name().clone();
    Ok(Change::Undelete { name }.into())
}
