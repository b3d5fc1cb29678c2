//! The lock-down: one file for each privilege, and one place that lists the steps in order.
//!
//! Owns [`lock_down`], which gives up everything but what serving needs, and [`seccomp::enter`], which each
//! thread calls before it serves, and [`confinement::confine`] for the one thread that opens files. Invariants: a step ends done, skipped for a named reason that was found
//! before trying, or the start stops; what the kernel reports decides, not what a call returned; dumpable 0,
//! core size 0, `no_new_privs` and empty effective, permitted, inheritable and ambient sets hold in every
//! case. `docs/SANDBOX.md` gives the reasons for the order.

use core::fmt;

mod capabilities;
pub mod census;
pub mod confinement;
pub mod descriptors;
mod dumpable;
mod filters;
mod identity;
pub mod mappings;
mod privileges;
pub mod probe;
pub mod rlimits;
pub mod seccomp;
mod securebits;
pub mod verify;
pub mod watch;

use crate::model::{Mode, Posture, Step};
use verify::{Expected, Witness};

/// The user and group that a start as root switches to, unless told otherwise.
pub const UNPRIVILEGED_ID: u32 = 1001;
/// How a start ends whose lock-down failed: `EX_CONFIG` of `sysexits.h`.
pub const EXIT_CODE: u8 = 78;

/// What the lock-down is to reach.
#[derive(Debug)]
pub struct Plan {
    /// The user that a start as root switches to; not 0.
    pub uid: u32,
    /// The group that a start as root switches to; not 0.
    pub gid: u32,
    /// The kernel's view of this process, kept open because paths may vanish.
    pub witness: Witness,
    /// How much of the lock-down must be there.
    pub mode: Mode,
    /// Steps that may be absent.
    pub allow_missing: Vec<Step>,
}

impl Plan {
    /// A plan with the default user and group.
    ///
    /// # Errors
    /// If `/proc` does not show this process: a lock-down that cannot be confirmed is none.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self {
            uid: UNPRIVILEGED_ID,
            gid: UNPRIVILEGED_ID,
            witness: Witness::open()?,
            mode: Mode::default(),
            allow_missing: Vec::new(),
        })
    }
}

/// Why the lock-down does not hold. The caller ends the process with [`EXIT_CODE`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The system refused a step.
    Refused {
        /// The step.
        step: &'static str,
        /// What it said.
        cause: String,
    },
    /// The kernel does not report what a step should have reached.
    Unconfirmed {
        /// The property.
        what: &'static str,
        /// Its value if all were well.
        expected: String,
        /// Its value.
        found: String,
    },
    /// A step is not whole that this mode does not serve without.
    Missing {
        /// The mode.
        mode: Mode,
        /// The step.
        step: Step,
        /// Why it is not whole.
        reason: String,
    },
}

impl Failure {
    /// The system refused `step`.
    fn refused(step: &'static str, cause: impl fmt::Display) -> Self {
        Self::Refused { step, cause: cause.to_string() }
    }

    /// Fails unless `found` is `expected`.
    fn unless_equal<T: PartialEq + fmt::Debug>(
        what: &'static str,
        expected: &T,
        found: &T,
    ) -> Result<(), Self> {
        if expected == found {
            return Ok(());
        }
        Err(Self::Unconfirmed { what, expected: format!("{expected:?}"), found: format!("{found:?}") })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { step, cause } => write!(f, "sandbox: {step}: failed ({cause})"),
            Self::Unconfirmed { what, expected, found } => {
                write!(f, "sandbox: {what}: the kernel reports {found} instead of {expected}")
            }
            Self::Missing { step, reason, .. } if step.is_mandatory() => {
                write!(f, "sandbox: {step}: missing ({reason}), and nothing is served without it")
            }
            Self::Missing { mode, step, reason } => write!(
                f,
                "sandbox: {step}: missing ({reason}); --sandbox {} does not serve without it: mend that, or accept it \
                 with --sandbox-allow-missing {step}",
                mode.name()
            ),
        }
    }
}

