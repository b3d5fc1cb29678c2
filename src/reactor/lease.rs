//! Leased memory: buffers in a few sizes, under one budget, wiped before anyone else gets them.
//!
//! Owns [`Budget`] (one for the process), [`Pool`] (one for each loop) and [`Buffer`]. Invariants: the sum of all
//! buffers, in use and kept for the next lease, never exceeds the budget; nobody's buffers exceed a share of it; a
//! returned buffer is zero in every byte that was ever written during the lease; a lease that the pool can serve from
//! returned buffers allocates nothing; whose account is short of room gets no more than it needs; when strangers hold all that they
//! may, one more still gets a small buffer as a **guest**, to be heard or answered at once, and not to wait with it.

use core::cell::RefCell;
use core::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

use crate::limits::{
    LEASE_CLASSES_BYTES, LEASE_GROWTH_TIMES, LEASE_GUESTS_SHARE_COUNT, LEASE_KEPT_COUNT,
    LEASE_KEPT_SHARE_COUNT, LEASE_SHARE_COUNT, LEASE_SHARE_FLOOR_BYTES, LEASE_SHORT_SHARE_COUNT,
    LEASE_USUAL_BYTES,
};
use crate::memory;
use crate::quota::Tally;
use crate::reactor::account::{Account, Accounts};

/// The budget or somebody's share of it is spent, or the size is beyond the largest class: the work must be refused,
/// not the memory taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// How many bytes all loops together may have on lease.
#[derive(Debug)]
pub struct Budget {
    total: usize,
    /// How much of it one account may hold.
    share: usize,
    /// How much of it nobody known may hold, guests apart.
    unknown_most: usize,
    /// How much of it guests may hold.
    guests_most: usize,
    /// How much of it returned buffers may take.
    kept_most: usize,
    /// All buffers that exist.
    made: Tally,
    /// Those of them that wait for the next lease.
    kept: Arc<Tally>,
    /// What is leased for nobody who is known.
    unknown: Arc<Tally>,
    /// What is leased for those of them who are guests.
    guests: Tally,
    /// What is held beside the buffers for those who are not known, beyond what each loop has for them.
    strangers: Tally,
}

impl Budget {
    /// A budget of `total` bytes.
    #[must_use]
    pub fn new(total: usize) -> Arc<Self> {
        let share = (total / LEASE_SHARE_COUNT).max(LEASE_SHARE_FLOOR_BYTES);
        let guests_most = total / LEASE_GUESTS_SHARE_COUNT;
        Arc::new(Self {
            total,
            share,
            unknown_most: share - guests_most,
            guests_most,
            kept_most: total / LEASE_KEPT_SHARE_COUNT,
            made: Tally::default(),
            kept: Arc::default(),
            unknown: Arc::default(),
            guests: Tally::default(),
            strangers: Tally::default(),
        })
    }

    /// How many bytes there may be.
    #[must_use]
    pub const fn total_bytes(&self) -> usize {
        self.total
    }

    /// Bytes on lease now.
    #[must_use]
    pub fn leased_bytes(&self) -> usize {
        self.made.held_bytes().saturating_sub(self.kept.held_bytes())
    }

    /// Bytes of the buffers of those whom nobody has recognised.
    #[must_use]
    pub fn strangers_bytes(&self) -> usize {
        self.unknown.held_bytes().saturating_add(self.guests.held_bytes())
    }

    /// How much of it one account may hold.
    pub(super) const fn share_bytes(&self) -> usize {
        self.share
    }

    pub(super) const fn strangers(&self) -> &Tally {
        &self.strangers
    }

    /// Gives back what was taken for something that is no buffer.
    pub(super) fn give_back_beside(&self, bytes: usize) {
        self.made.give_back(bytes);
    }

    /// Bytes of all buffers that exist: on lease, and kept for the next one.
    #[must_use]
    pub fn made_bytes(&self) -> usize {
        self.made.held_bytes()
    }
}

