//! What is computed of a key before its first message, and is as good as the key: padded blocks and inner states of HMAC, the
//! pseudorandom key of HKDF, subkeys of the ciphers, and their states as vectors hold them.

use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use chacha20::{ChaCha20, R20, hchacha};
use quantonium::crypto::aead::{self, Algorithm};
use quantonium::crypto::hash;
use quantonium::crypto::kdf::derive;
use quantonium::crypto::mac::tag_once;
use sha2::block_api::{compress256, compress512};

use crate::as_it_is;
use crate::needles::{Needle, needles};

/// What SHA-256 and SHA-512 begin with (FIPS 180-4, section 5.3).
const BEGIN_256: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
const BEGIN_512: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];
/// The padding of HMAC's inner and outer key.
const PADS: [u8; 2] = [0x36, 0x5c];
/// Words in the order in which the processor's SHA instructions hold them.
const IN_REGISTERS: [usize; 8] = [5, 4, 1, 0, 7, 6, 3, 2];

/// Each word of so many bytes turned round, as a message schedule holds it.
fn swapped(bytes: &[u8], word: usize) -> Vec<u8> {
    bytes.chunks(word).flat_map(|word| word.iter().rev().copied()).collect()
}

/// What HMAC over SHA-256 prepares of a key that is no longer than a block.
pub(crate) fn of_mac_256(name: &str, key: &[u8]) -> Vec<Needle> {
    let mut found = Vec::new();
    for pad in PADS {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        found.push(as_it_is(&format!("{name}, padded"), &block[..key.len()]));
        found.push(as_it_is(&format!("{name}, padded, as words"), &swapped(&block[..key.len()], 4)));
        let mut state = BEGIN_256;
        compress256(&mut state, &[block]);
        let bytes = |order: [usize; 8]| order.map(|place| state[place].to_ne_bytes()).concat();
        found.push(as_it_is(&format!("{name}, prepared"), &bytes(core::array::from_fn(|place| place))));
        found.push(as_it_is(&format!("{name}, prepared, in registers"), &bytes(IN_REGISTERS)));
    }
    found
}

/// The same over SHA-512.
pub(crate) fn of_mac_512(name: &str, key: &[u8]) -> Vec<Needle> {
    let mut found = Vec::new();
    for pad in PADS {
        let mut block = [pad; 128];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        found.push(as_it_is(&format!("{name}, padded"), &block[..key.len()]));
        found.push(as_it_is(&format!("{name}, padded, as words"), &swapped(&block[..key.len()], 8)));
        let mut state = BEGIN_512;
        compress512(&mut state, &[block]);
        found.push(as_it_is(&format!("{name}, prepared"), &state.map(u64::to_ne_bytes).concat()));
    }
    found
}

/// What HKDF makes of a key before it knows what for.
pub(crate) fn of_hkdf(name: &str, salt: &[u8], key: &[u8]) -> Vec<Needle> {
    let extracted = tag_once(hash::Algorithm::Sha256, salt, &[key]);
    let name = format!("{name}, extracted");
    [needles(&name, extracted.as_bytes()), of_mac_256(&name, extracted.as_bytes())].concat()
}

/// What a message under a key and a nonce takes: the subkey of a long nonce, the key of the tag, and the words of the key as vectors
/// hold them, each as often as there are lanes.
pub(crate) fn of_cipher(name: &str, key: &[u8; 32], nonce: &[u8]) -> Vec<Needle> {
    let mut found = Vec::new();
    let (key, nonce) = match nonce.split_at_checked(16) {
        Some((front, back)) => {
            let subkey: [u8; 32] = hchacha::<R20>(key.into(), front.try_into().unwrap()).into();
            found.extend(needles(&format!("{name}, the subkey of a message"), &subkey));
            (subkey, [&[0; 4], back].concat())
        }
        None => (*key, nonce.to_vec()),
    };
    for (number, word) in key.chunks(4).enumerate() {
        found.push(as_it_is(&format!("{name}, word {number} in lanes"), &word.repeat(8)));
    }
    let mut once = [0; 32];
    ChaCha20::new_from_slices(&key, &nonce).unwrap().apply_keystream(&mut once);
    found.push(as_it_is(&format!("{name}, the key of a tag"), &once));
    found
}

/// The keys above all others, and all that is derived from them: docs/FORMATS.md.
pub(crate) fn of_store(journal: &[u8], master: &[u8]) -> Vec<Needle> {
    let mut found = of_hkdf("the master key", &[], master);
    let mut keys = Vec::new();
    let mut key = |from: &[u8], label: &str, salt: &[u8]| -> [u8; 32] {
        let mut okm = [0; 32];
        derive(salt, from, &[label.as_bytes()], &mut okm).unwrap();
        keys.push((label.to_owned(), okm));
        okm
    };
    let wrapping = key(master, "quantonium/root-wrap/v1", &[]);
    let mut root: [u8; 32] = journal[68..100].try_into().unwrap();
    let (nonce, tag) = (&journal[44..68], journal[100..116].try_into().unwrap());
    aead::open(Algorithm::XChaCha20Poly1305, &wrapping, nonce, &journal[..44], &mut root, tag).unwrap();
    for label in ["record", "path", "frame", "frame-header", "api-key-pepper", "backup", "audit"] {
        key(&root, &format!("quantonium/{label}/v1"), &[]);
    }
    keys.push(("the root key".to_owned(), root));
    found.extend(of_hkdf("the root key", &[], &root));
    for (name, key) in &keys {
        found.extend(needles(name, key));
        found.extend(of_mac_256(name, key));
    }
    found
}
