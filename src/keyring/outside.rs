//! Keys that come from outside: imported material and restored backups.
//!
//! Owns what the ring takes in and under which limits. Invariants: nothing that comes in makes more of a key allowed
//! than it was made for; what may have been used elsewhere with 96-bit nonces never seals here; a key goes only with
//! its policy's leave, whether it is deleted or something else takes its place.

use std::sync::Arc;

use crate::clock::WallTime;
use crate::keyring::Ring;
use crate::keyring::change::{
    ChangeError, Circumstances, Effect, Outcome, add, bare, check_policy, fresh, living, merged, put,
};
use crate::keyring::key::{Key, KeyVersion};
use crate::keyring::material::Material;
use crate::limits::{KEY_BYTES, KEYS_MAX_COUNT};
use crate::model::{KeyName, KeyOptions, PolicyChange, VersionState};
use crate::secret::SecretBytes;

/// One version of a key that another system has kept.
#[derive(Debug)]
pub struct Foreign {
    /// Its number.
    pub number: u32,
    /// When it was made there.
    pub created: WallTime,
    /// The AEAD key, or the HMAC key of a key that only signs.
    pub key: SecretBytes,
    /// The HMAC key of a key that encrypts, if it came along; a fresh one otherwise.
    pub mac: Option<SecretBytes>,
}

/// Puts a key together from versions that another system has kept, the oldest first, so that it can be restored as from a
/// backup. Their numbers stay, since ciphertexts name them.
///
/// # Errors
/// [`ChangeError`]
pub fn assemble(
    name: &KeyName,
    options: KeyOptions,
    policy: &PolicyChange,
    versions: &[Foreign],
    at: &mut Circumstances<'_>,
) -> Result<Key, ChangeError> {
    let mut key = bare(name, options, policy, at)?;
    let follows = |number: u32, latest: u32| latest == 0 || latest.checked_add(1) == Some(number);
    for foreign in versions {
        let wrong =
            foreign.mac.as_ref().is_some_and(|mac| mac.len() != KEY_BYTES || !options.kind.encrypts());
        if wrong || foreign.number == 0 || !follows(foreign.number, key.latest_number()) {
            return Err(ChangeError::MaterialNotAllowed);
        }
        if !key.has_room(1) {
            return Err(ChangeError::VersionsFull);
        }
        Material::fits(options.kind, foreign.key.len()).map_err(|_| ChangeError::MaterialNotAllowed)?;
        let material = Material::around(options.kind, &foreign.key, foreign.mac.as_ref(), at.draw)?;
        let mut version = KeyVersion::new(foreign.number, foreign.created, material);
        version.imported = true;
        if options.kind.counts_seals() {
            version.state = VersionState::DecryptOnly;
        }
        key.versions.push(Arc::new(version));
    }
    check_policy(&key)?;
    Ok(key)
}

/// Takes imported material: as the first version of a new key, or as the next one of a key whose options and policy
/// are those of the request.
pub(super) fn import(
    ring: &mut Ring,
    name: &KeyName,
    options: KeyOptions,
    policy: &PolicyChange,
    material: &SecretBytes,
    at: &mut Circumstances<'_>,
) -> Result<Outcome, ChangeError> {
    Material::fits(options.kind, material.len()).map_err(|_| ChangeError::MaterialNotAllowed)?;
    let mut key = if ring.get_any(name.as_str()).is_some() {
        let existing = living(ring, name)?;
        if existing.options != options || merged(&existing.policy, policy) != existing.policy {
            return Err(ChangeError::Exists);
        }
        (**existing).clone()
    } else if ring.len() >= KEYS_MAX_COUNT {
        return Err(ChangeError::RingFull);
    } else {
        bare(name, options, policy, at)?
    };
    let oldest = key.oldest_number();
    let number = key.latest_number().checked_add(1).ok_or(ChangeError::VersionsFull)?;
    let mut version =
        KeyVersion::new(number, at.now, Material::around(options.kind, material, None, at.draw)?);
    version.imported = true;
    if options.kind.counts_seals() {
        // How often its nonces were used elsewhere is not known: it opens, and a fresh version seals.
        version.state = VersionState::DecryptOnly;
        if key.policy.keep_versions == 1 {
            // The fresh version would push the imported one out in the same moment.
            return Err(ChangeError::PolicyNotAllowed);
        }
        add(&mut key, version)?;
        let next = fresh(&key, at)?;
        add(&mut key, next)?;
    } else {
        add(&mut key, version)?;
    }
    check_policy(&key)?;
    let dropped = oldest > 0 && key.oldest_number() != oldest;
    Ok(put(ring, key, dropped))
}

