//! Steps that a penetration test leaves out, to see which other step stops what they stop.
//!
//! Owns the set, which only a build with the feature `pentest` can fill: in every other build it is empty and known to be so
//! when the program is compiled. Invariant: it is filled once, before the first step.

use super::Failure;
use crate::model::{Outcome, Step};

#[cfg(feature = "pentest")]
static STEPS: std::sync::OnceLock<Vec<Step>> = std::sync::OnceLock::new();

/// Leaves these steps out from now on; the first call counts.
#[cfg(feature = "pentest")]
pub fn set(steps: Vec<Step>) {
    let _ = STEPS.set(steps);
}

/// Whether `step` is left out.
#[cfg(feature = "pentest")]
pub(super) fn is(step: Step) -> bool {
    STEPS.get().is_some_and(|steps| steps.contains(&step))
}

/// Whether `step` is left out: never.
#[cfg(not(feature = "pentest"))]
pub(super) const fn is(_: Step) -> bool {
    false
}

/// Takes `step`, unless it is left out.
pub(super) fn unless(
    step: Step,
    take: impl FnOnce() -> Result<Outcome, Failure>,
) -> Result<Outcome, Failure> {
    if is(step) { Ok(outcome()) } else { take() }
}

/// The outcome of a step that is left out.
pub(super) fn outcome() -> Outcome {
    Outcome::Skipped("left out by the penetration test".to_owned())
}

/// What was found about `step`; nothing if it is left out.
pub(super) fn tolerate(step: Step, found: Result<(), Failure>) -> Result<(), Failure> {
    if is(step) { Ok(()) } else { found }
}
