//! What the lock-down reached: its steps, and how each of them ended.
//!
//! Owns the names of the steps, as flags, log lines, audit lines and `/api/integrity` speak of them. Invariant: a step
//! that is mandatory is never skipped; whoever reports one as skipped has made a mistake that ends the start.

use core::fmt;

/// How much of the lock-down must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Everything that the kernel and the situation allow.
    #[default]
    Auto,
    /// Everything: what is missing stops the start.
    Strict,
    /// The namespaces and the root are those of a container runtime; everything else must be there, by the step itself or,
    /// where the kernel shows it, by what the runtime has done before. Of Landlock, of key memory and of the process filter the part suffices
    /// that the kernel has; without [`Step::NoNewCode`] it serves where the kernel does not know it.
    Container,
}

impl Mode {
    /// The names of all modes, the default first.
    pub const NAMES: [&'static str; 3] = ["auto", "strict", "container"];

    /// The mode of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Auto, Self::Strict, Self::Container].into_iter().find(|mode| mode.name() == name)
    }

    /// The mode's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Strict => "strict",
            Self::Container => "container",
        }
    }
}

/// A step of the lock-down, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// No core file, a bounded number of descriptors, no file without an end.
    ResourceLimits,
    /// No debugger of the same user, no core file.
    Dumpable,
    /// Keys lie in memory that is locked, in no core file, and that not even root reads.
    KeyMemory,
    /// A user namespace of its own, for an ordinary user, so that the next steps are possible.
    UserNamespace,
    /// Process numbers of its own.
    PidNamespace,
    /// Mounts of its own.
    MountNamespace,
    /// System V and POSIX message queues of its own.
    IpcNamespace,
    /// A host name of its own.
    UtsNamespace,
    /// No network but the sockets that are open.
    NetworkNamespace,
    /// Control groups that show nothing of the host.
    CgroupNamespace,
    /// No way up from the directories that stay open.
    HeldDirectories,
    /// An empty root directory that cannot be written.
    EmptyRoot,
    /// No executed file can give a capability back.
    BoundingSet,
    /// No capability outlives the execution of a file.
    AmbientSet,
    /// User 0 is nothing special.
    Securebits,
    /// Another user than root.
    Identity,
    /// No capability, and none can be raised.
    CapabilitySets,
    /// User, group and groups cannot be had back.
    NoWayBack,
    /// No executed file can have more rights.
    NoNewPrivs,
    /// No memory becomes executable.
    NoNewCode,
    /// No system call but those that any thread needs, from its first to its last.
    ProcessFilter,
    /// No file but those that the thread needs, no new network connection, no signal to others.
    Landlock,
    /// No system call but those that the thread needs.
    Seccomp,
    /// The kernel was asked, and confirmed all of it.
    SelfCheck,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 24] = [
        Self::ResourceLimits,
        Self::Dumpable,
        Self::KeyMemory,
        Self::UserNamespace,
        Self::PidNamespace,
        Self::MountNamespace,
        Self::IpcNamespace,
        Self::UtsNamespace,
        Self::NetworkNamespace,
        Self::CgroupNamespace,
        Self::HeldDirectories,
        Self::EmptyRoot,
        Self::BoundingSet,
        Self::AmbientSet,
        Self::Securebits,
        Self::Identity,
        Self::CapabilitySets,
        Self::NoWayBack,
        Self::NoNewPrivs,
        Self::NoNewCode,
        Self::ProcessFilter,
        Self::Landlock,
        Self::Seccomp,
        Self::SelfCheck,
    ];

    /// The step's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ResourceLimits => "resource-limits",
            Self::Dumpable => "dumpable",
            Self::KeyMemory => "key-memory",
            Self::UserNamespace => "user-namespace",
            Self::PidNamespace => "pid-namespace",
            Self::MountNamespace => "mount-namespace",
            Self::IpcNamespace => "ipc-namespace",
            Self::UtsNamespace => "uts-namespace",
            Self::NetworkNamespace => "network-namespace",
            Self::CgroupNamespace => "cgroup-namespace",
            Self::HeldDirectories => "held-directories",
            Self::EmptyRoot => "empty-root",
            Self::BoundingSet => "bounding-set",
            Self::AmbientSet => "ambient-set",
            Self::Securebits => "securebits",
            Self::Identity => "identity",
            Self::CapabilitySets => "capability-sets",
            Self::NoWayBack => "no-way-back",
            Self::NoNewPrivs => "no-new-privs",
            Self::NoNewCode => "no-new-code",
            Self::ProcessFilter => "process-filter",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::SelfCheck => "self-check",
        }
    }

    /// The step of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }

    /// Whether no mode serves without it.
    #[must_use]
    pub const fn is_mandatory(self) -> bool {
        matches!(
            self,
            Self::ResourceLimits
                | Self::Dumpable
                | Self::AmbientSet
                | Self::CapabilitySets
                | Self::NoNewPrivs
                | Self::Seccomp
                | Self::SelfCheck
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a step ended that did not fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was taken and took.
    Done,
    /// It took as far as the kernel knows it, or by somebody else, for this reason.
    Partial(String),
    /// It was not tried, because something it needs was found absent before.
    Skipped(String),
    /// It was not tried, because what it is for holds without it, or is another's to give, for this reason.
    NotNeeded(String),
}

impl Outcome {
    /// The outcome's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Partial(_) => "partial",
            Self::Skipped(_) => "skipped",
            Self::NotNeeded(_) => "not-needed",
        }
    }

    /// Whether nothing is missed of it.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        matches!(self, Self::Done | Self::NotNeeded(_))
    }

    /// Why it was not taken as it stands.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Done => None,
            Self::Partial(reason) | Self::Skipped(reason) | Self::NotNeeded(reason) => Some(reason),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            None => f.write_str(self.name()),
            Some(reason) => write!(f, "{} ({reason})", self.name()),
        }
    }
}

