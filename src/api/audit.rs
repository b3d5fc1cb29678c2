//! `GET /api/audit` and `GET /api/audit/stream`: the last audit lines, page by page and as they come.
//!
//! Owns what the two take in their queries, and the form in which lines leave. Invariants: a line is given out as it was
//! written; a place in the log is a start and a number, and where lines between two places are no longer held, the reply says
//! so.

use core::ops::Range;

use crate::api::payload::canonical_number;
use crate::api::{Answer, Call, Rejection, Verdict, raw};
use crate::audit::{Filter, Outcome, Place, Recent};
use crate::clock::WallTime;
use crate::cursor::Cursor;
use crate::http::media::ReplyForm;
use crate::http::query::Query;
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::limits::{
    AUDIT_EVENT_FRAME_MAX_BYTES, AUDIT_PAGE_DEFAULT_COUNT, AUDIT_PAGE_LOOK_MAX_COUNT,
    AUDIT_STREAM_RETRY_MILLIS, LIST_PAGE_MAX_COUNT,
};

const BAD_PAGE: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_parameter",
    "limit is a number from 1 to 1000; before is what next of an earlier page says.",
);
const BAD_FILTER: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_parameter",
    "outcome is attempt, begin, success, failure or unknown; since and until are RFC 3339 or whole Unix seconds.",
);
const BAD_PLACE: Fault<'static> = Fault::new(
    Status::BadRequest,
    "malformed_event_id",
    "Last-Event-ID, or last_event_id in the query, is the id of an event that was received.",
);
const CURSOR_GONE: Fault<'static> = Fault::new(
    Status::Gone,
    "audit_cursor_gone",
    "The server was restarted, or the lines before this place are no longer in memory. Begin again without before; the audit files have every line.",
);

/// The parameters of [`page`], those of every filter last.
const PAGE: [&str; 10] =
    ["limit", "before", "since", "until", "principal", "key", "event", "outcome", "code", "request_id"];
/// The parameters of [`follow`].
const FOLLOW: [&str; 9] =
    ["last_event_id", "since", "until", "principal", "key", "event", "outcome", "code", "request_id"];

/// `GET /api/audit`
///
/// # Errors
/// [`Rejection`]
pub fn page(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let query = call.query(&PAGE)?;
    let filter = filter(query)?;
    let limit = match query.find_unique("limit")? {
        None => AUDIT_PAGE_DEFAULT_COUNT,
        Some(text) => canonical_number(&text.to_cow())
            .and_then(|limit| usize::try_from(limit).ok())
            .filter(|limit| *limit <= LIST_PAGE_MAX_COUNT)
            .ok_or(BAD_PAGE)?,
    };
    let held = call.recent.held();
    let before = match raw::text(query, "before")? {
        None => held.end,
        Some(text) => cursor(call.recent, &text, &held)?,
    };
    responder.begin_growing(Status::Ok, ReplyForm::Json.content_type())?;
    put(responder, b"{\"events\":[")?;
    let at = put_lines(call.recent, &filter, before, limit, responder)?;
    let left = call.recent.held();
    put(responder, b"]")?;
    if at > left.start {
        put_place(responder, ",\"next\":\"", call.recent.place(at))?;
    }
    put_place(responder, ",\"oldest\":\"", call.recent.place(left.start))?;
    put_place(responder, ",\"newest\":\"", call.recent.place(held.end - 1))?;
    put(responder, if left.start == 1 { b",\"complete\":true}" } else { b",\"complete\":false}" })?;
    Ok(Verdict::Done)
}

/// Those who follow the lines, and how far they have come.
#[derive(Debug)]
pub struct Following {
    filter: Filter,
    /// The number of the next line; 0 if what they saw last was written by another start.
    next: u64,
}

/// Reads the head of `GET /api/audit/stream`.
///
/// # Errors
/// [`Rejection`]
pub fn follow(call: &mut Call<'_>) -> Result<Following, Rejection> {
    let query = call.query(&FOLLOW)?;
    let filter = filter(query)?;
    let arrival = call.arrival;
    let named = arrival.head.rare(arrival.bytes, "Last-Event-ID")?.filter(|id| !id.is_empty());
    // What a browser has seen since it opened the address with its query is newer than that.
    let last = match named {
        Some(id) => Some(str::from_utf8(id).map_err(|_| BAD_PLACE)?.into()),
        None => raw::text(query, "last_event_id")?.filter(|id| !id.is_empty()),
    };
    let held = call.recent.held();
    let next = match last {
        None if filter.has_since() => held.start,
        None => held.end,
        Some(text) => match Place::parse(&text).ok_or(BAD_PLACE)? {
            place if place.start != call.recent.place(0).start => 0,
            place => Some(place.number + 1).filter(|next| *next <= held.end).ok_or(BAD_PLACE)?,
        },
    };
    Ok(Following { filter, next })
}

