//! Poly1305 on four blocks at a time, by multiplications of 32 bits (AVX2).
//!
//! Owns [`Powers`] and [`absorb`]. A vector holds the same limb of four sums, one for every fourth block; limbs weigh
//! 2^26 each more than the one before. Invariant: each limb is below 2^32 where it is a factor, because the processor
//! takes no more of it.

use core::arch::x86_64::*;

use zeroize::Zeroize;

use super::field::{ABOVE_BLOCK, Block, Element, LOW_44};
use super::load_256;

/// Blocks in a vector.
pub(super) const LANES: usize = 4;
/// The lowest 26 bits.
const LOW_26: u64 = (1 << 26) - 1;

/// A limb of four numbers.
type Vector = __m256i;

/// What the sums are multiplied by.
pub(super) struct Powers {
    /// r^4 for the first block of a vector, down to r for the last one: a limb of each lane.
    lanes: [[u64; LANES]; 5],
    fourth: [u64; 5],
    eighth: [u64; 5],
}

impl Powers {
    #[inline(always)]
    pub(super) fn new(r: Element, r_squared: Element) -> Self {
        let fourth = r_squared.times(r_squared);
        let eighth = narrow(fourth.times(fourth));
        let third = narrow(r_squared.times(r));
        let [first, second, fourth] = [narrow(r), narrow(r_squared), narrow(fourth)];
        // Lanes hold the blocks 0, 2, 1 and 3.
        let lanes = [
            [fourth[0], second[0], third[0], first[0]],
            [fourth[1], second[1], third[1], first[1]],
            [fourth[2], second[2], third[2], first[2]],
            [fourth[3], second[3], third[3], first[3]],
            [fourth[4], second[4], third[4], first[4]],
        ];
        Self { lanes, fourth, eighth }
    }
}

#[cfg(test)]
impl Powers {
    pub(super) fn is_wiped(&self) -> bool {
        self.lanes == [[0; LANES]; 5] && [self.fourth, self.eighth] == [[0; 5]; 2]
    }
}

impl Zeroize for Powers {
    fn zeroize(&mut self) {
        self.lanes.zeroize();
        self.fourth.zeroize();
        self.eighth.zeroize();
    }
}

/// The same number in limbs of 26 bits; the last one may have a bit more.
#[inline(always)]
fn narrow(wide: Element) -> [u64; 5] {
    // Once around leaves a middle limb of at most 2^44, which is why it is added and not put beside.
    let [h0, h1, h2] = Element::of_sums(wide.0).0;
    let (h1, h2) = (h1 & LOW_44, h2.wrapping_add(h1 >> 44));
    [
        h0 & LOW_26,
        (h0 >> 26 | h1 << 18) & LOW_26,
        (h1 >> 8) & LOW_26,
        (h1 >> 34 | h2 << 10) & LOW_26,
        h2 >> 16,
    ]
}

/// The same number in the limbs of [`Element`], from sums below 2^60.
#[inline(always)]
fn widen(sums: [u64; 5]) -> Element {
    let mut carry = 0;
    let [l0, l1, l2, l3, l4] = sums.map(|sum| {
        let sum = sum.wrapping_add(carry);
        carry = sum >> 26;
        sum & LOW_26
    });
    // What is above 2^130 counts five times; it is below 2^35.
    let low = l0.wrapping_add(carry.wrapping_mul(5)).wrapping_add(l1 << 26);
    let middle = (low >> 44).wrapping_add(l2 << 8).wrapping_add(l3 << 34);
    Element([low & LOW_44, middle & LOW_44, (middle >> 44).wrapping_add(l4 << 16)])
}

