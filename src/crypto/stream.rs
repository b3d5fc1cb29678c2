//! The stream form: a ciphertext of any length, sealed and opened chunk by chunk.
//!
//! Owns the header, the derivation of the file key and the rules of chunks; `docs/FORMATS.md` has them byte by
//! byte. A stream is [`HEADER_BYTES`] of header (magic, key version, salt, commitment) and then chunks, each a
//! ciphertext of ChaCha20-Poly1305 (RFC 8439) and its tag, under the nonce
//! `number of the chunk (88 bits) || 1 for the last chunk, else 0`. Every chunk but the last carries exactly
//! [`CHUNK_BYTES`], the last one 1 to [`CHUNK_BYTES`], or nothing if it is the only one.
//!
//! The file key comes from HKDF-SHA256 (RFC 5869) over the version's `sub` key and the random salt; magic,
//! version, context and associated data are part of its `info`, so that a stream opens only with all of
//! them. The other half of the same output is the commitment: a stream opens under one key only.
//!
//! Invariants: no two chunks are sealed under one nonce; nothing is sealed or opened after the last chunk or
//! after a failure to open; a failed open leaves only zeros; the file key lives in one allocation per
//! stream, made once and wiped when dropped, and no chunk allocates. Where the input ends is for the caller to
//! know: it holds a full chunk back until more comes or the input ends.

use core::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::zeroize_bytes;

use super::aead::{self, Algorithm, KEY_BYTES, TAG_BYTES};
use super::{Error, hash, kdf};
use crate::secret::Secret;

/// First bytes of a stream: three letters and the format's number.
pub const MAGIC: &[u8; 4] = b"QNS\x01";
/// Length of the salt.
pub const SALT_BYTES: usize = 16;
/// Length of the header: magic, key version, salt, commitment.
pub const HEADER_BYTES: usize = MAGIC.len() + VERSION_BYTES + SALT_BYTES + COMMITMENT_BYTES;
/// Plaintext of every chunk but the last.
pub const CHUNK_BYTES: usize = 65_536;
/// Such a chunk when it is sealed.
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

const VERSION_BYTES: usize = 4;
const COMMITMENT_BYTES: usize = 32;
const NONCE_BYTES: usize = 12;
const LABEL: &[u8] = b"quantonium/stream/v1\0";

/// What a stream is bound to besides its key: it opens only with the same bytes in both places.
#[derive(Clone, Copy, Debug, Default)]
pub struct Binding<'a> {
    /// The context of a derived key; empty for other keys.
    pub context: &'a [u8],
    /// The caller's associated data; empty without any.
    pub associated_data: &'a [u8],
}

/// The key version that a header names, so that its key can be found; nothing has been authenticated yet.
///
/// Nothing, if this is not the header of a stream or names version 0, which no key has.
#[must_use]
pub fn header_version(header: &[u8; HEADER_BYTES]) -> Option<u32> {
    Header::parse(header).map(|header| header.version)
}

/// Length of the stream of `plaintext` bytes; nothing on overflow.
#[must_use]
pub const fn sealed_len(plaintext: u64) -> Option<u64> {
    let chunks = if plaintext == 0 { 1 } else { plaintext.div_ceil(CHUNK_BYTES as u64) };
    // No overflow here: there are 2^48 chunks at most.
    plaintext.checked_add(HEADER_BYTES as u64 + chunks * TAG_BYTES as u64)
}

/// Length of the plaintext of a stream of `sealed` bytes; nothing for a length that no stream has.
#[must_use]
pub const fn opened_len(sealed: u64) -> Option<u64> {
    let Some(chunks) = sealed.checked_sub(HEADER_BYTES as u64) else { return None };
    let full = chunks / SEALED_CHUNK_BYTES as u64;
    let last = chunks % SEALED_CHUNK_BYTES as u64;
    match last.checked_sub(TAG_BYTES as u64) {
        None if last == 0 && full > 0 => Some(full * CHUNK_BYTES as u64),
        Some(0) if full > 0 => None,
        Some(last) => Some(full * CHUNK_BYTES as u64 + last),
        None => None,
    }
}

/// Seals the chunks of one stream, in their order.
pub struct Sealer(Chunks);

impl Sealer {
    /// Begins a stream under the `sub` key of `version`; returns the header, which goes out first.
    ///
    /// `salt` is random and new for each stream: with an old one and the same binding, nonces would repeat.
    ///
    /// # Errors
    /// [`Error::Version`] for version 0; [`Error::Length`] for a context of 2^32 bytes or more.
    pub fn new(
        sub: &[u8; KEY_BYTES],
        version: u32,
        salt: [u8; SALT_BYTES],
        binding: Binding<'_>,
    ) -> Result<(Self, [u8; HEADER_BYTES]), Error> {
        if version == 0 {
            return Err(Error::Version);
        }
        let (key, commitment) = derive(sub, version, &salt, binding)?;
        let header = Header { version, salt, commitment }.write();
        Ok((Self(Chunks::new(key)), header))
    }

