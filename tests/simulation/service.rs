//! The simulated application: its replies depend on every byte of a request, and its waits are those of the real one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use quantonium::http::responder::{Fault, Responder};
use quantonium::http::service::{Arrival, Exchange, Request, Service, Taking};
use quantonium::http::status::Status;
use quantonium::quota::Quota;
use quantonium::reactor::Turn;

use crate::script::{Kind, LARGE_BODY, SMALL_BODY, read_path, reply_body};
use crate::streamed;

const REFUSED: Fault<'static> = Fault::new(Status::Forbidden, "refused", "By its head.");
/// Seen only in a world that loses or doubles bytes.
const UNKNOWN: Fault<'static> = Fault::new(Status::NotFound, "unknown", "Nobody asked for this.");
const NOT_COMMITTED: Fault<'static> =
    Fault::new(Status::ServiceUnavailable, "not_committed", "Its attempt could not be told.");

/// What the service shares with the schedule.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) turn: Rc<Turn>,
    /// Audit lines of this turn, and those that are with the kernel.
    pub(crate) lines: RefCell<Vec<String>>,
    pub(crate) durable: RefCell<BTreeSet<String>>,
    /// Requests that wait for another thread, with what wakes them.
    pub(crate) errands: RefCell<Vec<Errand>>,
    /// Tasks inside a wait of the service.
    pub(crate) waiting: RefCell<BTreeSet<u32>>,
    pub(crate) crowded: Cell<bool>,
}

/// Work left to another thread.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) done: Rc<Cell<bool>>,
    pub(crate) waker: Waker,
}

impl Stage {
    pub(crate) fn new(turn: Rc<Turn>) -> Rc<Self> {
        Rc::new(Self {
            turn,
            lines: RefCell::default(),
            durable: RefCell::default(),
            errands: RefCell::default(),
            waiting: RefCell::default(),
            crowded: Cell::new(false),
        })
    }

    pub(crate) fn tell(&self, path: &str, what: &str) {
        self.lines.borrow_mut().push(format!("{path} {what}"));
    }

    async fn woken(&self) {
        let done = Rc::new(Cell::new(false));
        let task = self.turn.current().index();
        let mut left = false;
        poll_fn(|context| {
            if done.get() {
                self.waiting.borrow_mut().remove(&task);
                return Poll::Ready(());
            }
            if !left {
                left = true;
                self.waiting.borrow_mut().insert(task);
                let errand = Errand { done: Rc::clone(&done), waker: context.waker().clone() };
                self.errands.borrow_mut().push(errand);
            }
            Poll::Pending
        })
        .await;
    }
}

/// What is left of its limit after the request of this path; some requests are held to none.
pub(crate) fn quota_of(path: &str) -> Option<Quota> {
    let remaining = path.bytes().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let quota = Quota { policy: "key", limit: u32::MAX, window_seconds: 1, remaining, reset_seconds: 9 };
    (!remaining.is_multiple_of(4)).then_some(quota)
}

#[derive(Debug)]
pub(crate) struct SimService(pub(crate) Rc<Stage>);

impl Service for SimService {
    type Admission = (Kind, bool);

    fn has_room(&self) -> bool {
        !self.0.crowded.get()
    }

    fn admit(&self, arrival: &Arrival<'_>, responder: &mut Responder<'_>) -> Option<((Kind, bool), Taking)> {
        let path = String::from_utf8(arrival.head.path(arrival.bytes).to_vec()).unwrap();
        let Some((kind, audited, _)) = read_path(&path) else {
            responder.fault(&UNKNOWN, &[]);
            return None;
        };
        if let Some(quota) = quota_of(&path) {
            responder.limit(quota);
        }
        match kind {
            Kind::Refused => {
                responder.fault(&REFUSED, &[]);
                if audited {
                    self.0.tell(&path, "outcome");
                    responder.audited(self.0.turn.round());
                }
                None
            }
            Kind::Small => Some(((kind, audited), Taking::Whole(SMALL_BODY))),
            _ if kind.is_streamed() => Some(((kind, audited), Taking::Streamed)),
            _ => Some(((kind, audited), Taking::Whole(LARGE_BODY))),
        }
    }

    fn refused(&self, _: &Self::Admission, _: &Arrival<'_>, _: &'static str, _: &mut Responder<'_>) {}

    fn lost(&self, _: &Self::Admission, arrival: &Arrival<'_>) {
        let path = String::from_utf8(arrival.head.path(arrival.bytes).to_vec()).unwrap();
        self.0.tell(&path, "lost");
    }

    async fn serve(
        &self,
        (kind, audited): (Kind, bool),
        request: Request<'_>,
        responder: &mut Responder<'_>,
    ) {
        let stage = &*self.0;
        let head = request.arrival.head;
        let path = String::from_utf8(head.path(request.arrival.bytes).to_vec()).unwrap();
        let mut committed = true;
        if matches!(kind, Kind::Commit | Kind::Change) {
            stage.tell(&path, "attempt");
            committed = stage.turn.committed().await.is_ok();
        }
        if committed && matches!(kind, Kind::Wake | Kind::Change) {
            stage.woken().await;
        }
        if committed {
            let body = reply_body(head.method.name(), &path, request.body);
            responder.whole(Status::Ok, "application/octet-stream", &body);
        } else {
            responder.fault(&NOT_COMMITTED, &[]);
        }
        if audited {
            stage.tell(&path, "outcome");
            responder.audited(stage.turn.round());
        }
    }

    async fn stream(&self, (kind, _): (Kind, bool), exchange: &mut impl Exchange) {
        // What a cut reply looks like is for the judge.
        let _ = streamed::serve(&self.0, kind, exchange).await;
    }
}
