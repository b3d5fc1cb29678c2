//! Streams of audit lines: server-sent events (WHATWG HTML, section 9.2).
//!
//! Owns the order in which such a stream is told, begun and ended. Invariants: the line of its beginning is with the kernel
//! before its first byte, that of its end before its last; the principal is looked up again before each piece, and at least
//! every second; nothing is kept for a client that does not read but the piece that is on its way to it; what a stream
//! does by itself leaves no line, so that it cannot feed itself.

use crate::api::audit::{self, Following};
use crate::api::route::Route;
use crate::api::{Rejection, Subject};
use crate::audit::Outcome;
use crate::audit::line::{Bytes, Request as AuditedRequest};
use crate::http::responder::Fault;
use crate::http::service::{Cut, Exchange, Opening, Service as _};
use crate::http::status::Status;
use crate::http::target::Method;
use crate::limits::{AUDIT_STREAM_HEARTBEAT_MILLIS, AUDIT_STREAM_LOOK_MILLIS};
use crate::model::Principal;
use crate::reactor::turn::CommitFailed;
use crate::server::service::{App, SoFar, about};
use crate::server::streaming::AUDIT_FAILED;

const TOO_MANY: Fault<'static> = Fault::new(
    Status::ServiceUnavailable,
    "too_many_streams",
    "As many streams of audit lines are served as may be. End one, or read GET /api/audit.",
);

/// How a stream ends that was begun.
enum End {
    /// The client has seen enough, or the server ends.
    Done,
    /// For this reason, which the client is not told.
    Failed(&'static str),
    /// The client is gone, or does not read: it gets no end.
    Cut(Option<&'static str>),
}

impl From<Cut> for End {
    fn from(cut: Cut) -> Self {
        match cut {
            Cut::Stalled => Self::Cut(Some("write_timeout")),
            Cut::Fault(fault) => Self::Cut(Some(fault.code)),
            Cut::Lost => Self::Cut(None),
        }
    }
}

/// A stream on its way.
struct Run<'a> {
    app: &'a App,
    route: &'static Route,
    principal: Principal,
    /// Bytes of events that were handed to the kernel.
    written: u64,
}

impl App {
    /// Serves a route of events.
    pub(super) async fn run_events(
        &self,
        route: &'static Route,
        principal: Principal,
        exchange: &mut impl Exchange,
    ) {
        let mut run = Run { app: self, route, principal, written: 0 };
        let mut subject = Subject::default();
        let so_far = SoFar { committed: None, made: false, kept: &mut None };
        let (asked, arrival) = ((route, Some(&run.principal)), exchange.arrival());
        let following = self.with_call(asked, &arrival, &mut [], so_far, &mut subject, audit::follow);
        // Counted as long as it lasts.
        let follower = self.recent.follow().ok_or(TOO_MANY);
        let begun = match (following, &follower) {
            (Ok(following), Ok(_)) => run.begin(exchange).await.map(|()| following),
            (Err(rejection), _) => Err(rejection),
            (_, Err(fault)) => Err((*fault).into()),
        };
        match begun {
            Ok(following) => run.finish(exchange, following).await,
            Err(rejection) => run.refuse(exchange, rejection).await,
        }
    }
}

impl Run<'_> {
    /// Tells of the beginning, and begins the reply.
    async fn begin(&self, exchange: &mut impl Exchange) -> Result<(), Rejection> {
        let head_only = exchange.arrival().head.method == Method::Head;
        let outcome = if head_only { Outcome::Success } else { Outcome::Begin };
        self.tell(exchange, outcome, None).await.map_err(|_| AUDIT_FAILED)?;
        self.recheck(exchange)?;
        // Proxies that gather replies are asked not to.
        let fields: &[(&str, &[u8])] = &[("X-Accel-Buffering", b"no")];
        let opening = Opening { content_type: "text/event-stream", length: None, fields, prefix: &[] };
        exchange.begin(&opening).map_err(|cut| match cut {
            Cut::Fault(fault) => Rejection::from(fault),
            Cut::Stalled | Cut::Lost => Rejection::Overloaded,
        })?;
        Ok(())
    }

    /// Sends events until the end, tells of it, and ends the reply.
    async fn finish(&mut self, exchange: &mut impl Exchange, following: Following) {
        if exchange.arrival().head.method == Method::Head {
            // Nothing was begun that a line should tell the end of.
            let _ = exchange.push(true, &mut |_| 0).await;
            return;
        }
        let end = self.follow(exchange, following).await.unwrap_or_else(End::from);
        let (outcome, code) = match end {
            End::Done | End::Cut(None) => (Outcome::Success, None),
            End::Failed(code) | End::Cut(Some(code)) => (Outcome::Failure, Some(code)),
        };
        let told = self.tell(exchange, outcome, code).await;
        if told.is_ok() && matches!(end, End::Done | End::Failed(_)) {
            // A client that does not see it comes back all the same.
            let _ = exchange.push(true, &mut |_| 0).await;
        }
    }

    async fn follow(&mut self, exchange: &mut impl Exchange, mut following: Following) -> Result<End, Cut> {
        let (recent, turn) = (&*self.app.recent, &*self.app.turn);
        exchange.push(false, &mut |room| following.open(recent, room)).await?;
        let mut spoken = turn.now();
        while !turn.draining() {
            if let Err(rejection) = self.recheck(exchange) {
                return Ok(End::Failed(rejection.code()));
            }
            let silent = turn.now() >= spoken.plus_millis(AUDIT_STREAM_HEARTBEAT_MILLIS);
            let mut count = 0;
            let mut fill = |room: &mut [u8]| {
                count = following.fill(recent, silent, room);
                count
            };
            exchange.push(false, &mut fill).await?;
            self.written += count as u64;
            if count > 0 {
                spoken = turn.now();
            }
            if !following.is_behind(recent) {
                let until = turn.now().plus_millis(AUDIT_STREAM_LOOK_MILLIS);
                if !exchange.pause(until).await? {
                    break;
                }
            } else if count == 0 {
                // Much that was not asked for: the others have their turn.
                let _ = turn.committed().await;
            }
        }
        Ok(End::Done)
    }

    /// Whether the principal may still read.
    fn recheck(&self, exchange: &impl Exchange) -> Result<(), Rejection> {
        let (look, principal) = (self.app.view.enter(), Some(&self.principal));
        self.app.authorise(self.route, &look.callers, &exchange.arrival(), principal).map(drop)
    }

    /// Appends a line of the stream and waits until it is with the kernel.
    async fn tell(
        &self,
        exchange: &impl Exchange,
        outcome: Outcome,
        code: Option<&'static str>,
    ) -> Result<(), CommitFailed> {
        self.find_room().await;
        let bytes = Bytes { read: 0, written: self.written };
        let request = AuditedRequest {
            status: Status::Ok.code(),
            bytes: (outcome != Outcome::Begin).then_some(bytes),
            ..about(self.route, &exchange.arrival(), Some(&self.principal))
        };
        self.app.append(self.route.event.unwrap_or(self.route.pattern), outcome, code, request);
        self.app.turn.committed().await
    }

    /// Waits until the turn has room for the lines of one more request.
    async fn find_room(&self) {
        while !self.app.has_room() {
            let _ = self.app.turn.committed().await;
        }
    }

    async fn refuse(&self, exchange: &mut impl Exchange, rejection: Rejection) {
        self.find_room().await;
        exchange.refuse(|arrival, responder| {
            rejection.write(responder);
            let subject = Subject { code: Some(rejection.code()), ..Subject::default() };
            self.app.tell(self.route, arrival, Some(&self.principal), responder, &subject);
        });
    }
}
