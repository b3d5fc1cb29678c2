//! `quantonium sandbox probe`: the lock-down as a start would do it, in a process that does nothing else.
//!
//! Owns the lines by which it tells `check`, which starts it. Invariant: it is the real lock-down, not a list of what it would
//! need; the process is of no use afterwards and ends.

use core::fmt::Write as _;
use std::fs::File;
use std::os::fd::AsFd as _;

use super::Wanted;
use crate::console;
use crate::exit::Exit;
use crate::model::{Outcome, Posture, Step};
use crate::sandbox::seccomp::{self, Role};
use crate::sandbox::{self, Failure, Plan, confinement};
use crate::secret;

/// How the line begins that says why there would be no start.
pub(super) const FAILURE: &str = "failure";
/// How the line begins that says which revision of Landlock there is.
pub(super) const LANDLOCK: &str = "landlock_abi";

/// Locks this process down, tells what came of it, a line for each step, and ends.
pub(super) fn run(wanted: Wanted) -> Exit {
    let told = lock_down(wanted).and_then(|posture| {
        let mut told = format!("{LANDLOCK}\t{}\n", posture.landlock_abi);
        for (step, outcome) in &posture.steps {
            let _ = writeln!(told, "{step}\t{}\t{}", outcome.name(), outcome.reason().unwrap_or_default());
        }
        // Nothing may be freed or closed from here on: the filter has no call for either.
        core::mem::forget(posture);
        seccomp::enter(Role::Main).map(|()| told)
    });
    match told {
        Ok(told) => {
            console::out(&told);
            Exit::Success.leave()
        }
        Err(failure) => {
            console::out(&format!("{FAILURE}\t{failure}\n"));
            Exit::Config
        }
    }
}

fn lock_down(wanted: Wanted) -> Result<Posture, Failure> {
    sandbox::shield()?;
    let mut plan = Plan::new()?;
    plan.mode = wanted.mode;
    plan.allow_missing = wanted.allow_missing;
    plan.key_memory = secret::open_region();
    let mut posture = sandbox::lock_down(&plan)?;
    if posture.of(Step::Landlock).is_none()
        && let Ok(root) = File::open("/")
    {
        let (outcome, abi) = confinement::confine(root.as_fd(), &[])?;
        posture.add(Step::Landlock, outcome);
        posture.landlock_abi = abi;
        sandbox::judge(&posture)?;
    }
    if posture.of(Step::Seccomp).is_none() {
        posture.add(Step::Seccomp, Outcome::Done);
    }
    posture.steps.sort_by_key(|(step, _)| *step);
    // Closing its files is nothing that the filter allows.
    core::mem::forget(plan);
    Ok(posture)
}
