//! TLS with the real binary: handshakes, traffic, client certificates and certificates that change.
//!
//! The clients are those of other implementations where one is at hand (OpenSSL by `openssl`, `curl` and Python), and of the server's own library where something
//! must be seen from inside.

#![cfg(feature = "tls")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says where"
)]

#[path = "tls/client_auth.rs"]
mod client_auth;
#[path = "tls/command.rs"]
mod command;
#[path = "tls/crowd.rs"]
mod crowd;
#[path = "tls/handshake.rs"]
mod handshake;
#[path = "tls/reload.rs"]
mod reload;
#[path = "tls/revocation.rs"]
mod revocation;
#[path = "support/tls.rs"]
mod secured;
#[path = "support/server.rs"]
mod server;
#[path = "tls/traffic.rs"]
mod traffic;
