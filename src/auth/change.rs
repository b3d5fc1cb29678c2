//! What can be done to API keys, and what it leads to: a pure function of the keys and the time.
//!
//! Owns [`Change`] and [`apply`]. Invariants: who asks is judged here, by the keys as they are when the change is made, so
//! that no other change can come in between; nobody gives out more than he has, or takes over a key that may do more, be it by its
//! secret or by an identity; no two keys that are not revoked have an identity in common;
//! as long as some key may do everything, one remains, and one that ends nowhere and never if there was such a one; a refused change leaves no trace.

use core::fmt;
use std::sync::Arc;

use crate::auth::directory::Directory;
use crate::auth::entry::{ApiKey, Generation, Previous, SALT_BYTES, Terms, Usage};
use crate::clock::WallTime;
use crate::limits::{API_KEY_OVERLAP_MAX_SECONDS, API_KEYS_MAX_COUNT, TIME_MAX_MILLIS};
use crate::model::{ApiKeyId, Grants, Identity, Permission};
use crate::network::Network;
use crate::quota::Rate;

/// Who wants a change: an API key, or the operator of a stopped store.
pub type Actor = Option<ApiKeyId>;

/// A change of the API keys.
#[derive(Clone, Debug)]
pub enum Change {
    /// Makes one.
    Create {
        /// Who asks.
        by: Actor,
        /// The public part.
        id: ApiKeyId,
        /// Random.
        salt: [u8; SALT_BYTES],
        /// What is settled about it.
        terms: Arc<Terms>,
        /// Its secret, of the number 1.
        generation: Arc<Generation>,
    },
    /// Changes what is settled about one.
    Configure {
        /// Who asks.
        by: Actor,
        /// Which.
        id: ApiKeyId,
        /// What of it.
        terms: Box<TermsChange>,
    },
    /// Gives one another secret. Its tokens end.
    Rotate {
        /// Who asks.
        by: Actor,
        /// Which.
        id: ApiKeyId,
        /// The new secret, of the number after that of the present one.
        generation: Arc<Generation>,
        /// How long the present secret still works.
        overlap_seconds: u64,
    },
    /// Ends one, and its tokens.
    Revoke {
        /// Who asks.
        by: Actor,
        /// Which.
        id: ApiKeyId,
    },
    /// Forgets one that is not valid any more.
    Delete {
        /// Who asks.
        by: Actor,
        /// Which.
        id: ApiKeyId,
    },
}

/// The members of [`Terms`] that are to be others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TermsChange {
    /// See [`Terms::name`].
    pub name: Option<Box<str>>,
    /// See [`Terms::description`].
    pub description: Option<Box<str>>,
    /// See [`Terms::grants`].
    pub grants: Option<Grants>,
    /// See [`Terms::expires`].
    pub expires: Option<Option<WallTime>>,
    /// See [`Terms::rate`].
    pub rate: Option<Option<Rate>>,
    /// See [`Terms::networks`].
    pub networks: Option<Box<[Network]>>,
    /// See [`Terms::identities`].
    pub identities: Option<Box<[Identity]>>,
}

/// Why a change is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeError {
    /// There is a key of this identifier already; another has to be drawn.
    Exists,
    /// There is no such key.
    Unknown,
    /// Who asks may not do so much himself.
    NotCovered,
    /// No key would be left that may do everything, from anywhere and without an end.
    LastAdmin,
    /// The key is valid, and is not forgotten as long as it is.
    Active,
    /// The key is revoked.
    Revoked,
    /// A member is out of its bounds.
    Terms,
    /// There are as many keys as there may be.
    Full,
    /// The secret was changed meanwhile.
    Outdated,
    /// Another key that is not revoked has one of the identities.
    IdentityTaken,
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exists => "an API key has this identifier already: try again",
            Self::Unknown => "there is no API key of this identifier",
            Self::NotCovered => "the API key that asks may not do so much itself",
            Self::LastAdmin => "this is the last API key with the scope admin that never ends: make another one first",
            Self::Active => "the API key is valid: revoke it first",
            Self::Revoked => "the API key is revoked",
            Self::Terms => {
                "name, description, rate, networks, identities or overlap are out of their bounds, or the expiry has passed"
            }
            Self::Full => "there are as many API keys as there may be: delete some that are revoked",
            Self::Outdated => "the secret was changed meanwhile: try again",
            Self::IdentityTaken => "another API key has one of the identities: take it away from that one first",
        })
    }
}

