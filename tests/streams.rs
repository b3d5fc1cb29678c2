//! Streams against the real binary: round trips in both framings, streams that somebody has changed, slow clients, memory.
//!
//! A client of a stream reads while it sends ([`peer`]); what it must be able to tell is whether what it got is all.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says where"
)]

#[path = "streams/cut.rs"]
mod cut;
#[path = "streams/forged.rs"]
mod forged;
#[path = "streams/inside.rs"]
mod inside;
#[path = "streams/patience.rs"]
mod patience;
#[path = "streams/peer.rs"]
mod peer;
#[path = "support/server.rs"]
mod server;
#[path = "streams/whole.rs"]
mod whole;

use peer::Framing;
use server::Server;
use server::client::Request;

/// What a sealed stream adds, and its chunks.
const HEADER: usize = 56;
const CHUNK: usize = 65_536;
const TAG: usize = 16;

/// A server with a key `k`.
fn start(flags: &[&str]) -> Option<Server> {
    let server = Server::start(&[&["--workers", "1"], flags].concat())?;
    let made = server.ask(Request::post("/api/keys", r#"{"name":"k"}"#));
    assert_eq!(made.status, 201, "{}", made.text());
    Some(server)
}

/// Bytes without a pattern.
fn plaintext(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    next.flatten().take(len).collect()
}

fn sealed_len(plain: usize) -> usize {
    HEADER + plain + plain.div_ceil(CHUNK).max(1) * TAG
}

/// Seals `plain` and asserts that the reply is complete.
fn seal(server: &Server, plain: &[u8], framing: Framing) -> Vec<u8> {
    let reply = peer::stream(server, "/api/stream/encrypt?key=k", plain, framing);
    assert_eq!((reply.status, reply.complete, reply.broken), (200, true, false), "{reply:?}");
    assert_eq!(reply.field("X-Key-Version"), Some("1"));
    assert_eq!(reply.body.len(), sealed_len(plain.len()));
    reply.body
}

/// The audit lines of the server's worker that hold `text`.
fn audit_lines(server: &Server, text: &str) -> Vec<serde_json::Value> {
    let folder = std::fs::read_dir(server.data_dir().join("audit")).unwrap();
    let texts = folder.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap());
    // A line that is being written is none yet.
    let whole = texts.filter_map(|text| text.rsplit_once('\n').map(|(whole, _)| whole.to_owned()));
    let lines: Vec<String> =
        whole.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    lines.iter().filter(|line| line.contains(text)).map(|line| serde_json::from_str(line).unwrap()).collect()
}
