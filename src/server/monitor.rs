//! The process looks at itself: whether it still is what it was when it was locked in.
//!
//! Owns the order of a round and what is done about a finding. It runs on the main thread, with its ticks, in slices of
//! [`MONITOR_SLICE_MAX_MILLIS`], so that a signal waits no longer than that; the end of the journal is looked at by the
//! keeper, and every seed is tested by the generator that draws it. Invariants: nothing is opened; a check that cannot be
//! made has failed; a finding is told once when it comes and once when it is gone, in the log and in the audit log.
//!
//! A round: the kernel's view (privileges, tracer) -> mappings -> descriptors -> the end of the journal -> seeds -> known
//! answers -> the program's file. From the beginning of one to that of the next it is the interval, give or take a quarter, drawn
//! anew each time, so that nobody who comes and goes knows when.

mod tail;

use core::time::Duration;
use std::sync::Arc;

use self::tail::Asked;
use crate::audit::Office;
use crate::clock::{Moment, WallTime};
use crate::config::{IntegrityAction, IntegrityPolicy};
use crate::crypto::hash::Sha256Pieces;
use crate::crypto::{health, selftest};
use crate::integrity::{Board, CapabilityView, Check, KernelView, State};
use crate::keeper::Keeper;
use crate::limits::{
    CLOCK_TICKS_PER_SECOND_COUNT, FD_CONNECTION_FIRST_NUMBER, FD_JOURNAL_NUMBER, METRICS_PROCESS_MILLIS,
    MONITOR_DESCRIPTORS_COUNT, MONITOR_PAUSE_MILLIS, MONITOR_PIECE_BYTES, MONITOR_SLICE_MAX_MILLIS,
    MONITOR_SUSPECT_MILLIS, MONITOR_SUSPECTS_MAX_COUNT,
};
use crate::log::{self, Module};
use crate::metrics::process::USAGE;
use crate::sandbox::census::{self, Verdict};
use crate::sandbox::probe::Kind;
use crate::sandbox::verify::{Status, Witness};
use crate::sandbox::watch::{Baseline, Watch};
use crate::sandbox::{Failure, probe};

/// What a round does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Kernel,
    Mappings,
    /// From this number on.
    Descriptors(i32),
    /// Numbers at which something stood that may have been on its way to another one.
    Suspects,
    Tail,
    Seeds,
    /// This part of the known answers.
    Answers(usize),
    /// From this byte on.
    Program(u64),
}

/// What the monitor works with.
#[derive(Debug)]
pub(super) struct Means<'a> {
    pub(super) witness: &'a Witness,
    pub(super) watch: &'a Watch,
    pub(super) board: Arc<Board>,
    pub(super) office: Arc<Office>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) policy: IntegrityPolicy,
    /// Whether the store is elsewhere.
    pub(super) shared: bool,
    /// Random, so that the rounds cannot be foreseen.
    pub(super) jitter: u64,
}

/// The main thread's looks at the process.
#[derive(Debug)]
pub(super) struct Monitor<'a> {
    means: Means<'a>,
    baseline: Baseline,
    stage: Option<Stage>,
    /// When the round began.
    begun: Moment,
    /// When the next round begins, or this one goes on.
    due: Moment,
    /// Beyond the last descriptor that the process can have.
    descriptors_end: i32,
    suspects: Vec<i32>,
    program: Sha256Pieces,
    seeds: Seeds,
    tail: Asked,
    must_end: bool,
    /// Descriptors that were open, as far as they are counted in this round.
    open: u64,
    usage_due: Moment,
}

impl<'a> Monitor<'a> {
    /// Notes what is true now, and looks at everything that can be looked at before anything is served. To be made by the
    /// main thread, once every thread is locked in.
    ///
    /// # Errors
    /// What the lock-down should have left otherwise, or cannot be read.
    pub(super) fn begin(means: Means<'a>, now: Moment) -> Result<Self, Failure> {
        let baseline = means.watch.baseline(means.witness.status()?)?;
        let mut monitor = Self {
            means,
            baseline,
            stage: Some(Stage::Program(0)),
            begun: now,
            due: now,
            descriptors_end: 0,
            suspects: Vec::with_capacity(MONITOR_SUSPECTS_MAX_COUNT),
            program: Sha256Pieces::default(),
            seeds: Seeds::default(),
            tail: Asked::default(),
            must_end: false,
            open: 0,
            usage_due: now,
        };
        if !monitor.means.watch.has_program() {
            log::warn(
                Module::Integrity,
                format_args!("the program's file cannot be read, and is not looked at"),
            );
        }
        while monitor.stage.is_some() {
            monitor.step(now);
        }
        monitor.note_usage(now);
        monitor.stage = Some(Stage::Kernel);
        while !matches!(monitor.stage, None | Some(Stage::Suspects | Stage::Program(_))) {
            monitor.step(now);
        }
        if monitor.stage == Some(Stage::Program(0)) {
            monitor.rest();
        } else {
            monitor.due = now.plus_millis(MONITOR_SUSPECT_MILLIS);
        }
        Ok(monitor)
    }

