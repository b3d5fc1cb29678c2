//! The application as the connections see it: routes, credentials, handlers, audit, changes.
//!
//! Owns what a worker needs to answer requests. Invariants: a request is admitted by route, credential and
//! permission before a byte of its body is waited for; a change has its attempt in the audit log before it is made,
//! and its outcome before it is answered; whoever is refused for want of a credential learns nothing of what exists.

use core::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crate::api::route::{self, Found, Route, Serving};
use crate::api::{Answer, Call, FORBIDDEN, Rejection, Subject, Tools, Verdict};
use crate::audit::line::{Event, Outcome, Request as AuditedRequest};
use crate::audit::{Recent, Sink};
use crate::auth::{self, CredentialFault, Registry};
use crate::clock::Moment;
use crate::http::responder::{Fault, Responder};
use crate::http::service::{Arrival, Exchange, Request, Service, Taking};
use crate::http::status::Status;
use crate::http::target::Method;
use crate::keeper::{Committed, Keeper, diary};
use crate::keyring::publication::Epoch;
use crate::keyring::{Change, ChangeError, Outcome as ChangeOutcome, View};
use crate::limits::{CHANGES_PER_REQUEST_MAX_COUNT, COMMIT_SETTLE_MILLIS};
use crate::model::{Permission, Principal};
use crate::reactor::Turn;
use crate::server::refusals::Refusals;
use crate::server::shared::Shared;
use crate::store::Head;

/// What a body of `PATCH` may be.
const PATCH_TYPES: &[u8] = b"application/json, application/merge-patch+json";
const NOT_FOUND: Fault<'static> = Fault::new(
    Status::NotFound,
    "not_found",
    "There is no such path. GET /api/health shows that the server is there.",
);
const METHOD_NOT_ALLOWED: Fault<'static> = Fault::new(
    Status::MethodNotAllowed,
    "method_not_allowed",
    "The path exists for other methods: see Allow.",
);
const NO_CREDENTIAL: Fault<'static> = Fault::new(
    Status::Unauthorized,
    "credential_missing",
    "Send an API key in X-API-Key, or in Authorization after Bearer.",
);
const BAD_CREDENTIAL: Fault<'static> =
    Fault::new(Status::Unauthorized, "credential_invalid", "The credential is not valid.");
const TWO_CREDENTIALS: Fault<'static> =
    Fault::new(Status::BadRequest, "credential_repeated", "Send X-API-Key or Authorization, not both.");
const AUDIT_FAILED: Fault<'static> = Fault::new(
    Status::ServiceUnavailable,
    "audit_unavailable",
    "The audit log cannot be written, so the change was not made. Try again shortly.",
);

const COMMIT_PENDING: Fault<'static> = Fault::new(
    Status::ServiceUnavailable,
    "commit_pending",
    "The change was made; a request that began before it has not ended yet. Do not repeat it: GET the key to see it.",
);

/// What is told of a request whose client is gone before it was answered.
pub(super) const CONNECTION_LOST: &str = "connection_lost";

/// One worker's application.
#[derive(Debug)]
pub(super) struct App {
    pub(super) worker: usize,
    pub(super) entropy: Cell<bool>,
    pub(super) turn: Rc<Turn>,
    pub(super) view: View,
    pub(super) registry: Arc<Registry>,
    pub(super) tools: RefCell<Tools>,
    pub(super) refusals: Rc<Refusals>,
    pub(super) subjects: RefCell<Vec<Subject>>,
    pub(super) sink: Rc<Sink>,
    pub(super) recent: Arc<Recent>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) shared: Arc<Shared>,
}

/// What is remembered between head and body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Admission {
    /// A row of the table, and who asks.
    Route(&'static Route, Option<Principal>),
    /// `OPTIONS` of a path.
    Options,
}

impl Service for App {
    type Admission = Admission;

    fn has_room(&self) -> bool {
        self.sink.has_room()
    }

    fn admit(&self, arrival: &Arrival<'_>, responder: &mut Responder<'_>) -> Option<(Admission, Taking)> {
        let path = arrival.head.path(arrival.bytes);
        if arrival.head.method == Method::Options {
            if !route::allowed(path).is_empty() {
                return Some((Admission::Options, Taking::Whole(0)));
            }
            responder.fault(&NOT_FOUND, &[]);
            return None;
        }
        let route = match route::find(arrival.head.method, path) {
            Found::Route(route, _) => route,
            Found::OtherMethods(allow) => {
                responder.fault(&METHOD_NOT_ALLOWED, &[("Allow", allow.as_bytes())]);
                return None;
            }
            Found::Nothing => {
                responder.fault(&NOT_FOUND, &[]);
                return None;
            }
        };
        let Some(permission) = route.permission else {
            return Some((Admission::Route(route, None), route.taking()));
        };
        match self.identify(arrival, permission) {
            Ok(principal) => Some((Admission::Route(route, Some(principal)), route.taking())),
            Err((fault, challenge, principal)) => {
                responder.fault(&fault, challenge);
                if principal.is_none() && !self.refusals.admit(self.turn.wall()) {
                    return None;
                }
                self.tell(
                    route,
                    arrival,
                    principal,
                    responder,
                    &Subject { code: Some(fault.code), ..Subject::default() },
                );
                None
            }
        }
    }

