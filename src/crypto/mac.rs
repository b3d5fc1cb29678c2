//! HMAC (RFC 2104, FIPS 198-1) over the SHA-2 family.
//!
//! Owns [`MacKey`], a key whose two padded blocks are hashed once, so that a message costs no more than itself
//! and one last block, and [`Tag`]. Invariants: a key lives in key memory, in one place that is wiped when dropped, and what a message took of
//! it is wiped from the stack before the tag is given out;
//! a message allocates nothing; tags are compared in time that does not depend on their bytes; a tag is
//! accepted at its full length only.

use core::fmt;

use hmac::{Hmac, Mac};
use sha2::{Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::{zeroize_bytes, zeroize_stack};

use super::Error;
use super::hash::Algorithm;
use crate::limits::DIGEST_MAX_BYTES;
use crate::secret::Locked;

/// An HMAC key, ready for use.
pub struct MacKey {
    algorithm: Algorithm,
    keyed: Locked<Keyed>,
}

/// Both hash states after their first block. Their `Drop` wipes them.
enum Keyed {
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl MacKey {
    /// Prepares a key of any length; below the length of the hash it weakens the MAC (RFC 2104 section 3).
    #[must_use]
    pub fn new(algorithm: Algorithm, key: &[u8]) -> Self {
        let prepared = prepare(algorithm, key);
        // `hmac` builds the padded key in a frame that it does not wipe.
        zeroize_stack::<2048>();
        prepared
    }

    /// Puts another key in the place of this one, whose states are wiped; nothing is allocated.
    pub fn rekey(&mut self, key: &[u8]) {
        replace(&mut self.keyed, self.algorithm, key);
        zeroize_stack::<2048>();
    }

    /// The hash function.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The tag of the concatenation of `parts`.
    #[must_use]
    pub fn tag(&self, parts: &[&[u8]]) -> Tag {
        let mut tag = Tag { bytes: [0; DIGEST_MAX_BYTES], algorithm: self.algorithm };
        match &*self.keyed {
            Keyed::Sha256(keyed) => over(keyed, parts, &mut tag.bytes),
            Keyed::Sha384(keyed) => over(keyed, parts, &mut tag.bytes),
            Keyed::Sha512(keyed) => over(keyed, parts, &mut tag.bytes),
        }
        // The copy of the states was wiped where it ended, and not where it was before it was moved: who has them makes every tag.
        zeroize_stack::<2048>();
        tag
    }

    /// Checks the tag of the concatenation of `parts`.
    ///
    /// # Errors
    /// [`Error::Rejected`] if `tag` is not the whole right tag; a prefix of it is not accepted.
    pub fn verify(&self, parts: &[&[u8]], tag: &[u8]) -> Result<(), Error> {
        if self.tag(parts).matches(tag) { Ok(()) } else { Err(Error::Rejected) }
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MacKey({:?}, redacted)", self.algorithm)
    }
}

/// An HMAC tag of up to 64 bytes, wiped when dropped: until it is given out, it is what a forger looks for.
pub struct Tag {
    bytes: [u8; DIGEST_MAX_BYTES],
    algorithm: Algorithm,
}

impl Tag {
    /// The tag: [`Algorithm::digest_len`] bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.split_at(self.algorithm.digest_len()).0
    }

    /// Compares with bytes from outside in time that does not depend on either. Another length never matches.
    #[must_use]
    pub fn matches(&self, other: &[u8]) -> bool {
        self.as_bytes().ct_eq(other).into()
    }
}

impl Drop for Tag {
    fn drop(&mut self) {
        zeroize_bytes(&mut self.bytes);
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tag(redacted)")
    }
}

/// The tag of the concatenation of `parts` under a key that is prepared for this message alone: two blocks of hashing
/// more than with a [`MacKey`], and no allocation.
#[must_use]
pub fn tag_once(algorithm: Algorithm, key: &[u8], parts: &[&[u8]]) -> Tag {
    let mut tag = Tag { bytes: [0; DIGEST_MAX_BYTES], algorithm };
    match algorithm {
        Algorithm::Sha256 => once::<Hmac<Sha256>>(key, parts, &mut tag.bytes),
        Algorithm::Sha384 => once::<Hmac<Sha384>>(key, parts, &mut tag.bytes),
        Algorithm::Sha512 => once::<Hmac<Sha512>>(key, parts, &mut tag.bytes),
    }
    // The states wipe themselves; the padded key stood in frames that nobody wipes.
    zeroize_stack::<4096>();
    tag
}

#[inline(never)]
fn once<M: Mac + Clone + hmac::KeyInit>(key: &[u8], parts: &[&[u8]], target: &mut [u8; DIGEST_MAX_BYTES]) {
    over(&keyed::<M>(key), parts, target);
}

#[inline(never)]
fn prepare(algorithm: Algorithm, key: &[u8]) -> MacKey {
    MacKey { algorithm, keyed: Locked::new(states(algorithm, key)) }
}

#[inline(never)]
fn replace(place: &mut Keyed, algorithm: Algorithm, key: &[u8]) {
    *place = states(algorithm, key);
}

fn states(algorithm: Algorithm, key: &[u8]) -> Keyed {
    match algorithm {
        Algorithm::Sha256 => Keyed::Sha256(keyed(key)),
        Algorithm::Sha384 => Keyed::Sha384(keyed(key)),
        Algorithm::Sha512 => Keyed::Sha512(keyed(key)),
    }
}

#[expect(
    clippy::expect_used,
    reason = "HMAC takes keys of every length; the trait's error is for other MACs"
)]
fn keyed<M: hmac::KeyInit>(key: &[u8]) -> M {
    M::new_from_slice(key).expect("HMAC takes keys of every length")
}

