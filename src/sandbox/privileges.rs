//! `no_new_privs`: no program that is executed from here can have more rights than this one.
//!
//! Owns the flag, which cannot be cleared. Seccomp filters of an ordinary user need it.

use nix::sys::prctl::{get_no_new_privs, set_no_new_privs};

use super::Failure;
use crate::model::Outcome;

const STEP: &str = "no_new_privs";

/// Sets the flag for this thread and those it will spawn.
pub(super) fn forbid_new() -> Result<Outcome, Failure> {
    set_no_new_privs().map_err(|error| Failure::refused(STEP, error))?;
    let found = get_no_new_privs().map_err(|error| Failure::refused(STEP, error))?;
    Failure::unless_equal(STEP, &true, &found)?;
    Ok(Outcome::Done)
}
