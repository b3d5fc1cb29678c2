//! A worker: one thread with its loop, its listeners and its own audit stream.
//!
//! Owns what is moved into the thread ([`Worker`]) and the loop's driver. Invariants: the thread is locked in before
//! it accepts anything; it never returns, since the end of a thread makes calls that no filter allows; what a
//! connection counts for is given back when its task ends, whatever the reason.

use core::cell::{Cell, RefCell};
use core::time::Duration;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use mio::Poll;

use crate::api::Tools;
use crate::api::vault::route::Mount;
use crate::audit::{Committed, Outlets, Recent};
use crate::auth::Authenticator;
use crate::auth::jwt::Room;
use crate::clock::Moment;
use crate::crypto::mac::MacKey;
use crate::crypto::random::{Generator, Kernel};
use crate::exit::Exit;
use crate::fleet::Fleet;
use crate::http::connection::{Idle, serve};
use crate::http::env::{Bounds, Env};
use crate::http::forwarded::Forwarding;
use crate::http::peer::{Peer, Way};
use crate::http::responder::Fault;
use crate::http::sharing::Origins;
use crate::http::status::Status;
use crate::keeper::{Keeper, State};
use crate::limits::{AUDIT_RETRY_MILLIS, KEY_BYTES};
use crate::log::{self, Module};
use crate::metrics::Worker as Counters;
use crate::model::Posture;
use crate::publication::{Publication, View};
use crate::reactor::mailbox::Mailbox;
use crate::reactor::run::{Driver, Phase, Reactor};
use crate::reactor::socket::{Leaving, Listener, SocketTransport, Stream};
use crate::reactor::turn::{Commit, CommitFailed, Ticket};
use crate::reactor::{Budget, Channel, Pool, Strangers, TaskId, Transport as _, Turn};
use crate::sandbox;
use crate::sandbox::confinement::{self, Reach};
use crate::sandbox::seccomp::Role;
use crate::secret::Secret;
use crate::server::census::{self, Census, Refused};
use crate::server::certificates::{InForce, Securing, prepare_thread};
use crate::server::door::Limits;
use crate::server::front::{Front, Site};
use crate::server::observed::Scene;
use crate::server::refusals::Refusals;
use crate::server::service::App;
use crate::server::shared::Shared;
use crate::server::turned_away::{Reason, TurnedAway};
use crate::server::wire::{Line, Wire};

/// What a client gets whose address has too many connections already.
const TOO_MANY: Fault<'static> = Fault::new(
    Status::ServiceUnavailable,
    "too_many_connections",
    "This address has as many connections as it may have. Close some, or use them again.",
);
/// What a client gets when there is no place for anybody.
const FULL: Fault<'static> = Fault::new(
    Status::ServiceUnavailable,
    "too_many_connections",
    "The server has as many connections as it may have. Try again shortly.",
);

/// What every worker shares with the others.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) shared: Arc<Shared>,
    pub(super) census: Arc<Census>,
    pub(super) budget: Arc<Budget>,
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) publication: Arc<Publication<State>>,
    pub(super) keeper: Arc<Keeper>,
    /// What metrics are made of.
    pub(super) scene: Arc<Scene>,
    /// The last audit lines of all threads.
    pub(super) recent: Arc<Recent>,
    /// What seals backups of keys.
    pub(super) backup_key: Arc<Secret<KEY_BYTES>>,
    pub(super) bounds: Bounds,
    /// Who is limited, and how.
    pub(super) limits: Arc<Limits>,
    /// How new the state is, and among how many servers.
    pub(super) fleet: Arc<Fleet>,
    /// Makes of a body what stands for it in audit lines.
    pub(super) body_key: Option<Arc<MacKey>>,
    /// Which proxies are believed.
    pub(super) forwarding: Arc<Forwarding>,
    /// Whose pages may read replies.
    pub(super) origins: Arc<Origins>,
    /// Under which names the server is asked.
    pub(super) site: Arc<Site>,
    /// Where clients of Vault find the engine, if they are served.
    pub(super) vault: Option<Arc<Mount>>,
    /// Whether the page for people is served.
    pub(super) console: bool,
    /// How TLS is spoken, if it is.
    pub(super) tls: Option<InForce>,
}

/// A worker before its thread is started.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) poll: Poll,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) listeners: Vec<(Listener, Leaving)>,
    /// How the bytes of each listener's connections come.
    pub(super) ways: Vec<Way>,
    pub(super) audit: Outlets,
    /// The descriptor that is given up when the system has no other.
    pub(super) reserve: Option<Stream>,
    /// Random for each start of each worker: the first half of its request identifiers.
    pub(super) first_id: u64,
}

