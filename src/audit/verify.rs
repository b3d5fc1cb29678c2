//! The verification of a stream: whether its parts hold what was written, all of it, in its order.
//!
//! Owns [`Verifier`]. Invariants: memory does not grow with what is read; a line counts only if its mac is right, it names the
//! mac of the line before it, and its number is the next one or the numbers between are named by it as a gap; after a
//! flaw the verification goes on with the next line that is right, so that one flaw is told once.

use core::fmt;
use std::io::{self, BufRead};

use crate::audit::chain::{self, Chain, LineMac, Mark, Root};
use crate::audit::checkpoint::StreamMark;
use crate::audit::line::GAP;
use crate::audit::member;
use crate::limits::{AUDIT_FLAWS_MAX_COUNT, AUDIT_GAP_MAX_COUNT, AUDIT_LINE_MAX_BYTES};

/// What is wrong with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The line is not of the form that lines have.
    Form,
    /// It belongs to another stream.
    Foreign,
    /// Its mac is wrong.
    Edited,
    /// It stands behind a later one, or twice.
    Order {
        /// The number that was to come.
        expected: u64,
    },
    /// Lines before it are missing.
    Missing {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
    },
    /// Its number is the next one, but it was written behind another line than the one that stands before it.
    Unchained,
    /// It is not the line that the store has noted under this number.
    Noted,
    /// The last part ends inside a line, though the server had stopped in order.
    Torn,
    /// The stream ends before the line that the store has noted.
    Cut {
        /// Where it ends.
        last: u64,
        /// What is noted.
        noted: u64,
    },
}

/// A flaw and its place: in the part that is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Number of the line in the part, from 1.
    pub line: u64,
    /// Where the line begins, in bytes from the beginning of the part.
    pub offset: u64,
    /// Its number in the stream, if it has one.
    pub seq: Option<u64>,
    /// What is wrong.
    pub flaw: Flaw,
}

/// What was verified of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Lines that are right.
    pub lines: u64,
    /// The last of them.
    pub last: u64,
    /// Up to which number the store knows that nothing was cut off; nothing if it knows nothing of the stream.
    pub proved: Option<u64>,
    /// Bytes behind the last line: what a crash left of one.
    pub torn_bytes: u64,
}

/// Verifies one stream, part by part.
#[derive(Debug)]
pub struct Verifier<'a> {
    stream: String,
    /// The present root and those before it; none if macs are not to be checked.
    roots: &'a [Root],
    /// The root under which the stream was written, and its chain, once a line has told.
    found: Option<(usize, Chain)>,
    /// What the store knows.
    noted: Option<StreamMark>,
    ended: bool,
    /// The last line that was right.
    last: Mark,
    lines: u64,
    /// Lines since then that were not: they may have been any of the numbers that follow.
    bad: u64,
    flaws: usize,
    torn_bytes: u64,
    /// The place of the next line in this part.
    at: (u64, u64),
}

/// The members of a line that tie it to others.
struct Read<'l> {
    seq: u64,
    gap: Option<(u64, u64)>,
    covered: &'l [u8],
    prev: LineMac,
    mac: LineMac,
}

impl<'a> Verifier<'a> {
    /// Before the first line of `stream`. `roots` are the present root and earlier ones, none if the macs are not to be
    /// checked; `noted` is what the store knows of the stream, and whether its start had stopped in order.
    #[must_use]
    pub fn new(stream: String, roots: &'a [Root], noted: Option<(StreamMark, bool)>) -> Self {
        Self {
            stream,
            roots,
            found: None,
            ended: noted.is_some_and(|(_, ended)| ended),
            noted: noted.map(|(mark, _)| mark),
            last: Mark::default(),
            lines: 0,
            bad: 0,
            flaws: 0,
            torn_bytes: 0,
            at: (1, 0),
        }
    }

