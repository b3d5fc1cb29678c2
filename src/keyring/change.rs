//! Changes of the ring: the one place where a next state is made from the current one.
//!
//! Owns [`Change`] and its effects. Invariants: a change is judged against the state it is applied to, never against the
//! one its caller saw; a refused change has no effect; what takes a right away says so in its outcome.

use core::fmt;
use std::sync::Arc;

use crate::clock::WallTime;
use crate::keyring::Ring;
use crate::keyring::key::{Deletion, Key, KeyVersion};
use crate::keyring::material::{Draw, Material};
use crate::keyring::outside;
use crate::limits::{
    AUTO_ROTATE_CEILING_SECONDS, AUTO_ROTATE_FLOOR_SECONDS, KEY_VERSIONS_MAX_COUNT, KEYS_MAX_COUNT,
};
use crate::model::{KeyName, KeyOptions, Policy, PolicyChange, VersionState};
use crate::secret::SecretBytes;

/// A change that a handler or the schedule asks for; only the keeper carries one out.
#[derive(Debug)]
pub enum Change {
    /// Make a key with one version.
    Create {
        /// The new key's name.
        name: KeyName,
        /// What is settled for good.
        options: KeyOptions,
        /// What differs from the usual policy.
        policy: PolicyChange,
    },
    /// Make a new version of a key and encrypt with it from then on.
    Rotate {
        /// The key.
        name: KeyName,
        /// Rotate only if this is still the latest version: set when the server itself found the version worn out or
        /// due, so that many who find it at once cause one rotation.
        only_if_latest: Option<u32>,
    },
    /// Change policy and states of versions, all of it or nothing.
    Configure {
        /// The key.
        name: KeyName,
        /// What is to be changed.
        policy: PolicyChange,
        /// Versions and their new states.
        versions: Vec<(u32, VersionState)>,
    },
    /// Take a key from outside: a new key, or a new version of a key with the same options.
    Import {
        /// The key.
        name: KeyName,
        /// What is settled for good.
        options: KeyOptions,
        /// What differs from the usual policy, for a new key.
        policy: PolicyChange,
        /// The AEAD or HMAC key.
        material: SecretBytes,
    },
    /// Delete a key, so that it can be brought back for a while.
    Delete {
        /// The key.
        name: KeyName,
    },
    /// Destroy a key at once, deleted or not, as its policy allows.
    Destroy {
        /// The key.
        name: KeyName,
    },
    /// Drop the versions below this one, which the bounds of the policy forbid already.
    Trim {
        /// The key.
        name: KeyName,
        /// The oldest version that stays.
        oldest: u32,
    },
    /// Bring a deleted key back.
    Undelete {
        /// The key.
        name: KeyName,
    },
    /// Destroy a deleted key whose time has passed. Only the schedule asks for it.
    Purge {
        /// The key.
        name: KeyName,
    },
    /// Put a key from a backup into the ring.
    Restore {
        /// Its name here.
        name: KeyName,
        /// The key as it was backed up.
        key: Box<Key>,
        /// Whether it may take the place of a key of that name.
        replace: bool,
    },
    /// Have nothing seal with 96-bit nonces any more whose counts may have been set back. Only an accepted rollback asks
    /// for it.
    Distrust {
        /// The key.
        name: KeyName,
    },
    /// Set aside more seals with 96-bit nonces.
    ReserveSeals {
        /// The key.
        name: KeyName,
        /// The version.
        version: u32,
    },
}

impl Change {
    /// The key that is changed.
    #[must_use]
    pub const fn key(&self) -> &KeyName {
        match self {
            Self::Create { name, .. }
            | Self::Rotate { name, .. }
            | Self::Configure { name, .. }
            | Self::Import { name, .. }
            | Self::Delete { name }
            | Self::Destroy { name }
            | Self::Trim { name, .. }
            | Self::Undelete { name }
            | Self::Purge { name }
            | Self::Restore { name, .. }
            | Self::Distrust { name }
            | Self::ReserveSeals { name, .. } => name,
        }
    }

    /// What it is called in audit lines.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "key.create",
            Self::Rotate { .. } => "key.rotate",
            Self::Configure { .. } => "key.configure",
            Self::Import { .. } => "key.import",
            Self::Delete { .. } => "key.delete",
            Self::Destroy { .. } => "key.destroy",
            Self::Trim { .. } => "key.trim",
            Self::Undelete { .. } => "key.undelete",
            Self::Purge { .. } => "key.purge",
            Self::Restore { .. } => "key.restore",
            Self::Distrust { .. } => "key.distrust",
            Self::ReserveSeals { .. } => "key.reserve",
        }
    }
}

