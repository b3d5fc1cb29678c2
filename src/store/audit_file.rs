//! Audit files: opened for appending, with room reserved on the disk.
//!
//! Owns the names `audit/<stream>.jsonl` and the reservation. Invariants: what is written goes to the end of
//! the file, whoever else writes; the reservation does not change the file's length, so that a reader never
//! sees bytes that nobody wrote.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Dir, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

use super::data_dir::DataDir;
use super::entry::Entry;
use super::error::StoreError;
use crate::limits::{AUDIT_PREALLOCATED_BYTES, AUDIT_STREAM_NAME_MAX_BYTES};

const SUFFIX: &str = ".jsonl";
/// The unit in which the system tells how much room a file takes, whatever the file system.
const STAT_BLOCK_BYTES: u64 = 512;

/// Opens the file of the audit stream `stream` (a-z, 0-9, hyphens), creating it if needed.
///
/// Where no room can be reserved the file is opened without.
///
/// # Errors
/// A [`StoreError`] inside, with what to do.
pub fn open_audit_file(data_dir: &DataDir, stream: &str) -> io::Result<OwnedFd> {
    open(data_dir, stream).map_err(|error| {
        let kind = match &error {
            StoreError::Io { errno, .. } => io::Error::from(*errno).kind(),
            StoreError::StreamName => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::PermissionDenied,
        };
        io::Error::new(kind, error)
    })
}

/// The streams of all audit files that are there, in no order.
///
/// # Errors
/// What the system says.
pub fn list_audit_streams(data_dir: &DataDir) -> io::Result<Vec<String>> {
    let mut streams = Vec::new();
    for entry in Dir::read_from(data_dir.audit_directory())? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        streams.extend(name.strip_suffix(SUFFIX).filter(|stream| is_stream(stream)).map(str::to_owned));
    }
    Ok(streams)
}

/// Opens the file of an audit stream to read it; nothing if it is gone, or no file.
///
/// # Errors
/// What the system says.
pub fn open_audit_stream(data_dir: &DataDir, stream: &str) -> io::Result<Option<File>> {
    // Without NONBLOCK the open of a FIFO would wait for its other end.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let name = format!("{stream}{SUFFIX}");
    match rustix::fs::openat(data_dir.audit_directory(), name, flags, Mode::empty()) {
        Ok(file) => {
            let file = File::from(file);
            Ok(file.metadata()?.is_file().then_some(file))
        }
        Err(Errno::NOENT | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Gives back the room that was reserved for audit files and not used. To be called before new ones are opened, with
/// the directory locked: then nobody writes to those that are there.
///
/// # Errors
/// What the system says of the directory. A file that keeps its room loses nothing by it.
pub fn give_back_reserved(data_dir: &DataDir) -> io::Result<()> {
    for stream in list_audit_streams(data_dir)? {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let name = format!("{stream}{SUFFIX}");
        let Ok(file) = rustix::fs::openat(data_dir.audit_directory(), name, flags, Mode::empty()) else {
            continue;
        };
        let file = File::from(file);
        let Ok(found) = file.metadata() else { continue };
        let used = found.len().next_multiple_of(found.blksize().max(1));
        if found.is_file() && found.blocks().saturating_mul(STAT_BLOCK_BYTES) > used {
            // The same length: what lies behind it is room and nothing else.
            let _ = file.set_len(found.len());
        }
    }
    Ok(())
}

fn is_stream(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !name.is_empty() && name.len() <= AUDIT_STREAM_NAME_MAX_BYTES && name.bytes().all(plain)
}

fn open(data_dir: &DataDir, stream: &str) -> Result<OwnedFd, StoreError> {
    if !is_stream(stream) {
        return Err(StoreError::StreamName);
    }
    let name = format!("{stream}{SUFFIX}");
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

    use super::super::entry::Owner;
    use super::super::scratch::{Scratch, as_root};
    use super::*;

    fn opened(scratch: &Scratch) -> DataDir {
        DataDir::open(&scratch.path().join("q"), None).unwrap()
    }

    #[test]
    fn lines_are_appended_and_the_reservation_is_not_seen() {
        let scratch = Scratch::new();
        let data_dir = opened(&scratch);
        let path = data_dir.path().join("audit/worker-0.jsonl");
        for line in ["{\"seq\":0}\n", "{\"seq\":1}\n"] {
            let mut file = File::from(open_audit_file(&data_dir, "worker-0").unwrap());
            file.write_all(line.as_bytes()).unwrap();
        }
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
        let path = data_dir.path().join("audit/worker-0.jsonl");
        let mut file = File::from(open_audit_file(&data_dir, "worker-0").unwrap());
        file.write_all(b"{\"seq\":0}\n").unwrap();
        let reserved = fs::metadata(&path).unwrap().blocks();
        give_back_reserved(&data_dir).unwrap();
        let left = fs::metadata(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"seq\":0}\n");
        assert!(left.blocks() * STAT_BLOCK_BYTES <= left.blksize(), "{} of {reserved} blocks", left.blocks());
    }

    #[test]
    fn names_cannot_leave_the_directory() {
        let scratch = Scratch::new();
        let data_dir = opened(&scratch);
        for stream in ["", ".", "..", "../x", "a/b", "a.b", "A", "a\0", "a b", &"a".repeat(65)] {
            let refusal = open_audit_file(&data_dir, stream).unwrap_err();
            assert_eq!(refusal.kind(), io::ErrorKind::InvalidInput, "{stream:?}");
        }
        assert!(open_audit_file(&data_dir, &"a".repeat(64)).is_ok());
    }

    #[test]
    fn a_link_is_refused() {
        let scratch = Scratch::new();
        let data_dir = opened(&scratch);
        let victim = scratch.path().join("victim");
        fs::write(&victim, "").unwrap();
        symlink(&victim, data_dir.path().join("audit/w.jsonl")).unwrap();
        let refusal = open_audit_file(&data_dir, "w").unwrap_err();
        assert_eq!(refusal.kind(), io::ErrorKind::PermissionDenied);
        assert!(refusal.to_string().contains("is a symbolic link"), "{refusal}");
    }

    #[test]
    fn a_start_as_root_gives_the_file_away() {
        as_root(|| {
            let scratch = Scratch::new();
            let owner = Owner { uid: 1001, gid: 1001 };
            let data_dir = DataDir::open(&scratch.path().join("q"), Some(owner)).unwrap();
            drop(open_audit_file(&data_dir, "w").unwrap());
            let path = data_dir.path().join("audit/w.jsonl");
            assert_eq!(fs::metadata(&path).unwrap().uid(), 1001);
            fs::write(&path, "a line\n").unwrap();
            std::os::unix::fs::chown(&path, Some(0), None).unwrap();
            let refusal = open_audit_file(&data_dir, "w").unwrap_err().to_string();
            assert!(refusal.contains("chown -R 1001:1001"), "{refusal}");
        });
    }
}
