//! Who asks: an API key among few and among many, an unknown one, and what the parts of the check cost.
//!
//! Owns the group `auth`. The cost of finding a key must hardly grow with their number.

#![allow(missing_docs, reason = "a bench has no users")]
#![expect(clippy::unwrap_used, reason = "a bench without its keys measures nothing")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion};
use quantonium::auth::change::apply;
use quantonium::auth::entry::SALT_BYTES;
use quantonium::auth::{Authenticator, Change, Directory, Terms, api_key};
use quantonium::clock::WallTime;
use quantonium::limits::API_KEYS_MAX_COUNT;
use quantonium::secret::Secret;

/// The last is as many as there may be.
const COUNTS: [usize; 3] = [10, 1_000, API_KEYS_MAX_COUNT];
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// So many keys take turns, in an order that caches do not foresee.
const ASKING: usize = 4_096;

/// Bytes that look drawn, and are the same on every run.
fn draw(state: &mut u64, target: &mut [u8]) {
    for byte in target {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = state.to_be_bytes().first().copied().unwrap_or_default();
    }
}

/// So many API keys, and the texts of some.
fn filled(authenticator: &Authenticator, count: usize) -> (Directory, Vec<String>) {
    let (mut directory, mut texts, mut state) = (Directory::default(), Vec::new(), 7);
    let now = WallTime::from_millis(1_000);
    let terms = Arc::new(Terms::first());
    let shared_secret = || Secret::take(&mut [9; 32]);
    for number in 0..count {
        let fill = |bytes: &mut [u8]| {
            draw(&mut state, bytes);
            Ok::<(), ()>(())
        };
        let text = api_key::generate(fill).unwrap();
        let salt = [7; SALT_BYTES];
        let (id, _) = authenticator.digest(&text, &salt).unwrap();
        let generation = authenticator.generation(&text, &salt, 1, shared_secret(), now).unwrap();
        let change = Change::Create {
            by: None,
            id,
            salt,
            terms: Arc::clone(&terms),
            generation: Arc::new(generation),
        };
        apply(&mut directory, &change, now).unwrap();
        if number % count.div_ceil(ASKING) == 0 {
            texts.push(text.as_str().to_owned());
        }
    }
    (directory, texts)
}

fn keys(c: &mut Criterion) {
    let authenticator = Authenticator::new(&[5; 32], "quantonium", "quantonium");
    let now = WallTime::from_millis(2_000);
    let mut group = c.benchmark_group("auth");
    for count in COUNTS {
        let (directory, texts) = filled(&authenticator, count);
        let mut next = 0;
        group.bench_function(BenchmarkId::new("api key among", count), |bencher| {
            bencher.iter(|| {
                next = (next + 1_619) % texts.len();
                let text = texts.get(next).map(String::as_str).unwrap_or_default();
                authenticator.api_key(&directory, black_box(text.as_bytes()), CLIENT, now).is_ok()
            });
        });
    }
    let (directory, texts) = filled(&authenticator, 1);
    let text = texts.first().map(String::as_str).unwrap_or_default();
    let wrong = authenticator.api_key(&Directory::default(), text.as_bytes(), CLIENT, now);
    assert!(wrong.is_err());
    group.bench_function("unknown api key", |bencher| {
        let nobody = Directory::default();
        bencher.iter(|| authenticator.api_key(&nobody, black_box(text.as_bytes()), CLIENT, now).is_ok());
    });
    assert!(authenticator.api_key(&directory, text.as_bytes(), CLIENT, now).is_ok());
    group.bench_function("form of an api key", |bencher| {
        bencher.iter(|| api_key::parse(black_box(text.as_bytes())).is_some());
    });
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    keys(&mut criterion);
    criterion.final_summary();
}
