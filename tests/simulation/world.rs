//! One schedule: several connections on the real executor, and everything that can happen to them.
//!
//! Owns the simulated loop, whose turn has the order of the real one (events, timers, wakes, new connections, one
//! commit), and what is looked at after each turn. The schedule ends in three steps: chance, then quiet (everything
//! arrives, every event is delivered, every commit succeeds, and nobody may be left waiting), then the end of time
//! (every deadline passes, and nothing may be left at all).

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;

use quantonium::clock::{Moment, WallTime};
use quantonium::http::connection::{Idle, serve};
use quantonium::http::env::{Bounds, Env};
use quantonium::http::peer;
use quantonium::reactor::mailbox::Mailbox;
use quantonium::reactor::turn::{Commit, CommitFailed, Ticket};
use quantonium::reactor::{Budget, Channel, Executor, Pool, TaskId, Turn};

use crate::judge::{Excuses, Violation, judge};
use crate::random::Random;
use crate::script::Script;
use crate::service::{SimService, Stage};
use crate::wire::{Attempt, Defect, SimTransport, Wire};

type Rest = Idle<SimTransport, SimService, ()>;

/// What a schedule may do, drawn from its seed.
#[derive(Clone, Copy, Debug)]
struct Temper {
    jumps: bool,
    drains: bool,
    fails: bool,
    breaks: bool,
    scarce: bool,
    /// Whether what becomes of a commit is often known some turns later only.
    delays: bool,
}

struct Peer {
    script: Script,
    wire: Rc<RefCell<Wire>>,
    task: Option<TaskId>,
    /// Whether it ends its direction once everything was sent.
    half_closes: bool,
    /// Whether it ends its direction once the server has ended its own.
    obeys: bool,
}

/// What was seen, so that a test can show that the schedules reach what they are meant to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: usize,
    pub(crate) replies_bytes: usize,
    pub(crate) turns: usize,
}

/// Runs the schedule of `seed` to its end.
pub(crate) fn run(seed: u64, defect: Defect) -> Result<Tally, Violation> {
    let mut random = Random::new(seed);
    let temper = Temper {
        jumps: random.one_in(5),
        drains: random.one_in(5),
        fails: random.one_in(4),
        breaks: random.one_in(5),
        scarce: random.one_in(20),
        delays: random.one_in(3),
    };
    let start = Moment::from_nanos(random.next() % (1 << 40));
    let turn = Turn::new(start);
    let mailbox = Mailbox::new(Box::new(|| {}));
    let stage = Stage::new(Rc::clone(&turn));
    let budget = Budget::new(if temper.scarce { 80 * 1024 } else { 64 * 1024 * 1024 });
    let requests = if random.one_in(6) { random.between(1, 4) as u64 } else { 10_000 };
    let bounds = Bounds { requests, ..Bounds::default() };
    let pool = Pool::new(Arc::clone(&budget));
    let env =
        Env::new(SimService(Rc::clone(&stage)), pool, bounds, Arc::default(), Arc::default(), random.next());
    let count = random.between(1, 4);
    let peers = (0..count).map(|index| Peer::random(index, requests, temper, defect, &mut random)).collect();
    let executor = Executor::new(Rc::clone(&turn), mailbox, serve);
    let excuses = Excuses { scarce: temper.scarce, ..Excuses::default() };
    let world = World {
        executor,
        turn,
        stage,
        budget,
        env,
        peers,
        random,
        temper,
        excuses,
        defect,
        now: start,
        late: Vec::new(),
        pending: Vec::new(),
        tickets: 0,
        turns: 0,
    };
    world.run()
}

impl Peer {
    fn random(index: usize, requests: u64, temper: Temper, defect: Defect, random: &mut Random) -> Self {
        let script = Script::random(index, requests, random);
        let room = if random.coin() { usize::MAX / 2 } else { random.below(3_000) };
        let own = Random::new(random.next());
        let wire = Wire::new(script.bytes.clone(), room, defect, own);
        let half_closes = temper.breaks && random.coin();
        Self { script, wire, task: None, half_closes, obeys: random.coin() }
    }
}

struct World<F, M> {
    executor: Executor<Rest, F, M>,
    turn: Rc<Turn>,
    stage: Rc<Stage>,
    budget: Arc<Budget>,
    env: Rc<Env<SimService>>,
    peers: Vec<Peer>,
    random: Random,
    temper: Temper,
    excuses: Excuses,
    defect: Defect,
    now: Moment,
    /// Wakers that are called once more, long after.
    late: Vec<Waker>,
    /// Commits that are on their way, with the lines that hang on them.
    pending: Vec<(Ticket, Vec<String>)>,
    tickets: u64,
    turns: usize,
}

