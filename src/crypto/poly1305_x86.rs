//! Poly1305 (RFC 8439 section 2.5) for x86-64 processors with AVX2 or with AVX-512 IFMA, found at run time.
//!
//! Owns [`Level`], which says what the processor has, and [`Poly1305`], which is as fast as that allows. `field` is the
//! arithmetic of both on single blocks, for what is short; `avx2` and `ifma` take four and eight blocks at a time.
//! Invariants: a [`Level`] exists only where the processor and the kernel have what it names; no branch and no index
//! depends on a byte of key or message; key, powers of it and hash are wiped on drop.
//!
//! `unsafe` is here alone, and only to call a function that was compiled for more than every x86-64 has.

#![expect(unsafe_code, reason = "above, and with each block")]

mod avx2;
mod field;
mod ifma;
#[cfg(test)]
mod tests;

use core::arch::x86_64::{__m256i, __m512i, _mm256_loadu_si256, _mm512_loadu_si512};

use zeroize::{Zeroize, zeroize_stack};

use field::{Block, Element};

use crate::limits;

/// From so many blocks on vectors are faster, if powers of r are there.
const READY_BLOCKS: usize = 8;

/// What the processor has. Both have BMI2, whose multiplication leaves the flags alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Avx2,
    Ifma,
}

impl Level {
    /// Every level of this processor, the fastest first. The processor is asked whether the kernel keeps its vectors
    /// too.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let bmi2 = is_x86_feature_detected!("bmi2");
        let ifma = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma");
        let avx2 = is_x86_feature_detected!("avx2");
        let found = [(bmi2 && ifma).then_some(Kind::Ifma), (bmi2 && avx2).then_some(Kind::Avx2)];
        found.into_iter().flatten().map(Self)
    }

    /// From so many blocks on vectors are faster, with the time to make powers of r for them.
    #[inline]
    const fn vector_blocks(self) -> usize {
        match self.0 {
            Kind::Avx2 => 24,
            Kind::Ifma => 16,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self.0 {
            Kind::Avx2 => "avx2",
            Kind::Ifma => "avx512-ifma",
        }
    }
}

/// A hash under way.
pub(super) struct Poly1305 {
    level: Level,
    hash: Element,
    r: Element,
    r_squared: Element,
    /// The second half of the key, which is added at the end.
    pad: u128,
    powers: Powers,
}

/// Powers of r, made when a section is long enough to need them.
enum Powers {
    None,
    Avx2(avx2::Powers),
    Ifma(ifma::Powers),
}

impl Poly1305 {
    #[inline]
    pub(super) fn new(level: Level, key: &[u8; 32]) -> Self {
        // Both halves are there, so the other branches are never taken.
        let r = key.first_chunk().copied().unwrap_or_default();
        let pad = key.last_chunk().copied().unwrap_or_default();
        let r = Element::clamped(u128::from_le_bytes(r));
        Self {
            level,
            hash: Element::ZERO,
            r,
            r_squared: r.times(r),
            pad: u128::from_le_bytes(pad),
            powers: Powers::None,
        }
    }

    /// Takes bytes and pads them with zeros to a whole block: only the last piece of a section may need that.
    #[inline]
    pub(super) fn absorb(&mut self, bytes: &[u8]) {
        let (blocks, _) = bytes.as_chunks();
        let ready = !matches!(self.powers, Powers::None);
        let enough = if ready { READY_BLOCKS } else { self.level.vector_blocks() };
        let taken = if blocks.len() < enough { 0 } else { self.absorb_vectors(blocks) };
        if let Some((_, left)) =
            bytes.split_at_checked(taken * size_of::<Block>()).filter(|(_, left)| !left.is_empty())
        {
            // SAFETY: a level exists only where the processor has BMI2.
            unsafe { absorb_singly(&mut self.hash, &self.r, &self.r_squared, left) };
        }
    }

