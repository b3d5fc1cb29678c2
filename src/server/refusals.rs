//! How many requests without a valid credential get an audit line of their own.
//!
//! Owns the count of a worker's current second. Invariants: within a second at most
//! `limits::REFUSAL_LINES_PER_SECOND_COUNT` lines are written for callers that nobody recognised; the others are
//! counted, and their count becomes one line, so that the log tells of all of them and none of them can fill the disk.

use core::cell::Cell;

use crate::audit::line::{Event, Outcome};
use crate::clock::WallTime;
use crate::limits::REFUSAL_LINES_PER_SECOND_COUNT;

/// A worker's refusals.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    second: Cell<u64>,
    told: Cell<u64>,
    withheld: Cell<u64>,
}

impl Refusals {
    /// Whether the refusal of this moment gets a line of its own; if not, it is counted.
    pub(super) fn admit(&self, now: WallTime) -> bool {
        if self.second.replace(now.as_secs()) != now.as_secs() {
            self.told.set(0);
        }
        if self.told.get() < REFUSAL_LINES_PER_SECOND_COUNT {
            self.told.set(self.told.get() + 1);
            return true;
        }
        self.withheld.set(self.withheld.get() + 1);
        false
    }

    /// Whether refusals were counted that no line tells of.
    pub(super) fn pending(&self) -> bool {
        self.withheld.get() > 0
    }

    /// The line that tells of the counted refusals, once their second is over, or at the end of the service.
    pub(super) fn summary(&self, now: WallTime, ending: bool) -> Option<Event<'static>> {
        if !self.pending() || (!ending && self.second.get() == now.as_secs()) {
            return None;
        }
        let count = Some(self.withheld.replace(0));
        let code = Some("credential_refused");
        Some(Event {
            at: now,
            name: "auth.refused",
            outcome: Outcome::Failure,
            code,
            count,
            own: None,
            store: None,
            request: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_few_lines_and_a_count() {
        let refusals = Refusals::default();
        let (first, next) = (WallTime::from_millis(5_000), WallTime::from_millis(6_000));
        let told = (0..1_000).filter(|_| refusals.admit(first)).count() as u64;
        assert_eq!(told, REFUSAL_LINES_PER_SECOND_COUNT);
        assert!(refusals.summary(first, false).is_none(), "its second is not over");
        let count = refusals.summary(next, false).and_then(|event| event.count);
        assert_eq!(count, Some(1_000 - REFUSAL_LINES_PER_SECOND_COUNT));
        assert!(refusals.summary(next, false).is_none() && !refusals.pending());
        assert!(refusals.admit(next));
        assert!((0..1_000).any(|_| !refusals.admit(next)));
        assert!(refusals.summary(next, true).is_some(), "nothing stays uncounted at the end");
    }
}
