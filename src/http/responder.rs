//! One reply on its way into the output buffer.
//!
//! Owns [`Responder`], [`Fault`] and [`Mark`]. Invariants: a reply is complete and correctly framed or it is replaced
//! by a 500; the reply to HEAD is that to GET without its body; a reply after which the connection ends says so; whatever
//! is written after a limit was named tells of it.

use std::sync::Arc;

use crate::clock::Moment;
use crate::http::complaint::{Complaint, Told};
use crate::http::date::Date;
use crate::http::refusal::Refusal;
use crate::http::reply::{self, BodyLength, Face, Persistence, ReplyHead};
use crate::http::sharing::{OriginIndex, Sharing};
use crate::http::status::Status;
use crate::limits::REPLY_HEAD_MAX_BYTES;
use crate::model::{RequestId, TraceId};
use crate::quota::{Quota, Tally};
use crate::reactor::{Account, Buffer};

pub use crate::reactor::Exhausted;

/// A reason not to do what was asked: what a problem document is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault<'a> {
    /// The status.
    pub status: Status,
    /// The stable name of the reason, in snake case.
    pub code: &'static str,
    /// What went wrong and what to do, for people. Never holds a secret.
    pub detail: &'a str,
}

impl<'a> Fault<'a> {
    /// A fault from its parts.
    #[must_use]
    pub const fn new(status: Status, code: &'static str, detail: &'a str) -> Self {
        Self { status, code, detail }
    }
}

impl Fault<'_> {
    /// Whether the change that was asked for was made, or may have been: it must not be repeated unseen.
    #[must_use]
    pub fn is_of_a_change(&self) -> bool {
        matches!(self.code, "commit_pending" | "store_ambiguous")
    }
}

impl From<Refusal> for Fault<'static> {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.status(), refusal.code(), refusal.detail())
    }
}

/// The memory for requests is in use.
pub const OVERLOADED: Fault<'static> = Fault::new(
    Status::ServiceUnavailable,
    "overloaded",
    "The memory for requests is in use. Try again shortly.",
);

const INTERNAL: Fault<'static> =
    Fault::new(Status::InternalServerError, "internal_error", "The reply could not be made.");

/// Where a finished reply stands in the output, in case it must be taken back.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    /// Offset of its first byte in the output.
    pub start: usize,
    /// The round of the tick commit that its audit line belongs to: it must not leave without it.
    pub audited: Option<u64>,
    /// The identifier of its request.
    pub id: RequestId,
    /// Whether its request was HEAD.
    pub head_only: bool,
    /// What it tells of a limit.
    pub quota: Option<Quota>,
    /// The listed origin that asked.
    pub origin: Option<OriginIndex>,
    /// In which shape its client is told what went wrong.
    pub complaint: Complaint,
    /// Under which number the service counts it, if it has named one.
    pub place: Option<u16>,
    /// The trace that its request belongs to, if the log tells of requests.
    pub trace: Option<TraceId>,
    /// The status that was meant, or what came in its place.
    pub status: Status,
    /// How long it took, from the first byte of its request.
    pub elapsed_nanos: u64,
}

/// What the connection knows of a reply before it is written.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// The identifier of the request.
    pub id: &'a RequestId,
    /// The `Date` to send.
    pub date: &'a Date,
    /// Whether the request was HEAD.
    pub head_only: bool,
    /// What becomes of the connection.
    pub persistence: Persistence,
    /// When the request began.
    pub started: Moment,
    /// What is left of the client's limit, if it is known by now.
    pub quota: Option<Quota>,
    /// Whether it leaves through TLS.
    pub secure: bool,
    /// The listed origin that asks.
    pub origin: Option<OriginIndex>,
    /// With whose pages it is shared.
    pub sharing: Sharing<'a>,
    /// In which shape its client is told what went wrong.
    pub complaint: Complaint,
    /// Under which number the service counts it, if it has named one.
    pub place: Option<u16>,
    /// The trace that the request belongs to, if the log tells of requests.
    pub trace: Option<TraceId>,
}

/// Writes one reply.
#[derive(Debug)]
pub struct Responder<'a> {
    output: &'a mut Buffer,
    terms: Terms<'a>,
    start: usize,
    begun: Option<Begun>,
    audited: Option<u64>,
    face: Face,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    status: Status,
    /// Length of the head.
    head: usize,
    stamp_at: usize,
    /// Length of the body that was announced.
    body: usize,
    /// Where that length is to be written when the reply is finished, if it was not known.
    length_at: Option<usize>,
}

