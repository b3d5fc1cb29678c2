//! Authenticated encryption: ChaCha20-Poly1305 (RFC 8439 section 2.8) and XChaCha20-Poly1305
//! (draft-irtf-cfrg-xchacha-03), in place, with a detached tag and without heap allocation.
//!
//! Owns the composition of [`super::cipher`] and the MAC of [`super::authenticator`]. Invariants: no plaintext is written before its tag was
//! verified; a failed [`open`] leaves `data` all zeros; key, one-time key and keystream are wiped before return.
//!
//! The order of work follows how those two are fast. The stream cipher gives groups of four blocks, best of all four
//! of them at once, and its block 0, which is the key of the MAC, comes with the first group.
//! A long message goes through in pieces of [`limits::AEAD_PIECE_BYTES`], so that the MAC finds in the cache what the
//! cipher wrote.

use core::fmt;

use chacha20::{R20, hchacha};
use subtle::ConstantTimeEq as _;
use zeroize::{zeroize_bytes, zeroize_stack};

use super::Error;
use super::authenticator::{self, Authenticator};
use super::cipher::{self, BLOCK_BYTES, Cipher, GROUP_BYTES};
use crate::limits;

/// Length of a key.
pub const KEY_BYTES: usize = 32;
/// Length of a tag.
pub const TAG_BYTES: usize = 16;

/// Keystream drawn at once for a long message: what each back-end makes most quickly.
const STREAM_BUFFER_BYTES: usize = 4 * GROUP_BYTES;
/// Keystream drawn for a message that one group covers.
const SMALL_BUFFER_BYTES: usize = GROUP_BYTES;
/// The longest such message: block 0 is the key of the MAC.
const SMALL_MESSAGE_BYTES: usize = SMALL_BUFFER_BYTES - BLOCK_BYTES;

/// An AEAD construction. Both have 32-byte keys and 16-byte tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 8439, nonces of 12 bytes.
    ChaCha20Poly1305,
    /// draft-irtf-cfrg-xchacha-03, nonces of 24 bytes.
    XChaCha20Poly1305,
}

impl Algorithm {
    /// Length of the nonce in bytes.
    #[must_use]
    pub const fn nonce_len(self) -> usize {
        match self {
            Self::ChaCha20Poly1305 => 12,
            Self::XChaCha20Poly1305 => 24,
        }
    }
}

/// What computes both parts of an AEAD. Every pair gives the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backends {
    /// The stream cipher.
    pub cipher: cipher::Backend,
    /// The MAC.
    pub mac: authenticator::Backend,
}

impl Backends {
    /// The fastest of this machine.
    #[inline]
    #[must_use]
    pub fn fastest() -> Self {
        Self { cipher: cipher::Backend::fastest(), mac: authenticator::Backend::fastest() }
    }

    /// Every pair that this machine can run, the fastest first, the portable one last.
    pub fn all() -> impl Iterator<Item = Self> {
        let macs = |cipher| authenticator::Backend::all().map(move |mac| Self { cipher, mac });
        cipher::Backend::all().flat_map(macs)
    }
}

impl fmt::Display for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cipher {}, MAC {}", self.cipher.name(), self.mac.name())
    }
}

/// Encrypts `data` in place and returns its tag.
///
/// A nonce must never be used twice with one key.
///
/// # Errors
/// [`Error::Length`] if the nonce does not have [`Algorithm::nonce_len`] bytes or `data` more than
/// [`limits::AEAD_MESSAGE_MAX_BYTES`]; `data` is then unchanged.
pub fn seal(
    algorithm: Algorithm,
    key: &[u8; KEY_BYTES],
    nonce: &[u8],
    aad: &[u8],
    data: &mut [u8],
) -> Result<[u8; TAG_BYTES], Error> {
    seal_by(Backends::fastest(), algorithm, key, nonce, aad, data)
}

