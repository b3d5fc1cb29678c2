//! The log on standard error: what happened to the process, for the people who run it.
//!
//! Owns which lines are told, the line's form, and the queue from which one thread writes. Invariants: a line is one line of at most
//! `limits::LOG_LINE_MAX_BYTES`, whatever the text holds, and is formed without the heap; once the queue is [handed over](hand_over) nobody waits
//! for whoever reads the log: a line that finds no room is dropped and counted, and a line says how many that were; no other
//! process that shares standard error notices anything of this. Nothing here is given a secret.

mod filter;
mod line;
mod queue;
mod stderr;

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

pub use filter::{Filter, Level, Module};
pub use line::{Field, Form, Value, is_steering};
pub use queue::Written;
pub use stderr::{gauge, is_journal, is_terminal, may_be_full, open_anew, own};

use crate::clock::WallTime;
use filter::Thresholds;
use line::Line;
use queue::Ring;

/// Which lines are told.
static THRESHOLDS: Thresholds = Thresholds::usual();

/// The form of lines, as the number of a [`Form`].
static FORM: AtomicU8 = AtomicU8::new(Form::Human as u8);

/// Lines that the one thread has not written yet.
static QUEUE: Mutex<Ring> = Mutex::new(Ring::new());

/// Whether lines go by the queue.
static IS_QUEUED: AtomicBool = AtomicBool::new(false);

/// Wakes the thread that writes.
static WAKE: OnceLock<Wake> = OnceLock::new();

/// Lines that were told, by level.
static TOLD: [AtomicU64; Level::ALL.len()] = [const { AtomicU64::new(0) }; Level::ALL.len()];

/// Lines that nobody will read.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Wakes the thread that writes; called from any thread.
pub type Wake = Box<dyn Fn() + Send + Sync>;

/// Says how lines are told from now on, and which.
pub fn configure(form: Form, filter: &Filter) {
    FORM.store(form as u8, Ordering::Relaxed);
    THRESHOLDS.set(filter);
}

/// Whether a line of this level is told: to be asked before anything is worked out for it alone.
#[inline]
#[must_use]
pub fn is_told(level: Level, module: Module) -> bool {
    THRESHOLDS.lets(level, module)
}

/// Something failed.
pub fn error(module: Module, text: fmt::Arguments<'_>) {
    event(Level::Error, module, &[], text);
}

/// Something to look at; service goes on.
pub fn warn(module: Module, text: fmt::Arguments<'_>) {
    event(Level::Warn, module, &[], text);
}

/// What happens in a healthy run.
pub fn info(module: Module, text: fmt::Arguments<'_>) {
    event(Level::Info, module, &[], text);
}

/// Tells a line of this level, if it is wanted.
pub fn tell(level: Level, module: Module, text: fmt::Arguments<'_>) {
    event(level, module, &[], text);
}

