//! Who asks: the check of what a request presents, and the second look before anything is done.
//!
//! Owns [`Authenticator`], [`Authority`] and [`Refused`]. Invariants: a check of an API key computes one HMAC and two
//! comparisons, whether the identifier is known or not and whether its last secret still works or not; why somebody is
//! refused is for the audit log alone; what somebody may do is what the newest snapshot says.

use core::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use subtle::{Choice, ConstantTimeEq as _};

use crate::auth::api_key::{self, Presented};
use crate::auth::directory::Directory;
use crate::auth::entry::{ApiKey, DIGEST_BYTES, Generation, SALT_BYTES, TOKEN_SECRET_BYTES};
use crate::auth::jwt::{self, Expected, Room, TokenFault};
use crate::auth::withdrawn::Withdrawn;
use crate::clock::WallTime;
use crate::crypto::hash::Algorithm;
use crate::crypto::mac::MacKey;
use crate::limits::TOKEN_LEEWAY_MILLIS;
use crate::model::{ApiKeyId, Grants, Identities, Permission, Principal, TokenTerms};
use crate::secret::Secret;

/// The text is no API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAKey;

impl fmt::Display for NotAKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an API key: expected qk_<8 hexadecimal digits>.<43 base64url characters>")
    }
}

impl std::error::Error for NotAKey {}

/// Why somebody is not recognised, or not any more. The reply does not tell; the audit log does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The reason.
    pub code: &'static str,
    /// Whose secret was presented, if it was the right one.
    pub key: Option<ApiKeyId>,
}

impl Refused {
    /// A reason, and who it was if that is certain.
    #[must_use]
    pub const fn new(code: &'static str, key: Option<ApiKeyId>) -> Self {
        Self { code, key }
    }
}

const MALFORMED: &str = "credential_malformed";
const UNKNOWN: &str = "credential_unknown";
const WRONG: &str = "credential_wrong";
const EXPIRED: &str = "credential_expired";
const WITHDRAWN: &str = "token_withdrawn";
const REVOKED: &str = "credential_revoked";
const ELSEWHERE: &str = "source_not_allowed";
const AMBIGUOUS: &str = "identity_ambiguous";
const TAKEN_AWAY: &str = "identity_taken_away";

/// Checks credentials.
pub struct Authenticator {
    pepper: MacKey,
    /// What nothing is equal to: in the place of what is not known.
    decoy: [u8; DIGEST_BYTES],
    issuer: Box<str>,
    audience: Box<str>,
    withdrawn: Withdrawn,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").finish_non_exhaustive()
    }
}

impl Authenticator {
    /// One that mixes `pepper` into every digest, and takes tokens of this issuer for this audience.
    #[must_use]
    pub fn new(pepper: &[u8; 32], issuer: &str, audience: &str) -> Self {
        let pepper = MacKey::new(Algorithm::Sha256, pepper);
        // Over another shape of input than any real one.
        let decoy = first(pepper.tag(&[b"decoy"]).as_bytes());
        Self {
            pepper,
            decoy,
            issuer: issuer.into(),
            audience: audience.into(),
            withdrawn: Withdrawn::default(),
        }
    }

    /// Who makes the tokens.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// For whom they are.
    #[must_use]
    pub fn audience(&self) -> &str {
        &self.audience
    }

    /// Which tokens were given back before their end.
    #[must_use]
    pub fn withdrawn(&self) -> &Withdrawn {
        &self.withdrawn
    }

    /// What is kept of the secret in `text`, and whose it is.
    ///
    /// # Errors
    /// [`NotAKey`]
    pub fn digest(
        &self,
        text: &str,
        salt: &[u8; SALT_BYTES],
    ) -> Result<(ApiKeyId, [u8; DIGEST_BYTES]), NotAKey> {
        let presented = api_key::parse(text.as_bytes()).ok_or(NotAKey)?;
        let id = ApiKeyId::parse(&presented.id).ok_or(NotAKey)?;
        Ok((id, self.digest_of(salt, &presented)))
    }

