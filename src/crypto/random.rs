//! Random bytes: a generator by fast key erasure on ChaCha20 (Bernstein, "Fast-key-erasure random-number
//! generators", 2017), seeded and reseeded from the kernel.
//!
//! Owns [`Generator`], one for each thread that needs randomness, and the seam [`SeedSource`]. Invariants:
//! every key makes keystream once and is overwritten by the front of it; bytes are erased from the pool as
//! they are handed out, so that a later look at the memory gives away nothing that was handed out before; a
//! seed is mixed with the key that stands, so that a bad one makes nothing worse; a seed that fails the tests of
//! [`super::health`] is not used at all; when a seed is due and cannot be had, there is no output.
//!
//! **Forks.** Two processes that go on from one state would hand out the same bytes. This program makes its
//! generators after its last fork and cannot fork later: `fork` is an unsafe call, which this crate forbids
//! outside the few files that `tests/tidy.rs` lists, and after lock-down the filters kill a thread that tries.
//! Comparing process ids would cost a system call, which the filters would then have to allow, and notices a
//! fork only at the next seed, which ends the danger anyway. Code that ever does duplicate a process (the
//! snapshot of a virtual machine is outside of its sight) must call [`Generator::reseed`] in the copy first.

use core::fmt;
use std::sync::OnceLock;

use zeroize::zeroize_bytes;

use super::cipher::{self, Cipher, GROUP_BYTES};
use super::health::{self, Health};
use super::{Error, hash};
use crate::clock::Moment;
use crate::limits;
use crate::metrics::process::ENTROPY;
use crate::secret::Locked;

/// Length of a seed and of a key.
pub const SEED_BYTES: usize = 32;

/// Separates the hash that mixes seeds from every other use of SHA-256.
const RESEED_LABEL: &[u8] = b"quantonium/random/reseed/v1\0";

/// Where seeds come from.
pub trait SeedSource {
    /// Fills `seed` with fresh randomness.
    ///
    /// # Errors
    /// [`Error::Entropy`] if there is none; `seed` is then not used.
    fn fill(&mut self, seed: &mut [u8; SEED_BYTES]) -> Result<(), Error>;
}

/// The kernel's random source, `getrandom(2)`, which waits until the kernel's own pool was seeded once. Whoever asks it
/// first has it tested ([`start_up`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct Kernel;

impl SeedSource for Kernel {
    fn fill(&mut self, seed: &mut [u8; SEED_BYTES]) -> Result<(), Error> {
        start_up()?;
        Raw.fill(seed)
    }
}

/// The same, as it is.
struct Raw;

impl SeedSource for Raw {
    fn fill(&mut self, seed: &mut [u8; SEED_BYTES]) -> Result<(), Error> {
        getrandom::fill(seed).map_err(|_| Error::Entropy)
    }
}

/// Puts the kernel's random bytes through the health tests of a start, once for the process; later calls tell how that ended.
///
/// # Errors
/// [`Error::Entropy`] if they fail: then nothing is ever drawn from it.
pub fn start_up() -> Result<(), Error> {
    static PASSED: OnceLock<bool> = OnceLock::new();
    PASSED.get_or_init(|| health::starts(&mut Raw)).then_some(()).ok_or(Error::Entropy)
}

/// Draws a key for which there is no generator yet: one tested seed of the kernel.
///
/// # Errors
/// [`Error::Entropy`] if the kernel has no healthy seed; `key` is then all zeros.
pub fn draw_key(key: &mut [u8; SEED_BYTES]) -> Result<(), Error> {
    let drawn = Kernel.fill(key);
    let drawn = drawn.and_then(|()| Health::default().admits(key).then_some(()).ok_or(Error::Entropy));
    if drawn.is_err() {
        zeroize_bytes(key);
    }
    drawn
}

/// A generator of random bytes for one thread.
pub struct Generator<S = Kernel> {
    source: S,
    health: Health,
    /// In key memory, where moving the generator leaves no copy behind.
    state: Locked<State>,
    seeded_at: Moment,
    /// Bytes handed out since the last seed.
    served: usize,
}

