//! The lines of one turn, and what a failed write leaves behind.
//!
//! Owns the numbering of a stream and the bytes that are still to be written. Invariants: what is handed out by
//! [`Batch::pending`] begins where the file ends, so a line that a short write has torn is finished before any other
//! byte; after a failure the numbers of the failed turn are named by a gap record; the buffer does not grow beyond
//! its bound.

use crate::audit::line::{self, Event};
use crate::clock::WallTime;
use crate::limits::{AUDIT_BUFFER_BYTES, AUDIT_LINE_MAX_BYTES};

/// The audit lines of a worker that are not yet with the kernel.
#[derive(Debug)]
pub struct Batch {
    stream: Box<str>,
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
}

impl Batch {
    /// The first batch of a stream that nobody has used before.
    #[must_use]
    pub fn new(stream: &str) -> Self {
        let bytes = vec![0; AUDIT_BUFFER_BYTES].into_boxed_slice();
        Self {
            stream: stream.into(),
            next: 1,
            bytes,
            len: 0,
            turn_first: 1,
            gap: None,
            broken: false,
            lost: false,
            torn: 0,
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
        let room = self.bytes.get_mut(self.len..).unwrap_or_default();
        let written = line::write(room, &self.stream, self.next, event);
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

    /// Notes that everything was written.
    pub fn written(&mut self) {
        self.len = 0;
        self.broken = false;
        self.torn = 0;
        self.turn_first = self.next;
    }

    /// Notes that only `count` bytes were written and the rest was refused.
    ///
    /// The lines of this turn are dropped, since their requests are answered with a refusal; only the rest of a line
    /// that was torn stays, because the file must not go on in the middle of it.
    pub fn failed(&mut self, count: usize) {
        let count = count.min(self.len);
        self.broken = true;
        let torn_end = if count < self.torn {
            self.torn
        } else {
            let (written, rest) = self.filled().split_at_checked(count).unwrap_or_default();
            let begun = written.last().is_some_and(|last| *last != b'\n');
            let ends = rest.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            if begun { count + ends } else { count }
        };
        let count = count.min(torn_end);
        self.bytes.copy_within(count..torn_end, 0);
        self.len = torn_end - count;
        self.torn = self.len;
        self.lost = false;
        let first = self.gap.map_or(self.turn_first, |(first, _)| first);
        self.gap = Some((first, self.next.saturating_sub(1))).filter(|(first, last)| first <= last);
        self.turn_first = self.next;
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

    /// Takes a line, and its number whether or not there was room for it.
    fn count(&mut self, written: Option<usize>) {
        self.next += 1;
        match written {
            Some(written) => self.len += written,
            None => self.lost = true,
        }
    }

    fn close_gap(&mut self, at: WallTime) {
        if let Some((first, last)) = self.gap.take() {
            let room = self.bytes.get_mut(self.len..).unwrap_or_default();
            let written = line::write_gap(room, &self.stream, self.next, at, first, last);
            self.count(written);
            // Should this write fail too, the next record begins where this one did.
            self.turn_first = first;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::line::Outcome;
    use proptest::prelude::*;

    fn event() -> Event<'static> {
        Event {
            at: WallTime::default(),
            name: "test",
            outcome: Outcome::Success,
            code: None,
            count: None,
            store: None,
            request: None,
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
        let (mut batch, mut file) = (Batch::new("s"), Vec::new());
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
        let (mut batch, mut file) = (Batch::new("s"), Vec::new());
        batch.append(&event());
        batch.append(&event());
        assert!(!write(&mut batch, &mut file, 10));
        batch.append(&event());
        assert!(!write(&mut batch, &mut file, 3), "and a second tear of the same line");
        batch.pending(WallTime::default());
        assert_eq!(numbers(batch.lines()), [(5, Some((1, 4)))], "the rest of the torn line is none");
        assert!(write(&mut batch, &mut file, usize::MAX));
        assert_eq!(numbers(&file), [(1, None), (5, Some((1, 4)))]);
    }

    proptest! {
        #[test]
        fn whatever_the_disk_does_every_number_is_a_line_or_in_a_gap(turns in proptest::collection::vec((0usize..4, 0usize..500), 1..40)) {
            let (mut batch, mut file) = (Batch::new("s"), Vec::new());
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
