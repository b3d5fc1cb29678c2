//! Requests for names that are not the server's: how a page of another site reaches a server that only its browser can see
//! (DNS rebinding).

use std::fs;
use std::sync::Arc;

use super::answer;
use super::server::Server;

const FLAGS: [&str; 4] = ["--allowed-host", "q.example,[::1]:8443", "--address-rate-limit", "0"];

#[test]
fn only_the_servers_own_names_are_served_but_by_health() {
    let Some(server) = Server::start(&FLAGS) else { return };
    let key = server.key();
    for (host, ours) in [
        ("q.example", true),
        ("Q.Example", true),
        ("q.example:8080", true),
        ("[::1]:8443", true),
        ("[::1]:8444", false),
        ("[::1]", false),
        ("q.example.", false),
        ("a.q.example", false),
        ("evil.example", false),
        ("127.0.0.1", false),
        ("localhost", false),
    ] {
        let line = |line: &str, host: &str| format!("{line} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        for (method, target, status) in [
            ("GET", "/api/keys", 401),
            ("GET", "/nothing", 404),
            ("GET", "/api/encrypt", 405),
            ("POST", "/api/health", 405),
            ("OPTIONS", "/api/health", 204),
            ("OPTIONS", "*", 204),
        ] {
            let reply = answer(&server, &line(&format!("{method} {target}"), host));
            if ours {
                assert_eq!(reply.status, status, "{method} {target} of {host}");
            } else {
                reply.assert_problem(421, "misdirected_request");
                assert_eq!((reply.field("Allow"), reply.field("WWW-Authenticate")), (None, None), "{host}");
            }
        }
        // The credential is not even looked at.
        let keyed = format!("GET /api/keys HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {key}\r\n\r\n");
        assert_eq!(answer(&server, &keyed).status, if ours { 200 } else { 421 }, "{host}");
        for method in ["GET", "HEAD"] {
            for target in ["/api/health", "/api/health/live", "/api/health/ready"] {
                assert_eq!(answer(&server, &line(&format!("{method} {target}"), host)).status, 200, "{host}");
            }
        }
        // The authority of the target is what counts, whatever Host says (RFC 9112, section 3.2.2).
        let absolute = line(&format!("GET http://{host}/api/keys"), "q.example");
        assert_eq!(answer(&server, &absolute).status, if ours { 401 } else { 421 }, "{host}");
        let absolute = line("GET http://q.example/api/keys", host);
        assert_eq!(answer(&server, &absolute).status, 401, "{host}");
    }
    let old = "GET /api/keys HTTP/1.0\r\n\r\n";
    answer(&server, old).assert_problem(421, "misdirected_request");
    assert_eq!(answer(&server, "GET /api/health HTTP/1.0\r\n\r\n").status, 200);
    answer(&server, "GET /api/keys HTTP/1.1\r\n\r\n").assert_problem(400, "missing_host");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn misdirected_requests_are_told_of_but_cannot_fill_the_disk() {
    const MANY: usize = 400;
    let Some(server) = Server::start(&FLAGS) else { return };
    let mut client = server.connect();
    client.send(&b"GET /api/keys HTTP/1.1\r\nHost: evil.example\r\n\r\n".repeat(MANY));
    for _ in 0..MANY {
        assert_eq!(client.reply().status, 421);
    }
    let scratch = Arc::clone(server.scratch());
    assert_eq!(server.stop().code, Some(0));
    let files = fs::read_dir(scratch.data_dir().join("audit")).unwrap();
    let text: String = files.map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap()).collect();
    let told = text.lines().filter(|line| line.contains("\"misdirected_request\"")).count();
    assert!((1..MANY).contains(&told), "{told}");
    assert!(text.lines().any(|line| line.contains("\"auth.refused\"")), "the others are counted");
}
