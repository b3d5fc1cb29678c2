//! The poll loop of one worker.
//!
//! Owns the poll, its listeners and the order of a turn: events, timers, wakes, commits of earlier turns whose end is
//! known by now, accepts, then one commit for all of them, then the tasks that waited for it. Invariants: the loop sleeps only when no task waits for a commit and no
//! listener is known to have connections waiting; a connection for which there is no place or no descriptor takes that
//! of one that rests, or is accepted and refused, so many in a turn; a listener whose accept failed all the same stays
//! marked and is tried again when a connection ends or the pause is over, so no client starves behind an edge that was
//! already delivered.
//!
//! **The reserve** is a descriptor that is held for nothing else. When there is no other, it is given up, what is accepted
//! in its place is refused, and that socket, shut, is the reserve from then on: no call is needed that a worker's
//! filter would have to allow for this alone.

use core::future::Future;
use core::time::Duration;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use mio::{Events, Interest, Poll, Token};

use crate::clock::{Moment, WallTime};
use crate::limits::{
    ACCEPT_RETRY_MILLIS, ACCEPTS_PER_TURN_COUNT, EVENTS_PER_TURN_COUNT, LISTEN_BACKLOG_COUNT,
    LISTENERS_MAX_COUNT, REFUSED_PER_TURN_COUNT, SHED_HANDSHAKE_MIN_MILLIS, SHED_LOOK_COUNT,
    SHED_SILENCE_MIN_MILLIS,
};
use crate::reactor::executor::{Executor, Resting, TaskId};
use crate::reactor::mailbox::Mailbox;
use crate::reactor::socket::{Leaving, Listener, Stream};
use crate::reactor::turn::{Commit, CommitFailed, Ticket, Turn};

/// The token of the event descriptor that other threads raise.
pub const WAKE_TOKEN: Token = Token(usize::MAX - 1);
const LISTENER_TOKENS_FROM: usize = usize::MAX - 2 - LISTENERS_MAX_COUNT;

/// What the loop asks of the application.
pub trait Driver {
    /// How a task rests.
    type Rest: Resting;

    /// Whether there is a place for another connection now.
    fn has_place(&mut self) -> bool;

    /// Whether a connection of `peer` at the listener of this number must wait for bytes to pass, and gets a place only if
    /// another one that waits for that gives way.
    fn is_crowded(&mut self, peer: Option<IpAddr>, listener: usize) -> bool;

    /// One that waited for bytes to pass gave way.
    fn displaced(&mut self);

    /// Tells a connection that the listener of this number accepted that there is no place for it, as far as that takes
    /// no waiting, and ends what is sent to it.
    fn refuse(&mut self, stream: &mut Stream, listener: usize);

    /// The system had no descriptor or no memory for another connection.
    fn exhausted(&mut self, error: &io::Error);

    /// Makes the task of a connection that the listener of this number accepted, and that is registered; nothing refuses
    /// (and so closes) it. A socket without an address has no `peer`.
    fn connect(
        &mut self,
        stream: Stream,
        peer: Option<IpAddr>,
        listener: usize,
        task: TaskId,
        turn: &Rc<Turn>,
    ) -> Option<Self::Rest>;

    /// Writes what the turn gathered.
    fn commit(&mut self) -> Commit;

    /// What became of a commit that was pending, if there is news of one; asked until there is none. Whoever brings news
    /// ends the loop's sleep.
    fn settled(&mut self) -> Option<(Ticket, Result<(), CommitFailed>)>;

    /// Called at the end of each turn.
    fn turned(&mut self);

    /// How long the loop may sleep at most: a driver with something to repair asks to be called again soon.
    fn patience(&self) -> Option<Duration>;

    /// What the process wants of its loops now.
    fn phase(&self) -> Phase;
}

/// The phases of a loop's life; they only move forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Accept and serve.
    Serving,
    /// Accept no more, finish what is in flight.
    Draining,
    /// Leave everything.
    Stopping,
}

struct Listening {
    socket: Listener,
    leaving: Leaving,
    ready: bool,
}

/// What became of one attempt to accept.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Attempt {
    /// The queue is empty: an event will say when it is not.
    Empty,
    /// No descriptor or memory: to be tried again after a pause.
    Postponed,
    /// There may be more at once; this one was refused.
    Refused,
    /// There may be more at once.
    More,
}

/// One worker's loop.
pub struct Reactor<D: Driver, F, M> {
    poll: Poll,
    executor: Executor<D::Rest, F, M>,
    turn: Rc<Turn>,
    listeners: Vec<Listening>,
    driver: D,
    draining: bool,
    reserve: Option<Stream>,
    /// Whether the reserve was given up for nothing: the next connection is refused, and becomes it.
    is_short: bool,
    /// What the last look at the listeners left undone.
    pending: Attempt,
}