    /// Encrypts `chunk` in place and returns its tag, which follows it in the stream.
    ///
    /// # Errors
    /// [`Error::Length`] if a chunk of this length must not stand here, [`Error::Ended`] after the last chunk, or
    /// if this one could have no successor. Neither changes `chunk` or the stream.
    pub fn seal(&mut self, chunk: &mut [u8], last: bool) -> Result<[u8; TAG_BYTES], Error> {
        let Place { nonce, next } = self.0.place(chunk.len(), last)?;
        let tag = self.0.key.with(|key| aead::seal(Algorithm::ChaCha20Poly1305, key, &nonce, &[], chunk))?;
        self.0.next = next;
        Ok(tag)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealer(next: {:?}, redacted)", self.0.next)
    }
}

/// Opens the chunks of one stream, in their order.
pub struct Opener {
    chunks: Chunks,
    finished: bool,
}

impl Opener {
    /// Begins with a header, under the `sub` key of the version that [`header_version`] tells.
    ///
    /// # Errors
    /// [`Error::Rejected`] if this is no header, or was made with another key, version, salt or binding;
    /// [`Error::Length`] for a context of 2^32 bytes or more.
    pub fn new(
        sub: &[u8; KEY_BYTES],
        header: &[u8; HEADER_BYTES],
        binding: Binding<'_>,
    ) -> Result<Self, Error> {
        let header = Header::parse(header).ok_or(Error::Rejected)?;
        let (key, mut expected) = derive(sub, header.version, &header.salt, binding)?;
        let committed = bool::from(expected.ct_eq(&header.commitment));
        zeroize_bytes(&mut expected);
        if committed { Ok(Self { chunks: Chunks::new(key), finished: false }) } else { Err(Error::Rejected) }
    }

    /// Verifies a chunk with its tag and decrypts it in place; returns the plaintext, the front of `sealed`.
    ///
    /// `last` says that the input ends with this chunk. Only a chunk that was sealed as the last one opens then.
    ///
    /// # Errors
    /// [`Error::Rejected`] if this is not the chunk of this stream that must stand here, [`Error::Ended`] after
    /// the last chunk, after a failure, and at the end of the counter. `sealed` is then all zeros, and no
    /// further chunk opens.
    pub fn open<'a>(&mut self, sealed: &'a mut [u8], last: bool) -> Result<&'a mut [u8], Error> {
        let opened = self.open_in_place(sealed, last);
        if let Err(error) = opened {
            zeroize_bytes(sealed);
            self.chunks.next = None;
            return Err(error);
        }
        self.finished = last;
        // It was long enough to be opened, so that it holds a tag.
        Ok(sealed.split_last_chunk_mut::<TAG_BYTES>().ok_or(Error::Rejected)?.0)
    }

    /// Whether the last chunk was opened: without it, what came so far is not the whole stream.
    #[must_use]
    pub const fn is_finished(&self) -> bool {
        self.finished
    }

    fn open_in_place(&mut self, sealed: &mut [u8], last: bool) -> Result<(), Error> {
        let Some((chunk, tag)) = sealed.split_last_chunk_mut::<TAG_BYTES>() else {
            return Err(if self.chunks.next.is_none() { Error::Ended } else { Error::Rejected });
        };
        let place = self.chunks.place(chunk.len(), last);
        // A length that no chunk may have here is a forgery like any other.
        let Place { nonce, next } = place.map_err(|error| match error {
            Error::Length => Error::Rejected,
            other => other,
        })?;
        self.chunks.key.with(|key| aead::open(Algorithm::ChaCha20Poly1305, key, &nonce, &[], chunk, tag))?;
        self.chunks.next = next;
        Ok(())
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Opener(next: {:?}, finished: {}, redacted)", self.chunks.next, self.finished)
    }
}

/// The fields of a header.
struct Header {
    version: u32,
    salt: [u8; SALT_BYTES],
    commitment: [u8; COMMITMENT_BYTES],
}

impl Header {
    fn parse(header: &[u8; HEADER_BYTES]) -> Option<Self> {
        let (version, rest) = header.strip_prefix(MAGIC)?.split_first_chunk::<VERSION_BYTES>()?;
        let (salt, commitment) = rest.split_first_chunk::<SALT_BYTES>()?;
        let version = u32::from_be_bytes(*version);
        (version != 0).then_some(Self { version, salt: *salt, commitment: commitment.try_into().ok()? })
    }

    fn write(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let version = self.version.to_be_bytes();
        let bytes = MAGIC.iter().chain(&version).chain(&self.salt).chain(&self.commitment);
        for (to, from) in header.iter_mut().zip(bytes) {
            *to = *from;
        }
        header
    }
}

