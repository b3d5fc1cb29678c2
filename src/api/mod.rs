//! The HTTP API: a file for each resource, and one table of routes.
//!
//! Owns what a handler gets ([`Call`]) and gives ([`Answer`]). Invariants: handlers are plain functions without sockets,
//! files or clocks of their own; permissions are rows of the table and are checked before a handler runs; a handler
//! that wants a change returns it and is called again with its result, so it never waits; bad input is a
//! [`Rejection`], never a panic and never a 500.

pub mod audit;
pub mod auth;
pub mod batch;
pub mod binding;
pub mod body;
pub mod change;
pub mod datakey;
pub mod decrypt;
pub mod documents;
pub mod encrypt;
pub mod entropy;
pub mod escapes;
pub mod form;
pub mod hash;
pub mod health;
pub mod integrity;
pub mod keys;
pub mod keystream;
pub mod made;
pub mod members;
pub mod metrics;
pub mod operation;
pub mod payload;
mod plain;
pub mod product;
pub mod raw;
pub mod rewrap;
pub mod route;
pub mod security_txt;
pub mod sign;
pub mod stream;
pub mod vault;
pub mod verify;

use std::sync::Arc;

use serde::Serialize;
use zeroize::Zeroizing;

use crate::api::change::{Change, ChangeError, Outcome};
use crate::audit::Recent;
use crate::audit::line::{Detail, Items};
use crate::auth::{
    Authenticator, Authority, Change as CallerChange, ChangeError as CallerError, Directory,
    Outcome as CallerOutcome, Refused,
};
use crate::clock::{Moment, WallTime};
use crate::crypto::random::Generator;
use crate::http::media::{ContentType, ReplyForm};
use crate::http::query::Query;
use crate::http::refusal::Refusal;
use crate::http::responder::{Exhausted, Fault, OVERLOADED, Responder};
use crate::http::service::Arrival;
use crate::http::status::Status;
use crate::integrity::Board;
use crate::keyring::{self, Key, Ring};
use crate::limits::{ASSOCIATED_DATA_MAX_BYTES, CONTEXT_MAX_BYTES, KEY_BYTES};
use crate::metrics::Source;
use crate::model::{ApiKeyId, Health, KeyName, Permission, Posture, Principal};
use crate::quota::Rate;
use crate::secret::Secret;

/// What a worker lends to its handlers, one after the other.
#[derive(Debug)]
pub struct Tools {
    /// The worker's random generator.
    pub random: Generator,
    /// Whether the last draw from it succeeded.
    pub entropy: bool,
    /// Room for decoded associated data.
    pub associated_data: Box<[u8; ASSOCIATED_DATA_MAX_BYTES]>,
    /// Room for a decoded context.
    pub context: Box<[u8; CONTEXT_MAX_BYTES]>,
    /// What seals backups of keys.
    pub backup_key: Arc<Secret<KEY_BYTES>>,
}

impl Tools {
    /// Tools around a generator and the server's backup key.
    #[must_use]
    pub fn new(random: Generator, backup_key: Arc<Secret<KEY_BYTES>>) -> Self {
        let (associated_data, context) = (Box::new([0; _]), Box::new([0; _]));
        Self { random, entropy: true, associated_data, context, backup_key }
    }

    /// Fills `target` with random bytes.
    ///
    /// # Errors
    /// 503 if the system gives none; `target` is all zeros then.
    pub fn draw(&mut self, now: Moment, target: &mut [u8]) -> Result<(), Rejection> {
        let drawn = self.random.fill(now, target);
        self.entropy = drawn.is_ok();
        drawn.map_err(|_| NO_ENTROPY.into())
    }
}

