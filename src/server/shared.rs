//! What the threads of the server know of one another.
//!
//! Owns the phase, the health flags, what the lock-down reached, what the process finds when it looks at itself, and the
//! gate. Invariants: the phase only moves forward; a worker serves nothing
//! before the gate is opened, and the gate is opened only after every thread was seen to be locked in.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use crate::clock::Moment;
use crate::integrity::Board;
use crate::model::{Health, Mode, Posture, StoreHealth};
use crate::reactor::mailbox::Mailbox;
use crate::reactor::run::Phase;
use crate::server::notify::DONE;

/// The state that all threads share.
#[derive(Debug)]
pub(super) struct Shared {
    phase: AtomicU8,
    ready: OnceLock<Moment>,
    /// For each worker, whether its audit stream takes lines and its generator has seeds.
    audit: Vec<AtomicBool>,
    entropy: Vec<AtomicBool>,
    /// Whether the file system of the audit files has little room left.
    audit_low: AtomicBool,
    mailboxes: OnceLock<Vec<Arc<Mailbox>>>,
    /// For each worker, how many turns its loop has taken; [`DONE`] once it has left.
    progress: Vec<AtomicU64>,
    /// Workers that have left their loop.
    ended: AtomicUsize,
    /// The newest wish for a reload that was granted.
    reloaded: AtomicU64,
    /// Ends the main thread's sleep.
    main: OnceLock<Arc<Mailbox>>,
    /// What the lock-down reached, once every thread is locked in.
    posture: OnceLock<Posture>,
    board: Arc<Board>,
    /// Where threads wait that have called whatever the filter of the process does not allow.
    porch: Gate,
    gate: Gate,
}

/// Before the lock-down.
static NOT_LOCKED_DOWN: Posture =
    Posture { mode: Mode::Auto, allowed_missing: Vec::new(), steps: Vec::new(), landlock_abi: 0 };

/// Where threads wait until all are ready.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct GateState {
    arrived: usize,
    failed: Option<String>,
    open: bool,
}

impl Shared {
    pub(super) fn new(workers: usize) -> Arc<Self> {
        let good = || (0..workers).map(|_| AtomicBool::new(true)).collect();
        Arc::new(Self {
            phase: AtomicU8::new(0),
            ready: OnceLock::new(),
            audit: good(),
            entropy: good(),
            audit_low: AtomicBool::new(false),
            mailboxes: OnceLock::new(),
            progress: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            ended: AtomicUsize::new(0),
            reloaded: AtomicU64::new(0),
            main: OnceLock::new(),
            posture: OnceLock::new(),
            board: Arc::default(),
            porch: Gate::default(),
            gate: Gate::default(),
        })
    }

