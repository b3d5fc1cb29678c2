//! The audit log: who asked for what, and what came of it.
//!
//! Owns the event and its line ([`mod@line`]), what ties lines together ([`chain`]) and what the
//! store keeps of it ([`checkpoint`]), the lines of one turn ([`batch`]), the
//! file they go to ([`sink`]), its name ([`name`]) and the reading of what earlier starts wrote
//! ([`replay`], [`part`], [`verify`]). Invariants: a line never holds a
//! body, a secret or text that a caller chose freely; the lines of a stream are numbered without gaps, and a number
//! whose line could not be written is named by a gap record before any later line.

pub mod batch;
pub mod chain;
pub mod checkpoint;
pub mod line;
pub mod name;
pub mod part;
pub mod replay;
pub mod sink;
pub mod verify;

pub use batch::Batch;
pub use chain::Chain;
pub use checkpoint::{Checkpoint, StreamMark};
pub use line::{Event, Outcome, StoreMark};
pub use name::{Start, Stream, StreamName, Who};
pub use replay::Replay;
pub use sink::{Sink, WriteFailed};
