//! The executor: reusable slots of one future type, polled by number.
//!
//! Owns the slots, their futures and their wakers. Invariants: a slot's future is pinned in its own box for the
//! life of the executor and replaced in place, so a connection that comes after the first in its slot allocates
//! nothing; a finished task leaves neither a deadline nor a place in any list.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Waker};
use std::rc::Rc;
use std::sync::Arc;

use crate::clock::{Moment, WallTime};
use crate::reactor::mailbox::Mailbox;
use crate::reactor::turn::{CommitFailed, Turn};

/// The number of a task's slot; it is also its token in the poll.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(u32);

impl TaskId {
    /// The slot with this number.
    #[must_use]
    pub const fn from_index(index: u32) -> Self {
        Self(index)
    }

    /// The number of the slot.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}

struct Slot<F> {
    future: Pin<Box<Option<F>>>,
    waker: Waker,
}

/// Runs tasks of the type `F` on the calling thread.
pub struct Executor<F> {
    turn: Rc<Turn>,
    mailbox: Arc<Mailbox>,
    slots: Vec<Slot<F>>,
    free: Vec<TaskId>,
    alive: usize,
    fired: Vec<u32>,
    named: Vec<TaskId>,
}

impl<F> core::fmt::Debug for Executor<F> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Executor").field("alive", &self.alive).finish_non_exhaustive()
    }
}

impl<F: Future<Output = ()>> Executor<F> {
    /// An executor without tasks.
    #[must_use]
    pub fn new(turn: Rc<Turn>, mailbox: Arc<Mailbox>) -> Self {
        Self {
            turn,
            mailbox,
            slots: Vec::new(),
            free: Vec::new(),
            alive: 0,
            fired: Vec::new(),
            named: Vec::new(),
        }
    }

    /// How many tasks have not ended.
    #[must_use]
    pub fn alive(&self) -> usize {
        self.alive
    }

    /// Makes a task, without polling it yet; `make` is told its slot.
    ///
    /// # Errors
    /// What `make` returns; the slot stays free.
    pub fn spawn<E>(&mut self, make: impl FnOnce(TaskId) -> Result<F, E>) -> Result<TaskId, E> {
        let task = match self.free.pop() {
            Some(task) => task,
            None => self.grow(),
        };
        self.turn.admit(task);
        match make(task) {
            Ok(future) => {
                if let Some(slot) = self.slots.get_mut(task.0 as usize) {
                    slot.future.set(Some(future));
                    self.alive += 1;
                }
                Ok(task)
            }
            Err(error) => {
                self.free.push(task);
                Err(error)
            }
        }
    }

    /// Polls one task; a number without a task is ignored, since a late event may name a task that has ended.
    pub fn poll(&mut self, task: TaskId) {
        let Some(slot) = self.slots.get_mut(task.0 as usize) else { return };
        let Some(future) = slot.future.as_mut().as_pin_mut() else { return };
        self.turn.enter(task);
        if future.poll(&mut Context::from_waker(&slot.waker)).is_ready() {
            slot.future.set(None);
            self.turn.retire(task);
            self.free.push(task);
            self.alive -= 1;
        }
    }

    /// Begins a turn: sets its time.
    pub fn begin(&mut self, now: Moment, wall: WallTime) {
        self.turn.begin(now, wall);
    }

    /// Polls the tasks whose deadline has passed.
    pub fn poll_expired(&mut self) {
        let mut fired = core::mem::take(&mut self.fired);
        self.turn.expire(&mut fired);
        for index in fired.drain(..) {
            self.poll(TaskId(index));
        }
        self.fired = fired;
    }

    /// Polls the tasks that other threads have woken.
    pub fn poll_woken(&mut self) {
        let mut named = core::mem::take(&mut self.named);
        self.mailbox.take(&mut named);
        self.poll_named(named);
    }

    /// If tasks wait for the tick commit, runs `commit` and resumes each of them once with its result.
    pub fn commit(&mut self, commit: impl FnOnce() -> Result<(), CommitFailed>) {
        if !self.turn.commit_wanted() {
            return;
        }
        let mut named = core::mem::take(&mut self.named);
        self.turn.conclude(commit(), &mut named);
        self.poll_named(named);
    }

