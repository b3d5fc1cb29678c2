//! A request whose body is taken, and whose reply is sent, piece by piece.
//!
//! ```text
//!   admitted ──▶ flushed ──▶ gathering ◀──▶ sending ──▶ finished ──▶ (next request)
//!                                │             │
//!                                │             └─ cut: reset, short of its length or without its last chunk
//!                                └─ refused: an ordinary reply
//! ```
//!
//! Owns [`Stream`], the [`Exchange`] that a service works with, and its window: the input lease, in which the head stays
//! at the front and the body passes behind it.
//!
//! ```text
//!   head │ passed │ gathered (decoded, worked on in place) │ room
//!                 at                                      end
//! ```
//!
//! A reply that is pushed has no body to pass: its pieces are made in the output lease, and it is the last of its connection.
//!
//! Invariants: the window is of a bounded size, whatever the length of the body; bytes are copied at most once on
//! their way in (out of their chunks, or to the front of the window) and not at all on their way out: what frames a piece is
//! written around it, sent with it in one call, and what stood there is put back; from the first byte of a reply to its
//! last the connection ends by a reset, even if the process dies; a body that is still raw is never handed out; after each piece the other connections of the worker have their turn.

use crate::clock::Moment;
use crate::cursor::Cursor;
use crate::http::chunked::{CHUNK_FRAME_MAX_BYTES, ChunkFrame, ChunkedDecoder};
use crate::http::connection::{Busy, End, arrival, terms};
use crate::http::env::{Bounds, Workspace};
use crate::http::framing::Framing;
use crate::http::head::Head;
use crate::http::intake::{BODY_CUT_SHORT, BODY_TOO_LARGE, BODY_TOO_SLOW};
use crate::http::reply::{self, BodyLength, CONTINUE, Face, ReplyHead};
use crate::http::responder::{Fault, OVERLOADED, Responder};
use crate::http::service::{Arrival, Cut, Exchange, Gathered, Opening, Piece, Service};
use crate::http::status::Status;
use crate::http::target::{Method, Version};
use crate::limits::{
    BODY_RATE_MIN_BYTES_PER_SECOND, PUSH_WINDOW_BYTES, REPLY_HEAD_MAX_BYTES, REPLY_PROBLEM_MAX_BYTES,
    STREAM_PREFIX_MAX_BYTES, STREAM_SUFFIX_MAX_BYTES,
};
use crate::reactor::{Failure, Transport};

const LENGTH_REQUIRED: Fault<'static> = Fault::new(
    Status::LengthRequired,
    "length_required",
    "An HTTP/1.0 request to this route needs a Content-Length.",
);

/// Most bytes that are written behind what was gathered.
const BEHIND_BYTES: usize = STREAM_SUFFIX_MAX_BYTES + CHUNK_FRAME_MAX_BYTES;

const _: () = assert!(
    REPLY_HEAD_MAX_BYTES + STREAM_PREFIX_MAX_BYTES + 2 * CHUNK_FRAME_MAX_BYTES <= REPLY_PROBLEM_MAX_BYTES,
    "a reply is begun in the room that is kept for a refusal"
);

/// Where the body's bytes are told from what frames them.
#[derive(Debug)]
enum Body {
    /// So many more bytes belong to it.
    Counted(u64),
    Chunked(ChunkedDecoder),
}

/// How far the reply is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing of it exists.
    None,
    /// It is an ordinary one; whether the connection ends with it.
    Refused(bool),
    /// It was begun: so many bytes are owed, or it is sent in chunks.
    Begun(Option<u64>),
    /// It is complete.
    Finished,
    /// It cannot be completed, and nobody is there to see it.
    Lost,
}

/// How slow the body may be. It stands still while the peer does not take the reply.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// When something came last.
    heard: Moment,
    /// When the lowest rate is missed. Each byte moves it on; what came fast earns no more than a gap's time.
    due: Moment,
}

impl Pace {
    fn new(now: Moment, bounds: &Bounds) -> Self {
        Self { heard: now, due: now.plus_millis(bounds.body_gap_millis) }
    }

    fn deadline(&self, bounds: &Bounds) -> Moment {
        self.due.min(self.heard.plus_millis(bounds.body_gap_millis))
    }

