//! Sealing, opening and signing with the versions of a key, under its rules.
//!
//! Owns [`Bench`] and what may be said when a version cannot be used. Invariants: everything happens in place; a failed
//! open has one code, whatever the cryptographic reason; what the policy forbids is no secret and is named; uses of a
//! version with 96-bit nonces are counted before they happen; whatever succeeded is counted once.

use zeroize::Zeroize as _;

use crate::api::binding::Binding;
use crate::api::{Rejection, Tools};
use crate::clock::{Moment, WallTime};
use crate::crypto::aead::{self, Algorithm, TAG_BYTES};
use crate::crypto::envelope;
use crate::crypto::hash::Algorithm as Hash;
use crate::crypto::mac::Tag;
use crate::crypto::signature::Presented;
use crate::http::responder::Fault;
use crate::http::status::Status;
use crate::keyring::{Change, Key, KeyVersion, SealRefusal, UseError};
use crate::limits::{NONCE_MAX_BYTES, PLAINTEXT_MAX_BYTES};
use crate::model::{KeyType, VersionState};

/// One answer to every ciphertext that does not open.
pub const DECRYPTION_FAILED: Fault<'static> = Fault::new(
    Status::BadRequest,
    "decryption_failed",
    "The ciphertext could not be decrypted under this key with this associated data.",
);

const UNKNOWN_VERSION: Fault<'static> =
    Fault::new(Status::BadRequest, "unknown_key_version", "The key has no version of this number.");
const TOO_OLD: Fault<'static> = Fault::new(
    Status::Conflict,
    "key_version_too_old",
    "The policy of the key forbids versions as old as this: see its version bounds.",
);
const WORN_OUT: Fault<'static> = Fault::new(
    Status::Conflict,
    "key_version_worn_out",
    "This version has been used as often as its nonces allow. Encrypt with the latest version.",
);
const TOO_LARGE: Fault<'static> =
    Fault::new(Status::ContentTooLarge, "plaintext_too_large", "A plaintext may have at most 1048576 bytes.");
const INPUT_TOO_LARGE: Fault<'static> =
    Fault::new(Status::ContentTooLarge, "input_too_large", "An input may have at most 1048576 bytes.");
const WRONG_TYPE: Fault<'static> = Fault::new(
    Status::BadRequest,
    "key_type_not_allowed",
    "The key is one that only signs: it serves POST /api/sign and POST /api/verify.",
);

/// Refuses keys that only sign.
///
/// # Errors
/// 400 for one of them.
pub fn require_encryption(key: &Key) -> Result<(), Rejection> {
    if key.kind().encrypts() { Ok(()) } else { Err(WRONG_TYPE.into()) }
}

/// Refuses an input that is too long to be hashed or signed.
///
/// # Errors
/// 413
pub fn check_input(input: &[u8]) -> Result<(), Rejection> {
    if input.len() > PLAINTEXT_MAX_BYTES { Err(INPUT_TOO_LARGE.into()) } else { Ok(()) }
}

/// The version to seal or sign with.
///
/// # Errors
/// 400 if the key has no such version, 409 if it may not be used for that.
pub fn sealing_version(key: &Key, wanted: Option<u32>) -> Result<&KeyVersion, Rejection> {
    key.sealing_version(wanted).map_err(|error| refusal(error).into())
}

/// The version to make a keystream again with.
///
/// # Errors
/// 400 if the key has no such version, 409 if it may not be used for that.
pub fn opening_version(key: &Key, wanted: Option<u32>) -> Result<&KeyVersion, Rejection> {
    let number = wanted.unwrap_or_else(|| key.latest_number());
    key.opening_version(number).map_err(|error| refusal(error).into())
}

/// What may be said of a version that cannot be used. Numbers, states and bounds are no secret.
fn refusal(error: UseError) -> Fault<'static> {
    let detail = match error {
        UseError::UnknownVersion => return UNKNOWN_VERSION,
        UseError::TooOld => return TOO_OLD,
        UseError::State(VersionState::Enabled | VersionState::DecryptOnly) => {
            "The version is decrypt-only: it opens and verifies, but neither seals nor signs."
        }
        UseError::State(VersionState::Disabled) => "The version is disabled.",
        UseError::State(VersionState::Destroyed) => {
            "The version is destroyed: its secrets are gone for good."
        }
    };
    Fault::new(Status::Conflict, "key_version_disabled", detail)
}

/// Counts seals before they happen; returns the change that must come first, if there is one.
///
/// # Errors
/// 409 for an older version that is worn out.
pub fn count_seals(key: &Key, version: &KeyVersion, seals: usize) -> Result<Option<Change>, Rejection> {
    if !key.kind().counts_seals() {
        return Ok(None);
    }
    // The name is copied only where a change needs it.
    let (name, number) = (|| key.name().clone(), version.number());
    match version.uses().count_seals(u64::try_from(seals).unwrap_or(u64::MAX)) {
        Ok(()) => Ok(None),
        Err(SealRefusal::NeedsBlock) => Ok(Some(Change::ReserveSeals { name: name(), version: number })),
        Err(SealRefusal::WornOut) if number == key.latest_number() => {
            Ok(Some(Change::Rotate { name: name(), only_if_latest: Some(number) }))
        }
        Err(SealRefusal::WornOut) => Err(WORN_OUT.into()),
    }
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

/// Where one key's work is done.
#[derive(Debug)]
pub struct Bench<'a> {
    /// The worker's tools.
    pub tools: &'a mut Tools,
    /// This turn's time.
    pub now: Moment,
    /// This turn's civil time.
    pub wall: WallTime,
    /// The key.
    pub key: &'a Key,
    /// The version that seals and signs, if that is asked for.
    pub sealing: Option<&'a KeyVersion>,
}

