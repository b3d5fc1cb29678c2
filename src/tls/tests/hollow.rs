//! Records that bring nothing, or not yet.

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::rc::Rc;
use std::sync::Arc;

use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion};

use crate::limits::{TLS_HOLLOW_MAX_BYTES, TLS_RECORD_OVERHEAD_BYTES};
use crate::reactor::{Established, Received, Transport as _};
use crate::tls::session::Session;
use crate::tls::tests::certificates::{Issued, authority};
use crate::tls::tests::wire::{Client, Half, Line, Pair};
use crate::tls::{Current, Materials, MinVersion, Options};

fn pair(old: bool) -> Pair {
    let ca = authority();
    let pairs = vec![Issued::server(&ca, &["a.example"]).material()];
    let min_version = if old { MinVersion::Tls12 } else { MinVersion::Tls13 };
    let options = Options { min_version, ..Options::default() };
    let current = Current::new(&Materials { pairs, authorities: None }, options).unwrap();
    let versions: &[_] = if old { &[&rustls::version::TLS12] } else { &[] };
    let mut client = (*Client { versions, ..Client::default() }.config(&ca)).clone();
    client.enable_secret_extraction = true;
    let mut pair = Pair::new(&current.get().config, &Arc::new(client), "a.example", 0);
    assert_eq!(pair.shake(), Ok(Established::Ready));
    pair
}

fn receive(server: &mut Session<Half>) -> Result<usize, io::ErrorKind> {
    server.receive(&mut [0; 1_000]).map(|Received { count, .. }| count).map_err(|error| error.kind())
}

/// A session, and a client of TLS 1.3 that writes its records by itself.
struct Scene {
    server: Session<Half>,
    line: Rc<RefCell<Line>>,
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl Scene {
    fn new() -> Self {
        let Pair { server, client, line, .. } = pair(false);
        let suite = client.negotiated_cipher_suite().unwrap().tls13().unwrap();
        let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
        let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) = secrets
        else {
            panic!("another suite");
        };
        Self { server, line, encrypter: suite.aead_alg.encrypter(key, iv), sequence }
    }

    /// Puts a record on its way. Returns its length.
    fn send(&mut self, typ: ContentType, content: &[u8]) -> usize {
        let message = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_3,
            payload: OutboundChunks::Single(content),
        };
        let record = self.encrypter.encrypt(message, self.sequence).unwrap().encode();
        self.sequence += 1;
        self.line.borrow_mut().to_server.extend(&record);
        record.len()
    }
}

/// Begins a message of the handshake (a change of keys, RFC 8446, section 4.6.3) that is said to be long, of which a byte at a time
/// follows: the library counts neither empty records nor changes of keys there.
const LONG_MESSAGE: [u8; 4] = [24, 0, 0xff, 0xff];

#[test]
fn one_byte_begins_the_count_of_hollow_records_anew() {
    let mut scene = Scene::new();
    let mut sent = 0;
    while sent <= 2 * TLS_HOLLOW_MAX_BYTES {
        for _ in 0..30 {
            sent += scene.send(ContentType::ApplicationData, b"");
            assert_eq!(receive(&mut scene.server), Err(io::ErrorKind::WouldBlock), "after {sent} bytes");
            assert!(!scene.server.is_amid());
        }
        scene.send(ContentType::ApplicationData, b"x");
        assert_eq!(receive(&mut scene.server), Ok(1));
    }
}

#[test]
fn hollow_records_are_borne_up_to_a_bound_however_they_come() {
    let mut scene = Scene::new();
    let mut sent = scene.send(ContentType::Handshake, &LONG_MESSAGE);
    while sent <= TLS_HOLLOW_MAX_BYTES {
        assert_eq!(receive(&mut scene.server), Err(io::ErrorKind::WouldBlock), "after {sent} bytes");
        sent += scene.send(ContentType::Handshake, b"x");
    }
    assert_eq!(receive(&mut scene.server), Err(io::ErrorKind::InvalidData));
}

#[test]
fn a_flood_of_hollow_records_is_not_read_to_its_end() {
    let mut scene = Scene::new();
    let mut sent = scene.send(ContentType::Handshake, &LONG_MESSAGE);
    for _ in 0..50_000 {
        sent += scene.send(ContentType::Handshake, b"x");
    }
    assert_eq!(receive(&mut scene.server), Err(io::ErrorKind::InvalidData));
    let taken = sent - scene.line.borrow().to_server.len();
    // The bound, and what one receive asks for.
    assert!(taken <= TLS_HOLLOW_MAX_BYTES + 1_000 + TLS_RECORD_OVERHEAD_BYTES, "{taken} bytes were taken");
}

#[test]
fn a_part_of_a_record_is_known_of_until_the_rest_has_come() {
    for old in [false, true] {
        let mut pair = pair(old);
        assert!(!pair.server.is_amid(), "nothing is left of the handshake");
        pair.client.writer().write_all(&[7; 16_000]).unwrap();
        pair.client.writer().write_all(b"more").unwrap();
        pair.client_turn().unwrap();
        let mut rest: Vec<u8> = pair.line.borrow_mut().to_server.drain(..).collect();
        for byte in rest.drain(..10_000) {
            pair.line.borrow_mut().to_server.push_back(byte);
            assert_eq!(receive(&mut pair.server), Err(io::ErrorKind::WouldBlock), "that is no hollow record");
            assert!(pair.server.is_amid());
        }
        let last = rest.pop().unwrap();
        pair.line.borrow_mut().to_server.extend(rest);
        let mut heard = 0;
        while let Ok(count) = receive(&mut pair.server) {
            heard += count;
        }
        assert_eq!(
            (heard, pair.server.is_amid()),
            (16_000, true),
            "of the second one all but a byte is there"
        );
        pair.line.borrow_mut().to_server.push_back(last);
        assert_eq!((receive(&mut pair.server), pair.server.is_amid()), (Ok(4), false));
    }
}
