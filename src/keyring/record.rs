//! Keys and their use figures as bytes: what the store keeps (sealed) and what a backup carries.
//!
//! Owns both encodings. Invariants: every value has one encoding, and only that one is read back; no bytes make a
//! decoder panic or take more memory than they are long; secrets pass only through memory that is wiped.

use core::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::clock::WallTime;
use crate::keyring::key::{Deletion, KEY_ID_BYTES, Key, KeyId, KeyVersion};
use crate::keyring::material::Material;
use crate::keyring::uses::Uses;
use crate::limits::{KEY_BYTES, KEY_RECORD_MAX_BYTES, KEY_VERSIONS_MAX_COUNT, TIME_MAX_MILLIS};
use crate::model::{KeyName, KeyOptions, KeyType, Policy, VersionState};
use crate::secret::{Secret, SecretBytes};

const KEY_KIND: u8 = b'K';
const USES_KIND: u8 = b'U';
const FORMAT: u8 = 1;

const DERIVED: u8 = 1;
const EXPORTABLE: u8 = 2;
const PLAINTEXT_BACKUP: u8 = 4;
const CONVERGENT: u8 = 8;

/// Everything of a key record but the times of a deletion, the bytes of the name, and the versions.
const FIXED_BYTES: usize = 2 + KEY_ID_BYTES + 2 + 8 + 3 * 4 + 8 + 2 + 1 + 2 * 4;
/// The times of a deletion.
const DELETION_BYTES: usize = 2 * 8;
/// A version without its material.
const VERSION_BYTES: usize = 8 + 2 + 2;
/// The figures of one version.
const FIGURES_BYTES: usize = 4 + 3 * 8;
/// The three secrets of a version that encrypts.
const ENCRYPTION_BYTES: usize = 3 * KEY_BYTES;

const _: () = {
    use crate::limits::{KEY_NAME_MAX_BYTES, MAC_KEY_MAX_BYTES};
    let longest = if MAC_KEY_MAX_BYTES > ENCRYPTION_BYTES { MAC_KEY_MAX_BYTES } else { ENCRYPTION_BYTES };
    let versions = KEY_VERSIONS_MAX_COUNT as usize * (VERSION_BYTES + longest);
    assert!(FIXED_BYTES + DELETION_BYTES + KEY_NAME_MAX_BYTES + versions <= KEY_RECORD_MAX_BYTES);
    assert!(KEY_NAME_MAX_BYTES <= u8::MAX as usize, "the length of a name is one byte");
    assert!(longest <= u16::MAX as usize, "the length of material is two bytes");
};

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// They are a record of another kind, or none.
    Kind,
    /// The record has a format that this program does not know: a newer one wrote it.
    Format(u8),
    /// They are not what an encoder writes.
    Content,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind => f.write_str("not a record of this kind"),
            Self::Format(number) => write!(f, "record format {number} is not known to this version"),
            Self::Content => f.write_str("the record contradicts its format"),
        }
    }
}

impl std::error::Error for Malformed {}

/// The record of `key`: all of it but its use figures. At most [`KEY_RECORD_MAX_BYTES`].
#[must_use]
pub fn encode_key(key: &Key) -> Zeroizing<Vec<u8>> {
    // As long as it will be: memory that grows leaves copies of secrets behind.
    let mut record = Zeroizing::new(Vec::with_capacity(key_record_len(key)));
    record.extend_from_slice(&[KEY_KIND, FORMAT]);
    record.extend_from_slice(&key.id);
    record.extend_from_slice(&[type_code(key.options.kind), option_bits(&key.options)]);
    put_u64(&mut record, key.created.as_millis());
    put_policy(&mut record, &key.policy);
    record.push(u8::from(key.deletion.is_some()));
    if let Some(deletion) = key.deletion {
        put_u64(&mut record, deletion.at.as_millis());
        put_u64(&mut record, deletion.purge_at.as_millis());
    }
    let name = key.name.as_str().as_bytes();
    // A name has at most 128 bytes.
    record.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    record.extend_from_slice(name);
    put_u32(&mut record, key.oldest_number());
    put_u32(&mut record, u32::try_from(key.versions.len()).unwrap_or(u32::MAX));
    for version in key.versions() {
        put_version(&mut record, version);
    }
    record
}

