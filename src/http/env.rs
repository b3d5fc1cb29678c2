//! What the connections of one worker share.
//!
//! Owns the service, the pool, the bounds, the numbering of requests, the cached date and the workspaces that wait
//! for a busy connection. Invariants: a workspace in waiting holds no memory but its own; a request number is used
//! once in a worker's life.

use core::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use crate::clock::{Moment, WallTime};
use crate::http::complaint::{Complaint, Told};
use crate::http::date::{Date, DateCache, imf_fixdate};
use crate::http::forwarded::Forwarding;
use crate::http::head::Head;
use crate::http::peer::Way;
use crate::http::reply::{BodyLength, Face, Persistence, ReplyHead};
use crate::http::responder::{Fault, Mark};
use crate::http::scan::HeadScan;
use crate::http::sharing::{OriginIndex, Origins};
use crate::http::status::Status;
use crate::limits::{
    BODY_GAP_MAX_MILLIS, BODY_READ_MAX_MILLIS, HANDSHAKE_MAX_MILLIS, HEAD_READ_MAX_MILLIS, IDLE_MAX_MILLIS,
    MARKS_KEPT_COUNT, REPLY_PROBLEM_MAX_BYTES, REQUESTS_PER_CONNECTION_DEFAULT_COUNT, WRITE_STALL_MAX_MILLIS,
};
use crate::model::{RequestId, TraceId};
use crate::quota::Quota;
use crate::reactor::{Buffer, Pool};

/// The bounds that a configuration may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// From the accept of a connection to the end of its handshake.
    pub handshake_millis: u64,
    /// From the first byte of a request to the end of its head.
    pub head_millis: u64,
    /// Longest silence inside a body.
    pub body_gap_millis: u64,
    /// From the end of the head to the end of the body.
    pub body_millis: u64,
    /// Longest silence between requests.
    pub idle_millis: u64,
    /// Longest wait for room in the peer's window.
    pub write_millis: u64,
    /// Most requests on one connection.
    pub requests: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            handshake_millis: HANDSHAKE_MAX_MILLIS,
            head_millis: HEAD_READ_MAX_MILLIS,
            body_gap_millis: BODY_GAP_MAX_MILLIS,
            body_millis: BODY_READ_MAX_MILLIS,
            idle_millis: IDLE_MAX_MILLIS,
            write_millis: WRITE_STALL_MAX_MILLIS,
            requests: REQUESTS_PER_CONNECTION_DEFAULT_COUNT,
        }
    }
}

/// What a connection needs while it has a request in hand, and gives back when it is idle.
#[derive(Debug)]
pub(super) struct Workspace {
    pub(super) input: Buffer,
    pub(super) output: Buffer,
    pub(super) scan: HeadScan,
    pub(super) marks: Vec<Mark>,
    pub(super) current: Current,
}

/// What one takes, beside what it leases.
pub const WORKSPACE_BYTES: usize = size_of::<Workspace>() + MARKS_KEPT_COUNT * size_of::<Mark>();

/// The request in hand. It is kept here and not in the task, so that an idle connection does not pay for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    pub(super) head: Option<Head>,
    pub(super) id: RequestId,
    pub(super) date: Date,
    /// When its first byte was seen.
    pub(super) started: Moment,
    /// Whether the connection ends with it.
    pub(super) last: bool,
    /// Who sent it: the peer, or whom a trusted proxy names.
    pub(super) client: IpAddr,
    /// What is left of the client's limit, once the service has said so.
    pub(super) quota: Option<Quota>,
    /// The listed origin whose page sent it.
    pub(super) origin: Option<OriginIndex>,
    /// In which shape its client is told what went wrong.
    pub(super) complaint: Complaint,
    /// Under which number the service counts it, once it has said so.
    pub(super) place: Option<u16>,
    /// The trace that it belongs to, if the log tells of requests.
    pub(super) trace: Option<TraceId>,
}

impl Current {
    fn none() -> Self {
        let (id, date) = (RequestId::new(0, 0), imf_fixdate(WallTime::default()));
        let client = Ipv4Addr::UNSPECIFIED.into();
        Self {
            head: None,
            id,
            date,
            started: Moment::NEVER,
            last: false,
            client,
            quota: None,
            origin: None,
            complaint: Complaint::Problem,
            place: None,
            trace: None,
        }
    }
}

/// The shared part of a worker's connections.
#[derive(Debug)]
pub struct Env<S> {
    /// The application.
    pub service: S,
    /// The bounds in force.
    pub bounds: Bounds,
    /// Which proxies are believed.
    pub forwarding: Arc<Forwarding>,
    /// Whose pages may read replies.
    pub origins: Arc<Origins>,
    pool: Rc<Pool>,
    first_id: u64,
    requests: Cell<u64>,
    date: RefCell<DateCache>,
    #[expect(clippy::vec_box, reason = "a connection holds the box, not the place in this list")]
    waiting: RefCell<Vec<Box<Workspace>>>,
}

