//! A typed box in the key region.
//!
//! Owns [`Locked`]. Invariants: the value lies in a slot of its own, or on the heap where the region has no room; its bytes are
//! wiped after its `Drop` ran.
//!
//! `unsafe`, because the safe boxes of the standard library take their memory from one allocator.

#![expect(unsafe_code, reason = "above, and with each block")]

use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use super::region::Slot;
use super::slots::Share;
use crate::limits::KEY_REGION_GRANULE_BYTES;

/// A value of the process's own that tells secrets: prepared keys, the state of a generator. Few of them, each for long.
///
/// Secrets must lie in the value itself, not behind a pointer in it. On the heap it is the value's own `Drop` that wipes it.
pub struct Locked<T>(Place<T>);

/// Whether a value ever found no room in the region.
static PLAIN: AtomicBool = AtomicBool::new(false);

/// Whether anything of the process's own (the states of its generators, prepared MAC keys) lies on the plain heap, because the region
/// had no room for it.
#[must_use]
pub fn is_beside() -> bool {
    PLAIN.load(Ordering::Relaxed)
}

/// What was made before there was a region is not counted: the region is opened before the first key is read.
pub(super) fn begin() {
    PLAIN.store(false, Ordering::Relaxed);
}

enum Place<T> {
    Region(Slot, PhantomData<T>),
    Heap(Box<T>),
}

impl<T> Locked<T> {
    /// Moves `value` to where it stays. The place from which it is moved is for the caller to wipe.
    #[must_use]
    pub fn new(value: T) -> Self {
        const { assert!(align_of::<T>() <= KEY_REGION_GRANULE_BYTES, "slots are not aligned further") };
        let Some(slot) = Slot::take(size_of::<T>(), Share::Process) else {
            PLAIN.store(true, Ordering::Relaxed);
            return Self(Place::Heap(Box::new(value)));
        };
        // SAFETY: the slot has the size of a `T`, is aligned to a granule, and belongs to this box alone.
        unsafe { Self::at(&slot).write(value) };
        Self(Place::Region(slot, PhantomData))
    }

    const fn at(slot: &Slot) -> NonNull<T> {
        slot.start().cast()
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            // SAFETY: `new` wrote a `T` there, which only `drop` takes out; borrows follow those of the box.
            Place::Region(slot, _) => unsafe { Self::at(slot).as_ref() },
            Place::Heap(value) => value,
        }
    }
}

impl<T> DerefMut for Locked<T> {
    fn deref_mut(&mut self) -> &mut T {
        match &mut self.0 {
            // SAFETY: as in `deref`, and the box is borrowed mutably.
            Place::Region(slot, _) => unsafe { Self::at(slot).as_mut() },
            Place::Heap(value) => value,
        }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        if let Place::Region(slot, _) = &self.0 {
            // SAFETY: the value is there since `new` and used by nobody afterwards; the slot then wipes its bytes.
            unsafe { Self::at(slot).drop_in_place() };
        }
    }
}

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Locked(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_value_is_read_changed_and_dropped_once() {
        crate::secret::region::open_for_test();
        let counted = Rc::new(());
        let mut locked = Locked::new(([1u64; 10], Rc::clone(&counted)));
        assert!(matches!(locked.0, Place::Region(..)));
        let (numbers, _) = &mut *locked;
        numbers[9] = 7;
        assert_eq!((locked.deref().0[8..].to_vec(), Rc::strong_count(&counted)), (vec![1, 7], 2));
        drop(locked);
        assert_eq!(Rc::strong_count(&counted), 1);
    }

    #[test]
    fn a_value_without_room_in_the_region_lies_on_the_heap() {
        crate::secret::region::open_for_test();
        let large = Locked::new([7u8; crate::limits::KEY_SLOT_MAX_BYTES + 1]);
        assert!(matches!(large.0, Place::Heap(_)));
        assert!(large.iter().all(|byte| *byte == 7));
    }
}
