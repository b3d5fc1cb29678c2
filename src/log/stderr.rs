//! Descriptor 2: whether a write to it can wait, and writes that do not.
//!
//! Owns how standard error is written. Invariant: its description may belong to other processes as well, so that no flag of it is ever changed:
//! a pipe or a terminal is opened anew, which gives this process one of its own that never waits; where that cannot be, the kernel is
//! asked for room before each write. A write is no longer than a pipe takes whole.

use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::io::{self, IsTerminal as _};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::event::{PollFd, PollFlags, Timespec, epoll};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::stdio::stderr;

use crate::clock::Moment;
use crate::limits::{LOG_LINE_MAX_BYTES, LOG_PATIENCE_MILLIS};

/// How descriptor 2 is written.
static WAY: AtomicU8 = AtomicU8::new(Way::Plain as u8);

/// Tells whether there is room, where it is asked by an epoll.
static GAUGE: OnceLock<OwnedFd> = OnceLock::new();

/// Whether filters are in force, or soon will be.
static IS_LOCKED: AtomicBool = AtomicBool::new(false);

/// Whether what has left stops within a line.
static IS_WITHIN: AtomicBool = AtomicBool::new(false);

/// Whether the rest of that line will never come, so that the next write ends it first.
static IS_TORN: AtomicBool = AtomicBool::new(false);

/// How a write behaves that finds no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Way {
    /// It does not happen (a file), or nobody has looked.
    Plain = 0,
    /// It fails, since the description is ours.
    Own = 1,
    /// It waits, since the description is shared: to be asked before.
    Shared = 2,
}

/// Why nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// There is no room.
    Full,
    /// Nobody reads it any more, or it is closed.
    Gone,
}

impl Stop {
    pub(super) fn is_full(self) -> bool {
        self == Self::Full
    }
}

/// How long the last lines wait for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// Not at all.
    None,
    /// `limits::LOG_PATIENCE_MILLIS`.
    Bounded,
}

/// A wait for room, bounded as a whole.
#[derive(Debug)]
pub(super) struct Wait(Option<Moment>);

impl Wait {
    pub(super) fn begin(patience: Patience) -> Self {
        Self((patience == Patience::Bounded).then(|| Moment::now().plus_millis(LOG_PATIENCE_MILLIS)))
    }

    /// Waits until there is room; tells whether there may be.
    pub(super) fn for_room(&mut self) -> bool {
        let Some(deadline) = self.0 else { return false };
        let left = deadline.nanos_since(Moment::now());
        left > 0 && has_room(left)
    }
}

/// Has later writes to standard error never wait: for a process that has more to do than to tell.
pub fn own() {
    let Ok(found) = rustix::fs::fstat(stderr()) else { return };
    let way = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile | FileType::BlockDevice => Way::Plain,
        FileType::CharacterDevice if !is_terminal() => Way::Plain,
        _ => match open_anew(stderr()).map(|opened| rustix::stdio::dup2_stderr(&opened)) {
            Some(Ok(())) => Way::Own,
            _ => Way::Shared,
        },
    };
    WAY.store(way as u8, Ordering::Relaxed);
}

/// Whether people read along.
#[must_use]
pub fn is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Whether standard error is what `JOURNAL_STREAM` names (systemd.exec(5)): device and inode, as `8:1234`.
#[must_use]
pub fn is_journal(named: &str) -> bool {
    let named =
        named.split_once(':').and_then(|(device, inode)| Some((device.parse().ok()?, inode.parse().ok()?)));
    let found = rustix::fs::fstat(stderr()).ok().map(|found| (found.st_dev, found.st_ino));
    named.is_some() && named == found
}

/// Opens once more the pipe or the terminal that a stream leads to, for this process alone, whose writes then never wait. Nothing of
/// what is neither, or what belongs to somebody else.
#[must_use]
pub fn open_anew(stream: BorrowedFd<'_>) -> Option<OwnedFd> {
    let found = rustix::fs::fstat(stream).ok()?;
    let may_wait = match FileType::from_raw_mode(found.st_mode) {
        FileType::Fifo => true,
        FileType::CharacterDevice => stream.is_terminal(),
        _ => false,
    };
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let name = may_wait.then(|| format!("/proc/self/fd/{}", stream.as_raw_fd()))?;
    let opened = rustix::fs::open(name, flags, Mode::empty()).ok()?;
    // A name is a name: what it leads to is looked at before it takes the place.
    let same = rustix::fs::fstat(&opened).ok()?;
    ((same.st_dev, same.st_ino) == (found.st_dev, found.st_ino)).then_some(opened)
}

/// One write, which waits only where the description is shared.
pub(super) fn write(bytes: &[u8]) -> Result<usize, Stop> {
    mend()?;
    put(bytes)
}

/// One write that never waits.
pub(super) fn write_at_once(bytes: &[u8]) -> Result<usize, Stop> {
    ask_for_room()?;
    if IS_TORN.load(Ordering::Relaxed) {
        mend()?;
        ask_for_room()?;
    }
    put(bytes)
}