impl<F: Future<Output = Option<Rest>>, M: FnMut(Rest) -> F> World<F, M> {
    fn run(mut self) -> Result<Tally, Violation> {
        let steps = self.random.between(5, 120);
        for _ in 0..steps {
            self.happen();
            self.turn_once(false)?;
        }
        self.quiet()?;
        self.judge()?;
        // Who has half a request in hand, or waits for the peer's end after its own, holds a buffer until a deadline.
        let waits = self.peers.iter().any(|peer| {
            let wire = peer.wire.borrow();
            !wire.dropped && (peer.script.cut || wire.finished)
        });
        self.check_leases(waits)?;
        self.end_of_time()?;
        self.excuses.over = true;
        self.judge()?;
        self.check_leases(false)?;
        if self.executor.alive() > 0 {
            return Err(Violation::Leases(format!("{} tasks outlive every deadline", self.executor.alive())));
        }
        Ok(Tally {
            requests: self.peers.iter().map(|peer| peer.script.requests.len()).sum(),
            replies_bytes: self.peers.iter().map(|peer| peer.wire.borrow().replies.len()).sum(),
            turns: self.turns,
        })
    }

    /// What comes from outside between two turns.
    fn happen(&mut self) {
        self.stage.crowded.set(self.random.one_in(8));
        for peer in &self.peers {
            let mut wire = peer.wire.borrow_mut();
            if self.random.coin() {
                let size = if self.random.one_in(3) { usize::MAX } else { self.random.below(2_000) };
                let size = if self.random.one_in(4) { self.random.below(20) } else { size };
                wire.arrive(size);
            }
            if self.random.coin() {
                wire.open(self.random.below(4_000));
            }
            if peer.half_closes && wire.arrived == wire.script.len() && self.random.one_in(4) {
                wire.end();
            }
            if self.temper.breaks && self.random.one_in(80) {
                wire.break_off();
            }
        }
        if self.random.coin() {
            self.run_errands(false);
        }
        let step = self.random.next() % 8_000_000;
        self.now = Moment::from_nanos(self.now.as_nanos() + step);
        if self.temper.jumps && self.random.one_in(20) {
            self.now =
                self.now.plus_millis(*self.random.pick(&[1_900, 4_990, 5_100, 10_000, 31_000, 4_000_000]));
            self.excuses.jumped = true;
        }
        if self.temper.drains && !self.excuses.drained && self.random.one_in(40) {
            self.excuses.drained = true;
            self.executor.drain();
        }
    }

    /// The other thread finishes some of its work.
    fn run_errands(&mut self, all: bool) {
        let errands = self.stage.errands.take();
        for errand in errands {
            if !all && self.random.coin() {
                self.stage.errands.borrow_mut().push(errand);
                continue;
            }
            errand.done.set(true);
            if self.defect != Defect::LostWake || !self.random.one_in(8) {
                errand.waker.wake_by_ref();
            }
            if self.random.one_in(4) {
                self.late.push(errand.waker);
            }
        }
        if self.random.one_in(4) {
            self.late.drain(..).for_each(Waker::wake);
        }
    }

    /// One turn of the loop. `all` delivers every event and lets the commit succeed.
    fn turn_once(&mut self, all: bool) -> Result<(), Violation> {
        self.turns += 1;
        self.executor.begin(self.now, WallTime::from_millis(self.now.as_nanos() / 1_000_000));
        for index in 0..self.peers.len() {
            if all || self.random.coin() {
                self.deliver(index);
            }
        }
        if !all {
            self.disturb();
        }
        self.executor.poll_expired();
        self.executor.poll_woken();
        self.settle(all);
        self.accept(all);
        self.commit(all);
        self.check_parked()
    }

    fn deliver(&mut self, index: usize) {
        let peer = &self.peers[index];
        let Some(task) = peer.task else { return };
        let event = peer.wire.borrow_mut().pending.take();
        if let Some(event) = event.filter(|_| !peer.wire.borrow().dropped) {
            self.turn.mark_ready(task, event.readable, event.writable, event.closed);
            self.executor.poll(task);
        }
    }

    /// Polls without a reason, and events that name the wrong task or one that does not exist.
    fn disturb(&mut self) {
        if self.random.one_in(4) {
            let task = TaskId::from_index(u32::try_from(self.random.below(6)).unwrap());
            if self.random.coin() {
                let (readable, writable) = (self.random.coin(), self.random.coin());
                self.turn.mark_ready(task, readable, writable, self.random.one_in(4));
            }
            self.executor.poll(task);
        }
    }

    /// Takes new connections. A drain comes after the last of them.
    fn accept(&mut self, all: bool) {
        for peer in &mut self.peers {
            if peer.task.is_some() || self.excuses.drained || !(all || self.random.coin()) {
                continue;
            }
            let (turn, env) = (Rc::clone(&self.turn), Rc::clone(&self.env));
            let transport = SimTransport(Rc::clone(&peer.wire));
            let spawned = self.executor.spawn(|task| {
                let channel = Channel::new(transport, turn, task);
                Ok::<_, ()>(Idle::new(channel, peer::Peer::new(None, peer::Way::Plain), env, ()))
            });
            peer.task = Some(spawned.unwrap());
            self.executor.poll(spawned.unwrap());
        }
    }