/// What a handler tells the audit line of its request.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    /// The key that was used; only a name that exists or could exist.
    pub key: String,
    /// The version that was used.
    pub version: Option<u32>,
    /// The code of the refusal; of a batch that was answered, that of its first item if every item was refused.
    pub code: Option<&'static str>,
    /// What the line says beside it, unless nothing comes of the request.
    pub detail: Option<Detail>,
    /// How the items of a batch fared.
    pub items: Option<Items>,
    /// What stands for the body.
    pub body: Option<[u8; 16]>,
    /// Whether a change was made: whatever the reply says, the line says so.
    pub changed: bool,
    /// The API key that was changed or looked at.
    pub api_key: Option<ApiKeyId>,
}

impl Subject {
    /// Forgets the last request and keeps the memory.
    pub fn clear(&mut self) {
        self.key.clear();
        self.version = None;
        self.code = None;
        self.detail = None;
        self.items = None;
        self.body = None;
        self.changed = false;
        self.api_key = None;
    }

    /// Notes what became of the change that was asked for.
    pub fn note_change(&mut self, outcome: &Result<Outcome, ChangeError>) {
        self.changed |= outcome.is_ok();
        // A key took the place of another only if something is forbidden now that was allowed before.
        if !outcome.as_ref().is_ok_and(Outcome::restricts) {
            self.detail = None;
        }
    }

    /// Notes which API key is meant.
    pub fn note_api_key(&mut self, id: ApiKeyId) {
        self.api_key = Some(id);
    }

    /// Notes which key is meant, if a key could have that name.
    pub fn note_key(&mut self, name: &str) {
        self.key.clear();
        if KeyName::is_valid(name) {
            self.key.push_str(name);
        }
    }
}

/// One request in the hands of a handler.
pub struct Call<'a> {
    /// The request without its body.
    pub arrival: &'a Arrival<'a>,
    /// The body, to be worked on in place.
    pub body: &'a mut [u8],
    /// The variable part of the path.
    pub param: Option<&'a str>,
    /// Who asks, where that has to be known.
    pub principal: Option<&'a Principal>,
    /// What who asks may do, where that has to be known.
    pub authority: Option<Authority<'a>>,
    /// What the route demands.
    pub permission: Option<Permission>,
    /// The keys as they are now.
    pub ring: &'a Ring,
    /// The API keys as they are now.
    pub callers: &'a Directory,
    /// Checks credentials, and knows of what new ones are made.
    pub authenticator: &'a Authenticator,
    /// How often an API key may ask that has no rate of its own, if that is limited.
    pub default_rate: Option<Rate>,
    /// The text of an API key that was drawn for the change that this handler asked for.
    pub kept: &'a mut Option<Zeroizing<String>>,
    /// The worker's tools.
    pub tools: &'a mut Tools,
    /// The last audit lines.
    pub recent: &'a Recent,
    /// The segment of the path below which clients of Vault find the engine; empty if they are not served.
    pub mount: &'a str,
    /// What was counted.
    pub metrics: &'a dyn Source,
    /// The state of the server.
    pub health: &'a Health,
    /// What the lock-down reached.
    pub posture: &'a Posture,
    /// What the process finds when it looks at itself.
    pub board: &'a Board,
    /// This turn's time.
    pub now: Moment,
    /// This turn's civil time.
    pub wall: WallTime,
    /// Whether the page for people is served.
    pub console: bool,
    /// The result of the change that this handler asked for.
    pub committed: Option<Result<Outcome, ChangeError>>,
    /// What the audit line will say.
    pub subject: &'a mut Subject,
}

impl core::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Call").field("arrival", &self.arrival.id).finish_non_exhaustive()
    }
}

impl<'a> Call<'a> {
    /// What the body is said to be.
    #[must_use]
    pub fn content_type(&self) -> ContentType {
        ContentType::parse(self.arrival.head.content_type(self.arrival.bytes))
    }

    /// Resolves needless escapes in a JSON body, so that its texts can be worked on where they stand.
    pub fn resolve_escapes(&mut self) {
        escapes::resolve(self.body);
    }

