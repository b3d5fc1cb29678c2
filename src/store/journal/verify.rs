//! A look at a whole journal, damaged or not, that changes nothing.
//!
//! Owns [`Report`] and [`Inspected`]. Invariants: the file is opened for reading only; what counts as sound was
//! authenticated; behind damage the look goes on at the next frame that is recognised.

use std::path::Path as FilePath;

use super::super::data_dir::DataDir;
use super::super::error::StoreError;
use super::super::record::{Head, Record, TornTail};
use super::super::root::{MasterKey, MasterKeyId, RootKey};
use super::super::seal::Sealer;
use super::core::Live;
use super::disk::Files;
use super::format::{FORMAT, FrameKeys, Header, Place};
use super::scan::{self, Broken, Reader, Walk};
use super::{Journal, read_header, unwrap};
use crate::limits::JOURNAL_DAMAGES_SHOWN_MAX_COUNT;

/// What the header of a journal says to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Number of the format.
    pub format: u32,
    /// The ring.
    pub ring: [u8; 16],
    /// The file: another one after each compaction.
    pub file: [u8; 16],
    /// The master key that is needed.
    pub master_key: MasterKeyId,
    /// Length of the file.
    pub bytes: u64,
}

/// What a look at every byte of a journal found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the header says.
    pub inspected: Inspected,
    /// Frames that are as they were written.
    pub frames: u64,
    /// Records of these frames that are neither superseded nor removed.
    pub live_records: u64,
    /// Where the state stands before the first damage.
    pub head: Head,
    /// The unfinished end, which the next start cuts off.
    pub torn: Option<TornTail>,
    /// The first damaged places. With any of them no server starts.
    pub damages: Vec<Damage>,
    /// How many damaged places there are.
    pub damages_count: u64,
}

/// A damaged place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins.
    pub offset: u64,
    /// How far it is to the next frame that is as it was written, or to the end of the file.
    pub bytes: u64,
}

impl Journal {
    /// Looks at every byte and changes none.
    ///
    /// # Errors
    /// Why it cannot even be looked at. Damage behind the header is in the report.
    pub fn verify(data_dir: &DataDir, master: &MasterKey) -> Result<Report, StoreError> {
        Self::examine(data_dir, master, &mut |_| {}).map(|(report, _)| report)
    }

    /// As [`Journal::verify`], and lends the records of the sound frames to `each`, in their order: the last word on a
    /// path is the valid one. What opens them is returned.
    ///
    /// # Errors
    /// As for [`Journal::verify`].
    pub fn examine(
        data_dir: &DataDir,
        master: &MasterKey,
        each: &mut dyn FnMut(Record),
    ) -> Result<(Report, Sealer), StoreError> {
        let files = Files::open_for_reading(data_dir)?;
        let (report, sealer, _) = examine(&Files::path(data_dir), &files, master, each)?;
        Ok((report, sealer))
    }

    /// As [`Journal::examine`], without a lock, so that a server may run on the directory `data_dir` meanwhile. What that
    /// writes just now looks like an unfinished end, and a journal that it compacts just now like a damaged one: another
    /// look tells. The root key is returned, too.
    ///
    /// # Errors
    /// As for [`Journal::examine`].
    pub fn examine_in_use(
        data_dir: &FilePath,
        master: &MasterKey,
        each: &mut dyn FnMut(Record),
    ) -> Result<(Report, Sealer, RootKey), StoreError> {
        let (path, files) = Files::open_in_use(data_dir)?;
        examine(&path, &files, master, each)
    }

    /// What the header says to everybody, without any key.
    ///
    /// # Errors
    /// Why it cannot be looked at.
    pub fn inspect(data_dir: &DataDir) -> Result<Inspected, StoreError> {
        let files = Files::open_for_reading(data_dir)?;
        let (header, bytes) = read_header(&Files::path(data_dir), &files)?;
        Ok(inspected(&header, bytes))
    }
}

fn examine(
    path: &FilePath,
    files: &Files,
    master: &MasterKey,
    each: &mut dyn FnMut(Record),
) -> Result<(Report, Sealer, RootKey), StoreError> {
    let (header, size) = read_header(path, files)?;
    let root = unwrap(path, &header, master)?;
    let keys = FrameKeys::new(&root)?;
    let failed = |errno| StoreError::Io { action: "read", path: path.to_owned(), errno };
    let mut look = Look { files, keys: &keys, size, live: Live::default(), each };
    Ok((look.report(&header).map_err(failed)?, root.sealer(header.ring)?, root))
}

const fn inspected(header: &Header, bytes: u64) -> Inspected {
    Inspected { format: FORMAT, ring: header.ring, file: header.file, master_key: header.master_key, bytes }
}

struct Look<'a> {
    files: &'a Files,
    keys: &'a FrameKeys,
    size: u64,
    live: Live,
    each: &'a mut dyn FnMut(Record),
}

impl Look<'_> {
    fn report(&mut self, header: &Header) -> Result<Report, rustix::io::Errno> {
        let mut report = Report {
            inspected: inspected(header, self.size),
            frames: 0,
            live_records: 0,
            head: Head::default(),
            torn: None,
            damages: Vec::new(),
            damages_count: 0,
        };
        let mut walk = Walk::new(header);
        while let Some(fault) = self.walk(&mut walk)? {
            let offset = walk.offset;
            if report.damages_count == 0 {
                report.head = walk.head;
                if scan::judge(self.files, self.keys, self.size, &walk, fault)? {
                    report.torn = Some(TornTail { offset, bytes: self.size - offset });
                    break;
                }
            }
            let resumed = self.resume(&mut walk)?;
            report.damages_count += 1;
            if report.damages.len() < JOURNAL_DAMAGES_SHOWN_MAX_COUNT {
                report.damages.push(Damage { offset, bytes: walk.offset.saturating_sub(offset) });
            }
            if !resumed {
                break;
            }
        }
        if report.damages_count == 0 {
            report.head = walk.head;
        }
        (report.frames, report.live_records) = (walk.frames, self.live.count());
        Ok(report)
    }

    fn walk(&mut self, walk: &mut Walk) -> Result<Option<scan::Fault>, rustix::io::Errno> {
        let (live, lend) = (&mut self.live, &mut *self.each);
        let each = |item: super::payload::Item<'_>| {
            live.note(&item);
            lend(item.to_record());
            Ok::<(), core::convert::Infallible>(())
        };
        scan::walk(self.files, self.keys, self.size, walk, each).map_err(|broken| match broken {
            Broken::Read(errno) => errno,
            Broken::Refused(never) => match never {},
        })
    }

    /// Puts the walk at the next frame behind damage that opens, or at the end of the file.
    fn resume(&self, walk: &mut Walk) -> Result<bool, rustix::io::Errno> {
        // Two, because opening a frame writes over it.
        let mut reader = Reader::new(self.files, self.size);
        let mut searched = Reader::new(self.files, self.size);
        let mut from = walk.offset + 1;
        while let Some((offset, header)) = scan::search(&mut searched, self.keys, &walk.place.file, from)? {
            // The tag of the frame before it is what it is tied to.
            let link =
                reader.get(offset.saturating_sub(16), 16)?.and_then(|bytes| bytes.first_chunk().copied());
            let place = link.map(|link| Place { file: walk.place.file, seq: header.seq, link });
            let frame = reader.get(offset, header.frame_len)?;
            if let (Some(place), Some(frame)) = (place, frame)
                && self.keys.open(frame, &place).is_ok()
            {
                walk.resume(offset, place, header.kind);
                return Ok(true);
            }
            from = offset + 1;
        }
        walk.offset = self.size;
        Ok(false)
    }
}