    /// Reads the next part.
    ///
    /// # Errors
    /// What reading returns.
    pub fn read(&mut self, part: &mut dyn BufRead, tell: &mut dyn FnMut(Finding)) -> io::Result<()> {
        // A successor that nothing was written to changes nothing: what a crash left is still the end.
        if part.fill_buf()?.is_empty() {
            return Ok(());
        }
        if core::mem::take(&mut self.torn_bytes) > 0 {
            self.tell(None, Flaw::Form, tell);
        }
        self.at = (1, 0);
        let mut line = Vec::with_capacity(AUDIT_LINE_MAX_BYTES + 1);
        while self.flaws < AUDIT_FLAWS_MAX_COUNT {
            line.clear();
            let len = next_line(part, &mut line)?;
            if len == 0 {
                break;
            }
            match line.strip_suffix(b"\n") {
                Some(line) => self.take(line, tell),
                None if part.fill_buf()?.is_empty() => {
                    self.torn_bytes = len;
                    return Ok(());
                }
                // Longer than any line.
                None => self.tell(None, Flaw::Form, tell),
            }
            self.at = (self.at.0 + 1, self.at.1 + len);
        }
        Ok(())
    }

    /// After the last part.
    pub fn finish(mut self, tell: &mut dyn FnMut(Finding)) -> Verified {
        let reached = self.last.seq;
        if let Some(noted) = self.noted.filter(|noted| noted.last.seq > reached) {
            // Without any file of it the stream ends where its removed parts did.
            let last = reached.max(noted.removed.seq);
            if last < noted.last.seq {
                self.tell(None, Flaw::Cut { last, noted: noted.last.seq }, tell);
            }
        } else if self.torn_bytes > 0 && self.ended {
            self.tell(None, Flaw::Torn, tell);
        }
        let proved = self.noted.map(|noted| noted.last.seq);
        Verified { lines: self.lines, last: reached, proved, torn_bytes: self.torn_bytes }
    }

    /// Whether there were so many flaws that it was given up.
    #[must_use]
    pub const fn gave_up(&self) -> bool {
        self.flaws >= AUDIT_FLAWS_MAX_COUNT
    }

    fn take(&mut self, line: &[u8], tell: &mut dyn FnMut(Finding)) {
        let read = match self.parse(line) {
            Ok(read) => read,
            Err(flaw) => {
                self.bad += 1;
                return self.tell(None, flaw, tell);
            }
        };
        let seq = Some(read.seq);
        let expected = self.last.seq + 1;
        let first = self.lines == 0;
        // Of parts that were removed some may be left: what was noted is that they may be missing.
        let removed = self.noted.filter(|_| first).map_or_else(Mark::default, |noted| noted.removed);
        if read.seq < expected {
            return self.tell(seq, Flaw::Order { expected }, tell);
        }
        if !self.is_authentic(&read) {
            self.bad += 1;
            return self.tell(seq, Flaw::Edited, tell);
        }
        let (before, sure) = match read.seq {
            1 => (self.last, true),
            number if number <= removed.seq => (Mark { seq: number - 1, ..removed }, false),
            _ if removed.seq > 0 => (removed, true),
            _ => (self.last, true),
        };
        let expected = before.seq + 1;
        let named =
            read.gap.is_some_and(|(from, to)| from <= expected && to.checked_add(1) == Some(read.seq));
        if read.seq > expected.saturating_add(self.bad) && !named {
            self.tell(seq, Flaw::Missing { first: expected, last: read.seq - 1 }, tell);
        } else if read.prev != before.mac && sure && self.bad == 0 {
            self.tell(seq, Flaw::Unchained, tell);
        }
        self.last = Mark { seq: read.seq, mac: read.mac };
        (self.lines, self.bad) = (self.lines + 1, 0);
        if self.noted.is_some_and(|noted| noted.last.seq == read.seq && noted.last.mac != read.mac) {
            self.tell(seq, Flaw::Noted, tell);
        }
    }

