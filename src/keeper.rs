//! The keeper: the one thread that changes the key ring.
//!
//! Owns the queue of changes and the latest state. Invariants: changes are applied one after the other, each judged
//! against the state that the one before it left; a snapshot is published before its change is answered, so whoever
//! was answered finds it; the queue is bounded, and beyond the bound a change is refused at once.

use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::clock::{Moment, WallTime};
use crate::crypto::random::Generator;
use crate::keyring::change::apply;
use crate::keyring::{Change, ChangeError, Circumstances, Effect, Outcome, Publication};
use crate::limits::{CHANGES_WAITING_MAX_COUNT, RESTORE_WINDOW_DEFAULT_SECONDS};

/// The result of a change.
pub type Committed = Result<Outcome, ChangeError>;

/// Where workers leave their changes.
#[derive(Debug)]
pub struct Keeper {
    queue: Mutex<VecDeque<Job>>,
    arrived: Condvar,
    publication: Arc<Publication>,
}

#[derive(Debug)]
struct Job {
    change: Change,
    reply: Arc<Reply>,
}

/// Where a worker finds the result.
#[derive(Debug, Default)]
struct Reply(Mutex<ReplyState>);

#[derive(Debug, Default)]
struct ReplyState {
    committed: Option<Committed>,
    waker: Option<Waker>,
}

/// A change on its way; awaits its result.
#[derive(Debug)]
pub struct Pending(Arc<Reply>);

impl Keeper {
    /// A keeper of what `publication` holds.
    #[must_use]
    pub fn new(publication: Arc<Publication>) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::new(VecDeque::new()), arrived: Condvar::new(), publication })
    }

    /// Leaves a change for the keeper's thread.
    ///
    /// # Errors
    /// [`ChangeError::Unavailable`] if too many are waiting.
    pub fn submit(&self, change: Change) -> Result<Pending, ChangeError> {
        let reply = Arc::new(Reply::default());
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= CHANGES_WAITING_MAX_COUNT {
            return Err(ChangeError::Unavailable);
        }
        queue.push_back(Job { change, reply: Arc::clone(&reply) });
        drop(queue);
        self.arrived.notify_one();
        Ok(Pending(reply))
    }

    /// Applies changes for ever: the keeper's thread.
    pub fn run(&self, random: &mut Generator) -> ! {
        loop {
            let job = self.next();
            let committed = self.carry_out(&job.change, random);
            job.reply.fill(committed);
        }
    }

    fn next(&self) -> Job {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = queue.pop_front() {
                return job;
            }
            queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn carry_out(&self, change: &Change, random: &mut Generator) -> Committed {
        let mut ring = (*self.publication.current()).clone();
        let now = Moment::now();
        let mut draw = |bytes: &mut [u8]| random.fill(now, bytes);
        let mut at = Circumstances {
            now: WallTime::now(),
            restore_window_seconds: RESTORE_WINDOW_DEFAULT_SECONDS,
            draw: &mut draw,
        };
        let outcome = apply(&mut ring, change, &mut at)?;
        match outcome.effect {
            Effect::None => {}
            Effect::Put | Effect::Removed => self.publication.publish(Arc::new(ring)),
            Effect::Reserved { version, seals } => {
                if let Some(version) = outcome.key.version(version) {
                    version.uses().grant(seals);
                }
            }
        }
        Ok(outcome)
    }
}

impl Reply {
    fn fill(&self, committed: Committed) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.committed = Some(committed);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for Pending {
    type Output = Committed;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Committed> {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.committed.take() {
            Some(committed) => Poll::Ready(committed),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::Kernel;
    use crate::keyring::Ring;
    use crate::model::{KeyName, KeyOptions, KeyType, PolicyChange};
    use core::pin::pin;

    fn create(name: &str) -> Change {
        let options = KeyOptions::of(KeyType::XChaCha20Poly1305);
        Change::Create { name: KeyName::new(name).unwrap(), options, policy: PolicyChange::default() }
    }

    #[test]
    fn a_change_is_published_before_it_is_answered_and_wakes_the_one_who_waits() {
        let publication = Publication::new(Ring::default());
        let keeper = Keeper::new(Arc::clone(&publication));
        let mut random = Generator::new(Kernel, Moment::now()).unwrap();
        let mut pending = pin!(keeper.submit(create("a")).unwrap());
        let mut context = Context::from_waker(Waker::noop());
        assert!(pending.as_mut().poll(&mut context).is_pending());
        let job = keeper.next();
        let committed = keeper.carry_out(&job.change, &mut random);
        assert!(publication.current().get("a").is_some());
        job.reply.fill(committed);
        assert!(matches!(pending.poll(&mut context), Poll::Ready(Ok(Outcome { effect: Effect::Put, .. }))));
    }

    #[test]
    fn a_full_queue_refuses_at_once() {
        let keeper = Keeper::new(Publication::new(Ring::default()));
        for _ in 0..CHANGES_WAITING_MAX_COUNT {
            keeper.submit(create("a")).unwrap();
        }
        assert_eq!(keeper.submit(create("a")).err(), Some(ChangeError::Unavailable));
    }
}
