//! Heads, targets, chunked bodies, and the fields in which proxies name their clients.
//!
//! Owns the targets of what comes before any credential was seen.

use std::net::{IpAddr, Ipv4Addr};

use quantonium::api::route::{self, Found};
use quantonium::http::chunked::{ChunkFrame, ChunkedDecoder};
use quantonium::http::forwarded::{Field, Forwarding};
use quantonium::http::framing::Framing;
use quantonium::http::head::Head;
use quantonium::http::media::{ContentType, ReplyForm, negotiate};
use quantonium::http::peer::{Peer, Way};
use quantonium::http::query::Query;
use quantonium::http::refusal::Refusal;
use quantonium::http::scan::HeadScan;
use quantonium::http::target::{Method, RequestLine, Version, is_authority};
use quantonium::limits::{
    FORWARDED_HOPS_MAX_COUNT, HEAD_FIELDS_MAX_COUNT, HEAD_MAX_BYTES, METHOD_MAX_BYTES, TARGET_MAX_BYTES,
};
use quantonium::network::Network;

use super::{model, split_choice};

/// A head: the same however it is split, and read as a plain reader reads it.
pub(super) fn head(data: &[u8]) {
    let whole = Head::parse(data);
    let step = 1 + data.len() % 7;
    let mut scan = HeadScan::default();
    let mut there = 0;
    let split = loop {
        there = (there + step).min(data.len());
        match Head::parse_with(&mut scan, &data[..there]) {
            Ok(None) if there < data.len() => {}
            other => break other,
        }
    };
    assert_eq!(format!("{whole:?}"), format!("{split:?}"), "in steps of {step}");
    let Ok(Some(head)) = whole else { return };
    assert!(head.len <= data.len().min(HEAD_MAX_BYTES));
    let alone = &data[..head.len];
    assert_eq!(format!("{:?}", Head::parse(alone)), format!("{whole:?}"), "what follows does not matter");
    assert!(matches!(Head::parse(&alone[..head.len - 1]), Ok(None)), "it is not whole before its end");
    agree(&head, alone);
    let _ = ContentType::parse(head.content_type(data));
    let _ = negotiate(head.accept(data), &[ReplyForm::Text, ReplyForm::Json]);
}

/// Holds an accepted head against its lines.
fn agree(head: &Head, bytes: &[u8]) {
    let mut rest = bytes;
    let mut line = model::take_line(&mut rest).unwrap();
    while line.is_empty() {
        line = model::take_line(&mut rest).unwrap();
    }
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    assert_eq!(parts.len(), 3, "{}", line.escape_ascii());
    assert_eq!(head.method, Method::from_name(parts[0]));
    assert_eq!(parts[2], if head.version == Version::Http11 { &b"HTTP/1.1"[..] } else { b"HTTP/1.0" });
    let mut fields = Vec::new();
    loop {
        let line = model::take_line(&mut rest).unwrap();
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap();
        fields.push((line[..colon].to_ascii_lowercase(), line[colon + 1..].trim_ascii()));
        assert!(!line[..colon].iter().any(u8::is_ascii_whitespace), "white space in a name");
    }
    assert!(rest.is_empty() && fields.len() <= HEAD_FIELDS_MAX_COUNT);
    let values = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|(known, _)| known == name.as_bytes()).map(|(_, value)| *value).collect()
    };
    let (lengths, codings, hosts) = (values("content-length"), values("transfer-encoding"), values("host"));
    let framing = match (&lengths[..], &codings[..]) {
        ([], []) => Framing::Empty,
        ([length], []) => Framing::Length(str::from_utf8(length).unwrap().parse().unwrap()),
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        ambiguous => panic!("taken: {ambiguous:?}"),
    };
    assert_eq!(head.framing, framing);
    assert!(hosts.len() <= 1 && (hosts.len() == 1 || head.version == Version::Http10));
    for (name, read) in [
        ("authorization", head.authorization(bytes)),
        ("x-api-key", head.api_key(bytes)),
        ("content-type", head.content_type(bytes)),
        ("origin", head.origin(bytes)),
    ] {
        assert_eq!(values(name), read.into_iter().collect::<Vec<_>>(), "{name}");
    }
    let mut vias = values("via");
    vias.reverse();
    assert_eq!(head.values_from_last(bytes, "via").collect::<Vec<_>>(), vias);
}

