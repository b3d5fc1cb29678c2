//! How a new snapshot reaches the workers, and how one knows that none of them still acts on an older one.
//!
//! Owns [`Publication`] (written by the keeper), [`View`] (one for each worker) and [`Entered`] (one look of a worker),
//! whatever the snapshot is of.
//! Invariants: the epoch is raised after the snapshot was replaced, so a worker that sees the new epoch gets at least
//! that snapshot; a worker that looks after a change was published sees it; while a worker looks, its slot holds an
//! epoch that is no newer than the snapshot it looks at. From these follows: once every slot is idle or new enough,
//! nobody acts on what was before, nor will.
//!
//! The order of the two sides is what makes this hold. A worker writes its slot, then reads the epoch; who waits has
//! raised the epoch, then reads the slots; all four are sequentially consistent. So either the slot is seen, or the
//! worker sees the new epoch.

use core::cell::{Cell, RefCell};
use core::fmt;
use core::ops::Deref;
use core::sync::atomic::{AtomicU64, Ordering};
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What the slot of a worker holds that does not look.
const IDLE: u64 = u64::MAX;

/// How often the snapshot has been replaced.
pub type Epoch = u64;

/// The current snapshot and its epoch.
#[derive(Debug)]
pub struct Publication<T> {
    epoch: AtomicU64,
    current: Mutex<Arc<T>>,
    /// One for each view that there ever was.
    slots: Mutex<Vec<Arc<Slot>>>,
    bell: Bell,
}

/// Tells those who may sleep that there is a new snapshot.
#[derive(Default)]
struct Bell(OnceLock<Box<dyn Fn() + Send + Sync>>);

impl fmt::Debug for Bell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bell").field(&self.0.get().is_some()).finish()
    }
}

/// The epoch at which a worker looks, or [`IDLE`]. On a cache line of its own: its worker writes it twice for each
/// request, and the neighbours' must not be touched by that.
#[derive(Debug)]
#[repr(align(128))]
struct Slot(AtomicU64);

impl<T> Publication<T> {
    /// A publication of `first`.
    #[must_use]
    pub fn new(first: T) -> Arc<Self> {
        let current = Mutex::new(Arc::new(first));
        Arc::new(Self { epoch: AtomicU64::new(0), current, slots: Mutex::default(), bell: Bell::default() })
    }

    /// Has `ring` called after each publication: it is to have every [`View`] refreshed, also of who has nothing to do.
    /// Once; a second call changes nothing.
    pub fn on_publish(&self, ring: impl Fn() + Send + Sync + 'static) {
        let _ = self.bell.0.set(Box::new(ring));
    }

    /// The current snapshot.
    #[must_use]
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The current epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Replaces the snapshot; returns its epoch.
    pub fn publish(&self, next: Arc<T>) -> Epoch {
        let old = core::mem::replace(&mut *self.current.lock().unwrap_or_else(PoisonError::into_inner), next);
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        // Dropped after the lock was given back: the last owner of a secret wipes it here.
        drop(old);
        if let Some(ring) = self.bell.0.get() {
            ring();
        }
        epoch
    }

    /// Whether nobody acts on a snapshot older than that of `epoch`. Once true it stays true.
    #[must_use]
    pub fn settled(&self, epoch: Epoch) -> bool {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // An idle slot counts as newer than everything.
        slots.iter().all(|slot| slot.0.load(Ordering::SeqCst) >= epoch)
    }

    fn add_slot(&self) -> Arc<Slot> {
        let slot = Arc::new(Slot(AtomicU64::new(IDLE)));
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&slot));
        slot
    }
}

/// A snapshot as a worker holds it: what a look takes is counted within its thread, without touching a cache line that
/// other workers write to.
type Held<T> = Rc<Arc<T>>;

/// A worker's own hold on the snapshot.
#[derive(Debug)]
pub struct View<T> {
    publication: Arc<Publication<T>>,
    slot: Arc<Slot>,
    epoch: Cell<Epoch>,
    held: RefCell<Held<T>>,
}

impl<T> View<T> {
    /// A view of `publication`.
    #[must_use]
    pub fn new(publication: Arc<Publication<T>>) -> Self {
        let slot = publication.add_slot();
        let epoch = publication.epoch();
        let held = RefCell::new(Rc::new(publication.current()));
        Self { publication, slot, epoch: Cell::new(epoch), held }
    }

    /// Lets go of a snapshot that was replaced: what it alone holds of secrets is wiped here, and not only when the
    /// worker has something to do again.
    pub fn refresh(&self) {
        let epoch = self.publication.epoch();
        if epoch != self.epoch.get() {
            let old = self.held.replace(Rc::new(self.publication.current()));
            self.epoch.set(epoch);
            drop(old);
        }
    }

    /// Begins a look at the latest snapshot, which ends with the returned value. To be as short as one handler or one
    /// chunk, and never held across a wait: a change that takes a right away is not answered before.
    #[must_use]
    pub fn enter(&self) -> Entered<'_, T> {
        // Only this thread writes the slot. A look within a look leaves it to the outer one, which began earlier.
        let outer = self.slot.0.load(Ordering::Relaxed) == IDLE;
        if outer {
            self.slot.0.store(self.epoch.get(), Ordering::SeqCst);
        }
        let epoch = self.publication.epoch();
        if epoch != self.epoch.get() {
            // Read after the epoch: the snapshot may be newer than it, never older.
            *self.held.borrow_mut() = Rc::new(self.publication.current());
            self.epoch.set(epoch);
            if outer {
                self.slot.0.store(epoch, Ordering::SeqCst);
            }
        }
        Entered { held: Rc::clone(&self.held.borrow()), slot: outer.then_some(&self.slot) }
    }
}

