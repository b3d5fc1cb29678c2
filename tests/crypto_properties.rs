//! Properties of the crypto floor, held against `orion`, which has implementations of its own.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code outside of #[test] functions")]

use std::collections::VecDeque;

use orion::hazardous::aead::{chacha20poly1305, xchacha20poly1305};
use orion::hazardous::hash::sha2::sha256::Sha256;
use orion::hazardous::kdf::hkdf;
use orion::hazardous::mac::hmac;
use orion::hazardous::stream::chacha20;
use proptest::collection::vec;
use proptest::prelude::*;
use quantonium::clock::Moment;
use quantonium::crypto::Error;
use quantonium::crypto::aead::{self, Algorithm, Backends};
use quantonium::crypto::cipher::{self, Cipher, GROUP_BYTES};
use quantonium::crypto::hash;
use quantonium::crypto::kdf;
use quantonium::crypto::mac::MacKey;
use quantonium::crypto::random::{Generator, SEED_BYTES, SeedSource};
use quantonium::limits;

/// Lengths next to which the code takes another path: blocks, groups, draws, pieces.
const EDGES: [usize; 12] = [
    16,
    64,
    192,
    256,
    960,
    1024,
    1984,
    960 + limits::AEAD_PIECE_BYTES,
    960 + limits::AEAD_PIECE_BYTES + 1024,
    960 + 2 * limits::AEAD_PIECE_BYTES,
    3 * limits::AEAD_PIECE_BYTES,
    65_536,
];

fn algorithm() -> impl Strategy<Value = Algorithm> {
    prop_oneof![Just(Algorithm::ChaCha20Poly1305), Just(Algorithm::XChaCha20Poly1305)]
}

/// A message of a random length, or of one within two bytes of an edge.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let edge = (0..EDGES.len(), 0..5usize).prop_map(|(edge, off)| EDGES[edge] + off - 2);
    let len = prop_oneof![3 => 0..5_000usize, 2 => edge];
    (len, any::<u64>()).prop_map(|(len, seed)| {
        let mut state = seed | 1;
        (0..len)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            })
            .collect()
    })
}

fn oracle_seal(algorithm: Algorithm, key: &[u8; 32], nonce: &[u8], aad: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = vec![0; plaintext.len() + 16];
    let key = chacha20::SecretKey::try_from(key).unwrap();
    match algorithm {
        Algorithm::ChaCha20Poly1305 => {
            let nonce = chacha20::Nonce::try_from(nonce).unwrap();
            chacha20poly1305::ChaCha20Poly1305::seal(&key, &nonce, plaintext, Some(aad), &mut sealed)
                .unwrap();
        }
        Algorithm::XChaCha20Poly1305 => {
            let nonce = orion::hazardous::stream::xchacha20::Nonce::try_from(nonce).unwrap();
            xchacha20poly1305::XChaCha20Poly1305::seal(&key, &nonce, plaintext, Some(aad), &mut sealed)
                .unwrap();
        }
    }
    sealed
}

