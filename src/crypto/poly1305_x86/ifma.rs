//! Poly1305 on eight blocks at a time, by multiplications of 52 bits (AVX-512 IFMA).
//!
//! Owns [`Powers`] and [`absorb`]. A vector holds the same limb of eight sums, one for every eighth block; limbs weigh 1,
//! 2^44 and 2^88. Invariants: each limb is below 2^52 where it is a factor, because the processor takes no more of it;
//! which lanes are used follows from the number of blocks, which is no secret. Blocks that do not fill a vector come
//! first: a lane without a block is zero, and stays zero when it is multiplied.

use core::arch::x86_64::*;

use zeroize::Zeroize;

use super::field::{ABOVE_BLOCK, Block, Element, LOW_42, LOW_44};
use super::load_512;

/// Blocks in a vector.
const LANES: usize = 8;
/// Blocks in half of one: what is loaded at once.
const HALF: usize = LANES / 2;

/// A limb of eight numbers.
type Vector = __m512i;

/// What the sums are multiplied by.
pub(super) struct Powers {
    /// r^8 for the first block of a vector, down to r for the last one: a limb of each lane.
    lanes: [[u64; LANES]; 3],
    eighth: Element,
    sixteenth: Element,
}

impl Powers {
    #[inline(always)]
    pub(super) fn new(r: Element, r_squared: Element) -> Self {
        let third = r_squared.times(r);
        let fourth = r_squared.times(r_squared);
        let (fifth, sixth) = (fourth.times(r), fourth.times(r_squared));
        let (seventh, eighth) = (fourth.times(third), fourth.times(fourth));
        // Lanes hold the blocks 0, 4, 1, 5, 2, 6, 3 and 7: two vectors of four, interleaved.
        let [a, b, c, d] = [eighth.0, fourth.0, seventh.0, third.0];
        let [e, f, g, h] = [sixth.0, r_squared.0, fifth.0, r.0];
        let lanes = [
            [a[0], b[0], c[0], d[0], e[0], f[0], g[0], h[0]],
            [a[1], b[1], c[1], d[1], e[1], f[1], g[1], h[1]],
            [a[2], b[2], c[2], d[2], e[2], f[2], g[2], h[2]],
        ];
        Self { lanes, eighth, sixteenth: eighth.times(eighth) }
    }
}

#[cfg(test)]
impl Powers {
    pub(super) fn is_wiped(&self) -> bool {
        self.lanes == [[0; LANES]; 3] && [self.eighth.0, self.sixteenth.0] == [[0; 3]; 2]
    }
}

impl Zeroize for Powers {
    fn zeroize(&mut self) {
        self.lanes.zeroize();
        self.eighth.zeroize();
        self.sixteenth.zeroize();
    }
}

/// Takes blocks into the hash, of which there must be four or more.
#[target_feature(enable = "avx512f,avx512ifma,bmi2")]
pub(super) fn absorb(h: Element, powers: &Powers, blocks: &[Block]) -> Element {
    let Some((_, groups)) = blocks.split_at_checked(first_len(blocks.len())) else { return h };
    let (single, pairs) = groups.as_chunks::<LANES>().0.split_at(groups.len() / LANES % 2);
    let eighth = Factor::everywhere(powers.eighth);
    let sixteenth = Factor::everywhere(powers.sixteenth);
    let mut sums = begin(h, blocks);
    for group in single {
        sums = Products::zero().plus(sums, &eighth).carried().plus(Limbs::of_blocks(group));
    }
    for [group, next] in pairs.as_chunks::<2>().0 {
        let products = Products::zero().plus(Limbs::of_blocks(group), &eighth).plus(sums, &sixteenth);
        sums = products.carried().plus(Limbs::of_blocks(next));
    }
    Products::zero().plus(sums, &Factor::in_lanes(&powers.lanes)).folded()
}

/// How many of so many blocks go into the first vector, so that the others fill theirs.
#[inline(always)]
fn first_len(blocks: usize) -> usize {
    blocks.wrapping_sub(1) % LANES + 1
}

/// The first vector: its last lanes hold the first blocks, and the first block has the hash so far added.
#[target_feature(enable = "avx512f,avx512ifma,bmi2")]
#[inline]
fn begin(h: Element, blocks: &[Block]) -> Limbs {
    let len = first_len(blocks.len());
    let split = len.saturating_sub(HALF);
    // A half that has a block less than its lanes is pushed to its end.
    let upper = _mm512_maskz_expand_epi64(ends(split), half(blocks, 0));
    let lower = _mm512_maskz_expand_epi64(ends(len.min(HALF)), half(blocks, split));
    let block = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
    let start = everywhere((LANES - len) as u64);
    let mut limbs = Limbs::of_halves(upper, lower, _mm512_cmpge_epi64_mask(block, start));
    let first = _mm512_cmpeq_epi64_mask(block, start);
    let [h0, h1, h2] = h.0.map(u64::cast_signed);
    limbs.0[0] = _mm512_add_epi64(limbs.0[0], _mm512_maskz_set1_epi64(first, h0));
    limbs.0[1] = _mm512_add_epi64(limbs.0[1], _mm512_maskz_set1_epi64(first, h1));
    limbs.0[2] = _mm512_add_epi64(limbs.0[2], _mm512_maskz_set1_epi64(first, h2));
    limbs
}

