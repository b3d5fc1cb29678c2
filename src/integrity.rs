//! What the server finds when it looks at itself: one board for all threads.
//!
//! Owns [`Board`], which the monitor writes and everybody may read, and [`KernelView`], what the kernel said of the process
//! at the last look. Invariants: a check that found something stays failed until a later look finds nothing; the numbers
//! never go back; the text of a finding holds nothing secret and no path of the host; whether all is well is told by one
//! load, since every health probe asks.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::clock::WallTime;

/// Something that is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// The program's file is the one that was started.
    Binary,
    /// Users, groups, capabilities, `no_new_privs` and filters are those of the lock-down.
    Privileges,
    /// No memory is writable and executable, and nothing new is executable.
    Mappings,
    /// No descriptor is open that is not of its band.
    Descriptors,
    /// Nobody traces this process.
    Tracer,
    /// The cryptography gives its known answers.
    KnownAnswers,
    /// The kernel's random bytes pass the health tests.
    Entropy,
    /// The end of the journal is what was written.
    Journal,
}

impl Check {
    /// Every check.
    pub const ALL: [Self; 8] = [
        Self::Binary,
        Self::Privileges,
        Self::Mappings,
        Self::Descriptors,
        Self::Tracer,
        Self::KnownAnswers,
        Self::Entropy,
        Self::Journal,
    ];

    /// The check of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|check| check.name() == name)
    }

    const fn bit(self) -> u64 {
        1 << self as u64
    }

    /// The check's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Privileges => "privileges",
            Self::Mappings => "mappings",
            Self::Descriptors => "descriptors",
            Self::Tracer => "tracer",
            Self::KnownAnswers => "known-answers",
            Self::Entropy => "entropy",
            Self::Journal => "journal",
        }
    }
}

/// How the last look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody has looked yet.
    Pending,
    /// Nothing was found.
    Good,
    /// Something was found.
    Failed,
}

impl State {
    /// The state's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Good => "ok",
            Self::Failed => "failed",
        }
    }
}

/// A check as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which one.
    pub check: Check,
    /// How the last look ended.
    pub state: State,
    /// When that was; meaningless while pending.
    pub last: WallTime,
    /// How often was looked.
    pub looks: u64,
    /// How often something was found.
    pub findings: u64,
    /// What was found last, if anything ever was.
    pub finding: Option<String>,
}

/// Checks that have failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failed(u64);

impl Failed {
    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this one is among them.
    #[must_use]
    pub const fn has(self, check: Check) -> bool {
        self.0 & check.bit() != 0
    }
}

impl FromIterator<Check> for Failed {
    fn from_iter<T: IntoIterator<Item = Check>>(checks: T) -> Self {
        Self(checks.into_iter().fold(0, |all, check| all | check.bit()))
    }
}

#[derive(Debug, Default)]
struct Cell {
    state: AtomicU8,
    last: AtomicU64,
    looks: AtomicU64,
    findings: AtomicU64,
    finding: Mutex<Option<String>>,
}

/// The process as the kernel reports it (proc_pid_status(5)): that of the main thread, where threads differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelView {
    /// When the kernel was asked.
    pub at: WallTime,
    /// Real, effective, saved and file system user.
    pub uid: [u32; 4],
    /// Real, effective, saved and file system group.
    pub gid: [u32; 4],
    /// Further groups.
    pub groups: Vec<u32>,
    /// The capability sets.
    pub capabilities: CapabilityView,
    /// Whether no new privileges can be had.
    pub no_new_privs: bool,
    /// Seccomp mode: 0 none, 1 strict, 2 filter.
    pub seccomp: u64,
    /// Number of threads of the process.
    pub threads: u64,
    /// The process that traces this one; 0 for none.
    pub tracer: u64,
}

/// The capability sets of a process (capabilities(7)), a bit for each capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilityView {
    /// What an executed file may add.
    pub inheritable: u64,
    /// What may be raised.
    pub permitted: u64,
    /// What is used.
    pub effective: u64,
    /// What can ever be had.
    pub bounding: u64,
    /// What outlives the execution of a file.
    pub ambient: u64,
}

/// The checks of this process.
#[derive(Debug, Default)]
pub struct Board {
    cells: [Cell; Check::ALL.len()],
    /// A bit for each check that has failed: one load tells that all is well.
    failed: AtomicU64,
    kernel: Mutex<Option<Arc<KernelView>>>,
    binary: OnceLock<[u8; 32]>,
}

impl Board {
    /// Notes that nothing was found; returns whether the check had failed before.
    pub fn clear(&self, check: Check, now: WallTime) -> bool {
        self.note(check, now, State::Good) == State::Failed
    }

    /// Notes what was found; returns whether the check had not failed before.
    pub fn report(&self, check: Check, now: WallTime, finding: &str) -> bool {
        if let Some(cell) = self.cell(check) {
            cell.findings.fetch_add(1, Ordering::Relaxed);
            *lock(&cell.finding) = Some(finding.to_owned());
        }
        self.note(check, now, State::Failed) != State::Failed
    }

    /// How the last look at it ended.
    #[must_use]
    pub fn state(&self, check: Check) -> State {
        self.cell(check).map_or(State::Pending, |cell| state(cell.state.load(Ordering::Acquire)))
    }