    /// The query, whose parameters must all be among `known`.
    ///
    /// # Errors
    /// [`Rejection`] for a malformed query and for a parameter that is not known: a misspelt one must not be
    /// ignored, since it may have been meant to bind the data.
    pub fn query(&self, known: &[&str]) -> Result<Query<'a>, Rejection> {
        let query = Query::parse(self.arrival.head.query(self.arrival.bytes).unwrap_or_default())?;
        let is_known =
            |name: &crate::http::query::Text<'_>| known.iter().any(|known| name.is(known.as_bytes()));
        if query.pairs().all(|(name, _)| is_known(&name)) {
            return Ok(query);
        }
        let detail = match known {
            [] => "This route takes no query parameters.".to_owned(),
            known => format!("A query parameter is not known here. Known are: {}.", known.join(", ")),
        };
        Err(Rejection::Described { status: Status::BadRequest, code: "unknown_parameter", detail })
    }

    /// The query, whatever stands in it.
    ///
    /// # Errors
    /// [`Rejection`] for a malformed query.
    pub fn anything_asked(&self) -> Result<Query<'a>, Rejection> {
        Ok(Query::parse(self.arrival.head.query(self.arrival.bytes).unwrap_or_default())?)
    }

    /// Whether who asks may do what `permission` names with the key of this name, beside what the route demands.
    ///
    /// # Errors
    /// 403
    pub fn demand(&self, permission: Permission, name: &str) -> Result<(), Rejection> {
        self.sight().demand(permission, name)
    }

    /// Whether who asks may do what the route demands with the key of this name, which may not exist. The audit line will
    /// say which it was.
    ///
    /// # Errors
    /// 403
    pub fn allow(&mut self, name: &str) -> Result<(), Rejection> {
        self.sight().allow(self.subject, name)
    }

    /// What of the keys who asks may see.
    #[must_use]
    pub fn sight(&self) -> Sight<'a> {
        Sight { ring: self.ring, authority: self.authority, permission: self.permission }
    }

    /// What became of the change of a key that this handler asked for; nothing if it has not asked yet.
    ///
    /// # Errors
    /// Why it was not made.
    pub fn changed_key(&mut self) -> Result<Option<keyring::Outcome>, Rejection> {
        match self.committed.take().transpose()? {
            None => Ok(None),
            Some(Outcome::Key(outcome)) => Ok(Some(outcome)),
            Some(Outcome::Caller(_)) => Err(ChangeError::Unavailable.into()),
        }
    }

    /// What became of the change of an API key that this handler asked for; nothing if it has not asked yet.
    ///
    /// # Errors
    /// Why it was not made.
    pub fn changed_caller(&mut self) -> Result<Option<CallerOutcome>, Rejection> {
        match self.committed.take().transpose()? {
            None => Ok(None),
            Some(Outcome::Caller(outcome)) => Ok(Some(outcome)),
            Some(Outcome::Key(_)) => Err(ChangeError::Unavailable.into()),
        }
    }

    /// The key of this name.
    ///
    /// # Errors
    /// 403 if who asks may not use a key of that name, be there one or not; 404 if there is none.
    pub fn key(&mut self, name: &str) -> Result<&'a Arc<Key>, Rejection> {
        self.sight().key(self.subject, name)
    }
}

/// The keys, as far as who asks may do with them what the route demands.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    ring: &'a Ring,
    authority: Option<Authority<'a>>,
    permission: Option<Permission>,
}

