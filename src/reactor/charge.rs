//! Memory that is held beside the buffers and counts as they do.
//!
//! Owns [`Charge`]. Invariants: what all charges of a budget hold together is at most their share of it; a charge that is
//! dropped holds nothing.

use std::sync::Arc;

use crate::reactor::lease::{Budget, Exhausted};

/// What one holder keeps of a budget.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    held: usize,
}

impl Charge {
    /// A charge of nothing.
    #[must_use]
    pub fn of(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), held: 0 }
    }

    /// Holds so many bytes from now on, more or fewer than before.
    ///
    /// # Errors
    /// [`Exhausted`] if the budget or the share of all charges does not allow it; the charge is as it was.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Exhausted> {
        if bytes > self.held {
            self.budget.take_beside(bytes - self.held)?;
        } else if bytes < self.held {
            self.budget.give_back_beside(self.held - bytes);
        }
        self.held = bytes;
        Ok(())
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give_back_beside(self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::LEASE_BESIDE_SHARE_COUNT;
    use crate::reactor::Pool;

    #[test]
    fn charges_count_with_the_leases_and_have_a_share_of_their_own() {
        let total = 16 << 20;
        let budget = Budget::new(total);
        let share = total / LEASE_BESIDE_SHARE_COUNT;
        let (mut one, mut other) = (Charge::of(&budget), Charge::of(&budget));
        one.hold(share - 10).unwrap();
        other.hold(10).unwrap();
        assert_eq!(other.hold(11), Err(Exhausted));
        assert_eq!((budget.made_bytes(), budget.leased_bytes()), (share, share));
        one.hold(5).unwrap();
        other.hold(20).unwrap();
        assert_eq!(budget.made_bytes(), 25);
        drop((one, other));
        assert_eq!(budget.made_bytes(), 0);
        // What leases have taken is not there for charges.
        let small = Budget::new(40 * 1024);
        let pool = Pool::new(Arc::clone(&small));
        let _leases = (pool.lease(1).unwrap(), pool.lease(1).unwrap());
        let mut late = Charge::of(&small);
        assert_eq!(late.hold(9 * 1024), Err(Exhausted));
        late.hold(8 * 1024).unwrap();
    }
}
