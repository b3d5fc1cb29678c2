//! Reads the corpus of requests, `tests/corpus/requests.txt`; the file itself describes its format.
//!
//! Included with `#[path]` by the tests that use it: against the parser, and against the running server.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says where"
)]

/// One request of the corpus.
#[derive(Debug)]
pub(crate) struct Case {
    /// What is wrong (or right) with it.
    pub(crate) name: String,
    /// The status of the refusal; nothing if the request is well formed.
    pub(crate) status: Option<u16>,
    /// The bytes as they are sent.
    pub(crate) bytes: Vec<u8>,
}

/// Every case of the corpus.
///
/// # Panics
/// A line of the file is malformed.
pub(crate) fn cases() -> Vec<Case> {
    let text = include_str!("../corpus/requests.txt");
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(parse_line).collect()
}

fn parse_line(line: &str) -> Case {
    let mut parts = line.splitn(3, " | ");
    let mut part = || parts.next().unwrap_or_else(|| panic!("too few parts: {line}"));
    let (name, status, text) = (part().trim(), part().trim(), part());
    let status = (status != "ok").then(|| status.parse().unwrap_or_else(|_| panic!("no status in {line}")));
    Case { name: name.to_owned(), status, bytes: unescape(text) }
}

/// Resolves the escapes.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        if letter != '\\' {
            let (plain, tail) = rest.split_at(letter.len_utf8());
            bytes.extend_from_slice(plain.as_bytes());
            rest = tail;
            continue;
        }
        let kind = rest.as_bytes().get(1).unwrap_or_else(|| panic!("escape without letter in {text}"));
        match kind {
            b'r' => bytes.push(b'\r'),
            b'n' => bytes.push(b'\n'),
            b't' => bytes.push(b'\t'),
            b'\\' => bytes.push(b'\\'),
            b'x' => {
                bytes.push(u8::from_str_radix(&rest[2..4], 16).expect("two hexadecimal digits"));
                rest = &rest[2..];
            }
            b'(' => {
                let (count, tail) = rest[2..].split_once('*').expect("a count and an asterisk");
                let (repeated, tail) = tail.split_once("\\)").expect("the end of the repetition");
                let count = count.parse().expect("a count");
                bytes.extend(unescape(repeated).repeat(count));
                rest = tail;
                continue;
            }
            _ => panic!("unknown escape in {text}"),
        }
        rest = &rest[2..];
    }
    bytes
}
