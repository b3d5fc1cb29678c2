//! Tokens that were given back before their end.
//!
//! Owns [`Withdrawn`]. Invariants: a token in it is refused until it would have ended anyway, by every worker and at once; it
//! holds a bounded number, and says so when it has no room, so that nobody is told of a withdrawal that did not happen.
//! It does not outlive the process: a rotation of the API key does, and withdraws all of its tokens.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::WallTime;
use crate::limits::{TOKEN_LEEWAY_MILLIS, TOKENS_WITHDRAWN_MAX_COUNT};

/// As many tokens are withdrawn as can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// The identifiers of tokens, and when each would have ended.
#[derive(Debug, Default)]
pub struct Withdrawn {
    tokens: Mutex<BTreeMap<Box<str>, WallTime>>,
    /// How many there are: without any, a look takes no lock.
    count: AtomicUsize,
}

impl Withdrawn {
    /// Adds the token of this identifier, which would end at `expires`.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn add(&self, id: &str, expires: WallTime, now: WallTime) -> Result<(), NoRoom> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.len() >= TOKENS_WITHDRAWN_MAX_COUNT {
            tokens.retain(|_, ends| now.as_millis() <= ends.as_millis().saturating_add(TOKEN_LEEWAY_MILLIS));
        }
        if tokens.len() >= TOKENS_WITHDRAWN_MAX_COUNT {
            return Err(NoRoom);
        }
        tokens.insert(id.into(), expires);
        self.count.store(tokens.len(), Ordering::Release);
        Ok(())
    }

    /// Whether the token of this identifier was withdrawn.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.count.load(Ordering::Acquire) > 0
            && self.tokens.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_withdrawn_is_found_and_nothing_else() {
        let withdrawn = Withdrawn::default();
        let (now, later) = (WallTime::from_millis(1_000), WallTime::from_millis(2_000));
        assert!(!withdrawn.has("a"));
        withdrawn.add("a", later, now).unwrap();
        assert!(withdrawn.has("a") && !withdrawn.has("b"));
    }

    #[test]
    fn room_is_made_by_those_that_have_ended_and_by_no_others() {
        let withdrawn = Withdrawn::default();
        let (now, later) = (WallTime::from_millis(1_000), WallTime::from_millis(2_000));
        for number in 0..TOKENS_WITHDRAWN_MAX_COUNT {
            withdrawn.add(&number.to_string(), later, now).unwrap();
        }
        assert_eq!(withdrawn.add("a", later, now), Err(NoRoom));
        let end = WallTime::from_millis(later.as_millis() + TOKEN_LEEWAY_MILLIS);
        assert_eq!(withdrawn.add("a", later, end), Err(NoRoom));
        let after = WallTime::from_millis(end.as_millis() + 1);
        withdrawn.add("a", WallTime::from_millis(u64::MAX), after).unwrap();
        assert!(withdrawn.has("a") && !withdrawn.has("0"));
    }
}
