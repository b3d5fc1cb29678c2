//! A TLS session without sockets: what opening and sealing the records of a request and of its reply costs, and a handshake.
//!
//! Owns the group `tls_record`. The client is rustls itself; its part is measured by itself, so that it can be taken off.

#![allow(missing_docs, reason = "a bench has no users")]
#![expect(clippy::unwrap_used, reason = "a bench without its session measures nothing")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::rc::Rc;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput};
use quantonium::clock::{Moment, WallTime};
use quantonium::limits::{DEVELOPMENT_CERTIFICATE_DEFAULT_DAYS, LEASE_BUDGET_DEFAULT_BYTES};
use quantonium::reactor::executor::TaskId;
use quantonium::reactor::{Budget, Charge, Established, Pool, Received, Strangers, Transport, Turn};
use quantonium::tls::self_signed;
use quantonium::tls::{Current, Material, Materials, Options, Scratch, Session};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Both directions, as sockets would hold them.
#[derive(Default)]
struct Wire {
    to_server: VecDeque<u8>,
    to_client: Vec<u8>,
}

struct Memory(Rc<RefCell<Wire>>);

impl Transport for Memory {
    fn receive(&mut self, target: &mut [u8]) -> io::Result<Received> {
        let mut wire = self.0.borrow_mut();
        if wire.to_server.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = wire.to_server.read(target)?;
        Ok(Received { count, drained: count < target.len() })
    }

    fn send(&mut self, source: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().to_client.extend_from_slice(source);
        Ok(source.len())
    }

    fn finish(&mut self) {}

    fn abort_on_close(&mut self, _: bool) {}
}

/// A server's session and its client, which have shaken hands.
struct Pair {
    wire: Rc<RefCell<Wire>>,
    server: Session<Memory>,
    client: ClientConnection,
}

struct Ground {
    server: Current,
    client: Arc<ClientConfig>,
    strangers: Rc<Strangers>,
    scratch: Rc<Scratch>,
}

impl Ground {
    fn new() -> Self {
        let pair = self_signed::make(&[], DEVELOPMENT_CERTIFICATE_DEFAULT_DAYS, WallTime::now()).unwrap();
        let material =
            Material::read(pair.certificate.as_bytes(), pair.key.as_pem().as_bytes(), None).unwrap();
        let materials = Materials { pairs: vec![material], authorities: None };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()).unwrap();
        let mut client = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.resumption = Resumption::disabled();
        let turn = Turn::new(Moment::now());
        let pool = Pool::new(Budget::new(LEASE_BUDGET_DEFAULT_BYTES));
        Self {
            server: Current::new(&materials, Options::default()).unwrap(),
            client: Arc::new(client),
            strangers: Strangers::new(pool, turn, 1),
            scratch: Scratch::new(),
        }
    }

    fn pair(&self) -> Pair {
        let wire = Rc::new(RefCell::new(Wire::default()));
        let charge = Charge::of(&self.strangers, TaskId::from_index(0));
        let config = Arc::clone(&self.server.get().config);
        let server =
            Session::new(Memory(Rc::clone(&wire)), config, Rc::clone(&self.scratch), charge).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let client = ClientConnection::new(Arc::clone(&self.client), name).unwrap();
        let mut pair = Pair { wire, server, client };
        loop {
            pair.push();
            let is_ready = match pair.server.establish() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
                established => established.unwrap() == Established::Ready,
            };
            pair.pull();
            if is_ready && !pair.client.is_handshaking() {
                return pair;
            }
        }
    }
}

impl Pair {
    /// What the client has to say.
    fn push(&mut self) {
        let mut wire = self.wire.borrow_mut();
        while self.client.wants_write() {
            self.client.write_tls(&mut wire.to_server).unwrap();
        }
    }

    /// What the server has said.
    fn pull(&mut self) {
        let mut wire = self.wire.borrow_mut();
        let mut said = &*wire.to_client;
        while !said.is_empty() {
            self.client.read_tls(&mut said).unwrap();
            self.client.process_new_packets().unwrap();
        }
        wire.to_client.clear();
    }
}

fn records(c: &mut Criterion) {
    let ground = Ground::new();
    let mut group = c.benchmark_group("tls_record");
    for size in [256, 1 << 10, 16 << 10] {
        group.throughput(Throughput::Bytes(size as u64));
        let message = vec![0x61; size];
        let mut room = vec![0; size];
        let mut pair = ground.pair();
        group.bench_function(BenchmarkId::new("client sends, server opens", size), |bencher| {
            bencher.iter(|| {
                pair.client.writer().write_all(black_box(&message)).unwrap();
                pair.push();
                let mut come = 0;
                while come < size {
                    come += pair.server.receive(room.get_mut(come..).unwrap_or_default()).unwrap().count;
                }
            });
        });
        let mut pair = ground.pair();
        group.bench_function(BenchmarkId::new("server seals", size), |bencher| {
            bencher.iter(|| {
                let mut sent = 0;
                while sent < size {
                    sent += pair.server.send(black_box(message.get(sent..).unwrap_or_default())).unwrap();
                }
                pair.wire.borrow_mut().to_client.clear();
            });
        });
    }
    group.finish();
}

fn handshakes(c: &mut Criterion) {
    let ground = Ground::new();
    c.bench_function("tls_record/handshake, both sides", |bencher| bencher.iter(|| ground.pair()));
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    records(&mut criterion);
    handshakes(&mut criterion);
    criterion.final_summary();
}
