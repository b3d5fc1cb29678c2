//! Not dumpable: no core file, no debugger of the same user, `/proc` files owned by root.
//!
//! Owns the flag. Invariant: it is cleared again after every change of user, which resets it.

use rustix::process::{DumpableBehavior, dumpable_behavior, set_dumpable_behavior};

use super::{Failure, left_out};
use crate::model::{Outcome, Step};

const STEP: &str = "dumpable";

/// Clears the flag.
pub(super) fn clear() -> Result<Outcome, Failure> {
    if left_out::is(Step::Dumpable) {
        // A change of user clears it too.
        let set = set_dumpable_behavior(DumpableBehavior::Dumpable);
        set.map_err(|error| Failure::refused(STEP, error))?;
        return left_out::unless(Step::Dumpable, || Ok(Outcome::Done));
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| Failure::refused(STEP, error))?;
    confirm()?;
    Ok(Outcome::Done)
}

/// Fails unless the flag is clear.
pub(super) fn confirm() -> Result<(), Failure> {
    let found = dumpable_behavior().map_err(|error| Failure::refused(STEP, error))?;
    Failure::unless_equal(STEP, &DumpableBehavior::NotDumpable, &found)
}
