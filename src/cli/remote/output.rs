//! Where results go: standard output, or a file that appears whole or not at all.
//!
//! Owns [`Sink`]. Invariants: a file that is not finished never has its name, and goes away with the process where the file system
//! can do that; it is for its owner only; what exists is replaced only if that was asked for.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, linkat};

use crate::cli::failure::Failure;
use crate::store::quoted;

/// Where a result goes.
pub(in crate::cli) enum Sink {
    Standard(File),
    File(Draft),
}

/// A file without its name.
pub(in crate::cli) struct Draft {
    file: File,
    path: PathBuf,
    /// What it is called meanwhile, where it has to have a name.
    named: Option<PathBuf>,
    replaces: bool,
}

impl Sink {
    /// A new file at `path`, or standard output.
    pub(in crate::cli) fn open(path: Option<&Path>, replaces: bool) -> Result<Self, Failure> {
        let Some(path) = path else {
            if is_stand_in() {
                return Err(Failure::io("standard output is closed, and the result would be lost"));
            }
            return Self::anywhere();
        };
        Draft::create(path, replaces).map(Self::File)
    }

    /// Standard output, also where nothing that is written is kept.
    pub(in crate::cli) fn anywhere() -> Result<Self, Failure> {
        let standard = rustix::stdio::stdout().try_clone_to_owned();
        let closed = |error: io::Error| Failure::io(format!("standard output: {error}"));
        Ok(Self::Standard(File::from(standard.map_err(closed)?)))
    }

    /// Whether somebody looks at it.
    pub(in crate::cli) fn is_terminal(&self) -> bool {
        matches!(self, Self::Standard(file) if file.is_terminal())
    }

    /// Adds to it.
    pub(in crate::cli) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Standard(file) => {
                file.write_all(bytes).map_err(|error| Failure::io(format!("standard output: {error}")))
            }
            Self::File(draft) => draft.file.write_all(bytes).map_err(|error| draft.failed(&error)),
        }
    }

    /// It is whole: a file gets its name.
    pub(in crate::cli) fn finish(self) -> Result<(), Failure> {
        match self {
            Self::Standard(_) => Ok(()),
            Self::File(draft) => draft.finish().map_err(|error| draft.failed(&error)),
        }
    }

    /// Writes all there is.
    pub(in crate::cli) fn fill(mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.write(bytes)?;
        self.finish()
    }
}

impl Draft {
    fn create(path: &Path, replaces: bool) -> Result<Self, Failure> {
        let shown = quoted(path);
        match fs::symlink_metadata(path) {
            Ok(_) if !replaces => {
                return Err(Failure::config(format!(
                    "{shown} exists and is not overwritten: name another file, or give --force"
                )));
            }
            Ok(found) if !found.is_file() => {
                return Err(Failure::config(format!(
                    "{shown} is no ordinary file: leave --out away and redirect standard output there"
                )));
            }
            _ => {}
        }
        let failed = |error: io::Error| Failure::config(format!("cannot make {shown}: {error}"));
        let name = path.file_name().ok_or_else(|| failed(ErrorKind::InvalidInput.into()))?;
        // Without a name it ends with the process, however that ends.
        let mode = Mode::from_raw_mode(0o600);
        if let Ok(unnamed) =
            rustix::fs::open(folder(path), OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, mode)
            && by_descriptor(unnamed.as_fd().as_raw_fd()).exists()
        {
            return Ok(Self { file: File::from(unnamed), path: path.to_owned(), named: None, replaces });
        }
        let make = |path: &Path| OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let (meanwhile, file) = meanwhile(path, name, make).map_err(failed)?;
        Ok(Self { file, path: path.to_owned(), named: Some(meanwhile), replaces })
    }

    fn finish(&self) -> io::Result<()> {
        self.file.sync_all()?;
        let name = self.path.file_name().unwrap_or_default();
        match (&self.named, self.replaces) {
            (None, false) => self.link(&self.path)?,
            (None, true) => {
                let (meanwhile, ()) = meanwhile(&self.path, name, |path| self.link(path))?;
                fs::rename(&meanwhile, &self.path).inspect_err(|_| {
                    let _ = fs::remove_file(&meanwhile);
                })?;
            }
            (Some(named), false) => fs::hard_link(named, &self.path)?,
            (Some(named), true) => fs::rename(named, &self.path)?,
        }
        File::open(folder(&self.path))?.sync_all()
    }

    /// Gives the file a name that nothing has.
    fn link(&self, path: &Path) -> io::Result<()> {
        let own = by_descriptor(self.file.as_raw_fd());
        Ok(linkat(CWD, &own, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::io(format!("cannot write {}: {error}", quoted(&self.path)))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(named) = &self.named {
            // Finished or not: the file has its own name by now, or is to have none.
            let _ = fs::remove_file(named);
        }
    }
}

/// Whether standard output may have been closed: at the start the standard library puts `/dev/null` in its place, open for
/// reading too, which no redirection of a shell does.
fn is_stand_in() -> bool {
    let standard = rustix::stdio::stdout();
    let is_null = rustix::fs::fstat(standard).is_ok_and(|found| {
        FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
            && found.st_rdev == rustix::fs::makedev(1, 3)
    });
    let reads_too = |flags: OFlags| flags & OFlags::RWMODE == OFlags::RDWR;
    is_null && rustix::fs::fcntl_getfl(standard).is_ok_and(reads_too)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn by_descriptor(number: i32) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{number}"))
}

/// Takes a name beside `path` for the time until the file is whole, by what `make` makes there. A process that was killed may have
/// left one, and have had our number, as the first of each container has: then it is the next name.
fn meanwhile<T>(
    path: &Path,
    name: &OsStr,
    make: impl Fn(&Path) -> io::Result<T>,
) -> io::Result<(PathBuf, T)> {
    let mut taken = io::Error::from(ErrorKind::AlreadyExists);
    for number in 0..=u8::MAX {
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.{number}.part", std::process::id()));
        let hidden = folder(path).join(hidden);
        match make(&hidden) {
            Ok(made) => return Ok((hidden, made)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => taken = error,
            Err(error) => return Err(error),
        }
    }
    Err(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_of_the_same_number_left_is_passed_by() {
        let folder = std::env::temp_dir().join(format!("quantonium-output-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let (path, name) = (folder.join("result"), OsStr::new("result"));
        let make = |path: &Path| OpenOptions::new().write(true).create_new(true).open(path);
        let (stale, _) = meanwhile(&path, name, make).unwrap();
        fs::write(&path, b"old").unwrap();
        Sink::open(Some(&path), true).unwrap().fill(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert!(stale.exists(), "it may be another process's, at work in a namespace of its own");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "nothing else is left");
        fs::remove_dir_all(&folder).unwrap();
    }
}