/// The key of a record.
///
/// # Errors
/// [`Malformed`]
pub fn decode_key(record: &[u8]) -> Result<Key, Malformed> {
    if record.len() > KEY_RECORD_MAX_BYTES {
        return Err(Malformed::Content);
    }
    let mut rest = Rest::of(KEY_KIND, record)?;
    let id: KeyId = *rest.array()?;
    let options = take_options(&mut rest)?;
    let created = rest.time()?;
    let policy = take_policy(&mut rest)?;
    let deletion =
        if rest.flag()? { Some(Deletion { at: rest.time()?, purge_at: rest.time()? }) } else { None };
    let name_len = usize::from(rest.u8()?);
    let name = str::from_utf8(rest.take(name_len)?).ok().and_then(KeyName::new).ok_or(Malformed::Content)?;
    let versions = take_versions(&mut rest, options.kind)?;
    let key = Key { name, id, options, policy, created, deletion, versions };
    if rest.is_empty() && key.is_sound() { Ok(key) } else { Err(Malformed::Content) }
}

/// What was done with the versions of a key, as it was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsesRecord {
    id: KeyId,
    /// In the order of their numbers, and only those with which something was done.
    figures: Vec<Figures>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    number: u32,
    reserved: u64,
    operations: u64,
    /// Seconds since 1970; 0: never.
    last: u64,
}

impl UsesRecord {
    /// The identifier of the key whose figures these are.
    #[must_use]
    pub const fn id(&self) -> &KeyId {
        &self.id
    }

    fn of(key: &Key) -> Self {
        let figures = key.versions().map(|version| {
            let uses = version.uses();
            let last = uses.last().map_or(0, WallTime::as_secs);
            Figures { number: version.number, reserved: uses.promised(), operations: uses.operations(), last }
        });
        let used = |of: &Figures| of.reserved > 0 || of.operations > 0 || of.last > 0;
        Self { id: key.id, figures: figures.filter(used).collect() }
    }

    fn encode(&self) -> Vec<u8> {
        let mut record = Vec::with_capacity(2 + KEY_ID_BYTES + 4 + self.figures.len() * FIGURES_BYTES);
        record.extend_from_slice(&[USES_KIND, FORMAT]);
        record.extend_from_slice(&self.id);
        put_u32(&mut record, u32::try_from(self.figures.len()).unwrap_or(u32::MAX));
        for of in &self.figures {
            put_u32(&mut record, of.number);
            put_u64(&mut record, of.reserved);
            put_u64(&mut record, of.operations);
            put_u64(&mut record, of.last);
        }
        record
    }

    fn figures(&self, number: u32) -> Option<&Figures> {
        let index = self.figures.binary_search_by_key(&number, |of| of.number).ok()?;
        self.figures.get(index)
    }
}

/// The record of the use figures of `key`. Seals that were promised and not yet granted count as set aside, so that
/// what is written is never less than what may be used.
#[must_use]
pub fn encode_uses(key: &Key) -> Vec<u8> {
    UsesRecord::of(key).encode()
}

