//! Namespaces: what the process sees of the host, and what of the host sees it, ends at its own edge.
//!
//! Owns the user namespace of an ordinary user, which must be there before the first key is read, and the five that need
//! CAP_SYS_ADMIN. Invariants: each is tried only after everything that can be absent was looked for; what was taken is proved
//! by the number that the kernel gives a namespace, before and after; sockets that are open stay where they were made,
//! so that listeners accept on, and nothing new can be connected.
//!
//! Process numbers are not among them: a thread cannot be started by a process that has left its own, so they are
//! for who starts the server: `quantonium supervise` ([`super::processes`]), or a container runtime.

use std::fs;
use std::os::fd::OwnedFd;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid, getpid};
use rustix::fs::{AtFlags, CWD, Mode as FileMode, OFlags, openat, statat};
use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};

use super::{Failure, left_out, root};
use crate::model::{Mode, Outcome, Step};

/// Why a step is not taken that somebody else takes.
const OF_THE_RUNTIME: &str = "left to the container runtime";
/// The same of process numbers.
const OF_A_STARTER: &str = "quantonium supervise or a container takes one";
/// Why a supervised server has none.
const OF_ITS_SUPERVISOR: &str = "its supervisor could take none: its log says why";
/// Why it is missed all the same.
const NO_RUNTIME: &str = "this is no container: queues, host name and control groups are those of the host";
const USER: Kind =
    Kind { step: Step::UserNamespace, flag: CloneFlags::CLONE_NEWUSER, file: "user", host: None };
/// Process numbers. Their host's number is asked for where it matters.
pub(super) const PROCESSES: Kind =
    Kind { step: Step::PidNamespace, flag: CloneFlags::CLONE_NEWPID, file: "pid", host: None };

/// What a namespace is of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub(super) step: Step,
    pub(super) flag: CloneFlags,
    /// Its name in `/proc/self/ns` and in `/proc/sys/user`.
    file: &'static str,
    /// The number of the host's own, where it is the same on every kernel (`include/linux/proc_ns.h`).
    host: Option<u64>,
}

const KINDS: [Kind; 5] = [
    Kind { step: Step::MountNamespace, flag: CloneFlags::CLONE_NEWNS, file: "mnt", host: None },
    Kind { step: Step::IpcNamespace, flag: CloneFlags::CLONE_NEWIPC, file: "ipc", host: Some(0xEFFF_FFFF) },
    Kind { step: Step::UtsNamespace, flag: CloneFlags::CLONE_NEWUTS, file: "uts", host: Some(0xEFFF_FFFE) },
    Kind { step: Step::NetworkNamespace, flag: CloneFlags::CLONE_NEWNET, file: "net", host: None },
    Kind {
        step: Step::CgroupNamespace,
        flag: CloneFlags::CLONE_NEWCGROUP,
        file: "cgroup",
        host: Some(0xEFFF_FFFB),
    },
];
/// The number of the host's own process numbers.
const HOST_PROCESSES: u64 = 0xEFFF_FFFC;

/// Who has started this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Starter {
    /// Anybody: a shell, a service manager, a container runtime.
    #[default]
    Anybody,
    /// `quantonium supervise`, which makes a server the first of process numbers of its own, and gives nothing else.
    Supervisor,
}

/// Who gives the namespaces and the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Giver {
    /// This process, itself.
    Process,
    /// Who started it; each of the steps ends like this.
    Runtime(Outcome),
}

impl Giver {
    /// As the mode and this process' own namespaces say.
    pub(super) fn of(mode: Mode, starter: Starter) -> Self {
        let number = |file: &str| {
            let found = statat(CWD, format!("/proc/self/ns/{file}"), AtFlags::empty());
            found.ok().map(|found| found.st_ino)
        };
        let is_first = getpid().as_raw() == 1 && number("pid").is_some_and(|number| number != HOST_PROCESSES);
        // What a runtime executes in a container enters those of its first process, which is the supervisor.
        let is_first = is_first && starter == Starter::Anybody;
        Self::judged(mode, is_first, is_contained(number))
    }

