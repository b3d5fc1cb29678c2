//! A key and its versions.
//!
//! Owns [`Key`], [`KeyVersion`] and what a version may still do. Invariants: material is reached only through the
//! `with_` functions; the three secrets of an encryption version are independent, so that no use of one says anything
//! of another; a destroyed version has no material; versions stand in the order of their numbers without gaps.

use core::ops::Deref;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::clock::WallTime;
use crate::crypto::hash::Algorithm;
use crate::crypto::kdf;
use crate::crypto::mac::{self, Tag};
use crate::keyring::material::Material;
use crate::keyring::uses::Uses;
use crate::limits::{KEY_BYTES, KEY_VERSIONS_MAX_COUNT, NONCE_MAX_BYTES};
use crate::model::{KeyName, KeyOptions, KeyType, Policy, VersionState};

/// Length of the identifier of a key.
pub const KEY_ID_BYTES: usize = 16;

/// Random for each key that is made: tells a key from another that had its name before.
pub type KeyId = [u8; KEY_ID_BYTES];

/// Why a version cannot be used for what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseError {
    /// The key has no version of this number, or has it no longer.
    UnknownVersion,
    /// The policy forbids versions as old as this.
    TooOld,
    /// The version is in a state that does not allow it.
    State(VersionState),
}

/// One version of a key.
#[derive(Clone, Debug)]
pub struct KeyVersion {
    pub(super) number: u32,
    pub(super) created: WallTime,
    pub(super) state: VersionState,
    /// Whether the material came from outside, where it may have been used: with 96-bit nonces it seals nothing.
    pub(super) imported: bool,
    /// Nothing once it is destroyed.
    pub(super) material: Option<Arc<Material>>,
    pub(super) uses: Arc<Uses>,
}

