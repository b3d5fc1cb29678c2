//! The executor: tasks that rest as a few bytes and run as futures of one type, polled by number.
//!
//! Owns the slots, the pool of futures and their wakers. Invariants: a future is pinned in its own box for the life
//! of the executor and replaced in place, and a box serves whichever task runs, so memory grows with what is busy and
//! not with what is connected, and a request allocates nothing; a finished task leaves neither a deadline nor a place
//! in any list.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use crate::clock::{Moment, WallTime};
use crate::limits::BEGINNINGS_SWEEP_COUNT;
use crate::reactor::mailbox::{Mailbox, TaskWaker};
use crate::reactor::turn::{Commit, CommitFailed, Ticket, Turn};

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

/// What a resting task is to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Nothing has come: rest on.
    Rest,
    /// Run.
    Run,
    /// Be dropped.
    End,
}

/// A task whose bytes cannot pass yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beginning {
    /// Since when.
    pub since: Moment,
    /// Whether its peer has not yet said the first whole thing of what must pass before.
    pub is_silent: bool,
}

/// A task with nothing in hand: what remains of it between two stretches of work.
pub trait Resting {
    /// Decides what to do; called whenever something may have changed. It arms its own deadline.
    fn look(&mut self) -> Look;

    /// Since when it rests, if it may be ended for the sake of another.
    fn since(&self) -> Option<Moment> {
        None
    }

    /// How far it is, if bytes cannot pass yet.
    fn beginning(&self) -> Option<Beginning> {
        None
    }

    /// It is dropped next for the sake of another.
    fn give_way(&mut self) {}
}

enum Slot<R, F> {
    Free,
    Resting(R),
    Running(Running<F>),
}

struct Running<F> {
    future: Pin<Box<Option<F>>>,
    waker: Waker,
    target: Arc<TaskWaker>,
}

/// Runs tasks on the calling thread: `R` is how they rest, `F` how they run, `M` makes the one from the other.
pub struct Executor<R, F, M> {
    turn: Rc<Turn>,
    mailbox: Arc<Mailbox>,
    start: M,
    slots: Vec<Slot<R, F>>,
    free: Vec<TaskId>,
    spare: Vec<Running<F>>,
    alive: usize,
    /// Where the next look for a task that rests begins.
    looked: usize,
    /// Tasks that began with bytes that cannot pass, in the order in which they came; some are further by now, or gone.
    beginnings: VecDeque<(TaskId, Moment)>,
    /// How long that list may get before those are dropped from it.
    beginnings_most: usize,
    fired: Vec<u32>,
    named: Vec<TaskId>,
}

impl<R, F, M> core::fmt::Debug for Executor<R, F, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Executor").field("alive", &self.alive).finish_non_exhaustive()
    }
}

