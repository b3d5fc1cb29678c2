//! The lock-down: one file for each privilege, and one place that lists the steps in order.
//!
//! Owns [`namespaces::enter_user`], which comes before the first key, [`lock_down`], which gives up everything but what serving needs,
//! and [`lock_in`], which each thread calls before it serves. Invariants: a step ends done, skipped for a named reason that was found
//! before trying, or the start stops; what the kernel reports decides, not what a call returned; dumpable 0,
//! core size 0, `no_new_privs` and empty effective, permitted, inheritable and ambient sets hold in every
//! case. `docs/SANDBOX.md` gives the reasons for the order.

use core::fmt;

mod capabilities;
pub mod census;
pub mod confinement;
pub mod descriptors;
pub mod directories;
mod dumpable;
mod executable;
mod filters;
pub mod identity;
pub mod left_out;
pub mod mappings;
pub mod namespaces;
mod privileges;
pub mod probe;
pub mod processes;
pub mod rlimits;
mod root;
pub mod rules;
pub mod seccomp;
mod securebits;
pub mod verify;
pub mod watch;

use crate::model::{Mode, Outcome, Posture, Step};
use confinement::{Confined, Reach};
use directories::Held;
use namespaces::{Giver, Left, Starter};
use seccomp::Role;
use verify::{Expected, Status, Witness};

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
    /// Who has started this process.
    pub starter: Starter,
    /// How the step ended that is taken before the first key is read: [`namespaces::enter_user`].
    pub user_namespace: Outcome,
    /// What became of the key region, which was made before the first key was read.
    pub key_memory: Outcome,
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
            starter: Starter::default(),
            user_namespace: Outcome::Skipped("not tried".to_owned()),
            key_memory: Outcome::Skipped("no region was made".to_owned()),
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

/// Gives up every privilege of the process that alone may open connections, and every file: what is left is to connect to `ports`. It stays in the
/// network namespace in which it was started. To be called before it has a second thread; `identity` is who it becomes, if it is root.
///
/// # Errors
/// The step that did not take.
pub fn lock_broker(identity: (u32, u32), ports: &[u16]) -> Result<(), Failure> {
    rlimits::forbid_core()?;
    dumpable::clear()?;
    capabilities::clear_bounding()?;
    capabilities::clear_ambient()?;
    securebits::lock()?;
    if identity::hindrance(identity.0, identity.1)?.is_none() {
        identity::switch(identity.0, identity.1)?;
    }
    capabilities::clear()?;
    identity::prove_no_way_back()?;
    dumpable::clear()?;
    privileges::forbid_new()?;
    executable::forbid_new()?;
    confinement::confine(&Reach::Ports(ports))?;
    seccomp::enter_broker()
}

