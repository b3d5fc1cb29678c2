//! The root: an empty directory of no size, in memory, that cannot be written, instead of the host's files.
//!
//! Owns the change. Invariants: it is made read-only before it is the root, not after; the old root is taken off whole, so that no
//! path leads there; what is still needed of it is open. A directory among that leads out again, by `..`: such a descriptor is
//! held in by Landlock and by the filter of the only thread that may name it (`docs/SANDBOX.md`).

use std::fs;
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Dir, Mode as FileMode, OFlags, StatVfsMountFlags, openat, statvfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount,
    unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::{Failure, namespaces};
use crate::model::{Mode, Outcome, Step};

const STEP: &str = Step::EmptyRoot.name();
const MOUNTS_FILE: &str = "/proc/self/mountinfo";
/// One page, and one inode: the directory itself.
const SIZES: [(&str, &str); 3] = [("size", "4k"), ("nr_inodes", "1"), ("mode", "0555")];
/// A name that is nowhere.
const PROBE: &str = "/probe";

/// Replaces the root, if the mounts are those of this process alone.
pub(super) fn replace(mode: Mode, own_mounts: bool) -> Result<Outcome, Failure> {
    if mode == Mode::Container {
        return Ok(Outcome::NotNeeded(namespaces::OF_THE_RUNTIME.to_owned()));
    }
    let skipped = |reason: &str| Ok(Outcome::Skipped(reason.to_owned()));
    if !own_mounts {
        return skipped("it needs a mount namespace of its own");
    }
    match kind_of_root()?.as_deref() {
        None => return skipped("the root directory is no mount of its own (chroot)"),
        Some("rootfs") => return skipped("the kernel's first root (initramfs) cannot be replaced"),
        Some(_) => {}
    }
    match fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC) {
        Ok(made) => enter(&made).map_err(|error| Failure::refused(STEP, error))?,
        Err(Errno::NOSYS) => {
            return skipped("the kernel is older than 5.2, or a filter of the system refuses fsopen");
        }
        Err(Errno::NODEV) => return skipped("the kernel has no tmpfs"),
        Err(error) => return Err(Failure::refused(STEP, error)),
    }
    confirm()?;
    Ok(Outcome::Done)
}

fn enter(tmpfs: &OwnedFd) -> Result<(), Errno> {
    for (name, value) in SIZES {
        fsconfig_set_string(tmpfs, name, value)?;
    }
    fsconfig_set_flag(tmpfs, "ro")?;
    fsconfig_create(tmpfs)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let root = fsmount(tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    // What is mounted here must not appear elsewhere, nor what is mounted elsewhere here.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    move_mount(&root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    fchdir(&root)?;
    // The old root lies on top of the new one then, at the same place, and is taken off with all that is mounted in it.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")
}

/// Fails unless the root is empty and cannot be written.
pub(super) fn confirm() -> Result<(), Failure> {
    let refused = |error: Errno| Failure::refused(STEP, error);
    let flags = statvfs("/").map_err(refused)?.f_flag;
    Failure::unless_equal("read-only root", &true, &flags.contains(StatVfsMountFlags::RDONLY))?;
    for path in ["/", "/..", "."] {
        let opened =
            openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, FileMode::empty());
        let mut names = Vec::new();
        for entry in Dir::new(opened.map_err(refused)?).map_err(refused)? {
            let name = entry.map_err(refused)?.file_name().to_string_lossy().into_owned();
            names.extend(Some(name).filter(|name| name != "." && name != ".."));
        }
        Failure::unless_equal("entries of the root", &Vec::<String>::new(), &names)?;
    }
    let made = openat(CWD, PROBE, OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC, FileMode::RUSR);
    Failure::unless_equal("making a file in the root", &Some(Errno::ROFS), &made.err())
}

/// Whether the root directory is one that is mounted, which that of a `chroot` need not be.
pub(super) fn is_mount() -> Result<bool, Failure> {
    Ok(kind_of_root()?.is_some())
}

/// The kind of file system that is mounted as the root directory.
fn kind_of_root() -> Result<Option<String>, Failure> {
    let mounts = fs::read_to_string(MOUNTS_FILE);
    let mounts = mounts.map_err(|error| Failure::refused("reading /proc/self/mountinfo", error))?;
    Ok(kind_in(&mounts).map(str::to_owned))
}

/// The kind of the topmost mount at `/` in a file as proc_pid_mountinfo(5) describes it.
fn kind_in(mounts: &str) -> Option<&str> {
    let of_root = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/"))?;
    of_root.split_once(" - ")?.1.split(' ').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_the_root_is_that_of_what_is_mounted_there() {
        let mounts = "22 27 0:21 / /proc rw,relatime - proc proc rw\n\
            27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n";
        assert_eq!(kind_in(mounts), Some("ext4"));
        assert_eq!(kind_in("1 1 0:2 / / rw - rootfs rootfs rw\n"), Some("rootfs"));
        assert_eq!(kind_in("22 27 0:21 / /proc rw,relatime - proc proc rw\n"), None);
        assert_eq!(kind_in(""), None);
    }

    #[test]
    fn a_root_that_holds_something_is_not_taken_for_empty() {
        assert!(matches!(confirm(), Err(Failure::Unconfirmed { .. })));
    }

    #[test]
    fn without_mounts_of_its_own_the_root_stays() {
        assert!(matches!(replace(Mode::Strict, false), Ok(Outcome::Skipped(_))));
        assert!(replace(Mode::Container, false).unwrap().is_whole());
    }
}
