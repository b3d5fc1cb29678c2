//! The stream cipher: ChaCha20 with a counter of 32 bits and a nonce of 96 bits (RFC 8439 section 2.4).
//!
//! Owns the choice between what computes it: `chacha20_x86` where the processor has what that needs, else the crate
//! `chacha20`, which has back-ends of its own and is also what the other is held against. Both give the same bytes;
//! [`Backend`] names one, so that tests reach all of a machine. Both are fast in groups of four blocks or more, and slow
//! in single ones: nothing less than a group can be asked for. Invariant of the callers: the counter never passes its end
//! (`limits::AEAD_MESSAGE_MAX_BYTES`, `limits::KEYSTREAM_MAX_BYTES`, `limits::RESEED_AFTER_BYTES`); here it would
//! begin again at 0.

use core::fmt;
use std::sync::OnceLock;

use chacha20::cipher::{KeyIvInit as _, StreamCipherCore as _};
use chacha20::variants::Ietf;
use chacha20::{ChaChaCore, R20};
use zeroize::zeroize_stack;

#[cfg(target_arch = "x86_64")]
use super::chacha20_x86;
use crate::limits;

/// Length of a block of keystream.
pub const BLOCK_BYTES: usize = 64;
/// Length of a group: four blocks.
pub const GROUP_BYTES: usize = 4 * BLOCK_BYTES;

/// Four blocks.
pub type Group = [u8; GROUP_BYTES];

type Core = ChaChaCore<R20, Ietf>;
type StreamBlock = chacha20::cipher::Block<Core>;

/// What computes the stream cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    X86(chacha20_x86::Level),
}

impl Backend {
    /// The fastest of this machine. The processor is asked once; that takes no system call.
    #[inline]
    #[must_use]
    pub fn fastest() -> Self {
        static FASTEST: OnceLock<Backend> = OnceLock::new();
        *FASTEST.get_or_init(|| Self::all().next().unwrap_or(Self(Kind::Portable)))
    }

    /// Every one that this machine can run, the fastest first, the portable one last.
    pub fn all() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let own = chacha20_x86::Level::find().map(|level| Self(Kind::X86(level)));
        #[cfg(not(target_arch = "x86_64"))]
        let own = None;
        own.into_iter().chain([Self(Kind::Portable)])
    }

    /// Wipes what its functions may have left of keystream and key in frames below the caller's, where those of a call just were.
    ///
    /// How deep these are was read off the machine code; it depends on the compiler, so this is best effort.
    #[inline(always)]
    pub(super) fn wipe_frames(self) {
        match self.0 {
            Kind::Portable => zeroize_stack::<{ limits::CIPHER_FRAMES_BYTES }>(),
            #[cfg(target_arch = "x86_64")]
            Kind::X86(_) => zeroize_stack::<{ limits::CIPHER_LANES_FRAMES_BYTES }>(),
        }
    }

    /// Its name: `avx512` or `portable`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::X86(_) => "avx512",
        }
    }
}

/// A keystream under way.
pub struct Cipher(State);

enum State {
    Portable(Core),
    #[cfg(target_arch = "x86_64")]
    X86(chacha20_x86::ChaCha20),
}

/// What becomes of the bytes that stand where keystream goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// They are overwritten.
    Draw,
    /// It is XORed into them.
    Apply,
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cipher").finish_non_exhaustive()
    }
}

impl Cipher {
    /// The keystream of a key and a nonce from block 0 on.
    #[inline]
    #[must_use]
    pub fn new(backend: Backend, key: &[u8; 32], nonce: &[u8; 12]) -> Self {
        Self::at(backend, key, nonce, 0)
    }

    /// The same from another block on.
    #[inline]
    #[must_use]
    pub fn at(backend: Backend, key: &[u8; 32], nonce: &[u8; 12], block: u32) -> Self {
        Self(match backend.0 {
            Kind::Portable => {
                let mut core = Core::new(key.into(), nonce.into());
                core.set_block_pos(block);
                State::Portable(core)
            }
            #[cfg(target_arch = "x86_64")]
            Kind::X86(level) => State::X86(chacha20_x86::ChaCha20::new(level, key, nonce, block)),
        })
    }

    /// Writes the next groups of keystream over what stands there.
    #[inline]
    pub fn draw(&mut self, groups: &mut [Group]) {
        self.run(Task::Draw, groups);
    }

    /// XORs the next groups of keystream into what stands there.
    #[inline]
    pub fn apply(&mut self, groups: &mut [Group]) {
        self.run(Task::Apply, groups);
    }

    #[inline]
    fn run(&mut self, task: Task, groups: &mut [Group]) {
        match &mut self.0 {
            State::Portable(core) => {
                let (blocks, _) = StreamBlock::slice_as_chunks_mut(groups.as_flattened_mut());
                match task {
                    Task::Draw => core.write_keystream_blocks(blocks),
                    Task::Apply => core.apply_keystream_blocks(blocks),
                }
            }
            #[cfg(target_arch = "x86_64")]
            State::X86(own) => own.run(task, groups),
        }
    }
}