impl<R: Resting, F: Future<Output = Option<R>>, M: FnMut(R) -> F> Executor<R, F, M> {
    /// An executor without tasks.
    #[must_use]
    pub fn new(turn: Rc<Turn>, mailbox: Arc<Mailbox>, start: M) -> Self {
        Self {
            turn,
            mailbox,
            start,
            slots: Vec::new(),
            free: Vec::new(),
            spare: Vec::new(),
            alive: 0,
            looked: 0,
            beginnings: VecDeque::new(),
            beginnings_most: BEGINNINGS_SWEEP_COUNT,
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
    pub fn spawn<E>(&mut self, make: impl FnOnce(TaskId) -> Result<R, E>) -> Result<TaskId, E> {
        let task = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            TaskId(u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX))
        });
        self.turn.admit(task);
        match (make(task), self.slots.get_mut(task.0 as usize)) {
            (Ok(resting), Some(slot)) => {
                let beginning = resting.beginning();
                *slot = Slot::Resting(resting);
                self.alive += 1;
                if let Some(beginning) = beginning {
                    self.note(task, beginning.since);
                }
                Ok(task)
            }
            (Ok(_), None) => Ok(task),
            (Err(error), _) => {
                self.free.push(task);
                Err(error)
            }
        }
    }

    /// Polls one task, and those that it calls; a number without a task is ignored, since a late event may name a task that
    /// has ended.
    pub fn poll(&mut self, task: TaskId) {
        self.poll_alone(task);
        while let Some(called) = self.turn.next_called() {
            self.poll_alone(called);
        }
    }

    fn poll_alone(&mut self, task: TaskId) {
        let Some(slot) = self.slots.get_mut(task.0 as usize) else { return };
        self.turn.enter(task);
        loop {
            match slot {
                Slot::Free => return,
                Slot::Resting(resting) => match resting.look() {
                    Look::Rest => return,
                    Look::End => break,
                    Look::Run => {
                        let mut running = self.spare.pop().unwrap_or_else(|| Running::new(&self.mailbox));
                        if let Slot::Resting(resting) = core::mem::replace(slot, Slot::Free) {
                            running.target.point_at(task);
                            running.future.set(Some((self.start)(resting)));
                            *slot = Slot::Running(running);
                        }
                    }
                },
                Slot::Running(running) => {
                    let Poll::Ready(rest) = running.poll() else { return };
                    running.future.set(None);
                    let next = rest.map_or(Slot::Free, Slot::Resting);
                    let ended = matches!(next, Slot::Free);
                    if let Slot::Running(running) = core::mem::replace(slot, next) {
                        self.spare.push(running);
                    }
                    if ended {
                        break;
                    }
                }
            }
        }
        *slot = Slot::Free;
        self.turn.retire(task);
        self.free.push(task);
        self.alive -= 1;
    }

    /// Ends the task that rests longest, of the next `count` that are looked at, if it rests at least since `latest`.
    /// Returns whether there was one.
    pub fn shed(&mut self, count: usize, latest: Moment) -> bool {
        let total = self.slots.len();
        let mut longest: Option<(Moment, usize)> = None;
        for step in 0..count.min(total) {
            let index = (self.looked + step) % total;
            if let Some(Slot::Resting(resting)) = self.slots.get(index)
                && let Some(since) = resting.since().filter(|since| *since <= latest)
                && longest.is_none_or(|(earliest, _)| since < earliest)
            {
                longest = Some((since, index));
            }
        }
        self.looked = if total == 0 { 0 } else { (self.looked + count) % total };
        longest.is_some_and(|(_, index)| self.end_resting(TaskId(u32::try_from(index).unwrap_or(u32::MAX))))
    }

    /// Ends the oldest task that is silent, though bytes cannot pass before its peer has said something, if it came at `silent` or
    /// before; if there is none, the oldest of those that have begun and came at `begun` or before. Returns whether there was one.
    pub fn shed_beginning(&mut self, silent: Moment, begun: Moment) -> bool {
        let Self { slots, beginnings, .. } = self;
        while beginnings.front().is_some_and(|entry| beginning(slots, *entry).is_none()) {
            beginnings.pop_front();
        }
        let mut slow = None;
        let mut chosen = None;
        for entry in &*beginnings {
            match beginning(slots, *entry) {
                Some(Beginning { since, is_silent: true }) if since <= silent => {
                    chosen = Some(entry.0);
                    break;
                }
                Some(Beginning { since, is_silent: false }) if since <= begun => {
                    slow = slow.or(Some(entry.0));
                }
                _ => {}
            }
        }
        chosen.or(slow).is_some_and(|task| self.end_resting(task))
    }

    /// Remembers a task that has begun.
    fn note(&mut self, task: TaskId, since: Moment) {
        let Self { slots, beginnings, .. } = self;
        if beginnings.len() >= self.beginnings_most {
            beginnings.retain(|entry| beginning(slots, *entry).is_some());
            self.beginnings_most = BEGINNINGS_SWEEP_COUNT.max(2 * beginnings.len());
        }
        self.beginnings.push_back((task, since));
    }

    /// Ends a task that rests; returns whether it did.
    fn end_resting(&mut self, task: TaskId) -> bool {
        let Some(slot) = self.slots.get_mut(task.0 as usize) else { return false };
        let Slot::Resting(resting) = slot else { return false };
        resting.give_way();
        *slot = Slot::Free;
        self.turn.retire(task);
        self.free.push(task);
        self.alive -= 1;
        true
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

    /// If tasks wait for the end of the round, ends it with `commit`. Those that waited for what became of it are resumed
    /// once, with the result: now, or when it and all before it are [settled](Self::settle).
    pub fn commit(&mut self, commit: impl FnOnce() -> Commit) {
        if !self.turn.commit_wanted() {
            return;
        }
        let mut named = core::mem::take(&mut self.named);
        self.turn.conclude(commit(), &mut named);
        self.poll_named(named);
        self.tell();
    }

    /// Notes what became of a commit that was pending, and resumes the tasks that now know.
    pub fn settle(&mut self, ticket: Ticket, outcome: Result<(), CommitFailed>) {
        self.turn.settle(ticket, outcome);
        self.tell();
    }

    /// Tells every task that the loop is ending.
    pub fn drain(&mut self) {
        self.turn.start_drain();
        for index in 0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX) {
            self.poll(TaskId(index));
        }
    }

    fn tell(&mut self) {
        let mut named = core::mem::take(&mut self.named);
        while self.turn.tell_next(&mut named) {
            self.poll_named(named);
            named = core::mem::take(&mut self.named);
        }
        self.named = named;
    }

    fn poll_named(&mut self, mut named: Vec<TaskId>) {
        for task in named.drain(..) {
            self.poll(task);
        }
        self.named = named;
    }
}

