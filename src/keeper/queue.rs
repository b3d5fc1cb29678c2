//! Where workers leave changes, and where they find the results.
//!
//! Owns [`Keeper`], which all threads share. Invariants: the queue is bounded; nobody waits for the keeper's thread with
//! a lock in hand, and the keeper's thread writes nothing with a lock in hand; a tick that was not taken yet is not
//! repeated.

use core::fmt;
use core::future::Future;
use core::mem;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use core::task::{Context, Poll, Waker};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::api::change::{Change, ChangeError, Outcome};
use crate::keeper::checkpoints::Removal;
use crate::keeper::group::Asked;
use crate::keeper::ledger::{Ledger, Now};
use crate::keeper::state::State;
use crate::limits::CHANGES_WAITING_MAX_COUNT;
use crate::model::{RequestId, StoreHealth};
use crate::publication::{Epoch, Publication};
use crate::store::{Head, Tail};

/// What became of a change.
#[derive(Clone, Debug)]
pub struct Committed {
    /// What it led to, or why it was refused.
    pub outcome: Result<Outcome, ChangeError>,
    /// Where the store stands with it; nothing if there was nothing to write.
    pub head: Option<Head>,
    /// It is to be answered only when nobody acts on a snapshot older than this one.
    pub settle: Option<Epoch>,
}

impl Committed {
    /// A change that was refused.
    #[must_use]
    pub const fn refused(error: ChangeError) -> Self {
        Self { outcome: Err(error), head: None, settle: None }
    }
}

/// Called when the store has taken what is to be removed, or has not.
pub type Noted = Box<dyn FnOnce(bool) + Send>;

/// Called when the last figures are written.
pub type Done = Box<dyn FnOnce() + Send>;

/// What the keeper writes down at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// Everything that is only in memory.
    Everything,
    /// What the process found in itself, in the audit log, and from then on nothing: a process that is not trusted leaves
    /// the store as it is.
    Findings,
}

/// Called with what stands at the end of the store.
pub type Looked = Box<dyn FnOnce(Tail) + Send>;

/// The way to the keeper's thread.
pub struct Keeper {
    queue: Mutex<Queue>,
    arrived: Condvar,
    publication: Arc<Publication<State>>,
    store: AtomicU8,
    /// Whether the way to the store is gone for good.
    cut: AtomicBool,
    /// What was found at the end of the store before a change was written there, as long as nobody asked.
    found: Mutex<Option<Tail>>,
    /// How often the keeper has done all that waited.
    rounds: AtomicU64,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Job>,
    news: bool,
    tick: bool,
    removals: Vec<(Vec<Removal>, Noted)>,
    look: Option<Looked>,
    flush: Option<(Last, Done)>,
}

/// What the keeper's thread takes at a time.
pub(super) struct Work {
    pub(super) jobs: Vec<Job>,
    pub(super) news: bool,
    pub(super) tick: bool,
    pub(super) removals: Vec<(Vec<Removal>, Noted)>,
    pub(super) look: Option<Looked>,
    pub(super) flush: Option<(Last, Done)>,
}

/// A change and where its result goes.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) asked: Asked,
    reply: Arc<Reply>,
}

/// Where a worker finds the result.
#[derive(Debug, Default)]
struct Reply(Mutex<ReplyState>);

#[derive(Debug, Default)]
struct ReplyState {
    committed: Option<Committed>,
    waker: Option<Waker>,
}

/// A change on its way; awaits its result.
#[derive(Debug)]
pub struct Pending(Arc<Reply>);

impl Keeper {
    /// The way to the keeper of what `publication` holds.
    #[must_use]
    pub fn new(publication: Arc<Publication<State>>) -> Arc<Self> {
        let store = AtomicU8::new(StoreHealth::Good as u8);
        let rounds = AtomicU64::new(0);
        let (found, cut) = (Mutex::default(), AtomicBool::new(false));
        let (queue, arrived) = (Mutex::default(), Condvar::new());
        Arc::new(Self { queue, arrived, publication, store, cut, found, rounds })
    }

    /// Leaves a change for the keeper's thread. The store remembers that `request` caused it.
    ///
    /// # Errors
    /// [`ChangeError::Unavailable`] if too many are waiting.
    pub fn submit(&self, change: Change, request: &RequestId) -> Result<Pending, ChangeError> {
        let reply = Arc::new(Reply::default());
        let asked = Asked { change, origin: request.to_bytes() };
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.jobs.len() >= CHANGES_WAITING_MAX_COUNT {
            return Err(ChangeError::Unavailable);
        }
        queue.jobs.push(Job { asked, reply: Arc::clone(&reply) });
        drop(queue);
        self.arrived.notify_one();
        Ok(Pending(reply))
    }

