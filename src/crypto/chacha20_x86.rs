//! ChaCha20 (RFC 8439 section 2.3) for x86-64 processors with AVX-512, found at run time.
//!
//! Owns [`Level`], which says that the processor has it, and [`ChaCha20`]. Sixteen blocks are made at a time: a vector holds the
//! same word of each, so that no round has to move words between places, and the blocks are put together at the end. What
//! is left, up to twelve blocks, is made of vectors that hold a row of four blocks each. Invariants: a [`Level`] exists only
//! where the processor and the kernel have AVX-512 F; there are no branches and no indices but those that follow from
//! the number of blocks; the state is wiped on drop. Vectors of the key's words stay in frames below the caller's if sixteen
//! blocks were made: whoever draws has [`super::cipher::Backend::wipe_frames`] wipe them. Registers are left as they are.
//!
//! `unsafe` is here alone: to call a function that was compiled for more than every x86-64 has, and to load and store
//! vectors, for which the standard library has no safe call.

#![expect(unsafe_code, reason = "above, and with each block")]

#[cfg(test)]
mod tests;

use core::arch::x86_64::*;

use zeroize::Zeroize;

use super::cipher::{BLOCK_BYTES, GROUP_BYTES, Group, Task};

/// Groups in a vector of which each lane is a block.
const WIDE: usize = 4;

/// `expand 32-byte k` in words (RFC 8439 section 2.3).
const CONSTANTS: [u32; 4] = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];

/// That the processor has AVX-512 F.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level(());

impl Level {
    /// The processor is asked whether the kernel keeps its vectors too.
    pub(super) fn find() -> Option<Self> {
        is_x86_feature_detected!("avx512f").then_some(Self(()))
    }
}

/// A keystream under way.
pub(super) struct ChaCha20 {
    /// Constants, key, the number of the next block, nonce.
    state: [u32; 16],
    /// Without it there is none of these.
    _level: Level,
}

impl ChaCha20 {
    #[inline]
    pub(super) fn new(level: Level, key: &[u8; 32], nonce: &[u8; 12], block: u32) -> Self {
        let mut state = [0; 16];
        let (constants, rest) = state.split_at_mut(4);
        let (key_words, rest) = rest.split_at_mut(8);
        let (counter, nonce_words) = rest.split_at_mut(1);
        constants.copy_from_slice(&CONSTANTS);
        read_words(key_words, key);
        counter.copy_from_slice(&[block]);
        read_words(nonce_words, nonce);
        Self { state, _level: level }
    }

    /// Works on groups of four blocks; the next call goes on behind them.
    #[inline]
    pub(super) fn run(&mut self, task: Task, groups: &mut [Group]) {
        let keep = match task {
            Task::Draw => 0,
            Task::Apply => 0xffff,
        };
        let (wide, rest) = groups.as_chunks_mut::<WIDE>();
        if !wide.is_empty() {
            // SAFETY: there is a level, hence AVX-512 F.
            self.state[12] = unsafe { in_lanes(&self.state, keep, wide) };
        }
        if let Some(three) = rest.first_chunk_mut::<3>() {
            // SAFETY: as above.
            self.state[12] = unsafe { in_rows(&self.state, keep, three) };
        } else if let Some(two) = rest.first_chunk_mut::<2>() {
            // SAFETY: as above.
            self.state[12] = unsafe { in_rows(&self.state, keep, two) };
        } else if let Some(one) = rest.first_chunk_mut::<1>() {
            // SAFETY: as above.
            self.state[12] = unsafe { in_rows(&self.state, keep, one) };
        }
    }
}

impl Zeroize for ChaCha20 {
    #[inline]
    fn zeroize(&mut self) {
        self.state.zeroize();
    }
}

impl Drop for ChaCha20 {
    #[inline]
    fn drop(&mut self) {
        self.zeroize();
    }
}

#[inline(always)]
fn read_words(words: &mut [u32], bytes: &[u8]) {
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
}

/// Four rows of the state, each of `N` vectors.
type Rows<const N: usize> = [[__m512i; N]; 4];

