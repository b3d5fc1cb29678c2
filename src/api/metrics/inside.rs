//! What the server does behind the requests, and how it is.
//!
//! Owns nothing. Invariant: of a state that is one of several, every one makes a line, and one of them is 1.

use core::fmt;

use crate::build_info;
use crate::clock::BootTime;
use crate::crypto::health;
use crate::integrity::{Board, State};
use crate::log::{self, Level};
use crate::metrics::families as family;
use crate::metrics::process::{AUDIT_ROOM, ENTROPY, STORE, USAGE};
use crate::metrics::{Exposition, Observed, Registry, Sum, Value};
use crate::model::{Health, Posture, StoreHealth};

/// The states of the store, by name.
const STORE_STATES: [&str; StoreHealth::ALL.len()] =
    ["good", "full", "failing", "poisoned", "away", "set_back", "stale"];

pub(super) fn audit(
    page: &mut Exposition<'_>,
    registry: &Registry,
    health: &Health,
    observed: &Observed,
) -> fmt::Result {
    page.head(&family::AUDIT_LINES)?;
    let lines = registry.streams(|stream| stream.file_lines.get());
    page.sample(&family::AUDIT_LINES, &["file"], lines)?;
    let lines = registry.streams(|stream| stream.stdout_lines.get());
    page.sample(&family::AUDIT_LINES, &["stdout"], lines)?;
    page.one(&family::AUDIT_FAILURES, registry.streams(|stream| stream.failures.get()))?;
    page.one(&family::AUDIT_GAPS, registry.streams(|stream| stream.gaps.get()))?;
    page.one(&family::AUDIT_UNSYNCED, registry.streams(|stream| stream.unsynced.get()))?;
    page.one(&family::AUDIT_FAILING, !health.audit)?;
    page.one(&family::AUDIT_SPACE_LOW, health.audit_low)?;
    page.one(&family::AUDIT_FREE, AUDIT_ROOM.get())?;
    page.one(&family::AUDIT_FILE, observed.audit_file_bytes)
}

pub(super) fn store(page: &mut Exposition<'_>, health: &Health) -> fmt::Result {
    page.one(&family::STORE_COMMITS, STORE.commits.get())?;
    page.head(&family::STORE_SYNC)?;
    let mut syncs = Sum::default();
    syncs.add(&STORE.syncs);
    page.histogram(&family::STORE_SYNC, &[], &syncs)?;
    page.one(&family::STORE_JOURNAL, STORE.journal_bytes.get())?;
    page.one(&family::STORE_LIVE, STORE.live_bytes.get())?;
    page.one(&family::STORE_COMPACTIONS, STORE.compactions.get())?;
    page.head(&family::STORE_STATE)?;
    for (state, name) in StoreHealth::ALL.into_iter().zip(STORE_STATES) {
        page.sample(&family::STORE_STATE, &[name], health.store == state)?;
    }
    page.head(&family::STORE_LAG)?;
    let mut lags = Sum::default();
    lags.add(&STORE.lags);
    page.histogram(&family::STORE_LAG, &[], &lags)?;
    let age_seconds = match STORE.fresh_nanos.get() {
        0 => 0,
        fresh => BootTime::now().as_nanos().saturating_sub(fresh) / 1_000_000_000,
    };
    page.one(&family::STORE_AGE, age_seconds)?;
    page.one(&family::STORE_MEMBERS, STORE.members.get().max(1))
}

pub(super) fn entropy(page: &mut Exposition<'_>, health: &Health) -> fmt::Result {
    page.one(&family::ENTROPY_RESEEDS, ENTROPY.reseeds.get())?;
    page.one(&family::ENTROPY_FAILURES, ENTROPY.failures.get())?;
    page.one(&family::ENTROPY_REFUSED, health::refused_seeds())?;
    page.one(&family::ENTROPY_FAILING, !health.entropy)
}

/// What became of the lines of the log.
pub(super) fn log(page: &mut Exposition<'_>) -> fmt::Result {
    page.head(&family::LOG_LINES)?;
    for level in Level::ALL {
        page.sample(&family::LOG_LINES, &[level.name()], log::told(level))?;
    }
    page.one(&family::LOG_DROPPED, log::dropped())
}

pub(super) fn integrity(page: &mut Exposition<'_>, board: &Board) -> fmt::Result {
    let standings = board.standings();
    page.head(&family::INTEGRITY_STATE)?;
    for standing in &standings {
        for state in [State::Pending, State::Good, State::Failed] {
            let labels = [standing.check.name(), state.name()];
            page.sample(&family::INTEGRITY_STATE, &labels, standing.state == state)?;
        }
    }
    page.head(&family::INTEGRITY_FINDINGS)?;
    for standing in &standings {
        page.sample(&family::INTEGRITY_FINDINGS, &[standing.check.name()], standing.findings)?;
    }
    page.head(&family::INTEGRITY_LOOKS)?;
    for standing in &standings {
        page.sample(&family::INTEGRITY_LOOKS, &[standing.check.name()], standing.looks)?;
    }
    page.head(&family::INTEGRITY_LAST)?;
    for standing in standings.iter().filter(|standing| standing.looks > 0) {
        page.sample(&family::INTEGRITY_LAST, &[standing.check.name()], standing.last.as_secs())?;
    }
    Ok(())
}

pub(super) fn sandbox(page: &mut Exposition<'_>, posture: &Posture) -> fmt::Result {
    page.head(&family::SANDBOX)?;
    for (step, outcome) in &posture.steps {
        page.sample(&family::SANDBOX, &[step.name(), outcome.name()], true)?;
    }
    Ok(())
}

pub(super) fn server(page: &mut Exposition<'_>, health: &Health, observed: &Observed) -> fmt::Result {
    page.one(&family::DRAINING, health.draining)?;
    page.one(&family::WORKERS, observed.workers)?;
    page.one(&family::TURNS, observed.turns)?;
    page.head(&family::BUILD)?;
    let labels = [build_info::VERSION, build_info::COMMIT, build_info::TARGET, build_info::FEATURES];
    page.sample(&family::BUILD, &labels, true)
}

pub(super) fn process(page: &mut Exposition<'_>) -> fmt::Result {
    page.one(&family::PROCESS_CPU, Value::Micros(USAGE.cpu_micros.get()))?;
    page.one(&family::PROCESS_RESIDENT, USAGE.resident_bytes.get())?;
    page.one(&family::PROCESS_VIRTUAL, USAGE.virtual_bytes.get())?;
    page.one(&family::PROCESS_FDS, USAGE.descriptors.get())?;
    page.one(&family::PROCESS_MAX_FDS, USAGE.descriptors_most.get())?;
    page.one(&family::PROCESS_THREADS, USAGE.threads.get())?;
    page.one(&family::PROCESS_START, Value::Micros(USAGE.started_micros.get()))
}
