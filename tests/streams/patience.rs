//! Slow clients, and clients that leave. The server's limits are set short; each test waits for what the server does.

use crate::peer::{self, Framing, Peer};
use crate::server::Server;
use crate::server::client::Request;
use crate::{CHUNK, HEADER, TAG, audit_lines, plaintext, sealed_len, start};

const TARGET: &str = "/api/stream/encrypt?key=k";

fn impatient() -> Option<Server> {
    start(&["--body-gap-timeout-ms", "600", "--body-timeout-ms", "1800"])
}

/// A stream of which the first chunk was answered.
fn begun(server: &Server, plain: &[u8], framing: Framing) -> (Peer, Vec<u8>) {
    let mut stream = Peer::connect(server);
    let mut rest = peer::framed(plain, framing);
    let later = rest.split_off(CHUNK + 1_000);
    // In one piece: between two of them a busy machine may let more time pass than the server bears.
    stream.send(&[peer::head(server, TARGET, framing, plain.len()).as_bytes(), &rest].concat());
    stream.wait_for_body(CHUNK);
    (stream, later)
}

#[test]
fn a_stream_that_stops_is_refused_at_its_beginning_and_cut_later() {
    let Some(server) = impatient() else { return };
    let plain = plaintext(3 * CHUNK);
    for framing in [Framing::Length, Framing::Chunks(5_000)] {
        for start in [0, 1, CHUNK] {
            let mut stream = Peer::connect(&server);
            let head = peer::head(&server, TARGET, framing, plain.len());
            stream.send(&[head.as_bytes(), &peer::framed(&plain, framing)[..start]].concat());
            let reply = stream.finish(&[]);
            assert!(reply.is_problem(408, "body_timeout"), "{framing:?} {start}: {reply:?}");
        }
        let reply = begun(&server, &plain, framing).0.finish(&[]);
        assert!(reply.is_cut(), "{framing:?}: {reply:?}");
    }
    let cut = audit_lines(&server, "\"code\":\"body_timeout\"");
    assert_eq!(cut.iter().filter(|line| line["status"] == 200 && line["bytes_in"] == CHUNK).count(), 2);
    assert_eq!(cut.iter().filter(|line| line["status"] == 408).count(), 6);
}

#[test]
fn a_stream_that_drips_is_cut() {
    let Some(server) = impatient() else { return };
    let plain = plaintext(3 * CHUNK);
    let (mut stream, later) = begun(&server, &plain, Framing::Length);
    // All of the first chunk: what is said from then on is the end.
    stream.wait_for_body(HEADER + CHUNK + TAG);
    let mut dripped = 0;
    while !stream.is_answered_within(50) && stream.try_send(&later[dripped..=dripped]) {
        dripped += 1;
        assert!(dripped < 400, "20 bytes a second are borne for ever");
    }
    let reply = stream.finish(&[]);
    assert!(reply.is_cut(), "{reply:?}");
}

#[test]
fn a_stream_that_flows_may_take_its_time() {
    let Some(server) = start(&["--body-gap-timeout-ms", "5000", "--body-timeout-ms", "5000"]) else { return };
    let plain = plaintext(3 * CHUNK);
    // 12 pieces, each a good while after the one before: longer than any body may take that is not streamed.
    let mut stream = Peer::connect(&server);
    stream.send(peer::head(&server, TARGET, Framing::Length, plain.len()).as_bytes());
    for piece in plain[..CHUNK].chunks(CHUNK / 12) {
        assert!(!stream.is_answered_within(450), "the first chunk is not whole");
        stream.send(piece);
    }
    let reply = stream.finish(&plain[CHUNK..]);
    assert!(reply.complete && reply.body.len() == sealed_len(plain.len()), "{reply:?}");
}

#[test]
fn the_clock_of_the_body_stands_still_while_the_client_does_not_read() {
    let Some(server) = start(&["--body-gap-timeout-ms", "3000", "--body-timeout-ms", "9000"]) else { return };
    let plain = plaintext(24 << 20);
    let mut stream = Peer::connect(&server);
    let head = peer::head(&server, TARGET, Framing::Length, plain.len());
    let request = [head.as_bytes(), &plain].concat();
    // Nothing is read, so that the server stops to take more, for longer than any gap.
    let sent = stream.send_until_full(&request, 3_500);
    assert!(sent < request.len(), "the server takes what it cannot get rid of");
    assert_eq!(server.call(&Request::get("/api/health")).status, 200);
    let reply = stream.finish(&request[sent..]);
    assert!(reply.complete && reply.body.len() == sealed_len(plain.len()), "{reply:?}");
}

#[test]
fn a_client_that_never_reads_is_given_up() {
    // The limits of the body are not what is met here.
    let Some(server) = start(&["--write-timeout-ms", "300"]) else { return };
    let plain = plaintext(24 << 20);
    let mut stream = Peer::connect(&server);
    stream.send(peer::head(&server, TARGET, Framing::Length, plain.len()).as_bytes());
    let sent = stream.send_until_full(&plain, 900);
    let reply = stream.finish(&plain[sent..]);
    assert!(reply.is_cut(), "{reply:?}");
    assert_eq!(audit_lines(&server, "\"code\":\"write_timeout\"").len(), 1);
}

#[test]
fn a_body_that_ends_early_never_makes_a_whole_stream() {
    let Some(server) = start(&[]) else { return };
    let plain = plaintext(2 * CHUNK);
    for framing in [Framing::Length, Framing::Chunks(5_000)] {
        let head = peer::head(&server, TARGET, framing, plain.len());
        let body = peer::framed(&plain, framing);
        for (len, refused) in [(100, true), (CHUNK + 5_000, false), (body.len() - 1, false)] {
            let reply = peer::talk(&server, &[head.as_bytes(), &body[..len]].concat(), true);
            let right = if refused { reply.is_problem(400, "incomplete_body") } else { reply.is_cut() };
            assert!(right, "{framing:?} {len}: {reply:?}");
        }
    }
    let lines = audit_lines(&server, "\"code\":\"incomplete_body\"");
    assert_eq!(lines.iter().filter(|line| line["status"] == 200).count(), 4);
}

#[test]
fn broken_chunks_cut_a_stream() {
    let Some(server) = start(&[]) else { return };
    let plain = plaintext(CHUNK + 500);
    let head = peer::head(&server, TARGET, Framing::Chunks(1), 0);
    let whole = peer::framed(&plain, Framing::Chunks(plain.len()));
    let one = whole.strip_suffix(b"0\r\n\r\n").unwrap();
    let mut stream = Peer::connect(&server);
    stream.send(&[head.as_bytes(), one].concat());
    stream.wait_for_body(CHUNK);
    let reply = stream.finish(b"no size\r\n");
    assert!(reply.is_cut(), "{reply:?}");
    assert_eq!(audit_lines(&server, "\"code\":\"malformed_chunk\"").len(), 1, "and not for its silence");
    let reply = peer::talk(&server, format!("{head}no size\r\n").as_bytes(), false);
    assert!(reply.is_problem(400, "malformed_chunk"), "{reply:?}");
}