/// [`seal`] by back-ends of the caller's choice.
///
/// # Errors
/// As [`seal`].
pub fn seal_by(
    backends: Backends,
    algorithm: Algorithm,
    key: &[u8; KEY_BYTES],
    nonce: &[u8],
    aad: &[u8],
    data: &mut [u8],
) -> Result<[u8; TAG_BYTES], Error> {
    let mut subkey = [0u8; KEY_BYTES];
    let (key, nonce) = schedule(algorithm, key, nonce, data.len(), &mut subkey)?;
    let tag = if data.len() <= SMALL_MESSAGE_BYTES {
        seal_with::<SMALL_BUFFER_BYTES>(backends, key, &nonce, aad, data)
    } else {
        seal_with::<STREAM_BUFFER_BYTES>(backends, key, &nonce, aad, data)
    };
    zeroize_bytes(&mut subkey);
    Ok(tag)
}

/// Verifies `tag` and decrypts `data` in place.
///
/// # Errors
/// [`Error::Rejected`] if the tag does not fit key, nonce, associated data and ciphertext, [`Error::Length`] as
/// for [`seal`]; `data` is then all zeros.
pub fn open(
    algorithm: Algorithm,
    key: &[u8; KEY_BYTES],
    nonce: &[u8],
    aad: &[u8],
    data: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), Error> {
    open_by(Backends::fastest(), algorithm, key, nonce, aad, data, tag)
}

/// [`open`] by back-ends of the caller's choice.
///
/// # Errors
/// As [`open`].
pub fn open_by(
    backends: Backends,
    algorithm: Algorithm,
    key: &[u8; KEY_BYTES],
    nonce: &[u8],
    aad: &[u8],
    data: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), Error> {
    let mut subkey = [0u8; KEY_BYTES];
    let opened = schedule(algorithm, key, nonce, data.len(), &mut subkey).and_then(|(key, nonce)| {
        if data.len() <= SMALL_MESSAGE_BYTES {
            open_with::<SMALL_BUFFER_BYTES>(backends, key, &nonce, aad, data, tag)
        } else {
            open_with::<STREAM_BUFFER_BYTES>(backends, key, &nonce, aad, data, tag)
        }
    });
    zeroize_bytes(&mut subkey);
    if opened.is_err() {
        zeroize_bytes(data);
    }
    opened
}

/// Checks the lengths and gives the key and the 96-bit nonce for the cipher; `subkey` is room for a derived key.
#[inline]
fn schedule<'a>(
    algorithm: Algorithm,
    key: &'a [u8; KEY_BYTES],
    nonce: &[u8],
    message_len: usize,
    subkey: &'a mut [u8; KEY_BYTES],
) -> Result<(&'a [u8; KEY_BYTES], [u8; 12]), Error> {
    if message_len as u64 > limits::AEAD_MESSAGE_MAX_BYTES {
        return Err(Error::Length);
    }
    match algorithm {
        Algorithm::ChaCha20Poly1305 => Ok((key, nonce.try_into().map_err(|_| Error::Length)?)),
        Algorithm::XChaCha20Poly1305 => {
            let nonce = extend_nonce(key, nonce.try_into().map_err(|_| Error::Length)?, subkey)?;
            Ok((subkey, nonce))
        }
    }
}

/// The key and the nonce under which ChaCha20 is XChaCha20 (draft-irtf-cfrg-xchacha-03 section 2.3).
#[inline]
pub(super) fn extend_nonce(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; 24],
    subkey: &mut [u8; KEY_BYTES],
) -> Result<[u8; 12], Error> {
    let (input, end) = nonce.split_first_chunk::<16>().ok_or(Error::Length)?;
    let mut derived = hchacha::<R20>(key.into(), input.into());
    subkey.copy_from_slice(&derived);
    zeroize_bytes(&mut derived);
    // Four zero bytes, then the last eight of the nonce.
    let mut short = [0u8; 12];
    short.split_at_mut(4).1.copy_from_slice(end);
    Ok(short)
}

