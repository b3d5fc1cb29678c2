//! Properties of the HTTP parsers: nothing panics, splits do not matter, and what is written reads back.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says where"
)]

use proptest::collection::vec;
use proptest::prelude::*;
use quantonium::http::chunked::ChunkedDecoder;
use quantonium::http::framing::Framing;
use quantonium::http::head::Head;
use quantonium::http::media::{ContentType, ReplyForm, negotiate};
use quantonium::http::query::Query;
use quantonium::http::refusal::Refusal;
use quantonium::http::scan::HeadScan;

/// Bytes that look like HTTP often enough to get past the first checks.
fn http_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => proptest::sample::select(vec![
            "GET ", "POST ", "/", "/a?b=c", " HTTP/1.1\r\n", " HTTP/1.0\r\n", "Host: a\r\n", "Content-Length: ", "5",
            "Transfer-Encoding: ", "chunked", "\r\n", "\r", "\n", " ", "\t", ":", ";", ",", "\"", "=", "%41", "0", "a",
            "Connection: close\r\n", "Expect: 100-continue\r\n", "http://a", "*", "hello", "\0",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..8),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// Splits bytes at the given places.
fn split(bytes: &[u8], cuts: &[prop::sample::Index]) -> Vec<Vec<u8>> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect()
}

/// Decodes pieces that arrive one after another: the body and the raw bytes consumed, or why not.
fn decode(pieces: &[Vec<u8>]) -> Result<(Vec<u8>, usize, bool), Refusal> {
    let mut decoder = ChunkedDecoder::default();
    let (mut body, mut consumed) = (Vec::new(), 0);
    for piece in pieces {
        let mut raw = piece.clone();
        let progress = decoder.decode(&mut raw)?;
        assert!(progress.produced <= progress.consumed && progress.consumed <= raw.len());
        assert!(progress.done || progress.consumed == raw.len(), "what is there is used");
        body.extend_from_slice(&raw[..progress.produced]);
        consumed += progress.consumed;
        if progress.done {
            return Ok((body, consumed, true));
        }
    }
    Ok((body, consumed, false))
}

fn chunked_like() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        proptest::sample::select(vec![
            "0\r\n\r\n",
            "5\r\nhello\r\n",
            "1;a=b\r\nx\r\n",
            "3;c=\"\\\"\"\r\nabc\r\n",
            "0\r\nA: b\r\n\r\n",
            "\r\n",
            "0",
            "f",
            "\r",
            "\n",
            ";",
            " ",
            "A: b\r\n",
            "\"",
            "=",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        vec(any::<u8>(), 0..4),
    ];
    vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2_000) })]

    #[test]
    fn no_bytes_make_a_parser_panic(random in vec(any::<u8>(), 0..512), like in http_like()) {
        for bytes in [&random, &like] {
            if let Ok(Some(head)) = Head::parse(bytes) {
                prop_assert!(head.len <= bytes.len());
                let _ = (head.path(&bytes[..1]), head.host(&[]), head.query(bytes).map(Query::parse));
            }
            let _ = ChunkedDecoder::default().decode(&mut bytes.clone());
            let _ = ContentType::parse(Some(bytes));
            let _ = negotiate(Some(bytes), &[ReplyForm::Text, ReplyForm::Json]);
            if let Ok(query) = Query::parse(bytes) {
                let _ = query.find_unique("a");
                prop_assert!(query.pairs().all(|(name, value)| name.is(&name.to_cow()) && value.is(&value.to_cow())));
            }
        }
    }

    #[test]
    fn a_head_is_judged_the_same_however_it_is_split(bytes in http_like(), cuts in vec(any::<prop::sample::Index>(), 0..8)) {
        let whole = Head::parse(&bytes);
        let mut scan = HeadScan::default();
        let mut there = 0;
        let mut result = Ok(None);
        for piece in split(&bytes, &cuts) {
            there += piece.len();
            result = Head::parse_with(&mut scan, &bytes[..there]);
            if !matches!(result, Ok(None)) {
                break;
            }
        }
        prop_assert_eq!(format!("{whole:?}"), format!("{result:?}"));
    }

    #[test]
    fn a_chunked_body_is_decoded_the_same_however_it_is_split(
        bytes in chunked_like(), cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let whole = decode(std::slice::from_ref(&bytes));
        let single: Vec<Vec<u8>> = bytes.iter().map(|byte| vec![*byte]).collect();
        prop_assert_eq!(&decode(&split(&bytes, &cuts)), &whole);
        prop_assert_eq!(&decode(&single), &whole);
    }

    #[test]
    fn a_body_that_is_chunked_reads_back(
        chunks in vec(vec(any::<u8>(), 1..200), 0..8), rest in vec(any::<u8>(), 0..20),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut raw = Vec::new();
        for chunk in &chunks {
            raw.extend_from_slice(format!("{:X};n=\"v\"\r\n", chunk.len()).as_bytes());
            raw.extend_from_slice(chunk);
            raw.extend_from_slice(b"\r\n");
        }
        raw.extend_from_slice(b"0\r\nTrailer: x\r\n\r\n");
        let end = raw.len();
        raw.extend_from_slice(&rest);
        prop_assert_eq!(decode(&split(&raw, &cuts)), Ok((chunks.concat(), end, true)));
    }

    #[test]
    fn a_head_that_is_built_from_parts_reads_back(
        method in "GET|HEAD|POST|PUT|PATCH|DELETE|OPTIONS",
        path in "(/[a-zA-Z0-9._~!$&'()*+,;=:@-]{0,12}){1,6}",
        query in proptest::option::of("[a-z0-9=&+/?-]{0,40}"),
        host in "[a-z0-9.-]{1,20}(:[1-9][0-9]{0,3})?",
        key in proptest::option::of("[!-~]([ -~]{0,30}[!-~])?"),
        others in vec(("X-[A-Za-z0-9]{1,10}", "[ -~]{0,40}"), 0..20),
        length in proptest::option::of(any::<u64>()),
        next in vec(any::<u8>(), 0..20),
    ) {
        let mut text = format!("{method} {path}");
        if let Some(query) = &query {
            text.push_str(&format!("?{query}"));
        }
        text.push_str(&format!(" HTTP/1.1\r\nHost: {host}\r\n"));
        for (name, value) in others.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("x-api-key")) {
            text.push_str(&format!("{name}:{value}\r\n"));
        }
        if let Some(key) = &key {
            text.push_str(&format!("x-api-key: \t{key} \r\n"));
        }
        if let Some(length) = length {
            text.push_str(&format!("Content-Length: {length}\r\n"));
        }
        text.push_str("\r\n");
        let end = text.len();
        let bytes = [text.as_bytes(), &next].concat();
        let head = Head::parse(&bytes).unwrap().unwrap();
        prop_assert_eq!(head.len, end);
        prop_assert_eq!(head.method.name(), method);
        prop_assert_eq!(head.path(&bytes), path.as_bytes());
        prop_assert_eq!(head.query(&bytes), query.as_deref().map(str::as_bytes));
        prop_assert_eq!(head.host(&bytes), Some(host.as_bytes()));
        prop_assert_eq!(head.api_key(&bytes), key.as_deref().map(str::as_bytes));
        prop_assert_eq!(head.framing, length.map_or(Framing::Empty, Framing::Length));
    }
}
