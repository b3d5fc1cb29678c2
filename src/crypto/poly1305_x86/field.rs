//! Numbers modulo 2^130 - 5 in registers of 64 bits, and Poly1305 on one or two blocks at a time.
//!
//! Owns [`Element`]: three limbs that weigh 1, 2^44 and 2^88. Invariants: no branch and no index depends on a value; what
//! [`Element::of_products`] gives has limbs below 2^44, 2^44 + 2^9 and 2^42, and stays a valid factor after a block was added.
//! All arithmetic is the wrapping one, which says that nothing is checked, and each bound that makes it exact stands beside it.

use zeroize::Zeroize;

/// A block as it lies in the message.
pub(super) type Block = [u8; 16];

/// The lowest 44 bits.
pub(super) const LOW_44: u64 = (1 << 44) - 1;
/// The lowest 42 bits.
pub(super) const LOW_42: u64 = (1 << 42) - 1;
/// The bit that stands above each whole block (RFC 8439 section 2.5.1), in the limb that weighs 2^88.
pub(super) const ABOVE_BLOCK: u64 = 1 << 40;

/// A number modulo 2^130 - 5. Its limbs may be a little longer than their weights say.
#[derive(Clone, Copy)]
pub(super) struct Element(pub(super) [u64; 3]);

impl Element {
    pub(super) const ZERO: Self = Self([0; 3]);

    /// The first half of a key, with the bits cleared that RFC 8439 section 2.5 wants cleared.
    #[inline(always)]
    pub(super) fn clamped(r: u128) -> Self {
        let (low, high) = halves(r & 0x0fff_fffc_0fff_fffc_0fff_fffc_0fff_ffff);
        Self([low & LOW_44, (low >> 44 | high << 20) & LOW_44, high >> 24])
    }

    /// A block with the bit above it.
    #[inline(always)]
    pub(super) fn of_block(block: &Block) -> Self {
        let (low, high) = halves(u128::from_le_bytes(*block));
        Self([low & LOW_44, (low >> 44 | high << 20) & LOW_44, high >> 24 | ABOVE_BLOCK])
    }

    #[inline(always)]
    pub(super) fn plus(self, other: Self) -> Self {
        let ([a0, a1, a2], [b0, b1, b2]) = (self.0, other.0);
        Self([a0.wrapping_add(b0), a1.wrapping_add(b1), a2.wrapping_add(b2)])
    }

    #[inline(always)]
    pub(super) fn times(self, factor: Self) -> Self {
        Self::of_products(self.products(factor))
    }

    /// The limbs of a product before carries. What would weigh 2^132 and more counts 20 times at the bottom: 4 * 2^130.
    ///
    /// With limbs below 2^46, 2^46 and 2^44 on one side and 2^45, 2^45 and 2^43 on the other, each sum is below 2^98.
    #[inline(always)]
    fn products(self, factor: Self) -> [u128; 3] {
        let ([a0, a1, a2], [b0, b1, b2]) = (self.0, factor.0);
        let (c1, c2) = (b1.wrapping_mul(20), b2.wrapping_mul(20));
        [
            sum([wide(a0, b0), wide(a1, c2), wide(a2, c1)]),
            sum([wide(a0, b1), wide(a1, b0), wide(a2, c2)]),
            sum([wide(a0, b2), wide(a1, b1), wide(a2, b0)]),
        ]
    }

    /// Carries from limb to limb, and from the top five times to the bottom: 2^130 is 5. Takes sums of two products.
    #[inline(always)]
    fn of_products([d0, d1, d2]: [u128; 3]) -> Self {
        let d1 = d1.wrapping_add(d0 >> 44);
        let d2 = d2.wrapping_add(d1 >> 44);
        // The sum is below 2^91 where the factors are what this module makes, so five times its top is below 2^52.
        let h0 = (low(d0) & LOW_44).wrapping_add(low(d2 >> 42).wrapping_mul(5));
        let h1 = (low(d1) & LOW_44).wrapping_add(h0 >> 44);
        Self([h0 & LOW_44, h1, low(d2) & LOW_42])
    }

    /// Carries once around sums that are below 2^61.
    #[inline(always)]
    pub(super) fn of_sums([d0, d1, d2]: [u64; 3]) -> Self {
        let d1 = d1.wrapping_add(d0 >> 44);
        let d2 = d2.wrapping_add(d1 >> 44);
        let h0 = (d0 & LOW_44).wrapping_add((d2 >> 42).wrapping_mul(5));
        let h1 = (d1 & LOW_44).wrapping_add(h0 >> 44);
        Self([h0 & LOW_44, h1, d2 & LOW_42])
    }

    /// The number itself, below 2^130 - 5, without the bits from 2^128 up.
    #[inline(always)]
    pub(super) fn low_128(self) -> u128 {
        // Once around leaves less than 2^130 + 2^45.
        let [h0, h1, h2] = Self::of_sums(self.0).0;
        let lower = u128::from(h0).wrapping_add(u128::from(h1) << 44);
        let (number, carried) = lower.overflowing_add(u128::from(h2) << 88);
        let top = (h2 >> 40).wrapping_add(u64::from(carried));
        // Subtracting 2^130 - 5 is adding 5 below 2^128. It is due exactly if adding 5 reaches 2^130.
        let carried = u64::from(number.overflowing_add(5).1);
        let due = top.wrapping_add(carried) >> 2;
        number.wrapping_add(u128::from(due.wrapping_mul(5)))
    }
}

impl Zeroize for Element {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

/// Takes blocks into the hash, two at a time: their multiplications do not wait for one another.
#[inline(always)]
pub(super) fn absorb(h: Element, r: Element, r_squared: Element, blocks: &[Block]) -> Element {
    let (pairs, last) = blocks.as_chunks::<2>();
    let mut h = h;
    for [first, second] in pairs {
        let one = h.plus(Element::of_block(first)).products(r_squared);
        let other = Element::of_block(second).products(r);
        let [(a0, b0), (a1, b1), (a2, b2)] = [(one[0], other[0]), (one[1], other[1]), (one[2], other[2])];
        h = Element::of_products([a0.wrapping_add(b0), a1.wrapping_add(b1), a2.wrapping_add(b2)]);
    }
    for block in last {
        h = h.plus(Element::of_block(block)).times(r);
    }
    h
}

#[inline(always)]
fn wide(a: u64, b: u64) -> u128 {
    u128::from(a).wrapping_mul(u128::from(b))
}

#[inline(always)]
fn sum([a, b, c]: [u128; 3]) -> u128 {
    a.wrapping_add(b).wrapping_add(c)
}

/// The lower and the upper half.
#[inline(always)]
pub(super) fn halves(number: u128) -> (u64, u64) {
    (low(number), low(number >> 64))
}

#[expect(clippy::cast_possible_truncation, reason = "what is above is taken by the caller")]
#[inline(always)]
fn low(number: u128) -> u64 {
    number as u64
}
