//! An API key as the server knows it.
//!
//! Owns [`ApiKey`], its [`Terms`], its [`Generation`]s and its [`Usage`]. Invariants: it holds no secret of the API key, but
//! what a presented one is compared with; the secret that signs tokens belongs to one generation and is gone with it; an
//! entry never changes apart from its use figures, which all snapshots share.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::WallTime;
use crate::limits::{
    API_KEY_DESCRIPTION_MAX_BYTES, API_KEY_IDENTITIES_MAX_COUNT, API_KEY_NAME_MAX_BYTES,
    API_KEY_NETWORKS_MAX_COUNT,
};
use crate::model::{ApiKeyId, Grants, Identity};
use crate::network::Network;
use crate::quota::{Rate, Tally};
use crate::secret::Secret;

/// Length of the salt of an API key.
pub const SALT_BYTES: usize = 16;
/// Length of what a presented secret is compared with.
pub const DIGEST_BYTES: usize = 32;
/// Length of the secret that signs the tokens of a generation.
pub const TOKEN_SECRET_BYTES: usize = 32;

/// What is settled about an API key, and can be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// For people: 1 to [`API_KEY_NAME_MAX_BYTES`] bytes that can be printed.
    pub name: Box<str>,
    /// For people: at most [`API_KEY_DESCRIPTION_MAX_BYTES`] bytes that can be printed.
    pub description: Box<str>,
    /// What it may do.
    pub grants: Grants,
    /// From when on it is not valid any more; nothing: never.
    pub expires: Option<WallTime>,
    /// How often it may be used, if not as often as the server's default says.
    pub rate: Option<Rate>,
    /// From where it may be used; empty: from anywhere.
    pub networks: Box<[Network]>,
    /// By which peers are recognised as this API key without its secret: at most [`API_KEY_IDENTITIES_MAX_COUNT`], each once.
    pub identities: Box<[Identity]>,
}

impl Terms {
    /// Whether every member is within its bounds.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let printable = |text: &str| !text.chars().any(char::is_control);
        (1..=API_KEY_NAME_MAX_BYTES).contains(&self.name.len())
            && self.description.len() <= API_KEY_DESCRIPTION_MAX_BYTES
            && printable(&self.name)
            && printable(&self.description)
            && self.networks.len() <= API_KEY_NETWORKS_MAX_COUNT
            && self.identities.len() <= API_KEY_IDENTITIES_MAX_COUNT
            && self
                .identities
                .iter()
                .enumerate()
                .all(|(at, own)| self.identities.iter().position(|other| other == own) == Some(at))
    }

    /// Whether whoever has these may give `other`: nothing is allowed there that is not allowed here, and who may do
    /// everything may give everything.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.grants.is_admin() || self.reaches(other)
    }

    /// Whether `other` allows nothing that is not allowed here: neither more, nor longer, nor from elsewhere, nor more
    /// often. By what somebody is recognised is no part of it: whoever may give a key may give its secret to anybody.
    #[must_use]
    pub fn reaches(&self, other: &Self) -> bool {
        let longer = |own: WallTime| other.expires.is_none_or(|expires| expires > own);
        let within = |network: &Network| self.networks.iter().any(|own| network.within(own));
        let elsewhere =
            !self.networks.is_empty() && (other.networks.is_empty() || !other.networks.iter().all(within));
        let oftener = |own: Rate| {
            other.rate.is_none_or(|rate| rate.per_second() > own.per_second() || rate.burst() > own.burst())
        };
        self.grants.covers(&other.grants)
            && !self.expires.is_some_and(longer)
            && !elsewhere
            && !self.rate.is_some_and(oftener)
    }
}

/// One secret of an API key, and the secret that signs the tokens that were got with it.
#[derive(Debug)]
pub struct Generation {
    /// Counted from 1.
    pub number: u32,
    /// HMAC-SHA256(pepper, salt || id || secret).
    pub digest: [u8; DIGEST_BYTES],
    /// Signs its tokens.
    pub token_secret: Secret<TOKEN_SECRET_BYTES>,
    /// When it was made.
    pub created: WallTime,
}

/// The secret before the present one, as long as both work.
#[derive(Clone, Debug)]
pub struct Previous {
    /// The secret. Its tokens have ended.
    pub generation: Arc<Generation>,
    /// From when on it does not work any more.
    pub ends: WallTime,
}

/// An API key.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// The public part.
    pub id: ApiKeyId,
    /// Random for each key.
    pub salt: [u8; SALT_BYTES],
    /// What is settled about it.
    pub terms: Arc<Terms>,
    /// When it was made.
    pub created: WallTime,
    /// Which API key made it; nothing if it was made offline or by the first start.
    pub created_by: Option<ApiKeyId>,
    /// When it was revoked.
    pub revoked: Option<WallTime>,
    /// Its secret.
    pub current: Arc<Generation>,
    /// Its last one.
    pub previous: Option<Previous>,
    /// What was done with it.
    pub usage: Arc<Usage>,
}

impl ApiKey {
    /// Whether it can be used at `now`.
    #[must_use]
    pub fn is_live(&self, now: WallTime) -> bool {
        self.revoked.is_none() && !self.has_expired(now)
    }

    /// Whether its time is over at `now`.
    #[must_use]
    pub fn has_expired(&self, now: WallTime) -> bool {
        self.terms.expires.is_some_and(|expires| expires <= now)
    }

    /// Whether it may be used from `address`.
    #[must_use]
    pub fn is_used_from(&self, address: IpAddr) -> bool {
        self.terms.networks.is_empty() || self.terms.networks.iter().any(|own| own.contains(address))
    }

    /// By which identities peers are recognised as this key: one that is revoked has none any more.
    #[must_use]
    pub fn claims(&self) -> &[Identity] {
        if self.revoked.is_some() { &[] } else { &self.terms.identities }
    }

