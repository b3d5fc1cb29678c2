//! Who is let in: the look at the credential when the head has come, and the second look before anything is done.
//!
//! Owns the refusals of both, and what they are counted by. Invariants: a credential counts alone, and what the connection proves only
//! where there is none; whoever is not recognised learns neither why nor what exists; what somebody may do
//! is judged by the snapshot with which the request is carried out, so that a revocation holds for requests that have
//! begun.

use crate::api::payload::Digits;
use crate::api::route::{Access, Route};
use crate::api::{FORBIDDEN, Rejection, UNRECOGNISED, UNRECOGNISED_CHALLENGE};
use crate::auth::{self, Authority, CredentialFault, Directory, Refused};
use crate::http::forwarded::Forwarding;
use crate::http::head::Head;
use crate::http::responder::{Fault, Responder};
use crate::http::service::Arrival;
use crate::http::status::Status;
use crate::limiter::{Addresses, Bucket, Decision};
use crate::metrics::{AuthFailure, Limited, Worker as Counters};
use crate::model::{Identities, Principal, StoreHealth};
use crate::quota::{Quota, Rate};
use crate::reactor::Account;
use crate::server::service::App;

const NO_CREDENTIAL: Fault<'static> = Fault::new(
    Status::Unauthorized,
    "credential_missing",
    "Send an API key in X-API-Key, or an API key or a token in Authorization after Bearer.",
);
const TWO_CREDENTIALS: Fault<'static> =
    Fault::new(Status::BadRequest, "credential_repeated", "Send X-API-Key or Authorization, not both.");

/// In which field clients of Vault send their credential.
pub(super) const VAULT_TOKEN: &str = "X-Vault-Token";

/// The limit of API keys, as replies name it.
const KEY_POLICY: &str = "key";
const RATE_LIMITED: Fault<'static> = Fault::new(
    Status::TooManyRequests,
    "rate_limited",
    "There were more requests than the limit allows: see RateLimit and Retry-After.",
);

const STORE_STALE: Fault<'static> = Fault::new(
    Status::ServiceUnavailable,
    "store_stale",
    "The store cannot be reached, and what is known of revocations is too old. Try again shortly, or ask another server.",
);

/// Who is limited, and how.
#[derive(Debug)]
pub(super) struct Limits {
    /// How often an API key may ask that has no rate of its own; nothing: as often as it likes.
    pub(super) rate: Option<Rate>,
    /// How often those may ask whom nobody recognises; nothing: as often as they like.
    pub(super) addresses: Option<Addresses>,
}

/// Why somebody is not let in, and who it was, if that is certain.
#[derive(Debug)]
pub(super) struct Turned {
    /// What the audit line says.
    pub(super) code: &'static str,
    pub(super) principal: Option<Principal>,
    fault: &'static Fault<'static>,
    challenge: &'static [(&'static str, &'static [u8])],
    retry_after_seconds: Option<u32>,
}

impl Turned {
    const fn new(
        fault: &'static Fault<'static>,
        challenge: &'static [(&'static str, &'static [u8])],
        principal: Option<Principal>,
    ) -> Self {
        Self { code: fault.code, principal, fault, challenge, retry_after_seconds: None }
    }

    /// Who asks too often.
    fn limited(decision: &Decision, principal: Option<Principal>) -> Self {
        let retry_after_seconds = Some(decision.retry_after_seconds);
        Self { retry_after_seconds, ..Self::new(&RATE_LIMITED, &[], principal) }
    }

    /// What is known of who may do what is too old.
    fn stale() -> Self {
        Self { retry_after_seconds: Some(1), ..Self::new(&STORE_STALE, &[], None) }
    }

    /// Whether it is for asking too often.
    pub(super) fn is_limited(&self) -> bool {
        self.code == RATE_LIMITED.code
    }

    /// Writes the reply.
    pub(super) fn write(&self, responder: &mut Responder<'_>) {
        match self.retry_after_seconds {
            None => responder.fault(self.fault, self.challenge),
            Some(seconds) => {
                responder.fault(self.fault, &[("Retry-After", Digits::of(seconds).as_bytes())]);
            }
        }
    }
}