impl<'a> Sight<'a> {
    /// The key of this name; the audit line will say which it was.
    ///
    /// # Errors
    /// 403 if who asks may not use a key of that name, be there one or not; 404 if there is none.
    pub fn key(&self, subject: &mut Subject, name: &str) -> Result<&'a Arc<Key>, Rejection> {
        self.allow(subject, name)?;
        self.ring.get(name).ok_or(Rejection::Fault(UNKNOWN_KEY))
    }

    /// Whether who asks may do what the route demands with a key of this name.
    #[must_use]
    pub fn allows(&self, name: &str) -> bool {
        // A route without a permission looks at no key.
        self.permission.is_none_or(|permission| self.may(permission, name))
    }

    /// Whether who asks may do what the route demands with a key of this name, which may not exist. The audit line will say
    /// which it was.
    ///
    /// # Errors
    /// 403
    pub fn allow(&self, subject: &mut Subject, name: &str) -> Result<(), Rejection> {
        subject.note_key(name);
        if self.allows(name) { Ok(()) } else { Err(FORBIDDEN.into()) }
    }

    fn demand(&self, permission: Permission, name: &str) -> Result<(), Rejection> {
        if self.may(permission, name) { Ok(()) } else { Err(FORBIDDEN.into()) }
    }

    fn may(&self, permission: Permission, name: &str) -> bool {
        self.authority.is_some_and(|authority| authority.may_key(permission, name))
    }
}

/// Writes a whole reply of JSON.
///
/// # Errors
/// 413 if it is longer than any reply, [`Rejection::Overloaded`] if it finds no room now.
pub fn reply_json(responder: &mut Responder<'_>, status: Status, value: &impl Serialize) -> Answer {
    form::reply(responder, status, ReplyForm::Json, &[], &form::Json(value))
}

/// What comes next.
#[derive(Debug)]
pub enum Verdict {
    /// The reply is written.
    Done,
    /// The keeper must make this change first; then the handler is called again.
    Commit(Change),
}

impl From<keyring::Change> for Verdict {
    fn from(change: keyring::Change) -> Self {
        Self::Commit(change.into())
    }
}

impl From<CallerChange> for Verdict {
    fn from(change: CallerChange) -> Self {
        Self::Commit(change.into())
    }
}

/// Why a handler wrote no reply.
#[derive(Debug)]
pub enum Rejection {
    /// A reason with a fixed text.
    Fault(Fault<'static>),
    /// A reason whose text depends on the request. It never holds what the caller sent as data.
    Described {
        /// The status.
        status: Status,
        /// The stable name of the reason.
        code: &'static str,
        /// What went wrong and what to do.
        detail: String,
    },
    /// Who asked is not recognised, or not any more. The reply does not say why.
    Unrecognised(Refused),
    /// The memory for requests is in use.
    Overloaded,
}

impl Rejection {
    /// The stable name of the reason.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.code,
            Self::Described { code, .. } => code,
            Self::Unrecognised(refused) => refused.code,
            Self::Overloaded => OVERLOADED.code,
        }
    }

    /// What went wrong, for people.
    #[must_use]
    pub fn detail(&self) -> &str {
        match self {
            Self::Fault(fault) => fault.detail,
            Self::Described { detail, .. } => detail,
            Self::Unrecognised(_) => UNRECOGNISED.detail,
            Self::Overloaded => OVERLOADED.detail,
        }
    }

    /// Writes the reply.
    pub fn write(&self, responder: &mut Responder<'_>) {
        match self {
            // Whoever repeats a change by itself must not be asked to where it was made, or may have been.
            Self::Fault(fault) if fault.status == Status::ServiceUnavailable && !fault.is_of_a_change() => {
                responder.fault(fault, &[("Retry-After", b"1")]);
            }
            Self::Fault(fault) if fault.code == FORBIDDEN.code => {
                responder.fault(fault, &[("WWW-Authenticate", b"Bearer error=\"insufficient_scope\"")]);
            }
            Self::Unrecognised(_) => responder.fault(&UNRECOGNISED, UNRECOGNISED_CHALLENGE),
            Self::Fault(fault) => responder.fault(fault, &[]),
            Self::Described { status, code, detail } => {
                responder.fault(&Fault::new(*status, code, detail), &[]);
            }
            Self::Overloaded => responder.overloaded(),
        }
    }
}