fn assert_seals_as_the_oracle(
    algorithm: Algorithm,
    key: &[u8; 32],
    nonce: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) {
    let nonce = &nonce[..algorithm.nonce_len()];
    let expected = oracle_seal(algorithm, key, nonce, aad, plaintext);
    let (ciphertext, expected_tag) = expected.split_at(plaintext.len());
    for backends in Backends::all() {
        let at = || format!("{algorithm:?}, {backends}: {} bytes, aad of {}", plaintext.len(), aad.len());
        let mut data = plaintext.to_vec();
        let tag = aead::seal_by(backends, algorithm, key, nonce, aad, &mut data).unwrap();
        assert!(data == ciphertext, "{}: ciphertext", at());
        assert_eq!(tag, expected_tag, "{}", at());
        aead::open_by(backends, algorithm, key, nonce, aad, &mut data, &tag).unwrap();
        assert!(data == plaintext, "{}: plaintext", at());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sealing_agrees_with_another_implementation(
        algorithm in algorithm(),
        key in any::<[u8; 32]>(),
        nonce in any::<[u8; 24]>(),
        aad in vec(any::<u8>(), 0..700),
        plaintext in message(),
    ) {
        assert_seals_as_the_oracle(algorithm, &key, &nonce, &aad, &plaintext);
    }

    #[test]
    fn the_keystream_agrees_with_another_implementation(
        key in any::<[u8; 32]>(),
        nonce in any::<[u8; 12]>(),
        block in prop_oneof![any::<u32>(), 0..100u32, u32::MAX - 200..=u32::MAX],
        before in vec(any::<u8>(), 0..40 * GROUP_BYTES),
        cuts in vec(any::<proptest::sample::Index>(), 0..4),
    ) {
        let (groups, _) = before.as_chunks::<GROUP_BYTES>();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(groups.len() + 1)).collect();
        cuts.sort_unstable();
        // The oracle refuses what passes the end of the counter: up to there it tells, and the crate beyond.
        let blocks = u32::try_from(groups.len() * 4).unwrap();
        let told = if u32::MAX - block >= blocks { groups.len() * GROUP_BYTES } else { 0 };
        let mut expected = before[..told].to_vec();
        let oracle_key = chacha20::SecretKey::from(key);
        let mut oracle = chacha20::ChaCha20::new(&oracle_key, &chacha20::Nonce::from(nonce));
        oracle.set_position(block);
        oracle.xor_keystream_into(&mut expected).unwrap();
        let mut found = Vec::new();
        for backend in cipher::Backend::all() {
            let mut target = groups.to_vec();
            let mut cipher = Cipher::at(backend, &key, &nonce, block);
            let mut from = 0;
            for to in cuts.iter().copied().chain([groups.len()]) {
                cipher.apply(&mut target[from..to]);
                from = to;
            }
            prop_assert_eq!(&target.as_flattened()[..told], &expected[..], "{}", backend.name());
            found.push(target);
        }
        prop_assert!(found.iter().all(|target| Some(target) == found.last()));
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused_and_clears_the_data(
        algorithm in algorithm(),
        key in any::<[u8; 32]>(),
        nonce in any::<[u8; 24]>(),
        aad in vec(any::<u8>(), 0..100),
        plaintext in message(),
        target in any::<proptest::sample::Index>(),
    ) {
        let mut nonce = nonce[..algorithm.nonce_len()].to_vec();
        let mut aad = aad;
        let mut key = key;
        let mut data = plaintext;
        let mut tag = aead::seal(algorithm, &key, &nonce, &aad, &mut data).unwrap();
        let lens = [data.len(), aad.len(), nonce.len(), tag.len(), key.len()];
        let bit = target.index(lens.iter().sum::<usize>() * 8);
        let (mut byte, mask) = (bit / 8, 1u8 << (bit % 8));
        let parts: [&mut [u8]; 5] = [&mut data, &mut aad, &mut nonce, &mut tag, &mut key];
        for part in parts {
            if byte < part.len() {
                part[byte] ^= mask;
                break;
            }
            byte -= part.len();
        }
        prop_assert_eq!(aead::open(algorithm, &key, &nonce, &aad, &mut data, &tag), Err(Error::Rejected));
        prop_assert!(data.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn truncated_and_extended_ciphertexts_are_refused(
        algorithm in algorithm(),
        key in any::<[u8; 32]>(),
        plaintext in message(),
    ) {
        let nonce = vec![9; algorithm.nonce_len()];
        let mut data = plaintext;
        let tag = aead::seal(algorithm, &key, &nonce, b"", &mut data).unwrap();
        let mut longer = data.clone();
        longer.push(0);
        prop_assert_eq!(aead::open(algorithm, &key, &nonce, b"", &mut longer, &tag), Err(Error::Rejected));
        if data.pop().is_some() {
            prop_assert_eq!(aead::open(algorithm, &key, &nonce, b"", &mut data, &tag), Err(Error::Rejected));
        }
    }

    #[test]
    fn macs_and_hashes_agree_with_another_implementation(
        key in vec(any::<u8>(), 0..300),
        message in vec(any::<u8>(), 0..1_000),
        cut in any::<proptest::sample::Index>(),
    ) {
        let (front, back) = message.split_at(cut.index(message.len() + 1));
        let parts: [&[u8]; 2] = [front, back];
        let tag = |algorithm| MacKey::new(algorithm, &key).tag(&parts).as_bytes().to_vec();

        let oracle = hmac::sha256::SecretKey::try_from(&key[..]).unwrap();
        let expected = hmac::sha256::HmacSha256::hmac(&oracle, &message).unwrap();
        prop_assert_eq!(tag(hash::Algorithm::Sha256), expected.unprotected_as_ref());
        let oracle = hmac::sha384::SecretKey::try_from(&key[..]).unwrap();
        let expected = hmac::sha384::HmacSha384::hmac(&oracle, &message).unwrap();
        prop_assert_eq!(tag(hash::Algorithm::Sha384), expected.unprotected_as_ref());
        let oracle = hmac::sha512::SecretKey::try_from(&key[..]).unwrap();
        let expected = hmac::sha512::HmacSha512::hmac(&oracle, &message).unwrap();
        prop_assert_eq!(tag(hash::Algorithm::Sha512), expected.unprotected_as_ref());

        let expected = Sha256::digest(&message).unwrap();
        prop_assert_eq!(&hash::sha256(&parts), expected.as_ref());
    }

    #[test]
    fn derivation_agrees_with_another_implementation(
        salt in vec(any::<u8>(), 0..100),
        ikm in vec(any::<u8>(), 0..100),
        info in vec(any::<u8>(), 0..100),
        len in 1..1_000usize,
    ) {
        let mut expected = vec![0; len];
        hkdf::Hkdf::<hkdf::SHA256>::derive_key(&salt, &ikm, Some(&info), &mut expected).unwrap();
        let mut okm = vec![0; len];
        kdf::derive(&salt, &ikm, &[&info], &mut okm).unwrap();
        prop_assert_eq!(okm, expected);
    }

    #[test]
    fn the_generator_follows_its_description(
        seeds in vec(any::<[u8; SEED_BYTES]>(), 8),
        requests in vec((0..4_000usize, 0..700u64), 1..30),
    ) {
        let mut now = Moment::from_nanos(0);
        let mut script: VecDeque<_> = seeds.clone().into();
        let mut model = Model::new(seeds);
        let mut generator = Generator::new(Script(&mut script), now).unwrap();
        let mut seeded = now;
        for (len, pause) in requests {
            now = now.plus_millis(pause);
            if len > 0 && now >= seeded.plus_millis(limits::RESEED_AFTER_MILLIS) {
                if model.seeds.is_empty() {
                    prop_assert_eq!(generator.fill(now, &mut vec![0; len]), Err(Error::Entropy));
                    break;
                }
                model.reseed();
                seeded = now;
            }
            let mut bytes = vec![0; len];
            generator.fill(now, &mut bytes).unwrap();
            prop_assert_eq!(bytes, model.fill(len));
        }
    }
}

/// Every length up to three draws of keystream, and every length around the edges, with an AAD of 16 bytes.
#[test]
fn every_short_length_and_every_edge_agrees_with_another_implementation() {
    let plaintext: Vec<u8> = (0..70_000u32).map(|at| at.to_be_bytes()[3] ^ at.to_be_bytes()[2]).collect();
    let edges = EDGES.iter().flat_map(|edge| edge - 2..edge + 3);
    for len in (0..3_100).chain(edges) {
        for algorithm in [Algorithm::ChaCha20Poly1305, Algorithm::XChaCha20Poly1305] {
            assert_seals_as_the_oracle(algorithm, &[0x5A; 32], &[0xC3; 24], &[1; 16], &plaintext[..len]);
        }
    }
}

/// Every single bit of a short message: data, tag, nonce and associated data.
#[test]
fn every_bit_of_a_short_message_matters() {
    for algorithm in [Algorithm::ChaCha20Poly1305, Algorithm::XChaCha20Poly1305] {
        let (key, nonce, aad) = ([1; 32], vec![2; algorithm.nonce_len()], [3; 17]);
        let mut sealed = [4; 33];
        let tag = aead::seal(algorithm, &key, &nonce, &aad, &mut sealed).unwrap();
        let flipped = |bytes: &[u8], bit: usize| {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        let refused = |nonce: &[u8], aad: &[u8], data: &[u8], tag: &[u8]| {
            let mut data = data.to_vec();
            let opened = aead::open(algorithm, &key, nonce, aad, &mut data, tag.try_into().unwrap());
            opened == Err(Error::Rejected) && data.iter().all(|byte| *byte == 0)
        };
        assert!(!refused(&nonce, &aad, &sealed, &tag));
        assert!((0..nonce.len() * 8).all(|bit| refused(&flipped(&nonce, bit), &aad, &sealed, &tag)));
        assert!((0..aad.len() * 8).all(|bit| refused(&nonce, &flipped(&aad, bit), &sealed, &tag)));
        assert!((0..sealed.len() * 8).all(|bit| refused(&nonce, &aad, &flipped(&sealed, bit), &tag)));
        assert!((0..tag.len() * 8).all(|bit| refused(&nonce, &aad, &sealed, &flipped(&tag, bit))));
    }
}

struct Script<'a>(&'a mut VecDeque<[u8; SEED_BYTES]>);

impl SeedSource for Script<'_> {
    fn fill(&mut self, seed: &mut [u8; SEED_BYTES]) -> Result<(), Error> {
        *seed = self.0.pop_front().ok_or(Error::Entropy)?;
        Ok(())
    }
}

/// The generator as its documentation describes it, over the oracle's primitives and without any care for speed.
struct Model {
    key: [u8; 32],
    pool: VecDeque<u8>,
    seeds: VecDeque<[u8; SEED_BYTES]>,
}

impl Model {
    fn new(seeds: Vec<[u8; SEED_BYTES]>) -> Self {
        let mut model = Self { key: [0; 32], pool: VecDeque::new(), seeds: seeds.into() };
        model.reseed();
        model
    }

    fn reseed(&mut self) {
        let seed = self.seeds.pop_front().unwrap();
        let mixed = [&b"quantonium/random/reseed/v1\0"[..], &self.key, &seed].concat();
        self.key = Sha256::digest(&mixed).unwrap().as_ref().try_into().unwrap();
        self.pool.clear();
    }

    fn keystream(key: [u8; 32], len: usize) -> Vec<u8> {
        let mut stream = vec![0; len];
        if len > 0 {
            let key = chacha20::SecretKey::from(key);
            let nonce = chacha20::Nonce::from([0; 12]);
            chacha20::ChaCha20::new(&key, &nonce).xor_keystream_into(&mut stream).unwrap();
        }
        stream
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        while self.pool.len() < len {
            let stream = Self::keystream(self.key, limits::RANDOM_POOL_BYTES);
            self.key = stream[..32].try_into().unwrap();
            self.pool.extend(&stream[32..]);
        }
        self.pool.drain(..len).collect()
    }

    fn fill(&mut self, len: usize) -> Vec<u8> {
        if len < limits::RANDOM_DIRECT_MIN_BYTES {
            return self.take(len);
        }
        let once = self.take(32).try_into().unwrap();
        let mut bytes = Self::keystream(once, len - len % 256);
        bytes.extend(self.take(len % 256));
        bytes
    }
}
