//! Text for people: what commands print on standard output and standard error.
//!
//! Owns the writing to descriptors 1 and 2 of text that is no log line. Invariants: a closed or full stream never stops the program (the
//! macros of the standard library panic there); a server waits for no reader ([`Stage`], [`hand`]), and what it says on standard error goes
//! by the log, whose descriptor that is. Nothing here is given a secret, apart from the admin key on the start that makes it.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FileType;
use rustix::io::Errno;

use crate::clock::Moment;
use crate::limits::{LOG_LINE_MAX_BYTES, LOG_PATIENCE_MILLIS};
use crate::log;

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

/// Writes `text` as it is to standard output, of which a reader may have enough.
///
/// # Errors
/// What the system says where it took less, unless nobody reads any more.
pub fn print(text: &str) -> io::Result<()> {
    match write_all(Output::Out.fd(), text.as_bytes()) {
        Err(Errno::PIPE) => Ok(()),
        written => Ok(written?),
    }
}

/// Writes text that must not be lost.
///
/// # Errors
/// What the system says, of a stream that was closed or leads to `/dev/null` too: at the start the standard library
/// puts the one in the place of the other.
pub fn deliver(stream: Output, text: &str) -> io::Result<()> {
    refuse_null(stream)?;
    Ok(write_all(stream.fd(), text.as_bytes())?)
}

/// The same from a server, before its filters: whoever does not read is waited for a bounded time.
///
/// # Errors
/// As [`deliver`], and that nobody reads.
pub fn hand(stream: Output, text: &str) -> io::Result<()> {
    refuse_null(stream)?;
    let handed = match stream {
        Output::Out => write_bounded(stream.fd(), text.as_bytes(), LOG_PATIENCE_MILLIS)?,
        Output::Err => log::show(text),
    };
    if handed { Ok(()) } else { Err(io::Error::other("nobody reads it")) }
}

/// Where a server says what is no log line, without waiting for whoever should read it.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    stream: Output,
    /// What is shown leaves behind the lines of the log, which are written to the same place.
    is_logs: bool,
    has_room: bool,
}

impl Stage {
    /// Gets a stream ready, before any filter: a pipe or a terminal is opened once more, so that no write waits; anything else is
    /// asked for room now.
    #[must_use]
    pub fn open(stream: Output) -> Self {
        let place = |stream: Output| {
            rustix::fs::fstat(stream.fd()).map(|found| (found.st_dev, found.st_ino, found.st_rdev)).ok()
        };
        let is_logs = stream == Output::Err || place(stream) == place(Output::Err);
        if !is_logs && let Some(own) = log::open_anew(stream.fd()) {
            let has_room = rustix::stdio::dup2_stdout(&own).is_ok();
            return Self { stream, is_logs, has_room };
        }
        Self { stream, is_logs, has_room: is_logs || has_room(stream.fd(), 0) }
    }

    /// What it is called in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.stream.name()
    }

    /// Shows `text` as it is; tells whether all of it left.
    #[must_use]
    pub fn show(self, text: &str) -> bool {
        if self.is_logs {
            return log::show(text);
        }
        self.has_room && write_all(self.stream.fd(), text.as_bytes()).is_ok()
    }
}

/// Whether a write would find room, or its failure, within so many nanoseconds.
fn has_room(fd: BorrowedFd<'_>, nanos: u64) -> bool {
    let timeout = Timespec {
        tv_sec: (nanos / 1_000_000_000).cast_signed(),
        tv_nsec: (nanos % 1_000_000_000).cast_signed(),
    };
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], Some(&timeout)).is_ok_and(|ready| ready > 0)
}

/// Writes all of `bytes`; tells whether there was room in time.
fn write_bounded(fd: BorrowedFd<'_>, mut bytes: &[u8], millis: u64) -> Result<bool, Errno> {
    let deadline = Moment::now().plus_millis(millis);
    while !bytes.is_empty() {
        let left = deadline.nanos_since(Moment::now());
        let is_ready = has_room(fd, left);
        if !is_ready && left == 0 {
            return Ok(false);
        }
        // No more than finds room wherever there is any.
        let (part, _) = bytes.split_at(bytes.len().min(LOG_LINE_MAX_BYTES));
        match if is_ready { rustix::io::write(fd, part) } else { Err(Errno::AGAIN) } {
            Ok(written @ 1..) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR | Errno::AGAIN) if left > 0 => {}
            Err(Errno::INTR | Errno::AGAIN) => return Ok(false),
            Ok(0) => return Err(Errno::IO),
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

fn refuse_null(stream: Output) -> io::Result<()> {
    let found = rustix::fs::fstat(stream.fd())?;
    let null = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && found.st_rdev == rustix::fs::makedev(1, 3);
    if null {
        return Err(io::Error::other("it is closed, or leads to /dev/null"));
    }
    Ok(())
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
    fn nobody_is_waited_for_longer_than_asked() {
        let (reader, writer) = pipe().unwrap();
        while has_room(writer.as_fd(), 0) {
            write_all(writer.as_fd(), &[b'x'; 4096]).unwrap();
        }
        assert_eq!(write_bounded(writer.as_fd(), b"nobody reads", 1), Ok(false));
        drop(reader);
        assert_eq!(write_bounded(writer.as_fd(), b"nobody is there", 1), Err(Errno::PIPE));
    }

    #[test]
    fn a_closed_stream_is_borne() {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        assert_eq!(write_all(writer.as_fd(), b"nobody listens"), Err(Errno::PIPE));
    }
}
