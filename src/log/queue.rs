//! Lines that wait to be written.
//!
//! Owns [`Ring`]. Invariants: its memory is that of the program's file, touched as far as it was ever filled; lines come out whole, as
//! they went in and in their order; what finds no room is not taken, and whoever put it in counts it.

use crate::limits::{LOG_LINE_MAX_BYTES, LOG_QUEUE_BYTES};

/// How many writes empty a full queue, about.
pub(super) const CHUNKS: usize = LOG_QUEUE_BYTES / LOG_LINE_MAX_BYTES * 2;

/// How far the queue was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Nothing is left.
    Everything,
    /// A good deal, but more has come: go on soon.
    Part,
    /// Whoever reads standard error does not take more now.
    Stuck,
}

/// Bytes of whole lines, the oldest first. The oldest may lack its beginning, which was written already.
pub(super) struct Ring {
    bytes: [u8; LOG_QUEUE_BYTES],
    first: usize,
    len: usize,
    lost: u64,
    failed: u64,
}

/// What is written at once: whole lines.
pub(super) struct Chunk {
    bytes: [u8; LOG_LINE_MAX_BYTES],
    len: usize,
}

impl Chunk {
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl Ring {
    pub(super) const fn new() -> Self {
        Self { bytes: [0; LOG_QUEUE_BYTES], first: 0, len: 0, lost: 0, failed: 0 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) const fn has_room(&self, bytes: usize) -> bool {
        bytes <= LOG_QUEUE_BYTES - self.len
    }

    /// How many lines were not taken since that was told last.
    pub(super) const fn lost(&self) -> u64 {
        self.lost
    }

    pub(super) const fn lose(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }

    pub(super) const fn forget_loss(&mut self) {
        self.lost = 0;
    }

    /// How many lines could not be written since that was told last.
    pub(super) const fn failed(&self) -> u64 {
        self.failed
    }

    pub(super) const fn fail(&mut self, lines: u64) {
        self.failed = self.failed.saturating_add(lines);
    }

    pub(super) const fn forget_failed(&mut self, lines: u64) {
        self.failed = self.failed.saturating_sub(lines);
    }

    /// Appends a line, its end included; tells whether there was room.
    pub(super) fn push(&mut self, line: &[u8]) -> bool {
        if !self.has_room(line.len()) {
            return false;
        }
        let start = (self.first + self.len) % LOG_QUEUE_BYTES;
        let (behind, before) = line.split_at(line.len().min(LOG_QUEUE_BYTES - start));
        for (at, part) in [(start, behind), (0, before)] {
            if let Some(place) = self.bytes.get_mut(at..at + part.len()) {
                place.copy_from_slice(part);
            }
        }
        self.len += line.len();
        true
    }

    /// A copy of the oldest lines, as many as leave in one write.
    pub(super) fn peek(&self) -> Option<Chunk> {
        let mut chunk = Chunk { bytes: [0; LOG_LINE_MAX_BYTES], len: self.len.min(LOG_LINE_MAX_BYTES) };
        let until_end = chunk.len.min(LOG_QUEUE_BYTES - self.first);
        let (front, rest) = chunk.bytes.split_at_mut(until_end);
        front.copy_from_slice(self.bytes.get(self.first..self.first + until_end)?);
        let more = chunk.len - until_end;
        rest.get_mut(..more)?.copy_from_slice(self.bytes.get(..more)?);
        // No line is longer than a chunk, so that there is an end in it.
        chunk.len = memchr::memrchr(b'\n', chunk.as_bytes())? + 1;
        Some(chunk)
    }

    /// Removes so many of the oldest bytes.
    pub(super) const fn consume(&mut self, bytes: usize) {
        let bytes = if bytes < self.len { bytes } else { self.len };
        self.len -= bytes;
        // An empty queue begins at its front, so that a quiet one stays within its first page.
        self.first = if self.len == 0 { 0 } else { (self.first + bytes) % LOG_QUEUE_BYTES };
    }

    /// Removes everything, which could not be written; returns how many lines that were.
    pub(super) fn clear(&mut self) -> u64 {
        let mut lines = 0;
        while let Some(chunk) = self.peek() {
            lines += memchr::memchr_iter(b'\n', chunk.as_bytes()).count() as u64;
            self.consume(chunk.len);
        }
        self.fail(lines + self.lost);
        self.lost = 0;
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed() -> Box<Ring> {
        Box::new(Ring::new())
    }

    #[test]
    fn lines_come_out_whole_and_in_their_order_around_the_end() {
        let mut ring = boxed();
        let (mut put, mut taken) = (0_usize, 0_usize);
        // Lines of all lengths, far more than fit, with a reader that is always a little behind.
        let line = |number: usize| format!("{number} {}\n", "x".repeat(number * 37 % 3_000));
        while taken < 2_000 {
            while put < 2_000 && ring.push(line(put).as_bytes()) {
                put += 1;
            }
            let chunk = ring.peek().unwrap();
            let text = std::str::from_utf8(chunk.as_bytes()).unwrap();
            for read in text.split_inclusive('\n') {
                assert_eq!(read, line(taken));
                taken += 1;
            }
            ring.consume(chunk.len);
        }
        assert!(ring.is_empty() && ring.peek().is_none());
    }

    #[test]
    fn a_line_that_was_written_in_part_goes_on_where_it_stopped() {
        let mut ring = boxed();
        assert!(ring.push(b"first\n") && ring.push(b"second\n"));
        ring.consume(3);
        assert_eq!(ring.peek().unwrap().as_bytes(), b"st\nsecond\n");
    }

    #[test]
    fn a_full_queue_takes_nothing_and_keeps_what_it_has() {
        let mut ring = boxed();
        let line = [[b'x'; 99].as_slice(), b"\n"].concat();
        let mut count = 0;
        while ring.push(&line) {
            count += 1;
        }
        assert_eq!(count, LOG_QUEUE_BYTES / line.len());
        assert!(!ring.has_room(line.len()) && ring.has_room(LOG_QUEUE_BYTES % line.len()));
        ring.lose();
        assert_eq!(ring.clear(), count as u64);
        assert!(ring.is_empty() && ring.lost() == 0);
        assert_eq!(
            ring.failed(),
            count as u64 + 1,
            "what found no room is told with what could not be written"
        );
        ring.forget_failed(ring.failed());
        assert_eq!(ring.failed(), 0);
    }
}
