//! The crypto floor: bytes in, bytes out, no I/O apart from the kernel's random source.
//!
//! Owns every primitive of the program: [`aead`] with its [`cipher`] and its [`authenticator`], [`mac`], [`hash`], [`kdf`], the generator in [`random`] and the tests of its seeds in [`health`]; what is
//! built on them: [`stream`], [`keystream`], the ciphertext forms in [`envelope`] and the form of a
//! [`signature`]; and the known answers of [`selftest`] that are checked before the program serves. Invariants: a failed open says only that it failed and leaves nothing behind; key material is wiped
//! when it goes out of use; nothing here panics on any input.

pub mod aead;
pub mod authenticator;
#[cfg(target_arch = "x86_64")]
mod chacha20_x86;
pub mod cipher;
pub mod envelope;
pub mod hash;
pub mod health;
pub mod kdf;
pub mod keystream;
pub mod mac;
#[cfg(target_arch = "x86_64")]
mod poly1305_x86;
pub mod random;
pub mod selftest;
pub mod signature;
pub mod stream;

use core::fmt;

/// Why an operation of this floor gave no result. It never says more than the caller may tell a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A ciphertext, tag or signature is not authentic. The reason is not told apart.
    Rejected,
    /// A nonce, message, context or output has a length that the algorithm does not allow.
    Length,
    /// Key version 0, which no key has.
    Version,
    /// No further chunk may follow in this stream.
    Ended,
    /// The kernel gave no randomness.
    Entropy,
    /// A known answer came out wrong.
    SelfTest(selftest::Failure),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected => f.write_str("authentication failed"),
            Self::Length => f.write_str("length not allowed"),
            Self::Version => f.write_str("no such key version"),
            Self::Ended => f.write_str("the stream has ended"),
            Self::Entropy => f.write_str("no randomness available"),
            Self::SelfTest(failure) => fmt::Display::fmt(failure, f),
        }
    }
}

impl std::error::Error for Error {}
