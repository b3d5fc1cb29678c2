//! The life of a connection, from its first byte to its last.
//!
//! ```text
//!   idle ──first byte──▶ head ──▶ admitted ──▶ body ──▶ served ──▶ (more buffered? head) ──▶ committed ──▶ flushed
//!    ▲  no buffer          │          │          │                                                          │
//!    └─────────────────────┼──────────┼──────────┼──────────────────────────────────────────────────────────┘
//!                          └──────────┴──────────┴─ refused: reply, then linger, then closed
//! ```
//!
//! A request whose body is streamed leaves this line after `admitted`: see `stream`.
//!
//! Owns the order of these steps; the waits for bytes are in `intake` and `outlet`. Invariants: replies leave in
//! the order of their requests, after the tick commit and never without it; before any wait for the peer everything
//! that is owed to it is flushed; a connection whose framing is lost or whose body was not read is closed after its
//! reply, with its end announced first, so that a reset does not destroy the reply (RFC 9112, section 9.6).

use std::rc::Rc;

use crate::clock::Moment;
use crate::http::complaint::Complaint;
use crate::http::env::{Current, Env, Workspace};
use crate::http::framing::Framing;
use crate::http::head::Head;
use crate::http::outlet::linger;
use crate::http::peer::{Peer, Way};
use crate::http::refusal::Refusal;
use crate::http::reply::Persistence;
use crate::http::responder::{Fault, OVERLOADED, Responder, Terms};
use crate::http::scan::HeadScan;
use crate::http::service::{Arrival, Request, Service, Taking};
use crate::http::sharing::Origins;
use crate::http::status::Status;
use crate::http::target::{Method, Version};
use crate::limits::{
    BODY_BUFFERED_MAX_BYTES, CONNECTION_LIFE_MAX_MILLIS, FIRST_REQUEST_GRACE_MILLIS, OUTPUT_FLUSH_BYTES,
    PIPELINE_MAX_COUNT, REPLY_PROBLEM_MAX_BYTES,
};
use crate::log::{self, Level, Module};
use crate::model::TraceParent;
use crate::reactor::{Account, Beginning, Channel, Established, Look, Resting, Transport};

/// How a busy stretch of a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing is buffered: wait for the next request without buffers.
    Idle,
    /// Everything was said: close.
    Close,
    /// Something of the peer's may still be unread: announce the end, read a little more, close.
    Linger,
    /// The peer is gone or does not read, or a streamed reply is cut: close without a word.
    Lost,
}

/// A client that does not speak TLS where it should.
const SPEAKS_IN_THE_CLEAR: Fault<'static> = Fault::new(
    Status::BadRequest,
    "tls_required",
    "This port speaks TLS, and the request came in the clear: use https:// in its address.",
);

/// What is given back when a connection ends.
pub trait Place {
    /// Bytes can pass: the handshake is over.
    fn established(&mut self) {}
}

impl Place for () {}

/// A connection with nothing in hand.
#[derive(Debug)]
pub struct Idle<T, S, G> {
    channel: Channel<T>,
    env: Rc<Env<S>>,
    peer: Peer,
    served: u64,
    expiry: Moment,
    /// Until when a drain waits for its first request: a client that has just come knows of no reason to ask again.
    grace: Moment,
    /// Since when nothing was asked: the accept, the end of the handshake, or the end of the last request.
    quiet: Moment,
    /// Since when a part of what the transport needs to hand out a byte lies there: a head has begun, though none of it is seen.
    begun: Option<Moment>,
    /// On whose account its last request was: so is the beginning of the next one, of which it is not known yet whose it is.
    account: Option<Account>,
    /// Whatever is to be given back when the connection ends.
    guard: G,
}