    /// Tells how every thread's sleep is ended. Once, before any thread is started.
    pub(super) fn connect(&self, workers: Vec<Arc<Mailbox>>, main: Arc<Mailbox>) {
        let _ = self.mailboxes.set(workers);
        let _ = self.main.set(main);
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Moves every worker to `phase`.
    pub(super) fn enter(&self, phase: Phase) {
        let number = match phase {
            Phase::Serving => 0,
            Phase::Draining => 1,
            Phase::Stopping => 2,
        };
        self.phase.fetch_max(number, Ordering::AcqRel);
        self.nudge_workers();
    }

    /// Has every worker's loop go round once.
    pub(super) fn nudge_workers(&self) {
        self.mailboxes.get().into_iter().flatten().for_each(|mailbox| mailbox.nudge());
    }

    /// Has the main thread look round once.
    #[cfg(feature = "pentest")]
    pub(super) fn nudge_main(&self) {
        if let Some(main) = self.main.get() {
            main.nudge();
        }
    }

    /// Notes that a worker has left its loop.
    pub(super) fn worker_ended(&self, worker: usize) {
        if let Some(turns) = self.progress.get(worker) {
            turns.store(DONE, Ordering::Relaxed);
        }
        self.ended.fetch_add(1, Ordering::AcqRel);
        if let Some(main) = self.main.get() {
            main.nudge();
        }
    }

    /// Notes that the reload of this wish is over: in force, refused, or nothing had changed.
    pub(super) fn note_reloaded(&self, wish: u64) {
        self.reloaded.fetch_max(wish, Ordering::AcqRel);
        if let Some(main) = self.main.get() {
            main.nudge();
        }
    }

    /// The newest wish for a reload that was granted.
    pub(super) fn reloaded(&self) -> u64 {
        self.reloaded.load(Ordering::Acquire)
    }

    /// Notes that a worker's loop has gone round.
    pub(super) fn note_turn(&self, worker: usize) {
        if let Some(turns) = self.progress.get(worker) {
            turns.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many workers there are.
    pub(super) fn workers(&self) -> usize {
        self.progress.len()
    }

    /// How far each worker has come.
    pub(super) fn progress(&self) -> Vec<u64> {
        self.progress.iter().map(|turns| turns.load(Ordering::Relaxed)).collect()
    }

    pub(super) fn all_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire) >= self.audit.len()
    }

    pub(super) fn set_audit(&self, worker: usize, good: bool) {
        set(&self.audit, worker, good);
    }

    pub(super) fn set_audit_low(&self, low: bool) {
        self.audit_low.store(low, Ordering::Relaxed);
    }

    pub(super) fn set_entropy(&self, worker: usize, good: bool) {
        set(&self.entropy, worker, good);
    }

    /// What health replies tell.
    pub(super) fn health(&self, now: Moment, store: StoreHealth) -> Health {
        let all = |flags: &[AtomicBool]| flags.iter().all(|flag| flag.load(Ordering::Relaxed));
        Health {
            uptime_seconds: self.ready.get().map_or(0, |ready| now.nanos_since(*ready) / 1_000_000_000),
            store,
            audit: all(&self.audit),
            audit_low: self.audit_low.load(Ordering::Relaxed),
            entropy: all(&self.entropy),
            // A thread that is not locked in ends the start: whoever can ask is answered by locked-in threads.
            sandbox: self.ready.get().is_some(),
            integrity: self.board.failed(),
            draining: self.phase() != Phase::Serving,
        }
    }

    /// Notes what the lock-down reached. Once, when every thread is locked in and before the gate is opened.
    pub(super) fn settle(&self, posture: Posture) {
        let _ = self.posture.set(posture);
    }

    /// What the lock-down reached.
    pub(super) fn posture(&self) -> &Posture {
        self.posture.get().unwrap_or(&NOT_LOCKED_DOWN)
    }

    /// What the process finds when it looks at itself.
    pub(super) const fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// A thread has done, or failed to do, what the filter of the process does not allow; it waits until that is entered for it. A
    /// failure it tells when it arrives.
    pub(super) fn await_filter(&self) {
        self.porch.arrive(Ok(()));
    }

    /// Waits until so many wait for the filter of the process.
    pub(super) fn await_prepared(&self, threads: usize) {
        let _ = self.porch.await_arrivals(threads);
    }

    /// Lets every thread enter its own filter.
    pub(super) fn open_porch(&self) {
        self.porch.open();
    }

    /// A thread is locked in, or failed to be; it waits until the gate opens.
    pub(super) fn arrive(&self, locked: Result<(), String>) {
        self.gate.arrive(locked);
    }

    /// Waits until `threads` have arrived.
    pub(super) fn await_arrivals(&self, threads: usize) -> Result<(), String> {
        self.gate.await_arrivals(threads)
    }

    /// Lets every thread go on.
    pub(super) fn open_gate(&self) {
        let _ = self.ready.set(Moment::now());
        self.gate.open();
    }
}

impl Gate {
    fn arrive(&self, result: Result<(), String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.arrived += 1;
        if let Err(reason) = result {
            state.failed = Some(reason);
        }
        self.changed.notify_all();
        while !state.open {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn await_arrivals(&self, threads: usize) -> Result<(), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.arrived < threads {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.failed.take().map_or(Ok(()), Err)
    }

    fn open(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).open = true;
        self.changed.notify_all();
    }
}

fn set(flags: &[AtomicBool], index: usize, good: bool) {
    if let Some(flag) = flags.get(index) {
        flag.store(good, Ordering::Relaxed);
    }
}
