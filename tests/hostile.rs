//! The running server among clients that are broken, slow, greedy or malicious.
//!
//! - `replay`: every request of the corpus, and the next connection is served.
//! - `patience`: time limits, seen by what they do.
//! - `crowd`: many requests on a connection, many connections, large bodies.
//! - `streams`: thousands of random and mutated byte streams.

#[path = "support/corpus.rs"]
mod corpus;
#[path = "hostile/crowd.rs"]
mod crowd;
#[path = "hostile/patience.rs"]
mod patience;
#[path = "hostile/replay.rs"]
mod replay;
#[path = "support/server.rs"]
mod server;
#[path = "hostile/streams.rs"]
mod streams;

use server::Server;
use server::client::Request;

/// Ends a server and asserts that nothing went wrong inside it.
fn must_end_well(server: Server) {
    let health = server.call(&Request::get("/api/health"));
    assert_eq!((health.status, health.member("status").as_str()), (200, "ok"));
    let ended = server.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    for line in ended.stderr.lines() {
        assert!(!line.contains("ERROR") && !line.contains("panic"), "{line}");
    }
}
