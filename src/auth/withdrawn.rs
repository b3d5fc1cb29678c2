//! Tokens that were given back before their end.
//!
//! Owns [`Withdrawn`]. Invariants: a token in it is refused until it would have ended anyway, by every worker and at once; it
//! holds a bounded number, of each API key and of all, and says so when it has no room, so that nobody is told of a withdrawal
//! that did not happen, and no API key takes the room of the others.
//! It does not outlive the process: a rotation of the API key does, and withdraws all of its tokens.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::clock::WallTime;
use crate::limits::{TOKEN_LEEWAY_MILLIS, TOKENS_WITHDRAWN_MAX_COUNT, TOKENS_WITHDRAWN_PER_KEY_MAX_COUNT};
use crate::model::ApiKeyId;

/// As many tokens are withdrawn as can be, or as can be of one API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// The identifiers of tokens, whose each was, and when it would have ended.
#[derive(Debug, Default)]
pub struct Withdrawn {
    tokens: Mutex<BTreeMap<Box<str>, (ApiKeyId, WallTime)>>,
    /// How many there are: without any, a look takes no lock.
    count: AtomicUsize,
}

impl Withdrawn {
    /// Adds the token of this identifier, which is of the API key `owner` and would end at `expires`.
    ///
    /// # Errors
    /// [`NoRoom`]
    pub fn add(&self, owner: ApiKeyId, id: &str, expires: WallTime, now: WallTime) -> Result<(), NoRoom> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |tokens: &BTreeMap<Box<str>, (ApiKeyId, WallTime)>| {
            let own = tokens.values().filter(|(other, _)| *other == owner).count();
            tokens.len() >= TOKENS_WITHDRAWN_MAX_COUNT || own >= TOKENS_WITHDRAWN_PER_KEY_MAX_COUNT
        };
        if is_full(&tokens) {
            tokens.retain(|_, (_, ends)| {
                now.as_millis() <= ends.as_millis().saturating_add(TOKEN_LEEWAY_MILLIS)
            });
        }
        if is_full(&tokens) {
            return Err(NoRoom);
        }
        tokens.insert(id.into(), (owner, expires));
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

    fn owner(number: usize) -> ApiKeyId {
        ApiKeyId::parse(format!("{number:08x}").as_bytes()).unwrap()
    }

    #[test]
    fn what_was_withdrawn_is_found_and_nothing_else() {
        let withdrawn = Withdrawn::default();
        let (now, later) = (WallTime::from_millis(1_000), WallTime::from_millis(2_000));
        assert!(!withdrawn.has("a"));
        withdrawn.add(owner(1), "a", later, now).unwrap();
        assert!(withdrawn.has("a") && !withdrawn.has("b"));
    }

    #[test]
    fn room_is_made_by_those_that_have_ended_and_by_no_others() {
        let withdrawn = Withdrawn::default();
        let (now, later) = (WallTime::from_millis(1_000), WallTime::from_millis(2_000));
        for number in 0..TOKENS_WITHDRAWN_MAX_COUNT {
            let of = owner(number / TOKENS_WITHDRAWN_PER_KEY_MAX_COUNT);
            withdrawn.add(of, &number.to_string(), later, now).unwrap();
        }
        let other = owner(usize::from(u16::MAX));
        assert_eq!(withdrawn.add(other, "a", later, now), Err(NoRoom));
        let end = WallTime::from_millis(later.as_millis() + TOKEN_LEEWAY_MILLIS);
        assert_eq!(withdrawn.add(other, "a", later, end), Err(NoRoom));
        let after = WallTime::from_millis(end.as_millis() + 1);
        withdrawn.add(other, "a", WallTime::from_millis(u64::MAX), after).unwrap();
        assert!(withdrawn.has("a") && !withdrawn.has("0"));
    }

    #[test]
    fn one_api_key_leaves_room_for_the_others() {
        let withdrawn = Withdrawn::default();
        let (now, later) = (WallTime::from_millis(1_000), WallTime::from_millis(2_000));
        for number in 0..TOKENS_WITHDRAWN_PER_KEY_MAX_COUNT {
            withdrawn.add(owner(1), &number.to_string(), later, now).unwrap();
        }
        assert_eq!(withdrawn.add(owner(1), "a", later, now), Err(NoRoom));
        withdrawn.add(owner(2), "a", later, now).unwrap();
        assert!(withdrawn.has("a"));
    }
}