impl std::error::Error for ChangeError {}

/// What has to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it is so already.
    None,
    /// The key.
    Put,
    /// That there is no such key any more.
    Removed,
}

/// What a change led to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The key as it is now, or was.
    pub key: Arc<ApiKey>,
    /// What has to be written down.
    pub effect: Effect,
    /// Whether something is refused from now on that was allowed before.
    pub restricts: bool,
}

impl Outcome {
    /// Whether anything is different.
    #[must_use]
    pub fn changed(&self) -> bool {
        self.effect != Effect::None
    }
}

impl Change {
    /// The name of the change in the audit log.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "auth.key.create",
            Self::Configure { .. } => "auth.key.configure",
            Self::Rotate { .. } => "auth.key.rotate",
            Self::Revoke { .. } => "auth.key.revoke",
            Self::Delete { .. } => "auth.key.delete",
        }
    }

    /// The key that is changed.
    #[must_use]
    pub const fn id(&self) -> ApiKeyId {
        match self {
            Self::Create { id, .. }
            | Self::Configure { id, .. }
            | Self::Rotate { id, .. }
            | Self::Revoke { id, .. }
            | Self::Delete { id, .. } => *id,
        }
    }

    const fn by(&self) -> Actor {
        match self {
            Self::Create { by, .. }
            | Self::Configure { by, .. }
            | Self::Rotate { by, .. }
            | Self::Revoke { by, .. }
            | Self::Delete { by, .. } => *by,
        }
    }

    /// Whether it only takes away: it may hold before it is known to be durable.
    #[must_use]
    pub const fn is_bare(&self) -> bool {
        matches!(self, Self::Configure { .. } | Self::Revoke { .. } | Self::Delete { .. })
    }
}

/// Makes `change` in `directory`.
///
/// # Errors
/// [`ChangeError`]; `directory` is as before.
pub fn apply(directory: &mut Directory, change: &Change, now: WallTime) -> Result<Outcome, ChangeError> {
    let rank = directory.admin_rank(now);
    let before = directory.get(change.id()).cloned();
    let actor = Rights::of(directory, change.by(), now)?;
    let outcome = match (change, before.clone()) {
        (Change::Create { .. }, Some(_)) => return Err(ChangeError::Exists),
        (Change::Create { .. }, None) if directory.len() >= API_KEYS_MAX_COUNT => {
            return Err(ChangeError::Full);
        }
        (Change::Create { by, id, salt, terms, generation }, None) => {
            let key = ApiKey {
                id: *id,
                salt: *salt,
                terms: Arc::clone(terms),
                created: now,
                created_by: *by,
                revoked: None,
                current: Arc::clone(generation),
                previous: None,
                usage: Arc::new(Usage::default()),
            };
            actor.may_give(&key.terms, now)?;
            put(key, false)
        }
        (_, None) => return Err(ChangeError::Unknown),
        (_, Some(key)) => {
            actor.may_touch(change, &key)?;
            changed(&actor, change, &key, now)?
        }
    };
    match outcome.effect {
        Effect::None => return Ok(outcome),
        Effect::Put if is_taken(directory, &outcome.key) => return Err(ChangeError::IdentityTaken),
        Effect::Put => directory.put(Arc::clone(&outcome.key)),
        Effect::Removed => directory.remove(outcome.key.id),
    }
    if directory.admin_rank(now) < rank {
        // What was taken away goes back: only a key that there was can have been the last one.
        before.into_iter().for_each(|key| directory.put(key));
        return Err(ChangeError::LastAdmin);
    }
    Ok(outcome)
}