impl<D: Driver, F, M> core::fmt::Debug for Reactor<D, F, M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Reactor").field("executor", &self.executor).finish_non_exhaustive()
    }
}

impl<D: Driver, F: Future<Output = Option<D::Rest>>, M: FnMut(D::Rest) -> F> Reactor<D, F, M> {
    /// A loop over `listeners`, woken through `mailbox`, whose signal must raise [`WAKE_TOKEN`] on `poll`; `start` makes a
    /// task that rests run. `reserve` is the socket that is given up when the system has no other descriptor.
    ///
    /// # Errors
    /// What registering a listener returns.
    pub fn new(
        poll: Poll,
        turn: Rc<Turn>,
        mailbox: Arc<Mailbox>,
        listeners: Vec<(Listener, Leaving)>,
        reserve: Option<Stream>,
        driver: D,
        start: M,
    ) -> io::Result<Self> {
        let mut own = Vec::with_capacity(listeners.len());
        for (index, (mut socket, leaving)) in listeners.into_iter().enumerate() {
            poll.registry().register(&mut socket, Token(LISTENER_TOKENS_FROM + index), Interest::READABLE)?;
            own.push(Listening { socket, leaving, ready: true });
        }
        let executor = Executor::new(Rc::clone(&turn), mailbox, start);
        Ok(Self {
            poll,
            executor,
            turn,
            listeners: own,
            driver,
            draining: false,
            reserve,
            is_short: false,
            pending: Attempt::More,
        })
    }

