//! The timer wheel: one deadline for each task, kept to the width of a slot.
//!
//! Owns the slots and the links between tasks in them. Invariants: a task stands in at most one slot; a task fires
//! never before its deadline and at most one slot after it; arming, cancelling and firing cost O(1). A deadline
//! that moves to a later time (the common case: another request on a kept-alive connection) touches no link: the
//! task stays where it is and is moved on when its old slot comes round.

use crate::clock::Moment;
use crate::limits::{TIMER_SLOT_MILLIS, TIMER_SLOTS_COUNT};

const NOWHERE: u32 = u32::MAX;
const SLOT_NANOS: u64 = TIMER_SLOT_MILLIS * 1_000_000;
const WORDS: usize = TIMER_SLOTS_COUNT / 64;

/// Deadlines of tasks, by slot.
#[derive(Debug)]
pub struct Wheel {
    heads: Vec<u32>,
    occupied: [u64; WORDS],
    nodes: Vec<Node>,
    /// The last tick that was expired.
    reached: u64,
    armed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    previous: u32,
    next: u32,
    slot: u32,
    /// The tick at which the task is due.
    due: u64,
    /// The tick for which it was linked: never later than `due`.
    linked: u64,
}

const UNLINKED: Node = Node { previous: NOWHERE, next: NOWHERE, slot: NOWHERE, due: 0, linked: 0 };