    /// Takes as many of the blocks as its vectors allow, and says how many.
    #[inline(never)]
    fn absorb_vectors(&mut self, blocks: &[Block]) -> usize {
        if matches!(self.powers, Powers::None) {
            self.powers = match self.level.0 {
                Kind::Avx2 => Powers::Avx2(avx2::Powers::new(self.r, self.r_squared)),
                Kind::Ifma => Powers::Ifma(ifma::Powers::new(self.r, self.r_squared)),
            };
        }
        match &self.powers {
            Powers::None => 0,
            Powers::Avx2(powers) => {
                // SAFETY: these powers are made only for a level that exists only where the processor has AVX2 and BMI2.
                self.hash = unsafe { avx2::absorb(self.hash, powers, blocks) };
                blocks.len() - blocks.len() % avx2::LANES
            }
            Powers::Ifma(powers) => {
                // SAFETY: as above, with AVX-512 F and IFMA.
                self.hash = unsafe { ifma::absorb(self.hash, powers, blocks) };
                blocks.len()
            }
        }
    }

    /// Takes the last block and gives the tag.
    #[inline]
    pub(super) fn finish(&mut self, last: &Block) -> [u8; 16] {
        self.absorb(last);
        self.hash.low_128().wrapping_add(self.pad).to_le_bytes()
    }
}

impl Zeroize for Poly1305 {
    #[inline]
    fn zeroize(&mut self) {
        self.hash.zeroize();
        self.r.zeroize();
        self.r_squared.zeroize();
        self.pad.zeroize();
        match &mut self.powers {
            Powers::None => {}
            Powers::Avx2(powers) => {
                powers.zeroize();
                // It has too few registers to keep all powers in them.
                zeroize_stack::<{ limits::MAC_FRAMES_BYTES }>();
            }
            Powers::Ifma(powers) => powers.zeroize(),
        }
    }
}

impl Drop for Poly1305 {
    #[inline]
    fn drop(&mut self) {
        self.zeroize();
    }
}

/// Takes bytes without vectors, the last block padded with zeros.
#[target_feature(enable = "bmi2")]
fn absorb_singly(hash: &mut Element, r: &Element, r_squared: &Element, bytes: &[u8]) {
    let (blocks, partial) = bytes.as_chunks();
    let whole = field::absorb(*hash, *r, *r_squared, blocks);
    *hash =
        if partial.is_empty() { whole } else { whole.plus(Element::of_block(&padded(partial))).times(*r) };
}

/// The bytes of an array as they lie in memory.
#[target_feature(enable = "avx2")]
#[inline]
fn load_256<T: Plain, const N: usize>(from: &[T; N]) -> __m256i {
    const { assert!(size_of::<[T; N]>() == size_of::<__m256i>()) };
    // SAFETY: exactly the bytes of the array are read, none of them is padding, and no alignment is asked for.
    unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
}

/// The bytes of an array as they lie in memory.
#[target_feature(enable = "avx512f")]
#[inline]
fn load_512<T: Plain, const N: usize>(from: &[T; N]) -> __m512i {
    const { assert!(size_of::<[T; N]>() == size_of::<__m512i>()) };
    // SAFETY: as above.
    unsafe { _mm512_loadu_si512(from.as_ptr().cast()) }
}

/// What has no padding.
trait Plain {}

impl Plain for u64 {}
impl Plain for Block {}

/// A part of a block with zeros after it, put together from words: a copy of so few bytes is a call otherwise.
#[inline(always)]
fn padded(partial: &[u8]) -> Block {
    let (mut number, mut filled, mut rest) = (0, 0, partial);
    if let Some((word, later)) = rest.split_first_chunk() {
        (number, filled, rest) = (u128::from(u64::from_le_bytes(*word)), u64::BITS, later);
    }
    if let Some((word, later)) = rest.split_first_chunk() {
        number |= u128::from(u32::from_le_bytes(*word)) << filled;
        (filled, rest) = (filled + u32::BITS, later);
    }
    if let Some((word, later)) = rest.split_first_chunk() {
        number |= u128::from(u16::from_le_bytes(*word)) << filled;
        (filled, rest) = (filled + u16::BITS, later);
    }
    if let Some(byte) = rest.first() {
        number |= u128::from(*byte) << filled;
    }
    number.to_le_bytes()
}
