//! What the threads that speak to etcd know of one another.
//!
//! Owns [`Board`]. Invariants: nobody waits for the network with the lock in hand; what is told is dropped as a whole rather than
//! growing beyond its bound, and so is a transaction that is longer than any of this program; a watch that was told of a revision that a
//! majority has not reached is given up; news of an earlier wish are never told as those of a later one.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::clock::Moment;
use crate::limits::{
    BROKER_NEWS_BYTES, BROKER_PAIR_OVERHEAD_BYTES, ETCD_NEWS_MAX_BYTES, ETCD_TRANSACTION_MAX_BYTES,
};
use crate::store::etcd::link::{Event, Member, News, Pulse};

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) from: Vec<u8>,
    pub(super) to: Vec<u8>,
    pub(super) head: Vec<u8>,
}

/// The shared state.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) wish: Option<Wish>,
    /// Counts wishes: who works for an earlier one stops.
    pub(super) number: u64,
    /// From which revision on the watch has to go on.
    pub(super) next: u64,
    pub(super) member: Option<Member>,
    pub(super) away: bool,
    /// Everybody leaves.
    pub(super) ended: bool,
    /// Whether the watch is to be begun anew elsewhere, since it lags.
    pub(super) lags: bool,
    /// Whether there is anything to be watched: not behind a gap.
    pub(super) watches: bool,
    events: VecDeque<Event>,
    bytes: usize,
    /// The transaction that was told last, by its revision, and what its events weigh so far.
    newest: (u64, usize),
    gap: bool,
    pulse: Option<Pulse>,
}

/// The board.
pub(super) struct Board {
    facts: Mutex<Facts>,
    changed: Condvar,
    /// Wakes whoever takes the news.
    ring: Box<dyn Fn() + Send + Sync>,
}

impl Board {
    pub(super) fn new(ring: Box<dyn Fn() + Send + Sync>) -> Arc<Self> {
        Arc::new(Self { facts: Mutex::default(), changed: Condvar::new(), ring })
    }

    pub(super) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something that others wait for.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Facts) -> R) -> R {
        let changed = change(&mut self.facts());
        self.changed.notify_all();
        changed
    }

    /// Waits until `what` is so, or `until`; whether it is.
    pub(super) fn wait(&self, until: Moment, what: impl Fn(&Facts) -> bool) -> bool {
        let mut facts = self.facts();
        loop {
            if what(&facts) {
                return true;
            }
            let left = Moment::now().until(until);
            if left.is_zero() {
                return false;
            }
            facts = self
                .changed
                .wait_timeout(facts, left)
                .map_or_else(|held| held.into_inner().0, |(held, _)| held);
        }
    }

    /// Begins anew: nothing of before is told.
    pub(super) fn follow(&self, wish: Wish, at: u64) {
        self.change(|facts| {
            facts.number += 1;
            facts.wish = Some(wish);
            facts.next = at;
            facts.clear();
            (facts.gap, facts.pulse, facts.lags, facts.watches) = (false, None, false, true);
        });
    }

    /// Tells of `events`, unless they are for an earlier wish than `number`; whether that still counts.
    pub(super) fn tell(&self, number: u64, events: Vec<Event>, progress: u64) -> bool {
        let (mut rings, mut is_too_long) = (false, false);
        let counts = self.change(|facts| {
            if facts.number != number {
                return false;
            }
            facts.next = facts.next.max(progress.saturating_add(1));
            for event in events {
                facts.next = facts.next.max(event.revision.saturating_add(1));
                let weight = weight(&event);
                let before = if facts.newest.0 == event.revision { facts.newest.1 } else { 0 };
                facts.newest = (event.revision, before + weight);
                is_too_long |= facts.newest.1 > ETCD_TRANSACTION_MAX_BYTES;
                facts.bytes += weight;
                facts.events.push_back(event);
                rings = true;
            }
            if is_too_long || facts.bytes > ETCD_NEWS_MAX_BYTES {
                facts.clear();
                (facts.gap, facts.watches) = (true, false);
            }
            true
        });
        if rings {
            (self.ring)();
        }
        counts
    }

    /// Something is missing for good.
    pub(super) fn tell_gap(&self, number: u64) {
        self.change(|facts| {
            if facts.number == number {
                facts.clear();
                (facts.gap, facts.watches) = (true, false);
            }
        });
        (self.ring)();
    }

    /// Tells what a pulse found.
    pub(super) fn tell_pulse(&self, number: u64, pulse: Pulse) {
        self.change(|facts| {
            if facts.number == number {
                facts.pulse = Some(pulse);
            }
            facts.away = false;
        });
    }

    /// What has come since this was called last.
    pub(super) fn take(&self) -> News {
        let mut facts = self.facts();
        let mut events = Vec::new();
        let mut bytes = 0;
        let mut last = None;
        // The last transaction is not cut in two, so that who takes it has to hold nothing back.
        while let Some(event) = facts.events.front() {
            if bytes > BROKER_NEWS_BYTES && last != Some(event.revision) {
                break;
            }
            last = Some(event.revision);
            bytes += weight(event);
            events.extend(facts.events.pop_front());
        }
        facts.bytes = facts.bytes.saturating_sub(bytes);
        News {
            events,
            more: !facts.events.is_empty(),
            gap: core::mem::take(&mut facts.gap),
            // It is about all that was told before it.
            pulse: if facts.events.is_empty() { facts.pulse.take() } else { None },
            away: facts.away,
        }
    }
}