/// The file key and the commitment to it.
fn derive(
    sub: &[u8; KEY_BYTES],
    version: u32,
    salt: &[u8; SALT_BYTES],
    binding: Binding<'_>,
) -> Result<(Secret<KEY_BYTES>, [u8; COMMITMENT_BYTES]), Error> {
    let Binding { context, associated_data } = binding;
    let context_len = u32::try_from(context.len()).map_err(|_| Error::Length)?.to_be_bytes();
    let data_len = (associated_data.len() as u64).to_be_bytes();
    let data_hash = hash::sha256(&[associated_data]);
    let version = version.to_be_bytes();
    let info: [&[u8]; 7] = [LABEL, MAGIC, &version, &context_len, context, &data_len, &data_hash];
    let mut okm = [0; KEY_BYTES + COMMITMENT_BYTES];
    let derived = kdf::derive(salt, sub, &info, &mut okm);
    let mut commitment = [0; COMMITMENT_BYTES];
    let key = derived.and_then(|()| {
        Secret::try_fill(|key| {
            let (first, second) = okm.split_at(KEY_BYTES);
            key.copy_from_slice(first);
            commitment.copy_from_slice(second);
            Ok(())
        })
    });
    zeroize_bytes(&mut okm);
    Ok((key?, commitment))
}

/// What sealing and opening share: the file key, and the number of the next chunk unless none may follow.
struct Chunks {
    key: Secret<KEY_BYTES>,
    next: Option<u64>,
}

/// The nonce of a chunk, and the number of the one after it.
struct Place {
    nonce: [u8; NONCE_BYTES],
    next: Option<u64>,
}

impl Chunks {
    const fn new(key: Secret<KEY_BYTES>) -> Self {
        Self { key, next: Some(0) }
    }

