//! The last audit lines of the running server, in memory, for those who may read them.
//!
//! ```text
//!   block │ block │ block │ ... │ block     each of one size, in the order of their lines
//!   oldest line held ─▶                  ◀─ newest line
//! ```
//!
//! Owns [`Recent`], [`Place`] and the count of those who follow it. Invariants: a line gets the next number of one sequence for
//! all streams, from 1, and keeps it; only lines that are with the kernel come here, in the order of their commits; memory is
//! asked for once, with the first line, and touched block by block; what is dropped are the oldest lines; nobody holds the lock for longer than a
//! bounded number of lines.

use core::ops::Range;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::limits::{
    AUDIT_FOLLOWERS_MAX_COUNT, AUDIT_RECENT_BLOCK_BYTES, AUDIT_RECENT_BYTES, AUDIT_RECENT_LOOK_COUNT,
};

/// What a reader does with a line and its number. `false`: it did not take it, and wants no more now.
pub type Take<'a> = dyn FnMut(u64, &[u8]) -> bool + 'a;

/// The last lines of all streams.
#[derive(Debug)]
pub struct Recent {
    start: Box<str>,
    ring: Mutex<Ring>,
    followers: AtomicUsize,
}

/// The name of a line: the start of the server that wrote it, and its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The start.
    pub start: &'a str,
    /// The number; 0 stands before the first line.
    pub number: u64,
}

/// One of those who follow the lines; ceases to be counted when it is dropped.
#[derive(Debug)]
pub struct Follower(Arc<Recent>);

#[derive(Debug)]
struct Ring {
    /// As many blocks as were begun. Its capacity is that of all, from the first line on.
    bytes: Vec<u8>,
    blocks: VecDeque<Block>,
    /// The number of the next line.
    next: u64,
}

/// Whole lines, one behind the other.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// Where it stands in memory.
    at: usize,
    len: usize,
    /// The number of its first line.
    first: u64,
    lines: usize,
}

impl Recent {
    /// Room for the lines of this start of the server.
    #[must_use]
    pub fn new(start: &str) -> Arc<Self> {
        let ring = Ring { bytes: Vec::new(), blocks: VecDeque::new(), next: 1 };
        Arc::new(Self { start: start.into(), ring: Mutex::new(ring), followers: AtomicUsize::new(0) })
    }