/// The use figures of a record.
///
/// # Errors
/// [`Malformed`]
pub fn decode_uses(record: &[u8]) -> Result<UsesRecord, Malformed> {
    let mut rest = Rest::of(USES_KIND, record)?;
    let id: KeyId = *rest.array()?;
    let count = rest.count(FIGURES_BYTES)?;
    let mut figures = Vec::with_capacity(count);
    let mut before = 0;
    for _ in 0..count {
        let of = Figures {
            number: rest.u32()?,
            reserved: rest.u64()?,
            operations: rest.u64()?,
            last: rest.u64()?,
        };
        let used = of.reserved > 0 || of.operations > 0 || of.last > 0;
        if of.number <= before || !used || of.last > u64::MAX / 1_000 {
            return Err(Malformed::Content);
        }
        before = of.number;
        figures.push(of);
    }
    if rest.is_empty() { Ok(UsesRecord { id, figures }) } else { Err(Malformed::Content) }
}

impl Key {
    /// The same key with the figures of `record`, if they are those of this very key and not of one that had its name
    /// before. A version that the record does not name was not used: nothing is set aside for it.
    #[must_use]
    pub fn with_uses(&self, record: &UsesRecord) -> Self {
        let mut key = self.clone();
        if key.id == record.id {
            for version in &mut key.versions {
                if let Some(of) = record.figures(version.number) {
                    let last = WallTime::from_millis(of.last.saturating_mul(1_000));
                    let mut next = (**version).clone();
                    next.uses = Arc::new(Uses::restored(of.reserved, of.operations, last));
                    *version = Arc::new(next);
                }
            }
        }
        key
    }
}

fn key_record_len(key: &Key) -> usize {
    let material = |version: &KeyVersion| version.material().map_or(0, material_len);
    FIXED_BYTES
        + if key.deletion.is_some() { DELETION_BYTES } else { 0 }
        + key.name.as_str().len()
        + key.versions().map(|version| VERSION_BYTES + material(version)).sum::<usize>()
}

fn material_len(material: &Material) -> usize {
    match material {
        Material::Encryption { .. } => ENCRYPTION_BYTES,
        Material::Mac(key) => key.len(),
    }
}

fn put_policy(record: &mut Vec<u8>, policy: &Policy) {
    put_u32(record, policy.min_decryption_version);
    put_u32(record, policy.min_encryption_version);
    put_u32(record, policy.keep_versions);
    put_u64(record, policy.auto_rotate_seconds);
    record.push(u8::from(policy.deletion_allowed));
}

fn take_policy(rest: &mut Rest<'_>) -> Result<Policy, Malformed> {
    Ok(Policy {
        min_decryption_version: rest.u32()?,
        min_encryption_version: rest.u32()?,
        keep_versions: rest.u32()?,
        auto_rotate_seconds: rest.u64()?,
        deletion_allowed: rest.flag()?,
    })
}

fn put_version(record: &mut Vec<u8>, version: &KeyVersion) {
    put_u64(record, version.created.as_millis());
    record.extend_from_slice(&[state_code(version.state), u8::from(version.imported)]);
    let len = version.material().map_or(0, material_len);
    record.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
    match version.material() {
        Some(Material::Encryption { enc, mac, sub }) => {
            for secret in [enc, mac, sub] {
                secret.with(|bytes| record.extend_from_slice(bytes));
            }
        }
        Some(Material::Mac(key)) => key.with(|bytes| record.extend_from_slice(bytes)),
        None => {}
    }
}

fn take_versions(rest: &mut Rest<'_>, kind: KeyType) -> Result<Vec<Arc<KeyVersion>>, Malformed> {
    let oldest = rest.u32()?;
    let count = rest.count(VERSION_BYTES)?;
    let mut versions = Vec::with_capacity(count);
    for index in 0..count {
        let number = u32::try_from(index).ok().and_then(|index| oldest.checked_add(index));
        let number = number.filter(|number| *number > 0).ok_or(Malformed::Content)?;
        versions.push(Arc::new(take_version(rest, number, kind)?));
    }
    Ok(versions)
}

