//! Secrets for which the region has no room: they lie on the heap under a keystream.
//!
//! Owns the wrapping key, which lies in the region and is made with it, and [`Masked`]. Invariants: no two have the same nonce; what is
//! unmasked stands in room that the caller wipes. This hides bytes from whoever reads the heap and not the region; it
//! authenticates nothing, since whoever writes to the heap has other ways.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

use chacha20::cipher::{KeyIvInit as _, StreamCipherCore as _};
use chacha20::variants::Ietf;
use chacha20::{ChaChaCore, R20};
use zeroize::{zeroize_bytes, zeroize_stack};

use super::region::Slot;
use super::slots::Share;
use crate::limits;

type Core = ChaChaCore<R20, Ietf>;
type StreamBlock = chacha20::cipher::Block<Core>;

/// Length of the wrapping key.
pub(super) const KEY_BYTES: usize = 32;
/// Keystream drawn at a time: two keys of an HMAC, or one secret of every other kind, with room to spare.
const GROUP_BYTES: usize = 64;

static WRAPPING: OnceLock<Slot> = OnceLock::new();
/// The next nonce: 2^64 are enough for any process.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Makes the wrapping key, as `draw` fills it. Without a region, or if that fails, there is none.
pub(super) fn prepare(draw: impl FnOnce(&mut [u8; KEY_BYTES]) -> bool) {
    if WRAPPING.get().is_none()
        && let Some(mut slot) = Slot::take(KEY_BYTES, Share::Process)
        && slot.bytes_mut().first_chunk_mut().is_some_and(draw)
    {
        // Another thread may have been first; its key stands.
        let _ = WRAPPING.set(slot);
    }
}

/// A secret under its keystream.
pub(super) struct Masked {
    nonce: u64,
    bytes: Box<[u8]>,
}

impl Masked {
    /// Masks `plain`, which the caller wipes; nothing without a wrapping key.
    pub(super) fn new(plain: &[u8]) -> Option<Self> {
        let key = WRAPPING.get()?;
        let nonce = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut bytes: Box<[u8]> = vec![0; plain.len()].into();
        apply(key, nonce, plain, &mut bytes);
        Some(Self { nonce, bytes })
    }

    /// How many bytes they are.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes the secret to `target`, which is as long.
    pub(super) fn unmask(&self, target: &mut [u8]) {
        if let Some(key) = WRAPPING.get() {
            apply(key, self.nonce, &self.bytes, target);
        }
    }
}

impl Drop for Masked {
    fn drop(&mut self) {
        zeroize_bytes(&mut self.bytes);
    }
}

/// Writes `source` under the keystream of `nonce` to `target`.
fn apply(key: &Slot, nonce: u64, source: &[u8], target: &mut [u8]) {
    draw(key, nonce, source, target);
    // Frames of the cipher may have spilled keystream or key, as in `crypto::aead`.
    zeroize_stack::<{ limits::CIPHER_FRAMES_BYTES }>();
}

#[inline(never)]
fn draw(key: &Slot, nonce: u64, source: &[u8], target: &mut [u8]) {
    let Some(key) = key.bytes().first_chunk::<KEY_BYTES>() else { return };
    let mut long = [0; 12];
    long.split_at_mut(4).1.copy_from_slice(&nonce.to_le_bytes());
    let mut core = Core::new(key.into(), (&long).into());
    let mut group = [0; GROUP_BYTES];
    for (source, target) in source.chunks(GROUP_BYTES).zip(target.chunks_mut(GROUP_BYTES)) {
        core.write_keystream_blocks(StreamBlock::slice_as_chunks_mut(&mut group).0);
        for ((to, from), mask) in target.iter_mut().zip(source).zip(&group) {
            *to = from ^ mask;
        }
    }
    zeroize_bytes(&mut group);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_masked_comes_back_and_does_not_stand_there() {
        super::super::region::open_for_test();
        for len in [1, 16, 32, 63, 64, 65, 512, 5_000] {
            let plain: Vec<u8> = (0..=250).cycle().take(len).collect();
            let [one, other] = [(); 2].map(|()| Masked::new(&plain).unwrap());
            assert!(one.len() == len && one.nonce != other.nonce);
            if len >= 16 {
                assert!(*one.bytes != *plain && one.bytes != other.bytes, "{len}");
            }
            let mut back = vec![0; len];
            one.unmask(&mut back);
            assert_eq!(back, plain);
        }
    }
}
