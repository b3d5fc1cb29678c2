//! Key derivation: HKDF-SHA256 (RFC 5869).
//!
//! Owns the two ways in which keys are derived: into a [`Secret`], or into bytes of the caller. Invariant: what
//! the derivation leaves on its stack is wiped.

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

    #[test]
    fn outputs_end_at_255_blocks_and_a_refused_one_is_cleared() {
        let mut longest = vec![0u8; limits::KDF_OUTPUT_MAX_BYTES];
        assert_eq!(derive(b"", b"ikm", &[], &mut longest), Ok(()));
        let mut longer = vec![7u8; limits::KDF_OUTPUT_MAX_BYTES + 1];
        assert_eq!(derive(b"", b"ikm", &[], &mut longer), Err(Error::Length));
        assert!(longer.iter().all(|byte| *byte == 0));
    }
}
