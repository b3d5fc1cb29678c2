//! Small secret files of the data directory: read whole, or made so that they are whole.
//!
//! Owns [`SmallFile`]. Invariants: the file holds all of its content or does not exist, whenever the power fails,
//! because it is written under another name, synced, renamed, and the directory synced; what was read is wiped.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::data_dir::DataDir;
use super::entry::Entry;
use super::error::StoreError;
use crate::limits::CREDENTIAL_FILE_MAX_BYTES;

/// One byte of room beyond the limit shows that a file is larger.
#[expect(clippy::cast_possible_truncation, reason = "a small constant")]
const ROOM: usize = CREDENTIAL_FILE_MAX_BYTES as usize + 1;

/// A small file directly in the data directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct SmallFile {
    /// Its name.
    pub(super) name: &'static str,
    /// Its name until it is whole.
    pub(super) new_name: &'static str,
}

impl SmallFile {
    /// The path, for messages.
    pub(super) fn path(self, data_dir: &DataDir) -> PathBuf {
        data_dir.path().join(self.name)
    }

    /// Reads the file as [`read`] does; nothing if there is none.
    pub(super) fn load(self, data_dir: &DataDir) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let path = self.path(data_dir);
        let entry = Entry { within: data_dir.directory(), name: Path::new(self.name), path: &path };
        let Some(file) = entry.open_file(OFlags::RDONLY, data_dir.owner())? else { return Ok(None) };
        read(&file).map(Some).map_err(|errno| entry.failed("read", errno))
    }

    /// Writes the file under its other name and gives it its own when it is safe on the disk.
    pub(super) fn create(self, data_dir: &DataDir, content: &[&[u8]]) -> Result<(), StoreError> {
        let (path, new_path) = (self.path(data_dir), data_dir.path().join(self.new_name));
        let entry = Entry { within: data_dir.directory(), name: Path::new(self.name), path: &path };
        let new = Entry { name: Path::new(self.new_name), path: &new_path, ..entry };
        // The lock is ours, so a file of this name was left by a start that did not get through.
        new.remove()?;
        let file = new
            .create_file(OFlags::WRONLY, data_dir.owner())?
            .ok_or_else(|| new.failed("create", Errno::EXIST))?;
        for part in content {
            write_all(new, &file, part)?;
        }
        rustix::fs::fsync(&file).map_err(|errno| new.failed("sync", errno))?;
        new.rename_to(entry)
    }
}

/// Reads a file whole. Of one that is larger than [`CREDENTIAL_FILE_MAX_BYTES`] one byte more than these is
/// returned, which no reader takes for what it looks for.
pub(super) fn read(file: &OwnedFd) -> Result<Zeroizing<Vec<u8>>, Errno> {
    let mut bytes = Zeroizing::new(vec![0u8; ROOM]);
    let mut len = 0;
    while let Some(room) = bytes.get_mut(len..).filter(|room| !room.is_empty()) {
        match rustix::io::read(file, room) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    bytes.truncate(len);
    Ok(bytes)
}

fn write_all(entry: Entry<'_>, file: &OwnedFd, mut bytes: &[u8]) -> Result<(), StoreError> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(written @ 1..) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Ok(0) => return Err(entry.failed("write", Errno::NOSPC)),
            Err(errno) => return Err(entry.failed("write", errno)),
        }
    }
    Ok(())
}