/// Puts a key from a backup into the ring, with all its versions as they were when it was backed up.
///
/// The key gets a new identifier: it is another one than that which was backed up, which may live on, and no figures
/// of uses are known of it.
pub(super) fn restore(
    ring: &mut Ring,
    name: &KeyName,
    backup: &Key,
    replace: bool,
    at: &mut Circumstances<'_>,
) -> Result<Outcome, ChangeError> {
    let existing = ring.get_any(name.as_str());
    let replaces = existing.is_some();
    match existing {
        Some(key) if !replace => {
            return Err(if key.deletion.is_some() { ChangeError::Deleted } else { ChangeError::Exists });
        }
        // Versions that the backup does not have are lost with it, as by a deletion.
        Some(key) if !key.policy.deletion_allowed => return Err(ChangeError::DeletionNotAllowed),
        None if ring.len() >= KEYS_MAX_COUNT => return Err(ChangeError::RingFull),
        _ => {}
    }
    let mut key = backup.clone();
    key.name = name.clone();
    key.deletion = None;
    (at.draw)(&mut key.id)?;
    let counts_seals = key.kind().counts_seals();
    for version in &mut key.versions {
        let mut next = (**version).clone();
        next.uses = Arc::default();
        if counts_seals {
            // The counts of another server, or of another time, are not known here.
            next.imported = true;
            if next.state == VersionState::Enabled {
                next.state = VersionState::DecryptOnly;
            }
        }
        *version = Arc::new(next);
    }
    if counts_seals && key.has_room(1) {
        // Nothing of the backup is dropped for it: the next rotation does that. Without room the key opens what it
        // has sealed and seals nothing until it is rotated.
        let next = fresh(&key, at)?;
        key.versions.push(Arc::new(next));
    }
    check_policy(&key)?;
    Ok(put(ring, key, replaces))
}