impl KeyVersion {
    /// A version that may be used for everything.
    #[must_use]
    pub fn new(number: u32, created: WallTime, material: Material) -> Self {
        Self {
            number,
            created,
            state: VersionState::Enabled,
            imported: false,
            material: Some(Arc::new(material)),
            uses: Arc::default(),
        }
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

    /// What it may still do.
    #[must_use]
    pub const fn state(&self) -> VersionState {
        self.state
    }

    /// Whether its material came from outside.
    #[must_use]
    pub const fn is_imported(&self) -> bool {
        self.imported
    }

    /// What was done with it.
    #[must_use]
    pub fn uses(&self) -> &Uses {
        &self.uses
    }

    /// Its secrets, as they are kept and exported; nothing once it is destroyed.
    #[must_use]
    pub fn material(&self) -> Option<&Material> {
        self.material.as_deref()
    }

    /// Lends the AEAD key to `use_it`; nothing if there is none.
    pub fn with_encryption_key<R>(&self, use_it: impl FnOnce(&[u8; KEY_BYTES]) -> R) -> Option<R> {
        match self.material()? {
            Material::Encryption { enc, .. } => Some(enc.with(use_it)),
            Material::Mac(_) => None,
        }
    }

    /// Derives the AEAD key of `context` and lends it to `use_it`; nothing if there is none.
    pub fn with_derived_key<R>(
        &self,
        context: &[u8],
        use_it: impl FnOnce(&[u8; KEY_BYTES]) -> R,
    ) -> Option<R> {
        let mut derived = Zeroizing::new([0; KEY_BYTES]);
        let whole =
            self.with_encryption_key(|enc| kdf::derive(&[], enc, &[context], derived.as_mut_slice()))?;
        whole.ok().map(|()| use_it(&derived))
    }

    /// The nonce of a convergent seal of `plaintext`, bound to `associated_data`, for `context`, to the front of `nonce`;
    /// nothing if there is no key for it.
    ///
    /// 96 bytes are derived for the context: the AEAD key, and two keys of HMAC-SHA256. Without associated data the first
    /// of the two makes the nonce of the plaintext, as Vault and `OpenBao` do (convergent version 3); with some the second
    /// makes it of both, since two seals under one nonce that differ in their associated data would betray the key of
    /// their tags (RFC 8439 section 4).
    pub fn convergent_nonce(
        &self,
        context: &[u8],
        associated_data: &[u8],
        plaintext: &[u8],
        nonce: &mut [u8],
    ) -> Option<()> {
        let mut derived = Zeroizing::new([0; 3 * KEY_BYTES]);
        let whole =
            self.with_encryption_key(|enc| kdf::derive(&[], enc, &[context], derived.as_mut_slice()))?;
        whole.ok()?;
        let (plain, bound) = derived.split_at_checked(KEY_BYTES)?.1.split_at_checked(KEY_BYTES)?;
        let tag = if associated_data.is_empty() {
            mac::tag_once(Algorithm::Sha256, plain, &[plaintext])
        } else {
            let len = u64::try_from(associated_data.len()).ok()?.to_le_bytes();
            mac::tag_once(Algorithm::Sha256, bound, &[&len, associated_data, plaintext])
        };
        nonce.copy_from_slice(tag.as_bytes().get(..nonce.len())?);
        Some(())
    }

    /// Whether a convergent seal of `plaintext`, bound to `associated_data`, for `context` has `nonce`. What was opened under
    /// another nonce is a forgery.
    ///
    /// Vault and `OpenBao` leave the associated data out of the nonce: a key that may have been used there, as `elsewhere`
    /// says, has both.
    #[must_use]
    pub fn converges(
        &self,
        context: &[u8],
        associated_data: &[u8],
        plaintext: &[u8],
        nonce: &[u8],
        elsewhere: bool,
    ) -> bool {
        let mut own = [0; NONCE_MAX_BYTES];
        let Some(own) = own.get_mut(..nonce.len()) else { return false };
        let mut is_of = |bound: &[u8]| {
            let made = self.convergent_nonce(context, bound, plaintext, own);
            made.is_some() && bool::from(own.ct_eq(nonce))
        };
        is_of(associated_data) || (elsewhere && !associated_data.is_empty() && is_of(&[]))
    }

    /// Lends the input key of stream and keystream to `use_it`; nothing if there is none.
    pub fn with_sub_key<R>(&self, use_it: impl FnOnce(&[u8; KEY_BYTES]) -> R) -> Option<R> {
        match self.material()? {
            Material::Encryption { sub, .. } => Some(sub.with(use_it)),
            Material::Mac(_) => None,
        }
    }

    /// Signs `message` as a version of a key of type `kind` does; nothing if there is no key for it.
    #[must_use]
    pub fn sign(&self, kind: KeyType, message: &[u8]) -> Option<Tag> {
        self.sign_with(Material::mac_algorithm(kind), message)
    }

    /// Signs `message` with another hash than the type's; nothing if there is no key for it.
    #[must_use]
    pub fn sign_with(&self, algorithm: Algorithm, message: &[u8]) -> Option<Tag> {
        Some(match self.material()? {
            Material::Encryption { mac, .. } => mac.with(|key| mac::tag_once(algorithm, key, &[message])),
            Material::Mac(key) => key.with(|key| mac::tag_once(algorithm, key, &[message])),
        })
    }

    /// The same version in another state. Its secrets go when the last snapshot that holds them goes.
    #[must_use]
    pub(super) fn in_state(&self, state: VersionState) -> Self {
        let mut next = self.clone();
        next.state = state;
        if state == VersionState::Destroyed {
            next.material = None;
        }
        next
    }
}

/// A key that was deleted and can still be brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// When it was deleted.
    pub at: WallTime,
    /// When it will be destroyed.
    pub purge_at: WallTime,
}

/// A named key: its type, its policy and its versions.
#[derive(Clone, Debug)]
pub struct Key {
    pub(super) name: KeyName,
    pub(super) id: KeyId,
    pub(super) options: KeyOptions,
    pub(super) policy: Policy,
    pub(super) created: WallTime,
    pub(super) deletion: Option<Deletion>,
    /// In the order of their numbers, without gaps, never empty; the oldest may have been dropped.
    pub(super) versions: Vec<Arc<KeyVersion>>,
}

impl Key {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &KeyName {
        &self.name
    }

    /// What tells it from another key that had its name.
    #[must_use]
    pub const fn id(&self) -> &KeyId {
        &self.id
    }

    /// Its type.
    #[must_use]
    pub const fn kind(&self) -> KeyType {
        self.options.kind
    }

    /// What was settled when it was made.
    #[must_use]
    pub const fn options(&self) -> &KeyOptions {
        &self.options
    }

    /// What may be changed.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// When it was made.
    #[must_use]
    pub const fn created(&self) -> WallTime {
        self.created
    }

    /// Whether and when it was deleted.
    #[must_use]
    pub const fn deletion(&self) -> Option<Deletion> {
        self.deletion
    }

    /// The number of its newest version.
    #[must_use]
    pub fn latest_number(&self) -> u32 {
        self.versions.last().map_or(0, |version| version.number)
    }

    /// The number of its oldest version that is kept.
    #[must_use]
    pub fn oldest_number(&self) -> u32 {
        self.versions.first().map_or(0, |version| version.number)
    }

    /// The version of this number, whatever its state.
    #[must_use]
    pub fn version(&self, number: u32) -> Option<&KeyVersion> {
        let index = number.checked_sub(self.oldest_number())?;
        self.versions.get(usize::try_from(index).ok()?).map(Deref::deref)
    }

