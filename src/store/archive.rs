//! Audit files while the server runs: made, compressed and removed by the one thread that may.
//!
//! Owns the descriptor of the audit directory and the two numbers through which a part is compressed. Invariants: a file is
//! made or it is an error, never opened by accident; a name that others rely on is on disk before they do; a part is
//! removed only after what it was compressed to is on disk; what was opened gets the number of its band at once, and
//! nothing else is done with the number that it was opened under.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::{DupFlags, Errno, dup3};

use super::audit_file::audit_file_name;
use crate::audit::StreamName;
use crate::audit::chain::Mark;
use crate::audit::part::{Compressor, last_mark};
use crate::limits::{AUDIT_COMPRESS_PIECE_BYTES, AUDIT_PREALLOCATED_BYTES};

/// Everything that is made here is for its owner only.
const FILE_MODE: u32 = 0o600;

/// The audit directory, held for the life of the process.
#[derive(Debug)]
pub struct Archive {
    directory: OwnedFd,
    /// The end of a pipe without a writer.
    silence: OwnedFd,
    source: OwnedFd,
    target: OwnedFd,
}

/// How much room the file system of the audit files has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What is left for this process.
    pub free: u64,
    /// That, and what is used.
    pub total: u64,
}

/// A part that is being compressed.
#[derive(Debug)]
pub struct Compressing {
    /// Which part.
    pub part: StreamName,
    compressor: Compressor,
    written: u64,
    piece: Vec<u8>,
}

impl Archive {
    /// `source` and `target` are numbers that are held for what is compressed, `silence` is the end of a pipe without a
    /// writer.
    #[must_use]
    pub const fn new(directory: OwnedFd, silence: OwnedFd, source: OwnedFd, target: OwnedFd) -> Self {
        Self { directory, silence, source, target }
    }

