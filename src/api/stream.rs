//! `POST /api/stream/encrypt` and `POST /api/stream/decrypt`: bodies of any length.
//!
//! Owns what the two take in their queries, and the choice of key and version. Invariants: everything that can be
//! refused by the head alone is refused before a byte of the body is asked for; context and associated data are part of
//! what the stream's key is derived from; whoever cannot open a stream learns one reason only.

use crate::api::binding::Binding;
use crate::api::payload::{self, DECRYPTION_FAILED};
use crate::api::{Call, NO_ENTROPY, Rejection, raw};
use crate::crypto::stream::{self, HEADER_BYTES, Opener, SALT_BYTES, Sealer, header_version};
use crate::http::media::{ContentType, ReplyForm, negotiate};
use crate::http::responder::Fault;
use crate::http::status::Status;
use crate::keyring::key::KeyId;
use crate::keyring::{Key, KeyVersion, Ring};

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
    binding: Binding,
}

impl Wanted<'_> {
    /// What the key of the stream is derived from.
    fn bound<'a>(&self, call: &'a Call<'_>) -> Result<stream::Binding<'a>, Rejection> {
        let context = self.binding.context(call.tools, self.key)?;
        Ok(stream::Binding { context, associated_data: self.binding.associated_data(call.tools) })
    }
}

/// Begins to seal.
///
/// # Errors
/// [`Rejection`]
pub fn seal(call: &mut Call<'_>) -> Result<Sealing, Rejection> {
    let wanted = read(call, SEALING_PARAMETERS)?;
    let version = payload::sealing_version(wanted.key, wanted.version)?;
    call.subject.version = Some(version.number());
    let salt = call.tools.random.array::<SALT_BYTES>(call.now);
    call.tools.entropy = salt.is_ok();
    let salt = salt.map_err(|_| NO_ENTROPY)?;
    let bound = wanted.bound(call)?;
    let begun = version.with_sub_key(|sub| Sealer::new(sub, version.number(), salt, bound));
    // A version that is enabled has its secrets, and its number and the context are within what the form can tell.
    let (sealer, header) = begun.and_then(Result::ok).ok_or(Rejection::Overloaded)?;
    version.uses().note(call.wall, 1);
    Ok(Sealing { sealer, header, in_use: InUse::new(wanted.key, version) })
}

/// Looks whether a stream can be opened, before there is any of it.
///
/// # Errors
/// [`Rejection`]
pub fn check_open(call: &mut Call<'_>) -> Result<(), Rejection> {
    read(call, OPENING_PARAMETERS)?.bound(call).map(drop)
}

/// Begins to open the stream with this header. What [`check_open`] found may have changed since.
///
/// # Errors
/// [`Rejection`]; `decryption_failed` whatever is wrong with the header, the version, or what it is bound to.
pub fn open(call: &mut Call<'_>, header: &[u8; HEADER_BYTES]) -> Result<(Opener, InUse), Rejection> {
    let wanted = read(call, OPENING_PARAMETERS)?;
    let number = header_version(header).ok_or(DECRYPTION_FAILED)?;
    let version = wanted.key.opening_version(number).map_err(|_| DECRYPTION_FAILED)?;
    let bound = wanted.bound(call)?;
    let begun = version.with_sub_key(|sub| Opener::new(sub, header, bound));
    let opener = begun.and_then(Result::ok).ok_or(DECRYPTION_FAILED)?;
    call.subject.version = Some(number);
    version.uses().note(call.wall, 1);
    Ok((opener, InUse::new(wanted.key, version)))
}

const SEALING_PARAMETERS: &[&str] = &["key", "associated_data", "context", "key_version"];
/// The version stands in the header of the stream and not in the query.
const OPENING_PARAMETERS: &[&str] = &["key", "associated_data", "context"];

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
    let name = raw::text(query, "key")?.ok_or(KEY_MISSING)?;
    let key = call.key(&name)?;
    payload::require_encryption(key)?;
    let version = raw::number(query, "key_version")?;
    let binding = Binding::from_query(call.tools, query)?;
    Ok(Wanted { key, version, binding })
}
