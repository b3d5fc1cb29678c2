//! What is said through TLS only. The connection is one in memory, of which the worker is told that it is secure: what
//! encrypts has tests of its own.

use std::fs::File;
use std::os::fd::OwnedFd;

use quantonium::http::peer::Way;
use quantonium::http::sharing::Origins;
use quantonium::model::{KeyOptions, KeyType};

use super::in_process::{InProcess, KEY};
use super::server::Scratch;

const STRICT: &str = "\r\nStrict-Transport-Security: max-age=31536000; includeSubDomains\r\n";
const ORIGIN: &str = "https://app.example.net";

fn reached_by(way: Way) -> InProcess {
    telling(way, File::create(Scratch::new().path("audit")).unwrap())
}

fn telling(way: Way, audit: File) -> InProcess {
    let origins = Origins::new(&[ORIGIN.to_owned()]);
    InProcess::reached_by(audit, 64 * 1024, KeyOptions::of(KeyType::XChaCha20Poly1305), way, origins)
}

#[test]
fn only_replies_through_tls_demand_it_for_the_future_and_all_of_them_do() {
    for way in [Way::Secure, Way::Plain, Way::Local] {
        let mut worker = reached_by(way);
        let key = worker.credential.clone();
        for (status, line, rest) in [
            (200, "GET /api/health", "\r\n".to_owned()),
            (204, "OPTIONS /api/keys", "Access-Control-Request-Method: GET\r\n\r\n".to_owned()),
            (401, "GET /api/keys", "\r\n".to_owned()),
            (404, "GET /nothing", "\r\n".to_owned()),
            (405, "GET /api/encrypt", "\r\n".to_owned()),
            (501, "TRACE /", "\r\n".to_owned()),
            (200, "GET /api/keys", format!("X-API-Key: {key}\r\n\r\n")),
            (
                415,
                "POST /api/hash",
                format!("X-API-Key: {key}\r\nContent-Type: a/b\r\nContent-Length: 1\r\n\r\nx"),
            ),
            (
                200,
                &format!("POST /api/stream/encrypt?key={KEY}"),
                format!("X-API-Key: {key}\r\nContent-Length: 1\r\n\r\nx"),
            ),
        ] {
            let request = format!("{line} HTTP/1.1\r\nHost: a\r\nOrigin: {ORIGIN}\r\n{rest}");
            let reply =
                worker.exchange(request.as_bytes(), |bytes| String::from_utf8_lossy(bytes).into_owned());
            assert!(reply.starts_with(&format!("HTTP/1.1 {status} ")), "{request}\n{reply}");
            let count = reply.matches(STRICT).count();
            assert_eq!(count, usize::from(way == Way::Secure), "{way:?} {request}\n{reply}");
            assert_eq!(reply.matches("\r\nVary: Origin").count(), 1, "{reply}");
            assert_eq!(reply.matches(&format!("\r\nAccess-Control-Allow-Origin: {ORIGIN}\r\n")).count(), 1);
        }
    }
}

#[test]
fn a_reply_that_takes_the_place_of_one_that_could_not_be_told_says_the_same() {
    for way in [Way::Secure, Way::Plain] {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut worker = telling(way, File::from(OwnedFd::from(writer)));
        let key = worker.credential.clone();
        let request =
            format!("GET /api/keys HTTP/1.1\r\nHost: a\r\nOrigin: {ORIGIN}\r\nX-API-Key: {key}\r\n\r\n");
        drop(reader);
        let reply = worker.exchange(request.as_bytes(), |bytes| String::from_utf8_lossy(bytes).into_owned());
        assert!(reply.starts_with("HTTP/1.1 503 ") && reply.contains("\"audit_unavailable\""), "{reply}");
        assert_eq!(reply.matches(STRICT).count(), usize::from(way == Way::Secure), "{way:?} {reply}");
        assert_eq!(reply.matches("\r\nVary: Origin").count(), 1, "{reply}");
        assert_eq!(reply.matches(&format!("\r\nAccess-Control-Allow-Origin: {ORIGIN}\r\n")).count(), 1);
        assert!(reply.contains("\r\nX-Content-Type-Options: nosniff\r\n"), "{reply}");
    }
}
