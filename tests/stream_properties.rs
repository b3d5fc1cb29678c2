//! Properties of streams and keystreams, held against the same framing written a second time over `orion`.
//!
//! Owns that second framing. The attacks on a stream go through `read`, which finds chunks and the end of the input
//! as a reader of a body must, from lengths alone.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code outside of #[test] functions")]

use std::collections::BTreeSet;

use orion::hazardous::aead::chacha20poly1305;
use orion::hazardous::hash::sha2::sha256::Sha256;
use orion::hazardous::kdf::hkdf;
use orion::hazardous::stream::{chacha20, xchacha20};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use quantonium::crypto::Error;
use quantonium::crypto::aead::TAG_BYTES;
use quantonium::crypto::keystream;
use quantonium::crypto::stream::{
    self, Binding, CHUNK_BYTES, HEADER_BYTES, Opener, SALT_BYTES, SEALED_CHUNK_BYTES, Sealer,
};

/// What a stream is made from.
#[derive(Clone, Debug)]
struct Recipe {
    sub: [u8; 32],
    version: u32,
    salt: [u8; SALT_BYTES],
    context: Vec<u8>,
    associated_data: Vec<u8>,
}

impl Recipe {
    fn plain() -> Self {
        Self {
            sub: [0x42; 32],
            version: 7,
            salt: [0x17; SALT_BYTES],
            context: b"tenant 7".to_vec(),
            associated_data: b"order 47".to_vec(),
        }
    }

    fn binding(&self) -> Binding<'_> {
        Binding { context: &self.context, associated_data: &self.associated_data }
    }

    fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
        let (mut sealer, header) = Sealer::new(&self.sub, self.version, self.salt, self.binding()).unwrap();
        let mut made = header.to_vec();
        let mut rest = plaintext;
        loop {
            let (chunk, later) = rest.split_at(rest.len().min(CHUNK_BYTES));
            let mut chunk = chunk.to_vec();
            let tag = sealer.seal(&mut chunk, later.is_empty()).unwrap();
            made.extend(chunk.iter().chain(&tag));
            if later.is_empty() {
                return made;
            }
            rest = later;
        }
    }

    /// Reads a stream whose end is the end of `bytes`; nothing if it is not whole and true.
    fn read(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let mut opener = Opener::new(&self.sub, header, self.binding()).ok()?;
        let mut opened = Vec::new();
        let mut sealed = rest.to_vec();
        let count = sealed.len().div_ceil(SEALED_CHUNK_BYTES);
        for (at, chunk) in sealed.chunks_mut(SEALED_CHUNK_BYTES).enumerate() {
            let Ok(plaintext) = opener.open(chunk, at + 1 == count) else {
                assert!(chunk.iter().all(|byte| *byte == 0), "a failed open clears its output");
                return None;
            };
            opened.extend_from_slice(plaintext);
        }
        opener.is_finished().then_some(opened)
    }

    /// The same stream, from the documentation and another implementation.
    fn oracle(&self, plaintext: &[u8]) -> Vec<u8> {
        let mut info = b"quantonium/stream/v1".to_vec();
        info.push(0);
        info.extend(b"QNS\x01");
        info.extend(self.version.to_be_bytes());
        info.extend(u32::try_from(self.context.len()).unwrap().to_be_bytes());
        info.extend(&self.context);
        info.extend(u64::try_from(self.associated_data.len()).unwrap().to_be_bytes());
        info.extend(Sha256::digest(&self.associated_data).unwrap().as_ref());
        let mut okm = [0; 64];
        hkdf::Hkdf::<hkdf::SHA256>::derive_key(&self.salt, &self.sub, Some(&info), &mut okm).unwrap();
        let key = chacha20::SecretKey::try_from(&okm[..32]).unwrap();

        let mut made = b"QNS\x01".to_vec();
        made.extend(self.version.to_be_bytes());
        made.extend(self.salt);
        made.extend(&okm[32..]);
        let count = plaintext.len().div_ceil(65_536).max(1);
        for number in 0..count {
            let piece = &plaintext[number * 65_536..plaintext.len().min((number + 1) * 65_536)];
            let mut nonce = [0; 12];
            nonce[3..11].copy_from_slice(&(number as u64).to_be_bytes());
            nonce[11] = u8::from(number + 1 == count);
            let nonce = chacha20::Nonce::from(nonce);
            let mut sealed = vec![0; piece.len() + 16];
            chacha20poly1305::ChaCha20Poly1305::seal(&key, &nonce, piece, None, &mut sealed).unwrap();
            made.extend(sealed);
        }
        made
    }
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let bytes = || vec(any::<u8>(), 0..100);
    (any::<[u8; 32]>(), 1u32.., any::<[u8; SALT_BYTES]>(), bytes(), bytes()).prop_map(
        |(sub, version, salt, context, associated_data)| Recipe {
            sub,
            version,
            salt,
            context,
            associated_data,
        },
    )
}

