//! The port that only tells where TLS is spoken.

use std::process::{Command, Stdio};
use std::sync::Arc;

use super::server::client::Reply;
use super::server::{Scratch, Server, skip};

/// The files of a certificate and its key; nothing where there is no `openssl`.
fn certificate(scratch: &Scratch) -> Option<(String, String)> {
    let path = |name: &str| scratch.path(name).display().to_string();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]);
    command.args(["-keyout", &key, "-out", &cert]).stdin(Stdio::null()).stderr(Stdio::null());
    if command.status().is_ok_and(|status| status.success()) {
        return Some((cert, key));
    }
    skip("openssl makes no certificate");
    None
}

/// A server whose second address redirects; TLS is spoken elsewhere, at the usual port.
fn start(flags: &[&str]) -> Option<Server> {
    let scratch: Arc<Scratch> = Scratch::new();
    let (cert, key) = certificate(&scratch)?;
    let own = ["--listen", "http://127.0.0.1:0", "--redirect-listen", "127.0.0.1:0"];
    let files = ["--tls-cert", &cert, "--tls-key", &key];
    Server::start_in(&scratch, &[&own[..], &files, flags].concat())
}

fn ask(server: &Server, bytes: &str) -> Reply {
    let mut client = server.connect_to(1);
    client.send(bytes.as_bytes());
    let reply = if bytes.starts_with("HEAD ") { client.reply_to_head() } else { client.reply() };
    assert!(reply.closes() && client.ends(), "{bytes}");
    reply
}

#[test]
fn who_reads_is_told_the_address_and_who_sends_is_refused() {
    let Some(server) = start(&[]) else { return };
    for (line, location) in [
        ("GET /api/health", "https://q.example/api/health"),
        ("HEAD /", "https://q.example/"),
        ("GET /a/../b?c=%0d%0aSet-Cookie:x", "https://q.example/a/../b?c=%0d%0aSet-Cookie:x"),
        ("GET //evil.example/", "https://q.example//evil.example/"),
        ("GET http://r.example:81?x", "https://r.example/?x"),
    ] {
        let reply = ask(&server, &format!("{line} HTTP/1.1\r\nHost: q.example:80\r\n\r\n"));
        assert_eq!((reply.status, reply.field("Location")), (308, Some(location)), "{line}");
        assert!(reply.body.is_empty());
    }
    for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"] {
        let reply = ask(&server, &format!("{method} /api/keys HTTP/1.1\r\nHost: q.example\r\n\r\n"));
        reply.assert_problem(403, "https_required");
        assert_eq!(reply.field("Location"), None, "{method}");
    }
    // Nothing is served here, whatever is asked, and nothing is read of a body.
    let long = "POST /api/encrypt HTTP/1.1\r\nHost: q.example\r\nContent-Length: 99999\r\n\r\n";
    ask(&server, long).assert_problem(403, "https_required");
    for (bytes, code) in [
        ("GET / HTTP/1.0\r\n\r\n", "host_required"),
        ("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "host_required"),
        ("GET / HTTP/1.1\r\nHost: a%0d%0a\r\n\r\n", "host_required"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "malformed_host"),
        ("GET / HTTP/1.1\r\n\r\n", "missing_host"),
        ("GET /\rLocation:x HTTP/1.1\r\nHost: a\r\n\r\n", "bare_line_end"),
        ("GET javascript:x HTTP/1.1\r\nHost: a\r\n\r\n", "malformed_target"),
    ] {
        let reply = ask(&server, bytes);
        reply.assert_problem(400, code);
        assert_eq!(reply.field("Location"), None, "{bytes}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1_500));
    ask(&server, &long).assert_problem(414, "target_too_long");
    assert_eq!(server.call(&super::server::client::Request::get("/api/health")).status, 200);
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn whoever_shows_a_credential_here_is_told_so_whether_it_is_one_or_not() {
    let Some(server) = start(&[]) else { return };
    let key = server.key().to_owned();
    let mut details = Vec::new();
    for credential in [
        format!("X-API-Key: {key}"),
        format!("Authorization: Bearer {key}"),
        "X-API-Key: nonsense".to_owned(),
    ] {
        for line in ["GET /api/keys", "GET /api/health", "POST /api/encrypt"] {
            let reply = ask(&server, &format!("{line} HTTP/1.1\r\nHost: q.example\r\n{credential}\r\n\r\n"));
            reply.assert_problem(403, "https_required");
            assert!(!reply.text().contains(&key));
            details.push(reply.member("detail"));
        }
    }
    details.dedup();
    assert_eq!(details.len(), 1, "nobody learns whether a credential is one: {details:?}");
    assert!(details.concat().contains("rotate"), "{details:?}");
    let ended = server.stop();
    assert_eq!(ended.code, Some(0));
    assert!(ended.stderr.contains("came in the clear") && !ended.stderr.contains(&key), "{}", ended.stderr);
}

#[test]
fn with_names_of_its_own_it_leads_to_no_other() {
    let Some(server) = start(&["--allowed-host", "q.example,r.example:8443"]) else { return };
    for (host, location) in [
        ("Q.example:80", "https://q.example/"),
        ("r.example", "https://r.example:8443/"),
        ("evil.example", "https://q.example/"),
        ("q.example.evil", "https://q.example/"),
        ("a,b", "https://q.example/"),
    ] {
        let reply = ask(&server, &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!((reply.status, reply.field("Location")), (308, Some(location)), "{host}");
    }
    assert_eq!(ask(&server, "GET / HTTP/1.0\r\n\r\n").field("Location"), Some("https://q.example/"));
    assert_eq!(server.stop().code, Some(0));
}