impl<T: Transport, S, G: Place> Idle<T, S, G> {
    /// A connection that was just accepted; `guard` is dropped with it.
    pub fn new(channel: Channel<T>, mut peer: Peer, env: Rc<Env<S>>, guard: G) -> Self {
        // A proxy that is believed asks for others: none of them is who it is.
        peer.identities =
            peer.identities.filter(|_| !env.forwarding.believes(&Peer { identities: None, ..peer }));
        let now = channel.turn().now();
        let expiry = now.plus_millis(CONNECTION_LIFE_MAX_MILLIS);
        let grace = now.plus_millis(FIRST_REQUEST_GRACE_MILLIS);
        Self { channel, env, peer, served: 0, expiry, grace, quiet: now, begun: None, account: None, guard }
    }

    /// Goes back to rest after a busy stretch that began with `served` requests. Bytes that make no request give no more time.
    fn rest(&mut self, served: u64) {
        let now = self.channel.turn().now();
        if self.served != served {
            (self.quiet, self.begun) = (now, None);
        }
        self.begun = self.channel.transport().is_amid().then(|| self.begun.unwrap_or(now));
    }

    /// Goes on until bytes can pass. Returns how the connection goes on: [`Look::Rest`] until more has come for that.
    async fn establish(&mut self) -> Look {
        match self.channel.try_establish() {
            Ok(None) => Look::Rest,
            Ok(Some(Established::Ready)) => {
                self.quiet = self.channel.turn().now();
                let proven = self.channel.transport().identities();
                self.peer.identities = proven.filter(|_| !self.env.forwarding.believes(&self.peer));
                self.guard.established();
                Look::Run
            }
            Ok(Some(Established::Clear)) => {
                self.peer.way = Way::Plain;
                self.guard.established();
                let refusal =
                    self.env.refusal(&SPEAKS_IN_THE_CLEAR, self.channel.turn().wall(), self.peer.way);
                let sent = self.channel.send_all(&refusal, self.env.bounds.write_millis).await;
                if sent.is_ok() {
                    let mut ws = self.env.take_workspace();
                    linger(&mut self.channel, &mut ws.input).await;
                    self.env.return_workspace(ws);
                }
                Look::End
            }
            Err(_) => Look::End,
        }
    }
}

impl<T: Transport, S, G> Idle<T, S, G> {
    /// When the silence has lasted too long.
    fn deadline(&self) -> Moment {
        let bounds = &self.env.bounds;
        if !self.channel.transport().is_established() {
            return self.quiet.plus_millis(bounds.handshake_millis);
        }
        let head = self.begun.unwrap_or(Moment::NEVER).plus_millis(bounds.head_millis);
        self.quiet.plus_millis(bounds.idle_millis).min(head)
    }
}

impl<T: Transport, S, G> Resting for Idle<T, S, G> {
    fn look(&mut self) -> Look {
        let deadline = self.deadline();
        let grace = match self.begun {
            // A request is on its way, which a drain waits for, or what comes before it.
            Some(_) => deadline,
            None if !self.channel.transport().is_established() && self.channel.transport().has_begun() => {
                deadline
            }
            None if self.served == 0 => self.grace,
            None => Moment::default(),
        };
        self.channel.look(deadline, grace)
    }

    fn since(&self) -> Option<Moment> {
        // A handshake has bounds of its own.
        self.channel.transport().is_established().then_some(self.quiet)
    }

    fn beginning(&self) -> Option<Beginning> {
        let transport = self.channel.transport();
        let is_silent = !transport.has_begun();
        (!transport.is_established()).then_some(Beginning { since: self.quiet, is_silent })
    }

    fn give_way(&mut self) {
        self.channel.conclude();
    }
}

