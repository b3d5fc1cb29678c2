//! What stands in a frame: records, changes, and the end of a snapshot.
//!
//! Owns the encoding of payloads. Invariants: what decodes is whole, with no byte left over; a count that is read
//! reserves no memory before the bytes that it counts were found.

use super::super::record::{Head, Origin, Path, Record};
use super::format::{FRAME_HEADER_BYTES, take};
use crate::limits::STORE_RECORD_OVERHEAD_BYTES;

const REMOVED: u8 = 0;
const VALUE: u8 = 1;

/// A record within a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Where it stands.
    pub path: Path,
    /// Its revision.
    pub revision: u64,
    /// Its value; nothing if it was removed.
    pub sealed: Option<&'a [u8]>,
}

impl Item<'_> {
    /// The record, in memory of its own.
    #[must_use]
    pub fn to_record(self) -> Record {
        Record { path: self.path, revision: self.revision, sealed: self.sealed.map(<[u8]>::to_vec) }
    }

    /// As [`Record::weight`].
    #[must_use]
    pub fn weight(&self) -> usize {
        STORE_RECORD_OVERHEAD_BYTES + self.sealed.map_or(0, <[u8]>::len)
    }
}

impl<'a> From<&'a Record> for Item<'a> {
    fn from(record: &'a Record) -> Self {
        Self { path: record.path, revision: record.revision, sealed: record.sealed.as_deref() }
    }
}

/// The payload of a snapshot frame: the number of its records, then the records. It is filled record by record.
#[derive(Debug)]
pub struct Batch {
    frame: Vec<u8>,
    count: u32,
}

impl Batch {
    /// An empty one, in a buffer with room for the frame's header.
    #[must_use]
    pub fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.resize(FRAME_HEADER_BYTES + 4, 0);
        Self { frame: buffer, count: 0 }
    }

    /// Adds a record; nothing if its length cannot be told.
    pub fn push(&mut self, item: Item<'_>) -> Option<()> {
        put_item(&mut self.frame, item)?;
        self.count = self.count.checked_add(1)?;
        Some(())
    }

    /// Length of the payload so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frame.len().saturating_sub(FRAME_HEADER_BYTES)
    }

    /// Whether it holds no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The frame that is to be sealed.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        if let Some(place) = self.frame.get_mut(FRAME_HEADER_BYTES..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *place = self.count.to_be_bytes();
        }
        self.frame
    }
}

/// A change: its revision, its origins, its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit<'a> {
    /// The revision that it makes.
    pub revision: u64,
    /// Its origins, 16 bytes each.
    pub origins: &'a [u8],
    /// Its records.
    pub items: Items<'a>,
}

impl<'a> Commit<'a> {
    /// Writes the payload of a change behind room for the frame's header; nothing if there are too many to count.
    pub fn encode<'r>(
        frame: &mut Vec<u8>,
        revision: u64,
        origins: &[Origin],
        items: impl ExactSizeIterator<Item = Item<'r>>,
    ) -> Option<()> {
        frame.clear();
        frame.resize(FRAME_HEADER_BYTES, 0);
        frame.extend_from_slice(&revision.to_be_bytes());
        frame.extend_from_slice(&u32::try_from(origins.len()).ok()?.to_be_bytes());
        frame.extend(origins.iter().flatten());
        frame.extend_from_slice(&u32::try_from(items.len()).ok()?.to_be_bytes());
        for item in items {
            put_item(frame, item)?;
        }
        Some(())
    }

    /// Reads a payload; nothing if it is not whole.
    #[must_use]
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut rest = payload;
        let revision = u64::from_be_bytes(take(&mut rest)?);
        let origins = take_origins(&mut rest)?;
        let items = Items::decode(rest)?;
        items.clone().all(|item| item.revision == revision).then_some(Self { revision, origins, items })
    }
}

/// The end of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End<'a> {
    /// Where the state stood.
    pub head: Head,
    /// How many records the snapshot has.
    pub records: u64,
    /// The origins of the last changes, the oldest first, 16 bytes each.
    pub origins: &'a [u8],
}

impl<'a> End<'a> {
    /// Writes the payload behind room for the frame's header; nothing if there are too many origins to count.
    pub fn encode<'o>(
        frame: &mut Vec<u8>,
        head: Head,
        records: u64,
        origins: impl ExactSizeIterator<Item = &'o Origin>,
    ) -> Option<()> {
        frame.clear();
        frame.resize(FRAME_HEADER_BYTES, 0);
        frame.extend_from_slice(&head.revision.to_be_bytes());
        frame.extend_from_slice(&head.tag);
        frame.extend_from_slice(&records.to_be_bytes());
        frame.extend_from_slice(&u32::try_from(origins.len()).ok()?.to_be_bytes());
        frame.extend(origins.flatten());
        Some(())
    }

    /// Reads a payload; nothing if it is not whole.
    #[must_use]
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut rest = payload;
        let head = Head { revision: u64::from_be_bytes(take(&mut rest)?), tag: take(&mut rest)? };
        let records = u64::from_be_bytes(take(&mut rest)?);
        let origins = take_origins(&mut rest)?;
        rest.is_empty().then_some(Self { head, records, origins })
    }
}

