//! Which granules of the key region are taken.
//!
//! Owns a bitmap, and no memory: a slot is a run of 1 to 64 granules inside one word of it. Invariants: no granule is given
//! to two; some are kept for [`Share::Process`], so that a large key ring leaves room for what every request needs.

use crate::limits::{KEY_REGION_GRANULE_BYTES, KEY_SLOT_MAX_BYTES};

/// Bytes that a word of the map stands for: no slot is larger.
const WORD_BYTES: usize = 64 * KEY_REGION_GRANULE_BYTES;

const _: () = assert!(KEY_SLOT_MAX_BYTES == WORD_BYTES);

/// For whom a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// One of many secrets: it may have what is not kept for the others.
    Many,
    /// One of the few states that the process itself needs.
    Process,
}

/// The map.
#[derive(Debug)]
pub(super) struct Slots {
    /// A bit for each granule, set if it is taken.
    taken: Box<[u64]>,
    /// How many words are open to everybody.
    open: usize,
    /// No word before this one has a free granule.
    full_below: usize,
}

impl Slots {
    /// A map of `bytes`, of which none is taken; what is no whole word is left out. A quarter is kept for the process, more of
    /// it if that is little.
    pub(super) fn new(bytes: usize) -> Self {
        let words = bytes / WORD_BYTES;
        let kept = (words / 4).max(8).min(words / 2);
        Self { taken: vec![0; words].into_boxed_slice(), open: words - kept, full_below: 0 }
    }

    /// The same, all of it kept for the process.
    pub(super) fn of_process(bytes: usize) -> Self {
        Self { open: 0, ..Self::new(bytes) }
    }

    /// Takes `len` bytes and returns where they begin; nothing if there is no room, or for no byte at all.
    pub(super) fn take(&mut self, len: usize, share: Share) -> Option<usize> {
        let count = granules(len)?;
        let mut rooms = match share {
            Share::Many => self.full_below..self.open,
            Share::Process => 0..self.taken.len(),
        };
        // Those of the process are taken from the end, where many secrets come last.
        let found = core::iter::from_fn(|| match share {
            Share::Many => rooms.next(),
            Share::Process => rooms.next_back(),
        })
        .find_map(|index| {
            let word = self.taken.get_mut(index)?;
            if index == self.full_below && *word == u64::MAX {
                self.full_below += 1;
            }
            let at = first_run(!*word, count)?;
            *word |= mask(count) << at;
            Some((index, at))
        });
        found.map(|(index, at)| index * WORD_BYTES + at as usize * KEY_REGION_GRANULE_BYTES)
    }

    /// Gives back what [`Slots::take`] gave for `len` at `offset`.
    pub(super) fn give_back(&mut self, offset: usize, len: usize) {
        let index = offset / WORD_BYTES;
        let at = offset % WORD_BYTES / KEY_REGION_GRANULE_BYTES;
        if let (Some(word), Some(count)) = (self.taken.get_mut(index), granules(len)) {
            *word &= !(mask(count) << at);
            self.full_below = self.full_below.min(index);
        }
    }
}

/// How many granules hold `len` bytes; nothing if that is none, or more than a word has.
fn granules(len: usize) -> Option<u32> {
    let count = u32::try_from(len.div_ceil(KEY_REGION_GRANULE_BYTES)).ok()?;
    (1..=u64::BITS).contains(&count).then_some(count)
}

const fn mask(count: u32) -> u64 {
    u64::MAX >> (u64::BITS - count)
}

/// Where the first `count` set bits in a row begin.
fn first_run(free: u64, count: u32) -> Option<u32> {
    let starts = (1..count).fold(free, |runs, _| runs & (runs >> 1));
    (starts != 0).then(|| starts.trailing_zeros())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn slots_never_overlap_and_all_come_back() {
        let mut slots = Slots::new(8 * WORD_BYTES);
        let mut held: BTreeMap<usize, usize> = BTreeMap::new();
        let mut state = 1u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = (state >> 33) as usize;
            if draw.is_multiple_of(3) {
                let picked = held.keys().nth(draw % held.len().max(1)).copied();
                if let Some((offset, len)) = picked.and_then(|offset| held.remove_entry(&offset)) {
                    slots.give_back(offset, len);
                }
                continue;
            }
            let len = 1 + draw % KEY_SLOT_MAX_BYTES;
            let share = if draw.is_multiple_of(5) { Share::Process } else { Share::Many };
            let Some(offset) = slots.take(len, share) else { continue };
            assert!(offset + len <= 8 * WORD_BYTES);
            assert!(held.range(..offset).next_back().is_none_or(|(at, len)| at + len <= offset));
            assert!(held.range(offset..).next().is_none_or(|(at, _)| offset + len <= *at));
            held.insert(offset, len);
        }
        for (offset, len) in held {
            slots.give_back(offset, len);
        }
        assert!(slots.taken.iter().all(|word| *word == 0));
    }

    #[test]
    fn many_secrets_leave_what_is_kept() {
        for (words, open) in [(2, 1), (4, 2), (16, 8), (64, 48)] {
            let mut slots = Slots::new(words * WORD_BYTES);
            let taken = (0..).take_while(|_| slots.take(32, Share::Many).is_some()).count();
            assert_eq!(taken, open * 64, "{words}");
            for word in (open..words).rev() {
                assert_eq!(slots.take(KEY_SLOT_MAX_BYTES, Share::Process), Some(word * WORD_BYTES));
            }
            assert_eq!(slots.take(1, Share::Process), None);
            slots.give_back(64, 32);
            assert_eq!(slots.take(32, Share::Many), Some(64));
        }
        let mut slots = Slots::of_process(4 * WORD_BYTES);
        assert_eq!(slots.take(32, Share::Many), None);
        assert_eq!(slots.take(32, Share::Process), Some(3 * WORD_BYTES));
    }

    #[test]
    fn nothing_and_too_much_have_no_slot() {
        let mut slots = Slots::new(4 * WORD_BYTES);
        assert_eq!(slots.take(0, Share::Process), None);
        assert_eq!(slots.take(KEY_SLOT_MAX_BYTES + 1, Share::Process), None);
        assert_eq!(Slots::new(WORD_BYTES - 1).take(1, Share::Process), None);
    }
}