/// Takes blocks into the hash: whole vectors of them, what is left is not taken. There must be one vector or more.
#[target_feature(enable = "avx2,bmi2")]
pub(super) fn absorb(h: Element, powers: &Powers, blocks: &[Block]) -> Element {
    let Some((first, groups)) = blocks.as_chunks::<LANES>().0.split_first() else { return h };
    let (single, pairs) = groups.split_at(groups.len() % 2);
    let fourth = Factor::everywhere(&powers.fourth);
    let mut sums = Limbs::of_blocks(first).plus(Limbs::first_lane(narrow(h)));
    for group in single {
        sums = Products::zero().plus(sums, &fourth).carried().plus(Limbs::of_blocks(group));
    }
    let eighth = Factor::everywhere(&powers.eighth);
    for [group, next] in pairs.as_chunks::<2>().0 {
        let products = Products::zero().plus(Limbs::of_blocks(group), &fourth).plus(sums, &eighth);
        sums = products.carried().plus(Limbs::of_blocks(next));
    }
    Products::zero().plus(sums, &Factor::in_lanes(&powers.lanes)).folded()
}

#[target_feature(enable = "avx2,bmi2")]
#[inline]
fn everywhere(limb: u64) -> Vector {
    _mm256_set1_epi64x(limb.cast_signed())
}

/// Four numbers.
#[derive(Clone, Copy)]
struct Limbs([Vector; 5]);

impl Limbs {
    #[target_feature(enable = "avx2,bmi2")]
    #[inline]
    fn of_blocks(blocks: &[Block; LANES]) -> Self {
        let [upper, lower] = [load_256(&[blocks[0], blocks[1]]), load_256(&[blocks[2], blocks[3]])];
        let low = _mm256_unpacklo_epi64(upper, lower);
        let high = _mm256_unpackhi_epi64(upper, lower);
        let mask = everywhere(LOW_26);
        let middle = _mm256_or_si256(_mm256_srli_epi64::<52>(low), _mm256_slli_epi64::<12>(high));
        Self([
            _mm256_and_si256(low, mask),
            _mm256_and_si256(_mm256_srli_epi64::<26>(low), mask),
            _mm256_and_si256(middle, mask),
            _mm256_and_si256(_mm256_srli_epi64::<14>(high), mask),
            _mm256_or_si256(_mm256_srli_epi64::<40>(high), everywhere(ABOVE_BLOCK >> 16)),
        ])
    }

    #[target_feature(enable = "avx2,bmi2")]
    #[inline]
    fn first_lane(number: [u64; 5]) -> Self {
        let [a, b, c, d, e] = number;
        Self([first_lane(a), first_lane(b), first_lane(c), first_lane(d), first_lane(e)])
    }

    #[target_feature(enable = "avx2,bmi2")]
    #[inline]
    fn plus(self, other: Self) -> Self {
        let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (self.0, other.0);
        Self([
            _mm256_add_epi64(a0, b0),
            _mm256_add_epi64(a1, b1),
            _mm256_add_epi64(a2, b2),
            _mm256_add_epi64(a3, b3),
            _mm256_add_epi64(a4, b4),
        ])
    }
}

#[target_feature(enable = "avx2,bmi2")]
#[inline]
fn first_lane(limb: u64) -> Vector {
    _mm256_setr_epi64x(limb.cast_signed(), 0, 0, 0)
}

/// A power of r in each lane, and five times its upper four limbs: what would weigh 2^130 counts so much at the bottom.
struct Factor {
    limbs: [Vector; 5],
    five: [Vector; 4],
}

impl Factor {
    #[target_feature(enable = "avx2,bmi2")]
    #[inline]
    fn everywhere(power: &[u64; 5]) -> Self {
        let [a, b, c, d, e] = *power;
        Self::new([everywhere(a), everywhere(b), everywhere(c), everywhere(d), everywhere(e)])
    }

    #[target_feature(enable = "avx2,bmi2")]
    #[inline]
    fn in_lanes(lanes: &[[u64; LANES]; 5]) -> Self {
        let [a, b, c, d, e] = lanes;
        Self::new([load_256(a), load_256(b), load_256(c), load_256(d), load_256(e)])
    }

    #[target_feature(enable = "avx2,bmi2")]
    #[inline]
    fn new(limbs: [Vector; 5]) -> Self {
        let [_, b, c, d, e] = limbs;
        Self { limbs, five: [five(b), five(c), five(d), five(e)] }
    }
}

#[target_feature(enable = "avx2,bmi2")]
#[inline]
fn five(limb: Vector) -> Vector {
    _mm256_add_epi64(limb, _mm256_slli_epi64::<2>(limb))
}

