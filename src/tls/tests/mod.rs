//! Sessions against a client of the same library, over a simulated wire.

pub(crate) mod certificates;
mod client_auth;
mod exchange;
mod handshake;
mod hollow;
mod wire;