impl<S: SeedSource> Generator<S> {
    /// A generator with its first seed.
    ///
    /// # Errors
    /// [`Error::Entropy`] if the source has no healthy seed.
    pub fn new(source: S, now: Moment) -> Result<Self, Error> {
        let mut generator = Self {
            source,
            health: Health::default(),
            state: Locked::new(State::ZERO),
            seeded_at: now,
            served: 0,
        };
        generator.reseed(now)?;
        Ok(generator)
    }

    /// Fills `target` with random bytes.
    ///
    /// # Errors
    /// [`Error::Entropy`] if a seed is due ([`limits::RESEED_AFTER_MILLIS`], [`limits::RESEED_AFTER_BYTES`])
    /// and the source has no healthy one; `target` is then all zeros. The next call tries again.
    pub fn fill(&mut self, now: Moment, target: &mut [u8]) -> Result<(), Error> {
        let filled = self.fill_between_seeds(now, target);
        if filled.is_err() {
            zeroize_bytes(target);
        }
        filled
    }

    /// `N` random bytes.
    ///
    /// # Errors
    /// As for [`Generator::fill`].
    pub fn array<const N: usize>(&mut self, now: Moment) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.fill(now, &mut bytes)?;
        Ok(bytes)
    }

    /// Mixes a fresh seed into the key, whether one is due or not.
    ///
    /// # Errors
    /// [`Error::Entropy`] if the source has none, or gave one that is not healthy; the state is then unchanged.
    pub fn reseed(&mut self, now: Moment) -> Result<(), Error> {
        let mut seed = [0; SEED_BYTES];
        let drawn = self.source.fill(&mut seed);
        let drawn = drawn.and_then(|()| self.health.admits(&seed).then_some(()).ok_or(Error::Entropy));
        match drawn {
            Ok(()) => ENTROPY.reseeds.add_shared(1),
            Err(_) => ENTROPY.failures.add_shared(1),
        }
        if drawn.is_ok() {
            self.state.mix(&seed);
            self.seeded_at = now;
            self.served = 0;
        }
        zeroize_bytes(&mut seed);
        drawn
    }

    fn fill_between_seeds(&mut self, now: Moment, target: &mut [u8]) -> Result<(), Error> {
        let mut rest = target;
        while !rest.is_empty() {
            let age = now.nanos_since(self.seeded_at);
            if self.served >= limits::RESEED_AFTER_BYTES || age >= limits::RESEED_AFTER_MILLIS * 1_000_000 {
                self.reseed(now)?;
            }
            let len = rest.len().min(limits::RESEED_AFTER_BYTES - self.served);
            let (piece, later) = rest.split_at_mut(len);
            self.state.fill(piece);
            self.served += len;
            rest = later;
        }
        Ok(())
    }
}

impl<S> fmt::Debug for Generator<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Generator(redacted)")
    }
}

/// Key and pool.
struct State {
    key: [u8; SEED_BYTES],
    pool: [u8; limits::RANDOM_POOL_BYTES],
    /// Where the pool's bytes begin that were not handed out yet; everything before is zero.
    next: usize,
}

impl State {
    const ZERO: Self =
        Self { key: [0; SEED_BYTES], pool: [0; limits::RANDOM_POOL_BYTES], next: limits::RANDOM_POOL_BYTES };

    /// Replaces the key by a hash of itself and `seed`: unknown as long as either of the two is. The pool goes.
    fn mix(&mut self, seed: &[u8; SEED_BYTES]) {
        let mut mixed = hash::sha256(&[RESEED_LABEL, &self.key, seed]);
        self.key.copy_from_slice(&mixed);
        zeroize_bytes(&mut mixed);
        zeroize_bytes(&mut self.pool);
        self.next = self.pool.len();
    }

    fn fill(&mut self, target: &mut [u8]) {
        if target.len() < limits::RANDOM_DIRECT_MIN_BYTES {
            self.take(target);
            return;
        }
        let (groups, rest) = target.split_at_mut(target.len() - target.len() % GROUP_BYTES);
        let mut once = [0; SEED_BYTES];
        self.take(&mut once);
        keystream(&once, groups);
        zeroize_bytes(&mut once);
        self.take(rest);
    }