impl Worker {
    /// The body of the thread.
    pub(super) fn run(self, common: &Common, posture: &Posture) -> ! {
        let generator = Generator::new(Kernel, Moment::now());
        let prepared = common.tls.as_ref().map_or(Ok(()), |_| prepare_thread());
        let confined = confinement::confine(&Reach::Nothing);
        common.shared.await_filter();
        let locked = confined.and_then(|confined| sandbox::lock_in(posture, Role::Worker, confined));
        let locked = locked.map_err(|failure| failure.to_string());
        let ready =
            generator.map_err(|error| error.to_string()).and_then(|generator| locked.map(|_| generator));
        match prepared.and(ready) {
            Ok(generator) => {
                common.shared.arrive(Ok(()));
                self.serve(common, generator)
            }
            Err(reason) => common.shared.arrive(Err(reason)),
        }
        rest()
    }

    fn serve(self, common: &Common, generator: Generator) -> ! {
        let Self { index, poll, mailbox, listeners, ways, audit, reserve, first_id } = self;
        let turn = Turn::new(Moment::now());
        let sink = Rc::new(audit);
        let refusals = Rc::new(Refusals::default());
        // There is one for each worker.
        let counters = common.scene.registry.worker(index).map_or_else(Arc::default, Arc::clone);
        let app = App {
            refusals: Rc::clone(&refusals),
            worker: index,
            entropy: Cell::new(true),
            turn: Rc::clone(&turn),
            view: View::new(Arc::clone(&common.publication)),
            authenticator: Arc::clone(&common.authenticator),
            limits: Arc::clone(&common.limits),
            fleet: Arc::clone(&common.fleet),
            front: Front::new(Arc::clone(&common.site)),
            vault: common.vault.clone(),
            body_key: common.body_key.clone(),
            room: RefCell::new(Box::new(Room::new())),
            tools: RefCell::new(Tools::new(generator, Arc::clone(&common.backup_key))),
            subjects: RefCell::new(Vec::new()),
            sink: Rc::clone(&sink),
            recent: Arc::clone(&common.recent),
            keeper: Arc::clone(&common.keeper),
            shared: Arc::clone(&common.shared),
            counters: Arc::clone(&counters),
            scene: Arc::clone(&common.scene),
            console: common.console,
        };
        let pool = Pool::settling(Arc::clone(&common.budget));
        let (forwarding, origins) = (Arc::clone(&common.forwarding), Arc::clone(&common.origins));
        let strangers = Strangers::new(Rc::clone(&pool), Rc::clone(&turn), common.shared.workers());
        let env = Env::new(app, pool, common.bounds, forwarding, origins, first_id);
        let driver = WorkerDriver {
            index,
            ways,
            securing: common.tls.clone().map(|tls| Securing::new(tls, strangers)),
            env,
            refusals,
            sink,
            shared: Arc::clone(&common.shared),
            census: Arc::clone(&common.census),
            turn: Rc::clone(&turn),
            turned_away: TurnedAway::new(Arc::clone(&counters)),
            counters,
            broken: false,
        };
        let mut reactor = Reactor::new(poll, turn, mailbox, listeners, reserve, driver, serve);
        let ended = match &mut reactor {
            Ok(reactor) => reactor.run(),
            Err(error) => Err(std::io::Error::from(error.kind())),
        };
        if let Err(error) = ended {
            log::error(Module::Server, format_args!("a worker's poll failed: {error}"));
            Exit::Io.leave();
        }
        common.shared.worker_ended(index);
        // The loop is kept as it is: to drop it would close descriptors that belong to their bands.
        rest()
    }
}

/// What is left to do for a thread that has nothing to do: its end would make calls that no filter allows.
fn rest() -> ! {
    loop {
        std::thread::park();
    }
}

struct WorkerDriver {
    index: usize,
    ways: Vec<Way>,
    securing: Option<Securing>,
    env: Rc<Env<App>>,
    refusals: Rc<Refusals>,
    sink: Rc<Outlets>,
    shared: Arc<Shared>,
    census: Arc<Census>,
    turn: Rc<Turn>,
    turned_away: TurnedAway,
    counters: Arc<Counters>,
    broken: bool,
}

impl Driver for WorkerDriver {
    type Rest = Idle<Wire, App, census::Ticket>;

    fn has_place(&mut self) -> bool {
        self.census.has_place()
    }

    fn is_crowded(&mut self, peer: Option<IpAddr>, listener: usize) -> bool {
        let way = self.ways.get(listener).copied().unwrap_or_default();
        let address = Peer::new(peer, way).address;
        way == Way::Secure && self.census.lacks_handshake(address, self.env.forwarding.trusts(address))
    }

    fn displaced(&mut self) {
        self.turned_away.count(Reason::Refused(Refused::Handshakes));
    }

    fn refuse(&mut self, stream: &mut Stream, listener: usize) {
        self.turned_away.count(Reason::Refused(Refused::Full));
        match self.ways.get(listener).copied().unwrap_or_default() {
            // Nothing can be said before the handshake.
            Way::Secure => stream.end_with(&[]),
            way => stream.end_with(&self.env.refusal(&FULL, self.turn.wall(), way)),
        }
    }

