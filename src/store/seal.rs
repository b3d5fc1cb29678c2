//! Records sealed and opened: what lies above the store and what lies below it share no key.
//!
//! Owns [`Sealer`] and the kinds of records. Invariants: a sealed record opens only at its own path and revision, in
//! the ring it was sealed for; whoever reads the store learns neither names nor values; a plaintext begins with its
//! kind, and lives in memory that is wiped.

use core::fmt;

use zeroize::Zeroizing;

use super::record::{Path, Record, Unreadable};
use crate::crypto::Error;
use crate::crypto::aead::{self, Algorithm, KEY_BYTES, TAG_BYTES};
use crate::crypto::mac::MacKey;
use crate::secret::Secret;

/// Length of the nonce of a sealed record.
pub const SEAL_NONCE_BYTES: usize = 24;
/// What sealing adds to a plaintext.
pub const SEAL_OVERHEAD_BYTES: usize = SEAL_NONCE_BYTES + TAG_BYTES;

/// What a record is about. Its byte comes first in the plaintext and in what the path is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A key of the ring, by its name.
    Key,
    /// The use counters of a key, by its name.
    Uses,
    /// An API key, by its identifier.
    ApiKey,
    /// The use figures of an API key, by its identifier.
    CallerUse,
    /// How far the audit streams of a start had come, by the start.
    Checkpoint,
    /// The roots of audit keys that were in use before.
    AuditRoots,
}

impl Kind {
    /// The byte that stands for it.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Key => b'K',
            Self::Uses => b'U',
            Self::ApiKey => b'A',
            Self::CallerUse => b'B',
            Self::Checkpoint => b'C',
            Self::AuditRoots => b'X',
        }
    }

    /// The kind that `byte` stands for.
    #[must_use]
    pub const fn of(byte: u8) -> Option<Self> {
        match byte {
            b'K' => Some(Self::Key),
            b'U' => Some(Self::Uses),
            b'A' => Some(Self::ApiKey),
            b'B' => Some(Self::CallerUse),
            b'C' => Some(Self::Checkpoint),
            b'X' => Some(Self::AuditRoots),
            _ => None,
        }
    }
}

/// Seals and opens the records of one ring.
pub struct Sealer {
    ring: [u8; 16],
    records: Secret<KEY_BYTES>,
    paths: MacKey,
}

impl Sealer {
    pub(super) const fn new(ring: [u8; 16], records: Secret<KEY_BYTES>, paths: MacKey) -> Self {
        Self { ring, records, paths }
    }

    /// Where the record of this kind and name stands.
    #[must_use]
    pub fn path(&self, kind: Kind, name: &str) -> Path {
        let tag = self.paths.tag(&[&[kind.byte()], name.as_bytes()]);
        // A tag of SHA-256 has 32 bytes, so the other branch is never taken.
        Path::new(tag.as_bytes().first_chunk().copied().unwrap_or_default())
    }

    /// Whether `record` stands where one of this kind and name has to. Whoever decodes a plaintext asks this with
    /// the kind and the name that it found inside.
    ///
    /// # Errors
    /// [`Unreadable`] if it does not.
    pub fn verify_path(&self, record: &Record, kind: Kind, name: &str) -> Result<(), Unreadable> {
        if self.path(kind, name) == record.path {
            Ok(())
        } else {
            Err(unreadable(record, "it stands for another name"))
        }
    }

