//! An etcd that answers as it is told: truly, from a map of its own, or with whatever a case puts in the place of an answer.
//!
//! Owns [`Forged`]: a small HTTP/1.1 server of this process with the few paths of the gateway that are used. Invariants: what was answered truly is
//! so for everybody, in one order; its threads end with their connections, and those with who opened them.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use quantonium::encoding::{base64_decode_to_vec, base64_encode, base64_len};
use serde_json::{Value, json};

/// What is said.
pub(crate) enum Said {
    /// The truth.
    Truth,
    /// This body.
    Body(Vec<u8>),
    /// The head of a long reply and then a byte now and then, until the lie ends.
    Drips,
}

type Lie = Box<dyn FnMut(&str, &Value) -> Said + Send>;
type Key = Vec<u8>;

#[derive(Default)]
struct State {
    /// What was written, by revision; nothing: removed.
    log: Vec<(u64, Key, Option<Vec<u8>>)>,
    revision: u64,
    /// What is told to all that watch, and to how many it was. An empty one ends a watch.
    told: Vec<Vec<u8>>,
    lie: Option<Lie>,
    lies_count: u64,
    /// Requests: of the newest values, and of those of one revision, which begin a reading of everything.
    asked: (usize, usize),
    watches: usize,
}

/// The etcd.
#[derive(Clone)]
pub(crate) struct Forged {
    address: SocketAddr,
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Forged {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let state = State { revision: 1, ..State::default() };
        let forged = Self { address, state: Arc::new((Mutex::new(state), Condvar::new())) };
        let other = forged.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let forged = other.clone();
                // Who goes away in the middle of it is none of our business.
                std::thread::spawn(move || forged.serve(stream));
            }
        });
        forged
    }

    pub(crate) fn store(&self) -> String {
        format!("--store=etcd://{}/hostile/test", self.address)
    }

    /// Has `lie` say what is answered from now on: the path and what is asked.
    pub(crate) fn lie(&self, lie: impl FnMut(&str, &Value) -> Said + Send + 'static) {
        self.change(|state| state.lie = Some(Box::new(lie)));
    }

    /// Has the truth be said again.
    pub(crate) fn repent(&self) {
        self.change(|state| {
            state.lie = None;
            state.lies_count += 1;
        });
    }

    /// Tells all that watch something that is not so.
    pub(crate) fn tell(&self, message: &Value) {
        self.change(|state| state.told.push(format!("{message}\n").into_bytes()));
    }

    /// Ends all watches.
    pub(crate) fn cut(&self) {
        self.change(|state| state.told.push(Vec::new()));
    }

    /// How many times the newest head was asked for, and how many pages of a whole state.
    pub(crate) fn asked(&self) -> (usize, usize) {
        self.state.0.lock().expect("a lock").asked
    }

    /// How many watches there are.
    pub(crate) fn watches(&self) -> usize {
        self.state.0.lock().expect("a lock").watches
    }

    pub(crate) fn revision(&self) -> u64 {
        self.state.0.lock().expect("a lock").revision
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let changed = change(&mut self.state.0.lock().expect("a lock"));
        self.state.1.notify_all();
        changed
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        let mut raw = Vec::new();
        loop {
            let (path, asked) = read_request(&mut stream, &mut raw)?;
            if path == "/v3/watch" {
                return self.watch(stream, &asked["create_request"]);
            }
            let (said, number) = self.change(|state| {
                let said = state.lie.as_mut().map_or(Said::Truth, |lie| lie(&path, &asked));
                (said, state.lies_count)
            });
            let body = match said {
                Said::Truth => self.change(|state| state.answer(&path, &asked)).to_string().into_bytes(),
                Said::Body(body) => body,
                Said::Drips => return self.drip(stream, number),
            };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), &body].concat())?;
        }
    }

    fn drip(&self, mut stream: TcpStream, number: u64) -> io::Result<()> {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")?;
        while self.state.0.lock().expect("a lock").lies_count == number {
            stream.write_all(b" ")?;
            std::thread::park_timeout(Duration::from_millis(100));
        }
        Ok(())
    }

    fn watch(&self, mut stream: TcpStream, asked: &Value) -> io::Result<()> {
        let (mut next, mut told) = (number(&asked["start_revision"]), 0);
        let is_wanted = |key: &Key| *key >= bytes(&asked["key"]) && *key < bytes(&asked["range_end"]);
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        self.change(|state| {
            told = state.told.len();
            state.watches += 1;
        });
        let ended = loop {
            let mut lines: Vec<Vec<u8>> = Vec::new();
            {
                let held = self.state.0.lock().expect("a lock");
                let is_quiet = |state: &mut State| state.revision < next && state.told.len() == told;
                let held = self.state.1.wait_timeout_while(held, Duration::from_millis(200), is_quiet);
                let (state, _) = held.expect("a lock");
                for revision in next..=state.revision {
                    let events = state.log.iter().filter(|(at, key, _)| *at == revision && is_wanted(key));
                    let events: Vec<Value> = events.map(event).collect();
                    let header = header(revision);
                    lines.push(
                        format!("{}\n", json!({"result": {"header": header, "events": events}})).into(),
                    );
                }
                next = next.max(state.revision + 1);
                lines.extend(state.told.iter().skip(told).cloned());
                told = state.told.len();
            }
            let written = lines.iter().try_for_each(|line| {
                let chunk = [format!("{:x}\r\n", line.len()).as_bytes(), line, b"\r\n"].concat();
                if line.is_empty() {
                    Err(io::ErrorKind::ConnectionAborted.into())
                } else {
                    stream.write_all(&chunk)
                }
            });
            // Who is not there any more is found out by a look, since nothing may have to be said for long.
            stream.set_read_timeout(Some(Duration::from_millis(1)))?;
            let is_gone = matches!(stream.read(&mut [0]), Ok(0));
            if let Err(error) = written {
                break Err(error);
            }
            if is_gone {
                break Ok(());
            }
        };
        self.change(|state| state.watches -= 1);
        ended
    }
}

