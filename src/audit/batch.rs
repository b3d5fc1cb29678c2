//! The lines of one turn, and what a failed write leaves behind.
//!
//! Owns the numbering of a stream and the bytes that are still to be written. Invariants: what is handed out by
//! [`Batch::pending`] begins where the file ends, so a line that a short write has torn is finished before any other
//! byte; after a failure the numbers of the failed turn are named by a gap record; each line is chained to the one that
//! stands before it in the file, or will once that is finished; the buffer does not grow beyond its bound.

use crate::audit::chain::{self, Chain, LineMac};
use crate::audit::line::{self, Event};
use crate::clock::WallTime;
use crate::limits::{AUDIT_BUFFER_BYTES, AUDIT_LINE_MAX_BYTES};

/// The audit lines of a worker that are not yet with the kernel.
#[derive(Debug)]
pub struct Batch {
    stream: Box<str>,
    chain: Chain,
    /// The mac of the last line that stands in the file when this turn begins, or will once it is finished.
    settled: LineMac,
    next: u64,
    /// As long as its bound, filled up to `len`.
    bytes: Box<[u8]>,
    len: usize,
    /// The number of the first line of this turn.
    turn_first: u64,
    /// Numbers whose requests were refused because of a failed write and that no gap record names yet.
    gap: Option<(u64, u64)>,
    /// Whether the last write failed.
    broken: bool,
    /// Whether a line found no room.
    lost: bool,
    /// How many bytes at the front are left of a torn line.
    torn: usize,
    /// How many lines this turn has, and how many of them are gap records.
    counts: (u64, u64),
}

impl Batch {
    /// The first batch of a stream that nobody has used before, whose chain this is.
    #[must_use]
    pub fn new(stream: &str, chain: Chain) -> Self {
        let bytes = vec![0; AUDIT_BUFFER_BYTES].into_boxed_slice();
        Self {
            stream: stream.into(),
            settled: chain.prev(),
            chain,
            next: 1,
            bytes,
            len: 0,
            turn_first: 1,
            gap: None,
            broken: false,
            lost: false,
            torn: 0,
            counts: (0, 0),
        }
    }

    /// Whether one more request can be told of in this turn, with all the lines it may need.
    #[must_use]
    pub fn has_room(&self) -> bool {
        // An attempt, its outcome and a gap record.
        self.len + 3 * AUDIT_LINE_MAX_BYTES <= self.bytes.len()
    }

    /// Appends the line of `event`.
    pub fn append(&mut self, event: &Event<'_>) {
        self.close_gap(event.at);
        let written =
            self.room().and_then(|(room, stream, chain, next)| line::write(room, stream, next, event, chain));
        self.count(written);
    }

