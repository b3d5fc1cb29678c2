//! How a server is reached: addresses, sockets, TLS, and with which credential.

use std::fs;

use crate::caller::{Caller, Ran};
use crate::server::client::Request;
use crate::server::{Scratch, Server};

#[test]
fn a_credential_comes_from_a_file_or_a_variable_and_is_an_api_key_or_a_token() {
    let Some(caller) = Caller::new() else { return };
    let key = caller.server.key().to_owned();
    let whoami = |variables: &[(&str, &str)], flags: &[&str]| {
        let mut command = caller.stranger(&[&["whoami", "--json"], flags].concat());
        command.envs(variables.iter().copied());
        Ran::of(command)
    };
    let by = |ran: &Ran| ran.json()["recognised_by"].as_str().unwrap().to_owned();
    assert_eq!(by(&whoami(&[("QUANTONIUM_API_KEY", &key)], &[])), "api_key");
    assert_eq!(by(&whoami(&[("QUANTONIUM_API_KEY_FILE", "admin.key")], &[])), "api_key");
    // A flag is stronger than variables, and of these the key itself is.
    let wrong = ("QUANTONIUM_API_KEY_FILE", "missing");
    assert_eq!(by(&whoami(&[wrong], &["--api-key-file", "admin.key"])), "api_key");
    assert_eq!(by(&whoami(&[wrong, ("QUANTONIUM_API_KEY", &key)], &[])), "api_key");
    whoami(&[wrong], &[]).must_refuse(78, &["cannot read the API key in missing"]);

    let token = caller.run("token --expires-in 5m --out token");
    assert_eq!(token.must_be(0).out(), "");
    assert_eq!(by(&whoami(&[], &["--api-key-file", "token"])), "token");
    let token = String::from_utf8(caller.read("token")).unwrap();
    assert_eq!(by(&whoami(&[("QUANTONIUM_API_KEY", token.trim_end())], &[])), "token");

    whoami(&[], &[]).must_refuse(77, &["401 Unauthorized: ", "(credential_missing)", "--api-key-file"]);
    let other = format!("{}A", &key[..key.len() - 1]);
    let other = if other == key { format!("{}Q", &key[..key.len() - 1]) } else { other };
    let refused = whoami(&[("QUANTONIUM_API_KEY", &other)], &[]);
    refused.must_refuse(77, &["(credential_invalid)"]);
    assert!(!refused.err().contains(&other[12..]));
    let refused = whoami(&[("QUANTONIUM_API_KEY", "secret words")], &[]);
    refused.must_refuse(78, &["QUANTONIUM_API_KEY does not hold an API key"]);
    assert!(!refused.err().contains("secret"));
    caller.write("narrow", caller.run("token --scope hash").must_be(0).out());
    let narrow = caller.stranger(&["key", "list", "--api-key-file", "narrow"]);
    Ran::of(narrow).must_refuse(77, &["403 Forbidden: ", "(insufficient_scope)"]);
}

#[test]
fn a_server_is_asked_at_a_socket_of_this_machine() {
    let scratch = Scratch::new();
    let socket = scratch.path("q.sock");
    let listen = format!("127.0.0.1:0,unix:{}", socket.display());
    let Some(server) = Server::start_in(&scratch, &["--listen", &listen, "--unix-mode", "666"]) else {
        return;
    };
    let made = server.ask(Request::post("/api/keys", r#"{"name":"orders"}"#));
    assert_eq!(made.status, 201);
    let caller = Caller::of(server, format!("unix:{}", socket.display()));
    for (words, plaintext) in
        [("encrypt --key orders", &b"hello"[..]), ("encrypt --key orders --form stream", &[7; 300_000])]
    {
        let sealed = caller.run_with(words, plaintext);
        let opened = caller.run_with("decrypt --key orders", sealed.must_be(0).bytes());
        assert!(opened.must_be(0).bytes() == plaintext);
    }
    assert!(caller.run("health").must_be(0).out().starts_with("status: ok\n"));
    // Without an address the one that is configured here is asked.
    let mut command = caller.command(&["key", "list"]);
    command.env_remove("QUANTONIUM_URL").env("QUANTONIUM_LISTEN", &caller.url);
    assert_eq!(Ran::of(command).must_be(0).out(), "orders xchacha20-poly1305 v1\n");
}

#[test]
fn what_cannot_be_an_address_is_refused() {
    let Some(caller) = Caller::new() else { return };
    for (url, code, word) in [
        ("ftp://x", 78, "not a URL like http://127.0.0.1:8080"),
        ("http://127.0.0.1:1/?x", 78, "leave the query out"),
        ("unix:/missing.sock", 69, "unix:/missing.sock: "),
        ("http://127.0.0.1:1", 69, "refused the connection"),
        ("http://name.invalid", 69, "http://name.invalid/api/auth/profile"),
    ] {
        caller.run(&format!("whoami --url {url}")).must_refuse(code, &[word]);
    }
}

#[cfg(feature = "tls")]
#[test]
fn through_tls_the_authority_is_named_and_a_certificate_may_stand_for_the_secret() {
    use crate::secured::{Authority, Secured};
    let clients = Authority::new();
    let pem = clients.pem.clone();
    let flags = ["--tls-client-auth", "optional"];
    let Some(of) = Secured::start_with(&flags, |_, folder| {
        let path = folder.join("clients.pem");
        fs::write(&path, pem).unwrap();
        vec!["--tls-client-ca".to_owned(), path.display().to_string()]
    }) else {
        return;
    };
    let url = format!("https://localhost:{}", of.server.address().port());
    let caller = Caller::of(of.server, url);
    caller.write("ca.pem", &of.authority.pem);
    caller.write("other.pem", Authority::new().pem);
    clients.client("svc.example").write(&caller.folder, "svc");

    caller.run("key create orders --ca-cert ca.pem").must_be(0);
    let plaintext = vec![9; 5_000_000];
    let mut encrypt = caller.command(&["encrypt", "--key", "orders"]);
    encrypt.env("QUANTONIUM_CA_CERT", "ca.pem");
    let sealed = Ran::with(encrypt, &plaintext);
    assert!(sealed.must_be(0).bytes().starts_with(b"QNS\x01"));
    let opened = caller.run_with("decrypt --key orders --ca-cert ca.pem", sealed.bytes());
    assert!(opened.must_be(0).bytes() == plaintext);

    let made = caller.stranger(&["apikey", "create", "--name", "svc", "--scope", "encrypt:orders"]);
    let mut made = made;
    made.args(["--identity", "dns:svc.example", "--server", &caller.url, "--tls-ca", "ca.pem"]);
    made.args(["--api-key-file", "admin.key"]);
    Ran::of(made).must_be(0);
    let known = ["encrypt", "--key", "orders", "--ca-cert", "ca.pem", "--client-cert", "svc.pem"];
    let known = caller.stranger(&[&known[..], &["--client-key", "svc.key"]].concat());
    Ran::with(known, b"hello").must_be(0);

    caller.run("key list").must_refuse(78, &["whom to trust is not known", "--ca-cert"]);
    caller
        .run("key list --ca-cert other.pem")
        .must_refuse(69, &["https://localhost:", "invalid peer certificate"]);
    caller.run("key list --ca-cert missing.pem").must_refuse(78, &["missing.pem: "]);
    caller.run("key list --ca-cert ca.pem --client-cert svc.pem").must_refuse(78, &["give both"]);
    caller
        .run("key list --ca-cert ca.pem --client-cert ca.pem --client-key svc.key")
        .must_refuse(78, &["ca.pem"]);
}
