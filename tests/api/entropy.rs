//! Random bytes.

use std::collections::BTreeSet;

use crate::server::client::Request;
use crate::{post, raw, with_orders};

const OCTETS: &str = "application/octet-stream";
const MOST: usize = 1024 * 1024;

/// What base64 stands for; nothing if it is none.
fn decoded(text: &str) -> Vec<u8> {
    base64_simd::STANDARD.decode_to_vec(text).unwrap_or_default()
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[test]
fn as_many_bytes_come_as_were_asked_for() {
    let Some(server) = with_orders() else { return };
    for bytes in [1, 2, 3, 32, 3_071, 3_072, 3_073, 100_000, MOST] {
        let body = format!(r#"{{"bytes":{bytes}}}"#);
        let json = post(&server, "/api/entropy/sample", &body);
        assert_eq!(decoded(&json.member("entropy")).len(), bytes, "{bytes}");
        let octets = raw(&server, &format!("/api/entropy/sample?bytes={bytes}"), "", b"");
        assert_eq!((octets.field("Content-Type"), octets.body.len()), (Some(OCTETS), bytes));
        let accepted = server.ask(Request::post("/api/entropy/sample", body).with("Accept", OCTETS));
        assert_eq!(accepted.body.len(), bytes);
    }
    let hex = post(&server, "/api/entropy/sample", r#"{"bytes":1000000,"format":"hex"}"#).member("entropy");
    assert!(hex.len() == 2_000_000 && is_hex(&hex));
    let request = Request::post("/api/entropy/sample?bytes=33", "");
    let text = server.ask(request.clone().with("Accept", "text/plain"));
    assert!(text.body.len() == 67 && text.text().strip_suffix('\n').is_some_and(is_hex), "{}", text.text());
    let json = server.ask(request.with("Accept", "application/json"));
    assert_eq!(decoded(&json.member("entropy")).len(), 33);
}

#[test]
fn bytes_look_random_and_never_repeat() {
    let Some(server) = with_orders() else { return };
    let mut blocks = BTreeSet::new();
    let mut ones = 0;
    for target in ["/api/entropy/sample?bytes=100000", "/api/entropy/sample?bytes=64"] {
        for _ in 0..5 {
            let body = raw(&server, target, "", b"").body;
            ones += body.iter().map(|byte| byte.count_ones()).sum::<u32>();
            for block in body.chunks_exact(16) {
                assert!(blocks.insert(block.to_vec()), "the same 16 bytes twice");
            }
        }
    }
    // 4,002,560 bits: half of them, within more than ten standard deviations.
    assert!((1_990_000..2_012_560).contains(&ones), "{ones}");
}

#[test]
fn other_numbers_are_refused() {
    let Some(server) = with_orders() else { return };
    for (bytes, code) in [
        ("0", "bytes_out_of_range"),
        ("1048577", "bytes_out_of_range"),
        ("4294967295", "bytes_out_of_range"),
        ("-1", "malformed_json"),
        ("\"32\"", "malformed_json"),
        ("1.5", "malformed_json"),
    ] {
        post(&server, "/api/entropy/sample", &format!(r#"{{"bytes":{bytes}}}"#)).assert_problem(400, code);
    }
    for bytes in ["", "0", "032", "-1", "x", "1048577", "99999999999"] {
        let target = format!("/api/entropy/sample?bytes={bytes}");
        raw(&server, &target, "", b"").assert_problem(400, "bytes_out_of_range");
    }
    post(&server, "/api/entropy/sample", r#"{"bytes":1048576,"format":"hex"}"#)
        .assert_problem(413, "reply_too_large");
    post(&server, "/api/entropy/sample", "{}").assert_problem(400, "malformed_json");
    raw(&server, "/api/entropy/sample?bytes=1&format=hex", "", b"").assert_problem(400, "unknown_parameter");
    raw(&server, "/api/entropy/sample?bytes=1", "", b"x").assert_problem(400, "unexpected_body");
    let none = Request::post("/api/entropy/sample?bytes=1", "").with("Accept", "image/png");
    server.ask(none).assert_problem(406, "not_acceptable");
}
