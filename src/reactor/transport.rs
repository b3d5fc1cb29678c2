//! The two directions of a connection, and the one place where a task waits for them.
//!
//! Owns [`Channel`], which gives any [`Transport`] its awaitable form. Invariants: every wait first tries the call
//! (unless the last attempt found the direction exhausted and no event has come since), and parks only then; a wait
//! that has passed its deadline ends; a poll without a reason changes nothing.

use core::future::poll_fn;
use core::task::Poll;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::clock::Moment;
use crate::limits::SEND_RATE_MIN_BYTES_PER_SECOND;
use crate::model::Identities;
use crate::quota::Tally;
use crate::reactor::executor::{Look, TaskId};
use crate::reactor::lease::Exhausted;
use crate::reactor::turn::Turn;

/// What one successful receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Bytes written to the target; zero means the peer has ended its direction.
    pub count: usize,
    /// Whether the call is known to have taken everything there was.
    pub drained: bool,
}

/// What became of what must pass before the first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Established {
    /// Bytes can pass.
    Ready,
    /// The peer speaks in the clear where it should not: bytes pass in the clear from here on, so that it can be told.
    Clear,
}

/// A byte stream that never blocks: a socket, a TLS session over one, or a simulation.
pub trait Transport {
    /// Receives into `target`, which is not empty.
    ///
    /// # Errors
    /// `WouldBlock` if nothing has come; anything else ends the connection.
    fn receive(&mut self, target: &mut [u8]) -> io::Result<Received>;

    /// Sends a prefix of `source`, which is not empty, and returns its length.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; anything else ends the connection.
    fn send(&mut self, source: &[u8]) -> io::Result<usize>;

    /// Ends the outgoing direction and leaves the incoming one open.
    fn finish(&mut self);

    /// Decides what the peer sees if the transport is closed from here on, by whatever: the end of the stream, or, if
    /// `on`, that it broke. What was sent and not yet received may then be lost.
    fn abort_on_close(&mut self, on: bool);

    /// Goes on with what must pass before the first byte.
    ///
    /// # Errors
    /// `WouldBlock` until the next event; anything else ends the connection.
    fn establish(&mut self) -> io::Result<Established> {
        Ok(Established::Ready)
    }

    /// Whether bytes can pass.
    fn is_established(&self) -> bool {
        true
    }

    /// Whether the peer has said the first whole thing of what must pass before the first byte.
    fn has_begun(&self) -> bool {
        true
    }

    /// Whether something has come of which no byte can be handed out before more comes.
    fn is_amid(&self) -> bool {
        false
    }

    /// Sends what [`send`](Self::send) took and could not send yet.
    ///
    /// # Errors
    /// `WouldBlock` if there is no room; anything else ends the connection.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Says that everything was said, as far as that takes no waiting: the connection is closed next.
    fn conclude(&mut self) {}

    /// Says on whose account is what the transport keeps from here on.
    ///
    /// # Errors
    /// [`Exhausted`] if the account has no room for it.
    fn charge(&mut self, account: &Arc<Tally>) -> Result<(), Exhausted> {
        let _ = account;
        Ok(())
    }

    /// Whom the transport proves the peer to be, once it is established.
    fn identities(&self) -> Option<Rc<Identities>> {
        None
    }
}

/// Why a wait ended without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The deadline passed.
    TimedOut,
    /// The peer is gone.
    Lost,
}

/// A transport with its task: what a connection reads from and writes to.
#[derive(Debug)]
pub struct Channel<T> {
    transport: T,
    turn: Rc<Turn>,
    task: TaskId,
}

impl<T: Transport> Channel<T> {
    /// Binds `transport` to the task that will use it.
    pub fn new(transport: T, turn: Rc<Turn>, task: TaskId) -> Self {
        Self { transport, turn, task }
    }

    /// The shared state of the loop.
    pub fn turn(&self) -> &Rc<Turn> {
        &self.turn
    }

    /// Decides for a connection with nothing in hand, which holds no buffer: whether a receive may bring something.
    /// A passed deadline ends it, and so does a drain, but not before `grace`.
    pub fn look(&mut self, deadline: Moment, grace: Moment) -> Look {
        // What blocks it before the first byte, a read or a write, is not told apart: each event is a reason to go on.
        let may_go_on = !self.transport.is_established() && self.turn.writable(self.task);
        if may_go_on || self.turn.readable(self.task) {
            return Look::Run;
        }
        let deadline = if self.turn.draining() { deadline.min(grace) } else { deadline };
        if self.turn.now() >= deadline {
            self.transport.conclude();
            return Look::End;
        }
        self.turn.arm(deadline);
        Look::Rest
    }

    /// The byte stream.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// Goes on with what must pass before the first byte, without waiting; nothing means that it would have blocked.
    ///
    /// # Errors
    /// [`Failure::Lost`] if the connection broke.
    pub fn try_establish(&mut self) -> Result<Option<Established>, Failure> {
        loop {
            match self.transport.establish() {
                Ok(established) => {
                    // Both directions are to be tried, since it is not known which one blocked last.
                    self.turn.mark_ready(self.task, true, true, false);
                    return Ok(Some(established));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.turn.read_blocked(self.task);
                    self.turn.write_blocked(self.task);
                    return Ok(None);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Failure::Lost),
            }
        }
    }

