//! One audit stream: the lines of one thread, and the files that they go to, one after the other.
//!
//! Owns the descriptor and the batch. Invariants: the lines of a turn go out in one write; success means that all of
//! them are with the kernel; after a failure the file is tried again with the next turn, and at least every second; a
//! line ends in the file in which it began; a stream whose next file is not there goes on in the one that it has.

use core::cell::RefCell;
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use crate::audit::office::{Office, Retired};
use crate::audit::pipe::write_all;
use crate::audit::{Batch, Chain, Event};
use crate::clock::WallTime;

const DAY_SECONDS: u64 = 86_400;

/// The pending lines are not all with the kernel: what they tell of must not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteFailed;

/// Where a stream gets its next file from, and when it goes on to it.
#[derive(Clone, Debug)]
pub struct Succession {
    /// Where the archivist leaves it.
    pub office: Arc<Office>,
    /// The stream's number there.
    pub stream: usize,
    /// A part of this length is left for the next one.
    pub rotate_bytes: u64,
}

/// An audit stream and the file it goes to.
#[derive(Debug)]
pub struct Sink {
    part: RefCell<Part>,
    pub(super) batch: RefCell<Batch>,
    succession: Option<Succession>,
}

/// The file that is being written.
#[derive(Debug)]
struct Part {
    file: Arc<File>,
    number: u32,
    bytes: u64,
    /// The day of its first line, counted from 1970 in UTC.
    day: u64,
}

impl Sink {
    /// The first lines of a stream that nobody has used before, whose chain this is, go to `file`, which appends, and all
    /// later ones too.
    #[must_use]
    pub fn new(file: File, stream: &str, chain: Chain) -> Self {
        let part = Part { file: Arc::new(file), number: 1, bytes: 0, day: 0 };
        Self { part: RefCell::new(part), batch: RefCell::new(Batch::new(stream, chain)), succession: None }
    }

    /// The same with files to come: `file` is part 1.
    #[must_use]
    pub fn with_parts(file: Arc<File>, stream: &str, chain: Chain, succession: Succession) -> Self {
        let part = Part { file, number: 1, bytes: 0, day: 0 };
        let batch = RefCell::new(Batch::new(stream, chain));
        Self { part: RefCell::new(part), batch, succession: Some(succession) }
    }

    /// Appends the line of `event` to what is pending.
    pub fn append(&self, event: &Event<'_>) {
        self.batch.borrow_mut().append(event);
    }

    /// Which part is being written.
    #[must_use]
    pub fn part(&self) -> u32 {
        self.part.borrow().number
    }

    /// Writes what is pending, to the part whose turn it is; what becomes of it is for the caller to note in the batch.
    ///
    /// # Errors
    /// How many bytes were written.
    pub(super) fn write_pending(&self, now: WallTime) -> Result<(), usize> {
        if self.is_due(now) {
            self.advance();
        }
        let mut batch = self.batch.borrow_mut();
        self.write(batch.pending(now), now)
    }

    /// Brings what was written to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.part.borrow().file.sync_data()
    }

    /// Leaves the part that is being written for its successor; returns whether it did. It does not if there is none, or
    /// if the part ends inside a line.
    pub fn advance(&self) -> bool {
        let Some(Succession { office, stream, .. }) = &self.succession else { return false };
        if self.batch.borrow().is_torn() {
            return false;
        }
        let Some(file) = office.take_successor(*stream) else { return false };
        let mut part = self.part.borrow_mut();
        let number = part.number.saturating_add(1);
        let left = core::mem::replace(&mut *part, Part { file, number, bytes: 0, day: 0 });
        office.note_length(*stream, 0);
        office.retired(*stream, Retired { part: left.number, bytes: left.bytes, file: left.file });
        true
    }

    /// Whether the part is long enough, or of another day. A part without a line is neither.
    fn is_due(&self, now: WallTime) -> bool {
        let part = self.part.borrow();
        let long = |of: &Succession| part.bytes >= of.rotate_bytes || part.day < day(now);
        part.bytes > 0 && self.succession.as_ref().is_some_and(long)
    }

    fn write(&self, pending: &[u8], now: WallTime) -> Result<(), usize> {
        let mut part = self.part.borrow_mut();
        let written = write_all(|rest| (&*part.file).write(rest), pending);
        let count = written.err().unwrap_or(pending.len());
        if part.bytes == 0 {
            part.day = day(now);
        }
        part.bytes = part.bytes.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if let Some(Succession { office, stream, .. }) = &self.succession {
            office.note_length(*stream, part.bytes);
        }
        written
    }
}

