//! Random lives of a key ring, held against a plain model: same answers, same errors, same states, also after every key
//! went through its record and back.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by a panic")]

#[path = "keyring_model/model.rs"]
mod model;

use std::collections::HashSet;
use std::sync::Arc;

use model::{Answer, Model, WINDOW_MILLIS};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use quantonium::clock::WallTime;
use quantonium::keyring::change::apply;
use quantonium::keyring::schedule;
use quantonium::keyring::{
    Change, Circumstances, Effect, Key, KeyVersion, Ring, decode_key, decode_uses, encode_key, encode_uses,
    open_backup, read_plain_backup, seal_backup, write_plain_backup,
};
use quantonium::model::{KeyName, KeyOptions, KeyType, PolicyChange, VersionState};
use quantonium::secret::SecretBytes;

const NAMES: [&str; 3] = ["a", "b", "c"];
const BACKUP_KEY: [u8; 32] = [0x42; 32];

/// One thing that happens. Keys are named by their place in [`NAMES`].
#[derive(Clone, Debug)]
enum Step {
    Create(usize, KeyOptions, PolicyChange),
    Rotate(usize, Option<u32>),
    Configure(usize, PolicyChange, Vec<(u32, VersionState)>),
    Import(usize, KeyOptions, PolicyChange, usize),
    Delete(usize),
    Undelete(usize),
    Purge(usize),
    Backup(usize),
    /// The backup is chosen among those that were made; `sealed` says in which form it travels.
    Restore {
        name: usize,
        choice: usize,
        sealed: bool,
        replace: bool,
    },
    /// Sets seals aside; `durable` says whether the store takes it.
    Reserve {
        name: usize,
        version: u32,
        durable: bool,
    },
    Seal(usize, u32, u64),
    Note(usize, u32, u64),
    /// The figures of the latest version say that it was used almost as often as is safe.
    WearOut(usize, u64),
    Wait(u64),
    Restart,
    Schedule(usize),
}

fn options() -> impl Strategy<Value = KeyOptions> {
    let kind = prop_oneof![
        4 => Just(KeyType::ChaCha20Poly1305),
        2 => Just(KeyType::XChaCha20Poly1305),
        1 => Just(KeyType::HmacSha256),
        1 => Just(KeyType::HmacSha512),
    ];
    let flag = || prop::bool::weighted(0.2);
    (kind, flag(), flag(), prop::bool::weighted(0.5)).prop_map(
        |(kind, derived, exportable, plaintext_backup)| KeyOptions {
            kind,
            derived,
            convergent: false,
            exportable,
            plaintext_backup,
        },
    )
}

fn policy() -> impl Strategy<Value = PolicyChange> {
    let number = || option::weighted(0.2, 0..5u32);
    let age = option::weighted(0.2, prop_oneof![8 => 0..60u64, 1 => Just(u64::MAX)]);
    let allowed = option::weighted(0.5, prop::bool::weighted(0.8));
    let keep = option::weighted(0.2, prop_oneof![8 => 0..4u32, 1 => Just(5_000)]);
    (number(), number(), keep, age, allowed).prop_map(|(open, seal, keep, age, allowed)| PolicyChange {
        min_decryption_version: open,
        min_encryption_version: seal,
        keep_versions: keep,
        auto_rotate_seconds: age,
        deletion_allowed: allowed,
    })
}

fn state() -> impl Strategy<Value = VersionState> {
    (0..VersionState::ALL.len()).prop_map(|index| VersionState::ALL[index])
}

fn life_cycle() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    let few = prop_oneof![3 => Just(PolicyChange::default()), 1 => policy()];
    let more = prop_oneof![1 => Just(PolicyChange::default()), 3 => policy()];
    let len = prop_oneof![8 => Just(32usize), 1 => 14..18usize, 1 => 510..514usize];
    prop_oneof![
        4 => (name(), options(), policy()).prop_map(|(name, options, policy)| Step::Create(name, options, policy)),
        4 => (name(), option::weighted(0.5, 1..6u32)).prop_map(|(name, only)| Step::Rotate(name, only)),
        4 => (name(), more, vec((1..6u32, state()), 0..3))
            .prop_map(|(name, policy, states)| Step::Configure(name, policy, states)),
        2 => (name(), options(), few, len)
            .prop_map(|(name, options, policy, len)| Step::Import(name, options, policy, len)),
        2 => name().prop_map(Step::Delete),
        1 => name().prop_map(Step::Undelete),
        1 => name().prop_map(Step::Purge),
    ]
}

