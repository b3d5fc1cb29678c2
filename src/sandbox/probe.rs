//! What stands under a descriptor's number: asked by reading nothing from it.
//!
//! Owns [`kind_of`]. `unsafe`, because every safe call takes a descriptor that somebody owns, and what is looked for here
//! is one that nobody knows of: its number is all there is. Invariant: nothing is read, moved or waited for; the one
//! call is `pread64` with a length of 0, which the main thread's filter allows on every number with this length alone.

use nix::errno::Errno;
use nix::libc;

/// What a descriptor is, as far as a read of nothing tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something with positions that can be read: a file.
    File,
    /// A directory.
    Directory,
    /// Something without positions: a socket, a pipe, a poll, a counter, a timer.
    Stream,
    /// Nothing is open there, or a file that can only be written.
    Unreadable,
    /// Something else.
    Other,
}

impl Kind {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "a file",
            Self::Directory => "a directory",
            Self::Stream => "a socket or a pipe",
            Self::Unreadable => "nothing that can be read",
            Self::Other => "something unknown",
        }
    }
}

/// What the descriptor of this number is.
#[must_use]
pub fn kind_of(number: i32) -> Kind {
    let mut nothing = [0u8; 0];
    // SAFETY: the kernel writes at most as many bytes as the length says, and that is 0. No byte is taken from whatever
    // has the number, its position stays, and the number is neither kept nor closed, so that no owner is disturbed.
    #[expect(unsafe_code, reason = "a number that nobody is known to own")]
    let read = unsafe { libc::pread(number, nothing.as_mut_ptr().cast(), 0, 0) };
    if read == 0 {
        return Kind::File;
    }
    match Errno::last() {
        Errno::EISDIR => Kind::Directory,
        Errno::ESPIPE => Kind::Stream,
        Errno::EBADF => Kind::Unreadable,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{File, OpenOptions};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn each_kind_of_descriptor_is_told_from_the_others() {
        let kind = |of: &dyn std::os::fd::AsRawFd| kind_of(of.as_raw_fd());
        assert_eq!(kind(&File::open("/proc/self/exe").unwrap()), Kind::File);
        assert_eq!(kind(&File::open("/proc/self/status").unwrap()), Kind::File);
        assert_eq!(kind(&File::open("/proc").unwrap()), Kind::Directory);
        assert_eq!(kind(&OpenOptions::new().write(true).open("/dev/null").unwrap()), Kind::Unreadable);
        assert_eq!(kind(&UnixStream::pair().unwrap().0), Kind::Stream);
        let (reader, writer) = std::io::pipe().unwrap();
        assert_eq!((kind(&reader), kind(&writer)), (Kind::Stream, Kind::Stream));
        let poll = mio::Poll::new().unwrap();
        assert_eq!(kind(&poll), Kind::Stream);
        assert_eq!(kind_of(1_000_000), Kind::Unreadable);
    }

    #[test]
    fn nothing_is_taken_from_what_is_asked() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writer, b"x").unwrap();
        assert_eq!(kind_of(reader.as_raw_fd()), Kind::Stream);
        let mut left = [0; 2];
        assert_eq!(std::io::Read::read(&mut (&reader), &mut left).unwrap(), 1);
    }
}