/// Gives up every privilege, in the only order that works, and has the kernel confirm it.
///
/// To be called once, on the main thread, before any other thread exists: most of these calls act on the
/// calling thread alone. Every file and socket that is needed must be open before. Of directories `held` are all that stay open.
///
/// # Errors
/// The step that did not take. The process is then in a state between and must end.
pub fn lock_down(plan: &Plan, held: Held<'_>) -> Result<Posture, Failure> {
    let mut posture =
        Posture { mode: plan.mode, allowed_missing: plan.allow_missing.clone(), ..Posture::default() };
    let before = plan.witness.status()?;
    Failure::unless_equal("number of threads", &1, &before.threads)?;

    // Before the first key is read: no core file and no debugger may see it.
    posture.add(Step::ResourceLimits, left_out::unless(Step::ResourceLimits, rlimits::apply)?);
    posture.add(Step::Dumpable, dumpable::clear()?);
    posture.add(Step::KeyMemory, plan.key_memory.clone());

    // These need CAP_SYS_ADMIN. What must be asked of paths is asked before they vanish.
    let hindrance = identity::hindrance(plan.uid, plan.gid)?;
    posture.add(Step::UserNamespace, plan.user_namespace.clone());
    let giver = Giver::of(plan.mode, plan.starter);
    let held = held.locate();
    let left = namespaces::leave(&giver, plan.starter)?;
    for (step, outcome) in &left.outcomes {
        posture.add(*step, outcome.clone());
    }
    let own_mounts = left.has(Step::MountNamespace);
    let detached = left_out::unless(Step::HeldDirectories, || directories::detach(&giver, own_mounts, held))?;
    posture.add(Step::HeldDirectories, detached);
    let is_empty = posture
        .add(Step::EmptyRoot, left_out::unless(Step::EmptyRoot, || root::replace(&giver, own_mounts))?);

    // These need CAP_SETPCAP, which is gone after the change of user.
    let bounding =
        of_runtime(plan.mode, &before, left_out::unless(Step::BoundingSet, capabilities::clear_bounding)?);
    let bounding = posture.add(Step::BoundingSet, bounding);
    posture.add(Step::AmbientSet, capabilities::clear_ambient()?);
    posture.add(
        Step::Securebits,
        of_runtime(plan.mode, &before, left_out::unless(Step::Securebits, securebits::lock)?),
    );

    // Groups, then group, then user: each needs what the next gives up.
    let switched = left_out::unless(Step::Identity, || {
        hindrance.map_or_else(|| identity::switch(plan.uid, plan.gid), Ok)
    })?;
    let switched = posture.add(Step::Identity, switched);

    // The locked securebits made the change of user keep the capabilities, so they are cleared by hand.
    posture.add(Step::CapabilitySets, left_out::unless(Step::CapabilitySets, capabilities::clear)?);
    if !left_out::is(Step::CapabilitySets) {
        posture.add(Step::NoWayBack, identity::prove_no_way_back()?);
    }

    // The change of user reset it to the system's default.
    dumpable::clear()?;
    posture.add(Step::NoNewPrivs, left_out::unless(Step::NoNewPrivs, privileges::forbid_new)?);
    posture.add(Step::NoNewCode, left_out::unless(Step::NoNewCode, executable::forbid_new)?);
    posture.add(Step::Landlock, left_out::unless(Step::Landlock, || Ok(confinement::foresee()))?);

    let expected = Expected {
        uid: if switched { plan.uid } else { before.uid[0] },
        gid: if switched { plan.gid } else { before.gid[0] },
        groups_empty: switched,
        bounding_empty: bounding,
    };
    if posture.of(Step::NoNewCode) == Some(&Outcome::Done) {
        executable::confirm()?;
    }
    posture.add(Step::SelfCheck, confirm(plan, &expected, &left, is_empty)?);
    judge(&posture)?;
    Ok(posture)
}

/// Finds out how [`enclose`] will end: the start is told in the audit log before there are threads.
///
/// # Errors
/// If the posture's mode does not serve without it.
pub fn foresee_enclosure(plan: &Plan, posture: &mut Posture) -> Result<(), Failure> {
    let outcome = left_out::unless(Step::ProcessFilter, || Ok(enclosure_of(plan.witness.status()?.filters)))?;
    posture.add(Step::ProcessFilter, outcome);
    judge(posture)
}

/// Puts every thread of this process under one filter, to which each adds that of its role: a second wall, of the same kind, should
/// a role's filter allow what it must not or a thread not enter it. To be called when every thread was started and is confined.
///
/// # Errors
/// If the kernel refuses it, or does not report it.
pub fn enclose(plan: &Plan) -> Result<(), Failure> {
    if left_out::is(Step::ProcessFilter) {
        return Ok(());
    }
    let before = plan.witness.status()?;
    seccomp::enclose()?;
    enclosed(&before, &plan.witness.status()?)
}

/// How it ends where the kernel tells so many filters, or does not tell.
fn enclosure_of(filters: Option<u64>) -> Outcome {
    if filters.is_some() {
        return Outcome::Done;
    }
    let reason = "entered, but the kernel, older than 5.9, does not count filters: nobody can see whether each thread has that of its role as well";
    Outcome::Partial(reason.to_owned())
}