/// A request line, an authority, a query, a path.
pub(super) fn target(data: &[u8]) {
    let (choice, text) = split_choice(data);
    match choice % 3 {
        0 => request_line(text),
        1 => authority(text),
        _ => query(text),
    }
}

fn authority(text: &[u8]) {
    if is_authority(text) {
        assert!(!text.is_empty() && !text.iter().any(|byte| b"/?#@ ".contains(byte) || *byte >= 0x7f));
        assert!(text.iter().filter(|byte| **byte == b':').count() <= 1 || text[0] == b'[');
    }
}

fn request_line(line: &[u8]) {
    let Ok(read) = RequestLine::parse(line, line) else { return };
    let method = line.split(|byte| *byte == b' ').next().unwrap();
    let target = &line[method.len() + 1..line.len() - b" HTTP/1.1".len()];
    assert!(method.len() <= METHOD_MAX_BYTES && target.len() <= TARGET_MAX_BYTES);
    assert!(target.iter().all(u8::is_ascii_graphic) && !target.contains(&b'#'), "{}", target.escape_ascii());
    let (path, query) = (read.path.of_bytes(line), read.query.map(|query| query.of_bytes(line)));
    let mut built = Vec::new();
    if let Some(authority) = read.authority {
        assert!(is_authority(authority.of_bytes(line)));
        let scheme = target.windows(3).position(|window| window == b"://").unwrap();
        built.extend_from_slice(&target[..scheme + 3]);
        built.extend_from_slice(authority.of_bytes(line));
    }
    built.extend_from_slice(path);
    if let Some(query) = query {
        built.push(b'?');
        built.extend_from_slice(query);
        assert!(Query::parse(query).is_ok(), "a target's query is well encoded");
    }
    assert_eq!(built, target, "the parts are the whole");
    match route::find(read.method, path) {
        Found::Route(row, param) => {
            assert!(param.is_none_or(|param| path.ends_with(param.as_bytes()) || row.pattern.contains('{')));
            assert!(!route::allowed(path).is_empty());
        }
        Found::OtherMethods(methods) => assert_eq!(methods, route::allowed(path)),
        Found::Nothing => assert!(route::allowed(path).is_empty()),
    }
}

fn query(text: &[u8]) {
    let whole = model::form_decoded(text);
    let query = Query::parse(text);
    assert_eq!(query.is_ok(), whole.is_some());
    let Ok(query) = query else { return };
    let pairs = text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    let expected: Vec<(Vec<u8>, Vec<u8>)> = pairs
        .map(|pair| {
            let equals = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let value = pair.get(equals + 1..).unwrap_or_default();
            (model::form_decoded(&pair[..equals]).unwrap(), model::form_decoded(value).unwrap())
        })
        .collect();
    let read: Vec<_> = query.pairs().collect();
    assert_eq!(read.len(), expected.len());
    for ((name, value), (wanted_name, wanted)) in read.iter().zip(&expected) {
        assert!(name.is(wanted_name) && *value.to_cow() == **wanted);
        let mut room = vec![0; wanted.len()];
        assert_eq!(value.decode(&mut room), Some(wanted.len()));
        assert_eq!(&room, wanted);
        if let Some((_, short)) = room.split_first_mut() {
            assert_eq!(value.decode(short), None, "nothing is cut off");
        }
        let Ok(name) = str::from_utf8(wanted_name) else { continue };
        let times = expected.iter().filter(|(other, _)| other == wanted_name).count();
        assert_eq!(query.find_unique(name).is_ok(), times == 1);
    }
}

