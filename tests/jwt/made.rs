//! Tokens made by hand, good ones and others, and the judgement of them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code outside of #[test] functions")]

use quantonium::auth::jwt::{self, Expected, NewToken, Room, TokenFault};
use quantonium::clock::WallTime;
use quantonium::crypto::hash::Algorithm;
use quantonium::crypto::mac::MacKey;
use quantonium::encoding::base64url_encode;

pub(crate) const SECRET: [u8; 32] = [0x5A; 32];
pub(crate) const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
/// 2026-11-22T15:42:46Z.
pub(crate) const NOW: u64 = 1_795_362_166;

pub(crate) fn encoded(bytes: &[u8]) -> String {
    let mut text = vec![0; bytes.len() * 2 + 4];
    let len = base64url_encode(bytes, &mut text[..(bytes.len() * 4).div_ceil(3)]).unwrap();
    text.truncate(len);
    String::from_utf8(text).unwrap()
}

/// A token of these two texts with the right signature.
pub(crate) fn signed(header: &str, payload: &str) -> String {
    sign(&format!("{}.{}", encoded(header.as_bytes()), encoded(payload.as_bytes())))
}

pub(crate) fn sign(signed: &str) -> String {
    let tag = MacKey::new(Algorithm::Sha256, &SECRET).tag(&[signed.as_bytes()]);
    format!("{signed}.{}", encoded(tag.as_bytes()))
}

/// The claims of a good token as (name, JSON).
pub(crate) fn good_claims() -> Vec<(String, String)> {
    let claims = [
        ("iss", r#""quantonium""#.to_owned()),
        ("sub", r#""0a1b2c3d""#.to_owned()),
        ("aud", r#""quantonium""#.to_owned()),
        ("iat", NOW.to_string()),
        ("nbf", NOW.to_string()),
        ("exp", (NOW + 900).to_string()),
        ("jti", r#""Id_-9""#.to_owned()),
        ("scope", r#""encrypt:orders-* hash""#.to_owned()),
        ("gen", "3".to_owned()),
    ];
    claims.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

pub(crate) fn object(claims: &[(String, String)]) -> String {
    let members: Vec<String> = claims.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// A good payload in which these claims have other values.
pub(crate) fn payload(changed: &[(&str, &str)]) -> String {
    let mut claims = good_claims();
    for (name, value) in changed {
        claims.iter_mut().find(|(own, _)| own == name).unwrap().1 = (*value).to_owned();
    }
    object(&claims)
}

pub(crate) fn expected() -> Expected<'static> {
    Expected { issuer: "quantonium", audience: "quantonium", now: WallTime::from_millis(NOW * 1_000) }
}

pub(crate) fn judge_at(token: &str, millis: u64) -> Result<(), TokenFault> {
    let mut room = Room::new();
    let expected = Expected { now: WallTime::from_millis(millis), ..expected() };
    jwt::read(token.as_bytes(), &mut room)?.verify(&SECRET, &expected).map(|_| ())
}

pub(crate) fn judge(token: &str) -> Result<(), TokenFault> {
    judge_at(token, NOW * 1_000)
}

/// Judges a token with this value of one claim.
pub(crate) fn judge_with(claim: &str, value: &str) -> Result<(), TokenFault> {
    judge(&signed(HEADER, &payload(&[(claim, value)])))
}

pub(crate) fn new_token() -> NewToken<'static> {
    NewToken {
        key_id: *b"0a1b2c3d",
        generation: 3,
        issuer: "quantonium",
        audience: "quantonium",
        issued: WallTime::from_millis(NOW * 1_000 + 999),
        lifetime_seconds: 900,
        jti: [0xC5; 16],
        scope: "encrypt:orders-* hash",
    }
}