/// Why a change was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// A key of that name exists with other options.
    Exists,
    /// No key of that name exists.
    Unknown,
    /// The key is deleted.
    Deleted,
    /// The key is not deleted.
    NotDeleted,
    /// The policy of the key does not allow its deletion, nor that of a version.
    DeletionNotAllowed,
    /// The key has no such version.
    UnknownVersion,
    /// A destroyed version stays destroyed, and an imported one with 96-bit nonces seals nothing.
    StateNotAllowed,
    /// A version bound of the policy names a version that the key does not have, or bounds contradict each other.
    PolicyNotAllowed,
    /// The imported bytes cannot be a key of that type, or the options contradict each other.
    MaterialNotAllowed,
    /// The ring holds as many keys as it may.
    RingFull,
    /// The key has as many versions as it may have.
    VersionsFull,
    /// No random bytes could be drawn.
    Entropy,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exists => "a key of that name exists with other options",
            Self::Unknown => "no key of that name exists",
            Self::Deleted => "the key is deleted",
            Self::NotDeleted => "the key is not deleted",
            Self::DeletionNotAllowed => "the policy of the key does not allow deletion",
            Self::UnknownVersion => "the key has no such version",
            Self::StateNotAllowed => "the version cannot be brought into that state",
            Self::PolicyNotAllowed => "the policy names versions that do not exist, or contradicts itself",
            Self::MaterialNotAllowed => "the material does not fit the type of the key",
            Self::RingFull => "the key ring is full",
            Self::VersionsFull => "the key has as many versions as it may have",
            Self::Entropy => "no random bytes could be drawn",
        })
    }
}

impl std::error::Error for ChangeError {}

impl From<crate::crypto::Error> for ChangeError {
    fn from(_: crate::crypto::Error) -> Self {
        Self::Entropy
    }
}

/// What has to be written down before a change is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: the request was already fulfilled.
    None,
    /// The key as it is now.
    Put,
    /// That the key is gone.
    Removed,
    /// The figures of a version, with so many seals set aside; they count once that is durable.
    Reserved {
        /// The version.
        version: u32,
        /// Seals that are set aside in all.
        seals: u64,
    },
}

/// What a change has led to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The key as it is afterwards; as it was, if it is gone.
    pub key: Arc<Key>,
    /// What has to be written down.
    pub effect: Effect,
    /// Whether something is forbidden now that was allowed before: then it is answered only when no worker can still
    /// act on what was.
    pub restricts: bool,
}

impl Outcome {
    /// Whether anything is another than before.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.effect != Effect::None
    }
}

/// What a change needs to know beside the ring.
pub struct Circumstances<'a> {
    /// The time at which it is made.
    pub now: WallTime,
    /// How long a deleted key can be brought back.
    pub restore_window_seconds: u64,
    /// Where new secrets come from.
    pub draw: &'a mut Draw<'a>,
}

impl fmt::Debug for Circumstances<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circumstances").field("now", &self.now).finish_non_exhaustive()
    }
}

/// Applies `change` to `ring`.
///
/// # Errors
/// [`ChangeError`]; `ring` is untouched then.
pub fn apply(ring: &mut Ring, change: &Change, at: &mut Circumstances<'_>) -> Result<Outcome, ChangeError> {
    match change {
        Change::Create { name, options, policy } => create(ring, name, *options, policy, at),
        Change::Rotate { name, only_if_latest } => rotate(ring, name, *only_if_latest, at),
        Change::Configure { name, policy, versions } => configure(ring, name, policy, versions),
        Change::Import { name, options, policy, material } => {
            outside::import(ring, name, *options, policy, material, at)
        }
        Change::Delete { name } => delete(ring, name, at),
        Change::Destroy { name } => destroy(ring, name),
        Change::Trim { name, oldest } => trim(ring, name, *oldest),
        Change::Undelete { name } => undelete(ring, name, at.now),
        Change::Purge { name } => purge(ring, name, at.now),
        Change::Restore { name, key, replace } => outside::restore(ring, name, key, *replace, at),
        Change::Distrust { name } => outside::distrust(ring, name, at),
        Change::ReserveSeals { name, version } => reserve(ring, name, *version),
    }
}

pub(super) fn put(ring: &mut Ring, key: Key, restricts: bool) -> Outcome {
    let key = Arc::new(key);
    ring.put(Arc::clone(&key));
    Outcome { key, effect: Effect::Put, restricts }
}

fn unchanged(key: &Arc<Key>) -> Outcome {
    Outcome { key: Arc::clone(key), effect: Effect::None, restricts: false }
}

/// The key of this name, which must not be deleted.
pub(super) fn living<'a>(ring: &'a Ring, name: &KeyName) -> Result<&'a Arc<Key>, ChangeError> {
    let key = ring.get_any(name.as_str()).ok_or(ChangeError::Unknown)?;
    if key.deletion.is_some() { Err(ChangeError::Deleted) } else { Ok(key) }
}

/// A key without versions yet.
pub(super) fn bare(
    name: &KeyName,
    options: KeyOptions,
    policy: &PolicyChange,
    at: &mut Circumstances<'_>,
) -> Result<Key, ChangeError> {
    if (options.derived && !options.kind.encrypts()) || (options.convergent && !options.derived) {
        return Err(ChangeError::MaterialNotAllowed);
    }
    let mut id = [0; super::key::KEY_ID_BYTES];
    (at.draw)(&mut id)?;
    let policy = merged(&Policy::default(), policy);
    let (name, created) = (name.clone(), at.now);
    Ok(Key { name, id, options, policy, created, deletion: None, versions: Vec::with_capacity(1) })
}

