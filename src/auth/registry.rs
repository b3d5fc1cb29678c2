//! The API keys that are known, and the check of one that is presented.
//!
//! Owns [`Registry`]. Invariants: an entry holds HMAC-SHA256(pepper, salt || identifier || secret) and never the
//! secret; a check computes one HMAC and one comparison of 32 bytes whether the identifier is known or not.

use core::fmt;
use std::collections::HashMap;

use subtle::ConstantTimeEq as _;

use crate::auth::api_key::{self, Presented};
use crate::auth::stored::{Rights, StoredKey};
use crate::clock::WallTime;
use crate::crypto::hash::Algorithm;
use crate::crypto::mac::{MacKey, Tag};
use crate::model::{ApiKeyId, Principal};

/// Length of an entry's salt.
pub const SALT_BYTES: usize = 16;

/// The text that was to be registered is no API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKey;

impl fmt::Display for NotAKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an API key: expected qk_<8 hexadecimal digits>.<43 base64url characters>")
    }
}

impl std::error::Error for NotAKey {}

/// The known API keys.
pub struct Registry {
    pepper: MacKey,
    entries: HashMap<[u8; ApiKeyId::LEN], StoredKey>,
    /// What an unknown identifier is compared with: nothing matches it.
    decoy: StoredKey,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}

impl Registry {
    /// A registry without keys.
    #[must_use]
    pub fn new(pepper: &[u8; 32]) -> Self {
        let pepper = MacKey::new(Algorithm::Sha256, pepper);
        // A digest over another shape of input than any real one.
        let digest = digest_of(&pepper.tag(&[b"decoy"]));
        let decoy = StoredKey {
            id: [b'0'; ApiKeyId::LEN],
            rights: Rights::Admin,
            created: WallTime::default(),
            salt: [0; SALT_BYTES],
            digest,
        };
        Self { pepper, entries: HashMap::new(), decoy }
    }

    /// What is kept of the key of this text.
    ///
    /// # Errors
    /// [`NotAKey`]
    pub fn stored(
        &self,
        text: &str,
        salt: [u8; SALT_BYTES],
        rights: Rights,
        created: WallTime,
    ) -> Result<StoredKey, NotAKey> {
        let presented = api_key::parse(text.as_bytes()).ok_or(NotAKey)?;
        let digest = digest_of(&self.digest(&salt, &presented));
        Ok(StoredKey { id: presented.id, rights, created, salt, digest })
    }

    /// Knows `key` from now on.
    pub fn insert(&mut self, key: StoredKey) {
        self.entries.insert(key.id, key);
    }

    /// Adds the key of this text.
    ///
    /// # Errors
    /// [`NotAKey`]
    pub fn add(&mut self, text: &str, salt: [u8; SALT_BYTES], rights: Rights) -> Result<Principal, NotAKey> {
        let key = self.stored(text, salt, rights, WallTime::default())?;
        let principal = principal(key.id).ok_or(NotAKey)?;
        self.insert(key);
        Ok(principal)
    }

    /// Whether no key is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The principal whose key `text` is.
    #[must_use]
    pub fn authenticate(&self, text: &[u8]) -> Option<Principal> {
        let presented = api_key::parse(text)?;
        let entry = self.entries.get(&presented.id);
        let known = entry.unwrap_or(&self.decoy);
        let digest = self.digest(&known.salt, &presented);
        let equal = digest_of(&digest).ct_eq(&known.digest);
        // The decoy's digest cannot be met; the second condition only says so where it is read.
        (bool::from(equal) && entry.is_some()).then(|| principal(presented.id)).flatten()
    }

    fn digest(&self, salt: &[u8; SALT_BYTES], presented: &Presented) -> Tag {
        self.pepper.tag(&[salt, &presented.id, &*presented.secret])
    }
}

fn principal(id: [u8; ApiKeyId::LEN]) -> Option<Principal> {
    Some(Principal { key: ApiKeyId::parse(&id)?, generation: 1, token: None })
}

/// The bytes of a tag of HMAC-SHA256, which are 32.
fn digest_of(tag: &Tag) -> [u8; 32] {
    tag.as_bytes().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> String {
        api_key::generate(|bytes| {
            bytes.fill(byte);
            Ok::<_, ()>(())
        })
        .unwrap()
        .as_str()
        .to_owned()
    }

    #[test]
    fn only_the_whole_key_is_recognised() {
        let mut registry = Registry::new(&[1; 32]);
        let principal = registry.add(&key(7), [2; SALT_BYTES], Rights::Admin).unwrap();
        assert_eq!(registry.authenticate(key(7).as_bytes()), Some(principal.clone()));
        assert_eq!(principal.id(), "07070707");
        let wrong_secret = key(8).replace("08080808", "07070707");
        let unknown_id = key(7).replace("07070707", "08080808");
        for text in [wrong_secret, unknown_id, key(9), String::new(), "qk_".into()] {
            assert_eq!(registry.authenticate(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_not_registered() {
        let mut registry = Registry::new(&[1; 32]);
        assert_eq!(registry.add("qk_no", [0; SALT_BYTES], Rights::Admin), Err(NotAKey));
        assert_eq!(registry.authenticate(b"qk_no"), None);
    }

    #[test]
    fn another_pepper_recognises_nothing() {
        let mut registry = Registry::new(&[1; 32]);
        registry.add(&key(7), [2; SALT_BYTES], Rights::Admin).unwrap();
        let other = Registry { pepper: MacKey::new(Algorithm::Sha256, &[9; 32]), ..registry };
        assert_eq!(other.authenticate(key(7).as_bytes()), None);
    }
}