/// Works on sixteen blocks at a time, each in a lane of its own, and gives the number of the block that comes next.
#[target_feature(enable = "avx512f")]
#[inline(never)]
fn in_lanes(state: &[u32; 16], keep: __mmask16, groups: &mut [[Group; WIDE]]) -> u32 {
    let lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    let mut counter = _mm512_add_epi32(everywhere(state[12]), lanes);
    for group in groups {
        let first = [
            [everywhere(state[0]), everywhere(state[1]), everywhere(state[2]), everywhere(state[3])],
            [everywhere(state[4]), everywhere(state[5]), everywhere(state[6]), everywhere(state[7])],
            [everywhere(state[8]), everywhere(state[9]), everywhere(state[10]), everywhere(state[11])],
            [counter, everywhere(state[13]), everywhere(state[14]), everywhere(state[15])],
        ];
        let mut rows = first;
        for _ in 0..10 {
            let [a, [b0, b1, b2, b3], [c0, c1, c2, c3], [d0, d1, d2, d3]] = quarter_rounds(rows);
            // The diagonals: each word stays where it is, only its place among the four changes.
            let turned = [a, [b1, b2, b3, b0], [c2, c3, c0, c1], [d3, d0, d1, d2]];
            let [a, [b1, b2, b3, b0], [c2, c3, c0, c1], [d3, d0, d1, d2]] = quarter_rounds(turned);
            rows = [a, [b0, b1, b2, b3], [c0, c1, c2, c3], [d0, d1, d2, d3]];
        }
        let [a, b, c, d] = plus(rows, &first);
        let ([a0, a1, a2, a3], [b0, b1, b2, b3]) = (four_blocks(a), four_blocks(b));
        let ([c0, c1, c2, c3], [d0, d1, d2, d3]) = (four_blocks(c), four_blocks(d));
        // Each of these has every fourth block.
        let [e0, e4, e8, e12] = whole_blocks([a0, b0, c0, d0]);
        let [e1, e5, e9, e13] = whole_blocks([a1, b1, c1, d1]);
        let [e2, e6, e10, e14] = whole_blocks([a2, b2, c2, d2]);
        let [e3, e7, e11, e15] = whole_blocks([a3, b3, c3, d3]);
        let [first, second, third, fourth] = group;
        put(keep, first, &[e0, e1, e2, e3]);
        put(keep, second, &[e4, e5, e6, e7]);
        put(keep, third, &[e8, e9, e10, e11]);
        put(keep, fourth, &[e12, e13, e14, e15]);
        counter = _mm512_add_epi32(counter, everywhere(16));
    }
    _mm512_cvtsi512_si32(counter).cast_unsigned()
}

/// Works on `N` groups at once, each row of a group in a vector, and gives the number of the block that comes next.
#[target_feature(enable = "avx512f")]
#[inline(never)]
fn in_rows<const N: usize>(state: &[u32; 16], keep: __mmask16, groups: &mut [Group; N]) -> u32 {
    // SAFETY: exactly the bytes of the array are read, and no alignment is asked for.
    let state = unsafe { _mm512_loadu_si512(state.as_ptr().cast()) };
    let mut counter = _mm512_add_epi32(
        _mm512_shuffle_i32x4::<0xff>(state, state),
        _mm512_setr_epi32(0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0),
    );
    let mut first = [
        [_mm512_shuffle_i32x4::<0x00>(state, state); N],
        [_mm512_shuffle_i32x4::<0x55>(state, state); N],
        [_mm512_shuffle_i32x4::<0xaa>(state, state); N],
        [counter; N],
    ];
    for row in &mut first[3] {
        *row = counter;
        counter =
            _mm512_add_epi32(counter, _mm512_setr_epi32(4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0));
    }
    let mut rows = first;
    for _ in 0..10 {
        // The second row is ready last, so that the others are turned.
        let [mut a, b, mut c, mut d] = quarter_rounds(rows);
        turn::<3, N>(&mut a);
        turn::<1, N>(&mut c);
        turn::<2, N>(&mut d);
        rows = quarter_rounds([a, b, c, d]);
        let [a, _, c, d] = &mut rows;
        turn::<1, N>(a);
        turn::<3, N>(c);
        turn::<2, N>(d);
    }
    let [a, b, c, d] = plus(rows, &first);
    for ((((group, a), b), c), d) in groups.iter_mut().zip(&a).zip(&b).zip(&c).zip(&d) {
        put(keep, group, &whole_blocks([*a, *b, *c, *d]));
    }
    _mm512_cvtsi512_si32(counter).cast_unsigned()
}

