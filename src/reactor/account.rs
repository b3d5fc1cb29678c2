//! On whose account leases are, and what a loop holds of it in hand.
//!
//! Owns [`Account`] and `Accounts`. A tally is shared by all loops, so that each write of it takes a cache line from the others; a loop
//! takes of it in larger pieces and keeps in hand what it does not need at once. Invariants: what a loop has taken of a tally is what it holds
//! and what it has in hand; it has something in hand within a turn only, and never more than a bounded amount; a loop by itself
//! allows and refuses exactly what the tally would.

use core::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::limits::{
    ACCOUNT_HAND_MAX_BYTES, ACCOUNT_PIECE_MAX_BYTES, ACCOUNT_PIECE_SHARE_COUNT, ACCOUNTS_KEPT_COUNT,
};
use crate::quota::Tally;

/// A tally as one loop knows it; to have another of it touches nothing that loops share.
#[derive(Clone, Debug)]
pub struct Account(Rc<Own>);

#[derive(Debug)]
struct Own {
    tally: Arc<Tally>,
    /// What was taken of the tally and is not held.
    hand: Cell<usize>,
    /// Whether it is among those that the end of the turn settles.
    listed: Cell<bool>,
}

impl Account {
    pub(super) fn of(tally: Arc<Tally>) -> Self {
        Self(Rc::new(Own { tally, hand: Cell::new(0), listed: Cell::new(false) }))
    }

    /// What all loops hold of it; what others have in hand counts as held.
    pub(super) fn held_bytes(&self) -> usize {
        self.0.tally.held_bytes().saturating_sub(self.0.hand.get())
    }

    /// Whether both are the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.tally, &other.0.tally)
    }

    /// What all loops count.
    #[must_use]
    pub fn tally(&self) -> &Arc<Tally> {
        &self.0.tally
    }

    fn is_idle(&self) -> bool {
        Rc::strong_count(&self.0) == 1 && self.0.hand.get() == 0
    }
}

/// The accounts of one loop.
#[derive(Debug)]
pub(super) struct Accounts {
    /// Whether somebody settles at the end of each turn, so that something may be in hand until then.
    settled: bool,
    /// By the place of their tally, which they keep from being another's.
    known: RefCell<BTreeMap<usize, Account>>,
    listed: RefCell<Vec<Account>>,
}

impl Accounts {
    pub(super) const fn new(settled: bool) -> Self {
        Self { settled, known: RefCell::new(BTreeMap::new()), listed: RefCell::new(Vec::new()) }
    }

    /// The account of this tally.
    pub(super) fn of(&self, tally: &Arc<Tally>) -> Account {
        let place = Arc::as_ptr(tally).addr();
        let mut known = self.known.borrow_mut();
        if let Some(account) = known.get(&place) {
            return account.clone();
        }
        if known.len() >= ACCOUNTS_KEPT_COUNT {
            known.retain(|_, account| !account.is_idle());
        }
        let account = Account::of(Arc::clone(tally));
        known.insert(place, account.clone());
        account
    }

    /// Takes `bytes` if no more than `most` are held then; returns whether they were taken.
    pub(super) fn take(&self, account: &Account, bytes: usize, most: usize) -> bool {
        let Account(own) = account;
        let hand = own.hand.get();
        let Some(lacking) = bytes.checked_sub(hand).filter(|lacking| *lacking > 0) else {
            own.hand.set(hand.saturating_sub(bytes));
            return true;
        };
        let piece = (most / ACCOUNT_PIECE_SHARE_COUNT).min(ACCOUNT_PIECE_MAX_BYTES);
        if self.settled && piece > lacking && own.tally.take(piece, most) {
            own.hand.set(piece - lacking);
            self.list(account);
            return true;
        }
        let taken = own.tally.take(lacking, most);
        if taken {
            own.hand.set(0);
        }
        taken
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&self, account: &Account, bytes: usize) {
        let Account(own) = account;
        if bytes == 0 {
            return;
        }
        let hand = own.hand.get().saturating_add(bytes);
        if self.settled && hand <= ACCOUNT_HAND_MAX_BYTES {
            own.hand.set(hand);
            self.list(account);
        } else {
            own.tally.give_back(bytes);
        }
    }