    /// Tells every task that the loop is ending.
    pub fn drain(&mut self) {
        self.turn.start_drain();
        for index in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            self.poll(TaskId(index));
        }
    }

    fn poll_named(&mut self, mut named: Vec<TaskId>) {
        for task in named.drain(..) {
            self.poll(task);
        }
        self.named = named;
    }

    fn grow(&mut self) -> TaskId {
        let task = TaskId(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        let waker = self.mailbox.waker(task);
        self.slots.push(Slot { future: Box::pin(None), waker });
        task
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use core::future::poll_fn;
    use core::task::Poll;

    fn executor<F: Future<Output = ()>>() -> (Rc<Turn>, Executor<F>) {
        let turn = Turn::new(Moment::default());
        let mailbox = Mailbox::new(Box::new(|| {}));
        (Rc::clone(&turn), Executor::new(turn, mailbox))
    }

    #[test]
    fn a_task_waits_for_the_commit_and_sees_its_result_once() {
        let (turn, mut executor) = executor();
        let seen = Rc::new(Cell::new(None));
        let task = executor
            .spawn(|_| {
                let (turn, seen) = (Rc::clone(&turn), Rc::clone(&seen));
                Ok::<_, ()>(async move { seen.set(Some(turn.committed().await)) })
            })
            .unwrap();
        executor.poll(task);
        executor.poll(task);
        assert_eq!(seen.get(), None, "a poll without a commit does not resume it");
        executor.commit(|| Err(CommitFailed));
        assert_eq!(seen.get(), Some(Err(CommitFailed)));
        assert_eq!(executor.alive(), 0);
        executor.commit(|| unreachable!("nobody waits"));
    }

    #[test]
    fn a_slot_is_reused_without_a_left_over_deadline() {
        let (turn, mut executor) = executor();
        let polls = Rc::new(Cell::new(0));
        let make = |turn: &Rc<Turn>, polls: &Rc<Cell<u32>>, ends_at: u32| {
            let (turn, polls) = (Rc::clone(turn), Rc::clone(polls));
            poll_fn(move |_| {
                polls.set(polls.get() + 1);
                turn.arm(Moment::default().plus_millis(100));
                if polls.get() >= ends_at { Poll::Ready(()) } else { Poll::Pending }
            })
        };
        let first = executor.spawn(|_| Ok::<_, ()>(make(&turn, &polls, 1))).unwrap();
        executor.poll(first);
        assert_eq!(turn.next_deadline(), None);
        let second = executor.spawn(|_| Ok::<_, ()>(make(&turn, &polls, 3))).unwrap();
        assert_eq!(first, second);
        executor.poll(second);
        executor.begin(Moment::default().plus_millis(1_000), WallTime::default());
        executor.poll_expired();
        assert_eq!(polls.get(), 3);
        assert_eq!(executor.alive(), 0);
    }

    #[test]
    fn a_wake_from_another_thread_polls_the_task() {
        let (_, mut executor) = executor();
        let polls = Rc::new(Cell::new(0));
        let (send, receive) = (Arc::new(std::sync::Mutex::new(None)), Rc::clone(&polls));
        let given = Arc::clone(&send);
        let task = executor
            .spawn(|_| {
                Ok::<_, ()>(poll_fn(move |context: &mut Context<'_>| {
                    receive.set(receive.get() + 1);
                    *given.lock().unwrap() = Some(context.waker().clone());
                    if receive.get() == 2 { Poll::Ready(()) } else { Poll::Pending }
                }))
            })
            .unwrap();
        executor.poll(task);
        executor.poll_woken();
        assert_eq!(polls.get(), 1);
        let waker: Waker = send.lock().unwrap().take().unwrap();
        std::thread::spawn(move || waker.wake()).join().unwrap();
        executor.poll_woken();
        assert_eq!(polls.get(), 2);
    }
}
