//! Numbers about the server: what counts them, and the text in which they are asked for.
//!
//! Owns the counters ([`Worker`], [`process`]), the list of every metric ([`families`]) and the two text forms
//! ([`Exposition`]). Invariants: a request's counters are written by one thread alone, each worker's on cache lines of its
//! own, by a load and a store; nothing that is counted makes a label of its own: every set of labels is closed, so that
//! nobody makes the text longer by what he sends; to be counted allocates nothing; no text holds a secret or the name of a key.

mod counter;
pub mod families;
mod histogram;
mod labels;
pub mod process;
mod source;
mod text;
mod worker;

pub use counter::Counter;
pub use histogram::{Buckets, Exemplar, Histogram, Sum};
pub use labels::{
    AuthFailure, HandshakeFailure, Limited, Refusal, TlsGroup, TlsVersion, Transport, UNMATCHED,
};
pub use source::{KeyCounts, Observed, Source};
pub use text::{Exposition, Family, Format, Kind, Labels, Value};
pub use worker::{Registry, Stream, Worker};