/// A loop's own buffers, in use or waiting for the next lease.
#[derive(Debug)]
pub struct Pool {
    budget: Arc<Budget>,
    accounts: Accounts,
    /// The account of all who are not known.
    unknown: Account,
    /// What is kept for the next lease counts as one account, too.
    resting: Account,
    kept: [RefCell<Vec<Box<[u8]>>>; LEASE_CLASSES_BYTES.len()],
}

impl Pool {
    /// A pool without buffers: they are made on first use and kept.
    #[must_use]
    pub fn new(budget: Arc<Budget>) -> Rc<Self> {
        Self::with(budget, Accounts::new(false))
    }

    /// The same for a loop that [settles](Self::settle) at the end of each turn.
    #[must_use]
    pub fn settling(budget: Arc<Budget>) -> Rc<Self> {
        Self::with(budget, Accounts::new(true))
    }

    fn with(budget: Arc<Budget>, accounts: Accounts) -> Rc<Self> {
        let [unknown, resting] = [&budget.unknown, &budget.kept].map(|tally| Account::of(Arc::clone(tally)));
        let kept = LEASE_KEPT_COUNT.map(|count| RefCell::new(Vec::with_capacity(count)));
        Rc::new(Self { budget, accounts, unknown, resting, kept })
    }

    /// Tells all loops what this one holds. In between it writes what they share as seldom as it can.
    pub fn settle(&self) {
        self.accounts.settle();
    }

    /// The account of this tally.
    #[must_use]
    pub fn account(&self, tally: &Arc<Tally>) -> Account {
        self.accounts.of(tally)
    }

    /// Leases a buffer that holds `bytes`, for nobody who is known: of the usual class or a larger one, or, if room is
    /// short, of the smallest that will do.
    ///
    /// # Errors
    /// [`Exhausted`] if no class is that large, or budget or share do not allow it.
    pub fn lease(self: &Rc<Self>, bytes: usize) -> Result<Buffer, Exhausted> {
        self.lease_for(None, bytes)
    }

    fn lease_for(self: &Rc<Self>, account: Option<Account>, bytes: usize) -> Result<Buffer, Exhausted> {
        let class = self.class_for(account.as_ref(), bytes).ok_or(Exhausted)?;
        let size = LEASE_CLASSES_BYTES.get(class).copied().ok_or(Exhausted)?;
        let is_guest = match &account {
            Some(account) if self.accounts.take(account, size, self.budget.share) => false,
            None if self.accounts.take(&self.unknown, size, self.budget.unknown_most) => false,
            None if size <= LEASE_USUAL_BYTES && self.budget.guests.take(size, self.budget.guests_most) => {
                true
            }
            _ => return Err(Exhausted),
        };
        match self.obtain(class, size) {
            Some(bytes) => {
                let pool = Rc::clone(self);
                Ok(Buffer { bytes, start: 0, end: 0, high: 0, class, account, is_guest, pool })
            }
            None => {
                self.give_back_of(account.as_ref(), is_guest, size);
                Err(Exhausted)
            }
        }
    }

    /// A buffer without memory: it takes a lease when it is first asked to [`reserve`](Buffer::reserve).
    #[must_use]
    pub fn vacant(self: &Rc<Self>) -> Buffer {
        self.vacant_for(None)
    }

    fn vacant_for(self: &Rc<Self>, account: Option<Account>) -> Buffer {
        let class = LEASE_CLASSES_BYTES.len();
        let (bytes, pool) = (Box::default(), Rc::clone(self));
        Buffer { bytes, start: 0, end: 0, high: 0, class, account, is_guest: false, pool }
    }

    /// Whether this account holds so much of its share that it gets no more than it needs.
    fn is_short(&self, account: Option<&Account>) -> bool {
        account.unwrap_or(&self.unknown).held_bytes() > self.budget.share / LEASE_SHORT_SHARE_COUNT
    }

