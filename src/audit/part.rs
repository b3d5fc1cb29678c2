//! Opening the parts of streams to read them, whatever form they are kept in.
//!
//! Owns [`open`]. Invariants: what is opened is a regular file, and is read from its beginning; no more of it is in
//! memory than one buffer.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::audit::name::StreamName;
use crate::limits::AUDIT_REPLAY_PIECE_BYTES;

/// Opens the part in the file at `path`.
///
/// # Errors
/// What the system says; a file that is none, or of a form that is not read.
pub fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    // Without NONBLOCK the open of a FIFO would wait for its other end.
    let file: OwnedFd =
        rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    let file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not a regular file"));
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if StreamName::parse_file(&name).is_some_and(|(_, compressed)| compressed) {
        return Err(io::Error::new(ErrorKind::Unsupported, "compressed parts are not read"));
    }
    Ok(Box::new(BufReader::with_capacity(AUDIT_REPLAY_PIECE_BYTES, file)))
}