fn take_version(rest: &mut Rest<'_>, number: u32, kind: KeyType) -> Result<KeyVersion, Malformed> {
    let created = rest.time()?;
    let state = state_of(rest.u8()?)?;
    let imported = rest.flag()?;
    let len = usize::from(u16::from_be_bytes(*rest.array()?));
    let bytes = rest.take(len)?;
    let material = match state {
        VersionState::Destroyed if bytes.is_empty() => None,
        VersionState::Destroyed => return Err(Malformed::Content),
        _ => Some(Arc::new(material_of(kind, bytes)?)),
    };
    Ok(KeyVersion { number, created, state, imported, material, uses: Arc::default() })
}

fn material_of(kind: KeyType, bytes: &[u8]) -> Result<Material, Malformed> {
    if kind.encrypts() {
        let mut rest = Rest(bytes);
        let mut secret = || {
            Secret::try_fill(|target: &mut [u8; KEY_BYTES]| {
                target.copy_from_slice(rest.take(KEY_BYTES)?);
                Ok(())
            })
        };
        let material = Material::Encryption { enc: secret()?, mac: secret()?, sub: secret()? };
        return if rest.is_empty() { Ok(material) } else { Err(Malformed::Content) };
    }
    Material::fits(kind, bytes.len()).map_err(|_| Malformed::Content)?;
    SecretBytes::try_fill(bytes.len(), |target| {
        target.copy_from_slice(bytes);
        Ok(())
    })
    .map(Material::Mac)
}

fn option_bits(options: &KeyOptions) -> u8 {
    let bit = |set: bool, bit: u8| if set { bit } else { 0 };
    bit(options.derived, DERIVED)
        | bit(options.exportable, EXPORTABLE)
        | bit(options.plaintext_backup, PLAINTEXT_BACKUP)
        | bit(options.convergent, CONVERGENT)
}

fn take_options(rest: &mut Rest<'_>) -> Result<KeyOptions, Malformed> {
    let kind = type_of(rest.u8()?)?;
    let bits = rest.u8()?;
    if bits & !(DERIVED | EXPORTABLE | PLAINTEXT_BACKUP | CONVERGENT) != 0 {
        return Err(Malformed::Content);
    }
    Ok(KeyOptions {
        kind,
        derived: bits & DERIVED != 0,
        convergent: bits & CONVERGENT != 0,
        exportable: bits & EXPORTABLE != 0,
        plaintext_backup: bits & PLAINTEXT_BACKUP != 0,
    })
}

/// What stands for a type; never given to another.
const fn type_code(kind: KeyType) -> u8 {
    match kind {
        KeyType::XChaCha20Poly1305 => 1,
        KeyType::ChaCha20Poly1305 => 2,
        KeyType::HmacSha256 => 3,
        KeyType::HmacSha384 => 4,
        KeyType::HmacSha512 => 5,
    }
}

fn type_of(code: u8) -> Result<KeyType, Malformed> {
    KeyType::ALL.into_iter().find(|kind| type_code(*kind) == code).ok_or(Malformed::Content)
}

/// What stands for a state; never given to another.
const fn state_code(state: VersionState) -> u8 {
    match state {
        VersionState::Enabled => 1,
        VersionState::DecryptOnly => 2,
        VersionState::Disabled => 3,
        VersionState::Destroyed => 4,
    }
}

fn state_of(code: u8) -> Result<VersionState, Malformed> {
    VersionState::ALL.into_iter().find(|state| state_code(*state) == code).ok_or(Malformed::Content)
}

fn put_u32(record: &mut Vec<u8>, number: u32) {
    record.extend_from_slice(&number.to_be_bytes());
}

fn put_u64(record: &mut Vec<u8>, number: u64) {
    record.extend_from_slice(&number.to_be_bytes());
}

