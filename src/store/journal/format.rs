//! The bytes of a journal: its header and its frames. Pure: bytes in, bytes out.
//!
//! Owns [`Header`], [`FrameHeader`] and [`FrameKeys`], which docs/FORMATS.md describes. Invariants: a frame opens only
//! in its file, at its number, behind the frame that it was written behind; a frame header is recognised without what
//! stands before it, so that what lies behind damage is found; nothing here trusts a length that it did not check.

use core::fmt;

use super::super::root::{MasterKey, MasterKeyId, RootKey, Wrapped};
use crate::crypto::aead::{self, Algorithm, KEY_BYTES, TAG_BYTES};
use crate::crypto::mac::MacKey;
use crate::crypto::{Error, hash};
use crate::limits::JOURNAL_PAYLOAD_MAX_BYTES;
use crate::secret::Secret;

/// What a journal begins with. The line ends and the end-of-file character show a transfer that altered them.
pub const MAGIC: [u8; 8] = *b"QNJL\r\n\x1a\n";
/// The number of the format that this version writes, and the only one that it reads.
pub const FORMAT: u32 = 1;
/// Length of the header.
pub const HEADER_BYTES: usize = 148;
/// What is authenticated with the wrapped root key: magic, format, ring and master key id.
const WRAP_AAD_BYTES: usize = 44;

/// What a frame begins with.
pub const FRAME_MAGIC: [u8; 4] = *b"QNF\x01";
/// Length of the header of a frame.
pub const FRAME_HEADER_BYTES: usize = 57;
/// What the header's check covers.
const CHECKED_BYTES: usize = FRAME_HEADER_BYTES - TAG_BYTES;
/// Length of the nonce of a frame.
pub const FRAME_NONCE_BYTES: usize = 24;
/// What a frame adds to its payload.
pub const FRAME_OVERHEAD_BYTES: usize = FRAME_HEADER_BYTES + TAG_BYTES;
/// Length of the largest frame.
pub const FRAME_MAX_BYTES: usize = JOURNAL_PAYLOAD_MAX_BYTES + FRAME_OVERHEAD_BYTES;

/// What is authenticated with a payload: the file, the frame's header, the frame before.
const ASSOCIATED_BYTES: usize = 16 + FRAME_HEADER_BYTES + TAG_BYTES;

/// Ties a frame to the one before it: that one's tag, or the checksum of the header.
pub type Link = [u8; TAG_BYTES];

/// The header of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The ring whose records it holds: the same for the life of a store.
    pub ring: [u8; 16],
    /// Tells the master keys apart.
    pub master_key: MasterKeyId,
    /// The root key under the master key. A compaction copies it, so that it needs no master key.
    pub wrapped: Wrapped,
    /// This file: random, another one after each compaction, so that no frame of another file fits in.
    pub file: [u8; 16],
}

/// Why bytes are no header of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// They do not begin as one.
    NotAJournal,
    /// It is of a format that this version does not know.
    UnknownFormat(u32),
    /// It is too short, or its checksum is wrong.
    Damaged,
}

impl fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAJournal => f.write_str("not a journal"),
            Self::UnknownFormat(found) => write!(f, "unknown format {found}"),
            Self::Damaged => f.write_str("damaged header"),
        }
    }
}

impl std::error::Error for HeaderFault {}

impl Header {
    /// The header of a file in which `root` is wrapped by `master`.
    ///
    /// # Errors
    /// What wrapping returns; none in practice.
    pub fn wrap(
        master: &MasterKey,
        root: &RootKey,
        ring: [u8; 16],
        file: [u8; 16],
        nonce: [u8; 24],
    ) -> Result<Self, Error> {
        let master_key = master.id()?;
        let wrapped = master.wrap(root, nonce, &wrap_aad(ring, master_key))?;
        Ok(Self { ring, master_key, wrapped, file })
    }

    /// The root key inside.
    ///
    /// # Errors
    /// [`Error::Rejected`] if `master` did not wrap it, or the header was altered.
    pub fn unwrap(&self, master: &MasterKey) -> Result<RootKey, Error> {
        master.unwrap(&self.wrapped, &wrap_aad(self.ring, self.master_key))
    }