#[inline(never)]
fn over<M: Mac + Clone>(keyed: &M, parts: &[&[u8]], target: &mut [u8; DIGEST_MAX_BYTES]) {
    let mut state = keyed.clone();
    for part in parts {
        state.update(part);
    }
    let tag = state.finalize();
    for (to, from) in target.iter_mut().zip(tag.as_bytes()) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Algorithm; 3] = [Algorithm::Sha256, Algorithm::Sha384, Algorithm::Sha512];

    fn hex(algorithm: Algorithm, key: &[u8], message: &[u8]) -> String {
        let tag = MacKey::new(algorithm, key).tag(&[message]);
        tag.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 4231 test case 6: the key is longer than a block and is hashed first.
    #[test]
    fn rfc_4231_long_keys_come_out() {
        let message = b"Test Using Larger Than Block-Size Key - Hash Key First";
        assert_eq!(
            hex(Algorithm::Sha256, &[0xaa; 131], message),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
        assert_eq!(
            hex(Algorithm::Sha384, &[0xaa; 131], message),
            "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c6\
             0c2ef6ab4030fe8296248df163f44952"
        );
        assert_eq!(
            hex(Algorithm::Sha512, &[0xaa; 131], message),
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352\
             6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598"
        );
    }

    #[test]
    fn a_key_serves_many_messages_and_parts_are_concatenated() {
        for algorithm in ALL {
            let key = MacKey::new(algorithm, b"key");
            let first = key.tag(&[b"one", b"", b" message"]);
            assert!(tag_once(algorithm, b"key", &[b"one ", b"message"]).matches(first.as_bytes()));
            assert!(key.tag(&[b"other"]).as_bytes() != first.as_bytes());
            assert!(key.tag(&[b"one message"]).matches(first.as_bytes()));
            assert_eq!(first.as_bytes().len(), algorithm.digest_len());
        }
    }

    #[test]
    fn another_key_takes_the_place_of_the_first() {
        for algorithm in ALL {
            let mut key = MacKey::new(algorithm, b"first");
            key.rekey(b"key");
            assert!(tag_once(algorithm, b"key", &[b"message"]).matches(key.tag(&[b"message"]).as_bytes()));
        }
    }

    #[test]
    fn altered_truncated_and_extended_tags_are_refused() {
        for algorithm in ALL {
            let key = MacKey::new(algorithm, b"key");
            let tag = key.tag(&[b"message"]).as_bytes().to_vec();
            assert_eq!(key.verify(&[b"message"], &tag), Ok(()));
            assert_eq!(key.verify(&[b"massage"], &tag), Err(Error::Rejected));
            assert_eq!(key.verify(&[b"message"], &tag[..16]), Err(Error::Rejected));
            assert_eq!(key.verify(&[b"message"], &[]), Err(Error::Rejected));
            assert_eq!(key.verify(&[b"message"], &[tag.as_slice(), &[0]].concat()), Err(Error::Rejected));
            for bit in 0..tag.len() * 8 {
                let mut altered = tag.clone();
                altered[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(key.verify(&[b"message"], &altered), Err(Error::Rejected), "bit {bit}");
            }
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = MacKey::new(Algorithm::Sha384, &[0xA5; 48]);
        assert_eq!(format!("{key:?}"), "MacKey(Sha384, redacted)");
        assert_eq!(format!("{:?}", key.tag(&[b"m"])), "Tag(redacted)");
    }
}
