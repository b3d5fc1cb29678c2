//! Audit files at the start: opened for appending with room reserved on the disk, listed, read, and put in order.
//!
//! Owns the reservation and what is done about the leavings of earlier starts. Invariants: what is written goes to the end
//! of the file, whoever else writes; the reservation does not change the file's length, so that a reader never sees bytes
//! that nobody wrote; nothing is removed that holds a line which stands nowhere else.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use super::data_dir::DataDir;
use super::entry::Entry;
use super::error::StoreError;
use crate::audit::StreamName;
use crate::audit::name::{COMPRESSED_SUFFIX, SUFFIX};
use crate::audit::retention::Part;
use crate::clock::WallTime;
use crate::limits::AUDIT_PREALLOCATED_BYTES;

/// The unit in which the system tells how much room a file takes, whatever the file system.
const STAT_BLOCK_BYTES: u64 = 512;

/// Opens the file of a part, creating it if needed.
///
/// Where no room can be reserved the file is opened without.
///
/// # Errors
/// A [`StoreError`] inside, with what to do.
pub fn open_audit_file(data_dir: &DataDir, part: StreamName) -> io::Result<OwnedFd> {
    open(data_dir, part).map_err(|error| {
        let kind = match &error {
            StoreError::Io { errno, .. } => io::Error::from(*errno).kind(),
            _ => io::ErrorKind::PermissionDenied,
        };
        io::Error::new(kind, error)
    })
}

/// The parts whose files are there, in no order, and whether the file is a compressed one. A part may have both.
///
/// # Errors
/// What the system says.
pub fn list_audit_files(data_dir: &DataDir) -> io::Result<Vec<(StreamName, bool)>> {
    let mut files = Vec::new();
    for entry in Dir::read_from(data_dir.audit_directory())? {
        files.extend(entry?.file_name().to_str().ok().and_then(StreamName::parse_file));
    }
    Ok(files)
}

/// The name of the file of a part.
#[must_use]
pub fn audit_file_name(part: StreamName, compressed: bool) -> String {
    format!("{part}{}", if compressed { COMPRESSED_SUFFIX } else { SUFFIX })
}