impl Wheel {
    /// An empty wheel that starts at `now`.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        Self {
            heads: vec![NOWHERE; TIMER_SLOTS_COUNT],
            occupied: [0; WORDS],
            nodes: Vec::new(),
            reached: now.as_nanos() / SLOT_NANOS,
            armed: 0,
        }
    }

    /// Sets the deadline of `task`, in place of any earlier one; [`Moment::NEVER`] clears it.
    pub fn arm(&mut self, task: u32, deadline: Moment) {
        if deadline == Moment::NEVER {
            self.cancel(task);
            return;
        }
        let index = task as usize;
        if index >= self.nodes.len() {
            self.nodes.resize(index + 1, UNLINKED);
        }
        let due = deadline.as_nanos().div_ceil(SLOT_NANOS).max(self.reached + 1);
        let Some(node) = self.nodes.get_mut(index) else { return };
        node.due = due;
        if node.slot != NOWHERE {
            if node.linked <= due {
                return;
            }
            self.unlink(task);
        }
        self.link(task, due);
    }

    /// Clears the deadline of `task`, if it has one.
    pub fn cancel(&mut self, task: u32) {
        if self.nodes.get(task as usize).is_some_and(|node| node.slot != NOWHERE) {
            self.unlink(task);
        }
    }

    /// Moves on to `now` and appends the tasks that are due to `fired`.
    pub fn expire(&mut self, now: Moment, fired: &mut Vec<u32>) {
        let target = now.as_nanos() / SLOT_NANOS;
        if target <= self.reached {
            return;
        }
        // After a long pause every slot is visited once: none is visited twice for the same look.
        let steps = (target - self.reached).min(TIMER_SLOTS_COUNT as u64);
        let first = target - steps + 1;
        self.reached = target;
        for tick in first..=target {
            self.expire_slot(slot_of(tick), target, fired);
        }
    }

    /// The moment at which [`expire`](Self::expire) has something to look at next.
    #[must_use]
    pub fn next(&self) -> Option<Moment> {
        if self.armed == 0 {
            return None;
        }
        let from = self.reached + 1;
        let start = slot_of(from) as usize;
        let distance = (0..=WORDS).find_map(|step| {
            let word_index = (start / 64 + step) % WORDS;
            let mut word = self.occupied.get(word_index).copied()?;
            if step == 0 {
                word &= u64::MAX << (start % 64);
            }
            let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
            Some((word_index * 64 + bit + TIMER_SLOTS_COUNT - start) % TIMER_SLOTS_COUNT)
        })?;
        Some(Moment::from_nanos((from + distance as u64).saturating_mul(SLOT_NANOS)))
    }

    fn expire_slot(&mut self, slot: u32, target: u64, fired: &mut Vec<u32>) {
        let mut task = self.heads.get(slot as usize).copied().unwrap_or(NOWHERE);
        while task != NOWHERE {
            let Some(node) = self.nodes.get(task as usize).copied() else { return };
            if node.due <= target {
                self.unlink(task);
                fired.push(task);
            } else if node.linked <= target {
                self.unlink(task);
                self.link(task, node.due);
            }
            task = node.next;
        }
    }

    fn link(&mut self, task: u32, due: u64) {
        let slot = slot_of(due);
        let Some(head) = self.heads.get_mut(slot as usize) else { return };
        let next = core::mem::replace(head, task);
        if let Some(node) = self.nodes.get_mut(task as usize) {
            *node = Node { previous: NOWHERE, next, slot, due, linked: due };
        }
        if let Some(after) = self.nodes.get_mut(next as usize) {
            after.previous = task;
        }
        if let Some(word) = self.occupied.get_mut(slot as usize / 64) {
            *word |= 1 << (slot % 64);
        }
        self.armed += 1;
    }

    fn unlink(&mut self, task: u32) {
        let Some(node) = self.nodes.get_mut(task as usize) else { return };
        let Node { previous, next, slot, .. } = *node;
        node.slot = NOWHERE;
        if let Some(before) = self.nodes.get_mut(previous as usize) {
            before.next = next;
        } else if let Some(head) = self.heads.get_mut(slot as usize) {
            *head = next;
            if next == NOWHERE
                && let Some(word) = self.occupied.get_mut(slot as usize / 64)
            {
                *word &= !(1 << (slot % 64));
            }
        }
        if let Some(after) = self.nodes.get_mut(next as usize) {
            after.previous = previous;
        }
        self.armed -= 1;
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the remainder is below the number of slots")]
const fn slot_of(tick: u64) -> u32 {
    (tick % TIMER_SLOTS_COUNT as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Moment {
        Moment::default().plus_millis(millis)
    }

    fn fired(wheel: &mut Wheel, millis: u64) -> Vec<u32> {
        let mut out = Vec::new();
        wheel.expire(at(millis), &mut out);
        out.sort_unstable();
        out
    }

    #[test]
    fn a_task_fires_once_and_not_before_its_deadline() {
        let mut wheel = Wheel::new(at(0));
        wheel.arm(3, at(100));
        assert_eq!(fired(&mut wheel, 99), [0u32; 0]);
        assert_eq!(fired(&mut wheel, 100 + TIMER_SLOT_MILLIS), [3]);
        assert_eq!(fired(&mut wheel, 10_000), [0u32; 0]);
        assert_eq!(wheel.next(), None);
    }

    #[test]
    fn a_deadline_moved_later_is_honoured_and_moved_earlier_too() {
        let mut wheel = Wheel::new(at(0));
        wheel.arm(0, at(200));
        wheel.arm(0, at(2_000));
        assert_eq!(fired(&mut wheel, 1_900), [0u32; 0]);
        wheel.arm(0, at(1_950));
        assert_eq!(fired(&mut wheel, 1_950 + TIMER_SLOT_MILLIS), [0]);
    }

    #[test]
    fn a_deadline_beyond_one_round_waits_for_its_own_round() {
        let mut wheel = Wheel::new(at(0));
        let round = TIMER_SLOT_MILLIS * TIMER_SLOTS_COUNT as u64;
        wheel.arm(1, at(round + 500));
        assert_eq!(fired(&mut wheel, 600), [0u32; 0]);
        assert_eq!(fired(&mut wheel, round), [0u32; 0]);
        assert_eq!(fired(&mut wheel, round + 500 + TIMER_SLOT_MILLIS), [1]);
    }

    #[test]
    fn a_cancelled_deadline_does_not_fire() {
        let mut wheel = Wheel::new(at(0));
        wheel.arm(7, at(100));
        wheel.arm(8, at(100));
        wheel.cancel(7);
        wheel.cancel(7);
        assert_eq!(fired(&mut wheel, 1_000), [8]);
    }

    proptest! {
        #[test]
        fn agrees_with_a_sorted_list(ops in proptest::collection::vec((0u32..20, 0u64..200_000, 0u64..3_000), 1..200)) {
            let mut wheel = Wheel::new(at(0));
            let mut model = std::collections::BTreeMap::new();
            let mut now = 0;
            for (task, ahead, step) in ops {
                if ahead % 7 == 0 {
                    wheel.cancel(task);
                    model.remove(&task);
                } else {
                    wheel.arm(task, at(now + ahead));
                    model.insert(task, now + ahead);
                }
                if let Some(next) = wheel.next() {
                    let earliest = model.values().min().copied().unwrap_or(u64::MAX);
                    prop_assert!(next <= at(earliest.max(now) + 2 * TIMER_SLOT_MILLIS), "never sleeps past a deadline");
                } else {
                    prop_assert!(model.is_empty());
                }
                now += step;
                for task in fired(&mut wheel, now) {
                    let due = model.remove(&task);
                    prop_assert!(due.is_some_and(|due| due <= now), "{task} fired at {now}, due {due:?}");
                }
                let late = model.values().filter(|due| **due + 2 * TIMER_SLOT_MILLIS < now).count();
                prop_assert_eq!(late, 0);
            }
        }
    }
}
