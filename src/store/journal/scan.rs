//! Reading a journal from its front, and telling a torn end from damage.
//!
//! Owns [`walk`], [`judge`] and [`search`]. Invariants: memory is bounded by the largest frame; what is delivered was
//! authenticated; an end is called torn only if one unfinished append explains it: it is the last thing in the file,
//! no longer than a frame may be, and nothing behind its beginning was ever written whole.

use std::collections::VecDeque;

use memchr::memmem;
use rustix::io::Errno;

use super::super::record::{Head, Origin, Tail};
use super::disk::Disk;
use super::format::{
    FRAME_HEADER_BYTES, FRAME_MAGIC, FRAME_MAX_BYTES, FrameHeader, FrameKeys, FrameKind, HEADER_BYTES,
    Header, Place,
};
use super::payload::{Commit, End, Item, Items};
use crate::limits::{JOURNAL_PIECE_BYTES, JOURNAL_TAIL_BYTES, STORE_ORIGINS_MAX_COUNT};

/// How much is searched at a time.
const SEARCHED_BYTES: usize = JOURNAL_PIECE_BYTES / 16;

/// Where a walk stands, and what it gathered on its way.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    /// The place of the next frame.
    pub(super) place: Place,
    /// Where it begins.
    pub(super) offset: u64,
    /// Where the state stands.
    pub(super) head: Head,
    /// The origins of the last changes, the oldest first.
    pub(super) recent: VecDeque<Origin>,
    /// How many frames were read.
    pub(super) frames: u64,
    /// How many records the snapshot has so far; nothing once its end was read.
    snapshot: Option<u64>,
    /// Whether it went on behind damage, where counts no longer tell anything.
    resumed: bool,
    /// From where on the end is looked at again later.
    pub(super) trail: Trail,
}

/// Two places on the way: the older one is where a look at the end begins, so that it is long enough and bounded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trail {
    older: (Place, u64),
    newer: (Place, u64),
}

impl Trail {
    /// Begins here: with the frame that will stand at `offset`.
    pub(super) const fn new(place: Place, offset: u64) -> Self {
        Self { older: (place, offset), newer: (place, offset) }
    }

    /// Where a look begins.
    pub(super) const fn begin(&self) -> (Place, u64) {
        self.older
    }

    /// A frame was passed: the next one will be at this place.
    pub(super) const fn pass(&mut self, place: Place, offset: u64) {
        if offset.saturating_sub(self.newer.1) >= JOURNAL_TAIL_BYTES {
            (self.older, self.newer) = (self.newer, (place, offset));
        }
    }
}

/// What is wrong with the frame at which a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is not what was written there.
    NotAuthentic,
    /// It was written there, but does not belong there.
    Misplaced,
}

/// Why a walk could not go on.
#[derive(Debug)]
pub(super) enum Broken<E> {
    /// The disk could not be read.
    Read(Errno),
    /// Whoever takes the records took one no more.
    Refused(E),
}

impl<E> From<Errno> for Broken<E> {
    fn from(errno: Errno) -> Self {
        Self::Read(errno)
    }
}

impl Walk {
    /// At the first frame.
    pub(super) fn new(header: &Header) -> Self {
        Self {
            place: Place::first(header),
            offset: HEADER_BYTES as u64,
            head: Head::default(),
            recent: VecDeque::new(),
            frames: 0,
            snapshot: Some(0),
            resumed: false,
            trail: Trail::new(Place::first(header), HEADER_BYTES as u64),
        }
    }

    /// Goes on behind damage, at a frame that was found at `offset`. What it expects is unknown by then.
    pub(super) fn resume(&mut self, offset: u64, place: Place, kind: FrameKind) {
        (self.offset, self.place, self.resumed) = (offset, place, true);
        self.snapshot = match kind {
            FrameKind::Snapshot | FrameKind::End => Some(self.snapshot.unwrap_or(0)),
            FrameKind::Commit => None,
        };
    }

    /// Notes the origins of a change; only the last ones are kept.
    pub(super) fn remember(recent: &mut VecDeque<Origin>, origins: &[Origin]) {
        recent.extend(origins);
        let surplus = recent.len().saturating_sub(STORE_ORIGINS_MAX_COUNT);
        recent.drain(..surplus);
    }