/// What the lock-down of this process reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Posture {
    /// How much was asked for.
    pub mode: Mode,
    /// Steps whose absence the operator has accepted.
    pub allowed_missing: Vec<Step>,
    /// Each step that was gone through, in order.
    pub steps: Vec<(Step, Outcome)>,
    /// The revision of Landlock that the kernel has; 0 for none.
    pub landlock_abi: i32,
}

impl Posture {
    /// Notes how a step ended, in the place that the order of the steps gives it; returns whether it was done.
    pub fn add(&mut self, step: Step, outcome: Outcome) -> bool {
        let done = outcome == Outcome::Done;
        let place = self.steps.partition_point(|(other, _)| *other <= step);
        self.steps.insert(place, (step, outcome));
        done
    }

    /// Notes that a step that was done turned out to be less.
    pub fn lower(&mut self, step: Step, reason: &str) {
        for (other, outcome) in &mut self.steps {
            if *other == step && *outcome == Outcome::Done {
                *outcome = Outcome::Partial(reason.to_owned());
            }
        }
    }

    /// The outcome of a step that was gone through.
    #[must_use]
    pub fn of(&self, step: Step) -> Option<&Outcome> {
        self.steps.iter().find(|(other, _)| *other == step).map(|(_, outcome)| outcome)
    }

    /// The first step that this mode does not serve without, and why it is not whole.
    #[must_use]
    pub fn missing(&self) -> Option<(Step, &str)> {
        self.steps.iter().find_map(|(step, outcome)| {
            let reason = outcome.reason()?;
            let accepted = !step.is_mandatory()
                && (outcome.is_whole()
                    || self.mode == Mode::Auto
                    || self.is_for_the_kernel(*step, outcome)
                    || self.allowed_missing.contains(step));
            (!accepted).then_some((*step, reason))
        })
    }

