//! The simulated transport: two byte streams between a scripted peer and the connection under test.
//!
//! Owns the honesty of edges. An event is raised when bytes or room come after the transport said that there were
//! none, and for every end and every break, as a kernel does with an edge-triggered socket; the loop delivers it
//! some turns later. [`Defect`] breaks one rule at a time, to show that the checker sees it.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;

use quantonium::reactor::{Received, Transport};

use crate::random::Random;

/// A rule of the world that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defect {
    /// Every rule holds.
    None,
    /// Now and then bytes arrive without an event.
    SwallowedReadEdge,
    /// Now and then room arrives without an event.
    SwallowedWriteEdge,
    /// Now and then a receive says that it took everything although it did not.
    FalseDrained,
    /// Now and then a byte is received twice.
    DoubledByte,
    /// Now and then a byte that was sent is lost.
    LostByte,
    /// Failed commits are reported as successes.
    FalseCommit,
    /// Commits that are on their way are reported as done.
    EarlyCommit,
    /// Now and then the wake of another thread is lost.
    LostWake,
}

/// What an event says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Event {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) closed: bool,
}

/// What the last attempt in a direction came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    None,
    Moved,
    /// WouldBlock, or known to be drained.
    Exhausted,
}

/// Both directions of one connection, as kernel and peer see them.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) random: Random,
    pub(crate) defect: Defect,
    /// Everything the peer will ever send.
    pub(crate) script: Vec<u8>,
    /// How much of it has arrived, and how much of that was received.
    pub(crate) arrived: usize,
    pub(crate) taken: usize,
    /// Whether the peer has ended its direction, and whether that was seen.
    pub(crate) ended: bool,
    pub(crate) end_seen: bool,
    pub(crate) reset: bool,
    /// Room in the peer's window.
    pub(crate) room: usize,
    /// What the peer has received.
    pub(crate) replies: Vec<u8>,
    /// Whether the server announced its end, and whether it closed.
    pub(crate) finished: bool,
    pub(crate) dropped: bool,
    /// Whether closing it would be a reset, and whether it was.
    pub(crate) aborting: bool,
    pub(crate) aborted: bool,
    /// Whether it closed over bytes that had arrived, without announcing its end first.
    pub(crate) abrupt: bool,
    pub(crate) last_receive: Attempt,
    pub(crate) last_send: Attempt,
    pub(crate) pending: Option<Event>,
}

impl Wire {
    pub(crate) fn new(script: Vec<u8>, room: usize, defect: Defect, random: Random) -> Rc<RefCell<Self>> {
        Rc::new(RefCell::new(Self {
            random,
            defect,
            script,
            arrived: 0,
            taken: 0,
            ended: false,
            end_seen: false,
            reset: false,
            room,
            replies: Vec::new(),
            finished: false,
            dropped: false,
            aborting: false,
            aborted: false,
            abrupt: false,
            last_receive: Attempt::None,
            last_send: Attempt::None,
            pending: None,
        }))
    }

    pub(crate) fn unread(&self) -> usize {
        self.arrived - self.taken
    }

    fn raise(&mut self, event: Event) {
        let pending = self.pending.get_or_insert_default();
        pending.readable |= event.readable;
        pending.writable |= event.writable;
        pending.closed |= event.closed;
    }

    /// More of the script arrives.
    pub(crate) fn arrive(&mut self, count: usize) {
        let count = count.min(self.script.len() - self.arrived);
        self.arrived += count;
        if count > 0 && self.last_receive == Attempt::Exhausted {
            if self.defect == Defect::SwallowedReadEdge && self.random.one_in(8) {
                return;
            }
            self.raise(Event { readable: true, ..Event::default() });
        }
    }

    /// The peer ends its direction.
    pub(crate) fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            self.raise(Event { readable: true, writable: false, closed: true });
        }
    }

    /// The connection breaks.
    pub(crate) fn break_off(&mut self) {
        self.reset = true;
        self.raise(Event { readable: true, writable: true, closed: true });
    }

    /// The peer makes room.
    pub(crate) fn open(&mut self, count: usize) {
        self.room = self.room.saturating_add(count);
        if count > 0 && self.last_send == Attempt::Exhausted {
            if self.defect == Defect::SwallowedWriteEdge && self.random.one_in(8) {
                return;
            }
            self.raise(Event { writable: true, ..Event::default() });
        }
    }
}

/// The server's end of a [`Wire`].
#[derive(Debug)]
pub(crate) struct SimTransport(pub(crate) Rc<RefCell<Wire>>);

impl Transport for SimTransport {
    fn receive(&mut self, target: &mut [u8]) -> io::Result<Received> {
        let mut guard = self.0.borrow_mut();
        let wire = &mut *guard;
        assert!(!target.is_empty(), "a receive into nothing");
        if wire.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        if wire.random.one_in(32) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let there = wire.unread();
        if there == 0 && wire.ended {
            (wire.end_seen, wire.last_receive) = (true, Attempt::Moved);
            return Ok(Received { count: 0, drained: wire.random.coin() });
        }
        if there == 0 || wire.random.one_in(16) {
            wire.last_receive = Attempt::Exhausted;
            if there > 0 {
                // As if they had come a moment later.
                let closed = wire.ended;
                wire.raise(Event { readable: true, writable: false, closed });
            }
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut count = there.min(target.len());
        if wire.random.coin() {
            let short =
                if wire.random.coin() { 1 + wire.random.below(8) } else { 1 + wire.random.below(count) };
            count = count.min(short);
        }
        let from = wire.taken;
        target[..count].copy_from_slice(&wire.script[from..from + count]);
        wire.taken += count;
        if wire.defect == Defect::DoubledByte && wire.random.one_in(8) {
            wire.taken -= 1;
        }
        let lie = wire.defect == Defect::FalseDrained && wire.random.one_in(8);
        let drained = lie || (count == there && count < target.len() && wire.random.coin());
        wire.last_receive = if drained { Attempt::Exhausted } else { Attempt::Moved };
        Ok(Received { count, drained })
    }

    fn send(&mut self, source: &[u8]) -> io::Result<usize> {
        let mut guard = self.0.borrow_mut();
        let wire = &mut *guard;
        assert!(!source.is_empty(), "a send of nothing");
        assert!(!wire.finished, "a send after the end was announced");
        if wire.reset {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if wire.random.one_in(32) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if wire.room == 0 || wire.random.one_in(16) {
            wire.last_send = Attempt::Exhausted;
            if wire.room > 0 {
                wire.raise(Event { writable: true, ..Event::default() });
            }
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut count = source.len().min(wire.room);
        if wire.random.coin() {
            count = count.min(1 + wire.random.below(count));
        }
        wire.replies.extend_from_slice(&source[..count]);
        if wire.defect == Defect::LostByte && wire.random.one_in(8) {
            wire.replies.pop();
        }
        wire.room -= count;
        wire.last_send = Attempt::Moved;
        Ok(count)
    }

    fn finish(&mut self) {
        let mut wire = self.0.borrow_mut();
        assert!(!wire.finished, "the end is announced once");
        assert!(!wire.aborting, "the end of a reply that is not whole is announced");
        wire.finished = true;
    }

    fn abort_on_close(&mut self, on: bool) {
        self.0.borrow_mut().aborting = on;
    }
}

impl Drop for SimTransport {
    fn drop(&mut self) {
        let mut wire = self.0.borrow_mut();
        wire.dropped = true;
        wire.aborted = wire.aborting;
        wire.abrupt = !wire.finished && !wire.reset && !wire.aborting && wire.unread() > 0;
    }
}
