//! What encryption and decryption share: how a request brings its payload, its key and its associated data.
//!
//! Owns the choice between JSON and raw calls and the sealing and opening in place. Invariants: query `key` present
//! means raw, absent means JSON, and a content type that says otherwise is refused; associated data is decoded before
//! anything is touched; a failed open has one code, whatever the reason.

use std::borrow::Cow;

use crate::api::{Call, NO_ENTROPY, Rejection, Tools};
use crate::clock::Moment;
use crate::crypto::aead::{self, Algorithm, TAG_BYTES};
use crate::crypto::envelope;
use crate::encoding::{base64_decode, base64url_decode};
use crate::http::media::ContentType;
use crate::http::query::Query;
use crate::http::responder::Fault;
use crate::http::status::Status;
use crate::keyring::{Key, KeyVersion};
use crate::limits::{NONCE_MAX_BYTES, PLAINTEXT_MAX_BYTES};
use crate::model::KeyType;

/// The query parameters of a raw call.
pub const RAW_PARAMETERS: [&str; 4] = ["key", "associated_data", "context", "key_version"];

/// One answer to every ciphertext that does not open.
pub const DECRYPTION_FAILED: Fault<'static> = Fault::new(
    Status::BadRequest,
    "decryption_failed",
    "The ciphertext could not be decrypted under this key with this associated data.",
);

const MIXED_FORMS: Fault<'static> = Fault::new(
    Status::BadRequest,
    "json_with_query_key",
    "With ?key= the body is the payload itself. Drop the parameter to send JSON, or the JSON content type to send octets.",
);
const UNSUPPORTED_TYPE: Fault<'static> = Fault::new(
    Status::UnsupportedMediaType,
    "unsupported_media_type",
    "Send JSON, or add ?key=NAME and send application/octet-stream or text/plain.",
);
const BAD_ASSOCIATED_DATA: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_associated_data",
    "associated_data must be canonical base64 (in a query: base64url without padding) of at most 4096 bytes.",
);
const CONTEXT_NOT_ALLOWED: Fault<'static> = Fault::new(
    Status::BadRequest,
    "context_not_allowed",
    "A context is only for derived keys, and this key is not one.",
);
const BAD_VERSION: Fault<'static> =
    Fault::new(Status::BadRequest, "unknown_key_version", "The key has no version of this number.");
const BAD_PARAMETER: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_parameter",
    "A query parameter is not of the form that this route takes.",
);
const TOO_LARGE: Fault<'static> =
    Fault::new(Status::ContentTooLarge, "plaintext_too_large", "A plaintext may have at most 1048576 bytes.");

/// A raw call, by its query.
#[derive(Debug)]
pub struct Raw<'a> {
    /// The name of the key.
    pub key: Cow<'a, str>,
    /// The version that was asked for.
    pub version: Option<u32>,
    /// How much of the scratch memory the associated data fills.
    pub associated_data: usize,
}

/// Reads the query of a call. Nothing means that the call is JSON.
///
/// # Errors
/// [`Rejection`] if query and content type contradict each other, or a parameter is malformed.
pub fn read_raw<'a>(call: &mut Call<'a>) -> Result<Option<Raw<'a>>, Rejection> {
    if call.arrival.head.coded_content {
        return Err(UNSUPPORTED_TYPE.into());
    }
    let content_type = call.content_type();
    let query = call.query(&RAW_PARAMETERS)?;
    let Some(key) = query.find_unique("key")? else {
        if query.pairs().next().is_some() {
            return Err(BAD_PARAMETER.into());
        }
        let json = matches!(content_type, ContentType::Json | ContentType::None | ContentType::Form);
        return if json { Ok(None) } else { Err(UNSUPPORTED_TYPE.into()) };
    };
    match content_type {
        ContentType::Json => return Err(MIXED_FORMS.into()),
        ContentType::Other => return Err(UNSUPPORTED_TYPE.into()),
        ContentType::None | ContentType::Octets | ContentType::Text | ContentType::Form => {}
    }
    if query.find_unique("context")?.is_some() {
        return Err(CONTEXT_NOT_ALLOWED.into());
    }
    let key = match key.to_cow() {
        Cow::Borrowed(key) => str::from_utf8(key).ok().map(Cow::Borrowed),
        Cow::Owned(key) => String::from_utf8(key).ok().map(Cow::Owned),
    };
    let key = key.ok_or(BAD_PARAMETER)?;
    let version = read_version(query)?;
    let associated_data = match query.find_unique("associated_data")? {
        None => 0,
        Some(text) => {
            base64url_decode(&text.to_cow(), call.tools.scratch.as_mut_slice()).ok_or(BAD_ASSOCIATED_DATA)?
        }
    };
    Ok(Some(Raw { key, version, associated_data }))
}

fn read_version(query: Query<'_>) -> Result<Option<u32>, Rejection> {
    let Some(text) = query.find_unique("key_version")? else { return Ok(None) };
    canonical_number(&text.to_cow()).map(Some).ok_or_else(|| BAD_PARAMETER.into())
}

/// A positive decimal number without sign or leading zeros.
#[must_use]
pub fn canonical_number(digits: &[u8]) -> Option<u32> {
    let canonical = !digits.starts_with(b"0") && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| canonical)?.parse().ok()
}