    /// A generation of the API key `text`.
    ///
    /// # Errors
    /// [`NotAKey`]
    pub fn generation(
        &self,
        text: &str,
        salt: &[u8; SALT_BYTES],
        number: u32,
        token_secret: Secret<TOKEN_SECRET_BYTES>,
        created: WallTime,
    ) -> Result<Generation, NotAKey> {
        let (_, digest) = self.digest(text, salt)?;
        Ok(Generation { number, digest, token_secret, created })
    }

    /// Whose credential `text` is, an API key or a token, if it can be used from `client` at `now`. A token is decoded in
    /// `room`.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn authenticate(
        &self,
        directory: &Directory,
        text: &[u8],
        room: &mut Room,
        client: IpAddr,
        now: WallTime,
    ) -> Result<Principal, Refused> {
        if jwt::is_token(text) {
            self.token(directory, text, room, client, now)
        } else {
            self.api_key(directory, text, client, now)
        }
    }

    /// The API key of a peer that has `identities`, if one of them is an API key's and it can be used from `client` at `now`;
    /// nothing if none is. Whoever is several API keys is refused: which one he means nobody can tell.
    ///
    /// Identities are no secrets, and are looked up as they are.
    #[must_use]
    pub fn recognise(
        &self,
        directory: &Directory,
        identities: &Identities,
        client: IpAddr,
        now: WallTime,
    ) -> Option<Result<Principal, Refused>> {
        let mut claims =
            identities.iter().filter_map(|identity| directory.claimant(identity).map(|key| (identity, key)));
        let (identity, key) = claims.next()?;
        if claims.any(|(_, other)| other.id != key.id) {
            return Some(Err(Refused::new(AMBIGUOUS, None)));
        }
        Some(judge(key, client, now).map(|()| {
            key.usage.note(now);
            let generation = key.current.number;
            Principal { key: key.id, generation, token: None, identity: Some(identity.clone()) }
        }))
    }

    fn token(
        &self,
        directory: &Directory,
        text: &[u8],
        room: &mut Room,
        client: IpAddr,
        now: WallTime,
    ) -> Result<Principal, Refused> {
        let refused = |fault: TokenFault| Refused::new(fault.code(), None);
        let token = jwt::read(text, room).map_err(refused)?;
        let number = token.generation();
        let entry = ApiKeyId::parse(token.key_id()).and_then(|id| directory.get(id));
        let entry = entry.filter(|key| key.current.number == number);
        let expected = Expected { issuer: &self.issuer, audience: &self.audience, now };
        // What is not known is compared with a secret that signs nothing.
        let verified = match entry {
            Some(key) => key.current.token_secret.with(|secret| token.verify(secret, &expected)),
            None => token.verify(&self.decoy, &expected),
        };
        let (claims, key) = (verified.map_err(refused)?, entry.ok_or(Refused::new(UNKNOWN, None))?);
        judge(key, client, now)?;
        if self.withdrawn.has(&claims.jti) {
            return Err(Refused::new(WITHDRAWN, Some(key.id)));
        }
        let malformed = Refused::new(TokenFault::Claims.code(), Some(key.id));
        let grants = Grants::parse(claims.scope.split(' ')).map_err(|_| malformed)?;
        key.usage.note(now);
        let terms = TokenTerms { id: claims.jti.into(), grants, expires: claims.expires };
        Ok(Principal { key: key.id, generation: number, token: Some(Arc::new(terms)), identity: None })
    }

    /// Whose API key `text` is, if it can be used from `client` at `now`.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn api_key(
        &self,
        directory: &Directory,
        text: &[u8],
        client: IpAddr,
        now: WallTime,
    ) -> Result<Principal, Refused> {
        let presented = api_key::parse(text).ok_or(Refused::new(MALFORMED, None))?;
        let entry = ApiKeyId::parse(&presented.id).and_then(|id| directory.get(id));
        let digest = self.digest_of(entry.map_or(&[0; SALT_BYTES], |key| &key.salt), &presented);
        let current = entry.map_or(&self.decoy, |key| &key.current.digest);
        let overlapping = entry.and_then(|key| key.overlapping(now));
        let previous = overlapping.map_or(&self.decoy, |previous| &previous.generation.digest);
        let (is_current, is_previous): (Choice, Choice) = (digest.ct_eq(current), digest.ct_eq(previous));
        // The decoy cannot be met; the further conditions only say so where it is read.
        let generation = match (bool::from(is_current), bool::from(is_previous), entry, overlapping) {
            (true, _, Some(key), _) => Some(&key.current),
            (_, true, Some(_), Some(previous)) => Some(&previous.generation),
            _ => None,
        };
        let (Some(key), Some(generation)) = (entry, generation) else {
            return Err(Refused::new(if entry.is_some() { WRONG } else { UNKNOWN }, None));
        };
        judge(key, client, now)?;
        key.usage.note(now);
        Ok(Principal { key: key.id, generation: generation.number, token: None, identity: None })
    }

    fn digest_of(&self, salt: &[u8; SALT_BYTES], presented: &Presented) -> [u8; DIGEST_BYTES] {
        first(self.pepper.tag(&[salt, &presented.id, &*presented.secret]).as_bytes())
    }
}