impl State {
    fn values(&self, until: u64) -> BTreeMap<Key, (Vec<u8>, u64)> {
        let mut values = BTreeMap::new();
        for (revision, key, value) in self.log.iter().filter(|(revision, ..)| *revision <= until) {
            match value {
                Some(value) => drop(values.insert(key.clone(), (value.clone(), *revision))),
                None => drop(values.remove(key)),
            }
        }
        values
    }

    fn answer(&mut self, path: &str, asked: &Value) -> Value {
        match path {
            "/v3/kv/range" => self.range(asked),
            "/v3/kv/txn" => self.swap(asked),
            "/v3/lease/grant" => json!({"ID": "7", "TTL": "10"}),
            "/v3/lease/keepalive" => json!({"result": {"ID": "7", "TTL": "10"}}),
            _ => json!({}),
        }
    }

    fn range(&mut self, asked: &Value) -> Value {
        let at = number(&asked["revision"]);
        if asked["range_end"].is_null() {
            self.asked.0 += 1;
        } else {
            self.asked.1 += 1;
        }
        let from = bytes(&asked["key"]);
        let to = if asked["range_end"].is_null() {
            [&from[..], &[0]].concat()
        } else {
            bytes(&asked["range_end"])
        };
        let values = self.values(if at == 0 { u64::MAX } else { at });
        let limit = usize::try_from(number(&asked["limit"])).expect("a number");
        let most = if limit == 0 { usize::MAX } else { limit };
        let found: Vec<_> = values.range(from..to).collect();
        let pairs: Vec<Value> =
            found.iter().take(most).map(|(key, (value, at))| pair(key, value, *at)).collect();
        json!({"header": header(self.revision), "kvs": pairs, "more": found.len() > most})
    }

    fn swap(&mut self, asked: &Value) -> Value {
        let values = self.values(u64::MAX);
        let all = |name: &str| asked[name].as_array().cloned().unwrap_or_default();
        let holds = all("compare").iter().all(|demand| {
            let stands = values.get(&bytes(&demand["key"]));
            match demand["target"].as_str() {
                Some("CREATE") => stands.is_none(),
                Some("MOD") => stands.is_some_and(|(_, at)| *at == number(&demand["mod_revision"])),
                _ => stands.is_some_and(|(value, _)| *value == bytes(&demand["value"])),
            }
        });
        if !holds {
            let range =
                |of: &Value| json!({"response_range": self.range_of(&bytes(&of["request_range"]["key"]))});
            let responses: Vec<Value> = all("failure").iter().map(range).collect();
            return json!({"header": header(self.revision), "responses": responses});
        }
        self.revision += 1;
        for of in all("success") {
            let (put, removal) = (&of["request_put"], &of["request_delete_range"]);
            if put.is_null() {
                self.log.push((self.revision, bytes(&removal["key"]), None));
            } else {
                self.log.push((self.revision, bytes(&put["key"]), Some(bytes(&put["value"]))));
            }
        }
        json!({"header": header(self.revision), "succeeded": true})
    }

    fn range_of(&self, key: &[u8]) -> Value {
        let values = self.values(u64::MAX);
        let found: Vec<Value> = values.get(key).iter().map(|(value, at)| pair(key, value, *at)).collect();
        json!({"kvs": found})
    }
}

/// The header of an answer.
pub(crate) fn header(revision: u64) -> Value {
    json!({"cluster_id": "5", "revision": revision.to_string()})
}

/// A key with its value.
pub(crate) fn pair(key: &[u8], value: &[u8], revision: u64) -> Value {
    json!({"key": text(key), "value": text(value), "mod_revision": revision.to_string()})
}

fn event((revision, key, value): &(u64, Key, Option<Vec<u8>>)) -> Value {
    match value {
        Some(value) => json!({"kv": pair(key, value, *revision)}),
        None => json!({"type": "DELETE", "kv": pair(key, b"", *revision)}),
    }
}

fn text(bytes: &[u8]) -> String {
    let mut text = vec![0; base64_len(bytes.len())];
    let len = base64_encode(bytes, &mut text).expect("room");
    text.truncate(len);
    String::from_utf8(text).expect("base64")
}

fn bytes(text: &Value) -> Vec<u8> {
    base64_decode_to_vec(text.as_str().unwrap_or_default().as_bytes()).expect("base64")
}

fn number(text: &Value) -> u64 {
    text.as_str().map_or(0, |text| text.parse().expect("a number"))
}

/// The path and the body of the next request.
fn read_request(stream: &mut TcpStream, raw: &mut Vec<u8>) -> io::Result<(String, Value)> {
    let mut piece = [0; 16 * 1024];
    loop {
        if let Some(at) = raw.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&raw[..at]).into_owned();
            let length = head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next());
            let end = at + 4 + length.expect("a length").parse::<usize>().expect("a number");
            if raw.len() >= end {
                let asked = serde_json::from_slice(&raw[at + 4..end]).expect("JSON");
                raw.drain(..end);
                return Ok((head.split(' ').nth(1).expect("a path").to_owned(), asked));
            }
        }
        match stream.read(&mut piece)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => raw.extend_from_slice(&piece[..read]),
        }
    }
}
