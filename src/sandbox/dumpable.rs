//! Not dumpable: no core file, no debugger of the same user, `/proc` files owned by root.
//!
//! Owns the flag. Invariant: it is cleared again after every change of user, which resets it.

use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};

use super::Failure;
use crate::model::Outcome;

const STEP: &str = "dumpable";

/// Clears the flag.
pub(super) fn clear() -> Result<Outcome, Failure> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| Failure::refused(STEP, error))?;
    confirm()?;
    Ok(Outcome::Done)
}

/// Fails unless the flag is clear.
pub(super) fn confirm() -> Result<(), Failure> {
    let found = dumpable_behavior().map_err(|error| Failure::refused(STEP, error))?;
    Failure::unless_equal(STEP, &DumpableBehavior::NotDumpable, &found)
}
