//! The command line as a client of the real server: what goes through, what is refused, and what is left behind.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its helping functions too")]

#[path = "cli_client/caller.rs"]
mod caller;
#[path = "cli_client/commands.rs"]
mod commands;
#[path = "cli_client/generated.rs"]
mod generated;
#[path = "cli_client/hostile.rs"]
mod hostile;
#[path = "cli_client/local.rs"]
mod local;
#[path = "cli_client/page.rs"]
mod page;
#[path = "cli_client/reached.rs"]
mod reached;
#[cfg(feature = "tls")]
#[path = "support/tls.rs"]
mod secured;
#[path = "support/server.rs"]
mod server;
#[path = "cli_client/streams.rs"]
mod streams;