impl Bench<'_> {
    /// Seals `data` in place.
    ///
    /// # Errors
    /// 413 for a plaintext that is too long, 503 without random bytes, 400 for a wrong context.
    pub fn seal(&mut self, binding: Binding, data: &mut [u8]) -> Result<Seal, Rejection> {
        let version = self.sealing.ok_or(UNKNOWN_VERSION)?;
        if data.len() > PLAINTEXT_MAX_BYTES {
            return Err(TOO_LARGE.into());
        }
        let mut nonce = [0; NONCE_MAX_BYTES];
        let algorithm = algorithm(self.key.kind());
        if self.key.options().convergent {
            let context = binding.context(self.tools, self.key)?;
            let bound = binding.associated_data(self.tools);
            let nonce = nonce.get_mut(..algorithm.nonce_len()).unwrap_or_default();
            version.convergent_nonce(context, bound, data, nonce).ok_or(UNKNOWN_VERSION)?;
        } else {
            self.tools.draw(self.now, &mut nonce)?;
        }
        let mut seal = Seal { version: version.number(), algorithm, nonce, tag: [0; TAG_BYTES] };
        let aad = binding.associated_data(self.tools);
        let sealed =
            self.with_key(version, binding, |key| aead::seal(algorithm, key, seal.nonce(), aad, data))?;
        seal.tag = sealed.ok_or(UNKNOWN_VERSION)?.map_err(|_| Rejection::from(TOO_LARGE))?;
        version.uses().note(self.wall, 1);
        Ok(seal)
    }

    /// Opens nonce, ciphertext and tag in place and lends the plaintext.
    ///
    /// # Errors
    /// 400 `decryption_failed`, whatever the reason, and nothing of the plaintext remains; 400 for a context that is
    /// missing or not allowed.
    pub fn open<'b>(
        &self,
        version: u32,
        binding: Binding,
        body: &'b mut [u8],
    ) -> Result<&'b mut [u8], Rejection> {
        let version = self.key.opening_version(version).map_err(|_| DECRYPTION_FAILED)?;
        let algorithm = algorithm(self.key.kind());
        let aad = binding.associated_data(self.tools);
        let (nonce, data, tag) = envelope::split_body(algorithm, body).ok_or(DECRYPTION_FAILED)?;
        let opened =
            self.with_key(version, binding, |key| aead::open(algorithm, key, nonce, aad, data, tag))?;
        opened.ok_or(DECRYPTION_FAILED)?.map_err(|_| DECRYPTION_FAILED)?;
        let options = self.key.options();
        if options.convergent {
            // What others sealed under one nonce with different associated data may help a forger to move a plaintext from
            // one to the other; but to no other plaintext, and with no key that never was elsewhere.
            let elsewhere = version.is_imported() || options.exportable;
            let context = binding.context(self.tools, self.key)?;
            if !version.converges(context, aad, data, nonce, elsewhere) {
                data.zeroize();
                return Err(DECRYPTION_FAILED.into());
            }
        }
        version.uses().note(self.wall, 1);
        Ok(data)
    }

    /// Signs `message`, with the hash of the key's type if none is named; gives the number of the version too.
    ///
    /// # Errors
    /// 413 for a message that is too long.
    pub fn sign(&self, hash: Option<Hash>, message: &[u8]) -> Result<(u32, Tag), Rejection> {
        check_input(message)?;
        let version = self.sealing.ok_or(UNKNOWN_VERSION)?;
        let tag = self.tag(version, hash, message)?;
        version.uses().note(self.wall, 1);
        Ok((version.number(), tag))
    }

    /// Whether `presented` is the signature of `message` by this version. The comparison takes the same time whatever
    /// the bytes are.
    ///
    /// # Errors
    /// 413 for a message that is too long, 409 for a version that may not be used.
    pub fn verify(
        &self,
        hash: Option<Hash>,
        message: &[u8],
        version: u32,
        presented: &Presented,
    ) -> Result<bool, Rejection> {
        check_input(message)?;
        let version = match self.key.opening_version(version) {
            Ok(version) => version,
            Err(UseError::UnknownVersion) => return Ok(false),
            Err(other) => return Err(refusal(other).into()),
        };
        let tag = self.tag(version, hash, message)?;
        version.uses().note(self.wall, 1);
        Ok(tag.matches(presented.as_bytes()))
    }

    fn tag(&self, version: &KeyVersion, hash: Option<Hash>, message: &[u8]) -> Result<Tag, Rejection> {
        let tag = match hash {
            Some(hash) => version.sign_with(hash, message),
            None => version.sign(self.key.kind(), message),
        };
        tag.ok_or_else(|| UNKNOWN_VERSION.into())
    }

    /// Lends the AEAD key: the version's own, or the one that is derived for the context.
    fn with_key<R>(
        &self,
        version: &KeyVersion,
        binding: Binding,
        use_it: impl FnOnce(&[u8; aead::KEY_BYTES]) -> R,
    ) -> Result<Option<R>, Rejection> {
        let context = binding.context(self.tools, self.key)?;
        Ok(if self.key.options().derived {
            version.with_derived_key(context, use_it)
        } else {
            version.with_encryption_key(use_it)
        })
    }
}

/// A positive decimal number without sign or leading zeros.
#[must_use]
pub fn canonical_number(digits: &[u8]) -> Option<u32> {
    let canonical = !digits.starts_with(b"0") && digits.iter().all(u8::is_ascii_digit);
    str::from_utf8(digits).ok().filter(|_| canonical)?.parse().ok()
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
