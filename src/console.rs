//! Text for people: what commands print on standard output and standard error.
//!
//! Owns the writing to descriptors 1 and 2 of text that is no log line. Invariant: a closed or full stream never stops the program (the
//! macros of the standard library panic there). Nothing here is given a secret, apart from
//! the admin key on the start that makes it.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::FileType;
use rustix::io::Errno;

/// Where text for people goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Output {
    /// What it is called in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Out => "standard output",
            Self::Err => "standard error",
        }
    }

    /// Writes `text` as it is.
    pub fn write(self, text: &str) {
        let _ = write_all(self.fd(), text.as_bytes());
    }

    fn fd(self) -> BorrowedFd<'static> {
        match self {
            Self::Out => rustix::stdio::stdout(),
            Self::Err => rustix::stdio::stderr(),
        }
    }
}

/// Writes `text` as it is to standard output.
pub fn out(text: &str) {
    Output::Out.write(text);
}

/// Writes text that must not be lost.
///
/// # Errors
/// What the system says, of a stream that was closed or leads to `/dev/null` too: at the start the standard library
/// puts the one in the place of the other.
pub fn deliver(stream: Output, text: &str) -> io::Result<()> {
    let found = rustix::fs::fstat(stream.fd())?;
    let null = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && found.st_rdev == rustix::fs::makedev(1, 3);
    if null {
        return Err(io::Error::other("it is closed, or leads to /dev/null"));
    }
    Ok(write_all(stream.fd(), text.as_bytes())?)
}

/// Writes `text` as it is to standard error.
pub fn err(text: &str) {
    Output::Err.write(text);
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written @ 1..) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Ok(0) => return Err(Errno::IO),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, pipe};
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn short_writes_are_finished() {
        // Larger than a pipe, so that the writer meets short writes while the reader drains it.
        let text = vec![b'x'; 1 << 20];
        let (mut reader, writer) = pipe().unwrap();
        let read = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        write_all(writer.as_fd(), &text).unwrap();
        drop(writer);
        assert!(read.join().unwrap() == text, "the reader must get every byte");
    }

    #[test]
    fn a_closed_stream_is_borne() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        assert_eq!(write_all(writer.as_fd(), b"nobody listens"), Err(Errno::PIPE));
    }
}