    fn refused(
        &self,
        admission: &Admission,
        arrival: &Arrival<'_>,
        code: &'static str,
        responder: &mut Responder<'_>,
    ) {
        if let Admission::Route(route, principal) = admission
            && route.event.is_some()
        {
            let subject = Subject { code: Some(code), ..Subject::default() };
            self.tell(route, arrival, *principal, responder, &subject);
        }
    }

    fn lost(&self, admission: &Admission, arrival: &Arrival<'_>) {
        if let Admission::Route(route, principal) = admission
            && let Some(event) = route.event
        {
            let about = about(route, arrival, principal.as_ref());
            self.append(event, Outcome::Failure, Some(CONNECTION_LOST), about);
        }
    }

    async fn serve(&self, admission: Admission, request: Request<'_>, responder: &mut Responder<'_>) {
        let Request { arrival, body } = request;
        let Admission::Route(route, principal) = admission else {
            let allow = route::allowed(arrival.head.path(arrival.bytes));
            let fields: [(&str, &[u8]); 2] = [("Allow", allow.as_bytes()), ("Accept-Patch", PATCH_TYPES)];
            // RFC 5789, section 3.1: only what takes PATCH says how.
            let count = if allow.contains(Method::Patch.name()) { 2 } else { 1 };
            if responder.begin(Status::NoContent, None, 0, fields.get(..count).unwrap_or_default()).is_err() {
                responder.overloaded();
            }
            return;
        };
        let mut subject = self.subjects.borrow_mut().pop().unwrap_or_default();
        let (asked, mut head) = ((route, principal), None);
        let mut answer = self.handle(asked, &arrival, body, None, &mut subject, responder);
        for _ in 0..CHANGES_PER_REQUEST_MAX_COUNT {
            let Ok(Verdict::Commit(change)) = answer else { break };
            let own = route.event == Some(change.name());
            answer = match self.commit(route, &arrival, principal, change).await {
                Ok(committed) => {
                    if own {
                        subject.note_change(&committed.outcome);
                        head = committed.head;
                    }
                    match self.settle(committed.settle).await {
                        Ok(()) => {
                            let outcome = Some(committed.outcome);
                            self.handle(asked, &arrival, body, outcome, &mut subject, responder)
                        }
                        Err(rejection) => Err(rejection),
                    }
                }
                Err(rejection) => Err(rejection),
            };
        }
        self.conclude(answer, &mut subject, responder);
        if route.event.is_some() {
            self.tell_change(route, &arrival, principal, responder, &subject, head);
        }
        subject.clear();
        self.subjects.borrow_mut().push(subject);
    }

    async fn stream(&self, admission: Admission, exchange: &mut impl Exchange) {
        let Admission::Route(route, Some(principal)) = admission else { return };
        match route.serving {
            Serving::Streamed(direction) => self.run_stream(route, direction, principal, exchange).await,
            Serving::Events => self.run_events(route, principal, exchange).await,
            Serving::Whole(..) => {}
        }
    }
}

/// A refusal with its challenge, and who it was, if that is known.
pub(super) type Refused = (Fault<'static>, &'static [(&'static str, &'static [u8])], Option<Principal>);

impl App {
    /// Finds out who asks and whether they may.
    pub(super) fn identify(
        &self,
        arrival: &Arrival<'_>,
        permission: Permission,
    ) -> Result<Principal, Refused> {
        let head = arrival.head;
        let credential = auth::find(head.api_key(arrival.bytes), head.authorization(arrival.bytes));
        // RFC 6750, section 3.1: no error code for a request that brought no credential.
        const BARE: &[(&str, &[u8])] = &[("WWW-Authenticate", b"Bearer")];
        const INVALID: &[(&str, &[u8])] = &[("WWW-Authenticate", b"Bearer error=\"invalid_token\"")];
        const SCOPE: &[(&str, &[u8])] = &[("WWW-Authenticate", b"Bearer error=\"insufficient_scope\"")];
        let text = credential.map_err(|fault| match fault {
            CredentialFault::Missing => (NO_CREDENTIAL, BARE, None),
            CredentialFault::Repeated => (TWO_CREDENTIALS, &[][..], None),
            CredentialFault::Malformed => (BAD_CREDENTIAL, INVALID, None),
        })?;
        let principal = self.registry.authenticate(text).ok_or((BAD_CREDENTIAL, INVALID, None))?;
        if principal.may(permission) { Ok(principal) } else { Err((FORBIDDEN, SCOPE, Some(principal))) }
    }