const fn day(now: WallTime) -> u64 {
    now.as_secs() / DAY_SECONDS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::line::Outcome;
    use std::io::Read as _;
    use std::os::fd::OwnedFd;

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

    /// A file that is written, and what reads it.
    fn pipe() -> (Arc<File>, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (Arc::new(File::from(OwnedFd::from(writer))), reader)
    }

    fn numbers(text: &str) -> Vec<u64> {
        let number = |line| serde_json::from_str::<serde_json::Value>(line).unwrap()["seq"].as_u64().unwrap();
        text.lines().map(number).collect()
    }

    struct Desk {
        office: Arc<Office>,
        sink: Sink,
        readers: Vec<io::PipeReader>,
    }

    impl Desk {
        fn new(rotate_bytes: u64) -> Self {
            let office = Arc::new(Office::new(1));
            let (file, reader) = pipe();
            let succession = Succession { office: Arc::clone(&office), stream: 0, rotate_bytes };
            let sink = Sink::with_parts(file, "s-w0", Chain::sample("s-w0"), succession);
            Self { office, sink, readers: vec![reader] }
        }

        fn succeed(&mut self) {
            let (file, reader) = pipe();
            self.office.tell_ready(0, file);
            self.readers.push(reader);
        }

        fn tell(&self, seconds: u64) {
            self.sink.append(&event());
            self.commit(seconds);
        }

        fn commit(&self, seconds: u64) {
            if !self.sink.batch.borrow().is_empty() {
                self.sink.write_pending(WallTime::from_millis(seconds * 1_000)).unwrap();
                self.sink.batch.borrow_mut().written();
            }
        }

        /// The numbers of the lines in each part, once all were left.
        fn read(self) -> Vec<Vec<u64>> {
            let Self { office, sink, readers } = self;
            drop((office, sink));
            let mut texts = vec![String::new(); readers.len()];
            for (mut reader, text) in readers.into_iter().zip(&mut texts) {
                reader.read_to_string(text).unwrap();
            }
            texts.iter().map(|text| numbers(text)).collect()
        }
    }

    #[test]
    fn a_part_that_is_long_enough_is_left_if_there_is_a_successor_and_numbers_go_on() {
        let mut desk = Desk::new(1);
        desk.tell(5);
        desk.tell(5);
        assert_eq!(desk.sink.part(), 1, "nowhere to go");
        desk.succeed();
        desk.tell(5);
        desk.tell(5);
        assert_eq!(desk.sink.part(), 2);
        let retired = desk.office.next().of.remove(0).retired.unwrap();
        assert_eq!(retired.part, 1);
        let found = desk.office.length();
        assert_eq!(found, retired.bytes, "lines of the same length, two in each part");
        drop(retired);
        assert_eq!(desk.read(), [vec![1, 2], vec![3, 4]]);
    }

    #[test]
    fn a_part_of_another_day_is_left_with_the_first_line_of_the_new_one() {
        let mut desk = Desk::new(u64::MAX);
        desk.succeed();
        desk.tell(DAY_SECONDS - 1);
        desk.tell(DAY_SECONDS - 1);
        desk.commit(DAY_SECONDS);
        assert_eq!(desk.sink.part(), 1, "nothing was told");
        desk.tell(DAY_SECONDS);
        desk.succeed();
        desk.tell(DAY_SECONDS - 1);
        assert_eq!(desk.sink.part(), 2, "a clock that is set back begins no day");
        drop(desk.office.next());
        assert_eq!(desk.read(), [vec![1, 2], vec![3, 4], vec![]]);
    }

    #[test]
    fn a_part_that_ends_inside_a_line_is_not_left() {
        let mut desk = Desk::new(1);
        desk.succeed();
        desk.tell(5);
        desk.sink.append(&event());
        desk.sink.batch.borrow_mut().failed(10);
        assert!(!desk.sink.advance());
        assert_eq!(desk.sink.part(), 1);
        // The rest of the line goes out first, and then the part may be left.
        desk.commit(0);
        assert!(desk.sink.advance());
    }
}