/// Serves the requests that have come, until nothing is in hand again or the connection ends.
pub async fn serve<T: Transport, S: Service, G: Place>(mut idle: Idle<T, S, G>) -> Option<Idle<T, S, G>> {
    if !idle.channel.transport().is_established() {
        match idle.establish().await {
            Look::Run => {}
            // It takes no more memory while it waits than a connection that rests.
            Look::Rest => return Some(idle),
            Look::End => return None,
        }
    }
    let served = idle.served;
    let mut ws = idle.env.take_workspace();
    if let Some(account) = idle.account.take() {
        // Both are empty: there is nothing for which the account could lack room.
        let _ = ws.input.charge(&account).and_then(|()| ws.output.charge(&account));
    }
    let mut busy = Busy {
        channel: &mut idle.channel,
        ws: &mut ws,
        env: &idle.env,
        peer: &idle.peer,
        served: &mut idle.served,
        expiry: idle.expiry,
        admission: None,
    };
    let end = busy.run().await;
    idle.account = ws.input.account().cloned();
    idle.env.return_workspace(ws);
    idle.rest(served);
    (end == End::Idle).then_some(idle)
}

/// A connection with something in hand.
pub(super) struct Busy<'a, T, S: Service> {
    pub(super) channel: &'a mut Channel<T>,
    pub(super) ws: &'a mut Workspace,
    pub(super) env: &'a Env<S>,
    pub(super) peer: &'a Peer,
    served: &'a mut u64,
    expiry: Moment,
    /// What the service remembers of the request in hand until its body is there.
    pub(super) admission: Option<S::Admission>,
}

