//! The journal from outside: what is altered is found, what is torn is cut, what was acknowledged is there.
//!
//! Owns nothing of the program: it opens journals as a server does and compares what comes out with what went in. Each
//! file under `tests/journal/` is one subject.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code outside of #[test] functions"
)]

#[path = "journal/alterations.rs"]
mod alterations;
#[path = "journal/documented.rs"]
mod documented;
#[path = "journal/operation.rs"]
mod operation;
#[path = "journal/properties.rs"]
mod properties;
#[path = "journal/scene.rs"]
mod scene;
