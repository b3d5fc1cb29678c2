//! The application as the connections see it: routes, credentials, handlers, audit, changes.
//!
//! Owns what a worker needs to answer requests. Invariants: a request is admitted by route, credential and
//! permission before a byte of its body is waited for; a change has its attempt in the audit log before it is made,
//! and its outcome before it is answered; whoever is refused for want of a credential learns nothing of what exists.

use core::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::api::change::{Change, ChangeError, Outcome as ChangeOutcome, Target};
use crate::api::route::{self, Access, Found, Route, Serving};
use crate::api::vault::errors;
use crate::api::vault::route::Mount;
use crate::api::{Answer, Call, FORBIDDEN, NOT_FOUND, Rejection, Subject, Tools, Verdict};
use crate::audit::line::{Event, Outcome, Request as AuditedRequest};
use crate::audit::{Outlets, Recent};
use crate::auth::Authenticator;
use crate::auth::jwt::Room;
use crate::clock::Moment;
use crate::crypto::mac::MacKey;
use crate::fleet::Fleet;
use crate::http::complaint::Complaint;
use crate::http::responder::{Fault, Responder};
use crate::http::service::{Arrival, Exchange, Request, Service, Taking, Told};
use crate::http::status::Status;
use crate::http::target::Method;
use crate::keeper::{Committed, Keeper, State, diary};
use crate::limits::{CHANGES_PER_REQUEST_MAX_COUNT, COMMIT_SETTLE_MILLIS, RATE_UNIT_BYTES};
use crate::log::{self, Level, Module};
use crate::metrics::{Exemplar, Worker as Counters};
use crate::model::{ApiKeyId, Principal};
use crate::publication::{Epoch, View};
use crate::quota::Tally;
use crate::reactor::Turn;
use crate::server::access;
use crate::server::door::Limits;
use crate::server::front::Front;
use crate::server::observed::Scene;
use crate::server::preflight::tell_methods;
use crate::server::refusals::Refusals;
use crate::server::shared::Shared;
use crate::store::Head;

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
    pub(super) view: View<State>,
    pub(super) authenticator: Arc<Authenticator>,
    /// Where tokens are decoded.
    pub(super) room: RefCell<Box<Room>>,
    pub(super) tools: RefCell<Tools>,
    pub(super) refusals: Rc<Refusals>,
    pub(super) subjects: RefCell<Vec<Subject>>,
    pub(super) limits: Arc<Limits>,
    /// How new the state is, and among how many servers.
    pub(super) fleet: Arc<Fleet>,
    /// Where requests may come.
    pub(super) front: Front,
    /// Where clients of Vault find the engine, if they are served.
    pub(super) vault: Option<Arc<Mount>>,
    /// Makes of a body what stands for it in audit lines.
    pub(super) body_key: Option<Arc<MacKey>>,
    pub(super) sink: Rc<Outlets>,
    pub(super) recent: Arc<Recent>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) shared: Arc<Shared>,
    /// What this worker counts.
    pub(super) counters: Arc<Counters>,
    /// What metrics are made of.
    pub(super) scene: Arc<Scene>,
    /// Whether the page for people is served.
    pub(super) console: bool,
}

/// What is remembered between head and body.
#[derive(Clone, Debug)]
pub(super) enum Admission {
    /// A row of the table, who asks, and on whose account its memory is.
    Route(&'static Route, Option<Principal>, Option<Arc<Tally>>),
    /// `OPTIONS` of a path.
    Options,
}

/// What became of a request before its handler is called.
pub(super) struct SoFar<'a> {
    /// The result of the change that the handler asked for.
    pub(super) committed: Option<Result<ChangeOutcome, ChangeError>>,
    /// Whether what the request is for was done with it, or may have been.
    pub(super) made: bool,
    /// The text of an API key that was drawn.
    pub(super) kept: &'a mut Option<Zeroizing<String>>,
}

impl Service for App {
    type Admission = Admission;

    fn has_room(&self) -> bool {
        self.sink.has_room()
    }

    fn complaint(&self, path: &[u8]) -> Complaint {
        if self.vault.as_ref().is_some_and(|mount| mount.has(path)) {
            Complaint::Errors
        } else {
            Complaint::Problem
        }
    }