/// One look of a worker at a snapshot.
#[derive(Debug)]
pub struct Entered<'a, T> {
    held: Held<T>,
    /// What is idle again when the look ends; nothing within another look.
    slot: Option<&'a Slot>,
}

impl<T> Deref for Entered<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.held
    }
}

impl<T> Drop for Entered<'_, T> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            // After everything that was done with the snapshot.
            slot.0.store(IDLE, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicBool;
    use std::collections::BTreeMap;

    /// Entries that snapshots share, as those of a ring.
    type Entries = BTreeMap<String, Arc<()>>;

    fn with_key(entries: &Entries, name: &str) -> Arc<Entries> {
        let mut entries = entries.clone();
        entries.insert(name.to_owned(), Arc::new(()));
        Arc::new(entries)
    }

    #[test]
    fn a_view_sees_a_publication_at_its_next_look_and_not_before() {
        let publication = Publication::new(Entries::new());
        let view = View::new(Arc::clone(&publication));
        let held = view.enter();
        publication.publish(with_key(&held, "a"));
        assert!(held.get("a").is_none());
        drop(held);
        assert!(view.enter().get("a").is_some());
    }

    #[test]
    fn a_change_is_settled_when_every_look_that_began_before_it_has_ended() {
        let publication = Publication::new(Entries::new());
        let (busy, idle) = (View::new(Arc::clone(&publication)), View::new(Arc::clone(&publication)));
        let old = busy.enter();
        let epoch = publication.publish(with_key(&old, "a"));
        assert!(!publication.settled(epoch), "somebody still acts on what was");
        drop(idle.enter());
        assert!(!publication.settled(epoch));
        drop(old);
        assert!(publication.settled(epoch));
        let new = busy.enter();
        assert!(publication.settled(epoch), "a look that began afterwards does not count");
        assert!(!publication.settled(publication.publish(with_key(&new, "b"))));
    }

    #[test]
    fn destroyed_material_is_gone_when_every_view_was_refreshed_though_nobody_looked() {
        let publication = Publication::new(Entries::new());
        publication.publish(with_key(&publication.current(), "a"));
        let views = [(); 2].map(|()| View::new(Arc::clone(&publication)));
        let material = Arc::downgrade(&publication.current()["a"]);
        publication.publish(Arc::default());
        assert!(material.upgrade().is_some(), "the views hold what was");
        views[0].refresh();
        assert!(material.upgrade().is_some());
        views[1].refresh();
        assert!(material.upgrade().is_none());
        assert!(views[0].enter().get("a").is_none());
    }

    #[test]
    fn a_refresh_within_a_look_does_not_settle_it() {
        let publication = Publication::new(Entries::new());
        let view = View::new(Arc::clone(&publication));
        let look = view.enter();
        let epoch = publication.publish(with_key(&look, "a"));
        view.refresh();
        assert!(look.get("a").is_none() && !publication.settled(epoch));
        drop(look);
        assert!(publication.settled(epoch) && view.enter().get("a").is_some());
    }

    #[test]
    fn each_publication_is_told_when_it_can_be_seen() {
        let publication = Publication::new(Entries::new());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (told, of) = (Arc::clone(&seen), Arc::downgrade(&publication));
        publication.on_publish(move || {
            let publication = of.upgrade().unwrap();
            told.lock().unwrap().push((publication.epoch(), publication.current().len()));
        });
        publication.publish(with_key(&publication.current(), "a"));
        publication.publish(with_key(&publication.current(), "b"));
        assert_eq!(*seen.lock().unwrap(), [(1, 1), (2, 2)]);
    }

    #[test]
    fn a_look_within_a_look_does_not_end_it() {
        let publication = Publication::new(Entries::new());
        let view = View::new(Arc::clone(&publication));
        let outer = view.enter();
        let epoch = publication.publish(with_key(&outer, "a"));
        let inner = view.enter();
        assert!(inner.get("a").is_some());
        assert!(!publication.settled(epoch), "the outer look is an old one");
        drop(inner);
        assert!(!publication.settled(epoch));
        drop(outer);
        assert!(publication.settled(epoch));
    }

    #[test]
    fn nobody_acts_on_an_older_snapshot_once_a_change_is_settled() {
        const ROUNDS: u64 = 1_000;
        let publication = Publication::new(Entries::new());
        let settled = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let worker = |_| {
            let (publication, settled) = (Arc::clone(&publication), Arc::clone(&settled));
            let ended = Arc::clone(&ended);
            std::thread::spawn(move || {
                let view = View::new(publication);
                let mut looks = 0u64;
                while !ended.load(Ordering::Relaxed) {
                    let entries = view.enter();
                    // As many keys as its epoch: what a look sees says how old it is.
                    let held = entries.len() as u64;
                    assert!(held >= settled.load(Ordering::SeqCst), "an old snapshot is still acted on");
                    drop(entries);
                    looks += 1;
                }
                looks
            })
        };
        let workers: Vec<_> = (0..2).map(worker).collect();
        for round in 1..=ROUNDS {
            let epoch = publication.publish(with_key(&publication.current(), &format!("k{round}")));
            assert_eq!(epoch, round);
            while !publication.settled(epoch) {
                core::hint::spin_loop();
            }
            settled.store(epoch, Ordering::SeqCst);
        }
        ended.store(true, Ordering::Relaxed);
        assert!(workers.into_iter().all(|worker| worker.join().unwrap() > 0));
    }
}