impl std::error::Error for Failure {}

/// Forbids core files and debuggers. To be called before the first secret is read; [`lock_down`] does it again.
///
/// # Errors
/// The limit or the flag that did not take.
pub fn shield() -> Result<(), Failure> {
    rlimits::forbid_core()?;
    dumpable::clear().map(drop)
}

/// Gives up what a process does not need that only starts and ends servers: new privileges, and every capability that no
/// server needs for its own lock-down.
///
/// # Errors
/// The step that did not take.
pub fn restrict_supervisor() -> Result<(), Failure> {
    capabilities::restrict()?;
    privileges::forbid_new().map(drop)
}

/// Gives up every privilege, in the only order that works, and has the kernel confirm it.
///
/// To be called once, on the main thread, before any other thread exists: most of these calls act on the
/// calling thread alone. Every file and socket that is needed must be open before.
///
/// # Errors
/// The step that did not take. The process is then in a state between and must end.
pub fn lock_down(plan: &Plan) -> Result<Posture, Failure> {
    let mut posture =
        Posture { mode: plan.mode, allowed_missing: plan.allow_missing.clone(), ..Posture::default() };
    let before = plan.witness.status()?;
    Failure::unless_equal("number of threads", &1, &before.threads)?;

    // Before the first key is read: no core file and no debugger may see it.
    posture.add(Step::ResourceLimits, rlimits::apply()?);
    posture.add(Step::Dumpable, dumpable::clear()?);

    // These need CAP_SETPCAP, which is gone after the change of user.
    let bounding = posture.add(Step::BoundingSet, capabilities::clear_bounding()?);
    posture.add(Step::AmbientSet, capabilities::clear_ambient()?);
    posture.add(Step::Securebits, securebits::lock()?);

    // Groups, then group, then user: each needs what the next gives up.
    let switched = posture.add(Step::Identity, identity::switch(plan.uid, plan.gid)?);

    // The locked securebits made the change of user keep the capabilities, so they are cleared by hand.
    posture.add(Step::CapabilitySets, capabilities::clear()?);
    posture.add(Step::NoWayBack, identity::prove_no_way_back()?);

    // The change of user reset it to the system's default.
    dumpable::clear()?;
    posture.add(Step::NoNewPrivs, privileges::forbid_new()?);

    let expected = Expected {
        uid: if switched { plan.uid } else { before.uid[0] },
        gid: if switched { plan.gid } else { before.gid[0] },
        groups_empty: switched,
        bounding_empty: bounding,
    };
    posture.add(Step::SelfCheck, plan.witness.confirm(&expected)?);
    judge(&posture)?;
    Ok(posture)
}

/// Fails if the posture's mode does not serve without a step that is missing.
///
/// # Errors
/// [`Failure::Missing`]
pub fn judge(posture: &Posture) -> Result<(), Failure> {
    posture.missing().map_or(Ok(()), |(step, reason)| {
        Err(Failure::Missing { mode: posture.mode, step, reason: reason.to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Outcome;

    #[test]
    fn a_lock_down_with_other_threads_is_refused_before_its_first_step() {
        // Test threads are never alone.
        let plan = Plan::new().unwrap();
        let failure = lock_down(&plan).unwrap_err();
        assert!(matches!(failure, Failure::Unconfirmed { what: "number of threads", .. }), "{failure}");
    }

    #[test]
    fn a_missing_step_is_told_with_the_flag_that_accepts_it() {
        let mut posture = Posture { mode: Mode::Strict, ..Posture::default() };
        posture.add(Step::Landlock, Outcome::Skipped("the kernel has no Landlock".to_owned()));
        let told = judge(&posture).unwrap_err().to_string();
        assert!(told.contains("the kernel has no Landlock"), "{told}");
        assert!(told.contains("--sandbox-allow-missing landlock"), "{told}");
    }
}
