//! Text for people: standard output, standard error, log lines.
//!
//! Owns the writing to descriptors 1 and 2. Invariants: a closed or full stream never stops the program (the
//! macros of the standard library panic there), but a pipe that nobody empties holds up the thread that writes
//! to it, so whoever has something to do does it before telling; a line goes out in one `write`, so that threads
//! do not mix theirs; a log line is one line, whatever the text holds. Nothing here is given a secret, apart from
//! the admin key on the start that makes it.

use core::fmt::{self, Write as _};
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::clock::WallTime;

/// How much a log line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What happens in a healthy run.
    Info,
    /// Something to look at; service goes on.
    Warn,
    /// Something failed.
    Error,
}

impl Level {
    /// The word in the line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

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

/// Writes one log line to standard error: time in UTC, level, text.
///
/// Call it as `console::log(Level::Info, format_args!("..."))`.
pub fn log(level: Level, text: fmt::Arguments<'_>) {
    err(&log_line(WallTime::now(), level, text));
}

fn log_line(now: WallTime, level: Level, text: fmt::Arguments<'_>) -> String {
    let mut line = String::new();
    // Writing to a string fails only if a `Display` of the text does; what it wrote until then is the line.
    let _ = write!(line, "{} {} ", now.civil(), level.name());
    let _ = write!(OneLine(&mut line), "{text}");
    line.push('\n');
    line
}

/// Escapes control characters, so that text from outside cannot forge a line or steer a terminal.
struct OneLine<'a>(&'a mut String);

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if char.is_control() { self.0.extend(char.escape_default()) } else { self.0.push(char) }
        }
        Ok(())
    }
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
    fn a_log_line_holds_time_level_and_text() {
        let now = WallTime::from_millis(1_795_362_166_123);
        let line = log_line(now, Level::Warn, format_args!("disk {}", "full"));
        assert_eq!(line, "2026-11-22T15:42:46.123Z WARN disk full\n");
    }

    #[test]
    fn control_characters_cannot_forge_a_line() {
        let line = log_line(WallTime::from_millis(0), Level::Info, format_args!("a\nb\x1b[2J\u{e9}"));
        assert_eq!(line, "1970-01-01T00:00:00.000Z INFO a\\nb\\u{1b}[2J\u{e9}\n");
    }

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
