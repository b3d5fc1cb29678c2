//! The parsers against the corpus of requests: each gets the status that stands beside it, however it is split.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and says where"
)]

#[path = "support/corpus.rs"]
mod corpus;

use std::collections::HashSet;

use quantonium::http::chunked::ChunkedDecoder;
use quantonium::http::framing::Framing;
use quantonium::http::head::Head;
use quantonium::http::scan::HeadScan;
use quantonium::http::target::Method;

/// The status of the refusal, if the request is refused; `None` inside means that it waits for more.
fn judge(bytes: &[u8], step: usize) -> Option<Option<u16>> {
    let mut scan = HeadScan::default();
    let mut there = 0;
    let head = loop {
        there = (there + step).min(bytes.len());
        match Head::parse_with(&mut scan, &bytes[..there]) {
            Ok(Some(head)) => break head,
            Ok(None) if there == bytes.len() => return None,
            Ok(None) => {}
            Err(refusal) => return Some(Some(refusal.status().code())),
        }
    };
    if head.method == Method::Other {
        return Some(Some(501));
    }
    let body = &bytes[head.len..];
    match head.framing {
        Framing::Empty => assert!(body.is_empty(), "a corpus case has no second request"),
        Framing::Length(len) => assert_eq!(body.len() as u64, len),
        Framing::Chunked => {
            let mut decoder = ChunkedDecoder::default();
            let mut used = 0;
            for piece in body.chunks(step) {
                match decoder.decode(&mut piece.to_vec()) {
                    Ok(progress) => used += progress.consumed,
                    Err(refusal) => return Some(Some(refusal.status().code())),
                }
            }
            if !decoder.is_done() {
                return None;
            }
            assert_eq!(used, body.len());
        }
    }
    Some(None)
}

#[test]
fn every_request_of_the_corpus_gets_its_status_however_it_is_split() {
    for case in corpus::cases() {
        for step in [usize::MAX / 2, 1, 2, 3, 7, 64] {
            let status = judge(&case.bytes, step.min(case.bytes.len()));
            assert_eq!(status, Some(case.status), "{} in steps of {step}", case.name);
        }
    }
}

#[test]
fn the_corpus_is_large_and_its_names_are_unique() {
    let cases = corpus::cases();
    assert!(cases.len() >= 80, "{}", cases.len());
    let names: HashSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len());
    println!(
        "{} requests, {} of them malformed",
        cases.len(),
        cases.iter().filter(|c| c.status.is_some()).count()
    );
}
