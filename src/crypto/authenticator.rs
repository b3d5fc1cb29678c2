//! The MAC of the AEADs: Poly1305 over the padded sections of RFC 8439 section 2.8.
//!
//! Owns the choice between what computes it: `poly1305_x86` where the processor has what that needs, else the crate
//! `poly1305`, which is also what the other is held against. Each gives the same tags; [`Backend`] names one, so that
//! tests reach all of a machine. The crate is fed groups of 4 blocks from the first to the last byte, whatever the
//! length of the associated data: what does not fill a group waits in a stage of 64 bytes.

use core::fmt;
use std::sync::OnceLock;

use poly1305::universal_hash::{KeyInit as _, UniversalHash as _};
use poly1305::{Block, Poly1305};

use super::aead::TAG_BYTES;
#[cfg(target_arch = "x86_64")]
use super::poly1305_x86;

/// The crate is fed this many blocks at a time.
const GROUP_BLOCKS: usize = 4;

/// What computes the MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    X86(poly1305_x86::Level),
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
        let own = poly1305_x86::Level::all().map(|level| Self(Kind::X86(level)));
        #[cfg(not(target_arch = "x86_64"))]
        let own = core::iter::empty();
        own.chain([Self(Kind::Portable)])
    }

    /// Its name: `avx512-ifma`, `avx2` or `portable`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::X86(level) => level.name(),
        }
    }
}

/// A MAC under way.
pub struct Authenticator(State);

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").finish_non_exhaustive()
    }
}

#[cfg_attr(
    target_arch = "x86_64",
    expect(
        clippy::large_enum_variant,
        reason = "it lies on the stack for one message, whose keys a box would leave on the heap"
    )
)]
enum State {
    Portable(Staged),
    #[cfg(target_arch = "x86_64")]
    X86(poly1305_x86::Poly1305),
}

impl Authenticator {
    /// A MAC under a key that is used this once: r and what is added at the end (RFC 8439 section 2.5).
    #[inline]
    #[must_use]
    pub fn new(backend: Backend, key: &[u8; 32]) -> Self {
        Self(match backend.0 {
            Kind::Portable => State::Portable(Staged::new(key)),
            #[cfg(target_arch = "x86_64")]
            Kind::X86(level) => State::X86(poly1305_x86::Poly1305::new(level, key)),
        })
    }

    /// Takes bytes and pads them with zeros to a whole block: only the last piece of a section may need that.
    #[inline]
    pub fn absorb(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Portable(staged) => staged.absorb(bytes),
            #[cfg(target_arch = "x86_64")]
            State::X86(poly) => poly.absorb(bytes),
        }
    }

    /// Takes the lengths of both sections and gives the tag.
    #[inline]
    pub fn finish(&mut self, aad_len: usize, data_len: usize) -> [u8; TAG_BYTES] {
        let lengths = (aad_len as u128 | (data_len as u128) << 64).to_le_bytes();
        match &mut self.0 {
            State::Portable(staged) => staged.finish(&lengths),
            #[cfg(target_arch = "x86_64")]
            State::X86(poly) => poly.finish(&lengths),
        }
    }
}

/// The crate, fed in groups.
struct Staged {
    poly: Poly1305,
    stage: [Block; GROUP_BLOCKS],
    staged: usize,
}

impl Staged {
    #[inline]
    fn new(key: &[u8; 32]) -> Self {
        Self { poly: Poly1305::new(key.into()), stage: [Block::default(); GROUP_BLOCKS], staged: 0 }
    }

    #[inline]
    fn absorb(&mut self, bytes: &[u8]) {
        let (mut blocks, partial) = Block::slice_as_chunks(bytes);
        while self.staged != 0
            && let Some((block, later)) = blocks.split_first()
        {
            self.push(block);
            blocks = later;
        }
        let (groups, later) = blocks.split_at(blocks.len() - blocks.len() % GROUP_BLOCKS);
        feed(&mut self.poly, groups);
        for block in later {
            self.push(block);
        }
        if !partial.is_empty() {
            let mut padded = Block::default();
            for (to, from) in padded.iter_mut().zip(partial) {
                *to = *from;
            }
            self.push(&padded);
        }
    }

    #[inline]
    fn push(&mut self, block: &Block) {
        if let Some(place) = self.stage.get_mut(self.staged) {
            *place = *block;
            self.staged += 1;
        }
        if self.staged == GROUP_BLOCKS {
            feed(&mut self.poly, &self.stage);
            self.staged = 0;
        }
    }

    #[inline]
    fn finish(&mut self, last: &[u8; 16]) -> [u8; TAG_BYTES] {
        self.push(last.into());
        feed(&mut self.poly, self.stage.split_at(self.staged).0);
        self.poly.clone().finalize().into()
    }
}

/// The only place that calls the block function: it is inlined here, which keeps the state in registers from
/// block to block. Called from several places it stays a function that loads and stores five limbs each time.
#[inline(never)]
fn feed(poly: &mut Poly1305, blocks: &[Block]) {
    poly.update(blocks);
}
