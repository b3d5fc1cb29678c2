//! What becomes of parts that are written no more: which are compressed, which are removed.
//!
//! Owns [`Catalogue`], the list of them. Invariants: a part that the next start may need is neither compressed nor removed
//! (the keeper's from the one on in which it told last where the store stands, and what was written in the last ten minutes); what is
//! removed is the oldest that may be; nothing here touches a file.

use crate::audit::name::{Start, StreamName, Who};
use crate::clock::WallTime;
use crate::limits::AUDIT_SETTLED_SECONDS;

/// What an operator wants of old parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Parts whose last line is older than this are removed; 0: none for its age.
    pub retention_seconds: u64,
    /// The oldest parts are removed while all together are longer than this; 0: none for its length.
    pub max_bytes: u64,
    /// Whether parts are compressed.
    pub compress: bool,
}

/// A part that is written no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// When its last line was written.
    pub last: WallTime,
    /// Which it is.
    pub name: StreamName,
    /// How long its file is.
    pub bytes: u64,
    /// Whether it is compressed.
    pub compressed: bool,
}

/// All of them.
#[derive(Clone, Debug)]
pub struct Catalogue {
    /// The start that is running.
    start: Start,
    /// Of what its keeper wrote, the parts from this one on are needed.
    needed_from: u32,
    /// The oldest first.
    parts: Vec<Part>,
}

impl Catalogue {
    /// The parts that `start` found.
    #[must_use]
    pub fn new(start: Start, mut parts: Vec<Part>) -> Self {
        parts.sort_unstable_by_key(order);
        Self { start, needed_from: 0, parts }
    }

    /// Adds a part that was left.
    pub fn add(&mut self, part: Part) {
        let at = self.parts.partition_point(|other| order(other) <= order(&part));
        self.parts.insert(at, part);
    }

    /// Notes that the next start needs nothing that the keeper of this one wrote before this part.
    pub fn need_from(&mut self, part: u32) {
        self.needed_from = part;
    }

    /// Takes a part out.
    pub fn forget(&mut self, name: StreamName) {
        self.parts.retain(|part| part.name != name);
    }

    /// Whether nothing but `name` is left of its stream.
    #[must_use]
    pub fn is_last(&self, name: StreamName) -> bool {
        !self.parts.iter().any(|part| part.name != name && part.name.stream() == name.stream())
    }

    /// Notes that a part was compressed to so many bytes.
    pub fn compressed(&mut self, name: StreamName, bytes: u64) {
        if let Some(part) = self.parts.iter_mut().find(|part| part.name == name) {
            (part.compressed, part.bytes) = (true, bytes);
        }
    }

    /// The part that is to be removed next. `current` is the length of what is being written.
    #[must_use]
    pub fn to_remove(&self, policy: Policy, current: u64, now: WallTime) -> Option<Part> {
        let total = self.parts.iter().fold(current, |total, part| total.saturating_add(part.bytes));
        let too_long = policy.max_bytes > 0 && total > policy.max_bytes;
        let too_old =
            |part: &Part| policy.retention_seconds > 0 && age_seconds(part, now) > policy.retention_seconds;
        let mut free = self.parts.iter().filter(|part| !self.is_protected(part, now));
        free.find(|part| too_long || too_old(part)).copied()
    }

    /// The part that is to be compressed next.
    #[must_use]
    pub fn to_compress(&self, policy: Policy, now: WallTime) -> Option<Part> {
        let wanted = |part: &&Part| !part.compressed && !self.is_protected(part, now);
        self.parts.iter().find(wanted).copied().filter(|_| policy.compress)
    }

    fn is_protected(&self, part: &Part, now: WallTime) -> bool {
        let of_keeper = part.name.start == self.start && part.name.who == Who::Keeper;
        (of_keeper && part.name.part >= self.needed_from) || age_seconds(part, now) < AUDIT_SETTLED_SECONDS
    }
}

fn order(part: &Part) -> (WallTime, StreamName) {
    (part.last, part.name)
}

