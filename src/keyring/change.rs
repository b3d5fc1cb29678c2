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
            | Self::Undelete { name }
            | Self::Purge { name }
            | Self::Restore { name, .. }
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
            Self::Undelete { .. } => "key.undelete",
            Self::Purge { .. } => "key.purge",
            Self::Restore { .. } => "key.restore",
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
    /// The keeper cannot take the change now.
    Unavailable,
    /// The store could not write the change down; nothing of it was kept.
    StoreFailed,
    /// The store has no room for the change; nothing of it was kept.
    StoreFull,
    /// The store takes no changes until the server is started again.
    StoreRefuses,
    /// Whether the change outlives a restart is not known.
    Ambiguous,
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
            Self::Unavailable => "the change cannot be made now",
            Self::StoreFailed => "the store could not write the change down",
            Self::StoreFull => "the store has no room for the change",
            Self::StoreRefuses => "the store takes no changes until a restart",
            Self::Ambiguous => "whether the change outlives a restart is not known",
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
        Change::Undelete { name } => undelete(ring, name, at.now),
        Change::Purge { name } => purge(ring, name, at.now),
        Change::Restore { name, key, replace } => outside::restore(ring, name, key, *replace, at),
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
    if options.derived && !options.kind.encrypts() {
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