/// Four quarter rounds side by side for each vector of a row (RFC 8439 section 2.1).
#[target_feature(enable = "avx512f")]
#[inline]
fn quarter_rounds<const N: usize>([mut a, mut b, mut c, mut d]: Rows<N>) -> Rows<N> {
    step::<16, N>(&mut a, &b, &mut d);
    step::<12, N>(&mut c, &d, &mut b);
    step::<8, N>(&mut a, &b, &mut d);
    step::<7, N>(&mut c, &d, &mut b);
    [a, b, c, d]
}

/// Adds, and rotates what the sum is XORed into.
#[target_feature(enable = "avx512f")]
#[inline]
fn step<const BITS: i32, const N: usize>(
    sum: &mut [__m512i; N],
    add: &[__m512i; N],
    turn: &mut [__m512i; N],
) {
    for ((sum, add), turn) in sum.iter_mut().zip(add).zip(turn) {
        *sum = _mm512_add_epi32(*sum, *add);
        *turn = _mm512_rol_epi32::<BITS>(_mm512_xor_si512(*turn, *sum));
    }
}

/// Turns the four words of each row by so many places.
#[target_feature(enable = "avx512f")]
#[inline]
fn turn<const PLACES: i32, const N: usize>(row: &mut [__m512i; N]) {
    for vector in row {
        *vector = match PLACES {
            1 => _mm512_shuffle_epi32::<0b00_11_10_01>(*vector),
            2 => _mm512_shuffle_epi32::<0b01_00_11_10>(*vector),
            _ => _mm512_shuffle_epi32::<0b10_01_00_11>(*vector),
        };
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn plus<const N: usize>(mut rows: Rows<N>, first: &Rows<N>) -> Rows<N> {
    for (row, first) in rows.iter_mut().zip(first) {
        for (word, first) in row.iter_mut().zip(first) {
            *word = _mm512_add_epi32(*word, *first);
        }
    }
    rows
}

/// Four words of sixteen blocks, as a row of four blocks in each vector: of every fourth, from the first to the fourth on.
#[target_feature(enable = "avx512f")]
#[inline]
fn four_blocks([w0, w1, w2, w3]: [__m512i; 4]) -> [__m512i; 4] {
    let (low, high) = (_mm512_unpacklo_epi32(w0, w1), _mm512_unpackhi_epi32(w0, w1));
    let (next_low, next_high) = (_mm512_unpacklo_epi32(w2, w3), _mm512_unpackhi_epi32(w2, w3));
    [
        _mm512_unpacklo_epi64(low, next_low),
        _mm512_unpackhi_epi64(low, next_low),
        _mm512_unpacklo_epi64(high, next_high),
        _mm512_unpackhi_epi64(high, next_high),
    ]
}

/// The four rows of four blocks, as a block in each vector.
#[target_feature(enable = "avx512f")]
#[inline]
fn whole_blocks([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
    let (low, high) = (_mm512_shuffle_i32x4::<0x44>(a, b), _mm512_shuffle_i32x4::<0xee>(a, b));
    let (next_low, next_high) = (_mm512_shuffle_i32x4::<0x44>(c, d), _mm512_shuffle_i32x4::<0xee>(c, d));
    [
        _mm512_shuffle_i32x4::<0x88>(low, next_low),
        _mm512_shuffle_i32x4::<0xdd>(low, next_low),
        _mm512_shuffle_i32x4::<0x88>(high, next_high),
        _mm512_shuffle_i32x4::<0xdd>(high, next_high),
    ]
}

/// Writes a group of keystream: over what stands there, or XORed into as much of it as is kept.
#[target_feature(enable = "avx512f")]
#[inline]
fn put(keep: __mmask16, group: &mut Group, keystream: &[__m512i; 4]) {
    const { assert!(BLOCK_BYTES == size_of::<__m512i>() && GROUP_BYTES == size_of::<[__m512i; 4]>()) };
    for (block, keystream) in group.as_chunks_mut::<BLOCK_BYTES>().0.iter_mut().zip(keystream) {
        // SAFETY: at most the bytes of the block are read, and no alignment is asked for.
        let kept = unsafe { _mm512_maskz_loadu_epi32(keep, block.as_ptr().cast()) };
        // SAFETY: exactly the bytes of the block are written, and no alignment is asked for.
        unsafe { _mm512_storeu_si512(block.as_mut_ptr().cast(), _mm512_xor_si512(kept, *keystream)) };
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn everywhere(word: u32) -> __m512i {
    _mm512_set1_epi32(word.cast_signed())
}
