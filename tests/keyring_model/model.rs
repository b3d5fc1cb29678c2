//! The key ring as one would describe it to a colleague: plain maps of plain structs, every rule spelled out.
//!
//! Written from the documents and not from the code. Of the code it borrows the vocabulary: types of input and answers.

use std::collections::{BTreeMap, HashMap};

use quantonium::keyring::{ChangeError, Effect, SealRefusal};
use quantonium::limits::{AUTO_ROTATE_CEILING_SECONDS, AUTO_ROTATE_FLOOR_SECONDS, SEALS_BLOCK_COUNT};
use quantonium::model::{KeyOptions, KeyType, Policy, PolicyChange, VersionState};

/// How long a deleted key can be brought back, in milliseconds.
pub(crate) const WINDOW_MILLIS: u64 = 60_000;
/// Most versions of a key.
const MOST_VERSIONS: usize = 4_096;
/// Most seals of a version with 96-bit nonces.
const MOST_SEALS: u64 = 4_294_967_296;

/// What was written down, and whether workers lost a right.
pub(crate) type Answer = Result<(Effect, bool), ChangeError>;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Version {
    pub(crate) created: u64,
    pub(crate) state: VersionState,
    pub(crate) imported: bool,
    /// What its secrets do, as seen from outside; `None` until it was looked at once, empty once it is destroyed.
    pub(crate) fingerprint: Option<Vec<u8>>,
    pub(crate) seals: u64,
    pub(crate) reserved: u64,
    pub(crate) promised: u64,
    pub(crate) operations: u64,
    pub(crate) last: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) options: KeyOptions,
    pub(crate) policy: Policy,
    pub(crate) created: u64,
    /// When it was deleted and when it will be destroyed.
    pub(crate) deletion: Option<(u64, u64)>,
    pub(crate) versions: BTreeMap<u32, Version>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) now: u64,
    pub(crate) keys: HashMap<String, Key>,
}

fn fresh_version(now: u64) -> Version {
    Version {
        created: now,
        state: VersionState::Enabled,
        imported: false,
        fingerprint: None,
        seals: 0,
        reserved: 0,
        promised: 0,
        operations: 0,
        last: 0,
    }
}

fn is_96_bit(options: &KeyOptions) -> bool {
    options.kind == KeyType::ChaCha20Poly1305
}

impl Key {
    pub(crate) fn latest(&self) -> u32 {
        *self.versions.keys().next_back().unwrap_or(&0)
    }

    fn oldest(&self) -> u32 {
        *self.versions.keys().next().unwrap_or(&0)
    }

    pub(crate) fn can_grow(&self) -> bool {
        self.latest() < u32::MAX && (self.policy.keep_versions != 0 || self.versions.len() < MOST_VERSIONS)
    }

    fn grow(&mut self, version: Version) -> Result<(), ChangeError> {
        if !self.can_grow() {
            return Err(ChangeError::VersionsFull);
        }
        self.versions.insert(self.latest() + 1, version);
        while self.policy.keep_versions != 0 && self.versions.len() > self.policy.keep_versions as usize {
            self.versions.pop_first();
        }
        Ok(())
    }

    fn wears(&self, change: &PolicyChange) -> Policy {
        let mut policy = self.policy;
        if let Some(number) = change.min_decryption_version {
            policy.min_decryption_version = number;
        }
        if let Some(number) = change.min_encryption_version {
            policy.min_encryption_version = number;
        }
        if let Some(count) = change.keep_versions {
            policy.keep_versions = count;
        }
        if let Some(seconds) = change.auto_rotate_seconds {
            policy.auto_rotate_seconds = seconds;
        }
        if let Some(allowed) = change.deletion_allowed {
            policy.deletion_allowed = allowed;
        }
        policy
    }

    fn judged(&self) -> Result<(), ChangeError> {
        let of = &self.policy;
        let (open, seal, latest) = (of.min_decryption_version, of.min_encryption_version, self.latest());
        let age = of.auto_rotate_seconds;
        let wrong = open == 0
            || open > latest
            || (seal != 0 && seal < open)
            || seal > latest
            || of.keep_versions as usize > MOST_VERSIONS
            || (age != 0 && !(AUTO_ROTATE_FLOOR_SECONDS..=AUTO_ROTATE_CEILING_SECONDS).contains(&age));
        if wrong { Err(ChangeError::PolicyNotAllowed) } else { Ok(()) }
    }
}

impl Model {
    fn living(&mut self, name: &str) -> Result<&mut Key, ChangeError> {
        let key = self.keys.get_mut(name).ok_or(ChangeError::Unknown)?;
        if key.deletion.is_some() { Err(ChangeError::Deleted) } else { Ok(key) }
    }

