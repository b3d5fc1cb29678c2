//! What is done with the bytes that a fuzzer invents: a function for each reader of hostile bytes.
//!
//! Owns [`TARGETS`]. `fuzz/src/main.rs` runs them under libFuzzer, `tests/fuzz_corpus.rs` over the files of
//! `fuzz/corpus`. Invariants: a target never judges by "it did not panic" alone: it holds what was read against a
//! plain reader of its own, against what is written back, or against a bound; the same bytes always do the same.
//!
//! Where a target looks at several things, the first byte of its input chooses.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a target fails by panicking, and says where"
)]

mod audit;
mod broker;
mod cipher;
mod credentials;
mod http;
mod journal;
mod mac;
mod model;
mod sealed;
mod served;
mod settings;

/// The name of a target, and what it does with bytes.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target. Its corpus is `fuzz/corpus/<name>`, its dictionary `fuzz/dictionaries/<name>.dict`.
pub(crate) const TARGETS: [Target; 19] = [
    ("head", http::head),
    ("target", http::target),
    ("chunked", http::chunked),
    ("forwarded", http::forwarded),
    ("json", served::json),
    ("jwt", credentials::jwt),
    ("api_key", credentials::api_key),
    ("scope", credentials::scope),
    ("envelope", sealed::envelope),
    ("stream", sealed::stream),
    ("cipher", cipher::cipher),
    ("mac", mac::mac),
    ("backup", sealed::backup),
    ("journal", journal::journal),
    ("audit", audit::audit),
    ("config", settings::config),
    ("exchange", broker::exchange),
    ("message", broker::message),
    ("wire", broker::wire),
];

/// The first byte, which chooses, and what it is about.
fn split_choice(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(choice, rest)| (*choice, rest))
}