    /// In mode `auto` the first process of a container leaves them to the runtime as well, whose health checks and other commands
    /// enter those of the first process, and would find neither its files nor its sockets. Being the first is not enough:
    /// process numbers of its own are easily had (`unshare --pid`, `PrivatePIDs=yes`), and nothing else comes with them.
    fn judged(mode: Mode, is_first: bool, is_contained: bool) -> Self {
        match (mode, is_contained) {
            (Mode::Auto, true) if is_first => Self::Runtime(not_needed(OF_THE_RUNTIME)),
            (Mode::Container, true) => Self::Runtime(not_needed(OF_THE_RUNTIME)),
            (Mode::Container, false) => Self::Runtime(Outcome::Skipped(NO_RUNTIME.to_owned())),
            _ => Self::Process,
        }
    }
}

/// Whether at least one of the namespaces whose number says so is not the host's; `number` knows them by their files.
fn is_contained(number: impl Fn(&str) -> Option<u64>) -> bool {
    KINDS.iter().any(|kind| kind.host.is_some_and(|host| number(kind.file).is_some_and(|own| own != host)))
}

/// The namespaces that were left, for the question afterwards whether they were.
#[derive(Debug)]
pub(super) struct Left {
    /// `/proc/self/ns`: its path vanishes with the root.
    own: OwnedFd,
    /// What each of them was numbered.
    numbers: Vec<(Kind, u64)>,
    /// How each step ended.
    pub(super) outcomes: Vec<(Step, Outcome)>,
}

impl Left {
    /// Whether this step was done.
    pub(super) fn has(&self, step: Step) -> bool {
        self.outcomes.contains(&(step, Outcome::Done))
    }

    /// Fails if this process is still in one of them.
    pub(super) fn confirm(&self) -> Result<(), Failure> {
        for (kind, before) in &self.numbers {
            let still = number(&self.own, *kind)? == *before;
            Failure::unless_equal(kind.step.name(), &false, &still)?;
        }
        Ok(())
    }
}

/// Enters a user namespace in which this process may take the steps that need a privilege, if it is an ordinary user without one.
/// To be called before the first key is read, because the process must be dumpable for a moment: its maps belong to root else.
/// `names_peers` says that the users at the other end of Unix sockets matter: they would have no names.
///
/// # Errors
/// If the system begins and does not end it.
pub fn enter_user(mode: Mode, starter: Starter, names_peers: bool) -> Result<Outcome, Failure> {
    if let Giver::Runtime(outcome) = Giver::of(mode, starter) {
        return Ok(outcome);
    }
    if holds(Capability::CAP_SYS_ADMIN)? {
        return Ok(not_needed("CAP_SYS_ADMIN is there without it"));
    }
    if let Some(reason) = hindrance_of_user(names_peers)? {
        return Ok(Outcome::Skipped(reason));
    }
    let (user, group) = (geteuid(), getegid());
    match unshare(USER.flag) {
        Ok(()) => {}
        // Nothing has changed, and a policy (SELinux, AppArmor, limits of the namespaces around) can be asked in no other way.
        Err(error @ (Errno::EPERM | Errno::EACCES | Errno::ENOSPC | Errno::EUSERS)) => {
            return Ok(Outcome::Skipped(format!("a policy of the system refuses it ({error})")));
        }
        Err(error) => return Err(refused(USER.step, error)),
    }
    let before = dumpable_behavior().map_err(|error| refused(USER.step, error))?;
    let dumpable = |behavior| set_dumpable_behavior(behavior).map_err(|error| refused(USER.step, error));
    dumpable(DumpableBehavior::Dumpable)?;
    let written = fs::write("/proc/self/setgroups", "deny")
        .and_then(|()| fs::write("/proc/self/uid_map", format!("{user} {user} 1")))
        .and_then(|()| fs::write("/proc/self/gid_map", format!("{group} {group} 1")));
    if before != DumpableBehavior::Dumpable {
        dumpable(DumpableBehavior::NotDumpable)?;
    }
    written.map_err(|error| refused(USER.step, error))?;
    Failure::unless_equal("user id in its namespace", &(user, group), &(geteuid(), getegid()))?;
    Ok(Outcome::Done)
}

