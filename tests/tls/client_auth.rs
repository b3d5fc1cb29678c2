//! Mutual TLS: who is let in.

use crate::secured::{self, Authority, Issued, Secured, connect};
use crate::server::client::Request;

fn started(auth: &str) -> Option<(Secured, Authority)> {
    let clients = Authority::new();
    let pem = clients.pem.clone();
    let flags = ["--workers", "1", "--tls-client-auth", auth];
    let of = Secured::start_with(&flags, |_, folder| {
        let path = folder.join("clients.pem");
        std::fs::write(&path, pem).unwrap();
        vec!["--tls-client-ca".to_owned(), path.display().to_string()]
    })?;
    Some((of, clients))
}

/// Whether a client is served; with TLS 1.3 it learns only after its own handshake that it is not.
fn served(of: &Secured, own: Option<&Issued>) -> bool {
    use std::io::{Read as _, Write as _};
    let config = own.map_or_else(|| of.client(), |own| of.client_with(own));
    let Ok(mut stream) = connect(of.server.address(), &config, "localhost") else { return false };
    let request = Request::get("/api/health").with("Connection", "close").bytes();
    let mut reply = Vec::new();
    let asked = stream.write_all(&request).and_then(|()| stream.read_to_end(&mut reply));
    asked.is_ok() && reply.starts_with(b"HTTP/1.1 200 ")
}

#[test]
fn a_client_certificate_is_required_or_optional_and_a_bad_one_never_good() {
    let Some((required, clients)) = started("required") else { return };
    let (valid, ended) = (clients.client("svc.example"), clients.expired_client("svc.example"));
    let stranger = Authority::new().client("svc.example");
    // Good for a server is not good for a client.
    let server = clients.server(&["svc.example"]);
    for (own, expected) in [
        (None, false),
        (Some(&valid), true),
        (Some(&stranger), false),
        (Some(&ended), false),
        (Some(&server), false),
    ] {
        assert_eq!(served(&required, own), expected);
    }
    drop(required);
    let (optional, clients) = started("optional").unwrap();
    let (valid, ended) = (clients.client("svc.example"), clients.expired_client("svc.example"));
    for (own, expected) in
        [(None, true), (Some(&valid), true), (Some(&stranger), false), (Some(&ended), false)]
    {
        assert_eq!(served(&optional, own), expected);
    }
}

#[test]
fn a_certificate_stands_in_the_place_of_the_secret_of_an_api_key() {
    let Some((of, clients)) = started("optional") else { return };
    let body = r#"{"name":"svc","scopes":["keys.read"],"identities":["dns:svc.example"]}"#;
    let made = of.ask(&of.client(), Request::post("/api/auth/keys", body));
    assert!(made.starts_with("HTTP/1.1 201 "), "{made}");
    let list = |own: Option<&Issued>| {
        let config = own.map_or_else(|| of.client(), |own| of.client_with(own));
        secured::ask(&mut of.connect(&config), Request::get("/api/keys"))
    };
    let known = clients.client("svc.example");
    assert!(list(Some(&known)).starts_with("HTTP/1.1 200 "), "{}", list(Some(&known)));
    assert!(list(Some(&clients.client("other.example"))).starts_with("HTTP/1.1 401 "));
    assert!(list(None).starts_with("HTTP/1.1 401 "));
    // What is resumed is known as well.
    let config = of.client_with(&known);
    for _ in 0..2 {
        let mut stream = of.connect(&config);
        assert!(secured::ask(&mut stream, Request::get("/api/keys")).starts_with("HTTP/1.1 200 "));
    }
}

#[test]
fn without_authorities_no_certificate_is_asked_for() {
    let Some(of) = Secured::start(&["--workers", "1"]) else { return };
    let own = Authority::new().client("svc.example");
    assert!(served(&of, Some(&own)));
}
