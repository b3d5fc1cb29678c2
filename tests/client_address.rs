//! Whom the audit log names as the client: the peer, or, behind a trusted proxy, whom the proxy names.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic, its helping functions too")]

#[path = "support/server.rs"]
mod server;

use std::fs;

use serde_json::Value;
use server::client::{Client, Request};
use server::{Server, read_lines};

/// The `remote` of the line that tells of this request.
fn remote_of(server: &Server, id: &str) -> String {
    let files = fs::read_dir(server.data_dir().join("audit")).unwrap();
    let texts = files.map(|entry| read_lines(&entry.unwrap().path()));
    let lines: Vec<Value> = texts
        .flat_map(|text| text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>())
        .collect();
    let told = |line: &&Value| line.get("request_id").and_then(Value::as_str) == Some(id);
    let line = lines.iter().find(told).unwrap_or_else(|| panic!("nothing tells of {id}"));
    line.get("remote").and_then(Value::as_str).unwrap().to_owned()
}

/// Where the server with these flags takes a request with these fields to come from.
fn remote(server: &Server, fields: &[(&str, &str)]) -> String {
    let request = Request::get("/api/keys").key(server.key());
    let request = fields.iter().fold(request, |request, (name, value)| request.with(name, value));
    let reply = server.call(&request);
    assert_eq!(reply.status, 200, "{}", reply.text());
    remote_of(server, reply.field("X-Request-Id").unwrap())
}

const BOTH: [(&str, &str); 2] =
    [("X-Forwarded-For", "198.51.100.66, 203.0.113.9"), ("Forwarded", "for=\"[2001:db8::7]:443\"")];

#[test]
fn nobody_is_believed_who_is_not_trusted() {
    for flags in [&[][..], &["--trusted-proxy", "192.0.2.0/24,::1"]] {
        let Some(server) = Server::start(flags) else { return };
        assert_eq!(remote(&server, &BOTH), "127.0.0.1", "{flags:?}");
        assert_eq!(server.stop().code, Some(0));
    }
}

#[test]
fn behind_a_trusted_proxy_the_forwarded_client_is_told() {
    let Some(server) = Server::start(&["--trusted-proxy", "127.0.0.1/32"]) else { return };
    assert_eq!(remote(&server, &BOTH), "203.0.113.9");
    assert_eq!(remote(&server, &[]), "127.0.0.1");
    assert_eq!(remote(&server, &[("X-Forwarded-For", "203.0.113.9, unknown")]), "127.0.0.1");
    let lines = [
        ("X-Forwarded-For", "198.51.100.66"),
        ("X-Forwarded-For", "2001:db8::9"),
        ("X-Forwarded-For", "127.0.0.1"),
    ];
    assert_eq!(remote(&server, &lines), "2001:db8::9");
    // A refused credential is told of with its client too, and each request of a connection has its own.
    let mut connection = server.connect();
    for (number, key) in [(1, "qk_00000000.wrong"), (2, server.key()), (3, server.key())] {
        let client = format!("203.0.113.{number}");
        let request = Request::get("/api/keys").key(key).with("X-Forwarded-For", &client);
        let reply = connection.call(&request);
        assert_eq!(remote_of(&server, reply.field("X-Request-Id").unwrap()), client);
    }
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn the_setting_says_which_field_counts() {
    let flags = [
        "--trusted-proxy",
        "127.0.0.0/8",
        "--trusted-proxy",
        "10.0.0.0/8",
        "--forwarded-header",
        "forwarded",
    ];
    let Some(server) = Server::start(&flags) else { return };
    assert_eq!(remote(&server, &BOTH), "2001:db8::7");
    assert_eq!(remote(&server, &[("Forwarded", "for=203.0.113.9;proto=https, For=10.1.2.3")]), "203.0.113.9");
    assert_eq!(remote(&server, &[("X-Forwarded-For", "203.0.113.9")]), "127.0.0.1");
    assert_eq!(server.stop().code, Some(0));
}

#[test]
fn connections_of_a_trusted_proxy_are_not_counted_by_address() {
    for (flags, served) in [
        (&["--max-connections-per-address", "2"][..], 2),
        (&["--max-connections-per-address", "2", "--trusted-proxy", "127.0.0.1"], 5),
    ] {
        let Some(server) = Server::start(flags) else { return };
        let mut connections: Vec<Client> = (0..5).map(|_| server.connect()).collect();
        let health = Request::get("/api/health");
        let answers = connections.iter_mut().map(|connection| connection.attempt(&health));
        let good = answers.flatten().filter(|reply| reply.status == 200).count();
        assert_eq!(good, served, "{flags:?}");
        drop(connections);
        assert_eq!(server.stop().code, Some(0));
    }
}