    /// Whether there is something to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0 && self.gap.is_none()
    }

    /// Whether a failure has not been made good yet.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether the file ends inside a line, whose rest must go there and nowhere else.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.torn > 0
    }

    /// What is to be written, with the record of an earlier failure in it.
    pub fn pending(&mut self, now: WallTime) -> &[u8] {
        self.close_gap(now);
        self.filled()
    }

    /// The whole lines of what is pending: without the rest of one that was torn, whose request was refused.
    #[must_use]
    pub fn lines(&self) -> &[u8] {
        self.filled().get(self.torn..).unwrap_or_default()
    }

    /// How many lines this turn has, and how many of them are gap records.
    #[must_use]
    pub const fn counts(&self) -> (u64, u64) {
        self.counts
    }

    /// Notes that everything was written.
    pub fn written(&mut self) {
        self.counts = (0, 0);
        self.len = 0;
        self.broken = false;
        self.torn = 0;
        self.turn_first = self.next;
        if self.settled != self.chain.prev() {
            self.settled = self.chain.prev();
            self.chain.tell(self.next.saturating_sub(1));
        }
    }

    /// Notes that only `count` bytes were written and the rest was refused.
    ///
    /// The lines of this turn are dropped, since their requests are answered with a refusal; only the rest of a line
    /// that was torn stays, because the file must not go on in the middle of it.
    pub fn failed(&mut self, count: usize) {
        let count = count.min(self.len);
        self.broken = true;
        self.counts = (0, 0);
        let torn_end = if count < self.torn {
            self.torn
        } else {
            let (written, rest) = self.filled().split_at_checked(count).unwrap_or_default();
            let begun = written.last().is_some_and(|last| *last != b'\n');
            let ends = rest.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            if begun { count + ends } else { count }
        };
        let count = count.min(torn_end);
        if torn_end > self.torn {
            // It was written here, so it ends as lines do.
            let last = self.bytes.get(self.torn..torn_end).and_then(last_line).and_then(chain::split);
            self.settled = last.map_or(self.settled, |(_, _, mac)| mac);
        }
        self.chain.resume_at(self.settled);
        self.bytes.copy_within(count..torn_end, 0);
        self.len = torn_end - count;
        self.torn = self.len;
        self.lost = false;
        let first = self.gap.map_or(self.turn_first, |(first, _)| first.min(self.turn_first));
        self.gap = Some((first, self.next.saturating_sub(1))).filter(|(first, last)| first <= last);
        self.turn_first = self.next;
    }

    /// Has the lines from `first` on that were written count as not told after all: a gap record will name them. Those of
    /// this turn are not among them.
    pub fn disown(&mut self, first: u64) {
        self.broken = true;
        // What a record names that waits to be written has its name.
        let last = self.gap.map_or(self.turn_first.saturating_sub(1), |(_, last)| last);
        let first = self.gap.map_or(first, |(own, _)| own.min(first));
        self.gap = Some((first, last)).filter(|(first, last)| first <= last);
    }

    /// The number of the first line of this turn, or the first that its gap record names.
    #[must_use]
    pub fn turn_first(&self) -> u64 {
        self.turn_first
    }

    /// Whether every line that was appended is among what is pending. A line that found no room must not pass for one
    /// that was written.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.lost
    }

    fn filled(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Where the next line goes, and what it is made with. Nothing once a line found no room: a later one that did would
    /// stand before the record that names the missing one.
    fn room(&mut self) -> Option<(&mut [u8], &str, &mut Chain, u64)> {
        let room = self.bytes.get_mut(self.len..).filter(|_| !self.lost)?;
        Some((room, &self.stream, &mut self.chain, self.next))
    }

    /// Takes a line, and its number whether or not there was room for it.
    fn count(&mut self, written: Option<usize>) {
        self.next += 1;
        match written {
            Some(written) => {
                self.len += written;
                self.counts.0 += 1;
            }
            None => self.lost = true,
        }
    }

    fn close_gap(&mut self, at: WallTime) {
        if let Some((first, last)) = self.gap.take() {
            let gap = (first, last);
            let written = self
                .room()
                .and_then(|(room, stream, chain, next)| line::write_gap(room, stream, next, at, gap, chain));
            self.counts.1 += u64::from(written.is_some());
            self.count(written);
            // Should this write fail too, the next record begins where this one did.
            self.turn_first = first;
        }
    }
}