    fn admit(&self, arrival: &Arrival<'_>, responder: &mut Responder<'_>) -> Option<(Admission, Taking)> {
        if !self.receive(arrival, responder) {
            return None;
        }
        let path = arrival.head.path(arrival.bytes);
        #[cfg(feature = "pentest")]
        if self.attack(path, responder) {
            return None;
        }
        if arrival.head.method == Method::Options {
            if !route::allowed(path).is_empty() {
                return Some((Admission::Options, Taking::Whole(0)));
            }
            self.turn_away(arrival, &NOT_FOUND, &[], responder);
            return None;
        }
        let route = self.row_for(arrival, responder)?;
        match self.let_in(arrival, route, responder) {
            Ok(admitted) => {
                let (principal, account) = admitted.unzip();
                Some((Admission::Route(route, principal, account), route.taking()))
            }
            Err(turned) => {
                turned.write(responder);
                self.count_turned(&turned);
                let principal = turned.principal.as_ref();
                // Of who asks too often, too, not every request may take room on the disk.
                let is_one = principal.is_some() && !turned.is_limited();
                if is_one || self.refusals.admit(self.turn.wall()) {
                    let subject = Subject { code: Some(turned.code), ..Subject::default() };
                    self.tell(route, arrival, principal, responder, &subject);
                }
                None
            }
        }
    }

    fn account<'a>(&self, admission: &'a Admission) -> Option<&'a Arc<Tally>> {
        match admission {
            Admission::Route(_, _, account) => account.as_ref(),
            Admission::Options => None,
        }
    }

    fn refused(
        &self,
        admission: &Admission,
        arrival: &Arrival<'_>,
        code: &'static str,
        responder: &mut Responder<'_>,
    ) {
        if let Admission::Route(route, principal, _) = admission
            && route.event.is_some()
        {
            let subject = Subject { code: Some(code), ..Subject::default() };
            self.tell(route, arrival, principal.as_ref(), responder, &subject);
        }
    }

    fn replied(&self, told: &Told<'_>) {
        if log::is_told(Level::Debug, Module::Http) {
            access::tell(told);
        }
        let micros = told.elapsed_nanos / 1_000;
        let exemplar = Exemplar { id: *told.id, micros, at_millis: self.turn.wall().as_millis() };
        self.counters.count_request(told.place, told.status.place(), &exemplar);
    }

    fn lost(&self, admission: &Admission, arrival: &Arrival<'_>) {
        self.counters.lost.add(1);
        if let Admission::Route(route, principal, _) = admission
            && let Some(event) = route.event
        {
            let about = about(route, arrival, principal.as_ref());
            self.append(event, Outcome::Failure, Some(CONNECTION_LOST), about);
        }
    }

    async fn serve(&self, admission: Admission, request: Request<'_>, responder: &mut Responder<'_>) {
        let Request { arrival, body } = request;
        let Admission::Route(route, principal, _) = admission else {
            tell_methods(&arrival, responder);
            return;
        };
        let mut subject = self.subjects.borrow_mut().pop().unwrap_or_default();
        subject.body = self.stand_in(route, body);
        let principal = principal.as_ref();
        let (asked, mut head, mut kept) = ((route, principal), None, None);
        let mut so_far = SoFar { committed: None, made: false, kept: &mut kept };
        let mut answer = self.handle(asked, &arrival, body, so_far, &mut subject, responder);
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
                            let made =
                                own && matches!(&committed.outcome, Ok(_) | Err(ChangeError::Ambiguous));
                            so_far = SoFar { committed: Some(committed.outcome), made, kept: &mut kept };
                            self.handle(asked, &arrival, body, so_far, &mut subject, responder)
                        }
                        Err(rejection) => Err(rejection),
                    }
                }
                Err(rejection) => Err(rejection),
            };
        }
        if self.is_of_vault(&arrival) {
            answer = answer.map_err(errors::translate);
        }
        self.conclude(route, answer, &mut subject, responder);
        // Of failed logins, too, not every one may take room on the disk.
        let withheld = route.access == Access::Presented
            && subject.code.is_some()
            && !self.refusals.admit(self.turn.wall());
        if route.event.is_some() && !withheld {
            self.tell_change(route, &arrival, principal, responder, &subject, head);
        }
        subject.clear();
        self.subjects.borrow_mut().push(subject);
    }

    async fn stream(&self, admission: Admission, exchange: &mut impl Exchange) {
        let Admission::Route(route, Some(principal), _) = admission else { return };
        match route.serving {
            Serving::Streamed(direction) => self.run_stream(route, direction, principal, exchange).await,
            Serving::Events => self.run_events(route, principal, exchange).await,
            Serving::Whole(..) => {}
        }
    }
}