/// Decodes the associated data of a JSON call into the scratch memory; returns its length.
///
/// # Errors
/// [`Rejection`] if it is not canonical base64 or too long.
pub fn read_associated_data(tools: &mut Tools, text: Option<&[u8]>) -> Result<usize, Rejection> {
    match text {
        None => Ok(0),
        Some(text) => {
            base64_decode(text, tools.scratch.as_mut_slice()).ok_or_else(|| BAD_ASSOCIATED_DATA.into())
        }
    }
}

/// Refuses a `context`: no key is derived yet.
///
/// # Errors
/// 400 if there is one.
pub fn refuse_context(present: bool) -> Result<(), Rejection> {
    if present { Err(CONTEXT_NOT_ALLOWED.into()) } else { Ok(()) }
}

/// The version to encrypt with.
///
/// # Errors
/// 400 if the key has no such version.
pub fn sealing_version(key: &Key, wanted: Option<u32>) -> Result<&KeyVersion, Rejection> {
    key.sealing_version(wanted).map_err(|_| BAD_VERSION.into())
}

/// The algorithm of a key's direct encryption.
#[must_use]
pub const fn algorithm(kind: KeyType) -> Algorithm {
    match kind {
        KeyType::ChaCha20Poly1305 => Algorithm::ChaCha20Poly1305,
        _ => Algorithm::XChaCha20Poly1305,
    }
}

/// What a seal adds to its ciphertext.
#[derive(Clone, Copy, Debug)]
pub struct Seal {
    /// The version that was used.
    pub version: u32,
    /// The algorithm, which says how long the nonce is.
    pub algorithm: Algorithm,
    nonce: [u8; NONCE_MAX_BYTES],
    /// The tag.
    pub tag: [u8; TAG_BYTES],
}

impl Seal {
    /// The nonce.
    #[must_use]
    pub fn nonce(&self) -> &[u8] {
        self.nonce.get(..self.algorithm.nonce_len()).unwrap_or_default()
    }
}

/// Seals `data` in place, with the first `associated_data` bytes of the scratch memory bound to it.
///
/// # Errors
/// 413 for a plaintext that is too long, 503 without random bytes.
pub fn seal(
    tools: &mut Tools,
    now: Moment,
    key: &Key,
    version: &KeyVersion,
    data: &mut [u8],
    associated_data: usize,
) -> Result<Seal, Rejection> {
    if data.len() > PLAINTEXT_MAX_BYTES {
        return Err(TOO_LARGE.into());
    }
    let algorithm = algorithm(key.kind());
    let drawn = tools.random.array::<NONCE_MAX_BYTES>(now);
    tools.entropy = drawn.is_ok();
    let nonce = drawn.map_err(|_| NO_ENTROPY)?;
    let mut seal = Seal { version: version.number(), algorithm, nonce, tag: [0; TAG_BYTES] };
    let aad = tools.scratch.get(..associated_data).unwrap_or_default();
    let sealed = version.with_encryption_key(|key| aead::seal(algorithm, key, seal.nonce(), aad, data));
    seal.tag = sealed.ok_or(BAD_VERSION)?.map_err(|_| Rejection::from(TOO_LARGE))?;
    Ok(seal)
}

/// Opens nonce, ciphertext and tag in place and lends the plaintext.
///
/// # Errors
/// 400 `decryption_failed`, whatever the reason; nothing of the plaintext remains.
pub fn open<'a>(
    tools: &Tools,
    key: &Key,
    version: u32,
    body: &'a mut [u8],
    associated_data: usize,
) -> Result<&'a [u8], Rejection> {
    let algorithm = algorithm(key.kind());
    let version = key.opening_version(version).map_err(|_| DECRYPTION_FAILED)?;
    let (nonce, data, tag) = envelope::split_body(algorithm, body).ok_or(DECRYPTION_FAILED)?;
    let aad = tools.scratch.get(..associated_data).unwrap_or_default();
    let opened = version.with_encryption_key(|key| aead::open(algorithm, key, nonce, aad, data, tag));
    opened.ok_or(DECRYPTION_FAILED)?.map_err(|_| DECRYPTION_FAILED)?;
    Ok(data)
}

/// Decimal digits of a key version, for replies.
#[derive(Clone, Copy, Debug)]
pub struct Digits {
    bytes: [u8; 10],
    first: usize,
}

impl Digits {
    /// The digits of `number`.
    #[must_use]
    pub fn of(number: u32) -> Self {
        let mut bytes = [b'0'; 10];
        let (mut rest, mut first) = (number, bytes.len());
        for (index, digit) in bytes.iter_mut().enumerate().rev() {
            *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            first = index;
            if rest == 0 {
                break;
            }
        }
        Self { bytes, first }
    }

    /// Their text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(self.first..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_one_form() {
        assert_eq!(canonical_number(b"120"), Some(120));
        for bad in [&b""[..], b"0", b"01", b"+1", b"-1", b"1 ", b"4294967296", b"\xff"] {
            assert_eq!(canonical_number(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn digits_are_those_of_the_number() {
        for number in [0, 7, 10, 4_294_967_295] {
            assert_eq!(Digits::of(number).as_bytes(), number.to_string().as_bytes());
        }
    }
}
