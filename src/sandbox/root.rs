//! The root: an empty directory of no size, in memory, that cannot be written, instead of the host's files.
//!
//! Owns the change. Invariants: it is made read-only before it is the root, not after; the old root is taken off whole, so that no
//! path leads there; what is still needed of it is open; a policy of the system that refuses it is found before anything lies over
//! the root, or leaves the root as it was. A directory among that would lead out again, by `..`, were it not of a mount of its own
//! ([`super::directories`]).
//!
//! Over the root lies a second one like it, which no path names but `/..`. With it the root of the process is not that of its mount
//! namespace any more, and to a process of which that is so the kernel gives no user namespace, whatever its rights
//! (`create_user_ns`, `current_chrooted`): that way to new capabilities is closed by more than the filters.

use std::fs;
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Dir, Mode as FileMode, OFlags, StatVfsMountFlags, openat, statvfs};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount,
    unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};

use super::Failure;
use super::namespaces::Giver;
use crate::model::{Outcome, Step};

const STEP: &str = Step::EmptyRoot.name();
const MOUNTS_FILE: &str = "/proc/self/mountinfo";
/// One page, and one inode: the directory itself.
const SIZES: [(&str, &str); 3] = [("size", "4k"), ("nr_inodes", "1"), ("mode", "0555")];
/// The calls that a policy may refuse, by the names that an operator finds in it.
const OPEN: &str = "fsopen";
const CHANGE: &str = "mount";
const MOVE: &str = "move_mount";
const EXCHANGE: &str = "pivot_root";
const UNMOUNT: &str = "umount2";
/// What must not be refused any more.
const UNDO: &str = "taking the new root off again";
/// A name that is nowhere.
const PROBE: &str = "/probe";

/// Replaces the root, if the mounts are those of this process alone.
pub(super) fn replace(giver: &Giver, own_mounts: bool) -> Result<Outcome, Failure> {
    if let Giver::Runtime(outcome) = giver {
        return Ok(outcome.clone());
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
    let prepared = probe().and_then(|()| Ok((prepare()?, prepare()?)));
    let lid = match prepared.and_then(|(root, lid)| cover(&root).map(|()| lid)) {
        Ok(lid) => lid,
        Err(refusal) => return refusal.judged(),
    };
    leave_old().and_then(|()| close(&lid)).map_err(|error| Failure::refused(STEP, error))?;
    confirm()?;
    Ok(Outcome::Done)
}

/// A call that the kernel refused while nothing lay over the root.
#[derive(Debug)]
struct Refusal {
    call: &'static str,
    error: Errno,
}

impl Refusal {
    fn of(call: &'static str) -> impl Fn(Errno) -> Self {
        move |error| Self { call, error }
    }

    /// A policy or a kernel that lacks something has left everything as it was; every other error is none to go on from.
    fn judged(self) -> Result<Outcome, Failure> {
        let Self { call, error } = self;
        match error {
            _ if call == UNDO => Err(Failure::refused(STEP, format!("{call}: {error}"))),
            Errno::PERM | Errno::ACCESS => {
                Ok(Outcome::Skipped(format!("a policy of the system refuses {call} ({error})")))
            }
            Errno::NOSYS => Ok(Outcome::Skipped(format!(
                "the kernel is older than 5.2, or a filter of the system refuses {call}"
            ))),
            Errno::NODEV if call == OPEN => Ok(Outcome::Skipped("the kernel has no tmpfs".to_owned())),
            error => Err(Failure::refused(STEP, format!("{call}: {error}"))),
        }
    }
}

/// Asks for each call whether it would be let through, in a form that changes nothing: a filter sees no names, and the kernel finds
/// none. `/` for `/` is never exchanged, and says what a policy of names makes of it.
fn probe() -> Result<(), Refusal> {
    let asked = |call, result: Result<(), Errno>| match result {
        Err(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => result.map_err(Refusal::of(call)),
        _ => Ok(()),
    };
    asked(CHANGE, mount_change("", MountPropagationFlags::PRIVATE))?;
    asked(MOVE, move_mount(CWD, "", CWD, "", MoveMountFlags::empty()))?;
    asked(EXCHANGE, pivot_root("/", "/"))?;
    asked(UNMOUNT, unmount("", UnmountFlags::empty()))
}

/// Makes the new root, which is mounted nowhere yet.
fn prepare() -> Result<OwnedFd, Refusal> {
    let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).map_err(Refusal::of(OPEN))?;
    let set = |result: Result<(), Errno>| result.map_err(Refusal::of("fsconfig"));
    for (name, value) in SIZES {
        set(fsconfig_set_string(&tmpfs, name, value))?;
    }
    set(fsconfig_set_flag(&tmpfs, "ro"))?;
    set(fsconfig_create(&tmpfs))?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    fsmount(&tmpfs, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map_err(Refusal::of("fsmount"))
}

/// Makes it the root, above the old one. If that is refused it lies nowhere again.
fn cover(root: &OwnedFd) -> Result<(), Refusal> {
    // What is mounted here must not appear elsewhere, nor what is mounted elsewhere here.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(Refusal::of(CHANGE))?;
    move_mount(root, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(Refusal::of(MOVE))?;
    let entered = fchdir(root).and_then(|()| pivot_root(".", "."));
    entered.map_err(|error| match unmount(".", UnmountFlags::DETACH).and_then(|()| chdir("/")) {
        Ok(()) => Refusal { call: EXCHANGE, error },
        Err(error) => Refusal { call: UNDO, error },
    })
}

/// The old root lies on top of the new one now, at the same place, and is taken off with all that is mounted in it.
fn leave_old() -> Result<(), Errno> {
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")
}

/// Lays `lid` over the root, in which this process stays.
fn close(lid: &OwnedFd) -> Result<(), Errno> {
    move_mount(lid, "", CWD, "/", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Fails unless the root is empty and cannot be written, and no user namespace is to be had. For a process with one thread.
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
    Failure::unless_equal("making a file in the root", &Some(Errno::ROFS), &made.err())?;
    // Whoever got one here goes no further: the start ends.
    let entered = unshare(CloneFlags::CLONE_NEWUSER).is_ok();
    Failure::unless_equal("a user namespace in the empty root", &false, &entered)
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
        assert!(matches!(replace(&Giver::Process, false), Ok(Outcome::Skipped(_))));
        let left = Outcome::NotNeeded("another's".to_owned());
        assert_eq!(replace(&Giver::Runtime(left.clone()), true), Ok(left));
    }

    #[test]
    fn a_policy_against_mounts_skips_the_step_and_is_named() {
        for call in [OPEN, "fsconfig", "fsmount", CHANGE, MOVE, EXCHANGE, UNMOUNT] {
            for error in [Errno::PERM, Errno::ACCESS, Errno::NOSYS] {
                let Ok(Outcome::Skipped(reason)) = (Refusal { call, error }).judged() else {
                    panic!("{call} {error}");
                };
                assert!(reason.contains(call), "{reason}");
            }
            assert!(Refusal { call, error: Errno::INVAL }.judged().is_err(), "{call}");
        }
        assert!(Refusal { call: UNDO, error: Errno::PERM }.judged().is_err(), "something lies over the root");
    }
}
