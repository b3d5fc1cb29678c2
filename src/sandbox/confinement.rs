//! Landlock: the calling thread may reach what it needs below given descriptors, and no other file, whatever it opens.
//!
//! Owns [`confine`]. It acts on one thread and cannot be taken off. Invariants: what the kernel enforces is proved by
//! trying; a kernel without Landlock is named as the reason of a skipped step, and one that knows less of it confines
//! as far as it knows, which is told.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus, NetPort,
    PathBeneath, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Failure, left_out};
use crate::model::{Outcome, Step};

const STEP: &str = Step::Landlock.name();
/// The newest revision whose rights are named here: what later kernels add is not handled.
const NEWEST: ABI = ABI::V6;
/// From which revision on the kernel holds what.
const SINCE: [(ABI, &str); 5] = [
    (ABI::V2, "moving files elsewhere"),
    (ABI::V3, "cutting files off"),
    (ABI::V4, "TCP"),
    (ABI::V5, "devices"),
    (ABI::V6, "signals and abstract sockets"),
];

/// What of the file system a thread needs. None of them may bind a TCP socket, or connect one but as said here, or reach a process outside by a signal or an
/// abstract socket.
#[derive(Debug)]
pub enum Reach<'a> {
    /// Nothing.
    Nothing,
    /// To connect to these TCP ports. The only one that may.
    Ports(&'a [u16]),
    /// To exchange the names of regular files below a directory.
    Names(BorrowedFd<'a>),
    /// To make, read, write and remove regular files below a directory, and to read them below others.
    Files {
        /// The directory.
        directory: BorrowedFd<'a>,
        /// The others.
        readable: &'a [BorrowedFd<'a>],
    },
}

/// How a thread is confined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confined {
    /// How the step ended.
    pub outcome: Outcome,
    /// Which revision of Landlock the kernel has; 0 for none.
    pub abi: i32,
}

/// Confines the calling thread to `reach`.
///
/// # Errors
/// If the kernel refuses, or does not hold what it accepted.
pub fn confine(reach: &Reach<'_>) -> Result<Confined, Failure> {
    if left_out::is(Step::Landlock) {
        return Ok(Confined { outcome: left_out::outcome(), abi: 0 });
    }
    let status = restrict(reach).map_err(|error| Failure::refused(STEP, error))?;
    let LandlockStatus::Available { effective_abi: known, kernel_abi } = status.landlock else {
        return Ok(Confined { outcome: absent(), abi: 0 });
    };
    let abi = kernel_abi.unwrap_or(known as i32);
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(Failure::refused(STEP, "the kernel enforces none of the rules"));
    }
    // Whoever could read the root directory is not confined.
    let opened = rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    Failure::unless_equal("opening a directory outside", &Some(Errno::ACCESS), &opened.err())?;
    Ok(Confined { outcome: judged(known), abi })
}

/// How the step will end on every thread, found out without taking it.
pub(super) fn foresee() -> Outcome {
    let knows = |revision: ABI| {
        let wanted = || Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let files = wanted().handle_access(AccessFs::from_all(revision)).is_ok();
        let (net, scope) = (AccessNet::from_all(revision), Scope::from_all(revision));
        let net = net.is_empty() || wanted().handle_access(net).is_ok();
        files && net && (scope.is_empty() || wanted().scope(scope).is_ok())
    };
    let revisions = [ABI::V6, ABI::V5, ABI::V4, ABI::V3, ABI::V2, ABI::V1];
    revisions.into_iter().find(|revision| knows(*revision)).map_or_else(absent, judged)
}

fn absent() -> Outcome {
    Outcome::Skipped("the kernel has no Landlock, or was started without it".to_owned())
}

/// What is known of a step that took on a kernel of this revision.
fn judged(known: ABI) -> Outcome {
    let unheld: Vec<&str> =
        SINCE.into_iter().filter(|(since, _)| *since > known).map(|(_, what)| what).collect();
    if unheld.is_empty() {
        return Outcome::Done;
    }
    Outcome::Partial(format!("the kernel's revision {known} does not confine: {}", unheld.join(", ")))
}

fn restrict(reach: &Reach<'_>) -> Result<landlock::RestrictionStatus, RulesetError> {
    let names = AccessFs::MakeReg | AccessFs::RemoveFile;
    let files = names | AccessFs::ReadFile | AccessFs::WriteFile;
    let read: BitFlags<AccessFs> = AccessFs::ReadFile.into();
    let rules: Vec<(BorrowedFd<'_>, BitFlags<AccessFs>)> = match reach {
        Reach::Nothing | Reach::Ports(_) => Vec::new(),
        Reach::Names(directory) => vec![(*directory, names)],
        Reach::Files { directory, readable } => {
            let readable = readable.iter().map(|directory| (*directory, read));
            core::iter::once((*directory, files)).chain(readable).collect()
        }
    };
    let ports = match reach {
        Reach::Ports(ports) => *ports,
        _ => &[],
    };
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(
            rules
                .into_iter()
                .map(|(directory, rights)| Ok::<_, RulesetError>(PathBeneath::new(directory, rights))),
        )?
        .add_rules(
            ports.iter().map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp))),
        )?
        .restrict_self()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_kernel_says_what_it_does_not_hold() {
        assert_eq!(judged(ABI::V6), Outcome::Done);
        assert_eq!(judged(ABI::V10), Outcome::Done);
        let found = judged(ABI::V5);
        assert_eq!(
            found.reason(),
            Some("the kernel's revision 5 does not confine: signals and abstract sockets")
        );
        let found = judged(ABI::V2);
        assert!(found.reason().is_some_and(|reason| reason.contains("TCP")), "{found}");
        assert!(judged(ABI::V3).reason().is_some_and(|reason| !reason.contains("cutting")));
    }
}