    /// Has the keeper's thread look at the time.
    pub fn tick(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).tick = true;
        self.arrived.notify_one();
    }

    /// Has the keeper's thread take in what others have written.
    pub fn tell_news(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).news = true;
        self.arrived.notify_one();
    }

    /// Has the keeper's thread note in the store that parts of audit streams are about to be removed, and then call `noted`,
    /// with whether they may be.
    pub fn note_removed(&self, removals: Vec<Removal>, noted: Noted) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.removals.push((removals, noted));
        drop(queue);
        self.arrived.notify_one();
    }

    /// Has the keeper's thread look at the end of the store again, and then call `looked` with what it found.
    pub fn look_at_tail(&self, looked: Looked) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).look = Some(looked);
        self.arrived.notify_one();
    }

    /// Has the keeper's thread write down `last`, as far as it has not written it down yet, and then call `done`.
    pub fn flush(&self, last: Last, done: Done) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).flush = Some((last, done));
        self.arrived.notify_one();
    }

    /// What the keeper found at the end of the store, without being asked, since this was called last.
    #[must_use]
    pub fn take_found(&self) -> Option<Tail> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How the store is.
    #[must_use]
    pub fn store(&self) -> StoreHealth {
        let number = self.store.load(Ordering::Relaxed);
        StoreHealth::ALL.into_iter().find(|health| *health as u8 == number).unwrap_or_default()
    }

    /// Whether the way to the store is gone for good, so that only another start mends it.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Whether nobody acts on a snapshot older than that of `epoch` any more.
    #[must_use]
    pub fn settled(&self, epoch: Epoch) -> bool {
        self.publication.settled(epoch)
    }

    /// Serves for ever: the keeper's thread.
    pub fn run(&self, ledger: &mut Ledger) -> ! {
        loop {
            let work = self.next();
            #[cfg(feature = "pentest")]
            crate::pentest::serve(crate::sandbox::seccomp::Role::Keeper);
            self.carry_out(work, ledger, Now::read());
        }
    }

    pub(super) fn carry_out(&self, work: Work, ledger: &mut Ledger, now: Now) {
        let Work { jobs, news, tick, removals, look, flush } = work;
        if matches!(flush, Some((Last::Findings, _))) {
            ledger.store.leave();
        }
        // Before anything is written behind what it finds.
        let looked = look.map(|looked| (looked, ledger.store.verify_tail()));
        if news {
            ledger.take_news();
        }
        ledger.commit_all(jobs, now);
        for (removals, noted) in removals {
            noted(ledger.note_removed(&removals, now));
        }
        if tick {
            ledger.tick(now);
        }
        ledger.maintain(now);
        match flush {
            Some((Last::Everything, done)) => {
                ledger.flush(now);
                done();
            }
            Some((Last::Findings, done)) => {
                ledger.tell_findings(now);
                // Nobody asks how the store is any more.
                return done();
            }
            None => {}
        }
        self.store.store(ledger.health() as u8, Ordering::Relaxed);
        self.cut.store(ledger.store.is_cut(), Ordering::Relaxed);
        // What a change has found since is the newer word.
        match (looked, ledger.store.take_found()) {
            (Some((looked, tail)), found) => looked(found.unwrap_or(tail)),
            (None, Some(found)) => {
                *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
            }
            (None, None) => {}
        }
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }

    /// How often the keeper has done all that waited: who watches it sees whether it moves.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Relaxed)
    }

    /// What waits; waits for it without a limit, since the filters know no timed wait.
    pub(super) fn next(&self) -> Work {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let wanted = !queue.jobs.is_empty() || !queue.removals.is_empty() || queue.look.is_some();
            if wanted || queue.news || queue.tick || queue.flush.is_some() {
                let Queue { jobs, news, tick, removals, look, flush } = mem::take(&mut *queue);
                return Work { jobs, news, tick, removals, look, flush };
            }
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("store", &self.store()).finish_non_exhaustive()
    }
}

impl Job {
    /// Answers whoever asked.
    pub(super) fn answer(self, committed: Committed) {
        let mut state = self.reply.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.committed = Some(committed);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Pending {
    type Output = Committed;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Committed> {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.committed.take() {
            Some(committed) => Poll::Ready(committed),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
