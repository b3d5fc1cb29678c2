//! The server as an operator meets it.

#[path = "support/server.rs"]
mod server;

use server::Server;
use server::client::Request;

#[test]
fn it_starts_serves_and_ends() {
    let Some(mut server) = Server::start(&[]) else { return };
    assert!(server.is_alive());
    assert_eq!(server.call(&Request::get("/api/health")).status, 200);
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
