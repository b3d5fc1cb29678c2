//! Asks at a fixed rate, and says how long the replies took.
//!
//! ```text
//! rate ADDRESS PATH BODY|- TYPE CONNECTIONS REQUESTS_PER_SECOND SECONDS
//! ```
//!
//! Each request is due at its moment, whatever became of those before it, and its time counts from that moment: a server that
//! stops for a while is charged for all that would have come meanwhile. A request that finds every connection busy waits for
//! the first that is free. It never sleeps, so it wants a core of its own. Prints how many replies there were, how many of them
//! no success, and the 50th, 99th and 99.9th percentile and the greatest time in microseconds.

use std::collections::VecDeque;
use std::env;
use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use quantonium_http_peers::Outcome;

struct Line {
    stream: TcpStream,
    /// When what is under way was due.
    due: Option<Instant>,
    /// What is not sent yet, from here on.
    sent: usize,
    reply: Vec<u8>,
}

struct Load {
    request: Vec<u8>,
    lines: Vec<Line>,
    free: VecDeque<usize>,
    waiting: VecDeque<Instant>,
    taken: Vec<Duration>,
    failed: usize,
}

impl Load {
    /// Puts what is due on the connections that are free.
    fn give(&mut self) -> io::Result<()> {
        while let (Some(place), Some(due)) = (self.free.front().copied(), self.waiting.front().copied()) {
            self.free.pop_front();
            self.waiting.pop_front();
            let line = &mut self.lines[place];
            line.due = Some(due);
            line.sent = 0;
            self.push(place)?;
        }
        Ok(())
    }

    fn push(&mut self, place: usize) -> io::Result<()> {
        let line = &mut self.lines[place];
        while line.due.is_some() && line.sent < self.request.len() {
            match line.stream.write(&self.request[line.sent..]) {
                Ok(count) => line.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn take(&mut self, place: usize, room: &mut [u8]) -> io::Result<()> {
        let line = &mut self.lines[place];
        loop {
            match line.stream.read(room) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => line.reply.extend_from_slice(&room[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        if whole(&line.reply)
            && let Some(due) = line.due.take()
        {
            self.taken.push(due.elapsed());
            self.failed += usize::from(!line.reply.starts_with(b"HTTP/1.1 200"));
            line.reply.clear();
            self.free.push_back(place);
        }
        Ok(())
    }
}

/// Whether a reply is there to its end; all that are asked for state their length.
fn whole(reply: &[u8]) -> bool {
    let Some(end) = reply.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&reply[..end]).to_ascii_lowercase();
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| reply.len() >= end + 4 + length)
}

fn request(path: &str, body: Option<&[u8]>, kind: &str) -> Vec<u8> {
    let key = env::var("BENCH_KEY").unwrap_or_default();
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {key}\r\n");
    if let Some(body) = body {
        text += &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
    }
    text += "\r\n";
    [text.as_bytes(), body.unwrap_or_default()].concat()
}

fn run(load: &mut Load, poll: &mut Poll, every: Duration, count: u32) -> Outcome<()> {
    let (mut events, mut room) = (Events::with_capacity(1024), vec![0; 1 << 17]);
    let begin = Instant::now();
    let limit = begin + every * count + Duration::from_secs(10);
    let mut asked = 0;
    while load.taken.len() < count as usize {
        let now = Instant::now();
        while asked < count && begin + every * asked <= now {
            load.waiting.push_back(begin + every * asked);
            asked += 1;
        }
        load.give()?;
        poll.poll(&mut events, Some(Duration::ZERO))?;
        for event in &events {
            load.push(event.token().0)?;
            load.take(event.token().0, &mut room)?;
        }
        if now > limit {
            load.failed += count as usize - load.taken.len();
            break;
        }
    }
    Ok(())
}

fn main() -> Outcome<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [address, path, body, kind, connections, rate, seconds] = words.as_slice() else {
        return Err("see the head of benches/peers/http/src/bin/rate.rs".into());
    };
    let body = if body == "-" { None } else { Some(fs::read(body)?) };
    let (rate, seconds): (u32, u32) = (rate.parse()?, seconds.parse()?);
    let mut poll = Poll::new()?;
    let mut load = Load {
        request: request(path, body.as_deref(), kind),
        lines: Vec::new(),
        free: VecDeque::new(),
        waiting: VecDeque::new(),
        taken: Vec::with_capacity((rate * seconds) as usize),
        failed: 0,
    };
    for place in 0..connections.parse()? {
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(place), Interest::READABLE | Interest::WRITABLE)?;
        load.lines.push(Line { stream, due: None, sent: 0, reply: Vec::new() });
        load.free.push_back(place);
    }
    run(&mut load, &mut poll, Duration::from_secs(1) / rate, rate * seconds)?;
    load.taken.sort_unstable();
    let at = |thousandth: usize| {
        load.taken.get(load.taken.len() * thousandth / 1000).map_or(0, Duration::as_micros)
    };
    let most = load.taken.last().map_or(0, Duration::as_micros);
    writeln!(
        io::stdout(),
        "{} {} {} {} {} {most}",
        load.taken.len(),
        load.failed,
        at(500),
        at(990),
        at(999)
    )?;
    Ok(())
}
