//! The audit log: who asked for what, and what came of it.
//!
//! Owns the event and its line ([`mod@line`]), the lines of one turn ([`batch`]), the file they go to ([`sink`]), the last of
//! them in memory ([`recent`]) and the reading of what earlier starts wrote ([`replay`]). Invariants: a line never holds a
//! body, a secret or text that a caller chose freely; the lines of a stream are numbered without gaps, and a number
//! whose line could not be written is named by a gap record before any later line.

pub mod batch;
pub mod filter;
pub mod line;
pub mod member;
pub mod recent;
pub mod replay;
pub mod sink;

pub use batch::Batch;
pub use filter::Filter;
pub use line::{Event, Outcome, StoreMark};
pub use recent::{Place, Recent};
pub use replay::Replay;
pub use sink::{Sink, WriteFailed};