    /// Takes a frame's payload in; nothing if it does not belong here.
    fn take<'a>(&mut self, kind: FrameKind, payload: &'a [u8], place: Place) -> Option<Items<'a>> {
        match (kind, self.snapshot) {
            (FrameKind::Snapshot, Some(count)) => {
                let items = Items::decode(payload)?;
                self.snapshot = Some(count + u64::from(items.left()));
                Some(items)
            }
            (FrameKind::End, Some(count)) => {
                let end = End::decode(payload).filter(|end| end.records == count || self.resumed)?;
                self.snapshot = None;
                self.head = end.head;
                Self::remember(&mut self.recent, end.origins.as_chunks().0);
                Some(Items::NONE)
            }
            (FrameKind::Commit, None) => {
                let commit = Commit::decode(payload).filter(|commit| commit.revision > self.head.revision)?;
                self.head = Head { revision: commit.revision, tag: place.link };
                Self::remember(&mut self.recent, commit.origins.as_chunks().0);
                Some(commit.items)
            }
            _ => None,
        }
    }
}

/// Reads frames from where `walk` stands to `size`, and delivers their records. Returns what is wrong with the frame
/// where it ended, if that is not the end of the file.
pub(super) fn walk<E>(
    disk: &impl Disk,
    keys: &FrameKeys,
    size: u64,
    walk: &mut Walk,
    mut each: impl FnMut(Item<'_>) -> Result<(), E>,
) -> Result<Option<Fault>, Broken<E>> {
    let mut reader = Reader::new(disk, size);
    while walk.offset < size {
        let Some(frame) = reader.frame(walk.offset)? else { return Ok(Some(Fault::NotAuthentic)) };
        let len = frame.len() as u64;
        let Ok((kind, payload, place)) = keys.open(frame, &walk.place) else {
            return Ok(Some(Fault::NotAuthentic));
        };
        let Some(items) = walk.take(kind, payload, place) else { return Ok(Some(Fault::Misplaced)) };
        for item in items {
            each(item).map_err(Broken::Refused)?;
        }
        walk.place = place;
        walk.offset += len;
        walk.frames += 1;
        walk.trail.pass(place, walk.offset);
    }
    // Without the end of its snapshot a file was cut.
    Ok(walk.snapshot.is_some().then_some(Fault::Misplaced))
}

/// Reads the frames behind the beginning of `trail` again, up to `end`, where the next one will have the place `next`.
/// To cut off what is foreign is left to the caller.
pub(super) fn verify(disk: &impl Disk, keys: &FrameKeys, trail: &Trail, next: &Place, end: u64) -> Tail {
    let (mut place, begin) = trail.begin();
    let mut offset = begin;
    let mut reader = Reader::new(disk, end);
    while offset < end {
        let frame = match reader.frame(offset) {
            Ok(Some(frame)) => frame,
            // The file is shorter than it was.
            Ok(None) | Err(Errno::IO) => return Tail::Damaged { offset },
            Err(_) => return Tail::Unread,
        };
        let len = frame.len() as u64;
        let Ok((_, _, behind)) = keys.open(frame, &place) else { return Tail::Damaged { offset } };
        place = behind;
        offset = offset.saturating_add(len);
    }
    if offset != end || place != *next {
        return Tail::Damaged { offset: end };
    }
    match disk.read_at(end, &mut [0; 1]) {
        Ok(0) => Tail::Sound { bytes: end.saturating_sub(begin) },
        Ok(_) => behind(disk, keys, next, end),
        Err(_) => Tail::Unread,
    }
}

/// What it is that stands behind the end of the journal, where nothing but this process writes.
fn behind(disk: &impl Disk, keys: &FrameKeys, next: &Place, end: u64) -> Tail {
    let follows = match Reader::new(disk, u64::MAX).frame(end) {
        Ok(frame) => frame.is_some_and(|frame| keys.open(frame, next).is_ok()),
        // The file ends within what would be a frame.
        Err(Errno::IO) => false,
        Err(_) => return Tail::Unread,
    };
    // Then another server with the same keys has the journal, lock or no lock, and may have acknowledged this.
    if follows { Tail::Damaged { offset: end } } else { Tail::Foreign { offset: end } }
}

/// Whether the frame at which a walk ended with `fault` is what an unfinished append leaves behind. Then nothing of it
/// was ever acknowledged; otherwise the file is damaged.
pub(super) fn judge(
    disk: &impl Disk,
    keys: &FrameKeys,
    size: u64,
    walk: &Walk,
    fault: Fault,
) -> Result<bool, Errno> {
    let left = size.saturating_sub(walk.offset);
    // A snapshot is whole before the file gets its name.
    if fault == Fault::Misplaced || walk.snapshot.is_some() || left > FRAME_MAX_BYTES as u64 {
        return Ok(false);
    }
    let mut reader = Reader::new(disk, size);
    if let Some(bytes) = reader.get(walk.offset, FRAME_HEADER_BYTES)?.and_then(|bytes| bytes.first_chunk())
        && let Some(header) = keys.recognise(bytes, &walk.place.file)
        && (header.seq != walk.place.seq || (header.frame_len as u64) < left)
    {
        // It was written whole somewhere else, or something was written behind it.
        return Ok(false);
    }
    Ok(search(&mut reader, keys, &walk.place.file, walk.offset + 1)?.is_none())
}

/// The first place from `offset` on where a header of a frame of this file stands.
pub(super) fn search<D: Disk>(
    reader: &mut Reader<'_, D>,
    keys: &FrameKeys,
    file: &[u8; 16],
    mut offset: u64,
) -> Result<Option<(u64, FrameHeader)>, Errno> {
    let magic = memmem::Finder::new(&FRAME_MAGIC);
    loop {
        let left = reader.size.saturating_sub(offset).min(SEARCHED_BYTES as u64);
        let Some(step) = left.checked_sub(FRAME_HEADER_BYTES as u64) else { return Ok(None) };
        let Some(piece) = reader.get(offset, usize::try_from(left).unwrap_or(SEARCHED_BYTES))? else {
            return Ok(None);
        };
        for at in magic.find_iter(piece) {
            let bytes = piece.get(at..).and_then(<[u8]>::first_chunk);
            if let Some(header) = bytes.and_then(|bytes| keys.recognise(bytes, file)) {
                return Ok(Some((offset + at as u64, header)));
            }
        }
        // A header that lies across the end of the piece is found in the next one.
        offset += step + 1;
    }
}

/// Reads a file in large pieces.
pub(super) struct Reader<'d, D> {
    disk: &'d D,
    size: u64,
    /// Where in the file the buffer begins.
    begin: u64,
    buffer: Vec<u8>,
}

