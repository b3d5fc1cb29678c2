//! API keys, tokens, scopes and networks.
//!
//! Owns the targets of what says who asks and what that one may do.

use std::net::IpAddr;

use quantonium::auth::jwt::{self, Expected, NewToken, Room, jws};
use quantonium::auth::{CredentialFault, api_key as key_text, find};
use quantonium::clock::WallTime;
use quantonium::limits::{
    CREDENTIAL_MAX_BYTES, SCOPES_MAX_COUNT, TOKEN_LEEWAY_MILLIS, TOKEN_LIFETIME_MAX_SECONDS, TOKEN_MAX_BYTES,
};
use quantonium::model::{Grants, KeyGlob, Permission, Scope};
use quantonium::network::Network;
use serde_json::Value;

use super::{model, split_choice};

const SECRET: [u8; jwt::SECRET_BYTES] = *b"the secret that signs the tokens";
const OTHER_SECRET: [u8; jwt::SECRET_BYTES] = *b"the secret that signs no token..";
const NOW_SECONDS: u64 = 1_800_000_000;

/// A token as it comes, or a payload that is signed first.
pub(super) fn jwt(data: &[u8]) {
    let (choice, bytes) = split_choice(data);
    if choice % 2 == 0 {
        return raw_token(bytes);
    }
    let Ok(token) = jws::sign(&SECRET, bytes) else {
        return assert!(bytes.len() > TOKEN_MAX_BYTES / 2, "only long payloads make no token");
    };
    raw_token(token.as_bytes());
    let mut room = Room::new();
    let Ok(token) = jwt::read(token.as_bytes(), &mut room) else { return };
    let expected = Expected {
        issuer: "quantonium",
        audience: "quantonium",
        now: WallTime::from_millis(NOW_SECONDS * 1_000),
    };
    let Ok(claims) = token.verify(&SECRET, &expected) else { return };
    let payload: Value = serde_json::from_slice(bytes).expect("a payload that is taken is JSON");
    assert_eq!(payload["iss"], "quantonium");
    assert_eq!(payload["sub"].as_str().map(str::as_bytes), Some(&claims.key_id[..]));
    assert_eq!(payload["gen"], claims.generation);
    assert_eq!(payload["jti"], *claims.jti);
    assert_eq!(payload["scope"], *claims.scope);
    let for_us = |audience: &Value| audience == "quantonium";
    assert!(for_us(&payload["aud"]) || payload["aud"].as_array().is_some_and(|all| all.iter().any(for_us)));
    let (issued, expires) = (claims.issued.as_millis(), claims.expires.as_millis());
    assert!(issued < expires && expires - issued <= TOKEN_LIFETIME_MAX_SECONDS * 1_000);
    let now = NOW_SECONDS * 1_000;
    assert!(issued.max(claims.not_before.as_millis()) <= now + TOKEN_LEEWAY_MILLIS);
    assert!(now < expires + TOKEN_LEEWAY_MILLIS);
    for (name, read) in [("iat", claims.issued), ("nbf", claims.not_before), ("exp", claims.expires)] {
        let written = payload[name].as_f64().unwrap() * 1_000.0;
        assert!((written - read.as_millis() as f64).abs() < 2.0, "{name}");
    }
    let new = NewToken {
        key_id: claims.key_id,
        generation: claims.generation,
        issuer: "quantonium",
        audience: "quantonium",
        issued: expected.now,
        lifetime_seconds: 60,
        jti: [7; jwt::IDENTIFIER_BYTES],
        scope: &claims.scope,
    };
    let Ok(again) = jwt::issue(&SECRET, &new) else {
        return assert!(claims.scope.len() > TOKEN_MAX_BYTES / 2);
    };
    let mut room = Room::new();
    let again = jwt::read(again.as_bytes(), &mut room).unwrap().verify(&SECRET, &expected).unwrap();
    assert_eq!(
        (again.key_id, again.generation, &*again.scope),
        (claims.key_id, claims.generation, &*claims.scope)
    );
}

/// What may come from anybody is of one spelling, and authentic under no other secret.
fn raw_token(token: &[u8]) {
    let mut room = Room::new();
    let Ok(read) = jws::Jws::read(token, &mut room) else { return };
    assert!(token.len() <= TOKEN_MAX_BYTES && jwt::is_token(token) != token.starts_with(b"qk_"));
    assert!(!read.is_authentic(&OTHER_SECRET));
    let payload = token.split(|byte| *byte == b'.').nth(1).unwrap();
    assert_eq!(payload, model::base64url(read.payload()), "a payload has one spelling");
    let mut room = Room::new();
    if let Ok(read) = jwt::read(token, &mut room) {
        assert!(read.key_id().iter().all(u8::is_ascii_hexdigit));
    }
}

