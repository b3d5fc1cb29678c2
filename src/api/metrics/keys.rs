//! How many keys there are, of what kind, and how near to their limits.
//!
//! Owns the count. Invariant: no key is named; to count looks at every version once, and a ring for which that takes long is
//! not counted at every scrape.

use core::fmt;

use crate::api::Call;
use crate::keyring::Ring;
use crate::limits::{METRICS_NONCE_NEAR_PERCENT, NONCE_96_SEALS_MAX_COUNT};
use crate::metrics::families as family;
use crate::metrics::{Exposition, KeyCounts, Registry, Value};
use crate::model::{KeyType, VersionState};

pub(super) fn keys(page: &mut Exposition<'_>, registry: &Registry, call: &Call<'_>) -> fmt::Result {
    let counts = registry.keys(call.now, || count(call.ring));
    page.head(&family::KEYS)?;
    for (kind, [usable, deleted]) in KeyType::ALL.iter().zip(&counts.keys) {
        page.sample(&family::KEYS, &[kind.name(), "active"], *usable)?;
        page.sample(&family::KEYS, &[kind.name(), "deleted"], *deleted)?;
    }
    page.head(&family::KEY_VERSIONS)?;
    for (kind, states) in KeyType::ALL.iter().zip(&counts.versions) {
        for (state, count) in VersionState::ALL.iter().zip(states) {
            page.sample(&family::KEY_VERSIONS, &[kind.name(), state.name()], *count)?;
        }
    }
    page.one(&family::NONCE_NEAR, counts.near)?;
    page.one(&family::NONCE_RATIO, Value::Millionths(counts.nearest_millionths))?;
    page.head(&family::API_KEYS)?;
    let mut states = [("active", 0_u64), ("expired", 0), ("revoked", 0)];
    for key in call.callers.keys() {
        let place = if key.revoked.is_some() { 2 } else { usize::from(!key.is_live(call.wall)) };
        if let Some((_, count)) = states.get_mut(place) {
            *count += 1;
        }
    }
    states.into_iter().try_for_each(|(state, count)| page.sample(&family::API_KEYS, &[state], count))
}

fn count(ring: &Ring) -> KeyCounts {
    let mut counts = KeyCounts {
        keys: vec![[0; 2]; KeyType::ALL.len()],
        versions: vec![vec![0; VersionState::ALL.len()]; KeyType::ALL.len()],
        ..KeyCounts::default()
    };
    for key in ring.keys() {
        let (kind, is_deleted) = (key.kind(), key.deletion().is_some());
        if let Some(count) =
            counts.keys.get_mut(kind as usize).and_then(|row| row.get_mut(usize::from(is_deleted)))
        {
            *count += 1;
        }
        if is_deleted {
            continue;
        }
        for version in key.versions() {
            let row = counts.versions.get_mut(kind as usize);
            if let Some(count) = row.and_then(|row| row.get_mut(version.state() as usize)) {
                *count += 1;
            }
            if kind.counts_seals() && version.state() == VersionState::Enabled && !version.is_imported() {
                let used = version.uses().seals().min(NONCE_96_SEALS_MAX_COUNT);
                let millionths = used.saturating_mul(1_000_000) / NONCE_96_SEALS_MAX_COUNT;
                counts.nearest_millionths = counts.nearest_millionths.max(millionths);
                counts.near += u64::from(millionths >= METRICS_NONCE_NEAR_PERCENT * 10_000);
            }
        }
    }
    counts
}
