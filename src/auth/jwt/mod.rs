//! Tokens: JWT (RFC 7519) that an API key stands behind, each generation of a key with a secret of its own.
//!
//! Owns which claims a token has and what is asked of them ([`read`], [`Unverified::verify`]), and their making
//! ([`issue`]). Invariants: no claim is judged before the signature was compared, only its form is looked at; a token
//! of an unknown key or generation is compared too, with a decoy, so that time does not tell; what is issued here is
//! accepted here.
//!
//! The profile is closed on purpose. Of the header only `alg` and `typ` are borne, and `alg` is `HS256`. All of `iss`,
//! `sub`, `aud`, `iat`, `nbf`, `exp`, `jti`, `scope` (RFC 8693, section 4.2) and `gen` are required; further claims are
//! ignored.

mod fault;
pub mod jws;
mod object;

use core::fmt;
use core::time::Duration;
use std::borrow::Cow;

use serde::Serialize;
use zeroize::Zeroizing;

pub use self::fault::TokenFault;
use self::jws::Jws;
pub use self::jws::Room;
use self::object::{Texts, Value};
use crate::clock::WallTime;
use crate::encoding::hex_encode;
use crate::limits::{
    TIME_MAX_MILLIS, TOKEN_IDENTIFIER_MAX_BYTES, TOKEN_LEEWAY_MILLIS, TOKEN_LIFETIME_MAX_SECONDS,
    TOKEN_LIFETIME_MIN_SECONDS,
};
use crate::model::ApiKeyId;

/// Length of the secret that signs the tokens of one generation of an API key.
pub const SECRET_BYTES: usize = 32;
/// Length of the random part of a token's identifier, which it shows in hexadecimal.
pub const IDENTIFIER_BYTES: usize = 16;

/// What is asked of a token beyond its signature.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'e> {
    /// The `iss` that it must have.
    pub issuer: &'e str,
    /// The `aud` that it must have, alone or among others.
    pub audience: &'e str,
    /// The time at which it is presented.
    pub now: WallTime,
}

/// What a valid token says. Its texts stand in the room in which it was decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims<'a> {
    /// `sub`: the API key that stands behind it.
    pub key_id: [u8; ApiKeyId::LEN],
    /// `gen`: the generation of that key.
    pub generation: u32,
    /// `iat`: when it was made.
    pub issued: WallTime,
    /// `nbf`: when it begins.
    pub not_before: WallTime,
    /// `exp`: when it ends.
    pub expires: WallTime,
    /// `jti`: 1 to 64 letters, digits, `_` and `-`.
    pub jti: Cow<'a, str>,
    /// `scope`: one or more scopes with one space between any two. Not parsed here.
    pub scope: Cow<'a, str>,
}

/// A token of the right form. It may come from anybody.
pub struct Unverified<'a> {
    jws: Jws<'a>,
    issuer: Cow<'a, str>,
    audience: Texts<'a>,
    claims: Claims<'a>,
}

impl fmt::Debug for Unverified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unverified").field("claims", &self.claims).finish_non_exhaustive()
    }
}

/// Whether a credential is to be read as a token, not as an API key: an API key has one dot, a token two.
#[must_use]
pub fn is_token(credential: &[u8]) -> bool {
    !credential.starts_with(b"qk_") && credential.iter().filter(|byte| **byte == b'.').nth(1).is_some()
}

/// Takes a token apart and looks at its form. Nothing is allocated unless a text in it has an escape.
///
/// # Errors
/// [`TokenFault`], up to and including [`TokenFault::Claims`]
pub fn read<'a>(token: &'a [u8], room: &'a mut Room) -> Result<Unverified<'a>, TokenFault> {
    let jws = Jws::read(token, room)?;
    let mut draft = Draft::default();
    object::read(jws.payload(), &mut |name, value| draft.take(name, value))?;
    draft.complete(jws).ok_or(TokenFault::Claims)
}

impl<'a> Unverified<'a> {
    /// The API key that it names: whose secret to verify it with.
    #[must_use]
    pub const fn key_id(&self) -> &[u8; ApiKeyId::LEN] {
        &self.claims.key_id
    }