/// A fresh version, next in number.
pub(super) fn fresh(key: &Key, at: &mut Circumstances<'_>) -> Result<KeyVersion, ChangeError> {
    let number = key.latest_number().checked_add(1).ok_or(ChangeError::VersionsFull)?;
    Ok(KeyVersion::new(number, at.now, Material::draw(key.kind(), at.draw)?))
}

/// Adds a version, and drops the oldest beyond those that the policy keeps.
pub(super) fn add(key: &mut Key, version: KeyVersion) -> Result<(), ChangeError> {
    if !key.takes_version() {
        return Err(ChangeError::VersionsFull);
    }
    key.versions.push(Arc::new(version));
    let keep = usize::try_from(key.policy.keep_versions).unwrap_or(usize::MAX);
    if keep > 0 && key.versions.len() > keep {
        key.versions.drain(..key.versions.len() - keep);
    }
    Ok(())
}

fn create(
    ring: &mut Ring,
    name: &KeyName,
    options: KeyOptions,
    policy: &PolicyChange,
    at: &mut Circumstances<'_>,
) -> Result<Outcome, ChangeError> {
    if ring.get_any(name.as_str()).is_some() {
        let existing = living(ring, name)?;
        let same = existing.options == options && merged(&existing.policy, policy) == existing.policy;
        return if same { Ok(unchanged(existing)) } else { Err(ChangeError::Exists) };
    }
    if ring.len() >= KEYS_MAX_COUNT {
        return Err(ChangeError::RingFull);
    }
    let mut key = bare(name, options, policy, at)?;
    let first = fresh(&key, at)?;
    add(&mut key, first)?;
    check_policy(&key)?;
    Ok(put(ring, key, false))
}

fn rotate(
    ring: &mut Ring,
    name: &KeyName,
    only_if_latest: Option<u32>,
    at: &mut Circumstances<'_>,
) -> Result<Outcome, ChangeError> {
    let existing = living(ring, name)?;
    if only_if_latest.is_some_and(|number| number != existing.latest_number()) {
        return Ok(unchanged(existing));
    }
    if !existing.takes_version() {
        return Err(ChangeError::VersionsFull);
    }
    let oldest = existing.oldest_number();
    let mut key = (**existing).clone();
    let next = fresh(&key, at)?;
    add(&mut key, next)?;
    let dropped = key.oldest_number() != oldest;
    Ok(put(ring, key, dropped))
}

/// The policy with what is named in `change`.
pub(super) fn merged(policy: &Policy, change: &PolicyChange) -> Policy {
    let or = |named: Option<u32>, old: u32| named.unwrap_or(old);
    Policy {
        min_decryption_version: or(change.min_decryption_version, policy.min_decryption_version),
        min_encryption_version: or(change.min_encryption_version, policy.min_encryption_version),
        keep_versions: or(change.keep_versions, policy.keep_versions),
        auto_rotate_seconds: change.auto_rotate_seconds.unwrap_or(policy.auto_rotate_seconds),
        deletion_allowed: change.deletion_allowed.unwrap_or(policy.deletion_allowed),
    }
}

/// Refuses a policy that does not fit the versions of its key. A bound below the oldest version that is kept is none,
/// but no contradiction: what a rotation drops does not change what the operator said.
pub(super) fn check_policy(key: &Key) -> Result<(), ChangeError> {
    let Policy { keep_versions, auto_rotate_seconds: age, .. } = key.policy;
    let fits = key.is_sound()
        && keep_versions <= KEY_VERSIONS_MAX_COUNT
        && (age == 0 || (AUTO_ROTATE_FLOOR_SECONDS..=AUTO_ROTATE_CEILING_SECONDS).contains(&age));
    if fits { Ok(()) } else { Err(ChangeError::PolicyNotAllowed) }
}

fn configure(
    ring: &mut Ring,
    name: &KeyName,
    policy: &PolicyChange,
    versions: &[(u32, VersionState)],
) -> Result<Outcome, ChangeError> {
    let existing = living(ring, name)?;
    let mut key = (**existing).clone();
    key.policy = merged(&key.policy, policy);
    check_policy(&key)?;
    let mut restricts = key.policy.min_decryption_version > existing.policy.min_decryption_version
        || key.policy.min_encryption_version > existing.policy.min_encryption_version;
    let mut changed = key.policy != existing.policy;
    for (number, state) in versions {
        let from = key.version(*number).ok_or(ChangeError::UnknownVersion)?;
        if from.state == *state {
            continue;
        }
        let sealing_again = *state == VersionState::Enabled && from.imported && key.kind().counts_seals();
        if from.state == VersionState::Destroyed || sealing_again {
            return Err(ChangeError::StateNotAllowed);
        }
        if *state == VersionState::Destroyed && !key.policy.deletion_allowed {
            return Err(ChangeError::DeletionNotAllowed);
        }
        restricts |= rank(*state) > rank(from.state);
        let next = Arc::new(from.in_state(*state));
        let index = usize::try_from(*number - key.oldest_number()).unwrap_or(usize::MAX);
        *key.versions.get_mut(index).ok_or(ChangeError::UnknownVersion)? = next;
        changed = true;
    }
    if changed { Ok(put(ring, key, restricts)) } else { Ok(unchanged(existing)) }
}