    /// The class of a buffer for this account that holds `bytes`.
    fn class_for(&self, account: Option<&Account>, bytes: usize) -> Option<usize> {
        // To read and to answer in small pieces costs time, and is done where there is no room for anything else.
        let least = if self.is_short(account) { bytes } else { bytes.max(LEASE_USUAL_BYTES) };
        LEASE_CLASSES_BYTES.iter().position(|size| *size >= least)
    }

    fn give_back_of(&self, account: Option<&Account>, is_guest: bool, bytes: usize) {
        if is_guest {
            self.budget.guests.give_back(bytes);
        } else {
            self.accounts.give_back(account.unwrap_or(&self.unknown), bytes);
        }
    }

    /// Bytes on lease now, as this loop knows it.
    fn leased_bytes(&self) -> usize {
        self.budget.made.held_bytes().saturating_sub(self.resting.held_bytes())
    }

    /// A buffer of this class: a kept one, or a new one if there is room for it, if need be in place of kept ones.
    fn obtain(&self, class: usize, size: usize) -> Option<Box<[u8]>> {
        if let Some(bytes) = self.kept.get(class).and_then(|kept| kept.borrow_mut().pop()) {
            self.accounts.give_back(&self.resting, size);
            return Some(bytes);
        }
        self.take_made(size)?;
        // The budget is far below what the heap has; should it be in too many pieces all the same, work is refused.
        let made = memory::zeroed(size);
        if made.is_none() {
            self.budget.made.give_back(size);
        }
        made
    }

    fn take_made(&self, bytes: usize) -> Option<()> {
        while !self.budget.made.take(bytes, self.budget.total) {
            self.drop_kept()?;
        }
        Some(())
    }

    pub(super) const fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Takes `bytes` of the budget for something that is no buffer, if need be in place of kept ones.
    pub(super) fn take_beside(&self, bytes: usize) -> Result<(), Exhausted> {
        self.take_made(bytes).ok_or(Exhausted)
    }

    /// Gives one of the largest kept buffers back to the allocator; nothing if there is none.
    fn drop_kept(&self) -> Option<()> {
        let bytes = self.kept.iter().rev().find_map(|kept| kept.borrow_mut().pop())?;
        self.accounts.give_back(&self.resting, bytes.len());
        self.budget.made.give_back(bytes.len());
        Some(())
    }

    /// Whether a buffer that holds `bytes` could be leased now for this account.
    fn could_lease(&self, account: Option<&Account>, bytes: usize) -> bool {
        let class = self.class_for(account, bytes);
        let Some(size) = class.and_then(|class| LEASE_CLASSES_BYTES.get(class)) else { return false };
        let free = |held: usize, most: usize| held.checked_add(*size).is_some_and(|sum| sum <= most);
        let most = if account.is_some() { self.budget.share } else { self.budget.unknown_most };
        free(account.unwrap_or(&self.unknown).held_bytes(), most)
            && free(self.leased_bytes(), self.budget.total)
    }

