//! Memory that is held beside the buffers and counts as they do.
//!
//! Owns [`Charge`] and [`Strangers`]. Invariants: what a charge holds is on the budget, and on the account of whoever is
//! known; all of those of whom nobody is known hold no more than their part, of which each loop has enough for one of them however much the
//! others hold (and be it more than the part); when there is no more of it, the stranger of the loop that has held the longest gives way, and never one that is known; a
//! charge that is dropped holds nothing.

use core::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;

use crate::limits::{LEASE_BESIDE_SHARE_COUNT, TLS_RECORD_KEPT_BYTES};
use crate::quota::Tally;
use crate::reactor::executor::TaskId;
use crate::reactor::lease::{Exhausted, Pool};
use crate::reactor::turn::Turn;

/// What those hold in one loop of whom nobody is known.
pub struct Strangers {
    pool: Rc<Pool>,
    turn: Rc<Turn>,
    /// What they may hold here, whatever they hold elsewhere.
    own_most: usize,
    /// What those of all loops may hold beyond that.
    beyond_most: usize,
    held: Cell<usize>,
    /// Those that hold something, the one that began first in front.
    holders: RefCell<VecDeque<Holder>>,
    /// The number of the last one that began.
    begun: Cell<u64>,
    /// The number of the last one that gave way: all up to it have, or hold nothing.
    ended: Cell<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Holder {
    number: u64,
    task: TaskId,
    bytes: usize,
}

impl Strangers {
    /// The strangers of a loop, one of so many of the same budget.
    #[must_use]
    pub fn new(pool: Rc<Pool>, turn: Rc<Turn>, loops: usize) -> Rc<Self> {
        let part = pool.budget().total_bytes() / LEASE_BESIDE_SHARE_COUNT;
        // Whoever chooses to which loop its connections go cannot take what the others need to have one give way: where many loops share
        // little, too, there is room for one that could.
        let own_most = (part / 2 / loops.max(1)).max(TLS_RECORD_KEPT_BYTES);
        Rc::new(Self {
            pool,
            turn,
            own_most,
            beyond_most: part.saturating_sub(own_most.saturating_mul(loops.max(1))),
            held: Cell::new(0),
            holders: RefCell::new(VecDeque::new()),
            begun: Cell::new(0),
            ended: Cell::new(0),
        })
    }

    /// What of so much that is held here is of the part that all loops share.
    fn beyond(&self, held: usize) -> usize {
        held.saturating_sub(self.own_most)
    }

    fn take(&self, bytes: usize) -> bool {
        let before = self.held.get();
        let after = before.saturating_add(bytes);
        let more = self.beyond(after) - self.beyond(before);
        let taken = more == 0 || self.pool.budget().strangers().take(more, self.beyond_most);
        if taken {
            self.held.set(after);
        }
        taken
    }

    fn give_back(&self, bytes: usize) {
        let before = self.held.get();
        let after = before.saturating_sub(bytes);
        self.pool.budget().strangers().give_back(self.beyond(before) - self.beyond(after));
        self.held.set(after);
    }

    /// Takes so many bytes for the holder of this number, or for one that is none yet: if need be in place of those that have held
    /// longer. Returns whether they were taken; nobody gives way for what finds no room all the same.
    fn take_in_place(&self, own: Option<u64>, bytes: usize) -> bool {
        if !self.could_take(own, bytes) {
            return false;
        }
        while !self.take(bytes) {
            let first = self.holders.borrow().front().copied();
            let Some(first) = first.filter(|first| Some(first.number) != own) else { return false };
            self.holders.borrow_mut().pop_front();
            self.ended.set(first.number);
            self.give_back(first.bytes);
            self.turn.call(first.task);
        }
        true
    }

    /// Whether there is room for so many bytes more, once those have given way that have held longer; what other loops take meanwhile is not
    /// foreseen.
    fn could_take(&self, own: Option<u64>, bytes: usize) -> bool {
        let held = self.held.get();
        let holders = self.holders.borrow();
        let older = holders.iter().take_while(|holder| Some(holder.number) != own);
        let left = held.saturating_sub(older.map(|holder| holder.bytes).sum());
        let elsewhere = self.pool.budget().strangers().held_bytes().saturating_sub(self.beyond(held));
        let beyond = self.beyond(left.saturating_add(bytes));
        beyond <= self.beyond(left) || elsewhere.saturating_add(beyond) <= self.beyond_most
    }

