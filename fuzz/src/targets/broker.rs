//! What etcd answers, and what passes between the keeper and the process that speaks to etcd.
//!
//! Owns the targets of these readers: replies over HTTP, their JSON, and frames.

use std::io::ErrorKind;

use quantonium::broker::message;
use quantonium::broker::reply::{Broken, Incoming, Reply};
use quantonium::broker::wire::{Answer, Request, receive, send};
use quantonium::encoding::base64_decode_to_vec;
use quantonium::limits::{BROKER_FRAME_MAX_BYTES, ETCD_LIST_MAX_COUNT, ETCD_TOKEN_MAX_BYTES};
use quantonium::store::etcd::link::{Pair, Swapped};
use serde_json::Value;

use super::split_choice;

/// Replies as they come over a connection: whole, and lines of one that does not end.
pub(super) fn exchange(data: &[u8]) {
    let (choice, bytes) = split_choice(data);
    let piece = 1 + usize::from(choice >> 1);
    if choice % 2 == 0 {
        let (replies, ended) = read_replies(bytes, bytes.len().max(1));
        assert_eq!(read_replies(bytes, piece), (replies.clone(), ended), "in pieces of {piece}");
        assert!(replies.iter().map(|reply| reply.body.len()).sum::<usize>() <= bytes.len());
        for reply in replies {
            let Reply { status, body } = &reply;
            let mut again =
                format!("HTTP/1.1 {status:03} X\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
            again.extend_from_slice(body);
            assert_eq!(read_replies(&again, piece).0, core::slice::from_ref(&reply));
            let mut chunked =
                format!("HTTP/1.1 {status:03} X\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
            for part in body.chunks(piece) {
                chunked.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
                chunked.extend_from_slice(part);
                chunked.extend_from_slice(b"\r\n");
            }
            chunked.extend_from_slice(b"0\r\n\r\n");
            assert_eq!(read_replies(&chunked, 7).0, core::slice::from_ref(&reply));
        }
    } else {
        lines(bytes, piece);
    }
}

/// The replies in `bytes`, which come in pieces, and how they end.
fn read_replies(bytes: &[u8], piece: usize) -> (Vec<Reply>, Option<Broken>) {
    let mut incoming = Incoming::default();
    let mut replies = Vec::new();
    let mut pieces = bytes.chunks(piece);
    loop {
        match incoming.reply() {
            Ok(Some(reply)) => replies.push(reply),
            Ok(None) => match pieces.next() {
                Some(piece) => incoming.feed(piece),
                // What ends with the connection ends once.
                None if replies.len() > bytes.len() => panic!("replies of nothing"),
                None => incoming.close(),
            },
            Err(broken) => return (replies, Some(broken)),
        }
    }
}

/// Lines of a body in chunks are those of the text, whatever the chunks are.
fn lines(text: &[u8], piece: usize) {
    let mut incoming = Incoming::default();
    let mut found = Vec::new();
    incoming.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(incoming.is_endless(), Ok(Some(true)));
    for part in text.chunks(piece) {
        incoming.feed(format!("{:x}\r\n", part.len()).as_bytes());
        incoming.feed(part);
        incoming.feed(b"\r\n");
        while let Some(line) = incoming.line().unwrap() {
            found.push(line);
        }
    }
    let mut expected: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    // Behind the last line feed stands what is no line yet.
    expected.pop();
    assert_eq!(found, expected);
    incoming.feed(b"0\r\n\r\n");
    assert_eq!(incoming.line(), Err(Broken::Cut));
}

/// What etcd answers in JSON, held against the same text read without a form.
pub(super) fn message(data: &[u8]) {
    let (choice, text) = split_choice(data);
    let value = serde_json::from_slice::<Value>(text).ok();
    let value = value.as_ref();
    match choice % 6 {
        0 => {
            let Some(page) = message::read_range(text) else { return };
            bounded(&page.pairs, text);
            assert!(page.at > 0);
            let Some(value) = value.filter(|value| plain(value)) else { return };
            assert_eq!(page.at, number(&value["header"]["revision"]));
            assert_eq!(page.cluster, number(&value["header"]["cluster_id"]));
            assert_eq!(page.more, value["more"].as_bool().unwrap_or_default());
            assert_eq!(page.pairs, pairs(&value["kvs"]));
        }
        1 => match message::read_txn(text) {
            None => {}
            Some(Swapped::Done { revision, .. }) => {
                assert!(revision > 0, "what is done has a revision");
                if let Some(value) = value.filter(|value| plain(value)) {
                    assert_eq!(value["succeeded"], true);
                }
            }
            Some(Swapped::Lost(page)) => {
                bounded(&page.pairs, text);
                if let Some(value) = value.filter(|value| plain(value)) {
                    assert_ne!(value["succeeded"], true);
                }
            }
            Some(Swapped::Doubtful(_)) => panic!("no reply says so"),
        },
        2 => {
            let Some(watched) = message::read_watch(text) else { return };
            assert!(watched.events.len() <= ETCD_LIST_MAX_COUNT);
            assert!(watched.events.is_empty() || watched.progress == 0);
            let bytes =
                watched.events.iter().map(|event| event.key.len() + event.value.as_ref().map_or(0, Vec::len));
            assert!(bytes.sum::<usize>() <= text.len());
            let Some(value) = value.filter(|value| plain(value)) else { return };
            if !watched.ended {
                assert!(value["error"].is_null());
                let events = value["result"]["events"].as_array().map_or(0, Vec::len);
                assert_eq!(watched.events.len(), events);
            }
        }
        3 => drop(message::read_lease(text)),
        4 => {
            let Some(token) = message::read_token(text) else { return };
            assert!((1..=ETCD_TOKEN_MAX_BYTES).contains(&token.len()));
            assert!(token.bytes().all(|byte| byte.is_ascii_graphic()), "it stands in a field");
        }
        _ => {
            let refusal = message::read_refusal(text);
            assert!(refusal.message.len() <= text.len());
        }
    }
}

fn bounded(pairs: &[Pair], text: &[u8]) {
    assert!(pairs.len() <= ETCD_LIST_MAX_COUNT);
    assert!(pairs.iter().map(|pair| pair.key.len() + pair.value.len()).sum::<usize>() <= text.len());
}

/// Whether it holds objects where the form has some: a list of their members in order is read as one, too.
fn plain(value: &Value) -> bool {
    let object = |value: &Value| value.is_object() || value.is_null();
    let list = |value: &Value, good: &dyn Fn(&Value) -> bool| {
        value.is_null() || value.as_array().is_some_and(|list| list.iter().all(good))
    };
    value.is_object()
        && object(&value["header"])
        && list(&value["kvs"], &Value::is_object)
        && object(&value["result"])
}

fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or_default()
}

fn pairs(list: &Value) -> Vec<Pair> {
    let bytes = |value: &Value| base64_decode_to_vec(value.as_str().unwrap_or_default().as_bytes()).unwrap();
    let pair = |value: &Value| Pair {
        key: bytes(&value["key"]),
        value: bytes(&value["value"]),
        revision: number(&value["mod_revision"]),
    };
    list.as_array().into_iter().flatten().map(pair).collect()
}

/// Frames, and what stands in them: of each there is one spelling.
pub(super) fn wire(data: &[u8]) {
    let (choice, bytes) = split_choice(data);
    match choice % 3 {
        0 => {
            if let Some(request) = Request::decode(bytes) {
                assert_eq!(request.encode().as_slice(), bytes);
            }
        }
        1 => {
            if let Some(answer) = Answer::decode(bytes) {
                assert_eq!(answer.encode().as_slice(), bytes);
                assert_eq!(answer.into_frame().as_slice(), bytes);
            }
        }
        _ => frames(bytes),
    }
}

fn frames(bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        let before = rest;
        match receive(&mut rest) {
            Ok(None) => return assert!(before.is_empty()),
            Ok(Some(frame)) => {
                let mut again = Vec::new();
                send(&mut again, &frame).unwrap();
                assert!(before.starts_with(&again) && before.len() == again.len() + rest.len());
            }
            Err(error) => {
                let length = before.first_chunk().map(|length| u32::from_be_bytes(*length) as usize);
                let is_long = length.is_some_and(|length| length > BROKER_FRAME_MAX_BYTES);
                let expected = if is_long { ErrorKind::InvalidData } else { ErrorKind::UnexpectedEof };
                return assert_eq!(error.kind(), expected);
            }
        }
    }
}
