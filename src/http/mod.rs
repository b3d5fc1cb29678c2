//! HTTP/1.0 and HTTP/1.1: what stands on the wire, and nothing of the application.
//!
//! Owns the parsing of request heads ([`scan`], [`target`], [`fields`], [`framing`], put together in [`head`]), of
//! whom proxies name ([`forwarded`]),
//! of bodies ([`chunked`]), queries ([`query`]), media types ([`media`]) and codings ([`coding`]), and the writing of replies
//! ([`status`], [`date`], [`reply`], [`problem`]). Invariants: these parts do no I/O and take no memory from the
//! heap unless a function says so; input that two parsers could read in two ways is refused ([`refusal`]), never
//! repaired; offsets are checked against the caller's buffer at every use.

pub mod chunked;
pub mod coding;
pub mod complaint;
pub mod connection;
pub mod date;
pub mod env;
pub mod fields;
pub mod forwarded;
pub mod framing;
pub mod grammar;
pub mod head;
mod intake;
pub mod media;
mod outlet;
pub mod peer;
pub mod problem;
pub mod query;
pub mod refusal;
pub mod reply;
pub mod responder;
pub mod scan;
pub mod service;
pub mod sharing;
pub mod span;
pub mod status;
mod stream;
pub mod target;