/// Leaves the namespaces that need CAP_SYS_ADMIN, one by one.
pub(super) fn leave(giver: &Giver, starter: Starter) -> Result<Left, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let own = openat(CWD, "/proc/self/ns", flags, FileMode::empty());
    let own = own.map_err(|error| Failure::refused("opening /proc/self/ns", error))?;
    let mut left = Left { own, numbers: Vec::new(), outcomes: Vec::new() };
    let of_processes = processes(&left.own, giver, starter)?;
    let is_first = of_processes == Outcome::Done;
    left.outcomes.push((Step::PidNamespace, of_processes));
    for kind in KINDS {
        let outcome = if left_out::is(kind.step) {
            left_out::outcome()
        } else if let Giver::Runtime(outcome) = giver {
            let apart = kind.host.is_some_and(|host| number(&left.own, kind).is_ok_and(|own| own != host));
            if apart { Outcome::Done } else { outcome.clone() }
        } else if let Some(reason) = hindrance(kind)? {
            let of_host = kind.host.is_none_or(|host| number(&left.own, kind).is_ok_and(|own| own == host));
            match of_host {
                true => Outcome::Skipped(reason),
                false if is_first => Outcome::Done,
                false => Outcome::Partial(format!(
                    "{reason}: what this process was started in, which is not the host's"
                )),
            }
        } else {
            let before = number(&left.own, kind)?;
            unshare(kind.flag).map_err(|error| refused(kind.step, error))?;
            left.numbers.push((kind, before));
            Outcome::Done
        };
        left.outcomes.push((kind.step, outcome));
    }
    left.confirm()?;
    Ok(left)
}

/// Whether the process numbers are its own already.
fn processes(own: &OwnedFd, giver: &Giver, starter: Starter) -> Result<Outcome, Failure> {
    let apart = number(own, PROCESSES)? != HOST_PROCESSES;
    Ok(match (apart, getpid().as_raw() == 1, giver, starter) {
        (true, true, ..) => Outcome::Done,
        (_, _, Giver::Runtime(outcome), _) => outcome.clone(),
        (true, false, ..) => Outcome::Partial("shared with what else runs in that of its starter".to_owned()),
        (false, _, _, Starter::Supervisor) => Outcome::Skipped(OF_ITS_SUPERVISOR.to_owned()),
        (false, ..) => Outcome::Skipped(OF_A_STARTER.to_owned()),
    })
}

/// What keeps an ordinary user from a user namespace, or would make one do harm.
fn hindrance_of_user(names_peers: bool) -> Result<Option<String>, Failure> {
    let held = caps::read(None, CapSet::Effective).map_err(|error| refused(USER.step, error))?;
    let set_to = |file: &str, value| fs::read_to_string(file).is_ok_and(|text| text.trim() == value);
    let text = if geteuid().is_root() {
        "for an ordinary user only, and this is uid 0".to_owned()
    } else if let Some(capability) = held.iter().next() {
        format!("it would take {capability} away, which the start may need")
    } else if names_peers {
        "users who ask at a Unix socket would have no names in it".to_owned()
    } else if set_to("/proc/sys/kernel/unprivileged_userns_clone", "0") {
        "kernel.unprivileged_userns_clone is 0".to_owned()
    } else if set_to("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1")
        && set_to("/proc/self/attr/current", "unconfined")
    {
        "kernel.apparmor_restrict_unprivileged_userns is 1, and no AppArmor profile allows it".to_owned()
    } else if !root::is_mount()? {
        "the root directory is no mount of its own (chroot)".to_owned()
    } else {
        return unavailable(USER);
    };
    Ok(Some(text))
}

/// What keeps this process from leaving a namespace of this kind.
pub(super) fn hindrance(kind: Kind) -> Result<Option<String>, Failure> {
    if !holds(Capability::CAP_SYS_ADMIN)? {
        return Ok(Some("CAP_SYS_ADMIN is absent".to_owned()));
    }
    unavailable(kind)
}

