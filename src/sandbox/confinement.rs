//! Landlock: the calling thread may reach what is below given descriptors, and no other file, whatever it opens.
//!
//! Owns [`confine`]. It acts on one thread and cannot be taken off. Invariants: what the kernel enforces is proved by
//! trying; a kernel without Landlock is named as the reason of a skipped step, and one that knows less of it confines
//! as far as it knows.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus,
    PathBeneath, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Failure, left_out};
use crate::model::{Outcome, Step};

const STEP: &str = "landlock";
/// The newest revision whose rights are named here: what later kernels add is not handled.
const NEWEST: ABI = ABI::V6;

/// Confines the calling thread: below `directory` it may make, read, write and remove regular files, below `readable` read
/// them, and nothing anywhere else; it may neither bind nor connect a TCP socket, nor reach a process outside by signal or abstract socket.
/// Returns the step's outcome and which revision of Landlock the kernel has, 0 for none.
///
/// # Errors
/// If the kernel refuses, or does not hold what it accepted.
pub fn confine(directory: BorrowedFd<'_>, readable: &[BorrowedFd<'_>]) -> Result<(Outcome, i32), Failure> {
    if left_out::is(Step::Landlock) {
        return Ok((skipped("left out by the penetration test"), 0));
    }
    let status = restrict(directory, readable).map_err(|error| Failure::refused(STEP, error))?;
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => kernel_abi.unwrap_or(effective_abi as i32),
        LandlockStatus::NotEnabled => return Ok((skipped("the kernel was started without Landlock"), 0)),
        LandlockStatus::NotImplemented => return Ok((skipped("the kernel has no Landlock"), 0)),
    };
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(Failure::refused(STEP, "the kernel enforces none of the rules"));
    }
    // Whoever could read the root directory is not confined.
    let opened = rustix::fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    Failure::unless_equal("opening a directory outside", &Some(Errno::ACCESS), &opened.err())?;
    Ok((Outcome::Done, abi))
}

fn restrict(
    directory: BorrowedFd<'_>,
    readable: &[BorrowedFd<'_>],
) -> Result<landlock::RestrictionStatus, RulesetError> {
    let rights: BitFlags<AccessFs> =
        AccessFs::MakeReg | AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::RemoveFile;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rule(PathBeneath::new(directory, rights))?
        .add_rules(
            readable
                .iter()
                .map(|directory| Ok::<_, RulesetError>(PathBeneath::new(directory, AccessFs::ReadFile))),
        )?
        .restrict_self()
}

fn skipped(reason: &str) -> Outcome {
    Outcome::Skipped(reason.to_owned())
}
