//! Who is let in: the look at the credential when the head has come, and the second look before anything is done.
//!
//! Owns the refusals of both. Invariants: whoever is not recognised learns neither why nor what exists; what somebody may do
//! is judged by the snapshot with which the request is carried out, so that a revocation holds for requests that have
//! begun.

use crate::api::route::{Access, Route};
use crate::api::{FORBIDDEN, Rejection, UNRECOGNISED, UNRECOGNISED_CHALLENGE};
use crate::auth::{self, Authority, CredentialFault, Directory, Refused};
use crate::http::responder::{Fault, Responder};
use crate::http::service::Arrival;
use crate::http::status::Status;
use crate::model::Principal;
use crate::server::service::App;

const NO_CREDENTIAL: Fault<'static> = Fault::new(
    Status::Unauthorized,
    "credential_missing",
    "Send an API key in X-API-Key, or an API key or a token in Authorization after Bearer.",
);
const TWO_CREDENTIALS: Fault<'static> =
    Fault::new(Status::BadRequest, "credential_repeated", "Send X-API-Key or Authorization, not both.");

/// Why somebody is not let in, and who it was, if that is certain.
#[derive(Debug)]
pub(super) struct Turned {
    /// What the audit line says.
    pub(super) code: &'static str,
    pub(super) principal: Option<Principal>,
    fault: Fault<'static>,
    challenge: &'static [(&'static str, &'static [u8])],
}

impl Turned {
    /// Writes the reply.
    pub(super) fn write(&self, responder: &mut Responder<'_>) {
        responder.fault(&self.fault, self.challenge);
    }
}

impl From<Refused> for Turned {
    fn from(Refused { code, key }: Refused) -> Self {
        let principal = key.map(|key| Principal { key, generation: 0, token: None });
        Self { code, principal, fault: UNRECOGNISED, challenge: UNRECOGNISED_CHALLENGE }
    }
}

impl From<CredentialFault> for Turned {
    fn from(fault: CredentialFault) -> Self {
        // RFC 6750, section 3.1: no error code for a request that brought no credential.
        const BARE: &[(&str, &[u8])] = &[("WWW-Authenticate", b"Bearer")];
        match fault {
            CredentialFault::Missing => {
                Self { code: NO_CREDENTIAL.code, principal: None, fault: NO_CREDENTIAL, challenge: BARE }
            }
            CredentialFault::Repeated => {
                Self { code: TWO_CREDENTIALS.code, principal: None, fault: TWO_CREDENTIALS, challenge: &[] }
            }
            CredentialFault::Malformed => Refused::new("credential_malformed", None).into(),
        }
    }
}

impl App {
    /// Finds out who asks, and whether they may ask that at all; nothing if everybody may.
    pub(super) fn identify(
        &self,
        arrival: &Arrival<'_>,
        access: Access,
    ) -> Result<Option<Principal>, Turned> {
        if access == Access::Public {
            return Ok(None);
        }
        let head = arrival.head;
        let text = auth::find(head.api_key(arrival.bytes), head.authorization(arrival.bytes))?;
        let (state, client, now) = (self.view.enter(), arrival.peer, self.turn.wall());
        let room = &mut self.room.borrow_mut();
        let principal = self.authenticator.authenticate(&state.callers, text, room, client, now)?;
        let authority = Authority::of(&state.callers, &principal, client, now)?;
        if may(&authority, access) {
            return Ok(Some(principal));
        }
        const SCOPE: &[(&str, &[u8])] = &[("WWW-Authenticate", b"Bearer error=\"insufficient_scope\"")];
        let (code, principal) = (FORBIDDEN.code, Some(principal));
        Err(Turned { code, principal, fault: FORBIDDEN, challenge: SCOPE })
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
        let authority = Authority::of(callers, principal, arrival.peer, self.turn.wall());
        let authority = authority.map_err(Rejection::Unrecognised)?;
        if may(&authority, route.access) { Ok(Some(authority)) } else { Err(FORBIDDEN.into()) }
    }
}

fn may(authority: &Authority<'_>, access: Access) -> bool {
    match access {
        Access::Public | Access::Recognised => true,
        Access::Permitted(permission) => authority.may(permission),
    }
}