/// How much a state forbids.
const fn rank(state: VersionState) -> u8 {
    match state {
        VersionState::Enabled => 0,
        VersionState::DecryptOnly => 1,
        VersionState::Disabled => 2,
        VersionState::Destroyed => 3,
    }
}

fn delete(ring: &mut Ring, name: &KeyName, at: &Circumstances<'_>) -> Result<Outcome, ChangeError> {
    let existing = living(ring, name)?;
    if !existing.policy.deletion_allowed {
        return Err(ChangeError::DeletionNotAllowed);
    }
    let mut key = (**existing).clone();
    let window = at.restore_window_seconds.saturating_mul(1_000);
    let purge_at = WallTime::from_millis(at.now.as_millis().saturating_add(window));
    key.deletion = Some(Deletion { at: at.now, purge_at });
    Ok(put(ring, key, true))
}

fn destroy(ring: &mut Ring, name: &KeyName) -> Result<Outcome, ChangeError> {
    let existing = Arc::clone(ring.get_any(name.as_str()).ok_or(ChangeError::Unknown)?);
    if !existing.policy.deletion_allowed {
        return Err(ChangeError::DeletionNotAllowed);
    }
    ring.remove(name.as_str());
    Ok(Outcome { key: existing, effect: Effect::Removed, restricts: true })
}

fn trim(ring: &mut Ring, name: &KeyName, oldest: u32) -> Result<Outcome, ChangeError> {
    let existing = living(ring, name)?;
    let Policy { min_decryption_version: open, min_encryption_version: seal, .. } = existing.policy;
    if oldest == 0 || oldest > open || oldest > seal || oldest > existing.latest_number() {
        return Err(ChangeError::PolicyNotAllowed);
    }
    if oldest <= existing.oldest_number() {
        return Ok(unchanged(existing));
    }
    let mut key = (**existing).clone();
    key.versions.retain(|version| version.number >= oldest);
    Ok(put(ring, key, true))
}

fn undelete(ring: &mut Ring, name: &KeyName, now: WallTime) -> Result<Outcome, ChangeError> {
    let existing = ring.get_any(name.as_str()).ok_or(ChangeError::Unknown)?;
    let deletion = existing.deletion.ok_or(ChangeError::NotDeleted)?;
    if deletion.purge_at <= now {
        // Its time has passed: whether the schedule has already looked must make no difference.
        return Err(ChangeError::Deleted);
    }
    let mut key = (**existing).clone();
    key.deletion = None;
    Ok(put(ring, key, false))
}

fn purge(ring: &mut Ring, name: &KeyName, now: WallTime) -> Result<Outcome, ChangeError> {
    let existing = Arc::clone(ring.get_any(name.as_str()).ok_or(ChangeError::Unknown)?);
    match existing.deletion {
        Some(deletion) if deletion.purge_at <= now => {
            ring.remove(name.as_str());
            Ok(Outcome { key: existing, effect: Effect::Removed, restricts: true })
        }
        // It was brought back meanwhile.
        _ => Ok(unchanged(&existing)),
    }
}

