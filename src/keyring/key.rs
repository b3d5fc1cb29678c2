//! A key and its versions.
//!
//! Owns [`Key`], [`KeyVersion`] and the secret material of a version. Invariants: material is reached only through
//! [`KeyVersion::with_encryption_key`]; each version holds three independent secrets (direct AEAD, HMAC, sub-keys), so that
//! no use of one says anything of another; a version with 96-bit nonces counts its seals and refuses one more than
//! is safe.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::clock::WallTime;
use crate::limits::{KEY_BYTES, NONCE_96_SEALS_MAX_COUNT};
use crate::model::{KeyName, KeyType};
use crate::secret::Secret;

/// The secrets of one version, 32 random bytes each.
#[derive(Debug)]
pub struct Material {
    /// Key of the direct AEAD, and of nothing else.
    pub enc: Secret<KEY_BYTES>,
    /// HMAC key.
    pub mac: Secret<KEY_BYTES>,
    /// Input key material of stream and keystream sub-keys.
    pub sub: Secret<KEY_BYTES>,
}

/// The version has been used as often as its nonces allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WornOut;

/// One version of a key.
#[derive(Debug)]
pub struct KeyVersion {
    number: u32,
    created: WallTime,
    material: Material,
    seals: AtomicU64,
}

impl KeyVersion {
    /// A version with fresh material.
    #[must_use]
    pub fn new(number: u32, created: WallTime, material: Material) -> Self {
        Self { number, created, material, seals: AtomicU64::new(0) }
    }

    /// Its number, from 1.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// When it was made.
    #[must_use]
    pub const fn created(&self) -> WallTime {
        self.created
    }

    /// Lends the AEAD key to `use_it`.
    pub fn with_encryption_key<R>(&self, use_it: impl FnOnce(&[u8; KEY_BYTES]) -> R) -> R {
        self.material.enc.with(use_it)
    }

    /// Counts `seals` uses before they happen.
    ///
    /// # Errors
    /// [`WornOut`] if the random nonces of `kind` would no longer be safe; nothing is counted then.
    pub fn count_seals(&self, kind: KeyType, seals: u64) -> Result<(), WornOut> {
        if kind == KeyType::XChaCha20Poly1305 {
            return Ok(());
        }
        let grow = |used: u64| used.checked_add(seals).filter(|sum| *sum <= NONCE_96_SEALS_MAX_COUNT);
        self.seals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).map(drop).map_err(|_| WornOut)
    }
}

/// A named key: its type and all its versions.
#[derive(Clone, Debug)]
pub struct Key {
    name: KeyName,
    kind: KeyType,
    created: WallTime,
    /// In the order of their numbers, without gaps: version `n` stands at `n - 1`.
    versions: Vec<Arc<KeyVersion>>,
}

impl Key {
    /// A key with its first version.
    #[must_use]
    pub fn new(name: KeyName, kind: KeyType, created: WallTime, material: Material) -> Self {
        let first = Arc::new(KeyVersion::new(1, created, material));
        Self { name, kind, created, versions: vec![first] }
    }

    /// The same key with one more version.
    #[must_use]
    pub fn rotated(&self, created: WallTime, material: Material) -> Self {
        let mut next = self.clone();
        let number = self.latest_number() + 1;
        next.versions.push(Arc::new(KeyVersion::new(number, created, material)));
        next
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> KeyType {
        self.kind
    }

    /// When its first version was made.
    #[must_use]
    pub const fn created(&self) -> WallTime {
        self.created
    }

    /// The number of the version that encrypts.
    #[must_use]
    pub fn latest_number(&self) -> u32 {
        self.versions.last().map_or(0, |version| version.number)
    }

    /// The version of this number; the latest one if none is named.
    #[must_use]
    pub fn version(&self, number: Option<u32>) -> Option<&KeyVersion> {
        let number = number.unwrap_or_else(|| self.latest_number());
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.versions.get(index).map(|version| &**version)
    }

    /// All versions, the oldest first.
    pub fn versions(&self) -> impl ExactSizeIterator<Item = &KeyVersion> {
        self.versions.iter().map(|version| &**version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn material(byte: u8) -> Material {
        let secret = |byte| Secret::take(&mut [byte; KEY_BYTES]);
        Material { enc: secret(byte), mac: secret(byte + 1), sub: secret(byte + 2) }
    }

    #[test]
    fn versions_are_found_by_number_and_the_latest_by_default() {
        let name = KeyName::new("k").unwrap();
        let key = Key::new(name, KeyType::XChaCha20Poly1305, WallTime::default(), material(1));
        let key = key.rotated(WallTime::from_millis(5), material(10));
        assert_eq!(key.version(None).map(KeyVersion::number), Some(2));
        assert_eq!(key.version(Some(1)).map(|version| version.with_encryption_key(|key| key[0])), Some(1));
        assert_eq!(key.version(Some(2)).map(|version| version.with_encryption_key(|key| key[0])), Some(10));
        assert!(key.version(Some(0)).is_none());
        assert!(key.version(Some(3)).is_none());
        assert!(key.version(Some(u32::MAX)).is_none());
    }

    #[test]
    fn a_96_bit_version_refuses_the_seal_beyond_its_limit() {
        let version = KeyVersion::new(1, WallTime::default(), material(1));
        let kind = KeyType::ChaCha20Poly1305;
        assert_eq!(version.count_seals(kind, NONCE_96_SEALS_MAX_COUNT - 1), Ok(()));
        assert_eq!(version.count_seals(kind, 2), Err(WornOut));
        assert_eq!(version.count_seals(kind, 1), Ok(()));
        assert_eq!(version.count_seals(kind, 1), Err(WornOut));
        assert_eq!(version.count_seals(KeyType::XChaCha20Poly1305, u64::MAX), Ok(()));
    }

    #[test]
    fn debug_shows_no_material() {
        let name = KeyName::new("k").unwrap();
        let key = Key::new(name, KeyType::XChaCha20Poly1305, WallTime::default(), material(0xAB));
        let shown = format!("{key:?}");
        assert!(!shown.contains("171") && shown.contains("redacted"), "{shown}");
    }
}