/// How far the task of this entry is, if it is still the one that was noted, and not further.
fn beginning<R: Resting, F>(slots: &[Slot<R, F>], (task, since): (TaskId, Moment)) -> Option<Beginning> {
    match slots.get(task.0 as usize) {
        Some(Slot::Resting(resting)) => resting.beginning().filter(|beginning| beginning.since == since),
        _ => None,
    }
}

impl<F: Future> Running<F> {
    fn new(mailbox: &Arc<Mailbox>) -> Self {
        let target = mailbox.task_waker();
        Self { future: Box::pin(None), waker: Waker::from(Arc::clone(&target)), target }
    }

    fn poll(&mut self) -> Poll<F::Output> {
        match self.future.as_mut().as_pin_mut() {
            Some(future) => future.poll(&mut Context::from_waker(&self.waker)),
            // An empty box is never put into a slot.
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::{Cell, RefCell};
    use core::future::poll_fn;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// A task that runs as soon as it is looked at, once.
    struct Once(bool);

    impl Resting for Once {
        fn look(&mut self) -> Look {
            if core::mem::take(&mut self.0) { Look::Run } else { Look::Rest }
        }
    }

    fn parts() -> (Rc<Turn>, Arc<Mailbox>) {
        (Turn::new(Moment::default()), Mailbox::new(Box::new(|| {})))
    }

    fn once(_: TaskId) -> Result<Once, ()> {
        Ok(Once(true))
    }

    #[test]
    fn a_task_waits_for_the_commit_and_sees_its_result_once() {
        let (turn, mailbox) = parts();
        let seen = Rc::new(Cell::new(None));
        let mut executor = Executor::new(Rc::clone(&turn), mailbox, |_| {
            let (turn, seen) = (Rc::clone(&turn), Rc::clone(&seen));
            async move {
                seen.set(Some(turn.committed().await));
                None
            }
        });
        let task = executor.spawn(once).unwrap();
        executor.poll(task);
        executor.poll(task);
        assert_eq!(seen.get(), None, "a poll without a commit does not resume it");
        executor.commit(|| Commit::Failed);
        assert_eq!(seen.get(), Some(Err(CommitFailed)));
        assert_eq!(executor.alive(), 0);
        executor.commit(|| unreachable!("nobody waits"));
    }

    #[test]
    fn a_slot_is_reused_without_a_left_over_deadline() {
        let (turn, mailbox) = parts();
        let (polls, ends_at) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(1)));
        let mut executor = Executor::new(Rc::clone(&turn), mailbox, |_| {
            let (turn, polls, ends_at) = (Rc::clone(&turn), Rc::clone(&polls), Rc::clone(&ends_at));
            poll_fn(move |_| {
                polls.set(polls.get() + 1);
                turn.arm(Moment::default().plus_millis(100));
                if polls.get() >= ends_at.get() { Poll::Ready(None) } else { Poll::Pending }
            })
        });
        let first = executor.spawn(once).unwrap();
        executor.poll(first);
        assert_eq!(turn.next_deadline(), None);
        ends_at.set(3);
        let second = executor.spawn(once).unwrap();
        assert_eq!(first, second);
        executor.poll(second);
        executor.begin(Moment::default().plus_millis(1_000), WallTime::default());
        executor.poll_expired();
        assert_eq!(polls.get(), 3);
        assert_eq!(executor.alive(), 0);
    }

