//! Descriptor numbers: after lock-down a number says what a descriptor is, and the filters compare numbers.
//!
//! Owns the ways to bring a descriptor into its band (`limits::FD_*`). Invariant: no number is closed or
//! replaced under anybody's feet (an audit file is replaced by the archivist, which was given it); where a new descriptor must get a given number, the free numbers below it
//! are held by duplicates of a pipe without a writer, from which nothing can be read and to which nothing can
//! be written.

use core::mem::MaybeUninit;
use std::fs;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::cmsg_space;
use rustix::io::{DupFlags, dup3, fcntl_dupfd_cloexec};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::limits::{DESCRIPTORS_CEILING_COUNT, FD_CONNECTION_FIRST_NUMBER};

/// Moves `fd` to the lowest free number from `first` to `last`; one that is there already stays.
///
/// # Errors
/// If the band is full, or the system's limit is reached. The descriptor is then closed.
pub fn place(fd: OwnedFd, first: i32, last: i32) -> io::Result<OwnedFd> {
    if (first..=last).contains(&fd.as_raw_fd()) {
        return Ok(fd);
    }
    let placed = fcntl_dupfd_cloexec(&fd, first)?;
    if placed.as_raw_fd() > last {
        let full = format!("no free descriptor from {first} to {last}");
        return Err(io::Error::new(ErrorKind::AddrInUse, full));
    }
    Ok(placed)
}

/// Runs `make` so that the first descriptor it opens gets exactly `number`: for what cannot be moved, such as
/// `mio::Poll`. Only for a single-threaded start: another thread could take the number.
///
/// # Errors
/// If `number` is taken, `make` fails, or `make` opened no descriptor.
pub fn create_at<T>(number: i32, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let harmless = fcntl_dupfd_cloexec(silent_pipe()?, number.saturating_add(1))?;
    let fillers = fill(harmless.as_fd(), number)?;
    let probe = fcntl_dupfd_cloexec(&harmless, number)?;
    if probe.as_raw_fd() != number {
        return Err(taken(number));
    }
    drop(probe);
    let made = make()?;
    let probe = fcntl_dupfd_cloexec(&harmless, number)?;
    if probe.as_raw_fd() == number {
        let unused = format!("nothing was opened as descriptor {number}");
        return Err(io::Error::other(unused));
    }
    drop(fillers);
    Ok(made)
}

/// Descriptors that hold numbers, so that no other can get them.
#[derive(Debug)]
pub struct Fillers(Vec<OwnedFd>);

impl Fillers {
    /// How many numbers are held.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// Takes every free number below `number` for as long as the result lives. The server keeps it to its end with
/// [`FD_CONNECTION_FIRST_NUMBER`]: a connection can then never be taken for an audit file.
///
/// # Errors
/// If the system's limit is reached.
pub fn fill_below(number: i32) -> io::Result<Fillers> {
    let harmless = fcntl_dupfd_cloexec(silent_pipe()?, number)?;
    fill(harmless.as_fd(), number).map(Fillers)
}

/// Holds `number` by the reading end of a pipe without a writer.
///
/// # Errors
/// If `number` is taken, or the system's limit is reached.
pub fn hold(number: i32) -> io::Result<OwnedFd> {
    // A duplicate gets the lowest free number from here on: no number below it has to be held for that.
    let held = fcntl_dupfd_cloexec(silent_pipe()?, number)?;
    if held.as_raw_fd() == number { Ok(held) } else { Err(taken(number)) }
}

/// Puts a duplicate of `of` in the place of what `fd` was, under the same number.
///
/// # Errors
/// If the system's limit is reached.
pub fn replace(of: BorrowedFd<'_>, fd: &mut OwnedFd) -> io::Result<()> {
    Ok(dup3(of, fd, DupFlags::CLOEXEC)?)
}

/// A duplicate of what this process inherited as `number`, closed on `exec`.
///
/// To name an inherited descriptor by its number alone is a promise to the compiler that only `unsafe` can make. Sent to
/// ourselves over a socket it comes back as one that we own.
///
/// # Errors
/// If `number` is not open.
pub fn adopt(number: i32) -> io::Result<OwnedFd> {
    let (here, there) = UnixDatagram::pair()?;
    let payload = [IoSlice::new(&[0])];
    let rights = [ControlMessage::ScmRights(&[number])];
    sendmsg::<()>(here.as_raw_fd(), &payload, &rights, MsgFlags::empty(), None)?;
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(&there, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let received = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    received.ok_or_else(|| io::Error::other("the system gave no duplicate"))
}

/// Closes every descriptor from 3 on that this process inherited, except those in `keep`. To be called first
/// of all, before anything is opened, because it closes by number.
///
/// # Errors
/// If a descriptor cannot be closed.
pub fn close_inherited(keep: &[i32]) -> io::Result<usize> {
    let mut closed = 0;
    for number in open_numbers() {
        if number < 3 || keep.contains(&number) {
            continue;
        }
        match nix::unistd::close(number) {
            Ok(()) => closed += 1,
            // The listing's own descriptor, or a number of the blind search that is free.
            Err(Errno::EBADF) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(closed)
}

/// The numbers that may be open: those that `/proc` lists, or, without it, all that the limit allows.
fn open_numbers() -> Vec<i32> {
    let listed: io::Result<Vec<i32>> = fs::read_dir("/proc/self/fd").and_then(|entries| {
        let numbers = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().parse().ok()));
        numbers.filter_map(io::Result::transpose).collect()
    });
    listed.unwrap_or_else(|_| {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let last = limit.unwrap_or(u64::MAX).clamp(0, DESCRIPTORS_CEILING_COUNT);
        (3..i32::try_from(last).unwrap_or(FD_CONNECTION_FIRST_NUMBER)).collect()
    })
}

fn taken(number: i32) -> io::Error {
    io::Error::new(ErrorKind::AddrInUse, format!("descriptor {number} is taken"))
}

/// The reading end of a pipe without a writer.
fn silent_pipe() -> io::Result<OwnedFd> {
    io::pipe().map(|(reader, _)| reader.into())
}

/// Duplicates `harmless` to every free number below `number`.
fn fill(harmless: BorrowedFd<'_>, number: i32) -> io::Result<Vec<OwnedFd>> {
    let mut fillers = Vec::new();
    loop {
        let filler = fcntl_dupfd_cloexec(harmless, 0)?;
        if filler.as_raw_fd() >= number {
            return Ok(fillers);
        }
        fillers.push(filler);
    }
}
