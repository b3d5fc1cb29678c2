//! What is agreed on, and what is refused.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::{HandshakeKind, NamedGroup, ProtocolVersion};

use crate::secured::{self, Secured, ask, connect};
use crate::server::client::{Request, SILENCE};
use crate::server::skip;

/// What `openssl s_client` says; nothing where there is none.
fn s_client(of: &Secured, words: &[&str], input: &[u8]) -> Option<String> {
    let authority = of.folder.join("authority.pem");
    std::fs::write(&authority, &of.authority.pem).unwrap();
    let mut command = Command::new("openssl");
    let address = of.server.address().to_string();
    command.args(["s_client", "-connect", &address, "-CAfile"]).arg(&authority);
    command.args(["-verify_return_error", "-servername", "localhost"]).args(words);
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut child) = spawned else {
        skip("there is no openssl");
        return None;
    };
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

#[test]
fn only_tls_1_3_is_spoken_unless_1_2_is_asked_for() {
    let Some(new) = Secured::start(&["--workers", "1"]) else { return };
    let Some(old) = Secured::start(&["--workers", "1", "--tls-min-version", "1.2"]) else { return };
    let Some(text) = s_client(&new, &["-alpn", "h2,http/1.1"], b"") else { return };
    assert!(text.contains("Verification: OK"), "{text}");
    assert!(text.contains("New, TLSv1.3, Cipher is TLS_"), "{text}");
    assert!(text.contains("ALPN protocol: http/1.1"), "{text}");
    let text = s_client(&new, &["-tls1_2"], b"").unwrap();
    assert!(text.contains("alert protocol version"), "{text}");
    let text = s_client(&old, &["-tls1_2"], b"").unwrap();
    assert!(text.contains("New, TLSv1.2, Cipher is ECDHE-ECDSA-"), "{text}");
    assert!(text.contains("GCM") || text.contains("POLY1305"), "{text}");
    for words in [&["-tls1_1"][..], &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:AES128-GCM-SHA256"]] {
        let text = s_client(&old, words, b"").unwrap();
        assert!(text.contains("Cipher is (NONE)"), "{words:?}: {text}");
    }
    let text = s_client(&new, &["-alpn", "h2"], b"").unwrap();
    assert!(text.contains("alert no application protocol"), "{text}");
}

#[test]
fn sessions_are_resumed_by_openssl_and_python() {
    let Some(of) = Secured::start(&["--workers", "1", "--tls-min-version", "1.2"]) else { return };
    let Some(text) = s_client(&of, &["-tls1_2", "-reconnect"], b"") else { return };
    assert!(text.matches("Reused, TLSv1.2").count() >= 5, "{text}");
    let script = "import socket, ssl, sys\n\
        c = ssl.create_default_context(cafile=sys.argv[2])\n\
        def ask(session):\n\
        \x20   s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n\
        \x20   s = c.wrap_socket(s, server_hostname='localhost', session=session)\n\
        \x20   s.sendall(b'GET /api/health HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n')\n\
        \x20   text = b''\n\
        \x20   while True:\n\
        \x20       some = s.recv(65536)\n\
        \x20       if not some: break\n\
        \x20       text += some\n\
        \x20   print(s.version(), s.session_reused, text.split()[1].decode())\n\
        \x20   return s.session\n\
        ask(ask(None))\n";
    let authority = of.folder.join("authority.pem");
    let port = of.server.address().port().to_string();
    let output = Command::new("python3").args(["-c", script, &port]).arg(&authority).output();
    let Ok(output) = output else { return skip("there is no python3") };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(text, "TLSv1.3 False 200\nTLSv1.3 True 200\n", "{output:?}");
}

