//! `quantonium sandbox probe`: the lock-down as a start would do it, in a process that does nothing else.
//!
//! Owns the lines by which it tells `check`, which starts it. Invariant: it is the real lock-down, not a list of what it would
//! need; the process is of no use afterwards and ends.

use core::fmt::Write as _;
use std::fs::File;
use std::os::fd::OwnedFd;

use super::Wanted;
use crate::console;
use crate::crypto::random;
use crate::exit::Exit;
use crate::limits::{ARENA_GRAIN_BYTES, FD_CONNECTION_FIRST_NUMBER};
use crate::memory;
use crate::model::{Outcome, Step};
use crate::sandbox::confinement::{self, Reach};
use crate::sandbox::directories::Held;
use crate::sandbox::namespaces::Starter;
use crate::sandbox::seccomp::Role;
use crate::sandbox::{self, Failure, Plan, descriptors, namespaces};
use crate::secret;

/// More than all that is told takes.
const PROBE_HEAP_BYTES: usize = 64 * ARENA_GRAIN_BYTES;
/// How the line begins that says why there would be no start.
pub(super) const FAILURE: &str = "failure";
/// How the line begins that says which revision of Landlock there is.
pub(super) const LANDLOCK: &str = "landlock_abi";

/// Locks this process down, tells what came of it, a line for each step, and ends.
pub(super) fn run(wanted: Wanted) -> Exit {
    match lock_down(wanted) {
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

/// The steps in the order of a start, of which this is the main thread, with no other beside it.
fn lock_down(wanted: Wanted) -> Result<String, Failure> {
    let user_namespace = namespaces::enter_user(wanted.mode, Starter::Anybody, false)?;
    sandbox::shield()?;
    let mut plan = Plan::new()?;
    plan.mode = wanted.mode;
    plan.allow_missing = wanted.allow_missing;
    plan.user_namespace = user_namespace;
    plan.key_memory = secret::open_region(|key| random::draw_key(key).is_ok());
    // As in a server no number below the connections' is free: the filter of the process lets none of those be closed.
    let filled = descriptors::fill_below(FD_CONNECTION_FIRST_NUMBER);
    let refused = |error: std::io::Error| Failure::Refused { step: "descriptors", cause: error.to_string() };
    core::mem::forget(filled.map_err(refused)?);
    // As in a server: neither filter has a call for memory.
    let closed = memory::close(PROBE_HEAP_BYTES, 0, 0);
    closed.map_err(|error| Failure::Refused { step: "memory", cause: error.to_string() })?;
    // A server holds others; any tells whether they can be held so.
    let mut directory = File::open("/").map(OwnedFd::from).map_err(refused)?;
    let mut posture = sandbox::lock_down(&plan, Held { apart: vec![&mut directory], ..Held::default() })?;
    sandbox::foresee_enclosure(&plan, &mut posture)?;
    let confined = confinement::confine(&Reach::Nothing)?;
    sandbox::enclose(&plan)?;
    if posture.of(Step::Seccomp).is_none() {
        posture.add(Step::Seccomp, Outcome::Done);
    }
    posture.steps.sort_by_key(|(step, _)| *step);
    let mut told = format!("{LANDLOCK}\t{}\n", confined.abi);
    for (step, outcome) in &posture.steps {
        let _ = writeln!(told, "{step}\t{}\t{}", outcome.name(), outcome.reason().unwrap_or_default());
    }
    let confined = sandbox::lock_in(&posture, Role::Main, confined)?;
    // Nothing may be freed or closed from here on: the filter has no call for either.
    core::mem::forget((plan, posture, confined, directory));
    Ok(told)
}