/// Fails unless the filter of the process was entered, by what the kernel reports before and after it.
fn enclosed(before: &Status, after: &Status) -> Result<(), Failure> {
    Failure::unless_equal("seccomp mode", &verify::FILTERED, &after.seccomp)?;
    let wanted = before.filters.map(|count| count.saturating_add(1));
    Failure::unless_equal("number of filters", &wanted, &after.filters)
}

/// Asks the kernel about all that can be asked before there are threads.
fn confirm(plan: &Plan, expected: &Expected, left: &Left, is_empty: bool) -> Result<Outcome, Failure> {
    left.confirm()?;
    if is_empty {
        root::confirm()?;
    }
    plan.witness.confirm(expected)
}

/// A step that needs CAP_SETPCAP, and that keeps executed files from giving capabilities back, has been taken by a container runtime
/// as far as it matters, if there are none to be had or the user is not root.
fn of_runtime(mode: Mode, before: &Status, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Skipped(reason) if mode == Mode::Container && before.bounding == 0 => {
            Outcome::NotNeeded(format!("{reason}, and the runtime has emptied the bounding set"))
        }
        Outcome::Skipped(reason) if mode == Mode::Container && before.uid[1] != 0 => {
            Outcome::NotNeeded(format!("{reason}, and the runtime has chosen uid {}", before.uid[1]))
        }
        outcome => outcome,
    }
}

/// Puts the calling thread, which is confined, under the filter of `role`, for good: files come first, because no filter allows the
/// calls of Landlock.
///
/// # Errors
/// If the kernel refuses it, or Landlock is not what `posture` foresaw.
pub fn lock_in(posture: &Posture, role: Role, confined: Confined) -> Result<Confined, Failure> {
    Failure::unless_equal("landlock on a thread", &posture.of(Step::Landlock), &Some(&confined.outcome))?;
    seccomp::enter(role)?;
    Ok(confined)
}

/// Fails if the posture's mode does not serve without a step that is missing.
///
/// # Errors
/// [`Failure::Missing`]
pub fn judge(posture: &Posture) -> Result<(), Failure> {
    posture.missing().map_or(Ok(()), |(step, reason)| {
        let missing = Failure::Missing { mode: posture.mode, step, reason: reason.to_owned() };
        left_out::tolerate(step, Err(missing))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_down_with_other_threads_is_refused_before_its_first_step() {
        // Test threads are never alone.
        let plan = Plan::new().unwrap();
        let failure = lock_down(&plan, Held::default()).unwrap_err();
        assert!(matches!(failure, Failure::Unconfirmed { what: "number of threads", .. }), "{failure}");
    }

    #[test]
    fn a_filter_that_the_kernel_does_not_count_is_told_as_a_part_only_if_it_was_entered() {
        let status =
            |seccomp, filters| Status { seccomp, filters, ..Witness::open().unwrap().status().unwrap() };
        let ended = |before: (u64, Option<u64>), after: (u64, Option<u64>)| {
            enclosed(&status(before.0, before.1), &status(after.0, after.1))
        };
        assert_eq!(ended((0, Some(0)), (2, Some(1))), Ok(()));
        assert_eq!(ended((2, Some(3)), (2, Some(4))), Ok(()));
        assert_eq!(ended((0, None), (2, None)), Ok(()));
        assert!(matches!(enclosure_of(None), Outcome::Partial(_)));
        assert_eq!(enclosure_of(Some(0)), Outcome::Done);
        for (before, after) in
            [((0, None), (0, None)), ((0, Some(0)), (0, Some(0))), ((2, Some(3)), (2, Some(3)))]
        {
            let failure = ended(before, after).unwrap_err();
            assert!(matches!(failure, Failure::Unconfirmed { .. }), "{failure}");
        }
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
