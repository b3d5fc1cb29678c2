//! `POST /api/auth/token`: a token from an API key.
//!
//! Owns the form of request and reply. Invariants: only an API key gets a token, so that no token prolongs itself; a token
//! allows no more than its key, and ends no later than the secret that it was got with.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::api::auth::keys::{KEY_REQUIRED, manager, scopes};
use crate::api::body::{Text, present, read};
use crate::api::keys::require_json;
use crate::api::{Answer, Call, FORBIDDEN, Rejection, UNRECOGNISED, reply_json};
use crate::auth::ApiKey;
use crate::auth::jwt::{self, NewToken};
use crate::http::responder::{Fault, Responder};
use crate::http::status::Status;
use crate::limits::{TOKEN_LIFETIME_DEFAULT_SECONDS, TOKEN_LIFETIME_MAX_SECONDS, TOKEN_LIFETIME_MIN_SECONDS};

const BAD_LIFETIME: Fault<'static> = Fault::new(
    Status::BadRequest,
    "lifetime_not_allowed",
    "expires_in is a number of seconds from 1 to 86400.",
);
const BAD_AUDIENCE: Fault<'static> = Fault::new(
    Status::BadRequest,
    "unknown_audience",
    "This server makes tokens for its own audience alone: leave audience away.",
);
const TOO_LONG: Fault<'static> = Fault::new(
    Status::BadRequest,
    "token_too_large",
    "The scopes do not fit a token: ask for fewer of them.",
);
const ENDING: Fault<'static> =
    Fault::new(Status::Forbidden, "credential_ends", "The API key ends within a second.");

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    scopes: Option<Vec<Text<'a>>>,
    #[serde(default, deserialize_with = "present")]
    expires_in: Option<u64>,
    #[serde(borrow, default, deserialize_with = "present")]
    audience: Option<Text<'a>>,
}

/// As RFC 6749, section 5.1 shows it.
#[derive(Serialize)]
struct Reply<'a> {
    access_token: &'a str,
    token_type: &'static str,
    expires_in: u64,
    scope: &'a str,
}

/// Serves the route.
///
/// # Errors
/// [`Rejection`]
pub fn token(call: &mut Call<'_>, responder: &mut Responder<'_>) -> Answer {
    manager(call)?;
    let (authority, principal) = call.authority.zip(call.principal).ok_or(UNRECOGNISED)?;
    if principal.identity().is_some() {
        // It would outlive the identity, which is taken away from one request to the next.
        return Err(KEY_REQUIRED.into());
    }
    let key = authority.key;
    let (scope, wanted) = {
        let body: Body<'_> = if call.body.is_empty() {
            call.query(&[])?;
            Body::default()
        } else {
            require_json(call)?;
            read(call.body)?
        };
        if body.audience.is_some_and(|audience| audience.as_str() != call.authenticator.audience()) {
            return Err(BAD_AUDIENCE.into());
        }
        let grants = match &body.scopes {
            None => key.terms.grants.clone(),
            Some(texts) => scopes(texts)?,
        };
        if !key.terms.grants.covers(&grants) {
            return Err(FORBIDDEN.into());
        }
        (grants.to_string(), body.expires_in.unwrap_or(TOKEN_LIFETIME_DEFAULT_SECONDS))
    };
    if !(TOKEN_LIFETIME_MIN_SECONDS..=TOKEN_LIFETIME_MAX_SECONDS).contains(&wanted) {
        return Err(BAD_LIFETIME.into());
    }
    let made = issue(call, key, principal.generation, wanted, &scope)?;
    let reply = Reply {
        access_token: &made.text,
        token_type: "Bearer",
        expires_in: made.lifetime_seconds,
        scope: &scope,
    };
    reply_json(responder, Status::Ok, &reply)
}

/// A token that was made.
pub(in crate::api) struct Made {
    /// Its text.
    pub(in crate::api) text: Zeroizing<String>,
    /// How long it lives.
    pub(in crate::api) lifetime_seconds: u64,
    /// Its identifier.
    pub(in crate::api) identifier: [u8; jwt::IDENTIFIER_BYTES],
}

/// Makes a token of an API key that was presented with its secret of this generation.
///
/// # Errors
/// [`Rejection`]
pub(in crate::api) fn issue(
    call: &mut Call<'_>,
    key: &ApiKey,
    generation: u32,
    wanted: u64,
    scope: &str,
) -> Result<Made, Rejection> {
    let wall = call.wall;
    // Got with a secret that overlaps, it ends with that one.
    let overlapping = key.overlapping(wall).filter(|last| last.generation.number == generation);
    let ends = [key.terms.expires, overlapping.map(|last| last.ends)].into_iter().flatten().min();
    let left = ends.map_or(wanted, |ends| ends.as_secs().saturating_sub(wall.as_secs()));
    let lifetime_seconds = wanted.min(left);
    if lifetime_seconds < TOKEN_LIFETIME_MIN_SECONDS {
        return Err(ENDING.into());
    }
    let mut identifier = [0; jwt::IDENTIFIER_BYTES];
    call.tools.draw(call.now, &mut identifier)?;
    let new = NewToken {
        key_id: *key.id.as_bytes(),
        generation: key.current.number,
        issuer: call.authenticator.issuer(),
        audience: call.authenticator.audience(),
        issued: wall,
        lifetime_seconds,
        jti: identifier,
        scope,
    };
    let made = key.current.token_secret.with(|secret| jwt::issue(secret, &new));
    let text = made.map_err(|_| TOO_LONG)?;
    Ok(Made { text, lifetime_seconds, identifier })
}