    /// The place of the next chunk, if one with `len` bytes of plaintext may stand there.
    fn place(&self, len: usize, last: bool) -> Result<Place, Error> {
        let number = self.next.ok_or(Error::Ended)?;
        let fits = if last { len <= CHUNK_BYTES && (len > 0 || number == 0) } else { len == CHUNK_BYTES };
        if !fits {
            return Err(Error::Length);
        }
        let next = if last { None } else { Some(number.checked_add(1).ok_or(Error::Ended)?) };
        // 88 bits of the number, of which 64 are used, and the flag.
        let shifted = u128::from(number) << 8 | u128::from(last);
        let bytes = shifted.to_be_bytes();
        let nonce = *bytes.last_chunk().ok_or(Error::Length)?;
        Ok(Place { nonce, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUB: [u8; 32] = [0x42; 32];
    const SALT: [u8; 16] = [0x17; 16];

    fn binding() -> Binding<'static> {
        Binding { context: b"tenant 7", associated_data: b"order 47" }
    }

    fn pair() -> (Sealer, Opener) {
        let (sealer, header) = Sealer::new(&SUB, 3, SALT, binding()).unwrap();
        (sealer, Opener::new(&SUB, &header, binding()).unwrap())
    }

    fn seal(sealer: &mut Sealer, plaintext: &[u8], last: bool) -> Vec<u8> {
        let mut chunk = plaintext.to_vec();
        let tag = sealer.seal(&mut chunk, last).unwrap();
        [chunk.as_slice(), &tag].concat()
    }

    #[test]
    fn the_counter_does_not_wrap() {
        let (mut sealer, mut opener) = pair();
        sealer.0.next = Some(u64::MAX - 1);
        opener.chunks.next = Some(u64::MAX - 1);
        let mut before = seal(&mut sealer, &[1; CHUNK_BYTES], false);
        let mut chunk = vec![2; CHUNK_BYTES];
        assert_eq!(sealer.seal(&mut chunk, false), Err(Error::Ended));
        assert_eq!(chunk, [2; CHUNK_BYTES], "a refused chunk is not changed");
        let mut last = seal(&mut sealer, b"the last of all", true);
        assert_eq!(sealer.seal(&mut [3], true), Err(Error::Ended));

        assert_eq!(opener.open(&mut before, false).unwrap(), [1; CHUNK_BYTES]);
        assert_eq!(opener.open(&mut last, true).unwrap(), b"the last of all");
        let mut spent = pair().1;
        spent.chunks.next = Some(u64::MAX);
        assert_eq!(spent.open(&mut vec![0; SEALED_CHUNK_BYTES], false), Err(Error::Ended));
    }

    #[test]
    fn chunk_lengths_that_the_form_does_not_have_are_refused_unchanged() {
        let (mut sealer, _) = pair();
        for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES + 1] {
            let mut chunk = vec![7; len];
            assert_eq!(sealer.seal(&mut chunk, false), Err(Error::Length), "{len}");
            assert!(chunk.iter().all(|byte| *byte == 7));
        }
        assert_eq!(sealer.seal(&mut vec![7; CHUNK_BYTES + 1], true), Err(Error::Length));
        assert!(sealer.seal(&mut vec![7; CHUNK_BYTES], false).is_ok());
        assert_eq!(sealer.seal(&mut [], true), Err(Error::Length), "an empty last chunk after another");
        assert!(sealer.seal(&mut [7], true).is_ok());
        assert_eq!(sealer.seal(&mut [7], true), Err(Error::Ended));
        assert!(pair().0.seal(&mut [], true).is_ok(), "an empty stream");
    }

    /// Under keys that fit: only the rule keeps out an empty last chunk that follows another.
    #[test]
    fn an_empty_last_chunk_with_a_right_tag_opens_only_alone() {
        let (mut sealer, mut opener) = pair();
        let mut first = seal(&mut sealer, &[1; CHUNK_BYTES], false);
        let mut nonce = [0; NONCE_BYTES];
        nonce[10] = 1;
        nonce[11] = 1;
        let empty = |key: &[u8; 32], nonce| aead::seal(Algorithm::ChaCha20Poly1305, key, nonce, &[], &mut []);
        let mut forged = opener.chunks.key.with(|key| empty(key, &nonce)).unwrap();
        assert!(opener.open(&mut first, false).is_ok());
        assert_eq!(opener.open(&mut forged, true), Err(Error::Rejected));
        assert_eq!(forged, [0; TAG_BYTES]);
        assert!(!opener.is_finished());

        let (mut sealer, mut opener) = pair();
        let mut alone = sealer.seal(&mut [], true).unwrap();
        assert_eq!(opener.open(&mut alone, true).unwrap(), b"");
        assert!(opener.is_finished());
    }

    #[test]
    fn nothing_opens_after_the_end_or_after_a_failure() {
        let (mut sealer, mut opener) = pair();
        let first = seal(&mut sealer, &[1; CHUNK_BYTES], false);
        let last = seal(&mut sealer, b"end", true);

        assert!(opener.open(&mut first.clone(), false).is_ok());
        assert!(!opener.is_finished());
        assert!(opener.open(&mut last.clone(), true).is_ok());
        assert!(opener.is_finished());
        let mut more = last.clone();
        assert_eq!(opener.open(&mut more, true), Err(Error::Ended));
        assert_eq!(more, vec![0; more.len()]);
        assert_eq!(opener.open(&mut [9; 3], true), Err(Error::Ended));

        let mut failed = pair().1;
        let mut altered = first.clone();
        altered[70] ^= 1;
        assert_eq!(failed.open(&mut altered, false), Err(Error::Rejected));
        assert_eq!(altered, vec![0; altered.len()]);
        assert_eq!(failed.open(&mut first.clone(), false), Err(Error::Ended));
        assert!(!failed.is_finished());
    }

    #[test]
    fn version_zero_is_neither_written_nor_read() {
        assert_eq!(Sealer::new(&SUB, 0, SALT, binding()).map(|_| ()), Err(Error::Version));
        let (_, mut header) = Sealer::new(&SUB, 1, SALT, binding()).unwrap();
        assert_eq!(header_version(&header), Some(1));
        header[7] = 0;
        assert_eq!(header_version(&header), None);
        assert_eq!(Opener::new(&SUB, &header, binding()).map(|_| ()), Err(Error::Rejected));
    }

    #[test]
    fn lengths_are_those_of_the_form() {
        let chunk = CHUNK_BYTES as u64;
        let sealed = SEALED_CHUNK_BYTES as u64;
        for (plaintext, stream) in [
            (0, 56 + 16),
            (1, 56 + 17),
            (chunk - 1, 56 + sealed - 1),
            (chunk, 56 + sealed),
            (chunk + 1, 56 + sealed + 17),
            (2 * chunk, 56 + 2 * sealed),
            (2 << 30, 56 + (2 << 30) + (2 << 30) / chunk * 16),
        ] {
            assert_eq!(sealed_len(plaintext), Some(stream));
            assert_eq!(opened_len(stream), Some(plaintext));
        }
        for none in [0, 1, 55, 56, 71, 56 + sealed + 1, 56 + sealed + 15, 56 + sealed + 16] {
            assert_eq!(opened_len(none), None, "{none}");
        }
        assert_eq!(sealed_len(u64::MAX), None);
        assert!(opened_len(u64::MAX).is_some_and(|len| len < u64::MAX));
    }

    #[test]
    fn debug_shows_no_secret() {
        let (sealer, opener) = pair();
        assert_eq!(format!("{sealer:?}"), "Sealer(next: Some(0), redacted)");
        assert_eq!(format!("{opener:?}"), "Opener(next: Some(0), finished: false, redacted)");
    }
}
