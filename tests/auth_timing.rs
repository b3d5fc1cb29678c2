//! Checks of credentials take the same number of instructions whatever matches.
//!
//! Counted by callgrind (valgrind) in a child, which is this program again: it makes one check within [`probe`], and
//! nothing else of it is counted. What is altered is what a secret is compared with, not the secret: another secret gives
//! another MAC in every byte.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets what it does not expect fails"
)]

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::Arc;

use quantonium::auth::entry::{Generation, SALT_BYTES};
use quantonium::auth::jwt::{self, NewToken, Room};
use quantonium::auth::{ApiKey, Authenticator, Directory, Terms, Usage, api_key};
use quantonium::clock::WallTime;
use quantonium::encoding::{base64url_decode, base64url_encode};
use quantonium::model::ApiKeyId;
use quantonium::secret::Secret;

const CASE: &str = "QUANTONIUM_TIMING_CASE";
const NOW: WallTime = WallTime::from_millis(1_700_000_000_000);
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What is counted: everything that happens within.
#[inline(never)]
fn probe<R>(work: impl FnOnce() -> R) -> R {
    std::hint::black_box(work())
}

/// A comparison that stops at the first difference.
fn leaky(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).all(|(one, other)| std::hint::black_box(one) == other)
}

fn checks() -> Authenticator {
    Authenticator::new(&[1; 32], "i", "a")
}

fn text(byte: u8) -> String {
    let made = api_key::generate(|bytes| {
        bytes.fill(byte);
        Ok::<_, ()>(())
    });
    made.unwrap().as_str().to_owned()
}

/// Keys 3, 5 and 7; of 7, byte `altered` is not the one that its secret leads to.
fn directory(checks: &Authenticator, altered: Option<usize>) -> Directory {
    let mut directory = Directory::default();
    for byte in [3, 5, 7] {
        let salt = [byte; SALT_BYTES];
        let (id, mut digest) = checks.digest(&text(byte), &salt).unwrap();
        if let (7, Some(at)) = (byte, altered) {
            digest[at] ^= 1;
        }
        let token_secret = Secret::take(&mut [9; 32]);
        let current = Arc::new(Generation { number: 1, digest, token_secret, created: NOW });
        directory.put(Arc::new(ApiKey {
            id,
            salt,
            terms: Arc::new(Terms::first()),
            created: NOW,
            created_by: None,
            revoked: None,
            current,
            previous: None,
            usage: Arc::new(Usage::default()),
        }));
    }
    directory
}

/// A token of key 7 whose signature differs in byte `altered` from the right one.
fn token(altered: usize) -> String {
    let new = NewToken {
        key_id: *ApiKeyId::parse(b"07070707").unwrap().as_bytes(),
        generation: 1,
        issuer: "i",
        audience: "a",
        issued: NOW,
        lifetime_seconds: 60,
        jti: [4; 16],
        scope: "hash",
    };
    let made = jwt::issue(&[9; 32], &new).unwrap();
    let (signed, signature) = made.rsplit_once('.').unwrap();
    let mut bytes = [0; 32];
    assert_eq!(base64url_decode(signature.as_bytes(), &mut bytes), Some(32));
    bytes[altered] ^= 1;
    let mut encoded = [0; 43];
    base64url_encode(&bytes, &mut encoded);
    format!("{signed}.{}", str::from_utf8(&encoded).unwrap())
}

/// Makes the check of this name.
fn run(case: &str) {
    let (checks, mut room) = (checks(), Room::new());
    let mut check = |directory: &Directory, text: &str| {
        let refused =
            probe(|| checks.authenticate(directory, text.as_bytes(), &mut room, HERE, NOW)).is_err();
        assert!(refused, "{text}");
    };
    let mut differing = [7; 32];
    match case {
        "first" => check(&directory(&checks, Some(0)), &text(7)),
        "last" => check(&directory(&checks, Some(31)), &text(7)),
        "secret" => check(&directory(&checks, None), &text(7).replace("07070707.", "05050505.")),
        "unknown" => check(&directory(&checks, None), &text(7).replace("07070707.", "06060606.")),
        "token first" => check(&directory(&checks, None), &token(0)),
        "token last" => check(&directory(&checks, None), &token(31)),
        "leaky first" | "leaky last" => {
            differing[if case == "leaky first" { 0 } else { 31 }] ^= 1;
            assert!(!probe(|| leaky(&[7; 32], &differing)));
        }
        other => panic!("{other}"),
    }
}

/// The instructions of one check.
fn count(case: &str) -> u64 {
    let out = std::env::temp_dir().join(format!("quantonium-timing-{}-{case}", std::process::id()));
    let ended = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*probe*"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "the_child_makes_one_check", "--test-threads=1"])
        .env(CASE, case)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(ended.status.success(), "{case}: {said}");
    let told = std::fs::read_to_string(&out).unwrap();
    std::fs::remove_file(&out).unwrap();
    let totals = told.lines().find_map(|line| line.strip_prefix("totals: ")).unwrap_or_default();
    totals.trim().parse().unwrap_or_else(|_| panic!("{case}: {said}"))
}

#[test]
fn the_child_makes_one_check() {
    // Only the child has a case; for everybody else there is nothing to do here.
    let case = std::env::var(CASE).unwrap_or_else(|_| "first".to_owned());
    assert!(!case.is_empty());
    run(&case);
}

#[test]
fn a_check_takes_as_long_however_many_bytes_match() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("skipped: valgrind is not installed");
        assert!(std::env::var("QUANTONIUM_REQUIRE").as_deref() != Ok("1"), "required: valgrind");
        return;
    }
    assert!(count("leaky first") < count("leaky last"), "a comparison that stops early would be seen");
    let (first, last) = (count("first"), count("last"));
    assert!(first > 1_000, "the check was counted: {first}");
    assert_eq!(first, last, "a secret whose MAC differs in the first byte, or in the last");
    let (secret, unknown) = (count("secret"), count("unknown"));
    println!("wrong secret: {secret} instructions, unknown identifier: {unknown}");
    assert!(secret.abs_diff(unknown) * 50 < secret, "{secret} {unknown}: less than a fiftieth apart");
    assert_eq!(count("token first"), count("token last"), "a token whose signature differs");
}