/// Opens the file of a part to read it; nothing if it is gone, or no file.
///
/// # Errors
/// What the system says.
pub fn open_audit_part(data_dir: &DataDir, part: StreamName, compressed: bool) -> io::Result<Option<File>> {
    // Without NONBLOCK the open of a FIFO would wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let name = audit_file_name(part, compressed);
    match rustix::fs::openat(data_dir.audit_directory(), name, flags, Mode::empty()) {
        Ok(file) => {
            let file = File::from(file);
            Ok(file.metadata()?.is_file().then_some(file))
        }
        Err(Errno::NOENT | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Puts what earlier starts left in order, and returns their parts: a compressed file beside the part itself was not
/// finished and is removed, as is a successor that nothing was written to; room that was reserved and not used is given
/// back, so that what each start reserves does not add up. To be called before files are opened for this start, with the
/// directory locked: then nobody writes to those that are there.
///
/// # Errors
/// What the system says of the directory. What cannot be done to a file is left for the next start.
pub fn settle_audit_files(data_dir: &DataDir) -> io::Result<Vec<Part>> {
    let files = list_audit_files(data_dir)?;
    let plain: BTreeSet<StreamName> =
        files.iter().filter(|(_, compressed)| !compressed).map(|(name, _)| *name).collect();
    let mut parts = Vec::with_capacity(files.len());
    for (name, compressed) in files {
        let Ok(Some(file)) = open_audit_part(data_dir, name, compressed) else { continue };
        let Ok(found) = file.metadata() else { continue };
        let unfinished = compressed && plain.contains(&name);
        let unused = !compressed && found.len() == 0 && name.part > 1;
        if unfinished || unused {
            remove(data_dir, name, compressed);
            continue;
        }
        if !compressed {
            give_back_reserved(data_dir, name);
        }
        let millis = found.mtime().saturating_mul(1_000);
        let last = WallTime::from_millis(u64::try_from(millis).unwrap_or(0));
        parts.push(Part { last, name, bytes: found.len(), compressed });
    }
    Ok(parts)
}

fn remove(data_dir: &DataDir, part: StreamName, compressed: bool) {
    let name = audit_file_name(part, compressed);
    // What stays is tried again by the next start.
    let _ = rustix::fs::unlinkat(data_dir.audit_directory(), name, AtFlags::empty());
}

/// Gives back the room that was reserved for a file and not used. A file that keeps its room loses nothing by it.
fn give_back_reserved(data_dir: &DataDir, part: StreamName) {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let name = audit_file_name(part, false);
    let Ok(file) = rustix::fs::openat(data_dir.audit_directory(), name, flags, Mode::empty()) else {
        return;
    };
    let file = File::from(file);
    let Ok(found) = file.metadata() else { return };
    let used = found.len().next_multiple_of(found.blksize().max(1));
    if found.is_file() && found.blocks().saturating_mul(STAT_BLOCK_BYTES) > used {
        // The same length: what lies behind it is room and nothing else.
        let kept = found.modified();
        let _ = file.set_len(found.len());
        // Its age is that of its last line.
        let _ = kept.and_then(|kept| file.set_modified(kept));
    }
}

fn open(data_dir: &DataDir, part: StreamName) -> Result<OwnedFd, StoreError> {
    let name = audit_file_name(part, false);
    let path = data_dir.path().join("audit").join(&name);
    let entry = Entry { within: data_dir.audit_directory(), name: Path::new(&name), path: &path };
    let (file, created) = entry.open_or_create_file(OFlags::WRONLY | OFlags::APPEND, data_dir.owner())?;
    let written = rustix::fs::fstat(&file).map_err(|errno| entry.failed("look at", errno))?.st_size;
    let written = u64::try_from(written).unwrap_or_default();
    match rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, written, AUDIT_PREALLOCATED_BYTES) {
        // What is written finds out whether there is room; a start may have nothing to write.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NOSPC | Errno::DQUOT) => {}
        Err(errno) => return Err(entry.failed("reserve room for", errno)),
    }
    if created {
        rustix::fs::fsync(entry.within).map_err(|errno| entry.failed("sync the directory of", errno))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::entry::Owner;
    use super::super::scratch::{Scratch, as_root};
    use super::*;

    const STREAM: &str = "6b0320c6-32268f1d-w0";

    fn part(number: u32) -> StreamName {
        StreamName { part: number, ..StreamName::parse(STREAM).unwrap() }
    }

    fn opened(scratch: &Scratch) -> DataDir {
        DataDir::open(&scratch.path().join("q"), None).unwrap()
    }

    fn path(data_dir: &DataDir, name: &str) -> std::path::PathBuf {
        data_dir.path().join("audit").join(format!("{STREAM}-{name}"))
    }

    #[test]
    fn lines_are_appended_and_the_reservation_is_not_seen() {
        let scratch = Scratch::new();
        let data_dir = opened(&scratch);
        for line in ["{\"seq\":0}\n", "{\"seq\":1}\n"] {
            let mut file = File::from(open_audit_file(&data_dir, part(1)).unwrap());
            file.write_all(line.as_bytes()).unwrap();
        }
        let path = path(&data_dir, "0001.jsonl");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"seq\":0}\n{\"seq\":1}\n");
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o600);
        let probe = File::create(scratch.path().join("probe")).unwrap();
        match rustix::fs::fallocate(&probe, FallocateFlags::KEEP_SIZE, 0, 1) {
            Ok(()) => assert!(found.blocks() * 512 >= AUDIT_PREALLOCATED_BYTES, "{} blocks", found.blocks()),
            Err(errno) => println!("skipped: this file system reserves no room ({errno})"),
        }
    }

    #[test]
    fn room_that_was_reserved_and_not_used_is_given_back_and_no_line_with_it() {
        let scratch = Scratch::new();
        let data_dir = opened(&scratch);
        let mut file = File::from(open_audit_file(&data_dir, part(1)).unwrap());
        file.write_all(b"{\"seq\":0}\n").unwrap();
        let before = UNIX_EPOCH + Duration::from_secs(1_000);
        file.set_modified(before).unwrap();
        let path = path(&data_dir, "0001.jsonl");
        let reserved = fs::metadata(&path).unwrap().blocks();
        let found = settle_audit_files(&data_dir).unwrap();
        let left = fs::metadata(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"seq\":0}\n");
        assert!(left.blocks() * STAT_BLOCK_BYTES <= left.blksize(), "{} of {reserved} blocks", left.blocks());
        assert_eq!(left.modified().unwrap(), before, "as old as its last line");
        let last = WallTime::from_millis(1_000_000);
        assert_eq!(found, [Part { last, name: part(1), bytes: left.len(), compressed: false }]);
    }

    #[test]
    fn what_a_start_left_unfinished_is_removed_and_nothing_else() {
        let scratch = Scratch::new();
        let data_dir = opened(&scratch);
        for (name, content) in [
            ("0001.jsonl", ""),
            ("0002.jsonl", "a\n"),
            ("0002.jsonl.gz", "not finished"),
            ("0003.jsonl", ""),
            ("0004.jsonl.gz", "finished"),
        ] {
            fs::write(path(&data_dir, name), content).unwrap();
        }
        fs::write(data_dir.path().join("audit/notes"), "").unwrap();
        let found = settle_audit_files(&data_dir).unwrap();
        let mut numbers: Vec<_> = found.iter().map(|part| (part.name.part, part.compressed)).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [(1, false), (2, false), (4, true)]);
        assert_eq!(fs::read_dir(data_dir.path().join("audit")).unwrap().count(), 4);
        assert_eq!(fs::read_to_string(path(&data_dir, "0002.jsonl")).unwrap(), "a\n");
    }

    #[test]
    fn a_link_is_refused() {
        let scratch = Scratch::new();
        let data_dir = opened(&scratch);
        let victim = scratch.path().join("victim");
        fs::write(&victim, "").unwrap();
        symlink(&victim, path(&data_dir, "0001.jsonl")).unwrap();
        let refusal = open_audit_file(&data_dir, part(1)).unwrap_err();
        assert_eq!(refusal.kind(), io::ErrorKind::PermissionDenied);
        assert!(refusal.to_string().contains("is a symbolic link"), "{refusal}");
        assert!(settle_audit_files(&data_dir).unwrap().is_empty());
        assert!(victim.exists());
    }

    #[test]
    fn a_start_as_root_gives_the_file_away() {
        as_root(|| {
            let scratch = Scratch::new();
            let owner = Owner { uid: 1001, gid: 1001 };
            let data_dir = DataDir::open(&scratch.path().join("q"), Some(owner)).unwrap();
            drop(open_audit_file(&data_dir, part(1)).unwrap());
            let path = path(&data_dir, "0001.jsonl");
            assert_eq!(fs::metadata(&path).unwrap().uid(), 1001);
            fs::write(&path, "a line\n").unwrap();
            std::os::unix::fs::chown(&path, Some(0), None).unwrap();
            let refusal = open_audit_file(&data_dir, part(1)).unwrap_err().to_string();
            assert!(refusal.contains("chown -R 1001:1001"), "{refusal}");
        });
    }
}