    /// The audit directory.
    #[must_use]
    pub fn directory(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.directory)
    }

    /// The same, for a descriptor that is to take its place.
    pub fn directory_mut(&mut self) -> &mut OwnedFd {
        &mut self.directory
    }

    /// Makes the file of `part`, with room reserved, and gives it the number of `place`.
    ///
    /// # Errors
    /// What the system says; `place` is then what it was.
    pub fn succeed(&self, place: File, part: StreamName) -> Result<File, (File, io::Error)> {
        let mut place = OwnedFd::from(place);
        let made = self.create(part, false).and_then(|made| {
            // Lines in a file without a name would be lost by a crash.
            let named = self.sync_names().and_then(|()| dup3(&made, &mut place, DupFlags::CLOEXEC));
            if named.is_err() {
                let _ = self.unlink(part, false);
            }
            named
        });
        let place = File::from(place);
        match made {
            Ok(()) => {
                // What is written finds out whether there is room.
                let _ = rustix::fs::fallocate(&place, FallocateFlags::KEEP_SIZE, 0, AUDIT_PREALLOCATED_BYTES);
                Ok(place)
            }
            Err(errno) => Err((place, errno.into())),
        }
    }

    /// Removes the file of a part. One that is gone already is no error.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, part: StreamName, compressed: bool) -> io::Result<()> {
        Ok(self.unlink(part, compressed)?)
    }

    /// How much room there is.
    ///
    /// # Errors
    /// What the system says.
    pub fn room(&self) -> io::Result<Room> {
        let found = rustix::fs::fstatvfs(&self.directory)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        // As df counts it: what is set aside for others is no part of it.
        let used = found.f_blocks.saturating_sub(found.f_bfree);
        Ok(Room { free: bytes(found.f_bavail), total: bytes(used.saturating_add(found.f_bavail)) })
    }

    /// Begins to compress a part.
    ///
    /// # Errors
    /// What the system says; nothing was begun then.
    pub fn begin(&mut self, part: StreamName) -> io::Result<Compressing> {
        self.open_source(part, false)?;
        let begun = self.create(part, true).and_then(|made| dup3(&made, &mut self.target, DupFlags::CLOEXEC));
        if let Err(errno) = begun {
            self.give_up();
            return Err(errno.into());
        }
        let (compressor, piece) = (Compressor::new(), vec![0; AUDIT_COMPRESS_PIECE_BYTES]);
        Ok(Compressing { part, compressor, written: 0, piece })
    }

    /// Where the stream stood at the end of a part; nothing if it has no line with a mac. To be called while nothing is being
    /// compressed.
    ///
    /// # Errors
    /// What the system says, and a compressed part that is damaged.
    pub fn last_mark(&mut self, part: StreamName, compressed: bool) -> io::Result<Option<Mark>> {
        self.open_source(part, compressed)?;
        let mark = last_mark(Source(&self.source), compressed);
        self.give_up();
        mark
    }

    fn open_source(&mut self, part: StreamName, compressed: bool) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = audit_file_name(part, compressed);
        let source = rustix::fs::openat(&self.directory, name, flags, Mode::empty())?;
        Ok(dup3(&source, &mut self.source, DupFlags::CLOEXEC)?)
    }

    /// Compresses one more piece. Returns it while there is more to do, or the length of what the part was compressed to
    /// once that is on disk and the part itself is gone.
    ///
    /// # Errors
    /// What the system says; the part is then as it was, and nothing is left of the attempt.
    pub fn go_on(&mut self, mut of: Compressing) -> io::Result<Result<Compressing, u64>> {
        let part = of.part;
        let ended = match self.compress_piece(&mut of) {
            Ok(true) => return Ok(Ok(of)),
            Ok(false) => self.end(of),
            Err(error) => Err(error),
        };
        self.give_up();
        if ended.is_err() {
            // If this fails too, the next start removes it.
            let _ = self.unlink(part, true);
        }
        let written = ended?;
        // If this fails, the next start removes what the part was compressed to, and it is done again.
        self.unlink(part, false)?;
        Ok(Err(written))
    }

    fn compress_piece(&self, of: &mut Compressing) -> io::Result<bool> {
        let read = Source(&self.source).read(&mut of.piece)?;
        let packed = of.compressor.take(of.piece.get(..read).unwrap_or_default())?;
        self.write(&packed, &mut of.written)?;
        Ok(read > 0)
    }

    fn end(&self, of: Compressing) -> io::Result<u64> {
        let Compressing { compressor, mut written, .. } = of;
        self.write(&compressor.finish()?, &mut written)?;
        rustix::fs::fsync(&self.target)?;
        self.sync_names()?;
        Ok(written)
    }

    fn write(&self, mut bytes: &[u8], written: &mut u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = retry(|| rustix::io::write(&self.target, bytes))?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            *written = written.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
            bytes = bytes.get(count..).unwrap_or_default();
        }
        Ok(())
    }

    /// Lets go of both files: as long as they are open, a removed one takes room.
    fn give_up(&mut self) {
        for slot in [&mut self.source, &mut self.target] {
            // It can only fail for reasons that the numbers exclude.
            let _ = dup3(&self.silence, slot, DupFlags::CLOEXEC);
        }
    }

    /// Makes a file that must not be there yet.
    fn create(&self, part: StreamName, compressed: bool) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::APPEND
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC;
        let name = audit_file_name(part, compressed);
        rustix::fs::openat(&self.directory, name, flags, Mode::from_raw_mode(FILE_MODE))
    }

    fn unlink(&self, part: StreamName, compressed: bool) -> Result<(), Errno> {
        match rustix::fs::unlinkat(&self.directory, audit_file_name(part, compressed), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn sync_names(&self) -> Result<(), Errno> {
        rustix::fs::fsync(&self.directory)
    }
}

/// Reads the part whose number is held for it.
struct Source<'a>(&'a OwnedFd);

impl Read for Source<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(retry(|| rustix::io::read(self.0, &mut *into))?)
    }
}

