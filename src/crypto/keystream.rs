//! The keystream: bytes that whoever may use the key can make again from a nonce.
//!
//! Owns the derivation of the keystream key and the drawing of XChaCha20 (draft-irtf-cfrg-xchacha-03, section
//! 2.3) from counter 0. Invariants: the key is derived under a label of its own, so that no keystream given out
//! is ever that of a ciphertext or of a stream; the length is bounded, so that the block counter never comes
//! near its end; keys and what is drawn beyond the asked length are wiped; nothing allocates.

use zeroize::zeroize_bytes;

use super::aead::{self, KEY_BYTES};
use super::cipher::{self, Cipher, GROUP_BYTES};
use super::{Error, kdf};
use crate::limits;

/// Length of the nonce.
pub const NONCE_BYTES: usize = 24;

const LABEL: &[u8] = b"quantonium/keystream/v1\0";

const _: () = assert!(
    limits::KEYSTREAM_MAX_BYTES.div_ceil(GROUP_BYTES) * 4 <= u32::MAX as usize,
    "the counter of blocks has 32 bits"
);

/// Fills `target` with the keystream of `nonce` under the `sub` key of `version` and `context`.
///
/// The same five arguments give the same bytes; a shorter `target` gets the front of a longer one's.
///
/// # Errors
/// [`Error::Version`] for version 0, which no key has; [`Error::Length`] if `target` is longer than
/// [`limits::KEYSTREAM_MAX_BYTES`] or the context has 2^32 bytes or more. `target` is then all zeros.
pub fn fill(
    sub: &[u8; KEY_BYTES],
    version: u32,
    context: &[u8],
    nonce: &[u8; NONCE_BYTES],
    target: &mut [u8],
) -> Result<(), Error> {
    let mut key = [0; KEY_BYTES];
    let filled =
        derive(sub, version, context, target.len(), &mut key).and_then(|()| xchacha20(&key, nonce, target));
    zeroize_bytes(&mut key);
    if filled.is_err() {
        zeroize_bytes(target);
    }
    filled
}

/// Checks the arguments and derives the keystream key.
fn derive(
    sub: &[u8; KEY_BYTES],
    version: u32,
    context: &[u8],
    len: usize,
    key: &mut [u8; KEY_BYTES],
) -> Result<(), Error> {
    if version == 0 {
        return Err(Error::Version);
    }
    if len > limits::KEYSTREAM_MAX_BYTES {
        return Err(Error::Length);
    }
    let context_len = u32::try_from(context.len()).map_err(|_| Error::Length)?.to_be_bytes();
    kdf::derive(&[], sub, &[LABEL, &version.to_be_bytes(), &context_len, context], key)
}

