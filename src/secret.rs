//! Secrets: bytes that are wiped when dropped, never printed, never copied by accident.
//!
//! Owns [`Secret`] and [`SecretBytes`]. Invariants: each lives in one heap allocation, so that moving the owner leaves no copy
//! behind; none is `Clone`; `Debug` shows no byte; comparison takes the same time wherever the difference is.

use core::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

/// `N` secret bytes.
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Fills a new secret in place.
    ///
    /// # Errors
    /// What `fill` returns; the bytes written until then are wiped.
    pub fn try_fill<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self(Box::new([0; N]));
        fill(&mut secret.0)?;
        Ok(secret)
    }

    /// Takes the bytes of `source` and wipes it.
    pub fn take(source: &mut [u8; N]) -> Self {
        let secret = Self(Box::new(*source));
        source.zeroize();
        secret
    }

    /// Lends the bytes to `look`. The closure must not copy them anywhere that is not wiped.
    pub fn with<R>(&self, look: impl FnOnce(&[u8; N]) -> R) -> R {
        look(&self.0)
    }

    /// Compares with bytes from outside in time that does not depend on either.
    #[must_use]
    pub fn matches(&self, other: &[u8; N]) -> bool {
        self.0.ct_eq(other).into()
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// Secret bytes whose number is not known beforehand.
pub struct SecretBytes(Box<[u8]>);

impl SecretBytes {
    /// Fills a new secret of `len` bytes in place.
    ///
    /// # Errors
    /// What `fill` returns; the bytes written until then are wiped.
    pub fn try_fill<E>(len: usize, fill: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self(vec![0; len].into_boxed_slice());
        fill(&mut secret.0)?;
        Ok(secret)
    }

    /// Takes the bytes of `source` and wipes it.
    pub fn take(source: &mut [u8]) -> Self {
        let secret = Self((&*source).into());
        source.zeroize();
        secret
    }

    /// How many bytes they are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Lends the bytes to `look`. The closure must not copy them anywhere that is not wiped.
    pub fn with<R>(&self, look: impl FnOnce(&[u8]) -> R) -> R {
        look(&self.0)
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.zeroize();
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
}
