//! What replies say to browsers, proxies and caches, whatever kind of reply it is.
//!
//! - `cors`: which pages of other origins may read them.
//! - `hosts`: requests for names that are not the server's.
//! - `redirect`: the port that only tells where TLS is spoken.
//! - `methods`: every route with every method and every kind of body.
//! - `secure`: what is said through TLS only.
//!
//! What stands in every reply is compared by the client of these tests, value by value ([`server::client`]).

#![expect(clippy::unwrap_used, reason = "a test fails by a panic, its helping functions too")]

#[path = "edge_headers/cors.rs"]
mod cors;
#[path = "edge_headers/hosts.rs"]
mod hosts;
#[path = "support/in_process.rs"]
mod in_process;
#[path = "edge_headers/methods.rs"]
mod methods;
#[path = "edge_headers/redirect.rs"]
mod redirect;
#[path = "edge_headers/secure.rs"]
mod secure;
#[path = "support/server.rs"]
mod server;

use server::Server;
use server::client::Reply;

/// How the reply to these bytes looks, on a connection of its own.
fn answer(server: &Server, bytes: &str) -> Reply {
    let mut client = server.connect();
    client.send(bytes.as_bytes());
    if bytes.starts_with("HEAD ") { client.reply_to_head() } else { client.reply() }
}
