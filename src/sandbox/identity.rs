//! User and group: a start as root goes on as somebody else, for good.
//!
//! Owns the change and the proof that it cannot be undone. Invariant: groups first, then the group, then the
//! user, because each call needs the rights that the next one gives up.

use std::fs;

use caps::Capability;
use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getegid, geteuid, setgroups, setresgid, setresuid};

use super::{Failure, capabilities};
use crate::model::Outcome;

const STEP: &str = "user and group";

/// Whether this process can become `uid` and `gid`, which only root can, and only if they are there: nothing if it can, else the
/// outcome of a switch. To be asked while `/proc` is there.
pub(super) fn hindrance(uid: u32, gid: u32) -> Result<Option<Outcome>, Failure> {
    if !geteuid().is_root() {
        return Ok(Some(Outcome::NotNeeded(format!("not started as root, stays uid {}", geteuid()))));
    }
    if uid == 0 || gid == 0 {
        return Err(Failure::refused(STEP, "the plan names root as the unprivileged user"));
    }
    for needed in [Capability::CAP_SETGID, Capability::CAP_SETUID] {
        if let Some(Outcome::Skipped(reason)) = capabilities::unless_held(STEP, needed)? {
            return Ok(Some(Outcome::Skipped(format!("{reason}, stays uid 0"))));
        }
    }
    let maps = [("uid_map", uid), ("gid_map", gid)];
    for (file, id) in maps {
        if fs::read_to_string(format!("/proc/self/{file}")).is_ok_and(|map| !is_mapped(&map, id)) {
            return Ok(Some(Outcome::Skipped(format!("this user namespace has no id {id}, stays uid 0"))));
        }
    }
    if fs::read_to_string("/proc/self/setgroups").is_ok_and(|text| text.trim() == "deny") {
        return Ok(Some(Outcome::Skipped("this user namespace denies setgroups, stays uid 0".to_owned())));
    }
    Ok(None)
}

/// Whether a start as root will go on as `uid` and `gid`, so that it has to give them the files that it makes.
#[must_use]
pub fn will_switch(uid: u32, gid: u32) -> bool {
    matches!(hindrance(uid, gid), Ok(None))
}

/// Whether a map of user or group ids (user_namespaces(7)) has `id` in it.
fn is_mapped(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().ok());
        let (first, count) = (numbers.next().flatten(), numbers.nth(1).flatten());
        first
            .zip(count)
            .is_some_and(|(first, count)| (first..first.saturating_add(count)).contains(&id.into()))
    })
}

/// Switches to `uid` and `gid` without any further group. Only if there is no [`hindrance`].
pub(super) fn switch(uid: u32, gid: u32) -> Result<Outcome, Failure> {
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
    // A user namespace of our own has no such id at all.
    let is_kept_out = |tried| matches!(tried, Err(Errno::EPERM | Errno::EINVAL));
    let regained = !is_kept_out(setresuid(root_user, root_user, root_user));
    Failure::unless_equal("regained user 0", &false, &regained)?;
    // A process that is in group 0 already may name it: images for arbitrary user ids run that way.
    if getegid() != root_group {
        let regained = !is_kept_out(setresgid(root_group, root_group, root_group));
        Failure::unless_equal("regained group 0", &false, &regained)?;
    }
    Failure::unless_equal("changing the groups", &Err(Errno::EPERM), &setgroups(&[]))?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_looked_for_in_every_range_of_a_map() {
        assert!(is_mapped("         0          0 4294967295\n", 1001));
        assert!(is_mapped("0 100000 1\n1000 5000 2\n", 1001));
        assert!(!is_mapped("0 1001 1\n", 1001));
        assert!(!is_mapped("0 100000 1\n1000 5000 1\n", 1001));
        assert!(!is_mapped("", 0));
    }
}
