//! Backups of keys as text: sealed under a backup key, or in the open for keys that were made so.
//!
//! Owns both forms. Invariants: a backup opens whole and unaltered or not at all; what is in the open is read only as a
//! key that may be in the open; secrets pass only through memory that is wiped.

use core::fmt;

use zeroize::Zeroizing;

use crate::crypto::aead::{self, Algorithm, TAG_BYTES};
use crate::crypto::{Error, kdf};
use crate::encoding::{base64_decode, base64_encode, base64_len};
use crate::keyring::key::Key;
use crate::keyring::record::{Malformed, decode_key, encode_key};
use crate::limits::{BACKUP_MAX_BYTES, KEY_BYTES};

/// What a sealed backup begins with.
pub const SEALED_PREFIX: &str = "quantonium-backup:v1:";
/// What a backup in the open begins with.
pub const PLAIN_PREFIX: &str = "quantonium-backup-plain:v1:";
/// Length of the nonce of a sealed backup.
pub const BACKUP_NONCE_BYTES: usize = 24;

const ALGORITHM: Algorithm = Algorithm::XChaCha20Poly1305;
/// Magic and format.
const MAGIC: &[u8; 4] = b"QNB\x01";
const KEY_ID_BYTES: usize = 8;
const HEADER_BYTES: usize = MAGIC.len() + KEY_ID_BYTES + BACKUP_NONCE_BYTES;

const _: () = {
    use crate::limits::KEY_RECORD_MAX_BYTES;
    assert!(SEALED_PREFIX.len() < PLAIN_PREFIX.len() && ALGORITHM.nonce_len() == BACKUP_NONCE_BYTES);
    let sealed = base64_len(HEADER_BYTES + KEY_RECORD_MAX_BYTES + TAG_BYTES);
    assert!(PLAIN_PREFIX.len() + sealed <= BACKUP_MAX_BYTES);
};

/// Why a text gave no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupError {
    /// It is no backup of this form.
    Malformed,
    /// It was sealed under another backup key.
    OtherKey,
    /// It was altered, or made by somebody without the backup key.
    Rejected,
    /// It was made by a newer version, in a format that this one does not know.
    UnknownFormat,
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "not a backup of a key",
            Self::OtherKey => "the backup was sealed under another backup key",
            Self::Rejected => "the backup is not authentic",
            Self::UnknownFormat => {
                "the backup was made by a newer version, in a format not known to this one"
            }
        })
    }
}

impl std::error::Error for BackupError {}

impl From<Malformed> for BackupError {
    fn from(why: Malformed) -> Self {
        match why {
            Malformed::Format(_) => Self::UnknownFormat,
            Malformed::Kind | Malformed::Content => Self::Malformed,
        }
    }
}

/// The key is not one of those that may be backed up in the open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAllowed;

impl fmt::Display for NotAllowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the key was not made for backups in the open")
    }
}

impl std::error::Error for NotAllowed {}

/// Seals a backup of `key` under `backup_key`. `nonce` must be random for each backup.
///
/// The text is at most [`BACKUP_MAX_BYTES`] long. Use figures and names of other keys are not in it; the key's own name
/// is, sealed.
///
/// # Errors
/// [`Error::Length`], which the bounds of a key rule out.
pub fn seal_backup(
    key: &Key,
    backup_key: &[u8; KEY_BYTES],
    nonce: &[u8; BACKUP_NONCE_BYTES],
) -> Result<String, Error> {
    let record = encode_key(key);
    let header = [&MAGIC[..], &id_of(backup_key)?, nonce].concat();
    let mut sealed = Zeroizing::new(Vec::with_capacity(header.len() + record.len() + TAG_BYTES));
    sealed.extend_from_slice(&header);
    sealed.extend_from_slice(&record);
    let data = sealed.get_mut(HEADER_BYTES..).ok_or(Error::Length)?;
    let sealing_key = kdf::derive_secret(&[], backup_key, &[b"quantonium/backup/v1"])?;
    let tag = sealing_key.with(|sealing_key| aead::seal(ALGORITHM, sealing_key, nonce, &header, data))?;
    sealed.extend_from_slice(&tag);
    // Nothing of it is secret any more.
    text_of(SEALED_PREFIX, &sealed).map(|mut text| core::mem::take(&mut *text))
}

