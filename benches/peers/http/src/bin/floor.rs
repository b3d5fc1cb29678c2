//! What it costs to answer at all: one loop of epoll that takes whole requests, bodies included, and answers each with a constant.
//!
//! It looks for the end of the head and for `Content-Length` as wrk sends them, and at nothing else. It is no server.

use std::io::{ErrorKind, Read as _, Write as _};
use std::mem;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use quantonium_http_peers::{Outcome, address};

const DOOR: Token = Token(usize::MAX);
const REPLY: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}";

struct Visitor {
    stream: TcpStream,
    /// What has come of a request whose end has not.
    rest: Vec<u8>,
}

/// The length of the request at the front of `bytes`, if its head is there.
fn length(bytes: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"Content-Length: ";
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let digits = bytes[..end].windows(NAME.len()).position(|window| window.eq_ignore_ascii_case(NAME));
    let body = digits.map_or(0, |at| {
        let digits = bytes[at + NAME.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
    });
    Some(end + body)
}

/// Reads until nothing is there, and answers what is whole. False: the visitor has gone.
fn visit(visitor: &mut Visitor, room: &mut [u8], replies: &mut Vec<u8>) -> bool {
    loop {
        let count = match visitor.stream.read(room) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        };
        let came = &room[..count];
        let joined;
        let mut bytes = if visitor.rest.is_empty() {
            came
        } else {
            visitor.rest.extend_from_slice(came);
            joined = mem::take(&mut visitor.rest);
            &joined
        };
        replies.clear();
        while let Some(length) = length(bytes).filter(|length| *length <= bytes.len()) {
            bytes = &bytes[length..];
            replies.extend_from_slice(REPLY);
        }
        visitor.rest.extend_from_slice(bytes);
        // A reply is short: what does not fit at once ends the visit.
        if !replies.is_empty() && visitor.stream.write(replies).ok() != Some(replies.len()) {
            return false;
        }
        if count < room.len() {
            return true;
        }
    }
}

fn main() -> Outcome<()> {
    let mut poll = Poll::new()?;
    let mut door = TcpListener::bind(address()?.parse()?)?;
    poll.registry().register(&mut door, DOOR, Interest::READABLE)?;
    let (mut events, mut visitors, mut free) = (Events::with_capacity(1024), Vec::new(), Vec::new());
    let (mut room, mut replies) = (vec![0; 1 << 17], Vec::new());
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == DOOR {
                while let Ok((mut stream, _)) = door.accept() {
                    let place: usize = free.pop().unwrap_or(visitors.len());
                    stream.set_nodelay(true)?;
                    poll.registry().register(&mut stream, Token(place), Interest::READABLE)?;
                    let visitor = Some(Visitor { stream, rest: Vec::new() });
                    if place == visitors.len() { visitors.push(visitor) } else { visitors[place] = visitor }
                }
                continue;
            }
            let Token(place) = event.token();
            if visitors[place].as_mut().is_some_and(|visitor| !visit(visitor, &mut room, &mut replies)) {
                visitors[place] = None;
                free.push(place);
            }
        }
    }
}