    fn receive(&mut self, now: Moment, count: usize, bounds: &Bounds) {
        let earned = (count as u64).saturating_mul(1_000_000_000) / BODY_RATE_MIN_BYTES_PER_SECOND;
        let most = now.plus_millis(bounds.body_gap_millis.saturating_mul(2));
        self.due = self.due.plus_nanos(earned).min(most);
        self.heard = now;
    }

    fn resume(&mut self, stopped: Moment, now: Moment) {
        let nanos = now.nanos_since(stopped);
        (self.due, self.heard) = (self.due.plus_nanos(nanos), self.heard.plus_nanos(nanos));
    }
}

/// A streamed request in the hands of the service.
struct Stream<'b, 'a, T, S: Service> {
    busy: &'b mut Busy<'a, T, S>,
    request: Head,
    /// Length of the head, which stays in front.
    head: usize,
    length: Option<u64>,
    body: Body,
    /// Where what was gathered begins and ends.
    at: usize,
    end: usize,
    /// Whether the body has ended.
    whole: bool,
    /// Whether the peer waits to be asked for the body.
    expects: bool,
    pace: Pace,
    progress: Progress,
    /// Whether a close would reset the connection.
    aborting: bool,
    /// Whether the reply is pushed.
    pushed: bool,
}

impl<T: Transport, S: Service> Busy<'_, T, S> {
    /// Serves the request in hand, whose body is streamed, or whose reply is pushed.
    pub(super) async fn stream(&mut self, pushed: bool) -> Result<(), End> {
        let Some(head) = self.ws.current.head else { return Err(End::Lost) };
        if pushed && !matches!(head.framing, Framing::Empty | Framing::Length(0)) {
            return Err(self.refuse(&BODY_TOO_LARGE, &[]));
        }
        if !pushed && head.framing == Framing::Empty && head.version == Version::Http10 {
            return Err(self.refuse(&LENGTH_REQUIRED, &[]));
        }
        // What is owed for earlier requests leaves first: from here on nothing is gathered.
        self.flush().await?;
        if self.ws.output.reserve(REPLY_PROBLEM_MAX_BYTES).is_err() {
            return Err(self.send_no_memory().await);
        }
        let Some(admission) = self.admission.take() else { return Err(End::Lost) };
        let length = match head.framing {
            Framing::Empty => Some(0),
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        };
        let env = self.env;
        let pace = Pace::new(self.channel.turn().now(), &self.env.bounds);
        let mut stream = Stream {
            busy: self,
            request: head,
            head: head.len,
            length,
            body: length.map_or_else(|| Body::Chunked(ChunkedDecoder::default()), Body::Counted),
            at: head.len,
            end: head.len,
            whole: length == Some(0),
            expects: head.expects_continue,
            pace,
            progress: Progress::None,
            aborting: false,
            pushed,
        };
        env.service.stream(admission, &mut stream).await;
        stream.conclude()
    }
}

impl<T: Transport, S: Service> Stream<'_, '_, T, S> {
    /// What becomes of the connection.
    fn conclude(mut self) -> Result<(), End> {
        // A service that says nothing is answered for: the responder makes that a 500.
        self.refuse(|_, _| {});
        if self.aborting || self.progress == Progress::Finished {
            self.busy.report_own(Status::Ok);
        }
        let closed = match self.progress {
            // A client that reads to the end and does not count must not take a clean end for that of the reply.
            Progress::None | Progress::Begun(_) | Progress::Lost => return Err(End::Lost),
            Progress::Refused(closed) => closed,
            Progress::Finished => self.busy.ws.current.last,
        };
        if !self.whole {
            return Err(End::Linger);
        }
        let end = self.busy.forget(self.end - self.head);
        if closed { Err(end) } else { Ok(()) }
    }

    /// Tells body from framing in what has come.
    fn decode(&mut self) -> Result<(), Cut> {
        if self.whole {
            return Ok(());
        }
        let input = &mut self.busy.ws.input;
        let raw = input.filled_mut().get_mut(self.end..).unwrap_or_default();
        match &mut self.body {
            Body::Counted(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(raw.len());
                *left -= count as u64;
                self.end += count;
                self.whole = *left == 0;
            }
            Body::Chunked(decoder) => {
                let progress = decoder.decode(raw).map_err(|refusal| Cut::Fault(refusal.into()))?;
                input.remove(self.end + progress.produced, self.end + progress.consumed);
                self.end += progress.produced;
                self.whole = progress.done;
            }
        }
        Ok(())
    }