/// The words of the last `blocks` blocks of half a vector.
#[inline(always)]
fn ends(blocks: usize) -> __mmask8 {
    [0, 0xc0, 0xf0, 0xfc].get(blocks).copied().unwrap_or(0xff)
}

/// Four blocks from `at` on, zeros where there are not so many.
#[target_feature(enable = "avx512f,avx512ifma,bmi2")]
#[inline]
fn half(blocks: &[Block], at: usize) -> Vector {
    let found = blocks.split_at_checked(at).and_then(|(_, rest)| rest.first_chunk::<HALF>());
    load_512(found.unwrap_or(&[[0; 16]; HALF]))
}

#[target_feature(enable = "avx512f,avx512ifma,bmi2")]
#[inline]
fn everywhere(limb: u64) -> Vector {
    _mm512_set1_epi64(limb.cast_signed())
}

/// Eight numbers.
#[derive(Clone, Copy)]
struct Limbs([Vector; 3]);

impl Limbs {
    #[target_feature(enable = "avx512f,avx512ifma,bmi2")]
    #[inline]
    fn of_blocks(blocks: &[Block; LANES]) -> Self {
        let (upper, lower) = blocks.split_at(HALF);
        Self::of_halves(half(upper, 0), half(lower, 0), 0xff)
    }

    /// Interleaves the words of four blocks with those of four others; those in `present` get the bit above a block.
    #[target_feature(enable = "avx512f,avx512ifma,bmi2")]
    #[inline]
    fn of_halves(upper: Vector, lower: Vector, present: __mmask8) -> Self {
        let low = _mm512_unpacklo_epi64(upper, lower);
        let high = _mm512_unpackhi_epi64(upper, lower);
        let middle = _mm512_or_si512(_mm512_srli_epi64::<44>(low), _mm512_slli_epi64::<20>(high));
        let above = _mm512_maskz_set1_epi64(present, ABOVE_BLOCK.cast_signed());
        Self([
            _mm512_and_si512(low, everywhere(LOW_44)),
            _mm512_and_si512(middle, everywhere(LOW_44)),
            _mm512_or_si512(_mm512_srli_epi64::<24>(high), above),
        ])
    }

    #[target_feature(enable = "avx512f,avx512ifma,bmi2")]
    #[inline]
    fn plus(self, other: Self) -> Self {
        let ([a0, a1, a2], [b0, b1, b2]) = (self.0, other.0);
        Self([_mm512_add_epi64(a0, b0), _mm512_add_epi64(a1, b1), _mm512_add_epi64(a2, b2)])
    }
}

/// A power of r in each lane, and 20 times its upper two limbs: what would weigh 2^132 counts so much at the bottom.
struct Factor {
    limbs: [Vector; 3],
    twenty: [Vector; 2],
}

impl Factor {
    #[target_feature(enable = "avx512f,avx512ifma,bmi2")]
    #[inline]
    fn everywhere(power: Element) -> Self {
        let [r0, r1, r2] = power.0;
        Self {
            limbs: [everywhere(r0), everywhere(r1), everywhere(r2)],
            twenty: [everywhere(r1.wrapping_mul(20)), everywhere(r2.wrapping_mul(20))],
        }
    }

    #[target_feature(enable = "avx512f,avx512ifma,bmi2")]
    #[inline]
    fn in_lanes(lanes: &[[u64; LANES]; 3]) -> Self {
        let limbs = [load_512(&lanes[0]), load_512(&lanes[1]), load_512(&lanes[2])];
        Self { limbs, twenty: [twenty(limbs[1]), twenty(limbs[2])] }
    }
}

#[target_feature(enable = "avx512f,avx512ifma,bmi2")]
#[inline]
fn twenty(limb: Vector) -> Vector {
    _mm512_add_epi64(_mm512_slli_epi64::<4>(limb), _mm512_slli_epi64::<2>(limb))
}

/// Sums of products: their lowest 52 bits apart from those above.
#[derive(Clone, Copy)]
struct Products {
    low: [Vector; 3],
    high: [Vector; 3],
}

