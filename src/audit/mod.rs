//! The audit log: who asked for what, and what came of it.
//!
//! Owns the event and its line ([`mod@line`]), what ties lines together ([`chain`]) and what the store keeps of it
//! ([`checkpoint`]), the lines of one turn ([`batch`]), the files they go to ([`sink`]) and their names ([`name`]), standard
//! output as another place for them ([`pipe`]), both together ([`outlets`]), the last of them in memory ([`recent`]), what
//! writers and the archivist tell one another ([`office`]), what becomes of parts that are written no more ([`retention`]),
//! how a part is read whether it is compressed or not ([`part`]), and the reading of what earlier starts wrote ([`replay`],
//! [`verify`]). Invariants: a line never holds a body, a secret or text that a caller chose freely; the lines of a stream are
//! numbered without gaps, and a number whose line could not be written is named by a gap record before any later line.

pub mod batch;
pub mod chain;
pub mod checkpoint;
pub mod filter;
pub mod line;
pub mod member;
pub mod name;
pub mod office;
pub mod outlets;
pub mod part;
pub mod pipe;
pub mod recent;
pub mod replay;
pub mod retention;
pub mod sink;
pub mod verify;

pub use batch::Batch;
pub use chain::Chain;
pub use checkpoint::{Checkpoint, StreamMark};
pub use filter::Filter;
pub use line::{Event, Outcome, StoreMark};
pub use name::{Start, Stream, StreamName, Who};
pub use office::{Finding, Office};
pub use outlets::{Committed, Outlets, Syncing};
pub use pipe::{Pipe, Piped};
pub use recent::{Place, Recent};
pub use replay::Replay;
pub use sink::{Sink, Succession, WriteFailed};