/// The text of an API key, and the fields that carry it.
pub(super) fn api_key(data: &[u8]) {
    let (choice, text) = split_choice(data);
    match choice % 3 {
        0 => presented(text),
        1 => {
            let mut drawn = text.iter().copied().chain(core::iter::repeat(0));
            let made = key_text::generate(|target| -> Result<(), ()> {
                target.iter_mut().for_each(|byte| *byte = drawn.next().unwrap());
                Ok(())
            });
            presented(made.unwrap().as_bytes());
            assert!(key_text::parse(made_of(text).as_bytes()).is_some());
        }
        _ => {
            let (api_key, authorization) = text.split_at(text.len().min(usize::from(choice)));
            let api_key = Some(api_key).filter(|value| !value.is_empty());
            let authorization = Some(authorization).filter(|value| !value.is_empty());
            let found = find(api_key, authorization);
            if api_key.is_some() && authorization.is_some() {
                assert_eq!(found, Err(CredentialFault::Repeated));
            }
            if let Ok(credential) = found {
                assert!((1..=CREDENTIAL_MAX_BYTES).contains(&credential.len()));
                let bearer =
                    |value: &[u8]| value[..6].eq_ignore_ascii_case(b"bearer") && value.ends_with(credential);
                assert!(api_key == Some(credential) || authorization.is_some_and(bearer));
            }
        }
    }
}

/// A key's text with this secret, filled up with zeros, written out here.
fn made_of(secret: &[u8]) -> String {
    let mut bytes = [0; key_text::SECRET_BYTES];
    bytes.iter_mut().zip(secret).for_each(|(to, from)| *to = *from);
    format!("qk_0123abcd.{}", String::from_utf8(model::base64url(&bytes)).unwrap())
}

fn presented(text: &[u8]) {
    let Some(key) = key_text::parse(text) else { return };
    let id = str::from_utf8(&key.id).unwrap();
    assert!(id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
    let built = [b"qk_", &key.id[..], b".", &model::base64url(&*key.secret)].concat();
    assert_eq!(built, text, "a key has one spelling");
    assert!(!format!("{key:?}").contains(str::from_utf8(&text[12..]).unwrap()), "the secret is not shown");
}

/// Scopes, sets of them, globs, networks.
pub(super) fn scope(data: &[u8]) {
    let (choice, text) = split_choice(data);
    let Ok(text) = str::from_utf8(text) else { return };
    match choice % 3 {
        0 => grants(text),
        1 => globs(text),
        _ => network(text),
    }
}

fn grants(text: &str) {
    let Ok(set) = Grants::parse(text.split(' ')) else { return };
    assert_eq!(set.to_string(), text, "a set has one spelling");
    assert!((1..=SCOPES_MAX_COUNT).contains(&set.iter().count()));
    assert!(set.covers(&set) && Grants::admin().covers(&set));
    assert_eq!(set.is_admin(), text.split(' ').any(|scope| scope == "admin"));
    for permission in Permission::ALL {
        let named = |scope: &Scope, name: &str| match scope {
            Scope::Admin => true,
            Scope::On(on, None) => *on == permission,
            Scope::On(on, Some(glob)) => {
                *on == permission && model::glob_matches(glob.as_str().as_bytes(), name.as_bytes())
            }
        };
        for name in ["orders", "a", "team-a.b_1"] {
            assert_eq!(
                set.may_key(permission, name),
                set.iter().any(|scope| named(scope, name)),
                "{permission:?}"
            );
            assert!(set.may(permission) || !set.may_key(permission, name));
        }
    }
    let (first, rest) = text.split_once(' ').unwrap_or((text, text));
    let (first, rest) = (Grants::parse([first]).unwrap(), Grants::parse(rest.split(' ')).unwrap());
    assert!(set.covers(&first) && set.covers(&rest));
}

fn globs(text: &str) {
    let mut parts = text.splitn(3, ' ');
    let (Some(a), Some(b), Some(name)) = (parts.next(), parts.next(), parts.next()) else { return };
    let (Some(a), Some(b)) = (KeyGlob::new(a), KeyGlob::new(b)) else { return };
    let matches = |glob: &KeyGlob| {
        let matches = glob.matches(name);
        assert_eq!(matches, model::glob_matches(glob.as_str().as_bytes(), name.as_bytes()));
        matches
    };
    let (by_a, by_b) = (matches(&a), matches(&b));
    // A name of a key has no star, so that no name stands for several.
    if !name.contains('*') && a.covers(&b) {
        assert!(by_a || !by_b, "what is covered allows no more");
    }
}

fn network(text: &str) {
    let mut parts = text.splitn(2, ' ');
    let Ok(network) = Network::parse(parts.next().unwrap_or_default()) else { return };
    assert_eq!(Network::parse(&network.to_string()), Ok(network), "what is shown reads back");
    assert!(network.within(&network));
    let shown = network.to_string();
    let (base, prefix) = shown.split_once('/').unwrap();
    let (base, prefix): (IpAddr, u32) = (base.parse().unwrap(), prefix.parse().unwrap());
    assert!(network.contains(base));
    let Some(Ok(other)) = parts.next().map(str::parse::<IpAddr>) else { return };
    let expected = match (base, other.to_canonical()) {
        (IpAddr::V4(base), IpAddr::V4(other)) => (base.to_bits() ^ other.to_bits()).leading_zeros() >= prefix,
        (IpAddr::V6(base), IpAddr::V6(other)) => (base.to_bits() ^ other.to_bits()).leading_zeros() >= prefix,
        _ => false,
    };
    assert_eq!(network.contains(other), expected);
}