    /// Whether the mode serves with what the kernel has of the step: the nodes of a cluster have the kernels that they have. What an
    /// older one knows of Landlock, memory that is locked but can be read by root, and filters that it does not count are told and not refused;
    /// so is that memory is kept from becoming executable by the filters alone, a step that a kernel has or has not.
    fn is_for_the_kernel(&self, step: Step, outcome: &Outcome) -> bool {
        let borne = match outcome {
            Outcome::Partial(_) => matches!(step, Step::ProcessFilter | Step::Landlock | Step::KeyMemory),
            Outcome::Skipped(_) => step == Step::NoNewCode,
            Outcome::Done | Outcome::NotNeeded(_) => false,
        };
        self.mode == Mode::Container && borne
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posture(mode: Mode, allowed: &[Step], step: Step, outcome: Outcome) -> Posture {
        let mut posture = Posture { mode, allowed_missing: allowed.to_vec(), ..Posture::default() };
        posture.add(Step::ResourceLimits, Outcome::Done);
        posture.add(step, outcome);
        posture
    }

    #[test]
    fn every_name_is_that_of_one_mode() {
        let named = Mode::NAMES.map(|name| Mode::from_name(name).unwrap());
        assert_eq!(named, [Mode::Auto, Mode::Strict, Mode::Container]);
        assert_eq!(Mode::from_name("none"), None);
    }

    #[test]
    fn every_name_is_that_of_one_step() {
        for step in Step::ALL {
            assert_eq!(Step::from_name(step.name()), Some(step));
        }
        assert_eq!(Step::from_name("nothing"), None);
    }

    #[test]
    fn a_strict_start_misses_what_it_was_not_told_to_do_without() {
        let skipped = || Outcome::Skipped("no".to_owned());
        let strict = posture(Mode::Strict, &[], Step::Landlock, skipped());
        assert_eq!(strict.missing(), Some((Step::Landlock, "no")));
        let told = posture(Mode::Strict, &[Step::Landlock], Step::Landlock, skipped());
        assert_eq!(told.missing(), None);
        assert_eq!(posture(Mode::Auto, &[], Step::Landlock, skipped()).missing(), None);
    }

    #[test]
    fn what_is_not_needed_is_not_missed() {
        let needless = || Outcome::NotNeeded("left to the container runtime".to_owned());
        for mode in [Mode::Strict, Mode::Container] {
            assert_eq!(posture(mode, &[], Step::EmptyRoot, needless()).missing(), None);
            let mandatory = posture(mode, &[], Step::NoNewPrivs, needless());
            assert!(mandatory.missing().is_some(), "a mandatory step is taken, whoever else has");
        }
    }

    #[test]
    fn a_container_serves_with_the_part_that_an_older_kernel_has() {
        let part = || Outcome::Partial("an older kernel".to_owned());
        let none = || Outcome::Skipped("none".to_owned());
        for step in [Step::ProcessFilter, Step::Landlock, Step::KeyMemory] {
            assert_eq!(posture(Mode::Container, &[], step, part()).missing(), None, "{step}");
            assert!(posture(Mode::Strict, &[], step, part()).missing().is_some(), "{step}");
            assert!(posture(Mode::Container, &[], step, none()).missing().is_some(), "{step}");
        }
        assert_eq!(posture(Mode::Container, &[], Step::NoNewCode, none()).missing(), None);
        assert!(posture(Mode::Strict, &[], Step::NoNewCode, none()).missing().is_some());
        for step in [Step::EmptyRoot, Step::PidNamespace, Step::Identity, Step::NoNewCode, Step::Seccomp] {
            assert!(posture(Mode::Container, &[], step, part()).missing().is_some(), "{step}");
        }
    }

    #[test]
    fn steps_stand_in_their_order_whenever_they_end() {
        let mut posture = Posture::default();
        for step in [Step::SelfCheck, Step::Dumpable, Step::Landlock, Step::ResourceLimits] {
            posture.add(step, Outcome::Done);
        }
        assert!(posture.steps.iter().map(|(step, _)| step).is_sorted(), "{posture:?}");
    }

    #[test]
    fn a_step_that_turned_out_to_be_less_is_missed_where_it_is_demanded() {
        let mut strict = posture(Mode::Strict, &[], Step::KeyMemory, Outcome::Done);
        assert_eq!(strict.missing(), None);
        strict.lower(Step::KeyMemory, "too small");
        assert_eq!(strict.missing(), Some((Step::KeyMemory, "too small")));
    }

    #[test]
    fn nothing_makes_a_mandatory_step_optional() {
        for mode in [Mode::Auto, Mode::Strict, Mode::Container] {
            let found = posture(mode, &Step::ALL, Step::Seccomp, Outcome::Partial("half".to_owned()));
            assert_eq!(found.missing(), Some((Step::Seccomp, "half")));
        }
    }
}
