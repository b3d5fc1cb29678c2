//! The server's keys as one would describe them to a colleague: plain maps, every rule of `docs/API.md` spelled out.
//!
//! Owns [`Model`]. It answers as the server must: with a status, and with the code of the reason if it refuses.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The status of an answer, and its code if it is a refusal.
pub(crate) type Answer = (u16, &'static str);

/// A version of a key.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) state: &'static str,
    pub(crate) imported: bool,
}

/// A key.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) kind: &'static str,
    pub(crate) derived: bool,
    pub(crate) exportable: bool,
    pub(crate) min_decryption: u64,
    pub(crate) min_encryption: u64,
    pub(crate) keep: u64,
    pub(crate) deletion_allowed: bool,
    pub(crate) deleted: bool,
    pub(crate) versions: BTreeMap<u64, Version>,
}

/// What a PATCH names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patch {
    pub(crate) min_decryption: Option<u64>,
    pub(crate) min_encryption: Option<u64>,
    pub(crate) keep: Option<u64>,
    pub(crate) deletion_allowed: Option<bool>,
    pub(crate) version: Option<(u64, &'static str)>,
}

/// Every key by its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) keys: BTreeMap<String, Key>,
}

const UNKNOWN: Answer = (404, "unknown_key");
const DONE: Answer = (200, "");

impl Key {
    pub(crate) fn new(kind: &'static str, derived: bool, exportable: bool) -> Self {
        Self {
            kind,
            derived,
            exportable,
            min_decryption: 1,
            min_encryption: 0,
            keep: 0,
            deletion_allowed: false,
            deleted: false,
            versions: BTreeMap::new(),
        }
    }

    pub(crate) fn latest(&self) -> u64 {
        self.versions.keys().next_back().copied().unwrap_or_default()
    }

    pub(crate) fn encrypts(&self) -> bool {
        !self.kind.starts_with("hmac")
    }

    /// Whether a seal needs a nonce that may not repeat.
    fn counts(&self) -> bool {
        self.kind == "chacha20-poly1305"
    }

    fn grow(&mut self, state: &'static str, imported: bool) {
        self.versions.insert(self.latest() + 1, Version { state, imported });
        while self.keep > 0 && self.versions.len() as u64 > self.keep {
            self.versions.pop_first();
        }
    }

    fn same_options(&self, other: &Self) -> bool {
        (self.kind, self.derived, self.exportable) == (other.kind, other.derived, other.exportable)
    }

    fn grow_imported(&mut self) {
        if self.counts() {
            self.grow("decrypt-only", true);
            self.grow("enabled", false);
        } else {
            self.grow("enabled", true);
        }
    }

    /// The form that replies show, without times and figures.
    pub(crate) fn form(&self, name: &str) -> Value {
        let versions: Vec<Value> = self
            .versions
            .iter()
            .map(|(number, version)| {
                json!({ "version": number, "state": version.state, "imported": version.imported })
            })
            .collect();
        json!({
            "name": name, "type": self.kind, "latest_version": self.latest(), "derived": self.derived,
            "exportable": self.exportable, "plaintext_backup": false, "min_decryption_version": self.min_decryption,
            "min_encryption_version": self.min_encryption, "keep_versions": self.keep, "auto_rotate_seconds": 0,
            "deletion_allowed": self.deletion_allowed, "versions": versions,
        })
    }

    /// Whether this version, or the latest, seals and signs.
    fn seals(&self, wanted: Option<u64>) -> Answer {
        let number = wanted.unwrap_or(self.latest());
        match self.versions.get(&number) {
            None => (400, "unknown_key_version"),
            Some(_) if number < self.min_encryption.max(self.min_decryption) => (409, "key_version_too_old"),
            Some(version) if version.state != "enabled" => (409, "key_version_disabled"),
            Some(_) => DONE,
        }
    }

    /// Whether this version opens and verifies.
    fn opens(&self, number: u64) -> Answer {
        match self.versions.get(&number) {
            None => (400, "decryption_failed"),
            Some(_) if number < self.min_decryption => (409, "key_version_too_old"),
            Some(version) if !["enabled", "decrypt-only"].contains(&version.state) => {
                (409, "key_version_disabled")
            }
            Some(_) => DONE,
        }
    }
}