impl<'a> Responder<'a> {
    /// A reply at the end of `output`.
    pub fn new(output: &'a mut Buffer, terms: Terms<'a>) -> Self {
        let start = output.filled().len();
        Self { output, terms, start, begun: None, audited: None, face: Face::Answer }
    }

    /// The account of this tally, on which the memory of the request can be.
    #[must_use]
    pub fn account(&self, tally: &Arc<Tally>) -> Account {
        self.output.account_of(tally)
    }

    /// Lets the connection end after this reply. Takes effect with the next [`begin`](Self::begin).
    pub fn close(&mut self) {
        self.terms.persistence = Persistence::Close;
    }

    /// Lets the reply be a document. Takes effect with the next [`begin`](Self::begin), and not for a refusal.
    pub fn show(&mut self, face: Face) {
        self.face = face;
    }

    /// Lets the reply tell what is left of a limit, and a refusal by the connection that replaces it too. Takes effect
    /// with the next [`begin`](Self::begin), or with the [`fault`](Self::fault) that says it is used up.
    pub fn limit(&mut self, quota: Quota) {
        self.terms.quota = Some(quota);
    }

    /// Lets the reply say that it answers `OPTIONS`; returns the origin with whose pages it is shared. Takes effect with the
    /// next [`begin`](Self::begin).
    pub fn asked(&mut self) -> Option<&'a str> {
        self.terms.sharing = self.terms.sharing.asked();
        self.terms.sharing.origin()
    }

    /// Names the number under which the service counts this request, whoever answers it in the end.
    pub const fn count_at(&mut self, place: u16) {
        self.terms.place = Some(place);
    }

    /// The number under which the service counts the request.
    pub(super) const fn place(&self) -> Option<u16> {
        self.terms.place
    }

    /// What the reply tells of a limit.
    pub(super) fn quota(&self) -> Option<Quota> {
        self.terms.quota
    }

    /// Notes that an audit line tells of this request, appended in this round of the tick commit.
    pub fn audited(&mut self, round: u64) {
        self.audited = Some(round);
    }

    /// The status that was begun; nothing before that.
    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.begun.map(|begun| begun.status)
    }

    /// Begins the reply: writes its head and makes room for a body of exactly `body` bytes.
    ///
    /// A reply that was begun before is dropped.
    ///
    /// # Errors
    /// [`Exhausted`]: the body finds no room; nothing was written.
    pub fn begin(
        &mut self,
        status: Status,
        content_type: Option<&'static str>,
        body: usize,
        fields: &[(&str, &[u8])],
    ) -> Result<(), Exhausted> {
        let length = BodyLength::Known(u64::try_from(body).map_err(|_| Exhausted)?);
        self.write_head(status, content_type, body, length, fields)
    }

    /// Begins a reply whose length is not known yet: [`announce`](Self::announce) adds to it.
    ///
    /// # Errors
    /// [`Exhausted`]: the head finds no room; nothing was written.
    pub fn begin_growing(&mut self, status: Status, content_type: &'static str) -> Result<(), Exhausted> {
        self.write_head(status, Some(content_type), 0, BodyLength::Later, &[])
    }

    /// Makes room for `count` more bytes of a reply that was begun as a growing one.
    ///
    /// # Errors
    /// [`Exhausted`]: they find none.
    pub fn announce(&mut self, count: usize) -> Result<(), Exhausted> {
        self.output.reserve(count)?;
        let begun = self.begun.as_mut().filter(|begun| begun.length_at.is_some()).ok_or(Exhausted)?;
        begun.body = begun.body.checked_add(count).ok_or(Exhausted)?;
        Ok(())
    }

    fn write_head(
        &mut self,
        status: Status,
        content_type: Option<&'static str>,
        body: usize,
        length: BodyLength,
        fields: &[(&str, &[u8])],
    ) -> Result<(), Exhausted> {
        self.begun = None;
        self.output.truncate(self.start);
        self.output.reserve(REPLY_HEAD_MAX_BYTES.checked_add(body).ok_or(Exhausted)?)?;
        let head = self.head(status, content_type, length, fields);
        let written = head.write(self.output.room_mut()).ok_or(Exhausted)?;
        self.output.advance(written.len);
        let reply::Written { len, stamp_at, length_at } = written;
        self.begun = Some(Begun { status, head: len, stamp_at, body, length_at });
        Ok(())
    }

    fn head<'h>(
        &self,
        status: Status,
        content_type: Option<&'static str>,
        body: BodyLength,
        fields: &'h [(&'h str, &'h [u8])],
    ) -> ReplyHead<'h>
    where
        'a: 'h,
    {
        let Terms { id, date, persistence, quota, secure, sharing, .. } = self.terms;
        ReplyHead {
            status,
            date,
            request_id: id,
            content_type,
            body,
            persistence,
            fields,
            quota,
            secure,
            sharing,
            face: self.face,
        }
    }

    /// Takes the next `count` bytes of the announced body, to be written in place.
    pub fn body(&mut self, count: usize) -> Option<&mut [u8]> {
        self.output.extend(count)
    }

    /// Appends to the announced body.
    pub fn append(&mut self, bytes: &[u8]) {
        // A lack of room shows as a wrong length when the reply is finished.
        self.output.append(bytes);
    }

    /// Writes a whole reply from its parts.
    pub fn whole(&mut self, status: Status, content_type: &'static str, body: &[u8]) {
        match self.begin(status, Some(content_type), body.len(), &[]) {
            Ok(()) => self.append(body),
            Err(Exhausted) => self.overloaded(),
        }
    }

    /// Replaces the status of a growing reply that was written as far as it goes: what became of its parts is known then.
    ///
    /// # Errors
    /// [`Exhausted`]: the other head finds no room, or there is no such reply; nothing was changed.
    pub fn restate(&mut self, status: Status, content_type: &'static str) -> Result<(), Exhausted> {
        let old = self.begun.filter(|begun| begun.length_at.is_some()).ok_or(Exhausted)?;
        self.output.reserve(REPLY_HEAD_MAX_BYTES)?;
        let head = self.head(status, Some(content_type), BodyLength::Later, &[]);
        let written = head.write(self.output.room_mut()).ok_or(Exhausted)?;
        self.output.advance(written.len);
        let reply::Written { len, stamp_at, length_at } = written;
        let whole = self.output.filled_mut().get_mut(self.start..).ok_or(Exhausted)?;
        // It was written behind the body; what it replaces comes to stand between both.
        whole.rotate_right(len);
        whole.copy_within(len + old.head.., len);
        let end = self.start + whole.len() - old.head;
        self.output.truncate(end);
        self.begun = Some(Begun { status, head: len, stamp_at, length_at, ..old });
        Ok(())
    }

    /// Writes a whole reply that says what went wrong.
    pub fn fault(&mut self, fault: &Fault<'_>, fields: &[(&str, &[u8])]) {
        self.face = Face::Answer;
        let told = Told::new(self.terms.complaint, fault, self.terms.id);
        let len = told.len();
        // The clients of the other shape know no challenge.
        let known = self.terms.complaint == Complaint::Problem || !fields.iter().any(is_challenge);
        let fields = if known { fields } else { &[] };
        // The connection keeps room for a problem, so that a lack of it is a mistake and shows as a 500.
        if self.begin(told.status(), Some(told.content_type()), len, fields).is_ok()
            && let Some(target) = self.output.extend(len)
        {
            told.write(target);
        }
    }

    /// Refuses for want of memory.
    pub fn overloaded(&mut self) {
        self.fault(&OVERLOADED, &[("Retry-After", b"1")]);
    }

    /// Ends the reply; what was not written as announced is replaced by a 500 that closes the connection.
    ///
    /// Returns its mark and whether the connection ends with it.
    pub fn finish(mut self) -> (Mark, bool) {
        if !self.is_whole() {
            self.close();
            self.fault(&INTERNAL, &[]);
        }
        let elapsed_nanos = Moment::now().nanos_since(self.terms.started);
        let status = self.status().unwrap_or(Status::InternalServerError);
        if let Some(begun) = self.begun {
            if self.terms.head_only {
                self.output.truncate(self.start + begun.head);
            }
            if let Some(own) = self.output.filled_mut().get_mut(self.start..) {
                reply::stamp(own, begun.stamp_at, elapsed_nanos);
                if let Some(at) = begun.length_at {
                    reply::fill_length(own, at, begun.body);
                }
            }
        }
        let Terms { id, head_only, persistence, quota, origin, complaint, place, trace, .. } = self.terms;
        let (start, audited, id) = (self.start, self.audited, *id);
        let mark = Mark {
            start,
            audited,
            id,
            head_only,
            quota,
            origin,
            complaint,
            place,
            trace,
            status,
            elapsed_nanos,
        };
        (mark, persistence == Persistence::Close)
    }

    fn is_whole(&self) -> bool {
        self.begun.is_some_and(|begun| self.output.filled().len() == self.start + begun.head + begun.body)
    }
}

fn is_challenge((name, _): &(&str, &[u8])) -> bool {
    *name == "WWW-Authenticate"
}