impl From<Fault<'static>> for Rejection {
    fn from(fault: Fault<'static>) -> Self {
        Self::Fault(fault)
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        Self::Fault(refusal.into())
    }
}

impl From<Exhausted> for Rejection {
    fn from(_: Exhausted) -> Self {
        Self::Overloaded
    }
}

impl From<ChangeError> for Rejection {
    fn from(error: ChangeError) -> Self {
        let (status, code, detail) = match error {
            ChangeError::Key(error) => return error.into(),
            ChangeError::Caller(error) => return error.into(),
            ChangeError::Unavailable => (
                Status::ServiceUnavailable,
                "changes_unavailable",
                "The server cannot make changes now. Try again shortly.",
            ),
            ChangeError::StoreFailed => (
                Status::ServiceUnavailable,
                "store_unavailable",
                "The change could not be written down and was not made. Try again shortly.",
            ),
            ChangeError::StoreFull => (
                Status::InsufficientStorage,
                "store_full",
                "The disk under the store is full: the change was not made. What exists can still be used.",
            ),
            ChangeError::StoreRefuses => (
                Status::ServiceUnavailable,
                "store_refuses",
                "An earlier change could not be synced to the disk, or the journal there is not what was written: the server's log says which. No changes are made until the server is restarted.",
            ),
            ChangeError::Ambiguous => (
                Status::ServiceUnavailable,
                "store_ambiguous",
                "The change could not be synced to the disk. Whether it outlives a restart is not known.",
            ),
        };
        Self::Fault(Fault::new(status, code, detail))
    }
}

impl From<keyring::ChangeError> for Rejection {
    fn from(error: keyring::ChangeError) -> Self {
        use keyring::ChangeError;
        let (status, code, detail) = match error {
            ChangeError::Unknown => return UNKNOWN_KEY.into(),
            ChangeError::Entropy => return NO_ENTROPY.into(),
            ChangeError::Exists => {
                (Status::Conflict, "key_exists", "A key of that name exists with other options.")
            }
            ChangeError::Deleted => (
                Status::Conflict,
                "key_deleted",
                "The key is deleted. POST /api/keys/{name}/undelete brings it back while its restore window is open.",
            ),
            ChangeError::NotDeleted => (Status::Conflict, "key_not_deleted", "The key is not deleted."),
            ChangeError::DeletionNotAllowed => (
                Status::Conflict,
                "deletion_not_allowed",
                "The key is guarded. PATCH /api/keys/{name} with {\"deletion_allowed\": true} lifts the guard.",
            ),
            ChangeError::UnknownVersion => {
                (Status::BadRequest, "unknown_key_version", "The key has no version of this number.")
            }
            ChangeError::StateNotAllowed => (
                Status::Conflict,
                "version_state_not_allowed",
                "A destroyed version stays destroyed, and an imported version with 96-bit nonces seals nothing.",
            ),
            ChangeError::PolicyNotAllowed => (
                Status::BadRequest,
                "policy_not_allowed",
                "The version bounds must name versions that the key has, the one for encryption not below the other; at most 4096 versions are kept, and a period has at most a hundred years.",
            ),
            ChangeError::MaterialNotAllowed => (
                Status::BadRequest,
                "material_not_allowed",
                "Keys that encrypt have 32 bytes, HMAC keys 16 to 512; only keys that encrypt can be derived.",
            ),
            ChangeError::RingFull => {
                (Status::Conflict, "key_ring_full", "The key ring holds as many keys as it may.")
            }
            ChangeError::VersionsFull => {
                (Status::Conflict, "key_versions_full", "The key has as many versions as it may have.")
            }
        };
        Self::Fault(Fault::new(status, code, detail))
    }
}

