//! Changes of the ring: the one place where a next snapshot is made from the current one.
//!
//! Owns no state. Invariants: a change is judged against the state it is applied to, never against the one its
//! caller saw; a refused change has no effect.

use core::fmt;
use std::sync::Arc;

use crate::clock::WallTime;
use crate::keyring::Ring;
use crate::keyring::key::{Key, Material};
use crate::limits::{KEY_VERSIONS_MAX_COUNT, KEYS_MAX_COUNT};
use crate::model::{Change, KeyName, KeyType};

/// Why a change was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// A key of that name exists with other options.
    Exists,
    /// No key of that name exists.
    Unknown,
    /// The ring holds as many keys as it may.
    RingFull,
    /// The key has as many versions as it may.
    VersionsFull,
    /// No random bytes could be drawn.
    Entropy,
    /// The keeper cannot take the change now.
    Unavailable,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exists => "a key of that name exists with other options",
            Self::Unknown => "no key of that name exists",
            Self::RingFull => "the key ring is full",
            Self::VersionsFull => "the key has as many versions as it may have",
            Self::Entropy => "no random bytes could be drawn",
            Self::Unavailable => "the change cannot be made now",
        })
    }
}

impl std::error::Error for ChangeError {}

/// What a change has led to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The key as it is afterwards.
    pub key: Arc<Key>,
    /// Whether the ring is another than before; a request that was already fulfilled changes nothing.
    pub changed: bool,
}

/// Applies `change` to `ring` at the time `now`, drawing new material from `draw`.
///
/// # Errors
/// [`ChangeError`]; `ring` is untouched in every case.
pub fn apply(
    ring: &Ring,
    change: &Change,
    now: WallTime,
    draw: &mut dyn FnMut() -> Option<Material>,
) -> Result<(Ring, Outcome), ChangeError> {
    match change {
        Change::Create { name, kind } => create(ring, name, *kind, now, draw),
        Change::Rotate { name, only_if_latest } => rotate(ring, name, *only_if_latest, now, draw),
    }
}

fn create(
    ring: &Ring,
    name: &KeyName,
    kind: KeyType,
    now: WallTime,
    draw: &mut dyn FnMut() -> Option<Material>,
) -> Result<(Ring, Outcome), ChangeError> {
    if let Some(existing) = ring.get(name.as_str()) {
        if existing.kind() != kind {
            return Err(ChangeError::Exists);
        }
        return Ok((ring.clone(), Outcome { key: Arc::clone(existing), changed: false }));
    }
    if ring.len() >= KEYS_MAX_COUNT {
        return Err(ChangeError::RingFull);
    }
    let key = Arc::new(Key::new(name.clone(), kind, now, draw().ok_or(ChangeError::Entropy)?));
    Ok((ring.with(Arc::clone(&key)), Outcome { key, changed: true }))
}

fn rotate(
    ring: &Ring,
    name: &KeyName,
    only_if_latest: Option<u32>,
    now: WallTime,
    draw: &mut dyn FnMut() -> Option<Material>,
) -> Result<(Ring, Outcome), ChangeError> {
    let existing = ring.get(name.as_str()).ok_or(ChangeError::Unknown)?;
    if only_if_latest.is_some_and(|number| number != existing.latest_number()) {
        return Ok((ring.clone(), Outcome { key: Arc::clone(existing), changed: false }));
    }
    if existing.latest_number() >= KEY_VERSIONS_MAX_COUNT {
        return Err(ChangeError::VersionsFull);
    }
    let key = Arc::new(existing.rotated(now, draw().ok_or(ChangeError::Entropy)?));
    Ok((ring.with(Arc::clone(&key)), Outcome { key, changed: true }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::KEY_BYTES;
    use crate::secret::Secret;

    fn draw() -> Option<Material> {
        let secret = || Secret::take(&mut [9; KEY_BYTES]);
        Some(Material { enc: secret(), mac: secret(), sub: secret() })
    }

    fn name(text: &str) -> KeyName {
        KeyName::new(text).unwrap()
    }

    fn make(ring: &Ring, text: &str, kind: KeyType) -> Result<(Ring, Outcome), ChangeError> {
        apply(ring, &Change::Create { name: name(text), kind }, WallTime::default(), &mut draw)
    }

    #[test]
    fn creating_twice_is_the_same_key_and_with_other_options_a_conflict() {
        let (ring, first) = make(&Ring::default(), "a", KeyType::XChaCha20Poly1305).unwrap();
        assert!(first.changed);
        let (ring, second) = make(&ring, "a", KeyType::XChaCha20Poly1305).unwrap();
        assert!(!second.changed);
        assert!(Arc::ptr_eq(&first.key, &second.key));
        assert_eq!(make(&ring, "a", KeyType::ChaCha20Poly1305).err(), Some(ChangeError::Exists));
        assert_eq!(ring.len(), 1);
    }

    #[test]
    fn rotation_leaves_old_snapshots_as_they_were() {
        let (before, _) = make(&Ring::default(), "a", KeyType::XChaCha20Poly1305).unwrap();
        let change = Change::Rotate { name: name("a"), only_if_latest: None };
        let (after, outcome) = apply(&before, &change, WallTime::default(), &mut draw).unwrap();
        assert_eq!(outcome.key.latest_number(), 2);
        assert_eq!(before.get("a").map(|key| key.latest_number()), Some(1));
        assert_eq!(after.get("a").map(|key| key.latest_number()), Some(2));
    }

    #[test]
    fn many_requests_to_replace_a_worn_out_version_cause_one_rotation() {
        let (mut ring, _) = make(&Ring::default(), "a", KeyType::ChaCha20Poly1305).unwrap();
        let change = Change::Rotate { name: name("a"), only_if_latest: Some(1) };
        for expected in [true, false, false] {
            let (next, outcome) = apply(&ring, &change, WallTime::default(), &mut draw).unwrap();
            assert_eq!(outcome.changed, expected);
            assert_eq!(outcome.key.latest_number(), 2);
            ring = next;
        }
    }

    #[test]
    fn an_unknown_key_and_missing_entropy_change_nothing() {
        let ring = Ring::default();
        let change = Change::Rotate { name: name("a"), only_if_latest: None };
        assert_eq!(apply(&ring, &change, WallTime::default(), &mut draw).err(), Some(ChangeError::Unknown));
        let change = Change::Create { name: name("a"), kind: KeyType::XChaCha20Poly1305 };
        assert_eq!(
            apply(&ring, &change, WallTime::default(), &mut || None).err(),
            Some(ChangeError::Entropy)
        );
        assert!(ring.is_empty());
    }

    #[test]
    fn pages_are_sorted_and_continue_behind_a_name() {
        let mut ring = Ring::default();
        for text in ["c", "a", "d", "b"] {
            ring = make(&ring, text, KeyType::XChaCha20Poly1305).unwrap().0;
        }
        let names = |after, count| -> Vec<String> {
            ring.page(after, count).iter().map(|key| key.name().as_str().to_owned()).collect()
        };
        assert_eq!(names(None, 3), ["a", "b", "c"]);
        assert_eq!(names(Some("c"), 3), ["d"]);
        assert_eq!(names(Some("bb"), 1), ["c"]);
    }
}