    /// Serves until a stop, or until a drain has ended its last connection.
    ///
    /// # Errors
    /// A poll that fails for any other reason than an interruption.
    pub fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN_COUNT);
        loop {
            let timeout = self.sleep();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.executor.begin(Moment::now(), WallTime::now());
            for event in &events {
                self.deliver(event);
            }
            self.executor.poll_expired();
            self.executor.poll_woken();
            while let Some((ticket, outcome)) = self.driver.settled() {
                self.executor.settle(ticket, outcome);
            }
            self.accept_waiting();
            let Self { executor, driver, .. } = self;
            executor.commit(|| driver.commit());
            driver.turned();
            let phase = self.driver.phase();
            if phase >= Phase::Draining && !self.draining {
                self.start_drain();
            }
            if phase == Phase::Stopping || (self.draining && self.executor.alive() == 0) {
                return Ok(());
            }
        }
    }

    fn deliver(&mut self, event: &mio::event::Event) {
        let token = event.token();
        if token == WAKE_TOKEN {
            return;
        }
        if let Some(listener) =
            token.0.checked_sub(LISTENER_TOKENS_FROM).and_then(|index| self.listeners.get_mut(index))
        {
            listener.ready = true;
            return;
        }
        let Ok(index) = u32::try_from(token.0) else { return };
        let task = TaskId::from_index(index);
        let closed = event.is_read_closed() || event.is_error();
        self.turn.mark_ready(task, event.is_readable(), event.is_writable() || event.is_error(), closed);
        self.executor.poll(task);
    }

    /// How long the loop may sleep.
    fn sleep(&self) -> Option<Duration> {
        if self.turn.commit_wanted() || self.pending >= Attempt::Refused {
            return Some(Duration::ZERO);
        }
        let until_deadline = self.turn.next_deadline().map(|deadline| Moment::now().until(deadline));
        let until_retry =
            (self.pending == Attempt::Postponed).then(|| Duration::from_millis(ACCEPT_RETRY_MILLIS));
        [until_deadline, until_retry, self.driver.patience()].into_iter().flatten().min()
    }

    fn accept_waiting(&mut self) {
        self.pending = Attempt::Empty;
        if self.draining {
            return;
        }
        for index in 0..self.listeners.len() {
            let (mut left, mut refusals_left) = (ACCEPTS_PER_TURN_COUNT, REFUSED_PER_TURN_COUNT);
            let last = loop {
                let last = self.accept_one(index);
                left -= 1;
                refusals_left -= usize::from(last == Attempt::Refused);
                if last < Attempt::Refused || left == 0 || refusals_left == 0 {
                    break last;
                }
            };
            self.pending = self.pending.max(last);
        }
    }

    /// Accepts one connection, if there is one, and polls its task, or refuses it.
    fn accept_one(&mut self, index: usize) -> Attempt {
        let Some(listener) = self.listeners.get_mut(index) else { return Attempt::Empty };
        if !listener.ready {
            return Attempt::Empty;
        }
        match listener.socket.accept() {
            Ok((stream, peer)) => {
                // One that gives way does so when somebody is there, and not before.
                let has_place = self.driver.has_place() || (self.shed() && self.driver.has_place());
                if !has_place || (self.is_short && self.reserve.is_none()) {
                    self.refuse(stream, index);
                    return Attempt::Refused;
                }
                if self.driver.is_crowded(peer, index) {
                    self.displace();
                }
                self.adopt(stream, peer, index);
                Attempt::More
            }
            Err(error) => self.fail_to_accept(index, &error),
        }
    }

    fn fail_to_accept(&mut self, index: usize, error: &io::Error) -> Attempt {
        match error.kind() {
            io::ErrorKind::WouldBlock => {
                if let Some(listener) = self.listeners.get_mut(index) {
                    listener.ready = false;
                }
                Attempt::Empty
            }
            // The peer left the queue, or the call was interrupted: the next one may be fine.
            io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => Attempt::More,
            // No descriptor or no memory: the mark stays, and the loop comes back after a pause.
            _ => {
                self.driver.exhausted(error);
                self.accept_in_reserve(index)
            }
        }
    }

    /// Accepts a connection although the system has no descriptor for it.
    fn accept_in_reserve(&mut self, index: usize) -> Attempt {
        // The kernel looks for a descriptor before it looks whether anybody is there.
        if self.reserve.take().is_none() {
            return if self.shed() { Attempt::More } else { Attempt::Postponed };
        }
        let Some(listener) = self.listeners.get_mut(index) else { return Attempt::Empty };
        match listener.socket.accept() {
            Ok((stream, _)) => {
                self.refuse(stream, index);
                Attempt::Refused
            }
            Err(error) => {
                self.is_short = true;
                if error.kind() == io::ErrorKind::WouldBlock {
                    listener.ready = false;
                    return Attempt::Empty;
                }
                Attempt::Postponed
            }
        }
    }

    /// Ends a connection that rests, if there is one that may be ended.
    fn shed(&mut self) -> bool {
        let silent_nanos = SHED_SILENCE_MIN_MILLIS * 1_000_000;
        let Some(latest) = self.turn.now().as_nanos().checked_sub(silent_nanos) else { return false };
        let latest = Moment::from_nanos(latest);
        self.executor.shed(SHED_LOOK_COUNT, latest) || self.executor.shed_beginning(latest, latest)
    }

    /// Ends a handshake for the sake of another: one that nobody has begun, however short a time ago it came, since a client
    /// begins as soon as it is connected; or else the oldest, once a client that means it has had time for an answer.
    fn displace(&mut self) {
        let now = self.turn.now();
        let begun = now.as_nanos().saturating_sub(SHED_HANDSHAKE_MIN_MILLIS * 1_000_000);
        if self.executor.shed_beginning(now, Moment::from_nanos(begun)) {
            self.driver.displaced();
        }
    }

    /// Says that there is no place, and keeps the socket as the reserve.
    fn refuse(&mut self, mut stream: Stream, listener: usize) {
        self.driver.refuse(&mut stream, listener);
        self.reserve = Some(stream);
        self.is_short = false;
    }

    fn adopt(&mut self, mut stream: Stream, peer: Option<IpAddr>, listener: usize) {
        let Self { poll, executor, turn, driver, .. } = self;
        let spawned = executor.spawn(|task| {
            let token = Token(task.index() as usize);
            poll.registry()
                .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)
                .map_err(drop)?;
            driver.connect(stream, peer, listener, task, turn).ok_or(())
        });
        if let Ok(task) = spawned {
            executor.poll(task);
        }
    }

    /// Takes what the kernel has queued, refuses more, and tells every task. What is queued at a listener that another
    /// process has too is left to that one. The listeners stay open: their numbers
    /// belong to their band, and the filters let no one close them.
    fn start_drain(&mut self) {
        for index in 0..self.listeners.len() {
            match self.listeners.get_mut(index) {
                Some(listener) if listener.leaving == Leaving::Refuse => listener.ready = true,
                _ => continue,
            }
            let mut left = LISTEN_BACKLOG_COUNT;
            while left > 0 && self.accept_one(index) >= Attempt::Refused {
                left -= 1;
            }
            if let Some(listener) = self.listeners.get(index) {
                // Later connections are refused by the kernel, so that a balancer sees at once that we leave.
                listener.socket.refuse();
            }
        }
        self.draining = true;
        self.executor.drain();
    }
}
