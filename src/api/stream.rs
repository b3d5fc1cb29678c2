//! `POST /api/stream/encrypt` and `POST /api/stream/decrypt`: bodies of any length.
//!
//! Owns what the two take in their queries, and the choice of key and version. Invariants: everything that can be
//! refused by the head alone is refused before a byte of the body is asked for; context and associated data are part of
//! what the stream's key is derived from; whoever cannot open a stream learns one reason only.

use std::borrow::Cow;

use crate::api::payload::{DECRYPTION_FAILED, RAW_PARAMETERS, canonical_number};
use crate::api::{Call, NO_ENTROPY, Rejection, UNKNOWN_KEY};
use crate::crypto::stream::{Binding, HEADER_BYTES, Opener, SALT_BYTES, Sealer, header_version};
use crate::encoding::base64url_decode;
use crate::http::media::{ContentType, ReplyForm, negotiate};
use crate::http::query::{Query, Text};
use crate::http::responder::Fault;
use crate::http::status::Status;
use crate::keyring::key::KeyId;
use crate::keyring::{Key, KeyVersion, Ring};
use crate::limits::CONTEXT_MAX_BYTES;

/// The key or its version went out of use while the stream ran.
pub const KEY_REVOKED: Fault<'static> = Fault::new(
    Status::Conflict,
    "key_revoked",
    "The key or its version went out of use while the stream was on its way.",
);

const KEY_MISSING: Fault<'static> = Fault::new(
    Status::BadRequest,
    "key_parameter_missing",
    "A stream route takes the name of the key in its query: ?key=NAME.",
);
const JSON_STREAM: Fault<'static> = Fault::new(
    Status::BadRequest,
    "json_with_query_key",
    "The body of a stream route is the payload itself. Send it as application/octet-stream or without a type.",
);
const UNSUPPORTED_TYPE: Fault<'static> = Fault::new(
    Status::UnsupportedMediaType,
    "unsupported_media_type",
    "Send application/octet-stream or text/plain without a content coding, or no content type.",
);
const NOT_ACCEPTABLE: Fault<'static> =
    Fault::new(Status::NotAcceptable, "not_acceptable", "The reply can be application/octet-stream.");
const BAD_PARAMETER: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_parameter",
    "A query parameter is not of the form that this route takes.",
);
const BAD_ASSOCIATED_DATA: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_associated_data",
    "associated_data must be canonical base64url without padding, of at most 4096 bytes.",
);
const BAD_VERSION: Fault<'static> = Fault::new(
    Status::BadRequest,
    "unknown_key_version",
    "The key has no version of this number that encrypts.",
);
const NO_STREAMS: Fault<'static> =
    Fault::new(Status::BadRequest, "key_does_not_encrypt", "Keys of this type sign and do not encrypt.");
const CONTEXT_MISSING: Fault<'static> =
    Fault::new(Status::BadRequest, "context_missing", "A derived key is used with a context.");
const BAD_CONTEXT: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_context",
    "context must be canonical base64url without padding, of 1 to 1024 bytes.",
);
const CONTEXT_NOT_ALLOWED: Fault<'static> = Fault::new(
    Status::BadRequest,
    "context_not_allowed",
    "A context is only for derived keys, and this key is not one.",
);

/// Which way a stream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Plaintext in, sealed stream out.
    Encrypt,
    /// Sealed stream in, plaintext out.
    Decrypt,
}

/// The version that a stream uses, so that it can be looked up again while the stream runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse {
    key: KeyId,
    /// The number of the version.
    pub version: u32,
}

impl InUse {
    fn new(key: &Key, version: &KeyVersion) -> Self {
        Self { key: *key.id(), version: version.number() }
    }

    /// Whether the key of this name is still the same one and still does what the stream does.
    #[must_use]
    pub fn is_allowed(&self, ring: &Ring, name: &str, direction: Direction) -> bool {
        let key = ring.get(name).filter(|key| *key.id() == self.key);
        key.is_some_and(|key| match direction {
            Direction::Encrypt => key.sealing_version(Some(self.version)).is_ok(),
            Direction::Decrypt => key.opening_version(self.version).is_ok(),
        })
    }
}

/// A stream that can be sealed.
#[derive(Debug)]
pub struct Sealing {
    /// Seals its chunks.
    pub sealer: Sealer,
    /// What goes out first.
    pub header: [u8; HEADER_BYTES],
    /// With what.
    pub in_use: InUse,
}

/// What the query says.
struct Wanted<'a> {
    key: &'a Key,
    version: Option<u32>,
    context: Vec<u8>,
    /// How much of the scratch memory the associated data fills.
    associated_data: usize,
}