/// Seals with a keystream buffer of `N` bytes. A message longer than the first draw needs the wide buffer.
#[inline(never)]
fn seal_with<const N: usize>(
    backends: Backends,
    key: &[u8; KEY_BYTES],
    nonce: &[u8; 12],
    aad: &[u8],
    data: &mut [u8],
) -> [u8; TAG_BYTES] {
    let mut cipher = Cipher::new(backends.cipher, key, nonce);
    let mut keystream = [0u8; N];
    let drawn = draw(&mut cipher, &mut keystream, BLOCK_BYTES + data.len());
    let mut mac = Authenticator::new(backends.mac, mac_key(&keystream));
    mac.absorb(aad);
    let (first, rest) = data.split_at_mut(data.len().min(N - BLOCK_BYTES));
    xor(first, keystream.split_at(BLOCK_BYTES).1);
    mac.absorb(first);
    if N == STREAM_BUFFER_BYTES {
        let (groups, last) = split_groups(rest);
        for piece in groups.chunks_mut(limits::AEAD_PIECE_BYTES) {
            cipher.apply(piece.as_chunks_mut().0);
            mac.absorb(piece);
        }
        if !last.is_empty() {
            draw(&mut cipher, &mut keystream, last.len());
            xor(last, &keystream);
            mac.absorb(last);
        }
    }
    wipe(keystream.split_at_mut(drawn).0, N, backends.cipher);
    mac.finish(aad.len(), data.len())
}