/// What the kernel, its settings, or a filter around this process say against it.
fn unavailable(kind: Kind) -> Result<Option<String>, Failure> {
    let Kind { file, flag, step, .. } = kind;
    if !fs::exists(format!("/proc/self/ns/{file}")).unwrap_or(false) {
        return Ok(Some("the kernel has no such namespaces".to_owned()));
    }
    let limit = fs::read_to_string(format!("/proc/sys/user/max_{file}_namespaces"));
    if limit.is_ok_and(|limit| limit.trim() == "0") {
        return Ok(Some(format!("user.max_{file}_namespaces is 0")));
    }
    // A flag that the call does not know makes the kernel refuse it before it does anything; a filter is asked before that.
    match unshare(flag | CloneFlags::CLONE_IO) {
        Err(Errno::EINVAL) => Ok(None),
        Err(error) => Ok(Some(format!("a filter of the system refuses it ({error})"))),
        Ok(()) => Err(refused(step, "the kernel accepts a flag that it does not know")),
    }
}

fn holds(capability: Capability) -> Result<bool, Failure> {
    caps::has_cap(None, CapSet::Effective, capability)
        .map_err(|error| Failure::refused("reading capabilities", error))
}

/// The number of the namespace that this process is in now.
fn number(own: &OwnedFd, kind: Kind) -> Result<u64, Failure> {
    let found = statat(own, kind.file, AtFlags::empty()).map_err(|error| refused(kind.step, error))?;
    Ok(found.st_ino)
}

fn not_needed(reason: &str) -> Outcome {
    Outcome::NotNeeded(reason.to_owned())
}

fn refused(step: Step, cause: impl core::fmt::Display) -> Failure {
    Failure::refused(step.name(), cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_the_runtime() -> Giver {
        Giver::Runtime(not_needed(OF_THE_RUNTIME))
    }

    #[test]
    fn a_container_keeps_what_its_runtime_gave_it() {
        let left = leave(&of_the_runtime(), Starter::Anybody).unwrap();
        assert!(left.outcomes.iter().all(|(_, outcome)| outcome.is_whole()), "{left:?}");
        assert!(left.numbers.is_empty());
    }

    #[test]
    fn process_numbers_alone_are_no_container() {
        for mode in [Mode::Auto, Mode::Strict] {
            for is_first in [true, false] {
                assert_eq!(Giver::judged(mode, is_first, false), Giver::Process);
            }
        }
        assert_eq!(Giver::judged(Mode::Auto, true, true), of_the_runtime());
        assert_eq!(Giver::judged(Mode::Auto, false, true), Giver::Process);
        assert_eq!(Giver::judged(Mode::Strict, true, true), Giver::Process);
    }

    #[test]
    fn a_runtime_is_missed_where_there_is_none() {
        let Giver::Runtime(Outcome::Skipped(reason)) = Giver::judged(Mode::Container, true, false) else {
            panic!("without a container its mode is not whole");
        };
        assert!(reason.contains("no container"), "{reason}");
        assert_eq!(Giver::judged(Mode::Container, false, true), of_the_runtime());
        let left = leave(&Giver::Runtime(Outcome::Skipped(reason)), Starter::Anybody).unwrap();
        let is_host = |kind: &Kind| kind.host.is_none_or(|host| number(&left.own, *kind).unwrap() == host);
        for kind in KINDS.iter().filter(|kind| is_host(kind)) {
            let found = left.outcomes.iter().find(|(step, _)| *step == kind.step);
            assert!(matches!(found, Some((_, Outcome::Skipped(_)))), "{left:?}");
        }
    }

    #[test]
    fn one_namespace_of_its_own_makes_a_container() {
        let of_host = |file: &str| KINDS.iter().find(|kind| kind.file == file)?.host;
        assert!(!is_contained(of_host));
        // What has no number that is known, or no number at all, says nothing.
        assert!(!is_contained(|file| if file == "mnt" { Some(1) } else { of_host(file) }));
        assert!(!is_contained(|_| None));
        for own in ["ipc", "uts", "cgroup"] {
            assert!(is_contained(|file| if file == own { Some(1) } else { of_host(file) }), "{own}");
        }
    }

    #[test]
    fn what_was_not_left_is_found() {
        let mut left = leave(&of_the_runtime(), Starter::Anybody).unwrap();
        let kind = KINDS[0];
        left.numbers.push((kind, number(&left.own, kind).unwrap()));
        assert!(matches!(left.confirm(), Err(Failure::Unconfirmed { .. })));
    }
}
