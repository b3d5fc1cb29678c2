//! A wire with a session at one end and a client at the other: short reads and writes, and refusals, in a seeded order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::rc::Rc;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::clock::Moment;
use crate::limits::LEASE_BUDGET_FLOOR_BYTES;
use crate::reactor::{Budget, Charge, Established, Pool, Received, Strangers, TaskId, Transport, Turn};
use crate::tls::provider::provider;
use crate::tls::session::{Scratch, Session};
use crate::tls::tests::certificates::{Authority, Issued};

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) to_server: VecDeque<u8>,
    pub(super) to_client: VecDeque<u8>,
    /// Where chances come from; zero makes the wire orderly.
    seed: u64,
    /// What the way to the client holds at most.
    pub(super) room: usize,
    pub(super) client_gone: bool,
    pub(super) finished: bool,
    pub(super) aborted: bool,
    /// Lengths of the sends.
    pub(super) sends: Vec<usize>,
}

impl Line {
    /// A number below `bound`, at the mercy of the seed.
    fn chance(&mut self, bound: usize) -> usize {
        // xorshift64 (Marsaglia, "Xorshift RNGs", 2003)
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        usize::try_from(self.seed >> 33).unwrap() % bound.max(1)
    }

    /// How many of `most` bytes pass now.
    fn share(&mut self, most: usize) -> usize {
        if self.seed == 0 {
            return most;
        }
        match self.chance(4) {
            0 => 0,
            1 => most.min(1),
            2 => self.chance(most + 1),
            _ => most,
        }
    }
}

/// The server's end.
#[derive(Debug)]
pub(super) struct Half(pub(super) Rc<RefCell<Line>>);

impl Transport for Half {
    fn receive(&mut self, target: &mut [u8]) -> io::Result<Received> {
        let mut line = self.0.borrow_mut();
        if line.to_server.is_empty() && line.client_gone {
            return Ok(Received { count: 0, drained: true });
        }
        let waiting = line.to_server.len().min(target.len());
        let count = line.share(waiting);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        line.to_server.read_exact(&mut target[..count]).unwrap();
        Ok(Received { count, drained: line.to_server.is_empty() && count < target.len() })
    }

    fn send(&mut self, source: &[u8]) -> io::Result<usize> {
        let mut line = self.0.borrow_mut();
        assert!(!line.finished, "nothing is sent after the end");
        let free = line.room - line.to_client.len();
        let count = line.share(free.min(source.len()));
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        line.to_client.extend(&source[..count]);
        line.sends.push(count);
        Ok(count)
    }

    fn finish(&mut self) {
        self.0.borrow_mut().finished = true;
    }

    fn abort_on_close(&mut self, on: bool) {
        self.0.borrow_mut().aborted = on;
    }
}

/// A session and its client.
pub(super) struct Pair {
    pub(super) server: Session<Half>,
    pub(super) client: ClientConnection,
    pub(super) line: Rc<RefCell<Line>>,
    /// What the client has read.
    pub(super) got: Vec<u8>,
    /// Whether the client has seen a proper end.
    pub(super) ended: bool,
}

pub(super) fn half(seed: u64, room: usize) -> (Half, Rc<RefCell<Line>>) {
    let line = Rc::new(RefCell::new(Line { seed, room, ..Line::default() }));
    (Half(Rc::clone(&line)), line)
}

/// The strangers of a budget.
pub(super) fn strangers(budget: &Arc<Budget>) -> Rc<Strangers> {
    Strangers::new(Pool::new(Arc::clone(budget)), Turn::new(Moment::default()), 1)
}

/// A charge of a budget of its own.
pub(super) fn charge() -> Charge {
    Charge::of(&strangers(&Budget::new(LEASE_BUDGET_FLOOR_BYTES)), TaskId::default())
}

impl Pair {
    pub(super) fn new(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>, name: &str, seed: u64) -> Self {
        Self::charged(server, client, name, seed, charge())
    }

