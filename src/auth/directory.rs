//! All API keys at one moment.
//!
//! Owns [`Directory`]. Invariants: a snapshot never changes; a new one shares the entries that did not; the index of identities
//! names those keys that are not revoked, and is shared as long as no identity changes hands.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::auth::entry::ApiKey;
use crate::clock::WallTime;
use crate::model::{ApiKeyId, Identity};

/// The API keys, by their identifiers.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    // Identifiers are drawn by the server, and shared by all snapshots until one of them changes.
    keys: Arc<BTreeMap<ApiKeyId, Arc<ApiKey>>>,
    claims: Arc<BTreeMap<Identity, ApiKeyId>>,
}

impl Directory {
    /// The key of this identifier, whatever its state.
    #[must_use]
    pub fn get(&self, id: ApiKeyId) -> Option<&Arc<ApiKey>> {
        self.keys.get(&id)
    }

    /// The key as which a peer of this identity is recognised.
    #[must_use]
    pub fn claimant(&self, identity: &Identity) -> Option<&Arc<ApiKey>> {
        self.claims.get(identity).and_then(|id| self.get(*id))
    }

    /// Every key, in the order of the identifiers.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<ApiKey>> {
        self.keys.values()
    }

    /// The keys behind `after`, in the order of the identifiers.
    pub fn keys_after(&self, after: Option<ApiKeyId>) -> impl Iterator<Item = &Arc<ApiKey>> {
        use core::ops::Bound;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.keys.range((from, Bound::Unbounded)).map(|(_, key)| key)
    }

    /// Puts `key` in the place of the one of its identifier. An identity that another one had is its own from now on.
    pub fn put(&mut self, key: Arc<ApiKey>) {
        let before = self.get(key.id).cloned();
        self.move_claims(key.id, before.as_deref().map_or(&[], ApiKey::claims), key.claims());
        Arc::make_mut(&mut self.keys).insert(key.id, key);
    }

    /// Takes the key of this identifier out.
    pub fn remove(&mut self, id: ApiKeyId) {
        if self.keys.contains_key(&id)
            && let Some(before) = Arc::make_mut(&mut self.keys).remove(&id)
        {
            self.move_claims(id, before.claims(), &[]);
        }
    }

    /// Has `id` claim what stands in `now`, in the place of what stands in `before`.
    fn move_claims(&mut self, id: ApiKeyId, before: &[Identity], now: &[Identity]) {
        if before == now {
            return;
        }
        let claims = Arc::make_mut(&mut self.claims);
        for identity in before {
            // Of keys that are put in any order, another one may have it by now.
            if claims.get(identity) == Some(&id) {
                claims.remove(identity);
            }
        }
        for identity in now {
            claims.insert(identity.clone(), id);
        }
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How sure it is that somebody can do everything: 2 if a key can that is bound to no end and no place, 1 if one can be
    /// used at `now`, 0 if nobody can.
    #[must_use]
    pub fn admin_rank(&self, now: WallTime) -> u8 {
        let admins = self.keys.values().filter(|key| key.terms.grants.is_admin() && key.is_live(now));
        let rank = |key: &Arc<ApiKey>| {
            if key.terms.expires.is_none() && key.terms.networks.is_empty() { 2 } else { 1 }
        };
        admins.map(rank).max().unwrap_or(0)
    }
}
