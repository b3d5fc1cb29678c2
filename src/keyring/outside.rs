//! Keys that come from outside: imported material and restored backups.
//!
//! Owns what the ring takes in and under which limits. Invariants: nothing that comes in makes more of a key allowed
//! than it was made for; what may have been used elsewhere with 96-bit nonces never seals here; a key goes only with
//! its policy's leave, whether it is deleted or something else takes its place.

use std::sync::Arc;

use crate::keyring::Ring;
use crate::keyring::change::{
    ChangeError, Circumstances, Outcome, add, bare, check_policy, fresh, living, merged, put,
};
use crate::keyring::key::{Key, KeyVersion};
use crate::keyring::material::Material;
use crate::limits::KEYS_MAX_COUNT;
use crate::model::{KeyName, KeyOptions, PolicyChange, VersionState};
use crate::secret::SecretBytes;

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
    let mut version = KeyVersion::new(number, at.now, Material::around(options.kind, material, at.draw)?);
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
