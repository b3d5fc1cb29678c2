//! Streams that nothing disturbs, and what is refused by the head alone.

use std::process::Command;

use crate::peer::{self, FRAMINGS, Framing, Peer};
use crate::server::client::Request;
use crate::server::skip;
use crate::{CHUNK, audit_lines, plaintext, seal, sealed_len, start};

#[test]
fn streams_of_any_length_come_back_as_they_were() {
    let Some(server) = start(&[]) else { return };
    let lengths = [0, 1, 1_000, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK + 17];
    for plain in lengths.map(plaintext) {
        for framing in FRAMINGS {
            let sealed = seal(&server, &plain, framing);
            assert!(plain.len() < 32 || memchr::memmem::find(&sealed, &plain[..32]).is_none());
            let reply = peer::stream(&server, "/api/stream/decrypt?key=k", &sealed, framing);
            assert_eq!((reply.status, reply.complete), (200, true), "{framing:?} {reply:?}");
            assert!(reply.body == plain, "{framing:?} {}", plain.len());
            let counted = reply.field("Content-Length").is_some();
            assert_eq!(counted, framing == Framing::Length, "the reply is framed as the request");
        }
    }
}

#[test]
fn chunks_of_one_byte_are_as_good_as_any() {
    let Some(server) = start(&[]) else { return };
    let plain = plaintext(CHUNK + 5);
    let sealed = seal(&server, &plain, Framing::Chunks(1));
    let reply = peer::stream(&server, "/api/stream/decrypt?key=k", &sealed, Framing::Chunks(3));
    assert!(reply.complete && reply.body == plain, "{reply:?}");
}

