//! What both kinds of vectors compute, held against RFC 8439 and against the crate.

use poly1305::universal_hash::KeyInit as _;
use zeroize::Zeroize as _;

use super::super::authenticator::{Authenticator, Backend};
use super::field::Block;
use super::{Level, Poly1305, Powers};

/// The half of a key that clamping leaves as large as it can be.
const LARGEST_R: [u8; 16] = [0xff; 16];

/// The tag that the crate gives a message, whatever its length.
fn crate_tag(key: &[u8; 32], message: &[u8]) -> [u8; 16] {
    poly1305::Poly1305::new(key.into()).compute_unpadded(message).into()
}

/// The tag of blocks that are absorbed in pieces which end where `cuts` says.
fn own_tag(level: Level, key: &[u8; 32], message: &[Block], cuts: &[usize]) -> [u8; 16] {
    let (last, before) = message.split_last().unwrap();
    let mut poly = Poly1305::new(level, key);
    let mut taken = 0;
    for cut in cuts.iter().copied().chain([before.len()]) {
        poly.absorb(before[taken..cut.min(before.len())].as_flattened());
        taken = cut.min(before.len());
    }
    poly.finish(last)
}

fn key(r: [u8; 16], pad: u8) -> [u8; 32] {
    [r, [pad; 16]].concat().try_into().unwrap()
}

