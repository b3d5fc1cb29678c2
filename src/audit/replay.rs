//! What earlier starts wrote: how far the store was, and which changes have no outcome.
//!
//! Owns [`Replay`]. Invariants: files are read from their ends, the newest start first, so an outcome is seen before its
//! attempt and what a bound cuts off is the oldest; a line that is not of the form that [`super::line`] writes tells
//! nothing; memory grows with what is open, not with what was read.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use memchr::memmem;

use crate::audit::line::{STORE_HEAD, StoreMark};
use crate::audit::member;
use crate::limits::{
    AUDIT_CHANGE_NAME_MAX_BYTES, AUDIT_LINE_MAX_BYTES, AUDIT_REPLAY_PIECE_BYTES, AUDIT_REVISION_MAX_NUMBER,
};
use crate::model::{KeyName, RequestId};

/// Changes of keys and of API keys have names that begin with one of these.
const CHANGES: [&[u8]; 2] = [b"key.", b"auth.key."];
/// The code of an outcome after which nobody knew whether the change is durable: the next start knows.
const AMBIGUOUS: &[u8] = b"store_ambiguous";

/// A change that was begun and whose end no line tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The request.
    pub request: RequestId,
    /// The name of the change.
    pub event: String,
    /// Who asked.
    pub principal: Option<String>,
    /// The key.
    pub key: Option<String>,
    /// The API key that was to be changed.
    pub api_key: Option<String>,
    /// How many changes of the same request were written down before it.
    pub before: usize,
    /// The request of the last change in the same stream that was written down before it: if the store remembers that
    /// one, it would remember this one too.
    pub after: Option<RequestId>,
}

/// What was read until now.
#[derive(Debug, Default)]
pub struct Replay {
    head: Option<StoreMark>,
    /// Lines whose revision no store can have.
    impossible: u64,
    unfinished: Vec<Unfinished>,
    /// From here on they are of the stream that is being read, and what was written down before them is still to come.
    open_from: usize,
    /// Of requests with an unfinished change, how many changes that were written down have been read since.
    kept: BTreeMap<RequestId, usize>,
    /// Outcomes whose attempts are still to come.
    ended: BTreeMap<(RequestId, Event), usize>,
}

/// The name of a change, filled up with zeros.
type Event = [u8; AUDIT_CHANGE_NAME_MAX_BYTES];

impl Replay {
    /// Nothing was read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The furthest place at which the store was seen.
    #[must_use]
    pub fn head(&self) -> Option<StoreMark> {
        self.head
    }

    /// How many lines told a revision that no store can have: whoever wrote them was not the server.
    #[must_use]
    pub fn impossible(&self) -> u64 {
        self.impossible
    }

    /// The changes without an outcome, the newest first.
    #[must_use]
    pub fn into_unfinished(self) -> Vec<Unfinished> {
        let Self { mut unfinished, mut ended, kept, .. } = self;
        for of in &mut unfinished {
            // Until now: what had been read when the attempt was.
            of.before = kept.get(&of.request).map_or(0, |kept| kept.saturating_sub(of.before));
        }
        // Of starts within one second nobody can tell the order, so an outcome may have been read after its attempt.
        unfinished.retain(|of| {
            let left = event(of.event.as_bytes()).and_then(|event| ended.get_mut(&(of.request, event)));
            left.filter(|count| **count > 0).map(|count| *count -= 1).is_none()
        });
        unfinished
    }