    /// Seals `plaintext`, whose first byte is its [`Kind`], as the record of `path` in `revision`. `nonce` is random
    /// and was never used before.
    ///
    /// # Errors
    /// [`Error::Length`] for a plaintext that is longer than any cipher takes.
    pub fn seal(
        &self,
        path: Path,
        revision: u64,
        nonce: &[u8; SEAL_NONCE_BYTES],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, Error> {
        // The whole room at once: growing would leave a copy of the plaintext behind.
        let mut sealed = Vec::with_capacity(plaintext.len() + SEAL_OVERHEAD_BYTES);
        sealed.extend_from_slice(nonce);
        sealed.extend_from_slice(plaintext);
        let (_, data) = sealed.split_at_mut(SEAL_NONCE_BYTES);
        let aad = self.associated(path, revision);
        let tag =
            self.records.with(|key| aead::seal(Algorithm::XChaCha20Poly1305, key, nonce, &aad, data))?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Opens a record and returns its plaintext, whose first byte is its [`Kind`].
    ///
    /// # Errors
    /// [`Unreadable`] if it was removed, or was not sealed for this place, this revision and this ring.
    pub fn open(&self, record: &Record) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
        let not_authentic = || unreadable(record, "it is not authentic");
        let sealed = record.sealed.as_deref().ok_or_else(|| unreadable(record, "it was removed"))?;
        let (nonce, rest) = sealed.split_at_checked(SEAL_NONCE_BYTES).ok_or_else(not_authentic)?;
        let (data, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or_else(not_authentic)?;
        let mut plaintext = Zeroizing::new(data.to_vec());
        let aad = self.associated(record.path, record.revision);
        self.records
            .with(|key| aead::open(Algorithm::XChaCha20Poly1305, key, nonce, &aad, &mut plaintext, tag))
            .map_err(|_| not_authentic())?;
        match plaintext.first().copied().and_then(Kind::of) {
            Some(_) => Ok(plaintext),
            None => Err(unreadable(record, "it is of an unknown kind: a newer version may have written it")),
        }
    }

    /// Ring, path and revision: a record that is moved, or brought back from an earlier revision, does not open.
    fn associated(&self, path: Path, revision: u64) -> [u8; 40] {
        let mut aad = [0; 40];
        let (ring, rest) = aad.split_at_mut(16);
        let (place, number) = rest.split_at_mut(Path::BYTES);
        ring.copy_from_slice(&self.ring);
        place.copy_from_slice(path.as_bytes());
        number.copy_from_slice(&revision.to_be_bytes());
        aad
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(redacted)")
    }
}

const fn unreadable(record: &Record, why: &'static str) -> Unreadable {
    Unreadable { path: record.path, revision: record.revision, why }
}

#[cfg(test)]
mod tests {
    use super::super::root::RootKey;
    use super::*;

    fn sealer(ring: u8) -> Sealer {
        RootKey::take(&mut [7; 32]).sealer([ring; 16]).unwrap()
    }

    fn sealed(sealer: &Sealer) -> Record {
        let path = sealer.path(Kind::Key, "orders");
        let sealed = sealer.seal(path, 3, &[9; 24], b"Ksecret").unwrap();
        Record { path, revision: 3, sealed: Some(sealed) }
    }

    #[test]
    fn a_record_opens_at_its_own_place_only() {
        let sealer = sealer(1);
        let record = sealed(&sealer);
        assert_eq!(sealer.open(&record).unwrap().as_slice(), b"Ksecret");
        assert_eq!(record.sealed.as_ref().unwrap().len(), b"Ksecret".len() + SEAL_OVERHEAD_BYTES);
        for altered in [
            Record { path: sealer.path(Kind::Key, "other"), ..record.clone() },
            Record { path: sealer.path(Kind::Uses, "orders"), ..record.clone() },
            Record { revision: 2, ..record.clone() },
            Record { sealed: None, ..record.clone() },
            Record { sealed: Some(Vec::new()), ..record.clone() },
            Record { sealed: Some(vec![0; SEAL_OVERHEAD_BYTES - 1]), ..record.clone() },
        ] {
            assert!(sealer.open(&altered).is_err(), "{altered:?}");
        }
        assert!(self::sealer(2).open(&record).is_err(), "another ring");
        for at in 0..record.sealed.as_ref().unwrap().len() {
            let mut altered = record.clone();
            altered.sealed.as_mut().unwrap()[at] ^= 1;
            assert!(sealer.open(&altered).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_plaintext_without_a_known_kind_is_not_delivered() {
        let sealer = sealer(1);
        let path = sealer.path(Kind::Key, "orders");
        for plaintext in [&b""[..], b"Zsecret", b"\0"] {
            let sealed = sealer.seal(path, 1, &[0; 24], plaintext).unwrap();
            let refusal = sealer.open(&Record { path, revision: 1, sealed: Some(sealed) }).unwrap_err();
            assert!(refusal.to_string().contains("unknown kind"), "{refusal}");
        }
        let kinds =
            [Kind::Key, Kind::Uses, Kind::ApiKey, Kind::CallerUse, Kind::Checkpoint, Kind::AuditRoots];
        for kind in kinds {
            assert_eq!(Kind::of(kind.byte()), Some(kind));
        }
    }

    #[test]
    fn the_path_tells_whether_the_name_inside_is_the_right_one() {
        let sealer = sealer(1);
        let record = sealed(&sealer);
        assert!(sealer.verify_path(&record, Kind::Key, "orders").is_ok());
        assert!(sealer.verify_path(&record, Kind::Uses, "orders").is_err());
        assert!(sealer.verify_path(&record, Kind::Key, "order").is_err());
    }
}
