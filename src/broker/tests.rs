//! What is made of servers that are not etcd, or an etcd that is not well.
//!
//! Owns the cases. Invariant: each server answers on a free port of this machine and ends with its test.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};

use super::client::Client;
use super::place::{Access, Endpoint};
use crate::clock::Moment;
use crate::limits::ETCD_REPLY_MAX_BYTES;
use crate::store::etcd::link::{Demand, LinkError, Page, Span, Swap, Swapped};

/// Serves each of `replies` to one request on a connection of its own, and tells what was asked.
fn serve(replies: Vec<Vec<u8>>) -> (SocketAddr, std::thread::JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let served = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            while !is_whole(&request) {
                let read = stream.read(&mut piece).unwrap();
                assert!(read > 0);
                request.extend_from_slice(&piece[..read]);
            }
            asked.push(request);
            // Who has enough of it may go.
            let _ = stream.write_all(&reply);
        }
        asked
    });
    (address, served)
}

fn is_whole(request: &[u8]) -> bool {
    let Some(at) = request.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&request[..at]).to_lowercase();
    let length =
        head.split("content-length: ").nth(1).unwrap().lines().next().unwrap().parse::<usize>().unwrap();
    request.len() >= at + 4 + length
}

fn client(addresses: &[SocketAddr]) -> Client {
    let endpoint = |address: &SocketAddr| Endpoint { host: "localhost".to_owned(), address: *address };
    Client::new(Access::plain(addresses.iter().map(endpoint).collect()))
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn error(status: u16, code: u32, message: &str) -> Vec<u8> {
    let body = format!("{{\"error\":\"{message}\",\"message\":\"{message}\",\"code\":{code}}}");
    let head = format!("HTTP/1.1 {status} No\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n");
    format!("{head}{:x}\r\n{body}\r\n0\r\nX: y\r\n\r\n", body.len()).into_bytes()
}

fn span() -> Span {
    Span { from: b"q/".to_vec(), to: b"q0".to_vec(), at: 0 }
}

fn swap() -> Swap {
    let demands = vec![Demand { key: b"h".to_vec(), is: None }];
    Swap { demands, removals: Vec::new(), puts: vec![(b"h".to_vec(), b"v".to_vec())] }
}

const PAGE: &str = r#"{"header":{"cluster_id":"7","revision":"2"}}"#;
const DONE: &str = r#"{"header":{"cluster_id":"7","revision":"3"},"succeeded":true}"#;

#[test]
fn an_endpoint_that_is_not_there_or_talks_nonsense_gives_way_to_the_next() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for nonsense in
        ["", "SSH-2.0-x\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "\0\0\0\r\n\r\n"]
    {
        let (bad, _one) = serve(vec![nonsense.as_bytes().to_vec()]);
        let (good, served) = serve(vec![ok(PAGE)]);
        let page = client(&[gone, bad, good]).read(&span());
        assert_eq!(page, Ok(Page { cluster: 7, at: 2, ..Page::default() }), "{nonsense:?}");
        let asked = String::from_utf8(served.join().unwrap().remove(0)).unwrap();
        assert!(asked.starts_with("POST /v3/kv/range HTTP/1.1\r\nHost: 127.0.0.1:"), "{asked}");
        assert!(asked.contains("\r\nGrpc-Metadata-hasleader: true\r\n"), "{asked}");
    }
}

#[test]
fn a_transaction_is_sent_again_after_an_answer_that_says_nothing() {
    for nothing in
        [Vec::new(), error(503, 14, "etcdserver: request timed out"), b"HTTP/1.1 200 OK\r\n".to_vec()]
    {
        let (bad, one) = serve(vec![nothing]);
        let (good, other) = serve(vec![ok(DONE)]);
        let swapped = client(&[bad, good]).swap(&swap(), 0);
        assert_eq!(swapped, Ok(Swapped::Done { cluster: 7, revision: 3 }));
        let body = |asked: Vec<Vec<u8>>| {
            asked[0].windows(9).position(|at| at == b"{\"compare").map(|at| asked[0][at..].to_vec())
        };
        let (first, second) = (body(one.join().unwrap()), body(other.join().unwrap()));
        assert!(first.is_some() && first == second, "the very same transaction");
    }
}

#[test]
fn what_may_have_been_applied_is_not_said_to_have_failed() {
    let (bad, _one) = serve(vec![Vec::new()]);
    let (full, _other) = serve(vec![error(500, 8, "etcdserver: mvcc: database space exceeded")]);
    let swapped = client(&[bad, full]).swap(&swap(), 0);
    assert!(matches!(swapped, Err(LinkError::Unknown(_))), "{swapped:?}");
    let (long, _other) = serve(vec![ok(
        r#"{"header":{"revision":"3"},"responses":[{"response_range":{"kvs":[{"key":"aA=="},{"key":"aQ=="}]}}]}"#,
    )]);
    let swapped = client(&[long]).swap(&swap(), 0);
    assert!(matches!(swapped, Err(LinkError::Unknown(_))), "keys that were not asked for: {swapped:?}");
    let (full, _other) = serve(vec![error(500, 8, "etcdserver: mvcc: database space exceeded")]);
    assert_eq!(client(&[full]).swap(&swap(), 0), Err(LinkError::Full));
    let (strange, _other) = serve(vec![ok("{\"succeeded\":true}")]);
    let swapped = client(&[strange]).swap(&swap(), 0);
    assert!(matches!(swapped, Err(LinkError::Unknown(_))), "{swapped:?}");
}

#[test]
fn what_may_have_been_applied_stays_unknown_when_who_asks_is_refused_afterwards() {
    let token = || ok(r#"{"token":"good"}"#);
    let refused = || error(401, 16, "etcdserver: invalid auth token");
    // Sent once, and then the token is not taken any more, however often there is a new one.
    let never_again = vec![refused(), token(), refused(), token(), refused()];
    // The same, and then there is none.
    let locked_out = vec![refused(), error(400, 3, "etcdserver: authentication failed, invalid user ID")];
    for second in [never_again, locked_out] {
        let (bad, _one) = serve(vec![token(), Vec::new()]);
        let (good, _other) = serve(second);
        let endpoint = |address| Endpoint { host: "localhost".to_owned(), address };
        let mut access = Access::plain(vec![endpoint(bad), endpoint(good)]);
        access.user = Some(("me".to_owned(), "secret".to_owned().into()));
        let swapped = Client::new(access).swap(&swap(), 0);
        assert!(matches!(swapped, Err(LinkError::Unknown(_))), "{swapped:?}");
    }
}

#[test]
fn a_page_of_more_keys_than_were_asked_for_or_of_fewer_that_goes_on_is_refused() {
    let page = |count: usize, more: bool| {
        let pairs = vec!["{}"; count].join(",");
        ok(&format!(r#"{{"header":{{"revision":"2"}},"kvs":[{pairs}],"more":{more}}}"#))
    };
    for (count, more, good) in [
        (513, false, false),
        (2_000_000, false, false),
        (0, true, false),
        (511, true, false),
        (512, true, true),
    ] {
        let (address, _served) = serve(vec![page(count, more)]);
        let read = client(&[address]).read(&span());
        assert_eq!(read.is_ok(), good, "{count}, {more}");
    }
}

#[test]
fn pages_grow_again_once_records_are_short() {
    let long =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", ETCD_REPLY_MAX_BYTES + 1).into_bytes();
    let full = |count: usize| {
        let pairs = vec!["{}"; count].join(",");
        ok(&format!(r#"{{"header":{{"revision":"2"}},"kvs":[{pairs}],"more":true}}"#))
    };
    let mut replies = vec![long; 3];
    let counts: Vec<usize> = (0..=9).map(|power| 1 << power).chain([512]).collect();
    replies.extend(counts.iter().map(|count| full(*count)));
    let (address, served) = serve(replies);
    let mut client = client(&[address]);
    for count in &counts {
        assert_eq!(client.read(&span()).unwrap().pairs.len(), *count);
    }
    let asked = served.join().unwrap();
    for (request, count) in asked[3..].iter().zip(&counts) {
        let limit = format!("\"limit\":\"{count}\"");
        assert!(String::from_utf8_lossy(request).contains(&limit), "{limit}");
    }
}

/// Sends `head`, and then a byte now and then, for ever; also to whoever comes again.
fn drip(head: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let _ = stream.write_all(head);
                while stream.write_all(b"1").is_ok() {
                    std::thread::park_timeout(core::time::Duration::from_millis(100));
                }
            });
        }
    });
    address
}

#[test]
fn a_server_that_drips_does_not_hold_a_request_for_ever() {
    for head in [&b"HTTP/1.1 200 OK\r\nContent-Length: 8000000\r\n\r\n"[..], b"HTTP/1.1 200 OK\r\nX: ", b"H"]
    {
        let read = client(&[drip(head)]).read(&span());
        assert!(matches!(read, Err(LinkError::Unknown(_))), "{read:?}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn a_server_that_drips_its_part_of_a_handshake_does_not_hold_a_request_for_ever() {
    // The longest record of a handshake, whose bytes take an hour.
    let address = drip(&[22, 3, 3, 0x40, 0]);
    let authority = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap().cert.pem();
    let credentials =
        super::place::Credentials { authorities: Some(authority.into_bytes()), ..Default::default() };
    let endpoint = Endpoint { host: "localhost".to_owned(), address };
    let read = Client::new(Access::new(vec![endpoint], &credentials).unwrap()).read(&span());
    assert!(matches!(read, Err(LinkError::Away(_))), "{read:?}");
}

#[test]
fn refusals_are_final_and_told_in_plain_text() {
    for (status, code, message, expected) in [
        (400, 11, "etcdserver: mvcc: required revision has been compacted", None),
        (403, 7, "etcdserver: permission denied", Some("permission denied")),
        (400, 3, "etcdserver: request is too large\\u001b[2J", Some("request is too large[2J")),
    ] {
        let (address, _served) = serve(vec![error(status, code, message)]);
        let refused = client(&[address]).read(&span()).unwrap_err();
        match (expected, &refused) {
            (None, LinkError::Compacted) => {}
            (Some(text), LinkError::Refused(why)) => assert!(why.contains(text), "{why:?}"),
            _ => panic!("{refused:?}"),
        }
    }
    let (address, _served) = serve(vec![b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()]);
    let refused = client(&[address]).read(&span()).unwrap_err().to_string();
    assert!(refused.contains("etcd 3.4"), "{refused}");
}

#[test]
fn a_reply_that_is_too_long_is_asked_for_in_smaller_pages() {
    let long =
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", ETCD_REPLY_MAX_BYTES + 1).into_bytes();
    let (address, served) = serve(vec![long.clone(), long, ok(PAGE)]);
    assert!(client(&[address]).read(&span()).is_ok());
    let asked = served.join().unwrap();
    let limits: Vec<bool> = ["\"limit\":\"512\"", "\"limit\":\"64\"", "\"limit\":\"8\""]
        .into_iter()
        .zip(&asked)
        .map(|(limit, request)| String::from_utf8_lossy(request).contains(limit))
        .collect();
    assert_eq!(limits, [true; 3]);
}

#[test]
fn a_server_that_says_nothing_costs_no_more_than_the_time_for_it() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (good, _served) = serve(vec![ok(PAGE)]);
    let begun = Moment::now();
    assert!(client(&[silent.local_addr().unwrap(), good]).read(&span()).is_ok());
    let took = Moment::now().nanos_since(begun);
    assert!(took >= 1_000_000_000, "the silent one was asked");
}

#[test]
fn a_password_makes_a_token_and_an_old_token_another_one() {
    let token = |text: &str| ok(&format!("{{\"token\":\"{text}\"}}"));
    let (address, served) = serve(vec![
        token("first"),
        error(401, 16, "etcdserver: invalid auth token"),
        token("second"),
        ok(PAGE),
    ]);
    let mut access = Access::plain(vec![Endpoint { host: "localhost".to_owned(), address }]);
    access.user = Some(("me".to_owned(), "secret".to_owned().into()));
    assert!(!format!("{access:?}").contains("secret"));
    assert!(Client::new(access).read(&span()).is_ok());
    let asked: Vec<String> =
        served.join().unwrap().into_iter().map(|request| String::from_utf8(request).unwrap()).collect();
    assert!(
        asked[0].starts_with("POST /v3/auth/authenticate ")
            && asked[0].ends_with(r#"{"name":"me","password":"secret"}"#)
    );
    assert!(asked[1].contains("\r\nAuthorization: first\r\n"), "{}", asked[1]);
    assert!(asked[3].contains("\r\nAuthorization: second\r\n"), "{}", asked[3]);
}