    fn list(&self, account: &Account) {
        if !account.0.listed.replace(true) {
            self.listed.borrow_mut().push(account.clone());
        }
    }

    /// Gives back all that is in hand: at the end of a turn.
    pub(super) fn settle(&self) {
        for Account(own) in self.listed.borrow_mut().drain(..) {
            own.listed.set(false);
            let hand = own.hand.replace(0);
            if hand > 0 {
                own.tally.give_back(hand);
            }
        }
    }
}

impl Drop for Accounts {
    fn drop(&mut self) {
        self.settle();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 1 << 20;

    fn two() -> (Arc<Tally>, Accounts, Accounts) {
        (Arc::default(), Accounts::new(true), Accounts::new(true))
    }

    #[test]
    fn a_turn_takes_in_pieces_and_its_end_leaves_what_is_held() {
        let (tally, own, _) = two();
        let account = own.of(&tally);
        assert!(own.take(&account, 1_000, MOST));
        let piece = MOST / ACCOUNT_PIECE_SHARE_COUNT;
        assert_eq!((tally.held_bytes(), account.held_bytes()), (piece, 1_000));
        for _ in 0..5 {
            assert!(own.take(&account, 1_000, MOST));
        }
        assert_eq!((tally.held_bytes(), account.held_bytes()), (piece, 6_000), "nothing shared was written");
        own.settle();
        assert_eq!(tally.held_bytes(), 6_000);
        own.give_back(&account, 6_000);
        assert_eq!((tally.held_bytes(), account.held_bytes()), (6_000, 0));
        own.settle();
        assert_eq!(tally.held_bytes(), 0);
    }

    #[test]
    fn a_loop_by_itself_allows_and_refuses_what_the_tally_would() {
        let (tally, own, _) = two();
        let account = own.of(&tally);
        let mut held = 0;
        while own.take(&account, 30_000, MOST) {
            held += 30_000;
        }
        assert_eq!(held, MOST / 30_000 * 30_000);
        assert!(own.take(&account, MOST - held, MOST) && !own.take(&account, 1, MOST));
        assert_eq!((tally.held_bytes(), account.held_bytes()), (MOST, MOST));
        own.give_back(&account, 500);
        assert!(!own.take(&account, 501, MOST) && own.take(&account, 500, MOST));
    }

    #[test]
    fn what_one_loop_has_in_hand_another_gets_after_the_turn() {
        let (tally, one, other) = two();
        let (here, there) = (one.of(&tally), other.of(&tally));
        assert!(one.take(&here, MOST, MOST));
        one.give_back(&here, 1_000);
        assert!(!other.take(&there, 1_000, MOST));
        one.settle();
        assert!(other.take(&there, 1_000, MOST));
        one.give_back(&here, MOST - 1_000);
        assert!(here.0.hand.get() <= ACCOUNT_HAND_MAX_BYTES);
        drop(one);
        assert_eq!(tally.held_bytes(), 1_000, "the end of a loop gives all of it back");
    }

    #[test]
    fn where_nobody_settles_nothing_is_in_hand() {
        let (tally, own) = (Arc::default(), Accounts::new(false));
        let account = own.of(&tally);
        assert!(own.take(&account, 7, MOST));
        assert_eq!(tally.held_bytes(), 7);
        own.give_back(&account, 7);
        assert_eq!(tally.held_bytes(), 0);
    }

    #[test]
    fn accounts_that_nobody_has_are_forgotten_when_there_are_many() {
        let accounts = Accounts::new(true);
        let kept = accounts.of(&Arc::default());
        for _ in 0..10 * ACCOUNTS_KEPT_COUNT {
            let passing = accounts.of(&Arc::default());
            assert!(accounts.take(&passing, 1, MOST));
            accounts.give_back(&passing, 1);
            drop(passing);
            accounts.settle();
        }
        assert!(accounts.known.borrow().len() <= ACCOUNTS_KEPT_COUNT);
        assert!(accounts.of(kept.tally()).is(&kept), "one that somebody has is not");
    }
}