impl From<Refused> for Turned {
    fn from(Refused { code, key }: Refused) -> Self {
        let principal = key.map(|key| Principal { key, generation: 0, token: None, identity: None });
        Self { code, ..Self::new(&UNRECOGNISED, UNRECOGNISED_CHALLENGE, principal) }
    }
}

impl From<CredentialFault> for Turned {
    fn from(fault: CredentialFault) -> Self {
        // RFC 6750, section 3.1: no error code for a request that brought no credential.
        const BARE: &[(&str, &[u8])] = &[("WWW-Authenticate", b"Bearer")];
        match fault {
            CredentialFault::Missing => Self::new(&NO_CREDENTIAL, BARE, None),
            CredentialFault::Repeated => Self::new(&TWO_CREDENTIALS, &[], None),
            CredentialFault::Malformed => Refused::new("credential_malformed", None).into(),
        }
    }
}

impl App {
    /// Finds out who asks, whether they may ask that at all, and whether not too often; nothing if everybody may. Beside
    /// it stands on whose account the memory of the request is.
    pub(super) fn let_in(
        &self,
        arrival: &Arrival<'_>,
        route: &Route,
        responder: &mut Responder<'_>,
    ) -> Result<Option<(Principal, Account)>, Turned> {
        if route.access == Access::Public {
            // Probes are never limited; documents are longer.
            return if route.cost == 0 {
                Ok(None)
            } else {
                self.limit_address(arrival, responder).map(|()| None)
            };
        }
        if route.access == Access::Presented {
            // Nobody is recognised yet: whoever tries is limited by where he is.
            return self.limit_address(arrival, responder).map(|()| None);
        }
        // After it nothing older is looked at.
        let state = self.view.enter();
        if self.fleet.is_stale() {
            return Err(Turned::stale());
        }
        let principal = match self.identify(&state.callers, arrival) {
            Ok(principal) => principal,
            // Whoever is not recognised is limited by where he is. One who is does not suffer from his neighbours.
            Err(turned) => {
                return Err(self.limit_address(arrival, responder).err().unwrap_or(turned));
            }
        };
        let authority = self.judge(&state.callers, &principal, arrival)?;
        let decision = self.charge(&authority, route.cost);
        if let Some(decision) = decision {
            responder.limit(decision.quota);
            if !decision.allowed {
                return Err(Turned::limited(&decision, Some(principal)));
            }
        }
        if may(&authority, route.access) {
            let account = responder.account(authority.key.usage.held());
            return Ok(Some((principal, account)));
        }
        const SCOPE: &[(&str, &[u8])] = &[("WWW-Authenticate", b"Bearer error=\"insufficient_scope\"")];
        Err(Turned::new(&FORBIDDEN, SCOPE, Some(principal)))
    }

    /// How the store is, for those who ask.
    pub(super) fn store_health(&self) -> StoreHealth {
        if self.fleet.is_stale() { StoreHealth::Stale } else { self.keeper.store() }
    }

    /// Counts somebody who was not let in.
    pub(super) fn count_turned(&self, turned: &Turned) {
        if turned.is_limited() {
            let by = if turned.principal.is_some() { Limited::Key } else { Limited::Address };
            Counters::count(&self.counters.limited, by as usize, 1);
        } else {
            self.count_failure(turned.code);
        }
    }

    pub(super) fn count_failure(&self, code: &str) {
        let failure = AuthFailure::of_code(code);
        Counters::count(&self.counters.auth_failures, failure as usize, 1);
    }