    fn fails(&mut self, all: bool) -> bool {
        !all && self.temper.fails && self.random.one_in(5)
    }

    fn commit(&mut self, all: bool) {
        let fails = self.fails(all);
        let delayed = !all && self.temper.delays && !self.random.one_in(4);
        let Self { executor, stage, excuses, defect, pending, tickets, .. } = self;
        executor.commit(|| {
            let lines = stage.lines.take();
            if delayed && !fails {
                *tickets += 1;
                let ticket = Ticket(*tickets);
                pending.push((ticket, lines));
                return if *defect == Defect::EarlyCommit { Commit::Done } else { Commit::Pending(ticket) };
            }
            if !fails {
                stage.durable.borrow_mut().extend(lines);
                return Commit::Done;
            }
            excuses.commit_failed = true;
            if *defect == Defect::FalseCommit { Commit::Done } else { Commit::Failed }
        });
    }

    /// Some of the commits that are on their way end, in any order.
    fn settle(&mut self, all: bool) {
        while !self.pending.is_empty() && (all || self.random.one_in(3)) {
            let index = self.random.below(self.pending.len());
            let (ticket, lines) = self.pending.swap_remove(index);
            let outcome = if self.fails(all) {
                self.excuses.commit_failed = true;
                Err(CommitFailed)
            } else {
                self.stage.durable.borrow_mut().extend(lines);
                Ok(())
            };
            self.executor.settle(ticket, outcome);
        }
    }

    /// Everything that is under way arrives, and nothing else happens.
    fn quiet(&mut self) -> Result<(), Violation> {
        self.stage.crowded.set(false);
        for _ in 0..100_000 {
            for peer in &self.peers {
                let mut wire = peer.wire.borrow_mut();
                wire.arrive(usize::MAX);
                if wire.room < usize::MAX / 4 {
                    wire.open(usize::MAX / 2);
                }
                if peer.half_closes || (wire.finished && peer.obeys) {
                    wire.end();
                }
            }
            self.run_errands(true);
            self.late.drain(..).for_each(Waker::wake);
            self.turn_once(true)?;
            let busy = self.peers.iter().any(|peer| {
                let wire = peer.wire.borrow();
                wire.pending.is_some() && peer.task.is_some() && !wire.dropped
            });
            if !busy
                && !self.turn.commit_wanted()
                && self.pending.is_empty()
                && self.stage.errands.borrow().is_empty()
            {
                return Ok(());
            }
        }
        Err(Violation::Stuck("it never comes to rest".to_owned()))
    }

    /// Every deadline passes, one after the other.
    fn end_of_time(&mut self) -> Result<(), Violation> {
        for _ in 0..8 {
            self.now = self.now.plus_millis(40_000);
            self.quiet()?;
        }
        Ok(())
    }

    /// Whether everybody who is parked is so for one of the four reasons. Asked when nobody waits for a commit.
    fn check_parked(&self) -> Result<(), Violation> {
        if self.turn.commit_wanted() || !self.pending.is_empty() {
            return Ok(());
        }
        let mut deadline_wanted = false;
        for peer in &self.peers {
            let wire = peer.wire.borrow();
            let Some(task) = peer.task.filter(|_| !wire.dropped) else { continue };
            if self.stage.waiting.borrow().contains(&task.index()) {
                continue;
            }
            deadline_wanted = true;
            let told = wire.pending.is_some();
            let name = task.index();
            if wire.last_send == Attempt::Exhausted {
                if self.turn.writable(task) {
                    return Err(Violation::Parked(format!("{name} may send")));
                }
                if (wire.room > 0 || wire.reset) && !told {
                    return Err(Violation::Stuck(format!("{name} has room and no event")));
                }
                continue;
            }
            if wire.last_receive != Attempt::Exhausted || self.turn.readable(task) {
                return Err(Violation::Parked(format!("{name} may receive")));
            }
            let unseen = wire.unread() > 0 || (wire.ended && !wire.end_seen) || wire.reset;
            if unseen && !told {
                return Err(Violation::Stuck(format!("{name} has {} bytes and no event", wire.unread())));
            }
        }
        if deadline_wanted && self.turn.next_deadline().is_none() {
            return Err(Violation::Parked("nobody has a deadline".to_owned()));
        }
        Ok(())
    }

    fn judge(&self) -> Result<(), Violation> {
        let durable: BTreeSet<String> = self.stage.durable.borrow().clone();
        let accepted = self.peers.iter().filter(|peer| peer.task.is_some());
        accepted
            .into_iter()
            .try_for_each(|peer| judge(&peer.script, &peer.wire.borrow(), self.excuses, &durable))
    }

    fn check_leases(&self, waits: bool) -> Result<(), Violation> {
        let leased = self.budget.leased_bytes();
        if leased == 0 || waits {
            return Ok(());
        }
        Err(Violation::Leases(format!("{leased} bytes are on lease when nothing is in hand")))
    }
}
