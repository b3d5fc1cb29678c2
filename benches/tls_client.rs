//! A TLS client for `scripts/bench-tls`: what it costs to serve it is measured, not what it costs itself.
//!
//! ```text
//! tls_client handshakes ADDRESS CERTIFICATE full|resumed x25519|hybrid COUNT
//! tls_client requests   ADDRESS CERTIFICATE PATH BODY|- CONNECTIONS ROUNDS
//! tls_client idle       ADDRESS CERTIFICATE COUNT...
//! ```
//!
//! CERTIFICATE is the server's own, in PEM; the key for the API comes from `BENCH_KEY`. `handshakes` and `requests` print
//! how many were done and the seconds they took. `idle` opens connections until there are so many as the next COUNT
//! says, each after one request, prints a line and waits for one.

use std::env;
use std::error::Error;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup, RootCertStore, StreamOwned};

type Outcome<T> = Result<T, Box<dyn Error>>;
type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Where to, and how.
struct Target {
    address: String,
    config: Arc<ClientConfig>,
}

impl Target {
    fn new(address: &str, certificate: &str, resume: bool, group: NamedGroup) -> Outcome<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate)?)?;
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups.retain(|known| known.name() == group);
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        if !resume {
            config.resumption = Resumption::disabled();
        }
        Ok(Self { address: address.to_owned(), config: Arc::new(config) })
    }

    fn connect(&self) -> Outcome<Stream> {
        let mut socket = TcpStream::connect(&self.address)?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let mut session = ClientConnection::new(Arc::clone(&self.config), name)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(session, socket))
    }
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["handshakes", address, certificate, kind, group, count] => {
            let group = if *group == "hybrid" { NamedGroup::X25519MLKEM768 } else { NamedGroup::X25519 };
            let resume = *kind == "resumed";
            handshakes(&Target::new(address, certificate, resume, group)?, resume, count.parse()?)
        }
        ["requests", address, certificate, path, body, connections, rounds] => {
            let body = if *body == "-" { None } else { Some(std::fs::read(body)?) };
            let target = Target::new(address, certificate, false, NamedGroup::X25519)?;
            requests(&target, &request(path, body.as_deref()), connections.parse()?, rounds.parse()?)
        }
        ["idle", address, certificate, counts @ ..] => {
            idle(&Target::new(address, certificate, false, NamedGroup::X25519)?, counts)
        }
        _ => Err("see the head of benches/tls_client.rs".into()),
    }
}

/// Connects and says goodbye; the peer's goodbye ends each, after its tickets.
fn handshakes(target: &Target, resume: bool, count: u64) -> Outcome<()> {
    let begin = Instant::now();
    // The first brings the ticket.
    for round in 0..=count {
        let mut stream = target.connect()?;
        let resumed = stream.conn.handshake_kind() == Some(HandshakeKind::Resumed);
        if resumed != (resume && round > 0) {
            return Err(format!("handshake {round}: resumed is {resumed}").into());
        }
        stream.conn.send_close_notify();
        stream.conn.complete_io(&mut stream.sock)?;
        // A server may end without a goodbye of its own.
        let mut rest = Vec::new();
        if let Err(error) = stream.read_to_end(&mut rest)
            && error.kind() != io::ErrorKind::UnexpectedEof
        {
            return Err(error.into());
        }
    }
    report(count + 1, begin)
}

fn requests(target: &Target, request: &[u8], connections: usize, rounds: u64) -> Outcome<()> {
    let mut open = Vec::with_capacity(connections);
    for _ in 0..connections {
        open.push(target.connect()?);
    }
    let begin = Instant::now();
    for _ in 0..rounds {
        for stream in &mut open {
            stream.write_all(request)?;
            stream.flush()?;
        }
        for stream in &mut open {
            answer(stream)?;
        }
    }
    report(rounds * u64::try_from(connections)?, begin)
}

fn idle(target: &Target, counts: &[&str]) -> Outcome<()> {
    let mut open = Vec::new();
    for count in counts {
        while open.len() < count.parse()? {
            let mut stream = target.connect()?;
            stream.write_all(&request("/api/health", None))?;
            stream.flush()?;
            answer(&mut stream)?;
            open.push(stream);
        }
        writeln!(io::stdout(), "open")?;
        io::stdin().lock().read_line(&mut String::new())?;
    }
    Ok(())
}

fn request(path: &str, body: Option<&[u8]>) -> Vec<u8> {
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {}\r\n",
        env::var("BENCH_KEY").unwrap_or_default()
    );
    if let Some(body) = body {
        text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    text += "\r\n";
    [text.as_bytes(), body.unwrap_or_default()].concat()
}

/// Reads one whole answer, which must be a success.
fn answer(stream: &mut Stream) -> Outcome<()> {
    let mut bytes = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let room = bytes.get_mut(length..).filter(|room| !room.is_empty()).ok_or("the answer is too long")?;
        match stream.read(room)? {
            0 => return Err("the server ended the connection".into()),
            more => length += more,
        }
        let read = bytes.get(..length).unwrap_or_default();
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = std::str::from_utf8(read.get(..end).unwrap_or_default())?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(head.to_owned().into());
        }
        let expected = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .ok_or("no content-length")?;
        if length >= end + 4 + expected.1.parse::<usize>()? {
            return Ok(());
        }
    }
}

fn report(count: u64, begin: Instant) -> Outcome<()> {
    Ok(writeln!(io::stdout(), "{count} {:.3}", begin.elapsed().as_secs_f64())?)
}
