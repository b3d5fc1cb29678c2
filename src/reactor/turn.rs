//! What a task can see of its loop: the time, its readiness, its deadline, the tick commit, the drain.
//!
//! Owns the state that the executor and the leaf futures share within one thread, and the rounds of the tick commit.
//! Invariants: no borrow is held while a task is polled; a readiness bit is set by events and cleared only by an attempt
//! that found nothing more; rounds are told in their order, however their commits end, so that whoever knows of one round
//! knows of all before it.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::Poll;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::clock::{Moment, WallTime};
use crate::limits::REQUESTS_PER_TURN_COUNT;
use crate::reactor::executor::TaskId;
use crate::reactor::wheel::Wheel;

const READABLE: u8 = 1;
const WRITABLE: u8 = 2;
const CLOSED: u8 = 4;

/// The audit lines of a turn could not be written: its replies must not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitFailed;

/// Names a commit whose end is told later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// What was gathered is where it has to be.
    Done,
    /// It is not.
    Failed,
    /// It is on its way: what becomes of it is told under this ticket, which no other commit has.
    Pending(Ticket),
}

impl<E> From<Result<(), E>> for Commit {
    fn from(result: Result<(), E>) -> Self {
        if result.is_ok() { Self::Done } else { Self::Failed }
    }
}

/// A round that has ended, but is not told yet.
#[derive(Clone, Copy, Debug)]
enum UnderWay {
    Known(Result<(), CommitFailed>),
    Awaits(Ticket),
}

/// State shared between the loop and its tasks.
#[derive(Debug)]
pub struct Turn {
    now: Cell<Moment>,
    wall: Cell<WallTime>,
    current: Cell<TaskId>,
    draining: Cell<bool>,
    /// What tasks have said they did in this turn.
    pieces: Cell<usize>,
    readiness: RefCell<Vec<u8>>,
    wheel: RefCell<Wheel>,
    /// Tasks that wait for the commit of a round, in the order of the rounds.
    waiting: RefCell<VecDeque<(u64, TaskId)>>,
    /// Tasks that wait for the end of this round, whatever becomes of its commit.
    pausing: RefCell<Vec<TaskId>>,
    /// Tasks that are to be polled as soon as the one that is polled now has been.
    called: RefCell<Vec<TaskId>>,
    round: Cell<u64>,
    /// The first round of which it is not told what became of it.
    untold: Cell<u64>,
    /// The rounds from there up to the one that is open now.
    under_way: RefCell<VecDeque<UnderWay>>,
    /// The last round whose commit failed, of those that are told.
    failed: Cell<Option<u64>>,
}

impl Turn {
    /// A loop's shared state, starting at `now`.
    #[must_use]
    pub fn new(now: Moment) -> Rc<Self> {
        Rc::new(Self {
            now: Cell::new(now),
            wall: Cell::new(WallTime::default()),
            current: Cell::new(TaskId::default()),
            draining: Cell::new(false),
            pieces: Cell::new(0),
            readiness: RefCell::new(Vec::new()),
            wheel: RefCell::new(Wheel::new(now)),
            waiting: RefCell::new(VecDeque::new()),
            pausing: RefCell::new(Vec::new()),
            called: RefCell::new(Vec::new()),
            round: Cell::new(0),
            untold: Cell::new(0),
            under_way: RefCell::new(VecDeque::new()),
            failed: Cell::new(None),
        })
    }