impl From<CallerError> for Rejection {
    fn from(error: CallerError) -> Self {
        use CallerError as ChangeError;
        let (status, code, detail) = match error {
            ChangeError::NotCovered => return FORBIDDEN.into(),
            ChangeError::Unknown => {
                (Status::NotFound, "unknown_api_key", "There is no API key of this identifier.")
            }
            ChangeError::Exists => {
                (Status::Conflict, "api_key_exists", "An API key has this identifier already. Try again.")
            }
            ChangeError::LastAdmin => (
                Status::Conflict,
                "last_admin_key",
                "This is the last API key with the scope admin. Make another one first.",
            ),
            ChangeError::Active => {
                (Status::Conflict, "api_key_active", "The API key is valid. Revoke it first.")
            }
            ChangeError::Revoked => (Status::Conflict, "api_key_revoked", "The API key is revoked."),
            ChangeError::Terms => (
                Status::BadRequest,
                "api_key_terms",
                "Name, description, rate, networks, identities or overlap are out of their bounds, or the expiry has passed.",
            ),
            ChangeError::Full => (
                Status::Conflict,
                "api_keys_full",
                "There are as many API keys as there may be. Delete some that are revoked.",
            ),
            ChangeError::Outdated => {
                (Status::Conflict, "api_key_outdated", "The secret was changed meanwhile. Try again.")
            }
            ChangeError::IdentityTaken => (
                Status::Conflict,
                "identity_taken",
                "Another API key has one of the identities. Take it away from that one first.",
            ),
        };
        Self::Fault(Fault::new(status, code, detail))
    }
}

/// What a handler gives.
pub type Answer = Result<Verdict, Rejection>;

/// Serves one route.
pub type Handler = fn(&mut Call<'_>, &mut Responder<'_>) -> Answer;

/// Nobody was recognised by what was presented, whatever the reason.
pub const UNRECOGNISED: Fault<'static> =
    Fault::new(Status::Unauthorized, "credential_invalid", "The credential is not valid.");

/// The field that goes with [`UNRECOGNISED`] (RFC 6750, section 3).
pub const UNRECOGNISED_CHALLENGE: &[(&str, &[u8])] =
    &[("WWW-Authenticate", b"Bearer error=\"invalid_token\"")];

/// The credential does not allow what was asked.
pub const FORBIDDEN: Fault<'static> =
    Fault::new(Status::Forbidden, "insufficient_scope", "The credential does not allow this.");

/// There is no such path.
pub const NOT_FOUND: Fault<'static> = Fault::new(
    Status::NotFound,
    "not_found",
    "There is no such path. GET /api/health shows that the server is there.",
);

/// No key of that name exists.
pub const UNKNOWN_KEY: Fault<'static> = Fault::new(
    Status::NotFound,
    "unknown_key",
    "There is no key of that name. POST /api/keys with {\"name\": ...} makes one.",
);

/// The random source failed: nothing that needs a nonce or a key can be done.
pub const NO_ENTROPY: Fault<'static> = Fault::new(
    Status::ServiceUnavailable,
    "entropy_unavailable",
    "The system gave no random bytes. Nothing was encrypted. Try again shortly.",
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_repeats_by_himself_is_not_asked_to_where_a_change_was_made() {
        let of = |error: ChangeError| match Rejection::from(error) {
            Rejection::Fault(fault) => fault.is_of_a_change(),
            other => panic!("{other:?}"),
        };
        assert!(of(ChangeError::Ambiguous));
        assert!(
            !of(ChangeError::StoreFailed) && !of(ChangeError::Unavailable) && !of(ChangeError::StoreRefuses)
        );
    }

    #[test]
    fn only_what_could_name_a_key_is_noted() {
        let mut subject = Subject::default();
        subject.note_key("orders");
        assert_eq!(subject.key, "orders");
        // The 128th byte is no boundary of characters.
        for name in ["", "a/b", &format!("a{}", "\u{e9}".repeat(100_000)), &"k".repeat(129)] {
            subject.note_key(name);
            assert_eq!((subject.key.as_str(), subject.key.capacity() < 1_000), ("", true));
        }
    }
}