    /// Whether something was found and the process is to end for it.
    pub(super) const fn must_end(&self) -> bool {
        self.must_end
    }

    /// For how long it has nothing to do, as of now.
    pub(super) fn patience(&self, now: Moment) -> Duration {
        now.until(self.due.min(self.usage_due))
    }

    /// Goes on with a round, or begins one, if that is due: for a few milliseconds.
    pub(super) fn tick(&mut self) {
        let begun = Moment::now();
        if self.usage_due <= begun {
            self.note_usage(begun);
        }
        if let Some(found) = self.tail.take(&self.means.keeper, begun) {
            self.settle(Check::Journal, found);
        }
        if begun < self.due {
            return;
        }
        if self.stage.is_none() {
            (self.stage, self.begun) = (Some(Stage::Kernel), begun);
        }
        let mut now = begun;
        while self.stage.is_some() {
            self.step(now);
            now = Moment::now();
            let pause = match self.stage {
                // What is on its way has arrived by then.
                Some(Stage::Suspects) => MONITOR_SUSPECT_MILLIS,
                Some(_) if now.nanos_since(begun) >= MONITOR_SLICE_MAX_MILLIS * 1_000_000 => {
                    MONITOR_PAUSE_MILLIS
                }
                _ => continue,
            };
            self.due = now.plus_millis(pause);
            return;
        }
    }

    /// Takes down what the process uses, for metrics.
    fn note_usage(&mut self, now: Moment) {
        self.usage_due = now.plus_millis(METRICS_PROCESS_MILLIS);
        let Some(usage) = self.means.witness.usage() else { return };
        USAGE.cpu_micros.set(usage.ticks.saturating_mul(1_000_000 / CLOCK_TICKS_PER_SECOND_COUNT));
        USAGE.threads.set(usage.threads);
        USAGE.virtual_bytes.set(usage.virtual_bytes);
        let page = u64::try_from(crate::secret::page_bytes()).unwrap_or_default();
        USAGE.resident_bytes.set(usage.resident_pages.saturating_mul(page));
    }

    fn step(&mut self, now: Moment) {
        let Some(stage) = self.stage else { return };
        let next = match stage {
            Stage::Kernel => {
                self.look_at_kernel();
                Stage::Mappings
            }
            Stage::Mappings => {
                let found = self.means.watch.confirm_mappings(&self.baseline);
                self.settle(Check::Mappings, found.map_err(text));
                Stage::Descriptors(FD_JOURNAL_NUMBER)
            }
            Stage::Descriptors(from) => self.count_descriptors(from),
            Stage::Suspects => self.look_again(),
            Stage::Tail => {
                self.tail.ask(&self.means.keeper, now);
                Stage::Seeds
            }
            Stage::Seeds => {
                self.look_at_seeds();
                Stage::Answers(0)
            }
            Stage::Answers(part) => self.check_answers(part),
            Stage::Program(offset) => match self.hash_program(offset) {
                Some(next) => Stage::Program(next),
                None => return self.rest(),
            },
        };
        self.stage = Some(next);
    }

