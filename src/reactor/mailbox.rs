//! Wakes from other threads: which tasks of a loop have a reply waiting.
//!
//! Owns the list of woken tasks and the signal that ends the loop's sleep. Invariants: a wake is never lost (the
//! list is filled before the signal is raised, and emptied after it was taken); a raised signal is not raised again.

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

use crate::reactor::executor::TaskId;

/// Ends the sleep of a loop; called from any thread.
pub type Signal = Box<dyn Fn() + Send + Sync>;

/// The letterbox of one loop.
pub struct Mailbox {
    woken: Mutex<Vec<TaskId>>,
    raised: AtomicBool,
    signal: Signal,
}

impl core::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Mailbox").field("raised", &self.raised).finish_non_exhaustive()
    }
}

impl Mailbox {
    /// A mailbox that calls `signal` when the first wake since the last look arrives.
    #[must_use]
    pub fn new(signal: Signal) -> Arc<Self> {
        Arc::new(Self { woken: Mutex::new(Vec::new()), raised: AtomicBool::new(false), signal })
    }

    /// The target of a waker that can be pointed at one task after the other.
    #[must_use]
    pub fn task_waker(self: &Arc<Self>) -> Arc<TaskWaker> {
        Arc::new(TaskWaker { task: AtomicU32::new(0), mailbox: Arc::clone(self) })
    }

    /// Ends the loop's sleep without naming a task.
    pub fn nudge(&self) {
        if !self.raised.swap(true, Ordering::AcqRel) {
            (self.signal)();
        }
    }

    /// Takes the tasks woken since the last look.
    pub fn take(&self, woken: &mut Vec<TaskId>) {
        // Lowered before the list is read: a wake that comes in between raises the signal again.
        if self.raised.swap(false, Ordering::AcqRel) {
            woken.append(&mut self.woken.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// What a waker wakes. One that is called late may name a task that runs in place of the one that was meant: a poll
/// without a reason, which is harmless.
#[derive(Debug)]
pub struct TaskWaker {
    task: AtomicU32,
    mailbox: Arc<Mailbox>,
}

impl TaskWaker {
    /// Names the task to wake from now on.
    pub fn point_at(&self, task: TaskId) {
        self.task.store(task.index(), Ordering::Release);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let task = TaskId::from_index(self.task.load(Ordering::Acquire));
        self.mailbox.woken.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        self.mailbox.nudge();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicUsize;
    use std::task::Waker;

    #[test]
    fn many_wakes_raise_one_signal_and_none_is_lost() {
        let signals = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&signals);
        let mailbox = Mailbox::new(Box::new(move || {
            seen.fetch_add(1, Ordering::SeqCst);
        }));
        let wakers: Vec<Waker> = (0..3)
            .map(|index| {
                let target = mailbox.task_waker();
                target.point_at(TaskId::from_index(index));
                Waker::from(target)
            })
            .collect();
        wakers.iter().for_each(Waker::wake_by_ref);
        assert_eq!(signals.load(Ordering::SeqCst), 1);
        let mut woken = Vec::new();
        mailbox.take(&mut woken);
        assert_eq!(woken, [0, 1, 2].map(TaskId::from_index));
        wakers[1].wake_by_ref();
        assert_eq!(signals.load(Ordering::SeqCst), 2);
        mailbox.take(&mut woken);
        assert_eq!(woken.len(), 4);
    }
}