/// Whether another key has an identity of `key`.
fn is_taken(directory: &Directory, key: &ApiKey) -> bool {
    key.claims().iter().any(|own| directory.claimant(own).is_some_and(|other| other.id != key.id))
}

/// What a change of a key that there is leads to.
fn changed(
    actor: &Rights,
    change: &Change,
    key: &Arc<ApiKey>,
    now: WallTime,
) -> Result<Outcome, ChangeError> {
    match change {
        Change::Create { .. } => Err(ChangeError::Exists),
        Change::Revoke { .. } if key.revoked.is_some() => Ok(same(key)),
        Change::Revoke { .. } => {
            Ok(put(ApiKey { revoked: Some(now), previous: None, ..(**key).clone() }, true))
        }
        Change::Delete { .. } if key.is_live(now) => Err(ChangeError::Active),
        Change::Delete { .. } => {
            Ok(Outcome { key: Arc::clone(key), effect: Effect::Removed, restricts: true })
        }
        _ if key.revoked.is_some() => Err(ChangeError::Revoked),
        Change::Configure { terms, .. } => {
            let terms = merged(&key.terms, terms);
            if terms == *key.terms {
                return Ok(same(key));
            }
            // What had expired may stay so.
            let same_expiry = terms.expires == key.terms.expires;
            actor.may_give(&terms, if same_expiry { WallTime::default() } else { now })?;
            let kept = key.terms.identities.iter().all(|identity| terms.identities.contains(identity));
            let restricts = !terms.reaches(&key.terms) || !kept;
            Ok(put(ApiKey { terms: Arc::new(terms), ..(**key).clone() }, restricts))
        }
        Change::Rotate { generation, overlap_seconds, .. } => {
            if generation.number != key.current.number.saturating_add(1) {
                return Err(ChangeError::Outdated);
            }
            if *overlap_seconds > API_KEY_OVERLAP_MAX_SECONDS || key.has_expired(now) {
                return Err(ChangeError::Terms);
            }
            let ends = WallTime::from_millis(now.as_millis().saturating_add(overlap_seconds * 1_000));
            let previous =
                (*overlap_seconds > 0).then(|| Previous { generation: Arc::clone(&key.current), ends });
            // Tokens end in every case.
            Ok(put(ApiKey { current: Arc::clone(generation), previous, ..(**key).clone() }, true))
        }
    }
}

fn put(key: ApiKey, restricts: bool) -> Outcome {
    Outcome { key: Arc::new(key), effect: Effect::Put, restricts }
}

fn same(key: &Arc<ApiKey>) -> Outcome {
    Outcome { key: Arc::clone(key), effect: Effect::None, restricts: false }
}

fn merged(terms: &Terms, change: &TermsChange) -> Terms {
    Terms {
        name: change.name.clone().unwrap_or_else(|| terms.name.clone()),
        description: change.description.clone().unwrap_or_else(|| terms.description.clone()),
        grants: change.grants.clone().unwrap_or_else(|| terms.grants.clone()),
        expires: change.expires.unwrap_or(terms.expires),
        rate: change.rate.unwrap_or(terms.rate),
        networks: change.networks.clone().unwrap_or_else(|| terms.networks.clone()),
        identities: change.identities.clone().unwrap_or_else(|| terms.identities.clone()),
    }
}

/// What who asks may do.
enum Rights {
    /// The operator of a stopped store, who has the master key.
    Operator,
    Key(Arc<ApiKey>),
}

impl Rights {
    fn of(directory: &Directory, actor: Actor, now: WallTime) -> Result<Self, ChangeError> {
        let Some(id) = actor else { return Ok(Self::Operator) };
        let may = |key: &&Arc<ApiKey>| key.is_live(now) && key.terms.grants.may(Permission::AuthManage);
        let key = directory.get(id).filter(may).ok_or(ChangeError::NotCovered)?;
        Ok(Self::Key(Arc::clone(key)))
    }