    fn bare(&self, options: KeyOptions, change: &PolicyChange) -> Result<Key, ChangeError> {
        if options.derived && !options.kind.encrypts() {
            return Err(ChangeError::MaterialNotAllowed);
        }
        let (created, versions) = (self.now, BTreeMap::new());
        let mut key = Key { options, policy: Policy::default(), created, deletion: None, versions };
        key.policy = key.wears(change);
        Ok(key)
    }

    pub(crate) fn create(&mut self, name: &str, options: KeyOptions, change: &PolicyChange) -> Answer {
        if self.keys.contains_key(name) {
            let key = self.living(name)?;
            let same = key.options == options && key.wears(change) == key.policy;
            return if same { Ok((Effect::None, false)) } else { Err(ChangeError::Exists) };
        }
        let mut key = self.bare(options, change)?;
        key.grow(fresh_version(self.now))?;
        key.judged()?;
        self.keys.insert(name.to_owned(), key);
        Ok((Effect::Put, false))
    }

    pub(crate) fn rotate(&mut self, name: &str, only_if_latest: Option<u32>) -> Answer {
        let now = self.now;
        let key = self.living(name)?;
        if only_if_latest.is_some_and(|number| number != key.latest()) {
            return Ok((Effect::None, false));
        }
        let count = key.versions.len();
        key.grow(fresh_version(now))?;
        Ok((Effect::Put, key.versions.len() != count + 1))
    }

    pub(crate) fn configure(
        &mut self,
        name: &str,
        change: &PolicyChange,
        states: &[(u32, VersionState)],
    ) -> Answer {
        let key = self.living(name)?;
        let mut next = key.clone();
        next.policy = key.wears(change);
        next.judged()?;
        let mut restricts = next.policy.min_decryption_version > key.policy.min_decryption_version
            || next.policy.min_encryption_version > key.policy.min_encryption_version;
        let mut touched = next.policy != key.policy;
        for (number, state) in states {
            let may_go = next.policy.deletion_allowed;
            let counted = is_96_bit(&next.options);
            let version = next.versions.get_mut(number).ok_or(ChangeError::UnknownVersion)?;
            if version.state == *state {
                continue;
            }
            let back_to_sealing = counted && version.imported && *state == VersionState::Enabled;
            if version.state == VersionState::Destroyed || back_to_sealing {
                return Err(ChangeError::StateNotAllowed);
            }
            if *state == VersionState::Destroyed {
                if !may_go {
                    return Err(ChangeError::DeletionNotAllowed);
                }
                version.fingerprint = Some(Vec::new());
            }
            let freedom = |state: VersionState| VersionState::ALL.iter().position(|other| *other == state);
            restricts |= freedom(*state) > freedom(version.state);
            version.state = *state;
            touched = true;
        }
        *key = next;
        Ok(if touched { (Effect::Put, restricts) } else { (Effect::None, false) })
    }

    pub(crate) fn import(
        &mut self,
        name: &str,
        options: KeyOptions,
        change: &PolicyChange,
        len: usize,
    ) -> Answer {
        let fits = if options.kind.encrypts() { len == 32 } else { (16..=512).contains(&len) };
        if !fits {
            return Err(ChangeError::MaterialNotAllowed);
        }
        let mut key = if self.keys.contains_key(name) {
            let key = self.living(name)?;
            if key.options != options || key.wears(change) != key.policy {
                return Err(ChangeError::Exists);
            }
            key.clone()
        } else {
            self.bare(options, change)?
        };
        let oldest = key.oldest();
        let mut version = Version { imported: true, ..fresh_version(self.now) };
        if is_96_bit(&options) {
            if key.policy.keep_versions == 1 {
                return Err(ChangeError::PolicyNotAllowed);
            }
            version.state = VersionState::DecryptOnly;
            key.grow(version)?;
            key.grow(fresh_version(self.now))?;
        } else {
            key.grow(version)?;
        }
        key.judged()?;
        let dropped = oldest != 0 && key.oldest() != oldest;
        self.keys.insert(name.to_owned(), key);
        Ok((Effect::Put, dropped))
    }

    pub(crate) fn delete(&mut self, name: &str) -> Answer {
        let now = self.now;
        let key = self.living(name)?;
        if !key.policy.deletion_allowed {
            return Err(ChangeError::DeletionNotAllowed);
        }
        key.deletion = Some((now, now + WINDOW_MILLIS));
        Ok((Effect::Put, true))
    }