/// The keystream of XChaCha20 from counter 0.
#[inline(never)]
fn xchacha20(key: &[u8; KEY_BYTES], nonce: &[u8; NONCE_BYTES], target: &mut [u8]) -> Result<(), Error> {
    let backend = cipher::Backend::fastest();
    let mut subkey = [0; KEY_BYTES];
    let scheduled = aead::extend_nonce(key, nonce, &mut subkey);
    if let Ok(nonce) = &scheduled {
        let mut cipher = Cipher::new(backend, &subkey, nonce);
        let (groups, end) = target.as_chunks_mut();
        cipher.draw(groups);
        if !end.is_empty() {
            let mut group = [0; GROUP_BYTES];
            cipher.draw(core::slice::from_mut(&mut group));
            end.copy_from_slice(group.split_at(end.len()).0);
            zeroize_bytes(&mut group);
        }
    }
    zeroize_bytes(&mut subkey);
    // Frames of the cipher may have spilled keystream or key, as in `aead`.
    backend.wipe_frames();
    scheduled.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUB: [u8; 32] = [0x42; 32];
    const NONCE: [u8; 24] = [0x17; 24];

    /// draft-irtf-cfrg-xchacha-03 appendix A.2, which counts blocks from 1: what follows our first block.
    #[test]
    fn the_published_keystream_comes_out() {
        let key: [u8; 32] = core::array::from_fn(|at| 0x80 + u8::try_from(at).unwrap());
        let mut nonce: [u8; 24] = core::array::from_fn(|at| 0x40 + u8::try_from(at).unwrap());
        nonce[23] = 0x58;
        let published = "29624b4b1b140ace53740e405b2168540fd7d630c1f536fecd722fc3cddba7f4\
                         cca98cf9e47e5e64d115450f9b125b54449ff76141ca620a1f9cfcab2a1a8a25\
                         5e766a5266b878846120ea64ad99aa479471e63befcbd37cd1c22a221fe46221\
                         5cf32c74895bf505863ccddd48f62916dc6521f1ec50a5ae08903aa259d9bf60\
                         7cd8026fba548604f1b6072d91bc91243a5b845f7fd171b02edc5a0a84cf28dd\
                         241146bc376e3f48df5e7fee1d11048c190a3d3deb0feb64b42d9c6fdeee290f\
                         a0e6ae2c26c0249ea8c181f7e2ffd100cbe5fd3c4f8271d62b15330cb8fdcf00\
                         b3df507ca8c924f7017b7e712d15a2eb5c50484451e54e1b4b995bd8fdd94597\
                         bb94d7af0b2c04df10ba0890899ed9293a0f55b8bafa999264035f1d4fbe7fe0\
                         aafa109a62372027e50e10cdfecca127";
        let mut drawn = [0; 64 + 304];
        xchacha20(&key, &nonce, &mut drawn).unwrap();
        let shown: String = drawn[64..].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, published);
    }

    #[test]
    fn what_stood_in_the_target_does_not_matter() {
        let mut zeros = [0; 3_000];
        let mut others = [0xEE; 3_000];
        fill(&SUB, 1, b"", &NONCE, &mut zeros).unwrap();
        fill(&SUB, 1, b"", &NONCE, &mut others).unwrap();
        assert_eq!(zeros, others);
        assert_ne!(zeros, [0; 3_000]);
    }

    #[test]
    fn a_shorter_target_gets_the_front_of_a_longer_ones() {
        let mut longest = vec![0; 5_000];
        fill(&SUB, 1, b"", &NONCE, &mut longest).unwrap();
        for len in (0..200).chain([1_023, 1_024, 1_025, 2_048, 4_999]) {
            let mut shorter = vec![0; len];
            fill(&SUB, 1, b"", &NONCE, &mut shorter).unwrap();
            assert_eq!(shorter, longest[..len], "{len}");
        }
    }

    #[test]
    fn every_argument_matters() {
        let drawn = |sub: &[u8; 32], version, context: &[u8], nonce: &[u8; 24]| {
            let mut target = [0; 32];
            fill(sub, version, context, nonce, &mut target).unwrap();
            target
        };
        let base = drawn(&SUB, 1, b"a", &NONCE);
        let mut nonces = [NONCE; 24];
        for (at, nonce) in nonces.iter_mut().enumerate() {
            nonce[at] ^= 1;
            assert_ne!(drawn(&SUB, 1, b"a", nonce), base, "byte {at} of the nonce");
        }
        for other in [
            drawn(&[0x43; 32], 1, b"a", &NONCE),
            drawn(&SUB, 2, b"a", &NONCE),
            drawn(&SUB, 1, b"", &NONCE),
            drawn(&SUB, 1, b"a\0", &NONCE),
        ] {
            assert_ne!(other, base);
        }
    }

    #[test]
    fn lengths_beyond_the_bound_and_version_zero_are_refused_and_cleared() {
        let mut longest = vec![1; limits::KEYSTREAM_MAX_BYTES];
        assert_eq!(fill(&SUB, 1, b"", &NONCE, &mut longest), Ok(()));
        let mut longer = vec![1; limits::KEYSTREAM_MAX_BYTES + 1];
        assert_eq!(fill(&SUB, 1, b"", &NONCE, &mut longer), Err(Error::Length));
        assert!(longer.iter().all(|byte| *byte == 0));
        let mut none = [1; 40];
        assert_eq!(fill(&SUB, 0, b"", &NONCE, &mut none), Err(Error::Version));
        assert_eq!(none, [0; 40]);
    }
}
