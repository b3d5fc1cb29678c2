//! Keystream by vectors, held against RFC 8439 and against the crate. On a processor without AVX-512 the crate alone is left.

use zeroize::Zeroize as _;

use super::super::aead::{self, Algorithm, Backends};
use super::super::authenticator;
use super::super::cipher::{BLOCK_BYTES, Backend, Cipher, GROUP_BYTES, Group};
use super::{ChaCha20, Level};

/// Vectors of every kind: one group, two, three, wide ones, and all of them after one another.
const GROUPS: usize = 17;

fn portable() -> Backend {
    Backend::all().last().unwrap()
}

/// Bytes without a pattern, the same each time.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// So many groups of keystream from a block on.
fn drawn(backend: Backend, key: &[u8; 32], nonce: &[u8; 12], block: u32, groups: usize) -> Vec<u8> {
    // What stood there must not matter.
    let mut target = vec![[0xa5; GROUP_BYTES]; groups];
    Cipher::at(backend, key, nonce, block).draw(&mut target);
    target.into_flattened()
}

/// Key, nonce, number of the block, the block.
type Vector = ([u8; 32], [u8; 12], u32, &'static str);

/// RFC 8439 section 2.3.2 and appendix A.1.
fn block_vectors() -> [Vector; 6] {
    let counted = core::array::from_fn(|at| u8::try_from(at).unwrap());
    let with = |at: usize, byte: u8| -> [u8; 32] {
        core::array::from_fn(|place| if place == at { byte } else { 0 })
    };
    let nonce = |last: u8| -> [u8; 12] { core::array::from_fn(|at| if at == 11 { last } else { 0 }) };
    [
        (
            counted,
            [0, 0, 0, 9, 0, 0, 0, 0x4a, 0, 0, 0, 0],
            1,
            "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e\
             d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
        ),
        (
            [0; 32],
            [0; 12],
            0,
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7\
             da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
        ),
        (
            [0; 32],
            [0; 12],
            1,
            "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed\
             29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
        ),
        (
            with(31, 1),
            [0; 12],
            1,
            "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a\
             8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
        ),
        (
            with(1, 0xff),
            [0; 12],
            2,
            "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca\
             13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
        ),
        (
            [0; 32],
            nonce(2),
            0,
            "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7\
             8a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d",
        ),
    ]
}

#[test]
fn the_blocks_of_rfc_8439_come_out_in_every_place_of_every_vector() {
    for (key, nonce, number, block) in block_vectors() {
        for backend in Backend::all() {
            // The block stands at each place of a vector if the keystream begins so many blocks before it.
            for before in 0..u32::try_from(GROUPS * 4).unwrap() {
                let from = number.wrapping_sub(before);
                let at = usize::try_from(before).unwrap() * BLOCK_BYTES;
                for groups in at / GROUP_BYTES + 1..=GROUPS {
                    let stream = drawn(backend, &key, &nonce, from, groups);
                    assert_eq!(
                        stream[at..][..BLOCK_BYTES],
                        hex(block),
                        "{}: {before} of {groups}",
                        backend.name()
                    );
                }
            }
        }
    }
}

/// Key, nonce, number of the first block, plaintext, ciphertext.
type Message<'a> = ([u8; 32], [u8; 12], u32, &'a [u8], &'a str);

/// RFC 8439 section 2.4.2 and appendix A.2.
#[test]
fn the_messages_of_rfc_8439_come_out() {
    let sunscreen: &[u8] = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
    let ietf: &[u8] = b"Any submission to the IETF intended by the Contributor for publication as all or part of an IETF Internet-Draft or RFC and any statement made within the context of an IETF activity is considered an \"IETF Contribution\". Such statements include oral statements in IETF sessions, as well as written and electronic communications made at any time or place, which are addressed to";
    let jabberwocky: &[u8] = b"'Twas brillig, and the slithy toves\nDid gyre and gimble in the wabe:\nAll mimsy were the borogoves,\nAnd the mome raths outgrabe.";
    let counted: [u8; 32] = core::array::from_fn(|at| u8::try_from(at).unwrap());
    let mut one = [0; 32];
    one[31] = 1;
    let of_jabberwocky = hex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0");
    let vectors: [Message<'_>; 4] = [
        (
            counted,
            [0, 0, 0, 0, 0, 0, 0, 0x4a, 0, 0, 0, 0],
            1,
            sunscreen,
            "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0bf91b65c5524733ab8f593dabcd62b357\
             1639d624e65152ab8f530c359f0861d807ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab7793736\
             5af90bbf74a35be6b40b8eedf2785e42874d",
        ),
        (
            [0; 32],
            [0; 12],
            0,
            &[0; 64],
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7\
             da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
        ),
        (
            one,
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
            1,
            ietf,
            "a3fbf07df3fa2fde4f376ca23e82737041605d9f4f4f57bd8cff2c1d4b7955ec2a97948bd3722915c8f3d337f7d37005\
             0e9e96d647b7c39f56e031ca5eb6250d4042e02785ececfa4b4bb5e8ead0440e20b6e8db09d881a7c6132f420e527950\
             42bdfa7773d8a9051447b3291ce1411c680465552aa6c405b7764d5e87bea85ad00f8449ed8f72d0d662ab052691ca66\
             424bc86d2df80ea41f43abf937d3259dc4b2d0dfb48a6c9139ddd7f76966e928e635553ba76c5c879d7b35d49eb2e62b\
             0871cdac638939e25e8a1e0ef9d5280fa8ca328b351c3c765989cbcf3daa8b6ccc3aaf9f3979c92b3720fc88dc95ed84\
             a1be059c6499b9fda236e7e818b04b0bc39c1e876b193bfe5569753f88128cc08aaa9b63d1a16f80ef2554d7189c411f\
             5869ca52c5b83fa36ff216b9c1d30062bebcfd2dc5bce0911934fda79a86f6e698ced759c3ff9b6477338f3da4f9cd85\
             14ea9982ccafb341b2384dd902f3d1ab7ac61dd29c6f21ba5b862f3730e37cfdc4fd806c22f221",
        ),
        (
            of_jabberwocky.try_into().unwrap(),
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
            42,
            jabberwocky,
            "62e6347f95ed87a45ffae7426f27a1df5fb69110044c0d73118effa95b01e5cf166d3df2d721caf9b21e5fb14c616871\
             fd84c54f9d65b283196c7fe4f60553ebf39c6402c42234e32a356b3e764312a61a5532055716ead6962568f87d3f3f77\
             04c6a8d1bcd1bf4d50d6154b6da731b187b58dfd728afa36757a797ac188d1",
        ),
    ];
    for (key, nonce, block, plaintext, ciphertext) in vectors {
        for backend in Backend::all() {
            for groups in plaintext.len().div_ceil(GROUP_BYTES)..=GROUPS {
                let mut target = vec![[0; GROUP_BYTES]; groups];
                target.as_flattened_mut()[..plaintext.len()].copy_from_slice(plaintext);
                Cipher::at(backend, &key, &nonce, block).apply(&mut target);
                let done = &target.as_flattened()[..plaintext.len()];
                assert_eq!(done, hex(ciphertext), "{}, {groups} groups", backend.name());
            }
        }
    }
}

#[test]
fn every_number_of_groups_and_every_cut_agrees_with_the_crate() {
    let (key, nonce) = (noise(32, 1).try_into().unwrap(), noise(12, 2).try_into().unwrap());
    let wanted = drawn(portable(), &key, &nonce, 7, GROUPS);
    let before = noise(GROUPS * GROUP_BYTES, 3);
    for backend in Backend::all() {
        for groups in 0..=GROUPS {
            let len = groups * GROUP_BYTES;
            assert_eq!(drawn(backend, &key, &nonce, 7, groups), wanted[..len]);
            for cut in 0..=groups {
                let mut cipher = Cipher::at(backend, &key, &nonce, 7);
                let mut target: Vec<Group> = before[..len].as_chunks().0.to_vec();
                let (first, second) = target.split_at_mut(cut);
                cipher.apply(first);
                cipher.draw(second);
                for (at, byte) in target.as_flattened().iter().enumerate() {
                    let kept = if at < cut * GROUP_BYTES { before[at] } else { 0 };
                    assert_eq!(*byte, wanted[at] ^ kept, "{}: {groups}, {cut}, {at}", backend.name());
                }
            }
        }
    }
}

/// The counter alone is 32 bits long, and what stands beside it does not change when it passes its end.
#[test]
fn the_end_of_the_counter_agrees_with_the_crate() {
    let (key, nonce) = (noise(32, 4).try_into().unwrap(), [0xff; 12]);
    for backend in Backend::all() {
        for before_end in 0..=80 {
            let from = u32::MAX - before_end;
            let wanted = drawn(portable(), &key, &nonce, from, GROUPS);
            assert_eq!(drawn(backend, &key, &nonce, from, GROUPS), wanted, "{}: {from}", backend.name());
        }
        for from in [0x7fff_fff0, 0x7fff_ffff, 0x8000_0000, 0xffff, 0x1_0000] {
            let wanted = drawn(portable(), &key, &nonce, from, GROUPS);
            assert_eq!(drawn(backend, &key, &nonce, from, GROUPS), wanted, "{}: {from}", backend.name());
        }
    }
}

#[test]
fn every_bit_of_key_and_nonce_counts_as_with_the_crate() {
    for bit in 0..44 * 8 {
        let mut bytes = noise(44, 5);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (key, nonce) = bytes.split_at(32);
        let (key, nonce) = (key.try_into().unwrap(), nonce.try_into().unwrap());
        let wanted = drawn(portable(), key, nonce, 0, 8);
        for backend in Backend::all() {
            assert_eq!(drawn(backend, key, nonce, 0, 8), wanted, "{}: bit {bit}", backend.name());
        }
    }
}

#[test]
fn groups_need_not_be_aligned_and_nothing_beside_them_is_touched() {
    let (key, nonce) = (noise(32, 6).try_into().unwrap(), noise(12, 7).try_into().unwrap());
    let before = noise((GROUPS + 1) * GROUP_BYTES, 8);
    for backend in Backend::all() {
        for groups in [1, 2, 3, 4, 7, 15] {
            let wanted = drawn(portable(), &key, &nonce, 0, groups);
            for offset in 0..=64 {
                let mut target = before.clone();
                let within = offset..offset + groups * GROUP_BYTES;
                Cipher::new(backend, &key, &nonce).apply(target[within.clone()].as_chunks_mut().0);
                for (at, (byte, before)) in target.iter().zip(&before).enumerate() {
                    let mask = if within.contains(&at) { wanted[at - offset] } else { 0 };
                    assert_eq!(*byte, before ^ mask, "{}: {groups} at {offset}, {at}", backend.name());
                }
            }
        }
    }
}

#[test]
fn every_length_seals_and_opens_as_with_the_crate() {
    let key = noise(32, 9).try_into().unwrap();
    let bytes = noise(4_200 + 64, 10);
    let with = |cipher| Backends { cipher, mac: authenticator::Backend::fastest() };
    for len in 0..=4_200 {
        let nonce = noise(24, len as u64);
        for algorithm in [Algorithm::ChaCha20Poly1305, Algorithm::XChaCha20Poly1305] {
            let (nonce, plaintext) = (&nonce[..algorithm.nonce_len()], &bytes[len % 64..][..len]);
            let mut wanted = plaintext.to_vec();
            let tag = aead::seal_by(with(portable()), algorithm, &key, nonce, b"aad", &mut wanted);
            for backend in Backend::all() {
                // In place at any offset of a buffer.
                let mut room = bytes.clone();
                let data = &mut room[len % 64..][..len];
                let sealed = aead::seal_by(with(backend), algorithm, &key, nonce, b"aad", data);
                assert_eq!((&*data, sealed), (&wanted[..], tag), "{}: {len} bytes", backend.name());
                let opened =
                    aead::open_by(with(backend), algorithm, &key, nonce, b"aad", data, &tag.unwrap());
                assert_eq!(opened, Ok(()), "{}: {len} bytes", backend.name());
                assert_eq!(room, bytes, "{}: {len} bytes", backend.name());
            }
        }
    }
}

#[test]
fn nothing_of_the_state_is_left() {
    if let Some(level) = Level::find() {
        let mut own = ChaCha20::new(level, &[0xa5; 32], &[0x5a; 12], 1);
        assert_ne!(own.state, [0; 16]);
        own.zeroize();
        assert_eq!(own.state, [0; 16]);
    }
}