    /// Whether a key may have these terms, and be given them by who asks.
    fn may_give(&self, terms: &Terms, now: WallTime) -> Result<(), ChangeError> {
        let in_time = |expires: WallTime| expires > now && expires.as_millis() <= TIME_MAX_MILLIS;
        if !terms.is_valid() || !terms.expires.is_none_or(in_time) {
            return Err(ChangeError::Terms);
        }
        match self {
            Self::Key(own) if !own.terms.covers(terms) => Err(ChangeError::NotCovered),
            _ => Ok(()),
        }
    }

    /// Whether who asks may make `change` of `key`: whoever gets its secret may do what it may, and whoever ends it must
    /// be one who could have made it.
    fn may_touch(&self, change: &Change, key: &ApiKey) -> Result<(), ChangeError> {
        let Self::Key(own) = self else { return Ok(()) };
        let covered = match change {
            Change::Revoke { .. } | Change::Delete { .. } => own.terms.grants.covers(&key.terms.grants),
            _ => own.terms.covers(&key.terms),
        };
        if covered { Ok(()) } else { Err(ChangeError::NotCovered) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::entry::{DIGEST_BYTES, TOKEN_SECRET_BYTES};
    use crate::secret::Secret;
    use proptest::prelude::*;

    const NOW: WallTime = WallTime::from_millis(1_700_000_000_000);

    fn id(number: u32) -> ApiKeyId {
        ApiKeyId::parse(format!("{number:08x}").as_bytes()).unwrap()
    }

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

    fn generation(number: u32) -> Arc<Generation> {
        Arc::new(Generation {
            number,
            digest: [number.to_le_bytes()[0]; DIGEST_BYTES],
            token_secret: Secret::take(&mut [1; TOKEN_SECRET_BYTES]),
            created: NOW,
        })
    }

    fn create(by: Actor, number: u32, terms: Terms) -> Change {
        Change::Create {
            by,
            id: id(number),
            salt: [0; 16],
            terms: Arc::new(terms),
            generation: generation(1),
        }
    }

    /// Keys: 1 may do everything, 2 manages and encrypts, 3 encrypts.
    fn directory() -> Directory {
        let mut directory = Directory::default();
        for (number, scopes) in
            [(1, &["admin"][..]), (2, &["auth.manage", "encrypt:a*"]), (3, &["encrypt:a-1"])]
        {
            apply(&mut directory, &create(None, number, terms(scopes)), NOW).unwrap();
        }
        directory
    }

    fn refused(directory: &Directory, change: &Change) -> Option<ChangeError> {
        let mut after = directory.clone();
        let error = apply(&mut after, change, NOW).err()?;
        let same = after.len() == directory.len()
            && after.keys().zip(directory.keys()).all(|(one, other)| Arc::ptr_eq(one, other));
        assert!(same, "a refused change leaves no trace");
        Some(error)
    }

    fn rotate(by: Actor, number: u32, next: u32, overlap_seconds: u64) -> Change {
        Change::Rotate { by, id: id(number), generation: generation(next), overlap_seconds }
    }

    fn configure(by: Actor, number: u32, terms: TermsChange) -> Change {
        Change::Configure { by, id: id(number), terms: Box::new(terms) }
    }

    #[test]
    fn nobody_widens_what_he_has_nor_takes_over_a_key_that_may_do_more() {
        let directory = directory();
        let manager = Some(id(2));
        let scopes = |scopes: &[&str]| TermsChange {
            grants: Some(Grants::parse(scopes.iter().copied()).unwrap()),
            ..TermsChange::default()
        };
        for change in [
            create(manager, 9, terms(&["admin"])),
            create(manager, 9, terms(&["encrypt"])),
            create(manager, 9, terms(&["decrypt:a*"])),
            configure(manager, 2, scopes(&["auth.manage", "encrypt"])),
            configure(manager, 3, scopes(&["encrypt:*"])),
            rotate(manager, 1, 2, 0),
            configure(manager, 1, scopes(&["encrypt:a*"])),
            Change::Revoke { by: manager, id: id(1) },
            Change::Revoke { by: Some(id(8)), id: id(3) },
            // Who asks may have lost the permission since he was let in.
            create(Some(id(3)), 9, terms(&["encrypt:a-1"])),
            rotate(Some(id(3)), 3, 2, 0),
        ] {
            assert_eq!(refused(&directory, &change), Some(ChangeError::NotCovered), "{change:?}");
        }
        for change in [
            create(manager, 9, terms(&["encrypt:a-*"])),
            configure(manager, 3, scopes(&["encrypt:a*"])),
            configure(manager, 2, scopes(&["auth.manage"])),
            rotate(manager, 3, 2, 60),
            Change::Revoke { by: manager, id: id(3) },
        ] {
            assert_eq!(refused(&directory, &change), None, "{change:?}");
        }
    }

    #[test]
    fn the_last_key_that_may_do_everything_stays() {
        let mut directory = directory();
        let less = TermsChange { grants: Some(Grants::parse(["hash"]).unwrap()), ..TermsChange::default() };
        for change in [Change::Revoke { by: Some(id(1)), id: id(1) }, configure(None, 1, less)] {
            assert_eq!(refused(&directory, &change), Some(ChangeError::LastAdmin));
        }
        let expired =
            Terms { expires: Some(WallTime::from_millis(NOW.as_millis() + 1)), ..terms(&["admin"]) };
        apply(&mut directory, &create(None, 4, expired), NOW).unwrap();
        assert_eq!(
            refused(&directory, &Change::Revoke { by: None, id: id(1) }),
            Some(ChangeError::LastAdmin)
        );
        let networks: Box<[Network]> = Box::new([Network::parse("192.0.2.0/24").unwrap()]);
        let nowhere = TermsChange { networks: Some(networks), ..TermsChange::default() };
        assert_eq!(refused(&directory, &configure(None, 1, nowhere)), Some(ChangeError::LastAdmin));
        apply(&mut directory, &create(None, 5, terms(&["admin"])), NOW).unwrap();
        assert_eq!(refused(&directory, &Change::Revoke { by: None, id: id(1) }), None, "another one stays");
        apply(&mut directory, &Change::Revoke { by: None, id: id(5) }, NOW).unwrap();
        let later = WallTime::from_millis(NOW.as_millis() + 1);
        let refusal = apply(&mut directory.clone(), &Change::Revoke { by: None, id: id(1) }, later);
        assert_eq!(refusal.err(), Some(ChangeError::LastAdmin), "it has expired");
    }

    #[test]
    fn a_rotation_overlaps_as_long_as_it_says_and_ends_the_secret_before() {
        let mut directory = directory();
        let outcome = apply(&mut directory, &rotate(None, 3, 2, 60), NOW).unwrap();
        assert!(outcome.restricts && outcome.key.current.number == 2);
        let end = WallTime::from_millis(NOW.as_millis() + 60_000);
        assert!(outcome.key.overlapping(NOW).is_some() && outcome.key.overlapping(end).is_none());
        assert_eq!(refused(&directory, &rotate(None, 3, 2, 60)), Some(ChangeError::Outdated));
        let outcome = apply(&mut directory, &rotate(None, 3, 3, 0), NOW).unwrap();
        assert!(outcome.key.previous.is_none());
        let too_long = rotate(None, 3, 4, API_KEY_OVERLAP_MAX_SECONDS + 1);
        assert_eq!(refused(&directory, &too_long), Some(ChangeError::Terms));
    }

    #[test]
    fn what_is_revoked_stays_so_and_can_be_forgotten() {
        let mut directory = directory();
        assert_eq!(refused(&directory, &Change::Delete { by: None, id: id(3) }), Some(ChangeError::Active));
        let outcome = apply(&mut directory, &Change::Revoke { by: None, id: id(3) }, NOW).unwrap();
        assert!(outcome.restricts && !outcome.key.is_live(NOW));
        let again = apply(&mut directory, &Change::Revoke { by: None, id: id(3) }, NOW).unwrap();
        assert!(!again.changed());
        assert_eq!(refused(&directory, &rotate(None, 3, 2, 0)), Some(ChangeError::Revoked));
        let name = TermsChange { name: Some("m".into()), ..TermsChange::default() };
        assert_eq!(refused(&directory, &configure(None, 3, name)), Some(ChangeError::Revoked));
        let gone = apply(&mut directory, &Change::Delete { by: None, id: id(3) }, NOW).unwrap();
        assert!(gone.effect == Effect::Removed && directory.get(id(3)).is_none());
        assert_eq!(refused(&directory, &Change::Revoke { by: None, id: id(3) }), Some(ChangeError::Unknown));
    }

    #[test]
    fn terms_out_of_bounds_and_times_that_have_passed_are_refused() {
        let directory = directory();
        for bad in [
            Terms { name: "".into(), ..terms(&["hash"]) },
            Terms { expires: Some(NOW), ..terms(&["hash"]) },
            Terms { expires: Some(WallTime::from_millis(TIME_MAX_MILLIS + 1)), ..terms(&["hash"]) },
        ] {
            assert_eq!(refused(&directory, &create(None, 9, bad)), Some(ChangeError::Terms));
        }
        assert_eq!(refused(&directory, &create(None, 3, terms(&["hash"]))), Some(ChangeError::Exists));
        let narrowed = TermsChange {
            networks: Some(Box::new([Network::parse("192.0.2.0/24").unwrap()])),
            ..TermsChange::default()
        };
        let mut directory = directory.clone();
        apply(&mut directory, &create(None, 5, terms(&["admin"])), NOW).unwrap();
        let outcome = apply(&mut directory, &configure(None, 1, narrowed), NOW).unwrap();
        assert!(outcome.restricts, "also of a key that may do everything");
    }

    fn identities(numbers: &[u8]) -> Box<[Identity]> {
        numbers.iter().map(|number| Identity::parse(&format!("unix-user:{number}")).unwrap()).collect()
    }

    fn identified(scopes: &[&str], numbers: &[u8]) -> Terms {
        Terms { identities: identities(numbers), ..terms(scopes) }
    }

    fn give(by: Actor, number: u32, numbers: &[u8]) -> Change {
        let identities = Some(identities(numbers));
        configure(by, number, TermsChange { identities, ..TermsChange::default() })
    }

    #[test]
    fn an_identity_has_one_key_until_it_is_taken_away_or_the_key_revoked() {
        let mut directory = directory();
        let taken = Some(ChangeError::IdentityTaken);
        let outcome = apply(&mut directory, &give(None, 3, &[1, 2]), NOW).unwrap();
        assert!(outcome.changed() && !outcome.restricts);
        assert_eq!(refused(&directory, &create(None, 9, identified(&["hash"], &[3, 2]))), taken);
        assert_eq!(refused(&directory, &give(None, 2, &[1])), taken);
        assert_eq!(refused(&directory, &give(None, 3, &[2, 1, 4])), None, "its own");
        let outcome = apply(&mut directory, &give(None, 3, &[2]), NOW).unwrap();
        assert!(outcome.restricts, "peers that were recognised by it are not any more");
        assert_eq!(refused(&directory, &give(None, 2, &[1])), None);
        let end = WallTime::from_millis(NOW.as_millis() + 1);
        let until = TermsChange { expires: Some(Some(end)), ..TermsChange::default() };
        apply(&mut directory, &configure(None, 3, until), NOW).unwrap();
        let late = apply(&mut directory.clone(), &give(None, 2, &[2]), end);
        assert_eq!(late.err(), taken, "one that has expired can be prolonged");
        apply(&mut directory, &Change::Revoke { by: None, id: id(3) }, NOW).unwrap();
        assert_eq!(*directory.get(id(3)).unwrap().terms.identities, *identities(&[2]), "it is still told");
        assert_eq!(refused(&directory, &give(None, 2, &[2])), None);
        let twice = create(None, 9, identified(&["hash"], &[5, 5]));
        assert_eq!(refused(&directory, &twice), Some(ChangeError::Terms));
    }

    #[test]
    fn an_identity_is_given_by_who_could_give_the_secret() {
        let directory = directory();
        let (manager, covered) = (Some(id(2)), Some(ChangeError::NotCovered));
        for change in [
            give(manager, 1, &[1]),
            give(Some(id(3)), 3, &[1]),
            create(manager, 9, identified(&["admin"], &[1])),
            create(manager, 9, identified(&["hash"], &[1])),
        ] {
            assert_eq!(refused(&directory, &change), covered, "{change:?}");
        }
        for change in [
            give(manager, 3, &[1]),
            give(manager, 2, &[1]),
            create(manager, 9, identified(&["encrypt:a"], &[1])),
        ] {
            assert_eq!(refused(&directory, &change), None, "{change:?}");
        }
    }

    proptest! {
        #[test]
        fn whoever_is_found_by_an_identity_is_the_one_key_that_claims_it(steps in proptest::collection::vec((0u8..5, 1u32..8, proptest::collection::vec(0u8..6, 0..4)), 1..60)) {
            let mut directory = directory();
            for (kind, number, numbers) in steps {
                let before = directory.clone();
                let change = match kind {
                    0 => create(None, number, identified(&["hash"], &numbers)),
                    1 | 2 => give(None, number, &numbers),
                    3 => Change::Revoke { by: None, id: id(number) },
                    _ => Change::Delete { by: None, id: id(number) },
                };
                let made = apply(&mut directory, &change, NOW).is_ok();
                // A snapshot that somebody holds stays as it is.
                for (snapshot, was_before) in [(&directory, false), (&before, true)] {
                    for identity in &identities(&[0, 1, 2, 3, 4, 5]) {
                        let claimants: Vec<ApiKeyId> =
                            snapshot.keys().filter(|key| key.claims().contains(identity)).map(|key| key.id).collect();
                        prop_assert!(claimants.len() <= 1);
                        prop_assert_eq!(snapshot.claimant(identity).map(|key| key.id), claimants.first().copied(), "{} {}", made, was_before);
                    }
                }
            }
        }

        #[test]
        fn whatever_is_asked_an_admin_remains_and_nobody_gains(steps in proptest::collection::vec((0u8..5, 0u32..6, 1u32..6, 0usize..4, 0u64..3), 1..60)) {
            const SCOPES: [&[&str]; 4] = [&["admin"], &["auth.manage", "encrypt"], &["encrypt:a*"], &["hash"]];
            let mut directory = directory();
            for (kind, by, number, scopes, seconds) in steps {
                let by = (by > 0).then(|| id(by));
                let scopes = SCOPES[scopes];
                let own = by.and_then(|by| directory.get(by).cloned());
                let next = directory.get(id(number)).map_or(1, |key| key.current.number + 1);
                let change = match kind {
                    0 => create(by, number, terms(scopes)),
                    1 => configure(by, number, TermsChange { grants: Some(terms(scopes).grants), ..TermsChange::default() }),
                    2 => rotate(by, number, next, seconds),
                    3 => Change::Revoke { by, id: id(number) },
                    _ => Change::Delete { by, id: id(number) },
                };
                let outcome = apply(&mut directory, &change, NOW);
                prop_assert_eq!(directory.admin_rank(NOW), 2);
                if let (Ok(outcome), Some(own)) = (outcome, own) && outcome.changed() {
                    prop_assert!(own.terms.grants.covers(&outcome.key.terms.grants));
                    prop_assert!(own.is_live(NOW));
                    prop_assert!(!outcome.key.terms.grants.may(Permission::KeysManage) || own.terms.grants.is_admin());
                }
            }
        }
    }
}