/// Begins to seal.
///
/// # Errors
/// [`Rejection`]
pub fn seal(call: &mut Call<'_>) -> Result<Sealing, Rejection> {
    let wanted = read(call, &RAW_PARAMETERS)?;
    let version = wanted.key.sealing_version(wanted.version).map_err(|_| BAD_VERSION)?;
    call.subject.version = Some(version.number());
    let salt = call.tools.random.array::<SALT_BYTES>(call.now);
    call.tools.entropy = salt.is_ok();
    let salt = salt.map_err(|_| NO_ENTROPY)?;
    let binding = binding(call, &wanted);
    let begun = version.with_sub_key(|sub| Sealer::new(sub, version.number(), salt, binding));
    let (sealer, header) = begun.ok_or(NO_STREAMS)?.map_err(|_| BAD_VERSION)?;
    version.uses().note(call.wall, 1);
    Ok(Sealing { sealer, header, in_use: InUse::new(wanted.key, version) })
}

/// Looks whether a stream can be opened, before there is any of it.
///
/// # Errors
/// [`Rejection`]
pub fn check_open(call: &mut Call<'_>) -> Result<(), Rejection> {
    read(call, OPENING_PARAMETERS).map(drop)
}

/// Begins to open the stream with this header. What [`check_open`] found may have changed since.
///
/// # Errors
/// [`Rejection`]; `decryption_failed` whatever is wrong with the header, the version, or what it is bound to.
pub fn open(call: &mut Call<'_>, header: &[u8; HEADER_BYTES]) -> Result<(Opener, InUse), Rejection> {
    let wanted = read(call, OPENING_PARAMETERS)?;
    let number = header_version(header).ok_or(DECRYPTION_FAILED)?;
    let version = wanted.key.opening_version(number).map_err(|_| DECRYPTION_FAILED)?;
    let binding = binding(call, &wanted);
    let begun = version.with_sub_key(|sub| Opener::new(sub, header, binding));
    let opener = begun.ok_or(NO_STREAMS)?.map_err(|_| DECRYPTION_FAILED)?;
    call.subject.version = Some(number);
    version.uses().note(call.wall, 1);
    Ok((opener, InUse::new(wanted.key, version)))
}

/// The version stands in the header of the stream and not in the query.
const OPENING_PARAMETERS: &[&str] = &["key", "associated_data", "context"];

fn binding<'a>(call: &'a Call<'_>, wanted: &'a Wanted<'_>) -> Binding<'a> {
    let associated_data = call.tools.scratch.get(..wanted.associated_data).unwrap_or_default();
    Binding { context: &wanted.context, associated_data }
}

/// Reads what the head says.
fn read<'a>(call: &mut Call<'a>, parameters: &[&str]) -> Result<Wanted<'a>, Rejection> {
    if call.arrival.head.coded_content {
        return Err(UNSUPPORTED_TYPE.into());
    }
    match call.content_type() {
        ContentType::Json => return Err(JSON_STREAM.into()),
        ContentType::Other => return Err(UNSUPPORTED_TYPE.into()),
        ContentType::None | ContentType::Octets | ContentType::Text | ContentType::Form => {}
    }
    let accept = call.arrival.head.accept(call.arrival.bytes);
    negotiate(accept, &[ReplyForm::Octets]).ok_or(NOT_ACCEPTABLE)?;
    let query = call.query(parameters)?;
    let name = query.find_unique("key")?.ok_or(KEY_MISSING)?.to_cow();
    let name = str::from_utf8(&name).map_err(|_| BAD_PARAMETER)?;
    call.subject.note_key(name);
    let key = call.ring.get(name).ok_or(UNKNOWN_KEY)?;
    if !key.kind().encrypts() {
        return Err(NO_STREAMS.into());
    }
    let version = match query.find_unique("key_version")? {
        None => None,
        Some(text) => Some(canonical_number(&text.to_cow()).ok_or(BAD_PARAMETER)?),
    };
    let associated_data = match query.find_unique("associated_data")? {
        None => 0,
        Some(text) => decode(text, call.tools.scratch.as_mut_slice()).ok_or(BAD_ASSOCIATED_DATA)?,
    };
    Ok(Wanted { key, version, context: read_context(query, key)?, associated_data })
}

fn read_context(query: Query<'_>, key: &Key) -> Result<Vec<u8>, Rejection> {
    match (query.find_unique("context")?, key.options().derived) {
        (None, false) => Ok(Vec::new()),
        (None, true) => Err(CONTEXT_MISSING.into()),
        (Some(_), false) => Err(CONTEXT_NOT_ALLOWED.into()),
        (Some(text), true) => {
            let mut context = vec![0; CONTEXT_MAX_BYTES];
            let len = decode(text, &mut context).filter(|len| *len > 0).ok_or(BAD_CONTEXT)?;
            context.truncate(len);
            Ok(context)
        }
    }
}

fn decode(text: Text<'_>, target: &mut [u8]) -> Option<usize> {
    let text: Cow<'_, [u8]> = text.to_cow();
    base64url_decode(&text, target)
}