fn rss_kib(server: &crate::server::Server) -> u64 {
    let status = std::fs::read_to_string(server.proc().join("status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn memory_does_not_grow_with_the_stream() {
    let Some(server) = start(&[]) else { return };
    let plain = plaintext(64 << 20);
    seal(&server, &plain[..1 << 20], Framing::Length);
    let before = rss_kib(&server);
    for framing in [Framing::Length, Framing::Chunks(1 << 20)] {
        let sealed = seal(&server, &plain, framing);
        let reply = peer::stream(&server, "/api/stream/decrypt?key=k", &sealed, framing);
        assert!(reply.complete && reply.body == plain, "{framing:?}");
    }
    let grown = rss_kib(&server) - before;
    println!("256 MiB passed, the greatest resident set grew by {grown} KiB");
    assert!(grown < 1_024, "{grown} KiB: more than a few buffers");
}

#[test]
fn curl_sends_and_receives_streams() {
    let Some(server) = start(&[]) else { return };
    let Ok(curl) = Command::new("curl").arg("--version").output() else { return skip("there is no curl") };
    assert!(curl.status.success());
    let folder = server.scratch().path("curl");
    std::fs::create_dir(&folder).unwrap();
    let file = |name: &str| folder.join(name).display().to_string();
    let plain = plaintext(3 * CHUNK + 1);
    std::fs::write(file("plain"), &plain).unwrap();
    let run = |from: &str, to: &str, target: &str, more: &[&str]| {
        let url = format!("http://{}{target}", server.address());
        let key = format!("X-API-Key: {}", server.key());
        let mut command = Command::new("curl");
        command.args(["-sS", "-f", "-X", "POST", "-H", &key, "-T", from, "-o", to, &url]).args(more);
        command.status().unwrap().code()
    };
    let (encrypt, decrypt) = ("/api/stream/encrypt?key=k", "/api/stream/decrypt?key=k");
    for more in [&[][..], &["-H", "Transfer-Encoding: chunked"], &["--http1.0"]] {
        assert_eq!(run(&file("plain"), &file("sealed"), encrypt, more), Some(0));
        assert_eq!(run(&file("sealed"), &file("opened"), decrypt, more), Some(0));
        assert!(std::fs::read(file("opened")).unwrap() == plain);
        let mut forged = std::fs::read(file("sealed")).unwrap();
        forged[3 * CHUNK] ^= 1;
        std::fs::write(file("forged"), &forged).unwrap();
        let code = run(&file("forged"), &file("opened"), decrypt, more);
        assert!(matches!(code, Some(55 | 56)), "curl's codes for a connection that broke: {code:?}");
    }
}

#[test]
fn associated_data_binds_and_is_needed() {
    let Some(server) = start(&[]) else { return };
    let plain = plaintext(100);
    let sealed =
        peer::stream(&server, "/api/stream/encrypt?key=k&associated_data=YWJj", &plain, Framing::Length);
    assert!(sealed.complete && sealed.status == 200, "{sealed:?}");
    for (query, opens) in [
        ("&associated_data=YWJj", true),
        ("", false),
        ("&associated_data=YWJk", false),
        ("&associated_data=", false),
    ] {
        for framing in FRAMINGS {
            let target = format!("/api/stream/decrypt?key=k{query}");
            let reply = peer::stream(&server, &target, &sealed.body, framing);
            let right = if opens { reply.body == plain } else { reply.is_problem(400, "decryption_failed") };
            assert!(right, "{query}: {reply:?}");
        }
    }
}

#[test]
fn what_the_head_tells_is_refused_before_the_body() {
    let Some(server) = start(&[]) else { return };
    for (target, field, status, code) in [
        ("/api/stream/encrypt", "", 400, "key_parameter_missing"),
        ("/api/stream/encrypt?key=none", "", 404, "unknown_key"),
        ("/api/stream/decrypt?key=none", "", 404, "unknown_key"),
        ("/api/stream/encrypt?key=k&key_version=2", "", 400, "unknown_key_version"),
        ("/api/stream/encrypt?key=k&key_version=01", "", 400, "malformed_parameter"),
        ("/api/stream/decrypt?key=k&key_version=1", "", 400, "unknown_parameter"),
        ("/api/stream/encrypt?key=k&aad=YWJj", "", 400, "unknown_parameter"),
        ("/api/stream/encrypt?key=k&associated_data=YWI=", "", 400, "malformed_associated_data"),
        ("/api/stream/encrypt?key=k&context=YWJj", "", 400, "context_not_allowed"),
        ("/api/stream/decrypt?key=k&context=YWJj", "", 400, "context_not_allowed"),
        ("/api/stream/encrypt?key=k", "Content-Type: application/json\r\n", 400, "json_with_query_key"),
        ("/api/stream/encrypt?key=k", "Content-Type: image/png\r\n", 415, "unsupported_media_type"),
        ("/api/stream/encrypt?key=k", "Content-Encoding: gzip\r\n", 415, "unsupported_media_type"),
        ("/api/stream/encrypt?key=k", "Accept: application/json\r\n", 406, "not_acceptable"),
        ("/api/stream/encrypt?key=k", "Authorization: Bearer x\r\n", 400, "credential_repeated"),
    ] {
        // The body never comes, and is never asked for.
        let key = server.key();
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n{field}Expect: 100-continue\r\nContent-Length: 5000000000\r\n\r\n"
        );
        let reply = peer::talk(&server, head.as_bytes(), false);
        assert!(reply.is_problem(status, code), "{target} {field}: {reply:?}");
        assert!(reply.head.starts_with("HTTP/1.1 4") && reply.field("Connection") == Some("close"));
    }
    let short = peer::stream(&server, "/api/stream/decrypt?key=k", &[0; 71], Framing::Length);
    assert!(short.is_problem(400, "decryption_failed"), "{short:?}");
}

#[test]
fn methods_and_lengths_are_those_of_other_routes() {
    let Some(server) = start(&[]) else { return };
    let target = "/api/stream/encrypt?key=k";
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        let mut client = server.connect();
        let request = Request::new(method, target).key(server.key());
        let reply = client.call(&request);
        assert_eq!((reply.status, reply.field("Allow")), (405, Some("OPTIONS, POST")), "{method}");
    }
    let options = server.call(&Request::new("OPTIONS", target));
    assert_eq!((options.status, options.field("Allow")), (204, Some("OPTIONS, POST")));
    let old = |fields: &str, body: &str| {
        let key = server.key();
        let text = format!("POST {target} HTTP/1.0\r\nX-API-Key: {key}\r\n{fields}\r\n{body}");
        peer::talk(&server, text.as_bytes(), true)
    };
    assert!(old("", "").is_problem(411, "length_required"));
    let reply = old("Content-Length: 3\r\n", "abc");
    assert!(reply.complete && reply.body.len() == sealed_len(3), "{reply:?}");
    // Without either field there is no body: a stream of nothing.
    let key = server.key();
    let text = format!("POST {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-API-Key: {key}\r\n\r\n");
    let reply = peer::talk(&server, text.as_bytes(), false);
    assert!(reply.complete && reply.body.len() == sealed_len(0), "{reply:?}");
}