    /// The generation of that key.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.claims.generation
    }

    /// Compares the signature, then judges the claims. For a key or generation that is not known, `secret` is a
    /// random one that signs nothing.
    ///
    /// # Errors
    /// [`TokenFault`], from [`TokenFault::Signature`] on
    pub fn verify(
        self,
        secret: &[u8; SECRET_BYTES],
        expected: &Expected<'_>,
    ) -> Result<Claims<'a>, TokenFault> {
        if !self.jws.is_authentic(secret) {
            return Err(TokenFault::Signature);
        }
        if self.issuer != expected.issuer {
            return Err(TokenFault::Issuer);
        }
        if !self.audience.contains(expected.audience) {
            return Err(TokenFault::Audience);
        }
        self.claims.judge_times(expected.now)?;
        Ok(self.claims)
    }
}

impl Claims<'_> {
    /// RFC 7519, sections 4.1.4 to 4.1.6; a token that ends at a moment is not valid at that moment.
    fn judge_times(&self, now: WallTime) -> Result<(), TokenFault> {
        let [issued, not_before, expires, now] =
            [self.issued, self.not_before, self.expires, now].map(WallTime::as_millis);
        let lifetime = expires.checked_sub(issued).filter(|millis| *millis > 0);
        if lifetime.is_none_or(|millis| millis > TOKEN_LIFETIME_MAX_SECONDS * 1_000) {
            return Err(TokenFault::Lifetime);
        }
        if issued.max(not_before) > now.saturating_add(TOKEN_LEEWAY_MILLIS) {
            return Err(TokenFault::NotYet);
        }
        if now >= expires.saturating_add(TOKEN_LEEWAY_MILLIS) {
            return Err(TokenFault::Expired);
        }
        Ok(())
    }
}

/// The claims that were met so far.
#[derive(Default)]
struct Draft<'a> {
    issuer: Option<Cow<'a, str>>,
    key_id: Option<[u8; ApiKeyId::LEN]>,
    audience: Option<Texts<'a>>,
    issued: Option<WallTime>,
    not_before: Option<WallTime>,
    expires: Option<WallTime>,
    jti: Option<Cow<'a, str>>,
    scope: Option<Cow<'a, str>>,
    generation: Option<u32>,
}

impl<'a> Draft<'a> {
    /// Takes a claim that was not met before.
    fn take(&mut self, name: &str, value: Value<'a>) -> Result<(), TokenFault> {
        let formed = match name {
            "iss" => put(&mut self.issuer, text(value)),
            "sub" => put(&mut self.key_id, text(value).and_then(|id| key_id(&id))),
            "aud" => put(&mut self.audience, texts(value)),
            "iat" => put(&mut self.issued, numeric_date(&value)),
            "nbf" => put(&mut self.not_before, numeric_date(&value)),
            "exp" => put(&mut self.expires, numeric_date(&value)),
            "jti" => put(&mut self.jti, text(value).filter(|jti| is_identifier(jti))),
            "scope" => put(&mut self.scope, text(value).filter(|scope| is_scope(scope))),
            "gen" => put(&mut self.generation, generation(&value)),
            _ => true,
        };
        if formed { Ok(()) } else { Err(TokenFault::Claims) }
    }

