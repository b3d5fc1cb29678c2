//! Encryption and decryption of octets and text, without JSON.

use serde_json::json;

use crate::server::Server;
use crate::server::client::Request;
use crate::{must_encrypt, octets, post, raw, with_orders};

const OCTETS: &str = "application/octet-stream";

fn opened(server: &Server, body: &[u8]) -> Vec<u8> {
    let reply = raw(server, "/api/decrypt?key=orders", OCTETS, body);
    assert_eq!((reply.status, reply.field("Content-Type")), (200, Some(OCTETS)));
    assert_eq!(reply.field("X-Key-Version"), Some("1"));
    reply.body
}

#[test]
fn octets_give_the_binary_form_and_come_back() {
    let Some(server) = with_orders() else { return };
    for length in [0, 1, 100, 16 * 1024, 300_000] {
        let plaintext = octets(length);
        let sealed = raw(&server, "/api/encrypt?key=orders", OCTETS, &plaintext);
        assert_eq!((sealed.status, sealed.field("Content-Type")), (200, Some(OCTETS)));
        assert_eq!(sealed.field("X-Key-Version"), Some("1"));
        assert!(sealed.body.starts_with(b"QN\x01\0\0\0\x01"), "magic, format and version");
        assert_eq!(sealed.body.len(), 7 + 24 + length + 16);
        assert!(opened(&server, &sealed.body) == plaintext, "{length} bytes come back");
    }
}

#[test]
fn text_and_form_give_the_text_form_with_a_line_end() {
    let Some(server) = with_orders() else { return };
    for kind in ["text/plain", "text/plain; charset=utf-8", "application/x-www-form-urlencoded", ""] {
        let sealed = raw(&server, "/api/encrypt?key=orders", kind, b"hello");
        assert_eq!((sealed.status, sealed.field("Content-Type")), (200, Some("text/plain; charset=utf-8")));
        let line = sealed.text().strip_suffix('\n').unwrap_or("no line end");
        let encoded = line.strip_prefix("quantonium:v1:").unwrap_or("no prefix");
        assert_eq!(
            base64_simd::STANDARD.decode_to_vec(encoded).map(|body| body.len()).ok(),
            Some(24 + 5 + 16)
        );
        for body in [sealed.text().to_owned(), line.to_owned(), format!("{line}\r\n")] {
            assert_eq!(opened(&server, body.as_bytes()), b"hello");
        }
        let json = post(&server, "/api/decrypt", &json!({ "key": "orders", "ciphertext": line }).to_string());
        assert_eq!(json.member("plaintext"), "aGVsbG8=", "the forms are one");
    }
}

