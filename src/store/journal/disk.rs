//! The calls that a journal makes of the disk, and the files that answer them.
//!
//! Owns the seam [`Disk`], so that tests can be a disk that fails or loses power, and [`Files`], the real one.
//! Invariants: after [`Files::open`] nothing is opened any more, so that the journal lives under lock-down; each
//! method is one system call, repeated only where it was interrupted before it began; a failed sync is never tried
//! again, because the kernel forgets what it could not write.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, FallocateFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::super::data_dir::DataDir;
use super::super::entry::{Entry, Owner};
use super::super::error::StoreError;
use super::Slot;

const NAME: &str = "journal";
const NEXT_NAME: &str = "journal.next";
const PROBE_NAME: &str = "journal.probe";

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// The journal.
    Journal,
    /// The file that becomes the journal at the next compaction.
    Next,
}

/// The disk under a journal.
pub(super) trait Disk: Send {
    /// Length of the journal.
    fn size(&self) -> Result<u64, Errno>;
    /// Reads from the journal; less than asked for if it ends, or for no reason.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, Errno>;
    /// Writes to the end of a file; less than asked for if room runs out, or for no reason.
    fn write(&self, which: Which, bytes: &[u8]) -> Result<usize, Errno>;
    /// Makes durable what was written to the journal (`fdatasync`).
    fn sync_change(&self) -> Result<(), Errno>;
    /// Makes a whole file durable (`fsync`).
    fn sync_file(&self, which: Which) -> Result<(), Errno>;
    /// Cuts a file.
    fn truncate(&self, which: Which, len: u64) -> Result<(), Errno>;
    /// Reserves room in a file without lengthening it.
    fn reserve(&self, which: Which, offset: u64, len: u64) -> Result<(), Errno>;
    /// Whether there is a successor.
    fn has_next(&self) -> bool;
    /// Gives the successor the name of the journal: from then on it is [`Which::Journal`]. Only some errors say
    /// that nothing happened.
    fn replace(&mut self) -> Result<(), Errno>;
    /// Makes the names durable.
    fn sync_names(&self) -> Result<(), Errno>;
}

/// The journal and its successor in the data directory, each held open.
#[derive(Debug)]
pub(super) struct Files {
    journal: OwnedFd,
    next: Option<OwnedFd>,
    directory: OwnedFd,
    /// Whether the files exchange their names, or the journal is replaced for good.
    exchanges: bool,
}

impl Files {
    /// The path of the journal, for messages.
    pub(super) fn path(data_dir: &DataDir) -> PathBuf {
        data_dir.path().join(NAME)
    }

    /// Whether there is a journal.
    pub(super) fn exist(data_dir: &DataDir) -> Result<bool, StoreError> {
        Ok(named(data_dir, NAME, |entry, owner| entry.open_file(OFlags::RDONLY, owner))?.is_some())
    }

    /// Opens the journal to read it, and changes nothing.
    pub(super) fn open_for_reading(data_dir: &DataDir) -> Result<Self, StoreError> {
        Self::open_with(data_dir, OFlags::RDONLY)
    }

    /// Opens the journal in the directory at `data_dir` to read it, whoever writes to it; its path comes with it.
    pub(super) fn open_in_use(data_dir: &Path) -> Result<(PathBuf, Self), StoreError> {
        let path = data_dir.join(NAME);
        let failed = |errno| match errno {
            Errno::NOENT => StoreError::NoStore { path: data_dir.to_owned() },
            errno => StoreError::Io { action: "open", path: path.clone(), errno },
        };
        // Without NONBLOCK the open of a FIFO would wait for its other end.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let directory = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(data_dir, directory, Mode::empty()).map_err(failed)?;
        let journal = rustix::fs::openat(&directory, NAME, flags, Mode::empty()).map_err(failed)?;
        Ok((path, Self { journal, next: None, directory, exchanges: false }))
    }

    /// Opens the journal, and makes sure that what is read of it is what the disk holds: after a crash, or after a
    /// failed sync, memory may know better than the disk.
    pub(super) fn open(data_dir: &DataDir) -> Result<Self, StoreError> {
        let files = Self::open_with(data_dir, OFlags::RDWR | OFlags::APPEND)?;
        named(data_dir, NAME, |entry, _| {
            rustix::fs::fsync(&files.journal).map_err(|errno| entry.failed("sync", errno))?;
            entry.sync_directory()
        })?;
        // Advice: a file system that does not take it reads from memory.
        let _ = rustix::fs::fadvise(&files.journal, 0, None, Advice::DontNeed);
        Ok(files)
    }

    /// Makes a file that will be the first journal once [`Files::give_name`] was called.
    pub(super) fn create(data_dir: &DataDir) -> Result<Self, StoreError> {
        let journal = fresh(data_dir, NEXT_NAME)?;
        Ok(Self { journal, next: None, directory: own_directory(data_dir)?, exchanges: false })
    }

    /// Makes what [`Files::create`] made the journal.
    pub(super) fn give_name(data_dir: &DataDir) -> Result<(), StoreError> {
        named(data_dir, NEXT_NAME, |new, _| named(data_dir, NAME, |entry, _| new.rename_to(entry)))
    }

    /// Makes an empty successor, in place of one that a crash left behind. With `in_use`, it is for exchanges of the
    /// names, if the file system can do that; else there is none. Without, it is for one replacement.
    pub(super) fn prepare_next(&mut self, data_dir: &DataDir, in_use: bool) -> Result<(), StoreError> {
        let next = fresh(data_dir, NEXT_NAME)?;
        self.exchanges = in_use && exchange_works(data_dir)?;
        self.next = (self.exchanges || !in_use).then_some(next);
        Ok(())
    }

