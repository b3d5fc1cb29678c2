//! `auth/token` and `auth/approle/login`: who asks, in the words of Vault's clients.
//!
//! Owns the forms of these requests. Invariants: a login is an API key in two parts, and gives a token of it as the native
//! route does; no reply but that of a login holds a credential; what is said to be revoked is.

use serde::Serialize;

use crate::api::auth::form::ScopeList;
use crate::api::auth::token::issue;
use crate::api::body::Text;
use crate::api::form::{self, Form, Json, Sink};
use crate::api::vault::envelope::{put_id, reply_data, reply_done};
use crate::api::vault::errors::fault;
use crate::api::vault::members::read;
use crate::api::{Answer, Call, UNRECOGNISED};
use crate::auth::Authority;
use crate::encoding::hex_encode;
use crate::http::media::ReplyForm;
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::limits::{CREDENTIAL_MAX_BYTES, TOKEN_LIFETIME_DEFAULT_SECONDS};
use crate::model::RequestId;

const NOT_RENEWABLE: Fault<'static> = fault("not_renewable", "lease is not renewable");
const NO_SELF: Fault<'static> = fault(
    "api_key_not_revocable_here",
    "this is an API key, which others may be using: POST /api/auth/keys/{id}/revoke revokes it",
);
const TOO_MANY_WITHDRAWN: Fault<'static> = Fault::new(
    Status::ServiceUnavailable,
    "tokens_withdrawn_full",
    "as many tokens are revoked as can be remembered: rotate the API key instead",
);
const MISSING_ROLE: Fault<'static> = fault("credential_missing", "missing role_id");
const MISSING_SECRET: Fault<'static> = fault("credential_missing", "missing secret_id");

/// What every API key begins with.
const KEY_PREFIX: &str = "qk_";

#[derive(Serialize)]
struct Own<'a> {
    accessor: &'a str,
    creation_time: u64,
    creation_ttl: u64,
    display_name: &'a str,
    entity_id: &'static str,
    expire_time: Option<String>,
    explicit_max_ttl: u64,
    /// The public identifier: the credential itself is in no reply.
    id: &'a str,
    issue_time: String,
    meta: Option<()>,
    num_uses: u32,
    orphan: bool,
    path: &'static str,
    policies: ScopeList<'a>,
    renewable: bool,
    ttl: u64,
    #[serde(rename = "type")]
    kind: &'static str,
}

/// `GET auth/token/lookup-self`
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn lookup_self(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let Authority { key, token } = call.authority.ok_or(UNRECOGNISED)?;
    let expires = token.map(|token| token.expires).or(key.terms.expires);
    let ttl = expires.map_or(0, |ends| ends.as_secs().saturating_sub(call.wall.as_secs()));
    let created = key.current.created;
    let own = Own {
        accessor: token.map_or(key.id.as_str(), |token| &token.id),
        creation_time: created.as_secs(),
        creation_ttl: expires.map_or(0, |ends| ends.as_secs().saturating_sub(created.as_secs())),
        display_name: &key.terms.name,
        entity_id: "",
        expire_time: expires.map(|ends| ends.civil().to_string()),
        explicit_max_ttl: 0,
        id: key.id.as_str(),
        issue_time: created.civil().to_string(),
        meta: None,
        num_uses: 0,
        orphan: true,
        path: if token.is_some() { "auth/approle/login" } else { "auth/token/create" },
        policies: ScopeList(token.map_or(&key.terms.grants, |token| &token.grants)),
        renewable: false,
        ttl,
        kind: "service",
    };
    reply_data(call.arrival.id, responder, Json(&own))
}

/// `POST auth/token/renew-self`: no credential of this server lives longer because it is asked for.
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn renew_self(_: &mut Call<'_>, _: &mut Responder<'_>) -> Answer {
    Err(NOT_RENEWABLE.into())
}

/// `POST auth/token/revoke-self`
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn revoke_self(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let authority = call.authority.ok_or(UNRECOGNISED)?;
    let token = authority.token.ok_or(NO_SELF)?;
    call.subject.note_api_key(authority.key.id);
    let withdrawn = call.authenticator.withdrawn().add(authority.key.id, &token.id, token.expires, call.wall);
    withdrawn.map_err(|_| TOO_MANY_WITHDRAWN)?;
    reply_done(responder)
}

