//! A client that reads server-sent events, as the standard says, from a connection that it may leave at any time.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use quantonium::http::chunked::ChunkedDecoder;
use serde_json::Value;

use crate::server::Server;

/// An event: its name, its data, and the last identifier with it.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) name: String,
    pub(crate) data: Value,
    pub(crate) id: String,
}

impl Event {
    pub(crate) fn text(&self, name: &str) -> &str {
        crate::text(&self.data, name)
    }

    /// Whether the keeper tells it: every ten seconds how far the streams have come, whatever else happens.
    pub(crate) fn is_of_keeper(&self) -> bool {
        crate::is_of_keeper(&self.data)
    }
}

pub(crate) struct Reader {
    stream: TcpStream,
    pub(crate) head: String,
    decoder: Option<ChunkedDecoder>,
    /// Text of which no event was made yet.
    text: String,
    /// What came and is not decoded yet.
    raw: Vec<u8>,
    pub(crate) last_id: String,
    pub(crate) ended: bool,
}

impl Reader {
    /// Asks for the events of `query` and reads the head.
    pub(crate) fn open(server: &Server, query: &str, fields: &str) -> Self {
        Self::send(server, &request(server.key(), query, "HTTP/1.1", fields))
    }

    pub(crate) fn send(server: &Server, request: &str) -> Self {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut reader = Self {
            stream,
            head: String::new(),
            decoder: None,
            text: String::new(),
            raw: Vec::new(),
            last_id: String::new(),
            ended: false,
        };
        let end = loop {
            if let Some(end) = memchr::memmem::find(&reader.raw, b"\r\n\r\n") {
                break end + 4;
            }
            assert!(reader.receive(), "no head: {:?}", reader.raw.escape_ascii().to_string());
        };
        reader.head = String::from_utf8(reader.raw.drain(..end).collect()).unwrap();
        reader.decoder =
            reader.head.contains("\r\nTransfer-Encoding: chunked\r\n").then(ChunkedDecoder::default);
        reader
    }

    /// The next event.
    pub(crate) fn next(&mut self) -> Event {
        self.try_next().unwrap_or_else(|| panic!("the stream ended: {}{:?}", self.head, self.text))
    }

    /// The next event for which this holds.
    pub(crate) fn until(&mut self, holds: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.next();
            if holds(&event) {
                return event;
            }
        }
    }

    /// The next event that is none of the keeper's.
    pub(crate) fn next_asked(&mut self) -> Event {
        self.until(|event| !event.is_of_keeper())
    }

    /// The next event, or nothing at the end of the stream.
    pub(crate) fn try_next(&mut self) -> Option<Event> {
        loop {
            self.decode();
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                if let Some(event) = self.dispatch(&block) {
                    return Some(event);
                }
            }
            if self.ended || !self.receive() {
                return None;
            }
        }
    }

    /// Whether it ended as replies end, with nothing after the last event.
    pub(crate) fn is_whole(&mut self) -> bool {
        while self.try_next().is_some() {}
        self.text.is_empty() && self.raw.is_empty() && (self.ended || self.decoder.is_none())
    }

    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    fn dispatch(&mut self, block: &str) -> Option<Event> {
        let (mut name, mut data) = ("message", Vec::new());
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.split_once(':').unwrap() {
                ("", _) => {}
                ("id", id) => id.strip_prefix(' ').unwrap().clone_into(&mut self.last_id),
                ("event", event) => name = event.strip_prefix(' ').unwrap(),
                ("data", line) => data.push(line.strip_prefix(' ').unwrap()),
                ("retry", millis) => assert!(millis.trim().parse::<u64>().is_ok(), "{block}"),
                other => panic!("{other:?}"),
            }
        }
        let data = Some(data.join("\n")).filter(|data| !data.is_empty())?;
        let data = serde_json::from_str(&data).unwrap();
        Some(Event { name: name.to_owned(), data, id: self.last_id.clone() })
    }

    fn decode(&mut self) {
        let (produced, consumed) = match &mut self.decoder {
            None => (self.raw.len(), self.raw.len()),
            Some(decoder) => {
                let progress = decoder.decode(&mut self.raw).unwrap();
                self.ended = progress.done;
                (progress.produced, progress.consumed)
            }
        };
        self.text.push_str(str::from_utf8(&self.raw[..produced]).unwrap());
        self.raw.drain(..consumed);
    }

    /// Waits for more; `false` at the end of the connection.
    fn receive(&mut self) -> bool {
        let mut piece = [0; 16 * 1024];
        let count = match self.stream.read(&mut piece) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("{error}: {:?}", self.text),
        };
        self.raw.extend_from_slice(&piece[..count]);
        count > 0
    }
}

/// A request for events; `fields` are whole lines.
pub(crate) fn request(key: &str, query: &str, version: &str, fields: &str) -> String {
    format!("GET /api/audit/stream{query} {version}\r\nHost: a\r\nX-API-Key: {key}\r\n{fields}\r\n")
}