    fn parse<'l>(&self, line: &'l [u8]) -> Result<Read<'l>, Flaw> {
        let (covered, prev, mac) = chain::split(line).ok_or(Flaw::Form)?;
        let seq = member::number(covered, b"{\"seq\":").filter(|seq| *seq > 0).ok_or(Flaw::Form)?;
        let start = format!("{{\"seq\":{seq},\"ts\":\"");
        let stream = member::text(covered, b",\"stream\":\"");
        if !covered.starts_with(start.as_bytes()) {
            return Err(Flaw::Form);
        }
        if stream != Some(self.stream.as_bytes()) {
            return Err(Flaw::Foreign);
        }
        let mut gap = None;
        if member::text(covered, b",\"event\":\"") == Some(GAP.as_bytes()) {
            let ends = member::number(covered, b",\"first\":").zip(member::number(covered, b",\"last\":"));
            gap = Some(ends.filter(|(first, last)| first <= last && *last < seq).ok_or(Flaw::Form)?);
        }
        Ok(Read { seq, gap, covered, prev, mac })
    }

    /// Whether its mac is right. Without roots nobody can tell.
    fn is_authentic(&mut self, read: &Read<'_>) -> bool {
        if self.roots.is_empty() {
            return true;
        }
        // A number that is far away would cost as many steps of the key as it is.
        let removed = self.noted.filter(|_| self.lines == 0).map_or(0, |noted| noted.removed.seq);
        if read.seq - self.last.seq.max(removed.min(read.seq)) > AUDIT_GAP_MAX_COUNT {
            return false;
        }
        let mac_of = |chain: &mut Chain| chain.mac(read.seq, read.covered) == Some(read.mac);
        if let Some((index, chain)) = &mut self.found {
            if chain.is_beyond(read.seq) {
                // A wrong number has led too far.
                let Some(again) = self.roots.get(*index).and_then(|root| root.chain(&self.stream).ok())
                else {
                    return false;
                };
                *chain = again;
            }
            return mac_of(chain);
        }
        for (index, root) in self.roots.iter().enumerate() {
            if let Ok(mut chain) = root.chain(&self.stream)
                && mac_of(&mut chain)
            {
                self.found = Some((index, chain));
                return true;
            }
        }
        false
    }

    fn tell(&mut self, seq: Option<u64>, flaw: Flaw, tell: &mut dyn FnMut(Finding)) {
        self.flaws += 1;
        let (line, offset) = self.at;
        tell(Finding { line, offset, seq, flaw });
    }
}