/// Sums of products.
#[derive(Clone, Copy)]
struct Products([Vector; 5]);

impl Products {
    #[target_feature(enable = "avx2,bmi2")]
    #[inline]
    fn zero() -> Self {
        Self([_mm256_setzero_si256(); 5])
    }

    /// Adds the products of all lanes. Limbs below 2^28 times those of a power, or five times as much, give less than
    /// 2^57, and there are ten of them in a sum at most.
    #[target_feature(enable = "avx2,bmi2")]
    #[inline]
    fn plus(self, limbs: Limbs, factor: &Factor) -> Self {
        let [r0, r1, r2, r3, r4] = factor.limbs;
        let [s1, s2, s3, s4] = factor.five;
        let [d0, d1, d2, d3, d4] = self.0;
        Self([
            row(d0, limbs, [r0, s4, s3, s2, s1]),
            row(d1, limbs, [r1, r0, s4, s3, s2]),
            row(d2, limbs, [r2, r1, r0, s4, s3]),
            row(d3, limbs, [r3, r2, r1, r0, s4]),
            row(d4, limbs, [r4, r3, r2, r1, r0]),
        ])
    }

    /// Carries from limb to limb, from two places at once, and from the top five times to the bottom.
    #[target_feature(enable = "avx2,bmi2")]
    #[inline]
    fn carried(self) -> Limbs {
        let [d0, d1, d2, d3, d4] = self.0;
        let mask = everywhere(LOW_26);
        let d1 = _mm256_add_epi64(d1, _mm256_srli_epi64::<26>(d0));
        let d4 = _mm256_add_epi64(d4, _mm256_srli_epi64::<26>(d3));
        let (d0, d3) = (_mm256_and_si256(d0, mask), _mm256_and_si256(d3, mask));
        let d2 = _mm256_add_epi64(d2, _mm256_srli_epi64::<26>(d1));
        let d0 = _mm256_add_epi64(d0, five(_mm256_srli_epi64::<26>(d4)));
        let (d1, d4) = (_mm256_and_si256(d1, mask), _mm256_and_si256(d4, mask));
        let d3 = _mm256_add_epi64(d3, _mm256_srli_epi64::<26>(d2));
        let d1 = _mm256_add_epi64(d1, _mm256_srli_epi64::<26>(d0));
        let d4 = _mm256_add_epi64(d4, _mm256_srli_epi64::<26>(d3));
        let (d2, d0, d3) =
            (_mm256_and_si256(d2, mask), _mm256_and_si256(d0, mask), _mm256_and_si256(d3, mask));
        Limbs([d0, d1, d2, d3, d4])
    }

    /// The sum of all lanes.
    #[target_feature(enable = "avx2,bmi2")]
    #[inline]
    fn folded(self) -> Element {
        let [a, b, c, d, e] = self.0;
        widen([across(a), across(b), across(c), across(d), across(e)])
    }
}

/// One sum of products.
#[target_feature(enable = "avx2,bmi2")]
#[inline]
fn row(sum: Vector, limbs: Limbs, factors: [Vector; 5]) -> Vector {
    let ([a0, a1, a2, a3, a4], [b0, b1, b2, b3, b4]) = (limbs.0, factors);
    let sum = _mm256_add_epi64(sum, _mm256_mul_epu32(a4, b4));
    let sum = _mm256_add_epi64(sum, _mm256_mul_epu32(a3, b3));
    let sum = _mm256_add_epi64(sum, _mm256_mul_epu32(a2, b2));
    let sum = _mm256_add_epi64(sum, _mm256_mul_epu32(a1, b1));
    _mm256_add_epi64(sum, _mm256_mul_epu32(a0, b0))
}

#[target_feature(enable = "avx2,bmi2")]
#[inline]
fn across(limb: Vector) -> u64 {
    let pairs = _mm_add_epi64(_mm256_castsi256_si128(limb), _mm256_extracti128_si256::<1>(limb));
    let sum = _mm_add_epi64(pairs, _mm_unpackhi_epi64(pairs, pairs));
    _mm_cvtsi128_si64(sum).cast_unsigned()
}
