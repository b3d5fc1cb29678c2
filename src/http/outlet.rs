//! What leaves: replies after their commit, and the end of a connection.
//!
//! Owns the flush and what happens when the tick commit fails. Invariants: no reply that has an audit line leaves
//! before that line is with the kernel; after a failed commit the replies before the first such one leave as they
//! are, it is replaced by a 503, and the connection ends there.

use crate::clock::Moment;
use crate::http::connection::{Busy, End};
use crate::http::env::Workspace;
use crate::http::peer::Way;
use crate::http::reply::Persistence;
use crate::http::responder::{Fault, Mark, OVERLOADED, Responder, Terms};
use crate::http::service::{Service, Told};
use crate::http::status::Status;
use crate::limits::{DISCARD_MAX_BYTES, DISCARD_MAX_MILLIS, LEASE_USUAL_BYTES};
use crate::reactor::{Buffer, Channel, Transport};

const AUDIT_UNAVAILABLE: Fault<'static> = Fault::new(
    Status::ServiceUnavailable,
    "audit_unavailable",
    "The audit log cannot be written, so nothing is answered. If a change was asked for, it may have been made.",
);

impl<T: Transport, S: Service> Busy<'_, T, S> {
    /// Waits for the tick commit, or the end of the turn where no line is owed, and sends every reply that was gathered.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        if self.ws.marks.is_empty() {
            return Ok(());
        }
        let turn = self.channel.turn();
        if self.ws.marks.iter().any(|mark| mark.audited.is_some()) {
            // The result of this round is not enough: a reply may have been gathered in an earlier one, since the request
            // behind it on the connection had to wait for a commit of its own. The rounds of the replies tell.
            let _ = turn.committed().await;
        } else {
            // What the others wrote down does not hold up a reply of which nothing is written down.
            turn.ended().await;
        }
        let broken = self.take_back();
        self.report();
        let stall_millis = self.patience_millis();
        let sent = self.channel.send_all(self.ws.output.filled(), stall_millis).await;
        if self.ws.output.capacity() > LEASE_USUAL_BYTES {
            self.ws.output.put_down();
        } else {
            self.ws.output.consume(usize::MAX);
        }
        match sent {
            Err(_) => Err(End::Lost),
            Ok(()) if broken => Err(End::Linger),
            Ok(()) => Ok(()),
        }
    }

    /// How long the peer may let a reply wait: not at all, if it was let in to be answered at once, and there is no room for more by now.
    pub(super) fn patience_millis(&mut self) -> u64 {
        let stays = self.ws.output.stay().and_then(|()| self.ws.input.stay());
        if stays.is_ok() { self.env.bounds.write_millis } else { 0 }
    }

    /// Replaces the first reply whose audit line was not written, and drops those behind it.
    ///
    /// Returns whether there was one.
    fn take_back(&mut self) -> bool {
        let Workspace { output, marks, current, .. } = &mut *self.ws;
        let turn = self.channel.turn();
        let is_lost = |mark: &Mark| mark.audited.is_some_and(|round| turn.may_be_lost(round));
        let Some(first) = marks.iter().position(is_lost) else { return false };
        // None of those behind it is answered otherwise.
        marks.iter_mut().skip(first).for_each(|mark| mark.status = Status::ServiceUnavailable);
        let Some(mark) = marks.get(first) else { return false };
        output.truncate(mark.start);
        let terms = Terms {
            id: &mark.id,
            date: &current.date,
            head_only: mark.head_only,
            persistence: Persistence::Close,
            started: current.started,
            quota: mark.quota,
            secure: self.peer.way == Way::Secure,
            origin: mark.origin,
            sharing: self.env.origins.sharing(mark.origin),
            complaint: mark.complaint,
            place: mark.place,
            trace: mark.trace,
        };
        let mut responder = Responder::new(output, terms);
        responder.fault(&AUDIT_UNAVAILABLE, &[("Retry-After", b"1")]);
        responder.finish();
        true
    }

    /// Lets the service count what was answered.
    pub(super) fn report(&mut self) {
        for mark in self.ws.marks.drain(..) {
            let Mark { place, status, elapsed_nanos, id, trace, .. } = mark;
            self.env.service.replied(&Told { place, status, elapsed_nanos, id: &id, trace });
        }
    }

    /// The same for the request in hand, whose reply was not made in the output.
    pub(super) fn report_own(&self, status: Status) {
        let current = &self.ws.current;
        let (place, elapsed_nanos) = (current.place, Moment::now().nanos_since(current.started));
        self.env.service.replied(&Told {
            place,
            status,
            elapsed_nanos,
            id: &current.id,
            trace: current.trace,
        });
    }

    /// Refuses without any lease; whatever was gathered leaves first.
    pub(super) async fn send_no_memory(&mut self) -> End {
        if let Err(end) = self.flush().await {
            return end;
        }
        // The one place that asks the allocator because no lease is left: a kilobyte, for as long as it takes to send.
        let stall_millis = self.patience_millis();
        let (wall, way) = (self.channel.turn().wall(), self.peer.way);
        let refusal = self.env.refusal_of(&self.ws.current, &OVERLOADED, wall, way);
        self.report_own(OVERLOADED.status);
        match self.channel.send_all(&refusal, stall_millis).await {
            Ok(()) => End::Linger,
            Err(_) => End::Lost,
        }
    }
}

/// Announces the end and reads what is still coming, for a bounded time and length.
pub(super) async fn linger<T: Transport>(channel: &mut Channel<T>, input: &mut Buffer) {
    channel.finish();
    let deadline = channel.turn().now().plus_millis(DISCARD_MAX_MILLIS);
    let mut left = DISCARD_MAX_BYTES;
    // Whoever is refused does not hold what his body had taken.
    input.release();
    if input.reserve(1).and_then(|()| input.stay()).is_err() {
        return;
    }
    while let Ok(count) = channel.receive(input.room_mut(), deadline).await {
        input.advance(count);
        input.consume(count);
        if count == 0 || count >= left {
            return;
        }
        left -= count;
    }
}