    /// Makes room for `missing` more bytes of the body, and for what is written behind them. The lease grows with what
    /// was announced, or with what has come.
    fn make_room(&mut self, missing: usize) -> Result<(), Cut> {
        let input = &mut self.busy.ws.input;
        if input.room() < missing + BEHIND_BYTES && self.at > self.head {
            input.remove(self.head, self.at);
            self.end -= self.at - self.head;
            self.at = self.head;
        }
        let sure = match &self.body {
            Body::Counted(left) => usize::try_from(*left).unwrap_or(usize::MAX).min(missing),
            Body::Chunked(_) => missing.min(1),
        };
        input.reserve(sure + BEHIND_BYTES).map_err(|_| Cut::Fault(OVERLOADED))
    }

    async fn receive(&mut self, until: Moment) -> Result<Option<Gathered>, Cut> {
        let Busy { channel, ws, env, .. } = &mut *self.busy;
        if core::mem::take(&mut self.expects) && ws.input.filled().len() == self.head {
            let sent = channel.send_all(CONTINUE, env.bounds.write_millis).await;
            sent.map_err(|_| self.lose())?;
        }
        let Busy { channel, ws, env, .. } = &mut *self.busy;
        let deadline = self.pace.deadline(&env.bounds);
        let usable = ws.input.room().saturating_sub(BEHIND_BYTES);
        let room = ws.input.room_mut().get_mut(..usable).unwrap_or_default();
        match channel.receive(room, deadline.min(until)).await {
            Ok(0) => Err(Cut::Fault(BODY_CUT_SHORT)),
            Ok(count) => {
                ws.input.advance(count);
                self.pace.receive(channel.turn().now(), count, &env.bounds);
                Ok(None)
            }
            Err(Failure::TimedOut) if channel.turn().now() < deadline => Ok(Some(Gathered::Waiting)),
            Err(Failure::TimedOut) => Err(Cut::Fault(BODY_TOO_SLOW)),
            Err(Failure::Lost) => Err(self.lose()),
        }
    }

    /// Notes that nobody is there any more.
    fn lose(&mut self) -> Cut {
        self.progress = Progress::Lost;
        Cut::Lost
    }

    /// Sends a piece; its bytes and what frames them leave in one call.
    async fn put(&mut self, piece: Piece<'_>, last: bool) -> Result<(), Cut> {
        let size = piece.sent + piece.suffix.len();
        let chunked = self.owe(size, last)?;
        self.abort_from_here();
        let frame = if chunked { ChunkFrame::new(size, last) } else { ChunkFrame::none() };
        let stopped = self.busy.channel.turn().now();
        let sent = self.put_framed(piece, &frame).await;
        if sent.is_ok() && !last {
            // Nothing is waited for but the end of this turn: the others are served in between.
            self.busy.channel.turn().ended().await;
        }
        self.pace.resume(stopped, self.busy.channel.turn().now());
        self.skip(piece.taken);
        sent.map_err(|failure| {
            let lost = self.lose();
            if failure == Failure::TimedOut { Cut::Stalled } else { lost }
        })
    }

    /// From the first byte to the last, a close is a reset.
    fn abort_from_here(&mut self) {
        if !core::mem::replace(&mut self.aborting, true) {
            self.busy.channel.abort_on_close(true);
        }
    }

    /// What frames a pushed piece of this size.
    fn frame(&self, size: usize, last: bool) -> ChunkFrame {
        let chunked = self.request.version != Version::Http10 && self.request.method != Method::Head;
        if chunked { ChunkFrame::new(size, last) } else { ChunkFrame::none() }
    }

    /// Puts a piece that `write` makes behind what waits in the output.
    fn make_piece(&mut self, last: bool, write: &mut dyn FnMut(&mut [u8]) -> usize) -> Option<()> {
        let start = self.busy.ws.output.filled().len();
        // Room was made when the reply was begun. All of it counts as written, so that all of it is wiped.
        let room = self.busy.ws.output.extend(PUSH_WINDOW_BYTES)?;
        let (_, rest) = room.split_at_mut_checked(CHUNK_FRAME_MAX_BYTES)?;
        let most = rest.len().checked_sub(CHUNK_FRAME_MAX_BYTES)?;
        let head_only = self.request.method == Method::Head;
        let size = if head_only { 0 } else { write(rest.get_mut(..most)?).min(most) };
        let frame = self.frame(size, last);
        let room = self.busy.ws.output.filled_mut().get_mut(start..)?;
        room.copy_within(CHUNK_FRAME_MAX_BYTES..CHUNK_FRAME_MAX_BYTES + size, frame.before().len());
        let mut cursor = Cursor::new(room);
        cursor.put(frame.before())?;
        let (at, len) = (frame.before().len() + size, frame.after().len());
        Cursor::new(room.get_mut(at..at + len)?).put(frame.after())?;
        self.busy.ws.output.truncate(start + at + len);
        Some(())
    }