impl<T: Transport, S: Service> Busy<'_, T, S> {
    async fn run(&mut self) -> End {
        let end = loop {
            if let Err(end) = self.exchange().await {
                break end;
            }
        };
        if end == End::Lost {
            self.report();
            self.give_up().await;
            return end;
        }
        // A flush whose commit failed takes replies back, and ends the connection in its own way.
        let end = self.flush().await.err().unwrap_or(end);
        if end == End::Lost {
            return end;
        }
        // Bytes that nobody will read would turn the close into a reset.
        if end == End::Linger || (end == End::Close && !self.ws.input.filled().is_empty()) {
            linger(self.channel, &mut self.ws.input).await;
        } else if end != End::Idle {
            self.channel.conclude();
            // It stands behind a reply that the peer may still be reading; without room it would be lost, and the reply look cut.
            let stall_millis = self.patience_millis();
            let _ = self.channel.send_all(&[], stall_millis).await;
        }
        end
    }

    /// Lets the service take note of an admitted request whose client is gone before all of it came.
    async fn give_up(&mut self) {
        let Some(admission) = self.admission.take() else { return };
        self.wait_for_room().await;
        let Workspace { input, current, .. } = &*self.ws;
        let Some(head) = &current.head else { return };
        let arrival = arrival(head, input.filled(), self.peer, current);
        self.env.service.lost(&admission, &arrival);
        // Whether it could be told or not: nothing waits for it.
        let _ = self.channel.turn().committed().await;
    }

    async fn wait_for_room(&self) {
        while !self.env.service.has_room() {
            // Nothing of ours is pending: others have filled the turn, and its end makes room.
            self.channel.turn().ended().await;
        }
    }

    /// How much of replies is gathered before it is sent. Where room is short, no reply waits for another.
    fn gathered_most(&self) -> usize {
        if self.ws.output.is_short() { 1 } else { OUTPUT_FLUSH_BYTES }
    }

    /// One request and its reply.
    async fn exchange(&mut self) -> Result<(), End> {
        let whole = self.read_head().await?;
        // Where many pipeline at once, each has one request in a turn, so that whoever else asks does not wait for all of theirs.
        let crowded = self.channel.turn().is_crowded();
        if crowded
            || self.ws.marks.len() >= PIPELINE_MAX_COUNT
            || self.ws.output.filled().len() >= self.gathered_most()
            || !self.env.service.has_room()
        {
            self.flush().await?;
        }
        self.wait_for_room().await;
        if self.ws.output.reserve(REPLY_PROBLEM_MAX_BYTES).is_err() {
            return Err(self.send_no_memory().await);
        }
        let Some((admission, taking)) = self.admit(whole)? else { return Ok(()) };
        if let Some(account) = self.env.service.account(&admission) {
            let charged = self.ws.input.charge(account).and_then(|()| self.ws.output.charge(account));
            let charged = charged.and_then(|()| self.channel.charge(account.tally()));
            if charged.is_err() {
                self.admission = Some(admission);
                return Err(self.refuse(&OVERLOADED, &[("Retry-After", b"1")]));
            }
        }
        self.admission = Some(admission);
        let body_max = match taking {
            Taking::Whole(body_max) => body_max,
            // In a box, so that a connection without a stream does not keep room for one.
            Taking::Streamed | Taking::Pushed => {
                return Box::pin(self.stream(taking == Taking::Pushed)).await;
            }
        };
        let body = self.read_body(body_max, whole).await?;
        if self.ws.output.reserve(REPLY_PROBLEM_MAX_BYTES).is_err() {
            self.give_up().await;
            return Err(self.send_no_memory().await);
        }
        let Some(admission) = self.admission.take() else { return Err(End::Lost) };
        // A drain may have begun while the body was on its way.
        self.ws.current.last |= self.channel.turn().draining();
        let Workspace { input, output, marks, current, .. } = &mut *self.ws;
        let Some(head) = &current.head else { return Err(End::Lost) };
        let mut responder =
            Responder::new(output, terms(current, self.peer, &self.env.origins, current.last));
        let (bytes, rest) = input.filled_mut().split_at_mut_checked(head.len).ok_or(End::Lost)?;
        let request = Request {
            arrival: arrival(head, bytes, self.peer, current),
            body: rest.get_mut(..body).unwrap_or_default(),
        };
        self.env.service.serve(admission, request, &mut responder).await;
        let (mark, closed) = responder.finish();
        marks.push(mark);
        let end = self.forget(body);
        if closed { Err(end) } else { Ok(()) }
    }

    /// Asks the service whether it takes the request. A refusal has its reply written and its body dropped.
    fn admit(&mut self, whole: bool) -> Result<Option<(S::Admission, Taking)>, End> {
        let Workspace { input, output, marks, current, .. } = &mut *self.ws;
        let Some(head) = &current.head else { return Err(End::Lost) };
        // A refusal whose body was not read ends the connection.
        let mut responder =
            Responder::new(output, terms(current, self.peer, &self.env.origins, current.last || !whole));
        // Where TLS is spoken is told whatever is asked.
        if head.method == Method::Other && self.peer.way != Way::Redirect {
            responder.fault(&Refusal::UnknownMethod.into(), &[]);
        } else {
            let arrival = arrival(head, input.filled(), self.peer, current);
            if let Some(admitted) = self.env.service.admit(&arrival, &mut responder) {
                // What the reply will tell of a limit, whoever writes it.
                (current.quota, current.place) = (responder.quota(), responder.place());
                return Ok(Some(admitted));
            }
        }
        let (mark, closed) = responder.finish();
        marks.push(mark);
        if !whole {
            return Err(End::Linger);
        }
        let body = buffered_length(head).unwrap_or(0);
        let end = self.forget(body);
        if closed { Err(end) } else { Ok(None) }
    }

    /// Takes a complete head into hand, numbers it and decides whether it is the connection's last.
    ///
    /// Returns whether its body is already there too.
    pub(super) fn begin(&mut self, head: Head) -> bool {
        let turn = self.channel.turn();
        *self.served += 1;
        let last = !head.keep_alive
            || turn.draining()
            || *self.served >= self.env.bounds.requests
            || turn.now() >= self.expiry;
        self.ws.current.client = self.env.forwarding.client(self.peer, &head, self.ws.input.filled());
        self.ws.current.origin = self.env.origins.find(head.origin(self.ws.input.filled()));
        if log::is_told(Level::Debug, Module::Http) {
            let given = head.traceparent(self.ws.input.filled());
            self.ws.current.trace = given.as_ref().map(TraceParent::trace);
        }
        self.ws.current.complaint = self.env.service.complaint(head.path(self.ws.input.filled()));
        self.ws.current.head = Some(head);
        self.ws.current.last = last;
        let buffered = self.ws.input.filled().len().saturating_sub(head.len);
        buffered_length(&head).is_some_and(|length| length <= buffered)
    }

    /// Gives the request in hand its identifier and its date.
    pub(super) fn number(&mut self) {
        self.ws.current.id = self.env.next_id();
        self.ws.current.date = self.env.date(self.channel.turn().wall());
    }

    /// Writes a refusal of this floor, after which the connection ends.
    pub(super) fn refuse(&mut self, fault: &Fault<'_>, fields: &[(&str, &[u8])]) -> End {
        if self.ws.output.reserve(REPLY_PROBLEM_MAX_BYTES).is_err() {
            // What was admitted is told of, though nobody can be answered.
            return if self.admission.is_some() { End::Lost } else { End::Close };
        }
        let Workspace { input, output, marks, current, .. } = &mut *self.ws;
        let mut responder = Responder::new(output, terms(current, self.peer, &self.env.origins, true));
        responder.fault(fault, fields);
        if let (Some(admission), Some(head)) = (self.admission.take(), &current.head) {
            let arrival = arrival(head, input.filled(), self.peer, current);
            self.env.service.refused(&admission, &arrival, fault.code, &mut responder);
        }
        marks.push(responder.finish().0);
        End::Linger
    }

    /// Drops the request in hand, and its `body` bytes, from the input. Returns how the connection ends if this was its
    /// last request: a peer that did not ask for the end may have sent more, which is not here yet.
    pub(super) fn forget(&mut self, body: usize) -> End {
        let (length, goes_on) =
            self.ws.current.head.take().map_or((0, true), |head| (head.len, head.keep_alive));
        self.ws.input.consume(length.saturating_add(body));
        self.ws.scan = HeadScan::default();
        self.ws.current.started = Moment::NEVER;
        self.ws.current.quota = None;
        self.ws.current.origin = None;
        self.ws.current.complaint = Complaint::Problem;
        self.ws.current.place = None;
        self.ws.current.trace = None;
        if goes_on { End::Linger } else { End::Close }
    }
}