/// Whether a key whose secret was presented can be used.
fn judge(key: &ApiKey, client: IpAddr, now: WallTime) -> Result<(), Refused> {
    let code = if key.revoked.is_some() {
        REVOKED
    } else if key.has_expired(now) {
        EXPIRED
    } else if !key.is_used_from(client) {
        ELSEWHERE
    } else {
        return Ok(());
    };
    Err(Refused::new(code, Some(key.id)))
}

/// The first bytes of a tag of HMAC-SHA256, which are all of it.
fn first(tag: &[u8]) -> [u8; DIGEST_BYTES] {
    tag.first_chunk().copied().unwrap_or_default()
}

/// What somebody who was recognised may do, by one snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Authority<'a> {
    /// The API key.
    pub key: &'a Arc<ApiKey>,
    /// The token, if it was one.
    pub token: Option<&'a TokenTerms>,
}

impl<'a> Authority<'a> {
    /// Looks again whether `principal` may act at all: a revocation, a rotation or an end holds for requests that have
    /// begun. Who was recognised by an identity has used no secret, so that a rotation takes nothing from him; but the
    /// key must still have that identity.
    ///
    /// # Errors
    /// [`Refused`]
    pub fn of(
        directory: &'a Directory,
        withdrawn: &Withdrawn,
        principal: &'a Principal,
        client: IpAddr,
        now: WallTime,
    ) -> Result<Self, Refused> {
        let key = directory.get(principal.key).ok_or(Refused::new(UNKNOWN, Some(principal.key)))?;
        judge(key, client, now)?;
        let token = principal.token.as_deref();
        let is_current = key.current.number == principal.generation;
        if let Some(identity) = &principal.identity {
            return if key.claims().contains(identity) {
                Ok(Self { key, token })
            } else {
                Err(Refused::new(TAKEN_AWAY, Some(key.id)))
            };
        }
        if token.is_some_and(|token| withdrawn.has(&token.id)) {
            return Err(Refused::new(WITHDRAWN, Some(key.id)));
        }
        // A token ends with the secret that it was got with, and with its time; a secret overlaps.
        let works = match token {
            Some(token) => {
                is_current && now.as_millis() < token.expires.as_millis().saturating_add(TOKEN_LEEWAY_MILLIS)
            }
            None => {
                is_current
                    || key.overlapping(now).is_some_and(|last| last.generation.number == principal.generation)
            }
        };
        if works { Ok(Self { key, token }) } else { Err(Refused::new(REVOKED, Some(key.id))) }
    }