    /// The secret before the present one, if it still works at `now`.
    #[must_use]
    pub fn overlapping(&self, now: WallTime) -> Option<&Previous> {
        self.previous.as_ref().filter(|previous| now < previous.ends)
    }
}

/// How an API key was used, shared by all snapshots that hold it.
#[derive(Debug, Default)]
pub struct Usage {
    count: AtomicU64,
    /// Second of the last use; 0: never.
    last: AtomicU64,
    /// Whether uses were counted that were not written down.
    news: AtomicBool,
    /// What the limiter counts; lost with the process.
    level: AtomicU64,
    /// The memory that its requests hold.
    held: Arc<Tally>,
}

impl Usage {
    /// The figures as they were written down.
    #[must_use]
    pub fn restored(count: u64, last: WallTime) -> Self {
        Self {
            count: AtomicU64::new(count),
            last: AtomicU64::new(last.as_secs()),
            news: AtomicBool::new(false),
            level: AtomicU64::new(0),
            held: Arc::default(),
        }
    }

    /// Counts a use.
    pub fn note(&self, now: WallTime) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let now = now.as_secs();
        if self.last.load(Ordering::Relaxed) != now {
            self.last.store(now, Ordering::Relaxed);
        }
        if !self.news.load(Ordering::Relaxed) {
            self.news.store(true, Ordering::Relaxed);
        }
    }

    /// Where the limiter keeps what it has counted: whatever snapshot holds the key, it is one number.
    #[must_use]
    pub const fn level(&self) -> &AtomicU64 {
        &self.level
    }

    /// On which the memory of its requests is counted: whatever snapshot holds the key, it is one account.
    #[must_use]
    pub const fn held(&self) -> &Arc<Tally> {
        &self.held
    }

    /// How often it was used.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// When it was used last, to the second.
    #[must_use]
    pub fn last(&self) -> Option<WallTime> {
        let last = self.last.load(Ordering::Relaxed);
        (last != 0).then(|| WallTime::from_millis(last.saturating_mul(1_000)))
    }

    /// Whether uses were counted that nobody has taken yet.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.news.load(Ordering::Relaxed)
    }

    /// Whether uses were counted since the last call; whoever asks writes the figures down.
    #[must_use]
    pub fn take_news(&self) -> bool {
        self.has_news() && self.news.swap(false, Ordering::AcqRel)
    }

    /// Notes that the figures were not written down after all.
    pub fn keep_news(&self) {
        self.news.store(true, Ordering::Relaxed);
    }

    /// Takes in figures that were written down elsewhere.
    pub fn absorb(&self, count: u64, last: WallTime) {
        self.count.fetch_max(count, Ordering::Relaxed);
        self.last.fetch_max(last.as_secs(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(scopes: &[&str]) -> Terms {
        Terms {
            name: "n".into(),
            description: "".into(),
            grants: Grants::parse(scopes.iter().copied()).unwrap(),
            expires: None,
            rate: None,
            networks: Box::new([]),
            identities: Box::new([]),
        }
    }

    #[test]
    fn nobody_gives_more_than_he_has_in_any_respect() {
        let network = |text: &str| Network::parse(text).unwrap();
        let own = Terms {
            expires: Some(WallTime::from_millis(1_000)),
            rate: Rate::new(10, 20),
            networks: Box::new([network("192.0.2.0/24")]),
            ..terms(&["auth.manage", "encrypt:a*"])
        };
        assert!(own.covers(&own));
        let narrower = Terms {
            expires: Some(WallTime::from_millis(999)),
            networks: Box::new([network("192.0.2.128/25"), network("192.0.2.1/32")]),
            ..own.clone()
        };
        assert!(own.covers(&narrower) && !narrower.covers(&own));
        for wider in [
            Terms { expires: None, ..own.clone() },
            Terms { expires: Some(WallTime::from_millis(1_001)), ..own.clone() },
            Terms { rate: None, ..own.clone() },
            Terms { rate: Rate::new(11, 20), ..own.clone() },
            Terms { rate: Rate::new(10, 21), ..own.clone() },
            Terms { networks: Box::new([]), ..own.clone() },
            Terms {
                networks: Box::new([network("192.0.2.0/24"), network("198.51.100.0/24")]),
                ..own.clone()
            },
            Terms { grants: Grants::parse(["encrypt"]).unwrap(), ..own.clone() },
        ] {
            assert!(!own.covers(&wider), "{wider:?}");
            let admin = Terms { grants: Grants::admin(), ..own.clone() };
            assert!(admin.covers(&wider), "who may do everything may give everything");
        }
    }

    #[test]
    fn terms_are_bounded_and_printable() {
        let user = |number: usize| Identity::parse(&format!("unix-user:{number}")).unwrap();
        let most = (0..API_KEY_IDENTITIES_MAX_COUNT).map(user).collect();
        assert!(Terms { identities: most, ..terms(&["hash"]) }.is_valid());
        assert!(terms(&["hash"]).is_valid());
        for bad in [
            Terms { name: "".into(), ..terms(&["hash"]) },
            Terms { name: "a\nb".into(), ..terms(&["hash"]) },
            Terms { name: "x".repeat(API_KEY_NAME_MAX_BYTES + 1).into(), ..terms(&["hash"]) },
            Terms { description: "\u{7f}".into(), ..terms(&["hash"]) },
            Terms { identities: (0..=API_KEY_IDENTITIES_MAX_COUNT).map(user).collect(), ..terms(&["hash"]) },
            Terms { identities: Box::new([user(1), user(2), user(1)]), ..terms(&["hash"]) },
        ] {
            assert!(!bad.is_valid(), "{bad:?}");
        }
    }
}