    fn give_back(&self, class: usize, bytes: Box<[u8]>) {
        let size = bytes.len();
        let Some(kept) = self.kept.get(class) else { return };
        let mut kept = kept.borrow_mut();
        // The capacity was set at the start and is never grown: what does not fit goes back to the allocator.
        if kept.len() < kept.capacity() && self.accounts.take(&self.resting, size, self.budget.kept_most) {
            kept.push(bytes);
            return;
        }
        drop(bytes);
        self.budget.made.give_back(size);
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
    account: Option<Account>,
    /// Whether it was leased beyond what nobody known may hold.
    is_guest: bool,
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

    /// Gives the memory back, wiped. What it takes next is for nobody who is known.
    pub fn release(&mut self) {
        let vacant = self.pool.vacant();
        *self = vacant;
    }

    /// Gives the memory back, and stays on its account.
    pub fn put_down(&mut self) {
        let vacant = self.pool.vacant_for(self.account.clone());
        *self = vacant;
    }

    /// On whose account it is, if that is known.
    #[must_use]
    pub const fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// The account of this tally, for leases of the same loop.
    #[must_use]
    pub fn account_of(&self, tally: &Arc<Tally>) -> Account {
        match &self.account {
            Some(own) if Arc::ptr_eq(own.tally(), tally) => own.clone(),
            _ => self.pool.account(tally),
        }
    }

    /// Moves the memory, and what it takes from here on, to this account.
    ///
    /// # Errors
    /// [`Exhausted`] if its share has no room for it; the buffer is as it was.
    pub fn charge(&mut self, account: &Account) -> Result<(), Exhausted> {
        if self.account.as_ref().is_some_and(|own| own.is(account)) {
            return Ok(());
        }
        if !self.pool.accounts.take(account, self.bytes.len(), self.pool.budget.share) {
            return Err(Exhausted);
        }
        self.pool.give_back_of(self.account.as_ref(), self.is_guest, self.bytes.len());
        (self.account, self.is_guest) = (Some(account.clone()), false);
        Ok(())
    }

    /// Makes of a guest one that may wait for its peer; everybody else may.
    ///
    /// # Errors
    /// [`Exhausted`] if there is no room for that: whoever holds it must be done with it at once.
    pub fn stay(&mut self) -> Result<(), Exhausted> {
        if self.is_guest {
            let budget = &self.pool.budget;
            if !self.pool.accounts.take(&self.pool.unknown, self.bytes.len(), budget.unknown_most) {
                return Err(Exhausted);
            }
            budget.guests.give_back(self.bytes.len());
            self.is_guest = false;
        }
        Ok(())
    }

    /// Whether its account holds so much that it should hold on to no more than it needs.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.pool.is_short(self.account.as_ref())
    }

    /// Makes room for more of a head: all that the usual class holds, or, if room is short, some.
    ///
    /// # Errors
    /// [`Exhausted`] if there is none; the buffer is as it was.
    pub fn reserve_head(&mut self) -> Result<(), Exhausted> {
        if self.is_short() {
            return self.reserve(1);
        }
        // A pipelining peer may have filled the lease with the requests before this one.
        let filled = self.end - self.start;
        self.reserve(LEASE_USUAL_BYTES - filled.min(LEASE_USUAL_BYTES - 1))
    }

    /// Moves what is filled to a smaller lease, if room is short and one will do: whoever lets others wait for more holds
    /// as little as possible.
    pub fn shrink(&mut self) {
        let filled = self.end - self.start;
        let smaller = LEASE_CLASSES_BYTES.iter().any(|size| *size > filled && *size < self.bytes.len());
        if smaller
            && self.is_short()
            && let Ok(mut small) = self.pool.lease_for(self.account.clone(), filled + 1)
            && small.append(self.filled())
        {
            core::mem::swap(self, &mut small);
        }
    }

    /// Makes some room, at most for `count` bytes, as [`grow`](Self::grow) does.
    ///
    /// # Errors
    /// [`Exhausted`] if there is none, or if all of it could not be had now; the buffer is as it was.
    pub fn reserve_some(&mut self, count: usize) -> Result<(), Exhausted> {
        if self.room() >= count {
            return Ok(());
        }
        let needed = (self.end - self.start).checked_add(count).ok_or(Exhausted)?;
        if needed > self.bytes.len() && !self.pool.could_lease(self.account.as_ref(), needed) {
            return Err(Exhausted);
        }
        self.grow(count)
    }