    /// Tries one receive without waiting; nothing means that it would have blocked.
    ///
    /// # Errors
    /// [`Failure::Lost`] if the connection broke.
    pub fn try_receive(&mut self, target: &mut [u8]) -> Result<Option<usize>, Failure> {
        while self.turn.readable(self.task) {
            match self.transport.receive(target) {
                Ok(received) => {
                    if received.drained && received.count > 0 {
                        self.turn.read_drained(self.task);
                    }
                    return Ok(Some(received.count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.turn.read_blocked(self.task),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Failure::Lost),
            }
        }
        Ok(None)
    }

    /// Receives at least one byte into `target`, or zero at the end of the peer's direction.
    ///
    /// # Errors
    /// [`Failure::TimedOut`] or [`Failure::Lost`].
    pub async fn receive(&mut self, target: &mut [u8], deadline: Moment) -> Result<usize, Failure> {
        poll_fn(|_| match self.try_receive(target) {
            Ok(Some(count)) => Poll::Ready(Ok(count)),
            Ok(None) => self.park(deadline),
            Err(failure) => Poll::Ready(Err(failure)),
        })
        .await
    }

    /// Sends all of `source`; each stretch without progress may last `stall_millis`, and the whole as long as a peer needs
    /// that takes `limits::SEND_RATE_MIN_BYTES_PER_SECOND`: one that takes a byte now and then is given up.
    ///
    /// # Errors
    /// [`Failure::TimedOut`] or [`Failure::Lost`].
    pub async fn send_all(&mut self, source: &[u8], stall_millis: u64) -> Result<(), Failure> {
        let mut rest = source;
        let slowest_millis = (source.len() as u64).saturating_mul(1_000) / SEND_RATE_MIN_BYTES_PER_SECOND;
        let end = self.turn.now().plus_millis(stall_millis).plus_millis(slowest_millis);
        let mut deadline = self.turn.now().plus_millis(stall_millis);
        poll_fn(|_| {
            while self.turn.writable(self.task) {
                let sent = if rest.is_empty() {
                    // What the transport took is not yet what it sent.
                    self.transport.flush().map(|()| None)
                } else {
                    self.transport.send(rest).map(Some)
                };
                match sent {
                    Ok(None) => return Poll::Ready(Ok(())),
                    Ok(Some(count)) => {
                        rest = rest.get(count..).unwrap_or_default();
                        deadline = self.turn.now().plus_millis(stall_millis).min(end);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.turn.write_blocked(self.task);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return Poll::Ready(Err(Failure::Lost)),
                }
            }
            self.park(deadline)
        })
        .await
    }

    /// Waits until it is `until`, whatever comes.
    pub async fn rest(&self, until: Moment) {
        poll_fn(|_| self.park::<()>(until).map(drop)).await;
    }

    /// Ends the outgoing direction.
    pub fn finish(&mut self) {
        self.transport.finish();
    }

    /// Says that everything was said: the connection is closed next.
    pub fn conclude(&mut self) {
        self.transport.conclude();
    }

    /// Says on whose account is what the transport keeps from here on.
    ///
    /// # Errors
    /// [`Exhausted`] if the account has no room for it.
    pub fn charge(&mut self, account: &Arc<Tally>) -> Result<(), Exhausted> {
        self.transport.charge(account)
    }

    /// Lets the peer see a break instead of an end when the connection is closed, or no longer.
    pub fn abort_on_close(&mut self, on: bool) {
        self.transport.abort_on_close(on);
    }

    fn park<R>(&self, deadline: Moment) -> Poll<Result<R, Failure>> {
        if self.turn.now() >= deadline {
            return Poll::Ready(Err(Failure::TimedOut));
        }
        self.turn.arm(deadline);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;
    use core::future::Future;
    use core::pin::pin;
    use core::task::{Context, Waker};

    /// Takes one byte for each edge.
    struct Trickle(bool);

    impl Transport for Trickle {
        fn receive(&mut self, _: &mut [u8]) -> io::Result<Received> {
            Err(io::ErrorKind::WouldBlock.into())
        }

        fn send(&mut self, _: &[u8]) -> io::Result<usize> {
            self.0 = !self.0;
            if self.0 { Ok(1) } else { Err(io::ErrorKind::WouldBlock.into()) }
        }

        fn finish(&mut self) {}

        fn abort_on_close(&mut self, _: bool) {}
    }

    #[test]
    fn a_peer_that_takes_a_byte_now_and_then_is_given_up() {
        let turn = Turn::new(Moment::default());
        let task = TaskId::default();
        turn.admit(task);
        let mut channel = Channel::new(Trickle(false), Rc::clone(&turn), task);
        let source = vec![0; usize::try_from(2 * SEND_RATE_MIN_BYTES_PER_SECOND).unwrap()];
        let mut sending = pin!(channel.send_all(&source, 1_000));
        let mut context = Context::from_waker(Waker::noop());
        for step in 0..100 {
            turn.begin(Moment::default().plus_millis(step * 500), WallTime::default());
            turn.mark_ready(task, false, true, false);
            if let Poll::Ready(sent) = sending.as_mut().poll(&mut context) {
                assert_eq!(sent, Err(Failure::TimedOut));
                assert_eq!(
                    step, 6,
                    "one second to begin with and two for the bytes, though none of it was silence"
                );
                return;
            }
        }
        panic!("it was borne for ever");
    }
}