    fn complete(self, jws: Jws<'a>) -> Option<Unverified<'a>> {
        let claims = Claims {
            key_id: self.key_id?,
            generation: self.generation?,
            issued: self.issued?,
            not_before: self.not_before?,
            expires: self.expires?,
            jti: self.jti?,
            scope: self.scope?,
        };
        Some(Unverified { jws, issuer: self.issuer?, audience: self.audience?, claims })
    }
}

/// Puts a claim in its place; says whether it was of its form.
fn put<T>(place: &mut Option<T>, claim: Option<T>) -> bool {
    *place = claim;
    place.is_some()
}

fn text(value: Value<'_>) -> Option<Cow<'_, str>> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn texts(value: Value<'_>) -> Option<Texts<'_>> {
    match value {
        Value::Text(text) => Some(Texts::of(text)),
        Value::Texts(texts) => Some(texts),
        _ => None,
    }
}

fn generation(value: &Value<'_>) -> Option<u32> {
    if let Value::Whole(number) = value { u32::try_from(*number).ok() } else { None }
}

/// RFC 7519, section 2: seconds since 1970, possibly with a fraction; milliseconds are kept.
fn numeric_date(value: &Value<'_>) -> Option<WallTime> {
    let millis = match value {
        Value::Whole(seconds) => seconds.checked_mul(1_000)?,
        // Refuses what is negative or too large; the sign is looked at for the sake of -0.
        Value::Fraction(seconds) if seconds.is_sign_positive() => {
            let micros = Duration::try_from_secs_f64(*seconds).ok()?.as_micros();
            // To the nearest: a double seldom is what was written down.
            u64::try_from(micros.checked_add(500)? / 1_000).ok()?
        }
        _ => return None,
    };
    (millis <= TIME_MAX_MILLIS).then_some(WallTime::from_millis(millis))
}

fn key_id(text: &str) -> Option<[u8; ApiKeyId::LEN]> {
    let id: [u8; ApiKeyId::LEN] = text.as_bytes().try_into().ok()?;
    id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some(id)
}

fn is_identifier(text: &str) -> bool {
    (1..=TOKEN_IDENTIFIER_MAX_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// RFC 6749, section 3.3.
fn is_scope(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    text.split(' ').all(|scope| !scope.is_empty() && scope.bytes().all(is_plain))
}

/// A token to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewToken<'t> {
    /// The API key that stands behind it: 8 hexadecimal digits.
    pub key_id: [u8; ApiKeyId::LEN],
    /// The generation of that key whose secret signs.
    pub generation: u32,
    /// Who makes it.
    pub issuer: &'t str,
    /// For whom it is.
    pub audience: &'t str,
    /// Now. The token begins at the full second before.
    pub issued: WallTime,
    /// From that second to its end: [`TOKEN_LIFETIME_MIN_SECONDS`] to [`TOKEN_LIFETIME_MAX_SECONDS`].
    pub lifetime_seconds: u64,
    /// Random.
    pub jti: [u8; IDENTIFIER_BYTES],
    /// One or more scopes with one space between any two.
    pub scope: &'t str,
}

/// The claims as they are written, in this order.
#[derive(Serialize)]
struct Payload<'t> {
    iss: &'t str,
    sub: &'t str,
    aud: &'t str,
    iat: u64,
    nbf: u64,
    exp: u64,
    jti: &'t str,
    scope: &'t str,
    #[serde(rename = "gen")]
    generation: u32,
}

/// Makes a token.
///
/// # Errors
/// Why it would be refused: [`TokenFault::Claims`] for a `key_id` or `scope` that is not of its form,
/// [`TokenFault::Lifetime`], and [`TokenFault::Oversized`], which is for scopes that are too long together.
pub fn issue(secret: &[u8; SECRET_BYTES], new: &NewToken<'_>) -> Result<Zeroizing<String>, TokenFault> {
    if !(TOKEN_LIFETIME_MIN_SECONDS..=TOKEN_LIFETIME_MAX_SECONDS).contains(&new.lifetime_seconds) {
        return Err(TokenFault::Lifetime);
    }
    let sub = str::from_utf8(&new.key_id).ok().filter(|id| key_id(id).is_some()).ok_or(TokenFault::Claims)?;
    if !is_scope(new.scope) {
        return Err(TokenFault::Claims);
    }
    let mut jti = [0; 2 * IDENTIFIER_BYTES];
    hex_encode(&new.jti, &mut jti);
    let issued = new.issued.as_secs();
    let payload = Payload {
        iss: new.issuer,
        sub,
        aud: new.audience,
        iat: issued,
        nbf: issued,
        exp: issued.saturating_add(new.lifetime_seconds),
        jti: str::from_utf8(&jti).map_err(|_| TokenFault::Claims)?,
        scope: new.scope,
        generation: new.generation,
    };
    let payload = serde_json::to_vec(&payload).map_err(|_| TokenFault::Claims)?;
    jws::sign(secret, &payload)
}