/// The last line of `bytes`, without its line feed.
fn last_line(bytes: &[u8]) -> Option<&[u8]> {
    let lines = bytes.strip_suffix(b"\n")?;
    lines.get(memchr::memrchr(b'\n', lines).map_or(0, |end| end + 1)..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::{Mark, Root};
    use crate::audit::line::Outcome;
    use crate::secret::Secret;
    use proptest::prelude::*;

    fn event() -> Event<'static> {
        Event {
            at: WallTime::default(),
            name: "test",
            outcome: Outcome::Success,
            code: None,
            count: None,
            own: None,
            store: None,
            request: None,
        }
    }

    fn chain() -> Chain {
        Root::new(Secret::take(&mut [7; 32])).chain("s").unwrap()
    }

    fn batch() -> Batch {
        Batch::new("s", chain())
    }

    /// Fails unless each line is chained to the one before it.
    fn assert_chained(file: &[u8]) {
        let (mut chain, mut prev) = (chain(), LineMac::default());
        for (line, (seq, _)) in file.split_inclusive(|byte| *byte == b'\n').zip(numbers(file)) {
            let (covered, before, mac) = chain::split(line.strip_suffix(b"\n").unwrap()).unwrap();
            assert_eq!((before, chain.mac(seq, covered)), (prev, Some(mac)), "{seq}");
            prev = mac;
        }
    }

    /// Writes the pending bytes to `file`, but at most `budget` of them; says whether all went.
    fn write(batch: &mut Batch, file: &mut Vec<u8>, budget: usize) -> bool {
        let bytes = batch.pending(WallTime::default());
        let count = bytes.len().min(budget);
        file.extend_from_slice(&bytes[..count]);
        if count == bytes.len() {
            batch.written();
            true
        } else {
            batch.failed(count);
            false
        }
    }

    fn numbers(file: &[u8]) -> Vec<(u64, Option<(u64, u64)>)> {
        file.split_inclusive(|byte| *byte == b'\n')
            .map(|line| {
                assert_eq!(line.last(), Some(&b'\n'), "no line is torn");
                let value: serde_json::Value = serde_json::from_slice(line).unwrap();
                let gap = value["first"].as_u64().zip(value["last"].as_u64());
                (value["seq"].as_u64().unwrap(), gap)
            })
            .collect()
    }

    #[test]
    fn a_refused_turn_leaves_a_gap_record_and_its_lines_are_gone() {
        let (mut batch, mut file) = (batch(), Vec::new());
        batch.append(&event());
        batch.append(&event());
        assert!(!write(&mut batch, &mut file, 0));
        assert!(batch.is_broken() && !batch.is_empty());
        batch.append(&event());
        assert!(batch.is_broken(), "a line more does not mend the file");
        assert!(write(&mut batch, &mut file, usize::MAX));
        assert_eq!(numbers(&file), [(3, Some((1, 2))), (4, None)]);
        assert!(!batch.is_broken() && batch.is_empty());
    }

    #[test]
    fn a_torn_line_is_finished_before_anything_else() {
        let (mut batch, mut file) = (batch(), Vec::new());
        batch.append(&event());
        batch.append(&event());
        assert!(!write(&mut batch, &mut file, 10));
        batch.append(&event());
        assert!(!write(&mut batch, &mut file, 3), "and a second tear of the same line");
        batch.pending(WallTime::default());
        assert_eq!(numbers(batch.lines()), [(5, Some((1, 4)))], "the rest of the torn line is none");
        assert!(write(&mut batch, &mut file, usize::MAX));
        assert_eq!(numbers(&file), [(1, None), (5, Some((1, 4)))]);
        assert_chained(&file);
    }

    #[test]
    fn only_a_line_that_was_written_whole_is_told() {
        let (mut batch, mut file) = (batch(), Vec::new());
        let tip = batch.chain.tip();
        batch.append(&event());
        assert_eq!(tip.get(), Mark::default());
        assert!(write(&mut batch, &mut file, usize::MAX));
        let first = Mark { seq: 1, mac: batch.chain.prev() };
        assert_eq!(tip.get(), first);
        batch.append(&event());
        assert!(!write(&mut batch, &mut file, 100));
        assert_eq!(tip.get(), first);
        assert!(write(&mut batch, &mut file, usize::MAX));
        assert_eq!(tip.get(), Mark { seq: 3, mac: batch.chain.prev() });
    }

    #[test]
    fn a_line_without_room_takes_those_after_it_with_it() {
        let (mut batch, mut file) = (batch(), Vec::new());
        while batch.is_whole() {
            batch.append(&event());
        }
        batch.append(&Event { name: "t", ..event() });
        let next = batch.next;
        let count = batch.pending(WallTime::default()).len();
        file.extend_from_slice(batch.filled());
        batch.failed(count);
        assert!(write(&mut batch, &mut file, usize::MAX));
        let found = numbers(&file);
        assert_eq!(found.last(), Some(&(next, Some((1, next - 1)))));
        assert_eq!(found.len() as u64, next - 2, "the two that found no room are missing");
        assert_chained(&file);
    }

    #[test]
    fn lines_that_were_written_and_did_not_last_are_named_once() {
        let (mut batch, mut file) = (batch(), Vec::new());
        batch.append(&event());
        assert!(write(&mut batch, &mut file, usize::MAX));
        batch.append(&event());
        assert!(!write(&mut batch, &mut file, 0));
        batch.append(&event());
        batch.disown(1);
        assert!(batch.is_broken());
        assert!(write(&mut batch, &mut file, usize::MAX));
        assert_eq!(numbers(&file), [(1, None), (3, Some((2, 2))), (4, None), (5, Some((1, 1)))]);
        batch.disown(3);
        assert!(write(&mut batch, &mut file, usize::MAX));
        assert_eq!(numbers(&file)[4..], [(6, Some((3, 5)))]);
    }

    proptest! {
        #[test]
        fn whatever_becomes_of_syncs_every_number_is_good_or_in_a_gap_that_is(
            turns in proptest::collection::vec((0usize..3, 0usize..900, 0u8..6), 1..40)
        ) {
            let (mut batch, mut file) = (batch(), Vec::new());
            // Rounds that are on their way: their first number and the one behind their last.
            let mut open: Vec<(u64, u64, Vec<u64>)> = Vec::new();
            let (mut told, mut refused) = (Vec::new(), Vec::new());
            let rest = [(1, usize::MAX, 1), (0, usize::MAX, 1)];
            for (lines, budget, syncs) in turns.into_iter().chain(rest) {
                let from = batch.next;
                (0..lines).for_each(|_| batch.append(&event()));
                let own: Vec<u64> = (from..batch.next).collect();
                if syncs == 0 && !open.is_empty() {
                    batch.disown(open[0].0);
                    refused.extend(open.drain(..).flat_map(|(_, _, own)| own));
                }
                if write(&mut batch, &mut file, budget) {
                    let first = own.first().copied().unwrap_or(batch.next);
                    open.push((first, batch.next, own));
                } else {
                    refused.extend(own);
                }
                if syncs == 1 {
                    told.extend(open.drain(..).flat_map(|(_, _, own)| own));
                }
            }
            let found = numbers(&file);
            let gaps: Vec<(u64, u64)> = found.iter().filter_map(|(_, gap)| *gap).collect();
            let named = |number: &u64| gaps.iter().any(|(from, to)| (from..=to).contains(&number));
            for number in 1..batch.next {
                prop_assert!(found.iter().any(|(seq, _)| *seq == number) || named(&number), "{}", number);
            }
            prop_assert!(refused.iter().all(named), "{refused:?} {gaps:?}");
            prop_assert!(told.iter().all(|number| !named(number)), "{told:?} {gaps:?}");
        }

        #[test]
        fn whatever_the_disk_does_every_number_is_a_line_or_in_a_gap(turns in proptest::collection::vec((0usize..20, 0usize..5_000), 1..40)) {
            let (mut batch, mut file) = (batch(), Vec::new());
            let mut acknowledged = Vec::new();
            for (lines, budget) in turns {
                let first = batch.next;
                (0..lines).for_each(|_| batch.append(&event()));
                let own: Vec<u64> = (first..batch.next).collect();
                if write(&mut batch, &mut file, budget) {
                    acknowledged.extend(own);
                }
            }
            write(&mut batch, &mut file, usize::MAX);
            assert_chained(&file);
            let found = numbers(&file);
            let last = batch.next - 1;
            for number in 1..=last {
                let line = found.iter().filter(|(seq, _)| *seq == number).count();
                let gap = found.iter().any(|(_, gap)| gap.is_some_and(|(from, to)| (from..=to).contains(&number)));
                prop_assert!(line <= 1, "never twice");
                prop_assert!(line == 1 || gap, "{number} is accounted for");
                prop_assert!(!acknowledged.contains(&number) || line == 1, "{number} was acknowledged");
            }
            prop_assert!(found.is_sorted_by_key(|(seq, _)| *seq));
        }
    }
}