/// A chunked body: the same however it is split, read as a plain reader reads it, and nothing beyond its end.
pub(super) fn chunked(data: &[u8]) {
    let (choice, raw) = split_choice(data);
    let whole = decode(raw, usize::MAX);
    for step in [1, 1 + usize::from(choice)] {
        assert_eq!(decode(raw, step), whole, "in steps of {step}");
    }
    if let Ok((body, consumed, done)) = &whole {
        assert!(body.len() <= *consumed && *consumed <= raw.len());
        assert!(*done || *consumed == raw.len());
        if *done {
            assert_eq!(model::chunked(raw), Some((body.clone(), *consumed)));
            let longer = [&raw[..*consumed], &data[..data.len().min(9)]].concat();
            assert_eq!(decode(&longer, usize::MAX), whole, "what follows does not matter");
        }
    }
    written(raw, 1 + usize::from(choice));
}

type Decoded = Result<(Vec<u8>, usize, bool), Refusal>;

fn decode(raw: &[u8], step: usize) -> Decoded {
    let mut decoder = ChunkedDecoder::default();
    let (mut body, mut consumed) = (Vec::new(), 0);
    for piece in raw.chunks(step.min(raw.len().max(1))) {
        let mut room = piece.to_vec();
        let progress = decoder.decode(&mut room)?;
        assert_eq!(progress.done, decoder.is_done());
        assert!(progress.done || progress.consumed == piece.len());
        assert_eq!(room[progress.consumed..], piece[progress.consumed..], "what is left is untouched");
        body.extend_from_slice(&room[..progress.produced]);
        consumed += progress.consumed;
        if progress.done {
            break;
        }
    }
    Ok((body, consumed, decoder.is_done()))
}

/// What is sent in chunks reads back.
fn written(body: &[u8], size: usize) {
    let mut raw = Vec::new();
    let mut pieces = body.chunks(size).peekable();
    while let Some(piece) = pieces.next() {
        let frame = ChunkFrame::new(piece.len(), pieces.peek().is_none());
        raw.extend_from_slice(frame.before());
        raw.extend_from_slice(piece);
        raw.extend_from_slice(frame.after());
    }
    if !body.is_empty() {
        assert_eq!(decode(&raw, usize::MAX), Ok((body.to_vec(), raw.len(), true)));
    }
}

/// Who the client is, by what trusted proxies wrote behind what anybody wrote.
pub(super) fn forwarded(data: &[u8]) {
    let (choice, text) = split_choice(data);
    let field = if choice & 1 == 0 { Field::XForwardedFor } else { Field::Forwarded };
    let peer = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    let trusted = ["10.0.0.0/8", "2001:db8::/32"].map(|text| Network::parse(text).unwrap());
    let forwarding = Forwarding::new(trusted.to_vec(), false, field);
    let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').collect();
    let Some(client) = client_of(&forwarding, peer, field, &lines) else { return };
    let stranger = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!(client_of(&forwarding, stranger, field, &lines), Some(stranger), "nobody believes a stranger");
    if field == Field::XForwardedFor {
        let trusts = |address: IpAddr| forwarding.trusts(address);
        let expected = model::forwarded_client(peer, &lines, FORWARDED_HOPS_MAX_COUNT, &trusts);
        assert_eq!(client, expected);
    }
    if forwarding.trusts(client) {
        return;
    }
    // What a client writes in front of what its proxy adds changes nothing.
    for front in [&b"203.0.113.9"[..], b"for=203.0.113.9", b"for=\"", b"\"", b"for=\"a\\", b",;="] {
        let first = [front, b",", lines[0]].concat();
        let faked: Vec<&[u8]> = core::iter::once(&first[..]).chain(lines[1..].iter().copied()).collect();
        assert_eq!(client_of(&forwarding, peer, field, &faked), Some(client), "{}", front.escape_ascii());
    }
}

/// The client of a request with these lines of the field; nothing if they can stand in no head.
fn client_of(forwarding: &Forwarding, peer: IpAddr, field: Field, lines: &[&[u8]]) -> Option<IpAddr> {
    let name = Field::NAMES[usize::from(field == Field::Forwarded)];
    let mut head = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
    for line in lines {
        if line.contains(&b'\r') {
            return None;
        }
        head.extend_from_slice(&[name.as_bytes(), b": ", line, b"\r\n"].concat());
    }
    head.extend_from_slice(b"\r\n");
    let read = Head::parse(&head).ok()??;
    Some(forwarding.client(&Peer::new(Some(peer), Way::Plain), &read, &head))
}