    /// Whether what `permission` names is allowed, be it for some keys only.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.sets().all(|grants| grants.may(permission))
    }

    /// Whether what `permission` names is allowed for the key of this name.
    #[must_use]
    pub fn may_key(&self, permission: Permission, name: &str) -> bool {
        self.sets().all(|grants| grants.may_key(permission, name))
    }

    /// The sets that must all allow it.
    pub fn sets(&self) -> impl Iterator<Item = &'a Grants> {
        core::iter::once(&self.key.terms.grants).chain(self.token.map(|token| &token.grants))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::change::{Change, TermsChange, apply};
    use crate::auth::entry::Terms;
    use crate::model::Identity;
    use crate::network::Network;
    use zeroize::Zeroizing;

    const NOW: WallTime = WallTime::from_millis(1_700_000_000_000);
    const HERE: IpAddr = IpAddr::V4(core::net::Ipv4Addr::LOCALHOST);

    fn checks() -> Authenticator {
        Authenticator::new(&[1; 32], "i", "a")
    }

    fn recognise(
        checks: &Authenticator,
        directory: &Directory,
        text: &str,
        client: IpAddr,
        now: WallTime,
    ) -> Result<Principal, Refused> {
        checks.authenticate(directory, text.as_bytes(), &mut Room::new(), client, now)
    }

    fn text(byte: u8) -> Zeroizing<String> {
        api_key::generate(|bytes| {
            bytes.fill(byte);
            Ok::<_, ()>(())
        })
        .unwrap()
    }

    /// The text of identifier `id` with the secret of `secret`.
    fn mixed(id: u8, secret: u8) -> String {
        let (id, secret) = (text(id), text(secret));
        format!("{}{}", &id[..11], &secret[11..])
    }

    fn generation(checks: &Authenticator, text: &str, number: u32) -> Arc<Generation> {
        let secret = Secret::take(&mut [number.to_le_bytes()[0]; 32]);
        Arc::new(checks.generation(text, &[2; SALT_BYTES], number, secret, NOW).unwrap())
    }

    fn with_key(checks: &Authenticator, terms: Terms) -> Directory {
        let mut directory = Directory::default();
        let change = Change::Create {
            by: None,
            id: ApiKeyId::parse(b"07070707").unwrap(),
            salt: [2; SALT_BYTES],
            terms: Arc::new(terms),
            generation: generation(checks, &text(7), 1),
        };
        apply(&mut directory, &change, NOW).unwrap();
        directory
    }

    fn code(checks: &Authenticator, directory: &Directory, text: &str) -> &'static str {
        recognise(checks, directory, text, HERE, NOW).map_or_else(|refused| refused.code, |_| "")
    }

    #[test]
    fn only_the_whole_key_is_recognised() {
        let checks = checks();
        let directory = with_key(&checks, Terms::first());
        let principal = recognise(&checks, &directory, &text(7), HERE, NOW).unwrap();
        assert_eq!((principal.id(), principal.generation), ("07070707", 1));
        assert_eq!(directory.get(principal.key).unwrap().usage.count(), 1);
        assert_eq!(code(&checks, &directory, &mixed(7, 8)), WRONG);
        assert_eq!(code(&checks, &directory, &mixed(8, 7)), UNKNOWN);
        assert_eq!(code(&checks, &directory, "qk_"), MALFORMED);
        let other = Authenticator::new(&[9; 32], "i", "a");
        assert_eq!(code(&other, &directory, &text(7)), WRONG, "another pepper");
        assert_eq!(directory.get(principal.key).unwrap().usage.count(), 1, "a refusal is no use");
    }

    #[test]
    fn who_is_known_is_refused_out_of_his_time_and_place() {
        let checks = checks();
        let elsewhere = Box::new([Network::parse("192.0.2.0/24").unwrap()]);
        let directory = with_key(&checks, Terms { networks: elsewhere, ..Terms::first() });
        assert_eq!(code(&checks, &directory, &text(7)), ELSEWHERE);
        assert_eq!(code(&checks, &directory, &mixed(7, 8)), WRONG, "nobody without the secret learns of it");
        let inside = "192.0.2.9".parse().unwrap();
        assert!(recognise(&checks, &directory, &text(7), inside, NOW).is_ok());

        let end = WallTime::from_millis(NOW.as_millis() + 5);
        let directory = with_key(&checks, Terms { expires: Some(end), ..Terms::first() });
        let principal = recognise(&checks, &directory, &text(7), HERE, NOW).unwrap();
        assert!(Authority::of(&directory, &checks.withdrawn, &principal, HERE, NOW).is_ok());
        assert_eq!(
            Authority::of(&directory, &checks.withdrawn, &principal, HERE, end).err().map(|error| error.code),
            Some(EXPIRED)
        );
    }

    fn peer(texts: &[&str]) -> Identities {
        texts.iter().map(|text| Identity::parse(text).unwrap()).collect()
    }

    fn identified(texts: &[&str]) -> Terms {
        Terms { identities: peer(texts).iter().cloned().collect(), ..Terms::first() }
    }

    fn second(checks: &Authenticator, directory: &mut Directory, terms: Terms) -> ApiKeyId {
        let id = ApiKeyId::parse(b"08080808").unwrap();
        let (terms, generation) = (Arc::new(terms), generation(checks, &text(8), 1));
        let change = Change::Create { by: None, id, salt: [2; SALT_BYTES], terms, generation };
        apply(directory, &change, NOW).unwrap();
        id
    }

    #[test]
    fn a_peer_is_the_one_api_key_that_has_an_identity_of_his() {
        let checks = checks();
        let mut directory = with_key(&checks, identified(&["unix-user:7", "dns:a.example"]));
        second(&checks, &mut directory, identified(&["unix-group:8"]));
        let found = |identities: &[&str]| checks.recognise(&directory, &peer(identities), HERE, NOW);
        let principal = found(&["unix-group:9", "unix-user:7"]).unwrap().unwrap();
        assert_eq!((principal.id(), principal.identity()), ("07070707", Some("unix-user:7")));
        assert_eq!((principal.generation, principal.token.is_none()), (1, true));
        assert_eq!(directory.get(principal.key).unwrap().usage.count(), 1);
        assert!(
            Authority::of(&directory, &checks.withdrawn, &principal, HERE, NOW)
                .unwrap()
                .may(Permission::KeysManage)
        );
        assert!(found(&["unix-group:7", "dns:b.example"]).is_none() && found(&[]).is_none());
        let both = found(&["dns:a.example", "unix-user:7"]).unwrap().unwrap();
        assert_eq!(both.identity(), Some("dns:a.example"), "two identities of one key");
        let ambiguous = found(&["unix-user:7", "unix-group:8"]).unwrap();
        assert_eq!(ambiguous, Err(Refused::new(AMBIGUOUS, None)));
        assert_eq!(directory.get(principal.key).unwrap().usage.count(), 2, "a refusal is no use");
    }

    #[test]
    fn who_is_recognised_by_an_identity_is_bound_to_time_and_place_and_to_a_key_that_is_not_revoked() {
        let checks = checks();
        let end = WallTime::from_millis(NOW.as_millis() + 5);
        let networks = Box::new([Network::parse("127.0.0.0/8").unwrap()]);
        let terms = Terms { expires: Some(end), networks, ..identified(&["unix-user:7"]) };
        let mut directory = with_key(&checks, terms);
        let found = |directory: &Directory, client: IpAddr, now| {
            let found = checks.recognise(directory, &peer(&["unix-user:7"]), client, now)?;
            Some(found.map_err(|refused| refused.code))
        };
        assert!(found(&directory, HERE, NOW).unwrap().is_ok());
        assert_eq!(found(&directory, "192.0.2.1".parse().unwrap(), NOW), Some(Err(ELSEWHERE)));
        assert_eq!(found(&directory, HERE, end), Some(Err(EXPIRED)));
        second(&checks, &mut directory, Terms::first());
        let revoke = Change::Revoke { by: None, id: ApiKeyId::parse(b"07070707").unwrap() };
        apply(&mut directory, &revoke, NOW).unwrap();
        assert_eq!(found(&directory, HERE, NOW), None, "it has no identity any more");
    }

    #[test]
    fn a_rotation_leaves_who_was_recognised_by_an_identity_and_taking_it_away_does_not() {
        let checks = checks();
        let mut directory = with_key(&checks, identified(&["unix-user:7"]));
        let principal = checks.recognise(&directory, &peer(&["unix-user:7"]), HERE, NOW).unwrap().unwrap();
        let next = generation(&checks, &mixed(7, 8), 2);
        let rotate = Change::Rotate { by: None, id: principal.key, generation: next, overlap_seconds: 0 };
        apply(&mut directory, &rotate, NOW).unwrap();
        assert!(Authority::of(&directory, &checks.withdrawn, &principal, HERE, NOW).is_ok());
        let by_secret = Principal { identity: None, ..principal.clone() };
        assert!(
            Authority::of(&directory, &checks.withdrawn, &by_secret, HERE, NOW).is_err(),
            "its secret has ended"
        );

        let terms = TermsChange { identities: Some(Box::new([])), ..TermsChange::default() };
        let change = Change::Configure { by: None, id: principal.key, terms: Box::new(terms) };
        assert!(apply(&mut directory, &change, NOW).unwrap().restricts);
        let refused = Authority::of(&directory, &checks.withdrawn, &principal, HERE, NOW).err();
        assert_eq!(refused, Some(Refused::new(TAKEN_AWAY, Some(principal.key))));
        assert!(checks.recognise(&directory, &peer(&["unix-user:7"]), HERE, NOW).is_none());
    }

    #[test]
    fn a_rotation_and_a_revocation_hold_for_requests_that_have_begun() {
        let checks = checks();
        let mut directory = with_key(&checks, Terms::first());
        let old = recognise(&checks, &directory, &text(7), HERE, NOW).unwrap();
        let token = Principal {
            token: Some(Arc::new(TokenTerms {
                id: "t".into(),
                grants: Grants::parse(["encrypt:a*"]).unwrap(),
                expires: WallTime::from_millis(NOW.as_millis() + 60_000),
            })),
            ..old.clone()
        };
        let authority = Authority::of(&directory, &checks.withdrawn, &token, HERE, NOW).unwrap();
        assert!(authority.may_key(Permission::Encrypt, "ab") && !authority.may_key(Permission::Encrypt, "b"));
        assert!(!authority.may(Permission::Decrypt), "a token allows no more than it says");
        let given_back = Authenticator::new(&[1; 32], "i", "a");
        given_back.withdrawn.add(old.key, "t", WallTime::from_millis(NOW.as_millis() + 60_000), NOW).unwrap();
        let refused = Authority::of(&directory, &given_back.withdrawn, &token, HERE, NOW).err();
        assert_eq!(refused, Some(Refused::new(WITHDRAWN, Some(old.key))));
        assert!(Authority::of(&directory, &given_back.withdrawn, &old, HERE, NOW).is_ok(), "its key is not");

        let next = generation(&checks, &mixed(7, 8), 2);
        let rotate = Change::Rotate { by: None, id: old.key, generation: next, overlap_seconds: 10 };
        apply(&mut directory, &rotate, NOW).unwrap();
        assert!(
            Authority::of(&directory, &checks.withdrawn, &old, HERE, NOW).is_ok(),
            "the old secret overlaps"
        );
        assert_eq!(
            Authority::of(&directory, &checks.withdrawn, &token, HERE, NOW).err().map(|error| error.code),
            Some(REVOKED)
        );
        let new = recognise(&checks, &directory, &mixed(7, 8), HERE, NOW).unwrap();
        assert_eq!((new.generation, code(&checks, &directory, &text(7))), (2, ""));
        let later = WallTime::from_millis(NOW.as_millis() + 10_000);
        assert!(Authority::of(&directory, &checks.withdrawn, &old, HERE, later).is_err());
        let refused = recognise(&checks, &directory, &text(7), HERE, later).err();
        assert_eq!(refused, Some(Refused::new(WRONG, None)));

        let mut after = directory.clone();
        after.remove(old.key);
        assert!(Authority::of(&after, &checks.withdrawn, &new, HERE, NOW).is_err());
    }
}
