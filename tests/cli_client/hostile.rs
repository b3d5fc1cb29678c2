//! Servers that are none, or mean ill: an exit code and one line, no file, and never a panic.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

use crate::caller::Caller;

/// Answers one connection with these bytes once the head of a request has come, and ends it; returns where.
fn answering(reply: Vec<u8>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.extend(byte);
        }
        // Who has heard enough hangs up.
        let _ = stream.write_all(&reply);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    (url, served)
}

#[test]
fn no_answer_brings_a_command_down_or_leaves_a_file() {
    let Some(caller) = Caller::new() else { return };
    let ok = "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n";
    let chunked = format!("{ok}Transfer-Encoding: chunked\r\n");
    let problem = |status: &str, body: &str| {
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/problem+json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let long = "x".repeat(1 << 20);
    let cases: Vec<(String, &[i32])> = vec![
        (String::new(), &[69, 76]),
        ("SSH-2.0-OpenSSH_9.2\r\n".to_owned(), &[69, 76]),
        (format!("{ok}X: {long}\r\n\r\n"), &[76]),
        (long.clone(), &[76]),
        (format!("{ok}Content-Length: 18446744073709551616\r\n\r\n"), &[76]),
        (format!("{ok}Content-Length: 99\r\n\r\nshort"), &[69, 76]),
        (format!("{chunked}\r\nffffffffffffffff\r\nx"), &[69, 76]),
        (format!("{chunked}\r\n5\r\nhello"), &[69, 76]),
        (format!("{chunked}\r\nhello"), &[76]),
        (format!("{chunked}\r\n5\r\nhello\r\n0\r\n\r\nand more"), &[76]),
        (format!("{ok}Transfer-Encoding: gzip\r\n\r\n"), &[76]),
        (format!("{ok}Transfer-Encoding: chunked\r\nX-Key-Version: -1\r\n\r\n\r\n"), &[76]),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n".to_owned(), &[76]),
        ("HTTP/1.1 100 Continue\r\n\r\n".repeat(1000), &[69, 76]),
        (problem("500 Internal Server Error", "<html>"), &[76]),
        (problem("403 Forbidden", "{}"), &[76]),
        (problem("403 Forbidden", r#"{"title":"a\u001b[2J","detail":"b\n\u0007c","code":"d"}"#), &[77]),
        (problem("429 Too Many Requests", r#"{"title":"t","detail":"d","code":"rate_limited"}"#), &[75]),
        (problem("503 Service Unavailable", r#"{"title":"t","detail":"d","code":"x"}"#), &[75]),
        (problem("503 Service Unavailable", r#"{"title":"t","detail":"d","code":"store_ambiguous"}"#), &[1]),
    ];
    let before = caller.listed();
    for (reply, codes) in cases {
        for words in [
            &["encrypt", "--key", "orders", "--form", "stream", "--out", "out"][..],
            &["decrypt", "--key", "orders", "--json", "--out", "out"],
        ] {
            let (url, served) = answering(reply.clone().into_bytes());
            let mut command = caller.command(words);
            command.env("QUANTONIUM_URL", &url);
            let ran = crate::caller::Ran::with(command, &[b'q'; 100_000]);
            served.join().unwrap();
            let shown: String = reply.chars().take(200).collect();
            let said = ran.err();
            assert!(
                codes.iter().any(|code| ran.code() == Some(*code)),
                "{words:?} {shown:?}: {:?} {said}",
                ran.code()
            );
            assert_eq!(said.lines().count(), 1, "{said}");
            assert!(!said.contains(['\u{1b}', '\u{7}']), "{said:?}");
            assert_eq!(caller.listed(), before, "{shown:?}");
        }
    }
}

#[test]
fn a_reply_that_ends_before_the_input_is_no_reply() {
    let Some(caller) = Caller::new() else { return };
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    let early = [head.as_bytes(), b"5\r\nQNS\x01o\r\n0\r\n\r\n"].concat();
    let (url, served) = answering(early);
    let mut command = caller.command(&["encrypt", "--key", "orders", "--form", "stream", "--out", "out"]);
    // An input that goes on for as long as the command runs.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut child = command.env("QUANTONIUM_URL", &url).stdin(reader).spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(76));
    drop((command, writer));
    served.join().unwrap();
    assert_eq!(caller.listed(), ["admin.key"]);
}

/// Runs `words` against a server that answers with `reply`.
fn told(caller: &Caller, words: &str, reply: String) -> crate::caller::Ran {
    let (url, served) = answering(reply.into_bytes());
    let mut command = caller.command(&words.split(' ').collect::<Vec<_>>());
    command.env("QUANTONIUM_URL", &url);
    let ran = crate::caller::Ran::with(command, b"quantonium:v1:AAAA");
    served.join().unwrap();
    ran
}

fn reply(status: &str, kind: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn no_page_of_somebody_else_is_taken_for_a_result() {
    let Some(caller) = Caller::new() else { return };
    let page = "<html>Give your name and room</html>";
    let sealed = "quantonium:v1:AAAABBBBCCCC";
    let replies = [
        reply("200 OK", "text/html", page),
        reply("200 OK", "text/html", sealed),
        reply("200 OK", "text/plain", page),
        reply("200 OK", "text/plain", ""),
        reply("200 OK", "text/plain", "quantonium:v1:AA\u{1b}[2J"),
        reply("200 OK", "application/json", page),
        // Whether that is all nobody knows.
        format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n{sealed}"),
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\r\npart".to_owned(),
        reply("200 OK", "text/plain", sealed).replace("Length: ", "Length: +"),
        reply("200 OK", "text/plain", sealed).replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\n"),
    ];
    let before = caller.listed();
    for words in [
        "encrypt --key orders",
        "encrypt --key orders --form binary",
        "encrypt --key orders --form stream --out out",
        "encrypt --key orders --json",
        "decrypt --key orders --out out",
        "rewrap --key orders --out out",
        "sign --key orders",
        "verify --key orders --signature quantonium:v1:AAAA",
        "hash",
        "random 5",
        "random --json 5",
        "datakey --key orders",
        "datakey --key orders --plaintext-out bare",
        "key show orders --json",
        "key export orders --out out",
        "token --scope hash",
    ] {
        for reply in &replies {
            let ran = told(&caller, words, reply.clone());
            assert_eq!((ran.code(), ran.out()), (Some(76), ""), "{words} {reply:?}: {}", ran.err());
            assert_eq!(caller.listed(), before, "{words} {reply:?}");
        }
    }
    let taken = told(&caller, "encrypt --key orders", reply("200 OK", "text/plain; charset=utf-8", sealed));
    assert_eq!(taken.must_be(0).out(), format!("{sealed}\n"));
}

#[test]
fn what_a_server_says_steers_no_terminal_and_fills_none() {
    let Some(caller) = Caller::new() else { return };
    let steering = "{\"name\":\"a\u{9b}2J\u{202e}b\"}";
    let ran = told(&caller, "key show orders --json", reply("200 OK", "application/json", steering));
    assert!(ran.must_be(0).out().is_ascii(), "{:?}", ran.out());
    assert_eq!(ran.json(), serde_json::from_str::<serde_json::Value>(steering).unwrap());
    let ran = told(&caller, "key show orders", reply("200 OK", "application/json", steering));
    assert!(ran.must_be(0).out().is_ascii(), "{:?}", ran.out());
    let long = format!(r#"{{"title":"t","detail":"{}","code":"c"}}"#, "x".repeat(100_000));
    let ran = told(&caller, "key show orders", reply("403 Forbidden", "application/problem+json", &long));
    assert!(ran.must_be(77).err().len() < 2_000);
}
