//! The secrets of one version of a key.
//!
//! Owns [`Material`]. Invariants: an encryption version has three independent secrets of 32 bytes, and no label of ours
//! is ever used with the first, because callers choose contexts freely; material is made whole or not at all.

use crate::crypto::hash;
use crate::limits::{KEY_BYTES, MAC_KEY_MAX_BYTES, MAC_KEY_MIN_BYTES};
use crate::model::KeyType;
use crate::secret::{Secret, SecretBytes};

/// Gives random bytes. Whoever passes one says what its failure is.
pub type Draw<'a> = dyn FnMut(&mut [u8]) -> Result<(), crate::crypto::Error> + 'a;

/// The secrets of one version.
#[derive(Debug)]
pub enum Material {
    /// Of a key that encrypts: 32 bytes each.
    Encryption {
        /// Key of the direct AEAD, or what derived keys are derived from; nothing else.
        enc: Secret<KEY_BYTES>,
        /// HMAC key.
        mac: Secret<KEY_BYTES>,
        /// Input key of stream and keystream sub-keys.
        sub: Secret<KEY_BYTES>,
    },
    /// Of a key that only signs: as long as its hash, unless it was imported.
    Mac(SecretBytes),
}

/// Imported bytes cannot be the key of this type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongLength;

impl Material {
    /// Fresh material for a version of a key of type `kind`.
    ///
    /// # Errors
    /// That of `draw`.
    pub fn draw(kind: KeyType, draw: &mut Draw<'_>) -> Result<Self, crate::crypto::Error> {
        if kind.encrypts() {
            let mut secret = || Secret::try_fill(|bytes| draw(bytes));
            return Ok(Self::Encryption { enc: secret()?, mac: secret()?, sub: secret()? });
        }
        SecretBytes::try_fill(Self::mac_algorithm(kind).digest_len(), |bytes| draw(bytes)).map(Self::Mac)
    }

    /// Material around an imported key: the sub-key of a key that encrypts is fresh, and so is its HMAC key unless that came
    /// along.
    ///
    /// # Errors
    /// That of `draw`. The length was to be checked with [`fits`](Self::fits): other bytes give none.
    pub fn around(
        kind: KeyType,
        imported: &SecretBytes,
        mac: Option<&SecretBytes>,
        draw: &mut Draw<'_>,
    ) -> Result<Self, crate::crypto::Error> {
        if !kind.encrypts() {
            let copy = |bytes: &[u8]| {
                SecretBytes::try_fill(bytes.len(), |target| {
                    target.copy_from_slice(bytes);
                    Ok(())
                })
            };
            return imported.with(copy).map(Self::Mac);
        }
        let taken = |secret: &SecretBytes| {
            secret.with(|bytes| {
                Secret::try_fill(|target: &mut [u8; KEY_BYTES]| {
                    let bytes: &[u8; KEY_BYTES] =
                        bytes.try_into().map_err(|_| crate::crypto::Error::Length)?;
                    target.copy_from_slice(bytes);
                    Ok::<(), crate::crypto::Error>(())
                })
            })
        };
        let enc = taken(imported)?;
        let mut secret = || Secret::try_fill(|bytes| draw(bytes));
        let mac = mac.map_or_else(&mut secret, taken)?;
        Ok(Self::Encryption { enc, mac, sub: secret()? })
    }

    /// Whether imported bytes of this length can be a key of type `kind`.
    ///
    /// # Errors
    /// [`WrongLength`]
    pub fn fits(kind: KeyType, len: usize) -> Result<(), WrongLength> {
        let fits = match kind {
            KeyType::XChaCha20Poly1305 | KeyType::ChaCha20Poly1305 => len == KEY_BYTES,
            KeyType::HmacSha256 | KeyType::HmacSha384 | KeyType::HmacSha512 => {
                (MAC_KEY_MIN_BYTES..=MAC_KEY_MAX_BYTES).contains(&len)
            }
        };
        if fits { Ok(()) } else { Err(WrongLength) }
    }

    /// The hash with which keys of type `kind` sign; those that encrypt sign with HMAC-SHA256.
    #[must_use]
    pub const fn mac_algorithm(kind: KeyType) -> hash::Algorithm {
        match kind {
            KeyType::XChaCha20Poly1305 | KeyType::ChaCha20Poly1305 | KeyType::HmacSha256 => {
                hash::Algorithm::Sha256
            }
            KeyType::HmacSha384 => hash::Algorithm::Sha384,
            KeyType::HmacSha512 => hash::Algorithm::Sha512,
        }
    }
}
