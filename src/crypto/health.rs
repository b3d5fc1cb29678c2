//! Health tests of the kernel's random bytes: NIST SP 800-90B, 4.4.1 and 4.4.2, and one for seeds that come twice.
//!
//! Owns `Health`, which each generator has for itself, the tests at the start (`starts`), and the process's counts of seeds.
//! Invariants: every byte of every seed is looked at, in order, before the seed is used; what is kept of a seed is its last
//! byte, at most one byte to compare with, and a one-way fingerprint; a source that fails at the start is not asked again.
//!
//! **Cutoffs.** The source is a generator of the kernel whose bytes have full entropy: H = 8 bits in each sample of
//! one byte. The chance of a false alarm is set to alpha = 2^-64 for each test and sample, stricter than the 2^-20 to
//! 2^-40 that SP 800-90B names, because a refused seed keeps a server from answering: 2^20 seeds of 32 bytes in a second,
//! more than 63 workers can draw, would give one false alarm in about 17,000 years, and it would last until the next seed.
//! - Repetition count: C = 1 + ceil(-log2(alpha) / H) = 1 + 64 / 8 = 9 equal bytes in a row.
//! - Adaptive proportion: C = 1 + critbinom(512, 2^-H, 1 - alpha) = 26 times the first byte of a window of 512 samples.
//! - The same seed twice in a row (the tests above do not see a source that repeats a varied seed, SP 800-90B 4.5 asks
//!   for tests of what may well happen: the copy of a machine): 64 bits of a fingerprint are compared.
//!
//! **At the start** (SP 800-90B 4.3) the same tests go over 1,024 samples, which are thrown away, before the first one is used.
//!
//! They find a source that is stuck or grossly biased. They cannot tell good bytes from bytes that somebody computes.

use core::sync::atomic::{AtomicU64, Ordering};

use zeroize::zeroize_bytes;

use super::hash;
use super::random::{SEED_BYTES, SeedSource};
use crate::limits::{
    ENTROPY_PROPORTION_MAX_COUNT, ENTROPY_PROPORTION_WINDOW_COUNT, ENTROPY_REPETITION_MAX_COUNT,
    ENTROPY_START_COUNT,
};

/// Separates the fingerprint from every other use of SHA-256.
const FINGERPRINT_LABEL: &[u8] = b"quantonium/random/fingerprint/v1\0";

static REFUSED: AtomicU64 = AtomicU64::new(0);
static ADMITTED: AtomicU64 = AtomicU64::new(0);

/// How many seeds this process has refused.
#[must_use]
pub fn refused_seeds() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

/// How many seeds this process has admitted.
#[must_use]
pub fn admitted_seeds() -> u64 {
    ADMITTED.load(Ordering::Relaxed)
}

/// Whether a source passes the tests at the start. Its samples are used for nothing else.
pub(super) fn starts(source: &mut impl SeedSource) -> bool {
    let mut health = Health::default();
    let mut seed = [0; SEED_BYTES];
    // Every sample goes through, also behind one that failed.
    let failed = (0..ENTROPY_START_COUNT.div_ceil(SEED_BYTES))
        .filter(|_| source.fill(&mut seed).is_err() || !health.admits(&seed))
        .count();
    zeroize_bytes(&mut seed);
    failed == 0
}

/// What the tests remember of the samples of one source.
#[derive(Default)]
pub(super) struct Health {
    /// The newest sample, and how often it stood there in a row; 0 before the first one.
    last: u8,
    run: usize,
    /// The first sample of the window, how many samples the window has, and how many are like the first.
    first: u8,
    seen: usize,
    alike: usize,
    fingerprint: Option<[u8; 8]>,
}

impl Health {
    /// Whether a seed passes; one that does not is counted.
    pub(super) fn admits(&mut self, seed: &[u8]) -> bool {
        // Every sample goes through both tests, also behind one that failed.
        let sound = seed.iter().filter(|sample| !self.sample_is_sound(**sample)).count() == 0;
        let fresh = self.is_fresh(seed);
        let count = if sound && fresh { &ADMITTED } else { &REFUSED };
        count.fetch_add(1, Ordering::Relaxed);
        sound && fresh
    }