/// What a reply to the request in hand must say.
pub(super) fn terms<'a>(current: &'a Current, peer: &Peer, origins: &'a Origins, close: bool) -> Terms<'a> {
    let (head_only, version) =
        current.head.map_or((false, Version::Http11), |head| (head.method == Method::Head, head.version));
    let persistence = match version {
        _ if close => Persistence::Close,
        Version::Http10 => Persistence::KeepAlive,
        Version::Http11 => Persistence::Implied,
    };
    let Current { id, date, started, quota, origin, complaint, place, trace, .. } = current;
    let (started, quota, origin) = (*started, *quota, *origin);
    let (complaint, place, trace) = (*complaint, *place, *trace);
    let (secure, sharing) = (peer.way == Way::Secure, origins.sharing(origin));
    Terms {
        id,
        date,
        head_only,
        persistence,
        started,
        quota,
        secure,
        origin,
        sharing,
        complaint,
        place,
        trace,
    }
}

/// The request in hand as the service sees it.
pub(super) fn arrival<'a>(
    head: &'a Head,
    bytes: &'a [u8],
    peer: &'a Peer,
    current: &'a Current,
) -> Arrival<'a> {
    let Current { id, started, client, .. } = current;
    Arrival { head, bytes, peer, client: *client, id, started: *started }
}

/// The length of a body that was announced in bytes; nothing for one that no lease could hold, whatever the route.
pub(super) fn buffered_length(head: &Head) -> Option<usize> {
    match head.framing {
        Framing::Empty => Some(0),
        Framing::Length(length) => {
            usize::try_from(length).ok().filter(|length| *length <= BODY_BUFFERED_MAX_BYTES)
        }
        Framing::Chunked => None,
    }
}

#[cfg(test)]
mod tests;
