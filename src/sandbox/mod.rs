//! The lock-down: one file for each privilege, and one place that lists the steps in order.
//!
//! Owns [`lock_down`], which gives up everything but what serving needs, and [`seccomp::enter`], which each
//! thread calls before it serves, and [`confinement::confine`] for the one thread that opens files. Invariants: a step ends done, skipped for a named reason that was found
//! before trying, or the start stops; what the kernel reports decides, not what a call returned; dumpable 0,
//! core size 0, `no_new_privs` and empty effective, permitted, inheritable and ambient sets hold in every
//! case. `docs/SANDBOX.md` gives the reasons for the order.

use core::fmt;

mod capabilities;
pub mod confinement;
pub mod descriptors;
mod dumpable;
mod filters;
mod identity;
mod privileges;
pub mod rlimits;
pub mod seccomp;
mod securebits;
pub mod verify;

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
}

impl Plan {
    /// A plan with the default user and group.
    ///
    /// # Errors
    /// If `/proc` does not show this process: a lock-down that cannot be confirmed is none.
    pub fn new() -> Result<Self, Failure> {
        Ok(Self { uid: UNPRIVILEGED_ID, gid: UNPRIVILEGED_ID, witness: Witness::open()? })
    }
}

/// How a step ended that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken and took.
    Done,
    /// It was not tried, because a privilege was found absent before.
    Skipped(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Skipped(reason) => write!(f, "skipped ({reason})"),
        }
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
        }
    }
}

impl std::error::Error for Failure {}

/// The steps that were gone through, in order. Displays as one line for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report(Vec<(&'static str, Outcome)>);

impl Report {
    /// Each step's name and outcome, in order.
    pub fn steps(&self) -> impl Iterator<Item = (&'static str, &Outcome)> {
        self.0.iter().map(|(step, outcome)| (*step, outcome))
    }

    fn add(&mut self, step: &'static str, outcome: Outcome) -> bool {
        let done = outcome == Outcome::Done;
        self.0.push((step, outcome));
        done
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(step, outcome)| writeln!(f, "sandbox: {step}: {outcome}"))
    }
}

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
pub fn lock_down(plan: &Plan) -> Result<Report, Failure> {
    let mut report = Report::default();
    let before = plan.witness.status()?;
    Failure::unless_equal("number of threads", &1, &before.threads)?;

    // Before the first key is read: no core file and no debugger may see it.
    report.add("resource limits", rlimits::apply()?);
    report.add("dumpable", dumpable::clear()?);

    // These need CAP_SETPCAP, which is gone after the change of user.
    let bounding = report.add("capability bounding set", capabilities::clear_bounding()?);
    report.add("ambient capabilities", capabilities::clear_ambient()?);
    report.add("securebits", securebits::lock()?);

    // Groups, then group, then user: each needs what the next gives up.
    let switched = report.add("user and group", identity::switch(plan.uid, plan.gid)?);

    // The locked securebits made the change of user keep the capabilities, so they are cleared by hand.
    report.add("capability sets", capabilities::clear()?);
    report.add("no way back", identity::prove_no_way_back()?);

    // The change of user reset it to the system's default.
    report.add("dumpable again", dumpable::clear()?);
    report.add("no_new_privs", privileges::forbid_new()?);

    let expected = Expected {
        uid: if switched { plan.uid } else { before.uid[0] },
        gid: if switched { plan.gid } else { before.gid[0] },
        groups_empty: switched,
        bounding_empty: bounding,
    };
    report.add("self-check", plan.witness.confirm(&expected)?);
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_displays_one_line_for_each_step() {
        let mut report = Report::default();
        assert!(report.add("dumpable", Outcome::Done));
        assert!(!report.add("securebits", Outcome::Skipped("CAP_SETPCAP is absent".into())));
        let shown = report.to_string();
        assert_eq!(shown, "sandbox: dumpable: done\nsandbox: securebits: skipped (CAP_SETPCAP is absent)\n");
    }

    #[test]
    fn a_lock_down_with_other_threads_is_refused_before_its_first_step() {
        // Test threads are never alone.
        let plan = Plan::new().unwrap();
        let failure = lock_down(&plan).unwrap_err();
        assert!(matches!(failure, Failure::Unconfirmed { what: "number of threads", .. }), "{failure}");
    }
}
