//! Requests and replies through TLS.

use std::io::{Read as _, Write as _};

use crate::secured::{Secured, ask, read_reply};
use crate::server::client::{Request, SILENCE};

/// Of a session that is open and has nothing to do, over that of the process with none: what FACTS promise three times over, so
/// that another allocator or page size does not matter.
const IDLE_MOST_BYTES: u64 = 32 * 1024;

fn started(flags: &[&str]) -> Option<Secured> {
    let of = Secured::start(&[&["--workers", "1"], flags].concat())?;
    let reply = of.ask(&of.client(), Request::post("/api/keys", r#"{"name":"k"}"#));
    assert!(reply.starts_with("HTTP/1.1 201 "), "{reply}");
    Some(of)
}

#[test]
fn requests_are_pipelined_and_connections_are_used_again() {
    let Some(of) = started(&[]) else { return };
    let mut stream = of.connect(&of.client());
    let key = of.server.key();
    for _ in 0..3 {
        let (head, body) = {
            stream.write_all(&Request::get("/api/health").bytes()).unwrap();
            read_reply(&mut stream)
        };
        assert!(head.starts_with("HTTP/1.1 200 ") && body.starts_with(b"{"), "{head}");
    }
    stream.write_all(&Request::new("HEAD", "/api/health").bytes()).unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let encrypt = Request::post("/api/encrypt", r#"{"key":"k","plaintext":"aGVsbG8="}"#).key(key).bytes();
    let many: Vec<u8> = (0..100).flat_map(|_| encrypt.clone()).collect();
    stream.write_all(&many).unwrap();
    for _ in 0..100 {
        let (head, body) = read_reply(&mut stream);
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(String::from_utf8_lossy(&body).contains("ciphertext"));
    }
    // The end is announced: reading to it is no error.
    assert!(ask(&mut stream, Request::get("/api/health")).contains("Connection: close\r\n"));
}

#[test]
fn a_mebibyte_passes_both_ways() {
    let Some(of) = started(&[]) else { return };
    let plain: Vec<u8> = (0..1_048_576_u32).map(|index| index.to_le_bytes()[index as usize % 3]).collect();
    let mut stream = of.connect(&of.client());
    let raw = |path: &str, body: &[u8]| {
        let request = Request::post(path, body).with("Content-Type", "application/octet-stream");
        request.key(of.server.key()).bytes()
    };
    stream.write_all(&raw("/api/encrypt?key=k", &plain)).unwrap();
    let (head, sealed) = read_reply(&mut stream);
    assert!(head.starts_with("HTTP/1.1 200 ") && sealed.len() > plain.len(), "{head}");
    stream.write_all(&raw("/api/decrypt?key=k", &sealed)).unwrap();
    let (head, opened) = read_reply(&mut stream);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(opened == plain);
}

#[test]
fn a_long_stream_passes_and_one_that_is_cut_does_not_end_in_order() {
    const MIB: usize = 1024 * 1024;
    let Some(of) = started(&["--body-timeout-ms", "600000"]) else { return };
    let config = of.client();
    let head = |length: usize| {
        format!(
            "POST /api/stream/encrypt?key=k HTTP/1.1\r\nHost: test\r\nX-API-Key: {}\r\nConnection: close\r\n\
             Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n\r\n",
            of.server.key()
        )
    };
    // What is sent is read in the same thread: less than what the pipe between them holds at a time.
    let mut stream = of.connect(&config);
    stream.write_all(head(64 * MIB).as_bytes()).unwrap();
    let piece = vec![7; 64 * 1024];
    let mut received = 0;
    let mut reply = vec![0; 64 * 1024];
    for sent in 1..=1024_usize {
        stream.write_all(&piece).unwrap();
        while received + 3 * piece.len() < sent * piece.len() {
            received += stream.read(&mut reply).unwrap();
        }
    }
    loop {
        match stream.read(&mut reply).unwrap() {
            0 => break,
            count => received += count,
        }
    }
    assert!(received > 64 * MIB, "{received}");

    // The body ends early: the reply must not look whole.
    let mut stream = of.connect(&config);
    stream.write_all(head(MIB).as_bytes()).unwrap();
    for _ in 0..4 {
        stream.write_all(&piece).unwrap();
    }
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(ended.is_err(), "{ended:?}: {}", String::from_utf8_lossy(&rest[..rest.len().min(300)]));
}

#[test]
fn an_idle_connection_gives_its_buffers_back() {
    let Some(of) = started(&["--max-connections-per-address", "0", "--max-handshakes-per-address", "0"])
    else {
        return;
    };
    let resident = || {
        let status = std::fs::read_to_string(of.server.proc().join("status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    let config = of.client();
    let open = || {
        let mut stream = of.connect(&config);
        stream.sock.set_read_timeout(Some(SILENCE)).unwrap();
        stream.write_all(&Request::get("/api/health").bytes()).unwrap();
        assert!(read_reply(&mut stream).0.starts_with("HTTP/1.1 200 "));
        stream
    };
    // What is allocated once is there before it is measured.
    let warm: Vec<_> = (0..50).map(|_| open()).collect();
    let before = resident();
    let held: Vec<_> = (0..400).map(|_| open()).collect();
    let each = resident().saturating_sub(before) / 400;
    println!("an idle TLS connection holds {each} bytes");
    assert!(each < IDLE_MOST_BYTES, "{each}");
    drop((warm, held));
}
