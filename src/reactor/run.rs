//! The poll loop of one worker.
//!
//! Owns the poll, its listeners and the order of a turn: events, timers, wakes, commits of earlier turns whose end is
//! known by now, accepts, then one commit for all of them, then the tasks that waited for it. Invariants: the loop sleeps only when no task waits for a commit and no
//! listener is known to have connections waiting; a listener whose accept failed for want of descriptors or slots
//! stays marked and is tried again when a connection ends or the pause is over, so no client starves behind an edge
//! that was already delivered.

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
    LISTENERS_MAX_COUNT,
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

    /// Whether another connection may be accepted now. A `false` leaves it in the kernel's queue.
    fn has_place(&mut self) -> bool;

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
    /// No place, descriptor or memory: to be tried again after a pause.
    Postponed,
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
    /// task that rests run.
    ///
    /// # Errors
    /// What registering a listener returns.
    pub fn new(
        poll: Poll,
        turn: Rc<Turn>,
        mailbox: Arc<Mailbox>,
        listeners: Vec<(Listener, Leaving)>,
        driver: D,
        start: M,
    ) -> io::Result<Self> {
        let mut own = Vec::with_capacity(listeners.len());
        for (index, (mut socket, leaving)) in listeners.into_iter().enumerate() {
            poll.registry().register(&mut socket, Token(LISTENER_TOKENS_FROM + index), Interest::READABLE)?;
            own.push(Listening { socket, leaving, ready: true });
        }
        let executor = Executor::new(Rc::clone(&turn), mailbox, start);
        Ok(Self { poll, executor, turn, listeners: own, driver, draining: false, pending: Attempt::More })
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
        if self.turn.commit_wanted() || self.pending == Attempt::More {
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
            let mut left = ACCEPTS_PER_TURN_COUNT;
            let mut last = self.accept_one(index);
            while last == Attempt::More && left > 1 {
                last = self.accept_one(index);
                left -= 1;
            }
            self.pending = self.pending.max(last);
        }
    }

    /// Accepts one connection, if there is one, and polls its task.
    fn accept_one(&mut self, index: usize) -> Attempt {
        let Some(listener) = self.listeners.get_mut(index) else { return Attempt::Empty };
        if !listener.ready {
            return Attempt::Empty;
        }
        if !self.driver.has_place() {
            return Attempt::Postponed;
        }
        match listener.socket.accept() {
            Ok((stream, peer)) => {
                self.adopt(stream, peer, index);
                Attempt::More
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => {
                    listener.ready = false;
                    Attempt::Empty
                }
                // The peer left the queue, or the call was interrupted: the next one may be fine.
                io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted => Attempt::More,
                // No descriptor or no memory: the mark stays, and the loop comes back after a pause.
                _ => Attempt::Postponed,
            },
        }
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
            while left > 0 && self.accept_one(index) == Attempt::More {
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
