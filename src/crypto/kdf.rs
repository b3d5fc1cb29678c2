//! Key derivation: HKDF-SHA256 (RFC 5869).
//!
//! Owns the two ways in which keys are derived: into a [`Secret`], or into bytes of the caller; and what a key of
//! the derived kind is. Invariant: what the derivation leaves on its stack is wiped.

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{zeroize_bytes, zeroize_stack};

use super::Error;
use crate::limits;
use crate::secret::Secret;

/// Fills `okm` from `ikm`; `info` is the concatenation of its parts, an empty `salt` counts as none.
///
/// # Errors
/// [`Error::Length`] if `okm` is longer than [`limits::KDF_OUTPUT_MAX_BYTES`]; it is then all zeros.
pub fn derive(salt: &[u8], ikm: &[u8], info: &[&[u8]], okm: &mut [u8]) -> Result<(), Error> {
    let derived = if okm.len() > limits::KDF_OUTPUT_MAX_BYTES {
        Err(Error::Length)
    } else {
        fill(salt, ikm, info, okm)
    };
    if derived.is_err() {
        zeroize_bytes(okm);
    }
    // The pseudorandom key and the blocks of output pass through frames that `hkdf` does not wipe.
    zeroize_stack::<4096>();
    derived
}

/// Derives a secret of `N` bytes; see [`derive()`].
///
/// # Errors
/// [`Error::Length`] if `N` is greater than [`limits::KDF_OUTPUT_MAX_BYTES`].
pub fn derive_secret<const N: usize>(salt: &[u8], ikm: &[u8], info: &[&[u8]]) -> Result<Secret<N>, Error> {
    Secret::try_fill(|okm| derive(salt, ikm, info, okm))
}

/// The AEAD key of a derived key for `context`, under the version's `enc` key.
///
/// HKDF-SHA256 without salt, `info` the context and nothing else, 32 bytes: as Vault and OpenBao do for keys made
/// with `derived`. Callers choose the context freely, so that nothing else may ever be derived from `enc`.
///
/// # Errors
/// None for any context; the type is that of [`derive()`].
pub fn derived_key(enc: &[u8; 32], context: &[u8]) -> Result<Secret<32>, Error> {
    derive_secret(&[], enc, &[context])
}

#[inline(never)]
fn fill(salt: &[u8], ikm: &[u8], info: &[&[u8]], okm: &mut [u8]) -> Result<(), Error> {
    Hkdf::<Sha256>::new(Some(salt), ikm).expand_multi_info(info, okm).map_err(|_| Error::Length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5869 test case 3: neither salt nor info.
    #[test]
    fn rfc_5869_without_salt_and_info_comes_out() {
        let mut okm = [0u8; 42];
        derive(&[], &[0x0b; 22], &[], &mut okm).unwrap();
        let shown: String = okm.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            shown,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
        );
    }

    #[test]
    fn info_parts_are_concatenated() {
        let whole: Secret<32> = derive_secret(b"salt", b"ikm", &[b"label\0context"]).unwrap();
        let parts: Secret<32> = derive_secret(b"salt", b"ikm", &[b"label", &[0], b"context"]).unwrap();
        let other: Secret<32> = derive_secret(b"salt", b"ikm", &[b"label", b"context"]).unwrap();
        parts.with(|bytes| {
            assert!(whole.matches(bytes));
            assert!(!other.matches(bytes));
        });
    }

    /// Another label, length or salt would be another key than Vault's.
    #[test]
    fn a_derived_key_is_hkdf_over_the_context_alone() {
        let derived = derived_key(&[0x0b; 32], b"tenant 7").unwrap();
        let mut expected = [0; 32];
        derive(&[], &[0x0b; 32], &[b"tenant 7"], &mut expected).unwrap();
        assert!(derived.matches(&expected));
        let other = derived_key(&[0x0b; 32], b"tenant 8").unwrap();
        assert!(!other.matches(&expected));
    }

    #[test]
    fn outputs_end_at_255_blocks_and_a_refused_one_is_cleared() {
        let mut longest = vec![0u8; limits::KDF_OUTPUT_MAX_BYTES];
        assert_eq!(derive(b"", b"ikm", &[], &mut longest), Ok(()));
        let mut longer = vec![7u8; limits::KDF_OUTPUT_MAX_BYTES + 1];
        assert_eq!(derive(b"", b"ikm", &[], &mut longer), Err(Error::Length));
        assert!(longer.iter().all(|byte| *byte == 0));
    }
}