/// The records of a payload, which were all found whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Items<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Items<'a> {
    /// No records.
    pub const NONE: Self = Self { rest: &[], left: 0 };

    /// How many are to come.
    #[must_use]
    pub const fn left(&self) -> u32 {
        self.left
    }

    /// Reads a count and as many records, up to the end; nothing if they are not whole.
    #[must_use]
    pub fn decode(payload: &'a [u8]) -> Option<Self> {
        let mut rest = payload;
        let left = u32::from_be_bytes(take(&mut rest)?);
        let items = Self { rest, left };
        let mut walk = items;
        for _ in 0..left {
            take_item(&mut walk.rest)?;
        }
        walk.rest.is_empty().then_some(items)
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        self.left = self.left.checked_sub(1)?;
        take_item(&mut self.rest)
    }
}

fn put_item(frame: &mut Vec<u8>, item: Item<'_>) -> Option<()> {
    frame.extend_from_slice(item.path.as_bytes());
    frame.extend_from_slice(&item.revision.to_be_bytes());
    match item.sealed {
        None => frame.push(REMOVED),
        Some(sealed) => {
            frame.push(VALUE);
            frame.extend_from_slice(&u32::try_from(sealed.len()).ok()?.to_be_bytes());
            frame.extend_from_slice(sealed);
        }
    }
    Some(())
}

fn take_item<'a>(rest: &mut &'a [u8]) -> Option<Item<'a>> {
    let (path, revision) = (Path::new(take(rest)?), u64::from_be_bytes(take(rest)?));
    let sealed = match take(rest)? {
        [REMOVED] => None,
        [VALUE] => {
            let len = usize::try_from(u32::from_be_bytes(take(rest)?)).ok()?;
            Some(take_slice(rest, len)?)
        }
        _ => return None,
    };
    Some(Item { path, revision, sealed })
}

fn take_origins<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let count = usize::try_from(u32::from_be_bytes(take(rest)?)).ok()?;
    take_slice(rest, count.checked_mul(size_of::<Origin>())?)
}

fn take_slice<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, later) = rest.split_at_checked(len)?;
    *rest = later;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let record = |path, sealed| Record { path: Path::new([path; 16]), revision: 9, sealed };
        vec![record(1, Some(vec![5; 3])), record(2, None), record(3, Some(Vec::new()))]
    }

    #[test]
    fn payloads_come_back_and_are_whole_or_nothing() {
        let records = records();
        let mut commit = Vec::new();
        Commit::encode(&mut commit, 9, &[[7; 16], [8; 16]], records.iter().map(Item::from)).unwrap();
        let commit = commit.split_off(FRAME_HEADER_BYTES);
        let read = Commit::decode(&commit).unwrap();
        assert_eq!((read.revision, read.origins), (9, [[7u8; 16], [8; 16]].as_flattened()));
        assert_eq!(read.items.map(Item::to_record).collect::<Vec<_>>(), records);

        let mut end = Vec::new();
        let head = Head { revision: 4, tag: [6; 16] };
        End::encode(&mut end, head, 2, [[7; 16]].iter()).unwrap();
        let end = end.split_off(FRAME_HEADER_BYTES);
        assert_eq!(End::decode(&end), Some(End { head, records: 2, origins: &[7; 16] }));

        let mut batch = Batch::new(vec![1; 100]);
        assert!(batch.is_empty());
        for record in &records {
            batch.push(record.into()).unwrap();
        }
        let len = batch.len();
        let batch = batch.finish().split_off(FRAME_HEADER_BYTES);
        assert_eq!(batch.len(), len);
        assert_eq!(Items::decode(&batch).unwrap().map(Item::to_record).collect::<Vec<_>>(), records);

        for cut in 0..commit.len() {
            assert_eq!(Commit::decode(&commit[..cut]), None, "{cut}");
        }
        for cut in 0..end.len() {
            assert_eq!(End::decode(&end[..cut]), None, "{cut}");
        }
        for cut in 0..batch.len() {
            assert_eq!(Items::decode(&batch[..cut]), None, "{cut}");
        }
        for payload in [commit, end, batch] {
            let longer = [payload.as_slice(), &[0]].concat();
            assert!(Commit::decode(&longer).is_none() && End::decode(&longer).is_none());
            assert!(Items::decode(&longer).is_none());
        }
    }

    #[test]
    fn a_change_holds_records_of_its_own_revision_only() {
        let mut frame = Vec::new();
        Commit::encode(&mut frame, 10, &[], records().iter().map(Item::from)).unwrap();
        assert_eq!(Commit::decode(&frame[FRAME_HEADER_BYTES..]), None);
    }

    #[test]
    fn weights_are_what_the_encoding_takes_at_most() {
        for record in records() {
            let mut encoded = Vec::new();
            put_item(&mut encoded, Item::from(&record)).unwrap();
            assert!(encoded.len() <= record.weight() && encoded.len() + 4 >= record.weight());
            assert_eq!(record.weight(), Item::from(&record).weight());
        }
    }
}
