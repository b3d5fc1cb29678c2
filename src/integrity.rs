//! What the server finds when it looks at itself: one board for all threads.
//!
//! Owns [`Board`], which the monitor writes and everybody may read. Invariants: a check that found something stays
//! failed until a later look finds nothing; the numbers never go back; the text of a finding holds nothing secret and no
//! path of the host.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

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

#[derive(Debug, Default)]
struct Cell {
    state: AtomicU8,
    last: AtomicU64,
    looks: AtomicU64,
    findings: AtomicU64,
    finding: Mutex<Option<String>>,
}

/// The checks of this process.
#[derive(Debug, Default)]
pub struct Board([Cell; Check::ALL.len()]);

impl Board {
    /// Notes that nothing was found.
    pub fn clear(&self, check: Check, now: WallTime) {
        self.note(check, now, State::Good);
    }

    /// Notes what was found; returns whether the check had not failed before.
    pub fn report(&self, check: Check, now: WallTime, finding: &str) -> bool {
        if let Some(cell) = self.cell(check) {
            cell.findings.fetch_add(1, Ordering::Relaxed);
            *cell.finding.lock().unwrap_or_else(PoisonError::into_inner) = Some(finding.to_owned());
        }
        self.note(check, now, State::Failed) != State::Failed
    }

    /// How the last look at it ended.
    #[must_use]
    pub fn state(&self, check: Check) -> State {
        self.cell(check).map_or(State::Pending, |cell| state(cell.state.load(Ordering::Acquire)))
    }

    /// Whether no check has failed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        Check::ALL.into_iter().all(|check| self.state(check) != State::Failed)
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
            finding: cell.finding.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        };
        Check::ALL.into_iter().zip(&self.0).map(standing).collect()
    }

    fn note(&self, check: Check, now: WallTime, state_now: State) -> State {
        let Some(cell) = self.cell(check) else { return State::Pending };
        cell.looks.fetch_add(1, Ordering::Relaxed);
        cell.last.store(now.as_millis(), Ordering::Relaxed);
        state(cell.state.swap(state_now as u8, Ordering::AcqRel))
    }

    fn cell(&self, check: Check) -> Option<&Cell> {
        self.0.get(check as usize)
    }
}

const fn state(number: u8) -> State {
    match number {
        0 => State::Pending,
        1 => State::Good,
        _ => State::Failed,
    }
}
