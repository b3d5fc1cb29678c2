//! No request of the hot path allocates: the real application, driven through memory under a counting allocator.
//!
//! A warm-up makes every buffer that is kept; after it a request finds all it needs. Only the allocations of the
//! thread that asks are counted, since the harness has threads of its own.

#![allow(
    unsafe_code,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a global allocator is unsafe by nature; a test fails by panicking, and says where"
)]

#[path = "support/in_process.rs"]
mod in_process;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs::OpenOptions;

use in_process::{InProcess, KEY, body_of, member, request};
use quantonium::auth::jwt::{self, Expected, NewToken, Room};
use quantonium::clock::WallTime;
use quantonium::encoding::{base64_encode, base64_len};
use quantonium::keyring::Change;
use quantonium::model::{KeyName, KeyOptions, KeyType};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count_one() {
    // A thread that is ending has no counter any more, and is not the one that is asked.
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is handed on to `System` as it came, which keeps the contract; counting touches a thread-local
// cell that needs neither an allocation nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: the caller keeps the contract of `alloc`, which is that of `System.alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count_one();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count_one();
        // SAFETY: `pointer` came from `System` through this allocator, with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const WARM_UP: usize = 3;
const MEASURED: u64 = 50;

fn worker() -> InProcess {
    let audit = OpenOptions::new().write(true).open("/dev/null").unwrap();
    InProcess::new(audit, 256 * 1024)
}

/// Allocations of [`MEASURED`] exchanges after the warm-up; `check` sees each reply.
fn allocations(worker: &mut InProcess, request: &[u8], check: impl Fn(&[u8]) -> bool) -> u64 {
    for _ in 0..WARM_UP {
        worker.exchange(request, |reply| assert!(check(reply), "{}", reply.escape_ascii()));
    }
    let before = ALLOCATIONS.get();
    for _ in 0..MEASURED {
        assert!(worker.exchange(request, &check));
    }
    ALLOCATIONS.get() - before
}

fn assert_none(name: &str, worker: &mut InProcess, request: &[u8], check: impl Fn(&[u8]) -> bool) {
    let count = allocations(worker, request, check);
    assert_eq!(count, 0, "{name}: {count} allocations in {MEASURED} requests");
}

fn base64(bytes: &[u8]) -> String {
    let mut text = vec![0; base64_len(bytes.len())];
    base64_encode(bytes, &mut text);
    String::from_utf8(text).unwrap()
}

fn plaintext(size: usize) -> Vec<u8> {
    (0..=250).cycle().step_by(31).take(size).collect()
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    let kept = std::hint::black_box(vec![1u8; 100]);
    assert!(ALLOCATIONS.get() > before && kept.len() == 100);
}

#[test]
fn encryption_and_decryption_of_json_allocate_nothing() {
    let mut worker = worker();
    let credential = worker.credential.clone();
    for size in [256, 16 * 1024] {
        let plain = base64(&plaintext(size));
        let aad = base64(b"bound to it");
        let body = format!("{{\"key\":\"{KEY}\",\"plaintext\":\"{plain}\",\"associated_data\":\"{aad}\"}}");
        let sealing = request(&credential, "/api/encrypt", "application/json", body.as_bytes());
        let sealed = |reply: &[u8]| member(body_of(reply), "ciphertext").starts_with("quantonium:v1:");
        assert_none(&format!("encrypt {size}"), &mut worker, &sealing, sealed);
        let ciphertext = worker.exchange(&sealing, |reply| member(body_of(reply), "ciphertext").to_owned());
        let body =
            format!("{{\"key\":\"{KEY}\",\"ciphertext\":\"{ciphertext}\",\"associated_data\":\"{aad}\"}}");
        let opening = request(&credential, "/api/decrypt", "application/json", body.as_bytes());
        let opened = |reply: &[u8]| body_of(reply) == format_opened(&plain, &mut [0; 32 * 1024]);
        assert_none(&format!("decrypt {size}"), &mut worker, &opening, opened);
    }
}

/// The reply to a decryption, without an allocation of the test's own.
fn format_opened<'a>(plain: &str, target: &'a mut [u8; 32 * 1024]) -> &'a [u8] {
    let mut len = 0;
    for piece in [&b"{\"plaintext\":\""[..], plain.as_bytes(), b"\",\"key_version\":1}"] {
        target[len..len + piece.len()].copy_from_slice(piece);
        len += piece.len();
    }
    &target[..len]
}