    /// Makes some room, at most for `count` bytes: none is taken while there is some left, and then a few times what has come, or, if
    /// room is short, one class more. So memory grows with what comes and not with what is announced, and most bodies
    /// are moved once.
    ///
    /// # Errors
    /// [`Exhausted`] if there is none; the buffer is as it was.
    pub fn grow(&mut self, count: usize) -> Result<(), Exhausted> {
        if count == 0 || self.room() > 0 {
            return Ok(());
        }
        let filled = self.end - self.start;
        let most = filled.saturating_mul(LEASE_GROWTH_TIMES - 1);
        if count > 1 && most > 1 && !self.is_short() && self.reserve(count.min(most)).is_ok() {
            return Ok(());
        }
        self.reserve(1)
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
        let mut larger = self.pool.lease_for(self.account.clone(), needed)?;
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
        self.pool.give_back_of(self.account.as_ref(), self.is_guest, self.bytes.len());
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

    #[test]
    fn what_is_kept_for_the_next_lease_counts_and_gives_way() {
        let budget = Budget::new(128 * 1024);
        let pool = Pool::new(Arc::clone(&budget));
        drop([0; 3].map(|_| pool.lease(1).unwrap()));
        assert_eq!(budget.leased_bytes(), 0);
        assert_eq!(budget.made_bytes(), 32 * 1024, "a quarter of the budget is kept at most");
        let all = pool.lease(128 * 1024).unwrap();
        assert_eq!((budget.leased_bytes(), budget.made_bytes()), (128 * 1024, 128 * 1024));
        drop(all);
        assert_eq!(budget.made_bytes(), 0);
    }

    #[test]
    fn nobody_holds_more_than_a_share_and_it_moves_with_the_account() {
        let budget = Budget::new(16 << 20);
        let pool = Pool::new(Arc::clone(&budget));
        let (one, other) = (Arc::new(Tally::default()), Arc::new(Tally::default()));
        let mut held: Vec<Buffer> = (0..3).map(|_| pool.lease(2 << 20).unwrap()).collect();
        assert_eq!(pool.lease(2 << 20).err(), Some(Exhausted), "the rest of the half is for guests");
        for buffer in &mut held {
            buffer.charge(&pool.account(&one)).unwrap();
        }
        let mut last = pool.lease(2 << 20).unwrap();
        last.charge(&pool.account(&one)).unwrap();
        held.push(last);
        assert_eq!(one.held_bytes(), 8 << 20);
        let mut more = pool.lease(1).unwrap();
        assert_eq!(more.charge(&pool.account(&one)), Err(Exhausted));
        more.charge(&pool.account(&other)).unwrap();
        more.charge(&pool.account(&other)).unwrap();
        assert_eq!(other.held_bytes(), 16 * 1024);
        more.reserve(17 * 1024).unwrap();
        assert_eq!(other.held_bytes(), 32 * 1024, "what it grows to is on the same account");
        more.release();
        drop(held);
        assert_eq!((one.held_bytes(), other.held_bytes(), budget.leased_bytes()), (0, 0, 0));
        assert_eq!(budget.unknown.held_bytes(), 0);
    }

    #[test]
    fn when_strangers_hold_all_that_they_may_one_more_is_a_guest_until_it_has_to_wait() {
        let budget = Budget::new(16 << 20);
        let pool = Pool::new(Arc::clone(&budget));
        let mut strangers: Vec<Buffer> = Vec::new();
        while let Some(buffer) = pool.lease(2 * 1024).ok().filter(|buffer| !buffer.is_guest) {
            strangers.push(buffer);
        }
        assert_eq!(budget.unknown.held_bytes(), budget.unknown_most);
        let mut guest = pool.lease(1).unwrap();
        assert!(guest.is_guest && guest.append(b"asked at once"));
        assert_eq!(guest.stay(), Err(Exhausted));
        assert_eq!(pool.lease(64 * 1024).err(), Some(Exhausted), "a guest asks for little");
        let account = Arc::new(Tally::default());
        guest.charge(&pool.account(&account)).unwrap();
        assert_eq!(guest.stay(), Ok(()), "it is known now");
        assert_eq!(guest.filled(), b"asked at once");
        assert_eq!((account.held_bytes(), budget.guests.held_bytes()), (2 * 1024, 0));
        let mut guests: Vec<Buffer> = Vec::new();
        while let Ok(buffer) = pool.lease(1) {
            guests.push(buffer);
        }
        assert_eq!(budget.guests.held_bytes(), budget.guests_most);
        strangers.pop();
        assert_eq!((guests[0].stay(), guests[1].stay()), (Ok(()), Err(Exhausted)));
        drop((strangers, guests, guest));
        assert_eq!(
            (budget.unknown.held_bytes(), budget.guests.held_bytes(), budget.leased_bytes()),
            (0, 0, 0)
        );
    }

    #[test]
    fn an_account_that_is_short_of_room_gets_as_little_as_will_do() {
        let budget = Budget::new(64 << 20);
        let pool = Pool::new(Arc::clone(&budget));
        let short = Arc::new(Tally::default());
        let mut head = pool.lease_for(Some(pool.account(&short)), 1).unwrap();
        assert_eq!(head.capacity(), LEASE_USUAL_BYTES);
        head.append(b"begun");
        head.shrink();
        assert_eq!(head.capacity(), LEASE_USUAL_BYTES, "there is room");
        let large: Vec<Buffer> =
            (0..5).map(|_| pool.lease_for(Some(pool.account(&short)), 2 << 20).unwrap()).collect();
        assert!(head.is_short() && !pool.vacant().is_short(), "others are not");
        head.shrink();
        assert_eq!((head.capacity(), head.filled()), (2 * 1024, &b"begun"[..]));
        head.reserve_head().unwrap();
        assert_eq!(head.capacity(), 2 * 1024, "there is some left");
        head.extend(head.room()).unwrap().fill(b'a');
        head.reserve_head().unwrap();
        assert_eq!(head.capacity(), 4 * 1024);
        drop(large);
        head.reserve_head().unwrap();
        assert_eq!(head.capacity(), LEASE_USUAL_BYTES);
        assert_eq!(short.held_bytes(), LEASE_USUAL_BYTES);
    }

    #[test]
    fn memory_grows_with_what_has_come_and_not_with_what_is_announced() {
        let budget = Budget::new(8 << 20);
        let pool = Pool::new(Arc::clone(&budget));
        let mut little = pool.lease(1).unwrap();
        little.extend(LEASE_USUAL_BYTES - 1).unwrap().fill(b'a');
        little.reserve_some(1 << 20).unwrap();
        assert_eq!(little.capacity(), LEASE_USUAL_BYTES, "there is some left");
        little.append(b"a");
        little.reserve_some(6_000).unwrap();
        assert_eq!(little.capacity(), 32 * 1024, "no more than is announced");
        drop(little);
        let mut buffer = pool.lease(1).unwrap();
        buffer.append(b"head");
        let mut sizes = Vec::new();
        let mut left: usize = 1 << 20;
        while left > 0 {
            buffer.reserve_some(left).unwrap();
            let count = buffer.room().min(left).min(10_000);
            buffer.extend(count).unwrap().fill(b'a');
            left -= count;
            sizes.push(buffer.capacity());
        }
        sizes.dedup();
        assert_eq!(
            sizes,
            [LEASE_USUAL_BYTES, 128 * 1024, 2 << 20],
            "each time full, and then at most some times what has come"
        );
        assert!(buffer.filled().starts_with(b"heada"));
        assert_eq!(pool.lease(1).unwrap().reserve_some(usize::MAX), Err(Exhausted));
        let _rest: Vec<Buffer> = (0..1).map(|_| pool.lease(2 << 20).unwrap()).collect();
        let mut late = pool.lease(1).unwrap();
        assert_eq!(
            late.reserve_some(1 << 20),
            Err(Exhausted),
            "what could not be had in the end is not begun"
        );
        assert_eq!(late.capacity(), 2 * 1024, "so much is held already that it got no more");
    }
}