impl Model {
    pub(crate) fn living(&mut self, name: &str) -> Option<&mut Key> {
        self.keys.get_mut(name).filter(|key| !key.deleted)
    }

    pub(crate) fn create(&mut self, name: &str, mut key: Key) -> Answer {
        match self.keys.get(name) {
            Some(there) if there.deleted => (409, "key_deleted"),
            // A policy that is not named is not asked for.
            Some(there) if there.same_options(&key) => DONE,
            Some(_) => (409, "key_exists"),
            None => {
                key.grow("enabled", false);
                self.keys.insert(name.to_owned(), key);
                (201, "")
            }
        }
    }

    pub(crate) fn import(&mut self, name: &str, mut key: Key) -> Answer {
        match self.keys.get_mut(name) {
            Some(there) if there.deleted => (409, "key_deleted"),
            Some(there) if there.same_options(&key) => {
                there.grow_imported();
                DONE
            }
            Some(_) => (409, "key_exists"),
            None => {
                key.grow_imported();
                self.keys.insert(name.to_owned(), key);
                (201, "")
            }
        }
    }

    pub(crate) fn rotate(&mut self, name: &str) -> Answer {
        let Some(key) = self.living(name) else { return UNKNOWN };
        key.grow("enabled", false);
        DONE
    }

    pub(crate) fn patch(&mut self, name: &str, patch: &Patch) -> Answer {
        let Some(key) = self.living(name) else { return UNKNOWN };
        let mut after = key.clone();
        after.min_decryption = patch.min_decryption.unwrap_or(key.min_decryption);
        after.min_encryption = patch.min_encryption.unwrap_or(key.min_encryption);
        after.keep = patch.keep.unwrap_or(key.keep);
        after.deletion_allowed = patch.deletion_allowed.unwrap_or(key.deletion_allowed);
        let (open, seal, latest) = (after.min_decryption, after.min_encryption, after.latest());
        if open == 0 || open > latest || (seal != 0 && !(open..=latest).contains(&seal)) {
            return (400, "policy_not_allowed");
        }
        if let Some((number, state)) = patch.version {
            let (counts, guarded) = (after.counts(), !after.deletion_allowed);
            let Some(version) = after.versions.get_mut(&number) else { return (400, "unknown_key_version") };
            if version.state != state {
                if version.state == "destroyed" || (state == "enabled" && version.imported && counts) {
                    return (409, "version_state_not_allowed");
                }
                if state == "destroyed" && guarded {
                    return (409, "deletion_not_allowed");
                }
                version.state = state;
            }
        }
        *key = after;
        DONE
    }

    pub(crate) fn delete(&mut self, name: &str) -> Answer {
        let Some(key) = self.living(name) else { return UNKNOWN };
        if !key.deletion_allowed {
            return (409, "deletion_not_allowed");
        }
        key.deleted = true;
        DONE
    }

    pub(crate) fn undelete(&mut self, name: &str) -> Answer {
        let Some(key) = self.keys.get_mut(name) else { return UNKNOWN };
        if !key.deleted {
            return (409, "key_not_deleted");
        }
        key.deleted = false;
        DONE
    }

    pub(crate) fn seal(&mut self, name: &str, version: Option<u64>) -> Answer {
        match self.living(name) {
            None => UNKNOWN,
            Some(key) => key.seals(version),
        }
    }

    pub(crate) fn open(&mut self, name: &str, version: u64) -> Answer {
        match self.living(name) {
            None => UNKNOWN,
            Some(key) => key.opens(version),
        }
    }

    /// The answer, and whether the signature is right: one of a version that is gone is not.
    pub(crate) fn verify(&mut self, name: &str, version: u64) -> (Answer, bool) {
        match self.living(name) {
            Some(key) if !key.versions.contains_key(&version) => (DONE, false),
            _ => (self.open(name, version), true),
        }
    }

    pub(crate) fn export(&mut self, name: &str) -> Answer {
        match self.living(name) {
            None => UNKNOWN,
            Some(key) if !key.exportable => (403, "key_not_exportable"),
            Some(_) => DONE,
        }
    }
}