impl App {
    /// Refuses what nobody is asked about who he is, as long as it does not come too often. Returns the code of the reply.
    pub(super) fn turn_away(
        &self,
        arrival: &Arrival<'_>,
        fault: &Fault<'static>,
        fields: &[(&str, &[u8])],
        responder: &mut Responder<'_>,
    ) -> &'static str {
        match self.limit_address(arrival, responder) {
            Ok(()) => {
                responder.fault(fault, fields);
                fault.code
            }
            Err(turned) => {
                turned.write(responder);
                self.count_turned(&turned);
                turned.code
            }
        }
    }

    /// Runs the handler of `route`, which neither waits nor sees any other task's state.
    fn handle(
        &self,
        asked: (&Route, Option<&Principal>),
        arrival: &Arrival<'_>,
        body: &mut [u8],
        so_far: SoFar<'_>,
        subject: &mut Subject,
        responder: &mut Responder<'_>,
    ) -> Answer {
        self.with_call(asked, arrival, body, so_far, subject, |call| match asked.0.serving {
            Serving::Whole(handler, _) => handler(call, responder),
            // Such a row is admitted as one that is streamed, and never comes here.
            Serving::Streamed(_) | Serving::Events => Err(Rejection::Overloaded),
        })
    }

    /// Lends `work` what a handler works with, if who asks may still do it.
    pub(super) fn with_call<R>(
        &self,
        (route, principal): (&Route, Option<&Principal>),
        arrival: &Arrival<'_>,
        body: &mut [u8],
        SoFar { committed, made, kept }: SoFar<'_>,
        subject: &mut Subject,
        work: impl FnOnce(&mut Call<'_>) -> Result<R, Rejection>,
    ) -> Result<R, Rejection> {
        let param = match self.find(arrival) {
            Found::Route(_, param) => param,
            Found::OtherMethods(_) | Found::Nothing => None,
        };
        let look = self.view.enter();
        let authority = match self.authorise(route, &look.callers, arrival, principal) {
            // Who ends his own key is told that it was done; and what may have been done, while nobody can say how new
            // the state is, is not refused.
            Err(_) if made => None,
            judged => judged?,
        };
        let more = body.len() / RATE_UNIT_BYTES;
        if let (Some(authority), false, 1..) = (&authority, committed.is_some(), more) {
            self.debit(authority, more);
        }
        let now = self.turn.now();
        let health = self.shared.health(now, self.store_health());
        let mut call = Call {
            arrival,
            body,
            param,
            principal,
            authority,
            permission: route.permission(),
            ring: &look.ring,
            callers: &look.callers,
            authenticator: &self.authenticator,
            default_rate: self.limits.rate,
            kept,
            tools: &mut self.tools.borrow_mut(),
            recent: &self.recent,
            mount: self.vault.as_ref().map_or("", |mount| mount.name()),
            metrics: &*self.scene,
            health: &health,
            posture: self.shared.posture(),
            board: self.shared.board(),
            now,
            wall: self.turn.wall(),
            console: self.console,
            committed,
            subject,
        };
        let answer = work(&mut call);
        let (entropy, items) = (call.tools.entropy, call.subject.items);
        if let (Some(authority), Some(items)) = (&authority, items) {
            // The first is in what the route costs.
            self.debit(authority, usize::try_from(items.count).unwrap_or(usize::MAX).saturating_sub(1));
        }
        self.note_entropy(entropy);
        answer
    }

    /// What stands for `body` in the audit line: who has the key and a body can tell whether it was this one.
    fn stand_in(&self, route: &Route, body: &[u8]) -> Option<[u8; 16]> {
        let key = self.body_key.as_ref().filter(|_| route.event.is_some() && !body.is_empty())?;
        key.tag(&[body]).as_bytes().first_chunk().copied()
    }

    /// Has the keeper make a change, with its attempt told first.
    async fn commit(
        &self,
        route: &'static Route,
        arrival: &Arrival<'_>,
        principal: Option<&Principal>,
        change: Change,
    ) -> Result<Committed, Rejection> {
        let (name, target) = (change.name(), change.target());
        let about = || AuditedRequest {
            key: target.key(),
            api_key: target.api_key(),
            ..about(route, arrival, principal)
        };
        self.append(name, Outcome::Attempt, None, about());
        self.turn.committed().await.map_err(|_| AUDIT_FAILED)?;
        let submitted =
            self.judge_again(route, arrival, principal, &target, || self.keeper.submit(change, arrival.id));
        let committed = match submitted {
            Ok(Ok(pending)) => pending.await,
            Ok(Err(error)) => Committed::refused(error),
            Err(rejection) => {
                if route.event != Some(name) {
                    self.append_change(name, Outcome::Failure, Some(rejection.code()), None, about());
                }
                return Err(rejection);
            }
        };
        if route.event != Some(name) {
            // A rotation that an encryption needs is not what the encryption's line tells of: it has its own.
            let code = committed.outcome.as_ref().err().map(|error| Rejection::from(*error).code());
            let outcome = if code.is_some() { Outcome::Failure } else { Outcome::Success };
            self.append_change(name, outcome, code, committed.head, about());
        }
        Ok(committed)
    }

    /// Does `work` if who asks may still have `target` changed: a right that was taken away while the attempt was told holds
    /// for the change. The look lasts as long as the work, so that whoever takes a right away waits for it.
    fn judge_again<R>(
        &self,
        route: &Route,
        arrival: &Arrival<'_>,
        principal: Option<&Principal>,
        target: &Target,
        work: impl FnOnce() -> R,
    ) -> Result<R, Rejection> {
        let look = self.view.enter();
        let judged = self.authorise(route, &look.callers, arrival, principal)?;
        let named = route.permission().zip(target.key());
        if let (Some(authority), Some((permission, key))) = (judged, named)
            && !authority.may_key(permission, key)
        {
            return Err(FORBIDDEN.into());
        }
        Ok(work())
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
    fn conclude(&self, route: &Route, answer: Answer, subject: &mut Subject, responder: &mut Responder<'_>) {
        let rejection = match answer {
            Ok(Verdict::Done) => return,
            Err(rejection) => rejection,
            // A handler that wants ever more changes: the version it wants to use is worn out again each time.
            Ok(Verdict::Commit(_)) => ChangeError::Unavailable.into(),
        };
        subject.code = Some(rejection.code());
        // Where a credential stands in the body, whoever is refused was not recognised by it.
        if matches!(rejection, Rejection::Unrecognised(_))
            || rejection.code() == FORBIDDEN.code
            || route.access == Access::Presented
        {
            self.count_failure(rejection.code());
        }
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
        principal: Option<&Principal>,
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
        principal: Option<&Principal>,
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
            api_key: subject.api_key.as_ref().map(ApiKeyId::as_str),
            key_version: subject.version,
            detail: subject.detail.filter(|_| good),
            items: subject.items,
            body: subject.body,
            ..about(route, arrival, principal)
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
        self.sink.append(&Event {
            at,
            name,
            outcome,
            code,
            count: None,
            own: None,
            store,
            request: Some(about),
        });
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
        token: principal.and_then(Principal::token_id),
        identity: principal.and_then(Principal::identity),
        remote: Some(arrival.client),
        trace: arrival.head.traceparent(arrival.bytes),
        route: Some(route.pattern),
        status: 0,
        elapsed_micros: Moment::now().nanos_since(arrival.started) / 1_000,
        key: None,
        api_key: None,
        key_version: None,
        detail: None,
        items: None,
        bytes: None,
        body: None,
    }
}

/// Waits, turn by turn, until it is so; gives up after a while and tells whether it is.
async fn settled(turn: &Turn, is_so: impl Fn() -> bool) -> bool {
    let deadline = turn.now().plus_millis(COMMIT_SETTLE_MILLIS);
    while !is_so() {
        if turn.now() >= deadline {
            return false;
        }
        turn.ended().await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;
    use crate::reactor::executor::Look;
    use crate::reactor::mailbox::Mailbox;
    use crate::reactor::turn::Commit;
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
            executor.commit(|| Commit::Done);
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
