//! How often somebody may ask: token buckets, one for each API key and one for each client address.
//!
//! Owns the decision ([`bucket`]) and the bounded memory of addresses ([`addresses`]). Invariants: a bucket is one
//! number, shared by all workers and changed in one step, so that more workers give nobody more; time comes in from
//! outside; nothing here allocates after the start.

pub mod addresses;
pub mod bucket;

pub use addresses::Addresses;
pub use bucket::{Bucket, Decision};