    /// Counts what leaves; returns whether it leaves in chunks.
    fn owe(&mut self, size: usize, last: bool) -> Result<bool, Cut> {
        let Progress::Begun(owed) = &mut self.progress else { return Err(Cut::Lost) };
        let Some(owed) = owed else { return Ok(true) };
        // What was announced is neither exceeded nor missed, and its last byte leaves with the last piece only.
        *owed = owed.checked_sub(size as u64).filter(|left| last == (*left == 0)).ok_or(Cut::Lost)?;
        Ok(false)
    }

    /// Writes the frame around the piece, sends both, and puts back what stood there: the head, or what comes next.
    async fn put_framed(&mut self, piece: Piece<'_>, frame: &ChunkFrame) -> Result<(), Failure> {
        let Busy { channel, ws, env, .. } = &mut *self.busy;
        let (input, output) = (&mut ws.input, &mut ws.output);
        let filled = input.filled().len();
        let mut edges = Edges::new(piece.suffix, frame).ok_or(Failure::Lost)?;
        let from = self.at.checked_sub(edges.before).ok_or(Failure::Lost)?;
        let to = self.at + piece.sent + edges.behind;
        input.extend(to.saturating_sub(filled)).ok_or(Failure::Lost)?;
        edges.swap(input.filled_mut().get_mut(from..to).unwrap_or_default());
        let framed = input.filled().get(from..to).unwrap_or_default();
        // A small piece leaves with the head in one call.
        let joined = !output.filled().is_empty() && output.append(framed);
        let mut sent = channel.send_all(output.filled(), env.bounds.write_millis).await;
        output.release();
        if sent.is_ok() && !joined {
            sent = channel.send_all(framed, env.bounds.write_millis).await;
        }
        edges.swap(input.filled_mut().get_mut(from..to).unwrap_or_default());
        input.truncate(filled);
        sent
    }
}

/// What stands before and behind a piece while it is sent, and in the meantime what it has displaced.
struct Edges {
    bytes: [u8; CHUNK_FRAME_MAX_BYTES + BEHIND_BYTES],
    before: usize,
    behind: usize,
}

impl Edges {
    /// Nothing if the suffix is too long.
    fn new(suffix: &[u8], frame: &ChunkFrame) -> Option<Self> {
        let mut bytes = [0; CHUNK_FRAME_MAX_BYTES + BEHIND_BYTES];
        let mut cursor = Cursor::new(&mut bytes);
        cursor.put(frame.before())?;
        cursor.put(suffix)?;
        cursor.put(frame.after())?;
        Some(Self { bytes, before: frame.before().len(), behind: suffix.len() + frame.after().len() })
    }

    /// Exchanges the edges of `framed` for what is kept here.
    fn swap(&mut self, framed: &mut [u8]) {
        let Some((before, behind)) = self.bytes.split_at_mut_checked(self.before) else { return };
        let Some((first, rest)) = framed.split_at_mut_checked(self.before) else { return };
        let from = rest.len().saturating_sub(self.behind);
        if let (Some(last), Some(behind)) = (rest.get_mut(from..), behind.get_mut(..self.behind))
            && last.len() == behind.len()
        {
            first.swap_with_slice(before);
            last.swap_with_slice(behind);
        }
    }
}