    pub(crate) fn undelete(&mut self, name: &str) -> Answer {
        let now = self.now;
        let key = self.keys.get_mut(name).ok_or(ChangeError::Unknown)?;
        match key.deletion {
            None => Err(ChangeError::NotDeleted),
            Some((_, purge_at)) if now >= purge_at => Err(ChangeError::Deleted),
            Some(_) => {
                key.deletion = None;
                Ok((Effect::Put, false))
            }
        }
    }

    pub(crate) fn purge(&mut self, name: &str) -> Answer {
        let key = self.keys.get(name).ok_or(ChangeError::Unknown)?;
        if key.deletion.is_none_or(|(_, purge_at)| self.now < purge_at) {
            return Ok((Effect::None, false));
        }
        self.keys.remove(name);
        Ok((Effect::Removed, true))
    }

    pub(crate) fn restore(&mut self, name: &str, backup: &Key, replace: bool) -> Answer {
        let there = self.keys.get(name);
        if let Some(key) = there {
            match (replace, key.deletion.is_some()) {
                (false, true) => return Err(ChangeError::Deleted),
                (false, false) => return Err(ChangeError::Exists),
                (true, _) if !key.policy.deletion_allowed => return Err(ChangeError::DeletionNotAllowed),
                (true, _) => {}
            }
        }
        let replaced = there.is_some();
        let mut key = Key { deletion: None, ..backup.clone() };
        let counted = is_96_bit(&key.options);
        for version in key.versions.values_mut() {
            (version.seals, version.reserved, version.promised) = (0, 0, 0);
            (version.operations, version.last) = (0, 0);
            version.imported |= counted;
            if counted && version.state == VersionState::Enabled {
                version.state = VersionState::DecryptOnly;
            }
        }
        if counted && key.versions.len() < MOST_VERSIONS && key.latest() < u32::MAX {
            key.versions.insert(key.latest() + 1, fresh_version(self.now));
        }
        self.keys.insert(name.to_owned(), key);
        Ok((Effect::Put, replaced))
    }

    pub(crate) fn reserve(&mut self, name: &str, number: u32) -> Answer {
        let key = self.living(name)?;
        let counted = is_96_bit(&key.options);
        let Some(version) = key.versions.get_mut(&number) else { return Ok((Effect::None, false)) };
        let enough = version.reserved - version.seals >= SEALS_BLOCK_COUNT / 2;
        let worn_out = version.reserved >= MOST_SEALS;
        if !counted || version.state != VersionState::Enabled || enough || worn_out {
            return Ok((Effect::None, false));
        }
        let seals = (version.reserved + SEALS_BLOCK_COUNT).min(MOST_SEALS);
        version.promised = version.promised.max(seals);
        Ok((Effect::Reserved { version: number, seals }, false))
    }

    pub(crate) fn grant(&mut self, name: &str, number: u32, seals: u64) {
        if let Some(version) = self.keys.get_mut(name).and_then(|key| key.versions.get_mut(&number)) {
            version.reserved = version.reserved.max(seals);
        }
    }

    pub(crate) fn seal(&mut self, name: &str, number: u32, seals: u64) -> Option<Result<(), SealRefusal>> {
        let version = self.keys.get_mut(name)?.versions.get_mut(&number)?;
        let after = version.seals + seals;
        Some(if after <= version.reserved {
            version.seals = after;
            Ok(())
        } else if after <= MOST_SEALS {
            Err(SealRefusal::NeedsBlock)
        } else {
            Err(SealRefusal::WornOut)
        })
    }

    /// What a restart does to the figures: whatever was promised may have been used.
    pub(crate) fn restart(&mut self) {
        for version in self.keys.values_mut().flat_map(|key| key.versions.values_mut()) {
            version.reserved = version.promised;
            version.seals = version.promised;
        }
    }

    /// The names of keys that are due and whether they are to be destroyed, in the order in which they became due.
    pub(crate) fn due(&self) -> Vec<(String, bool)> {
        let mut due: Vec<(u64, String, bool)> = Vec::new();
        for (name, key) in &self.keys {
            if let Some((_, purge_at)) = key.deletion {
                due.push((purge_at, name.clone(), true));
            } else if key.policy.auto_rotate_seconds != 0 && key.can_grow() {
                let created = key.versions[&key.latest()].created;
                due.push((created + key.policy.auto_rotate_seconds * 1_000, name.clone(), false));
            }
        }
        due.retain(|(at, ..)| *at <= self.now);
        due.sort();
        due.into_iter().map(|(_, name, purge)| (name, purge)).collect()
    }
}
