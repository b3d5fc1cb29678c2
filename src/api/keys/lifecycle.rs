//! Rotating a key, deleting it, and bringing it back.
//!
//! Owns `POST .../rotate`, `DELETE /api/keys/{name}` and `POST .../undelete`. Invariant: none of them takes anything but
//! the name in the path.

use crate::api::keys::{existing_name, form, require_nothing};
use crate::api::{Answer, Call, UNKNOWN_KEY, Verdict};
use crate::http::responder::Responder;
use crate::http::status::Status;
use crate::keyring::Change;

/// `POST /api/keys/{name}/rotate`
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn rotate(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(committed) = call.committed.take() {
        let key = committed?.key;
        call.subject.version = Some(key.latest_number());
        return form::reply_done(responder, Status::Ok, &key);
    }
    call.subject.note_key(call.param.unwrap_or_default());
    require_nothing(call)?;
    let name = existing_name(call)?;
    Ok(Verdict::Commit(Change::Rotate { name, only_if_latest: None }))
}

/// `DELETE /api/keys/{name}`
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn delete(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(committed) = call.committed.take() {
        return form::reply_done(responder, Status::Ok, &committed?.key);
    }
    call.subject.note_key(call.param.unwrap_or_default());
    require_nothing(call)?;
    let name = existing_name(call)?;
    Ok(Verdict::Commit(Change::Delete { name }))
}

/// `POST /api/keys/{name}/undelete`
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn undelete(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(committed) = call.committed.take() {
        return form::reply_done(responder, Status::Ok, &committed?.key);
    }
    let name = call.param.unwrap_or_default();
    call.subject.note_key(name);
    require_nothing(call)?;
    let name = call.ring.get_any(name).ok_or(UNKNOWN_KEY)?.name().clone();
    Ok(Verdict::Commit(Change::Undelete { name }))
}