impl Products {
    #[target_feature(enable = "avx512f,avx512ifma,bmi2")]
    #[inline]
    fn zero() -> Self {
        Self { low: [_mm512_setzero_si512(); 3], high: [_mm512_setzero_si512(); 3] }
    }

    /// Adds the products of all lanes. What depends on nothing before is added first.
    #[target_feature(enable = "avx512f,avx512ifma,bmi2")]
    #[inline]
    fn plus(self, limbs: Limbs, factor: &Factor) -> Self {
        let ([r0, r1, r2], [s1, s2]) = (factor.limbs, factor.twenty);
        let ([l0, l1, l2], [h0, h1, h2]) = (self.low, self.high);
        let rows = [[r0, s2, s1], [r1, r0, s2], [r2, r1, r0]];
        Self {
            low: [low_row(l0, limbs, rows[0]), low_row(l1, limbs, rows[1]), low_row(l2, limbs, rows[2])],
            high: [high_row(h0, limbs, rows[0]), high_row(h1, limbs, rows[1]), high_row(h2, limbs, rows[2])],
        }
    }

    /// Carries from limb to limb, and from the top five times to the bottom.
    ///
    /// Of two products of a sum with a power: the third limb is below 2^91, five times what it carries below 2^52.
    #[target_feature(enable = "avx512f,avx512ifma,bmi2")]
    #[inline]
    fn carried(self) -> Limbs {
        let ([l0, l1, l2], [h0, h1, h2]) = (self.low, self.high);
        // The upper bits weigh 2^52: 2^8 of the next limb, or 2^10 of what goes around.
        let d1 = _mm512_add_epi64(l1, _mm512_slli_epi64::<8>(h0));
        let d1 = _mm512_add_epi64(d1, _mm512_srli_epi64::<44>(l0));
        let d2 = _mm512_add_epi64(l2, _mm512_slli_epi64::<8>(h1));
        let d2 = _mm512_add_epi64(d2, _mm512_srli_epi64::<44>(d1));
        let around = _mm512_add_epi64(_mm512_slli_epi64::<10>(h2), _mm512_srli_epi64::<42>(d2));
        let d0 = _mm512_add_epi64(_mm512_and_si512(l0, everywhere(LOW_44)), around);
        let d0 = _mm512_add_epi64(d0, _mm512_slli_epi64::<2>(around));
        let d1 = _mm512_and_si512(d1, everywhere(LOW_44));
        Limbs([
            _mm512_and_si512(d0, everywhere(LOW_44)),
            _mm512_add_epi64(d1, _mm512_srli_epi64::<44>(d0)),
            _mm512_and_si512(d2, everywhere(LOW_42)),
        ])
    }

    /// The sum of all lanes.
    #[target_feature(enable = "avx512f,avx512ifma,bmi2")]
    #[inline]
    fn folded(self) -> Element {
        let ([l0, l1, l2], [h0, h1, h2]) = (self.low, self.high);
        // Each lane is below 2^56: a high sum is below 2^40, of the last limb below 2^38.
        let around = _mm512_slli_epi64::<10>(h2);
        let d0 = _mm512_add_epi64(l0, _mm512_add_epi64(around, _mm512_slli_epi64::<2>(around)));
        let d1 = _mm512_add_epi64(l1, _mm512_slli_epi64::<8>(h0));
        let d2 = _mm512_add_epi64(l2, _mm512_slli_epi64::<8>(h1));
        let [d0, d1, d2] =
            [_mm512_reduce_add_epi64(d0), _mm512_reduce_add_epi64(d1), _mm512_reduce_add_epi64(d2)];
        Element::of_sums([d0.cast_unsigned(), d1.cast_unsigned(), d2.cast_unsigned()])
    }
}

#[target_feature(enable = "avx512f,avx512ifma,bmi2")]
#[inline]
fn low_row(sum: Vector, limbs: Limbs, factors: [Vector; 3]) -> Vector {
    let ([a0, a1, a2], [b0, b1, b2]) = (limbs.0, factors);
    let sum = _mm512_madd52lo_epu64(_mm512_madd52lo_epu64(sum, a2, b2), a1, b1);
    _mm512_madd52lo_epu64(sum, a0, b0)
}

#[target_feature(enable = "avx512f,avx512ifma,bmi2")]
#[inline]
fn high_row(sum: Vector, limbs: Limbs, factors: [Vector; 3]) -> Vector {
    let ([a0, a1, a2], [b0, b1, b2]) = (limbs.0, factors);
    let sum = _mm512_madd52hi_epu64(_mm512_madd52hi_epu64(sum, a2, b2), a1, b1);
    _mm512_madd52hi_epu64(sum, a0, b0)
}