    /// Rests for ever, perhaps so that it may be ended.
    struct Still {
        since: Option<Moment>,
        gave_way: Rc<Cell<usize>>,
    }

    impl Resting for Still {
        fn look(&mut self) -> Look {
            Look::Rest
        }

        fn since(&self) -> Option<Moment> {
            self.since
        }

        fn give_way(&mut self) {
            self.gave_way.set(self.gave_way.get() + 1);
        }
    }

    #[test]
    fn the_task_that_rests_longest_gives_way_and_no_other_kind() {
        let (turn, mailbox) = parts();
        let mut executor = Executor::new(Rc::clone(&turn), mailbox, |_| async { None });
        let gave_way = Rc::new(Cell::new(0));
        let at = |millis| Some(Moment::default().plus_millis(millis));
        for since in [at(30), None, at(10), at(20), at(90)] {
            let gave_way = Rc::clone(&gave_way);
            let task = executor.spawn(|_| Ok::<_, ()>(Still { since, gave_way })).unwrap();
            executor.poll(task);
        }
        let latest = Moment::default().plus_millis(50);
        let mut alive = Vec::new();
        for expected in [true, true, true, false, false] {
            assert_eq!(executor.shed(100, latest), expected);
            alive.push(executor.alive());
        }
        assert_eq!((alive, gave_way.get()), (vec![4, 3, 2, 2, 2], 3));
        let kept: Vec<_> = executor.slots.iter().map(|slot| matches!(slot, Slot::Resting(_))).collect();
        assert_eq!(
            kept,
            [false, true, false, false, true],
            "neither what must not be ended nor what rests too short"
        );
    }

    #[test]
    fn the_look_for_a_task_that_rests_is_bounded_and_goes_round() {
        let (turn, mailbox) = parts();
        let mut executor = Executor::new(Rc::clone(&turn), mailbox, |_| async { None });
        for number in 0..10 {
            let since = (number == 7).then(Moment::default);
            let still = Still { since, gave_way: Rc::default() };
            executor.spawn(|_| Ok::<_, ()>(still)).unwrap();
        }
        let found: Vec<_> = (0..6).map(|_| executor.shed(3, Moment::default())).collect();
        assert_eq!(found, [false, false, true, false, false, false]);
    }