/// Opens a sealed backup.
///
/// # Errors
/// [`BackupError`]
pub fn open_backup(text: &str, backup_key: &[u8; KEY_BYTES]) -> Result<Key, BackupError> {
    let mut sealed = bytes_of(SEALED_PREFIX, text)?;
    let (header, rest) = sealed.split_at_mut_checked(HEADER_BYTES).ok_or(BackupError::Malformed)?;
    let (data, tag) = rest.split_last_chunk_mut::<TAG_BYTES>().ok_or(BackupError::Malformed)?;
    let (magic, key_id) = header.split_first_chunk().ok_or(BackupError::Malformed)?;
    let (key_id, nonce) = key_id.split_at_checked(KEY_ID_BYTES).ok_or(BackupError::Malformed)?;
    match magic {
        MAGIC => {}
        [b'Q', b'N', b'B', _] => return Err(BackupError::UnknownFormat),
        _ => return Err(BackupError::Malformed),
    }
    // Not a secret: it stands in every backup.
    if key_id != id_of(backup_key).map_err(|_| BackupError::Malformed)?.as_slice() {
        return Err(BackupError::OtherKey);
    }
    let sealing_key =
        kdf::derive_secret(&[], backup_key, &[b"quantonium/backup/v1"]).map_err(|_| BackupError::Rejected)?;
    sealing_key
        .with(|sealing_key| aead::open(ALGORITHM, sealing_key, nonce, header, data, tag))
        .map_err(|_| BackupError::Rejected)?;
    Ok(decode_key(data)?)
}

/// Writes a backup of `key` in the open.
///
/// # Errors
/// [`NotAllowed`] for a key that was not made with `plaintext_backup`.
pub fn write_plain_backup(key: &Key) -> Result<Zeroizing<String>, NotAllowed> {
    if !key.options.plaintext_backup {
        return Err(NotAllowed);
    }
    // The bounds of a key rule the other error out.
    text_of(PLAIN_PREFIX, &encode_key(key)).map_err(|_| NotAllowed)
}

/// Reads a backup in the open.
///
/// # Errors
/// [`BackupError::Malformed`], also for a key that would not have been written in the open;
/// [`BackupError::UnknownFormat`].
pub fn read_plain_backup(text: &str) -> Result<Key, BackupError> {
    let key = decode_key(&bytes_of(PLAIN_PREFIX, text)?)?;
    if key.options.plaintext_backup { Ok(key) } else { Err(BackupError::Malformed) }
}

/// What tells backup keys apart, and says nothing of them.
fn id_of(backup_key: &[u8; KEY_BYTES]) -> Result<[u8; KEY_ID_BYTES], Error> {
    let mut id = [0; KEY_ID_BYTES];
    kdf::derive(&[], backup_key, &[b"quantonium/backup-key-id/v1"], &mut id)?;
    Ok(id)
}

fn text_of(prefix: &str, bytes: &[u8]) -> Result<Zeroizing<String>, Error> {
    let mut text = Zeroizing::new(vec![0; prefix.len() + base64_len(bytes.len())]);
    let (front, body) = text.split_at_mut_checked(prefix.len()).ok_or(Error::Length)?;
    front.copy_from_slice(prefix.as_bytes());
    base64_encode(bytes, body).ok_or(Error::Length)?;
    // The memory itself becomes the text: nothing is copied. Prefix and base64 are ASCII.
    String::from_utf8(core::mem::take(&mut *text)).map(Zeroizing::new).map_err(|_| Error::Length)
}