/// Verifies, then decrypts, with a keystream buffer of `N` bytes as in [`seal_with`].
#[inline(never)]
fn open_with<const N: usize>(
    backends: Backends,
    key: &[u8; KEY_BYTES],
    nonce: &[u8; 12],
    aad: &[u8],
    data: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Result<(), Error> {
    let mut cipher = Cipher::new(backends.cipher, key, nonce);
    let mut keystream = [0u8; N];
    let drawn = draw(&mut cipher, &mut keystream, BLOCK_BYTES + data.len());
    let mut mac = Authenticator::new(backends.mac, mac_key(&keystream));
    mac.absorb(aad);
    mac.absorb(data);
    let mut expected = mac.finish(aad.len(), data.len());
    let authentic = bool::from(expected.ct_eq(tag));
    // The right tag of a forgery must not be found on the stack either.
    zeroize_bytes(&mut expected);
    if authentic {
        let (first, rest) = data.split_at_mut(data.len().min(N - BLOCK_BYTES));
        xor(first, keystream.split_at(BLOCK_BYTES).1);
        if N == STREAM_BUFFER_BYTES {
            let (groups, last) = split_groups(rest);
            cipher.apply(groups.as_chunks_mut().0);
            if !last.is_empty() {
                draw(&mut cipher, &mut keystream, last.len());
                xor(last, &keystream);
            }
        }
    }
    wipe(keystream.split_at_mut(drawn).0, N, backends.cipher);
    if authentic { Ok(()) } else { Err(Error::Rejected) }
}

/// Draws keystream to the front of the buffer: `len` bytes rounded up to whole groups, but no more than it holds.
///
/// Returns how much of the buffer was written.
#[inline]
fn draw(cipher: &mut Cipher, buffer: &mut [u8], len: usize) -> usize {
    let len = len.next_multiple_of(GROUP_BYTES).min(buffer.len());
    cipher.draw(buffer.split_at_mut(len).0.as_chunks_mut().0);
    len
}

/// Wipes what was drawn, and what the functions of the cipher may have spilled to their own frames just below.
#[inline(always)]
fn wipe(keystream: &mut [u8], buffer_len: usize, cipher: cipher::Backend) {
    zeroize_bytes(keystream);
    if buffer_len == STREAM_BUFFER_BYTES {
        cipher.wipe_frames();
    } else {
        zeroize_stack::<512>();
    }
}

/// The one-time key of the MAC: the first half of block 0 (RFC 8439 section 2.6).
#[inline]
fn mac_key(keystream: &[u8]) -> &[u8; 32] {
    // Every buffer holds at least a group of blocks, so the other branch is never taken.
    keystream.first_chunk().unwrap_or(&[0; 32])
}

/// What goes through the widest path of the cipher, and what is left.
#[inline]
fn split_groups(rest: &mut [u8]) -> (&mut [u8], &mut [u8]) {
    rest.split_at_mut(rest.len() - rest.len() % STREAM_BUFFER_BYTES)
}

#[inline]
fn xor(data: &mut [u8], keystream: &[u8]) {
    let (blocks, tail) = data.as_chunks_mut::<TAG_BYTES>();
    let (stream, _) = keystream.as_chunks::<TAG_BYTES>();
    let mut stream = stream.iter();
    for (block, keystream) in blocks.iter_mut().zip(stream.by_ref()) {
        for (byte, key) in block.iter_mut().zip(keystream) {
            *byte ^= key;
        }
    }
    for (byte, key) in tail.iter_mut().zip(stream.flatten()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Algorithm; 2] = [Algorithm::ChaCha20Poly1305, Algorithm::XChaCha20Poly1305];
    const KEY: [u8; KEY_BYTES] = [0x42; KEY_BYTES];

    /// RFC 8439 appendix A.5: a ciphertext to be opened, with a nonce whose first bytes are zero.
    #[test]
    fn rfc_8439_appendix_a_5_opens() {
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap()).collect()
        };
        let key = hex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0");
        let mut data = hex(
            "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0\
             bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c855\
             9797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e9\
             9040c5a40433225ee282a1b0a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a\
             0bb2316053fa76991955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130\
             305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709b",
        );
        open(
            Algorithm::ChaCha20Poly1305,
            key.as_slice().try_into().unwrap(),
            &hex("000000000102030405060708"),
            &hex("f33388860000000000004e91"),
            &mut data,
            hex("eead9d67890cbb22392336fea1851f38").as_slice().try_into().unwrap(),
        )
        .unwrap();
        assert!(data.starts_with(b"Internet-Drafts are draft documents valid for a maximum of six months"));
        assert_eq!(data.len(), 265);
    }

    #[test]
    fn a_nonce_of_another_length_is_refused() {
        for algorithm in BOTH {
            for len in (0..40).filter(|len| *len != algorithm.nonce_len()) {
                let mut data = *b"plaintext";
                assert_eq!(seal(algorithm, &KEY, &vec![0; len], b"", &mut data), Err(Error::Length));
                assert_eq!(&data, b"plaintext");
                let opened = open(algorithm, &KEY, &vec![0; len], b"", &mut data, &[0; TAG_BYTES]);
                assert_eq!(opened, Err(Error::Length));
                assert_eq!(data, [0; 9]);
            }
        }
    }

    #[test]
    fn a_failed_open_clears_its_output() {
        for algorithm in BOTH {
            let nonce = vec![7; algorithm.nonce_len()];
            for len in [0, 1, 191, 192, 193, 960, 961, 20_000] {
                let mut data = vec![1; len];
                let mut tag = seal(algorithm, &KEY, &nonce, b"aad", &mut data).unwrap();
                tag[0] ^= 1;
                assert_eq!(open(algorithm, &KEY, &nonce, b"aad", &mut data, &tag), Err(Error::Rejected));
                assert_eq!(data, vec![0; len]);
            }
        }
    }

    #[test]
    fn the_two_algorithms_do_not_open_one_another() {
        let nonce = [7; 24];
        let mut data = *b"plaintext";
        let tag = seal(Algorithm::XChaCha20Poly1305, &KEY, &nonce, b"", &mut data).unwrap();
        let opened = open(Algorithm::ChaCha20Poly1305, &KEY, &nonce[..12], b"", &mut data, &tag);
        assert_eq!(opened, Err(Error::Rejected));
    }
}