/// The rest of a line of which the beginning may be out will not be written.
pub(super) fn give_up_line() {
    IS_TORN.fetch_or(IS_WITHIN.load(Ordering::Relaxed), Ordering::Relaxed);
}

/// Ends a line whose rest will not come.
fn mend() -> Result<(), Stop> {
    if IS_TORN.load(Ordering::Relaxed) {
        put(b"\n")?;
        IS_TORN.store(false, Ordering::Relaxed);
    }
    Ok(())
}

fn ask_for_room() -> Result<(), Stop> {
    let is_full = WAY.load(Ordering::Relaxed) == Way::Shared as u8 && !has_room(0);
    if is_full { Err(Stop::Full) } else { Ok(()) }
}

fn put(bytes: &[u8]) -> Result<usize, Stop> {
    loop {
        match rustix::io::write(stderr(), bytes) {
            Ok(written @ 1..) => {
                let last = bytes.get(..written).and_then(<[u8]>::last);
                IS_WITHIN.store(last != Some(&b'\n'), Ordering::Relaxed);
                return Ok(written);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Err(Stop::Full),
            _ => return Err(Stop::Gone),
        }
    }
}

/// Whether the last line that was written patiently found no room: nobody is waited for twice.
static IS_STUCK: AtomicBool = AtomicBool::new(false);

/// How long whoever reads is waited for now.
pub(super) fn patience() -> Patience {
    if IS_STUCK.load(Ordering::Relaxed) { Patience::None } else { Patience::Bounded }
}

/// Writes all of `text`, for which it waits a bounded time where a write can be kept from waiting for ever; tells whether it
/// left.
pub(super) fn write_patiently(text: &[u8]) -> bool {
    let left = write_within(text, &mut Wait::begin(patience()));
    IS_STUCK.store(left == Err(Stop::Full), Ordering::Relaxed);
    left.is_ok()
}

/// Writes all of a line without waiting.
pub(super) fn write_whole(line: &[u8]) -> Result<(), Stop> {
    write_within(line, &mut Wait::begin(Patience::None))
}

fn write_within(mut text: &[u8], wait: &mut Wait) -> Result<(), Stop> {
    while !text.is_empty() {
        // No more than finds room wherever there is any.
        let (part, _) = text.split_at(text.len().min(LOG_LINE_MAX_BYTES));
        match write_at_once(part) {
            Ok(written) => text = text.get(written..).unwrap_or_default(),
            Err(Stop::Full) if wait.for_room() => {}
            Err(stop) => {
                give_up_line();
                return Err(stop);
            }
        }
    }
    Ok(())
}

/// Whether a write to standard error may find no room: then [`gauge`] tells.
#[must_use]
pub fn may_be_full() -> bool {
    WAY.load(Ordering::Relaxed) != Way::Plain as u8
}

/// Makes an epoll that tells whether standard error has room.
///
/// # Errors
/// What the system refuses.
pub fn gauge() -> io::Result<OwnedFd> {
    let gauge = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    // Not by edges: it is asked what is, not what has changed.
    epoll::add(&gauge, stderr(), epoll::EventData::new_u64(0), epoll::EventFlags::OUT)?;
    Ok(gauge)
}

/// From now on the process calls nothing that its filters do not allow: room is asked for by `gauge` alone, if there is one.
pub(super) fn lock(gauge: Option<OwnedFd>) {
    IS_LOCKED.store(true, Ordering::Relaxed);
    if let Some(gauge) = gauge {
        let _ = GAUGE.set(gauge);
    }
}

/// Whether a write would find room, or its failure, within so many nanoseconds.
fn has_room(nanos: u64) -> bool {
    if let Some(gauge) = GAUGE.get() {
        let mut found =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
        return epoll::wait(gauge, &mut found[..], Some(&timespec(nanos))).is_ok_and(|ready| ready > 0);
    }
    if IS_LOCKED.load(Ordering::Relaxed) {
        // Nobody can be asked: what cannot be written without waiting is lost.
        return false;
    }
    let mut asked = [PollFd::from_borrowed_fd(stderr(), PollFlags::OUT)];
    // An interruption counts as none: whoever waits asks again.
    rustix::event::poll(&mut asked, Some(&timespec(nanos))).is_ok_and(|ready| ready > 0)
}

fn timespec(nanos: u64) -> Timespec {
    Timespec { tv_sec: (nanos / 1_000_000_000).cast_signed(), tv_nsec: (nanos % 1_000_000_000).cast_signed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_that_is_named_is_the_journal() {
        let found = rustix::fs::fstat(stderr()).unwrap();
        let (device, inode) = (found.st_dev, found.st_ino);
        assert!(is_journal(&format!("{device}:{inode}")));
        for other in [
            format!("{device}:{}", inode + 1),
            format!("{}:{inode}", device + 1),
            "8".to_owned(),
            String::new(),
        ] {
            assert!(!is_journal(&other), "{other}");
        }
    }
}