    /// Lets go of a successor that was only for one replacement.
    pub(super) fn forget_next(&mut self) {
        self.next = None;
    }

    /// The data directory.
    pub(super) fn directory(&mut self) -> &mut OwnedFd {
        &mut self.directory
    }

    /// Moves each descriptor by `place`.
    pub(super) fn placed(
        self,
        mut place: impl FnMut(OwnedFd, Slot) -> io::Result<OwnedFd>,
    ) -> io::Result<Self> {
        Ok(Self {
            journal: place(self.journal, Slot::Journal)?,
            next: self.next.map(|next| place(next, Slot::Next)).transpose()?,
            directory: place(self.directory, Slot::Directory)?,
            exchanges: self.exchanges,
        })
    }

    fn open_with(data_dir: &DataDir, flags: OFlags) -> Result<Self, StoreError> {
        let opened = named(data_dir, NAME, |entry, owner| entry.open_file(flags, owner))?;
        let journal = opened.ok_or_else(|| StoreError::NoStore { path: data_dir.path().to_owned() })?;
        Ok(Self { journal, next: None, directory: own_directory(data_dir)?, exchanges: false })
    }

    fn file(&self, which: Which) -> Result<BorrowedFd<'_>, Errno> {
        match which {
            Which::Journal => Ok(self.journal.as_fd()),
            Which::Next => self.next.as_ref().map(OwnedFd::as_fd).ok_or(Errno::BADF),
        }
    }
}

#[cfg(test)]
impl Files {
    /// Puts another file in the place of the journal's, to see it fail.
    pub(super) fn change_journal(&mut self, file: OwnedFd) -> OwnedFd {
        core::mem::replace(&mut self.journal, file)
    }

    /// Puts another file in the place of the successor's.
    pub(super) fn change_next(&mut self, file: Option<OwnedFd>) -> Option<OwnedFd> {
        core::mem::replace(&mut self.next, file)
    }
}

impl Disk for Files {
    fn size(&self) -> Result<u64, Errno> {
        u64::try_from(rustix::fs::fstat(&self.journal)?.st_size).map_err(|_| Errno::OVERFLOW)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<usize, Errno> {
        unless_interrupted(|| rustix::io::pread(&self.journal, &mut *into, offset))
    }

    fn write(&self, which: Which, bytes: &[u8]) -> Result<usize, Errno> {
        let file = self.file(which)?;
        unless_interrupted(|| rustix::io::write(file, bytes))
    }

    fn sync_change(&self) -> Result<(), Errno> {
        rustix::fs::fdatasync(&self.journal)
    }

    fn sync_file(&self, which: Which) -> Result<(), Errno> {
        rustix::fs::fsync(self.file(which)?)
    }

    fn truncate(&self, which: Which, len: u64) -> Result<(), Errno> {
        let file = self.file(which)?;
        unless_interrupted(|| rustix::fs::ftruncate(file, len))
    }

    fn reserve(&self, which: Which, offset: u64, len: u64) -> Result<(), Errno> {
        let file = self.file(which)?;
        unless_interrupted(|| rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, offset, len))
    }

    fn has_next(&self) -> bool {
        self.next.is_some()
    }

    fn replace(&mut self) -> Result<(), Errno> {
        let next = self.next.as_mut().ok_or(Errno::BADF)?;
        let flags = if self.exchanges { RenameFlags::EXCHANGE } else { RenameFlags::empty() };
        rustix::fs::renameat_with(&self.directory, NEXT_NAME, &self.directory, NAME, flags)?;
        core::mem::swap(&mut self.journal, next);
        if !self.exchanges {
            self.next = None;
        }
        Ok(())
    }

    fn sync_names(&self) -> Result<(), Errno> {
        rustix::fs::fsync(&self.directory)
    }
}

fn unless_interrupted<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Lends the entry of this name to `with`.
fn named<T>(
    data_dir: &DataDir,
    name: &str,
    with: impl FnOnce(Entry<'_>, Owner) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let path = data_dir.path().join(name);
    let entry = Entry { within: data_dir.directory(), name: Path::new(name), path: &path };
    with(entry, data_dir.owner())
}

/// A new, empty file in place of any other of this name. The lock is ours, so nobody uses that one.
fn fresh(data_dir: &DataDir, name: &str) -> Result<OwnedFd, StoreError> {
    named(data_dir, name, |entry, owner| {
        entry.remove()?;
        entry
            .create_file(OFlags::RDWR | OFlags::APPEND, owner)?
            .ok_or_else(|| entry.failed("create", Errno::EXIST))
    })
}

fn own_directory(data_dir: &DataDir) -> Result<OwnedFd, StoreError> {
    data_dir.directory().try_clone_to_owned().map_err(|error| StoreError::Io {
        action: "open",
        path: data_dir.path().to_owned(),
        errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    })
}

/// Whether the file system exchanges two names at once; tried on two empty files.
fn exchange_works(data_dir: &DataDir) -> Result<bool, StoreError> {
    fresh(data_dir, PROBE_NAME)?;
    let directory = data_dir.directory();
    let tried = rustix::fs::renameat_with(directory, PROBE_NAME, directory, NEXT_NAME, RenameFlags::EXCHANGE);
    let back = tried.and_then(|()| {
        rustix::fs::renameat_with(directory, PROBE_NAME, directory, NEXT_NAME, RenameFlags::EXCHANGE)
    });
    named(data_dir, PROBE_NAME, |entry, _| entry.remove())?;
    Ok(back.is_ok())
}