fn bytes_of(prefix: &str, text: &str) -> Result<Zeroizing<Vec<u8>>, BackupError> {
    let body = text.strip_prefix(prefix).filter(|_| text.len() <= BACKUP_MAX_BYTES);
    let body = body.ok_or(BackupError::Malformed)?;
    let mut bytes = Zeroizing::new(vec![0; body.len() / 4 * 3]);
    let len = base64_decode(body.as_bytes(), &mut bytes).ok_or(BackupError::Malformed)?;
    bytes.truncate(len);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::trial::Trial;
    use crate::model::{KeyOptions, KeyType, PolicyChange};

    const BACKUP_KEY: [u8; KEY_BYTES] = [0x42; KEY_BYTES];
    const NONCE: [u8; BACKUP_NONCE_BYTES] = [7; BACKUP_NONCE_BYTES];

    fn open_to_all(kind: KeyType) -> Trial {
        let options = KeyOptions { plaintext_backup: true, ..KeyOptions::of(kind) };
        let mut trial = Trial::with(options, PolicyChange::default());
        trial.rotate().unwrap();
        trial
    }

    /// The text of other bytes.
    fn spelt(prefix: &str, bytes: &[u8]) -> String {
        text_of(prefix, bytes).unwrap().to_string()
    }

    #[test]
    fn a_backup_gives_the_key_back_in_either_form() {
        for kind in KeyType::ALL {
            let trial = open_to_all(kind);
            let sealed = seal_backup(trial.key(), &BACKUP_KEY, &NONCE).unwrap();
            let plain = write_plain_backup(trial.key()).unwrap();
            for back in [open_backup(&sealed, &BACKUP_KEY).unwrap(), read_plain_backup(&plain).unwrap()] {
                assert_eq!(*encode_key(&back), *encode_key(trial.key()));
            }
        }
    }

    #[test]
    fn a_sealed_backup_shows_nothing_of_the_key() {
        let trial = open_to_all(KeyType::XChaCha20Poly1305);
        let sealed = seal_backup(trial.key(), &BACKUP_KEY, &NONCE).unwrap();
        let bytes = bytes_of(SEALED_PREFIX, &sealed).unwrap();
        let record = encode_key(trial.key());
        for window in record.windows(8).filter(|window| window.iter().any(|byte| *byte != 0)) {
            assert!(!bytes.windows(8).any(|found| found == window));
        }
    }

    #[test]
    fn every_altered_byte_of_a_sealed_backup_is_found() {
        let trial = open_to_all(KeyType::HmacSha256);
        let sealed = seal_backup(trial.key(), &BACKUP_KEY, &NONCE).unwrap();
        let bytes = bytes_of(SEALED_PREFIX, &sealed).unwrap();
        for at in 0..bytes.len() {
            let mut altered = bytes.to_vec();
            altered[at] ^= 1;
            let expected = match at {
                0..3 => BackupError::Malformed,
                3 => BackupError::UnknownFormat,
                4..12 => BackupError::OtherKey,
                _ => BackupError::Rejected,
            };
            assert_eq!(
                open_backup(&spelt(SEALED_PREFIX, &altered), &BACKUP_KEY).err(),
                Some(expected),
                "{at}"
            );
        }
        for len in 0..bytes.len() {
            assert!(open_backup(&spelt(SEALED_PREFIX, &bytes[..len]), &BACKUP_KEY).is_err(), "{len}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(
            open_backup(&spelt(SEALED_PREFIX, &longer), &BACKUP_KEY).err(),
            Some(BackupError::Rejected)
        );
    }

    #[test]
    fn another_backup_key_is_named_as_the_reason() {
        let trial = open_to_all(KeyType::HmacSha256);
        let sealed = seal_backup(trial.key(), &BACKUP_KEY, &NONCE).unwrap();
        assert_eq!(open_backup(&sealed, &[0x43; KEY_BYTES]).err(), Some(BackupError::OtherKey));
    }

    #[test]
    fn a_key_that_was_not_made_for_it_is_neither_written_nor_read_in_the_open() {
        let trial = Trial::of(KeyType::XChaCha20Poly1305);
        assert_eq!(write_plain_backup(trial.key()).err(), Some(NotAllowed));
        let text = spelt(PLAIN_PREFIX, &encode_key(trial.key()));
        assert_eq!(read_plain_backup(&text).err(), Some(BackupError::Malformed));
    }

    #[test]
    fn the_forms_are_not_taken_for_one_another_nor_for_anything_else() {
        let trial = open_to_all(KeyType::XChaCha20Poly1305);
        let sealed = seal_backup(trial.key(), &BACKUP_KEY, &NONCE).unwrap();
        let plain = write_plain_backup(trial.key()).unwrap();
        for text in [&plain, "", SEALED_PREFIX, "quantonium-backup:v1:AAAA", "quantonium-backup:v2:AAAA"] {
            assert_eq!(open_backup(text, &BACKUP_KEY).err(), Some(BackupError::Malformed), "{text}");
        }
        for text in [&sealed, "", PLAIN_PREFIX, "quantonium-backup-plain:v1:!", &format!("{} ", *plain)] {
            assert_eq!(read_plain_backup(text).err(), Some(BackupError::Malformed), "{text}");
        }
        let mut newer = encode_key(trial.key());
        newer[1] = 2;
        assert_eq!(read_plain_backup(&spelt(PLAIN_PREFIX, &newer)).err(), Some(BackupError::UnknownFormat));
        let long = format!("{PLAIN_PREFIX}{}", "A".repeat(BACKUP_MAX_BYTES));
        assert_eq!(read_plain_backup(&long).err(), Some(BackupError::Malformed));
    }
}