    fn sample_is_sound(&mut self, sample: u8) -> bool {
        let repeats = self.repeats(sample);
        let prevails = self.prevails(sample);
        !repeats && !prevails
    }

    /// The repetition count test.
    fn repeats(&mut self, sample: u8) -> bool {
        self.run = if self.run > 0 && self.last == sample { self.run.saturating_add(1) } else { 1 };
        self.last = sample;
        self.run >= ENTROPY_REPETITION_MAX_COUNT
    }

    /// The adaptive proportion test. A window that failed is given up, so that a source that mends itself is used again.
    fn prevails(&mut self, sample: u8) -> bool {
        if self.seen == 0 {
            (self.first, self.alike) = (sample, 0);
        }
        self.seen += 1;
        self.alike += usize::from(sample == self.first);
        let prevails = self.alike >= ENTROPY_PROPORTION_MAX_COUNT;
        if prevails || self.seen >= ENTROPY_PROPORTION_WINDOW_COUNT {
            self.seen = 0;
        }
        prevails
    }

    fn is_fresh(&mut self, seed: &[u8]) -> bool {
        let digest = hash::sha256(&[FINGERPRINT_LABEL, seed]);
        let fingerprint = digest.first_chunk().copied();
        let fresh = fingerprint.is_some() && self.fingerprint != fingerprint;
        self.fingerprint = fingerprint;
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SplitMix64 (Steele, Lea, Flood 2014): varied bytes, the same every time.
    fn varied(seed: u64) -> impl Iterator<Item = u8> {
        let mut state = seed;
        core::iter::repeat_with(move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)).to_be_bytes()[0]
        })
    }

    /// The tails of the binomial distribution, in logarithms to base 2.
    fn log2_at_least(wanted: usize, samples: usize, p: f64) -> f64 {
        let choose = |k: usize| -> f64 {
            (0..k)
                .map(|i| {
                    let (above, below) = (u32::try_from(samples - i), u32::try_from(i + 1));
                    (f64::from(above.unwrap()) / f64::from(below.unwrap())).log2()
                })
                .sum()
        };
        let term = |k: usize| {
            let (hits, misses) = (u32::try_from(k).unwrap(), u32::try_from(samples - k).unwrap());
            choose(k) + f64::from(hits) * p.log2() + f64::from(misses) * (1.0 - p).log2()
        };
        let largest = term(wanted);
        largest + (wanted..=samples).map(|k| (term(k) - largest).exp2()).sum::<f64>().log2()
    }

    #[test]
    fn the_cutoffs_are_those_of_the_standard_for_full_entropy_and_two_to_the_minus_64() {
        assert_eq!(ENTROPY_REPETITION_MAX_COUNT, 1 + 64 / 8);
        let tail = |count| log2_at_least(count, ENTROPY_PROPORTION_WINDOW_COUNT, 1.0 / 256.0);
        let critical = (0..512).find(|count| tail(count + 1) <= -64.0).unwrap();
        assert_eq!(ENTROPY_PROPORTION_MAX_COUNT, 1 + critical);
    }

    #[test]
    fn bytes_in_a_row_are_refused_at_the_cutoff_and_not_before() {
        for (count, admitted) in
            [(ENTROPY_REPETITION_MAX_COUNT - 1, true), (ENTROPY_REPETITION_MAX_COUNT, false)]
        {
            let mut seed: Vec<u8> = varied(7).filter(|byte| *byte != 0xA7).take(32).collect();
            seed[11..11 + count].fill(0xA7);
            assert_eq!(Health::default().admits(&seed), admitted, "{count}");
        }
    }

    #[test]
    fn a_row_of_equal_bytes_is_counted_across_seeds() {
        let mut health = Health::default();
        let mut seed: Vec<u8> = varied(8).filter(|byte| *byte != 3).take(32).collect();
        seed[27..].fill(3);
        assert!(health.admits(&seed));
        let mut next: Vec<u8> = varied(9).filter(|byte| *byte != 3).take(32).collect();
        next[..4].fill(3);
        assert!(!health.admits(&next), "5 and 4 in a row");
    }

    #[test]
    fn a_byte_that_comes_too_often_in_a_window_is_refused_without_ever_standing_twice_in_a_row() {
        for (count, admitted) in
            [(ENTROPY_PROPORTION_MAX_COUNT - 1, true), (ENTROPY_PROPORTION_MAX_COUNT, false)]
        {
            let mut window: Vec<u8> =
                varied(1).filter(|byte| *byte != 9).take(ENTROPY_PROPORTION_WINDOW_COUNT).collect();
            window.iter_mut().step_by(19).take(count).for_each(|byte| *byte = 9);
            let mut health = Health::default();
            assert_eq!(window.chunks(32).all(|seed| health.admits(seed)), admitted, "{count}");
        }
    }

    #[test]
    fn a_window_ends_after_its_samples() {
        let mut health = Health::default();
        let mut stream: Vec<u8> =
            varied(2).filter(|byte| *byte != 9).take(2 * ENTROPY_PROPORTION_WINDOW_COUNT).collect();
        stream.iter_mut().step_by(25).for_each(|byte| *byte = 9);
        assert!(stream.iter().filter(|byte| **byte == 9).count() > ENTROPY_PROPORTION_MAX_COUNT);
        assert!(stream.chunks(32).all(|seed| health.admits(seed)));
    }

    #[test]
    fn a_source_that_gives_one_varied_seed_for_ever_is_refused_at_the_second() {
        let seed: Vec<u8> = varied(3).take(32).collect();
        let mut health = Health::default();
        assert!(health.admits(&seed));
        let before = refused_seeds();
        assert!(!health.admits(&seed) && !health.admits(&seed));
        assert!(refused_seeds() >= before + 2);
    }

    #[test]
    fn a_source_that_is_stuck_is_refused_until_it_moves_again() {
        let mut health = Health::default();
        for _ in 0..100 {
            assert!(!health.admits(&[0; 32]));
        }
        let mut moved = varied(4);
        assert!((0..64).all(|_| health.admits(&moved.by_ref().take(32).collect::<Vec<u8>>())));
    }

    /// Varied bytes, and from seed number `stuck_at` on always the same.
    struct Source<I> {
        varied: I,
        stuck_at: usize,
        asked: usize,
    }

    impl<I: Iterator<Item = u8>> SeedSource for Source<I> {
        fn fill(&mut self, seed: &mut [u8; SEED_BYTES]) -> Result<(), super::super::Error> {
            if self.asked < self.stuck_at {
                seed.iter_mut().zip(&mut self.varied).for_each(|(byte, varied)| *byte = varied);
            }
            self.asked += 1;
            Ok(())
        }
    }

    #[test]
    fn a_start_looks_at_as_many_samples_as_the_standard_asks_for() {
        let last = ENTROPY_START_COUNT / SEED_BYTES - 1;
        for (stuck_at, passes) in [(0, false), (1, false), (last, false), (last + 1, true)] {
            let mut source = Source { varied: varied(6), stuck_at, asked: 0 };
            assert_eq!(starts(&mut source), passes, "{stuck_at}");
            assert_eq!(source.asked * SEED_BYTES, 1_024, "all of them, whatever the first ones were");
        }
        struct Silent;
        impl SeedSource for Silent {
            fn fill(&mut self, _seed: &mut [u8; SEED_BYTES]) -> Result<(), super::super::Error> {
                Err(super::super::Error::Entropy)
            }
        }
        assert!(!starts(&mut Silent));
    }

    #[test]
    fn seeds_are_counted_as_they_are_judged() {
        let mut health = Health::default();
        let before = (admitted_seeds(), refused_seeds());
        assert!(health.admits(&varied(10).take(32).collect::<Vec<u8>>()));
        assert!(!health.admits(&[7; 32]));
        // Other tests count at the same time.
        assert!(admitted_seeds() > before.0 && refused_seeds() > before.1);
    }

    #[test]
    fn varied_bytes_are_never_refused() {
        let mut health = Health::default();
        let mut source = varied(5);
        for seed in 0..100_000 {
            let bytes: Vec<u8> = source.by_ref().take(32).collect();
            assert!(health.admits(&bytes), "seed {seed}");
        }
    }
}