impl Following {
    /// Whether there are lines that were not looked at.
    #[must_use]
    pub fn is_behind(&self, recent: &Recent) -> bool {
        self.next < recent.held().end
    }

    /// Writes how the stream begins; returns its length.
    pub fn open(&self, recent: &Recent, room: &mut [u8]) -> usize {
        let mut cursor = Cursor::new(room);
        let put = |cursor: &mut Cursor<'_>| {
            cursor.put(b"retry: ")?;
            cursor.put_number(AUDIT_STREAM_RETRY_MILLIS, 0)?;
            cursor.put(b"\n")?;
            self.put_seen(cursor, recent)
        };
        put(&mut cursor).map_or(0, |()| cursor.position())
    }

    /// Writes the next lines as events, as many as there is room for, or, if there are none and a `heartbeat` is due, a
    /// comment; returns the length. Not all that there is may have been looked at.
    pub fn fill(&mut self, recent: &Recent, heartbeat: bool, room: &mut [u8]) -> usize {
        let mut cursor = Cursor::new(room);
        let (filter, mut due) = (&self.filter, self.next);
        let looked = recent.forward(due, &mut |number, line| {
            // Of a line that is missing, and of this one.
            if cursor.room() < line.len() + 2 * AUDIT_EVENT_FRAME_MAX_BYTES {
                return false;
            }
            let missing = core::mem::replace(&mut due, number + 1) < number;
            if missing {
                put_gap(&mut cursor, recent, number);
            }
            if filter.passes(line) {
                put_event(&mut cursor, recent, number, line);
            }
            true
        });
        if !looked.is_empty() {
            self.next = looked.end;
        }
        if cursor.position() == 0 && heartbeat {
            // Whoever comes back later need not look again at what was not asked for.
            let _ = cursor.put(b":\n").and_then(|()| self.put_seen(&mut cursor, recent));
        }
        cursor.position()
    }

    /// Tells how far the stream has come, without an event.
    fn put_seen(&self, cursor: &mut Cursor<'_>, recent: &Recent) -> Option<()> {
        if let Some(seen) = self.next.checked_sub(1) {
            put_id(cursor, recent.place(seen))?;
        }
        cursor.put(b"\n")
    }
}

fn put_event(cursor: &mut Cursor<'_>, recent: &Recent, number: u64, line: &[u8]) -> Option<()> {
    put_id(cursor, recent.place(number))?;
    cursor.put(b"event: audit\ndata: ")?;
    cursor.put(line)?;
    cursor.put(b"\n\n")
}

/// Tells that the lines before the one with this number, and after what was sent last, are no longer held.
fn put_gap(cursor: &mut Cursor<'_>, recent: &Recent, number: u64) -> Option<()> {
    let place = recent.place(number);
    put_id(cursor, recent.place(number.saturating_sub(1)))?;
    cursor.put(b"event: gap\ndata: {\"next\":\"")?;
    cursor.put(place.start.as_bytes())?;
    cursor.put(b"-")?;
    cursor.put_number(place.number, 0)?;
    cursor.put(b"\"}\n\n")
}

fn put_id(cursor: &mut Cursor<'_>, place: Place<'_>) -> Option<()> {
    cursor.put(b"id: ")?;
    cursor.put(place.start.as_bytes())?;
    cursor.put(b"-")?;
    cursor.put_number(place.number, 0)?;
    cursor.put(b"\n")
}

/// Writes at most `limit` lines that pass, from before `before`, newest first; returns where it stopped.
fn put_lines(
    recent: &Recent,
    filter: &Filter,
    before: u64,
    limit: usize,
    responder: &mut Responder<'_>,
) -> Result<u64, Rejection> {
    let (mut at, mut found, mut written) = (before, 0, Ok(()));
    let last = before.saturating_sub(AUDIT_PAGE_LOOK_MAX_COUNT as u64);
    while at > recent.held().start.max(last) && found < limit && written.is_ok() {
        at = recent.backward(at, &mut |_, line| {
            if found == limit {
                return false;
            }
            if filter.passes(line) {
                let comma: &[u8] = if found > 0 { b"," } else { b"" };
                written = put(responder, comma).and_then(|()| put(responder, line));
                found += 1;
            }
            written.is_ok()
        });
    }
    written.map(|()| at)
}

/// The number that a page begins before.
fn cursor(recent: &Recent, text: &str, held: &Range<u64>) -> Result<u64, Rejection> {
    let place = Place::parse(text).ok_or(BAD_PAGE)?;
    if place.start != recent.place(0).start {
        return Err(CURSOR_GONE.into());
    }
    match place.number {
        0 => Err(BAD_PAGE.into()),
        number if number > held.end => Err(BAD_PAGE.into()),
        number if number <= held.start && held.start > 1 => Err(CURSOR_GONE.into()),
        number => Ok(number),
    }
}

