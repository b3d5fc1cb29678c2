//! Directories that stay open: each is one of a mount of its own, which lies nowhere, so that `..` ends at its top.
//!
//! Owns the change. Invariants: a descriptor keeps its number and its directory, which device and inode prove; a refusal comes before
//! anything has changed; that nothing lies above the top is proved by trying. What is opened there is opened as before.

use std::fs;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode as FileMode, OFlags, fcntl_getfl, fstat, openat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};

use super::namespaces::Giver;
use super::{Failure, descriptors};
use crate::model::{Outcome, Step};

const STEP: &str = Step::HeldDirectories.name();
/// Why one of them stays as it is.
const NOTHING_ABOVE: &str = "the directories of certificates have nothing in common but the root directory, to which `..` leads from them";

/// The directories that stay open after the lock-down.
#[derive(Debug, Default)]
pub struct Held<'a> {
    /// Of each of these the top is itself.
    pub apart: Vec<&'a mut OwnedFd>,
    /// A link may lead from one of these to another, by `..`: the top of all is the directory that they are all below.
    pub linked: Vec<&'a mut OwnedFd>,
}

/// The same, and where they are: to be asked before the mounts change.
#[derive(Debug)]
pub(super) struct Located<'a> {
    /// A directory, and above it its top.
    directories: Vec<(&'a mut OwnedFd, PathBuf, PathBuf)>,
    /// Whether some have the root directory for their top, and stay as they are.
    has_rest: bool,
}

/// A descriptor that will take the place of another.
#[derive(Debug)]
struct Twin {
    fd: OwnedFd,
    /// From the directory one step above its top, if there were one.
    above: PathBuf,
    top: (u64, u64),
}

impl<'a> Held<'a> {
    /// Asks the kernel where they are.
    ///
    /// # Errors
    /// Why it does not say.
    pub(super) fn locate(self) -> Result<Located<'a>, String> {
        let path = |fd: &OwnedFd| {
            let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
            fs::read_link(&link).map_err(|error| format!("reading {link}: {error}"))
        };
        let mut located = Located { directories: Vec::new(), has_rest: false };
        for fd in self.apart {
            let path = path(fd)?;
            located.directories.push((fd, path.clone(), path));
        }
        let linked: Result<Vec<_>, String> =
            self.linked.into_iter().map(|fd| path(fd).map(|path| (fd, path))).collect();
        let linked = linked?;
        let Some(top) = common(linked.iter().map(|(_, path)| path.as_path())) else { return Ok(located) };
        if top.parent().is_none() {
            located.has_rest = true;
            return Ok(located);
        }
        located.directories.extend(linked.into_iter().map(|(fd, path)| (fd, path, top.clone())));
        Ok(located)
    }
}

/// Gives each of them a mount of its own, if the mounts are those of this process alone.
pub(super) fn detach(
    giver: &Giver,
    own_mounts: bool,
    held: Result<Located<'_>, String>,
) -> Result<Outcome, Failure> {
    if let Giver::Runtime(outcome) = giver {
        return Ok(outcome.clone());
    }
    if !own_mounts {
        return Ok(Outcome::Skipped("it needs a mount namespace of its own".to_owned()));
    }
    let held = match held {
        Ok(held) => held,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let mut twins = Vec::with_capacity(held.directories.len());
    for (fd, path, top) in held.directories {
        match twin(fd, &path, &top) {
            Ok(twin) => twins.push((fd, twin)),
            Err(reason) => return Ok(Outcome::Skipped(reason)),
        }
    }
    for (fd, Twin { fd: twin, above, top }) in twins {
        descriptors::replace(twin.as_fd(), fd).map_err(|error| Failure::refused(STEP, error))?;
        let found = openat(&*fd, &above, OFlags::PATH | OFlags::CLOEXEC, FileMode::empty());
        let found = found.and_then(identity).map_err(|error| Failure::refused(STEP, error))?;
        Failure::unless_equal("what is above a directory", &top, &found)?;
    }
    Ok(match held.has_rest {
        true => Outcome::Partial(NOTHING_ABOVE.to_owned()),
        false => Outcome::Done,
    })
}

/// The same directory in a mount of its own that begins with `top`, or why there is none. Nothing has changed then.
fn twin(of: &OwnedFd, path: &Path, top: &Path) -> Result<Twin, String> {
    let shown = |path: &Path| path.display().to_string();
    let refused = |what: &str, path: &Path, error: Errno| format!("{what} {}: {error}", shown(path));
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE
        | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
    let tree = open_tree(CWD, top, flags).map_err(|error| refused("open_tree", top, error))?;
    let below = path.strip_prefix(top).unwrap_or(Path::new(""));
    let depth = below.components().count();
    let below = if depth == 0 { Path::new(".") } else { below };
    let opened = fcntl_getfl(of).and_then(|flags| {
        let access = if flags.contains(OFlags::PATH) { OFlags::PATH } else { OFlags::RDONLY };
        let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&tree, below, flags, FileMode::empty())
    });
    let fd = opened.map_err(|error| refused("opening", path, error))?;
    let are_one = identity(&fd).and_then(|found| Ok(found == identity(of)?));
    if !are_one.map_err(|error| refused("fstat", path, error))? {
        return Err(format!("{} is not the directory any more that is open", shown(path)));
    }
    let top = identity(&tree).map_err(|error| refused("fstat", top, error))?;
    Ok(Twin { fd, above: (0..=depth).map(|_| "..").collect(), top })
}

/// What tells one directory from another.
fn identity(fd: impl AsFd) -> Result<(u64, u64), Errno> {
    fstat(fd).map(|found| (found.st_dev, found.st_ino))
}

/// The directory that all of these are below, or that is all of them; nothing of none.
fn common<'a>(mut paths: impl Iterator<Item = &'a Path>) -> Option<PathBuf> {
    let first = paths.next()?.to_owned();
    Some(paths.fold(first, |common, path| {
        common
            .ancestors()
            .find(|ancestor| path.starts_with(ancestor))
            .map_or_else(PathBuf::new, Path::to_owned)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_directories_are_below_is_found() {
        let of = |paths: &[&str]| common(paths.iter().map(Path::new));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["/etc/q/tls"]), Some("/etc/q/tls".into()));
        assert_eq!(of(&["/etc/q/tls", "/etc/q"]), Some("/etc/q".into()));
        assert_eq!(of(&["/etc/le/live/a", "/etc/le/archive/a", "/etc/le/live/b"]), Some("/etc/le".into()));
        assert_eq!(of(&["/etc/q", "/etc/qq"]), Some("/etc".into()));
        assert_eq!(of(&["/etc/q", "/srv/q"]), Some("/".into()));
    }

    #[test]
    fn without_mounts_of_its_own_or_left_to_another_every_descriptor_stays() {
        let mut fd = OwnedFd::from(fs::File::open("/proc").unwrap());
        let mut detached = |giver, own_mounts| {
            let held = Held { apart: vec![&mut fd], linked: Vec::new() };
            detach(&giver, own_mounts, held.locate())
        };
        assert!(matches!(detached(Giver::Process, false), Ok(Outcome::Skipped(_))));
        let left = Outcome::NotNeeded("another's".to_owned());
        assert_eq!(detached(Giver::Runtime(left.clone()), true), Ok(left));
    }

    #[test]
    fn a_directory_that_is_not_where_it_was_is_not_taken_for_another() {
        let fd = OwnedFd::from(fs::File::open("/proc").unwrap());
        assert!(twin(&fd, Path::new("/sys"), Path::new("/sys")).is_err());
    }
}