    /// Runs the handler of `route`, which neither waits nor sees any other task's state.
    fn handle(
        &self,
        (route, principal): (&Route, Option<Principal>),
        arrival: &Arrival<'_>,
        body: &mut [u8],
        committed: Option<Result<ChangeOutcome, ChangeError>>,
        subject: &mut Subject,
        responder: &mut Responder<'_>,
    ) -> Answer {
        self.with_call((arrival, principal), body, committed, subject, |call| match route.serving {
            Serving::Whole(handler, _) => handler(call, responder),
            // Such a row is admitted as one that is streamed, and never comes here.
            Serving::Streamed(_) | Serving::Events => Err(Rejection::Overloaded),
        })
    }

    /// Lends `work` what a handler works with.
    pub(super) fn with_call<R>(
        &self,
        (arrival, principal): (&Arrival<'_>, Option<Principal>),
        body: &mut [u8],
        committed: Option<Result<ChangeOutcome, ChangeError>>,
        subject: &mut Subject,
        work: impl FnOnce(&mut Call<'_>) -> R,
    ) -> R {
        let param = match route::find(arrival.head.method, arrival.head.path(arrival.bytes)) {
            Found::Route(_, param) => param,
            Found::OtherMethods(_) | Found::Nothing => None,
        };
        let ring = self.view.enter();
        let now = self.turn.now();
        let health = self.shared.health(now, self.keeper.store());
        let mut call = Call {
            arrival,
            body,
            param,
            principal,
            ring: &ring,
            tools: &mut self.tools.borrow_mut(),
            recent: &self.recent,
            health: &health,
            now,
            wall: self.turn.wall(),
            committed,
            subject,
        };
        let answer = work(&mut call);
        let entropy = call.tools.entropy;
        self.note_entropy(entropy);
        answer
    }

    /// Has the keeper make a change, with its attempt told first.
    async fn commit(
        &self,
        route: &'static Route,
        arrival: &Arrival<'_>,
        principal: Option<Principal>,
        change: Change,
    ) -> Result<Committed, Rejection> {
        let (name, key) = (change.name(), change.key().clone());
        let about =
            || AuditedRequest { key: Some(key.as_str()), ..about(route, arrival, principal.as_ref()) };
        self.append(name, Outcome::Attempt, None, about());
        self.turn.committed().await.map_err(|_| AUDIT_FAILED)?;
        let committed = match self.keeper.submit(change, arrival.id) {
            Ok(pending) => pending.await,
            Err(error) => Committed::refused(error),
        };
        if route.event != Some(name) {
            // A rotation that an encryption needs is not what the encryption's line tells of: it has its own.
            let code = committed.outcome.as_ref().err().map(|error| Rejection::from(*error).code());
            let outcome = if code.is_some() { Outcome::Failure } else { Outcome::Success };
            self.append_change(name, outcome, code, committed.head, about());
        }
        Ok(committed)
    }

    /// Waits until no worker acts on what was before `epoch`: only then is a change answered that takes a right away.
    async fn settle(&self, epoch: Option<Epoch>) -> Result<(), Rejection> {
        let Some(epoch) = epoch else { return Ok(()) };
        if settled(&self.turn, || self.keeper.settled(epoch)).await {
            Ok(())
        } else {
            Err(COMMIT_PENDING.into())
        }
    }

    /// Writes the reply of a handler that wrote none, and notes why.
    fn conclude(&self, answer: Answer, subject: &mut Subject, responder: &mut Responder<'_>) {
        let rejection = match answer {
            Ok(Verdict::Done) => return,
            Err(rejection) => rejection,
            // A handler that wants ever more changes: the version it wants to use is worn out again each time.
            Ok(Verdict::Commit(_)) => ChangeError::Unavailable.into(),
        };
        subject.code = Some(rejection.code());
        rejection.write(responder);
    }

    /// Tells health what the last draw was like, if that is news.
    fn note_entropy(&self, good: bool) {
        if self.entropy.replace(good) != good {
            self.shared.set_entropy(self.worker, good);
        }
    }

    /// Appends the audit line of a request whose reply is written.
    pub(super) fn tell(
        &self,
        route: &'static Route,
        arrival: &Arrival<'_>,
        principal: Option<Principal>,
        responder: &mut Responder<'_>,
        subject: &Subject,
    ) {
        self.tell_change(route, arrival, principal, responder, subject, None);
    }

    /// As [`tell`](Self::tell), with where the store stands if the request changed something.
    fn tell_change(
        &self,
        route: &'static Route,
        arrival: &Arrival<'_>,
        principal: Option<Principal>,
        responder: &mut Responder<'_>,
        subject: &Subject,
        head: Option<Head>,
    ) {
        let status = responder.status().unwrap_or(Status::InternalServerError).code();
        // A batch of which every item was refused has a code and status 200.
        let good = subject.changed || (status < 400 && subject.code.is_none());
        let outcome = if good { Outcome::Success } else { Outcome::Failure };
        let about = AuditedRequest {
            status,
            key: Some(subject.key.as_str()).filter(|key| !key.is_empty()),
            key_version: subject.version,
            detail: subject.detail.filter(|_| good),
            items: subject.items,
            ..about(route, arrival, principal.as_ref())
        };
        self.append_change(route.event.unwrap_or(route.pattern), outcome, subject.code, head, about);
        responder.audited(self.turn.round());
    }

    pub(super) fn append(
        &self,
        name: &'static str,
        outcome: Outcome,
        code: Option<&'static str>,
        about: AuditedRequest<'_>,
    ) {
        self.append_change(name, outcome, code, None, about);
    }

    fn append_change(
        &self,
        name: &'static str,
        outcome: Outcome,
        code: Option<&'static str>,
        head: Option<Head>,
        about: AuditedRequest<'_>,
    ) {
        let (at, store) = (self.turn.wall(), head.map(diary::mark));
        self.sink.append(&Event { at, name, outcome, code, count: None, store, request: Some(about) });
    }
}

/// What every line of a request tells; the rest is filled in by what came of it.
pub(super) fn about<'a>(
    route: &'static Route,
    arrival: &Arrival<'a>,
    principal: Option<&'a Principal>,
) -> AuditedRequest<'a> {
    AuditedRequest {
        id: arrival.id,
        principal: principal.map(Principal::id),
        remote: Some(arrival.peer),
        route: Some(route.pattern),
        status: 0,
        elapsed_micros: Moment::now().nanos_since(arrival.started) / 1_000,
        key: None,
        key_version: None,
        detail: None,
        items: None,
        bytes: None,
    }
}