fn filter(query: Query<'_>) -> Result<Filter, Rejection> {
    let mut filter = Filter::default();
    for name in Filter::names() {
        if let Some(text) = query.find_unique(name)? {
            let value = text.to_cow();
            // A misspelt outcome must not read as if nothing had happened.
            let known =
                name != "outcome" || Outcome::ALL.iter().any(|outcome| outcome.name().as_bytes() == &*value);
            filter.want(name, &value).filter(|()| known).ok_or(BAD_FILTER)?;
        }
    }
    if let Some(since) = time(query, "since")? {
        filter.want_since(since);
    }
    if let Some(until) = time(query, "until")? {
        filter.want_until(until);
    }
    Ok(filter)
}

fn time(query: Query<'_>, name: &str) -> Result<Option<WallTime>, Rejection> {
    let Some(text) = query.find_unique(name)? else { return Ok(None) };
    let value = text.to_cow();
    let seconds = canonical_number(&value).map(|seconds| WallTime::from_millis(u64::from(seconds) * 1_000));
    seconds.or_else(|| WallTime::parse_rfc3339(&value)).map(Some).ok_or_else(|| BAD_FILTER.into())
}

fn put(responder: &mut Responder<'_>, bytes: &[u8]) -> Result<(), Rejection> {
    responder.announce(bytes.len())?;
    responder.append(bytes);
    Ok(())
}

fn put_place(responder: &mut Responder<'_>, before: &str, place: Place<'_>) -> Result<(), Rejection> {
    put(responder, format!("{before}{place}\"").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{AUDIT_LINE_MAX_BYTES, AUDIT_RECENT_BYTES, PUSH_WINDOW_BYTES};

    fn told(following: &mut Following, recent: &Recent, heartbeat: bool) -> String {
        let mut room = vec![0; PUSH_WINDOW_BYTES];
        let len = following.fill(recent, heartbeat, &mut room);
        String::from_utf8(room[..len].to_vec()).unwrap()
    }

    #[test]
    fn lines_become_events_and_silence_a_comment() {
        let recent = Recent::new("s");
        recent.append(b"{\"a\":1}\n");
        let mut following = Following { filter: Filter::default(), next: 2 };
        let mut room = [0; 64];
        let len = following.open(&recent, &mut room);
        assert_eq!(&room[..len], b"retry: 2000\nid: s-1\n\n");
        assert_eq!(told(&mut following, &recent, false), "");
        assert_eq!(told(&mut following, &recent, true), ":\nid: s-1\n\n");
        recent.append(b"{\"b\":2}\n{\"c\":3}\n");
        assert!(following.is_behind(&recent));
        let events = "id: s-2\nevent: audit\ndata: {\"b\":2}\n\nid: s-3\nevent: audit\ndata: {\"c\":3}\n\n";
        assert_eq!(told(&mut following, &recent, true), events);
        assert!(!following.is_behind(&recent));
    }

    #[test]
    fn lines_that_are_gone_and_those_of_another_start_are_told_as_missing_once() {
        let recent = Recent::new("s");
        recent.append(b"{\"a\":1}\n");
        let mut following = Following { filter: Filter::default(), next: 0 };
        let mut room = [0; 64];
        let len = following.open(&recent, &mut room);
        assert_eq!(&room[..len], b"retry: 2000\n\n", "nothing of this start was seen");
        let gap =
            "id: s-0\nevent: gap\ndata: {\"next\":\"s-1\"}\n\nid: s-1\nevent: audit\ndata: {\"a\":1}\n\n";
        assert_eq!(told(&mut following, &recent, false), gap);
        for _ in 0..=AUDIT_RECENT_BYTES / 1_000 {
            recent.append(&[&[b'x'; 999][..], b"\n"].concat());
        }
        let oldest = recent.held().start;
        let text = told(&mut following, &recent, false);
        assert!(
            oldest > 2
                && text.starts_with(&format!(
                    "id: s-{}\nevent: gap\ndata: {{\"next\":\"s-{oldest}\"}}\n\nid: s-{oldest}\n",
                    oldest - 1
                )),
            "{text}"
        );
        assert_eq!(text.matches("event: gap").count(), 1);
    }

    #[test]
    fn every_line_leaves_once_however_small_the_room() {
        let recent = Recent::new("6921f3a2-0a1b2c3d");
        let mut following = Following { filter: Filter::default(), next: 1 };
        for number in 0..2_000 {
            let line = format!("{number:0width$}\n", width = 1 + number % (AUDIT_LINE_MAX_BYTES - 1));
            recent.append(line.as_bytes());
        }
        let mut seen = Vec::new();
        while following.is_behind(&recent) {
            let text = told(&mut following, &recent, false);
            assert!(text.ends_with("\n\n"));
            let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
            seen.extend(lines.map(|line| line.parse::<usize>().unwrap()));
        }
        assert_eq!(seen, (0..2_000).collect::<Vec<_>>());
    }
}