impl<'d, D: Disk> Reader<'d, D> {
    pub(super) const fn new(disk: &'d D, size: u64) -> Self {
        Self { disk, size, begin: 0, buffer: Vec::new() }
    }

    /// The bytes of what looks like a frame; nothing if nothing does, or it is longer than the file.
    fn frame(&mut self, offset: u64) -> Result<Option<&mut [u8]>, Errno> {
        let header = self.get(offset, FRAME_HEADER_BYTES)?.and_then(|bytes| bytes.first_chunk());
        match header.and_then(FrameHeader::parse) {
            Some(header) => self.get(offset, header.frame_len),
            None => Ok(None),
        }
    }

    /// These bytes; nothing if the file ends before.
    pub(super) fn get(&mut self, offset: u64, len: usize) -> Result<Option<&mut [u8]>, Errno> {
        if offset.checked_add(len as u64).is_none_or(|end| end > self.size) {
            return Ok(None);
        }
        let held = |begin: u64, buffered: usize| -> Option<core::ops::Range<usize>> {
            let start = usize::try_from(offset.checked_sub(begin)?).ok()?;
            let end = start.checked_add(len)?;
            (end <= buffered).then_some(start..end)
        };
        if held(self.begin, self.buffer.len()).is_none() {
            self.refill(offset, len)?;
        }
        Ok(held(self.begin, self.buffer.len()).and_then(|range| self.buffer.get_mut(range)))
    }

    /// Reads at least `len` bytes, which the file has, from `offset` on.
    fn refill(&mut self, offset: u64, len: usize) -> Result<(), Errno> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let want = len.max(JOURNAL_PIECE_BYTES).min(left);
        self.begin = offset;
        self.buffer.resize(want, 0);
        let mut filled = 0;
        while let Some(room) = self.buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
            match self.disk.read_at(offset + filled as u64, room) {
                // It was longer a moment ago.
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(errno) => {
                    self.buffer.clear();
                    return Err(errno);
                }
            }
        }
        self.buffer.truncate(filled);
        if filled < len { Err(Errno::IO) } else { Ok(()) }
    }
}
