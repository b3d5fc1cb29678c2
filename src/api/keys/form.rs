//! A key as replies show it: options, policy, versions and what was done with them.
//!
//! Owns [`KeyForm`] and its short form. Invariants: no key material; the counters, which go on counting meanwhile, are
//! read once, because a reply is measured before it is written.

use serde::{Serialize, Serializer};

use crate::api::{Answer, reply_json};
use crate::clock::WallTime;
use crate::http::responder::Responder;
use crate::http::status::Status;
use crate::keyring::{Key, KeyVersion};

/// A moment, as RFC 3339 text in UTC.
pub(in crate::api) struct Timestamp(pub(in crate::api) WallTime);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0.civil())
    }
}

/// What every form of a key tells.
#[derive(Serialize)]
pub(super) struct Summary<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    latest_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purge_at: Option<Timestamp>,
}

/// A key with everything that may be known of it.
#[derive(Serialize)]
struct KeyForm<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    derived: bool,
    /// Only where it is so: such keys are made by clients of Vault alone.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    convergent: bool,
    exportable: bool,
    plaintext_backup: bool,
    created_at: Timestamp,
    min_decryption_version: u32,
    min_encryption_version: u32,
    keep_versions: u32,
    auto_rotate_seconds: u64,
    deletion_allowed: bool,
    versions: Vec<VersionForm>,
}

#[derive(Serialize)]
struct VersionForm {
    version: u32,
    state: &'static str,
    created_at: Timestamp,
    imported: bool,
    uses: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seals_reserved: Option<u64>,
}

impl<'a> Summary<'a> {
    pub(super) fn of(key: &'a Key) -> Self {
        let deletion = key.deletion();
        Self {
            name: key.name().as_str(),
            kind: key.kind().name(),
            latest_version: key.latest_number(),
            deleted_at: deletion.map(|deletion| Timestamp(deletion.at)),
            purge_at: deletion.map(|deletion| Timestamp(deletion.purge_at)),
        }
    }
}

impl<'a> KeyForm<'a> {
    fn of(key: &'a Key) -> Self {
        let (options, policy) = (key.options(), key.policy());
        Self {
            summary: Summary::of(key),
            derived: options.derived,
            convergent: options.convergent,
            exportable: options.exportable,
            plaintext_backup: options.plaintext_backup,
            created_at: Timestamp(key.created()),
            min_decryption_version: policy.min_decryption_version,
            min_encryption_version: policy.min_encryption_version,
            keep_versions: policy.keep_versions,
            auto_rotate_seconds: policy.auto_rotate_seconds,
            deletion_allowed: policy.deletion_allowed,
            versions: key.versions().map(|version| VersionForm::of(key, version)).collect(),
        }
    }
}

impl VersionForm {
    fn of(key: &Key, version: &KeyVersion) -> Self {
        let uses = version.uses();
        Self {
            version: version.number(),
            state: version.state().name(),
            created_at: Timestamp(version.created()),
            imported: version.is_imported(),
            uses: uses.operations(),
            last_used_at: uses.last().map(Timestamp),
            seals_reserved: key.kind().counts_seals().then(|| uses.reserved()),
        }
    }
}

/// Replies with a key.
///
/// # Errors
/// [`Rejection::Overloaded`](crate::api::Rejection::Overloaded) if it finds no room.
pub(super) fn reply(responder: &mut Responder<'_>, status: Status, key: &Key) -> Answer {
    reply_json(responder, status, &KeyForm::of(key))
}

/// Replies to a change that was made.
///
/// # Errors
/// [`Rejection::Overloaded`](crate::api::Rejection::Overloaded) if even the short form finds no room.
pub(super) fn reply_done(responder: &mut Responder<'_>, status: Status, key: &Key) -> Answer {
    // What is done must be answered as done: without room for all versions the reply names the latest alone.
    reply(responder, status, key).or_else(|_| reply_json(responder, status, &Summary::of(key)))
}
