//! Leased memory: buffers in a few sizes, under one budget, wiped before anyone else gets them.
//!
//! Owns [`Budget`] (one for the process), [`Pool`] (one for each loop) and [`Buffer`]. Invariants: the sum of all
//! buffers in use never exceeds the budget; a returned buffer is zero in every byte that was ever written during the
//! lease; a lease that the pool can serve from returned buffers allocates nothing.

use core::cell::RefCell;
use core::hint::black_box;
use core::sync::atomic::{AtomicUsize, Ordering};
use std::rc::Rc;
use std::sync::Arc;

use crate::limits::{LEASE_CLASSES_BYTES, LEASE_KEPT_COUNT};

/// The budget is spent, or the size is beyond the largest class: the work must be refused, not the memory taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// How many bytes all loops together may have on lease.
#[derive(Debug)]
pub struct Budget {
    total: usize,
    leased: AtomicUsize,
}

impl Budget {
    /// A budget of `total` bytes.
    #[must_use]
    pub fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, leased: AtomicUsize::new(0) })
    }

    /// Bytes on lease now.
    #[must_use]
    pub fn leased_bytes(&self) -> usize {
        self.leased.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> Result<(), Exhausted> {
        let grow = |leased: usize| leased.checked_add(bytes).filter(|sum| *sum <= self.total);
        self.leased.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow).map(drop).map_err(|_| Exhausted)
    }

    fn give_back(&self, bytes: usize) {
        self.leased.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A loop's own buffers, in use or waiting for the next lease.
#[derive(Debug)]
pub struct Pool {
    budget: Arc<Budget>,
    kept: [RefCell<Vec<Box<[u8]>>>; LEASE_CLASSES_BYTES.len()],
}

impl Pool {
    /// A pool without buffers: they are made on first use and kept.
    #[must_use]
    pub fn new(budget: Arc<Budget>) -> Rc<Self> {
        Rc::new(Self { budget, kept: LEASE_KEPT_COUNT.map(|count| RefCell::new(Vec::with_capacity(count))) })
    }

    /// Leases a buffer of the smallest class that holds `bytes`.
    ///
    /// # Errors
    /// [`Exhausted`] if no class is that large or the budget does not allow it.
    pub fn lease(self: &Rc<Self>, bytes: usize) -> Result<Buffer, Exhausted> {
        let class = LEASE_CLASSES_BYTES.iter().position(|size| *size >= bytes).ok_or(Exhausted)?;
        let size = LEASE_CLASSES_BYTES.get(class).copied().ok_or(Exhausted)?;
        self.budget.take(size)?;
        let kept = self.kept.get(class).and_then(|kept| kept.borrow_mut().pop());
        let bytes = kept.unwrap_or_else(|| vec![0; size].into_boxed_slice());
        Ok(Buffer { bytes, start: 0, end: 0, high: 0, class, pool: Rc::clone(self) })
    }

    /// A buffer without memory: it takes a lease when it is first asked to [`reserve`](Buffer::reserve).
    #[must_use]
    pub fn vacant(self: &Rc<Self>) -> Buffer {
        let class = LEASE_CLASSES_BYTES.len();
        Buffer { bytes: Box::default(), start: 0, end: 0, high: 0, class, pool: Rc::clone(self) }
    }

    fn give_back(&self, class: usize, bytes: Box<[u8]>) {
        self.budget.give_back(bytes.len());
        let Some(kept) = self.kept.get(class) else { return };
        let mut kept = kept.borrow_mut();
        // The capacity was set at the start and is never grown: what does not fit goes back to the allocator.
        if kept.len() < kept.capacity() {
            kept.push(bytes);
        }
    }
}

/// A lease: bytes between a start and an end that both move forward.
#[derive(Debug)]
pub struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    /// One past the last byte that was written during the lease.
    high: usize,
    class: usize,
    pool: Rc<Pool>,
}

impl Buffer {
    /// The bytes that were filled and not yet consumed.
    #[must_use]
    pub fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// The same, to work on in place.
    pub fn filled_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// How many bytes can be filled before the buffer is full.
    #[must_use]
    pub fn room(&self) -> usize {
        self.bytes.len() - self.end
    }

    /// How many bytes the buffer holds at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// The room, to receive into: only what [`advance`](Self::advance) then counts may have been written.
    pub fn room_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Counts `count` bytes of the room as filled.
    pub fn advance(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
        self.high = self.high.max(self.end);
    }

    /// Takes `count` bytes of the room as filled and lends them for writing; nothing if there is less room.
    pub fn extend(&mut self, count: usize) -> Option<&mut [u8]> {
        let from = self.end;
        let to = from.checked_add(count).filter(|to| *to <= self.bytes.len())?;
        self.end = to;
        self.high = self.high.max(to);
        self.bytes.get_mut(from..to)
    }

    /// Appends a copy of `source`; returns whether there was room.
    pub fn append(&mut self, source: &[u8]) -> bool {
        self.extend(source.len()).map(|target| target.copy_from_slice(source)).is_some()
    }

