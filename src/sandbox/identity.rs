//! User and group: a start as root goes on as somebody else, for good.
//!
//! Owns the change and the proof that it cannot be undone. Invariant: groups first, then the group, then the
//! user, because each call needs the rights that the next one gives up.

use caps::Capability;
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getegid, geteuid, setgroups, setresgid, setresuid};

use super::{Failure, capabilities};
use crate::model::Outcome;

const STEP: &str = "user and group";

/// Switches to `uid` and `gid` without any further group, if this is root and may.
pub(super) fn switch(uid: u32, gid: u32) -> Result<Outcome, Failure> {
    if !geteuid().is_root() {
        return Ok(Outcome::Skipped(format!("not started as root, stays uid {}", geteuid())));
    }
    if uid == 0 || gid == 0 {
        return Err(Failure::refused(STEP, "the plan names root as the unprivileged user"));
    }
    for needed in [Capability::CAP_SETGID, Capability::CAP_SETUID] {
        if let Some(Outcome::Skipped(reason)) = capabilities::unless_held(STEP, needed)? {
            return Ok(Outcome::Skipped(format!("{reason}, stays uid 0")));
        }
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setgroups(&[])
        .and_then(|()| setresgid(gid, gid, gid))
        .and_then(|()| setresuid(uid, uid, uid))
        .map_err(|error| Failure::refused(STEP, error))?;
    Ok(Outcome::Done)
}

/// Tries to become root again and fails unless the system refuses each way.
pub(super) fn prove_no_way_back() -> Result<Outcome, Failure> {
    let (root_user, root_group) = (Uid::from_raw(0), Gid::from_raw(0));
    if geteuid().is_root() {
        return Ok(Outcome::Skipped("still uid 0, without capabilities".into()));
    }
    Failure::unless_equal(
        "regaining user 0",
        &Err(Errno::EPERM),
        &setresuid(root_user, root_user, root_user),
    )?;
    // A process that is in group 0 already may name it: images for arbitrary user ids run that way.
    if getegid() != root_group {
        let regained = setresgid(root_group, root_group, root_group);
        Failure::unless_equal("regaining group 0", &Err(Errno::EPERM), &regained)?;
    }
    Failure::unless_equal("changing the groups", &Err(Errno::EPERM), &setgroups(&[]))?;
    Ok(Outcome::Done)
}
