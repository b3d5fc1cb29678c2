//! An API key as the store keeps it.
//!
//! Owns [`StoredKey`] and its encoding. Invariants: it holds no secret, but what a presented secret is compared with;
//! every value has one encoding, and only that one is read back.

use crate::auth::registry::SALT_BYTES;
use crate::clock::WallTime;
use crate::model::ApiKeyId;

const KIND: u8 = b'A';
const FORMAT: u8 = 1;
const ADMIN: u8 = 1;
const DIGEST_BYTES: usize = 32;
const RECORD_BYTES: usize = 2 + ApiKeyId::LEN + 1 + 8 + SALT_BYTES + DIGEST_BYTES;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Everything.
    Admin,
}

/// An API key without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    /// The public part.
    pub id: [u8; ApiKeyId::LEN],
    /// What it may do.
    pub rights: Rights,
    /// When it was made.
    pub created: WallTime,
    /// Random for each key.
    pub salt: [u8; SALT_BYTES],
    /// HMAC-SHA256(pepper, salt || id || secret).
    pub digest: [u8; DIGEST_BYTES],
}

/// The bytes are no record of an API key that this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl StoredKey {
    /// The identifier as text, which is also the name of the record.
    #[must_use]
    pub fn name(&self) -> &str {
        str::from_utf8(&self.id).unwrap_or_default()
    }

    /// The record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut record = Vec::with_capacity(RECORD_BYTES);
        record.extend_from_slice(&[KIND, FORMAT]);
        record.extend_from_slice(&self.id);
        record.push(match self.rights {
            Rights::Admin => ADMIN,
        });
        record.extend_from_slice(&self.created.as_millis().to_be_bytes());
        record.extend_from_slice(&self.salt);
        record.extend_from_slice(&self.digest);
        record
    }

    /// The API key of a record.
    ///
    /// # Errors
    /// [`Malformed`]
    pub fn decode(record: &[u8]) -> Result<Self, Malformed> {
        let rest = record.strip_prefix(&[KIND, FORMAT]).ok_or(Malformed)?;
        let (id, rest) = rest.split_first_chunk::<{ ApiKeyId::LEN }>().ok_or(Malformed)?;
        let (rights, rest) = rest.split_first_chunk::<1>().ok_or(Malformed)?;
        let (created, rest) = rest.split_first_chunk::<8>().ok_or(Malformed)?;
        let (salt, rest) = rest.split_first_chunk::<SALT_BYTES>().ok_or(Malformed)?;
        let digest: &[u8; DIGEST_BYTES] = rest.try_into().map_err(|_| Malformed)?;
        let hexadecimal = id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !hexadecimal || *rights != [ADMIN] {
            return Err(Malformed);
        }
        let created = WallTime::from_millis(u64::from_be_bytes(*created));
        Ok(Self { id: *id, rights: Rights::Admin, created, salt: *salt, digest: *digest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_no_other_bytes_do() {
        let created = WallTime::from_millis(1_700_000_000_123);
        let key =
            StoredKey { id: *b"0a1b2c3d", rights: Rights::Admin, created, salt: [7; 16], digest: [9; 32] };
        let record = key.encode();
        assert_eq!(record.len(), RECORD_BYTES);
        assert_eq!(StoredKey::decode(&record), Ok(key.clone()));
        assert_eq!(key.name(), "0a1b2c3d");
        for len in 0..record.len() {
            assert_eq!(StoredKey::decode(&record[..len]), Err(Malformed));
        }
        assert_eq!(StoredKey::decode(&[&record[..], b"x"].concat()), Err(Malformed));
        for at in [0, 1, 2, 10] {
            let mut altered = record.clone();
            altered[at] ^= 0x40;
            assert_eq!(StoredKey::decode(&altered), Err(Malformed), "byte {at}");
        }
    }
}
