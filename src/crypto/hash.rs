//! SHA-2 (FIPS 180-4): SHA-256, SHA-384 and SHA-512.
//!
//! Owns the choice of hash, which [`super::mac`] shares, and [`Digest`], a hash value of up to 64 bytes without
//! a heap allocation.

use core::fmt;

use sha2::{Sha256, Sha384, Sha512};

use crate::limits::DIGEST_MAX_BYTES;

/// A hash function of the SHA-2 family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl Algorithm {
    /// Length of the hash value.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// A hash value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    bytes: [u8; DIGEST_MAX_BYTES],
    algorithm: Algorithm,
}

impl Digest {
    fn new(algorithm: Algorithm, value: &[u8]) -> Self {
        let mut bytes = [0; DIGEST_MAX_BYTES];
        for (to, from) in bytes.iter_mut().zip(value) {
            *to = *from;
        }
        Self { bytes, algorithm }
    }

    /// The value: [`Algorithm::digest_len`] bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.split_at(self.algorithm.digest_len()).0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({:02x?})", self.as_bytes())
    }
}

/// Hashes the concatenation of `parts`.
#[must_use]
pub fn digest(algorithm: Algorithm, parts: &[&[u8]]) -> Digest {
    match algorithm {
        Algorithm::Sha256 => Digest::new(algorithm, &over::<Sha256>(parts)),
        Algorithm::Sha384 => Digest::new(algorithm, &over::<Sha384>(parts)),
        Algorithm::Sha512 => Digest::new(algorithm, &over::<Sha512>(parts)),
    }
}

/// The SHA-256 of the concatenation of `parts`.
#[must_use]
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    over::<Sha256>(parts).into()
}

fn over<D: sha2::Digest>(parts: &[&[u8]]) -> sha2::digest::Output<D> {
    let mut state = D::new();
    for part in parts {
        state.update(part);
    }
    state.finalize()
}

/// SHA-256 of bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Sha256Pieces(Sha256);

impl Sha256Pieces {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        sha2::Digest::update(&mut self.0, piece);
    }

    /// The digest of all pieces.
    #[must_use]
    pub fn finish(self) -> [u8; 32] {
        sha2::Digest::finalize(self.0).into()
    }
}

impl fmt::Debug for Sha256Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sha256Pieces(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(algorithm: Algorithm, parts: &[&[u8]]) -> String {
        digest(algorithm, parts).as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// FIPS 180-4 example messages: the empty one and the 448-bit one.
    #[test]
    fn published_examples_come_out() {
        let message: &[u8] = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        assert_eq!(
            hex(Algorithm::Sha256, &[]),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(
            hex(Algorithm::Sha256, &[message]),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        );
        assert_eq!(
            hex(Algorithm::Sha384, &[message]),
            "3391fdddfc8dc7393707a65b1b4709397cf8b1d162af05abfe8f450de5f36bc6\
             b0455a8520bc4e6f5fe95b1fe3c8452b"
        );
        assert_eq!(
            hex(Algorithm::Sha512, &[message]),
            "204a8fc6dda82f0a0ced7beb8e08a41657c16ef468b228a8279be331a703c335\
             96fd15c13b1b07f9aa1d3bea57789ca031ad85c7a71dd70354ec631238ca3445"
        );
    }

    #[test]
    fn parts_are_hashed_as_their_concatenation() {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512] {
            assert_eq!(digest(algorithm, &[b"ab", b"", b"c"]), digest(algorithm, &[b"abc"]));
            assert_ne!(digest(algorithm, &[b"abc"]), digest(algorithm, &[b"abd"]));
            assert_eq!(digest(algorithm, &[b"abc"]).as_bytes().len(), algorithm.digest_len());
        }
        assert_eq!(sha256(&[b"a", b"bc"]), *digest(Algorithm::Sha256, &[b"abc"]).as_bytes());
    }
}