    /// The version to seal or sign with: the newest unless another is asked for.
    ///
    /// # Errors
    /// [`UseError`]
    pub fn sealing_version(&self, wanted: Option<u32>) -> Result<&KeyVersion, UseError> {
        let number = wanted.unwrap_or_else(|| self.latest_number());
        let version = self.version(number).ok_or(UseError::UnknownVersion)?;
        let least = self.policy.min_encryption_version.max(self.policy.min_decryption_version);
        match version.state {
            _ if number < least => Err(UseError::TooOld),
            VersionState::Enabled => Ok(version),
            state => Err(UseError::State(state)),
        }
    }

    /// The version to open or verify with.
    ///
    /// # Errors
    /// [`UseError`]
    pub fn opening_version(&self, number: u32) -> Result<&KeyVersion, UseError> {
        let version = self.version(number).ok_or(UseError::UnknownVersion)?;
        match version.state {
            _ if number < self.policy.min_decryption_version => Err(UseError::TooOld),
            VersionState::Enabled | VersionState::DecryptOnly => Ok(version),
            state => Err(UseError::State(state)),
        }
    }

    /// Whether a rotation can add another version: numbers are left, and there is room or old versions give way.
    #[must_use]
    pub fn takes_version(&self) -> bool {
        self.latest_number() < u32::MAX && (self.policy.keep_versions > 0 || self.has_room(1))
    }

    /// Whether so many versions can be added without dropping one.
    pub(super) fn has_room(&self, versions: u32) -> bool {
        let count = u32::try_from(self.versions.len()).unwrap_or(u32::MAX);
        let fits = |used: u32, most: u32| used.checked_add(versions).is_some_and(|sum| sum <= most);
        fits(count, KEY_VERSIONS_MAX_COUNT) && fits(self.latest_number(), u32::MAX)
    }

    /// Whether what is true of every key is true of this one: read back from outside, it need not be.
    pub(super) fn is_sound(&self) -> bool {
        let Policy { min_decryption_version: open, min_encryption_version: seal, .. } = self.policy;
        let latest = self.latest_number();
        let seals_nothing = |version: &KeyVersion| {
            !(version.imported && self.kind().counts_seals() && version.state == VersionState::Enabled)
        };
        latest > 0
            && (1..=latest).contains(&open)
            && (seal == 0 || (open..=latest).contains(&seal))
            && (self.kind().encrypts() || !self.options.derived)
            && (self.options.derived || !self.options.convergent)
            && self.versions().all(seals_nothing)
    }

