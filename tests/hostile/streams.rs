//! Thousands of random and mutated byte streams, from a fixed seed.

#![allow(clippy::indexing_slicing, clippy::expect_used, reason = "a test fails by panicking, and says where")]

use std::fs;

use crate::server::client::{Client, Request};
use crate::server::{Server, comes, skip};
use crate::{corpus, must_end_well};

const STREAMS: usize = 12_000;
const SEED: u64 = 0x5155_414e_544f_4e31;

/// A small generator (splitmix64): the same streams on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % bound.max(1) as u64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.roll().to_le_bytes()[0]
    }

    fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        among.get(self.below(among.len())).expect("something to pick from")
    }
}

/// Well-formed requests that reach every handler, credential included.
fn seeds(server: &Server) -> Vec<Vec<u8>> {
    let key = server.key();
    let json = |target: &str, body: &str| {
        Request::post(target, body).key(key).with("Content-Type", "application/json").bytes()
    };
    let ciphertext = server.ask(Request::post("/api/encrypt", r#"{"key":"k","plaintext":"aGVsbG8="}"#));
    let ciphertext = ciphertext.member("ciphertext");
    let octets = |target: &str, body: &[u8]| {
        Request::post(target, body).key(key).with("Content-Type", "application/octet-stream").bytes()
    };
    let binary =
        server.ask(Request::post("/api/encrypt?key=k", "hello").with("Accept", "application/octet-stream"));
    let bearer = Request::get("/api/keys?limit=5&after=a").with("Authorization", &format!("Bearer {key}"));
    let chunked = format!(
        "POST /api/encrypt?key=k HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nX: y\r\n\r\n"
    );
    let seeds = [
        json(
            "/api/encrypt",
            r#"{"key":"k","plaintext":"aGVsbG8=","associated_data":"eA==","key_version":1}"#,
        ),
        json(
            "/api/encrypt",
            r#"{"key":"k","batch":[{"plaintext":"eA==","reference":"a\"\\u00e9"},{"plaintext":""}]}"#,
        ),
        json("/api/decrypt", &format!(r#"{{"key":"k","ciphertext":"{ciphertext}"}}"#)),
        json(
            "/api/decrypt",
            &format!(r#"{{"key":"k","batch":[{{"ciphertext":"{ciphertext}","reference":"r"}}]}}"#),
        ),
        json("/api/keys", r#"{"name":"k","type":"xchacha20-poly1305"}"#),
        octets("/api/encrypt?key=k&associated_data=eA&key_version=1", b"hello"),
        octets("/api/decrypt?key=k", &binary.body),
        octets("/api/decrypt?key=k", ciphertext.as_bytes()),
        Request::get("/api/keys/k").key(key).bytes(),
        bearer.bytes(),
        Request::get("/api/health").with("Accept", "text/html, */*;q=0.1").bytes(),
        Request::new("OPTIONS", "/api/keys").bytes(),
        Request::new("DELETE", "/api/keys/k").key(key).bytes(),
        Request::post("/api/keys/k/rotate", "{}").key(key).bytes(),
        Request::post("/api/encrypt", "{}").key(key).with("Expect", "100-continue").bytes(),
        chunked.into_bytes(),
    ];
    // As many again are malformed to begin with.
    let cases = corpus::cases().into_iter().map(|case| case.bytes).filter(|bytes| bytes.len() < 1_000);
    let cases: Vec<_> = cases.collect();
    let valid = seeds.iter().cycle().take(cases.len());
    valid.chain(&cases).cloned().collect()
}

/// Pieces that are special to some parser.
const WORDS: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"\0",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"[[[[[[[[",
    b"%",
    b"%00",
    b"&key=k",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"ffffffffffffffff",
    b"-1",
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"quantonium:v4294967295:",
    b"QN\x01\0\0\0\0",
    b"GET / HTTP/1.1\r\n",
    b"\\ud800",
];

/// One stream: noise, or one or several requests, altered in a few places.
fn stream(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    if dice.below(8) == 0 {
        let length = dice.below(600);
        return (0..length).map(|_| dice.byte()).collect();
    }
    let mut bytes = dice.pick(seeds).clone();
    while dice.below(4) == 0 && bytes.len() < 20_000 {
        bytes.extend(dice.pick(seeds).iter());
    }
    for _ in 0..dice.below(4) {
        let at = dice.below(bytes.len() + 1);
        match dice.below(7) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, dice.byte()),
            2 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            3 if at < bytes.len() => bytes[at] = dice.byte(),
            4 => {
                let end = (at + dice.below(20)).min(bytes.len());
                bytes.drain(at..end);
            }
            5 => {
                let end = (at + dice.below(200)).min(bytes.len());
                let piece = bytes[at..end].repeat(1 + dice.below(3));
                bytes.splice(at..at, piece);
            }
            _ => {
                let word = *dice.pick(&WORDS);
                bytes.splice(at..at, word.iter().copied());
            }
        }
    }
    bytes
}

/// Sends one stream in pieces, says that it is over, and reads every reply. Returns their statuses.
fn play(server: &Server, dice: &mut Dice, bytes: &[u8]) -> Vec<u16> {
    let mut client: Client = server.connect();
    let cut = dice.below(bytes.len() + 1);
    let (first, second) = bytes.split_at(cut);
    // A server that has refused already need not take the rest.
    let _ = client.try_send(first).and_then(|()| client.try_send(second));
    client.finish();
    client.statuses()
}

/// How many descriptors the server has; nothing where that may not be seen.
fn descriptors(server: &Server) -> Option<usize> {
    fs::read_dir(server.proc().join("fd")).map(Iterator::count).ok()
}

#[test]
fn twelve_thousand_streams_leave_the_server_as_it_was() {
    let Some(mut server) = Server::start(&["--workers", "2"]) else { return };
    // Counted before the first connection: a later count may still hold one that is on its way out.
    let before = descriptors(&server);
    server.ask(Request::post("/api/keys", r#"{"name":"k"}"#));
    let seeds = seeds(&server);
    let mut dice = Dice(SEED);
    let mut seen = std::collections::BTreeMap::new();
    for number in 0..STREAMS {
        let bytes = stream(&mut dice, &seeds);
        for status in play(&server, &mut dice, &bytes) {
            *seen.entry(status).or_insert(0_usize) += 1;
            let shown = || String::from_utf8_lossy(&bytes).into_owned();
            assert!(
                status < 500 || status == 501 || status == 505,
                "stream {number}: {status}: {:?}",
                shown()
            );
        }
    }
    println!("replies by status: {seen:?}");
    for status in [200, 204, 400, 401, 404, 405, 415, 417, 501, 505] {
        assert!(seen.contains_key(&status), "no {status}: {seen:?}");
    }
    assert!(server.is_alive(), "the same process still serves");
    match before {
        Some(before) => {
            // A connection is closed a moment after its client saw the end; a leaked one stays for good.
            let closed = comes(|| descriptors(&server) == Some(before));
            assert!(closed, "{:?} descriptors, {before} at first", descriptors(&server));
        }
        None => skip("only root may count the descriptors of a process that is not dumpable"),
    }
    must_end_well(server);
}