/// Has no version of a key seal any more whose counts may have been set back, as if it came from a backup, and adds a
/// fresh version if the newest one sealed. A deleted key is changed, too: it may be brought back.
pub(super) fn distrust(
    ring: &mut Ring,
    name: &KeyName,
    at: &mut Circumstances<'_>,
) -> Result<Outcome, ChangeError> {
    let existing = ring.get_any(name.as_str()).ok_or(ChangeError::Unknown)?;
    let mut key = (**existing).clone();
    if !key.kind().counts_seals() {
        return Ok(Outcome { key: Arc::clone(existing), effect: Effect::None, restricts: false });
    }
    let sealed = key.version(key.latest_number()).is_some_and(|latest| latest.state == VersionState::Enabled);
    for version in &mut key.versions {
        let mut next = (**version).clone();
        next.imported = true;
        if next.state == VersionState::Enabled {
            next.state = VersionState::DecryptOnly;
        }
        *version = Arc::new(next);
    }
    if sealed && key.has_room(1) {
        // As for a backup: nothing is dropped for it, and without room the key seals nothing until it is rotated.
        let next = fresh(&key, at)?;
        key.versions.push(Arc::new(next));
    }
    Ok(put(ring, key, true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::trial::{Trial, name};
    use crate::keyring::{Change, decode_key, encode_key};
    use crate::limits::{KEY_VERSIONS_MAX_COUNT, MAC_KEY_MAX_BYTES, MAC_KEY_MIN_BYTES};
    use crate::model::KeyType;

    const COUNTED: KeyOptions = KeyOptions::of(KeyType::ChaCha20Poly1305);
    const PLAIN: KeyOptions = KeyOptions::of(KeyType::XChaCha20Poly1305);

    fn deletable() -> PolicyChange {
        PolicyChange { deletion_allowed: Some(true), ..PolicyChange::default() }
    }

    fn states(key: &Key) -> Vec<(u32, VersionState, bool)> {
        key.versions().map(|version| (version.number(), version.state(), version.is_imported())).collect()
    }

    #[test]
    fn of_a_distrusted_key_a_fresh_version_seals_and_the_others_never_again() {
        use VersionState::{DecryptOnly, Destroyed, Disabled, Enabled};
        let mut trial = Trial::with(COUNTED, deletable());
        for (number, state) in [(1, Disabled), (2, Destroyed), (3, Enabled), (4, Enabled)] {
            if number > 1 {
                trial.rotate().unwrap();
            }
            trial.set(number, state).unwrap();
        }
        trial.apply(&Change::Delete { name: name("k") }).unwrap();
        let outcome = trial.apply(&Change::Distrust { name: name("k") }).unwrap();
        assert!(outcome.restricts && outcome.changed());
        trial.apply(&Change::Undelete { name: name("k") }).unwrap();
        let old = [(1, Disabled, true), (2, Destroyed, true), (3, DecryptOnly, true), (4, DecryptOnly, true)];
        assert_eq!(states(trial.key()), [&old[..], &[(5, Enabled, false)]].concat());
        assert_eq!(trial.set(1, Enabled).err(), Some(ChangeError::StateNotAllowed));
        assert!(decode_key(&encode_key(trial.key())).is_ok());
    }

    #[test]
    fn a_key_that_sealed_nothing_does_not_seal_because_it_is_distrusted() {
        let mut trial = Trial::with(COUNTED, PolicyChange::default());
        trial.set(1, VersionState::Disabled).unwrap();
        trial.apply(&Change::Distrust { name: name("k") }).unwrap();
        assert_eq!(states(trial.key()), [(1, VersionState::Disabled, true)]);
        let mut trial = Trial::with(PLAIN, PolicyChange::default());
        let outcome = trial.apply(&Change::Distrust { name: name("k") }).unwrap();
        assert!(!outcome.changed() && outcome.key.version(1).is_some());
    }

    #[test]
    fn an_imported_key_is_used_as_it_came_and_its_other_secrets_are_fresh() {
        let mut trial = Trial::new();
        trial.import(PLAIN, &[9; 32]).unwrap();
        let version = trial.key().version(1).unwrap();
        assert_eq!(version.with_encryption_key(|key| *key), Some([9; 32]));
        assert_ne!(version.with_sub_key(|key| *key), Some([9; 32]));
        assert_eq!(states(trial.key()), [(1, VersionState::Enabled, true)]);
    }

    #[test]
    fn material_of_a_wrong_length_is_refused() {
        for (kind, good, bad) in [
            (KeyType::XChaCha20Poly1305, vec![32], vec![0, 31, 33]),
            (
                KeyType::HmacSha512,
                vec![MAC_KEY_MIN_BYTES, 64, MAC_KEY_MAX_BYTES],
                vec![0, MAC_KEY_MIN_BYTES - 1, MAC_KEY_MAX_BYTES + 1],
            ),
        ] {
            for len in good {
                Trial::new().import(KeyOptions::of(kind), &vec![1; len]).unwrap();
            }
            for len in bad {
                let made = Trial::new().import(KeyOptions::of(kind), &vec![1; len]);
                assert_eq!(made.err(), Some(ChangeError::MaterialNotAllowed), "{len}");
            }
        }
    }

    #[test]
    fn an_import_onto_a_key_adds_a_version_and_widens_nothing() {
        let mut trial = Trial::with(PLAIN, PolicyChange::default());
        for wider in [
            KeyOptions { exportable: true, ..PLAIN },
            KeyOptions { plaintext_backup: true, ..PLAIN },
            KeyOptions { derived: true, ..PLAIN },
            COUNTED,
        ] {
            assert_eq!(trial.import(wider, &[1; 32]).err(), Some(ChangeError::Exists));
        }
        let material = SecretBytes::take(&mut [1; 32]);
        let import = Change::Import { name: name("k"), options: PLAIN, policy: deletable(), material };
        assert_eq!(trial.apply(&import).err(), Some(ChangeError::Exists));
        trial.import(PLAIN, &[1; 32]).unwrap();
        assert_eq!(
            states(trial.key()),
            [(1, VersionState::Enabled, false), (2, VersionState::Enabled, true)]
        );
    }

    #[test]
    fn an_imported_version_with_96_bit_nonces_opens_and_a_fresh_one_seals() {
        let mut trial = Trial::new();
        trial.import(COUNTED, &[1; 32]).unwrap();
        let key = trial.key();
        assert_eq!(states(key), [(1, VersionState::DecryptOnly, true), (2, VersionState::Enabled, false)]);
        assert_eq!(key.sealing_version(None).unwrap().number(), 2);
        assert!(key.opening_version(1).is_ok());
        assert_eq!(trial.set(1, VersionState::Enabled).err(), Some(ChangeError::StateNotAllowed));
        trial.set(1, VersionState::Disabled).unwrap();
        assert_eq!(trial.set(1, VersionState::Enabled).err(), Some(ChangeError::StateNotAllowed));
        trial.set(1, VersionState::DecryptOnly).unwrap();
    }

    #[test]
    fn an_import_that_its_own_fresh_version_would_push_out_is_refused() {
        let policy = PolicyChange { keep_versions: Some(1), ..PolicyChange::default() };
        let mut trial = Trial::with(COUNTED, policy);
        assert_eq!(trial.import(COUNTED, &[1; 32]).err(), Some(ChangeError::PolicyNotAllowed));
        assert_eq!(trial.key().latest_number(), 1);
        Trial::with(PLAIN, policy).import(PLAIN, &[1; 32]).unwrap();
    }

    fn foreign(number: u32, mac: Option<&[u8]>) -> Foreign {
        let key = SecretBytes::take(&mut [9; 32]);
        let mac = mac.map(|mac| SecretBytes::take(&mut mac.to_vec()));
        Foreign { number, created: WallTime::from_millis(1_000), key, mac }
    }

    fn assembled(options: KeyOptions, versions: &[Foreign]) -> Result<Key, ChangeError> {
        let mut next = 0;
        let mut draw = |bytes: &mut [u8]| {
            next += 1;
            bytes.fill(next);
            Ok(())
        };
        let now = WallTime::from_millis(2_000);
        let mut at = Circumstances { now, restore_window_seconds: 0, draw: &mut draw };
        assemble(&name("k"), options, &PolicyChange::default(), versions, &mut at)
    }

    #[test]
    fn versions_from_elsewhere_keep_their_numbers_and_what_came_along() {
        let key = assembled(PLAIN, &[foreign(3, Some(&[7; 32])), foreign(4, None)]).unwrap();
        assert_eq!((key.oldest_number(), key.latest_number()), (3, 4));
        let signed =
            |number: u32| key.version(number).unwrap().sign(KeyType::XChaCha20Poly1305, b"m").unwrap();
        let with =
            |mac: &[u8]| crate::crypto::mac::tag_once(crate::crypto::hash::Algorithm::Sha256, mac, &[b"m"]);
        assert!(signed(3).matches(with(&[7; 32]).as_bytes()));
        assert!(!signed(4).matches(with(&[9; 32]).as_bytes()), "the HMAC key is not the other one");
        let counted = assembled(COUNTED, &[foreign(1, None)]).unwrap();
        assert_eq!(states(&counted), [(1, VersionState::DecryptOnly, true)]);
        let mut trial = Trial::new();
        trial.restore("k", &counted, false).unwrap();
        assert_eq!(trial.key().sealing_version(None).unwrap().number(), 2);
        assert!(decode_key(&encode_key(trial.key())).is_ok());
    }

    #[test]
    fn versions_that_make_no_key_are_refused() {
        for versions in [
            vec![],
            vec![foreign(0, None)],
            vec![foreign(1, None), foreign(3, None)],
            vec![foreign(2, None), foreign(1, None)],
            vec![foreign(1, Some(&[7; 31]))],
        ] {
            assert!(assembled(PLAIN, &versions).is_err(), "{versions:?}");
        }
        let mac = KeyOptions::of(KeyType::HmacSha256);
        assert!(assembled(mac, &[foreign(1, Some(&[7; 32]))]).is_err(), "it has one key");
        assert!(assembled(KeyOptions { convergent: true, ..PLAIN }, &[foreign(1, None)]).is_err());
    }

    #[test]
    fn a_restored_key_is_another_one_with_the_same_versions() {
        let mut trial = Trial::with(PLAIN, deletable());
        trial.rotate().unwrap();
        trial.set(1, VersionState::Disabled).unwrap();
        let backup = decode_key(&encode_key(trial.key())).unwrap();
        assert!(!trial.restore("other", &backup, false).unwrap().restricts);
        let other = trial.ring.get("other").unwrap();
        assert_ne!(other.id(), trial.key().id());
        assert_eq!((states(other), other.policy()), (states(trial.key()), trial.key().policy()));
        let of = |key: &Key| key.version(2).unwrap().with_encryption_key(|key| *key);
        assert_eq!(of(other), of(trial.key()));
    }

    #[test]
    fn a_backup_takes_the_place_of_a_key_only_if_asked_to_and_if_that_may_be_deleted() {
        let mut trial = Trial::with(PLAIN, PolicyChange::default());
        let older = decode_key(&encode_key(trial.key())).unwrap();
        trial.rotate().unwrap();
        let newer = decode_key(&encode_key(trial.key())).unwrap();
        assert_eq!(trial.restore("k", &older, false).err(), Some(ChangeError::Exists));
        assert_eq!(trial.restore("k", &older, true).err(), Some(ChangeError::DeletionNotAllowed));
        assert_eq!(trial.key().latest_number(), 2);
        trial.configure(deletable()).unwrap();
        assert!(trial.restore("k", &older, true).unwrap().restricts, "version 2 went");
        assert_eq!(trial.key().latest_number(), 1);
        trial.configure(deletable()).unwrap();
        trial.restore("k", &newer, true).unwrap();
        assert_eq!(trial.key().latest_number(), 2);
    }

    #[test]
    fn a_backup_takes_the_place_of_a_deleted_key_only_if_asked_to() {
        let mut trial = Trial::with(PLAIN, deletable());
        let backup = decode_key(&encode_key(trial.key())).unwrap();
        trial.delete().unwrap();
        let deleted = decode_key(&encode_key(trial.key())).unwrap();
        assert_eq!(trial.restore("k", &backup, false).err(), Some(ChangeError::Deleted));
        trial.restore("k", &deleted, true).unwrap();
        assert!(trial.ring.get("k").is_some(), "what was backed up deleted comes back living");
        assert_eq!(trial.ring.len(), 1);
    }

    #[test]
    fn restored_versions_with_96_bit_nonces_seal_nothing_and_nothing_is_dropped() {
        let policy = PolicyChange { keep_versions: Some(2), ..deletable() };
        let mut trial = Trial::with(COUNTED, policy);
        trial.rotate().unwrap();
        trial.set(1, VersionState::Destroyed).unwrap();
        trial.key().version(2).unwrap().uses().grant(100);
        let backup = Arc::clone(trial.key());
        trial.restore("other", &backup, false).unwrap();
        let other = trial.ring.get("other").unwrap();
        assert_eq!(
            states(other),
            [
                (1, VersionState::Destroyed, true),
                (2, VersionState::DecryptOnly, true),
                (3, VersionState::Enabled, false)
            ]
        );
        assert_eq!(
            other.version(2).unwrap().uses().reserved(),
            0,
            "figures are not shared with the original"
        );
        assert!(decode_key(&encode_key(other)).is_ok());
    }

    #[test]
    fn a_full_backup_is_restored_and_seals_after_its_next_rotation() {
        let mut trial = Trial::with(COUNTED, deletable());
        for _ in 1..KEY_VERSIONS_MAX_COUNT {
            trial.rotate().unwrap();
        }
        let backup = Arc::clone(trial.key());
        trial.restore("k", &backup, true).unwrap();
        assert_eq!(trial.key().versions().len(), 4_096);
        assert!(trial.key().sealing_version(None).is_err() && trial.key().opening_version(1).is_ok());
        assert!(decode_key(&encode_key(trial.key())).is_ok());
        trial.configure(PolicyChange { keep_versions: Some(10), ..PolicyChange::default() }).unwrap();
        trial.rotate().unwrap();
        assert!(trial.key().sealing_version(None).is_ok());
    }

    #[test]
    fn a_backup_with_a_policy_beyond_the_limits_is_refused() {
        let mut trial = Trial::with(PLAIN, deletable());
        let mut backup = (**trial.key()).clone();
        backup.policy.auto_rotate_seconds = u64::MAX;
        let backup = decode_key(&encode_key(&backup)).unwrap();
        assert_eq!(trial.restore("other", &backup, false).err(), Some(ChangeError::PolicyNotAllowed));
    }
}