/// What is left of a record; each reading is a refusal if too little is left.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    /// What follows the kind and the format.
    fn of(kind: u8, record: &'a [u8]) -> Result<Self, Malformed> {
        match record {
            [found, FORMAT, rest @ ..] if *found == kind => Ok(Self(rest)),
            [found, format, ..] if *found == kind => Err(Malformed::Format(*format)),
            _ => Err(Malformed::Kind),
        }
    }

    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed::Content)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::Content)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(|[byte]| *byte)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(|bytes| u32::from_be_bytes(*bytes))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(|bytes| u64::from_be_bytes(*bytes))
    }

    fn time(&mut self) -> Result<WallTime, Malformed> {
        // What no calendar of four digits can show was never a time of this server.
        let millis = self.u64()?;
        if millis <= TIME_MAX_MILLIS { Ok(WallTime::from_millis(millis)) } else { Err(Malformed::Content) }
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed::Content),
        }
    }

    /// A number of versions, each of which takes at least `each` of the bytes that are left.
    fn count(&mut self, each: usize) -> Result<usize, Malformed> {
        let count = self.u32()?;
        let fits = usize::try_from(count).ok().filter(|count| *count <= self.0.len() / each);
        fits.filter(|_| count <= KEY_VERSIONS_MAX_COUNT).ok_or(Malformed::Content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::trial::Trial;
    use crate::model::PolicyChange;

    /// A key with every state, an imported version, a policy and a deletion.
    fn rich(kind: KeyType) -> Trial {
        let options = KeyOptions { exportable: true, derived: kind.encrypts(), ..KeyOptions::of(kind) };
        let policy = PolicyChange { deletion_allowed: Some(true), ..PolicyChange::default() };
        let mut trial = Trial::with(options, policy);
        trial.import(options, &[9; 32]).unwrap();
        for _ in 0..4 {
            trial.rotate().unwrap();
        }
        trial.set(3, VersionState::Destroyed).unwrap();
        trial.set(4, VersionState::Disabled).unwrap();
        trial.set(5, VersionState::DecryptOnly).unwrap();
        let latest = trial.key().latest_number();
        let policy = PolicyChange {
            min_decryption_version: Some(2),
            min_encryption_version: Some(3),
            keep_versions: Some(latest),
            auto_rotate_seconds: Some(86_400),
            ..PolicyChange::default()
        };
        trial.configure(policy).unwrap();
        trial.rotate().unwrap();
        trial
    }

    fn shown(key: &Key) -> Vec<String> {
        let version = |version: &KeyVersion| {
            let (number, created, state) = (version.number(), version.created(), version.state());
            let enc = version.with_encryption_key(|key| *key);
            let tag = version.sign(key.kind(), b"m").map(|tag| tag.as_bytes().to_vec());
            let sub = version.with_sub_key(|key| *key);
            format!("{number} {created:?} {state:?} {} {enc:?} {tag:?} {sub:?}", version.is_imported())
        };
        let of = format!(
            "{:?} {:?} {:?} {:?} {:?} {:?}",
            key.name(),
            key.id(),
            key.options(),
            key.policy(),
            key.created(),
            key.deletion()
        );
        core::iter::once(of).chain(key.versions().map(version)).collect()
    }

    #[test]
    fn every_field_of_a_key_is_carried() {
        for kind in KeyType::ALL {
            let mut trial = rich(kind);
            for deleted in [false, true] {
                if deleted {
                    trial.delete().unwrap();
                }
                let record = encode_key(trial.key());
                assert_eq!(record.len(), key_record_len(trial.key()));
                let back = decode_key(&record).unwrap();
                assert_eq!(shown(&back), shown(trial.key()));
                assert_eq!(*encode_key(&back), *record);
            }
        }
    }

    #[test]
    fn a_time_that_no_calendar_shows_is_refused() {
        let mut key = (**rich(KeyType::XChaCha20Poly1305).key()).clone();
        for (millis, reads) in [(TIME_MAX_MILLIS, true), (TIME_MAX_MILLIS + 1, false), (u64::MAX, false)] {
            key.created = WallTime::from_millis(millis);
            assert_eq!(decode_key(&encode_key(&key)).is_ok(), reads, "{millis}");
        }
    }

    #[test]
    fn every_truncation_and_every_extension_is_refused() {
        for kind in KeyType::ALL {
            let mut trial = rich(kind);
            trial.delete().unwrap();
            let record = encode_key(trial.key());
            for len in 0..record.len() {
                assert!(decode_key(&record[..len]).is_err(), "{len}");
            }
            assert_eq!(decode_key(&[&record[..], &[0]].concat()).err(), Some(Malformed::Content));
        }
    }

    #[test]
    fn an_altered_byte_is_refused_or_gives_another_record_that_is_canonical() {
        let mut trial = rich(KeyType::ChaCha20Poly1305);
        trial.delete().unwrap();
        let record = encode_key(trial.key());
        for at in 0..record.len() {
            for value in 0..=u8::MAX {
                let mut altered = record.to_vec();
                altered[at] = value;
                if let Ok(key) = decode_key(&altered) {
                    assert_eq!(*encode_key(&key), altered, "{at} {value}");
                }
            }
        }
    }

    #[test]
    fn kinds_and_formats_are_told_apart() {
        let trial = Trial::of(KeyType::HmacSha256);
        let (mut key, mut uses) = (encode_key(trial.key()), encode_uses(trial.key()));
        assert_eq!(decode_key(&uses).err(), Some(Malformed::Kind));
        assert_eq!(decode_uses(&key).err(), Some(Malformed::Kind));
        (key[1], uses[1]) = (2, 0);
        assert_eq!(decode_key(&key).err(), Some(Malformed::Format(2)));
        assert_eq!(decode_uses(&uses).err(), Some(Malformed::Format(0)));
        assert_eq!(decode_key(b"").err(), Some(Malformed::Kind));
        assert_eq!(decode_uses(b"U").err(), Some(Malformed::Kind));
    }

    #[test]
    fn a_key_that_no_change_could_make_is_refused() {
        let sound = rich(KeyType::ChaCha20Poly1305);
        let refused = |spoil: &dyn Fn(&mut Key)| {
            let mut key = (**sound.key()).clone();
            spoil(&mut key);
            assert_eq!(decode_key(&encode_key(&key)).err(), Some(Malformed::Content));
        };
        refused(&|key| key.versions.clear());
        refused(&|key| key.policy.min_decryption_version = 0);
        refused(&|key| key.policy.min_decryption_version = key.latest_number() + 1);
        refused(&|key| key.policy.min_encryption_version = key.policy.min_decryption_version - 1);
        refused(&|key| key.policy.min_encryption_version = key.latest_number() + 1);
        refused(&|key| key.options.kind = KeyType::HmacSha512);
        refused(&|key| {
            let mut sealing = (**key.versions.last().unwrap()).clone();
            sealing.imported = true;
            *key.versions.last_mut().unwrap() = Arc::new(sealing);
        });
        refused(&|key| {
            let mut zero = (*key.versions[0]).clone();
            zero.number = 0;
            key.versions[0] = Arc::new(zero);
        });
        refused(&|key| {
            let mut last = (*key.versions[0]).clone();
            last.number = u32::MAX;
            key.versions = vec![Arc::new(last), Arc::clone(&key.versions[1])];
        });
        refused(&|key| {
            let mut kept = (*key.versions[0]).clone();
            kept.state = VersionState::Destroyed;
            key.versions[0] = Arc::new(kept);
        });
        let mac = Trial::of(KeyType::HmacSha256);
        let mut key = (**mac.key()).clone();
        key.options.derived = true;
        assert_eq!(decode_key(&encode_key(&key)).err(), Some(Malformed::Content));
    }

    #[test]
    fn the_largest_key_fits_and_a_larger_one_is_refused() {
        let options = KeyOptions::of(KeyType::HmacSha512);
        let mut trial = Trial::with(options, PolicyChange::default());
        trial.import(options, &[7; crate::limits::MAC_KEY_MAX_BYTES]).unwrap();
        let mut key = (**trial.key()).clone();
        key.name = KeyName::new(&"n".repeat(crate::limits::KEY_NAME_MAX_BYTES)).unwrap();
        key.versions = vec![Arc::clone(&key.versions[1]); KEY_VERSIONS_MAX_COUNT as usize];
        let record = encode_key(&key);
        assert!(record.len() <= KEY_RECORD_MAX_BYTES, "{}", record.len());
        assert_eq!(decode_key(&record).unwrap().versions().len(), 4_096);
        key.versions.push(Arc::clone(&key.versions[0]));
        assert_eq!(decode_key(&encode_key(&key)).err(), Some(Malformed::Content));
    }

    #[test]
    fn figures_come_back_as_used_up() {
        let mut trial = Trial::of(KeyType::ChaCha20Poly1305);
        trial.rotate().unwrap();
        trial.rotate().unwrap();
        let second = trial.key().version(2).unwrap().uses();
        second.grant(10);
        second.count_seals(3).unwrap();
        second.note(WallTime::from_millis(5_999), 4);
        let record = encode_uses(trial.key());
        assert_eq!(record.len(), 2 + KEY_ID_BYTES + 4 + FIGURES_BYTES, "what was never used takes no room");
        let figures = decode_uses(&record).unwrap();
        assert_eq!(figures.id(), trial.key().id());
        let back = decode_key(&encode_key(trial.key())).unwrap().with_uses(&figures);
        let uses = back.version(2).unwrap().uses();
        assert_eq!(
            (uses.reserved(), uses.operations(), uses.last()),
            (10, 4, Some(WallTime::from_millis(5_000)))
        );
        assert!(uses.count_seals(1).is_err(), "what may have been used before a restart is not used again");
        assert_eq!(back.version(1).unwrap().uses().reserved(), 0);
        assert!(
            back.version(3).unwrap().uses().count_seals(1).is_err(),
            "without figures nothing is set aside"
        );
        assert_eq!(encode_uses(&back), record);
    }

    #[test]
    fn a_promised_block_is_written_before_it_is_granted() {
        let mut trial = Trial::of(KeyType::ChaCha20Poly1305);
        trial.reserve(1).unwrap();
        assert_eq!(trial.key().version(1).unwrap().uses().reserved(), 0);
        let back = trial.key().with_uses(&decode_uses(&encode_uses(trial.key())).unwrap());
        assert_eq!(back.version(1).unwrap().uses().reserved(), crate::limits::SEALS_BLOCK_COUNT);
    }

    #[test]
    fn figures_of_another_key_are_ignored() {
        let trial = Trial::of(KeyType::ChaCha20Poly1305);
        trial.key().version(1).unwrap().uses().grant(10);
        let mut record = encode_uses(trial.key());
        record[2] ^= 1;
        let back = decode_key(&encode_key(trial.key())).unwrap().with_uses(&decode_uses(&record).unwrap());
        assert_eq!(back.version(1).unwrap().uses().reserved(), 0);
    }

    #[test]
    fn every_altered_figure_is_refused_or_canonical() {
        let mut trial = Trial::of(KeyType::ChaCha20Poly1305);
        trial.rotate().unwrap();
        for version in trial.key().versions() {
            version.uses().grant(u64::from(version.number()));
            version.uses().note(trial.now, 1);
        }
        let record = encode_uses(trial.key());
        for at in 0..record.len() {
            assert!(decode_uses(&record[..at]).is_err(), "{at}");
            for value in 0..=u8::MAX {
                let mut altered = record.clone();
                altered[at] = value;
                if let Ok(figures) = decode_uses(&altered) {
                    assert_eq!(figures.encode(), altered, "{at} {value}");
                    assert!(figures.figures.windows(2).all(|two| two[0].number < two[1].number));
                }
            }
        }
        assert!(decode_uses(&[&record[..], &[0]].concat()).is_err());
    }
}
