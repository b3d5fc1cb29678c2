//! Many clients of whom nothing is known: they take places, descriptors and memory, and others are served.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use quantonium::limits;
use rustls::ClientConnection;

use crate::secured::{Authority, Secured, Stream, ask, connect, make_readable};
use crate::server::client::{Request, SILENCE, comes_true};
use crate::server::{Scratch, Server, binary, skip};

/// The first byte of a record.
const FIRST_BYTE: &[u8] = &[0x16];
/// What the process may map, in KiB.
const SPACE_KIB: u64 = 64 * 1024;

/// Whether the server has ended a connection, whatever it said before.
fn has_ended(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    loop {
        match stream.read(&mut [0; 4_096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

fn saying(of: &Secured, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(of.server.address()).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// A connection with a handshake that was answered and goes no further.
fn begun(of: &Secured) -> TcpStream {
    let mut client = ClientConnection::new(of.client(), "localhost".try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    let mut stream = saying(of, &hello);
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    stream
}

fn health(of: &Secured) -> bool {
    let reply = connect(of.server.address(), &of.client(), "localhost");
    reply.is_ok_and(|mut stream| ask(&mut stream, Request::get("/api/health")).starts_with("HTTP/1.1 200 "))
}

#[test]
fn who_says_nothing_makes_room_for_who_shakes_hands_the_oldest_first() {
    const PLACES: usize = 8;
    let places = PLACES.to_string();
    let flags = ["--workers", "1", "--max-handshakes", &places, "--max-handshakes-per-address", "0"];
    let Some(of) = Secured::start(&[&flags[..], &["--handshake-timeout-ms", "600000"]].concat()) else {
        return;
    };
    let mut slow: Vec<TcpStream> = (0..2).map(|_| begun(&of)).collect();
    // A byte of a hello is no more than none.
    let as_good_as_silent =
        |number: usize| saying(&of, if number.is_multiple_of(2) { FIRST_BYTE } else { &[] });
    let mut silent: Vec<TcpStream> = (2..PLACES).map(as_good_as_silent).collect();
    for ended in 1..4 {
        // Every place is taken, and the queue of a worker is served in its order.
        assert!(health(&of), "a client that shakes hands finds no place");
        let states: Vec<bool> = silent.iter_mut().map(has_ended).collect();
        let expected: Vec<bool> = (0..silent.len()).map(|at| at < ended).collect();
        assert_eq!(states, expected, "the oldest, and no more than are needed");
        silent.push(as_good_as_silent(ended));
    }
    assert!(!slow.iter_mut().any(has_ended), "who has begun is not the first to go");
    let ended = of.server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stderr.contains("there were too many TLS handshakes"), "{}", ended.stderr);
}

#[test]
fn one_address_displaces_nobody_beyond_its_own_handshakes() {
    let flags = ["--workers", "1", "--max-handshakes", "2", "--max-handshakes-per-address", "2"];
    let Some(of) = Secured::start(&[&flags[..], &["--handshake-timeout-ms", "600000"]].concat()) else {
        return;
    };
    let mut held: Vec<TcpStream> = (0..2).map(|_| saying(&of, &[])).collect();
    assert!(!health(&of), "this address has as many as it may have");
    assert!(!held.iter_mut().any(has_ended));
}

#[test]
fn handshakes_that_take_long_make_room_when_nobody_is_silent() {
    let flags = ["--workers", "1", "--max-handshakes", "4", "--max-handshakes-per-address", "0"];
    let Some(of) = Secured::start(&[&flags[..], &["--handshake-timeout-ms", "600000"]].concat()) else {
        return;
    };
    let mut slow: Vec<TcpStream> = (0..4).map(|_| begun(&of)).collect();
    // Not at once: who has come a moment ago may still be on his way.
    assert!(comes_true(|| health(&of)), "slow handshakes keep everybody out");
    assert_eq!(slow.iter_mut().filter_map(|stream| has_ended(stream).then_some(())).count(), 1);
    assert!(has_ended(&mut slow[0]), "the oldest");
}

#[test]
fn a_client_for_which_there_is_no_descriptor_is_ended_and_the_server_goes_on() {
    let Some(of) = Secured::start(&["--workers", "1"]) else { return };
    let config = of.client();
    let mut inside = of.connect(&config);
    inside.write_all(&Request::get("/api/health").bytes()).unwrap();
    assert!(crate::secured::read_reply(&mut inside).0.starts_with("HTTP/1.1 200 "));
    // The one of the reserve, that of this client, and no more.
    let count = u64::try_from(limits::FD_CONNECTION_FIRST_NUMBER).unwrap() + 2;
    if !of.server.limit_descriptors(count) {
        return skip("it needs prlimit and setpriv, to take descriptors away from a process that runs");
    }
    for _ in 0..50 {
        // Nothing can be said before a handshake.
        connect(of.server.address(), &config, "localhost").unwrap_err();
    }
    inside.write_all(&Request::get("/api/health").bytes()).unwrap();
    let reply = crate::secured::read_reply(&mut inside).0;
    assert!(reply.starts_with("HTTP/1.1 200 "), "who is in is served on: {reply}");
    assert!(of.server.limit_descriptors(limits::DESCRIPTORS_FLOOR_COUNT));
    assert!(comes_true(|| health(&of)), "nobody is served although there are descriptors again");
    let ended = of.server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let told = ended.stderr.matches("no descriptor or no memory").count();
    assert!((1..100).contains(&told), "told, and bounded: {}", ended.stderr);
}

/// A server that may take little memory, with places for everybody.
fn cramped() -> Option<Secured> {
    let binary = binary()?;
    let scratch = Scratch::new();
    let folder = scratch.path("tls");
    fs::create_dir(&folder).unwrap();
    let authority = Authority::new();
    let (chain, key) = authority.server(&["localhost"]).write(&folder, "cert");
    make_readable(&folder);
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -v {SPACE_KIB} && exec \"$0\" \"$@\"")).arg(binary);
    command.args(["serve", "--dev", "--listen", "127.0.0.1:0", "--workers", "2", "--data-dir"]);
    command.arg(scratch.data_dir()).arg("--tls-cert").arg(chain).arg("--tls-key").arg(key);
    command.args(["--max-connections", "3000", "--max-connections-per-address", "0"]);
    command.args(["--max-handshakes", "300", "--max-handshakes-per-address", "0"]).env_clear();
    for limit in ["handshake", "head", "idle", "write"] {
        command.args([&format!("--{limit}-timeout-ms"), "20000"]);
    }
    let server = Server::spawn(command, &scratch, 1);
    Some(Secured { server, authority, folder })
}

/// A hello that is longer than any, as far as it is taken.
fn long_hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..30 {
        let content = if number == 0 { vec![1, 0, 0xEA, 0x60] } else { Vec::new() };
        bytes.extend([0x16, 3, 1, 4, 0]);
        bytes.extend(content.iter().copied().chain(std::iter::repeat(0)).take(1_024));
    }
    bytes
}

#[test]
fn what_strangers_make_sessions_keep_is_bounded_in_little_memory() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((0, 0));
    if hard < 8_192 || setrlimit(Resource::RLIMIT_NOFILE, soft.max(4_096), hard).is_err() {
        return skip("it needs more descriptors than this process may have");
    }
    let Some(mut of) = cramped() else { return };
    let config = of.client();
    let mut good = of.connect(&config);
    let mut held: Vec<TcpStream> = (0..250).map(|_| saying(&of, &long_hello())).collect();
    let mut sessions: Vec<Stream> = Vec::new();
    for number in 0..600 {
        let mut stream = of.connect(&config);
        if number % 3 == 0 {
            // Replies that it never reads.
            let _ = stream.write_all(&Request::get("/api/health/live").bytes().repeat(2_000));
        } else {
            // Most of the largest record.
            stream.conn.writer().write_all(&[b'a'; 16_384]).unwrap();
            let mut record = Vec::new();
            while stream.conn.wants_write() {
                stream.conn.write_tls(&mut record).unwrap();
            }
            let _ = stream.sock.write_all(&record[..16_000]);
        }
        sessions.push(stream);
        if number % 20 == 0 {
            assert!(health(&of), "a new client is not served beside {number} sessions");
            // Nor does it rest for longer than it may, however long all of this takes.
            good.write_all(&Request::get("/api/health").bytes()).unwrap();
            assert!(crate::secured::read_reply(&mut good).0.starts_with("HTTP/1.1 200 "));
        }
    }
    let ended = held.iter_mut().filter_map(|stream| has_ended(stream).then_some(())).count();
    // Those that read nothing are left to that.
    let begun = sessions.iter_mut().enumerate().filter(|(number, _)| number % 3 != 0);
    let cut = begun.filter_map(|(_, stream)| has_ended(&mut stream.sock).then_some(())).count();
    assert!(ended + cut > 0, "all of it would be more than there is");
    assert!(of.server.is_alive());
    drop((held, sessions));
    assert!(comes_true(|| health(&of)));
    let left = of.server.stop();
    assert_eq!(left.code, Some(0), "{}", left.stderr);
    assert!(left.stderr.contains("memory allows"), "{}", left.stderr);
    assert!(!left.stderr.contains("ERROR") && !left.stderr.contains("panic"), "{}", left.stderr);
}

/// A request as the one record that it is on the wire.
fn record(of: &mut Stream, request: &Request) -> Vec<u8> {
    of.conn.writer().write_all(&request.bytes()).unwrap();
    let mut bytes = Vec::new();
    while of.conn.wants_write() {
        of.conn.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Sends the pieces one by one: the server has read each before the next one comes, since it has answered another client meanwhile.
fn send_apart(to: &mut Stream, pieces: &[&[u8]], witness: &mut Stream) {
    for piece in pieces {
        // A server that has closed need not take it.
        let _ = to.sock.write_all(piece);
        witness.write_all(&Request::get("/api/health/live").bytes()).unwrap();
        assert!(crate::secured::read_reply(witness).0.starts_with("HTTP/1.1 200 "));
    }
}

/// Whether a whole reply comes that says 200.
fn is_served(stream: &mut Stream) -> bool {
    let mut begin = [0; 1];
    stream.read_exact(&mut begin).is_ok() && crate::secured::read_reply(stream).0.starts_with("TTP/1.1 200 ")
}

#[test]
fn strangers_in_the_middle_of_records_keep_no_known_client_and_no_new_one_from_being_served() {
    // Their part holds 51 of them, and all that sessions could hold before they had one of their own, 102.
    const STRANGERS: usize = 200;
    let kept =
        limits::LEASE_BUDGET_FLOOR_BYTES / limits::LEASE_BESIDE_SHARE_COUNT / limits::TLS_RECORD_KEPT_BYTES;
    let flags = [
        "--workers",
        "1",
        "--max-memory",
        "8MiB",
        "--max-connections",
        "1000",
        "--head-timeout-ms",
        "600000",
    ];
    let more = ["--max-connections-per-address", "0", "--max-handshakes-per-address", "0"];
    let Some(of) = Secured::start(&[&flags[..], &more].concat()) else { return };
    let config = of.client();
    let made = of.ask(&config, Request::post("/api/keys", "{\"name\":\"orders\"}"));
    assert!(made.starts_with("HTTP/1.1 201 "), "{made}");
    let body = format!("{{\"key\":\"orders\",\"plaintext\":\"{}\"}}", "aGVs".repeat(2_000));
    let seal = Request::post("/api/encrypt", body).key(of.server.key());
    let mut witness = of.connect(&config);
    let mut known = of.connect(&config);
    known.write_all(&seal.bytes()).unwrap();
    assert!(crate::secured::read_reply(&mut known).0.starts_with("HTTP/1.1 200 "));
    // It has been in the middle of a record for longer than any of them.
    let first = record(&mut known, &seal);
    send_apart(&mut known, &[&first[..2_000]], &mut witness);
    let attack = |count: usize| -> Vec<Stream> {
        let begun = |_| {
            let mut stream = of.connect(&config);
            let whole = record(&mut stream, &seal);
            stream.sock.write_all(&whole[..20]).unwrap();
            stream
        };
        (0..count).map(begun).collect()
    };
    let mut strangers = attack(STRANGERS);
    send_apart(&mut known, &[&first[2_000..]], &mut witness);
    assert!(is_served(&mut known), "a known client gives way to strangers");
    drop(known);
    let mut known = of.connect(&config);
    for number in 0..8 {
        for is_new in [true, false] {
            let mut new = is_new.then(|| of.connect(&config));
            let stream = new.as_mut().unwrap_or(&mut known);
            let whole = record(stream, &seal);
            let pieces: Vec<&[u8]> = whole.chunks(whole.len().div_ceil(4)).collect();
            send_apart(stream, &pieces, &mut witness);
            assert!(is_served(stream), "request {number}, on a new connection: {is_new}");
        }
        strangers.extend(attack(10));
    }
    // The last of them were heard too.
    send_apart(&mut known, &[&[]], &mut witness);
    let left = strangers.iter_mut().filter_map(|stream| (!has_ended(&mut stream.sock)).then_some(())).count();
    assert!(left <= kept && left + 1 >= kept, "{left} are left of those that have room, {kept}");
    let ended = of.server.stop();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // That a tracer is there is told as what it is.
    let mut told = ended.stderr.lines().filter(|line| !line.contains("integrity: tracer: "));
    assert!(!told.any(|line| line.contains("ERROR") || line.contains("panic")), "{}", ended.stderr);
}