/// Waits, turn by turn, until it is so; gives up after a while and tells whether it is.
async fn settled(turn: &Turn, is_so: impl Fn() -> bool) -> bool {
    let deadline = turn.now().plus_millis(COMMIT_SETTLE_MILLIS);
    while !is_so() {
        if turn.now() >= deadline {
            return false;
        }
        // Whether the lines of others were written does not matter here.
        let _ = turn.committed().await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;
    use crate::reactor::executor::Look;
    use crate::reactor::mailbox::Mailbox;
    use crate::reactor::{Executor, Resting};

    struct Once(bool);

    impl Resting for Once {
        fn look(&mut self) -> Look {
            if core::mem::take(&mut self.0) { Look::Run } else { Look::Rest }
        }
    }

    /// What a wait of so many milliseconds comes to, if it settles after `turns` turns.
    fn waited(turns: usize, millis_per_turn: u64) -> Option<bool> {
        let turn = Turn::new(Moment::default());
        let (left, seen) = (Rc::new(Cell::new(turns)), Rc::new(Cell::new(None)));
        let mut executor = Executor::new(Rc::clone(&turn), Mailbox::new(Box::new(|| {})), |_| {
            let (turn, left, seen) = (Rc::clone(&turn), Rc::clone(&left), Rc::clone(&seen));
            async move {
                seen.set(Some(settled(&turn, || left.get() == 0).await));
                None
            }
        });
        let task = executor.spawn(|_| Ok::<_, ()>(Once(true))).unwrap();
        executor.poll(task);
        for number in 1..=10 {
            if seen.get().is_some() {
                break;
            }
            left.set(left.get().saturating_sub(1));
            executor.begin(Moment::default().plus_millis(number * millis_per_turn), WallTime::default());
            executor.commit(|| Ok(()));
        }
        seen.get()
    }

    #[test]
    fn a_restriction_is_answered_when_it_has_settled_and_put_off_when_it_does_not() {
        assert_eq!(waited(0, 1), Some(true), "at once");
        assert_eq!(waited(5, 1), Some(true));
        assert_eq!(waited(usize::MAX, COMMIT_SETTLE_MILLIS / 10 - 1), None, "it waits on");
        assert_eq!(waited(usize::MAX, COMMIT_SETTLE_MILLIS / 10), Some(false));
    }
}