    /// Notes that a task holds so many bytes from now on; it has a number as long as these are some.
    fn note(&self, own: Option<u64>, task: TaskId, bytes: usize) -> Option<u64> {
        let mut holders = self.holders.borrow_mut();
        let Some(number) = own else {
            if bytes == 0 {
                return None;
            }
            let number = self.begun.get() + 1;
            self.begun.set(number);
            holders.push_back(Holder { number, task, bytes });
            return Some(number);
        };
        let Ok(place) = holders.binary_search_by_key(&number, |holder| holder.number) else { return None };
        if bytes == 0 {
            holders.remove(place);
            return None;
        }
        if let Some(holder) = holders.get_mut(place) {
            holder.bytes = bytes;
        }
        own
    }
}

impl fmt::Debug for Strangers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Strangers").field("held", &self.held).finish_non_exhaustive()
    }
}

/// What one holder keeps of a budget.
#[derive(Debug)]
pub struct Charge {
    strangers: Rc<Strangers>,
    task: TaskId,
    held: usize,
    /// On which it is; nothing: it is a stranger's.
    account: Option<Arc<Tally>>,
    /// Which of the strangers that hold something it is.
    number: Option<u64>,
}

impl Charge {
    /// A charge of nothing, for a task of which nobody is known. If it has to [give way](Self::has_given_way), the task is
    /// polled.
    #[must_use]
    pub fn of(strangers: &Rc<Strangers>, task: TaskId) -> Self {
        Self { strangers: Rc::clone(strangers), task, held: 0, account: None, number: None }
    }

    /// Whether what it held was given to another: whoever holds it must end.
    #[must_use]
    pub fn has_given_way(&self) -> bool {
        self.number.is_some_and(|number| number <= self.strangers.ended.get())
    }

