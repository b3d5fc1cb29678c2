//! Connections that got no place.
//!
//! Owns a worker's counts of them. Invariant: the log tells of the first one at once, and of all others once in
//! `limits::REFUSALS_TOLD_MILLIS` with their number, so that nobody can fill it.

use core::fmt;
use std::sync::Arc;

use crate::clock::Moment;
use crate::limits::REFUSALS_TOLD_MILLIS;
use crate::log::{self, Module};
use crate::metrics::{Refusal, Worker as Counters};
use crate::server::census::Refused;

/// Why a connection got no place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reason {
    /// There is none for it.
    Refused(Refused),
    /// The system had no descriptor or no memory for it.
    Exhausted,
}

/// In the order of [`Refusal::ALL`].
const REASONS: [&str; Refusal::ALL.len()] = [
    "all places were taken (--max-connections)",
    "their address had too many (--max-connections-per-address)",
    "there were too many TLS handshakes (--max-handshakes)",
    "their address had too many TLS handshakes (--max-handshakes-per-address)",
    "the system had no descriptor or no memory for them",
];

/// The connections of a worker that got no place and of which nothing was told.
#[derive(Debug)]
pub(super) struct TurnedAway {
    /// Those of the worker, for metrics.
    all: Arc<Counters>,
    counts: [u64; REASONS.len()],
    /// Before this nothing more is told.
    quiet_until: Moment,
}

impl TurnedAway {
    /// Nobody yet.
    pub(super) fn new(all: Arc<Counters>) -> Self {
        Self { all, counts: [0; REASONS.len()], quiet_until: Moment::default() }
    }

    /// Counts one.
    pub(super) fn count(&mut self, reason: Reason) {
        let reason = match reason {
            Reason::Refused(Refused::Full) => Refusal::Full,
            Reason::Refused(Refused::Address) => Refusal::Address,
            Reason::Refused(Refused::Handshakes) => Refusal::Handshakes,
            Reason::Refused(Refused::AddressHandshakes) => Refusal::AddressHandshakes,
            Reason::Exhausted => Refusal::Exhausted,
        };
        let index = reason as usize;
        Counters::count(&self.all.refused, index, 1);
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
        }
    }

    /// Whether there is something to tell, now or later.
    pub(super) fn pending(&self) -> bool {
        self.counts.iter().any(|count| *count > 0)
    }

    /// Tells of those that were counted, if it is time.
    pub(super) fn tell(&mut self, now: Moment) {
        if let Some(summary) = self.summary(now) {
            log::warn(Module::Network, format_args!("connections without a place: {summary}"));
        }
    }

    fn summary(&mut self, now: Moment) -> Option<Summary> {
        if !self.pending() || now < self.quiet_until {
            return None;
        }
        self.quiet_until = now.plus_millis(REFUSALS_TOLD_MILLIS);
        Some(Summary(core::mem::take(&mut self.counts)))
    }
}

struct Summary([u64; REASONS.len()]);

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.0.iter().zip(REASONS).filter(|(count, _)| **count > 0);
        for (number, (count, reason)) in told.enumerate() {
            let between = if number == 0 { "" } else { "; " };
            write!(f, "{between}{count}, since {reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_one_line_at_once_and_one_later() {
        let mut turned_away = TurnedAway::new(Arc::default());
        let start = Moment::default().plus_millis(1);
        let mut lines = Vec::new();
        for step in 0..1_000 {
            turned_away.count(Reason::Refused(Refused::Full));
            let line = turned_away.summary(start.plus_millis(step));
            lines.extend(line.map(|line| line.to_string()));
        }
        turned_away.count(Reason::Exhausted);
        assert!(turned_away.pending());
        let later = turned_away.summary(start.plus_millis(REFUSALS_TOLD_MILLIS));
        lines.extend(later.map(|line| line.to_string()));
        assert_eq!(
            lines,
            [
                "1, since all places were taken (--max-connections)",
                "999, since all places were taken (--max-connections); \
                 1, since the system had no descriptor or no memory for them",
            ]
        );
        assert!(!turned_away.pending());
        assert_eq!(turned_away.all.refused[Refusal::Full as usize].get(), 1_000, "what was told counts on");
    }
}
