//! Replies that are cut, as a client sees them that reads to the end of the connection and counts nothing; and requests
//! that are given up.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use nix::sys::signal::Signal;

use crate::peer::{self, Framing, Peer};
use crate::server::Server;
use crate::server::client::Request;
use crate::{CHUNK, audit_lines, plaintext, seal, start};

const FRAMINGS: [Framing; 2] = [Framing::Length, Framing::Chunks(10_000)];

/// Sends all of `bytes`, and only then reads to the end: how that ends, and how much came.
fn read_to_the_end(server: &Server, bytes: &[u8]) -> (Result<usize, ErrorKind>, usize) {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(bytes).unwrap();
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received).map_err(|error| error.kind());
    (end, received.len())
}

#[test]
fn who_reads_to_the_end_and_counts_nothing_meets_an_error() {
    let Some(server) = start(&[]) else { return };
    let plain = plaintext(CHUNK + 500);
    let sealed = seal(&server, &plain, Framing::Length);
    let mut forged = sealed.clone();
    *forged.last_mut().unwrap() ^= 1;
    let target = "/api/stream/decrypt?key=k";
    for framing in FRAMINGS {
        let head = peer::head(&server, target, framing, sealed.len());
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            if version == "HTTP/1.0" && framing != Framing::Length {
                continue;
            }
            let head = head.replace("HTTP/1.1", version);
            let ask = |body| [head.as_bytes(), &peer::framed(body, framing)].concat();
            let (end, whole) = read_to_the_end(&server, &ask(&sealed));
            assert_eq!(end, Ok(whole), "{version} {framing:?}");
            assert!(whole > plain.len());
            let (end, part) = read_to_the_end(&server, &ask(&forged));
            assert_eq!(end, Err(ErrorKind::ConnectionReset), "{version} {framing:?}: {part} bytes");
            assert!(part < whole);
        }
    }
}

#[test]
fn the_end_of_the_server_is_none_of_the_stream() {
    for framing in FRAMINGS {
        let Some(server) = start(&[]) else { return };
        let plain = plaintext(2 * CHUNK);
        let mut stream = Peer::connect(&server);
        let target = "/api/stream/encrypt?key=k";
        stream.send(peer::head(&server, target, framing, plain.len()).as_bytes());
        stream.send(&peer::framed(&plain, framing)[..CHUNK + 1_000]);
        stream.wait_for(CHUNK);
        server.signal(Signal::SIGKILL);
        let reply = stream.finish(&[]);
        assert!(reply.is_cut(), "{framing:?}: {reply:?}");
    }
}

/// Waits until the audit log holds a line with this code.
fn lost(server: &Server, count: usize) -> Vec<serde_json::Value> {
    loop {
        let lines = audit_lines(server, "\"code\":\"connection_lost\"");
        if lines.len() >= count {
            return lines;
        }
        assert_eq!(server.call(&Request::get("/api/health")).status, 200);
    }
}

/// A request whose body was asked for.
fn admitted(server: &Server, target: &str, framing: Framing, length: usize) -> Peer {
    let mut stream = Peer::connect(server);
    let head = peer::head(server, target, framing, length);
    stream.send(head.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n").as_bytes());
    stream.wait_for(b"HTTP/1.1 100 Continue\r\n\r\n".len());
    stream
}

#[test]
fn whatever_its_client_breaks_off_has_a_line() {
    let Some(server) = start(&[]) else { return };
    let plain = plaintext(2 * CHUNK);
    let mut told = 0;
    for (target, event) in
        [("/api/stream/encrypt?key=k", "stream.encrypt"), ("/api/encrypt?key=k", "encrypt")]
    {
        for framing in FRAMINGS {
            for len in [0, 50_000, CHUNK + 1_000] {
                let mut stream = admitted(&server, target, framing, plain.len());
                stream.send(&peer::framed(&plain, framing)[..len]);
                let begun = len > CHUNK && event == "stream.encrypt";
                if begun {
                    stream.wait_for(CHUNK);
                }
                stream.reset();
                told += 1;
                let lines = lost(&server, told);
                assert_eq!(lines.len(), told);
                let line = lines.last().unwrap();
                assert_eq!((&line["event"], &line["outcome"]), (&event.into(), &"failure".into()));
                assert_eq!(line.get("status").is_some(), begun, "{line}");
                assert!(line["principal"].is_string());
            }
        }
    }
}