    /// The time at which this turn of the loop began.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.now.get()
    }

    /// The civil time at which this turn of the loop began.
    #[must_use]
    pub fn wall(&self) -> WallTime {
        self.wall.get()
    }

    /// Whether the loop is ending: no new request is to be begun.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.draining.get()
    }

    /// The task that is being polled.
    #[must_use]
    pub fn current(&self) -> TaskId {
        self.current.get()
    }

    /// Waits until it is known what became of what this turn gathered, and all before it; every reply that is audited
    /// passes through here before it leaves.
    ///
    /// # Errors
    /// [`CommitFailed`] if it is not where it has to be.
    pub async fn committed(&self) -> Result<(), CommitFailed> {
        let mut joined: Option<u64> = None;
        poll_fn(|_| match joined {
            Some(round) if self.untold.get() > round => {
                Poll::Ready(if self.may_be_lost(round) { Err(CommitFailed) } else { Ok(()) })
            }
            Some(_) => Poll::Pending,
            None => {
                let round = self.round.get();
                joined = Some(round);
                self.waiting.borrow_mut().push_back((round, self.current.get()));
                Poll::Pending
            }
        })
        .await
    }

    /// Waits for the end of this turn, in which the others had theirs. What was gathered is on its way then, and
    /// nothing is known of it.
    pub async fn ended(&self) {
        let mut joined: Option<u64> = None;
        poll_fn(|_| match joined {
            Some(round) if self.round.get() > round => Poll::Ready(()),
            Some(_) => Poll::Pending,
            None => {
                joined = Some(self.round.get());
                self.pausing.borrow_mut().push(self.current.get());
                Poll::Pending
            }
        })
        .await;
    }

    /// The round in which something is gathered now: what is appended now goes out with its commit.
    #[must_use]
    pub fn round(&self) -> u64 {
        self.round.get()
    }

    /// Whether what was gathered in `round` may be missing, because that commit, or a later one, failed. Asked only of a
    /// round up to one that [`committed`](Self::committed) has waited for.
    #[must_use]
    pub fn may_be_lost(&self, round: u64) -> bool {
        self.failed.get().is_some_and(|failed| round <= failed)
    }

    /// Sets the deadline of the current task; it is polled again when the deadline has passed.
    pub fn arm(&self, deadline: Moment) {
        self.wheel.borrow_mut().arm(self.current.get().index(), deadline);
    }

    /// Whether an attempt to read on behalf of `task` may find something.
    #[must_use]
    pub fn readable(&self, task: TaskId) -> bool {
        self.has(task, READABLE | CLOSED)
    }

    /// Whether an attempt to write on behalf of `task` may find room.
    #[must_use]
    pub fn writable(&self, task: TaskId) -> bool {
        self.has(task, WRITABLE)
    }

    /// Notes that a read found nothing more. A peer that has closed stays readable, so that its end is seen.
    pub fn read_drained(&self, task: TaskId) {
        self.clear(task, READABLE);
    }

    /// Notes that a read would have blocked although the peer was said to have closed.
    pub fn read_blocked(&self, task: TaskId) {
        self.clear(task, READABLE | CLOSED);
    }

    /// Notes that a write found no more room.
    pub fn write_blocked(&self, task: TaskId) {
        self.clear(task, WRITABLE);
    }

    /// Notes what an event said of the task's socket.
    pub fn mark_ready(&self, task: TaskId, readable: bool, writable: bool, closed: bool) {
        let bit = |set: bool, bit: u8| if set { bit } else { 0 };
        let bits = bit(readable, READABLE) | bit(writable, WRITABLE) | bit(closed, CLOSED);
        if let Some(place) = self.readiness.borrow_mut().get_mut(task.index() as usize) {
            *place |= bits;
        }
    }

    /// Has another task try both directions as soon as the one that is polled now has been: its transport has changed.
    pub(super) fn call(&self, task: TaskId) {
        self.mark_ready(task, true, true, true);
        self.called.borrow_mut().push(task);
    }

    /// A task that was called.
    pub(super) fn next_called(&self) -> Option<TaskId> {
        self.called.borrow_mut().pop()
    }

    pub(super) fn begin(&self, now: Moment, wall: WallTime) {
        self.now.set(now);
        self.wall.set(wall);
        self.pieces.set(0);
    }

    pub(super) fn enter(&self, task: TaskId) {
        self.current.set(task);
    }

    /// Counts a piece of work. Returns whether there was so much of it in this turn that a task that has done one is to let
    /// the others have theirs.
    pub fn is_crowded(&self) -> bool {
        let pieces = self.pieces.get().saturating_add(1);
        self.pieces.set(pieces);
        pieces > REQUESTS_PER_TURN_COUNT
    }

    pub(super) fn start_drain(&self) {
        self.draining.set(true);
    }

    /// A new task begins with both directions to be tried.
    pub(super) fn admit(&self, task: TaskId) {
        let mut readiness = self.readiness.borrow_mut();
        let index = task.index() as usize;
        if index >= readiness.len() {
            readiness.resize(index + 1, 0);
        }
        if let Some(place) = readiness.get_mut(index) {
            *place = READABLE | WRITABLE;
        }
    }

    pub(super) fn retire(&self, task: TaskId) {
        self.wheel.borrow_mut().cancel(task.index());
    }

    pub(super) fn expire(&self, fired: &mut Vec<u32>) {
        self.wheel.borrow_mut().expire(self.now.get(), fired);
    }

    /// When the loop must look at its timers again.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        self.wheel.borrow().next()
    }

    /// Whether tasks wait for the end of this round.
    #[must_use]
    pub fn commit_wanted(&self) -> bool {
        let round = self.round.get();
        !self.pausing.borrow().is_empty() || self.waiting.borrow().back().is_some_and(|(of, _)| *of == round)
    }

    /// Ends a round, and hands over the tasks that waited for just that.
    pub(super) fn conclude(&self, commit: Commit, resumed: &mut Vec<TaskId>) {
        let under_way = match commit {
            Commit::Done => UnderWay::Known(Ok(())),
            Commit::Failed => UnderWay::Known(Err(CommitFailed)),
            Commit::Pending(ticket) => UnderWay::Awaits(ticket),
        };
        self.under_way.borrow_mut().push_back(under_way);
        self.round.set(self.round.get() + 1);
        resumed.append(&mut self.pausing.borrow_mut());
    }

    /// Notes what became of a commit that was pending. A ticket that nobody waits for is ignored.
    pub(super) fn settle(&self, ticket: Ticket, outcome: Result<(), CommitFailed>) {
        let mut rounds = self.under_way.borrow_mut();
        let round = rounds.iter_mut().find(|round| matches!(round, UnderWay::Awaits(own) if *own == ticket));
        if let Some(round) = round {
            *round = UnderWay::Known(outcome);
        }
    }

    /// Tells of the oldest round that is not told yet, if its end is known, and hands over the tasks that waited for it.
    /// They are to be polled before the next one is told.
    pub(super) fn tell_next(&self, resumed: &mut Vec<TaskId>) -> bool {
        let mut rounds = self.under_way.borrow_mut();
        let Some(UnderWay::Known(outcome)) = rounds.front().copied() else { return false };
        rounds.pop_front();
        let round = self.untold.get();
        if outcome.is_err() {
            self.failed.set(Some(round));
        }
        self.untold.set(round + 1);
        let mut waiting = self.waiting.borrow_mut();
        while let Some((_, task)) = waiting.pop_front_if(|(of, _)| *of <= round) {
            resumed.push(task);
        }
        true
    }

    fn has(&self, task: TaskId, bits: u8) -> bool {
        self.readiness.borrow().get(task.index() as usize).is_some_and(|place| place & bits != 0)
    }

    fn clear(&self, task: TaskId, bits: u8) {
        if let Some(place) = self.readiness.borrow_mut().get_mut(task.index() as usize) {
            *place &= !bits;
        }
    }
}