fn small(number: u128) -> [u8; 16] {
    number.to_le_bytes()
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

fn agrees(key: &[u8; 32], message: &[Block], cuts: &[usize]) {
    let wanted = crate_tag(key, message.as_flattened());
    for level in Level::all() {
        let tag = own_tag(level, key, message, cuts);
        assert_eq!(
            tag,
            wanted,
            "{}: key {key:02x?}, {} blocks, cut at {cuts:?}",
            level.name(),
            message.len()
        );
    }
}

/// Its number, both halves of the key, the blocks, the tag.
type Vector<'a> = (&'a str, [u8; 16], [u8; 16], &'a [Block], Block);

/// RFC 8439 appendix A.3: those of whole blocks, which is all that an AEAD makes. From number 5 on they are the edges of
/// carries and of the field.
#[test]
fn the_vectors_of_whole_blocks_of_rfc_8439_come_out() {
    const ONES: Block = [0xff; 16];
    let ends =
        |first: u8, rest: u8| -> Block { core::array::from_fn(|at| if at == 0 { first } else { rest }) };
    let r_of_10 = small(1 | 4 << 64);
    let of_10 = [0xb943_5e50_d794_35e3, 0x1_cd79_435e_50d7_9433, 0, 1].map(small);
    let vectors: [Vector<'_>; 8] = [
        ("1", [0; 16], [0; 16], &[[0; 16]; 4], [0; 16]),
        ("5", small(2), [0; 16], &[ONES], small(3)),
        ("6", small(2), ONES, &[small(2)], small(3)),
        ("7", small(1), [0; 16], &[ONES, ends(0xf0, 0xff), small(0x11)], small(5)),
        ("8", small(1), [0; 16], &[ONES, ends(0xfb, 0xfe), [1; 16]], small(0)),
        ("9", small(2), [0; 16], &[ends(0xfd, 0xff)], ends(0xfa, 0xff)),
        ("10", r_of_10, [0; 16], &of_10, small(0x14 | 0x55 << 64)),
        ("11", r_of_10, [0; 16], &of_10[..3], small(0x13)),
    ];
    for (number, r, pad, message, tag) in vectors {
        let key: [u8; 32] = [r, pad].concat().try_into().unwrap();
        assert_eq!(crate_tag(&key, message.as_flattened()), tag, "{number}: the crate");
        for level in Level::all() {
            assert_eq!(own_tag(level, &key, message, &[]), tag, "{number}: {}", level.name());
        }
    }
}

/// Keys whose powers are as small and as large as they get, blocks that carry everywhere and nowhere, and every number of
/// blocks around which the code takes another path.
#[test]
fn the_edges_of_carries_come_out_in_every_lane() {
    let keys = [small(0), small(1), small(2), small(4), small(1 << 123), LARGEST_R, [0x55; 16], [0xf3; 16]];
    let blocks = [[0xff; 16], [0; 16], [0x80; 16], small(u128::MAX - 5), small(u128::MAX - 4), small(1)];
    for r in keys {
        for (at, block) in blocks.into_iter().enumerate() {
            let other = blocks[(at + 1) % blocks.len()];
            for len in (1..=70).chain([127, 128, 129, 255, 256]) {
                agrees(&key(r, 0xff), &vec![block; len], &[]);
                let mixed: Vec<Block> = (0..len).map(|at| if at % 3 == 0 { other } else { block }).collect();
                agrees(&key(r, 1), &mixed, &[]);
            }
        }
    }
}

/// With r = 1 the hash is the sum of the blocks: three of them reach the field's end, and pass it.
#[test]
fn the_end_of_the_field_comes_out_whatever_came_before() {
    for off in 0..12u128 {
        // 2^130 - 9 + off, of which 3 * 2^128 stand above the blocks.
        let sum = [small(0), small(0), small(u128::MAX - 8 + off.min(8)), small(off.saturating_sub(8))];
        let used = if off > 8 { 4 } else { 3 };
        for zeros in 0..40 {
            // Four blocks add 2^130, which is 5.
            let before = vec![[0xff; 16]; zeros * 4];
            let message = [&before, &sum[..used]].concat();
            agrees(&key(small(1), 0), &message, &[]);
            agrees(&key(small(1), 0), &message, &[before.len()]);
        }
    }
}

#[test]
fn every_length_agrees_with_the_crate() {
    let bytes = noise(4_200 + 16, 1);
    let secret: [u8; 32] = noise(32, 2).try_into().unwrap();
    for len in 0..=4_200 {
        for aad_len in [0, 5, 16, 16 + len % 40] {
            let (aad, data) = (&bytes[16..16 + aad_len.min(len)], &bytes[..len]);
            assert_sections(&secret, aad, data, data.len());
        }
    }
}

#[test]
fn every_length_of_associated_data_agrees_with_the_crate() {
    let bytes = noise(1_100, 3);
    for len in 0..=1_100 {
        assert_sections(&[0xb7; 32], &bytes[..len], &bytes[..len % 70], 70);
    }
}

#[test]
fn pieces_give_what_the_whole_gives() {
    let bytes = noise(90 * 16, 4);
    let blocks = bytes.as_chunks().0;
    for first in 0..90 {
        for second in first..90 {
            agrees(&[0x6d; 32], blocks, &[first, second]);
        }
    }
}

/// A MAC of both sections, the data in pieces of `piece` bytes, by everything that this machine has.
fn assert_sections(key: &[u8; 32], aad: &[u8], data: &[u8], piece: usize) {
    let padded = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        bytes
    };
    let lengths = [aad.len() as u64, data.len() as u64].map(u64::to_le_bytes).concat();
    let wanted = crate_tag(key, &[padded(aad), padded(data), lengths].concat());
    for backend in Backend::all() {
        let mut mac = Authenticator::new(backend, key);
        mac.absorb(aad);
        for piece in data.chunks(piece.max(1)) {
            mac.absorb(piece);
        }
        let tag = mac.finish(aad.len(), data.len());
        assert_eq!(tag, wanted, "{}: {} and {} bytes", backend.name(), aad.len(), data.len());
    }
}

#[test]
fn nothing_of_key_and_hash_is_left() {
    for level in Level::all() {
        let mut poly = Poly1305::new(level, &[0xa5; 32]);
        poly.absorb(&[0x5a; 640]);
        poly.zeroize();
        assert_eq!([poly.hash.0, poly.r.0, poly.r_squared.0], [[0; 3]; 3]);
        assert_eq!(poly.pad, 0);
        assert!(match &poly.powers {
            Powers::None => false,
            Powers::Avx2(powers) => powers.is_wiped(),
            Powers::Ifma(powers) => powers.is_wiped(),
        });
    }
}
