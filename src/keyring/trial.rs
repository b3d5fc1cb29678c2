//! A ring for tests: changes by name, a clock that stands, and random bytes that can be told apart.

use std::sync::Arc;

use crate::clock::WallTime;
use crate::keyring::change::apply;
use crate::keyring::{Change, ChangeError, Circumstances, Key, Outcome, Ring};
use crate::model::{KeyName, KeyOptions, KeyType, PolicyChange, VersionState};
use crate::secret::SecretBytes;

/// How long a deleted key can be brought back in tests.
pub(super) const WINDOW_SECONDS: u64 = 100;

#[derive(Debug, Default)]
pub(super) struct Trial {
    pub(super) ring: Ring,
    pub(super) now: WallTime,
    drawn: u64,
}

pub(super) fn name(name: &str) -> KeyName {
    KeyName::new(name).unwrap()
}

impl Trial {
    pub(super) fn new() -> Self {
        Self { now: WallTime::from_millis(1_000_000), ..Self::default() }
    }

    /// A trial with one key, `k`.
    pub(super) fn with(options: KeyOptions, policy: PolicyChange) -> Self {
        let mut trial = Self::new();
        trial.create("k", options, policy).unwrap();
        trial
    }

    /// A trial with one key, `k`, of this type.
    pub(super) fn of(kind: KeyType) -> Self {
        Self::with(KeyOptions::of(kind), PolicyChange::default())
    }

    pub(super) fn apply(&mut self, change: &Change) -> Result<Outcome, ChangeError> {
        let drawn = &mut self.drawn;
        let mut draw = |target: &mut [u8]| {
            *drawn += 1;
            let number = drawn.to_be_bytes();
            for (place, byte) in target.iter_mut().zip(number.into_iter().cycle()) {
                *place = byte;
            }
            Ok(())
        };
        let mut at = Circumstances { now: self.now, restore_window_seconds: WINDOW_SECONDS, draw: &mut draw };
        apply(&mut self.ring, change, &mut at)
    }

    pub(super) fn after_seconds(&mut self, seconds: u64) {
        self.now = WallTime::from_millis(self.now.as_millis() + seconds * 1_000);
    }

    pub(super) fn key(&self) -> &Arc<Key> {
        self.ring.get_any("k").unwrap()
    }

    pub(super) fn create(
        &mut self,
        of: &str,
        options: KeyOptions,
        policy: PolicyChange,
    ) -> Result<Outcome, ChangeError> {
        self.apply(&Change::Create { name: name(of), options, policy })
    }

    pub(super) fn rotate(&mut self) -> Result<Outcome, ChangeError> {
        self.apply(&Change::Rotate { name: name("k"), only_if_latest: None })
    }

    pub(super) fn configure(&mut self, policy: PolicyChange) -> Result<Outcome, ChangeError> {
        self.apply(&Change::Configure { name: name("k"), policy, versions: Vec::new() })
    }

    pub(super) fn set(&mut self, number: u32, state: VersionState) -> Result<Outcome, ChangeError> {
        let (policy, versions) = (PolicyChange::default(), vec![(number, state)]);
        self.apply(&Change::Configure { name: name("k"), policy, versions })
    }

    pub(super) fn import(&mut self, options: KeyOptions, material: &[u8]) -> Result<Outcome, ChangeError> {
        let material = SecretBytes::take(&mut material.to_vec());
        let policy = PolicyChange::default();
        self.apply(&Change::Import { name: name("k"), options, policy, material })
    }

    pub(super) fn delete(&mut self) -> Result<Outcome, ChangeError> {
        self.apply(&Change::Delete { name: name("k") })
    }

    pub(super) fn restore(&mut self, of: &str, key: &Key, replace: bool) -> Result<Outcome, ChangeError> {
        self.apply(&Change::Restore { name: name(of), key: Box::new(key.clone()), replace })
    }

    pub(super) fn reserve(&mut self, version: u32) -> Result<Outcome, ChangeError> {
        self.apply(&Change::ReserveSeals { name: name("k"), version })
    }
}