    fn identify(&self, callers: &Directory, arrival: &Arrival<'_>) -> Result<Principal, Turned> {
        let head = arrival.head;
        let (client, now) = (arrival.client, self.turn.wall());
        // The field of Vault's clients says the same as ours, where they are served.
        let own = head.api_key(arrival.bytes);
        let theirs = if self.is_of_vault(arrival) {
            head.rare(arrival.bytes, VAULT_TOKEN).map_err(|_| CredentialFault::Repeated)?
        } else {
            None
        };
        if own.is_some() && theirs.is_some() {
            return Err(CredentialFault::Repeated.into());
        }
        match auth::find(own.or(theirs), head.authorization(arrival.bytes)) {
            Ok(text) => {
                let room = &mut self.room.borrow_mut();
                Ok(self.authenticator.authenticate(callers, text, room, client, now)?)
            }
            Err(CredentialFault::Missing) => {
                let proven = proven(arrival)
                    .and_then(|proven| self.authenticator.recognise(callers, proven, client, now));
                Ok(proven.ok_or(CredentialFault::Missing)??)
            }
            Err(fault) => Err(fault.into()),
        }
    }

    /// Counts a request of somebody whom nobody recognises.
    pub(super) fn limit_address(
        &self,
        arrival: &Arrival<'_>,
        responder: &mut Responder<'_>,
    ) -> Result<(), Turned> {
        let Some(addresses) = &self.limits.addresses else { return Ok(()) };
        let decision = addresses.take(arrival.client, self.turn.now(), 1);
        responder.limit(decision.quota);
        if decision.allowed { Ok(()) } else { Err(Turned::limited(&decision, None)) }
    }

    fn charge(&self, authority: &Authority<'_>, cost: u32) -> Option<Decision> {
        let rate = self.fleet.share(authority.key.terms.rate.or(self.limits.rate)?);
        Some(Bucket::new(authority.key.usage.level(), rate, KEY_POLICY).take(self.turn.now(), cost))
    }

    /// Counts what a request turned out to cost, whether or not so much is left.
    pub(super) fn debit(&self, authority: &Authority<'_>, cost: usize) -> Option<Quota> {
        let rate = self.fleet.share(authority.key.terms.rate.or(self.limits.rate)?);
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        let bucket = Bucket::new(authority.key.usage.level(), rate, KEY_POLICY);
        Some(bucket.debit(self.turn.now(), cost).quota)
    }

    /// Looks again whether `principal` may have `route` served.
    pub(super) fn authorise<'a>(
        &self,
        route: &Route,
        callers: &'a Directory,
        arrival: &Arrival<'_>,
        principal: Option<&'a Principal>,
    ) -> Result<Option<Authority<'a>>, Rejection> {
        let Some(principal) = principal else { return Ok(None) };
        if self.fleet.is_stale() {
            return Err(STORE_STALE.into());
        }
        let authority = self.judge(callers, principal, arrival);
        let authority = authority.map_err(Rejection::Unrecognised)?;
        if may(&authority, route.access) { Ok(Some(authority)) } else { Err(FORBIDDEN.into()) }
    }

    fn judge<'a>(
        &self,
        callers: &'a Directory,
        principal: &'a Principal,
        arrival: &Arrival<'_>,
    ) -> Result<Authority<'a>, Refused> {
        let withdrawn = self.authenticator.withdrawn();
        Authority::of(callers, withdrawn, principal, arrival.client, self.turn.wall())
    }
}

/// The identities that the connection proves of who asks. They are not those of a client for whom a proxy asks, trusted or
/// not; and a browser shows them without its user's knowing to whatever page tells it to ask, and then says so.
fn proven<'a>(arrival: &Arrival<'a>) -> Option<&'a Identities> {
    let Arrival { head, bytes, .. } = arrival;
    let own = arrival.client == arrival.peer.address
        && !Forwarding::is_told(head, bytes)
        && head.origin(bytes).is_none()
        && !is_anothers_doing(head, bytes);
    arrival.peer.identities.as_deref().filter(|_| own)
}

/// Whether a browser says that something else than its user or a page of this server is behind the request (W3C, Fetch
/// Metadata Request Headers, section 2.3): it does where it names no origin, for an image or a link.
fn is_anothers_doing(head: &Head, bytes: &[u8]) -> bool {
    head.values_from_last(bytes, "sec-fetch-site").any(|site| site != b"none" && site != b"same-origin")
}

fn may(authority: &Authority<'_>, access: Access) -> bool {
    match access {
        Access::Public | Access::Recognised | Access::Presented => true,
        Access::Permitted(permission) => authority.may(permission),
    }
}