    fn exhausted(&mut self, _: &std::io::Error) {
        self.turned_away.count(Reason::Exhausted);
    }

    fn connect(
        &mut self,
        stream: Stream,
        peer: Option<IpAddr>,
        listener: usize,
        task: TaskId,
        turn: &Rc<Turn>,
    ) -> Option<Self::Rest> {
        let way = self.ways.get(listener).copied().unwrap_or_default();
        let peer = Peer::new(peer, way);
        let mut transport = SocketTransport::new(stream);
        // All processes of this machine have one address, so it bounds none of them.
        let is_uncounted = way == Way::Local || self.env.forwarding.trusts(peer.address);
        let refused = match self.census.admit(peer.address, is_uncounted, way == Way::Secure) {
            Ok(ticket) => {
                let wire = match way {
                    Way::Secure => Line::Secure(self.securing.as_ref()?.secure(transport, task)?, true),
                    Way::Local => Line::local(transport),
                    Way::Plain | Way::Redirect => Line::Plain(transport),
                };
                let wire = Wire::new(wire, Arc::clone(&self.counters));
                let mut peer = peer;
                peer.identities = wire.identities();
                let channel = Channel::new(wire, Rc::clone(turn), task);
                return Some(Idle::new(channel, peer, Rc::clone(&self.env), ticket));
            }
            Err(refused) => refused,
        };
        self.turned_away.count(Reason::Refused(refused));
        if way != Way::Secure {
            let fault = if refused == Refused::Full { &FULL } else { &TOO_MANY };
            // As much as fits without waiting; the client is told more than by a bare reset.
            let _ = transport.send(&self.env.refusal(fault, turn.wall(), way));
        }
        None
    }

    fn commit(&mut self) -> Commit {
        match self.sink.commit(self.turn.wall()) {
            Committed::Done => Commit::Done,
            Committed::Failed => Commit::Failed,
            Committed::Pending(number) => Commit::Pending(Ticket(number)),
        }
    }

    fn settled(&mut self) -> Option<(Ticket, Result<(), CommitFailed>)> {
        let (number, told) = self.sink.settled()?;
        Some((Ticket(number), told.then_some(()).ok_or(CommitFailed)))
    }

    fn turned(&mut self) {
        self.shared.note_turn(self.index);
        self.env.settle();
        // Secrets that were destroyed are not to stay because this worker has nothing to do.
        self.env.service.view.refresh();
        // Lines that tasks wait for are written by their commit, so that its result is theirs.
        let mending = self.sink.is_broken() || self.refusals.pending();
        if mending && !self.turn.commit_wanted() {
            let now = self.turn.wall();
            if let Some(event) = self.refusals.summary(now, self.shared.phase() != Phase::Serving) {
                self.sink.append(&event);
            }
            // A failure leaves its gap record, and the next turn tries again.
            let _ = self.sink.commit(now);
        }
        self.turned_away.tell(self.turn.now());
        let broken = self.sink.is_broken();
        if broken != self.broken {
            self.broken = broken;
            self.shared.set_audit(self.index, !broken);
            if broken {
                log::error(
                    Module::Audit,
                    format_args!("the audit log cannot be written: audited requests are refused"),
                );
            } else {
                log::info(Module::Audit, format_args!("the audit log is written again"));
            }
        }
    }

    fn patience(&self) -> Option<Duration> {
        let wanted = self.broken || self.refusals.pending() || self.turned_away.pending();
        wanted.then(|| Duration::from_millis(AUDIT_RETRY_MILLIS))
    }

    fn phase(&self) -> Phase {
        self.shared.phase()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::env::WORKSPACE_BYTES;
    use crate::limits::{ARENA_CONNECTION_BYTES, ARENA_CONNECTION_TLS_BYTES, TLS_SESSION_BYTES};

    /// How large the futures are that `start` makes.
    const fn future_bytes<R, F>(_: &impl Fn(R) -> F) -> usize {
        size_of::<Option<F>>()
    }

    #[test]
    fn a_connection_at_work_takes_no_more_than_is_reckoned_for_it() {
        // What an allocation takes beside its bytes, of the future, the workspace, its marks, the waker and the session.
        const ALLOCATIONS: usize = 5 * 32;
        // An entry of the census, of the timers, of the tables of a loop, and the mailbox's part of the task.
        const ENTRIES: usize = 256;
        let future = future_bytes(&serve::<Wire, App, census::Ticket>);
        let slot = size_of::<Idle<Wire, App, census::Ticket>>() + 32;
        // A table that grows is there twice for a moment, and may be half empty.
        let all = future + WORKSPACE_BYTES + 3 * slot + ENTRIES + ALLOCATIONS;
        assert!(all <= ARENA_CONNECTION_BYTES, "{all}: {future} {WORKSPACE_BYTES} {slot}");
        assert_eq!(ARENA_CONNECTION_TLS_BYTES, ARENA_CONNECTION_BYTES + TLS_SESSION_BYTES);
    }
}
