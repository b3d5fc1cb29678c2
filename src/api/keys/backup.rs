//! Whole keys on their way to another time or another server: backup and restore.
//!
//! Owns the forms of both requests. Invariants: a backup leaves sealed unless the key was made for the other form; a
//! backup that was altered or made up tells nothing of where it differs; what a backup may take the place of is judged
//! where the change is made.

use serde::{Deserialize, Serialize};

use crate::api::body::{Text, present, read};
use crate::api::keys::{BAD_NAME, form, require_json};
use crate::api::{Answer, Call, Rejection, reply_json};
use crate::audit::line::Detail;
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::keyring::backup::{
    self as text, BACKUP_NONCE_BYTES, BackupError, PLAIN_PREFIX, open_backup, seal_backup,
};
use crate::keyring::{Change, Key};
use crate::limits::BACKUP_IN_BODY_MAX_BYTES;
use crate::model::KeyName;

const PLAINTEXT_NOT_ALLOWED: Fault<'static> = Fault::new(
    Status::Forbidden,
    "plaintext_backup_not_allowed",
    "The key was not made with plaintext_backup, and that cannot be changed.",
);
const TOO_LARGE: Fault<'static> = Fault::new(
    Status::Conflict,
    "backup_too_large",
    "The backup would be longer than a request may be. Drop versions with keep_versions and a rotation.",
);
const REJECTED: Fault<'static> = Fault::new(
    Status::BadRequest,
    "backup_rejected",
    "This is no backup of a key, or it was altered or made by a newer version.",
);
const OTHER_KEY: Fault<'static> = Fault::new(
    Status::BadRequest,
    "backup_other_key",
    "The backup was sealed under another backup key: on another server, or before its root key was replaced.",
);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupBody {
    #[serde(default, deserialize_with = "present")]
    plaintext: Option<bool>,
}

#[derive(Serialize)]
struct BackupForm<'a> {
    name: &'a str,
    backup: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestoreBody<'a> {
    #[serde(borrow)]
    backup: Text<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    name: Option<Text<'a>>,
    #[serde(default, deserialize_with = "present")]
    replace: Option<bool>,
}

/// `POST /api/keys/{name}/backup`
///
/// # Errors
/// [`Rejection`]
pub fn backup(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let name = call.param.unwrap_or_default();
    call.subject.note_key(name);
    require_json(call)?;
    let body = if call.body.is_empty() { BackupBody::default() } else { read(call.body)? };
    let key = call.key(name)?;
    if body.plaintext == Some(true) {
        call.subject.detail = Some(Detail::Plaintext);
        let backup = text::write_plain_backup(key).map_err(|_| PLAINTEXT_NOT_ALLOWED)?;
        return reply(responder, key, &backup);
    }
    let mut nonce = [0; BACKUP_NONCE_BYTES];
    call.tools.draw(call.now, &mut nonce)?;
    let sealed = call.tools.backup_key.with(|backup_key| seal_backup(key, backup_key, &nonce));
    reply(responder, key, &sealed.map_err(|_| TOO_LARGE)?)
}

fn reply(responder: &mut Responder<'_>, key: &Key, backup: &str) -> Answer {
    // What could not be brought back is no backup.
    if backup.len() > BACKUP_IN_BODY_MAX_BYTES {
        return Err(TOO_LARGE.into());
    }
    reply_json(responder, Status::Ok, &BackupForm { name: key.name().as_str(), backup })
}

/// `POST /api/keys/restore`
///
/// # Errors
/// [`Rejection`]
pub fn restore(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    if let Some(outcome) = call.changed_key()? {
        return form::reply_done(responder, Status::Created, &outcome.key);
    }
    require_json(call)?;
    call.resolve_escapes();
    let body: RestoreBody<'_> = read(call.body)?;
    let wanted = body.name.map(|name| KeyName::new(name.as_str()).ok_or(BAD_NAME)).transpose()?;
    if let Some(name) = &wanted {
        call.sight().allow(call.subject, name.as_str())?;
    }
    let backup = body.backup.as_str();
    let opened = if backup.starts_with(PLAIN_PREFIX) {
        text::read_plain_backup(backup)
    } else {
        call.tools.backup_key.with(|backup_key| open_backup(backup, backup_key))
    };
    let key = Box::new(opened.map_err(refused)?);
    // A key must not come back under another name for somebody who may not have it under its own.
    call.sight().allow(call.subject, key.name().as_str())?;
    let name = wanted.unwrap_or_else(|| key.name().clone());
    call.subject.note_key(name.as_str());
    let replace = body.replace == Some(true);
    // Whether there is a key to replace is known when the change is made.
    call.subject.detail = replace.then_some(Detail::Replaced);
    Ok(Change::Restore { name, key, replace }.into())
}

/// One answer to everything that is no backup of ours, whatever the reason.
fn refused(error: BackupError) -> Rejection {
    match error {
        BackupError::OtherKey => OTHER_KEY.into(),
        BackupError::Malformed | BackupError::Rejected | BackupError::UnknownFormat => REJECTED.into(),
    }
}