    /// Its bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let sum = self.sum();
        put(
            &mut bytes,
            &[
                &wrap_aad(self.ring, self.master_key),
                &self.wrapped.nonce,
                &self.wrapped.root,
                &self.wrapped.tag,
                &self.file,
                &sum,
            ],
        );
        bytes
    }

    /// What the first frame is tied to: the checksum of the header.
    #[must_use]
    pub fn sum(&self) -> Link {
        let wrapped = &self.wrapped;
        let aad = wrap_aad(self.ring, self.master_key);
        sum(&[&aad, &wrapped.nonce, &wrapped.root, &wrapped.tag, &self.file])
    }

    /// Reads the header from the front of a file.
    ///
    /// # Errors
    /// [`HeaderFault`]
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let mut rest = bytes;
        if take::<8>(&mut rest) != Some(MAGIC) {
            let torn = bytes.len() < MAGIC.len() && MAGIC.starts_with(bytes);
            return Err(if torn { HeaderFault::Damaged } else { HeaderFault::NotAJournal });
        }
        let format = take(&mut rest).map(u32::from_be_bytes).ok_or(HeaderFault::Damaged)?;
        if format != FORMAT {
            return Err(HeaderFault::UnknownFormat(format));
        }
        let mut read = || {
            let (ring, master_key) = (take(&mut rest)?, take(&mut rest)?);
            let wrapped = Wrapped { nonce: take(&mut rest)?, root: take(&mut rest)?, tag: take(&mut rest)? };
            let header = Self { ring, master_key, wrapped, file: take(&mut rest)? };
            (take(&mut rest)? == header.sum()).then_some(header)
        };
        read().ok_or(HeaderFault::Damaged)
    }
}

/// What stands before the wrapped root key, and is authenticated with it.
fn wrap_aad(ring: [u8; 16], master_key: MasterKeyId) -> [u8; WRAP_AAD_BYTES] {
    let mut aad = [0; WRAP_AAD_BYTES];
    put(&mut aad, &[&MAGIC, &FORMAT.to_be_bytes(), &ring, &master_key]);
    aad
}

/// The first bytes of a SHA-256: it shows damage, and authenticates nothing until a frame was opened that is tied
/// to it.
fn sum(parts: &[&[u8]]) -> Link {
    let digest = hash::digest(hash::Algorithm::Sha256, parts);
    // A SHA-256 has 32 bytes, so the other branch is never taken.
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Records that were alive when the file was made.
    Snapshot,
    /// The end of the snapshot: where the state stood then.
    End,
    /// A change.
    Commit,
}

impl FrameKind {
    const fn byte(self) -> u8 {
        match self {
            Self::Snapshot => b'S',
            Self::End => b'E',
            Self::Commit => b'C',
        }
    }

    const fn of(byte: u8) -> Option<Self> {
        match byte {
            b'S' => Some(Self::Snapshot),
            b'E' => Some(Self::End),
            b'C' => Some(Self::Commit),
            _ => None,
        }
    }
}

/// The header of a frame, as far as it can be read without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame carries.
    pub kind: FrameKind,
    /// Number of the frame in its file, from 0.
    pub seq: u64,
    /// Length of the frame.
    pub frame_len: usize,
    nonce: [u8; FRAME_NONCE_BYTES],
}

impl FrameHeader {
    /// Reads a header; nothing if it is none, or says that the frame is longer than any may be.
    #[must_use]
    pub fn parse(bytes: &[u8; FRAME_HEADER_BYTES]) -> Option<Self> {
        let mut rest = bytes.as_slice();
        if take::<4>(&mut rest)? != FRAME_MAGIC {
            return None;
        }
        let [kind] = take(&mut rest)?;
        let kind = FrameKind::of(kind)?;
        let payload = usize::try_from(u32::from_be_bytes(take(&mut rest)?)).ok()?;
        let (seq, nonce) = (u64::from_be_bytes(take(&mut rest)?), take(&mut rest)?);
        (payload <= JOURNAL_PAYLOAD_MAX_BYTES).then_some(Self {
            kind,
            seq,
            frame_len: payload + FRAME_OVERHEAD_BYTES,
            nonce,
        })
    }
}

/// The place of a frame: in which file, with which number, and behind which frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file's id.
    pub file: [u8; 16],
    /// Number of the frame.
    pub seq: u64,
    /// The frame before it.
    pub link: Link,
}

impl Place {
    /// The place of the first frame behind `header`.
    #[must_use]
    pub fn first(header: &Header) -> Self {
        Self { file: header.file, seq: 0, link: header.sum() }
    }

    /// The place behind a frame at this one that has the tag `link`.
    #[must_use]
    pub const fn next(self, link: Link) -> Self {
        Self { file: self.file, seq: self.seq.saturating_add(1), link }
    }
}

/// Seals and opens frames.
pub struct FrameKeys {
    frame: Secret<KEY_BYTES>,
    header: MacKey,
}

