//! Hashes, as JSON and raw.

use serde_json::json;

use crate::server::client::Request;
use crate::{base64, post, raw, with_orders};

const OCTETS: &str = "application/octet-stream";
/// FIPS 180-4, the message `abc`.
const SUMS: [(&str, &str, &str); 3] = [
    ("sha256", "sha2-256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        "sha384",
        "sha2-384",
        "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
    ),
    (
        "sha512",
        "sha2-512",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd\
         454d4423643ce80e2a9ac94fa54ca49f",
    ),
];

/// What hexadecimal stands for; nothing if it is none.
fn bytes(hex: &str) -> Vec<u8> {
    let mut bytes = hex.as_bytes().to_vec();
    let len = quantonium::encoding::hex_decode_in_place(&mut bytes).unwrap_or(0);
    bytes.truncate(len);
    bytes
}

#[test]
fn published_sums_come_out_in_every_form() {
    let Some(server) = with_orders() else { return };
    for (name, other, sum) in SUMS {
        for algorithm in [name, other] {
            let body = json!({ "input": "YWJj", "algorithm": algorithm }).to_string();
            let reply = post(&server, "/api/hash", &body);
            assert_eq!(reply.json(), json!({ "sum": base64(&bytes(sum)), "algorithm": name }));
            let body = json!({ "input": "616263", "algorithm": algorithm, "format": "hex" }).to_string();
            assert_eq!(post(&server, "/api/hash", &body).json(), json!({ "sum": sum, "algorithm": name }));
            let target = format!("/api/hash?algorithm={algorithm}");
            let octets = raw(&server, &target, OCTETS, b"abc");
            assert_eq!(octets.field("Content-Type"), Some(OCTETS));
            assert_eq!(octets.body, bytes(sum));
            for kind in ["text/plain", "", "application/x-www-form-urlencoded"] {
                assert_eq!(raw(&server, &target, kind, b"abc").text(), format!("{sum}\n"), "{kind}");
            }
            let request = Request::post(&target, "abc").with("Content-Type", OCTETS);
            let json = server.ask(request.clone().with("Accept", "application/json")).json();
            assert_eq!(json, json!({ "sum": base64(&bytes(sum)), "algorithm": name }));
            assert_eq!(server.ask(request.with("Accept", "text/plain")).text(), format!("{sum}\n"));
        }
    }
}

#[test]
fn the_content_type_tells_raw_calls_where_no_parameter_does() {
    let Some(server) = with_orders() else { return };
    let (_, _, sum) = SUMS[0];
    assert_eq!(raw(&server, "/api/hash", OCTETS, b"abc").body, bytes(sum));
    assert_eq!(raw(&server, "/api/hash", "text/plain", b"abc").text(), format!("{sum}\n"));
    let json = br#"{"input":"YWJj"}"#;
    for kind in ["application/json", "", "application/x-www-form-urlencoded"] {
        assert_eq!(raw(&server, "/api/hash", kind, json).member("sum"), base64(&bytes(sum)), "{kind}");
        raw(&server, "/api/hash", kind, b"abc").assert_problem(400, "malformed_json");
    }
}

#[test]
fn wrong_requests_are_refused() {
    let Some(server) = with_orders() else { return };
    for (body, code) in [
        (r#"{"input":"YWJj","algorithm":"md5"}"#, "unknown_algorithm"),
        (r#"{"input":"YWJj","algorithm":"SHA256"}"#, "unknown_algorithm"),
        (r#"{"input":"YWJj","format":"base32"}"#, "unknown_format"),
        (r#"{"input":"YWJ"}"#, "malformed_input"),
        (r#"{"input":"6162g3","format":"hex"}"#, "malformed_input"),
        (r#"{"algorithm":"sha256"}"#, "malformed_json"),
        (r#"{"input":"","key":"orders"}"#, "malformed_json"),
    ] {
        post(&server, "/api/hash", body).assert_problem(400, code);
    }
    raw(&server, "/api/hash?algorithm=md5", OCTETS, b"").assert_problem(400, "unknown_algorithm");
    raw(&server, "/api/hash?algorithm=", OCTETS, b"").assert_problem(400, "unknown_algorithm");
    raw(&server, "/api/hash?key=orders", OCTETS, b"").assert_problem(400, "unknown_parameter");
    raw(&server, "/api/hash?algorithm=sha256", "application/json", b"{}")
        .assert_problem(400, "malformed_parameter");
    raw(&server, "/api/hash", "image/png", b"").assert_problem(415, "unsupported_media_type");
    let coded = Request::post("/api/hash", "x").with("Content-Encoding", "gzip");
    server.ask(coded).assert_problem(415, "unsupported_media_type");
    let none = Request::post("/api/hash", "x").with("Content-Type", OCTETS).with("Accept", "image/png");
    server.ask(none).assert_problem(406, "not_acceptable");
    assert_eq!(raw(&server, "/api/hash", OCTETS, &vec![b'x'; 1024 * 1024]).status, 200);
    raw(&server, "/api/hash", OCTETS, &vec![b'x'; 1024 * 1024 + 1]).assert_problem(413, "input_too_large");
}