    /// Hands out bytes of the pool and erases them there.
    fn take(&mut self, target: &mut [u8]) {
        let mut rest = target;
        while !rest.is_empty() {
            if self.next >= self.pool.len() {
                self.refill();
            }
            let (_, ready) = self.pool.split_at_mut(self.next);
            let len = ready.len().min(rest.len());
            let (given, _) = ready.split_at_mut(len);
            let (place, later) = rest.split_at_mut(len);
            place.copy_from_slice(given);
            zeroize_bytes(given);
            self.next += len;
            rest = later;
        }
    }

    /// Draws a new pool; its front becomes the next key.
    fn refill(&mut self) {
        keystream(&self.key, &mut self.pool);
        let (key, _) = self.pool.split_at_mut(SEED_BYTES);
        self.key.copy_from_slice(key);
        zeroize_bytes(key);
        self.next = SEED_BYTES;
    }
}

impl Drop for State {
    fn drop(&mut self) {
        zeroize_bytes(&mut self.key);
        zeroize_bytes(&mut self.pool);
    }
}

/// Fills whole groups of blocks with the keystream of a key that is used this once, hence the constant nonce.
fn keystream(key: &[u8; SEED_BYTES], target: &mut [u8]) {
    let backend = cipher::Backend::fastest();
    let mut cipher = Cipher::new(backend, key, &[0; 12]);
    cipher.draw(target.as_chunks_mut().0);
    drop(cipher);
    // A key that is found later, in a frame of the cipher, would tell what it made.
    backend.wipe_frames();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out the seeds of a script, each counted up from its byte; `None` is a failure.
    struct Script(std::collections::VecDeque<Option<u8>>);

    impl Script {
        fn new(seeds: impl IntoIterator<Item = Option<u8>>) -> Self {
            Self(seeds.into_iter().collect())
        }
    }

    impl SeedSource for Script {
        fn fill(&mut self, seed: &mut [u8; SEED_BYTES]) -> Result<(), Error> {
            let first = self.0.pop_front().flatten().ok_or(Error::Entropy)?;
            seed.iter_mut().zip(0u8..).for_each(|(byte, count)| *byte = first.wrapping_add(count));
            Ok(())
        }
    }

    const START: Moment = Moment::from_nanos(1_000);

    #[test]
    fn a_source_without_entropy_gives_no_generator() {
        assert_eq!(Generator::new(Script::new([None]), START).err(), Some(Error::Entropy));
    }

    #[test]
    fn a_seed_that_is_due_by_time_and_fails_gives_no_output_until_it_comes() {
        let mut generator = Generator::new(Script::new([Some(1), None, None, Some(2)]), START).unwrap();
        let mut last = START.plus_millis(limits::RESEED_AFTER_MILLIS);
        last = Moment::from_nanos(last.as_nanos() - 1);
        assert!(generator.array::<32>(last).is_ok());
        let due = START.plus_millis(limits::RESEED_AFTER_MILLIS);
        for _ in 0..2 {
            let mut target = [0xEE; 48];
            assert_eq!(generator.fill(due, &mut target), Err(Error::Entropy));
            assert_eq!(target, [0; 48]);
        }
        assert!(generator.array::<32>(due).is_ok());
        assert!(generator.source.0.is_empty());
    }

    #[test]
    fn a_seed_is_due_after_its_bytes_also_inside_one_request() {
        let mut generator = Generator::new(Script::new([Some(1), Some(2)]), START).unwrap();
        let mut target = vec![0; 2 * limits::RESEED_AFTER_BYTES];
        generator.fill(START, &mut target).unwrap();
        assert!(generator.source.0.is_empty());
        let mut one_more = [0xEE; 1];
        assert_eq!(generator.fill(START, &mut one_more), Err(Error::Entropy));
        assert_eq!(one_more, [0]);

        let mut generator = Generator::new(Script::new([Some(1)]), START).unwrap();
        let mut target = vec![0xEE; limits::RESEED_AFTER_BYTES + 1];
        assert_eq!(generator.fill(START, &mut target), Err(Error::Entropy));
        assert!(target.iter().all(|byte| *byte == 0), "the part before the failed seed is not given out");
    }

    #[test]
    fn a_seed_that_is_not_healthy_is_as_good_as_none() {
        let mut generator = Generator::new(Script::new([Some(1), Some(1), Some(2)]), START).unwrap();
        let key = generator.state.key;
        let due = START.plus_millis(limits::RESEED_AFTER_MILLIS);
        let mut target = [0xEE; 48];
        assert_eq!(generator.fill(due, &mut target), Err(Error::Entropy), "the same seed again");
        assert_eq!((target, generator.state.key), ([0; 48], key));
        assert!(generator.array::<32>(due).is_ok());

        struct Stuck;
        impl SeedSource for Stuck {
            fn fill(&mut self, _seed: &mut [u8; SEED_BYTES]) -> Result<(), Error> {
                Ok(())
            }
        }
        assert_eq!(Generator::new(Stuck, START).err(), Some(Error::Entropy), "the first seed, too");
    }

    #[test]
    fn a_seed_never_replaces_the_key_alone() {
        let mut one = Generator::new(Script::new([Some(1), Some(9)]), START).unwrap();
        let mut two = Generator::new(Script::new([Some(2), Some(9)]), START).unwrap();
        one.reseed(START).unwrap();
        two.reseed(START).unwrap();
        assert_ne!(one.array::<32>(START).unwrap(), two.array::<32>(START).unwrap());
    }

    #[test]
    fn a_copied_state_parts_ways_at_its_own_seed() {
        let mut parent = Generator::new(Script::new([Some(1), Some(2)]), START).unwrap();
        let mut child = Generator::new(Script::new([Some(1), Some(3)]), START).unwrap();
        assert_eq!(parent.array::<32>(START).unwrap(), child.array::<32>(START).unwrap());
        child.reseed(START).unwrap();
        assert_ne!(parent.array::<32>(START).unwrap(), child.array::<32>(START).unwrap());
    }

    #[test]
    fn bytes_are_erased_as_they_are_handed_out() {
        let mut generator = Generator::new(Script::new([Some(1)]), START).unwrap();
        let first = generator.array::<40>(START).unwrap();
        assert_ne!(first, [0; 40]);
        let next = generator.state.next;
        assert_eq!(next, SEED_BYTES + 40);
        assert!(generator.state.pool[..next].iter().all(|byte| *byte == 0));
        assert!(generator.state.pool[next..].iter().any(|byte| *byte != 0));
        let before = generator.state.key;
        let mut rest = vec![0; limits::RANDOM_POOL_BYTES];
        generator.state.take(&mut rest);
        assert_ne!(generator.state.key, before, "a drawn pool leaves another key behind");
    }

    #[test]
    fn no_stretch_of_output_repeats() {
        let mut generator = Generator::new(Script::new((1..=8).map(Some)), START).unwrap();
        let mut seen = std::collections::HashSet::new();
        for len in [1024, 16, 4096, 992, 1023, 1025, 65_536, 300, 2048] {
            let mut target = vec![0; len];
            generator.fill(START, &mut target).unwrap();
            for stretch in target.chunks_exact(16) {
                assert!(seen.insert(stretch.to_vec()), "request of {len} bytes");
            }
        }
    }

    #[test]
    fn a_key_without_a_generator_is_drawn_from_the_tested_source() {
        let mut keys = [[0; SEED_BYTES]; 2];
        for key in &mut keys {
            let before = health::admitted_seeds();
            draw_key(key).unwrap();
            assert!(health::admitted_seeds() > before);
        }
        assert!(keys[0] != keys[1] && keys[0] != [0; SEED_BYTES] && start_up().is_ok());
    }

    #[test]
    fn the_kernel_gives_different_seeds() {
        let mut one = Generator::new(Kernel, START).unwrap();
        let mut two = Generator::new(Kernel, START).unwrap();
        assert_ne!(one.array::<32>(START).unwrap(), two.array::<32>(START).unwrap());
    }

    #[test]
    fn debug_shows_no_state() {
        let generator = Generator::new(Script::new([Some(0xA5)]), START).unwrap();
        assert_eq!(format!("{generator:?}"), "Generator(redacted)");
    }
}
