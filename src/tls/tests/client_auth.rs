//! Certificates of clients.

use std::sync::Arc;

use rustls::{ClientConfig, HandshakeKind};

use crate::reactor::{Established, Transport as _};
use crate::tls::material::Authorities;
use crate::tls::tests::certificates::{Authority, Issued, authority};
use crate::tls::tests::wire::{Client, Pair};
use crate::tls::{ClientAuth, Current, Materials, MinVersion, Options};

fn materials(ca: &Authority, signs_clients: &Authority) -> Materials {
    let authorities = Authorities::read(signs_clients.certificate.pem().as_bytes()).unwrap();
    Materials { pairs: vec![Issued::server(ca, &["a.example"]).material()], authorities: Some(authorities) }
}

fn current(ca: &Authority, signs_clients: &Authority, client_auth: ClientAuth) -> Current {
    let options = Options { client_auth, min_version: MinVersion::Tls12 };
    Current::new(&materials(ca, signs_clients), options).unwrap()
}

/// Which identities the session sees, and how it came about.
fn visit(current: &Current, client: &Arc<ClientConfig>) -> Result<(Vec<String>, HandshakeKind), String> {
    let mut pair = Pair::new(&current.get().config, client, "a.example", 0);
    assert_eq!(pair.shake()?, Established::Ready);
    pair.settle();
    let identities = pair.server.identities();
    let texts = identities.iter().flat_map(|all| all.iter()).map(ToString::to_string).collect();
    Ok((texts, pair.client.handshake_kind().unwrap()))
}

const EXPECTED: [&str; 3] = ["dns:svc.example", "uri:spiffe://example/svc", "email:a@b.example"];

fn good(signs_clients: &Authority) -> Issued {
    Issued::client(signs_clients, &["svc.example"], &["spiffe://example/svc"], &["a@b.example"])
}

#[test]
fn a_required_certificate_must_be_there_and_be_signed_by_the_authority() {
    let (ca, clients, strangers) = (authority(), authority(), authority());
    let current = current(&ca, &clients, ClientAuth::Required);
    let (known, unknown) = (good(&clients), good(&strangers));
    for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
        let config = |shows| Client { versions, shows, ..Client::default() }.config(&ca);
        assert_eq!(visit(&current, &config(Some(&known))).unwrap().0, EXPECTED);
        let without = visit(&current, &config(None)).unwrap_err();
        assert!(without.contains("CertificateRequired") || without.contains("HandshakeFailure"), "{without}");
        let strange = visit(&current, &config(Some(&unknown))).unwrap_err();
        assert!(strange.contains("InvalidCertificate"), "{strange}");
    }
    let server = Issued::server(&clients, &["svc.example"]);
    let misused = visit(&current, &Client { shows: Some(&server), ..Client::default() }.config(&ca));
    assert!(misused.is_err(), "a certificate of a server is none of a client");
}

#[test]
fn an_optional_certificate_may_be_missing_but_not_bad() {
    let (ca, clients, strangers) = (authority(), authority(), authority());
    let current = current(&ca, &clients, ClientAuth::Optional);
    let (known, unknown) = (good(&clients), good(&strangers));
    let config = |shows| Client { shows, ..Client::default() }.config(&ca);
    assert_eq!(visit(&current, &config(Some(&known))).unwrap().0, EXPECTED);
    assert_eq!(visit(&current, &config(None)).unwrap().0, [""; 0]);
    assert!(visit(&current, &config(Some(&unknown))).is_err());
}

#[test]
fn a_resumed_session_keeps_its_identities() {
    let (ca, clients) = (authority(), authority());
    let shown = good(&clients);
    for client_auth in [ClientAuth::Required, ClientAuth::Optional] {
        let current = current(&ca, &clients, client_auth);
        for versions in [&[&rustls::version::TLS13][..], &[&rustls::version::TLS12]] {
            let client = Client { versions, shows: Some(&shown), ..Client::default() }.config(&ca);
            let (texts, kind) = visit(&current, &client).unwrap();
            assert_eq!((texts, kind), (EXPECTED.map(str::to_owned).to_vec(), HandshakeKind::Full));
            let (texts, kind) = visit(&current, &client).unwrap();
            assert_eq!((texts, kind), (EXPECTED.map(str::to_owned).to_vec(), HandshakeKind::Resumed));
        }
    }
}

#[test]
fn a_change_of_authority_ends_the_tickets_made_under_the_old_one() {
    let (ca, clients, others) = (authority(), authority(), authority());
    let shown = good(&clients);
    let current = current(&ca, &clients, ClientAuth::Required);
    let client = Client { shows: Some(&shown), ..Client::default() }.config(&ca);
    visit(&current, &client).unwrap();
    current.replace(&materials(&ca, &clients)).unwrap();
    assert_eq!(visit(&current, &client).unwrap().1, HandshakeKind::Resumed);
    current.replace(&materials(&ca, &others)).unwrap();
    assert!(visit(&current, &client).is_err(), "what the old authority vouched for is worth nothing");
}