fn weight(event: &Event) -> usize {
    event.key.len() + event.value.as_ref().map_or(0, Vec::len) + BROKER_PAIR_OVERHEAD_BYTES
}

impl Facts {
    fn clear(&mut self) {
        self.events = VecDeque::new();
        self.bytes = 0;
        self.newest = (0, 0);
    }

    /// Whether something of `revision` has come, or nothing will.
    pub(super) const fn has_reached(&self, revision: u64) -> bool {
        self.next > revision || self.gap || self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Arc<Board> {
        let board = Board::new(Box::new(|| {}));
        board.follow(Wish { from: b"a".to_vec(), to: b"b".to_vec(), head: b"ah".to_vec() }, 5);
        board
    }

    fn event(revision: u64, bytes: usize) -> Event {
        Event { key: b"ar".to_vec(), value: Some(vec![0; bytes]), revision }
    }

    #[test]
    fn a_transaction_that_is_longer_than_any_is_a_gap_and_what_is_told_at_a_time_fits_a_frame() {
        let board = board();
        let many = |revision| (0..100).map(|_| event(revision, 10 * 1024)).collect::<Vec<_>>();
        for revision in 5..10 {
            assert!(board.tell(1, many(revision), 0));
        }
        let mut taken = Vec::new();
        loop {
            let news = board.take();
            let bytes: usize = news.events.iter().map(weight).sum();
            assert!(bytes <= BROKER_NEWS_BYTES + ETCD_TRANSACTION_MAX_BYTES && !news.gap);
            taken.extend(news.events);
            if !news.more {
                break;
            }
        }
        assert_eq!(taken.len(), 500);
        // One revision, told in many messages.
        for _ in 0..3 {
            assert!(board.tell(1, many(10), 0));
        }
        let news = board.take();
        assert!(news.gap && news.events.is_empty() && !board.facts().watches);
    }

    #[test]
    fn a_pulse_comes_with_the_last_of_what_was_told_before_it() {
        let board = board();
        board.tell(1, (5..8).map(|revision| event(revision, BROKER_NEWS_BYTES)).collect(), 0);
        board.tell_pulse(1, Pulse { head: 7, ..Pulse::default() });
        let mut rounds = Vec::new();
        loop {
            let news = board.take();
            rounds.push(news.pulse.is_some());
            if !news.more {
                break;
            }
        }
        assert_eq!(rounds, [false, false, true]);
    }
}