    /// The round is over. The next one begins so long after this one began, however long it took.
    fn rest(&mut self) {
        self.stage = None;
        // SplitMix64 (Steele, Lea, Flood 2014): nothing secret depends on it.
        self.means.jitter = self.means.jitter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.means.jitter ^ (self.means.jitter >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.due = self.begun.plus_millis(pause_millis(self.means.policy.interval_seconds, z ^ (z >> 27)));
    }

    /// Notes how a look ended, and tells what is news.
    fn settle(&mut self, check: Check, found: Result<(), String>) {
        let (board, office, now) = (&self.means.board, &self.means.office, WallTime::now());
        match found {
            Ok(()) if board.clear(check, now) => {
                log::info(Module::Integrity, format_args!("{}: nothing is found any more", check.name()));
                office.note_finding(check, None);
            }
            Ok(()) => {}
            Err(text) => {
                if board.report(check, now, &text) {
                    log::error(Module::Integrity, format_args!("{}: {text}", check.name()));
                    office.note_finding(check, Some(&text));
                }
                self.must_end |= self.means.policy.action == IntegrityAction::Stop;
            }
        }
    }

    /// Privileges and tracer, which stand in the same files.
    fn look_at_kernel(&mut self) {
        match self.means.witness.status() {
            Ok(status) => {
                self.descriptors_end = i32::try_from(status.descriptors).unwrap_or(i32::MAX);
                let privileges = self.means.watch.confirm_privileges(&self.baseline, &status);
                let tracer = self.means.watch.tracer(&status);
                self.means.board.store_kernel(view(&status, WallTime::now()));
                self.settle(Check::Privileges, privileges.map_err(text));
                self.settle(Check::Tracer, tracer.map_err(text).and_then(traced));
            }
            Err(failure) => {
                let unread = text(failure);
                self.settle(Check::Privileges, Err(unread.clone()));
                self.settle(Check::Tracer, Err(unread));
            }
        }
    }

    fn count_descriptors(&mut self, from: i32) -> Stage {
        let end = self.descriptors_end.max(FD_CONNECTION_FIRST_NUMBER);
        let until = end.min(from.saturating_add(MONITOR_DESCRIPTORS_COUNT));
        if from == FD_JOURNAL_NUMBER {
            // The three streams are not looked at.
            self.open = FD_JOURNAL_NUMBER.unsigned_abs().into();
        }
        for number in from..until {
            let kind = probe::kind_of(number);
            // Above the bands nothing is open that cannot be read, and below them nothing is free.
            self.open += u64::from(kind != Kind::Unreadable || number < FD_CONNECTION_FIRST_NUMBER);
            // What is wrong for good is found again at the second look, and hides nothing that comes after it.
            let is_right = census::judge(number, kind, self.means.shared) == Verdict::Right;
            if !is_right && self.suspects.len() < MONITOR_SUSPECTS_MAX_COUNT {
                self.suspects.push(number);
            }
        }
        if until < end {
            return Stage::Descriptors(until);
        }
        USAGE.descriptors.set(self.open);
        if !self.suspects.is_empty() {
            return Stage::Suspects;
        }
        self.settle(Check::Descriptors, Ok(()));
        self.after_descriptors()
    }

    /// Looks at the numbers again at which something stood that does not belong there.
    fn look_again(&mut self) -> Stage {
        let shared = self.means.shared;
        let judge = |number: &i32| census::judge(*number, probe::kind_of(*number), shared);
        let still = self.suspects.iter().find(|number| judge(number) != Verdict::Right);
        let found = match still {
            Some(number) => Err(format!("descriptor {number} is {}", probe::kind_of(*number).name())),
            None => Ok(()),
        };
        self.settle(Check::Descriptors, found);
        self.after_descriptors()
    }

    fn after_descriptors(&mut self) -> Stage {
        self.suspects.clear();
        Stage::Tail
    }

    fn look_at_seeds(&mut self) {
        let has_failed = self.means.board.state(Check::Entropy) == State::Failed;
        let found = self.seeds.judge(health::refused_seeds(), health::admitted_seeds(), has_failed);
        self.settle(Check::Entropy, found);
    }

    fn check_answers(&mut self, part: usize) -> Stage {
        match selftest::run_part(part) {
            Ok(()) if part + 1 < selftest::PARTS => return Stage::Answers(part + 1),
            found => self.settle(Check::KnownAnswers, found.map_err(|failure| failure.to_string())),
        }
        Stage::Program(0)
    }

    /// Hashes a piece of the program's file from `offset` on; returns from where on it goes on, if it does.
    fn hash_program(&mut self, offset: u64) -> Option<u64> {
        if !self.means.watch.has_program() {
            return None;
        }
        let mut piece = [0; MONITOR_PIECE_BYTES];
        match self.means.watch.read_program(offset, &mut piece) {
            Ok(0) => {
                let sum = core::mem::take(&mut self.program).finish();
                // The first one is what the others are compared with.
                self.means.board.store_binary(sum);
                let found = if self.means.board.binary() == Some(sum) {
                    Ok(())
                } else {
                    Err("the program's file is not the one that was started".to_owned())
                };
                self.settle(Check::Binary, found);
                None
            }
            Ok(read) => {
                self.program.update(piece.get(..read).unwrap_or_default());
                Some(offset.saturating_add(read as u64))
            }
            Err(failure) => {
                self.program = Sha256Pieces::default();
                self.settle(Check::Binary, Err(text(failure)));
                None
            }
        }
    }
}

/// How many seeds there were at the last look.
#[derive(Debug, Default)]
struct Seeds {
    refused: u64,
    admitted: u64,
}

impl Seeds {
    /// What there is to say of the seeds since the last look, if that has `failed` or not: a source that fails is sound again when
    /// it has given a seed, and not when nobody asked it.
    fn judge(&mut self, refused: u64, admitted: u64, failed: bool) -> Result<(), String> {
        let before = core::mem::replace(self, Self { refused, admitted });
        match refused.saturating_sub(before.refused) {
            0 if failed && admitted <= before.admitted => {
                Err("no seed was drawn since one has failed its health tests".to_owned())
            }
            0 => Ok(()),
            news => Err(format!("{news} seeds of the kernel have failed their health tests")),
        }
    }
}

/// How long it is from one round to the next: the interval, give or take a quarter.
fn pause_millis(interval_seconds: u64, random: u64) -> u64 {
    let interval = interval_seconds.saturating_mul(1_000);
    interval - interval / 4 + random % (interval / 2 + 1)
}

/// A failure as a finding tells it: what is wrong, and no step of the start.
fn text(failure: Failure) -> String {
    match failure {
        Failure::Refused { cause, .. } => cause,
        Failure::Unconfirmed { what, expected, found } => format!("{what}: {found} instead of {expected}"),
        missing @ Failure::Missing { .. } => missing.to_string(),
    }
}

fn traced(tracer: u64) -> Result<(), String> {
    match tracer {
        0 => Ok(()),
        tracer => Err(format!("the process {tracer} traces this one")),
    }
}

fn view(status: &Status, at: WallTime) -> KernelView {
    let [inheritable, permitted, effective, ambient] = status.capabilities;
    KernelView {
        at,
        uid: status.uid,
        gid: status.gid,
        groups: status.groups.clone(),
        capabilities: CapabilityView {
            inheritable,
            permitted,
            effective,
            bounding: status.bounding,
            ambient,
        },
        no_new_privs: status.no_new_privs,
        seccomp: status.seccomp,
        threads: status.threads,
        tracer: status.tracer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_the_interval_give_or_take_a_quarter() {
        for random in [0, 1, 29_999, 30_000, 30_001, u64::MAX] {
            let pause = pause_millis(60, random);
            assert!((45_000..=75_000).contains(&pause), "{pause}");
        }
        assert_eq!((pause_millis(60, 0), pause_millis(60, 30_000)), (45_000, 75_000));
        assert!(pause_millis(1, 0) >= 750);
    }

    #[test]
    fn a_source_that_failed_is_sound_again_when_it_has_given_a_seed_and_not_before() {
        let mut seeds = Seeds::default();
        assert_eq!(seeds.judge(0, 40, false), Ok(()));
        assert!(seeds.judge(3, 40, false).unwrap_err().starts_with("3 seeds"));
        for _ in 0..3 {
            assert!(seeds.judge(3, 40, true).unwrap_err().starts_with("no seed"), "nobody asked it");
        }
        assert!(seeds.judge(4, 41, true).unwrap_err().starts_with("1 seeds"), "one of two");
        assert_eq!(seeds.judge(4, 42, true), Ok(()));
        assert_eq!(seeds.judge(4, 42, false), Ok(()), "no seed is no news");
    }

    #[test]
    fn a_finding_says_what_is_wrong_and_instead_of_what() {
        let what = Failure::Unconfirmed { what: "seccomp mode", expected: "2".into(), found: "0".into() };
        assert_eq!(text(what), "seccomp mode: 0 instead of 2");
        let refused = Failure::Refused { step: "mappings", cause: "memory is executable".into() };
        assert_eq!(text(refused), "memory is executable");
    }

    #[test]
    fn a_tracer_is_named_by_its_number() {
        assert_eq!(traced(0), Ok(()));
        assert!(traced(77).unwrap_err().contains("77"));
    }
}