impl FrameKeys {
    /// The keys below `root`.
    ///
    /// # Errors
    /// What derivation returns; none in practice.
    pub fn new(root: &RootKey) -> Result<Self, Error> {
        Ok(Self { frame: root.frame_key()?, header: root.frame_header_key()? })
    }

    /// Makes a frame of `frame`, in which [`FRAME_HEADER_BYTES`] of room stand before the payload. Returns the place
    /// behind it.
    ///
    /// # Errors
    /// [`Error::Length`] if there is no such room, or the payload is longer than any may be.
    pub fn seal(
        &self,
        frame: &mut Vec<u8>,
        kind: FrameKind,
        nonce: &[u8; FRAME_NONCE_BYTES],
        place: &Place,
    ) -> Result<Place, Error> {
        let (header, payload) = frame.split_first_chunk_mut::<FRAME_HEADER_BYTES>().ok_or(Error::Length)?;
        let len = u32::try_from(payload.len()).map_err(|_| Error::Length)?;
        if payload.len() > JOURNAL_PAYLOAD_MAX_BYTES {
            return Err(Error::Length);
        }
        put(header, &[&FRAME_MAGIC, &[kind.byte()], &len.to_be_bytes(), &place.seq.to_be_bytes(), nonce]);
        let check = self.check(header, &place.file);
        put(header.split_at_mut(CHECKED_BYTES).1, &[&check]);
        let aad = associated(header, place);
        let tag =
            self.frame.with(|key| aead::seal(Algorithm::XChaCha20Poly1305, key, nonce, &aad, payload))?;
        frame.extend_from_slice(&tag);
        Ok(place.next(tag))
    }

    /// Opens a whole frame in place. Returns its payload and the place behind it.
    ///
    /// # Errors
    /// [`Error::Rejected`] if it was not written for `place`; its payload may then be all zeros.
    pub fn open<'a>(
        &self,
        frame: &'a mut [u8],
        place: &Place,
    ) -> Result<(FrameKind, &'a [u8], Place), Error> {
        let (header, rest) = frame.split_first_chunk_mut::<FRAME_HEADER_BYTES>().ok_or(Error::Rejected)?;
        let (payload, tag) = rest.split_last_chunk_mut::<TAG_BYTES>().ok_or(Error::Rejected)?;
        let read = FrameHeader::parse(header).ok_or(Error::Rejected)?;
        if read.seq != place.seq || read.frame_len != payload.len() + FRAME_OVERHEAD_BYTES {
            return Err(Error::Rejected);
        }
        // The check of the header is part of what the tag covers, so that it need not be computed here.
        let aad = associated(header, place);
        self.frame
            .with(|key| aead::open(Algorithm::XChaCha20Poly1305, key, &read.nonce, &aad, payload, tag))?;
        Ok((read.kind, payload, place.next(*tag)))
    }

    /// Reads a frame header that was written for the file with the id `file`, whatever stands around it; nothing if
    /// it was not.
    #[must_use]
    pub fn recognise(&self, bytes: &[u8; FRAME_HEADER_BYTES], file: &[u8; 16]) -> Option<FrameHeader> {
        let read = FrameHeader::parse(bytes)?;
        let written = self.check(bytes, file).as_slice() == bytes.split_at(CHECKED_BYTES).1;
        written.then_some(read)
    }

    fn check(&self, header: &[u8; FRAME_HEADER_BYTES], file: &[u8; 16]) -> [u8; TAG_BYTES] {
        let tag = self.header.tag(&[file, header.split_at(CHECKED_BYTES).0]);
        // A tag of SHA-256 has 32 bytes, so the other branch is never taken.
        tag.as_bytes().first_chunk().copied().unwrap_or_default()
    }
}

impl fmt::Debug for FrameKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FrameKeys(redacted)")
    }
}

/// The file, the whole header of the frame, and the frame before it.
fn associated(header: &[u8; FRAME_HEADER_BYTES], place: &Place) -> [u8; ASSOCIATED_BYTES] {
    let mut aad = [0; ASSOCIATED_BYTES];
    put(&mut aad, &[&place.file, header, &place.link]);
    aad
}

/// Copies `parts` one behind the other to the front of `target`, which has room for them.
fn put(target: &mut [u8], parts: &[&[u8]]) {
    let places = target.iter_mut();
    for (place, byte) in places.zip(parts.iter().copied().flatten()) {
        *place = *byte;
    }
}

/// Takes the next `N` bytes off `rest`.
pub(super) fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, later) = rest.split_first_chunk()?;
    *rest = later;
    Some(*taken)
}
