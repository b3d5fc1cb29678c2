//! What is agreed on, and what is refused.

use std::io;
use std::sync::Arc;

use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};

use crate::limits::TLS_HANDSHAKE_MAX_BYTES;
use crate::reactor::{Established, Transport as _};
use crate::tls::session::{Scratch, Session};
use crate::tls::tests::certificates::{Issued, authority, rsa};
use crate::tls::tests::wire::{Client, Pair, charge, half};
use crate::tls::{Current, Materials, MinVersion, Options};

fn materials(pairs: &[Issued]) -> Materials {
    Materials { pairs: pairs.iter().map(Issued::material).collect(), authorities: None }
}

#[test]
fn tls_1_3_with_a_hybrid_group_and_http_1_1_is_what_is_agreed_on() {
    let ca = authority();
    let current =
        Current::new(&materials(&[Issued::server(&ca, &["a.example"])]), Options::default()).unwrap();
    let client = Client { protocols: &["h2", "http/1.1"], ..Client::default() }.config(&ca);
    let mut pair = Pair::new(&current.get().config, &client, "a.example", 0);
    assert!(!pair.server.is_established());
    assert_eq!(pair.server.receive(&mut [0]).map_err(|error| error.kind()), Err(io::ErrorKind::NotConnected));
    assert_eq!(pair.shake(), Ok(Established::Ready));
    assert!(pair.server.is_established());
    assert_eq!(pair.client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = pair.client.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(pair.client.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(pair.server.identities(), None);
}

#[test]
fn a_handshake_has_begun_once_one_whole_hello_was_taken() {
    let ca = authority();
    let current =
        Current::new(&materials(&[Issued::server(&ca, &["a.example"])]), Options::default()).unwrap();
    let mut pair = Pair::new(&current.get().config, &Client::default().config(&ca), "a.example", 0);
    let mut hello = Vec::new();
    pair.client.write_tls(&mut hello).unwrap();
    let (last, most) = hello.split_last().unwrap();
    for (bytes, has_begun) in [(&[][..], false), (most, false), (&[*last][..], true)] {
        pair.line.borrow_mut().to_server.extend(bytes);
        assert_eq!(pair.server.establish().map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        assert_eq!(pair.server.has_begun(), has_begun);
    }
    assert!(!pair.server.is_established());
    assert_eq!(pair.shake(), Ok(Established::Ready));
    assert!(pair.server.has_begun());
}

#[test]
fn tls_1_2_is_spoken_only_when_asked_for() {
    let ca = authority();
    let pairs = [Issued::server(&ca, &["a.example"]), Issued::with_key(&ca, &["r.example"], rsa())];
    let client = Client { versions: &[&rustls::version::TLS12], ..Client::default() }.config(&ca);
    let shake = |min_version, name| {
        let options = Options { min_version, ..Options::default() };
        let current = Current::new(&materials(&pairs), options).unwrap();
        let mut pair = Pair::new(&current.get().config, &client, name, 0);
        pair.shake().map(|_| pair.client.protocol_version())
    };
    let refused = shake(MinVersion::Tls13, "a.example").unwrap_err();
    assert!(refused.contains("AlertReceived(ProtocolVersion)"), "{refused}");
    for name in ["a.example", "r.example"] {
        assert_eq!(shake(MinVersion::Tls12, name), Ok(Some(ProtocolVersion::TLSv1_2)));
    }
}

#[test]
fn a_client_of_other_protocols_only_is_refused() {
    let ca = authority();
    let current =
        Current::new(&materials(&[Issued::server(&ca, &["a.example"])]), Options::default()).unwrap();
    for (protocols, refused) in
        [(&["h2", "http/1.0"][..], true), (&[][..], false), (&["http/1.1"][..], false)]
    {
        let client = Client { protocols, ..Client::default() }.config(&ca);
        let shaken = Pair::new(&current.get().config, &client, "a.example", 0).shake();
        let told = shaken.as_ref().is_err_and(|text| text.contains("NoApplicationProtocol"));
        assert_eq!(told, refused, "{shaken:?}");
    }
}

#[test]
fn each_name_gets_its_certificate() {
    let ca = authority();
    let pairs = [Issued::server(&ca, &["a.example"]), Issued::server(&ca, &["*.b.example"])];
    let current = Current::new(&materials(&pairs), Options::default()).unwrap();
    for (name, expected) in [("a.example", 0), ("x.b.example", 1)] {
        let mut pair = Pair::new(&current.get().config, &Client::default().config(&ca), name, 0);
        assert_eq!(pair.shake(), Ok(Established::Ready));
        assert_eq!(pair.client.peer_certificates().unwrap()[0], *pairs[expected].certificate.der());
    }
    let stranger = Pair::new(&current.get().config, &Client::default().config(&ca), "c.example", 0).shake();
    assert!(stranger.unwrap_err().contains("NotValidForName"), "the first of all is sent, and does not fit");
}

#[test]
fn http_in_the_clear_is_passed_on_so_that_it_can_be_answered() {
    let ca = authority();
    let current =
        Current::new(&materials(&[Issued::server(&ca, &["a.example"])]), Options::default()).unwrap();
    for start in ["GET / HTTP/1.1\r\n\r\n", "POST", "G", "PRI * HTTP/2.0\r\n"] {
        let (half, line) = half(0, usize::MAX);
        let mut session =
            Session::new(half, Arc::clone(&current.get().config), Scratch::new(), charge()).unwrap();
        line.borrow_mut().to_server.extend(start.as_bytes());
        assert_eq!(session.establish().unwrap(), Established::Clear);
        assert_eq!(session.establish().unwrap(), Established::Clear);
        assert!(session.is_established());
        line.borrow_mut().to_server.extend(b"more");
        let mut heard: Vec<u8> = Vec::new();
        let mut target = [0; 5];
        while let Ok(received) = session.receive(&mut target) {
            heard.extend(&target[..received.count]);
        }
        assert_eq!(heard, [start.as_bytes(), b"more"].concat());
        assert_eq!(session.send(b"HTTP/1.1 400").unwrap(), 12);
        session.flush().unwrap();
        session.conclude();
        session.finish();
        assert_eq!(line.borrow().to_client, b"HTTP/1.1 400", "no record is sent");
    }
}

#[test]
fn garbage_is_answered_by_an_alert_and_refused() {
    let ca = authority();
    let current =
        Current::new(&materials(&[Issued::server(&ca, &["a.example"])]), Options::default()).unwrap();
    for garbage in [
        &[0; 40][..],
        b"SSH-2.0-x\r\n",
        b"get / http",
        &[0x16, 3, 1, 0, 4, 1, 0, 0, 0],
        &[0x15, 3, 3, 0, 0, 0],
    ] {
        let (half, line) = half(0, usize::MAX);
        let mut session =
            Session::new(half, Arc::clone(&current.get().config), Scratch::new(), charge()).unwrap();
        line.borrow_mut().to_server.extend(garbage);
        let refused = session.establish().map_err(|error| error.kind());
        assert_eq!(refused, Err(io::ErrorKind::InvalidData), "{garbage:?}");
        let first = line.borrow().to_client.front().copied();
        assert_eq!(first, Some(0x15), "{garbage:?} is told by an alert");
        assert!(session.establish().is_err(), "it stays refused");
    }
}

#[test]
fn a_hello_that_does_not_end_is_not_kept() {
    let ca = authority();
    let current =
        Current::new(&materials(&[Issued::server(&ca, &["a.example"])]), Options::default()).unwrap();
    let (half, line) = half(0, usize::MAX);
    let mut session =
        Session::new(half, Arc::clone(&current.get().config), Scratch::new(), charge()).unwrap();
    // Records of 1 KiB of one ClientHello that is announced with 60,000 bytes.
    let mut hello = vec![1, 0, 0xEA, 0x60];
    let mut kinds = Vec::new();
    for _ in 0..40 {
        hello.resize(1_024, 0);
        line.borrow_mut().to_server.extend([&[0x16, 3, 1, 4, 0][..], &hello].concat());
        hello.clear();
        kinds.push(session.establish().map_err(|error| error.kind()).unwrap_err());
    }
    let whole = TLS_HANDSHAKE_MAX_BYTES / (1_024 + 5);
    assert!(kinds.iter().take(whole).all(|kind| *kind == io::ErrorKind::WouldBlock), "{kinds:?}");
    assert_eq!(kinds.get(whole), Some(&io::ErrorKind::InvalidData), "{kinds:?}");
}

#[test]
fn a_client_that_leaves_in_the_handshake_is_an_error() {
    let ca = authority();
    let current =
        Current::new(&materials(&[Issued::server(&ca, &["a.example"])]), Options::default()).unwrap();
    let mut pair = Pair::new(&current.get().config, &Client::default().config(&ca), "a.example", 0);
    pair.client_turn().unwrap();
    pair.line.borrow_mut().client_gone = true;
    let left = pair.server.establish().map_err(|error| error.kind());
    assert_eq!(left, Err(io::ErrorKind::UnexpectedEof));
}

#[test]
fn sessions_are_resumed_across_a_replacement_of_the_certificate() {
    let ca = authority();
    let current =
        Current::new(&materials(&[Issued::server(&ca, &["a.example"])]), Options::default()).unwrap();
    let client = Client::default().config(&ca);
    let visit = || {
        let mut pair = Pair::new(&current.get().config, &client, "a.example", 0);
        assert_eq!(pair.shake(), Ok(Established::Ready));
        pair.settle();
        pair.client.handshake_kind()
    };
    assert_eq!(visit(), Some(HandshakeKind::Full));
    assert_eq!(visit(), Some(HandshakeKind::Resumed));
    let before = current.get();
    let end = before.earliest_end();
    assert!(current.replace(&Materials::default()).is_err());
    assert!(Arc::ptr_eq(&before, &current.get()), "a failed replacement changes nothing");
    let old = Issued::expired(&ca, &["old.example"]);
    current.replace(&materials(&[Issued::server(&ca, &["a.example"]), old])).unwrap();
    let after = current.get();
    assert!(after.earliest_end() < end, "the first to end counts");
    let ends: Vec<_> =
        after.ends().map(|(name, end)| (name.map(ToString::to_string).unwrap_or_default(), end)).collect();
    let names: Vec<&str> = ends.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names, ends.len()), (vec!["a.example", "old.example"], 2));
    assert_eq!(ends[1].1, after.earliest_end().as_secs());
    assert_eq!(visit(), Some(HandshakeKind::Resumed));
}

#[test]
fn a_development_certificate_serves() {
    use crate::clock::WallTime;
    use crate::tls::{Material, self_signed};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    let made = self_signed::make(&["dev.example"], 30, WallTime::now()).unwrap();
    let material = Material::read(made.certificate.as_bytes(), made.key.as_pem().as_bytes(), None).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(material.certified().cert[0].clone()).unwrap();
    let current =
        Current::new(&Materials { pairs: vec![material], authorities: None }, Options::default()).unwrap();
    let client = ClientConfig::builder_with_provider(crate::tls::provider::provider());
    let client = client.with_protocol_versions(rustls::ALL_VERSIONS).unwrap();
    let client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
    for name in ["localhost", "127.0.0.1", "::1", "dev.example"] {
        assert!(ServerName::try_from(name).is_ok());
        assert_eq!(
            Pair::new(&current.get().config, &client, name, 0).shake(),
            Ok(Established::Ready),
            "{name}"
        );
    }
}