    /// Reads `file` from its end, at most `budget` bytes of it; returns how many it read. To be called for the files
    /// of the newest start first.
    ///
    /// # Errors
    /// What reading returns.
    pub fn read(&mut self, file: &mut (impl Read + Seek), budget: u64) -> io::Result<u64> {
        let end = file.seek(SeekFrom::End(0))?;
        let stop = end.saturating_sub(budget);
        let mut at = end;
        // The beginning of the line that the last piece ended in, and what a crash left of a line at the end.
        let mut bytes = Vec::new();
        let mut torn = true;
        self.open_from = self.unfinished.len();
        while at > stop {
            let len = usize::try_from(at - stop).unwrap_or(usize::MAX).min(AUDIT_REPLAY_PIECE_BYTES);
            at -= u64::try_from(len).unwrap_or(at);
            let mut piece = vec![0; len];
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut piece)?;
            piece.append(&mut bytes);
            let first =
                if at == 0 { 0 } else { memchr::memchr(b'\n', &piece).map_or(piece.len(), |end| end + 1) };
            let (begun, lines) = piece.split_at_checked(first).unwrap_or_default();
            self.take_lines(lines, &mut torn);
            // One byte more than any line has: what is longer stays longer, and is none.
            let kept = begun.get(..begun.len().min(AUDIT_LINE_MAX_BYTES + 1)).unwrap_or_default();
            bytes = kept.to_vec();
        }
        Ok(end - at)
    }

    /// Takes whole lines, the last one first.
    fn take_lines(&mut self, lines: &[u8], torn: &mut bool) {
        for line in lines.rsplit(|byte| *byte == b'\n') {
            // What follows the last line feed of a file is nothing, or what a crash left of a line.
            if !core::mem::take(torn) && !line.is_empty() {
                // A line of another form tells nothing.
                let _ = self.take_line(line);
            }
        }
    }

    fn take_line(&mut self, line: &[u8]) -> Option<()> {
        if line.last() != Some(&b'}') || line.len() > AUDIT_LINE_MAX_BYTES {
            return None;
        }
        let name = member::text(line, b",\"event\":\"")?;
        let is_head = name == STORE_HEAD.as_bytes();
        if !is_head && !CHANGES.iter().any(|prefix| name.starts_with(prefix)) {
            return None;
        }
        let mark = self.mark(line);
        if let Some(mark) = mark
            && self.head.is_none_or(|head| head.revision < mark.revision)
        {
            self.head = Some(mark);
        }
        if is_head {
            return None;
        }
        let outcome = member::text(line, b",\"outcome\":\"")?;
        let request = RequestId::parse(member::text(line, b",\"request_id\":\"")?)?;
        let event = event(name)?;
        if outcome == b"attempt" {
            match self.ended.get_mut(&(request, event)) {
                Some(count) if *count > 1 => *count -= 1,
                Some(_) => drop(self.ended.remove(&(request, event))),
                None => {
                    let mut of = unfinished(line, name, request)?;
                    of.before = *self.kept.entry(request).or_insert(0);
                    self.unfinished.push(of);
                }
            }
        } else if member::text(line, b",\"code\":\"") != Some(AMBIGUOUS) {
            *self.ended.entry((request, event)).or_insert(0) += 1;
            if mark.is_some() {
                if let Some(kept) = self.kept.get_mut(&request) {
                    *kept += 1;
                }
                let open = self.unfinished.get_mut(self.open_from..).unwrap_or_default();
                open.iter_mut().for_each(|of| of.after = Some(request));
                self.open_from = self.unfinished.len();
            }
        }
        Some(())
    }

    /// Where the store stood, if the line tells it and it can be so.
    fn mark(&mut self, line: &[u8]) -> Option<StoreMark> {
        const REVISION: &[u8] = b",\"store_revision\":";
        memmem::find(line, REVISION)?;
        let revision =
            member::number(line, REVISION).filter(|revision| *revision <= AUDIT_REVISION_MAX_NUMBER);
        if revision.is_none() {
            self.impossible += 1;
        }
        // Sixteen bytes in hexadecimal, as request identifiers are.
        let tag = RequestId::parse(member::text(line, b",\"store_tag\":\"")?)?.to_bytes();
        Some(StoreMark { revision: revision?, tag })
    }
}

fn unfinished(line: &[u8], event: &[u8], request: RequestId) -> Option<Unfinished> {
    let text = |bytes: &[u8]| str::from_utf8(bytes).ok().map(str::to_owned);
    let plain = |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric());
    Some(Unfinished {
        request,
        event: text(event)?,
        principal: member::text(line, b",\"principal\":\"").and_then(text).filter(plain),
        api_key: member::text(line, b",\"api_key\":\"").and_then(text).filter(plain),
        key: member::text(line, b",\"key\":\"").and_then(text).filter(|key| KeyName::is_valid(key)),
        before: 0,
        after: None,
    })
}