fn surroundings() -> impl Strategy<Value = Step> {
    let name = || 0..NAMES.len();
    let seals = prop_oneof![3 => 1..10u64, 1 => 400_000..1_200_000u64];
    prop_oneof![
        2 => name().prop_map(Step::Backup),
        3 => (name(), 0..9usize, any::<bool>(), any::<bool>())
            .prop_map(|(name, choice, sealed, replace)| Step::Restore { name, choice, sealed, replace }),
        3 => (name(), 1..6u32, prop::bool::weighted(0.8))
            .prop_map(|(name, version, durable)| Step::Reserve { name, version, durable }),
        4 => (name(), 1..6u32, seals).prop_map(|(name, version, seals)| Step::Seal(name, version, seals)),
        1 => (name(), 1..6u32, 1..9u64).prop_map(|(name, version, count)| Step::Note(name, version, count)),
        1 => (name(), 0..2_000_000u64).prop_map(|(name, left)| Step::WearOut(name, left)),
        2 => (0..WINDOW_MILLIS).prop_map(Step::Wait),
        // So that things happen in the very millisecond in which they become due.
        2 => (1..=60u64).prop_map(|seconds| Step::Wait(seconds * 1_000)),
        1 => Just(Step::Wait(WINDOW_MILLIS)),
        1 => Just(Step::Restart),
        2 => (1..4usize).prop_map(Step::Schedule),
    ]
}

/// The ring and its model, side by side.
#[derive(Default)]
struct Pair {
    ring: Ring,
    model: Model,
    drawn: u64,
    backups: Vec<(Arc<Key>, model::Key)>,
    fingerprints: HashSet<Vec<u8>>,
}

/// All that can be seen of a version's secrets; nothing of a destroyed one.
fn fingerprint(version: &KeyVersion, kind: KeyType) -> Vec<u8> {
    let enc = version.with_encryption_key(|key| key.to_vec()).unwrap_or_default();
    let sub = version.with_sub_key(|key| key.to_vec()).unwrap_or_default();
    let tag = version.sign(kind, b"m").map(|tag| tag.as_bytes().to_vec()).unwrap_or_default();
    [enc, sub, tag].concat()
}

fn named(name: usize) -> KeyName {
    KeyName::new(NAMES[name]).unwrap()
}

impl Pair {
    fn change(&mut self, change: &Change) -> Answer {
        let drawn = &mut self.drawn;
        let mut draw = |target: &mut [u8]| {
            *drawn += 1;
            let number = drawn.to_be_bytes();
            target.iter_mut().zip(number.iter().cycle()).for_each(|(place, byte)| *place = *byte);
            Ok(())
        };
        let now = WallTime::from_millis(self.model.now);
        let restore_window_seconds = WINDOW_MILLIS / 1_000;
        let mut at = Circumstances { now, restore_window_seconds, draw: &mut draw };
        let outcome = apply(&mut self.ring, change, &mut at)?;
        assert_eq!(outcome.changed(), outcome.effect != Effect::None);
        Ok((outcome.effect, outcome.restricts))
    }

    /// Carries a step out on both sides.
    fn take(&mut self, step: &Step) {
        let (found, expected) = match step.clone() {
            Step::Create(name, options, policy) => (
                self.change(&Change::Create { name: named(name), options, policy }),
                self.model.create(NAMES[name], options, &policy),
            ),
            Step::Rotate(name, only_if_latest) => (
                self.change(&Change::Rotate { name: named(name), only_if_latest }),
                self.model.rotate(NAMES[name], only_if_latest),
            ),
            Step::Configure(name, policy, versions) => (
                self.change(&Change::Configure { name: named(name), policy, versions: versions.clone() }),
                self.model.configure(NAMES[name], &policy, &versions),
            ),
            Step::Import(name, options, policy, len) => {
                self.drawn += 1;
                // Like no other, and like nothing that was drawn, whose first byte is zero.
                let number = (self.drawn ^ 1 << 63).to_be_bytes();
                let mut bytes: Vec<u8> = number.iter().copied().cycle().take(len).collect();
                let material = SecretBytes::take(&mut bytes);
                (
                    self.change(&Change::Import { name: named(name), options, policy, material }),
                    self.model.import(NAMES[name], options, &policy, len),
                )
            }
            Step::Delete(name) => {
                (self.change(&Change::Delete { name: named(name) }), self.model.delete(NAMES[name]))
            }
            Step::Undelete(name) => {
                (self.change(&Change::Undelete { name: named(name) }), self.model.undelete(NAMES[name]))
            }
            Step::Purge(name) => {
                (self.change(&Change::Purge { name: named(name) }), self.model.purge(NAMES[name]))
            }
            other => return self.take_other(other),
        };
        assert_eq!(found, expected, "{step:?}");
    }