#[test]
fn raw_encryption_and_decryption_allocate_nothing() {
    let mut worker = worker();
    let credential = worker.credential.clone();
    let plain = plaintext(1024);
    for content_type in ["application/octet-stream", "text/plain"] {
        let sealing = request(&credential, &format!("/api/encrypt?key={KEY}"), content_type, &plain);
        let sealed = |reply: &[u8]| body_of(reply).len() > 1024;
        assert_none(content_type, &mut worker, &sealing, sealed);
        let ciphertext = worker.exchange(&sealing, |reply| body_of(reply).to_vec());
        let opening = request(&credential, &format!("/api/decrypt?key={KEY}"), content_type, &ciphertext);
        assert_none(content_type, &mut worker, &opening, |reply| body_of(reply) == plain);
    }
}

#[test]
fn derived_and_counted_keys_allocate_nothing() {
    let mut worker = worker();
    let credential = worker.credential.clone();
    worker.create("tenants", KeyOptions { derived: true, ..KeyOptions::of(KeyType::ChaCha20Poly1305) });
    worker.change(&Change::ReserveSeals { name: KeyName::new("tenants").unwrap(), version: 1 });
    let plain = base64(&plaintext(1024));
    let body = format!("{{\"key\":\"tenants\",\"plaintext\":\"{plain}\",\"context\":\"dGVuYW50\"}}");
    let sealing = request(&credential, "/api/encrypt", "application/json", body.as_bytes());
    let sealed = |reply: &[u8]| member(body_of(reply), "ciphertext").starts_with("quantonium:v1:");
    assert_none("encrypt", &mut worker, &sealing, sealed);
    let ciphertext = worker.exchange(&sealing, |reply| member(body_of(reply), "ciphertext").to_owned());
    let body = format!("{{\"key\":\"tenants\",\"ciphertext\":\"{ciphertext}\",\"context\":\"dGVuYW50\"}}");
    let opening = request(&credential, "/api/decrypt", "application/json", body.as_bytes());
    let opened = |reply: &[u8]| body_of(reply) == format_opened(&plain, &mut [0; 32 * 1024]);
    assert_none("decrypt", &mut worker, &opening, opened);
    let moving = request(&credential, "/api/rewrap", "application/json", body.as_bytes());
    assert_none("rewrap", &mut worker, &moving, sealed);
    let octets = "application/octet-stream";
    let target = "/api/encrypt?key=tenants&context=dGVuYW50";
    let raw = request(&credential, target, octets, &plaintext(1024));
    assert_none("raw", &mut worker, &raw, |reply| body_of(reply).len() > 1024);
}

#[test]
fn signatures_and_hashes_allocate_nothing() {
    let mut worker = worker();
    let credential = worker.credential.clone();
    worker.create("signer", KeyOptions::of(KeyType::HmacSha512));
    for key in [KEY, "signer"] {
        let input = base64(&plaintext(1024));
        let body = format!("{{\"key\":\"{key}\",\"input\":\"{input}\"}}");
        let signing = request(&credential, "/api/sign", "application/json", body.as_bytes());
        let signed = |reply: &[u8]| member(body_of(reply), "signature").starts_with("quantonium:v1:");
        assert_none("sign", &mut worker, &signing, signed);
        let signature = worker.exchange(&signing, |reply| member(body_of(reply), "signature").to_owned());
        let body = format!("{{\"key\":\"{key}\",\"input\":\"{input}\",\"signature\":\"{signature}\"}}");
        let checking = request(&credential, "/api/verify", "application/json", body.as_bytes());
        assert_none("verify", &mut worker, &checking, |reply| body_of(reply) == b"{\"valid\":true}");
        let octets = "application/octet-stream";
        let signing = request(&credential, &format!("/api/sign?key={key}"), octets, &plaintext(1024));
        assert_none("sign raw", &mut worker, &signing, |reply| body_of(reply).starts_with(b"quantonium:"));
        let url_safe = signature.replace('+', "-").replace('/', "_").replace('=', "");
        let target = format!("/api/verify?key={key}&signature={url_safe}");
        let checking = request(&credential, &target, octets, &plaintext(1024));
        assert_none("verify raw", &mut worker, &checking, |reply| body_of(reply) == b"{\"valid\":true}");
    }
    let hashing = request(&credential, "/api/hash", "application/octet-stream", &plaintext(1024));
    assert_none("hash", &mut worker, &hashing, |reply| body_of(reply).len() == 32);
}

#[test]
fn the_items_of_a_batch_allocate_nothing_of_their_own() {
    let mut worker = worker();
    let credential = worker.credential.clone();
    for count in [1, 100] {
        let item = "{\"plaintext\":\"eA==\",\"associated_data\":\"eA==\",\"reference\":\"r\"}";
        let body = format!("{{\"key\":\"{KEY}\",\"batch\":[{}]}}", vec![item; count].join(","));
        let sealing = request(&credential, "/api/encrypt", "application/json", body.as_bytes());
        let sealed = |reply: &[u8]| body_of(reply).starts_with(b"{\"results\":[{\"ciphertext\":");
        // The parser's own stack, for the text of the batch; as much for one item as for many.
        let allocations = allocations(&mut worker, &sealing, sealed);
        assert!(allocations <= 4 * MEASURED, "{count} items: {allocations} allocations");
    }
}