/// Bytes that differ from place to place, so that a moved chunk is another one.
fn counted(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

/// A length of up to three chunks, half of the time within two bytes of an edge.
fn length() -> impl Strategy<Value = usize> {
    let edge =
        (0..4usize, 0..5usize).prop_map(|(chunks, off)| (chunks * CHUNK_BYTES + off).saturating_sub(2));
    prop_oneof![0..3 * CHUNK_BYTES, edge]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn streams_agree_with_another_implementation(recipe in recipe(), len in length()) {
        let plaintext = counted(len);
        let made = recipe.seal(&plaintext);
        prop_assert!(made == recipe.oracle(&plaintext));
        prop_assert_eq!(stream::sealed_len(len as u64), Some(made.len() as u64));
        prop_assert_eq!(stream::opened_len(made.len() as u64), Some(len as u64));
        prop_assert!(recipe.read(&made).is_some_and(|opened| opened == plaintext));
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused(recipe in recipe(), len in length(), target in any::<Index>()) {
        let mut made = recipe.seal(&counted(len));
        let bit = target.index(made.len() * 8);
        made[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(recipe.read(&made).is_none(), "bit {}", bit);
    }

    #[test]
    fn truncated_and_extended_streams_are_refused(
        recipe in recipe(),
        len in length(),
        target in any::<Index>(),
        more in vec(any::<u8>(), 1..40),
    ) {
        let made = recipe.seal(&counted(len));
        prop_assert!(recipe.read(&made[..target.index(made.len())]).is_none());
        prop_assert!(recipe.read(&[made.as_slice(), &more].concat()).is_none());
    }

    /// A stream that is found under one recipe is found under no other: it is bound to all of it.
    #[test]
    fn a_stream_opens_under_its_own_recipe_only(recipe in recipe(), other in recipe(), swap in 0..5u8) {
        let made = recipe.seal(b"plaintext");
        let mut reader = recipe.clone();
        match swap {
            0 => reader.sub = other.sub,
            1 => reader.context = other.context,
            2 => reader.associated_data = other.associated_data,
            3 => std::mem::swap(&mut reader.context, &mut reader.associated_data),
            _ => reader = other,
        }
        let same = reader.sub == recipe.sub
            && reader.context == recipe.context
            && reader.associated_data == recipe.associated_data;
        prop_assert_eq!(reader.read(&made).is_some(), same);
    }

    /// For every length from 0 to some chunks: either it is a stream's, and both functions say so, or none does.
    #[test]
    fn lengths_go_both_ways(sealed in prop_oneof![0..4 * 65_552u64, any::<u64>()]) {
        match stream::opened_len(sealed) {
            Some(plaintext) => prop_assert_eq!(stream::sealed_len(plaintext), Some(sealed)),
            None => {
                let chunks = sealed.checked_sub(56).map(|chunks| chunks % 65_552);
                prop_assert!(chunks.is_none_or(|last| last <= 16), "{}", sealed);
            }
        }
    }

    #[test]
    fn keystreams_agree_with_another_implementation(
        sub in any::<[u8; 32]>(),
        version in 1u32..,
        context in vec(any::<u8>(), 0..100),
        nonce in any::<[u8; 24]>(),
        len in 1..9_000usize,
    ) {
        let mut info = b"quantonium/keystream/v1".to_vec();
        info.push(0);
        info.extend(version.to_be_bytes());
        info.extend(u32::try_from(context.len()).unwrap().to_be_bytes());
        info.extend(&context);
        let mut key = [0; 32];
        hkdf::Hkdf::<hkdf::SHA256>::derive_key(&[], &sub, Some(&info), &mut key).unwrap();
        let mut expected = vec![0; len];
        let oracle_nonce = xchacha20::Nonce::from(nonce);
        let key = chacha20::SecretKey::from(key);
        xchacha20::XChaCha20::new(&key, &oracle_nonce).xor_keystream_into(&mut expected).unwrap();

        let mut drawn = vec![0xEE; len];
        keystream::fill(&sub, version, &context, &nonce, &mut drawn).unwrap();
        prop_assert!(drawn == expected);
    }
}

#[test]
fn every_bit_of_a_small_stream_matters() {
    let recipe = Recipe::plain();
    for plaintext in [&b""[..], b"hello"] {
        let made = recipe.seal(plaintext);
        assert_eq!(recipe.read(&made).unwrap(), plaintext);
        for bit in 0..made.len() * 8 {
            let mut altered = made.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(recipe.read(&altered).is_none(), "bit {bit}");
        }
    }
}

/// A changed version is refused even by a reader that has the same key under it.
#[test]
fn the_version_is_part_of_the_key() {
    let recipe = Recipe::plain();
    let mut made = recipe.seal(b"hello");
    made[7] ^= 1;
    assert_eq!(stream::header_version(made.first_chunk().unwrap()), Some(6));
    assert!(recipe.read(&made).is_none());
}

#[test]
fn every_truncation_of_a_small_stream_is_refused() {
    let recipe = Recipe::plain();
    let made = recipe.seal(&counted(500));
    for len in 0..made.len() {
        assert!(recipe.read(&made[..len]).is_none(), "{len} bytes");
    }
    assert_eq!(recipe.read(&made[..HEADER_BYTES]), None, "the header alone");
}

#[test]
fn a_long_stream_cut_anywhere_near_an_edge_of_its_chunks_is_refused() {
    let recipe = Recipe::plain();
    for len in [2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 1] {
        let made = recipe.seal(&counted(len));
        assert!(recipe.read(&made).is_some());
        for edge in [0, 1, 2].map(|chunks| HEADER_BYTES + chunks * SEALED_CHUNK_BYTES) {
            for cut in edge.saturating_sub(20)..(edge + 20).min(made.len()) {
                assert!(recipe.read(&made[..cut]).is_none(), "{cut} bytes");
            }
        }
    }
}

#[test]
fn every_trailing_byte_is_refused() {
    let recipe = Recipe::plain();
    for len in [0, 5, CHUNK_BYTES - 1, CHUNK_BYTES] {
        let made = recipe.seal(&counted(len));
        for byte in 0..=255 {
            assert!(recipe.read(&[made.as_slice(), &[byte]].concat()).is_none(), "{byte} after {len}");
        }
        for more in [16, 17, 56] {
            assert!(recipe.read(&[made.as_slice(), &vec![0; more]].concat()).is_none());
        }
        assert!(recipe.read(&[made.as_slice(), &made[HEADER_BYTES..]].concat()).is_none());
        assert!(recipe.read(&[made.as_slice(), &made].concat()).is_none());
    }
}

/// Header and chunks of a stream.
fn pieces(made: &[u8]) -> Vec<Vec<u8>> {
    let (header, chunks) = made.split_at(HEADER_BYTES);
    [header].into_iter().chain(chunks.chunks(SEALED_CHUNK_BYTES)).map(<[u8]>::to_vec).collect()
}

/// Every sequence of up to four chunks, taken from all of two streams, under either header: only the two whole
/// streams open. That is every reordering, repetition, omission and splice of that length.
#[test]
fn no_other_sequence_of_chunks_opens() {
    let recipe = Recipe::plain();
    let other = Recipe { salt: [0x18; SALT_BYTES], ..Recipe::plain() };
    let (first, second) = (recipe.seal(&counted(2 * CHUNK_BYTES + 9)), other.seal(&vec![7; 2 * CHUNK_BYTES]));
    let (one, two) = (pieces(&first), pieces(&second));
    let chunks: Vec<&Vec<u8>> = one.iter().skip(1).chain(two.iter().skip(1)).collect();
    assert_eq!(chunks.len(), 5);

    let mut opened = BTreeSet::new();
    for header in [&one[0], &two[0]] {
        for len in 0..=4u32 {
            for code in 0..5usize.pow(len) {
                let places: Vec<usize> = (0..len).map(|at| code / 5usize.pow(at) % 5).collect();
                if let Some(opener) =
                    Opener::new(&recipe.sub, header[..].try_into().unwrap(), recipe.binding()).ok()
                    && opens(opener, &chunks, &places)
                {
                    opened.insert((header[8], places));
                }
            }
        }
    }
    assert_eq!(opened, BTreeSet::from([(0x17, vec![0, 1, 2]), (0x18, vec![3, 4])]));
}

/// Whether the chunks at these places, the last one as the last, are a whole stream.
fn opens(mut opener: Opener, chunks: &[&Vec<u8>], places: &[usize]) -> bool {
    for (at, place) in places.iter().enumerate() {
        let mut chunk = chunks[*place].clone();
        if opener.open(&mut chunk, at + 1 == places.len()).is_err() {
            return false;
        }
    }
    opener.is_finished()
}

/// The flag of the last chunk is authenticated: a reader that is told the wrong end finds no chunk there.
#[test]
fn a_chunk_opens_only_as_what_it_was_sealed() {
    let recipe = Recipe::plain();
    let made = recipe.seal(&counted(2 * CHUNK_BYTES));
    let parts = pieces(&made);
    let opener = || Opener::new(&recipe.sub, made.first_chunk().unwrap(), recipe.binding()).unwrap();
    assert_eq!(opener().open(&mut parts[1].clone(), true), Err(Error::Rejected), "a cut before the second");
    let mut reader = opener();
    assert!(reader.open(&mut parts[1].clone(), false).is_ok());
    assert_eq!(reader.open(&mut parts[2].clone(), false), Err(Error::Rejected));
    assert!(!reader.is_finished());
}

/// Same key, same context, same nonce where both have one: nothing that a keystream gives out is in a stream.
#[test]
fn a_keystream_is_not_that_of_a_stream() {
    let recipe = Recipe::plain();
    let zeros = vec![0; 1_000];
    let made = recipe.seal(&zeros);
    let nonces = [[0; 24], std::array::from_fn(|at| if at < 16 { 0x17 } else { 0 })];
    for nonce in nonces {
        let mut drawn = vec![0; 2_000];
        keystream::fill(&recipe.sub, recipe.version, &recipe.context, &nonce, &mut drawn).unwrap();
        let windows: BTreeSet<&[u8]> = drawn.windows(8).collect();
        let body = &made[HEADER_BYTES..made.len() - TAG_BYTES];
        assert!(body.windows(8).all(|window| !windows.contains(window)));
    }
}