    /// Takes whole lines that are with the kernel.
    pub fn append(&self, lines: &[u8]) {
        let mut ring = self.lock();
        let mut rest = lines;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, behind) = rest.split_at_checked(end + 1).unwrap_or_default();
            ring.push(line);
            rest = behind;
        }
    }

    /// The numbers of the lines that are held.
    #[must_use]
    pub fn held(&self) -> Range<u64> {
        let ring = self.lock();
        ring.oldest()..ring.next
    }

    /// Shows lines from the number `from` on, oldest first, or from the oldest that is held.
    ///
    /// Returns the number of the first line that was looked at, and that of the next one to be looked at.
    pub fn forward(&self, from: u64, take: &mut Take<'_>) -> Range<u64> {
        let ring = self.lock();
        let first = from.max(ring.oldest());
        let (mut next, mut left) = (first, AUDIT_RECENT_LOOK_COUNT);
        for block in &ring.blocks {
            if next >= block.end() {
                continue;
            }
            let mut rest = ring.lines(block, next..block.end());
            while let Some(end) = memchr::memchr(b'\n', rest) {
                if left == 0 || !take(next, rest.get(..end).unwrap_or_default()) {
                    return first..next;
                }
                rest = rest.get(end + 1..).unwrap_or_default();
                (next, left) = (next + 1, left - 1);
            }
        }
        first..next
    }

    /// Shows lines before the number `before`, newest first.
    ///
    /// Returns the number of the last line that was looked at: what is older stands before it.
    pub fn backward(&self, before: u64, take: &mut Take<'_>) -> u64 {
        let ring = self.lock();
        let (mut reached, mut left) = (before.min(ring.next), AUDIT_RECENT_LOOK_COUNT);
        for block in ring.blocks.iter().rev() {
            if reached <= block.first {
                continue;
            }
            let mut rest = ring.lines(block, block.first..reached);
            while let Some((_, lines)) = rest.split_last() {
                let start = memchr::memrchr(b'\n', lines).map_or(0, |end| end + 1);
                if left == 0 || !take(reached - 1, lines.get(start..).unwrap_or_default()) {
                    return reached;
                }
                rest = rest.get(..start).unwrap_or_default();
                (reached, left) = (reached - 1, left - 1);
            }
        }
        reached
    }

    /// Counts one more who follows the lines, if there are not too many already.
    #[must_use]
    pub fn follow(self: &Arc<Self>) -> Option<Follower> {
        let more = |count: usize| Some(count + 1).filter(|count| *count <= AUDIT_FOLLOWERS_MAX_COUNT);
        let counted = self.followers.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        counted.ok().map(|_| Follower(Arc::clone(self)))
    }

    /// The name of the line with this number.
    #[must_use]
    pub fn place(&self, number: u64) -> Place<'_> {
        Place { start: &self.start, number }
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn oldest(&self) -> u64 {
        self.blocks.front().map_or(self.next, |block| block.first)
    }

    /// The bytes of these lines of a block.
    fn lines(&self, block: &Block, numbers: Range<u64>) -> &[u8] {
        let bytes = self.bytes.get(block.at..block.at + block.len).unwrap_or_default();
        let ends = |lines: u64| {
            let lines = usize::try_from(lines).unwrap_or(usize::MAX);
            lines
                .checked_sub(1)
                .map_or(Some(0), |last| memchr::memchr_iter(b'\n', bytes).nth(last).map(|end| end + 1))
        };
        let from = ends(numbers.start.saturating_sub(block.first)).unwrap_or(bytes.len());
        // All of them, mostly: then nothing is counted.
        let to =
            if numbers.end >= block.end() { None } else { ends(numbers.end.saturating_sub(block.first)) };
        bytes.get(from..to.unwrap_or(bytes.len())).unwrap_or_default()
    }

    /// Takes one line, with its line feed.
    fn push(&mut self, line: &[u8]) {
        if line.len() > AUDIT_RECENT_BLOCK_BYTES {
            return;
        }
        if self.bytes.is_empty() {
            // Memory that nobody has written to costs nothing yet, so that it is not filled with zeros here.
            self.bytes.reserve_exact(AUDIT_RECENT_BYTES);
            self.blocks.reserve_exact(AUDIT_RECENT_BYTES / AUDIT_RECENT_BLOCK_BYTES);
        }
        if self.blocks.back().is_none_or(|block| block.len + line.len() > AUDIT_RECENT_BLOCK_BYTES) {
            self.open_block();
        }
        let Some(block) = self.blocks.back_mut() else { return };
        let from = block.at + block.len;
        if let Some(target) = self.bytes.get_mut(from..from + line.len()) {
            target.copy_from_slice(line);
            block.len += line.len();
            block.lines += 1;
            self.next += 1;
        }
    }

    /// Begins a block, in the place of the oldest one if there is no other.
    fn open_block(&mut self) {
        let end = self.bytes.len();
        let oldest = if end < AUDIT_RECENT_BYTES { None } else { self.blocks.pop_front() };
        let at = oldest.map_or(end, |oldest| oldest.at);
        self.bytes.resize(end.max(at + AUDIT_RECENT_BLOCK_BYTES), 0);
        self.blocks.push_back(Block { at, len: 0, first: self.next, lines: 0 });
    }
}