    /// Holds so many bytes from now on, more or fewer than before.
    ///
    /// # Errors
    /// [`Exhausted`] if the budget, the account or the part of all strangers does not allow it; the charge is as it was.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Exhausted> {
        if self.has_given_way() {
            return Err(Exhausted);
        }
        if bytes > self.held {
            let more = bytes - self.held;
            self.strangers.pool.take_beside(more)?;
            let taken = match &self.account {
                Some(account) => account.take(more, self.strangers.pool.budget().share_bytes()),
                None => self.strangers.take_in_place(self.number, more),
            };
            if !taken {
                self.strangers.pool.budget().give_back_beside(more);
                return Err(Exhausted);
            }
        } else {
            self.let_go(self.held - bytes);
        }
        self.held = bytes;
        if self.account.is_none() {
            self.number = self.strangers.note(self.number, self.task, bytes);
        }
        Ok(())
    }

    /// Moves what it holds, and what it will, to this account: it gives way to nobody from then on.
    ///
    /// # Errors
    /// [`Exhausted`] if it had to give way before, or if the account has no room; the charge is as it was.
    pub fn charge(&mut self, account: &Arc<Tally>) -> Result<(), Exhausted> {
        if self.account.as_ref().is_some_and(|own| Arc::ptr_eq(own, account)) {
            return Ok(());
        }
        let share = self.strangers.pool.budget().share_bytes();
        if self.has_given_way() || self.held > 0 && !account.take(self.held, share) {
            return Err(Exhausted);
        }
        match &self.account {
            Some(own) => own.give_back(self.held),
            None => {
                self.strangers.give_back(self.held);
                self.number = self.strangers.note(self.number, self.task, 0);
            }
        }
        self.account = Some(Arc::clone(account));
        Ok(())
    }

    /// Gives so many bytes back.
    fn let_go(&self, bytes: usize) {
        self.strangers.pool.budget().give_back_beside(bytes);
        match &self.account {
            Some(account) => account.give_back(bytes),
            // What gave way is counted for another already.
            None if self.has_given_way() => {}
            None => self.strangers.give_back(bytes),
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.let_go(self.held);
        if self.account.is_none() && !self.has_given_way() {
            self.strangers.note(self.number, self.task, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Moment;
    use crate::limits::{LEASE_BUDGET_FLOOR_BYTES, LEASE_LARGEST_BYTES, LEASE_SHARE_COUNT};
    use crate::reactor::{Budget, Buffer};

    const TOTAL: usize = 16 << 20;
    const PART: usize = TOTAL / LEASE_BESIDE_SHARE_COUNT;

    fn strangers(budget: &Arc<Budget>, loops: usize) -> Rc<Strangers> {
        Strangers::new(Pool::new(Arc::clone(budget)), Turn::new(Moment::default()), loops)
    }

    fn charge(strangers: &Rc<Strangers>, task: u32) -> Charge {
        Charge::of(strangers, TaskId::from_index(task))
    }

    #[test]
    fn charges_of_strangers_count_with_the_leases_and_have_a_part_of_their_own() {
        let budget = Budget::new(TOTAL);
        let strangers = strangers(&budget, 1);
        let mut one = charge(&strangers, 1);
        one.hold(PART).unwrap();
        assert_eq!(one.hold(PART + 1), Err(Exhausted), "there is nobody that could give way");
        assert_eq!((budget.made_bytes(), budget.leased_bytes()), (PART, PART));
        assert!(!one.has_given_way());
        one.hold(5).unwrap();
        let mut other = charge(&strangers, 2);
        other.hold(20).unwrap();
        assert_eq!(budget.made_bytes(), 25);
        other.hold(0).unwrap();
        drop((one, other));
        assert_eq!((budget.made_bytes(), strangers.held.get()), (0, 0));
        assert!(strangers.holders.borrow().is_empty());
    }

    #[test]
    fn the_stranger_that_has_held_the_longest_gives_way_and_who_is_known_never() {
        let budget = Budget::new(TOTAL);
        let strangers = strangers(&budget, 1);
        let account = Arc::new(Tally::default());
        let mut known = charge(&strangers, 0);
        known.hold(PART / 4).unwrap();
        known.charge(&account).unwrap();
        let mut all: Vec<Charge> = (1..5).map(|task| charge(&strangers, task)).collect();
        for one in &mut all {
            one.hold(PART / 4).unwrap();
        }
        all[0].hold(0).unwrap();
        all[0].hold(PART / 4).unwrap();
        let mut late = charge(&strangers, 9);
        late.hold(PART / 2).unwrap();
        let ended = |all: &[Charge]| all.iter().map(Charge::has_given_way).collect::<Vec<_>>();
        assert_eq!(ended(&all), [false, true, true, false], "the first one has begun again");
        let called = || strangers.turn.next_called().map(TaskId::index);
        assert_eq!((called(), called(), called()), (Some(3), Some(2), None));
        assert_eq!(all[1].hold(1), Err(Exhausted));
        assert_eq!(all[1].charge(&account), Err(Exhausted), "it is too late");
        known.hold(PART).unwrap();
        assert!(!known.has_given_way() && account.held_bytes() == PART);
        assert_eq!(all[0].hold(PART + 1), Err(Exhausted), "it would be in its own place");
        assert_eq!(ended(&all), [false, true, true, false], "nobody gives way for what finds no room");
        all[0].hold(PART / 2).unwrap();
        assert_eq!(ended(&all), [false, true, true, true]);
        drop((all, late, known));
        assert_eq!((budget.made_bytes(), strangers.held.get(), account.held_bytes()), (0, 0, 0));
        assert!(strangers.holders.borrow().is_empty());
    }

    #[test]
    fn an_account_bounds_what_is_charged_to_it() {
        let budget = Budget::new(TOTAL);
        let strangers = strangers(&budget, 1);
        let (one, other) = (Arc::new(Tally::default()), Arc::new(Tally::default()));
        let mut known = charge(&strangers, 0);
        known.charge(&one).unwrap();
        known.hold(TOTAL / LEASE_SHARE_COUNT).unwrap();
        assert_eq!(known.hold(TOTAL / LEASE_SHARE_COUNT + 1), Err(Exhausted));
        known.charge(&other).unwrap();
        assert_eq!((one.held_bytes(), other.held_bytes()), (0, TOTAL / LEASE_SHARE_COUNT));
        let mut second = charge(&strangers, 1);
        second.hold(1).unwrap();
        assert_eq!(second.charge(&other), Err(Exhausted));
        second.charge(&one).unwrap();
        assert_eq!((one.held_bytes(), strangers.held.get()), (1, 0));
    }

    #[test]
    fn no_loop_takes_what_another_needs_to_let_somebody_in() {
        let budget = Budget::new(TOTAL);
        let (full, other) = (strangers(&budget, 2), strangers(&budget, 2));
        let mut many: Vec<Charge> = (0..100).map(|task| charge(&full, task)).collect();
        for one in &mut many {
            one.hold(PART / 16).unwrap();
        }
        assert_eq!(full.held.get(), PART / 4 * 3, "its own part, and what all share");
        let mut late = charge(&other, 0);
        late.hold(PART / 4).unwrap();
        assert_eq!(late.hold(PART / 4 + 1), Err(Exhausted));
        drop(many);
        late.hold(PART / 4 * 3).unwrap();
    }

    #[test]
    fn each_of_many_loops_has_room_for_a_record_in_the_least_memory() {
        let budget = Budget::new(LEASE_BUDGET_FLOOR_BYTES);
        let loops: Vec<_> = (0..63).map(|_| strangers(&budget, 63)).collect();
        let mut many: Vec<Charge> = Vec::new();
        for (number, one) in loops.iter().take(62).enumerate() {
            for _ in 0..9 {
                let mut charge = charge(one, u32::try_from(number).unwrap());
                let _ = charge.hold(TLS_RECORD_KEPT_BYTES);
                // Who gave way ends, and gives back what it held of the budget.
                many.retain(|charge| !charge.has_given_way());
                many.push(charge);
            }
        }
        let mut late = [charge(&loops[62], 0), charge(&loops[62], 1)];
        for one in &mut late {
            one.hold(TLS_RECORD_KEPT_BYTES).unwrap();
        }
        assert_eq!(late.each_ref().map(Charge::has_given_way), [true, false]);
        let most = (LEASE_BUDGET_FLOOR_BYTES / LEASE_BESIDE_SHARE_COUNT).max(63 * TLS_RECORD_KEPT_BYTES);
        assert!(budget.strangers().held_bytes() == 0 && most == 63 * TLS_RECORD_KEPT_BYTES);
    }

    #[test]
    fn what_leases_have_taken_is_not_there_for_charges_and_what_is_kept_for_them_is() {
        let budget = Budget::new(TOTAL);
        let strangers = strangers(&budget, 1);
        let account = Arc::new(Tally::default());
        let lease = || {
            let mut buffer = strangers.pool.lease(LEASE_LARGEST_BYTES).unwrap();
            buffer.charge(&strangers.pool.account(&account)).unwrap();
            buffer
        };
        let mut leases: Vec<Buffer> = (0..4).map(|_| lease()).collect();
        let other = Arc::new(Tally::default());
        for _ in 0..3 {
            let mut buffer = strangers.pool.lease(LEASE_LARGEST_BYTES).unwrap();
            buffer.charge(&strangers.pool.account(&other)).unwrap();
            leases.push(buffer);
        }
        let mut charge = charge(&strangers, 0);
        charge.charge(&other).unwrap();
        charge.hold(LEASE_LARGEST_BYTES).unwrap();
        assert_eq!(charge.hold(LEASE_LARGEST_BYTES + 1), Err(Exhausted));
        leases.truncate(6);
        assert_eq!(budget.made_bytes(), TOTAL, "it is kept");
        charge.hold(LEASE_LARGEST_BYTES + 1).unwrap();
        assert_eq!(budget.made_bytes(), TOTAL - LEASE_LARGEST_BYTES + 1, "it gave way");
        drop(leases);
        charge.hold(2 * LEASE_LARGEST_BYTES).unwrap();
    }
}