/// The name of a change as a key of the table; nothing if it is not of the form that names of events have.
fn event(name: &[u8]) -> Option<Event> {
    let mut event = [0; AUDIT_CHANGE_NAME_MAX_BYTES];
    let plain = name.iter().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'.' | b'_'));
    event.get_mut(..name.len()).filter(|_| plain)?.copy_from_slice(name);
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::{Chain, Root};
    use crate::audit::line::{self, Event, Outcome, Request};
    use crate::clock::WallTime;
    use crate::secret::Secret;
    use std::io::Cursor;

    fn chain() -> Chain {
        Root::new(Secret::take(&mut [7; 32])).chain("s").unwrap()
    }

    #[derive(Default)]
    struct File {
        bytes: Vec<u8>,
        lines: u64,
    }

    impl File {
        fn tell(&mut self, name: &str, id: u64, outcome: Outcome, revision: Option<u64>) -> &mut Self {
            self.tell_code(name, id, outcome, revision, None)
        }

        fn tell_code(
            &mut self,
            name: &str,
            id: u64,
            outcome: Outcome,
            revision: Option<u64>,
            code: Option<&'static str>,
        ) -> &mut Self {
            let request = Request {
                id: &RequestId::new(7, id),
                principal: Some("0a1b2c3d"),
                token: None,
                identity: None,
                remote: Some("192.0.2.1".parse().unwrap()),
                trace: None,
                route: Some("/api/keys"),
                status: 0,
                elapsed_micros: 5,
                key: Some("orders"),
                api_key: None,
                key_version: None,
                detail: None,
                items: None,
                bytes: None,
                body: None,
            };
            let store = revision.map(|revision| StoreMark { revision, tag: [3; 16] });
            let event = Event {
                at: WallTime::default(),
                name,
                outcome,
                code,
                count: None,
                own: None,
                store,
                request: Some(request),
            };
            let mut target = [0; AUDIT_LINE_MAX_BYTES];
            self.lines += 1;
            let len = line::write(&mut target, "s-w0", self.lines, &event, &mut chain()).unwrap();
            self.bytes.extend_from_slice(&target[..len]);
            self
        }

        fn tell_head(&mut self, revision: u64) -> &mut Self {
            let store = Some(StoreMark { revision, tag: [3; 16] });
            let (at, outcome) = (WallTime::default(), Outcome::Success);
            let event = Event {
                at,
                name: STORE_HEAD,
                outcome,
                code: None,
                count: None,
                own: None,
                store,
                request: None,
            };
            let mut target = [0; AUDIT_LINE_MAX_BYTES];
            self.lines += 1;
            let len = line::write(&mut target, "s-k", self.lines, &event, &mut chain()).unwrap();
            self.bytes.extend_from_slice(&target[..len]);
            self
        }

        fn replayed(&self) -> Replay {
            let mut replay = Replay::new();
            let read = replay.read(&mut Cursor::new(&self.bytes), u64::MAX).unwrap();
            assert_eq!(read, self.bytes.len() as u64);
            replay
        }
    }

    fn ids(replay: Replay) -> Vec<(RequestId, usize)> {
        replay.into_unfinished().into_iter().map(|of| (of.request, of.before)).collect()
    }

    #[test]
    fn attempts_without_an_outcome_and_the_furthest_head_are_found() {
        let mut file = File::default();
        file.tell("key.create", 1, Outcome::Attempt, None).tell("key.rotate", 2, Outcome::Attempt, None);
        file.tell("encrypt", 9, Outcome::Success, None).tell("key.create", 1, Outcome::Success, Some(12));
        file.tell("key.delete", 3, Outcome::Attempt, None).tell("key.delete", 3, Outcome::Failure, None);
        file.tell("key.create", 4, Outcome::Failure, None);
        let replay = file.replayed();
        assert_eq!(replay.head(), Some(StoreMark { revision: 12, tag: [3; 16] }));
        let unfinished = replay.into_unfinished();
        assert_eq!(unfinished.len(), 1, "{unfinished:?}");
        assert_eq!(unfinished[0].request, RequestId::new(7, 2));
        assert_eq!(
            (unfinished[0].event.as_str(), unfinished[0].key.as_deref()),
            ("key.rotate", Some("orders"))
        );
        assert_eq!(unfinished[0].principal.as_deref(), Some("0a1b2c3d"));
    }

    #[test]
    fn what_a_request_changed_before_its_last_attempt_is_counted() {
        let mut file = File::default();
        for revision in [4, 5] {
            file.tell("key.reserve", 1, Outcome::Attempt, None);
            file.tell("key.reserve", 1, Outcome::Success, Some(revision));
        }
        file.tell("key.reserve", 1, Outcome::Attempt, None);
        assert_eq!(ids(file.replayed()), [(RequestId::new(7, 1), 2)]);
        file.tell("key.reserve", 1, Outcome::Success, Some(6));
        assert_eq!(ids(file.replayed()), []);
    }

    #[test]
    fn a_line_that_tells_where_the_store_stands_is_a_witness() {
        let mut file = File::default();
        file.tell("key.create", 1, Outcome::Success, Some(2)).tell_head(3);
        assert_eq!(file.replayed().head().unwrap().revision, 3);
    }

    #[test]
    fn a_revision_that_no_store_can_have_is_no_witness_and_is_counted() {
        const MOST: u64 = AUDIT_REVISION_MAX_NUMBER;
        for revision in [MOST + 1, i64::MAX as u64, u64::MAX] {
            let mut file = File::default();
            file.tell("key.create", 1, Outcome::Success, Some(2)).tell_head(revision);
            file.tell("key.create", 2, Outcome::Success, Some(revision));
            let larger = str::from_utf8(&file.bytes).unwrap().replace(&revision.to_string(), &"9".repeat(30));
            for bytes in [file.bytes, larger.into_bytes()] {
                let replay = File { bytes, lines: 0 }.replayed();
                assert_eq!((replay.head().unwrap().revision, replay.impossible()), (2, 2), "{revision}");
            }
        }
        let mut file = File::default();
        let replay = file.tell_head(MOST).replayed();
        assert_eq!((replay.head().unwrap().revision, replay.impossible()), (MOST, 0));
    }

    #[test]
    fn an_unfinished_change_names_the_last_one_that_was_kept_before_it() {
        let mut older = File::default();
        older.tell("key.create", 8, Outcome::Success, Some(2));
        let mut file = File::default();
        file.tell("key.create", 1, Outcome::Attempt, None).tell("key.create", 2, Outcome::Success, Some(3));
        file.tell("key.create", 3, Outcome::Attempt, None).tell("key.create", 4, Outcome::Attempt, None);
        let mut replay = Replay::new();
        for file in [&file, &older] {
            replay.read(&mut Cursor::new(&file.bytes), u64::MAX).unwrap();
        }
        let found: Vec<_> = replay.into_unfinished().into_iter().map(|of| (of.request, of.after)).collect();
        let id = |number| RequestId::new(7, number);
        assert_eq!(found, [(id(4), Some(id(2))), (id(3), Some(id(2))), (id(1), None)]);
    }

    #[test]
    fn an_ambiguous_outcome_leaves_the_attempt_open_and_a_later_start_closes_it() {
        let mut older = File::default();
        older.tell("key.delete", 1, Outcome::Attempt, None);
        older.tell_code("key.delete", 1, Outcome::Failure, None, Some("store_ambiguous"));
        assert_eq!(ids(older.replayed()), [(RequestId::new(7, 1), 0)]);
        let mut newer = File::default();
        newer.tell_code("key.delete", 1, Outcome::Success, None, Some("reconciled"));
        for files in [[&newer, &older], [&older, &newer]] {
            let mut replay = Replay::new();
            for file in files {
                replay.read(&mut Cursor::new(&file.bytes), u64::MAX).unwrap();
            }
            assert_eq!(ids(replay), []);
        }
    }

    #[test]
    fn a_torn_end_and_foreign_lines_tell_nothing() {
        let mut file = File::default();
        file.tell("key.create", 1, Outcome::Attempt, None);
        file.bytes
            .extend_from_slice(b"\n\n{\"event\":\"key.create\"\xff}\n,\"event\":\"key.\",\"outcome\":\"\n");
        file.bytes.extend_from_slice(&vec![b'x'; 3 * AUDIT_REPLAY_PIECE_BYTES]);
        file.bytes.push(b'\n');
        let len = file.bytes.len();
        file.tell("key.create", 1, Outcome::Success, Some(7));
        for cut in len..file.bytes.len() {
            let whole = core::mem::take(&mut file.bytes);
            file.bytes = whole[..cut].to_vec();
            let replay = file.replayed();
            assert_eq!(replay.head(), None, "{cut}");
            assert_eq!(ids(replay), [(RequestId::new(7, 1), 0)]);
            file.bytes = whole;
        }
        assert_eq!(ids(file.replayed()), []);
    }

    #[test]
    fn lines_are_found_across_pieces_and_a_budget_cuts_off_the_oldest() {
        let mut file = File::default();
        let mut first_end = 0;
        for id in 0..4_000 {
            file.tell("key.create", id, Outcome::Attempt, None);
            if id == 0 {
                first_end = file.bytes.len();
            }
        }
        assert!(file.bytes.len() > 2 * AUDIT_REPLAY_PIECE_BYTES);
        let all = ids(file.replayed());
        assert_eq!(all.len(), 4_000);
        assert!(
            all.iter().rev().enumerate().all(|(id, (request, _))| *request == RequestId::new(7, id as u64))
        );
        let mut replay = Replay::new();
        let budget = (file.bytes.len() - first_end + 1) as u64;
        assert_eq!(replay.read(&mut Cursor::new(&file.bytes), budget).unwrap(), budget);
        assert_eq!(replay.into_unfinished().len(), 3_999, "the oldest line is not whole");
    }
}