    /// All versions that are kept, the oldest first.
    pub fn versions(&self) -> impl ExactSizeIterator<Item = &KeyVersion> {
        self.versions.iter().map(Deref::deref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::trial::Trial;
    use crate::model::PolicyChange;

    /// A key with versions 1 to 4 and these bounds.
    fn bounded(open: u32, seal: u32) -> Trial {
        let mut trial = Trial::of(KeyType::XChaCha20Poly1305);
        for _ in 1..4 {
            trial.rotate().unwrap();
        }
        let policy = PolicyChange {
            min_decryption_version: Some(open),
            min_encryption_version: Some(seal),
            ..PolicyChange::default()
        };
        trial.configure(policy).unwrap();
        trial
    }

    fn sealing(trial: &Trial) -> Vec<u32> {
        (0..6).filter(|number| trial.key().sealing_version(Some(*number)).is_ok()).collect()
    }

    fn opening(trial: &Trial) -> Vec<u32> {
        (0..6).filter(|number| trial.key().opening_version(*number).is_ok()).collect()
    }

    #[test]
    fn bounds_forbid_the_versions_below_them() {
        for (open, seal, seals, opens) in [
            (1, 0, vec![1, 2, 3, 4], vec![1, 2, 3, 4]),
            (2, 0, vec![2, 3, 4], vec![2, 3, 4]),
            (2, 4, vec![4], vec![2, 3, 4]),
            (4, 4, vec![4], vec![4]),
        ] {
            let trial = bounded(open, seal);
            assert_eq!((sealing(&trial), opening(&trial)), (seals, opens), "{open} {seal}");
            assert_eq!(trial.key().sealing_version(None).unwrap().number(), 4);
        }
        let trial = bounded(2, 3);
        assert_eq!(trial.key().sealing_version(Some(2)).err(), Some(UseError::TooOld));
        assert_eq!(trial.key().opening_version(1).err(), Some(UseError::TooOld));
        assert_eq!(trial.key().opening_version(5).err(), Some(UseError::UnknownVersion));
        assert_eq!(trial.key().opening_version(0).err(), Some(UseError::UnknownVersion));
    }

    #[test]
    fn the_secrets_of_a_version_are_independent() {
        let trial = Trial::of(KeyType::XChaCha20Poly1305);
        let version = trial.key().version(1).unwrap();
        let enc = version.with_encryption_key(|key| *key).unwrap();
        let sub = version.with_sub_key(|key| *key).unwrap();
        let signed_with_enc =
            mac::tag_once(Material::mac_algorithm(KeyType::XChaCha20Poly1305), &enc, &[b"m"]);
        let signed = version.sign(KeyType::XChaCha20Poly1305, b"m").unwrap();
        assert_ne!(enc, sub);
        assert!(!signed.matches(signed_with_enc.as_bytes()));
        let derived = version.with_derived_key(b"context", |key| *key).unwrap();
        assert!(derived != enc && derived != sub);
    }

    #[test]
    fn a_convergent_nonce_is_that_of_vault() {
        // Computed by hand from RFC 5869 and RFC 2104, with Python's hashlib.
        const WANTED: &str = "bcb9265bd814e6015f2d1369fc2a97ca00bbb1d6b5bda246";
        let mut trial = Trial::new();
        trial.import(KeyOptions::of(KeyType::XChaCha20Poly1305), &[9; 32]).unwrap();
        let version = trial.key().version(1).unwrap();
        for len in [12, 24] {
            let mut nonce = vec![0; len];
            version.convergent_nonce(b"tenant", b"", b"hello", &mut nonce).unwrap();
            let shown: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(shown, WANTED[..2 * len]);
        }
        let mut other = [0; 24];
        version.convergent_nonce(b"tenanT", b"", b"hello", &mut other).unwrap();
        assert!(other.iter().map(|byte| format!("{byte:02x}")).collect::<String>() != WANTED);
    }

    #[test]
    fn no_two_convergent_seals_that_differ_share_a_nonce() {
        let mut trial = Trial::new();
        trial.import(KeyOptions::of(KeyType::ChaCha20Poly1305), &[9; 32]).unwrap();
        let version = trial.key().version(1).unwrap();
        let nonce = |bound: &[u8], plaintext: &[u8]| {
            let mut nonce = [0; 12];
            version.convergent_nonce(b"tenant", bound, plaintext, &mut nonce).unwrap();
            nonce
        };
        let len_first = [&1u64.to_le_bytes()[..], b"ab"].concat();
        let seals: [(&[u8], &[u8]); 6] =
            [(b"", b"ab"), (b"a", b"b"), (b"ab", b""), (b"", b""), (b"b", b"ab"), (b"", &len_first)];
        let nonces: std::collections::BTreeSet<_> =
            seals.iter().map(|(bound, plaintext)| nonce(bound, plaintext)).collect();
        assert_eq!(nonces.len(), seals.len());
        let converges = |bound: &[u8], plaintext: &[u8], nonce: &[u8], elsewhere| {
            version.converges(b"tenant", bound, plaintext, nonce, elsewhere)
        };
        for elsewhere in [false, true] {
            assert!(converges(b"a", b"b", &nonce(b"a", b"b"), elsewhere));
            assert!(!converges(b"a", b"b", &nonce(b"", b"c"), elsewhere));
            assert!(!converges(b"", b"b", &nonce(b"a", b"b"), elsewhere));
            assert!(!version.converges(b"other", b"", b"b", &nonce(b"", b"b"), elsewhere));
            // As it is made elsewhere, without a look at the associated data.
            assert_eq!(converges(b"a", b"b", &nonce(b"", b"b"), elsewhere), elsewhere);
        }
    }

    #[test]
    fn a_key_that_only_signs_lends_nothing_else() {
        for (kind, len) in [(KeyType::HmacSha256, 32), (KeyType::HmacSha384, 48), (KeyType::HmacSha512, 64)] {
            let trial = Trial::of(kind);
            let version = trial.key().version(1).unwrap();
            assert!(version.with_encryption_key(|_| ()).is_none() && version.with_sub_key(|_| ()).is_none());
            assert!(version.with_derived_key(b"context", |_| ()).is_none());
            assert_eq!(version.sign(kind, b"m").unwrap().as_bytes().len(), len);
            assert!(matches!(version.material(), Some(Material::Mac(key)) if key.len() == len));
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", Trial::of(KeyType::HmacSha256).key());
        assert!(shown.contains("material: Some(Mac(SecretBytes(redacted)))"), "{shown}");
        let shown = format!("{:?}", Trial::of(KeyType::ChaCha20Poly1305).key());
        assert_eq!(shown.matches("Secret(redacted)").count(), 3, "{shown}");
    }
}