#[test]
fn health_allocates_nothing() {
    let mut worker = worker();
    for path in ["/api/health", "/api/health/live", "/api/health/ready"] {
        let asking = request("unused", path, "", b"");
        assert_none(path, &mut worker, &asking, |reply| member(body_of(reply), "status") == "ok");
    }
}

#[test]
fn what_is_refused_without_a_credential_allocates_nothing() {
    let mut worker = worker();
    let unknown = request("unused", "/api/nothing", "", b"");
    assert_none("404", &mut worker, &unknown, |reply| reply.starts_with(b"HTTP/1.1 404 "));
    let method = request("unused", "/api/encrypt", "", b"");
    assert_none("405", &mut worker, &method, |reply| reply.starts_with(b"HTTP/1.1 405 "));
    let key = request("qk_00000000.none", "/api/keys", "", b"");
    assert_none("401", &mut worker, &key, |reply| reply.starts_with(b"HTTP/1.1 401 "));
}

#[test]
fn the_chunks_of_a_stream_allocate_nothing() {
    const CHUNK: usize = 65_536;
    let mut worker = worker();
    let plain = plaintext(CHUNK);
    for framing in ["Content-Length: 60000000", "Transfer-Encoding: chunked"] {
        for path in ["encrypt", "decrypt"] {
            let key = worker.credential.clone();
            let head = |framing: &str, path: &str| {
                let target = format!("/api/stream/{path}?key={KEY}");
                format!("POST {target} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n{framing}\r\n\r\n")
            };
            let mut sealed = Vec::new();
            if path == "decrypt" {
                let length = format!("Content-Length: {}", 60 * CHUNK);
                worker.more(head(&length, "encrypt").as_bytes(), <[u8]>::is_empty);
                for index in 0..60 {
                    let part = worker.more(&plain, <[u8]>::to_vec);
                    let end = if index == 1 {
                        part.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4
                    } else {
                        0
                    };
                    sealed.extend_from_slice(&part[end..]);
                }
            }
            let chunked = framing.starts_with("Transfer");
            let framed = |piece: &[u8]| {
                let line = format!("{:x}\r\n", piece.len());
                if chunked { [line.as_bytes(), piece, b"\r\n"].concat() } else { piece.to_vec() }
            };
            let body: &[u8] = if path == "encrypt" { &plain.repeat(60) } else { &sealed };
            let pieces: Vec<Vec<u8>> = body.chunks(CHUNK).map(framed).collect();
            let length = format!("Content-Length: {}", body.len());
            let head = head(if chunked { framing } else { &length }, path);
            worker.more(head.as_bytes(), |reply| assert!(reply.is_empty(), "{}", reply.escape_ascii()));
            let mut sent = 0;
            for piece in &pieces[..5] {
                sent += worker.more(piece, <[u8]>::len);
            }
            assert!(sent > 3 * CHUNK, "{path} {framing}: the stream is on its way");
            let before = ALLOCATIONS.get();
            for piece in &pieces[5..55] {
                sent += worker.more(piece, <[u8]>::len);
            }
            let count = ALLOCATIONS.get() - before;
            assert_eq!(count, 0, "{path} {framing}: {count} allocations in 50 chunks");
            assert!(sent > 50 * CHUNK);
            for piece in &pieces[55..] {
                worker.more(piece, <[u8]>::len);
            }
            if chunked {
                worker.more(b"0\r\n\r\n", |reply| assert!(reply.ends_with(b"\r\n0\r\n\r\n")));
            }
        }
    }
}

#[test]
fn a_token_is_judged_without_an_allocation() {
    let now = WallTime::from_millis(1_795_362_166_000);
    let new = NewToken {
        key_id: *b"0a1b2c3d",
        generation: 1,
        issuer: "quantonium",
        audience: "quantonium",
        issued: now,
        lifetime_seconds: 900,
        jti: [7; 16],
        scope: "encrypt:orders-* decrypt:orders-* hash",
    };
    let token = jwt::issue(&[1; 32], &new).unwrap();
    let expected = Expected { issuer: "quantonium", audience: "quantonium", now };
    for (secret, good) in [([1; 32], true), ([2; 32], false)] {
        let before = ALLOCATIONS.get();
        let mut room = Room::new();
        let judged = jwt::read(token.as_bytes(), &mut room).and_then(|read| read.verify(&secret, &expected));
        let count = ALLOCATIONS.get() - before;
        assert_eq!((judged.is_ok(), count), (good, 0));
    }
}
