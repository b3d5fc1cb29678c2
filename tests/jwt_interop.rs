//! Tokens against two other implementations, PyJWT and jose: each verifies ours, and we judge what they make.
//!
//! Owns the list of what must have been tried. Invariant: what was not tried is a failure, not a silence.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/packages.rs"]
mod packages;
#[path = "support/server.rs"]
mod server;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use packages::{node_folder, python, root};
use quantonium::auth::jwt::{self, Expected, NewToken, Room};
use quantonium::clock::WallTime;
use serde_json::{Value, json};

const SECRET: [u8; 32] = *b"\xA5 a secret that is not ASCII.\xFF\x00\x80";
const ISSUER: &str = "quantonium of \"grün\"";
const AUDIENCE: &str = "orders";
const LIFETIME: u64 = 600;

/// What both make, and how each is judged.
const TRIED: [(&str, &str); 28] = [
    ("as issued", "accepted"),
    ("fractional times", "accepted"),
    ("audience among others", "accepted"),
    ("further claims", "accepted"),
    ("no type", "accepted"),
    ("type in lower case", "accepted"),
    ("expired within the leeway", "accepted"),
    ("begins within the leeway", "accepted"),
    ("no algorithm", "token_alg"),
    ("HS384", "token_alg"),
    ("HS512", "token_alg"),
    ("other type", "token_typ"),
    ("key id in the header", "token_header"),
    ("address of keys in the header", "token_header"),
    ("content type in the header", "token_header"),
    ("other secret", "token_signature"),
    ("other issuer", "token_issuer"),
    ("other audience", "token_audience"),
    ("other audiences", "token_audience"),
    ("expired", "token_expired"),
    ("begins later", "token_not_yet"),
    ("made later", "token_not_yet"),
    ("lives too long", "token_lifetime"),
    ("text as time", "token_claims"),
    ("nothing as time", "token_claims"),
    ("no beginning", "token_claims"),
    ("no end", "token_claims"),
    ("no scope", "token_claims"),
];

#[test]
fn pyjwt_and_this_code_read_one_another() {
    let Some(python) = python() else { return };
    let mut program = Command::new(python);
    // Nothing is written beside the sources.
    program.arg("-B").arg(root().join("tests/interop/jwt_pyjwt.py"));
    check_with(program, &[("unencoded payload", "token_header")]);
}

#[test]
fn jose_and_this_code_read_one_another() {
    let Some(folder) = node_folder() else { return };
    // A module finds packages from where it lies.
    let place = folder.join("jwt_jose.mjs");
    fs::copy(root().join("tests/interop/jwt_jose.mjs"), &place).unwrap();
    let mut program = Command::new("node");
    program.arg(place);
    check_with(program, &[]);
}

/// Gives a token to a program, which verifies it, and judges those that it makes.
fn check_with(mut program: Command, own: &[(&str, &str)]) {
    let now = WallTime::now();
    let (token, claims) = issued(now);
    let secret: String = SECRET.iter().map(|byte| format!("{byte:02x}")).collect();
    let given = json!({ "secret": secret, "now": now.as_secs(), "token": token, "claims": claims });
    let mut running = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    running.stdin.take().unwrap().write_all(given.to_string().as_bytes()).unwrap();
    let ended = running.wait_with_output().unwrap();
    assert!(ended.status.success(), "{program:?}: {}", ended.status);

    let mut judged = BTreeMap::new();
    for line in String::from_utf8(ended.stdout).unwrap().lines() {
        let made: Value = serde_json::from_str(line).unwrap();
        let text = |member: &str| made.get(member).and_then(Value::as_str).unwrap().to_owned();
        // The program's clock is read in whole seconds, as the token's was.
        let code = judge(&text("token"), WallTime::from_millis(now.as_secs() * 1_000));
        assert_eq!(code, text("code"), "{line}");
        assert_eq!(judged.insert(text("what"), text("code")), None, "tried twice: {line}");
    }
    let wanted = TRIED.iter().chain(own).map(|(what, code)| ((*what).to_owned(), (*code).to_owned()));
    assert_eq!(judged, wanted.collect::<BTreeMap<_, _>>());
}

/// A token of this code, and the claims that it must have.
fn issued(now: WallTime) -> (String, Value) {
    let new = NewToken {
        key_id: *b"0a1b2c3d",
        generation: 7,
        issuer: ISSUER,
        audience: AUDIENCE,
        issued: now,
        lifetime_seconds: LIFETIME,
        jti: [0xAB; 16],
        scope: "encrypt:orders-* decrypt:orders-* hash",
    };
    let token = jwt::issue(&SECRET, &new).unwrap();
    let claims = json!({
        "iss": ISSUER,
        "sub": "0a1b2c3d",
        "aud": AUDIENCE,
        "iat": now.as_secs(),
        "nbf": now.as_secs(),
        "exp": now.as_secs() + LIFETIME,
        "jti": "ab".repeat(16),
        "scope": new.scope,
        "gen": 7,
    });
    (token.as_str().to_owned(), claims)
}

fn judge(token: &str, now: WallTime) -> &'static str {
    let expected = Expected { issuer: ISSUER, audience: AUDIENCE, now };
    let mut room = Room::new();
    let judged = jwt::read(token.as_bytes(), &mut room).and_then(|token| token.verify(&SECRET, &expected));
    match judged {
        Ok(claims) => {
            assert_eq!((&claims.key_id, claims.generation), (b"0a1b2c3d", 7), "{token}");
            "accepted"
        }
        Err(fault) => fault.code(),
    }
}