/// How long ago its last line was written; none for a clock that was set back.
fn age_seconds(part: &Part, now: WallTime) -> u64 {
    now.as_secs().saturating_sub(part.last.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: Start = Start { seconds: 1_000, random: 7 };
    const ALL: Policy = Policy { retention_seconds: 1, max_bytes: 1, compress: true };

    fn at(seconds: u64) -> WallTime {
        WallTime::from_millis(seconds * 1_000)
    }

    fn part(start: Start, who: Who, number: u32, last: u64, bytes: u64) -> Part {
        Part { last: at(last), name: StreamName { start, who, part: number }, bytes, compressed: false }
    }

    fn earlier(number: u32, last: u64, bytes: u64) -> Part {
        part(Start { seconds: 1, random: 7 }, Who::Worker(0), number, last, bytes)
    }

    /// Removes all that is to be removed; returns the numbers of the parts, in order.
    fn removed(catalogue: &mut Catalogue, policy: Policy, current: u64, now: WallTime) -> Vec<u32> {
        let mut numbers = Vec::new();
        while let Some(part) = catalogue.to_remove(policy, current, now) {
            catalogue.forget(part.name);
            numbers.push(part.name.part);
        }
        numbers
    }

    #[test]
    fn the_oldest_parts_are_removed_until_the_rest_is_short_enough() {
        let parts = vec![earlier(3, 300, 10), earlier(1, 100, 10), earlier(2, 200, 10)];
        let policy = Policy { retention_seconds: 0, max_bytes: 25, compress: false };
        for (current, expected) in [(0, vec![1]), (5, vec![1]), (6, vec![1, 2]), (26, vec![1, 2, 3])] {
            let mut catalogue = Catalogue::new(HERE, parts.clone());
            assert_eq!(removed(&mut catalogue, policy, current, at(10_000)), expected, "{current}");
        }
        let mut catalogue = Catalogue::new(HERE, parts);
        assert_eq!(removed(&mut catalogue, Policy { max_bytes: 0, ..policy }, 1_000, at(10_000)), [0; 0]);
    }

    #[test]
    fn parts_that_are_too_old_are_removed_whatever_their_length() {
        let mut catalogue = Catalogue::new(HERE, vec![earlier(1, 1_000, 1)]);
        catalogue.add(earlier(2, 2_000, 1));
        let policy = Policy { retention_seconds: 5_000, max_bytes: 0, compress: false };
        assert_eq!(removed(&mut catalogue, policy, 0, at(6_000)), [0; 0]);
        assert_eq!(removed(&mut catalogue, policy, 0, at(6_001)), [1]);
        assert_eq!(removed(&mut catalogue, policy, 0, at(500)), [0; 0], "a clock that was set back");
    }

    #[test]
    fn what_the_next_start_needs_is_left_alone() {
        let late = at(1_000_000);
        for (kept, free) in [
            (part(HERE, Who::Keeper, 1, 2_000, 9), part(HERE, Who::Worker(0), 1, 2_000, 9)),
            (
                earlier(1, 1_000_000 - AUDIT_SETTLED_SECONDS + 1, 9),
                earlier(1, 1_000_000 - AUDIT_SETTLED_SECONDS, 9),
            ),
        ] {
            let catalogue = Catalogue::new(HERE, vec![kept]);
            assert_eq!(catalogue.to_remove(ALL, 9, late), None, "{kept:?}");
            assert_eq!(catalogue.to_compress(ALL, late), None, "{kept:?}");
            let catalogue = Catalogue::new(HERE, vec![free]);
            assert_eq!(catalogue.to_remove(ALL, 9, late), Some(free));
            assert_eq!(catalogue.to_compress(ALL, late), Some(free));
        }
    }

    #[test]
    fn what_the_keeper_wrote_before_it_told_last_where_the_store_stands_goes_like_any_other() {
        let parts = (1..=4).map(|number| part(HERE, Who::Keeper, number, 2_000 + u64::from(number), 9));
        let mut catalogue = Catalogue::new(HERE, parts.collect());
        let late = at(1_000_000);
        assert_eq!(catalogue.to_remove(ALL, 9, late), None, "nothing was told yet");
        catalogue.need_from(3);
        assert_eq!(catalogue.to_compress(ALL, late).map(|part| part.name.part), Some(1));
        assert_eq!(removed(&mut catalogue, ALL, 9, late), [1, 2]);
        assert_eq!(catalogue.to_compress(ALL, late), None);
        catalogue.need_from(5);
        assert_eq!(removed(&mut catalogue, ALL, 9, late), [3, 4]);
    }

    #[test]
    fn a_part_is_compressed_once_the_oldest_first_and_only_if_wanted() {
        let mut catalogue = Catalogue::new(HERE, vec![earlier(2, 200, 10), earlier(1, 100, 10)]);
        assert_eq!(catalogue.to_compress(Policy { compress: false, ..ALL }, at(10_000)), None);
        for number in [1, 2] {
            let part = catalogue.to_compress(ALL, at(10_000)).unwrap();
            assert_eq!(part.name.part, number);
            catalogue.compressed(part.name, 3);
        }
        assert_eq!(catalogue.to_compress(ALL, at(10_000)), None);
        let policy = Policy { retention_seconds: 0, max_bytes: 6, compress: true };
        assert_eq!(catalogue.to_remove(policy, 0, at(10_000)), None, "short enough since");
    }

    proptest! {
        #[test]
        fn whatever_is_wanted_what_is_protected_stays_and_the_oldest_goes_first(
            parts in proptest::collection::vec((0u64..3, 0u16..4, 1u32..9, 0u64..3_000, 0u64..100), 0..40),
            needed_from in 0u32..9, retention_seconds in 0u64..2_000, max_bytes in 0u64..500, current in 0u64..100, now in 0u64..3_000,
        ) {
            let of = |(seconds, who, number, last, bytes)| {
                let start = Start { seconds: 998 + seconds, random: 7 };
                let who = if who == 3 { Who::Keeper } else { Who::Worker(who) };
                part(start, who, number, last, bytes)
            };
            let mut parts: Vec<Part> = parts.into_iter().map(of).collect();
            parts.sort_unstable_by_key(|part| part.name);
            parts.dedup_by_key(|part| part.name);
            let (policy, now) = (Policy { retention_seconds, max_bytes, compress: true }, at(now));
            let mut catalogue = Catalogue::new(HERE, parts.clone());
            catalogue.need_from(needed_from);
            let needed = |part: &Part| {
                part.name.start == HERE && part.name.who == Who::Keeper && part.name.part >= needed_from
            };
            let mut last = WallTime::default();
            let mut left: u64 = current + parts.iter().map(|part| part.bytes).sum::<u64>();
            while let Some(part) = catalogue.to_remove(policy, current, now) {
                let age = now.as_secs().saturating_sub(part.last.as_secs());
                prop_assert!(!needed(&part));
                prop_assert!(age >= AUDIT_SETTLED_SECONDS);
                let too_old = retention_seconds > 0 && age > retention_seconds;
                prop_assert!(too_old || (max_bytes > 0 && left > max_bytes), "for a reason");
                prop_assert!(part.last >= last, "the oldest first");
                last = part.last;
                left -= part.bytes;
                catalogue.forget(part.name);
            }
            if let Some(part) = catalogue.to_compress(policy, now) {
                prop_assert!(!needed(&part));
                prop_assert!(now.as_secs() - part.last.as_secs() >= AUDIT_SETTLED_SECONDS);
            }
        }
    }
}
