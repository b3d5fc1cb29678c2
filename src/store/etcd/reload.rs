//! When the whole state is read anew.
//!
//! Owns [`Reload`]. Invariants: after a change of this server of which nobody knows what came of it, at once; because of what etcd told, at once
//! the first time, and then after pauses that double, so that whoever lies does not keep a server reading.

use crate::clock::Moment;
use crate::limits::{ETCD_RELOAD_CALM_MILLIS, ETCD_RELOAD_PAUSE_MAX_MILLIS, ETCD_RELOAD_PAUSE_MILLIS};
use crate::log::{self, Module};

/// Whether the state has to be read before anything is believed.
#[derive(Debug)]
pub(super) struct Reload {
    is_wanted: bool,
    /// Whether because of what etcd told.
    is_doubted: bool,
    not_before: Moment,
    pause_millis: u64,
}

impl Default for Reload {
    fn default() -> Self {
        let not_before = Moment::from_nanos(0);
        Self { is_wanted: false, is_doubted: false, not_before, pause_millis: ETCD_RELOAD_PAUSE_MILLIS }
    }
}

impl Reload {
    /// Wants it at once.
    pub(super) const fn want(&mut self) {
        self.is_wanted = true;
        self.is_doubted = false;
    }

    /// Wants it because of what etcd told.
    pub(super) fn distrust(&mut self, why: &str) {
        if !self.is_wanted {
            (self.is_wanted, self.is_doubted) = (true, true);
            log::warn(
                Module::Store,
                format_args!("what etcd tells does not follow ({why}): the state is read anew"),
            );
        }
    }

    pub(super) const fn is_wanted(&self) -> bool {
        self.is_wanted
    }

    /// Whether it is wanted and may be.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.is_wanted && (!self.is_doubted || now >= self.not_before)
    }

    /// Notes that it was done.
    pub(super) fn succeed(&mut self, now: Moment) {
        if self.is_doubted {
            self.pause(now);
        }
        (self.is_wanted, self.is_doubted) = (false, false);
    }

    /// Notes that what was read is not what was written, or was refused.
    pub(super) fn fail(&mut self, now: Moment) {
        self.is_doubted = true;
        self.pause(now);
    }

    fn pause(&mut self, now: Moment) {
        if now >= self.not_before.plus_millis(ETCD_RELOAD_CALM_MILLIS) {
            self.pause_millis = ETCD_RELOAD_PAUSE_MILLIS;
        }
        self.not_before = now.plus_millis(self.pause_millis);
        self.pause_millis = self.pause_millis.saturating_mul(2).min(ETCD_RELOAD_PAUSE_MAX_MILLIS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_lies_again_and_again_has_the_state_read_less_and_less() {
        let mut reload = Reload::default();
        let mut now = Moment::from_nanos(1_000_000_000_000);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            reload.distrust("a test");
            let begun = now;
            while !reload.is_due(now) {
                now = now.plus_millis(500);
            }
            pauses.push(now.nanos_since(begun) / 1_000_000);
            reload.succeed(now);
            assert!(!reload.is_wanted());
        }
        assert_eq!(pauses, [0, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 32_000]);
        now = now.plus_millis(ETCD_RELOAD_PAUSE_MAX_MILLIS + ETCD_RELOAD_CALM_MILLIS);
        reload.distrust("a test");
        assert!(reload.is_due(now), "it was calm for a while");
        reload.succeed(now);
        reload.distrust("a test");
        assert!(!reload.is_due(now));
        reload.want();
        assert!(reload.is_due(now), "what this server did itself is not put off");
        reload.fail(now);
        assert!(reload.is_wanted() && !reload.is_due(now), "what was altered is not read again at once");
    }
}