#[test]
fn a_stream_has_its_place_among_pipelined_requests() {
    let Some(server) = start(&[]) else { return };
    let plain = plaintext(2 * CHUNK + 9);
    let key = server.key();
    let head = format!("POST /api/stream/encrypt?key=k HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n");
    let health = Request::get("/api/health").bytes();
    for framing in [Framing::Length, Framing::Chunks(70_000)] {
        let length = match framing {
            Framing::Length => format!("{head}Content-Length: {}\r\n\r\n", plain.len()),
            Framing::Chunks(_) => format!("{head}Transfer-Encoding: chunked\r\n\r\n"),
        };
        let stream = [length.as_bytes(), &peer::framed(&plain, framing)].concat();
        let mut client = server.connect();
        client.send(&[&health[..], &stream, &health, &stream, &health].concat());
        for index in 0..5 {
            let reply = client.reply();
            let length = if index % 2 == 1 { sealed_len(plain.len()) } else { reply.body.len() };
            assert_eq!((reply.status, reply.body.len(), reply.closes()), (200, length, false), "{index}");
        }
        client.finish();
        assert!(client.ends());
    }
}

#[test]
fn a_stream_asks_for_its_body_once_and_others_are_served_meanwhile() {
    let Some(server) = start(&[]) else { return };
    let plain = plaintext(3 * CHUNK);
    let key = server.key();
    let mut stream = Peer::connect(&server);
    stream.send(
        format!("POST /api/stream/encrypt?key=k HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-API-Key: {key}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", plain.len())
            .as_bytes(),
    );
    stream.wait_for(b"HTTP/1.1 100 Continue\r\n\r\n".len());
    assert_eq!(server.call(&Request::get("/api/health")).status, 200);
    stream.send(&plain[..CHUNK + 1]);
    // The first chunk is out as soon as it is known that it is not the last.
    stream.wait_for(CHUNK);
    assert_eq!(server.call(&Request::get("/api/health")).status, 200);
    let reply = stream.finish(&plain[CHUNK + 1..]);
    assert!(reply.complete && reply.body.len() == sealed_len(plain.len()), "{reply:?}");
}

#[test]
fn a_stream_has_a_line_at_its_beginning_and_one_at_its_end() {
    let Some(server) = start(&[]) else { return };
    let plain = plaintext(2 * CHUNK);
    seal(&server, &plain, Framing::Length);
    let lines = audit_lines(&server, "stream.encrypt");
    let told: Vec<_> = lines.iter().map(|line| line["outcome"].as_str().unwrap()).collect();
    assert_eq!(told, ["begin", "success"]);
    assert_eq!(lines[0]["request_id"], lines[1]["request_id"]);
    assert_eq!(
        (&lines[0]["key"], &lines[0]["key_version"], &lines[0]["status"]),
        (&"k".into(), &1.into(), &200.into())
    );
    assert!(lines[0].get("bytes_in").is_none());
    assert_eq!(lines[1]["bytes_in"], 2 * CHUNK);
    assert_eq!(lines[1]["bytes_out"], sealed_len(2 * CHUNK));
}

#[test]
fn a_stream_under_way_may_finish_while_the_server_drains() {
    let Some(server) = start(&["--drain-timeout-ms", "20000"]) else { return };
    let plain = plaintext(4 * CHUNK);
    let mut stream = Peer::connect(&server);
    stream.send(peer::head(&server, "/api/stream/encrypt?key=k", Framing::Length, plain.len()).as_bytes());
    stream.send(&plain[..CHUNK + 1]);
    stream.wait_for(CHUNK);
    server.signal(nix::sys::signal::Signal::SIGTERM);
    let reply = stream.finish(&plain[CHUNK + 1..]);
    assert!(reply.complete && reply.body.len() == sealed_len(plain.len()), "{reply:?}");
    let ended = server.wait();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}