    #[test]
    fn a_wake_from_another_thread_polls_the_task_that_runs() {
        let (turn, mailbox) = parts();
        let given = Rc::new(Cell::new(None));
        let mut executor = Executor::new(turn, mailbox, |_| {
            let given = Rc::clone(&given);
            let mut polls = 0;
            poll_fn(move |context: &mut Context<'_>| {
                polls += 1;
                given.set(Some(context.waker().clone()));
                if polls == 2 { Poll::Ready(None) } else { Poll::Pending }
            })
        });
        let idle = executor.spawn(|_| Ok::<_, ()>(Once(false))).unwrap();
        executor.poll(idle);
        let task = executor.spawn(once).unwrap();
        executor.poll(task);
        executor.poll_woken();
        assert_eq!(executor.alive(), 2, "no wake, no poll");
        let waker: Waker = given.take().unwrap();
        std::thread::spawn(move || waker.wake()).join().unwrap();
        executor.poll_woken();
        assert_eq!(executor.alive(), 1);
    }

    #[test]
    fn resting_tasks_share_the_futures_of_those_that_ran() {
        let (turn, mailbox) = parts();
        let mut executor = Executor::new(turn, mailbox, |_| async { Some(Once(false)) });
        for _ in 0..10 {
            let task = executor.spawn(once).unwrap();
            executor.poll(task);
        }
        assert_eq!((executor.alive(), executor.spare.len()), (10, 1));
    }

    /// A task that tells something in each of its turns and answers when it may; what was told, what is kept, and what
    /// was answered.
    #[derive(Default)]
    struct Ledger {
        told: Vec<u64>,
        kept: BTreeSet<u64>,
        answered: usize,
        refused: usize,
        next: u64,
    }

    async fn teller(turn: Rc<Turn>, ledger: Rc<RefCell<Ledger>>, lines: usize) -> Option<Once> {
        for _ in 0..lines {
            let own = {
                let mut ledger = ledger.borrow_mut();
                ledger.next += 1;
                let own = ledger.next;
                ledger.told.push(own);
                own
            };
            let round = turn.round();
            if own % 3 == 0 {
                // A later round than its own is waited for.
                turn.ended().await;
            }
            let committed = turn.committed().await;
            let mut ledger = ledger.borrow_mut();
            if turn.may_be_lost(round) {
                ledger.refused += 1;
            } else {
                assert!(ledger.kept.contains(&own), "{own} is answered before its line is kept");
                assert!(own % 3 == 0 || committed.is_ok());
                ledger.answered += 1;
            }
        }
        None
    }

    proptest! {
        #[test]
        fn no_reply_leaves_before_its_commit_is_known_good_and_none_is_stuck(
            tasks in proptest::collection::vec(1usize..6, 1..8),
            steps in proptest::collection::vec((0u8..6, any::<u8>(), any::<bool>()), 1..80),
        ) {
            let (turn, mailbox) = parts();
            let ledger = Rc::new(RefCell::new(Ledger::default()));
            let total: usize = tasks.iter().sum();
            let mut sizes = tasks.clone().into_iter();
            let mut executor = Executor::new(Rc::clone(&turn), mailbox, |_| {
                teller(Rc::clone(&turn), Rc::clone(&ledger), sizes.next().unwrap_or(0))
            });
            let mut waiting = tasks.len();
            let mut pending: Vec<(Ticket, Vec<u64>)> = Vec::new();
            let mut tickets = 0;
            let quiet = core::iter::repeat_n((2, 0, true), 4 * total + 4);
            for (kind, which, good) in steps.into_iter().chain(quiet) {
                if waiting > 0 && (which % 2 == 0) {
                    waiting -= 1;
                    let task = executor.spawn(once).unwrap();
                    executor.poll(task);
                }
                executor.poll(TaskId::from_index(u32::from(which % 8)));
                if kind <= 2 && !pending.is_empty() {
                    let (ticket, lines) = pending.swap_remove(usize::from(which) % pending.len());
                    if good {
                        ledger.borrow_mut().kept.extend(lines);
                    }
                    executor.settle(ticket, if good { Ok(()) } else { Err(CommitFailed) });
                    executor.settle(ticket, Ok(()));
                }
                executor.commit(|| {
                    let lines = core::mem::take(&mut ledger.borrow_mut().told);
                    match kind {
                        0 => Commit::Failed,
                        1 | 2 => {
                            ledger.borrow_mut().kept.extend(lines);
                            Commit::Done
                        }
                        _ => {
                            tickets += 1;
                            pending.push((Ticket(tickets), lines));
                            Commit::Pending(Ticket(tickets))
                        }
                    }
                });
            }
            for (ticket, lines) in pending {
                ledger.borrow_mut().kept.extend(lines);
                executor.settle(ticket, Ok(()));
                for _ in 0..2 * total {
                    executor.commit(|| {
                        let lines = core::mem::take(&mut ledger.borrow_mut().told);
                        ledger.borrow_mut().kept.extend(lines);
                        Commit::Done
                    });
                }
            }
            let ledger = ledger.borrow();
            prop_assert_eq!(executor.alive(), 0, "nobody is stuck");
            prop_assert_eq!(ledger.answered + ledger.refused, total);
        }
    }

    #[test]
    fn rounds_are_told_in_their_order_and_each_with_its_own_end() {
        let (turn, mailbox) = parts();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let mut numbers = 0..;
        let mut executor = Executor::new(Rc::clone(&turn), mailbox, |_| {
            let (turn, seen, number) = (Rc::clone(&turn), Rc::clone(&seen), numbers.next().unwrap_or(0));
            async move {
                let committed = turn.committed().await;
                seen.borrow_mut().push((number, committed.is_ok()));
                None
            }
        });
        let ends = [Commit::Pending(Ticket(7)), Commit::Failed, Commit::Pending(Ticket(8)), Commit::Done];
        for end in ends {
            let task = executor.spawn(once).unwrap();
            executor.poll(task);
            executor.commit(|| end);
        }
        assert!(seen.borrow().is_empty(), "the first one is on its way");
        executor.settle(Ticket(8), Ok(()));
        executor.settle(Ticket(9), Ok(()));
        assert!(seen.borrow().is_empty(), "later ones wait for it");
        executor.settle(Ticket(7), Ok(()));
        assert_eq!(*seen.borrow(), [(0, true), (1, false), (2, true), (3, true)]);
    }

    /// A task that waits for bytes to pass.
    struct Waiting {
        beginning: Option<Beginning>,
        ended: Rc<RefCell<Vec<u64>>>,
    }

    impl Resting for Waiting {
        fn look(&mut self) -> Look {
            Look::Rest
        }

        fn beginning(&self) -> Option<Beginning> {
            self.beginning
        }

        fn give_way(&mut self) {
            self.ended.borrow_mut().extend(self.beginning.map(|beginning| beginning.since.as_nanos()));
        }
    }

    #[test]
    fn the_oldest_that_is_silent_gives_way_before_all_that_have_begun() {
        let (turn, mailbox) = parts();
        let ended = Rc::new(RefCell::new(Vec::new()));
        let mut executor = Executor::new(turn, mailbox, |_| async { None });
        let at = |nanos: u64| Moment::from_nanos(nanos);
        for (nanos, is_silent) in
            [(1, Some(false)), (2, None), (3, Some(true)), (4, Some(false)), (5, Some(true))]
        {
            let beginning = is_silent.map(|is_silent| Beginning { since: at(nanos), is_silent });
            let task =
                executor.spawn(|_| Ok::<_, ()>(Waiting { beginning, ended: Rc::clone(&ended) })).unwrap();
            executor.poll(task);
        }
        assert!(!executor.shed_beginning(at(2), at(0)), "those that are silent came later");
        for _ in 0..2 {
            assert!(executor.shed_beginning(at(9), at(3)));
        }
        assert!(executor.shed_beginning(at(9), at(3)), "none is silent any more: one that is slow");
        assert!(!executor.shed_beginning(at(9), at(3)), "the other one came a moment ago");
        assert_eq!(*ended.borrow(), [3, 5, 1]);
        assert_eq!(executor.alive(), 2);
    }

    #[test]
    fn those_that_are_over_are_forgotten() {
        let (turn, mailbox) = parts();
        let ended = Rc::new(RefCell::new(Vec::new()));
        let mut executor = Executor::new(turn, mailbox, |_| async { None });
        for nanos in 0..5 * BEGINNINGS_SWEEP_COUNT as u64 {
            let beginning = Some(Beginning { since: Moment::from_nanos(nanos), is_silent: true });
            executor.spawn(|_| Ok::<_, ()>(Waiting { beginning, ended: Rc::clone(&ended) })).unwrap();
            if nanos > 0 {
                assert!(executor.shed_beginning(Moment::from_nanos(nanos), Moment::default()));
            }
            assert!(executor.beginnings.len() <= BEGINNINGS_SWEEP_COUNT);
        }
        assert_eq!(executor.alive(), 1);
        assert!(ended.borrow().is_sorted(), "the oldest first");
    }

    #[test]
    fn the_end_of_a_turn_does_not_wait_for_its_commit() {
        let (turn, mailbox) = parts();
        let mut executor = Executor::new(Rc::clone(&turn), mailbox, |_| {
            let turn = Rc::clone(&turn);
            async move {
                turn.ended().await;
                None
            }
        });
        let task = executor.spawn(once).unwrap();
        executor.poll(task);
        assert_eq!((turn.commit_wanted(), executor.alive()), (true, 1));
        executor.commit(|| Commit::Pending(Ticket(1)));
        assert_eq!((turn.commit_wanted(), executor.alive()), (false, 0));
    }
}