#[derive(serde::Deserialize)]
struct LoginBody<'a> {
    #[serde(borrow, default)]
    role_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    secret_id: Option<Text<'a>>,
}

/// `POST auth/approle/login`: the role is the identifier of an API key, the secret what stands behind its dot, or the key as a
/// whole.
///
/// # Errors
/// [`Rejection`](crate::api::Rejection)
pub fn login(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    let body: LoginBody<'_> = read(call.body)?;
    let filled = |text: Option<Text<'_>>, missing: Fault<'static>| {
        text.map(|text| text.as_str().to_owned()).filter(|text| !text.is_empty()).ok_or(missing)
    };
    let role = filled(body.role_id, MISSING_ROLE)?;
    let secret = zeroize::Zeroizing::new(filled(body.secret_id, MISSING_SECRET)?);
    let role = role.strip_prefix(KEY_PREFIX).unwrap_or(&role);
    let mut text = zeroize::Zeroizing::new(String::with_capacity(CREDENTIAL_MAX_BYTES));
    let own = secret.strip_prefix(KEY_PREFIX).and_then(|rest| rest.strip_prefix(role)?.strip_prefix('.'));
    for piece in [KEY_PREFIX, role, ".", own.unwrap_or(&secret)] {
        text.push_str(piece.get(..piece.len().min(CREDENTIAL_MAX_BYTES)).unwrap_or_default());
    }
    let client = call.arrival.client;
    let found = call.authenticator.api_key(call.callers, text.as_bytes(), client, call.wall);
    let principal = found.map_err(refused)?;
    let key = Authority::of(call.callers, call.authenticator.withdrawn(), &principal, client, call.wall)
        .map_err(refused)?
        .key;
    call.subject.note_api_key(key.id);
    let scope = key.terms.grants.to_string();
    let made = issue(call, key, principal.generation, TOKEN_LIFETIME_DEFAULT_SECONDS, &scope)?;
    let mut accessor = [0; 2 * crate::auth::jwt::IDENTIFIER_BYTES];
    hex_encode(&made.identifier, &mut accessor);
    let policies = ScopeList(&key.terms.grants);
    let auth = Auth {
        client_token: &made.text,
        accessor: str::from_utf8(&accessor).unwrap_or_default(),
        policies: &policies,
        token_policies: &policies,
        metadata: Metadata { role_name: &key.terms.name },
        lease_duration: made.lifetime_seconds,
        renewable: false,
        entity_id: "",
        token_type: "service",
        orphan: true,
        num_uses: 0,
        mfa_requirement: None,
    };
    form::reply(responder, Status::Ok, ReplyForm::Json, &[], &LoggedIn { id: call.arrival.id, auth })
}

/// As the engine refuses a login: it says neither what was wrong nor whether the role exists.
fn refused(refused: crate::auth::Refused) -> Fault<'static> {
    fault(refused.code, "invalid role or secret ID")
}

#[derive(Serialize)]
struct Metadata<'a> {
    role_name: &'a str,
}

#[derive(Serialize)]
struct Auth<'a> {
    client_token: &'a str,
    accessor: &'a str,
    policies: &'a ScopeList<'a>,
    token_policies: &'a ScopeList<'a>,
    metadata: Metadata<'a>,
    lease_duration: u64,
    renewable: bool,
    entity_id: &'static str,
    token_type: &'static str,
    orphan: bool,
    num_uses: u32,
    mfa_requirement: Option<()>,
}

struct LoggedIn<'a> {
    id: &'a RequestId,
    auth: Auth<'a>,
}

impl Form for LoggedIn<'_> {
    fn write(&self, sink: &mut impl Sink) {
        sink.put(b"{\"request_id\":\"");
        put_id(sink, self.id);
        sink.put(b"\",\"lease_id\":\"\",\"renewable\":false,\"lease_duration\":0,\"data\":null,");
        sink.put(b"\"wrap_info\":null,\"warnings\":null,\"auth\":");
        sink.put_json(&self.auth);
        sink.put(b"}\n");
    }
}