impl Block {
    /// The number behind that of its last line.
    const fn end(&self) -> u64 {
        self.first + self.lines as u64
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<'a> Place<'a> {
    /// Reads what [`Display`](core::fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let (start, number) = text.rsplit_once('-')?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let canonical = number == "0" || !number.starts_with('0');
        let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        let right = !start.is_empty() && start.bytes().all(plain) && canonical && digits;
        Some(Self { start, number: number.parse().ok().filter(|_| right)? })
    }
}

impl core::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}-{}", self.start, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn forward(recent: &Recent, from: u64) -> Vec<(u64, Vec<u8>)> {
        let (mut seen, mut at) = (Vec::new(), from);
        while at < recent.held().end {
            let looked = recent.forward(at, &mut |number, line| {
                seen.push((number, line.to_vec()));
                true
            });
            assert!(looked.end - looked.start <= AUDIT_RECENT_LOOK_COUNT as u64);
            at = looked.end;
        }
        seen
    }

    fn backward(recent: &Recent, before: u64) -> Vec<(u64, Vec<u8>)> {
        let (mut seen, mut at) = (Vec::new(), before);
        while at > recent.held().start {
            let reached = recent.backward(at, &mut |number, line| {
                seen.push((number, line.to_vec()));
                true
            });
            assert!(at.min(recent.held().end) - reached <= AUDIT_RECENT_LOOK_COUNT as u64);
            at = reached;
        }
        seen
    }

    #[test]
    fn nothing_is_held_and_no_memory_taken_before_the_first_line() {
        let recent = Recent::new("s");
        assert_eq!(recent.held(), 1..1);
        assert!(forward(&recent, 0).is_empty() && backward(&recent, 9).is_empty());
        assert_eq!(recent.lock().bytes.capacity(), 0);
        recent.append(b"");
        recent.append(b"not whole");
        assert_eq!(recent.held(), 1..1);
        recent.append(b"a\nb\nc");
        let held = [(1, b"a".to_vec()), (2, b"b".to_vec())];
        assert_eq!(forward(&recent, 0), held);
        let ring = recent.lock();
        let memory = (ring.bytes.len(), ring.bytes.capacity());
        assert_eq!(memory, (AUDIT_RECENT_BLOCK_BYTES, AUDIT_RECENT_BYTES), "only what is used is touched");
    }

    #[test]
    fn a_reader_that_takes_no_more_goes_on_where_it_stopped() {
        let recent = Recent::new("s");
        recent.append(b"a\nb\nc\n");
        let mut seen = Vec::new();
        let looked = recent.forward(1, &mut |number, _| {
            seen.push(number);
            number < 2
        });
        assert_eq!((looked, seen.as_slice()), (1..2, &[1, 2][..]));
        assert_eq!(recent.backward(4, &mut |number, _| number > 2), 3);
        assert_eq!(recent.forward(4, &mut |_, _| true), 4..4);
    }

    #[test]
    fn followers_are_counted_until_they_leave() {
        let recent = Recent::new("s");
        let mut followers: Vec<_> =
            (0..AUDIT_FOLLOWERS_MAX_COUNT).map(|_| recent.follow().unwrap()).collect();
        assert!(recent.follow().is_none());
        followers.pop();
        assert!(recent.follow().is_some());
    }

    #[test]
    fn places_are_read_in_one_form_only() {
        let recent = Recent::new("6921f3a2-0a1b2c3d");
        let text = recent.place(u64::MAX).to_string();
        assert_eq!(Place::parse(&text), Some(recent.place(u64::MAX)));
        assert_eq!(Place::parse("a-0"), Some(Place { start: "a", number: 0 }));
        for bad in
            ["", "-", "a-", "-1", "a", "a-01", "a-+1", "a--1\n", "a\"-1", "a-18446744073709551616", "a-1 "]
        {
            assert_eq!(Place::parse(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

        #[test]
        fn it_holds_the_newest_lines_as_a_list_would(
            turns in proptest::collection::vec((1usize..60, 1usize..1_000), 1..400),
            places in proptest::collection::vec(any::<prop::sample::Index>(), 8),
        ) {
            let recent = Recent::new("s");
            let mut model: Vec<Vec<u8>> = Vec::new();
            for (lines, len) in turns {
                let first = model.len();
                model.extend((first..first + lines).map(|number| format!("{number:0len$}").into_bytes()));
                let turn: Vec<u8> = model[first..].iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
                recent.append(&turn);
            }
            let held = recent.held();
            let total: usize = model.iter().map(|line| line.len() + 1).sum();
            prop_assert_eq!(held.end, model.len() as u64 + 1);
            let dropped = usize::try_from(held.start - 1).unwrap();
            let kept: usize = model[dropped..].iter().map(|line| line.len() + 1).sum();
            prop_assert!(kept <= AUDIT_RECENT_BYTES);
            // Each block may lack the length of a line, and the newest may be almost empty.
            let least = AUDIT_RECENT_BYTES - AUDIT_RECENT_BLOCK_BYTES - 64 * 1_000;
            prop_assert!(held.start == 1 || kept >= least, "{} of {}", kept, total);
            let list: Vec<(u64, Vec<u8>)> = (1..).zip(model).skip(dropped).collect();
            for place in places {
                let at = place.index(list.len() + 1);
                let number = held.start + at as u64;
                prop_assert_eq!(forward(&recent, number), &list[at..]);
                let older: Vec<_> = list[..at].iter().rev().cloned().collect();
                prop_assert_eq!(backward(&recent, number), older);
            }
            prop_assert_eq!(forward(&recent, 0), list);
        }
    }
}