/// Calls again what was only interrupted.
fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::path::{Path, PathBuf};

    use super::super::scratch::Scratch;
    use super::*;
    use crate::audit::part;

    fn silent() -> OwnedFd {
        io::pipe().unwrap().0.into()
    }

    fn opened(directory: &Path) -> Archive {
        let directory = File::open(directory).unwrap();
        Archive::new(directory.into(), silent(), silent(), silent())
    }

    fn name(number: u32) -> StreamName {
        StreamName { part: number, ..StreamName::parse("6b0320c6-32268f1d-w0").unwrap() }
    }

    fn path(scratch: &Scratch, number: u32, compressed: bool) -> PathBuf {
        scratch.path().join(audit_file_name(name(number), compressed))
    }

    fn names(scratch: &Scratch) -> usize {
        fs::read_dir(scratch.path()).unwrap().count()
    }

    #[test]
    fn a_successor_takes_the_number_of_the_part_that_was_left_and_is_a_new_file() {
        use std::os::fd::AsRawFd as _;
        let scratch = Scratch::new();
        let archive = opened(scratch.path());
        let place = File::create(path(&scratch, 1, false)).unwrap();
        let number = place.as_raw_fd();
        let mut next = archive.succeed(place, name(2)).unwrap();
        assert_eq!(next.as_raw_fd(), number);
        next.write_all(b"a line\n").unwrap();
        assert_eq!(fs::read(path(&scratch, 2, false)).unwrap(), b"a line\n");
        assert_eq!(fs::read(path(&scratch, 1, false)).unwrap(), b"");
        let (mut place, error) = archive.succeed(next, name(2)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        place.write_all(b"another\n").unwrap();
        assert_eq!(fs::read(path(&scratch, 2, false)).unwrap(), b"a line\nanother\n");
    }

    #[test]
    fn a_part_is_compressed_piece_by_piece_and_then_removed() {
        let scratch = Scratch::new();
        let mut archive = opened(scratch.path());
        let content = b"{\"seq\":12345678}\n".repeat(AUDIT_COMPRESS_PIECE_BYTES / 5);
        fs::write(path(&scratch, 1, false), &content).unwrap();
        let mut begun = archive.begin(name(1)).unwrap();
        let mut pieces = 0;
        let written = loop {
            match archive.go_on(begun).unwrap() {
                Ok(more) => {
                    assert!(path(&scratch, 1, false).exists(), "not before it is done");
                    begun = more;
                }
                Err(written) => break written,
            }
            pieces += 1;
        };
        assert_eq!(pieces, content.len().div_ceil(AUDIT_COMPRESS_PIECE_BYTES));
        let packed = path(&scratch, 1, true);
        assert_eq!(fs::metadata(&packed).unwrap().len(), written);
        let mut found = Vec::new();
        part::open(&packed).unwrap().read_to_end(&mut found).unwrap();
        assert!(found == content, "{} bytes", found.len());
        assert_eq!(names(&scratch), 1, "the part itself is gone");
    }

    #[test]
    fn a_compression_that_fails_leaves_the_part_and_nothing_else() {
        let scratch = Scratch::new();
        let mut archive = opened(scratch.path());
        assert!(archive.begin(name(1)).is_err(), "there is no such part");
        fs::write(path(&scratch, 1, false), "a line\n").unwrap();
        fs::write(path(&scratch, 1, true), "taken").unwrap();
        assert_eq!(archive.begin(name(1)).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::remove_file(path(&scratch, 1, true)).unwrap();
        let begun = archive.begin(name(1)).unwrap();
        // What is read from here on is an error, as of a disk that fails.
        archive.give_up();
        assert!(archive.go_on(begun).is_err());
        assert_eq!(names(&scratch), 1);
        assert_eq!(fs::read(path(&scratch, 1, false)).unwrap(), b"a line\n");
    }

    #[test]
    fn a_part_that_is_gone_is_removed_without_a_complaint() {
        let scratch = Scratch::new();
        let archive = opened(scratch.path());
        fs::write(path(&scratch, 1, true), "").unwrap();
        for _ in 0..2 {
            archive.remove(name(1), true).unwrap();
        }
        assert_eq!(names(&scratch), 0);
        let room = archive.room().unwrap();
        assert!(room.free <= room.total && room.total > 0);
    }
}
