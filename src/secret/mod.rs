//! Secrets: bytes that are wiped when dropped, never printed, never copied by accident.
//!
//! Owns [`Secret`], [`SecretBytes`] and [`Locked`]. Invariants: each has one place, so that moving the owner leaves no
//! copy behind: a slot of the key region, or where that has no room the heap, under a keystream; none is `Clone`;
//! `Debug` shows no byte; comparison takes the same time wherever the difference is.
//!
//! A process that never called [`open_region`] keeps them on the heap as they are.

use core::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

mod locked;
mod masked;
mod pages;
mod region;
mod slots;

pub use locked::{Locked, is_beside};
pub use pages::page_bytes;
pub use region::open as open_region;

use crate::limits::MAC_KEY_MAX_BYTES;
use masked::Masked;
use region::Slot;
use slots::Share;

/// Where secret bytes are; `P` is the box of those that have neither region nor mask.
enum Place<P> {
    Region(Slot),
    Masked(Masked),
    Plain(P),
}

/// `N` secret bytes.
pub struct Secret<const N: usize>(Place<Box<[u8; N]>>);

impl<const N: usize> Secret<N> {
    /// Fills a new secret in place.
    ///
    /// # Errors
    /// What `fill` returns; the bytes written until then are wiped.
    pub fn try_fill<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        if let Some(mut slot) = Slot::take(N, Share::Many) {
            if let Some(bytes) = slot.bytes_mut().first_chunk_mut() {
                fill(bytes)?;
            }
            return Ok(Self(Place::Region(slot)));
        }
        let mut plain = Zeroizing::new([0; N]);
        fill(&mut plain)?;
        Ok(Self(Masked::new(plain.as_slice()).map_or_else(|| Place::Plain(Box::new(*plain)), Place::Masked)))
    }

    /// Copies bytes out of a buffer that somebody else wipes, and through no other place.
    pub fn copy_of(source: &[u8; N]) -> Self {
        let Ok(secret) = Self::try_fill(|bytes| {
            bytes.copy_from_slice(source);
            Ok::<(), core::convert::Infallible>(())
        });
        secret
    }

    /// Takes the bytes of `source` and wipes it.
    pub fn take(source: &mut [u8; N]) -> Self {
        let secret = Self::copy_of(source);
        source.zeroize();
        secret
    }

    /// Lends the bytes to `look`. The closure must not copy them anywhere that is not wiped.
    pub fn with<R>(&self, look: impl FnOnce(&[u8; N]) -> R) -> R {
        match &self.0 {
            Place::Region(slot) => look(whole(slot)),
            Place::Masked(masked) => {
                let mut plain = Zeroizing::new([0; N]);
                masked.unmask(plain.as_mut_slice());
                look(&plain)
            }
            Place::Plain(bytes) => look(bytes),
        }
    }

    /// Compares with bytes from outside in time that does not depend on either.
    #[must_use]
    pub fn matches(&self, other: &[u8; N]) -> bool {
        self.with(|bytes| bytes.ct_eq(other).into())
    }
}

#[expect(clippy::expect_used, reason = "a slot is as long as it was asked for, and only `try_fill` asks")]
fn whole<const N: usize>(slot: &Slot) -> &[u8; N] {
    slot.bytes().first_chunk().expect("a slot is as long as it was asked for")
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        // The other two wipe themselves.
        if let Place::Plain(bytes) = &mut self.0 {
            bytes.zeroize();
        }
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Secret bytes whose number is not known beforehand.
pub struct SecretBytes(Place<Box<[u8]>>);

impl SecretBytes {
    /// Fills a new secret of `len` bytes in place.
    ///
    /// # Errors
    /// What `fill` returns; the bytes written until then are wiped.
    pub fn try_fill<E>(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        if let Some(mut slot) = Slot::take(len, Share::Many) {
            fill(slot.bytes_mut())?;
            return Ok(Self(Place::Region(slot)));
        }
        let mut plain = Zeroizing::new(vec![0; len]);
        fill(&mut plain)?;
        let place = Masked::new(&plain)
            .map_or_else(|| Place::Plain(core::mem::take(&mut *plain).into_boxed_slice()), Place::Masked);
        Ok(Self(place))
    }

    /// Takes the bytes of `source` and wipes it.
    pub fn take(source: &mut [u8]) -> Self {
        let Ok(secret) = Self::try_fill(source.len(), |bytes| {
            bytes.copy_from_slice(source);
            Ok::<(), core::convert::Infallible>(())
        });
        source.zeroize();
        secret
    }

    /// How many bytes they are.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Place::Region(slot) => slot.bytes().len(),
            Place::Masked(masked) => masked.len(),
            Place::Plain(bytes) => bytes.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Lends the bytes to `look`. The closure must not copy them anywhere that is not wiped.
    pub fn with<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        match &self.0 {
            Place::Region(slot) => look(slot.bytes()),
            Place::Masked(masked) => with_unmasked(masked, look),
            Place::Plain(bytes) => look(bytes),
        }
    }
}

/// A frame of its own, so that only what is masked pays for its size.
#[inline(never)]
fn with_unmasked<R>(masked: &Masked, look: impl FnOnce(&[u8]) -> R) -> R {
    let mut short = Zeroizing::new([0; MAC_KEY_MAX_BYTES]);
    if let Some(plain) = short.get_mut(..masked.len()) {
        masked.unmask(plain);
        return look(plain);
    }
    // Material on its way in, of which no key is made.
    let mut long = Zeroizing::new(vec![0; masked.len()]);
    masked.unmask(&mut long);
    look(&long)
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        if let Place::Plain(bytes) = &mut self.0 {
            bytes.zeroize();
        }
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_byte() {
        let secret = Secret::take(&mut [0xA5; 32]);
        let shown = format!("{secret:?}");
        assert_eq!(shown, "Secret(redacted)");
    }

    #[test]
    fn taking_wipes_the_source() {
        let mut source = [7u8; 16];
        let secret = Secret::take(&mut source);
        assert_eq!(source, [0; 16]);
        assert!(secret.matches(&[7; 16]));
        assert!(!secret.matches(&[8; 16]));
    }

    #[test]
    fn a_failed_fill_gives_no_secret() {
        let failed: Result<Secret<4>, &str> = Secret::try_fill(|bytes| {
            bytes[0] = 1;
            Err("no")
        });
        assert_eq!(failed.err(), Some("no"));
    }

    #[test]
    fn more_secrets_than_the_region_holds_are_kept_all_the_same() {
        region::open_for_test();
        let bytes =
            |number: usize| [number.to_le_bytes(), [0xA5; 8], [0x5A; 8], number.to_be_bytes()].concat();
        let count = crate::limits::KEY_REGION_MAX_BYTES / 32 + 100;
        let secrets: Vec<Secret<32>> =
            (0..count).map(|number| Secret::take(&mut bytes(number).try_into().unwrap())).collect();
        let masked = secrets.iter().filter(|secret| matches!(secret.0, Place::Masked(_))).count();
        assert!(masked >= 100 && masked < count, "{masked} of {count}");
        for (number, secret) in secrets.iter().enumerate() {
            assert!(secret.with(|found| found[..] == bytes(number)), "{number}");
        }
        let variable = SecretBytes::take(&mut [9; MAC_KEY_MAX_BYTES]);
        let long = SecretBytes::take(&mut [9; 5_000]);
        for secret in [variable, long, SecretBytes::take(&mut [])] {
            assert!(secret.with(|found| found == vec![9; secret.len()]));
        }
        drop(secrets);
        assert!(matches!(Secret::take(&mut [1; 32]).0, Place::Region(_)), "room comes back");
    }
}