impl<S> Env<S> {
    /// The environment of a worker; `first_id` is random for each start.
    #[must_use]
    pub fn new(
        service: S,
        pool: Rc<Pool>,
        bounds: Bounds,
        forwarding: Arc<Forwarding>,
        origins: Arc<Origins>,
        first_id: u64,
    ) -> Rc<Self> {
        Rc::new(Self {
            service,
            bounds,
            forwarding,
            origins,
            pool,
            first_id,
            requests: Cell::new(0),
            date: RefCell::new(DateCache::new(WallTime::default())),
            waiting: RefCell::new(Vec::new()),
        })
    }

    /// A whole refusal that needs no lease, that leaves this way, and with which the connection ends.
    #[must_use]
    pub fn refusal(&self, fault: &Fault<'_>, now: WallTime, way: Way) -> Vec<u8> {
        self.refusal_of(&Current::none(), fault, now, way)
    }

    /// The same for the request in hand.
    pub(super) fn refusal_of(
        &self,
        current: &Current,
        fault: &Fault<'_>,
        now: WallTime,
        way: Way,
    ) -> Vec<u8> {
        let mut bytes = vec![0; REPLY_PROBLEM_MAX_BYTES];
        let id = self.next_id();
        let told = Told::new(current.complaint, fault, &id);
        let status = told.status();
        let again: &[(&str, &[u8])] = &[("Retry-After", b"1")];
        let fields = if status == Status::ServiceUnavailable { again } else { &[] };
        let head = ReplyHead {
            status,
            date: &self.date(now),
            request_id: &id,
            content_type: Some(told.content_type()),
            body: BodyLength::Known(told.len() as u64),
            persistence: Persistence::Close,
            fields,
            quota: current.quota,
            secure: way == Way::Secure,
            sharing: self.origins.sharing(current.origin),
            face: Face::Answer,
        };
        let head_len = head.write(&mut bytes).map_or(0, |written| written.len);
        let body_len = bytes.get_mut(head_len..).and_then(|rest| told.write(rest)).unwrap_or(0);
        bytes.truncate(head_len + body_len);
        bytes
    }

    pub(super) fn next_id(&self) -> RequestId {
        let count = self.requests.get() + 1;
        self.requests.set(count);
        RequestId::new(self.first_id, count)
    }

    pub(super) fn date(&self, now: WallTime) -> Date {
        *self.date.borrow_mut().at(now)
    }

    /// Tells the other loops what this one holds: at the end of each turn.
    pub fn settle(&self) {
        self.pool.settle();
    }

    pub(super) fn take_workspace(&self) -> Box<Workspace> {
        self.waiting.borrow_mut().pop().unwrap_or_else(|| {
            Box::new(Workspace {
                input: self.pool.vacant(),
                output: self.pool.vacant(),
                scan: HeadScan::default(),
                marks: Vec::with_capacity(MARKS_KEPT_COUNT),
                current: Current::none(),
            })
        })
    }

    pub(super) fn return_workspace(&self, mut workspace: Box<Workspace>) {
        workspace.input.release();
        workspace.output.release();
        workspace.scan = HeadScan::default();
        workspace.marks.clear();
        workspace.marks.shrink_to(MARKS_KEPT_COUNT);
        workspace.current = Current::none();
        self.waiting.borrow_mut().push(workspace);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LEASE_BUDGET_DEFAULT_BYTES;
    use crate::reactor::Budget;

    #[test]
    fn a_refusal_without_a_request_says_what_its_way_and_the_list_of_origins_demand() {
        let fault = Fault::new(Status::ServiceUnavailable, "overloaded", "Try again shortly.");
        let refusal = |way, list: &[String]| {
            let pool = Pool::new(Budget::new(LEASE_BUDGET_DEFAULT_BYTES));
            let origins = Arc::new(Origins::new(list));
            let env = Env::new((), pool, Bounds::default(), Arc::default(), origins, 7);
            String::from_utf8(env.refusal(&fault, WallTime::default(), way)).unwrap()
        };
        let listed = ["https://a.example".to_owned()];
        for (way, list) in
            [(Way::Plain, &[][..]), (Way::Secure, &[]), (Way::Plain, &listed), (Way::Secure, &listed)]
        {
            let text = refusal(way, list);
            assert!(text.starts_with("HTTP/1.1 503 ") && text.ends_with("}\n"), "{text}");
            assert!(text.contains("\r\nRetry-After: 1\r\n") && text.contains("\r\nConnection: close\r\n"));
            assert_eq!(text.contains("\r\nStrict-Transport-Security: "), way == Way::Secure, "{text}");
            assert_eq!(text.contains("\r\nVary: Origin\r\n"), !list.is_empty(), "{text}");
            assert!(!text.contains("Access-Control-"), "{text}");
        }
    }
}
