//! Directories and files below a directory descriptor: opened or created, then checked.
//!
//! Owns the checks on kind, owner and mode, which look at the descriptor that was opened and not at the name
//! again. Invariants: no symbolic link is followed in the last component; what exists and is not the owner's
//! alone is refused; what is created is given to the owner before anything else happens to it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid};
use rustix::io::Errno;

use super::error::StoreError;

/// Everything that is created: for its owner only.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// The user and group that will serve, and have to own the data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Owner {
    /// The user and group of this process.
    pub(super) fn this_process() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self { uid, gid: rustix::process::getegid().as_raw() }
    }
}

/// A name below a directory that is held open, with its path for messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    /// The directory.
    pub(super) within: BorrowedFd<'a>,
    /// The name in it.
    pub(super) name: &'a Path,
    /// The whole path: shown, never opened.
    pub(super) path: &'a Path,
}

impl Entry<'_> {
    /// Opens the directory, or creates it; tells whether it did.
    pub(super) fn open_or_create_directory(self, owner: Owner) -> Result<(OwnedFd, bool), StoreError> {
        let created = match rustix::fs::mkdirat(self.within, self.name, Mode::from_raw_mode(DIRECTORY_MODE)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(self.failed("create", errno)),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(self.within, self.name, flags, Mode::empty())
            .map_err(|errno| self.not_opened(errno, FileType::Directory, owner))?;
        if created {
            // What was opened must be what was created, in case someone exchanged it in between.
            self.check(&fd, FileType::Directory, Owner::this_process(), DIRECTORY_MODE)?;
            self.give(&fd, owner)?;
        } else {
            self.adopt(&fd, owner)?;
        }
        self.check(&fd, FileType::Directory, owner, DIRECTORY_MODE)?;
        Ok((fd, created))
    }

    /// Opens the file with `flags`, or creates it; tells whether it did.
    pub(super) fn open_or_create_file(
        self,
        flags: OFlags,
        owner: Owner,
    ) -> Result<(OwnedFd, bool), StoreError> {
        if let Some(fd) = self.create_file(flags, owner)? {
            return Ok((fd, true));
        }
        let fd = self.open_file(flags, owner)?.ok_or_else(|| self.failed("open", Errno::NOENT))?;
        Ok((fd, false))
    }

    /// Creates the file; nothing if the name is taken.
    pub(super) fn create_file(self, flags: OFlags, owner: Owner) -> Result<Option<OwnedFd>, StoreError> {
        let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(self.within, self.name, flags, Mode::from_raw_mode(FILE_MODE)) {
            Ok(fd) => {
                self.give(&fd, owner)?;
                self.check(&fd, FileType::RegularFile, owner, FILE_MODE)?;
                Ok(Some(fd))
            }
            Err(Errno::EXIST) => Ok(None),
            Err(errno) => Err(self.failed("create", errno)),
        }
    }

    /// Opens the file; nothing if there is none.
    pub(super) fn open_file(self, flags: OFlags, owner: Owner) -> Result<Option<OwnedFd>, StoreError> {
        // Without NONBLOCK the open of a FIFO would wait for its other end.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        match rustix::fs::openat(self.within, self.name, flags, Mode::empty()) {
            Ok(fd) => {
                self.adopt(&fd, owner)?;
                self.check(&fd, FileType::RegularFile, owner, FILE_MODE)?;
                Ok(Some(fd))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.not_opened(errno, FileType::RegularFile, owner)),
        }
    }

    /// Removes the file, if there is one.
    pub(super) fn remove(self) -> Result<(), StoreError> {
        match rustix::fs::unlinkat(self.within, self.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove", errno)),
        }
    }

    /// Gives the file the name of `target`, whatever stood there, and makes that durable.
    pub(super) fn rename_to(self, target: Entry<'_>) -> Result<(), StoreError> {
        rustix::fs::renameat(self.within, self.name, target.within, target.name)
            .map_err(|errno| self.failed("rename", errno))?;
        target.sync_directory()
    }

    /// Makes the names in the directory durable.
    pub(super) fn sync_directory(self) -> Result<(), StoreError> {
        rustix::fs::fsync(self.within).map_err(|errno| self.failed("sync the directory of", errno))
    }

    /// The failure of a system call on this entry.
    pub(super) fn failed(self, action: &'static str, errno: Errno) -> StoreError {
        StoreError::Io { action, path: self.path.to_owned(), errno }
    }

    fn give(self, fd: &OwnedFd, owner: Owner) -> Result<(), StoreError> {
        if owner == Owner::this_process() {
            return Ok(());
        }
        rustix::fs::fchown(fd, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))
            .map_err(|errno| self.failed("hand over", errno))
    }

    /// Gives away what an earlier start as root created and was stopped before it gave it away: it is root's, for its
    /// owner only, empty, and nowhere else.
    fn adopt(self, fd: &OwnedFd, owner: Owner) -> Result<(), StoreError> {
        if owner == Owner::this_process() || Owner::this_process().uid != 0 {
            return Ok(());
        }
        let failed = |errno| self.failed("look at", errno);
        let stat = rustix::fs::fstat(fd).map_err(failed)?;
        let empty = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => stat.st_size == 0 && stat.st_nlink == 1,
            FileType::Directory => {
                let mut names = rustix::fs::Dir::read_from(fd).map_err(failed)?;
                names.all(|entry| entry.is_ok_and(|entry| [c".", c".."].contains(&entry.file_name())))
            }
            _ => false,
        };
        if stat.st_uid == 0 && stat.st_mode & 0o077 == 0 && empty {
            return self.give(fd, owner);
        }
        Ok(())
    }

    fn check(self, fd: impl AsFd, kind: FileType, owner: Owner, mode: u32) -> Result<(), StoreError> {
        let stat = rustix::fs::fstat(fd).map_err(|errno| self.failed("look at", errno))?;
        self.judge(&stat, kind, owner, mode)
    }

    fn judge(self, stat: &Stat, kind: FileType, owner: Owner, mode: u32) -> Result<(), StoreError> {
        let path = || -> PathBuf { self.path.to_owned() };
        let found = FileType::from_raw_mode(stat.st_mode);
        if found == FileType::Symlink {
            return Err(StoreError::SymbolicLink { path: path() });
        }
        if found != kind {
            let expected = if kind == FileType::Directory { "a directory" } else { "a regular file" };
            return Err(StoreError::WrongKind { path: path(), expected });
        }
        if stat.st_uid != owner.uid {
            return Err(StoreError::ForeignOwner { path: path(), found: stat.st_uid, expected: owner });
        }
        let bits = stat.st_mode & 0o7777;
        if bits & 0o077 != 0 || bits & mode != mode {
            return Err(StoreError::Mode { path: path(), found: bits, expected: mode });
        }
        Ok(())
    }

    /// Why an open failed: the cause that can be seen from outside, else what the system said.
    fn not_opened(self, errno: Errno, kind: FileType, owner: Owner) -> StoreError {
        let mode = if kind == FileType::Directory { DIRECTORY_MODE } else { FILE_MODE };
        rustix::fs::statat(self.within, self.name, AtFlags::SYMLINK_NOFOLLOW)
            .ok()
            .and_then(|stat| self.judge(&stat, kind, owner, mode).err())
            .unwrap_or_else(|| self.failed("open", errno))
    }
}