/// Reads up to the next line feed, and returns how many bytes that were. Of what is longer than any line only so much is
/// kept that this shows.
fn next_line(part: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    let mut len = 0;
    loop {
        let bytes = match part.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = memchr::memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
        let taken = bytes.get(..end).unwrap_or_default();
        let ends = taken.last().is_none_or(|last| *last == b'\n');
        if line.len() <= AUDIT_LINE_MAX_BYTES {
            let room = AUDIT_LINE_MAX_BYTES + 1 - line.len();
            line.extend_from_slice(taken.get(..room).unwrap_or(taken));
        }
        len += u64::try_from(end).unwrap_or_default();
        part.consume(end);
        if ends {
            return Ok(len);
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Form => f.write_str("not a line that the server writes: it was changed or put in"),
            Self::Foreign => f.write_str("a line of another stream: it was put in"),
            Self::Edited => f.write_str("its mac is wrong: it was changed or put in"),
            Self::Order { expected } => {
                write!(f, "{expected} was to come: it was moved or stands here a second time")
            }
            Self::Missing { first, last } if first == last => write!(f, "{first} is missing before it"),
            Self::Missing { first, last } => write!(f, "{first} to {last} are missing before it"),
            Self::Unchained => f.write_str("it was written behind another line than the one before it"),
            Self::Noted => f.write_str("the store has noted another line under this number"),
            Self::Torn => {
                f.write_str("the stream ends inside a line, though the server had stopped in order")
            }
            Self::Cut { last, noted } => {
                write!(f, "the stream ends with {last}, but was written up to {noted}: it was cut off")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::line::{self, Event, Outcome};
    use crate::audit::name::Who;
    use crate::clock::WallTime;
    use crate::secret::Secret;

    const STREAM: &str = "6b0320c6-32268f1d-w0";

    fn roots() -> Vec<Root> {
        [2, 1].map(|byte| Root::new(Secret::take(&mut [byte; 32]))).into()
    }

    /// The lines of a stream with these numbers; those that are left out are named by the next as a gap.
    fn lines(numbers: impl IntoIterator<Item = u64>) -> Vec<Vec<u8>> {
        let mut chain = roots()[1].chain(STREAM).unwrap();
        let mut last = 0;
        let mut write = |seq: u64| {
            let mut target = [0; AUDIT_LINE_MAX_BYTES];
            let at = WallTime::from_millis(seq);
            let len = if seq == last + 1 {
                let (name, outcome) = ("test", Outcome::Success);
                let event = Event {
                    at,
                    name,
                    outcome,
                    code: None,
                    count: None,
                    own: None,
                    store: None,
                    request: None,
                };
                line::write(&mut target, STREAM, seq, &event, &mut chain)
            } else {
                line::write_gap(&mut target, STREAM, seq, at, (last + 1, seq - 1), &mut chain)
            };
            last = seq;
            target[..len.unwrap()].to_vec()
        };
        numbers.into_iter().map(&mut write).collect()
    }

    fn mark(line: &[u8]) -> Mark {
        let (covered, _, mac) = chain::split(line.strip_suffix(b"\n").unwrap()).unwrap();
        Mark { seq: member::number(covered, b"{\"seq\":").unwrap(), mac }
    }

    fn noted(last: &[u8], removed: Option<&[u8]>) -> StreamMark {
        let removed = removed.map_or_else(Mark::default, mark);
        StreamMark { who: Who::Worker(0), last: mark(last), removed }
    }

    fn verify_with(
        parts: &[Vec<Vec<u8>>],
        roots: &[Root],
        noted: Option<(StreamMark, bool)>,
    ) -> (Vec<Finding>, Verified) {
        let mut findings = Vec::new();
        let mut verifier = Verifier::new(STREAM.to_owned(), roots, noted);
        for part in parts {
            verifier.read(&mut part.concat().as_slice(), &mut |finding| findings.push(finding)).unwrap();
        }
        let verified = verifier.finish(&mut |finding| findings.push(finding));
        (findings, verified)
    }

    fn verify(lines: &[Vec<u8>]) -> Vec<(u64, Option<u64>, Flaw)> {
        let (findings, _) = verify_with(&[lines.to_vec()], &roots(), None);
        let offset = |line: u64| {
            let before = lines.iter().take(usize::try_from(line - 1).unwrap());
            before.map(|line| line.len() as u64).sum::<u64>()
        };
        assert!(findings.iter().all(|finding| finding.offset == offset(finding.line)), "{findings:?}");
        findings.into_iter().map(|finding| (finding.line, finding.seq, finding.flaw)).collect()
    }

    #[test]
    fn a_stream_is_right_across_parts_steps_of_the_key_and_gaps() {
        let mut all = lines((1..=300).chain([900, 901]).chain(902..1_300));
        let whole = all.clone();
        let second = all.split_off(280);
        let third = all.split_off(100);
        let (findings, verified) = verify_with(&[all, third, second], &roots(), None);
        assert_eq!(findings, []);
        assert_eq!((verified.lines, verified.last, verified.torn_bytes), (700, 1_299, 0));
        assert_eq!(verify_with(&[whole], &[], None).0, [], "without a key, too");
    }

    #[test]
    fn a_change_of_any_byte_is_found_in_its_line() {
        let all = lines(1..6);
        for at in 0..all[2].len() {
            let mut altered = all.clone();
            altered[2][at] ^= 1;
            let found = verify_with(&[altered.clone()], &roots(), None).0;
            let first = found.first().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&altered[2])));
            assert_eq!(first.line, 3, "{at}: {found:?}");
            assert!(
                matches!(first.flaw, Flaw::Form | Flaw::Foreign | Flaw::Edited | Flaw::Order { .. }),
                "{found:?}"
            );
        }
    }

    #[test]
    fn what_was_taken_put_in_or_moved_is_found_where_it_was() {
        let all = lines(1..10);
        let altered = |alter: fn(&mut Vec<Vec<u8>>)| {
            let mut altered = all.clone();
            alter(&mut altered);
            verify(&altered)
        };
        assert_eq!(altered(|_| {}), []);
        let gone = altered(|lines| drop(lines.remove(4)));
        assert_eq!(gone, [(5, Some(6), Flaw::Missing { first: 5, last: 5 })]);
        let first = altered(|lines| drop(lines.drain(..2)));
        assert_eq!(first, [(1, Some(3), Flaw::Missing { first: 1, last: 2 })]);
        let twice = altered(|lines| lines.insert(4, lines[3].clone()));
        assert_eq!(twice, [(5, Some(4), Flaw::Order { expected: 5 })]);
        let swapped = altered(|lines| lines.swap(4, 5));
        let missing = (5, Some(6), Flaw::Missing { first: 5, last: 5 });
        assert_eq!(swapped, [missing, (6, Some(5), Flaw::Order { expected: 7 })]);
        let edited = altered(|lines| lines[4][60] ^= 1);
        assert_eq!(edited.len(), 1, "one flaw is told once: {edited:?}");
        let number = altered(|lines| {
            let text = String::from_utf8(lines[4].clone()).unwrap();
            lines[4] = text.replace("{\"seq\":5", "{\"seq\":1000000000").into_bytes();
        });
        assert_eq!(number, [(5, Some(1_000_000_000), Flaw::Edited)]);
        let long = altered(|lines| lines.insert(4, [vec![b'x'; 5_000], vec![b'\n']].concat()));
        assert_eq!(long, [(5, None, Flaw::Form)]);
        let foreign = altered(|lines| {
            let mut chain = roots()[1].chain("6b0320c6-32268f1d-w1").unwrap();
            let mut target = [0; AUDIT_LINE_MAX_BYTES];
            let at = WallTime::default();
            let len =
                line::write_gap(&mut target, "6b0320c6-32268f1d-w1", 9, at, (1, 8), &mut chain).unwrap();
            lines.insert(4, target[..len].to_vec());
        });
        assert_eq!(foreign, [(5, None, Flaw::Foreign)]);
    }

    #[test]
    fn a_line_of_another_history_does_not_follow() {
        let mut all = lines(1..6);
        all[2] = lines([1, 3])[1].clone();
        let flaws: Vec<Flaw> = verify_with(&[all], &[], None).0.into_iter().map(|found| found.flaw).collect();
        assert_eq!(flaws, [Flaw::Unchained, Flaw::Unchained], "the line, and the one behind it");
    }

    #[test]
    fn what_is_cut_off_is_found_by_what_the_store_has_noted() {
        let all = lines(1..10);
        let known = noted(&all[6], None);
        let verify = |lines: Vec<Vec<u8>>, ended: bool| verify_with(&[lines], &roots(), Some((known, ended)));
        for len in [7, 8, 9] {
            let (findings, verified) = verify(all[..len].to_vec(), false);
            assert_eq!((findings, verified.proved), (vec![], Some(7)), "{len}");
        }
        for len in 0..7 {
            let flaws: Vec<Flaw> =
                verify(all[..len].to_vec(), false).0.iter().map(|found| found.flaw).collect();
            assert_eq!(flaws, [Flaw::Cut { last: len as u64, noted: 7 }]);
        }
        let mut torn = all[..8].to_vec();
        torn[7].truncate(20);
        let (findings, verified) = verify(torn.clone(), false);
        assert_eq!((findings, verified.torn_bytes), (vec![], 20), "a crash may have left it");
        let with = |next: Vec<Vec<u8>>| verify_with(&[torn.clone(), next], &roots(), Some((known, false)));
        let (findings, verified) = with(vec![]);
        assert_eq!(
            (findings, verified.torn_bytes),
            (vec![], 20),
            "nor does a successor that was made before"
        );
        assert_eq!(with(vec![all[7].clone()]).0[0].flaw, Flaw::Form, "there was more to come");
        assert_eq!(verify(torn.clone(), true).0[0].flaw, Flaw::Torn);
        torn.truncate(7);
        torn[6].truncate(20);
        assert_eq!(verify(torn, false).0[0].flaw, Flaw::Cut { last: 6, noted: 7 });
        let mut other = known;
        other.last.mac = [9; 16];
        let found = verify_with(&[all], &roots(), Some((other, false))).0;
        assert_eq!((found[0].line, found[0].flaw), (7, Flaw::Noted));
    }

    #[test]
    fn what_was_removed_in_time_may_be_missing_and_no_more() {
        let all = lines(1..700);
        let known = noted(&all[698], Some(&all[599]));
        for from in [0, 300, 600] {
            let (findings, verified) = verify_with(&[all[from..].to_vec()], &roots(), Some((known, true)));
            assert_eq!((findings, verified.last), (vec![], 699), "{from}");
        }
        let found = verify_with(&[all[601..].to_vec()], &roots(), Some((known, true))).0;
        assert_eq!(found[0].flaw, Flaw::Missing { first: 601, last: 601 });
        let found = verify_with(&[], &roots(), Some((known, true))).0;
        assert_eq!(found[0].flaw, Flaw::Cut { last: 600, noted: 699 });
    }

    #[test]
    fn a_stream_under_other_keys_is_given_up() {
        let other = [Root::new(Secret::take(&mut [9; 32]))];
        let (findings, verified) = verify_with(&[lines(1..500)], &other, None);
        assert_eq!((findings.len(), verified.lines), (AUDIT_FLAWS_MAX_COUNT, 0));
        assert!(findings.iter().all(|found| found.flaw == Flaw::Edited));
    }
}