    pub(super) fn charged(
        server: &Arc<ServerConfig>,
        client: &Arc<ClientConfig>,
        name: &str,
        seed: u64,
        charge: Charge,
    ) -> Self {
        let (half, line) = half(seed, if seed == 0 { usize::MAX } else { 20_000 });
        let server = Session::new(half, Arc::clone(server), Scratch::new(), charge).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let client = ClientConnection::new(Arc::clone(client), name).unwrap();
        Self { server, client, line, got: Vec::new(), ended: false }
    }

    /// Lets the client send and receive what it can.
    pub(super) fn client_turn(&mut self) -> Result<(), rustls::Error> {
        let line = &mut *self.line.borrow_mut();
        while self.client.wants_write() && line.share(1) == 1 {
            self.client.write_tls(&mut line.to_server).unwrap();
        }
        let count = line.share(line.to_client.len());
        let bytes: Vec<u8> = line.to_client.drain(..count).collect();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            self.client.read_tls(&mut rest).unwrap();
            self.ended |= self.client.process_new_packets()?.peer_has_closed();
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = self.client.reader().read(&mut buffer) {
                self.got.extend(&buffer[..count]);
            }
            if self.ended {
                break;
            }
        }
        Ok(())
    }

    /// Both go on until the session is established and the client has finished, or one of them fails.
    pub(super) fn shake(&mut self) -> Result<Established, String> {
        for _ in 0..100_000 {
            let client = self.client_turn();
            match self.server.establish() {
                Ok(established) if !self.client.is_handshaking() => {
                    client.map_err(|error| format!("client: {error:?}"))?;
                    return Ok(established);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    let told = self.client_turn().err();
                    return Err(format!("server: {error:?}, client: {:?}", client.err().or(told)));
                }
            }
            client.map_err(|error| format!("client: {error:?}"))?;
        }
        panic!("the handshake is stuck: {:?}", self.line);
    }

    /// Sends all of `source` to the client, which reads it.
    pub(super) fn say(&mut self, mut source: &[u8]) {
        for _ in 0..1_000_000 {
            let sent =
                if source.is_empty() { self.server.flush().map(|()| 0) } else { self.server.send(source) };
            match sent {
                Ok(0) => break,
                Ok(count) => source = &source[count..],
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            self.client_turn().unwrap();
        }
        assert!(source.is_empty());
        self.settle();
    }

    /// Lets the client take everything that is on its way.
    pub(super) fn settle(&mut self) {
        while !self.line.borrow().to_client.is_empty() && !self.ended {
            self.client_turn().unwrap();
        }
    }

    /// Sends all of `source` to the session, which reads it into small and large targets.
    pub(super) fn hear(&mut self, mut source: &[u8]) -> Vec<u8> {
        let expected = source.len();
        let mut heard = Vec::new();
        for round in 0..1_000_000_usize {
            if heard.len() >= expected {
                break;
            }
            let count = self.client.writer().write(source).unwrap();
            source = &source[count..];
            self.client_turn().unwrap();
            let mut target = vec![0; [1, 100, 16_384, 70_000][round % 4]];
            match self.server.receive(&mut target) {
                Ok(received) => heard.extend(&target[..received.count]),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        heard
    }
}

/// What a client is set up with.
#[derive(Default)]
pub(super) struct Client<'a> {
    pub(super) versions: &'a [&'static SupportedProtocolVersion],
    pub(super) protocols: &'a [&'a str],
    pub(super) shows: Option<&'a Issued>,
}

impl Client<'_> {
    pub(super) fn config(&self, trusts: &Authority) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(trusts.certificate.der().clone()).unwrap();
        let versions = if self.versions.is_empty() { rustls::ALL_VERSIONS } else { self.versions };
        let builder = ClientConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(versions).unwrap().with_root_certificates(roots);
        let mut config = match self.shows {
            Some(shown) => {
                let chain: Vec<CertificateDer<'static>> = vec![shown.certificate.der().clone()];
                let key = PrivatePkcs8KeyDer::from(shown.key.serialize_der());
                builder.with_client_auth_cert(chain, key.into()).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(8);
        Arc::new(config)
    }
}