    fn take_other(&mut self, step: Step) {
        match step {
            Step::Backup(name) => {
                if let (Some(key), Some(plain)) =
                    (self.ring.get(NAMES[name]), self.model.keys.get(NAMES[name]))
                {
                    self.backups.push((Arc::clone(key), plain.clone()));
                }
            }
            Step::Restore { name, choice, sealed, replace } => self.restore(name, choice, sealed, replace),
            Step::Reserve { name, version, durable } => {
                let found = self.change(&Change::ReserveSeals { name: named(name), version });
                assert_eq!(found, self.model.reserve(NAMES[name], version));
                if let (true, Ok((Effect::Reserved { version, seals }, _))) = (durable, found) {
                    self.ring.get(NAMES[name]).unwrap().version(version).unwrap().uses().grant(seals);
                    self.model.grant(NAMES[name], version, seals);
                }
            }
            Step::Seal(name, number, seals) => {
                let version = self.ring.get_any(NAMES[name]).and_then(|key| key.version(number));
                let found = version.map(|version| version.uses().count_seals(seals));
                assert_eq!(found, self.model.seal(NAMES[name], number, seals));
            }
            Step::Note(name, number, count) => self.note(name, number, count),
            Step::WearOut(name, left) => self.wear_out(name, (1 << 32) - left),
            Step::Wait(millis) => self.model.now += millis,
            Step::Restart => {
                self.ring = restarted(&self.ring);
                self.model.restart();
            }
            Step::Schedule(at_most) => self.schedule(at_most),
            other => panic!("{other:?} is no step of the surroundings"),
        }
    }

    fn restore(&mut self, name: usize, choice: usize, sealed: bool, replace: bool) {
        let Some((key, plain)) = self.backups.get(choice) else { return };
        let key = if sealed || !key.options().plaintext_backup {
            assert_eq!(write_plain_backup(key).is_ok(), key.options().plaintext_backup);
            open_backup(&seal_backup(key, &BACKUP_KEY, &[7; 24]).unwrap(), &BACKUP_KEY).unwrap()
        } else {
            read_plain_backup(&write_plain_backup(key).unwrap()).unwrap()
        };
        let expected = self.model.restore(NAMES[name], &plain.clone(), replace);
        let change = Change::Restore { name: named(name), key: Box::new(key), replace };
        assert_eq!(self.change(&change), expected);
    }

    fn note(&mut self, name: usize, number: u32, count: u64) {
        let version = self.ring.get_any(NAMES[name]).and_then(|key| key.version(number));
        let plain = self.model.keys.get_mut(NAMES[name]).and_then(|key| key.versions.get_mut(&number));
        if let (Some(version), Some(plain)) = (version, plain) {
            version.uses().note(WallTime::from_millis(self.model.now), count);
            plain.operations += count;
            plain.last = self.model.now / 1_000;
        }
    }

    /// Puts figures of the latest version in, by a record that is written here by hand.
    fn wear_out(&mut self, name: usize, reserved: u64) {
        let Some(key) = self.ring.get_any(NAMES[name]) else { return };
        let latest = key.latest_number();
        let mut record = [&b"U\x01"[..], key.id(), &1u32.to_be_bytes(), &latest.to_be_bytes()].concat();
        for figure in [reserved, 1, 2] {
            record.extend_from_slice(&figure.to_be_bytes());
        }
        let worn = key.with_uses(&decode_uses(&record).unwrap());
        self.ring.put(Arc::new(worn));
        let plain = self.model.keys.get_mut(NAMES[name]).unwrap().versions.get_mut(&latest).unwrap();
        (plain.seals, plain.reserved, plain.promised) = (reserved, reserved, reserved);
        (plain.operations, plain.last) = (1, 2);
    }

