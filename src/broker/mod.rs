//! Speaking to etcd: its JSON gateway over HTTP/1.1, with or without TLS.
//!
//! | module | what is there |
//! |---|---|
//! | [`place`] | where etcd is and how it is reached: the URL of `--store`, certificates, password |
//! | [`message`] | requests and replies as JSON |
//! | [`reply`] | replies as they come over a connection |
//! | `exchange` | one connection: a request, its reply, or a reply that does not end |
//! | `client` | requests over several endpoints, with another try where that is allowed |
//! | `board` | what the threads know of one another |
//! | `follower` | the watch |
//! | `pulse`, `lease` | how new the state is, and that this server lives |
//! | [`direct`] | all of it behind [`crate::store::etcd::link::Link`], in this process |
//! | [`wire`], [`remote`], [`process`] | the same from another process, which alone may open connections |
//!
//! Invariants: nothing here has a key that opens a record; whatever etcd says ends in an error, never in a panic; each request has
//! one deadline for all that it takes, and each reply a longest length; what may have been applied is never said to have failed.

mod board;
mod client;
pub mod direct;
mod exchange;
mod follower;
mod lease;
pub mod message;
pub mod place;
pub mod process;
mod pulse;
pub mod remote;
pub mod reply;
#[cfg(test)]
mod tests;
pub mod wire;

pub use direct::Direct;
pub use place::{Access, Credentials, Endpoint, StorePlace};
pub use remote::Remote;