#[test]
fn accept_chooses_the_form_of_the_reply() {
    let Some(server) = with_orders() else { return };
    let seal = |accept: &str| {
        let request = Request::post("/api/encrypt?key=orders", "hello").with("Content-Type", OCTETS);
        server.ask(request.with("Accept", accept))
    };
    for (accept, kind) in [
        ("*/*", OCTETS),
        ("text/plain", "text/plain; charset=utf-8"),
        ("application/json", "application/json"),
        ("application/json;q=0.5, text/*", "text/plain; charset=utf-8"),
        ("image/png, application/*", OCTETS),
    ] {
        let reply = seal(accept);
        assert_eq!((reply.status, reply.field("Content-Type")), (200, Some(kind)), "{accept}");
    }
    assert_eq!(seal("application/json").json()["key_version"], 1);
    seal("image/png").assert_problem(406, "not_acceptable");
    seal("*/*;q=0").assert_problem(406, "not_acceptable");
    let sealed = seal("*/*").body;
    for (accept, body) in [
        ("application/json", br#"{"plaintext":"aGVsbG8=","key_version":1}"#.as_slice()),
        ("image/png", b"hello"),
        ("text/plain", b"hello"),
    ] {
        let request = Request::post("/api/decrypt?key=orders", &sealed).with("Accept", accept);
        let reply = server.ask(request.with("Content-Type", OCTETS));
        assert_eq!((reply.status, reply.body.as_slice()), (200, body), "{accept}");
    }
}

#[test]
fn types_that_contradict_the_query_are_refused() {
    let Some(server) = with_orders() else { return };
    for route in ["/api/encrypt", "/api/decrypt"] {
        let with_key = format!("{route}?key=orders");
        raw(&server, &with_key, "application/json", b"{}").assert_problem(400, "json_with_query_key");
        for kind in ["image/png", "multipart/form-data; boundary=x", "text/html", "nonsense", "*/*"] {
            raw(&server, &with_key, kind, b"x").assert_problem(415, "unsupported_media_type");
            raw(&server, route, kind, b"{}").assert_problem(415, "unsupported_media_type");
        }
        for kind in [OCTETS, "text/plain"] {
            raw(&server, route, kind, b"{}").assert_problem(415, "unsupported_media_type");
        }
        let coded = Request::post(&with_key, "x").with("Content-Encoding", "gzip");
        server.ask(coded).assert_problem(415, "unsupported_media_type");
        raw(&server, &format!("{route}?key=nope"), OCTETS, b"x").assert_problem(404, "unknown_key");
        raw(&server, &format!("{route}?key="), OCTETS, b"x").assert_problem(404, "unknown_key");
    }
}

#[test]
fn parameters_are_checked() {
    let Some(server) = with_orders() else { return };
    for (query, code) in [
        ("key=orders&associated_date=eA", "unknown_parameter"),
        ("key=orders&Key_version=1", "unknown_parameter"),
        ("key=orders&", ""),
        ("key=orders&key=orders", "repeated_parameter"),
        ("key=orders&associated_data=eA&associated_data=eA", "repeated_parameter"),
        ("associated_data=eA", "malformed_parameter"),
        ("key=%ff", "malformed_parameter"),
        ("key=orders&key_version=", "malformed_parameter"),
        ("key=orders&key_version=01", "malformed_parameter"),
        ("key=orders&key_version=%2B1", "malformed_parameter"),
        ("key=orders&key_version=4294967296", "malformed_parameter"),
        ("key=orders&key_version=0", "malformed_parameter"),
        ("key=orders&key_version=2", "unknown_key_version"),
        ("key=orders&associated_data=eA==", "malformed_associated_data"),
        ("key=orders&associated_data=eB", "malformed_associated_data"),
        ("key=orders&associated_data=%2B%2F", "malformed_associated_data"),
        ("key=orders&context=eA", "context_not_allowed"),
        ("k%65y=order%73", ""),
    ] {
        let reply = raw(&server, &format!("/api/encrypt?{query}"), OCTETS, b"hello");
        match code {
            "" => assert_eq!(reply.status, 200, "{query}: {}", String::from_utf8_lossy(&reply.body)),
            code => reply.assert_problem(400, code),
        }
    }
    raw(&server, "/api/decrypt?key=orders&key_version=1", OCTETS, b"x")
        .assert_problem(400, "unknown_parameter");
}

#[test]
fn associated_data_and_version_come_in_the_query() {
    let Some(server) = with_orders() else { return };
    post(&server, "/api/keys/orders/rotate", "{}");
    let target = "/api/encrypt?key=orders&associated_data=_-8&key_version=1";
    let sealed = raw(&server, target, OCTETS, b"hello");
    assert_eq!((sealed.status, sealed.field("X-Key-Version")), (200, Some("1")));
    let latest = raw(&server, "/api/encrypt?key=orders", OCTETS, b"hello");
    assert_eq!(latest.field("X-Key-Version"), Some("2"));
    assert!(latest.body.starts_with(b"QN\x01\0\0\0\x02"));
    let right = raw(&server, "/api/decrypt?key=orders&associated_data=_-8", OCTETS, &sealed.body);
    assert_eq!((right.status, right.body.as_slice()), (200, b"hello".as_slice()));
    assert_eq!(right.field("X-Key-Version"), Some("1"));
    for query in ["", "&associated_data=", "&associated_data=_-0"] {
        raw(&server, &format!("/api/decrypt?key=orders{query}"), OCTETS, &sealed.body)
            .assert_problem(400, "decryption_failed");
    }
    let line = format!("quantonium:v1:{}", base64_simd::STANDARD.encode_to_string(&sealed.body[7..]));
    let body = json!({ "key": "orders", "ciphertext": line, "associated_data": "/+8=" }).to_string();
    assert_eq!(
        post(&server, "/api/decrypt", &body).member("plaintext"),
        "aGVsbG8=",
        "the same bytes as JSON"
    );
}

#[test]
fn the_prefix_of_vault_is_read() {
    let Some(server) = with_orders() else { return };
    let line = must_encrypt(&server, r#""plaintext":"aGVsbG8=""#).replace("quantonium:", "vault:");
    assert_eq!(opened(&server, line.as_bytes()), b"hello");
    let json = post(&server, "/api/decrypt", &json!({ "key": "orders", "ciphertext": line }).to_string());
    assert_eq!(json.member("plaintext"), "aGVsbG8=");
}

#[test]
fn a_chunked_body_is_the_same_body() {
    let Some(server) = with_orders() else { return };
    let head = |target: &str| {
        let key = server.key();
        format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Type: {OCTETS}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
    };
    let mut client = server.connect();
    client.send(head("/api/encrypt?key=orders").as_bytes());
    client.send(b"3\r\nhel\r\n1;x=y\r\nl\r\n001\r\no\r\n0\r\nTrailer: z\r\n\r\n");
    let sealed = client.reply();
    assert_eq!((sealed.status, sealed.body.len()), (200, 7 + 24 + 5 + 16));
    assert_eq!(opened(&server, &sealed.body), b"hello");
    // One byte more than the longest plaintext, which only the whole body shows.
    client.send(head("/api/encrypt?key=orders").as_bytes());
    client.send(b"100001\r\n");
    client.send(&vec![b'x'; 0x10_0001]);
    client.send(b"\r\n0\r\n\r\n");
    client.reply().assert_problem(413, "plaintext_too_large");
    client.send(head("/api/encrypt?key=orders").as_bytes());
    client.send(b"100000\r\n");
    client.send(&vec![b'x'; 0x10_0000]);
    client.send(b"\r\n0\r\n\r\n");
    let longest = client.reply();
    assert_eq!((longest.status, longest.body.len()), (200, 7 + 24 + 0x10_0000 + 16));
    assert!(opened(&server, &longest.body).iter().all(|byte| *byte == b'x'));
}