    /// Whether no check has failed: one load.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.failed.load(Ordering::Acquire) == 0
    }

    /// The checks that have failed: one load.
    #[must_use]
    pub fn failed(&self) -> Failed {
        Failed(self.failed.load(Ordering::Acquire))
    }

    /// Keeps the SHA-256 of the program's file, as it was at the start. What is kept first stays.
    pub fn store_binary(&self, sum: [u8; 32]) {
        let _ = self.binary.set(sum);
    }

    /// The SHA-256 of the program's file, as it was at the start; nothing before it was taken.
    #[must_use]
    pub fn binary(&self) -> Option<[u8; 32]> {
        self.binary.get().copied()
    }

    /// Keeps what the kernel said of the process.
    pub fn store_kernel(&self, view: KernelView) {
        *lock(&self.kernel) = Some(Arc::new(view));
    }

    /// What the kernel said of the process at the last look; nothing before the first.
    #[must_use]
    pub fn kernel(&self) -> Option<Arc<KernelView>> {
        lock(&self.kernel).clone()
    }

    /// Every check as it stands.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        let standing = |(check, cell): (Check, &Cell)| Standing {
            check,
            state: state(cell.state.load(Ordering::Acquire)),
            last: WallTime::from_millis(cell.last.load(Ordering::Relaxed)),
            looks: cell.looks.load(Ordering::Relaxed),
            findings: cell.findings.load(Ordering::Relaxed),
            finding: lock(&cell.finding).clone(),
        };
        Check::ALL.into_iter().zip(&self.cells).map(standing).collect()
    }

    fn note(&self, check: Check, now: WallTime, state_now: State) -> State {
        let Some(cell) = self.cell(check) else { return State::Pending };
        cell.looks.fetch_add(1, Ordering::Relaxed);
        cell.last.store(now.as_millis(), Ordering::Relaxed);
        let before = state(cell.state.swap(state_now as u8, Ordering::AcqRel));
        if state_now == State::Failed {
            self.failed.fetch_or(check.bit(), Ordering::AcqRel);
        } else {
            self.failed.fetch_and(!check.bit(), Ordering::AcqRel);
        }
        before
    }

    fn cell(&self, check: Check) -> Option<&Cell> {
        self.cells.get(check as usize)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

const fn state(number: u8) -> State {
    match number {
        0 => State::Pending,
        1 => State::Good,
        _ => State::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> WallTime {
        WallTime::from_millis(millis)
    }

    #[test]
    fn every_name_is_that_of_one_check() {
        for (place, check) in Check::ALL.into_iter().enumerate() {
            assert_eq!(Check::from_name(check.name()), Some(check));
            assert_eq!(check as usize, place, "a check's cell is the one of its place");
        }
        assert_eq!(Check::from_name("nothing"), None);
    }

    #[test]
    fn nobody_has_looked_at_a_new_board() {
        let board = Board::default();
        assert!(board.is_good() && board.failed().is_empty() && board.kernel().is_none());
        for (standing, check) in board.standings().into_iter().zip(Check::ALL) {
            assert_eq!((standing.check, standing.state), (check, State::Pending));
            assert_eq!((standing.looks, standing.findings, standing.finding), (0, 0, None));
        }
    }

    #[test]
    fn a_check_stays_failed_until_a_look_finds_nothing() {
        let board = Board::default();
        assert!(!board.clear(Check::Tracer, at(1)), "it had not failed");
        assert!(board.report(Check::Tracer, at(2), "traced"), "news");
        assert!(!board.report(Check::Tracer, at(3), "traced still"), "no news");
        assert!(!board.clear(Check::Binary, at(4)), "another check changes nothing");
        assert_eq!(board.state(Check::Tracer), State::Failed);
        assert!(!board.is_good() && board.failed().has(Check::Tracer) && !board.failed().has(Check::Binary));
        let standing = board.standings().swap_remove(Check::Tracer as usize);
        assert_eq!((standing.last, standing.looks, standing.findings), (at(3), 3, 2));
        assert_eq!(standing.finding.as_deref(), Some("traced still"));
        assert!(board.clear(Check::Tracer, at(5)), "it had failed");
        assert!(board.is_good());
        let standing = board.standings().swap_remove(Check::Tracer as usize);
        assert_eq!((standing.state, standing.looks, standing.findings), (State::Good, 4, 2));
        assert_eq!(standing.finding.as_deref(), Some("traced still"), "what was found once stays known");
    }

    #[test]
    fn all_is_well_only_when_every_failed_check_was_cleared() {
        let board = Board::default();
        for check in Check::ALL {
            board.report(check, at(1), "found");
        }
        assert_eq!(board.failed(), Check::ALL.into_iter().collect());
        for check in Check::ALL {
            assert!(!board.is_good());
            board.clear(check, at(2));
        }
        assert!(board.is_good());
    }

    #[test]
    fn the_programs_sum_is_that_of_the_start() {
        let board = Board::default();
        assert_eq!(board.binary(), None);
        board.store_binary([7; 32]);
        board.store_binary([8; 32]);
        assert_eq!(board.binary(), Some([7; 32]));
    }

    #[test]
    fn the_kernels_view_is_that_of_the_last_look() {
        let board = Board::default();
        let view = |threads| KernelView {
            at: at(threads),
            uid: [1001; 4],
            gid: [1001; 4],
            groups: Vec::new(),
            capabilities: CapabilityView::default(),
            no_new_privs: true,
            seccomp: 2,
            threads,
            tracer: 0,
        };
        board.store_kernel(view(4));
        board.store_kernel(view(5));
        assert_eq!(board.kernel().as_deref(), Some(&view(5)));
    }
}
