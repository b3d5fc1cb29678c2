//! Seccomp: a thread may make the system calls of its role; any other kills the process. A wider filter of the whole process stands
//! before and beside those of the roles.
//!
//! Owns the roles and the entry into them. Invariant: a filter cannot be taken off, and it acts on the calling
//! thread alone, so each thread enters its own before it touches a byte from outside, the main thread last.

use std::hash::RandomState;

use super::{Failure, filters, left_out};
use crate::clock::{Moment, WallTime};
use crate::model::Step;

/// A kind of thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Serves connections.
    Worker,
    /// Commits changes.
    Keeper,
    /// Keeps audit files.
    Archivist,
    /// Waits for signals and ends the process.
    Main,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [Self::Worker, Self::Keeper, Self::Archivist, Self::Main];

    /// Its key in `seccomp/<arch>.json`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Worker => "worker",
            Self::Keeper => "keeper",
            Self::Archivist => "archivist",
            Self::Main => "main",
        }
    }
}

/// Puts every thread there is, and every one that would be started, under the filter of the whole process, for good: it allows what
/// any role may call, and the entry into its filter. None of them may be under another filter than those that the process was started in.
///
/// # Errors
/// If the kernel refuses the filter, or a thread is under another one.
pub(super) fn enclose() -> Result<(), Failure> {
    seccompiler::apply_filter_all_threads(filters::of_process())
        .map_err(|error| Failure::refused("process-filter", error))
}

/// Puts this process, which has one thread yet, under the filter of the one that speaks to etcd, for good.
///
/// # Errors
/// If the kernel refuses the filter.
pub(super) fn enter_broker() -> Result<(), Failure> {
    let _ = (RandomState::new(), Moment::now(), WallTime::now());
    seccompiler::apply_filter(filters::of_broker()).map_err(|error| Failure::refused("broker-filter", error))
}

/// Puts the calling thread under the filter of `role`, for good.
///
/// # Errors
/// If the kernel refuses the filter.
pub fn enter(role: Role) -> Result<(), Failure> {
    // First uses that make calls of their own: the seed of this thread's hash maps, the start of the clock.
    let _ = (RandomState::new(), Moment::now(), WallTime::now());
    if left_out::is(Step::Seccomp) {
        return Ok(());
    }
    seccompiler::apply_filter(filters::program(role)).map_err(|error| Failure::refused("seccomp", error))
}