fn reserve(ring: &Ring, name: &KeyName, number: u32) -> Result<Outcome, ChangeError> {
    let key = living(ring, name)?;
    // A version that went meanwhile is no error: whoever asks looks again, and finds the version to seal with now.
    let sealing = key.version(number).filter(|version| version.state == VersionState::Enabled);
    let counted = sealing.filter(|_| key.kind().counts_seals());
    let promised = counted.and_then(|version| version.uses().promise_block());
    let effect = promised.map_or(Effect::None, |seals| Effect::Reserved { version: number, seals });
    Ok(Outcome { key: Arc::clone(key), effect, restricts: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::trial::{Trial, WINDOW_SECONDS, name};
    use crate::limits::{NONCE_96_SEALS_MAX_COUNT, SEALS_BLOCK_COUNT};
    use crate::model::KeyType;

    const OPTIONS: KeyOptions = KeyOptions::of(KeyType::XChaCha20Poly1305);

    fn deletable() -> PolicyChange {
        PolicyChange { deletion_allowed: Some(true), ..PolicyChange::default() }
    }

    fn keeping(versions: u32) -> PolicyChange {
        PolicyChange { keep_versions: Some(versions), ..PolicyChange::default() }
    }

    fn numbers(trial: &Trial) -> Vec<u32> {
        trial.key().versions().map(KeyVersion::number).collect()
    }

    /// The number of the next version set to `latest`, as after so many rotations.
    fn aged(trial: &mut Trial, latest: u32) {
        let mut key = (**trial.key()).clone();
        let mut version = (*key.versions[0]).clone();
        version.number = latest;
        key.versions = vec![Arc::new(version)];
        trial.ring.put(Arc::new(key));
    }

    #[test]
    fn creating_a_key_again_as_it_is_changes_nothing_and_otherwise_conflicts() {
        let mut trial = Trial::of(KeyType::XChaCha20Poly1305);
        trial.rotate().unwrap();
        assert!(!trial.create("k", OPTIONS, PolicyChange::default()).unwrap().changed());
        assert_eq!(trial.create("k", OPTIONS, keeping(1)).err(), Some(ChangeError::Exists));
        let exportable = KeyOptions { exportable: true, ..OPTIONS };
        assert_eq!(trial.create("k", exportable, PolicyChange::default()).err(), Some(ChangeError::Exists));
        trial.configure(keeping(5)).unwrap();
        assert!(!trial.create("k", OPTIONS, keeping(5)).unwrap().changed());
        assert_eq!(trial.key().latest_number(), 2);
    }

    #[test]
    fn a_key_is_destroyed_at_once_if_its_policy_allows_and_its_name_is_free_then() {
        let mut trial = Trial::with(OPTIONS, PolicyChange::default());
        let destroy = Change::Destroy { name: name("k") };
        assert_eq!(trial.apply(&destroy).err(), Some(ChangeError::DeletionNotAllowed));
        trial.configure(deletable()).unwrap();
        trial.apply(&Change::Delete { name: name("k") }).unwrap();
        let outcome = trial.apply(&destroy).unwrap();
        assert!(outcome.restricts && outcome.effect == Effect::Removed && trial.ring.get_any("k").is_none());
        assert_eq!(trial.apply(&destroy).err(), Some(ChangeError::Unknown));
        assert!(trial.create("k", OPTIONS, PolicyChange::default()).unwrap().changed());
    }

    #[test]
    fn only_what_both_bounds_forbid_is_trimmed() {
        let mut trial = Trial::with(OPTIONS, PolicyChange::default());
        for _ in 1..4 {
            trial.rotate().unwrap();
        }
        let trim = |oldest: u32| Change::Trim { name: name("k"), oldest };
        assert_eq!(
            trial.apply(&trim(1)).err(),
            Some(ChangeError::PolicyNotAllowed),
            "no bound for encryption"
        );
        let (open, seal) = (Some(2), Some(3));
        let bounds = PolicyChange {
            min_decryption_version: open,
            min_encryption_version: seal,
            ..PolicyChange::default()
        };
        trial.configure(bounds).unwrap();
        for refused in [0, 3, 4, 9] {
            assert_eq!(trial.apply(&trim(refused)).err(), Some(ChangeError::PolicyNotAllowed), "{refused}");
        }
        assert!(!trial.apply(&trim(1)).unwrap().changed());
        assert!(trial.apply(&trim(2)).unwrap().restricts);
        assert_eq!(numbers(&trial), [2, 3, 4]);
        assert!(!trial.apply(&trim(2)).unwrap().changed());
    }

    #[test]
    fn a_key_that_cannot_be_is_not_created() {
        let mut trial = Trial::new();
        let derived_mac = KeyOptions { derived: true, ..KeyOptions::of(KeyType::HmacSha256) };
        let made = trial.create("k", derived_mac, PolicyChange::default());
        assert_eq!(made.err(), Some(ChangeError::MaterialNotAllowed));
        let bound = PolicyChange { min_decryption_version: Some(2), ..PolicyChange::default() };
        assert_eq!(trial.create("k", OPTIONS, bound).err(), Some(ChangeError::PolicyNotAllowed));
        assert!(trial.ring.is_empty());
    }

    #[test]
    fn a_deleted_name_is_taken_until_it_is_purged() {
        let mut trial = Trial::with(OPTIONS, deletable());
        let first = *trial.key().id();
        trial.delete().unwrap();
        assert_eq!(trial.create("k", OPTIONS, deletable()).err(), Some(ChangeError::Deleted));
        assert_eq!(trial.import(OPTIONS, &[1; 32]).err(), Some(ChangeError::Deleted));
        assert_eq!(trial.rotate().err(), Some(ChangeError::Deleted));
        assert_eq!(trial.configure(keeping(1)).err(), Some(ChangeError::Deleted));
        assert_eq!(trial.delete().err(), Some(ChangeError::Deleted));
        assert_eq!(trial.reserve(1).err(), Some(ChangeError::Deleted));
        trial.after_seconds(WINDOW_SECONDS);
        assert_eq!(trial.apply(&Change::Purge { name: name("k") }).unwrap().effect, Effect::Removed);
        trial.create("k", OPTIONS, deletable()).unwrap();
        assert_ne!(*trial.key().id(), first);
    }

    #[test]
    fn a_key_is_deleted_only_if_its_policy_allows_it() {
        let mut trial = Trial::of(KeyType::XChaCha20Poly1305);
        assert_eq!(trial.delete().err(), Some(ChangeError::DeletionNotAllowed));
        trial.configure(deletable()).unwrap();
        assert!(trial.delete().unwrap().restricts);
        assert!(trial.ring.get("k").is_none());
    }

    #[test]
    fn a_deleted_key_comes_back_within_its_window_only() {
        let mut trial = Trial::with(OPTIONS, deletable());
        let undelete = Change::Undelete { name: name("k") };
        assert_eq!(trial.apply(&undelete).err(), Some(ChangeError::NotDeleted));
        trial.delete().unwrap();
        trial.after_seconds(WINDOW_SECONDS - 1);
        assert!(!trial.apply(&undelete).unwrap().restricts);
        assert!(trial.ring.get("k").is_some());
        trial.delete().unwrap();
        trial.after_seconds(WINDOW_SECONDS);
        assert_eq!(trial.apply(&undelete).err(), Some(ChangeError::Deleted));
        let unknown = Change::Undelete { name: name("other") };
        assert_eq!(trial.apply(&unknown).err(), Some(ChangeError::Unknown));
    }

    #[test]
    fn a_purge_that_comes_early_or_too_late_takes_nothing() {
        let mut trial = Trial::with(OPTIONS, deletable());
        let purge = Change::Purge { name: name("k") };
        assert!(!trial.apply(&purge).unwrap().changed());
        trial.delete().unwrap();
        trial.after_seconds(WINDOW_SECONDS - 1);
        assert!(!trial.apply(&purge).unwrap().changed());
        trial.apply(&Change::Undelete { name: name("k") }).unwrap();
        trial.after_seconds(1);
        assert!(!trial.apply(&purge).unwrap().changed());
        assert_eq!(trial.ring.len(), 1);
    }

    #[test]
    fn many_who_find_a_version_worn_out_cause_one_rotation() {
        let mut trial = Trial::of(KeyType::XChaCha20Poly1305);
        let change = Change::Rotate { name: name("k"), only_if_latest: Some(1) };
        assert!(trial.apply(&change).unwrap().changed());
        assert!(!trial.apply(&change).unwrap().changed());
        assert_eq!(trial.key().latest_number(), 2);
    }

    #[test]
    fn a_rotation_keeps_as_many_versions_as_the_policy_says_even_below_its_bounds() {
        let mut trial = Trial::with(OPTIONS, keeping(2));
        assert!(!trial.rotate().unwrap().restricts);
        assert!(trial.rotate().unwrap().restricts, "the first version is gone");
        assert_eq!(numbers(&trial), [2, 3]);
        // The bound names a version that is gone; it stays what the operator said, and allows nothing more.
        assert_eq!(trial.key().policy().min_decryption_version, 1);
        assert!(trial.key().opening_version(1).is_err());
        let bound = |number| PolicyChange { min_decryption_version: Some(number), ..PolicyChange::default() };
        trial.configure(bound(2)).unwrap();
        assert_eq!(trial.configure(bound(4)).err(), Some(ChangeError::PolicyNotAllowed));
        trial.configure(keeping(1)).unwrap();
        assert_eq!(numbers(&trial), [2, 3], "only a rotation drops versions");
        trial.rotate().unwrap();
        assert_eq!(numbers(&trial), [4]);
        assert_eq!(trial.set(3, VersionState::Disabled).err(), Some(ChangeError::UnknownVersion));
        trial.set(4, VersionState::Disabled).unwrap();
    }

    #[test]
    fn a_full_key_is_rotated_only_if_old_versions_give_way() {
        let mut trial = Trial::of(KeyType::XChaCha20Poly1305);
        for _ in 1..KEY_VERSIONS_MAX_COUNT {
            trial.rotate().unwrap();
        }
        assert!(!trial.key().takes_version());
        assert_eq!(trial.rotate().err(), Some(ChangeError::VersionsFull));
        assert_eq!(trial.import(OPTIONS, &[1; 32]).err(), Some(ChangeError::VersionsFull));
        trial.configure(keeping(KEY_VERSIONS_MAX_COUNT)).unwrap();
        trial.rotate().unwrap();
        assert_eq!(
            (trial.key().oldest_number(), trial.key().latest_number()),
            (2, KEY_VERSIONS_MAX_COUNT + 1)
        );
        trial.configure(keeping(3)).unwrap();
        trial.rotate().unwrap();
        assert_eq!(trial.key().versions().len(), 3);
    }

    #[test]
    fn version_numbers_end_and_do_not_wrap() {
        let mut trial = Trial::with(KeyOptions::of(KeyType::ChaCha20Poly1305), keeping(3));
        aged(&mut trial, u32::MAX - 1);
        let imported = trial.import(KeyOptions::of(KeyType::ChaCha20Poly1305), &[1; 32]);
        assert_eq!(
            imported.err(),
            Some(ChangeError::VersionsFull),
            "an import of this type takes two numbers"
        );
        trial.rotate().unwrap();
        assert_eq!(trial.key().latest_number(), u32::MAX);
        assert!(!trial.key().takes_version());
        assert_eq!(trial.rotate().err(), Some(ChangeError::VersionsFull));
        assert_eq!(numbers(&trial), [u32::MAX - 1, u32::MAX]);
    }

    #[test]
    fn a_policy_that_contradicts_itself_or_the_limits_is_refused_whole() {
        let mut trial = Trial::with(OPTIONS, deletable());
        trial.rotate().unwrap();
        trial.rotate().unwrap();
        let before = *trial.key().policy();
        let none = PolicyChange::default();
        for wrong in [
            PolicyChange { min_decryption_version: Some(0), ..none },
            PolicyChange { min_decryption_version: Some(4), ..none },
            PolicyChange { min_encryption_version: Some(4), ..none },
            PolicyChange { min_decryption_version: Some(3), min_encryption_version: Some(2), ..none },
            PolicyChange { keep_versions: Some(KEY_VERSIONS_MAX_COUNT + 1), ..none },
            PolicyChange { auto_rotate_seconds: Some(AUTO_ROTATE_CEILING_SECONDS + 1), ..none },
            PolicyChange { auto_rotate_seconds: Some(u64::MAX), deletion_allowed: Some(false), ..none },
        ] {
            assert_eq!(trial.configure(wrong).err(), Some(ChangeError::PolicyNotAllowed), "{wrong:?}");
            assert_eq!(*trial.key().policy(), before);
        }
        for age in [AUTO_ROTATE_FLOOR_SECONDS, AUTO_ROTATE_CEILING_SECONDS, 0] {
            trial.configure(PolicyChange { auto_rotate_seconds: Some(age), ..none }).unwrap();
        }
        trial.configure(PolicyChange { min_encryption_version: Some(2), ..none }).unwrap();
        let overtaken = PolicyChange { min_decryption_version: Some(3), ..none };
        assert_eq!(trial.configure(overtaken).err(), Some(ChangeError::PolicyNotAllowed));
    }

    #[test]
    fn only_the_named_members_of_a_policy_change() {
        let named = PolicyChange {
            min_decryption_version: Some(2),
            min_encryption_version: Some(3),
            keep_versions: Some(4),
            auto_rotate_seconds: Some(5),
            deletion_allowed: Some(true),
        };
        let all = merged(&Policy::default(), &named);
        assert_eq!(merged(&all, &PolicyChange::default()), all);
        let none = PolicyChange::default();
        let one = |change: PolicyChange| merged(&Policy::default(), &change);
        let usual = Policy::default();
        assert_eq!(
            one(PolicyChange { min_decryption_version: Some(2), ..none }),
            Policy { min_decryption_version: 2, ..usual }
        );
        assert_eq!(
            one(PolicyChange { min_encryption_version: Some(3), ..none }),
            Policy { min_encryption_version: 3, ..usual }
        );
        assert_eq!(one(keeping(4)), Policy { keep_versions: 4, ..usual });
        assert_eq!(
            one(PolicyChange { auto_rotate_seconds: Some(5), ..none }),
            Policy { auto_rotate_seconds: 5, ..usual }
        );
        assert_eq!(one(deletable()), Policy { deletion_allowed: true, ..usual });
    }

    #[test]
    fn what_takes_a_right_away_says_so() {
        let mut trial = Trial::with(OPTIONS, deletable());
        trial.rotate().unwrap();
        let none = PolicyChange::default();
        let bounds = |open, seal| PolicyChange {
            min_decryption_version: Some(open),
            min_encryption_version: Some(seal),
            ..none
        };
        assert!(trial.configure(bounds(2, 0)).unwrap().restricts);
        assert!(trial.configure(bounds(2, 2)).unwrap().restricts);
        assert!(!trial.configure(bounds(1, 2)).unwrap().restricts);
        assert!(!trial.configure(bounds(1, 0)).unwrap().restricts);
        assert!(!trial.configure(keeping(7)).unwrap().restricts);
        for (state, restricts) in [
            (VersionState::DecryptOnly, true),
            (VersionState::Disabled, true),
            (VersionState::DecryptOnly, false),
            (VersionState::Enabled, false),
            (VersionState::Destroyed, true),
        ] {
            assert_eq!(trial.set(1, state).unwrap().restricts, restricts, "{state:?}");
        }
        assert!(!trial.set(1, VersionState::Destroyed).unwrap().changed());
    }

    #[test]
    fn states_allow_what_they_say() {
        let mut trial = Trial::with(OPTIONS, deletable());
        for (state, seals, opens) in [
            (VersionState::Enabled, true, true),
            (VersionState::DecryptOnly, false, true),
            (VersionState::Disabled, false, false),
            (VersionState::Destroyed, false, false),
        ] {
            trial.set(1, state).unwrap();
            let key = trial.key();
            assert_eq!(key.sealing_version(None).is_ok(), seals, "{state:?}");
            assert_eq!(key.opening_version(1).is_ok(), opens, "{state:?}");
        }
    }

    #[test]
    fn a_destroyed_version_has_no_secrets_and_stays_destroyed() {
        let mut trial = Trial::of(KeyType::XChaCha20Poly1305);
        assert_eq!(trial.set(1, VersionState::Destroyed).err(), Some(ChangeError::DeletionNotAllowed));
        trial.configure(deletable()).unwrap();
        trial.set(1, VersionState::Destroyed).unwrap();
        let version = trial.key().version(1).unwrap();
        assert!(version.material().is_none() && version.with_encryption_key(|_| ()).is_none());
        assert!(version.sign(KeyType::XChaCha20Poly1305, b"m").is_none());
        assert!(version.with_derived_key(b"c", |_| ()).is_none());
        for state in [VersionState::Enabled, VersionState::DecryptOnly, VersionState::Disabled] {
            assert_eq!(trial.set(1, state).err(), Some(ChangeError::StateNotAllowed));
        }
    }

    #[test]
    fn a_configuration_is_taken_whole_or_not_at_all() {
        let mut trial = Trial::of(KeyType::XChaCha20Poly1305);
        trial.rotate().unwrap();
        let versions = vec![(1, VersionState::Disabled), (9, VersionState::Disabled)];
        let change = Change::Configure { name: name("k"), policy: deletable(), versions };
        assert_eq!(trial.apply(&change).err(), Some(ChangeError::UnknownVersion));
        assert_eq!(trial.key().version(1).unwrap().state(), VersionState::Enabled);
        assert!(!trial.key().policy().deletion_allowed);
        assert!(!trial.configure(PolicyChange::default()).unwrap().changed());
    }

    #[test]
    fn many_who_want_a_block_set_one_aside() {
        let mut trial = Trial::of(KeyType::ChaCha20Poly1305);
        let block = Effect::Reserved { version: 1, seals: SEALS_BLOCK_COUNT };
        // In one group commit, before the grant, all of them are promised the same block.
        assert_eq!(trial.reserve(1).unwrap().effect, block);
        assert_eq!(trial.reserve(1).unwrap().effect, block);
        let uses = trial.key().version(1).unwrap().uses();
        uses.grant(SEALS_BLOCK_COUNT);
        uses.count_seals(1).unwrap();
        assert_eq!(trial.reserve(1).unwrap().effect, Effect::None);
        trial.key().version(1).unwrap().uses().count_seals(SEALS_BLOCK_COUNT / 2).unwrap();
        let second = Effect::Reserved { version: 1, seals: 2 * SEALS_BLOCK_COUNT };
        assert_eq!(trial.reserve(1).unwrap().effect, second);
    }

    #[test]
    fn nothing_is_set_aside_for_a_version_that_went_or_does_not_count() {
        let mut trial = Trial::with(KeyOptions::of(KeyType::ChaCha20Poly1305), keeping(1));
        trial.rotate().unwrap();
        assert_eq!(trial.reserve(1).unwrap().effect, Effect::None, "who asks again finds version 2");
        trial.set(2, VersionState::DecryptOnly).unwrap();
        assert_eq!(trial.reserve(2).unwrap().effect, Effect::None);
        let mut plain = Trial::of(KeyType::XChaCha20Poly1305);
        assert_eq!(plain.reserve(1).unwrap().effect, Effect::None);
        assert_eq!(Trial::new().reserve(1).err(), Some(ChangeError::Unknown));
    }

    #[test]
    fn a_worn_out_version_of_a_key_that_cannot_be_rotated_opens_and_seals_nothing() {
        let mut trial = Trial::of(KeyType::ChaCha20Poly1305);
        aged(&mut trial, u32::MAX);
        let mut key = (**trial.key()).clone();
        let mut version = (*key.versions[0]).clone();
        version.uses = Arc::new(super::super::Uses::restored(NONCE_96_SEALS_MAX_COUNT, 0, trial.now));
        key.versions[0] = Arc::new(version);
        trial.ring.put(Arc::new(key));
        let uses = trial.key().sealing_version(None).unwrap().uses();
        assert_eq!(uses.count_seals(1), Err(super::super::SealRefusal::WornOut));
        assert_eq!(trial.reserve(u32::MAX).unwrap().effect, Effect::None);
        let rotate = Change::Rotate { name: name("k"), only_if_latest: Some(u32::MAX) };
        assert_eq!(trial.apply(&rotate).err(), Some(ChangeError::VersionsFull));
        assert!(trial.key().opening_version(u32::MAX).is_ok());
    }

    #[test]
    fn without_randomness_nothing_changes() {
        let mut trial = Trial::of(KeyType::XChaCha20Poly1305);
        let mut none = |_: &mut [u8]| Err(crate::crypto::Error::Entropy);
        let mut at = Circumstances { now: trial.now, restore_window_seconds: 0, draw: &mut none };
        let rotate = Change::Rotate { name: name("k"), only_if_latest: None };
        assert_eq!(apply(&mut trial.ring, &rotate, &mut at).err(), Some(ChangeError::Entropy));
        let create = Change::Create { name: name("b"), options: OPTIONS, policy: PolicyChange::default() };
        assert_eq!(apply(&mut trial.ring, &create, &mut at).err(), Some(ChangeError::Entropy));
        assert_eq!((trial.ring.len(), trial.key().latest_number()), (1, 1));
    }

    #[test]
    fn a_full_ring_takes_no_key_but_changes_those_it_has() {
        let mut trial = Trial::with(OPTIONS, deletable());
        let key = Arc::clone(trial.key());
        for number in 1..KEYS_MAX_COUNT {
            let mut other = (*key).clone();
            other.name = name(&number.to_string());
            trial.ring.put(Arc::new(other));
        }
        assert_eq!(trial.create("new", OPTIONS, deletable()).err(), Some(ChangeError::RingFull));
        assert_eq!(trial.restore("new", &key, false).err(), Some(ChangeError::RingFull));
        let material = SecretBytes::take(&mut [1; 32]);
        let import = Change::Import { name: name("new"), options: OPTIONS, policy: deletable(), material };
        assert_eq!(trial.apply(&import).err(), Some(ChangeError::RingFull));
        trial.restore("k", &key, true).unwrap();
        trial.rotate().unwrap();
    }
}