/// The same with fields of its own.
#[inline(never)]
pub fn event(level: Level, module: Module, fields: &[Field<'_>], text: fmt::Arguments<'_>) {
    if !is_told(level, module) {
        return;
    }
    if let Some(told) = TOLD.get(level as usize) {
        told.fetch_add(1, Ordering::Relaxed);
    }
    let line = Line::of(WallTime::now(), form(), (level, module), fields, text);
    if !IS_QUEUED.load(Ordering::Acquire) {
        if tell_failed().is_err() || !stderr::write_patiently(line.as_bytes()) {
            queue().fail(1);
            count_dropped(1);
        }
        return;
    }
    let was_empty = {
        let mut ring = queue();
        let was_empty = ring.is_empty();
        append(&mut ring, line.as_bytes());
        was_empty
    };
    if was_empty && let Some(wake) = WAKE.get() {
        wake();
    }
}

/// The last line of a process that ends because it cannot go on: as `event`, but to a terminal it is what a command says.
pub fn fatal(module: Module, text: fmt::Arguments<'_>) {
    let line = Line::last(WallTime::now(), form(), module, text);
    let _ = flush(stderr::Patience::Bounded);
    stderr::give_up_line();
    let _ = stderr::write_patiently(line.as_bytes());
}

/// Shows text that is no line, behind all that was told; tells whether all of it left, for which it waits a bounded time. To be called by
/// the thread that calls [`write_out`]; it may hold the admin key, of which nothing is kept here.
#[must_use]
pub fn show(text: &str) -> bool {
    flush(stderr::patience()) && stderr::write_patiently(text.as_bytes())
}

/// The same, of a thread that must not wait: what others have told comes out first, as far as it can be written at once.
pub fn last_words(module: Module, text: fmt::Arguments<'_>) {
    let line = Line::last(WallTime::now(), form(), module, text);
    // Whoever holds the lock may be the one that calls.
    let ring = match QUEUE.try_lock() {
        Ok(ring) => Some(ring),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    };
    if let Some(mut ring) = ring {
        while let Some(chunk) = ring.peek() {
            match stderr::write(chunk.as_bytes()) {
                Ok(written) => ring.consume(written),
                Err(_) => break,
            }
        }
    }
    stderr::give_up_line();
    let _ = stderr::write(line.as_bytes());
}

/// From now on lines go by the queue: `wake` ends the sleep of the thread that calls [`write_out`], and `gauge` is asked whether there
/// is room.
pub fn hand_over(wake: Wake, gauge: Option<OwnedFd>) {
    stderr::lock(gauge);
    if WAKE.set(wake).is_ok() {
        IS_QUEUED.store(true, Ordering::Release);
    }
}

/// Writes what is in the queue, as far as that can be done without waiting. To be called by one thread.
pub fn write_out() -> Written {
    match tell_failed() {
        Err(stop) if stop.is_full() => return Written::Stuck,
        // The next line tries again.
        Err(_) => {
            count_dropped(queue().clear());
            return Written::Everything;
        }
        Ok(()) => {}
    }
    for _ in 0..queue::CHUNKS {
        let chunk = {
            let mut ring = queue();
            tell_loss(&mut ring);
            ring.peek()
        };
        let Some(chunk) = chunk else { return Written::Everything };
        match stderr::write_at_once(chunk.as_bytes()) {
            Ok(written) => queue().consume(written),
            Err(error) if error.is_full() => return Written::Stuck,
            // The disk is full, or nobody is there any more who could read it: the next line tries again.
            Err(_) => {
                stderr::give_up_line();
                count_dropped(queue().clear());
                return Written::Everything;
            }
        }
    }
    Written::Part
}

/// Writes what is in the queue, and waits a bounded time for whoever reads it: before the process ends.
pub fn finish() {
    let _ = flush(stderr::Patience::Bounded);
}

/// The same without waiting.
pub fn finish_at_once() {
    let _ = flush(stderr::Patience::None);
}

/// How many lines of this level were told.
#[must_use]
pub fn told(level: Level) -> u64 {
    TOLD.get(level as usize).map_or(0, |told| told.load(Ordering::Relaxed))
}

/// How many lines nobody will read: there was no room for them.
#[must_use]
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Tells whether nothing waits any more.
fn flush(patience: stderr::Patience) -> bool {
    let mut wait = stderr::Wait::begin(patience);
    while write_out() != Written::Everything {
        if !wait.for_room() {
            return false;
        }
    }
    true
}

fn form() -> Form {
    Form::from_number(FORM.load(Ordering::Relaxed))
}

/// A thread that panicked with the lock in hand has ended the process.
fn queue() -> MutexGuard<'static, Ring> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count_dropped(lines: u64) {
    DROPPED.fetch_add(lines, Ordering::Relaxed);
}

/// Puts `line` into the queue, behind what tells of those that were dropped before it.
fn append(ring: &mut Ring, line: &[u8]) {
    if ring.lost() > 0 {
        let note = loss(ring.lost());
        if !ring.has_room(note.as_bytes().len() + line.len()) {
            ring.lose();
            count_dropped(1);
            return;
        }
        ring.push(note.as_bytes());
        ring.forget_loss();
    }
    if !ring.push(line) {
        ring.lose();
        count_dropped(1);
    }
}

/// Tells of lines that were dropped, once there is room for that, though nobody has anything else to tell.
fn tell_loss(ring: &mut Ring) {
    if ring.is_empty() && ring.lost() > 0 {
        let note = loss(ring.lost());
        ring.push(note.as_bytes());
        ring.forget_loss();
    }
}

/// Tells of lines that could not be written, once one can be.
fn tell_failed() -> Result<(), stderr::Stop> {
    let failed = queue().failed();
    if failed == 0 {
        return Ok(());
    }
    stderr::write_whole(note(failed, "they could not be written").as_bytes())?;
    queue().forget_failed(failed);
    Ok(())
}

fn loss(lines: u64) -> Line {
    note(lines, "nobody read the log fast enough")
}

fn note(lines: u64, reason: &str) -> Line {
    let text = format_args!("{lines} lines were lost here: {reason}");
    let fields = [("dropped", Value::Number(lines))];
    Line::of(WallTime::now(), form(), (Level::Warn, Module::Log), &fields, text)
}