#[test]
fn the_key_exchange_is_hybrid_with_ml_kem_where_the_client_can_do_it() {
    let Some(of) = Secured::start(&["--workers", "1"]) else { return };
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![kx_group::X25519MLKEM768];
    let hybrid = secured::config(&of.authority, None, provider.clone());
    provider.kx_groups = vec![kx_group::X25519, kx_group::X25519MLKEM768];
    let offers_both = secured::config(&of.authority, None, provider.clone());
    provider.kx_groups = vec![kx_group::X25519];
    let classic = secured::config(&of.authority, None, provider);
    let group = |config| {
        let mut stream = of.connect(config);
        assert_eq!(stream.conn.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        assert!(ask(&mut stream, Request::get("/api/health")).starts_with("HTTP/1.1 200 "));
        stream.conn.negotiated_key_exchange_group().map(SupportedKxGroup::name)
    };
    assert_eq!(group(&hybrid), Some(NamedGroup::X25519MLKEM768));
    assert_eq!(group(&classic), Some(NamedGroup::X25519));
    assert!(group(&offers_both).is_some());
    // The same client comes back: what it was given is taken.
    assert_eq!(of.connect(&hybrid).conn.handshake_kind(), Some(HandshakeKind::Resumed));
}

/// What the page of metrics says of handshakes that were finished.
fn handshakes(of: &Secured) -> BTreeMap<String, u64> {
    let request = Request::get("/api/metrics").key(of.server.key());
    let page = of.server.connect_to(1).call(&request);
    assert_eq!(page.status, 200, "{page:?}");
    let rows = page.text().lines().filter_map(|line| line.strip_prefix("quantonium_tls_handshakes_total{"));
    let rows = rows.map(|row| row.split_once("} ").unwrap());
    rows.map(|(labels, count)| (labels.to_owned(), count.parse().unwrap())).collect()
}

#[test]
fn each_handshake_is_counted_as_what_the_client_has_seen_of_it() {
    let flags = [
        "--workers",
        "2",
        "--tls-min-version",
        "1.2",
        "--listen",
        "https://127.0.0.1:0",
        "--listen",
        "http://127.0.0.1:0",
    ];
    let Some(of) = Secured::start(&flags) else { return };
    let mut expected = handshakes(&of);
    let groups = [kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
    let mut configs: Vec<_> = groups
        .into_iter()
        .map(|group| {
            let mut provider = aws_lc_rs::default_provider();
            provider.kx_groups = vec![group];
            secured::config(&of.authority, None, provider)
        })
        .collect();
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![kx_group::X25519];
    configs.push(secured::config_of(&of.authority, provider, &[&rustls::version::TLS12]));
    let mut resumed = 0;
    // Of each client the first one makes a session, and those behind it may come back to that.
    for config in configs.iter().flat_map(|config| [config; 3]) {
        let mut stream = of.connect(config);
        // Its answer comes after the server has finished the handshake, too.
        let reply = ask(&mut stream, Request::get("/api/health"));
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
        let version = match stream.conn.protocol_version().unwrap() {
            ProtocolVersion::TLSv1_3 => "1.3",
            _ => "1.2",
        };
        let is_resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
        resumed += u32::from(is_resumed);
        let group = stream.conn.negotiated_key_exchange_group().map(SupportedKxGroup::name);
        let group =
            group.and_then(|group| group.as_str().map(str::to_owned)).unwrap_or_else(|| "other".to_owned());
        let labels = format!("version=\"{version}\",group=\"{group}\",resumed=\"{is_resumed}\"");
        *expected.entry(labels).or_default() += 1;
        assert_eq!(handshakes(&of), expected);
    }
    assert!(resumed > 0 && expected.len() > configs.len(), "{expected:?}");
    assert_eq!(of.server.stop().code, Some(0));
}

#[test]
fn a_certificate_is_chosen_by_the_name_that_is_asked_for() {
    let more = |authority: &secured::Authority, folder: &std::path::Path| {
        let (chain, key) = authority.server(&["other.example", "*.wide.example"]).write(folder, "other");
        vec!["--tls-cert".into(), chain.display().to_string(), "--tls-key".into(), key.display().to_string()]
    };
    let Some(of) = Secured::start_with(&["--workers", "1"], more) else { return };
    for name in ["localhost", "other.example", "a.wide.example"] {
        connect(of.server.address(), &of.client(), name).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    // Nothing has this name: the client sees the first certificate, and refuses it.
    connect(of.server.address(), &of.client(), "b.example").unwrap_err();
}

#[test]
fn http_in_the_clear_gets_one_readable_400() {
    let Some(of) = Secured::start(&["--workers", "1"]) else { return };
    let mut stream = TcpStream::connect(of.server.address()).unwrap();
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    stream.write_all(b"GET /api/health HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 400 ") && reply.contains("\"tls_required\""), "{reply}");
    assert_eq!(reply.matches("HTTP/1.1").count(), 1);
    // What is neither gets nothing that could be taken for an answer.
    for junk in [&b"\x00\x01\x02\x03\x04\x05"[..], b"\x16\x03\x01\xff\xff\x01"] {
        let mut stream = TcpStream::connect(of.server.address()).unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        stream.write_all(junk).unwrap();
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        assert!(!reply.starts_with(b"HTTP"), "{reply:?}");
    }
}

#[test]
fn silent_and_slow_handshakes_end_while_others_are_served() {
    let Some(of) = Secured::start(&["--workers", "1", "--handshake-timeout-ms", "8000"]) else { return };
    let silent = TcpStream::connect(of.server.address()).unwrap();
    let mut slow = TcpStream::connect(of.server.address()).unwrap();
    slow.write_all(&[0x16, 3, 1]).unwrap();
    for _ in 0..3 {
        let reply = of.ask(&of.client(), Request::get("/api/health"));
        assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    }
    for mut stream in [silent, slow] {
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        // The end, or a reset; not a silence.
        if let Err(error) = stream.read(&mut [0; 64]) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    let config = of.client();
    // A connection that has shaken hands is measured by the idle time.
    let mut idle = of.connect(&config);
    let _ = ask(&mut of.connect(&config), Request::get("/api/health"));
    assert!(ask(&mut idle, Request::get("/api/health")).starts_with("HTTP/1.1 200 "));
    drop(Arc::clone(&config));
}