    /// Drops `count` bytes from the front of the filled ones.
    pub fn consume(&mut self, count: usize) {
        self.start = self.start.saturating_add(count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Drops bytes from the end, so that `count` filled ones remain.
    pub fn truncate(&mut self, count: usize) {
        self.end = self.end.min(self.start.saturating_add(count));
    }

    /// Drops the filled bytes from `from` to `to`, counted from the first filled one, and closes the gap.
    pub fn remove(&mut self, from: usize, to: usize) {
        let (from, to) = (self.start + from, self.start + to);
        if from < to && to <= self.end {
            self.bytes.copy_within(to..self.end, from);
            self.end -= to - from;
        }
    }

    /// Moves the filled bytes to the front, so that the room is as large as it can be.
    pub fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }

    /// Gives the memory back, wiped.
    pub fn release(&mut self) {
        let vacant = self.pool.vacant();
        *self = vacant;
    }

    /// Makes sure that `count` more bytes fit, moving to a larger lease if they do not.
    ///
    /// # Errors
    /// [`Exhausted`] if they cannot; the buffer is as it was.
    pub fn reserve(&mut self, count: usize) -> Result<(), Exhausted> {
        if self.room() >= count {
            return Ok(());
        }
        let filled = self.end - self.start;
        let needed = filled.checked_add(count).ok_or(Exhausted)?;
        if needed <= self.bytes.len() {
            self.compact();
            return Ok(());
        }
        let mut larger = self.pool.lease(needed)?;
        larger.append(self.filled());
        core::mem::swap(self, &mut larger);
        Ok(())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(written) = self.bytes.get_mut(..self.high) {
            written.fill(0);
            // The bytes go back to the pool, where they can be read again: the wipe is not a dead store, and the
            // hint keeps it so should the pool ever be inlined away.
            black_box(&*written);
        }
        self.pool.give_back(self.class, core::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_never_exceed_the_budget_and_come_back() {
        let budget = Budget::new(40 * 1024);
        let pool = Pool::new(Arc::clone(&budget));
        let first = pool.lease(1).unwrap();
        let second = pool.lease(16 * 1024).unwrap();
        assert_eq!(pool.lease(1).err(), Some(Exhausted));
        assert_eq!(budget.leased_bytes(), 32 * 1024);
        drop((first, second));
        assert_eq!(budget.leased_bytes(), 0);
        assert_eq!(pool.lease(usize::MAX).err(), Some(Exhausted));
    }

    #[test]
    fn a_returned_buffer_is_wiped_and_reused() {
        let pool = Pool::new(Budget::new(1 << 20));
        let mut buffer = pool.lease(100).unwrap();
        buffer.append(b"secret");
        buffer.extend(10).unwrap().fill(7);
        buffer.consume(16);
        let place = buffer.bytes.as_ptr();
        drop(buffer);
        let buffer = pool.lease(100).unwrap();
        assert_eq!(buffer.bytes.as_ptr(), place, "reused");
        assert!(buffer.bytes.iter().all(|byte| *byte == 0), "wiped");
    }

    #[test]
    fn growing_keeps_the_bytes_and_wipes_the_old_lease() {
        let pool = Pool::new(Budget::new(4 << 20));
        let mut buffer = pool.lease(10).unwrap();
        buffer.append(b"xxkept");
        buffer.consume(2);
        buffer.reserve(100_000).unwrap();
        assert_eq!(buffer.filled(), b"kept");
        assert!(buffer.room() >= 100_000);
        let old = pool.lease(10).unwrap();
        assert!(old.bytes.iter().all(|byte| *byte == 0));
        assert_eq!(buffer.reserve(usize::MAX), Err(Exhausted));
        assert_eq!(buffer.filled(), b"kept");
    }

    #[test]
    fn a_vacant_buffer_holds_nothing_until_it_is_asked() {
        let budget = Budget::new(16 * 1024);
        let pool = Pool::new(Arc::clone(&budget));
        let mut buffer = pool.vacant();
        assert!(buffer.extend(1).is_none());
        assert_eq!(budget.leased_bytes(), 0);
        buffer.reserve(1).unwrap();
        assert!(buffer.append(b"a"));
        assert_eq!(budget.leased_bytes(), 16 * 1024);
        buffer.release();
        assert_eq!(budget.leased_bytes(), 0);
        assert!(buffer.filled().is_empty());
    }

    #[test]
    fn compacting_makes_room_without_a_new_lease() {
        let pool = Pool::new(Budget::new(16 * 1024));
        let mut buffer = pool.lease(10).unwrap();
        buffer.extend(16 * 1024).unwrap().fill(b'a');
        assert!(buffer.extend(1).is_none());
        buffer.consume(1024);
        buffer.reserve(1024).unwrap();
        assert_eq!(buffer.filled().len(), 15 * 1024);
        assert_eq!(buffer.room(), 1024);
    }
}