    fn schedule(&mut self, at_most: usize) {
        let now = WallTime::from_millis(self.model.now);
        let changes = schedule::due(&self.ring, now, at_most);
        let expected: Vec<_> = self.model.due().into_iter().take(at_most).collect();
        let shown = |change: &Change| (change.key().as_str().to_owned(), change.name() == "key.purge");
        assert_eq!(changes.iter().map(shown).collect::<Vec<_>>(), expected);
        let next = schedule::next_due(&self.ring);
        assert_eq!(next.is_some_and(|next| next <= now), !expected.is_empty());
        for (change, (name, purge)) in changes.iter().zip(expected) {
            let expected = if purge { self.model.purge(&name) } else { self.model.rotate(&name, None) };
            assert_eq!(self.change(change), expected);
            assert!(expected.is_ok_and(|(effect, _)| effect != Effect::None), "what is due can be done");
        }
    }

    /// Both sides are the same, and so is what comes back from the records.
    fn compare(&mut self) {
        assert_eq!(self.ring.len(), self.model.keys.len());
        let back = restarted(&self.ring);
        for (name, plain) in &mut self.model.keys {
            let key = self.ring.get_any(name).unwrap();
            for (number, version) in &mut plain.versions {
                let found = fingerprint(key.version(*number).unwrap(), key.kind());
                match &version.fingerprint {
                    Some(expected) => assert_eq!(&found, expected),
                    None => assert!(self.fingerprints.insert(found.clone()), "no two versions share secrets"),
                }
                version.fingerprint = Some(found);
            }
            same(key, plain, false);
            same(back.get_any(name).unwrap(), plain, true);
        }
    }
}

/// Every key from its record, with its figures.
fn restarted(ring: &Ring) -> Ring {
    let mut back = Ring::default();
    for key in ring.keys() {
        let record = encode_key(key);
        let decoded = decode_key(&record).unwrap();
        assert_eq!(*encode_key(&decoded), *record);
        back.put(Arc::new(decoded.with_uses(&decode_uses(&encode_uses(key)).unwrap())));
    }
    back
}

fn same(key: &Key, plain: &model::Key, restarted: bool) {
    assert_eq!((key.options(), key.policy()), (&plain.options, &plain.policy));
    assert_eq!(key.created().as_millis(), plain.created);
    let deletion = key.deletion().map(|of| (of.at.as_millis(), of.purge_at.as_millis()));
    assert_eq!(deletion, plain.deletion);
    assert_eq!(
        key.versions().map(KeyVersion::number).collect::<Vec<_>>(),
        plain.versions.keys().copied().collect::<Vec<_>>()
    );
    assert_eq!((key.takes_version(), key.latest_number()), (plain.can_grow(), plain.latest()));
    for (version, (number, expected)) in key.versions().zip(&plain.versions) {
        let uses = version.uses();
        let reserved = if restarted { expected.promised } else { expected.reserved };
        let found = model::Version {
            created: version.created().as_millis(),
            state: version.state(),
            imported: version.is_imported(),
            fingerprint: Some(fingerprint(version, key.kind())),
            reserved: uses.reserved(),
            promised: uses.promised(),
            operations: uses.operations(),
            last: uses.last().map_or(0, WallTime::as_secs),
            seals: expected.seals,
        };
        assert_eq!(found, model::Version { reserved, ..expected.clone() }, "version {number}");
        let (bounds, enabled) = (plain.policy, expected.state == VersionState::Enabled);
        let least = bounds.min_encryption_version.max(bounds.min_decryption_version);
        assert_eq!(key.sealing_version(Some(*number)).is_ok(), enabled && *number >= least);
        let opens = enabled || expected.state == VersionState::DecryptOnly;
        let in_bounds = *number >= bounds.min_decryption_version;
        assert_eq!(key.opening_version(*number).is_ok(), opens && in_bounds);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(600) })]

    #[test]
    fn a_ring_lives_as_its_model_does(
        start in 0..1_000_000_000_000u64,
        steps in vec(prop_oneof![1 => life_cycle(), 1 => surroundings()], 1..120),
    ) {
        let mut pair = Pair::default();
        pair.model.now = start;
        for step in &steps {
            pair.take(step);
            pair.compare();
        }
    }
}
