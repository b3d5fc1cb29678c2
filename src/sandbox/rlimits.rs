//! Resource limits: no core file, enough descriptors, no file without an end, and in the end no further thread or process.
//!
//! Owns the four limits that are set. Invariant: soft and hard limit are equal afterwards, so that nothing
//! in the process can raise them again.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::{Failure, left_out};
use crate::limits::{DESCRIPTORS_CEILING_COUNT, DESCRIPTORS_FLOOR_COUNT, FILE_MAX_BYTES};
use crate::model::{Outcome, Step};

const STEP: &str = "resource limits";

/// Raises the number of descriptors to the hard limit, at most to [`DESCRIPTORS_CEILING_COUNT`], and returns it.
/// To be called before the descriptor bands are filled; [`super::lock_down`] does it again.
///
/// # Errors
/// If the limit has no room for the bands and the spare descriptors.
pub fn raise_descriptors() -> Result<u64, Failure> {
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(DESCRIPTORS_CEILING_COUNT);
    let count = hard.min(DESCRIPTORS_CEILING_COUNT);
    if count < DESCRIPTORS_FLOOR_COUNT {
        let cause = format!("{count} open files allowed, at least {DESCRIPTORS_FLOOR_COUNT} needed");
        return Err(Failure::refused(STEP, cause));
    }
    set(Resource::Nofile, count)?;
    Ok(count)
}

/// Forbids core files.
pub(super) fn forbid_core() -> Result<(), Failure> {
    if left_out::is(Step::ResourceLimits) {
        return Ok(());
    }
    set(Resource::Core, 0)
}

/// Sets all limits.
pub(super) fn apply() -> Result<Outcome, Failure> {
    forbid_core()?;
    raise_descriptors()?;
    let files = getrlimit(Resource::Fsize).maximum.unwrap_or(FILE_MAX_BYTES);
    set(Resource::Fsize, files.min(FILE_MAX_BYTES))?;
    Ok(Outcome::Done)
}

/// Forbids further threads and processes. To be called when every thread has been started: a second wall behind the filters.
///
/// # Errors
/// The limit that did not take.
pub fn forbid_processes() -> Result<(), Failure> {
    if left_out::is(Step::ResourceLimits) {
        return Ok(());
    }
    set(Resource::Nproc, 0)
}

/// Fails unless a core file would have no bytes.
pub(super) fn confirm() -> Result<(), Failure> {
    let core = getrlimit(Resource::Core);
    Failure::unless_equal("core file size", &(Some(0), Some(0)), &(core.current, core.maximum))
}

fn set(resource: Resource, limit: u64) -> Result<(), Failure> {
    let wanted = Rlimit { current: Some(limit), maximum: Some(limit) };
    setrlimit(resource, wanted).map_err(|error| Failure::refused(STEP, error))?;
    Failure::unless_equal(STEP, &wanted, &getrlimit(resource))
}