impl<T: Transport, S: Service> Exchange for Stream<'_, '_, T, S> {
    fn arrival(&self) -> Arrival<'_> {
        let Busy { ws, peer, .. } = &*self.busy;
        let bytes = ws.input.filled().get(..self.head).unwrap_or_default();
        arrival(&self.request, bytes, peer, &ws.current)
    }

    fn length(&self) -> Option<u64> {
        self.length
    }

    async fn gather(&mut self, wanted: usize, until: Moment) -> Result<Gathered, Cut> {
        loop {
            self.decode()?;
            let there = self.end - self.at;
            if there >= wanted || self.whole {
                // What is written behind the piece must not lack room once the reply is begun.
                let behind = self.at + there.min(wanted) + BEHIND_BYTES;
                let input = &mut self.busy.ws.input;
                let lacking = behind.saturating_sub(input.filled().len());
                input.reserve(lacking).map_err(|_| Cut::Fault(OVERLOADED))?;
                return Ok(if there >= wanted { Gathered::Enough } else { Gathered::Last });
            }
            self.make_room(wanted - there)?;
            if let Some(waiting) = self.receive(until).await? {
                return Ok(waiting);
            }
        }
    }

    fn gathered(&mut self) -> &mut [u8] {
        self.busy.ws.input.filled_mut().get_mut(self.at..self.end).unwrap_or_default()
    }

    fn skip(&mut self, count: usize) {
        self.at = self.at.saturating_add(count).min(self.end);
    }

    fn begin(&mut self, opening: &Opening<'_>) -> Result<(), Cut> {
        let Busy { channel, ws, peer, env, .. } = &mut *self.busy;
        let Workspace { output, current, .. } = &mut **ws;
        if self.progress != Progress::None || opening.prefix.len() > STREAM_PREFIX_MAX_BYTES {
            return Err(Cut::Lost);
        }
        // A drain may have begun while the body was on its way.
        current.last |= channel.turn().draining() || self.pushed;
        let unframed = self.pushed && self.request.version == Version::Http10;
        let chunked = opening.length.is_none() && !unframed;
        let owed = match opening.length {
            Some(length) => Some(length.checked_sub(opening.prefix.len() as u64).ok_or(Cut::Lost)?),
            // Chunks are not for HTTP/1.0, and a body that ends with the connection cannot be cut visibly.
            None if self.request.version == Version::Http10 && !self.pushed => {
                return Err(Cut::Fault(LENGTH_REQUIRED));
            }
            None => None,
        };
        let terms = terms(current, peer, &env.origins, current.last);
        let head = ReplyHead {
            status: Status::Ok,
            date: terms.date,
            request_id: terms.id,
            content_type: Some(opening.content_type),
            body: match opening.length {
                _ if unframed => BodyLength::Unframed,
                Some(length) => BodyLength::Known(length),
                None => BodyLength::Chunked,
            },
            persistence: terms.persistence,
            fields: opening.fields,
            quota: terms.quota,
            secure: terms.secure,
            sharing: terms.sharing,
            face: Face::Answer,
        };
        let window = if self.pushed { PUSH_WINDOW_BYTES } else { 0 };
        output.reserve(REPLY_PROBLEM_MAX_BYTES + window).map_err(|_| Cut::Fault(OVERLOADED))?;
        let written = head.write(output.room_mut()).ok_or(Cut::Lost)?;
        output.advance(written.len);
        reply::stamp(output.filled_mut(), written.stamp_at, Moment::now().nanos_since(terms.started));
        let framed = chunked && !opening.prefix.is_empty();
        let frame = if framed { ChunkFrame::new(opening.prefix.len(), false) } else { ChunkFrame::none() };
        // There is room for all of it in what was reserved: the limits say so.
        output.append(frame.before());
        output.append(opening.prefix);
        output.append(frame.after());
        self.progress = Progress::Begun(owed);
        Ok(())
    }

    async fn send(&mut self, piece: Piece<'_>) -> Result<(), Cut> {
        self.put(piece, false).await
    }

    async fn finish(&mut self, piece: Piece<'_>) -> Result<(), Cut> {
        self.put(piece, true).await?;
        self.busy.channel.abort_on_close(false);
        self.progress = Progress::Finished;
        Ok(())
    }

    async fn push(&mut self, last: bool, write: &mut dyn FnMut(&mut [u8]) -> usize) -> Result<(), Cut> {
        if !self.pushed || self.progress != Progress::Begun(None) {
            return Err(Cut::Lost);
        }
        self.make_piece(last, write).ok_or(Cut::Lost)?;
        if self.busy.ws.output.filled().is_empty() && !last {
            return Ok(());
        }
        self.abort_from_here();
        let Busy { channel, ws, env, .. } = &mut *self.busy;
        let sent = channel.send_all(ws.output.filled(), env.bounds.write_millis).await;
        // The lease is kept: a reply that was begun must not end for want of memory.
        ws.output.consume(usize::MAX);
        match sent {
            Err(failure) => {
                let lost = self.lose();
                return Err(if failure == Failure::TimedOut { Cut::Stalled } else { lost });
            }
            Ok(()) if last => {
                channel.abort_on_close(false);
                self.progress = Progress::Finished;
            }
            // Nothing is waited for but the end of this round: the others are served in between.
            Ok(()) => drop(channel.turn().committed().await),
        }
        Ok(())
    }

    async fn pause(&mut self, until: Moment) -> Result<bool, Cut> {
        let Busy { channel, ws, .. } = &mut *self.busy;
        while channel.turn().now() < until {
            if ws.input.room() == 0 {
                // More than this is not taken from a client that sends what nobody asked for.
                channel.rest(until).await;
                break;
            }
            match channel.receive(ws.input.room_mut(), until).await {
                Ok(0) => return Ok(false),
                Ok(count) => ws.input.advance(count),
                Err(Failure::TimedOut) => break,
                Err(Failure::Lost) => return Err(self.lose()),
            }
        }
        Ok(true)
    }

    fn refuse(&mut self, write: impl FnOnce(&Arrival<'_>, &mut Responder<'_>)) {
        let Busy { channel, ws, peer, env, .. } = &mut *self.busy;
        let Workspace { input, output, current, marks, .. } = &mut **ws;
        // A reply that was begun and of which nothing has left can still be taken back.
        let unsent = matches!(self.progress, Progress::Begun(_)) && !output.filled().is_empty();
        if self.progress != Progress::None && !unsent {
            return;
        }
        output.consume(usize::MAX);
        current.last |= channel.turn().draining();
        let bytes = input.filled().get(..self.head).unwrap_or_default();
        let arrival = arrival(&self.request, bytes, peer, current);
        // A refusal whose body was not read ends the connection.
        let mut responder =
            Responder::new(output, terms(current, peer, &env.origins, current.last || !self.whole));
        write(&arrival, &mut responder);
        let (mark, closed) = responder.finish();
        marks.push(mark);
        self.progress = Progress::Refused(closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_put_around_a_piece_and_taken_away_again() {
        let mut framed = *b"....piece........";
        let before = framed;
        let mut edges = Edges::new(b"-tag", &ChunkFrame::new(9, true)).unwrap();
        assert_eq!((edges.before, edges.behind), (3, 11));
        edges.swap(&mut framed[1..]);
        assert_eq!(&framed, b".9\r\npi-tag\r\n0\r\n\r\n");
        edges.swap(&mut framed[1..]);
        assert_eq!(framed, before);
        assert!(Edges::new(&[0; 64], &ChunkFrame::none()).is_none());
    }

    #[test]
    fn what_came_fast_earns_no_more_than_a_gap() {
        let bounds = Bounds { body_gap_millis: 10_000, ..Bounds::default() };
        let start = Moment::from_nanos(5);
        let mut pace = Pace::new(start, &bounds);
        assert_eq!(pace.deadline(&bounds), start.plus_millis(10_000));
        pace.receive(start, usize::MAX / 2, &bounds);
        let mut now = start;
        // A byte every nine seconds is never silent for too long, and far too slow.
        for _ in 0..2 {
            now = now.plus_millis(9_000);
            assert!(now < pace.deadline(&bounds));
            pace.receive(now, 1, &bounds);
        }
        assert!(now.plus_millis(9_000) > pace.deadline(&bounds));
    }

    #[test]
    fn the_lowest_rate_is_borne_for_ever_and_time_that_the_peer_takes_does_not_count() {
        let bounds = Bounds { body_gap_millis: 10_000, ..Bounds::default() };
        let mut now = Moment::from_nanos(5);
        let mut pace = Pace::new(now, &bounds);
        let each = usize::try_from(BODY_RATE_MIN_BYTES_PER_SECOND).unwrap();
        for step in 0..1_000 {
            now = now.plus_millis(1_000);
            assert!(now < pace.deadline(&bounds), "{step}");
            pace.receive(now, each, &bounds);
            let stopped = now;
            now = now.plus_millis(25_000);
            pace.resume(stopped, now);
        }
        let left = now.until(pace.deadline(&bounds));
        assert!(left.as_millis() > 9_000, "{left:?}");
    }
}
