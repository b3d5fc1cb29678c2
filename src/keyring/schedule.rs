//! What the server has to do by itself at a given time: rotate keys by age, destroy deleted ones.
//!
//! Owns no state and no clock: both functions read a snapshot of the ring. Invariants: what is due and cannot be done
//! is not named, so it does not crowd out the rest; a clock that goes back makes nothing due early.

use crate::clock::WallTime;
use crate::keyring::Ring;
use crate::keyring::change::Change;
use crate::keyring::key::Key;

/// The changes that are due at `now`, the longest overdue first, at most so many.
#[must_use]
pub fn due(ring: &Ring, now: WallTime, at_most: usize) -> Vec<Change> {
    let timed = ring.keys().filter_map(|key| Some((due_at(key)?, key)));
    let mut overdue: Vec<_> = timed.filter(|(at, _)| *at <= now).collect();
    overdue.sort_unstable_by(|(one_at, one), (other_at, other)| {
        one_at.cmp(other_at).then_with(|| one.name.cmp(&other.name))
    });
    overdue.truncate(at_most);
    overdue.into_iter().map(|(_, key)| change_of(key)).collect()
}

/// When the next change is due, if the ring stays as it is. It may have passed.
#[must_use]
pub fn next_due(ring: &Ring) -> Option<WallTime> {
    ring.keys().filter_map(|key| due_at(key)).min()
}

/// When the server has to do something with `key`.
fn due_at(key: &Key) -> Option<WallTime> {
    if let Some(deletion) = key.deletion {
        return Some(deletion.purge_at);
    }
    let age = Some(key.policy.auto_rotate_seconds).filter(|age| *age > 0 && key.takes_version())?;
    let latest = key.versions.last()?.created.as_millis();
    Some(WallTime::from_millis(latest.saturating_add(age.saturating_mul(1_000))))
}

fn change_of(key: &Key) -> Change {
    let name = key.name.clone();
    if key.deletion.is_some() {
        return Change::Purge { name };
    }
    // Somebody may rotate it before the keeper comes to it: then it is not due any more.
    Change::Rotate { name, only_if_latest: Some(key.latest_number()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::trial::{Trial, WINDOW_SECONDS};
    use crate::model::{KeyOptions, KeyType, PolicyChange};

    const OPTIONS: KeyOptions = KeyOptions::of(KeyType::XChaCha20Poly1305);

    fn rotated_after(seconds: u64) -> PolicyChange {
        PolicyChange {
            auto_rotate_seconds: Some(seconds),
            deletion_allowed: Some(true),
            ..PolicyChange::default()
        }
    }

    fn shown(changes: &[Change]) -> Vec<String> {
        changes.iter().map(|change| format!("{} {}", change.name(), change.key().as_str())).collect()
    }

    #[test]
    fn a_key_is_rotated_when_its_latest_version_has_its_age_and_not_before() {
        let mut trial = Trial::with(OPTIONS, rotated_after(60));
        trial.create("never", OPTIONS, PolicyChange::default()).unwrap();
        trial.after_seconds(59);
        assert!(due(&trial.ring, trial.now, 10).is_empty());
        trial.after_seconds(1);
        let changes = due(&trial.ring, trial.now, 10);
        assert!(matches!(&changes[..], [Change::Rotate { only_if_latest: Some(1), .. }]), "{changes:?}");
        trial.apply(&changes[0]).unwrap();
        assert_eq!(trial.key().latest_number(), 2);
        // The same change again, from a second look at the same time.
        assert!(!trial.apply(&changes[0]).unwrap().changed());
        assert!(due(&trial.ring, trial.now, 10).is_empty());
        trial.after_seconds(60);
        assert!(matches!(
            due(&trial.ring, trial.now, 10)[..],
            [Change::Rotate { only_if_latest: Some(2), .. }]
        ));
    }

    #[test]
    fn a_clock_that_goes_back_rotates_nothing_early() {
        let mut trial = Trial::with(OPTIONS, rotated_after(1));
        trial.now = WallTime::from_millis(0);
        assert!(due(&trial.ring, trial.now, 10).is_empty());
        assert_eq!(next_due(&trial.ring), Some(WallTime::from_millis(1_001_000)));
    }

    #[test]
    fn a_deleted_key_is_purged_at_its_time_and_never_rotated() {
        let mut trial = Trial::with(OPTIONS, rotated_after(1));
        trial.delete().unwrap();
        trial.after_seconds(WINDOW_SECONDS - 1);
        assert!(due(&trial.ring, trial.now, 10).is_empty());
        trial.after_seconds(1);
        let changes = due(&trial.ring, trial.now, 10);
        assert_eq!(shown(&changes), ["key.purge k"]);
        trial.apply(&changes[0]).unwrap();
        assert_eq!((trial.ring.len(), next_due(&trial.ring)), (0, None));
    }

    #[test]
    fn a_key_that_takes_no_more_versions_does_not_crowd_out_the_others() {
        let mut trial = Trial::with(OPTIONS, rotated_after(1));
        for _ in 1..crate::limits::KEY_VERSIONS_MAX_COUNT {
            trial.rotate().unwrap();
        }
        trial.after_seconds(1);
        trial.create("other", OPTIONS, rotated_after(1)).unwrap();
        trial.after_seconds(1);
        assert_eq!(shown(&due(&trial.ring, trial.now, 1)), ["key.rotate other"]);
        trial.configure(PolicyChange { keep_versions: Some(2), ..PolicyChange::default() }).unwrap();
        assert_eq!(shown(&due(&trial.ring, trial.now, 1)), ["key.rotate k"]);
    }

    #[test]
    fn the_longest_overdue_come_first_and_no_more_than_are_asked_for() {
        let mut trial = Trial::new();
        for (of, seconds) in [("c", 30), ("b", 10), ("d", 10), ("a", 20), ("e", 99)] {
            trial.create(of, OPTIONS, rotated_after(seconds)).unwrap();
        }
        trial.after_seconds(40);
        assert_eq!(shown(&due(&trial.ring, trial.now, 3)), ["key.rotate b", "key.rotate d", "key.rotate a"]);
        assert_eq!(due(&trial.ring, trial.now, 9).len(), 4);
        assert!(due(&trial.ring, trial.now, 0).is_empty());
        assert_eq!(next_due(&trial.ring), Some(WallTime::from_millis(1_010_000)));
    }

    #[test]
    fn the_furthest_times_do_not_wrap() {
        let mut trial = Trial::new();
        trial.now = WallTime::from_millis(u64::MAX - 5);
        trial.create("k", OPTIONS, rotated_after(60)).unwrap();
        assert_eq!(next_due(&trial.ring), Some(WallTime::from_millis(u64::MAX)));
        assert!(due(&trial.ring, trial.now, 10).is_empty());
    }
}
