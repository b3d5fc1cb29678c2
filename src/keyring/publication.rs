//! How a new snapshot reaches the workers.
//!
//! Owns [`Publication`] (written by the keeper) and [`View`] (one for each worker). Invariants: the epoch is raised
//! after the snapshot was replaced, so a worker that sees the new epoch gets at least that snapshot; a worker that
//! looks after a change was acknowledged sees it; looking costs one atomic load while nothing has changed.

use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use crate::keyring::Ring;

/// The current snapshot and its epoch.
#[derive(Debug, Default)]
pub struct Publication {
    epoch: AtomicU64,
    current: Mutex<Arc<Ring>>,
}

impl Publication {
    /// A publication of `ring`.
    #[must_use]
    pub fn new(ring: Ring) -> Arc<Self> {
        Arc::new(Self { epoch: AtomicU64::new(0), current: Mutex::new(Arc::new(ring)) })
    }

    /// The current snapshot.
    #[must_use]
    pub fn current(&self) -> Arc<Ring> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the snapshot.
    pub fn publish(&self, ring: Arc<Ring>) {
        let old = core::mem::replace(&mut *self.current.lock().unwrap_or_else(PoisonError::into_inner), ring);
        self.epoch.fetch_add(1, Ordering::Release);
        // Dropped after the lock was given back: the last owner of a key wipes it here.
        drop(old);
    }
}

/// A snapshot as a worker holds it: what a request takes is counted within its thread, without touching a cache line
/// that other workers write to.
pub type Held = Rc<Arc<Ring>>;

/// A worker's own hold on the snapshot.
#[derive(Debug)]
pub struct View {
    publication: Arc<Publication>,
    epoch: Cell<u64>,
    ring: RefCell<Held>,
}

impl View {
    /// A view of `publication`.
    #[must_use]
    pub fn new(publication: Arc<Publication>) -> Self {
        let epoch = publication.epoch.load(Ordering::Acquire);
        let ring = Rc::new(publication.current());
        Self { publication, epoch: Cell::new(epoch), ring: RefCell::new(ring) }
    }

    /// The latest snapshot, held for as long as the caller needs it.
    #[must_use]
    pub fn ring(&self) -> Held {
        let epoch = self.publication.epoch.load(Ordering::Acquire);
        if epoch != self.epoch.get() {
            // Read after the epoch: the snapshot may be newer than it, never older.
            *self.ring.borrow_mut() = Rc::new(self.publication.current());
            self.epoch.set(epoch);
        }
        Rc::clone(&self.ring.borrow())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;
    use crate::keyring::{Change, Circumstances, change::apply};
    use crate::model::{KeyName, KeyOptions, KeyType, PolicyChange};

    #[test]
    fn a_view_sees_a_publication_at_its_next_look_and_not_before() {
        let publication = Publication::new(Ring::default());
        let view = View::new(Arc::clone(&publication));
        let held = view.ring();
        let options = KeyOptions::of(KeyType::XChaCha20Poly1305);
        let change =
            Change::Create { name: KeyName::new("a").unwrap(), options, policy: PolicyChange::default() };
        let mut ring = (**held).clone();
        let mut draw = |bytes: &mut [u8]| {
            bytes.fill(9);
            Ok(())
        };
        let mut at = Circumstances { now: WallTime::default(), restore_window_seconds: 0, draw: &mut draw };
        apply(&mut ring, &change, &mut at).unwrap();
        publication.publish(Arc::new(ring));
        assert!(held.get("a").is_none());
        assert!(view.ring().get("a").is_some());
    }
}
